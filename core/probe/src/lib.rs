//! Harmless attempts to get out, each made by us on our own machine, without a policy and under it, and judged from
//! outside.
//!
//! | file | holds |
//! |---|---|
//! | `verdict` | how bad it would be, and what came of it |
//! | `catalogue` | what an attempt is; all of them; what is not there |
//! | `attempts/` | the attempts, a file for each group |
//! | `scene` | what the attempts are told: where the canaries are, and what the host looks like |
//! | `inside` | what runs inside: each attempt in a process of its own |
//! | `canary`, `canaries` | the process outside that must not be reached; everything else that is laid out |
//! | `host` | what the host looks like from outside |
//! | `arm` | one round of attempts: without a policy, or under it |
//! | `machine` | that all is as it was before |
//! | `outside` | the harness, from the first canary to the report |
//! | `report` | what it says |
//! | `claims/` | the `tests` of a policy, tried |
//!
//! **Where the attempts come from.** The program that runs the harness runs the attempts too: it is copied into a
//! sealed memfd, which is executed inside as `/proc/self/fd/N PROBE_INSIDE M`. So the view need not show the program,
//! and a file system without execution does not matter; a `/proc` and the C library it must have.

#![forbid(unsafe_code)]

mod arm;
mod attempts;
mod canaries;
mod canary;
mod catalogue;
mod claims;
mod host;
mod inside;
mod machine;
mod outside;
mod report;
mod scene;
mod verdict;

pub use catalogue::{GROUPS, Probe, matches, probes};
pub use claims::{CLAIMS_INSIDE, Claim, Claimed, claims};
pub use outside::{Request, probe};
pub use report::{Probed, REPORT_VERSION, Report, Summary};
pub use verdict::{Severity, Verdict};

/// The first argument of the program when it is to make the attempts. The second is the number of a descriptor.
pub const PROBE_INSIDE: &str = "__probe-inside";
/// The first argument of the program when it is to be the canary.
pub const PROBE_CANARY: &str = "__probe-canary";

/// Does what the program was started for, if it was by the harness; gives the exit code.
#[must_use]
pub fn hidden(argv: &[std::ffi::OsString]) -> Option<u8> {
    let word = |at: usize| argv.get(at).and_then(|word| word.to_str());
    match (word(1)?, word(2)) {
        (PROBE_INSIDE, Some(number)) => Some(inside::inside(number.parse().ok()?)),
        (CLAIMS_INSIDE, Some(number)) => Some(claims::inside(number.parse().ok()?)),
        (PROBE_CANARY, Some(place)) => Some(canary::canary(place)),
        _ => None,
    }
}
