//! Whose cgroup it is. A launcher holds a lock on every cgroup that it made, for as long as it lives: the kernel lets
//! go of it however the launcher ends. So a cgroup of ours that nobody has locked belongs to no living run, whatever
//! process ids mean where one looks from, and a number that was given to another process confuses nobody.

use crate::group::Group;
use crate::layout;
use palisade_abi::{ErrorContext as _, Left};
use palisade_sys::procfs::Proc;
use palisade_sys::{Errno, Error, Result, fd};
use std::ffi::{OsStr, OsString};
use std::fs::{File, TryLockError};
use std::io::ErrorKind;
use std::os::fd::{AsFd, OwnedFd};
use std::path::{Path, PathBuf};

/// Who may do what with a cgroup: nobody else may open it, or it could be locked by whoever is quicker, which would
/// stop the launch, or after it the collector. Its files can be read by their names.
const MODE: u32 = 0o711;
/// How often a cgroup is made again that a collector took away before it could be locked.
const ATTEMPTS: u32 = 8;

/// Makes a directory below `base` and locks it.
///
/// Between the two a collector may take it for a left-over. Then the lock is on a directory that has no name any
/// more, and it is made once more.
pub(crate) fn make(base: &OwnedFd, name: &str) -> Result<File> {
    for _ in 0..ATTEMPTS {
        fd::mkdir_at(base, name, MODE)?;
        match locked(base, name) {
            Ok(Some(dir)) => return Ok(dir),
            Ok(None) => {}
            Err(error) => {
                // Nothing is in it, and nobody knows of it to take it away.
                fd::rmdir_at(base, name).ok();
                return Err(error);
            }
        }
    }
    Err(Error::from_io(&std::io::Error::from_raw_os_error(Errno::EAGAIN as i32), "mkdirat(cgroup)"))
}

/// Opens and locks one that was just made; nothing where a collector was quicker.
fn locked(base: &OwnedFd, name: &str) -> Result<Option<File>> {
    let there = |opened: Result<File>| match opened {
        Err(error) if error.kind() == Errno::ENOENT => Ok(None),
        other => other.map(Some),
    };
    let Some(dir) = there(open(base, name))? else { return Ok(None) };
    dir.lock().map_err(|e| Error::from_io(&e, "flock(cgroup, LOCK_EX)"))?;
    let Some(again) = there(open(base, name))? else { return Ok(None) };
    Ok(fd::is_same_file(&dir, &again)?.then_some(dir))
}

fn open(base: impl AsFd, name: impl AsRef<Path>) -> Result<File> {
    fd::open_at(base, name, fd::O_RDONLY | fd::O_DIRECTORY | fd::O_NOFOLLOW).map(File::from)
}

/// Whether this is the name of a launch: `palisade-PID-MICROSECONDS-COUNT`, the second of them in hexadecimal.
fn is_ours(name: &OsStr) -> bool {
    let parse = || {
        let mut parts = name.to_str()?.strip_prefix("palisade-")?.split('-');
        parts.next()?.parse::<i32>().ok().filter(|pid| *pid > 0)?;
        u64::from_str_radix(parts.next()?, 16).ok()?;
        parts.next()?.parse::<u64>().ok()?;
        parts.next().is_none().then_some(())
    };
    parse().is_some()
}

/// Opens a cgroup of ours below `base` that no launcher owns. The lock is held by what is returned.
fn unowned(base: impl AsFd, name: &OsStr) -> Option<File> {
    if !is_ours(name) {
        return None;
    }
    let dir = open(base, name).ok()?;
    match dir.try_lock() {
        Ok(()) => Some(dir),
        Err(TryLockError::WouldBlock | TryLockError::Error(_)) => None,
    }
}

/// Removes the empty cgroups that dead launchers left beside the one that is about to be made. Nothing depends on it:
/// what cannot be removed stays, for `palisade gc`.
pub(crate) fn sweep(base: &OwnedFd) {
    for entry in std::fs::read_dir(fd::proc_fd_path(base)).into_iter().flatten().flatten() {
        let name = entry.file_name();
        if let Some(_locked) = unowned(base, &name) {
            // EBUSY: somebody is still inside.
            fd::rmdir_at(base, &name).ok();
        }
    }
}

/// A cgroup that no living run owns.
struct Orphan {
    path: PathBuf,
    group: Group,
}

