//! Who cleans up on the host when the launcher is killed: a process that waits for nothing else.
//!
//! It acts once the launcher and then the workload are dead, and not before: what it takes away may be what something
//! is mounted on. It keeps nothing open but what it needs, so that nobody waits for the end of a stream because of it,
//! and has a session of its own, so that no key and no signal to a group ends it.

use std::os::fd::{AsFd, AsRawFd, OwnedFd, RawFd};

use palisade_abi::Error;
use palisade_sys::event::{PollItem, poll};
use palisade_sys::process::{self, Cloned, Target};
use palisade_sys::{fd, signal};

/// The process, as long as it may be needed.
#[derive(Debug)]
pub(crate) struct Heir {
    /// Its other end is closed by the kernel when this process ends, however that comes about.
    _alive: OwnedFd,
    process: OwnedFd,
}

impl Heir {
    /// Has `act` done when this process and then `workload` are dead, with the descriptors in `kept`.
    pub(crate) fn appoint(workload: i32, kept: &[RawFd], act: impl FnOnce() -> bool) -> Result<Self, Error> {
        let workload = process::pidfd_open(workload)?;
        let (launcher, alive) = fd::pipe()?;
        match process::fork()? {
            Cloned::Parent { pidfd, .. } => Ok(Self { _alive: alive, process: pidfd }),
            Cloned::Child => {
                let own = [launcher.as_raw_fd(), workload.as_raw_fd()];
                let kept: Vec<RawFd> = own.iter().chain(kept).copied().collect();
                // Whoever lists processes sees what it is for.
                process::set_name("palisade-heir").ok();
                let waited = process::setsid()
                    .and_then(|()| fd::close_range_from(0, &kept))
                    .and_then(|()| poll(&mut [PollItem::read(launcher.as_fd())], None))
                    .and_then(|_| poll(&mut [PollItem::read(workload.as_fd())], None));
                process::exit_now(i32::from(waited.is_err() || !act()));
            }
        }
    }

    /// Lets it go: all that it would have done is done.
    pub(crate) fn dismiss(self) {
        // It has ended already where the launcher ends all its children.
        process::pidfd_send_signal(&self.process, signal::SIGKILL).ok();
        process::waitid(Target::PidFd(self.process.as_fd()), false).ok();
    }
}
