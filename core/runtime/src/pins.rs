//! What the user said of a plugin's file: which content was installed, who vouches for it, what it may do in the
//! workload's process. It holds for that content alone, and for every build of palisade.

use crate::error::{Kind, Trouble};
use palisade_abi::manifest::Manifest;
use palisade_model::stage::Stage;
use palisade_sys::fd::FileFacts;
use serde::{Deserialize, Serialize};
use std::path::Path;

/// What holds for one content of one file.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Pin {
    /// SHA-256 of the content, lower-case hexadecimal.
    pub sha256: String,
    /// Stages in the workload's process that it may have steps in.
    #[serde(default)]
    pub granted: Vec<Stage>,
    /// How it came there; nothing where the file was put there by hand and only granted something. An installed file
    /// of any other content is refused.
    #[serde(default)]
    pub installed: Option<Installed>,
}

/// What was known when a plugin was installed.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Installed {
    /// When, in seconds since the epoch.
    pub since: u64,
    /// What it said about itself, without the reference section.
    pub manifest: Manifest,
    /// Who vouches for it.
    #[serde(default)]
    pub signer: Option<Signer>,
}

/// A key that a signature was verified with.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Signer {
    /// The key's id as minisign shows it, 16 hexadecimal digits. Whoever makes a key can choose it.
    pub key: String,
    /// The file that the key stood in.
    pub file: String,
    /// The comment that is signed along with the file.
    pub comment: String,
}

/// Where a plugin came from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Origin {
    /// It came with palisade.
    Palisade,
    /// `palisade plugin install`, by who looks.
    Installed,
    /// It lies where root installs plugins, and an ordinary user looks.
    InstalledByRoot,
    /// It was put by hand into a directory that the caller named.
    PluginDir,
}

impl std::fmt::Display for Origin {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.pad(match self {
            Self::Palisade => "came with palisade",
            Self::Installed => "installed",
            Self::InstalledByRoot => "installed by root",
            Self::PluginDir => "put there by hand (--plugin-dir)",
        })
    }
}

/// Finds the pin of this content among those of a file.
///
/// # Errors
/// Another content was installed there; or `must` says that only what was installed may be there.
pub(crate) fn judge(
    pins: &[Pin],
    path: &Path,
    facts: &FileFacts,
    sha256: &str,
    must: bool,
) -> Result<Option<Pin>, Trouble> {
    if let Some(pin) = pins.iter().find(|pin| pin.sha256 == sha256).filter(|pin| !must || pin.installed.is_some()) {
        return Ok(Some(pin.clone()));
    }
    let refuse = |why: &str| Trouble::new(Kind::Plugin, why).row("file", path.display().to_string());
    let installed = pins.iter().rev().find_map(|pin| Some((pin, pin.installed.as_ref()?)));
    let Some((pin, installed)) = installed else {
        return match must {
            true => Err(refuse("it was not installed by `palisade plugin install`, and nothing pins it")
                .row("found", format!("sha256:{sha256}"))
                .row(
                    "help",
                    "if you trust it, move it elsewhere and run palisade plugin install on it; else delete it",
                )),
            false => Ok(None),
        };
    };
    let dir = path.parent().filter(|_| !must).map(|dir| format!(" --plugin-dir {}", dir.display()));
    let changed = u64::try_from(facts.ctime_ns / 1_000_000_000).unwrap_or(0);
    Err(refuse("it is not the file that was installed")
        .row("pinned", format!("sha256:{}, since {}", pin.sha256, utc(installed.since)))
        .row("found", format!("sha256:{sha256}, changed {}", utc(changed)))
        .row(
            "help",
            format!(
                "find out who changed it; palisade plugin install FILE puts one there that you trust, palisade plugin \
                 remove {}{} takes it away",
                installed.manifest.name,
                dir.unwrap_or_default()
            ),
        ))
}

/// A time as people read it, to the second: `2026-11-26 05:44:31 UTC`.
#[must_use]
pub fn utc(seconds: u64) -> String {
    let (days, rest) = (seconds / 86_400, seconds % 86_400);
    let (mut year, mut day) = (1970, days);
    let leap = |year: u64| year.is_multiple_of(4) && (!year.is_multiple_of(100) || year.is_multiple_of(400));
    loop {
        let length = if leap(year) { 366 } else { 365 };
        if day < length {
            break;
        }
        day -= length;
        year += 1;
    }
    let february = if leap(year) { 29 } else { 28 };
    let mut month = 1;
    for length in [31, february, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31] {
        if day < length {
            break;
        }
        day -= length;
        month += 1;
    }
    let (hour, minute, second) = (rest / 3600, rest / 60 % 60, rest % 60);
    format!("{year}-{month:02}-{:02} {hour:02}:{minute:02}:{second:02} UTC", day + 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_those_of_the_calendar() {
        assert_eq!(utc(0), "1970-01-01 00:00:00 UTC");
        assert_eq!(utc(951_782_399), "2000-02-28 23:59:59 UTC");
        assert_eq!(utc(951_782_400), "2000-02-29 00:00:00 UTC");
        assert_eq!(utc(1_795_671_871), "2026-11-26 05:44:31 UTC");
        assert_eq!(utc(4_107_542_400), "2100-03-01 00:00:00 UTC");
    }

    fn pin(sha256: &str, installed: bool) -> Pin {
        let text = "(name:\"x\",version:\"1\",seam:\"1.0\",summary:\"\",stages:[],reference:\"\")";
        let manifest = Manifest::parse(text).unwrap();
        let installed = installed.then_some(Installed { since: 0, manifest, signer: None });
        Pin { sha256: sha256.into(), granted: vec![Stage::Build], installed }
    }

    #[test]
    fn an_installed_file_is_its_content() {
        let facts = FileFacts { dev: 1, ino: 1, mode: 0, uid: 0, gid: 0, size: 0, mtime_ns: 0, ctime_ns: 0, rdev: 0 };
        let judge = |pins: &[Pin], must| judge(pins, Path::new("/p"), &facts, "a", must);
        assert!(judge(&[], false).unwrap().is_none());
        judge(&[], true).unwrap_err();
        assert!(judge(&[pin("a", true)], true).unwrap().is_some());
        let other = judge(&[pin("b", true)], false).unwrap_err().to_string();
        assert!(other.contains("pinned  sha256:b, since 1970") && other.contains("found   sha256:a"), "{other}");
        // While one takes the place of another, both are good.
        assert!(judge(&[pin("b", true), pin("a", true)], true).unwrap().is_some());
        // A grant alone pins nothing, and where only what was installed counts it is not enough.
        assert!(judge(&[pin("b", false)], false).unwrap().is_none());
        assert!(judge(&[pin("a", false)], false).unwrap().is_some());
        judge(&[pin("a", false)], true).unwrap_err();
    }
}
