//! The launch: Prepare, the birth of the process, Attach, the hand-shake, and the release. Every way out that is
//! not a running workload kills what was born and undoes what was done.

use crate::birth::Born;
use crate::entries::Entries;
use crate::error::{Kind, Trouble};
use crate::message::{Came, Lapse, Record, order};
use crate::names;
use crate::plan::{Plan, Planned};
use crate::pump::Pump;
use crate::running::Running;
use crate::samples::Sampling;
use crate::step::abi_context::Lent;
use crate::step::{apply, of_stage};
use crate::terminal::Proxy;
use palisade_abi::Error;
use palisade_abi::wrap::lend;
use palisade_model::outcome::Outcome;
use palisade_model::plan::{Demand, StepInfo};
use palisade_model::report::Report;
use palisade_model::stage::Stage;
use palisade_sys::signal;
use std::collections::BTreeMap;
use std::fmt;
use std::time::{Duration, Instant};

/// Told of each step as it is done.
pub type Observer = Box<dyn FnMut(&StepInfo, &Outcome, Duration)>;

/// How a plan is launched.
#[derive(Default)]
pub struct Options {
    /// Whether signals that reach this process go on to the workload. A program that runs nothing else wants
    /// it; one that has its own use for signals does not. With `terminal: New` the caller's terminal is raw meanwhile:
    /// without this, a signal that ends this process leaves it so, and a new size of the window is not seen.
    pub forward_signals: bool,
    /// A name for others to find the run by, while it goes on: [`crate::Palisade::running`].
    pub name: Option<String>,
    /// Told of each step as it is done; those of the child when it is sealed.
    pub observer: Option<Observer>,
    /// How long the child may take from its birth to "sealed"; two minutes where nothing is said. A host under heavy
    /// load is slow, a plugin that hangs never ends.
    pub setup_limit: Option<Duration>,
    /// What is told, and kept for the report, of what the workload uses while it runs.
    pub sampling: Sampling,
}

impl fmt::Debug for Options {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Options").field("forward_signals", &self.forward_signals).finish_non_exhaustive()
    }
}

/// A launch in the making, and afterwards its memory.
pub(crate) struct Launch {
    pub(crate) plan: Plan,
    pub(crate) lent: Lent,
    pub(crate) options: Options,
    /// What became of each step so far, by its index.
    pub(crate) records: BTreeMap<usize, Record>,
    /// What verification saw, by step.
    pub(crate) seen: BTreeMap<usize, String>,
    /// Steps that ran on the host, in the order in which they ran.
    applied: Vec<usize>,
    /// What could not be undone or finished.
    pub(crate) failures: Vec<String>,
    pub(crate) born: Option<Born>,
    pub(crate) pump: Option<Pump>,
    pub(crate) terminal: Option<Proxy>,
    pub(crate) mask: signal::SigSet,
    pub(crate) signals: Option<signal::SignalFd>,
    /// Signals that came during set-up, for the workload.
    pub(crate) waiting: Vec<i32>,
    pub(crate) times: BTreeMap<String, u64>,
    begun: Instant,
    /// The name of the run, until it is over.
    name: Option<names::Held>,
    over: bool,
}

/// A launch that did not come to a workload, with its report.
#[derive(Debug)]
pub struct Failed {
    /// Why.
    pub trouble: Trouble,
    /// What had been done by then, all of it undone.
    pub report: Box<Report>,
}

impl fmt::Display for Failed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.trouble.fmt(f)
    }
}

impl std::error::Error for Failed {}

impl fmt::Debug for Launch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Launch").field("plan", &self.plan).field("pid", &self.lent.pid).finish_non_exhaustive()
    }
}

impl Plan {
    /// Launches the plan: when this returns well, every step is done and verified, and the workload runs.
    ///
    /// # Errors
    /// [`Failed`], with everything undone and nothing left behind. It refuses to launch from a process with
    /// other threads: one of them could hold a lock that the child would wait for.
    pub fn launch(self, options: Options) -> Result<Running, Failed> {
        let mut launch = Launch::new(self, options);
        match launch.start() {
            Ok(()) => Ok(Running::new(launch)),
            Err(trouble) => {
                launch.end();
                Err(launch.failed(trouble))
            }
        }
    }
}

