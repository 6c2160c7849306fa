//! Entries become steps.

use std::path::Path;
use std::rc::Rc;

use palisade_abi::{Act, At, Change, Denial, Error, Host, Isolator, Origin, Step};
use palisade_sys::mount::MountFlags;
use palisade_sys::procfs::Proc;

use crate::changes::{self, Attributes};
use crate::config::{Config, Etc, Root};
use crate::deny::{self, Stub};
use crate::entry::{Bind, Entry, Tmpfs};
use crate::error::Told;
use crate::explain;
use crate::idmap::{self, Mapped};
use crate::op::{Content, Expected, Fresh, Op};
use crate::source::{Source, find};
use crate::steps::{self, Doing, Item};
use crate::tree::{Backing, Kind, Made, Tree, below};
use crate::view::{Base, MASKED, View};

pub(crate) const CAP_SYS_ADMIN: u32 = 21;
const ROOT_SIZE: u64 = 16 << 20;
const ROOT_INODES: u32 = 4096;
/// Of everything that the view makes.
pub(crate) const ROOT_FLAGS: MountFlags = MountFlags::NOSUID.with(MountFlags::NODEV);

/// The plugin, configured.
pub(crate) struct Filesystem {
    config: Config,
    /// How overlays that are kept remember what plain files cannot say.
    attributes: Attributes,
}

impl Filesystem {
    /// Checks what can be checked without the host.
    pub(crate) fn new(config: Config, host: &Host) -> Result<Self, Error> {
        let given = config.root.as_ref().is_some_and(|root| root.value == Root::Host);
        if let Some(entry) = config.entries.first().filter(|_| given) {
            return Err(Error::policy("with root: Host nothing is built, so an entry has no place")
                .at(entry.origin)
                .help("write root: Empty, or remove the entries"));
        }
        let zero = config.inodes.as_ref().filter(|inodes| inodes.value == 0).map(|inodes| inodes.origin);
        let zero = zero.or(config.size.as_ref().filter(|size| size.value.0 == 0).map(|size| size.origin));
        if let Some(origin) = zero {
            return Err(Error::policy("0 would mean no limit")
                .at(origin)
                .help("give a limit above 0, or remove the line"));
        }
        Ok(Self { config, attributes: Attributes::of(host.has_capability(CAP_SYS_ADMIN)) })
    }

    fn is_host(&self) -> bool {
        self.config.root.as_ref().is_some_and(|root| root.value == Root::Host)
    }

    fn is_empty(&self) -> bool {
        self.config.root.as_ref().is_none_or(|root| root.value == Root::Empty)
    }

    fn readonly(&self) -> bool {
        self.config.readonly.as_ref().is_none_or(|readonly| readonly.value)
    }
}

/// A plan in the making.
pub(crate) struct Planner<'a> {
    pub(crate) host: &'a Host,
    pub(crate) tree: Tree,
    pub(crate) etc: Etc,
    /// KERNEL(5.12): before it, attributes hold for one mount and not for those below.
    pub(crate) attributes_reach_below: bool,
    pub(crate) items: Vec<(Item, Option<Origin>)>,
    /// What the files in an empty root hold.
    pub(crate) bytes: usize,
    /// What is done on the host before.
    pub(crate) before: Vec<Step>,
    /// Names that are kept from the workload.
    pub(crate) stubs: Vec<Stub>,
    /// Binds whose owner is shown as the workload.
    pub(crate) mapped: Vec<Mapped>,
    sources: Vec<Source>,
}

