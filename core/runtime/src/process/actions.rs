//! What those steps do. Each reads back what it set.

use super::steps::{How, Target};
use super::{Ids, Stdio};
use palisade_abi::{Action, Context, Error, ErrorContext as _, Evidence};
use palisade_sys::limits::{self, Resource, UNLIMITED};
use palisade_sys::procfs::Proc;
use palisade_sys::{Errno, fd, ids, process};
use std::path::PathBuf;

/// An attribute that the kernel holds at another value than the one that was just set.
fn differs(what: &str, wanted: &str, found: &str) -> Error {
    Error::setup(format!("{what} is {found}, and should be {wanted}"))
}

fn same<T: PartialEq + std::fmt::Debug>(what: &str, wanted: &T, found: &T) -> Result<Evidence, Error> {
    if wanted == found {
        return Ok(Evidence::default());
    }
    Err(differs(what, &format!("{wanted:?}"), &format!("{found:?}")))
}

pub(super) struct OpenStdio {
    pub(super) number: usize,
    pub(super) target: Target,
    pub(super) stdio: Stdio,
}

impl Action for OpenStdio {
    fn apply(&mut self, _context: &mut Context<'_>) -> Result<Evidence, Error> {
        let flags = match self.target.how {
            How::Read => fd::O_RDONLY,
            How::Replace => fd::O_WRONLY | fd::O_CREAT | fd::O_TRUNC,
            How::Append => fd::O_WRONLY | fd::O_CREAT | fd::O_APPEND,
        };
        let file = fd::open_at_mode(fd::CWD, &self.target.path, flags, 0o666)
            .doing(|| format!("{} cannot be opened", self.target.path.display()))?;
        if let Some(slot) = self.stdio.borrow_mut().get_mut(self.number) {
            *slot = Some(file);
        }
        Ok(Evidence::default())
    }

    fn undo(&mut self, _context: &mut Context<'_>) -> Result<(), Error> {
        if let Some(slot) = self.stdio.borrow_mut().get_mut(self.number) {
            *slot = None;
        }
        Ok(())
    }
}

pub(super) struct InstallStdio {
    pub(super) stdio: Stdio,
}

impl Action for InstallStdio {
    fn apply(&mut self, _context: &mut Context<'_>) -> Result<Evidence, Error> {
        for (number, file) in (0..).zip(self.stdio.borrow().iter()) {
            if let Some(file) = file {
                fd::dup_to(file, number)?;
            }
        }
        Ok(Evidence::default())
    }
}

pub(super) struct OomScore(pub(super) i32);

impl OomScore {
    const FILE: &'static str = "oom_score_adj";
}

impl Action for OomScore {
    fn apply(&mut self, context: &mut Context<'_>) -> Result<Evidence, Error> {
        let child = Proc::host()?.pid(context.init_pid()?)?;
        child.write(Self::FILE, self.0.to_string().as_bytes()).map_err(|error| {
            let lower = error.kind() == Errno::EACCES;
            let error = Error::from(error);
            if lower { error.help("an ordinary user may raise it, not lower it") } else { error }
        })?;
        Ok(Evidence::default())
    }

    fn verify(&self, context: &Context<'_>) -> Result<Option<Evidence>, Error> {
        let text = Proc::host()?.pid(context.pid()?)?.read(Self::FILE)?;
        let found = text.trim();
        if found == self.0.to_string() {
            return Ok(Some(format!("{} is {found}", Self::FILE).into()));
        }
        Err(differs(Self::FILE, &self.0.to_string(), found))
    }
}

pub(super) struct Directory {
    pub(super) named: Option<PathBuf>,
    pub(super) own: Option<PathBuf>,
}

impl Action for Directory {
    fn apply(&mut self, _context: &mut Context<'_>) -> Result<Evidence, Error> {
        let enter = |path: &std::path::Path| {
            std::env::set_current_dir(path).map_err(|e| {
                let errno = e.raw_os_error().unwrap_or_default();
                palisade_sys::Error::from_raw(errno, format!("chdir({path:?})"))
            })
        };
        match (&self.named, &self.own) {
            (Some(path), _) => enter(path).map_err(|e| {
                let error = Error::from(e);
                error.help("the directory must exist in the workload's view: add it to the filesystem section, or change process.cwd")
            })?,
            (None, Some(path)) if enter(path).is_ok() => {}
            (None, _) => enter("/".as_ref())?,
        }
        // The kernel marks a directory that the root does not reach, and gives no absolute path for it.
        let here = std::env::current_dir()?;
        if !here.is_absolute() {
            return Err(Error::setup(format!("the working directory is outside the view: {}", here.display())));
        }
        Ok(format!("in {}", here.display()).into())
    }
}

