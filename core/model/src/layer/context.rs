//! What a value needs to know while it is read: the text that it is part of, and the variables.
//!
//! serde hands a value to its type without either, so both are kept beside it, per thread, for as
//! long as [`parse_text`] runs. Places come from comparing addresses: every text that is read
//! inside is a slice of the one outside.

use std::cell::RefCell;

use ron::error::SpannedResult;
use ron::extensions::Extensions;
use ron::value::RawValue;
use serde::Deserialize;
use serde::de::DeserializeOwned;

use super::Fragment;
use super::explain::{Failure, explain, in_whole};
use crate::diag::{Diagnostic, Origin};
use crate::lex;
use crate::vars::Vars;

thread_local! {
    static CONTEXT: RefCell<Option<Context>> = const { RefCell::new(None) };
}

struct Context {
    /// The address of the first byte of the text, and its length.
    root: usize,
    len: usize,
    /// The fragment without its text, for mapping places.
    places: Fragment,
    vars: Vars,
    /// The first failure of an inner value: the deepest one that was reached.
    failure: Option<Failure>,
}

/// A refusal of a whole fragment.
#[derive(Debug)]
pub(crate) struct Refusal {
    pub(crate) diagnostic: Diagnostic,
    /// Whether the message knows what was meant, rather than what kind of text it is not.
    pub(crate) telling: bool,
}

/// Puts the context that was there before back, also when a `Deserialize` panics.
struct Guard(Option<Context>);

impl Drop for Guard {
    fn drop(&mut self) {
        CONTEXT.set(self.0.take());
    }
}

pub(super) fn options() -> ron::Options {
    ron::Options::default().with_default_extension(Extensions::IMPLICIT_SOME)
}

/// Reads `text`, whose places are those of `places` (whose own text does not matter).
pub(crate) fn parse_text<'de, T: Deserialize<'de>>(
    text: &'de str,
    places: &Fragment,
    vars: &Vars,
) -> Result<T, Refusal> {
    read_text(text, places, vars, |text| options().from_str(text))
}

/// The same for a value that is not read by its type alone.
pub(super) fn read_text<'de, T>(
    text: &'de str,
    places: &Fragment,
    vars: &Vars,
    read: impl FnOnce(&'de str) -> SpannedResult<T>,
) -> Result<T, Refusal> {
    let context = Context {
        root: text.as_ptr().addr(),
        len: text.len(),
        places: Fragment {
            pieces: places.pieces.clone(),
            ..Fragment::policy(places.source, String::new(), places.offset)
        },
        vars: vars.clone(),
        failure: None,
    };
    let guard = Guard(CONTEXT.replace(Some(context)));
    let parsed = attributes(text)
        .and_then(|()| read(text).map_err(|error| take_failure().unwrap_or_else(|| explain(&error, text))));
    drop(guard);
    parsed.map_err(|failure| Refusal::new(in_whole(failure, text), places))
}

impl Refusal {
    fn new(failure: Failure, places: &Fragment) -> Self {
        Self {
            diagnostic: Diagnostic { help: failure.help, ..Diagnostic::new(failure.message) }
                .at(places.origin(failure.start, failure.end)),
            telling: failure.telling,
        }
    }
}

/// Why `value`, which begins at the byte `base` of the fragment, is not RON at all; `None` if it
/// is.
pub(super) fn malformed(value: &str, base: usize, places: &Fragment) -> Option<Refusal> {
    let error = RawValue::from_ron(value).err()?;
    // Whoever opens a bracket or a string means to write RON.
    let meant = value.trim_start().starts_with(['[', '(', '{', '"']);
    let failure = Failure { telling: meant, ..explain(&error, value) };
    Some(Refusal::new(failure.shifted(base), places))
}

/// An extension of RON would hold outside and not in the sections, which are read on their own.
fn attributes(text: &str) -> Result<(), Failure> {
    let start = lex::start(text);
    if !text[start..].starts_with("#!") {
        return Ok(());
    }
    let end = text[start..].find('\n').map_or(text.len(), |n| start + n);
    Err(Failure {
        message: "a policy cannot enable extensions of RON".to_owned(),
        help: Some("remove this line".to_owned()),
        start,
        end,
        telling: true,
    })
}

fn take_failure() -> Option<Failure> {
    CONTEXT.with_borrow_mut(|context| context.as_mut()?.failure.take())
}

/// Reads a value that is part of the text being read: the value and its place.
pub(crate) fn parse_at<T: DeserializeOwned>(raw: &str) -> Result<(T, Option<Origin>), String> {
    let text = &raw[lex::trim(raw)];
    let (place, failed_before) = CONTEXT.with_borrow(|context| {
        let context = context.as_ref();
        (context.and_then(|c| c.place(text)), context.is_some_and(|c| c.failure.is_some()))
    });
    let (base, origin) = place.unzip();
    match options().from_str(text) {
        Ok(value) => {
            // A type that tried one thing and then another has not failed after all.
            if !failed_before {
                take_failure();
            }
            Ok((value, origin))
        }
        Err(error) => {
            let failure = explain(&error, text);
            let said = failure.text();
            CONTEXT.with_borrow_mut(|context| {
                if let (Some(context), Some(base)) = (context.as_mut(), base) {
                    context.failure.get_or_insert(failure.shifted(base));
                }
            });
            Err(said)
        }
    }
}

impl Context {
    fn place(&self, text: &str) -> Option<(usize, Origin)> {
        let start = text.as_ptr().addr().checked_sub(self.root)?;
        let end = start.checked_add(text.len())?;
        (end <= self.len).then(|| (start, self.places.origin(start, end)))
    }
}

/// Expands the variables of the policy that is being read; outside of one there are none.
pub(crate) fn expand(text: &str) -> Result<String, String> {
    if !text.contains('$') {
        return Ok(text.to_owned());
    }
    CONTEXT.with_borrow(|context| match context {
        Some(context) => context.vars.expand(text),
        None => Vars::new().expand(text),
    })
}
