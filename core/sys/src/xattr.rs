//! Extended attributes of files. xattr(7).

use std::ffi::CStr;
use std::path::Path;

use nix::NixPath;
use nix::errno::Errno;

use crate::error::{OrCall, Result};

/// Reads an extended attribute of at most 4096 bytes; a symbolic link is not followed. `None` where there is none, or where
/// this process may not read it.
///
/// Fails: ERANGE for a longer one. lgetxattr(2).
pub fn get(path: impl AsRef<Path>, name: &CStr) -> Result<Option<Vec<u8>>> {
    let path = path.as_ref();
    let mut value = vec![0_u8; 4096];
    let answer = path.with_nix_path(|path| {
        // SAFETY: both strings end with a zero, and the buffer has room for the length given; upheld by their types; else
        // the kernel writes past it.
        let length = unsafe { libc::lgetxattr(path.as_ptr(), name.as_ptr(), value.as_mut_ptr().cast(), value.len()) };
        Errno::result(length)
    });
    match answer.and_then(|found| found) {
        Ok(length) => {
            value.truncate(usize::try_from(length).unwrap_or(0));
            Ok(Some(value))
        }
        Err(Errno::ENODATA | Errno::EOPNOTSUPP | Errno::EPERM) => Ok(None),
        Err(errno) => Err(errno).or_call(|| format!("lgetxattr({}, {name:?})", path.display())),
    }
}

/// Reads whether a file has an extended attribute, whatever it says; a symbolic link is not followed.
///
/// Fails: never for want of the attribute or of the right to read it, which is the same answer. lgetxattr(2).
pub fn has(path: impl AsRef<Path>, name: &CStr) -> Result<bool> {
    let path = path.as_ref();
    let answer = path.with_nix_path(|path| {
        // SAFETY: both strings end with a zero, and nothing is written as the length is 0; upheld by their types; else
        // the kernel gives EFAULT.
        let length = unsafe { libc::lgetxattr(path.as_ptr(), name.as_ptr(), std::ptr::null_mut(), 0) };
        Errno::result(length)
    });
    match answer.and_then(|found| found) {
        Ok(_) => Ok(true),
        Err(Errno::ENODATA | Errno::EOPNOTSUPP | Errno::EPERM) => Ok(false),
        Err(errno) => Err(errno).or_call(|| format!("lgetxattr({}, {name:?})", path.display())),
    }
}
