//! What ties a process to its parent: the death signal, the reaper of orphans, and who may look into it.

use std::time::Duration;

use palisade_sys::process;

use crate::help::{self, Running, become_nobody, eventually, good, start};
use crate::runner::cases;

cases![
    the_death_signal_takes_the_child_along,
    a_subreaper_gets_the_orphans,
    a_process_that_is_not_dumpable_cannot_be_read,
    a_name_is_shown,
];

/// Starts a process that starts another, tells that one's id and ends at once; gives the other.
fn orphan(act: impl FnOnce()) -> (i32, Running) {
    let middle = start(0, || {
        let mut inner = start(0, || {
            act();
            eprintln!("ready");
            help::forever();
        });
        assert_eq!(inner.hear(), "ready\n");
        eprintln!("{}", inner.pid);
        // Its end must not kill what it leaves.
        std::mem::forget(inner);
        help::forever();
    });
    let mut middle = middle;
    let pid: i32 = middle.hear().trim().parse().unwrap();
    (pid, middle)
}

fn the_death_signal_takes_the_child_along() {
    let wait = |pid, time| {
        let pidfd = process::pidfd_open(pid).unwrap();
        let mut items = [palisade_sys::event::PollItem::read(std::os::fd::AsFd::as_fd(&pidfd))];
        palisade_sys::event::poll(&mut items, Some(time)).unwrap() == 1
    };
    let reap = |pid| process::waitid(process::Target::Pid(pid), false).unwrap().unwrap().ended;
    let (without, parent) = orphan(|| {});
    parent.kill(libc::SIGKILL);
    assert!(!wait(without, Duration::from_millis(200)));
    process::kill(without, libc::SIGTERM).unwrap();
    assert_eq!(reap(without).shell_code(), 128 + libc::SIGTERM);

    let (with, parent) = orphan(|| process::set_pdeathsig(libc::SIGUSR1).unwrap());
    assert!(!wait(with, Duration::from_millis(50)));
    parent.kill(libc::SIGKILL);
    assert!(wait(with, Duration::from_secs(60)));
    assert_eq!(reap(with).shell_code(), 128 + libc::SIGUSR1);
}

fn a_subreaper_gets_the_orphans() {
    // The case itself is a reaper, so an orphan of a process that is none comes here.
    let case = process::getpid();
    for reaper in [false, true] {
        let said = good(0, || {
            process::set_child_subreaper(reaper).unwrap();
            let (pid, parent) = orphan(|| {});
            let proc = palisade_sys::procfs::Proc::host().unwrap();
            let parent_of = || proc.pid(pid).unwrap().status().unwrap().parent;
            assert_eq!(parent_of(), parent.pid);
            let middle = parent.pid;
            parent.kill(libc::SIGKILL);
            eventually("the new parent", || parent_of() != middle);
            eprintln!("{} {}", process::getpid(), parent_of());
            process::kill(pid, libc::SIGKILL).unwrap();
            if reaper {
                assert_eq!(process::wait_any(false).unwrap().unwrap().pid, pid);
            }
        });
        let (own, parent) = said.trim().split_once(' ').unwrap();
        assert_eq!(parent, if reaper { own.to_owned() } else { case.to_string() });
        if !reaper {
            process::wait_any(false).unwrap().unwrap();
        }
    }
}

fn a_process_that_is_not_dumpable_cannot_be_read() {
    good(0, || {
        become_nobody();
        let environ = format!("/proc/{}/environ", process::getpid());
        let another_reads_it = || {
            let said = good(0, || eprintln!("{:?}", std::fs::read(&environ).map(|_| ()).map_err(|e| e.kind())));
            said.trim() == "Ok(())"
        };
        // The change of ids has taken the flag away.
        assert!(!process::dumpable().unwrap());
        assert!(!another_reads_it());
        process::set_dumpable(true).unwrap();
        assert!(process::dumpable().unwrap() && another_reads_it());
        process::set_dumpable(false).unwrap();
        assert!(!another_reads_it());
    });
}

fn a_name_is_shown() {
    assert_ne!(help::own("comm"), "a-name-of-fifte\n");
    process::set_name("a-name-of-fifteen-and-more").unwrap();
    assert_eq!(help::own("comm"), "a-name-of-fifte\n");
    help::refused(process::set_name("nul\0"), palisade_sys::Errno::EINVAL);
}
