//! What the kernel is to answer: an action, and errnos by name.

use palisade_abi::serde::de::{self, Deserialize, Deserializer, Visitor};
use palisade_sys::Errno as E;
use std::fmt;

/// What the kernel does with a call. From the mildest to the strictest: of several the strictest is taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, palisade_abi::serde::Deserialize)]
#[serde(crate = "palisade_abi::serde")]
pub(crate) enum Action {
    /// Does it.
    Allow,
    /// Does it, and writes it to the audit log.
    Log,
    /// Does not do it, and answers this errno.
    Errno(Errno),
    /// Does not do it, and sends SIGSYS, which the program may handle.
    Trap,
    /// Ends the thread. What the other threads do without it is anyone's guess.
    KillThread,
    /// Ends the process as if by SIGSYS.
    KillProcess,
}

impl Action {
    /// `SECCOMP_RET_*` with its data: what the filter returns.
    pub(crate) fn value(self) -> u32 {
        match self {
            Self::KillProcess => 0x8000_0000,
            Self::KillThread => 0,
            Self::Trap => 0x0003_0000,
            Self::Errno(Errno(number)) => 0x0005_0000 | u32::from(number),
            Self::Log => 0x7ffc_0000,
            Self::Allow => 0x7fff_0000,
        }
    }

    /// Whether the call is done.
    pub(crate) fn lets_through(self) -> bool {
        matches!(self, Self::Allow | Self::Log)
    }
}

/// In words: what it does with "the rest".
impl fmt::Display for Action {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Allow => f.write_str("allows"),
            Self::Log => f.write_str("logs and allows"),
            Self::Errno(errno) => write!(f, "answers {errno} to"),
            Self::Trap => f.write_str("sends SIGSYS for"),
            Self::KillThread => f.write_str("kills the thread for"),
            Self::KillProcess => f.write_str("kills the process for"),
        }
    }
}

/// An errno: a name, or a number from 1 to 4095.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Errno(u16);

impl Errno {
    pub(crate) const EPERM: Self = Self(1);
    pub(crate) const ENOSYS: Self = Self(38);
    pub(crate) const EPROTONOSUPPORT: Self = Self(93);
    pub(crate) const ESOCKTNOSUPPORT: Self = Self(94);
    pub(crate) const EOPNOTSUPP: Self = Self(95);
    pub(crate) const EAFNOSUPPORT: Self = Self(97);

    pub(crate) fn number(self) -> i32 {
        i32::from(self.0)
    }

    fn from_name(name: &str) -> Option<Self> {
        let (_, errno) = NAMES.iter().find(|(known, _)| name.eq_ignore_ascii_case(known))?;
        u16::try_from(*errno as i32).ok().map(Self)
    }

    pub(crate) fn from_number(number: u64) -> Option<Self> {
        // The kernel hands on no more than MAX_ERRNO; and 0 would let a program believe that it was done.
        u16::try_from(number).ok().filter(|n| (1..=4095).contains(n)).map(Self)
    }
}

impl fmt::Display for Errno {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match NAMES.iter().find(|(_, errno)| *errno as i32 == i32::from(self.0)) {
            Some((name, _)) => f.write_str(name),
            None => write!(f, "errno {}", self.0),
        }
    }
}

struct ErrnoVisitor;

const FORMS: &str = "a name such as \"EPERM\", or a number from 1 to 4095";

impl Visitor<'_> for ErrnoVisitor {
    type Value = Errno;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(FORMS)
    }

    fn visit_str<D: de::Error>(self, name: &str) -> Result<Errno, D> {
        Errno::from_name(name).ok_or_else(|| {
            let help = crate::names::suggest(name, NAMES.iter().map(|(name, _)| *name));
            D::custom(format!("unknown errno `{name}`\n{}", help.unwrap_or_else(|| format!("expected {FORMS}"))))
        })
    }

    fn visit_u64<D: de::Error>(self, number: u64) -> Result<Errno, D> {
        Errno::from_number(number).ok_or_else(|| D::custom(format!("{number} is no errno\nexpected {FORMS}")))
    }

    fn visit_i64<D: de::Error>(self, number: i64) -> Result<Errno, D> {
        self.visit_u64(u64::try_from(number).unwrap_or(0))
    }
}

impl<'de> Deserialize<'de> for Errno {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        from.deserialize_any(ErrnoVisitor)
    }
}

