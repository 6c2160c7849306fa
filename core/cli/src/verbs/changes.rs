//! `palisade changes`: what runs under a policy have changed and kept.

use super::Said;
use crate::args::Changes as Args;
use crate::{ask, out};
use palisade_runtime::{Trouble, Workload};
use serde::Serialize;

/// The version of the JSON's shape.
const VERSION: u32 = 1;

#[derive(Serialize)]
struct Whole {
    version: u32,
    policy: String,
    changes: Vec<Change>,
}

#[derive(Serialize)]
struct Change {
    /// added, changed or removed.
    change: &'static str,
    path: String,
    /// The name that it had before, where it was moved.
    #[serde(skip_serializing_if = "Option::is_none")]
    from: Option<String>,
    /// The tree of the host that it is a change of.
    tree: String,
    plugin: String,
}

pub(super) fn changes(args: &Args) -> Result<Said, Trouble> {
    let mut palisade = ask::palisade(&args.inputs.dirs)?;
    let policy = ask::policy(&palisade, &args.inputs.policy, &args.inputs.layers)?;
    // The variables of a policy may need the environment; the command is not looked at.
    let plan = palisade.plan(&policy, Workload::command(["true"]).with_environment())?;
    let change = |(plugin, one): (String, palisade_runtime::Change)| Change {
        change: one.what.name(),
        path: one.path,
        from: one.from,
        tree: one.tree,
        plugin,
    };
    let changes = plan.changes()?.into_iter().map(change).collect();
    let whole = Whole { version: VERSION, policy: plan.policy.clone(), changes };
    if args.form.json {
        return Said::json(&whole);
    }
    Ok(Said::text(text(&whole.changes)))
}

/// A letter as other tools have it for layers: added, changed, deleted.
fn text(changes: &[Change]) -> String {
    if changes.is_empty() {
        return "nothing that is kept was changed\n".to_owned();
    }
    let line = |one: &Change| {
        let letter = match one.change {
            "added" => 'A',
            "removed" => 'D',
            _ => 'C',
        };
        let from = one.from.as_ref().map(|from| format!(" (was {})", out::name(from))).unwrap_or_default();
        format!("{letter} {}{from}\n", out::name(&one.path))
    };
    changes.iter().map(line).collect()
}
