//! How bad it would be, and what came of it.

use palisade_sys::Errno;
use serde::{Deserialize, Serialize};
use std::io;

pub use palisade_runtime::model::severity::Severity;

/// What came of an attempt.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "outcome", content = "detail")]
pub enum Verdict {
    /// It worked.
    #[serde(rename = "OPEN")]
    Open,
    /// Refused, with this errno.
    #[serde(rename = "DENIED")]
    Denied(String),
    /// There was nothing to be seen; the errno, or what was not seen.
    #[serde(rename = "HIDDEN")]
    Hidden(String),
    /// It worked on something private, not on the host's.
    #[serde(rename = "VIRTUAL")]
    Virtual,
    /// A limit was in the way.
    #[serde(rename = "LIMITED")]
    Limited(String),
    /// A signal ended the attempt.
    #[serde(rename = "KILLED")]
    Killed(String),
    /// It does not work without a policy either, so that it does not work with one proves nothing; what came of it
    /// without one.
    #[serde(rename = "N/A")]
    NotApplicable(String),
    /// Nothing can be said; why.
    #[serde(rename = "INCONCLUSIVE")]
    Inconclusive(String),
}

impl Verdict {
    /// The word of reports.
    #[must_use]
    pub const fn word(&self) -> &'static str {
        match self {
            Self::Open => "OPEN",
            Self::Denied(_) => "DENIED",
            Self::Hidden(_) => "HIDDEN",
            Self::Virtual => "VIRTUAL",
            Self::Limited(_) => "LIMITED",
            Self::Killed(_) => "KILLED",
            Self::NotApplicable(_) => "N/A",
            Self::Inconclusive(_) => "INCONCLUSIVE",
        }
    }

    /// What is said beside the word; empty where there is nothing to say.
    #[must_use]
    pub fn detail(&self) -> &str {
        match self {
            Self::Open | Self::Virtual => "",
            Self::Denied(text)
            | Self::Hidden(text)
            | Self::Limited(text)
            | Self::Killed(text)
            | Self::NotApplicable(text)
            | Self::Inconclusive(text) => text,
        }
    }

    /// Whether the boundary held.
    #[must_use]
    pub const fn is_blocked(&self) -> bool {
        matches!(self, Self::Denied(_) | Self::Hidden(_) | Self::Virtual | Self::Limited(_) | Self::Killed(_))
    }

    /// The word with the detail: `DENIED(EPERM)`.
    #[must_use]
    pub fn text(&self) -> String {
        match self.detail() {
            "" => self.word().to_owned(),
            detail => format!("{}({detail})", self.word()),
        }
    }

    /// What is to be said of an attempt after both rounds. What is open under the policy is said, whatever it was
    /// without one: an attempt may need a power that only the sandbox gives.
    #[must_use]
    pub fn of(bare: &Self, policy: &Self) -> Self {
        match (bare, policy) {
            (_, Self::Open) => Self::Open,
            (_, Self::Inconclusive(why)) => Self::Inconclusive(why.clone()),
            (Self::Open, blocked) => blocked.clone(),
            (Self::Inconclusive(why), _) => Self::Inconclusive(format!("without a policy: {why}")),
            (other, _) => Self::NotApplicable(format!("without a policy: {}", other.text())),
        }
    }
}

/// What an attempt gives: whether it worked on the host's (or on something private), or why it did not.
pub(crate) type Tried = Result<bool, Stop>;

/// Why an attempt did not work.
#[derive(Debug)]
pub(crate) struct Stop(pub(crate) Verdict);

impl Stop {
    /// What was looked for is not there.
    pub(crate) fn hidden(what: &str) -> Self {
        Self(Verdict::Hidden(what.to_owned()))
    }

    /// It is refused, without an errno that says so.
    pub(crate) fn denied(what: &str) -> Self {
        Self(Verdict::Denied(what.to_owned()))
    }

    /// The attempt cannot be made.
    pub(crate) fn unclear(why: &str) -> Self {
        Self(Verdict::Inconclusive(why.to_owned()))
    }
}

impl From<Errno> for Stop {
    fn from(errno: Errno) -> Self {
        let name = format!("{errno:?}");
        Self(match errno {
            Errno::ENOENT | Errno::ESRCH | Errno::ENOTDIR => Verdict::Hidden(name),
            Errno::EAGAIN | Errno::ENOSPC | Errno::EDQUOT | Errno::EMFILE => Verdict::Limited(name),
            _ => Verdict::Denied(name),
        })
    }
}

impl From<io::Error> for Stop {
    fn from(error: io::Error) -> Self {
        match error.raw_os_error() {
            Some(number) => Errno::from_raw(number).into(),
            None if matches!(error.kind(), io::ErrorKind::TimedOut | io::ErrorKind::WouldBlock) => {
                Self::hidden("no answer")
            }
            None => Self::unclear(&error.to_string()),
        }
    }
}

impl From<palisade_sys::Error> for Stop {
    fn from(error: palisade_sys::Error) -> Self {
        error.kind().into()
    }
}

/// The other way round: it worked or it did not; only the former is open.
pub(crate) fn verdict(tried: Tried) -> Verdict {
    match tried {
        Ok(true) => Verdict::Open,
        Ok(false) => Verdict::Virtual,
        Err(Stop(verdict)) => verdict,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_not_open_without_a_policy_proves_nothing() {
        let denied = Verdict::Denied("EPERM".to_owned());
        assert_eq!(Verdict::of(&Verdict::Open, &denied), denied);
        assert!(Verdict::of(&Verdict::Open, &denied).is_blocked());
        let nothing = Verdict::of(&denied, &denied);
        assert_eq!(nothing.text(), "N/A(without a policy: DENIED(EPERM))");
        assert!(!nothing.is_blocked());
        let unclear = Verdict::Inconclusive("it hung".to_owned());
        assert_eq!(Verdict::of(&Verdict::Open, &unclear), unclear);
        assert!(!Verdict::of(&unclear, &denied).is_blocked());
    }

    #[test]
    fn what_is_open_is_said_whatever_was_before() {
        for bare in [Verdict::Open, Verdict::Denied("EPERM".to_owned()), Verdict::Inconclusive("x".to_owned())] {
            assert_eq!(Verdict::of(&bare, &Verdict::Open), Verdict::Open);
        }
    }

    #[test]
    fn an_errno_says_what_kind_of_no_it_is() {
        let kind = |errno: Errno| Stop::from(errno).0.text();
        assert_eq!(kind(Errno::ENOENT), "HIDDEN(ENOENT)");
        assert_eq!(kind(Errno::EPERM), "DENIED(EPERM)");
        assert_eq!(kind(Errno::EAGAIN), "LIMITED(EAGAIN)");
    }
}
