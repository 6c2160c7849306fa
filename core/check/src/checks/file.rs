//! What can be read without running, and whether the library fits what was read.

use crate::cage::apart;
use crate::checks::{LIMIT, told};
use crate::report::Outcome;
use crate::subject::Kit;
use palisade_abi::manifest::Manifest;
use palisade_abi::{MANIFEST_SECTION, SEAM_VERSION};
use ron::value::RawValue;
use std::collections::BTreeMap;
use std::path::Path;

/// The manifest's fields, one by one.
pub(crate) fn manifest(text: &str, path: &Path) -> (Outcome, Option<Manifest>) {
    let manifest = match Manifest::parse(text) {
        Ok(manifest) => manifest,
        Err(why) => return (Outcome::failed(format!("the section {MANIFEST_SECTION} is no manifest: {why}")), None),
    };
    let mut outcome = Outcome::default();
    for (field, text) in [("summary", &manifest.summary), ("version", &manifest.version)] {
        if text.trim().is_empty() || !is_a_line(text) {
            outcome.saw(format!("`{field}` is not one line of text: {text:?}"));
        }
    }
    if manifest.stages.is_empty() {
        outcome.saw("`stages` is empty: every step will be refused");
    }
    let mut stages = manifest.stages.clone();
    stages.sort();
    stages.dedup();
    if stages.len() != manifest.stages.len() {
        outcome.saw("`stages` names a stage twice");
    }
    if manifest.after.contains_key(&manifest.name) {
        outcome.saw("`after` names the plugin itself");
    }
    tables(&mut outcome, &manifest);
    seam(&mut outcome, &manifest);
    if let Err(why) = ron::from_str::<&RawValue>(&manifest.reference) {
        outcome.saw(format!("`reference` is no RON: {why}"));
    }
    let file = format!("libpalisade_{}.so", manifest.name.replace('-', "_"));
    if path.file_name().is_none_or(|name| name != file.as_str()) {
        outcome.note(format!("to be found by palisade it is to be called {file}"));
    }
    (outcome, Some(manifest))
}

fn is_a_line(text: &str) -> bool {
    !text.chars().any(char::is_control)
}

fn tables(outcome: &mut Outcome, manifest: &Manifest) {
    let kernel: Vec<&String> = manifest.kernel.values().collect();
    let tables: [&BTreeMap<String, String>; 3] = [&manifest.after, &manifest.privileges, &manifest.kernel];
    for (field, rows) in "after privileges kernel".split(' ').zip(tables) {
        for (name, why) in rows {
            if [name, why].into_iter().any(|text| text.trim().is_empty() || !is_a_line(text)) {
                outcome.saw(format!("`{field}` has a row that is not a line of text each: {name:?}: {why:?}"));
            }
        }
    }
    for version in kernel {
        let first = version.split(';').next().unwrap_or_default().trim();
        if first.is_empty() || !first.split('.').all(|part| part.parse::<u32>().is_ok()) {
            outcome
                .saw(format!("`kernel` has {version:?} where the first Linux that has it belongs, such as \"5.13\""));
        }
    }
    for what in manifest.cannot_stop.iter().filter(|what| what.trim().is_empty() || !is_a_line(what)) {
        outcome.saw(format!("`cannot_stop` has what is not a line of text: {what:?}"));
    }
    if manifest.cannot_stop.is_empty() {
        outcome.note("`cannot_stop` is empty; there is hardly anything that stops all");
    }
}

fn seam(outcome: &mut Outcome, manifest: &Manifest) {
    let ours = version(SEAM_VERSION);
    match manifest.seam_version() {
        Some((major, _)) if Some(major) != ours.map(|(major, _)| major) => {
            outcome.saw(format!("it is for seam {}; this palisade has {SEAM_VERSION}", manifest.seam));
        }
        theirs if theirs > ours => {
            outcome.saw(format!("it is for seam {}, which is newer than {SEAM_VERSION} here", manifest.seam));
        }
        _ => {}
    }
}

fn version(text: &str) -> Option<(u32, u32)> {
    let mut parts = text.split('.').map(|part| part.parse().ok());
    Some((parts.next()??, parts.next()??))
}

/// Whether manifest and library agree.
pub(crate) fn versions(outcome: &mut Outcome, manifest: &Manifest, library: &str) {
    if manifest.seam_version() != version(library) {
        let seam = &manifest.seam;
        outcome.saw(format!("the manifest says seam {seam}, the library was built with palisade-abi {library}"));
    }
}

/// Opens the library; gives the seam that it says it is for.
pub(crate) fn layout(kit: &Kit) -> (Outcome, Option<String>) {
    told(apart(&kit.progress, LIMIT, |marks| {
        marks.at("`dlopen`, in a constructor of the library");
        match kit.load() {
            Ok(subject) => (Outcome::default(), Some(subject.seam().to_owned())),
            Err(error) => (Outcome::failed(error.to_string()), None),
        }
    }))
}
