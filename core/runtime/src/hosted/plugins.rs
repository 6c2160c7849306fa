//! Plugins that are opened in processes of their own: found and trusted as all others.

use super::Guest;
use super::helper::Start;
use crate::error::{Kind, Trouble};
use crate::lock::Entry;
use crate::palisade::Palisade;
use crate::plugins::{Candidate, Plugin, Plugins};
use palisade_model::policy::Hosting;

impl Palisade {
    /// Starts a plugin in a process of its own, which ends with what this gives: each launch has a new one. Nothing of
    /// any of `strangers`, of which it is one, runs in this process for that.
    ///
    /// # Errors
    /// It is missing, not trusted, or does not fit; the process cannot be made or confined.
    pub(crate) fn hosted(&mut self, name: &str, strangers: &[&str]) -> Result<Plugin, Trouble> {
        let Candidate { manifest, path, sha256, remembered, granted, file, .. } = self.plugins.known(name)?;
        let reference = &manifest.reference;
        let start = Start { plugin: name, file: &file, layout_known: remembered, reference, strangers };
        let library = Guest::start(self, &start).map_err(|trouble| trouble.row("file", path.display().to_string()))?;
        let library = Box::new(library);
        Ok(Plugin { manifest, path, sha256, granted, host: Hosting::Process, library })
    }

    /// Checks a plugin as [`Plugins::get`] does, but opens it in a process of its own, and remembers that it passed. That
    /// counts for grants; a launch that runs it in this process checks its layout here.
    ///
    /// # Errors
    /// As [`Plugins::get`]; the process cannot be made or confined.
    pub fn verify_hosted(&mut self, name: &str) -> Result<(), Trouble> {
        self.plugins.forget(name);
        let candidate = self.plugins.candidate(name)?;
        let plugin = self.hosted(name, &[name])?;
        if plugin.sha256 != candidate.sha256 {
            return Err(Trouble::new(Kind::Plugin, "its file was changed while it was checked").of(name));
        }
        let Candidate { manifest, path, sha256, facts, .. } = candidate;
        self.plugins.lock.put(&path, Entry::of_stranger(&facts, sha256, manifest));
        Ok(())
    }
}

impl Plugins {
    /// Whether a plugin was checked in a process of its own and never in this one: then nothing but a policy that says
    /// so has it run here.
    pub(crate) fn is_stranger(&self, name: &str) -> bool {
        let Ok(path) = self.find(name) else { return false };
        let Ok((_, facts)) = self.open(name, &path) else { return false };
        self.lock.get(&path, &facts).is_some_and(|entry| !entry.fits())
    }
}
