//! The policies that ship, each with the work it is for, and with what it must not allow.

use palisade_tests::{Leftovers, Run, Scratch, Who, everybody, is_root};
use std::os::unix::fs::PermissionsExt as _;
use std::sync::{Mutex, MutexGuard};

fn alone() -> MutexGuard<'static, ()> {
    static ONE: Mutex<()> = Mutex::new(());
    ONE.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
}

/// A project that belongs to whoever runs the test.
fn project(who: Who) -> Scratch {
    let project = Scratch::new();
    if who == Who::Root && is_root() {
        std::os::unix::fs::chown(project.path(), Some(0), Some(0)).unwrap();
    }
    project
}

fn script(policy: &str, who: Who, project: &Scratch, script: &str) -> palisade_tests::Ran {
    Run::under(policy, ["sh", "-c", script]).who(who).cwd(project.path()).ran()
}

/// What no shipped policy but `observe` allows: the network, and the host's root.
fn closed(policy: &str, who: Who, project: &Scratch) {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    let connect = format!("import socket; socket.create_connection(('127.0.0.1', {port}), 2)");
    Run::bare(["python3", "-c", &connect]).who(who).ran().code(0);
    let ran = Run::under(policy, ["python3", "-c", &connect]).who(who).cwd(project.path()).ran();
    assert!(ran.code != Some(0) && ran.stderr.contains("refused"), "{policy}: {}", ran.stderr);
    let ran = script(policy, who, project, "cat /etc/shadow || cat /root/.bashrc");
    assert_ne!(ran.code, Some(0), "{policy}: {}", ran.stdout);
    let ran =
        script(policy, who, project, "grep -E '^(CapEff|CapBnd|NoNewPrivs|Seccomp):' /proc/self/status | tr -d '\\t'");
    assert_eq!(
        ran.stdout, "CapEff:0000000000000000\nCapBnd:0000000000000000\nNoNewPrivs:1\nSeccomp:2\n",
        "{policy}: {}",
        ran.stderr
    );
}

#[test]
fn build_compiles_c_and_writes_only_the_project() {
    let _alone = alone();
    for who in everybody("build") {
        let project = project(who);
        project.file("main.c", "#include <stdio.h>\nint main(void) { puts(\"built\"); return 0; }\n");
        project.file("Makefile", "main: main.c\n\tcc -O1 -o main main.c\n");
        let make = "cc -c -o main.o main.c && cc -o main main.o && ./main && id -u";
        let ran = script("build", who, &project, make).code(0);
        // It keeps the caller's id, so what it writes is the caller's.
        let uid = if who == Who::Root && is_root() { 0 } else { palisade_tests::USER };
        assert_eq!(ran.stdout, format!("built\n{uid}\n"));
        assert!(project.path().join("main").exists());
        let outside = Scratch::new();
        std::fs::set_permissions(outside.path(), std::fs::Permissions::from_mode(0o777)).unwrap();
        let ran = script("build", who, &project, &format!("touch {}/x", outside.text()));
        assert!(ran.code != Some(0) && !outside.path().join("x").exists());
        Run::bare(["touch", &format!("{}/x", outside.text())]).who(who).ran().code(0);
        closed("build", who, &project);
    }
}

#[test]
fn build_runs_cargo_offline() {
    let _alone = alone();
    let before = Leftovers::now();
    // Where the tool chain is, the test's own cargo says; it may lie in the home of whoever runs the tests.
    let home = std::env::var("HOME").unwrap();
    let project = project(Who::Root);
    project.file("Cargo.toml", "[package]\nname = \"small\"\nversion = \"0.1.0\"\nedition = \"2021\"\n[workspace]\n");
    project.file(
        "src/main.rs",
        "fn main() { println!(\"built by cargo\"); }\n#[test]\nfn two() { assert_eq!(1 + 1, 2); }\n",
    );
    let who = if is_root() { Who::Root } else { Who::User };
    let cargo = std::path::Path::new(env!("CARGO")).parent().unwrap().display().to_string();
    let path = format!("{cargo}:{home}/.cargo/bin:/usr/local/bin:/usr/bin:/bin");
    let run = Run::under("build", ["cargo", "run", "--quiet", "--offline"]).who(who).cwd(project.path());
    let ran = run.env("PATH", &path).env("HOME", &home).ran().code(0);
    assert_eq!(ran.stdout, "built by cargo\n");
    before.same();
}

#[test]
fn default_reads_the_project_and_writes_nothing_of_it() {
    let _alone = alone();
    for who in everybody("default") {
        let project = project(who);
        let git = "git init -q . && git -c user.name=a -c user.email=a@b commit -q --allow-empty -m first";
        Run::bare(["sh", "-c", git]).who(who).cwd(project.path()).env("HOME", "/tmp").ran().code(0);
        project.file("data.txt", "one\ntwo\n");
        script("default", who, &project, "git log --oneline").code(0).prints("first");
        script("default", who, &project, "python3 -c 'print(sum(1 for _ in open(\"data.txt\")))'").code(0).prints("2");
        script("default", who, &project, "tar cf - . | tar tf - | grep data.txt").code(0).prints("data.txt");
        let ran = script("default", who, &project, "touch new");
        assert!(ran.code != Some(0) && !project.path().join("new").exists());
        Run::bare(["touch", "new"]).who(who).cwd(project.path()).ran().code(0);
        closed("default", who, &project);
    }
}