/// The errnos that make sense as an answer; the others can be given by number.
#[rustfmt::skip]
const NAMES: &[(&str, E)] = &[
    ("EPERM", E::EPERM), ("ENOENT", E::ENOENT), ("ESRCH", E::ESRCH), ("EINTR", E::EINTR), ("EIO", E::EIO),
    ("ENXIO", E::ENXIO), ("E2BIG", E::E2BIG), ("ENOEXEC", E::ENOEXEC), ("EBADF", E::EBADF), ("ECHILD", E::ECHILD),
    ("EAGAIN", E::EAGAIN), ("ENOMEM", E::ENOMEM), ("EACCES", E::EACCES), ("EFAULT", E::EFAULT), ("EBUSY", E::EBUSY),
    ("EEXIST", E::EEXIST), ("EXDEV", E::EXDEV), ("ENODEV", E::ENODEV), ("ENOTDIR", E::ENOTDIR),
    ("EISDIR", E::EISDIR), ("EINVAL", E::EINVAL), ("ENFILE", E::ENFILE), ("EMFILE", E::EMFILE),
    ("ENOTTY", E::ENOTTY), ("ETXTBSY", E::ETXTBSY), ("EFBIG", E::EFBIG), ("ENOSPC", E::ENOSPC),
    ("ESPIPE", E::ESPIPE), ("EROFS", E::EROFS), ("EMLINK", E::EMLINK), ("EPIPE", E::EPIPE), ("EDOM", E::EDOM),
    ("ERANGE", E::ERANGE), ("EDEADLK", E::EDEADLK), ("ENAMETOOLONG", E::ENAMETOOLONG), ("ENOLCK", E::ENOLCK),
    ("ENOSYS", E::ENOSYS), ("ENOTEMPTY", E::ENOTEMPTY), ("ELOOP", E::ELOOP), ("ENODATA", E::ENODATA),
    ("EPROTO", E::EPROTO), ("EOVERFLOW", E::EOVERFLOW), ("EUSERS", E::EUSERS), ("ENOTSOCK", E::ENOTSOCK),
    ("EPROTOTYPE", E::EPROTOTYPE), ("ENOPROTOOPT", E::ENOPROTOOPT), ("EPROTONOSUPPORT", E::EPROTONOSUPPORT),
    ("ESOCKTNOSUPPORT", E::ESOCKTNOSUPPORT), ("EOPNOTSUPP", E::EOPNOTSUPP), ("EPFNOSUPPORT", E::EPFNOSUPPORT),
    ("EAFNOSUPPORT", E::EAFNOSUPPORT), ("EADDRINUSE", E::EADDRINUSE), ("EADDRNOTAVAIL", E::EADDRNOTAVAIL),
    ("ENETDOWN", E::ENETDOWN), ("ENETUNREACH", E::ENETUNREACH), ("ECONNREFUSED", E::ECONNREFUSED),
    ("EHOSTUNREACH", E::EHOSTUNREACH), ("ETIMEDOUT", E::ETIMEDOUT), ("EDQUOT", E::EDQUOT),
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn named_constants_are_the_numbers_of_the_kernel() {
        for (errno, name) in [
            (Errno::EPERM, "EPERM"),
            (Errno::ENOSYS, "ENOSYS"),
            (Errno::EPROTONOSUPPORT, "EPROTONOSUPPORT"),
            (Errno::ESOCKTNOSUPPORT, "ESOCKTNOSUPPORT"),
            (Errno::EOPNOTSUPP, "EOPNOTSUPP"),
            (Errno::EAFNOSUPPORT, "EAFNOSUPPORT"),
        ] {
            assert_eq!(Errno::from_name(name), Some(errno));
            assert_eq!(errno.to_string(), name);
        }
        assert_eq!(Errno::from_number(0), None);
        assert_eq!(Errno::from_number(4096), None);
        assert_eq!(Errno::from_number(300).unwrap().to_string(), "errno 300");
    }

    #[test]
    fn stricter_is_greater_as_in_the_kernel() {
        let order = [
            Action::Allow,
            Action::Log,
            Action::Errno(Errno::EPERM),
            Action::Trap,
            Action::KillThread,
            Action::KillProcess,
        ];
        assert!(order.windows(2).all(|pair| pair[0] < pair[1]));
        // The kernel takes the smallest of the values as signed numbers (linux/seccomp.h).
        assert!(order.windows(2).all(|pair| pair[0].value().cast_signed() > pair[1].value().cast_signed()));
    }
}
