//! The types that cross between palisade and a plugin. Everything that will grow is a trait object (a new
//! method has a default) or a list of named facts (a new fact is a new name); nothing here names a mechanism.

// The derive and the attribute macros of abi_stable write code for which these lints make no sense.
#![allow(
    missing_docs,
    clippy::cast_possible_truncation,
    clippy::undocumented_unsafe_blocks,
    clippy::multiple_unsafe_ops_per_block,
    clippy::expect_used,
    clippy::unwrap_used,
    non_local_definitions,
    non_camel_case_types,
    reason = "abi_stable's macros expand to items of their own in this module"
)]

use abi_stable::{
    StableAbi,
    library::RootModule,
    package_version_strings, sabi_trait,
    sabi_types::{RMut, VersionStrings},
    std_types::{RBox, ROption, RResult, RStr, RString, RVec, Tuple2},
};
use palisade_model::diag::{Origin, SourceId};

/// A byte range in one of the policy's sources.
#[repr(C)]
#[derive(StableAbi, Clone, Copy, Debug)]
pub struct RawOrigin {
    /// The source's number.
    pub source: u32,
    /// First byte.
    pub start: u32,
    /// One past the last byte.
    pub end: u32,
}

impl From<Origin> for RawOrigin {
    fn from(origin: Origin) -> Self {
        Self { source: origin.source.0, start: origin.start, end: origin.end }
    }
}

impl From<RawOrigin> for Origin {
    fn from(raw: RawOrigin) -> Self {
        Self { source: SourceId(raw.source), start: raw.start, end: raw.end }
    }
}

/// An error on its way across; see [`crate::Error`] for the meaning of each part.
#[repr(C)]
#[derive(StableAbi, Clone, Debug)]
pub struct Failure {
    pub kind: u8,
    pub message: RString,
    pub call: RString,
    pub errno: i32,
    pub help: RString,
    pub origin: ROption<RawOrigin>,
}

/// Named facts about the host and the launch. A name that a plugin does not know is ignored; a fact that it
/// needs and does not find is an error of that plugin.
pub type RawFacts = RVec<Tuple2<RString, RString>>;

/// One layer of a policy's section for the plugin, base first. The text is RON exactly as written.
#[repr(C)]
#[derive(StableAbi, Clone, Debug)]
pub struct RawLayer {
    /// A [`palisade_model::layer::Fragment`] in its text form.
    pub fragment: RString,
}

/// What a plugin says of one thing that it needs from the host.
#[repr(C)]
#[derive(StableAbi, Clone, Debug)]
pub struct RawFinding {
    pub feature: RString,
    /// 0 = there, 1 = there in part, 2 = missing.
    pub support: u8,
    pub detail: RString,
    pub remedy: RString,
}

/// A limit that the workload ran into.
#[repr(C)]
#[derive(StableAbi, Clone, Debug)]
pub struct RawHit {
    pub limit: RString,
    pub words: RString,
    pub ended_it: bool,
    pub origin: ROption<RawOrigin>,
}

/// What an isolator has to say when all is over.
#[repr(C)]
#[derive(StableAbi, Clone, Debug)]
pub struct RawFinish {
    pub figures: RVec<Tuple2<RString, u64>>,
    pub hits: RVec<RawHit>,
}

/// What became of a name in a tree that was changed beside it.
#[repr(C)]
#[derive(StableAbi, Clone, Debug)]
pub struct RawChange {
    pub tree: RString,
    pub path: RString,
    /// 0 = added, 1 = changed, 2 = removed.
    pub what: u8,
    pub from: ROption<RString>,
}

/// What a run that is over left on the host.
#[repr(C)]
#[derive(StableAbi, Clone, Debug)]
pub struct RawLeft {
    pub what: RString,
    pub removed: bool,
    pub why: RString,
}

/// Why something is denied; see [`crate::Denial`].
#[repr(C)]
#[derive(StableAbi, Clone, Debug)]
pub struct RawDenial {
    pub answer: RString,
    pub why: RString,
    pub help: RString,
    pub origin: ROption<RawOrigin>,
    pub seen: bool,
}

/// Something that a plugin claims to stop; see [`crate::Attempt`].
#[repr(C)]
#[derive(StableAbi, Clone, Debug)]
pub struct RawAttempt {
    pub id: RString,
    /// 0 = critical, 1 = high, 2 = medium, 3 = low, 4 = info.
    pub severity: u8,
    pub attempts: RString,
    pub layers: RString,
    pub needs: RString,
    pub harmless: RString,
    pub argv: RVec<RString>,
}

