//! Opening a file that only the right people can have written.
//!
//! The path is walked by descriptor, component by component, so what was checked is what is opened:
//! no symbolic link, no directory and no file that anybody but the given owners could change.

use std::fmt;
use std::os::fd::{AsFd, OwnedFd};
use std::path::{Component, Path, PathBuf};

use crate::error::Error;
use crate::fd::{self, FileFacts};

/// Why a path is not trusted: the component that fails, and the reason.
#[derive(Debug)]
pub struct TrustError {
    path: PathBuf,
    reason: Reason,
}

/// What is wrong with a component.
#[derive(Debug)]
#[non_exhaustive]
pub enum Reason {
    /// The path does not start at `/`, or holds `..`.
    NotPlain,
    /// The component is a symbolic link.
    Symlink,
    /// The component belongs to somebody else.
    Owner {
        /// Who owns it.
        uid: u32,
        /// Who may.
        allowed: Vec<u32>,
    },
    /// Group or others may write.
    Writable {
        /// Its permission bits.
        mode: u32,
    },
    /// The last component is no regular file, or an earlier one no directory.
    WrongKind {
        /// What it should have been.
        wanted: &'static str,
    },
    /// It changed between the check and the opening.
    Changed,
    /// The kernel refused.
    Call(Error),
}

impl TrustError {
    /// The component that fails, as a path from `/`.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Whether there is just nothing there.
    #[must_use]
    pub fn is_missing(&self) -> bool {
        matches!(&self.reason, Reason::Call(error) if error.errno_name() == "ENOENT")
    }

    /// Why it fails.
    #[must_use]
    pub fn reason(&self) -> &Reason {
        &self.reason
    }

    /// What to do about it.
    #[must_use]
    pub fn remedy(&self) -> String {
        let path = self.path.display();
        match &self.reason {
            Reason::NotPlain => "give an absolute path without ..".to_owned(),
            Reason::Symlink => "name the directory or file that the link points to".to_owned(),
            Reason::Owner { allowed, .. } => match allowed.first() {
                Some(uid) => format!("chown {uid} {path}"),
                None => "no owner is allowed here".to_owned(),
            },
            // A sticky one is meant to be written by all.
            Reason::Writable { mode } if mode & libc::S_ISVTX != 0 => {
                "keep the file in a directory of its own that only its owner can write".to_owned()
            }
            Reason::Writable { .. } => format!("chmod go-w {path}, or keep the file elsewhere"),
            Reason::WrongKind { wanted } => format!("{path} must be a {wanted}"),
            Reason::Changed => "somebody exchanged the file just now; find out who".to_owned(),
            Reason::Call(error) => error.hint().unwrap_or("check that the path exists and can be read").to_owned(),
        }
    }
}

impl fmt::Display for TrustError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let path = self.path.display();
        match &self.reason {
            Reason::NotPlain => write!(f, "{path} is not a plain absolute path"),
            Reason::Symlink => write!(f, "{path} is a symbolic link"),
            Reason::Owner { uid, allowed } => write!(f, "{path} is owned by uid {uid}, not by one of {allowed:?}"),
            Reason::Writable { mode } => write!(f, "{path} can be written by others than its owner (mode {mode:04o})"),
            Reason::WrongKind { wanted } => write!(f, "{path} is not a {wanted}"),
            Reason::Changed => write!(f, "{path} was exchanged while it was being opened"),
            Reason::Call(error) => write!(f, "{path}: {error}"),
        }
    }
}

impl std::error::Error for TrustError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match &self.reason {
            Reason::Call(error) => Some(error),
            _ => None,
        }
    }
}

/// Opens a regular file for reading after checking it and every directory above it.
///
/// Each must be owned by one of `owners` and be writable by its owner only. A sticky world-writable
/// directory such as /tmp may stand further up, where nobody but its owner can take away what is below
/// it, which is checked in turn; the file's own directory may not be one, since anybody may add files
/// there. Permission bits cover POSIX ACLs: with an ACL the group bits are its mask. Fails: with the first component that is not right, see [`Reason`]. openat(2), fstat(2).
pub fn open_trusted(path: &Path, owners: &[u32]) -> Result<OwnedFd, TrustError> {
    let (parent, _) = walk_parents(path, owners)?;
    open_trusted_in(&parent, path, owners).map(|(file, _)| file)
}

