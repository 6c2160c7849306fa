//! New file systems through a context: fsopen, fsconfig, fsmount.

use std::ffi::CString;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd};

use nix::errno::Errno;

use crate::error::{Error, OrCall, Result};
use crate::mount_flags::MountFlags;
use crate::raw;

const FSOPEN_CLOEXEC: i32 = 1;
const FSMOUNT_CLOEXEC: i32 = 1;
const FSCONFIG_SET_FLAG: i32 = 0;
const FSCONFIG_SET_STRING: i32 = 1;
const FSCONFIG_SET_FD: i32 = 5;
const FSCONFIG_CMD_CREATE: i32 = 6;

/// A file system that is being configured; [`Fs::create`] makes it and gives a detached mount.
///
/// On failure the kernel's own messages about the context stand in the error's detail.
#[derive(Debug)]
pub struct Fs {
    kind: String,
    fd: OwnedFd,
}

impl Fs {
    /// Begins a file system of a type such as `tmpfs`.
    ///
    /// Since: 5.2. Needs: CAP_SYS_ADMIN in the mount namespace's user namespace. Fails: ENODEV when
    /// the kernel does not have it. fsopen(2).
    pub fn new(kind: &str) -> Result<Self> {
        let call = || format!("fsopen({kind:?}, FSOPEN_CLOEXEC)");
        let name = c_string(kind).or_call(call)?;
        let args = [raw::ptr(name.as_ptr()), raw::int(FSOPEN_CLOEXEC), 0, 0, 0];
        // SAFETY: `name` ends in NUL and outlives the call; upheld by CString; else the kernel reads past it.
        let new = unsafe { raw::syscall(libc::SYS_fsopen, args) }.and_then(raw::small).or_call(call)?;
        // SAFETY: `new` is open and nobody else's; upheld by the kernel, which has just made it; else two owners close it.
        Ok(Self { kind: kind.to_owned(), fd: unsafe { OwnedFd::from_raw_fd(new) } })
    }

    /// Sets a parameter.
    ///
    /// Fails: EINVAL for one that the file system does not know. fsconfig(2).
    pub fn set(self, key: &str, value: &str) -> Result<Self> {
        let call = || format!("fsconfig({}, SET_STRING, {key:?}, {value:?})", self.kind);
        let c_value = c_string(value).or_call(call)?;
        self.config(FSCONFIG_SET_STRING, Some(key), raw::ptr(c_value.as_ptr()), 0)
            .map_err(|e| self.explain(e, call))?;
        Ok(self)
    }

    /// Sets a parameter that has no value.
    ///
    /// Fails: EINVAL for one that the file system does not know. fsconfig(2).
    pub fn flag(self, key: &str) -> Result<Self> {
        let call = || format!("fsconfig({}, SET_FLAG, {key:?})", self.kind);
        self.config(FSCONFIG_SET_FLAG, Some(key), 0, 0).map_err(|e| self.explain(e, call))?;
        Ok(self)
    }

    /// Sets a parameter to an open file.
    ///
    /// Fails: EINVAL where the file system does not take one. fsconfig(2).
    pub fn set_fd(self, key: &str, value: impl AsFd) -> Result<Self> {
        let value = value.as_fd();
        let call = || format!("fsconfig({}, SET_FD, {key:?}, {})", self.kind, raw::show_fd(value));
        self.config(FSCONFIG_SET_FD, Some(key), 0, value.as_raw_fd()).map_err(|e| self.explain(e, call))?;
        Ok(self)
    }

    /// Makes the file system and gives a mount of it that is attached nowhere.
    ///
    /// Since: 5.2. Fails: EPERM when the user namespace may not have this one; EINVAL for parameters
    /// that do not go together. fsmount(2).
    pub fn create(self, flags: MountFlags) -> Result<OwnedFd> {
        self.config(FSCONFIG_CMD_CREATE, None, 0, 0)
            .map_err(|e| self.explain(e, || format!("fsconfig({}, CMD_CREATE)", self.kind)))?;
        let call = || format!("fsmount({}, FSMOUNT_CLOEXEC, [{flags}])", self.kind);
        let args = [raw::fd(self.fd.as_fd()), raw::int(FSMOUNT_CLOEXEC), raw::word(flags.bits()), 0, 0];
        // SAFETY: fsmount takes no pointer; upheld by its man page; else nothing, since the fd is borrowed.
        let new =
            unsafe { raw::syscall(libc::SYS_fsmount, args) }.and_then(raw::small).map_err(|e| self.explain(e, call))?;
        // SAFETY: `new` is open and nobody else's; upheld by the kernel, which has just made it; else two owners close it.
        Ok(unsafe { OwnedFd::from_raw_fd(new) })
    }

    fn config(&self, command: i32, key: Option<&str>, value: usize, aux: i32) -> nix::Result<()> {
        let key = key.map(c_string).transpose()?;
        let key = key.as_ref().map_or(0, |key| raw::ptr(key.as_ptr()));
        let args = [raw::fd(self.fd.as_fd()), raw::int(command), key, value, raw::int(aux)];
        // SAFETY: `key` and `value` are 0 or point to a string that ends in NUL; upheld by the four callers above; else the kernel reads past them.
        unsafe { raw::syscall(libc::SYS_fsconfig, args) }.map(drop)
    }

    fn explain(&self, errno: Errno, call: impl FnOnce() -> String) -> Error {
        let error = Error::new(errno, call());
        let said = messages(self.fd.as_fd());
        if said.is_empty() { error } else { error.with_detail(said.join("; ")) }
    }
}

/// Reads what the kernel noted about a context: one message a read, `e `, `w ` or `i ` before the text.
fn messages(fd: BorrowedFd<'_>) -> Vec<String> {
    let mut all = Vec::new();
    let mut buffer = [0_u8; 1024];
    while let Ok(n) = nix::unistd::read(fd, &mut buffer) {
        if n == 0 {
            break;
        }
        let text = String::from_utf8_lossy(buffer.get(..n).unwrap_or_default()).trim_end().to_owned();
        all.push(text.split_once(' ').map_or(text.clone(), |(_, said)| said.to_owned()));
    }
    all
}

fn c_string(text: &str) -> nix::Result<CString> {
    CString::new(text).map_err(|_e| Errno::EINVAL)
}
