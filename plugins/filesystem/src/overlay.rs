//! `Overlay`: a tree of the host that can be changed without changing it. What is written lies in an upper layer, in
//! memory or in a directory of the caller's.
//!
//! The layers are attached at the overlay's own place while it is made, because before Linux 6.15 the kernel makes an
//! overlay only of what is attached in the same mount namespace. The overlay keeps copies of them, so those at its
//! place are let go of, but for the tmpfs: it stays below, where its limits can be read back.

use std::fs::{self, File, Permissions};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};

use palisade_abi::units::{AbsPath, Size};
use palisade_abi::{Action, Context, Error, Evidence, Origin, Stage, Step};
use palisade_sys::mount::{self, Fs, MountFlags};
use palisade_sys::{Errno, fd, names, process};
use serde::Deserialize;

use crate::entry::tmpfs_inodes;
use crate::error::Told;
use crate::op::{Expected, Fresh, Op};
use crate::planner::{CAP_SYS_ADMIN, Planner, ROOT_FLAGS};
use crate::source::{Source, find};
use crate::steps::Item;
use crate::tree::{Backing, Kind, Target, below};
use crate::view::{View, make};

/// Where changes go.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
pub(crate) enum Upper {
    /// Into memory, gone with the workload.
    #[default]
    Discard,
    /// Into a directory of the caller's.
    Keep(AbsPath),
}

/// A copy-on-write over a tree of the host.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Overlay {
    pub(crate) lower: AbsPath,
    pub(crate) at: AbsPath,
    pub(crate) upper: Upper,
    /// Limits of what is discarded: bytes, and files with directories.
    pub(crate) size: u64,
    pub(crate) inodes: u32,
}

impl Overlay {
    /// Over a tree at its own path, with limits that are seldom reached.
    pub(crate) fn discarded(lower: AbsPath) -> Self {
        Self { at: lower.clone(), lower, upper: Upper::Discard, size: 64 << 20, inodes: tmpfs_inodes() }
    }

    /// The same with what the policy says of its upper layer.
    pub(crate) fn with(self, upper: Upper, size: Option<Size>, inodes: Option<u32>) -> Result<Self, &'static str> {
        if upper != Upper::Discard && (size.is_some() || inodes.is_some()) {
            return Err("size and inodes limit what is discarded; what is kept is limited by its disk alone");
        }
        let (size, inodes) = (size.map_or(self.size, |size| size.0), inodes.unwrap_or(self.inodes));
        // To tmpfs 0 means no limit.
        if size == 0 || inodes == 0 {
            return Err("an overlay needs a size and a number of inodes above 0");
        }
        Ok(Self { upper, size, inodes, ..self })
    }
}

/// The layer that is written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Layer {
    /// A tmpfs.
    Discard(Fresh),
    /// A directory by its name in a source, and the name beside it that overlayfs works in.
    Keep { slot: usize, name: String, work: String },
}

/// Flags of the overlay, which the layers pass on to nobody.
const FLAGS: MountFlags = ROOT_FLAGS;

