//! What the cases share: processes to act in, directories to act on, and what they say.

use std::ffi::CString;
use std::io::Read as _;
use std::os::fd::{AsFd, OwnedFd};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::{Duration, Instant};

use palisade_sys::event::{self, PollItem};
use palisade_sys::namespace::CLONE_NEWNS;
use palisade_sys::process::{self, Cloned, Ended, Program, Target, Usage};
use palisade_sys::procfs::Proc;
use palisade_sys::{Errno, fd, ids, mount};

/// A user who owns nothing on any host.
pub(crate) const NOBODY: u32 = 65534;
/// Longer than any step of a case takes, also in an emulated machine.
const PATIENCE: Duration = Duration::from_secs(60);
/// What a process exits with after a panic.
const PANICKED: i32 = 101;

/// A process that runs a piece of a case; what it writes to standard error comes here.
pub(crate) struct Running {
    pub(crate) pid: i32,
    pub(crate) pidfd: OwnedFd,
    said: std::io::PipeReader,
}

/// How it ended.
#[derive(Debug)]
pub(crate) struct Outcome {
    pub(crate) pid: i32,
    pub(crate) ended: Ended,
    pub(crate) said: String,
    pub(crate) usage: Usage,
}

/// Starts a process in new namespaces; it exits with 0 at the end of `act`, with 101 after a panic.
pub(crate) fn start(flags: u64, act: impl FnOnce()) -> Running {
    let (said, ours) = std::io::pipe().unwrap();
    match process::clone3(flags, None).unwrap() {
        Cloned::Parent { pid, pidfd } => Running { pid, pidfd, said },
        Cloned::Child => {
            drop(said);
            fd::dup_to(&ours, 2).unwrap();
            drop(ours);
            let code = if catch_unwind(AssertUnwindSafe(act)).is_ok() { 0 } else { PANICKED };
            process::exit_now(code)
        }
    }
}

/// Runs a process in new namespaces to its end.
pub(crate) fn run(flags: u64, act: impl FnOnce()) -> Outcome {
    start(flags, act).end(PATIENCE)
}

/// Runs a process that must not panic or end otherwise; gives what it said.
pub(crate) fn good(flags: u64, act: impl FnOnce()) -> String {
    let out = run(flags, act);
    assert_eq!(out.ended, Ended::Exited(0), "a process of the case said:\n{}", out.said);
    out.said
}

/// Runs a process as a user without rights.
pub(crate) fn good_as_nobody(act: impl FnOnce()) -> String {
    good(0, || {
        become_nobody();
        act();
    })
}

pub(crate) fn become_nobody() {
    ids::set_groups(&[]).unwrap();
    ids::set_resgid(NOBODY).unwrap();
    ids::set_resuid(NOBODY).unwrap();
}

impl Running {
    /// Says whether it ends within this time.
    pub(crate) fn ends_within(&self, time: Duration) -> bool {
        event::poll(&mut [PollItem::read(self.pidfd.as_fd())], Some(time)).unwrap() == 1
    }

    /// Waits until it has said something, and gives it.
    pub(crate) fn hear(&mut self) -> String {
        let found = event::poll(&mut [PollItem::read(self.said.as_fd())], Some(PATIENCE)).unwrap();
        assert_eq!(found, 1, "a process of the case keeps silent");
        let mut bytes = [0; 4096];
        let n = self.said.read(&mut bytes).unwrap();
        String::from_utf8_lossy(&bytes[..n]).into_owned()
    }

    /// Waits for its end, kills it with its group when the time is over, and reaps it.
    pub(crate) fn end(mut self, patience: Duration) -> Outcome {
        let deadline = Instant::now() + patience;
        let mut said = Vec::new();
        let mut chunk = [0; 4096];
        loop {
            let left = deadline.saturating_duration_since(Instant::now());
            let mut items = [PollItem::read(self.said.as_fd()), PollItem::read(self.pidfd.as_fd())];
            event::poll(&mut items, Some(left)).unwrap();
            let [mut text, end] = items.map(|item| item.is_ready());
            if end && !text {
                // The pipe was looked at first, and it may have spoken and ended in between.
                text = event::poll(&mut [PollItem::read(self.said.as_fd())], Some(Duration::ZERO)).unwrap() == 1;
            }
            // Its descendants may hold the pipe open, so its own end is what counts; the text comes first.
            let n = if text { self.said.read(&mut chunk).unwrap() } else { 0 };
            said.extend_from_slice(&chunk[..n]);
            if n == 0 && end {
                break;
            }
            if left.is_zero() {
                said.extend_from_slice(b"it took too long and was killed\n");
                drop(process::kill(-self.pid, libc::SIGKILL));
                process::pidfd_send_signal(&self.pidfd, libc::SIGKILL).unwrap();
                break;
            }
        }
        let status = process::waitid(Target::PidFd(self.pidfd.as_fd()), false).unwrap().unwrap();
        let said = String::from_utf8_lossy(&said).into_owned();
        Outcome { pid: self.pid, ended: status.ended, said, usage: status.usage }
    }

    /// Ends it with a signal.
    pub(crate) fn kill(self, signal: i32) -> Outcome {
        process::pidfd_send_signal(&self.pidfd, signal).unwrap();
        self.end(PATIENCE)
    }
}

