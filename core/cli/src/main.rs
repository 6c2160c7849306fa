//! The command `palisade`. Everything that it does is `palisade-runtime`'s; here are arguments, words and exit
//! codes.
//!
//! | module | holds |
//! |---|---|
//! | `args` | what can be said on the command line |
//! | `ask` | from there to a policy, a workload and a runtime |
//! | `verbs` | one file for each verb |
//! | `sink` | where `--report` goes |
//! | `help`, `manual` | what `--help` says below the options, and the manual page |
//! | `out` | everything that is printed, and in which colour |
//! | `panics` | palisade's own mistakes |
#![forbid(unsafe_code)]

mod args;
mod ask;
mod help;
mod manual;
mod out;
mod panics;
mod sink;
mod verbs;

fn main() -> std::process::ExitCode {
    panics::announce();
    let argv = std::env::args_os().collect();
    std::process::ExitCode::from(panics::caught(|| verbs::perform(argv)))
}
