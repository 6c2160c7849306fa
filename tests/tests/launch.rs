//! The life of a launch: exit codes, refusals, descriptors, init, signals, limits, and that nothing stays behind.

use palisade_tests::{Leftovers, Ran, Run, Scratch, Who, everybody, program};
use std::io::{BufRead as _, BufReader, Read as _};
use std::os::unix::process::CommandExt as _;
use std::process::{Child, Stdio};
use std::sync::{Mutex, MutexGuard};
use std::time::{Duration, Instant};

/// What is left behind can be told only while no other test of this file runs.
fn alone() -> MutexGuard<'static, ()> {
    static ONE: Mutex<()> = Mutex::new(());
    ONE.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
}

/// A policy with a view and a pid namespace, for root and for anybody.
fn small(process: &str, plugins: &str) -> String {
    format!(
        r#"Policy(
    version: 1,
    process: (env: [Keep(["PATH"])], cwd: "/tmp", {process}),
    plugins: {{
        "namespaces": (user: New, mount: New, pid: New, ipc: New, uts: New, net: New),
        "filesystem": (entries: [System, Proc, Dev, Tmpfs("/tmp")]),
        "privileges": (),
        {plugins}
    }},
)"#
    )
}

fn sh(scratch: &Scratch, process: &str, script: &str) -> Run {
    Run::under(scratch.policy(&small(process, "")), ["sh", "-c", script])
}

#[test]
fn the_workloads_own_code_and_signal_come_through() {
    let _alone = alone();
    let scratch = Scratch::new();
    let before = Leftovers::now();
    for who in everybody("codes") {
        for code in [0, 1, 7, 42, 125, 255] {
            sh(&scratch, "", &format!("exit {code}")).who(who).ran().code(code);
        }
        for (name, number) in [("TERM", 15), ("KILL", 9), ("SEGV", 11), ("USR1", 10)] {
            let ran = sh(&scratch, "", &format!("kill -{name} $$")).who(who).ran().code(128 + number);
            assert!(ran.stderr.contains(&format!("SIG{name}")), "{}", ran.stderr);
        }
    }
    before.same();
}

/// A policy that leaves everything as it is, for what needs no namespace.
fn bare_policy(process: &str, plugins: &str) -> String {
    format!("Policy(version: 1, process: (env: Keep([\"PATH\"]), {process}), plugins: {{\n{plugins}\n}})")
}

#[test]
fn every_code_there_is_comes_through() {
    let _alone = alone();
    let scratch = Scratch::new();
    let before = Leftovers::now();
    let policy = scratch.policy(&bare_policy("", ""));
    for code in 0..256 {
        Run::under(&policy, ["sh", "-c", &format!("exit {code}")]).ran().code(code);
    }
    before.same();
}

#[test]
fn the_policy_may_name_the_command() {
    let _alone = alone();
    let scratch = Scratch::new();
    let policy = scratch.policy(&bare_policy("argv: [\"sh\", \"-c\", \"echo of the policy; exit 9\"],", ""));
    let run = |words: &[&str]| Run::palisade(["run", "--policy", policy.to_str().unwrap()].iter().chain(words)).ran();
    run(&[]).code(9).prints("of the policy");
    // One on the command line takes its place, and where there is none at all, nothing runs.
    assert_eq!(run(&["--", "echo", "of the caller"]).code(0).stdout, "of the caller\n");
    let none = scratch.policy(&bare_policy("", ""));
    Run::palisade(["run", "--policy", none.to_str().unwrap()]).ran().code(2).says("no command").says("process.argv");
}

