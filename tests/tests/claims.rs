//! `palisade policy test`: each claim of a policy is tried inside it, and a denial without it, too.

use palisade_tests::{Leftovers, Ran, Run, Scratch, USER, Who, everybody, is_root};
use serde_json::Value;
use std::os::unix::fs::PermissionsExt as _;
use std::sync::{Mutex, MutexGuard};

fn alone() -> MutexGuard<'static, ()> {
    static ONE: Mutex<()> = Mutex::new(());
    ONE.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
}

/// What homes hold that is nobody else's business.
const SECRETS: [&str; 8] = [
    ".ssh/id",
    ".aws/credentials",
    ".netrc",
    ".npmrc",
    ".pypirc",
    ".config/gh/hosts.yml",
    ".git-credentials",
    ".cargo/credentials.toml",
];

/// Without a network: a claim about one would send something to it. Started by root, whoever it is done as then.
fn test(who: Who, policy: &str, more: &[&str]) -> Ran {
    // For ids that own nothing, too.
    let (project, home) = (Scratch::new(), Scratch::new());
    let out = project.path().join("out");
    std::fs::create_dir(&out).unwrap();
    // What some policies need to start, and what none of them shows: a denial of what is not there proves nothing.
    for dir in [".cargo/bin", ".cargo/registry"] {
        std::fs::create_dir_all(home.path().join(dir)).unwrap();
    }
    for secret in SECRETS {
        home.file(secret, "secret");
    }
    for place in [project.path(), &out, home.path()] {
        std::fs::set_permissions(place, std::fs::Permissions::from_mode(0o777)).unwrap();
    }
    let run = Run::palisade([&["policy", "test", policy], more].concat()).cwd(project.path());
    let run = run.env("HOME", home.text());
    let id = USER.to_string();
    let user = ["setpriv", "--reuid", &id, "--regid", &id, "--clear-groups"];
    match who {
        Who::User => run.behind(&user).behind(&["unshare", "--net"]).ran(),
        Who::Root => run.behind(&["unshare", "--net"]).ran(),
    }
}

fn json(ran: &Ran) -> Value {
    serde_json::from_str(&ran.stdout).unwrap_or_else(|e| panic!("{e}: {}{}", ran.stdout, ran.stderr))
}

/// What became of each test, in order.
fn claims(report: &Value) -> Vec<&str> {
    report["tests"].as_array().unwrap().iter().map(|test| test["claim"].as_str().unwrap()).collect()
}

#[test]
fn what_the_shipped_policies_say_of_themselves_holds() {
    let _alone = alone();
    if !is_root() {
        return palisade_tests::skip("claims:root", "to be without a network needs root");
    }
    let before = Leftovers::now();
    let listed = json(&Run::palisade(["policy", "list", "--json"]).ran().code(0));
    let names: Vec<&str> = listed.as_array().unwrap().iter().map(|row| row["name"].as_str().unwrap()).collect();
    assert!(names.len() >= 20, "{names:?}");
    for who in everybody("claims") {
        let mut tried = 0;
        // `container` needs a root file system; tests/workloads.rs makes one.
        for name in names.iter().filter(|name| **name != "container") {
            let ran = test(who, name, &["--json"]);
            // An ordinary user may have no cgroups: a policy that demands them says so.
            if who == Who::User && ran.code == Some(120) {
                ran.says("help");
                continue;
            }
            tried += 1;
            let report = json(&ran);
            println!("{who:?} {name}: {} hold, {} unproven", report["holds"], report["unproven"]);
            let ordinary = |test: &&Value| who == Who::User && test["test"].as_str().unwrap().starts_with("Limit(");
            let broken: Vec<&Value> =
                report["tests"].as_array().unwrap().iter().filter(|test| test["claim"] == "broken").collect();
            // Without cgroups a limit of theirs is degraded, which the report of a run says.
            assert!(broken.iter().all(ordinary), "{who:?} {name}: {broken:#?}");
        }
        assert!(tried >= 12, "{who:?}: only {tried} policies could be tried");
    }
    before.same();
}

