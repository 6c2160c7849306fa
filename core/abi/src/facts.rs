//! What a plugin is told of the host and of the launch.

use crate::error::Error;
use palisade_model::vars::{BUILTINS, Vars};
use std::collections::BTreeMap;
use std::str::FromStr;

/// Facts about the host and about this launch.
///
/// ```
/// # use palisade_abi::{Error, Host};
/// fn check(host: &Host) -> Result<(), Error> {
///     let (major, minor) = host.kernel()?;
///     if (major, minor) < (5, 14) {
///         return Err(Error::host(format!("Linux {major}.{minor} cannot do it")).help("it came with 5.14"));
///     }
///     Ok(())
/// }
/// // In a test a host is made from facts.
/// let host = |minor: &str| Host::new([("kernel_major", "5"), ("kernel_minor", minor)].map(|(n, f)| (n.into(), f.into())));
/// assert!(check(&host("10")).is_err() && check(&host("15")).is_ok());
/// ```
#[derive(Clone, Debug, Default)]
pub struct Host {
    pub(crate) facts: BTreeMap<String, String>,
}

impl Host {
    /// Makes one from named facts.
    ///
    /// ```
    /// # use palisade_abi::Host;
    /// let host = Host::new([("uid".to_owned(), "1000".to_owned())]);
    /// assert_eq!(host.uid().unwrap(), 1000);
    /// ```
    pub fn new(facts: impl IntoIterator<Item = (String, String)>) -> Self {
        Self { facts: facts.into_iter().collect() }
    }

    /// Gives a fact by name.
    ///
    /// ```
    /// # use palisade_abi::Host;
    /// # let told = |name: &str, fact: &str| Host::new([(name.to_owned(), fact.to_owned())]);
    /// assert_eq!(told("run_id", "x1").fact("run_id"), Some("x1"));
    /// assert_eq!(told("run_id", "x1").fact("of a later seam"), None);
    /// ```
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
    /// ```
    /// # use palisade_abi::Host;
    /// # let told = |name: &str, fact: &str| Host::new([(name.to_owned(), fact.to_owned())]);
    /// assert_eq!(told("uid", "1000").uid()?, 1000);
    /// # Ok::<(), palisade_abi::Error>(())
    /// ```
    ///
    /// # Errors
    /// The fact is missing.
    pub fn uid(&self) -> Result<u32, Error> {
        self.parsed("uid")
    }

    /// The launcher's effective group id.
    ///
    /// ```
    /// # use palisade_abi::Host;
    /// # let told = |name: &str, fact: &str| Host::new([(name.to_owned(), fact.to_owned())]);
    /// assert_eq!(told("gid", "100").gid()?, 100);
    /// # Ok::<(), palisade_abi::Error>(())
    /// ```
    ///
    /// # Errors
    /// The fact is missing.
    pub fn gid(&self) -> Result<u32, Error> {
        self.parsed("gid")
    }

    /// The launcher's effective capabilities, as the kernel's bit mask.
    ///
    /// ```
    /// # use palisade_abi::Host;
    /// # let told = |name: &str, fact: &str| Host::new([(name.to_owned(), fact.to_owned())]);
    /// assert_eq!(told("capabilities", "3").capabilities()?, 0b11);
    /// # Ok::<(), palisade_abi::Error>(())
    /// ```
    ///
    /// # Errors
    /// The fact is missing.
    pub fn capabilities(&self) -> Result<u64, Error> {
        self.parsed("capabilities")
    }

    /// Whether the launcher holds a capability, by its number.
    ///
    /// ```
    /// # use palisade_abi::Host;
    /// # let told = |name: &str, fact: &str| Host::new([(name.to_owned(), fact.to_owned())]);
    /// const CAP_SYS_ADMIN: u32 = 21;
    /// assert!(told("capabilities", "2097152").has_capability(CAP_SYS_ADMIN));
    /// assert!(!told("capabilities", "0").has_capability(CAP_SYS_ADMIN));
    /// ```
    #[must_use]
    pub fn has_capability(&self, number: u32) -> bool {
        self.capabilities().is_ok_and(|set| set >> number & 1 == 1)
    }