/// Opens a file in a directory that [`open_trusted_dir`] gave, by the same rules, and gives its facts.
///
/// `path` is the whole path, for the message; its last component is the name.
pub fn open_trusted_in(dir: impl AsFd, path: &Path, owners: &[u32]) -> Result<(OwnedFd, FileFacts), TrustError> {
    let dir = dir.as_fd();
    let at = |reason| TrustError { path: path.to_owned(), reason };
    let call = |error| at(Reason::Call(error));
    let name = Path::new(path.file_name().ok_or_else(|| at(Reason::NotPlain))?);
    let seen = fd::open_at(dir, name, libc::O_PATH | libc::O_NOFOLLOW).map_err(call)?;
    let facts = fd::fstat(&seen).map_err(call)?;
    check(&facts, owners, "regular file").map_err(at)?;
    // O_NONBLOCK: should a fifo have taken its place, the open must not hang.
    let flags = libc::O_RDONLY | libc::O_NOFOLLOW | libc::O_NONBLOCK;
    let file = fd::open_at(dir, name, flags).map_err(call)?;
    let opened = fd::fstat(&file).map_err(call)?;
    if (opened.dev, opened.ino) != (facts.dev, facts.ino) {
        return Err(at(Reason::Changed));
    }
    check(&opened, owners, "regular file").map_err(at)?;
    Ok((file, opened))
}

/// Opens a directory (`O_PATH`) after checking it and every directory above it.
///
/// The same rules as [`open_trusted`].
pub fn open_trusted_dir(path: &Path, owners: &[u32]) -> Result<OwnedFd, TrustError> {
    walk(path, path.components(), owners)
}

fn walk_parents(path: &Path, owners: &[u32]) -> Result<(OwnedFd, PathBuf), TrustError> {
    let not_plain = || TrustError { path: path.to_owned(), reason: Reason::NotPlain };
    let mut components = path.components();
    match components.next_back() {
        Some(Component::Normal(name)) => Ok((walk(path, components, owners)?, PathBuf::from(name))),
        _ => Err(not_plain()),
    }
}

fn walk(path: &Path, mut components: std::path::Components<'_>, owners: &[u32]) -> Result<OwnedFd, TrustError> {
    let not_plain = || TrustError { path: path.to_owned(), reason: Reason::NotPlain };
    if components.next() != Some(Component::RootDir) {
        return Err(not_plain());
    }
    let mut done = PathBuf::from("/");
    let (mut here, mut facts) = open_dir(fd::CWD, Path::new("/"), &done)?;
    for component in components {
        match component {
            Component::Normal(name) => {
                check_ancestor(&facts, owners).map_err(|reason| TrustError { path: done.clone(), reason })?;
                done.push(name);
                (here, facts) = open_dir(&here, Path::new(name), &done)?;
            }
            Component::CurDir => {}
            _ => return Err(not_plain()),
        }
    }
    check(&facts, owners, "directory").map_err(|reason| TrustError { path: done, reason })?;
    Ok(here)
}

fn open_dir(parent: impl AsFd, name: &Path, whole: &Path) -> Result<(OwnedFd, FileFacts), TrustError> {
    let at = |reason| TrustError { path: whole.to_owned(), reason };
    let dir = fd::open_at(parent, name, libc::O_PATH | libc::O_NOFOLLOW).map_err(|e| at(Reason::Call(e)))?;
    let facts = fd::fstat(&dir).map_err(|e| at(Reason::Call(e)))?;
    Ok((dir, facts))
}

/// Checks a directory of which the one below is checked as well: a sticky one keeps what others own in its place.
fn check_ancestor(facts: &FileFacts, owners: &[u32]) -> Result<(), Reason> {
    let sticky = facts.is_dir() && facts.mode & libc::S_ISVTX != 0;
    let others = if sticky { FileFacts { mode: facts.mode & !0o022, ..*facts } } else { *facts };
    check(&others, owners, "directory")
}

