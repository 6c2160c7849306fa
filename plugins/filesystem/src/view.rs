//! The view while it is built. The child fills it; the host keeps what it opened, and what it read back.

use std::cell::{Ref, RefCell};
use std::collections::{BTreeMap, BTreeSet};
use std::os::fd::OwnedFd;
use std::rc::Rc;

use palisade_abi::{Error, Host};
use palisade_sys::beneath::Root;
use palisade_sys::mount::{self, Fs, MountAttr, MountFlags};
use palisade_sys::procfs::Proc;
use palisade_sys::{Errno, fd, limits, names, process};

use crate::device::{NULL, clone_device};
use crate::error::Told;
use crate::mounts::{self, Mount};
use crate::op::{Fresh, Op};
use crate::source::Source;
use crate::tree::{Kind, Target, below};

/// Covers what is masked: nothing to read, write, execute or open.
pub(crate) const MASKED: MountFlags =
    MountFlags::RO.with(MountFlags::NOSUID).with(MountFlags::NODEV).with(MountFlags::NOEXEC);

/// What the new root is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Base {
    Empty(Fresh),
    /// The source of this number.
    Rootfs(usize),
}

/// What all steps of one launch share.
#[derive(Debug)]
pub(crate) struct View {
    base: Base,
    sources: Vec<Source>,
    /// Attributes are set before a mount is attached. KERNEL(5.12): an older one can do that only afterwards.
    early: bool,
    /// Whether an empty root becomes read-only.
    freeze: bool,
    /// The ids in /etc/passwd where the policy fixes them.
    ids: (Option<u32>, Option<u32>),
    /// The launcher's own mount namespace: the one to keep out of.
    launcher: (u64, u64),
    /// Its own cgroup namespace, which shows all cgroups.
    launcher_cgroup: Option<(u64, u64)>,
    launcher_user: (u64, u64),
    launcher_net: Option<(u64, u64)>,
    state: RefCell<State>,
    seen: RefCell<Option<(i32, Rc<Vec<Mount>>)>>,
}

#[derive(Debug, Default)]
struct State {
    root: Option<Root>,
    /// Directories that are the view's own or the kernel's, by path. Nobody else can make a name in them, so they need
    /// no path walk of their own: one call a name.
    dirs: BTreeMap<String, OwnedFd>,
    slots: Vec<Option<OwnedFd>>,
    /// Masks that are attached already: others are clones of them and inherit their flags.
    masked_file: Option<OwnedFd>,
    masked_dir: Option<OwnedFd>,
    umask: Option<u32>,
    /// Directories that are mounts of their own so that they keep their names.
    held: BTreeSet<String>,
}

impl View {
    /// Makes the view of one launch; nothing of it exists yet.
    pub(crate) fn new(base: Base, sources: Vec<Source>, freeze: bool, host: &Host) -> Result<Self, Error> {
        let slots = sources.iter().map(|_| None).collect();
        Ok(Self {
            base,
            sources,
            early: host.kernel()? >= (5, 12),
            freeze,
            ids: (host.workload_uid(), host.workload_gid()),
            launcher: own_namespace("mnt")?,
            launcher_cgroup: own_namespace("cgroup").ok(),
            launcher_user: own_namespace("user")?,
            launcher_net: own_namespace("net").ok(),
            state: RefCell::new(State { slots, ..State::default() }),
            seen: RefCell::new(None),
        })
    }

    /// Opens every source, on the host.
    pub(crate) fn open_all(&self) -> Result<usize, Error> {
        let mut state = self.state.borrow_mut();
        for (slot, source) in state.slots.iter_mut().zip(&self.sources) {
            *slot = Some(source.open(self.early)?);
        }
        Ok(self.sources.len())
    }

    /// Lets go of everything that was opened.
    pub(crate) fn close_all(&self) {
        self.state.borrow_mut().slots.clear();
    }

    /// Has what was opened show the ids of its files through the map of a user namespace.
    pub(crate) fn map_ids(&self, slot: usize, user: &OwnedFd) -> Result<(), Error> {
        let state = self.state.borrow();
        let (Some(Some(tree)), Some(source)) = (state.slots.get(slot), self.sources.get(slot)) else {
            return Err(Error::setup("it is not open on the host"));
        };
        mount::set_idmap(tree, source.recursive, user)
            .told(|| format!("the ids of {} cannot be mapped", source.path.display()))
    }

