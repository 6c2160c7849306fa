//! `palisade plugin check`: every check is failed by a plugin that does not keep to it, and by no other.

use palisade_tests::{Leftovers, Ran, Run, Scratch, Who, built, everybody, is_root, skip, tree};
use serde_json::Value;
use std::path::PathBuf;
use std::sync::{Mutex, MutexGuard};

fn alone() -> MutexGuard<'static, ()> {
    static ONE: Mutex<()> = Mutex::new(());
    ONE.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
}

/// A plugin's file in a place that everybody can read.
struct Bench {
    home: Scratch,
    path: PathBuf,
}

impl Bench {
    fn of(bytes: &[u8]) -> Self {
        let home = Scratch::new();
        let path = home.file("libflawed.so", bytes);
        Self { home, path }
    }

    fn flawed() -> Vec<u8> {
        std::fs::read(built().with_file_name("libflawed.so")).unwrap()
    }

    fn check(&self, who: Who, flaw: &str, more: &[&str]) -> (Ran, Value) {
        let words = ["plugin", "check", self.path.to_str().unwrap(), "--json"];
        let run = Run::palisade(words.iter().chain(more).copied()).who(who);
        let run = run.env("FLAW", flaw).env("HOME", self.home.text());
        let ran = run.ran();
        let report = serde_json::from_str(&ran.stdout).unwrap_or_else(|e| panic!("{e}: {}{}", ran.stdout, ran.stderr));
        (ran, report)
    }
}

/// The ids of the checks with this verdict.
fn with<'a>(report: &'a Value, verdict: &str) -> Vec<&'a str> {
    let checks = report["checks"].as_array().unwrap().iter();
    checks.filter(|check| check["verdict"] == verdict).map(|check| check["id"].as_str().unwrap()).collect()
}

fn one<'a>(report: &'a Value, id: &str) -> &'a Value {
    report["checks"].as_array().unwrap().iter().find(|check| check["id"] == id).unwrap()
}

/// A flaw, the check that it fails, and what is seen of it.
const FLAWS: &[(&str, &str, &str)] = &[
    ("layout", "layout", "it ended the process (exit status 0) in `dlopen`"),
    ("reference", "reference", "the reference gives no step"),
    ("crash", "reference", "it ended the process (SIGABRT) in `configure` and `plan`"),
    ("exit", "reference", "it ended the process (exit status 0) in `configure` and `plan`"),
    ("hang", "reference", "it hung for 5 s in `configure` and `plan`"),
    ("stages", "stages", "is of stage drop, which the manifest does not declare"),
    ("words", "words", "is not one line in words"),
    ("configuration", "configuration", "is an error without a message"),
    ("pure", "pure", "`probe` changes its process: cwd"),
    ("threads", "threads", "`watch` leaves 1 threads"),
    ("panics", "panics", "`configure` without the fact `run_id`: it panicked"),
    ("time", "time", "`configure` takes 6"),
    ("undo", "undo", "a second `undo` of `leaves a mark on the host` fails: there is no mark any more"),
    ("faults", "faults", "chdir fails with"),
    ("faults-silent", "faults", "it answers that all went well, and it did not: cwd"),
    ("faults-left", "faults", "of 0 bytes is left"),
    ("faults-hang", "faults", "it hangs"),
    ("launch", "launch", "it cannot be done after all"),
];

#[test]
fn a_plugin_that_keeps_to_everything_passes_every_check() {
    let _alone = alone();
    let bench = Bench::of(&Bench::flawed());
    let before = Leftovers::now();
    for who in everybody("check") {
        let (ran, report) = bench.check(who, "", &[]);
        assert_eq!(with(&report, "passed").len(), 14, "{report:#}");
        assert_eq!(report["checks"].as_array().unwrap().len(), 14);
        assert!(one(&report, "faults")["figures"]["made_to_fail"].as_u64().unwrap() >= 3, "{report:#}");
        assert!(one(&report, "configuration")["figures"]["refused"].as_u64().unwrap() > 100, "{report:#}");
        let seconds = ran.took.as_secs();
        ran.code(0);
        assert!(seconds < 20, "{seconds} s");
    }
    before.same();
}

#[test]
fn each_flaw_fails_its_check_and_no_other() {
    let _alone = alone();
    let bench = Bench::of(&Bench::flawed());
    let before = Leftovers::now();
    let mut failed: Vec<String> = Vec::new();
    for (flaw, id, seen) in FLAWS {
        let (ran, report) = bench.check(if is_root() { Who::Root } else { Who::User }, flaw, &[]);
        assert_eq!(with(&report, "failed"), [*id], "{flaw}: {report:#}");
        let check = one(&report, id);
        let said = check["seen"].to_string().replace("\\\"", "\"");
        assert!(said.contains(seen), "{flaw}: {said}");
        assert!(!check["help"].as_str().unwrap().is_empty());
        ran.code(1);
        failed.push((*id).to_owned());
    }
    for (id, bytes, seen) in files() {
        let (ran, report) = Bench::of(&bytes).check(Who::User, "", &[]);
        assert_eq!(with(&report, "failed"), [id], "{report:#}");
        assert!(one(&report, id)["seen"].to_string().contains(seen), "{report:#}");
        ran.code(1);
        failed.push(id.to_owned());
    }
    let (_, report) = bench.check(Who::User, "", &["--only", "elf"]);
    assert_eq!(with(&report, "passed"), ["elf"]);
    let (_, report) = bench.check(Who::User, "", &[]);
    for check in report["checks"].as_array().unwrap() {
        let id = check["id"].as_str().unwrap();
        assert!(failed.iter().any(|one| one == id), "no plugin fails `{id}`");
    }
    before.same();
}

