//! What came of the checks.

use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// The version of the shape of [`Report`]: a field may be added within a version, never renamed, removed or given
/// another meaning.
pub const REPORT_VERSION: u32 = 1;

/// Everything about one plugin.
#[derive(Clone, Debug, Serialize)]
pub struct Report {
    /// [`REPORT_VERSION`].
    pub version: u32,
    /// The file that was checked.
    pub path: String,
    /// Its SHA-256, lower-case hexadecimal.
    pub sha256: String,
    /// The plugin's name, where its manifest could be read.
    pub plugin: Option<String>,
    /// The uid that the kit ran as.
    pub uid: u32,
    /// What the mutations were made from.
    pub seed: u64,
    /// The section that the checks used.
    pub section: Option<String>,
    /// Each check, in order.
    pub checks: Vec<Checked>,
}

impl Report {
    /// Whether a check failed.
    #[must_use]
    pub fn failed(&self) -> bool {
        self.checks.iter().any(|check| check.verdict == Verdict::Failed)
    }

    /// Whether something could not be tried here, so that nothing is known of it.
    #[must_use]
    pub fn untried(&self) -> bool {
        self.checks.iter().any(|check| check.untried)
    }
}

/// What came of one check.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Verdict {
    /// The plugin keeps to it.
    Passed,
    /// It does not.
    Failed,
    /// It says nothing about this plugin, or could not be tried here; the reason says which.
    NotApplicable,
}

impl Verdict {
    /// In words.
    #[must_use]
    pub const fn words(self) -> &'static str {
        match self {
            Self::Passed => "passed",
            Self::Failed => "failed",
            Self::NotApplicable => "not applicable",
        }
    }
}

/// One check and what came of it.
#[derive(Clone, Debug, Serialize)]
pub struct Checked {
    /// Which.
    pub id: &'static str,
    /// What came of it.
    pub verdict: Verdict,
    /// Why it does not apply; empty where it does.
    pub reason: String,
    /// Whether that is for want of something here, and not in the plugin's nature.
    pub untried: bool,
    /// What was seen that must not be; empty unless it failed.
    pub seen: Vec<String>,
    /// What the author can do; empty unless it failed.
    pub help: String,
    /// What is worth knowing and no failure.
    pub notes: Vec<String>,
    /// What was counted and measured; a name ends in its unit, where it has one.
    pub figures: BTreeMap<String, u64>,
    /// How long it took, in milliseconds.
    pub took_ms: u64,
}

/// The same on its way from the process that found it out.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub(crate) struct Outcome {
    pub(crate) reason: String,
    pub(crate) untried: bool,
    pub(crate) seen: Vec<String>,
    pub(crate) notes: Vec<String>,
    pub(crate) figures: BTreeMap<String, u64>,
}

/// More of a kind than anybody reads.
const MOST: usize = 5;

impl Outcome {
    pub(crate) fn failed(seen: impl Into<String>) -> Self {
        Self { seen: vec![seen.into()], ..Self::default() }
    }

    pub(crate) fn not_applicable(reason: impl Into<String>) -> Self {
        Self { reason: reason.into(), ..Self::default() }
    }

    /// It could say something elsewhere.
    pub(crate) fn untried(reason: impl Into<String>) -> Self {
        Self { untried: true, ..Self::not_applicable(reason) }
    }

    pub(crate) fn saw(&mut self, what: impl Into<String>) {
        let what = what.into();
        if !self.seen.contains(&what) {
            self.seen.push(what);
        }
    }

    pub(crate) fn note(&mut self, what: impl Into<String>) {
        let what = what.into();
        if !self.notes.contains(&what) {
            self.notes.push(what);
        }
    }

    pub(crate) fn figure(&mut self, name: &str, value: u64) {
        self.figures.insert(name.to_owned(), value);
    }

    pub(crate) fn verdict(&self) -> Verdict {
        match (self.seen.is_empty(), self.reason.is_empty()) {
            (false, _) => Verdict::Failed,
            (true, false) => Verdict::NotApplicable,
            (true, true) => Verdict::Passed,
        }
    }

    /// Without what nobody reads to its end.
    pub(crate) fn shortened(mut self) -> Self {
        for list in [&mut self.seen, &mut self.notes] {
            let more = list.len().saturating_sub(MOST);
            list.truncate(MOST);
            if more > 0 {
                list.push(format!("and {more} more"));
            }
        }
        self
    }
}
