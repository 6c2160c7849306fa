//! The plugin `seccomp`: which system calls a workload can make at all.
//!
//! **What it isolates.** The kernel's own surface: calls that an ordinary program never makes, and that break-outs
//! begin with. A call is judged by its number and by its arguments as numbers; the architecture is checked first.
//!
//! **From which kernel.** Linux 4.14 for all its actions; palisade's floor, 5.10, has everything. From 5.11 on the
//! kernel remembers which calls are always allowed, and the filter costs those nothing.
//!
//! **What it cannot stop.** It sees numbers: not paths, not what a pointer points to, not what an open descriptor is.
//! What is allowed is allowed on everything that the view, the ids and Landlock leave in reach. What a process that is
//! not filtered does on the workload's behalf, it does not see at all.
//!
//! | file | holds |
//! |---|---|
//! | `config` | the section in a policy |
//! | `rule`, `action` | rules, conditions and answers as they are written |
//! | `groups` | the named groups, each with its reason |
//! | `calls` | names and numbers of system calls, for each architecture |
//! | `oci` | profiles of the container world, as rules |
//! | `table` | from rules to what is done for each call |
//! | `program` | from there to one BPF program |
//! | `install` | the step that installs it and reads it back |
//! | `listing` | the program, for people to read |
//! | `names` | "did you mean" |
#![forbid(unsafe_code)]

mod about;
mod action;
mod calls;
mod config;
mod groups;
mod install;
mod listener;
mod listing;
mod names;
mod oci;
mod program;
mod rule;
mod table;
#[cfg(test)]
mod tests;

use palisade_abi::{Error, Finding, Host, Isolator, Plugin};

struct Seccomp;

impl Plugin for Seccomp {
    type Config = config::Config;

    fn probe(_host: &Host) -> Vec<Finding> {
        vec![install::probe()]
    }

    fn configure(config: Self::Config, _host: &Host) -> Result<Box<dyn Isolator>, Error> {
        Ok(Box::new(install::Filter::new(config)?))
    }
}

palisade_abi::export_plugin!(Seccomp, "manifest.ron");
