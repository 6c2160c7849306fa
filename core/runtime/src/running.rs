//! A running workload: signals, time limits, output and watchers, until it ends.

mod denied;
mod forward;

use crate::entries::Entries;
use crate::error::Trouble;
use crate::explain::Denials;
use crate::launch::{Failed, Launch};
use crate::message::{Death, FromChild, Lapse, decode};
use crate::pump::Passed;
use crate::report::Finished;
use crate::samples::Sampler;
use crate::tree;
use palisade_model::report::{Clock, Ended, Report};
use palisade_model::stage::Stage;
use palisade_sys::event::{PollItem, poll};
use palisade_sys::{fd, memory, process, signal};
use std::os::fd::AsFd as _;
use std::time::{Duration, Instant};

/// How long a workload that was asked to end may take before it is killed, where the policy does not say.
const GRACE: Duration = Duration::from_secs(2);
/// How long a reader may take for what is left when a limit ended the workload.
const LAST_OUTPUT: Duration = Duration::from_secs(1);
/// How often the processor time of everything inside is added up, where the policy limits it.
const CPU_TICK: Duration = Duration::from_millis(100);
/// A workload that runs longer than this is worth giving memory back for.
const SETTLED: Duration = Duration::from_millis(100);

/// A workload that was released.
#[derive(Debug)]
pub struct Running {
    launch: Box<Launch>,
    released: Instant,
    /// A limit that was reached, and when the workload is killed for it.
    ending: Option<(Reached, Instant)>,
    settled: bool,
    failed_exec: Option<Trouble>,
    channel_open: bool,
    /// The descriptors that isolators watch: whose, and which.
    watched: Vec<(usize, i32)>,
    sampler: Sampler,
    denials: Denials,
}

/// A limit of the launcher's own.
#[derive(Clone, Debug)]
enum Reached {
    Time(Clock, Duration),
    Output(u64),
    Watcher(String, String),
}

/// What one look at the descriptors found.
enum Seen {
    Nothing,
    Died(Death),
    Gone,
}

impl Running {
    pub(crate) fn new(mut launch: Launch) -> Self {
        if launch.signals.is_none() {
            // The program around us has its own use for signals.
            if let Err(error) = signal::set_mask(&launch.mask) {
                launch.failures.push(error.to_string());
            }
        }
        let isolators = launch.plan.isolators.iter().enumerate();
        let watched =
            isolators.flat_map(|(index, isolator)| isolator.object.watch().into_iter().map(move |fd| (index, fd)));
        let watched = watched.collect();
        let waiting = std::mem::take(&mut launch.waiting);
        let sampler = Sampler::new(std::mem::take(&mut launch.options.sampling));
        let running = Self {
            launch: Box::new(launch),
            released: Instant::now(),
            ending: None,
            settled: false,
            failed_exec: None,
            channel_open: true,
            watched,
            sampler,
            denials: Denials::default(),
        };
        waiting.into_iter().for_each(|signal| running.tell(signal));
        running
    }

    /// The workload's process id, as the host sees it.
    #[must_use]
    pub fn pid(&self) -> Option<i32> {
        self.launch.lent.pid
    }

    /// Waits until the workload has ended, undoes everything, and reports.
    ///
    /// # Errors
    /// The command could not be executed, or the workload could not be waited for. Everything is undone.
    pub fn wait(mut self) -> Result<Report, Failed> {
        let death = self.until_death();
        let wall = self.released.elapsed();
        // What is left inside ends now, so that nothing holds the pipes open.
        self.launch.kill_all();
        self.drain();
        // Whatever is said from here on is said in the caller's own mode.
        self.launch.terminal = None;
        self.sample(true);
        let finished = self.launch.finish();
        self.launch.mark("run");
        self.launch.end();
        self.launch.mark("undo");
        match (death, self.failed_exec.take()) {
            (_, Some(trouble)) | (Err(trouble), None) => Err(self.launch.failed(trouble)),
            (Ok(death), None) => {
                let denials = self.denials(&death);
                let ended = self.ending.take().map(|(reached, _)| ended_by(reached));
                let report = crate::report::ended(&self.launch, &death, ended, wall, finished);
                Ok(Report { series: self.sampler.series(), denials, ..report })
            }
        }
    }