    /// Whether attributes are set before a mount is attached.
    pub(crate) fn early(&self) -> bool {
        self.early
    }

    /// Whether this process has left the launcher's user namespace.
    pub(crate) fn in_user_namespace(&self) -> Result<bool, Error> {
        own_namespace("user").map(|own| own != self.launcher_user)
    }

    /// A source that was opened, or is opened now.
    pub(crate) fn take(&self, slot: usize) -> Result<(OwnedFd, &Source), Error> {
        let source = self.sources.get(slot).ok_or_else(|| Error::setup("there is no such source"))?;
        let opened = self.state.borrow_mut().slots.get_mut(slot).and_then(Option::take);
        match opened {
            Some(tree) => Ok((tree, source)),
            None => source.open(self.early).map(|tree| (tree, source)),
        }
    }

    /// Makes the new root and puts it on top of the old one, which keeps serving paths until the end.
    pub(crate) fn begin(&self) -> Result<String, Error> {
        if own_namespace("mnt")? == self.launcher {
            return Err(Error::setup("this process is in the launcher's own mount namespace")
                .help("add `mount: New` to the plugin `namespaces`; the view would replace the host's root"));
        }
        let umask = limits::set_umask(0).told(|| "cannot set the umask".to_owned())?;
        let slash = fd::open_path("/", fd::O_PATH | fd::O_DIRECTORY).told(|| "cannot open the old root".to_owned())?;
        let attach =
            |tree: &OwnedFd| mount::move_mount_onto(tree, &slash).told(|| "cannot attach the new root".to_owned());
        let tree = match &self.base {
            Base::Empty(fresh) => {
                let tree = make(fresh)?;
                attach(&tree)?;
                tree
            }
            Base::Rootfs(slot) => {
                let (tree, source) = self.take(*slot)?;
                attach(&tree)?;
                if !self.early {
                    source.apply_attr(&tree)?;
                }
                tree
            }
        };
        let mut state = self.state.borrow_mut();
        if matches!(self.base, Base::Empty(_)) {
            let dir = fd::dup_cloexec(&tree).told(|| "cannot keep the new root".to_owned())?;
            state.dirs.insert(String::new(), dir);
        }
        state.root = Some(Root::from_fd(tree));
        state.umask = Some(umask);
        Ok(String::new())
    }

    /// Makes the view the root, and drops the old one with everything that only building needed.
    pub(crate) fn finish(&self) -> Result<String, Error> {
        let state = std::mem::take(&mut *self.state.borrow_mut());
        let root = state.root.ok_or_else(|| Error::setup("there is no new root"))?;
        if self.freeze {
            mount::set_attr(&root, false, MountAttr::set(MountFlags::RO))
                .told(|| "cannot make the root read-only".to_owned())?;
        }
        mount::pivot_root_into(&root).told(|| "cannot make the view the root".to_owned())?;
        limits::set_umask(state.umask.unwrap_or(0o022)).told(|| "cannot set the umask".to_owned())?;
        Ok(String::new())
    }

    /// Does one thing.
    pub(crate) fn apply(&self, op: &Op) -> Result<(), Error> {
        match op {
            Op::Bind { slot, target } => {
                let (tree, source) = self.take(*slot)?;
                self.attach(&tree, target)?;
                if self.early { Ok(()) } else { source.apply_attr(&tree) }
            }
            Op::OwnCgroup { fs, target } => self.own_cgroup(fs, target),
            Op::Overlay { lower, upper, target } => self.lay(*lower, upper, target),
            Op::Fresh { fs, target } => {
                let tree = make(fs)?;
                self.attach(&tree, target)?;
                // A mount's descriptor is its root directory.
                self.state.borrow_mut().dirs.insert(target.path.clone(), tree);
                Ok(())
            }
            Op::Node { name, device, target } => self.node(name, *device, target),
            Op::Mask { target } => self.mask(target),
            Op::Part { target, flags } => {
                let said = || format!("cannot make {} {flags}", target.path);
                let part = match self.own(&target.path) {
                    Some((dir, name)) => mount::open_tree_clone(&*dir, name, false),
                    None => self.with_root(|root| mount::open_tree_fd(root.open(&target.path, fd::O_PATH)?, false)),
                };
                let part = part.told(said)?;
                self.attach(&part, target)?;
                mount::set_attr(&part, false, MountAttr::set(*flags)).told(said)
            }
            Op::Freeze { path } => {
                let place =
                    self.with_root(|root| root.open(path, fd::O_PATH)).told(|| format!("cannot open {path}"))?;
                let attr = MountAttr::set(MountFlags::RO);
                mount::set_attr(&place, false, attr).told(|| format!("cannot make {path} read-only"))
            }
            Op::Dir { path, mode } => {
                let said = || format!("cannot make the directory {path}");
                let (parent, name) = self.parent(path)?;
                let made = names::dir(&*parent, name, *mode).told(said)?;
                drop(parent);
                self.state.borrow_mut().dirs.insert(path.clone(), made);
                Ok(())
            }
            Op::Link { path, to } => {
                let (parent, name) = self.parent(path)?;
                names::symlink(to, &*parent, name).told(|| format!("cannot make the link {path}"))
            }
            Op::File { path, mode, content } => {
                let (parent, name) = self.parent(path)?;
                let ids = || (self.ids.0.unwrap_or_else(process::euid), self.ids.1.unwrap_or_else(process::egid));
                // Where it cannot be seen, it is not the host's.
                let on_host = || own_namespace("net").is_ok_and(|own| Some(own) == self.launcher_net);
                names::file(&*parent, name, *mode, &content.bytes(ids, on_host))
                    .told(|| format!("cannot make the file {path}"))
            }
        }
    }

