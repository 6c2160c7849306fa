//! What a plugin tells palisade: what the host offers, what was used, which limits were hit.

use palisade_model::diag::Origin;

/// How much of a feature a host has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Support {
    /// All of it.
    Full,
    /// Some of it; the finding's detail says what is missing.
    Partial,
    /// None.
    Missing,
}

/// What a plugin found out about one thing that it needs.
#[derive(Clone, Debug)]
pub struct Finding {
    /// The feature, in the field's words.
    pub feature: String,
    /// How much of it is there.
    pub support: Support,
    /// What was seen: a version, a path, an errno.
    pub detail: String,
    /// What to do to get it; empty where nothing is to be done.
    pub remedy: String,
}

/// What a run that is over left on the host.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Left {
    /// What it is and where, in one line.
    pub what: String,
    /// Whether it is gone now.
    pub removed: bool,
    /// Why it could not be removed; empty where it was, or was not to be.
    pub why: String,
}

/// What runs that are over changed in a tree of the host, where the change was kept and the tree was not touched.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Change {
    /// The tree.
    pub tree: String,
    /// The name in the workload's view of files.
    pub path: String,
    /// What became of it.
    pub what: Changed,
    /// The name that it had before, where it was moved.
    pub from: Option<String>,
}

/// What became of a name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Changed {
    /// It is new.
    Added,
    /// It is another file, or has other content, another owner or mode.
    Changed,
    /// It is gone.
    Removed,
}

impl Changed {
    /// In one word.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Added => "added",
            Self::Changed => "changed",
            Self::Removed => "removed",
        }
    }
}

/// What an isolator says when the workload has ended.
#[derive(Clone, Debug, Default)]
pub struct Finish {
    /// Figures by name; the name ends in its unit (`memory_peak_bytes`).
    pub figures: Vec<(String, u64)>,
    /// Limits that the workload ran into.
    pub hits: Vec<Hit>,
}

/// A limit that the workload ran into.
#[derive(Clone, Debug)]
pub struct Hit {
    /// The limit's name (`memory.max`).
    pub limit: String,
    /// What happened, in one line of words; a second line, where there is one, says what can be done about it.
    pub words: String,
    /// Whether it is what ended the workload.
    pub ended_it: bool,
    /// The policy line that set it.
    pub origin: Option<Origin>,
}
