//! The ruleset while it is built, and the one call that enters it.

use crate::links;
use crate::plan::Plan;
use crate::rights::{self, names};
use landlock::{
    AccessFs, AccessNet, BitFlags, CompatLevel, Compatible, NetPort, PathBeneath, Ruleset, RulesetAttr, RulesetCreated,
    RulesetCreatedAttr, RulesetError, RulesetStatus,
};
use palisade_abi::Error;
use palisade_sys::{Errno, fd};
use std::collections::BTreeMap;
use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;

/// A ruleset that is being built. Every descriptor in it is close-on-exec, and gone once it is entered.
#[derive(Default)]
pub(crate) struct Domain {
    ruleset: Option<RulesetCreated>,
    /// Several rules for one path open it once.
    open: BTreeMap<String, (OwnedFd, bool)>,
    /// What was granted, for the proof: path, rights, whether it is a directory.
    pub(crate) granted: Vec<Granted>,
}

/// A path that rules were added for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Granted {
    pub(crate) path: String,
    pub(crate) access: BitFlags<AccessFs>,
    pub(crate) directory: bool,
}

/// A failed call, written as the call; the crate's own text hides which it was.
fn failed(error: RulesetError, words: &str, call: &str) -> Error {
    let text = error.to_string();
    let errno = Error::from(error).errno;
    let call = match errno {
        0 => text,
        errno => format!("{call} = {:?} ({text})", Errno::from_raw(errno)),
    };
    Error::setup(words).call(call, errno)
}

fn no_ruleset() -> Error {
    Error::setup("there is no ruleset to add the rule to, because none could be made")
}

impl Domain {
    /// Makes the ruleset. Everything asked for is known to be there, so the crate may leave nothing out.
    pub(crate) fn create(&mut self, plan: &Plan) -> Result<(), Error> {
        let make = || -> Result<RulesetCreated, RulesetError> {
            let mut ruleset = Ruleset::default().set_compatibility(CompatLevel::HardRequirement);
            if !plan.files.is_empty() {
                ruleset = ruleset.handle_access(plan.files)?;
            }
            if !plan.net.is_empty() {
                ruleset = ruleset.handle_access(plan.net)?;
            }
            if !plan.scopes.is_empty() {
                ruleset = ruleset.scope(plan.scopes)?;
            }
            // no_new_privs is for the policy's `privileges` to set, and for the report to tell.
            Ok(ruleset.create()?.no_new_privs(false))
        };
        let ruleset = make().map_err(|e| failed(e, "cannot make a Landlock ruleset", "landlock_create_ruleset()"))?;
        self.ruleset = Some(ruleset);
        Ok(())
    }

    /// Grants rights below a path.
    pub(crate) fn grant(&mut self, path: &str, access: BitFlags<AccessFs>, optional: bool) -> Result<String, Error> {
        if !self.open.contains_key(path) {
            let Some(handle) = links::open(Path::new(path))? else {
                return absent(path, optional);
            };
            let facts = fd::fstat(&handle)
                .map_err(|e| Error::setup(format!("cannot look at {path}")).call(e.to_string(), e.errno()))?;
            self.open.insert(path.to_owned(), (handle, facts.is_dir()));
        }
        let (Some((handle, directory)), Some(ruleset)) = (self.open.get(path), self.ruleset.take()) else {
            return Err(no_ruleset());
        };
        // The kernel refuses rights to a directory's content for what has none.
        let allowed = if *directory { access } else { access & AccessFs::from_file(landlock::ABI::V10) };
        if allowed.is_empty() {
            return Err(Error::setup(format!(
                "{path} is not a directory, so {} cannot be granted there",
                names(access)
            ))
            .help("name its directory, or grant what applies to a file: read, write, execute"));
        }
        let rule = PathBeneath::new(handle.as_fd(), allowed);
        let words = format!("cannot add the rule for {path}");
        let ruleset = ruleset.add_rule(rule).map_err(|e| failed(e, &words, "landlock_add_rule(PATH_BENEATH)"))?;
        self.ruleset = Some(ruleset);
        let granted = Granted { path: path.to_owned(), access: allowed, directory: *directory };
        self.granted.push(granted);
        Ok(if allowed == access { String::new() } else { format!("not a directory: {}", names(allowed)) })
    }

    /// Allows one use of some ports.
    pub(crate) fn ports(&mut self, access: AccessNet, ports: &[u16]) -> Result<(), Error> {
        let mut ruleset = self.ruleset.take().ok_or_else(no_ruleset)?;
        for port in ports {
            let words = format!("cannot add the rule for TCP port {port}");
            ruleset = ruleset
                .add_rule(NetPort::new(*port, access))
                .map_err(|e| failed(e, &words, "landlock_add_rule(NET_PORT)"))?;
        }
        self.ruleset = Some(ruleset);
        Ok(())
    }

    /// Enters the domain, for good. Every descriptor of the ruleset is closed.
    pub(crate) fn enter(&mut self, plan: &Plan) -> Result<(), Error> {
        self.open.clear();
        let ruleset = self.ruleset.take().ok_or_else(no_ruleset)?;
        let enter = || {
            if plan.abi < rights::LOG {
                return ruleset.restrict_self();
            }
            // What palisade itself tries, to see that it holds, is no denial that anybody should read about. The
            // workload is another program than this one, and of those the kernel says nothing unless told to.
            ruleset.log_same_exec(false)?.log_new_exec(plan.log)?.restrict_self()
        };
        let status = enter().map_err(|e| {
            let flags = match (plan.abi < rights::LOG, plan.log) {
                (true, _) => "0",
                (false, false) => "LOG_SAME_EXEC_OFF",
                (false, true) => "LOG_SAME_EXEC_OFF|LOG_NEW_EXEC_ON",
            };
            let call = format!("landlock_restrict_self(ruleset, {flags})");
            let error = failed(e, "cannot enter the Landlock domain", &call);
            let help = match Errno::from_raw(error.errno) {
                Errno::EPERM => "add \"privileges\": (no_new_privs: true), or run with CAP_SYS_ADMIN",
                Errno::E2BIG => "sixteen domains are the most that can be inside each other",
                _ => "",
            };
            error.help(help)
        })?;
        if status.ruleset == RulesetStatus::FullyEnforced {
            return Ok(());
        }
        Err(Error::setup(format!("the Landlock domain is {:?}, not fully enforced", status.ruleset)))
    }
}

fn absent(path: &str, optional: bool) -> Result<String, Error> {
    if optional {
        return Ok(format!("{path} does not exist, so nothing is granted"));
    }
    Err(Error::setup(format!("the rule is for {path}, which does not exist in the workload's view")).help(format!(
        "add it to the view, remove the rule, or write it as Path(path: {path:?}, allow: [...], optional: true)"
    )))
}

/// The rights that a kernel cannot restrict yet, for the report.
pub(crate) fn beyond(plan: &Plan) -> String {
    if plan.files.is_empty() {
        return String::new();
    }
    let unknown = names(rights::all(rights::NEWEST) & !rights::all(plan.abi));
    if unknown.is_empty() { unknown } else { format!("; this kernel cannot restrict {unknown}") }
}
