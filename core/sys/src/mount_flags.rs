//! The flags of a mount, in the four spellings that the kernel has for them.

use std::fmt;

use nix::mount::MsFlags;

/// `MOUNT_ATTR__ATIME`: the field of a mount's flags that holds its access-time mode.
const ATIME_FIELD: u64 = 0x70;

/// One row: our bit (`MOUNT_ATTR_*`), the name that users write, `MS_*`, and `ST_*` of statfs.
const TABLE: &[(MountFlags, &str, MsFlags, u64)] = &[
    (MountFlags::RO, "ro", MsFlags::MS_RDONLY, libc::ST_RDONLY),
    (MountFlags::NOSUID, "nosuid", MsFlags::MS_NOSUID, libc::ST_NOSUID),
    (MountFlags::NODEV, "nodev", MsFlags::MS_NODEV, libc::ST_NODEV),
    (MountFlags::NOEXEC, "noexec", MsFlags::MS_NOEXEC, libc::ST_NOEXEC),
    (MountFlags::NOATIME, "noatime", MsFlags::MS_NOATIME, libc::ST_NOATIME),
    // MS_NOSYMFOLLOW and ST_NOSYMFOLLOW (5.10) are in neither libc nor nix for this target.
    (MountFlags::NOSYMFOLLOW, "nosymfollow", MsFlags::from_bits_retain(0x100), 0x2000),
];

/// A set of mount flags; the bits are those of mount_setattr(2).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct MountFlags(u64);

impl MountFlags {
    /// No flag.
    pub const NONE: Self = Self(0);
    /// Read-only.
    pub const RO: Self = Self(0x1);
    /// Set-user-ID bits and file capabilities have no effect.
    pub const NOSUID: Self = Self(0x2);
    /// Device nodes cannot be opened.
    pub const NODEV: Self = Self(0x4);
    /// Nothing can be executed.
    pub const NOEXEC: Self = Self(0x8);
    /// Reading does not change access times.
    pub const NOATIME: Self = Self(0x10);
    /// Symbolic links are not followed. Since: 5.10, through mount_setattr 5.14.
    pub const NOSYMFOLLOW: Self = Self(0x0020_0000);

    /// Finds a flag by the name that mount(8) gives it.
    #[must_use]
    pub fn from_name(name: &str) -> Option<Self> {
        TABLE.iter().find(|row| row.1 == name).map(|row| row.0)
    }

    /// Translates the flags that statfs gives.
    #[must_use]
    pub fn from_statfs(flags: u64) -> Self {
        TABLE.iter().filter(|row| flags & row.3 != 0).fold(Self::NONE, |all, row| all.with(row.0))
    }

    /// Gives the bits.
    #[must_use]
    pub const fn bits(self) -> u64 {
        self.0
    }

    /// Says whether no flag is set.
    #[must_use]
    pub const fn is_empty(self) -> bool {
        self.0 == 0
    }

    /// Says whether all of `other` are set.
    #[must_use]
    pub const fn contains(self, other: Self) -> bool {
        self.0 & other.0 == other.0
    }

    /// Adds flags.
    #[must_use]
    pub const fn with(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }

    /// Removes flags.
    #[must_use]
    pub const fn without(self, other: Self) -> Self {
        Self(self.0 & !other.0)
    }

    /// Lists the names.
    pub fn names(self) -> impl Iterator<Item = &'static str> {
        TABLE.iter().filter(move |row| self.contains(row.0)).map(|row| row.1)
    }

    /// Translates to the flags of mount(2).
    pub(crate) fn as_ms(self) -> MsFlags {
        TABLE.iter().filter(|row| self.contains(row.0)).fold(MsFlags::empty(), |all, row| all | row.2)
    }
}

impl std::ops::BitOr for MountFlags {
    type Output = Self;

    fn bitor(self, other: Self) -> Self {
        self.with(other)
    }
}

impl fmt::Display for MountFlags {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let names: Vec<_> = self.names().collect();
        f.write_str(&names.join(","))
    }
}

/// How mount events travel between this mount and its peers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Propagation {
    /// Neither gives nor takes.
    Private,
    /// Takes from its master, gives nothing back.
    Slave,
    /// Gives and takes.
    Shared,
    /// Private, and cannot be bound.
    Unbindable,
}

impl Propagation {
    pub(crate) fn bits(self) -> u64 {
        match self {
            Self::Private => libc::MS_PRIVATE,
            Self::Slave => libc::MS_SLAVE,
            Self::Shared => libc::MS_SHARED,
            Self::Unbindable => libc::MS_UNBINDABLE,
        }
    }
}

/// A change to a mount.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct MountAttr {
    /// Flags to set.
    pub set: MountFlags,
    /// Flags to clear.
    pub clear: MountFlags,
    /// Propagation to give it, if any.
    pub propagation: Option<Propagation>,
}

impl MountAttr {
    /// Makes a change that only sets flags.
    #[must_use]
    pub fn set(flags: MountFlags) -> Self {
        Self { set: flags, ..Self::default() }
    }

    /// Gives the words `attr_set` and `attr_clr`.
    ///
    /// The access-time mode is a field, not a bit: the kernel wants it cleared whole before it is set.
    pub(crate) fn words(self) -> (u64, u64) {
        let touched = (self.set.0 | self.clear.0) & ATIME_FIELD != 0;
        (self.set.0, if touched { self.clear.0 | ATIME_FIELD } else { self.clear.0 })
    }
}

impl fmt::Display for MountAttr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "set: [{}], clear: [{}]", self.set, self.clear)?;
        match self.propagation {
            Some(propagation) => write!(f, ", propagation: {propagation:?}"),
            None => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_go_both_ways() {
        for (flag, name, ..) in TABLE {
            assert_eq!(MountFlags::from_name(name), Some(*flag));
            assert_eq!(flag.to_string(), *name);
        }
        assert_eq!((MountFlags::RO | MountFlags::NODEV).to_string(), "ro,nodev");
        assert_eq!(MountFlags::from_name("rw"), None);
    }

    #[test]
    fn the_access_time_field_is_cleared_whole() {
        assert_eq!(MountAttr::set(MountFlags::NOATIME).words(), (0x10, 0x70));
        assert_eq!(MountAttr::set(MountFlags::RO).words(), (0x1, 0));
    }

    #[test]
    fn statfs_flags_translate() {
        let flags = MountFlags::from_statfs(libc::ST_RDONLY | libc::ST_NOSUID | 0x2000);
        assert_eq!(flags, MountFlags::RO | MountFlags::NOSUID | MountFlags::NOSYMFOLLOW);
    }
}
