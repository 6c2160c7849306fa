//! Accesses that must fail afterwards. Landlock cannot be read back, so it is believed only when an access that worked
//! just before is denied, and one that a rule grants still works.

use crate::domain::Granted;
use crate::plan::{Plan, What};
use landlock::{AccessFs, AccessNet, Scope};
use palisade_abi::Error;
use palisade_sys::{Errno, fd, process};
use std::io;
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::os::linux::net::SocketAddrExt;
use std::os::unix::net::{SocketAddr as UnixAddr, UnixListener, UnixStream};
use std::time::Duration;

/// An access to try.
enum Try {
    List(String),
    OpenToWrite(String),
    OpenToRead(String),
    Bind(u16),
    Connect(u16),
    SignalParent(i32),
    /// The listener is kept open: it was made outside of the domain.
    ConnectAbstract {
        name: String,
        _outside: UnixListener,
    },
}

impl Try {
    fn call(&self) -> String {
        match self {
            Self::List(path) => format!("open({path:?}, O_DIRECTORY)"),
            Self::OpenToWrite(path) => format!("open({path:?}, O_WRONLY)"),
            Self::OpenToRead(path) => format!("open({path:?}, O_RDONLY)"),
            Self::Bind(port) => format!("bind(127.0.0.1:{port})"),
            Self::Connect(port) => format!("connect(127.0.0.1:{port})"),
            Self::SignalParent(_) => "kill(parent, 0)".to_owned(),
            Self::ConnectAbstract { .. } => "connect(abstract UNIX socket)".to_owned(),
        }
    }

    /// The errno; 0 where it worked.
    fn run(&self) -> i32 {
        let sys = |result: palisade_sys::Result<()>| result.map_or_else(|e| e.errno(), |()| 0);
        let std = |result: io::Result<()>| result.map_or_else(|e| e.raw_os_error().unwrap_or(-1), |()| 0);
        match self {
            Self::List(path) => sys(fd::open_path(path, fd::O_RDONLY | fd::O_DIRECTORY).map(drop)),
            Self::OpenToWrite(path) => sys(fd::open_path(path, fd::O_WRONLY | fd::O_NONBLOCK).map(drop)),
            Self::OpenToRead(path) => sys(fd::open_path(path, fd::O_RDONLY | fd::O_NONBLOCK).map(drop)),
            Self::Bind(port) => std(TcpListener::bind((Ipv4Addr::LOCALHOST, *port)).map(drop)),
            Self::Connect(port) => {
                let address = SocketAddr::from((Ipv4Addr::LOCALHOST, *port));
                std(TcpStream::connect_timeout(&address, Duration::from_millis(20)).map(drop))
            }
            Self::SignalParent(pid) => sys(process::kill(*pid, 0)),
            Self::ConnectAbstract { name, .. } => {
                std(UnixAddr::from_abstract_name(name).and_then(|address| UnixStream::connect_addr(&address)).map(drop))
            }
        }
    }

    /// What Landlock answers.
    fn denied(&self) -> Errno {
        match self {
            Self::SignalParent(_) | Self::ConnectAbstract { .. } => Errno::EPERM,
            _ => Errno::EACCES,
        }
    }

    /// Whether the answer before shows that nothing else denies it. A port may be in use or unreachable:
    /// the kernel asks Landlock before it looks.
    fn was_open(&self, errno: i32) -> bool {
        match self {
            Self::Bind(_) | Self::Connect(_) => {
                ![Errno::EACCES, Errno::EPERM, Errno::EAFNOSUPPORT, Errno::EMFILE, Errno::ENFILE]
                    .contains(&Errno::from_raw(errno))
            }
            _ => errno == 0,
        }
    }
}

fn show(errno: i32) -> String {
    if errno == 0 { "allowed".to_owned() } else { format!("{:?}", Errno::from_raw(errno)) }
}

/// What was tried before the domain was entered.
pub(crate) struct Proof {
    /// Not denied, with the errno then, and must be denied.
    closed: Vec<(Try, i32)>,
    /// Worked, and must go on working.
    open: Option<Try>,
    /// Subjects for which nothing could be tried.
    untried: Vec<&'static str>,
}

impl Proof {
    /// Chooses accesses that no rule grants, and tries them while they still work.
    pub(crate) fn before(plan: &Plan, granted: &[Granted], run_id: &str) -> Self {
        let mut proof = Self { closed: Vec::new(), open: None, untried: Vec::new() };
        if !plan.files.is_empty() {
            proof.one("files", files(plan, granted));
            proof.open = granted.iter().filter_map(readable).find(|access| access.was_open(access.run()));
        }
        for line in &plan.lines {
            if let What::Ports { access, ports } = &line.what {
                let port = free_port(ports);
                proof.one(
                    "TCP ports",
                    port.map(|port| match access {
                        AccessNet::BindTcp => Try::Bind(port),
                        _ => Try::Connect(port),
                    }),
                );
            }
        }
        if plan.scopes.contains(Scope::Signal) {
            // 0 is no process but our own group: the parent is in a pid namespace that cannot be seen.
            let parent = Some(process::getppid()).filter(|pid| *pid > 0);
            proof.one("signals", parent.map(Try::SignalParent));
        }
        if plan.scopes.contains(Scope::AbstractUnixSocket) {
            proof.one("abstract UNIX sockets", abstract_socket(run_id));
        }
        proof
    }

