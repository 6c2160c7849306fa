//! What the author of a plugin implements and uses.

use crate::error::Error;
use crate::facts::Host;
use crate::ready::Ready;
use crate::seam::RawContext;
use crate::told::{Act, Attempt, Change, Denial, Finding, Finish, Left};
use palisade_model::diag::Origin;
use palisade_model::layer::Layered;
use palisade_model::plan::Demand;
use palisade_model::stage::Stage;
use std::fmt;
use std::os::fd::{AsRawFd as _, BorrowedFd, OwnedFd};

/// A plugin: how it sees the host, and how its section of a policy becomes an [`Isolator`].
pub trait Plugin: 'static {
    /// The plugin's section in a policy, made with [`crate::layered!`].
    type Config: Layered + serde::de::DeserializeOwned;

    /// Says what this host offers of what the plugin needs. `palisade doctor` prints it.
    fn probe(host: &Host) -> Vec<Finding>;

    /// Checks the merged configuration and makes the isolator for one launch. Touches nothing.
    ///
    /// # Errors
    /// A policy error where the configuration makes no sense.
    fn configure(config: Self::Config, host: &Host) -> Result<Box<dyn Isolator>, Error>;

    /// Finds what launchers that were killed left on this host, and removes it where `remove` says so. What a run
    /// that goes on needs must not be among it, whoever looks, and from whichever namespace. `palisade gc` asks.
    ///
    /// # Errors
    /// The host could not be looked at. What could not be removed is no error, but told with its reason.
    fn collect(_host: &Host, _remove: bool) -> Result<Vec<Left>, Error> {
        Ok(Vec::new())
    }
}

/// A plugin configured for one launch.
pub trait Isolator {
    /// Makes the steps. Touches nothing: a plan can be printed without running anything.
    ///
    /// # Errors
    /// A host error where this host cannot give what the policy asks for.
    fn plan(&self, host: &Host) -> Result<Vec<Step>, Error>;

    /// Names fds to be watched while the workload runs. Asked again after each call of `ready`.
    fn watch(&self) -> Vec<i32> {
        Vec::new()
    }

    /// Deals with one of those fds, which is readable now.
    ///
    /// # Errors
    /// Ends the launch: a watcher that fails no longer watches.
    fn ready(&mut self, _fd: i32) -> Result<(), Error> {
        Ok(())
    }

    /// Says what runs that are over changed in trees of the host, where that was kept beside them. Nothing is launched.
    /// `palisade changes` asks. Since seam 1.1.
    ///
    /// # Errors
    /// The host could not be looked at.
    fn changes(&self) -> Result<Vec<Change>, Error> {
        Ok(Vec::new())
    }

    /// Gives commands that try what it claims to stop, as it is configured, for `palisade probe`. Since seam 1.1.
    ///
    /// # Errors
    /// They cannot be named; nothing is probed then.
    fn attempts(&self) -> Result<Vec<Attempt>, Error> {
        Ok(Vec::new())
    }

    /// Says what was used so far, while the workload runs: counters, and what is only true now. Asked a few times a
    /// second at most, and only where somebody wants to know.
    ///
    /// # Errors
    /// Reported once; the workload goes on, and this isolator is not asked again.
    fn sample(&mut self) -> Result<Vec<(String, u64)>, Error> {
        Ok(Vec::new())
    }

    /// Takes a descriptor that one of its steps handed over with [`Context::hand_over`]. Since seam 1.1.
    ///
    /// # Errors
    /// Ends the launch.
    fn take(&mut self, _fd: OwnedFd) -> Result<(), Error> {
        Ok(())
    }

    /// Tells what the workload has asked for since `ready` was called, where somebody wants to know why things are
    /// denied ([`Host::explains`]). What it asked for waits until [`Isolator::settle`]. Since seam 1.1.
    ///
    /// # Errors
    /// As `ready`.
    fn acts(&mut self) -> Result<Vec<Act>, Error> {
        Ok(Vec::new())
    }

    /// Says why it denies something, where it does, as far as it can tell: also of what another isolator saw. The host's
    /// rights are greater than the workload's, so nothing may be opened or changed by name here that `act` names, other
    /// than to look at it. Since seam 1.1.
    fn explain(&self, _act: &Act) -> Option<Denial> {
        None
    }

