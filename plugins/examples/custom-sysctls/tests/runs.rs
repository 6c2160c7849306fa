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
        let dir = std::env::temp_dir().join(format!("custom-sysctls-{}-{number}", std::process::id()));
        let made = Command::new("mkdir").args(["-m", "700"]).arg(&dir).status().unwrap();
        assert!(made.success());
        let plugin = dir.join("libpalisade_custom_sysctls.so");
        std::fs::copy(target.join("debug/libpalisade_custom_sysctls.so"), &plugin).unwrap();
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
        let granted = self.palisade(&["plugin", "verify", "custom-sysctls", "--grant", "build"], &[]);
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
        self.palisade(&["plugin", "verify", "custom-sysctls", "--revoke"], &[]);
        std::fs::remove_dir_all(&self.0).unwrap();
    }
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

const READ: [&str; 3] = ["cat", "/proc/sys/net/ipv4/ip_unprivileged_port_start", "/proc/sys/net/ipv4/ip_default_ttl"];

/// The twin comes first: what is to be seen is not so already.
#[test]
fn the_workload_has_the_settings_and_the_host_keeps_its_own() {
    let host = || text(&Command::new(READ[0]).args(&READ[1..]).output().unwrap().stdout);
    let before = host();
    assert_ne!(before, "80\n32\n");
    let ran = Installed::new().granted().run(&[], &READ);
    assert_eq!((text(&ran.stdout).as_str(), text(&ran.stderr).as_str()), ("80\n32\n", ""));
    assert_eq!(host(), before);
}

#[test]
fn what_is_not_in_the_list_is_refused_at_its_line() {
    let policy = Installed::new();
    let bad = policy.0.join("bad.ron");
    let text_of = "Policy(version: 1, plugins: { \"namespaces\": (user: New, net: New),\n    \"custom-sysctls\": (set: { \"vm.drop_caches\": \"3\" }) })";
    std::fs::write(&bad, text_of).unwrap();
    let ran = policy.palisade(&["plan", "--policy", bad.to_str().unwrap()], &["--", "true"]);
    assert_eq!(ran.status.code(), Some(118), "{}", text(&ran.stderr));
    for part in ["`vm.drop_caches` may not be set", "bad.ron:2:", "net.ipv4.ip_default_ttl"] {
        assert!(text(&ran.stderr).contains(part), "no {part:?} in {}", text(&ran.stderr));
    }
}

/// Without a network of its own the setting would be the host's: palisade compares, and refuses.
#[test]
fn in_the_hosts_own_network_nothing_is_set() {
    let installed = Installed::new().granted();
    let policy = installed.0.join("host.ron");
    let text_of = "Policy(version: 1, plugins: { \"namespaces\": (user: New, uts: New), \"custom-sysctls\": (set: { \"net.ipv4.ip_default_ttl\": \"32\" }) })";
    std::fs::write(&policy, text_of).unwrap();
    let before = std::fs::read_to_string(READ[2]).unwrap();
    let ran = installed.palisade(&["run", "--policy", policy.to_str().unwrap()], &["--", "true"]);
    assert!(
        !ran.status.success() && text(&ran.stderr).contains("sets net.ipv4.ip_default_ttl"),
        "{}",
        text(&ran.stderr)
    );
    assert_eq!(std::fs::read_to_string(READ[2]).unwrap(), before);
}
