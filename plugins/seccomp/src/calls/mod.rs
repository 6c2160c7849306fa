//! System calls by name: which there are, and their numbers on each architecture.
//!
//! The tables are ours, so that a policy means the same whatever headers a machine happens to have, and so that a
//! call of a newer kernel is seen as one that nobody here has judged.

mod aarch64;
mod common;
mod x86_64;

/// An architecture whose numbers are known.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Arch {
    X86_64,
    Aarch64,
}

impl Arch {
    /// Every architecture.
    pub(crate) const ALL: [Self; 2] = [Self::X86_64, Self::Aarch64];

    /// The one that this build runs on.
    pub(crate) fn host() -> Option<Self> {
        match std::env::consts::ARCH {
            "x86_64" => Some(Self::X86_64),
            "aarch64" => Some(Self::Aarch64),
            _ => None,
        }
    }

    /// `AUDIT_ARCH_*` of linux/audit.h: what the kernel writes into `seccomp_data.arch`. It tells an `int 0x80`
    /// and a 32-bit program, whose numbers mean other calls, from the native ones.
    pub(crate) fn audit(self) -> u32 {
        match self {
            Self::X86_64 => 0xC000_003E,
            Self::Aarch64 => 0xC000_00B7,
        }
    }

    fn own(self) -> &'static [(&'static str, u32)] {
        match self {
            Self::X86_64 => x86_64::CALLS,
            Self::Aarch64 => aarch64::CALLS,
        }
    }

    /// The number of a call; `None` where this architecture does not have it.
    pub(crate) fn number(self, name: &str) -> Option<u32> {
        find(self.own(), name).or_else(|| find(common::CALLS, name)).map(|(_, number)| number)
    }

    /// Every call with its number, in no order.
    pub(crate) fn calls(self) -> impl Iterator<Item = (&'static str, u32)> {
        self.own().iter().chain(common::CALLS).copied()
    }
}

fn find(table: &'static [(&'static str, u32)], name: &str) -> Option<(&'static str, u32)> {
    let at = table.binary_search_by_key(&name, |(known, _)| known).ok()?;
    table.get(at).copied()
}

/// The name itself if any architecture has a call of that name: a policy is written for more than one.
pub(crate) fn known(name: &str) -> Option<&'static str> {
    [common::CALLS, x86_64::CALLS, aarch64::CALLS].into_iter().find_map(|table| find(table, name)).map(|(name, _)| name)
}

/// Every name that [`known`] knows, some twice.
pub(crate) fn names() -> impl Iterator<Item = &'static str> {
    [common::CALLS, x86_64::CALLS, aarch64::CALLS].into_iter().flatten().map(|(name, _)| *name)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    #[test]
    fn the_tables_are_sorted_and_say_nothing_twice() {
        for table in [common::CALLS, x86_64::CALLS, aarch64::CALLS] {
            assert!(table.windows(2).all(|pair| pair[0].0 < pair[1].0));
        }
        for arch in Arch::ALL {
            let numbers: BTreeSet<u32> = arch.calls().map(|(_, number)| number).collect();
            assert_eq!(numbers.len(), arch.calls().count(), "{arch:?}");
            assert!(arch.calls().all(|(name, number)| arch.number(name) == Some(number)));
        }
    }

    #[test]
    fn numbers_agree_with_what_the_kernel_headers_say() {
        let fixed =
            [("read", 0, 63), ("clone", 56, 220), ("execve", 59, 221), ("mount", 165, 40), ("clone3", 435, 435)];
        for (name, x86, arm) in fixed {
            assert_eq!(Arch::X86_64.number(name), Some(x86));
            assert_eq!(Arch::Aarch64.number(name), Some(arm));
        }
        assert_eq!(Arch::Aarch64.number("modify_ldt"), None);
        assert_eq!(known("modify_ldt"), Some("modify_ldt"));
        assert_eq!(known("mount2"), None);
    }

    #[test]
    fn the_host_table_agrees_with_a_call_that_is_made() {
        assert_eq!(Arch::host().is_some(), cfg!(any(target_arch = "x86_64", target_arch = "aarch64")));
    }
}
