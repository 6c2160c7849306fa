//! An author's types as seam objects. Every entry from palisade passes through `guarded`: a panic that
//! reached the seam would end the process with a status that nobody can tell from the workload's own.

use crate::action::{Context, Evidence};
use crate::error::{Error, ErrorKind};
use crate::facts::Host;
use crate::isolator::Isolator;
use crate::plugin::Plugin;
use crate::sdk::Step;
use crate::seam::{
    ContextObject_TO, Failure, IsolatorObject, IsolatorObject_TO, PluginModule, PluginModule_Ref, RawAttempt,
    RawChange, RawContext, RawDenial, RawFacts, RawFinding, RawFinish, RawHit, RawIsolator, RawLayer, RawLeft,
    RawOrigin, RawStep, StepObject, StepObject_TO,
};
use crate::told::{Act, Attempt, Changed, Denial, Finding, Finish, Support};
use abi_stable::library::{CheckTypeLayout, LibHeader, RootModuleResult};
use abi_stable::prefix_type::PrefixTypeTrait;
use abi_stable::sabi_trait::TD_Opaque;
use abi_stable::std_types::{ROption, RResult, RString, RVec, Tuple2};
use palisade_model::diag::{Diagnostic, Origin};
use palisade_model::layer::{Fragment, merge_layers};
use palisade_model::plan::Demand;
use palisade_model::severity::Severity;
use std::cell::RefCell;
use std::collections::BTreeMap;
use std::os::fd::{FromRawFd as _, OwnedFd};
use std::panic::{AssertUnwindSafe, catch_unwind};

thread_local! {
    /// Message and place of the last panic, kept by the hook that [`module`] installs.
    static PANIC: RefCell<String> = const { RefCell::new(String::new()) };
}

fn guarded<T>(entry: &str, run: impl FnOnce() -> Result<T, Error>) -> RResult<T, Failure> {
    let result = catch_unwind(AssertUnwindSafe(run)).unwrap_or_else(|payload| {
        let seen = PANIC.with(RefCell::take);
        let text = if seen.is_empty() { payload_text(&*payload) } else { seen };
        Err(Error::new(ErrorKind::Plugin, format!("it panicked in `{entry}`: {text}")))
    });
    match result {
        Ok(value) => RResult::ROk(value),
        Err(error) => RResult::RErr(error.into()),
    }
}

fn payload_text(payload: &(dyn std::any::Any + Send)) -> String {
    payload
        .downcast_ref::<&str>()
        .map(|s| (*s).to_owned())
        .or_else(|| payload.downcast_ref::<String>().cloned())
        .unwrap_or_default()
}

fn raw_origin(origin: Option<Origin>) -> ROption<RawOrigin> {
    origin.map_or(ROption::RNone, |o| ROption::RSome(o.into()))
}

/// Makes the seam's facts from a [`Host`].
#[must_use]
pub fn facts(host: &Host) -> RawFacts {
    raw_facts(&host.facts)
}

fn raw_facts(facts: &BTreeMap<String, String>) -> RawFacts {
    facts.iter().map(|(k, v)| Tuple2(k.as_str().into(), v.as_str().into())).collect()
}

fn host(facts: RawFacts) -> Host {
    Host::new(facts.into_iter().map(|Tuple2(k, v)| (k.into_string(), v.into_string())))
}

/// Makes the seam's facts from an [`Act`].
#[must_use]
pub fn act_facts(act: &Act) -> RawFacts {
    raw_facts(&act.0)
}

/// Makes an [`Act`] from the seam's facts.
#[must_use]
pub fn act(facts: RawFacts) -> Act {
    Act::new(facts.into_iter().map(|Tuple2(k, v)| (k.into_string(), v.into_string())))
}

impl From<Attempt> for RawAttempt {
    fn from(attempt: Attempt) -> Self {
        let severity = match attempt.severity {
            Severity::Critical => 0,
            Severity::High => 1,
            Severity::Medium => 2,
            Severity::Low => 3,
            Severity::Info => 4,
        };
        Self {
            id: attempt.id.into(),
            severity,
            attempts: attempt.attempts.into(),
            layers: attempt.layers.into(),
            needs: attempt.needs.into(),
            harmless: attempt.harmless.into(),
            argv: attempt.argv.into_iter().map(RString::from).collect(),
        }
    }
}

impl From<Denial> for RawDenial {
    fn from(denial: Denial) -> Self {
        Self {
            answer: denial.answer.into(),
            why: denial.why.into(),
            help: denial.help.into(),
            origin: raw_origin(denial.origin),
            seen: denial.seen,
        }
    }
}

impl From<RawDenial> for Denial {
    fn from(raw: RawDenial) -> Self {
        Self {
            answer: raw.answer.into_string(),
            why: raw.why.into_string(),
            help: raw.help.into_string(),
            origin: raw.origin.into_option().map(Into::into),
            seen: raw.seen,
        }
    }
}

