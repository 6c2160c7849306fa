//! Figures and hits: what the workload used, and which limits it ran into.

use crate::group::Group;
use crate::layout::Version;
use crate::limits::{Controller, Kind, Limit};
use crate::{v1, v2};
use palisade_abi::ErrorContext as _;
use palisade_abi::units::Size;
use palisade_abi::{Error, Finish, Hit};
use palisade_sys::Errno;
use std::collections::BTreeMap;
use std::time::Duration;

/// What a workload used, by the names of the report; absent where this kernel does not count it.
pub(crate) type Usage = BTreeMap<&'static str, u64>;

/// One figure of a report, and where a cgroup has it.
#[derive(Debug)]
pub(crate) struct Counter {
    name: &'static str,
    controller: Controller,
    file: &'static str,
    take: Take,
    /// It says how much there is now: nothing, when all is over.
    live: bool,
}

impl Counter {
    pub(crate) const fn of(name: &'static str, controller: Controller, file: &'static str, take: Take) -> Self {
        Self { name, controller, file, take, live: false }
    }

    pub(crate) const fn live(name: &'static str, controller: Controller, file: &'static str, take: Take) -> Self {
        Self { live: true, ..Self::of(name, controller, file, take) }
    }
}

/// What of a file is the figure.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Take {
    /// The file is one number.
    Number,
    /// One of several `name number` lines.
    Field(&'static str),
    /// The same in nanoseconds; without a name the file is one number.
    Nanoseconds(&'static str),
    /// The numbers behind this word, in all lines.
    Sum(&'static str),
    /// Microseconds in which some of it waited. Linux: Documentation/accounting/psi.rst.
    Pressure,
}

impl Take {
    fn from(self, text: &str) -> Option<u64> {
        let field = |name: &str| {
            text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' ')?.trim().parse::<u64>().ok())
        };
        match self {
            Self::Number => text.trim_end().parse().ok(),
            Self::Field(name) => field(name),
            Self::Nanoseconds("") => Some(text.trim_end().parse::<u64>().ok()? / 1000),
            Self::Nanoseconds(name) => Some(field(name)? / 1000),
            Self::Sum(word) => Some(sum(text, word)),
            Self::Pressure => {
                let some = text.lines().find(|line| line.starts_with("some "))?;
                some.split_once("total=")?.1.trim_end().parse().ok()
            }
        }
    }
}

/// Adds up `rbytes=5`, or `Read 5`, in every line.
fn sum(text: &str, word: &str) -> u64 {
    let of = |line: &str| {
        let mut words = line.split_ascii_whitespace();
        words
            .find_map(|w| w.strip_prefix(word).map(str::to_owned))
            .and_then(|rest| if rest.is_empty() { words.next()?.parse::<u64>().ok() } else { rest.parse().ok() })
    };
    text.lines().filter_map(of).fold(0, u64::saturating_add)
}

/// Reads the counters of one cgroup, each file once.
fn read(group: &Group, live: bool, usage: &mut Usage) -> Result<(), Error> {
    let place = &group.place;
    let (counters, always) = match place.version {
        Version::V1 => (v1::COUNTERS, [].as_slice()),
        Version::V2 => (v2::COUNTERS, v2::ACCOUNTING),
    };
    let counters = counters.iter().filter(|counter| place.controllers.contains(&counter.controller));
    let mut last: (&str, Option<String>) = ("", None);
    for counter in counters.chain(always).filter(|counter| live || !counter.live) {
        if last.0 != counter.file {
            let text = match group.read(counter.file) {
                Ok(text) => Some(text),
                // Younger kernels have it, or this one was started without it (psi=0).
                Err(e) if matches!(e.kind(), Errno::ENOENT | Errno::EOPNOTSUPP) => None,
                Err(e) => return Err(e).doing(|| format!("cannot read {}", counter.file)),
            };
            last = (counter.file, text);
        }
        if let Some(value) = last.1.as_deref().and_then(|text| counter.take.from(text)) {
            usage.insert(counter.name, value);
        }
    }
    Ok(())
}

/// Each controller is in one cgroup only, so no two of them count the same.
fn all(groups: &[Group], live: bool) -> Result<Usage, Error> {
    let mut usage = Usage::new();
    groups.iter().try_for_each(|group| read(group, live, &mut usage))?;
    Ok(usage)
}

