//! The policies that give a part of the host's network, with the work they are for: installing from a registry, which
//! is one of the tests' own in a network without any other, and a service. What is installed and what serves is a
//! stranger's, `probes/found.py`; what works of it without the policy must not work under it.

use palisade_tests::{Leftovers, Project, Ran, Run, Scratch, Who, everybody, is_root, tree};
use std::fs;
use std::io::{Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::sync::{Mutex, MutexGuard};
use std::time::{Duration, Instant};

fn alone() -> MutexGuard<'static, ()> {
    static ONE: Mutex<()> = Mutex::new(());
    ONE.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
}

/// What a stranger's program tries; MPTCP is not in every kernel.
const TRIES: &str = "netrc npmrc ssh cargo variable port other fast-open mptcp udp bind unix hook setuid";

fn found() -> String {
    fs::read_to_string(tree().join("tests/probes/found.py")).unwrap()
}

/// A project of whoever runs the test, with secrets in its home and git's settings in it.
fn project(policy: &'static str, who: Who, more: &[(&str, &str)]) -> Project {
    let found = found();
    let mut files = vec![
        ("found.py", found.as_str()),
        (".git/hooks/empty", ""),
        ("home/.netrc", "machine example.org login ann password secret\n"),
        ("home/.npmrc", "//registry.example.org/:_authToken=secret\n"),
        ("home/.ssh/id", "secret\n"),
        ("home/.cargo/credentials.toml", "token = \"secret\"\n"),
    ];
    files.extend(more);
    Project::new(policy, who, &files)
}

/// A registry with one package in each form.
fn registry() -> Scratch {
    let served = Scratch::new();
    let lay = tree().join("tests/probes/registry.py");
    let found = tree().join("tests/probes/found.py");
    let words = [lay.to_str().unwrap(), "--lay", served.text(), found.to_str().unwrap()];
    Run::bare([&["/usr/bin/python3"], &words[..]].concat()).ran().code(0);
    // A server that was started by somebody else reads it.
    Run::bare(["chmod", "-R", "a+rX", served.text()]).ran().code(0);
    served
}

/// The last line: what worked.
fn worked(ran: &Ran) -> &str {
    ran.stdout.trim_end().lines().last().unwrap_or_default()
}

/// All of it works without the policy; under it one reaches the registry, and UDP, which no rule covers.
fn stranger_gets_nothing(under: &Ran, bare: &Ran) {
    assert_eq!(worked(under), "port udp", "{}", under.stderr);
    assert!(worked(bare) == TRIES || worked(bare) == TRIES.replace(" mptcp", ""), "{}", worked(bare));
}

#[test]
fn pip_install() {
    let _alone = alone();
    if !is_root() {
        return palisade_tests::skip("pip-install:root", "a network of its own needs root");
    }
    if Run::bare(["/usr/bin/python3", "-m", "pip", "--version"]).ran().code != Some(0) {
        return palisade_tests::skip("pip", "pip is not installed");
    }
    let before = Leftovers::now();
    let served = registry();
    for who in everybody("pip-install") {
        let project = project("pip-install", who, &[("home/.cache/pip/empty", "")]);
        let install = |more: &str| {
            format!(
                "export PROJECT=$PWD; /usr/bin/python3 -m pip install --quiet --target site {more} \
                 --index-url http://127.0.0.1:443/simple/ small && \
                 PYTHONPATH=site /usr/bin/python3 -c 'import small; print(small.FOUND)'"
            )
        };
        let under = project.networked(&served, "443,8081", &["sh", "-c", &install("")], Some(&[])).code(0);
        assert!(project.path("site/small.py").exists());
        assert!(fs::read_dir(project.home.path().join(".cache/pip")).unwrap().count() > 1, "the cache was not used");
        project.bare("rm -r site").code(0);
        let bare = project.networked(&served, "443,8081", &["sh", "-c", &install("--no-cache-dir")], None).code(0);
        stranger_gets_nothing(&under, &bare);
        project.closed();
    }
    before.same();
}

#[test]
fn npm_install() {
    let _alone = alone();
    if !is_root() {
        return palisade_tests::skip("npm-install:root", "a network of its own needs root");
    }
    if !["/usr/bin/npm", "/usr/local/bin/npm"].iter().any(|path| Path::new(path).exists()) {
        return palisade_tests::skip("npm", "npm is not installed");
    }
    let before = Leftovers::now();
    let served = registry();
    let manifest = r#"{"name": "own", "version": "1.0.0", "dependencies": {"small": "1.0.0"}}"#;
    for who in everybody("npm-install") {
        let project = project("npm-install", who, &[("package.json", manifest), ("home/.npm/_cacache/empty", "")]);
        let install = "export PROJECT=$PWD; npm install --silent --no-audit --no-fund --registry http://127.0.0.1:443/ && \
            cat node_modules/small/found.txt";
        let under = project.networked(&served, "443,8081", &["sh", "-c", install], Some(&[])).code(0);
        assert!(project.path("package-lock.json").exists());
        assert!(fs::read_dir(project.home.path().join(".npm/_cacache")).unwrap().count() > 1, "the cache was not used");
        project.bare("rm -r node_modules package-lock.json").code(0);
        let bare = project.networked(&served, "443,8081", &["sh", "-c", install], None).code(0);
        stranger_gets_nothing(&under, &bare);
        project.closed();
    }
    before.same();
}

