//! What Landlock does not cover stays open under it alone, and is closed by another layer where a policy claims the
//! boundary.

use palisade_tests::{Leftovers, Run, Scratch, USER, Who, everybody};
use std::collections::BTreeMap;
use std::net::UdpSocket;
use std::time::Duration;

/// Each act by itself: its name and what came of it, a line each.
const ACTS: &str = r#"
import os, socket, sys
place, port = sys.argv[1], int(sys.argv[2])
file = place + "/file"
def send():
    s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    s.sendto(b"token", ("127.0.0.1", port))
acts = {
    "write": lambda: open(file, "w"),
    "chmod": lambda: os.chmod(file, 0o640),
    "utime": lambda: os.utime(file, (1, 1)),
    "setxattr": lambda: os.setxattr(file, "user.palisade", b"x"),
    "stat": lambda: os.stat(os.environ["ELSEWHERE"]),
    "chdir": lambda: os.chdir(os.path.dirname(os.environ["ELSEWHERE"])),
    "udp": send,
}
for name, act in acts.items():
    try:
        act()
        print(name, "works")
    except OSError as e:
        print(name, e.errno)
"#;

/// What came of each act, and whether the datagram arrived.
fn tried(who: Who, policy: &str, place: &str) -> BTreeMap<String, String> {
    let listener = UdpSocket::bind("127.0.0.1:0").unwrap();
    listener.set_read_timeout(Some(Duration::from_millis(300))).unwrap();
    let port = listener.local_addr().unwrap().port().to_string();
    let words = ["run", "--policy", policy, "--", "python3", "-c", ACTS, place, &port];
    let ran = Run::palisade(words).env("ELSEWHERE", &format!("{place}-secret/file")).who(who).ran().code(0);
    let mut came: BTreeMap<String, String> =
        ran.stdout.lines().filter_map(|line| line.split_once(' ')).map(|(a, b)| (a.to_owned(), b.to_owned())).collect();
    let arrived = listener.recv(&mut [0; 16]).is_ok();
    came.insert("arrived".to_owned(), arrived.to_string());
    came
}

#[test]
fn what_landlock_leaves_open_the_view_and_the_network_close() {
    if palisade_sys::landlock::abi_version().is_err() {
        return palisade_tests::skip("gaps:landlock", "this kernel has no Landlock");
    }
    let before = Leftovers::now();
    for who in everybody("gaps") {
        let scratch = Scratch::new();
        let place = format!("{}/place", scratch.text());
        for dir in [place.clone(), format!("{place}-secret")] {
            std::fs::create_dir(&dir).unwrap();
            std::fs::write(format!("{dir}/file"), "").unwrap();
            for path in [dir.clone(), format!("{dir}/file")] {
                if who == Who::User && palisade_tests::is_root() {
                    std::os::unix::fs::chown(path, Some(USER), Some(USER)).unwrap();
                }
            }
        }
        // Landlock alone: what may be read may be looked at and changed in every way but in its content.
        let text = "Policy(version: 1, process: (env: [Keep([\"PATH\", \"ELSEWHERE\"])]), plugins: {\n\
             \"privileges\": (no_new_privs: true), \"landlock\": (rules: [\n\
             Path(path: \"/\", allow: [Execute]), Read(\"/usr\"), Read(\"/etc\"), Read(\"/lib\"), Read(\"/root\"),\n\
             Path(path: \"/dev\", allow: [Read, WriteFile])], demand: (truncate: Degrade)) })";
        let alone = scratch.policy(text);
        let open = tried(who, alone.to_str().unwrap(), &place);
        assert_eq!(open["write"], "13", "{who:?} {open:?}");
        for act in ["chmod", "utime", "setxattr", "stat", "chdir", "udp"] {
            assert_eq!(open[act], "works", "{who:?} {act}: {open:?}");
        }
        assert_eq!(open["arrived"], "true", "{who:?} {open:?}");
        // The same with a view of its own, read-only, and a network of its own.
        let text = format!(
            "Policy(version: 1, extends: [\"untrusted\"], process: (env: [Keep([\"ELSEWHERE\"])]), plugins: {{\n\
             \"namespaces\": (user: AsNeeded), \"filesystem\": (entries: [Bind(\"{place}\")]) }})"
        );
        let closed = tried(who, scratch.policy(&text).to_str().unwrap(), &place);
        for act in ["write", "chmod", "utime", "setxattr"] {
            assert_eq!(closed[act], "30", "{who:?} {act}: {closed:?}");
        }
        for act in ["stat", "chdir"] {
            assert_eq!(closed[act], "2", "{who:?} {act}: {closed:?}");
        }
        assert_eq!(closed["arrived"], "false", "{who:?} {closed:?}");
    }
    before.same();
}
