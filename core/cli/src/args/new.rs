//! What can be said to `palisade plugin new`.

use clap::{Args, ValueEnum, ValueHint};
use std::path::PathBuf;

/// Begin a plugin of one's own
///
/// Makes a directory NAME with a plugin that works: its source, its manifest, tests that use it under a real palisade, a
/// policy to try it with, and a README, which is the first page of the guide for authors. It is built alone, wherever it
/// lies. A directory that is there is left as it is.
#[derive(Debug, Args)]
pub(crate) struct PluginNew {
    /// Its name, which policies will use: lower-case letters, digits and `-`, a letter first
    #[arg(value_name = "NAME")]
    pub(crate) name: String,
    /// The language that it is written in
    #[arg(long, value_enum, default_value_t = Lang::Rust, value_name = "LANG")]
    pub(crate) lang: Lang,
    /// Build it against the SDK of this source tree of palisade, instead of the one that is published. In Rust; where
    /// palisade itself runs from a source tree that is the default
    #[arg(long, value_name = "DIR", value_hint = ValueHint::DirPath)]
    pub(crate) sdk: Option<PathBuf>,
}

/// A language that plugins can be written in.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Lang {
    /// A crate, for cargo
    Rust,
    /// C11, for make
    C,
}
