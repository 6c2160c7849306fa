//! Namespaces of others: opened on the host before the process exists, entered by the process first thing.

use std::cell::RefCell;
use std::os::fd::OwnedFd;
use std::path::PathBuf;
use std::rc::Rc;

use palisade_abi::{Action, Context, Error, Evidence, Host, Origin, Stage, Step};
use palisade_sys::procfs::Proc;
use palisade_sys::{fd, namespace};

use crate::born::{Identity, Shared};
use crate::config::Target;
use crate::error::Told;
use crate::kinds::{Kind, PID};

/// One namespace to join.
#[derive(Clone, Debug)]
pub(crate) struct Join {
    pub(crate) kind: &'static Kind,
    pub(crate) target: Target,
    pub(crate) origin: Option<Origin>,
    /// The first process of a run with that name, and when it was born.
    process: Option<(i32, u64)>,
}

/// A namespace that was opened.
#[derive(Debug, Default)]
struct Opened {
    /// The file, until the process has entered: nothing of the host stays open inside.
    file: Option<OwnedFd>,
    /// Its device and inode.
    identity: Option<Identity>,
}

type Slot = Rc<RefCell<Opened>>;

impl Join {
    pub(crate) fn new(kind: &'static Kind, target: &Target, origin: Option<Origin>, host: &Host) -> Self {
        let process = match target {
            Target::Run(name) => host.run(name),
            Target::Pid(_) | Target::Path(_) => None,
        };
        Self { kind, target: target.clone(), origin, process }
    }

    /// Whether there is something to join, as far as it can be known before.
    pub(crate) fn found(&self) -> Result<(), Error> {
        match (&self.target, self.process) {
            (Target::Run(name), None) => {
                Err(Error::host(format!("no run named `{name}` goes on")).at(self.origin).help(format!(
                    "start it first: palisade run --name {name} ...; `palisade ps` lists those that there are"
                )))
            }
            _ => Ok(()),
        }
    }

    fn path(&self) -> PathBuf {
        let of = |pid: i32| PathBuf::from(format!("/proc/{pid}/ns/{}", self.kind.file));
        match &self.target {
            Target::Pid(pid) => of(*pid),
            Target::Path(path) => path.as_path().to_owned(),
            Target::Run(_) => of(self.process.map_or(0, |(pid, _)| pid)),
        }
    }

    /// After the file was opened: whether the process of a run is still the one that was named.
    fn is_the_same(&self) -> Result<(), Error> {
        let Some((pid, born)) = self.process else { return Ok(()) };
        let now = Proc::host().and_then(|proc| proc.pid(pid)?.born());
        if now.is_ok_and(|now| now == born) {
            return Ok(());
        }
        Err(Error::setup(format!("{} has ended", self.target)).at(self.origin).help("start it again"))
    }

    fn remedy(&self, error: Error) -> Error {
        if !error.help.is_empty() {
            return error;
        }
        error.help(format!("name a process that lives, or a file such as /proc/PID/ns/{}", self.kind.file))
    }

    /// The steps: open, and enter.
    pub(crate) fn steps(&self, shared: &Rc<Shared>) -> Vec<Step> {
        let slot = Slot::default();
        let field = self.kind.field;
        let open = Open { join: self.clone(), slot: Rc::clone(&slot) };
        let prepare = Step::new(Stage::Prepare, format!("opens the {field} namespace of {}", self.target), open)
            .why("the file may be out of the child's reach")
            .origin(self.origin);
        let enter = Enter { join: self.clone(), slot, shared: Rc::clone(shared) };
        let enter = if self.kind == &PID {
            Step::new(Stage::Attach, "takes the launcher back to its own pid namespace", enter)
                .why("only the process that was just made is to be in the other one")
        } else {
            Step::new(Stage::Build, format!("joins the {field} namespace of {}", self.target), enter)
                .why("shared with other processes on purpose")
        };
        vec![prepare, enter.origin(self.origin).witnessed(!shared.host_may_look)]
    }
}