#[test]
fn cargo_fetch() {
    let _alone = alone();
    if !is_root() {
        return palisade_tests::skip("cargo-fetch:root", "a network of its own needs root");
    }
    let before = Leftovers::now();
    let served = registry();
    let manifest = "[package]\nname = \"own\"\nversion = \"0.1.0\"\nedition = \"2021\"\n[dependencies]\nsmall = \"1\"\n[workspace]\n";
    let config =
        "[source.crates-io]\nreplace-with = \"own\"\n[source.own]\nregistry = \"sparse+http://127.0.0.1:443/index/\"\n";
    let main = "fn main() { println!(\"{}\", small::TWO); }\n";
    for who in everybody("cargo-fetch") {
        let files = [("Cargo.toml", manifest), (".cargo/config.toml", config), ("src/main.rs", main)];
        let mut project = project("cargo-fetch", who, &[&files[..], &[("home/.cargo/registry/empty", "")]].concat());
        project.rust();
        let path = format!("export PATH={}/.rustup/toolchains/own/bin:/usr/bin:/bin PROJECT=$PWD", project.home.text());
        let fetch = format!("{path}; cargo fetch --quiet && /usr/bin/python3 found.py 443 8081");
        let under = project.networked(&served, "443,8081", &["sh", "-c", &fetch], Some(&[])).code(0);
        assert!(project.path("Cargo.lock").exists());
        let bare = project.networked(&served, "443,8081", &["sh", "-c", &fetch], None).code(0);
        stranger_gets_nothing(&under, &bare);
        project.closed();
        // What was fetched is what `cargo-build` builds with, without a network.
        project.policy = "cargo-build";
        project.sh(&format!("{path}; cargo run --quiet --offline")).code(0).prints("2\n");
    }
    before.same();
}

/// Serves the project, and says what a stranger who had taken it over would get.
const SERVICE: &str = r#"
import http.server, subprocess, sys
class Handler(http.server.SimpleHTTPRequestHandler):
    def do_GET(self):
        if self.path != "/found":
            return super().do_GET()
        found = subprocess.run(["/usr/bin/python3", "found.py", sys.argv[2], sys.argv[2]], capture_output=True).stdout
        self.send_response(200)
        self.end_headers()
        self.wfile.write(found)
http.server.HTTPServer(("127.0.0.1", int(sys.argv[1])), Handler).serve_forever()
"#;

/// The body of what is answered; nothing is where nobody listens.
fn get(port: u16, path: &str) -> Option<String> {
    let mut peer = TcpStream::connect(("127.0.0.1", port)).ok()?;
    peer.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
    peer.write_all(format!("GET {path} HTTP/1.0\r\n\r\n").as_bytes()).unwrap();
    let mut answer = String::new();
    peer.read_to_string(&mut answer).unwrap();
    Some(answer.split_once("\r\n\r\n")?.1.to_owned())
}

/// What a service answers to these questions; it is ended then.
fn answers(service: &Run, port: u16, questions: &[&str]) -> Vec<String> {
    let mut child = service.command().stderr(std::process::Stdio::null()).spawn().unwrap();
    let begun = Instant::now();
    while get(port, "/").is_none() {
        assert!(begun.elapsed() < Duration::from_secs(30) && child.try_wait().unwrap().is_none(), "nobody listens");
        std::thread::sleep(Duration::from_millis(20));
    }
    let answers = questions.iter().map(|path| get(port, path).unwrap()).collect();
    Run::bare(["kill", &child.id().to_string()]).ran().code(0);
    child.wait().unwrap();
    answers
}

#[test]
fn net_service() {
    let _alone = alone();
    let before = Leftovers::now();
    for who in everybody("net-service") {
        let project = project("net-service", who, &[("service.py", SERVICE), ("page.html", "a page\n")]);
        fs::set_permissions(project.scratch.path(), fs::Permissions::from_mode(0o777)).unwrap();
        let other = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let (own, other) = (port.to_string(), other.local_addr().unwrap().port().to_string());
        let words = ["/usr/bin/python3", "service.py", &own, &other];
        let questions = ["/page.html", "/found"];
        let set = format!("landlock.tcp.bind=[{port}]");
        let under = answers(&project.under(&words, &["--set", &set]), port, &questions);
        assert_eq!(under, ["a page\n", "\n"], "{who:?}");
        let bare = Run::bare(words).who(who).cwd(project.scratch.path()).env("HOME", project.home.text());
        let bare = answers(&bare.env("API_TOKEN", "secret").env("PROJECT", project.scratch.text()), port, &questions);
        let found = bare[1].trim_end();
        assert!(found == TRIES || found == TRIES.replace(" mptcp", ""), "{found}");
        // Without the option it is another port, and this one is closed.
        let ran = project.under(&words, &[]).ran();
        assert!(ran.code != Some(0) && ran.stderr.contains("PermissionError"), "{}", ran.stderr);
        project.closed();
    }
    before.same();
}
