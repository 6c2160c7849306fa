//! The steps: make the cgroups, set each limit, move the process in.

use crate::devices;
use crate::group::{Group, cgroups_of};
use crate::io;
use crate::isolator::Groups;
use crate::layout::{Place, Version};
use crate::limits::{Kind, Limit};
use crate::scope::Kept;
use crate::setting::Setting;
use crate::{v1, v2};
use palisade_abi::ErrorContext as _;
use palisade_abi::units::CpuSet;
use palisade_abi::{Action, Context, Error, Evidence};
use palisade_sys::namespace::{CLONE_NEWCGROUP, unshare};
use palisade_sys::procfs::Proc;
use palisade_sys::{Errno, bpf, fd};
use std::os::fd::OwnedFd;
use std::path::Path;

/// Makes the cgroups; removes them when all is over.
pub(crate) struct Make {
    pub(crate) places: Vec<Place>,
    pub(crate) name: String,
    pub(crate) groups: Groups,
    pub(crate) keeper: Kept,
}

impl Make {
    /// Where systemd keeps the cgroups, it makes the directory first.
    fn place(&self, place: &Place) -> Result<Place, Error> {
        let Some(scope) = &place.scope else { return Ok(place.clone()) };
        let (keeper, path) = scope.make(&self.name)?;
        let mut kept = self.keeper.borrow_mut();
        // From here on `undo` ends it.
        let keeper = kept.insert(keeper);
        v2::in_made_scope(place, &path, |dir| keeper.step_aside(dir))
    }
}

impl Action for Make {
    fn apply(&mut self, context: &mut Context<'_>) -> Result<Evidence, Error> {
        for place in &self.places {
            let place = self.place(place)?;
            let group = Group::make(&place, &self.name)?;
            if place.moves_by().is_none() && !place.is_attached() {
                context.offer_cgroup(group.fd());
            }
            self.groups.borrow_mut().push(group);
        }
        let paths: Vec<String> = self.groups.borrow().iter().map(|g| g.path().display().to_string()).collect();
        Ok(paths.join(", ").into())
    }

    /// A process is born into its v2 cgroup, so no later step would look.
    fn verify(&self, context: &Context<'_>) -> Result<Option<Evidence>, Error> {
        inside(&self.groups, |place| place.moves_by().is_none() && !place.is_attached(), context.pid()?)
    }

    /// In reverse: the first cgroup that is emptied is the one that can be frozen.
    fn undo(&mut self, _context: &mut Context<'_>) -> Result<(), Error> {
        let mut first = Ok(());
        while let Some(group) = { self.groups.borrow_mut().pop() } {
            let removed = group.remove();
            first = first.and(removed);
        }
        if let Some(mut keeper) = self.keeper.take() {
            keeper.end();
        }
        first
    }
}

fn inside(groups: &Groups, which: fn(&Place) -> bool, pid: i32) -> Result<Option<Evidence>, Error> {
    let groups = groups.borrow();
    let those: Vec<&Group> = groups.iter().filter(|group| which(&group.place)).collect();
    if those.is_empty() {
        return Ok(None);
    }
    let entries = cgroups_of(pid)?;
    let paths = those.iter().map(|group| group.holds(&entries, pid)).collect::<Result<Vec<_>, _>>()?;
    Ok(Some(format!("process {pid} is in {}", paths.join(", ")).into()))
}

/// Sets one limit.
pub(crate) struct Set {
    limit: Limit,
    groups: Groups,
    /// v2: what decides about devices, once it is attached.
    program: Option<OwnedFd>,
}

impl Set {
    pub(crate) const fn new(limit: Limit, groups: Groups) -> Self {
        Self { limit, groups, program: None }
    }

    /// v2: attaches the program of the rules.
    fn decide(&mut self) -> Result<(), Error> {
        let Kind::Devices(rules) = &self.limit.kind else { return Ok(()) };
        let groups = self.groups.borrow();
        let v2 = |group: &&Group| {
            group.place.version == Version::V2 && group.place.controllers.contains(&self.limit.controller)
        };
        let Some(group) = groups.iter().find(v2) else { return Ok(()) };
        let program = devices::load(rules)?;
        bpf::attach_device_program(group.dir(), &program).doing(|| "cannot decide about devices".to_owned())?;
        self.program = Some(program);
        Ok(())
    }

    /// v2: whether the program decides.
    fn decided(&self, group: &Group) -> Result<String, Error> {
        let attached = self.program.as_ref().map(|program| bpf::is_device_program_attached(group.dir(), program));
        let attached = attached.transpose().doing(|| "cannot read back what decides about devices".to_owned())?;
        if attached == Some(true) {
            return Ok("the program of the rules is attached".to_owned());
        }
        Err(Error::setup("the program that decides about devices is not attached"))
    }

    fn each(&self, act: fn(&Group, &Setting) -> Result<String, Error>) -> Result<Evidence, Error> {
        if self.limit.kind == Kind::NoLimit {
            return Ok("no limit is set".into());
        }
        let groups = self.groups.borrow();
        let group = groups.iter().find(|group| group.place.controllers.contains(&self.limit.controller));
        let group = group.ok_or_else(|| Error::setup("there is no cgroup to set it in, because none could be made"))?;
        let settings = match group.place.version {
            Version::V1 => v1::settings(&self.limit)?,
            Version::V2 => v2::settings(&self.limit)?,
        };
        let done = settings.iter().map(|setting| match setting.swap {
            Some(_) if !group.has(&setting.file) => without_swap(&setting.file),
            _ => act(group, setting),
        });
        let mut done = done.collect::<Result<Vec<_>, _>>()?;
        match self.limit.kind {
            Kind::Devices(_) if group.place.version == Version::V2 => done.push(self.decided(group)?),
            Kind::MemoryMin(bytes) => kept("memory.min", &group.place.dir, bytes)?,
            Kind::MemoryLow(bytes) => kept("memory.low", &group.place.dir, bytes)?,
            Kind::IoWeight(_) => done.push(io::shared_by_weight(group.place.version, &group.place.dir)?),
            _ => {}
        }
        Ok(done.join(", ").into())
    }
}

