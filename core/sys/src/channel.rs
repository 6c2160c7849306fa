//! Messages between two processes of ours: whole, bounded, and with the sender's pid as the receiver
//! sees it.

use std::io::{IoSlice, IoSliceMut};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};

use nix::errno::Errno;
use nix::sys::socket::{
    self, AddressFamily, ControlMessage, ControlMessageOwned, MsgFlags, SockFlag, SockType, UnixAddr, sockopt,
};

use crate::error::{Error, OrCall, Result};

/// The longest message in bytes.
pub const MAX_MESSAGE: usize = 256 * 1024;

/// The most descriptors that go with one message.
pub const MAX_DESCRIPTORS: usize = 8;

/// Where a message comes from, and what came with it.
#[derive(Debug, Default)]
pub struct Sender {
    /// The sender's pid in this process's pid namespace, 0 when it is not visible from here.
    pub pid: i32,
    /// Descriptors, close-on-exec.
    pub descriptors: Vec<OwnedFd>,
}

/// What came beside the bytes of a message.
#[derive(Default)]
struct Beside {
    pid: Option<i32>,
    descriptors: Vec<OwnedFd>,
}

/// One end of a pair; close-on-exec.
///
/// Messages keep their borders. The other end's close is an end of file here, and never a SIGPIPE.
#[derive(Debug)]
pub struct Channel(OwnedFd);

impl AsFd for Channel {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

impl From<OwnedFd> for Channel {
    fn from(fd: OwnedFd) -> Self {
        Self(fd)
    }
}

impl From<Channel> for OwnedFd {
    fn from(channel: Channel) -> Self {
        channel.0
    }
}

impl Channel {
    /// Makes a pair whose ends can each hold a message of the greatest length.
    ///
    /// socketpair(2), unix(7).
    pub fn pair() -> Result<(Self, Self)> {
        let call = || "socketpair(AF_UNIX, SOCK_SEQPACKET|SOCK_CLOEXEC)".to_owned();
        let (a, b) =
            socket::socketpair(AddressFamily::Unix, SockType::SeqPacket, None, SockFlag::SOCK_CLOEXEC).or_call(call)?;
        for end in [&a, &b] {
            // The default holds 208 KiB; the kernel doubles what is asked for, which pays its overhead.
            socket::setsockopt(end, sockopt::SndBuf, &MAX_MESSAGE)
                .or_call(|| format!("setsockopt(socket, SO_SNDBUF, {MAX_MESSAGE})"))?;
        }
        Ok((Self(a), Self(b)))
    }

    /// Sends one message.
    ///
    /// Fails: EMSGSIZE beyond [`MAX_MESSAGE`], EINVAL for an empty one (it could not be told from the
    /// end), EPIPE when the other end is gone. send(2).
    pub fn send(&self, message: &[u8]) -> Result<()> {
        let call = || format!("send(channel, {} bytes, MSG_NOSIGNAL)", message.len());
        if message.is_empty() {
            return Err(Error::new(Errno::EINVAL, call()));
        }
        if message.len() > MAX_MESSAGE {
            return Err(Error::new(Errno::EMSGSIZE, call()).with_hint("a message holds at most 256 KiB"));
        }
        loop {
            match socket::send(self.0.as_raw_fd(), message, MsgFlags::MSG_NOSIGNAL) {
                Err(Errno::EINTR) => {}
                Err(errno) => return Err(Error::new(errno, call())),
                Ok(_) => return Ok(()),
            }
        }
    }

    /// Sends one message with descriptors, which stay open here.
    ///
    /// Fails: as [`Channel::send`]; EMSGSIZE for more than [`MAX_DESCRIPTORS`], EBADF for one that is not open.
    /// sendmsg(2), unix(7).
    pub fn send_with(&self, message: &[u8], descriptors: &[RawFd]) -> Result<()> {
        let call = || format!("sendmsg(channel, {} bytes, {} descriptors)", message.len(), descriptors.len());
        if message.is_empty() || message.len() > MAX_MESSAGE || descriptors.len() > MAX_DESCRIPTORS {
            return Err(Error::new(Errno::EMSGSIZE, call()));
        }
        let rights = [ControlMessage::ScmRights(descriptors)];
        let parts = [IoSlice::new(message)];
        loop {
            match socket::sendmsg::<()>(self.0.as_raw_fd(), &parts, &rights, MsgFlags::MSG_NOSIGNAL, None) {
                Err(Errno::EINTR) => {}
                other => return other.map(drop).or_call(call),
            }
        }
    }

    /// Receives one message into the buffer, whose old content goes; gives its length, `None` at the end.
    ///
    /// Fails: EMSGSIZE for a message that is too long, which is dropped. recv(2).
    pub fn recv(&self, message: &mut Vec<u8>) -> Result<Option<usize>> {
        Ok(self.receive(message, false)?.map(|(length, _)| length))
    }

