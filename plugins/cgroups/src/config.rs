//! The section of a policy. `manifest.ron` holds the reference that sets every option.

use palisade_abi::serde::Deserialize;
use palisade_abi::units::{AbsPath, CountOrMax, CpuSet, Percent, Size, SizeOrMax, Time};
use palisade_abi::{At, Demand};
use std::collections::BTreeMap;

palisade_abi::layered! {
    /// The section `cgroups`.
    pub(crate) struct Config {
        /// Memory and swap.
        pub(crate) memory: Memory,
        /// CPU time.
        pub(crate) cpu: Cpu,
        /// Which CPUs and memory nodes.
        pub(crate) cpuset: Cpuset,
        /// Processes and threads.
        pub(crate) pids: Pids,
        /// Input and output of block devices.
        pub(crate) io: Io,
        /// Huge pages, by their size as the kernel writes it (`2MB`).
        pub(crate) hugetlb: BTreeMap<String, At<SizeOrMax>>,
        /// RDMA resources, by device.
        pub(crate) rdma: BTreeMap<String, Rdma>,
        /// Resources of the misc controller, by name.
        pub(crate) misc: BTreeMap<String, At<CountOrMax>>,
        /// Which devices can be used.
        pub(crate) devices: Devices,
        /// A cgroup that exists already, to make the new one in.
        pub(crate) parent: Option<At<AbsPath>>,
        /// What becomes of the launch where a limit cannot be had.
        pub(crate) demand: Option<At<Demand>>,
    }

    /// Memory and swap, in bytes.
    pub(crate) struct Memory {
        /// The most that may be used; beyond it the kernel kills.
        pub(crate) max: Option<At<SizeOrMax>>,
        /// Above it the workload is slowed and reclaimed from.
        pub(crate) high: Option<At<SizeOrMax>>,
        /// Below it others are reclaimed from first.
        pub(crate) low: Option<At<Size>>,
        /// Below it nothing is reclaimed from the workload.
        pub(crate) min: Option<At<Size>>,
        /// The most that may be swapped out.
        pub(crate) swap: Option<At<SizeOrMax>>,
        /// The most that may be kept compressed in memory instead of swap.
        pub(crate) zswap: Option<At<SizeOrMax>>,
        /// Whether all processes are killed where one would be.
        pub(crate) oom_group: Option<At<bool>>,
    }

    /// CPU time.
    pub(crate) struct Cpu {
        /// In percent of one CPU.
        pub(crate) max: Option<At<Percent>>,
        /// How much of unused quota may be saved up.
        pub(crate) burst: Option<At<Time>>,
        /// The share where CPUs are contended, 1 to 10000; 100 is what everybody else has.
        pub(crate) weight: Option<At<u32>>,
        /// Whether it only gets time that nobody else wants.
        pub(crate) idle: Option<At<bool>>,
    }

    /// Which CPUs and memory nodes.
    pub(crate) struct Cpuset {
        /// The CPUs.
        pub(crate) cpus: Option<At<CpuSet>>,
        /// The memory nodes.
        pub(crate) mems: Option<At<CpuSet>>,
        /// Whether the CPUs are taken away from everybody else.
        pub(crate) partition: Option<At<Partition>>,
    }

    /// Processes and threads.
    pub(crate) struct Pids {
        /// The most that may exist at once.
        pub(crate) max: Option<At<CountOrMax>>,
    }

    /// Input and output of block devices.
    pub(crate) struct Io {
        /// The share where a device is contended, 1 to 10000.
        pub(crate) weight: Option<At<u32>>,
        /// Limits by device: a path on it, its node, or its number.
        pub(crate) devices: BTreeMap<String, IoDevice>,
    }

    /// One block device. Rates are per second.
    pub(crate) struct IoDevice {
        /// Bytes read.
        pub(crate) read_bytes: Option<At<SizeOrMax>>,
        /// Bytes written.
        pub(crate) write_bytes: Option<At<SizeOrMax>>,
        /// Operations of reading.
        pub(crate) read_ops: Option<At<CountOrMax>>,
        /// Operations of writing.
        pub(crate) write_ops: Option<At<CountOrMax>>,
        /// The latency that others are slowed down for.
        pub(crate) latency: Option<At<Time>>,
    }

    /// One RDMA device.
    pub(crate) struct Rdma {
        /// Handles.
        pub(crate) handles: Option<At<CountOrMax>>,
        /// Objects.
        pub(crate) objects: Option<At<CountOrMax>>,
    }

    /// Which devices can be used.
    pub(crate) struct Devices {
        /// What becomes of those that no rule names.
        pub(crate) default: Option<At<Default>>,
        /// Those that can be used.
        pub(crate) allow: Vec<At<String>>,
    }
}

/// Whether CPUs are taken away from everybody else.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(crate = "palisade_abi::serde")]
pub(crate) enum Partition {
    /// They are shared.
    Member,
    /// They are its own, and balanced among its processes.
    Root,
    /// They are its own, and nothing is balanced.
    Isolated,
}

/// What becomes of devices that no rule names.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(crate = "palisade_abi::serde")]
pub(crate) enum Default {
    /// They cannot be used.
    Deny,
    /// They can, as far as their file's mode and the view let them.
    Allow,
}
