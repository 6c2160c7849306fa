//! Numbers and strings with a meaning: sizes, times, percentages, paths, ids.
//!
//! Each is read from a string in a policy and shown in one canonical form. A number without a
//! unit is accepted only where it cannot be misread. In formats that are not for people each is
//! its plain content.

mod id;
mod size;
mod text;
mod time;

use std::fmt;
use std::marker::PhantomData;

use serde::de::{self, Visitor};

pub use id::{Bounded, CpuSet, Fd, Id, Mode};
pub use size::{CountOrMax, Percent, Size, SizeOrMax};
pub use text::{AbsPath, Text};
pub use time::Time;

/// Why a text is not the value that it should be.
///
/// ```
/// # use palisade_model::units::{Size, UnitError};
/// let UnitError { message, help } = "a lot".parse::<Size>().unwrap_err();
/// assert_eq!(message, "`a lot` is not a size");
/// assert!(help.starts_with("write a size such as"));
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UnitError {
    /// What is wrong.
    pub message: String,
    /// The forms that are accepted.
    pub help: String,
}

impl UnitError {
    pub(crate) fn new(message: impl Into<String>, help: impl Into<String>) -> Self {
        Self { message: message.into(), help: help.into() }
    }
}

/// The message, then the help on a line of its own: [`crate::layer::parse`] takes them apart
/// again.
impl fmt::Display for UnitError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}\n{}", self.message, self.help)
    }
}

impl std::error::Error for UnitError {}

/// How a unit is read.
pub(crate) trait Unit: Sized {
    /// The forms that are accepted, for "expected …".
    const FORMS: &'static str;

    fn from_text(text: &str) -> Result<Self, UnitError>;

    fn from_integer(number: i128) -> Result<Self, UnitError> {
        Err(UnitError::new(format!("`{number}` is not in quotes"), format!("expected {}", Self::FORMS)))
    }
}

pub(crate) struct UnitVisitor<T>(pub(crate) PhantomData<T>);

impl<T: Unit> Visitor<'_> for UnitVisitor<T> {
    type Value = T;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(T::FORMS)
    }

    fn visit_str<E: de::Error>(self, text: &str) -> Result<T, E> {
        T::from_text(text).map_err(E::custom)
    }

    fn visit_u64<E: de::Error>(self, number: u64) -> Result<T, E> {
        T::from_integer(number.into()).map_err(E::custom)
    }

    fn visit_i64<E: de::Error>(self, number: i64) -> Result<T, E> {
        T::from_integer(number.into()).map_err(E::custom)
    }
}

/// Implements `FromStr`, `Serialize` and `Deserialize` for a tuple struct of one field.
macro_rules! unit {
    ($type:ty, $inner:ty, |$inner_value:ident| $make:expr) => {
        impl std::str::FromStr for $type {
            type Err = $crate::units::UnitError;
            fn from_str(text: &str) -> Result<Self, Self::Err> {
                <Self as $crate::units::Unit>::from_text(text)
            }
        }
        impl serde::Serialize for $type {
            fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                if serializer.is_human_readable() {
                    serializer.collect_str(self)
                } else {
                    serde::Serialize::serialize(&self.0, serializer)
                }
            }
        }
        impl<'de> serde::Deserialize<'de> for $type {
            fn deserialize<D: serde::Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
                if from.is_human_readable() {
                    let visitor = $crate::units::UnitVisitor(std::marker::PhantomData);
                    from.deserialize_any(visitor)
                } else {
                    let $inner_value = <$inner as serde::Deserialize>::deserialize(from)?;
                    $make.map_err(serde::de::Error::custom)
                }
            }
        }
    };
}
pub(crate) use unit;

/// `"1.5"` as 1.5 × `scale`, exactly; `None` if it is not a number, has a remainder, or is too
/// large.
pub(crate) fn decimal(text: &str, scale: u64) -> Option<u64> {
    let (whole, fraction) = text.split_once('.').unwrap_or((text, ""));
    let digits = |s: &str| s.bytes().all(|b| b.is_ascii_digit());
    let dangling = text.contains('.') && fraction.is_empty();
    if whole.is_empty() || dangling || !digits(whole) || !digits(fraction) || fraction.len() > 18 {
        return None;
    }
    let scale = u128::from(scale);
    let whole = whole.parse::<u64>().ok()?;
    let part = fraction.parse::<u128>().unwrap_or(0) * scale;
    let unit = 10_u128.pow(u32::try_from(fraction.len()).ok()?);
    if part % unit != 0 {
        return None;
    }
    u64::try_from(u128::from(whole) * scale + part / unit).ok()
}

/// Where the number ends and the unit begins.
pub(crate) fn split_unit(text: &str) -> (&str, &str) {
    let at = text.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(text.len());
    text.split_at(at)
}
