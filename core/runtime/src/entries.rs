//! Calling plugins on the host: under a time limit, and noticing one that ends the process.

use crate::error::Trouble;
use palisade_model::exit::ExitCode;
use palisade_sys::guard::{self, DeadlineGuard, ExitGuard};
use std::time::Duration;

/// How long the entries of one phase of a launch may take together. Planning reads a few files at the most, and
/// no step on the host waits for anything.
const LIMIT: Duration = Duration::from_secs(10);

/// The same for what takes as long as there are files to look at.
const PATIENCE: Duration = Duration::from_secs(3600);

/// One phase of a launch in which plugins are called. The guards are set up once for all of its calls: they cost
/// more than most of these.
#[derive(Debug)]
pub(crate) struct Entries {
    time: DeadlineGuard,
    exit: ExitGuard,
    /// The limit, in words.
    limit: &'static str,
}

impl Entries {
    pub(crate) fn begin() -> Result<Self, Trouble> {
        Self::within(LIMIT, "10 s")
    }

    /// For entries that look at many files, outside of any launch.
    pub(crate) fn patient() -> Result<Self, Trouble> {
        Self::within(PATIENCE, "an hour")
    }

    fn within(time: Duration, limit: &'static str) -> Result<Self, Trouble> {
        let unguarded = |e: palisade_sys::Error| Trouble::call("calls of plugins could not be guarded", &e);
        let code = i32::from(ExitCode::PLUGIN);
        let time = guard::deadline(time, "", code).map_err(unguarded)?;
        let exit = guard::exit_guard("", code).map_err(unguarded)?;
        Ok(Self { time, exit, limit })
    }

    /// Calls one entry.
    pub(crate) fn call<T>(&self, plugin: &str, entry: &str, call: impl FnOnce() -> T) -> T {
        self.time.set_message(&[
            "error: ",
            plugin,
            ": `",
            entry,
            "` took longer than ",
            self.limit,
            "\n  help    the plugin hangs; report it to its author, or take it out of the policy",
        ]);
        self.exit.set_message(&[
            "error: ", plugin, ": `", entry,
            "` ended the process\n  help    a plugin must not call exit; report it to its author, or take it out of the policy",
        ]);
        call()
    }
}

#[cfg(test)]
mod tests {
    #[test]
    fn the_message_tells_the_limit() {
        assert_eq!((super::LIMIT.as_secs(), super::PATIENCE.as_secs()), (10, 3600));
    }
}
