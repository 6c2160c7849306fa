//! Plugins that are installed: what is asked and said, what is pinned, who vouches, and that nothing half-done loads.

use palisade_tests::{Leftovers, Ran, Run, Scratch, USER, Who, built, everybody, is_root, program};
use serde_json::Value;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard};

fn alone() -> MutexGuard<'static, ()> {
    static ONE: Mutex<()> = Mutex::new(());
    ONE.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
}

const FILE: &str = "libpalisade_saboteur.so";

/// Somebody with places of its own to install into. Root's are /var/lib and /etc, which are others for each command:
/// what this host has is not touched.
struct World {
    who: Who,
    home: Scratch,
}

impl World {
    fn new(who: Who) -> Self {
        let home = Scratch::new();
        if who == Who::Root {
            for dir in ["varlib", "etc"] {
                std::fs::create_dir(home.path().join(dir)).unwrap();
                set_mode(&home.path().join(dir), 0o755);
            }
            for name in ["passwd", "group", "nsswitch.conf", "ld.so.cache"] {
                drop(std::fs::copy(Path::new("/etc").join(name), home.path().join("etc").join(name)));
            }
        }
        Self { who, home }
    }

    /// The directory of installed plugins, and the same as palisade names it.
    fn dir(&self) -> PathBuf {
        self.home.path().join(if self.who == Who::Root { "varlib/palisade/plugins" } else { "data/palisade/plugins" })
    }

    fn named(&self) -> String {
        match self.who {
            Who::Root => "/var/lib/palisade/plugins".to_owned(),
            Who::User => self.dir().display().to_string(),
        }
    }

    fn lock(&self) -> PathBuf {
        let lock = if self.who == Who::Root { "varlib/palisade/plugins.lock" } else { "state/palisade/plugins.lock" };
        self.home.path().join(lock)
    }

    fn keys(&self) -> PathBuf {
        self.home.path().join(if self.who == Who::Root { "etc/palisade/keys" } else { "config/palisade/keys" })
    }

    fn installed(&self) -> PathBuf {
        self.dir().join(FILE)
    }

    /// A command with this one's places.
    fn command(&self, words: &[&str]) -> Run {
        let run = Run::bare(words.iter().copied()).who(self.who);
        if self.who == Who::Root {
            let (varlib, etc) = (self.home.path().join("varlib"), self.home.path().join("etc"));
            let script = format!(
                "mount --bind {} /var/lib && mount --bind {} /etc && exec \"$@\"",
                varlib.display(),
                etc.display()
            );
            return run.behind(&["unshare", "-m", "sh", "-c", &script, "sh"]);
        }
        let at = |name: &str| self.home.path().join(name).display().to_string();
        run.env("HOME", self.home.text())
            .env("XDG_STATE_HOME", &at("state"))
            .env("XDG_DATA_HOME", &at("data"))
            .env("XDG_CONFIG_HOME", &at("config"))
    }

    fn palisade(&self, words: &[&str]) -> Run {
        let program = program().display().to_string();
        self.command(&[&[program.as_str()], words].concat())
    }

    fn plugin(&self, words: &[&str]) -> Ran {
        self.palisade(&[&["plugin"], words].concat()).ran()
    }

    /// A file to be installed, anywhere.
    fn source(&self, bytes: &[u8]) -> String {
        let path = self.home.file("download.so", bytes);
        set_mode(&path, 0o644);
        path.display().to_string()
    }

    fn install(&self, bytes: &[u8], options: &[&str]) -> Ran {
        self.plugin(&[&["install", &self.source(bytes)], options].concat())
    }

    fn json(&self, bytes: &[u8], options: &[&str]) -> Value {
        let ran = self.install(bytes, &[&["--json"], options].concat()).code(0);
        serde_json::from_str(&ran.stdout).unwrap()
    }

    /// A run with this section, and whether anything of the plugin ran.
    fn run(&self, section: &str) -> (Ran, bool) {
        let policy = self.home.policy(&format!(
            "Policy(version: 1, process: (env: Keep([\"PATH\"])), plugins: {{\"saboteur\": ({section})}})"
        ));
        let mark = self.home.path().join("mark");
        drop(std::fs::remove_file(&mark));
        let run = self.palisade(&["run", "--policy", policy.to_str().unwrap(), "--", "true"]);
        (run.env("SABOTEUR_MARK", mark.to_str().unwrap()).ran(), mark.exists())
    }

    fn runs_inside(&self) {
        self.run("").0.code(0);
    }

    /// What the list says of the plugin.
    fn listed(&self) -> Option<Value> {
        let list: Value = serde_json::from_str(&self.plugin(&["list", "--json"]).stdout).unwrap();
        list.as_array().unwrap().iter().find(|one| one["name"] == "saboteur").cloned()
    }

    /// Nothing is installed, pinned or half-written.
    #[track_caller]
    fn nothing(&self) {
        let there: Vec<_> = std::fs::read_dir(self.dir()).into_iter().flatten().flatten().map(|e| e.path()).collect();
        assert!(there.is_empty(), "{there:?}");
        let lock = std::fs::read_to_string(self.lock()).unwrap_or_default();
        assert!(!lock.contains("saboteur"), "{lock}");
    }

    /// Edits the lock as its owner.
    fn edit_lock(&self, edit: impl FnOnce(&mut Value)) {
        let mut lock: Value = serde_json::from_slice(&std::fs::read(self.lock()).unwrap()).unwrap();
        edit(&mut lock);
        std::fs::write(self.lock(), serde_json::to_vec(&lock).unwrap()).unwrap();
    }
}

