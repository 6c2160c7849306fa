//! The command as its users meet it: real runs of the program.
#![expect(clippy::unwrap_used, reason = "a test; the helpers are outside of #[test] functions")]

use std::fs;
use std::io::Write as _;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

const PALISADE: &str = env!("CARGO_BIN_EXE_palisade");

const VERBS: &[&[&str]] = &[
    &["run"],
    &["plan"],
    &["doctor"],
    &["policy"],
    &["policy", "list"],
    &["policy", "show"],
    &["policy", "check"],
    &["plugin"],
    &["plugin", "list"],
    &["plugin", "info"],
    &["plugin", "verify"],
    &["completions"],
    &["man"],
];

/// A policy that needs no plugin: palisade's own part of a launch.
const BARE: &str = r#"Policy(
    version: 1,
    description: "nothing but a process",
    process: (env: Keep(["PATH"])),
)
"#;

/// A directory of one test's own, gone afterwards.
struct Dir(PathBuf);

impl Dir {
    fn new(test: &str) -> Self {
        let path = std::env::temp_dir().join(format!("palisade-cli-{}-{test}", std::process::id()));
        fs::create_dir(&path).unwrap();
        Self(path)
    }

    fn file(&self, name: &str, text: &str) -> String {
        let path = self.0.join(name);
        fs::write(&path, text).unwrap();
        path.to_str().unwrap().to_owned()
    }

    fn path(&self, name: &str) -> String {
        self.0.join(name).to_str().unwrap().to_owned()
    }

    fn names(&self) -> Vec<String> {
        let entries = fs::read_dir(&self.0).unwrap();
        let mut names: Vec<String> = entries.map(|e| e.unwrap().file_name().into_string().unwrap()).collect();
        names.sort();
        names
    }
}

impl Drop for Dir {
    fn drop(&mut self) {
        fs::remove_dir_all(&self.0).ok();
    }
}

struct Ran {
    code: i32,
    out: String,
    err: String,
}

impl From<Output> for Ran {
    fn from(output: Output) -> Self {
        Self {
            code: output.status.code().unwrap_or(-1),
            out: String::from_utf8(output.stdout).unwrap(),
            err: String::from_utf8(output.stderr).unwrap(),
        }
    }
}

fn palisade(args: &[&str]) -> Ran {
    Command::new(PALISADE).args(args).stdin(Stdio::null()).output().unwrap().into()
}

/// The same through a shell, for redirections; `$P` is the program.
fn shell(line: &str, dir: &Path) -> Ran {
    let mut command = Command::new("sh");
    command.args(["-c", line]).env("P", PALISADE).current_dir(dir).stdin(Stdio::null());
    command.output().unwrap().into()
}

fn json(text: &str) -> serde_json::Value {
    serde_json::from_str(text).unwrap_or_else(|error| panic!("{error} in {text:?}"))
}

#[test]
fn the_help_of_every_verb_is_enough_to_use_it() {
    for verb in VERBS {
        let args: Vec<&str> = verb.iter().copied().chain(["--help"]).collect();
        let ran = palisade(&args);
        assert_eq!((ran.code, ran.err.as_str()), (0, ""), "{verb:?}");
        for part in ["Usage: palisade ", "Examples:\n  ", "Exit codes:\n", "usage: the command line"] {
            assert!(ran.out.contains(part), "{verb:?} lacks {part:?}: {}", ran.out);
        }
        assert!(ran.out.contains(&verb.join(" ")), "{verb:?}");
        assert!(!ran.out.contains('\x1b'));
    }
    let run = palisade(&["run", "--help"]).out;
    for code in ["118", "119", "120", "121", "122", "124", "125", "126", "127", "128+n"] {
        assert!(run.contains(&format!("\n  {code}")), "{code}: {run}");
    }
    assert!(palisade(&["help", "run"]).out.contains("Exit codes:"));
}

#[test]
fn a_wrong_command_line_is_2() {
    let wrong: &[&[&str]] = &[
        &[],
        &["rum"],
        &["run", "--polcy", "x", "true"],
        &["run", "--var", "x", "true"],
        &["policy"],
        &["policy", "check"],
        &["completions", "tcsh"],
        &["run", "--report", "/nowhere/at/all.json", "true"],
        &["run", "--report", "fd:77", "true"],
        &["run", "--report", "fd:x", "true"],
        &["policy", "show", "default", "--set", "process.nice=1"],
    ];
    for args in wrong {
        let ran = palisade(args);
        assert_eq!((ran.code, ran.out.as_str()), (2, ""), "{args:?}: {}", ran.err);
        assert!(!ran.err.is_empty(), "{args:?}");
    }
    assert!(palisade(&["rum"]).err.contains("'run'"));
    assert!(palisade(&["--version"]).out.starts_with("palisade "));
}

