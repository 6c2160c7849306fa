//! Steps on the host, done and taken back.

use crate::bench::{Dummy, Traces};
use crate::cage::Marks;
use crate::checks::loaded_on_the_bench;
use crate::report::Outcome;
use crate::state;
use crate::subject::{Kit, Lent, Subject, lend, line, panicked};
use palisade_abi::seam::RawStep;
use palisade_abi::{Error, Host};
use palisade_runtime::model::stage::{Place, Stage};
use palisade_sys::fd;
use palisade_sys::limits::{Resource, get_rlimit, set_rlimit};

pub(crate) fn undo(kit: &Kit) -> Outcome {
    if let Some(why) = &kit.obstacle {
        return Outcome::untried(why);
    }
    if !kit.steps.iter().any(|step| is_on_the_host(step.stage)) {
        return Outcome::not_applicable("the section used has no step on the host");
    }
    loaded_on_the_bench(kit, |subject, host, marks| {
        let mut trial = Trial { kit, subject, host, marks, outcome: Outcome::default() };
        if let Err(why) = trial.all() {
            return if trial.outcome.seen.is_empty() { Outcome::untried(why) } else { trial.outcome };
        }
        trial.outcome
    })
}

/// A stage of the host in which something is done that can be undone.
pub(crate) fn is_on_the_host(stage: Stage) -> bool {
    stage.runs_in() == Place::Host && matches!(stage, Stage::Prepare | Stage::Attach)
}

struct Trial<'a> {
    kit: &'a Kit,
    subject: &'a Subject,
    host: &'a Host,
    marks: &'a Marks,
    outcome: Outcome,
}

/// Steps with the words of each.
type Steps = Vec<(RawStep, String)>;

impl Trial<'_> {
    /// The error is why it could not be tried.
    fn all(&mut self) -> Result<(), String> {
        let run_id = self.kit.run_id();
        let before = Traces::now(&run_id);
        self.never_applied()?;
        self.same(&before, "`undo` of what was never applied");
        self.failed_half_way()?;
        self.same(&before, "`undo` after an `apply` without descriptors to open");
        let mut steps = self.steps()?;
        let flags = self.kit.steps.iter().fold(0, |flags, step| flags | step.clone_flags);
        let dummy = Dummy::new(flags)?;
        let mut lent = Lent { pid: Some(dummy.pid) };
        let applied = self.apply(&mut steps, &mut lent);
        if state::threads() > 0 {
            self.outcome.saw("`apply` leaves a thread");
        }
        drop(dummy);
        for time in ["`undo`", "a second `undo`"] {
            for (step, words) in steps.iter_mut().rev() {
                self.undo(step, &mut lent, &format!("{time} of `{words}`"));
            }
            self.same(&before, time);
        }
        drop(steps);
        self.outcome.figure(
            "steps",
            u64::try_from(self.kit.steps.iter().filter(|s| is_on_the_host(s.stage)).count()).unwrap_or(0),
        );
        applied
    }

    fn steps(&self) -> Result<Steps, String> {
        self.marks.at("`plan`");
        let planned = self.subject.planned(&[&self.kit.section], self.host);
        let (_isolator, steps) =
            planned.map_err(|error| format!("there is no plan in namespaces: {}", line(&error)))?;
        let on_host = |step: &RawStep| step.stage().parse().is_ok_and(is_on_the_host);
        let mut all: Steps = steps
            .into_iter()
            .filter(on_host)
            .map(|step| (step.words().into_string(), step))
            .map(|(w, s)| (s, w))
            .collect();
        all.sort_by_key(|(step, _)| step.stage().parse::<Stage>().ok());
        Ok(all)
    }

    /// Applies all; the error is why not.
    fn apply(&mut self, steps: &mut Steps, lent: &mut Lent) -> Result<(), String> {
        for (step, words) in steps {
            let what = format!("`apply` of `{words}`");
            self.marks.at(&what);
            if let Err(error) = step.apply(lend(lent)).into_result().map_err(Error::from) {
                if panicked(&error) {
                    self.outcome.saw(format!("{what}: {}", line(&error)));
                }
                return Err(format!("{what} fails here: {}", line(&error)));
            }
        }
        Ok(())
    }

    fn undo(&mut self, step: &mut RawStep, lent: &mut Lent, what: &str) {
        self.marks.at(what);
        if let Err(error) = step.undo(lend(lent)).into_result().map_err(Error::from) {
            self.outcome.saw(format!("{what} fails: {}", line(&error)));
        }
    }

    fn same(&mut self, before: &Traces, what: &str) {
        for change in before.changes(&Traces::now(&self.kit.run_id())) {
            self.outcome.saw(format!("after {what}: {change}"));
        }
    }

    /// An error is an answer to this, a panic or a trace is none.
    fn never_applied(&mut self) -> Result<(), String> {
        let mut lent = Lent::default();
        for (step, words) in self.steps()?.iter_mut().rev() {
            let what = format!("`undo` of `{words}`, which was never applied");
            self.marks.at(&what);
            let came = step.undo(lend(&mut lent)).into_result().map_err(Error::from);
            if let Some(error) = came.err().filter(panicked) {
                self.outcome.saw(format!("{what}: {}", line(&error)));
            }
        }
        Ok(())
    }

    /// Nothing can be opened, and there is no process: most steps fail, some half-way.
    fn failed_half_way(&mut self) -> Result<(), String> {
        let files = Resource::from_name("nofile").ok_or("there is no limit of open files")?;
        let (soft, hard) = get_rlimit(files).map_err(|error| error.to_string())?;
        let mut steps = self.steps()?;
        let mut lent = Lent::default();
        let (probe, _keep) = fd::pipe().map_err(|error| error.to_string())?;
        let next = u64::try_from(std::os::fd::AsRawFd::as_raw_fd(&probe)).unwrap_or(0);
        drop((probe, _keep));
        set_rlimit(files, next, hard).map_err(|error| error.to_string())?;
        let tried = steps.len();
        for (step, words) in &mut steps {
            let what = format!("`apply` of `{words}` without descriptors to open");
            self.marks.at(&what);
            let came = step.apply(lend(&mut lent)).into_result().map_err(Error::from);
            if let Some(error) = came.err().filter(panicked) {
                self.outcome.saw(format!("{what}: {}", line(&error)));
            }
        }
        set_rlimit(files, soft, hard).map_err(|error| error.to_string())?;
        for (step, words) in steps.iter_mut().take(tried).rev() {
            self.undo(step, &mut lent, &format!("`undo` of `{words}`, whose `apply` could open nothing,"));
        }
        Ok(())
    }
}