fn figures(usage: &Usage) -> Vec<(String, u64)> {
    usage.iter().map(|(name, value)| ((*name).to_owned(), *value)).collect()
}

/// What the cgroups of one launch have counted so far, and what is used now.
pub(crate) fn sample(groups: &[Group]) -> Result<Vec<(String, u64)>, Error> {
    Ok(figures(&all(groups, true)?))
}

/// What the cgroups of one launch have counted, and the limits that were hit.
pub(crate) fn finish(groups: &[Group], limits: &[Limit]) -> Result<Finish, Error> {
    let usage = all(groups, false)?;
    let hits = limits.iter().filter_map(|limit| hit(&usage, limit)).collect();
    Ok(Finish { figures: figures(&usage), hits })
}

/// Whether a process was killed for this limit, and not because the host or a cgroup above ran out of memory. v1 counts
/// only how much was used: what was refused was more than what was left, and is small.
fn reached(usage: &Usage, max: u64) -> bool {
    const REFUSED_AT_ONCE: u64 = 1 << 20;
    match (usage.get("memory_max_reached"), usage.get("memory_peak_bytes")) {
        (Some(times), _) => *times > 0,
        (None, Some(peak)) => peak.saturating_add(REFUSED_AT_ONCE) >= max,
        (None, None) => true,
    }
}

fn hit(usage: &Usage, limit: &Limit) -> Option<Hit> {
    let name = limit.name.as_str();
    let get = |name: &str| usage.get(name).copied();
    let some = |name: &str| get(name).filter(|count| *count > 0);
    let times = |count: u64| if count == 1 { "once".to_owned() } else { format!("{count} times") };
    let (words, ended_it) = match &limit.kind {
        Kind::MemoryMax(max) => {
            let kills = some("oom_kills")?;
            if !reached(usage, *max) {
                return None;
            }
            let peak = get("memory_peak_bytes").map(|peak| format!(", peak {}", shown(peak)));
            let several = if kills > 1 { format!(", {kills} processes") } else { String::new() };
            (format!("killed by {name} {}{}{several}", shown(*max), peak.unwrap_or_default()), true)
        }
        Kind::MemoryHigh(high) => {
            let reached = some("memory_high_reached")?;
            (format!("slowed down by {name} {} {}", shown(*high), times(reached)), false)
        }
        Kind::CpuMax { shown, .. } => {
            let periods = some("cpu_throttled_periods")?;
            let waited = get("cpu_throttled_us").unwrap_or_default() / 1000;
            (format!("held back by {name} {shown} in {periods} periods of 100 ms, {waited} ms altogether"), false)
        }
        Kind::PidsMax(max) => {
            let refused = some("pids_refused")?;
            (format!("refused a new process or thread {} by {name} {max}", times(refused)), false)
        }
        Kind::IoMax(_) => {
            // The kernel counts no throttling; a wait that can be noticed is told with its likely reason.
            let waited = get("io_pressure_us").filter(|us| *us >= 1_000)?;
            let waited = Duration::from_millis(waited / 1_000);
            (format!("waited {waited:?} for its disks, which {name} limits"), false)
        }
        _ => return None,
    };
    let words = format!("{words}\n{}", help(name, &limit.kind));
    Some(Hit { limit: name.to_owned(), words, ended_it, origin: limit.origin })
}

/// What can be done about a hit.
fn help(name: &str, kind: &Kind) -> String {
    let or = match kind {
        Kind::MemoryMax(_) => "or have it use less: files that it writes to a tmpfs count, too",
        Kind::MemoryHigh(_) => "or leave it out: nothing slows it down before memory.max then",
        Kind::CpuMax { .. } => "or give it more time; cpu.burst evens out what is short for moments only",
        Kind::PidsMax(_) => "or have it start fewer: threads count, and so does palisade's own init",
        _ => "or give it more time: others who use the disk make it wait, too",
    };
    format!("raise {name}, {or}")
}