/// (exit code, the line, what is said of it, the line as it can be had)
fn impossible_lines() -> Vec<(i32, &'static str, Vec<&'static str>, &'static str)> {
    let view = "\"namespaces\": (user: New, mount: New),";
    let view = |entries: &str| format!("{view} \"filesystem\": (entries: [{entries}])").leak();
    vec![
        (
            121,
            "\"namespaces\": (user: AsNeeded, net: Join(\"/no/such/ns\"))",
            vec!["cannot open the net namespace", "openat(", "ENOENT", "/proc/PID/ns/net", "(prepare)", "help"],
            "\"namespaces\": (user: New, net: New)",
        ),
        (
            120,
            view("System, Bind(\"/no/such\")"),
            vec!["there is no /no/such to bind", "optional: true", "help"],
            view("System, Bind(from: \"/no/such\", optional: true)"),
        ),
        (
            120,
            "\"privileges\": (capabilities: (keep: [\"CAP_SYS_RESOURCE\"]))",
            vec!["the launcher does not have CAP_SYS_RESOURCE", "help"],
            "\"namespaces\": (user: AsNeeded), \"privileges\": (capabilities: (keep: []))",
        ),
        (
            120,
            "\"cgroups\": (pids: (max: 50), parent: \"/no/such\")",
            vec!["no cgroup can be made", "ENOENT", "help"],
            "\"cgroups\": (pids: (max: 50), parent: \"/no/such\", demand: Degrade)",
        ),
        (
            121,
            "\"namespaces\": (user: AsNeeded), \"privileges\": (), \"landlock\": (rules: [Read(\"/\"), Execute(\"/\"), Read(\"/no/such\")])",
            vec!["/no/such, which does not exist in the workload's view", "optional: true", "(seal)", "help"],
            "\"namespaces\": (user: AsNeeded), \"privileges\": (), \"landlock\": (rules: [Read(\"/\"), Execute(\"/\")])",
        ),
        (
            118,
            "\"namespaces\": (user: AsNeeded), \"privileges\": (), \"seccomp\": (deny: [Call(\"mounnt\")])",
            vec!["unknown system call `mounnt`", "did you mean `mount`", "help"],
            "\"namespaces\": (user: AsNeeded), \"privileges\": (), \"seccomp\": (deny: [Call(\"mount\")])",
        ),
    ]
}

/// Of each plugin one line that cannot be had: nothing runs, and the error names the line, the call and what to do.
#[test]
fn an_impossible_line_of_any_plugin_is_named() {
    let _alone = alone();
    let scratch = Scratch::new();
    let before = Leftovers::now();
    for who in everybody("impossible-lines") {
        for (code, line, said, possible) in impossible_lines() {
            let policy = scratch.policy(&bare_policy("", line));
            let mut run = Run::under(&policy, ["echo", "it ran"]).who(who);
            if who == Who::Root {
                // What this test was started with may have the capability.
                run = run.behind(&["setpriv", "--bounding-set=-sys_resource", "--inh-caps=-sys_resource"]);
            }
            let ran = run.ran().code(code);
            assert_eq!(ran.stdout, "", "{line}");
            let place = format!("{}:2:", policy.display());
            drop(said.into_iter().fold(ran.says(&place), Ran::says));
            let twin = scratch.policy(&bare_policy("", possible));
            assert_eq!(Run::under(twin, ["echo", "it ran"]).who(who).ran().code(0).stdout, "it ran\n", "{possible}");
        }
    }
    before.same();
}

/// (exit code, policy, command, what is said)
fn failures() -> Vec<(i32, String, Vec<&'static str>, &'static str)> {
    let plain = |process: &str| small(process, "");
    vec![
        (118, "Policy(version: 1, plugin: {})".to_owned(), vec!["true"], "did you mean `plugins`"),
        (118, "Policy(version: 9)".to_owned(), vec!["true"], "version"),
        (118, plain("umask: \"999\","), vec!["true"], "umask"),
        (119, small("", "\"sekcomp\": (),"), vec!["true"], "there is no plugin `sekcomp`"),
        (121, plain("").replace("/tmp\", ", "/no/where\", "), vec!["true"], "chdir(\"/no/where\")"),
        (126, plain(""), vec!["/etc/passwd"], "/etc/passwd"),
        (127, plain(""), vec!["no-such-command"], "the command `no-such-command` was not found"),
        (127, plain(""), vec!["/no/such/command"], "was not found"),
    ]
}

#[test]
fn every_kind_of_failure_has_its_code_and_leaves_nothing() {
    let _alone = alone();
    let scratch = Scratch::new();
    let before = Leftovers::now();
    for who in everybody("failures") {
        for (code, policy, command, said) in failures() {
            Run::under(scratch.policy(&policy), command).who(who).ran().code(code).says(said);
        }
        Run::palisade(["run", "--polcy", "x"]).who(who).ran().code(2).says("--policy");
        Run::palisade(["run", "--policy", "no-such-policy", "true"]).who(who).ran().code(118);
    }
    before.same();
}

/// What the launcher cannot give is found while planning: an ordinary user without a user namespace.
#[test]
fn what_the_host_cannot_give_is_refused_before_anything_starts() {
    let _alone = alone();
    let scratch = Scratch::new();
    let policy = scratch.policy("Policy(version: 1, plugins: {\n  \"namespaces\": (mount: New),\n})");
    let ran = Run::under(&policy, ["true"]).who(Who::User).ran().code(120);
    ran.says("CAP_SYS_ADMIN").says(&format!("{}:2", policy.display())).says("help");
    if palisade_tests::is_root() {
        Run::under(&policy, ["true"]).who(Who::Root).ran().code(0);
    }
}

