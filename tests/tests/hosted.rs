//! Plugins in processes of their own: what they can do there, what becomes of those that misbehave, and that nothing of
//! it is left. Each act is shown to work in the launcher's own process first.

use palisade_tests::{Leftovers, PluginDir, Ran, Run, Who, built, slowness, tree};
use serde_json::Value;
use std::ops::Deref;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

/// A directory that is root's with the plugins in it, and a place for an ordinary user.
struct Bench(PluginDir);

impl Deref for Bench {
    type Target = PluginDir;

    fn deref(&self) -> &PluginDir {
        &self.0
    }
}

const PROCESS: &str = "hosts.saboteur=Process";
const LAUNCHER: &str = "hosts.saboteur=Launcher";

impl Bench {
    fn new() -> Option<Self> {
        let bench = Self(PluginDir::new("hosted")?);
        for name in ["readymade", "saboteur"] {
            let from = built().with_file_name(format!("lib{name}.so"));
            std::fs::copy(from, bench.dir.join(format!("libpalisade_{name}.so"))).unwrap();
        }
        for who in [Who::Root, Who::User] {
            for (name, stages) in [("readymade", "build,drop,seal"), ("saboteur", "build")] {
                let words = ["plugin", "verify", name, "--hosted", "--grant", stages];
                bench.palisade(who, &words).ran().code(0).prints("good");
            }
        }
        Some(bench)
    }

    fn policy(&self, plugins: &str, more: &str) -> String {
        let process = "process: (env: Keep([\"PATH\"]), cwd: \"/\")";
        let text = format!("Policy(version: 1, {process}, plugins: {{\n{plugins}\n}}, {more})");
        self.home.policy(&text).to_str().unwrap().to_owned()
    }

    /// A run under a policy with the saboteur, as it is set.
    fn run(&self, who: Who, sets: &[&str], command: &[&str]) -> Ran {
        let policy = self.policy("\"saboteur\": (steps: \"none\"),", "");
        let mut words = vec!["run", "--policy", &policy];
        sets.iter().for_each(|set| words.extend(["--set", set]));
        words.push("--");
        words.extend(command);
        self.palisade(who, &words).ran()
    }

    /// A run in whose report something is looked for.
    fn report(&self, who: Who, policy: &str, sets: &[&str], script: &str) -> (Ran, Value) {
        let file = self.home.path().join(format!("report-{who:?}"));
        drop(std::fs::remove_file(&file));
        let mut words = vec!["run", "--report", file.to_str().unwrap(), "--policy", policy];
        sets.iter().for_each(|set| words.extend(["--set", set]));
        words.extend(["--", "sh", "-c", script]);
        let ran = self.palisade(who, &words).ran();
        let text = std::fs::read_to_string(&file).unwrap_or_else(|e| panic!("{e}: {}", ran.stderr));
        (ran, serde_json::from_str(&text).unwrap())
    }
}

fn host_of<'a>(report: &'a Value, plugin: &str) -> &'a str {
    let all = report["plugins"].as_array().unwrap().iter();
    all.filter(|one| one["name"] == plugin).map(|one| one["host"].as_str().unwrap()).next().unwrap()
}

const OWN: &str = "\"namespaces\": (user: New, mount: New, uts: New, net: New, ipc: New, pid: New),";