/// Becomes a shell that runs this text; what it prints is heard.
pub(crate) fn become_shell(script: &str) -> ! {
    let script = format!("exec >&2; {script}");
    let argv = [c"sh".to_owned(), c"-c".to_owned(), CString::new(script).unwrap()];
    panic!("{}", process::exec(Program::Path(c"/bin/sh"), &argv, &[c"PATH=/usr/bin:/bin".to_owned()]));
}

/// Waits to be killed.
pub(crate) fn forever() -> ! {
    loop {
        std::thread::park();
    }
}

/// Waits until something holds, at most as long as a case may wait.
pub(crate) fn eventually(what: &str, holds: impl Fn() -> bool) {
    let deadline = Instant::now() + PATIENCE;
    while !holds() {
        assert!(Instant::now() < deadline, "it never came: {what}");
        std::thread::sleep(Duration::from_millis(2));
    }
}

/// Asserts that a call failed with this errno; gives the error.
#[track_caller]
pub(crate) fn refused<T>(result: palisade_sys::Result<T>, errno: Errno) -> palisade_sys::Error {
    match result {
        Ok(_) => panic!("it was allowed, and {errno:?} was to come"),
        Err(error) => {
            assert_eq!(error.kind(), errno, "{error}");
            error
        }
    }
}

/// A directory that goes with its owner, in the process that made it.
pub(crate) struct TempDir {
    path: PathBuf,
    owner: i32,
}

fn prefix(pid: i32) -> String {
    format!("palisade-sys-{pid}-")
}

/// What a process left in the directory for temporary files.
pub(crate) fn remains(pid: i32) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(std::env::temp_dir()).unwrap();
    let of_it = |name: &std::ffi::OsStr| name.to_string_lossy().starts_with(&prefix(pid));
    entries.map(|entry| entry.unwrap()).filter(|entry| of_it(&entry.file_name())).map(|e| e.path()).collect()
}

impl TempDir {
    pub(crate) fn new(name: &str) -> Self {
        let owner = process::getpid();
        let path = std::env::temp_dir().join(prefix(owner) + name);
        std::fs::create_dir(&path).unwrap();
        Self { path: path.canonicalize().unwrap(), owner }
    }

    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    pub(crate) fn join(&self, name: &str) -> PathBuf {
        self.path.join(name)
    }

    /// Writes a file and gives its path.
    pub(crate) fn file(&self, name: &str, text: &str) -> PathBuf {
        let path = self.join(name);
        std::fs::write(&path, text).unwrap();
        path
    }

    pub(crate) fn open(&self) -> OwnedFd {
        fd::open_path(&self.path, fd::O_PATH | fd::O_DIRECTORY).unwrap()
    }
}

impl Drop for TempDir {
    fn drop(&mut self) {
        // A child that panics drops its copy of the owner, not the directory.
        if process::getpid() == self.owner && std::fs::remove_dir_all(&self.path).is_err() {
            eprintln!("{} could not be removed", self.path.display());
        }
    }
}

pub(crate) fn chmod(path: &Path, mode: u32) {
    use std::os::unix::fs::PermissionsExt as _;
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode)).unwrap();
}

pub(crate) fn chown(path: &Path, uid: u32) {
    std::os::unix::fs::lchown(path, Some(uid), None).unwrap();
}

/// Runs a process in a mount namespace of its own, from which nothing reaches the host.
pub(crate) fn in_private_mounts(act: impl FnOnce()) -> String {
    good(CLONE_NEWNS, || {
        mount::make_private_recursive().unwrap();
        act();
    })
}

/// Makes a tmpfs and attaches it at a path.
pub(crate) fn tmpfs_at(path: &Path, flags: mount::MountFlags) -> OwnedFd {
    let made = mount::Fs::new("tmpfs").unwrap().set("size", "16m").unwrap().set("mode", "0755").unwrap();
    let tree = made.create(flags).unwrap();
    mount::move_mount_onto(&tree, fd::open_path(path, fd::O_PATH).unwrap()).unwrap();
    tree
}

/// Reads a file of this process.
pub(crate) fn own(name: &str) -> String {
    Proc::host().unwrap().own().unwrap().read(name).unwrap()
}

/// Gives the value of a line `Name: value` of a file of procfs.
pub(crate) fn line(text: &str, name: &str) -> String {
    let found = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'));
    found.unwrap_or_else(|| panic!("no line {name} in:\n{text}")).trim().to_owned()
}

/// Plays the programs that a case needs of this very file.
pub(crate) fn as_program() -> Option<ExitCode> {
    let args: Vec<String> = std::env::args().skip(1).collect();
    match args.first().map(String::as_str) {
        Some("--print-build-id") => {
            println!("{}", palisade_sys::host::build_id_of_self().unwrap());
            Some(ExitCode::SUCCESS)
        }
        Some("--print-gained") => {
            println!("{}", palisade_sys::host::gained_privileges());
            Some(ExitCode::SUCCESS)
        }
        _ => None,
    }
}

/// Reads a setting of the kernel.
pub(crate) fn own_host(name: &str) -> String {
    palisade_sys::host::sysctl(name).unwrap()
}

/// Makes a directory and gives its path.
pub(crate) fn mkdir(path: &Path) -> PathBuf {
    std::fs::create_dir(path).unwrap();
    path.to_owned()
}
