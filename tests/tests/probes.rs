//! Harmless attempts to get out, each made without and with a policy by `palisade probe`. One that is not open without
//! the policy proves nothing and does not count.

use palisade_tests::{Leftovers, Ran, Run, Scratch, Who, everybody, install, is_root, program, slowness, tree};
use serde_json::Value;
use std::collections::{BTreeMap, BTreeSet};
use std::os::unix::fs::PermissionsExt as _;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, MutexGuard};

/// What stays open under `untrusted`, and where that is told.
const KNOWN: &[(&str, &str)] = &[
    ("il-boot-id", "version and boot id"),
    ("il-uptime", "load, uptime"),
    ("fs-exec-dropped", "What the workload may write it may also execute"),
    ("fs-protected-links", "fs.protected_"),
];

/// The same for an ordinary user, where the host delegates no cgroup to it: the limit on processes is degraded, and
/// the report says so.
const KNOWN_AS_USER: &[(&str, &str)] = &[("rs-fork", "Without cgroups")];

/// Attempts that must be open without a policy, as root and as an ordinary user: fewer would prove less. As a user
/// much is not open to begin with.
const AT_LEAST: (usize, usize) = (130, 70);

fn alone() -> MutexGuard<'static, ()> {
    static ONE: Mutex<()> = Mutex::new(());
    ONE.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
}

fn probe(who: Who, policy: &str, more: &[&str]) -> Ran {
    Run::palisade(["probe", "--policy", policy].iter().chain(more)).who(who).ran()
}

fn json(ran: &Ran) -> Value {
    serde_json::from_str(&ran.stdout).unwrap_or_else(|e| panic!("{e}: {}{}", ran.stdout, ran.stderr))
}

fn said<'a>(probe: &'a Value, field: &str) -> &'a str {
    probe[field]["outcome"].as_str().unwrap()
}

/// The ids of those that fit.
fn ids(report: &Value, fits: impl Fn(&Value) -> bool) -> Vec<String> {
    let all = report["probes"].as_array().unwrap().iter().filter(|probe| fits(probe));
    all.map(|probe| probe["id"].as_str().unwrap().to_owned()).collect()
}

fn count(report: &Value, field: &str) -> usize {
    usize::try_from(report["summary"][field].as_u64().unwrap()).unwrap()
}

#[test]
fn what_was_open_is_blocked_under_untrusted() {
    let _alone = alone();
    let before = Leftovers::now();
    let limits = std::fs::read_to_string(tree().join("docs/limits-of-palisade.md")).unwrap();
    for who in everybody("probes") {
        let ran = probe(who, "untrusted", &["--json"]);
        let report = json(&ran);
        let mut known = KNOWN.to_vec();
        if who == Who::User {
            known.extend(KNOWN_AS_USER);
        }
        println!("{who:?}: {}", report["summary"]);
        let open = ids(&report, |probe| said(probe, "result") == "OPEN");
        for id in &open {
            let told = known.iter().find(|(name, _)| name == id).unwrap_or_else(|| panic!("{who:?}: {id} is open"));
            assert!(limits.contains(told.1), "what is known of {id} is not documented");
        }
        let unclear = ids(&report, |probe| said(probe, "result") == "INCONCLUSIVE");
        assert!(unclear.is_empty(), "{who:?}: {unclear:?}");
        // What is open without it is either blocked or known, or more than is tried under it.
        let more = ids(&report, |probe| said(probe, "bare") == "OPEN" && said(probe, "result") == "N/A");
        assert!(more.iter().all(|id| id == "rs-tmpfs-inodes"), "{who:?}: {more:?}");
        assert_eq!(count(&report, "bare_open"), count(&report, "blocked") + open.len() + more.len());
        let least = if who == Who::Root { AT_LEAST.0 } else { AT_LEAST.1 };
        assert!(count(&report, "bare_open") >= least, "{who:?}: {}", report["summary"]);
        assert_eq!(report["changed"], Value::Array(Vec::new()));
        let bad = |probe: &Value| matches!(probe["severity"].as_str(), Some("critical" | "high"));
        let held = ids(&report, |probe| said(probe, "result") == "OPEN" && bad(probe)).is_empty();
        ran.code(if held { 0 } else { 1 });
    }
    before.same();
}

