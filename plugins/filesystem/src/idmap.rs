//! `idmap`: what belongs to the owner of a bound directory is shown to the workload as its own.
//!
//! Started by root the workload has an id that owns nothing, so it may change nothing of anybody's. A mount can show
//! the ids of its files through a map: the owner of the source as the workload, and the workload's new files on the
//! disk as the owner's. All other ids are shown as nobody's, and are not mapped by anything. Where the workload is the
//! owner anyway, as that of an ordinary user is in the user's own directory, nothing is mapped.

use std::cell::RefCell;
use std::fmt;
use std::fs;
use std::os::fd::OwnedFd;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::rc::Rc;

use palisade_abi::{Action, Context, Error, Evidence, Host, Origin, Stage, Step};
use palisade_sys::ids::IdMap;
use palisade_sys::mount;
use palisade_sys::namespace::{self, ns_inode};
use palisade_sys::procfs::{Proc, ProcPid};
use palisade_sys::{Errno, process};

use crate::error::Told;
use crate::mounts;
use crate::parts::Idmap;
use crate::planner::{CAP_SYS_ADMIN, Planner};
use crate::source::open_found;
use crate::tree::below;
use crate::view::View;

/// Who owns a source.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Owner {
    uid: u32,
    gid: u32,
}

impl fmt::Display for Owner {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "uid {} gid {}", self.uid, self.gid)
    }
}

/// A source whose owner is shown as the workload.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Mapped {
    pub(crate) slot: usize,
    pub(crate) path: PathBuf,
    /// Where it is in the view.
    pub(crate) at: String,
    pub(crate) owner: Owner,
    pub(crate) idmap: Idmap,
    pub(crate) origin: Option<Origin>,
}

impl Planner<'_> {
    /// Who owns a source that is to be shown as the workload's, if anything is to be done about it.
    pub(crate) fn owner_of(&self, path: &Path, idmap: Idmap, write: bool) -> Result<Option<Owner>, Error> {
        if idmap == Idmap::None {
            return Ok(None);
        }
        let facts = fs::symlink_metadata(path)?;
        let owner = Owner { uid: facts.uid(), gid: facts.gid() };
        if !self.host.has_capability(CAP_SYS_ADMIN) {
            // The workload has the caller's id on the host: what the caller may do there, it may.
            if idmap == Idmap::AnyOwner || owner.uid == self.host.uid()? {
                return Ok(None);
            }
            return Err(Error::host("only root can map the ids of a mount (CAP_SYS_ADMIN)")
                .help(format!("{} belongs to {owner}; start it as that user, or as root", path.display())));
        }
        if write && idmap == Idmap::Owner && (owner.uid == 0 || owner.gid == 0) {
            return Err(Error::policy(format!(
                "{} belongs to {owner}: the workload would make files of root",
                path.display()
            ))
            .help(
                "chown it to an ordinary user and group, or bind it read-only; or write idmap: AnyOwner, and deny \
                 set-user-ID files (seccomp, `@setuid-files`)",
            ));
        }
        Ok(Some(owner))
    }

    /// What is granted below a bind whose ids are mapped has them mapped, too.
    pub(crate) fn idmap_at(&self, path: &str) -> Idmap {
        let over = self.mapped.iter().rev().find(|mapped| below(path, &mapped.at).is_some());
        over.map_or(Idmap::None, |mapped| mapped.idmap)
    }
}

/// User namespaces that hold the map of one owner; those of one launch have the same other side.
type Maps = Rc<RefCell<Vec<(Owner, OwnedFd)>>>;

/// The steps that map all of a launch.
pub(crate) fn steps(all: Vec<Mapped>, view: &Rc<View>, host: &Host) -> Vec<Step> {
    let ids = (host.workload_uid(), host.workload_gid());
    let maps = Maps::default();
    let step = |mapped: Mapped| {
        let words = format!("shows {} of {} as the workload", mapped.owner, mapped.path.display());
        let origin = mapped.origin;
        let map = Map { mapped, view: Rc::clone(view), ids, maps: Rc::clone(&maps), done: false };
        Step::new(Stage::Attach, words, map)
            .why("the id that the workload has on the host is known only now, and owns nothing")
            .after("namespaces")
            .origin(origin)
    };
    all.into_iter().map(step).collect()
}

struct Map {
    mapped: Mapped,
    view: Rc<View>,
    /// The workload's ids inside, where the policy fixes them.
    ids: (Option<u32>, Option<u32>),
    maps: Maps,
    done: bool,
}

