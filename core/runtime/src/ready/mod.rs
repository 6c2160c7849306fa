//! Ready-made steps: what a plugin wants done, as data, and how palisade does it, reads it back and undoes it.
//!
//! | file | holds |
//! |---|---|
//! | `outside` | what the launcher's own is, so that a step in the child never changes the host |
//! | `place`, `file`, `directory` | files and directories |
//! | `mount` | mounts |
//! | `attributes` | limits and the host name |
//! | `kernel` | filters and namespaces |

mod attributes;
mod directory;
mod file;
mod kernel;
mod mount;
mod outside;
mod place;

use outside::Outside;
use palisade_abi::seam::RawStep;
use palisade_abi::{Action, Context, Error, Evidence, Host, Ready, Step, wrap};
use palisade_model::plan::{Demand, StepInfo};
use palisade_model::stage::{Place, Stage};
use std::cell::Cell;
use std::rc::Rc;

/// Makes the ready-made steps of one plan.
#[derive(Debug, Default)]
pub(crate) struct Maker {
    /// How many filters of them must be in force.
    filters: Rc<Cell<u32>>,
}

/// What a step is made of, and what its envelope must say of it.
struct Made {
    action: Box<dyn Action>,
    /// `CLONE_NEW*` flags.
    flags: u64,
    /// Whether the child is asked, before Seal, what it sees.
    witness: bool,
}

impl Made {
    fn new(action: impl Action + 'static) -> Self {
        Self { action: Box::new(action), flags: 0, witness: false }
    }

    fn witnessed(self, witness: bool) -> Self {
        Self { witness, ..self }
    }
}

impl Maker {
    /// Makes the step that `text` tells of, and completes its envelope.
    ///
    /// # Errors
    /// In words: the text is not understood, or this kind makes no sense in this stage or with these values.
    pub(crate) fn make(&self, text: &str, info: &mut StepInfo, host: &Host) -> Result<RawStep, String> {
        let ready = Ready::parse(text).map_err(|why| format!("its ready-made step is not understood: {why}"))?;
        let (kind, stages) =
            stages(&ready).ok_or("its ready-made step is of a kind that this palisade does not know")?;
        if !stages.contains(&info.stage) {
            let stages: Vec<&str> = stages.iter().map(|stage| stage.name()).collect();
            return Err(format!(
                "its ready-made step {kind} makes no sense in stage {}; it belongs in {}",
                info.stage,
                stages.join(", ")
            ));
        }
        let outside = Outside::read(host).map_err(|error| format!("{}: {}", error.message, error.call))?;
        if matches!(ready, Ready::Filter { .. }) && info.demand == Demand::Require {
            self.filters.set(self.filters.get() + 1);
        }
        let made = self.action(ready, info.stage, Rc::new(outside));
        let made = made.map_err(|why| format!("its ready-made step {kind} cannot be done: {why}"))?;
        info.clone_flags |= made.flags;
        info.witness |= made.witness;
        let shown = Shown { text: text.to_owned(), inner: made.action };
        Ok(wrap::step(Step::new(info.stage, info.words.clone(), shown)))
    }

    fn action(&self, ready: Ready, stage: Stage, outside: Rc<Outside>) -> Result<Made, String> {
        // In the child nothing is undone: what a step does there must end with the workload's namespaces.
        let inside = (stage.runs_in() == Place::Child).then(|| Rc::clone(&outside));
        match ready {
            Ready::WriteFile { path, text, mode, .. } => {
                let witness = inside.is_some();
                Ok(Made::new(file::Write::new(path, text, mode, inside)?).witnessed(witness))
            }
            Ready::MakeDirectory { path, mode, .. } => {
                let witness = inside.is_some();
                Ok(Made::new(directory::Make::new(path, mode, inside)?).witnessed(witness))
            }
            Ready::Mount { fstype, source, target, flags, data, .. } => {
                let what = mount::What::new(fstype, source, &flags, data)?;
                Ok(Made::new(mount::Mount::new(what, target, outside)?).witnessed(true))
            }
            Ready::Limit { resource, soft, hard, .. } => {
                Ok(Made::new(attributes::Limit::new(&resource, soft, hard)?).witnessed(true))
            }
            Ready::Hostname { name, .. } => Ok(Made::new(attributes::Hostname::new(name, outside)?).witnessed(true)),
            Ready::Filter { instructions, flags, .. } => {
                let filters = Rc::clone(&self.filters);
                Ok(Made::new(kernel::Filter::new(&instructions, &flags, outside, filters)?))
            }
            Ready::Namespaces { flags, .. } => {
                let witness = !outside.may_look;
                let action = kernel::Namespaces::new(&flags, outside)?;
                let flags = action.flags();
                Ok(Made { flags, ..Made::new(action).witnessed(witness) })
            }
            _ => Err("this palisade does not know it".to_owned()),
        }
    }
}

/// The name of a kind and where it makes sense; nothing for one that is not known here.
fn stages(ready: &Ready) -> Option<(&'static str, &'static [Stage])> {
    const FILES: &[Stage] = &[Stage::Prepare, Stage::Attach, Stage::Build];
    Some(match ready {
        Ready::WriteFile { .. } => ("WriteFile", FILES),
        Ready::MakeDirectory { .. } => ("MakeDirectory", FILES),
        Ready::Mount { .. } => ("Mount", &[Stage::Build]),
        Ready::Limit { .. } => ("Limit", &[Stage::Drop]),
        Ready::Hostname { .. } => ("Hostname", &[Stage::Build]),
        Ready::Filter { .. } => ("Filter", &[Stage::Seal]),
        Ready::Namespaces { .. } => ("Namespaces", &[Stage::Clone]),
        _ => return None,
    })
}

/// A ready-made step that shows its text to whoever wants to see all of it.
struct Shown {
    text: String,
    inner: Box<dyn Action>,
}

impl Action for Shown {
    fn apply(&mut self, context: &mut Context<'_>) -> Result<Evidence, Error> {
        self.inner.apply(context)
    }

    fn verify(&self, context: &Context<'_>) -> Result<Option<Evidence>, Error> {
        self.inner.verify(context)
    }

    fn witness(&self, context: &Context<'_>) -> Result<Evidence, Error> {
        self.inner.witness(context)
    }

    fn undo(&mut self, context: &mut Context<'_>) -> Result<(), Error> {
        self.inner.undo(context)
    }

    fn details(&self) -> Vec<(String, String)> {
        vec![("ready".to_owned(), self.text.clone())]
    }
}

#[cfg(test)]
mod tests;
