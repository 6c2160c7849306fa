//! The files of cgroup v1. Linux: Documentation/admin-guide/cgroup-v1.

use crate::io::disk;
use crate::limits::{Controller, IoMax, Kind, Limit, PERIOD_US};
use crate::setting::{Check, Setting};
use crate::usage::{Counter, Take};
use palisade_abi::Error;

/// The largest weight of the BFQ scheduler; its default is 100, as that of v2 is. Linux: block/bfq-cgroup.c.
const MOST_BFQ: u32 = 1000;

/// `cpu.weight` 100 and `cpu.shares` 1024 are the two defaults, and both are proportional; v1 takes no less than 2.
pub(crate) fn shares(weight: u32) -> u64 {
    (u64::from(weight) * 1024 / 100).max(2)
}

/// What to write for a limit.
pub(crate) fn settings(limit: &Limit) -> Result<Vec<Setting>, Error> {
    Ok(match &limit.kind {
        Kind::NoLimit => vec![],
        Kind::MemoryMax(bytes) => vec![Setting::new("memory.limit_in_bytes", bytes, Check::Bytes(*bytes))],
        Kind::Swap { memory: None, .. } => {
            return Err(Error::host("cgroup v1 limits swap only together with memory").help("set memory.max as well"));
        }
        Kind::Swap { bytes, memory: Some(memory), .. } => {
            let both = memory.saturating_add(*bytes);
            vec![Setting::new("memory.memsw.limit_in_bytes", both, Check::Bytes(both)).of_swap(*bytes)]
        }
        Kind::CpuMax { quota, .. } => vec![
            // A fresh cgroup has this period; it is checked, not written.
            Setting::new("cpu.cfs_period_us", PERIOD_US, Check::Exactly).unwritten(),
            Setting::new("cpu.cfs_quota_us", quota, Check::Exactly),
        ],
        Kind::CpuBurst(us) => vec![Setting::new("cpu.cfs_burst_us", us, Check::Exactly)],
        Kind::CpuWeight(weight) => vec![Setting::new("cpu.shares", shares(*weight), Check::Exactly)],
        Kind::CpuIdle => vec![Setting::new("cpu.idle", 1, Check::Exactly)],
        // A fresh cgroup has neither CPUs nor nodes, and takes no process before it has both.
        Kind::Cpus { cpus, with_mems } => {
            let mems = (!with_mems).then(|| Setting::new("cpuset.mems", "cpuset.effective_mems", Check::Inherited));
            let cpus = Setting::new("cpuset.cpus", cpus, Check::Exactly);
            mems.into_iter().chain([cpus]).collect()
        }
        Kind::Mems { mems, with_cpus } => {
            let cpus = (!with_cpus).then(|| Setting::new("cpuset.cpus", "cpuset.effective_cpus", Check::Inherited));
            let mems = Setting::new("cpuset.mems", mems, Check::Exactly);
            cpus.into_iter().chain([mems]).collect()
        }
        Kind::PidsMax(count) => vec![Setting::new("pids.max", count, Check::Exactly)],
        Kind::IoMax(max) => throttle(max)?,
        Kind::IoWeight(weight) => vec![bfq(*weight, &limit.name)?],
        Kind::Hugetlb { size, page, bytes } => {
            let file = format!("hugetlb.{size}.limit_in_bytes");
            vec![Setting::new(file, bytes, Check::HugePages(*bytes, *page))]
        }
        Kind::Rdma { device, handles, objects } => vec![crate::v2::rdma(device, *handles, *objects)],
        Kind::Misc { resource, count } => vec![Setting::new("misc.max", format!("{resource} {count}"), Check::Words)],
        Kind::Devices(rules) => {
            let lines: Vec<String> = rules.iter().map(ToString::to_string).collect();
            let mut all = vec![Setting::new("devices.deny", "a", Check::Elsewhere)];
            all.extend(lines.iter().map(|line| Setting::new("devices.allow", line, Check::Elsewhere)));
            all.push(Setting::new("devices.list", lines.join("\n"), Check::Lines).unwritten());
            all
        }
        Kind::MemoryHigh(_)
        | Kind::MemoryLow(_)
        | Kind::MemoryMin(_)
        | Kind::Zswap(_)
        | Kind::OomGroup
        | Kind::Partition(_)
        | Kind::IoLatency { .. } => {
            return Err(Error::host(format!("cgroup v1 has no {}", limit.name)).help(format!(
                "boot with cgroup v2 (systemd.unified_cgroup_hierarchy=1), or leave {} out",
                limit.name
            )));
        }
    })
}

