//! Limits what a workload uses, and counts it: memory, swap, CPU time, processes, input and output, devices.
//!
//! **What it isolates.** Each launch gets a cgroup of its own, made fresh and removed afterwards. The limits are
//! in it, and read back, before the process exists.
//!
//! **From which kernel.** cgroup v1 and v2 both work, also mixed, as they are found mounted: v2 from 5.10 on
//! (the process is born inside), v1 on any (it moves in before it builds its view).
//!
//! **What it cannot stop.** Time spent by the kernel on the workload's behalf in other processes, disk space,
//! network bandwidth. On v1, the few pages of the launcher that the child was born with stay charged to the
//! launcher.
//!
//! | file | holds |
//! |---|---|
//! | `config` | the section of a policy |
//! | `limits` | what can be limited |
//! | `section` | the section as a list of limits, checked |
//! | `devices`, `io` | the rules of devices as a program; which disk a path is on |
//! | `setting` | one file of a cgroup, what is to be in it, and how it is compared |
//! | `layout` | which hierarchy has which controller, from what is mounted |
//! | `v1`, `v2` | the files of each version, and where a v2 cgroup may be made |
//! | `scope` | a scope of systemd, where that keeps the cgroups |
//! | `group` | one cgroup: make, write, read back, remove |
//! | `isolator` | the plan of one launch, and what is shared by its steps |
//! | `steps` | the steps |
//! | `owner` | whose cgroup it is, and those of launchers that were killed |
//! | `usage` | figures and limits that were hit |
//! | `probe` | what this host offers |
#![forbid(unsafe_code)]

mod config;
mod devices;
mod group;
mod io;
mod isolator;
mod layout;
mod limits;
mod owner;
mod probe;
mod scope;
mod section;
mod setting;
mod steps;
mod usage;
mod v1;
mod v2;

use palisade_abi::{Error, Finding, Host, Isolator, Left, Plugin};

struct Cgroups;

impl Plugin for Cgroups {
    type Config = config::Config;

    fn probe(_host: &Host) -> Vec<Finding> {
        probe::probe()
    }

    fn configure(config: config::Config, host: &Host) -> Result<Box<dyn Isolator>, Error> {
        Ok(Box::new(isolator::Cgroup::new(&config, host)?))
    }

    fn collect(_host: &Host, remove: bool) -> Result<Vec<Left>, Error> {
        owner::collect(remove)
    }
}

palisade_abi::export_plugin!(Cgroups, "manifest.ron");