    /// Lets go on what `acts` told: what the policy allows is done, what it denies is answered. Since seam 1.1.
    ///
    /// # Errors
    /// As `ready`.
    fn settle(&mut self) -> Result<(), Error> {
        Ok(())
    }

    /// Says what was used and which limits were hit, after the workload ended and before anything is undone.
    ///
    /// # Errors
    /// Reported; the undoing goes on.
    fn finish(&mut self) -> Result<Finish, Error> {
        Ok(Finish::default())
    }
}

/// The doing, checking and undoing of a [`Step`].
pub trait Action {
    /// Does it.
    ///
    /// # Errors
    /// Ends the launch, unless the policy says `Degrade`.
    fn apply(&mut self, context: &mut Context<'_>) -> Result<Evidence, Error>;

    /// Reads back from the host what the kernel believes, before the workload is released. `None` where there
    /// is nothing that the host can read.
    ///
    /// # Errors
    /// The kernel believes something else than the policy says: ends the launch.
    fn verify(&self, _context: &Context<'_>) -> Result<Option<Evidence>, Error> {
        Ok(None)
    }

    /// The same from inside the process, before Seal, for what an unprivileged host may not read. Asked only of
    /// a step made with [`Step::witnessed`].
    ///
    /// # Errors
    /// As `verify`.
    fn witness(&self, _context: &Context<'_>) -> Result<Evidence, Error> {
        Ok(Evidence::default())
    }

    /// Takes it back. Called once for each step that was applied (and for one whose `apply` failed half-way),
    /// in reverse order, on the host, for Prepare and Attach only; what lives in the child ends with it.
    ///
    /// # Errors
    /// Reported; the undoing goes on.
    fn undo(&mut self, _context: &mut Context<'_>) -> Result<(), Error> {
        Ok(())
    }

    /// What exactly it will put in force, for `palisade plan --details`: texts of as many lines as it takes, each under
    /// a name of one word. Asked only where somebody wants to see it, so it may take its time. Since seam 1.1.
    fn details(&self) -> Vec<(String, String)> {
        Vec::new()
    }
}

/// What shows that a step is in force, in words for the report; empty where there is nothing to add.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Evidence(pub String);

impl<T: Into<String>> From<T> for Evidence {
    fn from(text: T) -> Self {
        Self(text.into())
    }
}

/// One thing to do.
pub struct Step {
    pub(crate) stage: Stage,
    pub(crate) words: String,
    pub(crate) why: String,
    pub(crate) origin: Option<Origin>,
    pub(crate) demand: Demand,
    pub(crate) after: Vec<String>,
    pub(crate) clone_flags: u64,
    pub(crate) concurrent: bool,
    pub(crate) witnessed: bool,
    pub(crate) ready: Option<String>,
    pub(crate) action: Box<dyn Action>,
}

impl fmt::Debug for Step {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.stage, self.words)
    }
}

impl Step {
    /// Makes a step: its stage, one line in words, and what it does.
    pub fn new(stage: Stage, words: impl Into<String>, action: impl Action + 'static) -> Self {
        Self {
            stage,
            words: words.into(),
            why: String::new(),
            origin: None,
            demand: Demand::Require,
            after: Vec::new(),
            clone_flags: 0,
            concurrent: false,
            witnessed: false,
            ready: None,
            action: Box::new(action),
        }
    }

