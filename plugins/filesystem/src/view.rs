//! The view while it is built. The child fills it; the host keeps what it opened, and what it read back.

use std::cell::RefCell;
use std::os::fd::OwnedFd;
use std::path::Path;
use std::rc::Rc;

use palisade_abi::{Error, Host};
use palisade_sys::beneath::Root;
use palisade_sys::mount::{self, Fs, MountAttr, MountFlags};
use palisade_sys::procfs::Proc;
use palisade_sys::{Errno, fd, limits, process};

use crate::error::Told;
use crate::mounts::{self, Mount};
use crate::op::{Fresh, Op};
use crate::source::Source;
use crate::tree::{Kind, Target};

/// Major and minor number of the null device.
const NULL: (u32, u32) = (1, 3);

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
    state: RefCell<State>,
    seen: RefCell<Option<(i32, Rc<Vec<Mount>>)>>,
}

#[derive(Debug, Default)]
struct State {
    root: Option<Root>,
    slots: Vec<Option<OwnedFd>>,
    /// Masks that are attached already: others are clones of them and inherit their flags.
    masked_file: Option<OwnedFd>,
    masked_dir: Option<OwnedFd>,
    umask: Option<u32>,
}

impl View {
    /// Makes the view of one launch; nothing of it exists yet.
    pub(crate) fn new(base: Base, sources: Vec<Source>, freeze: bool, host: &Host) -> Result<Self, Error> {
        let look = || Proc::host()?.own()?.ns("mnt");
        let slots = sources.iter().map(|_| None).collect();
        Ok(Self {
            base,
            sources,
            early: host.kernel()? >= (5, 12),
            freeze,
            ids: (host.workload_uid(), host.workload_gid()),
            launcher: look().told(|| "cannot see the launcher's own mount namespace".to_owned())?,
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

    fn take(&self, slot: usize) -> Result<(OwnedFd, &Source), Error> {
        let source = self.sources.get(slot).ok_or_else(|| Error::setup("there is no such source"))?;
        let opened = self.state.borrow_mut().slots.get_mut(slot).and_then(Option::take);
        match opened {
            Some(tree) => Ok((tree, source)),
            None => source.open(self.early).map(|tree| (tree, source)),
        }
    }

    /// Makes the new root and puts it on top of the old one, which keeps serving paths until the end.
    pub(crate) fn begin(&self) -> Result<String, Error> {
        let look = || Proc::host()?.own()?.ns("mnt");
        if look().told(|| "cannot see the own mount namespace".to_owned())? == self.launcher {
            return Err(Error::setup("this process is in the launcher's own mount namespace")
                .help("add `mount: New` to the plugin `namespaces`; the view would replace the host's root"));
        }
        let umask = limits::set_umask(0).told(|| "cannot set the umask".to_owned())?;
        let slash = fd::open_path("/", fd::O_PATH | fd::O_DIRECTORY).told(|| "cannot open the old root".to_owned())?;
        let attach = |tree: &OwnedFd| mount::move_mount_onto(tree, &slash).told(|| "cannot attach the new root".to_owned());
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
            Op::Fresh { fs, target } => self.attach(&make(fs)?, target),
            Op::Node { name, device, target } => self.node(name, *device, target),
            Op::Mask { target } => self.mask(target),
            Op::Part { target, flags } => {
                let place = self.open(target)?;
                let part = mount::open_tree_fd(&place, false).told(|| format!("cannot clone {}", target.path))?;
                mount::move_mount_onto(&part, &place).told(|| format!("cannot mount on {}", target.path))?;
                mount::set_attr(&part, false, MountAttr::set(*flags)).told(|| format!("cannot make {} {flags}", target.path))
            }
            Op::Freeze { path } => {
                let place = self.with_root(|root| root.open(path, fd::O_PATH)).told(|| format!("cannot open {path}"))?;
                let attr = MountAttr::set(MountFlags::RO);
                mount::set_attr(&place, false, attr).told(|| format!("cannot make {path} read-only"))
            }
            Op::Dir { path, mode } => self.make_dir(path, *mode).told(|| format!("cannot make the directory {path}")),
            Op::Link { path, to } => {
                self.with_root(|root| root.symlink(to, path)).told(|| format!("cannot make the link {path}"))
            }
            Op::File { path, mode, content } => {
                let (uid, gid) = self.ids;
                let bytes = content.bytes(uid.unwrap_or_else(process::euid), gid.unwrap_or_else(process::egid));
                self.with_root(|root| root.create_file(path, *mode, &bytes)).told(|| format!("cannot make the file {path}"))
            }
        }
    }

    fn with_root<T>(&self, act: impl FnOnce(&Root) -> palisade_sys::Result<T>) -> palisade_sys::Result<T> {
        let state = self.state.borrow();
        let none = || palisade_sys::Error::new(Errno::EBADF, "openat2(the new root)");
        act(state.root.as_ref().ok_or_else(none)?)
    }

    fn make_dir(&self, path: &str, mode: u32) -> palisade_sys::Result<()> {
        let path = Path::new(path);
        let (Some(parent), Some(name)) = (path.parent(), path.file_name()) else { return Ok(()) };
        let parent = self.with_root(|root| root.mkdir_all(parent, 0o755))?;
        match fd::mkdir_at(&parent, name, mode) {
            // A parent of an earlier entry; only a mode that was asked for is worth an error.
            Err(error) if error.kind() == Errno::EEXIST && mode == 0o755 => Ok(()),
            made => made,
        }
    }

    /// Opens the place of a mount, and makes it where the view may.
    fn open(&self, target: &Target) -> Result<OwnedFd, Error> {
        let path = &target.path;
        let opened = self.with_root(|root| match (target.make, target.kind) {
            (true, Kind::Dir) => root.mkdir_all(path, 0o755),
            (true, Kind::File) => root.ensure_file(path, 0o644),
            (false, _) => root.open(path, fd::O_PATH | fd::O_NOFOLLOW),
        });
        opened.told(|| format!("cannot open {path} in the view to mount on it"))
    }

    fn attach(&self, tree: &OwnedFd, target: &Target) -> Result<(), Error> {
        let place = self.open(target)?;
        mount::move_mount_onto(tree, &place).told(|| format!("cannot mount on {}", target.path))
    }

    /// A device of the host's, and really that device: what lies in a /dev of somebody's making may be anything.
    fn node(&self, name: &str, device: (u32, u32), target: &Target) -> Result<(), Error> {
        let node = open_device(name, device)?;
        let tree = mount::open_tree_fd(&node, false).told(|| format!("cannot clone /dev/{name}"))?;
        // Writing to the device is no writing to the file; but its mode and owner are the host's, and stay.
        let flags = MountFlags::RO | MountFlags::NOSUID | MountFlags::NOEXEC;
        let freeze = || mount::set_attr(&tree, false, MountAttr::set(flags)).told(|| format!("cannot make /dev/{name} {flags}"));
        if self.early {
            freeze()?;
        }
        self.attach(&tree, target)?;
        if self.early { Ok(()) } else { freeze() }
    }

    fn mask(&self, target: &Target) -> Result<(), Error> {
        let place = self.open(target)?;
        let mut state = self.state.borrow_mut();
        let State { masked_file, masked_dir, .. } = &mut *state;
        let kept = if target.kind == Kind::Dir { masked_dir } else { masked_file };
        let said = || format!("cannot mask {}", target.path);
        if let Some(first) = kept {
            let tree = mount::open_tree_fd(&*first, false).told(said)?;
            return mount::move_mount_onto(&tree, &place).told(said);
        }
        let tree = match target.kind {
            Kind::Dir => make(&Fresh::tmpfs(4096, 1, 0o555, MASKED))?,
            Kind::File => mount::open_tree_fd(open_device("null", NULL)?, false).told(said)?,
        };
        mount::move_mount_onto(&tree, &place).told(said)?;
        mount::set_attr(&tree, false, MountAttr::set(MASKED)).told(said)?;
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

fn make(fresh: &Fresh) -> Result<OwnedFd, Error> {
    let make = || {
        let fs = Fs::new(fresh.kind)?;
        let fs = fresh.options.iter().try_fold(fs, |fs, (key, value)| fs.set(key, value))?;
        fs.create(fresh.flags)
    };
    make().told(|| format!("cannot make a new {}", fresh.kind))
}

fn open_device(name: &str, device: (u32, u32)) -> Result<OwnedFd, Error> {
    let said = || format!("cannot open /dev/{name}");
    let node = fd::open_path(format!("/dev/{name}"), fd::O_PATH | fd::O_NOFOLLOW).told(said)?;
    let facts = fd::fstat(&node).told(said)?;
    if facts.is_char_device() && facts.device() == device {
        return Ok(node);
    }
    let (major, minor) = device;
    Err(Error::setup(format!("/dev/{name} is not the character device {major}:{minor}"))
        .help("the /dev that palisade was started with is not the kernel's"))
}