/// One line that cannot be had ends the launch before the workload: nothing of it runs, all is undone, and the error
/// names policy line, call, errno and remedy.
#[test]
fn one_impossible_line_ends_the_launch() {
    let _alone = alone();
    let scratch = Scratch::new();
    let mark = scratch.path().join("mark");
    let before = Leftovers::now();
    let bind = |from: &str| {
        small("", "").replace(
            "Tmpfs(\"/tmp\")",
            &format!("Tmpfs(\"/tmp\"), Bind(from: \"{}\", mode: ReadWrite), Bind(\"{from}\")", scratch.text()),
        )
    };
    for who in everybody("impossible") {
        let touch = ["touch".to_owned(), mark.display().to_string()];
        let policy = scratch.policy(&bind("/no/such/directory"));
        let ran = Run::under(&policy, touch.clone()).who(who).ran().code(120);
        ran.says("/no/such/directory").says(policy.to_str().unwrap()).says("help");
        assert!(!mark.exists());
        // An rlimit above the hard one is tried in the child, after the view was built.
        let impossible = bind("/usr").replace("cwd: \"/tmp\",", "cwd: \"/tmp\", rlimits: (nofile: 4000000000),");
        let ran = Run::under(scratch.policy(&impossible), touch.clone()).who(who).ran().code(121);
        ran.says("this failed: limits nofile")
            .says("setrlimit(RLIMIT_NOFILE")
            .says("EPERM")
            .says("policy")
            .says("help");
        assert!(!mark.exists());
        // The twin: without the line it runs.
        Run::under(scratch.policy(&bind("/usr")), touch).who(Who::User).ran().code(0);
        std::fs::remove_file(&mark).unwrap();
        before.same();
    }
}

#[test]
fn descriptors_end_at_two_unless_the_policy_keeps_them() {
    let _alone = alone();
    let scratch = Scratch::new();
    let run = |process: &str, open: &str| {
        let policy = scratch.policy(&small(process, ""));
        let line = format!(
            "exec {open}; exec {} run --policy {} -- sh -c 'ls /proc/self/fd | tr \"\\n\" \" \"'",
            program().display(),
            policy.display()
        );
        Run::bare(["bash", "-c", &line])
    };
    for who in everybody("fds") {
        // The twin: without palisade they are inherited. `ls` itself opens one more.
        let bare =
            Run::bare(["bash", "-c", "exec 7</etc/passwd 9</etc; ls /proc/self/fd | tr '\\n' ' '"]).who(who).ran();
        assert!(bare.stdout.contains(" 7 ") && bare.stdout.contains(" 9 "), "{}", bare.stdout);
        let ran = run("", "7</etc/passwd 9</etc").who(who).ran().code(0);
        assert_eq!(ran.stdout.trim(), "0 1 2 3");
        let ran = run("keep_fds: [7],", "7</etc/passwd 9</etc").who(who).ran().code(0);
        assert_eq!(ran.stdout.trim(), "0 1 2 3 7");
        run("keep_fds: [8],", "7</etc/passwd")
            .who(who)
            .ran()
            .code(118)
            .says("file descriptor 8 was not given to palisade");
        run("keep_fds: [3],", "7</etc/passwd").who(who).ran().code(118).says("file descriptor 3");
    }
}

/// Files, directories, sockets and pipes alike; and what is kept is the very same thing.
#[test]
fn no_kind_of_descriptor_gets_in_unless_it_is_kept() {
    let _alone = alone();
    let scratch = Scratch::new();
    let script = scratch.file("leak.py", include_bytes!("../probes/leak.py"));
    let policy = scratch.policy(&small("", ""));
    for who in everybody("leaks") {
        let run = |palisade: &str, keep: &str| {
            let words = ["python3", script.to_str().unwrap(), palisade, policy.to_str().unwrap(), keep];
            Run::bare(words).who(who).ran().code(0).stdout.trim().to_owned()
        };
        let palisade = program().to_str().unwrap();
        assert_eq!(run(palisade, "[]"), "0 1 2 | nothing");
        assert_eq!(run(palisade, "[40]"), "0 1 2 40 | kept");
        // The twin: without palisade all eight get in.
        let bare = run("-", "[]");
        assert!(bare.split(' ').take_while(|word| *word != "|").count() >= 11 && bare.ends_with("| kept"), "{bare}");
    }
}

