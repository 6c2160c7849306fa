//! Terminals: both ends of one that this process makes, and the mode of one that it was given.

use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd};
use std::path::PathBuf;
use std::ptr::null_mut;
use std::sync::atomic::{AtomicPtr, Ordering};

use nix::errno::Errno;
use nix::fcntl::OFlag;
use nix::sys::termios::{InputFlags, LocalFlags, OutputFlags, SetArg, SpecialCharacterIndices, Termios};
use nix::unistd::Pid;

use crate::error::{Error, OrCall, Result};
use crate::{event, fd, raw};

/// Major and minor number of /dev/ptmx, on which the kernel answers as if it were the terminal itself.
const MULTIPLEXER: (u32, u32) = (5, 2);

/// Says whether a descriptor is a terminal. The other end of one, which its owner reads and writes, is none.
#[must_use]
pub fn is_terminal(fd: impl AsFd) -> bool {
    let fd = fd.as_fd();
    nix::unistd::isatty(fd).unwrap_or(false) && fd::fstat(fd).is_ok_and(|facts| facts.device() != MULTIPLEXER)
}

/// Makes a terminal: the end of whoever stands behind it, non-blocking, and the end of whoever sits before it.
///
/// Neither becomes the controlling terminal. Needs: a devpts of which /dev/ptmx is part; /dev/pts need not be seen.
/// Fails: ENOENT without one, ENOSPC beyond sysctl kernel.pty.max. Since: 4.13. pts(4), TIOCGPTPEER(2const).
pub fn open_pair() -> Result<(OwnedFd, OwnedFd)> {
    let flags = OFlag::O_RDWR | OFlag::O_NOCTTY | OFlag::O_CLOEXEC | OFlag::O_NONBLOCK;
    let help =
        |error: Error| error.with_hint("/dev/ptmx must be that of a devpts: mount one, or do without a terminal");
    let master = nix::pty::posix_openpt(flags)
        .or_call(|| "posix_openpt(O_RDWR|O_NOCTTY|O_CLOEXEC|O_NONBLOCK)".to_owned())
        .map_err(help)?;
    nix::pty::unlockpt(&master).or_call(|| "unlockpt(/dev/ptmx)".to_owned()).map_err(help)?;
    let master = OwnedFd::from(master);
    let flags = libc::O_RDWR | libc::O_NOCTTY | libc::O_CLOEXEC;
    let slave = number(master.as_fd(), libc::TIOCGPTPEER, flags, "TIOCGPTPEER")?;
    // SAFETY: `slave` is open and nobody else's; upheld by the kernel, which has just made it; else two owners close it.
    Ok((master, unsafe { OwnedFd::from_raw_fd(slave) }))
}

/// An ioctl(2) whose argument is a number.
fn number(fd: BorrowedFd<'_>, request: libc::Ioctl, argument: libc::c_int, name: &str) -> Result<libc::c_int> {
    // SAFETY: the request takes no pointer; upheld by the three callers here; else the kernel writes to an address that is none.
    let ret = unsafe { libc::ioctl(fd.as_raw_fd(), request, argument) };
    Errno::result(ret).or_call(|| format!("ioctl({}, {name}, {argument:#x})", raw::show_fd(fd)))
}

/// Opens the terminal behind a descriptor anew, for reading and writing, non-blocking: whether a call waits is a
/// property that all who share a descriptor share.
///
/// Where its file may not be opened, as after su(1), the controlling terminal is opened by its own name. Fails: EACCES
/// where it is not that either.
pub fn reopen(fd: impl AsFd) -> Result<OwnedFd> {
    let fd = fd.as_fd();
    let open = |path: PathBuf| fd::open_path(path, libc::O_RDWR | libc::O_NOCTTY | libc::O_NONBLOCK);
    open(fd::proc_fd_path(fd)).or_else(|error| match nix::sys::termios::tcgetsid(fd) {
        Ok(_) => open("/dev/tty".into()),
        Err(_) => Err(error),
    })
}

