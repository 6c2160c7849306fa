//! Stages: when and where a step runs, and why there.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::diag::suggest;

/// When a step runs. The order of the variants is the order of events.
///
/// ```
/// # use palisade_model::stage::{Place, Stage};
/// assert!(Stage::Build < Stage::Drop && Stage::Drop < Stage::Seal);
/// assert_eq!("build".parse(), Ok(Stage::Build));
/// assert_eq!(Stage::Seal.to_string(), "seal");
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Stage {
    /// On the host, before the process exists.
    Prepare,
    /// The birth of the process, with all its namespaces at once.
    Clone,
    /// On the host, while the child waits.
    Attach,
    /// In the child, still privileged inside its own namespaces.
    Build,
    /// In the child: privileges go.
    Drop,
    /// In the child, last: what binds the workload itself.
    Seal,
    /// On the host, while the workload runs.
    Watch,
    /// On the host, on every way out.
    Finish,
}

/// Where a step runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Place {
    /// In the launcher.
    Host,
    /// In the kernel, by the one call that makes the process.
    Kernel,
    /// In the process that becomes the workload, or its init.
    Child,
}

/// One row of the table of stages.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct StageRow {
    /// The stage.
    pub stage: Stage,
    /// Where it runs.
    pub runs_in: Place,
    /// Why it comes where it does.
    pub why: &'static str,
}

/// All stages in order, with the reason for each position.
pub const STAGES: &[StageRow] = &[
    StageRow {
        stage: Stage::Prepare,
        runs_in: Place::Host,
        why: "a limit must exist before there is anything to limit",
    },
    StageRow {
        stage: Stage::Clone,
        runs_in: Place::Kernel,
        why: "the process is born inside all its namespaces, so there is no moment outside them",
    },
    StageRow {
        stage: Stage::Attach,
        runs_in: Place::Host,
        why: "needs the child's pid and the host's privileges, so the child waits",
    },
    StageRow {
        stage: Stage::Build,
        runs_in: Place::Child,
        why: "the view is built while the child is still privileged inside its own namespaces",
    },
    StageRow { stage: Stage::Drop, runs_in: Place::Child, why: "privileges go after the last thing that needs them" },
    StageRow {
        stage: Stage::Seal,
        runs_in: Place::Child,
        why: "nothing of palisade's runs after it but the hand-shake and execve",
    },
    StageRow {
        stage: Stage::Watch,
        runs_in: Place::Host,
        why: "limits and time-outs are watched from outside, where the workload cannot reach",
    },
    StageRow {
        stage: Stage::Finish,
        runs_in: Place::Host,
        why: "undone in reverse order and counted, on every way out",
    },
];

impl Stage {
    /// Its row in [`STAGES`].
    ///
    /// ```
    /// # use palisade_model::stage::{Place, Stage};
    /// assert!(Stage::Attach.row().why.contains("the child waits"));
    /// ```
    #[must_use]
    pub fn row(self) -> &'static StageRow {
        // The table is in the order of the variants (tested).
        &STAGES[self as usize]
    }

    /// Where it runs.
    ///
    /// ```
    /// # use palisade_model::stage::{Place, Stage};
    /// assert_eq!(Stage::Prepare.runs_in(), Place::Host);
    /// assert_eq!(Stage::Build.runs_in(), Place::Child);
    /// ```
    #[must_use]
    pub fn runs_in(self) -> Place {
        self.row().runs_in
    }

    /// Its name in lower case.
    ///
    /// ```
    /// # use palisade_model::stage::{Place, Stage};
    /// assert_eq!(Stage::Watch.name(), "watch");
    /// ```
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Prepare => "prepare",
            Self::Clone => "clone",
            Self::Attach => "attach",
            Self::Build => "build",
            Self::Drop => "drop",
            Self::Seal => "seal",
            Self::Watch => "watch",
            Self::Finish => "finish",
        }
    }
}

impl fmt::Display for Stage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

impl FromStr for Stage {
    type Err = String;

    /// Reads a name in any case.
    ///
    /// # Errors
    /// A name that is not a stage: what is known.
    fn from_str(text: &str) -> Result<Self, String> {
        let names: Vec<&str> = STAGES.iter().map(|row| row.stage.name()).collect();
        STAGES
            .iter()
            .map(|row| row.stage)
            .find(|stage| stage.name().eq_ignore_ascii_case(text))
            .ok_or_else(|| format!("unknown stage `{text}`; {}", suggest(text, &names)))
    }
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Host => "host",
            Self::Kernel => "kernel",
            Self::Child => "child",
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_table_is_in_the_order_of_events() {
        for (index, row) in STAGES.iter().enumerate() {
            assert_eq!(row.stage as usize, index);
            assert_eq!(row.stage.to_string().parse(), Ok(row.stage));
        }
        assert_eq!(Stage::Seal.runs_in(), Place::Child);
        assert_eq!("Seal".parse(), Ok(Stage::Seal));
        assert_eq!("sael".parse::<Stage>(), Err("unknown stage `sael`; did you mean `seal`?".to_owned()));
    }
}
