//! What can be limited, independent of the version of cgroups that will enforce it.

use crate::config::Partition;
use crate::devices::Rule;
use palisade_abi::Origin;
use palisade_abi::units::{CpuSet, Percent, Size};
use std::time::Duration;

/// A controller, as cgroup v2 names it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Controller {
    Memory,
    Cpu,
    Cpuset,
    Io,
    Hugetlb,
    Rdma,
    Misc,
    /// v2 has no controller for it: a program decides.
    Devices,
    /// v1 only, limits nothing: counts CPU time, which v2 does in every cgroup.
    Cpuacct,
    Pids,
    /// v1 only, limits nothing. The last one: all is undone in reverse, and by it nobody outruns who kills.
    Freezer,
}

impl Controller {
    /// Those that limit something.
    pub(crate) const ALL: [Self; 9] = [
        Self::Memory,
        Self::Cpu,
        Self::Cpuset,
        Self::Io,
        Self::Hugetlb,
        Self::Rdma,
        Self::Misc,
        Self::Devices,
        Self::Pids,
    ];

    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::Memory => "memory",
            Self::Cpu => "cpu",
            Self::Cpuset => "cpuset",
            Self::Io => "io",
            Self::Hugetlb => "hugetlb",
            Self::Rdma => "rdma",
            Self::Misc => "misc",
            Self::Devices => "devices",
            Self::Cpuacct => "cpuacct",
            Self::Pids => "pids",
            Self::Freezer => "freezer",
        }
    }

    /// As cgroup v1 names it.
    pub(crate) const fn v1_name(self) -> &'static str {
        match self {
            Self::Io => "blkio",
            other => other.name(),
        }
    }

    /// Whether a policy limits something by it; else it serves the launch, which can do without.
    pub(crate) const fn limits(self) -> bool {
        !matches!(self, Self::Cpuacct | Self::Freezer)
    }

    /// Whether a child of a v2 cgroup has it only after it was enabled above.
    pub(crate) const fn is_enabled(self) -> bool {
        !matches!(self, Self::Devices)
    }
}

/// The names of controllers for a sentence.
pub(crate) fn names(controllers: &[Controller]) -> String {
    controllers.iter().map(|c| c.name()).collect::<Vec<_>>().join(", ")
}

/// The window in which CPU time is counted, in microseconds; the kernel's own default.
pub(crate) const PERIOD_US: u64 = 100_000;

/// What is limited, and to how much.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    /// Bytes.
    MemoryMax(u64),
    /// Bytes.
    MemoryHigh(u64),
    /// Bytes.
    MemoryLow(u64),
    /// Bytes.
    MemoryMin(u64),
    /// Bytes of swap beyond `memory` bytes of memory. `implied`: the policy did not ask, but limits memory.
    Swap {
        bytes: u64,
        memory: Option<u64>,
        implied: bool,
    },
    /// Bytes.
    Zswap(u64),
    OomGroup,
    /// Microseconds in each [`PERIOD_US`].
    CpuMax {
        quota: u64,
        shown: Percent,
    },
    /// Microseconds.
    CpuBurst(u64),
    /// A weight as v2 counts it.
    CpuWeight(u32),
    CpuIdle,
    Cpus {
        cpus: CpuSet,
        with_mems: bool,
    },
    Mems {
        mems: CpuSet,
        with_cpus: bool,
    },
    Partition(Partition),
    /// Processes and threads.
    PidsMax(u64),
    /// By the share that it has of each device.
    IoWeight(u32),
    IoMax(IoMax),
    IoLatency {
        device: String,
        target: Duration,
    },
    /// `size` as the kernel names it, such as `2MB`, which is `page` bytes.
    Hugetlb {
        size: String,
        page: u64,
        bytes: u64,
    },
    Rdma {
        device: String,
        handles: Option<u64>,
        objects: Option<u64>,
    },
    Misc {
        resource: String,
        count: u64,
    },
    Devices(Vec<Rule>),
    /// The policy says `max`, or what is so by default: the fresh cgroup has no limit, and none is set.
    NoLimit,
}

/// Rates per second; `None`: no limit.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct IoMax {
    /// As the policy names it.
    pub(crate) device: String,
    pub(crate) read_bytes: Option<u64>,
    pub(crate) write_bytes: Option<u64>,
    pub(crate) read_ops: Option<u64>,
    pub(crate) write_ops: Option<u64>,
}

impl IoMax {
    /// Those that are limited, under the names of a version: bytes read, written, operations reading, writing.
    pub(crate) fn rates(&self, names: [&'static str; 4]) -> impl Iterator<Item = (&'static str, u64)> {
        let rates = [self.read_bytes, self.write_bytes, self.read_ops, self.write_ops];
        names.into_iter().zip(rates).filter_map(|(name, rate)| Some((name, rate?)))
    }

    fn words(&self) -> String {
        let shown = |(name, rate): (&str, u64)| match name {
            "read" | "written" => format!("{} {name}", Size(rate)),
            _ => format!("{rate} {name}"),
        };
        let rates = self.rates(["read", "written", "operations reading", "operations writing"]);
        rates.map(shown).collect::<Vec<_>>().join(", ")
    }
}

/// One limit of the policy.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Limit {
    /// As the policy writes it.
    pub(crate) name: String,
    pub(crate) controller: Controller,
    pub(crate) kind: Kind,
    pub(crate) origin: Option<Origin>,
}