#[test]
fn the_commands_own_code_comes_through() {
    let dir = Dir::new("codes");
    let policy = dir.file("bare.ron", BARE);
    let run = |words: &[&str]| {
        let args: Vec<&str> = ["run", "-p", &policy, "--"].iter().chain(words).copied().collect();
        palisade(&args)
    };
    let ran = run(&["sh", "-c", "echo out; echo err >&2; exit 7"]);
    assert_eq!((ran.code, ran.out.as_str(), ran.err.as_str()), (7, "out\n", "err\n"));
    let ran = run(&["true"]);
    assert_eq!((ran.code, ran.err.as_str()), (0, ""));
    let ran = run(&["sh", "-c", "kill -SEGV $$"]);
    assert_eq!(ran.code, 139);
    assert!(ran.err.contains("SIGSEGV (signal 11"), "{}", ran.err);
    let ran = run(&["sh", "-c", "kill -INT $$"]);
    assert_eq!((ran.code, ran.err.as_str()), (130, ""));
    let ran = run(&["no-such-command-anywhere"]);
    assert_eq!(ran.code, 127);
    assert!(ran.err.starts_with("error: ") && ran.err.contains("help"), "{}", ran.err);
    assert_eq!(run(&[&policy]).code, 126);
}

#[test]
fn time_that_is_up_names_its_line() {
    let dir = Dir::new("time");
    let policy = dir.file("bare.ron", BARE);
    let late = palisade(&["run", "-p", &policy, "--set", "process.timeout=100ms", "sleep", "60"]);
    assert_eq!(late.code, 124, "{}", late.err);
    assert_eq!(late.err.lines().count(), 1);
    assert!(late.err.contains("timeout at --set process.timeout=100ms"), "{}", late.err);
    let written = dir.file("late.ron", &BARE.replace("(env", "(timeout: \"100ms\", env"));
    let late = palisade(&["run", "-p", &written, "sleep", "60"]);
    assert!(late.err.contains("late.ron:4:"), "{}", late.err);
}

#[test]
fn a_wrong_policy_is_118_with_its_line() {
    let dir = Dir::new("wrong");
    let good = dir.file("good.ron", BARE);
    let bad = dir.file("bad.ron", &BARE.replace("env", "evn"));
    let ran = palisade(&["run", "-p", &bad, "true"]);
    assert_eq!(ran.code, 118);
    assert!(ran.err.contains("bad.ron:4:") && ran.err.contains("^^^"), "{}", ran.err);
    assert!(ran.err.contains("did you mean `env`?") && !ran.err.contains('\x1b'), "{}", ran.err);
    assert_eq!(palisade(&["plan", "-p", "no-such-policy"]).code, 118);

    let ran = palisade(&["policy", "check", &good, &bad]);
    assert_eq!(ran.code, 118);
    assert_eq!(ran.out, format!("{good}: good\n"));
    let ran = palisade(&["policy", "check", "--json", &good, &bad]);
    let verdicts = json(&ran.out);
    assert_eq!((ran.code, &verdicts[0]["good"], &verdicts[1]["kind"]), (118, &true.into(), &"policy".into()));
    // A file of the current directory is meant where a name cannot be.
    assert_eq!(shell("$P policy check good.ron", &dir.0).code, 0);
    let missing = dir.file("missing.ron", "(version: 1, plugins: {\"no-such\": ()})");
    assert_eq!(palisade(&["policy", "check", &missing]).code, 119);
    assert_eq!(palisade(&["policy", "check", &missing, &bad]).code, 118);
}

#[test]
fn a_plan_has_every_step_with_its_reason() {
    let dir = Dir::new("plan");
    let policy = dir.file("bare.ron", &BARE.replace("(env", "(nice: 5, umask: \"077\", env"));
    let text = palisade(&["plan", "-p", &policy, "--", "make", "-j2"]);
    assert_eq!(text.code, 0, "{}", text.err);
    assert!(text.out.contains("command  make -j2") && text.out.contains("bare.ron:4:"), "{}", text.out);
    let ran = palisade(&["plan", "-p", &policy, "--json", "make"]);
    let plan = json(&ran.out);
    assert_eq!((&plan["version"], &plan["command"][0]), (&1.into(), &"make".into()));
    let steps = plan["steps"].as_array().unwrap();
    assert!(!steps.is_empty());
    for (index, step) in steps.iter().enumerate() {
        assert_eq!(step["number"], index + 1);
        assert!(step["stage"].is_string() && step["plugin"].is_string() && step["words"].is_string());
        assert!(text.out.contains(step["words"].as_str().unwrap()), "{step}");
    }
}

