//! The filter of palisade's own init: what it needs goes on working, and all else is refused.

use std::os::fd::{AsFd as _, FromRawFd as _, OwnedFd};
use std::time::Duration;

use palisade_sys::channel::Channel;
use palisade_sys::process::{self, Ended, Program, Target};
use palisade_sys::{Errno, event, fd, seccomp};

use crate::help::{self, good, refused, run, start};
use crate::runner::cases;

cases![the_inits_filter_allows_its_work, the_inits_filter_refuses_all_else, the_inits_filter_kills_other_architectures,];

/// Becomes confined as the init is.
fn confine() {
    process::set_no_new_privs().unwrap();
    seccomp::confine_init().unwrap();
}

fn the_inits_filter_allows_its_work() {
    let (ours, theirs) = Channel::pair().unwrap();
    let (read, write) = fd::pipe().unwrap();
    let out = run(0, || {
        let child = start(0, || help::forever());
        let signals = palisade_sys::signal::SignalFd::new(&[libc::SIGCHLD, libc::SIGTERM]).unwrap();
        confine();
        assert_eq!(process::waitid(Target::Pid(child.pid), true).unwrap(), None);
        process::kill(child.pid, libc::SIGCONT).unwrap();
        process::pidfd_send_signal(&child.pidfd, libc::SIGKILL).unwrap();
        let mut items = [event::PollItem::read(signals.as_fd())];
        assert_eq!(event::poll(&mut items, None).unwrap(), 1);
        assert_eq!(signals.read().unwrap().unwrap().signal, libc::SIGCHLD);
        let status = process::wait_any(false).unwrap().unwrap();
        assert_eq!(status.ended, Ended::Signaled { signal: libc::SIGKILL, core: false });
        fd::write(&write, b"report").unwrap();
        theirs.send(b"message").unwrap();
        let grown: Vec<u8> = vec![1; 8 << 20];
        assert_eq!(std::hint::black_box(&grown).len(), 8 << 20);
        drop(grown);
        std::thread::sleep(Duration::from_millis(1));
        process::exit_now(42);
    });
    assert_eq!(out.ended, Ended::Exited(42), "{}", out.said);
    assert_eq!(fd::read_some(&read, 100).unwrap(), b"report");
    let mut message = Vec::new();
    ours.recv(&mut message).unwrap();
    assert_eq!(message, b"message");
}

/// What an init has no need for: each act, and how it went.
fn forbidden() -> Vec<(&'static str, Result<(), Errno>)> {
    let call = |number: libc::c_long, a: usize, b: usize, c: usize| {
        // SAFETY: of these arguments the calls take no pointer but null; upheld by the callers below; else the kernel gives EFAULT.
        Errno::result(unsafe { libc::syscall(number, a, b, c, libc::MAP_PRIVATE | libc::MAP_ANONYMOUS, -1, 0) })
    };
    let close = |opened: Result<libc::c_long, Errno>| {
        // SAFETY: the call has just made it, so nobody else owns it; upheld by the kernel; else two owners close it.
        opened.map(|number| drop(unsafe { OwnedFd::from_raw_fd(i32::try_from(number).unwrap()) }))
    };
    let number = |value: libc::c_int| usize::try_from(value).unwrap();
    let executable = number(libc::PROT_READ | libc::PROT_EXEC);
    let unix = (number(libc::AF_UNIX), number(libc::SOCK_STREAM));
    let fork = process::fork().map_err(|error| error.kind()).map(|cloned| match cloned {
        process::Cloned::Child => process::exit_now(0),
        process::Cloned::Parent { pid, .. } => drop(process::waitid(Target::Pid(pid), false)),
    });
    // A missing program is enough to see whether the call is made at all.
    let exec = process::exec(Program::Path(c"/no/such"), &[c"x".to_owned()], &[]).kind();
    vec![
        ("open", fd::open_path("/proc/self/status", fd::O_RDONLY).map(drop).map_err(|error| error.kind())),
        ("socket", close(call(libc::SYS_socket, unix.0, unix.1, 0))),
        ("fork", fork),
        ("execve", if exec == Errno::ENOENT { Ok(()) } else { Err(exec) }),
        ("executable memory", call(libc::SYS_mmap, 0, 4096, executable).map(drop)),
        ("prctl", process::dumpable().map(drop).map_err(|error| error.kind())),
        ("setuid", call(libc::SYS_setuid, 0, 0, 0).map(drop)),
        ("unshare", call(libc::SYS_unshare, 0, 0, 0).map(drop)),
        ("dup", close(call(libc::SYS_dup, 2, 0, 0))),
    ]
}

fn the_inits_filter_refuses_all_else() {
    good(0, || {
        let before = forbidden();
        assert!(before.iter().all(|(_, result)| result.is_ok()), "{before:?}");
        confine();
        let after = forbidden();
        assert_eq!(after.len(), 9);
        assert!(after.iter().all(|(_, result)| *result == Err(Errno::EPERM)), "{after:?}");
        assert_eq!(refused(seccomp::install_filter(&[], 0), Errno::EPERM).errno(), libc::EPERM);
    });
}

/// The i386 entry, whose numbers mean other calls: 20 is getpid there and writev here.
#[cfg(target_arch = "x86_64")]
fn the_inits_filter_kills_other_architectures() {
    let foreign = |confined: bool| {
        run(0, || {
            if confined {
                confine();
            }
            let mut answer: u64 = 20;
            // SAFETY: getpid takes no argument and changes only the registers named here; upheld by the i386 entry of the kernel; else the compiler's values are lost.
            unsafe {
                std::arch::asm!("int 0x80", inout("rax") answer, out("r8") _, out("r9") _, out("r10") _, out("r11") _);
            }
            process::exit_now(i32::from(answer != u64::from(process::getpid().cast_unsigned())));
        })
        .ended
    };
    let signal = |signal| move |ended: Ended| ended.shell_code() == 128 + signal;
    // A kernel without the entry raises SIGSEGV, and then nothing is there to be closed.
    match foreign(false) {
        Ended::Exited(0) => assert!(signal(libc::SIGSYS)(foreign(true)), "{:?}", foreign(true)),
        other => assert!(signal(libc::SIGSEGV)(other) && signal(libc::SIGSEGV)(foreign(true)), "{other:?}"),
    }
}

#[cfg(not(target_arch = "x86_64"))]
fn the_inits_filter_kills_other_architectures() {
    // The other entries of this machine need a program of that architecture; the filter's first lines are the same.
    confine();
}
