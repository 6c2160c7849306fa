//! The section as a list of limits, independent of the version of cgroups that will enforce them.

use crate::config::Config;
use palisade_abi::units::{Percent, Size, SizeOrMax};
use palisade_abi::{At, Error, Origin};

/// A controller, as the kernel names it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Controller {
    Memory,
    Cpu,
    Pids,
}

impl Controller {
    pub(crate) const ALL: [Self; 3] = [Self::Memory, Self::Cpu, Self::Pids];

    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::Memory => "memory",
            Self::Cpu => "cpu",
            Self::Pids => "pids",
        }
    }
}

/// The names of controllers for a sentence.
pub(crate) fn names(controllers: &[Controller]) -> String {
    controllers.iter().map(|c| c.name()).collect::<Vec<_>>().join(", ")
}

/// The window in which CPU time is counted, in microseconds; the kernel's own default.
pub(crate) const PERIOD_US: u64 = 100_000;
/// The kernel refuses a smaller quota, in microseconds.
const LEAST_QUOTA_US: u64 = 1_000;
/// The weights that v2 takes; v1's shares are computed from them.
const WEIGHTS: std::ops::RangeInclusive<u32> = 1..=10_000;

/// What is limited, and to how much.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    /// Bytes.
    MemoryMax(u64),
    /// Bytes.
    MemoryHigh(u64),
    /// Bytes of swap beyond `memory` bytes of memory. `implied`: the policy did not ask, but limits memory.
    Swap { bytes: u64, memory: Option<u64>, implied: bool },
    /// Microseconds in each [`PERIOD_US`].
    CpuMax { quota: u64, shown: Percent },
    /// A weight as v2 counts it.
    CpuWeight(u32),
    /// Processes and threads.
    PidsMax(u64),
    /// The policy says `max`: the fresh cgroup has no limit, and none is set.
    NoLimit,
}

/// One limit of the policy.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Limit {
    /// As the policy writes it.
    pub(crate) name: &'static str,
    pub(crate) controller: Controller,
    pub(crate) kind: Kind,
    pub(crate) origin: Option<Origin>,
}

impl Limit {
    /// What setting it does, for a user.
    pub(crate) fn words(&self) -> String {
        let name = self.name;
        match self.kind {
            Kind::MemoryMax(bytes) => format!("limits memory to {} ({name})", Size(bytes)),
            Kind::MemoryHigh(bytes) => {
                format!("slows the workload down above {} of memory ({name})", Size(bytes))
            }
            Kind::Swap { bytes: 0, .. } => format!("allows no swap ({name})"),
            Kind::Swap { bytes, .. } => format!("limits swap to {} ({name})", Size(bytes)),
            Kind::CpuMax { shown, .. } => format!("limits CPU time to {shown} of one CPU ({name})"),
            Kind::CpuWeight(weight) => {
                format!("gives CPU time by weight {weight} where others have 100 ({name})")
            }
            Kind::PidsMax(count) => format!("limits processes and threads to {count} ({name})"),
            Kind::NoLimit => format!("sets no limit, as the policy says ({name})"),
        }
    }

    /// What it defends against.
    pub(crate) const fn why(&self) -> &'static str {
        match self.kind {
            Kind::MemoryMax(_) => "a workload that fills memory is killed before the host suffers",
            Kind::MemoryHigh(_) => "reclaim begins before the hard limit kills",
            Kind::Swap { implied: true, .. } => {
                "implied by memory.max: without it the limit would only push pages out to disk"
            }
            Kind::Swap { .. } => "a limit on memory alone would only push pages out to disk",
            Kind::CpuMax { .. } => "endless loops cannot take the other CPUs' time",
            Kind::CpuWeight(_) => "where CPUs are contended, others keep their share",
            Kind::PidsMax(_) => "a fork bomb ends at the limit",
            Kind::NoLimit => "",
        }
    }
}

fn size(value: SizeOrMax, kind: impl FnOnce(u64) -> Kind) -> Kind {
    value.limit().map_or(Kind::NoLimit, kind)
}

/// Makes the list, in the order in which the kernel wants them (memory before swap).
pub(crate) fn limits(config: &Config) -> Result<Vec<Limit>, Error> {
    let mut list = Vec::new();
    memory(config, &mut list);
    if let Some(at) = &config.cpu.max {
        list.push(Limit { name: "cpu.max", controller: Controller::Cpu, kind: cpu_max(at)?, origin: at.origin });
    }
    if let Some(at) = &config.cpu.weight {
        let kind = cpu_weight(at)?;
        list.push(Limit { name: "cpu.weight", controller: Controller::Cpu, kind, origin: at.origin });
    }
    if let Some(at) = &config.pids.max {
        let kind = at.value.limit().map_or(Kind::NoLimit, Kind::PidsMax);
        if kind == Kind::PidsMax(0) {
            return Err(Error::policy("`pids.max: 0` leaves no room for the workload itself")
                .at(at.origin)
                .help("write at least 2: palisade's own init counts as one process"));
        }
        list.push(Limit { name: "pids.max", controller: Controller::Pids, kind, origin: at.origin });
    }
    if list.is_empty() {
        return Err(Error::policy("the section `cgroups` limits nothing")
            .help("set a limit, such as `memory: (max: \"512MiB\")`, or remove the section"));
    }
    Ok(list)
}