/// Makes it the controlling terminal of this process, which must lead a session that has none. TIOCSCTTY(2const).
pub fn make_controlling(slave: impl AsFd) -> Result<()> {
    number(slave.as_fd(), libc::TIOCSCTTY, 0, "TIOCSCTTY").map(drop)
}

/// Sends SIGINT, SIGQUIT or SIGTSTP to the terminal's foreground group, as its key would; through its other end.
///
/// Fails: EINVAL for another signal. TIOCSIG(2const).
pub fn signal_foreground(master: impl AsFd, signal: i32) -> Result<()> {
    number(master.as_fd(), libc::TIOCSIG, signal, "TIOCSIG").map(drop)
}

/// The process group in the foreground, as this pid namespace numbers it.
///
/// Fails: ENOTTY when it is neither this process's controlling terminal nor the other end of one. tcgetpgrp(3).
pub fn foreground_group(fd: impl AsFd) -> Result<i32> {
    let fd = fd.as_fd();
    nix::unistd::tcgetpgrp(fd).map(Pid::as_raw).or_call(|| format!("tcgetpgrp({})", raw::show_fd(fd)))
}

/// Says whether this process may take what is typed: it is in the foreground, or nobody keeps jobs on that terminal.
#[must_use]
pub fn is_foreground(fd: impl AsFd) -> bool {
    foreground_group(fd).map_or(true, |group| group == nix::unistd::getpgrp().as_raw())
}

/// Says whether a stop of this process's group is noticed by somebody who can continue it: a shell that keeps jobs.
///
/// It is the kernel's own rule for the signals of a terminal: the parent of the group is in the same session. Needs: a
/// procfs on /proc. credentials(7), "orphaned process group" in setpgid(2).
#[must_use]
pub fn is_job() -> bool {
    let group = nix::unistd::getpgrp();
    let of = |pid: i32| nix::unistd::getpgid(Some(Pid::from_raw(pid)));
    let Ok(procfs) = crate::procfs::Proc::host() else { return false };
    let mut pid = nix::unistd::getppid().as_raw();
    while pid > 1 && of(pid) == Ok(group) {
        let parent = procfs.pid(pid).and_then(|process| process.status()).map(|status| status.parent);
        pid = parent.unwrap_or(0);
    }
    let session = |pid: Option<i32>| nix::unistd::getsid(pid.map(Pid::from_raw));
    pid > 0 && session(Some(pid)).is_ok_and(|theirs| session(None) == Ok(theirs))
}

/// Says whether it is gone, with whoever sat before it.
pub fn is_gone(fd: impl AsFd) -> Result<bool> {
    let fd = fd.as_fd();
    let mut item = [event::PollItem::read(fd)];
    event::poll(&mut item, Some(std::time::Duration::ZERO))?;
    Ok(item.iter().any(|item| item.hup || item.error))
}

/// Gives one terminal the size of another; whoever is in its foreground gets SIGWINCH if that is new.
/// TIOCSWINSZ(2const).
pub fn copy_size(from: impl AsFd, to: impl AsFd) -> Result<()> {
    let (from, to) = (from.as_fd(), to.as_fd());
    let mut size = libc::winsize { ws_row: 0, ws_col: 0, ws_xpixel: 0, ws_ypixel: 0 };
    // SAFETY: the kernel writes one such struct there; upheld by its type; else it writes over a neighbour.
    let ret = unsafe { libc::ioctl(from.as_raw_fd(), libc::TIOCGWINSZ, &raw mut size) };
    Errno::result(ret).or_call(|| format!("ioctl({}, TIOCGWINSZ)", raw::show_fd(from)))?;
    // SAFETY: the kernel reads one such struct there; upheld by its type; else it reads past it.
    let ret = unsafe { libc::ioctl(to.as_raw_fd(), libc::TIOCSWINSZ, &raw const size) };
    Errno::result(ret).map(drop).or_call(|| format!("ioctl({}, TIOCSWINSZ)", raw::show_fd(to)))
}

