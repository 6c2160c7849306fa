//! Values that know their place.

use std::ops::Deref;

use ron::value::RawValue;
use serde::de::{DeserializeOwned, Error as _};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use super::context;
use crate::diag::Origin;

/// A value and where in the policy it was written, so that a later refusal can point there.
///
/// ```
/// # use palisade_model::{diag::SourceId, layer::{At, Fragment, parse}, vars::Vars, units::Id};
/// # palisade_model::layered! { struct Config { owner: Option<At<Id>> } }
/// # let section: Config = parse(&Fragment::policy(SourceId(0), "(owner: 7)", 0), &Vars::new())?;
/// // Of a policy's `(owner: 7)`:
/// let owner: At<Id> = section.owner.unwrap();
/// assert_eq!(owner.value.get(), 7);
/// assert_eq!(owner.get(), 7, "it can be used as the value");
/// let place = owner.origin.unwrap();
/// assert_eq!((place.start, place.end), (8, 9));
/// # Ok::<(), palisade_model::diag::Diagnostic>(())
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct At<T> {
    /// The value.
    pub value: T,
    /// Where it was written; absent for a value that was made in memory.
    pub origin: Option<Origin>,
}

impl<T> At<T> {
    /// A value that was not written anywhere.
    ///
    /// ```
    /// # use palisade_model::layer::At;
    /// let made = At::new(7);
    /// assert_eq!((made.value, made.origin), (7, None));
    /// ```
    pub const fn new(value: T) -> Self {
        Self { value, origin: None }
    }

    /// The same place with another value.
    ///
    /// ```
    /// # use palisade_model::{diag::{Origin, SourceId}, layer::At};
    /// let place = Some(Origin { source: SourceId(0), start: 8, end: 9 });
    /// let megabytes = At { value: 7_u64, origin: place };
    /// assert_eq!(megabytes.map(|n| n << 20), At { value: 7 << 20, origin: place });
    /// ```
    pub fn map<U>(self, change: impl FnOnce(T) -> U) -> At<U> {
        At { value: change(self.value), origin: self.origin }
    }
}

impl<T> Deref for At<T> {
    type Target = T;
    fn deref(&self) -> &T {
        &self.value
    }
}

impl<T> From<T> for At<T> {
    fn from(value: T) -> Self {
        Self::new(value)
    }
}

/// Formats for people show the value alone; others keep the place as well.
impl<T: Serialize> Serialize for At<T> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        if serializer.is_human_readable() {
            self.value.serialize(serializer)
        } else {
            (&self.value, self.origin).serialize(serializer)
        }
    }
}

/// From RON: the text of the value is taken as it stands, which gives its place, and then read.
impl<'de, T: DeserializeOwned> Deserialize<'de> for At<T> {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        if !from.is_human_readable() {
            let (value, origin) = Deserialize::deserialize(from)?;
            return Ok(Self { value, origin });
        }
        let raw = <&RawValue>::deserialize(from)?;
        let (value, origin) = context::parse_at(raw.get_ron()).map_err(D::Error::custom)?;
        Ok(Self { value, origin })
    }
}

/// A list that may be written without its brackets when it has one element.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OneOrMany<T>(pub Vec<At<T>>);

impl<T> Default for OneOrMany<T> {
    fn default() -> Self {
        Self(Vec::new())
    }
}

impl<T> Deref for OneOrMany<T> {
    type Target = [At<T>];
    fn deref(&self) -> &[At<T>] {
        &self.0
    }
}

impl<T: Serialize> Serialize for OneOrMany<T> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        self.0.serialize(serializer)
    }
}

impl<'de, T: DeserializeOwned> Deserialize<'de> for OneOrMany<T> {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        if !from.is_human_readable() {
            return Vec::deserialize(from).map(Self);
        }
        let raw = <&RawValue>::deserialize(from)?.get_ron();
        if raw[crate::lex::trim(raw)].starts_with('[') {
            let (list, _) = context::parse_at(raw).map_err(D::Error::custom)?;
            return Ok(Self(list));
        }
        let (value, origin) = context::parse_at(raw).map_err(D::Error::custom)?;
        Ok(Self(vec![At { value, origin }]))
    }
}
