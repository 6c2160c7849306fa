//! `palisade doctor`: what this host offers, to root and to an ordinary user.

use super::{Said, plugin, show};
use crate::args::Doctor;
use crate::{ask, out};
use palisade_runtime::model::exit::ExitCode;
use palisade_runtime::{Facts, KERNEL_FEATURES, Kind, Palisade, SHIPPED, Support, Trouble, Workload};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::os::unix::process::CommandExt as _;
use std::process::{Command, Stdio};

/// The version of the JSON's shape.
const VERSION: u32 = 1;
/// A directory that every host has and every user may enter, and that no policy gives another meaning.
const NEUTRAL: &str = "/var/tmp";
/// "nobody" on every distribution.
const NOBODY: u32 = 65534;

/// What was found out.
#[derive(Serialize, Deserialize)]
struct Health {
    version: u32,
    palisade: String,
    host: BTreeMap<String, String>,
    /// As whoever asked; for root also as an ordinary user.
    views: Vec<View>,
    /// Why there is no view as an ordinary user, where there should be one.
    no_view: Option<String>,
}

/// What one user gets.
#[derive(Serialize, Deserialize)]
struct View {
    uid: u32,
    plugins: Vec<Patient>,
    /// The policies that ship; empty where plugins were named.
    policies: Vec<Usable>,
}

/// Whether a policy can be used here.
#[derive(Serialize, Deserialize)]
struct Usable {
    name: String,
    /// Why not.
    error: Option<String>,
}

/// One plugin.
#[derive(Serialize, Deserialize)]
struct Patient {
    name: String,
    version: String,
    summary: String,
    /// Why it cannot be used at all.
    error: Option<String>,
    findings: Vec<Found>,
    /// What the launcher's privileges are for.
    privileges: BTreeMap<String, String>,
    /// The first Linux that has each feature.
    kernel: BTreeMap<String, String>,
}

#[derive(Serialize, Deserialize)]
struct Found {
    feature: String,
    /// `yes`, `part` or `no`.
    there: String,
    detail: String,
    remedy: String,
}

pub(super) fn doctor(mut args: Doctor) -> Result<Said, Trouble> {
    args.plugin_dirs.plugin_dir = ask::absolute(&args.plugin_dirs.plugin_dir)?;
    // Policies say `${project}`: whether they work must not depend on where this is called. Elsewhere than in
    // `NEUTRAL` it is still the host that is asked.
    std::env::set_current_dir(NEUTRAL).ok();
    let args = &args;
    let mut palisade = plugin::open(&args.plugin_dirs)?;
    let names = if args.plugins.is_empty() { plugin::names(&mut palisade)? } else { args.plugins.clone() };
    let uid = palisade.facts().uid;
    let plugins = names.iter().map(|name| examine(&mut palisade, name)).collect();
    // The next launch need not check again what was checked here; nothing depends on it.
    palisade.plugins().remember().ok();
    let policies = if args.plugins.is_empty() { usable(&mut palisade) } else { Vec::new() };
    let mut health = Health {
        version: VERSION,
        palisade: env!("CARGO_PKG_VERSION").to_owned(),
        host: palisade.facts().report(),
        views: vec![View { uid, plugins, policies }],
        no_view: None,
    };
    if uid == 0 {
        match ordinary(args) {
            Ok(view) => health.views.push(view),
            Err(why) => health.no_view = Some(why),
        }
    }
    let code = health.views.first().map_or(ExitCode::OK, verdict);
    if args.form.json {
        return Ok(Said::json(&health)?.code(code));
    }
    Ok(Said::text(out::clean(&text(&health, palisade.facts()))).code(code))
}

fn examine(palisade: &mut Palisade, name: &str) -> Patient {
    let mut patient = Patient {
        name: name.to_owned(),
        version: String::new(),
        summary: String::new(),
        error: None,
        findings: Vec::new(),
        privileges: BTreeMap::new(),
        kernel: BTreeMap::new(),
    };
    let found = palisade.plugins().candidate(name).and_then(|found| {
        let manifest = found.manifest;
        patient.version = manifest.version;
        patient.summary = manifest.summary;
        patient.privileges = manifest.privileges;
        patient.kernel = manifest.kernel;
        palisade.probe(name)
    });
    match found {
        Ok(findings) => {
            let found = |finding: palisade_runtime::Finding| Found {
                feature: finding.feature,
                there: word(finding.support).to_owned(),
                detail: finding.detail,
                remedy: finding.remedy,
            };
            patient.findings = findings.into_iter().map(found).collect();
        }
        Err(trouble) => patient.error = Some(trouble.to_string()),
    }
    patient
}

fn word(support: Support) -> &'static str {
    match support {
        Support::Full => "yes",
        Support::Partial => "part",
        Support::Missing => "no",
    }
}

/// What an ordinary user gets, asked by a process that is one: only doing it tells.
fn ordinary(args: &Doctor) -> Result<View, String> {
    let id = |name: &str| std::env::var(name).ok()?.parse().ok().filter(|id| *id != 0);
    let mut command = Command::new("/proc/self/exe");
    command.args(["doctor", "--json"]).env_clear().stdin(Stdio::null());
    for dir in &args.plugin_dirs.plugin_dir {
        command.arg("--plugin-dir").arg(dir);
    }
    // The groups are dropped by the standard library where it changes the uid.
    command.arg("--").args(&args.plugins);
    command.uid(id("SUDO_UID").unwrap_or(NOBODY)).gid(id("SUDO_GID").unwrap_or(NOBODY));
    let output = command.output().map_err(|error| format!("palisade could not be run as an ordinary user: {error}"))?;
    let health: Result<Health, _> = serde_json::from_slice(&output.stdout);
    match health.ok().and_then(|mut health| health.views.pop()) {
        Some(view) => Ok(view),
        None => Err(out::one_line(&String::from_utf8_lossy(&output.stderr))),
    }
}

