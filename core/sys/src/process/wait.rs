//! Waiting for processes, and sending them signals.

use std::mem::MaybeUninit;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd};
use std::time::Duration;

use nix::errno::Errno;

use crate::error::{OrCall, Result};
use crate::raw;

/// `P_PIDFD` of waitid(2).
const P_PIDFD: i32 = 3;
/// `__WALL`: wait for any child, whatever its exit signal is.
const WALL: i32 = 0x4000_0000;

/// Whom to wait for.
#[derive(Debug, Clone, Copy)]
pub enum Target<'a> {
    /// Any child.
    Any,
    /// The child of this id.
    Pid(i32),
    /// The child of this descriptor. Since: 5.4.
    PidFd(BorrowedFd<'a>),
}

/// How a process ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ended {
    /// It exited with this code.
    Exited(i32),
    /// A signal ended it.
    Signaled {
        /// Which.
        signal: i32,
        /// Whether it left a core dump.
        core: bool,
    },
}

impl Ended {
    /// The exit code that shells give: the code itself, or 128 plus the signal.
    #[must_use]
    pub fn shell_code(self) -> i32 {
        match self {
            Self::Exited(code) => code,
            Self::Signaled { signal, .. } => 128 + signal,
        }
    }
}

/// What a process used, its waited-for children included.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Usage {
    /// CPU time in its own code.
    pub user: Duration,
    /// CPU time in the kernel.
    pub system: Duration,
    /// The largest resident set of any one of them, in KiB.
    pub max_rss_kib: u64,
}

/// A process that has ended and is now reaped.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct WaitStatus {
    /// Its id.
    pub pid: i32,
    /// How it ended.
    pub ended: Ended,
    /// What it used.
    pub usage: Usage,
}

/// Waits for a child to end and reaps it; `None` when `nohang` and none has.
///
/// An interruption by a signal is not an end: the wait goes on. Fails: ECHILD when there is no such
/// child. waitid(2), whose system call gives the usage as wait4 does.
pub fn waitid(target: Target<'_>, nohang: bool) -> Result<Option<WaitStatus>> {
    let (kind, id) = match target {
        Target::Any => (libc::P_ALL.cast_signed(), 0),
        Target::Pid(pid) => (libc::P_PID.cast_signed(), pid),
        Target::PidFd(fd) => (P_PIDFD, fd.as_raw_fd()),
    };
    let options = libc::WEXITED | WALL | if nohang { libc::WNOHANG } else { 0 };
    let mut info = MaybeUninit::<libc::siginfo_t>::zeroed();
    let mut usage = MaybeUninit::<libc::rusage>::zeroed();
    let args =
        [raw::int(kind), raw::int(id), raw::ptr(info.as_mut_ptr()), raw::int(options), raw::ptr(usage.as_mut_ptr())];
    loop {
        // SAFETY: `info` and `usage` have room for what the call writes; upheld by their types; else the kernel writes past them.
        match unsafe { raw::syscall(libc::SYS_waitid, args) } {
            Err(Errno::EINTR) => {}
            other => break other.map(drop).or_call(|| show(target, nohang))?,
        }
    }
    // SAFETY: all-zero is a valid value of this plain struct; upheld by `zeroed` above; else a field is read uninitialised.
    let info = unsafe { info.assume_init() };
    // SAFETY: all-zero is a valid value of this plain struct; upheld by `zeroed` above; else a field is read uninitialised.
    let usage = unsafe { usage.assume_init() };
    // SAFETY: the SIGCHLD members are those that waitid fills; upheld by the call above, which succeeded; else another member of the union is read.
    let pid = unsafe { info.si_pid() };
    if pid == 0 {
        return Ok(None);
    }
    // SAFETY: the SIGCHLD members are those that waitid fills; upheld by the call above, which succeeded; else another member of the union is read.
    let status = unsafe { info.si_status() };
    let ended = match info.si_code {
        libc::CLD_EXITED => Ended::Exited(status),
        code => Ended::Signaled { signal: status, core: code == libc::CLD_DUMPED },
    };
    Ok(Some(WaitStatus { pid, ended, usage: Usage::from_raw(&usage) }))
}

/// Waits for any child, as [`waitid`].
pub fn wait_any(nohang: bool) -> Result<Option<WaitStatus>> {
    waitid(Target::Any, nohang)
}