impl Planner<'_> {
    /// A tree of the host, and changes beside it.
    pub(crate) fn overlay(&mut self, overlay: &Overlay, origin: Option<Origin>) -> Result<Item, Error> {
        let Overlay { lower, at, .. } = overlay;
        if self.host.kernel()? < (5, 11) && !self.host.has_capability(CAP_SYS_ADMIN) {
            return Err(Error::host("an overlay in a user namespace needs Linux 5.11")
                .help("bind the directory read-only, copy it into a directory that you bind read-write, or be root"));
        }
        let Some((real, Kind::Dir)) = find(Path::new(lower.as_str()))? else {
            return Err(Error::host(format!("there is no directory {lower} to lay an overlay over"))
                .help("`lower` is a directory of the host"));
        };
        let target = self.tree.target(at.as_str(), Kind::Dir)?;
        if target.path == "/" {
            return Err(Error::policy("an overlay on / would hide the whole view").help("write at: \"/elsewhere\""));
        }
        let to = if at == lower { String::new() } else { format!(" at {at}") };
        let shown = format!("{lower} copy-on-write{to}, {FLAGS}");
        let (upper, words, why) = match &overlay.upper {
            Upper::Discard => {
                let fs = Fresh::tmpfs(overlay.size, overlay.inodes, 0o700, FLAGS);
                let words = format!(
                    "shows {shown}: changes go to a tmpfs of {}, {} inodes",
                    Size(overlay.size),
                    overlay.inodes
                );
                (Layer::Discard(fs), words, "what is changed ends with the workload, and has an end")
            }
            Upper::Keep(dir) => {
                let layer = self.kept(dir, &real, origin)?;
                (layer, format!("shows {shown}: changes go to {dir}"), "what is changed stays there on the host")
            }
        };
        let flags = FLAGS.with(MountFlags::RO);
        let lower = self.source(Source::new(real.clone(), flags, false, origin));
        let limits = match &upper {
            Layer::Discard(fs) => fs.expected(&target.path),
            Layer::Keep { .. } => Expected::plain(&target.path, FLAGS),
        };
        let expected = vec![Expected { kind: Some("overlay"), ..limits }];
        self.tree.mount(&target.path, Backing::Host(real));
        self.tree.apart(&target.path, FLAGS);
        let ops = vec![Op::Overlay { lower, upper, target }];
        Ok(Item { words, why: why.to_owned(), ops, expected })
    }

    /// A directory that keeps the changes: there, the caller's own, and beside the lower one.
    fn kept(&mut self, dir: &AbsPath, lower: &Path, origin: Option<Origin>) -> Result<Layer, Error> {
        let Some((real, Kind::Dir)) = find(Path::new(dir.as_str()))? else {
            return Err(Error::host(format!("there is no directory {dir} to keep changes in")).help(format!(
                "mkdir {dir}; it must be yours, on a file system that can be the upper one of an overlay (ext4, xfs, btrfs, tmpfs)"
            )));
        };
        let path = real.to_str().unwrap_or_default();
        let under = lower.to_str().unwrap_or_default();
        if below(path, under).is_some() || below(under, path).is_some() {
            return Err(Error::policy(format!("{dir} and {} lie in each other", lower.display()))
                .help("keep changes in a directory that is neither in the tree nor above it"));
        }
        let (Some(parent), Some(name)) = (real.parent(), real.file_name().and_then(|name| name.to_str())) else {
            return Err(Error::policy("/ cannot keep changes").help("name a directory that you made for them"));
        };
        own(&real, self.host.uid()?)?;
        let work = format!("{name}.work");
        let beside = parent.join(&work);
        let words = format!("makes {} for overlayfs to work in, locked", beside.display());
        let step = Step::new(Stage::Prepare, words, Work { path: beside, dir: None })
            .why("it must lie in the same file system, and one run at a time may use it")
            .origin(origin);
        self.before.push(step);
        let source = Source::new(parent.to_owned(), FLAGS, false, origin);
        Ok(Layer::Keep { slot: self.source(source), name: name.to_owned(), work })
    }
}

/// Refuses a directory that somebody else could have filled, or could exchange.
fn own(dir: &Path, uid: u32) -> Result<(), Error> {
    let facts = fs::metadata(dir)?;
    let refused = |what: String| {
        Err(Error::policy(what).help("make a directory of your own in a directory that only you or root can write"))
    };
    if facts.uid() != uid {
        return refused(format!("{} belongs to uid {}, not to you (uid {uid})", dir.display(), facts.uid()));
    }
    let parent = dir.parent().unwrap_or(dir);
    let above = fs::metadata(parent)?;
    let shared = above.mode() & 0o022 != 0 && above.mode() & 0o1000 == 0;
    if shared || (above.uid() != uid && above.uid() != 0) {
        return refused(format!("{} can be exchanged by others, who may write {}", dir.display(), parent.display()));
    }
    Ok(())
}

