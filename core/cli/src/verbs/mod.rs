//! One file for each verb.

mod changes;
mod check;
mod claims;
mod denied;
mod doctor;
mod gc;
mod install;
mod new;
mod pages;
mod plan;
mod plugin;
mod policy;
mod probe;
mod ps;
mod run;
mod show;
mod watch;

use crate::args::{self, Verb};
use crate::out;
use crate::panics::BROKEN;
use palisade_runtime::Trouble;
use palisade_runtime::model::exit::ExitCode;
use serde::Serialize;
use std::ffi::OsString;
use std::io;

/// What a verb has to say on standard output, and palisade's exit code.
#[derive(Debug)]
pub(crate) struct Said {
    text: String,
    code: u8,
}

impl Said {
    fn text(text: impl Into<String>) -> Self {
        Self { text: text.into(), code: ExitCode::OK }
    }

    fn json(value: &impl Serialize) -> Result<Self, Trouble> {
        let text = serde_json::to_string_pretty(value).map_err(|error| {
            Trouble::new(palisade_runtime::Kind::Usage, format!("this cannot be written as JSON: {error}"))
        })?;
        Ok(Self::text(text + "\n"))
    }

    fn code(mut self, code: u8) -> Self {
        self.code = code;
        self
    }
}

/// Does what the command line says; gives the exit code.
pub(crate) fn perform(argv: Vec<OsString>) -> u8 {
    // What `probe` starts this program for again, and what opens a plugin; no verb of anybody's.
    if let Some(code) = palisade_probe::hidden(&argv).or_else(|| palisade_runtime::host_plugin(&argv)) {
        return code;
    }
    let verb = match args::parse(argv) {
        Ok(verb) => verb,
        Err(error) => return usage(&error),
    };
    let said = match verb {
        Verb::Run(args) => run::run(args),
        Verb::Plan(args) => plan::plan(args),
        Verb::Ps(args) => ps::ps(&args),
        Verb::Doctor(args) => doctor::doctor(args),
        Verb::Gc(args) => gc::gc(args),
        Verb::Changes(args) => changes::changes(&args),
        Verb::Probe(args) => probe::probe(&args),
        Verb::Policy(verb) => policy::policy(verb),
        Verb::Plugin(verb) => plugin::plugin(verb),
        Verb::Completions(args) => Ok(pages::completions(&args)),
        Verb::Man(_) => pages::man(),
    };
    match said {
        Ok(said) => print(&said.text).map_or_else(|code| code, |()| said.code),
        Err(trouble) => {
            out::trouble(&trouble);
            trouble.kind.exit_code()
        }
    }
}

/// Help and the version are answers, everything else is an error.
fn usage(error: &clap::Error) -> u8 {
    let text = error.render().to_string();
    if error.use_stderr() {
        out::stderr(&text);
        return ExitCode::USAGE;
    }
    print(&text).err().unwrap_or(ExitCode::OK)
}

/// Prints on standard output; the error is the exit code.
fn print(text: &str) -> Result<(), u8> {
    if text.is_empty() {
        return Ok(());
    }
    out::stdout(text).map_err(|error| unwritten("standard output", &error))
}

/// What palisade ends with when it could not write what was asked of it.
fn unwritten(what: &str, error: &io::Error) -> u8 {
    if error.kind() == io::ErrorKind::BrokenPipe {
        // As any filter whose reader went away.
        return ExitCode::signal(13);
    }
    out::stderr(&format!("error: {what} could not be written: {error}\n"));
    BROKEN
}
