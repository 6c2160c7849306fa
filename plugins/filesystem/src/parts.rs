//! What the larger entries say, however they are written.

use palisade_abi::units::AbsPath;
use serde::Deserialize;

/// A file or directory of the host.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Bind {
    pub(crate) from: AbsPath,
    pub(crate) to: AbsPath,
    pub(crate) write: bool,
    pub(crate) optional: bool,
    pub(crate) nosuid: bool,
    pub(crate) nodev: bool,
    pub(crate) noexec: bool,
    pub(crate) recursive: bool,
    pub(crate) idmap: Idmap,
}

impl Bind {
    /// With everything that is the default.
    pub(crate) fn read_only(from: AbsPath, to: AbsPath) -> Self {
        let (write, optional, noexec) = (false, false, false);
        Self { from, to, write, optional, nosuid: true, nodev: true, noexec, recursive: true, idmap: Idmap::None }
    }
}

/// Whether the workload is shown as the owner of what belongs to the owner of a source.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
pub(crate) enum Idmap {
    #[default]
    None,
    /// Of a user: root's directories cannot be had read-write.
    Owner,
    /// Of root, too: what the workload makes there is root's.
    AnyOwner,
}

/// An empty file system in memory.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Tmpfs {
    pub(crate) path: AbsPath,
    pub(crate) size: u64,
    pub(crate) inodes: u32,
    pub(crate) mode: u32,
    pub(crate) noexec: bool,
}

/// A fresh procfs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Proc {
    pub(crate) path: AbsPath,
    /// Processes only.
    pub(crate) pids_only: bool,
    /// Whether settings below `sys` may be written.
    pub(crate) sys_writable: bool,
    /// Names to mask besides the usual ones.
    pub(crate) mask: Vec<String>,
    /// Usual names not to mask.
    pub(crate) unmask: Vec<String>,
}

/// A minimal /dev.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Dev {
    pub(crate) path: AbsPath,
    pub(crate) tty: bool,
    pub(crate) pts: bool,
    /// The size of the tmpfs on `shm`; 0 for none.
    pub(crate) shm: u64,
}