impl Action for Map {
    fn apply(&mut self, context: &mut Context<'_>) -> Result<Evidence, Error> {
        let child = Proc::host()?.pid(context.init_pid()?)?;
        let uid = outside(&child, "uid_map", self.ids.0, process::euid())?;
        let gid = outside(&child, "gid_map", self.ids.1, process::egid())?;
        if uid == self.mapped.owner.uid {
            return Ok(Evidence(format!("nothing to map: the workload is uid {uid}")));
        }
        self.map(uid, gid).map_err(|error| self.explain(error))?;
        self.done = true;
        Ok(Evidence(format!("{} is {uid}, gid {gid}", self.mapped.owner)))
    }

    fn verify(&self, context: &Context<'_>) -> Result<Option<Evidence>, Error> {
        self.maps.borrow_mut().clear();
        if !self.done {
            return Ok(None);
        }
        mounts::check_idmapped(&self.view.mounts(context.pid()?)?, &self.mapped.at)?;
        Ok(Some(Evidence(format!("{} idmapped", self.mapped.at))))
    }

    fn undo(&mut self, _context: &mut Context<'_>) -> Result<(), Error> {
        self.maps.borrow_mut().clear();
        Ok(())
    }
}

impl Map {
    /// Has the source show the owner's ids as those of the workload, `uid` and `gid`.
    fn map(&self, uid: u32, gid: u32) -> Result<(), Error> {
        let (major, minor) = palisade_sys::host::kernel_version()?;
        if (major, minor) < (5, 12) {
            return Err(Error::host(format!("idmap needs Linux 5.12, and this is {major}.{minor}")));
        }
        let mut maps = self.maps.borrow_mut();
        let owner = self.mapped.owner;
        if !maps.iter().any(|(of, _)| *of == owner) {
            let line = |inside: u32, outside: u32| format!("{inside} {outside} 1\n");
            let user = namespace::user_with_maps(&line(owner.uid, uid), &line(owner.gid, gid))
                .told(|| "no user namespace can be made for the map of ids".to_owned())?;
            maps.push((owner, user));
        }
        let user = maps.iter().find(|(of, _)| *of == owner);
        user.map_or(Ok(()), |(_, user)| self.view.map_ids(self.mapped.slot, user))
    }

    /// Names the file system, where it is what cannot, and what else can be done.
    fn explain(&self, error: Error) -> Error {
        let instead = "give the directory to the id that the workload has, start it as an ordinary user, or write `user: \
                       AsNeeded` in `namespaces`: the workload keeps the caller's id then";
        if error.errno != Errno::EINVAL as i32 && error.errno != Errno::EPERM as i32 {
            return Error {
                help: if error.help.is_empty() { instead.to_owned() } else { error.help.clone() },
                ..error
            };
        }
        let kind = kind_of(&self.mapped.path).unwrap_or_else(|_| "unknown".to_owned());
        let message = format!("{}: it is on a file system of type {kind}", error.message);
        Error { message, ..error }.help(format!(
            "ids of a mount can be mapped on ext4 from Linux 5.12, xfs and btrfs 5.15, tmpfs 6.3, and not on overlay (up to 7.2), nor \
             on what was mounted in a container; {instead}"
        ))
    }
}

/// The type of the file system that holds a path.
fn kind_of(path: &Path) -> Result<String, Error> {
    let id = mount::mount_id(open_found(path, 0)?)?;
    let text = Proc::host()?.own()?.read("mountinfo")?;
    let line = text.lines().find(|line| line.split(' ').next() == Some(id.to_string().as_str()));
    let kind = line.and_then(|line| line.split_once(" - ")?.1.split(' ').next());
    kind.map(str::to_owned).ok_or_else(|| Error::setup("it is in no list of mounts"))
}

/// Which id the workload has on the host: the one that the policy fixes, else the first that is mapped.
fn outside(child: &ProcPid, map: &str, wanted: Option<u32>, launcher: u32) -> Result<u32, Error> {
    if ns_inode(child, "user")? == ns_inode(&Proc::host()?.own()?, "user")? {
        return Ok(wanted.unwrap_or(launcher));
    }
    let text = child.read(map)?;
    let ids = IdMap::parse(&text);
    let found = wanted.map_or_else(|| ids.first_outside(), |id| ids.outside(id));
    found.ok_or_else(|| Error::setup(format!("the workload's id is not in its {map}: {}", text.trim())))
}
