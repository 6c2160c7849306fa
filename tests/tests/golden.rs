//! What released minors of the seam are held to: a plugin that was built against each of them runs under today's
//! palisade, one that is built today is understood by the host of each, and the source of that plugin still builds.
//! `tests/golden/make` made what is kept.

use palisade_tests::{Run, Scratch, Who, built, everybody, skip, tree};
use serde_json::Value;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicU32, Ordering};

/// The minors that were released, for this machine.
fn minors(test: &str) -> Vec<PathBuf> {
    let mut all = Vec::new();
    for entry in std::fs::read_dir(tree().join("tests/golden")).unwrap() {
        let minor = entry.unwrap().path();
        if minor.join("api.txt").exists() {
            all.push(minor.join(std::env::consts::ARCH));
        }
    }
    assert!(!all.is_empty());
    if all.iter().any(|minor| !minor.exists()) {
        skip(&format!("golden:{test}"), "nothing was kept for this processor");
        return Vec::new();
    }
    all
}

/// A directory of plugins that is whoever's runs it, removed at the end.
struct Plugins(PathBuf);

impl Plugins {
    fn with(plugin: &Path) -> Self {
        let dir = if palisade_tests::is_root() { "/opt" } else { env!("CARGO_TARGET_TMPDIR") };
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let number = COUNT.fetch_add(1, Ordering::Relaxed);
        let dir = Path::new(dir).join(format!("palisade-test-{}-golden{number}", std::process::id()));
        std::fs::create_dir(&dir).unwrap();
        std::fs::copy(plugin, dir.join("libpalisade_golden.so")).unwrap();
        Self(dir)
    }
}

impl Drop for Plugins {
    fn drop(&mut self) {
        std::fs::remove_dir_all(&self.0).unwrap();
    }
}

/// Everything that the golden plugin does is seen: by the workload, in the report, and on the host afterwards.
fn runs(plugin: &Path, seam: &str, who: Who) {
    let plugins = Plugins::with(plugin);
    let (scratch, dir) = (Scratch::new(), plugins.0.to_str().unwrap());
    let (report, note) = (scratch.path().join("report"), scratch.path().join("note"));
    let policy = scratch.policy(
        "Policy(version: 1, process: (env: Keep([\"PATH\"])), plugins: {\n    \"namespaces\": (user: New, uts: New),\n    \
         \"golden\": (\n        hostname: \"kept\",\n        note: \"${note}\",\n    ),\n})",
    );
    if palisade_tests::is_root() && who == Who::Root {
        std::os::unix::fs::chown(scratch.path(), Some(0), Some(0)).unwrap();
    }
    let palisade = |words: &[&str]| {
        let state = scratch.path().join("state");
        let run = Run::palisade(words.iter().copied()).who(who);
        run.env("XDG_STATE_HOME", state.to_str().unwrap()).env("HOME", scratch.text()).ran()
    };
    let told = palisade(&["plugin", "info", "golden", "--json", "--plugin-dir", dir]).code(0);
    let told: Value = serde_json::from_str(&told.stdout).unwrap();
    assert_eq!(told["manifest"]["seam"], seam);
    palisade(&["plugin", "verify", "golden", "--grant", "build", "--plugin-dir", dir]).code(0);
    let set = format!("note={}", note.display());
    let (report_at, policy) = (report.to_str().unwrap(), policy.to_str().unwrap());
    let run = |more: &[&str], script: &str| {
        let mut words = vec!["run", "--plugin-dir", dir, "--policy", policy, "--var", &set, "--report", report_at];
        words.extend(more);
        words.extend(["--", "sh", "-c", script]);
        palisade(&words)
    };
    let ran = run(&[], &format!("hostname; cat {}; sleep 0.3", note.display())).code(0);
    assert_eq!(ran.stdout, "kept\ngolden", "{who:?}");
    assert!(!note.exists(), "the note was not taken away");
    told_of(&serde_json::from_str(&std::fs::read_to_string(&report).unwrap()).unwrap());
    // An error crosses with its place in the policy.
    let wrong = run(&["--set", "golden.hostname=wrong"], "true").code(118);
    wrong.says("the host name is wrong").says("golden.hostname=wrong").says("choose another");
    palisade(&["plugin", "verify", "golden", "--revoke", "--plugin-dir", dir]).code(0);
}