#[test]
fn standard_streams_go_where_the_policy_says() {
    let _alone = alone();
    let scratch = Scratch::new();
    let out = scratch.path().join("out");
    scratch.file("in", "from a file\n");
    let to = |how: &str| format!("stdin: File(\"{}/in\"), stdout: {how}(\"{}\"),", scratch.text(), out.display());
    for _ in 0..2 {
        sh(&scratch, &to("File"), "cat; echo on stderr >&2")
            .who(Who::User)
            .stdin("not this")
            .ran()
            .code(0)
            .says("on stderr");
    }
    assert_eq!(std::fs::read_to_string(&out).unwrap(), "from a file\n");
    sh(&scratch, &to("Append"), "cat").who(Who::User).ran().code(0);
    assert_eq!(std::fs::read_to_string(&out).unwrap(), "from a file\nfrom a file\n");
    let ran = sh(&scratch, "stdin: Null, stdout: Null,", "cat; echo lost; echo seen >&2").stdin("x").ran().code(0);
    assert_eq!((ran.stdout.as_str(), ran.stderr.as_str()), ("", "seen\n"));
    let ran = sh(&scratch, "", "cat").stdin("as it came").ran().code(0);
    assert_eq!(ran.stdout, "as it came");
    // Standard error on its own, and a file that cannot be opened, which is told before anything starts.
    let err = scratch.path().join("err");
    let run = sh(&scratch, &format!("stderr: File(\"{}\"),", err.display()), "echo out; echo err >&2");
    assert_eq!(run.who(Who::User).ran().code(0).stdout, "out\n");
    assert_eq!(std::fs::read_to_string(&err).unwrap(), "err\n");
    let ran = sh(&scratch, "stdout: File(\"/no/such/file\"),", "echo it ran >&2").ran().code(121);
    assert!(!ran.stderr.contains("it ran"), "{}", ran.stderr);
    ran.says("/no/such/file cannot be opened").says("ENOENT");
}

#[test]
fn output_ends_at_its_limit() {
    let _alone = alone();
    let scratch = Scratch::new();
    let before = Leftovers::now();
    for who in everybody("output") {
        let limited = "output_limit: \"1KiB\", grace: \"100ms\",";
        let ran = sh(&scratch, limited, "yes | head -c 5000; sleep 20").who(who).ran().code(122);
        assert_eq!(ran.stdout.len(), 1024);
        assert!(ran.stderr.contains("output_limit"), "{}", ran.stderr);
        assert!(ran.took < Duration::from_secs(10));
        let ran = sh(&scratch, limited, "yes | head -c 1024").who(who).ran().code(0);
        assert_eq!(ran.stdout.len(), 1024);
    }
    // A reader that goes away ends the workload by SIGPIPE, as without palisade.
    let policy = scratch.policy(&small("output_limit: \"1GiB\",", ""));
    let line = format!(
        "{} run --policy {} -- yes | head -n 1; echo ${{PIPESTATUS[0]}}",
        program().display(),
        policy.display()
    );
    let ran = Run::bare(["bash", "-c", &line]).ran().code(0);
    assert_eq!(ran.stdout, "y\n141\n", "{}", ran.stderr);
    before.same();
}

/// A reader that does not read holds up neither time limits nor signals; one that is slow gets everything.
#[test]
fn a_reader_that_does_not_read_holds_up_nothing() {
    let _alone = alone();
    let scratch = Scratch::new();
    let before = Leftovers::now();
    let begun = Instant::now();
    let live = Live::new(&sh(&scratch, "output_limit: \"1GiB\", timeout: \"300ms\",", "exec yes"));
    assert_eq!(live.end().0, Some(124));
    let mut live = Live::new(&sh(&scratch, "output_limit: \"1GiB\",", "echo ready; exec yes"));
    assert_eq!(live.line(), "ready");
    std::thread::sleep(Duration::from_millis(200));
    live.signal(palisade_sys::signal::SIGTERM);
    // What is left of the output is kept for the reader until somebody wants palisade itself to end.
    std::thread::sleep(Duration::from_millis(200));
    live.signal(palisade_sys::signal::SIGTERM);
    let (code, said) = live.end();
    assert_eq!(code, Some(143));
    assert!(said.contains("the last of the output was not read"), "{said}");
    assert!(begun.elapsed() < Duration::from_secs(10), "{:?}", begun.elapsed());
    let line = format!(
        "{} run --policy {} -- head -c 300000 /dev/zero | (sleep 0.5; wc -c)",
        program().display(),
        scratch.policy(&small("output_limit: \"1GiB\",", "")).display()
    );
    assert_eq!(Run::bare(["bash", "-c", &line]).ran().code(0).stdout, "300000\n");
    before.same();
}

