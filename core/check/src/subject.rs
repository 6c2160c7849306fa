//! The plugin as the kit calls it: entry by entry, with what it is told made up here.

use crate::cage::Progress;
use palisade_abi::abi_stable::std_types::{ROption, RStr, RVec};
use palisade_abi::host::{LoadError, Loaded, Opened, open};
use palisade_abi::manifest::Manifest;
use palisade_abi::seam::{ContextObject, Failure, RawContext, RawIsolator, RawLayer, RawStep};
use palisade_abi::{Error, ErrorKind, Host, wrap};
use palisade_runtime::library::{Found, Library, load};
use palisade_runtime::model::diag::{Origin, SourceId};
use palisade_runtime::model::layer::Fragment;
use palisade_runtime::model::plan::StepInfo;
use palisade_runtime::{CORE, Facts, read_envelope};
use std::collections::BTreeMap;
use std::os::fd::{AsFd as _, OwnedFd};
use std::rc::Rc;

/// What all checks are about.
#[derive(Debug)]
pub(crate) struct Kit {
    /// The file's content, which nobody can change any more.
    pub(crate) image: OwnedFd,
    pub(crate) path: std::path::PathBuf,
    pub(crate) progress: Rc<Progress>,
    pub(crate) manifest: Manifest,
    pub(crate) seed: u64,
    /// When the kit began, in microseconds.
    pub(crate) begun: u128,
    /// The section that stands for all: the reference, or as much of it as this host can do, or the caller's.
    pub(crate) section: String,
    /// The steps that it gives.
    pub(crate) steps: Vec<StepInfo>,
    /// What an earlier check found that makes another one impossible.
    pub(crate) obstacle: Option<String>,
    /// The same for a launch alone.
    pub(crate) refused: Option<String>,
}

/// Where a section begins in the policy that there is none of: no origin is inside of it by chance.
pub(crate) const OFFSET: u32 = 1000;

impl Kit {
    /// Loads it, with the layout check.
    pub(crate) fn load(&self) -> Result<Subject, LoadError> {
        let Found { library, seam, .. } = load(self.image.as_fd(), false, &self.manifest.reference)?;
        let raw = match open(self.image.as_fd(), true)? {
            Opened::Module(loaded) => Some(loaded),
            Opened::Table(_) => None,
        };
        Ok(Subject { library, raw, seam, name: self.manifest.name.clone() })
    }

    /// The content, open from its beginning.
    pub(crate) fn reopened(&self) -> Result<OwnedFd, String> {
        let file = std::fs::File::open(palisade_sys::fd::proc_fd_path(&self.image));
        file.map(OwnedFd::from).map_err(|error| error.to_string())
    }

    /// What a launch would tell it.
    pub(crate) fn host(&self) -> Result<Host, Error> {
        let facts = Facts::read().map_err(|trouble| Error::host(trouble.message))?;
        let mut told = BTreeMap::from([
            ("run_id".to_owned(), self.run_id()),
            ("plugins".to_owned(), self.company().join(" ")),
            ("var.run_id".to_owned(), self.run_id()),
            ("var.uid".to_owned(), facts.uid.to_string()),
            ("var.tmp".to_owned(), "/tmp".to_owned()),
            ("var.project".to_owned(), "/tmp".to_owned()),
        ]);
        told.extend(std::env::var("HOME").ok().map(|home| ("var.home".to_owned(), home)));
        Ok(facts.host(&told))
    }

    /// The plugins of a launch: this one, and those that it comes after.
    pub(crate) fn company(&self) -> Vec<&str> {
        let others = self.manifest.after.keys().map(String::as_str).filter(|name| *name != CORE);
        others.chain([self.manifest.name.as_str()]).collect()
    }

    /// A name that nothing else on this host has, of the form that a launch gives: what is left under it after all is
    /// found by `palisade gc`.
    pub(crate) fn run_id(&self) -> String {
        format!("{}-{:x}-1", palisade_sys::process::getpid(), self.begun)
    }
}

/// The plugin in this process.
#[derive(Debug)]
pub(crate) struct Subject {
    library: Box<dyn Library>,
    /// For texts that are no layers: only a plugin behind `abi_stable`'s header is given texts.
    raw: Option<Loaded>,
    seam: String,
    name: String,
}

