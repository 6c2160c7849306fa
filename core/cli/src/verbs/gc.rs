//! `palisade gc`: what runs that were killed have left behind.

use super::{Said, plugin};
use crate::args::Gc;
use crate::{ask, out};
use palisade_runtime::Trouble;
use palisade_runtime::model::exit::ExitCode;
use serde::Serialize;

/// The version of the JSON's shape.
const VERSION: u32 = 1;

#[derive(Serialize)]
struct Collected {
    version: u32,
    dry_run: bool,
    left: Vec<Leftover>,
    /// Plugins that could not be asked, and why.
    errors: Vec<Unasked>,
}

#[derive(Serialize)]
struct Leftover {
    plugin: String,
    what: String,
    removed: bool,
    /// Why it is still there; empty where it is not, or was not to be removed.
    why: String,
}

#[derive(Serialize)]
struct Unasked {
    plugin: String,
    error: String,
}

pub(super) fn gc(mut args: Gc) -> Result<Said, Trouble> {
    args.plugin_dirs.plugin_dir = ask::absolute(&args.plugin_dirs.plugin_dir)?;
    let mut palisade = plugin::open(&args.plugin_dirs)?;
    let mut all = Collected { version: VERSION, dry_run: args.dry_run, left: Vec::new(), errors: Vec::new() };
    for name in plugin::names(&mut palisade)? {
        match palisade.collect(&name, !args.dry_run) {
            Ok(found) => all.left.extend(found.into_iter().map(|one| Leftover {
                plugin: name.clone(),
                what: one.what,
                removed: one.removed,
                why: one.why,
            })),
            Err(trouble) => all.errors.push(Unasked { plugin: name, error: trouble.to_string() }),
        }
    }
    let code = match &all {
        Collected { errors, .. } if !errors.is_empty() => ExitCode::PLUGIN,
        Collected { left, dry_run: false, .. } if left.iter().any(|one| !one.removed) => ExitCode::HOST,
        _ => ExitCode::OK,
    };
    if args.form.json {
        return Ok(Said::json(&all)?.code(code));
    }
    Ok(Said::text(out::clean(&text(&all))).code(code))
}

fn text(all: &Collected) -> String {
    let mut text = String::new();
    for one in &all.left {
        let done = match (one.removed, all.dry_run) {
            (true, _) => "removed",
            (false, true) => "left",
            (false, false) => "could not be removed",
        };
        text += &format!("{done}: {}\n", one.what);
        if !one.why.is_empty() {
            text += &format!("  why     {}\n", one.why);
        }
    }
    for one in &all.errors {
        text += &format!("{} could not be asked: {}\n", one.plugin, one.error);
    }
    if text.is_empty() {
        text += "nothing is left behind\n";
    }
    text
}
