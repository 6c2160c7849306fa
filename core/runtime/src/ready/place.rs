//! A name in a directory, found through no symbolic link: nobody can have pointed it elsewhere.

use palisade_abi::{Error, ErrorContext as _};
use palisade_sys::fd::{O_DIRECTORY, O_PATH};
use palisade_sys::{Errno, beneath, fd};
use std::os::fd::OwnedFd;
use std::path::{Component, Path, PathBuf};

/// The directory, held open, and the name in it.
#[derive(Debug)]
pub(super) struct Place {
    pub(super) dir: OwnedFd,
    pub(super) name: String,
}

impl Place {
    pub(super) fn open(path: &Path) -> Result<Self, Error> {
        let (parent, name) = (path.parent().unwrap_or(Path::new("/")), path.file_name().unwrap_or_default());
        let dir = without_links(parent, O_PATH | O_DIRECTORY)?;
        Ok(Self { dir, name: name.to_string_lossy().into_owned() })
    }

    /// Says whether the name still stands for this file.
    pub(super) fn is(&self, file: (u64, u64)) -> bool {
        fd::fstat_at(&self.dir, &self.name).is_ok_and(|found| (found.dev, found.ino) == file)
    }
}

/// Opens a path that goes through no link.
pub(super) fn without_links(path: &Path, flags: i32) -> Result<OwnedFd, Error> {
    beneath::open_without_links(path, flags)
        .map_err(|error| {
            let is_link = error.kind() == Errno::ELOOP;
            let error = Error::from(error);
            if is_link { error.help("write the path without symbolic links, as realpath(1) gives it") } else { error }
        })
        .doing(|| format!("{} cannot be opened", path.display()))
}

/// A path that leads from `/` to a name, as it is written.
///
/// # Errors
/// In words: why it is none.
pub(super) fn plain(path: String) -> Result<PathBuf, String> {
    let parsed = Path::new(&path);
    let mut parts = parsed.components();
    let from_root = parts.next() == Some(Component::RootDir);
    let mut names = parts.clone().count() > 0;
    names &= parts.all(|part| matches!(part, Component::Normal(_)));
    if from_root && names && !path.contains('\0') {
        return Ok(path.into());
    }
    Err(format!("`{}` is no path from `/` on to a name, without `..`", path.escape_debug()))
}