/// Opens the file. A pid namespace can only be entered by being born in it, so the launcher points there.
struct Open {
    join: Join,
    slot: Slot,
}

impl Action for Open {
    fn apply(&mut self, _context: &mut Context<'_>) -> Result<Evidence, Error> {
        let field = self.join.kind.field;
        let file = namespace::open_ns(self.join.path())
            .told(|| format!("cannot open the {field} namespace of {}", self.join.target))
            .map_err(|error| self.join.remedy(error))?;
        self.join.is_the_same()?;
        let kind = namespace::ns_type(&file).told(|| "cannot see what kind of namespace it is".to_owned())?;
        if kind != self.join.kind.flag {
            return Err(Error::setup(format!("{} is no {field} namespace", self.join.target))
                .at(self.join.origin)
                .help(format!("name a file such as /proc/PID/ns/{}", self.join.kind.file)));
        }
        let facts = fd::fstat(&file).told(|| "cannot see the namespace's inode".to_owned())?;
        let mut slot = self.slot.borrow_mut();
        slot.identity = Some((facts.dev, facts.ino));
        if self.join.kind == &PID {
            namespace::setns(&file, PID.flag)
                .told(|| format!("cannot join the pid namespace of {}", self.join.target))?;
        } else {
            slot.file = Some(file);
        }
        Ok(Evidence(format!("{}:[{}]", self.join.kind.file, facts.ino)))
    }

    fn undo(&mut self, _context: &mut Context<'_>) -> Result<(), Error> {
        self.slot.borrow_mut().file = None;
        if self.join.kind == &PID { back_home() } else { Ok(()) }
    }
}

/// Points the launcher to its own pid namespace again, in which it is all the time; only its children are born elsewhere.
fn back_home() -> Result<(), Error> {
    let back = || namespace::setns(namespace::open_ns("/proc/self/ns/pid")?, PID.flag);
    back().told(|| "cannot go back to the own pid namespace".to_owned())
}

struct Enter {
    join: Join,
    slot: Slot,
    shared: Rc<Shared>,
}

impl Enter {
    fn identity(&self) -> Result<Identity, Error> {
        self.slot.borrow().identity.ok_or_else(|| Error::setup("the namespace was not opened"))
    }

    fn judge(&self, found: Identity) -> Result<Evidence, Error> {
        if found == self.identity()? {
            return Ok(Evidence(format!("{}:[{}]", self.join.kind.file, found.1)));
        }
        let field = self.join.kind.field;
        Err(Error::setup(format!("the workload is not in the {field} namespace of {}", self.join.target)))
    }
}

impl Action for Enter {
    fn apply(&mut self, _context: &mut Context<'_>) -> Result<Evidence, Error> {
        if self.join.kind == &PID {
            return back_home().map(|()| Evidence::default());
        }
        let file = self.slot.borrow_mut().file.take();
        let file = file.ok_or_else(|| Error::setup("the namespace was not opened"))?;
        namespace::setns(&file, self.join.kind.flag)
            .told(|| format!("cannot join the {} namespace of {}", self.join.kind.field, self.join.target))?;
        Ok(Evidence::default())
    }

    fn verify(&self, context: &Context<'_>) -> Result<Option<Evidence>, Error> {
        if !self.shared.host_may_look {
            return Ok(None);
        }
        let process = self.shared.process(context.pid()?)?;
        let found = process
            .ns(self.join.kind.file)
            .told(|| format!("cannot see the workload's {} namespace", self.join.kind.field))?;
        self.judge(found).map(Some)
    }

    fn witness(&self, _context: &Context<'_>) -> Result<Evidence, Error> {
        // setns(2) is all or nothing, and the descriptor is the one whose kind was checked.
        self.identity().map(|found| Evidence(format!("{}:[{}]", self.join.kind.file, found.1)))
    }
}
