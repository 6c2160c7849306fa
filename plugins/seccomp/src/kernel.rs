//! An error of the kernel as an error of a step: with its errno and, where one is known, its hint.

use palisade_abi::Error;

/// Says what was being done when a call failed.
pub(crate) trait Doing<T> {
    /// Puts `message` in front of the call.
    fn doing(self, message: &str) -> Result<T, Error>;
}

impl<T> Doing<T> for palisade_sys::Result<T> {
    fn doing(self, message: &str) -> Result<T, Error> {
        self.map_err(|error| {
            Error::setup(message)
                .call(error.to_string(), error.errno())
                .help(error.hint().unwrap_or_default())
        })
    }
}
