//! `Deny`: what is there is masked; what is not there cannot be made.
//!
//! A name that does not exist can be kept from somebody who may write the directory in one way only: something is
//! mounted there, and a mount needs something below it. So an empty file is made on the host, for as long as the run
//! lasts. It carries a mark by which palisade knows it, and each run that needs it holds a lock on it; the last one
//! removes it. If the launcher is killed, its heir does, once the workload is dead: to remove it earlier would be to take
//! the mount away.

use std::fs::{self, File, Metadata, TryLockError};
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use palisade_abi::{Action, Context, Error, Evidence, Origin, Stage, Step};
use palisade_sys::{Errno, fd, process};

use crate::error::Told;
use crate::heir::Heir;
use crate::op::{Expected, Op};
use crate::planner::Planner;
use crate::source::open_found;
use crate::steps::Item;
use crate::tree::{Access, Backing, below};
use crate::view::MASKED;

/// When a file of ours was last changed: "PALI", in 2012. Every file system keeps whole seconds.
const MARK: Duration = Duration::from_secs(0x5041_4c49);
/// Everybody may see that it is empty: a program that looks for the file goes on.
const MODE: u32 = 0o444;
/// How often a name is tried that another run is making or removing, and how long that takes.
const TRIES: u32 = 200;
const PAUSE: Duration = Duration::from_millis(5);

/// A name that is not there, in a directory of the host that the workload may write.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Stub {
    dir: PathBuf,
    name: String,
    /// Its place in the view.
    shown: String,
    origin: Option<Origin>,
}

impl Stub {
    fn path(&self) -> PathBuf {
        self.dir.join(&self.name)
    }
}

impl Planner<'_> {
    /// A file or directory that the workload gets neither to see nor to make.
    pub(crate) fn deny(&mut self, path: &str, origin: Option<Origin>) -> Result<Item, Error> {
        let path = self.tree.resolve(path)?;
        let (at, backing) = self.tree.backing(&path);
        let (at, backing) = (at.to_owned(), backing.clone());
        let item = |words, why: &str| Item { words, why: why.to_owned(), ops: Vec::new(), expected: Vec::new() };
        if self.stubs.iter().any(|stub| stub.shown == at) {
            return Ok(item(format!("denies {path} with {at}"), "it would lie in what is denied already"));
        }
        let Backing::Host(source) = &backing else {
            return self.mask(&path).map_err(|error| error.help("put Deny behind the entry that brings its directory"));
        };
        let rest = below(&path, &at).unwrap_or_default();
        let Some(missing) = first_missing(source, rest)? else { return self.mask(&path) };
        let name = format!("{}/{missing}", at.trim_end_matches('/'));
        match self.tree.access(&at) {
            Access::Read => {
                Ok(item(format!("denies {name}, which is not there: {at} is read-only"), "nothing is made in it"))
            }
            Access::Apart => Err(Error::policy(format!("{name} is not there, and lies in an overlay"))
                .help("what is made in an overlay does not reach its directory; deny it where a Bind shows it")),
            Access::Write => {
                let real = source.join(&missing);
                let (Some(dir), Some(last)) = (real.parent(), real.file_name().and_then(|name| name.to_str())) else {
                    return Err(Error::policy(format!("{name} has no directory")));
                };
                let (dir, last, shown) = (dir.to_owned(), last.to_owned(), name.clone());
                self.stubs.push(Stub { dir, name: last, shown, origin });
                let target = self.tree.denied(&name);
                let mut item = item(
                    format!("denies {name}, which is not there, by an empty file that cannot be changed"),
                    "the file is on the host too while the workload runs: a mount needs something below it",
                );
                item.expected.push(Expected::plain(&name, MASKED));
                item.ops.push(Op::Part { target, flags: MASKED });
                Ok(item)
            }
        }
    }
}

