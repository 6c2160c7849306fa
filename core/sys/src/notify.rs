//! Being asked by a system call filter: who calls what, and the answer. seccomp_unotify(2).
//!
//! What stands behind a pointer among the arguments is the asking process's to change at any time. So it may be looked
//! at to tell somebody what was asked, and never to decide.

use std::fs::File;
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd};
use std::os::unix::fs::FileExt;

use nix::errno::Errno;
use nix::sys::socket::{self, sockopt};

use crate::error::{OrCall, Result};
use crate::event::{PollItem, poll};
use crate::procfs::ProcPid;
use crate::{fd, process, raw};

/// One call that waits for an answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Question {
    /// Names the question in its answer.
    pub id: u64,
    /// Who asks, as this process's pid namespace numbers it; 0 where it is not visible from here.
    pub pid: i32,
    /// The audit word of the calling convention.
    pub arch: u32,
    /// The call's number.
    pub number: i32,
    /// The call's arguments.
    pub args: [u64; 6],
}

/// What is on a listener.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Received {
    /// A question.
    Question(Question),
    /// Nothing now.
    Nothing,
    /// Nothing ever again: nobody is left whom the filter holds.
    Over,
}

/// What becomes of the call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Answer {
    /// It is not done, and fails with this errno.
    Errno(i32),
    /// It is done, as if the filter had allowed it.
    Continue,
}

/// Takes a question, without waiting for one.
///
/// Since: 5.0. Fails: as ioctl(2). SECCOMP_IOCTL_NOTIF_RECV.
pub fn receive(listener: BorrowedFd<'_>) -> Result<Received> {
    let mut item = [PollItem::read(listener)];
    poll(&mut item, Some(std::time::Duration::ZERO))?;
    let [item] = item;
    if !item.readable {
        return Ok(if item.hup || item.error { Received::Over } else { Received::Nothing });
    }
    // The kernel refuses one that is not zero.
    let mut question = MaybeUninit::<libc::seccomp_notif>::zeroed();
    // SAFETY: `question` has room for the struct and is writable; upheld by its type; else the kernel writes past it.
    let ret = unsafe { libc::ioctl(listener.as_raw_fd(), libc::SECCOMP_IOCTL_NOTIF_RECV, question.as_mut_ptr()) };
    match Errno::result(ret) {
        // Who asked is gone, or a signal took it back.
        Err(Errno::ENOENT | Errno::EINTR) => return Ok(Received::Nothing),
        other => other.or_call(|| "ioctl(listener, SECCOMP_IOCTL_NOTIF_RECV)".to_owned())?,
    };
    // SAFETY: all-zero is a valid value of this plain struct; upheld by `zeroed` above; else a field is read uninitialised.
    let question = unsafe { question.assume_init() };
    Ok(Received::Question(Question {
        id: question.id,
        pid: i32::try_from(question.pid).unwrap_or(0),
        arch: question.data.arch,
        number: question.data.nr,
        args: question.data.args,
    }))
}

/// Says whether a question still waits: what was read of the asking process before is its own then, and not that of
/// another process with the same number.
///
/// Since: 5.0. SECCOMP_IOCTL_NOTIF_ID_VALID.
#[must_use]
pub fn waits(listener: BorrowedFd<'_>, id: u64) -> bool {
    // SAFETY: `id` is alive during the call; upheld by this frame; else the kernel reads another word.
    let ret = unsafe { libc::ioctl(listener.as_raw_fd(), libc::SECCOMP_IOCTL_NOTIF_ID_VALID, &raw const id) };
    ret == 0
}

