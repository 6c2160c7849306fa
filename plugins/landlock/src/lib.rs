//! Confines a workload by Landlock: which files it may use and how, which TCP ports, whom it may signal.
//!
//! **What it isolates.** A ruleset is entered as the last but one thing before the workload runs, and can never be
//! left again. Every access right to files that the kernel knows is denied unless a rule grants it; TCP ports and
//! scopes are restricted where the policy names them. Rules are resolved inside the final view.
//!
//! **From which kernel.** 5.13 (ABI 1); later rights name their kernel in `rights`.
//!
//! **What it cannot stop.** stat, chdir, chmod, chown, setxattr, utime; UDP and other protocols (TCP only: "no network"
//! is a network namespace), and TCP by fast open, which neither connects nor binds; what is open already. A rule holds
//! for an inode: a file that is replaced by rename loses it. A rule on /usr does not cover a separate bind of /usr/bin
//! on /bin, because the kernel walks up through the mount point, not through the source.
//!
//! | file | holds |
//! |---|---|
//! | `config` | the section of a policy |
//! | `rights` | the access rights, their ABI and kernel |
//! | `plan` | the section and the kernel's ABI as what is to be done; pure |
//! | `steps` | the isolator and its steps |
//! | `domain` | the ruleset while it is built, and the one call that enters it |
//! | `links` | opening a rule's path without being led astray |
//! | `proof` | accesses that must fail afterwards, tried before and after |
//! | `probe` | what this host offers |
#![forbid(unsafe_code)]

mod audit;
mod config;
mod domain;
mod explain;
mod links;
mod plan;
mod probe;
mod proof;
mod rights;
mod steps;

use palisade_abi::{Error, Finding, Host, Isolator, Plugin};

struct Landlock;

impl Plugin for Landlock {
    type Config = config::Config;

    fn probe(_host: &Host) -> Vec<Finding> {
        probe::probe(palisade_sys::landlock::abi_version(), palisade_sys::landlock::errata().ok().flatten())
    }

    fn configure(config: config::Config, host: &Host) -> Result<Box<dyn Isolator>, Error> {
        Ok(Box::new(steps::Isolated::new(config, host.run_id()?)?))
    }
}

palisade_abi::export_plugin!(Landlock, "manifest.ron");
