//! The seam between versions: plugins and palisades of another minor, of another major, and without layouts. They are
//! built here, from this tree's own sources with a few words changed.

use palisade_tests::{Run, Scratch, Who, built, is_root, skip, tree};
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;

/// A changed copy of the seam with the saboteur and a program that loads plugins.
struct Variant(PathBuf);

const LOADER: &str = r#"
use std::os::fd::AsFd as _;
fn main() {
    let file = std::fs::File::open(std::env::args().nth(1).unwrap()).unwrap();
    match palisade_abi::host::load(file.as_fd(), false) {
        Ok(loaded) => {
            let facts = palisade_abi::wrap::facts(&palisade_abi::Host::default());
            let findings = (loaded.module.probe())(facts).into_result().map(|all| all.len());
            println!("loaded, seam {}, probed {findings:?}", loaded.seam);
        }
        Err(error) => println!("refused: {error}"),
    }
}
"#;

fn copy(from: &Path, to: &Path) {
    std::fs::create_dir_all(to).unwrap();
    for entry in std::fs::read_dir(from).unwrap() {
        let path = entry.unwrap().path();
        let into = to.join(path.file_name().unwrap());
        if path.is_dir() {
            copy(&path, &into);
        } else {
            std::fs::copy(&path, &into).unwrap();
        }
    }
}

fn change(path: &Path, from: &str, to: &str) {
    let text = std::fs::read_to_string(path).unwrap();
    assert!(text.contains(from), "{} does not hold {from:?}", path.display());
    std::fs::write(path, text.replace(from, to)).unwrap();
}

impl Variant {
    fn build(name: &str, changes: &[(&str, &str, &str)]) -> Self {
        let place = Path::new(env!("CARGO_TARGET_TMPDIR"));
        let top = place.join(format!("seam-{name}"));
        drop(std::fs::remove_dir_all(&top));
        for part in ["core/model", "core/abi", "tests/fixtures/saboteur"] {
            copy(&tree().join(part), &top.join(part));
        }
        std::fs::copy(tree().join("Cargo.toml"), top.join("Cargo.toml")).unwrap();
        std::fs::copy(tree().join("Cargo.lock"), top.join("Cargo.lock")).unwrap();
        let text = std::fs::read_to_string(top.join("Cargo.toml")).unwrap();
        let rest = text.split("\n[workspace.package]").nth(1).unwrap();
        let members = "[workspace]\nresolver = \"3\"\nexclude = [\"core/model/fuzz\"]\nmembers = [\"core/model\", \"core/abi\", \"tests/fixtures/saboteur\", \"loader\"]\n";
        std::fs::write(top.join("Cargo.toml"), format!("{members}\n[workspace.package]{rest}")).unwrap();
        std::fs::create_dir_all(top.join("loader/src")).unwrap();
        let cargo = "[package]\nname = \"loader\"\nversion = \"0.0.0\"\nedition = \"2024\"\n[dependencies]\npalisade-abi.workspace = true\n";
        std::fs::write(top.join("loader/Cargo.toml"), cargo).unwrap();
        std::fs::write(top.join("loader/src/main.rs"), LOADER).unwrap();
        for (path, from, to) in changes {
            change(&top.join(path), from, to);
        }
        let made = Command::new(env!("CARGO"))
            .args(["build", "--offline", "--quiet", "-p", "loader", "-p", "palisade-saboteur", "--target-dir"])
            .arg(place.join("seam-target"))
            .current_dir(&top)
            .output()
            .unwrap();
        assert!(made.status.success(), "{name}: {}", String::from_utf8_lossy(&made.stderr));
        std::fs::create_dir(top.join("target")).unwrap();
        // One target directory, so that what all of them depend on is built once; the next one overwrites these.
        for file in ["loader", "libsaboteur.so"] {
            std::fs::copy(place.join("seam-target/debug").join(file), top.join("target").join(file)).unwrap();
        }
        Self(top.join("target"))
    }

    fn plugin(&self) -> PathBuf {
        self.0.join("libsaboteur.so")
    }

    /// What this variant's palisade says of a plugin.
    fn load(&self, plugin: &Path) -> String {
        let said = Command::new(self.0.join("loader")).arg(plugin).output().unwrap();
        assert!(said.status.success(), "{}", String::from_utf8_lossy(&said.stderr));
        String::from_utf8(said.stdout).unwrap()
    }
}

/// What the palisade under test says of a plugin.
fn run(plugin: &Path, code: i32) -> palisade_tests::Ran {
    run_with(plugin, code, "", |_, _| {})
}

