//! Everything that is laid out to be found, and how it is taken away.

use crate::scene::{Canary, Host, Scene, Stated};
use crate::{PROBE_CANARY, attempts};
use crate::{canary, host, machine};
use palisade_runtime::{Kind, Trouble};
use palisade_sys::attempt::{Arg, Call, attempt};
use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, BufRead as _, BufReader, Read as _};
use std::os::fd::{AsRawFd as _, OwnedFd};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

/// The user of the helper: nobody, and of no file.
const HELPER: u32 = 1_900_000_001;
/// id(1) and cat(1) by themselves; a program that is many in one is larger, and must not become set-user-ID.
const LARGEST_HELPER: u64 = 256 << 10;
/// `IPC_CREAT | IPC_EXCL`, for everybody.
const SEGMENT: i64 = 0o3666;
/// The keyring of the user.
const USER_KEYRING: i64 = -4;

/// All that was laid out. It goes when this is dropped, and when the process ends that holds it.
#[derive(Debug)]
pub(crate) struct Canaries {
    pub(crate) scene: Scene,
    /// Who types, and the terminal of the run.
    pub(crate) terminal: (OwnedFd, OwnedFd),
    /// Left open on purpose: a file and the directory.
    pub(crate) leaked: (OwnedFd, OwnedFd),
    process: Child,
}

impl Drop for Canaries {
    fn drop(&mut self) {
        // It takes all away and ends, once nobody can write to it any more.
        drop(self.process.stdin.take());
        self.process.wait().ok();
        remove(&self.scene.token);
    }
}

fn directory(token: &str) -> PathBuf {
    // Not /tmp, which policies cover.
    PathBuf::from(format!("/var/tmp/palisade-{token}.d"))
}

fn shared(token: &str) -> [PathBuf; 3] {
    ["/dev/shm", "/tmp", "/var/tmp"].map(|dir| Path::new(dir).join(format!("palisade-{token}")))
}

/// The number of the segment.
fn key(token: &str) -> i32 {
    i32::from_str_radix(&token[..7], 16).unwrap_or(1)
}

/// What the message queue and the key are called.
fn name(token: &str) -> Vec<u8> {
    format!("palisade-{token}\0").into_bytes()
}

/// Takes everything away. Whatever is gone already is as it should be.
pub(crate) fn remove(token: &str) {
    for pid in machine::survivors(token) {
        palisade_sys::process::kill(pid, palisade_sys::signal::SIGKILL).ok();
    }
    std::fs::remove_dir_all(directory(token)).ok();
    if let Some(cgroup) = host::canary_cgroup(token) {
        std::fs::remove_dir(cgroup).ok();
    }
    for path in shared(token) {
        std::fs::remove_file(path).ok();
    }
    let scratch = format!("palisade-{token}-");
    for entry in std::fs::read_dir("/tmp").into_iter().flatten().flatten() {
        if entry.file_name().to_string_lossy().starts_with(&scratch) {
            std::fs::remove_dir_all(entry.path()).ok();
        }
    }
    if let Ok(id) = attempt(Call::SHMGET, [Arg::Int(i64::from(key(token))), Arg::Int(0), Arg::Int(0)]) {
        attempt(Call::SHMCTL, [Arg::Int(id), Arg::Int(0), Arg::Null]).ok();
    }
    attempt(Call::MQ_UNLINK, [Arg::In(&name(token))]).ok();
    if let Ok(key) = found_key(token) {
        attempt(Call::KEYCTL, [Arg::Int(9), Arg::Int(key), Arg::Int(USER_KEYRING)]).ok();
    }
}

fn found_key(token: &str) -> Result<i64, palisade_sys::Errno> {
    const SEARCH: i64 = 10;
    let words = [Arg::Int(SEARCH), Arg::Int(USER_KEYRING), Arg::In(b"user\0"), Arg::In(&name(token)), Arg::Int(0)];
    attempt(Call::KEYCTL, words)
}

/// What is still there, by its name.
pub(crate) fn left(token: &str) -> Vec<String> {
    let mut left: Vec<String> = Vec::new();
    for dir in ["/dev/shm", "/tmp", "/var/tmp", "/usr", "/etc"] {
        let entries = std::fs::read_dir(dir).into_iter().flatten().flatten();
        let ours = entries.filter(|entry| entry.file_name().to_string_lossy().contains(token));
        left.extend(ours.map(|entry| entry.path().display().to_string()));
    }
    if attempt(Call::SHMGET, [Arg::Int(i64::from(key(token))), Arg::Int(0), Arg::Int(0)]).is_ok() {
        left.push(format!("shared memory {:#x}", key(token)));
    }
    left.extend(host::canary_cgroup(token).filter(|path| path.exists()).map(|path| path.display().to_string()));
    if found_key(token).is_ok() {
        left.push("a key of the user".to_owned());
    }
    left
}

