//! Listening to the kernel's audit log, where it is on and this process may. audit(7), netlink(7).

use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::sys::socket::{self, AddressFamily, MsgFlags, NetlinkAddr, SockFlag, SockProtocol, SockType};

use crate::error::{OrCall, Result};
use crate::event::{PollItem, poll};

/// `AUDIT_GET` of linux/audit.h: asks for the state, and is the type of the answer.
const GET: u16 = 1000;
/// `NLMSG_ERROR`.
const ERROR: u16 = 2;
/// `NLM_F_REQUEST`.
const REQUEST: u16 = 1;
/// `AUDIT_NLGRP_READLOG`, as a bit.
const READ_LOG: u32 = 1;
/// The header of a netlink message.
const HEADER: usize = 16;
/// Longer than any record (`MAX_AUDIT_MESSAGE_LENGTH`).
const LONGEST: usize = 16 * 1024;
/// How long the kernel may take for its state: a thread of its own sends it.
const PATIENCE: Duration = Duration::from_millis(500);

/// A record of the log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Record {
    /// Its type, such as 1423 (`AUDIT_LANDLOCK_ACCESS`).
    pub kind: u16,
    /// Its fields: `NAME=VALUE` with blanks between, behind the time.
    pub text: String,
}

/// The log from now on.
#[derive(Debug)]
pub struct Log(OwnedFd);

impl AsFd for Log {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

impl Log {
    /// Opens the log; nothing where auditing is off, or where this process may not listen.
    ///
    /// Needs: CAP_AUDIT_CONTROL and CAP_AUDIT_READ, in the first user and network namespaces. Fails: as socket(2).
    pub fn open() -> Result<Option<Self>> {
        let flags = SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK;
        let made = socket::socket(AddressFamily::Netlink, SockType::Raw, flags, SockProtocol::NetlinkAudit);
        let made = match made {
            // Not built in, not for this namespace, or closed by a sandbox around this process.
            Err(Errno::EPROTONOSUPPORT | Errno::ECONNREFUSED | Errno::EPERM | Errno::EACCES | Errno::EAFNOSUPPORT) => {
                return Ok(None);
            }
            other => other.or_call(|| "socket(AF_NETLINK, SOCK_RAW, NETLINK_AUDIT)".to_owned())?,
        };
        let log = Self(made);
        // Before anything is sent: that gives the socket an address, and it keeps that.
        match socket::bind(log.0.as_raw_fd(), &NetlinkAddr::new(0, READ_LOG)) {
            Err(Errno::EPERM) => return Ok(None),
            other => other.or_call(|| "bind(netlink, AUDIT_NLGRP_READLOG)".to_owned())?,
        }
        Ok(log.is_on()?.then_some(log))
    }

    /// Whether the kernel writes records; not where it does not tell this process.
    fn is_on(&self) -> Result<bool> {
        let mut request = Vec::with_capacity(HEADER);
        request.extend_from_slice(&16_u32.to_ne_bytes());
        request.extend_from_slice(&GET.to_ne_bytes());
        request.extend_from_slice(&REQUEST.to_ne_bytes());
        request.extend_from_slice(&[0; 8]);
        match socket::send(self.0.as_raw_fd(), &request, MsgFlags::empty()) {
            Err(Errno::EPERM | Errno::ECONNREFUSED) => return Ok(false),
            other => other.or_call(|| "send(netlink, AUDIT_GET)".to_owned())?,
        };
        let deadline = Instant::now() + PATIENCE;
        loop {
            let left = deadline.saturating_duration_since(Instant::now());
            if poll(&mut [PollItem::read(self.as_fd())], Some(left))? == 0 {
                return Ok(false);
            }
            match self.message()? {
                // The second word of `struct audit_status`.
                Some((GET, body)) => return Ok(word(&body, 4).is_some_and(|enabled| enabled != 0)),
                Some((ERROR, body)) if word(&body, 0) != Some(0) => return Ok(false),
                Some(_) | None => {}
            }
        }
    }

    /// Takes the next record, without waiting for one.
    ///
    /// Fails: ENOBUFS where records were lost, because nobody took them in time; else as recv(2).
    pub fn next(&self) -> Result<Option<Record>> {
        let message = self.message()?;
        Ok(message.map(|(kind, body)| Record {
            kind,
            text: String::from_utf8_lossy(&body).trim_end_matches(['\0', '\n']).to_owned(),
        }))
    }

    fn message(&self) -> Result<Option<(u16, Vec<u8>)>> {
        let mut bytes = vec![0; LONGEST];
        let length = match socket::recv(self.0.as_raw_fd(), &mut bytes, MsgFlags::empty()) {
            Err(Errno::EAGAIN | Errno::EINTR) => return Ok(None),
            other => other.or_call(|| "recv(netlink)".to_owned())?,
        };
        bytes.truncate(length);
        let kind = bytes.get(4..6).and_then(|kind| kind.try_into().ok()).map(u16::from_ne_bytes);
        // The length in the header of a record is that of its text alone, on some kernels.
        Ok(kind.map(|kind| (kind, bytes.split_off(HEADER.min(length)))))
    }
}

fn word(bytes: &[u8], at: usize) -> Option<u32> {
    Some(u32::from_ne_bytes(bytes.get(at..at + 4)?.try_into().ok()?))
}
