//! What a process is to the kernel, as texts that can be compared.

use palisade_sys::process;
use palisade_sys::procfs::{Proc, ProcPid};
use std::collections::{BTreeMap, BTreeSet};

/// Lines of /proc/PID/status that only change where somebody changes them.
const LINES: [&str; 17] = [
    "Umask",
    "Uid",
    "Gid",
    "Groups",
    "SigBlk",
    "SigIgn",
    "SigCgt",
    "CapInh",
    "CapPrm",
    "CapEff",
    "CapBnd",
    "CapAmb",
    "NoNewPrivs",
    "Seccomp",
    "Seccomp_filters",
    "Speculation_Store_Bypass",
    "CoreDumping",
];

/// Files of /proc/PID, read whole.
const FILES: [&str; 5] = ["limits", "cgroup", "oom_score_adj", "timers", "comm"];

/// Kinds of namespaces.
const NAMESPACES: [&str; 8] = ["mnt", "pid", "net", "ipc", "uts", "user", "cgroup", "time"];

/// A process, without its descriptors and threads.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct State(BTreeMap<String, String>);

impl State {
    /// This process, with its environment.
    pub(crate) fn own() -> Self {
        let mut state = Proc::host().and_then(|proc| proc.own()).map(|own| Self::of(&own)).unwrap_or_default();
        let variables = std::env::vars_os().map(|(name, value)| (format!("the variable {}", name.display()), value));
        state.0.extend(variables.map(|(name, value)| (name, value.to_string_lossy().into_owned())));
        state
    }

    /// Any process that may be looked at.
    pub(crate) fn of(process: &ProcPid) -> Self {
        let mut all = BTreeMap::new();
        let status = process.read("status").unwrap_or_default();
        for line in status.lines() {
            if let Some((name, value)) = line.split_once(':').filter(|(name, _)| LINES.contains(name)) {
                all.insert(name.to_owned(), value.trim().to_owned());
            }
        }
        all.extend(FILES.into_iter().filter_map(|name| Some((name.to_owned(), process.read(name).ok()?))));
        for name in ["cwd", "root"] {
            let path = palisade_sys::fd::readlink_at(process, name).map(|path| path.to_string_lossy().into_owned());
            all.extend(path.ok().map(|path| (name.to_owned(), path)));
        }
        for name in NAMESPACES {
            all.extend(process.ns(name).ok().map(|(_, inode)| (format!("the {name} namespace"), inode.to_string())));
        }
        all.insert("mounts".to_owned(), mounts(&process.read("mountinfo").unwrap_or_default()));
        Self(all)
    }

    /// Without what two processes that are alike need not have alike.
    pub(crate) fn comparable(mut self) -> Self {
        self.0.retain(|name, _| !name.ends_with(" namespace") && name != "cgroup");
        self
    }

    /// With lines of another kind.
    pub(crate) fn with(mut self, name: &str, lines: impl IntoIterator<Item = String>) -> Self {
        let lines: Vec<String> = lines.into_iter().collect();
        self.0.insert(name.to_owned(), lines.join("\n"));
        self
    }

    /// What is other in `later`, each in one line.
    pub(crate) fn changes(&self, later: &Self) -> Vec<String> {
        let names: BTreeSet<&String> = self.0.keys().chain(later.0.keys()).collect();
        let changed = names.into_iter().filter(|name| self.0.get(*name) != later.0.get(*name));
        changed
            .map(|name| {
                let [was, is] = [self, later].map(|state| state.0.get(name).map_or("", String::as_str));
                match (was.contains('\n') || is.contains('\n'), was, is) {
                    (true, ..) => format!("{name}: {}", lines(was, is)),
                    (_, was, "") => format!("{name}: `{was}` is gone"),
                    (_, "", is) => format!("{name}: `{is}` is new"),
                    (_, was, is) => format!("{name}: `{was}` became `{is}`"),
                }
            })
            .collect()
    }
}

/// The lines that are in one of two texts only.
fn lines(was: &str, is: &str) -> String {
    let [before, after] = [was, is].map(|text| text.lines().collect::<BTreeSet<_>>());
    let gone = before.difference(&after).map(|line| format!("- {}", squeezed(line)));
    let new = after.difference(&before).map(|line| format!("+ {}", squeezed(line)));
    gone.chain(new).take(4).collect::<Vec<_>>().join("; ")
}

fn squeezed(line: &str) -> String {
    line.split_whitespace().collect::<Vec<_>>().join(" ")
}

/// Mounts without the numbers that each namespace gives anew: root, mount point, options, type.
fn mounts(text: &str) -> String {
    let line = |line: &str| {
        let words: Vec<&str> = line.split(' ').collect();
        let kind = words.iter().position(|word| *word == "-").and_then(|dash| words.get(dash + 1)).copied();
        Some(format!("{} {} {} {}", words.get(3)?, words.get(4)?, words.get(5)?, kind?))
    };
    let mut all: Vec<String> = text.lines().filter_map(line).collect();
    all.sort();
    all.join("\n")
}

/// The open descriptors of a process, and what each is of.
pub(crate) fn descriptors(process: &ProcPid) -> BTreeMap<i32, String> {
    let id = process.id();
    let listed = std::fs::read_dir(format!("/proc/{id}/fd")).into_iter().flatten().flatten();
    let numbers: Vec<i32> = listed.filter_map(|entry| entry.file_name().to_str()?.parse().ok()).collect();
    let target = |number: &i32| std::fs::read_link(format!("/proc/{id}/fd/{number}")).ok();
    // The one that the list itself was read with is gone.
    numbers.iter().filter_map(|n| Some((*n, target(n)?.to_string_lossy().into_owned()))).collect()
}

/// Those of this process.
pub(crate) fn own_descriptors() -> BTreeMap<i32, String> {
    let own = Proc::host().and_then(|proc| proc.own());
    own.map(|own| {
        let mut all = descriptors(&own);
        // Those that looking at it takes.
        all.retain(|_, target| !target.starts_with("/proc"));
        all
    })
    .unwrap_or_default()
}

/// Descriptors that were not there before, in words.
pub(crate) fn left(before: &BTreeMap<i32, String>, after: &BTreeMap<i32, String>) -> Vec<String> {
    let new = after.iter().filter(|(number, target)| before.get(number) != Some(target));
    new.map(|(number, target)| format!("descriptor {number} ({target}) is left open")).collect()
}

/// Threads besides the one that asks; one that is about to end gets a moment.
pub(crate) fn threads() -> u32 {
    let count = || process::thread_count().unwrap_or(1).saturating_sub(1);
    for _ in 0..10 {
        if count() == 0 {
            return 0;
        }
        std::thread::sleep(std::time::Duration::from_millis(5));
    }
    count()
}

/// Children of this process.
pub(crate) fn children() -> Vec<i32> {
    Proc::host().and_then(|proc| proc.own()).and_then(|own| own.children()).unwrap_or_default()
}
