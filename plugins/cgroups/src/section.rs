//! The section of a policy as a list of limits, checked.

use crate::config::{Config, Default, IoDevice, Partition};
use crate::devices;
use crate::limits::{Controller, IoMax, Kind, Limit, PERIOD_US};
use palisade_abi::units::{CountOrMax, Percent, SizeOrMax};
use palisade_abi::{At, Error, Origin};

/// The kernel refuses a smaller quota, in microseconds.
const LEAST_QUOTA_US: u64 = 1_000;
/// The weights that v2 takes; v1's shares are computed from them.
const WEIGHTS: std::ops::RangeInclusive<u32> = 1..=10_000;

/// The list as it grows.
#[derive(Debug)]
struct List(Vec<Limit>);

impl List {
    fn push(&mut self, controller: Controller, name: impl Into<String>, kind: Kind, origin: Option<Origin>) {
        self.0.push(Limit { name: name.into(), controller, kind, origin });
    }

    /// A value that the policy may have, and what limit it is.
    fn add<T>(&mut self, controller: Controller, name: &str, value: Option<&At<T>>, kind: impl FnOnce(&T) -> Kind) {
        if let Some(at) = value {
            self.push(controller, name, kind(&at.value), at.origin);
        }
    }
}

fn size(value: SizeOrMax, kind: impl FnOnce(u64) -> Kind) -> Kind {
    value.limit().map_or(Kind::NoLimit, kind)
}

fn count(value: CountOrMax, kind: impl FnOnce(u64) -> Kind) -> Kind {
    value.limit().map_or(Kind::NoLimit, kind)
}

/// Makes the list, in the order in which the kernel wants them (memory before swap).
pub(crate) fn limits(config: &Config) -> Result<Vec<Limit>, Error> {
    let mut list = List(Vec::new());
    memory(config, &mut list);
    cpu(config, &mut list)?;
    cpuset(config, &mut list)?;
    if let Some(at) = &config.io.weight {
        list.push(Controller::Io, "io.weight", Kind::IoWeight(weight("io.weight", at)?), at.origin);
    }
    for (device, limits) in &config.io.devices {
        io(device, limits, &mut list)?;
    }
    few(config, &mut list)?;
    device_rules(config, &mut list)?;
    list.add(Controller::Pids, "pids.max", config.pids.max.as_ref(), |value| count(*value, Kind::PidsMax));
    let list = list.0;
    if let Some(none) = list.iter().find(|limit| limit.kind == Kind::PidsMax(0)) {
        return Err(Error::policy("`pids.max: 0` leaves no room for the workload itself")
            .at(none.origin)
            .help("write at least 2: palisade's own init counts as one process"));
    }
    if list.is_empty() {
        return Err(Error::policy("the section `cgroups` limits nothing")
            .help("set a limit, such as `memory: (max: \"512MiB\")`, or remove the section"));
    }
    Ok(list)
}

fn memory(config: &Config, list: &mut List) {
    let of = Controller::Memory;
    let section = &config.memory;
    let max = section.max.as_ref();
    list.add(of, "memory.max", max, |value| size(*value, Kind::MemoryMax));
    list.add(of, "memory.high", section.high.as_ref(), |value| size(*value, Kind::MemoryHigh));
    list.add(of, "memory.low", section.low.as_ref(), |value| Kind::MemoryLow(value.0));
    list.add(of, "memory.min", section.min.as_ref(), |value| Kind::MemoryMin(value.0));
    let memory = max.and_then(|at| at.value.limit());
    let swap = |bytes, implied| Kind::Swap { bytes, memory, implied };
    match (&section.swap, max) {
        (Some(at), _) => list.push(of, "memory.swap", size(at.value, |bytes| swap(bytes, false)), at.origin),
        (None, Some(at)) if memory.is_some() => list.push(of, "memory.swap", swap(0, true), at.origin),
        (None, _) => {}
    }
    list.add(of, "memory.zswap", section.zswap.as_ref(), |value| size(*value, Kind::Zswap));
    list.add(
        of,
        "memory.oom_group",
        section.oom_group.as_ref(),
        |value| if *value { Kind::OomGroup } else { Kind::NoLimit },
    );
}

