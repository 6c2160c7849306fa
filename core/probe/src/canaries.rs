//! Everything that is laid out to be found, and how it is taken away.

use crate::canary;
use crate::scene::{Canary, Host, Inode, Scene};
use crate::{PROBE_CANARY, attempts};
use palisade_runtime::{Kind, Trouble};
use palisade_sys::attempt::{Arg, Call, attempt};
use palisade_sys::ids;
use std::fs::File;
use std::io::{self, BufRead as _, BufReader, Read as _};
use std::os::fd::{AsRawFd as _, OwnedFd};
use std::os::unix::fs::{FileTypeExt as _, MetadataExt as _, PermissionsExt};
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

/// The user of the helper: nobody, and of no file.
const HELPER: u32 = 1_900_000_001;
/// id(1) by itself; a program that is many in one is larger, and must not become set-user-ID.
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
    std::fs::remove_dir_all(directory(token)).ok();
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
        lay_objects(token);
        let host = Host::read().map_err(laid)?;
        let opened = |path: &Path| File::open(path).map(OwnedFd::from).map_err(laid);
        let leaked = (opened(&dir.join("secret"))?, opened(&dir)?);
        let call = |error: palisade_sys::Error| Trouble::call("the canaries could not be laid out", &error);
        let terminal = palisade_sys::attempt::terminal().map_err(call)?;
        let (process, facts) = start(&dir, token).map_err(laid)?;
        let scene = Scene {
            token: token.to_owned(),
            handle: handle(&dir.join("secret")),
            dir,
            ids: Vec::new(),
            canary: facts,
            host,
            launcher: palisade_sys::process::getpid(),
            leaked: (leaked.0.as_raw_fd(), leaked.1.as_raw_fd()),
            segment_key: key(token),
            channel: -1,
            helper,
        };
        Ok(Self { scene, terminal, leaked, process })
    }

    /// Makes those files new that an attempt may have changed.
    ///
    /// # Errors
    /// They could not be written.
    pub(crate) fn restore(&self) -> Result<(), Trouble> {
        let dir = &self.scene.dir;
        for name in ["w", "planted"] {
            std::fs::remove_file(dir.join(name)).ok();
        }
        lay_secrets(dir, &self.scene.token).map_err(|error| unlaid("the canaries could not be laid out anew", &error))
    }
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

/// A copy of id(1) that runs as a user who owns nothing; only root can make one.
fn lay_helper(dir: &Path) -> io::Result<Option<u32>> {
    let program = Path::new("/usr/bin/id");
    let facts = std::fs::symlink_metadata(program)?;
    if palisade_sys::process::euid() != 0 || !facts.is_file() || facts.len() > LARGEST_HELPER {
        return Ok(None);
    }
    let copy = dir.join("helper");
    std::fs::copy(program, &copy)?;
    std::os::unix::fs::chown(&copy, Some(HELPER), Some(HELPER))?;
    std::fs::set_permissions(&copy, PermissionsExt::from_mode(0o4755))?;
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

/// `struct file_handle` of a file.
fn handle(path: &Path) -> Vec<u8> {
    const ROOM: u32 = 128;
    let mut handle = vec![0; 8 + 128];
    handle[..4].copy_from_slice(&ROOM.to_ne_bytes());
    let path = attempts::bytes(path);
    let mut mount = [0; 4];
    let words = [Arg::Int(-100), Arg::In(&path), Arg::Out(&mut handle), Arg::Out(&mut mount), Arg::Int(0)];
    if attempt(Call::NAME_TO_HANDLE_AT, words).is_ok() { handle } else { Vec::new() }
}

impl Host {
    fn read() -> io::Result<Self> {
        let text = |path: &str| std::fs::read_to_string(path).unwrap_or_default();
        let home = std::env::home_dir().unwrap_or_else(|| {
            ids::lookup_uid(palisade_sys::process::getuid()).ok().flatten().map(|user| user.home).unwrap_or_default()
        });
        let namespaces = ["mnt", "pid", "net", "ipc", "uts", "user", "cgroup"].into_iter();
        let seconds = |text: &str| text.split(['.', ' ']).next().and_then(|word| word.parse().ok()).unwrap_or(0);
        let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap_or_default().as_secs();
        Ok(Self {
            shadow: inode("/etc/shadow"),
            passwd: inode("/etc/passwd"),
            root: inode("/"),
            home_inode: inode(&home),
            home,
            names: names("/")?,
            block: block_device(),
            interfaces: attempts::interfaces().unwrap_or_default(),
            hostname: text("/proc/sys/kernel/hostname").trim().to_owned(),
            cmdline: text("/proc/cmdline"),
            boot_id: text("/proc/sys/kernel/random/boot_id"),
            machine_id: text("/etc/machine-id"),
            boottime: (seconds(&text("/proc/uptime")), now),
            terminals: names("/dev/pts").unwrap_or_default().into_iter().filter(|name| name != "ptmx").collect(),
            namespaces: namespaces
                .filter_map(|name| Some((name.to_owned(), std::fs::read_link(format!("/proc/self/ns/{name}")).ok()?)))
                .collect(),
            cgroups: cgroups(&text("/proc/self/mountinfo")),
        })
    }
}

fn inode(path: impl AsRef<Path>) -> Option<Inode> {
    let facts = std::fs::metadata(path).ok()?;
    Some((facts.dev(), facts.ino()))
}

fn names(dir: &str) -> io::Result<Vec<String>> {
    let entries = std::fs::read_dir(dir)?.flatten();
    let mut names: Vec<String> = entries.map(|entry| entry.file_name().to_string_lossy().into_owned()).collect();
    names.sort();
    Ok(names)
}

/// The device that holds `/`; where that is none of /dev, any disk.
fn block_device() -> PathBuf {
    let root = inode("/").map(|(device, _)| device);
    let mut any = PathBuf::new();
    for entry in std::fs::read_dir("/dev").into_iter().flatten().flatten() {
        let Ok(facts) = entry.metadata() else { continue };
        let virtual_one =
            ["loop", "ram", "zram"].iter().any(|kind| entry.file_name().to_string_lossy().starts_with(kind));
        if !facts.file_type().is_block_device() || virtual_one {
            continue;
        }
        if Some(facts.rdev()) == root {
            return entry.path();
        }
        any = entry.path();
    }
    any
}

fn cgroups(mounts: &str) -> PathBuf {
    let point = |kind: &str| mounts.lines().find(|line| line.contains(kind))?.split(' ').nth(4);
    point(" - cgroup ").or_else(|| point(" - cgroup2 ")).unwrap_or("/sys/fs/cgroup").into()
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

    #[test]
    fn the_cgroups_of_the_first_version_come_first() {
        let mounts = "1 2 0:3 / /sys/fs/cgroup/unified rw - cgroup2 none rw\n4 2 0:5 / /sys/fs/cgroup/pids rw - cgroup none rw\n";
        assert_eq!(cgroups(mounts), Path::new("/sys/fs/cgroup/pids"));
        assert_eq!(cgroups(mounts.lines().next().unwrap()), Path::new("/sys/fs/cgroup/unified"));
    }
}
