//! The steps: make the cgroups, set each limit, move the process in.

use crate::group::{Group, Setting, cgroups_of};
use crate::isolator::Groups;
use crate::layout::{Place, Version};
use crate::limits::{Kind, Limit};
use crate::{v1, v2};
use palisade_abi::ErrorContext as _;
use palisade_abi::{Action, Context, Error, Evidence};
use palisade_sys::procfs::Proc;

/// Makes the cgroups; removes them when all is over.
pub(crate) struct Make {
    pub(crate) places: Vec<Place>,
    pub(crate) name: String,
    pub(crate) groups: Groups,
}

impl Action for Make {
    fn apply(&mut self, context: &mut Context<'_>) -> Result<Evidence, Error> {
        for place in &self.places {
            let group = Group::make(place, &self.name)?;
            if place.version == Version::V2 {
                context.offer_cgroup(group.fd());
            }
            self.groups.borrow_mut().push(group);
        }
        let paths: Vec<String> = self.groups.borrow().iter().map(|g| g.path().display().to_string()).collect();
        Ok(paths.join(", ").into())
    }

    /// A process is born into its v2 cgroup, so no later step would look.
    fn verify(&self, context: &Context<'_>) -> Result<Option<Evidence>, Error> {
        inside(&self.groups, Version::V2, context.pid()?)
    }

    /// In reverse: the pids controller is last, and while its cgroup is emptied nobody can fork.
    fn undo(&mut self, _context: &mut Context<'_>) -> Result<(), Error> {
        let mut first = Ok(());
        while let Some(group) = { self.groups.borrow_mut().pop() } {
            let removed = group.remove();
            first = first.and(removed);
        }
        first
    }
}

fn inside(groups: &Groups, version: Version, pid: i32) -> Result<Option<Evidence>, Error> {
    let groups = groups.borrow();
    let those: Vec<&Group> = groups.iter().filter(|group| group.place.version == version).collect();
    if those.is_empty() {
        return Ok(None);
    }
    let entries = cgroups_of(pid)?;
    let paths = those.iter().map(|group| group.holds(&entries, pid)).collect::<Result<Vec<_>, _>>()?;
    Ok(Some(format!("process {pid} is in {}", paths.join(", ")).into()))
}

/// Sets one limit.
pub(crate) struct Set {
    pub(crate) limit: Limit,
    pub(crate) groups: Groups,
}

impl Set {
    fn each(&self, act: fn(&Group, &Setting) -> Result<String, Error>) -> Result<Evidence, Error> {
        if self.limit.kind == Kind::NoLimit {
            return Ok("no limit is set".into());
        }
        let groups = self.groups.borrow();
        let group = groups.iter().find(|group| group.place.controllers.contains(&self.limit.controller));
        let group = group.ok_or_else(|| Error::setup("there is no cgroup to set it in, because none could be made"))?;
        let settings = match group.place.version {
            Version::V1 => v1::settings(&self.limit)?,
            Version::V2 => v2::settings(&self.limit),
        };
        let done = settings.iter().map(|setting| match setting.swap {
            Some(_) if !group.has(setting.file) => without_swap(setting.file),
            _ => act(group, setting),
        });
        Ok(done.collect::<Result<Vec<_>, _>>()?.join(", ").into())
    }
}

impl Action for Set {
    fn apply(&mut self, _context: &mut Context<'_>) -> Result<Evidence, Error> {
        self.each(Group::set)
    }

    fn verify(&self, _context: &Context<'_>) -> Result<Option<Evidence>, Error> {
        self.each(Group::check).map(Some)
    }
}

/// Where the kernel does not count swap, a limit on it is met only if there is none.
fn without_swap(file: &str) -> Result<String, Error> {
    let swaps =
        Proc::host().and_then(|proc| proc.read("swaps")).doing(|| "cannot see whether there is swap".to_owned())?;
    if swaps.lines().count() <= 1 {
        return Ok(format!("no {file} here, and this host has no swap"));
    }
    Err(Error::host(format!("this host has swap, and its kernel cannot limit it (no {file})"))
        .help("boot with swapaccount=1, or accept swapping with `memory: (swap: \"max\")`"))
}

/// v1, in the child: moves it in.
pub(crate) struct Join {
    pub(crate) groups: Groups,
}

impl Action for Join {
    fn apply(&mut self, _context: &mut Context<'_>) -> Result<Evidence, Error> {
        // The child's copies of the descriptors are closed here: none of the host's cgroups stays open inside.
        let groups = self.groups.take();
        if groups.is_empty() {
            return Err(Error::setup("there is no cgroup to move into, because none could be made"));
        }
        groups.iter().try_for_each(Group::join)?;
        Ok(Evidence::default())
    }

    fn verify(&self, context: &Context<'_>) -> Result<Option<Evidence>, Error> {
        inside(&self.groups, Version::V1, context.pid()?)
    }
}
