//! What the kernel has for cgroups, found without the program.

use std::path::{Path, PathBuf};

/// An empty cgroup at the top of each hierarchy that can be written, with all controllers on. Needs root.
#[derive(Debug)]
pub struct EmptyCgroups(Vec<PathBuf>);

impl EmptyCgroups {
    /// Makes them; they go when this is dropped.
    #[must_use]
    pub fn new() -> Self {
        let mounts = std::fs::read_to_string("/proc/self/mounts").unwrap();
        let mut all = Self(Vec::new());
        for line in mounts.lines() {
            let words: Vec<&str> = line.split(' ').collect();
            let (top, kind, options) = (Path::new(words[1]), words[2], words[3]);
            if !kind.starts_with("cgroup") || options.contains("name=") || options.starts_with("ro") {
                continue;
            }
            let controllers = std::fs::read_to_string(top.join("cgroup.controllers")).unwrap_or_default();
            for controller in controllers.split_ascii_whitespace() {
                std::fs::write(top.join("cgroup.subtree_control"), format!("+{controller}")).unwrap();
            }
            let dir = top.join(format!("palisade-test-empty-{}", std::process::id()));
            std::fs::create_dir(&dir).unwrap();
            all.0.push(dir);
        }
        all
    }

    /// Whether there is no hierarchy at all.
    #[must_use]
    pub fn none(&self) -> bool {
        self.0.is_empty()
    }

    /// Whether one of them has a file of this name.
    #[must_use]
    pub fn has(&self, file: &str) -> bool {
        self.top(file).is_some()
    }

    /// Where the hierarchy of the one that has it is mounted.
    #[must_use]
    pub fn top(&self, file: &str) -> Option<&Path> {
        let with = |dir: &&PathBuf| !file.is_empty() && dir.join(file).exists();
        self.0.iter().find(with).and_then(|dir| dir.parent())
    }
}

impl Default for EmptyCgroups {
    fn default() -> Self {
        Self::new()
    }
}

impl Drop for EmptyCgroups {
    fn drop(&mut self) {
        for dir in &self.0 {
            std::fs::remove_dir(dir).unwrap();
        }
    }
}
