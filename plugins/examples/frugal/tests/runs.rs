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
        let dir = std::env::temp_dir().join(format!("frugal-{}-{number}", std::process::id()));
        let made = Command::new("mkdir").args(["-m", "700"]).arg(&dir).status().unwrap();
        assert!(made.success());
        let plugin = dir.join("libpalisade_frugal.so");
        std::fs::copy(target.join("debug/libpalisade_frugal.so"), &plugin).unwrap();
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
        let granted = self.palisade(&["plugin", "verify", "frugal", "--grant", "drop"], &[]);
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
        self.palisade(&["plugin", "verify", "frugal", "--revoke"], &[]);
        std::fs::remove_dir_all(&self.0).unwrap();
    }
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

/// Asks the kernel from inside: PR_GET_THP_DISABLE is 42.
const ASK: [&str; 3] = [
    "/usr/bin/python3",
    "-c",
    "import ctypes; print(ctypes.CDLL(None).prctl(42, 0, 0, 0, 0), open('/proc/self/timerslack_ns').read().strip())",
];

/// The twin comes first: what is to be seen is not so already.
#[test]
fn the_workload_has_no_huge_pages_and_late_timers() {
    let bare = text(&Command::new(ASK[0]).args(&ASK[1..]).output().unwrap().stdout);
    assert!(bare.starts_with("0 ") && bare.trim_end() != "0 1000000", "{bare}");
    let ran = Installed::new().granted().run(&[], &ASK);
    assert_eq!((text(&ran.stdout).as_str(), text(&ran.stderr).as_str()), ("1 1000000\n", ""));
}

#[test]
fn what_is_inherited_is_left_alone() {
    let ran = Installed::new().granted().run(&["--set", "frugal.huge_pages=Inherit"], &ASK);
    assert_eq!(text(&ran.stdout), "0 1000000\n", "{}", text(&ran.stderr));
}

/// What was read back stands in the report: by the host for the one, from inside for the other.
#[test]
fn the_report_has_the_proof() {
    let installed = Installed::new().granted();
    let report = installed.0.join("report");
    let ran = installed.run(&["--report", report.to_str().unwrap()], &["true"]);
    assert!(ran.status.success(), "{}", text(&ran.stderr));
    let report = std::fs::read_to_string(report).unwrap();
    for proof in ["THP_enabled: 0", "reads back as 1000000 ns"] {
        assert!(report.contains(proof), "no {proof:?} in {report}");
    }
}

#[test]
fn a_slack_that_is_none_is_an_error_of_the_policy() {
    let ran = Installed::new().granted().run(&["--set", "frugal.timer_slack=0s"], &["true"]);
    assert_eq!(ran.status.code(), Some(118), "{}", text(&ran.stderr));
    assert!(text(&ran.stderr).contains("1ns to 1s"), "{}", text(&ran.stderr));
}
