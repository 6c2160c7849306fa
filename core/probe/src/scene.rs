//! What the attempts are told: where the canaries are, and what the host looks like.

use palisade_runtime::model::policy::Cap;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::path::PathBuf;

/// Device and inode: which file it is, whatever its path.
pub(crate) type Inode = (u64, u64);

/// Gathered outside, used inside.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub(crate) struct Scene {
    /// What only who reaches a canary can know.
    pub(crate) token: String,
    /// The directory of the canaries.
    pub(crate) dir: PathBuf,
    /// The attempts to be made.
    pub(crate) ids: Vec<String>,
    /// The commands of attempts that plugins bring, by id.
    pub(crate) commands: BTreeMap<String, Vec<String>>,
    /// Whether this is the round without a policy.
    pub(crate) bare: bool,
    pub(crate) stated: Stated,
    pub(crate) canary: Canary,
    pub(crate) host: Host,
    /// The process that runs the harness.
    pub(crate) launcher: i32,
    /// The session of the run, which has the terminal of the harness.
    pub(crate) session: i32,
    /// The numbers that were left open on purpose: a file and a directory.
    pub(crate) leaked: (i32, i32),
    /// The handle of the secret, as open_by_handle_at(2) takes it; empty where the file system has none.
    pub(crate) handle: Vec<u8>,
    pub(crate) segment_key: i32,
    /// Whether there is a helper that has a capability of its own.
    pub(crate) capable: bool,
    /// A cgroup beside that of the harness, where one could be made.
    pub(crate) cgroup: Option<PathBuf>,
    /// Inside: the descriptor to the harness.
    #[serde(skip)]
    pub(crate) channel: i32,
    /// The user of the set-user-ID helper, where there is one.
    pub(crate) helper: Option<u32>,
}

/// What the policy says of itself.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub(crate) struct Stated {
    /// Lines of /proc/self/status that it makes so.
    pub(crate) status: Vec<String>,
    pub(crate) umask: Option<u32>,
    /// How many processes are more than it allows.
    pub(crate) too_many: u64,
    /// The limits that its tests claim.
    pub(crate) limits: Vec<Cap>,
    /// Bytes of memory that the host has to spare, and its processors: a view may not tell.
    pub(crate) spare: u64,
    pub(crate) processors: u64,
}

/// What the canary says of itself.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub(crate) struct Canary {
    pub(crate) pid: i32,
    /// Where in its memory the token is.
    pub(crate) address: usize,
    /// A descriptor of its on the secret.
    pub(crate) fd: i32,
    pub(crate) tcp: u16,
    pub(crate) tcp6: Option<u16>,
    pub(crate) udp: u16,
}

/// What the host looks like.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub(crate) struct Host {
    pub(crate) shadow: Option<Inode>,
    pub(crate) passwd: Option<Inode>,
    pub(crate) root: Option<Inode>,
    pub(crate) home: PathBuf,
    pub(crate) home_inode: Option<Inode>,
    /// The names in `/`, in order.
    pub(crate) names: Vec<String>,
    /// The device behind `/`.
    pub(crate) block: PathBuf,
    pub(crate) interfaces: Vec<String>,
    pub(crate) hostname: String,
    pub(crate) cmdline: String,
    pub(crate) boot_id: String,
    pub(crate) machine_id: String,
    /// Seconds since the boot and since 1970, read together.
    pub(crate) boottime: (u64, u64),
    /// The file system of its terminals.
    pub(crate) terminals: Option<Inode>,
    /// Sockets by which something is controlled.
    pub(crate) sockets: Vec<PathBuf>,
    /// The address of the resolver; empty where none is configured.
    pub(crate) resolver: String,
    pub(crate) namespaces: BTreeMap<String, PathBuf>,
    /// Where a hierarchy of cgroup v1 is mounted, or else the cgroups of v2.
    pub(crate) cgroups: PathBuf,
}