/// The same with a section, and with something done between the check of the plugin and the run.
fn run_with(plugin: &Path, code: i32, section: &str, between: impl Fn(&Path, &Path)) -> palisade_tests::Ran {
    let scratch = Scratch::new();
    let dir = format!("/opt/palisade-test-{}-seam", std::process::id());
    drop(std::fs::remove_dir_all(&dir));
    std::fs::create_dir(&dir).unwrap();
    std::fs::copy(plugin, format!("{dir}/libpalisade_saboteur.so")).unwrap();
    let policy = scratch.policy(&format!("Policy(version: 1, plugins: {{\"saboteur\": ({section})}})"));
    let palisade = |words: &[&str]| {
        let state = scratch.path().join("state");
        let run = Run::palisade(words.iter().copied()).who(Who::User);
        run.env("XDG_STATE_HOME", state.to_str().unwrap()).ran()
    };
    palisade(&["plugin", "verify", "saboteur", "--grant", "build", "--plugin-dir", &dir]);
    between(Path::new(&dir), &scratch.path().join("state/palisade/plugins.lock"));
    let ran = palisade(&["run", "--plugin-dir", &dir, "--policy", policy.to_str().unwrap(), "/bin/true"]);
    std::fs::remove_dir_all(&dir).unwrap();
    ran.code(code)
}

/// Puts another plugin in the place of the one that was checked, and says in the lock that it was this one.
fn vouch(plugin: &Path, dir: &Path, lock: &Path) {
    let path = dir.join("libpalisade_saboteur.so");
    std::fs::remove_file(&path).unwrap();
    std::fs::copy(plugin, &path).unwrap();
    let facts = std::fs::metadata(&path).unwrap();
    let nanos = |seconds: i64, nanos: i64| i128::from(seconds) * 1_000_000_000 + i128::from(nanos);
    let (mtime, ctime) = (nanos(facts.mtime(), facts.mtime_nsec()), nanos(facts.ctime(), facts.ctime_nsec()));
    let mut content: serde_json::Value = serde_json::from_str(&std::fs::read_to_string(lock).unwrap()).unwrap();
    let identity = format!("[{},{},{},{mtime},{ctime}]", facts.dev(), facts.ino(), facts.size());
    content["plugins"][path.to_str().unwrap()]["file"] = serde_json::from_str(&identity).unwrap();
    std::fs::write(lock, content.to_string()).unwrap();
}

const STEP_LATER: &str =
    "ROption::RNone\n    }\n    fn later(&self) -> u32 {\n        41\n    }\n}\n\n/// An owned [`StepObject`].";
const HAND_OVER: &str = "fn hand_over(&mut self, _fd: i32) {}\n";
const HAND_OVER_DOC: &str = "    /// Hands an open descriptor over from the process that becomes the workload to the isolator on the host. Since
    /// seam 1.1.
    fn hand_over(&mut self, _fd: i32) {}
";
const CONTEXT_LATER: &str = "fn hand_over(&mut self, _fd: i32) {}\n    fn later(&self) -> u32 {\n        42\n    }\n";
const APPLY_END: &str = "Context(context)).map(text) })\n    }\n\n    fn verify";
const STAGE_LATER: &str = "if self.0.clone_flags != 0 { \"later\".into() } else { self.0.stage.to_string().into() }";
const SAMPLE: &str = "    /// The figures so far, while the workload runs. Since seam 1.1.
    fn sample(&mut self) -> RResult<RVec<Tuple2<RString, u64>>, Failure> {
        RResult::ROk(RVec::new())
    }
