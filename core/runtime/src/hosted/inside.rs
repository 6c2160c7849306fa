//! The helper: a copy of the launcher that gives up everything, opens the plugin, and answers.

use super::talk::{Answer, Facts, Reply, Request, Told, ToldHit};
use crate::library::{Library, load};
use crate::message::{Lapse, encode};
use palisade_abi::abi_stable::std_types::Tuple2;
use palisade_abi::seam::{Failure, RawFacts, RawHit, RawIsolator, RawOrigin, RawStep};
use palisade_abi::{Error, ErrorContext as _, ErrorKind, Host, Support, host};
use palisade_sys::channel::{Channel, MAX_MESSAGE};
use palisade_sys::event::{PollItem, poll};
use palisade_sys::limits::{Resource, set_rlimit};
use palisade_sys::procfs::Proc;
use palisade_sys::{caps, fd, guard, landlock, process, seccomp, signal};
use std::os::fd::{AsFd as _, AsRawFd as _, OwnedFd};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::Duration;

/// What the process is called.
const NAME: &str = "palisade-host";
/// What it may have of memory, beyond what the launcher had mapped.
const MEMORY: u64 = 256 << 20;
/// Processor time in seconds, for as long as the launch goes on.
const PROCESSOR: u64 = 60;
/// Descriptors; above all that the launcher could have had open.
const DESCRIPTORS: u64 = 4096;

/// What a helper is given.
#[derive(Debug)]
pub(super) struct Given<'a> {
    pub(super) channel: Channel,
    /// Where it says that something it watches can be read.
    pub(super) notice: OwnedFd,
    /// The plugin's file, which was checked.
    pub(super) file: &'a OwnedFd,
    pub(super) layout_known: bool,
    pub(super) reference: &'a str,
    pub(super) launcher: i32,
}

/// Never returns to the launcher's code.
pub(super) fn run(given: Given<'_>) -> ! {
    let lived = catch_unwind(AssertUnwindSafe(|| live(given)));
    process::exit_now(if lived.is_ok() { 0 } else { 1 })
}

fn live(given: Given<'_>) {
    let Given { channel, notice, file, layout_known, reference, launcher } = given;
    let opened = confine(&channel, &notice, file, launcher).and_then(|()| {
        let found = load(file.as_fd(), layout_known, reference);
        found.map_err(|error| Error::new(ErrorKind::Plugin, error.to_string()))
    });
    let mut bytes = Vec::new();
    // The first request asks whether this went well.
    if !matches!(channel.recv(&mut bytes), Ok(Some(_))) {
        return;
    }
    match opened {
        Ok(found) => {
            say(&channel, Ok(Reply::Done));
            Life { channel, notice, library: found.library, isolator: None, told: false }.serve();
        }
        Err(error) => say(&channel, Err(Failure::from(error).into())),
    }
}

/// Gives up what the launcher has. All of it comes before the file is opened: that runs its constructors.
fn confine(channel: &Channel, notice: &OwnedFd, file: &OwnedFd, launcher: i32) -> Result<(), Error> {
    guard::forget();
    let unable = || "the plugin's own process cannot be confined";
    let first = || {
        process::set_pdeathsig(signal::SIGKILL)?;
        if process::getppid() != launcher {
            // It was gone before.
            process::exit_now(0);
        }
        // Not in the reach of keys that are typed at the launcher.
        process::setsid()?;
        process::set_dumpable(false)?;
        process::set_name(NAME)?;
        process::set_command_line(NAME)?;
        process::forget_environment()?;
        signal::reset_all_handlers()?;
        signal::set_mask(&signal::SigSet::empty())
    };
    first().doing(unable)?;
    streams().doing(unable)?;
    let mut keep = vec![channel.as_fd().as_raw_fd(), notice.as_raw_fd(), file.as_raw_fd()];
    keep.extend(host::kept());
    fd::close_range_from(3, &keep).doing(unable)?;
    host::preload();
    limits().doing(unable)?;
    let last = || {
        caps::set(caps::Caps::default())?;
        process::set_no_new_privs()?;
        process::set_pdeathsig(signal::SIGKILL)?;
        landlock::read_only(file)?;
        seccomp::confine_helper()
    };
    last().doing(unable).map_err(|error| Error { kind: ErrorKind::Host, ..error })
}

/// What it reads is empty, what it writes is lost: the launcher's own streams are the workload's.
fn streams() -> palisade_sys::Result<()> {
    let null = fd::open_path("/dev/null", fd::O_RDWR)?;
    (0..3).try_for_each(|number| fd::dup_to(&null, number))
}

fn limits() -> palisade_sys::Result<()> {
    let status = Proc::host()?.own()?.read("status")?;
    let size = status.lines().find_map(|line| line.strip_prefix("VmSize:")?.trim().strip_suffix(" kB")?.parse().ok());
    let mapped = size.unwrap_or(0_u64).saturating_mul(1024);
    for (name, limit) in [
        ("as", mapped.saturating_add(MEMORY)),
        ("cpu", PROCESSOR),
        ("nofile", DESCRIPTORS),
        ("core", 0),
        ("fsize", 0),
        ("memlock", 0),
    ] {
        let Some(resource) = Resource::from_name(name) else { continue };
        let (_, hard) = palisade_sys::limits::get_rlimit(resource)?;
        let limit = limit.min(hard);
        set_rlimit(resource, limit, limit)?;
    }
    Ok(())
}

