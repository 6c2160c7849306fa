//! The attributes of this process that prctl and its kin change.

use std::ffi::CString;

use nix::errno::Errno;
use nix::sys::prctl;
use nix::sys::signal::Signal;

use crate::error::{Error, OrCall, Result};
use crate::{fd, raw};

/// Uid 0 gives no capabilities.
pub const SECBIT_NOROOT: u32 = 1 << 0;
/// Locks [`SECBIT_NOROOT`].
pub const SECBIT_NOROOT_LOCKED: u32 = 1 << 1;
/// A change of uid does not change the sets.
pub const SECBIT_NO_SETUID_FIXUP: u32 = 1 << 2;
/// Locks [`SECBIT_NO_SETUID_FIXUP`].
pub const SECBIT_NO_SETUID_FIXUP_LOCKED: u32 = 1 << 3;
/// Permitted survives leaving uid 0.
pub const SECBIT_KEEP_CAPS: u32 = 1 << 4;
/// Locks [`SECBIT_KEEP_CAPS`].
pub const SECBIT_KEEP_CAPS_LOCKED: u32 = 1 << 5;
/// Ambient cannot grow.
pub const SECBIT_NO_CAP_AMBIENT_RAISE: u32 = 1 << 6;
/// Locks [`SECBIT_NO_CAP_AMBIENT_RAISE`].
pub const SECBIT_NO_CAP_AMBIENT_RAISE_LOCKED: u32 = 1 << 7;

/// The id of this process. getpid(2).
#[must_use]
pub fn getpid() -> i32 {
    nix::unistd::getpid().as_raw()
}

/// The id of the parent, 0 when it is outside this pid namespace. getppid(2).
#[must_use]
pub fn getppid() -> i32 {
    nix::unistd::getppid().as_raw()
}

/// The real uid. getuid(2).
#[must_use]
pub fn getuid() -> u32 {
    nix::unistd::getuid().as_raw()
}

/// The effective uid. geteuid(2).
#[must_use]
pub fn euid() -> u32 {
    nix::unistd::geteuid().as_raw()
}

/// The real gid. getgid(2).
#[must_use]
pub fn getgid() -> u32 {
    nix::unistd::getgid().as_raw()
}

/// The effective gid. getegid(2).
#[must_use]
pub fn egid() -> u32 {
    nix::unistd::getegid().as_raw()
}

/// Asks for a signal when the parent thread ends; 0 asks for none.
///
/// Reset by a change of ids and by execve of a set-user-ID file. The parent may have ended already:
/// check with [`getppid`] afterwards. PR_SET_PDEATHSIG(2const).
pub fn set_pdeathsig(signal: i32) -> Result<()> {
    let call = || format!("prctl(PR_SET_PDEATHSIG, {})", crate::signal::show(signal));
    let wanted = if signal == 0 { None } else { Some(Signal::try_from(signal).or_call(call)?) };
    prctl::set_pdeathsig(wanted).or_call(call)
}

/// Says whether others may trace this process and read its procfs files as its owner.
///
/// Reset by execve, and by a change of ids to sysctl fs.suid_dumpable. PR_SET_DUMPABLE(2const).
pub fn set_dumpable(dumpable: bool) -> Result<()> {
    prctl::set_dumpable(dumpable).or_call(|| format!("prctl(PR_SET_DUMPABLE, {})", i32::from(dumpable)))
}

/// Reads what [`set_dumpable`] set. PR_GET_DUMPABLE(2const).
pub fn dumpable() -> Result<bool> {
    prctl::get_dumpable().or_call(|| "prctl(PR_GET_DUMPABLE)".to_owned())
}

/// Makes execve unable to give privileges, for good and for all descendants. PR_SET_NO_NEW_PRIVS(2const).
pub fn set_no_new_privs() -> Result<()> {
    prctl::set_no_new_privs().or_call(|| "prctl(PR_SET_NO_NEW_PRIVS, 1)".to_owned())
}

/// Reads whether execve can give privileges no more. PR_GET_NO_NEW_PRIVS(2const).
pub fn no_new_privs() -> Result<bool> {
    prctl::get_no_new_privs().or_call(|| "prctl(PR_GET_NO_NEW_PRIVS)".to_owned())
}

/// Lets permitted capabilities survive leaving uid 0, until execve.
///
/// Fails: EPERM when the bit is locked. PR_SET_KEEPCAPS(2const).
pub fn keep_caps(keep: bool) -> Result<()> {
    prctl::set_keepcaps(keep).or_call(|| format!("prctl(PR_SET_KEEPCAPS, {})", i32::from(keep)))
}

