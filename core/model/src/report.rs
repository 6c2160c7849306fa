//! The report of a launch as data: what `--report` writes as JSON.
//!
//! The shape is versioned by [`REPORT_VERSION`]: a field may be added within a version, never
//! renamed, removed or given another meaning.

use std::collections::BTreeMap;

use serde::Serialize;

use crate::stage::Stage;

/// The version of the shape.
pub const REPORT_VERSION: u32 = 1;

/// Everything about one launch.
#[derive(Clone, Debug, Serialize)]
pub struct Report {
    /// [`REPORT_VERSION`].
    pub version: u32,
    /// The version of palisade that wrote it.
    pub palisade: String,
    /// The policy that was in force.
    pub policy: PolicyReport,
    /// The plugins that took part.
    pub plugins: Vec<PluginReport>,
    /// Facts about the host that the plan depended on.
    pub host: BTreeMap<String, String>,
    /// Each step with its time and outcome, in the order of the plan.
    pub steps: Vec<StepReport>,
    /// The command and how it ended.
    pub workload: WorkloadReport,
    /// The limits that were hit, whether or not they ended the workload.
    pub limits_hit: Vec<String>,
    /// What can be done about each of them, in the same order; empty where the plugin says nothing.
    pub limits_help: Vec<String>,
    /// What was denied, where somebody wanted to know, or where it ended the workload.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub denials: Option<Vec<DenialReport>>,
    /// What could not be undone or counted, in words; empty when nothing was left behind.
    pub failures: Vec<String>,
    /// What it used.
    pub usage: Usage,
    /// What it used over time, where that was asked for.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub series: Option<Series>,
    /// How long each phase of the launch took, in microseconds.
    pub times: BTreeMap<String, u64>,
}

/// Something that the workload wanted and did not get.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct DenialReport {
    /// The system call, by name; empty where it is not known.
    pub call: String,
    /// What it was about: a path, an address; empty where it was about neither.
    pub what: String,
    /// What was wanted of that, in words such as `read`; empty where there is nothing to choose from.
    pub wanted: String,
    /// How often.
    pub times: u64,
    /// Who denies it: all of these lines stand in the way.
    pub layers: Vec<LayerReport>,
}

/// One layer that denies something.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct LayerReport {
    /// The plugin.
    pub plugin: String,
    /// What the workload gets: the errno by name, or a signal.
    pub answer: String,
    /// Why, in words.
    pub why: String,
    /// The policy line that denies it, or that would have to grant it.
    pub policy_line: Option<String>,
    /// What to write into the policy so that it is allowed; empty where nothing can be.
    pub help: String,
    /// Whether it was seen to be denied; else it follows from the policy.
    pub seen: bool,
}

/// What a workload used over time.
#[derive(Clone, Debug, Serialize)]
pub struct Series {
    /// The time between two samples, in milliseconds; the last one was taken at the end.
    pub interval_ms: u64,
    /// In the order of time.
    pub samples: Vec<Sample>,
}

/// What a workload had used, and what it used then.
#[derive(Clone, Debug, Serialize)]
pub struct Sample {
    /// Since its release, in milliseconds.
    pub at_ms: u64,
    /// As [`Usage::figures`]; those that are only true for a moment are here and not there.
    pub figures: BTreeMap<String, u64>,
}

/// A policy by name and by the files that it was made of.
#[derive(Clone, Debug, Serialize)]
pub struct PolicyReport {
    /// The name that was asked for.
    pub name: String,
    /// Every file, base first.
    pub files: Vec<FileReport>,
}

/// One file of a policy.
#[derive(Clone, Debug, Serialize)]
pub struct FileReport {
    /// Its name as shown in diagnostics.
    pub name: String,
    /// SHA-256 of its text, lower-case hexadecimal.
    pub sha256: String,
}

/// One plugin.
#[derive(Clone, Debug, Serialize)]
pub struct PluginReport {
    /// Its name.
    pub name: String,
    /// Its version.
    pub version: String,
    /// SHA-256 of the file, lower-case hexadecimal.
    pub sha256: String,
    /// Where it was found.
    pub path: String,
    /// Where its code ran: `launcher` or `process`.
    pub host: String,
}

/// One step.
#[derive(Clone, Debug, Serialize)]
pub struct StepReport {
    /// When and where it ran.
    pub stage: Stage,
    /// Whose it was.
    pub plugin: String,
    /// What it did, one line in words.
    pub words: String,
    /// The policy line that it comes from (`policies/build.ron:31:5`).
    pub policy_line: Option<String>,
    /// How long it took, in microseconds; absent if it did not run.
    pub micros: Option<u64>,
    /// The outcome in one word; see [`crate::outcome::Outcome::word`].
    pub outcome: String,
    /// The evidence or the reason.
    pub detail: String,
}

/// The command.
#[derive(Clone, Debug, Serialize)]
pub struct WorkloadReport {
    /// Its arguments, the command first.
    pub argv: Vec<String>,
    /// Names of the caller's variables that were left out because they look like secrets.
    pub stripped: Vec<String>,
    /// Its process id as the host sees it, if it was started.
    pub pid: Option<i32>,
    /// How it ended.
    pub ended: Ended,
    /// The exit code that palisade gave.
    pub exit_code: u8,
}

/// How a workload ended.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Ended {
    /// It exited by itself.
    Exited {
        /// Its exit code.
        code: i32,
    },
    /// A signal ended it.
    Signaled {
        /// The number of the signal.
        signal: i32,
        /// Its name, such as `SIGSEGV`.
        name: String,
        /// Whether it left a core dump.
        core: bool,
    },
    /// It ran out of time and palisade ended it.
    TimedOut {
        /// The limit as the policy writes it.
        limit: String,
        /// Which clock.
        kind: Clock,
    },
    /// A limit of the policy ended it.
    LimitHit {
        /// The limit in words.
        limit: String,
        /// The plugin that set it.
        plugin: String,
    },
    /// The isolation could not be set up; it was not started.
    SetupFailed {
        /// The stage that failed.
        stage: Option<Stage>,
        /// The plugin whose step failed; empty for palisade itself.
        plugin: String,
        /// What failed.
        message: String,
    },
    /// Nothing was attempted.
    NotStarted {
        /// Why.
        reason: String,
    },
}

/// The clock of a time limit.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Clock {
    /// Time that went by.
    Wall,
    /// Processor time.
    Cpu,
}

/// What the workload used.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Usage {
    /// From release to end, in milliseconds.
    pub wall_ms: u64,
    /// User time in milliseconds.
    pub user_ms: u64,
    /// System time in milliseconds.
    pub sys_ms: u64,
    /// The largest resident set of one process, in KiB.
    pub max_rss_kib: u64,
    /// What plugins counted, each with its unit in the name (`memory_peak_bytes`).
    pub figures: BTreeMap<String, u64>,
}
