//! From a resolved policy to an ordered plan. Nothing is touched here: a plan can be printed and dropped.

use crate::entries::Entries;
use crate::error::{Kind, Trouble};
use crate::facts::Facts;
use crate::plugins::Plugin;
use crate::process;
use crate::ready;
use crate::workload::Workload;
use palisade_abi::abi_stable::std_types::{RString, Tuple2};
use palisade_abi::seam::{Failure, RawAttempt, RawChange, RawIsolator, RawStep};
use palisade_abi::{Attempt, Change, Changed, Error, Host, Severity, wrap};
use palisade_model::diag::Sources;
use palisade_model::plan::{Demand, StepInfo, order};
use palisade_model::policy::Hosting;
use palisade_model::report::{FileReport, PluginReport};
use palisade_model::resolve::Resolved;
use palisade_model::stage::{Place, Stage};
use std::collections::BTreeMap;
use std::rc::Rc;

/// The name under which palisade's own steps stand in a plan: process attributes are no plugin's.
pub const CORE: &str = "process";

/// One step with its envelope.
pub struct Planned {
    /// What the core knows of it.
    pub info: StepInfo,
    pub(crate) object: RawStep,
}

/// A part of what a step puts in force, exactly.
#[derive(Clone, Debug)]
pub struct Detail {
    /// What it is, in one word.
    pub name: String,
    /// As many lines as it takes.
    pub text: String,
}

impl Planned {
    /// What exactly the step will put in force, as far as its plugin says.
    ///
    /// # Errors
    /// The plugin could not be asked.
    pub fn details(&self) -> Result<Vec<Detail>, Trouble> {
        let details = Entries::begin()?.call(&self.info.plugin, "details", || self.object.details());
        let detail = |Tuple2(name, text): Tuple2<RString, RString>| Detail {
            name: name.into_string(),
            text: text.into_string(),
        };
        Ok(details.into_iter().map(detail).collect())
    }
}

impl std::fmt::Debug for Planned {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.info.fmt(f)
    }
}

/// A configured plugin.
pub(crate) struct Configured {
    pub(crate) name: String,
    pub(crate) object: RawIsolator,
}

/// All steps of a launch in order, and what they act on. It can be changed before it is launched.
pub struct Plan {
    /// The policy's name.
    pub policy: String,
    /// The steps in the order in which they are done.
    pub steps: Vec<Planned>,
    /// The policy's files with their digests.
    pub files: Vec<FileReport>,
    /// The plugins that take part.
    pub plugins: Vec<PluginReport>,
    /// The command.
    pub workload: Workload,
    /// Where every policy line stands.
    pub sources: Sources,
    pub(crate) facts: Facts,
    pub(crate) isolators: Vec<Configured>,
    pub(crate) process: process::Settings,
}

impl std::fmt::Debug for Plan {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Plan").field("policy", &self.policy).field("steps", &self.steps).finish()
    }
}

/// Everything that a plan is made from.
pub(crate) struct Parts {
    pub(crate) policy: String,
    pub(crate) resolved: Resolved,
    pub(crate) sources: Sources,
    pub(crate) plugins: Vec<Rc<Plugin>>,
    pub(crate) workload: Workload,
    pub(crate) facts: Facts,
    /// What is told to plugins about this launch, besides the facts of the host.
    pub(crate) told: BTreeMap<String, String>,
    /// Under which the plugins are asked.
    pub(crate) entries: Entries,
}

impl Plan {
    /// The `CLONE_NEW*` flags of all steps together.
    #[must_use]
    pub fn clone_flags(&self) -> u64 {
        let wanted = |s: &&Planned| s.info.demand != Demand::Off;
        self.steps.iter().filter(wanted).fold(0, |flags, step| flags | step.info.clone_flags)
    }

    /// The names of the caller's variables that the workload does not get because they look like secrets.
    #[must_use]
    pub fn stripped(&self) -> &[String] {
        &self.process.stripped
    }

