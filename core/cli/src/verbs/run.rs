//! `palisade run`: the pipeline, and what is said of its end.

use super::{Said, denied, show, unwritten, watch};
use crate::args::{Inputs, Run};
use crate::sink::Sink;
use crate::{ask, out};
use palisade_runtime::model::diag::Origin;
use palisade_runtime::model::outcome::Outcome;
use palisade_runtime::model::plan::StepInfo;
use palisade_runtime::model::process::Process;
use palisade_runtime::model::report::{Clock, Ended, PolicyReport, REPORT_VERSION, Report, Usage, WorkloadReport};
use palisade_runtime::{CORE, Failed, Observer, Options, Plan, Running, Sampling, Trouble, Workload};
use std::collections::BTreeMap;
use std::ffi::OsString;
use std::time::Duration;

pub(super) fn run(args: Run) -> Result<Said, Trouble> {
    let Run { inputs, report, name, verbose, watch, explain, samples, workload } = args;
    let sink = report.as_deref().map(Sink::open).transpose()?;
    let planned = match plan(&inputs, &workload.command, explain) {
        Ok(plan) => plan,
        Err((trouble, host)) => {
            // Whoever reads the report must not have to tell "not started" from "no report".
            write(sink, &not_started(&inputs, &workload.command, &trouble, host));
            return Err(trouble);
        }
    };
    if verbose {
        out::stderr(&opening(&planned));
    }
    let watch = watch.then(|| (watch::EVERY, watch::watcher()));
    let sampling = Sampling { series: samples.map(|interval| interval.0), watch };
    let options =
        Options { forward_signals: true, name, observer: verbose.then(observer), sampling, ..Options::default() };
    match planned.launch(options).and_then(Running::wait) {
        Ok(report) => Ok(Said::text("").code(ended(&inputs, sink, &report, verbose))),
        Err(Failed { trouble, report }) => {
            failures(&report);
            write(sink, &report);
            Err(trouble)
        }
    }
}

type Facts = BTreeMap<String, String>;

/// The runtime is dropped here: while the workload runs, only what its launch needs is held.
fn plan(inputs: &Inputs, command: &[OsString], explain: bool) -> Result<Plan, (Trouble, Facts)> {
    let mut palisade = ask::palisade(&inputs.dirs).map_err(|trouble| (trouble, Facts::new()))?;
    let policy = ask::policy(&palisade, &inputs.policy, &inputs.layers);
    let workload = Workload::command(command).with_environment().explained(explain);
    let plan = policy.and_then(|policy| palisade.plan(&policy, workload));
    // What was checked for this launch need not be checked for the next; a launch does not depend on it.
    palisade.plugins().remember().ok();
    plan.map_err(|trouble| (trouble, palisade.facts().report()))
}

/// Says what needs saying, and gives the exit code.
fn ended(inputs: &Inputs, sink: Option<Sink>, report: &Report, verbose: bool) -> u8 {
    failures(report);
    if verbose {
        out::stderr(&closing(report));
    }
    if let Some(words) = in_words(&report.workload.ended, &|field| place(inputs, field)) {
        out::stderr(&format!("palisade: {}\n", out::one_line(&words)));
        if let Some(help) = help(report) {
            out::stderr(&format!("  help    {}\n", out::one_line(help)));
        }
    }
    if let Some(denials) = &report.denials {
        out::stderr(&denied::told(denials));
    }
    let code = report.workload.exit_code;
    match write(sink, report) {
        // The workload's own failure tells more.
        Some(unwritten) if code == 0 => unwritten,
        _ => code,
    }
}

/// What could not be undone is said whatever else happened: something is left behind.
fn failures(report: &Report) {
    for failure in &report.failures {
        out::stderr(&format!("palisade: at the end: {}\n", out::one_line(failure)));
    }
}

/// Writes the report; the exit code where that failed.
fn write(sink: Option<Sink>, report: &Report) -> Option<u8> {
    let error = sink?.write(report).err()?;
    Some(unwritten("the report", &error))
}

fn not_started(inputs: &Inputs, command: &[OsString], trouble: &Trouble, host: Facts) -> Report {
    Report {
        version: REPORT_VERSION,
        palisade: env!("CARGO_PKG_VERSION").to_owned(),
        policy: PolicyReport { name: inputs.policy.clone(), files: Vec::new() },
        plugins: Vec::new(),
        host,
        steps: Vec::new(),
        workload: WorkloadReport {
            argv: command.iter().map(|word| word.to_string_lossy().into_owned()).collect(),
            stripped: Vec::new(),
            pid: None,
            ended: Ended::NotStarted { reason: trouble.headline() },
            exit_code: trouble.kind.exit_code(),
        },
        limits_hit: Vec::new(),
        limits_help: Vec::new(),
        denials: None,
        failures: Vec::new(),
        usage: Usage::default(),
        series: None,
        times: BTreeMap::new(),
    }
}

/// The line of the process section that a limit comes from. It is looked up only once the limit was hit.
fn place(inputs: &Inputs, field: fn(&Process) -> Option<Origin>) -> Option<String> {
    let palisade = ask::palisade(&inputs.dirs).ok()?;
    let policy = ask::policy(&palisade, &inputs.policy, &inputs.layers).ok()?;
    let (resolved, sources) = palisade.resolve(&policy).ok()?;
    field(&resolved.process).map(|origin| sources.locate(origin))
}

