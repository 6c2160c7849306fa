//! The other side of the seam: palisade opens a library and checks that it fits.
//!
//! Trust comes before this module: `dlopen` runs the library's constructors. The layout check is
//! compatibility, never trust.

use crate::c::table::palisade_plugin_table;
use crate::c::{Table, TableError};
use crate::seam::PluginModule_Ref;
use abi_stable::StableAbi;
use abi_stable::abi_stability::check_layout_compatibility;
use abi_stable::library::{
    AbiHeader, AbiHeaderRef, IsLayoutChecked, LibHeader, LibraryError, ROOT_MODULE_LOADER_NAME_WITH_NUL,
};
use libloading::os::unix::{Library, RTLD_LOCAL, RTLD_NOW};
use std::error::Error as _;
use std::fmt;
use std::fs::File;
use std::io;
use std::os::fd::{AsRawFd, BorrowedFd, RawFd};
use std::os::unix::fs::MetadataExt as _;
use std::sync::{Mutex, PoisonError};

/// Why a library that could be trusted cannot be used.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum LoadError {
    /// `dlopen` refused it, in the dynamic linker's words.
    Open(String),
    /// It exports no plugin.
    NotAPlugin,
    /// It was built with another `abi_stable`: which.
    OtherAbiStable(String),
    /// Its seam has another major version: (the plugin's, palisade's).
    OtherMajor(String, String),
    /// It hides the layout of its types, so nothing can be checked.
    NoLayout,
    /// Its types are laid out differently, in `abi_stable`'s words.
    OtherLayout(String),
    /// Its own start-up failed.
    Start(String),
    /// Its table of C functions cannot be read: why.
    Table(String),
    /// Its table of C functions lacks one that is needed: which.
    NoFunction(&'static str),
}

impl fmt::Display for LoadError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Open(why) => write!(f, "the dynamic linker refused it: {why}"),
            Self::NotAPlugin => write!(f, "it is a shared library, but exports no palisade plugin"),
            Self::OtherAbiStable(found) => {
                write!(
                    f,
                    "it was built with another abi_stable: {found}; this palisade has {}",
                    format_of(&AbiHeader::VALUE)
                )
            }
            Self::OtherMajor(theirs, ours) => {
                write!(f, "it was built for seam {theirs}; this palisade has seam {ours}")
            }
            Self::NoLayout => write!(f, "it hides the layout of its types, so they cannot be checked"),
            Self::OtherLayout(why) => write!(f, "its types are laid out differently: {why}"),
            Self::Start(why) => write!(f, "its start-up failed: {why}"),
            Self::Table(why) => write!(f, "its table of functions cannot be used: {why}"),
            Self::NoFunction(name) => {
                write!(f, "its table of functions cannot be used: `{name}` is NULL, and it is needed")
            }
        }
    }
}

impl std::error::Error for LoadError {}

/// A plugin's library in this process. It is never unloaded: steps hold pointers into it.
#[derive(Clone, Copy)]
pub struct Loaded {
    /// The plugin's functions.
    pub module: PluginModule_Ref,
    /// The seam version that it was built against.
    pub seam: &'static str,
}

impl fmt::Debug for Loaded {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Loaded(seam {})", self.seam)
    }
}

/// What a library that was opened turned out to be.
#[derive(Clone, Copy, Debug)]
pub enum Opened {
    /// A plugin behind `abi_stable`'s header.
    Module(Loaded),
    /// A plugin behind a table of C functions.
    Table(Table),
}

/// Opens a plugin by fd. `layout_known`: this very file was checked before, by this very palisade, and is
/// remembered in a place that only root or the caller can write; then the layout is not checked again.
///
/// Each file that was opened stays open in this process, on a descriptor of its own (see `keep`). Of a library that
/// exports both a header and a table, the header counts.
///
/// # Errors
/// See [`LoadError`].
pub fn open(file: BorrowedFd<'_>, layout_known: bool) -> Result<Opened, LoadError> {
    let kept = keep(file).map_err(|e| LoadError::Open(e.to_string()))?;
    let path = format!("/proc/self/fd/{kept}");
    // SAFETY: opening runs the library's constructors, which may do anything; upheld by the caller, who has
    // checked the file's owner, path, ELF structure and digest; else foreign code runs in this process.
    let library = unsafe { Library::open(Some(&path), RTLD_NOW | RTLD_LOCAL) }
        .map_err(|e| LoadError::Open(e.source().map_or_else(|| e.to_string(), ToString::to_string)))?;
    // It is never unloaded: steps hold pointers into it.
    let library = std::mem::ManuallyDrop::new(library);
    let name = ROOT_MODULE_LOADER_NAME_WITH_NUL.as_bytes();
    // SAFETY: the symbol is a `LibHeader`, whose first field is an `AbiHeader`, and `AbiHeaderRef` is a plain
    // pointer to that; upheld by `export_plugin!`, and the header's magic is compared before anything else of
    // it is used; else a foreign static would be read as a header.
    match unsafe { library.get::<AbiHeaderRef>(name) } {
        Ok(symbol) => module(*symbol, layout_known).map(Opened::Module),
        Err(_no_symbol) => table(&library).map(Opened::Table),
    }
}

/// As [`open`], for a plugin behind `abi_stable`'s header and no other.
///
/// # Errors
/// See [`LoadError`].
pub fn load(file: BorrowedFd<'_>, layout_known: bool) -> Result<Loaded, LoadError> {
    match open(file, layout_known)? {
        Opened::Module(loaded) => Ok(loaded),
        Opened::Table(_) => Err(LoadError::NotAPlugin),
    }
}

