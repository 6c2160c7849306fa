//! Calling plugins on the host: under a time limit, and noticing one that ends the process.

use crate::error::Trouble;
use palisade_model::exit::ExitCode;
use palisade_sys::guard::{self, DeadlineGuard, ExitGuard};
use std::cell::Cell;
use std::time::{Duration, Instant};

/// How long an entry may take. Planning reads a few files at the most, and no step on the host waits for anything.
const LIMIT: Duration = Duration::from_secs(10);

/// What palisade itself and entries before have used up of that is given back beyond this: on a host under heavy load
/// all of a phase together may take longer. Less often than at each entry, because that is a system call.
const USED_UP: Duration = Duration::from_secs(1);

/// The same for what takes as long as there are files to look at.
const PATIENCE: Duration = Duration::from_secs(3600);

/// One phase of a launch in which plugins are called. The guards are set up once for all of its calls: they cost
/// more than most of these.
#[derive(Debug)]
pub(crate) struct Entries {
    time: DeadlineGuard,
    exit: ExitGuard,
    /// The limit, also in words.
    limit: (Duration, &'static str),
    /// When the limit was last set.
    since: Cell<Instant>,
}

impl Entries {
    pub(crate) fn begin() -> Result<Self, Trouble> {
        Self::within(LIMIT, "10 s")
    }

    /// For entries that look at many files, outside of any launch.
    pub(crate) fn patient() -> Result<Self, Trouble> {
        Self::within(PATIENCE, "an hour")
    }

    fn within(limit: Duration, words: &'static str) -> Result<Self, Trouble> {
        let unguarded = |e: palisade_sys::Error| Trouble::call("calls of plugins could not be guarded", &e);
        let code = i32::from(ExitCode::PLUGIN);
        let time = guard::deadline(limit, "", code).map_err(unguarded)?;
        let exit = guard::exit_guard("", code).map_err(unguarded)?;
        Ok(Self { time, exit, limit: (limit, words), since: Cell::new(Instant::now()) })
    }

    /// Calls one entry.
    pub(crate) fn call<T>(&self, plugin: &str, entry: &str, call: impl FnOnce() -> T) -> T {
        self.time.set_message(&[
            "error: ",
            plugin,
            ": `",
            entry,
            "` took longer than ",
            self.limit.1,
            "\n  help    the plugin hangs; report it to its author, or take it out of the policy",
        ]);
        self.exit.set_message(&[
            "error: ", plugin, ": `", entry,
            "` ended the process\n  help    a plugin must not call exit; report it to its author, or take it out of the policy",
        ]);
        if self.since.get().elapsed() > USED_UP {
            // Where it cannot be set again, what is left of the last one counts.
            self.time.restart(self.limit.0).ok();
            self.since.set(Instant::now());
        }
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