fn same(a: &fs::Metadata, b: &fs::Metadata) -> bool {
    (a.dev(), a.ino()) == (b.dev(), b.ino())
}

/// The directory that overlayfs works in: made, locked for this run, and removed.
struct Work {
    path: PathBuf,
    dir: Option<File>,
}

impl Action for Work {
    fn apply(&mut self, _context: &mut Context<'_>) -> Result<Evidence, Error> {
        let path = self.path.display();
        let failed = |e: &std::io::Error, call: &str| {
            Error::setup(format!("{path} cannot be had"))
                .call(format!("{call}({path}): {e}"), e.raw_os_error().unwrap_or(0))
        };
        match fs::DirBuilder::new().mode(0o700).create(&self.path) {
            // A launcher that was killed left it.
            Err(e) if e.kind() == std::io::ErrorKind::AlreadyExists => {}
            made => {
                made.map_err(|e| failed(&e, "mkdir").help("it lies beside the directory that keeps the changes"))?
            }
        }
        let facts = fs::symlink_metadata(&self.path).map_err(|e| failed(&e, "lstat"))?;
        if !facts.is_dir() || facts.uid() != process::euid() {
            return Err(
                Error::setup(format!("{path} is no directory of yours")).help("remove it, or keep changes elsewhere")
            );
        }
        let dir = File::open(&self.path).map_err(|e| failed(&e, "open"))?;
        let busy = |call: String| {
            Err(Error::setup(format!("{path} is in use by another run"))
                .call(call, 0)
                .help("wait for its end, or keep changes in another directory"))
        };
        if let Err(why) = dir.try_lock() {
            return busy(format!("flock({path}, LOCK_EX|LOCK_NB): {why}"));
        }
        // One that ended just now has removed what was opened, and a third may have made its own: that one's lock is
        // another.
        let (opened, named) = (dir.metadata().map_err(|e| failed(&e, "fstat"))?, fs::symlink_metadata(&self.path));
        if !named.is_ok_and(|named| same(&named, &opened)) {
            return busy(format!("lstat({path}): another directory than was locked"));
        }
        self.dir = Some(dir);
        Ok(Evidence::default())
    }

    fn undo(&mut self, _context: &mut Context<'_>) -> Result<(), Error> {
        let Some(lock) = self.dir.take() else { return Ok(()) };
        let failed = |e: std::io::Error| {
            let call = format!("rmdir({}): {e}", self.path.display());
            Error::setup("what overlayfs worked in is still there").call(call, e.raw_os_error().unwrap_or(0))
        };
        // By descriptor: the workload may have had a way to what has these names by now.
        let inside = fd::proc_fd_path(&lock);
        // The kernel makes directories of mode 0 in it, which their owner cannot list.
        for entry in fs::read_dir(&inside).map_err(failed)?.flatten() {
            let flags = fd::O_PATH | fd::O_DIRECTORY | fd::O_NOFOLLOW;
            if let Ok(dir) = fd::open_at(&lock, entry.file_name(), flags) {
                fs::set_permissions(fd::proc_fd_path(&dir), Permissions::from_mode(0o700)).map_err(failed)?;
                fs::remove_dir_all(inside.join(entry.file_name())).map_err(failed)?;
            } else {
                fs::remove_file(inside.join(entry.file_name())).map_err(failed)?;
            }
        }
        // Empty, or the name of something else by now: then it stays.
        fs::remove_dir(&self.path).map_err(failed)
    }
}

