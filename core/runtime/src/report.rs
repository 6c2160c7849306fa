//! The report of a launch, from what is known when it is over.

use crate::error::Trouble;
use crate::launch::Launch;
use crate::message::Death;
use palisade_abi::seam::RawFinish;
use palisade_model::diag::{Origin, Sources};
use palisade_model::exit::ExitCode;
use palisade_model::report::{Ended, PolicyReport, REPORT_VERSION, Report, StepReport, Usage, WorkloadReport};
use std::collections::BTreeMap;
use std::time::Duration;

/// What the isolators said when the workload had ended.
#[derive(Debug, Default)]
pub(crate) struct Finished {
    pub(crate) figures: BTreeMap<String, u64>,
    pub(crate) hits: Vec<String>,
    /// For each of them.
    pub(crate) help: Vec<String>,
    /// The plugin and the words of the limit that ended the workload.
    pub(crate) ended_it: Option<(String, String)>,
}

impl Finished {
    pub(crate) fn add(&mut self, plugin: &str, raw: RawFinish, sources: &Sources) {
        self.figures.extend(raw.figures.into_iter().map(|pair| (pair.0.into_string(), pair.1)));
        for hit in raw.hits {
            let place = hit.origin.into_option().map(|o| format!(" at {}", sources.locate(Origin::from(o))));
            let (what, help) = hit.words.split_once('\n').unwrap_or((&hit.words, ""));
            let words = format!("{what}{}", place.unwrap_or_default());
            self.help.push(help.to_owned());
            if hit.ended_it && self.ended_it.is_none() {
                self.ended_it = Some((plugin.to_owned(), words.clone()));
            }
            self.hits.push(words);
        }
    }
}

/// The report of a launch that did not come to a workload.
pub(crate) fn failed(launch: &Launch, trouble: &Trouble) -> Report {
    let (plugin, message) = (trouble.plugin.clone(), trouble.message.clone());
    let ended = Ended::SetupFailed { stage: trouble.stage, plugin, message };
    make(launch, ended, trouble.kind.exit_code(), Usage::default(), Finished::default())
}

/// The report of a workload that ended; `reached` is a limit of the launcher's own.
pub(crate) fn ended(
    launch: &Launch,
    death: &Death,
    reached: Option<Ended>,
    wall: Duration,
    mut finished: Finished,
) -> Report {
    let by_limit = finished.ended_it.take().filter(|_| death.signaled);
    let ended = reached
        .or_else(|| by_limit.map(|(plugin, limit)| Ended::LimitHit { limit, plugin }))
        .unwrap_or_else(|| how(death));
    let code = exit_code(&ended);
    let usage = Usage {
        wall_ms: u64::try_from(wall.as_millis()).unwrap_or(u64::MAX),
        user_ms: death.user_us / 1000,
        sys_ms: death.sys_us / 1000,
        max_rss_kib: death.max_rss_kib,
        figures: std::mem::take(&mut finished.figures),
    };
    make(launch, ended, code, usage, finished)
}

fn how(death: &Death) -> Ended {
    if death.signaled {
        let name = palisade_sys::signal::show(death.status);
        return Ended::Signaled { signal: death.status, name, core: death.core };
    }
    Ended::Exited { code: death.status }
}

fn exit_code(ended: &Ended) -> u8 {
    match ended {
        // A code outside a byte cannot come from the kernel; it must not become success.
        Ended::Exited { code } => u8::try_from(*code).unwrap_or(u8::MAX),
        Ended::Signaled { signal, .. } => ExitCode::signal(*signal),
        Ended::TimedOut { .. } => ExitCode::TIMED_OUT,
        Ended::LimitHit { .. } => ExitCode::LIMIT,
        Ended::SetupFailed { .. } | Ended::NotStarted { .. } => ExitCode::SETUP,
    }
}

fn make(launch: &Launch, ended: Ended, exit_code: u8, usage: Usage, finished: Finished) -> Report {
    let plan = &launch.plan;
    Report {
        version: REPORT_VERSION,
        palisade: env!("CARGO_PKG_VERSION").to_owned(),
        policy: PolicyReport { name: plan.policy.clone(), files: plan.files.clone() },
        plugins: plan.plugins.clone(),
        host: plan.facts.report(),
        steps: (0..plan.steps.len()).filter_map(|index| step(launch, index)).collect(),
        workload: WorkloadReport {
            argv: plan.process.argv.iter().map(|a| a.to_string_lossy().into_owned()).collect(),
            stripped: plan.process.stripped.clone(),
            pid: launch.lent.pid,
            ended,
            exit_code,
        },
        limits_hit: finished.hits,
        limits_help: finished.help,
        denials: None,
        failures: launch.failures.clone(),
        usage,
        series: None,
        times: launch.times.clone(),
    }
}

fn step(launch: &Launch, index: usize) -> Option<StepReport> {
    let info = &launch.plan.steps.get(index)?.info;
    let seen = launch.seen.get(&index).map(String::as_str).unwrap_or_default();
    let record = launch.records.get(&index);
    let (outcome, detail) = match record {
        Some(record) => {
            let outcome = record.came.outcome(seen);
            (outcome.word().to_owned(), outcome.detail().to_owned())
        }
        // A step of the birth itself has nothing to apply: what verification saw is its evidence.
        None if !seen.is_empty() => ("enforced".to_owned(), seen.to_owned()),
        None => ("skipped".to_owned(), "the launch did not come to it".to_owned()),
    };
    Some(StepReport {
        stage: info.stage,
        plugin: info.plugin.clone(),
        words: info.words.clone(),
        policy_line: info.origin.map(|o| launch.plan.sources.locate(o)),
        micros: record.map(|r| u64::from(r.micros)),
        outcome,
        detail,
    })
}
