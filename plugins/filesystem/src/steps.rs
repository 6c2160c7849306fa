//! The steps: open on the host, the new root, one for each entry, and the pivot.

use std::rc::Rc;

use palisade_abi::{Action, Context, Error, Evidence, Stage, Step};

use crate::mounts;
use crate::op::{Expected, Op};
use crate::view::View;

/// What the entries became.
#[derive(Clone, Debug)]
pub(crate) struct Item {
    pub(crate) words: String,
    pub(crate) why: String,
    pub(crate) ops: Vec<Op>,
    pub(crate) expected: Vec<Expected>,
}

/// Opens the sources on the host. For a launcher with privileges over the host's mounts.
pub(crate) fn open(view: &Rc<View>, count: usize) -> Step {
    let things = if count == 1 { "1 path".to_owned() } else { format!("{count} paths") };
    Step::new(
        Stage::Prepare,
        format!("opens {things} of the host as mounts that are attached nowhere"),
        Open(Rc::clone(view)),
    )
    .why("the ids that the workload will have may not be able to reach them")
}

struct Open(Rc<View>);

impl Action for Open {
    fn apply(&mut self, _context: &mut Context<'_>) -> Result<Evidence, Error> {
        self.0.open_all().map(|_| Evidence::default())
    }

    fn undo(&mut self, _context: &mut Context<'_>) -> Result<(), Error> {
        self.0.close_all();
        Ok(())
    }
}

/// What a step of the Build stage does.
pub(crate) enum Doing {
    Root,
    Entry(Vec<Op>),
    Pivot(Vec<Expected>),
}

/// A step of the Build stage.
pub(crate) fn build(view: &Rc<View>, doing: Doing, item: Item, witnessed: bool) -> Step {
    let Item { words, why, expected, .. } = item;
    let build = Build { view: Rc::clone(view), doing, expected };
    Step::new(Stage::Build, words, build).why(why).after("namespaces").witnessed(witnessed)
}

struct Build {
    view: Rc<View>,
    doing: Doing,
    /// The mounts that this step brings.
    expected: Vec<Expected>,
}

impl Action for Build {
    fn apply(&mut self, _context: &mut Context<'_>) -> Result<Evidence, Error> {
        let said = match &self.doing {
            Doing::Root => self.view.begin()?,
            Doing::Pivot(_) => self.view.finish()?,
            Doing::Entry(ops) => {
                ops.iter().try_for_each(|op| self.view.apply(op))?;
                String::new()
            }
        };
        Ok(Evidence(said))
    }

    fn verify(&self, context: &Context<'_>) -> Result<Option<Evidence>, Error> {
        if let Doing::Pivot(all) = &self.doing {
            // The workload has its view; the host's copies of the descriptors have done their work.
            self.view.close_all();
            let mounts = self.view.mounts(context.pid()?)?;
            return mounts::check_all(&mounts, all).map(|said| Some(Evidence(said)));
        }
        if self.expected.is_empty() {
            return Ok(None);
        }
        let mounts = self.view.mounts(context.pid()?)?;
        let found: Result<Vec<_>, _> = self.expected.iter().map(|expected| mounts::check(&mounts, expected)).collect();
        Ok(Some(Evidence(mounts::summary(&found?))))
    }

    fn witness(&self, _context: &Context<'_>) -> Result<Evidence, Error> {
        let found: Result<Vec<_>, _> = self.expected.iter().map(mounts::witness).collect();
        Ok(Evidence(mounts::summary(&found?)))
    }
}
