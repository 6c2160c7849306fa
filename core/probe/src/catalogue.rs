//! What an attempt is; all of them; what is not there.

use crate::attempts;
use crate::scene::Scene;
use crate::verdict::{Severity, Tried};
use palisade_runtime::Attempt;

/// One attempt.
#[derive(Clone, Copy)]
pub struct Probe {
    /// Its name; the letters before the first `-` are its group.
    pub id: &'static str,
    /// How bad it would be if it worked.
    pub severity: Severity,
    /// What should stop it.
    pub layers: &'static str,
    /// What is attempted, in one line.
    pub attempts: &'static str,
    /// What the kernel or the host must have; empty where nothing.
    pub needs: &'static str,
    /// Why nothing happens where it works.
    pub harmless: &'static str,
    pub(crate) attempt: fn(&Scene) -> Tried,
}

impl std::fmt::Debug for Probe {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Probe").field("id", &self.id).field("severity", &self.severity).finish_non_exhaustive()
    }
}

/// The groups: the first letters of an id, and what it is about.
pub const GROUPS: &[(&str, &str)] = &[
    ("fs", "file system"),
    ("pr", "processes and IPC"),
    ("nt", "network"),
    ("ks", "kernel surface"),
    ("pv", "privilege"),
    ("il", "information leaks"),
    ("es", "escape classics"),
    ("hy", "start-up hygiene"),
    ("rs", "resources"),
    ("", PLUGINS),
];

/// The group of attempts that plugins bring.
pub(crate) const PLUGINS: &str = "brought by plugins";

/// An attempt that a plugin brings.
#[derive(Clone, Debug)]
pub(crate) struct Brought {
    /// The plugin's name, a dot, and the attempt's.
    pub(crate) id: String,
    pub(crate) attempt: Attempt,
}

impl Probe {
    /// What it is about.
    #[must_use]
    pub fn group(&self) -> &'static str {
        let letters = self.id.split('-').next().unwrap_or_default();
        GROUPS.iter().find(|(short, _)| *short == letters).map_or("other", |(_, words)| words)
    }
}

/// All attempts, in the order in which they are made: those that take resources last.
pub fn probes() -> impl Iterator<Item = &'static Probe> {
    attempts::ALL.iter().copied().flatten()
}

/// Whether an id fits a pattern, in which `*` stands for any letters and `?` for one.
#[must_use]
pub fn matches(pattern: &str, id: &str) -> bool {
    let (Some(first), rest) = (pattern.chars().next(), pattern.char_indices().nth(1)) else { return id.is_empty() };
    let rest = rest.map_or("", |(at, _)| &pattern[at..]);
    let behind = || id.char_indices().nth(1).map_or("", |(at, _)| &id[at..]);
    match first {
        '*' => matches(rest, id) || (!id.is_empty() && matches(pattern, behind())),
        '?' => !id.is_empty() && matches(rest, behind()),
        letter => id.starts_with(letter) && matches(rest, behind()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    #[test]
    fn every_attempt_says_what_it_is() {
        let ids: BTreeSet<&str> = probes().map(|probe| probe.id).collect();
        assert_eq!(ids.len(), probes().count(), "an id comes twice");
        assert!(ids.len() >= 100, "{}", ids.len());
        for probe in probes() {
            assert_ne!(probe.group(), "other", "{}", probe.id);
            assert!(
                !probe.attempts.is_empty() && !probe.layers.is_empty() && !probe.harmless.is_empty(),
                "{}",
                probe.id
            );
        }
    }

    #[test]
    fn what_takes_resources_comes_last() {
        let ids: Vec<&str> = probes().map(|probe| probe.id).collect();
        let first = ids.iter().position(|id| id.starts_with("rs-")).unwrap();
        assert!(ids[first..].iter().all(|id| id.starts_with("rs-")));
    }

    #[test]
    fn a_pattern_fits() {
        for (pattern, id, fits) in [
            ("fs-*", "fs-mknod", true),
            ("*", "", true),
            ("*-root", "fs-proc1-root", true),
            ("?s-*", "ks-bpf", true),
            ("fs-*", "nt-packet", false),
            ("ks-bp", "ks-bpf", false),
            ("", "x", false),
        ] {
            assert_eq!(matches(pattern, id), fits, "{pattern} {id}");
        }
    }
}
