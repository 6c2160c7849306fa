//! What can be said to `palisade policy`.

use super::{Dirs, Form, Layers, PolicyDirs};
use clap::{Args, Subcommand, ValueHint};

/// List, show, check and test policies
///
/// Policies are found by name in the directories below, then among those that are built in; a file is used by its
/// path only where the argument holds a `/`.
#[derive(Debug, Subcommand)]
pub(crate) enum PolicyVerb {
    List(PolicyList),
    Show(PolicyShow),
    Check(PolicyCheck),
    Test(PolicyTest),
}

/// List the policies that can be found by name
///
/// Shows each policy with its description and where it stands. Of several with one name the first that would be
/// found is shown.
#[derive(Debug, Args)]
pub(crate) struct PolicyList {
    #[command(flatten)]
    pub(crate) policy_dirs: PolicyDirs,
    #[command(flatten)]
    pub(crate) form: Form,
}

/// Show a policy
///
/// Prints the policy's text as it stands. With --resolved: every section with all the layers that make it up, base
/// first, each with its place, after `extends`, `drop`, `replace`, --set and --var. With --bpf: the programs that the
/// kernel would get here, one instruction a line.
#[derive(Debug, Args)]
pub(crate) struct PolicyShow {
    /// The policy: a name, or a path that holds a `/`
    #[arg(value_name = "NAME|PATH", value_hint = ValueHint::AnyPath)]
    pub(crate) name: String,
    /// Show the layers of every section
    #[arg(long)]
    pub(crate) resolved: bool,
    /// Show the BPF programs that the policy makes on this host, disassembled
    #[arg(long, conflicts_with = "resolved")]
    pub(crate) bpf: bool,
    #[command(flatten)]
    pub(crate) layers: Layers,
    #[command(flatten)]
    pub(crate) dirs: Dirs,
    #[command(flatten)]
    pub(crate) form: Form,
}

/// Check policies without running anything
///
/// Reads each policy with everything that it extends, and lets every plugin judge its own section. A mistake is
/// shown with its line. All policies are checked, also after one that is wrong.
#[derive(Debug, Args)]
pub(crate) struct PolicyCheck {
    /// The policies: paths, or names without a dot or a `/`
    #[arg(value_name = "FILE", required = true, value_hint = ValueHint::FilePath)]
    pub(crate) files: Vec<String>,
    #[command(flatten)]
    pub(crate) layers: Layers,
    #[command(flatten)]
    pub(crate) dirs: Dirs,
    #[command(flatten)]
    pub(crate) form: Form,
}

/// Try what a policy says of itself
///
/// Tries each line of the policy's `tests` inside the real policy: what is allowed must work, what is denied must not,
/// what is limited must have an end. A denial is tried without the policy as well, since one of what does not work
/// anyway proves nothing: it is shown as unproven. Nothing remains of what is tried.
#[derive(Debug, Args)]
pub(crate) struct PolicyTest {
    /// The policy: a name, or a path that holds a `/`
    #[arg(value_name = "NAME|PATH", value_hint = ValueHint::AnyPath)]
    pub(crate) name: String,
    /// Fail also where something is unproven
    #[arg(long)]
    pub(crate) strict: bool,
    #[command(flatten)]
    pub(crate) layers: Layers,
    #[command(flatten)]
    pub(crate) dirs: Dirs,
    #[command(flatten)]
    pub(crate) form: Form,
}