impl Planner<'_> {
    /// Keeps a source; gives its number.
    pub(crate) fn source(&mut self, source: Source) -> usize {
        self.sources.push(source);
        self.sources.len() - 1
    }

    fn entry(&mut self, entry: &At<Entry>) -> Result<Item, Error> {
        let mut ops = Vec::new();
        let words = match &entry.value {
            Entry::System => return self.system(),
            Entry::Bind(bind) => return self.bind(bind, entry.origin),
            Entry::Tmpfs(tmpfs) => return self.tmpfs(tmpfs),
            Entry::Overlay(overlay) => return self.overlay(overlay, entry.origin),
            Entry::Toolchain { language, optional } => return self.toolchain(*language, *optional, entry.origin),
            Entry::Git { repo, optional } => return self.git(repo, *optional, entry.origin),
            Entry::SshAgent { optional } => return self.ssh_agent(*optional, entry.origin),
            Entry::Gpu { optional } => return self.gpu(*optional, entry.origin),
            Entry::Proc(proc) => return self.proc(proc),
            Entry::Dev(dev) => return self.dev(dev),
            Entry::Mask(path) => return self.mask(path.as_str()),
            Entry::Deny(path) => return self.deny(path.as_str(), entry.origin),
            Entry::Cgroup(path) => return self.cgroup(path.as_str()),
            Entry::Symlink { target, at } => {
                let path = self.symlink(at.as_str(), target.as_str(), &mut ops)?;
                format!("makes {path} a symbolic link to {target}")
            }
            Entry::Dir { path, mode } => {
                let path = self.tree.name(path.as_str(), Made::Name(Kind::Dir))?;
                let words = format!("makes the directory {path}, mode {mode:04o}");
                ops.push(Op::Dir { path, mode: *mode });
                words
            }
            Entry::File { path, content, mode } => {
                let bytes = content.as_str().as_bytes().to_vec();
                let words = format!("makes the file {path}: {} bytes, mode {mode:04o}", bytes.len());
                self.file(path.as_str(), *mode, Content::Bytes(bytes), &mut ops)?;
                words
            }
        };
        Ok(Item {
            words,
            why: "in the view's own memory; gone with the workload".to_owned(),
            ops,
            expected: Vec::new(),
        })
    }

    /// A file or directory of the host.
    pub(crate) fn bind(&mut self, bind: &Bind, origin: Option<Origin>) -> Result<Item, Error> {
        let access = if bind.write { "read-write" } else { "read-only" };
        let to = if bind.to == bind.from { String::new() } else { format!(" at {}", bind.to) };
        let mut flags = MountFlags::NONE;
        for (wanted, flag) in [
            (!bind.write, MountFlags::RO),
            (bind.nosuid, MountFlags::NOSUID),
            (bind.nodev, MountFlags::NODEV),
            (bind.noexec, MountFlags::NOEXEC),
        ] {
            flags = if wanted { flags.with(flag) } else { flags };
        }
        let also: String = flags.without(MountFlags::RO).names().map(|name| format!(", {name}")).collect();
        let words = format!("binds {}{to} {access}{also}", bind.from);
        if bind.to.as_str() == "/" {
            return Err(Error::policy("a bind on / would hide the whole view")
                .help("start palisade in the directory of a project, or write root: Rootfs(\"...\")"));
        }
        let Some((real, kind)) = find(Path::new(bind.from.as_str()))? else {
            if bind.optional {
                let words = format!("leaves {} out, which is not there", bind.from);
                return Ok(Item { words, why: "optional".to_owned(), ops: Vec::new(), expected: Vec::new() });
            }
            return Err(Error::host(format!("there is no {} to bind", bind.from))
                .help("make it, or write Bind(from: ..., optional: true)"));
        };
        let recursive = bind.recursive && self.reaches_below(&real)?;
        let owner = self.owner_of(&real, bind.idmap, bind.write)?;
        let target = self.tree.target(bind.to.as_str(), kind)?;
        let expected = vec![Expected::plain(&target.path, flags).with_more_below(recursive)];
        self.tree.mount(&target.path, Backing::Host(real.clone()));
        if bind.write {
            self.tree.writable(&target.path, flags);
        }
        let path = real.clone();
        let slot = self.source(Source::new(real, flags, recursive, origin));
        let words = owner.iter().fold(words, |words, owner| format!("{words}, {owner} shown as the workload"));
        let (at, idmap) = (target.path.clone(), bind.idmap);
        self.mapped.extend(owner.map(|owner| Mapped { slot, path, at, owner, idmap, origin }));
        let why = if bind.write { "what is written there stays on the host" } else { "can be seen and not changed" };
        Ok(Item { words, why: why.to_owned(), ops: vec![Op::Bind { slot, target }], expected })
    }

    /// Whether a bind takes mounts below along. Before 5.12 it cannot give them its attributes: then there may be none.
    fn reaches_below(&self, path: &Path) -> Result<bool, Error> {
        if self.attributes_reach_below {
            return Ok(true);
        }
        let read = || Proc::host()?.own()?.read("mountinfo");
        let text = read().told(|| "cannot read the host's mounts".to_owned())?;
        let path = path.to_str().unwrap_or_default();
        let mut points = text.lines().filter_map(|line| line.split(' ').nth(4));
        match points.find(|point| *point != path && below(point, path).is_some()) {
            None => Ok(false),
            Some(point) => {
                Err(Error::host(format!("{point} is mounted below {path}, and would keep its own attributes"))
                    .help("needs Linux 5.12 (mount_setattr); or write recursive: false and bind it by itself"))
            }
        }
    }

    fn tmpfs(&mut self, tmpfs: &Tmpfs) -> Result<Item, Error> {
        let target = self.tree.target(tmpfs.path.as_str(), Kind::Dir)?;
        if target.path == "/" {
            return Err(Error::policy("a tmpfs on / would hide the whole view").help("root: Empty is one already"));
        }
        let noexec = if tmpfs.noexec { MountFlags::NOEXEC } else { MountFlags::NONE };
        let fs = Fresh::tmpfs(tmpfs.size, tmpfs.inodes, tmpfs.mode, ROOT_FLAGS | noexec);
        let size = palisade_abi::units::Size(tmpfs.size);
        let words = format!("mounts an empty tmpfs on {}: {size}, {} inodes, {}", target.path, tmpfs.inodes, fs.flags);
        let expected = vec![fs.expected(&target.path)];
        self.tree.mount(&target.path, Backing::Own);
        let why = "room to write that ends with the workload, and has an end".to_owned();
        Ok(Item { words, why, ops: vec![Op::Fresh { fs, target }], expected })
    }

    pub(crate) fn mask(&mut self, path: &str) -> Result<Item, Error> {
        let target = self.tree.covered(path)?;
        let path = &target.path;
        if path == "/" {
            return Err(Error::policy("a mask on / would hide the whole view"));
        }
        let expected = vec![Expected::plain(path, MASKED)];
        let what = if target.kind == Kind::Dir { "an empty directory" } else { "a file that cannot be opened" };
        let words = format!("masks {path} with {what}");
        self.tree.mount(&target.path, Backing::Kernel);
        let why = "hidden, and nothing is changed on the host".to_owned();
        Ok(Item { words, why, ops: vec![Op::Mask { target }], expected })
    }
}

