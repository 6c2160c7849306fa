//! `Gpu`: the nodes of graphics processors, what the kernel says of them, and the libraries beside the system's.
//!
//! A node is taken only if it is a character device of a driver that the kernel has under one of these names: what lies
//! in a /dev of somebody's making may be anything.

use std::fs;
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::{Path, PathBuf};

use palisade_abi::{Error, Origin};
use palisade_sys::mount::MountFlags;
use palisade_sys::procfs::Proc;

use crate::error::Told;
use crate::op::{Expected, Op};
use crate::planner::Planner;
use crate::source::{Source, find};
use crate::steps::Item;
use crate::tree::{Backing, Kind, below};

/// Where nodes are, how their names begin, and how the names of their drivers do in /proc/devices.
const PLACES: [(&str, &str, &str); 5] = [
    ("/dev/dri", "card", "drm"),
    ("/dev/dri", "renderD", "drm"),
    ("/dev", "kfd", "kfd"),
    ("/dev", "nvidia", "nvidia"),
    ("/dev/nvidia-caps", "nvidia-cap", "nvidia-caps"),
];

/// Libraries and their settings, where they are not below /usr.
const LIBRARIES: [&str; 7] =
    ["/opt/rocm", "/opt/cuda", "/run/opengl-driver", "/etc/OpenCL", "/etc/glvnd", "/etc/vulkan", "/etc/nvidia"];

/// Writing to a device is no writing to the file; but its mode and owner are the host's, and stay.
const NODE: MountFlags = MountFlags::RO.with(MountFlags::NOSUID).with(MountFlags::NOEXEC);
const FACTS: MountFlags = NODE.with(MountFlags::NODEV);

/// A node of a graphics processor.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Node {
    path: PathBuf,
    device: (u32, u32),
}

impl Planner<'_> {
    /// What programs need that compute or draw on a graphics processor.
    pub(crate) fn gpu(&mut self, optional: bool, origin: Option<Origin>) -> Result<Item, Error> {
        let why = "its driver, in the kernel, is what the workload talks to; no limit here counts its memory and time";
        let mut item = Item { words: String::new(), why: why.to_owned(), ops: Vec::new(), expected: Vec::new() };
        let nodes = nodes()?;
        if nodes.is_empty() {
            if optional {
                "leaves the GPU out, which is not there".clone_into(&mut item.words);
                return Ok(item);
            }
            return Err(Error::host("there is no GPU: neither /dev/dri, /dev/kfd nor /dev/nvidia*")
                .help("load its driver, or write Gpu(optional: true)"));
        }
        let frozen = self.thaw();
        for node in &nodes {
            self.node(node, &mut item, origin)?;
            self.facts(node.device, &mut item, origin)?;
        }
        item.ops.extend(frozen.into_iter().map(|path| Op::Freeze { path }));
        let mut libraries = Vec::new();
        for path in LIBRARIES.map(Path::new).into_iter().filter(|path| path.is_dir()) {
            if !self.shown(path)? {
                self.grant(&mut item, path, false, origin)?;
                libraries.push(path.display().to_string());
            }
        }
        let names: Vec<String> = nodes.iter().map(|node| node.path.display().to_string()).collect();
        let with = if libraries.is_empty() { String::new() } else { format!("; {} read-only", libraries.join(", ")) };
        item.words = format!("grants the GPU: {}{with}", names.join(", "));
        Ok(item)
    }

    /// Puts off making a /dev read-only that is a mount of its own: nodes are still to come.
    fn thaw(&mut self) -> Vec<String> {
        let mut paths = Vec::new();
        for (item, _) in &mut self.items {
            item.ops.retain(|op| match op {
                Op::Freeze { path } if below("/dev/dri", path).is_some() => {
                    paths.push(path.clone());
                    false
                }
                _ => true,
            });
        }
        paths
    }

    fn node(&mut self, node: &Node, item: &mut Item, origin: Option<Origin>) -> Result<(), Error> {
        let target = self.tree.target(&text(&node.path)?, Kind::File)?;
        item.expected.push(Expected::plain(&target.path, NODE));
        self.tree.mount(&target.path, Backing::Host(node.path.clone()));
        let (path, device) = (node.path.clone(), Some(node.device));
        let slot = self.source(Source { device, ..Source::new(path, NODE, false, origin) });
        item.ops.push(Op::Bind { slot, target });
        Ok(())
    }

    /// What the kernel says of the device in /sys: libraries ask there which one it is.
    fn facts(&mut self, (major, minor): (u32, u32), item: &mut Item, origin: Option<Origin>) -> Result<(), Error> {
        let name = format!("/sys/dev/char/{major}:{minor}");
        let Ok(own) = fs::canonicalize(&name) else { return Ok(()) };
        // All of the processor, of which the node is one function.
        let whole = fs::canonicalize(own.join("device")).unwrap_or_else(|_| own.clone());
        if self.shown(&own)? {
            return Ok(());
        }
        if !self.shown(&whole)? {
            let target = self.tree.target(&text(&whole)?, Kind::Dir)?;
            item.expected.push(Expected::plain(&target.path, FACTS));
            self.tree.mount(&target.path, Backing::Host(whole.clone()));
            let slot = self.source(Source::new(whole, FACTS, false, origin));
            item.ops.push(Op::Bind { slot, target });
        }
        if matches!(self.tree.backing(&name).1, Backing::Own) {
            self.symlink(&name, &text(&own)?, &mut item.ops)?;
        }
        Ok(())
    }
}

