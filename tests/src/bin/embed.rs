//! A program around the library, for the tests: `embed WHAT PLUGIN_DIR[:PLUGIN_DIR] POLICY COMMAND...`.

use palisade_runtime::{Options, Palisade, Places, Plan, Workload};
use std::process::ExitCode;
use std::time::Duration;

fn main() -> ExitCode {
    let argv: Vec<_> = std::env::args_os().collect();
    if let Some(code) = palisade_runtime::host_plugin(&argv) {
        return code.into();
    }
    embed();
    ExitCode::SUCCESS
}

fn embed() {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [what, plugins, policy, command @ ..] = &arguments[..] else {
        panic!("embed WHAT PLUGIN_DIR POLICY COMMAND...")
    };
    let places = Places {
        bundled_dirs: plugins.split(':').map(Into::into).collect(),
        host_program: std::env::current_exe().ok(),
        ..Places::default()
    };
    let mut palisade = Palisade::open(places).unwrap();
    let policy = palisade.policy(policy).unwrap();
    if what == "again" {
        return again(&mut palisade, &policy, command);
    }
    let plan = palisade.plan(&policy, Workload::command(command).with_environment()).unwrap_or_else(|e| panic!("{e}"));
    let before = state();
    let _other = (what == "threads").then(|| std::thread::spawn(|| std::thread::sleep(Duration::from_secs(60))));
    let limit = (what == "hang").then(|| Duration::from_secs(2));
    if what == "two" {
        return two(
            plan,
            palisade.plan(&policy, Workload::command(["sh", "-c", "sleep 0.7; exit 6"])).unwrap(),
            &before,
        );
    }
    let forward_signals = what == "signals";
    match plan.launch(Options { setup_limit: limit, forward_signals, ..Options::default() }) {
        Ok(running) => {
            assert!(running.pid().is_some_and(|pid| pid > 1));
            let report = running.wait().unwrap();
            println!("{:?}", report.workload.ended);
            report.failures.iter().for_each(|failure| println!("at the end: {failure}"));
        }
        Err(failed) => println!("{failed}"),
    }
    tell(&before);
}

/// A plan that fails, and then a launch in the same process in which the plugin behaves.
fn again(palisade: &mut Palisade, policy: &palisade_runtime::Policy, command: &[String]) {
    let failed = palisade.plan(policy, Workload::command(command));
    failed.err().iter().for_each(|trouble| println!("{trouble}"));
    // What the first one opened for good, such as directories, is open now.
    let before = state();
    drop(palisade.plan(policy, Workload::command(command)));
    tell(&before);
    let tame = policy.clone().set("saboteur.at=nowhere");
    let plan = palisade.plan(&tame, Workload::command(command).with_environment()).unwrap_or_else(|e| panic!("{e}"));
    println!("{:?}", plan.launch(Options::default()).unwrap().wait().unwrap().workload.ended);
    tell(&before);
}

fn tell(before: &(String, usize, bool)) {
    println!("state {}", if state() == *before { "kept" } else { "changed" });
}

/// Two launches at the same time: the end of one is none of the other's.
fn two(first: Plan, second: Plan, before: &(String, usize, bool)) {
    let first = first.launch(Options::default()).unwrap();
    let second = second.launch(Options::default()).unwrap();
    for running in [first, second] {
        println!("{:?}", running.wait().unwrap().workload.ended);
    }
    tell(before);
}

/// What a launch must leave as it was: the signal mask, the handler of SIGALRM, the open descriptors, and who adopts
/// orphans. `SigQ` counts what all processes of this user have, and so is nobody's in particular.
fn state() -> (String, usize, bool) {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let signals = status
        .lines()
        .filter(|line| line.starts_with("Sig") && !line.starts_with("SigQ"))
        .collect::<Vec<_>>()
        .join(" ");
    let adopts = palisade_sys::process::is_child_subreaper().unwrap();
    (signals, std::fs::read_dir("/proc/self/fd").unwrap().count(), adopts)
}
