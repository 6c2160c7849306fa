//! Messages between two processes: their borders, their end, their length, and who sent them.

use std::os::fd::AsRawFd as _;

use nix::sys::socket::{MsgFlags, send, setsockopt, sockopt};
use palisade_sys::channel::{Channel, MAX_MESSAGE, send_parts};
use palisade_sys::namespace::CLONE_NEWPID;
use palisade_sys::{Errno, process, signal};

use crate::help::{good, refused, run, start};
use crate::runner::cases;

cases![
    messages_keep_their_borders_between_processes,
    the_end_is_an_end_and_no_signal,
    the_longest_message_passes_and_a_longer_one_is_refused,
    the_sender_is_named,
    a_sender_who_is_not_visible_is_nobody,
];

fn recv(channel: &Channel) -> Option<Vec<u8>> {
    let mut message = b"what was there before".to_vec();
    let length = channel.recv(&mut message).unwrap()?;
    assert_eq!(length, message.len());
    Some(message)
}

fn messages_keep_their_borders_between_processes() {
    let (ours, theirs) = Channel::pair().unwrap();
    let big: Vec<u8> = (0..200_000_u32).map(|n| n.to_le_bytes()[0]).collect();
    let expected = big.clone();
    let child = start(0, || {
        for part in [&b"a"[..], b"bc", &big, b"d"] {
            theirs.send(part).unwrap();
        }
        send_parts(&theirs, &[b"head", b"", b"body"]).unwrap();
    });
    drop(theirs);
    assert_eq!(recv(&ours).unwrap(), b"a");
    assert_eq!(recv(&ours).unwrap(), b"bc");
    assert_eq!(recv(&ours).unwrap(), expected);
    assert_eq!(recv(&ours).unwrap(), b"d");
    assert_eq!(recv(&ours).unwrap(), b"headbody");
    assert_eq!(recv(&ours), None);
    assert_eq!(child.end(std::time::Duration::from_secs(60)).said, "");
}

fn the_end_is_an_end_and_no_signal() {
    // With SIGPIPE at its default a write to a closed pipe would end the process.
    let out = run(0, || {
        signal::reset_all_handlers().unwrap();
        let (read, write) = palisade_sys::fd::pipe().unwrap();
        drop(read);
        palisade_sys::fd::write(&write, b"x").unwrap();
    });
    assert_eq!(out.ended.shell_code(), 128 + libc::SIGPIPE);
    good(0, || {
        signal::reset_all_handlers().unwrap();
        let (ours, theirs) = Channel::pair().unwrap();
        ours.send(b"last").unwrap();
        drop(ours);
        assert_eq!(recv(&theirs).unwrap(), b"last");
        assert_eq!(recv(&theirs), None);
        assert_eq!(recv(&theirs), None);
        refused(theirs.send(b"x"), Errno::EPIPE);
        refused(send_parts(&theirs, &[b"x"]), Errno::EPIPE);
    });
    // The other end dies with a message of ours unread: that is an end, too.
    let (ours, theirs) = Channel::pair().unwrap();
    ours.send(b"unread").unwrap();
    drop(theirs);
    assert_eq!(recv(&ours), None);
}

fn the_longest_message_passes_and_a_longer_one_is_refused() {
    let (ours, theirs) = Channel::pair().unwrap();
    let longest = vec![7; MAX_MESSAGE];
    ours.send(&longest).unwrap();
    assert_eq!(recv(&theirs).unwrap(), longest);
    let too_long = vec![7; MAX_MESSAGE + 1];
    refused(ours.send(&too_long), Errno::EMSGSIZE);
    refused(send_parts(&ours, &[&too_long]), Errno::EMSGSIZE);
    refused(ours.send(b""), Errno::EINVAL);
    // A sender that does not use this code is held to the same length by the receiver.
    setsockopt(&ours, sockopt::SndBufForce, &(4 * MAX_MESSAGE)).unwrap();
    let raw = std::os::fd::AsFd::as_fd(&ours).as_raw_fd();
    assert_eq!(send(raw, &too_long, MsgFlags::empty()).unwrap(), too_long.len());
    ours.send(b"next").unwrap();
    let mut message = Vec::new();
    refused(theirs.recv(&mut message), Errno::EMSGSIZE);
    assert!(message.is_empty());
    assert_eq!(recv(&theirs).unwrap(), b"next");
}

fn the_sender_is_named() {
    let (ours, theirs) = Channel::pair().unwrap();
    let mut message = Vec::new();
    theirs.send(b"unsigned").unwrap();
    let error = refused(ours.recv_from(&mut message), Errno::EPROTO);
    assert!(error.hint().unwrap().contains("enable credentials"));
    ours.enable_credentials().unwrap();
    theirs.send(b"mine").unwrap();
    assert_eq!(ours.recv_from(&mut message).unwrap().unwrap().pid, process::getpid());
    let child = run(0, || theirs.send(b"hello").unwrap());
    assert_eq!(ours.recv_from(&mut message).unwrap().unwrap().pid, child.pid);
    assert_eq!(message, b"hello");
    let inner = run(CLONE_NEWPID, || theirs.send(b"as pid 1 of its own").unwrap());
    assert_eq!(ours.recv_from(&mut message).unwrap().unwrap().pid, inner.pid);
    drop(theirs);
    assert!(ours.recv_from(&mut message).unwrap().is_none());
}

fn a_sender_who_is_not_visible_is_nobody() {
    let (ours, theirs) = Channel::pair().unwrap();
    theirs.enable_credentials().unwrap();
    ours.send(b"from outside").unwrap();
    ours.send(b"from outside").unwrap();
    let mut message = Vec::new();
    assert_eq!(theirs.recv_from(&mut message).unwrap().unwrap().pid, process::getpid());
    good(CLONE_NEWPID, || assert_eq!(theirs.recv_from(&mut Vec::new()).unwrap().unwrap().pid, 0));
}
