//! Ready-made steps: what is to be done, as data. palisade itself carries them out, so a plugin needs no code in the
//! child for them.

use serde::{Deserialize, Deserializer, Serialize, Serializer, de};
use std::fmt;

/// A ready-made step. It crosses the seam as RON text, the form in which a plugin in C writes it: the name of the
/// kind, then its fields. Since seam 1.1.
///
/// What each kind does, where it may stand and how it is read back is in `docs/ready.md`. A kind that palisade does
/// not know, and one in a stage where it makes no sense, ends the launch before anything is done.
///
/// ```
/// use palisade_abi::{Ready, Stage, Step};
///
/// let step = Step::ready(Stage::Build, "calls the host `box`", Ready::hostname("box"));
/// assert_eq!(Ready::hostname("box").to_text(), r#"Hostname(name:"box")"#);
/// assert_eq!(Ready::parse(r#"Hostname(name: "box")"#), Ok(Ready::hostname("box")));
/// # drop(step);
/// ```
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
#[non_exhaustive]
pub enum Ready {
    /// Writes a file: made with [`Ready::write_file`] or [`Ready::make_file`].
    #[non_exhaustive]
    WriteFile {
        /// The file, from `/` on.
        path: String,
        /// What is to stand in it.
        text: String,
        /// The permission bits of a file that is made; without it the file must be there.
        #[serde(default)]
        mode: Option<u32>,
    },
    /// Makes a directory: made with [`Ready::make_directory`].
    #[non_exhaustive]
    MakeDirectory {
        /// The directory, from `/` on.
        path: String,
        /// Its permission bits, less the umask.
        mode: u32,
    },
    /// Mounts a file system, or binds what is there: made with [`Ready::mount`].
    #[non_exhaustive]
    Mount {
        /// The type of the file system; empty for `bind` and `rbind`.
        #[serde(default)]
        fstype: String,
        /// What is mounted; empty where the type has nothing.
        #[serde(default)]
        source: String,
        /// Where, from `/` on.
        target: String,
        /// `bind`, `rbind`, `ro`, `nosuid`, `nodev`, `noexec`, `noatime`, `nosymfollow`.
        #[serde(default)]
        flags: Vec<String>,
        /// The file system's own options, with commas between.
        #[serde(default)]
        data: String,
    },
    /// Sets a resource limit: made with [`Ready::limit`].
    #[non_exhaustive]
    Limit {
        /// The resource, as in getrlimit(2): `RLIMIT_NOFILE`.
        resource: String,
        /// What may be used.
        soft: Amount,
        /// What it may be raised to.
        hard: Amount,
    },
    /// Sets the host name: made with [`Ready::hostname`].
    #[non_exhaustive]
    Hostname {
        /// The name, 1 to 64 bytes.
        name: String,
    },
    /// Installs a filter of system calls: made with [`Ready::filter`].
    #[non_exhaustive]
    Filter {
        /// The program in classic BPF: code, jt, jf and k of each instruction, as in seccomp(2).
        instructions: Vec<(u16, u8, u8, u32)>,
        /// `LOG`, `SPEC_ALLOW`.
        #[serde(default)]
        flags: Vec<String>,
    },
    /// Asks for new namespaces when the process is made: made with [`Ready::namespaces`].
    #[non_exhaustive]
    Namespaces {
        /// `CLONE_NEWNS`, `CLONE_NEWUTS` and so on, as in clone(2).
        flags: Vec<String>,
    },
}

/// A limit: a number in the resource's own unit, or none.
///
/// ```
/// # use palisade_abi::{Amount, Ready};
/// let limit = Ready::limit("RLIMIT_CORE", Amount::Number(0), Amount::Unlimited);
/// assert_eq!(limit, Ready::limit("RLIMIT_CORE", 0, Amount::Unlimited));
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Amount {
    /// So much.
    Number(u64),
    /// As much as is wanted; written `"unlimited"`.
    Unlimited,
}

impl From<u64> for Amount {
    fn from(number: u64) -> Self {
        Self::Number(number)
    }
}

impl Serialize for Amount {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Self::Number(number) => serializer.serialize_u64(*number),
            Self::Unlimited => serializer.serialize_str("unlimited"),
        }
    }
}

impl<'de> Deserialize<'de> for Amount {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Seen;

        impl de::Visitor<'_> for Seen {
            type Value = Amount;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a number or \"unlimited\"")
            }

            fn visit_u64<E: de::Error>(self, number: u64) -> Result<Amount, E> {
                Ok(Amount::Number(number))
            }

            fn visit_str<E: de::Error>(self, text: &str) -> Result<Amount, E> {
                if text == "unlimited" {
                    return Ok(Amount::Unlimited);
                }
                Err(E::invalid_value(de::Unexpected::Str(text), &self))
            }
        }

        deserializer.deserialize_any(Seen)
    }
}