impl Usage {
    fn from_raw(raw: &libc::rusage) -> Self {
        let time = |t: libc::timeval| {
            let (seconds, micros) = (u64::try_from(t.tv_sec), u64::try_from(t.tv_usec));
            Duration::from_secs(seconds.unwrap_or(0)) + Duration::from_micros(micros.unwrap_or(0))
        };
        Self {
            user: time(raw.ru_utime),
            system: time(raw.ru_stime),
            max_rss_kib: u64::try_from(raw.ru_maxrss).unwrap_or(0),
        }
    }
}

fn show(target: Target<'_>, nohang: bool) -> String {
    let target = match target {
        Target::Any => "P_ALL".to_owned(),
        Target::Pid(pid) => format!("P_PID, {pid}"),
        Target::PidFd(fd) => format!("P_PIDFD, {}", fd.as_raw_fd()),
    };
    format!("waitid({target}, WEXITED{})", if nohang { "|WNOHANG" } else { "" })
}

/// Opens a descriptor for a process; it becomes readable when the process ends.
///
/// Since: 5.3. Fails: ESRCH when there is none. pidfd_open(2).
pub fn pidfd_open(pid: i32) -> Result<OwnedFd> {
    // SAFETY: pidfd_open takes no pointer; upheld by its man page; else nothing is touched.
    let new = unsafe { raw::syscall(libc::SYS_pidfd_open, [raw::int(pid), 0, 0, 0, 0]) }
        .and_then(raw::small)
        .or_call(|| format!("pidfd_open({pid}, 0)"))?;
    // SAFETY: `new` is open and nobody else's; upheld by the kernel, which has just made it; else two owners close it.
    Ok(unsafe { OwnedFd::from_raw_fd(new) })
}

/// Sends a signal to the very process of a descriptor.
///
/// Since: 5.1. Fails: ESRCH when it has ended and is reaped. pidfd_send_signal(2).
pub fn pidfd_send_signal(pidfd: impl AsFd, signal: i32) -> Result<()> {
    let pidfd = pidfd.as_fd();
    // SAFETY: the null siginfo is allowed; upheld by pidfd_send_signal(2); else the kernel gives EFAULT.
    unsafe { raw::syscall(libc::SYS_pidfd_send_signal, [raw::fd(pidfd), raw::int(signal), 0, 0, 0]) }
        .map(drop)
        .or_call(|| format!("pidfd_send_signal({}, {})", pidfd.as_raw_fd(), crate::signal::show(signal)))
}

/// Sends a signal to a process, a group (negative) or, with -1, to all that one may.
///
/// Fails: ESRCH, EPERM. kill(2).
pub fn kill(pid: i32, signal: i32) -> Result<()> {
    // SAFETY: kill takes no pointer; upheld by its man page; else nothing is touched.
    let ret = unsafe { libc::kill(pid, signal) };
    Errno::result(ret).map(drop).or_call(|| format!("kill({pid}, {})", crate::signal::show(signal)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[expect(clippy::zombie_processes, reason = "waitid, which is tested here, reaps it")]
    #[test]
    fn end_and_usage_of_a_child_are_told() {
        let child = std::process::Command::new("sh").args(["-c", "exit 7"]).spawn().unwrap();
        let pid = i32::try_from(child.id()).unwrap();
        let pidfd = pidfd_open(pid).unwrap();
        let status = waitid(Target::PidFd(pidfd.as_fd()), false).unwrap().unwrap();
        assert_eq!((status.pid, status.ended), (pid, Ended::Exited(7)));
        assert!(status.usage.max_rss_kib > 0);
        assert_eq!(waitid(Target::Pid(pid), true).unwrap_err().errno_name(), "ECHILD");
    }

    #[expect(clippy::zombie_processes, reason = "waitid, which is tested here, reaps it")]
    #[test]
    fn a_signal_is_not_an_exit_code() {
        let child = std::process::Command::new("sleep").arg("60").spawn().unwrap();
        let pid = i32::try_from(child.id()).unwrap();
        assert_eq!(waitid(Target::Pid(pid), true).unwrap(), None);
        pidfd_send_signal(pidfd_open(pid).unwrap(), libc::SIGKILL).unwrap();
        let status = waitid(Target::Pid(pid), false).unwrap().unwrap();
        assert_eq!(status.ended, Ended::Signaled { signal: libc::SIGKILL, core: false });
        assert_eq!(status.ended.shell_code(), 137);
    }
}
