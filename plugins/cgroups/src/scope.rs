//! Where systemd keeps the cgroups: a scope that it makes for a launch, and hands over.
//!
//! systemd has one writer for each cgroup. What it has not delegated it may set otherwise at any time, controllers
//! included, so nothing is made there: a launch has a scope of its own, as a unit that `systemctl` shows. Source:
//! systemd, docs/CGROUP_DELEGATION.md. The manager is asked over D-Bus by its own clients, systemd-run and busctl.

use crate::layout::{Tree, under};
use crate::limits::Controller;
use palisade_abi::{Error, ErrorContext as _};
use palisade_sys::procfs::Proc;
use palisade_sys::{fd, xattr};
use std::cell::RefCell;
use std::io::{Read as _, Write as _};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, Command, Stdio};
use std::rc::Rc;

/// The controllers that systemd hands over; it knows no others. systemd.resource-control(5), `Delegate=`.
pub(crate) const HANDED_OVER: [Controller; 5] =
    [Controller::Cpu, Controller::Cpuset, Controller::Io, Controller::Memory, Controller::Pids];

/// Where the process that keeps the scope is: a cgroup with processes of its own could not be divided.
const KEEPER: &str = "keeper";

/// A scope that a manager is to make.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Scope {
    /// Of the user's manager, and whose; else of the system's.
    user: Option<u32>,
    /// The slice in which the caller is, so that its limits hold for the workload as well.
    slice: Option<String>,
    /// Whether only the manager may move a process of the caller's there: the caller is outside of what is the user's.
    pub(crate) attach: bool,
}

/// What runs on this host, found once.
pub(crate) struct Systemd {
    /// The effective user of this process.
    pub(crate) user: u32,
}

impl Systemd {
    /// `None` where it does not run, or there is no client to ask it with. sd_booted(3).
    pub(crate) fn running(user: u32) -> Option<Self> {
        let client = ["/usr/bin/systemd-run", "/bin/systemd-run"].into_iter().any(|file| Path::new(file).exists());
        (client && Path::new("/run/systemd/system").is_dir()).then_some(Self { user })
    }

    /// The cgroup from which on, down to this process's own, everything was delegated to whom it is in.
    ///
    /// Not what is delegated to a manager of systemd itself: the user's, or one that is in a container with this
    /// process.
    pub(crate) fn delegated<'a>(&self, tree: &'a Tree) -> Option<&'a Path> {
        let marked = |dir: &Path| {
            [c"user.delegate", c"trusted.delegate"].into_iter().any(|name| xattr::has(dir, name).is_ok_and(|has| has))
        };
        let nearest = tree.own.ancestors().find(|below| marked(&under(&tree.mount, below)))?;
        let of_manager = nearest.as_os_str().is_empty() || nearest.file_name() == self.service().file_name();
        (!of_manager).then_some(nearest)
    }

    /// The unit of the user's manager.
    fn service(&self) -> PathBuf {
        format!("user.slice/user-{0}.slice/user@{0}.service", self.user).into()
    }

    /// The scope that a manager would make, and the cgroup whose controllers it would have.
    pub(crate) fn scope(&self, tree: &Tree) -> Option<(Scope, PathBuf)> {
        if self.user == 0 {
            let slice = tree.own.ancestors().find(|below| below.extension().is_some_and(|kind| kind == "slice"));
            let slice = slice.and_then(|slice| Some(slice.file_name()?.to_str()?.to_owned()));
            // Slices have what their units need; for a new unit systemd gives them more.
            return Some((Scope { user: None, slice, attach: false }, tree.mount.clone()));
        }
        let service = self.service();
        let above = under(&tree.mount, &service);
        let runs = above.is_dir() && runtime_dir(self.user).join("systemd/private").exists();
        let attach = !tree.own.starts_with(&service);
        runs.then_some((Scope { user: Some(self.user), slice: None, attach }, above))
    }
}

fn runtime_dir(user: u32) -> PathBuf {
    format!("/run/user/{user}").into()
}

/// The process that keeps a scope: without one, its manager would remove it. It ends with the launcher, however that
/// ends, as it reads from a pipe of the launcher's.
#[derive(Debug)]
pub(crate) struct Keeper {
    child: Child,
    stdin: Option<ChildStdin>,
    unit: String,
    scope: Scope,
}

/// The one of a launch, once there is one.
pub(crate) type Kept = Rc<RefCell<Option<Keeper>>>;

impl Scope {
    pub(crate) const fn is_of_user(&self) -> bool {
        self.user.is_some()
    }

