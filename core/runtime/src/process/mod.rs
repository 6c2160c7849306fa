//! The workload's own attributes: what it is called with, and palisade's own steps that set its process up.

mod actions;
mod steps;
pub(crate) mod terminal;

use crate::error::{Kind, Trouble};
use crate::workload::Workload;
use palisade_model::diag::{Diagnostic, Origin, Sources};
use palisade_model::layer::At;
use palisade_model::process::{Account, Process, environment};
use palisade_sys::{fd, ids};
use std::cell::RefCell;
use std::ffi::{CString, OsStr, OsString};
use std::os::fd::OwnedFd;
use std::os::unix::ffi::{OsStrExt as _, OsStringExt as _};
use std::rc::Rc;
use std::time::Duration;

pub(crate) use steps::isolator;

/// The files that standard input, output and error are to be, where they are not the launcher's own.
pub(crate) type Stdio = Rc<RefCell<[Option<OwnedFd>; 3]>>;

/// User, group and groups that the policy names, as numbers.
#[derive(Clone, Debug, Default)]
pub(crate) struct Ids {
    pub(crate) uid: Option<u32>,
    pub(crate) gid: Option<u32>,
    pub(crate) groups: Vec<u32>,
    /// Whether the policy names the groups, or they follow from the user.
    pub(crate) groups_named: bool,
    pub(crate) origin: Option<Origin>,
}

/// What the launch itself must know of the process section.
#[derive(Clone, Debug)]
pub(crate) struct Settings {
    pub(crate) argv: Vec<CString>,
    pub(crate) env: Vec<CString>,
    /// The caller's variables that were left out because they look like secrets.
    pub(crate) stripped: Vec<String>,
    /// `PATH` in the workload's environment.
    path: Option<OsString>,
    pub(crate) keep_fds: Vec<i32>,
    /// Whether there is to be an init; where the policy does not say, it follows from the namespaces.
    pub(crate) init: Option<At<bool>>,
    pub(crate) timeout: Option<Duration>,
    pub(crate) cpu_time: Option<Duration>,
    pub(crate) grace: Option<Duration>,
    pub(crate) output_limit: Option<u64>,
    pub(crate) stdio: Stdio,
    pub(crate) terminal: terminal::Wanted,
}

impl Settings {
    pub(crate) fn new(process: &Process, workload: &Workload, sources: &Sources) -> Result<Self, Trouble> {
        let argv = match (&process.argv, workload.argv.is_empty()) {
            (Some(argv), true) => argv.iter().map(|word| OsString::from(word.as_str())).collect(),
            _ => workload.argv.clone(),
        };
        let (env, stripped) = environment(process, &workload.inherited);
        let path = env.iter().find(|(name, _)| name == "PATH").map(|(_, value)| value.into());
        let env = env.into_iter().map(|(name, value)| OsString::from(format!("{name}={value}")));
        Ok(Self {
            argv: argv.into_iter().map(c_string).collect::<Result<_, _>>()?,
            env: env.map(c_string).collect::<Result<_, _>>()?,
            stripped,
            path,
            keep_fds: keep_fds(process, sources)?,
            init: process.init,
            timeout: process.timeout.map(|time| time.0),
            cpu_time: process.cpu_time.map(|time| time.0),
            grace: process.grace.map(|time| time.0),
            output_limit: process.output_limit.map(|size| size.0),
            stdio: Stdio::default(),
            terminal: terminal::Wanted::new(process),
        })
    }

    /// The command's name or path.
    pub(crate) fn command(&self) -> &OsStr {
        OsStr::from_bytes(self.argv.first().map(|name| name.to_bytes()).unwrap_or_default())
    }

    /// Where the command is looked for.
    pub(crate) fn path(&self) -> Option<&OsStr> {
        self.path.as_deref()
    }
}

fn c_string(text: OsString) -> Result<CString, Trouble> {
    CString::new(text.into_vec()).map_err(|e| {
        let text = String::from_utf8_lossy(&e.into_vec()).into_owned();
        Trouble::new(Kind::Usage, format!("an argument or a variable holds a NUL byte: {text:?}"))
            .row("help", "the kernel ends both at a NUL; take it out")
    })
}

/// Everything that palisade opens is close-on-exec, so a descriptor that is not was given to it on purpose.
fn keep_fds(process: &Process, sources: &Sources) -> Result<Vec<i32>, Trouble> {
    let check = |kept: &At<palisade_model::units::Fd>| {
        let number = kept.value.get();
        if fd::is_inherited(number).unwrap_or(false) {
            return Ok(number);
        }
        let why = format!("file descriptor {number} was not given to palisade, so it cannot be kept");
        let help = format!("open it where palisade is called, such as with {number}<FILE in a shell");
        let diagnostic = Diagnostic::new(why).at_opt(kept.origin).help(help);
        Err(Trouble::diagnostic(Kind::Policy, &diagnostic, sources))
    };
    process.keep_fds.iter().map(check).collect()
}

impl Ids {
    /// Looks names up. On the host, before anything is launched: what the view's own files say does not count.
    pub(crate) fn find(process: &Process, sources: &Sources) -> Result<Self, Trouble> {
        let mut found = Self { origin: process.user.as_ref().and_then(|user| user.origin), ..Self::default() };
        if let Some(user) = &process.user {
            let known = match &user.value {
                Account::Id(id) => ids::lookup_uid(id.get()),
                Account::Name(name) => ids::lookup_user(name),
            };
            let known =
                known.map_err(|e| Trouble::call(format!("the user {} could not be looked up", user.value), &e))?;
            (found.uid, found.gid) = match (&user.value, known) {
                (_, Some(user)) => (Some(user.uid), Some(user.gid)),
                // An id needs no entry; its group is the one of the same number, as for most users.
                (Account::Id(id), None) => (Some(id.get()), Some(id.get())),
                (Account::Name(name), None) => return Err(unknown("user", name, user.origin, sources)),
            };
        }
        let Some(groups) = &process.groups else {
            found.groups = found.gid.into_iter().collect();
            return Ok(found);
        };
        let number = |account: &Account| match account {
            Account::Id(id) => Ok(id.get()),
            Account::Name(name) => {
                let known = ids::lookup_group(name)
                    .map_err(|e| Trouble::call(format!("the group {name} could not be looked up"), &e))?;
                known.ok_or_else(|| unknown("group", name, groups.origin, sources))
            }
        };
        found.groups = groups.iter().map(number).collect::<Result<_, _>>()?;
        found.gid = found.groups.first().copied().or(found.gid);
        found.groups_named = true;
        found.origin = found.origin.or(groups.origin);
        Ok(found)
    }
}

fn unknown(what: &str, name: &str, origin: Option<Origin>, sources: &Sources) -> Trouble {
    let diagnostic = Diagnostic::new(format!("there is no {what} `{name}` on this host"))
        .at_opt(origin)
        .help("use one that getent(1) lists, or its number");
    Trouble::diagnostic(Kind::Policy, &diagnostic, sources)
}
