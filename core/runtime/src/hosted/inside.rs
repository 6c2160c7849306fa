//! The helper: palisade's own program under the policy `plugin-host`, which opens the plugin and answers.

use super::talk::{Answer, Facts, Reply, Request, Told, ToldHit};
use crate::library::{Library, load};
use crate::message::{Lapse, encode};
use palisade_abi::abi_stable::std_types::Tuple2;
use palisade_abi::seam::{Failure, RawFacts, RawHit, RawIsolator, RawOrigin, RawStep};
use palisade_abi::{Error, ErrorKind, Host, Support};
use palisade_sys::channel::{Channel, MAX_MESSAGE};
use palisade_sys::event::{PollItem, poll};
use palisade_sys::{fd, process};
use std::ffi::OsString;
use std::os::fd::{AsFd as _, OwnedFd};
use std::time::Duration;

/// What the process is called.
const NAME: &str = "palisade-host";

/// The first argument of the program when it is to open a plugin. The others are the numbers of the channel, of the
/// pipe that tells of what can be read, and of the plugin's file.
pub(super) const WORD: &str = "__host-plugin";

/// Opens a plugin and answers for it, if this program was started for that; gives the exit code then. A program that is
/// named in [`crate::Places::host_program`] calls this first of all.
#[must_use]
pub fn host_plugin(argv: &[OsString]) -> Option<u8> {
    if argv.get(1).is_none_or(|word| word != WORD) {
        return None;
    }
    let number = |at: usize| argv.get(at)?.to_str()?.parse::<i32>().ok();
    let own = |at: usize| number(at).and_then(|number| fd::borrow(number).and_then(fd::dup_cloexec).ok());
    let (Some(channel), Some(notice), Some(file)) = (own(2), own(3), own(4)) else { return Some(1) };
    live(Channel::from(channel), notice, &file);
    Some(0)
}

fn live(channel: Channel, notice: OwnedFd, file: &OwnedFd) {
    // It is only a name.
    process::set_name(NAME).ok();
    let mut bytes = Vec::new();
    if !matches!(channel.recv(&mut bytes), Ok(Some(_))) {
        return;
    }
    let Ok(Request::Open { layout_known, reference }) = postcard::from_bytes(&bytes) else { return };
    match load(file.as_fd(), layout_known, &reference) {
        Ok(found) => {
            say(&channel, Ok(Reply::Done));
            Life { channel, notice, library: found.library, isolator: None, told: false }.serve();
        }
        Err(error) => say(&channel, Err(Failure::from(Error::new(ErrorKind::Plugin, error.to_string())).into())),
    }
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
            Request::Open { .. } => Ok(Reply::Done),
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
