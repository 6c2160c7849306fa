//! What is there before must be all that is there afterwards.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

/// Processes, mounts, cgroups and files of palisade's.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Leftovers {
    processes: BTreeSet<String>,
    mounts: BTreeSet<String>,
    cgroups: BTreeSet<PathBuf>,
    files: BTreeSet<PathBuf>,
    fds: usize,
}

impl Leftovers {
    /// What is there now.
    pub fn now() -> Self {
        let mounts = std::fs::read_to_string("/proc/self/mountinfo").unwrap();
        let mut cgroups = BTreeSet::new();
        for line in mounts.lines().filter(|line| line.contains(" - cgroup")) {
            let point = line.split(' ').nth(4).unwrap();
            find_cgroups(Path::new(point), 0, &mut cgroups);
        }
        let files = ["/tmp", "/dev/shm", "/run"].iter().flat_map(std::fs::read_dir).flatten().flatten();
        let files = files
            .map(|entry| entry.path())
            .filter(|path| path.file_name().is_some_and(|name| name.to_string_lossy().contains("palisade")));
        Self {
            processes: processes(),
            mounts: mounts.lines().map(str::to_owned).collect(),
            cgroups,
            files: files.collect(),
            fds: std::fs::read_dir("/proc/self/fd").unwrap().count(),
        }
    }

    /// Whether nothing came on top of this. What is gone since was somebody else's, which ended meanwhile.
    fn holds(&self, now: &Self) -> bool {
        now.processes.is_subset(&self.processes)
            && now.cgroups.is_subset(&self.cgroups)
            && now.files.is_subset(&self.files)
            && now.mounts == self.mounts
            && now.fds <= self.fds
    }

    /// Panics unless all is as it was; what ends in the background gets two seconds.
    #[track_caller]
    pub fn same(&self) {
        let begun = Instant::now();
        loop {
            let now = Self::now();
            if self.holds(&now) {
                return;
            }
            assert!(begun.elapsed() < Duration::from_secs(2), "left behind:\n{}", self.difference(&now));
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    fn difference(&self, now: &Self) -> String {
        format!(
            "processes {:?}\nmounts {:?}\ncgroups {:?}\nfiles {:?}\nfds {} then, {} now",
            now.processes.difference(&self.processes).collect::<Vec<_>>(),
            now.mounts.symmetric_difference(&self.mounts).collect::<Vec<_>>(),
            now.cgroups.difference(&self.cgroups).collect::<Vec<_>>(),
            now.files.difference(&self.files).collect::<Vec<_>>(),
            self.fds,
            now.fds
        )
    }
}

/// Processes that palisade's name, or an id that only a workload of these tests has, tells of.
fn processes() -> BTreeSet<String> {
    let entries = std::fs::read_dir("/proc").unwrap().flatten();
    entries
        .filter_map(|entry| {
            let pid: u32 = entry.file_name().to_str()?.parse().ok()?;
            let status = std::fs::read_to_string(entry.path().join("status")).ok()?;
            let field = |name: &str| status.lines().find_map(|line| line.strip_prefix(name)).map(str::trim);
            let comm = field("Name:")?;
            let uid: u32 = field("Uid:")?.split_whitespace().next()?.parse().ok()?;
            // From here on are the ids that own nothing.
            let ours = comm.starts_with("palisade") || uid == crate::USER || uid >= 0x6f00_0000;
            ours.then(|| format!("{pid} {comm}"))
        })
        .collect()
}

fn find_cgroups(dir: &Path, depth: u32, found: &mut BTreeSet<PathBuf>) {
    for entry in std::fs::read_dir(dir).into_iter().flatten().flatten() {
        if !entry.file_type().is_ok_and(|kind| kind.is_dir()) {
            continue;
        }
        if entry.file_name().to_string_lossy().starts_with("palisade-") {
            found.insert(entry.path());
        } else if depth < 4 {
            find_cgroups(&entry.path(), depth + 1, found);
        }
    }
}
