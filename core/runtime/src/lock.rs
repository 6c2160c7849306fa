//! `plugins.lock`: which files were checked before. The layout check of a plugin costs more than all else of
//! loading it, so it is done once for each file and remembered where only root or the caller can write.

use palisade_abi::manifest::Manifest;
use palisade_model::stage::Stage;
use palisade_sys::fd::FileFacts;
use palisade_sys::trust::open_trusted;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::io::{Read as _, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};

/// What is remembered of one plugin file.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Entry {
    /// device, inode, size, mtime and ctime in nanoseconds: the file as it was when it was checked.
    pub(crate) file: (u64, u64, u64, i128, i128),
    /// SHA-256 of its bytes.
    pub(crate) sha256: String,
    /// Its manifest, without the reference section: nothing at a launch needs that.
    pub(crate) manifest: Manifest,
    /// The seam version that it was built against.
    pub(crate) seam: String,
    /// Stages in the child that the user let it have, where it did not come with palisade.
    #[serde(default)]
    pub(crate) granted: Vec<Stage>,
}

/// The identity of a file, for [`Entry::file`].
#[must_use]
pub(crate) fn identity(facts: &FileFacts) -> (u64, u64, u64, i128, i128) {
    (facts.dev, facts.ino, facts.size, facts.mtime_ns, facts.ctime_ns)
}

#[derive(Debug, Default, Serialize, Deserialize)]
struct Content {
    /// The build of palisade that checked; another one checks again.
    host: String,
    plugins: BTreeMap<String, Entry>,
}

/// The lock file and what it held when it was read.
#[derive(Debug)]
pub(crate) struct Lock {
    path: Option<PathBuf>,
    content: Content,
    changed: bool,
}

impl Lock {
    /// Reads the lock. One that is missing, unreadable, not trusted or made by another build of palisade counts
    /// as empty: everything is checked again.
    #[must_use]
    pub(crate) fn read(path: Option<PathBuf>, host: &str, owners: &[u32]) -> Self {
        let content = path.as_deref().and_then(|p| read(p, owners)).filter(|c| c.host == host);
        let content = content.unwrap_or_else(|| Content { host: host.to_owned(), plugins: BTreeMap::new() });
        Self { path, content, changed: false }
    }

    /// What is remembered of the file at `path`, if it is still the same file.
    #[must_use]
    pub(crate) fn get(&self, path: &Path, facts: &FileFacts) -> Option<&Entry> {
        let entry = self.content.plugins.get(path.to_str()?)?;
        (entry.file == identity(facts)).then_some(entry)
    }

    /// Remembers a file that passed every check.
    pub(crate) fn put(&mut self, path: &Path, entry: Entry) {
        if let Some(path) = path.to_str() {
            self.content.plugins.insert(path.to_owned(), entry);
            self.changed = true;
        }
    }

    /// Lets a remembered file have steps in these stages, which replace those that it had.
    pub(crate) fn grant(&mut self, path: &Path, stages: &[Stage]) {
        if let Some(entry) = path.to_str().and_then(|path| self.content.plugins.get_mut(path)) {
            entry.granted = stages.to_vec();
            self.changed = true;
        }
    }

    /// Whether anything can be remembered at all.
    pub(crate) fn is_kept(&self) -> bool {
        self.path.is_some()
    }

    /// Forgets a file.
    pub(crate) fn remove(&mut self, path: &Path) {
        if let Some(path) = path.to_str() {
            self.changed |= self.content.plugins.remove(path).is_some();
        }
    }

    /// Writes the lock if it changed. A launch does not depend on it: the error is for `plugin verify`.
    ///
    /// # Errors
    /// The directory or the file could not be written.
    pub(crate) fn save(&mut self) -> std::io::Result<()> {
        let (true, Some(path)) = (self.changed, &self.path) else { return Ok(()) };
        let parent = path.parent().ok_or(std::io::ErrorKind::NotFound)?;
        std::fs::DirBuilder::new().recursive(true).mode(0o700).create(parent)?;
        // A name of our own, then a rename: a reader sees the old lock or the new one, never half of it.
        let fresh = path.with_extension(format!("lock.{}", std::process::id()));
        let written = (|| {
            let mut file = std::fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(&fresh)?;
            file.write_all(&serde_json::to_vec(&self.content)?)?;
            std::fs::rename(&fresh, path)
        })();
        if written.is_err() {
            // The temporary file is ours; if even that cannot be removed there is nothing left to try.
            std::fs::remove_file(&fresh).ok();
        }
        self.changed = written.is_err();
        written
    }
}

fn read(path: &Path, owners: &[u32]) -> Option<Content> {
    let file = open_trusted(path, owners).ok()?;
    let mut text = Vec::new();
    std::fs::File::from(file).read_to_end(&mut text).ok()?;
    serde_json::from_slice(&text).ok()
}