fn text(path: &Path) -> Result<String, Error> {
    path.to_str().map(str::to_owned).ok_or_else(|| Error::host(format!("{} cannot be bound", path.display())))
}

/// The nodes that this host has, in order.
fn nodes() -> Result<Vec<Node>, Error> {
    let drivers = Proc::host().and_then(|proc| proc.read("devices")).told(|| "cannot read /proc/devices".to_owned())?;
    let mut all = Vec::new();
    for (dir, begins, driver) in PLACES {
        let Ok(entries) = fs::read_dir(dir) else { continue };
        for path in entries.flatten().map(|entry| entry.path()) {
            let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
            let facts = fs::symlink_metadata(&path)?;
            if !name.starts_with(begins) || facts.is_dir() {
                continue;
            }
            let device = number(facts.rdev());
            if !facts.file_type().is_char_device() || !is_of(&drivers, device.0, driver) {
                return Err(Error::host(format!("{} is no device of the driver {driver}", path.display())).help(
                    "the /dev that palisade was started with is not the kernel's; remove what is not of the driver",
                ));
            }
            if find(&path)?.is_some() {
                all.push(Node { path, device });
            }
        }
    }
    all.sort_by(|a, b| a.path.cmp(&b.path));
    Ok(all)
}

/// Major and minor number, as makedev(3) put them together.
fn number(device: u64) -> (u32, u32) {
    let low = |bits: u64| u32::try_from(bits & 0xffff_ffff).unwrap_or(0);
    let major = low((device >> 32) & 0xffff_f000 | (device >> 8) & 0xfff);
    let minor = low((device >> 12) & 0xffff_ff00 | device & 0xff);
    (major, minor)
}

/// Whether a driver whose name begins so has this number in /proc/devices.
fn is_of(drivers: &str, major: u32, begins: &str) -> bool {
    let characters = drivers.split("Block devices:").next().unwrap_or_default();
    let mut rows = characters.lines().filter_map(|line| line.trim().split_once(' '));
    rows.any(|(number, name)| number.parse() == Ok(major) && name.trim().starts_with(begins))
}

#[cfg(test)]
mod tests {
    use super::*;

    const DRIVERS: &str =
        "Character devices:\n  1 mem\n195 nvidia-frontend\n226 drm\n510 nvidia-uvm\n\nBlock devices:\n  7 drm\n";

    #[test]
    fn a_driver_is_known_by_its_number_and_name() {
        assert!(is_of(DRIVERS, 226, "drm") && is_of(DRIVERS, 510, "nvidia") && is_of(DRIVERS, 195, "nvidia"));
        // A disk's number, another driver's, nobody's.
        assert!(!is_of(DRIVERS, 7, "drm") && !is_of(DRIVERS, 1, "drm") && !is_of(DRIVERS, 22, "drm"));
    }

    #[test]
    fn numbers_are_taken_apart() {
        let facts = fs::metadata("/dev/null").unwrap();
        assert_eq!(number(facts.rdev()), (1, 3));
        assert_eq!(number(226 << 8 | 128), (226, 128));
    }
}
