//! Named groups of calls: what a policy means, instead of lists that nobody can review.

mod allow;
mod deny;

use crate::action::Errno;
use crate::rule::{Arg, Index, Test};

/// A group: its name, why one would deny or allow it, and what is in it.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Group {
    pub(crate) name: &'static str,
    pub(crate) why: &'static str,
    pub(crate) members: &'static [Member],
}

/// One line of a group. The errnos are for `deny` and mean nothing in `allow`.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Member {
    /// These calls.
    Calls(&'static [&'static str]),
    /// These calls, answered with this errno, which programs know how to take.
    Answer(&'static [&'static str], Errno),
    /// A call whose arguments lie in memory, so that no filter can read them. Always ENOSYS: the C library then uses
    /// an older call, whose arguments can be read; any other answer would break programs that mean no harm.
    Unreadable(&'static str),
    /// A call, where all the conditions hold, and the errno if not the common one.
    When(&'static str, &'static [Arg], Option<Errno>),
    /// All of these groups.
    Groups(&'static [&'static str]),
    /// Every call that this group does not name without a condition.
    AllExcept(&'static str),
}

/// A condition on the low 32 bits of an argument.
const fn arg(index: u8, test: Test) -> Arg {
    Arg::Arg32(Index(index), test)
}

/// Every group.
pub(crate) fn all() -> impl Iterator<Item = &'static Group> {
    deny::GROUPS.iter().chain(allow::GROUPS)
}

/// What palisade itself calls once the filter is in force.
pub(crate) const LAUNCH: &[&str] = allow::LAUNCH;

/// The group of a name.
pub(crate) fn find(name: &str) -> Option<&'static Group> {
    all().find(|group| group.name == name)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::calls;

    fn check(member: &Member) {
        match member {
            Member::Calls(names) | Member::Answer(names, _) => {
                for name in *names {
                    assert!(calls::known(name).is_some(), "unknown call {name}");
                }
            }
            Member::Unreadable(name) => {
                assert!(calls::known(name).is_some(), "unknown call {name}")
            }
            Member::When(name, args, _) => {
                assert!(calls::known(name).is_some(), "unknown call {name}");
                assert!(!args.is_empty(), "{name}");
                assert!(args.iter().all(|arg| arg.absurd().is_none()), "{name}");
            }
            Member::Groups(names) => {
                for name in *names {
                    assert!(find(name).is_some(), "unknown group {name}");
                }
            }
            Member::AllExcept(name) => assert!(find(name).is_some(), "unknown group {name}"),
        }
    }

    #[test]
    fn every_member_is_known_and_every_name_is_there_once() {
        let mut names: Vec<&str> = Vec::new();
        for group in all() {
            assert!(group.name.starts_with('@') && !group.why.is_empty());
            assert!(!names.contains(&group.name), "{} twice", group.name);
            names.push(group.name);
            group.members.iter().for_each(check);
        }
    }
}