/// A project and a home, with what the shipped policies need to start.
fn places() -> (Scratch, Scratch) {
    let (project, home) = (Scratch::on_disk(), Scratch::new());
    let root = project.path().join("root");
    for dir in ["proc", "dev", "tmp"] {
        std::fs::create_dir_all(root.join(dir)).unwrap();
    }
    // The attempts are palisade's own program, from a file that needs no name; its libraries it needs.
    install(&root, program().to_str().unwrap());
    let made = [project.path().join("out"), home.path().join(".cargo/bin"), home.path().join(".cargo/registry")];
    for dir in &made {
        std::fs::create_dir_all(dir).unwrap();
    }
    // What stops an attempt must not be the mode of a directory.
    for dir in [project.path(), home.path(), &made[0]] {
        std::fs::set_permissions(dir, std::fs::Permissions::from_mode(0o777)).unwrap();
    }
    (project, home)
}

/// What docs/probes.md says to be open of what is critical or high, by policy: as root, and as an ordinary user.
fn documented() -> BTreeMap<String, [BTreeSet<String>; 2]> {
    let doc = std::fs::read_to_string(tree().join("docs/probes.md")).unwrap();
    let (_, section) = doc.split_once("## What the shipped policies leave open").unwrap();
    let section = section.split("\n## ").next().unwrap();
    let quoted = |cell: &str| cell.split('`').skip(1).step_by(2).map(str::to_owned).collect::<BTreeSet<_>>();
    let mut all = BTreeMap::new();
    for row in section.lines().filter(|line| line.starts_with("| `")) {
        let cells: Vec<&str> = row.trim_matches('|').split('|').collect();
        assert!(cells.len() == 4 && !cells[3].trim().is_empty(), "{row}");
        for name in quoted(cells[0]) {
            assert!(all.insert(name, [quoted(cells[1]), quoted(cells[2])]).is_none(), "{row}");
        }
    }
    all
}

/// Where the kernel cannot show root's project as the workload's own, nothing starts, so nothing is open.
fn refused(who: Who, policy: &str, ran: &Ran) -> bool {
    let old = palisade_sys::host::kernel_version().unwrap() < (5, 12);
    let refused = old && who == Who::Root && policy == "agent-shell";
    if refused {
        assert!(ran.code != Some(0) && ran.stderr.contains("needs Linux 5.12"), "{ran:?}");
    }
    refused
}

/// What is open of what is critical or high, under one policy; and that all else is beyond doubt.
fn worst(who: Who, policy: &str, project: &Scratch, home: &Scratch) -> BTreeSet<String> {
    let mut words = vec!["probe".to_owned(), "--policy".to_owned(), policy.to_owned(), "--json".to_owned()];
    if policy == "container" {
        words.extend(["--var".to_owned(), format!("rootfs={}/root", project.text())]);
    }
    // It allows no process, and whoever tries needs some; nor to read what it was started with.
    if policy == "plugin-host" {
        let allowed = ["seccomp.allow=[Group(\"@process\")]", "landlock.rules=[Path(path: \"/proc\", allow: [Read])]"];
        words.extend(allowed.iter().flat_map(|allowed| ["--set".to_owned(), (*allowed).to_owned()]));
    }
    // A busy host, or an emulated one, is slower than a contest allows; what ends the run leaves questions open.
    if policy.starts_with("judge") {
        words.extend(["--set", "process.timeout=10min", "--set", "process.cpu_time=10min"].map(str::to_owned));
    }
    // Where an ordinary user has no cgroup, what is looked at is the rest.
    if who == Who::User && policy.starts_with("judge") {
        words.extend(["--set".to_owned(), "cgroups.demand=Degrade".to_owned()]);
    }
    let ran = Run::palisade(words).who(who).cwd(project.path()).env("HOME", home.text()).ran();
    if refused(who, policy, &ran) {
        return BTreeSet::new();
    }
    let report = json(&ran);
    assert_eq!(report["changed"], Value::Array(Vec::new()), "{who:?} {policy}");
    let unclear = ids(&report, |probe| said(probe, "result") == "INCONCLUSIVE");
    assert!(unclear.is_empty(), "{who:?} {policy}: {unclear:?}");
    // What proves nothing says what it would have needed, and what came of it.
    for probe in report["probes"].as_array().unwrap().iter().filter(|probe| said(probe, "result") == "N/A") {
        let why = (probe["needs"].as_str().unwrap(), probe["result"]["detail"].as_str().unwrap());
        assert!(why.1.starts_with("without a policy: "), "{policy}: {probe}");
        assert!(who == Who::User || !why.0.is_empty(), "{policy}: {probe}");
    }
    let bad = |probe: &Value| matches!(probe["severity"].as_str(), Some("critical" | "high"));
    let open = ids(&report, |probe| said(probe, "result") == "OPEN" && bad(probe)).into_iter().collect::<BTreeSet<_>>();
    ran.code(if open.is_empty() { 0 } else { 1 });
    open
}

