//! The examples of plugins, as a third party has them: each a crate of its own outside the workspace. Each is built
//! alone and passes its own tests with a real palisade; then an ordinary user uses it by the policy beside it.

use palisade_tests::{Run, Scratch, Who, is_root, program, skip, tree};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::{Mutex, MutexGuard};

/// They share a directory of what was built, and each is built once.
fn alone() -> MutexGuard<'static, ()> {
    static ONE: Mutex<()> = Mutex::new(());
    ONE.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
}

fn copy(from: &Path, to: &Path) {
    std::fs::create_dir_all(to).unwrap();
    for entry in std::fs::read_dir(from).unwrap() {
        let path = entry.unwrap().path();
        let into = to.join(path.file_name().unwrap());
        match path.file_name().unwrap().to_str().unwrap() {
            "target" | "Cargo.lock" => {}
            _ if path.is_dir() => copy(&path, &into),
            _ => drop(std::fs::copy(&path, &into).unwrap()),
        }
    }
}

/// Builds an example elsewhere, runs its own tests, and gives its library.
fn tried(name: &str) -> PathBuf {
    let top = Path::new(env!("CARGO_TARGET_TMPDIR")).join("examples").join(name);
    drop(std::fs::remove_dir_all(&top));
    copy(&tree().join("plugins/examples").join(name), &top);
    let cargo = std::fs::read_to_string(top.join("Cargo.toml")).unwrap();
    assert!(cargo.contains("\"../../../core/abi\""), "{cargo}");
    let core = format!("\"{}/core/", tree().display());
    std::fs::write(top.join("Cargo.toml"), cargo.replace("\"../../../core/", &core)).unwrap();
    std::fs::copy(tree().join("Cargo.lock"), top.join("Cargo.lock")).unwrap();
    let target = Path::new(env!("CARGO_TARGET_TMPDIR")).join("alone");
    let cargo = |words: &[&str]| {
        let mut cargo = Command::new(env!("CARGO"));
        cargo.args(words).current_dir(&top).env("CARGO_NET_OFFLINE", "true").env("CARGO_TARGET_DIR", &target);
        let done = cargo.env("PALISADE", program()).output().unwrap();
        let said = String::from_utf8_lossy(&done.stdout).into_owned() + &String::from_utf8_lossy(&done.stderr);
        assert!(done.status.success(), "{name}: {said}");
        said
    };
    let said = cargo(&["test"]);
    assert!(said.contains("tests/runs.rs") && said.matches("test result: ok.").count() >= 2, "{name}: {said}");
    cargo(&["clippy", "--all-targets", "--quiet", "--", "-D", "warnings"]);
    let library = target.join(format!("debug/libpalisade_{}.so", name.replace('-', "_")));
    if is_root() {
        let checked = Run::palisade(["plugin", "check", library.to_str().unwrap()]).who(Who::Root).ran().code(0);
        checked.prints(&format!("{name}: 13 passed, 0 failed"));
    }
    library
}

/// An example in a directory that is root's, for an ordinary user.
struct Shared {
    dir: String,
    home: Scratch,
    policy: PathBuf,
    name: &'static str,
}

impl Shared {
    fn new(name: &'static str, stage: &str) -> Option<Self> {
        let _alone = alone();
        let plugin = tried(name);
        if !is_root() {
            skip("examples:root", "the plugin must be root's, for another user");
            return None;
        }
        let dir = format!("/opt/palisade-test-{}-{name}", std::process::id());
        std::fs::create_dir(&dir).unwrap();
        let file = plugin.file_name().unwrap().to_str().unwrap().to_owned();
        std::fs::copy(&plugin, format!("{dir}/{file}")).unwrap();
        let home = Scratch::new();
        let policy = std::fs::read(tree().join("plugins/examples").join(name).join("policy.ron")).unwrap();
        let policy = home.file("policy.ron", policy);
        let shared = Self { dir, home, policy, name };
        shared.palisade(&["run"], &["true"]).code(119).says(&format!("plugin verify {name} --grant {stage}"));
        let grant = ["plugin", "verify", name, "--grant", stage, "--plugin-dir", &shared.dir];
        shared.run(&grant).code(0);
        Some(shared)
    }

    fn run(&self, words: &[&str]) -> palisade_tests::Ran {
        let state = self.home.path().join("state");
        Run::palisade(words.iter().copied()).who(Who::User).env("XDG_STATE_HOME", state.to_str().unwrap()).ran()
    }

    fn palisade(&self, words: &[&str], command: &[&str]) -> palisade_tests::Ran {
        let policy = self.policy.to_str().unwrap();
        let mut all = words.to_vec();
        all.extend(["--plugin-dir", &self.dir, "--policy", policy, "--"]);
        all.extend(command);
        self.run(&all)
    }

    /// What it says of itself is what its manifest says, and its policy can be planned.
    fn is_told(&self, part: &str) {
        self.run(&["plugin", "info", self.name, "--plugin-dir", &self.dir]).code(0).prints("what it cannot stop");
        self.palisade(&["plan"], &["true"]).code(0).prints(part);
    }
}

impl Drop for Shared {
    fn drop(&mut self) {
        std::fs::remove_dir_all(&self.dir).unwrap();
    }
}

#[test]
fn custom_sysctls_are_set_by_data_alone() {
    let Some(shared) = Shared::new("custom-sysctls", "build") else { return };
    shared.is_told("sets net.ipv4.ip_unprivileged_port_start to `80`");
    // A server without privileges, on port 80: refused outside, and inside without the setting.
    let listen = "import socket; s = socket.socket(); s.bind(('127.0.0.1', 80)); print('listens')";
    let python = ["/usr/bin/python3", "-c", listen];
    let bare = Run::bare(python).who(Who::User).ran();
    assert!(bare.code != Some(0) && bare.stderr.contains("Permission denied"), "{}", bare.stderr);
    let unset = ["run", "--set", "custom-sysctls.set={\"net.ipv4.ip_unprivileged_port_start\": \"1024\"}"];
    shared.palisade(&unset, &python).code(1).says("Permission denied");
    assert_eq!(shared.palisade(&["run"], &python).code(0).stdout, "listens\n");
}

#[test]
fn frugal_is_proven_from_outside_and_inside() {
    let Some(shared) = Shared::new("frugal", "drop") else { return };
    shared.is_told("lets the workload's timers be late by 1ms");
    let ask = "import ctypes; print(ctypes.CDLL(None).prctl(42, 0, 0, 0, 0), open('/proc/self/timerslack_ns').read())";
    let python = ["/usr/bin/python3", "-c", ask];
    let bare = Run::bare(python).who(Who::User).ran().code(0).stdout;
    assert!(bare.starts_with("0 ") && !bare.contains(" 1000000\n"), "{bare}");
    assert_eq!(shared.palisade(&["run"], &python).code(0).stdout, "1 1000000\n\n");
}

#[test]
fn call_budget_counts_for_all_processes() {
    let Some(shared) = Shared::new("call-budget", "seal") else { return };
    shared.is_told("counts system calls: io_uring_setup 0 times, socket 3 times");
    let open = "import socket
kept = []
for _ in range(5):
    try:
        kept.append(socket.socket())
    except PermissionError:
        print('no more after', len(kept))
        break
else:
    print('all')";
    let python = ["/usr/bin/python3", "-IS", "-c", open];
    assert_eq!(Run::bare(python).who(Who::User).ran().code(0).stdout, "all\n");
    assert_eq!(shared.palisade(&["run"], &python).code(0).stdout, "no more after 3\n");
}
