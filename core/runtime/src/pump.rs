//! The workload's output, where the policy limits how much there may be: through pipes of ours.

use palisade_sys::Result;
use palisade_sys::fd;
use std::io::{Read as _, Write as _};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

/// One of the two streams: what the workload writes to, and what we pass on to.
struct Stream {
    from: std::fs::File,
    to: std::fs::File,
    open: bool,
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
    /// Makes pipes in front of this process's stdout and stderr; the child's ends are the second value.
    pub(crate) fn new(limit: u64) -> Result<(Self, [OwnedFd; 2])> {
        let (out_read, out_write) = fd::pipe()?;
        let (err_read, err_write) = fd::pipe()?;
        let stream = |from: OwnedFd, to: BorrowedFd<'_>| -> Result<Stream> {
            Ok(Stream { from: from.into(), to: fd::dup_cloexec(to)?.into(), open: true })
        };
        let streams = vec![
            stream(out_read, std::io::stdout().as_fd())?,
            stream(err_read, std::io::stderr().as_fd())?,
        ];
        Ok((Self { streams, left: limit }, [out_write, err_write]))
    }

    /// The pipes that may still have something.
    pub(crate) fn fds(&self) -> Vec<(usize, BorrowedFd<'_>)> {
        let open = self.streams.iter().enumerate().filter(|(_, s)| s.open);
        open.map(|(index, stream)| (index, stream.from.as_fd())).collect()
    }

    /// Passes on what one of them has now.
    pub(crate) fn pass(&mut self, index: usize) -> Passed {
        let Some(stream) = self.streams.get_mut(index) else { return Passed::On };
        let mut buffer = [0; 64 * 1024];
        let read = stream.from.read(&mut buffer).unwrap_or(0);
        if read == 0 {
            stream.open = false;
            return Passed::On;
        }
        let allowed = read.min(usize::try_from(self.left).unwrap_or(usize::MAX));
        self.left -= allowed as u64;
        let written = buffer.get(..allowed).map(|bytes| stream.to.write_all(bytes));
        if !matches!(written, Some(Ok(()))) {
            // Whoever read our output is gone; the workload shall see that as a broken pipe of its own.
            stream.open = false;
        }
        if allowed < read { Passed::Full } else { Passed::On }
    }

    /// Passes on what is left after the workload has ended.
    pub(crate) fn drain(&mut self) -> Passed {
        for index in 0..self.streams.len() {
            while self.streams.get(index).is_some_and(|s| s.open) {
                if self.pass(index) == Passed::Full {
                    return Passed::Full;
                }
            }
        }
        Passed::On
    }
}
