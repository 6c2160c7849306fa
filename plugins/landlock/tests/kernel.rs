//! The plugin against the kernel, as root and as an ordinary user alike: each act works before and is denied inside.
#![expect(
    clippy::unwrap_used,
    clippy::print_stdout,
    reason = "a test without the stock harness, which clippy does not take for one"
)]

use palisade_abi::seam::{ContextObject, RawFacts, RawIsolator, RawLayer, RawStep};
use palisade_abi::{
    Error,
    abi_stable::std_types::{ROption, RStr, RString, Tuple2},
    wrap,
};
use palisade_model::diag::SourceId;
use palisade_model::layer::Fragment;
use palisade_sys::process::{self, Cloned, Ended, Target};
use palisade_sys::{caps, landlock};
use std::fs;
use std::net::{TcpListener, TcpStream};
use std::os::fd::AsFd;
use std::os::linux::net::SocketAddrExt;
use std::os::unix::net::{SocketAddr, UnixDatagram};
use std::path::PathBuf;
use std::time::Instant;

const LIBRARY: &str = "libpalisade_landlock.so";

/// A launch without palisade: the plugin's own shared object, through the seam, step by step.
struct Launch {
    steps: Vec<RawStep>,
}

/// What palisade would lend to a step.
#[derive(Default)]
struct Lent {
    pid: Option<i32>,
}

impl ContextObject for Lent {
    fn number(&self, name: RStr<'_>) -> ROption<i64> {
        match (name.as_str(), self.pid) {
            ("pid" | "init_pid", Some(pid)) => ROption::RSome(i64::from(pid)),
            _ => ROption::RNone,
        }
    }

    fn offer_cgroup(&mut self, _fd: i32) {}
}

impl Launch {
    fn plan(section: &str) -> Result<Self, Error> {
        let library = std::env::current_exe().unwrap().with_file_name(LIBRARY);
        let file = std::fs::File::open(&library).unwrap();
        let loaded = palisade_abi::host::load(file.as_fd(), false).unwrap();
        let layer = RawLayer { fragment: ron::to_string(&Fragment::policy(SourceId(0), section, 0)).unwrap().into() };
        let run_id = format!("test-{}", std::process::id());
        let facts: RawFacts = vec![Tuple2(RString::from("run_id"), RString::from(run_id))].into();
        let isolator: RawIsolator = loaded.module.configure()(vec![layer].into(), facts.clone()).into_result()?;
        let steps = isolator.plan(facts).into_result()?;
        Ok(Self { steps: steps.into() })
    }

    fn stage(&mut self, stage: &str, lent: &mut Lent) -> Result<(), Error> {
        for step in self.steps.iter_mut().filter(|step| step.stage() == stage) {
            let begun = Instant::now();
            let done = step.apply(wrap::lend(lent)).into_result();
            let took = begun.elapsed().as_micros();
            match done {
                Ok(evidence) => println!("  {took:>6} us  {}: {evidence}", step.words()),
                Err(failure) if step.demand() == "degrade" => {
                    println!("  {took:>6} us  {}: degraded: {} {}", step.words(), failure.message, failure.call);
                }
                Err(failure) => return Err(failure.into()),
            }
        }
        Ok(())
    }
}

/// Runs `act` in a child inside the domain; 0 where every expectation held.
fn inside(section: &str, act: fn(&Dir)) {
    let dir = Dir::new();
    let section = section.replace("DIR", dir.0.to_str().unwrap());
    println!("{section}");
    let Cloned::Parent { pidfd, .. } = process::fork().unwrap() else {
        let mut launch = Launch::plan(&section).unwrap();
        process::set_no_new_privs().unwrap();
        launch.stage("seal", &mut Lent::default()).unwrap();
        act(&dir);
        process::exit_now(0);
    };
    let ended = process::waitid(Target::PidFd(pidfd.as_fd()), false).unwrap().unwrap().ended;
    assert_eq!(ended, Ended::Exited(0));
}

/// A place to write, removed afterwards.
struct Dir(PathBuf);

impl Dir {
    fn new() -> Self {
        let dir = std::env::temp_dir().join(format!("palisade-test-{}", process::getpid()));
        for sub in ["a", "b"] {
            fs::create_dir_all(dir.join(sub)).unwrap();
        }
        fs::write(dir.join("a/file"), "text").unwrap();
        Self(dir)
    }
}

impl Drop for Dir {
    fn drop(&mut self) {
        fs::remove_dir_all(&self.0).unwrap();
    }
}

fn denied<T>(result: std::io::Result<T>, errno: i32) {
    assert_eq!(result.map(drop).unwrap_err().raw_os_error(), Some(errno));
}

const EPERM: i32 = 1;
const EACCES: i32 = 13;

