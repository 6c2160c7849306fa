//! The files of cgroup v2, and the choice of where a new cgroup can be made. Linux:
//! Documentation/admin-guide/cgroup-v2.rst.

use crate::config::Partition;
use crate::io::disk;
use crate::layout::{Place, Tree, Version, under};
use crate::limits::{Controller, IoMax, Kind, Limit, PERIOD_US, names};
use crate::scope::{HANDED_OVER, Scope, Systemd};
use crate::setting::{Check, Setting};
use crate::usage::{Counter, Take};
use palisade_abi::{Error, ErrorContext as _};
use palisade_sys::{Errno, fd, process};
use std::path::Path;

/// How an ordinary user gets a cgroup that he may divide.
pub(crate) const DELEGATION: &str = "run it in a delegated scope: systemd-run --user --scope -p Delegate=yes -- palisade run ...; \
     or start as root; or write `demand: Degrade` in the policy to run without these limits";

/// What to write for a limit.
pub(crate) fn settings(limit: &Limit) -> Result<Vec<Setting>, Error> {
    let bytes = |file: &'static str, bytes: &u64| vec![Setting::new(file, bytes, Check::Bytes(*bytes))];
    Ok(match &limit.kind {
        // Devices are decided by a program, which is no file.
        Kind::NoLimit | Kind::Devices(_) => vec![],
        Kind::MemoryMax(max) => bytes("memory.max", max),
        Kind::MemoryHigh(high) => bytes("memory.high", high),
        Kind::MemoryLow(low) => bytes("memory.low", low),
        Kind::MemoryMin(min) => bytes("memory.min", min),
        Kind::Swap { bytes, .. } => {
            vec![Setting::new("memory.swap.max", bytes, Check::Bytes(*bytes)).of_swap(*bytes)]
        }
        Kind::Zswap(max) => bytes("memory.zswap.max", max),
        Kind::OomGroup => vec![Setting::new("memory.oom.group", 1, Check::Exactly)],
        Kind::CpuMax { quota, .. } => {
            vec![Setting::new("cpu.max", format!("{quota} {PERIOD_US}"), Check::Exactly)]
        }
        Kind::CpuBurst(us) => vec![Setting::new("cpu.max.burst", us, Check::Exactly)],
        Kind::CpuWeight(weight) => vec![Setting::new("cpu.weight", weight, Check::Exactly)],
        Kind::CpuIdle => vec![Setting::new("cpu.idle", 1, Check::Exactly)],
        // The kernel takes what is not there, and has the process run elsewhere: only the second file tells.
        Kind::Cpus { cpus, .. } => vec![
            Setting::new("cpuset.cpus", cpus, Check::Exactly),
            Setting::new("cpuset.cpus.effective", cpus, Check::Exactly).unwritten(),
        ],
        Kind::Mems { mems, .. } => vec![
            Setting::new("cpuset.mems", mems, Check::Exactly),
            Setting::new("cpuset.mems.effective", mems, Check::Exactly).unwritten(),
        ],
        Kind::Partition(partition) => {
            let value = match partition {
                Partition::Member => "member",
                Partition::Root => "root",
                Partition::Isolated => "isolated",
            };
            vec![Setting::new("cpuset.cpus.partition", value, Check::Exactly)]
        }
        Kind::PidsMax(count) => vec![Setting::new("pids.max", count, Check::Exactly)],
        Kind::IoWeight(weight) => vec![Setting::new("io.weight", format!("default {weight}"), Check::Words)],
        Kind::IoMax(max) => vec![Setting::new("io.max", io_max(max)?, Check::Words)],
        Kind::IoLatency { device, target } => {
            let value = format!("{} target={}", disk(device)?, target.as_micros());
            vec![Setting::new("io.latency", value, Check::Words)]
        }
        Kind::Hugetlb { size, page, bytes } => {
            vec![Setting::new(format!("hugetlb.{size}.max"), bytes, Check::HugePages(*bytes, *page))]
        }
        Kind::Rdma { device, handles, objects } => vec![rdma(device, *handles, *objects)],
        Kind::Misc { resource, count } => vec![Setting::new("misc.max", format!("{resource} {count}"), Check::Words)],
    })
}

fn io_max(max: &IoMax) -> Result<String, Error> {
    let mut line = disk(&max.device)?.to_string();
    line.extend(max.rates(["rbps", "wbps", "riops", "wiops"]).map(|(name, rate)| format!(" {name}={rate}")));
    Ok(line)
}

