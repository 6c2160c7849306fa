//! New names in a directory that nobody else can write, such as one of a tmpfs that this process has just made.
//!
//! One call each, relative to the directory's descriptor. Where somebody else could rename things, [`crate::beneath`]
//! is the way.

use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;

use nix::sys::stat::{Mode, SFlag};

use crate::error::{OrCall, Result};
use crate::{fd, raw};

/// Makes a directory, unless one is there, and opens it (`O_PATH`); a symbolic link is not followed.
///
/// `mode` is less the umask. Fails: ENOTDIR when something else has the name. mkdirat(2).
pub fn dir(parent: impl AsFd, name: &str, mode: u32) -> Result<OwnedFd> {
    let parent = parent.as_fd();
    let flags = fd::O_PATH | fd::O_DIRECTORY | fd::O_NOFOLLOW;
    match nix::sys::stat::mkdirat(parent, name, Mode::from_bits_truncate(mode)) {
        Err(nix::errno::Errno::EEXIST) => fd::open_at(parent, name, flags),
        made => {
            made.or_call(|| format!("mkdirat({}, {name:?}, {mode:#o})", raw::show_fd(parent)))?;
            fd::open_at(parent, name, flags)
        }
    }
}

/// Makes a name for a mount, a directory or an empty file, unless the name exists already.
///
/// mkdirat(2), mknodat(2).
pub fn place(parent: impl AsFd, name: &str, directory: bool) -> Result<()> {
    let parent = parent.as_fd();
    let made = if directory {
        nix::sys::stat::mkdirat(parent, name, Mode::from_bits_truncate(0o755))
    } else {
        nix::sys::stat::mknodat(parent, name, SFlag::S_IFREG, Mode::from_bits_truncate(0o644), 0)
    };
    match made {
        Err(nix::errno::Errno::EEXIST) => Ok(()),
        made => made.or_call(|| format!("mknodat({}, {name:?}, directory: {directory})", raw::show_fd(parent))),
    }
}

/// Makes a file with this content; `mode` is less the umask.
///
/// Fails: EEXIST when the name exists in any form, ENOSPC. openat(2).
pub fn file(parent: impl AsFd, name: &str, mode: u32, bytes: &[u8]) -> Result<()> {
    let flags = fd::O_WRONLY | fd::O_CREAT | fd::O_EXCL | fd::O_NOFOLLOW;
    let file = fd::open_at_mode(parent, name, flags, mode)?;
    let mut rest = bytes;
    while !rest.is_empty() {
        let n = nix::unistd::write(&file, rest).or_call(|| format!("write({name:?}, {} bytes)", rest.len()))?;
        rest = rest.get(n..).unwrap_or_default();
    }
    Ok(())
}

/// Makes a symbolic link; the target is text and is not resolved.
///
/// Fails: EEXIST when the name exists in any form. symlinkat(2).
pub fn symlink(target: impl AsRef<Path>, parent: impl AsFd, name: &str) -> Result<()> {
    let (target, parent) = (target.as_ref(), parent.as_fd());
    nix::unistd::symlinkat(target, parent, name)
        .or_call(|| format!("symlinkat({target:?}, {}, {name:?})", raw::show_fd(parent)))
}

/// Removes a name that is no directory.
///
/// Fails: EISDIR, ENOENT. unlinkat(2).
pub fn unlink(parent: impl AsFd, name: &str) -> Result<()> {
    let parent = parent.as_fd();
    nix::unistd::unlinkat(parent, name, nix::unistd::UnlinkatFlags::NoRemoveDir)
        .or_call(|| format!("unlinkat({}, {name:?}, 0)", raw::show_fd(parent)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use nix::errno::Errno;

    #[test]
    fn names_are_made_once_and_links_are_not_followed() {
        let path = std::env::temp_dir().join(format!("palisade-names-{}", std::process::id()));
        std::fs::create_dir(&path).unwrap();
        let here = fd::open_path(&path, fd::O_PATH).unwrap();
        symlink("/etc", &here, "link").unwrap();
        file(&here, "file", 0o644, b"text").unwrap();
        place(&here, "place", false).unwrap();
        place(&here, "place", false).unwrap();
        let sub = dir(&here, "sub", 0o755).unwrap();
        unlink(&here, "place").unwrap();
        assert_eq!(unlink(&here, "place").unwrap_err().kind(), Errno::ENOENT);
        let outcomes = (
            dir(&here, "sub", 0o755).is_ok(),
            dir(&here, "link", 0o755).unwrap_err().kind(),
            file(&here, "file", 0o644, b"").unwrap_err().kind(),
            file(&here, "link", 0o644, b"").unwrap_err().kind(),
            std::fs::read(path.join("file")).unwrap(),
        );
        drop(sub);
        std::fs::remove_dir_all(&path).unwrap();
        let expected = (true, Errno::ENOTDIR, Errno::EEXIST, Errno::EEXIST, b"text".to_vec());
        assert_eq!(outcomes, expected);
    }
}
