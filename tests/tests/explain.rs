//! `palisade run --explain`: what is denied, by which layer and line, and what would allow it.

use palisade_tests::{Leftovers, Ran, Run, Scratch, Who, everybody};
use serde_json::Value;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::sync::{Mutex, MutexGuard};

fn alone() -> MutexGuard<'static, ()> {
    static ONE: Mutex<()> = Mutex::new(());
    ONE.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
}

/// Runs a script under a policy; gives what was said and the report.
fn run(who: Who, policy: &str, explain: bool, script: &str) -> (Ran, Value) {
    let options = if explain { &["--explain"][..] } else { &[] };
    let words = [&["run", "--policy", policy, "--report", "-"], options, &["--", "sh", "-c", script]].concat();
    let ran = Run::palisade(words).who(who).ran();
    let report = ran.stdout.find("{\n  \"version\"").and_then(|at| serde_json::from_str(ran.stdout.get(at..)?).ok());
    let report = report.unwrap_or_else(|| panic!("no report: {}{}", ran.stdout, ran.stderr));
    (ran, report)
}

/// The denials about one thing: the plugin, the answer, the policy line, what would allow it, and whether it was seen.
fn about<'a>(report: &'a Value, call: &str, what: &str) -> Vec<[&'a str; 5]> {
    let denials = report["denials"].as_array().unwrap_or_else(|| panic!("no denials: {report}"));
    let those = denials.iter().filter(|denial| denial["call"] == call && denial["what"] == what);
    let layers = those.flat_map(|denial| denial["layers"].as_array().unwrap());
    let text = |value: &'a Value| value.as_str().unwrap_or_default();
    layers
        .map(|layer| {
            let seen = if layer["seen"] == true { "seen" } else { "" };
            [text(&layer["plugin"]), text(&layer["answer"]), text(&layer["policy_line"]), text(&layer["help"]), seen]
        })
        .collect()
}

/// The text of the file at a line that a report names.
fn line_at(place: &str) -> String {
    let mut parts = place.rsplitn(3, ':');
    let (_column, line, file) = (parts.next(), parts.next().unwrap(), parts.next().unwrap());
    let text = std::fs::read_to_string(file).unwrap_or_else(|_| {
        std::fs::read_to_string(palisade_tests::tree().join(file)).unwrap_or_else(|e| panic!("{file}: {e}"))
    });
    text.lines().nth(line.parse::<usize>().unwrap() - 1).unwrap().trim().to_owned()
}

/// Whether this kernel has it: from 5.13 on.
fn landlock() -> bool {
    palisade_sys::landlock::abi_version().is_ok()
}

const PTRACE: &str = r#"python3 -c 'import ctypes
l = ctypes.CDLL(None, use_errno=True)
print(l.ptrace(16, 1, 0, 0), ctypes.get_errno())'"#;

#[test]
fn a_call_that_the_filter_answers_is_seen_and_answered_the_same() {
    let _alone = alone();
    let before = Leftovers::now();
    for who in everybody("explain") {
        let (plain, report) = run(who, "untrusted", false, PTRACE);
        assert!(plain.stdout.starts_with("-1 1\n"), "{}", plain.stdout);
        assert_eq!(report["denials"], Value::Null, "nobody asked");
        let (told, report) = run(who, "untrusted", true, PTRACE);
        assert!(told.stdout.starts_with("-1 1\n"), "another answer than without: {}", told.stdout);
        let [[plugin, answer, line, help, seen]] = about(&report, "ptrace", "")[..] else { panic!("{report}") };
        assert_eq!((plugin, answer, seen), ("seccomp", "EPERM", "seen"));
        assert!(line_at(line).contains("@default-deny"), "{line}: {}", line_at(line));
        assert!(!help.is_empty());
        told.says("ptrace").says("seccomp: EPERM").says(line);
    }
    before.same();
}

