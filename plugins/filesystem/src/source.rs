//! What is bound: found on the host, without following a link that a stranger could have placed.
//!
//! A directory that an earlier run could write may hold a link to anywhere by now, and binding through it would hand
//! the workload what it points to. So links are followed only where root owns them; and what is opened in the end
//! must be what was found when the launch was planned.

use std::ffi::OsString;
use std::os::fd::OwnedFd;
use std::os::unix::fs::MetadataExt;
use std::path::{Component, Path, PathBuf};

use palisade_abi::{Error, Origin};
use palisade_sys::fd;
use palisade_sys::mount::{self, MountAttr, MountFlags, Propagation};

use crate::error::Told;
use crate::tree::Kind;

/// `MAXSYMLINKS` of the kernel.
const MOST_LINKS: u32 = 40;

/// Something of the host that goes into the view.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Source {
    /// Its path without links.
    pub(crate) path: PathBuf,
    pub(crate) flags: MountFlags,
    pub(crate) recursive: bool,
    pub(crate) origin: Option<Origin>,
    /// Whether the opened file is compared with the path: for what the policy names. System directories are root's.
    pub(crate) checked: bool,
    /// The character device that it must be.
    pub(crate) device: Option<(u32, u32)>,
}

/// Finds a path of the host: without links, and its kind. `None` where there is nothing.
pub(crate) fn find(path: &Path) -> Result<Option<(PathBuf, Kind)>, Error> {
    let mut here = PathBuf::from("/");
    let mut rest: Vec<OsString> = components(path);
    let mut is_dir = true;
    let mut links = 0;
    // Root, or whoever root is seen as from inside a container.
    let trusted = std::fs::symlink_metadata("/")?.uid();
    while let Some(part) = rest.pop() {
        if part == ".." {
            here.pop();
            continue;
        }
        here.push(&part);
        let facts = match std::fs::symlink_metadata(&here) {
            Ok(facts) => facts,
            Err(e) if matches!(e.kind(), std::io::ErrorKind::NotFound | std::io::ErrorKind::NotADirectory) => {
                return Ok(None);
            }
            Err(e) => {
                return Err(Error::host(format!("cannot look at {}", here.display()))
                    .call(format!("lstat({here:?}): {e}"), e.raw_os_error().unwrap_or(0)));
            }
        };
        is_dir = facts.is_dir();
        if facts.is_symlink() {
            links += 1;
            if facts.uid() != trusted || links > MOST_LINKS {
                return Err(stranger(path, &here, facts.uid()));
            }
            let target = std::fs::read_link(&here)?;
            here.pop();
            if target.is_absolute() {
                here = PathBuf::from("/");
            }
            rest.extend(components(&target));
        }
    }
    Ok(Some((here, if is_dir { Kind::Dir } else { Kind::File })))
}

/// The parts of a path, the last one first.
fn components(path: &Path) -> Vec<OsString> {
    let parts = path.components().filter_map(|part| match part {
        Component::Normal(name) => Some(name.to_owned()),
        Component::ParentDir => Some(OsString::from("..")),
        Component::RootDir | Component::CurDir | Component::Prefix(_) => None,
    });
    let mut parts: Vec<_> = parts.collect();
    parts.reverse();
    parts
}

fn stranger(path: &Path, link: &Path, uid: u32) -> Error {
    let to = std::fs::read_link(link).unwrap_or_default();
    let message =
        format!("{} goes through {}, a symbolic link of uid {uid} to {}", path.display(), link.display(), to.display());
    Error::policy(message).help("a workload of an earlier run could have put it there; write the path that is meant")
}

/// Opens a path that was found: what has its name by now must be what had it then.
pub(crate) fn open_found(path: &Path, flags: i32) -> Result<OwnedFd, Error> {
    let said = || format!("cannot open {}", path.display());
    let file = fd::open_path(path, fd::O_PATH | fd::O_NOFOLLOW | flags).told(said)?;
    let found = fd::fd_path(&file).told(said)?;
    if found != path {
        return Err(Error::setup(format!("{} has become {}", path.display(), found.display()))
            .help("something changes this path while palisade starts"));
    }
    Ok(file)
}

