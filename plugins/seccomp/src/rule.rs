//! Rules as a policy writes them: calls, groups, conditions on arguments, answers.

use crate::action::Action;
use crate::{calls, groups, names};
use palisade_abi::serde::de::{self, Deserialize, Deserializer, Visitor};
use std::fmt;

/// What a line of `deny` or `allow` is about.
#[derive(Clone, Debug, PartialEq, Eq, palisade_abi::serde::Deserialize)]
#[serde(crate = "palisade_abi::serde")]
pub(crate) enum Rule {
    /// A call, whatever its arguments.
    Call(CallName),
    /// A named group of calls.
    Group(GroupName),
    /// A named group of calls, without these.
    Except(GroupName, Vec<CallName>),
    /// A call, where all the conditions hold.
    When(CallName, Vec<Arg>),
    /// Any of the above with an answer of its own.
    Answer(Box<Rule>, Action),
}

/// As a policy writes it, without the conditions.
impl fmt::Display for Rule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Call(call) => write!(f, "Call(\"{}\")", call.0),
            Self::Group(group) => write!(f, "Group(\"{}\")", group.0.name),
            Self::Except(group, calls) => {
                let calls: Vec<String> = calls.iter().map(|call| format!("\"{}\"", call.0)).collect();
                write!(f, "Except(\"{}\", [{}])", group.0.name, calls.join(", "))
            }
            Self::When(call, _) => write!(f, "When(\"{}\", ..)", call.0),
            Self::Answer(rule, _) => rule.fmt(f),
        }
    }
}

/// A condition on an argument of a call, by the argument's index from 0.
#[derive(Clone, Copy, Debug, PartialEq, Eq, palisade_abi::serde::Deserialize)]
#[serde(crate = "palisade_abi::serde")]
pub(crate) enum Arg {
    /// On its low 32 bits: for what the kernel takes as an `int`, `unsigned int` or `mode_t`.
    Arg32(Index, Test),
    /// On all 64 bits: for `long`, sizes, offsets and pointers.
    Arg64(Index, Test),
}

/// How an argument is compared; unsigned.
#[derive(Clone, Copy, Debug, PartialEq, Eq, palisade_abi::serde::Deserialize)]
#[serde(crate = "palisade_abi::serde")]
pub(crate) enum Test {
    /// Is equal.
    Eq(u64),
    /// Is not equal.
    Ne(u64),
    /// Is less.
    Lt(u64),
    /// Is less or equal.
    Le(u64),
    /// Is greater.
    Gt(u64),
    /// Is greater or equal.
    Ge(u64),
    /// Under the mask (first), is equal to the value (second).
    MaskedEq(u64, u64),
    /// Has at least one bit of the mask.
    AnySet(u64),
}

impl Arg {
    pub(crate) fn test(self) -> Test {
        let (Self::Arg32(_, test) | Self::Arg64(_, test)) = self;
        test
    }

    pub(crate) fn index(self) -> u8 {
        let (Self::Arg32(index, _) | Self::Arg64(index, _)) = self;
        index.0
    }

    /// Whether it holds for a call with these arguments.
    pub(crate) fn holds(self, args: &[u64; 6]) -> bool {
        let value = args.get(usize::from(self.index())).copied().unwrap_or_default();
        let value = if matches!(self, Self::Arg32(..)) { value & u64::from(u32::MAX) } else { value };
        match self.test() {
            Test::Eq(wanted) => value == wanted,
            Test::Ne(wanted) => value != wanted,
            Test::Lt(wanted) => value < wanted,
            Test::Le(wanted) => value <= wanted,
            Test::Gt(wanted) => value > wanted,
            Test::Ge(wanted) => value >= wanted,
            Test::MaskedEq(mask, wanted) => value & mask == wanted,
            Test::AnySet(mask) => value & mask != 0,
        }
    }

    /// Why the condition can never do what it says, if so.
    pub(crate) fn absurd(self) -> Option<String> {
        let (first, second) = match self.test() {
            Test::Eq(v) | Test::Ne(v) | Test::Lt(v) | Test::Le(v) | Test::Gt(v) | Test::Ge(v) => (v, v),
            Test::AnySet(mask) => (mask, mask),
            Test::MaskedEq(mask, value) => (mask, value),
        };
        let wide = first.max(second) > u64::from(u32::MAX);
        if matches!(self, Self::Arg32(..)) && wide {
            return Some(format!("{:#x} does not fit in the 32 bits that `Arg32` compares", first.max(second)));
        }
        match self.test() {
            Test::MaskedEq(mask, value) if value & !mask != 0 => {
                Some(format!("{value:#x} has bits that the mask {mask:#x} takes away, so it is never equal"))
            }
            Test::AnySet(0) => Some("no bit of an empty mask can be set".to_owned()),
            _ => None,
        }
    }
}

/// An argument's index, 0 to 5.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Index(pub(crate) u8);

impl<'de> Deserialize<'de> for Index {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        let index = u64::deserialize(from)?;
        u8::try_from(index).ok().filter(|index| *index < 6).map(Self).ok_or_else(|| {
            de::Error::custom(format!("no call has an argument {index}\na call has up to six, numbered 0 to 5"))
        })
    }
}

/// The name of a call that some architecture has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct CallName(pub(crate) &'static str);

/// The name of a group, with its `@`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct GroupName(pub(crate) &'static groups::Group);

struct NameVisitor<T>(&'static str, fn(&str) -> Result<T, String>);

impl<T> Visitor<'_> for NameVisitor<T> {
    type Value = T;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.0)
    }

    fn visit_str<E: de::Error>(self, text: &str) -> Result<T, E> {
        (self.1)(text).map_err(E::custom)
    }
}

impl<'de> Deserialize<'de> for CallName {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        from.deserialize_str(NameVisitor("the name of a system call", |name| {
            calls::known(name).map(Self).ok_or_else(|| unknown_call(name))
        }))
    }
}

fn unknown_call(name: &str) -> String {
    let help = if name.starts_with('@') {
        format!("write `Group(\"{name}\")` for a group")
    } else {
        names::suggest(name, calls::names()).unwrap_or_else(|| {
            "a call is named as in section 2 of the manual and in the kernel's tables; one that is newer than this \
             palisade is covered by `unknown_calls`"
                .to_owned()
        })
    };
    format!("unknown system call `{name}`\n{help}")
}

impl<'de> Deserialize<'de> for GroupName {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        from.deserialize_str(NameVisitor("the name of a group of system calls", |name| {
            groups::find(name).map(Self).ok_or_else(|| unknown_group(name))
        }))
    }
}

fn unknown_group(name: &str) -> String {
    let all = || groups::all().map(|group| group.name);
    let list = all().collect::<Vec<_>>().join(", ");
    let help = match names::suggest(name, all()) {
        Some(close) => format!("{close} The groups are {list}"),
        None => format!("the groups are {list}"),
    };
    format!("unknown group `{name}`\n{help}")
}
