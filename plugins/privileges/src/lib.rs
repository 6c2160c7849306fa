//! The plugin `privileges`: what a workload may do because of who it is.
//!
//! **What it isolates.** The capabilities that root is made of, in all five sets; `no_new_privs`, which keeps execve
//! from giving any back; the securebits, which say what uid 0 means; and the session keyring.
//!
//! **From which kernel.** Everything is older than palisade's floor, 5.10, but the two securebits about execution
//! (6.14).
//!
//! **What it cannot stop.** What the workload's uid and groups may do by themselves: a file's owner needs no capability
//! to read it. Capabilities inside a user namespace that the workload makes for itself: deny that with seccomp's
//! `@namespaces`. Keys in the keyring of the workload's user id, where no user namespace parts them: deny `@keyring`.
//! What an open descriptor allows already.
//!
//! | file | holds |
//! |---|---|
//! | `config` | the section in a policy |
//! | `sets` | what it says of each set, and the rules between the sets |
//! | `securebits` | the bits, by name |
//! | `keyring` | a session keyring of the workload's own |
//! | `explain` | which capability a call would take |
//! | `steps` | the plan: what the host can give, and the steps in words |
//! | `actions` | the steps' doing and reading back |
#![forbid(unsafe_code)]

mod actions;
mod config;
mod explain;
mod keyring;
mod securebits;
mod sets;
mod steps;
#[cfg(test)]
mod tests;

use palisade_abi::{Error, Finding, Host, Isolator, Plugin};

struct Privileges;

impl Plugin for Privileges {
    type Config = config::Config;

    fn probe(host: &Host) -> Vec<Finding> {
        steps::probe(host)
    }

    fn configure(config: Self::Config, _host: &Host) -> Result<Box<dyn Isolator>, Error> {
        Ok(Box::new(steps::Privileges::new(config)?))
    }
}

palisade_abi::export_plugin!(Privileges, "manifest.ron");
