//! Running the program, always with a time limit.

use crate::{USER, is_root, program, slowness};
use std::ffi::OsString;
use std::io::Write as _;
use std::os::unix::process::{CommandExt as _, ExitStatusExt as _};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

/// Who starts the program.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Who {
    /// Root, with what capabilities the test has.
    Root,
    /// An ordinary user without any.
    User,
}

/// A command line in the making.
#[derive(Debug)]
pub struct Run {
    command: Vec<OsString>,
    env: Vec<(String, String)>,
    stdin: Vec<u8>,
    who: Who,
    cwd: PathBuf,
    limit: Duration,
}

/// What came of a run.
#[derive(Debug)]
pub struct Ran {
    /// The exit code, where no signal ended it.
    pub code: Option<i32>,
    /// The signal that ended it.
    pub signal: Option<i32>,
    /// Its standard output.
    pub stdout: String,
    /// Its standard error.
    pub stderr: String,
    /// How long it took.
    pub took: Duration,
}

impl Run {
    /// `palisade` with these arguments.
    pub fn palisade<S: Into<OsString>>(arguments: impl IntoIterator<Item = S>) -> Self {
        let command = std::iter::once(program().into()).chain(arguments.into_iter().map(Into::into)).collect();
        Self::new(command)
    }

    /// Any other command: the twin without a policy.
    pub fn bare<S: Into<OsString>>(arguments: impl IntoIterator<Item = S>) -> Self {
        Self::new(arguments.into_iter().map(Into::into).collect())
    }

    /// `palisade run --policy POLICY -- COMMAND...`
    pub fn under<S: Into<OsString>>(policy: impl AsRef<Path>, command: impl IntoIterator<Item = S>) -> Self {
        let options = ["run".into(), "--policy".into(), policy.as_ref().as_os_str().to_owned(), "--".into()];
        Self::palisade(options.into_iter().chain(command.into_iter().map(Into::into)).collect::<Vec<OsString>>())
    }

    fn new(command: Vec<OsString>) -> Self {
        let who = if is_root() { Who::Root } else { Who::User };
        let (env, stdin) = (Vec::new(), Vec::new());
        Self { command, env, stdin, who, cwd: "/".into(), limit: Duration::from_secs(60) * slowness() }
    }

    /// Who runs it.
    #[must_use]
    pub fn who(mut self, who: Who) -> Self {
        self.who = who;
        self
    }

    /// Starts it through another command.
    #[must_use]
    pub fn behind(mut self, words: &[&str]) -> Self {
        self.command.splice(0..0, words.iter().map(OsString::from));
        self
    }

    /// Adds a variable.
    #[must_use]
    pub fn env(mut self, name: &str, value: &str) -> Self {
        self.env.push((name.to_owned(), value.to_owned()));
        self
    }

    /// Gives it something to read.
    #[must_use]
    pub fn stdin(mut self, bytes: impl Into<Vec<u8>>) -> Self {
        self.stdin = bytes.into();
        self
    }

    /// Where it starts.
    #[must_use]
    pub fn cwd(mut self, path: impl Into<PathBuf>) -> Self {
        self.cwd = path.into();
        self
    }

    /// The command with everything but its streams, for tests that watch it themselves.
    pub fn command(&self) -> Command {
        let mut words = self.command.clone();
        if self.who == Who::User && is_root() {
            let (uid, gid) = (format!("--reuid={USER}"), format!("--regid={USER}"));
            let prefix = ["setpriv", &uid, &gid, "--clear-groups", "--inh-caps=-all", "--bounding-set=-all", "--"];
            words.splice(0..0, prefix.iter().map(OsString::from));
        }
        let mut command = Command::new(&words[0]);
        command.args(&words[1..]).current_dir(&self.cwd).env_clear();
        command.env("PATH", "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin");
        command.env("HOME", if self.who == Who::User { "/nonexistent" } else { "/root" });
        command.envs(self.env.iter().map(|(name, value)| (name, value)));
        command
    }

    /// Runs it to its end, or panics when that takes too long.
    pub fn ran(self) -> Ran {
        let begun = Instant::now();
        let mut command = self.command();
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).process_group(0);
        let mut child = command.spawn().unwrap_or_else(|e| panic!("{:?}: {e}", self.command));
        let mut stdin = child.stdin.take().unwrap();
        let bytes = self.stdin.clone();
        // A command that does not read is no failure of the test.
        let feeder = std::thread::spawn(move || drop(stdin.write_all(&bytes)));
        let stdout = read(child.stdout.take().unwrap());
        let stderr = read(child.stderr.take().unwrap());
        let status = wait(&mut child, self.limit, &self.command);
        feeder.join().unwrap();
        Ran {
            code: status.code(),
            signal: status.signal(),
            stdout: stdout.join().unwrap(),
            stderr: stderr.join().unwrap(),
            took: begun.elapsed(),
        }
    }
}

fn read(mut from: impl std::io::Read + Send + 'static) -> std::thread::JoinHandle<String> {
    std::thread::spawn(move || {
        let mut bytes = Vec::new();
        from.read_to_end(&mut bytes).unwrap();
        String::from_utf8_lossy(&bytes).into_owned()
    })
}

fn wait(child: &mut Child, limit: Duration, command: &[OsString]) -> std::process::ExitStatus {
    let begun = Instant::now();
    loop {
        if let Some(status) = child.try_wait().unwrap() {
            return status;
        }
        if begun.elapsed() > limit {
            child.kill().unwrap();
            child.wait().unwrap();
            panic!("{command:?} did not end within {limit:?}");
        }
        std::thread::sleep(Duration::from_millis(2));
    }
}

impl Ran {
    /// Panics with everything that was said, unless the exit code is this one.
    #[track_caller]
    pub fn code(self, wanted: i32) -> Self {
        assert!(
            self.code == Some(wanted),
            "exit code {:?}, signal {:?}, wanted {wanted}\n--- stdout\n{}--- stderr\n{}",
            self.code,
            self.signal,
            self.stdout,
            self.stderr
        );
        self
    }

    /// Panics unless standard error holds this.
    #[track_caller]
    pub fn says(self, text: &str) -> Self {
        assert!(self.stderr.contains(text), "no {text:?} in\n{}", self.stderr);
        self
    }

    /// Panics unless standard output holds this.
    #[track_caller]
    pub fn prints(self, text: &str) -> Self {
        assert!(self.stdout.contains(text), "no {text:?} in\n{}\n--- stderr\n{}", self.stdout, self.stderr);
        self
    }
}