/// Files that are wrong before anything of them runs.
fn files() -> Vec<(&'static str, Vec<u8>, &'static str)> {
    let good = Bench::flawed();
    let changed = |from: &str, to: &str| {
        assert_eq!(from.len(), to.len());
        let mut bytes = good.clone();
        let at = bytes.windows(from.len()).position(|window| window == from.as_bytes()).unwrap();
        bytes[at..at + to.len()].copy_from_slice(to.as_bytes());
        bytes
    };
    vec![
        ("elf", good[..good.len() / 2].to_vec(), "truncated"),
        ("manifest", changed("keeps to everything, but", r"keeps\nt everything, but"), "`summary` is not one line"),
        ("manifest", changed("seam: \"1.1\"", "seam: \"1.9\""), "newer"),
        ("manifest", changed("seam: \"1.1\"", "seam: \"1.0\""), "the library was built with palisade-abi 1.1"),
        ("manifest", changed("\"files\": \"1.0\"", "\"files\": \"new\""), "where the first Linux that has it belongs"),
    ]
}

/// The plugins that come with palisade fail none; what is not applicable has its reason.
#[test]
fn no_plugin_of_palisades_own_fails_a_check() {
    let _alone = alone();
    if !is_root() {
        return skip("check:root", "most of the references need root");
    }
    let listed = std::fs::read_dir(tree().join("plugins")).unwrap().map(|entry| entry.unwrap());
    // The examples that are not Rust are built by their own test.
    let crates = listed.filter(|entry| entry.path().join("Cargo.toml").exists());
    let names: Vec<String> = crates.map(|entry| entry.file_name().to_string_lossy().into_owned()).collect();
    assert!(names.len() >= 6, "{names:?}");
    let before = Leftovers::now();
    for name in names {
        let bench = Bench::of(&std::fs::read(built().with_file_name(format!("libpalisade_{name}.so"))).unwrap());
        let (ran, report) = bench.check(Who::Root, "", &[]);
        assert!(with(&report, "failed").is_empty(), "{name}: {report:#}");
        assert!(with(&report, "passed").len() >= 12, "{name}: {report:#}");
        for id in with(&report, "not_applicable") {
            assert!(["reference", "undo", "launch"].contains(&id), "{name}: {report:#}");
            assert!(!one(&report, id)["reason"].as_str().unwrap().is_empty());
        }
        assert!([Some(0), Some(120)].contains(&ran.code), "{name}: {:?}", ran.code);
    }
    before.same();
}

/// A section of one's own stands for a reference that a host cannot do.
#[test]
fn a_section_of_ones_own_is_used() {
    let _alone = alone();
    if !is_root() {
        return skip("check:root", "a limit needs root");
    }
    let bench = Bench::of(&std::fs::read(built().with_file_name("libpalisade_cgroups.so")).unwrap());
    let section = bench.home.file("section.ron", "(pids: (max: 50))");
    let (_, report) = bench.check(Who::Root, "", &["--policy-section", section.to_str().unwrap()]);
    assert_eq!(report["section"], "(pids: (max: 50))");
    for id in ["undo", "faults", "launch", "words"] {
        assert_eq!(one(&report, id)["verdict"], "passed", "{report:#}");
    }
    let wrong = bench.home.file("wrong.ron", "(pids: (maxx: 50))");
    let (ran, report) = bench.check(Who::Root, "", &["--policy-section", wrong.to_str().unwrap()]);
    assert!(one(&report, "launch")["reason"].as_str().unwrap().contains("unknown field"), "{report:#}");
    ran.code(120);
}

#[test]
fn what_is_said_is_for_people_too() {
    let _alone = alone();
    let bench = Bench::of(&Bench::flawed());
    let check = |words: &[&str]| {
        let all = ["plugin", "check", bench.path.to_str().unwrap()];
        Run::palisade(all.iter().chain(words).copied()).who(Who::User).env("FLAW", "words").ran()
    };
    let ran = check(&["--only", "words,elf", "--seed", "7"]).code(1);
    ran.prints("elf    passed")
        .prints("words  failed")
        .prints("seen  a step of stage prepare")
        .prints("help  ")
        .prints("seed 7");
    check(&["--only", "wrods"]).code(2).says("there is no check `wrods`").says("did you mean `words`?");
    Run::palisade(["plugin", "check", "/nonexistent.so"]).ran().code(119).says("cannot be read");
    Run::palisade(["plugin", "check", "/dev/zero"]).ran().code(119).says("it is no file");
}

/// The same seed makes the same mistakes.
#[test]
fn a_seed_makes_it_the_same_twice() {
    let _alone = alone();
    let bench = Bench::of(&Bench::flawed());
    let refused = |seed: &str| {
        let (_, report) = bench.check(Who::User, "", &["--only", "configuration", "--seed", seed]);
        one(&report, "configuration")["figures"].to_string()
    };
    assert_eq!(refused("3"), refused("3"));
}

#[test]
fn every_check_is_documented() {
    let _alone = alone();
    let doc = std::fs::read_to_string(tree().join("docs/plugin-check.md")).unwrap();
    let (_, report) = Bench::of(&Bench::flawed()).check(Who::User, "", &[]);
    let rows: Vec<&str> = doc.lines().filter_map(|line| line.strip_prefix("| `")?.split('`').next()).collect();
    let checks = report["checks"].as_array().unwrap().iter();
    let ids: Vec<&str> = checks.map(|check| check["id"].as_str().unwrap()).collect();
    assert_eq!(rows, ids);
}