impl Launch {
    fn new(plan: Plan, options: Options) -> Self {
        Self {
            plan,
            lent: Lent::default(),
            options,
            records: BTreeMap::new(),
            seen: BTreeMap::new(),
            applied: Vec::new(),
            failures: Vec::new(),
            born: None,
            pump: None,
            terminal: None,
            mask: signal::SigSet::empty(),
            signals: None,
            waiting: Vec::new(),
            times: BTreeMap::new(),
            begun: Instant::now(),
            name: None,
            over: true,
        }
    }

    fn start(&mut self) -> Result<(), Trouble> {
        if self.plan.process.argv.is_empty() {
            return Err(Trouble::new(Kind::Usage, "there is no command to run")
                .row("help", "give one after the options, or process.argv in the policy"));
        }
        self.options.name.as_deref().map_or(Ok(()), names::free)?;
        // Signals wait until there is somebody to pass them to, or until everything is undone.
        self.mask = signal::block_all().map_err(|e| Trouble::call("signals could not be blocked", &e))?;
        self.over = false;
        if self.options.forward_signals {
            let made = signal::SignalFd::new(signal::FORWARDED);
            self.signals = Some(made.map_err(|e| Trouble::call("signals could not be watched", &e))?);
        }
        self.host_stage(Stage::Prepare, |_| true)?;
        self.mark("prepare");
        self.give_birth()?;
        self.mark("clone");
        self.host_stage(Stage::Attach, |step| !step.info.concurrent)?;
        self.say(order::BUILD)?;
        self.host_stage(Stage::Attach, |step| step.info.concurrent)?;
        self.mark("attach");
        self.say(order::FORK)?;
        self.meet()?;
        // Nothing touches what was built any more, so it is read back while the child drops and seals.
        let last = |stage| matches!(stage, Stage::Drop | Stage::Seal);
        let built = self.verify(|stage| !last(stage));
        // Of a child that has given up meanwhile nothing can be read; what it says itself is why.
        self.sealed()?;
        built?;
        self.mark("child");
        self.verify(last)?;
        self.mark("verify");
        self.host_stage(Stage::Watch, |_| true)?;
        if let (Some(name), Some(born)) = (&self.options.name, &self.born) {
            self.name = Some(names::hold(name, born.pid, &self.plan.policy)?);
        }
        if let Some(terminal) = &mut self.terminal {
            // What was said so far was said in the caller's own mode.
            terminal.begin().map_err(|e| Trouble::call("the terminal could not be made raw", &e))?;
        }
        self.say(order::RELEASE)?;
        self.mark("release");
        Ok(())
    }

    pub(crate) fn failed(&self, trouble: Trouble) -> Failed {
        let report = Box::new(crate::report::failed(self, &trouble));
        Failed { trouble, report }
    }

    /// Notes the time since the launch began.
    pub(crate) fn mark(&mut self, phase: &str) {
        let micros = u64::try_from(self.begun.elapsed().as_micros()).unwrap_or(u64::MAX);
        self.times.insert(format!("{phase}_us"), micros);
    }

    pub(crate) fn host_stage(&mut self, stage: Stage, which: impl Fn(&Planned) -> bool) -> Result<(), Trouble> {
        let steps = of_stage(&self.plan, stage, which);
        if steps.is_empty() {
            return Ok(());
        }
        let entries = Entries::begin()?;
        for index in steps {
            let Some(step) = self.plan.steps.get_mut(index) else { continue };
            self.applied.push(index);
            let lent = &mut self.lent;
            let name = step.info.plugin.clone();
            let record = entries.call(&name, "apply", || apply(index, step, lent));
            self.keep(record)?;
        }
        Ok(())
    }

    /// Remembers what became of a step, tells the observer, and makes a failure an error.
    pub(crate) fn keep(&mut self, record: Record) -> Result<(), Trouble> {
        let index = record.step as usize;
        let Some(step) = self.plan.steps.get(index) else {
            return Err(Trouble::new(Kind::Setup, format!("the child speaks of a step {index}, which there is not")));
        };
        if let Some(observer) = &mut self.options.observer {
            observer(&step.info, &record.came.outcome(""), Duration::from_micros(u64::from(record.micros)));
        }
        let result = match &record.came {
            Came::Failed(lapse) => Err(self.step_trouble(index, lapse.clone())),
            _ => Ok(()),
        };
        self.records.insert(index, record);
        result
    }