#[test]
fn ready_made_steps_are_done_and_reported_wherever_the_plugin_runs() {
    let Some(bench) = Bench::new() else { return };
    let before = Leftovers::now();
    let steps = "\"readymade\": (steps: [
        \"build Hostname(name: \\\"fence\\\")\",
        \"drop Limit(resource: \\\"RLIMIT_NOFILE\\\", soft: 77, hard: 78)\",
        \"seal Filter(instructions: [(6, 0, 0, 0x7fff0000)])\" ]),";
    let policy = bench.policy(&format!("{OWN}\n{steps}"), "hosts: {\"readymade\": Process}");
    for who in [Who::Root, Who::User] {
        for (sets, host) in [(&[][..], "process"), (&["hosts.readymade=Launcher"], "launcher")] {
            let (ran, report) = bench.report(who, &policy, sets, "hostname; ulimit -n");
            assert_eq!(ran.code(0).stdout, "fence\n77\n", "{who:?} {host}");
            assert_eq!((host_of(&report, "readymade"), host_of(&report, "namespaces")), (host, "launcher"));
            let steps = report["steps"].as_array().unwrap().iter().filter(|step| step["plugin"] == "readymade");
            let steps: Vec<&Value> = steps.collect();
            assert_eq!(steps.len(), 3);
            assert!(steps.iter().all(|step| step["outcome"] == "enforced"), "{steps:?}");
            let line = steps[0]["policy_line"].as_str().unwrap();
            assert!(line.starts_with(&format!("{policy}:4:")), "{line}");
        }
        // The twin: nothing of it is so without the steps.
        let plain = bench.policy(OWN, "");
        let (ran, _) = bench.report(who, &plain, &[], "hostname; ulimit -n");
        assert!(!ran.stdout.contains("fence") && !ran.stdout.contains("77"), "{}", ran.stdout);
    }
    let plan = bench.palisade(Who::User, &["plan", "--policy", &policy, "--details", "--", "true"]).ran().code(0);
    plan.prints("hosted   readymade, in a process of its own").prints("Hostname(name:\"fence\")");
    let plan = bench.palisade(Who::User, &["plan", "--policy", &policy, "--json", "--", "true"]).ran().code(0);
    assert_eq!(host_of(&serde_json::from_str(&plan.stdout).unwrap(), "readymade"), "process");
    before.same();
}

#[test]
fn a_plugin_that_is_not_rust_can_be_hosted() {
    let Some(bench) = Bench::new() else { return };
    let from = tree().join("plugins/examples/cpp-limits");
    let place = Path::new(env!("CARGO_TARGET_TMPDIR")).join("hosted-cpp-limits");
    std::fs::create_dir_all(&place).unwrap();
    for name in ["Makefile", "limits.cpp"] {
        std::fs::copy(from.join(name), place.join(name)).unwrap();
    }
    let include = format!("PALISADE_INCLUDE={}", tree().join("core/abi/include").display());
    let made = Command::new("make").args(["-B", "-s", &include]).current_dir(&place).output().unwrap();
    assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
    let file = "libpalisade_cpp_limits.so";
    std::fs::copy(place.join(file), bench.dir.join(file)).unwrap();
    let before = Leftovers::now();
    let section = "\"cpp-limits\": (limits: { \"RLIMIT_NOFILE\": (soft: \"77\", hard: \"78\") }),";
    let policy = bench.policy(section, "hosts: {\"cpp-limits\": Process}");
    for who in [Who::Root, Who::User] {
        // What was not granted is refused there as well.
        let words = ["run", "--policy", &policy, "--", "true"];
        bench.palisade(who, &words).ran().code(119).says("may not act in the workload's process (stage drop)");
        bench.palisade(who, &["plugin", "verify", "cpp-limits", "--hosted", "--grant", "drop"]).ran().code(0);
        let (ran, report) = bench.report(who, &policy, &[], "ulimit -n; ulimit -Hn");
        assert_eq!(ran.code(0).stdout, "77\n78\n", "{who:?}");
        assert_eq!(host_of(&report, "cpp-limits"), "process");
    }
    // What is wrong in its section is shown where it stands.
    let policy = bench.policy("\"cpp-limits\": (\n  limit: {},\n),", "hosts: {\"cpp-limits\": Process}");
    let ran = bench.palisade(Who::User, &["policy", "check", &policy]).ran().code(118);
    ran.says("did you mean `limits`?").says(&format!("{policy}:3:"));
    before.same();
}

