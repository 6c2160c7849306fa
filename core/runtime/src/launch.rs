//! The launch: Prepare, the birth of the process, Attach, the hand-shake, and the release. Every way out that is
//! not a running workload kills what was born and undoes what was done.

use crate::child::{self, Child};
use crate::error::{Kind, Trouble};
use crate::message::{Came, FromChild, Record, decode, order};
use crate::plan::{Plan, Planned};
use crate::pump::Pump;
use crate::running::Running;
use crate::step::abi_context::Lent;
use crate::step::{apply, of_stage};
use palisade_abi::wrap::lend;
use palisade_abi::Error;
use palisade_model::outcome::Outcome;
use palisade_model::plan::{Demand, StepInfo};
use palisade_model::stage::Stage;
use palisade_sys::channel::Channel;
use palisade_sys::event::{PollItem, poll};
use palisade_sys::{namespace, process, signal};
use std::collections::BTreeMap;
use std::fmt;
use std::os::fd::{AsFd as _, BorrowedFd, OwnedFd};
use std::time::{Duration, Instant};

/// How long the child may take from its birth to "sealed". A host under heavy load is slow, a plugin that hangs
/// never ends.
const SETUP_LIMIT: Duration = Duration::from_secs(120);

/// Told of each step as it is done.
pub type Observer = Box<dyn FnMut(&StepInfo, &Outcome, Duration)>;

/// How a plan is launched.
#[derive(Default)]
pub struct Options {
    /// Whether signals that reach this process go on to the workload. A program that runs nothing else wants
    /// it; one that has its own use for signals does not.
    pub forward_signals: bool,
    /// Told of each step as it is done; those of the child when it is sealed.
    pub observer: Option<Observer>,
}

impl fmt::Debug for Options {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Options").field("forward_signals", &self.forward_signals).finish_non_exhaustive()
    }
}

/// What was born.
pub(crate) struct Born {
    pub(crate) pidfd: OwnedFd,
    pub(crate) pid: i32,
    pub(crate) channel: Channel,
    /// From palisade's init: how the workload ended.
    pub(crate) death: Option<OwnedFd>,
    /// The workload's own process; the same as `pid` without an init.
    pub(crate) workload: i32,
    /// The children that this process had before.
    before: Vec<i32>,
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
    pub(crate) undo_failures: Vec<String>,
    pub(crate) born: Option<Born>,
    pub(crate) pump: Option<Pump>,
    pub(crate) mask: signal::SigSet,
    pub(crate) signals: Option<signal::SignalFd>,
    pub(crate) times: BTreeMap<String, u64>,
    pub(crate) begun: Instant,
    over: bool,
}

/// A launch that did not come to a workload, with its report.
#[derive(Debug)]
pub struct Failed {
    /// Why.
    pub trouble: Trouble,
    /// What had been done by then, all of it undone.
    pub report: Box<palisade_model::report::Report>,
}

impl Plan {
    /// Launches the plan: when this returns well, every step is done and verified, and the workload runs.
    ///
    /// # Errors
    /// [`Failed`], with everything undone and nothing left behind.
    pub fn launch(self, options: Options) -> Result<Running, Failed> {
        // Signals wait until there is somebody to pass them to, or until everything is undone.
        let mask = match signal::block_all() {
            Ok(mask) => mask,
            Err(error) => return Err(unborn(self, options, &error)),
        };
        let mut launch = Launch::new(self, options, mask);
        match launch.start() {
            Ok(()) => Ok(Running::new(launch)),
            Err(trouble) => {
                launch.end();
                let report = crate::report::failed(&launch, &trouble);
                Err(Failed { trouble, report: Box::new(report) })
            }
        }
    }
}

impl Launch {
    fn new(plan: Plan, options: Options, mask: signal::SigSet) -> Self {
        Self {
            plan,
            lent: Lent::default(),
            options,
            records: BTreeMap::new(),
            seen: BTreeMap::new(),
            applied: Vec::new(),
            undo_failures: Vec::new(),
            born: None,
            pump: None,
            mask,
            signals: None,
            times: BTreeMap::new(),
            begun: Instant::now(),
            over: false,
        }
    }

    fn start(&mut self) -> Result<(), Trouble> {
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
        self.hear()?;
        self.mark("child");
        self.verify()?;
        self.mark("verify");
        self.host_stage(Stage::Watch, |_| true)?;
        self.say(order::RELEASE)
    }

    pub(crate) fn mark(&mut self, phase: &str) {
        let micros = u64::try_from(self.begun.elapsed().as_micros()).unwrap_or(u64::MAX);
        self.times.insert(format!("{phase}_us"), micros);
    }

    fn host_stage(&mut self, stage: Stage, which: impl Fn(&Planned) -> bool) -> Result<(), Trouble> {
        for index in of_stage(&self.plan, stage, which) {
            let Some(step) = self.plan.steps.get_mut(index) else { continue };
            self.applied.push(index);
            let lent = &mut self.lent;
            let name = step.info.plugin.clone();
            let record = crate::plugins::entry(&name, "apply", || apply(index, step, lent));
            self.keep(record)?;
        }
        Ok(())
    }

