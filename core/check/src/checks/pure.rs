//! What entries leave behind in their process.

use crate::checks::loaded;
use crate::report::Outcome;
use crate::state::{State, children, left, own_descriptors, threads as other_threads};
use crate::subject::{Kit, Subject, line, plan};
use palisade_abi::Host;
use palisade_sys::fd;

/// `probe`, `configure` and `plan` change nothing, and a plan is the same twice.
pub(crate) fn pure(kit: &Kit) -> Outcome {
    loaded(kit, |subject, host, marks| {
        let mut outcome = Outcome::default();
        let mut open = own_descriptors();
        let mut before = State::own();
        let mut unchanged = |outcome: &mut Outcome, entry: &str| {
            let now = State::own();
            for change in before.changes(&now) {
                outcome.saw(format!("`{entry}` changes its process: {change}"));
            }
            before = now;
            let children = children();
            if !children.is_empty() {
                outcome.saw(format!("`{entry}` leaves {} child processes", children.len()));
            }
        };
        marks.at("`probe`");
        if let Err(error) = subject.probe(host) {
            outcome.saw(format!("`probe` fails: {}", line(&error)));
        }
        unchanged(&mut outcome, "probe");
        for what in left(&open, &own_descriptors()) {
            outcome.saw(format!("`probe`: {what}"));
        }
        open = own_descriptors();
        marks.at("`configure`");
        let isolator = subject.configure(&[&kit.section], host);
        unchanged(&mut outcome, "configure");
        let isolator = match isolator {
            Ok(isolator) => isolator,
            Err(error) => return Outcome::failed(format!("what was taken before is refused now: {}", line(&error))),
        };
        marks.at("`plan`");
        let first = plan(&isolator, host).map(|steps| subject.described(&steps));
        unchanged(&mut outcome, "plan");
        let second = plan(&isolator, host).map(|steps| subject.described(&steps));
        let anew = subject.planned(&[&kit.section], host).map(|(_, steps)| subject.described(&steps));
        match (first, second, anew) {
            (Ok(first), Ok(second), Ok(anew)) if first == second && second == anew => {}
            (Ok(_), Ok(_), Ok(_)) => outcome.saw("the plan of one section is not the same twice"),
            (first, second, anew) => {
                for error in [first.err(), second.err(), anew.err()].into_iter().flatten() {
                    outcome.saw(format!("`plan` fails: {}", line(&error)));
                }
            }
        }
        drop(isolator);
        for what in left(&open, &own_descriptors()) {
            outcome.saw(format!("`configure` or `plan`: {what} when the isolator is gone"));
        }
        outcome
    })
}

/// No entry leaves a thread; what is watched is open.
pub(crate) fn threads(kit: &Kit) -> Outcome {
    loaded(kit, |subject, host, marks| {
        let mut outcome = Outcome::default();
        marks.at("an entry");
        if let Err(why) = entries(kit, subject, host, &mut outcome) {
            outcome.saw(why);
        }
        outcome
    })
}

fn entries(kit: &Kit, subject: &Subject, host: &Host, outcome: &mut Outcome) -> Result<(), String> {
    let none = |entry: &str| match other_threads() {
        0 => Ok(()),
        count => Err(format!("`{entry}` leaves {count} threads")),
    };
    none("dlopen")?;
    subject.probe(host).ok();
    none("probe")?;
    let mut isolator = subject.configure(&[&kit.section], host).map_err(|error| line(&error))?;
    none("configure")?;
    let steps = plan(&isolator, host).map_err(|error| line(&error))?;
    none("plan")?;
    for number in isolator.watch() {
        if fd::borrow(number).and_then(|open| fd::dup_cloexec(open).map(drop)).is_err() {
            outcome.saw(format!("`watch` names descriptor {number}, which is not open"));
        }
    }
    none("watch")?;
    isolator.sample().into_result().ok();
    none("sample")?;
    isolator.finish().into_result().ok();
    none("finish")?;
    drop((steps, isolator));
    Ok(())
}