    fn with_root<T>(&self, act: impl FnOnce(&Root) -> palisade_sys::Result<T>) -> palisade_sys::Result<T> {
        let state = self.state.borrow();
        let none = || palisade_sys::Error::new(Errno::EBADF, "openat2(the new root)");
        act(state.root.as_ref().ok_or_else(none)?)
    }

    /// The directory that a path is a name in, where it is the view's own or the kernel's and open.
    fn own<'a>(&self, path: &'a str) -> Option<(Ref<'_, OwnedFd>, &'a str)> {
        let (parent, name) = path.rsplit_once('/')?;
        let dir = Ref::filter_map(self.state.borrow(), |state| state.dirs.get(parent)).ok()?;
        Some((dir, name))
    }

    /// The same, made with all parents. For paths that are the view's own, as the plan has found out.
    fn parent<'a>(&self, path: &'a str) -> Result<(Ref<'_, OwnedFd>, &'a str), Error> {
        if self.own(path).is_none() {
            let (parent, _) = path.rsplit_once('/').unwrap_or_default();
            if parent.is_empty() {
                return Err(Error::setup(format!("{path} would be made in a root that is not the view's own")));
            }
            let made = {
                let (above, name) = self.parent(parent)?;
                names::dir(&*above, name, 0o755).told(|| format!("cannot make the directory {parent}"))?
            };
            self.state.borrow_mut().dirs.insert(parent.to_owned(), made);
        }
        self.own(path).ok_or_else(|| Error::setup(format!("{path} has no directory")))
    }

    /// Attaches a mount at its place, which is made where the view may.
    pub(crate) fn attach(&self, tree: &OwnedFd, target: &Target) -> Result<(), Error> {
        let path = &target.path;
        target.held.iter().try_for_each(|dir| self.hold(dir))?;
        let said = || format!("cannot mount on {path}");
        if target.make {
            let (parent, name) = self.parent(path)?;
            names::place(&*parent, name, target.kind == Kind::Dir).told(said)?;
            mount::move_mount_at(tree, &*parent, name).told(said)?;
        } else if let Some((parent, name)) = self.own(path) {
            mount::move_mount_at(tree, &*parent, name).told(said)?;
        } else {
            let flags = fd::O_PATH | fd::O_NOFOLLOW;
            let attach = |root: &Root| mount::move_mount_onto(tree, root.open(path, flags)?);
            self.with_root(attach).told(said)?;
        }
        // What was open there is covered now.
        self.state.borrow_mut().dirs.retain(|dir, _| below(dir, path).is_none());
        Ok(())
    }

    /// Makes a directory a mount of its own, as it is.
    fn hold(&self, dir: &str) -> Result<(), Error> {
        if !self.state.borrow_mut().held.insert(dir.to_owned()) {
            return Ok(());
        }
        let flags = fd::O_PATH | fd::O_DIRECTORY | fd::O_NOFOLLOW;
        let cover = |root: &Root| {
            let place = root.open(dir, flags)?;
            mount::move_mount_onto(mount::open_tree_fd(&place, true)?, &place)
        };
        self.with_root(cover).told(|| format!("cannot hold {dir} in its place"))
    }

    /// A mount of cgroup2 shows the root of the cgroup namespace and all below it. From the host's namespace it would
    /// even change how the host's own is mounted. Linux: `apply_cgroup_root_flags` of kernel/cgroup/cgroup.c.
    fn own_cgroup(&self, fs: &Fresh, target: &Target) -> Result<(), Error> {
        let refused = |why: String| {
            Error::host("it would show the cgroups of others").call(why, 0).help(
                "add `cgroup: New` to the plugin `namespaces` and a limit to the plugin `cgroups`; \
                 where the controllers are on cgroup v1, leave the entry `Cgroup` out",
            )
        };
        let own = own_namespace("cgroup")?;
        if self.launcher_cgroup.is_none_or(|launcher| launcher == own) {
            return Err(refused("this process is in the launcher's cgroup namespace".to_owned()));
        }
        let tree = make(fs)?;
        // Nobody else is in a cgroup that was made for this launch; in another the kernel lists them, or zeros.
        let said = || "cannot see who is in its cgroup".to_owned();
        let inside = fd::read_to_string_at(&tree, "cgroup.procs").told(said)?;
        if inside.lines().count() != 1 {
            return Err(refused(format!("read(cgroup.procs) has {} processes", inside.lines().count())));
        }
        self.attach(&tree, target)
    }

    /// A device of the host's, and really that device: what lies in a /dev of somebody's making may be anything.
    fn node(&self, name: &str, device: (u32, u32), target: &Target) -> Result<(), Error> {
        let tree = clone_device(name, device)?;
        // Writing to the device is no writing to the file; but its mode and owner are the host's, and stay.
        let flags = MountFlags::RO | MountFlags::NOSUID | MountFlags::NOEXEC;
        let freeze =
            || mount::set_attr(&tree, false, MountAttr::set(flags)).told(|| format!("cannot make /dev/{name} {flags}"));
        if self.early {
            freeze()?;
        }
        self.attach(&tree, target)?;
        if self.early { Ok(()) } else { freeze() }
    }

    fn mask(&self, target: &Target) -> Result<(), Error> {
        let said = || format!("cannot mask {}", target.path);
        let again = {
            let state = self.state.borrow();
            let kept = if target.kind == Kind::Dir { &state.masked_dir } else { &state.masked_file };
            kept.as_ref().map(|first| mount::open_tree_fd(first, false)).transpose().told(said)?
        };
        if let Some(tree) = again {
            return self.attach(&tree, target);
        }
        let tree = match target.kind {
            Kind::Dir => make(&Fresh::tmpfs(4096, 1, 0o555, MASKED))?,
            Kind::File => clone_device("null", NULL)?,
        };
        self.attach(&tree, target)?;
        mount::set_attr(&tree, false, MountAttr::set(MASKED)).told(said)?;
        let mut state = self.state.borrow_mut();
        let kept = if target.kind == Kind::Dir { &mut state.masked_dir } else { &mut state.masked_file };
        *kept = Some(tree);
        Ok(())
    }

    /// What the kernel says is mounted in a process's view; read once for all steps.
    pub(crate) fn mounts(&self, pid: i32) -> Result<Rc<Vec<Mount>>, Error> {
        if let Some((_, mounts)) = self.seen.borrow().as_ref().filter(|(of, _)| *of == pid) {
            return Ok(Rc::clone(mounts));
        }
        let read = || Proc::host()?.pid(pid)?.read("mountinfo");
        let text = read().told(|| "cannot read the workload's mounts".to_owned())?;
        let mounts = Rc::new(mounts::parse(&text)?);
        *self.seen.borrow_mut() = Some((pid, Rc::clone(&mounts)));
        Ok(mounts)
    }
}

/// A new file system, attached nowhere.
pub(crate) fn make(fresh: &Fresh) -> Result<OwnedFd, Error> {
    let make = || {
        let fs = Fs::new(fresh.kind)?;
        let fs = fresh.options.iter().try_fold(fs, |fs, (key, value)| fs.set(key, value))?;
        fs.create(fresh.flags)
    };
    make().told(|| format!("cannot make a new {}", fresh.kind))
}

/// A namespace of this process.
fn own_namespace(kind: &str) -> Result<(u64, u64), Error> {
    let found = Proc::host().and_then(|proc| proc.own()?.ns(kind));
    found.told(|| format!("cannot see the {kind} namespace of this process"))
}
