//! Processes below a process, through procfs: how much processor time they used, and ending those that no
//! namespace ends.

use palisade_sys::procfs::Proc;
use palisade_sys::{Result, process, signal};
use std::sync::{Mutex, MutexGuard, PoisonError};
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

/// The launches of this process that are under way.
struct Family {
    /// The processes that they were born as.
    births: Vec<i32>,
    /// How many of them have no init, so that this process adopts their orphans.
    adopting: u32,
    /// The children that this process had before the first of those.
    before: Vec<i32>,
    /// Whether it adopted orphans then.
    adopted: bool,
}

static FAMILY: Mutex<Family> =
    Mutex::new(Family { births: Vec::new(), adopting: 0, before: Vec::new(), adopted: false });

fn family_now() -> MutexGuard<'static, Family> {
    FAMILY.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The place of one launch among those of this process, from before its birth until all of it has ended. Orphans of
/// two launches cannot be told apart, so they end with the last one that adopts.
#[derive(Debug)]
pub(crate) struct Seat {
    adopts: bool,
    pid: Option<i32>,
}

impl Seat {
    pub(crate) fn take(adopts: bool) -> Result<Self> {
        if adopts {
            let mut family = family_now();
            if family.adopting == 0 {
                family.before = children();
                family.adopted = process::is_child_subreaper()?;
                process::set_child_subreaper(true)?;
            }
            family.adopting += 1;
        }
        Ok(Self { adopts, pid: None })
    }

    pub(crate) fn born(&mut self, pid: i32) {
        self.pid = Some(pid);
        family_now().births.push(pid);
    }
}

impl Drop for Seat {
    fn drop(&mut self) {
        let mut family = family_now();
        family.births.retain(|pid| Some(*pid) != self.pid);
        if !self.adopts {
            return;
        }
        family.adopting -= 1;
        if family.adopting == 0 {
            end_orphans(&family);
            // It could be set, so it can be set back.
            process::set_child_subreaper(family.adopted).ok();
        }
    }
}

fn children() -> Vec<i32> {
    let own = Proc::host().and_then(|proc| proc.pid(process::getpid()));
    own.and_then(|own| own.children()).unwrap_or_default()
}

/// Ends what is left of workloads without a pid namespace: orphans that came to us, the subreaper. Goes round until
/// nothing is left, because a process may fork while it is looked for; bounded, because one that cannot be ended
/// would hold us for ever.
fn end_orphans(known: &Family) {
    let Ok(proc) = Proc::host() else { return };
    for _ in 0..1000 {
        let is_orphan = |pid: &i32| !known.before.contains(pid) && !known.births.contains(pid);
        let orphans: Vec<i32> = children().into_iter().filter(is_orphan).collect();
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
