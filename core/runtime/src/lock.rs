//! `plugins.lock`: which files were checked before, and what the user said of them.
//!
//! The layout check of a plugin costs more than all else of loading it, so it is done once for each file and
//! remembered where only root or the caller can write. That memory is one build's of palisade; pins and grants hold
//! for a content, whichever build looks.

use crate::library::Found;
use crate::pins::Pin;
use palisade_abi::manifest::Manifest;
use palisade_model::stage::Stage;
use palisade_sys::fd::FileFacts;
use palisade_sys::trust::open_trusted;
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet};
use std::fs::{File, TryLockError};
use std::io::{Read as _, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

/// How long a launch waits for another palisade that writes the lock: what it would write only makes the next faster.
const PATIENCE: Duration = Duration::from_secs(5);
/// How long an installation waits for another one, which may have a slow disk.
const MORE_PATIENCE: Duration = Duration::from_secs(60);

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
    /// Where grants stood before there were pins: read, never written.
    #[serde(default, skip_serializing)]
    granted: Vec<Stage>,
}

impl Entry {
    pub(crate) fn new(facts: &FileFacts, sha256: &str, manifest: &Manifest, found: &Found) -> Self {
        let reference = if found.needs_reference { manifest.reference.clone() } else { String::new() };
        let manifest = Manifest { reference, ..manifest.clone() };
        let (sha256, seam) = (sha256.to_owned(), found.seam.clone());
        Self { file: identity(facts), sha256, manifest, seam, granted: Vec::new() }
    }

    /// Of a file that was only opened in a process of its own.
    pub(crate) fn of_stranger(facts: &FileFacts, sha256: String, manifest: Manifest) -> Self {
        Self { file: identity(facts), sha256, manifest, seam: String::new(), granted: Vec::new() }
    }

    /// Whether it was opened in this palisade's own process, and fits.
    pub(crate) fn fits(&self) -> bool {
        !self.seam.is_empty()
    }
}

/// The identity of a file, for [`Entry::file`].
fn identity(facts: &FileFacts) -> (u64, u64, u64, i128, i128) {
    (facts.dev, facts.ino, facts.size, facts.mtime_ns, facts.ctime_ns)
}

#[derive(Debug, Default, Serialize, Deserialize)]
struct Content {
    /// The build of palisade that checked; another one checks again.
    host: String,
    plugins: BTreeMap<String, Entry>,
    /// What holds for the file at a path: one pin, or two while one file takes the place of another.
    #[serde(default)]
    pins: BTreeMap<String, Vec<Pin>>,
}

/// What the user said of a path.
#[derive(Debug)]
enum Decision {
    /// This content may have steps in these stages.
    Grant(String, Vec<Stage>),
    /// These pins, instead of those before.
    Pins(Vec<Pin>),
}

/// The lock file and what it held when it was read.
#[derive(Debug)]
pub(crate) struct Lock {
    path: Option<PathBuf>,
    owners: Vec<u32>,
    content: Content,
    /// What this process checked or forgot. Only that is written: another one may have changed the rest meanwhile.
    checked: BTreeSet<String>,
    /// What was decided in this process.
    decided: BTreeMap<String, Decision>,
    /// The directory, locked against other processes.
    held: Option<File>,
    /// Why what it held does not count.
    damage: Option<String>,
}

impl Lock {
    /// Reads the lock. One that is missing, unreadable or not trusted counts as empty; of one that another build of
    /// palisade wrote, pins and grants count.
    #[must_use]
    pub(crate) fn read(path: Option<PathBuf>, host: &str, owners: &[u32]) -> Self {
        let (content, damage) = match path.as_deref().map(|path| whole(path, owners)) {
            Some(Ok(content)) => (content, None),
            Some(Err(why)) => (Content::default(), Some(why)),
            None => (Content::default(), None),
        };
        let (content, checked, decided) = (of_host(content, host), BTreeSet::new(), BTreeMap::new());
        Self { path, owners: owners.to_vec(), content, checked, decided, held: None, damage }
    }

    /// Why nothing of what it held counts, if so.
    pub(crate) fn damage(&self) -> Option<&str> {
        self.damage.as_deref()
    }

