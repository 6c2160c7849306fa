//! Each system call of each entry, made to fail once.

use crate::actor::{Actor, Entry, Fault, Reply, Role, of_a_step};
use crate::bench::{self, Dummy};
use crate::cage::{Marks, apart};
use crate::checks::undo::is_on_the_host;
use crate::checks::{LIMIT, said};
use crate::report::Outcome;
use crate::state::{State, descriptors};
use crate::subject::{Kit, Lent, Subject, line};
use palisade_abi::Host;
use palisade_abi::seam::{RawIsolator, RawStep};
use palisade_runtime::model::plan::{Demand, StepInfo};
use palisade_runtime::model::stage::{Place, Stage};
use palisade_sys::inject;
use palisade_sys::namespace::{CLONE_NEWIPC, CLONE_NEWNET, CLONE_NEWNS, CLONE_NEWUTS};
use palisade_sys::procfs::Proc;
use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

/// How long all of it may take; after that no more calls are tried, and it says so.
const BUDGET: Duration = Duration::from_secs(8);
/// How often a call of one kind is made to fail in one entry.
const TIMES: usize = 3;
/// With what, one after the other: EPERM, ENOSYS, EIO.
const ERRNOS: [(i32, &str); 3] = [(1, "EPERM"), (38, "ENOSYS"), (5, "EIO")];

pub(crate) fn faults(kit: &Kit) -> Outcome {
    if let Some(why) = &kit.obstacle {
        return Outcome::untried(why);
    }
    said(apart(LIMIT, |marks| {
        if let Err(why) = bench::enter() {
            return Outcome::untried(why);
        }
        marks.at("`dlopen`");
        let (subject, host) = match (kit.load(), kit.host()) {
            (Ok(subject), Ok(host)) => (subject, host),
            (Err(error), _) => return Outcome::failed(error.to_string()),
            (_, Err(error)) => return Outcome::untried(error.message),
        };
        let outcome = Outcome::default();
        let until = Instant::now() + BUDGET;
        let mut trial = Trial { kit, subject: &subject, host: &host, marks, outcome, until, calls: 0, failed: 0 };
        for scene in [Scene::Plan, Scene::Host, Scene::Inside] {
            if let Err(why) = trial.scene(scene) {
                if scene == Scene::Plan && trial.outcome.seen.is_empty() {
                    return Outcome::untried(why);
                }
                trial.outcome.note(why);
            }
        }
        let (calls, failed) = (trial.calls, trial.failed);
        trial.outcome.figure("calls", calls);
        trial.outcome.figure("made_to_fail", failed);
        if failed < calls {
            trial.outcome.note(format!(
                "of {calls} system calls {failed} were made to fail: {TIMES} of a kind in each entry, for {} s",
                BUDGET.as_secs()
            ));
        }
        trial.outcome
    }))
}

/// What a process for steps inside has of its own, besides what they ask for.
const OWN: u64 = CLONE_NEWNS | CLONE_NEWUTS | CLONE_NEWIPC | CLONE_NEWNET;

/// What is tried together in one process.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Scene {
    /// `configure` and `plan`.
    Plan,
    /// Steps on the host, then their undoing.
    Host,
    /// Steps of the child, in namespaces of its own.
    Inside,
}

struct Trial<'a> {
    kit: &'a Kit,
    subject: &'a Subject,
    host: &'a Host,
    marks: &'a Marks,
    outcome: Outcome,
    until: Instant,
    calls: u64,
    failed: u64,
}

