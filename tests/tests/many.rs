//! Many launches: a thousand in a row, and what they hold while they run. Many at once: `crowd.rs`.

use palisade_tests::{Leftovers, Run, Scratch, everybody, is_root};
use std::io::{BufRead as _, BufReader};
use std::process::{Child, Stdio};
use std::sync::Mutex;

static ONE: Mutex<()> = Mutex::new(());

fn policy() -> &'static str {
    "untrusted"
}

#[test]
fn a_thousand_in_a_row() {
    let _alone = ONE.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
    let _dir = Scratch::new();
    // The first one writes plugins.lock.
    Run::under(policy(), ["true"]).ran().code(0);
    let before = Leftovers::now();
    for _ in 0..1000 {
        let status = Run::under(policy(), ["true"]).command().stderr(Stdio::inherit()).status().unwrap();
        assert_eq!(status.code(), Some(0));
    }
    before.same();
}

/// Private memory of a launcher and of its init, in KiB.
fn private(launcher: u32) -> u64 {
    let own = palisade_sys::memory::private_kib(i32::try_from(launcher).unwrap()).unwrap();
    let children = std::fs::read_to_string(format!("/proc/{launcher}/task/{launcher}/children")).unwrap();
    let init: i32 = children.split_whitespace().next().unwrap().parse().unwrap();
    own + palisade_sys::memory::private_kib(init).unwrap()
}

#[test]
fn launcher_and_init_are_small_while_a_workload_runs() {
    let _alone = ONE.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
    if !is_root() {
        return palisade_tests::skip("memory:root", "smaps_rollup of init, which is not dumpable");
    }
    let start = || {
        let mut child = Run::under(policy(), ["sh", "-c", "echo ready; exec sleep 30"])
            .command()
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut line = String::new();
        BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).unwrap();
        assert_eq!(line, "ready\n");
        child
    };
    let measure = |count: u64| {
        let mut all: Vec<Child> = (0..count).map(|_| start()).collect();
        std::thread::sleep(std::time::Duration::from_millis(500));
        let sum: u64 = all.iter().map(|child| private(child.id())).sum();
        for child in &mut all {
            palisade_sys::process::kill(i32::try_from(child.id()).unwrap(), palisade_sys::signal::SIGTERM).unwrap();
            assert_eq!(child.wait().unwrap().code(), Some(143));
        }
        sum / count
    };
    let before = Leftovers::now();
    let (one, hundred) = (measure(1), measure(100));
    println!("launcher and init: {one} KiB for one, {hundred} KiB as the mean of 100");
    assert!(one <= 2048 && hundred <= 2048, "{one} KiB for one, {hundred} KiB as the mean of 100");
    before.same();
}

#[test]
fn an_ordinary_user_leaves_nothing_either() {
    let _alone = ONE.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
    let before = Leftovers::now();
    for who in everybody("many") {
        for _ in 0..50 {
            Run::under(policy(), ["true"]).who(who).ran().code(0);
        }
    }
    before.same();
}