fn table(library: &Library) -> Result<Table, LoadError> {
    // SAFETY: the symbol is a table as the header has it, and a plain pointer is what `get` gives of a static; upheld by
    // the plugin's author; else a foreign static would be read as a table.
    let symbol = unsafe { library.get::<*const palisade_plugin_table>(crate::c::SYMBOL) };
    let pointer = *symbol.map_err(|_no_symbol| LoadError::NotAPlugin)?;
    // SAFETY: it points to the library's table, and the library stays; upheld by `open`; else other memory is read.
    unsafe { Table::read(pointer) }.map_err(|error| match error {
        TableError::OtherMajor(theirs) => LoadError::OtherMajor(theirs, crate::SEAM_VERSION.to_owned()),
        TableError::Unreadable(why) => LoadError::Table(why),
        TableError::Missing(name) => LoadError::NoFunction(name),
    })
}

fn module(header: AbiHeaderRef, layout_known: bool) -> Result<Loaded, LoadError> {
    let header = header.upgrade().map_err(|e| match e {
        LibraryError::InvalidAbiHeader(found) => LoadError::OtherAbiStable(format_of(&found)),
        other => LoadError::OtherAbiStable(first_line(&other.to_string())),
    })?;
    check_version(header)?;
    if !layout_known {
        check_layout(header)?;
    }
    // SAFETY: the module has the layout that `PluginModule_Ref` expects; upheld by `check_layout` just now or
    // by the memory of an earlier check of the same bytes; else calls go through a table of another type.
    let module = unsafe { header.unchecked_layout::<PluginModule_Ref>() }
        .map_err(|e| LoadError::Start(first_line(&e.to_string())))?;
    Ok(Loaded { module, seam: header.version_strings().version.as_str() })
}

/// Keeps a library's file open for as long as this process lives, and gives the number of the descriptor.
///
/// glibc tells libraries apart by their name, here `/proc/self/fd/N`, and by device and inode. A number that was
/// used again, after a library that was refused or is no longer wanted, would give that library instead of the
/// one that was checked. So a number is never used for another file, and a file is opened once.
fn keep(file: BorrowedFd<'_>) -> io::Result<RawFd> {
    type Identity = (u64, u64, i64, i64);
    static OPENED: Mutex<Vec<(Identity, File)>> = Mutex::new(Vec::new());
    let own = File::from(file.try_clone_to_owned()?);
    let facts = own.metadata()?;
    let identity = (facts.dev(), facts.ino(), facts.ctime(), facts.ctime_nsec());
    let mut opened = OPENED.lock().unwrap_or_else(PoisonError::into_inner);
    match opened.iter().find(|((dev, ino, ..), _)| (*dev, *ino) == (identity.0, identity.1)) {
        Some((known, kept)) if *known == identity => Ok(kept.as_raw_fd()),
        Some(_) => {
            Err(io::Error::other("its file was changed after this process had opened it; start the process again"))
        }
        None => {
            let number = own.as_raw_fd();
            opened.push((identity, own));
            Ok(number)
        }
    }
}

/// The version of `abi_stable` that a header tells of.
fn format_of(header: &AbiHeader) -> String {
    if header.magic_string == AbiHeader::VALUE.magic_string {
        format!("{}.{}", header.abi_major, header.abi_minor)
    } else {
        "of an unknown format".to_owned()
    }
}

/// Versions come first: the other way round a major mismatch prints 70 KB of layouts.
fn check_version(header: &'static LibHeader) -> Result<(), LoadError> {
    let theirs = header.version_strings().version.as_str();
    let major = |v: &str| v.split('.').next().map(str::to_owned);
    if major(theirs) == major(crate::SEAM_VERSION) {
        return Ok(());
    }
    Err(LoadError::OtherMajor(theirs.to_owned(), crate::SEAM_VERSION.to_owned()))
}

fn minor(version: &str) -> u32 {
    version.split('.').nth(1).and_then(|m| m.parse().ok()).unwrap_or(0)
}

/// An interface may have fewer fields than its implementation, never more. So the older side is the interface:
/// a plugin of an older minor is checked as the interface of palisade's own types, and what it lacks is
/// answered by defaults.
fn check_layout(header: &'static LibHeader) -> Result<(), LoadError> {
    let IsLayoutChecked::Yes(theirs) = header.root_mod_consts().layout() else {
        return Err(LoadError::NoLayout);
    };
    let ours = <PluginModule_Ref as StableAbi>::LAYOUT;
    let plugin_is_older = minor(header.version_strings().version.as_str()) < minor(crate::SEAM_VERSION);
    let (interface, implementation) = if plugin_is_older { (theirs, ours) } else { (ours, theirs) };
    check_layout_compatibility(interface, implementation)
        .into_result()
        .map_err(|errors| LoadError::OtherLayout(first_lines(&errors.to_string())))
}

fn first_line(text: &str) -> String {
    text.lines().find(|line| !line.trim().is_empty()).unwrap_or_default().trim().to_owned()
}

/// `abi_stable` prints whole layouts; what differs stands in the first lines.
fn first_lines(text: &str) -> String {
    let lines = text.lines().map(str::trim).filter(|line| !line.is_empty());
    lines.take(6).collect::<Vec<_>>().join("; ")
}
