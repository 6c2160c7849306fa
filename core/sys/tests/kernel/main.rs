//! The wrappers against the real kernel, as root: each act is first shown to work and then to be refused, or the
//! other way round, so that no test can pass because nothing happened.
//!
//! Each case runs in a fresh process with one thread, in a session of its own, as the reaper of its descendants; a
//! case that leaves a process or a file behind fails. Give a part of a name to run only the cases that hold it.
//!
//! The host is assumed to have: Linux 5.10 or younger, uid 0 with the capabilities that namespaces need, a procfs on
//! /proc, a cgroup2 file system, /bin/sh with coreutils. Where one is missing the cases fail; none is skipped.
#![expect(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::print_stdout,
    clippy::print_stderr,
    reason = "a test without the stock harness, which clippy does not take for one"
)]

mod beneath;
mod caps;
mod channel;
mod clone;
mod confine;
mod exec;
mod fd;
mod guard;
mod help;
mod host;
mod init;
mod landlock;
mod memory;
mod mount;
mod parents;
mod pivot;
mod procfs;
mod runner;
mod signal;
mod trust;
mod wait;

use std::process::ExitCode;

fn main() -> ExitCode {
    let all = [
        beneath::CASES,
        caps::CASES,
        channel::CASES,
        clone::CASES,
        confine::CASES,
        exec::CASES,
        fd::CASES,
        guard::CASES,
        host::CASES,
        init::CASES,
        landlock::CASES,
        memory::CASES,
        mount::CASES,
        parents::CASES,
        pivot::CASES,
        procfs::CASES,
        signal::CASES,
        trust::CASES,
        wait::CASES,
    ];
    runner::run(&all.concat())
}
