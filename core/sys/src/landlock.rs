//! What the kernel has of Landlock; rules for workloads are a plugin's. landlock(7).

use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd};

use nix::errno::Errno;

use crate::error::{OrCall, Result};
use crate::raw;

const CREATE_RULESET_VERSION: i32 = 1;
const CREATE_RULESET_ERRATA: i32 = 2;

fn ask(flag: i32, name: &str) -> Result<u32> {
    // SAFETY: with this flag the attributes are a null pointer of size 0; upheld by landlock_create_ruleset(2); else the kernel gives EINVAL.
    unsafe { raw::syscall(libc::SYS_landlock_create_ruleset, [0, 0, raw::int(flag), 0, 0]) }
        .and_then(|answer| u32::try_from(answer).map_err(|_e| Errno::EOVERFLOW))
        .or_call(|| format!("landlock_create_ruleset(NULL, 0, {name})"))
}

/// Reads the highest ABI that the kernel has.
///
/// Since: 5.13. Fails: ENOSYS when Landlock is not built in, EOPNOTSUPP when it is off at boot.
/// landlock_create_ruleset(2).
pub fn abi_version() -> Result<u32> {
    ask(CREATE_RULESET_VERSION, "LANDLOCK_CREATE_RULESET_VERSION")
}

/// Reads which errata are fixed, one bit each; `None` before 6.15, which cannot tell.
///
/// Fails: as [`abi_version`].
pub fn errata() -> Result<Option<u32>> {
    match ask(CREATE_RULESET_ERRATA, "LANDLOCK_CREATE_RULESET_ERRATA") {
        Ok(bits) => Ok(Some(bits)),
        Err(error) if error.kind() == Errno::EINVAL => Ok(None),
        Err(error) => Err(error),
    }
}

/// `struct landlock_ruleset_attr`; an older ABI reads the first part.
#[repr(C)]
struct Ruleset {
    handled_access_fs: u64,
    handled_access_net: u64,
    scoped: u64,
}

/// `struct landlock_path_beneath_attr`.
#[repr(C, packed)]
struct PathBeneath {
    allowed_access: u64,
    parent_fd: i32,
}

const ACCESS_FS_READ_FILE: u64 = 1 << 2;
const RULE_PATH_BENEATH: i32 = 1;

/// What is denied with this ABI, and how many bytes of it that ABI reads: files by 13 kinds of access, then moving,
/// emptying and commands to devices; TCP; abstract sockets and signals.
fn everything(abi: u32) -> (Ruleset, usize) {
    let bits = |from: u32, count: u32| if abi >= from { (1_u64 << count) - 1 } else { 0 };
    let files = bits(1, 13) | bits(2, 14) | bits(3, 15) | bits(5, 16);
    let size = match abi {
        ..4 => 8,
        4..6 => 16,
        _ => 24,
    };
    (Ruleset { handled_access_fs: files, handled_access_net: bits(4, 2), scoped: bits(6, 2) }, size)
}

/// Denies this process all that Landlock knows of, for good, but for reading one file.
///
/// Since: 5.13. Needs: no_new_privs. Fails: ENOSYS and EOPNOTSUPP as [`abi_version`]. What is open stays so.
/// landlock(7).
pub fn read_only(file: impl AsFd) -> Result<()> {
    let (ruleset, size) = everything(abi_version()?);
    let words = [raw::ptr(&raw const ruleset), size, 0, 0, 0];
    // SAFETY: the attributes are at least `size` bytes long; upheld by `everything`; else the kernel reads past them.
    let made = unsafe { raw::syscall(libc::SYS_landlock_create_ruleset, words) }
        .and_then(raw::small)
        .or_call(|| format!("landlock_create_ruleset({:#x}, {size})", ruleset.handled_access_fs))?;
    // SAFETY: `made` is open and nobody else's; upheld by the kernel, which has just made it; else two owners close it.
    let made = unsafe { OwnedFd::from_raw_fd(made) };
    allow_reading(made.as_fd(), file.as_fd())?;
    // SAFETY: landlock_restrict_self takes no pointer; upheld by its man page; else nothing is touched.
    unsafe { raw::syscall(libc::SYS_landlock_restrict_self, [raw::fd(made.as_fd()), 0, 0, 0, 0]) }
        .map(drop)
        .or_call(|| "landlock_restrict_self(0)".to_owned())
}

fn allow_reading(ruleset: BorrowedFd<'_>, file: BorrowedFd<'_>) -> Result<()> {
    let rule = PathBeneath { allowed_access: ACCESS_FS_READ_FILE, parent_fd: file.as_raw_fd() };
    let words = [raw::fd(ruleset), raw::int(RULE_PATH_BENEATH), raw::ptr(&raw const rule), 0, 0];
    // SAFETY: `rule` has the kernel's layout and lives during the call; upheld by this frame; else it reads past it.
    unsafe { raw::syscall(libc::SYS_landlock_add_rule, words) }
        .map(drop)
        .or_call(|| format!("landlock_add_rule(READ_FILE, {})", raw::show_fd(file)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_abi_is_given_what_it_knows() {
        assert_eq!((size_of::<Ruleset>(), size_of::<PathBeneath>()), (24, 12));
        let given = [1, 2, 3, 4, 5, 6, 9].map(|abi| {
            let (all, size) = everything(abi);
            (all.handled_access_fs, all.handled_access_net, all.scoped, size)
        });
        assert_eq!(
            given,
            [
                (0x1fff, 0, 0, 8),
                (0x3fff, 0, 0, 8),
                (0x7fff, 0, 0, 8),
                (0x7fff, 3, 0, 16),
                (0xffff, 3, 0, 16),
                (0xffff, 3, 3, 24),
                (0xffff, 3, 3, 24)
            ]
        );
    }

    #[test]
    fn the_kernel_answers_or_says_why_not() {
        match abi_version() {
            Ok(version) => {
                assert!(version >= 1);
                errata().unwrap();
            }
            Err(error) => {
                assert!(matches!(error.kind(), Errno::ENOSYS | Errno::EOPNOTSUPP));
                assert!(error.hint().is_some());
            }
        }
    }
}