    /// Waits, but no longer than this; what has not ended by then is killed.
    pub(crate) fn wait_at_most(mut self, limit: Duration) -> Result<Report, Failed> {
        let settings = &mut self.launch.plan.process;
        settings.timeout = Some(self.released.elapsed().saturating_add(limit));
        settings.grace = Some(Duration::ZERO);
        self.wait()
    }

    /// Passes the last of the output on; a reader that does not come for it may hold us up as long as the workload.
    fn drain(&mut self) {
        let settings = &self.launch.plan.process;
        let deadline = match &self.ending {
            Some(_) => Some(Instant::now() + LAST_OUTPUT),
            None => settings.timeout.and_then(|timeout| self.released.checked_add(timeout)),
        };
        let limit = settings.output_limit.unwrap_or_default();
        if let Some(terminal) = &self.launch.terminal {
            terminal.last_output();
        }
        let Some(pump) = &mut self.launch.pump else { return };
        match pump.drain(deadline, self.launch.signals.as_ref()) {
            Ok((passed, all)) => {
                if passed == Passed::Full && self.ending.is_none() {
                    self.ending = Some((Reached::Output(limit), Instant::now()));
                }
                // What comes after a limit may be lost.
                if !all && self.ending.is_none() {
                    self.launch.failures.push("the last of the output was not read, and is lost".to_owned());
                }
            }
            Err(error) => self.launch.failures.push(error.to_string()),
        }
    }

    fn until_death(&mut self) -> Result<Death, Trouble> {
        loop {
            match self.look()? {
                Seen::Nothing => {
                    self.sample(false);
                    self.check_limits();
                }
                Seen::Died(death) => return Ok(death),
                Seen::Gone => return self.wait_status(),
            }
        }
    }

    fn sample(&mut self, end: bool) {
        let elapsed = self.released.elapsed();
        let failures = self.sampler.take(&mut self.launch.plan.isolators, elapsed, end);
        self.launch.failures.extend(failures);
    }

    /// Waits for the next thing to happen and deals with it.
    fn look(&mut self) -> Result<Seen, Trouble> {
        let timeout = self.next_look();
        let Some(born) = &self.launch.born else { return Ok(Seen::Gone) };
        let mut items = vec![(Source::Process, PollItem::read(born.pidfd.as_fd()))];
        items.extend(born.death.as_ref().map(|fd| (Source::Death, PollItem::read(fd.as_fd()))));
        if self.channel_open {
            items.push((Source::Channel, PollItem::read(born.channel.as_fd())));
        }
        items.extend(self.launch.signals.as_ref().map(|s| (Source::Signal, PollItem::read(s.as_fd()))));
        let outputs = self.launch.pump.iter().flat_map(crate::pump::Pump::items);
        items.extend(outputs.map(|(index, item)| (Source::Output(index), item)));
        items.extend(self.launch.terminal.iter().filter_map(|t| Some((Source::Typed, t.item()?))));
        for (index, number) in self.watched.iter().copied() {
            let watched = fd::borrow(number).map_err(|e| {
                let name = self.launch.plan.isolators.get(index).map(|isolator| isolator.name.as_str());
                Trouble::call("it watches a descriptor that is not open", &e).of(name.unwrap_or_default())
            })?;
            items.push((Source::Watched(index, number), PollItem::read(watched)));
        }
        let ready = wait_for(items, timeout)?;
        // The last words of an init come before the news that it is gone.
        for source in ready {
            match self.deal(source)? {
                Seen::Nothing => {}
                news => return Ok(news),
            }
        }
        Ok(Seen::Nothing)
    }

