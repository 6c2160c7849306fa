//! Plugins behind a table of C functions: the examples at work, everything that the table can do, and what is refused.

use palisade_tests::{Leftovers, PluginDir, Ran, Run, Who, tree};
use std::ops::Deref;
use std::path::Path;
use std::process::Command;

/// A directory of plugins that is root's, and a place for an ordinary user.
struct Bench(PluginDir);

impl Deref for Bench {
    type Target = PluginDir;

    fn deref(&self) -> &PluginDir {
        &self.0
    }
}

impl Bench {
    fn new() -> Option<Self> {
        PluginDir::new("c-table").map(Self)
    }

    /// Builds the plugin of the tests with these options.
    fn odd(&self, options: &[&str]) {
        let out = self.dir.join("libpalisade_odd.so");
        drop(std::fs::remove_file(&out));
        let made = Command::new("gcc")
            .args(["-std=c11", "-Wall", "-Wextra", "-Werror", "-O1", "-fPIC", "-shared", "-fvisibility=hidden"])
            .args(options)
            .arg("-I")
            .arg(tree().join("core/abi/include"))
            .arg("-o")
            .args([&out, &tree().join("tests/fixtures/table/odd.c")])
            .output()
            .unwrap();
        assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
    }

    fn granted(self, plugin: &str, stages: &str) -> Self {
        for who in [Who::Root, Who::User] {
            self.palisade(who, &["plugin", "verify", plugin, "--grant", stages]).ran().code(0);
        }
        self
    }

    fn policy(&self, top: &str, plugins: &str) -> String {
        let text = format!("Policy(version: 1, {top} plugins: {{\n{plugins}\n}})");
        self.home.policy(&text).to_str().unwrap().to_owned()
    }

    /// Runs a script under this section of the plugin of the tests.
    fn run(&self, section: &str, script: &str) -> Ran {
        let policy = self.policy("process: (env: Keep([\"PATH\"])),", &format!("\"odd\": ({section}),"));
        self.palisade(Who::User, &["run", "--policy", &policy, "--", "sh", "-c", script]).ran()
    }

    fn report(&self, section: &str) -> serde_json::Value {
        let file = self.home.path().join("report");
        let policy = self.policy("process: (env: Keep([\"PATH\"])),", &format!("\"odd\": ({section}),"));
        let words = ["run", "--report", file.to_str().unwrap(), "--policy", &policy, "--", "sleep", "0.3"];
        self.palisade(Who::User, &words).ran().code(0);
        serde_json::from_str(&std::fs::read_to_string(file).unwrap()).unwrap()
    }
}

fn odd() -> Option<Bench> {
    let bench = Bench::new()?;
    bench.odd(&[]);
    Some(bench.granted("odd", "build,drop"))
}

/// Builds an example as its README says, in a copy, and puts it in place.
fn example(bench: &Bench, name: &str) {
    let (from, file) =
        (tree().join("plugins/examples").join(name), format!("libpalisade_{}.so", name.replace('-', "_")));
    let place = Path::new(env!("CARGO_TARGET_TMPDIR")).join(name);
    std::fs::create_dir_all(&place).unwrap();
    for entry in std::fs::read_dir(&from).unwrap() {
        let path = entry.unwrap().path();
        std::fs::copy(&path, place.join(path.file_name().unwrap())).unwrap();
    }
    let include = format!("PALISADE_INCLUDE={}", tree().join("core/abi/include").display());
    let made = Command::new("make").args(["-B", "-s", &include]).current_dir(&place).output().unwrap();
    assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
    assert!(made.stderr.is_empty(), "{}", String::from_utf8_lossy(&made.stderr));
    std::fs::copy(place.join(&file), bench.dir.join(&file)).unwrap();
}

