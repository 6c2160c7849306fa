//! `Deny`: a name that is not there cannot be made, and nothing of that stays on the host.

use palisade_tests::{Leftovers, Ran, Run, Scratch, USER, Who, everybody, is_root, slowness};
use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::sync::{Mutex, MutexGuard};
use std::time::{Duration, Instant, UNIX_EPOCH};

fn alone() -> MutexGuard<'static, ()> {
    static ONE: Mutex<()> = Mutex::new(());
    ONE.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
}

fn give(path: &Path, who: Who) {
    if is_root() {
        let id = if who == Who::Root { "0:0".to_owned() } else { format!("{USER}:{USER}") };
        Run::bare(["chown", "-R", &id, path.to_str().unwrap()]).ran().code(0);
    }
}

/// A project, and who works in it.
struct Project {
    scratch: Scratch,
    top: PathBuf,
    who: Who,
}

impl Project {
    fn new(who: Who) -> Self {
        let scratch = Scratch::new();
        let top = scratch.path().join("work");
        fs::create_dir_all(top.join("sub/deep")).unwrap();
        fs::write(top.join("file"), "file\n").unwrap();
        give(scratch.path(), who);
        Self { scratch, top, who }
    }

    /// A view with the project, read-write, and these entries.
    fn policy(&self, entries: &str) -> PathBuf {
        self.scratch.policy(&format!(
            "Policy(version: 1, process: (env: Inherit, cwd: \"{}\"), plugins: {{
                \"namespaces\": (mount: New, pid: New, user: AsNeeded), \"privileges\": (),
                \"filesystem\": (entries: [System, Proc, Dev, Bind(from: \"{0}\", mode: ReadWrite), {entries}]),
            }})",
            self.top.display()
        ))
    }

    fn denying(&self, names: &[&str]) -> PathBuf {
        let entry = |name: &&str| format!("Deny(\"{}/{name}\"), ", self.top.display());
        self.policy(&names.iter().map(entry).collect::<String>())
    }

    fn run(&self, policy: &Path, script: &str) -> Ran {
        Run::under(policy, ["sh", "-c", script]).who(self.who).ran()
    }

    fn names(&self) -> Vec<String> {
        let names = fs::read_dir(&self.top).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap());
        let mut names: Vec<_> = names.collect();
        names.sort();
        names
    }
}

const ACTS: [&str; 8] = [
    "echo evil > .env",
    "mkdir .env",
    "cp file .env && grep -q file .env",
    "echo evil > other && mv other .env",
    "ln -s file .env",
    "ln -f file .env",
    "rm -f .env && echo evil > .env",
    "mv .env x && echo evil > .env",
];

#[test]
fn a_name_that_is_not_there_cannot_be_made() {
    let _alone = alone();
    let before = Leftovers::now();
    for who in everybody("deny") {
        let project = Project::new(who);
        let (denied, free) = (project.denying(&[".env"]), project.policy(""));
        for act in ACTS {
            assert_ne!(project.run(&denied, act).code, Some(0), "{act}");
            fs::remove_file(project.top.join("other")).ok();
            assert_eq!(project.names(), ["file", "sub"], "{act}");
            // The twin: without the entry it can be done. The last needs something to move.
            let act = act.replace("mv .env x", "touch .env && mv .env x");
            project.run(&free, &act).code(0);
            assert!(fs::symlink_metadata(project.top.join(".env")).is_ok(), "{act}");
            Run::bare(["rm", "-rf", ".env", "x"]).cwd(&project.top).ran().code(0);
        }
        // It is empty for whoever looks, and everything around it works.
        project.run(&denied, "cat .env && echo x > made && rm made && mkdir .env2 && rmdir .env2").code(0);
        assert_eq!(project.names(), ["file", "sub"]);
    }
    before.same();
}

#[test]
fn with_what_leads_to_it() {
    let _alone = alone();
    let before = Leftovers::now();
    for who in everybody("deny-deep") {
        let project = Project::new(who);
        let denied = project.denying(&["sub/deep/.env", ".git/hooks", ".git/config"]);
        let free = project.policy("");
        for act in [
            "mkdir -p .git/hooks && echo evil > .git/hooks/post-commit",
            "mv sub/deep sub/x && mkdir sub/deep && echo evil > sub/deep/.env",
            "mv sub x && mkdir -p sub/deep && echo evil > sub/deep/.env",
            "echo evil > sub/deep/.env",
        ] {
            assert_ne!(project.run(&denied, act).code, Some(0), "{act}");
            assert_eq!(project.names(), ["file", "sub"], "{act}");
            assert_eq!(fs::read_dir(project.top.join("sub/deep")).unwrap().count(), 0, "{act}");
            project.run(&free, act).code(0);
            Run::bare(["sh", "-c", "rm -rf .git x sub && mkdir -p sub/deep"]).cwd(&project.top).ran().code(0);
            give(&project.top, who);
        }
        // What is there is covered, and stays as it is.
        fs::write(project.top.join(".env"), "secret\n").unwrap();
        give(&project.top, who);
        let denied = project.denying(&[".env"]);
        for act in ["cat .env", "echo evil > .env", "rm .env", "mv .env x"] {
            let ran = project.run(&denied, act);
            assert!(ran.code != Some(0) && !ran.stdout.contains("secret"), "{act}");
        }
        project.run(&free, "cat .env").code(0).prints("secret\n");
    }
    before.same();
}

