//! The report: every field true, and described in docs/report.md.

use palisade_tests::{Leftovers, Run, Scratch, built, everybody, is_root, program, tree};
use serde_json::Value;
use std::collections::BTreeSet;
use std::sync::Mutex;

static ONE: Mutex<()> = Mutex::new(());

fn text(who: &str) -> String {
    let cgroups = if who == "root" { "\"cgroups\": (memory: (max: \"64MiB\"), pids: (max: 20))," } else { "" };
    format!(
        "Policy(version: 1, process: (env: Keep([\"PATH\"]), timeout: \"20s\"), plugins: {{
    \"namespaces\": (user: New, mount: New, pid: New),
    \"filesystem\": (entries: [System, Proc, Dev, Tmpfs(\"/tmp\")]),
    \"privileges\": (), {cgroups}
}})"
    )
}

fn report(arguments: &[&str], code: i32) -> Value {
    let words = ["run", "--report", "-"].iter().chain(arguments);
    let ran = Run::palisade(words).ran().code(code);
    // What the workload itself wrote comes first.
    let json = ran.stdout.find('{').map_or("", |at| &ran.stdout[at..]);
    serde_json::from_str(json).unwrap_or_else(|e| panic!("{e}\n{}", ran.stdout))
}

fn sha256(path: &std::path::Path) -> String {
    let ran = Run::bare(["sha256sum".as_ref(), path.as_os_str()]).ran().code(0);
    ran.stdout.split(' ').next().unwrap().to_owned()
}

#[test]
fn every_field_is_true() {
    let _alone = ONE.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
    let scratch = Scratch::new();
    let before = Leftovers::now();
    let who = if is_root() { "root" } else { "user" };
    let policy = scratch.policy(&text(who));
    let path = policy.to_str().unwrap();
    let report = report(&["--policy", path, "--", "sh", "-c", "sleep 0.2; exit 3"], 3);
    assert_eq!(report["version"], 1);
    assert_eq!(report["policy"]["files"][0]["sha256"], sha256(&policy));
    let plugins = report["plugins"].as_array().unwrap();
    let names: Vec<&str> = plugins.iter().map(|plugin| plugin["name"].as_str().unwrap()).collect();
    assert_eq!(
        names,
        if is_root() {
            &["cgroups", "filesystem", "namespaces", "privileges"][..]
        } else {
            &["filesystem", "namespaces", "privileges"]
        }
    );
    for plugin in plugins {
        let file = program().with_file_name(format!("libpalisade_{}.so", plugin["name"].as_str().unwrap()));
        assert_eq!(plugin["path"], file.to_str().unwrap());
        assert_eq!(plugin["sha256"], sha256(&file));
    }
    assert!(built().exists());
    let release = std::fs::read_to_string("/proc/sys/kernel/osrelease").unwrap();
    assert_eq!(report["host"]["kernel"], release.trim());
    let steps = report["steps"].as_array().unwrap();
    assert!(steps.len() > 10);
    for step in steps {
        assert_eq!(step["outcome"], "enforced", "{step}");
        assert!(step["words"].as_str().is_some_and(|words| !words.is_empty()));
        let line = step["policy_line"].as_str();
        assert!(line.is_none_or(|line| line.starts_with(path)), "{line:?}");
        assert!(step["stage"] == "clone" || step["micros"].is_u64(), "{step}");
    }
    let order: Vec<&str> = steps.iter().map(|step| step["stage"].as_str().unwrap()).collect();
    let stages = ["prepare", "clone", "attach", "build", "drop", "seal"];
    let places: Vec<usize> = order.iter().map(|stage| stages.iter().position(|s| s == stage).unwrap()).collect();
    assert!(places.is_sorted(), "{order:?}");
    assert_eq!(report["workload"]["argv"], serde_json::json!(["sh", "-c", "sleep 0.2; exit 3"]));
    assert_eq!(
        (&report["workload"]["ended"]["exited"]["code"], &report["workload"]["exit_code"]),
        (&3.into(), &3.into())
    );
    let wall = report["usage"]["wall_ms"].as_u64().unwrap();
    assert!((200..5000).contains(&wall), "{wall}");
    assert!(report["usage"]["max_rss_kib"].as_u64().unwrap() > 500);
    if is_root() {
        assert!(report["usage"]["figures"]["memory_peak_bytes"].as_u64().unwrap() > 100_000, "{}", report["usage"]);
    }
    before.same();
}

