//! The workload's output, where the policy limits how much there may be, through pipes of ours; and from a terminal of
//! its own.

use crate::process::Settings;
use crate::terminal::Proxy;
use palisade_sys::Result;
use palisade_sys::event::{PollItem, poll};
use palisade_sys::fd;
use palisade_sys::signal::{ENDING, SignalFd};
use std::fs::File;
use std::io::{ErrorKind, Read as _, Write as _};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::time::{Duration, Instant};

/// The most that is passed on at once: a pipe that has room at all has room for it (PIPE_BUF), so that writing it
/// never waits for the reader. Waiting there, the launcher would keep no time limit and pass no signal on.
const CHUNK: usize = 4096;

/// One of the two streams: what the workload writes to, and what we pass on to.
struct Stream {
    /// Nothing once there is no more to come, or nobody to pass it on to.
    from: Option<File>,
    to: File,
    /// What was read and waits for room.
    waiting: Vec<u8>,
    /// It is the caller's terminal.
    terminal: bool,
}

/// Passes output on until the limit.
pub(crate) struct Pump {
    streams: Vec<Stream>,
    left: u64,
}

/// What came of passing on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Passed {
    /// There may be more.
    On,
    /// The limit is reached: what came after it was not passed on.
    Full,
    /// The caller's terminal is gone.
    Gone,
}

impl Pump {
    /// Puts pipes in front of standard output and error where there is a limit, and takes what a terminal of the
    /// workload's own shows. The ends that the workload writes to take the place of the files in `settings`;
    /// [`Pump::born`] gives them up.
    pub(crate) fn wanted(settings: &Settings, proxy: Option<&Proxy>) -> Result<Option<Self>> {
        let mut streams = Vec::new();
        if settings.output_limit.is_some() {
            let mut stdio = settings.stdio.borrow_mut();
            let [_, out, err] = &mut *stdio;
            for (number, slot, own) in [(1, out, std::io::stdout().as_fd()), (2, err, std::io::stderr().as_fd())] {
                if !settings.is_own_terminal(number) {
                    streams.push(Stream::before(slot, own)?);
                }
            }
        }
        if let Some((from, to)) = proxy.map(Proxy::output).transpose()?.flatten() {
            streams.push(Stream { from: Some(from.into()), to: to.into(), waiting: Vec::new(), terminal: true });
        }
        let left = settings.output_limit.unwrap_or(u64::MAX);
        Ok((!streams.is_empty()).then_some(Self { streams, left }))
    }

    /// The workload has its ends; with ours open we would never see the last of them close.
    pub(crate) fn born(settings: &Settings) {
        for slot in settings.stdio.borrow_mut().iter_mut() {
            *slot = None;
        }
    }

    /// What is waited for: something to read, or room for what was read.
    pub(crate) fn items(&self) -> impl Iterator<Item = (usize, PollItem<'_>)> {
        self.streams.iter().enumerate().filter_map(|(index, stream)| Some((index, stream.item()?)))
    }

    /// Does for one of them what was waited for.
    pub(crate) fn pass(&mut self, index: usize) -> Passed {
        let Some(stream) = self.streams.get_mut(index) else { return Passed::On };
        if !stream.waiting.is_empty() {
            return stream.write();
        }
        let mut buffer = [0; CHUNK];
        let read = match stream.from.as_mut().map(|from| from.read(&mut buffer)) {
            Some(Ok(read)) => read,
            Some(Err(error)) if error.kind() == ErrorKind::WouldBlock => return Passed::On,
            Some(Err(_)) | None => 0,
        };
        if read == 0 {
            stream.from = None;
            return Passed::On;
        }
        let allowed = read.min(usize::try_from(self.left).unwrap_or(usize::MAX));
        self.left -= allowed as u64;
        stream.waiting.extend(buffer.iter().take(allowed));
        let passed = if stream.has_room() { stream.write() } else { Passed::On };
        if allowed < read { Passed::Full } else { passed }
    }

    /// Lets go of the terminals.
    pub(crate) fn hang_up(&mut self) {
        self.streams.retain(|stream| !stream.terminal);
    }

    /// Passes on what is left after everything inside has ended; `false` where nobody took it until `deadline`, or
    /// where a signal told us to end.
    pub(crate) fn drain(&mut self, deadline: Option<Instant>, signals: Option<&SignalFd>) -> Result<(Passed, bool)> {
        let mut passed = Passed::On;
        loop {
            let (indices, mut items): (Vec<usize>, Vec<PollItem<'_>>) = self.items().unzip();
            if indices.is_empty() {
                return Ok((passed, true));
            }
            items.extend(signals.map(|signals| PollItem::read(signals.as_fd())));
            let left = deadline.map(|at| at.saturating_duration_since(Instant::now()));
            if poll(&mut items, left)? == 0 {
                return Ok((passed, false));
            }
            let ready = indices.iter().zip(&items).filter(|(_, item)| item.is_ready());
            let ready: Vec<usize> = ready.map(|(index, _)| *index).collect();
            drop(items);
            for index in ready {
                if self.pass(index) == Passed::Full {
                    passed = Passed::Full;
                }
            }
            if let Some(signals) = signals
                && signals.read()?.is_some_and(|received| ENDING.contains(&received.signal))
            {
                return Ok((passed, false));
            }
        }
    }
}

impl Stream {
    fn before(slot: &mut Option<OwnedFd>, own: BorrowedFd<'_>) -> Result<Self> {
        let (from, ours) = fd::pipe()?;
        let to = match slot.replace(ours) {
            Some(file) => file,
            None => fd::dup_cloexec(own)?,
        };
        Ok(Self { from: Some(from.into()), to: to.into(), waiting: Vec::new(), terminal: false })
    }

    fn item(&self) -> Option<PollItem<'_>> {
        if !self.waiting.is_empty() {
            return Some(PollItem::write(self.to.as_fd()));
        }
        self.from.as_ref().map(|from| PollItem::read(from.as_fd()))
    }

    fn has_room(&self) -> bool {
        let mut item = [PollItem::write(self.to.as_fd())];
        poll(&mut item, Some(Duration::ZERO)).is_ok_and(|ready| ready > 0)
    }

    /// A pipe takes all of it at once; a terminal, which does not wait, what it has room for.
    fn write(&mut self) -> Passed {
        match self.to.write(&self.waiting) {
            Ok(written) => drop(self.waiting.drain(..written)),
            Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::Interrupted) => {}
            Err(_) => {
                // Whoever read our output is gone; the workload shall see that as a broken pipe of its own.
                self.from = None;
                self.waiting.clear();
                if self.terminal {
                    return Passed::Gone;
                }
            }
        }
        Passed::On
    }
}
