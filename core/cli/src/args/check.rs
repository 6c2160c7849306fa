//! What can be said to `palisade plugin check`.

use super::Form;
use clap::{Args, ValueHint};
use std::path::PathBuf;

/// Try on a plugin what every plugin must keep to
///
/// For its author: takes the library as `cargo build` left it, calls each of its entries with what a policy can hold
/// and with what it cannot, and looks at what they leave behind. Each check runs in a process of its own, so that a
/// plugin which crashes or hangs fails that check and no more. **The plugin runs with the caller's rights**, as root
/// also its steps on the host.
#[derive(Debug, Args)]
pub(crate) struct PluginCheck {
    /// The plugin's file
    #[arg(value_name = "PATH", value_hint = ValueHint::FilePath)]
    pub(crate) path: PathBuf,
    /// Only this check; may be given several times
    #[arg(long, value_name = "CHECK", value_delimiter = ',')]
    pub(crate) only: Vec<String>,
    /// Use the section in this file, as a policy has it for the plugin, instead of the reference in the manifest: for
    /// a host that cannot do all of the reference
    #[arg(long, value_name = "FILE", value_hint = ValueHint::FilePath)]
    pub(crate) policy_section: Option<PathBuf>,
    /// What mutations of the section are made from; the same number makes the same ones
    #[arg(long, value_name = "NUMBER", default_value_t = 1)]
    pub(crate) seed: u64,
    #[command(flatten)]
    pub(crate) form: Form,
}
