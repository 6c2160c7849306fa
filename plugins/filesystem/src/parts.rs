//! What the larger entries say, however they are written.

use palisade_abi::units::AbsPath;

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
    /// The workload is shown as the owner of what belongs to the owner of the source.
    pub(crate) as_owner: bool,
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
