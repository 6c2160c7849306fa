//! Waiting for several things at once.

use std::os::fd::{AsFd, BorrowedFd};
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags};
use nix::sys::time::TimeSpec;
use nix::sys::timerfd::{ClockId, Expiration, TimerFd, TimerFlags, TimerSetTimeFlags};

use crate::error::{OrCall, Result};

/// A descriptor to wait for, and what was found.
#[derive(Debug)]
pub struct PollItem<'a> {
    /// The descriptor.
    pub fd: BorrowedFd<'a>,
    /// Asks for input.
    pub want_read: bool,
    /// Asks for room to write.
    pub want_write: bool,
    /// It can be read.
    pub readable: bool,
    /// It can be written.
    pub writable: bool,
    /// The other end is gone; what it left may still be readable.
    pub hup: bool,
    /// It is in error, or not open.
    pub error: bool,
}

impl<'a> PollItem<'a> {
    /// Waits for input.
    #[must_use]
    pub fn read(fd: BorrowedFd<'a>) -> Self {
        Self { fd, want_read: true, want_write: false, readable: false, writable: false, hup: false, error: false }
    }

    /// Waits for input and for room to write.
    #[must_use]
    pub fn read_write(fd: BorrowedFd<'a>) -> Self {
        Self { want_write: true, ..Self::read(fd) }
    }

    /// Waits for room to write.
    #[must_use]
    pub fn write(fd: BorrowedFd<'a>) -> Self {
        Self { want_read: false, ..Self::read_write(fd) }
    }

    /// Says whether anything was found.
    #[must_use]
    pub fn is_ready(&self) -> bool {
        self.readable || self.writable || self.hup || self.error
    }
}

/// Waits until one of the items is ready or the time is over (`None`: for ever); gives how many are.
///
/// A signal handler that runs in between does not end the wait. Fails: EINVAL for more items than
/// RLIMIT_NOFILE. ppoll(2).
pub fn poll(items: &mut [PollItem<'_>], timeout: Option<Duration>) -> Result<usize> {
    // A time beyond what a clock can hold is as good as for ever.
    let deadline = timeout.and_then(|timeout| Instant::now().checked_add(timeout));
    let mut fds: Vec<PollFd<'_>> = items.iter().map(request).collect();
    let count = loop {
        let left = deadline.map(|at| TimeSpec::from(at.saturating_duration_since(Instant::now())));
        match nix::poll::ppoll(&mut fds, left, None) {
            Err(Errno::EINTR) => {}
            other => break other.or_call(|| format!("ppoll({} descriptors, {timeout:?})", items.len()))?,
        }
    };
    let found: Vec<PollFlags> = fds.iter().map(|fd| fd.revents().unwrap_or(PollFlags::POLLERR)).collect();
    for (item, found) in items.iter_mut().zip(found) {
        item.readable = found.contains(PollFlags::POLLIN);
        item.writable = found.contains(PollFlags::POLLOUT);
        item.hup = found.contains(PollFlags::POLLHUP);
        item.error = found.intersects(PollFlags::POLLERR | PollFlags::POLLNVAL);
    }
    Ok(usize::try_from(count).unwrap_or(0))
}

fn request<'a>(item: &PollItem<'a>) -> PollFd<'a> {
    let wanted = |wanted: bool, flag: PollFlags| if wanted { flag } else { PollFlags::empty() };
    let read = wanted(item.want_read, PollFlags::POLLIN);
    PollFd::new(item.fd, read | wanted(item.want_write, PollFlags::POLLOUT))
}

/// A timer that becomes readable once, when its time is over.
#[derive(Debug)]
pub struct Timer(TimerFd);

impl Timer {
    /// Starts a timer on the monotonic clock; a zero time is over at once.
    ///
    /// timerfd_create(2).
    pub fn oneshot(after: Duration) -> Result<Self> {
        let flags = TimerFlags::TFD_CLOEXEC | TimerFlags::TFD_NONBLOCK;
        let timer = TimerFd::new(ClockId::CLOCK_MONOTONIC, flags)
            .or_call(|| "timerfd_create(CLOCK_MONOTONIC, TFD_CLOEXEC|TFD_NONBLOCK)".to_owned())?;
        let timer = Self(timer);
        timer.restart(after)?;
        Ok(timer)
    }

    /// Starts it anew. timerfd_settime(2).
    pub fn restart(&self, after: Duration) -> Result<()> {
        // Zero would disarm it.
        let after = after.max(Duration::from_nanos(1));
        self.0
            .set(Expiration::OneShot(TimeSpec::from(after)), TimerSetTimeFlags::empty())
            .or_call(|| format!("timerfd_settime({after:?})"))
    }

    /// Stops it. timerfd_settime(2).
    pub fn stop(&self) -> Result<()> {
        self.0.unset().or_call(|| "timerfd_settime(0)".to_owned())
    }
}

impl AsFd for Timer {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

/// Starts a timer that becomes readable once, as [`Timer::oneshot`].
pub fn timer_fd(after: Duration) -> Result<Timer> {
    Timer::oneshot(after)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_timer_becomes_readable_and_a_silent_one_times_out() {
        let (soon, late) = (timer_fd(Duration::ZERO).unwrap(), timer_fd(Duration::from_secs(3600)).unwrap());
        let mut items = [PollItem::read(late.as_fd()), PollItem::read(soon.as_fd())];
        assert_eq!(poll(&mut items, None).unwrap(), 1);
        assert!(items[1].readable && !items[0].is_ready());
        let mut items = [PollItem::read(late.as_fd())];
        assert_eq!(poll(&mut items, Some(Duration::from_millis(1))).unwrap(), 0);
        soon.stop().unwrap();
        assert_eq!(poll(&mut [PollItem::read(soon.as_fd())], Some(Duration::ZERO)).unwrap(), 0);
    }

    #[test]
    fn room_to_write_is_waited_for_alone() {
        let (reader, writer) = nix::unistd::pipe().unwrap();
        let room = |fd: BorrowedFd<'_>| {
            let mut items = [PollItem::write(fd)];
            poll(&mut items, Some(Duration::ZERO)).unwrap();
            (items[0].writable, items[0].readable, items[0].is_ready())
        };
        assert_eq!(room(writer.as_fd()), (true, false, true));
        // A full pipe has none; with something to read there is still nothing that was asked for.
        nix::fcntl::fcntl(&writer, nix::fcntl::FcntlArg::F_SETFL(nix::fcntl::OFlag::O_NONBLOCK)).unwrap();
        while nix::unistd::write(&writer, &[0; 4096]).is_ok() {}
        assert_eq!(room(writer.as_fd()), (false, false, false));
        assert!(!room(reader.as_fd()).1);
    }

    #[test]
    fn a_closed_other_end_is_told() {
        let (reader, writer) = nix::unistd::pipe().unwrap();
        drop(writer);
        let mut items = [PollItem::read(reader.as_fd())];
        poll(&mut items, None).unwrap();
        assert!(items[0].hup && !items[0].readable);
    }
}
