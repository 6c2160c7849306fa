//! Calling plugins on the host: under a time limit, and noticing one that ends the process.

use crate::error::Trouble;
use palisade_model::exit::ExitCode;
use palisade_sys::guard::{self, DeadlineGuard, ExitGuard};
use std::time::Duration;

/// How long the entries of one phase of a launch may take together. Planning reads a few files at the most, and
/// no step on the host waits for anything.
const LIMIT: Duration = Duration::from_secs(10);

/// One phase of a launch in which plugins are called. The guards are set up once for all of its calls: they cost
/// more than most of these.
#[derive(Debug)]
pub(crate) struct Entries {
    time: DeadlineGuard,
    exit: ExitGuard,
}

impl Entries {
    pub(crate) fn begin() -> Result<Self, Trouble> {
        let unguarded = |e: palisade_sys::Error| Trouble::call("calls of plugins could not be guarded", &e);
        let code = i32::from(ExitCode::PLUGIN);
        let time = guard::deadline(LIMIT, "", code).map_err(unguarded)?;
        let exit = guard::exit_guard("", code).map_err(unguarded)?;
        Ok(Self { time, exit })
    }

    /// Calls one entry.
    pub(crate) fn call<T>(&self, plugin: &str, entry: &str, call: impl FnOnce() -> T) -> T {
        self.time.set_message(&[
            "error: ", plugin, ": `", entry,
            "` took longer than 10 s\n  help    the plugin hangs; report it to its author, or take it out of the policy",
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
        assert_eq!(super::LIMIT.as_secs(), 10);
    }
}
