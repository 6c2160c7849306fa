//! Why a file is not there, or cannot be changed: the view.

use palisade_abi::{Act, At, Denial, Origin};
use palisade_sys::beneath::Root;
use palisade_sys::mount::{MountFlags, flags_of};
use palisade_sys::procfs::Proc;
use palisade_sys::{Errno, fd};
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};

use crate::config::Config;
use crate::entry::Entry;

/// What the view keeps from the workload, where it does.
pub(crate) fn explain(config: &Config, act: &Act) -> Option<Denial> {
    let pid = i32::try_from(act.number("pid")?).ok()?;
    let root = Proc::host().ok()?.pid(pid).ok()?.root().ok()?;
    let path = Path::new(act.fact("path")?);
    match root.open(path, fd::O_PATH) {
        Ok(file) => changed(config, act, path, &Found::There(file)),
        Err(error) if matches!(error.kind(), Errno::ENOENT | Errno::ENOTDIR) => {
            let makes = act.wants("make") || act.wants("bind");
            match path.parent().filter(|_| makes).map(|parent| root.open(parent, fd::O_PATH)) {
                Some(Ok(parent)) => changed(config, act, path, &Found::Nothing(parent)),
                _ => hidden(config, &root, path),
            }
        }
        Err(_other) => None,
    }
}

/// What is at a path: something, or nothing in this directory.
enum Found {
    There(OwnedFd),
    Nothing(OwnedFd),
}

/// How many links are followed from one to the next.
const MOST_LINKS: usize = 8;

/// The host has it, and the view does not: the path itself, or what a link in the view leads to.
fn hidden(config: &Config, root: &Root, path: &Path) -> Option<Denial> {
    let mut path = path.to_owned();
    for _ in 0..MOST_LINKS {
        let Some(target) = root.open(&path, fd::O_PATH | fd::O_NOFOLLOW).ok().and_then(|link| target(&link)) else {
            break;
        };
        path = path.parent()?.join(target);
    }
    // Names alone, and only what the launcher may see anyway.
    path.metadata().ok()?;
    let missing = path.ancestors().take_while(|place| !root.exists(place).unwrap_or(true)).last()?;
    let why = format!("the host has {}, and the view does not", missing.display());
    let help = format!("\"filesystem\": (entries: [Bind(\"{}\")])", missing.display());
    Some(Denial { answer: "ENOENT".to_owned(), why, help, origin: covering(config, &path), seen: false })
}

/// Where a link leads, if it is one.
fn target(link: &OwnedFd) -> Option<PathBuf> {
    if !fd::fstat(link).ok()?.is_symlink() {
        return None;
    }
    fd::readlink_at(link, "").ok().map(PathBuf::from)
}

/// It is there, and cannot be changed, or not executed.
fn changed(config: &Config, act: &Act, path: &Path, found: &Found) -> Option<Denial> {
    let (file, there) = match found {
        Found::There(file) => (file, true),
        Found::Nothing(parent) => (parent, false),
    };
    let flags = flags_of(file).ok()?;
    let facts = fd::fstat(file).ok()?;
    // Devices, pipes and sockets are written to whatever the mount says.
    let content = facts.is_file() && (act.wants("write") || act.wants("truncate")) || act.wants("own");
    let name = (act.wants("make") || act.wants("bind")) && !there || act.wants("remove") && there;
    let shown = path.display();
    let denial = |answer: &str, why: String, help: String| {
        let origin = covering(config, path);
        Some(Denial { answer: answer.to_owned(), why, help, origin, seen: false })
    };
    if flags.contains(MountFlags::RO) && (content || name) {
        let place = if name { path.parent().unwrap_or(path) } else { path };
        let help = format!("\"filesystem\": (entries: [Bind(from: \"{}\", mode: ReadWrite)])", place.display());
        return denial("EROFS", format!("{shown} is on a read-only mount"), help);
    }
    if flags.contains(MountFlags::NOEXEC) && act.wants("execute") && facts.is_file() {
        let help = "take noexec out of that entry, or execute something elsewhere".to_owned();
        return denial("EACCES", format!("{shown} is on a mount with noexec"), help);
    }
    None
}

/// The entry whose place the path is in; the deepest.
fn covering(config: &Config, path: &Path) -> Option<Origin> {
    let place = |entry: &At<Entry>| {
        let place = match &entry.value {
            Entry::Bind(bind) => &bind.to,
            Entry::Tmpfs(tmpfs) => &tmpfs.path,
            Entry::Proc(proc) => &proc.path,
            Entry::Dev(dev) => &dev.path,
            Entry::Dir { path, .. } | Entry::File { path, .. } | Entry::Mask(path) | Entry::Cgroup(path) => path,
            _ => return None,
        };
        let place = PathBuf::from(place.as_str());
        path.starts_with(&place).then(|| (place.components().count(), entry.origin))
    };
    config.entries.iter().filter_map(place).max_by_key(|(depth, _)| *depth).and_then(|(_, origin)| origin)
}
