//! `palisade plugin`: what is there, what it says of itself, whether it is sound.

use super::{Said, install, new, show};
use crate::args::{PluginDirs, PluginInfo, PluginList, PluginVerb, PluginVerify, PolicyDirs};
use crate::{ask, out};
use palisade_runtime::model::exit::ExitCode;
use palisade_runtime::model::stage::Stage;
use palisade_runtime::{Candidate, Kind, Manifest, Origin, Palisade, Pin, Trouble, utc};
use serde::Serialize;
use std::collections::BTreeMap;

pub(super) fn plugin(verb: PluginVerb) -> Result<Said, Trouble> {
    match verb {
        PluginVerb::List(args) => list(&args),
        PluginVerb::Info(args) => info(&args),
        PluginVerb::Verify(args) => verify(&args),
        PluginVerb::Install(args) => install::install(&args),
        PluginVerb::Remove(args) => install::remove(&args),
        PluginVerb::Check(args) => super::check::check(args),
        PluginVerb::New(args) => new::new(&args),
    }
}

pub(super) fn open(dirs: &PluginDirs) -> Result<Palisade, Trouble> {
    ask::open(&PolicyDirs::default(), dirs)
}

/// All plugins that are there; that there is none is an error, because nothing can be run then.
pub(super) fn names(palisade: &mut Palisade) -> Result<Vec<String>, Trouble> {
    let names = palisade.plugins().names();
    if !names.is_empty() {
        return Ok(names);
    }
    let dirs: Vec<String> = palisade.plugins().dirs().iter().map(|dir| dir.display().to_string()).collect();
    Err(Trouble::new(Kind::Plugin, "there is no plugin")
        .row("file", format!("libpalisade_*.so in {}", dirs.join(", ")))
        .row("help", "install palisade's plugins into one of these, or name their directory with --plugin-dir"))
}

/// One plugin in a list.
#[derive(Default, Serialize)]
struct Listed {
    name: String,
    version: Option<String>,
    summary: Option<String>,
    path: Option<String>,
    sha256: Option<String>,
    /// Whether it was checked before, so that a launch does not check its layout again.
    remembered: Option<bool>,
    /// Stages in the workload's process that it was granted; null where it needs no grant.
    granted: Option<Vec<Stage>>,
    /// Where it came from.
    origin: Option<Origin>,
    /// The digest that it must have, because it was installed.
    pinned: Option<String>,
    /// The id of the key that vouches for it.
    signed_by: Option<String>,
    /// Why it would be refused.
    error: Option<String>,
    /// The same in one line.
    #[serde(skip)]
    why: String,
}

impl Listed {
    fn new(palisade: &mut Palisade, name: String) -> Self {
        let found = palisade.plugins().candidate(&name);
        Self::of(palisade, name, found)
    }

    fn of(palisade: &mut Palisade, name: String, found: Result<Candidate, Trouble>) -> Self {
        let pin = palisade.plugins().pinned(&name).filter(|pin| pin.installed.is_some());
        let signer = pin.and_then(|pin| pin.installed.as_ref()?.signer.as_ref());
        let (pinned, signed_by) = (pin.map(|pin| pin.sha256.clone()), signer.map(|signer| signer.key.clone()));
        let none = Self { name, pinned, signed_by, ..Self::default() };
        match found {
            Ok(found) => Self {
                version: Some(found.manifest.version),
                summary: Some(found.manifest.summary),
                path: Some(found.path.display().to_string()),
                sha256: Some(found.sha256),
                remembered: Some(found.remembered),
                granted: found.granted,
                origin: Some(found.origin),
                ..none
            },
            Err(trouble) => Self { error: Some(trouble.to_string()), why: trouble.message, ..none },
        }
    }
}

fn list(args: &PluginList) -> Result<Said, Trouble> {
    let mut palisade = open(&args.plugin_dirs)?;
    let names = names(&mut palisade)?;
    let all: Vec<Listed> = names.into_iter().map(|name| Listed::new(&mut palisade, name)).collect();
    let code = if all.iter().any(|one| one.error.is_some()) { ExitCode::PLUGIN } else { ExitCode::OK };
    if args.form.json {
        return Ok(Said::json(&all)?.code(code));
    }
    let width = show::widest(all.iter().map(|one| one.name.as_str()));
    let mut text = String::new();
    for one in &all {
        let version = one.version.as_deref().unwrap_or("refused");
        // A line of somebody else's must not pass for one of ours.
        let (version, summary) = (out::one_line(version), out::one_line(one.summary.as_ref().unwrap_or(&one.why)));
        show::line(&mut text, format_args!("{:width$}  {version:8}  {summary}", one.name));
    }
    Ok(Said::text(out::clean(&text)).code(code))
}

fn info(args: &PluginInfo) -> Result<Said, Trouble> {
    let mut palisade = open(&args.plugin_dirs)?;
    let found = palisade.plugins().candidate(&args.name)?;
    if args.form.json {
        let path = found.path.display().to_string();
        return Said::json(&serde_json::json!({
            "path": path, "sha256": found.sha256, "remembered": found.remembered, "granted": found.granted,
            "origin": found.origin, "pin": found.pin, "manifest": found.manifest,
        }));
    }
    Ok(Said::text(out::clean(&description(&found))))
}