/// Sets the secure bits.
///
/// Needs: CAP_SETPCAP. Fails: EPERM for a locked one. PR_SET_SECUREBITS(2const).
pub fn set_securebits(bits: u32) -> Result<()> {
    let args = [raw::int(libc::PR_SET_SECUREBITS), raw::word(u64::from(bits)), 0, 0, 0];
    // SAFETY: this request takes no pointer; upheld by PR_SET_SECUREBITS(2const); else nothing is touched.
    unsafe { raw::syscall(libc::SYS_prctl, args) }.map(drop).or_call(|| format!("prctl(PR_SET_SECUREBITS, {bits:#x})"))
}

/// Reads the secure bits. PR_GET_SECUREBITS(2const).
pub fn securebits() -> Result<u32> {
    let args = [raw::int(libc::PR_GET_SECUREBITS), 0, 0, 0, 0];
    // SAFETY: this request takes no pointer; upheld by PR_GET_SECUREBITS(2const); else nothing is touched.
    let bits = unsafe { raw::syscall(libc::SYS_prctl, args) }.and_then(raw::small);
    bits.map(i32::cast_unsigned).or_call(|| "prctl(PR_GET_SECUREBITS)".to_owned())
}

/// Makes orphaned descendants children of this process. PR_SET_CHILD_SUBREAPER(2const).
pub fn set_child_subreaper(on: bool) -> Result<()> {
    prctl::set_child_subreaper(on).or_call(|| format!("prctl(PR_SET_CHILD_SUBREAPER, {})", i32::from(on)))
}

/// Whether orphaned descendants become children of this process. PR_GET_CHILD_SUBREAPER(2const).
pub fn is_child_subreaper() -> Result<bool> {
    prctl::get_child_subreaper().or_call(|| "prctl(PR_GET_CHILD_SUBREAPER)".to_owned())
}

/// Starts a session without a terminal.
///
/// Fails: EPERM when this process leads a group already. setsid(2).
pub fn setsid() -> Result<()> {
    nix::unistd::setsid().map(drop).or_call(|| "setsid()".to_owned())
}

/// Sets the name that ps shows, cut to 15 bytes. PR_SET_NAME(2const).
pub fn set_name(name: &str) -> Result<()> {
    let call = || format!("prctl(PR_SET_NAME, {name:?})");
    let text = CString::new(name).map_err(|_e| Errno::EINVAL).or_call(call)?;
    prctl::set_name(&text).or_call(call)
}

/// Replaces the command line that others read of this process by one word.
///
/// It is memory of the process itself, and the kernel shows it to everybody who sees the process, dumpable or
/// not. Arguments must not be read afterwards. Needs: a procfs on /proc. Fails: EPROTO when it cannot be read
/// as one. proc_pid_cmdline(5), proc_pid_stat(5).
pub fn set_command_line(word: &str) -> Result<()> {
    let call = || "read(\"/proc/self/stat\")".to_owned();
    let text = fd::read_all(fd::open_path("/proc/self/stat", fd::O_RDONLY)?)?;
    let text = String::from_utf8_lossy(&text);
    // arg_start and arg_end are the 48th and 49th field; the third is the first behind the name in brackets.
    let mut fields =
        text.rsplit_once(')').map(|(_, fields)| fields.split_ascii_whitespace().skip(45)).into_iter().flatten();
    let mut address = || fields.next()?.parse::<usize>().ok().filter(|address| *address != 0);
    let (Some(start), Some(end)) = (address(), address()) else { return Err(Error::new(Errno::EPROTO, call())) };
    let bytes = word.bytes().chain(std::iter::repeat(0));
    for (at, byte) in (start..end).zip(bytes) {
        let place: *mut u8 = std::ptr::with_exposed_provenance_mut(at);
        // SAFETY: the byte is one of the process's argument area, which is ordinary stack memory; upheld by the kernel, which laid it out there and says where; else other memory is overwritten.
        unsafe { place.write_volatile(byte) };
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn attributes_agree_with_proc() {
        let status = crate::procfs::Proc::host().unwrap().own().unwrap().status().unwrap();
        assert_eq!(no_new_privs().unwrap(), status.no_new_privs);
        assert_eq!((getuid(), euid()), (status.uid[0], status.uid[1]));
        assert_eq!((getgid(), egid()), (status.gid[0], status.gid[1]));
        assert_eq!(getppid(), status.parent);
        securebits().unwrap();
    }

    #[test]
    fn an_unknown_signal_is_refused() {
        assert_eq!(set_pdeathsig(999).unwrap_err().kind(), Errno::EINVAL);
    }
}
