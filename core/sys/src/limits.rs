//! Limits and attributes of a process: rlimits, nice, affinity, umask.

use nix::sched::CpuSet;
use nix::sys::resource as sys;
use nix::sys::stat::Mode;
use nix::unistd::Pid;

use crate::error::{Error, OrCall, Result};
use crate::raw;

/// No limit.
pub const UNLIMITED: u64 = libc::RLIM_INFINITY;

/// A resource of getrlimit(2).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Resource(sys::Resource);

/// Every resource: the name in a policy, and the kernel's.
const TABLE: [(&str, &str, sys::Resource); 16] = [
    ("as", "RLIMIT_AS", sys::Resource::RLIMIT_AS),
    ("core", "RLIMIT_CORE", sys::Resource::RLIMIT_CORE),
    ("cpu", "RLIMIT_CPU", sys::Resource::RLIMIT_CPU),
    ("data", "RLIMIT_DATA", sys::Resource::RLIMIT_DATA),
    ("fsize", "RLIMIT_FSIZE", sys::Resource::RLIMIT_FSIZE),
    ("locks", "RLIMIT_LOCKS", sys::Resource::RLIMIT_LOCKS),
    ("memlock", "RLIMIT_MEMLOCK", sys::Resource::RLIMIT_MEMLOCK),
    ("msgqueue", "RLIMIT_MSGQUEUE", sys::Resource::RLIMIT_MSGQUEUE),
    ("nice", "RLIMIT_NICE", sys::Resource::RLIMIT_NICE),
    ("nofile", "RLIMIT_NOFILE", sys::Resource::RLIMIT_NOFILE),
    ("nproc", "RLIMIT_NPROC", sys::Resource::RLIMIT_NPROC),
    ("rss", "RLIMIT_RSS", sys::Resource::RLIMIT_RSS),
    ("rtprio", "RLIMIT_RTPRIO", sys::Resource::RLIMIT_RTPRIO),
    ("rttime", "RLIMIT_RTTIME", sys::Resource::RLIMIT_RTTIME),
    ("sigpending", "RLIMIT_SIGPENDING", sys::Resource::RLIMIT_SIGPENDING),
    ("stack", "RLIMIT_STACK", sys::Resource::RLIMIT_STACK),
];

impl Resource {
    /// Finds a resource by its short name (`nofile`) or the kernel's (`RLIMIT_NOFILE`).
    #[must_use]
    pub fn from_name(name: &str) -> Option<Self> {
        TABLE.iter().find(|row| row.0 == name || row.1 == name).map(|row| Self(row.2))
    }

    /// Lists every resource.
    pub fn all() -> impl Iterator<Item = Self> {
        TABLE.iter().map(|row| Self(row.2))
    }

    /// Gives the short name.
    #[must_use]
    pub fn name(self) -> &'static str {
        TABLE.iter().find(|row| row.2 == self.0).map_or("", |row| row.0)
    }

    fn kernel_name(self) -> &'static str {
        TABLE.iter().find(|row| row.2 == self.0).map_or("", |row| row.1)
    }
}

fn show(limit: u64) -> String {
    if limit == UNLIMITED { "RLIM_INFINITY".to_owned() } else { limit.to_string() }
}

/// Sets soft and hard limit, in the resource's own unit.
///
/// Needs: CAP_SYS_RESOURCE in the initial user namespace to raise the hard one. Fails: EINVAL when
/// soft is above hard. setrlimit(2).
pub fn set_rlimit(resource: Resource, soft: u64, hard: u64) -> Result<()> {
    sys::setrlimit(resource.0, soft, hard)
        .or_call(|| format!("setrlimit({}, {}, {})", resource.kernel_name(), show(soft), show(hard)))
}

/// Reads soft and hard limit. getrlimit(2).
pub fn get_rlimit(resource: Resource) -> Result<(u64, u64)> {
    sys::getrlimit(resource.0).or_call(|| format!("getrlimit({})", resource.kernel_name()))
}

/// Sets the nice value, -20 to 19.
///
/// Needs: CAP_SYS_NICE or RLIMIT_NICE to lower it. setpriority(2).
pub fn set_nice(nice: i32) -> Result<()> {
    let args = [0, 0, raw::int(nice), 0, 0];
    // SAFETY: setpriority takes no pointer; upheld by its man page; else nothing is touched.
    unsafe { raw::syscall(libc::SYS_setpriority, args) }
        .map(drop)
        .or_call(|| format!("setpriority(PRIO_PROCESS, 0, {nice})"))
}

/// Reads the nice value. getpriority(2).
pub fn get_nice() -> Result<i32> {
    // SAFETY: getpriority takes no pointer; upheld by its man page; else nothing is touched.
    let raw = unsafe { raw::syscall(libc::SYS_getpriority, [0; 5]) }
        .and_then(raw::small)
        .or_call(|| "getpriority(PRIO_PROCESS, 0)".to_owned())?;
    // The call itself gives 20 - nice, so that no value looks like an error.
    Ok(20 - raw)
}

/// Binds the process to these CPUs.
///
/// Fails: EINVAL when none is online and allowed, or a number is above 1023. sched_setaffinity(2).
pub fn set_affinity(cpus: &[u32]) -> Result<()> {
    let call = || format!("sched_setaffinity(0, {cpus:?})");
    let mut set = CpuSet::new();
    for cpu in cpus {
        set.set(raw::word(u64::from(*cpu))).or_call(call)?;
    }
    nix::sched::sched_setaffinity(Pid::from_raw(0), &set).or_call(call)
}

/// Reads the CPUs that the process may run on. sched_getaffinity(2).
pub fn get_affinity() -> Result<Vec<u32>> {
    let set = nix::sched::sched_getaffinity(Pid::from_raw(0)).or_call(|| "sched_getaffinity(0)".to_owned())?;
    let is_set = |cpu: &u32| set.is_set(raw::word(u64::from(*cpu))).unwrap_or(false);
    Ok((0..1024).filter(is_set).collect())
}

/// Sets the umask and gives the one before; bits beyond 0777 are refused. umask(2).
///
/// Fails: EINVAL for such a bit.
pub fn set_umask(mask: u32) -> Result<u32> {
    let error = || Error::new(nix::errno::Errno::EINVAL, format!("umask({mask:#o})"));
    let mode = Mode::from_bits(mask).filter(|_| mask <= 0o777).ok_or_else(error)?;
    Ok(nix::sys::stat::umask(mode).bits())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_sixteen_can_be_read() {
        for resource in Resource::all() {
            let (soft, hard) = get_rlimit(resource).unwrap();
            assert!(soft <= hard);
            assert_eq!(Resource::from_name(resource.name()), Some(resource));
        }
        assert_eq!(Resource::all().count(), 16);
        assert_eq!(Resource::from_name("RLIMIT_NOFILE").unwrap().name(), "nofile");
    }

    #[test]
    fn a_soft_limit_above_the_hard_one_is_refused_with_its_call() {
        let core = Resource::from_name("core").unwrap();
        let error = set_rlimit(core, 2, 1).unwrap_err();
        assert_eq!(error.call(), "setrlimit(RLIMIT_CORE, 2, 1)");
        assert!(error.hint().is_some());
    }

    #[test]
    fn nice_and_affinity_are_read_back() {
        set_nice(get_nice().unwrap()).unwrap();
        let cpus = get_affinity().unwrap();
        assert!(!cpus.is_empty());
        set_affinity(&cpus).unwrap();
        assert_eq!(set_affinity(&[5000]).unwrap_err().errno_name(), "EINVAL");
        assert!(set_umask(0o1000).is_err());
    }
}
