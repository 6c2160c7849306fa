//! What is said to install plugins and to take them away.

use super::Form;
use clap::{Args, ValueHint};
use palisade_runtime::model::stage::Stage;
use std::path::PathBuf;

/// Install a plugin that did not come with palisade
///
/// Checks a plugin's file as far as it can be checked without running it, shows what it says of itself and who vouches
/// for it, asks which stages of the workload's process it may act in, copies it to the directory for such plugins and
/// pins its content: a file there that changes is refused from then on. It is loaded once, to see whether it fits;
/// that runs code of the plugin with all the rights of who installs it. A newer file of the same name takes the place
/// of the older one, and what is new in it is said.
#[derive(Debug, Args)]
pub(crate) struct PluginInstall {
    /// The plugin's file; its name does not matter
    #[arg(value_name = "PATH", value_hint = ValueHint::FilePath)]
    pub(crate) file: PathBuf,
    /// Let it act in these stages of the workload's process (build, drop, seal), without being asked. What was granted
    /// to the one that is installed stays, as far as it is still wanted
    #[arg(long, value_name = "STAGES", value_delimiter = ',')]
    pub(crate) grant: Vec<Stage>,
    /// Its signature, made with minisign; else PATH.minisig, where that is there
    #[arg(long, value_name = "FILE", value_hint = ValueHint::FilePath)]
    pub(crate) signature: Option<PathBuf>,
    /// Take it although nobody vouches for it; no signature is looked at
    #[arg(long, conflicts_with = "signature")]
    pub(crate) unsigned: bool,
    #[command(flatten)]
    pub(crate) into: Into,
    #[command(flatten)]
    pub(crate) form: Form,
}

/// Take away a plugin that was installed
///
/// Removes its file, its pin and what was granted to it. Plugins that came with palisade go with palisade.
#[derive(Debug, Args)]
pub(crate) struct PluginRemove {
    /// The plugin
    #[arg(value_name = "NAME")]
    pub(crate) name: String,
    #[command(flatten)]
    pub(crate) into: Into,
    #[command(flatten)]
    pub(crate) form: Form,
}

/// The directory that is meant.
#[derive(Debug, Args)]
pub(crate) struct Into {
    /// The directory that it is installed in, instead of the usual one
    #[arg(long, value_name = "DIR", value_hint = ValueHint::DirPath)]
    pub(crate) plugin_dir: Option<PathBuf>,
}
