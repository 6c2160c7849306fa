//! Limits, with figures: what a policy says of memory, processes, processor time and disks is what is had.

use palisade_tests::{Leftovers, Run, Scratch, is_root, skip};
use serde_json::Value;
use std::path::Path;
use std::process::Child;
use std::sync::{Mutex, MutexGuard, PoisonError};

static ONE: Mutex<()> = Mutex::new(());

/// Alone, and as root.
fn alone() -> Option<MutexGuard<'static, ()>> {
    if !is_root() {
        skip("limits:root", "an ordinary user has no cgroups here");
        return None;
    }
    Some(ONE.lock().unwrap_or_else(PoisonError::into_inner))
}

fn policy(scratch: &Scratch, cgroups: &str, process: &str) -> String {
    let text = format!("Policy(version: 1,\n process: ({process}),\n plugins: {{\n  \"cgroups\": ({cgroups}),\n}})");
    scratch.policy(&text).to_str().unwrap().to_owned()
}

fn command(report: &Path, policy: &str, words: &[&str]) -> Run {
    let all = ["run", "--report", report.to_str().unwrap(), "--policy", policy, "--"];
    Run::palisade(all.iter().chain(words).copied())
}

fn read(report: &Path) -> Value {
    serde_json::from_str(&std::fs::read_to_string(report).unwrap()).unwrap()
}

#[test]
fn a_hog_of_twice_the_limit_is_killed_every_time_and_the_report_names_it() {
    let Some(_alone) = alone() else { return };
    let scratch = Scratch::new();
    let policy = policy(&scratch, "memory: (max: \"32MiB\")", "");
    let report = scratch.path().join("report");
    let hog = |mib: u32| format!("x = b'x' * ({mib} << 20)");
    command(&report, &policy, &["python3", "-c", &hog(16)]).ran().code(0);
    assert_eq!(read(&report)["limits_hit"], serde_json::json!([]));
    let before = Leftovers::now();
    for time in 0..100 {
        let ran = command(&report, &policy, &["python3", "-c", &hog(64)]).ran().code(122);
        ran.says("killed by memory.max 32MiB").says("\n  help    raise memory.max, or ");
        let said = read(&report);
        let hit = said["limits_hit"][0].as_str().unwrap();
        assert!(hit.starts_with("killed by memory.max 32MiB, peak 32MiB at "), "time {time}: {hit}");
        assert!(hit.contains(".ron:4:"), "the policy's line is named: {hit}");
        assert!(said["limits_help"][0].as_str().unwrap().starts_with("raise memory.max, or "), "{said}");
    }
    before.same();
}

#[test]
fn a_fork_bomb_stops_at_the_limit() {
    let Some(_alone) = alone() else { return };
    let scratch = Scratch::new();
    let report = scratch.path().join("report");
    // Forks until it is refused and says how often that was; those that it made wait for its end.
    let bomb = "import os, sys, time\nmade = 0\nwhile made < 500:\n    try:\n        child = os.fork()\n    except BlockingIOError:\n        break\n    if child == 0:\n        time.sleep(100)\n        os._exit(0)\n    made += 1\nprint(made)\nos.killpg(0, 9) if made == 500 else None";
    let policy = policy(&scratch, "pids: (max: 64)", "");
    let ran = command(&report, &policy, &["python3", "-c", bomb]).ran().code(0);
    assert_eq!(ran.stdout, "63\n", "itself is the 64th");
    let said = read(&report);
    assert_eq!(said["usage"]["figures"]["pids_refused"], 1);
    let hit = said["limits_hit"][0].as_str().unwrap();
    assert!(hit.contains("refused a new process or thread once by pids.max 64"), "{hit}");
}

const SPIN: &str = "import time\nend = time.monotonic() + 5\nwhile time.monotonic() < end: pass";

/// Processor time in percent of the time that passed.
fn percent(report: &Path) -> f64 {
    let usage = &read(report)["usage"];
    let of = |name: &str| usage[name].as_f64().unwrap();
    (of("user_ms") + of("sys_ms")) * 100.0 / of("wall_ms")
}

#[test]
fn a_loop_uses_a_quarter_of_a_processor_where_it_may() {
    let Some(_alone) = alone() else { return };
    let scratch = Scratch::new();
    let report = scratch.path().join("report");
    let quarter = policy(&scratch, "cpu: (max: \"25%\")", "");
    command(&report, &quarter, &["python3", "-c", SPIN]).ran().code(0);
    let used = percent(&report);
    println!("cpu.max 25%: {used:.1} % over 5 s");
    assert!((23.0..=27.0).contains(&used), "{used}");
    // What the cgroup counts is the same, also on v1, where another hierarchy counts it.
    let usage = &read(&report)["usage"];
    let counted = usage["figures"]["cpu_usage_us"].as_f64().unwrap() / usage["wall_ms"].as_f64().unwrap() / 10.0;
    println!("cpu_usage_us: {counted:.1} %");
    assert!((22.0..=28.0).contains(&counted), "{counted}");
    let hit = read(&report)["limits_hit"][0].as_str().unwrap().to_owned();
    assert!(hit.contains("held back by cpu.max 25% in "), "{hit}");
}

#[test]
fn two_loops_share_a_processor_by_their_weights() {
    let Some(_alone) = alone() else { return };
    let scratch = Scratch::new();
    let start = |weight: u32| -> (Child, std::path::PathBuf) {
        let report = scratch.path().join(format!("report-{weight}"));
        let policy = policy(&scratch, &format!("cpu: (weight: {weight})"), "cpu_affinity: \"0\"");
        (command(&report, &policy, &["python3", "-c", SPIN]).command().spawn().unwrap(), report)
    };
    let both = [start(100), start(300)];
    let used = both.map(|(mut child, report)| {
        assert!(child.wait().unwrap().success());
        percent(&report)
    });
    let ratio = used[1] / used[0];
    println!("weights 100 and 300: {:.1} % and {:.1} %, 1 to {ratio:.2}", used[0], used[1]);
    assert!((2.7..=3.3).contains(&ratio), "{used:?}");
}

#[test]
fn a_writer_is_held_to_its_rate() {
    let Some(_alone) = alone() else { return };
    let scratch = Scratch::new();
    let report = scratch.path().join("report");
    let file = format!("of={}/file", scratch.text());
    let dd = ["dd", "if=/dev/zero", &file, "bs=256k", "count=80", "oflag=direct", "status=none"];
    let rate = |rate: &str| {
        let text = format!("io: (devices: {{ \"{}\": (write_bytes: \"{rate}\") }})", scratch.text());
        let policy = policy(&scratch, &text, "");
        command(&report, &policy, &dd).ran().code(0);
        read(&report)["usage"]["wall_ms"].as_f64().unwrap() / 1000.0
    };
    let free = rate("10GiB");
    let held = rate("5MiB");
    println!("20 MiB at 5 MiB each second: {held:.2} s; without a limit that binds: {free:.2} s");
    assert!(free < 2.0, "{free}");
    assert!((3.6..=4.4).contains(&held), "{held}");
    assert_eq!(read(&report)["usage"]["figures"]["io_write_bytes"], 20 << 20);
}
