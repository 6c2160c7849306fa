//! Capabilities: the names, the sets, and the calls that change them. capabilities(7).

use std::fmt;

use nix::errno::Errno;

use crate::error::{OrCall, Result};
use crate::raw;

/// `_LINUX_CAPABILITY_VERSION_3`.
const VERSION_3: u32 = 0x2008_0522;

/// The names, by number; the number is the index.
pub const NAMES: [&str; 41] = [
    "CAP_CHOWN",
    "CAP_DAC_OVERRIDE",
    "CAP_DAC_READ_SEARCH",
    "CAP_FOWNER",
    "CAP_FSETID",
    "CAP_KILL",
    "CAP_SETGID",
    "CAP_SETUID",
    "CAP_SETPCAP",
    "CAP_LINUX_IMMUTABLE",
    "CAP_NET_BIND_SERVICE",
    "CAP_NET_BROADCAST",
    "CAP_NET_ADMIN",
    "CAP_NET_RAW",
    "CAP_IPC_LOCK",
    "CAP_IPC_OWNER",
    "CAP_SYS_MODULE",
    "CAP_SYS_RAWIO",
    "CAP_SYS_CHROOT",
    "CAP_SYS_PTRACE",
    "CAP_SYS_PACCT",
    "CAP_SYS_ADMIN",
    "CAP_SYS_BOOT",
    "CAP_SYS_NICE",
    "CAP_SYS_RESOURCE",
    "CAP_SYS_TIME",
    "CAP_SYS_TTY_CONFIG",
    "CAP_MKNOD",
    "CAP_LEASE",
    "CAP_AUDIT_WRITE",
    "CAP_AUDIT_CONTROL",
    "CAP_SETFCAP",
    "CAP_MAC_OVERRIDE",
    "CAP_MAC_ADMIN",
    "CAP_SYSLOG",
    "CAP_WAKE_ALARM",
    "CAP_BLOCK_SUSPEND",
    "CAP_AUDIT_READ",
    "CAP_PERFMON",
    "CAP_BPF",
    "CAP_CHECKPOINT_RESTORE",
];

/// Gives the name of a capability.
#[must_use]
pub fn name(cap: u8) -> Option<&'static str> {
    NAMES.get(usize::from(cap)).copied()
}

/// Finds a capability by its name, with or without `CAP_`, in any case.
#[must_use]
pub fn number(name: &str) -> Option<u8> {
    let upper = name.to_ascii_uppercase();
    let bare = upper.strip_prefix("CAP_").unwrap_or(&upper);
    let at = NAMES.iter().position(|known| known.strip_prefix("CAP_") == Some(bare))?;
    u8::try_from(at).ok()
}

/// A set of capabilities; bit n is capability n.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct CapSet(pub u64);

impl CapSet {
    /// No capability.
    pub const EMPTY: Self = Self(0);

    /// Makes a set from names.
    ///
    /// Fails: with the first name that is no capability.
    pub fn from_names<'a>(names: impl IntoIterator<Item = &'a str>) -> Result<Self, &'a str> {
        names.into_iter().try_fold(Self::EMPTY, |set, name| Ok(set.with(number(name).ok_or(name)?)))
    }

    /// Adds a capability.
    #[must_use]
    pub const fn with(self, cap: u8) -> Self {
        Self(self.0 | (1 << (cap & 63)))
    }

    /// Removes a capability.
    #[must_use]
    pub const fn without(self, cap: u8) -> Self {
        Self(self.0 & !(1 << (cap & 63)))
    }

    /// Says whether a capability is in the set.
    #[must_use]
    pub const fn contains(self, cap: u8) -> bool {
        self.0 & (1 << (cap & 63)) != 0
    }

    /// Says whether the set is empty.
    #[must_use]
    pub const fn is_empty(self) -> bool {
        self.0 == 0
    }

    /// Gives what is in both.
    #[must_use]
    pub const fn and(self, other: Self) -> Self {
        Self(self.0 & other.0)
    }

    /// Gives what is in this one only.
    #[must_use]
    pub const fn minus(self, other: Self) -> Self {
        Self(self.0 & !other.0)
    }

    /// Lists the numbers, ascending.
    pub fn iter(self) -> impl Iterator<Item = u8> {
        (0..64).filter(move |cap| self.contains(*cap))
    }
}

