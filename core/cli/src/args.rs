//! What can be said on the command line.

mod check;
mod install;
mod new;
mod policy;

pub(crate) use check::PluginCheck;
use clap::{ArgAction, Args, CommandFactory as _, FromArgMatches as _, Parser, Subcommand, ValueHint};
pub(crate) use install::{PluginInstall, PluginRemove};
pub(crate) use new::{Lang, PluginNew};
use palisade_runtime::model::stage::Stage;
use palisade_runtime::model::units::Time;
pub(crate) use policy::{PolicyCheck, PolicyList, PolicyShow, PolicyTest, PolicyVerb};
use std::ffi::OsString;
use std::path::PathBuf;

/// Run programs under isolation policies
///
/// palisade runs a command under a named policy. The policy chooses isolation plugins and gives each its limits;
/// palisade puts them in force, proves that they are, and only then starts the command.
#[derive(Debug, Parser)]
#[command(name = "palisade", version, arg_required_else_help = true)]
pub(crate) struct Cli {
    #[command(subcommand)]
    pub(crate) verb: Verb,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Verb {
    Run(Run),
    Plan(Plan),
    Ps(Ps),
    Doctor(Doctor),
    Gc(Gc),
    Changes(Changes),
    Probe(Probe),
    #[command(subcommand)]
    Policy(PolicyVerb),
    #[command(subcommand)]
    Plugin(PluginVerb),
    Completions(Completions),
    Man(Man),
}

/// Run a command under a policy
///
/// Loads the plugins that the policy names, builds the isolation, reads back from the kernel that it is in force,
/// and starts the command. Where any of that cannot be done nothing is started, unless the policy itself says
/// that a line may fail. Options of palisade stand before the command; from its first word on everything belongs
/// to the command.
#[derive(Debug, Args)]
pub(crate) struct Run {
    #[command(flatten)]
    pub(crate) inputs: Inputs,
    /// Write a report as JSON when all is over: to a file, to standard output (-), or to an open descriptor
    #[arg(long, value_name = "FILE|-|fd:N", value_hint = ValueHint::FilePath)]
    pub(crate) report: Option<OsString>,
    /// A name for others to find it by while it goes on: in `palisade ps`, and for a policy that joins its namespaces
    #[arg(long, value_name = "NAME")]
    pub(crate) name: Option<String>,
    /// Say on standard error what is done, as it is done
    #[arg(short, long)]
    pub(crate) verbose: bool,
    /// Say on standard error what is used, once a second and at the end
    #[arg(short, long)]
    pub(crate) watch: bool,
    /// Say at the end what was denied to the command, which line of the policy denies it, and what would allow it.
    /// What the command asks of the kernel takes longer meanwhile
    #[arg(short, long)]
    pub(crate) explain: bool,
    /// Keep in the report what is used at each such interval, at least 10ms
    #[arg(long, value_name = "INTERVAL", requires = "report", value_parser = interval)]
    pub(crate) samples: Option<Time>,
    #[command(flatten)]
    pub(crate) workload: Workload,
}

/// The shortest time between two samples: below it, asking is most of what is done.
const SHORTEST: std::time::Duration = std::time::Duration::from_millis(10);

fn interval(text: &str) -> Result<Time, String> {
    match text.parse::<Time>() {
        Ok(time) if time.0 >= SHORTEST => Ok(time),
        Ok(_) => Err("less than 10ms".to_owned()),
        Err(error) => Err(error.message),
    }
}

/// Show what `run` would do, without doing it
///
/// Prints every step in the order in which it would be done: its stage and why that comes where it does, the
/// plugin, the step in words, the policy line that it comes from, and the reason. Nothing is touched.
#[derive(Debug, Args)]
pub(crate) struct Plan {
    /// Show what exactly each step puts in force, as far as its plugin says: a filter instruction by instruction
    #[arg(long)]
    pub(crate) details: bool,
    #[command(flatten)]
    pub(crate) inputs: Inputs,
    #[command(flatten)]
    pub(crate) form: Form,
    #[command(flatten)]
    pub(crate) workload: Workload,
}

/// List runs that have a name and go on
///
/// Those that this user started with `run --name`. The process is the first of the workload, as this host numbers it:
/// palisade's init where there is one.
#[derive(Debug, Args)]
pub(crate) struct Ps {
    #[command(flatten)]
    pub(crate) form: Form,
}

/// Say what this host offers, what is missing, and how to get it
///
/// Asks every plugin what it finds of what it needs, and tries which of the policies that ship can be used. Root
/// sees what root gets and what an ordinary user gets (the one behind sudo, or uid 65534); an ordinary user sees
/// what it gets itself and what more privileges would add.
#[derive(Debug, Args)]
pub(crate) struct Doctor {
    /// Only these plugins
    #[arg(value_name = "PLUGIN")]
    pub(crate) plugins: Vec<String>,
    #[command(flatten)]
    pub(crate) plugin_dirs: PluginDirs,
    #[command(flatten)]
    pub(crate) form: Form,
}

/// Remove what runs that were killed have left behind
///
/// A launcher that ends undoes all that it did; one that is killed by SIGKILL cannot. Asks every plugin for what no
/// living run owns, ends the processes that are still inside, and removes it. Nothing of a run that goes on is
/// touched, whoever started it.
#[derive(Debug, Args)]
pub(crate) struct Gc {
    /// Only say what there is
    #[arg(short = 'n', long)]
    pub(crate) dry_run: bool,
    #[command(flatten)]
    pub(crate) plugin_dirs: PluginDirs,
    #[command(flatten)]
    pub(crate) form: Form,
}

/// List what runs under a policy have changed and kept
///
/// Where a policy lets a workload change a tree of the host without changing it, and keeps what it changed in a
/// directory beside it, this lists what is new, changed and gone, by the names that the workload sees. Whatever was
/// opened for writing counts as changed. Nothing is run.
#[derive(Debug, Args)]
pub(crate) struct Changes {
    #[command(flatten)]
    pub(crate) inputs: Inputs,
    #[command(flatten)]
    pub(crate) form: Form,
}

/// Attack a policy from inside, harmlessly, and say what stays open
///
/// Makes each of some hundred small attempts to get out, once without a policy and once under it, and judges from
/// outside what came of it: by a secret that was really read, a signal that really arrived. What does not work without
/// a policy either proves nothing and is N/A. Nothing on this host is changed; what is laid out to be found is taken
/// away.
#[derive(Debug, Args)]
pub(crate) struct Probe {
    #[command(flatten)]
    pub(crate) inputs: Inputs,
    /// Only the attempts with such an id; `*` stands for any letters: fs-*
    #[arg(long, value_name = "GLOB")]
    pub(crate) only: Option<String>,
    /// Show every attempt, not only what is open or inconclusive
    #[arg(short, long)]
    pub(crate) verbose: bool,
    #[command(flatten)]
    pub(crate) form: Form,
}

/// List, describe, verify and install plugins
///
/// A plugin is a file `libpalisade_NAME.so` in one of the directories below. What it says about itself is read
/// from the file; nothing of it runs before it is known to be trusted.
#[derive(Debug, Subcommand)]
pub(crate) enum PluginVerb {
    List(PluginList),
    Info(PluginInfo),
    Verify(PluginVerify),
    Install(PluginInstall),
    Remove(PluginRemove),
    Check(PluginCheck),
    New(PluginNew),
}

/// List the plugins that can be found
///
/// Shows each plugin with its version and its summary, or why it would be refused. Nothing of a plugin runs.
#[derive(Debug, Args)]
pub(crate) struct PluginList {
    #[command(flatten)]
    pub(crate) plugin_dirs: PluginDirs,
    #[command(flatten)]
    pub(crate) form: Form,
}

/// Describe a plugin
///
/// Shows the stages in which it acts, the privileges and kernel features that it uses, what it cannot stop, and
/// the reference of its section in a policy. Nothing of the plugin runs.
#[derive(Debug, Args)]
pub(crate) struct PluginInfo {
    /// The plugin
    #[arg(value_name = "NAME")]
    pub(crate) name: String,
    #[command(flatten)]
    pub(crate) plugin_dirs: PluginDirs,
    #[command(flatten)]
    pub(crate) form: Form,
}

/// Check plugins in full and remember the result
///
/// Does every check again that a first use does: owner and permissions of the file and of all directories above it,
/// the file's structure, its version, the layout of all types of the seam. What passes is remembered, so that later
/// launches load it faster, for as long as the file does not change.
#[derive(Debug, Args)]
pub(crate) struct PluginVerify {
    /// Only this plugin
    #[arg(value_name = "NAME")]
    pub(crate) name: Option<String>,
    /// Let a plugin that did not come with palisade act in these stages of the workload's process: build, drop, seal.
    /// Holds for what its file contains now
    #[arg(long, value_name = "STAGE", value_delimiter = ',', requires = "name")]
    pub(crate) grant: Vec<Stage>,
    /// Open it in a confined process of its own: nothing of it runs in this one. For plugins that policies name under
    /// `hosts`; `doctor` and `gc` then ask it there, too
    #[arg(long, requires = "name")]
    pub(crate) hosted: bool,
    /// Take back what was granted to it
    #[arg(long, requires = "name", conflicts_with = "grant")]
    pub(crate) revoke: bool,
    #[command(flatten)]
    pub(crate) plugin_dirs: PluginDirs,
    #[command(flatten)]
    pub(crate) form: Form,
}

/// Print completions for a shell
///
/// Prints a script on standard output that lets the shell complete palisade's verbs and options.
#[derive(Debug, Args)]
pub(crate) struct Completions {
    /// The shell
    #[arg(value_name = "SHELL")]
    pub(crate) shell: clap_complete::Shell,
}

/// Print the manual page
///
/// Prints one page, in roff, for palisade with all its verbs.
#[derive(Debug, Args)]
pub(crate) struct Man {}

#[derive(Debug, Args)]
pub(crate) struct Inputs {
    /// The policy: a name, or a path that holds a `/`
    #[arg(short, long, value_name = "NAME|PATH", default_value = "default", value_hint = ValueHint::AnyPath)]
    pub(crate) policy: String,
    #[command(flatten)]
    pub(crate) layers: Layers,
    #[command(flatten)]
    pub(crate) dirs: Dirs,
}

/// What the caller adds to a policy.
#[derive(Debug, Args)]
pub(crate) struct Layers {
    /// Set one field of the policy, as a last layer: cgroups.memory.max=1GiB
    #[arg(long = "set", value_name = "FIELD=VALUE")]
    pub(crate) sets: Vec<String>,
    /// Define a variable that the policy uses as ${NAME}
    #[arg(long = "var", value_name = "NAME=VALUE", value_parser = pair)]
    pub(crate) vars: Vec<(String, String)>,
}

#[derive(Debug, Default, Args)]
pub(crate) struct Dirs {
    #[command(flatten)]
    pub(crate) policies: PolicyDirs,
    #[command(flatten)]
    pub(crate) plugins: PluginDirs,
}

#[derive(Debug, Default, Args)]
pub(crate) struct PolicyDirs {
    /// Look for policies here first; may be given several times
    #[arg(long, value_name = "DIR", value_hint = ValueHint::DirPath)]
    pub(crate) policy_dir: Vec<PathBuf>,
}

#[derive(Debug, Default, Args)]
pub(crate) struct PluginDirs {
    /// Look for plugins here first; may be given several times
    #[arg(long, value_name = "DIR", value_hint = ValueHint::DirPath)]
    pub(crate) plugin_dir: Vec<PathBuf>,
}

#[derive(Debug, Args)]
pub(crate) struct Form {
    /// Print JSON
    #[arg(long)]
    pub(crate) json: bool,
}

#[derive(Debug, Args)]
pub(crate) struct Workload {
    /// The command with its arguments; where it is left out, the one that the policy names
    // No `allow_hyphen_values`: a mistyped option before the command would become the command.
    #[arg(
        value_name = "COMMAND",
        trailing_var_arg = true,
        action = ArgAction::Append,
        value_hint = ValueHint::CommandWithArguments
    )]
    pub(crate) command: Vec<OsString>,
}