/// Answers a question; `false` where nobody waits for it any more.
///
/// Since: 5.0, `Continue` 5.5. Fails: as ioctl(2). SECCOMP_IOCTL_NOTIF_SEND.
pub fn answer(listener: BorrowedFd<'_>, id: u64, answer: Answer) -> Result<bool> {
    let (error, flags) = match answer {
        Answer::Errno(errno) => (-errno, 0),
        Answer::Continue => (0, 1),
    };
    let response = libc::seccomp_notif_resp { id, val: 0, error, flags };
    // SAFETY: `response` is alive during the call and of the kernel's layout; upheld by this frame and libc; else the kernel reads past it.
    let ret = unsafe { libc::ioctl(listener.as_raw_fd(), libc::SECCOMP_IOCTL_NOTIF_SEND, &raw const response) };
    match Errno::result(ret) {
        Err(Errno::ENOENT) => Ok(false),
        other => other.map(|_zero| true).or_call(|| format!("ioctl(listener, SECCOMP_IOCTL_NOTIF_SEND, {answer:?})")),
    }
}

/// Says whether a socket of a process is one of TCP's kind: it carries a stream between internet addresses. Nothing where
/// it cannot be seen.
///
/// Since: 5.6. Needs: ptrace access. pidfd_getfd(2), SO_TYPE.
#[must_use]
pub fn is_tcp(pid: i32, number: u64) -> Option<bool> {
    let pidfd = process::pidfd_open(pid).ok()?;
    let args = [raw::fd(pidfd.as_fd()), raw::word(number), 0, 0, 0];
    // SAFETY: the call takes no pointer; upheld by pidfd_getfd(2); else nothing is touched.
    let copy = unsafe { raw::syscall(libc::SYS_pidfd_getfd, args) }.and_then(raw::small).ok()?;
    // SAFETY: `copy` is open and nobody else's; upheld by the kernel, which has just made it; else two owners close it.
    let copy = unsafe { OwnedFd::from_raw_fd(copy) };
    Some(socket::getsockopt(&copy, sockopt::SockType).ok()? == socket::SockType::Stream)
}

/// The memory of a process, to be read.
#[derive(Debug)]
pub struct Memory(File);

impl Memory {
    /// Opens it.
    ///
    /// Needs: ptrace access. Fails: EACCES without it, ESRCH when the process has ended. proc_pid_mem(5).
    pub fn open(process: &ProcPid) -> Result<Self> {
        fd::open_at(process.as_fd(), "mem", libc::O_RDONLY).map(|mem| Self(mem.into()))
    }

    /// Reads as many bytes as there are from an address on, up to the length of the buffer.
    #[must_use]
    pub fn bytes(&self, address: u64, buffer: &mut [u8]) -> usize {
        self.0.read_at(buffer, address).unwrap_or(0)
    }

    /// Reads a text that ends in NUL; nothing where it does not within the longest path (`PATH_MAX`).
    #[must_use]
    pub fn text(&self, mut address: u64) -> Option<Vec<u8>> {
        const PAGE: u64 = 4096;
        let mut text = Vec::new();
        while text.len() < 4096 {
            // Never over the border of a page: the next one may not be there.
            let mut part = [0; 256];
            let length = (PAGE - address % PAGE).min(256) as usize;
            let read = self.bytes(address, part.get_mut(..length)?);
            let part = part.get(..read).filter(|part| !part.is_empty())?;
            if let Some(end) = part.iter().position(|byte| *byte == 0) {
                text.extend_from_slice(part.get(..end)?);
                return Some(text);
            }
            text.extend_from_slice(part);
            address = address.checked_add(read as u64)?;
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::procfs::Proc;

    #[test]
    fn the_structs_have_the_kernels_size() {
        assert_eq!((size_of::<libc::seccomp_notif>(), size_of::<libc::seccomp_notif_resp>()), (80, 24));
    }

    #[test]
    fn a_text_is_read_up_to_its_end_and_no_further() {
        let memory = Memory::open(&Proc::host().unwrap().own().unwrap()).unwrap();
        let long = format!("{}\0after", "x".repeat(700));
        let text = memory.text(long.as_ptr() as u64).unwrap();
        assert_eq!(text, "x".repeat(700).as_bytes());
        assert_eq!(memory.text(c"short".as_ptr() as u64).unwrap(), b"short");
        let endless = vec![b'y'; 3 * 4096];
        assert_eq!(memory.text(endless.as_ptr() as u64), None);
        assert_eq!(memory.text(8), None);
    }
}
