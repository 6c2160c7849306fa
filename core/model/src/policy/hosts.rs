//! Which plugins run where: `hosts: { "NAME": Process }`.

use std::fmt;

use serde::de::{MapAccess, Visitor};
use serde::{Deserialize, Deserializer, Serialize};

use crate::diag::Diagnostic;
use crate::layer::At;

/// Where a plugin's own code runs.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum Hosting {
    /// In the launcher's own process, with the launcher's rights.
    #[default]
    Launcher,
    /// In a confined process of its own; its steps are ready-made ones.
    Process,
}

impl Hosting {
    /// Every choice, as a policy writes it.
    pub const NAMES: [&str; 2] = ["Launcher", "Process"];

    /// Reads what a policy writes.
    #[must_use]
    pub fn named(name: &str) -> Option<Self> {
        match name {
            "Launcher" => Some(Self::Launcher),
            "Process" => Some(Self::Process),
            _ => None,
        }
    }

    /// In one word, as the report has it.
    #[must_use]
    pub const fn word(self) -> &'static str {
        match self {
            Self::Launcher => "launcher",
            Self::Process => "process",
        }
    }
}

/// Plugins and their places, in the order in which they were written.
type Entries = Vec<(At<String>, At<Hosting>)>;

/// The map.
#[derive(Default)]
pub(super) struct Hosts(Entries);

impl<'de> Deserialize<'de> for Hosts {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        struct Pairs;
        impl<'de> Visitor<'de> for Pairs {
            type Value = Hosts;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a map of plugins in braces `{ \"name\": Process }`")
            }
            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
                let mut pairs = Vec::new();
                while let Some(pair) = map.next_entry()? {
                    pairs.push(pair);
                }
                Ok(Hosts(pairs))
            }
        }
        from.deserialize_map(Pairs)
    }
}

impl Hosts {
    /// Refuses a name that is given twice: one of the two would be ignored.
    pub(super) fn checked(self) -> Result<Entries, Diagnostic> {
        for (index, (name, _)) in self.0.iter().enumerate() {
            let first = self.0.iter().take(index).find(|(other, _)| other.value == name.value);
            if let Some((first, _)) = first {
                return Err(Diagnostic::new(format!("`hosts` names `{}` twice", name.value))
                    .at_opt(name.origin)
                    .also("first", first.origin)
                    .help("remove one of the two: it would be ignored"));
            }
        }
        Ok(self.0)
    }
}
