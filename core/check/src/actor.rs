//! A process that calls a plugin's entries as it is told to, and whose system calls are asked about: one of them can be
//! made to fail.

use crate::subject::{Kit, Lent, Subject, lend, line, panicked, plan};
use palisade_abi::seam::RawStep;
use palisade_abi::{Error, Host};
use palisade_sys::channel::Channel;
use palisade_sys::event::{PollItem, poll};
use palisade_sys::notify::{Answer, Question, Received, answer, receive};
use palisade_sys::process::{self, Cloned, Ended, Target};
use palisade_sys::{inject, signal};
use serde::{Deserialize, Serialize};
use std::cell::Cell;
use std::fmt;
use std::os::fd::{AsFd as _, AsRawFd as _, OwnedFd};
use std::time::{Duration, Instant};

/// How long one entry may take.
const LIMIT: Duration = Duration::from_secs(3);

/// What is to be called.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Entry {
    /// `configure` and `plan`.
    Plan,
    /// `apply` of the step with this index.
    Apply(usize),
    /// The others of a step.
    Verify(usize),
    Witness(usize),
    Undo(usize),
    /// The isolator and its steps go.
    Forget,
}

/// What came of it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Reply {
    /// It went well.
    Good,
    /// An error, in one line; empty where it has no words.
    Error(String),
    /// A panic that the SDK caught.
    Panic(String),
    /// The process ended.
    Ended(String),
    /// It did not come back.
    Hung,
}

impl Reply {
    /// Whether it is neither success nor an error.
    pub(crate) fn is_bad(&self) -> bool {
        matches!(self, Self::Panic(_) | Self::Hung | Self::Ended(_))
    }
}

impl fmt::Display for Reply {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Good => f.write_str("all went well"),
            Self::Error(text) if text.trim().is_empty() => f.write_str("an error without words"),
            Self::Error(text) | Self::Panic(text) => f.write_str(text),
            Self::Ended(how) => write!(f, "it ends the process ({how})"),
            Self::Hung => f.write_str("it hangs"),
        }
    }
}

/// A call that is made to fail: which one of an entry, and with what.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Fault {
    pub(crate) occurrence: usize,
    pub(crate) errno: i32,
}

/// The process, from outside.
#[derive(Debug)]
pub(crate) struct Actor {
    pub(crate) pid: i32,
    pidfd: OwnedFd,
    channel: Channel,
    listener: Option<OwnedFd>,
    /// Whether it did not come back from a call, or ended in one.
    lost: Cell<bool>,
}

/// The plugin, and what it is told.
#[derive(Clone, Copy)]
pub(crate) struct Cast<'a> {
    pub(crate) kit: &'a Kit,
    pub(crate) subject: &'a Subject,
    pub(crate) host: &'a Host,
}

/// What the process acts with.
pub(crate) struct Role<'a> {
    pub(crate) cast: Cast<'a>,
    pub(crate) steps: &'a mut Vec<RawStep>,
}

impl Actor {
    /// Makes one with these flags for its birth.
    pub(crate) fn new(flags: u64, role: Role<'_>) -> Result<Self, String> {
        Self::born(flags, role).map_err(|error| format!("no process to try it in: {error}"))
    }

    fn born(flags: u64, role: Role<'_>) -> palisade_sys::Result<Self> {
        let (here, there) = Channel::pair()?;
        here.enable_credentials()?;
        let Cloned::Parent { pid, pidfd } = process::clone3(flags, None)? else {
            drop(here);
            process::set_pdeathsig(9).ok();
            let played = play(&there, role);
            process::exit_now(i32::from(played.is_none()));
        };
        drop(there);
        Ok(Self { pid, pidfd, channel: here, listener: None, lost: Cell::new(false) })
    }

    /// Has its calls asked about from now on.
    pub(crate) fn listen(&mut self) -> Result<(), String> {
        self.channel.send(b"listen").map_err(|error| error.to_string())?;
        let mut items = [PollItem::read(self.channel.as_fd())];
        if poll(&mut items, Some(LIMIT)).map_err(|error| error.to_string())? == 0 {
            return Err("the process to try it in does not answer".to_owned());
        }
        let mut message = Vec::new();
        let sender = self.channel.recv_from(&mut message).map_err(|error| error.to_string())?;
        self.listener = sender.and_then(|sender| sender.descriptors.into_iter().next());
        let said = String::from_utf8_lossy(&message).into_owned();
        if self.listener.is_some() { Ok(()) } else { Err(format!("its system calls cannot be asked about: {said}")) }
    }

    /// Has an entry called, with this pid as that of the workload; gives the system calls that it made.
    pub(crate) fn call(&self, entry: Entry, lent: Option<i32>, fault: Option<Fault>) -> (Reply, Vec<i32>) {
        let (reply, calls) = self.called(entry, lent, fault);
        if matches!(reply, Reply::Hung | Reply::Ended(_)) {
            self.lost.set(true);
        }
        (reply, calls)
    }

    /// Whether nothing can be asked of it any more.
    pub(crate) fn is_lost(&self) -> bool {
        self.lost.get()
    }