#[test]
fn the_example_in_c_names_host_and_domain() {
    let Some(bench) = Bench::new() else { return };
    example(&bench, "c-hostname");
    let before = Leftovers::now();
    let section = "\"c-hostname\": (host: \"box\", domain: \"fence.example\", aliases: [\"mirror\", \"cpan\"], file: \"/tmp/aliases\"),";
    let top = "extends: [\"untrusted\"],";
    let policy = bench.policy(top, section);
    let script = "hostname; cat /proc/sys/kernel/domainname; cat /tmp/aliases";
    let run = |who| bench.palisade(who, &["run", "--policy", &policy, "--", "sh", "-c", script]).ran();
    run(Who::User).code(119).says("palisade plugin verify c-hostname --grant build");
    let bench = bench.granted("c-hostname", "build");
    let run = |who| bench.palisade(who, &["run", "--policy", &policy, "--", "sh", "-c", script]).ran();
    let plain = bench.policy(top, "");
    for who in [Who::Root, Who::User] {
        assert_eq!(run(who).code(0).stdout, "box\nfence.example\nmirror box\ncpan box\n", "{who:?}");
        // The twin: without the plugin none of it is so.
        let ran = bench.palisade(who, &["run", "--policy", &plain, "--", "sh", "-c", script]).ran();
        assert!(!ran.stdout.contains("fence.example") && !ran.stdout.contains("box"), "{}", ran.stdout);
    }
    // The host's own name is out of reach: without a uts namespace nothing runs.
    let own = std::fs::read_to_string("/proc/sys/kernel/domainname").unwrap();
    let alone = bench.policy("", "\"c-hostname\": (domain: \"fence.example\"),");
    let ran = bench.palisade(Who::Root, &["run", "--policy", &alone, "echo", "ran"]).ran().code(121);
    assert_eq!(ran.says("this would name the host itself").says("add uts: New").stdout, "");
    assert_eq!(std::fs::read_to_string("/proc/sys/kernel/domainname").unwrap(), own);
    // What is wrong in the policy is shown where it stands.
    for (section, says) in [
        ("aliases: [\"mirror\"]", "aliases need a name"),
        ("host: \"\"", "`host` has 0 bytes; 1 to 64 fit"),
        ("domian: \"x\"", "unknown field `domian`"),
        ("domain: 1", "expected a string in double quotes, found `1`"),
    ] {
        let policy = bench.policy("", &format!("\"c-hostname\": (\n  {section},\n),"));
        let ran = bench.palisade(Who::User, &["plan", "--policy", &policy, "true"]).ran().code(118);
        let ran = ran.says(says).says(&format!("{policy}:3:")).says("^");
        if section.starts_with("domian") {
            ran.says("did you mean `domain`?");
        }
    }
    bench.palisade(Who::User, &["doctor"]).ran().prints("uts namespaces");
    before.same();
}

#[test]
fn the_example_in_cpp_needs_only_the_c_library_and_limits() {
    let Some(bench) = Bench::new() else { return };
    example(&bench, "cpp-limits");
    let file = bench.dir.join("libpalisade_cpp_limits.so");
    let needed = Run::bare(["readelf", "-d", file.to_str().unwrap()]).ran().code(0).stdout;
    let needed: Vec<&str> = needed.lines().filter(|line| line.contains("(NEEDED)")).collect();
    assert!(needed.len() == 1 && needed[0].contains("[libc.so.6]"), "{needed:?}");
    let bench = bench.granted("cpp-limits", "drop");
    let policy = bench.policy(
        "",
        "\"cpp-limits\": (limits: { \"RLIMIT_NOFILE\": (soft: \"77\", hard: \"78\"), \"RLIMIT_CORE\": (soft: \"0\", hard: \"unlimited\") }),",
    );
    let run = |policy: &str, who| {
        bench.palisade(who, &["run", "--policy", policy, "--", "sh", "-c", "ulimit -n; ulimit -Hn; ulimit -c"]).ran()
    };
    for who in [Who::Root, Who::User] {
        assert_eq!(run(&policy, who).code(0).stdout, "77\n78\n0\n", "{who:?}");
        assert!(!run(&bench.policy("", ""), who).code(0).stdout.contains("77"));
    }
    for (limits, says) in [
        ("\"RLIMIT_NOFILE\": (soft: \"77\")", "a limit needs both"),
        ("\"RLIMIT_NOFILE\": (soft: \"many\", hard: \"78\")", "neither a number nor"),
        ("\"RLIMIT_NOFILE\": (soft: \"7\", hrad: \"78\")", "did you mean `hard`?"),
        ("\"nofile\": (soft: \"7\", hard: \"78\")", "no name of a resource"),
    ] {
        let policy = bench.policy("", &format!("\"cpp-limits\": (limits: {{ {limits} }}),"));
        bench.palisade(Who::User, &["plan", "--policy", &policy, "true"]).ran().code(118).says(says);
    }
    // A resource that only palisade can know is wrong: its ready-made step is refused, and named.
    let policy = bench.policy("", "\"cpp-limits\": (limits: { \"RLIMIT_FILES\": (soft: \"7\", hard: \"7\") }),");
    let ran = bench.palisade(Who::User, &["plan", "--policy", &policy, "true"]).ran().code(119);
    ran.says("`RLIMIT_FILES` is no resource of getrlimit(2)").says("step    limits RLIMIT_FILES to 7");
}

