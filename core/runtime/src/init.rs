//! palisade's init: pid 1 of the workload's pid namespace. It reaps, passes signals on, tells how the workload
//! ended, and takes everything that is left with it when it goes.

use crate::message::{Death, encode};
use palisade_sys::event::{PollItem, poll};
use palisade_sys::signal::{FORWARDED, SIGCHLD, SignalFd};
use palisade_sys::{caps, fd, memory, process, seccomp};
use std::os::fd::{AsFd as _, AsRawFd as _, OwnedFd};
use std::time::Duration;

/// What init ends with when it cannot do its work; the launcher goes by the pipe, not by this.
const LOST: i32 = 125;

/// A workload that runs longer than this is worth giving memory back for; before, it would only cost time.
const SETTLED: Duration = Duration::from_millis(100);

/// What the workload sees as pid 1.
const NAME: &str = "palisade-init";

/// Runs until the workload has ended, then ends; the kernel then kills whatever is left in the namespace.
pub(crate) fn run(workload: i32, death: &OwnedFd) -> ! {
    let Ok(signals) = confine(death) else {
        // Without its filter it must not stay: the workload dies with it.
        process::exit_now(LOST)
    };
    let mut soon = Some(SETTLED);
    loop {
        let Ok(ready) = poll(&mut [PollItem::read(signals.as_fd())], soon) else { process::exit_now(LOST) };
        if ready == 0 {
            soon = None;
            memory::trim();
            // What stays resident costs memory, nothing else.
            memory::release_file_pages().ok();
            continue;
        }
        let Ok(received) = signals.read() else { process::exit_now(LOST) };
        match received {
            None => {}
            Some(received) if received.signal == SIGCHLD => reap(workload, death),
            // One from a terminal is for the whole group: the workload has it.
            Some(received) if received.from_kernel => {}
            // It may have gone already; then there is nobody to tell.
            Some(received) => drop(process::kill(workload, received.signal)),
        }
    }
}

/// Takes in every process that has ended; one SIGCHLD may stand for many.
fn reap(workload: i32, death: &OwnedFd) {
    while let Ok(Some(dead)) = process::wait_any(true) {
        if dead.pid == workload {
            // If the launcher is gone, so are we, in a moment.
            drop(fd::write(death, &encode(&Death::from(dead))));
            process::exit_now(0);
        }
    }
}

/// Takes what the workload could read of the launcher out of its sight. Before the workload exists: it sees pid 1 from
/// its first instruction on.
pub(crate) fn hide() -> palisade_sys::Result<()> {
    // The launcher's command line names files of the host. Where there is no /proc nobody can read it.
    process::set_command_line(NAME).ok();
    process::set_name(NAME)
}

/// Gives up everything that reaping does not need, as soon as the workload runs. Until it has, the workload cannot reach
/// it either: it is not dumpable and blocks every signal.
fn confine(death: &OwnedFd) -> palisade_sys::Result<SignalFd> {
    let mut listened = FORWARDED.to_vec();
    listened.push(SIGCHLD);
    let signals = SignalFd::new(&listened)?;
    fd::close_range_from(0, &[death.as_raw_fd(), signals.as_fd().as_raw_fd()])?;
    process::set_no_new_privs()?;
    caps::set(caps::Caps::default())?;
    seccomp::confine_init()?;
    Ok(signals)
}