/// Of what is critical or high, each shipped policy leaves open what the documentation says, and nothing for most.
#[test]
fn shipped_policies_leave_open_what_is_documented() {
    let _alone = alone();
    let before = Leftovers::now();
    let documented = documented();
    let (project, home) = places();
    let everybody = everybody("probes");
    // All is open under `observe`, which the twin below looks at.
    let all = palisade_runtime::SHIPPED.iter().map(|(name, _)| *name).filter(|name| *name != "observe");
    // Minutes each in emulation: one that allows little and one that allows much.
    let emulated = slowness() > 1;
    let names = all.filter(|name| !emulated || ["agent-shell", "judge-run"].contains(name));
    let jobs: Vec<(Who, &str)> = names.flat_map(|name| everybody.iter().map(move |who| (*who, name))).collect();
    assert!(emulated || jobs.len() >= 26 * everybody.len(), "{jobs:?}");
    let next = AtomicUsize::new(0);
    let wrong = Mutex::new(Vec::new());
    // They mostly wait, so several at a time; in emulation they are busy, and an attempt has its alarm.
    std::thread::scope(|scope| {
        for _ in 0..if emulated { 1 } else { 4 } {
            scope.spawn(|| {
                while let Some((who, policy)) = jobs.get(next.fetch_add(1, Ordering::Relaxed)) {
                    let open = worst(*who, policy, &project, &home);
                    let known = documented.get(*policy).map(|known| known[usize::from(*who == Who::User)].clone());
                    // Where a host delegates cgroups to its users there are limits on processes and memory, and else none.
                    let mut known = known.unwrap_or_default();
                    for limit in ["rs-fork", "rs-memory"].into_iter().filter(|_| *who == Who::User) {
                        if open.contains(limit) {
                            known.insert(limit.to_owned());
                        } else {
                            known.remove(limit);
                        }
                    }
                    if open != known {
                        wrong.lock().unwrap().push(format!("{who:?} {policy}: {open:?}, and documented is {known:?}"));
                    }
                }
            });
        }
    });
    let wrong = wrong.into_inner().unwrap();
    assert!(wrong.is_empty(), "{wrong:#?}");
    before.same();
}

/// The twin of the whole: a policy that isolates nothing blocks nothing that its caller may do.
#[test]
fn without_isolation_the_attempts_stay_open() {
    let _alone = alone();
    let before = Leftovers::now();
    let place = Scratch::new();
    let policy = place.policy("Policy(version: 1, process: (env: Inherit))");
    for who in everybody("probes") {
        let ran = probe(who, policy.to_str().unwrap(), &["--json"]);
        let report = json(&ran.code(1));
        let open = ids(&report, |probe| said(probe, "result") == "OPEN").len();
        let least = if who == Who::Root { AT_LEAST.0 } else { AT_LEAST.1 };
        // Descriptors are closed and secrets are left out also where nothing is isolated.
        assert!(open + 12 >= least, "{who:?}: only {open} are open under a policy that isolates nothing");
        let blocked = ids(&report, |probe| matches!(said(probe, "result"), "DENIED" | "HIDDEN" | "VIRTUAL" | "KILLED"));
        println!("{who:?}: stopped by palisade itself: {blocked:?}");
        assert!(blocked.contains(&"es-leaked-fd".to_owned()), "{blocked:?}");
    }
    before.same();
}

/// What is asked for, and nothing else; and each is said in words.
#[test]
fn some_can_be_chosen_and_are_told_in_words() {
    let _alone = alone();
    let who = if is_root() { Who::Root } else { Who::User };
    let report = json(&probe(who, "untrusted", &["--only", "pr-*", "--json"]).code(0));
    let all = ids(&report, |_| true);
    assert!(all.len() >= 15 && all.iter().all(|id| id.starts_with("pr-")), "{all:?}");
    let silent = probe(who, "untrusted", &["--only", "fs-read-outside"]).code(0);
    assert!(silent.stdout.contains("open: nothing") && !silent.stdout.contains("fs-read-outside"), "{}", silent.stdout);
    let told = probe(who, "untrusted", &["--only", "fs-read-outside", "-v"]).code(0);
    assert!(told.stdout.contains("  fs-read-outside  critical  HIDDEN(ENOENT)"), "{}", told.stdout);
    let place = Scratch::new();
    let policy = place.policy("Policy(version: 1)");
    let open = probe(who, policy.to_str().unwrap(), &["--only", "fs-read-outside"]).code(1);
    assert!(open.stdout.contains("fs-read-outside  critical  OPEN"), "{}", open.stdout);
    let none = probe(who, "untrusted", &["--only", "zz-*"]).code(2);
    assert!(none.stderr.contains("no attempt has an id like zz-*"), "{}", none.stderr);
}