/// The plugin of docs/plugins-c.md, built as it says there.
#[test]
fn the_plugin_of_the_documentation_works() {
    let Some(bench) = Bench::new() else { return };
    let doc = std::fs::read_to_string(tree().join("docs/plugins-c.md")).unwrap();
    let block = |language: &str| {
        let rest = doc.split(&format!("```{language}\n")).nth(1).unwrap_or_else(|| panic!("no {language}"));
        rest.split("\n```").next().unwrap().to_owned()
    };
    let place = Path::new(env!("CARGO_TARGET_TMPDIR")).join("slack");
    std::fs::create_dir_all(place.join("core/abi")).unwrap();
    std::fs::write(place.join("slack.c"), block("c") + "\n").unwrap();
    drop(std::os::unix::fs::symlink(tree().join("core/abi/include"), place.join("core/abi/include")));
    let command = format!("{} -Werror -pedantic", block("sh").trim());
    let made = Command::new("sh").args(["-c", &command]).current_dir(&place).output().unwrap();
    assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
    let file = "libpalisade_slack.so";
    std::fs::copy(place.join(file), bench.dir.join(file)).unwrap();
    let bench = bench.granted("slack", "drop");
    let run = |section: &str| {
        let policy = bench.policy("", &format!("\"slack\": ({section}),"));
        bench.palisade(Who::User, &["run", "--policy", &policy, "cat", "/proc/self/timerslack_ns"]).ran()
    };
    assert_eq!(run("nanoseconds: 1000000").code(0).stdout, "1000000\n");
    assert_ne!(run("").code(0).stdout, "1000000\n");
    run("nanoseconds: 0").code(118).says("would mean the kernel's default").says("^");
}

#[test]
fn layers_merge_and_values_are_asked_for_by_path() {
    let Some(bench) = odd() else { return };
    bench.home.file(
        "odd-base.ron",
        "Policy(version: 1, plugins: { \"odd\": (words: [\"a\"], number: 1, on: false, labels: {\"x\": \"1\", \"y\": \"1\"}, \
         deep: (er: (text: \"t\")), rules: [(path: \"/a\")]) })",
    );
    let top = bench.home.policy(
        "Policy(version: 1, extends: [\"odd-base\"], replace: [\"odd.rules\"], drop: [\"odd.labels.x\"], plugins: {\
         \"odd\": (words: [\"${uid}\", \"$$\"], choice: Errno(3, \"${uid}\"), labels: {\"y\": \"2\"}, rules: [(path: \"/b\"), (path: \"/c\")]) })",
    );
    let file = bench.home.path().join("report");
    let words = [
        "run",
        "--policy-dir",
        bench.home.text(),
        "--set",
        "odd.number=0x7",
        "--set",
        "odd.deep.er.text=set by hand",
        "--report",
    ];
    let words: Vec<&str> =
        words.into_iter().chain([file.to_str().unwrap(), "--policy", top.to_str().unwrap(), "true"]).collect();
    // Twice: the second time the shape comes from what is remembered of the first.
    for _ in 0..2 {
        bench.palisade(Who::User, &words).ran().code(0);
        let report = std::fs::read_to_string(&file).unwrap();
        let said = "words.0=a words.1=64321 words.2=$ number=0x7 on=false choice=Errno(3, \\\"64321\\\") \
            deep.er.text=set by hand labels.y=2 rules.0.path=/b rules.1.path=/c ";
        assert!(report.contains(said), "{report}");
    }
    let listed = bench.palisade(Who::User, &["plugin", "info", "odd", "--json"]).ran().code(0).stdout;
    assert!(listed.contains("\"remembered\": true"), "{listed}");
    for (argument, says) in [
        ("odd.nmuber=1", "did you mean `number`?"),
        ("odd.number=many", "expected a number"),
        ("odd.on=1", "expected"),
        ("odd.words=x", "a list"),
    ] {
        let words =
            ["plan", "--policy-dir", bench.home.text(), "--set", argument, "--policy", top.to_str().unwrap(), "true"];
        bench.palisade(Who::User, &words).ran().code(118).says(says).says(argument);
    }
}