/// With what it says of a group the call is made, and the rest of the group is not.
#[test]
fn a_call_is_taken_out_of_a_group() {
    let _alone = alone();
    let before = Leftovers::now();
    let scratch = Scratch::new();
    let script = r#"python3 -c 'import ctypes
l = ctypes.CDLL(None, use_errno=True)
print(l.ptrace(0, 0, 0, 0), l.mount(b"x", b"/tmp", b"tmpfs", 0, 0), ctypes.get_errno())'"#;
    let (ran, report) = run(Who::Root, "untrusted", true, script);
    assert!(ran.code(0).stdout.starts_with("-1 -1 1\n"));
    let [[_, _, _, help, _]] = about(&report, "ptrace", "")[..] else { panic!("{report}") };
    let rules = help.strip_prefix("replace: [\"seccomp.deny\"], and \"seccomp\": (deny: [").unwrap().strip_suffix("])");
    let rule = rules.unwrap().split_inclusive(')').next().unwrap();
    let policy = scratch.policy(&format!(
        "Policy(version: 1, extends: [\"untrusted\"], replace: [\"seccomp.deny\"], plugins: {{\n\
         \"seccomp\": (deny: [{rule}]) }})"
    ));
    let (ran, report) = run(Who::Root, policy.to_str().unwrap(), true, script);
    assert!(ran.code(0).stdout.starts_with("0 -1 1\n"), "{rule}");
    assert!(about(&report, "ptrace", "").is_empty(), "{report}");
    assert_eq!(about(&report, "mount", "").len(), 1);
    let wrong = scratch.policy(
        "Policy(version: 1, extends: [\"untrusted\"], plugins: {\"seccomp\": (deny: [Except(\"@debug\", [\"mount\"])])})",
    );
    Run::under(&wrong, ["true"]).ran().code(118).says("mount is not in @debug");
    before.same();
}

/// The twin of a denial: with what the explanation says it is allowed.
#[test]
fn what_it_says_would_allow_it_does() {
    let _alone = alone();
    let before = Leftovers::now();
    let scratch = Scratch::new();
    let place = scratch.path().join("place");
    std::fs::create_dir(&place).unwrap();
    std::fs::set_permissions(&place, std::fs::Permissions::from_mode(0o777)).unwrap();
    std::fs::write(place.join("file"), "its content\n").unwrap();
    let place = place.display().to_string();
    let policy = |entries: &str, rules: &str| {
        let text = format!(
            "Policy(version: 1, extends: [\"untrusted\"], process: (cwd: \"/\"), plugins: {{\n\
             \"namespaces\": (user: AsNeeded), \"filesystem\": (entries: [{entries}]),\n\
             \"landlock\": (rules: [{rules}]) }})"
        );
        scratch.policy(&text).display().to_string()
    };
    let inner = |help: &str, before: &str| {
        let rest = help.strip_prefix(before).and_then(|rest| rest.strip_suffix("])"));
        rest.unwrap_or_else(|| panic!("{help}")).to_owned()
    };
    let one = |report: &Value, path: &str| {
        let [[plugin, answer, line, help, _]] = about(report, "openat", path)[..] else {
            panic!("{}", report["denials"])
        };
        ([plugin, answer].map(str::to_owned), line.to_owned(), help.to_owned())
    };
    for who in everybody("explain") {
        // Hidden: the view has no such file. Then it has.
        let (file, new) = (format!("{place}/file"), format!("{place}/new-{who:?}"));
        let (ran, report) = run(who, &policy("", ""), true, &format!("cat {file}"));
        ran.code(1).says("No such file");
        let (by, _, help) = one(&report, &file);
        assert_eq!(by, ["filesystem", "ENOENT"]);
        let bind = inner(&help, "\"filesystem\": (entries: [");
        let (ran, report) = run(who, &policy(&bind, ""), true, &format!("cat {file}"));
        ran.code(0).prints("its content");
        assert!(about(&report, "openat", &file).is_empty(), "{}", report["denials"]);
        if !landlock() {
            continue;
        }
        // To be written, and no rule grants it. Then one does.
        let bind = format!("Bind(from: \"{place}\", mode: ReadWrite)");
        let (ran, report) = run(who, &policy(&bind, ""), true, &format!("echo x >{new}"));
        ran.code(2).says("Permission denied");
        let (by, line, help) = one(&report, &new);
        assert_eq!(by, ["landlock", "EACCES"]);
        assert!(line.contains("base.ron"), "{line}");
        let rule = inner(&help, "\"landlock\": (rules: [");
        let (ran, report) = run(who, &policy(&bind, &rule), true, &format!("echo x >{new}"));
        ran.code(0);
        assert!(about(&report, "openat", &new).is_empty(), "{}", report["denials"]);
    }
    before.same();
}

