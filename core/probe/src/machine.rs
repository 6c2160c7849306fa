//! That all is as it was before: what a probe may not change, read before and after.

use crate::attempts;
use std::collections::BTreeSet;
use std::path::Path;

/// Settings that attempts write back to themselves.
const SETTINGS: &[&str] = &[
    "/proc/sys/kernel/core_pattern",
    "/proc/sys/kernel/modprobe",
    "/proc/sys/kernel/hostname",
    "/proc/sys/vm/overcommit_memory",
    "/sys/kernel/mm/ksm/run",
];

/// A look at the machine.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Machine {
    mounts: BTreeSet<String>,
    interfaces: BTreeSet<String>,
    settings: Vec<(String, Vec<u8>)>,
}

impl Machine {
    /// How it is now. What cannot be read is not there.
    pub(crate) fn now(cgroups: &Path) -> Self {
        let mounts = std::fs::read_to_string("/proc/self/mountinfo").unwrap_or_default();
        let release = ["release_agent", "notify_on_release"].map(|name| cgroups.join(name).display().to_string());
        let settings = SETTINGS.iter().map(|path| (*path).to_owned()).chain(release);
        Self {
            mounts: mounts.lines().map(str::to_owned).collect(),
            interfaces: attempts::interfaces().unwrap_or_default().into_iter().collect(),
            settings: settings.map(|path| (path.clone(), std::fs::read(path).unwrap_or_default())).collect(),
        }
    }

    /// What is different now.
    pub(crate) fn differences(&self, now: &Self) -> Vec<String> {
        let mut found: Vec<String> = Vec::new();
        let mounts = self.mounts.symmetric_difference(&now.mounts);
        found.extend(mounts.map(|line| format!("mount: {line}")));
        let interfaces = self.interfaces.symmetric_difference(&now.interfaces);
        found.extend(interfaces.map(|name| format!("interface: {name}")));
        let changed = self.settings.iter().zip(&now.settings).filter(|(before, now)| before != now);
        found.extend(changed.map(|((path, _), _)| format!("setting: {path}")));
        found
    }
}

/// What outlives a run, by its name.
pub(crate) fn survivors(token: &str) -> Vec<i32> {
    let name = attempts::survivors_name(token);
    processes(|_, comm| comm.trim() == name)
}

/// Processes of which command line and name fit. One that has ended and waits for its parent does nothing any more.
fn processes(fits: impl Fn(&str, &str) -> bool) -> Vec<i32> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir("/proc").into_iter().flatten().flatten() {
        let Some(pid) = entry.file_name().to_str().and_then(|name| name.parse().ok()) else { continue };
        let read = |name: &str| {
            let bytes = std::fs::read(entry.path().join(name)).unwrap_or_default();
            String::from_utf8_lossy(&bytes).into_owned()
        };
        if fits(&read("cmdline"), &read("comm")) && !read("status").contains("State:\tZ") {
            found.push(pid);
        }
    }
    found
}

/// Processes and cgroups that carry one of these names: the token, and the ids of the launchers.
pub(crate) fn left(token: &str, launchers: &[i32]) -> Vec<String> {
    let running = processes(|words, _| words.contains(token)).into_iter().chain(survivors(token));
    let mut found: Vec<String> = running.map(|pid| format!("process: {pid}")).collect();
    let mounts = std::fs::read_to_string("/proc/self/mountinfo").unwrap_or_default();
    for line in mounts.lines().filter(|line| line.contains(" - cgroup")) {
        if let Some(point) = line.split(' ').nth(4) {
            cgroups(Path::new(point), 0, &mut |name| {
                if launchers.iter().any(|pid| name.starts_with(&format!("palisade-{pid}-"))) {
                    found.push(format!("cgroup: {name}"));
                }
            });
        }
    }
    found
}

/// A cgroup of a run lies at most this far below the top: systemd's slices and a user's scopes lie above it.
const DEPTH: u32 = 6;

fn cgroups(dir: &Path, depth: u32, see: &mut dyn FnMut(&str)) {
    for entry in std::fs::read_dir(dir).into_iter().flatten().flatten() {
        if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
            see(&entry.file_name().to_string_lossy());
            if depth < DEPTH {
                cgroups(&entry.path(), depth + 1, see);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_difference_is_seen() {
        let before = Machine::now(Path::new("/sys/fs/cgroup"));
        let mut after = before.clone();
        assert_eq!(before.differences(&after), Vec::<String>::new());
        after.mounts.insert("9 9 0:9 / /mnt rw - tmpfs none rw".to_owned());
        after.settings[0].1 = b"|/evil".to_vec();
        let found = before.differences(&after);
        assert_eq!(found.len(), 2, "{found:?}");
        assert!(found[1].contains("core_pattern"));
    }
}
