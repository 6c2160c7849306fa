//! Filters: what works before is refused or killed after, and all else goes on.

use std::os::fd::{AsFd as _, AsRawFd as _, FromRawFd as _, OwnedFd};
use std::time::Duration;

use palisade_sys::process::{self, Ended};
use palisade_sys::seccomp::{self, AUDIT_ARCH, Instruction};
use palisade_sys::{Errno, event, host};

use crate::help::{self, good, good_as_nobody, refused, run, start};
use crate::runner::cases;

cases![
    a_filter_refuses_its_call_and_no_other,
    a_filter_kills_where_it_says_so,
    a_filter_needs_a_process_that_gains_nothing,
    a_diverging_thread_is_named,
    a_listener_is_asked,
    actions_are_known_or_not,
];

const fn op(code: u16, jt: u8, jf: u8, k: u32) -> Instruction {
    Instruction { code, jt, jf, k }
}

/// A program that gives `action` for one call of this architecture and allows all else.
fn acting(call: libc::c_long, action: u32) -> Vec<Instruction> {
    let number = u32::try_from(call).unwrap();
    vec![
        op(0x20, 0, 0, 4),
        op(0x15, 0, 3, AUDIT_ARCH),
        op(0x20, 0, 0, 0),
        op(0x15, 0, 1, number),
        op(0x06, 0, 0, action),
        op(0x06, 0, 0, seccomp::RET_ALLOW),
    ]
}

/// A program that fails one call with this errno.
pub(crate) fn answering(call: libc::c_long, errno: i32) -> Vec<Instruction> {
    acting(call, seccomp::RET_ERRNO | errno.cast_unsigned())
}

/// Installs a filter for this process, for good.
pub(crate) fn install(program: &[Instruction]) {
    process::set_no_new_privs().unwrap();
    seccomp::install_filter(program, 0).unwrap();
}

fn a_filter_refuses_its_call_and_no_other() {
    good(0, || {
        host::uname().unwrap();
        install(&answering(libc::SYS_uname, libc::EPERM));
        let error = refused(host::uname(), Errno::EPERM);
        assert_eq!(error.call(), "uname()");
        // A child and a program have it too.
        good(0, || drop(refused(host::uname(), Errno::EPERM)));
        assert_ne!(run(0, || help::become_shell("uname")).ended, Ended::Exited(0));
    });
    assert_eq!(run(0, || help::become_shell("uname")).ended, Ended::Exited(0));
}

fn a_filter_kills_where_it_says_so() {
    let ended = |action: u32| {
        run(0, || {
            install(&acting(libc::SYS_uname, action));
            drop(host::uname());
        })
        .ended
    };
    assert_eq!(ended(seccomp::RET_ALLOW), Ended::Exited(0));
    for action in [seccomp::RET_KILL_PROCESS, seccomp::RET_KILL_THREAD, seccomp::RET_TRAP] {
        assert!(matches!(ended(action), Ended::Signaled { signal: libc::SIGSYS, .. }), "{action:#x}");
    }
}

fn a_filter_needs_a_process_that_gains_nothing() {
    let program = answering(libc::SYS_uname, libc::EPERM);
    good_as_nobody(|| {
        let error = refused(seccomp::install_filter(&program, 0), Errno::EACCES);
        assert_eq!(error.call(), "seccomp(SET_MODE_FILTER, 0, 6 instructions)");
        assert!(error.hint().unwrap().contains("no_new_privs"));
        host::uname().unwrap();
        process::set_no_new_privs().unwrap();
        seccomp::install_filter(&program, seccomp::FLAG_SPEC_ALLOW).unwrap();
        refused(host::uname(), Errno::EPERM);
        refused(seccomp::install_filter(&[], 0), Errno::EINVAL);
        refused(seccomp::install_filter(&[op(0x06, 0, 0, 0); 5000], 0), Errno::EINVAL);
    });
}

fn a_diverging_thread_is_named() {
    process::set_no_new_privs().unwrap();
    let (told, tell) = std::sync::mpsc::channel();
    let (hold, held) = std::sync::mpsc::channel::<()>();
    let thread = std::thread::spawn(move || {
        seccomp::install_filter(&answering(libc::SYS_uname, libc::EACCES), 0).unwrap();
        told.send(nix::unistd::gettid().as_raw()).unwrap();
        assert!(held.recv().is_err());
    });
    let id = tell.recv().unwrap();
    let all = || seccomp::install_filter(&answering(libc::SYS_uname, libc::EPERM), seccomp::FLAG_TSYNC);
    let error = refused(all(), Errno::ESRCH);
    assert_eq!(error.detail(), Some(format!("thread {id} could not take the filter").as_str()));
    host::uname().unwrap();
    drop(hold);
    thread.join().unwrap();
    help::eventually("the thread's end", || process::thread_count().unwrap() == 1);
    all().unwrap();
    refused(host::uname(), Errno::EPERM);
}

fn a_listener_is_asked() {
    process::set_no_new_privs().unwrap();
    let program = acting(libc::SYS_uname, seccomp::RET_USER_NOTIF);
    let listener = seccomp::install_listener(&program, 0).unwrap();
    refused(seccomp::install_listener(&program, 0), Errno::EBUSY);
    let ready = |time| event::poll(&mut [event::PollItem::read(listener.as_fd())], Some(time)).unwrap() == 1;
    assert!(!ready(Duration::from_millis(20)));
    let number = listener.as_raw_fd();
    let caller = start(0, || {
        // SAFETY: this copy of the descriptor has no owner that would use it again; upheld by this process, which ends by `_exit`; else it would wait for its own answer.
        drop(unsafe { OwnedFd::from_raw_fd(number) });
        refused(host::uname(), Errno::ENOSYS);
        eprintln!("answered");
    });
    assert!(ready(Duration::from_secs(60)) && !caller.ends_within(Duration::from_millis(20)));
    // Without a listener the call fails, and does not wait for ever.
    drop(listener);
    assert_eq!(caller.end(Duration::from_secs(60)).said, "answered\n");
}

fn actions_are_known_or_not() {
    let known = [
        seccomp::RET_KILL_PROCESS,
        seccomp::RET_KILL_THREAD,
        seccomp::RET_TRAP,
        seccomp::RET_ERRNO,
        seccomp::RET_USER_NOTIF,
        seccomp::RET_TRACE,
        seccomp::RET_LOG,
        seccomp::RET_ALLOW,
    ];
    assert!(known.into_iter().all(|action| seccomp::action_available(action).unwrap()));
    assert!(!seccomp::action_available(0x7abc_0000).unwrap());
}
