//! Installing plugins and taking them away.
//!
//! A file is read once, from one descriptor. The bytes that were read are those that are hashed, checked, tried out
//! and written; nothing is looked up by name again.

use crate::entries::Entries;
use crate::error::{Kind, Trouble};
use crate::keys::Keys;
use crate::library::Found;
use crate::lock::Entry;
use crate::offer::{Offer, Request, Vouched};
use crate::pins::{Installed, Pin};
use crate::plugins::{Plugins, examine, file_name, open_library, sha256};
use palisade_abi::manifest::Manifest;
use palisade_model::stage::{Place, Stage};
use palisade_sys::fd::{self, O_CREAT, O_EXCL, O_NONBLOCK, O_PATH, O_RDONLY, O_WRONLY};
use palisade_sys::trust::open_trusted_dir;
use std::fs::File;
use std::io::{Read as _, Write as _};
use std::os::fd::{AsFd as _, OwnedFd};
use std::os::unix::fs::{DirBuilderExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};
use std::time::SystemTime;

/// The largest file that is read, in bytes: all of it is held in memory.
const LIMIT: u64 = 256 << 20;
/// The same for a signature.
const SIGNATURE_LIMIT: u64 = 64 << 10;
/// What a file is called until it is whole; no name of a plugin.
const UNFINISHED: &str = ".palisade-install-";

impl Plugins {
    /// Reads a plugin's file and checks everything that can be checked without running it: its structure, its
    /// manifest, its signature, and whether it may have the place.
    ///
    /// # Errors
    /// It is no plugin, nobody vouches for it where somebody must, or there is no place for it.
    pub fn offer(&self, request: &Request) -> Result<Offer, Trouble> {
        let shown = request.file.display().to_string();
        let refuse = |why: String| Trouble::new(Kind::Plugin, why).row("file", &shown);
        let bytes = read_file(&request.file, LIMIT).map_err(refuse)?;
        let manifest = examine(&bytes, &refuse)?;
        let of = |trouble: Trouble| trouble.of(&manifest.name);
        let path = self.place(&manifest.name, request.dir.as_deref()).map_err(of)?;
        let keys = Keys::read(&self.keys, &self.owners)?;
        let vouched = vouch(&keys, request, &bytes).map_err(|(why, help)| of(refuse(why)).row("help", help))?;
        let before = self.lock.pins(&path).iter().rev().find(|pin| pin.installed.is_some()).cloned();
        let declared = |stage: &Stage| manifest.stages.contains(stage);
        let carried = before.iter().flat_map(|pin| &pin.granted).copied().filter(declared).collect();
        let (sha256, key_dirs) = (sha256(&bytes), keys.places());
        let by_hand = before.is_none() && path.symlink_metadata().is_ok();
        Ok(Offer { manifest, sha256, path, vouched, key_dirs, before, by_hand, carried, bytes })
    }

    /// Where a plugin of this name would be installed.
    fn place(&self, name: &str, dir: Option<&Path>) -> Result<PathBuf, Trouble> {
        if !self.lock.is_kept() {
            return Err(homeless("there is no place to remember what was installed"));
        }
        let dir = dir.map(Path::to_owned).or_else(|| self.installs.clone());
        let dir = dir.ok_or_else(|| homeless("there is no place to install plugins into"))?;
        let path = dir.join(file_name(name));
        if self.is_own(&path) {
            return Err(Trouble::new(Kind::Usage, "plugins there count as those that came with palisade")
                .row("file", path.display().to_string())
                .row("help", "leave --plugin-dir out, or name a directory of yours"));
        }
        let earlier = self.dirs().iter().take_while(|other| **other != dir).chain(&self.own);
        let other = earlier.map(|other| other.join(file_name(name))).find(|other| other.symlink_metadata().is_ok());
        if let Some(other) = other {
            let why = if self.is_own(&other) { "palisade brings a plugin" } else { "there is already a plugin" };
            return Err(Trouble::new(Kind::Plugin, format!("{why} of this name; one of the two would hide the other"))
                .row("file", other.display().to_string())
                .row("help", "a plugin's name is in its manifest: ask its author for one with another"));
        }
        match open_trusted_dir(&dir, &self.owners) {
            Err(error) if dir.symlink_metadata().is_ok() => Err(untrusted(&dir, &error)),
            // It is made when all else is known to be right.
            _ => Ok(path),
        }
    }

