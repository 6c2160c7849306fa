//! From what was said to what is meant.

use crate::args::{Dirs, Layers, PluginDirs, PolicyDirs};
use palisade_runtime::{Kind, Palisade, Places, Policy, Trouble};
use std::path::{Path, PathBuf};

/// Opens the runtime with the caller's directories.
pub(crate) fn palisade(dirs: &Dirs) -> Result<Palisade, Trouble> {
    open(&dirs.policies, &dirs.plugins)
}

/// The same for verbs that know policies only, or plugins only.
pub(crate) fn open(policies: &PolicyDirs, plugins: &PluginDirs) -> Result<Palisade, Trouble> {
    Palisade::open(Places {
        policy_dirs: absolute(&policies.policy_dir)?,
        plugin_dirs: absolute(&plugins.plugin_dir)?,
        // This program: see `verbs::perform`.
        host_program: std::env::current_exe().ok(),
        ..Places::default()
    })
}

/// A policy with what the caller adds to it.
pub(crate) fn policy(palisade: &Palisade, name: &str, layers: &Layers) -> Result<Policy, Trouble> {
    let policy = palisade.policy(name)?;
    let policy = layers.sets.iter().fold(policy, |policy, set| policy.set(set));
    Ok(layers.vars.iter().fold(policy, |policy, (name, value)| policy.var(name, value)))
}

/// Trust is judged along the whole path, so it must be whole.
pub(crate) fn absolute(dirs: &[PathBuf]) -> Result<Vec<PathBuf>, Trouble> {
    let whole = |dir: &PathBuf| std::path::absolute(dir).map_err(|error| unusable(dir, &error));
    dirs.iter().map(whole).collect()
}

fn unusable(path: &Path, error: &std::io::Error) -> Trouble {
    Trouble::new(Kind::Usage, format!("{} cannot be used: {error}", path.display()))
}