/// The root module of plugin `P`; called once, by `abi_stable`, when the library is opened.
#[must_use]
pub fn module<P: Plugin>() -> PluginModule_Ref {
    // A plugin has its own copy of the standard library, so this hook is the plugin's alone: what it would
    // print to the workload's stderr becomes the text of an error.
    std::panic::set_hook(Box::new(|info| {
        let place = info.location().map(|l| format!("{}:{}: ", l.file(), l.line()));
        let text = format!("{}{}", place.unwrap_or_default(), payload_text(info.payload()));
        PANIC.with(|last| *last.borrow_mut() = text);
    }));
    PluginModule { probe: probe::<P>, configure: configure::<P>, collect: collect::<P> }.leak_into_prefix()
}

/// The library header that [`crate::export_plugin!`] exports.
#[must_use]
pub const fn header(module: extern "C" fn() -> RootModuleResult) -> LibHeader {
    // SAFETY: `module` returns a `PluginModule_Ref`; upheld by `export_plugin!`, which passes nothing but
    // `wrap::module`; else palisade would call through a table of another type.
    unsafe { LibHeader::from_constructor::<PluginModule_Ref>(module, CheckTypeLayout::Yes) }
}

extern "C" fn probe<P: Plugin>(facts: RawFacts) -> RResult<RVec<RawFinding>, Failure> {
    guarded("probe", || Ok(P::probe(&host(facts)).into_iter().map(raw_finding).collect()))
}

fn raw_finding(finding: Finding) -> RawFinding {
    RawFinding {
        feature: finding.feature.into(),
        support: match finding.support {
            Support::Full => 0,
            Support::Partial => 1,
            Support::Missing => 2,
        },
        detail: finding.detail.into(),
        remedy: finding.remedy.into(),
    }
}

extern "C" fn collect<P: Plugin>(facts: RawFacts, remove: bool) -> RResult<RVec<RawLeft>, Failure> {
    guarded("collect", || {
        let left = P::collect(&host(facts), remove)?.into_iter();
        Ok(left.map(|one| RawLeft { what: one.what.into(), removed: one.removed, why: one.why.into() }).collect())
    })
}

extern "C" fn configure<P: Plugin>(layers: RVec<RawLayer>, facts: RawFacts) -> RResult<RawIsolator, Failure> {
    guarded("configure", || {
        let host = host(facts);
        let fragments = layers
            .iter()
            .map(|layer| ron::from_str::<Fragment>(&layer.fragment))
            .collect::<Result<Vec<_>, _>>()
            .map_err(|e| Error::new(ErrorKind::Plugin, format!("unreadable layer: {e}")))?;
        let config = merge_layers::<P::Config>(&fragments, &host.vars()).map_err(|diagnostic| refused(&diagnostic))?;
        P::configure(config, &host).map(isolator)
    })
}

/// A section that cannot be read, as an error of its plugin.
pub(crate) fn refused(diagnostic: &Diagnostic) -> Error {
    Error::policy(diagnostic.message.clone()).at(diagnostic.origin).help(diagnostic.help.clone().unwrap_or_default())
}

/// Wraps an isolator for the seam. palisade wraps its own with it, too.
#[must_use]
pub fn isolator(inner: Box<dyn Isolator>) -> RawIsolator {
    IsolatorObject_TO::from_value(IsolatorShell(inner), TD_Opaque)
}

struct IsolatorShell(Box<dyn Isolator>);

impl IsolatorObject for IsolatorShell {
    fn plan(&self, facts: RawFacts) -> RResult<RVec<RawStep>, Failure> {
        guarded("plan", || {
            let steps = self.0.plan(&host(facts))?;
            Ok(steps.into_iter().map(step).collect())
        })
    }

    fn watch(&self) -> RVec<i32> {
        // A watcher that panics while naming its fds watches nothing; `ready` is where it can say so.
        guarded("watch", || Ok(self.0.watch().into())).into_result().unwrap_or_default()
    }

    fn ready(&mut self, fd: i32) -> RResult<(), Failure> {
        guarded("ready", || self.0.ready(fd))
    }

    fn finish(&mut self) -> RResult<RawFinish, Failure> {
        guarded("finish", || self.0.finish().map(raw_finish))
    }

    fn changes(&self) -> RResult<RVec<RawChange>, Failure> {
        guarded("changes", || {
            let raw = |what| match what {
                Changed::Added => 0,
                Changed::Changed => 1,
                Changed::Removed => 2,
            };
            let all = self.0.changes()?.into_iter();
            let from = |from: Option<String>| from.map(RString::from).into();
            Ok(all
                .map(|one| RawChange {
                    tree: one.tree.into(),
                    path: one.path.into(),
                    what: raw(one.what),
                    from: from(one.from),
                })
                .collect())
        })
    }

