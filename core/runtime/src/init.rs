//! palisade's init: pid 1 of the workload's pid namespace. It reaps, passes signals on, tells how the workload
//! ended, and takes everything that is left with it when it goes.

use crate::message::{Death, encode};
use palisade_sys::{caps, fd, process, seccomp, signal};
use std::os::fd::RawFd;

/// What init ends with when it cannot do its work; the launcher goes by the pipe, not by this.
const LOST: i32 = 125;

/// Runs until the workload has ended, then ends; the kernel then kills whatever is left in the namespace.
pub(crate) fn run(workload: i32, death: RawFd) -> ! {
    let Ok(signals) = confine(death) else {
        // Without its filter it must not stay: the workload, not yet released, dies with it.
        process::exit_now(LOST)
    };
    loop {
        let Ok(signal) = signals.read() else { process::exit_now(LOST) };
        if signal.number != signal::SIGCHLD {
            // It may have gone already; then there is nobody to tell.
            process::kill(workload, signal.number).ok();
            continue;
        }
        while let Ok(Some(dead)) = process::wait_any_nohang() {
            if dead.pid == workload {
                tell(death, &dead);
                process::exit_now(0);
            }
        }
    }
}

/// Gives up everything that reaping does not need. It runs while the workload's process drops and seals, so it
/// costs the launch no time.
fn confine(death: RawFd) -> palisade_sys::Result<signal::SignalFd> {
    process::set_name("palisade-init")?;
    let signals = signal::SignalFd::all()?;
    fd::close_range_from(0, &[death, signals.raw()])?;
    process::set_no_new_privs()?;
    caps::set(caps::Caps::default())?;
    seccomp::confine_init()?;
    Ok(signals)
}

fn tell(death: RawFd, dead: &process::WaitStatus) {
    let message = Death {
        status: dead.status,
        signaled: dead.signaled,
        core: dead.core,
        user_us: dead.usage.user_us,
        sys_us: dead.usage.sys_us,
        max_rss_kib: dead.usage.max_rss_kib,
    };
    // If the launcher is gone, so are we, in a moment.
    fd::write_raw(death, &encode(&message)).ok();
}