    fn deal(&mut self, source: Source) -> Result<Seen, Trouble> {
        match source {
            Source::Death => Ok(self.read_death()?.map_or(Seen::Gone, Seen::Died)),
            Source::Process => Ok(self.read_death()?.map_or(Seen::Gone, Seen::Died)),
            Source::Channel => self.read_channel().map(|()| Seen::Nothing),
            Source::Signal => self.forward().map(|()| Seen::Nothing),
            Source::Output(index) => {
                self.output(index);
                Ok(Seen::Nothing)
            }
            Source::Typed => {
                self.typed();
                Ok(Seen::Nothing)
            }
            Source::Watched(index, fd) => {
                self.watched(index, fd);
                Ok(Seen::Nothing)
            }
        }
    }

    fn watched(&mut self, index: usize, fd: i32) {
        let Some(name) = self.launch.plan.isolators.get(index).map(|isolator| isolator.name.clone()) else { return };
        let met = match Entries::begin() {
            Err(trouble) => Err(trouble.headline()),
            Ok(entries) => self.meet(index, fd, &entries),
        };
        self.watched.retain(|(whose, _)| *whose != index);
        match met {
            Ok(fds) => self.watched.extend(fds.into_iter().map(|fd| (index, fd))),
            // A watcher that fails no longer watches, and the policy asked for it.
            Err(why) => self.reach(Reached::Watcher(name, why)),
        }
    }

    fn read_death(&mut self) -> Result<Option<Death>, Trouble> {
        let Some(pipe) = self.launch.born.as_ref().and_then(|born| born.death.as_ref()) else {
            return Ok(None);
        };
        let bytes = fd::read_some(pipe, 64).map_err(|e| Trouble::call("init's word could not be read", &e))?;
        if bytes.is_empty() { Ok(None) } else { decode(&bytes).map(Some) }
    }

    /// After the release the channel has news only if execve failed; its end means that it did not.
    fn read_channel(&mut self) -> Result<(), Trouble> {
        let Some(born) = &self.launch.born else { return Ok(()) };
        let mut bytes = Vec::new();
        let heard = born.channel.recv(&mut bytes).map_err(|e| Trouble::call("the child could not be heard", &e))?;
        if heard.is_none() {
            self.channel_open = false;
            return Ok(());
        }
        if let FromChild::Stopped(_, stop) = decode(&bytes)? {
            self.failed_exec = Some(stop.trouble());
        }
        Ok(())
    }

    fn next_look(&self) -> Option<Duration> {
        let settings = &self.launch.plan.process;
        let elapsed = self.released.elapsed();
        let ending = self.ending.as_ref().map(|(_, at)| at.saturating_duration_since(Instant::now()));
        let wall = settings.timeout.filter(|_| self.ending.is_none()).map(|t| t.saturating_sub(elapsed));
        let cpu = settings.cpu_time.filter(|_| self.ending.is_none()).map(|_| CPU_TICK);
        let settle = (!self.settled).then(|| SETTLED.saturating_sub(elapsed));
        let sample = self.sampler.next().map(|at| at.saturating_sub(elapsed));
        let typed = self.launch.terminal.as_ref().and_then(crate::terminal::Proxy::next);
        [ending, wall, cpu, settle, sample, typed].into_iter().flatten().min()
    }

    fn check_limits(&mut self) {
        let elapsed = self.released.elapsed();
        if !self.settled && elapsed >= SETTLED {
            self.settled = true;
            memory::trim();
            // What stays resident costs memory, nothing else.
            memory::release_file_pages().ok();
        }
        if let Some((_, at)) = &self.ending {
            if Instant::now() >= *at {
                self.kill();
            }
            return;
        }
        let (timeout, cpu_time) = {
            let settings = &self.launch.plan.process;
            (settings.timeout, settings.cpu_time)
        };
        if let Some(limit) = timeout.filter(|limit| elapsed >= *limit) {
            self.reach(Reached::Time(Clock::Wall, limit));
        } else if let Some(limit) = cpu_time {
            let root = self.launch.born.as_ref().map_or(0, |born| born.pid);
            if tree::cpu_time(root) >= limit {
                self.reach(Reached::Time(Clock::Cpu, limit));
            }
        }
    }

