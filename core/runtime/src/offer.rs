//! A plugin that could be installed: what it says of itself, who vouches for it, what is new in it.

use crate::pins::{Pin, Signer};
use palisade_abi::manifest::Manifest;
use palisade_model::stage::{Place, Stage};
use std::path::PathBuf;

/// What is to be installed.
#[derive(Clone, Debug, Default)]
pub struct Request {
    /// The plugin's file, wherever it is: what counts are its bytes.
    pub file: PathBuf,
    /// The directory to install into, from `/`; else that of who asks.
    pub dir: Option<PathBuf>,
    /// The signature's file; else the one beside the plugin with `.minisig` behind its name, where there is one.
    pub signature: Option<PathBuf>,
    /// Take it without a signature, whatever keys there are.
    pub unsigned: bool,
}

/// Who vouches for a plugin.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Vouched {
    /// This key signed it.
    By(Signer),
    /// It is signed, but no key was given that could tell whether that is worth anything.
    NoKey,
    /// It is not signed, and no key asks for that.
    Unsigned,
    /// The caller wants it without.
    Waived,
}

/// A plugin that can be installed, nothing of it having run.
#[derive(Debug)]
pub struct Offer {
    /// What it says about itself.
    pub manifest: Manifest,
    /// SHA-256 of the bytes that would be installed.
    pub sha256: String,
    /// Where it would be.
    pub path: PathBuf,
    /// Who vouches for it.
    pub vouched: Vouched,
    /// Where keys are looked for, for people.
    pub key_dirs: String,
    /// What is installed there now.
    pub before: Option<Pin>,
    /// Whether a file lies there that was not installed, and that it would replace.
    pub by_hand: bool,
    /// Stages in the workload's process that the one before was granted and that this one has steps in as well.
    pub carried: Vec<Stage>,
    pub(crate) bytes: Vec<u8>,
}

/// What is new in a plugin against the one that is installed, in words; empty where there is nothing.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Notes {
    /// What became of the version.
    pub version: String,
    /// What it asks for that the other did not, and what else there is less of: each in one line.
    pub lines: Vec<String>,
}

impl Offer {
    /// Stages in the workload's process that it has steps in and that were not granted to the one before.
    #[must_use]
    pub fn ungranted(&self) -> Vec<Stage> {
        let inside = |stage: &&Stage| stage.runs_in() == Place::Child && !self.carried.contains(stage);
        self.manifest.stages.iter().filter(inside).copied().collect()
    }

    /// What changes against the one that is installed.
    #[must_use]
    pub fn changes(&self) -> Option<Notes> {
        let pin = self.before.as_ref()?;
        let before = pin.installed.as_ref()?;
        let (old, new) = (&before.manifest, &self.manifest);
        let version = match compare(&old.version, &new.version) {
            _ if pin.sha256 == self.sha256 => format!("{} is installed already, with this content", new.version),
            Some(std::cmp::Ordering::Equal) => format!("the same version, {}, with another content", new.version),
            Some(std::cmp::Ordering::Greater) => format!("{} to {}, which is OLDER", old.version, new.version),
            Some(std::cmp::Ordering::Less) => format!("{} to {}", old.version, new.version),
            None => format!("{} to {}; which is newer cannot be told", old.version, new.version),
        };
        let mut lines = Vec::new();
        let stages = |a: &Manifest, b: &Manifest| -> Vec<Stage> {
            a.stages.iter().filter(|stage| !b.stages.contains(stage)).copied().collect()
        };
        lines.extend(stages(new, old).iter().map(|stage| format!("it asks for stage {stage}, which it did not have")));
        lines.extend(stages(old, new).iter().map(|stage| format!("it has no steps in stage {stage} any more")));
        for (name, what) in &new.privileges {
            match old.privileges.get(name) {
                None => lines.push(format!("it asks for {name}, which it did not: {what}")),
                Some(before) if before != what => lines.push(format!("it says something else of {name}: {what}")),
                Some(_) => {}
            }
        }
        let more = new.cannot_stop.iter().filter(|what| !old.cannot_stop.contains(what));
        lines.extend(more.map(|what| format!("it says that it cannot stop {what}")));
        let (signer, now) = (before.signer.as_ref(), self.signer());
        if let Some(signer) = signer.filter(|signer| now.is_none_or(|now| now.key != signer.key)) {
            let now = now.map_or_else(|| "nobody".to_owned(), |now| format!("key {}", now.key));
            lines.push(format!("key {} vouched for the one before; for this one does {now}", signer.key));
        }
        Some(Notes { version, lines })
    }

    /// The key that vouches for it.
    #[must_use]
    pub fn signer(&self) -> Option<&Signer> {
        if let Vouched::By(signer) = &self.vouched { Some(signer) } else { None }
    }
}

/// Compares versions of numbers with dots between; nothing where one of them is something else.
fn compare(old: &str, new: &str) -> Option<std::cmp::Ordering> {
    let numbers = |text: &str| text.split('.').map(|part| part.parse::<u64>().ok()).collect::<Option<Vec<u64>>>();
    if old == new { Some(std::cmp::Ordering::Equal) } else { Some(numbers(old)?.cmp(&numbers(new)?)) }
}

#[cfg(test)]
mod tests {
    use super::compare;
    use std::cmp::Ordering::{Equal, Greater, Less};

    #[test]
    fn versions_are_compared_as_numbers() {
        assert_eq!(compare("0.9.0", "0.10.0"), Some(Less));
        assert_eq!(compare("1.0", "0.10.7"), Some(Greater));
        assert_eq!(compare("1.0-rc1", "1.0-rc1"), Some(Equal));
        assert_eq!(compare("1.0-rc1", "1.0"), None);
    }
}
