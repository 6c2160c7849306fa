//! `palisade plugin check`: what a plugin must keep to, tried.

use super::{Said, show};
use crate::args::PluginCheck;
use crate::out;
use palisade_check::{Checked, Report, Request, Verdict};
use palisade_runtime::model::exit::ExitCode;
use palisade_runtime::{Kind, Trouble};
use std::cell::Cell;
use std::io::IsTerminal as _;
use std::rc::Rc;
use std::time::{Duration, Instant};

/// What takes longer than this says how far it is.
const PATIENCE: Duration = Duration::from_secs(2);

pub(super) fn check(args: PluginCheck) -> Result<Said, Trouble> {
    let section = args.policy_section.as_deref().map(|path| {
        let unread = |error| Trouble::new(Kind::Usage, format!("{} cannot be read: {error}", path.display()));
        std::fs::read_to_string(path).map_err(unread)
    });
    let told: Rc<Cell<&'static str>> = Rc::default();
    let progress = progress(Rc::clone(&told));
    let (path, only, seed) = (args.path, args.only, args.seed);
    let report = palisade_check::check(Request { path, only, section: section.transpose()?, seed, progress });
    if !told.get().is_empty() {
        out::stderr("\r\x1b[K");
    }
    let report = report?;
    let code = match (report.failed(), report.untried()) {
        (true, _) => ExitCode::FAILED,
        (false, true) => ExitCode::HOST,
        (false, false) => ExitCode::OK,
    };
    if args.form.json {
        return Ok(Said::json(&report)?.code(code));
    }
    Ok(Said::text(out::clean(&text(&report))).code(code))
}

/// Shows on a terminal which check is made, and remembers it as `told`.
fn progress(told: Rc<Cell<&'static str>>) -> Box<dyn FnMut(&'static str)> {
    let (begun, seen) = (Instant::now(), std::io::stderr().is_terminal());
    Box::new(move |id| {
        if seen && begun.elapsed() > PATIENCE && told.get() != id {
            told.set(id);
            out::stderr(&format!("\r\x1b[Kchecking: {id}"));
        }
    })
}

fn text(report: &Report) -> String {
    let mut text = String::new();
    let width = show::widest(report.checks.iter().map(|check| check.id));
    for check in &report.checks {
        let verdict = check.verdict.words();
        let more = if check.reason.is_empty() { figures(check) } else { out::one_line(&check.reason) };
        show::line(&mut text, format_args!("{:width$}  {verdict:14}  {more}", check.id));
        let rows = check.seen.iter().map(|seen| ("seen", seen)).chain(check.notes.iter().map(|note| ("note", note)));
        for (label, what) in rows {
            show::line(&mut text, format_args!("{:width$}  {label:5} {}", "", out::one_line(what)));
        }
        if !check.help.is_empty() {
            show::line(&mut text, format_args!("{:width$}  help  {}", "", check.help));
        }
    }
    text.push('\n');
    text + &summary(report)
}

fn figures(check: &Checked) -> String {
    let figures: Vec<String> = check.figures.iter().map(|(name, value)| format!("{name} {value}")).collect();
    figures.join(", ")
}

fn summary(report: &Report) -> String {
    let count = |verdict| report.checks.iter().filter(|check| check.verdict == verdict).count();
    let untried = report.checks.iter().filter(|check| check.untried).count();
    let name = report.plugin.as_deref().unwrap_or(&report.path);
    let mut text = String::new();
    show::line(
        &mut text,
        format_args!(
            "{}: {} passed, {} failed, {} not applicable ({untried} of them for want of something here); uid {}, seed {}",
            out::one_line(name),
            count(Verdict::Passed),
            count(Verdict::Failed),
            count(Verdict::NotApplicable),
            report.uid,
            report.seed,
        ),
    );
    text
}