#[test]
fn init_is_pid_1_reaps_and_takes_everything_with_it() {
    let _alone = alone();
    let scratch = Scratch::new();
    let before = Leftovers::now();
    for who in everybody("init") {
        let ran =
            sh(&scratch, "", "cat /proc/1/comm; tr '\\0' ' ' < /proc/1/cmdline; echo; echo $$").who(who).ran().code(0);
        assert_eq!(
            ran.stdout,
            format!(
                "palisade-init\npalisade-init{}\n2\n",
                ran.stdout.lines().nth(1).unwrap().strip_prefix("palisade-init").unwrap()
            )
        );
        assert!(!ran.stdout.contains(".ron"), "init's command line tells of the host: {}", ran.stdout);
        // Orphans: the children of a child that ended are init's, and are no zombies once they end.
        let script = "(sh -c 'sleep 0.2 &' ); sleep 0.5; grep -l '^State:.Z' /proc/[0-9]*/status 2>/dev/null; exit 0";
        let ran = sh(&scratch, "", script).who(who).ran().code(0);
        assert_eq!(ran.stdout, "");
        // What is still there when the workload ends, ends with it.
        sh(&scratch, "", "setsid sleep 1000 & sleep 0.1; exit 3").who(who).ran().code(3);
        before.same();
        // Without an init the workload is pid 1 itself.
        let ran = sh(&scratch, "init: false,", "echo $$; exit 5").who(who).ran().code(5);
        assert_eq!(ran.stdout, "1\n");
    }
    let policy = scratch.policy("Policy(version: 1, process: (\n  init: true,\n))");
    Run::under(&policy, ["true"]).ran().code(118).says("an init needs a new pid namespace").says(":2:");
}

/// Without a pid namespace the launcher adopts orphans and ends them.
#[test]
fn orphans_without_a_pid_namespace_are_ended() {
    let _alone = alone();
    let scratch = Scratch::new();
    let policy = scratch.policy("Policy(version: 1, process: (env: Keep([\"PATH\"])))");
    let begun = Instant::now();
    let script = "setsid sh -c 'echo $$; exec sleep 987' & sleep 0.2; exit 4";
    let ran = Run::under(&policy, ["sh", "-c", script]).ran().code(4);
    let pid = ran.stdout.trim();
    assert!(begun.elapsed() < Duration::from_secs(10));
    assert!(!std::path::Path::new(&format!("/proc/{pid}")).exists(), "{pid} is still there");
    // The twin: without palisade it stays.
    let ran = Run::bare(["sh", "-c", "setsid sleep 3 >/dev/null 2>&1 & echo $!"]).ran();
    assert!(std::path::Path::new(&format!("/proc/{}", ran.stdout.trim())).exists());
}

/// The state of a process as the kernel has it; `-` where there is none.
fn state_of(pid: u32) -> char {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    stat.rsplit_once(") ").and_then(|(_, fields)| fields.chars().next()).unwrap_or('-')
}

#[track_caller]
fn until(mut is_so: impl FnMut() -> bool) {
    let begun = Instant::now();
    while !is_so() {
        assert!(begun.elapsed() < Duration::from_secs(10), "it does not come to it");
        std::thread::sleep(Duration::from_millis(5));
    }
}

/// A run whose output is read while it goes on.
struct Live {
    child: Child,
    out: BufReader<std::process::ChildStdout>,
}

impl Live {
    fn new(run: &Run) -> Self {
        let mut child = run
            .command()
            .process_group(0)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let out = BufReader::new(child.stdout.take().unwrap());
        Self { child, out }
    }

    fn line(&mut self) -> String {
        let mut line = String::new();
        self.out.read_line(&mut line).unwrap();
        line.trim().to_owned()
    }

    fn signal(&self, number: i32) {
        palisade_sys::process::kill(i32::try_from(self.child.id()).unwrap(), number).unwrap();
    }

    fn state(&self) -> char {
        state_of(self.child.id())
    }

    fn end(mut self) -> (Option<i32>, String) {
        let begun = Instant::now();
        let status = loop {
            if let Some(status) = self.child.try_wait().unwrap() {
                break status;
            }
            assert!(begun.elapsed() < Duration::from_secs(20), "it does not end");
            std::thread::sleep(Duration::from_millis(2));
        };
        let mut rest = String::new();
        self.child.stderr.take().unwrap().read_to_string(&mut rest).unwrap();
        (status.code(), rest)
    }
}

