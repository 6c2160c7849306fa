//! The life of a launch: exit codes, refusals, descriptors, init, signals, limits, and that nothing stays behind.

use palisade_tests::{Leftovers, Ran, Run, Scratch, Who, everybody, program};
use std::io::{BufRead as _, BufReader, Read as _};
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

/// A run whose output is read while it goes on.
struct Live {
    child: Child,
    out: BufReader<std::process::ChildStdout>,
}

impl Live {
    fn new(run: &Run) -> Self {
        let mut child =
            run.command().stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
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
        // One that the workload does not catch ends it, and palisade tells.
        let mut live = Live::new(&sh(&scratch, "", "echo ready; exec sleep 100").who(who));
        live.line();
        live.signal(SIGTERM);
        assert_eq!(live.end().0, Some(128 + SIGTERM));
    }
    before.same();
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
    id("user: \"no-such-user\",").code(118).says("there is no user `no-such-user`");
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
