//! Builds the workload's view of files: a new root that holds what the policy lists and nothing else.
//!
//! **What it isolates.** The tree of files. The root is an empty tmpfs (or a given directory) that is filled entry by
//! entry: the host's system directories read-only, binds, tmpfs, a fresh /proc with masks, a minimal /dev, single
//! files. The host's tree is then detached, so that there is no path to it.
//!
//! **From which kernel.** 5.10. Attributes of a bind that has mounts below it need 5.12 (`mount_setattr`).
//!
//! **What it cannot stop.** What is bound read-write is the host's: the workload can fill, change and delete it.
//! Abstract sockets are no files. A socket, FIFO or device in a bound directory is reachable. Files that are kept
//! open by the launcher and passed on stay open. Sizes of host directories are not limited.
//!
//! | file | holds |
//! |---|---|
//! | `config` | the section of a policy |
//! | `entry` | one entry, in each form that it may be written in |
//! | `parts` | what the larger entries say |
//! | `form` | which of them it is |
//! | `tree` | the view while it is planned: what lies where, and who may make names there |
//! | `source` | what is bound: found, and no link of a stranger followed |
//! | `op` | one thing to do, and what must then be seen |
//! | `grants` | tool chains, repositories and the SSH agent, as this host has them |
//! | `changes` | what the upper layer of an overlay says of its tree |
//! | `gpu` | graphics processors: nodes, facts, libraries |
//! | `overlay` | copy-on-write over a tree of the host |
//! | `planner` | entries become steps |
//! | `system` | the host's system directories and the few files of /etc that programs need |
//! | `idmap` | binds whose owner is shown as the workload |
//! | `deny` | names that the workload gets neither to see nor to make |
//! | `kernel` | /proc, its masks, and /dev |
//! | `view` | the view while it is built, in the child |
//! | `heir` | who cleans up when the launcher is killed |
//! | `device` | device nodes of the host |
//! | `steps` | the steps: open on the host, root, entries, pivot |
//! | `mounts` | what the kernel says is mounted, against what was planned |
//! | `probe` | what this host offers |
#![forbid(unsafe_code)]

mod changes;
mod config;
mod deny;
mod device;
mod entry;
mod error;
mod explain;
mod form;
mod gpu;
mod grants;
mod heir;
mod idmap;
mod kernel;
mod mounts;
mod op;
mod overlay;
mod parts;
mod planner;
mod probe;
mod source;
mod steps;
mod system;
mod tree;
mod view;

use palisade_abi::{Error, Finding, Host, Isolator, Plugin};

struct Filesystem;

impl Plugin for Filesystem {
    type Config = config::Config;

    fn probe(host: &Host) -> Vec<Finding> {
        probe::probe(host)
    }

    fn configure(config: config::Config, host: &Host) -> Result<Box<dyn Isolator>, Error> {
        Ok(Box::new(planner::Filesystem::new(config, host)?))
    }
}

palisade_abi::export_plugin!(Filesystem, "manifest.ron");
