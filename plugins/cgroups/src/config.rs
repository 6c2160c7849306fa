//! The section of a policy. `manifest.ron` holds the reference that sets every option.

use palisade_abi::units::{AbsPath, CountOrMax, Percent, SizeOrMax};
use palisade_abi::{At, Demand};

palisade_abi::layered! {
    /// The section `cgroups`.
    pub(crate) struct Config {
        /// Memory and swap.
        pub(crate) memory: Memory,
        /// CPU time.
        pub(crate) cpu: Cpu,
        /// Processes and threads.
        pub(crate) pids: Pids,
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
        /// The most that may be swapped out.
        pub(crate) swap: Option<At<SizeOrMax>>,
    }

    /// CPU time.
    pub(crate) struct Cpu {
        /// In percent of one CPU.
        pub(crate) max: Option<At<Percent>>,
        /// The share where CPUs are contended, 1 to 10000; 100 is what everybody else has.
        pub(crate) weight: Option<At<u32>>,
    }

    /// Processes and threads.
    pub(crate) struct Pids {
        /// The most that may exist at once.
        pub(crate) max: Option<At<CountOrMax>>,
    }
}