    /// Installs what was offered and lets it have steps in these stages of the workload's process, beside those that
    /// are carried over. The bytes are loaded once, from memory, before anything is written: a plugin that does not
    /// fit leaves nothing behind.
    ///
    /// # Errors
    /// It does not fit, a stage cannot be granted, or nothing could be written.
    pub fn install(&mut self, offer: &Offer, grant: &[Stage]) -> Result<Pin, Trouble> {
        let name = offer.manifest.name.as_str();
        inside_only(name, grant)?;
        if let Some(stage) = grant.iter().find(|stage| !offer.manifest.stages.contains(stage)) {
            return Err(Trouble::new(Kind::Usage, format!("it has no steps in stage {stage}"))
                .of(name)
                .row("help", "grant what its manifest declares: palisade plugin install FILE says it"));
        }
        let unfit = |e: palisade_sys::Error| Trouble::call("it cannot be tried out", &e).of(name);
        let memory = fd::memfd_sealed(&file_name(name), &offer.bytes).map_err(unfit)?;
        let found = open_library(&offer.manifest, &offer.path, memory.as_fd(), false, &Entries::begin()?)?;
        let mut granted: Vec<Stage> = offer.carried.iter().chain(grant).copied().collect();
        granted.sort_unstable();
        granted.dedup();
        let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default().as_secs();
        let manifest = Manifest { reference: String::new(), ..offer.manifest.clone() };
        let installed = Some(Installed { since, manifest, signer: offer.signer().cloned() });
        let pin = Pin { sha256: offer.sha256.clone(), granted, installed };
        self.lock.hold().map_err(|e| unwritten(name, &offer.path, &e))?;
        let written = self.put_in_place(offer, &pin, &found);
        self.lock.release();
        written.map(|()| pin)
    }

    /// While one file takes the place of another both are pinned: whoever starts meanwhile, or after this process was
    /// killed, finds the old one or the new one and accepts it.
    fn put_in_place(&mut self, offer: &Offer, pin: &Pin, found: &Found) -> Result<(), Trouble> {
        let (name, path) = (offer.manifest.name.as_str(), offer.path.as_path());
        let failed = |e: std::io::Error| unwritten(name, path, &e);
        let before = self.lock.pins(path).to_vec();
        let now = before.iter().rev().find(|pin| pin.installed.is_some());
        let what = |pin: Option<&Pin>| pin.map(|pin| (pin.sha256.clone(), pin.granted.clone()));
        if what(now) != what(offer.before.as_ref()) {
            return Err(Trouble::new(Kind::Plugin, "another process installed, removed or granted it meanwhile")
                .of(name)
                .row("help", "see what is there now: palisade plugin list; then install it again"));
        }
        let dir = self.directory(path).map_err(|trouble| trouble.of(name))?;
        let fresh = PathBuf::from(format!("{UNFINISHED}{}", std::process::id()));
        sweep(&dir);
        let at = |name: &Path| fd::proc_fd_path(&dir).join(name);
        let done = write_whole(&dir, &fresh, &offer.bytes).and_then(|file| {
            self.lock.pin(path, before.iter().chain([pin]).cloned().collect());
            self.lock.save()?;
            let unkept = |why| std::io::Error::other(format!("its pin would not count: {why}"));
            self.lock.keeps(path).map_err(unkept)?;
            std::fs::rename(at(&fresh), at(Path::new(&file_name(name))))?;
            Ok(file)
        });
        let file = match done {
            Ok(file) => file,
            Err(error) => {
                // What was there is there still; if the lock cannot be written now, a pin too many is in it, of bytes
                // that the caller wanted.
                std::fs::remove_file(at(&fresh)).ok();
                self.lock.pin(path, before);
                self.lock.save().ok();
                return Err(failed(error));
            }
        };
        let facts =
            fd::fstat(&file).map_err(|e| Trouble::call("it was installed and cannot be looked at", &e).of(name))?;
        File::open(at(Path::new("."))).and_then(|dir| dir.sync_all()).ok();
        self.lock.put(path, Entry::new(&facts, &offer.sha256, &offer.manifest, found));
        self.lock.pin(path, vec![pin.clone()]);
        // It is pinned and in place already; what this adds is that the next launch is faster.
        self.lock.save().ok();
        Ok(())
    }