fn description(found: &Candidate) -> String {
    let manifest = &found.manifest;
    let mut text = String::new();
    let (version, summary) = (out::one_line(&manifest.version), out::one_line(&manifest.summary));
    show::line(&mut text, format_args!("{} {version} (seam {})", manifest.name, manifest.seam));
    show::line(&mut text, format_args!("{summary}\n"));
    show::line(&mut text, format_args!("file     {}", found.path.display()));
    show::line(&mut text, format_args!("sha256   {}", found.sha256));
    show::line(&mut text, format_args!("origin   {}", found.origin));
    if let Some(Pin { installed: Some(installed), .. }) = &found.pin {
        show::line(&mut text, format_args!("pinned   since {}", utc(installed.since)));
        let signed = installed.signer.as_ref().map_or_else(|| "by nobody that is known".to_owned(), install::signed);
        show::line(&mut text, format_args!("signed   {signed}"));
    }
    let stages: Vec<&str> = manifest.stages.iter().map(|stage| stage.name()).collect();
    show::line(&mut text, format_args!("stages   {}", stages.join(", ")));
    if let Some(granted) = &found.granted {
        show::line(&mut text, format_args!("granted  {}", stages_or_none(granted)));
    }
    table(&mut text, "comes after", &manifest.after);
    claims(&mut text, manifest);
    show::line(&mut text, format_args!("\nevery option of its section in a policy"));
    for line in format!("\"{}\": {}", manifest.name, manifest.reference).lines() {
        show::line(&mut text, format_args!("  {line}"));
    }
    text
}

/// What a plugin says that it needs and cannot stop.
pub(super) fn claims(text: &mut String, manifest: &Manifest) {
    table(text, "privileges of the launcher", &manifest.privileges);
    table(text, "kernel features, and the first Linux that has them", &manifest.kernel);
    if !manifest.cannot_stop.is_empty() {
        show::line(text, format_args!("\nwhat it cannot stop"));
        for what in &manifest.cannot_stop {
            show::line(text, format_args!("  - {}", out::one_line(what)));
        }
    }
}

fn table(text: &mut String, title: &str, rows: &BTreeMap<String, String>) {
    if rows.is_empty() {
        return;
    }
    show::line(text, format_args!("\n{title}"));
    for (name, what) in rows {
        show::line(text, format_args!("  {}: {}", out::one_line(name), out::one_line(what)));
    }
}

fn verify(args: &PluginVerify) -> Result<Said, Trouble> {
    let mut palisade = open(&args.plugin_dirs)?;
    let names = match &args.name {
        Some(name) => vec![name.clone()],
        None => names(&mut palisade)?,
    };
    let mut all: Vec<Listed> = names.into_iter().map(|name| check(&mut palisade, name, args.hosted)).collect();
    let decides = args.revoke || !args.grant.is_empty();
    if let Some(name) = args.name.as_ref().filter(|_| decides && all.iter().all(|one| one.error.is_none())) {
        palisade.plugins().grant(name, &args.grant)?;
        all = vec![Listed::new(&mut palisade, name.clone())];
    }
    if let Err(error) = palisade.plugins().remember() {
        out::stderr(&format!("palisade: the result is not remembered, every launch checks again: {error}\n"));
    }
    let code = if all.iter().any(|one| one.error.is_some()) { ExitCode::PLUGIN } else { ExitCode::OK };
    if args.form.json {
        return Ok(Said::json(&all)?.code(code));
    }
    let width = show::widest(all.iter().map(|one| one.name.as_str()));
    let mut text = String::new();
    for one in &all {
        let digest = one.sha256.as_deref().unwrap_or_default();
        match &one.error {
            None => {
                let granted = one.granted.as_ref().map(|granted| format!("  granted: {}", stages_or_none(granted)));
                let granted = granted.unwrap_or_default();
                show::line(&mut text, format_args!("{:width$}  good     sha256:{digest}{granted}", one.name));
            }
            Some(error) => {
                show::line(&mut text, format_args!("{:width$}  refused\n{error}", one.name));
            }
        }
    }
    Ok(Said::text(out::clean(&text)).code(code))
}

/// Everything that a first use checks.
fn check(palisade: &mut Palisade, name: String, hosted: bool) -> Listed {
    palisade.plugins().forget(&name);
    let passed = if hosted { palisade.verify_hosted(&name) } else { palisade.plugins().get(&name).map(drop) };
    let found = passed.and_then(|()| palisade.plugins().candidate(&name));
    Listed::of(palisade, name, found)
}

pub(super) fn stages_or_none(stages: &[Stage]) -> String {
    let names: Vec<&str> = stages.iter().map(|stage| stage.name()).collect();
    if names.is_empty() { "none".to_owned() } else { names.join(",") }
}
