//! What isolators see while the workload runs, and what the others make of it.

use super::Running;
use crate::entries::Entries;
use crate::message::{Death, Lapse};
use palisade_abi::seam::Failure;
use palisade_abi::{Act, wrap};
use palisade_model::report::DenialReport;

impl Running {
    /// Has an isolator deal with one of its descriptors, and the others say what they make of what it saw; gives what
    /// it watches from now on.
    pub(super) fn meet(&mut self, index: usize, fd: i32, entries: &Entries) -> Result<Vec<i32>, String> {
        let plan = &mut self.launch.plan;
        let Some(isolator) = plan.isolators.get_mut(index) else { return Ok(Vec::new()) };
        let name = isolator.name.clone();
        entries.call(&name, "ready", || isolator.object.ready(fd)).into_result().map_err(line)?;
        if plan.workload.explain {
            for act in entries.call(&name, "acts", || isolator.object.acts()).into_result().map_err(line)? {
                self.denials.ask(act, &plan.isolators, (entries, &plan.sources), &mut self.launch.failures);
            }
            let Some(isolator) = plan.isolators.get_mut(index) else { return Ok(Vec::new()) };
            entries.call(&name, "settle", || isolator.object.settle()).into_result().map_err(line)?;
        }
        let isolator = plan.isolators.get(index);
        Ok(isolator.map(|isolator| isolator.object.watch().into_iter().collect()).unwrap_or_default())
    }

    /// What was denied, where somebody wants to know or it ended the workload.
    pub(super) fn denials(&mut self, death: &Death) -> Option<Vec<DenialReport>> {
        let plan = &self.launch.plan;
        if death.signaled && self.ending.is_none() {
            match Entries::begin() {
                Ok(entries) => {
                    let act = wrap::act_facts(&Act::new([("signal", death.status.to_string())]));
                    self.denials.ask(act, &plan.isolators, (&entries, &plan.sources), &mut self.launch.failures);
                }
                Err(trouble) => self.launch.failures.push(trouble.headline()),
            }
        }
        let told = self.denials.tell(&mut self.launch.failures);
        (plan.workload.explain || !told.is_empty()).then_some(told)
    }
}

fn line(failure: Failure) -> String {
    Lapse::from(failure).line()
}
