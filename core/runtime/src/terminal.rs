//! Between the caller's terminal and the workload's own: what is typed on one goes to the other, whose output goes back
//! through the pump. Nothing that is done to the workload's reaches the caller's.

use crate::process::Settings;
use crate::process::terminal::{Ends, Keys};
use palisade_sys::event::PollItem;
use palisade_sys::procfs::Proc;
use palisade_sys::signal::SIGTSTP;
use palisade_sys::terminal::{self, Mode, Raw};
use palisade_sys::{Result, fd};
use std::cell::RefCell;
use std::fs::File;
use std::io::{ErrorKind, Read as _, Write as _};
use std::os::fd::{AsFd as _, OwnedFd};
use std::rc::Rc;
use std::time::{Duration, Instant};

/// The most that is taken at once.
const CHUNK: usize = 4096;
/// When what is typed is looked at again, after it was for somebody else.
const LATER: Duration = Duration::from_millis(100);

/// The launcher between both terminals.
pub(crate) struct Proxy {
    caller: File,
    /// Nothing once it was hung up.
    master: Option<File>,
    /// Among them the workload's end, which stays open here while it runs: it may close all of its own, and open its
    /// terminal again by name.
    ends: Rc<RefCell<Ends>>,
    keys: Keys,
    /// The caller's terminal is raw.
    raw: Option<Raw>,
    /// What was typed and waits for room.
    waiting: Vec<u8>,
    /// What is typed is not for us until then.
    not_before: Option<Instant>,
}

/// What came of passing on what was typed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Typed {
    /// There may be more.
    On,
    /// The caller's terminal is gone.
    Gone,
    /// The key that stops a job, and the workload is one that the kernel would stop if it were the caller's own.
    Stop,
}

impl Proxy {
    /// Takes what was made for it, where the policy wants it.
    pub(crate) fn wanted(settings: &Settings) -> Option<Self> {
        let ends = Rc::clone(&settings.terminal.ends);
        let (caller, master) = {
            let mut ends = ends.borrow_mut();
            (ends.caller.take()?, ends.master.take()?)
        };
        let keys = settings.terminal.keys();
        let (caller, master) = (caller.into(), Some(master.into()));
        Some(Self { caller, master, ends, keys, raw: None, waiting: Vec::new(), not_before: None })
    }

    /// Where output comes from, and goes to, for the pump.
    pub(crate) fn output(&self) -> Result<Option<(OwnedFd, OwnedFd)>> {
        let Some(master) = &self.master else { return Ok(None) };
        Ok(Some((fd::dup_cloexec(master)?, fd::dup_cloexec(&self.caller)?)))
    }

    /// The workload is about to run, or goes on after a stop.
    pub(crate) fn begin(&mut self) -> Result<()> {
        self.resize();
        if self.keys == Keys::All && terminal::is_foreground(&self.caller) {
            // After a stop that nobody could see coming, a shell has set the mode that it likes.
            self.raw = None;
            self.raw = Some(Raw::enter(&self.caller)?);
        }
        Ok(())
    }

    /// Gives the caller's terminal its mode back.
    pub(crate) fn leave(&mut self) {
        self.raw = None;
    }

    /// The caller's terminal has another size. One that is gone has none.
    pub(crate) fn resize(&self) {
        if let Some(master) = &self.master {
            terminal::copy_size(&self.caller, master).ok();
        }
    }

