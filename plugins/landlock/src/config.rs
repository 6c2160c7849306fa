//! The section of a policy. `manifest.ron` holds the reference that sets every option.

use palisade_abi::units::AbsPath;
use palisade_abi::{At, Demand};
use serde::Deserialize;

palisade_abi::layered! {
    /// The section `landlock`.
    pub(crate) struct Config {
        /// What is granted; layers append.
        pub(crate) rules: Vec<At<Rule>>,
        /// TCP ports.
        pub(crate) tcp: Tcp,
        /// What stays among the processes inside.
        pub(crate) scopes: Vec<At<Scoped>>,
        /// Whether what is denied to the workload is written to the audit log.
        pub(crate) log: Option<At<bool>>,
        /// The lowest ABI of Landlock that this policy accepts.
        pub(crate) floor: Option<At<u32>>,
        /// What becomes of the launch where the kernel cannot restrict something.
        pub(crate) demand: Demands,
    }

    /// Ports; a list that is absent restricts nothing.
    pub(crate) struct Tcp {
        /// Ports that may be bound.
        pub(crate) bind: Option<At<Vec<u16>>>,
        /// Ports that may be connected to.
        pub(crate) connect: Option<At<Vec<u16>>>,
    }

    /// By subject, what becomes of the launch where the kernel cannot restrict it.
    pub(crate) struct Demands {
        /// All access by path.
        pub(crate) paths: Option<At<Demand>>,
        /// Rules that grant renaming between directories.
        pub(crate) refer: Option<At<Demand>>,
        /// Truncation.
        pub(crate) truncate: Option<At<Demand>>,
        /// Commands to devices.
        pub(crate) ioctl_dev: Option<At<Demand>>,
        /// Connecting to UNIX sockets by path.
        pub(crate) connect_unix: Option<At<Demand>>,
        /// TCP ports.
        pub(crate) tcp: Option<At<Demand>>,
        /// Scopes.
        pub(crate) scopes: Option<At<Demand>>,
        /// The audit log.
        pub(crate) log: Option<At<Demand>>,
    }
}

/// One grant.
#[derive(Clone, Debug, Deserialize, PartialEq, Eq)]
#[serde(deny_unknown_fields)]
pub(crate) enum Rule {
    Read(AbsPath),
    Write(AbsPath),
    Execute(AbsPath),
    Make(AbsPath),
    Remove(AbsPath),
    Refer(AbsPath),
    Truncate(AbsPath),
    IoctlDev(AbsPath),
    ConnectUnix(AbsPath),
    /// The long form: several rights, a path that may be missing, a demand of its own.
    Path {
        path: AbsPath,
        allow: Vec<Allow>,
        #[serde(default)]
        optional: bool,
        #[serde(default)]
        demand: Option<Demand>,
    },
}

/// A right or a group of them, in the long form of a rule.
#[derive(Clone, Copy, Debug, Deserialize, PartialEq, Eq)]
pub(crate) enum Allow {
    Read,
    Write,
    Execute,
    Make,
    Remove,
    Refer,
    Truncate,
    IoctlDev,
    ConnectUnix,
    ReadFile,
    ReadDir,
    WriteFile,
    RemoveFile,
    RemoveDir,
    MakeFile,
    MakeDir,
    MakeSymlink,
    MakePipe,
    MakeSocket,
    MakeCharDevice,
    MakeBlockDevice,
}

/// What stays inside.
#[derive(Clone, Copy, Debug, Deserialize, PartialEq, Eq)]
pub(crate) enum Scoped {
    Signal,
    AbstractUnixSocket,
}

impl Rule {
    /// The path, the rights, whether it may be missing, and the demand that is written in the rule itself.
    pub(crate) fn parts(&self) -> (&AbsPath, Vec<Allow>, bool, Option<Demand>) {
        let short = |path, allow| (path, vec![allow], false, None);
        match self {
            Self::Read(path) => short(path, Allow::Read),
            Self::Write(path) => short(path, Allow::Write),
            Self::Execute(path) => short(path, Allow::Execute),
            Self::Make(path) => short(path, Allow::Make),
            Self::Remove(path) => short(path, Allow::Remove),
            Self::Refer(path) => short(path, Allow::Refer),
            Self::Truncate(path) => short(path, Allow::Truncate),
            Self::IoctlDev(path) => short(path, Allow::IoctlDev),
            Self::ConnectUnix(path) => short(path, Allow::ConnectUnix),
            Self::Path { path, allow, optional, demand } => (path, allow.clone(), *optional, *demand),
        }
    }
}
