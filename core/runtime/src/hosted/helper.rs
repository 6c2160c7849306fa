//! The launcher's side of a helper: starting, asking, ending.

use super::inside::{self, Given};
use super::talk::{Answer, Reply, Request};
use crate::error::Trouble;
use crate::message::encode;
use palisade_abi::{Error, ErrorKind};
use palisade_sys::channel::{Channel, MAX_MESSAGE};
use palisade_sys::event::{PollItem, poll};
use palisade_sys::process::{self, Cloned, Ended, Target};
use palisade_sys::{fd, guard, signal};
use std::cell::RefCell;
use std::os::fd::{AsFd as _, AsRawFd as _, OwnedFd};
use std::time::Duration;

/// How long one entry may take.
const LIMIT: Duration = Duration::from_secs(10);

/// What to do about a plugin that fails in a process of its own.
const HELP: &str = "report it to the plugin's author, or take it out of the policy";

/// What a helper is started with.
#[derive(Debug)]
pub(crate) struct Start<'a> {
    pub(crate) plugin: &'a str,
    /// The plugin's file, which was checked.
    pub(crate) file: &'a OwnedFd,
    /// Whether the layout of this very file was checked before.
    pub(crate) layout_known: bool,
    /// The reference section of its manifest.
    pub(crate) reference: &'a str,
}

/// A process that a plugin runs in. It ends with this, and with the launcher.
#[derive(Debug)]
pub(crate) struct Helper {
    channel: Channel,
    notice: OwnedFd,
    pidfd: OwnedFd,
    /// The process that started it: a copy of that does not end it.
    owner: i32,
    /// Why it is not asked any more.
    over: RefCell<Option<Error>>,
}

impl Start<'_> {
    /// Starts the helper. The plugin's file is opened in it; whether that went well is the first answer.
    ///
    /// # Errors
    /// A process could not be made; from a process with other threads it is not.
    pub(super) fn helper(&self) -> Result<Helper, Trouble> {
        let unable =
            |e: palisade_sys::Error| Trouble::call("a process for the plugin could not be made", &e).of(self.plugin);
        let (ours, theirs) = Channel::pair().map_err(unable)?;
        let (notice, tells) = fd::pipe().map_err(unable)?;
        let owner = process::getpid();
        match process::fork().map_err(unable)? {
            Cloned::Parent { pidfd, .. } => {
                Ok(Helper { channel: ours, notice, pidfd, owner, over: RefCell::new(None) })
            }
            Cloned::Child => {
                let Self { file, layout_known, reference, .. } = *self;
                inside::run(Given { channel: theirs, notice: tells, file, layout_known, reference, launcher: owner })
            }
        }
    }
}

impl Helper {
    /// Asks, and waits for the answer. A helper that ends, hangs or says what is no answer is asked no more.
    ///
    /// # Errors
    /// What the plugin says, or what became of it.
    pub(super) fn ask(&self, entry: &str, request: &Request) -> Result<Reply, Error> {
        if let Some(error) = &*self.over.borrow() {
            return Err(error.clone());
        }
        let message = encode(request);
        if message.len() > MAX_MESSAGE {
            let why = format!("its section and what it is told are {} bytes long", message.len());
            return Err(Error::policy(why).help(format!("a plugin in a process of its own can be told {MAX_MESSAGE}")));
        }
        // It has a time limit of its own, which ends it and not this process.
        let heard = guard::paused(|| self.exchange(entry, &message));
        let answer = heard.inspect_err(|error| *self.over.borrow_mut() = Some(error.clone()))?;
        answer.map_err(|lapse| Error::from(palisade_abi::seam::Failure::from(lapse)))
    }

    fn exchange(&self, entry: &str, message: &[u8]) -> Result<Answer, Error> {
        let broken = |why: String| Error::new(ErrorKind::Plugin, why).help(HELP);
        // Where it is gone, the end of the channel tells so.
        self.channel.send(message).ok();
        let mut items = [PollItem::read(self.channel.as_fd())];
        let ready = poll(&mut items, Some(LIMIT)).map_err(Error::from)?;
        if ready == 0 {
            self.end();
            let why = format!("`{entry}` took longer than {} s, and its process was ended", LIMIT.as_secs());
            return Err(broken(why));
        }
        let mut bytes = Vec::new();
        let heard = self.channel.recv(&mut bytes);
        if !matches!(heard, Ok(Some(_))) {
            return Err(broken(format!("`{entry}` ended its process: {}", self.end())));
        }
        postcard::from_bytes(&bytes).map_err(|_error| {
            self.end();
            broken(format!("`{entry}` answered with something that is no answer, and its process was ended"))
        })
    }

    /// Becomes readable when something that the plugin watches can be read, or the helper is gone.
    pub(super) fn notice(&self) -> i32 {
        self.notice.as_raw_fd()
    }

    /// Takes what stands in the pipe.
    ///
    /// # Errors
    /// It cannot be read.
    pub(super) fn heed(&self) -> Result<(), Error> {
        fd::read_some(&self.notice, 4096).map(drop).map_err(Error::from)
    }

    /// Ends it, if it lives, and says how it ended.
    fn end(&self) -> String {
        // ESRCH: it has ended, and was waited for.
        process::pidfd_send_signal(&self.pidfd, signal::SIGKILL).ok();
        match process::waitid(Target::PidFd(self.pidfd.as_fd()), false).ok().flatten().map(|status| status.ended) {
            Some(Ended::Exited(code)) => format!("it exited with status {code}"),
            Some(Ended::Signaled { signal, .. }) => signal::show(signal),
            None => "it is gone".to_owned(),
        }
    }
}

impl Drop for Helper {
    fn drop(&mut self) {
        if self.owner == process::getpid() {
            self.end();
        }
    }
}
