//! The plugin at work: built, put into a directory, granted its stage, and used by a real palisade. Nothing is mocked.
//! The program is the one that PALISADE names, else the first `palisade` in PATH.

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::sync::atomic::{AtomicU32, Ordering};

fn palisade() -> OsString {
    if let Some(named) = std::env::var_os("PALISADE") {
        assert!(Path::new(&named).exists(), "PALISADE names {}, which is not there", Path::new(&named).display());
        return named;
    }
    let path = std::env::var_os("PATH").unwrap_or_default();
    let found = std::env::split_paths(&path).map(|dir| dir.join("palisade")).find(|program| program.exists());
    let help = "palisade is not in PATH: install it, or name the program with PALISADE=/where/it/is/palisade";
    found.expect(help).into_os_string()
}

/// The plugin in a directory that nobody else can write, as palisade wants it, and what palisade remembers of it.
struct Installed(PathBuf);

impl Installed {
    fn new() -> Self {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        // Before anything is made: without it nothing can be tried.
        palisade();
        // target/debug/deps/runs-HASH: where cargo puts the library, too.
        let program = std::env::current_exe().unwrap();
        let target = program.ancestors().nth(3).unwrap();
        let built = Command::new(env!("CARGO"))
            .args(["build", "--quiet", "--target-dir"])
            .arg(target)
            .current_dir(env!("CARGO_MANIFEST_DIR"))
            .output()
            .unwrap();
        assert!(built.status.success(), "{}", String::from_utf8_lossy(&built.stderr));
        let number = COUNT.fetch_add(1, Ordering::Relaxed);
        let dir = std::env::temp_dir().join(format!("call-budget-{}-{number}", std::process::id()));
        let made = Command::new("mkdir").args(["-m", "700"]).arg(&dir).status().unwrap();
        assert!(made.success());
        let plugin = dir.join("libpalisade_call_budget.so");
        std::fs::copy(target.join("debug/libpalisade_call_budget.so"), &plugin).unwrap();
        let closed = Command::new("chmod").arg("644").arg(&plugin).status().unwrap();
        assert!(closed.success());
        Self(dir)
    }

    fn palisade(&self, words: &[&str], more: &[&str]) -> Output {
        let mut command = Command::new(palisade());
        command.args(words).arg("--plugin-dir").arg(&self.0).args(more);
        command.env("XDG_STATE_HOME", self.0.join("state")).current_dir(env!("CARGO_MANIFEST_DIR"));
        command.output().unwrap()
    }

    fn granted(self) -> Self {
        let granted = self.palisade(&["plugin", "verify", "call-budget", "--grant", "seal"], &[]);
        assert!(granted.status.success(), "{}", String::from_utf8_lossy(&granted.stderr));
        self
    }

    /// A command under `policy.ron`, with more on the command line.
    fn run(&self, more: &[&str], command: &[&str]) -> Output {
        let words: Vec<&str> = more.iter().chain(&["--"]).chain(command).copied().collect();
        self.palisade(&["run", "--policy", "./policy.ron"], &words)
    }
}

impl Drop for Installed {
    fn drop(&mut self) {
        // Root's memory of plugins lies elsewhere.
        self.palisade(&["plugin", "verify", "call-budget", "--revoke"], &[]);
        std::fs::remove_dir_all(&self.0).unwrap();
    }
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

/// Opens sockets, in a child of its own each, and says how many it got. `-IS`: else it looks for its user's home, and
/// the C library opens sockets for that.
const FIVE: [&str; 4] = [
    "/usr/bin/python3",
    "-IS",
    "-c",
    "import os, socket
got = 0
for _ in range(5):
    if os.fork() == 0:
        try:
            socket.socket()
        except PermissionError:
            os._exit(1)
        os._exit(0)
    got += os.wait()[1] == 0
print(got)",
];

/// The twin comes first: what is to be seen is not so already.
#[test]
fn three_sockets_are_three_for_all_processes_together() {
    let bare = Command::new(FIVE[0]).args(&FIVE[1..]).output().unwrap();
    assert_eq!(text(&bare.stdout), "5\n");
    let installed = Installed::new().granted();
    let report = installed.0.join("report");
    let ran = installed.run(&["--report", report.to_str().unwrap()], &FIVE);
    assert_eq!((text(&ran.stdout).as_str(), text(&ran.stderr).as_str()), ("3\n", ""));
    let report = std::fs::read_to_string(report).unwrap();
    for told in ["\"call_budget_socket_count\": 5", "socket was asked for 5 times, and 3 are allowed", "Seccomp: 2"] {
        assert!(report.contains(told), "no {told:?} in {report}");
    }
}

#[test]
fn with_a_budget_that_is_enough_all_goes_on() {
    let policy = Installed::new().granted();
    let enough = policy.0.join("enough.ron");
    let text_of = std::fs::read_to_string("policy.ron").unwrap().replace("\"socket\": 3", "\"socket\": 5");
    std::fs::write(&enough, text_of).unwrap();
    let words: Vec<&str> = ["--"].iter().chain(&FIVE).copied().collect();
    let ran = policy.palisade(&["run", "--policy", enough.to_str().unwrap()], &words);
    assert_eq!(text(&ran.stdout), "5\n", "{}", text(&ran.stderr));
}

/// Nobody gets in front of the count: a process has one listener.
#[test]
fn a_second_listener_is_refused() {
    // seccomp(SECCOMP_SET_MODE_FILTER, SECCOMP_FILTER_FLAG_NEW_LISTENER, a program that allows all): EBUSY.
    let script = "import ctypes, platform, struct
libc = ctypes.CDLL(None, use_errno=True)
libc.prctl(38, 1, 0, 0, 0)
code = ctypes.create_string_buffer(struct.pack('HBBI', 6, 0, 0, 0x7fff0000))
program = struct.pack('HxxxxxxQ', 1, ctypes.addressof(code))
number = 317 if platform.machine() == 'x86_64' else 277
print(libc.syscall(number, 1, 8, program) >= 0, ctypes.get_errno())";
    let bare = Command::new("/usr/bin/python3").args(["-c", script]).output().unwrap();
    assert_eq!(text(&bare.stdout), "True 0\n");
    let ran = Installed::new().granted().run(&[], &["/usr/bin/python3", "-c", script]);
    assert_eq!(text(&ran.stdout), "False 16\n", "{}", text(&ran.stderr));
}

/// Who cannot have the filter gets no workload.
#[test]
fn a_call_that_cannot_be_counted_is_an_error_of_the_policy() {
    let policy = Installed::new();
    let bad = policy.0.join("bad.ron");
    std::fs::write(&bad, "Policy(version: 1, plugins: {\n    \"call-budget\": (calls: { \"execve\": 1 }) })").unwrap();
    let ran = policy.palisade(&["plan", "--policy", bad.to_str().unwrap()], &["--", "true"]);
    assert_eq!(ran.status.code(), Some(118), "{}", text(&ran.stderr));
    for part in ["`execve` cannot be counted", "bad.ron:2:", "io_uring_setup"] {
        assert!(text(&ran.stderr).contains(part), "no {part:?} in {}", text(&ran.stderr));
    }
}
