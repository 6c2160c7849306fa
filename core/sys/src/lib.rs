//! palisade's only door to the kernel.
//!
//! Every call that palisade makes to Linux is a function here: it sets the safe flags itself, checks
//! the answer, and on failure gives an [`Error`] that shows the call as it was written, the errno and
//! a hint. The crate knows no policy and decides nothing; it is one of the two places where `unsafe`
//! is allowed, and each block says what it rests on.
//!
//! The floor is Linux 5.10. A wrapper whose call is younger says so in `Since:`.

#[cfg(not(all(target_os = "linux", target_pointer_width = "64")))]
compile_error!("palisade runs on 64-bit Linux");

pub mod attempt;
pub mod audit;
pub mod beneath;
pub mod bpf;
pub mod caps;
pub mod channel;
mod error;
pub mod event;
pub mod fd;
mod fscontext;
pub mod guard;
pub mod hints;
pub mod host;
pub mod ids;
mod image;
mod init_filter;
pub mod inject;
pub mod keys;
pub mod landlock;
pub mod limits;
pub mod memory;
pub mod mount;
mod mount_flags;
pub mod names;
pub mod namespace;
pub mod notify;
pub mod process;
pub mod procfs;
mod raw;
pub mod seccomp;
pub mod signal;
pub mod terminal;
pub mod trust;
pub mod xattr;

pub use error::{Error, Result};
pub use nix::errno::Errno;
