//! What became of one policy line.

use serde::{Deserialize, Serialize};

/// Every policy line ends in exactly one of these. Dropping one unseen would be "sandboxed" said
/// without evidence, hence `must_use`.
#[must_use = "an outcome says whether a policy line is in force"]
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Outcome {
    /// In force; the text is the evidence that was read back.
    Enforced(String),
    /// In force in part, which the policy allowed; the text says what is missing.
    Degraded(String),
    /// Not done, which the policy allowed; the text says why.
    Skipped(String),
    /// Could not be done, so nothing was started; the text says why.
    Refused(String),
}

impl Outcome {
    /// The outcome in one lower-case word, as reports print it.
    #[must_use]
    pub const fn word(&self) -> &'static str {
        match self {
            Self::Enforced(_) => "enforced",
            Self::Degraded(_) => "degraded",
            Self::Skipped(_) => "skipped",
            Self::Refused(_) => "refused",
        }
    }

    /// The evidence or the reason.
    #[must_use]
    pub fn detail(&self) -> &str {
        match self {
            Self::Enforced(text) | Self::Degraded(text) | Self::Skipped(text) | Self::Refused(text) => text,
        }
    }
}
