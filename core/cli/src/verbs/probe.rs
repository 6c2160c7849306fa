//! `palisade probe`: what stays open under a policy.

use super::{Said, show};
use crate::args::Probe;
use crate::{ask, out};
use palisade_probe::{Probed, Report, Request, Severity, Verdict};
use palisade_runtime::Trouble;
use palisade_runtime::model::exit::ExitCode;

pub(super) fn probe(args: &Probe) -> Result<Said, Trouble> {
    let mut palisade = ask::palisade(&args.inputs.dirs)?;
    let policy = ask::policy(&palisade, &args.inputs.policy, &args.inputs.layers)?;
    let request = Request { palisade: &mut palisade, policy: &policy, only: args.only.as_deref() };
    let report = palisade_probe::probe(request)?;
    let code = if report.holds() && report.changed.is_empty() { ExitCode::OK } else { ExitCode::FAILED };
    if args.form.json {
        return Ok(Said::json(&report)?.code(code));
    }
    Ok(Said::text(text(&report, args.verbose)).code(code))
}

fn text(report: &Report, all: bool) -> String {
    let mut text = String::new();
    let shown: Vec<&Probed> = report.probes.iter().filter(|probe| all || is_to_be_seen(probe)).collect();
    let width = show::widest(shown.iter().map(|probe| probe.id.as_ref()));
    for (_, group) in palisade_probe::GROUPS {
        let within: Vec<&&Probed> = shown.iter().filter(|probe| probe.group == *group).collect();
        if within.is_empty() {
            continue;
        }
        let gap = if text.is_empty() { "" } else { "\n" };
        show::line(&mut text, format_args!("{gap}{group}"));
        for probe in within {
            show::line(&mut text, format_args!("  {:width$}  {:8}  {}", probe.id, probe.severity.word(), came(probe)));
        }
    }
    if !text.is_empty() {
        text.push('\n');
    }
    text + &summary(report)
}

/// What is open, and what is not known to be stopped.
fn is_to_be_seen(probe: &Probed) -> bool {
    matches!(probe.result, Verdict::Open | Verdict::Inconclusive(_))
}

/// What came of an attempt, with what it was where that is to be looked at.
fn came(probe: &Probed) -> String {
    let said = out::one_line(&probe.result.text());
    match &probe.result {
        Verdict::Open => {
            format!("{}: {} (what should stop it: {})", out::alarming(&said), probe.attempts, probe.layers)
        }
        _ => said,
    }
}

fn summary(report: &Report) -> String {
    let counts = &report.summary;
    let mut text = String::new();
    show::line(
        &mut text,
        format_args!(
            "{}: {} attempts as uid {}, {} of them open without a policy; with it {} are stopped",
            out::one_line(&report.policy),
            counts.probes,
            report.uid,
            counts.bare_open,
            counts.blocked,
        ),
    );
    let open: Vec<String> = Severity::ALL
        .iter()
        .filter_map(|severity| Some((severity, counts.open.get(severity.word()).filter(|count| **count > 0)?)))
        .map(|(severity, count)| format!("{count} {}", severity.word()))
        .collect();
    let open = if open.is_empty() { "nothing".to_owned() } else { open.join(", ") };
    show::line(
        &mut text,
        format_args!(
            "open: {open}; not applicable: {} (not open without a policy either); inconclusive: {}",
            counts.not_applicable, counts.inconclusive,
        ),
    );
    for change in &report.changed {
        let said = out::alarming("not as it was before");
        show::line(&mut text, format_args!("{said}: {}", out::one_line(change)));
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use palisade_probe::{REPORT_VERSION, Summary, probes};
    use std::collections::BTreeMap;

    fn report() -> Report {
        let verdict = |id: &str| match id {
            "fs-read-outside" => Verdict::Open,
            "fs-chroot" => Verdict::NotApplicable("without a policy: DENIED(EPERM)".to_owned()),
            _ => Verdict::Denied("EPERM".to_owned()),
        };
        let probed = |probe: &palisade_probe::Probe| Probed {
            id: probe.id.into(),
            group: probe.group(),
            severity: probe.severity,
            layers: probe.layers.into(),
            attempts: probe.attempts.into(),
            needs: probe.needs.into(),
            harmless: probe.harmless.into(),
            bare: Verdict::Open,
            policy: verdict(probe.id),
            result: verdict(probe.id),
        };
        let open = BTreeMap::from([("critical", 1), ("high", 0)]);
        let summary = Summary { probes: 3, bare_open: 2, blocked: 1, open, not_applicable: 1, inconclusive: 0 };
        Report {
            version: REPORT_VERSION,
            policy: "mine".to_owned(),
            uid: 0,
            kernel: "6".to_owned(),
            probes: probes().filter(|probe| probe.group() == "file system").take(40).map(probed).collect(),
            summary,
            changed: Vec::new(),
        }
    }

    #[test]
    fn only_what_is_open_is_shown() {
        let text = text(&report(), false);
        assert!(
            text.starts_with("file system\n  fs-read-outside  critical  OPEN: read a file outside the view"),
            "{text}"
        );
        assert!(!text.contains("fs-chroot") && text.contains("open: 1 critical; not applicable: 1"), "{text}");
    }

    #[test]
    fn all_is_shown_where_it_is_asked_for() {
        let text = text(&report(), true);
        assert!(text.contains("N/A(without a policy: DENIED(EPERM))") && text.contains("DENIED(EPERM)"), "{text}");
    }

    #[test]
    fn a_change_is_said() {
        let mut report = report();
        report.changed.push("mount: x".to_owned());
        assert!(text(&report, false).contains("not as it was before: mount: x"));
    }
}