fn texts<S: Into<String>>(all: impl IntoIterator<Item = S>) -> Vec<String> {
    all.into_iter().map(Into::into).collect()
}

impl Ready {
    /// Writes a file that is there. On the host, undoing puts back what stood in it.
    ///
    /// ```
    /// # use palisade_abi::Ready;
    /// let ready = Ready::write_file("/proc/sys/net/ipv4/ip_forward", "1");
    /// # let _ = ready;
    /// ```
    pub fn write_file(path: impl Into<String>, text: impl Into<String>) -> Self {
        Self::WriteFile { path: path.into(), text: text.into(), mode: None }
    }

    /// Writes a file, and makes it with these permission bits (less the umask) where there is none. On the host, undoing
    /// puts back what stood in it, or removes it.
    ///
    /// ```
    /// # use palisade_abi::Ready;
    /// let ready = Ready::make_file("/run/mine/state", "running\n", 0o644);
    /// # let _ = ready;
    /// ```
    pub fn make_file(path: impl Into<String>, text: impl Into<String>, mode: u32) -> Self {
        Self::WriteFile { path: path.into(), text: text.into(), mode: Some(mode) }
    }

    /// Makes a directory, unless it is there. On the host, undoing removes one that was made.
    ///
    /// ```
    /// # use palisade_abi::Ready;
    /// let ready = Ready::make_directory("/run/mine", 0o755);
    /// # let _ = ready;
    /// ```
    pub fn make_directory(path: impl Into<String>, mode: u32) -> Self {
        Self::MakeDirectory { path: path.into(), mode }
    }

    /// Mounts a file system. For a bind mount `fstype` is empty and `bind` or `rbind` (with all below) is among the
    /// flags.
    ///
    /// ```
    /// # use palisade_abi::Ready;
    /// let fresh = Ready::mount("tmpfs", "", "/tmp", ["nosuid", "nodev"], "size=16m");
    /// let bound = Ready::mount("", "/usr/share/zoneinfo", "/zones", ["bind", "ro"], "");
    /// assert_ne!(fresh, bound);
    /// ```
    pub fn mount<S: Into<String>>(
        fstype: impl Into<String>,
        source: impl Into<String>,
        target: impl Into<String>,
        flags: impl IntoIterator<Item = S>,
        data: impl Into<String>,
    ) -> Self {
        let (fstype, source, target) = (fstype.into(), source.into(), target.into());
        Self::Mount { fstype, source, target, flags: texts(flags), data: data.into() }
    }

    /// Sets a resource limit, by its name in getrlimit(2).
    ///
    /// ```
    /// # use palisade_abi::Ready;
    /// let ready = Ready::limit("RLIMIT_NOFILE", 64, 64);
    /// # let _ = ready;
    /// ```
    pub fn limit(resource: impl Into<String>, soft: impl Into<Amount>, hard: impl Into<Amount>) -> Self {
        Self::Limit { resource: resource.into(), soft: soft.into(), hard: hard.into() }
    }

    /// Sets the host name.
    ///
    /// ```
    /// # use palisade_abi::Ready;
    /// let ready = Ready::hostname("fence");
    /// # let _ = ready;
    /// ```
    pub fn hostname(name: impl Into<String>) -> Self {
        Self::Hostname { name: name.into() }
    }

    /// Installs a filter of system calls: code, jt, jf and k of each instruction.
    ///
    /// ```
    /// # use palisade_abi::Ready;
    /// const LD_NR: (u16, u8, u8, u32) = (0x20, 0, 0, 0);
    /// const RET_ALLOW: (u16, u8, u8, u32) = (0x06, 0, 0, 0x7fff_0000);
    /// let nothing_denied = Ready::filter([LD_NR, RET_ALLOW], [""; 0]);
    /// # let _ = nothing_denied;
    /// ```
    pub fn filter<S: Into<String>>(
        instructions: impl IntoIterator<Item = (u16, u8, u8, u32)>,
        flags: impl IntoIterator<Item = S>,
    ) -> Self {
        Self::Filter { instructions: instructions.into_iter().collect(), flags: texts(flags) }
    }

    /// Asks for new namespaces, by their names in clone(2).
    ///
    /// ```
    /// # use palisade_abi::Ready;
    /// let ready = Ready::namespaces(["CLONE_NEWUTS", "CLONE_NEWIPC"]);
    /// # let _ = ready;
    /// ```
    pub fn namespaces<S: Into<String>>(flags: impl IntoIterator<Item = S>) -> Self {
        Self::Namespaces { flags: texts(flags) }
    }

