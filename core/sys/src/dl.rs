//! Loading a shared object that has been judged already, by its descriptor.

use std::error::Error as _;
use std::os::fd::OwnedFd;

use libloading::os::unix::{Library as Handle, RTLD_LOCAL, RTLD_NOW};

use crate::fd;

/// A shared object in this process.
#[derive(Debug)]
pub struct Library(Handle);

impl Library {
    /// Loads the file of a descriptor, with all its symbols bound and none shared.
    ///
    /// Its constructors run here, so whoever calls has checked the file first. The path is
    /// `/proc/self/fd/N` and glibc knows a library by its path: keep the descriptor open as long as
    /// others may be loaded, or a reused number gives this library again. dlopen(3).
    ///
    /// # Errors
    /// The loader's own words.
    pub fn open_fd(file: &OwnedFd) -> Result<Self, String> {
        let path = fd::proc_fd_path(file);
        // SAFETY: the file's constructors keep to the language's rules; upheld by the caller's trust checks on this very descriptor; else anything happens, as in any plugin.
        match unsafe { Handle::open(Some(&path), RTLD_NOW | RTLD_LOCAL) } {
            Ok(handle) => Ok(Self(handle)),
            // The crate's own Display hides what dlerror said.
            Err(error) => Err(error.source().map_or_else(|| error.to_string(), ToString::to_string)),
        }
    }

    /// Finds a symbol's address; what it points to is the caller's knowledge.
    ///
    /// dlsym(3).
    #[must_use]
    pub fn symbol_ptr(&self, name: &str) -> Option<*const ()> {
        // SAFETY: the symbol is taken as a bare address and not called or read here; upheld by the pointer type; else a wrong type would be used.
        let symbol = unsafe { self.0.get::<*const ()>(name.as_bytes()) };
        let address = symbol.ok()?.as_raw_ptr();
        (!address.is_null()).then_some(address.cast_const().cast())
    }

    /// Keeps the library for the life of the process: what came out of it may point into it.
    #[must_use]
    pub fn into_static(self) -> &'static Self {
        Box::leak(Box::new(self))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_text_file_is_refused_in_the_loaders_words() {
        let file = fd::open_path("/etc/passwd", libc::O_RDONLY).unwrap();
        let error = Library::open_fd(&file).unwrap_err();
        assert!(error.contains("invalid ELF header") || error.contains("file too short"), "{error}");
    }

    #[test]
    fn a_library_is_loaded_by_descriptor_and_asked_for_symbols() {
        let maps = std::fs::read_to_string("/proc/self/maps").unwrap();
        let path = maps.lines().filter_map(|line| line.split_ascii_whitespace().nth(5)).find(|path| path.contains("libc.so"));
        let file = fd::open_path(path.unwrap(), libc::O_RDONLY).unwrap();
        let library = Library::open_fd(&file).unwrap().into_static();
        assert!(library.symbol_ptr("getpid").is_some());
        assert!(library.symbol_ptr("no_such_symbol_here").is_none());
    }
}