/// The mode of a terminal. termios(3).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mode(Termios);

impl Mode {
    /// Reads it; through either end. tcgetattr(3).
    pub fn of(fd: impl AsFd) -> Result<Self> {
        let fd = fd.as_fd();
        nix::sys::termios::tcgetattr(fd).map(Self).or_call(|| format!("tcgetattr({})", raw::show_fd(fd)))
    }

    /// Sets it, at once. tcsetattr(3).
    pub fn set(&self, fd: impl AsFd) -> Result<()> {
        let fd = fd.as_fd();
        nix::sys::termios::tcsetattr(fd, SetArg::TCSANOW, &self.0)
            .or_call(|| format!("tcsetattr({}, TCSANOW)", raw::show_fd(fd)))
    }

    /// The same where every key is a byte and every byte is shown as it is.
    #[must_use]
    pub fn raw(&self) -> Self {
        let mut mode = self.0.clone();
        nix::sys::termios::cfmakeraw(&mut mode);
        // cfmakeraw(3) leaves this one: a key would stop the output.
        mode.input_flags.remove(InputFlags::IXOFF | InputFlags::IXANY);
        mode.control_chars[SpecialCharacterIndices::VMIN as usize] = 1;
        mode.control_chars[SpecialCharacterIndices::VTIME as usize] = 0;
        Self(mode)
    }

    /// The same for a terminal behind which another one shows what is typed and ends the lines.
    #[must_use]
    pub fn behind_another(&self) -> Self {
        let mut mode = self.0.clone();
        mode.local_flags.remove(LocalFlags::ECHO | LocalFlags::ECHONL);
        mode.output_flags.remove(OutputFlags::OPOST);
        Self(mode)
    }

    /// Says whether it gives whole lines.
    #[must_use]
    pub fn is_by_line(&self) -> bool {
        self.0.local_flags.contains(LocalFlags::ICANON)
    }

    fn key(&self, index: SpecialCharacterIndices) -> Option<u8> {
        self.0.control_chars.get(index as usize).copied().filter(|key| *key != libc::_POSIX_VDISABLE)
    }

    /// The key that ends the input.
    #[must_use]
    pub fn end_key(&self) -> Option<u8> {
        self.key(SpecialCharacterIndices::VEOF)
    }

    /// The key that stops the foreground group, where one does.
    #[must_use]
    pub fn stop_key(&self) -> Option<u8> {
        self.key(SpecialCharacterIndices::VSUSP).filter(|_| self.0.local_flags.contains(LocalFlags::ISIG))
    }
}

/// What [`put_back`] needs.
#[derive(Debug)]
struct Before {
    terminal: OwnedFd,
    mode: libc::termios,
}

/// The terminal that is raw now. A handler may read it: it changes by one store, before what it points to is freed.
static RAW: AtomicPtr<Before> = AtomicPtr::new(null_mut());

/// A terminal in raw mode; dropped, it has the mode from before. So it has where a guard of [`crate::guard`] ends the
/// process.
#[derive(Debug)]
#[must_use = "the terminal is raw only while this lives"]
pub struct Raw(*mut Before);

impl Raw {
    /// Makes it raw. Fails: EBUSY while another one is.
    pub fn enter(fd: impl AsFd) -> Result<Self> {
        let fd = fd.as_fd();
        let mode = Mode::of(fd)?;
        let before = Before { terminal: fd::dup_cloexec(fd)?, mode: mode.0.clone().into() };
        let before = Box::into_raw(Box::new(before));
        if RAW.compare_exchange(null_mut(), before, Ordering::SeqCst, Ordering::SeqCst).is_err() {
            // SAFETY: the box was made above and nobody else has seen it; upheld by the exchange, which failed; else it is freed twice.
            drop(unsafe { Box::from_raw(before) });
            let error = Error::new(Errno::EBUSY, "tcsetattr(TCSANOW)");
            return Err(error.with_hint("one terminal at a time: wait for the first workload"));
        }
        // From here on it is put back on an early return, too.
        let raw = Self(before);
        mode.raw().set(fd)?;
        Ok(raw)
    }
}