    /// The kernel's version, as (major, minor).
    ///
    /// ```
    /// # use palisade_abi::Host;
    /// # let host = Host::new([("kernel_major", "6"), ("kernel_minor", "1")].map(|(n, f)| (n.into(), f.into())));
    /// assert!(host.kernel()? >= (5, 14));
    /// # Ok::<(), palisade_abi::Error>(())
    /// ```
    ///
    /// # Errors
    /// The fact is missing.
    pub fn kernel(&self) -> Result<(u32, u32), Error> {
        Ok((self.parsed("kernel_major")?, self.parsed("kernel_minor")?))
    }

    /// A name for this launch that no other has: letters, digits and `-`.
    ///
    /// ```
    /// # use palisade_abi::Host;
    /// # let told = |name: &str, fact: &str| Host::new([(name.to_owned(), fact.to_owned())]);
    /// let name = format!("mine-{}", told("run_id", "1a2b").run_id()?);
    /// assert_eq!(name, "mine-1a2b");
    /// # Ok::<(), palisade_abi::Error>(())
    /// ```
    ///
    /// # Errors
    /// The fact is missing.
    pub fn run_id(&self) -> Result<String, Error> {
        self.parsed("run_id")
    }

    /// The id the workload will have inside, where the policy or the caller fixes one (`workload_uid`).
    ///
    /// ```
    /// # use palisade_abi::Host;
    /// # let told = |name: &str, fact: &str| Host::new([(name.to_owned(), fact.to_owned())]);
    /// assert_eq!(told("workload_uid", "1000").workload_uid(), Some(1000));
    /// assert_eq!(told("uid", "0").workload_uid(), None, "it stays the caller's");
    /// ```
    #[must_use]
    pub fn workload_uid(&self) -> Option<u32> {
        self.parsed("workload_uid").ok()
    }

    /// As [`Host::workload_uid`], for the group.
    ///
    /// ```
    /// # use palisade_abi::Host;
    /// # let told = |name: &str, fact: &str| Host::new([(name.to_owned(), fact.to_owned())]);
    /// assert_eq!(told("workload_gid", "100").workload_gid(), Some(100));
    /// ```
    #[must_use]
    pub fn workload_gid(&self) -> Option<u32> {
        self.parsed("workload_gid").ok()
    }

    /// The first process of a run of this user that has a name and goes on, and when it was born, in ticks since the
    /// host's boot: by that a number which was used again is told apart. Since seam 1.1.
    ///
    /// ```
    /// # use palisade_abi::Host;
    /// # let told = |name: &str, fact: &str| Host::new([(name.to_owned(), fact.to_owned())]);
    /// assert_eq!(told("run.web", "4711 123456").run("web"), Some((4711, 123_456)));
    /// assert_eq!(told("run.web", "4711 123456").run("db"), None);
    /// ```
    #[must_use]
    pub fn run(&self, name: &str) -> Option<(i32, u64)> {
        let (pid, born) = self.fact(&format!("run.{name}"))?.split_once(' ')?;
        Some((pid.parse().ok()?, born.parse().ok()?))
    }

    /// Whether somebody wants to know why things are denied, and takes it that they are denied more slowly.
    ///
    /// ```
    /// # use palisade_abi::Host;
    /// # let told = |name: &str, fact: &str| Host::new([(name.to_owned(), fact.to_owned())]);
    /// assert!(told("explain", "yes").explains() && !Host::default().explains());
    /// ```
    #[must_use]
    pub fn explains(&self) -> bool {
        self.fact("explain").is_some()
    }

    /// Whether the policy also uses the plugin of that name.
    ///
    /// ```
    /// # use palisade_abi::Host;
    /// # let told = |name: &str, fact: &str| Host::new([(name.to_owned(), fact.to_owned())]);
    /// assert!(told("plugins", "namespaces mine").uses("namespaces"));
    /// assert!(!told("plugins", "namespaces mine").uses("name"));
    /// ```
    #[must_use]
    pub fn uses(&self, plugin: &str) -> bool {
        self.fact("plugins").is_some_and(|all| all.split(' ').any(|name| name == plugin))
    }

    /// The policy's variables; every path and text in a section is already expanded.
    ///
    /// ```
    /// # use palisade_abi::Host;
    /// # let told = |name: &str, fact: &str| Host::new([(name.to_owned(), fact.to_owned())]);
    /// assert_eq!(told("var.project", "/src").vars().expand("${project}/x").unwrap(), "/src/x");
    /// ```
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
