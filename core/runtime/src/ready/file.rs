//! Writing a file, and putting back what stood in it.

use super::outside::Outside;
use super::place::{Place, plain};
use palisade_abi::{Action, Context, Error, ErrorContext as _, Evidence};
use palisade_sys::fd::{O_CREAT, O_EXCL, O_NOFOLLOW, O_NONBLOCK, O_RDONLY, O_WRONLY};
use palisade_sys::{Errno, fd, mount, names};
use std::fs::File;
use std::io::{Read as _, Seek as _, Write as _};
use std::path::PathBuf;
use std::rc::Rc;

/// What a file may hold that is to be put back.
const LARGEST: u64 = 1 << 20;

/// `PROC_SUPER_MAGIC`, `SYSFS_MAGIC`, `CGROUP_SUPER_MAGIC` and `CGROUP2_SUPER_MAGIC` of linux/magic.h: files that are
/// switches of the kernel.
const PROC: i64 = 0x9fa0;
const SWITCHES: [i64; 3] = [0x6265_6572, 0x0027_e0eb, 0x6367_7270];

/// Settings below /proc/sys that a namespace has its own of: where they begin, and the kind. proc_sys(5),
/// namespaces(7). All others are the whole host's.
const SETTINGS: [(&str, &str); 10] = [
    ("net/", "net"),
    ("user/", "user"),
    ("fs/mqueue/", "ipc"),
    ("kernel/msg", "ipc"),
    ("kernel/sem", "ipc"),
    ("kernel/shm", "ipc"),
    ("kernel/auto_msgmni", "ipc"),
    ("kernel/hostname", "uts"),
    ("kernel/domainname", "uts"),
    ("kernel/ns_last_pid", "pid"),
];

/// The kind of namespace that a setting below /proc/sys belongs to.
///
/// # Errors
/// In words: it is the whole host's.
fn namespace_of(setting: &str) -> Result<&'static str, String> {
    let found = SETTINGS.iter().find(|(prefix, _)| setting.starts_with(prefix));
    found.map(|(_, kind)| *kind).ok_or_else(|| {
        format!("/proc/sys/{setting} is the whole host's, and what is done in the child is not undone; write it in stage prepare")
    })
}

/// A file open for reading and, on its own, for writing.
struct Kept {
    read: File,
    write: File,
    path: PathBuf,
}

impl Kept {
    fn io(&self, call: &str, error: &std::io::Error) -> Error {
        Error::from(palisade_sys::Error::from_io(error, format!("{call}({:?})", self.path)))
    }

    fn get(&self) -> Result<Vec<u8>, Error> {
        let mut bytes = Vec::new();
        let mut file = &self.read;
        let read = file.rewind().and_then(|()| file.take(LARGEST + 1).read_to_end(&mut bytes));
        read.map_err(|error| self.io("read", &error))?;
        if bytes.len() as u64 > LARGEST {
            return Err(Error::setup(format!("{} is larger than 1 MiB", self.path.display())));
        }
        Ok(bytes)
    }

    /// In one write, as the kernel's files want it.
    fn put(&self, bytes: &[u8]) -> Result<(), Error> {
        let mut file = &self.write;
        file.set_len(0).and_then(|()| file.rewind()).map_err(|error| self.io("ftruncate", &error))?;
        let written = file.write(bytes).map_err(|error| {
            let call = format!("write({:?}, {:?})", self.path, String::from_utf8_lossy(bytes));
            Error::from(palisade_sys::Error::from_io(&error, call))
        })?;
        if written == bytes.len() {
            return Ok(());
        }
        Err(Error::setup(format!("only {written} of {} bytes were written to {}", bytes.len(), self.path.display())))
    }
}

/// What was there before.
enum Before {
    Text(Vec<u8>),
    /// Nothing: where it was made, and device and inode of what was.
    Nothing(Place, (u64, u64)),
}

/// `WriteFile`.
pub(super) struct Write {
    path: PathBuf,
    text: String,
    mode: Option<u32>,
    /// In the child: what must not be touched.
    inside: Option<Rc<Outside>>,
    kept: Option<Kept>,
    before: Option<Before>,
}

impl Write {
    pub(super) fn new(
        path: String,
        text: String,
        mode: Option<u32>,
        inside: Option<Rc<Outside>>,
    ) -> Result<Self, String> {
        let path = plain(path)?;
        if mode.is_some_and(|mode| mode & !0o777 != 0) {
            return Err("its mode has bits beyond 0o777".to_owned());
        }
        if text.len() as u64 > LARGEST {
            return Err("its text is larger than 1 MiB".to_owned());
        }
        if let (Some(_), Ok(setting)) = (&inside, path.strip_prefix("/proc/sys")) {
            namespace_of(&setting.to_string_lossy())?;
        }
        Ok(Self { path, text, mode, inside, kept: None, before: None })
    }