    /// The directory of a file, which is made where it is not there.
    fn directory(&self, path: &Path) -> Result<OwnedFd, Trouble> {
        let dir = path.parent().unwrap_or(Path::new("/"));
        let failed = |e: std::io::Error| {
            Trouble::new(Kind::Plugin, format!("{} cannot be made: {e}", dir.display())).row("help", "see --plugin-dir")
        };
        let missing = dir.symlink_metadata().is_err();
        if missing {
            // What root installs is for everybody; a user's own is nobody else's business.
            let root = self.owners == [0];
            let mode = if root { 0o755 } else { 0o700 };
            std::fs::DirBuilder::new().recursive(true).mode(mode).create(dir).map_err(failed)?;
            if root && self.installs.as_deref() == Some(dir) {
                // Above it is the lock, which was made for root alone. Others may go through, not look: who could open
                // that directory could keep it locked.
                let mode = |mode| std::fs::Permissions::from_mode(mode);
                std::fs::set_permissions(dir, mode(0o755)).map_err(failed)?;
                let above = dir.parent().unwrap_or(dir);
                std::fs::set_permissions(above, mode(0o711)).map_err(failed)?;
            }
        }
        open_trusted_dir(dir, &self.owners).map_err(|error| {
            if missing {
                std::fs::remove_dir(dir).ok();
            }
            untrusted(dir, &error)
        })
    }

    /// Takes away a plugin that was installed, with all that was said of it; gives the path where it was.
    ///
    /// # Errors
    /// It came with palisade, was not installed, or cannot be removed.
    pub fn uninstall(&mut self, name: &str, dir: Option<&Path>) -> Result<PathBuf, Trouble> {
        let refuse = |why: &str, path: &Path, help: &str| {
            let file = path.display().to_string();
            Err(Trouble::new(Kind::Plugin, why).of(name).row("file", file).row("help", help))
        };
        let plain = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-';
        let dir = dir.map(Path::to_owned).or_else(|| self.installs.clone());
        let dir = dir.ok_or_else(|| homeless("there is no place where plugins are installed"))?;
        // A name is no path: what it names must be in that directory.
        let path = dir.join(file_name(if name.chars().all(plain) { name } else { "" }));
        let pinned = self.lock.pins(&path).iter().any(|pin| pin.installed.is_some());
        let is_there = path.symlink_metadata().is_ok();
        if self.is_own(&path) && is_there {
            return refuse("it came with palisade", &path, "it goes with palisade; a policy need not name it");
        }
        let goes = pinned || is_there && self.installs.as_deref() == Some(&dir);
        if !goes {
            let found = if is_there { path } else { self.find(name)? };
            if self.is_own(&found) {
                return refuse("it came with palisade", &found, "it goes with palisade; a policy need not name it");
            }
            let help = "remove it as who installed it, or with --plugin-dir; a file that was put there by hand is \
                        taken away by hand";
            return refuse("it was not installed here", &found, help);
        }
        let failed = |e: std::io::Error| {
            Trouble::new(Kind::Plugin, format!("it cannot be removed: {e}"))
                .of(name)
                .row("file", path.display().to_string())
        };
        self.lock.hold().map_err(failed)?;
        let removed = if is_there { self.unlink(&path) } else { Ok(()) };
        let forgotten = removed.and_then(|()| {
            self.lock.forget(&path);
            self.lock.pin(&path, Vec::new());
            self.lock.save().map_err(failed)
        });
        self.lock.release();
        forgotten.map_err(|trouble| trouble.of(name)).map(|()| path)
    }

    fn unlink(&self, path: &Path) -> Result<(), Trouble> {
        let dir = self.directory(path)?;
        let name = path.file_name().unwrap_or_default();
        std::fs::remove_file(fd::proc_fd_path(&dir).join(name)).map_err(|e| {
            Trouble::new(Kind::Plugin, format!("it cannot be removed: {e}")).row("file", path.display().to_string())
        })
    }
}

/// Only stages in the workload's process are granted.
pub(crate) fn inside_only(name: &str, stages: &[Stage]) -> Result<(), Trouble> {
    let Some(stage) = stages.iter().find(|stage| stage.runs_in() != Place::Child) else { return Ok(()) };
    Err(Trouble::new(Kind::Usage, format!("stage {stage} is not in the workload's process"))
        .of(name)
        .row("help", "only build, drop and seal can be granted; on the host a plugin needs no grant"))
}

