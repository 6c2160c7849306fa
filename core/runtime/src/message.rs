//! What host and child say to each other over their channel.

use crate::error::{Kind, Trouble};
use palisade_model::stage::Stage;
use palisade_sys::hints::lookup_raw;
use palisade_sys::process::{Ended, WaitStatus};
use serde::{Deserialize, Serialize};

/// Host to child: one byte each.
pub(crate) mod order {
    /// The host has done its Attach steps that come before Build.
    pub(crate) const BUILD: u8 = b'b';
    /// All Attach steps are done; the workload's process may exist.
    pub(crate) const FORK: u8 = b'f';
    /// Everything is verified: execve.
    pub(crate) const RELEASE: u8 = b'r';
}

/// An error of a step in a form that can be sent.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Lapse {
    pub(crate) kind: u8,
    pub(crate) message: String,
    pub(crate) call: String,
    pub(crate) errno: i32,
    pub(crate) help: String,
    pub(crate) origin: Option<(u32, u32, u32)>,
}

/// What became of one step.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) enum Came {
    /// It was done; the evidence may be empty.
    Done(String),
    /// It could not be done, and the policy says to go on.
    Degraded(String),
    /// The policy says not to try.
    Off,
    /// It could not be done.
    Failed(Lapse),
}

/// One step's record: its index in the plan, its time in microseconds, and what became of it.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Record {
    pub(crate) step: u32,
    pub(crate) micros: u32,
    pub(crate) came: Came,
}

/// Why the workload's process could not become the workload, outside any step.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) enum Stop {
    /// The command was not found: its name, and where it was looked for.
    NotFound(String, Vec<String>),
    /// The command cannot be executed: its path, the reason or the call, the errno.
    NotExecutable(String, String, i32),
    /// Something of palisade's own failed: what, the call, the errno.
    Own(String, String, i32),
}

impl Stop {
    pub(crate) fn own(what: &str, error: &palisade_sys::Error) -> Self {
        Self::Own(what.to_owned(), error.to_string(), error.errno())
    }

    pub(crate) fn trouble(self) -> Trouble {
        match self {
            Self::NotFound(name, searched) => {
                let place = if searched.is_empty() { String::new() } else { format!(" in {}", searched.join(":")) };
                Trouble::new(Kind::NotFound, format!("the command `{name}` was not found{place}"))
                    .row("help", "it must exist in the workload's view: see the filesystem section of the policy, and PATH in process.env")
            }
            Self::NotExecutable(path, call, errno) => {
                let hint = lookup_raw(errno, &call).unwrap_or_default();
                Trouble::new(Kind::NotExecutable, format!("{path} could not be executed"))
                    .row("call", call)
                    .row("help", hint)
            }
            Self::Own(what, call, errno) => {
                let hint = lookup_raw(errno, &call).unwrap_or_default();
                Trouble::new(Kind::Setup, what).row("call", call).row("help", hint)
            }
        }
    }
}

/// Child to host.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) enum FromChild {
    /// The child's steps up to here; the last one failed.
    Failed(Vec<Record>),
    /// The steps of Build are done. Said by the process that becomes the workload, which goes on meanwhile.
    Built(Vec<Record>),
    /// The rest of the child's steps are done, and those seen from inside; it waits for its release. With it come the
    /// descriptors that these steps handed over, one for each number.
    Sealed(Vec<Record>, Vec<Record>, Vec<u32>),
    /// It could not go on for another reason.
    Stopped(Vec<Record>, Stop),
}

/// How the workload ended, from palisade's init: over a pipe of its own.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
pub(crate) struct Death {
    /// Exit code, or signal number.
    pub(crate) status: i32,
    /// Whether a signal ended it.
    pub(crate) signaled: bool,
    /// Whether it left a core dump.
    pub(crate) core: bool,
    /// User time in microseconds.
    pub(crate) user_us: u64,
    /// System time in microseconds.
    pub(crate) sys_us: u64,
    /// Largest resident set in KiB.
    pub(crate) max_rss_kib: u64,
}

impl From<WaitStatus> for Death {
    fn from(dead: WaitStatus) -> Self {
        let (status, signaled, core) = match dead.ended {
            Ended::Exited(code) => (code, false, false),
            Ended::Signaled { signal, core } => (signal, true, core),
        };
        let micros = |time: std::time::Duration| u64::try_from(time.as_micros()).unwrap_or(u64::MAX);
        Self {
            status,
            signaled,
            core,
            user_us: micros(dead.usage.user),
            sys_us: micros(dead.usage.system),
            max_rss_kib: dead.usage.max_rss_kib,
        }
    }
}

/// Encodes a message. Only running out of memory could make it fail, and then there is nothing to say.
pub(crate) fn encode<T: Serialize>(message: &T) -> Vec<u8> {
    postcard::to_allocvec(message).unwrap_or_default()
}

/// Decodes a message of which nothing is trusted: it may come from a process that was taken over.
pub(crate) fn decode<'a, T: Deserialize<'a>>(bytes: &'a [u8]) -> Result<T, Trouble> {
    postcard::from_bytes(bytes)
        .map_err(|e| Trouble::new(Kind::Setup, format!("the child sent something that is no message: {e}")))
}

/// What the child is doing, as one number that both sides see: so that a step that ends the process, or never
/// comes back, has a name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Doing {
    /// Something of palisade's own.
    Own,
    /// The step of this index.
    Step(usize),
}

impl Doing {
    pub(crate) fn number(self) -> u32 {
        match self {
            Self::Own => 0,
            Self::Step(index) => u32::try_from(index).map_or(0, |index| index.saturating_add(1)),
        }
    }

    pub(crate) fn of(number: u32) -> Self {
        number.checked_sub(1).map_or(Self::Own, |index| Self::Step(index as usize))
    }
}

/// The stages that run in the child, for messages.
pub(crate) fn in_child(stage: Stage) -> bool {
    stage.runs_in() == palisade_model::stage::Place::Child
}
