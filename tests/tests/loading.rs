//! Plugins that are not what they should be: refused before anything of them runs, or contained when they fail.

use palisade_tests::{Leftovers, Ran, Run, Scratch, Who, built, is_root, skip};
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard};

fn alone() -> MutexGuard<'static, ()> {
    static ONE: Mutex<()> = Mutex::new(());
    ONE.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
}

/// A directory of plugins that is root's, and an ordinary user with a lock of its own.
struct Bench {
    dir: PathBuf,
    home: Scratch,
}

const FILE: &str = "libpalisade_saboteur.so";

impl Bench {
    fn new() -> Option<Self> {
        if !is_root() {
            skip("loading:root", "whose file it is can be tried only by root");
            return None;
        }
        let dir = PathBuf::from(format!("/opt/palisade-test-{}-plugins", std::process::id()));
        std::fs::create_dir(&dir).unwrap();
        Some(Self { dir, home: Scratch::new() })
    }

    fn path(&self) -> PathBuf {
        self.dir.join(FILE)
    }

    fn good(&self) -> Vec<u8> {
        std::fs::read(built().with_file_name("libsaboteur.so")).unwrap()
    }

    /// Puts a file in place, writable by its owner only.
    fn put(&self, bytes: &[u8]) {
        drop(std::fs::remove_file(self.path()));
        std::fs::write(self.path(), bytes).unwrap();
        std::fs::set_permissions(self.path(), std::fs::Permissions::from_mode(0o644)).unwrap();
    }

    fn palisade(&self, words: &[&str]) -> Run {
        let mut all: Vec<&str> = words.to_vec();
        let at = if words[0] == "run" { 1 } else { 2 };
        all.splice(at..at, ["--plugin-dir", self.dir.to_str().unwrap()]);
        let state = self.home.path().join("state");
        Run::palisade(all).who(Who::User).env("XDG_STATE_HOME", state.to_str().unwrap()).env("HOME", self.home.text())
    }

    /// A run with this section, leaving a mark when the library is opened.
    fn run(&self, plugin: &str, section: &str) -> (Ran, bool) {
        self.run_with(plugin, section, "true")
    }

    fn run_with(&self, plugin: &str, section: &str, command: &str) -> (Ran, bool) {
        let policy = self.home.policy(&format!(
            "Policy(version: 1, process: (env: Keep([\"PATH\"])), plugins: {{\n  \"{plugin}\": ({section}),\n}})"
        ));
        let mark = self.mark();
        let run = self.palisade(&["run", "--policy", policy.to_str().unwrap(), "--", "sh", "-c", command]);
        let ran = run.env("SABOTEUR_MARK", mark.to_str().unwrap()).ran();
        (ran, mark.exists())
    }

    fn mark(&self) -> PathBuf {
        let mark = self.home.path().join("mark");
        drop(std::fs::remove_file(&mark));
        mark
    }

    fn grant(&self) {
        self.palisade(&["plugin", "verify", "saboteur", "--grant", "build"]).ran().code(0);
    }
}

impl Drop for Bench {
    fn drop(&mut self) {
        drop(std::fs::remove_dir_all(&self.dir));
    }
}

fn compile(into: &Path, source: &str, options: &[&str]) {
    let file = into.with_extension("c");
    std::fs::write(&file, source).unwrap();
    let out = ["-shared", "-fPIC", "-o", into.to_str().unwrap(), file.to_str().unwrap()];
    Run::bare(["gcc"].iter().chain(&out).chain(options)).ran().code(0);
    std::fs::remove_file(file).unwrap();
}

fn manifest(name: &str) -> String {
    format!(
        "(name:\\\"{name}\\\",version:\\\"1\\\",seam:\\\"1.0\\\",summary:\\\"x\\\",stages:[build],reference:\\\"()\\\")"
    )
}

/// A library in C that leaves the mark, with a manifest or without.
fn in_c(with_manifest: bool) -> String {
    let section = format!(
        "#define TEXT \"{}\"\n__attribute__((section(\".palisade.manifest\"),used)) static const char text[sizeof(TEXT)-1]=TEXT;\n",
        manifest("saboteur")
    );
    let mark = "#include <stdio.h>\n#include <stdlib.h>\n\
        __attribute__((constructor)) static void mark(void){char*m=getenv(\"SABOTEUR_MARK\");if(m){FILE*f=fopen(m,\"w\");if(f)fclose(f);}}\n";
    format!("{mark}{}", if with_manifest { section } else { String::new() })
}