    /// Receives one message with the sender's pid, and the descriptors that came with it; `None` at the end.
    ///
    /// Needs: [`Channel::enable_credentials`] before the message was sent. Fails: EPROTO for a message
    /// without credentials, EMSGSIZE for one that is too long. unix(7).
    pub fn recv_from(&self, message: &mut Vec<u8>) -> Result<Option<Sender>> {
        match self.receive(message, true)? {
            None => Ok(None),
            Some((_, Beside { pid: Some(pid), descriptors })) => Ok(Some(Sender { pid, descriptors })),
            Some((_, Beside { pid: None, .. })) => Err(Error::new(Errno::EPROTO, "recvmsg(channel)")
                .with_hint("enable credentials on the receiving end before anything is sent")),
        }
    }

    /// Lets this end learn who sent each message.
    ///
    /// The kernel fills the pid in, and a sender without CAP_SYS_ADMIN cannot choose another. unix(7).
    pub fn enable_credentials(&self) -> Result<()> {
        socket::setsockopt(&self.0, sockopt::PassCred, &true)
            .or_call(|| "setsockopt(channel, SO_PASSCRED, 1)".to_owned())
    }

    fn receive(&self, message: &mut Vec<u8>, with_sender: bool) -> Result<Option<(usize, Beside)>> {
        message.clear();
        let length = self.next_length()?;
        if length == 0 {
            return Ok(None);
        }
        // One byte is enough to drop a message that is too long.
        message.resize(if length > MAX_MESSAGE { 1 } else { length }, 0);
        let call = || format!("recvmsg(channel, {length} bytes)");
        let mut control = nix::cmsg_space!(libc::ucred, [RawFd; MAX_DESCRIPTORS]);
        let mut parts = [IoSliceMut::new(message)];
        let (got, flags, beside) = loop {
            let space = with_sender.then_some(control.as_mut_slice());
            let flags = MsgFlags::MSG_CMSG_CLOEXEC;
            match socket::recvmsg::<UnixAddr>(self.0.as_raw_fd(), &mut parts, space, flags) {
                Err(Errno::EINTR | Errno::ECONNRESET) => {}
                Err(errno) => return Err(Error::new(errno, call())),
                Ok(received) => {
                    let beside = if with_sender { beside(&received).or_call(call)? } else { Beside::default() };
                    break (received.bytes, received.flags, beside);
                }
            }
        };
        if flags.contains(MsgFlags::MSG_TRUNC) || got != length {
            message.clear();
            return Err(Error::new(Errno::EMSGSIZE, call()).with_hint("a message holds at most 256 KiB"));
        }
        Ok(Some((got, beside)))
    }