    /// What is remembered of the file at `path`, if it is still the same file.
    #[must_use]
    pub(crate) fn get(&self, path: &Path, facts: &FileFacts) -> Option<&Entry> {
        self.content.plugins.get(path.to_str()?).filter(|entry| entry.file == identity(facts))
    }

    /// What holds for the file at `path`.
    #[must_use]
    pub(crate) fn pins(&self, path: &Path) -> &[Pin] {
        path.to_str().and_then(|path| self.content.pins.get(path)).map(Vec::as_slice).unwrap_or_default()
    }

    /// Remembers a file that passed every check.
    pub(crate) fn put(&mut self, path: &Path, entry: Entry) {
        let Some(path) = path.to_str() else { return };
        self.content.plugins.insert(path.to_owned(), entry);
        self.checked.insert(path.to_owned());
    }

    /// Lets the content that a file has now have steps in these stages, which replace those that it had.
    pub(crate) fn grant(&mut self, path: &Path, sha256: &str, stages: &[Stage]) {
        let Some(path) = path.to_str() else { return };
        self.decide(path, Decision::Grant(sha256.to_owned(), stages.to_vec()));
    }

    /// Pins the file at `path`; without any pin nothing holds for it any more.
    pub(crate) fn pin(&mut self, path: &Path, pins: Vec<Pin>) {
        let Some(path) = path.to_str() else { return };
        self.decide(path, Decision::Pins(pins));
    }

    fn decide(&mut self, path: &str, decision: Decision) {
        apply(&mut self.content.pins, path, &decision);
        self.decided.insert(path.to_owned(), decision);
    }

    /// Whether anything can be remembered at all.
    pub(crate) fn is_kept(&self) -> bool {
        self.path.is_some()
    }

    /// Forgets that a file was checked. What was said of it stays.
    pub(crate) fn forget(&mut self, path: &Path) {
        if let Some(path) = path.to_str().filter(|path| self.content.plugins.contains_key(*path)) {
            self.content.plugins.remove(path);
            self.checked.insert(path.to_owned());
        }
    }

    /// Keeps other processes from writing until this is [released](Self::release), and reads what they wrote.
    ///
    /// # Errors
    /// There is no place for the lock, or another process keeps it for too long.
    pub(crate) fn hold(&mut self) -> std::io::Result<()> {
        let path = self.path.clone().ok_or(std::io::ErrorKind::NotFound)?;
        self.held = Some(hold(&path, MORE_PATIENCE)?);
        let now = whole(&path, &self.owners).map_err(std::io::Error::other)?;
        self.content = self.onto(of_host(now, &self.content.host));
        Ok(())
    }

    /// Says whether what was saved counts for whoever reads it: a lock that others could have written does not.
    pub(crate) fn keeps(&self, file: &Path) -> Result<(), String> {
        let Some(path) = &self.path else { return Err("there is no place for it".to_owned()) };
        let now = whole(path, &self.owners)?;
        let there = file.to_str().is_some_and(|file| now.pins.contains_key(file));
        if there { Ok(()) } else { Err(format!("{} does not hold it", path.display())) }
    }

    pub(crate) fn release(&mut self) {
        self.held = None;
    }

    /// What the file holds now, with what this process changed.
    fn onto(&self, mut now: Content) -> Content {
        for name in &self.checked {
            match self.content.plugins.get(name) {
                Some(entry) => now.plugins.insert(name.clone(), entry.clone()),
                None => now.plugins.remove(name),
            };
        }
        for (name, decision) in &self.decided {
            apply(&mut now.pins, name, decision);
        }
        // An installed file that is not there now may come back, with a file system: its pin waits for that.
        let is_there = |name: &String| Path::new(name).exists();
        now.plugins.retain(|name, _| is_there(name));
        now.pins.retain(|name, pins| pins.iter().any(|pin| pin.installed.is_some()) || is_there(name));
        now
    }