#[test]
fn what_is_not_trusted_never_runs() {
    let _alone = alone();
    let Some(bench) = Bench::new() else { return };
    let before = Leftovers::now();
    let good = bench.good();
    let refused = |what: &str, said: &str| {
        let (ran, mark) = bench.run("saboteur", "");
        assert!(!mark, "{what}: something of it ran");
        let ran = ran.code(119).says(said).says("file ");
        assert!(ran.stderr.contains(&format!("{}", bench.dir.display())), "{what}: {}", ran.stderr);
    };
    let (ran, mark) = bench.run("saboteur", "");
    assert!(!mark);
    ran.code(119).says("there is no plugin `saboteur`").says("help");

    bench.put(&good[..good.len() / 2]);
    refused("truncated", "truncated");
    bench.put(b"#!/bin/sh\necho no\n");
    refused("a text file", "not a 64-bit ELF file");
    let mut other = good.clone();
    other[18..20].copy_from_slice(&243_u16.to_le_bytes());
    bench.put(&other);
    refused("another machine", "another machine");
    compile(&bench.path(), &in_c(true), &["-Wl,-rpath,/tmp"]);
    refused("RPATH", "RPATH or RUNPATH");
    compile(&bench.path(), &in_c(true), &["-Wl,-rpath,/tmp", "-Wl,--disable-new-dtags"]);
    refused("an old RPATH", "RPATH or RUNPATH");
    let foreign = bench.dir.join("libforeign.so");
    compile(&foreign, "int foreign(void){return 1;}\n", &["-Wl,-soname,libforeign.so"]);
    compile(&bench.path(), &in_c(true), &["-Wl,--no-as-needed", foreign.to_str().unwrap()]);
    refused("a foreign library", "it needs libforeign.so");
    compile(&bench.path(), &in_c(false), &[]);
    refused("no manifest", "no manifest");

    bench.put(&good);
    for mode in [0o664, 0o646] {
        std::fs::set_permissions(bench.path(), std::fs::Permissions::from_mode(mode)).unwrap();
        refused("writable by others", "can be written by others");
    }
    bench.put(&good);
    for mode in [0o777, 0o1777, 0o775] {
        std::fs::set_permissions(&bench.dir, std::fs::Permissions::from_mode(mode)).unwrap();
        refused("in a directory that others can write", "can be written by others");
    }
    std::fs::set_permissions(&bench.dir, std::fs::Permissions::from_mode(0o755)).unwrap();
    std::os::unix::fs::chown(bench.path(), Some(12345), Some(12345)).unwrap();
    refused("somebody else's", "is owned by uid 12345");
    std::fs::rename(bench.path(), bench.dir.join("real.so")).unwrap();
    std::os::unix::fs::symlink("real.so", bench.path()).unwrap();
    refused("a symbolic link", "is a symbolic link");

    // The twin of all of them: the plugin as it should be is opened, and only then something of it runs.
    bench.put(&good);
    let (ran, mark) = bench.run("saboteur", "at: \"none-inside\"");
    ran.code(0);
    assert!(mark, "nothing of the good plugin ran");
    before.same();
}

/// As root only root's files are trusted: a user's own plugin is nothing for root.
#[test]
fn root_trusts_nobody_else() {
    let _alone = alone();
    let Some(bench) = Bench::new() else { return };
    bench.put(&bench.good());
    std::os::unix::fs::chown(bench.path(), Some(palisade_tests::USER), None).unwrap();
    let policy = bench.home.policy("Policy(version: 1, plugins: {\"saboteur\": (at: \"none-inside\")})");
    let words = ["run", "--plugin-dir", bench.dir.to_str().unwrap(), "--policy", policy.to_str().unwrap(), "true"];
    Run::palisade(words).who(Who::Root).ran().code(119).says("is owned by uid 64321");
    // The twin: for that user it is its own.
    bench.run("saboteur", "at: \"none-inside\"").0.code(0);
}

