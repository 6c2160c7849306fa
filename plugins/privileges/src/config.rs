//! The section `"privileges"` of a policy.

use crate::securebits::SecureBit;
use palisade_abi::serde::de::{self, Deserialize, Deserializer, Visitor};
use palisade_abi::{At, Demand};
use palisade_sys::caps;
use std::fmt;

palisade_abi::layered! {
    /// The section of this plugin in a policy.
    pub(crate) struct Config {
        /// Whether execve can no longer give privileges. Default: true.
        pub no_new_privs: Option<At<bool>>,
        /// What stays in which capability set. Default: nothing in any.
        pub capabilities: Capabilities,
        /// Securebits to set. Default: none.
        pub securebits: Vec<At<SecureBit>>,
        /// Whether the workload gets a session keyring of its own. Default: New.
        pub keyring: Option<At<Keyring>>,
        /// What becomes of the launch where it cannot.
        pub keyring_demand: Option<At<Demand>>,
        /// What becomes of the launch where the bounding set cannot be changed.
        pub bounding_demand: Option<At<Demand>>,
    }

    /// What stays in which set.
    pub(crate) struct Capabilities {
        /// Capabilities that the workload is to have: they go into all five sets.
        pub keep: Vec<At<CapName>>,
        /// What execve may still give, to uid 0 or by a file's own capabilities.
        pub bounding: Vec<At<CapName>>,
        /// What may be made effective.
        pub permitted: Vec<At<CapName>>,
        /// What is checked.
        pub effective: Vec<At<CapName>>,
        /// What survives execve of a file that has it, too.
        pub inheritable: Vec<At<CapName>>,
        /// What survives execve of any file without setuid bits and capabilities.
        pub ambient: Vec<At<CapName>>,
    }
}

/// The session keyring of the workload.
#[derive(Clone, Copy, Debug, PartialEq, Eq, palisade_abi::serde::Deserialize)]
#[serde(crate = "palisade_abi::serde")]
pub(crate) enum Keyring {
    /// Empty, and nobody else's.
    New,
    /// The launcher's.
    Inherit,
}

/// A capability, with or without `CAP_`, in any case; or `all`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum CapName {
    /// Whatever the set can hold at that moment.
    All,
    /// One, by its number.
    One(u8),
}

impl fmt::Display for CapName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::All => f.write_str("all"),
            Self::One(cap) => f.write_str(caps::name(*cap).unwrap_or("an unknown capability")),
        }
    }
}

struct CapVisitor;

impl Visitor<'_> for CapVisitor {
    type Value = CapName;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the name of a capability, or \"all\"")
    }

    fn visit_str<E: de::Error>(self, name: &str) -> Result<CapName, E> {
        if name.eq_ignore_ascii_case("all") {
            return Ok(CapName::All);
        }
        caps::number(name).map(CapName::One).ok_or_else(|| E::custom(unknown(name)))
    }
}

fn unknown(name: &str) -> String {
    let upper = name.to_ascii_uppercase();
    let bare = upper.strip_prefix("CAP_").unwrap_or(&upper);
    let close = caps::NAMES
        .iter()
        .filter_map(|known| known.strip_prefix("CAP_"))
        .map(|known| (strsim::normalized_damerau_levenshtein(bare, known), known))
        .filter(|(score, _)| *score >= 0.7)
        .max_by(|a, b| a.0.total_cmp(&b.0));
    match close {
        Some((_, known)) => format!("unknown capability `{name}`\ndid you mean `{}`?", known.to_ascii_lowercase()),
        None => format!("unknown capability `{name}`\ncapabilities(7) names them; `all` stands for every one"),
    }
}

impl<'de> Deserialize<'de> for CapName {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        from.deserialize_str(CapVisitor)
    }
}
