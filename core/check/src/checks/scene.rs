//! What is tried together in one process, set up as a launch would.

use crate::actor::{Actor, Cast, Entry, Reply, Role, of_a_step};
use crate::bench::{self, Dummy};
use crate::checks::undo::is_on_the_host;
use crate::state::{State, descriptors};
use crate::subject::{Lent, line};
use palisade_abi::seam::{RawIsolator, RawStep};
use palisade_runtime::model::plan::{Demand, StepInfo};
use palisade_runtime::model::stage::{Place, Stage};
use palisade_sys::namespace::{CLONE_NEWIPC, CLONE_NEWNET, CLONE_NEWNS, CLONE_NEWUTS};
use palisade_sys::procfs::Proc;
use std::collections::{BTreeMap, BTreeSet};

/// What a process for steps inside has of its own, besides what they ask for.
const OWN: u64 = CLONE_NEWNS | CLONE_NEWUTS | CLONE_NEWIPC | CLONE_NEWNET;

/// What is tried together in one process.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Scene {
    /// `configure` and `plan`.
    Plan,
    /// Steps on the host, then their undoing.
    Host,
    /// Steps of the child, in namespaces of its own.
    Inside,
}

/// A run of a scene.
pub(crate) struct Run {
    scene: Scene,
    run_id: String,
    /// What is to be called, in order.
    pub(crate) entries: Vec<Entry>,
    words: Vec<String>,
    /// Whether the policy lets a step fail.
    lax: Vec<bool>,
    host: OnHost,
    _isolator: RawIsolator,
    dummy: Option<Dummy>,
    pub(crate) actor: Actor,
    /// What was open in it at first, and what names there were.
    open: BTreeMap<i32, String>,
    names: BTreeSet<String>,
}

type Born = (Vec<Entry>, Option<Dummy>, Actor);

/// All steps, of which those on the host were applied here, for those inside.
struct OnHost {
    steps: Vec<RawStep>,
    applied: Vec<usize>,
}

impl OnHost {
    fn apply(&mut self, which: &[usize], pid: Option<i32>) -> Result<(), String> {
        let mut lent = Lent { pid };
        for index in which {
            let Some(step) = self.steps.get_mut(*index) else { continue };
            self.applied.push(*index);
            of_a_step(step, Entry::Apply(*index), &mut lent).map_err(|error| {
                format!("steps inside were not tried: one on the host fails here: {}", line(&error))
            })?;
        }
        Ok(())
    }

    /// That it works is another check's matter.
    fn undo(mut self) {
        let mut lent = Lent::default();
        for index in self.applied.into_iter().rev() {
            self.steps.get_mut(index).map(|step| of_a_step(step, Entry::Undo(index), &mut lent).ok());
        }
    }
}

impl Run {
    /// Everything that a scene needs, up to its first entry.
    pub(crate) fn begin(cast: Cast<'_>, scene: Scene) -> Result<Self, String> {
        let planned = cast.subject.planned(&[&cast.kit.section], cast.host);
        let (isolator, steps) = planned.map_err(|error| format!("there is no plan in namespaces: {}", line(&error)))?;
        let infos = cast.subject.envelopes(&steps)?;
        let run_id = cast.kit.run_id();
        let names = bench::names(&run_id);
        let mut host = OnHost { steps, applied: Vec::new() };
        match born(cast, scene, &infos, &mut host) {
            Ok((entries, dummy, actor)) => {
                let words = infos.iter().map(|info| info.words.clone()).collect();
                let lax = infos.iter().map(|info| info.demand != Demand::Require).collect();
                let open = open_in(actor.pid);
                Ok(Self { scene, run_id, entries, words, lax, host, _isolator: isolator, dummy, actor, open, names })
            }
            Err(why) => {
                host.undo();
                Err(why)
            }
        }
    }

    pub(crate) fn may_fail(&self, entry: Entry) -> bool {
        matches!(entry, Entry::Apply(index) if self.lax.get(index) == Some(&true))
    }

    /// What stands for the workload.
    pub(crate) fn pid(&self) -> Option<i32> {
        match self.scene {
            Scene::Inside => Some(self.actor.pid),
            _ => self.dummy.as_ref().map(|dummy| dummy.pid),
        }
    }

