//! What the host looks like from outside.

use crate::attempts;
use crate::scene::{Host, Inode};
use palisade_sys::ids;
use std::io;
use std::os::unix::fs::{FileTypeExt as _, MetadataExt as _};
use std::path::{Path, PathBuf};

impl Host {
    /// How it is now. What cannot be read is not there.
    pub(crate) fn read() -> io::Result<Self> {
        let text = |path: &str| std::fs::read_to_string(path).unwrap_or_default();
        let home = std::env::home_dir().unwrap_or_else(|| {
            ids::lookup_uid(palisade_sys::process::getuid()).ok().flatten().map(|user| user.home).unwrap_or_default()
        });
        let namespaces = ["mnt", "pid", "net", "ipc", "uts", "user", "cgroup"].into_iter();
        let seconds = |text: &str| text.split(['.', ' ']).next().and_then(|word| word.parse().ok()).unwrap_or(0);
        let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap_or_default().as_secs();
        Ok(Self {
            shadow: inode("/etc/shadow"),
            passwd: inode("/etc/passwd"),
            root: inode("/"),
            home_inode: inode(&home),
            home,
            names: names("/")?,
            block: block_device(),
            interfaces: attempts::interfaces().unwrap_or_default(),
            hostname: text("/proc/sys/kernel/hostname").trim().to_owned(),
            cmdline: text("/proc/cmdline"),
            boot_id: text("/proc/sys/kernel/random/boot_id"),
            machine_id: text("/etc/machine-id"),
            boottime: (seconds(&text("/proc/uptime")), now),
            terminals: inode("/dev/pts"),
            namespaces: namespaces
                .filter_map(|name| Some((name.to_owned(), std::fs::read_link(format!("/proc/self/ns/{name}")).ok()?)))
                .collect(),
            sockets: sockets(),
            resolver: resolver(&text("/etc/resolv.conf")),
            cgroups: cgroups(&text("/proc/self/mountinfo")),
        })
    }
}

fn inode(path: impl AsRef<Path>) -> Option<Inode> {
    let facts = std::fs::metadata(path).ok()?;
    Some((facts.dev(), facts.ino()))
}

fn names(dir: &str) -> io::Result<Vec<String>> {
    let entries = std::fs::read_dir(dir)?.flatten();
    let mut names: Vec<String> = entries.map(|entry| entry.file_name().to_string_lossy().into_owned()).collect();
    names.sort();
    Ok(names)
}

/// The device that holds `/`; where that is none of /dev, any disk.
fn block_device() -> PathBuf {
    let root = inode("/").map(|(device, _)| device);
    let mut any = PathBuf::new();
    for entry in std::fs::read_dir("/dev").into_iter().flatten().flatten() {
        let Ok(facts) = entry.metadata() else { continue };
        let virtual_one =
            ["loop", "ram", "zram"].iter().any(|kind| entry.file_name().to_string_lossy().starts_with(kind));
        if !facts.file_type().is_block_device() || virtual_one {
            continue;
        }
        if Some(facts.rdev()) == root {
            return entry.path();
        }
        any = entry.path();
    }
    any
}

fn cgroups(mounts: &str) -> PathBuf {
    let point = |kind: &str| mounts.lines().find(|line| line.contains(kind))?.split(' ').nth(4);
    point(" - cgroup ").or_else(|| point(" - cgroup2 ")).unwrap_or("/sys/fs/cgroup").into()
}

/// Where a hierarchy is mounted in which processes may be moved without further ado: not every one of the first version
/// takes them before it is set up.
fn movable(mounts: &str) -> Option<&str> {
    mounts.lines().find_map(|line| {
        let (before, after) = line.split_once(" - ")?;
        let takes = after.starts_with("cgroup2 ") || (after.starts_with("cgroup ") && after.contains("pids"));
        before.split(' ').nth(4).filter(|_| takes)
    })
}

/// Where the canary's cgroup is.
pub(crate) fn canary_cgroup(token: &str) -> Option<PathBuf> {
    let mounts = std::fs::read_to_string("/proc/self/mountinfo").ok()?;
    Some(Path::new(movable(&mounts)?).join(format!("palisade-{token}")))
}

/// What may be there of sockets by which containers, the session or the display are controlled.
fn sockets() -> Vec<PathBuf> {
    const KNOWN: [&str; 7] = [
        "/run/docker.sock",
        "/run/containerd/containerd.sock",
        "/run/podman/podman.sock",
        "/run/crio/crio.sock",
        "/run/systemd/private",
        "/run/dbus/system_bus_socket",
        "/tmp/.X11-unix/X0",
    ];
    let variable = |name: &str| std::env::var_os(name).filter(|value| !value.is_empty()).map(PathBuf::from);
    let session = ["bus", "systemd/private", "wayland-0"].map(|name| Some(variable("XDG_RUNTIME_DIR")?.join(name)));
    let all = KNOWN.iter().map(PathBuf::from).chain(variable("SSH_AUTH_SOCK")).chain(session.into_iter().flatten());
    all.filter(|path| path.exists()).collect()
}

fn resolver(configured: &str) -> String {
    let address = configured.lines().find_map(|line| line.trim().strip_prefix("nameserver "));
    address.unwrap_or_default().trim().to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_cgroups_of_the_first_version_come_first() {
        let mounts = "1 2 0:3 / /sys/fs/cgroup/unified rw - cgroup2 none rw\n4 2 0:5 / /sys/fs/cgroup/pids rw - cgroup none rw\n";
        assert_eq!(cgroups(mounts), Path::new("/sys/fs/cgroup/pids"));
        assert_eq!(cgroups(mounts.lines().next().unwrap()), Path::new("/sys/fs/cgroup/unified"));
    }

    #[test]
    fn a_hierarchy_that_takes_processes_is_found() {
        let mounts = "1 2 0:3 / /c/cpuset rw - cgroup none rw,cpuset\n2 2 0:4 / /c/pids rw - cgroup none rw,pids\n";
        assert_eq!(movable(mounts), Some("/c/pids"));
        assert_eq!(movable("3 2 0:5 / /sys/fs/cgroup rw - cgroup2 none rw\n"), Some("/sys/fs/cgroup"));
        assert_eq!(movable("3 2 0:5 / /proc rw - proc none rw\n"), None);
    }

    #[test]
    fn the_first_resolver_counts() {
        assert_eq!(resolver("# x\nsearch a\nnameserver 192.0.2.1\nnameserver 192.0.2.2\n"), "192.0.2.1");
        assert_eq!(resolver(""), "");
    }
}