/// Each of these works in the launcher's process, as root and as an ordinary user, and does not in a process of its own.
#[test]
fn what_a_plugin_can_do_in_the_launcher_it_cannot_do_in_a_process_of_its_own() {
    let Some(bench) = Bench::new() else { return };
    let home = bench.home.text().to_owned();
    bench.home.file("secret", "what only the user may see");
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let before = Leftovers::now();
    let address = listener.local_addr().unwrap();
    let landlock = palisade_sys::landlock::abi_version().is_ok();
    for who in [Who::Root, Who::User] {
        for act in [
            format!("read {home}/secret"),
            "read /proc/self/environ".to_owned(),
            "read /etc/passwd".to_owned(),
            format!("write {home}/made-{who:?}"),
            format!("remove {home}/made-{who:?}"),
            format!("connect {address}"),
            "spawn true".to_owned(),
            "thread x".to_owned(),
            "signal x".to_owned(),
            "variable PATH".to_owned(),
        ] {
            let how = format!("saboteur.how={act}");
            let at = |host| [how.as_str(), "saboteur.at=configure", host];
            let worked = bench.run(who, &at(LAUNCHER), &["echo", "ran"]).code(121);
            let verb = act.split(' ').next().unwrap();
            worked.says(&format!("saboteur: {verb} worked"));
            if verb == "remove" {
                std::fs::write(format!("{home}/made-{who:?}"), "again").unwrap();
            }
            let failed = bench.run(who, &at(PROCESS), &["echo", "ran"]).code(121);
            // Before Landlock it sees its own /proc, where its environment is empty, and an /etc without accounts.
            if !landlock && ["/proc/self/environ", "/etc/passwd"].iter().any(|file| act.ends_with(file)) {
                assert!(
                    !failed.stderr.contains("PATH=") && !failed.stderr.contains("daemon"),
                    "{act} {}",
                    failed.stderr
                );
                continue;
            }
            assert_eq!(failed.says(&format!("saboteur: {verb} failed")).stdout, "", "{who:?} {act}");
        }
        assert!(Path::new(&format!("{home}/made-{who:?}")).exists());
    }
    before.same();
}

/// Its constructors run before anything else of it: they have no more rights.
#[test]
fn nothing_of_it_runs_in_the_launcher() {
    let Some(bench) = Bench::new() else { return };
    let before = Leftovers::now();
    let mark = bench.home.path().join("mark");
    let marked = |words: &[&str]| {
        drop(std::fs::remove_file(&mark));
        let ran = bench.palisade(Who::User, words).env("SABOTEUR_MARK", mark.to_str().unwrap()).ran();
        (mark.exists(), ran)
    };
    let policy = bench.policy("\"saboteur\": (steps: \"none\"),", "hosts: {\"saboteur\": Process}");
    let run = ["run", "--policy", &policy, "--", "true"];
    for words in [
        &["doctor"][..],
        &["gc"],
        &["plugin", "list"],
        &["plugin", "info", "saboteur"],
        &["plugin", "verify", "saboteur", "--hosted"],
        &["policy", "check", &policy],
        &["plan", "--policy", &policy, "--", "true"],
        &run,
    ] {
        let (marked, ran) = marked(words);
        assert!(!marked, "{words:?} {}", ran.stderr);
        if words[0] == "doctor" {
            ran.prints("  saboteur 0.1.0\n");
        }
    }
    // The twin, and what `doctor` does once the user has let it in.
    let (ran, _) = marked(&["run", "--policy", &policy, "--set", LAUNCHER, "--", "true"]);
    assert!(ran);
    // That launch checked the layout itself; what was granted stays.
    let info = bench.palisade(Who::User, &["plugin", "info", "saboteur"]).ran().code(0);
    info.prints("granted  build");
    let (ran, _) = marked(&["plugin", "verify", "saboteur"]);
    assert!(ran);
    assert!(marked(&["doctor"]).0);
    before.same();
}

