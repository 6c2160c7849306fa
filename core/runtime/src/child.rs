//! The child: Build, then (with an init) the fork of the workload's own process, Drop, Seal, the hand-shake and
//! execve. It is a forked copy of the launcher, which was single-threaded, so it may allocate.

use crate::init;
use crate::message::{Doing, FromChild, Record, Stop, encode, order};
use crate::plan::Plan;
use crate::step::abi_context::Lent;
use crate::step::{apply, of_stage, witness};
use palisade_model::stage::Stage;
use palisade_sys::channel::Channel;
use palisade_sys::memory::SharedNumber;
use palisade_sys::process::{self, Program, ProgramError};
use palisade_sys::{Errno, fd, signal};
use std::convert::Infallible;
use std::ffi::CString;
use std::os::fd::OwnedFd;
use std::panic::{AssertUnwindSafe, catch_unwind};

/// What the child ends with when nothing more can be said; the launcher goes by the message, not by this.
const LOST: i32 = 125;

/// Everything the child needs besides the plan.
pub(crate) struct Child<'a> {
    pub(crate) channel: Channel,
    /// For palisade's init: where it tells how the workload ended.
    pub(crate) death: Option<OwnedFd>,
    /// The signal mask that the launcher started with, and the workload gets.
    pub(crate) mask: signal::SigSet,
    /// Where the launcher sees which step runs.
    pub(crate) doing: &'a SharedNumber,
}

/// Never returns to the launcher's code: it becomes the workload, or it ends. Even a panic ends here: unwinding
/// further, the child would run the launcher's own clean-up and undo what the launcher still needs.
pub(crate) fn run(plan: &mut Plan, child: Child<'_>) -> ! {
    let ran: Result<Infallible, _> = catch_unwind(AssertUnwindSafe(|| live(plan, child)));
    let Err(_panic) = ran;
    process::exit_now(LOST)
}

fn live(plan: &mut Plan, child: Child<'_>) -> ! {
    let Child { channel, death, mask, doing } = child;
    let mut life =
        Life { plan, channel: &channel, doing, lent: Lent::default(), records: Vec::new(), handed: Vec::new() };
    life.wait_for(order::BUILD);
    life.own("palisade could not make itself safe from the workload", guard_self);
    life.stage(Stage::Build);
    // Changing ids makes the kernel forget both.
    life.own("palisade could not make itself safe from the workload", guard_self);
    life.wait_for(order::FORK);
    let Some(death) = death else { become_workload(&mut life, &mask) };
    life.own("pid 1 could not be named", init::hide);
    // The workload's process is made in this memory: a copy would cost more than all that is left to do. Init waits
    // meanwhile, and goes on when the other has become the workload.
    let made = process::vfork(|| {
        life.own("the workload could not be tied to its init", || process::set_pdeathsig(signal::SIGKILL));
        become_workload(&mut life, &mask)
    });
    let pid = life.own("the workload's process could not be made", || made);
    init::run(pid, &death)
}

/// Non-dumpable: nothing inside may trace us or open our files through /proc. And gone if the launcher is.
fn guard_self() -> palisade_sys::Result<()> {
    process::set_dumpable(false)?;
    process::set_pdeathsig(signal::SIGKILL)
}

fn become_workload(life: &mut Life<'_>, mask: &signal::SigSet) -> ! {
    // The launcher reads back what was built while this process drops and seals.
    let built = std::mem::take(&mut life.records);
    life.say(&FromChild::Built(built));
    let program = find(life);
    life.stage(Stage::Drop);
    life.own("palisade could not make itself safe from the workload", guard_self);
    let seen = life.witness();
    let settings = &life.plan.process;
    let (argv, env, keep) = (settings.argv.clone(), settings.env.clone(), settings.keep_fds.clone());
    life.own("the descriptors could not be closed", || {
        fd::set_cloexec_from(3)?;
        keep.iter().try_for_each(|number| fd::clear_cloexec(fd::borrow(*number)?))
    });
    life.own("the signals could not be reset", || {
        signal::reset_all_handlers()?;
        signal::set_mask(mask)
    });
    life.stage(Stage::Seal);
    let records = std::mem::take(&mut life.records);
    let (steps, descriptors): (Vec<u32>, Vec<i32>) = std::mem::take(&mut life.handed).into_iter().unzip();
    life.say_with(&FromChild::Sealed(records, seen, steps), &descriptors);
    life.wait_for(order::RELEASE);
    let error = process::exec(Program::Path(&program), &argv, &env);
    life.stop(if error.kind() == Errno::ENOENT {
        Stop::own("the command's interpreter or loader is not in the workload's view", &error)
    } else {
        Stop::NotExecutable(program.to_string_lossy().into_owned(), error.to_string(), error.errno())
    })
}