    /// What earlier runs under this policy changed in trees of the host, where that was kept beside them: the plugin
    /// that knows, and each change, ordered by name.
    ///
    /// # Errors
    /// A plugin could not look.
    pub fn changes(&self) -> Result<Vec<(String, Change)>, Trouble> {
        let entries = Entries::patient()?;
        let mut all = Vec::new();
        for isolator in &self.isolators {
            let found = entries.call(&isolator.name, "changes", || isolator.object.changes()).into_result();
            let found = found.map_err(|f| failure(&isolator.name, f, None, &self.sources))?;
            for raw in found {
                all.push((isolator.name.clone(), change(&isolator.name, raw)?));
            }
        }
        all.sort_by(|(_, a), (_, b)| (&a.tree, &a.path).cmp(&(&b.tree, &b.path)));
        Ok(all)
    }

    /// What the plugins claim to stop, as commands that try it: the plugin, and each attempt.
    ///
    /// # Errors
    /// A plugin could not say, or says it in a form that this palisade does not know.
    pub fn attempts(&self) -> Result<Vec<(String, Attempt)>, Trouble> {
        let entries = Entries::begin()?;
        let mut all = Vec::new();
        for Configured { name, object } in &self.isolators {
            let found = entries.call(name, "attempts", || object.attempts()).into_result();
            for raw in found.map_err(|f| failure(name, f, None, &self.sources))? {
                all.push((name.clone(), attempt(name, raw)?));
            }
        }
        Ok(all)
    }

    pub(crate) fn make(parts: Parts) -> Result<Self, Trouble> {
        let Parts { policy, resolved, sources, plugins, workload, facts, mut told, entries } = parts;
        let process = process::Settings::new(&resolved.process, &workload, &sources)?;
        let ids = process::Ids::find(&resolved.process, &sources)?;
        told.extend(ids.uid.map(|uid| ("workload_uid".to_owned(), uid.to_string())));
        told.extend(ids.gid.map(|gid| ("workload_gid".to_owned(), gid.to_string())));
        let host = facts.host(&told);
        let mut isolators = Vec::with_capacity(plugins.len());
        let mut steps = Vec::new();
        let ask = Ask { entries, host: &host, sources: &sources, maker: ready::Maker::default() };
        for plugin in &plugins {
            let object = ask.configure(plugin, &resolved)?;
            steps.extend(ask.plan(plugin, &object)?);
            isolators.push(Configured { name: plugin.manifest.name.clone(), object });
        }
        drop(ask);
        let own = process::isolator(resolved.process.clone(), ids, &process);
        let own = own.plan(wrap::facts(&host)).into_result().map_err(|f| failure(CORE, f, None, &sources))?;
        for object in own {
            let info = read_envelope(CORE, &object).map_err(|why| Trouble::new(Kind::Plugin, why).of(CORE))?;
            steps.push(Planned { info, object });
        }
        let infos: Vec<StepInfo> = steps.iter().map(|s| s.info.clone()).collect();
        let sequence = order(&infos).map_err(|d| Trouble::diagnostic(Kind::Policy, &d, &sources))?;
        let mut waiting: Vec<Option<Planned>> = steps.into_iter().map(Some).collect();
        let steps = sequence.into_iter().filter_map(|i| waiting.get_mut(i)?.take()).collect();
        let files = crate::policies::files(&resolved, &sources);
        let reports = plugins.iter().map(|p| report(p)).collect();
        Ok(Self { policy, steps, files, plugins: reports, workload, sources, facts, isolators, process })
    }
}

fn change(plugin: &str, raw: RawChange) -> Result<Change, Trouble> {
    let what = match raw.what {
        0 => Changed::Added,
        1 => Changed::Changed,
        2 => Changed::Removed,
        other => {
            let why = format!("it tells of a change of kind {other}, which this palisade does not know");
            return Err(Trouble::new(Kind::Plugin, why).of(plugin));
        }
    };
    let from = raw.from.into_option().map(RString::into_string);
    Ok(Change { tree: raw.tree.into_string(), path: raw.path.into_string(), what, from })
}

