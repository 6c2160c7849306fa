//! A plugin's library in this process, whichever way it was written.

use palisade_abi::abi_stable::std_types::RString;
use palisade_abi::host::{LoadError, Loaded, Opened, open};
use palisade_abi::seam::{RawFinding, RawIsolator, RawLayer, RawLeft};
use palisade_abi::{Error, Finding, Host, Left, Support, c, wrap};
use palisade_model::layer::Fragment;
use std::os::fd::BorrowedFd;

/// What every plugin has, however it is called.
pub trait Library: std::fmt::Debug {
    /// Says what this host offers of what the plugin needs.
    ///
    /// # Errors
    /// The plugin's own.
    fn probe(&self, host: &Host) -> Result<Vec<Finding>, Error>;

    /// Turns the layers of its section into an isolator.
    ///
    /// # Errors
    /// The plugin's own.
    fn configure(&self, layers: &[Fragment], host: &Host) -> Result<RawIsolator, Error>;

    /// Finds what runs that are over left on this host, and removes it where `remove` says so.
    ///
    /// # Errors
    /// The plugin's own.
    fn collect(&self, host: &Host, remove: bool) -> Result<Vec<Left>, Error>;
}

/// A library that was opened: what it is called through, and what is remembered of it.
#[derive(Debug)]
pub struct Found {
    /// Its functions.
    pub library: Box<dyn Library>,
    /// The seam's version that it was built against.
    pub seam: String,
    /// Whether its section is read by the reference of its manifest.
    pub needs_reference: bool,
}

/// Opens a library, and finds out what it is.
///
/// # Errors
/// See [`LoadError`].
pub fn load(file: BorrowedFd<'_>, layout_known: bool, reference: &str) -> Result<Found, LoadError> {
    Ok(match open(file, layout_known)? {
        Opened::Module(loaded) => {
            Found { seam: loaded.seam.to_owned(), library: Box::new(Module(loaded)), needs_reference: false }
        }
        Opened::Table(table) => {
            let library = c::Library::new(table, reference).map_err(LoadError::Table)?;
            Found { seam: table.seam(), library: Box::new(library), needs_reference: true }
        }
    })
}

/// A plugin behind `abi_stable`'s header.
#[derive(Debug)]
struct Module(Loaded);

impl Library for Module {
    fn probe(&self, host: &Host) -> Result<Vec<Finding>, Error> {
        let found = (self.0.module.probe())(wrap::facts(host)).into_result()?;
        let finding = |raw: RawFinding| Finding {
            feature: raw.feature.into_string(),
            support: match raw.support {
                0 => Support::Full,
                1 => Support::Partial,
                _ => Support::Missing,
            },
            detail: raw.detail.into_string(),
            remedy: raw.remedy.into_string(),
        };
        Ok(found.into_iter().map(finding).collect())
    }

    fn configure(&self, layers: &[Fragment], host: &Host) -> Result<RawIsolator, Error> {
        let layer = |fragment: &Fragment| {
            let text = fragment.to_ron().map_err(|e| Error::policy(format!("a layer could not be passed on: {e}")))?;
            Ok(RawLayer { fragment: RString::from(text) })
        };
        let layers = layers.iter().map(layer).collect::<Result<Vec<_>, Error>>()?;
        Ok((self.0.module.configure())(layers.into(), wrap::facts(host)).into_result()?)
    }

    fn collect(&self, host: &Host, remove: bool) -> Result<Vec<Left>, Error> {
        // A plugin of seam 1.0 knows of nothing that it could leave.
        let Some(collect) = self.0.module.collect() else { return Ok(Vec::new()) };
        let left = collect(wrap::facts(host), remove).into_result()?;
        let one =
            |raw: RawLeft| Left { what: raw.what.into_string(), removed: raw.removed, why: raw.why.into_string() };
        Ok(left.into_iter().map(one).collect())
    }
}

impl Library for c::Library {
    fn probe(&self, host: &Host) -> Result<Vec<Finding>, Error> {
        self.probe(host)
    }

    fn configure(&self, layers: &[Fragment], host: &Host) -> Result<RawIsolator, Error> {
        self.configure(layers, host)
    }

    fn collect(&self, host: &Host, remove: bool) -> Result<Vec<Left>, Error> {
        self.collect(host, remove)
    }
}