/// Looks the command up in the view that the workload will have, while everything may still be read.
fn find(life: &mut Life<'_>) -> CString {
    let settings = &life.plan.process;
    match process::find_program(settings.command(), settings.path()) {
        Ok(program) => program,
        Err(ProgramError::NotFound { name, searched }) => {
            let searched = searched.iter().map(|dir| dir.display().to_string()).collect();
            life.stop(Stop::NotFound(name.display().to_string(), searched))
        }
        Err(ProgramError::NotExecutable { path, reason }) => {
            life.stop(Stop::NotExecutable(path.display().to_string(), reason, 0))
        }
    }
}

struct Life<'a> {
    plan: &'a mut Plan,
    channel: &'a Channel,
    doing: &'a SharedNumber,
    lent: Lent,
    records: Vec<Record>,
    /// What steps handed over: which step, and which descriptor.
    handed: Vec<(u32, i32)>,
}

impl Life<'_> {
    fn say(&self, message: &FromChild) {
        self.say_with(message, &[]);
    }

    fn say_with(&self, message: &FromChild, descriptors: &[i32]) {
        let message = encode(message);
        // Two calls, since a filter may know the one and not the other.
        let said = match descriptors {
            [] => self.channel.send(&message),
            some => self.channel.send_with(&message, some),
        };
        if said.is_err() {
            // The launcher is gone, and with it whoever could be told.
            process::exit_now(LOST);
        }
    }

    /// Waits for the launcher's word. Where it is gone, or says something else, this is the end.
    fn wait_for(&self, wanted: u8) {
        let mut bytes = Vec::new();
        if !matches!(self.channel.recv(&mut bytes), Ok(Some(_))) || bytes != [wanted] {
            process::exit_now(LOST);
        }
    }

    fn stop(&mut self, stop: Stop) -> ! {
        let records = std::mem::take(&mut self.records);
        self.say(&FromChild::Stopped(records, stop));
        process::exit_now(LOST)
    }

    fn own<T>(&mut self, what: &str, call: impl FnOnce() -> palisade_sys::Result<T>) -> T {
        match call() {
            Ok(value) => value,
            Err(error) => self.stop(Stop::own(what, &error)),
        }
    }

    /// Runs a stage; the first step that fails ends the child.
    fn stage(&mut self, stage: Stage) {
        for index in of_stage(self.plan, stage, |_| true) {
            let Some(step) = self.plan.steps.get_mut(index) else { continue };
            self.doing.set(Doing::Step(index).number());
            let record = apply(index, step, &mut self.lent);
            self.doing.set(Doing::Own.number());
            self.handed.extend(self.lent.handed.drain(..).map(|fd| (record.step, fd)));
            let failed = record.came.failed();
            self.records.push(record);
            if failed {
                self.fail(Vec::new());
            }
        }
    }

    fn fail(&mut self, mut last: Vec<Record>) -> ! {
        let mut records = std::mem::take(&mut self.records);
        records.append(&mut last);
        self.say(&FromChild::Failed(records));
        process::exit_now(LOST)
    }

    /// What the host may not read, the child reads of itself.
    fn witness(&mut self) -> Vec<Record> {
        let mut seen = Vec::new();
        for (index, step) in self.plan.steps.iter().enumerate().filter(|(_, s)| s.info.witness) {
            self.doing.set(Doing::Step(index).number());
            let record = witness(index, step, &mut self.lent);
            self.doing.set(Doing::Own.number());
            let failed = record.came.failed();
            seen.push(record);
            if failed {
                self.fail(seen);
            }
        }
        seen
    }
}