fn bfq(weight: u32, name: &str) -> Result<Setting, Error> {
    if weight > MOST_BFQ {
        return Err(Error::host(format!("cgroup v1 takes no {name} above {MOST_BFQ}"))
            .help("write a smaller weight: 100 is what others have"));
    }
    Ok(Setting::new("blkio.bfq.weight", weight, Check::Exactly))
}

fn throttle(max: &IoMax) -> Result<Vec<Setting>, Error> {
    let disk = disk(&max.device)?;
    let rates = max.rates(["read_bps", "write_bps", "read_iops", "write_iops"]);
    let line =
        |(name, rate)| Setting::new(format!("blkio.throttle.{name}_device"), format!("{disk} {rate}"), Check::Words);
    Ok(rates.map(line).collect())
}

/// What a cgroup counts.
pub(crate) const COUNTERS: &[Counter] = &[
    Counter::live("memory_bytes", Controller::Memory, "memory.usage_in_bytes", Take::Number),
    Counter::of("memory_peak_bytes", Controller::Memory, "memory.max_usage_in_bytes", Take::Number),
    // Not memory.failcnt, which stays 0 where swap is counted as well, and on 6.18 everywhere.
    Counter::of("oom_kills", Controller::Memory, "memory.oom_control", Take::Field("oom_kill")),
    Counter::of("cpu_usage_us", Controller::Cpuacct, "cpuacct.usage", Take::Nanoseconds("")),
    Counter::of("cpu_throttled_us", Controller::Cpu, "cpu.stat", Take::Nanoseconds("throttled_time")),
    Counter::of("cpu_throttled_periods", Controller::Cpu, "cpu.stat", Take::Field("nr_throttled")),
    Counter::live("pids", Controller::Pids, "pids.current", Take::Number),
    Counter::of("pids_peak", Controller::Pids, "pids.peak", Take::Number),
    Counter::of("pids_refused", Controller::Pids, "pids.events", Take::Field("max")),
    Counter::of("io_read_bytes", Controller::Io, "blkio.throttle.io_service_bytes_recursive", Take::Sum("Read")),
    Counter::of("io_write_bytes", Controller::Io, "blkio.throttle.io_service_bytes_recursive", Take::Sum("Write")),
];

#[cfg(test)]
mod tests {
    use super::*;
    use crate::section::tests::of;

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
        for text in [r#"( memory: (high: "1GiB") )"#, r#"( memory: (swap: "1GiB") )"#, r#"( memory: (min: "1GiB") )"#] {
            let error = settings(&of(text).unwrap()[0]).unwrap_err();
            assert!(!error.help.is_empty(), "{}", error.message);
        }
    }

    #[test]
    fn a_weight_that_v1_does_not_have_is_refused_and_not_made_smaller() {
        assert_eq!(written("( io: (weight: 1000) )"), ["blkio.bfq.weight = 1000"]);
        let error = settings(&of("( io: (weight: 1001) )").unwrap()[0]).unwrap_err();
        assert!(error.message.contains("no io.weight above 1000"), "{}", error.message);
    }

    #[test]
    fn a_cpuset_takes_the_rest_from_above() {
        assert_eq!(
            written(r#"( cpuset: (cpus: "0-1,3") )"#),
            ["cpuset.mems = cpuset.effective_mems", "cpuset.cpus = 0-1,3"]
        );
        assert_eq!(written(r#"( cpuset: (cpus: "1", mems: "0") )"#), ["cpuset.cpus = 1", "cpuset.mems = 0"]);
    }

    #[test]
    fn a_rate_is_a_line_for_the_disk() {
        assert_eq!(
            written(r#"( io: (devices: { "9999:0": (write_bytes: "1MiB", read_ops: 7, read_bytes: "max") }) )"#),
            ["blkio.throttle.write_bps_device = 9999:0 1048576", "blkio.throttle.read_iops_device = 9999:0 7"]
        );
    }

    #[test]
    fn devices_are_denied_before_some_are_allowed() {
        let all = written(r#"( devices: (default: Deny) )"#);
        assert_eq!((all[0].as_str(), all[1].as_str()), ("devices.deny = a", "devices.allow = c 1:3 rwm"));
        assert!(all[all.len() - 1].starts_with("devices.list = c 1:3 rwm\nc 1:5 rwm"));
    }
}