type Field = fn(&Process) -> Option<Origin>;

/// One line, where the exit code alone says too little. SIGINT and SIGPIPE are everyday, as in a shell.
fn in_words(ended: &Ended, place: &dyn Fn(Field) -> Option<String>) -> Option<String> {
    let at = |field| place(field).map(|place| format!(" at {place}")).unwrap_or_default();
    match ended {
        Ended::TimedOut { limit, kind: Clock::Wall } => {
            let at = at(|process| process.timeout.as_ref()?.origin);
            Some(format!("timed out: the workload ran longer than {limit} (timeout{at})"))
        }
        Ended::TimedOut { limit, kind: Clock::Cpu } => {
            let at = at(|process| process.cpu_time.as_ref()?.origin);
            Some(format!("timed out: the workload used more than {limit} of processor time (cpu_time{at})"))
        }
        Ended::LimitHit { limit, plugin } if plugin == CORE => {
            let at = at(|process| process.output_limit.as_ref()?.origin);
            Some(format!("limit hit: {limit}{at} ended the workload"))
        }
        // A plugin's words name the line themselves.
        Ended::LimitHit { limit, plugin } => Some(format!("limit hit: {plugin}: {limit}")),
        Ended::Signaled { name, .. } if matches!(name.as_str(), "SIGINT" | "SIGPIPE") => None,
        Ended::Signaled { signal, name, core } => {
            let core = if *core { ", core dumped" } else { "" };
            Some(format!("the workload was ended by {name} (signal {signal}{core})"))
        }
        Ended::Exited { .. } | Ended::SetupFailed { .. } | Ended::NotStarted { .. } => None,
    }
}

/// What can be done about the limit that ended the workload.
fn help(report: &Report) -> Option<&str> {
    let Ended::LimitHit { limit, .. } = &report.workload.ended else { return None };
    let mut hits = report.limits_hit.iter().zip(&report.limits_help);
    hits.find(|(hit, _)| *hit == limit).map(|(_, help)| help.as_str()).filter(|help| !help.is_empty())
}

fn opening(plan: &Plan) -> String {
    let files: Vec<&str> = plan.files.iter().map(|file| file.name.as_str()).collect();
    let plugins: Vec<&str> = plan.plugins.iter().map(|plugin| plugin.name.as_str()).collect();
    out::clean(&format!(
        "palisade: policy {} ({}), {} steps of {}\n",
        plan.policy,
        files.join(", "),
        plan.steps.len(),
        if plugins.is_empty() { "palisade itself".to_owned() } else { plugins.join(", ") },
    ))
}

/// Each step in one line, as it is done.
fn observer() -> Observer {
    Box::new(|info: &StepInfo, outcome: &Outcome, took: Duration| {
        out::stderr(&step_line(info, outcome, took));
    })
}

fn step_line(info: &StepInfo, outcome: &Outcome, took: Duration) -> String {
    let detail = outcome.detail();
    let detail = if detail.is_empty() { String::new() } else { format!(" ({})", out::one_line(detail)) };
    format!(
        "  {:8} {:12} {}: {}{detail} [{}]\n",
        info.stage.name(),
        out::one_line(&info.plugin),
        out::one_line(&info.words),
        outcome.word(),
        show::time(took),
    )
}

fn closing(report: &Report) -> String {
    let usage = &report.usage;
    let mut text = String::new();
    let how = match &report.workload.ended {
        Ended::Exited { code } => format!("exit code {code}"),
        other => in_words(other, &|_| None).unwrap_or_else(|| "a signal".to_owned()),
    };
    show::line(
        &mut text,
        format_args!(
            "palisade: ended: {how}; {} wall, {} user, {} system, {} at most",
            show::millis(usage.wall_ms),
            show::millis(usage.user_ms),
            show::millis(usage.sys_ms),
            show::size(usage.max_rss_kib.saturating_mul(1024)),
        ),
    );
    for (name, figure) in &usage.figures {
        show::line(&mut text, format_args!("  {name} {figure}"));
    }
    for (hit, help) in report.limits_hit.iter().zip(&report.limits_help) {
        show::line(&mut text, format_args!("  limit reached: {}", out::one_line(hit)));
        if !help.is_empty() {
            show::line(&mut text, format_args!("    help: {}", out::one_line(help)));
        }
    }
    out::clean(&text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_end_is_told_only_where_the_code_says_too_little() {
        let words = |ended: &Ended| in_words(ended, &|_| Some("p.ron:3:7".to_owned()));
        assert_eq!(words(&Ended::Exited { code: 3 }), None);
        let signal = |name: &str, core| Ended::Signaled { signal: 11, name: name.to_owned(), core };
        assert_eq!(words(&signal("SIGINT", false)), None);
        let said = words(&signal("SIGSEGV", true)).unwrap();
        assert_eq!(said, "the workload was ended by SIGSEGV (signal 11, core dumped)");
        let late = Ended::TimedOut { limit: "10s".to_owned(), kind: Clock::Wall };
        assert_eq!(words(&late).unwrap(), "timed out: the workload ran longer than 10s (timeout at p.ron:3:7)");
        let full = Ended::LimitHit { limit: "output_limit 1MiB".to_owned(), plugin: CORE.to_owned() };
        assert_eq!(words(&full).unwrap(), "limit hit: output_limit 1MiB at p.ron:3:7 ended the workload");
    }
}
