//! Opening a rule's path without being led astray.
//!
//! A grant is given by name, and a symbolic link in the name hands the decision to whoever can write the link: a
//! repository with `target -> /home/me/.ssh` would have its cage widened by the policy's `Write("${project}/target")`.
//! Links of the system (`/bin -> usr/bin`) must work, though. So a link is followed only if it lies directly below `/`
//! or in a directory that the workload's own ids cannot write.

use palisade_abi::Error;
use palisade_abi::ErrorContext as _;
use palisade_sys::{Errno, beneath, fd};
use std::collections::VecDeque;
use std::ffi::OsString;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};

/// The kernel's own limit (`MAXSYMLINKS`).
const MOST_LINKS: usize = 40;

/// Opens a path for a rule; `None` where there is nothing.
pub(crate) fn open(path: &Path) -> Result<Option<OwnedFd>, Error> {
    match beneath::open_without_links(path, fd::O_PATH) {
        Ok(handle) => Ok(Some(handle)),
        Err(e) if e.kind() == Errno::ELOOP => follow(path),
        Err(e) if absent(&e) => Ok(None),
        Err(e) => Err(e).doing(|| format!("cannot open {} for a rule", path.display())),
    }
}

fn absent(error: &palisade_sys::Error) -> bool {
    matches!(error.kind(), Errno::ENOENT | Errno::ENOTDIR)
}

fn follow(path: &Path) -> Result<Option<OwnedFd>, Error> {
    let told = |e: palisade_sys::Error| Err(e).doing(|| format!("cannot see where {} leads", path.display()));
    let (real, links) = match walk(path) {
        Ok(walked) => walked,
        Err(e) if absent(&e) => return Ok(None),
        Err(e) => return told(e),
    };
    for link in &links {
        let parent = link.parent().unwrap_or(Path::new("/"));
        if parent != Path::new("/") && fd::may_write(parent).is_ok() {
            let (path, link) = (path.display(), link.display());
            return Err(Error::setup(format!("the rule for {path} goes through the symbolic link {link}")).help(
                format!(
                    "who can write {} can point it elsewhere and so widen the rule; name the place itself: {}",
                    parent.display(),
                    real.display()
                ),
            ));
        }
    }
    // No link is left in it; should one have appeared in between, this fails.
    match beneath::open_without_links(&real, fd::O_PATH) {
        Ok(handle) => Ok(Some(handle)),
        Err(e) if absent(&e) => Ok(None),
        Err(e) => told(e),
    }
}

/// Finds where a path leads, and the links on the way, each by its own real path.
fn walk(path: &Path) -> palisade_sys::Result<(PathBuf, Vec<PathBuf>)> {
    let mut done = PathBuf::from("/");
    let mut links = Vec::new();
    let mut rest: VecDeque<OsString> = path.iter().map(OsString::from).collect();
    while let Some(name) = rest.pop_front() {
        match name.to_str() {
            Some("/") => done = PathBuf::from("/"),
            Some(".") => {}
            Some("..") => {
                done.pop();
            }
            _ => {
                let here = done.join(&name);
                match fd::readlink_at(fd::CWD, &here) {
                    Ok(target) => {
                        links.push(here.clone());
                        if links.len() > MOST_LINKS {
                            return Err(palisade_sys::Error::new(Errno::ELOOP, format!("readlinkat({here:?})")));
                        }
                        for part in Path::new(&target).iter().rev() {
                            rest.push_front(part.to_owned());
                        }
                    }
                    Err(e) if e.kind() == Errno::EINVAL => done = here,
                    Err(e) => return Err(e),
                }
            }
        }
    }
    Ok((done, links))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;
    use std::os::unix::fs::symlink;

    /// What the kernel's wrapper knows of a failure reaches the report: the call, its errno and the advice.
    #[test]
    fn a_failed_call_keeps_its_errno_and_its_advice() {
        let failed = palisade_sys::Error::new(Errno::EPERM, "capset()").with_hint("run as root");
        let error = Err::<(), _>(failed).doing(|| "cannot lock the door").unwrap_err();
        assert_eq!(error.message, "cannot lock the door");
        assert_eq!(error.call, "capset() = EPERM (Operation not permitted)");
        assert_eq!((error.errno, error.help.as_str()), (1, "run as root"));
    }

    struct Dir(PathBuf);

    impl Dir {
        fn new(name: &str) -> Self {
            let dir = std::env::temp_dir().join(format!("palisade-test-{}-{name}", std::process::id()));
            fs::create_dir_all(dir.join("real/sub")).unwrap();
            Self(dir)
        }
    }

    impl Drop for Dir {
        fn drop(&mut self) {
            fs::remove_dir_all(&self.0).unwrap();
        }
    }

    #[test]
    fn a_link_that_the_workload_could_replace_is_refused() {
        let dir = Dir::new("links");
        symlink("real", dir.0.join("link")).unwrap();
        assert!(open(&dir.0.join("real/sub")).unwrap().is_some());
        let error = open(&dir.0.join("link/sub")).unwrap_err();
        assert!(error.message.contains("symbolic link"), "{}", error.message);
        assert!(error.help.ends_with("real/sub"), "{}", error.help);
    }

    #[test]
    fn the_walk_names_every_link() {
        let dir = Dir::new("walk");
        symlink("../link2", dir.0.join("real/up")).unwrap();
        symlink(dir.0.join("real/sub"), dir.0.join("link2")).unwrap();
        let (real, links) = walk(&dir.0.join("real/./up")).unwrap();
        assert_eq!(real, dir.0.join("real/sub"));
        assert_eq!(links, [dir.0.join("real/up"), dir.0.join("link2")]);
    }

    #[test]
    fn a_circle_of_links_is_an_error_and_a_hole_is_not() {
        let dir = Dir::new("circle");
        symlink("circle", dir.0.join("circle")).unwrap();
        assert_eq!(open(&dir.0.join("circle")).unwrap_err().errno, Errno::ELOOP as i32);
        symlink("nowhere", dir.0.join("dangling")).unwrap();
        assert!(open(&dir.0.join("dangling")).unwrap().is_none());
        assert!(open(&dir.0.join("real/none/none")).unwrap().is_none());
    }

    #[test]
    fn links_directly_below_the_root_are_followed() {
        // On a merged /usr; elsewhere /bin is a directory, and opens as one.
        assert!(open(Path::new("/bin")).unwrap().is_some());
    }
}