    pub(crate) fn name(&self, entry: Entry) -> String {
        match entry {
            Entry::Apply(index) => format!("`apply` of `{}`", self.words.get(index).map_or("", String::as_str)),
            _ => "`configure` and `plan`".to_owned(),
        }
    }

    /// What the process is now, and on the host what its steps made.
    pub(crate) fn state(&self) -> State {
        let state = Proc::host().and_then(|proc| proc.pid(self.actor.pid)).map(|process| State::of(&process));
        let state = state.unwrap_or_default().comparable();
        if self.scene == Scene::Host { state.with("files", bench::names(&self.run_id)) } else { state }
    }

    /// Whether the plugin itself sees that a step is not in force.
    pub(crate) fn notices(&mut self, entry: Entry) -> bool {
        let Entry::Apply(index) = entry else { return false };
        let pid = self.pid();
        let bad = |reply: &Reply| !matches!(reply, Reply::Good);
        if bad(&self.actor.call(Entry::Witness(index), pid, None).0) {
            return true;
        }
        if self.scene == Scene::Host {
            return bad(&self.actor.call(Entry::Verify(index), pid, None).0);
        }
        let mut lent = Lent { pid };
        let step = self.host.steps.get_mut(index);
        step.is_some_and(|step| of_a_step(step, Entry::Verify(index), &mut lent).is_err())
    }

    /// Takes back what was done, by whom it was done, up to the entry `at`; gives what went wrong, and what is left.
    pub(crate) fn end(mut self, at: usize) -> Vec<String> {
        let mut seen = Vec::new();
        self.dummy = None;
        if !self.actor.is_lost() {
            self.undo_there(at, &mut seen);
        }
        let Self { host, actor, names, run_id, .. } = self;
        drop(actor);
        host.undo();
        seen.extend(bench::names(&run_id).difference(&names).map(|left| format!("{left} is left")));
        seen
    }

    fn undo_there(&self, at: usize, seen: &mut Vec<String>) {
        for entry in self.entries.iter().take(at + 1).rev().filter(|_| self.scene == Scene::Host) {
            let Entry::Apply(index) = *entry else { continue };
            let (reply, _calls) = self.actor.call(Entry::Undo(index), None, None);
            if reply.is_bad() {
                seen.push(format!("`undo` of `{}`: {reply}", self.words[index]));
            }
        }
        let (reply, _calls) = self.actor.call(Entry::Forget, None, None);
        if self.scene != Scene::Inside && reply == Reply::Good {
            seen.extend(crate::state::left(&self.open, &open_in(self.actor.pid)));
        }
    }
}

/// The process of a scene, with what is to be done in it; for steps inside those on the host are done here.
fn born(cast: Cast<'_>, scene: Scene, infos: &[StepInfo], host: &mut OnHost) -> Result<Born, String> {
    let of = |which: &dyn Fn(Stage) -> bool| {
        let mut all: Vec<usize> = (0..infos.len()).filter(|i| which(infos[*i].stage)).collect();
        all.sort_by_key(|i| infos[*i].stage);
        all
    };
    let inside = scene == Scene::Inside;
    let on_host = of(&is_on_the_host);
    let (late, early): (Vec<usize>, Vec<usize>) =
        on_host.iter().copied().partition(|index| infos[*index].stage == Stage::Attach);
    let flags = infos.iter().fold(0, |flags, info| flags | info.clone_flags);
    if inside {
        host.apply(&early, None)?;
    }
    let dummy = (scene == Scene::Host && !late.is_empty()).then(|| Dummy::new(flags)).transpose()?;
    let role = Role { cast, steps: &mut host.steps };
    let mut actor = Actor::new(if inside { flags | OWN } else { 0 }, role)?;
    if inside {
        host.apply(&late, Some(actor.pid))?;
    }
    actor.listen()?;
    let entries = match scene {
        Scene::Plan => vec![Entry::Plan],
        Scene::Host => on_host.into_iter().map(Entry::Apply).collect(),
        Scene::Inside => of(&|stage| stage.runs_in() == Place::Child).into_iter().map(Entry::Apply).collect(),
    };
    Ok((entries, dummy, actor))
}

fn open_in(pid: i32) -> BTreeMap<i32, String> {
    Proc::host().and_then(|proc| proc.pid(pid)).map(|process| descriptors(&process)).unwrap_or_default()
}
