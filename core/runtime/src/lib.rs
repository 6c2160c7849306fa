//! palisade as a library: find policies and plugins once, launch many workloads, get a report of each.
//!
//! ```no_run
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! use palisade_runtime::{Options, Palisade, Places, Workload};
//!
//! let mut palisade = Palisade::open(Places::default())?;
//! let policy = palisade.policy("untrusted")?.set("process.timeout=10s");
//! for word in ["one", "two"] {
//!     let plan = palisade.plan(&policy, Workload::command(["echo", word]))?;
//!     let report = plan.launch(Options::default())?.wait()?;
//!     println!("{:?}, {} ms", report.workload.ended, report.usage.wall_ms);
//! }
//! # Ok(()) }
//! ```
//!
//! **Threads.** A launch copies this process and goes on in the copy, which is safe only while no other thread
//! holds a lock. So a launch from a process with other threads is refused, never risked: launch before threads
//! are started, or from a small process of your own that has none.
//!
//! **Signals.** While a launch is set up all signals are blocked, and SIGALRM is used for time limits; afterwards
//! all is as it was. Passing signals on to the workload is for programs that do nothing else
//! ([`Options::forward_signals`]).
//!
//! **Children.** The orphans of a workload without a pid namespace come to this process, which ends every child that
//! it did not have before, and that is no launch, when the last such launch is over: start no children of your own
//! meanwhile.
//!
//! | file | holds |
//! |---|---|
//! | `palisade` | the front door |
//! | `facts`, `places`, `policies` | the host; where things are looked for; finding policies |
//! | `plugins`, `elf`, `lock`, `library` | finding, trusting and loading plugins |
//! | `hosted` | plugins in processes of their own |
//! | `offer`, `install`, `pins`, `keys` | installing plugins, what holds for those installed, who vouches for them |
//! | `entries` | calling plugins on the host, guarded |
//! | `plan`, `step` | from a resolved policy to ordered steps; running one |
//! | `ready` | ready-made steps of plugins |
//! | `process` | palisade's own steps: the workload's attributes |
//! | `launch`, `birth`, `child`, `init` | the launch, on both sides |
//! | `running`, `pump`, `terminal`, `tree` | while the workload runs |
//! | `names` | runs that have a name |
//! | `report`, `error`, `message` | what is told about it |

#![forbid(unsafe_code)]

mod birth;
mod child;
mod elf;
mod entries;
mod error;
mod explain;
mod facts;
mod hosted;
mod init;
mod install;
mod keys;
mod launch;
pub mod library;
mod lock;
mod message;
mod names;
mod offer;
mod palisade;
mod pins;
mod places;
mod plan;
mod plugins;
mod policies;
mod process;
mod pump;
mod ready;
mod report;
mod running;
mod samples;
mod step;
mod terminal;
mod tree;
mod workload;

pub use elf::inspect;
pub use error::{Kind, Trouble};
pub use facts::{Facts, KERNEL_FEATURES, KERNEL_FLOOR};
pub use hosted::host_plugin;
pub use launch::{Failed, Observer, Options};
pub use names::Named;
pub use offer::{Notes, Offer, Request, Vouched};
pub use palisade::{Finding, Palisade, Support};
pub use palisade_abi::manifest::Manifest;
pub use palisade_abi::{Attempt, Change, Changed, SEAM_VERSION, Severity};
pub use palisade_model as model;
pub use palisade_model::policy::Hosting;
pub use pins::{Installed, Origin, Pin, Signer, utc};
pub use places::Places;
pub use plan::{CORE, Detail, Plan, Planned, read_envelope};
pub use plugins::{Candidate, Plugin, Plugins};
pub use policies::{Listed, Policy, SHIPPED};
pub use running::Running;
pub use samples::{Sampling, Watcher};
pub use workload::Workload;

/// A descriptor that this process was given, as one of its own: for a report to be written to, say.
///
/// # Errors
/// It is not open.
pub fn descriptor(number: i32) -> Result<std::os::fd::OwnedFd, Trouble> {
    let own = palisade_sys::fd::borrow(number).and_then(palisade_sys::fd::dup_cloexec);
    own.map_err(|error| Trouble::call(format!("descriptor {number} cannot be used"), &error))
}