/// Bytes for a reader: exact where it is a whole unit, else in MiB with one decimal place.
fn shown(bytes: u64) -> String {
    if bytes.is_multiple_of(1 << 20) || bytes < (1 << 20) {
        return Size(bytes).to_string();
    }
    let tenths = bytes / ((1 << 20) / 10);
    format!("{}.{}MiB", tenths / 10, tenths % 10)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::section::tests::of;

    /// The first line of each, once it is seen that a second one helps.
    fn hits(usage: &[(&'static str, u64)]) -> Vec<(String, bool)> {
        let text = r#"( memory: (max: "64MiB", high: "32MiB"), cpu: (max: "50%"), pids: (max: 16),
            io: (devices: { "8:0": (read_ops: 5) }) )"#;
        let (limits, usage) = (of(text).unwrap(), usage.iter().copied().collect());
        let first = |hit: Hit| {
            let (words, help) = hit.words.split_once('\n').unwrap();
            assert!(help.starts_with(&format!("raise {}, or ", hit.limit)), "{help}");
            (words.to_owned(), hit.ended_it)
        };
        limits.iter().filter_map(|limit| hit(&usage, limit)).map(first).collect()
    }

    #[test]
    fn only_limits_that_bit_are_told() {
        assert!(hits(&[]).is_empty());
        let quiet = ["oom_kills", "pids_refused", "cpu_throttled_periods", "memory_high_reached", "io_pressure_us"];
        assert!(hits(&quiet.map(|name| (name, 0))).is_empty());
    }

    #[test]
    fn a_kill_ends_the_workload_and_the_rest_does_not() {
        let usage = [
            ("memory_peak_bytes", 64 << 20),
            ("memory_high_reached", 1),
            ("memory_max_reached", 3),
            ("oom_kills", 1),
            ("cpu_throttled_us", 340_900),
            ("cpu_throttled_periods", 12),
            ("pids_refused", 3),
            ("io_pressure_us", 1_234_567),
        ];
        assert_eq!(
            hits(&usage),
            [
                ("killed by memory.max 64MiB, peak 64MiB".to_owned(), true),
                ("slowed down by memory.high 32MiB once".to_owned(), false),
                ("held back by cpu.max 50% in 12 periods of 100 ms, 340 ms altogether".to_owned(), false),
                ("waited 1.234s for its disks, which io.devices.8:0 limits".to_owned(), false),
                ("refused a new process or thread 3 times by pids.max 16".to_owned(), false),
            ]
        );
    }

    #[test]
    fn a_kill_for_want_of_memory_elsewhere_is_not_this_limit() {
        assert!(hits(&[("oom_kills", 1), ("memory_max_reached", 0)]).is_empty());
        assert!(hits(&[("oom_kills", 1), ("memory_peak_bytes", 60 << 20)]).is_empty());
        assert_eq!(hits(&[("oom_kills", 1), ("memory_peak_bytes", (64 << 20) - 4096)]).len(), 1);
    }

    #[test]
    fn each_form_of_a_file_is_read() {
        let stat = "8:0 rbytes=5 wbytes=7 rios=1\n254:0 rbytes=10 wbytes=0\n";
        let v1 = "8:0 Read 5\n8:0 Write 7\n254:0 Read 10\nTotal 22\n";
        let pressure = "some avg10=0.00 avg60=1.00 avg300=0.00 total=123\nfull avg10=0.00 total=9\n";
        for (take, text, value) in [
            (Take::Number, "17\n", Some(17)),
            (Take::Number, "max\n", None),
            (Take::Field("oom_kill"), "oom 1\noom_kill 2\noom_kill_x 3\n", Some(2)),
            (Take::Nanoseconds("t"), "t 5000\n", Some(5)),
            (Take::Nanoseconds(""), "7000\n", Some(7)),
            (Take::Sum("rbytes="), stat, Some(15)),
            (Take::Sum("Write"), v1, Some(7)),
            (Take::Sum("Read"), v1, Some(15)),
            (Take::Pressure, pressure, Some(123)),
        ] {
            assert_eq!(take.from(text), value, "{take:?} of {text:?}");
        }
    }

    #[test]
    fn odd_sizes_are_shown_in_mebibytes() {
        assert_eq!(shown((64 << 20) - 4096), "63.9MiB");
        assert_eq!(shown(4096), "4KiB");
    }
}