fn memory(config: &Config, list: &mut Vec<Limit>) {
    let controller = Controller::Memory;
    let max = config.memory.max.as_ref();
    if let Some(at) = max {
        let kind = size(at.value, Kind::MemoryMax);
        list.push(Limit { name: "memory.max", controller, kind, origin: at.origin });
    }
    if let Some(at) = &config.memory.high {
        let kind = size(at.value, Kind::MemoryHigh);
        list.push(Limit { name: "memory.high", controller, kind, origin: at.origin });
    }
    let memory = max.and_then(|at| at.value.limit());
    let swap = |bytes, implied| Kind::Swap { bytes, memory, implied };
    let limit = match (&config.memory.swap, max) {
        (Some(at), _) => Some((size(at.value, |bytes| swap(bytes, false)), at.origin)),
        (None, Some(at)) if memory.is_some() => Some((swap(0, true), at.origin)),
        (None, _) => None,
    };
    list.extend(limit.map(|(kind, origin)| Limit { name: "memory.swap", controller, kind, origin }));
}

fn cpu_max(at: &At<Percent>) -> Result<Kind, Error> {
    let quota = at.value.of(PERIOD_US);
    if quota < LEAST_QUOTA_US {
        return Err(Error::policy(format!("`cpu.max: \"{}\"` is less than the kernel can limit to", at.value))
            .at(at.origin)
            .help("write at least \"1%\" of one CPU"));
    }
    Ok(Kind::CpuMax { quota, shown: at.value })
}

fn cpu_weight(at: &At<u32>) -> Result<Kind, Error> {
    if WEIGHTS.contains(&at.value) {
        return Ok(Kind::CpuWeight(at.value));
    }
    Err(Error::policy(format!("`cpu.weight: {}` is out of range", at.value))
        .at(at.origin)
        .help("write a weight from 1 to 10000; 100 is the default of every other cgroup"))
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use palisade_model::diag::SourceId;
    use palisade_model::layer::{Fragment, merge_layers};
    use palisade_model::vars::Vars;

    pub(crate) fn section(text: &str) -> Config {
        merge_layers(&[Fragment::policy(SourceId(0), text, 0)], &Vars::new()).unwrap()
    }

    pub(crate) fn of(text: &str) -> Result<Vec<Limit>, Error> {
        limits(&section(text))
    }

    /// The reference sets every option once, and every one of them makes sense.
    #[test]
    fn the_reference_sets_every_option() {
        let manifest = palisade_abi::manifest::Manifest::parse(include_str!("manifest.ron")).unwrap();
        let config = section(&manifest.reference);
        assert!(config.parent.is_some() && config.demand.is_some());
        let limits = limits(&config).unwrap();
        let names: Vec<_> = limits.iter().map(|limit| limit.name).collect();
        assert_eq!(names, ["memory.max", "memory.high", "memory.swap", "cpu.max", "cpu.weight", "pids.max"]);
    }

    fn words(text: &str) -> Vec<String> {
        of(text).unwrap().iter().map(Limit::words).collect()
    }

    #[test]
    fn every_limit_is_said_in_words() {
        let text = r#"( memory: (max: "512MiB", high: "400MiB", swap: "1GiB"),
            cpu: (max: "150%", weight: 50), pids: (max: 256) )"#;
        assert_eq!(
            words(text),
            [
                "limits memory to 512MiB (memory.max)",
                "slows the workload down above 400MiB of memory (memory.high)",
                "limits swap to 1GiB (memory.swap)",
                "limits CPU time to 150% of one CPU (cpu.max)",
                "gives CPU time by weight 50 where others have 100 (cpu.weight)",
                "limits processes and threads to 256 (pids.max)",
            ]
        );
    }

    #[test]
    fn a_limit_on_memory_alone_implies_no_swap() {
        assert_eq!(
            words(r#"( memory: (max: "1GiB") )"#),
            ["limits memory to 1GiB (memory.max)", "allows no swap (memory.swap)"]
        );
        assert_eq!(words(r#"( memory: (max: "max") )"#), ["sets no limit, as the policy says (memory.max)"]);
        let both = words(r#"( memory: (max: "1GiB", swap: "max") )"#);
        assert_eq!(both[1], "sets no limit, as the policy says (memory.swap)");
    }

    #[test]
    fn what_cannot_be_is_refused_with_help() {
        for (text, says) in [
            ("()", "limits nothing"),
            ("( pids: (max: 0) )", "no room"),
            (r#"( cpu: (max: "0.9%") )"#, "less than the kernel"),
            ("( cpu: (weight: 0) )", "out of range"),
            ("( cpu: (weight: 10001) )", "out of range"),
        ] {
            let error = of(text).unwrap_err();
            assert!(error.message.contains(says), "{text}: {}", error.message);
            assert!(!error.help.is_empty());
        }
    }
}