impl Filesystem {
    /// The new root: what it is, and what must be seen of it.
    fn base(&self, planner: &mut Planner<'_>) -> Result<(Base, Item), Error> {
        let why = "nothing of the host is there unless an entry brings it".to_owned();
        if let Some(At { value: Root::Rootfs(path), origin }) = &self.config.root {
            let Some((real, Kind::Dir)) = find(Path::new(path.as_str()))? else {
                return Err(Error::host(format!("there is no directory {path} to be the root")).at(*origin));
            };
            let flags = if self.readonly() { ROOT_FLAGS | MountFlags::RO } else { ROOT_FLAGS };
            let recursive = planner.reaches_below(&real)?;
            planner.tree = Tree::new(Backing::Host(real.clone()));
            if !self.readonly() {
                planner.tree.writable("/", flags);
            }
            let expected = vec![Expected::plain("/", flags).with_more_below(recursive)];
            let slot = planner.source(Source::new(real, flags, recursive, *origin));
            let words = format!("takes {path} as the new root, {flags}");
            return Ok((Base::Rootfs(slot), Item { words, why, ops: Vec::new(), expected }));
        }
        let size = self.config.size.as_ref().map_or(ROOT_SIZE, |size| size.value.0);
        let inodes = self.config.inodes.as_ref().map_or(ROOT_INODES, |inodes| inodes.value);
        let fs = Fresh::tmpfs(size, inodes, 0o755, ROOT_FLAGS);
        let expected = vec![fs.expected("/")];
        let words = format!("makes an empty root: {}, {inodes} inodes", palisade_abi::units::Size(size));
        Ok((Base::Empty(fs), Item { words, why, ops: Vec::new(), expected }))
    }