fn attempt(plugin: &str, raw: RawAttempt) -> Result<Attempt, Trouble> {
    let refuse = |why: String| Err(Trouble::new(Kind::Plugin, why).of(plugin));
    let severity = match raw.severity {
        0 => Severity::Critical,
        1 => Severity::High,
        2 => Severity::Medium,
        3 => Severity::Low,
        4 => Severity::Info,
        other => return refuse(format!("it has an attempt of severity {other}, which this palisade does not know")),
    };
    let id = raw.id.into_string();
    let plain = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-';
    if id.is_empty() || !id.bytes().all(plain) || raw.argv.is_empty() {
        return refuse(format!("it has an attempt `{id}` that has no such name, or no command"));
    }
    let argv = raw.argv.into_iter().map(RString::into_string).collect();
    let [attempts, layers, needs, harmless] =
        [raw.attempts, raw.layers, raw.needs, raw.harmless].map(RString::into_string);
    Ok(Attempt { id, severity, attempts, layers, needs, harmless, argv })
}

fn report(plugin: &Plugin) -> PluginReport {
    PluginReport {
        name: plugin.manifest.name.clone(),
        version: plugin.manifest.version.clone(),
        sha256: plugin.sha256.clone(),
        path: plugin.path.display().to_string(),
        host: plugin.host.word().to_owned(),
    }
}

/// What is needed to ask plugins for their steps.
struct Ask<'a> {
    entries: Entries,
    host: &'a Host,
    sources: &'a Sources,
    maker: ready::Maker,
}

impl Ask<'_> {
    fn configure(&self, plugin: &Plugin, resolved: &Resolved) -> Result<RawIsolator, Trouble> {
        let name = plugin.manifest.name.as_str();
        let section = resolved.plugins.get(name);
        let layers = section.map(|section| section.layers.as_slice()).unwrap_or_default();
        let answer = self.entries.call(name, "configure", || plugin.library.configure(layers, self.host));
        let origin = section.and_then(|section| section.origin);
        answer.map_err(|error| Trouble::from_plugin(name, error, origin, self.sources))
    }

    fn plan(&self, plugin: &Plugin, object: &RawIsolator) -> Result<Vec<Planned>, Trouble> {
        let name = plugin.manifest.name.as_str();
        let steps = self.entries.call(name, "plan", || object.plan(wrap::facts(self.host))).into_result();
        let steps = steps.map_err(|f| failure(name, f, None, self.sources))?;
        steps.into_iter().map(|step| self.made(plugin, envelope(plugin, step)?)).collect()
    }

    /// Puts palisade's own doing in place of a step that is only told of.
    fn made(&self, plugin: &Plugin, planned: Planned) -> Result<Planned, Trouble> {
        let Planned { mut info, object } = planned;
        let ready = self.entries.call(&plugin.manifest.name, "plan", || object.ready()).into_option();
        let hosted = plugin.host == Hosting::Process;
        let Some(text) = ready.filter(|_| !hosted || info.stage.runs_in() != Place::Host) else {
            return if hosted { Err(on_the_host(plugin, &info)) } else { Ok(Planned { info, object }) };
        };
        let made = self.maker.make(&text, &mut info, self.host);
        let object = made.map_err(|why| {
            let file = plugin.path.display().to_string();
            let help = "report it to the plugin's author, unless it was written for a newer palisade";
            let trouble = Trouble::new(Kind::Plugin, why).of(&plugin.manifest.name);
            trouble.row("step", info.words.clone()).row("file", file).row("help", help)
        })?;
        Ok(Planned { info, object })
    }
}

