//! The section of a policy. `manifest.ron` holds the reference that sets every option.

use palisade_abi::At;
use palisade_abi::units::{AbsPath, Size};
use serde::Deserialize;

use crate::entry::Entry;

palisade_abi::layered! {
    /// The section `filesystem`.
    pub(crate) struct Config {
        /// What the view is built on.
        pub(crate) root: Option<At<Root>>,
        /// Whether the root itself is read-only once it is filled.
        pub(crate) readonly: Option<At<bool>>,
        /// The most that files in an empty root may hold, in bytes.
        pub(crate) size: Option<At<Size>>,
        /// The most files that an empty root may hold.
        pub(crate) inodes: Option<At<u32>>,
        /// What `System` shows of /etc.
        pub(crate) etc: Option<At<Etc>>,
        /// What the view holds, in this order; layers append.
        pub(crate) entries: Vec<At<Entry>>,
    }
}

/// What the view is built on.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
pub(crate) enum Root {
    /// A new tmpfs.
    Empty,
    /// The host's root: nothing is built.
    Host,
    /// A directory that holds a whole root file system.
    Rootfs(AbsPath),
}

/// What `System` shows of /etc.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
pub(crate) enum Etc {
    /// What programs need and what says nothing about this host.
    Curated,
    /// Nothing.
    Empty,
    /// The host's, read-only.
    Host,
}