    /// Remembers what became of a step, tells the observer, and makes a failure an error.
    fn keep(&mut self, record: Record) -> Result<(), Trouble> {
        let index = record.step as usize;
        let Some(step) = self.plan.steps.get(index) else {
            return Err(Trouble::new(Kind::Setup, "the child spoke of a step that is not in the plan"));
        };
        if let Some(observer) = &mut self.options.observer {
            let took = Duration::from_micros(u64::from(record.micros));
            observer(&step.info, &record.came.outcome(""), took);
        }
        let result = match &record.came {
            Came::Failed(lapse) => {
                let error = Error::from(palisade_abi::seam::Failure::from(lapse.clone()));
                Err(self.step_trouble(index, error))
            }
            _ => Ok(()),
        };
        self.records.insert(index, record);
        result
    }

    fn step_trouble(&self, index: usize, error: Error) -> Trouble {
        let Some(info) = self.plan.steps.get(index).map(|s| &s.info) else {
            return Trouble::new(Kind::Setup, error.message);
        };
        Trouble::from_plugin(&info.plugin, error, info.origin, &self.plan.sources)
            .row("step", format!("{} ({})", info.words, info.stage))
            .row("host", format!("Linux {}", self.plan.facts.release))
    }

    fn give_birth(&mut self) -> Result<(), Trouble> {
        let fail = |what: &'static str| move |e: palisade_sys::Error| Trouble::call(what, &e);
        let (ours, theirs) = Channel::pair().map_err(fail("the channel to the child could not be made"))?;
        ours.enable_credentials().map_err(fail("the channel to the child could not be made"))?;
        let flags = self.plan.clone_flags();
        let init = self.plan.process.init.unwrap_or(flags & namespace::CLONE_NEWPID != 0);
        if init && flags & namespace::CLONE_NEWPID == 0 {
            return Err(Trouble::new(Kind::Policy, "init: true needs a new pid namespace")
                .row("help", "add \"namespaces\": (pid: New), or take init out of the policy"));
        }
        let pipe = init.then(palisade_sys::fd::pipe).transpose();
        let (death_in, death_out) = pipe.map_err(fail("a pipe could not be made"))?.unzip();
        self.pump = Pump::wanted(&mut self.plan.process).map_err(fail("the output could not be piped"))?;
        if !init {
            // Orphans inside come to us instead of to the host's init, so that none outlives the launch.
            process::set_child_subreaper(true).map_err(fail("orphans could not be adopted"))?;
        }
        let before = if init { Vec::new() } else { crate::tree::children() };
        let cgroup = self.lent.cgroup.map(palisade_sys::fd::borrow).transpose();
        let cgroup: Option<BorrowedFd<'_>> = cgroup.map_err(fail("a plugin offered a cgroup that is not open"))?;
        match process::clone3(flags, cgroup).map_err(fail("the process could not be created"))? {
            process::Cloned::Child => {
                drop(ours);
                drop(death_in);
                let child = Child { channel: theirs, death: death_out, mask: self.mask.clone() };
                child::run(&mut self.plan, child)
            }
            process::Cloned::Parent { pid, pidfd } => {
                self.lent.init_pid = Some(pid);
                self.lent.pid = Some(pid);
                self.born = Some(Born { pidfd, pid, channel: ours, death: death_in, workload: pid, before });
                if let Some(pump) = &mut self.pump {
                    pump.born(&mut self.plan.process);
                }
                Ok(())
            }
        }
    }

    fn born(&self) -> Result<&Born, Trouble> {
        self.born.as_ref().ok_or_else(|| Trouble::new(Kind::Setup, "there is no process"))
    }

    fn say(&mut self, word: u8) -> Result<(), Trouble> {
        match self.born()?.channel.send(&[word]) {
            Ok(()) => Ok(()),
            // The child ended by itself; what it said before is better than a broken pipe.
            Err(_) => self.hear().and(Err(self.lost())),
        }
    }

    /// Waits for the child's word that it is sealed.
    fn hear(&mut self) -> Result<(), Trouble> {
        let born = self.born()?;
        let mut items = [PollItem::read(born.channel.as_fd())];
        let ready = poll(&mut items, Some(SETUP_LIMIT))
            .map_err(|e| Trouble::call("the child could not be waited for", &e))?;
        if ready == 0 {
            let why = format!("the child was not ready after {} s", SETUP_LIMIT.as_secs());
            return Err(Trouble::new(Kind::Setup, why).row("help", "a step hangs; -v shows which came last"));
        }
        let mut bytes = Vec::new();
        let sender = born
            .channel
            .recv_with_pid(&mut bytes)
            .map_err(|e| Trouble::call("the child could not be heard", &e))?;
        let Some(sender) = sender else { return Err(self.lost()) };
        let message: FromChild = decode(&bytes)?;
        if let Some(born) = &mut self.born {
            born.workload = sender;
        }
        self.lent.pid = Some(sender);
        match message {
            FromChild::Failed(records) => {
                self.keep_all(records)?;
                Err(Trouble::new(Kind::Setup, "the child gave up without a reason"))
            }
            FromChild::Stopped(records, stop) => {
                self.keep_all(records)?;
                Err(stop.trouble())
            }
            FromChild::Sealed(records, seen) => {
                self.keep_all(records)?;
                seen.into_iter().try_for_each(|record| self.see(record))
            }
        }
    }