/// A run of a scene.
struct Run {
    entries: Vec<Entry>,
    words: Vec<String>,
    /// Whether the policy lets a step fail.
    lax: Vec<bool>,
    host: OnHost,
    _isolator: RawIsolator,
    dummy: Option<Dummy>,
    actor: Actor,
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

/// What an entry did without any failure.
struct Known {
    calls: Vec<i32>,
    state: State,
}

impl Trial<'_> {
    fn scene(&mut self, scene: Scene) -> Result<(), String> {
        let known = self.undisturbed(scene)?;
        let mut all: Vec<(usize, usize, usize, i32)> = Vec::new();
        for (entry, known) in known.iter().enumerate() {
            let mut seen: BTreeMap<i32, usize> = BTreeMap::new();
            for (occurrence, number) in known.calls.iter().enumerate() {
                let times = seen.entry(*number).or_default();
                *times += 1;
                if *times <= TIMES {
                    all.push((*times, entry, occurrence, *number));
                }
            }
            self.calls += u64::try_from(known.calls.len()).unwrap_or(0);
        }
        // The first of each kind comes first, should the time be short.
        all.sort_unstable();
        for (turn, (_, entry, occurrence, number)) in all.into_iter().enumerate() {
            if Instant::now() > self.until {
                break;
            }
            let (errno, name) = ERRNOS[turn % ERRNOS.len()];
            self.failed += 1;
            let how = format!("{} fails with {name}", inject::name(number));
            self.disturbed(scene, entry, Fault { occurrence, errno }, &how, &known)?;
        }
        Ok(())
    }

    /// Everything that a scene needs, up to its first entry.
    fn begin(&mut self, scene: Scene) -> Result<Run, String> {
        self.marks.at("`configure` and `plan`");
        let planned = self.subject.planned(&[&self.kit.section], self.host);
        let (isolator, steps) = planned.map_err(|error| format!("there is no plan in namespaces: {}", line(&error)))?;
        let infos = self.subject.envelopes(&steps)?;
        let names = bench::names(&self.kit.run_id());
        let mut host = OnHost { steps, applied: Vec::new() };
        match self.born(scene, &infos, &mut host) {
            Ok((entries, dummy, actor)) => {
                let words = infos.iter().map(|info| info.words.clone()).collect();
                let lax = infos.iter().map(|info| info.demand != Demand::Require).collect();
                let open = open_in(actor.pid);
                Ok(Run { entries, words, lax, host, _isolator: isolator, dummy, actor, open, names })
            }
            Err(why) => {
                host.undo();
                Err(why)
            }
        }
    }