impl Limit {
    /// What setting it does, for a user.
    pub(crate) fn words(&self) -> String {
        let what = match &self.kind {
            Kind::MemoryMax(bytes) => format!("limits memory to {}", Size(*bytes)),
            Kind::MemoryHigh(bytes) => format!("slows the workload down above {} of memory", Size(*bytes)),
            Kind::MemoryLow(bytes) => format!("keeps {} of memory for it as long as others have more", Size(*bytes)),
            Kind::MemoryMin(bytes) => format!("reserves {} of memory for it", Size(*bytes)),
            Kind::Swap { bytes: 0, .. } => "allows no swap".to_owned(),
            Kind::Swap { bytes, .. } => format!("limits swap to {}", Size(*bytes)),
            Kind::Zswap(0) => "allows no compressed swap in memory".to_owned(),
            Kind::Zswap(bytes) => format!("limits compressed swap in memory to {}", Size(*bytes)),
            Kind::OomGroup => "has all its processes killed where one would be, out of memory".to_owned(),
            Kind::CpuMax { shown, .. } => format!("limits CPU time to {shown} of one CPU"),
            Kind::CpuBurst(us) => format!("lets {us} us of unused CPU time be saved up"),
            Kind::CpuWeight(weight) => format!("gives CPU time by weight {weight} where others have 100"),
            Kind::CpuIdle => "gives only CPU time that nobody else wants".to_owned(),
            Kind::Cpus { cpus, .. } => format!("keeps it on the CPUs {cpus}"),
            Kind::Mems { mems, .. } => format!("keeps it on the memory nodes {mems}"),
            Kind::Partition(Partition::Root) => "takes its CPUs away from everybody else".to_owned(),
            Kind::Partition(_) => "takes its CPUs away from everybody else, and from the balancing of load".to_owned(),
            Kind::PidsMax(count) => format!("limits processes and threads to {count}"),
            Kind::IoWeight(weight) => format!("gives input and output by weight {weight} where others have 100"),
            Kind::IoMax(max) => format!("limits each second on the disk of {} to {}", max.device, max.words()),
            Kind::IoLatency { device, target } => {
                format!("slows others down for a latency of {target:?} on the disk of {device}")
            }
            Kind::Hugetlb { size, bytes, .. } => format!("limits huge pages of {size} to {}", Size(*bytes)),
            Kind::Rdma { device, .. } => format!("limits handles and objects of {device}"),
            Kind::Misc { resource, count } => format!("limits {resource} to {count}"),
            Kind::Devices(rules) => format!("allows {} devices and no other", rules.len()),
            Kind::NoLimit => "sets no limit, as the policy says".to_owned(),
        };
        format!("{what} ({})", self.name)
    }

    /// What it defends against.
    pub(crate) const fn why(&self) -> &'static str {
        match self.kind {
            Kind::MemoryMax(_) => "a workload that fills memory is killed before the host suffers",
            Kind::MemoryHigh(_) => "reclaim begins before the hard limit kills",
            Kind::MemoryLow(_) | Kind::MemoryMin(_) => "what is kept for one workload, another cannot take",
            Kind::Swap { implied: true, .. } => {
                "implied by memory.max: without it the limit would only push pages out to disk"
            }
            Kind::Swap { .. } => "a limit on memory alone would only push pages out to disk",
            Kind::Zswap(_) => "compressed pages take memory, too",
            Kind::OomGroup => "a workload that has lost one of its processes may be worse than one that is gone",
            Kind::CpuMax { .. } => "endless loops cannot take the other CPUs' time",
            Kind::CpuBurst(_) => "short bursts of work are not held back for the limit of the long run",
            Kind::CpuWeight(_) | Kind::CpuIdle => "where CPUs are contended, others keep their share",
            Kind::Cpus { .. } | Kind::Mems { .. } => "what runs elsewhere is not disturbed, caches included",
            Kind::Partition(_) => "what has CPUs of its own waits for nobody",
            Kind::PidsMax(_) => "a fork bomb ends at the limit",
            Kind::IoWeight(_) | Kind::IoMax(_) | Kind::IoLatency { .. } => "others get to the disk, too",
            Kind::Hugetlb { .. } | Kind::Rdma { .. } | Kind::Misc { .. } => "there are few of them for all",
            Kind::Devices(_) => "a device file that finds its way into the view opens nothing",
            Kind::NoLimit => "",
        }
    }
}