fn homeless(why: &str) -> Trouble {
    Trouble::new(Kind::Plugin, why)
        .row("help", "set HOME, or XDG_DATA_HOME and XDG_STATE_HOME, to an absolute path; or give --plugin-dir")
}

fn untrusted(dir: &Path, error: &palisade_sys::trust::TrustError) -> Trouble {
    Trouble::new(Kind::Plugin, format!("its directory is not trusted: {error}"))
        .row("file", dir.display().to_string())
        .row("help", error.remedy())
}

fn unwritten(name: &str, path: &Path, error: &std::io::Error) -> Trouble {
    Trouble::new(Kind::Plugin, format!("it cannot be installed: {error}"))
        .of(name)
        .row("file", path.display().to_string())
        .row("help", "see whether the directory can be written and has room; nothing was changed")
}

/// Reads a regular file from one descriptor. It is opened only when it is known to be one: opening a fifo hangs, and
/// opening a device can do anything.
fn read_file(path: &Path, limit: u64) -> Result<Vec<u8>, String> {
    let words = |e: palisade_sys::Error| format!("it cannot be read: {e}");
    let seen = fd::open_path(path, O_PATH).map_err(words)?;
    let facts = fd::fstat(&seen).map_err(words)?;
    if !facts.is_file() {
        return Err("it is no regular file".to_owned());
    }
    let file = fd::open_path(fd::proc_fd_path(&seen), O_RDONLY | O_NONBLOCK).map_err(words)?;
    let mut bytes = Vec::new();
    let read = File::from(file).take(limit + 1).read_to_end(&mut bytes);
    read.map_err(|e| format!("it cannot be read: {e}"))?;
    let fits = u64::try_from(bytes.len()).is_ok_and(|length| length <= limit);
    if fits { Ok(bytes) } else { Err(format!("it is larger than {limit} bytes")) }
}

/// Says who vouches for these bytes.
fn vouch(keys: &Keys, request: &Request, bytes: &[u8]) -> Result<Vouched, (String, String)> {
    if request.unsigned {
        return Ok(Vouched::Waived);
    }
    let mut beside = request.file.clone().into_os_string();
    beside.push(".minisig");
    let beside = PathBuf::from(beside);
    let file = request.signature.clone().or_else(|| beside.symlink_metadata().is_ok().then_some(beside));
    let otherwise = "take it from its author again, with its signature; or say --unsigned, if you trust this file";
    let Some(file) = file else {
        if !keys.are_there() {
            return Ok(Vouched::Unsigned);
        }
        let why = format!("it is not signed, and these keys ask for that: {}", keys.ids());
        return Err((why, format!("name its signature with --signature, {otherwise}")));
    };
    let signature = read_file(&file, SIGNATURE_LIMIT);
    let signature = signature.map_err(|why| (format!("its signature, {}: {why}", file.display()), otherwise.into()))?;
    if !keys.are_there() {
        return Ok(Vouched::NoKey);
    }
    let signer = keys.verify(bytes, &String::from_utf8_lossy(&signature));
    signer.map(Vouched::By).map_err(|why| (format!("{why}; keys: {}", keys.ids()), otherwise.to_owned()))
}

/// Writes a file under a name that is nobody's yet.
fn write_whole(dir: &OwnedFd, name: &Path, bytes: &[u8]) -> std::io::Result<File> {
    let made = fd::open_at_mode(dir, name, O_WRONLY | O_CREAT | O_EXCL, 0o600).map_err(std::io::Error::other)?;
    let mut file = File::from(made);
    file.write_all(bytes)?;
    file.set_permissions(std::fs::Permissions::from_mode(0o644))?;
    file.sync_all()?;
    Ok(file)
}

/// Takes away what processes left that were killed while they installed. Whoever installs holds the lock.
fn sweep(dir: &OwnedFd) {
    let here = fd::proc_fd_path(dir);
    for entry in std::fs::read_dir(&here).into_iter().flatten().flatten() {
        if entry.file_name().to_string_lossy().starts_with(UNFINISHED) {
            // What cannot be removed is no plugin all the same.
            std::fs::remove_file(entry.path()).ok();
        }
    }
}