impl fmt::Display for CapSet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let names: Vec<_> = self.iter().map(|cap| name(cap).map_or(cap.to_string(), str::to_owned)).collect();
        f.write_str(&names.join(","))
    }
}

/// The three sets that capget and capset handle.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Caps {
    /// What is checked.
    pub effective: CapSet,
    /// What may become effective.
    pub permitted: CapSet,
    /// What may survive execve of a file that says so.
    pub inheritable: CapSet,
}

#[repr(C)]
struct Header {
    version: u32,
    pid: i32,
}

#[repr(C)]
#[derive(Default, Clone, Copy)]
struct Half {
    effective: u32,
    permitted: u32,
    inheritable: u32,
}

/// Reads the sets of this thread.
///
/// capget(2).
pub fn get() -> Result<Caps> {
    let header = Header { version: VERSION_3, pid: 0 };
    let mut data = [Half::default(); 2];
    let args = [raw::ptr(&raw const header), raw::ptr(data.as_mut_ptr()), 0, 0, 0];
    // SAFETY: version 3 writes exactly two halves; upheld by the array's length; else the kernel writes past it.
    unsafe { raw::syscall(libc::SYS_capget, args) }.or_call(|| "capget(0)".to_owned())?;
    let join = |get: fn(&Half) -> u32| CapSet(u64::from(get(&data[0])) | u64::from(get(&data[1])) << 32);
    Ok(Caps {
        effective: join(|h| h.effective),
        permitted: join(|h| h.permitted),
        inheritable: join(|h| h.inheritable),
    })
}

/// Sets the sets of this thread; permitted can only shrink.
///
/// Needs: CAP_SETPCAP to add to inheritable. Fails: EPERM when a set would grow. capset(2).
pub fn set(caps: Caps) -> Result<()> {
    let header = Header { version: VERSION_3, pid: 0 };
    let half = |shift: u32| Half {
        effective: part(caps.effective, shift),
        permitted: part(caps.permitted, shift),
        inheritable: part(caps.inheritable, shift),
    };
    let data = [half(0), half(32)];
    let args = [raw::ptr(&raw const header), raw::ptr(data.as_ptr()), 0, 0, 0];
    // SAFETY: version 3 reads exactly two halves; upheld by the array's length; else the kernel reads past it.
    unsafe { raw::syscall(libc::SYS_capset, args) }.map(drop).or_call(|| {
        let Caps { effective, permitted, inheritable } = caps;
        format!("capset(effective: [{effective}], permitted: [{permitted}], inheritable: [{inheritable}])")
    })
}

#[expect(clippy::cast_possible_truncation, reason = "the wire format is two halves; this takes one")]
fn part(set: CapSet, shift: u32) -> u32 {
    (set.0 >> shift) as u32
}

/// Gives the highest capability that this kernel knows.
///
/// Asked of the bounding set, since procfs may be absent in a workload's view. prctl(2).
pub fn cap_last() -> Result<u8> {
    let known = |cap: u8| match bounded(cap) {
        Ok(_) => Ok(true),
        Err(Errno::EINVAL) => Ok(false),
        Err(errno) => Err(errno),
    };
    let call = || "prctl(PR_CAPBSET_READ)".to_owned();
    let mut last = 40;
    while last > 0 && !known(last).or_call(call)? {
        last -= 1;
    }
    while last < 63 && known(last + 1).or_call(call)? {
        last += 1;
    }
    Ok(last)
}

/// Reads the bounding set.
///
/// prctl(2), PR_CAPBSET_READ.
pub fn bounding() -> Result<CapSet> {
    each_known(bounded, "PR_CAPBSET_READ")
}

/// Drops a capability from the bounding set, for good.
///
/// Needs: CAP_SETPCAP in this user namespace. Fails: EINVAL for one that the kernel does not know.
/// prctl(2), PR_CAPBSET_DROP.
pub fn drop_bounding(cap: u8) -> Result<()> {
    prctl(libc::PR_CAPBSET_DROP, usize::from(cap), 0)
        .map(drop)
        .or_call(|| format!("prctl(PR_CAPBSET_DROP, {})", name(cap).unwrap_or("unknown")))
}

