//! A terminal of the workload's own, driven from a real one: keys, size, jobs, the mode it is left in, and that nothing
//! comes out of it but output.

use palisade_tests::{Leftovers, Ran, Run, Scratch, Who, everybody, program};
use std::sync::{Mutex, MutexGuard};

fn alone() -> MutexGuard<'static, ()> {
    static ONE: Mutex<()> = Mutex::new(());
    ONE.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
}

/// With an init, a view and no filter: what is kept from the caller's terminal is kept by the terminal alone.
fn policy(process: &str) -> String {
    format!(
        r#"Policy(
    version: 1,
    process: (env: [Keep(["PATH"])], cwd: "/tmp", {process}),
    plugins: {{
        "namespaces": (user: New, mount: New, pid: New, net: New),
        "filesystem": (entries: [System, Proc, Dev, Tmpfs("/tmp")]),
        "privileges": (),
    }},
)"#
    )
}

/// Without any plugin there is no init: the workload is the launcher's own child.
fn bare(process: &str) -> String {
    format!("Policy(version: 1, process: (env: [Keep([\"PATH\"])], {process}))")
}

fn driven(scratch: &Scratch, case: &str, policy: &str, who: Who) -> Ran {
    let script = scratch.file("own_terminal.py", include_bytes!("../probes/own_terminal.py"));
    let policy = scratch.policy(policy);
    let words = ["python3".into(), script.into_os_string(), case.into(), program().into(), policy.into_os_string()];
    let ran = Run::bare(words).who(who).ran();
    assert_eq!(ran.code, Some(0), "{who:?}: {case}:\n{}\n{}", ran.stdout, ran.stderr);
    ran
}

/// A case for everybody, with an init and without.
fn everywhere(case: &str, saw: &str) {
    let _alone = alone();
    let scratch = Scratch::new();
    let before = Leftovers::now();
    for who in everybody(case) {
        for policy in [policy("terminal: New"), bare("terminal: New")] {
            driven(&scratch, case, &policy, who).prints(saw);
        }
    }
    before.same();
}

#[test]
fn a_shell_inside_keeps_jobs_and_an_interrupt_ends_only_the_one_in_front() {
    everywhere("job_control", "code 5");
}

#[test]
fn the_launchers_end_and_the_callers_terminal_are_open_nowhere_inside() {
    let _alone = alone();
    let scratch = Scratch::new();
    let before = Leftovers::now();
    // Only root may look at what the init holds.
    for who in everybody("ends").into_iter().filter(|who| *who == Who::Root) {
        for policy in [policy("terminal: New"), bare("terminal: New")] {
            driven(&scratch, "ends", &policy, who).prints("held inside: True");
        }
    }
    before.same();
}

#[test]
fn the_window_has_the_callers_size_and_follows_it() {
    everywhere("size", "code 130");
}

#[test]
fn the_callers_mode_is_back_after_every_end() {
    everywhere("restored", "exit 0\nterm 143\nkilled 137\ntimeout 124\nno command 127\nfailed launch 121\n");
}

#[test]
fn in_a_pipeline_the_callers_terminal_stays_as_it_is() {
    everywhere("pipeline", "as before");
}

#[test]
fn only_what_was_a_terminal_is_one() {
    everywhere("mixed", "as before");
}

#[test]
fn a_command_is_stopped_and_continued_as_the_callers_job() {
    everywhere("stopped", "as before");
}

#[test]
fn where_no_terminal_can_be_made_nothing_starts() {
    let _alone = alone();
    let scratch = Scratch::new();
    let before = Leftovers::now();
    for who in everybody("refused") {
        driven(&scratch, "refused", &bare("terminal: New"), who).prints("code 121");
    }
    before.same();
}

#[test]
fn the_mode_is_raw_again_after_a_stop_that_nobody_could_catch() {
    everywhere("halted", "as before");
}

