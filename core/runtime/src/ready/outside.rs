//! What is the launcher's own. A step in the child is not undone, so it may touch only what ends with the workload:
//! before each one its namespace is compared with the launcher's.

use palisade_abi::{Error, ErrorContext as _, Host};
use palisade_sys::namespace::KINDS;
use palisade_sys::procfs::{Proc, ProcPid};
use std::collections::BTreeMap;

/// `CAP_SYS_PTRACE`: who has it may look at the namespaces of a process that is not dumpable.
const CAP_SYS_PTRACE: u32 = 19;

/// The launcher, as it was when the plan was made.
#[derive(Debug)]
pub(super) struct Outside {
    /// Device and inode of each namespace's file; a kind that the kernel lacks is not there.
    own: BTreeMap<&'static str, (u64, u64)>,
    /// Whether the launcher may look at the namespaces of the workload's process.
    pub(super) may_look: bool,
    /// How many filters it has itself; the workload inherits them.
    pub(super) filters: u32,
}

impl Outside {
    pub(super) fn read(host: &Host) -> Result<Self, Error> {
        let process = own()?;
        let look = |(name, _): &(&'static str, u64)| Some((*name, process.ns(name).ok()?));
        let own = KINDS.iter().filter_map(look).collect();
        let filters = process.status().doing(|| "the launcher's own state cannot be read")?.seccomp_filters;
        Ok(Self { own, may_look: host.has_capability(CAP_SYS_PTRACE), filters: filters.unwrap_or_default() })
    }

    /// Shows that a process is in another namespace of this kind than the launcher.
    ///
    /// # Errors
    /// It is in the same one, or cannot be looked at.
    pub(super) fn differs(&self, process: &ProcPid, kind: &'static str) -> Result<String, Error> {
        let found = process.ns(kind).doing(|| format!("the workload's {kind} namespace cannot be seen"))?;
        let Some(own) = self.own.get(kind) else {
            return Err(Error::host(format!("the launcher's own {kind} namespace could not be seen")));
        };
        if found == *own {
            return Err(Error::setup(format!("the workload is in the launcher's own {kind} namespace")));
        }
        Ok(format!("{kind}:[{}]", found.1))
    }

    /// In the child: refuses what would change the host.
    ///
    /// # Errors
    /// The workload has no namespace of this kind, or that cannot be seen.
    pub(super) fn must_differ(&self, kind: &'static str) -> Result<(), Error> {
        let own = own().map_err(|error| {
            error.help("whether this changes the host is seen in /proc: let the step come before /proc goes")
        })?;
        self.differs(&own, kind).map(drop).map_err(|error| {
            let message = format!("this would change the host itself: {}", error.message);
            Error { message, ..error }.help(format!("give the workload a {kind} namespace of its own in the policy"))
        })
    }
}

/// This process's own directory in procfs.
pub(super) fn own() -> Result<ProcPid, Error> {
    let look = || Proc::host()?.own();
    look().doing(|| "this process cannot be seen in /proc")
}
