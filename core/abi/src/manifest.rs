//! What a plugin says about itself, as data: palisade reads it from the file and never runs the plugin for it.

use palisade_model::stage::Stage;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// The manifest, RON in the ELF section [`crate::MANIFEST_SECTION`].
///
/// ```
/// # use palisade_abi::manifest::Manifest;
/// let text = r#"(
///     name: "example",
///     version: "0.1.0",
///     seam: "1.1",
///     summary: "sets the host name",
///     stages: [build],
///     reference: "(hostname: \"fence\")",
/// )"#;
/// let manifest = Manifest::parse(text)?;
/// assert_eq!((manifest.name.as_str(), manifest.stages.len()), ("example", 1));
/// assert!(manifest.cannot_stop.is_empty(), "what is left out says nothing");
/// # Ok::<(), String>(())
/// ```
#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct Manifest {
    /// The name that policies use: lower-case letters, digits and `-`.
    pub name: String,
    /// The plugin's own version.
    pub version: String,
    /// The seam it was built against, as `major.minor`.
    pub seam: String,
    /// What it isolates, in one line.
    pub summary: String,
    /// The stages it has steps in; a step in any other is refused.
    pub stages: Vec<Stage>,
    /// Plugins whose steps come first where both have some in a stage, with the reason.
    #[serde(default)]
    pub after: BTreeMap<String, String>,
    /// Capabilities that the launcher needs for it; a name, then what becomes of it without.
    #[serde(default)]
    pub privileges: BTreeMap<String, String>,
    /// Kernel features: a name, then the first kernel that has it, and behind a semicolon what is so without it.
    #[serde(default)]
    pub kernel: BTreeMap<String, String>,
    /// What it cannot stop.
    #[serde(default)]
    pub cannot_stop: Vec<String>,
    /// A section that sets every option once, as RON text with comments; the reference of the plugin.
    pub reference: String,
}

impl Manifest {
    /// Reads a manifest.
    ///
    /// ```
    /// # use palisade_abi::manifest::Manifest;
    /// // A test of a plugin does this with `include_str!("manifest.ron")`.
    /// let said = Manifest::parse("(name: \"Example\", version: \"1\", seam: \"1.1\", summary: \"\", stages: [], reference: \"()\")");
    /// assert_eq!(said.unwrap_err(), "`Example` is no plugin name: lower-case letters, digits, `-`");
    /// ```
    ///
    /// # Errors
    /// In words: what is wrong and where.
    pub fn parse(text: &str) -> Result<Self, String> {
        let manifest: Self = ron::from_str(text).map_err(|e| e.to_string())?;
        let plain = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-';
        if manifest.name.is_empty() || !manifest.name.chars().all(plain) {
            return Err(format!("`{}` is no plugin name: lower-case letters, digits, `-`", manifest.name));
        }
        if manifest.seam_version().is_none() {
            return Err(format!("`{}` is no version of the seam: `major.minor`", manifest.seam));
        }
        Ok(manifest)
    }

    /// The seam's version, as (major, minor).
    ///
    /// ```
    /// # use palisade_abi::manifest::Manifest;
    /// # let text = "(name: \"x\", version: \"1\", seam: \"1.1\", summary: \"\", stages: [], reference: \"()\")";
    /// assert_eq!(Manifest::parse(text)?.seam_version(), Some((1, 1)));
    /// # Ok::<(), String>(())
    /// ```
    #[must_use]
    pub fn seam_version(&self) -> Option<(u32, u32)> {
        let (major, minor) = self.seam.split_once('.')?;
        Some((major.parse().ok()?, minor.parse().ok()?))
    }
}
