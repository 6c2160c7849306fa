//! The section of a policy. `manifest.ron` holds the reference that sets every option.

use std::fmt;

use palisade_abi::At;
use palisade_abi::units::{AbsPath, Text, Time};
use serde::de::value::StrDeserializer;
use serde::de::{Unexpected, Visitor};
use serde::{Deserialize, Deserializer};

palisade_abi::layered! {
    /// The section `namespaces`. A kind that is not named is the host's.
    pub(crate) struct Config {
        /// Mounts.
        pub(crate) mount: Option<At<Choice>>,
        /// Process ids.
        pub(crate) pid: Option<At<Choice>>,
        /// Interfaces, routes, ports, abstract sockets.
        pub(crate) net: Option<At<Choice>>,
        /// System V and POSIX message queues.
        pub(crate) ipc: Option<At<Choice>>,
        /// Host and domain name.
        pub(crate) uts: Option<At<Choice>>,
        /// User and group ids, and what capabilities mean.
        pub(crate) user: Option<At<User>>,
        /// Paths of cgroups.
        pub(crate) cgroup: Option<At<Choice>>,
        /// The clocks since boot.
        pub(crate) time: Option<At<Choice>>,
        /// The host name inside.
        pub(crate) hostname: Option<At<Text>>,
        /// The NIS domain name inside.
        pub(crate) domainname: Option<At<Text>>,
        /// Whether the interface `lo` is brought up.
        pub(crate) loopback: Option<At<bool>>,
        /// How far the clocks are moved.
        pub(crate) time_offsets: Offsets,
        /// Which ids inside are which outside.
        pub(crate) ids: Option<At<Ids>>,
        /// Whether setgroups(2) is allowed inside.
        pub(crate) setgroups: Option<At<Setgroups>>,
        /// Whether user namespaces can be made inside.
        pub(crate) nested: Option<At<Nested>>,
    }

    /// How far the clocks of a new time namespace are from the host's.
    pub(crate) struct Offsets {
        /// CLOCK_BOOTTIME.
        pub(crate) boottime: Option<At<Offset>>,
        /// CLOCK_MONOTONIC.
        pub(crate) monotonic: Option<At<Offset>>,
    }
}

/// Whose namespace of one kind the workload is in.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
pub(crate) enum Choice {
    New,
    Host,
    Join(Target),
}

/// The same for the user namespace.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
pub(crate) enum User {
    New,
    Host,
    /// New where the launcher lacks CAP_SYS_ADMIN, else the host's.
    AsNeeded,
    Join(Target),
}

/// Where a namespace is to be found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Target {
    /// The one of a process.
    Pid(i32),
    /// A file: `/proc/PID/ns/KIND` or a bind mount of one.
    Path(AbsPath),
    /// The one of a run of palisade that has this name.
    Run(String),
}

impl fmt::Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Pid(pid) => write!(f, "process {pid}"),
            Self::Path(path) => write!(f, "{path}"),
            Self::Run(name) => write!(f, "the run `{name}`"),
        }
    }
}

impl<'de> Deserialize<'de> for Target {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        from.deserialize_any(TargetVisitor)
    }
}

struct TargetVisitor;

impl Visitor<'_> for TargetVisitor {
    type Value = Target;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(
            "a process id such as 1234, a path such as \"/run/netns/blue\", or the name of a run such as \"blue\"",
        )
    }

    fn visit_u64<E: serde::de::Error>(self, number: u64) -> Result<Target, E> {
        match i32::try_from(number) {
            Ok(pid) if pid > 0 => Ok(Target::Pid(pid)),
            _ => Err(E::invalid_value(Unexpected::Unsigned(number), &self)),
        }
    }

    fn visit_str<E: serde::de::Error>(self, text: &str) -> Result<Target, E> {
        if !text.is_empty() && !text.contains(['/', '$']) {
            return Ok(Target::Run(text.to_owned()));
        }
        AbsPath::deserialize(StrDeserializer::<E>::new(text)).map(Target::Path)
    }
}

/// Which ids inside are which outside.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
pub(crate) enum Ids {
    /// Started by root: one id, which outside owns nothing. By an ordinary user: that user.
    Auto,
    /// The caller's own, alike inside and outside.
    Keep,
    /// As written.
    Map { uid: Vec<(u32, u32, u32)>, gid: Vec<(u32, u32, u32)> },
}