/// Switches auditing on (1) or off (0), in a guest: AUDIT_SET with AUDIT_STATUS_ENABLED.
const AUDIT: &str = "import socket, struct, sys
s = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, 9)
status = struct.pack(\"10I\", 1, int(sys.argv[1]), 0, 0, 0, 0, 0, 0, 0, 0)
s.send(struct.pack(\"IHHII\", 16 + len(status), 1001, 5, 1, 0) + status)
kind, error = struct.unpack(\"4xH10xi\", s.recv(8192)[:20])
assert (kind, error) == (2, 0), (kind, error)";

#[test]
fn where_auditing_is_on_the_kernel_itself_says_what_landlock_denies() {
    let _alone = alone();
    let logs = palisade_sys::landlock::abi_version().is_ok_and(|abi| abi >= 7);
    if std::env::var_os("PALISADE_VM").is_none() || !palisade_tests::is_root() || !logs {
        return palisade_tests::skip(
            "audit",
            "this is no guest whose auditing could be switched on, of Linux 6.15 or later",
        );
    }
    let scratch = Scratch::new();
    let place = scratch.text();
    let policy = scratch.policy(&format!(
        "Policy(version: 1, extends: [\"untrusted\"], plugins: {{\n\
         \"namespaces\": (user: AsNeeded),\n\
         \"filesystem\": (entries: [Bind(from: \"{place}\", mode: ReadWrite)]),\n\
         \"landlock\": (tcp: (connect: [443])) }})",
    ));
    let (policy, new) = (policy.to_str().unwrap(), format!("{place}/new"));
    let script = format!(
        "mkdir /dev/shm/a; echo x >{new}; python3 -c 'import socket
try: socket.create_connection((\"127.0.0.1\", 80))
except OSError as e: print(e.errno)'; exit 0"
    );
    // What the kernel says with auditing, the rules say without.
    for audited in [false, true] {
        if audited {
            Run::bare(["python3", "-c", AUDIT, "1"]).ran().code(0);
        }
        let (ran, report) = run(Who::Root, policy, true, &script);
        assert!(ran.code(0).stdout.starts_with("13\n"));
        let denials = report["denials"].as_array().unwrap();
        let by = |what: &str| {
            let those = denials.iter().filter(|denial| denial["what"] == what);
            let layers = those.flat_map(|denial| denial["layers"].as_array().unwrap());
            let mut layers = layers.filter(|layer| layer["plugin"] == "landlock");
            layers.next().unwrap_or_else(|| panic!("{audited} {what}: {denials:#?}")).clone()
        };
        // What is denied of a new file is denied of its directory.
        let file = if audited { place } else { &new };
        for (what, why) in [(file, "make_reg"), ("127.0.0.1:80", "")] {
            let layer = by(what);
            assert_eq!(layer["seen"], audited, "{what}: {layer}");
            assert!(layer["why"].as_str().unwrap().contains(why), "{layer}");
            assert!(layer["policy_line"].is_string(), "{layer}");
        }
    }
    // The other tests are of what is said without, in whatever order they come.
    Run::bare(["python3", "-c", AUDIT, "0"]).ran().code(0);
}

#[test]
fn all_layers_that_stand_in_the_way_are_named() {
    let _alone = alone();
    let before = Leftovers::now();
    for who in everybody("explain") {
        let script = "echo x >/usr/x; mkdir /etc/y; ln -s a /usr/z; mv /etc/hosts /etc/h; exit 0";
        let (ran, report) = run(who, "untrusted", true, script);
        let ran = ran.code(0);
        for (call, what) in
            [("openat", "/usr/x"), ("mkdir", "/etc/y"), ("symlinkat", "/usr/z"), ("renameat2", "/etc/hosts")]
        {
            let mut layers: Vec<(&str, &str)> = about(&report, call, what).iter().map(|l| (l[0], l[1])).collect();
            if !landlock() {
                layers.push(("landlock", "EACCES"));
            }
            assert_eq!(
                layers,
                [("filesystem", "EROFS"), ("landlock", "EACCES")],
                "{who:?} {call} {what}: {}",
                report["denials"]
            );
        }
        let ran = ran.says("Bind(from: \"/usr\", mode: ReadWrite)");
        assert_eq!(ran.stderr.contains("Write(\"/usr\")"), landlock(), "{}", ran.stderr);
        let connect = r#"python3 -c 'import socket
s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM); s.settimeout(1)
for address in ["192.0.2.1", "127.0.0.1"]:
    try: s.connect((address, 9))
    except OSError as e: print(e.errno)'"#;
        let (ran, report) = run(who, "untrusted", true, connect);
        assert!(ran.stdout.starts_with("101\n"), "{}", ran.stdout);
        let [[plugin, answer, line, ..]] = about(&report, "connect", "192.0.2.1:9")[..] else { panic!("{report}") };
        assert_eq!((plugin, answer), ("namespaces", "ENETUNREACH"));
        assert!(line_at(line).contains("net: New"), "{line}");
        assert!(about(&report, "connect", "127.0.0.1:9").is_empty());
    }
    before.same();
}

#[test]
fn a_signal_of_the_filter_is_explained_whether_or_not_somebody_asked() {
    let _alone = alone();
    let scratch = Scratch::new();
    let policy = scratch.policy(
        "Policy(version: 1, extends: [\"untrusted\"], plugins: {\n\"seccomp\": (deny: [\n\
         Answer(Call(\"kcmp\"), KillProcess)]) })",
    );
    let policy = policy.to_str().unwrap();
    let script = r#"exec python3 -c 'import ctypes; ctypes.CDLL(None).syscall(312, 1, 1, 0, 0, 0)'"#;
    for explain in [false, true] {
        let (ran, report) = run(Who::Root, policy, explain, script);
        let ran = ran.code(128 + 31).says("SIGSYS").says("Call(\"kcmp\")");
        let denial = &report["denials"].as_array().unwrap().last().unwrap()["layers"][0];
        assert_eq!((&denial["plugin"], &denial["answer"]), (&Value::from("seccomp"), &Value::from("SIGSYS")));
        assert!(line_at(denial["policy_line"].as_str().unwrap()).contains("kcmp"), "{}", ran.stderr);
    }
    // The twin: another signal is nobody's.
    let (ran, report) = run(Who::Root, policy, false, "kill -SEGV $$");
    ran.code(128 + 11);
    assert_eq!(report["denials"], Value::Null);
}

#[test]
fn many_processes_and_signals_are_explained_without_getting_in_their_way() {
    let _alone = alone();
    let before = Leftovers::now();
    let script = "for i in 1 2 3 4 5 6 7 8; do (for j in 1 2 3 4 5; do cat /etc/none$j; cat /etc/passwd; done) & done 2>/dev/null
        wait; python3 -c '
import signal, os
count = 0
def tick(*_):
    global count
    count += 1
signal.signal(signal.SIGALRM, tick)
signal.siginterrupt(signal.SIGALRM, False)
signal.setitimer(signal.ITIMER_REAL, 0.001, 0.001)
for _ in range(300): os.stat(\"/usr/bin\"); os.path.exists(\"/etc/shadow\")
signal.setitimer(signal.ITIMER_REAL, 0)
print(\"signals\", count > 0)'";
    for who in everybody("explain") {
        let (ran, report) = run(who, "untrusted", true, script);
        let ran = ran.code(0).prints("signals True");
        let passwd = std::fs::read_to_string("/etc/passwd").unwrap();
        assert!(ran.stdout.matches("root:").count() >= 40, "{who:?}: {passwd}{}", ran.stdout);
        let denials = report["denials"].as_array().unwrap();
        let shadow = denials.iter().find(|denial| denial["what"] == "/etc/shadow").unwrap();
        assert!(shadow["times"].as_u64().unwrap() >= 300, "{who:?}: {shadow}");
    }
    before.same();
}

/// What the kernel would kill or leave running without the launcher ends with it.
#[test]
fn a_workload_that_waits_for_an_answer_ends_with_its_launcher() {
    let _alone = alone();
    let before = Leftovers::now();
    let loops = "while :; do cat /etc/shadow; done 2>/dev/null";
    let mut launcher = Run::palisade(["run", "--policy", "untrusted", "--explain", "--", "sh", "-c", loops]);
    launcher = launcher.who(Who::Root);
    for wait in [30, 200, 400] {
        let mut child = launcher.command().spawn().unwrap();
        std::thread::sleep(std::time::Duration::from_millis(wait));
        child.kill().unwrap();
        child.wait().unwrap();
    }
    Run::palisade(["gc"]).ran();
    before.same();
    let timed = ["run", "--policy", "untrusted", "--explain", "--set", "process.timeout=1s", "--", "sh", "-c", loops];
    Run::palisade(timed).ran().code(124).says("timed out").says("/etc/shadow");
    before.same();
}

#[test]
fn where_nothing_can_be_seen_that_is_an_error() {
    let _alone = alone();
    let before = Leftovers::now();
    let scratch = Scratch::new();
    let explain = |policy: &Path| {
        let words = ["run", "--explain", "--policy", policy.to_str().unwrap(), "--", "echo", "started"];
        Run::palisade(words).ran()
    };
    let without = scratch.policy("Policy(version: 1, extends: [\"untrusted\"], drop: [\"seccomp\"])");
    let ran = explain(&without).code(118).says("no plugin of this policy can see").says("help");
    assert!(!ran.stdout.contains("started"));
    let mute = scratch
        .policy("Policy(version: 1, extends: [\"untrusted\"], plugins: {\"seccomp\": (deny: [Call(\"sendmsg\")])})");
    let ran = explain(&mute).code(118).says("sendmsg").says("without an explanation");
    assert!(!ran.stdout.contains("started"));
    Run::under(&mute, ["echo", "started"]).ran().code(0).prints("started");
    before.same();
}

const POWERS: &str = r#"python3 -c 'import os, socket
def told(name, act):
    try: act(); print(name, "done")
    except OSError as error: print(name, error.errno)
open("/tmp/file", "w").close()
told("setuid", lambda: os.setuid(0))
told("chown", lambda: os.chown("/tmp/file", 1, -1))
told("own", lambda: os.chown("/tmp/file", os.getuid(), os.getgid()))
told("port", lambda: socket.socket().bind(("127.0.0.1", 80)))
told("free", lambda: socket.socket().bind(("127.0.0.1", 8080)))
told("better", lambda: os.setpriority(os.PRIO_PROCESS, 0, -5))
told("worse", lambda: os.setpriority(os.PRIO_PROCESS, 0, 5))'"#;

/// What takes a capability, or an id that is not there, is told with it; and done by who has it.
#[test]
fn a_capability_that_is_missing_is_named() {
    let _alone = alone();
    let before = Leftovers::now();
    let scratch = Scratch::new();
    let layers = |report: &Value, call: &str, what: &str| -> Vec<[String; 3]> {
        let all = about(report, call, what);
        all.iter().map(|[plugin, answer, _, help, _]| [*plugin, *answer, *help].map(str::to_owned)).collect()
    };
    for who in everybody("explain") {
        let (ran, report) = run(who, "untrusted", true, POWERS);
        let said = "setuid 22\nchown 22\nown done\nport 13\nfree done\nbetter 13\nworse done\n";
        assert!(ran.stdout.starts_with(said), "{who:?}: {}", ran.stdout);
        for (call, what, cap) in [("setuid", "", "setuid"), ("chown", "/tmp/file", "chown")] {
            let told = layers(&report, call, what);
            let [[first, errno, _], [second, _, keep]] = &told[..] else { panic!("{who:?} {call}: {told:?}") };
            assert_eq!([first, errno, second], ["namespaces", "EINVAL", "privileges"], "{who:?} {call}");
            assert_eq!(keep, &format!("\"privileges\": (capabilities: (keep: [\"{cap}\"]))"));
        }
        let [[plugin, errno, help]] = &layers(&report, "bind", "127.0.0.1:80")[..] else { panic!("{report}") };
        assert_eq!([plugin, errno], ["privileges", "EACCES"], "{who:?}");
        assert!(layers(&report, "bind", "127.0.0.1:8080").is_empty(), "{report}");
        let times = |call: &str| -> u64 {
            let denials = report["denials"].as_array().unwrap().iter();
            denials.filter(|denial| denial["call"] == call).map(|denial| denial["times"].as_u64().unwrap()).sum()
        };
        assert_eq!(
            [times("chown"), times("setpriority")],
            [1, 1],
            "what is one's own, or worse, takes nothing: {report}"
        );
        // With what it says the port can be had.
        let policy = scratch.policy(&format!("Policy(version: 1, extends: [\"untrusted\"], plugins: {{{help}}})"));
        let (ran, report) = run(who, policy.to_str().unwrap(), true, POWERS);
        assert!(ran.stdout.contains("port done\n"), "{who:?}: {}", ran.stdout);
        assert!(layers(&report, "bind", "127.0.0.1:80").is_empty(), "{report}");
    }
    before.same();
}