#[test]
fn a_report_goes_where_it_is_sent() {
    let dir = Dir::new("report");
    dir.file("bare.ron", BARE);
    let ran = shell("$P run -p ./bare.ron --report r.json -- sh -c 'exit 3'", &dir.0);
    assert_eq!((ran.code, ran.err.as_str()), (3, ""));
    assert_eq!(dir.names(), ["bare.ron", "r.json"]);
    let path = dir.path("r.json");
    assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
    let report = json(&fs::read_to_string(&path).unwrap());
    assert_eq!(report["version"], 1);
    assert_eq!(report["workload"]["ended"]["exited"]["code"], 3);
    assert_eq!(report["workload"]["exit_code"], 3);
    assert_eq!(report["policy"]["files"][0]["sha256"].as_str().unwrap().len(), 64);

    let ran = shell("$P run -p ./bare.ron --report - -- echo first", &dir.0);
    let (first, rest) = ran.out.split_once('\n').unwrap();
    assert_eq!((first, &json(rest)["workload"]["argv"][1]), ("first", &"first".into()));
    let ran = shell("$P run -p ./bare.ron --report fd:5 true 5>&1 >/dev/null", &dir.0);
    assert_eq!(json(&ran.out)["workload"]["exit_code"], 0);
    let ran = shell("echo old > log; $P run -p ./bare.ron --report fd:5 true 5>>log; cat log", &dir.0);
    assert_eq!(json(ran.out.strip_prefix("old\n").unwrap())["version"], 1);
    assert_eq!(shell("$P run -p ./bare.ron --report fd:5 true 5<log", &dir.0).code, 2);
}

#[test]
fn a_report_is_written_also_of_what_did_not_start() {
    let dir = Dir::new("failed");
    dir.file("bare.ron", BARE);
    let ran = shell("$P run -p ./bare.ron --report r.json no-such-command", &dir.0);
    assert_eq!(ran.code, 127);
    let report = json(&fs::read_to_string(dir.path("r.json")).unwrap());
    assert_eq!(report["workload"]["exit_code"], 127);
    let ran = shell("$P run -p ./gone.ron --report - true", &dir.0);
    assert_eq!(ran.code, 118);
    let report = json(&ran.out);
    assert!(report["workload"]["ended"]["not_started"]["reason"].as_str().unwrap().contains("gone.ron"));
}

/// What lies in the way of a report is not overwritten, and is known before anything starts.
#[test]
fn an_impossible_report_starts_nothing() {
    let dir = Dir::new("impossible");
    dir.file("bare.ron", BARE);
    dir.file("target", "kept");
    std::os::unix::fs::symlink("target", dir.path("link")).unwrap();
    for place in ["link", ".", "nowhere/r.json", "/dev/stdout"] {
        let ran = shell(&format!("$P run -p ./bare.ron --report {place} touch started"), &dir.0);
        assert_eq!(ran.code, 2, "{place}: {}", ran.err);
    }
    assert_eq!(dir.names(), ["bare.ron", "link", "target"]);
    assert_eq!(fs::read_to_string(dir.path("target")).unwrap(), "kept");
    // A device stays one.
    let ran = shell("$P run -p ./bare.ron --report /dev/null true", &dir.0);
    assert_eq!(ran.code, 0, "{}", ran.err);
    assert!(!fs::metadata("/dev/null").unwrap().is_file());
    let ran = shell("$P run -p ./bare.ron --report /dev/full true", &dir.0);
    assert_eq!(ran.code, 125, "{}", ran.err);
}

#[test]
fn what_is_done_is_said_with_v() {
    let dir = Dir::new("verbose");
    let policy = dir.file("bare.ron", &BARE.replace("(env", "(nice: 5, env"));
    let ran = palisade(&["run", "-v", "-p", &policy, "--", "nice"]);
    assert_eq!((ran.code, ran.out.as_str()), (0, "5\n"), "{}", ran.err);
    let lines: Vec<&str> = ran.err.lines().collect();
    assert!(lines[0].starts_with("palisade: policy ") && lines[0].contains("bare.ron"));
    assert!(lines.iter().any(|line| line.contains(": enforced")), "{}", ran.err);
    assert!(ran.err.contains("palisade: ended: exit code 0; "), "{}", ran.err);
}

