//! The process: its birth with all namespaces at once, and the hand-shake with it.

use crate::child::{self, Child};
use crate::entries::Entries;
use crate::error::{Kind, Trouble};
use crate::launch::Launch;
use crate::message::{Came, Doing, FromChild, Record, decode};
use crate::pump::Pump;
use crate::terminal::Proxy;
use crate::{message, tree};
use palisade_sys::channel::{Channel, Sender};
use palisade_sys::event::{PollItem, poll};
use palisade_sys::memory::SharedNumber;
use palisade_sys::process::{self, Ended, Target};
use palisade_sys::{Errno, fd, namespace, signal};
use std::os::fd::{AsFd as _, BorrowedFd, IntoRawFd as _, OwnedFd};
use std::time::{Duration, Instant};

/// How long the child may take from its birth to "sealed", where the caller does not say.
const SETUP_LIMIT: Duration = Duration::from_secs(120);

/// What was born.
pub(crate) struct Born {
    /// The process that was cloned: palisade's init where there is one, else the workload's own.
    pub(crate) pidfd: OwnedFd,
    pub(crate) pid: i32,
    pub(crate) channel: Channel,
    /// From palisade's init: how the workload ended.
    pub(crate) death: Option<OwnedFd>,
    /// The workload's own process, once it has spoken.
    pub(crate) workload: Option<OwnedFd>,
    /// When.
    begun: Instant,
    /// What the child is at.
    doing: SharedNumber,
    /// Given up last: with it end the orphans.
    seat: tree::Seat,
}

fn fail(what: &'static str) -> impl Fn(palisade_sys::Error) -> Trouble {
    move |error| Trouble::call(what, &error)
}

fn out_of_turn() -> Trouble {
    Trouble::new(Kind::Setup, "the child said something out of turn")
}

impl Launch {
    /// Whether palisade's own init is to be pid 1.
    fn wants_init(&self, flags: u64) -> Result<bool, Trouble> {
        let new_pids = flags & namespace::CLONE_NEWPID != 0;
        match &self.plan.process.init {
            Some(init) if init.value && !new_pids => {
                let help = "give the workload a pid namespace of its own, or take the line out";
                let diagnostic = palisade_model::diag::Diagnostic::new("an init needs a new pid namespace");
                let diagnostic = diagnostic.at_opt(init.origin).help(help);
                Err(Trouble::diagnostic(Kind::Policy, &diagnostic, &self.plan.sources))
            }
            Some(init) => Ok(init.value),
            None => Ok(new_pids),
        }
    }

    pub(crate) fn give_birth(&mut self) -> Result<(), Trouble> {
        let (ours, theirs) = Channel::pair().map_err(fail("the channel to the child could not be made"))?;
        ours.enable_credentials().map_err(fail("the channel to the child could not be made"))?;
        let doing = SharedNumber::new(Doing::Own.number()).map_err(fail("a shared page could not be had"))?;
        let flags = self.plan.clone_flags();
        let init = self.wants_init(flags)?;
        let pipe = init.then(fd::pipe).transpose();
        let (death_in, death_out) = pipe.map_err(fail("a pipe could not be made"))?.unzip();
        self.terminal = Proxy::wanted(&self.plan.process);
        let pump = Pump::wanted(&self.plan.process, self.terminal.as_ref());
        self.pump = pump.map_err(fail("the output could not be piped"))?;
        // Without an init, orphans inside come to us instead of to the host's init, so that none outlives the launch.
        let mut seat = tree::Seat::take(!init).map_err(fail("orphans could not be adopted"))?;
        let cgroup = self.lent.cgroup.map(fd::borrow).transpose();
        let cgroup: Option<BorrowedFd<'_>> = cgroup.map_err(fail("a plugin offered a cgroup that is not open"))?;
        match process::clone3(flags, cgroup).map_err(fail("the process could not be created"))? {
            process::Cloned::Child => {
                drop(ours);
                drop(death_in);
                // With them it could read what is typed, and write what looks like output.
                drop((self.terminal.take(), self.pump.take()));
                let child = Child { channel: theirs, death: death_out, mask: self.mask, doing: &doing };
                child::run(&mut self.plan, child)
            }
            process::Cloned::Parent { pid, pidfd } => {
                self.lent.init_pid = Some(pid);
                self.lent.pid = Some(pid);
                seat.born(pid);
                let begun = Instant::now();
                let born = Born { pidfd, pid, channel: ours, death: death_in, workload: None, begun, doing, seat };
                self.born = Some(born);
                Pump::born(&self.plan.process);
                Ok(())
            }
        }
    }

