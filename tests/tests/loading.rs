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
        let at = if words[0] == "plugin" { 2 } else { 1 };
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
    // Names that only look like the C library's; the second is a path.
    for name in ["libc-own.so", "libc.so.6/../own.so"] {
        compile(&foreign, "int foreign(void){return 1;}\n", &[&format!("-Wl,-soname,{name}")]);
        compile(&bench.path(), &in_c(true), &["-Wl,--no-as-needed", foreign.to_str().unwrap()]);
        refused(name, &format!("it needs {name}; a plugin may need the C library only"));
    }
    for (option, tag) in
        [("-f,own.so", "DT_AUXILIARY"), ("-F,own.so", "DT_FILTER"), ("--audit,o", "DT_AUDIT"), ("-P,o", "DT_DEPAUDIT")]
    {
        compile(&bench.path(), &in_c(true), &[&format!("-Wl,{option}")]);
        refused(tag, tag);
    }
    compile(&bench.path(), &in_c(true).replace(r#"seam:\"1.0\""#, r#"seam:\"2.0\""#), &[]);
    refused("another major by its manifest", "it was built for seam 2.0; this palisade has seam 1.1.0");
    compile(&bench.path(), &in_c(true).replace(r#"seam:\"1.0\""#, r#"seam:\"one\""#), &[]);
    refused("no version", "`one` is no version of the seam");
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
    // So is one further up.
    let link = PathBuf::from(format!("{}-link", bench.dir.display()));
    std::os::unix::fs::symlink(&bench.dir, &link).unwrap();
    let words = ["plugin", "verify", "saboteur", "--plugin-dir", link.to_str().unwrap()];
    let ran = Run::palisade(words).who(Who::User).env("SABOTEUR_MARK", bench.mark().to_str().unwrap()).ran();
    std::fs::remove_file(&link).unwrap();
    ran.code(119).prints("is a symbolic link");
    assert!(!bench.home.path().join("mark").exists());

    // The twin of all of them: the plugin as it should be is opened, and only then something of it runs.
    bench.put(&good);
    let (ran, mark) = bench.run("saboteur", "at: \"none-inside\"");
    ran.code(0);
    assert!(mark, "nothing of the good plugin ran");
    before.same();
}

/// What a refusal looks like, to the letter.
#[test]
fn a_refusal_says_what_where_and_what_to_do() {
    let _alone = alone();
    let Some(bench) = Bench::new() else { return };
    let dir = bench.dir.display();
    let exactly = |plugin: &str, text: &str| {
        let ran = bench.run(plugin, "").0.code(119);
        let said = ran.stderr.lines().filter(|line| !line.starts_with("  policy "));
        assert_eq!(said.collect::<Vec<_>>().join("\n"), text);
        assert!(ran.stderr.contains("policy"), "{}", ran.stderr);
    };
    let good = bench.good();
    bench.put(&good);
    let ran = bench.run("sabotuer", "").0.code(119);
    ran.says("there is no plugin `sabotuer`").says("libpalisade_sabotuer.so in /").says("did you mean `saboteur`?");
    bench.put(&good[..good.len() / 2]);
    exactly(
        "saboteur",
        &format!(
            "error: saboteur: it is truncated: a segment reaches past the end of the file\n  file    {dir}/{FILE}\n  \
             help    install the plugin again, or ask its author for one that fits"
        ),
    );
    bench.put(&good);
    std::fs::set_permissions(bench.path(), std::fs::Permissions::from_mode(0o664)).unwrap();
    exactly(
        "saboteur",
        &format!(
            "error: saboteur: it is not trusted: {dir}/{FILE} can be written by others than its owner (mode 0664)\n  \
             file    {dir}/{FILE}\n  help    chmod go-w {dir}/{FILE}, or keep the file elsewhere"
        ),
    );
    bench.put(&good);
    let ran = bench.run("saboteur", "").0.code(119);
    assert_eq!(
        ran.stderr,
        format!(
            "error: saboteur: it did not come with palisade, and may not act in the workload's process (stage build)\n  \
             step    does nothing in the child\n  file    {dir}/{FILE}\n  \
             help    if you trust it: palisade plugin verify saboteur --grant build --plugin-dir {dir}\n"
        )
    );
}

/// glibc knows a library by its name, and the name is a descriptor's number: when it was used again, the library
/// that had been refused stood in for the next one.
#[test]
fn a_refused_library_does_not_stand_in_for_the_next() {
    let _alone = alone();
    let Some(bench) = Bench::new() else { return };
    let good = bench.good();
    let mut other = other_abi_stable(&good);
    let at = other.windows(16).position(|window| window == b"name: \"saboteur\"").unwrap();
    other[at + 7] = b'a';
    other[at + 8] = b'a';
    other[at + 9] = b'a';
    std::fs::write(bench.dir.join("libpalisade_aaaoteur.so"), &other).unwrap();
    bench.put(&good);
    let ran = bench.palisade(&["plugin", "verify"]).ran().code(119);
    ran.prints("aaaoteur    refused").prints("saboteur    good");
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

/// The same library with the mark of another `abi_stable`: a text, then the major and the minor version.
fn other_abi_stable(good: &[u8]) -> Vec<u8> {
    let magic = b"abi stable library for Rust";
    let at = good.windows(magic.len()).position(|window| window == magic).unwrap();
    let mut other = good.to_vec();
    other[at + 36] += 77;
    other
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
    bench.put(&other_abi_stable(&good));
    bench.run("saboteur", "").0.code(119).says("another abi_stable: 0.88; this palisade has 0.11\n");
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
    // Checking again changes nothing about what was granted; only the user does. Nor does another content that stood
    // there meanwhile, or another inode.
    bench.put(&bench.good());
    let listed = || {
        let ran = bench.palisade(&["plugin", "list", "--json"]).ran().code(0);
        let all: serde_json::Value = serde_json::from_str(&ran.stdout).unwrap();
        all.as_array().unwrap().iter().map(|one| (one["name"].as_str().unwrap().to_owned(), one.clone())).collect()
    };
    let granted = |all: &std::collections::BTreeMap<String, serde_json::Value>| all["saboteur"]["granted"].to_string();
    assert_eq!(granted(&listed()), "[\"build\"]");
    let mut other = bench.good();
    other.push(1);
    bench.put(&other);
    assert_eq!(granted(&listed()), "[]");
    bench.grant();
    assert_eq!(granted(&listed()), "[\"build\"]");
    // Of one path one content has grants.
    bench.put(&bench.good());
    assert_eq!(granted(&listed()), "[]");
    bench.grant();
    assert!(listed()["seccomp"]["granted"].is_null());
    bench.palisade(&["plugin", "verify"]).ran().code(0).prints("granted: build");
    bench.run("saboteur", "").0.code(0);
    bench.palisade(&["plugin", "verify", "saboteur", "--revoke"]).ran().code(0).prints("granted: none");
    bench.run("saboteur", "").0.code(119).says("did not come with palisade");
    let host = bench.palisade(&["plugin", "verify", "saboteur", "--grant", "prepare"]).ran().code(2);
    host.says("stage prepare is not in the workload's process").says("on the host a plugin needs no grant");
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
    for how in ["panic", "error"] {
        let section = format!("at: \"ready\", how: \"{how}\"");
        bench.run_with("saboteur", &section, "sleep 30").0.code(122).says("saboteur").says("as asked in ready");
    }
    let ran = bench.run_with("saboteur", "at: \"ready\", how: \"exit\"", "sleep 30").0.code(119);
    ran.says("saboteur: `ready` ended the process");
    before.same();
    bench.run("saboteur", "").0.code(0);
    before.same();
}

/// An exit on the host leaves no time to undo: the kernel ends what is inside, a later launch takes away the cgroup.
#[test]
fn what_an_exit_leaves_is_taken_away() {
    let _alone = alone();
    let Some(bench) = Bench::new() else { return };
    bench.put(&bench.good());
    let run = |saboteur: &str| {
        let policy = bench.home.policy(&format!(
            "Policy(version: 1, plugins: {{\"cgroups\": (pids: (max: 50)), \"namespaces\": (pid: New), {saboteur}}})"
        ));
        let words = ["run", "--plugin-dir", bench.dir.to_str().unwrap(), "--policy", policy.to_str().unwrap(), "true"];
        Run::palisade(words).who(Who::Root).ran()
    };
    run("").code(0);
    let before = Leftovers::now();
    let words = ["plugin", "verify", "saboteur", "--grant", "build", "--plugin-dir", bench.dir.to_str().unwrap()];
    Run::palisade(words).who(Who::Root).ran().code(0);
    run("\"saboteur\": (at: \"verify\", how: \"exit\")").code(119).says("saboteur: `verify` ended the process");
    // A younger one could be in the making.
    std::thread::sleep(std::time::Duration::from_millis(5100));
    run("").code(0);
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
        let run = bench.palisade(&["doctor"]);
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
    doctor("exit").code(119).says("saboteur: `probe` ended the process");
}

#[test]
fn a_sample_that_fails_is_told_once_and_the_workload_goes_on() {
    let _alone = alone();
    let Some(bench) = Bench::new() else { return };
    bench.put(&bench.good());
    bench.grant();
    let run = |section: &str| {
        let policy = format!("Policy(version: 1, plugins: {{\"saboteur\": ({section})}})");
        let policy = bench.home.policy(&policy);
        let path = policy.to_str().unwrap();
        bench.palisade(&["run", "--watch", "--policy", path, "--", "/bin/sleep", "2.2"]).ran()
    };
    let good = run("at: \"none-inside\"").code(0);
    assert_eq!(good.stderr.matches("  lies 5.0 MiB").count(), 3, "{}", good.stderr);
    for how in ["panic", "error"] {
        let ran = run(&format!("at: \"sample\", how: \"{how}\"")).code(0);
        assert_eq!(ran.stderr.matches("what it uses could not be sampled").count(), 1, "{}", ran.stderr);
        ran.says("saboteur: ").says("as asked in sample").says("palisade: 2.0 s  no plugin of this policy counts");
    }
    run("at: \"sample\", how: \"exit\"").code(119).says("saboteur: `sample` ended the process");
}

#[test]
fn gc_says_what_a_plugin_says() {
    let _alone = alone();
    let Some(bench) = Bench::new() else { return };
    bench.put(&bench.good());
    let gc = |words: &[&str], name: &str, value: &str| {
        let words: Vec<&str> = ["gc"].iter().chain(words).copied().collect();
        bench.palisade(&words).env(name, value).ran()
    };
    gc(&[], "SABOTEUR_NONE", "").code(0).prints("nothing is left behind\n");
    gc(&["-n"], "SABOTEUR_LEFT", "a heap").code(0).prints("left: a heap\n");
    let stuck = gc(&[], "SABOTEUR_LEFT", "a heap").code(120);
    stuck.prints("could not be removed: a heap\n  why     it is stuck\n");
    let failed = gc(&["--json"], "SABOTEUR_COLLECT", "error").code(119);
    let json: serde_json::Value = serde_json::from_str(&failed.stdout).unwrap();
    assert_eq!(json["errors"][0]["plugin"], "saboteur");
    assert!(json["errors"][0]["error"].as_str().unwrap().contains("as asked in collect"), "{json}");
    gc(&[], "SABOTEUR_COLLECT", "panic").code(119).prints("it panicked in `collect`");
    gc(&[], "SABOTEUR_COLLECT", "exit").code(119).says("saboteur: `collect` ended the process");
}

#[test]
fn changes_are_what_a_plugin_says() {
    let _alone = alone();
    let Some(bench) = Bench::new() else { return };
    bench.put(&bench.good());
    bench.grant();
    let changes = |section: &str| {
        let policy = bench.home.policy(&format!("Policy(version: 1, plugins: {{\"saboteur\": ({section})}})"));
        bench.palisade(&["changes", "--policy", policy.to_str().unwrap()]).ran()
    };
    changes("at: \"none-inside\"").code(0).prints("D /tree/lies\n");
    changes("at: \"changes\", how: \"error\"").code(121).says("saboteur: as asked in changes");
    changes("at: \"changes\", how: \"panic\"").code(119).says("it panicked in `changes`");
    changes("at: \"changes\", how: \"exit\"").code(119).says("saboteur: `changes` ended the process");
}

#[test]
fn the_lock_is_used_and_believed_only_where_it_may() {
    let _alone = alone();
    let Some(bench) = Bench::new() else { return };
    bench.put(&bench.good());
    let lock = bench.home.path().join("state/palisade/plugins.lock");
    let run = || bench.run("saboteur", "").0;
    // A run remembers what it checked; nothing of it is needed for that but the plugin.
    assert!(!lock.exists());
    bench.run("saboteur", "at: \"none-inside\"").0.code(0);
    let remembered = || {
        let ran = bench.palisade(&["plugin", "info", "saboteur", "--json"]).ran().code(0);
        serde_json::from_str::<serde_json::Value>(&ran.stdout).unwrap()["remembered"] == true
    };
    assert!(lock.exists() && remembered());
    bench.put(&bench.good());
    assert!(!remembered());
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
    // What others could have written and what is damaged counts as nothing; of what another build wrote, grants count.
    bench.put(&bench.good());
    bench.grant();
    run().code(0);
    let granted = std::fs::read_to_string(&lock).unwrap();
    let host = granted.split("\"host\":\"").nth(1).unwrap().split('"').next().unwrap().to_owned();
    let other_build = || std::fs::write(&lock, granted.replace(&host, "another build")).unwrap();
    let damages: [(&dyn Fn(), i32); 4] = [
        (&|| std::fs::set_permissions(&lock, std::fs::Permissions::from_mode(0o666)).unwrap(), 119),
        (&|| std::os::unix::fs::chown(&lock, Some(12345), None).unwrap(), 119),
        (&|| std::fs::write(&lock, &granted[..granted.len() / 2]).unwrap(), 119),
        (&other_build, 0),
    ];
    for (damage, code) in damages {
        drop(std::fs::remove_file(&lock));
        std::fs::write(&lock, &granted).unwrap();
        std::fs::set_permissions(&lock, std::fs::Permissions::from_mode(0o600)).unwrap();
        std::os::unix::fs::chown(&lock, Some(palisade_tests::USER), None).unwrap();
        run().code(0);
        damage();
        let ran = run().code(code);
        assert_eq!(ran.stderr.contains("did not come with palisade"), code == 119, "{}", ran.stderr);
    }
}