/// What a plugin brings is made like all else: open without the policy, stopped by what stops it, and N/A where it never
/// works.
#[test]
fn a_plugin_brings_attempts_of_its_own() {
    let _alone = alone();
    if !is_root() {
        return palisade_tests::skip("probes:root", "the plugin must be root's");
    }
    let before = Leftovers::now();
    let place = Scratch::new();
    let plugins = format!("/opt/palisade-test-{}-probes", std::process::id());
    std::fs::create_dir(&plugins).unwrap();
    let saboteur = palisade_tests::built().with_file_name("libsaboteur.so");
    std::fs::copy(saboteur, format!("{plugins}/libpalisade_saboteur.so")).unwrap();
    let dir = plugins.as_str();
    let ask = |extends: &str, at: &str, more: &[&str]| {
        let policy = place.policy(&format!("Policy(version: 1, {extends} plugins: {{\"saboteur\": (at: \"{at}\")}})"));
        probe(Who::Root, policy.to_str().unwrap(), &[&["--plugin-dir", dir], more].concat())
    };
    let of = |ran: &Ran| {
        let report = json(ran);
        let all = report["probes"].as_array().unwrap().iter();
        all.map(|probe| format!("{} {} {}", probe["id"].as_str().unwrap(), said(probe, "bare"), said(probe, "result")))
            .collect::<Vec<_>>()
    };
    let only = ["--only", "saboteur.*", "--json"];
    let held = ask("extends: [\"untrusted\"],", "none-inside", &only).code(0);
    let wanted = ["saboteur.own-file OPEN DENIED", "saboteur.never DENIED N/A", "saboteur.killed KILLED N/A"];
    assert_eq!(of(&held), wanted);
    let open = ask("process: (env: Inherit),", "none-inside", &only).code(1);
    assert_eq!(of(&open)[0], "saboteur.own-file OPEN OPEN");
    let told = ask("process: (env: Inherit),", "none-inside", &["--only", "saboteur.own-file"]).code(1);
    assert!(told.stdout.contains("brought by plugins") && told.stdout.contains("another plugin"), "{}", told.stdout);
    for (at, says) in [("attempts", "as asked in attempts"), ("bad-attempt", "an attempt `no name`")] {
        let ran = ask("", at, &only);
        assert!(
            matches!(ran.code, Some(119 | 121)) && ran.stderr.contains(says),
            "{at}: {:?} {}",
            ran.code,
            ran.stderr
        );
    }
    std::fs::remove_dir_all(&plugins).unwrap();
    before.same();
}

/// A policy that cannot be put in force is an error with its reason, and nothing is left of the canaries.
#[test]
fn a_policy_that_cannot_start_is_an_error() {
    let _alone = alone();
    let before = Leftovers::now();
    let place = Scratch::new();
    let wrong = place.policy("Policy(version: 1, plugins: { \"seccomp\": (defualt: Allow) })");
    let who = if is_root() { Who::Root } else { Who::User };
    let ran = probe(who, wrong.to_str().unwrap(), &[]).code(118);
    assert!(ran.stderr.contains("did you mean `default`"), "{}", ran.stderr);
    // Without a /proc the program has no name inside.
    let blind = place.policy(
        "Policy(version: 1, plugins: { \"namespaces\": (user: AsNeeded, mount: New), \"filesystem\": (root: Empty, entries: [System]) })",
    );
    let ran = probe(who, blind.to_str().unwrap(), &[]);
    assert_ne!(ran.code, Some(0), "{}{}", ran.stdout, ran.stderr);
    assert!(ran.stderr.contains("the attempts could not be started: the command `/proc/self/fd/"), "{}", ran.stderr);
    // One that ends the run early leaves open questions, and says so.
    let short = place.policy("Policy(version: 1, extends: [\"untrusted\"], process: (timeout: \"300ms\"))");
    let report = json(&probe(who, short.to_str().unwrap(), &["--json"]).code(1));
    let unclear = ids(&report, |probe| said(probe, "result") == "INCONCLUSIVE");
    assert!(unclear.contains(&"rs-fork".to_owned()), "{unclear:?}");
    assert!(report.to_string().contains("the policy ends the run after 300ms"), "{report}");
    before.same();
}