    fn born(&self) -> Result<&Born, Trouble> {
        self.born.as_ref().ok_or_else(|| Trouble::new(Kind::Setup, "there is no process"))
    }

    pub(crate) fn say(&mut self, word: u8) -> Result<(), Trouble> {
        match self.born()?.channel.send(&[word]) {
            Ok(()) => Ok(()),
            // The child ended by itself; what it said before is better than a broken pipe.
            Err(_) => self.hear().and_then(|_more| Err(self.lost())),
        }
    }

    /// Waits for the word of the workload's own process that the view is built, and keeps hold of it.
    pub(crate) fn meet(&mut self) -> Result<(), Trouble> {
        let (FromChild::Built(records), Sender { pid: sender, .. }) = self.hear()? else { return Err(out_of_turn()) };
        // It drops and seals meanwhile, and waits for our word then: its number is its own unless it has given up.
        let workload = match process::pidfd_open(sender) {
            Err(gone) if gone.kind() == Errno::ESRCH => {
                self.keep_all(records)?;
                return self.hear().and_then(|_more| Err(self.lost()));
            }
            held => held.map_err(fail("the workload's process could not be held"))?,
        };
        if let Some(born) = &mut self.born {
            born.workload = Some(workload);
        }
        self.lent.pid = Some(sender);
        self.keep_all(records)
    }

    /// Waits for its word that it is sealed.
    pub(crate) fn sealed(&mut self) -> Result<(), Trouble> {
        let (FromChild::Sealed(records, seen, steps), sender) = self.hear()? else { return Err(out_of_turn()) };
        if self.lent.pid != Some(sender.pid) || steps.len() != sender.descriptors.len() {
            return Err(out_of_turn());
        }
        self.keep_all(records)?;
        seen.into_iter().try_for_each(|record| self.see(record))?;
        self.hand_on(steps.into_iter().zip(sender.descriptors).collect())
    }

    /// Gives each descriptor to the isolator whose step handed it over.
    fn hand_on(&mut self, handed: Vec<(u32, OwnedFd)>) -> Result<(), Trouble> {
        if self.plan.workload.explain && handed.is_empty() {
            return Err(Trouble::new(Kind::Policy, "no plugin of this policy can see what is denied to the workload")
                .row("help", "run it without an explanation, or under a policy that filters system calls"));
        }
        if handed.is_empty() {
            return Ok(());
        }
        let entries = Entries::begin()?;
        for (step, fd) in handed {
            let info = self.plan.steps.get(step as usize).map(|step| &step.info).ok_or_else(out_of_turn)?;
            let isolator = self.plan.isolators.iter_mut().find(|isolator| isolator.name == info.plugin);
            let isolator = isolator.ok_or_else(out_of_turn)?;
            let taken = entries.call(&info.plugin, "take", || isolator.object.take(fd.into_raw_fd())).into_result();
            taken.map_err(|f| Trouble::from_plugin(&info.plugin, f.into(), info.origin, &self.plan.sources))?;
        }
        Ok(())
    }

    /// What the child says next, and which process said it. Where it says that it could not go on, that is the error.
    fn hear(&mut self) -> Result<(FromChild, Sender), Trouble> {
        self.listen()?;
        let born = self.born()?;
        let mut bytes = Vec::new();
        let sender = born.channel.recv_from(&mut bytes).map_err(fail("the child could not be heard"))?;
        let Some(sender) = sender else { return Err(self.lost()) };
        match decode(&bytes)? {
            FromChild::Failed(records) => {
                self.keep_all(records)?;
                Err(Trouble::new(Kind::Setup, "the child gave up without a reason"))
            }
            FromChild::Stopped(records, stop) => {
                self.keep_all(records)?;
                Err(stop.trouble())
            }
            message => Ok((message, sender)),
        }
    }

