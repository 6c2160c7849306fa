//! The checks, one file for those that belong together.

pub(crate) mod configuration;
pub(crate) mod faults;
pub(crate) mod file;
pub(crate) mod launch;
pub(crate) mod panics;
pub(crate) mod pure;
pub(crate) mod scene;
pub(crate) mod study;
pub(crate) mod time;
pub(crate) mod undo;

use crate::bench;
use crate::cage::{Came, Marks, apart};
use crate::report::Outcome;
use crate::subject::{Kit, Subject};
use palisade_abi::Host;
use serde::Serialize;
use serde::de::DeserializeOwned;
use std::time::Duration;

/// A check.
#[derive(Clone, Copy, Debug)]
pub struct Check {
    /// Its name.
    pub id: &'static str,
    /// What it shows.
    pub shows: &'static str,
    /// What the author of a plugin that fails it can do.
    pub mend: &'static str,
}

const fn check(id: &'static str, shows: &'static str, mend: &'static str) -> Check {
    Check { id, shows, mend }
}

/// After this one no check is possible in which a process is copied that the plugin ran in.
pub(crate) const THREADS: &str = "threads";

/// All checks, in the order in which they are made.
pub const CHECKS: &[Check] = &[
    check(
        "elf",
        "the file is a library for this machine that needs the C library only, and holds a manifest",
        "build a cdylib with export_plugin!, link no other library, and set no RPATH",
    ),
    check(
        "manifest",
        "every field of the manifest makes sense, and its versions are those of the library",
        "mend manifest.ron, whose fields docs/plugins.md lists, and build again",
    ),
    check(
        "layout",
        "the library opens, and all types of the seam are laid out as this palisade has them",
        "build it again with the palisade-abi of this palisade; its constructors must not fail",
    ),
    check(
        "reference",
        "`configure` takes the reference, and `plan` makes steps of it",
        "mend the reference in manifest.ron, or let what this host lacks be an error of kind host that names it",
    ),
    check(
        "stages",
        "each step is in a stage that the manifest declares",
        "add the stage to `stages` in manifest.ron, or move the step",
    ),
    check(
        "words",
        "each step says what it does in one line, and names a place in the section",
        "write one line without control characters, and give the step the origin of its field: Step::origin",
    ),
    check(
        "configuration",
        "layers merge, and what nobody can mean is a policy error with a message and a place in the section",
        "read the section with layered! and units, check what is left in `configure`, and answer with Error::policy(..).at(..)",
    ),
    check(
        "pure",
        "`probe`, `configure` and `plan` change nothing in their process, and a plan is the same twice",
        "do in a step's `apply` what changes anything; sort what a plan lists",
    ),
    check(
        THREADS,
        "no entry leaves a thread, and what `watch` names is open",
        "join threads before an entry returns: a process with threads cannot launch; keep what `watch` names open",
    ),
    check(
        "panics",
        "whatever the seam lets through, such as a fact that is missing, is answered with an error",
        "replace unwrap, expect and indexing in the entry that is named by an error",
    ),
    check(
        "time",
        "`configure` and `plan` take at most 50 ms",
        "look at fewer files while planning; what takes long belongs into `apply`",
    ),
    check(
        "undo",
        "steps on the host are undone without a trace, also twice and after an `apply` that failed",
        "remember in the step what was done, undo that, and take what is gone already for undone",
    ),
    check(
        "faults",
        "a system call that fails in an entry ends in an error, or does not matter",
        "pass the error of that call on with `?`; where it does not matter let `verify` prove that",
    ),
    check(
        "launch",
        "a program is launched under the section, and each step is enforced",
        "mend the step that is named; `palisade run --report - -v` with the same section shows more",
    ),
];

/// A check in a process of its own.
pub(crate) type Made = fn(&Kit) -> Outcome;

/// Those that use the section, in the order of [`CHECKS`].
pub(crate) const OF_THE_LIBRARY: &[(&str, Made)] = &[
    ("stages", study::stages),
    ("words", study::words),
    ("configuration", configuration::configuration),
    ("pure", pure::pure),
    (THREADS, pure::threads),
    ("panics", panics::panics),
    ("time", time::time),
    ("undo", undo::undo),
    ("faults", faults::faults),
    ("launch", launch::launch),
];

/// How long an entry may take; after that it hangs.
pub(crate) const LIMIT: Duration = Duration::from_secs(5);

/// Makes a check in a process of its own that has loaded the plugin.
pub(crate) fn loaded(kit: &Kit, work: impl FnOnce(&Subject, &Host, &Marks) -> Outcome) -> Outcome {
    said(apart(&kit.progress, LIMIT, |marks| opened(kit, marks, work)))
}

/// The same on the bench, where nothing of the host is in reach.
pub(crate) fn loaded_on_the_bench(kit: &Kit, work: impl FnOnce(&Subject, &Host, &Marks) -> Outcome) -> Outcome {
    said(apart(&kit.progress, LIMIT, |marks| match bench::enter() {
        Ok(()) => opened(kit, marks, work),
        Err(why) => Outcome::untried(why),
    }))
}

fn opened(kit: &Kit, marks: &Marks, work: impl FnOnce(&Subject, &Host, &Marks) -> Outcome) -> Outcome {
    marks.at("`dlopen`");
    match (kit.load(), kit.host()) {
        (Ok(subject), Ok(host)) => work(&subject, &host, marks),
        (Err(error), _) => Outcome::failed(error.to_string()),
        (_, Err(error)) => Outcome::untried(error.message),
    }
}

/// A process that failed is a check that failed.
pub(crate) fn said(came: Came<Outcome>) -> Outcome {
    match came {
        Came::Said(outcome) => outcome,
        Came::Failed(how) => Outcome::failed(how),
    }
}

/// The same for one that found out more.
pub(crate) fn told<T: Serialize + DeserializeOwned>(came: Came<(Outcome, Option<T>)>) -> (Outcome, Option<T>) {
    match came {
        Came::Said(both) => both,
        Came::Failed(how) => (Outcome::failed(how), None),
    }
}