/// Whether setgroups(2) is allowed in a new user namespace.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
pub(crate) enum Setgroups {
    Allow,
    Deny,
}

/// Whether the workload can make user namespaces of its own.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
pub(crate) enum Nested {
    Allow,
    Deny,
}

/// Seconds forward or back: `"+1h"`, `"-30min"`, `3600`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Offset(pub(crate) i64);

impl<'de> Deserialize<'de> for Offset {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        from.deserialize_any(OffsetVisitor)
    }
}

struct OffsetVisitor;

impl Visitor<'_> for OffsetVisitor {
    type Value = Offset;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("whole seconds, or a text such as \"+1h\", \"-30min\"")
    }

    fn visit_i64<E: serde::de::Error>(self, seconds: i64) -> Result<Offset, E> {
        Ok(Offset(seconds))
    }

    fn visit_u64<E: serde::de::Error>(self, seconds: u64) -> Result<Offset, E> {
        let too_large = |_e| E::invalid_value(Unexpected::Unsigned(seconds), &self);
        i64::try_from(seconds).map(Offset).map_err(too_large)
    }

    fn visit_str<E: serde::de::Error>(self, text: &str) -> Result<Offset, E> {
        let (sign, length) = match text.strip_prefix('-') {
            Some(length) => (-1, length),
            None => (1, text.strip_prefix('+').unwrap_or(text)),
        };
        let time: Time = length.parse().map_err(E::custom)?;
        if time.0.subsec_nanos() != 0 {
            return Err(E::custom(format!("`{text}` is not a whole number of seconds")));
        }
        let seconds = i64::try_from(time.0.as_secs()).map_err(E::custom)?;
        Ok(Offset(sign * seconds))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use palisade_model::diag::SourceId;
    use palisade_model::layer::{Fragment, parse};
    use palisade_model::vars::Vars;

    fn section(text: &str) -> Result<Config, String> {
        parse(&Fragment::policy(SourceId(0), text, 0), &Vars::new()).map_err(|e| e.message)
    }

    #[test]
    fn namespaces_are_joined_by_path_or_process() {
        let config = section(r#"( net: Join("/run/netns/blue"), ipc: Join(77), user: AsNeeded )"#).unwrap();
        let path = AbsPath::deserialize(StrDeserializer::<serde::de::value::Error>::new("/run/netns/blue"));
        assert_eq!(config.net.unwrap().value, Choice::Join(Target::Path(path.unwrap())));
        assert_eq!(config.ipc.unwrap().value, Choice::Join(Target::Pid(77)));
        assert_eq!(config.user.unwrap().value, User::AsNeeded);
        assert!(section("( net: Join(0) )").is_err());
        let config = section("( net: Join(\"blue\") )").unwrap();
        assert_eq!(config.net.unwrap().value, Choice::Join(Target::Run("blue".to_owned())));
        assert!(section("( net: Join(\"\") )").is_err());
        assert!(section("( net: Join(\"blue/net\") )").is_err());
        assert!(section("( net: AsNeeded )").unwrap_err().contains("AsNeeded"));
    }

    #[test]
    fn offsets_go_forward_and_back() {
        for (text, seconds) in [("\"+1h\"", 3600), ("\"-30min\"", -1800), ("5", 5), ("-5", -5), ("\"2s\"", 2)] {
            let config = section(&format!("( time_offsets: (boottime: {text}) )")).unwrap();
            assert_eq!(config.time_offsets.boottime.unwrap().value, Offset(seconds), "{text}");
        }
        assert!(section("( time_offsets: (boottime: \"1500ms\") )").is_err());
        assert!(section("( time_offsets: (boottime: \"soon\") )").is_err());
    }

    #[test]
    fn a_map_is_a_list_of_ranges() {
        let config = section("( ids: Map(uid: [(0, 100000, 65536)], gid: [(0, 100000, 65536)]) )").unwrap();
        let Ids::Map { uid, gid } = config.ids.unwrap().value else { panic!() };
        assert_eq!((uid, gid), (vec![(0, 100_000, 65536)], vec![(0, 100_000, 65536)]));
        assert!(section("( ids: Map(uid: [(0, -1, 1)], gid: []) )").is_err());
    }
}