    fn called(&self, entry: Entry, lent: Option<i32>, fault: Option<Fault>) -> (Reply, Vec<i32>) {
        let mut calls = Vec::new();
        let order = serde_json::to_vec(&(entry, lent)).unwrap_or_default();
        if self.channel.send(&order).is_err() {
            return (self.ended(), calls);
        }
        let until = Instant::now() + LIMIT;
        loop {
            let mut items = vec![PollItem::read(self.channel.as_fd()), PollItem::read(self.pidfd.as_fd())];
            items.extend(self.listener.as_ref().map(|listener| PollItem::read(listener.as_fd())));
            match poll(&mut items, Some(until.saturating_duration_since(Instant::now()))) {
                Ok(0) | Err(_) => return (Reply::Hung, calls),
                Ok(_) => {}
            }
            let ready: Vec<bool> = items.iter().map(|item| item.readable).collect();
            if ready.get(2) == Some(&true) {
                self.answer(&mut calls, fault);
            } else if ready.first() == Some(&true) {
                return (self.reply(), calls);
            } else if ready.get(1) == Some(&true) || !ready.contains(&true) {
                return (self.ended(), calls);
            }
        }
    }

    fn answer(&self, calls: &mut Vec<i32>, fault: Option<Fault>) {
        let Some(listener) = &self.listener else { return };
        let Ok(Received::Question(Question { id, pid, number, .. })) = receive(listener.as_fd()) else { return };
        let mut said = Answer::Continue;
        // What the process starts is not the plugin.
        if pid == self.pid {
            if let Some(fault) = fault.filter(|fault| fault.occurrence == calls.len()) {
                said = Answer::Errno(fault.errno);
            }
            calls.push(number);
        }
        // Who asked may be gone.
        answer(listener.as_fd(), id, said).ok();
    }

    fn reply(&self) -> Reply {
        let mut message = Vec::new();
        match self.channel.recv(&mut message) {
            Ok(Some(_)) => serde_json::from_slice(&message).unwrap_or(Reply::Hung),
            _ => self.ended(),
        }
    }

    fn ended(&self) -> Reply {
        let mut items = [PollItem::read(self.pidfd.as_fd())];
        if !matches!(poll(&mut items, Some(LIMIT)), Ok(1..)) {
            return Reply::Hung;
        }
        let status = process::waitid(Target::PidFd(self.pidfd.as_fd()), false).ok().flatten();
        Reply::Ended(match status.map(|status| status.ended) {
            Some(Ended::Exited(code)) => format!("exit status {code}"),
            Some(Ended::Signaled { signal, .. }) => signal::show(signal),
            None => "unknown".to_owned(),
        })
    }
}

impl Drop for Actor {
    fn drop(&mut self) {
        process::pidfd_send_signal(&self.pidfd, 9).ok();
        process::waitid(Target::PidFd(self.pidfd.as_fd()), false).ok();
    }
}

/// The process's part: nothing in it but entries makes a system call that is asked about.
fn play(channel: &Channel, role: Role<'_>) -> Option<()> {
    let mut message = Vec::new();
    let mut planned = None;
    while channel.recv(&mut message).ok()?.is_some() {
        if message == b"listen" {
            match inject::ask(channel.as_fd().as_raw_fd()) {
                Ok(listener) => channel.send_with(b"good", &[listener.as_raw_fd()]).ok()?,
                Err(error) => channel.send(error.to_string().as_bytes()).ok()?,
            }
            continue;
        }
        let (entry, lent): (Entry, Option<i32>) = serde_json::from_slice(&message).ok()?;
        let mut lent = Lent { pid: lent };
        let came = match entry {
            Entry::Plan => {
                let made = role.cast.subject.configure(&[&role.cast.kit.section], role.cast.host);
                made.and_then(|isolator| {
                    let steps = plan(&isolator, role.cast.host)?;
                    planned = Some((isolator, steps));
                    Ok(())
                })
            }
            Entry::Forget => {
                planned = None;
                role.steps.clear();
                Ok(())
            }
            Entry::Apply(index) | Entry::Verify(index) | Entry::Witness(index) | Entry::Undo(index) => {
                match role.steps.get_mut(index) {
                    Some(step) => of_a_step(step, entry, &mut lent),
                    None => Ok(()),
                }
            }
        };
        let reply = match came {
            Ok(()) => Reply::Good,
            Err(error) if panicked(&error) => Reply::Panic(line(&error)),
            Err(error) if error.message.trim().is_empty() && error.call.is_empty() => Reply::Error(String::new()),
            Err(error) => Reply::Error(line(&error)),
        };
        channel.send(&serde_json::to_vec(&reply).ok()?).ok()?;
    }
    drop(planned);
    Some(())
}

pub(crate) fn of_a_step(step: &mut RawStep, entry: Entry, lent: &mut Lent) -> Result<(), Error> {
    let lent = lend(lent);
    let came = match entry {
        Entry::Verify(_) => step.verify(lent).into_result().map(drop),
        Entry::Witness(_) if !step.has_witness() => Ok(()),
        Entry::Witness(_) => step.witness(lent).into_result().map(drop),
        Entry::Undo(_) => step.undo(lent).into_result(),
        _ => step.apply(lent).into_result().map(drop),
    };
    came.map_err(Error::from)
}
