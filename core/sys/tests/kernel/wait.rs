//! Waiting: how a process ended, what it used, and signals to it.

use std::os::fd::AsFd as _;
use std::time::{Duration, Instant};

use palisade_sys::event::{self, PollItem, Timer};
use palisade_sys::process::{self, Ended, Target};
use palisade_sys::{Errno, fd, limits};

use crate::help::{self, good, good_as_nobody, refused, run, start};
use crate::runner::cases;

cases![
    the_end_is_told_as_it_was,
    usage_is_what_was_used,
    nohang_does_not_wait,
    kill_and_pidfd_send_signal_reach_and_are_refused,
    poll_finds_what_is_ready,
    limits_bind,
];

fn the_end_is_told_as_it_was() {
    assert_eq!(run(0, || process::exit_now(0)).ended, Ended::Exited(0));
    assert_eq!(run(0, || process::exit_now(255)).ended, Ended::Exited(255));
    let killed = run(0, || process::kill(process::getpid(), libc::SIGKILL).unwrap());
    assert_eq!(killed.ended, Ended::Signaled { signal: libc::SIGKILL, core: false });
    // An exit code of 137 is not a kill, although a shell cannot tell them apart.
    let exited = run(0, || process::exit_now(137));
    assert_eq!((exited.ended, exited.ended.shell_code()), (Ended::Exited(137), killed.ended.shell_code()));
}

fn usage_is_what_was_used() {
    let idle = run(0, || {}).usage;
    let busy = run(0, || {
        let start = Instant::now();
        let memory = vec![1_u8; 48 << 20];
        let mut sum = 0_u64;
        while start.elapsed() < Duration::from_millis(300) {
            sum = memory.iter().step_by(4096).fold(sum, |sum, byte| std::hint::black_box(sum + u64::from(*byte)));
        }
        assert!(sum > 0);
    })
    .usage;
    let cpu = busy.user + busy.system;
    assert!(cpu > Duration::from_millis(50) && cpu > 2 * idle.user, "{idle:?} {busy:?}");
    assert!(busy.max_rss_kib > idle.max_rss_kib + 40 * 1024, "{idle:?} {busy:?}");
}

fn nohang_does_not_wait() {
    refused(process::wait_any(true), Errno::ECHILD);
    let child = start(0, || help::forever());
    assert_eq!(process::wait_any(true).unwrap(), None);
    assert_eq!(process::waitid(Target::Pid(child.pid), true).unwrap(), None);
    assert_eq!(process::waitid(Target::PidFd(child.pidfd.as_fd()), true).unwrap(), None);
    process::pidfd_send_signal(&child.pidfd, libc::SIGKILL).unwrap();
    assert!(child.ends_within(Duration::from_secs(60)));
    assert_eq!(process::wait_any(true).unwrap().unwrap().pid, child.pid);
    let error = refused(process::waitid(Target::Pid(child.pid), false), Errno::ECHILD);
    assert_eq!(error.call(), format!("waitid(P_PID, {}, WEXITED)", child.pid));
}

fn kill_and_pidfd_send_signal_reach_and_are_refused() {
    let child = start(0, || help::forever());
    let pid = child.pid;
    let same = process::pidfd_open(pid).unwrap();
    process::pidfd_send_signal(&same, 0).unwrap();
    good_as_nobody(|| {
        refused(process::kill(pid, libc::SIGTERM), Errno::EPERM);
        refused(process::pidfd_send_signal(&same, libc::SIGTERM), Errno::EPERM);
    });
    assert!(!child.ends_within(Duration::from_millis(20)));
    process::kill(pid, libc::SIGTERM).unwrap();
    assert!(child.ends_within(Duration::from_secs(60)));
    assert_eq!(child.kill(0).ended.shell_code(), 128 + libc::SIGTERM);
    refused(process::kill(pid, 0), Errno::ESRCH);
    refused(process::pidfd_open(pid), Errno::ESRCH);
}

fn poll_finds_what_is_ready() {
    let (read, write) = fd::pipe().unwrap();
    let look = |timeout| {
        let mut items = [PollItem::read(read.as_fd()), PollItem::read_write(write.as_fd())];
        let found = event::poll(&mut items, Some(timeout)).unwrap();
        let [read, write] = items;
        (found, read.readable, read.hup, write.writable)
    };
    assert_eq!(look(Duration::ZERO), (1, false, false, true));
    fd::write(&write, b"x").unwrap();
    assert_eq!(look(Duration::ZERO), (2, true, false, true));
    let start = Instant::now();
    let silent = fd::pipe().unwrap();
    assert_eq!(event::poll(&mut [PollItem::read(silent.0.as_fd())], Some(Duration::from_millis(60))).unwrap(), 0);
    assert!(start.elapsed() >= Duration::from_millis(60));
    let timer = Timer::oneshot(Duration::from_millis(30)).unwrap();
    let mut items = [PollItem::read(timer.as_fd()), PollItem::read(silent.0.as_fd())];
    assert_eq!(event::poll(&mut items, None).unwrap(), 1);
    assert!(items[0].readable && !items[1].is_ready());
    timer.restart(Duration::from_secs(3600)).unwrap();
    assert_eq!(event::poll(&mut [PollItem::read(timer.as_fd())], Some(Duration::ZERO)).unwrap(), 0);
    drop(silent.1);
    let mut ended = [PollItem::read(silent.0.as_fd())];
    assert_eq!(event::poll(&mut ended, None).unwrap(), 1);
    assert!(ended[0].hup && !ended[0].readable);
}

fn limits_bind() {
    good(0, || {
        let nofile = limits::Resource::from_name("nofile").unwrap();
        let files = || (0..20).map(|_| fd::pipe()).collect::<palisade_sys::Result<Vec<_>>>();
        files().unwrap();
        let (_, hard) = limits::get_rlimit(nofile).unwrap();
        limits::set_rlimit(nofile, 12, 12).unwrap();
        let error = refused(files(), Errno::EMFILE);
        assert!(error.hint().unwrap().contains("RLIMIT_NOFILE"));
        assert_eq!(limits::get_rlimit(nofile).unwrap(), (12, 12));
        refused(limits::set_rlimit(nofile, 13, 12), Errno::EINVAL);
        assert!(hard > 12);
    });
    good_as_nobody(|| {
        let core = limits::Resource::from_name("RLIMIT_CORE").unwrap();
        limits::set_rlimit(core, 0, 0).unwrap();
        let error = refused(limits::set_rlimit(core, 0, 1), Errno::EPERM);
        assert!(error.hint().unwrap().contains("CAP_SYS_RESOURCE"));
        limits::set_nice(limits::get_nice().unwrap() + 1).unwrap();
        refused(limits::set_nice(-20), Errno::EACCES);
    });
    good(0, || {
        let cpus = limits::get_affinity().unwrap();
        limits::set_affinity(&cpus[..1]).unwrap();
        assert_eq!(limits::get_affinity().unwrap(), cpus[..1]);
        refused(limits::set_affinity(&[1023]), Errno::EINVAL);
        limits::set_umask(0o027).unwrap();
        assert_eq!(limits::set_umask(0o077).unwrap(), 0o027);
        refused(limits::set_umask(0o1000), Errno::EINVAL);
    });
}
