//! The order of the steps of a launch.

use std::collections::BTreeSet;

use serde::{Deserialize, Serialize};

use crate::diag::{Diagnostic, Origin};
use crate::stage::Stage;

/// What is to happen when a step cannot be done.
///
/// ```
/// # use palisade_model::{diag::SourceId, layer::{At, Fragment, parse}, plan::Demand, vars::Vars};
/// # palisade_model::layered! { struct Config {
/// /// In a plugin's section, for what not every host can give.
/// cores_demand: Option<At<Demand>>,
/// # } }
/// # let read = |text: &str| parse::<Config>(&Fragment::policy(SourceId(0), text, 0), &Vars::new());
/// let written = read("(cores_demand: Degrade)")?.cores_demand.map(|at| at.value);
/// assert_eq!(written, Some(Demand::Degrade));
/// assert_eq!(Demand::default(), Demand::Require);
/// # Ok::<(), palisade_model::diag::Diagnostic>(())
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum Demand {
    /// Nothing is started.
    #[default]
    Require,
    /// Go on without it, and say so in the report.
    Degrade,
    /// Do not try.
    Off,
}

/// What the core knows of a step: the envelope. The content is the plugin's own.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct StepInfo {
    /// Whose step it is.
    pub plugin: String,
    /// When and where it runs.
    pub stage: Stage,
    /// What it does, one line in words.
    pub words: String,
    /// Why it has its position or what it defends against; may be empty.
    pub why: String,
    /// The policy line that it comes from.
    pub origin: Option<Origin>,
    /// What is to happen when it cannot be done.
    pub demand: Demand,
    /// Plugins whose steps of the same stage come first. A plugin that has no step there does not
    /// matter.
    pub after: Vec<String>,
    /// Plugins that it cannot be combined with.
    pub conflicts: Vec<String>,
    /// `CLONE_NEW*` flags that the process must be born with.
    pub clone_flags: u64,
    /// Whether the host may do it while the child does its own steps.
    pub concurrent: bool,
    /// Whether the child proves it of itself, because the host cannot read it back.
    pub witness: bool,
}

/// The order in which the steps are done, as indices: by stage; in a stage by `after`; plugins
/// that do not care about each other by name; the steps of one plugin as the plugin gave them.
///
/// # Errors
/// A conflict, or an `after` that goes round in a circle; both name the policy lines.
pub fn order(steps: &[StepInfo]) -> Result<Vec<usize>, Diagnostic> {
    conflicts(steps)?;
    let mut out = Vec::with_capacity(steps.len());
    let stages: BTreeSet<Stage> = steps.iter().map(|step| step.stage).collect();
    for stage in stages {
        let mut waiting: BTreeSet<&str> =
            steps.iter().filter(|step| step.stage == stage).map(|step| step.plugin.as_str()).collect();
        while !waiting.is_empty() {
            let next = waiting.iter().copied().find(|plugin| needs(steps, stage, plugin, &waiting).is_none());
            let Some(next) = next else {
                return Err(cycle(steps, stage, &waiting));
            };
            waiting.remove(next);
            out.extend((0..steps.len()).filter(|&i| steps[i].stage == stage && steps[i].plugin == next));
        }
    }
    Ok(out)
}

/// A step of `plugin` that must wait for a plugin that is still waiting, and for which.
fn needs<'a>(
    steps: &'a [StepInfo],
    stage: Stage,
    plugin: &str,
    waiting: &BTreeSet<&str>,
) -> Option<(&'a StepInfo, &'a str)> {
    steps
        .iter()
        .filter(|step| step.stage == stage && step.plugin == plugin)
        .flat_map(|step| step.after.iter().map(move |after| (step, after.as_str())))
        .find(|(_, after)| *after != plugin && waiting.contains(after))
}

fn conflicts(steps: &[StepInfo]) -> Result<(), Diagnostic> {
    for step in steps {
        let other = steps.iter().find(|other| other.plugin != step.plugin && step.conflicts.contains(&other.plugin));
        if let Some(other) = other {
            return Err(Diagnostic::new(format!(
                "{}: \"{}\" cannot be combined with {}: \"{}\"",
                step.plugin, step.words, other.plugin, other.words
            ))
            .at_opt(step.origin)
            .also("with", other.origin)
            .help("remove one of the two"));
        }
    }
    Ok(())
}

