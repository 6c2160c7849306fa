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

/// Of one policy without and one with an init: neither ends the other, and orphans end with the last.
#[test]
fn two_at_once_do_not_end_each_other() {
    let _alone = alone();
    let scratch = Scratch::new();
    let before = Leftovers::now();
    let plain = "Policy(version: 1, process: (env: Set({\"PATH\": \"/usr/bin:/bin\"})), plugins: {PLUGINS})";
    for plugins in ["", "\"namespaces\": (user: New, pid: New)"] {
        let policy = scratch.policy(&plain.replace("PLUGINS", plugins));
        let script = "setsid sleep 987 & sleep 0.2; exit 5";
        let ran = embed("two", policy.to_str().unwrap(), &["sh", "-c", script]).code(0);
        assert_eq!(ran.stdout, "Exited { code: 5 }\nExited { code: 6 }\nstate kept\n", "{}", ran.stderr);
        let left = Run::bare(["pgrep", "-f", "sleep 987"]).ran().stdout;
        assert_eq!(left, "");
    }
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

/// The saboteur among palisade's own plugins, in a directory that is root's.
struct Bench {
    dir: String,
    scratch: Scratch,
}

impl Bench {
    fn new(test: &str) -> Option<Self> {
        if !is_root() {
            skip(&format!("{test}:root"), "the plugin must be root's");
            return None;
        }
        let (dir, scratch) = (format!("/opt/palisade-test-{}-{test}", std::process::id()), Scratch::new());
        std::fs::create_dir(&dir).unwrap();
        for entry in std::fs::read_dir(program().parent().unwrap()).unwrap().map(Result::unwrap) {
            std::fs::copy(entry.path(), std::path::Path::new(&dir).join(entry.file_name())).unwrap();
        }
        std::fs::copy(built().with_file_name("libsaboteur.so"), format!("{dir}/libpalisade_saboteur.so")).unwrap();
        std::fs::copy(env!("CARGO_BIN_EXE_embed"), scratch.path().join("embed")).unwrap();
        Some(Self { dir, scratch })
    }

    fn embed(&self, what: &str, plugins: &str, command: &[&str]) -> Run {
        let text = format!("Policy(version: 1, process: (env: Keep([\"PATH\"])), plugins: {{{plugins}}})");
        let policy = self.scratch.policy(&text);
        let embed = self.scratch.path().join("embed");
        let mut words = vec![embed.to_str().unwrap(), what, &self.dir, policy.to_str().unwrap()];
        words.extend(command);
        Run::bare(words).env("XDG_STATE_HOME", self.scratch.path().join("state").to_str().unwrap())
    }
}

impl Drop for Bench {
    fn drop(&mut self) {
        drop(std::fs::remove_dir_all(&self.dir));
    }
}

/// A step that never comes back is ended at the set-up limit, and has a name.
#[test]
fn a_step_that_hangs_is_named() {
    let _alone = alone();
    let Some(bench) = Bench::new("hang") else { return };
    let run = bench.embed("hang", "\"saboteur\": (at: \"apply-child\", how: \"hang\")", &["true"]);
    let ran = run.who(Who::User).ran().code(0).prints("saboteur: the child was not ready after 2 s");
    ran.prints("does nothing in the child (build)");
}

/// What another process of the same user gets of one: whether it may trace it, and read of it what tracing allows.
fn looked_at(pid: &str) -> String {
    let script = "
import ctypes, os, sys
libc, pid = ctypes.CDLL(None, use_errno=True), sys.argv[1]
def tried(what):
    try: what(); return 'open'
    except OSError: return 'shut'
def trace():
    if libc.ptrace(0x4206, int(pid), 0, 0) < 0: raise OSError(ctypes.get_errno())
    libc.ptrace(17, int(pid), 0, 0)
print(*(tried(what) for what in [
    trace, lambda: open(f'/proc/{pid}/mem', 'rb'), lambda: open(f'/proc/{pid}/environ').read(),
    lambda: os.listdir(f'/proc/{pid}/fd'), lambda: os.readlink(f'/proc/{pid}/exe')]))";
    Run::bare(["python3", "-c", script, pid]).who(Who::User).ran().code(0).stdout.trim().to_owned()
}

fn child_of(pid: u32) -> String {
    let begun = std::time::Instant::now();
    loop {
        let children = std::fs::read_to_string(format!("/proc/{pid}/task/{pid}/children")).unwrap_or_default();
        match children.split_whitespace().next() {
            Some(child) => return child.to_owned(),
            None => assert!(begun.elapsed().as_secs() < 10, "{pid} has no child"),
        }
        std::thread::sleep(std::time::Duration::from_millis(5));
    }
}

const SHUT: &str = "shut shut shut shut shut";

/// Nobody of the same user, and so nobody inside, gets at the launcher's memory through its copy, before execve or
/// through init; the workload itself is a process like any other.
#[test]
fn only_the_workload_can_be_traced() {
    let _alone = alone();
    let Some(bench) = Bench::new("trace") else { return };
    let before = Leftovers::now();
    for namespaces in ["", "\"namespaces\": (user: New, mount: New, pid: New),"] {
        let at = |entry: &str| format!("{namespaces} \"saboteur\": (at: \"{entry}\", how: \"hang\")");
        for entry in ["apply-child", "witness"] {
            let mut command = bench.embed("signals", &at(entry), &["true"]).who(Who::User).command();
            let child = command.stdout(std::process::Stdio::piped()).spawn().unwrap();
            let mut pid = child_of(child.id());
            std::thread::sleep(std::time::Duration::from_millis(300));
            if entry == "witness" && !namespaces.is_empty() {
                assert_eq!(looked_at(&pid), SHUT, "init, {entry}");
                pid = child_of(pid.parse().unwrap());
            }
            assert_eq!(looked_at(&pid), SHUT, "{entry} with {namespaces:?}");
            // Whoever wants it to end need not wait for the set-up limit; nothing stays.
            palisade_sys::process::kill(child.id().try_into().unwrap(), palisade_sys::signal::SIGTERM).unwrap();
            let output = child.wait_with_output().unwrap();
            let text = String::from_utf8_lossy(&output.stdout).into_owned();
            assert!(text.contains("SIGTERM came before the workload was started"), "{text}");
        }
        let mut child = bench.embed("signals", &at(""), &["sleep", "987"]).who(Who::User).command();
        let mut child = child.stdout(std::process::Stdio::null()).spawn().unwrap();
        let mut pid = child_of(child.id());
        std::thread::sleep(std::time::Duration::from_millis(500));
        if !namespaces.is_empty() {
            assert_eq!(looked_at(&pid), SHUT, "init");
            pid = child_of(pid.parse().unwrap());
        }
        // The twin.
        assert_eq!(looked_at(&pid), SHUT.replace("shut", "open"), "the workload with {namespaces:?}");
        palisade_sys::process::kill(child.id().try_into().unwrap(), palisade_sys::signal::SIGTERM).unwrap();
        child.wait().unwrap();
        before.same();
    }
}

/// One undo that fails does not keep the others from being done, in reverse order, whether the workload ran or not.
#[test]
fn what_can_be_undone_is_undone() {
    let _alone = alone();
    let Some(bench) = Bench::new("undo") else { return };
    let before = Leftovers::now();
    let cgroups = "\"cgroups\": (pids: (max: 50)),";
    for how in ["error", "panic"] {
        let saboteur = format!("{cgroups} \"saboteur\": (at: \"undo\", how: \"{how}\")");
        let ran = bench.embed("plain", &saboteur, &["sh", "-c", "exit 3"]).ran().code(0);
        let ran = ran.prints("Exited { code: 3 }").prints("at the end: saboteur: undoing \"does nothing on the host\"");
        ran.prints("as asked in undo");
        before.same();
    }
    for entry in ["apply-host", "apply-child", "witness", "verify"] {
        let saboteur = format!("{cgroups} \"saboteur\": (at: \"{entry}\", how: \"error\")");
        let ran = bench.embed("plain", &saboteur, &["true"]).ran().code(0);
        ran.prints(&format!("saboteur: as asked in {entry}"));
        before.same();
    }
}
