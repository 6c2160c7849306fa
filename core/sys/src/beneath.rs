//! The one way to touch paths inside a tree that somebody else may write.
//!
//! A path is resolved by the kernel with the tree as its root: an absolute symbolic link starts at
//! the tree, `..` stops there, and magic links are refused. The result is a descriptor, and what
//! follows (a mount, a write) is done on the descriptor, so there is no moment in which the path can
//! be exchanged (CVE-2021-30465, CVE-2024-45310).

use std::os::fd::{AsFd, BorrowedFd, FromRawFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::{Component, Path, PathBuf};

use nix::errno::Errno;

use crate::error::{Error, OrCall, Result};
use crate::{fd, raw};

/// `struct open_how` of openat2(2).
#[repr(C)]
struct OpenHow {
    flags: u64,
    mode: u64,
    resolve: u64,
}

/// How often a resolution that raced with a rename is tried again before it counts as an attack.
const RACES: usize = 64;

const RESOLVE_NAMES: &[(u64, &str)] = &[
    (libc::RESOLVE_IN_ROOT, "RESOLVE_IN_ROOT"),
    (libc::RESOLVE_BENEATH, "RESOLVE_BENEATH"),
    (libc::RESOLVE_NO_XDEV, "RESOLVE_NO_XDEV"),
    (libc::RESOLVE_NO_MAGICLINKS, "RESOLVE_NO_MAGICLINKS"),
    (libc::RESOLVE_NO_SYMLINKS, "RESOLVE_NO_SYMLINKS"),
];

/// Opens with openat2(2), close-on-exec.
///
/// Since: 5.6. Fails: EXDEV and ELOOP when the path breaks a rule of `resolve`, EAGAIN when renames
/// keep racing with it.
pub(crate) fn openat2(dir: BorrowedFd<'_>, path: &Path, flags: i32, resolve: u64) -> Result<OwnedFd> {
    let call = || {
        let (flags, resolve) = (fd::show_open_flags(flags), raw::show_flags(resolve, RESOLVE_NAMES));
        format!("openat2({}, {path:?}, {flags}, {resolve})", raw::show_fd(dir))
    };
    let name = std::ffi::CString::new(path.as_os_str().as_bytes()).map_err(|_e| Error::new(Errno::EINVAL, call()))?;
    let how = OpenHow { flags: u64::from((flags | libc::O_CLOEXEC).cast_unsigned()), mode: 0, resolve };
    let args = [raw::fd(dir), raw::ptr(name.as_ptr()), raw::ptr(&raw const how), size_of::<OpenHow>(), 0];
    for _ in 0..RACES {
        // SAFETY: `name` ends in NUL and `how` is the kernel's version 0 struct of the size given; upheld by CString and repr(C); else the kernel reads past them.
        match unsafe { raw::syscall(libc::SYS_openat2, args) }.and_then(raw::small) {
            Err(Errno::EAGAIN | Errno::EINTR) => {}
            // SAFETY: `number` is open and nobody else's; upheld by the kernel, which has just made it; else two owners close it.
            Ok(number) => return Ok(unsafe { OwnedFd::from_raw_fd(number) }),
            Err(errno) => return Err(Error::new(errno, call())),
        }
    }
    Err(Error::new(Errno::EAGAIN, call()).with_hint("something keeps renaming parts of this path"))
}

/// Opens a path that goes through no symbolic link at all, close-on-exec.
///
/// For what will be trusted by its name: nobody can have pointed it elsewhere. Since: 5.6. Fails: ELOOP
/// when a component is a link; else as openat2(2).
pub fn open_without_links(path: impl AsRef<Path>, flags: i32) -> Result<OwnedFd> {
    openat2(fd::CWD, path.as_ref(), flags, libc::RESOLVE_NO_SYMLINKS | libc::RESOLVE_NO_MAGICLINKS)
}

/// A directory that is the root for every path given to it.
#[derive(Debug)]
pub struct Root(OwnedFd);

impl AsFd for Root {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

impl Root {
    /// Takes a directory (an `O_PATH` descriptor is enough) as the root.
    #[must_use]
    pub fn from_fd(fd: OwnedFd) -> Self {
        Self(fd)
    }

    /// Gives the directory back.
    #[must_use]
    pub fn into_fd(self) -> OwnedFd {
        self.0
    }

    /// Opens a path inside the root; symbolic links are followed as if the root were `/`.
    ///
    /// Since: 5.6. Fails: ELOOP for a magic link; else as openat2(2).
    pub fn open(&self, path: impl AsRef<Path>, flags: i32) -> Result<OwnedFd> {
        let resolve = libc::RESOLVE_IN_ROOT | libc::RESOLVE_NO_MAGICLINKS;
        openat2(self.as_fd(), inside(path.as_ref()), flags, resolve)
    }

    /// Gives the path from the root on that a path leads to once every link is followed, as the kernel tells it.
    ///
    /// Fails: as [`Root::open`].
    pub fn real(&self, path: impl AsRef<Path>) -> Result<PathBuf> {
        let (here, root) = (fd::fd_path(self.open(path, libc::O_PATH)?)?, fd::fd_path(self)?);
        Ok(here.strip_prefix(&root).map(|rest| Path::new("/").join(rest)).unwrap_or(here))
    }

    /// Says whether a path exists inside the root; a dangling symbolic link does not.
    ///
    /// Fails: as [`Root::open`], except ENOENT and ENOTDIR.
    pub fn exists(&self, path: impl AsRef<Path>) -> Result<bool> {
        match self.open(path, libc::O_PATH) {
            Ok(_) => Ok(true),
            Err(error) if matches!(error.kind(), Errno::ENOENT | Errno::ENOTDIR) => Ok(false),
            Err(error) => Err(error),
        }
    }

    /// Opens a directory inside the root and makes it and its parents where they lack; `mode` is less
    /// the umask and goes to the new ones only.
    ///
    /// Each missing directory is made in its parent's descriptor and opened without following a link,
    /// so a link that appears in between is an error, never a way out. Fails: EINVAL for `..`, ENOTDIR
    /// for a name that is no directory or is a dangling link. mkdirat(2), openat2(2).
    pub fn mkdir_all(&self, path: impl AsRef<Path>, mode: u32) -> Result<OwnedFd> {
        let path = path.as_ref();
        let flags = libc::O_PATH | libc::O_DIRECTORY;
        match self.open(path, flags) {
            Err(error) if error.kind() == Errno::ENOENT => {}
            found => return found,
        }
        let mut here = fd::dup_cloexec(&self.0)?;
        let mut done = PathBuf::new();
        for component in path.components() {
            let name = match component {
                Component::Normal(name) => Path::new(name),
                Component::ParentDir => {
                    let call = format!("mkdirat({}, {path:?})", raw::show_fd(self.as_fd()));
                    return Err(Error::new(Errno::EINVAL, call).with_hint("write the path without .."));
                }
                Component::RootDir | Component::CurDir | Component::Prefix(_) => continue,
            };
            done.push(name);
            here = match self.open(&done, flags) {
                Err(error) if error.kind() == Errno::ENOENT => make_dir(&here, name, mode)?,
                found => found?,
            };
        }
        Ok(here)
    }

    /// Makes a new file with this content, and its parents (mode 0755); the umask applies.
    ///
    /// Fails: EEXIST when the name exists in any form, a symbolic link too. openat(2).
    pub fn create_file(&self, path: impl AsRef<Path>, mode: u32, bytes: &[u8]) -> Result<()> {
        let path = path.as_ref();
        let (parent, name) = self.parent(path)?;
        let flags = libc::O_WRONLY | libc::O_CREAT | libc::O_EXCL | libc::O_NOFOLLOW;
        let file = fd::open_at_mode(&parent, &name, flags, mode)?;
        let mut rest = bytes;
        while !rest.is_empty() {
            let n = nix::unistd::write(&file, rest).or_call(|| format!("write({path:?}, {} bytes)", rest.len()))?;
            rest = rest.get(n..).unwrap_or_default();
        }
        Ok(())
    }

    /// Opens what is there, or makes an empty file to mount on; gives an `O_PATH` descriptor.
    ///
    /// Fails: EISDIR when a directory is there; else as [`Root::create_file`].
    pub fn ensure_file(&self, path: impl AsRef<Path>, mode: u32) -> Result<OwnedFd> {
        let path = path.as_ref();
        let found = match self.open(path, libc::O_PATH) {
            Err(error) if error.kind() == Errno::ENOENT => {
                self.create_file(path, mode, b"")?;
                self.open(path, libc::O_PATH)?
            }
            found => found?,
        };
        if fd::fstat(&found)?.is_dir() {
            return Err(Error::new(
                Errno::EISDIR,
                format!("openat2({}, {path:?}, O_PATH)", raw::show_fd(self.as_fd())),
            ));
        }
        Ok(found)
    }

    /// Makes a symbolic link, and its parents (mode 0755); the target is text and is not resolved.
    ///
    /// Fails: EEXIST when the name exists in any form. symlinkat(2).
    pub fn symlink(&self, target: impl AsRef<Path>, path: impl AsRef<Path>) -> Result<()> {
        let (target, path) = (target.as_ref(), path.as_ref());
        let (parent, name) = self.parent(path)?;
        nix::unistd::symlinkat(target, &parent, &name)
            .or_call(|| format!("symlinkat({target:?}, {}, {name:?})", raw::show_fd(parent.as_fd())))
    }

    /// Opens (and makes) the directory of a path; gives it and the last name.
    fn parent(&self, path: &Path) -> Result<(OwnedFd, PathBuf)> {
        let call = || format!("openat2({}, {path:?})", raw::show_fd(self.as_fd()));
        let name = path.file_name().ok_or_else(|| {
            Error::new(Errno::EINVAL, call()).with_hint("the path must end in a name, not in / or ..")
        })?;
        let parent = self.mkdir_all(path.parent().unwrap_or(Path::new("")), 0o755)?;
        Ok((parent, PathBuf::from(name)))
    }
}

/// Gives `.` for an empty path, which openat2 would refuse.
fn inside(path: &Path) -> &Path {
    if path.as_os_str().is_empty() { Path::new(".") } else { path }
}

/// Makes one directory and opens it without following a link.
fn make_dir(parent: &OwnedFd, name: &Path, mode: u32) -> Result<OwnedFd> {
    match fd::mkdir_at(parent, name, mode) {
        // Somebody else was faster; the open below finds out what it is.
        Err(error) if error.kind() == Errno::EEXIST => {}
        other => other?,
    }
    let resolve = libc::RESOLVE_NO_SYMLINKS | libc::RESOLVE_BENEATH;
    openat2(parent.as_fd(), name, libc::O_PATH | libc::O_DIRECTORY | libc::O_NOFOLLOW, resolve)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A root with a file outside it, removed at the end.
    struct Scratch(PathBuf);

    impl Scratch {
        fn new(name: &str) -> (Self, Root) {
            let base = std::env::temp_dir().join(format!("palisade-beneath-{name}-{}", std::process::id()));
            std::fs::create_dir_all(base.join("root/etc")).unwrap();
            std::fs::create_dir_all(base.join("outside")).unwrap();
            std::fs::write(base.join("outside/secret"), "secret").unwrap();
            let root = Root::from_fd(fd::open_path(base.join("root"), libc::O_PATH | libc::O_DIRECTORY).unwrap());
            (Self(base), root)
        }

        fn link(&self, target: &str, name: &str) {
            std::os::unix::fs::symlink(target, self.0.join("root").join(name)).unwrap();
        }
    }

    impl Drop for Scratch {
        fn drop(&mut self) {
            std::fs::remove_dir_all(&self.0).unwrap();
        }
    }

    #[test]
    fn a_link_out_of_the_root_stays_inside() {
        let (scratch, root) = Scratch::new("out");
        scratch.link("../outside", "relative");
        scratch.link(scratch.0.join("outside").to_str().unwrap(), "absolute");
        for name in ["relative/secret", "absolute/secret", "../outside/secret", "/../outside/secret"] {
            assert_eq!(root.open(name, libc::O_RDONLY).unwrap_err().kind(), Errno::ENOENT, "{name}");
        }
        // Making a directory through the dangling link must not make it outside, either.
        assert!(root.mkdir_all("absolute/new", 0o755).is_err());
        assert!(root.create_file("relative/new", 0o644, b"x").is_err());
        assert_eq!(std::fs::read_dir(scratch.0.join("outside")).unwrap().count(), 1);
    }

    #[test]
    fn a_link_inside_the_root_is_followed() {
        let (scratch, root) = Scratch::new("in");
        std::fs::create_dir_all(scratch.0.join("root/usr/lib")).unwrap();
        scratch.link("/usr/lib", "lib");
        root.mkdir_all("lib/deep/er", 0o755).unwrap();
        assert!(scratch.0.join("root/usr/lib/deep/er").is_dir());
    }

    #[test]
    fn a_magic_link_is_refused() {
        let root = Root::from_fd(fd::open_path("/proc", libc::O_PATH | libc::O_DIRECTORY).unwrap());
        assert_eq!(root.open("self/cwd", libc::O_PATH).unwrap_err().kind(), Errno::ELOOP);
    }

    #[test]
    fn a_file_is_made_once_with_its_parents() {
        let (scratch, root) = Scratch::new("file");
        root.create_file("a/b/c", 0o600, b"text").unwrap();
        assert_eq!(std::fs::read(scratch.0.join("root/a/b/c")).unwrap(), b"text");
        assert_eq!(root.create_file("a/b/c", 0o600, b"").unwrap_err().kind(), Errno::EEXIST);
        root.symlink("c", "a/b/d").unwrap();
        assert!(root.exists("a/b/d").unwrap());
        assert!(!root.exists("a/b/c/no").unwrap());
        assert!(!fd::fstat(root.ensure_file("a/new", 0o644).unwrap()).unwrap().is_dir());
        assert_eq!(root.ensure_file("a", 0o644).unwrap_err().kind(), Errno::EISDIR);
        assert_eq!(root.mkdir_all("x/../y", 0o755).unwrap_err().kind(), Errno::EINVAL);
    }
}
