//! palisade's init: pid 1 of the workload's pid namespace. It reaps, passes signals on, tells how the workload
//! ended, and takes everything that is left with it when it goes.

use crate::message::{Death, encode};
use palisade_sys::event::{PollItem, poll};
use palisade_sys::signal::{FORWARDED, SIGCHLD, SignalFd};
use palisade_sys::{caps, fd, memory, process, seccomp};
use std::os::fd::{AsFd as _, AsRawFd as _, OwnedFd};

/// What init ends with when it cannot do its work; the launcher goes by the pipe, not by this.
const LOST: i32 = 125;

/// What the workload sees as pid 1.
const NAME: &str = "palisade-init";

/// Runs until the workload has ended, then ends; the kernel then kills whatever is left in the namespace.
pub(crate) fn run(workload: i32, death: &OwnedFd) -> ! {
    let Ok(signals) = confine(death) else {
        // Without its filter it must not stay: the workload, not yet released, dies with it.
        process::exit_now(LOST)
    };
    loop {
        let Ok(_) = poll(&mut [PollItem::read(signals.as_fd())], None) else { process::exit_now(LOST) };
        let Ok(received) = signals.read() else { process::exit_now(LOST) };
        match received {
            None => {}
            Some(received) if received.signal == SIGCHLD => reap(workload, death),
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

/// Gives up everything that reaping does not need. It runs while the workload's process drops and seals, so it
/// costs the launch no time.
fn confine(death: &OwnedFd) -> palisade_sys::Result<SignalFd> {
    process::set_name(NAME)?;
    // The launcher's command line names files of the host. Where there is no /proc nobody can read it.
    process::set_command_line(NAME).ok();
    let mut listened = FORWARDED.to_vec();
    listened.push(SIGCHLD);
    let signals = SignalFd::new(&listened)?;
    fd::close_range_from(0, &[death.as_raw_fd(), signals.as_fd().as_raw_fd()])?;
    process::set_no_new_privs()?;
    caps::set(caps::Caps::default())?;
    memory::trim();
    memory::release_file_pages()?;
    seccomp::confine_init()?;
    Ok(signals)
}