impl View {
    /// Makes an overlay of a source and its upper layer, and attaches it.
    pub(crate) fn lay(&self, lower: usize, upper: &Layer, target: &Target) -> Result<(), Error> {
        let said = || format!("cannot lay an overlay on {}", target.path);
        let (lower, source) = self.take(lower)?;
        let base = match upper {
            Layer::Discard(fresh) => make(fresh)?,
            Layer::Keep { slot, .. } => self.take(*slot)?.0,
        };
        self.attach(&base, target)?;
        mount::move_mount_onto(&lower, &base).told(said)?;
        if !self.early() {
            source.apply_attr(&lower)?;
        }
        let facts = fd::fstat(&lower).told(said)?;
        let (changes, work) = match upper {
            Layer::Discard(_) => {
                let changes = names::dir(&base, "upper", facts.mode & 0o7777).told(said)?;
                if !self.in_user_namespace()? {
                    // The top of the tree is what this is; below it the kernel keeps the owners.
                    std::os::unix::fs::chown(fd::proc_fd_path(&changes), Some(facts.uid), Some(facts.gid))?;
                }
                (changes, names::dir(&base, "work", 0o700).told(said)?)
            }
            Layer::Keep { name, work, .. } => {
                let open = |name: &str| fd::open_at(&base, name, fd::O_PATH | fd::O_DIRECTORY | fd::O_NOFOLLOW);
                (open(name).told(said)?, open(work).told(said)?)
            }
        };
        self.writable_by_us(&changes)?;
        let tree = self.overlayfs(&lower, &changes, &work).map_err(|error| Error { message: said(), ..error })?;
        mount::detach(&lower).told(said)?;
        if matches!(upper, Layer::Discard(_)) {
            return mount::move_mount_onto(&tree, &base).told(said);
        }
        mount::detach(&base).told(said)?;
        self.attach(&tree, target)
    }

    /// In a user namespace the kernel writes the layer as the workload's id, which on the host must own it.
    fn writable_by_us(&self, changes: &OwnedFd) -> Result<(), Error> {
        let owner = fd::fstat(changes).told(|| "cannot look at the upper layer".to_owned())?.uid;
        if owner == process::euid() || !self.in_user_namespace()? {
            return Ok(());
        }
        Err(Error::setup("the directory that keeps the changes is not the workload's own").help(
            "started by root with `user: New` the workload has an id that owns nothing; write `user: AsNeeded` in \
             `namespaces`, or upper: Discard",
        ))
    }

    fn overlayfs(&self, lower: &OwnedFd, changes: &OwnedFd, work: &OwnedFd) -> Result<OwnedFd, Error> {
        let user = self.in_user_namespace()?;
        // By descriptor: shows no path of the host in the workload's mountinfo, and needs no escapes.
        let by_fd = |file: &OwnedFd| fd::proc_fd_path(file.as_fd()).display().to_string();
        let create = || {
            let fs = Fs::new("overlay")?.set("lowerdir", &by_fd(lower))?;
            let fs = fs.set("upperdir", &by_fd(changes))?.set("workdir", &by_fd(work))?;
            // KERNEL(5.11): `trusted` attributes cannot be written in a user namespace.
            let fs = if user { fs.flag("userxattr")? } else { fs };
            fs.create(FLAGS)
        };
        let tree = create().told(String::new).map_err(|error| {
            // Only this one means more here than the call's own advice says.
            let advised = !error.help.is_empty();
            if advised && (!user || error.errno != Errno::EPERM as i32) {
                return error;
            }
            error.help(
                "in a user namespace overlays need Linux 5.11; a layer may not be an overlay of an overlay, and the \
                 upper one needs ext4, xfs, btrfs or tmpfs; `modprobe overlay` where the kernel has it as a module",
            )
        })?;
        // The kernel goes on read-only where it cannot work in `work`, and tells its log.
        if mount::flags_of(&tree).told(String::new)?.contains(MountFlags::RO) {
            return Err(Error::setup("")
                .call("fsconfig(overlay, CMD_CREATE) gave a read-only file system", 0)
                .help("the kernel cannot write beside the directory that keeps the changes; dmesg says why"));
        }
        Ok(tree)
    }
}