#[test]
fn what_does_not_fit_is_named() {
    let _alone = alone();
    let Some(bench) = Bench::new() else { return };
    let good = bench.good();
    std::fs::write(bench.dir.join("libpalisade_other.so"), &good).unwrap();
    let (ran, mark) = bench.run("other", "");
    ran.code(119).says("its file is named for `other`, its manifest says `saboteur`").says(FILE);
    assert!(!mark);
    compile(&bench.path(), &in_c(true), &[]);
    bench.run("saboteur", "").0.code(119).says("exports no palisade plugin");
    // abi_stable marks its header with a text; behind it stand the major and the minor version.
    let mut other = good.clone();
    let magic = b"abi stable library for Rust";
    let at = other.windows(magic.len()).position(|window| window == magic).unwrap();
    other[at + 32..at + 40].iter_mut().for_each(|byte| *byte = byte.wrapping_add(77));
    bench.put(&other);
    bench.run("saboteur", "").0.code(119).says("another abi_stable");
    bench.put(&good);
    bench.run("saboteur", "at: \"none-inside\"").0.code(0);
}

#[test]
fn a_plugin_of_somebody_else_acts_inside_only_where_it_was_granted() {
    let _alone = alone();
    let Some(bench) = Bench::new() else { return };
    bench.put(&bench.good());
    let ran = bench.run("saboteur", "").0.code(119);
    ran.says("did not come with palisade").says("palisade plugin verify saboteur --grant build");
    // On the host it needs no grant: there it has the launcher's rights anyway.
    bench.run("saboteur", "at: \"none-inside\"").0.code(0);
    bench.grant();
    bench.run("saboteur", "").0.code(0);
    // Another file is another plugin.
    let mut changed = bench.good();
    changed.push(0);
    bench.put(&changed);
    bench.run("saboteur", "").0.code(119).says("did not come with palisade");
    // A stage that the manifest does not declare is refused whatever was granted.
    bench.put(&bench.good());
    bench.palisade(&["plugin", "verify", "saboteur", "--grant", "build,drop,seal"]).ran().code(0);
    bench.run("saboteur", "at: \"undeclared\"").0.code(119).says("stage seal, which its manifest does not declare");
    bench.run("saboteur", "at: \"flags\"").0.code(119).says("which are not CLONE_NEW* flags");
    bench.run("saboteur", "").0.code(0);
}

#[test]
fn a_panic_an_exit_and_an_error_in_every_entry_are_told() {
    let _alone = alone();
    let Some(bench) = Bench::new() else { return };
    bench.put(&bench.good());
    bench.grant();
    let before = Leftovers::now();
    for entry in ["configure", "plan", "apply-host", "apply-child", "witness", "verify"] {
        let section = |how: &str| format!("at: \"{entry}\", how: \"{how}\"");
        let called = entry.trim_end_matches("-host").trim_end_matches("-child");
        let ran = bench.run("saboteur", &section("panic")).0.code(119);
        ran.says("saboteur: it panicked in").says(&format!("as asked in {entry}")).says(&format!("`{called}`"));
        let ran = bench.run("saboteur", &section("error")).0.code(121);
        ran.says(&format!("saboteur: as asked in {entry}")).says("nothing()");
        let ran = bench.run("saboteur", &section("exit")).0.code(119);
        if ["apply-child", "witness"].contains(&entry) {
            ran.says("saboteur: the child exited with status 0").says("does nothing in the child (build)");
        } else {
            ran.says(&format!("saboteur: `{called}` ended the process"));
        }
        before.same();
    }
    let ran = bench.run("saboteur", "at: \"apply-child\", how: \"kill\"").0.code(119);
    ran.says("saboteur: the child was ended by SIGABRT").says("does nothing in the child (build)");
    // When the workload has run, its own code stays; what failed is told.
    for entry in ["finish", "undo"] {
        for how in ["panic", "error"] {
            let section = format!("at: \"{entry}\", how: \"{how}\"");
            let ran = bench.run_with("saboteur", &section, "exit 7").0.code(7);
            ran.says("saboteur").says(&format!("as asked in {entry}"));
        }
        let section = format!("at: \"{entry}\", how: \"exit\"");
        bench.run("saboteur", &section).0.code(119).says(&format!("saboteur: `{entry}` ended the process"));
    }
    // A watcher that fails ends the workload: what it watched for is no longer watched.
    bench.run_with("saboteur", "at: \"ready\", how: \"panic\"", "sleep 30").0.code(122).says("saboteur");
    bench.run("saboteur", "").0.code(0);
    before.same();
}

