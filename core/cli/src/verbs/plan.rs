//! `palisade plan`: every step in order, with the reasons.

use super::{Said, show};
use crate::args::Plan as Args;
use crate::{ask, out};
use palisade_runtime::model::plan::Demand;
use palisade_runtime::model::report::{FileReport, PluginReport};
use palisade_runtime::model::stage::{Place, Stage};
use palisade_runtime::{Detail, Hosting, Plan, Planned, Trouble, Workload};
use serde::Serialize;
use std::collections::BTreeMap;

/// The version of the JSON's shape.
const VERSION: u32 = 1;

pub(super) fn plan(args: Args) -> Result<Said, Trouble> {
    let mut palisade = ask::palisade(&args.inputs.dirs)?;
    let policy = ask::policy(&palisade, &args.inputs.policy, &args.inputs.layers)?;
    let workload = Workload::command(args.workload.command).with_environment();
    let plan = palisade.plan(&policy, workload)?;
    let mut details = Vec::new();
    for step in plan.steps.iter().filter(|_| args.details) {
        details.push(step.details()?);
    }
    if args.form.json {
        return Said::json(&Whole::new(&plan, &details));
    }
    Ok(Said::text(out::clean(&text(&plan, &details))))
}

#[derive(Serialize)]
struct Whole<'a> {
    version: u32,
    palisade: &'static str,
    policy: &'a str,
    files: &'a [FileReport],
    plugins: &'a [PluginReport],
    command: Vec<String>,
    steps: Vec<Step<'a>>,
}

#[derive(Serialize)]
struct Step<'a> {
    number: usize,
    stage: Stage,
    runs_in: Place,
    plugin: &'a str,
    words: &'a str,
    why: &'a str,
    policy_line: Option<String>,
    demand: &'static str,
    after: &'a [String],
    concurrent: bool,
    witness: bool,
    /// What exactly is put in force, by the name that the plugin gives it; only with --details.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    details: BTreeMap<&'a str, &'a str>,
}

impl<'a> Whole<'a> {
    fn new(plan: &'a Plan, details: &'a [Vec<Detail>]) -> Self {
        let steps = plan.steps.iter().enumerate();
        Self {
            version: VERSION,
            palisade: env!("CARGO_PKG_VERSION"),
            policy: &plan.policy,
            files: &plan.files,
            plugins: &plan.plugins,
            command: command(plan),
            steps: steps.map(|(index, step)| Step::new(plan, index, step, of(details, index))).collect(),
        }
    }
}

impl<'a> Step<'a> {
    fn new(plan: &Plan, index: usize, step: &'a Planned, details: &'a [Detail]) -> Self {
        let info = &step.info;
        Self {
            number: index + 1,
            stage: info.stage,
            runs_in: info.stage.runs_in(),
            plugin: &info.plugin,
            words: &info.words,
            why: &info.why,
            policy_line: info.origin.map(|origin| plan.sources.locate(origin)),
            demand: demand(info.demand),
            after: &info.after,
            concurrent: info.concurrent,
            witness: info.witness,
            details: details.iter().map(|detail| (detail.name.as_str(), detail.text.as_str())).collect(),
        }
    }
}

/// What was told of one step; nothing where nobody was asked.
fn of(details: &[Vec<Detail>], index: usize) -> &[Detail] {
    details.get(index).map(Vec::as_slice).unwrap_or_default()
}

fn command(plan: &Plan) -> Vec<String> {
    plan.workload.argv.iter().map(|word| word.to_string_lossy().into_owned()).collect()
}

fn demand(demand: Demand) -> &'static str {
    match demand {
        Demand::Require => "require",
        Demand::Degrade => "degrade",
        Demand::Off => "off",
    }
}

fn text(plan: &Plan, details: &[Vec<Detail>]) -> String {
    let mut text = String::new();
    show::line(&mut text, format_args!("policy   {}", plan.policy));
    for file in &plan.files {
        show::line(&mut text, format_args!("  file   {}  sha256:{}", file.name, &file.sha256));
    }
    for plugin in plan.plugins.iter().filter(|plugin| plugin.host == Hosting::Process.word()) {
        show::line(&mut text, format_args!("hosted   {}, in a process of its own", plugin.name));
    }
    let words = command(plan);
    let command = if words.is_empty() { "the one that the policy names".to_owned() } else { words.join(" ") };
    show::line(&mut text, format_args!("command  {command}"));
    let width = show::widest(plan.steps.iter().map(|step| step.info.plugin.as_str()));
    let mut stage = None;
    for (index, step) in plan.steps.iter().enumerate() {
        let row = step.info.stage.row();
        if stage.replace(row.stage) != Some(row.stage) {
            show::line(&mut text, format_args!("\n{} ({}): {}", row.stage, row.runs_in, row.why));
        }
        step_text(&mut text, plan, (index + 1, width), step);
        for detail in of(details, index) {
            detail_text(&mut text, width, detail);
        }
    }
    text
}

fn detail_text(text: &mut String, width: usize, detail: &Detail) {
    for (index, line) in detail.text.lines().enumerate() {
        let label = if index == 0 { detail.name.as_str() } else { "" };
        show::line(text, format_args!("      {:width$}  {label:6}  {line}", ""));
    }
}

fn step_text(text: &mut String, plan: &Plan, (number, width): (usize, usize), step: &Planned) {
    let info = &step.info;
    show::line(text, format_args!("{number:4}  {:width$}  {}", info.plugin, info.words));
    let mut row = |label: &str, what: &str| {
        if !what.is_empty() {
            show::line(text, format_args!("      {:width$}  {label:6}  {what}", ""));
        }
    };
    row("policy", &info.origin.map(|origin| plan.sources.locate(origin)).unwrap_or_default());
    row("why", &info.why);
    match info.demand {
        Demand::Require => {}
        Demand::Degrade => row("demand", "Degrade: where it cannot be done, all goes on without it"),
        Demand::Off => row("demand", "Off: it is not done"),
    }
}