#[test]
fn everything_of_the_table_works() {
    let Some(bench) = odd() else { return };
    let before = Leftovers::now();
    let text = bench.report("at: \"seen\", words: [\"w\"]").to_string();
    for seen in ["no pid", "words.0=w ; process lives", "\"odd_seen_count\":2", "it was odd"] {
        assert!(text.contains(seen), "no {seen} in {text}");
    }
    let text = bench.report("at: \"hand-over\"").to_string();
    assert!(text.contains("\"odd_handed_bytes\":6"), "{text}");
    let policy = bench.policy("", "\"odd\": (),");
    let ran = bench.palisade(Who::User, &["run", "--watch", "--policy", &policy, "sleep", "1.3"]).ran().code(0);
    ran.says("odd 5");
    bench.palisade(Who::User, &["doctor"]).ran().prints("oddity").prints("uid 64321");
    bench.palisade(Who::User, &["gc"]).ran().prints("an odd thing");
    let probe = ["probe", "--policy", &policy, "--only", "odd.*"];
    bench.palisade(Who::User, &probe).ran().prints("say a word");
    let plan = bench.palisade(Who::User, &["plan", "--policy", &policy, "true"]).ran().code(0);
    plan.prints("does nothing in the child").prints("to show it");
    // What configure made is freed, once and for all.
    let mark = bench.home.path().join("released");
    let run =
        bench.palisade(Who::User, &["run", "--policy", &policy, "true"]).env("ODD_RELEASED", mark.to_str().unwrap());
    run.ran().code(0);
    assert!(mark.exists());
    before.same();
}

/// Each entry that fails says so, as one in Rust does.
#[test]
fn an_entry_that_fails_is_named() {
    let Some(bench) = odd() else { return };
    for entry in ["watch", "ready"] {
        for how in ["error", "told", "silent", "wrong"] {
            // The workload runs by then, and is ended.
            let ran = bench.run(&format!("at: \"{entry}\", how: \"{how}\""), "sleep 5; echo ran").code(122);
            let says = match how {
                "silent" => "and did not say why",
                "wrong" => "calls `finding`, which makes no sense there",
                _ => "odd: as asked: nothing()",
            };
            assert_eq!(ran.says(says).stdout, "", "{entry} {how}");
        }
    }
    for entry in ["configure", "plan", "apply-host", "apply-child", "verify", "witness"] {
        for how in ["error", "told"] {
            let ran = bench.run(&format!("at: \"{entry}\", how: \"{how}\""), "sleep 5; echo ran");
            let ran = ran.code(121).says("odd: as asked").says("call    nothing()").says("ask for something else");
            assert_eq!(ran.stdout, "", "{entry}");
        }
        let ran = bench.run(&format!("at: \"{entry}\", how: \"silent\""), "sleep 5; echo ran").code(119);
        ran.says("and did not say why");
        let ran = bench.run(&format!("at: \"{entry}\", how: \"wrong\""), "sleep 5; echo ran").code(119);
        ran.says("calls `finding`, which makes no sense there");
    }
    for entry in ["configure", "plan", "apply-host", "verify"] {
        bench.run(&format!("at: \"{entry}\", how: \"exit\""), "true").code(119).says("ended the process");
    }
    bench.run("at: \"apply-child\", how: \"exit\"", "true").code(119).says("does nothing in the child");
    // After the workload has run its own exit code stays.
    for entry in ["finish", "undo"] {
        bench.run(&format!("at: \"{entry}\""), "exit 3").code(3).says("as asked");
    }
    // Degraded where the policy's author says so.
    bench.run("at: \"apply-child\", demand: \"degrade\"", "echo ran").code(0).prints("ran");
}

