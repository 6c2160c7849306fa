//! palisade as a library, in a program of somebody else's.

use palisade_tests::{Leftovers, Ran, Run, Scratch, Who, built, is_root, program, skip};
use std::sync::{Mutex, MutexGuard};

fn alone() -> MutexGuard<'static, ()> {
    static ONE: Mutex<()> = Mutex::new(());
    ONE.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
}

/// Runs the program, as root from a place that others can reach, too.
fn embed(what: &str, policy: &str, command: &[&str]) -> Ran {
    let plugins = program().parent().unwrap().display().to_string();
    let mut words = vec![env!("CARGO_BIN_EXE_embed"), what, &plugins, policy];
    words.extend(command);
    Run::bare(words).ran()
}

#[test]
fn the_example_launches_twice() {
    let _alone = alone();
    let before = Leftovers::now();
    // Built with the other examples of the library; beside this test's own directory.
    let example = std::env::current_exe().unwrap().parent().unwrap().with_file_name("examples/launch");
    assert!(example.exists(), "{} is not there: cargo test --workspace builds it", example.display());
    let plugins = program().parent().unwrap();
    let words = [
        example.as_os_str(),
        plugins.as_os_str(),
        "untrusted".as_ref(),
        "sh".as_ref(),
        "-c".as_ref(),
        "exit 3".as_ref(),
    ];
    let ran = Run::bare(words).ran().code(0);
    assert_eq!(ran.stdout.matches("Exited { code: 3 }").count(), 2, "{}", ran.stdout);
    before.same();
}

#[test]
fn it_leaves_the_program_around_it_as_it_was() {
    let _alone = alone();
    let before = Leftovers::now();
    embed("plain", "untrusted", &["sh", "-c", "exit 5"]).code(0).prints("Exited { code: 5 }\nstate kept");
    let scratch = Scratch::new();
    let policy = scratch.policy("Policy(version: 1, process: (cwd: \"/no/where\"))");
    embed("plain", policy.to_str().unwrap(), &["true"]).code(0).prints("chdir(\"/no/where\")").prints("state kept");
    before.same();
}

/// A copy of a process has one thread only: a lock that another one held would never be released in it.
#[test]
fn it_refuses_to_launch_beside_other_threads() {
    let _alone = alone();
    let scratch = Scratch::new();
    let policy = scratch.policy("Policy(version: 1, process: (env: Keep([\"PATH\"])))");
    embed("threads", policy.to_str().unwrap(), &["true"]).code(0).prints("2 threads").prints("help");
    embed("plain", policy.to_str().unwrap(), &["true"]).code(0).prints("Exited { code: 0 }");
}

/// A step that never comes back is ended at the set-up limit, and has a name.
#[test]
fn a_step_that_hangs_is_named() {
    if !is_root() {
        return skip("hang:root", "the plugin must be root's");
    }
    let _alone = alone();
    let scratch = Scratch::new();
    let dir = format!("/opt/palisade-test-{}-hang", std::process::id());
    std::fs::create_dir(&dir).unwrap();
    std::fs::copy(built().with_file_name("libsaboteur.so"), format!("{dir}/libpalisade_saboteur.so")).unwrap();
    let policy = scratch.policy("Policy(version: 1, plugins: {\"saboteur\": (at: \"apply-child\", how: \"hang\")})");
    let run = |words: &[&str]| {
        let state = scratch.path().join("state");
        Run::bare(words.iter().copied()).who(Who::User).env("XDG_STATE_HOME", state.to_str().unwrap()).ran()
    };
    let embed = scratch.path().join("embed");
    std::fs::copy(env!("CARGO_BIN_EXE_embed"), &embed).unwrap();
    let ran = run(&[embed.to_str().unwrap(), "hang", &dir, policy.to_str().unwrap(), "true"]);
    std::fs::remove_dir_all(&dir).unwrap();
    let ran = ran.code(0).prints("saboteur: the child was not ready after 2 s");
    ran.prints("does nothing in the child (build)");
}
