//! Figures and hits: what the workload used, and which limits it ran into.

use crate::group::Group;
use crate::layout::Version;
use crate::limits::{Kind, Limit};
use crate::{v1, v2};
use palisade_abi::ErrorContext as _;
use palisade_abi::units::Size;
use palisade_abi::{Error, Finish, Hit};
use palisade_sys::Errno;
use std::cell::RefCell;

/// What a workload used; absent where this kernel does not count it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Usage {
    pub(crate) memory_peak: Option<u64>,
    pub(crate) memory_reached: Option<u64>,
    pub(crate) oom_kills: Option<u64>,
    pub(crate) cpu_us: Option<u64>,
    pub(crate) throttled_us: Option<u64>,
    pub(crate) throttled_periods: Option<u64>,
    pub(crate) pids_peak: Option<u64>,
    pub(crate) pids_refused: Option<u64>,
}

/// Reads the counters of a cgroup, each file once.
pub(crate) struct Reader<'a> {
    group: &'a Group,
    last: RefCell<(&'static str, Option<String>)>,
}

impl<'a> Reader<'a> {
    fn new(group: &'a Group) -> Self {
        Self { group, last: RefCell::new(("", None)) }
    }

    /// The text of a file that younger kernels may have and this one not.
    fn text(&self, file: &'static str) -> Result<Option<String>, Error> {
        let mut last = self.last.borrow_mut();
        if last.0 != file {
            let text = match self.group.read(file) {
                Ok(text) => Some(text),
                Err(e) if e.kind() == Errno::ENOENT => None,
                Err(e) => return Err(e).doing(|| format!("cannot read {file}")),
            };
            *last = (file, text);
        }
        Ok(last.1.clone())
    }

    /// A file that is one number.
    pub(crate) fn number(&self, file: &'static str) -> Result<Option<u64>, Error> {
        Ok(self.text(file)?.and_then(|text| text.trim_end().parse().ok()))
    }

    /// One of several `name number` lines.
    pub(crate) fn field(&self, file: &'static str, name: &str) -> Result<Option<u64>, Error> {
        let text = self.text(file)?;
        let mut lines = text.iter().flat_map(|text| text.lines());
        Ok(lines.find_map(|line| line.strip_prefix(name)?.strip_prefix(' ')?.trim().parse().ok()))
    }
}

/// Adds up what the cgroups of one launch have counted.
pub(crate) fn finish(groups: &[Group], limits: &[Limit]) -> Result<Finish, Error> {
    let mut usage = Usage::default();
    for group in groups {
        let reader = Reader::new(group);
        let place = &group.place;
        let one = match place.version {
            Version::V1 => v1::usage(&reader, &place.controllers, place.accounting)?,
            Version::V2 => v2::usage(&reader, &place.controllers)?,
        };
        usage = usage.or(one);
    }
    Ok(Finish { figures: usage.figures(), hits: limits.iter().filter_map(|limit| usage.hit(limit)).collect() })
}

impl Usage {
    /// Each controller is in one cgroup only, so no two of them count the same.
    fn or(self, other: Self) -> Self {
        Self {
            memory_peak: self.memory_peak.or(other.memory_peak),
            memory_reached: self.memory_reached.or(other.memory_reached),
            oom_kills: self.oom_kills.or(other.oom_kills),
            cpu_us: self.cpu_us.or(other.cpu_us),
            throttled_us: self.throttled_us.or(other.throttled_us),
            throttled_periods: self.throttled_periods.or(other.throttled_periods),
            pids_peak: self.pids_peak.or(other.pids_peak),
            pids_refused: self.pids_refused.or(other.pids_refused),
        }
    }

    fn figures(&self) -> Vec<(String, u64)> {
        [
            ("memory_peak_bytes", self.memory_peak),
            ("memory_max_reached", self.memory_reached),
            ("oom_kills", self.oom_kills),
            ("cpu_usage_us", self.cpu_us),
            ("cpu_throttled_us", self.throttled_us),
            ("cpu_throttled_periods", self.throttled_periods),
            ("pids_peak", self.pids_peak),
            ("pids_refused", self.pids_refused),
        ]
        .into_iter()
        .filter_map(|(name, value)| Some((name.to_owned(), value?)))
        .collect()
    }

    fn hit(&self, limit: &Limit) -> Option<Hit> {
        let name = limit.name;
        let some = |count: Option<u64>| count.filter(|count| *count > 0);
        let (words, ended_it) = match limit.kind {
            Kind::MemoryMax(max) => {
                let kills = some(self.oom_kills)?;
                let peak = self.memory_peak.map(|peak| format!(", peak {}", shown(peak)));
                let times = if kills > 1 { format!(", {kills} processes") } else { String::new() };
                (format!("killed by {name} {}{}{times}", shown(max), peak.unwrap_or_default()), true)
            }
            Kind::CpuMax { shown, .. } => {
                let periods = some(self.throttled_periods)?;
                let waited = self.throttled_us.unwrap_or_default() / 1000;
                (format!("held back by {name} {shown} in {periods} periods of 100 ms, {waited} ms altogether"), false)
            }
            Kind::PidsMax(max) => {
                let refused = some(self.pids_refused)?;
                let times = if refused == 1 { "once".to_owned() } else { format!("{refused} times") };
                (format!("refused a new process or thread {times} by {name} {max}"), false)
            }
            _ => return None,
        };
        Some(Hit { limit: name.to_owned(), words, ended_it, origin: limit.origin })
    }
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
    use crate::limits::tests::of;

    fn hits(usage: Usage) -> Vec<(String, bool)> {
        let text = r#"( memory: (max: "64MiB"), cpu: (max: "50%"), pids: (max: 16) )"#;
        let limits = of(text).unwrap();
        limits.iter().filter_map(|limit| usage.hit(limit)).map(|hit| (hit.words, hit.ended_it)).collect()
    }

    #[test]
    fn only_limits_that_bit_are_told() {
        let quiet = Usage { oom_kills: Some(0), pids_refused: Some(0), throttled_periods: None, ..Usage::default() };
        assert!(hits(quiet).is_empty());
    }

    #[test]
    fn a_kill_ends_the_workload_and_the_rest_does_not() {
        let usage = Usage {
            memory_peak: Some(64 << 20),
            oom_kills: Some(1),
            throttled_us: Some(340_900),
            throttled_periods: Some(12),
            pids_refused: Some(3),
            ..Usage::default()
        };
        assert_eq!(
            hits(usage),
            [
                ("killed by memory.max 64MiB, peak 64MiB".to_owned(), true),
                ("held back by cpu.max 50% in 12 periods of 100 ms, 340 ms altogether".to_owned(), false),
                ("refused a new process or thread 3 times by pids.max 16".to_owned(), false),
            ]
        );
        assert_eq!(usage.figures().len(), 5);
    }

    #[test]
    fn odd_sizes_are_shown_in_mebibytes() {
        assert_eq!(shown((64 << 20) - 4096), "63.9MiB");
        assert_eq!(shown(4096), "4KiB");
    }
}