/// What is missing matters where a policy needs it; where plugins were named, nothing is to be missing.
fn verdict(view: &View) -> u8 {
    let lacking = |patient: &Patient| patient.findings.iter().any(|found| found.there == word(Support::Missing));
    let useless = |policy: &Usable| policy.error.is_some();
    if view.plugins.iter().any(|patient| patient.error.is_some()) {
        return Kind::Plugin.exit_code();
    }
    let ill = match view.policies.is_empty() {
        true => view.plugins.iter().any(lacking),
        false => view.policies.iter().any(useless),
    };
    if ill { Kind::Host.exit_code() } else { ExitCode::OK }
}

/// Makes a plan under each policy that ships: every plugin that it names looks whether it can do its part.
fn usable(palisade: &mut Palisade) -> Vec<Usable> {
    let judge = |(name, _): &(&str, &str)| {
        let policy = palisade.policy(name);
        let plan = policy.and_then(|policy| palisade.plan(&policy, Workload::command(["true"])));
        Usable { name: (*name).to_owned(), error: plan.err().map(|trouble| trouble.to_string()) }
    };
    SHIPPED.iter().map(judge).collect()
}

fn text(health: &Health, facts: &Facts) -> String {
    let mut text = String::new();
    show::line(&mut text, format_args!("Linux {} on {}", facts.release, facts.machine));
    later(&mut text, KERNEL_FEATURES.into_iter(), facts.kernel);
    for view in &health.views {
        let who = if view.uid == 0 { "root" } else { "an ordinary user" };
        show::line(&mut text, format_args!("\nas {who} (uid {})", view.uid));
        for patient in &view.plugins {
            patient_text(&mut text, patient, facts.kernel);
        }
        policies_text(&mut text, view);
        if view.uid != 0 && health.views.len() == 1 {
            privileges_text(&mut text, view);
        }
    }
    if let Some(why) = &health.no_view {
        show::line(&mut text, format_args!("\nas an ordinary user: not known: {why}"));
    }
    text
}

fn patient_text(text: &mut String, patient: &Patient, kernel: (u32, u32)) {
    show::line(text, format_args!("  {} {}", patient.name, patient.version));
    if let Some(error) = &patient.error {
        show::line(text, format_args!("    no    {}", error.replace('\n', "\n          ")));
    }
    let width = show::widest(patient.findings.iter().map(|found| found.feature.as_str()));
    for found in &patient.findings {
        show::line(text, format_args!("    {:4}  {:width$}  {}", found.there, found.feature, found.detail));
        if !found.remedy.is_empty() && found.there != word(Support::Full) {
            show::line(text, format_args!("          to get it: {}", found.remedy));
        }
    }
    later(text, patient.kernel.iter().map(|(feature, since)| (feature.as_str(), since.as_str())), kernel);
}

/// Says what came after this kernel.
fn later<'a>(text: &mut String, features: impl Iterator<Item = (&'a str, &'a str)>, kernel: (u32, u32)) {
    for (feature, since) in features.filter(|(_, since)| younger(since, kernel)) {
        let (since, without) = since.split_once("; ").unwrap_or((since, ""));
        let until = if without.is_empty() { String::new() } else { format!("; until then: {without}") };
        show::line(text, format_args!("    later {feature}: from Linux {since} on{until}"));
    }
}

fn policies_text(text: &mut String, view: &View) {
    if view.policies.is_empty() {
        return;
    }
    show::line(text, format_args!("  policies"));
    let width = show::widest(view.policies.iter().map(|policy| policy.name.as_str()));
    for policy in &view.policies {
        match &policy.error {
            None => show::line(text, format_args!("    yes   {}", policy.name)),
            Some(error) => {
                show::line(
                    text,
                    format_args!("    no    {:width$}  {}", policy.name, error.replace('\n', "\n          ")),
                );
            }
        }
    }
}

fn privileges_text(text: &mut String, view: &View) {
    let rows = view.plugins.iter().filter(|patient| !patient.privileges.is_empty());
    for (index, patient) in rows.enumerate() {
        if index == 0 {
            show::line(text, format_args!("\nwhat more privileges are for"));
        }
        for (capability, without) in &patient.privileges {
            show::line(text, format_args!("  {}: {capability}: {without}", patient.name));
        }
    }
}

/// Whether a feature came after this kernel. A distribution may have brought it back: the findings are what counts.
fn younger(since: &str, kernel: (u32, u32)) -> bool {
    let since = since.split(';').next().unwrap_or_default();
    let mut numbers = since.split('.').map_while(|part| part.parse::<u32>().ok());
    let Some(major) = numbers.next() else {
        return false;
    };
    (major, numbers.next().unwrap_or_default()) > kernel
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_compare_as_numbers() {
        assert!(younger("5.13; refused", (5, 10)) && younger("6.1", (5, 19)) && younger("7", (6, 18)));
        assert!(!younger("5.9", (5, 10)) && !younger("5.10", (5, 10)) && !younger("any", (5, 10)));
    }
}