    /// Opens the file, made if that is wanted, and remembers what was there.
    fn open(&mut self) -> Result<Kept, Error> {
        let place = Place::open(&self.path)?;
        let flags = O_NOFOLLOW | O_NONBLOCK;
        let open = |place: &Place| fd::open_at(&place.dir, &place.name, O_RDONLY | flags);
        let read = match (open(&place), self.mode) {
            (Err(error), Some(mode)) if error.kind() == Errno::ENOENT => {
                self.must_end_with_the_workload(mount::statfs_type(&place.dir)?)?;
                let made = fd::open_at_mode(&place.dir, &place.name, O_WRONLY | O_CREAT | O_EXCL | flags, mode)?;
                let facts = fd::fstat(&made)?;
                let again = Place::open(&self.path)?;
                self.before = Some(Before::Nothing(again, (facts.dev, facts.ino)));
                open(&place)?
            }
            (read, _) => read?,
        };
        if !fd::fstat(&read)?.is_file() {
            return Err(Error::setup(format!("{} is no regular file", self.path.display())));
        }
        self.must_end_with_the_workload(mount::statfs_type(&read)?)?;
        let write = fd::open_at(&place.dir, &place.name, O_WRONLY | flags)?;
        if !fd::is_same_file(&read, &write)? {
            return Err(Error::setup(format!("{} was replaced while it was opened", self.path.display())));
        }
        Ok(Kept { read: read.into(), write: write.into(), path: self.path.clone() })
    }

    /// In the child, where nothing is undone; `kind` is the type of the file system.
    fn must_end_with_the_workload(&self, kind: i64) -> Result<(), Error> {
        let Some(outside) = &self.inside else { return Ok(()) };
        let shown = self.path.display();
        match (kind, self.path.strip_prefix("/proc/sys")) {
            (PROC, Ok(setting)) => outside.must_differ(namespace_of(&setting.to_string_lossy()).map_err(Error::setup)?),
            (PROC, Err(_)) => Err(Error::setup(format!("{shown} is a process's, and not below /proc/sys"))),
            (kind, _) if SWITCHES.contains(&kind) => {
                let message =
                    format!("{shown} is a switch of the whole host, and what is done in the child is not undone");
                Err(Error::setup(message).help("write it in stage prepare or attach"))
            }
            _ => outside.must_differ("mnt"),
        }
    }

    fn read_back(&self) -> Result<Evidence, Error> {
        let kept = self.kept.as_ref().ok_or_else(|| Error::setup("it was never opened"))?;
        let found = kept.get()?;
        let found = String::from_utf8_lossy(&found);
        // The kernel writes its own files in its own way: other white space, a line break at the end.
        if !found.split_whitespace().eq(self.text.split_whitespace()) {
            let message =
                format!("{} reads {:?}, and should read {:?}", self.path.display(), short(&found), short(&self.text));
            return Err(Error::setup(message));
        }
        Ok(format!("{} reads {:?}", self.path.display(), short(&found)).into())
    }
}

/// As much of a text as fits into a line.
fn short(text: &str) -> String {
    let text = text.trim_end();
    let cut: String = text.chars().take(60).collect();
    if cut.len() < text.len() { cut + "..." } else { cut }
}

impl Action for Write {
    fn apply(&mut self, _context: &mut Context<'_>) -> Result<Evidence, Error> {
        let kept = self.open().doing(|| format!("{} cannot be written", self.path.display()))?;
        if self.before.is_none() {
            let text = kept.get().doing(|| "what it holds cannot be kept, so it could not be put back")?;
            self.before = Some(Before::Text(text));
        }
        let put = kept.put(self.text.as_bytes());
        self.kept = Some(kept);
        put?;
        self.read_back()
    }

    fn verify(&self, _context: &Context<'_>) -> Result<Option<Evidence>, Error> {
        if self.inside.is_some() {
            return Ok(None);
        }
        self.read_back()?;
        Ok(None)
    }

    fn witness(&self, _context: &Context<'_>) -> Result<Evidence, Error> {
        self.read_back()?;
        Ok(Evidence::default())
    }

    fn undo(&mut self, _context: &mut Context<'_>) -> Result<(), Error> {
        let kept = self.kept.take();
        match (self.before.take(), kept) {
            (Some(Before::Text(text)), Some(kept)) => {
                kept.put(&text).doing(|| format!("what stood in {} cannot be put back", self.path.display()))
            }
            // Somebody else's file of the same name is theirs.
            (Some(Before::Nothing(place, file)), _) if place.is(file) => {
                names::unlink(&place.dir, &place.name).doing(|| format!("{} cannot be removed", self.path.display()))
            }
            _ => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_setting_belongs_to_a_namespace_or_to_the_whole_host() {
        assert_eq!(namespace_of("net/ipv4/ip_forward"), Ok("net"));
        assert_eq!(namespace_of("kernel/shmmax"), Ok("ipc"));
        assert_eq!(namespace_of("kernel/hostname"), Ok("uts"));
        for of_the_host in ["kernel/pid_max", "vm/overcommit_memory", "kernel/cap_last_cap", "fs/file-max", "netx"] {
            assert!(namespace_of(of_the_host).is_err(), "{of_the_host}");
        }
    }
}