impl Canaries {
    /// Lays everything out.
    ///
    /// # Errors
    /// A file or the canary could not be made; what is there by then goes.
    pub(crate) fn lay() -> Result<Self, Trouble> {
        let token = nonce().map_err(|error| unlaid("the token could not be drawn", &error))?;
        let made = Self::make(&token);
        made.inspect_err(|_| remove(&token))
    }

    fn make(token: &str) -> Result<Self, Trouble> {
        let dir = directory(token);
        let laid = |error: io::Error| unlaid("the canaries could not be laid out", &error);
        lay_files(&dir, token).map_err(laid)?;
        let helper = lay_helper(&dir).unwrap_or(None);
        let capable = lay_capable(&dir).unwrap_or(false);
        lay_objects(token);
        let host = Host::read().map_err(laid)?;
        let opened = |path: &Path| File::open(path).map(OwnedFd::from).map_err(laid);
        let leaked = (opened(&dir.join("secret"))?, opened(&dir)?);
        let call = |error: palisade_sys::Error| Trouble::call("the canaries could not be laid out", &error);
        let terminal = terminal().map_err(call)?;
        let (process, facts) = start(&dir, token).map_err(laid)?;
        let scene = Scene {
            token: token.to_owned(),
            handle: handle(&dir.join("secret"), &shared(token)[0]),
            dir,
            ids: Vec::new(),
            bare: false,
            commands: BTreeMap::new(),
            stated: Stated::default(),
            canary: facts,
            host,
            launcher: palisade_sys::process::getpid(),
            session: -1,
            leaked: (leaked.0.as_raw_fd(), leaked.1.as_raw_fd()),
            segment_key: key(token),
            channel: -1,
            helper,
            capable,
            cgroup: host::canary_cgroup(token).filter(|path| std::fs::create_dir(path).is_ok()),
        };
        Ok(Self { scene, terminal, leaked, process })
    }

    /// Makes those files new that an attempt may have changed.
    ///
    /// # Errors
    /// They could not be written.
    pub(crate) fn restore(&self) -> Result<(), Trouble> {
        let dir = &self.scene.dir;
        for name in ["w", "planted", attempts::PLANTED_CAPABLE] {
            std::fs::remove_file(dir.join(name)).ok();
        }
        lay_secrets(dir, &self.scene.token).map_err(|error| unlaid("the canaries could not be laid out anew", &error))
    }
}

/// A terminal for the run: raw, so that what is typed can be read at once.
fn terminal() -> palisade_sys::Result<(OwnedFd, OwnedFd)> {
    let (ours, theirs) = palisade_sys::terminal::open_pair()?;
    palisade_sys::terminal::Mode::of(&theirs)?.raw().set(&theirs)?;
    Ok((ours, theirs))
}

fn unlaid(what: &str, error: &io::Error) -> Trouble {
    Trouble::new(Kind::Setup, what).row("call", error.to_string())
}

/// 16 hexadecimal digits that nobody can guess.
fn nonce() -> io::Result<String> {
    let mut bytes = [0; 8];
    File::open("/dev/urandom")?.read_exact(&mut bytes)?;
    Ok(format!("{:016x}", u64::from_ne_bytes(bytes)))
}

fn lay_files(dir: &Path, token: &str) -> io::Result<()> {
    std::fs::create_dir(dir)?;
    // The workload may be anybody: what stops it must not be the mode of a file.
    std::fs::set_permissions(dir, PermissionsExt::from_mode(0o777))?;
    lay_secrets(dir, token)?;
    for path in shared(token) {
        // A host without /dev/shm has one thing less that could be reached.
        std::fs::write(path, token).ok();
    }
    Ok(())
}

fn lay_secrets(dir: &Path, token: &str) -> io::Result<()> {
    for name in ["secret", "trunc", "del"] {
        let path = dir.join(name);
        std::fs::write(&path, format!("{token}\n"))?;
        std::fs::set_permissions(&path, PermissionsExt::from_mode(0o666))?;
    }
    Ok(())
}