fn say(channel: &Channel, answer: Answer) {
    let mut message = encode(&answer);
    if message.len() > MAX_MESSAGE {
        let why = format!("its answer is {} bytes long, and may have {MAX_MESSAGE}", message.len());
        let refused: Answer = Err(Failure::from(Error::new(ErrorKind::Plugin, why)).into());
        message = encode(&refused);
    }
    if channel.send(&message).is_err() {
        // The launcher is gone.
        process::exit_now(0);
    }
}

struct Life {
    channel: Channel,
    notice: OwnedFd,
    library: Box<dyn Library>,
    isolator: Option<RawIsolator>,
    /// Whether the launcher was told that something can be read, and has not come for it.
    told: bool,
}

impl Life {
    fn serve(&mut self) {
        loop {
            let watched = if self.told { Vec::new() } else { self.watched() };
            let (asked, ready) = wait(&self.channel, &watched, None);
            if asked {
                let mut bytes = Vec::new();
                if !matches!(self.channel.recv(&mut bytes), Ok(Some(_))) {
                    return;
                }
                let Ok(request) = postcard::from_bytes(&bytes) else { return };
                let answer = self.answer(request).map_err(|error| Lapse::from(Failure::from(error)));
                say(&self.channel, answer);
            } else if !ready.is_empty() {
                self.told = true;
                if fd::write(&self.notice, b"r").is_err() {
                    return;
                }
            }
        }
    }

    fn watched(&self) -> Vec<i32> {
        self.isolator.as_ref().map(|isolator| isolator.watch().into_iter().collect()).unwrap_or_default()
    }

    fn isolator(&mut self) -> Result<&mut RawIsolator, Error> {
        self.isolator.as_mut().ok_or_else(|| Error::new(ErrorKind::Plugin, "it is not configured"))
    }

    fn answer(&mut self, request: Request) -> Result<Reply, Error> {
        match request {
            Request::Open => Ok(Reply::Done),
            Request::Probe(facts) => {
                let found = self.library.probe(&Host::new(facts))?;
                let support = |support| match support {
                    Support::Full => 0,
                    Support::Partial => 1,
                    Support::Missing => 2,
                };
                let one = |f: palisade_abi::Finding| (f.feature, support(f.support), f.detail, f.remedy);
                Ok(Reply::Findings(found.into_iter().map(one).collect()))
            }
            Request::Configure(layers, facts) => {
                self.isolator = Some(self.library.configure(&layers, &Host::new(facts))?);
                Ok(Reply::Done)
            }
            Request::Plan(facts) => {
                let steps = self.isolator()?.plan(raw(facts)).into_result().map_err(Error::from)?;
                Ok(Reply::Steps(steps.iter().map(told).collect()))
            }
            Request::Watch => Ok(Reply::Watches(!self.watched().is_empty())),
            Request::Ready => self.ready(),
            Request::Sample => {
                let figures = self.isolator()?.sample().into_result().map_err(Error::from)?;
                Ok(Reply::Figures(figures.into_iter().map(|Tuple2(name, figure)| (name.into(), figure)).collect()))
            }
            Request::Finish => {
                let finish = self.isolator()?.finish().into_result().map_err(Error::from)?;
                let figures = finish.figures.into_iter().map(|Tuple2(name, figure)| (name.into(), figure)).collect();
                Ok(Reply::Finish(figures, finish.hits.into_iter().map(hit).collect()))
            }
        }
    }

    /// Has the isolator deal with what can be read now.
    fn ready(&mut self) -> Result<Reply, Error> {
        self.told = false;
        let watched = self.watched();
        let (_, ready) = wait(&self.channel, &watched, Some(Duration::ZERO));
        for number in ready {
            self.isolator()?.ready(number).into_result().map_err(Error::from)?;
        }
        Ok(Reply::Watches(!self.watched().is_empty()))
    }
}

/// Waits for a request, and for what is watched; a descriptor that is not open counts as one that can be read, so that
/// whoever watches it is told.
fn wait(channel: &Channel, watched: &[i32], limit: Option<Duration>) -> (bool, Vec<i32>) {
    let open = watched.iter().filter_map(|number| Some((*number, fd::borrow(*number).ok()?)));
    let (numbers, descriptors): (Vec<i32>, Vec<_>) = open.unzip();
    let mut items = vec![PollItem::read(channel.as_fd())];
    items.extend(descriptors.into_iter().map(PollItem::read));
    if poll(&mut items, limit).is_err() {
        return (true, Vec::new());
    }
    let ready = numbers.into_iter().zip(items.iter().skip(1)).filter(|(_, item)| item.is_ready());
    (items.first().is_some_and(PollItem::is_ready), ready.map(|(number, _)| number).collect())
}

fn raw(facts: Facts) -> RawFacts {
    facts.into_iter().map(|(name, fact)| Tuple2(name.into(), fact.into())).collect()
}

fn place(origin: RawOrigin) -> (u32, u32, u32) {
    (origin.source, origin.start, origin.end)
}

fn told(step: &RawStep) -> Told {
    Told {
        stage: step.stage().into(),
        words: step.words().into(),
        why: step.why().into(),
        origin: step.origin().into_option().map(place),
        demand: step.demand().into(),
        after: step.after().into_iter().map(Into::into).collect(),
        clone_flags: step.clone_flags(),
        concurrent: step.concurrent(),
        ready: step.ready().into_option().map(Into::into),
    }
}

fn hit(raw: RawHit) -> ToldHit {
    let origin = raw.origin.into_option().map(place);
    ToldHit { limit: raw.limit.into(), words: raw.words.into(), ended_it: raw.ended_it, origin }
}
