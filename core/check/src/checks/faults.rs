//! Each system call of each entry, made to fail once.

use crate::actor::{Cast, Entry, Fault, Reply};
use crate::cage::Marks;
use crate::checks::loaded_on_the_bench;
use crate::checks::scene::{Run, Scene};
use crate::report::Outcome;
use crate::state::State;
use crate::subject::Kit;
use palisade_sys::inject;
use std::collections::BTreeMap;
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
    loaded_on_the_bench(kit, |subject, host, marks| {
        let outcome = Outcome::default();
        let until = Instant::now() + BUDGET;
        let cast = Cast { kit, subject, host };
        let mut trial = Trial { cast, marks, outcome, until, calls: 0, failed: 0 };
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
    })
}

struct Trial<'a> {
    cast: Cast<'a>,
    marks: &'a Marks,
    outcome: Outcome,
    until: Instant,
    calls: u64,
    failed: u64,
}

/// What an entry did without any failure.
struct Known {
    calls: Vec<i32>,
    state: State,
}

/// One failure: in which entry, of which call, and that in words.
struct Case {
    entry: usize,
    fault: Fault,
    how: String,
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
            let how = format!("when {} fails with {name}", inject::name(number));
            self.disturbed(scene, &Case { entry, fault: Fault { occurrence, errno }, how }, &known)?;
        }
        Ok(())
    }

    fn begin(&self, scene: Scene) -> Result<Run, String> {
        self.marks.at("`configure` and `plan`");
        Run::begin(self.cast, scene)
    }

    /// Learns what each entry does.
    fn undisturbed(&mut self, scene: Scene) -> Result<Vec<Known>, String> {
        let run = self.begin(scene)?;
        let mut all = Vec::new();
        for entry in run.entries.clone() {
            self.marks.at(&run.name(entry));
            let (reply, calls) = run.actor.call(entry, run.pid(), None);
            if reply.is_bad() {
                self.outcome.saw(format!("{}: {reply}", run.name(entry)));
                break;
            }
            // What may fail is not tried, and no reason to stop.
            let calls = if reply == Reply::Good { calls } else { Vec::new() };
            if reply != Reply::Good {
                self.outcome.note(format!("{} could not be tried: here it answers: {reply}", run.name(entry)));
                if !run.may_fail(entry) {
                    break;
                }
            }
            all.push(Known { calls, state: run.state() });
        }
        for seen in run.end(all.len()) {
            self.outcome.saw(format!("when nothing fails: {seen}"));
        }
        Ok(all)
    }

    /// One run, with one failure.
    fn disturbed(&mut self, scene: Scene, case: &Case, known: &[Known]) -> Result<(), String> {
        let mut run = self.begin(scene)?;
        let mut how = case.how.clone();
        for (index, entry) in run.entries.clone().into_iter().enumerate().take(case.entry + 1) {
            let what = format!("{} {how}", run.name(entry));
            self.marks.at(&what);
            let now = (index == case.entry).then_some(case.fault);
            let (reply, _calls) = run.actor.call(entry, run.pid(), now);
            if index == case.entry {
                if let Some(wrong) = judged(&mut run, entry, &reply, known.get(index)) {
                    self.outcome.saw(format!("{what}: {wrong}"));
                }
                how = format!("{how} in {}", run.name(entry));
            }
            if reply != Reply::Good && !run.may_fail(entry) {
                break;
            }
        }
        self.marks.at(&format!("`undo` {how}"));
        for seen in run.end(case.entry) {
            self.outcome.saw(format!("{how}: {seen}"));
        }
        Ok(())
    }
}

/// What is wrong with the answer to a call that failed.
fn judged(run: &mut Run, entry: Entry, reply: &Reply, known: Option<&Known>) -> Option<String> {
    match reply {
        Reply::Error(text) if !text.trim().is_empty() => None,
        Reply::Good => {
            let changes = known.map(|known| known.state.changes(&run.state())).unwrap_or_default();
            let unseen = !changes.is_empty() && !run.notices(entry);
            unseen.then(|| format!("it answers that all went well, and it did not: {}", changes.join("; ")))
        }
        other => Some(other.to_string()),
    }
}
