//! User namespaces: the ids in them, and those that a workload makes itself.

use palisade_tests::{Leftovers, Run, Scratch, USER, Who, everybody, is_root};
use std::path::PathBuf;
use std::sync::{Mutex, MutexGuard};

fn alone() -> MutexGuard<'static, ()> {
    static ONE: Mutex<()> = Mutex::new(());
    ONE.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
}

fn policy(scratch: &Scratch, namespaces: &str, process: &str, more: &str) -> PathBuf {
    scratch.policy(&format!(
        "Policy(version: 1, process: (env: Keep([\"PATH\"]), cwd: \"/\", {process}), plugins: {{
            \"namespaces\": (user: New, mount: New, pid: New, {namespaces}),
            \"filesystem\": (entries: [System, Proc, Dev]), {more}
        }})"
    ))
}

/// As a user, and as root of its own user namespace with every capability there.
#[test]
fn user_namespaces_inside_can_be_denied() {
    let _alone = alone();
    let before = Leftovers::now();
    for who in everybody("nested") {
        let scratch = Scratch::new();
        // What stays of the setting is the host's.
        let setting = || std::fs::read_to_string("/proc/sys/user/max_user_namespaces").unwrap();
        let was = setting();
        for process in ["", "user: 0"] {
            for (more, capable) in [("\"privileges\": (),", false), ("", true)] {
                let run = |nested: &str, script: &str| {
                    let policy = policy(&scratch, nested, process, more);
                    Run::under(&policy, ["sh", "-c", script]).who(who).ran()
                };
                run("", "unshare -U true").code(0);
                let ran = run("nested: Deny", "unshare -U true");
                assert!(ran.code == Some(1) && ran.stderr.contains("No space left"), "{}{}", ran.stdout, ran.stderr);
                if capable {
                    continue;
                }
                // It cannot be lifted from inside, where nothing gives CAP_SYS_RESOURCE.
                let lift =
                    "mount -o remount,rw /proc/sys; echo 10 > /proc/sys/user/max_user_namespaces; unshare -U true";
                let ran = run("nested: Deny", lift);
                assert!(ran.code == Some(1) && ran.stderr.contains("No space left"), "{}", ran.stderr);
            }
        }
        assert_eq!(setting(), was);
    }
    before.same();
}

/// The shipped policies deny them by their filter; a policy that wants them writes that list anew.
#[test]
fn the_shipped_policies_deny_them_and_a_line_allows_them() {
    let _alone = alone();
    for who in everybody("nested-shipped") {
        let scratch = Scratch::new();
        let run = |more: &str| {
            let policy = scratch.policy(&format!("Policy(version: 1, extends: [\"base\"], {more})"));
            Run::under(&policy, ["unshare", "-U", "true"]).who(who).ran()
        };
        let denied = run("");
        assert!(denied.code == Some(1) && denied.stderr.contains("not permitted"), "{}", denied.stderr);
        let list = "plugins: { \"seccomp\": (deny: [Group(\"@keyring\"), Group(\"@bpf\"), Group(\"@io-uring\")]) }";
        run(&format!("replace: [\"seccomp.deny\"], {list}")).code(0);
    }
}

#[test]
fn what_has_no_user_namespace_of_its_own_is_told_so() {
    let _alone = alone();
    if !is_root() {
        return palisade_tests::skip("nested:root", "for an ordinary user AsNeeded is New");
    }
    let scratch = Scratch::new();
    let policy =
        scratch.policy("Policy(version: 1, plugins: { \"namespaces\": (user: AsNeeded, mount: New, nested: Deny) })");
    Run::under(&policy, ["true"]).ran().code(118).says("no new user namespace").says("@namespaces");
    Run::under(&policy, ["true"]).who(Who::User).ran().code(0);
}

/// What `docs/policy.md` says of them: several ranges, and the caller's ids as they are.
#[test]
fn ids_are_kept_or_mapped_by_ranges() {
    let _alone = alone();
    for who in everybody("ids") {
        let scratch = Scratch::new();
        let shown = |namespaces: &str, process: &str| {
            let policy = policy(&scratch, namespaces, process, "\"privileges\": (),");
            Run::under(&policy, ["sh", "-c", "id -u; id -g; cat /proc/self/uid_map"]).who(who).ran().code(0).stdout
        };
        let words = |text: &str| text.split_ascii_whitespace().map(str::to_owned).collect::<Vec<_>>();
        let own = if who == Who::Root && is_root() {
            0
        } else {
            palisade_sys::process::euid().max(if is_root() { USER } else { 0 })
        };
        assert_eq!(words(&shown("ids: Keep", "")), words(&format!("{own} {own} {own} {own} 1")));
        if who == Who::Root && is_root() {
            let ranges = "[(0, 100000, 1000), (1000, 64321, 1), (1001, 101000, 9)]";
            let text = shown(&format!("ids: Map(uid: {ranges}, gid: {ranges})"), "user: 1000");
            assert_eq!(words(&text), words("1000 1000 0 100000 1000 1000 64321 1 1001 101000 9"));
        }
    }
}