    fn steps(&self, planner: Planner<'_>, base: Base, root: Item) -> Result<Vec<Step>, Error> {
        let host = planner.host;
        let witnessed = !host.has_capability(CAP_SYS_ADMIN);
        let freeze = self.is_empty() && self.readonly();
        let count = planner.sources.len();
        let mut all = root.expected.clone();
        all.extend(planner.items.iter().flat_map(|(item, _)| item.expected.clone()));
        let items = uncovered(planner.items);
        let view = Rc::new(View::new(base, planner.sources, freeze, host)?);
        let origin = self.config.root.as_ref().and_then(|root| root.origin);
        let mut steps = planner.before;
        steps.extend(deny::step(planner.stubs));
        if !witnessed && count > 0 {
            steps.push(steps::open(&view, count).origin(origin));
        }
        steps.extend(idmap::steps(planner.mapped, &view, host));
        steps.push(steps::build(&view, Doing::Root, root, witnessed).origin(origin));
        for (mut item, origin) in items {
            let ops = std::mem::take(&mut item.ops);
            let witnessed = witnessed && !item.expected.is_empty();
            steps.push(steps::build(&view, Doing::Entry(ops), item, witnessed).origin(origin));
        }
        let last = if freeze {
            "makes the view the root, read-only, and detaches the host's tree"
        } else {
            "makes the view the root and detaches the host's tree"
        };
        let readonly = self.config.readonly.as_ref().and_then(|readonly| readonly.origin);
        let expected = if freeze { vec![Expected::plain("/", ROOT_FLAGS | MountFlags::RO)] } else { Vec::new() };
        let why = "pivot_root, not chroot: afterwards there is no way up".to_owned();
        let item = Item { words: last.to_owned(), why, ops: Vec::new(), expected };
        steps.push(steps::build(&view, Doing::Pivot(all), item, witnessed && freeze).origin(readonly.or(origin)));
        Ok(steps)
    }
}

/// What a later entry is mounted on, or above, can no longer be seen, and is not looked for.
fn uncovered(mut items: Vec<(Item, Option<Origin>)>) -> Vec<(Item, Option<Origin>)> {
    let mut later: Vec<String> = Vec::new();
    for (item, _) in items.iter_mut().rev() {
        let own: Vec<String> = item.expected.iter().map(|expected| expected.path.clone()).collect();
        item.expected.retain(|expected| !later.iter().any(|over| below(&expected.path, over).is_some()));
        later.extend(own);
    }
    items
}

/// An entry with what it holds in place for itself.
fn held(mut item: Item, dirs: &[(String, MountFlags)]) -> Item {
    if dirs.is_empty() {
        return item;
    }
    let names: Vec<&str> = dirs.iter().map(|(path, _)| path.as_str()).collect();
    item.words += &format!("; {} cannot be renamed", names.join(", "));
    item.expected.splice(0..0, dirs.iter().map(|(path, flags)| Expected::plain(path, *flags)));
    item
}

impl Isolator for Filesystem {
    fn plan(&self, host: &Host) -> Result<Vec<Step>, Error> {
        let root = self.config.root.as_ref();
        if self.is_host() {
            return Ok(Vec::new());
        }
        if !host.uses("namespaces") {
            return Err(Error::policy("a view needs a mount namespace of its own")
                .at(root.and_then(|root| root.origin))
                .help("add \"namespaces\": (mount: New, user: AsNeeded) to `plugins`, or write root: Host"));
        }
        let mut planner = Planner {
            host,
            tree: Tree::new(Backing::Own),
            etc: self.config.etc.as_ref().map_or(Etc::Curated, |etc| etc.value),
            attributes_reach_below: host.kernel()? >= (5, 12),
            items: Vec::new(),
            bytes: 0,
            before: Vec::new(),
            stubs: Vec::new(),
            mapped: Vec::new(),
            sources: Vec::new(),
        };
        let (base, root_item) = self.base(&mut planner)?;
        for entry in &self.config.entries {
            // An error that names no place of its own is about this entry.
            let item =
                planner.entry(entry).map_err(|error| Error { origin: error.origin.or(entry.origin), ..error })?;
            let item = held(item, &planner.tree.take_held());
            planner.items.push((item, entry.origin));
        }
        if let Base::Empty(fs) = &base {
            let room = fs.expected("/").size.unwrap_or(0);
            if u64::try_from(planner.bytes).unwrap_or(u64::MAX) > room {
                let message = format!("the files of the view hold {} bytes, and its root has {room}", planner.bytes);
                return Err(Error::policy(message)
                    .at(self.config.size.as_ref().and_then(|size| size.origin))
                    .help("raise `size`"));
            }
        }
        self.steps(planner, base, root_item)
    }

    fn explain(&self, act: &Act) -> Option<Denial> {
        if self.is_host() { None } else { explain::explain(&self.config, act) }
    }

    fn changes(&self) -> Result<Vec<Change>, Error> {
        let mut all = Vec::new();
        for entry in &self.config.entries {
            if let Entry::Overlay(overlay) = &entry.value {
                all.extend(changes::list(overlay, self.attributes).map_err(|error| error.at(entry.origin))?);
            }
        }
        Ok(all)
    }
}

#[cfg(test)]
mod tests;