    /// The process of a scene, with what is to be done in it; for steps inside those on the host are done here.
    fn born(&self, scene: Scene, infos: &[StepInfo], host: &mut OnHost) -> Result<Born, String> {
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
        let role = Role { kit: self.kit, subject: self.subject, host: self.host, steps: &mut host.steps };
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

    /// Takes back what was done, by whom it was done, up to the entry `at`.
    fn end(&mut self, scene: Scene, mut run: Run, at: usize, how: &str) {
        run.dummy = None;
        let here = run.entries.clone().into_iter().take(at + 1).rev();
        for entry in here.filter(|_| scene == Scene::Host) {
            let Entry::Apply(index) = entry else { continue };
            let (reply, _calls) = run.actor.call(Entry::Undo(index), None, None);
            if let Reply::Panic(_) | Reply::Hung | Reply::Ended(_) = reply {
                self.outcome.saw(format!("`undo` of `{}` {how}: {}", run.words[index], told(&reply)));
            }
        }
        run.actor.call(Entry::Forget, None, None);
        if scene != Scene::Inside {
            let after = open_in(run.actor.pid);
            for left in crate::state::left(&run.open, &after) {
                self.outcome.saw(format!("{how}: {left}"));
            }
        }
        let Run { host, actor, names, .. } = run;
        drop(actor);
        host.undo();
        for left in bench::names(&self.kit.run_id()).difference(&names) {
            self.outcome.saw(format!("{how}: {left} is left"));
        }
    }

    /// Learns what each entry does.
    fn undisturbed(&mut self, scene: Scene) -> Result<Vec<Known>, String> {
        let run = self.begin(scene)?;
        let mut all = Vec::new();
        for entry in run.entries.clone() {
            let (reply, calls) = run.actor.call(entry, run.pid(scene), None);
            // What may fail is not tried, and no reason to stop.
            let calls = if reply == Reply::Good { calls } else { Vec::new() };
            if reply != Reply::Good {
                let answer = told(&reply);
                self.outcome.note(format!("{} could not be tried: here it answers: {answer}", run.name(entry)));
                if !run.may_fail(entry) {
                    break;
                }
            }
            all.push(Known { calls, state: state_of(run.actor.pid) });
        }
        self.end(scene, run, all.len(), "when nothing fails");
        Ok(all)
    }

    /// One run, with one failure.
    fn disturbed(&mut self, scene: Scene, at: usize, fault: Fault, how: &str, known: &[Known]) -> Result<(), String> {
        let mut run = self.begin(scene)?;
        let mut how = format!("when {how}");
        for (index, entry) in run.entries.clone().into_iter().enumerate().take(at + 1) {
            let what = format!("{} {how}", run.name(entry));
            self.marks.at(&what);
            let now = (index == at).then_some(fault);
            let (reply, _calls) = run.actor.call(entry, run.pid(scene), now);
            if index == at {
                self.judge(&mut run, scene, (entry, &what), &reply, known.get(at));
                how = format!("{how} in {}", run.name(entry));
            }
            if reply != Reply::Good && !run.may_fail(entry) {
                break;
            }
        }
        self.end(scene, run, at, &how);
        Ok(())
    }

    fn judge(&mut self, run: &mut Run, scene: Scene, what: (Entry, &str), reply: &Reply, known: Option<&Known>) {
        let (entry, what) = what;
        match reply {
            Reply::Error(text) if !text.trim().is_empty() => {}
            Reply::Good => {
                let now = state_of(run.actor.pid);
                let changes = known.map(|known| known.state.changes(&now)).unwrap_or_default();
                if !changes.is_empty() && !noticed(run, scene, entry) {
                    let changes = changes.join("; ");
                    self.outcome.saw(format!("{what}: it answers that all went well, and it did not: {changes}"));
                }
            }
            other => self.outcome.saw(format!("{what}: {}", told(other))),
        }
    }
}

impl Run {
    fn may_fail(&self, entry: Entry) -> bool {
        matches!(entry, Entry::Apply(index) if self.lax.get(index) == Some(&true))
    }

    /// What stands for the workload.
    fn pid(&self, scene: Scene) -> Option<i32> {
        match scene {
            Scene::Inside => Some(self.actor.pid),
            _ => self.dummy.as_ref().map(|dummy| dummy.pid),
        }
    }

    fn name(&self, entry: Entry) -> String {
        match entry {
            Entry::Apply(index) => format!("`apply` of `{}`", self.words.get(index).map_or("", String::as_str)),
            _ => "`configure` and `plan`".to_owned(),
        }
    }
}

/// Whether the plugin itself sees that a step is not in force.
fn noticed(run: &mut Run, scene: Scene, entry: Entry) -> bool {
    let Entry::Apply(index) = entry else { return false };
    let pid = run.pid(scene);
    let bad = |reply: &Reply| !matches!(reply, Reply::Good);
    if bad(&run.actor.call(Entry::Witness(index), pid, None).0) {
        return true;
    }
    if scene == Scene::Host {
        return bad(&run.actor.call(Entry::Verify(index), pid, None).0);
    }
    let mut lent = Lent { pid };
    run.host.steps.get_mut(index).is_some_and(|step| of_a_step(step, Entry::Verify(index), &mut lent).is_err())
}

fn state_of(pid: i32) -> State {
    let state = Proc::host().and_then(|proc| proc.pid(pid)).map(|process| State::of(&process));
    state.unwrap_or_default().comparable()
}

fn open_in(pid: i32) -> BTreeMap<i32, String> {
    Proc::host().and_then(|proc| proc.pid(pid)).map(|process| descriptors(&process)).unwrap_or_default()
}

fn told(reply: &Reply) -> String {
    match reply {
        Reply::Good => "all went well".to_owned(),
        Reply::Error(text) if text.trim().is_empty() => "an error without words".to_owned(),
        Reply::Error(text) | Reply::Panic(text) => text.clone(),
        Reply::Ended(how) => format!("it ends the process ({how})"),
        Reply::Hung => "it hangs".to_owned(),
    }
}