/// Finds them in every hierarchy, and where `remove` says so ends what is inside and removes them.
pub(crate) fn collect(remove: bool) -> std::result::Result<Vec<Left>, palisade_abi::Error> {
    let mounts = Proc::host().and_then(|proc| proc.own()?.read("mountinfo"));
    let mounts = mounts.doing(|| "cannot see which hierarchies are mounted".to_owned())?;
    let mut all = Vec::new();
    for mount in layout::mount_points(&mounts) {
        all.extend(orphans(&mount).doing(|| format!("cannot see what is left below {}", mount.display()))?);
    }
    // On v1 one launch has several, and those inside cannot be stopped in each of them.
    all.sort_by_key(|orphan| orphan.group.wildness());
    Ok(all.into_iter().map(|orphan| collected(&orphan, remove)).collect())
}

fn collected(orphan: &Orphan, remove: bool) -> Left {
    let removed = if remove { orphan.group.remove() } else { Ok(()) };
    let why = removed.as_ref().err().map(|error| [error.message.as_str(), error.call.as_str()].join(": "));
    Left {
        what: format!("cgroup {}", orphan.path.display()),
        removed: remove && removed.is_ok(),
        why: why.unwrap_or_default(),
    }
}

/// Looks for them below a mount point, however deep: a launch makes its cgroup below its own.
fn orphans(mount: &Path) -> Result<Vec<Orphan>> {
    let mut found = Vec::new();
    let mut waiting = vec![mount.to_owned()];
    while let Some(dir) = waiting.pop() {
        let base = match fd::open_path(&dir, fd::O_PATH | fd::O_DIRECTORY | fd::O_NOFOLLOW) {
            Ok(base) => base,
            // It went while the others were looked at.
            Err(error) if error.kind() == Errno::ENOENT => continue,
            Err(error) => return Err(error),
        };
        for name in children(&dir)? {
            let path = dir.join(&name);
            match unowned(&base, &name) {
                Some(locked) => {
                    let name = name.to_string_lossy().into_owned();
                    found.push(Orphan { group: Group::found(&dir, name, fd::dup_cloexec(&base)?, locked), path });
                }
                None => waiting.push(path),
            }
        }
    }
    found.sort_by(|a, b| a.path.cmp(&b.path));
    Ok(found)
}

/// The cgroups below one. Of another user's launch they cannot be listed, and need not be: it is removed as a whole.
fn children(dir: &Path) -> Result<Vec<OsString>> {
    let entries = match std::fs::read_dir(dir) {
        Ok(entries) => entries,
        Err(e) if matches!(e.kind(), ErrorKind::NotFound) => return Ok(Vec::new()),
        Err(e) if matches!(e.kind(), ErrorKind::PermissionDenied) && dir.file_name().is_some_and(is_ours) => {
            return Ok(Vec::new());
        }
        Err(e) => return Err(Error::from_io(&e, format!("readdir({})", dir.display()))),
    };
    let entries = entries.flatten().filter(|entry| entry.file_type().is_ok_and(|kind| kind.is_dir()));
    Ok(entries.map(|entry| entry.file_name()).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_names_of_launches_are_ours() {
        assert!(is_ours(OsStr::new("palisade-17-64a5f-3")));
        for other in
            ["palisade-x", "palisade-1-1", "palisade-0-1-1", "palisade--1-1-1", "user.slice", "palisade-9-1-1-1"]
        {
            assert!(!is_ours(OsStr::new(other)), "{other}");
        }
    }

    /// A directory of any file system can be locked, so this is tried on one that can be made anywhere.
    #[test]
    fn what_its_maker_holds_is_not_left_and_what_it_let_go_is() {
        let top = std::env::temp_dir().join(format!("palisade-owner-{}", std::process::id()));
        std::fs::create_dir(&top).unwrap();
        let base = fd::open_path(&top, fd::O_PATH | fd::O_DIRECTORY).unwrap();
        let name = "palisade-17-64a5f-3";
        let held = make(&base, name).unwrap();
        assert!(orphans(&top).unwrap().is_empty());
        sweep(&base);
        assert!(top.join(name).exists(), "it is owned");
        assert_eq!(make(&base, name).unwrap_err().kind(), Errno::EEXIST, "nothing is adopted");
        drop(held);
        assert_eq!(
            orphans(&top).unwrap().iter().map(|orphan| orphan.path.clone()).collect::<Vec<_>>(),
            [top.join(name)]
        );
        sweep(&base);
        assert!(!top.join(name).exists());
        std::fs::remove_dir(&top).unwrap();
    }
}
