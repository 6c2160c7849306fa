//! Signals: masks, dispositions, a descriptor to read them from, and their names.

use std::os::fd::{AsFd, BorrowedFd};

use nix::sys::signal::{self, SaFlags, SigAction, SigHandler, SigmaskHow, Signal};
use nix::sys::signalfd::{SfdFlags, SignalFd as NixSignalFd};

use crate::error::{OrCall, Result};
use crate::raw;

pub use libc::{
    SIGABRT, SIGALRM, SIGCHLD, SIGCONT, SIGHUP, SIGINT, SIGKILL, SIGPIPE, SIGQUIT, SIGSTOP, SIGSYS, SIGTERM, SIGTSTP,
    SIGTTIN, SIGTTOU, SIGUSR1, SIGUSR2, SIGWINCH, SIGXCPU,
};

/// The signals that a launcher passes on to its workload.
pub const FORWARDED: &[i32] = &[SIGINT, SIGTERM, SIGHUP, SIGQUIT, SIGUSR1, SIGUSR2, SIGWINCH, SIGCONT, SIGTSTP];

/// Those of them that ask a program to end.
pub const ENDING: &[i32] = &[SIGINT, SIGTERM, SIGHUP, SIGQUIT];

/// The highest signal number of Linux.
const LAST: i32 = 64;

/// A set of signals, as a mask to put back.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SigSet(signal::SigSet);

impl SigSet {
    /// No signal.
    #[must_use]
    pub fn empty() -> Self {
        Self(signal::SigSet::empty())
    }

    /// Makes a set from numbers.
    ///
    /// Fails: EINVAL for one that is no ordinary signal.
    pub fn of(signals: &[i32]) -> Result<Self> {
        let mut set = signal::SigSet::empty();
        for number in signals {
            set.add(Signal::try_from(*number).or_call(|| format!("sigaddset({number})"))?);
        }
        Ok(Self(set))
    }

    /// Says whether a signal is in the set.
    #[must_use]
    pub fn contains(&self, number: i32) -> bool {
        Signal::try_from(number).is_ok_and(|signal| self.0.contains(signal))
    }
}

/// Blocks every signal and gives the mask before. sigprocmask(2).
pub fn block_all() -> Result<SigSet> {
    signal::SigSet::all()
        .thread_swap_mask(SigmaskHow::SIG_SETMASK)
        .map(SigSet)
        .or_call(|| "sigprocmask(SIG_SETMASK, all)".to_owned())
}

/// Blocks these signals as well and gives the mask before. sigprocmask(2).
pub fn block(set: &SigSet) -> Result<SigSet> {
    set.0.thread_swap_mask(SigmaskHow::SIG_BLOCK).map(SigSet).or_call(|| format!("sigprocmask(SIG_BLOCK, {:?})", set.0))
}

/// Unblocks these signals and gives the mask before. sigprocmask(2).
pub(crate) fn unblock(set: &SigSet) -> Result<SigSet> {
    set.0
        .thread_swap_mask(SigmaskHow::SIG_UNBLOCK)
        .map(SigSet)
        .or_call(|| format!("sigprocmask(SIG_UNBLOCK, {:?})", set.0))
}

/// Sets the mask. sigprocmask(2).
pub fn set_mask(set: &SigSet) -> Result<()> {
    set.0.thread_set_mask().or_call(|| format!("sigprocmask(SIG_SETMASK, {:?})", set.0))
}

/// Gives every signal its default action, ignored ones too, so that the workload starts with a clean
/// table (Rust programs start with SIGPIPE ignored). sigaction(2).
pub fn reset_all_handlers() -> Result<()> {
    for number in 1..=LAST {
        if matches!(number, libc::SIGKILL | libc::SIGSTOP) {
            continue;
        }
        // The kernel's own call: the C library hides 32 and 33, which a caller may have left ignored all the same.
        let default = [0_u64; 4];
        let args = [raw::int(number), raw::ptr(default.as_ptr()), 0, size_of::<u64>(), 0];
        // SAFETY: the kernel's struct is four words here, and all zero is SIG_DFL with no flags and an empty mask; upheld by lib.rs, which builds for 64-bit machines only; else a wild handler is installed.
        let ret = unsafe { raw::syscall(libc::SYS_rt_sigaction, args) };
        ret.map(drop).or_call(|| format!("sigaction({}, SIG_DFL)", show(number)))?;
    }
    Ok(())
}

