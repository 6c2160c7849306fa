//! The launcher's side of a helper: starting, asking, ending.

use super::inside;
use super::talk::{Answer, Reply, Request};
use crate::error::{Kind, Trouble};
use crate::launch::Options;
use crate::message::encode;
use crate::palisade::Palisade;
use crate::running::Running;
use crate::workload::Workload;
use palisade_abi::{Error, ErrorKind};
use palisade_model::report::Ended;
use palisade_sys::channel::{Channel, MAX_MESSAGE};
use palisade_sys::event::{PollItem, poll};
use palisade_sys::{fd, guard, process};
use std::cell::RefCell;
use std::fs::File;
use std::io::{Read as _, Seek as _};
use std::os::fd::{AsFd as _, AsRawFd as _, OwnedFd};
use std::time::Duration;

/// How long one entry may take.
const LIMIT: Duration = Duration::from_secs(10);

/// What to do about a plugin that fails in a process of its own.
const HELP: &str = "report it to the plugin's author, or take it out of the policy";

/// The policy that it is launched under.
const POLICY: &str = "plugin-host";

/// Where that policy shows the program.
const PROGRAM: &str = "/palisade";

/// How long a helper that closed the channel may take to end.
const LAST: Duration = Duration::from_secs(1);

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
    /// What must not run in the launcher for it.
    pub(crate) strangers: &'a [&'a str],
}

/// A process that a plugin runs in. It ends with this, and with the launcher.
#[derive(Debug)]
pub(crate) struct Helper {
    channel: Channel,
    notice: OwnedFd,
    running: RefCell<Option<Running>>,
    /// The process that started it: a copy of that does not end it.
    owner: i32,
    /// Why it is not asked any more.
    over: RefCell<Option<Error>>,
}

impl Start<'_> {
    /// Starts the helper, in which nothing of the plugin has run yet.
    ///
    /// # Errors
    /// Its policy, or that this host cannot give what that asks for.
    pub(super) fn helper(&self, palisade: &mut Palisade) -> Result<Helper, Trouble> {
        let unable = |e: palisade_sys::Error| Trouble::call("a process for the plugin could not be made", &e);
        let (ours, theirs) = Channel::pair().map_err(unable)?;
        let (notice, tells) = fd::pipe().map_err(unable)?;
        if palisade.places.host_program.is_none() {
            return Err(Trouble::new(Kind::Host, "no program is known that opens plugins in processes of their own")
                .row("help", "a program around the library names palisade's: Places::host_program"));
        }
        // Whatever the view shows, and whatever becomes of the file meanwhile.
        let library = self.copy()?;
        let given = [theirs.as_fd(), tells.as_fd(), library.as_fd()];
        given.iter().try_for_each(fd::clear_cloexec).map_err(unable)?;
        let [theirs, tells, library] = given.map(|fd| fd.as_raw_fd().to_string());
        let keep = format!("process.keep_fds=[{theirs}, {tells}, {library}]");
        let policy = palisade.policy(POLICY)?.set(keep);
        let words = [PROGRAM.to_owned(), inside::WORD.to_owned(), theirs, tells, library];
        let launched = palisade
            .planned(&policy, Workload::command(words), self.strangers)
            .and_then(|plan| plan.launch(Options::default()).map_err(|failed| failed.trouble));
        let running = launched.map_err(|trouble| {
            trouble.row("for", format!("a process for the plugin `{}`, under the policy `{POLICY}`", self.plugin))
        })?;
        let (running, owner) = (RefCell::new(Some(running)), process::getpid());
        Ok(Helper { channel: ours, notice, running, owner, over: RefCell::new(None) })
    }

    /// The plugin's file as it is now, for good.
    fn copy(&self) -> Result<OwnedFd, Trouble> {
        let unread = |error: std::io::Error| {
            Trouble::new(Kind::Plugin, "its file could not be read").of(self.plugin).row("call", error.to_string())
        };
        let mut file = File::from(self.file.try_clone().map_err(unread)?);
        let mut bytes = Vec::new();
        // It may have been read to its end.
        file.rewind().and_then(|()| file.read_to_end(&mut bytes)).map_err(unread)?;
        fd::memfd_sealed(self.plugin, &bytes)
            .map_err(|e| Trouble::call("its file could not be copied", &e).of(self.plugin))
    }
}

/// Whether the policy of the process that a plugin is to run in goes without any such plugin.
///
/// # Errors
/// It names one that is not to run in the launcher, or has one hosted itself, of which there would be no end.
pub(crate) fn none_needed(named: Option<(&str, String)>, hosts: Option<(&str, String)>) -> Result<(), Trouble> {
    if let Some((name, line)) = named {
        return Err(Trouble::new(
            Kind::Policy,
            format!("`{name}` cannot run in a process of its own: it confines those"),
        )
        .row("policy", line)
        .row("help", "a plugin that is not palisade's needs a name of its own"));
    }
    let Some((name, line)) = hosts else { return Ok(()) };
    Err(Trouble::new(Kind::Policy, format!("`{POLICY}` cannot have a plugin hosted itself: `{name}`"))
        .row("policy", line)
        .row("help", format!("take `hosts` out of the policy `{POLICY}`")))
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
            return Err(broken(format!("`{entry}` ended its process: {}", self.ended())));
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

    /// Ends it at once, with everything that its launch made.
    fn end(&self) {
        drop(self.running.borrow_mut().take());
    }

    /// How one ended that does not answer any more.
    fn ended(&self) -> String {
        let Some(running) = self.running.borrow_mut().take() else { return "it is gone".to_owned() };
        match running.wait_at_most(LAST).map(|report| report.workload.ended) {
            Ok(Ended::Exited { code }) => format!("it exited with status {code}"),
            Ok(Ended::Signaled { name, .. }) => name,
            _ => "it was ended".to_owned(),
        }
    }
}

impl Drop for Helper {
    fn drop(&mut self) {
        let running = self.running.borrow_mut().take();
        if self.owner != process::getpid() {
            std::mem::forget(running);
        }
    }
}