/// The same on v1. Linux: Documentation/admin-guide/cgroup-v1/rdma.rst.
pub(crate) fn rdma(device: &str, handles: Option<u64>, objects: Option<u64>) -> Setting {
    let count = |count: Option<u64>| count.map_or_else(|| "max".to_owned(), |count| count.to_string());
    let line = format!("{device} hca_handle={} hca_object={}", count(handles), count(objects));
    Setting::new("rdma.max", line, Check::Words)
}

/// What a cgroup counts.
pub(crate) const COUNTERS: &[Counter] = &[
    Counter::live("memory_bytes", Controller::Memory, "memory.current", Take::Number),
    // KERNEL(5.19): memory.peak.
    Counter::of("memory_peak_bytes", Controller::Memory, "memory.peak", Take::Number),
    Counter::of("memory_max_reached", Controller::Memory, "memory.events", Take::Field("max")),
    Counter::of("memory_high_reached", Controller::Memory, "memory.events", Take::Field("high")),
    Counter::of("oom_kills", Controller::Memory, "memory.events", Take::Field("oom_kill")),
    Counter::live("swap_bytes", Controller::Memory, "memory.swap.current", Take::Number),
    Counter::of("memory_pressure_us", Controller::Memory, "memory.pressure", Take::Pressure),
    Counter::of("cpu_throttled_us", Controller::Cpu, "cpu.stat", Take::Field("throttled_usec")),
    Counter::of("cpu_throttled_periods", Controller::Cpu, "cpu.stat", Take::Field("nr_throttled")),
    Counter::of("cpu_pressure_us", Controller::Cpu, "cpu.pressure", Take::Pressure),
    Counter::live("pids", Controller::Pids, "pids.current", Take::Number),
    // KERNEL(6.1): pids.peak.
    Counter::of("pids_peak", Controller::Pids, "pids.peak", Take::Number),
    Counter::of("pids_refused", Controller::Pids, "pids.events", Take::Field("max")),
    Counter::of("io_read_bytes", Controller::Io, "io.stat", Take::Sum("rbytes=")),
    Counter::of("io_write_bytes", Controller::Io, "io.stat", Take::Sum("wbytes=")),
    Counter::of("io_pressure_us", Controller::Io, "io.pressure", Take::Pressure),
];

/// Counted in every v2 cgroup, without any controller.
pub(crate) const ACCOUNTING: &[Counter] =
    &[Counter::of("cpu_usage_us", Controller::Cpu, "cpu.stat", Take::Field("usage_usec"))];

/// Chooses where the new cgroup is made: below this process's own cgroup, else below the nearest one above it that
/// can be divided, so that every limit that holds for this process from there on up holds for the workload as well.
///
/// A cgroup that has processes cannot give its controllers to children (all but the root), and this process sits in
/// its own; nothing is moved to change that.
pub(crate) fn choose(tree: &Tree, fixed: bool) -> Result<Place, Error> {
    if fixed {
        return below(tree, tree.own.ancestors().take(1));
    }
    let Some(systemd) = Systemd::running(process::euid()) else { return below(tree, tree.own.ancestors()) };
    let delegated =
        systemd.delegated(tree).map(|top| below(tree, tree.own.ancestors().take_while(|b| b.starts_with(top))));
    match (delegated, systemd.scope(tree)) {
        (Some(Ok(place)), _) => Ok(place),
        (_, Some((scope, above))) => in_scope(tree, scope, &above),
        (Some(Err(error)), None) => Err(error),
        (None, None) => below(tree, tree.own.ancestors()),
    }
}

/// A scope that is to be made.
fn in_scope(tree: &Tree, scope: Scope, above: &Path) -> Result<Place, Error> {
    let text = fd::open_path(above, fd::O_PATH | fd::O_DIRECTORY)
        .and_then(|dir| fd::read_to_string_at(dir, "cgroup.controllers"))
        .doing(|| format!("cannot see which controllers {} would have", scope.words()))?;
    let has = |c: &&Controller| HANDED_OVER.contains(c) && text.split_ascii_whitespace().any(|name| name == c.name());
    let has: Vec<Controller> = Controller::ALL.iter().filter(has).copied().collect();
    let absent: Vec<Controller> = tree.wanted.iter().filter(|c| c.is_enabled() && !has.contains(c)).copied().collect();
    if absent.is_empty() {
        return Ok(place(tree, Path::new(""), Vec::new(), Some(scope)));
    }
    let help = if scope.is_of_user() && absent.iter().all(|c| HANDED_OVER.contains(c)) {
        "have root hand it over to users, in /etc/systemd/system/user@.service.d/delegate.conf: \
         [Service] Delegate=cpu cpuset io memory pids; or start as root; \
         or write `demand: Degrade` in the policy to run without these limits"
    } else {
        "systemd hands over no more than these: as root, make a cgroup for it and name it as `parent`; \
         or write `demand: Degrade` in the policy to run without these limits"
    };
    let (absent, has) = (names(&absent), names(&has));
    Err(Error::host(format!("no cgroup can be made that limits {absent}"))
        .call(
            format!(
                "{}/cgroup.controllers: {} has no {absent} controller, only: {has}",
                above.display(),
                scope.words()
            ),
            0,
        )
        .help(help))
}