/// What a plugin in a process of its own may not have: on the host its steps are done with the launcher's rights.
fn on_the_host(plugin: &Plugin, info: &StepInfo) -> Trouble {
    let why = format!("it runs in a process of its own, and may have no step on the host (stage {})", info.stage);
    let help = "let it run in the launcher, if you trust it";
    Trouble::new(Kind::Plugin, why).of(&plugin.manifest.name).row("step", info.words.clone()).row("help", help)
}

fn failure(plugin: &str, failure: Failure, origin: Option<palisade_model::diag::Origin>, sources: &Sources) -> Trouble {
    Trouble::from_plugin(plugin, Error::from(failure), origin, sources)
}

/// Reads a step's envelope and refuses one that the manifest does not allow: who installs a plugin goes by the
/// manifest.
fn envelope(plugin: &Plugin, object: RawStep) -> Result<Planned, Trouble> {
    let manifest = &plugin.manifest;
    let file = plugin.path.display().to_string();
    let refuse = |why: String| Trouble::new(Kind::Plugin, why).of(&manifest.name);
    let mut info = read_envelope(&manifest.name, &object).map_err(|why| {
        let help = "report it to the plugin's author, unless it was written for a newer palisade";
        refuse(why).row("step", object.words().into_string()).row("file", &file).row("help", help)
    })?;
    if !manifest.stages.contains(&info.stage) {
        let why = format!("it has a step in stage {}, which its manifest does not declare", info.stage);
        let help = "report it to the plugin's author";
        return Err(refuse(why).row("step", info.words).row("file", file).row("help", help));
    }
    let ungranted = |granted: &Vec<Stage>| info.stage.runs_in() == Place::Child && !granted.contains(&info.stage);
    if plugin.granted.as_ref().is_some_and(ungranted) {
        let wanted: Vec<&str> =
            manifest.stages.iter().filter(|s| s.runs_in() == Place::Child).map(|s| s.name()).collect();
        let why =
            format!("it did not come with palisade, and may not act in the workload's process (stage {})", info.stage);
        let dir = plugin.path.parent().unwrap_or(&plugin.path).display();
        let (name, wanted) = (&manifest.name, wanted.join(","));
        let help = format!("if you trust it: palisade plugin verify {name} --grant {wanted} --plugin-dir {dir}");
        return Err(refuse(why).row("step", info.words).row("file", file).row("help", help));
    }
    info.after.extend(manifest.after.keys().cloned());
    Ok(Planned { info, object })
}

/// Reads a step's envelope, whatever the manifest of its plugin says.
///
/// # Errors
/// A stage or a demand that palisade does not know, or flags that make no sense there.
pub fn read_envelope(plugin: &str, object: &RawStep) -> Result<StepInfo, String> {
    let stage = object.stage();
    let stage: Stage = stage
        .parse()
        .map_err(|_unknown: String| format!("a step is of stage `{stage}`, which this palisade does not know"))?;
    let demand = match object.demand().as_str() {
        "require" => Demand::Require,
        "degrade" => Demand::Degrade,
        "off" => Demand::Off,
        other => return Err(format!("a step has the demand `{other}`, which palisade does not know")),
    };
    let clone_flags = object.clone_flags();
    if clone_flags & !palisade_sys::namespace::ALL_CLONE_FLAGS != 0 {
        return Err(format!("a step asks for clone flags {clone_flags:#x}, which are not CLONE_NEW* flags"));
    }
    if clone_flags != 0 && stage.runs_in() != Place::Kernel {
        return Err(format!("a step of stage {stage} asks for clone flags"));
    }
    Ok(StepInfo {
        plugin: plugin.to_owned(),
        stage,
        words: object.words().into_string(),
        why: object.why().into_string(),
        origin: object.origin().into_option().map(Into::into),
        demand,
        after: object.after().into_iter().map(|s| s.into_string()).collect(),
        conflicts: Vec::new(),
        clone_flags,
        concurrent: object.concurrent(),
        witness: object.has_witness(),
    })
}
