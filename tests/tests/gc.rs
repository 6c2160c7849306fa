//! What a launcher leaves that is killed, and `palisade gc`, which removes it.

use palisade_tests::{Leftovers, Run, Scratch, is_root};
use std::io::{BufRead as _, BufReader};
use std::process::{Child, Stdio};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant, SystemTime};

static ONE: Mutex<()> = Mutex::new(());

fn alone() -> MutexGuard<'static, ()> {
    ONE.lock().unwrap_or_else(PoisonError::into_inner)
}

fn start() -> Child {
    let mut run = Run::under("untrusted", ["sh", "-c", "echo ready; exec sleep 30"]).command();
    run.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::null()).spawn().unwrap()
}

fn until_ready(child: &mut Child) {
    let mut line = String::new();
    BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).unwrap();
    assert_eq!(line, "ready\n");
}

fn kill(child: &mut Child) {
    child.kill().unwrap();
    child.wait().unwrap();
}

/// Whether `gc` has something of this launcher.
fn has(said: &str, launcher: u32) -> bool {
    said.contains(&format!("/palisade-{launcher}-"))
}

#[test]
fn what_a_killed_launcher_left_is_shown_and_removed_and_what_runs_is_not() {
    let _alone = alone();
    if !is_root() {
        return palisade_tests::skip("gc:root", "an ordinary user has no cgroups here");
    }
    let before = Leftovers::now();
    let (mut killed, mut running) = (start(), start());
    until_ready(&mut killed);
    until_ready(&mut running);
    kill(&mut killed);
    let shown = Run::palisade(["gc", "--dry-run"]).ran().code(0);
    assert!(shown.stdout.contains("left: cgroup /"), "{}", shown.stdout);
    assert!(has(&shown.stdout, killed.id()) && !has(&shown.stdout, running.id()), "{}", shown.stdout);
    let again = Run::palisade(["gc", "--dry-run", "--json"]).ran().code(0);
    let json: serde_json::Value = serde_json::from_str(&again.stdout).unwrap();
    let ours = |one: &&serde_json::Value| has(one["what"].as_str().unwrap(), killed.id());
    let left = json["left"].as_array().unwrap().iter().find(ours).expect("a dry run removes nothing");
    assert_eq!((left["plugin"].as_str(), left["removed"].as_bool()), (Some("cgroups"), Some(false)));
    let removed = Run::palisade(["gc"]).ran().code(0);
    assert!(removed.stdout.contains("removed: cgroup /") && has(&removed.stdout, killed.id()), "{}", removed.stdout);
    let clean = Run::palisade(["gc"]).ran().code(0);
    assert!(!has(&clean.stdout, killed.id()) && !has(&clean.stdout, running.id()), "{}", clean.stdout);
    assert!(running.try_wait().unwrap().is_none(), "a run that goes on is left alone");
    palisade_sys::process::kill(i32::try_from(running.id()).unwrap(), palisade_sys::signal::SIGTERM).unwrap();
    assert_eq!(running.wait().unwrap().code(), Some(143));
    before.same();
}

/// Without a namespace of processes nobody ends what a killed launcher has started; and here that forks again for each
/// process that is killed.
#[test]
fn gc_ends_a_fork_bomb_whose_launcher_was_killed() {
    let _alone = alone();
    if !is_root() {
        return palisade_tests::skip("gc:root", "an ordinary user has no cgroups here");
    }
    let scratch = Scratch::new();
    let limits = "memory: (max: \"2GiB\"), pids: (max: 400)";
    let policy = scratch.policy(&format!("Policy(version: 1, plugins: {{ \"cgroups\": ({limits}) }})"));
    let bomb = "import os, time\nend = time.monotonic() + 60\nprint('ready', flush=True)\n\
        while time.monotonic() < end:\n    try: os.fork()\n    except OSError: pass";
    let before = Leftovers::now();
    let mut command = Run::under(policy, ["python3", "-c", bomb]).command();
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::null());
    let mut child = command.spawn().unwrap();
    until_ready(&mut child);
    std::thread::sleep(Duration::from_millis(500));
    kill(&mut child);
    let began = Instant::now();
    let removed = Run::palisade(["gc"]).ran();
    println!("gc took {:?}", began.elapsed());
    assert!(has(&removed.stdout, child.id()) && !removed.stdout.contains("could not be"), "{}", removed.stdout);
    let shown = Run::palisade(["gc", "--dry-run"]).ran().code(0);
    assert!(!has(&shown.stdout, child.id()), "{}", shown.stdout);
    before.same();
}

/// Numbers that look random, from a seed that is printed.
struct Random(u64);

impl Random {
    fn below(&mut self, limit: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 % limit
    }
}

#[test]
fn a_launcher_that_is_killed_at_any_moment_leaves_nothing_that_gc_does_not_remove() {
    let _alone = alone();
    let _dir = Scratch::new();
    Run::under("untrusted", ["true"]).ran().code(0);
    let seed = u64::try_from(SystemTime::UNIX_EPOCH.elapsed().unwrap().as_nanos() & 0xffff_ffff).unwrap() | 1;
    println!("seed {seed}");
    let mut random = Random(seed);
    let before = Leftovers::now();
    let mut removed = 0;
    for moment in 0..50 {
        let mut child = start();
        // A launch takes 5 to 20 ms.
        std::thread::sleep(Duration::from_micros(random.below(25_000)));
        kill(&mut child);
        let deadline = Instant::now() + Duration::from_secs(5);
        loop {
            let ran = Run::palisade(["gc"]).ran();
            removed += ran.stdout.lines().filter(|line| line.starts_with("removed: ")).count();
            // A child that is about to die of its launcher's death may hold the lock a moment longer.
            let shown = Run::palisade(["gc", "--dry-run"]).ran().code(0);
            if !has(&shown.stdout, child.id()) {
                break;
            }
            assert!(Instant::now() < deadline, "moment {moment}, seed {seed}: {}", shown.stdout);
        }
    }
    before.same();
    if is_root() {
        assert!(removed > 0, "not one of 50 launchers was killed while it had a cgroup");
    }
}
