//! Signals: what is blocked waits, what is reset is at its default, and a descriptor tells who sent what.

use std::os::fd::AsFd as _;
use std::time::Duration;

use palisade_sys::event::{self, PollItem};
use palisade_sys::process::{self, Ended};
use palisade_sys::signal::{self, SigSet, SignalFd};
use palisade_sys::{Errno, fd};

use crate::help::{self, good, refused, run};
use crate::runner::cases;

cases![
    a_blocked_signal_waits_and_comes_when_restored,
    a_signal_is_read_with_its_sender,
    a_child_that_ended_is_told_by_the_kernel,
    reset_leaves_nothing_ignored_or_caught,
    sigpipe_kills_or_is_an_error_as_asked,
];

fn me(number: i32) {
    process::kill(process::getpid(), number).unwrap();
}

fn died_of(number: i32) -> Ended {
    Ended::Signaled { signal: number, core: false }
}

fn a_blocked_signal_waits_and_comes_when_restored() {
    assert_eq!(run(0, || me(libc::SIGUSR1)).ended, died_of(libc::SIGUSR1));
    let out = run(0, || {
        let before = signal::block_all().unwrap();
        assert!(!before.contains(libc::SIGUSR1));
        me(libc::SIGUSR1);
        eprintln!("blocked");
        signal::set_mask(&before).unwrap();
        eprintln!("not here");
    });
    assert_eq!((out.said.as_str(), out.ended), ("blocked\n", died_of(libc::SIGUSR1)));
    let out = run(0, || {
        let only = SigSet::of(&[libc::SIGUSR1]).unwrap();
        signal::block(&only).unwrap();
        me(libc::SIGUSR1);
        eprintln!("one blocked");
        assert!(signal::block(&SigSet::empty()).unwrap().contains(libc::SIGUSR1));
        me(libc::SIGUSR2);
        eprintln!("not here");
    });
    assert_eq!((out.said.as_str(), out.ended), ("one blocked\n", died_of(libc::SIGUSR2)));
}

fn a_signal_is_read_with_its_sender() {
    let signals = SignalFd::new(&[libc::SIGUSR1, libc::SIGTERM]).unwrap();
    assert_eq!(signals.read().unwrap(), None);
    let case = process::getpid();
    let sender = run(0, || {
        help::become_nobody();
        refused(process::kill(case, libc::SIGUSR1), Errno::EPERM);
    });
    assert_eq!((sender.ended, signals.read().unwrap()), (Ended::Exited(0), None));
    let sender = run(0, || process::kill(case, libc::SIGUSR1).unwrap());
    let mut items = [PollItem::read(signals.as_fd())];
    assert_eq!(event::poll(&mut items, Some(Duration::from_secs(60))).unwrap(), 1);
    let seen = signals.read().unwrap().unwrap();
    assert_eq!((seen.signal, seen.pid, seen.uid, seen.from_kernel), (libc::SIGUSR1, sender.pid, 0, false));
    assert_eq!(signals.read().unwrap(), None);
    assert!(!fd::is_inherited(std::os::fd::AsRawFd::as_raw_fd(&signals.as_fd())).unwrap());
    refused(SignalFd::new(&[0]), Errno::EINVAL);
}

fn a_child_that_ended_is_told_by_the_kernel() {
    let signals = SignalFd::new(&[libc::SIGCHLD]).unwrap();
    assert_eq!(signals.read().unwrap(), None);
    let child = run(0, || process::exit_now(4));
    let seen = signals.read().unwrap().unwrap();
    assert_eq!((seen.signal, seen.pid, seen.from_kernel), (libc::SIGCHLD, child.pid, true));
}

/// The signals that this process ignores and those that it catches, as the kernel has them.
fn ignored_and_caught() -> (u64, u64) {
    let status = help::own("status");
    let mask = |name| u64::from_str_radix(&help::line(&status, name), 16).unwrap();
    (mask("SigIgn"), mask("SigCgt"))
}

fn reset_leaves_nothing_ignored_or_caught() {
    let bit = |number: i32| 1_u64 << (number - 1);
    good(0, || {
        let ignore = nix::sys::signal::SigHandler::SigIgn;
        // SAFETY: ignoring runs no code; upheld by the constant; else a handler could run at any point.
        unsafe { nix::sys::signal::signal(nix::sys::signal::Signal::SIGHUP, ignore) }.unwrap();
        let watch = palisade_sys::guard::deadline(Duration::from_secs(3600), "never", 1).unwrap();
        let (ignored, caught) = ignored_and_caught();
        assert_eq!(ignored & bit(libc::SIGHUP), bit(libc::SIGHUP));
        assert_eq!(ignored & bit(libc::SIGPIPE), bit(libc::SIGPIPE), "std ignores it at the start");
        assert_eq!(caught & bit(libc::SIGALRM), bit(libc::SIGALRM));
        std::mem::forget(watch);
        signal::reset_all_handlers().unwrap();
        assert_eq!(ignored_and_caught(), (0, 0));
        help::become_shell("grep SigIgn /proc/self/status | grep -q 0000000000000000");
    });
}

fn sigpipe_kills_or_is_an_error_as_asked() {
    let write_to_nobody = || {
        let (read, write) = fd::pipe().unwrap();
        drop(read);
        refused(fd::write(&write, b"x"), Errno::EPIPE);
    };
    let out = run(0, || {
        signal::reset_all_handlers().unwrap();
        write_to_nobody();
    });
    assert_eq!(out.ended, died_of(libc::SIGPIPE));
    good(0, || {
        signal::reset_all_handlers().unwrap();
        signal::ignore_sigpipe().unwrap();
        write_to_nobody();
    });
}