#[test]
fn a_plan_that_hangs_is_ended() {
    let _alone = alone();
    let Some(bench) = Bench::new() else { return };
    bench.put(&bench.good());
    let ran = bench.run("saboteur", "at: \"plan\", how: \"hang\"").0.code(119);
    assert!(ran.took.as_secs() >= 10 && ran.took.as_secs() < 20, "{:?}", ran.took);
    ran.says("saboteur: `plan` took longer than 10 s").says("help");
}

#[test]
fn a_probe_that_fails_is_told_by_doctor() {
    let _alone = alone();
    let Some(bench) = Bench::new() else { return };
    bench.put(&bench.good());
    let doctor = |how: &str| {
        let words = ["doctor", "--plugin-dir", bench.dir.to_str().unwrap()];
        let run = Run::palisade(words).who(Who::User).env("HOME", bench.home.text());
        let run = run.env("XDG_STATE_HOME", bench.home.path().join("state").to_str().unwrap());
        if how.is_empty() { run.ran() } else { run.env("SABOTEUR_PROBE", how).ran() }
    };
    assert!(!doctor("").stdout.contains("panicked"));
    let ran = doctor("panic");
    assert!(
        ran.stdout.contains("panicked in `probe`") || ran.stderr.contains("panicked in `probe`"),
        "{}{}",
        ran.stdout,
        ran.stderr
    );
}

#[test]
fn the_lock_is_used_and_believed_only_where_it_may() {
    let _alone = alone();
    let Some(bench) = Bench::new() else { return };
    bench.put(&bench.good());
    let lock = bench.home.path().join("state/palisade/plugins.lock");
    let run = || bench.run("saboteur", "").0;
    bench.grant();
    run().code(0);
    let text = std::fs::read_to_string(&lock).unwrap();
    assert!(text.contains("\"saboteur\"") && text.contains("\"build\""), "{text}");
    let mode = std::fs::metadata(&lock).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
    // The same size and the same time of change: ctime tells.
    let facts = std::fs::metadata(bench.path()).unwrap();
    let mut changed = bench.good();
    let at = changed.windows(9).position(|window| window == b"misbehave").unwrap();
    changed[at] = b'M';
    std::fs::write(bench.path(), &changed).unwrap();
    let file = std::fs::File::options().write(true).open(bench.path()).unwrap();
    file.set_modified(facts.modified().unwrap()).unwrap();
    assert_eq!(std::fs::metadata(bench.path()).unwrap().len(), facts.len());
    run().code(119).says("did not come with palisade");
    // What others could have written, what is damaged, and what another build wrote counts as nothing.
    bench.put(&bench.good());
    bench.grant();
    run().code(0);
    let granted = std::fs::read_to_string(&lock).unwrap();
    let host = granted.split("\"host\":\"").nth(1).unwrap().split('"').next().unwrap().to_owned();
    let damages: [&dyn Fn(); 4] = [
        &|| std::fs::set_permissions(&lock, std::fs::Permissions::from_mode(0o666)).unwrap(),
        &|| std::os::unix::fs::chown(&lock, Some(12345), None).unwrap(),
        &|| std::fs::write(&lock, &granted[..granted.len() / 2]).unwrap(),
        &|| std::fs::write(&lock, granted.replace(&host, "another build")).unwrap(),
    ];
    for damage in damages {
        drop(std::fs::remove_file(&lock));
        std::fs::write(&lock, &granted).unwrap();
        std::fs::set_permissions(&lock, std::fs::Permissions::from_mode(0o600)).unwrap();
        std::os::unix::fs::chown(&lock, Some(palisade_tests::USER), None).unwrap();
        run().code(0);
        damage();
        run().code(119).says("did not come with palisade");
    }
}
