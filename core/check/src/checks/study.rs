//! The section that all other checks use, and the steps that it gives.

use crate::cage::{Came, apart};
use crate::checks::LIMIT;
use crate::report::Outcome;
use crate::section::{fields, of};
use crate::subject::{Kit, Subject, is_inside, line};
use palisade_abi::{Error, ErrorKind, Host};
use palisade_runtime::model::plan::StepInfo;
use serde::{Deserialize, Serialize};

/// A section that this host can do.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Study {
    pub(crate) section: String,
    pub(crate) steps: Vec<StepInfo>,
}

/// A field that was left out, and why.
type LeftOut = Vec<(String, String)>;

/// Plans the reference, or the caller's section; where this host cannot do all of it, as much as it can.
pub(crate) fn reference(kit: &Kit, own: Option<&str>) -> (Outcome, Result<Study, String>) {
    let came = apart(&kit.progress, LIMIT, |marks| {
        marks.at("`configure` and `plan` of the reference");
        let (subject, host) = match (kit.load(), kit.host()) {
            (Ok(subject), Ok(host)) => (subject, host),
            (Err(error), _) => return (Outcome::failed(error.to_string()), Err("see `layout`".to_owned())),
            (_, Err(error)) => return (Outcome::untried(error.message.clone()), Err(error.message)),
        };
        let (mut outcome, study) = judged(&subject, &host, &kit.manifest.reference);
        match own {
            None => (outcome, study.map_err(|why| format!("there is no section to use: {why}"))),
            Some(own) => {
                let study = whole(&subject, &host, own).map_err(|error| format!("the section given: {}", line(&error)));
                if study.is_ok() {
                    outcome.note("what follows uses the section given instead of the reference");
                }
                (outcome, study)
            }
        }
    });
    match came {
        Came::Said(both) => both,
        Came::Failed(how) => {
            (Outcome::failed(how), Err("the plugin fails before it has a plan: see `reference`".into()))
        }
    }
}

fn whole(subject: &Subject, host: &Host, section: &str) -> Result<Study, Error> {
    let (_isolator, steps) = subject.planned(&[section], host)?;
    let steps = subject.envelopes(&steps).map_err(|why| Error::new(ErrorKind::Plugin, why))?;
    Ok(Study { section: section.to_owned(), steps })
}

fn judged(subject: &Subject, host: &Host, reference: &str) -> (Outcome, Result<Study, String>) {
    let error = match whole(subject, host, reference) {
        Ok(study) if study.steps.is_empty() => {
            return (Outcome::failed("the reference gives no step"), Err("the reference gives no step".to_owned()));
        }
        Ok(study) => return (Outcome::default(), Ok(study)),
        Err(error) => error,
    };
    let why = line(&error);
    if error.kind != ErrorKind::Host {
        return (Outcome::failed(format!("the reference is refused: {why}")), Err(format!("see `reference`: {why}")));
    }
    if error.message.trim().is_empty() {
        return (Outcome::failed("the error does not say what this host lacks"), Err("see `reference`".to_owned()));
    }
    let (study, left) = part(subject, host, reference);
    let mut outcome = Outcome::untried(format!("this host cannot do all of the reference: {why}"));
    let Some(study) = study else {
        // What is in the way of every field stands with the last of them.
        let last = left.into_iter().next_back().map(|(_, why)| why).filter(|last| *last != why);
        return (outcome, Err(last.map_or(why.clone(), |last| format!("{why}; without that: {last}"))));
    };
    let names: Vec<&str> = left.iter().map(|(name, _)| name.as_str()).collect();
    outcome.note(format!("what follows uses the reference without `{}`", names.join("`, `")));
    for (name, why) in left {
        outcome.note(format!("without `{name}`: {why}"));
    }
    (outcome, Ok(study))
}

/// As many fields of the reference as this host can do together.
fn part(subject: &Subject, host: &Host, reference: &str) -> (Option<Study>, LeftOut) {
    let (mut kept, mut left, mut best) = (Vec::new(), Vec::new(), None);
    for field in fields(reference) {
        kept.push(field);
        match whole(subject, host, &of(&kept)) {
            Ok(study) => best = Some(study),
            // A field may need a later one, such as the default a list.
            Err(error) => left.extend(kept.pop().map(|(name, value)| (name, value, line(&error)))),
        }
    }
    left.retain(|(name, value, _)| {
        kept.push((name.clone(), value.clone()));
        let Ok(study) = whole(subject, host, &of(&kept)) else {
            kept.pop();
            return true;
        };
        best = Some(study);
        false
    });
    let left = left.into_iter().map(|(name, _, why)| (name, why)).collect();
    (best.filter(|study| !study.steps.is_empty()), left)
}

/// Each step in a stage that the manifest declares.
pub(crate) fn stages(kit: &Kit) -> Outcome {
    let mut outcome = Outcome::default();
    for step in &kit.steps {
        if !kit.manifest.stages.contains(&step.stage) {
            outcome.saw(format!("`{}` is of stage {}, which the manifest does not declare", step.words, step.stage));
        }
    }
    for stage in kit.manifest.stages.iter().filter(|stage| !kit.steps.iter().any(|step| step.stage == **stage)) {
        outcome.note(format!("the manifest declares stage {stage}; the section used has no step there"));
    }
    outcome.figure("steps", u64::try_from(kit.steps.len()).unwrap_or(u64::MAX));
    outcome
}

/// Each step in one line, with its place.
pub(crate) fn words(kit: &Kit) -> Outcome {
    let mut outcome = Outcome::default();
    for step in &kit.steps {
        if step.words.trim().is_empty() || step.words.chars().any(char::is_control) {
            outcome.saw(format!("a step of stage {} is not one line in words: {:?}", step.stage, step.words));
        }
        if step.why.chars().any(|c| c.is_control() && c != '\n') {
            outcome.saw(format!("`{}` gives a reason with control characters: {:?}", step.words, step.why));
        }
        match step.origin {
            Some(origin) if !is_inside(origin, &[&kit.section]) => {
                outcome.saw(format!("`{}` names a place outside of the section", step.words));
            }
            Some(_) => {}
            None => outcome.note(format!("`{}` names no place in the section", step.words)),
        }
    }
    outcome
}
