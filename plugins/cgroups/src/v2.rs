//! The files of cgroup v2, and the choice of where a new cgroup can be made. Linux:
//! Documentation/admin-guide/cgroup-v2.rst.

use crate::group::{Check, Setting};
use crate::layout::{Place, Tree, Version, under};
use crate::limits::{Controller, Kind, Limit, PERIOD_US, names};
use crate::usage::{Reader, Usage};
use palisade_abi::Error;
use palisade_sys::{Errno, fd};
use std::path::Path;

/// How an ordinary user gets a cgroup that he may divide.
pub(crate) const DELEGATION: &str = "run it in a delegated scope: systemd-run --user --scope -p Delegate=yes -- palisade run ...; \
     or start as root; or write `demand: Degrade` in the policy to run without these limits";

/// What to write for a limit.
pub(crate) fn settings(limit: &Limit) -> Vec<Setting> {
    match limit.kind {
        Kind::NoLimit => vec![],
        Kind::MemoryMax(bytes) => vec![Setting::new("memory.max", bytes, Check::Bytes(bytes))],
        Kind::MemoryHigh(bytes) => vec![Setting::new("memory.high", bytes, Check::Bytes(bytes))],
        Kind::Swap { bytes, .. } => {
            vec![Setting::new("memory.swap.max", bytes, Check::Bytes(bytes)).of_swap(bytes)]
        }
        Kind::CpuMax { quota, .. } => {
            vec![Setting::new("cpu.max", format!("{quota} {PERIOD_US}"), Check::Exactly)]
        }
        Kind::CpuWeight(weight) => vec![Setting::new("cpu.weight", weight, Check::Exactly)],
        Kind::PidsMax(count) => vec![Setting::new("pids.max", count, Check::Exactly)],
    }
}

/// What the workload used.
pub(crate) fn usage(read: &Reader<'_>, controllers: &[Controller]) -> Result<Usage, Error> {
    let mut usage = Usage {
        // These lines are there without the cpu controller, too.
        cpu_us: read.field("cpu.stat", "usage_usec")?,
        ..Usage::default()
    };
    for controller in controllers {
        match controller {
            Controller::Memory => {
                // KERNEL(5.19): memory.peak.
                usage.memory_peak = read.number("memory.peak")?;
                usage.memory_reached = read.field("memory.events", "max")?;
                usage.oom_kills = read.field("memory.events", "oom_kill")?;
            }
            Controller::Cpu => {
                usage.throttled_us = read.field("cpu.stat", "throttled_usec")?;
                usage.throttled_periods = read.field("cpu.stat", "nr_throttled")?;
            }
            Controller::Pids => {
                // KERNEL(6.1): pids.peak.
                usage.pids_peak = read.number("pids.peak")?;
                usage.pids_refused = read.field("pids.events", "max")?;
            }
        }
    }
    Ok(usage)
}

/// Chooses where the new cgroup is made: below this process's own cgroup, else below the nearest one above it that
/// can be divided, so that every limit that holds for this process from there on up holds for the workload as well.
///
/// A cgroup that has processes cannot give its controllers to children (all but the root), and this process sits in
/// its own; nothing is moved to change that.
pub(crate) fn choose(tree: &Tree, fixed: bool) -> Result<Place, Error> {
    let mut reasons = Vec::new();
    let mut help = None;
    for below in tree.own.ancestors() {
        let dir = under(&tree.mount, below);
        match usable(&dir, &tree.wanted) {
            Ok(enable) => {
                return Ok(Place {
                    version: Version::V2,
                    controllers: tree.wanted.clone(),
                    accounting: true,
                    path: under(&tree.root, below),
                    dir,
                    enable,
                });
            }
            Err(No { why, busy }) => {
                reasons.push(format!("{}: {why}", dir.display()));
                if busy && help.is_none() {
                    help = Some(make_room(&dir));
                }
            }
        }
        if fixed {
            break;
        }
    }
    let wanted = names(&tree.wanted);
    let message = format!("no cgroup can be made that limits {wanted}");
    let help = help.unwrap_or_else(|| DELEGATION.to_owned());
    Err(Error::host(message).call(reasons.join("\n"), 0).help(help))
}

/// How the processes of a cgroup that could be divided are moved out of the way.
fn make_room(dir: &Path) -> String {
    let dir = dir.display();
    format!(
        "move what runs there into a child first, such as: mkdir {dir}/caller && \
         echo $$ > {dir}/caller/cgroup.procs; or {DELEGATION}"
    )
}

/// Why a cgroup cannot be divided.
struct No {
    why: String,
    /// Only because it has processes.
    busy: bool,
}

impl From<palisade_sys::Error> for No {
    fn from(error: palisade_sys::Error) -> Self {
        Self { why: error.to_string(), busy: false }
    }
}

/// Whether a cgroup with these controllers can be made in `dir`; gives those that must be enabled there first.
fn usable(dir: &Path, wanted: &[Controller]) -> Result<Vec<Controller>, No> {
    let handle = fd::open_path(dir, fd::O_PATH | fd::O_DIRECTORY)?;
    let list = |file| fd::read_to_string_at(&handle, file);
    let without = |text: &str| -> Vec<Controller> {
        let has = |c: &&Controller| !text.split_ascii_whitespace().any(|name| name == c.name());
        wanted.iter().filter(has).copied().collect()
    };
    let available = list("cgroup.controllers")?;
    let absent = without(&available);
    if !absent.is_empty() {
        let why = format!("has no {} controller, only: {}", names(&absent), available.trim());
        return Err(No { why, busy: false });
    }
    let enable = without(&list("cgroup.subtree_control")?);
    let mut written = vec![dir.to_owned(), dir.join("cgroup.procs")];
    written.extend((!enable.is_empty()).then(|| dir.join("cgroup.subtree_control")));
    for path in written {
        fd::may_write(&path)?;
    }
    // The file is in every cgroup but the root.
    let root = matches!(fd::fstat_at(&handle, "cgroup.type"), Err(e) if e.kind() == Errno::ENOENT);
    if !enable.is_empty() && !root && !list("cgroup.procs")?.is_empty() {
        let why = format!("has processes, so it cannot give {} to a child", names(&enable));
        return Err(No { why, busy: true });
    }
    Ok(enable)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::limits::tests::of;

    #[test]
    fn each_limit_is_a_file() {
        let text = r#"( memory: (max: "64MiB", high: "32MiB"), cpu: (max: "50%", weight: 7), pids: (max: 9) )"#;
        let all = of(text).unwrap();
        let all = all.iter().flat_map(settings).map(|s| format!("{} = {}", s.file, s.value));
        assert_eq!(
            all.collect::<Vec<_>>(),
            [
                "memory.max = 67108864",
                "memory.high = 33554432",
                "memory.swap.max = 0",
                "cpu.max = 50000 100000",
                "cpu.weight = 7",
                "pids.max = 9",
            ]
        );
    }

    #[test]
    fn every_place_that_was_tried_is_named() {
        let tree =
            Tree { mount: "/nonexistent".into(), root: "/".into(), own: "a/b".into(), wanted: vec![Controller::Pids] };
        let error = choose(&tree, false).unwrap_err();
        for dir in ["/nonexistent/a/b:", "/nonexistent/a:", "/nonexistent:"] {
            assert!(error.call.contains(dir), "{}", error.call);
        }
        assert!(error.help.contains("Delegate=yes"));
        assert_eq!(choose(&tree, true).unwrap_err().call.lines().count(), 1);
    }
}
