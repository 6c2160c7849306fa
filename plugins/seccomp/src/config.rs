//! The section `"seccomp"` of a policy.

use crate::action::Action;
use crate::rule::Rule;
use palisade_abi::units::AbsPath;
use palisade_abi::{At, Demand};

palisade_abi::layered! {
    /// The section of this plugin in a policy.
    pub(crate) struct Config {
        /// What becomes of a call that no rule names.
        pub default: Option<At<Action>>,
        /// What the rules of `deny` answer that have no answer of their own.
        pub deny_action: Option<At<Action>>,
        /// A file with more rules, in the form of the OCI runtime specification.
        pub oci_profile: Option<At<AbsPath>>,
        /// Rules for what is not done. They win over `allow`.
        pub deny: Vec<At<Rule>>,
        /// Rules for what is done.
        pub allow: Vec<At<Rule>>,
        /// What becomes of a call that this palisade does not know, and of `clone3`.
        pub unknown_calls: Option<At<Unknown>>,
        /// Whether every call that is not done is also written to the audit log.
        pub log: Option<At<bool>>,
        /// What becomes of the launch where the kernel has no filters.
        pub demand: Option<At<Demand>>,
    }
}

/// What becomes of a call whose number is not in the table, and of `clone3`, whose arguments no filter can read.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, palisade_abi::serde::Deserialize)]
#[serde(crate = "palisade_abi::serde")]
pub(crate) enum Unknown {
    /// It answers as a kernel without it does, so that a C library falls back to what it did before.
    #[default]
    #[serde(rename = "ENOSYS")]
    Enosys,
    /// What `default` says.
    Default,
}
