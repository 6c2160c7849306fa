//! The front door: policies and plugins are found once, launched many times.

use crate::entries::Entries;
use crate::error::Trouble;
use crate::facts::Facts;
use crate::hosted;
use crate::names::{self, Named};
use crate::places::Places;
use crate::plan::{Parts, Plan};
use crate::plugins::{Plugin, Plugins};
use crate::policies::{self, Listed, Policy};
use crate::workload::Workload;
use palisade_abi::Left;
use palisade_model::diag::{Origin, Sources};
use palisade_model::policy::Hosting;
use palisade_model::resolve::Resolved;
use palisade_model::vars::Vars;
use palisade_sys::ids;
use std::collections::BTreeMap;
use std::rc::Rc;
use std::time::SystemTime;

/// Finds policies and plugins, and makes plans. It belongs to one thread: it launches by copying its process,
/// which is safe only where no other thread holds a lock.
#[derive(Debug)]
pub struct Palisade {
    pub(crate) places: Places,
    facts: Facts,
    pub(crate) plugins: Plugins,
    vars: Vars,
    /// Plans made so far, so that each launch has a name of its own.
    made: u64,
}

/// Plugins by their names.
type Loaded = BTreeMap<String, Rc<Plugin>>;

/// How much of a feature this host has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Support {
    /// All of it.
    Full,
    /// A part; the detail says what is missing.
    Partial,
    /// Nothing.
    Missing,
}

/// What a plugin found out about one thing that it needs.
#[derive(Clone, Debug)]
pub struct Finding {
    /// The feature, in the field's words.
    pub feature: String,
    /// How much of it is there.
    pub support: Support,
    /// What was seen: a version, a path, an errno.
    pub detail: String,
    /// What to do to get it; empty where nothing is to be done.
    pub remedy: String,
}

impl Palisade {
    /// Reads the facts of the host. Policies and plugins are read when they are asked for.
    ///
    /// # Errors
    /// The kernel is too old, or does not tell what it must.
    pub fn open(places: Places) -> Result<Self, Trouble> {
        let facts = Facts::read()?;
        let plugins = Plugins::new(&places);
        let vars = variables(&facts, &places);
        Ok(Self { places, facts, plugins, vars, made: 0 })
    }

    /// Loads a policy by name, or by path where `name` holds a `/`.
    ///
    /// # Errors
    /// There is none, or its file is not trusted.
    pub fn policy(&self, name: &str) -> Result<Policy, Trouble> {
        policies::load(&self.places, name)
    }

    /// All policies that can be found by name.
    #[must_use]
    pub fn policies(&self) -> Vec<Listed> {
        policies::list(&self.places)
    }

    /// Resolves a policy: `extends`, `--set`, variables, every default of the outer sections decided.
    ///
    /// # Errors
    /// A diagnostic that points at the line.
    pub fn resolve(&self, policy: &Policy) -> Result<(Resolved, Sources), Trouble> {
        let mut vars = self.vars.clone();
        vars.set_builtin("run_id", "0");
        self.resolve_with(policy, &mut define(vars, policy)?)
    }

    /// Resolves, and looks the user up only for a policy that asks who it is: that may ask a directory service.
    fn resolve_with(&self, policy: &Policy, vars: &mut Vars) -> Result<(Resolved, Sources), Trouble> {
        let first = policies::resolve_policy(&self.places, policy, vars);
        let asks = |sources: &Sources| sources.texts().any(|text| text.contains("${user}"));
        if first.as_ref().is_ok_and(|(_, sources)| !asks(sources)) {
            return first;
        }
        let Some(user) = ids::lookup_uid(self.facts.uid).ok().flatten() else { return first };
        vars.set_builtin("user", user.name);
        policies::resolve_policy(&self.places, policy, vars)
    }

    /// Makes the plan of a launch: loads the plugins that the policy names and asks each for its steps. Nothing
    /// is changed on the host.
    ///
    /// # Errors
    /// The policy is wrong, a plugin is missing or not trusted, or the host cannot give what is required.
    pub fn plan(&mut self, policy: &Policy, workload: Workload) -> Result<Plan, Trouble> {
        self.planned(policy, workload, &[])
    }

    /// The same; where it is for a process that one of `strangers` is to run in, it has no use for any of them.
    pub(crate) fn planned(&mut self, policy: &Policy, workload: Workload, strangers: &[&str]) -> Result<Plan, Trouble> {
        self.made += 1;
        let run_id = run_id(self.made);
        let mut vars = self.vars.clone();
        vars.set_builtin("run_id", run_id.clone());
        let mut vars = define(vars, policy)?;
        let (resolved, sources) = self.resolve_with(policy, &mut vars)?;
        let hosted = self.all_hosted(&resolved, &sources, strangers)?;
        let entries = Entries::begin()?;
        let plugins = self.plugins_of(&resolved, &sources, hosted, &entries)?;
        let names: Vec<&str> = resolved.plugins.keys().map(String::as_str).collect();
        let mut told = BTreeMap::from([("run_id".to_owned(), run_id), ("plugins".to_owned(), names.join(" "))]);
        told.extend(workload.explain.then(|| ("explain".to_owned(), "yes".to_owned())));
        told.extend(
            names::all().into_iter().map(|run| (format!("run.{}", run.name), format!("{} {}", run.pid, run.born))),
        );
        told.extend(vars.iter().map(|(name, value)| (format!("var.{name}"), value.to_owned())));
        let facts = self.facts.clone();
        let policy = policy.name.clone();
        Plan::make(Parts { policy, resolved, sources, plugins, workload, facts, told, entries })
    }

