//! The files of cgroup v1. Linux: Documentation/admin-guide/cgroup-v1.

use crate::group::{Check, Setting};
use crate::limits::{Controller, Kind, Limit, PERIOD_US};
use crate::usage::{Reader, Usage};
use palisade_abi::Error;

/// `cpu.weight` 100 and `cpu.shares` 1024 are the two defaults, and both are proportional; v1 takes no less than 2.
pub(crate) fn shares(weight: u32) -> u64 {
    (u64::from(weight) * 1024 / 100).max(2)
}

/// What to write for a limit.
pub(crate) fn settings(limit: &Limit) -> Result<Vec<Setting>, Error> {
    Ok(match limit.kind {
        Kind::NoLimit => vec![],
        Kind::MemoryMax(bytes) => vec![Setting::new("memory.limit_in_bytes", bytes, Check::Bytes(bytes))],
        Kind::MemoryHigh(_) => {
            return Err(Error::host("cgroup v1 cannot slow a workload down before its memory limit (memory.high)")
                .at(limit.origin)
                .help("boot with cgroup v2 (systemd.unified_cgroup_hierarchy=1), or leave memory.high out"));
        }
        Kind::Swap { memory: None, .. } => {
            return Err(Error::host("cgroup v1 limits swap only together with memory")
                .at(limit.origin)
                .help("set memory.max as well"));
        }
        Kind::Swap { bytes, memory: Some(memory), .. } => {
            let both = memory.saturating_add(bytes);
            vec![Setting::new("memory.memsw.limit_in_bytes", both, Check::Bytes(both)).of_swap(bytes)]
        }
        Kind::CpuMax { quota, .. } => vec![
            // A fresh cgroup has this period; it is checked, not written.
            Setting::new("cpu.cfs_period_us", PERIOD_US, Check::Exactly).unwritten(),
            Setting::new("cpu.cfs_quota_us", quota, Check::Exactly),
        ],
        Kind::CpuWeight(weight) => vec![Setting::new("cpu.shares", shares(weight), Check::Exactly)],
        Kind::PidsMax(count) => vec![Setting::new("pids.max", count, Check::Exactly)],
    })
}

/// What the workload used.
pub(crate) fn usage(read: &Reader<'_>, controllers: &[Controller], accounting: bool) -> Result<Usage, Error> {
    let mut usage = Usage::default();
    for controller in controllers {
        match controller {
            Controller::Memory => {
                usage.memory_peak = read.number("memory.max_usage_in_bytes")?;
                usage.memory_reached = read.number("memory.failcnt")?;
                usage.oom_kills = read.field("memory.oom_control", "oom_kill")?;
            }
            Controller::Cpu => {
                usage.throttled_us = read.field("cpu.stat", "throttled_time")?.map(|ns| ns / 1000);
                usage.throttled_periods = read.field("cpu.stat", "nr_throttled")?;
                if accounting {
                    usage.cpu_us = read.number("cpuacct.usage")?.map(|ns| ns / 1000);
                }
            }
            Controller::Pids => {
                usage.pids_peak = read.number("pids.peak")?;
                usage.pids_refused = read.field("pids.events", "max")?;
            }
        }
    }
    Ok(usage)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::limits::tests::of;

    fn written(text: &str) -> Vec<String> {
        let limits = of(text).unwrap();
        let all = limits.iter().flat_map(|limit| settings(limit).unwrap());
        all.map(|s| format!("{} = {}", s.file, s.value)).collect()
    }

    #[test]
    fn memory_and_swap_are_counted_together() {
        assert_eq!(
            written(r#"( memory: (max: "64MiB", swap: "16MiB") )"#),
            ["memory.limit_in_bytes = 67108864", "memory.memsw.limit_in_bytes = 83886080"]
        );
    }

    #[test]
    fn weights_keep_their_proportion() {
        assert_eq!([1, 100, 50, 10_000].map(shares), [10, 1024, 512, 102_400]);
    }

    #[test]
    fn percent_of_one_cpu_is_a_quota() {
        assert_eq!(
            written(r#"( cpu: (max: "250%"), pids: (max: 64) )"#),
            ["cpu.cfs_period_us = 100000", "cpu.cfs_quota_us = 250000", "pids.max = 64"]
        );
    }

    #[test]
    fn what_v1_lacks_is_an_error_with_help() {
        for text in [r#"( memory: (high: "1GiB") )"#, r#"( memory: (swap: "1GiB") )"#] {
            let error = settings(&of(text).unwrap()[0]).unwrap_err();
            assert!(!error.help.is_empty(), "{}", error.message);
        }
    }
}