#[test]
fn a_step_that_breaks_the_rules_is_refused_and_named() {
    let Some(bench) = odd() else { return };
    for (section, says) in [
        ("stage: \"seal\"", "it has a step in stage seal, which its manifest does not declare"),
        ("stage: \"sael\"", "did you mean `seal`?"),
        ("demand: \"maybe\"", "the demand `maybe`, which is none"),
        ("at: \"neither\"", "with neither `apply` nor `ready`"),
        ("at: \"both\", ready: \"Hostname(name: \\\"x\\\")\"", "with both `ready` and `apply`"),
        ("at: \"short\"", "a `palisade_step` of 8 bytes; its first version has"),
        ("at: \"null\"", "a `palisade_step` at no address of one"),
        ("at: \"wordless\"", "a step without words"),
        ("at: \"text\"", "a text that is not UTF-8"),
        ("at: \"path\"", "the path `nowhere`, which is none of its reference section"),
        ("ready: \"Teleport(to: \\\"/\\\")\"", "its ready-made step is not understood"),
        ("ready: \"Hostname(name: \\\"x\\\")\"", "its ready-made step Hostname makes no sense in stage drop"),
    ] {
        let ran = bench.run(section, "echo ran").code(119);
        assert_eq!(ran.says(says).stdout, "", "{section}");
    }
    bench.run("at: \"hand-over\", stage: \"build\"", "echo ran").code(119).says("makes no sense in this stage");
    // The twins: a step as it should be, one that knows more than this palisade, and a ready-made one.
    for section in ["", "at: \"longer\"", "ready: \"Limit(resource: \\\"RLIMIT_CORE\\\", soft: 0, hard: 0)\""] {
        assert_eq!(bench.run(section, "echo ran").code(0).stdout, "ran\n", "{section}");
    }
}

#[test]
fn a_table_that_does_not_fit_is_refused_when_it_is_loaded() {
    let Some(bench) = Bench::new() else { return };
    for (option, says) in [
        ("-DMAJOR=2", "it was built for seam 2.1; this palisade has seam 1.1.0"),
        ("-DSIZE=24", "a `palisade_plugin_table` of 24 bytes; its first version has"),
        ("-DSIZE=8", "a `palisade_plugin_table` of 8 bytes; its first version has"),
        ("-DCONFIGURE=0", "`configure` is NULL, and it is needed"),
        ("-DPLAN=0", "`plan` is NULL, and it is needed"),
        ("-DREADY=0", "`ready` is NULL, and it is needed"),
        ("-DWATCH=0", "`watch` is NULL, and it is needed"),
        ("-Dpalisade_plugin=other", "exports no palisade plugin"),
    ] {
        bench.odd(&[option, "-Wno-unused-function"]);
        let ran = bench.palisade(Who::User, &["plugin", "verify", "odd"]).ran().code(119);
        ran.prints(says);
        bench.run("", "echo ran").code(119).says(says).says("help");
    }
    // The twins: as it should be, and of a minor that this palisade cannot know.
    for options in [&[][..], &["-DNEWER", "-DSIZE=sizeof(struct newer)"]] {
        bench.odd(options);
        bench.palisade(Who::User, &["plugin", "verify", "odd"]).ran().code(0);
    }
}