pub(super) struct Affinity(pub(super) Vec<u32>);

impl Action for Affinity {
    fn apply(&mut self, _context: &mut Context<'_>) -> Result<Evidence, Error> {
        limits::set_affinity(&self.0)
            .map_err(|e| Error::from(e).help("use processors that this host has and the launcher may use"))?;
        // What is not online or not allowed is left out by the kernel in silence.
        same("the set of processors", &self.0, &limits::get_affinity()?)
    }
}

pub(super) struct Nice(pub(super) i32);

impl Action for Nice {
    fn apply(&mut self, _context: &mut Context<'_>) -> Result<Evidence, Error> {
        limits::set_nice(self.0).map_err(|e| Error::from(e).help("lowering it needs CAP_SYS_NICE or RLIMIT_NICE"))?;
        same("the nice value", &self.0, &limits::get_nice()?)
    }
}

pub(super) struct RaiseLimit {
    pub(super) name: &'static str,
    pub(super) soft: u64,
    pub(super) hard: u64,
}

/// Soft and hard limit as one text.
pub(super) fn show_limits(soft: u64, hard: u64) -> String {
    let show = |limit: u64| if limit == UNLIMITED { "unlimited".to_owned() } else { limit.to_string() };
    if soft == hard { show(soft) } else { format!("{} (hard {})", show(soft), show(hard)) }
}

impl Action for RaiseLimit {
    fn apply(&mut self, _context: &mut Context<'_>) -> Result<Evidence, Error> {
        let resource = Resource::from_name(self.name)
            .ok_or_else(|| Error::policy(format!("`{}` is no resource of getrlimit(2)", self.name)))?;
        limits::set_rlimit(resource, self.soft, self.hard).map_err(|e| {
            let (_, now) = limits::get_rlimit(resource).unwrap_or((UNLIMITED, UNLIMITED));
            let help = format!(
                "the hard limit is {} now; raising it needs CAP_SYS_RESOURCE on the host",
                show_limits(now, now)
            );
            Error::from(e).help(help)
        })?;
        same(self.name, &(self.soft, self.hard), &limits::get_rlimit(resource)?)
    }
}

pub(super) struct Umask(pub(super) u32);

impl Action for Umask {
    fn apply(&mut self, _context: &mut Context<'_>) -> Result<Evidence, Error> {
        limits::set_umask(self.0)?;
        // There is no call that only reads it.
        same("the umask", &self.0, &limits::set_umask(self.0)?)
    }
}

pub(super) struct Become {
    pub(super) ids: Ids,
    pub(super) by_root: bool,
}

impl Become {
    fn groups(&self) -> Result<(), Error> {
        let now = ids::getgroups()?;
        let wanted = &self.ids.groups;
        let enough = now.iter().all(|group| wanted.contains(group)) && !self.ids.groups_named;
        if enough || now == *wanted {
            return Ok(());
        }
        match ids::set_groups(wanted) {
            // An ordinary user cannot give up groups: in a user namespace of its own setgroups is denied.
            Err(e) if e.kind() == Errno::EPERM && !self.ids.groups_named && !self.by_root => Ok(()),
            other => other.map_err(|e| Error::from(e).help("setting groups needs root, or ranges in /etc/subgid")),
        }
    }
}

impl Action for Become {
    fn apply(&mut self, _context: &mut Context<'_>) -> Result<Evidence, Error> {
        self.groups()?;
        if let Some(gid) = self.ids.gid {
            ids::set_resgid(gid)?;
        }
        if let Some(uid) = self.ids.uid {
            // What is to remain of the capabilities is for those to say who drop them; execve ends the rest.
            process::keep_caps(true)?;
            ids::set_resuid(uid)?;
        }
        let (uid, gid) = (process::euid(), process::egid());
        same("the uid", &self.ids.uid.unwrap_or(uid), &uid)?;
        same("the gid", &self.ids.gid.unwrap_or(gid), &gid)?;
        Ok(format!("uid {uid}, gid {gid}, groups {:?}", ids::getgroups()?).into())
    }
}