#[test]
fn signals_are_passed_on() {
    let _alone = alone();
    let scratch = Scratch::new();
    let before = Leftovers::now();
    use palisade_sys::signal::{SIGCONT, SIGHUP, SIGINT, SIGQUIT, SIGTERM, SIGUSR1, SIGUSR2, SIGWINCH};
    for who in everybody("signals") {
        for number in [SIGINT, SIGTERM, SIGHUP, SIGQUIT, SIGUSR1, SIGUSR2, SIGWINCH, SIGCONT] {
            let name = palisade_sys::signal::name(number).unwrap().trim_start_matches("SIG");
            let script = format!("trap 'echo got; exit 9' {name}; echo ready; while :; do sleep 0.05; done");
            let mut live = Live::new(&sh(&scratch, "", &script).who(who));
            assert_eq!(live.line(), "ready");
            live.signal(number);
            assert_eq!(live.line(), "got", "{name}");
            assert_eq!(live.end().0, Some(9), "{name}");
        }
        // One that stops: the workload may act on it first; palisade stops as well, and SIGCONT wakes both.
        let script = "trap 'echo got' TSTP; echo ready; while :; do sleep 0.05; done";
        let mut live = Live::new(&sh(&scratch, "", script).who(who));
        assert_eq!(live.line(), "ready");
        live.signal(palisade_sys::signal::SIGTSTP);
        assert_eq!(live.line(), "got");
        until(|| live.state() == 'T');
        live.signal(SIGCONT);
        until(|| live.state() != 'T');
        live.signal(SIGTERM);
        assert_eq!(live.end().0, Some(128 + SIGTERM));
        // One that the workload does not catch ends it, and palisade tells.
        let mut live = Live::new(&sh(&scratch, "", "echo ready; exec sleep 100").who(who));
        live.line();
        live.signal(SIGTERM);
        assert_eq!(live.end().0, Some(128 + SIGTERM));
    }
    before.same();
}

/// A terminal's `^C` goes to the whole group: to the workload too, which must not get it again from palisade.
#[test]
fn an_interrupt_from_the_terminal_arrives_once() {
    let _alone = alone();
    let scratch = Scratch::new();
    let driver = scratch.file("interrupt.py", include_bytes!("../probes/interrupt.py"));
    let before = Leftovers::now();
    let (with_init, without) = (scratch.policy(&small("", "")), scratch.policy(&bare_policy("", "")));
    for who in everybody("interrupt") {
        for policy in [&with_init, &without] {
            let (driver, program, policy) = (driver.to_str(), program().to_str(), policy.to_str());
            let words = ["python3", driver.unwrap(), program.unwrap(), "run", "--policy", policy.unwrap(), "--"];
            let ran = Run::bare(words).who(who).ran().code(0).prints("caught 1\r\n");
            assert!(ran.stdout.trim().ends_with(" 0"), "{}", ran.stdout);
        }
    }
    before.same();
}

/// Without a pid namespace the workload's own process goes with the launcher, too; what it started does not, because
/// only a namespace holds that together.
#[test]
fn killing_the_launcher_kills_a_workload_without_namespaces() {
    let _alone = alone();
    let scratch = Scratch::new();
    let policy = scratch.policy(&bare_policy("", ""));
    for who in everybody("kill-plain") {
        let mut live = Live::new(&Run::under(&policy, ["sh", "-c", "echo $$; exec sleep 1000"]).who(who));
        let pid: u32 = live.line().parse().unwrap();
        assert!(!['-', 'Z'].contains(&state_of(pid)));
        live.signal(palisade_sys::signal::SIGKILL);
        live.child.wait().unwrap();
        until(|| ['-', 'Z'].contains(&state_of(pid)));
    }
}

/// SIGKILL of the launcher cannot be caught: the kernel ends everything inside all the same.
#[test]
fn killing_the_launcher_kills_everything_inside() {
    let _alone = alone();
    let scratch = Scratch::new();
    for who in everybody("kill") {
        let before = Leftovers::now();
        let mut live = Live::new(
            &sh(&scratch, "", "setsid sleep 1000 & setsid sleep 1000 & echo ready; exec sleep 1000").who(who),
        );
        assert_eq!(live.line(), "ready");
        assert_ne!(Leftovers::now(), before);
        live.signal(palisade_sys::signal::SIGKILL);
        live.child.wait().unwrap();
        drop(live);
        before.same();
    }
}

#[test]
fn time_limits_end_everything_inside() {
    let _alone = alone();
    let scratch = Scratch::new();
    let before = Leftovers::now();
    let soon = |ran: &Ran| assert!(ran.took < Duration::from_secs(15), "{:?}", ran.took);
    for who in everybody("time") {
        let ran = sh(&scratch, "timeout: \"300ms\",", "sleep 1000").who(who).ran().code(124);
        soon(&ran);
        ran.says("300ms");
        // One that handles SIGTERM may tidy up, and does not change the outcome.
        let script = "trap 'echo tidied; exit 0' TERM; echo up; while :; do sleep 0.05; done";
        let ran = sh(&scratch, "timeout: \"300ms\",", script).who(who).ran().code(124).prints("tidied");
        soon(&ran);
        // One that ignores it is killed after the grace, with all its children.
        let script = "trap '' TERM; (trap '' TERM; sleep 1000) & while :; do sleep 0.05; done";
        let ran = sh(&scratch, "timeout: \"200ms\", grace: \"200ms\",", script).who(who).ran().code(124);
        soon(&ran);
        before.same();
        // Processor time of all processes together.
        let script = "for i in 1 2 3; do (while :; do :; done) & done; wait";
        let ran = sh(&scratch, "cpu_time: \"500ms\", grace: \"100ms\",", script).who(who).ran().code(124);
        soon(&ran);
        ran.says("500ms");
        // Also of those that another thread than the first one starts.
        let script = "
import os, threading, time
def start():
    for _ in range(2):
        if os.fork() == 0:
            while True: pass
    time.sleep(100)
threading.Thread(target=start, daemon=True).start()
time.sleep(100)";
        let policy = scratch.policy(&small("cpu_time: \"500ms\", grace: \"100ms\",", ""));
        soon(&Run::under(policy, ["python3", "-c", script]).who(who).ran().code(124));
        // The twin: what stays below is left alone.
        sh(&scratch, "timeout: \"30s\", cpu_time: \"30s\",", "sleep 0.3").who(who).ran().code(0);
    }
    before.same();
}