    /// Its text, as it crosses the seam.
    ///
    /// ```
    /// # use palisade_abi::Ready;
    /// assert_eq!(Ready::hostname("box").to_text(), r#"Hostname(name:"box")"#);
    /// ```
    #[must_use]
    pub fn to_text(&self) -> String {
        // Nothing in it can fail to be written; an empty text would be refused by whoever reads it.
        ron::to_string(self).unwrap_or_default()
    }

    /// Reads it from its text.
    ///
    /// ```
    /// # use palisade_abi::Ready;
    /// assert_eq!(Ready::parse(r#"Hostname(name: "box")"#), Ok(Ready::hostname("box")));
    /// assert!(Ready::parse(r#"Hostnaem(name: "box")"#).is_err());
    /// ```
    ///
    /// # Errors
    /// In words: a kind or a field that is not known, and where.
    pub fn parse(text: &str) -> Result<Self, String> {
        let options = ron::Options::default().with_default_extension(ron::extensions::Extensions::IMPLICIT_SOME);
        options.from_str(text).map_err(|error| error.to_string())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_kind_is_read_as_it_is_written() {
        let all = [
            Ready::write_file("/proc/sys/net/ipv4/ip_forward", "1"),
            Ready::make_file("/a \"b\"", "x\n", 0o640),
            Ready::make_directory("/a", 0o755),
            Ready::mount("tmpfs", "", "/tmp", ["ro", "nosuid"], "size=1m"),
            Ready::limit("RLIMIT_NOFILE", 64, Amount::Unlimited),
            Ready::hostname("box"),
            Ready::filter([(6, 0, 0, 0x7fff_0000)], ["LOG"]),
            Ready::namespaces(["CLONE_NEWUTS"]),
        ];
        for ready in all {
            assert_eq!(Ready::parse(&ready.to_text()), Ok(ready));
        }
    }

    #[test]
    fn a_text_of_an_author_may_leave_out_what_has_a_default() {
        let made = Ready::parse("WriteFile(path: \"/x\", text: \"1\", mode: 0o644)");
        assert_eq!(made, Ok(Ready::make_file("/x", "1", 0o644)));
        let mount = Ready::parse("Mount(fstype: \"tmpfs\", target: \"/tmp\")");
        assert_eq!(mount, Ok(Ready::mount("tmpfs", "", "/tmp", [""; 0], "")));
        let limit = Ready::parse("Limit(resource: \"RLIMIT_CPU\", soft: 1, hard: \"unlimited\")");
        assert_eq!(limit, Ok(Ready::limit("RLIMIT_CPU", 1, Amount::Unlimited)));
    }

    #[test]
    fn what_is_not_known_is_refused() {
        for (text, said) in [
            ("Teleport(to: \"/\")", "Teleport"),
            ("Hostname(name: \"x\", domain: \"y\")", "domain"),
            ("Hostname()", "name"),
            ("Limit(resource: \"RLIMIT_CPU\", soft: \"much\", hard: 1)", "unlimited"),
            ("Limit(resource: \"RLIMIT_CPU\", soft: -1, hard: 1)", "unlimited"),
            ("Hostname(name: \"x\") more", "1:"),
            ("", "1:1"),
        ] {
            let error = Ready::parse(text).unwrap_err();
            assert!(error.contains(said), "{text}: {error}");
        }
    }

    /// A palisade of seam 1.0 does not ask for the text; it must not take the step for done.
    #[test]
    fn who_does_not_know_of_them_is_refused() {
        struct Nothing;
        impl crate::seam::ContextObject for Nothing {
            fn number(&self, _name: abi_stable::std_types::RStr<'_>) -> abi_stable::std_types::ROption<i64> {
                abi_stable::std_types::ROption::RNone
            }
            fn offer_cgroup(&mut self, _fd: i32) {}
        }
        use crate::wrap::{lend, step};
        let mut made = step(crate::Step::ready(crate::Stage::Build, "names it", Ready::hostname("box")));
        let said = "this palisade knows no ready-made steps";
        assert_eq!(made.apply(lend(&mut Nothing)).unwrap_err().message, said);
        assert_eq!(made.verify(lend(&mut Nothing)).unwrap_err().message, said);
        assert_eq!(made.ready().into_option().unwrap(), "Hostname(name:\"box\")");
        // Its twin has no text, and is asked to do it.
        let own = crate::Step::run(crate::Stage::Build, "does it", |_| Ok("done"));
        let mut own = step(own);
        assert_eq!(own.apply(lend(&mut Nothing)).unwrap(), "done");
        assert!(own.ready().is_none());
    }
}
