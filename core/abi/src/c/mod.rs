//! The second way to write a plugin: a table of C functions, for every language that can export a symbol.
//!
//! A library that exports `palisade_plugin` and not `abi_stable`'s header is called through this. Behind it stand the
//! same traits as behind the first way, so that nobody else in palisade knows which of the two a plugin is.
//!
//! Every struct begins with its size. Who reads one takes what both sides know; what lies beyond the smaller size is
//! absent. No memory is freed across the seam: results are handed to functions of palisade, which copy.
//!
//! | file | holds |
//! |---|---|
//! | `table` | what lies in memory; the header for C is made from it |
//! | `read` | reading what a plugin hands over |
//! | `told` | the same in the SDK's own types |
//! | `call` | one call of a plugin, and the functions that palisade lends it |
//! | `library` | a table that was checked, and what it gives |
//! | `isolator` | an isolator and its steps, as the SDK has them |

mod call;
mod isolator;
mod library;
mod read;
pub mod table;
mod told;

pub use library::{Library, Table, TableError};

/// The symbol that a library exports, with its NUL.
pub(crate) const SYMBOL: &[u8] = b"palisade_plugin\0";