fn place(tree: &Tree, below: &Path, enable: Vec<Controller>, scope: Option<Scope>) -> Place {
    Place {
        version: Version::V2,
        controllers: tree.wanted.clone(),
        path: under(&tree.root, below),
        dir: under(&tree.mount, below),
        enable,
        scope,
    }
}

/// The place in the scope that was made for it at `path`, once whoever keeps it has stepped aside.
pub(crate) fn in_made_scope(
    place: &Place,
    path: &Path,
    step_aside: impl FnOnce(&Path) -> Result<(), Error>,
) -> Result<Place, Error> {
    let outside = || Error::setup(format!("systemd made {}, which is not in what is mounted here", path.display()));
    let below = path.strip_prefix(&place.path).map_err(|_outside| outside())?;
    let dir = under(&place.dir, below);
    step_aside(&dir)?;
    let enable = usable(&dir, &place.controllers).map_err(|no| {
        let call = format!("{}: {}", dir.display(), no.why);
        Error::host("the scope that systemd made cannot be divided").call(call, 0).help(DELEGATION)
    })?;
    Ok(Place { path: path.to_owned(), dir, enable, ..place.clone() })
}

/// The first of these directories that can be used.
fn below<'a>(tree: &Tree, candidates: impl Iterator<Item = &'a Path>) -> Result<Place, Error> {
    let mut reasons = Vec::new();
    let mut help = None;
    for below in candidates {
        let dir = under(&tree.mount, below);
        match usable(&dir, &tree.wanted) {
            Ok(enable) => return Ok(place(tree, below, enable, None)),
            Err(No { why, busy }) => {
                reasons.push(format!("{}: {why}", dir.display()));
                if busy && help.is_none() {
                    help = Some(make_room(&dir));
                }
            }
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

/// Those that a list of the kernel's does not have.
fn lacking(list: &str, wanted: &[Controller]) -> Vec<Controller> {
    let lacks = |c: &&Controller| !list.split_ascii_whitespace().any(|name| name == c.name());
    wanted.iter().filter(|c| c.is_enabled()).filter(lacks).copied().collect()
}

/// Whether a cgroup with these controllers can be made in `dir`; gives those that must be enabled there first.
fn usable(dir: &Path, wanted: &[Controller]) -> Result<Vec<Controller>, No> {
    let handle = fd::open_path(dir, fd::O_PATH | fd::O_DIRECTORY)?;
    let list = |file| fd::read_to_string_at(&handle, file);
    let available = list("cgroup.controllers")?;
    let absent = lacking(&available, wanted);
    if !absent.is_empty() {
        let why = format!("has no {} controller, only: {}", names(&absent), available.trim());
        return Err(No { why, busy: false });
    }
    let enable = lacking(&list("cgroup.subtree_control")?, wanted);
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
    use crate::section::tests::of;

    #[test]
    fn each_limit_is_a_file() {
        let text = r#"( memory: (max: "64MiB", high: "32MiB"), cpu: (max: "50%", weight: 7), pids: (max: 9),
            cpuset: (cpus: "1"), io: (devices: { "9999:0": (read_bytes: "1KiB", write_ops: 5, latency: "10ms") }),
            hugetlb: { "2MB": "4MiB" }, misc: { "sev": 3 }, rdma: { "mlx5_0": (handles: 2) } )"#;
        let all = of(text).unwrap();
        let all = all.iter().flat_map(|limit| settings(limit).unwrap()).map(|s| format!("{} = {}", s.file, s.value));
        assert_eq!(
            all.collect::<Vec<_>>(),
            [
                "memory.max = 67108864",
                "memory.high = 33554432",
                "memory.swap.max = 0",
                "cpu.max = 50000 100000",
                "cpu.weight = 7",
                "cpuset.cpus = 1",
                "cpuset.cpus.effective = 1",
                "io.max = 9999:0 rbps=1024 wiops=5",
                "io.latency = 9999:0 target=10000",
                "hugetlb.2MB.max = 4194304",
                "rdma.max = mlx5_0 hca_handle=2 hca_object=max",
                "misc.max = sev 3",
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
        assert_eq!(below(&tree, tree.own.ancestors()).unwrap_err().call.lines().count(), 3);
    }
}
