//! Watching over foreign code that runs in this process: it may hang, or call `exit`.
//!
//! Neither guard contains anything; they make a failure speak. Each message is prepared beforehand,
//! so that the handlers only copy it to standard error and leave.

use std::marker::PhantomData;
use std::mem::MaybeUninit;
use std::sync::Once;
use std::sync::atomic::{AtomicBool, AtomicI32, AtomicU8, AtomicUsize, Ordering};
use std::time::Duration;

use nix::errno::Errno;
use nix::sys::signal::{SaFlags, SigAction, SigHandler, Signal, sigaction};

use crate::error::{Error, OrCall, Result};
use crate::signal::{self, SigSet};
use crate::terminal;

/// The longest message in bytes; a longer one is cut.
const ROOM: usize = 1024;

/// A message that a signal handler may read: plain atomics, no lock, no pointer to free.
struct Last {
    armed: AtomicBool,
    code: AtomicI32,
    length: AtomicUsize,
    text: [AtomicU8; ROOM],
}

impl Last {
    const fn new() -> Self {
        Self {
            armed: AtomicBool::new(false),
            code: AtomicI32::new(0),
            length: AtomicUsize::new(0),
            text: [const { AtomicU8::new(0) }; ROOM],
        }
    }

    /// Takes the slot and fills it; fails when it is taken.
    fn arm(&self, message: &str, code: i32, call: &str) -> Result<()> {
        if self.armed.load(Ordering::SeqCst) {
            let error = Error::new(Errno::EBUSY, call);
            return Err(error.with_hint("one guard of a kind at a time: drop the first"));
        }
        self.fill(&[message]);
        self.code.store(code, Ordering::Relaxed);
        self.armed.store(true, Ordering::SeqCst);
        Ok(())
    }

    /// Puts the parts together as the message. A handler that runs in between shows some of each, no more.
    fn fill(&self, parts: &[&str]) {
        let bytes = parts.iter().flat_map(|part| part.bytes());
        let line = bytes.take(ROOM - 1).chain([b'\n']);
        let length = self.text.iter().zip(line).map(|(slot, byte)| slot.store(byte, Ordering::Relaxed)).count();
        self.length.store(length, Ordering::Relaxed);
    }

    fn disarm(&self) {
        self.armed.store(false, Ordering::SeqCst);
    }

    /// Writes the message and ends the process, if armed; async-signal-safe.
    fn speak(&self) {
        if !self.armed.load(Ordering::SeqCst) {
            return;
        }
        let mut text = [0_u8; ROOM];
        for (byte, slot) in text.iter_mut().zip(&self.text) {
            *byte = slot.load(Ordering::Relaxed);
        }
        let length = self.length.load(Ordering::Relaxed).min(ROOM);
        // Nobody else will: no destructor runs.
        terminal::put_back();
        // SAFETY: the text is at least that long, and write is async-signal-safe; upheld by `min` and signal-safety(7); else it reads past the array.
        unsafe { libc::write(2, text.as_ptr().cast(), length) };
        // SAFETY: _exit is async-signal-safe and never returns; upheld by signal-safety(7); else foreign code goes on.
        unsafe { libc::_exit(self.code.load(Ordering::Relaxed)) };
    }
}

static DEADLINE: Last = Last::new();
static EXIT: Last = Last::new();

extern "C" fn on_alarm(_signal: libc::c_int) {
    DEADLINE.speak();
}

extern "C" fn on_exit() {
    EXIT.speak();
}

/// Ends the process when it lives too long; drop it when the work is done.
///
/// Not `Send`: it restores the signal mask of the thread that made it.
#[derive(Debug)]
#[must_use = "the deadline holds only while the guard lives"]
pub struct DeadlineGuard {
    timer: libc::timer_t,
    action: SigAction,
    mask: SigSet,
    _not_send: PhantomData<*mut ()>,
}

/// Gives the code that follows until `after` from now: then `message` goes to standard error and the
/// process ends with `exit_code`.
///
/// Uses SIGALRM and its handler, which the guard puts back. For a process with one thread. Fails:
/// EBUSY while another deadline lives. timer_create(2).
pub fn deadline(after: Duration, message: &str, exit_code: i32) -> Result<DeadlineGuard> {
    DEADLINE.arm(message, exit_code, "timer_create(CLOCK_MONOTONIC, SIGALRM)")?;
    arm_alarm(after).inspect_err(|_| DEADLINE.disarm())
}

impl DeadlineGuard {
    /// Changes the message, for the next piece of work under the same deadline. No system call.
    pub fn set_message(&self, parts: &[&str]) {
        DEADLINE.fill(parts);
    }

    /// Gives what follows this long from now. timer_settime(2).
    pub fn restart(&self, after: Duration) -> Result<()> {
        set_timer(self.timer, after)
    }
}

fn set_timer(timer: libc::timer_t, after: Duration) -> Result<()> {
    // Zero would stop it.
    let after = after.max(Duration::from_nanos(1));
    let spec = libc::itimerspec {
        it_interval: libc::timespec { tv_sec: 0, tv_nsec: 0 },
        it_value: libc::timespec {
            tv_sec: i64::try_from(after.as_secs()).unwrap_or(i64::MAX),
            tv_nsec: i64::from(after.subsec_nanos()),
        },
    };
    // SAFETY: the timer is a deadline's and `spec` lives during the call; upheld by the guard, which deletes it last of all; else another timer is set.
    let ret = unsafe { libc::timer_settime(timer, 0, &raw const spec, std::ptr::null_mut()) };
    Errno::result(ret).map(drop).or_call(|| format!("timer_settime({after:?})"))
}