/// Reads the ambient set.
///
/// prctl(2), PR_CAP_AMBIENT_IS_SET.
pub fn ambient() -> Result<CapSet> {
    let is_set = |cap: u8| {
        prctl(libc::PR_CAP_AMBIENT, raw::int(libc::PR_CAP_AMBIENT_IS_SET), usize::from(cap)).map(|set| set == 1)
    };
    each_known(is_set, "PR_CAP_AMBIENT, PR_CAP_AMBIENT_IS_SET")
}

/// Empties the ambient set.
///
/// prctl(2), PR_CAP_AMBIENT_CLEAR_ALL.
pub fn ambient_clear() -> Result<()> {
    prctl(libc::PR_CAP_AMBIENT, raw::int(libc::PR_CAP_AMBIENT_CLEAR_ALL), 0)
        .map(drop)
        .or_call(|| "prctl(PR_CAP_AMBIENT, PR_CAP_AMBIENT_CLEAR_ALL)".to_owned())
}

/// Adds a capability to the ambient set, so that it survives execve.
///
/// Fails: EPERM unless it is permitted and inheritable. prctl(2), PR_CAP_AMBIENT_RAISE.
pub fn ambient_raise(cap: u8) -> Result<()> {
    prctl(libc::PR_CAP_AMBIENT, raw::int(libc::PR_CAP_AMBIENT_RAISE), usize::from(cap))
        .map(drop)
        .or_call(|| format!("prctl(PR_CAP_AMBIENT, PR_CAP_AMBIENT_RAISE, {})", name(cap).unwrap_or("unknown")))
}

fn bounded(cap: u8) -> nix::Result<bool> {
    prctl(libc::PR_CAPBSET_READ, usize::from(cap), 0).map(|set| set == 1)
}

/// Asks for each capability, up to the first that the kernel does not know.
fn each_known(ask: impl Fn(u8) -> nix::Result<bool>, what: &str) -> Result<CapSet> {
    let mut set = CapSet::EMPTY;
    for cap in 0..64 {
        match ask(cap) {
            Ok(true) => set = set.with(cap),
            Ok(false) => {}
            Err(Errno::EINVAL) if cap > 0 => break,
            Err(errno) => return Err(errno).or_call(|| format!("prctl({what}, {cap})")),
        }
    }
    Ok(set)
}

fn prctl(option: i32, a: usize, b: usize) -> nix::Result<libc::c_long> {
    // SAFETY: none of the capability requests takes a pointer; upheld by the five callers above; else the kernel writes where `a` or `b` point.
    unsafe { raw::syscall(libc::SYS_prctl, [raw::int(option), a, b, 0, 0]) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_and_numbers_agree_with_the_kernels_headers() {
        let fixed = [
            (0, "CAP_CHOWN"),
            (12, "CAP_NET_ADMIN"),
            (21, "CAP_SYS_ADMIN"),
            (31, "CAP_SETFCAP"),
            (40, "CAP_CHECKPOINT_RESTORE"),
        ];
        for (cap, known) in fixed {
            assert_eq!(name(cap), Some(known));
            assert_eq!(number(known), Some(cap));
        }
        assert_eq!(number("net_raw"), Some(13));
        assert_eq!(number("NET"), None);
        assert_eq!(name(41), None);
    }

    #[test]
    fn sets_agree_with_proc() {
        let status = crate::procfs::Proc::host().unwrap().own().unwrap().status().unwrap();
        let caps = get().unwrap();
        assert_eq!((caps.effective.0, caps.permitted.0), (status.cap_eff, status.cap_prm));
        assert_eq!(caps.inheritable.0, status.cap_inh);
        assert_eq!(bounding().unwrap().0, status.cap_bnd);
        assert_eq!(ambient().unwrap().0, status.cap_amb);
        let last = crate::procfs::Proc::host().unwrap().read("sys/kernel/cap_last_cap").unwrap();
        assert_eq!(cap_last().unwrap().to_string(), last.trim());
    }

    #[test]
    fn setting_what_is_there_works() {
        set(get().unwrap()).unwrap();
    }

    #[test]
    fn a_set_prints_its_names() {
        let set = CapSet::from_names(["kill", "CAP_CHOWN"]).unwrap();
        assert_eq!(set.to_string(), "CAP_CHOWN,CAP_KILL");
        assert_eq!(CapSet::from_names(["no_such"]), Err("no_such"));
        assert_eq!(set.without(0).minus(CapSet::EMPTY).and(CapSet(32)), CapSet(32));
    }
}
