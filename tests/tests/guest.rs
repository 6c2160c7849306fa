//! Limits and what a workload sees of its cgroup, by whoever runs the tests: what is tried on other kernels, layouts of
//! cgroups and users as well (`tests/vm/matrix`).

use palisade_tests::{Ran, Run, Scratch, is_root, skip};
use std::process::Stdio;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

static ONE: Mutex<()> = Mutex::new(());

fn alone() -> MutexGuard<'static, ()> {
    ONE.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Whether limits can be had: as root, or where the caller of the tests says so.
fn limits() -> bool {
    std::env::var("PALISADE_TEST_LIMITS").map_or_else(|_| is_root(), |says| says == "yes")
}

/// Whether memory is limited by cgroup v2.
fn v2() -> bool {
    let has = |top: &str| {
        std::fs::read_to_string(format!("{top}/cgroup.controllers")).is_ok_and(|text| text.contains("memory"))
    };
    has("/sys/fs/cgroup") || has("/sys/fs/cgroup/unified")
}

fn run(entries: &str, cgroups: &str, script: &str) -> Ran {
    let scratch = Scratch::new();
    let policy = scratch.policy(&format!(
        "Policy(version: 1, extends: [\"untrusted\"], plugins: {{\n\"filesystem\": (entries: [{entries}]),\n\
         \"cgroups\": (demand: {cgroups}) }})"
    ));
    Run::under(policy, ["sh", "-c", script]).ran()
}

#[test]
fn limits_hold_or_the_launch_ends() {
    let _alone = alone();
    if !limits() {
        run("", "Require", "true").code(120).says("demand: Degrade");
        run("", "Degrade", "true").code(0);
        return;
    }
    run("", "Require, memory: (max: \"64MiB\")", "x=$(head -c 4000000 /dev/zero | tr '\\0' x)").code(0);
    let killed = run("", "Require, memory: (max: \"16MiB\")", "x=$(head -c 40000000 /dev/zero | tr '\\0' x)").code(122);
    killed.says("limit hit: cgroups: killed by memory.max 16MiB").says(".ron:3:");
}

#[test]
fn its_own_cgroup_is_the_root_of_what_it_sees() {
    let _alone = alone();
    let seen = run("", "Degrade", "cat /proc/self/cgroup").code(0).stdout;
    assert!(!seen.contains("palisade-"), "{seen}");
    if limits() {
        assert!(!seen.is_empty() && seen.lines().all(|line| line.ends_with(":/")), "{seen}");
    }
}

#[test]
fn it_may_see_its_own_cgroup_and_no_other_and_change_none() {
    let _alone = alone();
    let script = "cat /sys/fs/cgroup/memory.max; echo 5 >/sys/fs/cgroup/memory.max || echo refused";
    if limits() && v2() {
        let ran = run("Cgroup", "Require, memory: (max: \"64MiB\")", script).code(0);
        assert_eq!(ran.stdout, "67108864\nrefused\n");
        ran.says("Read-only file system");
    } else {
        run("Cgroup", "Degrade", script).code(120).says("it would show the cgroups of others");
    }
    run("Cgroup", "Off", script).code(120).says("it would show the cgroups of others");
}

/// In a mount namespace of its own, with a change to every hierarchy that is mounted.
fn behind(change: &str, demand: &str) -> Ran {
    let scratch = Scratch::new();
    let text = format!(
        "Policy(version: 1, extends: [\"untrusted\"], plugins: {{ \"cgroups\": (demand: {demand}, pids: (max: 64)) }})"
    );
    let policy = scratch.policy(&text);
    let all = "awk '$3 ~ /^cgroup/ { print $2 }' /proc/self/mounts | tac";
    let script = format!("for at in $({all}); do {change} \"$at\" || exit 99; done; exec \"$@\"");
    let run = ["unshare", "--mount", "--propagation", "private", "sh", "-c", &script, "sh"];
    Run::under(policy, ["true"]).behind(&run).ran()
}

#[test]
fn cgroups_that_cannot_be_written_or_are_not_there_end_the_launch_unless_the_policy_lets_it_go_on() {
    let _alone = alone();
    if !is_root() {
        return skip("cgroups_that_cannot_be_written:root", "only root may change what is mounted");
    }
    let none = !std::fs::read_to_string("/proc/self/mounts").unwrap().contains(" cgroup");
    for (change, says) in [("mount -o remount,bind,ro", "EROFS"), ("umount", "not mounted")] {
        let ran = behind(change, "Require").says(if none { "no cgroup can be made" } else { says });
        assert!(matches!(ran.code, Some(120 | 121)), "{change}: {:?} {}", ran.code, ran.stderr);
        behind(change, "Degrade").code(0);
    }
}

#[test]
fn a_killed_launcher_leaves_nothing_that_gc_does_not_remove() {
    let _alone = alone();
    let mut run = Run::under("untrusted", ["sleep", "60"]).command();
    let mut child = run.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
    let ours = format!("palisade-{}-", child.id());
    let begun = Instant::now();
    if limits() {
        while !cgroups().contains(&ours) {
            assert!(begun.elapsed() < Duration::from_secs(20), "{}", cgroups());
            std::thread::sleep(Duration::from_millis(20));
        }
    }
    child.kill().unwrap();
    child.wait().unwrap();
    // In the middle of a launch, too: what is born ends by itself, a scope goes in its manager's own time.
    let begun = Instant::now();
    while cgroups().contains(&ours) && begun.elapsed() < Duration::from_secs(20) {
        Run::palisade(["gc"]).ran();
        std::thread::sleep(Duration::from_millis(100));
    }
    assert!(!cgroups().contains(&ours), "{}", cgroups());
}

/// The names of all cgroups.
fn cgroups() -> String {
    let found = Run::bare(["find", "/sys/fs/cgroup", "-type", "d", "-name", "palisade-*"]).ran();
    found.stdout
}