    pub(crate) fn step_trouble(&self, index: usize, lapse: Lapse) -> Trouble {
        let error = Error::from(palisade_abi::seam::Failure::from(lapse));
        let Some(info) = self.plan.steps.get(index).map(|s| &s.info) else {
            return Trouble::new(Kind::Setup, error.message);
        };
        let message = if error.message.is_empty() { format!("this failed: {}", info.words) } else { error.message };
        let error = Error { message, ..error };
        let mut trouble = Trouble::from_plugin(&info.plugin, error, info.origin, &self.plan.sources)
            .row("step", format!("{} ({})", info.words, info.stage))
            .row("host", format!("Linux {}", self.plan.facts.release));
        trouble.stage = Some(info.stage);
        trouble
    }

    /// Reads back what the kernel believes, step by step, before the workload is released.
    fn verify(&mut self, which: impl Fn(Stage) -> bool) -> Result<(), Trouble> {
        let entries = Entries::begin()?;
        for index in 0..self.plan.steps.len() {
            let Some(step) = self.plan.steps.get(index).filter(|step| which(step.info.stage)) else { continue };
            let done = match self.records.get(&index) {
                Some(record) => matches!(record.came, Came::Done(_)),
                // A step of the birth itself has nothing to apply.
                None => step.info.stage == Stage::Clone && step.info.demand != Demand::Off,
            };
            if !done {
                continue;
            }
            let name = step.info.plugin.clone();
            let lent = &mut self.lent;
            match entries.call(&name, "verify", || step.object.verify(lend(lent))).into_result() {
                Ok(evidence) => {
                    let text = evidence.into_option().unwrap_or_default().into_string();
                    self.saw(index, text);
                }
                Err(failure) => self.not_in_force(index, failure.into())?,
            }
        }
        Ok(())
    }

    /// What the host read back. A step of the birth has no record: this is the first that is known of it.
    fn saw(&mut self, index: usize, text: String) {
        if let (None, Some(step), Some(observer)) =
            (self.records.get(&index), self.plan.steps.get(index), &mut self.options.observer)
        {
            observer(&step.info, &Outcome::Enforced(text.clone()), Duration::ZERO);
        }
        if !text.is_empty() {
            self.seen.insert(index, text);
        }
    }

    /// The kernel believes something else than the step said.
    fn not_in_force(&mut self, index: usize, lapse: Lapse) -> Result<(), Trouble> {
        let degrade = self.plan.steps.get(index).is_some_and(|s| s.info.demand == Demand::Degrade);
        if !degrade {
            return Err(self.step_trouble(index, lapse).row("phase", "verification"));
        }
        let step = u32::try_from(index).unwrap_or(u32::MAX);
        self.keep(Record { step, micros: 0, came: Came::Degraded(lapse.line()) })
    }

    /// Kills what was born, then undoes, in reverse order, going on past failures. Runs once.
    pub(crate) fn end(&mut self) {
        if std::mem::replace(&mut self.over, true) {
            return;
        }
        self.kill_all();
        // Before anything is said, and before a signal that waited can end us.
        self.terminal = None;
        self.name = None;
        self.undo();
        // The mask that the caller had; a signal that waited is delivered now.
        if let Err(error) = signal::set_mask(&self.mask) {
            self.failures.push(error.to_string());
        }
    }
}

impl Launch {
    fn undo(&mut self) {
        let applied = std::mem::take(&mut self.applied);
        if applied.is_empty() {
            return;
        }
        // Without its guards undoing is still better than not undoing.
        let entries = Entries::begin().map_err(|trouble| self.failures.push(trouble.headline())).ok();
        for index in applied.into_iter().rev() {
            let Some(step) = self.plan.steps.get_mut(index) else { continue };
            if step.info.demand == Demand::Off {
                continue;
            }
            let lent = &mut self.lent;
            let name = step.info.plugin.clone();
            let mut undo = || step.object.undo(lend(lent));
            let undone = match &entries {
                Some(entries) => entries.call(&name, "undo", undo),
                None => undo(),
            };
            if let Err(failure) = undone.into_result() {
                let line = Lapse::from(failure).line();
                self.failures.push(format!("{name}: undoing \"{}\": {line}", step.info.words));
            }
        }
    }
}

impl Drop for Launch {
    /// For the ways out that nobody wrote: a panic in the launcher.
    fn drop(&mut self) {
        self.end();
    }
}
