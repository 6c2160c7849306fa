//! Real launches.

use crate::cage::apart;
use crate::checks::said;
use crate::report::Outcome;
use crate::subject::Kit;
use palisade_runtime::model::plan::Demand;
use palisade_runtime::model::report::{Report, StepReport};
use palisade_runtime::{CORE, Failed, Kind, Options, Palisade, Places, Policy, Trouble, Workload};
use palisade_sys::caps;
use std::collections::BTreeMap;
use std::time::Duration;

/// Sections for plugins that others come after; see there.
const COMPANIONS: &str = include_str!("../../companions.ron");

/// How long a launch may take.
const LIMIT: Duration = Duration::from_secs(20);

/// What is launched: something that ends at once, and something that lives for some milliseconds.
const COMMANDS: [&[&str]; 2] = [&["/bin/true"], &["/bin/sleep", "0.05"]];

pub(crate) fn launch(kit: &Kit) -> Outcome {
    if let Some(why) = kit.obstacle.as_ref().or(kit.refused.as_ref()) {
        return Outcome::untried(why);
    }
    let policy = match policy(kit) {
        Ok(policy) => policy,
        Err(why) => return Outcome::untried(why),
    };
    said(apart(&kit.progress, LIMIT, |marks| {
        let mut outcome = Outcome::default();
        for command in COMMANDS {
            marks.at(&format!("a launch of `{}`", command.join(" ")));
            match launched(kit, &policy, command) {
                Ok(report) => judge(kit, &report, &mut outcome),
                Err((trouble, None)) => match refusal(kit, &trouble) {
                    Ok(why) => return Outcome::untried(why),
                    Err(seen) => outcome.saw(seen),
                },
                // The view has no such program; what was to be in force was by then.
                Err((trouble, Some(report))) if matches!(trouble.kind, Kind::NotFound | Kind::NotExecutable) => {
                    outcome.note(format!("under this section {} cannot be executed", command[0]));
                    judge(kit, &report, &mut outcome);
                }
                Err((trouble, Some(_))) => match refusal(kit, &trouble) {
                    Ok(why) => return Outcome::untried(why),
                    Err(seen) => outcome.saw(seen),
                },
            }
        }
        outcome
    }))
}

/// A policy with this plugin, and those that it comes after.
fn policy(kit: &Kit) -> Result<String, String> {
    let known: BTreeMap<String, String> = ron::from_str(COMPANIONS).map_err(|error| error.to_string())?;
    let mut sections = vec![format!("\"{}\": {}", kit.manifest.name, kit.section)];
    for name in kit.manifest.after.keys().filter(|name| *name != CORE) {
        sections.extend(known.get(name).map(|section| format!("\"{name}\": {section}")));
    }
    let sections = sections.join(",\n");
    Ok(format!("Policy(version: 1, process: (env: Keep([\"PATH\"])), plugins: {{\n{sections}\n}})"))
}

type Launched = Result<Box<Report>, (Trouble, Option<Box<Report>>)>;

fn launched(kit: &Kit, policy: &str, command: &[&str]) -> Launched {
    let bare = |trouble| (trouble, None);
    let mut palisade = Palisade::open(Places::default()).map_err(bare)?;
    let file = kit.reopened().map_err(|why| bare(Trouble::new(Kind::Setup, why)))?;
    palisade.plugins().bring(&kit.path, file).map_err(bare)?;
    let workload = Workload::command(command.iter().copied()).with_environment();
    let plan = palisade.plan(&Policy::from_text("check", policy), workload).map_err(bare)?;
    let failed = |failed: Failed| (failed.trouble, Some(failed.report));
    plan.launch(Options::default()).map_err(failed)?.wait().map(Box::new).map_err(failed)
}

/// Why a launch did not happen: what this host or this policy cannot, or what the plugin does wrong.
fn refusal(kit: &Kit, trouble: &Trouble) -> Result<String, String> {
    let own = trouble.plugin == kit.manifest.name;
    let rows: Vec<String> = trouble.rows.iter().map(|(label, text)| format!("{label} {text}")).collect();
    let said = std::iter::once(trouble.headline()).chain(rows.iter().cloned()).collect::<Vec<_>>().join("; ");
    let denied = || rows.iter().any(|row| row.contains("EPERM") || row.contains("EACCES"));
    match trouble.kind {
        Kind::Setup if own && !(denied() && lacks_a_capability()) => Err(format!("it cannot be launched: {said}")),
        Kind::Plugin => Err(format!("it cannot be launched: {said}")),
        _ => Ok(format!("it cannot be launched here: {said}")),
    }
}

/// Whether this process may less than others could.
fn lacks_a_capability() -> bool {
    let held = caps::get().map(|caps| caps.effective.0).unwrap_or_default();
    caps::cap_last().is_ok_and(|last| (0..=last).any(|cap| held >> cap & 1 == 0))
}

fn judge(kit: &Kit, report: &Report, outcome: &mut Outcome) {
    let own: Vec<&StepReport> = report.steps.iter().filter(|step| step.plugin == kit.manifest.name).collect();
    if own.len() < kit.steps.len() {
        outcome.note(format!("a launch has {} steps, the section alone {}", own.len(), kit.steps.len()));
    }
    for step in own {
        let lax = kit.steps.iter().any(|known| known.words == step.words && known.demand != Demand::Require);
        match step.outcome.as_str() {
            "enforced" => {}
            "degraded" | "skipped" if lax => {
                outcome.note(format!("`{}` is {}: {}", step.words, step.outcome, step.detail))
            }
            other => outcome.saw(format!("`{}` is {other}, not enforced: {}", step.words, step.detail)),
        }
    }
    for failure in &report.failures {
        outcome.saw(format!("after the launch: {failure}"));
    }
    outcome.figure("launches", outcome.figures.get("launches").copied().unwrap_or(0) + 1);
}