    /// What is waited for: something typed, or room for it.
    pub(crate) fn item(&self) -> Option<PollItem<'_>> {
        let master = self.master.as_ref()?;
        if !self.waiting.is_empty() {
            return Some(PollItem::write(master.as_fd()));
        }
        let listens = self.keys != Keys::None && self.not_before.is_none_or(|at| Instant::now() >= at);
        listens.then(|| PollItem::read(self.caller.as_fd()))
    }

    /// When it is looked at again.
    pub(crate) fn next(&self) -> Option<Duration> {
        self.not_before.map(|at| at.saturating_duration_since(Instant::now())).filter(|left| !left.is_zero())
    }

    /// Does what was waited for; `workload` leads the session.
    pub(crate) fn pass(&mut self, workload: Option<i32>) -> Typed {
        if !self.waiting.is_empty() {
            self.write();
            return Typed::On;
        }
        if terminal::is_gone(&self.caller).unwrap_or(true) {
            return Typed::Gone;
        }
        if !self.listens() {
            // A shell, or another program of the pipeline, reads there now.
            self.not_before = Some(Instant::now() + LATER);
            return Typed::On;
        }
        self.not_before = None;
        let mut buffer = [0; CHUNK];
        match self.caller.read(&mut buffer) {
            Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::Interrupted) => return Typed::On,
            Err(_) => return Typed::Gone,
            Ok(0) if self.raw.is_some() => return Typed::Gone,
            // The end of the input, which the other terminal has a key for.
            Ok(0) => self.waiting.extend(self.mode().and_then(|mode| mode.end_key())),
            Ok(read) => self.waiting.extend(buffer.iter().take(read)),
        }
        let stop = self.stop_at(workload);
        if let Some(at) = stop {
            self.waiting.truncate(at);
        }
        if !self.waiting.is_empty() {
            self.write();
        }
        if stop.is_some() { Typed::Stop } else { Typed::On }
    }

    /// Whether what is typed is for the workload: in a mode of ours, or by the line. Somebody may have put us into the
    /// foreground only now.
    fn listens(&mut self) -> bool {
        if !terminal::is_foreground(&self.caller) {
            return false;
        }
        if self.keys == Keys::All {
            return self.raw.is_some() || self.begin().is_ok();
        }
        Mode::of(&self.caller).is_ok_and(|mode| mode.is_by_line())
    }

    fn mode(&self) -> Option<Mode> {
        self.master.as_ref().and_then(|master| Mode::of(master).ok())
    }

    /// Where among the keys is one that stops the workload: as the leader of its session, which nobody outside can
    /// continue, it would not be stopped by the kernel. A shell that keeps jobs, and whatever it has put into the
    /// foreground, get that key themselves.
    fn stop_at(&self, workload: Option<i32>) -> Option<usize> {
        self.raw.as_ref()?;
        let key = self.mode()?.stop_key()?;
        let at = self.waiting.iter().position(|byte| *byte == key)?;
        let workload = workload?;
        (self.has_in_front(workload) && leaves_stops(workload) && terminal::is_job()).then_some(at)
    }

    /// Whether the workload itself is in the foreground, and not a job of its own making.
    pub(crate) fn has_in_front(&self, workload: i32) -> bool {
        let foreground = self.master.as_ref().and_then(|master| terminal::foreground_group(master).ok());
        foreground == Some(workload)
    }

    /// A key of the caller's terminal that is a signal there.
    pub(crate) fn signal(&self, signal: i32) -> bool {
        self.master.as_ref().is_some_and(|master| terminal::signal_foreground(master, signal).is_ok())
    }

    fn write(&mut self) {
        let Some(master) = &mut self.master else { return };
        match master.write(&self.waiting) {
            Ok(written) => drop(self.waiting.drain(..written)),
            Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::Interrupted) => {}
            // Its terminal is gone, and so is who could read it.
            Err(_) => self.waiting.clear(),
        }
    }

    /// The workload has ended: what it wrote is all there will be.
    pub(crate) fn last_output(&self) {
        self.ends.borrow_mut().slave = None;
    }

    /// The caller's terminal is gone, so the workload's goes: the kernel tells whoever sits there. The pump must have
    /// let go of it.
    pub(crate) fn hang_up(&mut self) {
        self.raw = None;
        self.master = None;
        self.waiting.clear();
        self.last_output();
    }
}

/// Whether a process leaves it to the kernel to stop it.
pub(crate) fn leaves_stops(pid: i32) -> bool {
    let left = Proc::host().and_then(|proc| proc.pid(pid)).and_then(|process| process.leaves_to_kernel(SIGTSTP));
    left.unwrap_or(false)
}
