//! What the section says of each capability set, and the rules between the sets. Pure.

use crate::config::{CapName, Capabilities};
use palisade_abi::{At, Error};
use palisade_sys::caps::{CapSet, Caps};
use std::fmt;

/// What is to stay in one set.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Wanted {
    pub(crate) named: CapSet,
    pub(crate) all: bool,
}

impl Wanted {
    fn of(keep: &[At<CapName>], own: &[At<CapName>]) -> Self {
        keep.iter().chain(own).fold(Self::default(), |mut wanted, name| {
            match name.value {
                CapName::All => wanted.all = true,
                CapName::One(cap) => wanted.named = wanted.named.with(cap),
            }
            wanted
        })
    }

    fn covers(self, name: CapName) -> bool {
        match name {
            CapName::All => self.all,
            CapName::One(cap) => self.all || self.named.contains(cap),
        }
    }

    pub(crate) fn is_empty(self) -> bool {
        !self.all && self.named.is_empty()
    }

    /// The set itself, where `all` means `most`.
    pub(crate) fn within(self, most: CapSet) -> CapSet {
        if self.all { CapSet(most.0 | self.named.0) } else { self.named }
    }

    /// Whether what was read back is what was wanted. `all` is whatever was there, so only what is named can be missing.
    pub(crate) fn is(self, seen: u64) -> bool {
        if self.all { seen & self.named.0 == self.named.0 } else { seen == self.named.0 }
    }
}

impl fmt::Display for Wanted {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (self.all, self.named.is_empty()) {
            (true, _) => f.write_str("all"),
            (false, true) => f.write_str("nothing"),
            (false, false) => self.named.fmt(f),
        }
    }
}

/// The five sets.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Sets {
    pub(crate) bounding: Wanted,
    pub(crate) permitted: Wanted,
    pub(crate) effective: Wanted,
    pub(crate) inheritable: Wanted,
    pub(crate) ambient: Wanted,
}

/// The four sets as they are to be, with every `all` decided.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Exact {
    pub(crate) caps: Caps,
    pub(crate) ambient: CapSet,
}

impl Sets {
    pub(crate) fn of(config: &Capabilities) -> Self {
        let set = |own| Wanted::of(&config.keep, own);
        Self {
            bounding: set(&config.bounding),
            permitted: set(&config.permitted),
            effective: set(&config.effective),
            inheritable: set(&config.inheritable),
            ambient: set(&config.ambient),
        }
    }

    /// Decides every `all`, by what the process has now.
    pub(crate) fn exact(&self, permitted: CapSet, bounding: CapSet) -> Exact {
        let permitted = self.permitted.within(permitted);
        let effective = self.effective.within(permitted);
        let inheritable = self.inheritable.within(permitted.and(bounding));
        let ambient = self.ambient.within(permitted.and(inheritable));
        Exact { caps: Caps { effective, permitted, inheritable }, ambient }
    }

    /// Whether nothing is left in the four sets of the process itself.
    pub(crate) fn empty(&self) -> bool {
        [self.permitted, self.effective, self.inheritable, self.ambient].into_iter().all(Wanted::is_empty)
    }

    /// What uid 0 gets at execve without being permitted to have it: as uid 0 every file counts as having all
    /// capabilities, so permitted becomes inheritable and bounding together.
    pub(crate) fn regained_by_root(&self, bounding: Wanted) -> Option<Wanted> {
        if self.permitted.all {
            return None;
        }
        let both = Wanted {
            all: bounding.all || self.inheritable.all,
            named: CapSet(bounding.named.0 | self.inheritable.named.0).minus(self.permitted.named),
        };
        (!both.is_empty()).then_some(both)
    }
}

/// The kernel's rules between the sets, in the policy's words. `bounding_changes`: the bounding set becomes what the
/// section says; otherwise it stays as it is.
///
/// # Errors
/// A policy error at the line that breaks one.
pub(crate) fn check(config: &Capabilities, sets: &Sets, bounding_changes: bool) -> Result<(), Error> {
    let within = |names: &[At<CapName>], set: &str, other: Wanted, other_name: &str| match names
        .iter()
        .find(|name| !other.covers(name.value))
    {
        None => Ok(()),
        Some(name) => Err(Error::policy(format!("{} is in `{set}`, but not in `{other_name}`", name.value))
            .at(name.origin)
            .help(format!(
                "add it to `{other_name}`, or write `keep: [\"{}\"]`, which puts it into every set that it needs",
                name.value.to_string().to_ascii_lowercase().trim_start_matches("cap_")
            ))),
    };
    within(&config.effective, "effective", sets.permitted, "permitted")?;
    within(&config.ambient, "ambient", sets.permitted, "permitted")?;
    within(&config.ambient, "ambient", sets.inheritable, "inheritable")?;
    if bounding_changes {
        within(&config.inheritable, "inheritable", sets.bounding, "bounding")?;
    }
    Ok(())
}
