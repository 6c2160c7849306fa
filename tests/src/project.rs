//! A project, a home, and a policy for what is done there.

use crate::{Ran, Run, Scratch, USER, Who, is_root, tree};
use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;

/// A project with these files and a directory `out`, and a home with those that are named `home/`; both belong to
/// whoever runs the test.
#[derive(Debug)]
pub struct Project {
    /// The project.
    pub scratch: Scratch,
    /// The home.
    pub home: Scratch,
    /// Who works there.
    pub who: Who,
    /// The name of the policy.
    pub policy: &'static str,
}

impl Project {
    /// Makes both.
    pub fn new(policy: &'static str, who: Who, files: &[(&str, &str)]) -> Self {
        let project = Self { scratch: Scratch::new(), home: Scratch::new(), who, policy };
        for (name, content) in files {
            match name.strip_prefix("home/") {
                Some(name) => project.home.file(name, content),
                None => project.scratch.file(name, content),
            };
        }
        fs::create_dir_all(project.path("out")).unwrap();
        project.give(&project.home);
        project.give(&project.scratch);
        project
    }

    /// Gives a directory to whoever runs the test. An id that owns nothing writes where "others" may.
    pub fn give(&self, dir: &Scratch) {
        if is_root() {
            let id = if self.who == Who::Root { "0:0".to_owned() } else { format!("{USER}:{USER}") };
            Run::bare(["chown", "-R", &id, dir.text()]).ran().code(0);
        }
        fs::set_permissions(self.path("out"), fs::Permissions::from_mode(0o777)).unwrap();
    }

    /// The path of a file of the project.
    pub fn path(&self, name: &str) -> std::path::PathBuf {
        self.scratch.path().join(name)
    }

    /// A command under the policy, with more options of `run`.
    pub fn under(&self, words: &[&str], set: &[&str]) -> Run {
        let mut all = vec!["run", "--policy", self.policy];
        all.extend(set);
        all.push("--");
        all.extend(words);
        Run::palisade(all).who(self.who).cwd(self.scratch.path()).env("HOME", self.home.text())
    }

    /// A script under the policy.
    pub fn sh(&self, script: &str) -> Ran {
        self.under(&["sh", "-c", script], &[]).ran()
    }

    /// The same without the policy: the twin.
    pub fn bare(&self, script: &str) -> Ran {
        Run::bare(["sh", "-c", script]).who(self.who).cwd(self.scratch.path()).env("HOME", self.home.text()).ran()
    }

    /// A command in a network of its own, where `tests/probes/registry.py` serves a directory on these ports and nothing
    /// else is: no test reaches further, whatever the command tries. Without `set` it is made without the policy.
    /// For tests that root started: in a user namespace of another's, palisade does not trust its own files.
    pub fn networked(&self, served: &Scratch, ports: &str, words: &[&str], set: Option<&[&str]>) -> Ran {
        let run = match set {
            Some(set) => self.under(words, set),
            None => Run::bare(words.iter().copied()).cwd(self.scratch.path()).env("HOME", self.home.text()),
        };
        let registry = tree().join("tests/probes/registry.py");
        let (registry, id) = (registry.to_str().unwrap(), USER.to_string());
        let serve = ["unshare", "--net", "/usr/bin/python3", registry, served.text(), ports, "--"];
        let user =
            ["setpriv", "--reuid", &id, "--regid", &id, "--clear-groups", "--inh-caps=-all", "--bounding-set=-all"];
        let run = if self.who == Who::User { run.behind(&user) } else { run };
        run.behind(&serve).env("API_TOKEN", "secret").who(Who::Root).ran()
    }

    /// Puts a tool chain of Rust into the home: that of whoever runs the tests may be closed to others.
    pub fn rust(&self) {
        let tool = self.home.path().join(".rustup/toolchains/own");
        fs::create_dir_all(&tool).unwrap();
        let real = Path::new(env!("CARGO")).parent().unwrap().parent().unwrap();
        for part in ["bin", "lib"] {
            let (from, to) = (real.join(part), tool.join(part));
            let (from, to) = (from.to_str().unwrap(), to.to_str().unwrap());
            // Links where they can be had: it is large.
            if Run::bare(["cp", "-al", from, to]).ran().code != Some(0) {
                Run::bare(["cp", "-a", from, to]).ran().code(0);
            }
        }
    }

    /// What none of these policies allows, each with its twin: the network, a secret of the caller's, and a file
    /// outside of what is to be written.
    pub fn closed(&self) {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        let connect =
            format!("/usr/bin/python3 -c \"import socket; socket.create_connection(('127.0.0.1', {port}), 2)\"");
        self.bare(&connect).code(0);
        assert_ne!(self.sh(&connect).code, Some(0), "{}", self.policy);
        let outside = Scratch::new();
        outside.file("secret", "secret");
        fs::set_permissions(outside.path(), fs::Permissions::from_mode(0o777)).unwrap();
        let (read, write) = (format!("cat {}/secret", outside.text()), format!("touch {}/x", outside.text()));
        for act in [&read, &write] {
            assert_ne!(self.sh(act).code, Some(0), "{}: {act}", self.policy);
            self.bare(act).code(0);
        }
    }
}
