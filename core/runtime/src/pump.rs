//! The workload's output, where the policy limits how much there may be: through pipes of ours.

use crate::process::Settings;
use palisade_sys::Result;
use palisade_sys::fd;
use std::io::{Read as _, Write as _};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

/// One of the two streams: what the workload writes to, and what we pass on to.
struct Stream {
    /// Nothing once there is no more to come, or nobody to pass it on to.
    from: Option<std::fs::File>,
    to: std::fs::File,
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
}

impl Pump {
    /// Puts pipes in front of standard output and error where there is a limit. The ends that the workload
    /// writes to take the place of the files in `settings`; [`Pump::born`] gives them up.
    pub(crate) fn wanted(settings: &Settings) -> Result<Option<Self>> {
        let Some(left) = settings.output_limit else { return Ok(None) };
        let mut stdio = settings.stdio.borrow_mut();
        let [_, out, err] = &mut *stdio;
        let streams =
            vec![Stream::before(out, std::io::stdout().as_fd())?, Stream::before(err, std::io::stderr().as_fd())?];
        Ok(Some(Self { streams, left }))
    }

    /// The workload has its ends; with ours open we would never see the last of them close.
    pub(crate) fn born(settings: &Settings) {
        for slot in settings.stdio.borrow_mut().iter_mut() {
            *slot = None;
        }
    }

    /// The pipes that may still have something.
    pub(crate) fn fds(&self) -> Vec<(usize, BorrowedFd<'_>)> {
        let all = self.streams.iter().enumerate();
        all.filter_map(|(index, stream)| Some((index, stream.from.as_ref()?.as_fd()))).collect()
    }

    /// Passes on what one of them has now.
    pub(crate) fn pass(&mut self, index: usize) -> Passed {
        let Some(stream) = self.streams.get_mut(index) else { return Passed::On };
        let mut buffer = [0; 16 * 1024];
        let read = stream.from.as_mut().and_then(|from| from.read(&mut buffer).ok()).unwrap_or(0);
        if read == 0 {
            stream.from = None;
            return Passed::On;
        }
        let allowed = read.min(usize::try_from(self.left).unwrap_or(usize::MAX));
        self.left -= allowed as u64;
        let written = buffer.get(..allowed).map(|bytes| stream.to.write_all(bytes));
        if !matches!(written, Some(Ok(()))) {
            // Whoever read our output is gone; the workload shall see that as a broken pipe of its own.
            stream.from = None;
        }
        if allowed < read { Passed::Full } else { Passed::On }
    }

    /// Passes on what is left after everything inside has ended.
    pub(crate) fn drain(&mut self) -> Passed {
        for index in 0..self.streams.len() {
            while self.streams.get(index).is_some_and(|s| s.from.is_some()) {
                if self.pass(index) == Passed::Full {
                    return Passed::Full;
                }
            }
        }
        Passed::On
    }
}

impl Stream {
    fn before(slot: &mut Option<OwnedFd>, own: BorrowedFd<'_>) -> Result<Self> {
        let (from, ours) = fd::pipe()?;
        let to = match slot.replace(ours) {
            Some(file) => file,
            None => fd::dup_cloexec(own)?,
        };
        Ok(Self { from: Some(from.into()), to: to.into() })
    }
}