/// The first name of `rest` below a directory of the host that is not there, or only for another run's sake, with what
/// leads to it; none where all is there.
fn first_missing(source: &Path, rest: &str) -> Result<Option<String>, Error> {
    let mut so_far = String::new();
    for part in rest.split('/').filter(|part| !part.is_empty()) {
        so_far = if so_far.is_empty() { part.to_owned() } else { format!("{so_far}/{part}") };
        let here = source.join(&so_far);
        match fs::symlink_metadata(&here) {
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => return Ok(Some(so_far)),
            Err(e) => {
                return Err(Error::host(format!("cannot look at {}", here.display()))
                    .call(format!("lstat({here:?}): {e}"), e.raw_os_error().unwrap_or(0)));
            }
            Ok(facts) if is_ours(&facts) => return Ok(Some(so_far)),
            // It is refused by whoever looks for something to cover.
            Ok(facts) if facts.is_symlink() => return Ok(None),
            Ok(_) => {}
        }
    }
    Ok(None)
}

/// Whether it is a file that was made to be mounted on: empty, of this user's, and with the mark.
fn is_ours(facts: &Metadata) -> bool {
    let marked = u64::try_from(facts.mtime()) == Ok(MARK.as_secs());
    let plain = facts.is_file() && facts.len() == 0 && facts.nlink() == 1;
    marked && plain && facts.mode() & 0o7777 == MODE && facts.uid() == process::euid()
}

/// The step that makes them.
pub(crate) fn step(stubs: Vec<Stub>) -> Option<Step> {
    let origin = stubs.first()?.origin;
    let names: Vec<String> = stubs.iter().map(|stub| stub.path().display().to_string()).collect();
    let words = format!("makes empty files to mount on, removed at the end: {}", names.join(", "));
    let action = Stubs { stubs, held: Vec::new(), heir: None };
    Some(Step::new(Stage::Attach, words, action).why("what is not there cannot be covered").origin(origin))
}

/// What was made, or shared with another run.
struct Held {
    dir: OwnedFd,
    name: String,
    /// Locked, shared, as long as somebody needs it.
    file: File,
}

impl Held {
    fn is_there(&self) -> bool {
        let named = fs::symlink_metadata(self.path());
        let same = |named: &Metadata, own: Metadata| (named.dev(), named.ino()) == (own.dev(), own.ino());
        named.is_ok_and(|named| self.file.metadata().is_ok_and(|own| same(&named, own)))
    }

    fn path(&self) -> PathBuf {
        fd::proc_fd_path(&self.dir).join(&self.name)
    }

    /// Removes it, unless another run needs it or it has become something else.
    fn remove(&self) -> std::io::Result<()> {
        match self.file.try_lock() {
            Err(TryLockError::WouldBlock) => return Ok(()),
            Err(TryLockError::Error(e)) => return Err(e),
            Ok(()) => {}
        }
        if self.is_there() && self.file.metadata().is_ok_and(|facts| is_ours(&facts)) {
            fs::remove_file(self.path())?;
        }
        Ok(())
    }
}

struct Stubs {
    stubs: Vec<Stub>,
    held: Vec<Held>,
    /// Who removes them if this process cannot.
    heir: Option<Heir>,
}

impl Action for Stubs {
    fn apply(&mut self, context: &mut Context<'_>) -> Result<Evidence, Error> {
        for stub in &self.stubs {
            let held = hold(stub).map_err(|error| error.at(stub.origin))?;
            self.held.push(held);
        }
        let kept: Vec<_> = self.held.iter().flat_map(|held| [held.dir.as_raw_fd(), held.file.as_raw_fd()]).collect();
        let remove = || self.held.iter().all(|held| held.remove().is_ok());
        self.heir = Some(Heir::appoint(context.init_pid()?, &kept, remove)?);
        Ok(Evidence::default())
    }

    fn verify(&self, _context: &Context<'_>) -> Result<Option<Evidence>, Error> {
        match self.held.iter().find(|held| !held.is_there()) {
            Some(gone) => Err(Error::setup(format!("{} is gone, and with it what was mounted there", gone.name))
                .help("something removes it while palisade starts")),
            None => Ok(Some(Evidence(format!("{} there and locked", self.held.len())))),
        }
    }