/// What becomes of a launch, and of the launcher, when the plugin does this.
#[test]
fn one_that_misbehaves_is_an_error_of_its_launch() {
    let Some(bench) = Bench::new() else { return };
    let before = Leftovers::now();
    for who in [Who::Root, Who::User] {
        for entry in ["configure", "plan"] {
            for (how, said) in [
                ("segv", "ended its process: SIGSEGV"),
                ("_exit", "ended its process: it exited with status 0"),
                ("exit", "ended its process: it exited with status 0"),
                ("kill", "ended its process: SIGABRT"),
                ("allocate x", "ended its process: SIGABRT"),
                ("garbage x", "answered with something that is no answer"),
            ] {
                let (at, how) = (format!("saboteur.at={entry}"), format!("saboteur.how={how}"));
                let ran = bench.run(who, &[&at, &how, PROCESS], &["echo", "ran"]).code(119);
                let ran = ran.says(&format!("error: saboteur: `{entry}` {said}")).says("help");
                assert_eq!(ran.stdout, "", "{who:?} {at} {how}");
            }
            let at = format!("saboteur.at={entry}");
            let ran = bench.run(who, &[&at, "saboteur.how=panic", PROCESS], &["echo", "ran"]).code(119);
            ran.says(&format!("saboteur: it panicked in `{entry}`"));
            bench.run(who, &[&at, "saboteur.how=error", PROCESS], &["true"]).code(121).says("as asked in");
        }
        // The twins: in the launcher's process they end that, and what it says of the workload is not true.
        let at = "saboteur.at=configure";
        let ran = bench.run(who, &[at, "saboteur.how=segv", LAUNCHER], &["echo", "ran"]);
        assert_eq!((ran.code, ran.signal), (None, Some(11)));
        assert_eq!(bench.run(who, &[at, "saboteur.how=_exit", LAUNCHER], &["echo", "ran"]).code(0).stdout, "");
        assert_eq!(bench.run(who, &["saboteur.at=nowhere", PROCESS], &["echo", "ran"]).code(0).stdout, "ran\n");
    }
    before.same();
}

#[test]
fn one_that_hangs_is_ended_and_the_launcher_goes_on() {
    let Some(bench) = Bench::new() else { return };
    let before = Leftovers::now();
    let begun = Instant::now();
    let ran = bench.run(Who::User, &["saboteur.at=plan", "saboteur.how=hang", PROCESS], &["echo", "ran"]).code(119);
    ran.says("saboteur: `plan` took longer than 10 s, and its process was ended");
    assert!(begun.elapsed() >= Duration::from_secs(10));
    before.same();
}

/// The program around the library goes on, and its next launch works, whatever the plugin did.
#[test]
fn the_process_that_launches_survives_it() {
    let Some(bench) = Bench::new() else { return };
    let before = Leftovers::now();
    let embed = bench.home.path().join("embed");
    std::fs::copy(env!("CARGO_BIN_EXE_embed"), &embed).unwrap();
    for (how, said) in [
        ("segv", "SIGSEGV"),
        ("_exit", "status 0"),
        ("garbage x", "no answer"),
        ("allocate x", "SIGABRT"),
        ("panic", "it panicked in `configure`"),
        ("hang", "took longer than 10 s"),
    ] {
        let section = format!("\"saboteur\": (steps: \"none\", at: \"configure\", how: \"{how}\"),");
        let policy = bench.policy(&section, "hosts: {\"saboteur\": Process}");
        let dirs = format!("{}:{}", bench.dir.display(), built().parent().unwrap().display());
        let words = [embed.to_str().unwrap(), "again", &dirs, &policy, "sh", "-c", "exit 5"];
        let ran = Run::bare(words).env("XDG_STATE_HOME", bench.home.text()).ran().code(0);
        ran.prints(said).prints("state kept\nExited { code: 5 }\nstate kept\n");
    }
    before.same();
}