#[test]
fn policies_are_listed_and_shown() {
    let dir = Dir::new("policies");
    let bare = dir.file("bare.ron", BARE);
    let ran = palisade(&["policy", "list", "--json", "--policy-dir", dir.0.to_str().unwrap()]);
    assert_eq!(ran.code, 0, "{}", ran.err);
    let listed = json(&ran.out);
    let names: Vec<&str> = listed.as_array().unwrap().iter().map(|p| p["name"].as_str().unwrap()).collect();
    for name in ["bare", "base", "build", "default", "judge", "observe", "offline", "untrusted"] {
        assert!(names.contains(&name), "{names:?}");
    }
    assert!(palisade(&["policy", "list"]).out.contains("untrusted"));
    assert_eq!(palisade(&["policy", "show", &bare]).out, BARE);
    assert_eq!(json(&palisade(&["policy", "show", "--json", &bare]).out)["text"], BARE);
    let ran = palisade(&["policy", "show", "--resolved", "--set", "process.nice=7", &bare]);
    assert!(ran.out.contains("bare.ron:4:") && ran.out.contains("(nice: 7)"), "{}", ran.out);
    let ran = palisade(&["policy", "show", "--resolved", "--json", "--set", "process.nice=7", &bare]);
    let layers = &json(&ran.out)["sections"][0]["layers"];
    assert_eq!(layers[1]["from"], "--set process.nice=7");
}

#[test]
fn plugins_are_judged_without_running_them() {
    let dir = Dir::new("plugins");
    let plugins = dir.0.to_str().unwrap();
    dir.file("libpalisade_not_elf.so", "no library");
    let ran = palisade(&["plugin", "list", "--json", "--plugin-dir", plugins]);
    assert_eq!(ran.code, 119);
    let listed = json(&ran.out);
    let found = listed.as_array().unwrap().iter().find(|p| p["name"] == "not-elf").unwrap();
    assert!(found["error"].is_string());
    for args in [["plugin", "info", "not-elf"], ["plugin", "verify", "not-elf"], ["doctor", "not-elf", "--json"]] {
        let ran = palisade(&[&args[..], &["--plugin-dir", plugins]].concat());
        assert_eq!(ran.code, 119, "{args:?}: {}{}", ran.out, ran.err);
    }
    let ran = palisade(&["doctor", "not-elf", "--json", "--plugin-dir", plugins]);
    assert_eq!(json(&ran.out)["views"][0]["plugins"][0]["name"], "not-elf");
    assert_eq!(palisade(&["plugin", "info", "no-such-plugin"]).code, 119);
}

#[test]
fn completions_are_there_for_the_usual_shells() {
    for shell in ["bash", "zsh", "fish"] {
        let ran = palisade(&["completions", shell]);
        assert_eq!(ran.code, 0);
        for word in ["policy-dir", "doctor", "completions"] {
            assert!(ran.out.contains(word), "{shell} lacks {word}");
        }
    }
    let script = palisade(&["completions", "bash"]).out;
    if has("bash") {
        let ran = fed(&["bash", "-n"], &script);
        assert_eq!((ran.code, ran.err.as_str()), (0, ""));
    }
}

#[test]
fn the_manual_renders() {
    let page = palisade(&["man"]);
    assert_eq!(page.code, 0);
    let (renderer, complaints): (&[&str], _) = if has("mandoc") {
        (&["mandoc", "-Tutf8"], None)
    } else if has("man") {
        (&["man", "--warnings", "-l", "-"], Some(""))
    } else {
        // Neither is everywhere; the page itself is looked at below.
        (&["cat"], None)
    };
    let ran = fed(renderer, &page.out);
    assert_eq!(ran.code, 0, "{}", ran.err);
    if let Some(none) = complaints {
        assert_eq!(ran.err, none);
    }
    for word in ["PALISADE POLICY CHECK", "EXIT CODES", "plugins.lock"] {
        assert!(ran.out.contains(word), "{word}: {}", ran.out);
    }
}

/// As any filter whose reader went away: no panic, no message.
#[test]
fn a_reader_that_goes_away_is_no_error() {
    let dir = Dir::new("pipe");
    let ran = shell("{ $P man; echo $? >&2; } | true", &dir.0);
    assert!(["0\n", "141\n"].contains(&ran.err.as_str()), "{}", ran.err);
    let ran = shell("$P man > /dev/full", &dir.0);
    assert_eq!(ran.code, 125);
    assert!(ran.err.contains("could not be written"), "{}", ran.err);
}

fn has(program: &str) -> bool {
    let search = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&search).any(|dir| dir.join(program).is_file())
}

fn fed(argv: &[&str], input: &str) -> Ran {
    let mut child = Command::new(argv[0])
        .args(&argv[1..])
        .env("MANWIDTH", "80")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    child.stdin.take().unwrap().write_all(input.as_bytes()).unwrap();
    child.wait_with_output().unwrap().into()
}
