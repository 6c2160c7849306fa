//! palisade's own mistakes: one line that asks for a report, and an exit code that is neither a workload's usual
//! 1 nor Rust's 101.

use crate::out;
use std::panic::{AssertUnwindSafe, PanicHookInfo, catch_unwind};

/// palisade itself failed.
pub(crate) const BROKEN: u8 = palisade_runtime::model::exit::ExitCode::INTERNAL;

/// Prints a panic in one line.
pub(crate) fn announce() {
    let launcher = std::process::id();
    std::panic::set_hook(Box::new(move |info| {
        out::stderr(&line(info));
        // A forked child must not unwind: it would undo on the host what the launcher did. The launcher itself
        // must: that is how everything is undone.
        if std::process::id() != launcher {
            std::process::abort();
        }
    }));
}

/// Runs the program; a panic gives [`BROKEN`], after everything was undone.
pub(crate) fn caught(run: impl FnOnce() -> u8) -> u8 {
    catch_unwind(AssertUnwindSafe(run)).unwrap_or(BROKEN)
}

fn line(info: &PanicHookInfo<'_>) -> String {
    let payload = info.payload();
    let text = payload.downcast_ref::<&str>().copied();
    let text = text.or_else(|| payload.downcast_ref::<String>().map(String::as_str)).unwrap_or("no message");
    let place = info.location().map(|l| format!(" ({}:{})", l.file(), l.line())).unwrap_or_default();
    format!(
        "palisade: internal error: {}{place}; this is a bug: please report it with the command line and the policy\n",
        out::one_line(text)
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_panic_becomes_a_code_of_ours() {
        assert_eq!(caught(|| 7), 7);
        assert_eq!(caught(|| panic!("as a test does")), BROKEN);
    }
}
