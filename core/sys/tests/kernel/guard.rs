//! Watching over foreign code: what hangs or calls `exit` ends with our message and code, all else goes on.

use std::time::{Duration, Instant};

use palisade_sys::guard::{deadline, exit_guard};
use palisade_sys::process::{self, Ended};
use palisade_sys::signal::{self, SigSet};
use palisade_sys::terminal::{self, Mode, Raw};

use crate::help::{self, good, run};
use crate::runner::cases;

cases![
    what_sleeps_too_long_ends_with_the_message,
    what_spins_too_long_ends_too_even_with_the_signal_blocked,
    what_begins_anew_has_its_time_again,
    what_is_quick_goes_on_as_before,
    exit_ends_with_the_message,
    exit_is_normal_afterwards_and_beforehand,
    a_long_message_is_cut_and_still_said,
    a_raw_terminal_has_its_mode_back_where_no_destructor_runs,
];

const SOON: Duration = Duration::from_millis(150);
const LONG: Duration = Duration::from_secs(50);

fn what_sleeps_too_long_ends_with_the_message() {
    let start = Instant::now();
    let out = run(0, || {
        let _guard = deadline(SOON, "plugin x takes too long in `plan`", 93).unwrap();
        std::thread::sleep(LONG);
        eprintln!("not here");
    });
    assert_eq!((out.said.as_str(), out.ended), ("plugin x takes too long in `plan`\n", Ended::Exited(93)));
    assert!(start.elapsed() >= SOON && start.elapsed() < LONG / 2, "{:?}", start.elapsed());
}

fn what_begins_anew_has_its_time_again() {
    let start = Instant::now();
    let out = run(0, || {
        let guard = deadline(SOON * 4, "too long", 95).unwrap();
        for _ in 0..5 {
            std::thread::sleep(SOON);
            guard.restart(SOON * 4).unwrap();
        }
        eprintln!("so far");
        std::thread::sleep(LONG);
    });
    assert_eq!((out.said.as_str(), out.ended), ("so far\ntoo long\n", Ended::Exited(95)));
    assert!(start.elapsed() >= SOON * 9, "{:?}", start.elapsed());
}

fn what_spins_too_long_ends_too_even_with_the_signal_blocked() {
    let out = run(0, || {
        signal::block_all().unwrap();
        let _guard = deadline(SOON, "it spins", 94).unwrap();
        let start = Instant::now();
        while start.elapsed() < LONG {
            std::hint::black_box(vec![0_u8; 100]);
        }
    });
    assert_eq!((out.said.as_str(), out.ended), ("it spins\n", Ended::Exited(94)));
}

fn what_is_quick_goes_on_as_before() {
    good(0, || {
        let caught = || help::line(&help::own("status"), "SigCgt");
        let (before, mask) = (caught(), signal::block(&SigSet::of(&[libc::SIGALRM]).unwrap()).unwrap());
        assert!(!mask.contains(libc::SIGALRM));
        let guard = deadline(SOON, "not said", 95).unwrap();
        assert_ne!(caught(), before);
        assert!(!signal::block(&SigSet::empty()).unwrap().contains(libc::SIGALRM));
        drop(guard);
        assert!(signal::block(&SigSet::empty()).unwrap().contains(libc::SIGALRM));
        assert_eq!(caught(), before);
        signal::set_mask(&mask).unwrap();
        std::thread::sleep(2 * SOON);
        // The next one counts from its own beginning.
        let guard = deadline(10 * SOON, "not said", 95).unwrap();
        std::thread::sleep(2 * SOON);
        drop(guard);
    });
}

fn exit_ends_with_the_message() {
    let through_libc = run(0, || {
        let _guard = exit_guard("plugin x called exit", 96).unwrap();
        // SAFETY: exit runs handlers of this program only and never returns; upheld by exit(3); else the case goes on.
        unsafe { libc::exit(0) };
    });
    let through_std = run(0, || {
        let _guard = exit_guard("plugin x called exit", 96).unwrap();
        std::process::exit(0);
    });
    for out in [through_libc, through_std] {
        assert_eq!((out.said.as_str(), out.ended), ("plugin x called exit\n", Ended::Exited(96)));
    }
}

fn exit_is_normal_afterwards_and_beforehand() {
    let exit = |code: i32| -> () {
        // SAFETY: exit runs handlers of this program only and never returns; upheld by exit(3); else the case goes on.
        unsafe { libc::exit(code) }
    };
    let unguarded = run(0, || exit(5));
    let afterwards = run(0, || {
        drop(exit_guard("not said", 96).unwrap());
        exit(5);
    });
    let second = run(0, || {
        drop(exit_guard("not said", 96).unwrap());
        let _guard = exit_guard("the second", 97).unwrap();
        exit(5);
    });
    let unseen = run(0, || {
        let _guard = exit_guard("not said", 96).unwrap();
        process::exit_now(5);
    });
    for out in [&unguarded, &afterwards, &unseen] {
        assert_eq!((out.said.as_str(), out.ended), ("", Ended::Exited(5)));
    }
    assert_eq!((second.said.as_str(), second.ended), ("the second\n", Ended::Exited(97)));
}

fn a_long_message_is_cut_and_still_said() {
    let out = run(0, || {
        let _guard = exit_guard(&"x".repeat(5000), 98).unwrap();
        std::process::exit(0);
    });
    assert_eq!(out.ended, Ended::Exited(98));
    assert!(out.said.len() > 500 && out.said.trim_end().bytes().all(|byte| byte == b'x'), "{}", out.said);
}

fn a_raw_terminal_has_its_mode_back_where_no_destructor_runs() {
    let (_master, slave) = terminal::open_pair().unwrap();
    let before = Mode::of(&slave).unwrap();
    let hangs = run(0, || {
        let _raw = Raw::enter(&slave).unwrap();
        let _guard = deadline(SOON, "it hangs", 93).unwrap();
        std::thread::sleep(LONG);
    });
    assert_eq!((hangs.ended, Mode::of(&slave).unwrap()), (Ended::Exited(93), before.clone()));
    let exits = run(0, || {
        let _raw = Raw::enter(&slave).unwrap();
        let _guard = exit_guard("it exits", 94).unwrap();
        std::process::exit(0);
    });
    assert_eq!((exits.ended, Mode::of(&slave).unwrap()), (Ended::Exited(94), before.clone()));
    // The twin: an end that nobody guards leaves it raw.
    let leaves = run(0, || {
        std::mem::forget(Raw::enter(&slave).unwrap());
        process::exit_now(0);
    });
    assert_eq!(leaves.ended, Ended::Exited(0));
    assert_ne!(Mode::of(&slave).unwrap(), before);
}