    /// A limit is reached: TERM, the grace, then KILL of everything inside.
    fn reach(&mut self, reached: Reached) {
        if self.ending.is_some() {
            return;
        }
        let grace = self.launch.plan.process.grace.unwrap_or(GRACE);
        self.ending = Some((reached, Instant::now() + grace));
        self.tell(signal::SIGTERM);
        // A stopped workload could not act on it.
        self.tell(signal::SIGCONT);
    }

    fn kill(&self) {
        if let Some(born) = &self.launch.born {
            process::pidfd_send_signal(&born.pidfd, signal::SIGKILL).ok();
        }
    }

    /// Without an init, or where the init was killed: what the kernel says of the process that was cloned.
    fn wait_status(&mut self) -> Result<Death, Trouble> {
        let Some(born) = &self.launch.born else {
            return Err(Trouble::new(crate::error::Kind::Setup, "there is no process"));
        };
        let status = process::waitid(process::Target::PidFd(born.pidfd.as_fd()), false)
            .map_err(|e| Trouble::call("the workload could not be waited for", &e))?
            .ok_or_else(|| Trouble::new(crate::error::Kind::Setup, "the workload has no status"))?;
        Ok(Death::from(status))
    }
}

impl Launch {
    /// Lets steps of stage Finish run and asks every isolator what it has to say.
    fn finish(&mut self) -> Finished {
        if let Err(trouble) = self.host_stage(Stage::Finish, |_| true) {
            self.failures.push(trouble.headline());
        }
        let mut finished = Finished::default();
        let entries = match Entries::begin() {
            Ok(entries) => entries,
            Err(trouble) => {
                self.failures.push(trouble.headline());
                return finished;
            }
        };
        for isolator in &mut self.plan.isolators {
            let name = isolator.name.clone();
            match entries.call(&name, "finish", || isolator.object.finish()).into_result() {
                Ok(raw) => finished.add(&name, raw, &self.plan.sources),
                Err(failure) => self.failures.push(format!("{name}: {}", Lapse::from(failure).line())),
            }
        }
        finished
    }
}

fn ended_by(reached: Reached) -> Ended {
    match reached {
        Reached::Time(kind, limit) => Ended::TimedOut { limit: palisade_model::units::Time(limit).to_string(), kind },
        Reached::Output(limit) => Ended::LimitHit {
            limit: format!("output_limit {}", palisade_model::units::Size(limit)),
            plugin: crate::plan::CORE.to_owned(),
        },
        Reached::Watcher(plugin, what) => Ended::LimitHit { limit: what, plugin },
    }
}

#[derive(Clone, Copy)]
enum Source {
    Death,
    Process,
    Channel,
    Signal,
    Output(usize),
    Typed,
    Watched(usize, i32),
}

fn wait_for(items: Vec<(Source, PollItem<'_>)>, timeout: Option<Duration>) -> Result<Vec<Source>, Trouble> {
    let (sources, mut polled): (Vec<Source>, Vec<PollItem<'_>>) = items.into_iter().unzip();
    poll(&mut polled, timeout).map_err(|e| Trouble::call("the workload could not be watched", &e))?;
    let ready = sources.into_iter().zip(&polled).filter(|(_, item)| item.is_ready());
    let mut ready: Vec<Source> = ready.map(|(source, _)| source).collect();
    // A failed execve must be known before the end that follows it.
    ready.sort_by_key(|source| match source {
        Source::Channel => 0,
        Source::Output(_) | Source::Typed | Source::Watched(..) | Source::Signal => 1,
        Source::Death => 2,
        Source::Process => 3,
    });
    Ok(ready)
}
