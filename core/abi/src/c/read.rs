//! Reading what a plugin hands over. Nothing is believed of it but that its pointers point where they say.

use super::table::{
    palisade_attempt, palisade_error, palisade_finding, palisade_hit, palisade_left, palisade_origin,
    palisade_plugin_table, palisade_step, palisade_text,
};
use palisade_model::diag::{Origin, SourceId};
use std::mem::{MaybeUninit, offset_of};

/// No text that crosses is longer.
const LONGEST: usize = 16 << 20;
/// No list that crosses has more items.
const MOST: usize = 4096;

/// A struct that begins with its size, and of which all zero is a value: integers, pointers and functions that may be
/// absent, nothing else.
pub(super) trait Prefixed: Copy {
    const NAME: &'static str;
    /// The size of its first version. It never changes, also when the struct grows.
    const FIRST: usize;
}

macro_rules! prefixed {
    ($($name:ident: $last:ident, $size:expr;)*) => {$(
        impl Prefixed for $name {
            const NAME: &'static str = stringify!($name);
            const FIRST: usize = offset_of!($name, $last) + $size;
        }
    )*};
}

const WORD: usize = size_of::<usize>();
const TEXT: usize = size_of::<palisade_text>();

// Each with the last field of its first version, and the size of that.
prefixed! {
    palisade_error: origin, WORD;
    palisade_finding: remedy, TEXT;
    palisade_left: why, TEXT;
    palisade_hit: origin, WORD;
    palisade_attempt: argc, WORD;
    palisade_step: data, WORD;
    palisade_plugin_table: take, WORD;
}

/// The promise of a plugin's author that what the plugin hands over is what the header says: each pointer is NULL or
/// points to one of its type, a struct is as long as it says, a text and a list as well.
#[derive(Clone, Copy)]
pub(super) struct Author(());

impl Author {
    /// # Safety
    /// What is read with it comes from a call of the plugin that is not over, and its author has kept the promise.
    pub(super) unsafe fn promises() -> Self {
        Self(())
    }

    /// Reads a struct as far as both sides know it.
    pub(super) fn sized<T: Prefixed>(self, pointer: *const T) -> Result<T, String> {
        let name = T::NAME;
        if pointer.is_null() || !pointer.is_aligned() {
            return Err(format!("a `{name}` at no address of one"));
        }
        // SAFETY: a word can be read there; upheld by the author and the two checks above; else other memory is read.
        let size = unsafe { pointer.cast::<usize>().read() };
        if size < T::FIRST {
            return Err(format!("a `{name}` of {size} bytes; its first version has {}", T::FIRST));
        }
        let mut whole = MaybeUninit::<T>::zeroed();
        let (from, to) = (pointer.cast::<u8>(), whole.as_mut_ptr().cast::<u8>());
        // SAFETY: as many bytes lie there as were said, and `whole` has room for as many as are copied; upheld by the
        // author and by `min`; else memory beyond either is touched.
        unsafe { std::ptr::copy_nonoverlapping(from, to, size.min(size_of::<T>())) };
        // SAFETY: every byte is set, and zero is a value of each field; upheld by `Prefixed`; else a field would be of
        // no value of its type.
        Ok(unsafe { whole.assume_init() })
    }

    /// Copies a text.
    pub(super) fn text(self, text: palisade_text) -> Result<String, String> {
        if text.length == 0 {
            return Ok(String::new());
        }
        if text.data.is_null() || text.length > LONGEST {
            return Err(format!("a text of {} bytes at {:?}", text.length, text.data));
        }
        // SAFETY: as many bytes lie there; upheld by the author; else other memory is read.
        let bytes = unsafe { std::slice::from_raw_parts(text.data.cast::<u8>(), text.length) };
        let whole = std::str::from_utf8(bytes)
            .map_err(|_not_text| format!("a text that is not UTF-8: {:?}", String::from_utf8_lossy(bytes)))?;
        Ok(whole.to_owned())
    }

    /// Copies a list of texts.
    pub(super) fn texts(self, first: *const palisade_text, count: usize) -> Result<Vec<String>, String> {
        if count == 0 {
            return Ok(Vec::new());
        }
        if first.is_null() || !first.is_aligned() || count > MOST {
            return Err(format!("{count} texts at {first:?}"));
        }
        // SAFETY: as many texts lie there; upheld by the author; else other memory is read as texts.
        let all = unsafe { std::slice::from_raw_parts(first, count) };
        all.iter().map(|one| self.text(*one)).collect()
    }

    /// Copies a place in the policy.
    pub(super) fn origin(self, origin: *const palisade_origin) -> Result<Option<Origin>, String> {
        if origin.is_null() {
            return Ok(None);
        }
        if !origin.is_aligned() {
            return Err("a `palisade_origin` at no address of one".to_owned());
        }
        // SAFETY: one lies there; upheld by the author and the two checks above; else other memory is read.
        let palisade_origin { source, start, end } = unsafe { origin.read() };
        Ok(Some(Origin { source: SourceId(source), start, end }))
    }

    /// Writes a result where the plugin wants it: 1, or 0 where there is none.
    pub(super) fn put<T>(self, to: *mut T, value: Option<T>) -> i32 {
        let Some(value) = value.filter(|_| !to.is_null() && to.is_aligned()) else { return 0 };
        // SAFETY: there is room for it; upheld by the author and the check above; else other memory is overwritten.
        unsafe { to.write(value) };
        1
    }
}