#[test]
fn what_does_not_hold_is_told_with_its_line() {
    let _alone = alone();
    if !is_root() {
        return palisade_tests::skip("claims:root", "to be without a network needs root");
    }
    let before = Leftovers::now();
    let scratch = Scratch::new();
    let secret = scratch.file("secret", "here");
    let dir = scratch.path().display();
    let policy = scratch.policy(&format!(
        r#"Policy(version: 1, extends: ["untrusted"], replace: ["tests"],
    plugins: {{"filesystem": (entries: [Bind("{dir}")])}},
    tests: [
        Deny(Write("{dir}/secret")),
        Deny(Read("{dir}/secret")),
        Allow(Read("{dir}/secret")),
        Allow(Write("{dir}/new")),
        Deny(Read("/no/such/file")),
        Deny(Syscall("unshare")),
        Allow(Syscall("unshare")),
        Deny(Execute("/usr/bin/env")),
        Allow(Execute("/usr/bin/env")),
        Deny(Syscall("getpid")),
        Limit(OpenFiles(30000)),
        Limit(FileSize("1MiB")),
    ])"#
    ));
    let name = policy.to_str().unwrap();
    let who = Who::Root;
    let report = json(&test(who, name, &["--json"]).code(1));
    let wanted = [
        "holds", "broken", "holds", "broken", "unproven", "holds", "broken", "broken", "holds", "unproven", "unproven",
        "broken",
    ];
    assert_eq!(claims(&report), wanted, "{report:#}");
    assert_eq!(report["tests"][1]["test"], format!("Deny(Read(\"{dir}/secret\"))"));
    assert!(report["tests"][1]["policy_line"].as_str().unwrap().ends_with(":5:9"), "{report:#}");
    assert_eq!((&report["holds"], &report["broken"], &report["unproven"]), (&4.into(), &5.into(), &3.into()));
    let told = test(who, name, &[]).code(1);
    assert!(
        told.stdout.contains("BROKEN    Deny(Read(") && told.stdout.contains(&format!("at {name}:5:9")),
        "{}",
        told.stdout
    );
    assert_eq!(std::fs::read_to_string(secret).unwrap(), "here");
    assert!(!scratch.path().join("new").exists());
    before.same();
}

#[test]
fn unproven_fails_only_where_that_is_asked_for() {
    let _alone = alone();
    if !is_root() {
        return palisade_tests::skip("claims:root", "to be without a network needs root");
    }
    let scratch = Scratch::new();
    let text =
        "Policy(version: 1, extends: [\"untrusted\"], replace: [\"tests\"], tests: [Deny(Read(\"/no/such/file\"))])";
    let policy = scratch.policy(text);
    let name = policy.to_str().unwrap();
    let who = Who::Root;
    test(who, name, &[]).code(0).prints("0 hold, 0 broken, 1 unproven");
    test(who, name, &["--strict"]).code(1);
    let wrong = scratch.policy("Policy(version: 1, tests: [Deny(Raed(\"/x\"))])");
    test(who, wrong.to_str().unwrap(), &[]).code(118).says("Raed");
}

/// Each limit of a policy is hit by what claims that it is there, and not by what claims less.
#[test]
fn limits_are_exceeded() {
    let _alone = alone();
    if !is_root() {
        return palisade_tests::skip("claims:root", "there may be no cgroups to limit by");
    }
    let before = Leftovers::now();
    let scratch = Scratch::new();
    let policy = scratch.policy(
        r#"Policy(version: 1, extends: ["untrusted"], replace: ["tests"],
    process: (rlimits: (nofile: 64, fsize: "1MiB"), timeout: "4s"),
    plugins: {"cgroups": (memory: (max: "64MiB", swap: "0"), pids: (max: 32), cpu: (max: "30%"))},
    tests: [
        Limit(Memory("64MiB")), Limit(Memory("16MiB")),
        Limit(Pids(32)), Limit(Pids(8)),
        Limit(Cpu("30%")), Limit(Cpu("10%")),
        Limit(OpenFiles(64)), Limit(OpenFiles(32)),
        Limit(FileSize("1MiB")), Limit(FileSize("512KiB")),
        Limit(Time("4s")), Limit(Time("1s")), Limit(Time("1h")),
    ])"#,
    );
    let report = json(&test(Who::Root, policy.to_str().unwrap(), &["--json"]).code(1));
    let one = ["holds", "broken"];
    let wanted = [one, one, one, one, one, one].concat();
    assert_eq!(claims(&report), [wanted, vec!["unproven"]].concat(), "{report:#}");
    before.same();
}