fn files() {
    inside(r#"( rules: [ Read("/usr"), Execute("/usr"), Read("DIR") ] )"#, |dir| {
        fs::read_dir("/usr").unwrap();
        assert_eq!(fs::read_to_string(dir.0.join("a/file")).unwrap(), "text");
        denied(fs::read_dir("/etc"), EACCES);
        denied(fs::read("/etc/passwd"), EACCES);
        denied(fs::write(dir.0.join("a/new"), "x"), EACCES);
        denied(fs::OpenOptions::new().write(true).open(dir.0.join("a/file")), EACCES);
        denied(fs::remove_file(dir.0.join("a/file")), EACCES);
    });
    inside(r#"( rules: [ Read("/"), Write("DIR") ] )"#, |dir| {
        fs::read("/etc/passwd").unwrap();
        fs::write(dir.0.join("a/new"), "x").unwrap();
        fs::rename(dir.0.join("a/new"), dir.0.join("b/new")).unwrap();
        fs::remove_file(dir.0.join("b/new")).unwrap();
        denied(fs::OpenOptions::new().write(true).open("/dev/null"), EACCES);
        denied(std::process::Command::new("/bin/true").status(), EACCES);
    });
    inside(r#"( rules: [ Read("DIR/a/file"), Path(path: "/nonexistent", allow: [Read], optional: true) ] )"#, |dir| {
        fs::read(dir.0.join("a/file")).unwrap();
        denied(fs::read_dir(dir.0.join("a")), EACCES);
    });
}

fn ports() {
    inside(r#"( demand: (paths: Off), tcp: (bind: [0], connect: []) )"#, |_| {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        denied(TcpStream::connect(listener.local_addr().unwrap()), EACCES);
        denied(TcpListener::bind("127.0.0.1:45454"), EACCES);
        fs::read("/etc/passwd").unwrap();
    });
}

fn scopes() {
    let name = SocketAddr::from_abstract_name(format!("palisade-test-{}-outside", process::getpid())).unwrap();
    let _outside = UnixDatagram::bind_addr(&name).unwrap();
    inside("( demand: (paths: Off), scopes: [Signal, AbstractUnixSocket] )", |_| {
        let parent = process::getppid();
        assert_eq!(process::kill(parent, 0).unwrap_err().errno(), EPERM);
        let name = SocketAddr::from_abstract_name(format!("palisade-test-{parent}-outside")).unwrap();
        denied(UnixDatagram::unbound().unwrap().connect_addr(&name), EPERM);
    });
}

/// What the steps say where they must refuse.
fn refusals() {
    for (section, message, help) in [
        (r#"( rules: [ Read("/nonexistent") ] )"#, "does not exist in the workload's view", "optional: true"),
        (r#"( rules: [ Make("/etc/passwd") ] )"#, "is not a directory", "name its directory"),
    ] {
        let error = Launch::plan(section).unwrap().stage("seal", &mut Lent::default()).unwrap_err();
        assert!(error.message.contains(message) && error.help.contains(help), "{error:?}");
    }
    let Cloned::Parent { pidfd, .. } = process::fork().unwrap() else {
        let mut launch = Launch::plan(r#"( rules: [ Read("/usr") ] )"#).unwrap();
        caps::set(caps::Caps::default()).unwrap();
        let error = launch.stage("seal", &mut Lent::default()).unwrap_err();
        assert!(error.help.contains("no_new_privs: true") && error.errno == EPERM, "{error:?}");
        assert!(error.call.starts_with("landlock_restrict_self(ruleset, "), "{error:?}");
        assert!(error.call.contains(") = EPERM"), "{error:?}");
        process::exit_now(0);
    };
    let ended = process::waitid(Target::PidFd(pidfd.as_fd()), false).unwrap().unwrap().ended;
    assert_eq!(ended, Ended::Exited(0));
}

/// A kernel whose ABI is below what the other tests need: what is missing is told, and `Degrade` goes on with the rest.
fn older(abi: u32) {
    let section = r#"( rules: [ Read("/usr"), Read("DIR"), Execute("/usr") ], scopes: [Signal] )"#;
    let error = Launch::plan(&section.replace("DIR", "/tmp")).err().unwrap();
    println!("{} / {} / {}", error.message, error.call, error.help);
    assert!(!error.help.is_empty());
    if abi == 0 {
        assert!(error.call.contains("ENOSYS") || error.call.contains("EOPNOTSUPP"), "{error:?}");
        let section = section.replace("DIR", "/tmp").replace(", scopes: [Signal] )", ", demand: (paths: Degrade) )");
        let launch = Launch::plan(&section).map_err(|e| println!("{e:?}")).unwrap();
        assert!(launch.steps.iter().all(|step| step.demand() == "degrade"));
        return;
    }
    assert!(error.message.contains(&format!("this kernel has ABI {abi}")), "{error:?}");
    let section = section.replace("] )", "], demand: (truncate: Degrade, scopes: Degrade) )");
    inside(&section, |dir| {
        assert_eq!(fs::read_to_string(dir.0.join("a/file")).unwrap(), "text");
        denied(fs::read("/etc/passwd"), EACCES);
        denied(fs::OpenOptions::new().write(true).open(dir.0.join("a/file")), EACCES);
    });
}

fn main() {
    let abi = landlock::abi_version().unwrap_or(0);
    if abi < 6 {
        older(abi);
    } else {
        files();
        ports();
        scopes();
        refusals();
    }
    println!("ok");
}