/// What palisade lends to a step while it runs.
#[sabi_trait]
pub trait ContextObject {
    /// A named number: `pid` of the process being set up and `init_pid`, as the host sees them; absent before
    /// the process exists.
    fn number(&self, name: RStr<'_>) -> ROption<i64>;
    /// Offers an open cgroup v2 directory for the process to be born in (`CLONE_INTO_CGROUP`).
    #[sabi(last_prefix_field)]
    fn offer_cgroup(&mut self, fd: i32);
    /// Hands an open descriptor over from the process that becomes the workload to the isolator on the host. Since
    /// seam 1.1.
    fn hand_over(&mut self, _fd: i32) {}
}

/// A borrowed [`ContextObject`].
pub type RawContext<'a> = ContextObject_TO<'a, RMut<'a, ()>>;

/// One thing to do: an envelope that palisade knows, around content that only the plugin knows.
#[sabi_trait]
pub trait StepObject {
    /// The stage, by name; one that palisade does not know ends the launch.
    fn stage(&self) -> RString;
    /// One line in words.
    fn words(&self) -> RString;
    /// Why it is done, or why here.
    fn why(&self) -> RString;
    /// The policy line it comes from.
    fn origin(&self) -> ROption<RawOrigin>;
    /// `require`, `degrade` or `off`.
    fn demand(&self) -> RString;
    /// Plugins whose steps in this stage come first.
    fn after(&self) -> RVec<RString>;
    /// `CLONE_NEW*` flags for the process's creation.
    fn clone_flags(&self) -> u64;
    /// Attach only: may run while the child builds.
    fn concurrent(&self) -> bool;
    /// Whether `witness` is to be asked in the child, before Seal.
    fn has_witness(&self) -> bool;
    fn apply(&mut self, context: RawContext<'_>) -> RResult<RString, Failure>;
    /// Reads back from the host what the kernel believes; `RNone` where there is nothing to read.
    fn verify(&self, context: RawContext<'_>) -> RResult<ROption<RString>, Failure>;
    /// The same from inside, for what the host may not read.
    fn witness(&self, context: RawContext<'_>) -> RResult<RString, Failure>;
    #[sabi(last_prefix_field)]
    fn undo(&mut self, context: RawContext<'_>) -> RResult<(), Failure>;
    /// What exactly it puts in force, as named texts, for whoever wants to see all of it. Since seam 1.1.
    fn details(&self) -> RVec<Tuple2<RString, RString>> {
        RVec::new()
    }
    /// What to do, where palisade itself is to do it: a [`crate::Ready`] as text. Then `apply`, `verify`, `witness` and
    /// `undo` are not called. Since seam 1.1.
    fn ready(&self) -> ROption<RString> {
        ROption::RNone
    }
}

/// An owned [`StepObject`].
pub type RawStep = StepObject_TO<'static, RBox<()>>;

/// A plugin configured for one launch.
#[sabi_trait]
pub trait IsolatorObject {
    fn plan(&self, facts: RawFacts) -> RResult<RVec<RawStep>, Failure>;
    /// Fds to be watched while the workload runs.
    fn watch(&self) -> RVec<i32>;
    /// One of those fds is readable.
    fn ready(&mut self, fd: i32) -> RResult<(), Failure>;
    /// The workload has ended; nothing is undone yet.
    #[sabi(last_prefix_field)]
    fn finish(&mut self) -> RResult<RawFinish, Failure>;
    /// What runs that are over changed and kept. Since seam 1.1.
    fn changes(&self) -> RResult<RVec<RawChange>, Failure> {
        RResult::ROk(Vec::new().into())
    }
    /// What it claims to stop, to be tried. Since seam 1.1.
    fn attempts(&self) -> RResult<RVec<RawAttempt>, Failure> {
        RResult::ROk(Vec::new().into())
    }
    /// The figures so far, while the workload runs. Since seam 1.1.
    fn sample(&mut self) -> RResult<RVec<Tuple2<RString, u64>>, Failure> {
        RResult::ROk(RVec::new())
    }
    /// A descriptor that a step of this isolator handed over; it is the isolator's now. Since seam 1.1.
    fn take(&mut self, _fd: i32) -> RResult<(), Failure> {
        RResult::ROk(())
    }
    /// What the workload asked for since; it waits until `settle`. Since seam 1.1.
    fn acts(&mut self) -> RResult<RVec<RawFacts>, Failure> {
        RResult::ROk(RVec::new())
    }
    /// Why this isolator denies it, where it does. Since seam 1.1.
    fn explain(&self, _act: RawFacts) -> RResult<ROption<RawDenial>, Failure> {
        RResult::ROk(ROption::RNone)
    }
    /// Lets what `acts` told go on. Since seam 1.1.
    fn settle(&mut self) -> RResult<(), Failure> {
        RResult::ROk(())
    }
}

/// An owned [`IsolatorObject`].
pub type RawIsolator = IsolatorObject_TO<'static, RBox<()>>;

/// The functions of a plugin.
#[repr(C)]
#[derive(StableAbi, Debug)]
#[sabi(kind(Prefix(prefix_ref = PluginModule_Ref)))]
#[sabi(missing_field(panic))]
pub struct PluginModule {
    /// Says what this host offers of what the plugin needs.
    pub probe: extern "C" fn(RawFacts) -> RResult<RVec<RawFinding>, Failure>,
    /// Turns the policy's layers into an isolator.
    #[sabi(last_prefix_field)]
    pub configure: extern "C" fn(RVec<RawLayer>, RawFacts) -> RResult<RawIsolator, Failure>,
    /// Finds what runs that are over left on this host, and removes it if asked to. Since seam 1.1.
    #[sabi(missing_field(option))]
    pub collect: extern "C" fn(RawFacts, bool) -> RResult<RVec<RawLeft>, Failure>,
}

impl RootModule for PluginModule_Ref {
    abi_stable::declare_root_module_statics! {PluginModule_Ref}
    const BASE_NAME: &'static str = "palisade_plugin";
    const NAME: &'static str = "palisade plugin";
    const VERSION_STRINGS: VersionStrings = package_version_strings!();
}
