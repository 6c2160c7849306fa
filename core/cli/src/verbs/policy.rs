//! `palisade policy`: which there are, what they say, whether they are right.

use super::{Said, show};
use crate::args::{Layers, PluginDirs, PolicyCheck, PolicyList, PolicyShow, PolicyVerb};
use crate::{ask, out};
use palisade_runtime::model::diag::{Origin, Sources};
use palisade_runtime::model::exit::ExitCode;
use palisade_runtime::model::layer::{Dotted, Fragment};
use palisade_runtime::model::resolve::Resolved;
use palisade_runtime::{Hosting, Kind, Palisade, Plan, Policy, Trouble, Workload};
use serde::Serialize;
use std::collections::BTreeMap;

pub(super) fn policy(verb: PolicyVerb) -> Result<Said, Trouble> {
    match verb {
        PolicyVerb::List(args) => list(&args),
        PolicyVerb::Show(args) => show(&args),
        PolicyVerb::Check(args) => check(args),
        PolicyVerb::Test(args) => super::claims::test(&args),
    }
}

#[derive(Serialize)]
struct Row {
    name: String,
    /// Its file, or nothing where it is built in.
    path: Option<String>,
    description: Option<String>,
    /// Why it cannot be used.
    error: Option<String>,
}

fn list(args: &PolicyList) -> Result<Said, Trouble> {
    let palisade = ask::open(&args.policy_dirs, &PluginDirs::default())?;
    let row = |listed: palisade_runtime::Listed| {
        let resolved = palisade.policy(&listed.name).and_then(|policy| palisade.resolve(&policy));
        let path = listed.path.map(|path| path.display().to_string());
        match resolved {
            Ok((resolved, _)) => Row { name: listed.name, path, description: resolved.description, error: None },
            Err(trouble) => Row { name: listed.name, path, description: None, error: Some(trouble.message) },
        }
    };
    let rows: Vec<Row> = palisade.policies().into_iter().map(row).collect();
    if args.form.json {
        return Said::json(&rows);
    }
    let width = show::widest(rows.iter().map(|row| row.name.as_str()));
    let mut text = String::new();
    for row in &rows {
        let what = match (&row.description, &row.error) {
            (_, Some(error)) => format!("wrong: {error}"),
            (Some(description), None) => description.clone(),
            (None, None) => String::new(),
        };
        let place = row.path.as_ref().map(|path| format!(" ({path})")).unwrap_or_default();
        show::line(&mut text, format_args!("{:width$}  {what}{place}", row.name));
    }
    Ok(Said::text(out::clean(&text)))
}

fn show(args: &PolicyShow) -> Result<Said, Trouble> {
    let mut palisade = ask::palisade(&args.dirs)?;
    let policy = ask::policy(&palisade, &args.name, &args.layers)?;
    if args.bpf {
        return programs(args, &palisade.plan(&policy, Workload::command(["true"]))?);
    }
    if !args.resolved {
        return as_written(args, &policy);
    }
    let (resolved, sources) = palisade.resolve(&policy)?;
    let whole = Whole::new(&args.name, &resolved, &sources);
    if args.form.json {
        return Said::json(&whole);
    }
    Ok(Said::text(out::foreign(&whole.text())))
}

/// The name under which a plugin gives a BPF program.
const BPF: &str = "bpf";

#[derive(Serialize)]
struct Program<'a> {
    plugin: &'a str,
    words: &'a str,
    bpf: String,
}

/// The programs that a plan would load, as the plugins that made them show them.
fn programs(args: &PolicyShow, plan: &Plan) -> Result<Said, Trouble> {
    let mut programs = Vec::new();
    for step in &plan.steps {
        let shown = step.details()?.into_iter().filter(|detail| detail.name == BPF);
        let info = &step.info;
        programs.extend(shown.map(|detail| Program { plugin: &info.plugin, words: &info.words, bpf: detail.text }));
    }
    if args.form.json {
        return Said::json(&programs);
    }
    if programs.is_empty() {
        return Ok(Said::text(format!("{} loads no BPF program\n", args.name)));
    }
    let mut text = String::new();
    for program in programs {
        show::line(&mut text, format_args!("; {}: {}\n{}", program.plugin, program.words, program.bpf.trim_end()));
    }
    Ok(Said::text(out::foreign(&text)))
}

fn as_written(args: &PolicyShow, policy: &Policy) -> Result<Said, Trouble> {
    let layers = &args.layers;
    if !layers.sets.is_empty() || !layers.vars.is_empty() {
        return Err(Trouble::new(Kind::Usage, "--set and --var change nothing of a policy as it is written")
            .row("help", "add --resolved"));
    }
    if args.form.json {
        return Said::json(&serde_json::json!({"name": args.name, "text": policy.text()}));
    }
    let text = out::foreign(policy.text());
    Ok(Said::text(text.trim_end().to_owned() + "\n"))
}

/// A policy with everything that makes it up.
#[derive(Serialize)]
struct Whole<'a> {
    name: &'a str,
    description: Option<&'a str>,
    /// Base first.
    files: Vec<&'a str>,
    sections: Vec<Section<'a>>,
    /// Where plugins run, as far as the policy says.
    hosts: BTreeMap<&'a str, Hosting>,
    tests: usize,
}

#[derive(Serialize)]
struct Section<'a> {
    name: &'a str,
    /// Base first.
    layers: Vec<Layer<'a>>,
}

#[derive(Serialize)]
struct Layer<'a> {
    from: String,
    text: &'a str,
    replaces: Vec<&'a str>,
    drops: Vec<&'a str>,
    locks: Vec<&'a str>,
}

