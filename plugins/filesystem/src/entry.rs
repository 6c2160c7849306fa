//! One entry of the view. It may be written bare (`System`), with its paths alone (`Bind("/src")`) or with names
//! (`Bind(from: "/src", mode: ReadWrite)`); which of the three is seen from its text.

use palisade_abi::At;
use palisade_abi::units::{AbsPath, Mode, Size, Text};
use ron::extensions::Extensions;
use ron::value::RawValue;
use serde::de::Error as _;
use serde::{Deserialize, Deserializer};

use crate::form::{Form, after_space, form};
use crate::grants::Language;
use crate::overlay::{Overlay, Upper};
pub(crate) use crate::parts::{Bind, Dev, Idmap, Proc, Tmpfs};

/// One entry.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Entry {
    System,
    Bind(Bind),
    Tmpfs(Tmpfs),
    Overlay(Overlay),
    Proc(Proc),
    Dev(Dev),
    Symlink { target: Text, at: AbsPath },
    Dir { path: AbsPath, mode: u32 },
    File { path: AbsPath, content: Text, mode: u32 },
    Mask(AbsPath),
    Deny(AbsPath),
    Cgroup(AbsPath),
    Toolchain { language: Language, optional: bool },
    Git { repo: AbsPath, optional: bool },
    SshAgent { optional: bool },
    Gpu { optional: bool },
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
enum Access {
    #[default]
    ReadOnly,
    ReadWrite,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
enum Subset {
    #[default]
    All,
    Pid,
}

#[derive(Deserialize)]
enum Bare {
    System,
    Proc,
    Dev,
    Cgroup,
    SshAgent,
    Gpu,
}

#[derive(Deserialize)]
enum Positional {
    Bind(AbsPath),
    Tmpfs(AbsPath),
    Overlay(AbsPath),
    Proc(AbsPath),
    Dev(AbsPath),
    Symlink(Text, AbsPath),
    Dir(AbsPath),
    File(AbsPath, Text),
    Mask(AbsPath),
    Deny(AbsPath),
    Cgroup(AbsPath),
    Toolchain(Language),
    Git(AbsPath),
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
enum Named {
    Bind {
        from: AbsPath,
        #[serde(default)]
        to: Option<AbsPath>,
        #[serde(default)]
        mode: Access,
        #[serde(default)]
        optional: bool,
        #[serde(default = "yes")]
        nosuid: bool,
        #[serde(default = "yes")]
        nodev: bool,
        #[serde(default)]
        noexec: bool,
        #[serde(default = "yes")]
        recursive: bool,
        #[serde(default)]
        idmap: Idmap,
    },
    Tmpfs {
        path: AbsPath,
        #[serde(default = "tmpfs_size")]
        size: Size,
        #[serde(default = "tmpfs_inodes")]
        inodes: u32,
        #[serde(default)]
        mode: Option<Mode>,
        #[serde(default)]
        noexec: bool,
    },
    Proc {
        #[serde(default)]
        path: Option<AbsPath>,
        #[serde(default)]
        subset: Subset,
        #[serde(default)]
        sys: Access,
        #[serde(default)]
        mask: Vec<String>,
        #[serde(default)]
        unmask: Vec<String>,
    },
    Dev {
        #[serde(default)]
        path: Option<AbsPath>,
        #[serde(default = "yes")]
        tty: bool,
        #[serde(default = "yes")]
        pts: bool,
        #[serde(default = "tmpfs_size")]
        shm: Size,
    },
    Overlay {
        lower: AbsPath,
        #[serde(default)]
        at: Option<AbsPath>,
        #[serde(default)]
        upper: Upper,
        #[serde(default)]
        size: Option<Size>,
        #[serde(default)]
        inodes: Option<u32>,
    },
    Symlink {
        target: Text,
        at: AbsPath,
    },
    Dir {
        path: AbsPath,
        #[serde(default)]
        mode: Option<Mode>,
    },
    File {
        path: AbsPath,
        content: Text,
        #[serde(default)]
        mode: Option<Mode>,
    },
    Mask {
        path: AbsPath,
    },
    Deny {
        path: AbsPath,
    },
    Cgroup {
        #[serde(default)]
        path: Option<AbsPath>,
    },
    Toolchain {
        language: Language,
        #[serde(default)]
        optional: bool,
    },
    Git {
        repo: AbsPath,
        #[serde(default)]
        optional: bool,
    },
    SshAgent {
        optional: bool,
    },
    Gpu {
        optional: bool,
    },
}

fn yes() -> bool {
    true
}

fn tmpfs_size() -> Size {
    Size(64 << 20)
}

/// Inodes of a tmpfs that says nothing about them.
pub(crate) fn tmpfs_inodes() -> u32 {
    65536
}

fn bits(mode: Option<Mode>, default: u32) -> u32 {
    mode.map_or(default, Mode::bits)
}

impl Entry {
    fn bind(from: AbsPath) -> Self {
        let to = from.clone();
        Self::Bind(Bind::read_only(from, to))
    }