    fn keep_all(&mut self, records: Vec<Record>) -> Result<(), Trouble> {
        records.into_iter().try_for_each(|record| self.keep(record))
    }

    /// What a step saw of itself from inside.
    fn see(&mut self, record: Record) -> Result<(), Trouble> {
        match record.came {
            Came::Done(evidence) => {
                self.seen.insert(record.step as usize, evidence);
                Ok(())
            }
            _ => self.keep(record),
        }
    }

    /// The child ended without a word.
    fn lost(&mut self) -> Trouble {
        let Some(born) = &self.born else {
            return Trouble::new(Kind::Setup, "there is no process");
        };
        // What killed it may have killed only one of two processes: end both.
        process::pidfd_send_signal(&born.pidfd, signal::SIGKILL).ok();
        let how = match process::waitid_pidfd(&born.pidfd) {
            Ok(status) if status.signaled && status.status != signal::SIGKILL => {
                format!("the child was ended by {} during set-up", signal::name(status.status))
            }
            Ok(status) if !status.signaled => {
                format!("the child exited with status {} during set-up", status.status)
            }
            _ => "the child disappeared during set-up".to_owned(),
        };
        let stage = if self.records.values().any(|r| self.in_child(r)) { "Seal" } else { "Build, Drop or Seal" };
        Trouble::new(Kind::Setup, how)
            .row("help", format!("a step of {stage} ended the process: leave plugins out of the policy one by one to find which"))
    }

    fn in_child(&self, record: &Record) -> bool {
        let step = self.plan.steps.get(record.step as usize);
        step.is_some_and(|s| s.info.stage >= Stage::Build && s.info.stage <= Stage::Seal)
    }

    /// Reads back what the kernel believes, step by step, before the workload is released.
    fn verify(&mut self) -> Result<(), Trouble> {
        for index in 0..self.plan.steps.len() {
            let Some(step) = self.plan.steps.get(index) else { continue };
            let done = match self.records.get(&index) {
                Some(record) => matches!(record.came, Came::Done(_)),
                // A step of the birth itself has nothing to apply.
                None => step.info.stage == Stage::Clone && step.info.demand != Demand::Off,
            };
            if !done {
                continue;
            }
            match step.object.verify(lend(&mut self.lent)).into_result() {
                Ok(evidence) => {
                    if let Some(text) = evidence.into_option().filter(|t| !t.is_empty()) {
                        self.seen.insert(index, text.into_string());
                    }
                }
                Err(failure) => {
                    let error = Error::from(failure);
                    if step.info.demand == Demand::Degrade {
                        let came = Came::Degraded(error.message);
                        self.records.insert(index, Record { step: index_u32(index), micros: 0, came });
                        continue;
                    }
                    return Err(self.step_trouble(index, error).row("phase", "verification"));
                }
            }
        }
        Ok(())
    }

    /// Kills what was born, then undoes, in reverse order, going on past failures. Runs once.
    pub(crate) fn end(&mut self) {
        if std::mem::replace(&mut self.over, true) {
            return;
        }
        self.kill_all();
        for index in std::mem::take(&mut self.applied).into_iter().rev() {
            let Some(step) = self.plan.steps.get_mut(index) else { continue };
            if step.info.demand == Demand::Off {
                continue;
            }
            if let Err(failure) = step.object.undo(lend(&mut self.lent)).into_result() {
                let error = Error::from(failure);
                let line = format!("{}: {}: {} {}", step.info.plugin, step.info.words, error.message, error.call);
                self.undo_failures.push(line);
            }
        }
        // The mask that the caller had; a signal that waited is delivered now.
        if let Err(error) = signal::set_mask(&self.mask) {
            self.undo_failures.push(error.to_string());
        }
    }

    /// Ends everything inside.
    fn kill_all(&mut self) {
        let Some(born) = self.born.take() else { return };
        // ESRCH: it has ended, and was waited for.
        process::pidfd_send_signal(&born.pidfd, signal::SIGKILL).ok();
        process::waitid_pidfd(&born.pidfd).ok();
        if born.death.is_none() {
            crate::tree::end_orphans(&born.before);
        }
    }
}

fn index_u32(index: usize) -> u32 {
    u32::try_from(index).unwrap_or(u32::MAX)
}

impl Drop for Launch {
    /// For the ways out that nobody wrote: a panic in the launcher.
    fn drop(&mut self) {
        self.end();
    }
}

