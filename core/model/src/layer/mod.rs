//! Typed layers: how one section of a policy is read, and how the layers of `extends` and `--set`
//! become one value.
//!
//! The core uses it for `process`, a plugin for its own section, through the same functions, so
//! that all sections read, merge and complain alike:
//!
//! 1. the owner of a section defines its type with [`layered!`](crate::layered);
//! 2. [`parse`] reads one [`Fragment`] into it, each value an [`At`] that knows its place;
//! 3. [`merge_layers`] puts the layers on top of each other.
//!
//! An owner that has no types of Rust shows a [`Shape`] instead, and gets a [`Tree`] of texts: [`merge_shaped`].

mod at;
mod context;
mod explain;
mod field;
mod macros;
mod merge;
mod scene;
mod shape;
mod tree;

use ron::error::SpannedResult;
use ron::value::RawValue;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use crate::diag::{Diagnostic, Origin, SourceId};
use crate::lex;
use crate::vars::Vars;

pub use at::{At, OneOrMany};
pub(crate) use context::{expand, parse_at, parse_text};
#[doc(hidden)]
pub use field::Field;
#[doc(hidden)]
pub use macros::field_name;
pub(crate) use merge::locked;
pub use merge::{Layered, PathError, merge_layers, merge_shaped};
pub use shape::{Kind, Shape};
pub use tree::Tree;

/// Where a fragment comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum FragmentKind {
    /// A section of a policy file, as written there.
    Policy,
    /// A `--set` argument: the text is made from it.
    Set,
}

/// A dotted path inside a section (`memory.max`), and where it was written.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Dotted {
    /// The path, relative to the section.
    pub path: String,
    /// Where it was written.
    pub origin: Option<Origin>,
}

impl Dotted {
    /// The names in the path.
    #[must_use]
    pub fn segments(&self) -> Vec<&str> {
        self.path.split('.').collect()
    }
}

/// A piece of a made text and the piece of the source that it stands for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Piece {
    /// First byte in the fragment's text.
    pub start: u32,
    /// One past the last byte in the fragment's text.
    pub end: u32,
    /// First byte in the source.
    pub source_start: u32,
    /// One past the last byte in the source.
    pub source_end: u32,
}

/// One layer of one section: RON text, and how its places map to the source.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Fragment {
    /// The section that it is a layer of: a plugin's name or `process`; empty where that is not
    /// known. Messages show paths with it.
    pub section: String,
    /// The source that it was taken from.
    pub source: SourceId,
    /// The section as RON.
    pub text: String,
    /// The byte of the source at which `text` begins; meaningless for [`FragmentKind::Set`].
    pub offset: u32,
    /// Where it comes from.
    pub kind: FragmentKind,
    /// What this layer puts in place of what it inherits, instead of adding to it.
    pub replace: Vec<Dotted>,
    /// What this layer takes away from what it inherits.
    pub drop: Vec<Dotted>,
    /// What later layers may not touch.
    pub locked: Vec<Dotted>,
    /// For [`FragmentKind::Set`]: the pieces of the made text, the value last.
    pub pieces: Vec<Piece>,
}

impl Fragment {
    /// A section as it stands in a policy file, from the byte `offset` on.
    #[must_use]
    pub fn policy(source: SourceId, text: impl Into<String>, offset: u32) -> Self {
        Self {
            section: String::new(),
            source,
            text: text.into(),
            offset,
            kind: FragmentKind::Policy,
            replace: Vec::new(),
            drop: Vec::new(),
            locked: Vec::new(),
            pieces: Vec::new(),
        }
    }

    /// The fragment as RON, from which `ron::from_str` makes it again.
    ///
    /// Its text goes into a raw string: with escapes each letter would be looked at when it is written and again when
    /// it is read, at every launch.
    ///
    /// # Errors
    /// A text that no raw string can hold.
    pub fn to_ron(&self) -> Result<String, ron::Error> {
        let hashes = longest_run(&self.text) + 1;
        let marks = "#".repeat(hashes);
        let raw = format!("r{marks}\"{}\"{marks}", self.text);
        let text = RawValue::from_ron(&raw).map_err(|error| error.code)?;
        let Self { section, source, offset, kind, replace, drop, locked, pieces, .. } = self;
        ron::to_string(&Written { section, source, text, offset, kind, replace, drop, locked, pieces })
    }

    /// A path of this section as it is written in a policy: `cgroups.memory.max`.
    #[must_use]
    pub fn full_path(&self, path: &str) -> String {
        match self.section.as_str() {
            "" => path.to_owned(),
            section => format!("{section}.{path}"),
        }
    }

