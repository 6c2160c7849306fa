//! What a plugin tells, from its form in memory to that of the SDK.

use super::read::Author;
use super::table::{
    PALISADE_FULL, PALISADE_PARTIAL, palisade_attempt, palisade_error, palisade_finding, palisade_hit, palisade_left,
    palisade_step,
};
use crate::error::{Error, ErrorKind};
use crate::told::{Attempt, Finding, Hit, Left, Support};
use palisade_model::diag::Origin;
use palisade_model::severity::Severity;

/// A step as the plugin handed it over, with copies of what it pointed to.
pub(super) struct Given {
    pub(super) raw: palisade_step,
    pub(super) stage: String,
    pub(super) words: String,
    pub(super) why: String,
    pub(super) demand: String,
    pub(super) ready: String,
    pub(super) after: Vec<String>,
    pub(super) origin: Option<Origin>,
}

pub(super) fn error(author: Author, error: *const palisade_error) -> Result<Error, String> {
    let raw = author.sized(error)?;
    // A kind that is not known here counts as the plugin's fault.
    let kind = u8::try_from(raw.kind).map_or(ErrorKind::Plugin, ErrorKind::from_code);
    Ok(Error {
        kind,
        message: author.text(raw.message)?,
        call: author.text(raw.call)?,
        errno: raw.number,
        help: author.text(raw.help)?,
        origin: author.origin(raw.origin)?,
    })
}

pub(super) fn finding(author: Author, finding: *const palisade_finding) -> Result<Finding, String> {
    let raw = author.sized(finding)?;
    let support = match raw.support {
        PALISADE_FULL => Support::Full,
        PALISADE_PARTIAL => Support::Partial,
        // What is not known here is not there.
        _ => Support::Missing,
    };
    let [feature, detail, remedy] = [author.text(raw.feature)?, author.text(raw.detail)?, author.text(raw.remedy)?];
    Ok(Finding { feature, support, detail, remedy })
}

pub(super) fn left(author: Author, left: *const palisade_left) -> Result<Left, String> {
    let raw = author.sized(left)?;
    Ok(Left { what: author.text(raw.what)?, removed: raw.removed != 0, why: author.text(raw.why)? })
}

pub(super) fn hit(author: Author, hit: *const palisade_hit) -> Result<Hit, String> {
    let raw = author.sized(hit)?;
    Ok(Hit {
        limit: author.text(raw.limit)?,
        words: author.text(raw.words)?,
        ended_it: raw.ended_it != 0,
        origin: author.origin(raw.origin)?,
    })
}

pub(super) fn attempt(author: Author, attempt: *const palisade_attempt) -> Result<Attempt, String> {
    const SEVERITIES: [Severity; 5] =
        [Severity::Critical, Severity::High, Severity::Medium, Severity::Low, Severity::Info];
    let raw = author.sized(attempt)?;
    let severity = usize::try_from(raw.severity).ok().and_then(|number| SEVERITIES.get(number));
    Ok(Attempt {
        id: author.text(raw.id)?,
        severity: *severity.ok_or_else(|| format!("an attempt of severity {}", raw.severity))?,
        attempts: author.text(raw.attempts)?,
        layers: author.text(raw.layers)?,
        needs: author.text(raw.needs)?,
        harmless: author.text(raw.harmless)?,
        argv: author.texts(raw.argv, raw.argc)?,
    })
}

pub(super) fn step(author: Author, step: *const palisade_step) -> Result<Given, String> {
    let raw = author.sized(step)?;
    let given = Given {
        raw,
        stage: author.text(raw.stage)?,
        words: author.text(raw.words)?,
        why: author.text(raw.why)?,
        demand: author.text(raw.demand)?,
        ready: author.text(raw.ready)?,
        after: author.texts(raw.after, raw.after_count)?,
        origin: author.origin(raw.origin)?,
    };
    let acts = [("apply", raw.apply), ("verify", raw.verify), ("witness", raw.witness), ("undo", raw.undo)];
    if given.words.is_empty() {
        return Err("a step without words".to_owned());
    }
    if given.ready.is_empty() && raw.apply.is_none() && given.stage != "clone" {
        return Err(format!("the step \"{}\" with neither `apply` nor `ready`", given.words));
    }
    match acts.into_iter().find(|(_, act)| act.is_some() && !given.ready.is_empty()) {
        Some((name, _)) => Err(format!("the step \"{}\" with both `ready` and `{name}`", given.words)),
        None => Ok(given),
    }
}
