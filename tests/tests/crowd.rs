//! Five hundred workloads at once, each with limits of its own. Runs in a guest as well, on cgroup v2
//! (`tests/vm/matrix`): the processes of all wait on two pipes, so that emulation can take its time.

use palisade_tests::{Leftovers, Run, Scratch, is_root, skip, slowness};
use std::io::{BufRead as _, BufReader, Write as _};
use std::path::Path;
use std::process::Child;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

const CROWD: usize = 500;

/// How long it may take until all run.
const LIMIT: Duration = Duration::from_secs(150);

/// The cgroups that launches have made, of one hierarchy.
fn cgroups() -> usize {
    let found = Run::bare(["find", "/sys/fs/cgroup", "-type", "d", "-path", "*/palisade-*"]).ran().stdout;
    let pids = found.lines().filter(|dir| Path::new(dir).join("pids.max").exists());
    pids.filter(|dir| std::fs::read_to_string(Path::new(dir).join("pids.max")).unwrap() == "20\n").count()
}

#[test]
fn five_hundred_at_once_have_a_cgroup_each_and_leave_none() {
    if !is_root() {
        return skip("crowd:root", "an ordinary user may have no cgroups");
    }
    let scratch = Scratch::new();
    let limits = "memory: (max: \"64MiB\"), cpu: (max: \"100%\", weight: 50), pids: (max: 20), demand: Require";
    // In emulation a launch with all plugins takes seconds, and what is looked at are the cgroups.
    let base = if slowness() == 1 { "extends: [\"untrusted\"], " } else { "" };
    let policy = scratch.policy(&format!("Policy(version: 1, {base}plugins: {{ \"cgroups\": ({limits}) }})"));
    // The first one writes plugins.lock.
    Run::under(&policy, ["true"]).ran().code(0);
    let before = Leftovers::now();
    let (stdin, mut go) = std::io::pipe().unwrap();
    let (ready, stdout) = std::io::pipe().unwrap();
    let start = |number: usize| {
        let script = format!("echo ready; read -r nothing; exit {}", number % 100);
        let mut command = Run::under(&policy, ["sh", "-c", &script]).command();
        command.stdin(stdin.try_clone().unwrap()).stdout(stdout.try_clone().unwrap()).spawn().unwrap()
    };
    let begun = Instant::now();
    let told = Arc::new(AtomicUsize::new(0));
    let count = Arc::clone(&told);
    let reader = std::thread::spawn(move || {
        BufReader::new(ready).lines().for_each(|_| {
            count.fetch_add(1, Ordering::SeqCst);
        });
    });
    // One that ends now has failed.
    let nobody_ended = |all: &mut Vec<Child>| all.iter_mut().all(|child| child.try_wait().unwrap().is_none());
    // All run at once, and do not begin at once: each launch would wait for all others, and take a plugin that got no
    // processor for 10 s for one that hangs.
    let together = if slowness() == 1 { 40 } else { 4 };
    let mut all: Vec<Child> = Vec::new();
    while told.load(Ordering::SeqCst) < CROWD && begun.elapsed() < LIMIT * slowness() && nobody_ended(&mut all) {
        if all.len() < CROWD && all.len() < told.load(Ordering::SeqCst) + together {
            all.push(start(all.len()));
        } else {
            std::thread::sleep(Duration::from_millis(50));
        }
    }
    drop((stdin, stdout));
    let (ready, cgroups) = (told.load(Ordering::SeqCst), cgroups());
    println!("{ready} of {CROWD} run at once after {:.1} s, in {cgroups} cgroups", begun.elapsed().as_secs_f64());
    // Whoever gets a line ends; they end a few at a time as well.
    let begun = Instant::now();
    for some in (0..CROWD).step_by(together) {
        go.write_all(&b"\n".repeat(together)).unwrap();
        let ended = |all: &mut Vec<Child>| all.iter_mut().filter_map(|child| child.try_wait().unwrap()).count();
        while ended(&mut all) < CROWD.min(some + together) && begun.elapsed() < LIMIT * slowness() {
            std::thread::sleep(Duration::from_millis(50));
        }
    }
    drop(go);
    let codes: Vec<Option<i32>> = all.into_iter().map(|mut child| child.wait().unwrap().code()).collect();
    reader.join().unwrap();
    assert_eq!((ready, cgroups), (CROWD, CROWD));
    let wanted: Vec<Option<i32>> = (0..CROWD).map(|number| i32::try_from(number % 100).ok()).collect();
    assert_eq!(codes, wanted);
    before.same();
}