/// Copies a program of the system, if it is one by itself.
fn copy(program: &str, to: &Path) -> io::Result<bool> {
    let facts = std::fs::symlink_metadata(program)?;
    let fits = palisade_sys::process::euid() == 0 && facts.is_file() && facts.len() <= LARGEST_HELPER;
    if fits {
        std::fs::copy(program, to)?;
    }
    Ok(fits)
}

/// A copy of cat(1) with a capability; only root can make one.
fn lay_capable(dir: &Path) -> io::Result<bool> {
    let to = dir.join("capable");
    Ok(copy("/usr/bin/cat", &to)? && attempts::set_capability(&to).is_ok())
}

/// A copy of id(1) that runs as a user who owns nothing; only root can make one.
fn lay_helper(dir: &Path) -> io::Result<Option<u32>> {
    let to = dir.join("helper");
    if !copy("/usr/bin/id", &to)? {
        return Ok(None);
    }
    std::os::unix::fs::chown(&to, Some(HELPER), Some(HELPER))?;
    std::fs::set_permissions(&to, PermissionsExt::from_mode(0o4755))?;
    Ok(Some(HELPER))
}

/// What the kernel may not have; the attempts find out.
fn lay_objects(token: &str) {
    const CREATE_READ_WRITE: i64 = 0o2_000_102;
    const EVERYBODY: i64 = 0x3f3f_3f3f;
    let size = 4096;
    if let Ok(id) = attempt(Call::SHMGET, [Arg::Int(i64::from(key(token))), Arg::Int(size), Arg::Int(SEGMENT)])
        && let Ok(id) = i32::try_from(id)
    {
        palisade_sys::attempt::write_segment(id, token.as_bytes()).ok();
    }
    let queue = [Arg::In(&name(token)), Arg::Int(CREATE_READ_WRITE), Arg::Int(0o666), Arg::Null];
    // Its descriptor goes with this process, and with every program that is executed.
    attempt(Call::MQ_OPEN, queue).ok();
    let length = i64::try_from(token.len()).unwrap_or(0);
    let words = [
        Arg::In(b"user\0"),
        Arg::In(&name(token)),
        Arg::In(token.as_bytes()),
        Arg::Int(length),
        Arg::Int(USER_KEYRING),
    ];
    if let Ok(key) = attempt(Call::ADD_KEY, words) {
        attempt(Call::KEYCTL, [Arg::Int(5), Arg::Int(key), Arg::Int(EVERYBODY)]).ok();
    }
}

fn start(dir: &Path, token: &str) -> io::Result<(Child, Canary)> {
    let mut child = Command::new("/proc/self/exe")
        .arg(PROBE_CANARY)
        .arg(dir)
        .arg(canary::mark(token))
        .env(canary::TOKEN, token)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        // Not ended by a ^C that is meant for the harness: it is who takes all away.
        .process_group(0)
        .spawn()?;
    let mut line = String::new();
    if let Some(stdout) = child.stdout.take() {
        BufReader::new(stdout).read_line(&mut line)?;
    }
    match serde_json::from_str(&line) {
        Ok(facts) => Ok((child, facts)),
        Err(error) => {
            drop(child.stdin.take());
            child.wait()?;
            Err(io::Error::other(format!("the canary did not start: {error}")))
        }
    }
}

/// `struct file_handle` of the first of these files whose file system gives one: an overlay may not.
fn handle(one: &Path, other: &Path) -> Vec<u8> {
    let found = handle_of(one);
    if found.is_empty() { handle_of(other) } else { found }
}

fn handle_of(path: &Path) -> Vec<u8> {
    const ROOM: u32 = 128;
    let mut handle = vec![0; 8 + 128];
    handle[..4].copy_from_slice(&ROOM.to_ne_bytes());
    let path = attempts::bytes(path);
    let mut mount = [0; 4];
    let words = [Arg::Int(-100), Arg::In(&path), Arg::Out(&mut handle), Arg::Out(&mut mount), Arg::Int(0)];
    if attempt(Call::NAME_TO_HANDLE_AT, words).is_ok() { handle } else { Vec::new() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_laid_out_by_number_is_found_and_taken_away() {
        let token = nonce().unwrap();
        assert_eq!(token.len(), 16);
        lay_objects(&token);
        assert!(left(&token).iter().any(|what| what.starts_with("shared memory")));
        remove(&token);
        assert_eq!(left(&token), Vec::<String>::new());
    }

    #[test]
    fn files_are_laid_out_and_taken_away() {
        let token = nonce().unwrap();
        lay_files(&directory(&token), &token).unwrap();
        assert!(left(&token).len() >= 3);
        remove(&token);
        assert_eq!(left(&token), Vec::<String>::new());
    }
}
