//! Plugins that are opened in processes of their own: found and trusted as all others.

use super::{Guest, Start};
use crate::error::{Kind, Trouble};
use crate::lock::Entry;
use crate::plugins::{Candidate, Plugin, Plugins};
use palisade_model::policy::Hosting;

impl Plugins {
    /// Starts a plugin in a process of its own, which ends with what this gives: each launch has a new one.
    ///
    /// # Errors
    /// As [`Plugins::get`]; the process cannot be made or confined.
    pub fn get_hosted(&self, name: &str) -> Result<Plugin, Trouble> {
        let Candidate { manifest, path, sha256, remembered, granted, file, .. } = self.known(name)?;
        let start = Start { plugin: name, file: &file, layout_known: remembered, reference: &manifest.reference };
        let library = Guest::start(&start).map_err(|trouble| trouble.row("file", path.display().to_string()))?;
        let library = Box::new(library);
        Ok(Plugin { manifest, path, sha256, granted, host: Hosting::Process, library })
    }

    /// Checks a plugin as [`Plugins::get`] does, but opens it in a process of its own, and remembers that it passed. That
    /// counts for grants; a launch that runs it in this process checks its layout here.
    ///
    /// # Errors
    /// As [`Plugins::get_hosted`].
    pub fn verify_hosted(&mut self, name: &str) -> Result<(), Trouble> {
        self.forget(name);
        let candidate = self.candidate(name)?;
        let plugin = self.get_hosted(name)?;
        if plugin.sha256 != candidate.sha256 {
            return Err(Trouble::new(Kind::Plugin, "its file was changed while it was checked").of(name));
        }
        let Candidate { manifest, path, sha256, facts, .. } = candidate;
        self.lock.put(&path, Entry::of_stranger(&facts, sha256, manifest));
        Ok(())
    }

    /// Whether a plugin was checked in a process of its own and never in this one: then nothing but a policy that says
    /// so has it run here.
    pub(crate) fn is_stranger(&self, name: &str) -> bool {
        let Ok(path) = self.find(name) else { return false };
        let Ok((_, facts)) = self.open(name, &path) else { return false };
        self.lock.get(&path, &facts).is_some_and(|entry| !entry.fits())
    }
}
