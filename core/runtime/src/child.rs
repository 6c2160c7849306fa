//! The child: Build, then (with an init) the fork of the workload's own process, Drop, Seal, the hand-shake and
//! execve. It is a forked copy of the launcher, which was single-threaded, so it may allocate.

use crate::init;
use crate::message::{FromChild, Record, Stop, encode, order};
use crate::plan::Plan;
use crate::step::abi_context::Lent;
use crate::step::{apply, of_stage, witness};
use palisade_model::stage::Stage;
use palisade_sys::channel::Channel;
use palisade_sys::{fd, process, signal};
use std::ffi::CString;
use std::os::fd::{AsRawFd as _, OwnedFd};

/// What the child ends with when nothing more can be said; the launcher goes by the message, not by this.
const LOST: i32 = 125;

/// Everything the child needs besides the plan.
pub(crate) struct Child {
    pub(crate) channel: Channel,
    /// For palisade's init: where it tells how the workload ended.
    pub(crate) death: Option<OwnedFd>,
    /// The signal mask that the launcher started with, and the workload gets.
    pub(crate) mask: signal::SigSet,
}

/// Never returns to the launcher's code: it becomes the workload, or it ends.
pub(crate) fn run(plan: &mut Plan, child: Child) -> ! {
    let mut life = Life { plan, channel: &child.channel, lent: Lent::default(), records: Vec::new() };
    if !life.wait_for(order::BUILD) {
        process::exit_now(LOST);
    }
    life.own("palisade could not make itself safe from the workload", guard_self);
    life.stage(Stage::Build);
    // Changing ids makes the kernel forget both.
    life.own("palisade could not make itself safe from the workload", guard_self);
    if !life.wait_for(order::FORK) {
        process::exit_now(LOST);
    }
    if let Some(death) = &child.death {
        match life.own("the workload's process could not be made", process::fork) {
            process::Forked::Parent { pid } => init::run(pid, death.as_raw_fd()),
            process::Forked::Child => life.own("the workload could not be tied to its init", || {
                process::set_pdeathsig(signal::SIGKILL)
            }),
        }
    }
    become_workload(life, &child.mask)
}

/// Non-dumpable: nothing inside may trace us or open our files through /proc. And gone if the launcher is.
fn guard_self() -> palisade_sys::Result<()> {
    process::set_dumpable(false)?;
    process::set_pdeathsig(signal::SIGKILL)
}

fn become_workload(mut life: Life<'_>, mask: &signal::SigSet) -> ! {
    let program = find(&mut life);
    life.stage(Stage::Drop);
    life.own("palisade could not make itself safe from the workload", guard_self);
    let seen = life.witness();
    let settings = &life.plan.process;
    let (argv, env, keep) = (settings.argv(), settings.environment(), settings.keep_fds.clone());
    life.own("the descriptors could not be closed", || {
        fd::set_cloexec_from(3)?;
        keep.iter().try_for_each(|number| fd::clear_cloexec_raw(*number))
    });
    life.own("the signals could not be reset", || {
        signal::reset_all_handlers()?;
        signal::set_mask(mask)
    });
    life.stage(Stage::Seal);
    let records = std::mem::take(&mut life.records);
    life.say(&FromChild::Sealed(records, seen));
    if !life.wait_for(order::RELEASE) {
        process::exit_now(LOST);
    }
    let error = process::exec(&program, &argv, &env);
    let path = program.to_string_lossy().into_owned();
    let stop = if error.errno() == palisade_sys::Errno::ENOENT as i32 {
        Stop::own("the command's interpreter or loader is not in the workload's view", &error)
    } else {
        Stop::NotExecutable(path, error.to_string(), error.errno())
    };
    life.stop(stop)
}

/// Looks the command up in the view that the workload will have, while everything may still be read.
fn find(life: &mut Life<'_>) -> CString {
    let settings = &life.plan.process;
    match process::find_program(settings.command(), settings.path_variable()) {
        Ok(program) => program,
        Err(process::FindError::NotFound) => {
            let name = life.plan.process.command().to_string_lossy().into_owned();
            life.stop(Stop::NotFound(name))
        }
        Err(process::FindError::NotExecutable(path, error)) => life.stop(Stop::NotExecutable(
            path.to_string_lossy().into_owned(),
            error.to_string(),
            error.errno(),
        )),
    }
}

struct Life<'a> {
    plan: &'a mut Plan,
    channel: &'a Channel,
    lent: Lent,
    records: Vec<Record>,
}

impl Life<'_> {
    fn say(&self, message: &FromChild) {
        if self.channel.send(&encode(message)).is_err() {
            // The launcher is gone, and with it whoever could be told.
            process::exit_now(LOST);
        }
    }

    /// Waits for the launcher's word; false where it is gone or says something else.
    fn wait_for(&self, wanted: u8) -> bool {
        let mut bytes = Vec::new();
        matches!(self.channel.recv(&mut bytes), Ok(Some(_))) && bytes == [wanted]
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
            let record = apply(index, step, &mut self.lent);
            let failed = record.came.failed();
            self.records.push(record);
            if failed {
                let records = std::mem::take(&mut self.records);
                self.say(&FromChild::Failed(records));
                process::exit_now(LOST);
            }
        }
    }

    /// What the host may not read, the child reads of itself.
    fn witness(&mut self) -> Vec<Record> {
        let mut seen = Vec::new();
        for (index, step) in self.plan.steps.iter().enumerate().filter(|(_, s)| s.info.witness) {
            let record = witness(index, step, &mut self.lent);
            let failed = record.came.failed();
            seen.push(record);
            if failed {
                let mut records = std::mem::take(&mut self.records);
                records.append(&mut seen);
                self.say(&FromChild::Failed(records));
                process::exit_now(LOST);
            }
        }
        seen
    }
}