/// Checks one component; pure, so that each rule can be tested without the files.
fn check(facts: &FileFacts, owners: &[u32], wanted: &'static str) -> Result<(), Reason> {
    if facts.is_symlink() {
        return Err(Reason::Symlink);
    }
    let right = if wanted == "directory" { facts.is_dir() } else { facts.is_file() };
    if !right {
        return Err(Reason::WrongKind { wanted });
    }
    if !owners.contains(&facts.uid) {
        return Err(Reason::Owner { uid: facts.uid, allowed: owners.to_vec() });
    }
    if facts.mode & 0o022 != 0 {
        return Err(Reason::Writable { mode: facts.mode & 0o7777 });
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn facts(mode: u32, uid: u32) -> FileFacts {
        FileFacts { dev: 1, ino: 2, mode, uid, gid: 0, size: 0, mtime_ns: 0, ctime_ns: 0, rdev: 0 }
    }

    #[test]
    fn each_rule_refuses_by_itself() {
        assert!(check(&facts(libc::S_IFREG | 0o644, 0), &[0], "regular file").is_ok());
        assert!(check(&facts(libc::S_IFDIR | 0o755, 7), &[0, 7], "directory").is_ok());
        let refused = |mode, uid, wanted| check(&facts(mode, uid), &[0], wanted).unwrap_err();
        assert!(matches!(refused(libc::S_IFLNK | 0o777, 0, "directory"), Reason::Symlink));
        assert!(matches!(refused(libc::S_IFREG | 0o644, 7, "regular file"), Reason::Owner { uid: 7, .. }));
        assert!(matches!(refused(libc::S_IFREG | 0o664, 0, "regular file"), Reason::Writable { mode: 0o664 }));
        assert!(matches!(refused(libc::S_IFREG | 0o646, 0, "regular file"), Reason::Writable { .. }));
        assert!(matches!(refused(libc::S_IFDIR | 0o1777, 0, "directory"), Reason::Writable { mode: 0o1777 }));
        assert!(matches!(refused(libc::S_IFIFO | 0o600, 0, "regular file"), Reason::WrongKind { .. }));
    }

    #[test]
    fn a_sticky_directory_may_stand_further_up_only() {
        assert!(check_ancestor(&facts(libc::S_IFDIR | 0o1777, 0), &[0]).is_ok());
        let refused = |mode, uid| check_ancestor(&facts(mode, uid), &[0]).unwrap_err();
        assert!(matches!(refused(libc::S_IFDIR | 0o777, 0), Reason::Writable { mode: 0o777 }));
        assert!(matches!(refused(libc::S_IFDIR | 0o1777, 7), Reason::Owner { uid: 7, .. }));
        assert!(matches!(refused(libc::S_IFLNK | 0o1777, 0), Reason::Symlink));
    }

    #[test]
    fn a_file_of_root_is_trusted_and_one_in_tmp_is_not() {
        open_trusted(Path::new("/etc/passwd"), &[0]).unwrap();
        let file = std::env::temp_dir().join(format!("palisade-trust-{}", std::process::id()));
        std::fs::write(&file, "x").unwrap();
        let owners = [0, nix::unistd::getuid().as_raw()];
        let error = open_trusted(&file, &owners).unwrap_err();
        std::fs::remove_file(&file).unwrap();
        assert!(error.path() == Path::new("/tmp"), "{error}");
        assert!(error.to_string().contains("mode 1777") && !error.remedy().contains("chmod"), "{error}");
    }

    #[test]
    fn links_relative_paths_and_dots_are_refused() {
        let reason = |path: &str| open_trusted(Path::new(path), &[0]).unwrap_err().reason;
        assert!(matches!(reason("/proc/self/status"), Reason::Symlink));
        assert!(matches!(reason("etc/passwd"), Reason::NotPlain));
        assert!(matches!(reason("/etc/../etc/passwd"), Reason::NotPlain));
        assert!(matches!(reason("/"), Reason::NotPlain));
        assert!(matches!(reason("/etc"), Reason::WrongKind { .. }));
        assert!(matches!(open_trusted(Path::new("/etc/passwd"), &[12]).unwrap_err().reason, Reason::Owner { .. }));
        assert!(matches!(reason("/nonexistent/x"), Reason::Call(_)));
    }
}
