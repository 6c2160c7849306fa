//! What a plugin is told of the host and of the launch.

use crate::error::Error;
use palisade_model::vars::{BUILTINS, Vars};
use std::collections::BTreeMap;
use std::str::FromStr;

/// Facts about the host and about this launch.
#[derive(Clone, Debug, Default)]
pub struct Host {
    pub(crate) facts: BTreeMap<String, String>,
}

impl Host {
    /// Makes one from named facts.
    pub fn new(facts: impl IntoIterator<Item = (String, String)>) -> Self {
        Self { facts: facts.into_iter().collect() }
    }

    /// Gives a fact by name.
    #[must_use]
    pub fn fact(&self, name: &str) -> Option<&str> {
        self.facts.get(name).map(String::as_str)
    }

    fn parsed<T: FromStr>(&self, name: &str) -> Result<T, Error> {
        self.fact(name)
            .and_then(|text| text.parse().ok())
            .ok_or_else(|| Error::new(crate::ErrorKind::Plugin, format!("palisade did not tell the fact `{name}`")))
    }

    /// The launcher's effective user id.
    ///
    /// # Errors
    /// The fact is missing.
    pub fn uid(&self) -> Result<u32, Error> {
        self.parsed("uid")
    }

    /// The launcher's effective group id.
    ///
    /// # Errors
    /// The fact is missing.
    pub fn gid(&self) -> Result<u32, Error> {
        self.parsed("gid")
    }

    /// The launcher's effective capabilities, as the kernel's bit mask.
    ///
    /// # Errors
    /// The fact is missing.
    pub fn capabilities(&self) -> Result<u64, Error> {
        self.parsed("capabilities")
    }

    /// Whether the launcher holds a capability, by its number.
    #[must_use]
    pub fn has_capability(&self, number: u32) -> bool {
        self.capabilities().is_ok_and(|set| set >> number & 1 == 1)
    }

    /// The kernel's version, as (major, minor).
    ///
    /// # Errors
    /// The fact is missing.
    pub fn kernel(&self) -> Result<(u32, u32), Error> {
        Ok((self.parsed("kernel_major")?, self.parsed("kernel_minor")?))
    }

    /// A name for this launch that no other has: letters, digits and `-`.
    ///
    /// # Errors
    /// The fact is missing.
    pub fn run_id(&self) -> Result<String, Error> {
        self.parsed("run_id")
    }

    /// The id the workload will have inside, where the policy or the caller fixes one (`workload_uid`).
    #[must_use]
    pub fn workload_uid(&self) -> Option<u32> {
        self.parsed("workload_uid").ok()
    }

    /// As [`Host::workload_uid`], for the group.
    #[must_use]
    pub fn workload_gid(&self) -> Option<u32> {
        self.parsed("workload_gid").ok()
    }

    /// The first process of a run of this user that has a name and goes on, and when it was born, in ticks since the
    /// host's boot: by that a number which was used again is told apart. Since seam 1.1.
    #[must_use]
    pub fn run(&self, name: &str) -> Option<(i32, u64)> {
        let (pid, born) = self.fact(&format!("run.{name}"))?.split_once(' ')?;
        Some((pid.parse().ok()?, born.parse().ok()?))
    }

    /// Whether somebody wants to know why things are denied, and takes it that they are denied more slowly.
    #[must_use]
    pub fn explains(&self) -> bool {
        self.fact("explain").is_some()
    }

    /// Whether the policy also uses the plugin of that name.
    #[must_use]
    pub fn uses(&self, plugin: &str) -> bool {
        self.fact("plugins").is_some_and(|all| all.split(' ').any(|name| name == plugin))
    }

    /// The policy's variables; every path and text in a section is already expanded.
    #[must_use]
    pub fn vars(&self) -> Vars {
        let mut vars = Vars::new();
        for (name, value) in &self.facts {
            if let Some(name) = name.strip_prefix("var.") {
                if BUILTINS.contains(&name) {
                    vars.set_builtin(name, value);
                } else if vars.define(name, value).is_err() {
                    // palisade checked the name before it made a fact of it; one that is not valid
                    // stays undefined, and a policy that uses it is refused.
                    continue;
                }
            }
        }
        vars
    }
}