#[test]
fn the_limit_that_ended_it_is_named() {
    let _alone = ONE.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
    let scratch = Scratch::new();
    let ended = |arguments: &[&str], code: i32| {
        let policy = scratch.policy(&text(if is_root() { "root" } else { "user" }));
        let mut words = vec!["--policy", policy.to_str().unwrap()];
        words.extend(arguments);
        report(&words, code)["workload"]["ended"].clone()
    };
    assert_eq!(ended(&["--set", "process.timeout=100ms", "--", "sleep", "9"], 124)["timed_out"]["kind"], "wall");
    assert_eq!(ended(&["--", "sh", "-c", "kill -9 $$"], 137)["signaled"]["name"], "SIGKILL");
    if is_root() {
        // Twice what the cgroup has.
        let eat = "x = bytearray(128 << 20); x[::4096] = b'1' * len(x[::4096])";
        let ended = ended(&["--", "python3", "-c", eat], 122);
        assert_eq!(ended["limit_hit"]["plugin"], "cgroups", "{ended}");
        assert!(ended["limit_hit"]["limit"].as_str().unwrap().contains("memory"), "{ended}");
    }
}

#[test]
fn a_launch_that_fails_has_a_report_too() {
    let _alone = ONE.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
    let scratch = Scratch::new();
    let policy = scratch.policy(&text("user").replace("env: ", "cwd: \"/no/where\", env: "));
    let report = report(&["--policy", policy.to_str().unwrap(), "--", "true"], 121);
    let failed = &report["workload"]["ended"]["setup_failed"];
    assert_eq!((&failed["stage"], &failed["plugin"]), (&"build".into(), &"process".into()), "{failed}");
    let refused = report["steps"].as_array().unwrap().iter().filter(|step| step["outcome"] == "refused").count();
    assert_eq!(refused, 1);
}

/// What the policy allows to fail, what it does not want, and what was kept from the workload.
#[test]
fn what_was_not_done_is_told() {
    let _alone = ONE.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
    let scratch = Scratch::new();
    let run = |demand: &str, code: i32| {
        let text = format!(
            "Policy(version: 1, process: (env: Inherit), plugins: {{
  \"cgroups\": (pids: (max: 5), parent: \"/no/such\", demand: {demand}),
}})"
        );
        let policy = scratch.policy(&text);
        let words = ["run", "--report", "fd:1", "--policy", policy.to_str().unwrap(), "--", "sh", "-c", "echo $$ >&2"];
        let ran = Run::palisade(words).env("MY_TOKEN", "x").ran().code(code);
        let report: Value = serde_json::from_str(&ran.stdout).unwrap();
        let step = report["steps"].as_array().unwrap().iter().find(|step| step["plugin"] == "cgroups").cloned();
        (report, step.unwrap_or_default(), ran.stderr, policy.display().to_string())
    };
    let (report, step, stderr, policy) = run("Degrade", 0);
    assert_eq!(step["outcome"], "degraded", "{step}");
    assert!(
        step["detail"].as_str().unwrap().contains("no/such") && step["policy_line"] == format!("{policy}:2:27"),
        "{step}"
    );
    assert_eq!(report["workload"]["stripped"], serde_json::json!(["MY_TOKEN"]));
    assert_eq!(report["failures"], serde_json::json!([]));
    // Without a pid namespace it is what the workload itself sees.
    let pid = stderr.lines().find_map(|line| line.parse::<i64>().ok()).unwrap();
    assert_eq!(report["workload"]["pid"], pid);
    let id = |what: &str| Run::bare(["id", what]).ran().stdout.trim().to_owned();
    assert_eq!((&report["host"]["uid"], &report["host"]["gid"]), (&id("-u").into(), &id("-g").into()));
    let times = |name: &str| report["times"][name].as_u64().unwrap_or_else(|| panic!("no {name}: {report}"));
    let phases = ["prepare", "clone", "attach", "child", "verify", "release", "run", "undo"];
    let times: Vec<u64> = phases.iter().map(|phase| times(&format!("{phase}_us"))).collect();
    assert!(times.is_sorted() && times[0] > 0, "{times:?}");
    let (_, step, ..) = run("Off", 0);
    assert_eq!((&step["outcome"], &step["detail"]), (&"skipped".into(), &"the policy says Off".into()), "{step}");
    // The twin: required, it ends the launch, and the report says whose line it was.
    let (report, ..) = run("Require", 120);
    assert!(report["workload"]["ended"]["not_started"]["reason"].as_str().unwrap().contains("no/such"), "{report}");
}

