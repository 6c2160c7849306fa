//! The access rights of Landlock: their names, and the ABI and kernel that first knew them.

use crate::config::Allow;
use landlock::{ABI, Access, AccessFs, BitFlags, make_bitflags};

/// The newest ABI whose rights are known here; a newer kernel's further rights are not restricted.
pub(crate) const NEWEST: u32 = 10;

/// The first kernel of each ABI, from 1 on.
const KERNELS: [&str; 10] = ["5.13", "5.19", "6.2", "6.7", "6.10", "6.12", "6.15", "7.0", "7.1", "7.2"];

pub(crate) const REFER: u32 = 2;
pub(crate) const TRUNCATE: u32 = 3;
pub(crate) const TCP: u32 = 4;
pub(crate) const IOCTL_DEV: u32 = 5;
pub(crate) const SCOPES: u32 = 6;
pub(crate) const LOG: u32 = 7;
pub(crate) const CONNECT_UNIX: u32 = 9;

/// The first kernel with an ABI.
pub(crate) fn kernel(abi: u32) -> &'static str {
    let at = usize::try_from(abi).unwrap_or(usize::MAX).saturating_sub(1);
    KERNELS.get(at).copied().unwrap_or("later than 7.2")
}

/// All rights to files that an ABI can restrict.
pub(crate) fn all(abi: u32) -> BitFlags<AccessFs> {
    AccessFs::from_all(ABI::from(i32::try_from(abi).unwrap_or(i32::MAX)))
}

/// The names, as the kernel's documentation has them without the prefix.
const NAMES: [(AccessFs, &str); 17] = [
    (AccessFs::ReadFile, "read_file"),
    (AccessFs::ReadDir, "read_dir"),
    (AccessFs::Execute, "execute"),
    (AccessFs::WriteFile, "write_file"),
    (AccessFs::Truncate, "truncate"),
    (AccessFs::MakeReg, "make_reg"),
    (AccessFs::MakeDir, "make_dir"),
    (AccessFs::MakeSym, "make_sym"),
    (AccessFs::MakeFifo, "make_fifo"),
    (AccessFs::MakeSock, "make_sock"),
    (AccessFs::MakeChar, "make_char"),
    (AccessFs::MakeBlock, "make_block"),
    (AccessFs::RemoveFile, "remove_file"),
    (AccessFs::RemoveDir, "remove_dir"),
    (AccessFs::Refer, "refer"),
    (AccessFs::IoctlDev, "ioctl_dev"),
    (AccessFs::ResolveUnix, "connect_unix"),
];

/// The names of a set of rights for a sentence.
pub(crate) fn names(access: BitFlags<AccessFs>) -> String {
    let those = NAMES.iter().filter(|(right, _)| access.contains(*right));
    those.map(|(_, name)| *name).collect::<Vec<_>>().join(", ")
}

/// The words of a policy that grant all of these rights together.
pub(crate) fn words(access: BitFlags<AccessFs>) -> Vec<&'static str> {
    let words = [
        ("Read", Allow::Read),
        ("Write", Allow::Write),
        ("Execute", Allow::Execute),
        ("IoctlDev", Allow::IoctlDev),
        ("ConnectUnix", Allow::ConnectUnix),
    ];
    words.iter().filter(|(_, allow)| !(access & of(*allow)).is_empty()).map(|(word, _)| *word).collect()
}

/// A right by its name.
pub(crate) fn named(name: &str) -> Option<AccessFs> {
    NAMES.iter().find(|(_, known)| *known == name).map(|(right, _)| *right)
}

const MAKE: BitFlags<AccessFs> = make_bitflags!(AccessFs::{MakeReg | MakeDir | MakeSym | MakeFifo | MakeSock});
const REMOVE: BitFlags<AccessFs> = make_bitflags!(AccessFs::{RemoveFile | RemoveDir});

