//! Which plugins run where, policies on top of each other: a map whose entries are replaced one by one.

use std::collections::BTreeMap;

use crate::diag::{Diagnostic, Origin, suggest};
use crate::layer::{At, Dotted, locked};
use crate::policy::{Hosting, Policy};
use crate::set::Setting;

/// The map so far.
#[derive(Default)]
pub(super) struct Hosts {
    places: BTreeMap<String, At<Hosting>>,
    /// A lock on all of it.
    lock: Option<Dotted>,
    /// Locks on single plugins.
    locks: BTreeMap<String, Dotted>,
}

/// The plugin that a path such as `hosts.NAME` names.
fn named(dotted: &Dotted) -> Option<&str> {
    dotted.path.strip_prefix("hosts.")
}

impl Hosts {
    fn lock_of(&self, name: &str) -> Option<&Dotted> {
        self.lock.as_ref().or_else(|| self.locks.get(name))
    }

    fn put(&mut self, name: &str, place: At<Hosting>, origin: Option<Origin>) -> Result<(), Diagnostic> {
        if let Some(lock) = self.lock_of(name) {
            return Err(locked(&format!("hosts.{name}"), lock, origin));
        }
        self.places.insert(name.to_owned(), place);
        Ok(())
    }

    /// Takes all of it away.
    pub(super) fn clear(&mut self, by: &Dotted) -> Result<(), Diagnostic> {
        if let Some(lock) = self.lock.as_ref().or(self.locks.values().next()) {
            return Err(locked("hosts", lock, by.origin));
        }
        self.places.clear();
        Ok(())
    }

    /// Puts a policy's entries on top, after what it drops; its own locks hold for later layers only.
    pub(super) fn add(&mut self, policy: &Policy) -> Result<(), Diagnostic> {
        for dotted in &policy.drop {
            let Some(name) = named(dotted) else { continue };
            if let Some(lock) = self.lock_of(name) {
                return Err(locked(&dotted.path, lock, dotted.origin));
            }
            if self.places.remove(name).is_none() {
                let known: Vec<&str> = self.places.keys().map(String::as_str).collect();
                let message = format!("`drop` names `{}`, which is not inherited", dotted.path);
                return Err(Diagnostic::new(message).at_opt(dotted.origin).help(suggest(name, &known)));
            }
        }
        for (name, place) in &policy.hosts {
            self.put(name, At { origin: name.origin, ..*place }, name.origin)?;
        }
        for dotted in &policy.locked {
            if let Some(name) = named(dotted) {
                self.locks.entry(name.to_owned()).or_insert_with(|| dotted.clone());
            } else if dotted.path == "hosts" {
                self.lock.get_or_insert_with(|| dotted.clone());
            }
        }
        Ok(())
    }

    /// Takes a `--set hosts.NAME=Process`.
    pub(super) fn set(&mut self, setting: &Setting) -> Result<(), Diagnostic> {
        const FORM: &str = "write --set hosts.NAME=Process, or Launcher";
        let [name] = setting.fields.as_slice() else {
            return Err(Diagnostic::new("this sets no plugin's place").at(setting.origin).help(FORM));
        };
        let value = setting.value.trim().trim_matches('"');
        let Some(place) = Hosting::named(value) else {
            let message = format!("a plugin cannot run in `{value}`");
            return Err(Diagnostic::new(message).at(setting.origin).help(suggest(value, &Hosting::NAMES)));
        };
        self.put(name, At { value: place, origin: Some(setting.origin) }, Some(setting.origin))
    }

    /// Every plugin that is named must be one of the policy.
    pub(super) fn finish<'a>(
        self,
        used: impl Iterator<Item = &'a String>,
    ) -> Result<BTreeMap<String, At<Hosting>>, Diagnostic> {
        let used: Vec<&str> = used.map(String::as_str).collect();
        match self.places.iter().find(|(name, _)| !used.contains(&name.as_str())) {
            None => Ok(self.places),
            Some((name, place)) => {
                let message = format!("`hosts` names `{name}`, which this policy does not use");
                Err(Diagnostic::new(message).at_opt(place.origin).help(suggest(name, &used)))
            }
        }
    }
}
