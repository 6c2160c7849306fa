//! palisade's pure half: policies, plans, outcomes and reports as values.
//!
//! Nothing here opens a file or makes a system call; the crate has no dependency that could.
//! The text of a policy comes in through [`diag::Sources`], and every value that is read from it
//! remembers its place ([`layer::At`]), so that whoever refuses it later can point at the line.
//!
//! The way of a policy: [`policy::parse_policy`] reads the outer shape, [`resolve::resolve`] walks
//! `extends`, `--set`, `locked`, `replace` and `drop`, and [`layer::merge_layers`] merges the
//! layers of one section into the type that its owner defined.
#![forbid(unsafe_code)]

pub mod diag;
pub mod exit;
pub mod layer;
mod lex;
pub mod outcome;
pub mod plan;
pub mod policy;
pub mod process;
pub mod report;
pub mod resolve;
mod set;
pub mod severity;
pub mod stage;
pub mod units;
pub mod vars;

/// Re-exported for the [`layered!`] macro, so that its users need no `serde` of their own.
#[doc(hidden)]
pub use serde;