";
const SAMPLE_SHELL: &str = "
    fn sample(&mut self) -> RResult<RVec<Tuple2<RString, u64>>, Failure> {
        guarded(\"sample\", || Ok(raw_figures(self.0.sample()?)))
    }
";
const ATTEMPTS: &str = "    /// What it claims to stop, to be tried. Since seam 1.1.
    fn attempts(&self) -> RResult<RVec<RawAttempt>, Failure> {
        RResult::ROk(Vec::new().into())
    }
";
const ATTEMPTS_SHELL: &str = "
    fn attempts(&self) -> RResult<RVec<RawAttempt>, Failure> {
        guarded(\"attempts\", || Ok(self.0.attempts()?.into_iter().map(RawAttempt::from).collect()))
    }
";
const EXPLAIN: &str =
    "    /// A descriptor that a step of this isolator handed over; it is the isolator's now. Since seam 1.1.
    fn take(&mut self, _fd: i32) -> RResult<(), Failure> {
        RResult::ROk(())
    }
    /// What the workload asked for since; it waits until `settle`. Since seam 1.1.
    fn acts(&mut self) -> RResult<RVec<RawFacts>, Failure> {
        RResult::ROk(RVec::new())
    }
    /// Why this isolator denies it, where it does. Since seam 1.1.
    fn explain(&self, _act: RawFacts) -> RResult<ROption<RawDenial>, Failure> {
        RResult::ROk(ROption::RNone)
    }
    /// Lets what `acts` told go on. Since seam 1.1.
    fn settle(&mut self) -> RResult<(), Failure> {
        RResult::ROk(())
    }
";
const EXPLAIN_SHELL: &str = "
    fn take(&mut self, fd: i32) -> RResult<(), Failure> {
        // SAFETY: the descriptor is open and nobody else's; upheld by palisade, which gives it up to this entry; else
        // two owners close it.
        let fd = unsafe { OwnedFd::from_raw_fd(fd) };
        guarded(\"take\", || self.0.take(fd))
    }

    fn acts(&mut self) -> RResult<RVec<RawFacts>, Failure> {
        guarded(\"acts\", || Ok(self.0.acts()?.iter().map(act_facts).collect()))
    }

    fn explain(&self, facts: RawFacts) -> RResult<ROption<RawDenial>, Failure> {
        guarded(\"explain\", || Ok(self.0.explain(&act(facts)).map(RawDenial::from).into()))
    }

    fn settle(&mut self) -> RResult<(), Failure> {
        guarded(\"settle\", || self.0.settle())
    }
";
const CHANGES: &str = "    /// What runs that are over changed and kept. Since seam 1.1.
    fn changes(&self) -> RResult<RVec<RawChange>, Failure> {
        RResult::ROk(Vec::new().into())
    }
";
const CHANGES_SHELL: &str = "
    fn changes(&self) -> RResult<RVec<RawChange>, Failure> {
        guarded(\"changes\", || {
            let raw = |what| match what {
                Changed::Added => 0,
                Changed::Changed => 1,
                Changed::Removed => 2,
            };
            let all = self.0.changes()?.into_iter();
            let from = |from: Option<String>| from.map(RString::from).into();
            Ok(all
                .map(|one| RawChange {
                    tree: one.tree.into(),
                    path: one.path.into(),
                    what: raw(one.what),
                    from: from(one.from),
                })
                .collect())
        })
    }
";
const DETAILS: &str =
    "    /// What exactly it puts in force, as named texts, for whoever wants to see all of it. Since seam 1.1.
    fn details(&self) -> RVec<Tuple2<RString, RString>> {
        RVec::new()
    }
";
const DETAILS_SHELL: &str = "    fn details(&self) -> RVec<Tuple2<RString, RString>> {
        let details = guarded(\"details\", || Ok(self.0.action.details())).into_result();
        // Nothing depends on them, so one that panics has none, but says so.
        let details = details.unwrap_or_else(|failure| vec![(\"error\".to_owned(), failure.message.into_string())]);
        details.into_iter().map(|(name, text)| Tuple2(name.into(), text.into())).collect()
    }
";
const READY: &str =
    "    /// What to do, where palisade itself is to do it: a [`crate::Ready`] as text. Then `apply`, `verify`, `witness` and
    /// `undo` are not called. Since seam 1.1.
    fn ready(&self) -> ROption<RString> {
        ROption::RNone
    }
";
const READY_SHELL: &str = "
    fn ready(&self) -> ROption<RString> {
        self.0.ready.as_deref().map(RString::from).into()
    }
";
const COLLECT: &str =
    "    /// Finds what runs that are over left on this host, and removes it if asked to. Since seam 1.1.
    #[sabi(missing_field(option))]
    pub collect: extern \"C\" fn(RawFacts, bool) -> RResult<RVec<RawLeft>, Failure>,
";
/// The newer palisade asks an older plugin's steps what they do not know.
const ASK_MORE: &str = "let facts = palisade_abi::wrap::facts(&palisade_abi::Host::default());
            let made = (loaded.module.configure())(Default::default(), facts.clone()).into_result().unwrap();
            let steps = made.plan(facts).into_result().unwrap();
            assert_eq!(steps.iter().map(|step| step.later()).collect::<Vec<_>>(), [41, 41]);
            assert_eq!(made.later(), 1);
            ";

#[test]
fn other_versions_of_the_seam_load_or_are_named() {
    if !is_root() {
        return skip("seam:root", "the plugins must be root's");
    }
    let ours = built().with_file_name("libsaboteur.so");
    let seam = "core/abi/src/seam.rs";
    let newer = Variant::build(
        "newer",
        &[
            ("core/abi/Cargo.toml", "version = \"1.1.0\"", "version = \"1.2.0\""),
            (
                seam,
                "RResult::ROk(())\n    }\n}\n",
                "RResult::ROk(())\n    }\n    fn later(&self) -> u32 {\n        1\n    }\n}\n",
            ),
            (seam, "RResult<RVec<RawLeft>, Failure>,\n}", "RResult<RVec<RawLeft>, Failure>,\n    pub later: u32,\n}"),
            ("core/abi/src/wrap.rs", "collect: collect::<P> }", "collect: collect::<P>, later: 7 }"),
            // A step that has more to tell, asks more, and knows a stage that there is not yet.
            (seam, "ROption::RNone\n    }\n}\n\n/// An owned [`StepObject`].", STEP_LATER),
            (seam, HAND_OVER, CONTEXT_LATER),
            (
                "core/abi/src/wrap.rs",
                "guarded(\"apply\", || ",
                "guarded(\"apply\", || { assert_eq!(context.later(), 42); ",
            ),
            ("core/abi/src/wrap.rs", "Context(context)).map(text))\n    }\n\n    fn verify", APPLY_END),
            ("core/abi/src/wrap.rs", "self.0.stage.to_string().into()", STAGE_LATER),
            ("loader/src/main.rs", "println!(\"loaded,", &format!("{ASK_MORE}println!(\"loaded,")),
        ],
    );
    // A newer plugin in this palisade, and this palisade's plugin in a newer one.
    run(&newer.plugin(), 0);
    run_with(&newer.plugin(), 0, "at: \"none-inside\"", |_, _| {});
    run_with(&newer.plugin(), 119, "at: \"flags\"", |_, _| {}).says("a step is of stage `later`");
    assert_eq!(newer.load(&ours), "loaded, seam 1.1.0, probed Ok(0)\n");
    assert_eq!(newer.load(&newer.plugin()), "loaded, seam 1.2.0, probed Ok(0)\n");

    // A plugin that was built before there was anything to sample, to collect, to show or to explain.
    let older = Variant::build(
        "older",
        &[
            ("core/abi/Cargo.toml", "version = \"1.1.0\"", "version = \"1.0.0\""),
            (seam, SAMPLE, ""),
            (seam, CHANGES, ""),
            ("core/abi/src/wrap.rs", CHANGES_SHELL, ""),
            (seam, COLLECT, ""),
            (seam, DETAILS, ""),
            (seam, READY, ""),
            ("core/abi/src/wrap.rs", READY_SHELL, ""),
            ("core/abi/src/c/call.rs", "context.0.hand_over(descriptor)", "drop((context, descriptor))"),
            (seam, EXPLAIN, ""),
            (seam, ATTEMPTS, ""),
            ("core/abi/src/wrap.rs", ATTEMPTS_SHELL, ""),
            (seam, HAND_OVER_DOC, ""),
            ("core/abi/src/wrap.rs", EXPLAIN_SHELL, ""),
            ("core/abi/src/action.rs", "self.0.hand_over(fd.as_raw_fd());", "let _ = fd.as_raw_fd();"),
            ("core/abi/src/wrap.rs", DETAILS_SHELL, ""),
            ("core/abi/src/wrap.rs", SAMPLE_SHELL, ""),
            ("core/abi/src/wrap.rs", ", collect: collect::<P> }", " }"),
        ],
    );
    let gc = |dir: &Path, _: &Path| {
        Run::palisade(["gc", "--dry-run", "--plugin-dir", dir.to_str().unwrap()]).ran().code(0);
        let scratch = Scratch::new();
        let policy = scratch.policy("Policy(version: 1, plugins: { \"saboteur\": (at: \"none-inside\") })");
        let policy = policy.to_str().unwrap();
        let plan = ["plan", "--details", "--plugin-dir", dir.to_str().unwrap(), "--policy", policy, "--", "true"];
        Run::palisade(plan).ran().code(0);
    };
    run_with(&older.plugin(), 0, "at: \"none-inside\"", gc);
    assert_eq!(older.load(&ours), "loaded, seam 1.1.0, probed Ok(0)\n");

    let major = Variant::build("major", &[("core/abi/Cargo.toml", "version = \"1.1.0\"", "version = \"2.0.0\"")]);
    let ran = run(&major.plugin(), 119).says("it was built for seam 2.0.0; this palisade has seam 1.1.0");
    assert!(ran.stderr.len() < 1000, "{} bytes", ran.stderr.len());
    assert!(major.load(&ours).starts_with("refused: it was built for seam 1.1.0; this palisade has seam 2.0.0"));

    let hidden = Variant::build("hidden", &[("core/abi/src/wrap.rs", "CheckTypeLayout::Yes", "CheckTypeLayout::No")]);
    run(&hidden.plugin(), 119).says("hides the layout of its types");
    // The layout is not looked at where the lock says that it was: with the word of the caller's own lock it loads.
    run_with(&ours, 0, "at: \"none-inside\"", |dir, lock| vouch(&hidden.plugin(), dir, lock));

    // A type that is laid out differently under the same version.
    let other = Variant::build(
        "other",
        &[(seam, "    pub errno: i32,\n    pub help: RString,", "    pub help: RString,\n    pub errno: i32,")],
    );
    let ran = run(&other.plugin(), 119).says("laid out differently");
    assert!(ran.stderr.len() < 3000, "{} bytes:\n{}", ran.stderr.len(), ran.stderr);
    run(&ours, 0);
}