impl Drop for Raw {
    fn drop(&mut self) {
        put_back();
        RAW.store(null_mut(), Ordering::SeqCst);
        // SAFETY: the box was made by `enter`, and no handler sees it any more; upheld by the store above; else it is used after it was freed.
        drop(unsafe { Box::from_raw(self.0) });
    }
}

/// Gives the terminal that is raw its mode from before; async-signal-safe.
pub(crate) fn put_back() {
    let before = RAW.load(Ordering::SeqCst);
    // SAFETY: it is null or a box that is not freed; upheld by `Raw`, which takes it away first; else freed memory is read.
    let Some(before) = (unsafe { before.as_ref() }) else { return };
    // One that is gone has no mode, and there is nobody to tell.
    // SAFETY: tcsetattr is async-signal-safe and only reads the struct; upheld by signal-safety(7); else a handler breaks what it interrupts.
    unsafe { libc::tcsetattr(before.terminal.as_raw_fd(), libc::TCSANOW, &raw const before.mode) };
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_end_is_a_terminal_and_both_share_a_mode_and_a_size() {
        let (master, slave) = open_pair().unwrap();
        assert!(is_terminal(&slave) && !is_terminal(&master) && !is_terminal(fd::pipe().unwrap().0));
        let plain = Mode::of(&slave).unwrap();
        assert_eq!(plain, Mode::of(&master).unwrap());
        assert_eq!((plain.is_by_line(), plain.end_key(), plain.stop_key()), (true, Some(4), Some(26)));
        plain.raw().set(&slave).unwrap();
        let raw = Mode::of(&master).unwrap();
        assert_eq!((raw.is_by_line(), raw.stop_key()), (false, None));
        let size = libc::winsize { ws_row: 33, ws_col: 101, ws_xpixel: 0, ws_ypixel: 0 };
        // SAFETY: the kernel reads one such struct; upheld by its type; else it reads past it.
        assert_eq!(unsafe { libc::ioctl(slave.as_raw_fd(), libc::TIOCSWINSZ, &raw const size) }, 0);
        let (_other, theirs) = open_pair().unwrap();
        copy_size(&slave, &theirs).unwrap();
        let mut found = libc::winsize { ws_row: 0, ws_col: 0, ws_xpixel: 0, ws_ypixel: 0 };
        // SAFETY: the kernel writes one such struct; upheld by its type; else it writes over a neighbour.
        assert_eq!(unsafe { libc::ioctl(theirs.as_raw_fd(), libc::TIOCGWINSZ, &raw mut found) }, 0);
        assert_eq!((found.ws_row, found.ws_col), (33, 101));
    }

    #[test]
    fn a_raw_terminal_is_as_before_afterwards() {
        let (_master, slave) = open_pair().unwrap();
        let before = Mode::of(&slave).unwrap();
        let raw = Raw::enter(&slave).unwrap();
        assert!(!Mode::of(&slave).unwrap().is_by_line());
        assert_eq!(Raw::enter(&slave).unwrap_err().kind(), Errno::EBUSY);
        drop(raw);
        assert_eq!(Mode::of(&slave).unwrap(), before);
    }

    #[test]
    fn one_whose_other_end_is_closed_is_gone() {
        let (master, slave) = open_pair().unwrap();
        let again = reopen(&slave).unwrap();
        assert!(!is_gone(&again).unwrap() && is_terminal(&again));
        drop(master);
        assert!(is_gone(&again).unwrap());
    }
}