    /// The plugins of a policy that run in processes of their own.
    fn all_hosted(&mut self, resolved: &Resolved, sources: &Sources, strangers: &[&str]) -> Result<Loaded, Trouble> {
        let at = |origin: Option<Origin>| origin.map(|origin| sources.locate(origin)).unwrap_or_default();
        let hosts = resolved.hosts.iter().filter(|(_, place)| place.value == Hosting::Process);
        let hosts: Vec<(&str, String)> = hosts.map(|(name, place)| (name.as_str(), at(place.origin))).collect();
        if !strangers.is_empty() {
            let named = resolved.plugins.iter().find(|(name, _)| strangers.contains(&name.as_str()));
            let named = named.map(|(name, section)| (name.as_str(), at(section.origin)));
            return hosted::none_needed(named, hosts.into_iter().next()).map(|()| Loaded::new());
        }
        let names: Vec<&str> = hosts.iter().map(|(name, _)| *name).collect();
        let mut all = Loaded::new();
        for (name, line) in &hosts {
            let plugin = self.hosted(name, &names).map_err(|trouble| trouble.row("policy", line.clone()))?;
            all.insert((*name).to_owned(), Rc::new(plugin));
        }
        Ok(all)
    }

    /// All plugins of a policy, ordered by name.
    fn plugins_of(
        &mut self,
        resolved: &Resolved,
        sources: &Sources,
        mut found: Loaded,
        entries: &Entries,
    ) -> Result<Vec<Rc<Plugin>>, Trouble> {
        for (name, section) in &resolved.plugins {
            if !found.contains_key(name) {
                let line = || section.origin.map(|origin| sources.locate(origin)).unwrap_or_default();
                let plugin = self.plugins.get_within(name, entries);
                found.insert(name.clone(), plugin.map_err(|trouble| trouble.row("policy", line()))?);
            }
        }
        Ok(found.into_values().collect())
    }

    /// The runs of this user that have a name ([`crate::Options::name`]) and go on.
    #[must_use]
    pub fn running(&self) -> Vec<Named> {
        names::all()
    }

    /// The plugins: to list them, look at one, or check one again.
    pub fn plugins(&mut self) -> &mut Plugins {
        &mut self.plugins
    }

    /// What the host and the launcher are.
    #[must_use]
    pub fn facts(&self) -> &Facts {
        &self.facts
    }

    /// A plugin that no policy names a place for: in this process, unless it was only ever checked in one of its own.
    fn loaded(&mut self, plugin: &str) -> Result<Rc<Plugin>, Trouble> {
        match self.plugins.is_stranger(plugin) {
            true => self.hosted(plugin, &[plugin]).map(Rc::new),
            false => self.plugins.get(plugin),
        }
    }

    /// Asks a plugin what this host offers of what it needs.
    ///
    /// # Errors
    /// The plugin is missing, not trusted, or failed.
    pub fn probe(&mut self, plugin: &str) -> Result<Vec<Finding>, Trouble> {
        let loaded = self.loaded(plugin)?;
        let host = self.facts.host(&BTreeMap::new());
        let answer = Entries::begin()?.call(plugin, "probe", || loaded.library.probe(&host));
        let findings = answer.map_err(|error| Trouble::from_plugin(plugin, error, None, &Sources::default()))?;
        let finding = |told: palisade_abi::Finding| Finding {
            feature: told.feature,
            support: match told.support {
                palisade_abi::Support::Full => Support::Full,
                palisade_abi::Support::Partial => Support::Partial,
                palisade_abi::Support::Missing => Support::Missing,
            },
            detail: told.detail,
            remedy: told.remedy,
        };
        Ok(findings.into_iter().map(finding).collect())
    }

    /// Has a plugin find what runs that are over left on this host, and remove it where `remove` says so.
    ///
    /// # Errors
    /// The plugin cannot be loaded, or could not look.
    pub fn collect(&mut self, plugin: &str, remove: bool) -> Result<Vec<Left>, Trouble> {
        let loaded = self.loaded(plugin)?;
        let host = self.facts.host(&BTreeMap::new());
        let answer = Entries::begin()?.call(plugin, "collect", || loaded.library.collect(&host, remove));
        answer.map_err(|error| Trouble::from_plugin(plugin, error, None, &Sources::default()))
    }
}

/// The variables that palisade itself defines. One that the host does not give stays undefined, and a policy
/// that uses it is refused.
fn variables(facts: &Facts, places: &Places) -> Vars {
    let mut vars = Vars::new();
    let directory = std::env::current_dir().ok().and_then(|path| path.into_os_string().into_string().ok());
    // Where privileges were gained the environment is somebody else's word.
    let own = std::env::var("HOME").ok();
    let own = own.filter(|home| home.starts_with('/') && !palisade_sys::host::gained_privileges());
    let listed = || ids::lookup_uid(facts.uid).ok().flatten().map(|user| user.home.display().to_string());
    let values = [
        ("project", directory),
        ("home", own.or_else(listed)),
        ("tmp", Some("/tmp".to_owned())),
        ("palisade", places.host_program.as_ref().and_then(|path| path.to_str()).map(ToOwned::to_owned)),
        ("uid", Some(facts.uid.to_string())),
    ];
    for (name, value) in values {
        if let Some(value) = value {
            vars.set_builtin(name, value);
        }
    }
    vars
}

fn define(mut vars: Vars, policy: &Policy) -> Result<Vars, Trouble> {
    for (name, value) in &policy.vars {
        vars.define(name, value)
            .map_err(|d| Trouble::new(crate::Kind::Usage, d.message).row("help", d.help.unwrap_or_default()))?;
    }
    Ok(vars)
}

/// A name that no other launch of this host has: the process, the time and the count.
fn run_id(made: u64) -> String {
    let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    format!("{}-{:x}-{made}", palisade_sys::process::getpid(), since.as_micros())
}