/// A harness that is killed cannot take away what it laid out; the canary does.
#[test]
fn a_harness_that_is_killed_leaves_nothing() {
    let _alone = alone();
    let before = Leftovers::now();
    let laid = || {
        std::fs::read_dir("/var/tmp").unwrap().flatten().any(|e| {
            let name = e.file_name().to_string_lossy().into_owned();
            name.starts_with("palisade-") && name.ends_with(".d")
        })
    };
    assert!(!laid(), "something is there already");
    let mut child = Run::palisade(["probe", "--policy", "untrusted"])
        .command()
        .stdout(std::process::Stdio::null())
        .spawn()
        .unwrap();
    let begun = std::time::Instant::now();
    while !laid() {
        assert!(begun.elapsed().as_secs() < 20, "nothing was laid out");
        std::thread::sleep(std::time::Duration::from_millis(5));
    }
    std::thread::sleep(std::time::Duration::from_millis(200));
    child.kill().unwrap();
    child.wait().unwrap();
    before.same();
    assert!(!laid(), "the canaries are still there");
}

/// Every attempt of the harness and every id that is not made stands in the documentation, and so does every field.
#[test]
fn the_documentation_has_every_attempt() {
    let _alone = alone();
    let doc = std::fs::read_to_string(tree().join("docs/probes.md")).unwrap();
    let who = if is_root() { Who::Root } else { Who::User };
    let place = Scratch::new();
    let policy = place.policy("Policy(version: 1)");
    let report = json(&probe(who, policy.to_str().unwrap(), &["--json"]));
    let mut seen = 0;
    for probe in report["probes"].as_array().unwrap() {
        let text = |field: &str| probe[field].as_str().unwrap();
        let row = format!(
            "| `{}` | {} | {} | {} | {} | {} |",
            text("id"),
            text("severity"),
            text("attempts"),
            text("layers"),
            text("needs"),
            text("harmless")
        );
        assert!(doc.contains(&row), "docs/probes.md has no row\n{row}");
        seen += 1;
    }
    assert!(seen >= 179, "{seen}");
    let mut fields = Vec::new();
    let probes = &report["probes"][0];
    for (above, object) in [("", &report), ("probes.", probes), ("summary.", &report["summary"])] {
        fields.extend(object.as_object().unwrap().keys().map(|field| format!("`{above}{field}`")));
    }
    for field in fields {
        assert!(doc.contains(&field), "docs/probes.md does not tell of {field}");
    }
    let rows = doc.lines().filter(|line| line.starts_with("| `") && line.matches('|').count() == 7).count();
    assert_eq!(rows, seen, "docs/probes.md tells of attempts that there are not");
}

/// The line that everybody tries first.
#[test]
fn an_untrusted_shell_sees_nothing_of_the_host() {
    let _alone = alone();
    let host = std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap();
    for who in everybody("shell") {
        let script =
            "id; hostname; ls /proc | grep -c '^[0-9]'; cat /etc/shadow; mount -t tmpfs x /mnt; ping -c1 127.0.0.1";
        let ran = Run::under("untrusted", ["sh", "-c", script]).who(who).ran();
        let lines: Vec<&str> = ran.stdout.lines().collect();
        // Root becomes an id that owns nothing, an ordinary user stays who it is.
        let id = if who == Who::Root { 1000 } else { palisade_tests::USER };
        assert_eq!(lines[0], format!("uid={id}(user) gid={id}(user) groups={id}(user)"));
        assert_eq!(lines[1], "palisade");
        assert_ne!(lines[1], host.trim());
        assert!(lines[2].parse::<u32>().unwrap() <= 6, "{}", ran.stdout);
        assert!(ran.stderr.contains("/etc/shadow: No such file"), "{}", ran.stderr);
        assert!(ran.stderr.contains("mount: /mnt"), "{}", ran.stderr);
    }
    // The twins.
    let bare = Run::bare(["sh", "-c", "hostname; ls /proc | grep -c '^[0-9]'"]).ran();
    assert_eq!(bare.stdout.lines().next(), Some(host.trim()));
    assert!(bare.stdout.lines().nth(1).unwrap().parse::<u32>().unwrap() > 6);
}