    /// Waits until the child has said something. Whoever wants us to end meanwhile need not wait for it.
    fn listen(&mut self) -> Result<(), Trouble> {
        let limit = self.options.setup_limit.unwrap_or(SETUP_LIMIT);
        let begun = self.born()?.begun;
        loop {
            let mut items = vec![PollItem::read(self.born()?.channel.as_fd())];
            items.extend(self.signals.as_ref().map(|signals| PollItem::read(signals.as_fd())));
            let left = limit.saturating_sub(begun.elapsed());
            let ready = poll(&mut items, Some(left)).map_err(fail("the child could not be waited for"))?;
            if ready == 0 {
                let why = format!("the child was not ready after {} s", limit.as_secs());
                return Err(self.blame(Trouble::new(Kind::Setup, why)));
            }
            if items.first().is_some_and(PollItem::is_ready) {
                return Ok(());
            }
            let Some(signals) = &self.signals else { continue };
            let received = signals.read().map_err(fail("signals could not be read"))?;
            let Some(received) = received else { continue };
            if signal::ENDING.contains(&received.signal) {
                let why = format!("{} came before the workload was started", signal::show(received.signal));
                return Err(Trouble::new(Kind::Setup, why));
            }
            // One from the terminal waits for the child itself.
            self.waiting.extend((!received.from_kernel).then_some(received.signal));
        }
    }

    fn keep_all(&mut self, records: Vec<Record>) -> Result<(), Trouble> {
        records.into_iter().try_for_each(|record| self.keep(record))
    }

    /// What a step saw of itself from inside.
    fn see(&mut self, record: Record) -> Result<(), Trouble> {
        match record.came {
            Came::Done(evidence) => {
                self.seen.insert(record.step as usize, evidence);
                Ok(())
            }
            _ => self.keep(record),
        }
    }

    /// The child ended without a word.
    fn lost(&mut self) -> Trouble {
        let Ok(born) = self.born() else {
            return Trouble::new(Kind::Setup, "there is no process");
        };
        // Of two processes one may be left, waiting for the other.
        process::pidfd_send_signal(&born.pidfd, signal::SIGKILL).ok();
        let status = process::waitid(Target::PidFd(born.pidfd.as_fd()), false).ok().flatten();
        let how = match status.map(|status| status.ended) {
            Some(Ended::Exited(code)) => format!("the child exited with status {code} during set-up"),
            Some(Ended::Signaled { signal, .. }) if signal != signal::SIGKILL => {
                format!("the child was ended by {} during set-up", signal::show(signal))
            }
            _ => "the child was killed during set-up".to_owned(),
        };
        self.blame(Trouble::new(Kind::Setup, how))
    }

    /// Names the step that the child was at.
    fn blame(&self, mut trouble: Trouble) -> Trouble {
        let doing = self.born.as_ref().map_or(Doing::Own, |born| Doing::of(born.doing.get()));
        let step = match doing {
            Doing::Own => None,
            Doing::Step(index) => self.plan.steps.get(index).filter(|s| message::in_child(s.info.stage)),
        };
        let Some(info) = step.map(|step| &step.info) else {
            return trouble.row(
                "help",
                "no step of a plugin was running: something outside may have ended it, such as the OOM killer",
            );
        };
        trouble.kind = Kind::Plugin;
        trouble.stage = Some(info.stage);
        trouble
            .of(&info.plugin)
            .row("step", format!("{} ({})", info.words, info.stage))
            .row("policy", info.origin.map(|o| self.plan.sources.locate(o)).unwrap_or_default())
            .row("help", "the step ended the process or never came back; report it to the plugin's author")
    }

    /// Ends everything inside.
    pub(crate) fn kill_all(&mut self) {
        let Some(born) = self.born.take() else { return };
        // ESRCH: it has ended, and was waited for.
        process::pidfd_send_signal(&born.pidfd, signal::SIGKILL).ok();
        process::waitid(Target::PidFd(born.pidfd.as_fd()), false).ok();
        drop(born.seat);
    }
}