#[test]
fn a_watcher_works_in_a_process_of_its_own() {
    let Some(bench) = Bench::new() else { return };
    let before = Leftovers::now();
    let policy = bench.policy("\"saboteur\": (steps: \"none\", at: \"ready\", how: \"count\"),", "");
    for who in [Who::Root, Who::User] {
        for (host, figure) in [(PROCESS, "saboteur.seen"), (LAUNCHER, "seen")] {
            let (ran, report) = bench.report(who, &policy, &[host], "sleep 0.3; exit 3");
            ran.code(3);
            assert_eq!(report["usage"]["figures"][figure], 1, "{}", report["usage"]);
        }
        // One that fails or ends watches no longer, so the workload ends; its error is told.
        for (how, said) in [("error", "as asked in ready"), ("segv", "`ready` ended its process: SIGSEGV")] {
            let how = format!("saboteur.how={how}");
            let (ran, report) = bench.report(who, &policy, &[&how, PROCESS], "sleep 30");
            let hit = &report["workload"]["ended"]["limit_hit"];
            assert_eq!((&hit["plugin"], ran.code), (&"saboteur".into(), Some(122)), "{report}");
            assert!(hit["limit"].as_str().unwrap().contains(said), "{hit}");
        }
        // When all is over it can fail as it likes: the workload's own exit code stays, and it is told.
        let sets = ["saboteur.at=finish", "saboteur.how=_exit", PROCESS];
        let (ran, report) = bench.report(who, &policy, &sets, "exit 3");
        ran.code(3);
        let failures = report["failures"].to_string();
        assert!(failures.contains("saboteur: `finish` ended its process: it exited with status 0"), "{failures}");
    }
    before.same();
}

#[test]
fn steps_that_are_not_ready_made_and_steps_on_the_host_are_refused() {
    let Some(bench) = Bench::new() else { return };
    let before = Leftovers::now();
    let policy = bench.policy("\"saboteur\": (at: \"nowhere\"),", "hosts: {\"saboteur\": Process}");
    let run = ["run", "--policy", &policy, "--set", LAUNCHER, "--", "echo", "ran"];
    assert_eq!(bench.palisade(Who::User, &run).ran().code(0).stdout, "ran\n");
    let run = ["run", "--policy", &policy, "--", "echo", "ran"];
    let ran = bench.palisade(Who::User, &run).ran().code(119);
    let ran = ran.says("saboteur: the step \"does nothing on the host\" is not ready-made");
    assert_eq!(ran.says("has ready-made steps only").stdout, "");
    let made = bench.home.path().join("made");
    let step = format!("\"prepare WriteFile(path: \\\"{}\\\", text: \\\"x\\\", mode: 0o644)\"", made.display());
    let policy = bench.policy(&format!("\"readymade\": (steps: [{step}]),"), "hosts: {\"readymade\": Process}");
    for who in [Who::Root, Who::User] {
        let command = ["cat", made.to_str().unwrap()];
        let words = |set| [&["run", "--policy", &policy, "--set", set, "--"][..], &command].concat();
        assert_eq!(bench.palisade(who, &words("hosts.readymade=Launcher")).ran().code(0).stdout, "x", "{who:?}");
        let ran = bench.palisade(who, &words("hosts.readymade=Process")).ran().code(119);
        ran.says("may have no step on the host (stage prepare)").says("step    WriteFile");
        assert!(!made.exists());
    }
    before.same();
}

#[test]
fn the_policy_says_who_is_hosted_and_what_is_wrong_is_shown_where_it_stands() {
    let Some(bench) = Bench::new() else { return };
    let section = "\"saboteur\": (steps: \"none\"),";
    let policy = bench.policy(section, "locked: [\"hosts\"],\nhosts: {\"saboteur\": Process}");
    let words = ["policy", "show", &policy, "--resolved"];
    bench.palisade(Who::User, &words).ran().code(0).prints("hosts: { \"saboteur\": Process },");
    let words = ["run", "--policy", &policy, "--set", LAUNCHER, "--", "true"];
    bench.palisade(Who::User, &words).ran().code(118).says("`hosts.saboteur` is locked");
    bench.palisade(Who::User, &["policy", "check", &policy]).ran().code(0).prints("good");
    let policy = bench.policy(section, "\nhosts: {\"sabotour\": Process}");
    let ran = bench.palisade(Who::User, &["policy", "check", &policy]).ran().code(118);
    ran.says("which this policy does not use").says("did you mean `saboteur`?").says(&format!("{policy}:4:"));
}