    /// Makes a step from a closure, for what needs no check from the host and no undoing.
    pub fn run<F, E>(stage: Stage, words: impl Into<String>, apply: F) -> Self
    where
        F: FnMut(&mut Context<'_>) -> Result<E, Error> + 'static,
        E: Into<Evidence> + 'static,
    {
        Self::new(stage, words, FromFn(apply))
    }

    /// Makes a step from data: palisade itself does it, reads it back and undoes it. Since seam 1.1; a palisade that is
    /// older refuses it.
    pub fn ready(stage: Stage, words: impl Into<String>, ready: Ready) -> Self {
        let mut step = Self::new(stage, words, Unknown);
        step.ready = Some(ready.to_text());
        step
    }

    /// Asks for `CLONE_NEW*` flags when the process is created.
    pub fn at_clone(flags: u64, words: impl Into<String>, action: impl Action + 'static) -> Self {
        let mut step = Self::new(Stage::Clone, words, action);
        step.clone_flags = flags;
        step
    }

    /// Names the policy line it comes from.
    #[must_use]
    pub fn origin(mut self, origin: Option<Origin>) -> Self {
        self.origin = origin;
        self
    }

    /// Says why it is done, for `palisade plan`.
    #[must_use]
    pub fn why(mut self, why: impl Into<String>) -> Self {
        self.why = why.into();
        self
    }

    /// Says what becomes of the launch when the step fails.
    #[must_use]
    pub fn demand(mut self, demand: Demand) -> Self {
        self.demand = demand;
        self
    }

    /// Puts it behind the steps that another plugin has in the same stage, if that plugin is in the policy.
    #[must_use]
    pub fn after(mut self, plugin: impl Into<String>) -> Self {
        self.after.push(plugin.into());
        self
    }

    /// Lets an Attach step run while the child builds; it is done before anything of the workload exists.
    #[must_use]
    pub fn concurrent(mut self) -> Self {
        self.concurrent = true;
        self
    }

    /// Has `witness` asked in the child, before Seal.
    #[must_use]
    pub fn witnessed(mut self, yes: bool) -> Self {
        self.witnessed = yes;
        self
    }
}

struct FromFn<F>(F);

impl<F, E> Action for FromFn<F>
where
    F: FnMut(&mut Context<'_>) -> Result<E, Error>,
    E: Into<Evidence>,
{
    fn apply(&mut self, context: &mut Context<'_>) -> Result<Evidence, Error> {
        (self.0)(context).map(Into::into)
    }
}

/// Stands behind a ready-made step, for a palisade that does not ask for its text.
struct Unknown;

impl Unknown {
    fn refuse<T>() -> Result<T, Error> {
        Err(Error::host("this palisade knows no ready-made steps").help("use a palisade of seam 1.1 or newer"))
    }
}

impl Action for Unknown {
    fn apply(&mut self, _context: &mut Context<'_>) -> Result<Evidence, Error> {
        Self::refuse()
    }

    /// A step of stage Clone is only ever asked this.
    fn verify(&self, _context: &Context<'_>) -> Result<Option<Evidence>, Error> {
        Self::refuse()
    }
}

/// What palisade lends to a step while it runs.
pub struct Context<'a>(pub(crate) RawContext<'a>);

impl fmt::Debug for Context<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Context(pid {:?})", self.number("pid"))
    }
}

impl Context<'_> {
    /// Gives a number by name, if palisade has it now.
    #[must_use]
    pub fn number(&self, name: &str) -> Option<i64> {
        self.0.number(name.into()).into_option()
    }

    fn pid_named(&self, name: &str) -> Result<i32, Error> {
        self.number(name)
            .and_then(|n| i32::try_from(n).ok())
            .ok_or_else(|| Error::new(crate::ErrorKind::Plugin, format!("no `{name}` at this stage")))
    }

    /// The process that is being set up, as the host numbers it. From Attach on. While steps are verified this
    /// is the workload's own process; before that it is the process that was cloned.
    ///
    /// # Errors
    /// There is none yet.
    pub fn pid(&self) -> Result<i32, Error> {
        self.pid_named("pid")
    }

    /// The process that was cloned: palisade's init where there is one, else the workload's.
    ///
    /// # Errors
    /// There is none yet.
    pub fn init_pid(&self) -> Result<i32, Error> {
        self.pid_named("init_pid")
    }

    /// Offers an open cgroup v2 directory for the process to be born in. Prepare only; the fd must stay open.
    pub fn offer_cgroup(&mut self, fd: i32) {
        self.0.offer_cgroup(fd);
    }

    /// Hands a descriptor over to the isolator's [`Isolator::take`] on the host. Drop and Seal only; it must stay open
    /// until the workload is executed. Since seam 1.1.
    pub fn hand_over(&mut self, fd: BorrowedFd<'_>) {
        self.0.hand_over(fd.as_raw_fd());
    }
}
