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
    /// Its manifest, without the reference section where nothing at a launch needs that.
    pub(crate) manifest: Manifest,
    /// The seam version that it was built against; empty where the file was only ever opened in a process of its own,
    /// whose word on its layout counts for nothing here.
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
    owners: Vec<u32>,
    content: Content,
    /// What this process changed. Only that is written: another one may have changed the rest meanwhile.
    changed: BTreeMap<String, Change>,
}

/// What became of an entry.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Change {
    /// It counts no longer until the file is checked again; its grants wait for that.
    Stale,
    /// The file was checked.
    Checked,
    /// The user decided on its grants.
    Granted,
}

impl Entry {
    /// Whether it was opened in this palisade's own process, and fits.
    pub(crate) fn fits(&self) -> bool {
        !self.seam.is_empty()
    }

    /// The same bytes in the same file.
    fn is_same(&self, other: &Self) -> bool {
        (self.file, &self.sha256) == (other.file, &other.sha256)
    }
}

impl Lock {
    /// Reads the lock. One that is missing, unreadable, not trusted or made by another build of palisade counts
    /// as empty: everything is checked again.
    #[must_use]
    pub(crate) fn read(path: Option<PathBuf>, host: &str, owners: &[u32]) -> Self {
        let content = path.as_deref().map(|path| read(path, host, owners));
        let content = content.unwrap_or_else(|| Content { host: host.to_owned(), plugins: BTreeMap::new() });
        Self { path, owners: owners.to_vec(), content, changed: BTreeMap::new() }
    }

    /// What is remembered of the file at `path`, if it is still the same file.
    #[must_use]
    pub(crate) fn get(&self, path: &Path, facts: &FileFacts) -> Option<&Entry> {
        let path = path.to_str()?;
        let entry = self.content.plugins.get(path)?;
        let counts = entry.file == identity(facts) && self.changed.get(path) != Some(&Change::Stale);
        counts.then_some(entry)
    }

    /// Remembers a file that passed every check. What was granted to the same file before stays.
    pub(crate) fn put(&mut self, path: &Path, mut entry: Entry) {
        let Some(path) = path.to_str() else { return };
        if let Some(old) = self.content.plugins.get(path).filter(|old| old.is_same(&entry)) {
            entry.granted.clone_from(&old.granted);
        }
        self.content.plugins.insert(path.to_owned(), entry);
        self.changed.insert(path.to_owned(), Change::Checked);
    }

    /// Lets a remembered file have steps in these stages, which replace those that it had.
    pub(crate) fn grant(&mut self, path: &Path, stages: &[Stage]) {
        let Some(path) = path.to_str() else { return };
        if let Some(entry) = self.content.plugins.get_mut(path) {
            entry.granted = stages.to_vec();
            self.changed.insert(path.to_owned(), Change::Granted);
        }
    }

    /// Whether anything can be remembered at all.
    pub(crate) fn is_kept(&self) -> bool {
        self.path.is_some()
    }

    /// Forgets that a file was checked. What was granted to it comes back when it is [`put`](Self::put) again.
    pub(crate) fn forget(&mut self, path: &Path) {
        if let Some(path) = path.to_str().filter(|path| self.content.plugins.contains_key(*path)) {
            self.changed.insert(path.to_owned(), Change::Stale);
        }
    }

    /// What the file holds now, with what this process changed, without files that are gone.
    fn merged(&self, path: &Path) -> Content {
        let mut now = read(path, &self.content.host, &self.owners);
        for (name, change) in &self.changed {
            let ours = self.content.plugins.get(name).filter(|_| *change != Change::Stale);
            let theirs = now.plugins.remove(name);
            let Some(mut entry) = ours.cloned() else { continue };
            if let Some(theirs) = theirs.filter(|theirs| *change == Change::Checked && theirs.is_same(&entry)) {
                entry.granted = theirs.granted;
            }
            now.plugins.insert(name.clone(), entry);
        }
        now.plugins.retain(|name, _| Path::new(name).exists());
        now
    }

    /// Writes the lock if it changed. A launch does not depend on it: the error is for `plugin verify`.
    ///
    /// # Errors
    /// The directory or the file could not be written.
    pub(crate) fn save(&mut self) -> std::io::Result<()> {
        let (false, Some(path)) = (self.changed.is_empty(), &self.path) else { return Ok(()) };
        let parent = path.parent().ok_or(std::io::ErrorKind::NotFound)?;
        std::fs::DirBuilder::new().recursive(true).mode(0o700).create(parent)?;
        // A name of our own, then a rename: a reader sees the old lock or the new one, never half of it.
        let fresh = path.with_extension(format!("lock.{}", std::process::id()));
        let written = (|| {
            let mut file = std::fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(&fresh)?;
            file.write_all(&serde_json::to_vec(&self.merged(path))?)?;
            std::fs::rename(&fresh, path)
        })();
        if written.is_err() {
            // The temporary file is ours; if even that cannot be removed there is nothing left to try.
            std::fs::remove_file(&fresh).ok();
        }
        if written.is_ok() {
            self.content.plugins.retain(|name, _| self.changed.get(name) != Some(&Change::Stale));
            self.changed.clear();
        }
        written
    }
}

fn read(path: &Path, host: &str, owners: &[u32]) -> Content {
    let content = || -> Option<Content> {
        let file = open_trusted(path, owners).ok()?;
        let mut text = Vec::new();
        std::fs::File::from(file).read_to_end(&mut text).ok()?;
        serde_json::from_slice(&text).ok()
    };
    let ours = content().filter(|content| content.host == host);
    ours.unwrap_or_else(|| Content { host: host.to_owned(), plugins: BTreeMap::new() })
}