    /// Keeps the first access that nothing denies now.
    fn one(&mut self, subject: &'static str, candidates: impl IntoIterator<Item = Try>) {
        for access in candidates {
            let errno = access.run();
            if access.was_open(errno) {
                self.closed.push((access, errno));
                return;
            }
        }
        self.untried.push(subject);
    }

    /// Tries them again, and says what came of it.
    pub(crate) fn after(self) -> Result<String, Error> {
        let mut said = Vec::new();
        for (access, before) in &self.closed {
            let errno = access.run();
            let call = format!("{}: before {}, now {}", access.call(), show(*before), show(errno));
            if errno != access.denied() as i32 {
                return Err(Error::setup("the Landlock domain was entered, and does not hold").call(call, errno));
            }
            said.push(call);
        }
        if let Some(access) = &self.open {
            let errno = access.run();
            let call = format!("{}: before {}, now {}", access.call(), show(0), show(errno));
            if errno != 0 {
                return Err(Error::setup("the Landlock domain denies what a rule grants").call(call, errno));
            }
            said.push(call);
        }
        if !self.untried.is_empty() {
            said.push(format!("nothing could be tried for {}", self.untried.join(", ")));
        }
        Ok(said.join("; "))
    }
}

/// Whether a rule grants a right at a path. By name: a path that is reached by another name is not chosen wrongly,
/// the proof only fails, which ends the launch.
fn grants(granted: &[Granted], path: &str, right: AccessFs) -> bool {
    granted.iter().any(|rule| {
        let below = path.strip_prefix(rule.path.trim_end_matches('/'));
        rule.access.contains(right) && below.is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
    })
}

/// Something about files that no rule grants; trying it changes nothing.
fn files<'a>(plan: &'a Plan, granted: &'a [Granted]) -> impl Iterator<Item = Try> + 'a {
    let list = ["/"].into_iter().map(|path| (path, AccessFs::ReadDir, Try::List as fn(String) -> Try));
    let write = ["/dev/null", "/dev/zero", "/proc/self/comm"]
        .into_iter()
        .map(|path| (path, AccessFs::WriteFile, Try::OpenToWrite as fn(String) -> Try));
    let read = ["/etc/passwd", "/proc/version", "/dev/null"]
        .into_iter()
        .map(|path| (path, AccessFs::ReadFile, Try::OpenToRead as fn(String) -> Try));
    list.chain(write)
        .chain(read)
        .filter(|(path, right, _)| plan.files.contains(*right) && !grants(granted, path, *right))
        .map(|(path, _, make)| make(path.to_owned()))
}

fn readable(rule: &Granted) -> Option<Try> {
    if rule.directory && rule.access.contains(AccessFs::ReadDir) {
        return Some(Try::List(rule.path.clone()));
    }
    let file = !rule.directory && rule.access.contains(AccessFs::ReadFile);
    file.then(|| Try::OpenToRead(rule.path.clone()))
}

/// A port that no rule allows; port 0, any free one, is a port to Landlock too, and disturbs nobody.
fn free_port(allowed: &[u16]) -> Option<u16> {
    std::iter::once(0).chain((1024..=u16::MAX).rev()).find(|port| !allowed.contains(port))
}

fn abstract_socket(run_id: &str) -> Option<Try> {
    let name = format!("palisade-{run_id}-{}", process::getpid());
    let listener = UnixListener::bind_addr(&UnixAddr::from_abstract_name(&name).ok()?).ok()?;
    Some(Try::ConnectAbstract { name, _outside: listener })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn granted(path: &str, access: AccessFs) -> Granted {
        Granted { path: path.to_owned(), access: access.into(), directory: true }
    }

    #[test]
    fn a_rule_reaches_below_its_path_and_not_beside_it() {
        let rules = [granted("/usr", AccessFs::ReadDir)];
        assert!(grants(&rules, "/usr", AccessFs::ReadDir) && grants(&rules, "/usr/lib", AccessFs::ReadDir));
        assert!(!grants(&rules, "/usrlocal", AccessFs::ReadDir) && !grants(&rules, "/", AccessFs::ReadDir));
        assert!(!grants(&rules, "/usr", AccessFs::Execute));
        assert!(grants(&[granted("/", AccessFs::ReadDir)], "/etc", AccessFs::ReadDir));
    }

    #[test]
    fn what_is_tried_is_granted_by_no_rule() {
        let plan = Plan { abi: 7, files: crate::rights::all(7), ..Plan::default() };
        let calls = |rules: &[Granted]| files(&plan, rules).map(|access| access.call()).collect::<Vec<_>>();
        assert_eq!(calls(&[granted("/usr", AccessFs::ReadDir)])[0], "open(\"/\", O_DIRECTORY)");
        let all = granted("/", AccessFs::ReadDir);
        assert_eq!(
            calls(&[all.clone(), granted("/dev", AccessFs::WriteFile)])[0],
            "open(\"/proc/self/comm\", O_WRONLY)"
        );
        assert_eq!(free_port(&[0, 65_535]), Some(65_534));
        assert_eq!(free_port(&[80]), Some(0));
    }
}