#[test]
fn attributes_are_what_the_policy_says() {
    let _alone = alone();
    let scratch = Scratch::new();
    let script = "umask; ulimit -n; ulimit -Hn; ulimit -f; cat /proc/self/oom_score_adj; nice; pwd; taskset -pc $$ | sed 's/.*: //'";
    let process =
        "umask: \"0027\", rlimits: (nofile: 100, fsize: \"1MiB\"), oom_score_adj: 321, nice: 7, cpu_affinity: \"0\",";
    for who in everybody("attributes") {
        let ran = sh(&scratch, process, script).who(who).ran().code(0);
        assert_eq!(ran.stdout, "0027\n100\n100\n2048\n321\n7\n/tmp\n0\n", "{}", ran.stderr);
        let plain = sh(&scratch, "", script).who(who).ran().code(0);
        assert_ne!(ran.stdout, plain.stdout);
    }
}

/// All sixteen, as the kernel lists them for the workload.
#[test]
fn every_limit_of_getrlimit_is_set() {
    let _alone = alone();
    let scratch = Scratch::new();
    let rows = [
        ("cpu", "\"100s\"", "Max cpu time", "100 100"),
        ("fsize", "\"1MiB\"", "Max file size", "1048576 1048576"),
        ("data", "\"1GiB\"", "Max data size", "1073741824 1073741824"),
        ("stack", "\"4MiB\"", "Max stack size", "4194304 4194304"),
        ("core", "(soft: 0, hard: 1)", "Max core file size", "0 1"),
        ("rss", "\"2GiB\"", "Max resident set", "2147483648 2147483648"),
        ("nproc", "4000", "Max processes", "4000 4000"),
        ("nofile", "(soft: 50, hard: 100)", "Max open files", "50 100"),
        ("memlock", "\"64KiB\"", "Max locked memory", "65536 65536"),
        ("as", "\"8GiB\"", "Max address space", "8589934592 8589934592"),
        ("locks", "10", "Max file locks", "10 10"),
        ("sigpending", "100", "Max pending signals", "100 100"),
        ("msgqueue", "\"4KiB\"", "Max msgqueue size", "4096 4096"),
        ("nice", "0", "Max nice priority", "0 0"),
        ("rtprio", "0", "Max realtime priority", "0 0"),
        ("rttime", "\"1s\"", "Max realtime timeout", "1000000 1000000"),
    ];
    let section = rows.map(|(name, value, ..)| format!("{name}: {value}")).join(", ");
    for who in everybody("rlimits") {
        let list = |process: &str| {
            let policy = scratch.policy(&bare_policy(process, ""));
            Run::under(policy, ["cat", "/proc/self/limits"]).who(who).ran().code(0).stdout
        };
        let listed = list(&format!("rlimits: ({section}),"));
        for (_, _, title, limits) in rows {
            let line = listed.lines().find(|line| line.starts_with(title)).unwrap();
            let found: Vec<&str> = line[title.len()..].split_whitespace().take(2).collect();
            assert_eq!(found.join(" "), limits, "{title}");
        }
        assert_ne!(list(""), listed);
    }
}

