//! New namespaces, and the proof that they are new: their inodes are not the launcher's.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::rc::Rc;

use palisade_abi::{Action, Context, Error, Evidence};
use palisade_sys::procfs::{Proc, ProcPid};

use crate::error::Told;
use crate::kinds::Kind;

/// Device and inode of a namespace's file.
pub(crate) type Identity = (u64, u64);

/// What the steps of one launch know together.
#[derive(Debug, Default)]
pub(crate) struct Shared {
    /// The launcher's own namespaces.
    own: BTreeMap<&'static str, Identity>,
    /// The child's namespaces as the child saw them, where the host may not look.
    seen: RefCell<BTreeMap<&'static str, Identity>>,
    /// The process that was looked at last, so that procfs is opened and checked once.
    process: RefCell<Option<Rc<ProcPid>>>,
    /// Whether the launcher may look at namespaces of a process that is not dumpable.
    pub(crate) host_may_look: bool,
}

impl Shared {
    /// Reads the launcher's own namespaces of these kinds.
    pub(crate) fn new(kinds: &[&Kind], host_may_look: bool) -> Result<Self, Error> {
        let look = || Proc::host()?.own();
        let process = look().told(|| "cannot see the launcher's own namespaces".to_owned())?;
        let mut own = BTreeMap::new();
        for kind in kinds {
            let identity = process.ns(kind.file).map_err(|e| {
                Error::host(format!("this kernel has no {} namespaces", kind.field))
                    .call(e.to_string(), e.errno())
                    .help(format!("they need Linux {} and must be compiled in", kind.since))
            })?;
            own.insert(kind.file, identity);
        }
        Ok(Self { own, host_may_look, ..Self::default() })
    }

    /// The directory of a process in the host's procfs.
    pub(crate) fn process(&self, pid: i32) -> Result<Rc<ProcPid>, Error> {
        if let Some(process) = self.process.borrow().as_ref().filter(|process| process.id() == pid) {
            return Ok(Rc::clone(process));
        }
        let open = || Proc::host()?.pid(pid);
        let process = Rc::new(open().told(|| format!("cannot look at process {pid}"))?);
        *self.process.borrow_mut() = Some(Rc::clone(&process));
        Ok(process)
    }

    /// Has the child look at its own namespaces, while the host's procfs is still there.
    pub(crate) fn look_from_inside(&self) -> Result<String, Error> {
        let look = || Proc::host()?.own();
        let process = look().told(|| "cannot see the own namespaces".to_owned())?;
        for file in self.own.keys() {
            let identity = process.ns(file).told(|| format!("cannot see the own {file} namespace"))?;
            self.seen.borrow_mut().insert(file, identity);
        }
        Ok(String::new())
    }

    fn judge(&self, kind: &Kind, found: Identity) -> Result<Evidence, Error> {
        if self.own.get(kind.file) == Some(&found) {
            let message = format!("the workload is in the launcher's own {} namespace", kind.field);
            return Err(Error::setup(message).help("this must not happen; please report it"));
        }
        Ok(Evidence(format!("{}:[{}]", kind.file, found.1)))
    }
}

/// A namespace that the process was given when it was made, or made for itself.
pub(crate) struct Born {
    pub(crate) kind: &'static Kind,
    pub(crate) shared: Rc<Shared>,
    /// Made by the process itself, not by clone3.
    pub(crate) by_itself: bool,
}

impl Action for Born {
    fn apply(&mut self, _context: &mut Context<'_>) -> Result<Evidence, Error> {
        if self.by_itself {
            palisade_sys::namespace::unshare(self.kind.flag)
                .told(|| format!("cannot make a new {} namespace", self.kind.field))?;
        }
        Ok(Evidence::default())
    }

    fn verify(&self, context: &Context<'_>) -> Result<Option<Evidence>, Error> {
        if !self.shared.host_may_look {
            return Ok(None);
        }
        let process = self.shared.process(context.pid()?)?;
        let found =
            process.ns(self.kind.file).told(|| format!("cannot see the workload's {} namespace", self.kind.field))?;
        self.shared.judge(self.kind, found).map(Some)
    }

    fn witness(&self, _context: &Context<'_>) -> Result<Evidence, Error> {
        let seen = self.shared.seen.borrow().get(self.kind.file).copied();
        let message = || format!("nobody saw the workload's {} namespace", self.kind.field);
        self.shared.judge(self.kind, seen.ok_or_else(|| Error::setup(message()))?)
    }
}
