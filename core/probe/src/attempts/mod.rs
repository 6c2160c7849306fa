//! The attempts, a file for each group, and what they share.

mod escapes;
mod filesystem;
mod information;
mod kernel;
mod network;
mod power;
mod privilege;
mod processes;
mod resources;
mod stated;
mod surface;

use crate::catalogue::Probe;
use crate::scene::{Inode, Scene};
use crate::verdict::{Stop, Tried};
use palisade_sys::Errno;
use palisade_sys::attempt::{Arg, Call, attempt};
use std::fs::{File, OpenOptions};
use std::io::{Read as _, Write as _};
use std::os::unix::fs::{MetadataExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};

/// A table of attempts: id, severity, `[layers]`, what is attempted, what it needs, why it is harmless, the function.
macro_rules! table {
    ($($id:literal $severity:ident [$layers:literal] $attempts:literal, $needs:literal, $harmless:literal => $attempt:expr;)*) => {
        pub(super) const PROBES: &[$crate::catalogue::Probe] = &[$(
            $crate::catalogue::Probe {
                id: $id,
                severity: $crate::verdict::Severity::$severity,
                layers: $layers,
                attempts: $attempts,
                needs: $needs,
                harmless: $harmless,
                attempt: $attempt,
            },
        )*];
    };
}
use table;

pub(crate) use information::{EXTRA, SECRET};
pub(crate) use network::interfaces;
pub(crate) use privilege::{PLANTED_CAPABLE, is_capable, set_capability};
pub(crate) use processes::survivors_name;
pub(crate) use resources::{crowd, too_many};
pub(crate) use stated::CORE;

/// All of them, what takes resources last.
pub(crate) const ALL: &[&[Probe]] = &[
    filesystem::PROBES,
    power::PROBES,
    processes::PROBES,
    network::PROBES,
    kernel::PROBES,
    surface::PROBES,
    privilege::PROBES,
    information::PROBES,
    escapes::PROBES,
    stated::PROBES,
    resources::PROBES,
    stated::LAST,
];

/// Reads the beginning of a file.
fn read(path: impl AsRef<Path>, length: u64) -> Result<Vec<u8>, Stop> {
    let mut bytes = Vec::new();
    File::open(path)?.take(length).read_to_end(&mut bytes)?;
    Ok(bytes)
}

/// Reads a text that the kernel makes.
fn text(path: impl AsRef<Path>) -> Result<String, Stop> {
    Ok(String::from_utf8_lossy(&read(path, 1 << 20)?).into_owned())
}

fn holds(bytes: &[u8], token: &str) -> bool {
    bytes.windows(token.len()).any(|window| window == token.as_bytes())
}

/// Whether a file tells the token.
fn tells(path: impl AsRef<Path>, scene: &Scene) -> Tried {
    Ok(holds(&read(path, 1 << 16)?, &scene.token))
}

/// One byte of a file can be read. It is dropped.
fn readable(path: &str) -> Tried {
    read(path, 1).map(|bytes| !bytes.is_empty())
}

/// It can be opened; nothing is done with it.
fn opens(path: impl AsRef<Path>, write: bool) -> Tried {
    let mut options = OpenOptions::new();
    options.read(!write).write(write).custom_flags(palisade_sys::fd::O_NONBLOCK);
    options.open(path)?;
    Ok(true)
}

/// Writes to a file what it holds.
fn rewrite(path: impl AsRef<Path>) -> Tried {
    let content = read(&path, 4096)?;
    let mut file = OpenOptions::new().write(true).open(path)?;
    Ok(file.write(&content)? > 0)
}

fn inode(path: impl AsRef<Path>) -> Result<Inode, Stop> {
    let facts = std::fs::metadata(path)?;
    Ok((facts.dev(), facts.ino()))
}

/// It is open where this is so, and else hidden.
fn seen(is: bool, what: &str) -> Tried {
    if is { Ok(true) } else { Err(Stop::hidden(what)) }
}

/// The call gave something.
fn gave<const N: usize>(call: Call, args: [Arg<'_>; N]) -> Tried {
    attempt(call, args)?;
    Ok(true)
}

/// The call is wrong on purpose: one of these errnos says that the power to make it is there.
fn held<const N: usize>(codes: &[Errno], call: Call, args: [Arg<'_>; N]) -> Tried {
    match attempt(call, args) {
        Err(errno) if codes.contains(&errno) => Ok(true),
        Err(errno) => Err(errno.into()),
        Ok(_) => Ok(true),
    }
}

/// The directory of one attempt, by the process that makes it.
pub(crate) fn scratch_of(scene: &Scene, pid: i32) -> PathBuf {
    PathBuf::from(format!("/tmp/palisade-{}-{pid}", scene.token))
}

/// Makes it; it is removed when the attempt is over.
fn scratch(scene: &Scene) -> Result<PathBuf, Stop> {
    let path = scratch_of(scene, palisade_sys::process::getpid());
    std::fs::create_dir(&path)?;
    Ok(path)
}

/// A path as a call takes it, with its NUL.
pub(crate) fn bytes(path: impl AsRef<Path>) -> Vec<u8> {
    use std::os::unix::ffi::OsStrExt as _;
    [path.as_ref().as_os_str().as_bytes(), b"\0"].concat()
}

/// A number of what the kernel says of this process.
fn status(field: &str) -> Result<String, Stop> {
    let all = text("/proc/self/status")?;
    let value = all.lines().find_map(|line| line.strip_prefix(field)?.strip_prefix(':'));
    value.map(|value| value.trim().to_owned()).ok_or_else(|| Stop::unclear("the status has no such line"))
}

/// An answer of a call as a descriptor or an id, both of which are ints.
fn number(answer: i64) -> Result<i32, Stop> {
    i32::try_from(answer).map_err(|_e| Stop::unclear("the answer is no int"))
}