impl<'a> Whole<'a> {
    fn new(name: &'a str, resolved: &'a Resolved, sources: &'a Sources) -> Self {
        let section = |name, layers: &'a [Fragment]| Section {
            name,
            layers: layers.iter().map(|layer| Layer::new(layer, sources)).collect(),
        };
        let mut sections = vec![section("process", &resolved.process_layers)];
        sections.extend(resolved.plugins.iter().map(|(name, plugin)| section(name, &plugin.layers)));
        Self {
            name,
            description: resolved.description.as_deref(),
            files: resolved.chain.iter().map(|id| sources.name(*id)).collect(),
            sections,
            hosts: resolved.hosts.iter().map(|(name, place)| (name.as_str(), place.value)).collect(),
            tests: resolved.tests.len(),
        }
    }

    fn text(&self) -> String {
        let mut text = String::new();
        show::line(&mut text, format_args!("// {}: {}", self.name, self.description.unwrap_or("no description")));
        show::line(&mut text, format_args!("// files, base first: {}", self.files.join(", ")));
        for section in &self.sections {
            show::line(&mut text, format_args!("\n// {}, base first", section.name));
            for layer in &section.layers {
                layer.write(&mut text, section.name);
            }
        }
        if !self.hosts.is_empty() {
            let hosts: Vec<String> = self.hosts.iter().map(|(name, place)| format!("{name:?}: {place:?}")).collect();
            show::line(&mut text, format_args!("\n// where plugins run\nhosts: {{ {} }},", hosts.join(", ")));
        }
        show::line(&mut text, format_args!("\n// {} tests", self.tests));
        text
    }
}

impl<'a> Layer<'a> {
    fn new(layer: &'a Fragment, sources: &Sources) -> Self {
        let origin = Origin { source: layer.source, start: layer.offset, end: layer.offset };
        let paths = |dotted: &'a [Dotted]| dotted.iter().map(|d| d.path.as_str()).collect();
        Self {
            from: sources.locate(origin),
            text: &layer.text,
            replaces: paths(&layer.replace),
            drops: paths(&layer.drop),
            locks: paths(&layer.locked),
        }
    }

    fn write(&self, text: &mut String, section: &str) {
        show::line(text, format_args!("// {}", self.from));
        for (what, paths) in [("replaces", &self.replaces), ("drops", &self.drops), ("locks", &self.locks)] {
            if !paths.is_empty() {
                show::line(text, format_args!("// {what} {}", paths.join(", ")));
            }
        }
        let head = if section == "process" { "process".to_owned() } else { format!("{section:?}") };
        show::line(text, format_args!("{head}: {},", self.text));
    }
}

#[derive(Serialize)]
struct Verdict {
    policy: String,
    good: bool,
    /// What kind of trouble: `policy`, `plugin`, `host`.
    kind: Option<&'static str>,
    /// The whole message.
    error: Option<String>,
    #[serde(skip)]
    trouble: Option<Trouble>,
}

fn check(args: PolicyCheck) -> Result<Said, Trouble> {
    let mut palisade = ask::palisade(&args.dirs)?;
    let mut judge = |name: String| {
        let trouble = judge(&mut palisade, &meant(&name), &args.layers).err();
        Verdict {
            good: trouble.is_none(),
            kind: trouble.as_ref().map(|t| kind(t.kind)),
            error: trouble.as_ref().map(ToString::to_string),
            policy: name,
            trouble,
        }
    };
    let verdicts: Vec<Verdict> = args.files.into_iter().map(&mut judge).collect();
    let kinds = verdicts.iter().filter_map(|v| v.trouble.as_ref()).map(|t| t.kind);
    let code = kinds.min_by_key(|kind| weight(*kind)).map_or(ExitCode::OK, Kind::exit_code);
    if args.form.json {
        return Ok(Said::json(&verdicts)?.code(code));
    }
    let mut text = String::new();
    for verdict in &verdicts {
        match &verdict.trouble {
            None => show::line(&mut text, format_args!("{}: good", verdict.policy)),
            Some(trouble) => out::trouble(trouble),
        }
    }
    Ok(Said::text(out::clean(&text)).code(code))
}

/// `check project.ron` means the file: no name holds a dot.
fn meant(argument: &str) -> String {
    let name = argument.chars().all(|c| c.is_ascii_alphanumeric() || c == '-' || c == '_');
    if name || argument.contains('/') { argument.to_owned() } else { format!("./{argument}") }
}

/// A plan asks every plugin; its command is not looked up, so any will do.
fn judge(palisade: &mut Palisade, name: &str, layers: &Layers) -> Result<(), Trouble> {
    let policy = ask::policy(palisade, name, layers)?;
    palisade.plan(&policy, Workload::command(["true"])).map(|_plan| ())
}

fn kind(kind: Kind) -> &'static str {
    match kind {
        Kind::Usage => "usage",
        Kind::Policy => "policy",
        Kind::Plugin => "plugin",
        Kind::Host => "host",
        Kind::Setup | Kind::NotFound | Kind::NotExecutable => "set-up",
    }
}

/// Of several verdicts the one about the policy itself counts most, the one about this host least.
fn weight(kind: Kind) -> u8 {
    match kind {
        Kind::Usage => 0,
        Kind::Policy => 1,
        Kind::Plugin => 2,
        Kind::Setup | Kind::NotFound | Kind::NotExecutable => 3,
        Kind::Host => 4,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_has_no_dot() {
        assert_eq!(meant("untrusted"), "untrusted");
        assert_eq!(meant("my.ron"), "./my.ron");
        assert_eq!(meant("a/b"), "a/b");
    }
}
