//! The command, and what the caller gives it.

use std::ffi::OsString;

/// A command to be run under a plan.
#[derive(Clone, Debug, Default)]
pub struct Workload {
    /// The command and its arguments; empty where the policy names them.
    pub argv: Vec<OsString>,
    /// The environment that the policy's rules choose from.
    pub inherited: Vec<(String, String)>,
    /// Whether to find out why things are denied to it. What it asks of the kernel is slower then, and waits for
    /// [`crate::Running::wait`], which is to follow at once.
    pub explain: bool,
}

impl Workload {
    /// A command that starts from an empty environment.
    pub fn command<S: Into<OsString>>(argv: impl IntoIterator<Item = S>) -> Self {
        Self { argv: argv.into_iter().map(Into::into).collect(), inherited: Vec::new(), explain: false }
    }

    /// The same, with an explanation of what is denied to it.
    #[must_use]
    pub fn explained(mut self, yes: bool) -> Self {
        self.explain = yes;
        self
    }

    /// The same with this process's environment to choose from. A variable that is not UTF-8 is left out: no
    /// rule of a policy could name it.
    #[must_use]
    pub fn with_environment(mut self) -> Self {
        let text = |(k, v): (OsString, OsString)| Some((k.into_string().ok()?, v.into_string().ok()?));
        self.inherited = std::env::vars_os().filter_map(text).collect();
        self
    }
}
