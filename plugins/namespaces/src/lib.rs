//! Gives the workload namespaces of its own: mount, pid, net, ipc, uts, user, cgroup and time.
//!
//! **What it isolates.** Whatever is named by something: mounts, process ids, interfaces and ports, System V and
//! POSIX queues, host name, user and group ids, cgroup paths, clocks. Each kind is `New`, the `Host`'s, or the one
//! of another process (`Join`). With a user namespace the workload's ids mean, on the host, ids that own nothing.
//!
//! **From which kernel.** All kinds from 5.6 on; palisade's floor is 5.10. A new one is part of the process's
//! creation (`clone3`), so there is no moment outside; a time namespace with offsets and what is to belong to a
//! joined user namespace are made by the process itself, first thing.
//!
//! **What it cannot stop.** A namespace hides names; it is no limit and no filter. Without a view of its own a new
//! mount namespace shows the host's files. Abstract sockets are hidden by `net`, not by `mount`. An ordinary user
//! keeps the supplementary groups, since the kernel does not let them be dropped. The kernel is shared.
//!
//! | file | holds |
//! |---|---|
//! | `config` | the section of a policy |
//! | `kinds` | the kinds of namespaces, in words |
//! | `isolator` | what is new, what is joined, and the plan of one launch |
//! | `born` | new namespaces, and the proof that they are new |
//! | `join` | namespaces of others |
//! | `ids` | which ids are mapped to which |
//! | `subid` | ranges that an ordinary user was given: /etc/subuid, newuidmap |
//! | `maps` | the map is written, read back, and the process takes its ids |
//! | `inside` | what is set in a new namespace: names, loopback, clocks, propagation |
//! | `private` | a map that covers the host's root needs a view without its levers |
//! | `probe` | what this host offers |
#![forbid(unsafe_code)]

mod born;
mod config;
mod error;
mod explain;
mod ids;
mod inside;
mod isolator;
mod join;
mod kinds;
mod maps;
mod private;
mod probe;
mod subid;

use palisade_abi::{Error, Finding, Host, Isolator, Plugin};

struct Namespaces;

impl Plugin for Namespaces {
    type Config = config::Config;

    fn probe(host: &Host) -> Vec<Finding> {
        probe::probe(host)
    }

    fn configure(config: config::Config, _host: &Host) -> Result<Box<dyn Isolator>, Error> {
        Ok(Box::new(isolator::Namespaces::new(config)?))
    }
}

palisade_abi::export_plugin!(Namespaces, "manifest.ron");
