//! An isolator of a plugin in C and its steps, as the SDK has them.

use super::call::{Call, Entry, Lent};
use super::table::{palisade_act, palisade_host, palisade_plugin_table};
use super::told::Given;
use crate::action::{Action, Context, Evidence};
use crate::error::{Error, ErrorKind};
use crate::facts::Host;
use crate::isolator::Isolator;
use crate::sdk::Step;
use crate::told::{Attempt, Finish};
use palisade_model::plan::Demand;
use palisade_model::stage::Stage;
use std::cell::RefCell;
use std::ffi::c_void;
use std::io::PipeReader;
use std::os::fd::{AsRawFd as _, IntoRawFd as _, OwnedFd};
use std::rc::Rc;

/// What `configure` made. Steps point into it, so it goes with the last of them.
#[derive(Debug)]
pub(super) struct Owned {
    pub(super) isolator: *mut c_void,
    pub(super) release: Option<unsafe extern "C" fn(*mut c_void)>,
}

impl Drop for Owned {
    fn drop(&mut self) {
        if let Some(release) = self.release {
            // SAFETY: `configure` made it, and nobody uses it any more; upheld by the last owner, which is us; else it
            // would be used after it was freed.
            unsafe { release(self.isolator) }
        }
    }
}

type Function = Option<unsafe extern "C" fn(*const palisade_host, *mut c_void) -> i32>;

/// An isolator.
pub(super) struct CIsolator {
    table: palisade_plugin_table,
    owned: Rc<Owned>,
    /// Why it could not name what to watch, and something to be watched instead: whoever then asks is told.
    blind: RefCell<Option<(PipeReader, Error)>>,
}

impl CIsolator {
    pub(super) fn new(table: palisade_plugin_table, owned: Rc<Owned>) -> Self {
        Self { table, owned, blind: RefCell::new(None) }
    }

    fn call(&self, call: Call<'_, '_>, function: Function) -> Result<super::call::Told, Error> {
        call.run(|host| match function {
            // SAFETY: the function is one of the table's, and `configure` made what it gets; upheld by `Table::read` and
            // by `Owned`; else other memory is run or used.
            Some(function) => unsafe { function(host, self.owned.isolator) },
            None => 0,
        })
    }

    fn step(&self, given: Given) -> Result<Step, Error> {
        let refuse = |why: String| Error::new(ErrorKind::Plugin, why).help("report it to the plugin's author");
        let Given { raw, stage, words, why, demand, ready, after, origin } = given;
        let stage: Stage =
            stage.parse().map_err(|why: String| refuse(format!("the step \"{words}\" is of no stage: {why}")))?;
        let demand = match demand.as_str() {
            "" | "require" => Demand::Require,
            "degrade" => Demand::Degrade,
            "off" => Demand::Off,
            other => return Err(refuse(format!("the step \"{words}\" has the demand `{other}`, which is none"))),
        };
        let acts = [raw.apply, raw.verify, raw.witness, raw.undo];
        let action = CAction { acts, data: raw.data, stage, _owned: Rc::clone(&self.owned) };
        let mut step = Step::new(stage, words, action).why(why).demand(demand).origin(origin);
        step.after = after;
        step.clone_flags = raw.clone_flags;
        step.concurrent = raw.concurrent != 0;
        step.witnessed = raw.witness.is_some();
        step.ready = (!ready.is_empty()).then_some(ready);
        Ok(step)
    }
}

impl Isolator for CIsolator {
    fn plan(&self, host: &Host) -> Result<Vec<Step>, Error> {
        let told = self.call(Call::new(Entry::Plan).facts(host), self.table.plan)?;
        told.steps.into_iter().map(|given| self.step(given)).collect()
    }

    fn watch(&self) -> Vec<i32> {
        let told = self.call(Call::new(Entry::Watch), self.table.watch);
        told.map(|told| told.descriptors).unwrap_or_else(|error| {
            // There is no error here, but there is in `ready`: an end of a pipe whose other end is closed can be read.
            let watched = std::io::pipe().map(|(read, _closed)| read);
            let number = watched.as_ref().map_or(-1, |read| read.as_raw_fd());
            *self.blind.borrow_mut() = watched.ok().map(|read| (read, error));
            vec![number]
        })
    }

    fn ready(&mut self, fd: i32) -> Result<(), Error> {
        if let Some((_, error)) = self.blind.take() {
            return Err(error);
        }
        let Some(ready) = self.table.ready else { return Ok(()) };
        let isolator = self.owned.isolator;
        Call::new(Entry::Ready)
            .run(|host| {
                // SAFETY: as in `call`; upheld by `Table::read` and by `Owned`; else other memory is run or used.
                unsafe { ready(host, isolator, fd) }
            })
            .map(drop)
    }

    fn sample(&mut self) -> Result<Vec<(String, u64)>, Error> {
        Ok(self.call(Call::new(Entry::Sample), self.table.sample)?.figures)
    }

    fn attempts(&self) -> Result<Vec<Attempt>, Error> {
        Ok(self.call(Call::new(Entry::Attempts), self.table.attempts)?.attempts)
    }

    fn take(&mut self, fd: OwnedFd) -> Result<(), Error> {
        let Some(take) = self.table.take else {
            return Err(Error::new(ErrorKind::Plugin, "a step handed a descriptor over, and it has no `take`"));
        };
        let isolator = self.owned.isolator;
        let fd = fd.into_raw_fd();
        Call::new(Entry::Take)
            .run(|host| {
                // SAFETY: as in `call`; upheld by `Table::read` and by `Owned`; else other memory is run or used.
                unsafe { take(host, isolator, fd) }
            })
            .map(drop)
    }

    fn finish(&mut self) -> Result<Finish, Error> {
        let told = self.call(Call::new(Entry::Finish), self.table.finish)?;
        Ok(Finish { figures: told.figures, hits: told.hits })
    }
}

/// What a step does.
struct CAction {
    /// apply, verify, witness, undo.
    acts: [palisade_act; 4],
    data: *mut c_void,
    stage: Stage,
    _owned: Rc<Owned>,
}

impl CAction {
    /// What was said of it, if there is such a function.
    fn act(&self, entry: Entry, act: palisade_act, lent: Lent<'_, '_>) -> Result<Option<Evidence>, Error> {
        let Some(act) = act else { return Ok(None) };
        let told = Call::new(entry).at(self.stage).lent(lent).run(|host| {
            // SAFETY: the function and its data came with the step; upheld by the plugin's author, and by `Owned` for as
            // long as the step lives; else other memory is run or used.
            unsafe { act(host, self.data) }
        })?;
        Ok(Some(Evidence(told.evidence.unwrap_or_default())))
    }
}

impl Action for CAction {
    fn apply(&mut self, context: &mut Context<'_>) -> Result<Evidence, Error> {
        let [apply, ..] = self.acts;
        Ok(self.act(Entry::Apply, apply, Lent::All(context))?.unwrap_or_default())
    }

    fn verify(&self, context: &Context<'_>) -> Result<Option<Evidence>, Error> {
        let [_, verify, ..] = self.acts;
        self.act(Entry::Verify, verify, Lent::Numbers(context))
    }

    fn witness(&self, context: &Context<'_>) -> Result<Evidence, Error> {
        let [.., witness, _] = self.acts;
        Ok(self.act(Entry::Witness, witness, Lent::Numbers(context))?.unwrap_or_default())
    }

    fn undo(&mut self, context: &mut Context<'_>) -> Result<(), Error> {
        let [.., undo] = self.acts;
        self.act(Entry::Undo, undo, Lent::Numbers(context)).map(drop)
    }
}
