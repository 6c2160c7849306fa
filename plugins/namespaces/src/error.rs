//! A failed call as an error that says what was asked and what to do.

use palisade_abi::Error;

/// Says what was being done when a call failed; the call, its errno and the hint for it are kept.
pub(crate) trait Told<T> {
    fn told(self, words: impl FnOnce() -> String) -> Result<T, Error>;
}

impl<T> Told<T> for palisade_sys::Result<T> {
    fn told(self, words: impl FnOnce() -> String) -> Result<T, Error> {
        self.map_err(|e| Error::setup(words()).call(e.to_string(), e.errno()).help(e.hint().unwrap_or_default()))
    }
}