/// What a word of the policy grants.
///
/// `Write` is what an editor or a compiler needs below a directory: it makes and removes, and it renames between
/// directories, which the kernel allows only where the file gains no right by it. Device nodes are in no
/// group: whoever wants them names them.
pub(crate) fn of(allow: Allow) -> BitFlags<AccessFs> {
    match allow {
        Allow::Read => make_bitflags!(AccessFs::{ReadFile | ReadDir}),
        Allow::Write => make_bitflags!(AccessFs::{WriteFile | Truncate | Refer}) | MAKE | REMOVE,
        Allow::Make => MAKE,
        Allow::Remove => REMOVE,
        Allow::Execute => AccessFs::Execute.into(),
        Allow::Refer => AccessFs::Refer.into(),
        Allow::Truncate => AccessFs::Truncate.into(),
        Allow::IoctlDev => AccessFs::IoctlDev.into(),
        Allow::ConnectUnix => AccessFs::ResolveUnix.into(),
        Allow::ReadFile => AccessFs::ReadFile.into(),
        Allow::ReadDir => AccessFs::ReadDir.into(),
        Allow::WriteFile => AccessFs::WriteFile.into(),
        Allow::RemoveFile => AccessFs::RemoveFile.into(),
        Allow::RemoveDir => AccessFs::RemoveDir.into(),
        Allow::MakeFile => AccessFs::MakeReg.into(),
        Allow::MakeDir => AccessFs::MakeDir.into(),
        Allow::MakeSymlink => AccessFs::MakeSym.into(),
        Allow::MakePipe => AccessFs::MakeFifo.into(),
        Allow::MakeSocket => AccessFs::MakeSock.into(),
        Allow::MakeCharDevice => AccessFs::MakeChar.into(),
        Allow::MakeBlockDevice => AccessFs::MakeBlock.into(),
    }
}

/// The word of the policy in a sentence: "read", "execute".
pub(crate) const fn verb(allow: Allow) -> &'static str {
    match allow {
        Allow::Read => "read",
        Allow::Write => "write",
        Allow::Execute => "execute",
        Allow::Make => "make files",
        Allow::Remove => "remove files",
        Allow::Refer => "rename between directories",
        Allow::Truncate => "truncate",
        Allow::IoctlDev => "command devices",
        Allow::ConnectUnix => "connect to UNIX sockets",
        Allow::ReadFile => "read files",
        Allow::ReadDir => "list directories",
        Allow::WriteFile => "write files that exist",
        Allow::RemoveFile => "remove files that are no directories",
        Allow::RemoveDir => "remove directories",
        Allow::MakeFile => "make regular files",
        Allow::MakeDir => "make directories",
        Allow::MakeSymlink => "make symbolic links",
        Allow::MakePipe => "make named pipes",
        Allow::MakeSocket => "make UNIX sockets",
        Allow::MakeCharDevice => "make character devices",
        Allow::MakeBlockDevice => "make block devices",
    }
}

/// The ABI that a word needs by itself: a right that came later than the first ABI and is asked for by name.
pub(crate) const fn needs(allow: Allow) -> u32 {
    match allow {
        Allow::Refer => REFER,
        Allow::Truncate => TRUNCATE,
        Allow::IoctlDev => IOCTL_DEV,
        Allow::ConnectUnix => CONNECT_UNIX,
        _ => 1,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn write_is_spelled_out() {
        assert_eq!(
            names(of(Allow::Write)),
            "write_file, truncate, make_reg, make_dir, make_sym, make_fifo, make_sock, remove_file, remove_dir, refer"
        );
    }

    #[test]
    fn every_right_has_a_name() {
        assert_eq!(names(all(NEWEST)).split(", ").count(), all(NEWEST).len());
        assert_eq!(NAMES.len(), all(NEWEST).len());
    }

    #[test]
    fn a_right_is_known_from_its_abi_on() {
        for allow in [Allow::Refer, Allow::Truncate, Allow::IoctlDev, Allow::ConnectUnix, Allow::MakeCharDevice] {
            let (abi, right) = (needs(allow), of(allow));
            assert!(all(abi).contains(right), "{allow:?}");
            assert!(!all(abi - 1).contains(right), "{allow:?}");
        }
        assert_eq!((kernel(1), kernel(7), kernel(11)), ("5.13", "6.15", "later than 7.2"));
    }
}
