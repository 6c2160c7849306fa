//! `palisade plugin install` and `remove`: nothing is granted in silence.

use super::plugin::{claims, open, stages_or_none};
use super::{Said, show};
use crate::args::{PluginDirs, PluginInstall, PluginRemove};
use crate::{ask, out};
use palisade_runtime::model::stage::{Place, Stage};
use palisade_runtime::{Kind, Offer, Pin, Request, Signer, Trouble, Vouched};
use std::io::{self, IsTerminal as _};
use std::path::{Path, PathBuf};

pub(super) fn install(args: &PluginInstall) -> Result<Said, Trouble> {
    let dirs = ask::absolute(args.into.plugin_dir.as_slice())?;
    let mut palisade = open(&PluginDirs { plugin_dir: dirs.clone() })?;
    let request = Request {
        file: args.file.clone(),
        dir: dirs.first().cloned(),
        signature: args.signature.clone(),
        unsigned: args.unsigned,
    };
    let offer = palisade.plugins().offer(&request)?;
    if args.form.json {
        let pin = palisade.plugins().install(&offer, &args.grant)?;
        return told(&offer, &pin);
    }
    let text = out::clean(&description(&offer, &args.file));
    out::stdout(&text).map_err(|e| Trouble::new(Kind::Usage, format!("standard output cannot be written: {e}")))?;
    let grant = if args.grant.is_empty() { asked(&offer) } else { args.grant.clone() };
    let pin = palisade.plugins().install(&offer, &grant)?;
    let mut text = format!("\ninstalled  {}\ngranted    {}\n", offer.path.display(), stages_or_none(&pin.granted));
    let missing: Vec<Stage> = offer.ungranted().into_iter().filter(|stage| !pin.granted.contains(stage)).collect();
    if !missing.is_empty() {
        let all: Vec<Stage> = inside(&offer).collect();
        let dir = dirs.first().map(|dir| format!(" --plugin-dir {}", dir.display())).unwrap_or_default();
        let (name, all) = (&offer.manifest.name, stages_or_none(&all));
        show::line(&mut text, format_args!("not granted: {}; if you trust it:", stages_or_none(&missing)));
        show::line(&mut text, format_args!("  palisade plugin verify {name} --grant {all}{dir}"));
    }
    Ok(Said::text(out::clean(&text)))
}

/// Stages in the workload's process that it has steps in.
fn inside(offer: &Offer) -> impl Iterator<Item = Stage> {
    offer.manifest.stages.iter().copied().filter(|stage| stage.runs_in() == Place::Child)
}

/// Asks whoever sits at the terminal. Where nobody does, nothing is granted.
fn asked(offer: &Offer) -> Vec<Stage> {
    let wanted = offer.ungranted();
    if wanted.is_empty() || !io::stdin().is_terminal() || !io::stderr().is_terminal() {
        return Vec::new();
    }
    let names = stages_or_none(&wanted).replace(',', ", ");
    out::stderr(&format!("\nlet {} act in the workload's process, in {names}? [y/N] ", offer.manifest.name));
    let mut answer = String::new();
    // Whoever cannot be heard has not agreed.
    io::stdin().read_line(&mut answer).ok();
    let agreed = matches!(answer.trim().to_ascii_lowercase().as_str(), "y" | "yes");
    if agreed { wanted } else { Vec::new() }
}

fn description(offer: &Offer, file: &Path) -> String {
    let manifest = &offer.manifest;
    let mut text = String::new();
    // Somebody decides by this: no line of the plugin's may pass for one of ours.
    let (version, summary) = (out::one_line(&manifest.version), out::one_line(&manifest.summary));
    show::line(&mut text, format_args!("{} {version} (seam {})", manifest.name, manifest.seam));
    show::line(&mut text, format_args!("{summary}\n"));
    show::line(&mut text, format_args!("file     {}", out::name(&file.display().to_string())));
    show::line(&mut text, format_args!("sha256   {}", offer.sha256));
    show::line(&mut text, format_args!("goes to  {}", offer.path.display()));
    show::line(&mut text, format_args!("signed   {}", vouched(offer)));
    if let Some(changes) = offer.changes() {
        show::line(&mut text, format_args!("version  {}", out::one_line(&changes.version)));
        for change in &changes.lines {
            show::line(&mut text, format_args!("  - {}", out::one_line(change)));
        }
        if !offer.carried.is_empty() {
            show::line(&mut text, format_args!("  - it keeps what was granted: {}", stages_or_none(&offer.carried)));
        }
    }
    if offer.by_hand {
        show::line(&mut text, format_args!("replaces a file that was put there by hand"));
    }
    show::line(
        &mut text,
        format_args!(
            "\nall of it runs in palisade's own process, with the rights of whoever launches a policy that names it: \
             nothing contains it there"
        ),
    );
    show::line(&mut text, format_args!("\nit has steps in"));
    for stage in &manifest.stages {
        let row = stage.row();
        let (place, grant) = match row.runs_in {
            Place::Host => ("on the host", ""),
            Place::Kernel => ("in the call that makes the process", ""),
            Place::Child if offer.carried.contains(stage) => ("in the workload's process", "; granted before"),
            Place::Child => ("in the workload's process", "; only if it is granted"),
        };
        show::line(&mut text, format_args!("  {:8} {place}{grant}: {}", stage.name(), row.why));
    }
    claims(&mut text, manifest);
    text
}

fn vouched(offer: &Offer) -> String {
    match &offer.vouched {
        Vouched::By(signer) => signed(signer),
        Vouched::NoKey => format!(
            "by somebody, and nobody vouches for that: there is no key in {}, so the signature was not checked",
            offer.key_dirs
        ),
        Vouched::Unsigned => format!("no, and no key in {} asks for it", offer.key_dirs),
        Vouched::Waived => "not looked at (--unsigned)".to_owned(),
    }
}

/// A signature that was verified.
pub(super) fn signed(signer: &Signer) -> String {
    out::one_line(&format!("by key {} ({}): {}", signer.key, signer.file, signer.comment))
}

fn told(offer: &Offer, pin: &Pin) -> Result<Said, Trouble> {
    let manifest = &offer.manifest;
    let changes = offer.changes().map(|notes| serde_json::json!({ "version": notes.version, "notes": notes.lines }));
    let signature = match &offer.vouched {
        Vouched::By(_) => "verified",
        Vouched::NoKey => "no-key",
        Vouched::Unsigned => "none",
        Vouched::Waived => "waived",
    };
    let missing: Vec<Stage> = inside(offer).filter(|stage| !pin.granted.contains(stage)).collect();
    Said::json(&serde_json::json!({
        "name": manifest.name, "version": manifest.version, "path": offer.path.display().to_string(),
        "sha256": offer.sha256, "signature": signature, "signer": offer.signer(), "granted": pin.granted,
        "not_granted": missing, "changes": changes, "manifest": manifest,
    }))
}

pub(super) fn remove(args: &PluginRemove) -> Result<Said, Trouble> {
    let dirs = ask::absolute(args.into.plugin_dir.as_slice())?;
    let mut palisade = open(&PluginDirs { plugin_dir: dirs.clone() })?;
    let gone: PathBuf = palisade.plugins().uninstall(&args.name, dirs.first().map(PathBuf::as_path))?;
    if args.form.json {
        return Said::json(&serde_json::json!({ "name": args.name, "path": gone.display().to_string() }));
    }
    Ok(Said::text(out::clean(&format!("removed {}\n", gone.display()))))
}