/// Starts a workload that waits, and gives it time to run.
fn started(project: &Project, policy: &Path, script: &str) -> std::process::Child {
    let run = Run::under(policy, ["sh", "-c", &format!("touch ready; {script}")]).who(project.who);
    let child = run.command().stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
    until(|| project.top.join("ready").exists());
    fs::remove_file(project.top.join("ready")).unwrap();
    child
}

#[track_caller]
fn until(done: impl Fn() -> bool) {
    let begun = Instant::now();
    while !done() {
        assert!(begun.elapsed() < Duration::from_secs(10) * slowness(), "it takes too long");
        std::thread::sleep(Duration::from_millis(10));
    }
}

#[test]
fn nothing_stays_when_the_launcher_is_killed() {
    let _alone = alone();
    let before = Leftovers::now();
    for who in everybody("deny-kill") {
        let project = Project::new(who);
        let denied = project.denying(&[".env", "sub/.env"]);
        // Until the end of it the workload tries what it may not.
        let script = "until (echo evil > .env) 2>/dev/null || mkdir .env 2>/dev/null; do :; done; touch done";
        let mut child = started(&project, &denied, script);
        assert_eq!(project.names(), [".env", "file", "sub"]);
        child.kill().unwrap();
        child.wait().unwrap();
        until(|| project.names() == ["file", "sub"]);
        until(|| fs::read_dir(project.top.join("sub")).unwrap().count() == 1);
        std::thread::sleep(Duration::from_millis(100));
        assert_eq!(project.names(), ["file", "sub"]);
    }
    before.same();
}

#[test]
fn two_runs_need_it_until_the_second_has_ended() {
    let _alone = alone();
    let before = Leftovers::now();
    for who in everybody("deny-two") {
        let project = Project::new(who);
        let denied = project.denying(&[".env"]);
        let script = "until test -e go; do sleep 0.02; done; echo evil > .env; mkdir .env; touch tried";
        let mut first = started(&project, &denied, script);
        // Another one begins and ends meanwhile.
        assert_ne!(project.run(&denied, "echo evil > .env").code, Some(0));
        assert_eq!(project.names(), [".env", "file", "sub"]);
        fs::write(project.top.join("go"), "").unwrap();
        first.wait().unwrap();
        assert_eq!(project.names(), ["file", "go", "sub", "tried"]);
    }
    before.same();
}

#[test]
fn what_a_machine_left_that_lost_power_is_taken_over() {
    let _alone = alone();
    for who in everybody("deny-left") {
        let project = Project::new(who);
        let denied = project.denying(&[".env"]);
        let left = project.top.join(".env");
        let make = |seconds: u64| {
            let file = fs::File::create(&left).unwrap();
            file.set_permissions(fs::Permissions::from_mode(0o444)).unwrap();
            give(&left, who);
            file.set_modified(UNIX_EPOCH + Duration::from_secs(seconds)).unwrap();
        };
        make(1_346_456_649);
        assert_ne!(project.run(&denied, "echo evil > .env").code, Some(0));
        assert_eq!(project.names(), ["file", "sub"]);
        // An empty file of the user's own is masked, and stays.
        make(1_346_456_650);
        assert_ne!(project.run(&denied, "rm -f .env").code, Some(0));
        assert_eq!(project.names(), [".env", "file", "sub"]);
    }
}

/// As `docs/limits-of-palisade.md` says: uid 0 of its own user namespace can unmount, unless its privileges are taken.
#[test]
fn it_holds_for_uid_0_without_privileges() {
    let _alone = alone();
    for who in everybody("deny-uid-0") {
        let project = Project::new(who);
        fs::set_permissions(&project.top, fs::Permissions::from_mode(0o777)).unwrap();
        let run = |from: &str, to: &str| {
            let denied = project.denying(&[".env"]);
            let text = fs::read_to_string(&denied).unwrap().replace(from, to);
            let text = text.replace("env: Inherit", "env: Inherit, user: 0").replace("AsNeeded", "New");
            fs::write(&denied, text).unwrap();
            project.run(&denied, "umount .env; mkdir .env")
        };
        let held = run("", "");
        assert!(held.code != Some(0) && held.stderr.contains("File exists"), "{}", held.stderr);
        assert_eq!(project.names(), ["file", "sub"]);
        let free = run("\"privileges\": (),", "");
        // The empty file is still there for a moment: what was mounted on it is not.
        assert!(free.stderr.contains("File exists") && !free.stderr.contains("unmount"), "{}", free.stderr);
    }
}

#[test]
fn what_cannot_be_denied_is_refused() {
    let _alone = alone();
    let project = Project::new(if is_root() { Who::Root } else { Who::User });
    let top = project.top.display();
    let run = |entries: &str| project.run(&project.policy(entries), "true");
    run("Deny(\"/elsewhere/.env\")").code(118).says("put Deny behind the entry").says("policy");
    run(&format!("Overlay(lower: \"{top}\", at: \"/w\"), Deny(\"/w/.env\")")).code(118).says("lies in an overlay");
    std::os::unix::fs::symlink("nowhere", project.top.join("link")).unwrap();
    run(&format!("Deny(\"{top}/link\")")).code(118).says("symbolic link");
    // In what is read-only nothing is made by anybody.
    let ran = run(&format!("Bind(from: \"{top}\", to: \"/r\"), Deny(\"/r/.env\")"));
    ran.code(0);
    assert_eq!(project.names(), ["file", "link", "sub"]);
}