impl Source {
    /// What the policy names.
    pub(crate) fn new(path: PathBuf, flags: MountFlags, recursive: bool, origin: Option<Origin>) -> Self {
        Self { path, flags, recursive, origin, checked: true, device: None }
    }

    fn is_its_device(&self, file: &OwnedFd) -> Result<(), Error> {
        let facts = fd::fstat(file).told(|| format!("cannot look at {}", self.path.display()))?;
        match self.device {
            Some(device) if !facts.is_char_device() || facts.device() != device => {
                let (major, minor) = device;
                let message = format!("{} is not the character device {major}:{minor}", self.path.display());
                Err(Error::setup(message).help("something changes it while palisade starts"))
            }
            _ => Ok(()),
        }
    }

    /// Clones it into a mount that is attached nowhere yet. With `early`, its attributes are set at once.
    pub(crate) fn open(&self, early: bool) -> Result<OwnedFd, Error> {
        let said = || format!("cannot open {} for the view", self.path.display());
        let tree = if self.checked {
            let file = open_found(&self.path, 0).map_err(|error| error.at(self.origin))?;
            self.is_its_device(&file).map_err(|error| error.at(self.origin))?;
            mount::open_tree_fd(&file, self.recursive)
        } else {
            mount::open_tree_clone(fd::CWD, &self.path, self.recursive)
        };
        let tree = tree.told(said).map_err(|error| error.at(self.origin))?;
        if early {
            self.apply_attr(&tree)?;
        }
        Ok(tree)
    }

    /// Sets the attributes: the flags, and that nothing is shared with the host.
    pub(crate) fn apply_attr(&self, tree: &OwnedFd) -> Result<(), Error> {
        let attr = MountAttr { propagation: Some(Propagation::Private), ..MountAttr::set(self.flags) };
        mount::set_attr(tree, self.recursive, attr)
            .told(|| format!("cannot make {} {}", self.path.display(), self.flags))
            .map_err(|error| error.at(self.origin))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_there_is_found_without_links() {
        assert_eq!(find(Path::new("/usr/./bin")).unwrap(), Some((PathBuf::from("/usr/bin"), Kind::Dir)));
        assert_eq!(find(Path::new("/no/such/thing")).unwrap(), None);
        assert_eq!(find(Path::new("/")).unwrap(), Some((PathBuf::from("/"), Kind::Dir)));
        // A link of root, as /proc/self is.
        let own = find(Path::new("/proc/self/status")).unwrap().unwrap();
        assert_eq!(own, (PathBuf::from(format!("/proc/{}/status", std::process::id())), Kind::File));
    }

    /// What git is sent elsewhere by was looked for by name: a link put in the way made that another directory.
    #[test]
    fn what_was_found_is_not_opened_through_a_link_that_came_later() {
        let dir = std::env::temp_dir().join(format!("palisade-found-{}", std::process::id()));
        std::fs::create_dir_all(dir.join("a/git")).unwrap();
        let (found, _) = find(&dir.join("a/git")).unwrap().unwrap();
        let before = open_found(&found, fd::O_DIRECTORY);
        std::fs::rename(dir.join("a"), dir.join("b")).unwrap();
        std::os::unix::fs::symlink("b", dir.join("a")).unwrap();
        let after = open_found(&found, fd::O_DIRECTORY);
        std::fs::remove_dir_all(&dir).unwrap();
        assert!(before.is_ok());
        let error = after.unwrap_err();
        assert!(error.message.contains("has become"), "{}", error.message);
    }

    /// A workload that replaced its output directory by a link would get what the link points to in the next run.
    #[test]
    fn a_link_of_somebody_else_is_not_followed() {
        let dir = std::env::temp_dir().join(format!("palisade-source-{}", std::process::id()));
        std::fs::create_dir(&dir).unwrap();
        let link = dir.join("out");
        std::os::unix::fs::symlink("/etc", &link).unwrap();
        if palisade_sys::process::getuid() == 0 {
            std::os::unix::fs::lchown(&link, Some(1234), Some(1234)).unwrap();
        }
        let found = find(&link);
        std::fs::remove_dir_all(&dir).unwrap();
        let error = found.unwrap_err();
        assert!(error.message.contains("symbolic link of uid"), "{}", error.message);
    }
}
