//! A table that was checked, and what it gives.

use super::call::{Call, Entry};
use super::isolator::{CIsolator, Owned};
use super::read::{Author, Prefixed as _};
use super::table::palisade_plugin_table;
use crate::error::Error;
use crate::facts::Host;
use crate::seam::RawIsolator;
use crate::told::{Finding, Left};
use crate::wrap;
use palisade_model::layer::{Fragment, Shape, merge_shaped};
use std::fmt;
use std::mem::offset_of;
use std::rc::Rc;

/// A plugin's table, copied, as far as both sides know it. The library is never unloaded, so its functions stay.
#[derive(Clone, Copy, Debug)]
pub struct Table(palisade_plugin_table);

/// Why a table is none that can be used.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum TableError {
    /// Its seam has another major version: the plugin's.
    OtherMajor(String),
    /// It is shorter than its first version, or not where a table can be: why.
    Unreadable(String),
    /// A function that is needed is NULL: the field's name.
    Missing(&'static str),
}

impl Table {
    /// Copies the table that a library exports, and checks it. Versions come first.
    ///
    /// # Errors
    /// See [`TableError`].
    ///
    /// # Safety
    /// `pointer` points to a table as the header says, in a library that is never unloaded.
    pub unsafe fn read(pointer: *const palisade_plugin_table) -> Result<Self, TableError> {
        // SAFETY: the library's author wrote the table by the header; upheld by our caller; else other memory is read.
        let author = unsafe { Author::promises() };
        let versions = author.sized(pointer.cast::<Versions>()).map_err(|why| {
            let name = palisade_plugin_table::NAME;
            TableError::Unreadable(why.replace(Versions::NAME, name))
        })?;
        if versions.seam_major != super::table::PALISADE_SEAM_MAJOR {
            return Err(TableError::OtherMajor(format!("{}.{}", versions.seam_major, versions.seam_minor)));
        }
        let table = author.sized(pointer).map_err(TableError::Unreadable)?;
        for (name, is_missing) in [
            ("configure", table.configure.is_none()),
            ("plan", table.plan.is_none()),
            ("ready", table.ready.is_none() && table.watch.is_some()),
            ("watch", table.watch.is_none() && table.ready.is_some()),
        ] {
            if is_missing {
                return Err(TableError::Missing(name));
            }
        }
        Ok(Self(table))
    }

    /// The seam's version that the plugin was built against.
    #[must_use]
    pub fn seam(&self) -> String {
        format!("{}.{}", self.0.seam_major, self.0.seam_minor)
    }
}

/// How every table begins, in every version of the seam.
#[repr(C)]
#[derive(Clone, Copy)]
struct Versions {
    size: usize,
    seam_major: u32,
    seam_minor: u32,
}

const _: () = assert!(
    offset_of!(Versions, seam_major) == offset_of!(palisade_plugin_table, seam_major)
        && offset_of!(Versions, seam_minor) == offset_of!(palisade_plugin_table, seam_minor)
);

impl super::read::Prefixed for Versions {
    const NAME: &'static str = "Versions";
    const FIRST: usize = size_of::<Self>();
}

/// A plugin in C: its table, and the shape of its section.
pub struct Library {
    table: palisade_plugin_table,
    shape: Shape,
}

impl fmt::Debug for Library {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Library(table of {} bytes)", self.table.size)
    }
}

impl Library {
    /// Takes a table, and the reference section of the manifest, which shows every option once.
    ///
    /// # Errors
    /// In words: the reference section shows no shape.
    pub fn new(table: Table, reference: &str) -> Result<Self, String> {
        let shape = Shape::of(reference).map_err(|why| format!("its reference section is not usable: {why}"))?;
        Ok(Self { table: table.0, shape })
    }

    /// Says what this host offers of what the plugin needs.
    ///
    /// # Errors
    /// The plugin's own.
    pub fn probe(&self, host: &Host) -> Result<Vec<Finding>, Error> {
        let Some(probe) = self.table.probe else { return Ok(Vec::new()) };
        let told = Call::new(Entry::Probe).facts(host).run(|host| {
            // SAFETY: the function is one of the table's; upheld by `Table::read`; else other memory is run.
            unsafe { probe(host) }
        })?;
        Ok(told.findings)
    }

    /// Finds what runs that are over left on this host, and removes it if asked to.
    ///
    /// # Errors
    /// The plugin's own.
    pub fn collect(&self, host: &Host, remove: bool) -> Result<Vec<Left>, Error> {
        let Some(collect) = self.table.collect else { return Ok(Vec::new()) };
        let told = Call::new(Entry::Collect).facts(host).run(|host| {
            // SAFETY: the function is one of the table's; upheld by `Table::read`; else other memory is run.
            unsafe { collect(host, i32::from(remove)) }
        })?;
        Ok(told.left)
    }

    /// Merges the layers by the shape of the section, and makes the isolator for one launch.
    ///
    /// # Errors
    /// A policy error, or the plugin's own.
    pub fn configure(&self, layers: &[Fragment], host: &Host) -> Result<RawIsolator, Error> {
        let tree = merge_shaped(&self.shape, layers, &host.vars()).map_err(|diagnostic| wrap::refused(&diagnostic))?;
        let mut isolator = std::ptr::null_mut();
        let Some(configure) = self.table.configure else { return Err(Error::host("it has no `configure`")) };
        Call::new(Entry::Configure).facts(host).section(&self.shape, &tree).run(|host| {
            // SAFETY: the function is one of the table's; upheld by `Table::read`; else other memory is run.
            unsafe { configure(host, &raw mut isolator) }
        })?;
        let owned = Rc::new(Owned { isolator, release: self.table.release });
        Ok(wrap::isolator(Box::new(CIsolator::new(self.table, owned))))
    }
}