    /// Writes the lock if it changed. A launch does not depend on it: the error is for `plugin verify`.
    ///
    /// # Errors
    /// The directory or the file could not be written, or another process keeps the lock for too long.
    pub(crate) fn save(&mut self) -> std::io::Result<()> {
        let changed = !self.checked.is_empty() || !self.decided.is_empty();
        let (true, Some(path)) = (changed, &self.path) else { return Ok(()) };
        // Between reading and renaming nobody else may write, or what was pinned there would be lost.
        let _ours = if self.held.is_none() { Some(hold(path, PATIENCE)?) } else { None };
        // What is damaged holds pins that somebody may save; it is not written over.
        let now = whole(path, &self.owners).map_err(std::io::Error::other)?;
        let content = self.onto(of_host(now, &self.content.host));
        // A name of our own, then a rename: a reader sees the old lock or the new one, never half of it.
        let fresh = path.with_extension(format!("lock.{}", std::process::id()));
        let written = (|| {
            let mut file = std::fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(&fresh)?;
            file.write_all(&serde_json::to_vec(&content)?)?;
            // A pin must outlive a power failure; what a launch remembers need not, and a launch must not wait.
            if !content.pins.is_empty() {
                file.sync_all()?;
            }
            std::fs::rename(&fresh, path)
        })();
        if written.is_err() {
            // The temporary file is ours; if even that cannot be removed there is nothing left to try.
            std::fs::remove_file(&fresh).ok();
        } else {
            self.content = content;
            self.checked.clear();
            self.decided.clear();
        }
        written
    }
}

fn apply(pins: &mut BTreeMap<String, Vec<Pin>>, path: &str, decision: &Decision) {
    match decision {
        Decision::Pins(new) if new.is_empty() => {
            pins.remove(path);
        }
        Decision::Pins(new) => {
            pins.insert(path.to_owned(), new.clone());
        }
        Decision::Grant(sha256, stages) => {
            let here = pins.entry(path.to_owned()).or_default();
            if let Some(pin) = here.iter_mut().find(|pin| pin.sha256 == *sha256) {
                pin.granted.clone_from(stages);
            } else if here.iter().all(|pin| pin.installed.is_none()) {
                *here = vec![Pin { sha256: sha256.clone(), granted: stages.clone(), installed: None }];
            }
        }
    }
}

/// Locks the directory, which leaves no file behind. Others cannot open it, so nobody else can keep it.
fn hold(path: &Path, patience: Duration) -> std::io::Result<File> {
    let parent = path.parent().ok_or(std::io::ErrorKind::NotFound)?;
    std::fs::DirBuilder::new().recursive(true).mode(0o700).create(parent)?;
    let dir = File::open(parent)?;
    let begun = Instant::now();
    loop {
        match dir.try_lock() {
            Ok(()) => return Ok(dir),
            // Some network file systems lock no directory. There two that write at once can lose what one wrote.
            Err(TryLockError::Error(_)) => return Ok(dir),
            Err(TryLockError::WouldBlock) if begun.elapsed() < patience => {
                std::thread::sleep(Duration::from_millis(5));
            }
            Err(TryLockError::WouldBlock) => {
                return Err(std::io::Error::other(format!("another palisade keeps {} locked", parent.display())));
            }
        }
    }
}

/// All that the file says; nothing where there is none.
///
/// # Errors
/// In words, with the remedy: it is not trusted, cannot be read, or is damaged.
fn whole(path: &Path, owners: &[u32]) -> Result<Content, String> {
    let file = match open_trusted(path, owners) {
        Ok(file) => file,
        Err(error) if error.is_missing() => return Ok(Content::default()),
        Err(error) => return Err(format!("{} is not trusted: {error}; {}", path.display(), error.remedy())),
    };
    let mut text = Vec::new();
    let read = File::from(file).read_to_end(&mut text);
    read.map_err(|error| format!("{} cannot be read: {error}", path.display()))?;
    serde_json::from_slice(&text).map_err(|error| {
        format!("{} is damaged: {error}; put a good copy back, or remove it and install and grant anew", path.display())
    })
}

/// What of it counts for this build of palisade.
fn of_host(mut content: Content, host: &str) -> Content {
    for (path, entry) in &content.plugins {
        if !entry.granted.is_empty() && !content.pins.contains_key(path) {
            let (sha256, granted) = (entry.sha256.clone(), entry.granted.clone());
            content.pins.insert(path.clone(), vec![Pin { sha256, granted, installed: None }]);
        }
    }
    // Without a build id nobody knows whose layout was checked.
    if content.host != host || host.is_empty() {
        content.plugins.clear();
        content.host = host.to_owned();
    }
    content
}