fn worlds(test: &str) -> Vec<World> {
    everybody(&format!("install-{test}")).into_iter().map(World::new).collect()
}

fn set_mode(path: &Path, mode: u32) {
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode)).unwrap();
}

fn good() -> Vec<u8> {
    std::fs::read(built().with_file_name("libsaboteur.so")).unwrap()
}

/// The same plugin with another manifest; each text takes the place of one of the same length.
fn patched(changes: &[(&str, &str)]) -> Vec<u8> {
    let mut bytes = good();
    let begin = find(&bytes, b"name: \"saboteur\"");
    for (old, new) in changes {
        assert_eq!(old.len(), new.len(), "{old} {new}");
        let at = begin + find(&bytes[begin..], old.as_bytes());
        bytes[at..at + new.len()].copy_from_slice(new.as_bytes());
    }
    bytes
}

fn find(bytes: &[u8], what: &[u8]) -> usize {
    bytes.windows(what.len()).position(|window| window == what).unwrap()
}

const NEWER: (&str, &str) = ("version: \"0.1.0\"", "version: \"0.2.0\"");
const SEALS: (&str, &str) = ("[prepare, clone, build]", "[prepare, seal , build]");
const PRIVILEGED: (&str, &str) =
    (r#"reference: "(at: \"plan\", how: \"panic\")""#, r#"reference: "()" , privileges: {"CAP_A":"x"}"#);

#[test]
fn what_is_installed_is_pinned_and_acts_only_where_it_was_granted() {
    let _alone = alone();
    for world in worlds("granted") {
        let before = Leftovers::now();
        world.run("at: \"none-inside\"").0.code(119).says("there is no plugin `saboteur`");
        // Nobody is asked here, so nothing is granted, and it is said how.
        let ran = world.install(&good(), &[]).code(0);
        let sha256 = ran.stdout.lines().find_map(|line| line.strip_prefix("sha256   ")).unwrap().to_owned();
        let ran = ran.prints("misbehaves wherever a test asks it to").prints("signed   no, and no key in");
        let ran = ran.prints("nothing contains it there").prints("  prepare  on the host: ");
        let ran = ran.prints("  build    in the workload's process; only if it is granted: ");
        let ran = ran.prints(&format!("installed  {}/{FILE}\ngranted    none\n", world.named()));
        ran.prints("not granted: build; if you trust it:\n  palisade plugin verify saboteur --grant build\n");
        let facts = std::fs::metadata(world.installed()).unwrap();
        let owner =
            if is_root() && world.who == Who::User { USER } else { std::fs::metadata("/proc/self").unwrap().uid() };
        assert_eq!((facts.mode() & 0o7777, facts.uid()), (0o644, owner));
        assert_eq!(std::fs::read(world.installed()).unwrap(), good());
        let listed = world.listed().unwrap();
        assert_eq!((&listed["pinned"], &listed["sha256"]), (&Value::from(sha256.clone()), &Value::from(sha256)));
        assert_eq!((&listed["origin"], listed["granted"].to_string()), (&Value::from("installed"), "[]".to_owned()));
        // It was tried out, so that no launch has to.
        assert!(listed["signed_by"].is_null() && listed["remembered"] == true, "{listed}");
        let (ran, mark) = world.run("at: \"none-inside\"");
        ran.code(0);
        assert!(mark);
        world.run("").0.code(119).says("did not come with palisade");

        let removed = world.plugin(&["remove", "saboteur"]).code(0);
        assert_eq!(removed.stdout, format!("removed {}/{FILE}\n", world.named()));
        world.nothing();
        world.run("").0.code(119).says("there is no plugin `saboteur`");
        world.plugin(&["remove", "saboteur"]).code(119).says("there is no plugin `saboteur`");

        // The twin, with a grant; what it does not declare and what is not inside cannot be granted.
        world.install(&good(), &["--grant", "seal"]).code(2).says("it has no steps in stage seal");
        world.install(&good(), &["--grant", "prepare"]).code(2).says("stage prepare is not in the workload's process");
        world.nothing();
        assert_eq!(world.json(&good(), &["--grant", "build"])["granted"].to_string(), "[\"build\"]");
        world.runs_inside();
        let info = world.plugin(&["info", "saboteur"]).code(0);
        info.prints("origin   installed\npinned   since 20")
            .prints("signed   by nobody that is known\n")
            .prints("granted  build\n");
        // A grant can be taken back and given again, as for any plugin.
        world.plugin(&["verify", "saboteur", "--revoke"]).code(0);
        world.run("").0.code(119).says("did not come with palisade");
        world.plugin(&["verify", "saboteur", "--grant", "build"]).code(0);
        world.runs_inside();
        assert_eq!(world.listed().unwrap()["origin"], "installed");
        // Grants go with the plugin.
        world.plugin(&["remove", "saboteur", "--json"]).code(0).prints("\"name\": \"saboteur\"");
        world.nothing();
        world.install(&good(), &[]).code(0);
        world.run("").0.code(119).says("did not come with palisade");
        before.same();
    }
}

#[test]
fn whoever_sits_at_a_terminal_is_asked() {
    let _alone = alone();
    for world in worlds("asked") {
        let script = world.home.file("answer.py", include_bytes!("../probes/answer.py")).display().to_string();
        let source = world.source(&good());
        let program = program().display().to_string();
        let answer = |answer: &str, more: &[&str]| {
            let words = ["python3", &script, answer, &program, "plugin", "install", &source];
            world.command(&[&words, more].concat()).ran()
        };
        for (said, granted) in [("", "[]"), ("n", "[]"), ("what", "[]"), ("y", "[\"build\"]"), ("YES", "[\"build\"]")] {
            answer(said, &[]).code(0).prints("let saboteur act in the workload's process, in build? [y/N]");
            assert_eq!(world.listed().unwrap()["granted"].to_string(), granted, "{said}");
            world.plugin(&["remove", "saboteur"]).code(0);
        }
        // Nobody is asked who said it already, or who wants JSON.
        answer("y", &["--grant", "build"]).code(99);
        assert_eq!(world.listed().unwrap()["granted"].to_string(), "[\"build\"]");
        world.plugin(&["remove", "saboteur"]).code(0);
        answer("y", &["--json"]).code(99);
        assert_eq!(world.listed().unwrap()["granted"].to_string(), "[]");
    }
}

/// What a plugin says of itself stands in lines of its own: none passes for palisade's.
#[test]
fn a_manifest_forges_no_line() {
    let _alone = alone();
    for world in worlds("forged") {
        let line = |ran: &Ran| ran.stdout.lines().filter(|line| line.starts_with("signed   ")).count();
        assert_eq!(line(&world.install(&good(), &[]).code(0)), 1);
        world.plugin(&["remove", "saboteur"]).code(0);
        let forged = ("misbehaves wherever a test asks it to", r"x\nsigned   by key 0\nseccomp\u{202E}");
        let ran = world.install(&patched(&[forged]), &[]).code(0).prints("\nx; signed   by key 0; seccomp\u{fffd}\n");
        assert_eq!(line(&ran), 1);
        let list = world.plugin(&["list"]).code(0).prints("  x; signed   by key 0; seccomp\u{fffd}\n");
        assert_eq!(line(&list), 0);
        assert_eq!(line(&world.plugin(&["info", "saboteur"]).code(0)), 1);
    }
}

#[test]
fn what_was_changed_after_it_was_installed_is_refused() {
    let _alone = alone();
    for world in worlds("changed") {
        let sha256 = world.json(&good(), &["--grant", "build"])["sha256"].as_str().unwrap().to_owned();
        world.runs_inside();
        let refused = |what: &str| {
            let (ran, mark) = world.run("");
            assert!(!mark, "{what}: something of it ran");
            let ran = ran.code(119).says("saboteur: it is not the file that was installed");
            let ran = ran.says(&format!("pinned  sha256:{sha256}, since 20")).says("found   sha256:");
            let ran = ran.says(&format!("file    {}/{FILE}", world.named()));
            ran.says("palisade plugin install FILE").says("palisade plugin remove saboteur takes it away");
        };
        let mut changed = good();
        *changed.last_mut().unwrap() ^= 1;
        std::fs::write(world.installed(), &changed).unwrap();
        refused("one bit");
        let listed = world.listed().unwrap();
        assert!(listed["error"].as_str().unwrap().contains("not the file that was installed"), "{listed}");
        assert_eq!(listed["pinned"], sha256);
        std::fs::write(world.installed(), "").unwrap();
        refused("empty");
        // Another plugin that would do: what counts is which one was installed.
        std::fs::write(world.installed(), patched(&[NEWER])).unwrap();
        refused("another version");
        world.plugin(&["verify", "saboteur", "--grant", "build"]).code(119).prints("not the file that was installed");
        refused("another version, which cannot be granted anything");
        // The twin: the same content again, in another inode, with what was granted to it.
        std::fs::remove_file(world.installed()).unwrap();
        std::fs::write(world.installed(), good()).unwrap();
        if is_root() && world.who == Who::User {
            std::os::unix::fs::chown(world.installed(), Some(USER), None).unwrap();
        }
        world.runs_inside();
        // And as the file says how: installed again, or taken away.
        std::fs::write(world.installed(), &changed).unwrap();
        refused("one bit");
        world.install(&good(), &[]).code(0).prints("it keeps what was granted: build");
        world.runs_inside();
        std::fs::write(world.installed(), &changed).unwrap();
        world.plugin(&["remove", "saboteur"]).code(0);
        world.nothing();
    }
}

#[test]
fn nothing_loads_from_there_that_was_not_installed() {
    let _alone = alone();
    for world in worlds("by-hand") {
        world.json(&good(), &["--grant", "build"]);
        world.run("at: \"none-inside\"").0.code(0);
        // A lock that is lost, or that others could have written, pins nothing, and then nothing runs.
        let lock = std::fs::read(world.lock()).unwrap();
        let refused = || {
            let (ran, mark) = world.run("at: \"none-inside\"");
            assert!(!mark);
            ran.code(119).says("nothing pins it").says("run palisade plugin install on it");
        };
        set_mode(&world.lock(), 0o666);
        refused();
        std::fs::remove_file(world.lock()).unwrap();
        refused();
        // Granting something to it is not installing it.
        world.plugin(&["verify", "saboteur", "--grant", "build"]).code(119).prints("nothing pins it");
        refused();
        std::fs::write(world.lock(), lock).unwrap();
        set_mode(&world.lock(), 0o600);
        if is_root() && world.who == Who::User {
            std::os::unix::fs::chown(world.lock(), Some(USER), None).unwrap();
        }
        world.runs_inside();
        // What lies there by hand can be installed over, and removed.
        std::fs::remove_file(world.lock()).unwrap();
        world.install(&good(), &[]).code(0).prints("replaces a file that was put there by hand");
        world.run("at: \"none-inside\"").0.code(0);
        std::fs::remove_file(world.lock()).unwrap();
        world.plugin(&["remove", "saboteur"]).code(0);
        world.nothing();
    }
}

#[test]
fn pins_and_grants_outlive_an_update_of_palisade() {
    let _alone = alone();
    for world in worlds("update") {
        world.json(&good(), &["--grant", "build"]);
        world.runs_inside();
        let remembered = || world.listed().unwrap()["remembered"] == true;
        assert!(remembered());
        world.edit_lock(|lock| lock["host"] = "another build".into());
        assert!(!remembered());
        assert_eq!(world.listed().unwrap()["granted"].to_string(), "[\"build\"]");
        world.runs_inside();
        assert!(remembered());
        std::fs::write(world.installed(), patched(&[NEWER])).unwrap();
        world.edit_lock(|lock| lock["host"] = "another build".into());
        world.run("").0.code(119).says("it is not the file that was installed");
    }
}

/// What is remembered of a file is believed for as long as nothing of the file changed; then its bytes decide.
#[test]
fn a_launch_hashes_nothing_that_it_knows() {
    let _alone = alone();
    for world in worlds("known") {
        let sha256 = world.json(&good(), &["--grant", "build"])["sha256"].as_str().unwrap().to_owned();
        // A digest that no file has, in the memory and in the pin: only who does not hash can be content with it.
        let text = std::fs::read_to_string(world.lock()).unwrap();
        std::fs::write(world.lock(), text.replace(&sha256, &"0".repeat(64))).unwrap();
        world.runs_inside();
        world.runs_inside();
        let file = std::fs::File::options().append(true).open(world.installed()).unwrap();
        file.set_modified(std::time::SystemTime::now()).unwrap();
        world.run("").0.code(119).says(&format!("pinned  sha256:{}", "0".repeat(64)));
    }
}

/// What is pinned in a lock that was damaged is not lost, and not believed either.
#[test]
fn a_damaged_lock_is_told_and_not_written_over() {
    let _alone = alone();
    for world in worlds("damaged-lock") {
        world.install(&good(), &["--grant", "build"]).code(0);
        world.runs_inside();
        let whole = std::fs::read(world.lock()).unwrap();
        for damaged in [&whole[..whole.len() / 2], b"", b"\xff\xfe"] {
            std::fs::write(world.lock(), damaged).unwrap();
            let (ran, marked) = world.run("");
            ran.code(119).says("nothing pins it").says("plugins.lock is damaged");
            assert!(!marked);
            world.install(&good(), &[]).code(119).says("plugins.lock is damaged").says("put a good copy back");
            // Whoever uses palisade's own plugins does not need it.
            let policy = world.home.policy("Policy(version: 1, plugins: {\"namespaces\": (user: New)})");
            world.palisade(&["run", "--policy", policy.to_str().unwrap(), "--", "true"]).ran().code(0);
            assert_eq!(std::fs::read(world.lock()).unwrap(), damaged);
        }
        std::fs::write(world.lock(), &whole).unwrap();
        world.runs_inside();
    }
}

/// Before there were pins, grants stood beside what was remembered, for one build of palisade.
#[test]
fn a_lock_of_the_old_format_is_read() {
    let _alone = alone();
    for world in worlds("old-lock") {
        let dir = place(&world);
        let file = dir.join(FILE);
        std::fs::write(&file, good()).unwrap();
        own(&world, &file);
        let there = dir.to_str().unwrap();
        world.plugin(&["verify", "saboteur", "--plugin-dir", there]).code(0);
        let granted = || {
            let ran = world.plugin(&["info", "saboteur", "--json", "--plugin-dir", there]).code(0);
            let info: Value = serde_json::from_str(&ran.stdout).unwrap();
            assert_eq!(info["origin"], "plugin-dir");
            info["granted"].to_string()
        };
        assert_eq!(granted(), "[]");
        let old = |host: Option<&str>, sha256: Option<&str>| {
            world.edit_lock(|lock| {
                lock.as_object_mut().unwrap().remove("pins");
                let entry = &mut lock["plugins"][file.to_str().unwrap()];
                entry["granted"] = serde_json::json!(["build"]);
                if let Some(sha256) = sha256 {
                    entry["sha256"] = sha256.into();
                }
                if let Some(host) = host {
                    lock["host"] = host.into();
                }
            });
        };
        old(None, None);
        assert_eq!(granted(), "[\"build\"]");
        old(Some("another build"), None);
        assert_eq!(granted(), "[\"build\"]");
        world.plugin(&["verify", "saboteur", "--plugin-dir", there]).code(0).prints("granted: build");
        // It is written in the new one, and of another content the old one says nothing.
        let lock = std::fs::read_to_string(world.lock()).unwrap();
        assert!(lock.contains("\"pins\":{\"") && lock.matches("\"granted\"").count() == 1, "{lock}");
        old(None, Some(&"0".repeat(64)));
        assert_eq!(granted(), "[]");
        drop(std::fs::remove_dir_all(&dir));
    }
}

/// A directory that may hold plugins of who asks.
fn place(world: &World) -> PathBuf {
    let dir = match world.who {
        Who::Root => PathBuf::from(format!("/opt/palisade-test-{}-install", std::process::id())),
        Who::User => world.home.path().join("plugins"),
    };
    drop(std::fs::remove_dir_all(&dir));
    std::fs::create_dir(&dir).unwrap();
    set_mode(&dir, 0o755);
    own(world, &dir);
    dir
}

fn own(world: &World, path: &Path) {
    if is_root() && world.who == Who::User {
        std::os::unix::fs::chown(path, Some(USER), Some(USER)).unwrap();
    }
}

#[test]
fn a_newer_one_says_what_it_wants_more_and_keeps_what_it_had() {
    let _alone = alone();
    for world in worlds("upgrade") {
        world.json(&good(), &["--grant", "build"]);
        let newer = patched(&[NEWER, SEALS, PRIVILEGED]);
        let ran = world.install(&newer, &[]).code(0).prints("version  0.1.0 to 0.2.0\n");
        let ran = ran.prints("  - it asks for stage seal, which it did not have\n");
        let ran = ran.prints("  - it has no steps in stage clone any more\n");
        let ran =
            ran.prints("  - it asks for CAP_A, which it did not: x\n").prints("it keeps what was granted: build\n");
        let ran = ran.prints("  build    in the workload's process; granted before");
        ran.prints("granted    build\nnot granted: seal; if you trust it:\n  palisade plugin verify saboteur --grant seal,build");
        world.runs_inside();
        assert_eq!(world.listed().unwrap()["version"], "0.2.0");
        // What is new must be granted anew, and then stays like the rest.
        let told = world.json(&newer, &["--grant", "seal"]);
        assert_eq!(told["granted"].to_string(), "[\"build\",\"seal\"]");
        assert_eq!(told["changes"]["version"], "0.2.0 is installed already, with this content");
        // Back to the older one, which says so.
        let ran = world.install(&good(), &[]).code(0).prints("version  0.2.0 to 0.1.0, which is OLDER\n");
        ran.prints("  - it has no steps in stage seal any more").prints("granted    build\n");
        // A grant ends with the first version that does not want it.
        let told = world.json(&patched(&[("[prepare, clone, build]", "[prepare, clone, seal ]")]), &[]);
        assert_eq!((told["granted"].to_string(), told["not_granted"].to_string()), ("[]".into(), "[\"seal\"]".into()));
        assert_eq!(told["changes"]["version"], "the same version, 0.1.0, with another content");
        assert_eq!(world.json(&good(), &[])["granted"].to_string(), "[]");
        world.run("").0.code(119).says("did not come with palisade");
        // One that does not fit leaves the one that is there.
        world.json(&good(), &["--grant", "build"]);
        world.install(&unfit(), &[]).code(119).says("another abi_stable");
        world.runs_inside();
    }
}

/// The same library with the mark of another `abi_stable`.
fn unfit() -> Vec<u8> {
    let mut bytes = good();
    let at = find(&bytes, b"abi stable library for Rust");
    bytes[at + 36] += 77;
    bytes
}

#[test]
fn signatures_are_asked_for_where_there_is_a_key() {
    let _alone = alone();
    let key = minisign::KeyPair::generate_unencrypted_keypair().unwrap();
    let other = minisign::KeyPair::generate_unencrypted_keypair().unwrap();
    let sign = |key: &minisign::KeyPair, bytes: &[u8]| {
        minisign::sign(Some(&key.pk), &key.sk, bytes, Some("release 1 of saboteur"), None).unwrap().into_string()
    };
    let id: String = key.pk.keynum().iter().rev().map(|byte| format!("{byte:02X}")).collect();
    for world in worlds("signed") {
        let signature = PathBuf::from(world.source(&good()) + ".minisig");
        let remove = || world.plugin(&["remove", "saboteur"]).code(0);
        std::fs::write(&signature, sign(&key, &good())).unwrap();
        world.install(&good(), &[]).code(0).prints("nobody vouches for that: there is no key in /etc/palisade/keys");
        assert!(world.listed().unwrap()["signed_by"].is_null());
        remove();

        std::fs::create_dir_all(world.keys()).unwrap();
        let public = world.keys().join("release.pub");
        std::fs::write(&public, key.pk.to_box().unwrap().into_string()).unwrap();
        let ran = world.install(&good(), &[]).code(0);
        ran.prints(&format!("signed   by key {id} (")).prints("release.pub): release 1 of saboteur\n");
        assert_eq!(world.listed().unwrap()["signed_by"], id);
        world.plugin(&["info", "saboteur"]).code(0).prints(&format!("signed   by key {id} ("));
        // An upgrade without it is refused, and with --unsigned it says so.
        std::fs::rename(&signature, signature.with_extension("elsewhere")).unwrap();
        let refused = |what: &str| {
            let ran = world.install(&good(), &[]).code(119).says(what).says("--unsigned");
            assert!(ran.stderr.contains(&id), "{}", ran.stderr);
        };
        refused("it is not signed, and these keys ask for that: ");
        let ran = world.install(&good(), &["--unsigned"]).code(0).prints("signed   not looked at (--unsigned)");
        ran.prints(&format!("key {id} vouched for the one before; for this one does nobody"));
        assert!(world.listed().unwrap()["signed_by"].is_null());
        remove();
        refused("it is not signed");
        world.nothing();
        let elsewhere = signature.with_extension("elsewhere").display().to_string();
        world.install(&good(), &["--signature", &elsewhere]).code(0).prints(&format!("by key {id}"));
        world.install(&good(), &["--signature", &elsewhere, "--unsigned"]).code(2);
        remove();

        // Wrong ones: somebody else's, of other bytes, with another comment, of no format, and none.
        let mut forged = sign(&key, &good());
        forged = forged.replace("release 1", "release 9");
        let wrong = [
            (sign(&other, &good()), "which is none of those that may vouch"),
            (sign(&key, &patched(&[NEWER])), "did not sign these bytes"),
            (forged, "did not sign these bytes with this comment"),
            (sign(&key, &good()).replace("RU", "**"), "cannot be read"),
            (String::new(), "cannot be read"),
        ];
        for (text, said) in &wrong {
            std::fs::write(&signature, text).unwrap();
            refused(said);
            world.nothing();
        }
        std::fs::remove_file(&signature).unwrap();
        Run::bare(["mkfifo", signature.to_str().unwrap()]).ran().code(0);
        world.install(&good(), &[]).code(119).says("its signature, ").says("it is no regular file").says("--unsigned");
        world.nothing();
        std::fs::remove_file(&signature).unwrap();
        std::fs::write(&signature, sign(&key, &good())).unwrap();
        // A key that others could have put there, or that is none, is no reason to ask for less.
        set_mode(&public, 0o666);
        world.install(&good(), &[]).code(119).says("is not trusted").says("can be written by others");
        set_mode(&public, 0o644);
        set_mode(&world.keys(), 0o777);
        world.install(&good(), &[]).code(119).says("is not trusted").says("can be written by others");
        set_mode(&world.keys(), 0o755);
        std::fs::write(world.keys().join("broken.pub"), "no key\n").unwrap();
        world.install(&good(), &[]).code(119).says("is none of minisign's").says("broken.pub");
        std::fs::remove_file(world.keys().join("broken.pub")).unwrap();
        world.nothing();
        world.install(&good(), &[]).code(0).prints(&format!("by key {id}"));
    }
}

#[test]
fn what_is_no_plugin_is_refused_and_leaves_nothing() {
    let _alone = alone();
    for world in worlds("source") {
        let refused = |path: &str, said: &str| {
            let ran = world.plugin(&["install", path]).code(119).says(said);
            assert!(ran.stderr.contains(path) && ran.took.as_secs() < 5, "{}", ran.stderr);
            world.nothing();
        };
        let at = |name: &str| world.home.path().join(name).display().to_string();
        Run::bare(["mkfifo", &at("fifo")]).ran().code(0);
        set_mode(Path::new(&at("fifo")), 0o666);
        refused(&at("fifo"), "it is no regular file");
        refused("/dev/zero", "it is no regular file");
        refused(world.home.text(), "it is no regular file");
        refused(&at("missing"), "ENOENT");
        world.home.file("empty", "");
        refused(&at("empty"), "it is not a 64-bit ELF file");
        world.home.file("short", &good()[..good().len() / 2]);
        refused(&at("short"), "it is truncated");
        world.home.file("text", "#!/bin/sh\n");
        refused(&at("text"), "it is not a 64-bit ELF file");
        world.home.file("major", patched(&[("seam: \"1.1\"", "seam: \"2.1\"")]));
        refused(&at("major"), "it was built for seam 2.1");
        world.home.file("unfit", unfit());
        let ran = world.plugin(&["install", &at("unfit")]).code(119);
        ran.says("another abi_stable").says(&format!("file    {}", world.named()));
        world.nothing();
        let file = std::fs::File::create(at("huge")).unwrap();
        file.set_len((256 << 20) + 1).unwrap();
        refused(&at("huge"), "it is larger than");
        // The twin: where the file is, and who could write it, does not matter. What counts is what was read.
        let open = world.home.file("open.so", good());
        set_mode(&open, 0o666);
        std::os::unix::fs::symlink(&open, at("link")).unwrap();
        world.plugin(&["install", &at("link"), "--grant", "build"]).code(0);
        std::fs::write(&open, "something else").unwrap();
        world.runs_inside();
    }
}

/// A library in C with this constructor.
fn in_c(world: &World, constructor: &str) -> String {
    let manifest = "(name:\\\"saboteur\\\",version:\\\"1\\\",seam:\\\"1.0\\\",summary:\\\"x\\\",stages:[build],reference:\\\"()\\\")";
    let source = format!(
        "#include <unistd.h>\n#include <stdlib.h>\n#define TEXT \"{manifest}\"\n\
         __attribute__((section(\".palisade.manifest\"),used)) static const char text[sizeof(TEXT)-1]=TEXT;\n\
         __attribute__((constructor)) static void begin(void){{{constructor}}}\n"
    );
    let (file, library) = (world.home.file("made.c", source), world.home.path().join("made.so"));
    Run::bare(["gcc", "-shared", "-fPIC", "-o", library.to_str().unwrap(), file.to_str().unwrap()]).ran().code(0);
    library.display().to_string()
}

#[test]
fn one_that_fails_when_it_is_tried_out_leaves_nothing() {
    let _alone = alone();
    for world in worlds("tried") {
        for (constructor, code, said) in [
            ("", Some(119), "exports no palisade plugin"),
            ("exit(0);", Some(119), "`dlopen` ended the process"),
            ("_exit(0);", Some(0), ""),
            ("abort();", None, ""),
        ] {
            let library = in_c(&world, constructor);
            let ran = world.plugin(&["install", &library, "--grant", "build"]).says(said);
            assert_eq!(ran.code, code, "{constructor}: {}", ran.stderr);
            assert!(!ran.stdout.contains("installed  "), "{}", ran.stdout);
            world.nothing();
        }
        world.install(&good(), &["--grant", "build"]).code(0);
        world.runs_inside();
    }
}

#[test]
fn a_directory_that_others_can_write_takes_no_plugin() {
    let _alone = alone();
    for world in worlds("directory") {
        world.json(&good(), &[]);
        world.plugin(&["remove", "saboteur"]).code(0);
        for mode in [0o775, 0o777, 0o1777] {
            set_mode(&world.dir(), mode);
            world.install(&good(), &[]).code(119).says("its directory is not trusted").says("can be written by others");
            world.nothing();
        }
        set_mode(&world.dir(), 0o755);
        // Where the file cannot get its name, nothing of it stays.
        std::fs::create_dir(world.installed()).unwrap();
        world.install(&good(), &[]).code(119).says("it cannot be installed: ").says("nothing was changed");
        std::fs::remove_dir(world.installed()).unwrap();
        world.nothing();
        // Nor where the pin would not be believed.
        let state = world.lock().parent().unwrap().to_owned();
        let mode = std::fs::metadata(&state).unwrap().permissions().mode() & 0o7777;
        set_mode(&state, 0o777);
        world.install(&good(), &[]).code(119).says("can be written by others");
        assert!(!world.installed().exists());
        set_mode(&state, mode);
        world.nothing();
        world.install(&good(), &["--grant", "build"]).code(0);
        world.runs_inside();
    }
}

#[test]
fn names_of_plugins_that_came_with_palisade_are_taken() {
    let _alone = alone();
    for world in worlds("shipped") {
        let own = program().parent().unwrap();
        let own = if is_root() { own.to_owned() } else { own.canonicalize().unwrap() };
        let shipped = std::fs::read(own.join("libpalisade_seccomp.so")).unwrap();
        let dir = place(&world);
        let there = dir.to_str().unwrap();
        let said = "seccomp: palisade brings a plugin of this name";
        world.install(&shipped, &[]).code(119).says(said).says("libpalisade_seccomp.so");
        world.install(&shipped, &["--plugin-dir", there]).code(119).says(said);
        world.plugin(&["remove", "seccomp"]).code(119).says("seccomp: it came with palisade");
        let own = own.to_str().unwrap();
        world.plugin(&["remove", "seccomp", "--plugin-dir", own]).code(119).says("seccomp: it came with palisade");
        world.install(&good(), &["--plugin-dir", own]).code(2).says("count as those that came with palisade");
        world.plugin(&["remove", "../palisade/plugins/x"]).code(119).says("there is no plugin");
        world.nothing();
        assert!(std::fs::read_dir(&dir).unwrap().next().is_none());

        // The twin: another name, into a directory that is named. It is pinned there as well.
        let ran = world.install(&good(), &["--plugin-dir", there]).code(0);
        ran.prints(&format!("installed  {there}/{FILE}")).prints(&format!("--grant build --plugin-dir {there}\n"));
        assert!(!world.installed().exists());
        let info = || world.plugin(&["info", "saboteur", "--plugin-dir", there]);
        info().code(0).prints("origin   installed");
        let file = dir.join(FILE);
        std::fs::write(&file, patched(&[NEWER])).unwrap();
        let ran = info().code(119).says("it is not the file that was installed");
        ran.says(&format!("palisade plugin remove saboteur --plugin-dir {there} takes it away"));
        std::fs::write(&file, good()).unwrap();
        info().code(0);
        world.plugin(&["remove", "saboteur"]).code(119).says("there is no plugin `saboteur`");
        world.plugin(&["remove", "saboteur", "--plugin-dir", there]).code(0);
        assert!(!file.exists());
        // What was put into such a directory by hand goes by hand.
        std::fs::write(&file, good()).unwrap();
        own_file_stays(&world, there, &file);
        drop(std::fs::remove_dir_all(&dir));
    }
}

fn own_file_stays(world: &World, there: &str, file: &Path) {
    own(world, file);
    let ran = world.plugin(&["remove", "saboteur", "--plugin-dir", there]).code(119);
    ran.says("it was not installed here").says("is taken away by hand");
    assert!(file.exists());
}

/// What a process leaves that is killed at each call that renames: nothing, the old one or the new one, whole.
#[test]
fn killed_in_the_middle_it_leaves_one_or_the_other() {
    let _alone = alone();
    for world in worlds("killed") {
        let trace = world.home.path().join("trace").display().to_string();
        let newer = patched(&[NEWER]);
        let killed = |number: usize| {
            let inject = format!("inject=rename:signal=SIGKILL:when={number}");
            let (program, source) = (program().display().to_string(), world.source(&newer));
            let words = ["strace", "-f", "-o", &trace, "-e", "trace=rename", "-e", &inject];
            world.command(&[&words[..], &[&program, "plugin", "install", &source, "--grant", "build"]].concat()).ran()
        };
        let mut seen = Vec::new();
        for old in [false, true] {
            // The lock, the plugin, the lock; behind these nothing is renamed.
            for number in 1..=4 {
                if old {
                    world.json(&good(), &["--grant", "build"]);
                }
                let ran = killed(number);
                assert_eq!(ran.code == Some(0), number == 4, "{number}: {:?} {}", ran.code, ran.stderr);
                let there = world.installed().exists();
                let listed = world.listed();
                assert_eq!(listed.is_some(), there);
                seen.push((
                    old,
                    number,
                    listed.as_ref().map(|one| one["version"].as_str().unwrap_or("refused").to_owned()),
                ));
                if let Some(one) = &listed {
                    assert!(one["error"].is_null() && one["origin"] == "installed", "{number}: {one}");
                    world.runs_inside();
                } else {
                    world.run("").0.code(119).says("there is no plugin `saboteur`");
                }
                // Whatever is left, the next one puts in order.
                world.json(&newer, &["--grant", "build"]);
                world.runs_inside();
                let names: Vec<_> = std::fs::read_dir(world.dir()).unwrap().map(|e| e.unwrap().file_name()).collect();
                assert_eq!(names, [FILE]);
                world.plugin(&["remove", "saboteur"]).code(0);
                world.nothing();
            }
        }
        let at = |old, number| seen.iter().find(|one| (one.0, one.1) == (old, number)).unwrap().2.as_deref();
        assert_eq!((at(false, 1), at(true, 1)), (None, Some("0.1.0")), "{seen:?}");
        assert_eq!((at(false, 2), at(true, 2)), (None, Some("0.1.0")), "{seen:?}");
        assert_eq!((at(false, 3), at(true, 3)), (Some("0.2.0"), Some("0.2.0")), "{seen:?}");
    }
}

#[test]
fn two_at_once_do_not_mix() {
    let _alone = alone();
    for world in worlds("at-once") {
        let (old, new) = (good(), patched(&[NEWER]));
        let other = patched(&[("name: \"saboteur\"", "name: \"saboteus\"")]);
        let file = |name: &str, bytes: &[u8]| world.home.file(name, bytes).display().to_string();
        let files = [file("a.so", &old), file("b.so", &new), file("c.so", &other)];
        for round in 0..8 {
            let ran: Vec<Ran> = std::thread::scope(|scope| {
                let one = |file: &String| world.palisade(&["plugin", "install", file, "--grant", "build"]).ran();
                let started: Vec<_> = files.iter().map(|file| scope.spawn(move || one(file))).collect();
                started.into_iter().map(|thread| thread.join().unwrap()).collect()
            });
            for (ran, what) in ran.iter().zip(["a", "b", "c"]) {
                let late = ran.code == Some(119) && ran.stderr.contains("installed, removed or granted it meanwhile");
                assert!(ran.code == Some(0) || late, "{round} {what}: {:?} {}", ran.code, ran.stderr);
            }
            assert!(ran[..2].iter().any(|ran| ran.code == Some(0)) && ran[2].code == Some(0), "{round}");
            let listed = world.listed().unwrap();
            assert!(listed["error"].is_null() && listed["sha256"] == listed["pinned"], "{round}: {listed}");
            world.runs_inside();
            world.plugin(&["info", "saboteus"]).code(0).prints("origin   installed").prints("granted  build");
            let mut names: Vec<_> = std::fs::read_dir(world.dir()).unwrap().map(|e| e.unwrap().file_name()).collect();
            names.sort();
            assert_eq!(names, [FILE, "libpalisade_saboteus.so"]);
            world.plugin(&["remove", "saboteus"]).code(0);
            world.plugin(&["remove", "saboteur"]).code(0);
            world.nothing();
        }
    }
}

/// What root installs is found by everybody, who grant it for themselves.
#[test]
fn what_root_installed_is_for_everybody() {
    let _alone = alone();
    let worlds = worlds("everybody");
    let [root, user] = worlds.as_slice() else { return };
    root.json(&good(), &["--grant", "build"]);
    root.runs_inside();
    let varlib = root.home.path().join("varlib");
    let script = format!("mount --bind {} /var/lib && exec \"$@\"", varlib.display());
    let ids = [format!("--reuid={USER}"), format!("--regid={USER}")];
    let state = format!("XDG_STATE_HOME={}", user.home.path().join("state").display());
    let program = program().display().to_string();
    let palisade = |words: &[&str]| {
        let before = [
            "unshare",
            "-m",
            "sh",
            "-c",
            &script,
            "sh",
            "setpriv",
            &ids[0],
            &ids[1],
            "--clear-groups",
            "--inh-caps=-all",
            "--bounding-set=-all",
            "--",
            "env",
            &state,
            &program,
        ];
        Run::bare([&before[..], words].concat()).who(Who::Root).ran()
    };
    palisade(&["plugin", "info", "saboteur"]).code(0).prints("origin   installed by root").prints("granted  none");
    palisade(&["plugin", "remove", "saboteur"]).code(119).says("saboteur: it was not installed here");
    let policy = user.home.policy("Policy(version: 1, plugins: {\"saboteur\": ()})");
    let run = || palisade(&["run", "--policy", policy.to_str().unwrap(), "--", "true"]);
    run().code(119).says("did not come with palisade");
    palisade(&["plugin", "verify", "saboteur", "--grant", "build"]).code(0);
    run().code(0);
    // A user's own of that name would never be found.
    let source = user.source(&good());
    palisade(&["plugin", "install", &source]).code(119);
    // The lock's directory can be passed, not opened: who could open it could keep it locked.
    let mode = |path: &Path| std::fs::metadata(path).unwrap().permissions().mode() & 0o7777;
    assert_eq!((mode(&varlib.join("palisade")), mode(&root.dir()), mode(&root.lock())), (0o711, 0o755, 0o600));
}