    /// As a sentence names it.
    pub(crate) const fn words(&self) -> &'static str {
        match self.user {
            None => "a scope of systemd",
            Some(_) => "a scope of the user's systemd",
        }
    }

    /// A client of systemd, with the environment that it needs and nothing else.
    fn client(&self, program: &str) -> Command {
        let mut command = Command::new(program);
        command.env_clear().env("PATH", "/usr/bin:/bin").env("LC_ALL", "C");
        if let Some(user) = self.user {
            let dir = runtime_dir(user);
            command.arg("--user").env("DBUS_SESSION_BUS_ADDRESS", format!("unix:path={}/bus", dir.display()));
            command.env("XDG_RUNTIME_DIR", dir);
        }
        command
    }

    /// Makes the scope; gives who keeps it and its cgroup, as `/proc/PID/cgroup` has it.
    pub(crate) fn make(&self, name: &str) -> Result<(Keeper, PathBuf), Error> {
        use std::os::unix::process::CommandExt as _;
        let unit = format!("{name}.scope");
        let mut command = self.client("systemd-run");
        command.args(["--scope", "--quiet", "--collect", "--no-ask-password", "--property=Delegate=yes"]);
        command.args(["--description=a workload of palisade", &format!("--unit={unit}")]);
        command.args(self.slice.iter().map(|slice| format!("--slice={slice}")));
        command.args(["--", "cat"]).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        // Keys of the terminal are for the workload.
        command.process_group(0);
        let call = format!("systemd-run --scope --property=Delegate=yes --unit={unit}");
        let failed = |says: &str| {
            Error::host("systemd made no scope for the workload").call(format!("{call}: {}", says.trim_end()), 0).help(
                "see journalctl -n 20, with --user for an ordinary user; or run palisade itself with Delegate=yes: \
                 systemd-run --scope -p Delegate=yes -- palisade run ...",
            )
        };
        let mut child = command.spawn().map_err(|e| failed(&e.to_string()))?;
        let (mut stdin, stdout, stderr) = (child.stdin.take(), child.stdout.take(), child.stderr.take());
        let mut echo = [0];
        // It has become `cat`, which it does in the scope, when it gives back what it is given.
        let ready = stdin.as_mut().is_some_and(|pipe| pipe.write_all(b"\n").is_ok())
            && stdout.is_some_and(|mut pipe| pipe.read_exact(&mut echo).is_ok());
        let mut keeper = Keeper { child, stdin, unit, scope: self.clone() };
        if !ready {
            let mut says = String::new();
            stderr.map(|mut pipe| pipe.read_to_string(&mut says)).transpose().ok();
            keeper.end();
            return Err(failed(&says));
        }
        match cgroup_of(&keeper) {
            Ok(path) => Ok((keeper, path)),
            Err(error) => {
                keeper.end();
                Err(error)
            }
        }
    }
}

fn cgroup_of(keeper: &Keeper) -> Result<PathBuf, Error> {
    let pid = i32::try_from(keeper.child.id()).unwrap_or_default();
    let text = Proc::host().and_then(|proc| proc.pid(pid)?.cgroup());
    let text = text.doing(|| format!("cannot see where {} is", keeper.unit))?;
    let entry = palisade_sys::procfs::parse_cgroups(&text).into_iter().find(|entry| entry.hierarchy == 0);
    let entry = entry.filter(|entry| entry.path.ends_with(&keeper.unit));
    entry.map(|entry| entry.path).ok_or_else(|| {
        let call = format!("read(/proc/{pid}/cgroup) = {}", text.trim_end());
        Error::setup(format!("systemd says that it made {}, and the kernel has nobody in it", keeper.unit))
            .call(call, 0)
    })
}

impl Keeper {
    /// Moves it out of the way, so that the scope can be divided.
    pub(crate) fn step_aside(&self, dir: &Path) -> Result<(), Error> {
        let aside = || -> palisade_sys::Result<()> {
            let base = fd::open_path(dir, fd::O_PATH | fd::O_DIRECTORY)?;
            fd::mkdir_at(&base, KEEPER, 0o755)?;
            fd::write_at(&base, format!("{KEEPER}/cgroup.procs"), self.child.id().to_string().as_bytes())
        };
        aside().doing(|| format!("cannot divide {}", dir.display()))
    }

    /// Has the manager move a process into a cgroup below the scope. Since: systemd 238.
    pub(crate) fn attach(&self, below: &str, pid: i32) -> Result<(), Error> {
        let mut command = self.scope.client("busctl");
        command.args(["--quiet", "call", "org.freedesktop.systemd1", "/org/freedesktop/systemd1"]);
        command.args(["org.freedesktop.systemd1.Manager", "AttachProcessesToUnit", "ssau", &self.unit]);
        command.args([format!("/{below}"), "1".to_owned(), pid.to_string()]).stdin(Stdio::null());
        let call = format!("busctl call ... AttachProcessesToUnit({}, /{below}, {pid})", self.unit);
        let failed =
            |says: &str| {
                Error::host("systemd did not move the workload into its scope")
                .call(format!("{call}: {}", says.trim_end()), 0)
                .help("it is asked over the user's bus: install dbus-user-session, or run palisade itself in a scope: \
                       systemd-run --user --scope -p Delegate=yes -- palisade run ...")
            };
        let output = command.output().map_err(|e| failed(&e.to_string()))?;
        if output.status.success() { Ok(()) } else { Err(failed(&String::from_utf8_lossy(&output.stderr))) }
    }

    /// Lets it end; the manager removes the scope once nobody is in it.
    pub(crate) fn end(&mut self) {
        drop(self.stdin.take());
        // It cannot fail: the child is this process's own, and waited for once.
        self.child.wait().ok();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tree(own: &str) -> Tree {
        Tree { mount: "/nonexistent".into(), root: "/".into(), own: own.into(), wanted: vec![] }
    }

    #[test]
    fn the_scope_is_in_the_slice_of_the_caller() {
        for (own, slice) in [
            ("system.slice/cron.service", Some("system.slice")),
            ("user.slice/user-0.slice/session-1.scope", Some("user-0.slice")),
            ("init.scope", None),
        ] {
            let (scope, _) = Systemd { user: 0 }.scope(&tree(own)).unwrap();
            assert_eq!(scope.slice.as_deref(), slice, "{own}");
            assert!(!scope.attach, "root may move whom it likes");
        }
    }

    #[test]
    fn without_a_manager_of_the_user_there_is_no_scope() {
        assert!(Systemd { user: 4_000_000 }.scope(&tree("user.slice")).is_none());
    }

    #[test]
    fn what_says_nothing_is_not_delegated() {
        assert!(Systemd { user: 0 }.delegated(&tree("system.slice/cron.service")).is_none());
    }
}