    /// The place in the source that a byte range of `text` stands for.
    #[must_use]
    pub fn origin(&self, start: usize, end: usize) -> Origin {
        let narrow = |n: usize| u32::try_from(n).unwrap_or(u32::MAX);
        let (start, end) = (narrow(start), narrow(end));
        let place = |start, end| Origin { source: self.source, start, end };
        if self.pieces.is_empty() {
            return place(self.offset.saturating_add(start), self.offset.saturating_add(end));
        }
        // Brackets that were added stand for the piece that they are put around.
        let piece = self.pieces.iter().find(|p| start < p.end);
        let Some(piece) = piece.or(self.pieces.last()) else {
            return place(0, 0);
        };
        let alike = piece.end.abs_diff(piece.start) == piece.source_end.abs_diff(piece.source_start);
        if alike && start >= piece.start && end <= piece.end {
            let shift = |n: u32| piece.source_start + (n - piece.start);
            return place(shift(start), shift(end));
        }
        place(piece.source_start, piece.source_end)
    }

    /// The value of a `--set` argument.
    fn value(&self) -> Option<(Piece, &str)> {
        let piece = *self.pieces.last()?;
        let range = usize::try_from(piece.start).ok()?..usize::try_from(piece.end).ok()?;
        Some((piece, self.text.get(range)?))
    }

    /// The same with the value of the `--set` argument as a string.
    fn quoted(&self) -> Option<Self> {
        let (piece, value) = self.value()?;
        let quoted = format!("{value:?}");
        let start = usize::try_from(piece.start).ok()?;
        let mut other = self.clone();
        other.text.replace_range(start..start + value.len(), &quoted);
        let last = other.pieces.last_mut()?;
        last.end = last.start.checked_add(u32::try_from(quoted.len()).ok()?)?;
        Some(other)
    }
}

/// A [`Fragment`] on its way out.
#[derive(Serialize)]
struct Written<'a> {
    section: &'a str,
    source: &'a SourceId,
    text: &'a RawValue,
    offset: &'a u32,
    kind: &'a FragmentKind,
    replace: &'a [Dotted],
    drop: &'a [Dotted],
    locked: &'a [Dotted],
    pieces: &'a [Piece],
}

/// The longest run of `#` behind a quote.
fn longest_run(text: &str) -> usize {
    let runs = text.split('"').skip(1).map(|rest| rest.len() - rest.trim_start_matches('#').len());
    runs.max().unwrap_or(0)
}

/// Reads one layer.
///
/// The value of a `--set` argument is tried as written and then as a string, so that
/// `hostname=box`, `max=1GiB` and `default=Errno(1)` all mean what they say.
///
/// # Errors
/// Text that is not a `T`: what is wrong, where in the policy, and what was likely meant.
pub fn parse<T: DeserializeOwned>(fragment: &Fragment, vars: &Vars) -> Result<T, Diagnostic> {
    read(fragment, vars, |text| context::options().from_str(text))
}

/// Reads one layer in the way that `how` reads its text.
fn read<T>(fragment: &Fragment, vars: &Vars, how: impl Fn(&str) -> SpannedResult<T>) -> Result<T, Diagnostic> {
    if fragment.kind == FragmentKind::Policy {
        return read_once(fragment, vars, &how).map_err(|failure| failure.diagnostic);
    }
    let Some((quoted, (piece, value))) = fragment.quoted().zip(fragment.value()) else {
        return Err(Diagnostic::new("this argument has no value"));
    };
    let base = usize::try_from(piece.start).unwrap_or(usize::MAX);
    // A value that closes brackets itself would set more than the path says, so it is read only
    // if it is a value on its own.
    let (as_written, is_ron) = match context::malformed(value, base, fragment) {
        Some(refusal) => (refusal, false),
        None => match read_once(fragment, vars, &how) {
            Ok(parsed) => return Ok(parsed),
            Err(refusal) => (refusal, true),
        },
    };
    read_once(&quoted, vars, &how).map_err(|as_text| {
        // The quotes were ours, so a complaint about them would puzzle.
        if as_written.telling || (is_ron && !as_text.telling) { as_written.diagnostic } else { as_text.diagnostic }
    })
}

/// Reads one layer as it stands.
fn read_once<T>(
    fragment: &Fragment,
    vars: &Vars,
    how: &impl Fn(&str) -> SpannedResult<T>,
) -> Result<T, context::Refusal> {
    if let Some((later, first)) = lex::duplicate_key(&fragment.text) {
        let key = later.text(&fragment.text);
        let diagnostic = Diagnostic::new(format!("the key `{key}` is given twice"))
            .at(fragment.origin(later.start, later.end))
            .also("first", Some(fragment.origin(first.start, first.end)))
            .help("one of them would be ignored; remove it");
        return Err(context::Refusal { diagnostic, telling: true });
    }
    context::read_text(&fragment.text, fragment, vars, how)
}

#[cfg(test)]
mod tests;
