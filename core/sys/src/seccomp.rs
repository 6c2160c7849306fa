//! System call filters: handing them to the kernel, and asking what it can do. seccomp(2).

use std::os::fd::{FromRawFd, OwnedFd};

use nix::errno::Errno;

use crate::error::{Error, OrCall, Result};
use crate::raw;

pub use crate::init_filter::confine_init;

/// Applies the filter to all threads.
pub const FLAG_TSYNC: u32 = 1 << 0;
/// Logs what is not allowed, errno answers excepted.
pub const FLAG_LOG: u32 = 1 << 1;
/// Leaves speculative store bypass as it is.
pub const FLAG_SPEC_ALLOW: u32 = 1 << 2;
/// Gives a descriptor for user notifications. Since: 5.0.
pub const FLAG_NEW_LISTENER: u32 = 1 << 3;
/// Lets a failed TSYNC be ESRCH, so that it goes with a listener. Since: 5.7.
pub const FLAG_TSYNC_ESRCH: u32 = 1 << 4;
/// Lets only fatal signals interrupt a notification that was taken. Since: 5.19.
pub const FLAG_WAIT_KILLABLE_RECV: u32 = 1 << 5;

const FLAG_NAMES: &[(u64, &str)] = &[
    (FLAG_TSYNC as u64, "TSYNC"),
    (FLAG_LOG as u64, "LOG"),
    (FLAG_SPEC_ALLOW as u64, "SPEC_ALLOW"),
    (FLAG_NEW_LISTENER as u64, "NEW_LISTENER"),
    (FLAG_TSYNC_ESRCH as u64, "TSYNC_ESRCH"),
    (FLAG_WAIT_KILLABLE_RECV as u64, "WAIT_KILLABLE_RECV"),
];

/// Kills the whole process.
pub const RET_KILL_PROCESS: u32 = 0x8000_0000;
/// Kills the thread.
pub const RET_KILL_THREAD: u32 = 0;
/// Sends SIGSYS.
pub const RET_TRAP: u32 = 0x0003_0000;
/// Fails with the errno in the low 16 bits.
pub const RET_ERRNO: u32 = 0x0005_0000;
/// Asks a listener. Since: 5.0.
pub const RET_USER_NOTIF: u32 = 0x7fc0_0000;
/// Tells a tracer.
pub const RET_TRACE: u32 = 0x7ff0_0000;
/// Allows and logs.
pub const RET_LOG: u32 = 0x7ffc_0000;
/// Allows.
pub const RET_ALLOW: u32 = 0x7fff_0000;

/// The audit word of this machine's native system calls.
#[cfg(target_arch = "x86_64")]
pub const AUDIT_ARCH: u32 = 0xc000_003e;
/// The audit word of this machine's native system calls.
#[cfg(target_arch = "aarch64")]
pub const AUDIT_ARCH: u32 = 0xc000_00b7;

const SET_MODE_FILTER: i32 = 1;
const GET_ACTION_AVAIL: i32 = 2;

/// One instruction of a classic BPF program, as the kernel reads it.
#[repr(C)]
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Instruction {
    /// Operation.
    pub code: u16,
    /// Instructions to skip when a comparison holds.
    pub jt: u8,
    /// Instructions to skip when it does not.
    pub jf: u8,
    /// Operand.
    pub k: u32,
}

/// `struct sock_fprog`.
#[repr(C)]
struct Program {
    length: u16,
    instructions: *const Instruction,
}

/// Installs a filter for this process and all its descendants, for good.
///
/// Needs: no_new_privs or CAP_SYS_ADMIN. Fails: EACCES without either, EINVAL for a malformed or too
/// long program, ESRCH when TSYNC meets a thread with a filter of its own. seccomp(2).
pub fn install_filter(program: &[Instruction], flags: u32) -> Result<()> {
    match install(program, flags)? {
        0 => Ok(()),
        thread => {
            let error = Error::new(Errno::ESRCH, show(program, flags));
            Err(error.with_detail(format!("thread {thread} could not take the filter")))
        }
    }
}

/// Installs a filter and gives the descriptor on which its notifications arrive.
///
/// Since: 5.0. Needs and Fails: as [`install_filter`]; EBUSY when a listener exists already.
pub fn install_listener(program: &[Instruction], flags: u32) -> Result<OwnedFd> {
    let fd = install(program, flags | FLAG_NEW_LISTENER)?;
    // SAFETY: `fd` is open and nobody else's; upheld by the kernel, which has just made it; else two owners close it.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

fn install(program: &[Instruction], flags: u32) -> Result<i32> {
    let call = || show(program, flags);
    let length = u16::try_from(program.len()).map_err(|_e| Error::new(Errno::EINVAL, call()))?;
    let program = Program { length, instructions: program.as_ptr() };
    let args = [raw::int(SET_MODE_FILTER), raw::word(u64::from(flags)), raw::ptr(&raw const program), 0, 0];
    // SAFETY: `program` points to as many instructions as it says; upheld by the slice; else the kernel reads past them.
    unsafe { raw::syscall(libc::SYS_seccomp, args) }.and_then(raw::small).or_call(call)
}

fn show(program: &[Instruction], flags: u32) -> String {
    let shown = if flags == 0 { "0".to_owned() } else { raw::show_flags(u64::from(flags), FLAG_NAMES) };
    format!("seccomp(SET_MODE_FILTER, {shown}, {} instructions)", program.len())
}

/// Reads this process's seccomp mode: 0 where there is no filter, 2 where there is one.
///
/// Fails: as a filter of somebody else's says. prctl(2), PR_GET_SECCOMP.
pub fn mode() -> Result<i32> {
    // SAFETY: this prctl takes no pointer; upheld by PR_GET_SECCOMP(2const); else nothing is touched.
    let mode = unsafe { libc::prctl(libc::PR_GET_SECCOMP, 0, 0, 0, 0) };
    Errno::result(mode).or_call(|| "prctl(PR_GET_SECCOMP)".to_owned())
}

/// Says whether the kernel knows an action, such as [`RET_USER_NOTIF`].
///
/// Since: 4.14. seccomp(2), SECCOMP_GET_ACTION_AVAIL.
pub fn action_available(action: u32) -> Result<bool> {
    let args = [raw::int(GET_ACTION_AVAIL), 0, raw::ptr(&raw const action), 0, 0];
    // SAFETY: `action` is alive during the call; upheld by this frame; else the kernel reads another word.
    match unsafe { raw::syscall(libc::SYS_seccomp, args) } {
        Ok(_) => Ok(true),
        Err(Errno::EOPNOTSUPP) => Ok(false),
        Err(errno) => Err(errno).or_call(|| format!("seccomp(GET_ACTION_AVAIL, {action:#x})")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_structs_have_the_kernels_size() {
        assert_eq!((size_of::<Instruction>(), size_of::<Program>()), (8, 16));
    }

    #[test]
    fn known_and_unknown_actions_are_told_apart() {
        assert!(action_available(RET_KILL_PROCESS).unwrap());
        assert!(!action_available(0x1234_0000).unwrap());
    }

    #[test]
    fn a_malformed_filter_is_refused_with_its_call() {
        let error = install_filter(&[Instruction { code: 0xffff, jt: 0, jf: 0, k: 0 }], FLAG_LOG).unwrap_err();
        assert_eq!(error.call(), "seccomp(SET_MODE_FILTER, LOG, 1 instructions)");
        assert!(matches!(error.kind(), Errno::EINVAL | Errno::EACCES));
    }
}