/// The timer of the deadline that lives, one above its id; 0 where there is none.
static TIMER: AtomicUsize = AtomicUsize::new(0);

/// Runs something that has a time limit of its own: the deadline that lives stands still meanwhile.
///
/// timer_gettime(2), timer_settime(2).
pub fn paused<T>(run: impl FnOnce() -> T) -> T {
    let timer: libc::timer_t = match TIMER.load(Ordering::SeqCst) {
        0 => return run(),
        number => std::ptr::without_provenance_mut(number - 1),
    };
    let still = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    let stop = libc::itimerspec { it_interval: still, it_value: still };
    let mut left = stop;
    // SAFETY: the timer is the living deadline's, and both structs live during the call; upheld by `TIMER`, which is cleared with it; else another timer is set.
    let stopped = unsafe { libc::timer_settime(timer, 0, &raw const stop, &raw mut left) };
    let result = run();
    if stopped == 0 {
        // SAFETY: as above: nothing in between ended the deadline, which `run` does not have; upheld by its owner, who is waiting for us; else another timer is set.
        unsafe { libc::timer_settime(timer, 0, &raw const left, std::ptr::null_mut()) };
    }
    result
}

fn arm_alarm(after: Duration) -> Result<DeadlineGuard> {
    let action = SigAction::new(SigHandler::Handler(on_alarm), SaFlags::SA_RESTART, nix::sys::signal::SigSet::all());
    // SAFETY: the handler only touches atomics, write and _exit; upheld by `Last::speak`; else it could interrupt malloc and call it.
    let action = unsafe { sigaction(Signal::SIGALRM, &action) }.or_call(|| "sigaction(SIGALRM)".to_owned())?;
    // From here on the guard exists, so that an early return puts everything back.
    let mask = signal::unblock(&SigSet::of(&[libc::SIGALRM])?)?;
    let mut guard = DeadlineGuard { timer: std::ptr::null_mut(), action, mask, _not_send: PhantomData };
    let mut event = MaybeUninit::<libc::sigevent>::zeroed();
    // SAFETY: all-zero is a valid value of this plain struct; upheld by `zeroed`; else a field is read uninitialised.
    let event = unsafe { event.assume_init_mut() };
    event.sigev_notify = libc::SIGEV_SIGNAL;
    event.sigev_signo = libc::SIGALRM;
    let mut timer: libc::timer_t = std::ptr::null_mut();
    // SAFETY: `event` and `timer` live during the call; upheld by this frame; else the C library writes to a stranger.
    let ret = unsafe { libc::timer_create(libc::CLOCK_MONOTONIC, event, &raw mut timer) };
    Errno::result(ret).or_call(|| "timer_create(CLOCK_MONOTONIC, SIGALRM)".to_owned())?;
    guard.timer = timer;
    set_timer(timer, after)?;
    TIMER.store(timer.addr().wrapping_add(1), Ordering::SeqCst);
    Ok(guard)
}

impl Drop for DeadlineGuard {
    fn drop(&mut self) {
        DEADLINE.disarm();
        TIMER.store(0, Ordering::SeqCst);
        // The first timer of a process has the id 0, so a null one can be real; deleting one that was
        // never made gives EINVAL, which is as good.
        // SAFETY: nobody uses the timer again; upheld by this being the drop of its only owner; else another's timer is stopped.
        unsafe { libc::timer_delete(self.timer) };
        // SAFETY: this handler was the process's own before; upheld by `arm_alarm`, which took it; else a wild handler is installed.
        let restored = unsafe { sigaction(Signal::SIGALRM, &self.action) };
        // Neither call can fail with arguments that the kernel gave; a drop could not say so anyway.
        drop((restored, signal::set_mask(&self.mask)));
    }
}

/// Ends the process with a message when something calls `exit`; drop it when the work is done.
#[derive(Debug)]
#[must_use = "exit is watched only while the guard lives"]
pub struct ExitGuard {
    _private: (),
}

/// Watches for a call of `exit`: `message` goes to standard error and the process ends with `code`.
///
/// `_exit` cannot be watched. Fails: EBUSY while another exit guard lives, ENOMEM. atexit(3).
pub fn exit_guard(message: &str, code: i32) -> Result<ExitGuard> {
    static REGISTERED: Once = Once::new();
    static READY: AtomicBool = AtomicBool::new(false);
    REGISTERED.call_once(|| {
        // SAFETY: the handler touches atomics, write and _exit only and lives as long as the program; upheld by it being part of the program; else exit calls into nothing.
        let ret = unsafe { libc::atexit(on_exit) };
        READY.store(ret == 0, Ordering::SeqCst);
    });
    if !READY.load(Ordering::SeqCst) {
        return Err(Error::new(Errno::ENOMEM, "atexit()"));
    }
    EXIT.arm(message, code, "atexit()")?;
    Ok(ExitGuard { _private: () })
}

impl ExitGuard {
    /// Changes the message, for the next piece of work under the same guard. No system call.
    pub fn set_message(&self, parts: &[&str]) {
        EXIT.fill(parts);
    }
}

impl Drop for ExitGuard {
    fn drop(&mut self) {
        EXIT.disarm();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_second_guard_waits_for_the_first() {
        let first = exit_guard("first", 1).unwrap();
        assert_eq!(exit_guard("second", 1).unwrap_err().kind(), Errno::EBUSY);
        drop(first);
        drop(exit_guard("third", 1).unwrap());
        let first = deadline(Duration::from_secs(3600), "first", 1).unwrap();
        assert_eq!(deadline(Duration::from_secs(1), "second", 1).unwrap_err().kind(), Errno::EBUSY);
        drop(first);
        drop(deadline(Duration::from_secs(3600), &"long ".repeat(1000), 1).unwrap());
    }
}