fn pair(text: &str) -> Result<(String, String), String> {
    let (name, value) = text.split_once('=').ok_or("it has no `=`: write NAME=VALUE")?;
    Ok((name.to_owned(), value.to_owned()))
}

/// The whole tree of verbs, without what [`crate::help`] adds.
pub(crate) fn tree() -> clap::Command {
    Cli::command()
}

/// Reads the command line.
///
/// # Errors
/// It is wrong, or asks for help: what to print.
pub(crate) fn parse(argv: Vec<OsString>) -> Result<Verb, clap::Error> {
    // The verb that is called often, and whose time is the workload's, without building the others. Whatever this
    // does not understand, the whole tree judges.
    if argv.get(1).is_some_and(|verb| verb == "run")
        && let Some(run) = parse_run(&argv[1..])
    {
        return Ok(Verb::Run(run));
    }
    let mut matches = crate::help::dressed(tree()).try_get_matches_from(argv)?;
    Ok(Cli::from_arg_matches_mut(&mut matches)?.verb)
}

fn parse_run(argv: &[OsString]) -> Option<Run> {
    let command = Run::augment_args(clap::Command::new("run")).disable_help_flag(true);
    let mut matches = command.try_get_matches_from(argv).ok()?;
    Run::from_arg_matches_mut(&mut matches).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn run(line: &[&str]) -> Result<Run, clap::Error> {
        let argv = ["palisade", "run"].iter().chain(line).map(OsString::from).collect();
        match parse(argv)? {
            Verb::Run(run) => Ok(run),
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn the_tree_is_sound() {
        tree().debug_assert();
        crate::help::dressed(tree()).debug_assert();
    }

    #[test]
    fn from_the_first_word_on_all_is_the_commands() {
        let words = |line: &[&str]| run(line).unwrap().workload.command;
        assert_eq!(words(&["ls", "-v", "--policy", "x"]), ["ls", "-v", "--policy", "x"]);
        assert_eq!(words(&["--", "-v"]), ["-v"]);
        assert_eq!(words(&["-v", "sh", "-c", "a", "--", "b"]), ["sh", "-c", "a", "--", "b"]);
        assert_eq!(words(&["--", "sh", "--", "b", "--help"]), ["sh", "--", "b", "--help"]);
        assert_eq!(words(&["ls", "--help"]), ["ls", "--help"]);
        assert!(words(&["-v"]).is_empty());
    }

    #[test]
    fn options_come_before() {
        let line = ["--policy", "judge", "--set", "a.b=c", "--set=d=-1", "--var", "k=v=w", "--report", "-", "-v", "x"];
        let run = run(&line).unwrap();
        assert_eq!(run.inputs.policy, "judge");
        assert_eq!(run.inputs.layers.sets, ["a.b=c", "d=-1"]);
        assert_eq!(run.inputs.layers.vars, [("k".to_owned(), "v=w".to_owned())]);
        assert_eq!(run.report.unwrap(), "-");
        assert!(run.verbose);
    }

    /// A mistyped option must not become a command that runs under the default policy.
    #[test]
    fn a_mistyped_option_is_an_error() {
        let error = run(&["--polcy", "untrusted", "make"]).unwrap_err();
        assert_eq!(error.exit_code(), 2);
        assert!(error.to_string().contains("--policy"), "{error}");
        assert!(run(&["--var", "x", "make"]).is_err());
    }
}