#[test]
fn it_is_written_where_the_caller_says() {
    let _alone = ONE.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
    let scratch = Scratch::new();
    let policy = scratch.policy(&text("user"));
    let path = policy.to_str().unwrap();
    for who in everybody("report") {
        let file = scratch.path().join(format!("report-{who:?}.json"));
        Run::palisade(["run", "--policy", path, "--report", file.to_str().unwrap(), "--", "true"])
            .who(who)
            .ran()
            .code(0);
        let written: Value = serde_json::from_str(&std::fs::read_to_string(&file).unwrap()).unwrap();
        assert_eq!(written["workload"]["exit_code"], 0);
        let line = format!(
            "exec 5>{0}/fd-{who:?}; exec {1} run --policy {path} --report fd:5 -- true",
            scratch.text(),
            program().display()
        );
        Run::bare(["bash", "-c", &line]).who(who).ran().code(0);
        let written = std::fs::read_to_string(scratch.path().join(format!("fd-{who:?}"))).unwrap();
        assert_eq!(serde_json::from_str::<Value>(&written).unwrap()["version"], 1);
        // A place that cannot be written is refused before anything starts.
        let mark = scratch.path().join("mark");
        let ran = Run::palisade([
            "run",
            "--policy",
            path,
            "--report",
            "/no/where/report",
            "--",
            "touch",
            mark.to_str().unwrap(),
        ])
        .who(who)
        .ran();
        assert_eq!(ran.code, Some(2), "{}", ran.stderr);
        assert!(!mark.exists() && ran.stderr.contains("/no/where"), "{}", ran.stderr);
    }
}

/// All keys of a JSON value, with dots between; list elements and the names of figures and variants count once.
fn keys(value: &Value, prefix: &str, found: &mut BTreeSet<String>) {
    match value {
        Value::Object(map) => {
            for (key, value) in map {
                let name = if prefix.is_empty() { key.clone() } else { format!("{prefix}.{key}") };
                found.insert(name.clone());
                // Names below these are the host's, the phases' or the plugins'.
                if !["host", "usage.figures", "times"].contains(&name.as_str()) {
                    keys(value, &name, found);
                }
            }
        }
        Value::Array(all) => all.iter().for_each(|value| keys(value, prefix, found)),
        _ => {}
    }
}

#[test]
fn the_documentation_describes_every_field_and_no_other() {
    let _alone = ONE.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
    let scratch = Scratch::new();
    let mut found = BTreeSet::new();
    let policy = scratch.policy(&text("user"));
    let path = policy.to_str().unwrap();
    for (arguments, code) in [
        (vec!["--samples", "1s", "--policy", path, "--", "true"], 0),
        (vec!["--policy", path, "--", "sh", "-c", "kill -9 $$"], 137),
        (vec!["--policy", path, "--set", "process.timeout=50ms", "--", "sleep", "9"], 124),
        (vec!["--policy", path, "--set", "process.output_limit=1", "--", "echo", "long"], 122),
        (vec!["--policy", path, "--set", "process.cwd=/no/where", "--", "true"], 121),
        (vec!["--policy", path, "--set", "process.umask=9", "--", "true"], 118),
        (vec!["--policy", "untrusted", "--explain", "--", "cat", "/etc/shadow"], 1),
    ] {
        keys(&report(&arguments, code), "", &mut found);
    }
    let doc = std::fs::read_to_string(tree().join("docs/report.md")).unwrap();
    let described: BTreeSet<String> =
        doc.lines().filter_map(|line| Some(line.strip_prefix("| `")?.split('`').next()?.to_owned())).collect();
    let missing: Vec<_> = found.difference(&described).collect();
    let unknown: Vec<_> = described.difference(&found).collect();
    assert!(missing.is_empty() && unknown.is_empty(), "not described: {missing:?}; not there: {unknown:?}");
}
