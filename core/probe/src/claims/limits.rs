//! What a workload may use up, exceeded.

use super::Place;
use crate::attempts::crowd;
use crate::verdict::{Stop, Tried, Verdict};
use palisade_runtime::model::policy::Cap;
use palisade_runtime::model::units::Percent;
use palisade_sys::fd;
use palisade_sys::process::{self, Cloned, Target};
use std::fs::File;
use std::hint::black_box;
use std::time::{Duration, Instant};

/// How long a share of the processors is watched.
const SPIN: Duration = Duration::from_millis(1500);
/// The longest limit of time that is waited for.
const LONGEST: Duration = Duration::from_secs(20);
/// The most processes, and the most open files, that are tried.
const MOST: u64 = 20_000;
/// On the host, what is taken must be there so many times.
const PLENTY: u64 = 4;

/// How many seconds it may take to exceed a limit; why it is not tried, where it is not.
pub(super) fn seconds(cap: &Cap, place: Place) -> Result<u32, String> {
    let count = |limit: u64, what: &str| {
        if limit <= MOST { Ok(20) } else { Err(format!("more than {MOST} {what} are not tried")) }
    };
    match cap {
        Cap::Memory(size) if place == Place::Host && available() < size.0.saturating_mul(PLENTY) => {
            Err(format!("the host has less than {PLENTY} times as much memory to spare"))
        }
        Cap::Memory(_) | Cap::FileSize(_) => Ok(30),
        Cap::Pids(limit) => count(*limit, "processes"),
        Cap::OpenFiles(limit) => count(*limit, "open files"),
        Cap::Cpu(_) => Ok(10),
        Cap::Time(time) if time.0 > LONGEST => Err(format!("more than {} s are not waited for", LONGEST.as_secs())),
        Cap::Time(time) => Ok(u32::try_from(time.0.as_secs()).unwrap_or(20) + 10),
    }
}

/// Memory that the host has to spare, in bytes; nothing where it does not say.
pub(crate) fn available() -> u64 {
    let text = std::fs::read_to_string("/proc/meminfo").unwrap_or_default();
    let line = text.lines().find_map(|line| line.strip_prefix("MemAvailable:"));
    line.and_then(|line| line.trim().trim_end_matches(" kB").parse::<u64>().ok()).unwrap_or(0).saturating_mul(1024)
}

pub(crate) fn exceed(cap: &Cap) -> Tried {
    match cap {
        Cap::Memory(size) => memory(size.0),
        Cap::Pids(limit) => crowd(usize::try_from(*limit).unwrap_or(usize::MAX).saturating_add(1)),
        Cap::OpenFiles(limit) => files(*limit),
        Cap::FileSize(size) => file_size(size.0),
        Cap::Cpu(percent) => processors(*percent),
        Cap::Time(time) => {
            std::thread::sleep(time.0 + Duration::from_secs(2));
            Ok(true)
        }
    }
}

/// An eighth more than is allowed, all of it touched.
fn memory(limit: u64) -> Tried {
    const PIECE: usize = 1 << 20;
    let wanted = usize::try_from(limit + limit / 8).map_err(|_large| Stop::unclear("too much to be counted"))?;
    let mut held = Vec::new();
    while held.len() * PIECE < wanted {
        let mut piece: Vec<u8> = Vec::new();
        if piece.try_reserve_exact(PIECE).is_err() {
            return Err(Stop(Verdict::Limited("ENOMEM".to_owned())));
        }
        piece.resize(PIECE, 1);
        held.push(black_box(piece));
    }
    Ok(true)
}

fn files(limit: u64) -> Tried {
    let first = fd::open_path("/", fd::O_PATH)?;
    let mut held = Vec::new();
    for _ in 0..=limit {
        held.push(fd::dup_cloexec(&first)?);
    }
    Ok(true)
}

/// A file with nothing in it but a length.
fn file_size(limit: u64) -> Tried {
    let path = std::env::temp_dir().join(format!("palisade-claim-{}", process::getpid()));
    let file = File::create_new(&path)?;
    // By its descriptor it goes on without a name, so that nothing is left, however this ends.
    std::fs::remove_file(&path)?;
    file.set_len(limit + 1)?;
    Ok(true)
}

/// More processors than are allowed, as far as there are: whether a tenth more than the share was had.
fn processors(share: Percent) -> Tried {
    let there = std::thread::available_parallelism().map_or(1, usize::from);
    let begun = Instant::now();
    let mut children = Vec::new();
    for _ in 0..there {
        match process::fork().map_err(|error| Stop::unclear(&error.to_string()))? {
            Cloned::Child => {
                while begun.elapsed() < SPIN {
                    black_box(());
                }
                process::exit_now(0);
            }
            Cloned::Parent { pid, .. } => children.push(pid),
        }
    }
    let mut used = Duration::ZERO;
    for child in children {
        if let Some(status) = process::waitid(Target::Pid(child), false)? {
            used += status.usage.user + status.usage.system;
        }
    }
    let micros = |time: Duration| u64::try_from(time.as_micros()).unwrap_or(u64::MAX);
    let (used, whole) = (micros(used), micros(begun.elapsed()));
    if used > share.of(whole) + share.of(whole) / 10 + whole / 50 {
        return Ok(true);
    }
    let had = used.saturating_mul(100).checked_div(whole).unwrap_or(0);
    Err(Stop(Verdict::Limited(format!("{had} %"))))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::verdict::verdict;
    use palisade_runtime::model::units::{Size, Time};

    #[test]
    fn what_is_too_much_for_the_host_is_not_tried_there() {
        let huge = Cap::Memory(Size(u64::MAX / 8));
        assert!(seconds(&huge, Place::Host).is_err());
        assert!(seconds(&huge, Place::Inside).is_ok());
        assert!(seconds(&Cap::Time(Time(Duration::from_secs(600))), Place::Inside).is_err());
        assert!(seconds(&Cap::Pids(MOST + 1), Place::Inside).is_err());
    }

    #[test]
    fn what_is_not_limited_can_be_had() {
        // Not processes: the test harness has threads, beside which none can be made.
        for cap in [Cap::Memory(Size(8 << 20)), Cap::OpenFiles(50), Cap::FileSize(Size(1 << 20))] {
            assert_eq!(verdict(exceed(&cap)).text(), "OPEN", "{cap:?}");
        }
    }
}