/// Ignores SIGPIPE, so that a write to a closed pipe is an EPIPE; inherited through execve. sigaction(2).
pub fn ignore_sigpipe() -> Result<()> {
    let action = SigAction::new(SigHandler::SigIgn, SaFlags::empty(), signal::SigSet::empty());
    // SAFETY: SIG_IGN runs no code of ours; upheld by the constant; else a handler could run at any point.
    unsafe { signal::sigaction(Signal::SIGPIPE, &action) }
        .map(drop)
        .or_call(|| "sigaction(SIGPIPE, SIG_IGN)".to_owned())
}

/// A signal that was read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Received {
    /// Its number.
    pub signal: i32,
    /// Who sent it, 0 for the kernel or for somebody outside this pid namespace.
    pub pid: i32,
    /// The sender's real uid.
    pub uid: u32,
    /// Whether the kernel sent it (a terminal's `^C`, say) and not a process.
    pub from_kernel: bool,
}

/// Signals as something to poll and read.
#[derive(Debug)]
pub struct SignalFd(NixSignalFd);

impl SignalFd {
    /// Blocks the signals and makes a descriptor that gives them; non-blocking, close-on-exec.
    ///
    /// Fails: EINVAL for a number that is no ordinary signal. signalfd(2).
    pub fn new(signals: &[i32]) -> Result<Self> {
        let set = SigSet::of(signals)?;
        block(&set)?;
        NixSignalFd::with_flags(&set.0, SfdFlags::SFD_CLOEXEC | SfdFlags::SFD_NONBLOCK)
            .map(Self)
            .or_call(|| format!("signalfd({:?}, SFD_CLOEXEC|SFD_NONBLOCK)", set.0))
    }

    /// Takes the next pending signal, `None` when there is none. signalfd(2).
    pub fn read(&self) -> Result<Option<Received>> {
        let info = self.0.read_signal().or_call(|| "read(signalfd)".to_owned())?;
        Ok(info.map(|info| Received {
            signal: i32::try_from(info.ssi_signo).unwrap_or(0),
            pid: i32::try_from(info.ssi_pid).unwrap_or(0),
            uid: info.ssi_uid,
            from_kernel: info.ssi_code > 0,
        }))
    }
}

impl AsFd for SignalFd {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

/// Gives a signal's name, such as `SIGTERM`; real-time signals have none.
#[must_use]
pub fn name(number: i32) -> Option<&'static str> {
    Signal::try_from(number).ok().map(Signal::as_str)
}

/// Finds a signal by its name, with or without `SIG`, in any case.
#[must_use]
pub fn number(name: &str) -> Option<i32> {
    let upper = name.to_ascii_uppercase();
    let full = if upper.starts_with("SIG") { upper } else { format!("SIG{upper}") };
    full.parse::<Signal>().ok().map(|signal| signal as i32)
}

/// Gives a signal's name for a message, `SIGRTn` or a number where it has none.
#[must_use]
pub fn show(number: i32) -> String {
    match name(number) {
        Some(name) => name.to_owned(),
        None if (34..=LAST).contains(&number) => format!("SIGRT{}", number - 34),
        None => number.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_go_both_ways() {
        assert_eq!((name(15), number("SIGTERM"), number("term")), (Some("SIGTERM"), Some(15), Some(15)));
        assert_eq!((name(0), number("NOPE"), show(35).as_str(), show(99).as_str()), (None, None, "SIGRT1", "99"));
    }

    #[test]
    fn a_blocked_signal_is_read_from_the_descriptor() {
        let fd = SignalFd::new(&[SIGUSR1]).unwrap();
        assert_eq!(fd.read().unwrap(), None);
        signal::raise(Signal::SIGUSR1).unwrap();
        let received = fd.read().unwrap().unwrap();
        assert_eq!((received.signal, received.from_kernel), (SIGUSR1, false));
        assert_eq!(received.pid, nix::unistd::getpid().as_raw());
    }

    #[test]
    fn a_mask_is_put_back() {
        let before = block_all().unwrap();
        assert!(set_mask(&before).is_ok());
        let again = block(&SigSet::empty()).unwrap();
        assert_eq!(before, again);
        assert!(SigSet::of(&[SIGINT]).unwrap().contains(SIGINT));
    }
}
