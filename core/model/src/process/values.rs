//! The small values of the process section.

use std::fmt;

use serde::{Deserialize, Deserializer, Serialize};

use crate::units::{AbsPath, Id, Unit, UnitError, UnitVisitor};

/// A user or a group: `1000` or `"nobody"`. The runtime looks names up.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub enum Account {
    /// By id.
    Id(Id),
    /// By name.
    Name(String),
}

impl Unit for Account {
    const FORMS: &'static str = "an id or a name such as \"nobody\"";

    /// Digits are an id and never a name, so that a mistyped id cannot be looked up as one.
    fn from_text(text: &str) -> Result<Self, UnitError> {
        if text.starts_with(|c: char| c.is_ascii_digit()) {
            return Id::from_text(text).map(Self::Id);
        }
        let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '-' | '.' | '$');
        let first = |c: char| c.is_ascii_alphabetic() || c == '_';
        if text.starts_with(first) && text.chars().all(plain) && text.len() <= 256 {
            return Ok(Self::Name(text.to_owned()));
        }
        Err(UnitError::new(format!("`{text}` is not the name of a user or group"), format!("expected {}", Self::FORMS)))
    }

    fn from_integer(number: i128) -> Result<Self, UnitError> {
        Id::from_integer(number).map(Self::Id)
    }
}

impl<'de> Deserialize<'de> for Account {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        from.deserialize_any(UnitVisitor(std::marker::PhantomData))
    }
}

impl fmt::Display for Account {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Id(id) => id.fmt(f),
            Self::Name(name) => f.pad(name),
        }
    }
}

/// Where standard input comes from.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum Input {
    /// From where palisade's own comes.
    #[default]
    Inherit,
    /// Nowhere: it is at its end at once.
    Null,
    /// From a file of the host.
    File(AbsPath),
}

/// Where an output goes.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum Output {
    /// To where palisade's own goes.
    #[default]
    Inherit,
    /// Nowhere.
    Null,
    /// To a file of the host, from its beginning.
    File(AbsPath),
    /// To the end of a file of the host.
    Append(AbsPath),
}

/// The terminal of the workload.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum Terminal {
    /// The one that palisade was started on.
    #[default]
    Inherit,
    /// One of its own, in a session of its own; palisade passes on what is typed and what is shown.
    New,
}