    fn tmpfs(path: AbsPath) -> Self {
        Self::Tmpfs(Tmpfs { path, size: tmpfs_size().0, inodes: tmpfs_inodes(), mode: 0o1777, noexec: false })
    }

    fn proc(path: AbsPath) -> Self {
        Self::Proc(Proc { path, pids_only: false, sys_writable: false, mask: Vec::new(), unmask: Vec::new() })
    }

    fn dev(path: AbsPath) -> Self {
        Self::Dev(Dev { path, tty: true, pts: true, shm: tmpfs_size().0 })
    }
}

/// A path that is in the code.
pub(crate) fn known<E: serde::de::Error>(path: &str) -> Result<AbsPath, E> {
    AbsPath::deserialize(serde::de::value::StrDeserializer::new(path))
}

fn from_bare<E: serde::de::Error>(bare: &Bare) -> Result<Entry, E> {
    Ok(match bare {
        Bare::System => Entry::System,
        Bare::Proc => Entry::proc(known("/proc")?),
        Bare::Dev => Entry::dev(known("/dev")?),
        Bare::SshAgent => Entry::SshAgent { optional: false },
        Bare::Gpu => Entry::Gpu { optional: false },
        Bare::Cgroup => Entry::Cgroup(known("/sys/fs/cgroup")?),
    })
}

impl From<Positional> for Entry {
    fn from(positional: Positional) -> Self {
        match positional {
            Positional::Bind(from) => Self::bind(from),
            Positional::Tmpfs(path) => Self::tmpfs(path),
            Positional::Overlay(lower) => Self::Overlay(Overlay::discarded(lower)),
            Positional::Proc(path) => Self::proc(path),
            Positional::Dev(path) => Self::dev(path),
            Positional::Symlink(target, at) => Self::Symlink { target, at },
            Positional::Dir(path) => Self::Dir { path, mode: 0o755 },
            Positional::File(path, content) => Self::File { path, content, mode: 0o644 },
            Positional::Mask(path) => Self::Mask(path),
            Positional::Deny(path) => Self::Deny(path),
            Positional::Cgroup(path) => Self::Cgroup(path),
            Positional::Toolchain(language) => Self::Toolchain { language, optional: false },
            Positional::Git(repo) => Self::Git { repo, optional: false },
        }
    }
}

fn from_named<E: serde::de::Error>(named: Named) -> Result<Entry, E> {
    Ok(match named {
        Named::Bind { from, to, mode, optional, nosuid, nodev, noexec, recursive, idmap } => {
            let to = to.unwrap_or_else(|| from.clone());
            let write = mode == Access::ReadWrite;
            Entry::Bind(Bind { from, to, write, optional, nosuid, nodev, noexec, recursive, idmap })
        }
        Named::Tmpfs { path, size, inodes, mode, noexec } => {
            // To tmpfs 0 means no limit.
            if size.0 == 0 || inodes == 0 {
                return Err(E::custom("a tmpfs needs a size and a number of inodes above 0"));
            }
            Entry::Tmpfs(Tmpfs { path, size: size.0, inodes, mode: bits(mode, 0o1777), noexec })
        }
        Named::Proc { path, subset, sys, mask, unmask } => {
            let path = path.map_or_else(|| known("/proc"), Ok)?;
            if let Some(name) = mask.iter().chain(&unmask).find(|name| name.starts_with('/') || name.contains("..")) {
                return Err(E::custom(format!("`{name}` is no name below /proc")));
            }
            let (pids_only, sys_writable) = (subset == Subset::Pid, sys == Access::ReadWrite);
            Entry::Proc(Proc { path, pids_only, sys_writable, mask, unmask })
        }
        Named::Dev { path, tty, pts, shm } => {
            let path = path.map_or_else(|| known("/dev"), Ok)?;
            Entry::Dev(Dev { path, tty, pts, shm: shm.0 })
        }
        Named::Overlay { lower, at, upper, size, inodes } => {
            let plain = Overlay { at: at.unwrap_or_else(|| lower.clone()), ..Overlay::discarded(lower) };
            Entry::Overlay(plain.with(upper, size, inodes).map_err(E::custom)?)
        }
        Named::Symlink { target, at } => Entry::Symlink { target, at },
        Named::Dir { path, mode } => Entry::Dir { path, mode: bits(mode, 0o755) },
        Named::File { path, content, mode } => Entry::File { path, content, mode: bits(mode, 0o644) },
        Named::Mask { path } => Entry::Mask(path),
        Named::Deny { path } => Entry::Deny(path),
        Named::Toolchain { language, optional } => Entry::Toolchain { language, optional },
        Named::Git { repo, optional } => Entry::Git { repo, optional },
        Named::SshAgent { optional } => Entry::SshAgent { optional },
        Named::Gpu { optional } => Entry::Gpu { optional },
        Named::Cgroup { path } => Entry::Cgroup(path.map_or_else(|| known("/sys/fs/cgroup"), Ok)?),
    })
}

const NAMES: [&str; 16] = [
    "System",
    "Bind",
    "Tmpfs",
    "Overlay",
    "Toolchain",
    "Git",
    "SshAgent",
    "Gpu",
    "Proc",
    "Dev",
    "Symlink",
    "Dir",
    "File",
    "Mask",
    "Deny",
    "Cgroup",
];

impl<'de> Deserialize<'de> for Entry {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        let text = after_space(<&RawValue>::deserialize(from)?.get_ron());
        let (name, form) = form(text);
        if !NAMES.contains(&name) {
            return Err(D::Error::unknown_variant(name, &NAMES));
        }
        let options = ron::Options::default().with_default_extension(Extensions::IMPLICIT_SOME);
        // Read through `At`, so that an error inside keeps its own line and column.
        let mut inner = ron::Deserializer::from_str_with_options(text, &options).map_err(D::Error::custom)?;
        match (form, name) {
            (Form::Bare, "System" | "Proc" | "Dev" | "Cgroup" | "SshAgent" | "Gpu") => {
                from_bare(&At::<Bare>::deserialize(&mut inner).map_err(D::Error::custom)?.value)
            }
            (_, "System") => Err(D::Error::custom("`System` takes nothing in parentheses")),
            (Form::Bare, "Toolchain") => Err(D::Error::custom("`Toolchain` needs a language: Toolchain(Rust)")),
            (Form::Bare, _) => Err(D::Error::custom(format!("`{name}` needs a path: {name}(\"/path\")"))),
            (Form::Positional, _) => {
                Ok(At::<Positional>::deserialize(&mut inner).map_err(D::Error::custom)?.value.into())
            }
            (Form::Named, _) => from_named(At::<Named>::deserialize(&mut inner).map_err(D::Error::custom)?.value),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Config;
    use palisade_model::diag::SourceId;
    use palisade_model::layer::{Fragment, parse};
    use palisade_model::vars::Vars;

    fn read(entry: &str) -> Result<Entry, (String, String)> {
        let text = format!("( entries: [ {entry} ] )");
        let config: Result<Config, _> = parse(&Fragment::policy(SourceId(0), text.as_str(), 0), &Vars::new());
        config.map(|config| config.entries[0].value.clone()).map_err(|error| {
            let place = error.origin.map(|o| text[o.start as usize..o.end as usize].to_owned());
            (error.message, place.unwrap_or_default())
        })
    }

    fn path(text: &str) -> AbsPath {
        known::<serde::de::value::Error>(text).unwrap()
    }

    #[test]
    fn each_form_says_the_same() {
        assert_eq!(read("Bind(\"/src\")"), read("Bind(from: \"/src\", to: \"/src\", mode: ReadOnly)"));
        assert_eq!(read("Proc"), read("Proc(\"/proc\")"));
        assert_eq!(read("Cgroup"), read("Cgroup(path: \"/sys/fs/cgroup\")"));
        assert_eq!(read("Proc"), read("Proc( /* all */ path: \"/proc\", subset: All )"));
        assert_eq!(read("Dev"), read("Dev(path: \"/dev\", tty: true, pts: true, shm: \"64MiB\")"));
        assert_eq!(
            read("Tmpfs(\"/tmp\")"),
            read("Tmpfs(path: \"/tmp\", size: \"64MiB\", inodes: 65536, mode: \"1777\")")
        );
        assert_eq!(
            read("Overlay(\"/usr\")"),
            read("Overlay(lower: \"/usr\", at: \"/usr\", upper: Discard, size: \"64MiB\", inodes: 65536)")
        );
        assert_eq!(read("Toolchain( /* tools */ Rust )"), read("Toolchain(language: Rust, optional: false)"));
        assert_eq!(read("SshAgent"), read("SshAgent(optional: false)"));
        assert_eq!(read("Gpu"), read("Gpu(optional: false)"));
        assert_eq!(read("Git(\"/r\")"), read("Git(repo: \"/r\")"));
        assert_eq!(read("Mask(\"/a\")"), Ok(Entry::Mask(path("/a"))));
        assert_eq!(read("Deny(\"/a\")"), read("Deny(path: \"/a\")"));
        assert_eq!(read("Dir( // why\n \"/a\")"), Ok(Entry::Dir { path: path("/a"), mode: 0o755 }));
        assert_eq!(read("System"), Ok(Entry::System));
    }

    #[test]
    fn what_is_not_said_is_the_safer() {
        let Ok(Entry::Bind(bind)) = read("Bind(from: \"/src\")") else { panic!() };
        assert!(!bind.write && bind.nosuid && bind.nodev && bind.recursive && !bind.optional);
    }

    #[test]
    fn errors_name_the_entry_and_the_field() {
        for (entry, says, place) in [
            ("Systm", "Systm", "Systm"),
            ("System(\"/x\")", "takes nothing", "(\"/x\")"),
            ("Bind", "needs a path", "Bind"),
            ("Toolchain", "needs a language", "Toolchain"),
            ("Toolchain(Perl)", "Perl", "Perl"),
            ("SshAgent(\"/x\")", "SshAgent", "SshAgent"),
            ("Bind(from: \"/src\", mod: ReadWrite)", "mod", "mod"),
            ("Bind(from: \"src\")", "absolute", "\"src\""),
            ("Tmpfs(path: \"/tmp\", size: \"0\")", "above 0", "(path: \"/tmp\", size: \"0\")"),
            ("Overlay(lower: \"/usr\", size: \"0\")", "above 0", "(lower: \"/usr\", size: \"0\")"),
            ("Overlay(lower: \"/a\", upper: Keep(\"b\"))", "absolute", "\"b\""),
            (
                "Overlay(lower: \"/a\", upper: Keep(\"/b\"), inodes: 9)",
                "its disk alone",
                "(lower: \"/a\", upper: Keep(\"/b\"), inodes: 9)",
            ),
            ("Proc(mask: [\"../x\"])", "no name below", "(mask: [\"../x\"])"),
        ] {
            let (message, at) = read(entry).unwrap_err();
            assert!(message.contains(says), "{entry}: {message}");
            assert_eq!(at, place, "{entry}: {message}");
        }
    }
}