#[test]
fn what_palisade_says_meanwhile_stands_in_lines_of_its_own() {
    everywhere("watched", "code 0");
}

#[test]
fn in_the_background_nothing_is_taken_from_the_terminal() {
    everywhere("background", "as before");
}

#[test]
fn the_workload_is_told_when_the_callers_terminal_is_gone() {
    everywhere("gone", "code 9\ncode 129\n");
}

#[test]
fn all_of_the_output_arrives() {
    everywhere("much", "code 0");
}

#[test]
fn what_a_terminal_shows_counts_for_the_output_limit() {
    everywhere("limited", "code 122");
}

/// The act: pushing a line into the terminal for the caller's shell to run (TIOCSTI).
#[test]
fn what_is_pushed_into_the_terminal_stays_inside() {
    let _alone = alone();
    let scratch = Scratch::new();
    let before = Leftovers::now();
    let setting = std::fs::read_to_string("/proc/sys/dev/tty/legacy_tiocsti").unwrap_or_else(|_| "1".to_owned());
    let anybody = setting.trim() == "1";
    for who in everybody("pushed") {
        // The twins first: the caller's shell runs what is pushed into a terminal that is shared.
        if anybody {
            driven(&scratch, "pushed", &policy("terminal: Inherit"), who).prints("seen outside\n");
            driven(&scratch, "pushed", &policy("terminal: New"), who).prints("nothing outside\n");
        }
        if anybody || who == Who::Root {
            driven(&scratch, "pushed", &bare(""), who).prints("seen outside\n");
            driven(&scratch, "pushed", &bare("terminal: New"), who).prints("nothing outside\n");
        }
    }
    if !anybody {
        palisade_tests::skip("tiocsti", "dev.tty.legacy_tiocsti is 0: only root can push");
    }
    before.same();
}

#[test]
fn without_a_terminal_pipes_stay_pipes_in_a_session_of_its_own() {
    let _alone = alone();
    let scratch = Scratch::new();
    let before = Leftovers::now();
    let script = "import os, sys\nprint([os.isatty(n) for n in range(3)], os.getsid(0) == os.getpid(), flush=True)\n\
                  os.write(1, sys.stdin.buffer.read())";
    let bytes = "a\nb\r\n\u{3}\u{1a}\u{4}end";
    for who in everybody("pipes") {
        for (text, own) in [(policy("terminal: New"), "True"), (policy(""), "False")] {
            let file = scratch.policy(&text);
            let ran = Run::under(&file, ["python3", "-c", script]).who(who).stdin(bytes).ran().code(0);
            assert_eq!(ran.stdout, format!("[False, False, False] {own}\n{bytes}"));
        }
        let file = scratch.policy(&policy("terminal: New"));
        let plan = Run::palisade(["plan", "--policy", file.to_str().unwrap(), "--", "true"]).who(who).ran().code(0);
        assert!(plan.stdout.contains("starts a session without a terminal"), "{}", plan.stdout);
    }
    before.same();
}

/// What it risks to share the terminal stands in the plan, also where only the terminal is there and nobody asked.
#[test]
fn the_plan_says_what_it_risks_to_share_the_terminal() {
    let _alone = alone();
    let scratch = Scratch::new();
    let (asked, silent) = (scratch.policy(&bare("terminal: Inherit")), scratch.policy(&bare("")));
    let plan = |policy: &std::path::Path, behind: &[&str]| {
        let run = Run::palisade(["plan", "--policy", policy.to_str().unwrap(), "--", "true"]);
        run.behind(behind).ran().code(0).stdout
    };
    let risk = "the workload can read what is typed there";
    assert!(plan(&asked, &[]).contains(risk));
    assert!(!plan(&silent, &["setsid", "--wait"]).contains(risk));
    let on_terminal = ["python3", "-c", "import pty, sys; pty.spawn(sys.argv[1:])"];
    assert!(plan(&silent, &on_terminal).contains(risk));
}
