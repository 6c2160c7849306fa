//! A program around the library, for the tests: `embed WHAT PLUGIN_DIR POLICY COMMAND...`.

use palisade_runtime::{Options, Palisade, Places, Workload};
use std::time::Duration;

fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [what, plugins, policy, command @ ..] = &arguments[..] else {
        panic!("embed WHAT PLUGIN_DIR POLICY COMMAND...")
    };
    let mut palisade = Palisade::open(Places { bundled_dirs: vec![plugins.into()], ..Places::default() }).unwrap();
    let policy = palisade.policy(policy).unwrap();
    let plan = palisade.plan(&policy, Workload::command(command).with_environment()).unwrap_or_else(|e| panic!("{e}"));
    let before = state();
    let _other = (what == "threads").then(|| std::thread::spawn(|| std::thread::sleep(Duration::from_secs(60))));
    let limit = (what == "hang").then(|| Duration::from_secs(2));
    match plan.launch(Options { setup_limit: limit, ..Options::default() }) {
        Ok(running) => {
            assert!(running.pid().is_some_and(|pid| pid > 1));
            let report = running.wait().unwrap();
            println!("{:?}", report.workload.ended);
        }
        Err(failed) => println!("{failed}"),
    }
    println!("state {}", if state() == before { "kept" } else { "changed" });
}

/// What a launch must leave as it was: the signal mask, the handler of SIGALRM, the open descriptors.
fn state() -> (String, usize) {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let signals = status.lines().filter(|line| line.starts_with("Sig")).collect::<Vec<_>>().join(" ");
    (signals, std::fs::read_dir("/proc/self/fd").unwrap().count())
}