#[test]
fn the_environment_is_what_the_rules_give() {
    let _alone = alone();
    let scratch = Scratch::new();
    let run = |env: &str| {
        let policy = small("", "").replace("env: [Keep([\"PATH\"])]", &format!("env: {env}"));
        let run = Run::under(scratch.policy(&policy), ["/usr/bin/env"]);
        let run = run.env("LANG", "C").env("LC_ALL", "C").env("GITHUB_TOKEN", "secret").env("X", "1");
        let ran = run.ran().code(0);
        let mut names: Vec<String> = ran.stdout.lines().map(|l| l.split('=').next().unwrap().to_owned()).collect();
        names.sort();
        names.join(" ")
    };
    assert_eq!(run("[]"), "");
    assert_eq!(run("Keep([\"LC_*\", \"X\"])"), "LC_ALL X");
    assert_eq!(run("[Inherit]"), "HOME LANG LC_ALL PATH X");
    assert_eq!(run("[Inherit, Clear, Set({\"Y\": \"2\"})]"), "Y");
    assert_eq!(run("Keep([\"GITHUB_TOKEN\"])"), "");
    assert_eq!(run("Keep([\"GITHUB_TOKEN\"]), secrets: [\"GITHUB_TOKEN\"]"), "GITHUB_TOKEN");
}

#[test]
fn root_may_name_the_user() {
    if !palisade_tests::is_root() {
        return palisade_tests::skip("root_may_name_the_user:root", "only root can become others");
    }
    let _alone = alone();
    let scratch = Scratch::new();
    let id = |process: &str| {
        let text =
            format!("Policy(version: 1, process: (env: Keep([\"PATH\"]), {process}), plugins: {{\"privileges\": ()}})");
        Run::under(
            scratch.policy(&text),
            ["sh", "-c", "id -u; id -g; id -G; grep -E 'CapEff|CapBnd|NoNewPrivs' /proc/self/status"],
        )
        .ran()
    };
    let ran = id("user: 4321, groups: [4322, 4323],").code(0);
    assert!(ran.stdout.starts_with("4321\n4322\n4322 4323\n"), "{}", ran.stdout);
    assert!(
        ran.stdout.contains("CapEff:\t0000000000000000") && ran.stdout.contains("NoNewPrivs:\t1"),
        "{}",
        ran.stdout
    );
    let ran = id("user: \"nobody\",").code(0);
    assert!(ran.stdout.starts_with("65534\n65534\n65534\n"), "{}", ran.stdout);
    let ran = id("user: 4321, groups: [\"nogroup\", \"daemon\"],").code(0);
    assert!(ran.stdout.starts_with("4321\n65534\n65534 1\n"), "{}", ran.stdout);
    id("user: \"no-such-user\",").code(118).says("there is no user `no-such-user`");
    id("groups: [\"no-such-group\"],").code(118).says("there is no group `no-such-group`");
    // The twin: without a user it is root's.
    assert!(id("").code(0).stdout.starts_with("0\n"));
}

#[test]
fn settings_on_the_command_line_are_one_more_layer() {
    let _alone = alone();
    let scratch = Scratch::new();
    let policy = scratch
        .policy(&small("timeout: \"30s\",", "").replace("version: 1,", "version: 1, locked: [\"process.umask\"],"));
    let run = |set: &str, command: &[&str]| {
        let mut words = vec!["run", "--policy", policy.to_str().unwrap(), "--set", set, "--"];
        words.extend(command);
        Run::palisade(words).ran()
    };
    run("process.timeout=200ms", &["sleep", "100"]).code(124);
    run("process.umask=0077", &["true"]).code(118).says("locked");
    run("process.timout=1s", &["true"]).code(118).says("did you mean `timeout`");
    run("namespaces.hostname=fence", &["hostname"]).code(0).prints("fence");
}

/// On a terminal: ^Z stops palisade and its workload as one job, `fg` wakes both, and ^C reaches the workload once.
#[test]
fn a_terminal_and_its_shell_work_as_without_palisade() {
    let _alone = alone();
    let scratch = Scratch::new();
    let script = scratch.file("terminal.py", include_bytes!("../probes/terminal.py"));
    let before = Leftovers::now();
    for who in everybody("terminal") {
        let words = ["python3".into(), script.clone().into_os_string(), program().into(), "untrusted".into()];
        Run::bare(words).who(who).ran().code(0).prints("caught 1 times");
    }
    before.same();
}

/// A launcher that is killed cannot remove its cgroup; the next launch does.
#[test]
fn the_cgroup_of_a_killed_launcher_is_removed_by_a_later_one() {
    if !palisade_tests::is_root() {
        return palisade_tests::skip("sweep:root", "an ordinary user may have no cgroup");
    }
    let _alone = alone();
    let before = Leftovers::now();
    let mut live = Live::new(&Run::under("untrusted", ["sh", "-c", "echo ready; exec sleep 1000"]));
    assert_eq!(live.line(), "ready");
    live.signal(palisade_sys::signal::SIGKILL);
    live.child.wait().unwrap();
    drop(live);
    // A younger one might be somebody's launch in the making.
    std::thread::sleep(Duration::from_secs(6));
    Run::under("untrusted", ["true"]).ran().code(0);
    before.same();
}