    fn undo(&mut self, _context: &mut Context<'_>) -> Result<(), Error> {
        let mut failed = None;
        for (held, stub) in std::mem::take(&mut self.held).iter().zip(&self.stubs) {
            if let Err(e) = held.remove() {
                let path = stub.path();
                let error = Error::setup(format!("an empty file is left: {}", path.display()))
                    .call(format!("unlink({path:?}): {e}"), e.raw_os_error().unwrap_or(0))
                    .help("remove it");
                failed = failed.or(Some(error));
            }
        }
        if let Some(heir) = self.heir.take() {
            heir.dismiss();
        }
        failed.map_or(Ok(()), Err)
    }
}

/// Makes an empty file, or shares that of another run, and locks it.
fn hold(stub: &Stub) -> Result<Held, Error> {
    let path = stub.path();
    let said = || format!("cannot make {} to mount on it", path.display());
    let dir = open_found(&stub.dir, fd::O_DIRECTORY)?;
    for _ in 0..TRIES {
        let new = fd::O_RDONLY | fd::O_CREAT | fd::O_EXCL | fd::O_NOFOLLOW;
        let (file, made) = match fd::open_at_mode(&dir, &stub.name, new, MODE) {
            Ok(file) => (File::from(file), true),
            Err(error) if error.kind() == Errno::EEXIST => {
                match fd::open_at(&dir, &stub.name, fd::O_RDONLY | fd::O_NOFOLLOW | fd::O_NONBLOCK) {
                    Ok(file) => (File::from(file), false),
                    Err(error) if error.kind() == Errno::ENOENT => continue,
                    Err(error) => return Err(error).told(said),
                }
            }
            Err(error) => return Err(error).told(said).map_err(|error| advise(error, &stub.dir)),
        };
        let held = Held { dir: fd::dup_cloexec(&dir)?, name: stub.name.clone(), file };
        let locked = held.file.try_lock_shared().is_ok();
        if made {
            mark(&held.file).map_err(|e| {
                held.remove().ok();
                Error::setup(said()).call(format!("utimensat({path:?}): {e}"), e.raw_os_error().unwrap_or(0))
            })?;
        }
        // Another run may be removing it, or be about to mark it.
        if locked && held.is_there() && held.file.metadata().is_ok_and(|facts| is_ours(&facts)) {
            return Ok(held);
        }
        std::thread::sleep(PAUSE);
    }
    Err(Error::setup(format!("{} was not there when the launch was planned, and is now", path.display()))
        .help("something makes it while palisade starts; start again"))
}

fn mark(file: &File) -> std::io::Result<()> {
    file.set_permissions(fs::Permissions::from_mode(MODE))?;
    let at: SystemTime = UNIX_EPOCH + MARK;
    file.set_modified(at)
}

fn advise(error: Error, dir: &Path) -> Error {
    let help = format!(
        "only who may write {} can keep a name there from others; where the workload may not either, leave the line out",
        dir.display()
    );
    error.help(help)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_ours_is_known_by_its_mark_and_what_is_not_is_left() {
        let dir = std::env::temp_dir().join(format!("palisade-deny-{}", std::process::id()));
        fs::create_dir_all(dir.join("a/b")).unwrap();
        let dir = fs::canonicalize(dir).unwrap();
        assert_eq!(first_missing(&dir, "a/b").unwrap(), None);
        assert_eq!(first_missing(&dir, "a/b/c/d").unwrap().as_deref(), Some("a/b/c"));
        let stub = Stub { dir: dir.join("a/b"), name: "c".to_owned(), shown: "/c".to_owned(), origin: None };
        let first = hold(&stub).unwrap();
        assert_eq!(first_missing(&dir, "a/b/c/d").unwrap().as_deref(), Some("a/b/c"));
        let second = hold(&stub).unwrap();
        first.remove().unwrap();
        assert!(stub.path().exists(), "the second needs it");
        drop(first);
        second.remove().unwrap();
        assert!(!stub.path().exists());
        // Somebody put a file of theirs in its place.
        let third = hold(&stub).unwrap();
        fs::write(dir.join("theirs"), "").unwrap();
        fs::rename(dir.join("theirs"), stub.path()).unwrap();
        third.remove().unwrap();
        assert!(stub.path().exists() && !third.is_there());
        fs::remove_dir_all(&dir).unwrap();
    }
}
