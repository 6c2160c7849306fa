//! What comes from the caller while the workload runs: signals, and what is typed.

use super::{Reached, Running};
use crate::error::Trouble;
use crate::pump::Passed;
use crate::terminal::{self, Typed};
use palisade_sys::event::{PollItem, poll};
use palisade_sys::process;
use palisade_sys::signal::{self, Received};
use std::os::fd::AsFd as _;
use std::time::Duration;

impl Running {
    /// Passes a signal on. One from the terminal reached the workload by itself, where it is in the same group.
    pub(super) fn forward(&mut self) -> Result<(), Trouble> {
        let Some(signals) = &self.launch.signals else { return Ok(()) };
        let received = signals.read().map_err(|e| Trouble::call("signals could not be read", &e))?;
        let Some(received) = received else { return Ok(()) };
        if self.launch.plan.process.terminal.own {
            self.forward_to_session(received);
            return Ok(());
        }
        if !received.from_kernel {
            self.tell(received.signal);
        }
        if received.signal == signal::SIGTSTP {
            // We stop as the caller's job; SIGCONT wakes us, and goes on to the workload like any other.
            process::kill(process::getpid(), signal::SIGSTOP).ok();
        }
        Ok(())
    }

    /// In a session of its own the workload gets nothing from the caller's terminal but through us.
    fn forward_to_session(&mut self, received: Received) {
        match received.signal {
            signal::SIGTSTP => self.stop(received),
            signal::SIGCONT => {
                self.tell_group(signal::SIGCONT);
                // Where it cannot be had again, the workload goes on with whole lines.
                self.launch.terminal.as_mut().map(|terminal| terminal.begin().ok());
            }
            signal::SIGWINCH if received.from_kernel => {
                if let Some(terminal) = &self.launch.terminal {
                    terminal.resize();
                }
            }
            signal::SIGHUP if received.from_kernel && self.launch.terminal.is_some() => self.hang_up(),
            number if received.from_kernel => {
                // A key, in a mode in which the caller's terminal makes a signal of it.
                let passed = self.launch.terminal.as_ref().is_some_and(|terminal| terminal.signal(number));
                if !passed {
                    self.tell_group(number);
                }
            }
            number => self.tell(number),
        }
    }

    /// We stop as the caller's job, and the workload with us: the kernel does not stop who leads a session.
    fn stop(&mut self, received: Received) {
        let terminal = self.launch.terminal.as_ref();
        let alone = |pid| terminal.is_none_or(|terminal| terminal.has_in_front(pid));
        if self.launch.lent.pid.is_some_and(|pid| alone(pid) && terminal::leaves_stops(pid)) {
            self.tell_group(signal::SIGSTOP);
        } else if !received.from_kernel {
            self.tell(signal::SIGTSTP);
        } else if let Some(terminal) = terminal {
            terminal.signal(signal::SIGTSTP);
        }
        if let Some(terminal) = &mut self.launch.terminal {
            terminal.leave();
        }
        process::kill(process::getpid(), signal::SIGSTOP).ok();
    }

    /// Something typed, or room for it.
    pub(super) fn typed(&mut self) {
        let workload = self.launch.lent.pid;
        match self.launch.terminal.as_mut().map(|terminal| terminal.pass(workload)) {
            Some(Typed::Gone) => self.hang_up(),
            // To everybody who is part of the caller's job, as the key would; to us, too.
            Some(Typed::Stop) => drop(process::kill(0, signal::SIGTSTP)),
            Some(Typed::On) | None => {}
        }
    }

    /// Something to show, or room for it.
    pub(super) fn output(&mut self, index: usize) {
        match self.launch.pump.as_mut().map(|pump| pump.pass(index)) {
            Some(Passed::Full) => {
                let limit = self.launch.plan.process.output_limit.unwrap_or_default();
                self.reach(Reached::Output(limit));
            }
            Some(Passed::Gone) => self.hang_up(),
            Some(Passed::On) | None => {}
        }
    }

    /// The caller's terminal is gone: the workload's own goes too, and the kernel sends SIGHUP.
    fn hang_up(&mut self) {
        if let Some(pump) = &mut self.launch.pump {
            pump.hang_up();
        }
        if let Some(terminal) = &mut self.launch.terminal {
            terminal.hang_up();
        }
    }

    /// Sends a signal to the workload's own process; it may have ended, and then there is nobody to tell.
    pub(super) fn tell(&self, number: i32) {
        let workload = self.launch.born.as_ref().and_then(|born| born.workload.as_ref());
        if let Some(workload) = workload {
            process::pidfd_send_signal(workload, number).ok();
        }
    }

    /// Sends a signal to its group, whose number is its own, as that of whoever leads a session.
    fn tell_group(&self, number: i32) {
        let workload = self.launch.born.as_ref().and_then(|born| born.workload.as_ref());
        let (Some(workload), Some(pid)) = (workload, self.launch.lent.pid) else { return };
        // As long as it lives, that number is nobody else's.
        let lives = poll(&mut [PollItem::read(workload.as_fd())], Some(Duration::ZERO)).is_ok_and(|ended| ended == 0);
        if lives {
            process::kill(-pid, number).ok();
        }
    }
}