fn cpu(config: &Config, list: &mut List) -> Result<(), Error> {
    let section = &config.cpu;
    let mut quota = None;
    if let Some(at) = &section.max {
        let kind = cpu_max(at)?;
        quota = Some(at.value.of(PERIOD_US));
        list.push(Controller::Cpu, "cpu.max", kind, at.origin);
    }
    if let Some(at) = &section.burst {
        let us = u64::try_from(at.value.0.as_micros()).unwrap_or(u64::MAX);
        let says = match quota {
            None => Some("`cpu.burst` without `cpu.max` saves up nothing".to_owned()),
            Some(quota) if us > quota => Some(format!("`cpu.burst: \"{}\"` is more than cpu.max gives", at.value)),
            Some(_) => None,
        };
        if let Some(says) = says {
            return Err(Error::policy(says).at(at.origin).help(
                "set cpu.max as well; the burst is at most what it gives in one period of 100 ms: \"50ms\" for \"50%\"",
            ));
        }
        list.push(Controller::Cpu, "cpu.burst", Kind::CpuBurst(us), at.origin);
    }
    let idle = section.idle.as_ref().filter(|at| at.value);
    if let (Some(weight), Some(_)) = (&section.weight, idle) {
        return Err(Error::policy("a workload with `cpu.idle: true` has no weight")
            .at(weight.origin)
            .help("remove `weight`, or `idle`"));
    }
    if let Some(at) = &section.weight {
        list.push(Controller::Cpu, "cpu.weight", Kind::CpuWeight(weight("cpu.weight", at)?), at.origin);
    }
    list.add(
        Controller::Cpu,
        "cpu.idle",
        section.idle.as_ref(),
        |value| if *value { Kind::CpuIdle } else { Kind::NoLimit },
    );
    Ok(())
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

fn weight(name: &str, at: &At<u32>) -> Result<u32, Error> {
    if WEIGHTS.contains(&at.value) {
        return Ok(at.value);
    }
    Err(Error::policy(format!("`{name}: {}` is out of range", at.value))
        .at(at.origin)
        .help("write a weight from 1 to 10000; 100 is the default of every other cgroup"))
}

fn cpuset(config: &Config, list: &mut List) -> Result<(), Error> {
    let of = Controller::Cpuset;
    let section = &config.cpuset;
    let (with_cpus, with_mems) = (section.cpus.is_some(), section.mems.is_some());
    list.add(of, "cpuset.cpus", section.cpus.as_ref(), |value| Kind::Cpus { cpus: value.clone(), with_mems });
    list.add(of, "cpuset.mems", section.mems.as_ref(), |value| Kind::Mems { mems: value.clone(), with_cpus });
    match &section.partition {
        Some(at) if at.value != Partition::Member && !with_cpus => {
            Err(Error::policy("`cpuset.partition` without `cpuset.cpus` has nothing to take")
                .at(at.origin)
                .help("say which CPUs: `cpuset: (cpus: \"2-3\", partition: Root)`"))
        }
        at => {
            list.add(of, "cpuset.partition", at.as_ref(), |value| match value {
                Partition::Member => Kind::NoLimit,
                own => Kind::Partition(*own),
            });
            Ok(())
        }
    }
}

fn io(device: &str, section: &IoDevice, list: &mut List) -> Result<(), Error> {
    let size = |at: &Option<At<SizeOrMax>>| at.as_ref().and_then(|at| at.value.limit());
    let count = |at: &Option<At<CountOrMax>>| at.as_ref().and_then(|at| at.value.limit());
    let origin = |at: Option<&At<SizeOrMax>>| at.and_then(|at| at.origin);
    let max = IoMax {
        device: device.to_owned(),
        read_bytes: size(&section.read_bytes),
        write_bytes: size(&section.write_bytes),
        read_ops: count(&section.read_ops),
        write_ops: count(&section.write_ops),
    };
    let first = origin(section.read_bytes.as_ref())
        .or_else(|| origin(section.write_bytes.as_ref()))
        .or_else(|| section.read_ops.as_ref().and_then(|at| at.origin))
        .or_else(|| section.write_ops.as_ref().and_then(|at| at.origin));
    let rates = section.read_bytes.is_some()
        || section.write_bytes.is_some()
        || section.read_ops.is_some()
        || section.write_ops.is_some();
    if !rates && section.latency.is_none() {
        return Err(Error::policy(format!("the section `io.devices` limits nothing of `{device}`"))
            .help("set one of read_bytes, write_bytes, read_ops, write_ops, latency, or remove the device"));
    }
    if rates {
        let nothing = IoMax { device: device.to_owned(), ..IoMax::default() };
        let kind = if max == nothing { Kind::NoLimit } else { Kind::IoMax(max) };
        list.push(Controller::Io, format!("io.devices.{device}"), kind, first);
    }
    list.add(Controller::Io, &format!("io.devices.{device}.latency"), section.latency.as_ref(), |value| {
        Kind::IoLatency { device: device.to_owned(), target: value.0 }
    });
    Ok(())
}

/// What there are few of: huge pages, RDMA, misc.
fn few(config: &Config, list: &mut List) -> Result<(), Error> {
    for (name, at) in &config.hugetlb {
        let page = page(name).ok_or_else(|| {
            Error::policy(format!("`{name}` is not a size of huge pages"))
                .at(at.origin)
                .help("write it as the kernel does: \"2MB\", \"1GB\"; ls /sys/kernel/mm/hugepages shows what there is")
        })?;
        let kind = size(at.value, |bytes| Kind::Hugetlb { size: name.clone(), page, bytes });
        list.push(Controller::Hugetlb, format!("hugetlb.{name}"), kind, at.origin);
    }
    for (device, section) in &config.rdma {
        let of = |at: &Option<At<CountOrMax>>| at.as_ref().and_then(|at| at.value.limit());
        let (handles, objects) = (of(&section.handles), of(&section.objects));
        let origin = section.handles.as_ref().or(section.objects.as_ref()).and_then(|at| at.origin);
        let device = word(device, origin)?;
        let kind = Kind::Rdma { device: device.clone(), handles, objects };
        list.push(Controller::Rdma, format!("rdma.{device}"), kind, origin);
    }
    for (resource, at) in &config.misc {
        let resource = word(resource, at.origin)?;
        let name = format!("misc.{resource}");
        list.push(Controller::Misc, name, count(at.value, |count| Kind::Misc { resource, count }), at.origin);
    }
    Ok(())
}

/// The kernel takes these names apart at blanks.
fn word(name: &str, origin: Option<Origin>) -> Result<String, Error> {
    let good = !name.is_empty() && name.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_' || b == b'-');
    let error = || Error::policy(format!("`{name}` is not a name")).at(origin);
    good.then(|| name.to_owned())
        .ok_or_else(|| error().help("write it as the kernel lists it: letters, digits, _ and -"))
}

/// The bytes of a huge page by the name that the kernel gives it.
fn page(name: &str) -> Option<u64> {
    let scales = [("KB", 10), ("MB", 20), ("GB", 30)];
    scales.iter().find_map(|(unit, shift)| {
        let digits = name.strip_suffix(unit)?;
        digits.parse::<u64>().ok().filter(|n| *n > 0)?.checked_mul(1 << shift)
    })
}

fn device_rules(config: &Config, list: &mut List) -> Result<(), Error> {
    let section = &config.devices;
    let default = section.default.as_ref();
    let origin = default.and_then(|at| at.origin).or_else(|| section.allow.first().and_then(|at| at.origin));
    match default.map(|at| at.value) {
        None if section.allow.is_empty() => {}
        Some(Default::Allow) if !section.allow.is_empty() => {
            return Err(Error::policy("`devices.default: Allow` allows every device")
                .at(origin)
                .help("remove `allow`, or write `default: Deny`"));
        }
        Some(Default::Allow) => list.push(Controller::Devices, "devices", Kind::NoLimit, origin),
        None | Some(Default::Deny) => {
            list.push(Controller::Devices, "devices", Kind::Devices(devices::rules(&section.allow)?), origin);
        }
    }
    Ok(())
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
        let names: Vec<_> = limits.iter().map(|limit| limit.name.as_str()).collect();
        assert_eq!(
            names,
            [
                "memory.max",
                "memory.high",
                "memory.low",
                "memory.min",
                "memory.swap",
                "memory.zswap",
                "memory.oom_group",
                "cpu.max",
                "cpu.burst",
                "cpu.weight",
                "cpu.idle",
                "cpuset.cpus",
                "cpuset.mems",
                "cpuset.partition",
                "io.weight",
                "io.devices./var",
                "io.devices./var.latency",
                "hugetlb.2MB",
                "rdma.mlx5_0",
                "misc.sev",
                "devices",
                "pids.max",
            ]
        );
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
            ("()", "the section `cgroups` limits nothing"),
            ("( pids: (max: 0) )", "no room"),
            (r#"( cpu: (max: "0.9%") )"#, "less than the kernel"),
            ("( cpu: (weight: 0) )", "out of range"),
            ("( cpu: (weight: 10001) )", "out of range"),
            ("( io: (weight: 0) )", "out of range"),
            ("( cpu: (weight: 5, idle: true) )", "has no weight"),
            (r#"( cpu: (burst: "10ms") )"#, "without `cpu.max`"),
            (r#"( cpu: (max: "10%", burst: "11ms") )"#, "more than"),
            (r#"( hugetlb: { "2": "max" } )"#, "not a size of huge pages"),
            (r#"( misc: { "a b": 1 } )"#, "not a name"),
            (r#"( io: (devices: { "/": () }) )"#, "limits nothing of"),
            ("( cpuset: (partition: Root) )", "without `cpuset.cpus`"),
            (r#"( devices: (default: Allow, allow: ["c 1:3 r"]) )"#, "allows every device"),
        ] {
            let error = of(text).unwrap_err();
            assert!(error.message.contains(says), "{text}: {}", error.message);
            assert!(!error.help.is_empty());
        }
    }
}