impl Action for Set {
    fn apply(&mut self, _context: &mut Context<'_>) -> Result<Evidence, Error> {
        self.decide()?;
        self.each(Group::set)
    }

    fn verify(&self, context: &Context<'_>) -> Result<Option<Evidence>, Error> {
        match &self.limit.kind {
            Kind::Cpus { cpus, .. } => runs_on("Cpus_allowed_list", cpus, context.pid()?)?,
            Kind::Mems { mems, .. } => runs_on("Mems_allowed_list", mems, context.pid()?)?,
            _ => {}
        }
        self.each(Group::check).map(Some)
    }
}

/// Whether the process itself is kept to what its cgroup has. `process.cpu_affinity` may keep it to fewer.
fn runs_on(field: &str, allowed: &CpuSet, pid: i32) -> Result<(), Error> {
    let status = Proc::host().and_then(|proc| proc.pid(pid)?.read("status"));
    let status = status.doing(|| format!("cannot see where process {pid} runs"))?;
    let list = status.lines().find_map(|line| line.strip_prefix(field)?.strip_prefix(':')).unwrap_or_default().trim();
    match list.parse::<CpuSet>() {
        Ok(found) if found.cpus().iter().all(|one| allowed.cpus().contains(one)) => Ok(()),
        _ => Err(Error::setup(format!("{field} of process {pid} should be {allowed}, and the kernel says {list}"))),
    }
}

/// What is kept for a cgroup is never more than what is kept for those above it; only the root needs nothing.
fn kept(file: &str, base: &Path, asked: u64) -> Result<(), Error> {
    for above in base.ancestors() {
        let path = above.join(file);
        let text = match fd::open_path(&path, fd::O_RDONLY).and_then(fd::read_all) {
            Ok(text) => String::from_utf8_lossy(&text).trim_end().to_owned(),
            // The root of the hierarchy has none, and above the mount point there is no cgroup.
            Err(error) if error.kind() == Errno::ENOENT => break,
            Err(error) => return Err(error).doing(|| "cannot see what is kept for the cgroups above".to_owned()),
        };
        if text.parse::<u64>().is_ok_and(|kept| kept < asked) {
            return Err(Error::host(format!("only {text} bytes are kept for the cgroup above, which is what counts"))
                .call(format!("read({}) = {text}", path.display()), 0)
                .help(format!("write {asked} or more to {}, or run below a cgroup that has it", path.display())));
        }
    }
    Ok(())
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

/// Where neither the process nor the launcher may move it: has systemd do so.
pub(crate) struct Attach {
    pub(crate) groups: Groups,
    pub(crate) keeper: Kept,
}

impl Action for Attach {
    fn apply(&mut self, context: &mut Context<'_>) -> Result<Evidence, Error> {
        let groups = self.groups.borrow();
        let group = groups.iter().find(|group| group.place.is_attached());
        let kept = self.keeper.borrow();
        let (Some(group), Some(keeper)) = (group, kept.as_ref()) else {
            return Err(Error::setup("there is no cgroup to move it into, because none could be made"));
        };
        let pid = context.pid()?;
        keeper.attach(group.name(), pid)?;
        group.holds(&cgroups_of(pid)?, pid).map(Evidence)
    }

    fn verify(&self, context: &Context<'_>) -> Result<Option<Evidence>, Error> {
        inside(&self.groups, Place::is_attached, context.pid()?)
    }
}

/// The cgroup namespace of this process.
fn own_namespace() -> Result<(u64, u64), Error> {
    let own = Proc::host().and_then(|proc| proc.own()?.ns("cgroup"));
    own.doing(|| "cannot see the cgroup namespace of this process".to_owned())
}

/// In the child, where it is not born inside: moves it in.
pub(crate) struct Join {
    groups: Groups,
    /// The launcher's cgroup namespace.
    launcher: (u64, u64),
}

impl Join {
    pub(crate) fn new(groups: Groups) -> Result<Self, Error> {
        Ok(Self { groups, launcher: own_namespace()? })
    }
}

impl Action for Join {
    fn apply(&mut self, _context: &mut Context<'_>) -> Result<Evidence, Error> {
        // The child's copies of the descriptors are closed here: none of the host's cgroups stays open inside.
        let groups = self.groups.take();
        if groups.is_empty() {
            return Err(Error::setup("there is no cgroup to move into, because none could be made"));
        }
        groups.iter().try_for_each(Group::join)?;
        // The root of a cgroup namespace is where its maker was then; of one that came with the process, that is the
        // launcher's cgroup, and the paths of this one would tell how it lies to it.
        if own_namespace()? != self.launcher {
            unshare(CLONE_NEWCGROUP).doing(|| "cannot make its cgroup the root of what it sees".to_owned())?;
        }
        Ok(Evidence::default())
    }

    fn verify(&self, context: &Context<'_>) -> Result<Option<Evidence>, Error> {
        inside(&self.groups, |place| place.moves_by().is_some(), context.pid()?)
    }
}