#[test]
fn offline_reads_files_and_writes_the_project() {
    let _alone = alone();
    for who in everybody("offline") {
        let project = project(who);
        std::fs::set_permissions(project.path(), std::fs::Permissions::from_mode(0o777)).unwrap();
        script("offline", who, &project, "echo made > made; python3 -c 'print(open(\"made\").read())'")
            .code(0)
            .prints("made");
        assert_eq!(std::fs::read_to_string(project.path().join("made")).unwrap(), "made\n");
        closed("offline", who, &project);
    }
}

#[test]
fn untrusted_works_on_what_it_is_given() {
    let _alone = alone();
    for who in everybody("untrusted") {
        let project = project(who);
        project.file("here", "x");
        // Nothing of the caller's is there; standard input and output are.
        let ran = script("untrusted", who, &project, &format!("ls {} 2>&1; pwd; ls -A ~ | wc -l", project.text()));
        assert!(ran.stdout.contains("No such file") && ran.stdout.ends_with("/home/user\n0\n"), "{}", ran.stdout);
        let python = "import sys; print(sys.stdin.read().upper())";
        Run::under("untrusted", ["python3", "-c", python]).who(who).stdin("text").ran().code(0).prints("TEXT");
        closed("untrusted", who, &project);
    }
}

#[test]
fn untrusted_converts_a_picture() {
    let _alone = alone();
    let converter =
        ["/usr/bin/convert", "/usr/bin/magick"].into_iter().find(|path| std::path::Path::new(path).exists());
    let Some(converter) = converter else {
        return palisade_tests::skip("imagemagick", "ImageMagick is not installed");
    };
    for who in everybody("convert") {
        // A picture of two pixels in the simplest format there is.
        let picture = "P3\n2 1\n255\n255 0 0 0 0 255\n";
        let ran = Run::under("untrusted", [converter, "ppm:-", "-resize", "4x2", "ppm:-"])
            .who(who)
            .stdin(picture)
            .ran()
            .code(0);
        assert!(ran.stdout.starts_with("P6\n4 2\n"), "{:?}", ran.stdout);
    }
}

#[test]
fn judge_ends_what_goes_too_far_and_says_by_which_limit() {
    let _alone = alone();
    if !is_root() {
        return palisade_tests::skip(
            "judge:root",
            "the judge's limits need cgroups, which an ordinary user may not have",
        );
    }
    let before = Leftovers::now();
    let project = project(Who::Root);
    project.file("fine.py", "n = int(input())\nprint(n * n)\n");
    let judge = |script: &str, input: &str, set: &[&str]| {
        let mut words = vec!["run", "--policy", "judge"];
        words.extend(set);
        words.extend(["--", "python3", "-c", script]);
        Run::palisade(words).cwd(project.path()).stdin(input).ran()
    };
    Run::under("judge", ["python3", "fine.py"]).cwd(project.path()).stdin("7\n").ran().code(0).prints("49");
    judge("x = bytearray(400 << 20); print(sum(x[::4096]))", "", &[]).code(122).says("memory");
    let ran = judge("while True: pass", "", &["--set", "process.cpu_time=1s"]).code(124);
    ran.says("1s");
    judge("import time; time.sleep(100)", "", &["--set", "process.timeout=1s"]).code(124).says("1s");
    let ran = judge("while True: print('y' * 1000)", "", &["--set", "process.output_limit=1MiB"]).code(122);
    assert_eq!(ran.stdout.len(), 1 << 20);
    let fork = "import os, time\nn = 0\ntry:\n  while n < 200:\n    n += 1\n    if os.fork() == 0: time.sleep(20); os._exit(0)\nexcept BlockingIOError: print('stopped at', n)";
    let ran = judge(fork, "", &[]).code(0).prints("stopped at");
    let reached: u32 = ran.stdout.trim().rsplit(' ').next().unwrap().parse().unwrap();
    assert!(reached <= 32, "{reached}");
    closed("judge", Who::Root, &project);
    before.same();
}

#[test]
fn judge_is_refused_where_its_limits_cannot_be_had() {
    let _alone = alone();
    let project = project(Who::User);
    let ran = Run::under("judge", ["true"]).who(Who::User).cwd(project.path()).ran();
    // On a host that delegates cgroups it runs; anywhere else it must not run without them.
    if ran.code != Some(0) {
        ran.code(120).says("cgroup");
    }
}

#[test]
fn observe_restricts_nothing() {
    let _alone = alone();
    for who in everybody("observe") {
        let project = project(who);
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let connect = format!(
            "import socket; socket.create_connection(('127.0.0.1', {}), 2)",
            listener.local_addr().unwrap().port()
        );
        Run::under("observe", ["python3", "-c", &connect]).who(who).cwd(project.path()).ran().code(0);
        script("observe", who, &project, "touch made; readlink /proc/self/ns/mnt").code(0);
        assert!(project.path().join("made").exists());
    }
}

#[test]
fn every_policy_that_ships_can_be_checked_shown_and_planned() {
    let _alone = alone();
    let names = Run::palisade(["policy", "list", "--json"]).ran().code(0).stdout;
    let names: serde_json::Value = serde_json::from_str(&names).unwrap();
    let text = names.to_string();
    let project = project(Who::Root);
    for name in ["base", "build", "default", "judge", "observe", "offline", "untrusted"] {
        assert!(text.contains(&format!("\"{name}\"")), "{text}");
        Run::palisade(["policy", "show", name, "--resolved"]).cwd(project.path()).ran().code(0);
        if is_root() {
            let plan = Run::palisade(["plan", "--policy", name, "--json", "--", "true"])
                .cwd(project.path())
                .ran()
                .code(0)
                .stdout;
            let plan: serde_json::Value = serde_json::from_str(&plan).unwrap();
            assert!(plan.to_string().contains("stage"), "{plan}");
        }
    }
}
