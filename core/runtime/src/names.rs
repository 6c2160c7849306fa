//! Runs that have a name, for as long as they run: a file each, in a directory that is the caller's alone.

use crate::error::{Kind, Trouble};
use crate::places::runs;
use palisade_sys::procfs::Proc;
use palisade_sys::trust::{open_trusted_dir, open_trusted_in};
use serde::{Deserialize, Serialize};
use std::fs::File;
use std::io::{Read as _, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};
use std::time::SystemTime;

/// A workload that runs now and has a name.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Named {
    /// The name that it was given.
    pub name: String,
    /// Its first process, as this process numbers it: palisade's init where there is one.
    pub pid: i32,
    /// The policy, as it was asked for.
    pub policy: String,
    /// When it was started, in seconds since 1970.
    pub since: u64,
    /// When the process was born, in ticks since the host's boot: with it a number that was used again is told apart.
    pub(crate) born: u64,
}

/// A name that is held.
#[derive(Debug)]
pub(crate) struct Held(PathBuf, Named);

impl Drop for Held {
    fn drop(&mut self) {
        let Ok(lock) = File::open(&self.0) else { return };
        // Its process has ended, so another run may have taken the name.
        if lock.lock().is_ok() && read(&self.0, &self.1.name).is_some_and(|there| there == self.1) {
            remove(&self.0, &self.1.name);
        }
    }
}

/// Takes a name away, and with the last one the directory. Where that fails, the next one who looks does it.
fn remove(dir: &Path, name: &str) {
    std::fs::remove_file(dir.join(name)).ok();
    std::fs::remove_dir(dir).ok();
}

const LONGEST: usize = 64;
/// How often a directory is made again that others take away.
const AGAIN: usize = 10;

/// Whether a run can have this name.
fn check(name: &str) -> Result<(), Trouble> {
    let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.');
    if !name.is_empty() && name.len() <= LONGEST && !name.starts_with('.') && name.chars().all(plain) {
        return Ok(());
    }
    Err(Trouble::new(Kind::Usage, format!("`{name}` cannot be the name of a run"))
        .row("help", format!("letters, digits, `-`, `_` and `.`, at most {LONGEST}, no `.` at the beginning")))
}

fn owners() -> Vec<u32> {
    match palisade_sys::process::euid() {
        0 => vec![0],
        uid => vec![0, uid],
    }
}

/// All that run now. What is left of those that were killed is taken away.
pub(crate) fn all() -> Vec<Named> {
    let Some(dir) = runs() else { return Vec::new() };
    let Ok(entries) = std::fs::read_dir(&dir) else { return Vec::new() };
    let names = entries.flatten().filter_map(|entry| entry.file_name().into_string().ok());
    let found = names.filter_map(|name| find(&dir, &name).or_else(|| clear(&dir, &name)));
    let mut all: Vec<Named> = found.collect();
    all.sort_by(|a, b| a.name.cmp(&b.name));
    all
}

fn find(dir: &Path, name: &str) -> Option<Named> {
    read(dir, name).filter(|found| born(found.pid) == Some(found.born))
}

fn read(dir: &Path, name: &str) -> Option<Named> {
    check(name).ok()?;
    let path = dir.join(name);
    let open = || open_trusted_in(open_trusted_dir(dir, &owners())?, &path, &owners());
    let mut text = Vec::new();
    File::from(open().ok()?.0).read_to_end(&mut text).ok()?;
    let found: Option<Named> = serde_json::from_slice(&text).ok();
    found.filter(|found| found.name == name)
}

/// Takes away what a run left that is over. Whoever gives the name away now keeps the directory locked: what it writes
/// is not taken for that.
fn clear(dir: &Path, name: &str) -> Option<Named> {
    check(name).ok()?;
    let lock = File::open(dir).ok()?;
    lock.try_lock().ok()?;
    let found = find(dir, name);
    if found.is_none() {
        remove(dir, name);
    }
    found
}

/// When a process was born, while it lives.
fn born(pid: i32) -> Option<u64> {
    Proc::host().and_then(|proc| proc.pid(pid)?.born()).ok()
}

/// Whether a name can be had, before anything is done for it.
pub(crate) fn free(name: &str) -> Result<(), Trouble> {
    check(name)?;
    let Some(dir) = runs() else {
        return Err(Trouble::new(Kind::Host, "there is no place to keep the names of runs in")
            .row("help", "set XDG_RUNTIME_DIR to a directory of yours, as a login does"));
    };
    find(&dir, name).map_or(Ok(()), |other| Err(taken(&other)))
}

fn taken(other: &Named) -> Trouble {
    Trouble::new(
        Kind::Usage,
        format!("a run named `{}` goes on: process {}, policy {}", other.name, other.pid, other.policy),
    )
    .row("help", "choose another name; `palisade ps` lists those that are taken")
}

/// Gives a run its name.
pub(crate) fn hold(name: &str, pid: i32, policy: &str) -> Result<Held, Trouble> {
    free(name)?;
    let dir = runs().unwrap_or_default();
    let failed = |error: std::io::Error| {
        Trouble::new(Kind::Host, format!("the name `{name}` cannot be written down: {error}"))
            .row("file", dir.join(name).display().to_string())
    };
    let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default().as_secs();
    let born = born(pid).ok_or_else(|| Trouble::new(Kind::Setup, "the process has ended"))?;
    let entry = Named { name: name.to_owned(), pid, policy: policy.to_owned(), since, born };
    let mut written = write(&dir, &entry);
    // Where another run has just ended, it took the directory along.
    for _ in 0..AGAIN {
        if written.as_ref().is_err_and(|error| error.kind() == std::io::ErrorKind::NotFound) {
            written = write(&dir, &entry);
        }
    }
    match written {
        Ok(()) => Ok(Held(dir, entry)),
        Err(error) if error.kind() == std::io::ErrorKind::AlreadyExists => {
            Err(find(&dir, name).map_or_else(|| failed(error), |other| taken(&other)))
        }
        Err(error) => Err(failed(error)),
    }
}

/// A name of our own, then a link: whoever looks sees all of it or nothing, and of two only one gets the name.
fn write(dir: &Path, entry: &Named) -> std::io::Result<()> {
    std::fs::DirBuilder::new().recursive(true).mode(0o700).create(dir)?;
    let lock = File::open(dir)?;
    lock.lock()?;
    if find(dir, &entry.name).is_none() {
        // Of a run that is over.
        std::fs::remove_file(dir.join(&entry.name)).ok();
    }
    let fresh = dir.join(format!(".{}", std::process::id()));
    let mut file = std::fs::OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&fresh)?;
    let linked =
        file.write_all(&serde_json::to_vec(entry)?).and_then(|()| std::fs::hard_link(&fresh, dir.join(&entry.name)));
    std::fs::remove_file(&fresh)?;
    linked
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_is_one_of_a_file() {
        for good in ["a", "web-1", "A_b.c", &"x".repeat(LONGEST)] {
            check(good).unwrap();
        }
        for bad in ["", ".", "..", ".hidden", "a/b", "a b", "ü", &"x".repeat(LONGEST + 1)] {
            assert!(check(bad).unwrap_err().to_string().contains("cannot be the name"), "{bad}");
        }
    }
}
