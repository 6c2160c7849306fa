//! How bad it would be if something worked that should not.

use serde::{Deserialize, Serialize};

/// How bad it would be if it worked.
///
/// ```
/// # use palisade_model::severity::Severity;
/// assert!(Severity::Critical < Severity::Info, "the worst comes first");
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Severity {
    /// The host is the workload's.
    Critical,
    /// Somebody else's data or processes are reached, or power over the host is there.
    High,
    /// A part of the host is reached, or the way to more of the kernel is open.
    Medium,
    /// Little is gained.
    Low,
    /// Something is learnt.
    Info,
}

impl Severity {
    /// Worst first.
    ///
    /// ```
    /// # use palisade_model::severity::Severity;
    /// assert_eq!(Severity::ALL[0], Severity::Critical);
    /// ```
    pub const ALL: [Self; 5] = [Self::Critical, Self::High, Self::Medium, Self::Low, Self::Info];

    /// The word of reports.
    ///
    /// ```
    /// # use palisade_model::severity::Severity;
    /// assert_eq!(Severity::High.word(), "high");
    /// ```
    #[must_use]
    pub const fn word(self) -> &'static str {
        match self {
            Self::Critical => "critical",
            Self::High => "high",
            Self::Medium => "medium",
            Self::Low => "low",
            Self::Info => "info",
        }
    }
}
