//! Processes below a process, through procfs: how much processor time they used, and ending those that no
//! namespace ends.

use palisade_sys::procfs::Proc;
use palisade_sys::{process, signal};
use std::time::Duration;

/// All processes below `pid`, and itself.
fn family(proc: &Proc, pid: i32) -> Vec<i32> {
    let mut all = vec![pid];
    let mut next = 0;
    while let Some(parent) = all.get(next).copied() {
        next += 1;
        let children = proc.pid(parent).and_then(|p| p.children()).unwrap_or_default();
        all.extend(children);
    }
    all
}

/// Processor time of a process, of all below it, and of those below that have ended and were waited for.
pub(crate) fn cpu_time(pid: i32) -> Duration {
    let Ok(proc) = Proc::host() else { return Duration::ZERO };
    let ticks: u64 = family(&proc, pid).into_iter().filter_map(|p| ticks(&proc, p)).sum();
    Duration::from_millis(ticks * 1000 / palisade_sys::host::clock_ticks())
}

/// utime, stime, cutime and cstime: the 14th to 17th field of stat, behind the name in brackets (proc(5)).
fn ticks(proc: &Proc, pid: i32) -> Option<u64> {
    let stat = proc.pid(pid).ok()?.read("stat").ok()?;
    let (_, fields) = stat.rsplit_once(')')?;
    Some(fields.split_ascii_whitespace().skip(11).take(4).filter_map(|t| t.parse::<u64>().ok()).sum())
}

/// This process's children, to tell later which of them came from a workload.
pub(crate) fn children() -> Vec<i32> {
    let own = Proc::host().and_then(|proc| proc.pid(process::getpid()));
    own.and_then(|own| own.children()).unwrap_or_default()
}

/// Ends what is left of a workload without a pid namespace: an orphan of its came to us, the subreaper. `before`
/// are the children that this process had before. Goes round until nothing is left, because a process may fork
/// while it is looked for; bounded, because one that cannot be ended would hold us for ever.
pub(crate) fn end_orphans(before: &[i32]) {
    let Ok(proc) = Proc::host() else { return };
    for _ in 0..1000 {
        let orphans: Vec<i32> = children().into_iter().filter(|pid| !before.contains(pid)).collect();
        if orphans.is_empty() {
            return;
        }
        for pid in orphans.iter().flat_map(|orphan| family(&proc, *orphan)) {
            // ESRCH: it has ended by itself.
            process::kill(pid, signal::SIGKILL).ok();
        }
        for orphan in orphans {
            process::waitid(process::Target::Pid(orphan), false).ok();
        }
    }
}
