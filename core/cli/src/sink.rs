//! Where `--report` goes. It is opened before anything is started, so that a place that cannot be written is known
//! while nothing has happened yet.

use crate::out;
use palisade_runtime::model::report::Report;
use palisade_runtime::{Kind, Trouble};
use std::ffi::{OsStr, OsString};
use std::fs::{File, OpenOptions};
use std::io::{self, Write as _};
use std::os::fd::AsRawFd as _;
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};

/// A place for one report.
#[derive(Debug)]
pub(crate) enum Sink {
    Stdout,
    /// A descriptor that the caller gave, or a device or pipe that has a name.
    Stream(File),
    /// A file, which appears at once and whole.
    File(Place),
}

/// A name in an open directory: the workload may be able to write to that directory, and to what is above it.
#[derive(Debug)]
pub(crate) struct Place {
    dir: File,
    name: OsString,
}

impl Sink {
    /// Opens what `--report` names.
    ///
    /// # Errors
    /// It could not be written.
    pub(crate) fn open(target: &OsStr) -> Result<Self, Trouble> {
        if target == "-" {
            return Ok(Self::Stdout);
        }
        match target.as_bytes().strip_prefix(b"fd:") {
            Some(number) => descriptor(number).map(Self::Stream),
            None => file(Path::new(target)).map_err(|error| {
                let shown = Path::new(target).display();
                Trouble::new(Kind::Usage, format!("the report cannot be written to {shown}: {error}"))
            }),
        }
    }

    /// Writes the report.
    ///
    /// # Errors
    /// It could not be written.
    pub(crate) fn write(self, report: &Report) -> io::Result<()> {
        let mut text = serde_json::to_string_pretty(report)?;
        text.push('\n');
        match self {
            Self::Stdout => out::stdout(&text),
            Self::Stream(mut stream) => stream.write_all(text.as_bytes()),
            Self::File(place) => place.write(text.as_bytes()),
        }
    }
}

fn descriptor(number: &[u8]) -> Result<File, Trouble> {
    let shown = String::from_utf8_lossy(number);
    inherited(&shown).map_err(|why| {
        Trouble::new(Kind::Usage, format!("the report cannot be written to fd:{shown}: {why}"))
            .row("help", "open it for writing where palisade is started: --report fd:3 3>report.json")
    })
}

fn inherited(number: &str) -> Result<File, String> {
    let text = Some(number).filter(|text| text.bytes().all(|b| b.is_ascii_digit()));
    let number: i32 = text.and_then(|text| text.parse().ok()).ok_or("this is not the number of a descriptor")?;
    let info = std::fs::read_to_string(format!("/proc/self/fdinfo/{number}"));
    let info = info.map_err(|_gone| "it is not open".to_owned())?;
    let flags = info.lines().find_map(|line| line.strip_prefix("flags:"));
    let flags = flags.and_then(|text| u32::from_str_radix(text.trim(), 8).ok()).unwrap_or_default();
    // O_ACCMODE: reading, writing, both.
    if flags & 3 == 0 {
        return Err("it is open for reading only".to_owned());
    }
    palisade_runtime::descriptor(number).map(File::from).map_err(|trouble| trouble.headline())
}

fn file(path: &Path) -> io::Result<Sink> {
    if let Ok(there) = path.symlink_metadata() {
        let kind = there.file_type();
        if kind.is_symlink() {
            // What it leads to may be chosen by somebody else, /dev/stdout by whoever redirected it.
            return Err(io::Error::other("it is a symbolic link; name the file itself, `-`, or fd:N"));
        }
        if kind.is_dir() {
            return Err(io::ErrorKind::IsADirectory.into());
        }
        if !kind.is_file() {
            // A device or a pipe is written to; a rename would put a file in its place.
            return Ok(Sink::Stream(OpenOptions::new().write(true).open(path)?));
        }
    }
    let name = path.file_name().ok_or(io::ErrorKind::InvalidInput)?.to_owned();
    let dir = path.parent().filter(|dir| !dir.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let place = Place { dir: File::open(dir)?, name };
    place.try_out()?;
    Ok(Sink::File(place))
}

impl Place {
    /// A path that leads through the open directory, wherever that has been moved to.
    fn path(&self, name: &OsStr) -> PathBuf {
        PathBuf::from(format!("/proc/self/fd/{}", self.dir.as_raw_fd())).join(name)
    }

    fn fresh(&self) -> io::Result<(File, PathBuf)> {
        let mut name = OsString::from(".");
        name.push(&self.name);
        name.push(format!(".palisade-{}", std::process::id()));
        let path = self.path(&name);
        let file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&path)?;
        Ok((file, path))
    }

    /// Nothing is left there while the workload runs: if all of us is killed, nothing stays behind.
    fn try_out(&self) -> io::Result<()> {
        let (_, path) = self.fresh()?;
        std::fs::remove_file(path)
    }

    fn write(&self, bytes: &[u8]) -> io::Result<()> {
        let (mut file, fresh) = self.fresh()?;
        let written = file.write_all(bytes).and_then(|()| std::fs::rename(&fresh, self.path(&self.name)));
        if written.is_err() {
            // What could not be written is worth less than its error.
            std::fs::remove_file(&fresh).ok();
        }
        written
    }
}