    fn attempts(&self) -> RResult<RVec<RawAttempt>, Failure> {
        guarded("attempts", || Ok(self.0.attempts()?.into_iter().map(RawAttempt::from).collect()))
    }

    fn sample(&mut self) -> RResult<RVec<Tuple2<RString, u64>>, Failure> {
        guarded("sample", || Ok(raw_figures(self.0.sample()?)))
    }

    fn take(&mut self, fd: i32) -> RResult<(), Failure> {
        // SAFETY: the descriptor is open and nobody else's; upheld by palisade, which gives it up to this entry; else
        // two owners close it.
        let fd = unsafe { OwnedFd::from_raw_fd(fd) };
        guarded("take", || self.0.take(fd))
    }

    fn acts(&mut self) -> RResult<RVec<RawFacts>, Failure> {
        guarded("acts", || Ok(self.0.acts()?.iter().map(act_facts).collect()))
    }

    fn explain(&self, facts: RawFacts) -> RResult<ROption<RawDenial>, Failure> {
        guarded("explain", || Ok(self.0.explain(&act(facts)).map(RawDenial::from).into()))
    }

    fn settle(&mut self) -> RResult<(), Failure> {
        guarded("settle", || self.0.settle())
    }
}

fn raw_figures(figures: Vec<(String, u64)>) -> RVec<Tuple2<RString, u64>> {
    figures.into_iter().map(|(k, v)| Tuple2(k.into(), v)).collect()
}

fn raw_finish(finish: Finish) -> RawFinish {
    RawFinish {
        figures: raw_figures(finish.figures),
        hits: finish
            .hits
            .into_iter()
            .map(|hit| RawHit {
                limit: hit.limit.into(),
                words: hit.words.into(),
                ended_it: hit.ended_it,
                origin: raw_origin(hit.origin),
            })
            .collect(),
    }
}

/// Wraps a step for the seam.
#[must_use]
pub fn step(inner: Step) -> RawStep {
    StepObject_TO::from_value(StepShell(inner), TD_Opaque)
}

struct StepShell(Step);

fn text(evidence: Evidence) -> RString {
    evidence.0.into()
}

impl StepObject for StepShell {
    fn stage(&self) -> RString {
        self.0.stage.to_string().into()
    }

    fn words(&self) -> RString {
        self.0.words.as_str().into()
    }

    fn why(&self) -> RString {
        self.0.why.as_str().into()
    }

    fn origin(&self) -> ROption<RawOrigin> {
        raw_origin(self.0.origin)
    }

    fn demand(&self) -> RString {
        match self.0.demand {
            Demand::Require => "require",
            Demand::Degrade => "degrade",
            Demand::Off => "off",
        }
        .into()
    }

    fn after(&self) -> RVec<RString> {
        self.0.after.iter().map(|name| name.as_str().into()).collect()
    }

    fn clone_flags(&self) -> u64 {
        self.0.clone_flags
    }

    fn concurrent(&self) -> bool {
        self.0.concurrent
    }

    fn has_witness(&self) -> bool {
        self.0.witnessed
    }

    fn apply(&mut self, context: RawContext<'_>) -> RResult<RString, Failure> {
        guarded("apply", || self.0.action.apply(&mut Context(context)).map(text))
    }

    fn verify(&self, context: RawContext<'_>) -> RResult<ROption<RString>, Failure> {
        guarded("verify", || {
            let seen = self.0.action.verify(&Context(context))?;
            Ok(seen.map(text).into())
        })
    }

    fn witness(&self, context: RawContext<'_>) -> RResult<RString, Failure> {
        guarded("witness", || self.0.action.witness(&Context(context)).map(text))
    }

    fn undo(&mut self, context: RawContext<'_>) -> RResult<(), Failure> {
        guarded("undo", || self.0.action.undo(&mut Context(context)))
    }

    fn details(&self) -> RVec<Tuple2<RString, RString>> {
        let details = guarded("details", || Ok(self.0.action.details())).into_result();
        // Nothing depends on them, so one that panics has none, but says so.
        let details = details.unwrap_or_else(|failure| vec![("error".to_owned(), failure.message.into_string())]);
        details.into_iter().map(|(name, text)| Tuple2(name.into(), text.into())).collect()
    }

    fn ready(&self) -> ROption<RString> {
        self.0.ready.as_deref().map(RString::from).into()
    }
}

/// Lends a context object across the seam.
pub fn lend<C: crate::seam::ContextObject>(context: &mut C) -> RawContext<'_> {
    ContextObject_TO::from_ptr(abi_stable::sabi_types::RMut::new(context), TD_Opaque)
}