fn told_of(report: &Value) {
    let text = report.to_string();
    for part in ["sets the host name `kept`", "leaves a note", "it reads back as such", "it was there to be hit at "] {
        assert!(text.contains(part), "no {part:?} in {report:#}");
    }
    assert_eq!(report["usage"]["figures"]["golden_woken_count"], 1, "{report:#}");
}

#[test]
fn a_plugin_of_every_released_minor_runs() {
    for minor in minors("plugin") {
        let seam = minor.parent().unwrap().file_name().unwrap().to_str().unwrap();
        for who in everybody("golden") {
            runs(&minor.join("libpalisade_golden.so"), seam, who);
        }
    }
}

/// The golden plugin, built from its source with today's SDK.
fn built_today() -> PathBuf {
    let top = Path::new(env!("CARGO_TARGET_TMPDIR")).join("golden");
    drop(std::fs::remove_dir_all(top.join("src")));
    std::fs::create_dir_all(top.join("src")).unwrap();
    let source = tree().join("tests/golden/plugin");
    let cargo = std::fs::read_to_string(source.join("Cargo.toml")).unwrap();
    let core = format!("{}/core", tree().display());
    std::fs::write(top.join("Cargo.toml"), cargo.replace("../../../core", &core)).unwrap();
    std::fs::copy(tree().join("Cargo.lock"), top.join("Cargo.lock")).unwrap();
    for file in ["lib.rs", "manifest.ron"] {
        std::fs::copy(source.join("src").join(file), top.join("src").join(file)).unwrap();
    }
    let made = Command::new(env!("CARGO"))
        .args(["build", "--offline", "--quiet", "--target-dir"])
        // With the plugins of others that are built by tests: what they depend on is built once.
        .arg(Path::new(env!("CARGO_TARGET_TMPDIR")).join("alone"))
        .current_dir(&top)
        .output()
        .unwrap();
    assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
    Path::new(env!("CARGO_TARGET_TMPDIR")).join("alone/debug/libpalisade_golden.so")
}

#[test]
fn its_source_still_builds_and_runs_and_older_hosts_take_it() {
    let plugin = built_today();
    for who in everybody("golden") {
        runs(&plugin, "1.0", who);
    }
    for minor in minors("host") {
        let said = host(&minor, &plugin, "(hostname: \"kept\")");
        for part in [
            "probe golden: kernel 6.1",
            "step build: sets the host name `kept` (require) at Some((7, 111, 117))",
            "figure golden_woken_count = 1",
            "hit golden.limit: it was there to be hit",
        ] {
            assert!(said.contains(part), "no {part:?} in\n{said}");
        }
        let wrong = host(&minor, &plugin, "(hostname: \"wrong\")");
        assert!(wrong.contains("refused: Policy: the host name is wrong /  / choose another"), "{wrong}");
        let unknown = host(&minor, &plugin, "(hostnaem: \"kept\")");
        assert!(unknown.contains("did you mean `hostname`?"), "{unknown}");
    }
}

/// What the host of a minor says of a plugin.
fn host(minor: &Path, plugin: &Path, section: &str) -> String {
    let said = Command::new(minor.join("host")).arg(plugin).arg(section).output().unwrap();
    assert!(said.status.success(), "{}", String::from_utf8_lossy(&said.stderr));
    String::from_utf8(said.stdout).unwrap()
}

/// The plugins that come with palisade use all that is new, and older hosts take them nevertheless.
#[test]
fn older_hosts_take_the_plugins_of_today() {
    for minor in minors("host") {
        let mut seen = 0;
        for entry in std::fs::read_dir(built().parent().unwrap()).unwrap() {
            let plugin = entry.unwrap().path();
            let name = plugin.file_name().unwrap().to_string_lossy().into_owned();
            if !name.starts_with("libpalisade_") || !name.ends_with(".so") || name.contains("saboteur") {
                continue;
            }
            let said = host(&minor, &plugin, "()");
            let here = minor.parent().unwrap().file_name().unwrap().to_str().unwrap();
            let first = said.lines().next().unwrap_or_default();
            assert!(first.starts_with("seam 1.") && first.ends_with(&format!("{here}.0 here")), "{name}: {said}");
            assert!(said.contains("probe "), "{name}: {said}");
            seen += 1;
        }
        assert!(seen >= 6, "only {seen} plugins");
    }
}