/// One layer of a section: its text, in a source of its own.
fn layer(index: usize, name: &str, text: &str) -> Fragment {
    let source = SourceId(u32::try_from(index).unwrap_or(u32::MAX));
    let mut fragment = Fragment::policy(source, text, OFFSET);
    name.clone_into(&mut fragment.section);
    fragment
}

/// Whether an origin lies inside of one of these layers.
pub(crate) fn is_inside(origin: Origin, layers: &[&str]) -> bool {
    let text = usize::try_from(origin.source.0).ok().and_then(|index| layers.get(index));
    let end = text.and_then(|text| u32::try_from(text.len()).ok()).map(|length| OFFSET + length);
    end.is_some_and(|end| origin.start >= OFFSET && origin.start <= origin.end && origin.end <= end)
}

impl Subject {
    /// The seam that the library itself says it was built for.
    pub(crate) fn seam(&self) -> &str {
        &self.seam
    }

    pub(crate) fn probe(&self, host: &Host) -> Result<usize, Error> {
        self.library.probe(host).map(|found| found.len())
    }

    pub(crate) fn collect(&self, host: &Host) -> Result<usize, Error> {
        self.library.collect(host, false).map(|left| left.len())
    }

    pub(crate) fn configure(&self, layers: &[&str], host: &Host) -> Result<RawIsolator, Error> {
        let layers: Vec<Fragment> =
            layers.iter().enumerate().map(|(index, text)| layer(index, &self.name, text)).collect();
        self.library.configure(&layers, host)
    }

    /// The same with a text that is no layer, where the plugin reads texts.
    pub(crate) fn configure_raw(&self, text: &str, host: &Host) -> Result<(), Error> {
        let Some(loaded) = self.raw else { return Ok(()) };
        let layers = vec![RawLayer { fragment: text.into() }];
        let made = (loaded.module.configure())(layers.into(), wrap::facts(host)).into_result();
        made.map(drop).map_err(Error::from)
    }

    /// Configures and plans in one.
    pub(crate) fn planned(&self, layers: &[&str], host: &Host) -> Result<(RawIsolator, Vec<RawStep>), Error> {
        let isolator = self.configure(layers, host)?;
        let steps = plan(&isolator, host)?;
        Ok((isolator, steps))
    }

    /// What the core would read of its steps, and what it would refuse of them.
    pub(crate) fn envelopes(&self, steps: &[RawStep]) -> Result<Vec<StepInfo>, String> {
        steps.iter().map(|step| read_envelope(&self.name, step)).collect()
    }

    /// Steps without their places, for comparisons.
    pub(crate) fn described(&self, steps: &[RawStep]) -> Vec<Result<StepInfo, String>> {
        let bare = |step| read_envelope(&self.name, step).map(|info| StepInfo { origin: None, ..info });
        steps.iter().map(bare).collect()
    }
}

pub(crate) fn plan(isolator: &RawIsolator, host: &Host) -> Result<Vec<RawStep>, Error> {
    let steps: Result<RVec<RawStep>, Failure> = isolator.plan(wrap::facts(host)).into_result();
    steps.map(RVec::into_vec).map_err(Error::from)
}

/// Whether an error is what the SDK makes of a panic.
pub(crate) fn panicked(error: &Error) -> bool {
    error.kind == ErrorKind::Plugin && error.message.starts_with("it panicked in")
}

/// An error in one line.
pub(crate) fn line(error: &Error) -> String {
    let parts = [error.message.as_str(), error.call.as_str()];
    let parts: Vec<&str> = parts.into_iter().filter(|part| !part.is_empty()).collect();
    if parts.is_empty() { "an error without words".to_owned() } else { parts.join(": ") }
}

/// What is lent to a step here.
#[derive(Debug, Default)]
pub(crate) struct Lent {
    pub(crate) pid: Option<i32>,
}

impl ContextObject for Lent {
    fn number(&self, name: RStr<'_>) -> ROption<i64> {
        let known = matches!(name.as_str(), "pid" | "init_pid");
        self.pid.filter(|_| known).map(i64::from).into()
    }

    fn offer_cgroup(&mut self, _fd: i32) {}

    fn hand_over(&mut self, _fd: i32) {}
}

pub(crate) fn lend(lent: &mut Lent) -> RawContext<'_> {
    wrap::lend(lent)
}