    /// Waits for a message and gives its length without taking it; 0 is the end.
    fn next_length(&self) -> Result<usize> {
        let flags = libc::MSG_PEEK | libc::MSG_TRUNC;
        let mut byte = [0_u8; 1];
        loop {
            // SAFETY: the buffer is writable and of the length given; upheld by the array; else the kernel writes past it.
            let length = unsafe { libc::recv(self.0.as_raw_fd(), byte.as_mut_ptr().cast(), byte.len(), flags) };
            match Errno::result(length) {
                Err(Errno::EINTR) => {}
                // The other end closed with messages of ours unread. The kernel tells that once, ahead of what the
                // other end had sent before; after that come its messages, and then the end.
                Err(Errno::ECONNRESET) => {}
                other => {
                    let length = other.or_call(|| "recv(channel, MSG_PEEK|MSG_TRUNC)".to_owned())?;
                    return Ok(usize::try_from(length).unwrap_or(0));
                }
            }
        }
    }
}

fn beside(received: &socket::RecvMsg<'_, '_, UnixAddr>) -> nix::Result<Beside> {
    let mut beside = Beside::default();
    for control in received.cmsgs()? {
        match control {
            ControlMessageOwned::ScmCredentials(credentials) => beside.pid = Some(credentials.pid()),
            ControlMessageOwned::ScmRights(numbers) => beside.descriptors.extend(numbers.into_iter().map(|number| {
                // SAFETY: `number` is open and nobody else's; upheld by the kernel, which has just made it for this
                // message; else two owners close it.
                unsafe { OwnedFd::from_raw_fd(number) }
            })),
            _ => {}
        }
    }
    Ok(beside)
}

/// Sends several parts as one message, for a header and a body that lie apart.
///
/// Fails: as [`Channel::send`]. sendmsg(2).
pub fn send_parts(channel: &Channel, parts: &[&[u8]]) -> Result<()> {
    let length: usize = parts.iter().map(|part| part.len()).sum();
    let call = || format!("sendmsg(channel, {length} bytes, MSG_NOSIGNAL)");
    if length == 0 || length > MAX_MESSAGE {
        return Err(Error::new(Errno::EMSGSIZE, call()).with_hint("a message holds 1 byte to 256 KiB"));
    }
    let slices: Vec<IoSlice<'_>> = parts.iter().map(|part| IoSlice::new(part)).collect();
    loop {
        match socket::sendmsg::<()>(channel.0.as_raw_fd(), &slices, &[], MsgFlags::MSG_NOSIGNAL, None) {
            Err(Errno::EINTR) => {}
            other => return other.map(drop).or_call(call),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_keep_their_borders_and_the_end_is_told() {
        let (a, b) = Channel::pair().unwrap();
        let mut message = vec![9; 4];
        a.send(b"one").unwrap();
        send_parts(&a, &[b"tw", b"o"]).unwrap();
        assert_eq!(b.recv(&mut message).unwrap(), Some(3));
        assert_eq!(message, b"one");
        assert_eq!(b.recv(&mut message).unwrap(), Some(3));
        drop(a);
        assert_eq!(b.recv(&mut message).unwrap(), None);
        assert_eq!(b.send(b"x").unwrap_err().kind(), Errno::EPIPE);
    }

    #[test]
    fn the_longest_message_passes_and_a_longer_one_is_refused() {
        let (a, b) = Channel::pair().unwrap();
        let long = vec![7; MAX_MESSAGE];
        a.send(&long).unwrap();
        let mut message = Vec::new();
        assert_eq!(b.recv(&mut message).unwrap(), Some(MAX_MESSAGE));
        assert_eq!(message, long);
        assert_eq!(a.send(&vec![7; MAX_MESSAGE + 1]).unwrap_err().kind(), Errno::EMSGSIZE);
        assert_eq!(a.send(b"").unwrap_err().kind(), Errno::EINVAL);
    }

    #[test]
    fn a_peer_that_breaks_the_limit_is_an_error_and_not_a_short_message() {
        let (a, b) = Channel::pair().unwrap();
        socket::setsockopt(&a.0, sockopt::SndBuf, &(MAX_MESSAGE * 2)).unwrap();
        let sent = socket::send(a.0.as_raw_fd(), &vec![7; MAX_MESSAGE + 1], MsgFlags::empty());
        if sent.is_err() {
            // The host's wmem_max does not let anybody send so much; there is nothing to receive.
            assert_eq!(sent, Err(Errno::EMSGSIZE));
            return;
        }
        let mut message = Vec::new();
        assert_eq!(b.recv(&mut message).unwrap_err().kind(), Errno::EMSGSIZE);
        a.send(b"next").unwrap();
        assert_eq!(b.recv(&mut message).unwrap(), Some(4));
    }

    /// A child that gave up had said why, and its words were lost where a message of ours was still unread.
    #[test]
    fn last_words_are_heard_although_the_other_end_did_not_read_ours() {
        let (a, b) = Channel::pair().unwrap();
        a.send(b"unread").unwrap();
        b.send(b"last words").unwrap();
        drop(b);
        let mut message = Vec::new();
        assert_eq!(a.recv(&mut message).unwrap(), Some(10));
        assert_eq!(message, b"last words");
        assert_eq!(a.recv(&mut message).unwrap(), None);
    }

    #[test]
    fn the_sender_is_named() {
        let (a, b) = Channel::pair().unwrap();
        b.enable_credentials().unwrap();
        a.send(b"x").unwrap();
        let mut message = Vec::new();
        assert_eq!(b.recv_from(&mut message).unwrap().unwrap().pid, nix::unistd::getpid().as_raw());
        assert_eq!(message, b"x");
        b.send(b"y").unwrap();
        assert_eq!(a.recv_from(&mut message).unwrap_err().kind(), Errno::EPROTO);
    }

    #[test]
    fn descriptors_come_with_their_message_and_close_on_exec() {
        let (a, b) = Channel::pair().unwrap();
        b.enable_credentials().unwrap();
        let (read, write) = crate::fd::pipe().unwrap();
        a.send_with(b"x", &[write.as_raw_fd()]).unwrap();
        drop(write);
        let mut message = Vec::new();
        let sender = b.recv_from(&mut message).unwrap().unwrap();
        let [got] = <[OwnedFd; 1]>::try_from(sender.descriptors).unwrap();
        assert!(!crate::fd::is_inherited(got.as_raw_fd()).unwrap());
        crate::fd::write(&got, b"through").unwrap();
        assert_eq!(crate::fd::read_some(&read, 64).unwrap(), b"through");
        assert_eq!(a.send_with(b"x", &[read.as_raw_fd(); MAX_DESCRIPTORS + 1]).unwrap_err().kind(), Errno::EMSGSIZE);
    }
}
