//! Runs that have a name, and policies that join their namespaces.

use palisade_tests::{Leftovers, Ran, Run, Scratch, Who, everybody};
use std::path::{Path, PathBuf};
use std::process::Child;
use std::sync::{Mutex, MutexGuard};
use std::time::{Duration, Instant};

fn alone() -> MutexGuard<'static, ()> {
    static ONE: Mutex<()> = Mutex::new(());
    ONE.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
}

/// Where the names of somebody's runs are kept; root's are below /run.
fn runtime_dir(scratch: &Scratch) -> &str {
    scratch.text()
}

fn palisade(words: &[&str], who: Who, scratch: &Scratch) -> Run {
    Run::palisade(words.iter().copied()).who(who).env("XDG_RUNTIME_DIR", runtime_dir(scratch))
}

/// A name that no other test has.
fn name() -> String {
    format!("palisade-test-{}", std::process::id())
}

struct Running(Child);

impl Running {
    fn start(name: &str, policy: &Path, who: Who, scratch: &Scratch) -> Self {
        let words = ["run", "--name", name, "--policy", policy.to_str().unwrap(), "--", "sleep", "100"];
        let mut running = Self(palisade(&words, who, scratch).command().spawn().unwrap());
        let until = Instant::now() + Duration::from_secs(30);
        while pid(&ps(who, scratch), name).is_none() {
            assert!(Instant::now() < until && running.0.try_wait().unwrap().is_none(), "it did not start");
            std::thread::sleep(Duration::from_millis(20));
        }
        running
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.0.kill().ok();
        self.0.wait().ok();
    }
}

fn ps(who: Who, scratch: &Scratch) -> serde_json::Value {
    serde_json::from_str(&palisade(&["ps", "--json"], who, scratch).ran().code(0).stdout).unwrap()
}

fn pid(all: &serde_json::Value, name: &str) -> Option<i64> {
    all.as_array().unwrap().iter().find(|run| run["name"] == name).map(|run| run["pid"].as_i64().unwrap())
}

fn policy(scratch: &Scratch, namespaces: &str) -> PathBuf {
    scratch.policy(&format!(
        "Policy(version: 1, process: (env: Inherit), plugins: {{\n    \"namespaces\": ({namespaces}),\n}})"
    ))
}

#[test]
fn namespaces_of_a_run_are_joined_by_its_name() {
    let _alone = alone();
    let before = Leftovers::now();
    let name = name();
    for who in everybody("names") {
        let scratch = Scratch::new();
        let fence = policy(&scratch, "user: New, net: New, uts: New, ipc: New, hostname: \"fence\"");
        // Root has the rights over it as it is; a user has them in the run's own user namespace.
        let joins = format!(
            "{} net: Join(\"{name}\"), uts: Join(\"{name}\"), ipc: Host",
            match who {
                Who::Root => String::new(),
                Who::User => format!("user: Join(\"{name}\"),"),
            }
        );
        let joins = policy(&scratch, &joins);
        let script = "hostname; readlink /proc/self/ns/net /proc/self/ns/uts /proc/self/ns/ipc";
        let join = || -> Ran {
            let words = ["run", "--policy", joins.to_str().unwrap(), "--", "sh", "-c", script];
            palisade(&words, who, &scratch).ran()
        };
        // Nobody has the name yet.
        join()
            .code(120)
            .says(&format!("no run named `{name}` goes on"))
            .says("palisade ps")
            .says(joins.to_str().unwrap());
        let running = Running::start(&name, &fence, who, &scratch);
        let process = pid(&ps(who, &scratch), &name).unwrap();
        let theirs = |kind: &str| std::fs::read_link(format!("/proc/{process}/ns/{kind}"));
        let theirs = |kind: &str| theirs(kind).map(|link| link.display().to_string()).unwrap_or_default();
        let ran = join().code(0);
        let seen: Vec<&str> = ran.stdout.lines().collect();
        assert_eq!(seen[0], "fence", "{who:?}");
        if !theirs("net").is_empty() {
            assert_eq!([seen[1], seen[2]], [theirs("net"), theirs("uts")], "{who:?}");
            assert_ne!(seen[3], theirs("ipc"), "what is not joined is the host's");
        }
        palisade(&["plan", "--policy", joins.to_str().unwrap(), "--", "true"], who, &scratch)
            .ran()
            .code(0)
            .prints(&format!("the run `{name}`"));
        // The name is one run's.
        let words = ["run", "--name", &name, "--policy", fence.to_str().unwrap(), "--", "echo", "started"];
        let second = palisade(&words, who, &scratch).ran().code(2).says("goes on").says("palisade ps");
        assert!(!second.stdout.contains("started"));
        drop(running);
        // It was killed, so it could not give the name back; yet that is free as soon as the workload has ended.
        let until = Instant::now() + Duration::from_secs(30);
        while pid(&ps(who, &scratch), &name).is_some() {
            assert!(Instant::now() < until, "it does not end");
            std::thread::sleep(Duration::from_millis(20));
        }
        join().code(120).says("goes on");
        assert_eq!(pid(&ps(who, &scratch), &name), None);
        palisade(&words, who, &scratch).ran().code(0).prints("started");
        assert_eq!(pid(&ps(who, &scratch), &name), None);
    }
    before.same();
}

#[test]
fn names_that_cannot_be_had_are_refused_before_anything_is_done() {
    let _alone = alone();
    let before = Leftovers::now();
    let scratch = Scratch::new();
    let policy = policy(&scratch, "user: AsNeeded, uts: New");
    let run = |name: &str, who: Who, dir: &str| {
        let words = ["run", "--name", name, "--policy", policy.to_str().unwrap(), "--", "echo", "started"];
        Run::palisade(words).who(who).env("XDG_RUNTIME_DIR", dir).ran()
    };
    for who in everybody("names") {
        for bad in ["a/b", "..", ""] {
            assert!(
                !run(bad, who, scratch.text()).code(2).says("cannot be the name of a run").stdout.contains("started")
            );
        }
        let good = run(&name(), who, scratch.text());
        good.code(0).prints("started");
        if who == Who::User {
            run(&name(), who, "relative").code(120).says("XDG_RUNTIME_DIR");
        }
    }
    before.same();
}