/// Every plugin in `waiting` waits for another one of it, so following the waits from any of them
/// comes back to one that was seen.
fn cycle(steps: &[StepInfo], stage: Stage, waiting: &BTreeSet<&str>) -> Diagnostic {
    let mut path: Vec<(&StepInfo, &str)> = Vec::new();
    let mut at = waiting.first().copied().unwrap_or_default();
    while !path.iter().any(|(step, _)| step.plugin == at) {
        let Some(edge) = needs(steps, stage, at, waiting) else {
            break;
        };
        path.push(edge);
        at = edge.1;
    }
    let start = path.iter().position(|(step, _)| step.plugin == at).unwrap_or_default();
    let ring = &path[start.min(path.len())..];
    let mut names: Vec<&str> = ring.iter().map(|(step, _)| step.plugin.as_str()).collect();
    names.push(at);
    let mut said =
        Diagnostic::new(format!("the steps of stage {stage} wait for each other: {}", names.join(" after ")))
            .help("remove one of the lines, or one of the plugins");
    for (number, (step, after)) in ring.iter().enumerate() {
        said = said.note(step.plugin.clone(), format!("\"{}\" comes after {after}", step.words));
        said = match number {
            0 => said.at_opt(step.origin),
            _ => said.also(step.plugin.clone(), step.origin),
        };
    }
    said
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::diag::{SourceId, Sources};

    fn step(plugin: &str, stage: Stage, after: &[&str]) -> StepInfo {
        StepInfo {
            plugin: plugin.to_owned(),
            stage,
            words: format!("does what {plugin} does"),
            why: String::new(),
            origin: None,
            demand: Demand::Require,
            after: after.iter().map(|&s| s.to_owned()).collect(),
            conflicts: Vec::new(),
            clone_flags: 0,
            concurrent: false,
            witness: false,
        }
    }

    fn names(steps: &[StepInfo]) -> Vec<&str> {
        order(steps).unwrap().into_iter().map(|i| steps[i].plugin.as_str()).collect()
    }

    #[test]
    fn by_stage_then_after_then_name() {
        let steps = [
            step("seccomp", Stage::Seal, &["landlock", "absent"]),
            step("landlock", Stage::Seal, &[]),
            step("zeta", Stage::Prepare, &[]),
            step("alpha", Stage::Prepare, &["zeta"]),
            step("beta", Stage::Prepare, &["beta"]),
        ];
        assert_eq!(names(&steps), ["beta", "zeta", "alpha", "landlock", "seccomp"]);
    }

    #[test]
    fn the_steps_of_one_plugin_keep_their_order() {
        let mut steps =
            vec![step("fs", Stage::Build, &[]), step("net", Stage::Build, &["fs"]), step("fs", Stage::Build, &[])];
        steps[2].words = "second".to_owned();
        assert_eq!(order(&steps).unwrap(), [0, 2, 1]);
    }

    #[test]
    fn a_circle_names_both_lines() {
        let mut sources = Sources::default();
        let id = sources.add("p.ron", "one\ntwo\n");
        let mut steps =
            [step("a", Stage::Seal, &["b"]), step("b", Stage::Seal, &["a"]), step("c", Stage::Seal, &["a"])];
        let place = |start| Some(Origin { source: id, start, end: start + 3 });
        steps[0].origin = place(0);
        steps[1].origin = place(4);
        let said = order(&steps).unwrap_err().render(&sources);
        assert_eq!(
            said,
            "error: the steps of stage seal wait for each other: a after b after a\n  \
             --> p.ron:1:1\n   |\n 1 | one\n   | ^^^\n   \
             = b  p.ron:2:1\n   \
             = a  \"does what a does\" comes after b\n   \
             = b  \"does what b does\" comes after a\n   \
             = help: remove one of the lines, or one of the plugins\n"
        );
    }

    #[test]
    fn a_conflict_names_both_lines() {
        let mut steps = [step("a", Stage::Seal, &[]), step("b", Stage::Build, &[])];
        steps[0].conflicts.push("b".to_owned());
        steps[1].origin = Some(Origin { source: SourceId(0), start: 0, end: 1 });
        let said = order(&steps).unwrap_err();
        assert!(said.message.contains("a: ") && said.message.contains("b: "));
        assert_eq!(said.related.len(), 1);
    }
}