/// What confines such a process runs in the launcher, and so must not be what is to be confined.
#[test]
fn the_policy_of_its_process_is_palisades_and_goes_without_it() {
    let Some(bench) = Bench::new() else { return };
    let before = Leftovers::now();
    let mark = bench.home.path().join("mark");
    let section = "\"saboteur\": (steps: \"none\"),";
    let policy = bench.policy(section, "hosts: {\"saboteur\": Process}");
    let policies = bench.dir.join("policies");
    std::fs::create_dir(&policies).unwrap();
    let run = |text: &str| {
        std::fs::write(policies.join("plugin-host.ron"), format!("Policy(version: 1, {text})")).unwrap();
        drop(std::fs::remove_file(&mark));
        let words = ["run", "--policy-dir", policies.to_str().unwrap(), "--policy", &policy, "--", "echo", "ran"];
        let ran = bench.palisade(Who::Root, &words).env("SABOTEUR_MARK", mark.to_str().unwrap()).ran();
        assert!(!mark.exists(), "{text}");
        ran
    };
    let shipped = std::fs::read_to_string(tree().join("policies/plugin-host.ron")).unwrap();
    let (_, inner) = shipped.split_once("version: 1,").unwrap();
    let inner = inner.trim_end().strip_suffix(')').unwrap();
    assert_eq!(run(inner).code(0).stdout, "ran\n");
    run(&format!("{inner} hosts: {{\"filesystem\": Process}},"))
        .code(118)
        .says("`plugin-host` cannot have a plugin hosted itself: `filesystem`")
        .says("plugin-host.ron:");
    run("extends: [\"base\"], plugins: {\"saboteur\": (steps: \"none\")}")
        .code(118)
        .says("`saboteur` cannot run in a process of its own: it confines those")
        .says("plugin-host.ron:1:");
    // One that takes the name of palisade's own.
    std::fs::copy(bench.dir.join("libpalisade_saboteur.so"), bench.dir.join("libpalisade_seccomp.so")).unwrap();
    let words = ["plugin", "verify", "seccomp", "--hosted"];
    let ran = bench.palisade(Who::Root, &words).env("SABOTEUR_MARK", mark.to_str().unwrap()).ran().code(119);
    ran.prints("its manifest says `saboteur`");
    assert!(!mark.exists());
    before.same();
}

/// Whenever the launcher is killed, the plugin's process goes with it.
#[test]
fn nothing_is_left_of_a_launcher_that_is_killed() {
    let Some(bench) = Bench::new() else { return };
    let before = Leftovers::now();
    let hosted = || -> Vec<String> {
        let found = Run::bare(["pgrep", "-x", "palisade-host"]).ran().stdout;
        found.lines().map(str::to_owned).collect()
    };
    let foreign = hosted();
    let mut seen = 0;
    for (at, how, waits) in [
        ("nowhere", "count", &[0, 3, 6, 10, 15, 25, 50, 300][..]),
        ("plan", "hang", &[300]),
        ("ready", "count", &[300]),
    ] {
        for wait in waits {
            let section = format!("\"saboteur\": (steps: \"none\", at: \"{at}\", how: \"{how}\"),");
            let policy = bench.policy(&section, "hosts: {\"saboteur\": Process}");
            let run = bench.palisade(Who::User, &["run", "--policy", &policy, "--", "sleep", "30"]);
            let mut child = run.command().stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
            std::thread::sleep(Duration::from_millis(*wait) * slowness());
            seen += usize::from(hosted().iter().any(|pid| !foreign.contains(pid)));
            child.kill().unwrap();
            child.wait().unwrap();
            before.same();
        }
    }
    // The twin: the process was there to be left.
    assert!(seen >= 3, "{seen}");
}
