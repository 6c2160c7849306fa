//! What the kernel has of Landlock; the rules themselves are a plugin's. landlock(7).

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

#[cfg(test)]
mod tests {
    use super::*;

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
