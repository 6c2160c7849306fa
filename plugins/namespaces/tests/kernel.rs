//! The plugin against the kernel: namespaces are made, mapped and joined, as root and as an ordinary user, and each
//! claim is looked at from inside and from outside.
#![expect(
    clippy::unwrap_used,
    clippy::print_stdout,
    reason = "a test without the stock harness, which clippy does not take for one"
)]

use std::fs::{self, File};
use std::io::{PipeReader, PipeWriter, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::MetadataExt;
use std::time::Instant;

use palisade_abi::seam::{ContextObject, PluginModule_Ref, RawFacts, RawLayer, RawStep};
use palisade_abi::{
    Error,
    abi_stable::std_types::{ROption, RStr, RString, Tuple2},
    wrap,
};
use palisade_model::diag::SourceId;
use palisade_model::layer::Fragment;
use palisade_sys::process::{self, Cloned, Ended, Target};
use palisade_sys::{caps, ids, namespace};

const LIBRARY: &str = "libpalisade_namespaces.so";
const ROOT: u64 = (1 << 41) - 1;
const NOBODY: u32 = 65534;
const EVERYTHING: &str = r#"( mount: New, pid: New, net: New, ipc: New, uts: New, user: New, cgroup: New, time: New,
    hostname: "box", domainname: "fence", time_offsets: (boottime: "+1d", monotonic: "+2d") )"#;

/// What palisade would lend to a step.
struct Lent(Option<i32>);

impl ContextObject for Lent {
    fn number(&self, name: RStr<'_>) -> ROption<i64> {
        match (name.as_str(), self.0) {
            ("pid" | "init_pid", Some(pid)) => ROption::RSome(i64::from(pid)),
            _ => ROption::RNone,
        }
    }

    fn offer_cgroup(&mut self, _fd: i32) {}
}

/// A launch without palisade: the plugin's own shared object, through the seam, step by step.
#[derive(Clone, Copy)]
struct Launch {
    module: PluginModule_Ref,
    capabilities: u64,
}

impl Launch {
    fn plan(self, section: &str) -> Result<Vec<RawStep>, Error> {
        let fragment = ron::to_string(&Fragment::policy(SourceId(0), section, 0)).unwrap();
        let layer = RawLayer { fragment: fragment.into() };
        let facts = [
            ("uid", process::getuid().to_string()),
            ("gid", process::getgid().to_string()),
            ("capabilities", self.capabilities.to_string()),
            ("plugins", "namespaces".to_owned()),
        ];
        let facts: RawFacts = facts.into_iter().map(|(k, v)| Tuple2(RString::from(k), RString::from(v))).collect();
        let isolator = self.module.configure()(vec![layer].into(), facts.clone()).into_result()?;
        Ok(isolator.plan(facts).into_result()?.into())
    }

    /// Makes the process with its namespaces, verifies them, and runs `work` inside.
    fn run(self, section: &str, work: impl FnOnce()) -> Result<(), Error> {
        println!("{}", section.split_ascii_whitespace().collect::<Vec<_>>().join(" "));
        let mut steps = self.plan(section)?;
        let flags = steps.iter().fold(0, |flags, step| flags | step.clone_flags());
        let prepared = stage(&mut steps, "prepare", &mut Lent(None));
        if let Err(error) = prepared {
            undo(&mut steps);
            return Err(error);
        }
        let (mut ready, mut go) = std::io::pipe().unwrap();
        let (mut built, mut done) = std::io::pipe().unwrap();
        match process::clone3(flags, None).unwrap() {
            Cloned::Child => {
                drop((go, built));
                inside(&mut steps, &mut ready, &mut done);
                work();
                process::exit_now(0);
            }
            Cloned::Parent { pid, pidfd } => {
                drop((ready, done));
                let attached = stage(&mut steps, "attach", &mut Lent(Some(pid)));
                if attached.is_ok() {
                    go.write_all(b"x").unwrap();
                }
                let mut said = Vec::new();
                let mut byte = [0];
                while attached.is_ok() && built.read(&mut byte).unwrap() == 1 && byte != *b"\n" {
                    said.push(byte[0]);
                }
                let verified = attached.and_then(|()| if said.is_empty() { verify(&steps, pid) } else { Ok(()) });
                drop(go);
                let ended = process::waitid(Target::PidFd(pidfd.as_fd()), false).unwrap().unwrap().ended;
                undo(&mut steps);
                if !said.is_empty() {
                    return Err(Error::setup(String::from_utf8(said).unwrap()));
                }
                verified?;
                assert_eq!(ended, Ended::Exited(0), "{section}");
                Ok(())
            }
        }
    }
}

/// The child's part, up to the workload.
fn inside(steps: &mut [RawStep], ready: &mut PipeReader, done: &mut PipeWriter) {
    if ready.read_exact(&mut [0]).is_err() {
        process::exit_now(1);
    }
    let built = stage(steps, "build", &mut Lent(None)).and_then(|()| stage(steps, "drop", &mut Lent(None)));
    let built = built.and_then(|()| {
        for step in steps.iter().filter(|step| step.has_witness()) {
            let seen = step.witness(wrap::lend(&mut Lent(None))).into_result()?;
            println!("  witnessed: {}: {seen}", step.words());
        }
        Ok(())
    });
    if let Err(error) = built {
        write!(done, "{} {}", error.message, error.call).unwrap();
        process::exit_now(1);
    }
    done.write_all(b"\n").unwrap();
    ready.read_to_end(&mut Vec::new()).unwrap();
}

fn stage(steps: &mut [RawStep], stage: &str, lent: &mut Lent) -> Result<(), Error> {
    for step in steps.iter_mut().filter(|step| step.stage() == stage) {
        let begun = Instant::now();
        step.apply(wrap::lend(lent)).into_result()?;
        println!("  {:>6} us  {}", begun.elapsed().as_micros(), step.words());
    }
    Ok(())
}

fn verify(steps: &[RawStep], pid: i32) -> Result<(), Error> {
    for step in steps {
        let begun = Instant::now();
        if let Some(seen) = step.verify(wrap::lend(&mut Lent(Some(pid)))).into_result()?.into_option() {
            println!("  {:>6} us  verified: {seen}", begun.elapsed().as_micros());
        }
    }
    Ok(())
}

fn undo(steps: &mut [RawStep]) {
    for step in steps.iter_mut().rev().filter(|step| step.stage() == "prepare" || step.stage() == "attach") {
        step.undo(wrap::lend(&mut Lent(None))).into_result().map_err(Error::from).unwrap();
    }
}

fn own_namespaces() -> Vec<(&'static str, u64)> {
    namespace::KINDS
        .iter()
        .map(|(file, _)| (*file, fs::metadata(format!("/proc/self/ns/{file}")).unwrap().ino()))
        .collect()
}

fn uptime() -> f64 {
    fs::read_to_string("/proc/uptime").unwrap().split(' ').next().unwrap().parse().unwrap()
}

/// Every kind at once, with the names, the clocks and the loopback interface.
fn everything_is_new(launch: Launch) {
    let outside = own_namespaces();
    let before = uptime();
    launch
        .run(EVERYTHING, move || {
            let inside = own_namespaces();
            for (mine, host) in inside.iter().zip(&outside) {
                assert_ne!(mine, host);
            }
            assert_eq!(process::getpid(), 1);
            assert_eq!(fs::read_to_string("/proc/sys/kernel/hostname").unwrap(), "box\n");
            assert!(uptime() - before > 86_000.0, "{}", uptime());
            let listener = TcpListener::bind("127.0.0.1:0").unwrap();
            TcpStream::connect(listener.local_addr().unwrap()).unwrap();
            assert_eq!(
                fs::read_to_string("/proc/self/net/dev").unwrap().lines().count(),
                3,
                "two lines of head, and lo"
            );
            assert_eq!(caps::get().unwrap().effective.0.count_ones(), u32::from(caps::cap_last().unwrap()) + 1);
        })
        .unwrap();
}

/// Started by root, the workload's ids are nobody's outside, and it has no group of root's.
fn root_becomes_an_id_that_owns_nothing(launch: Launch) {
    let path = std::env::temp_dir().join(format!("palisade-ids-{}", process::getpid()));
    let file = path.clone();
    launch
        .run("( mount: New, user: New )", move || {
            assert_eq!((process::getuid(), process::getgid(), ids::getgroups().unwrap()), (1000, 1000, vec![]));
            let shadow = File::open("/etc/shadow").err().map(|error| error.kind());
            assert_eq!(shadow, Some(std::io::ErrorKind::PermissionDenied));
            fs::write(file, "x").unwrap();
        })
        .unwrap();
    let facts = fs::metadata(&path).unwrap();
    fs::remove_file(&path).unwrap();
    assert!(facts.uid() > 0x7000_0000 && facts.uid() == facts.gid(), "{}", facts.uid());
    assert!(File::open("/etc/shadow").is_ok(), "the twin: root itself may");
}

/// `core_pattern` of the host could be written: host uid 0 is mapped, and nothing covers /proc/sys.
fn a_map_that_covers_root_needs_a_private_view(launch: Launch) {
    let error = launch.run("( mount: New, user: New, ids: Keep )", || {}).unwrap_err();
    assert!(error.message.contains("could write /proc/sys/kernel/core_pattern"), "{}", error.message);
}

fn ranges_are_mapped_as_written(launch: Launch) {
    let section = "( user: New, mount: New, ids: Map(uid: [(0, 100000, 10), (50, 5, 1)], gid: [(0, 100000, 10)]) )";
    launch
        .run(section, || {
            assert_eq!((process::getuid(), process::getgid()), (0, 0));
            ids::set_resuid(50).unwrap();
            assert!(ids::set_resuid(51).is_err());
        })
        .unwrap();
}

/// A process that waits in namespaces of its own.
struct Other {
    pid: i32,
    pidfd: OwnedFd,
    go: PipeWriter,
}

impl Other {
    fn new(flags: u64, map: bool) -> Self {
        let (mut ready, go) = std::io::pipe().unwrap();
        match process::clone3(flags, None).unwrap() {
            Cloned::Child => {
                drop(go);
                ready.read_to_end(&mut Vec::new()).unwrap();
                process::exit_now(0);
            }
            Cloned::Parent { pid, pidfd } => {
                if map {
                    fs::write(format!("/proc/{pid}/uid_map"), "0 200000 100").unwrap();
                    fs::write(format!("/proc/{pid}/gid_map"), "0 200000 100").unwrap();
                }
                Self { pid, pidfd, go }
            }
        }
    }

    fn end(self) {
        drop(self.go);
        process::waitid(Target::PidFd(self.pidfd.as_fd()), false).unwrap();
    }
}

fn namespaces_of_others_are_joined(launch: Launch) {
    use namespace::{CLONE_NEWIPC, CLONE_NEWNET, CLONE_NEWPID, CLONE_NEWUSER, CLONE_NEWUTS};
    let before = own_namespaces();
    let child_pids = || fs::metadata("/proc/self/ns/pid_for_children").unwrap().ino();
    let own = child_pids();

    let other = Other::new(CLONE_NEWUSER | CLONE_NEWNET | CLONE_NEWUTS, true);
    let pid = other.pid;
    let net = fs::metadata(format!("/proc/{pid}/ns/net")).unwrap().ino();
    let section = format!("( user: Join({pid}), net: Join({pid}), uts: Join(\"/proc/{pid}/ns/uts\"), ipc: New )");
    launch
        .run(&section, move || {
            assert_eq!(fs::metadata("/proc/self/ns/net").unwrap().ino(), net);
            assert_eq!(process::getuid(), 0);
            assert!(fs::read_to_string("/proc/self/uid_map").unwrap().contains("200000"));
        })
        .unwrap();
    let error = launch.run(&format!("( net: Join(\"/proc/{pid}/ns/uts\") )"), || {}).unwrap_err();
    assert!(error.message.contains("is no net namespace"), "{}", error.message);
    other.end();

    let other = Other::new(CLONE_NEWPID | CLONE_NEWIPC, false);
    launch.run(&format!("( pid: Join({}) )", other.pid), || assert_eq!(process::getpid(), 2)).unwrap();
    other.end();
    assert_eq!((child_pids(), own_namespaces()), (own, before), "the launcher is where it was");

    let error = launch.run("( net: Join(\"/proc/self/ns/none\") )", || {}).unwrap_err();
    assert!(error.call.contains("ENOENT"), "{}", error.call);
}

fn an_ordinary_user_maps_itself(launch: Launch) {
    let uid = process::getuid();
    launch
        .run("( mount: New, pid: New, user: AsNeeded )", move || {
            assert_eq!((process::getuid(), process::getgid()), (uid, uid));
            assert_eq!(fs::read_to_string("/proc/self/setgroups").unwrap(), "deny\n");
        })
        .unwrap();
    let error = launch.run("( user: New, ids: Map(uid: [(0, 100000, 9)], gid: [(0, 100000, 9)]) )", || {}).unwrap_err();
    println!("  {} ({})", error.message, error.help);
    assert!(error.message.contains("/etc/subuid") || error.message.contains("newuidmap"), "{}", error.message);
}

fn ordinary(module: PluginModule_Ref) {
    let launch = Launch { module, capabilities: 0 };
    everything_is_new(launch);
    an_ordinary_user_maps_itself(launch);
}

/// The same in a process that has become an ordinary user.
fn as_nobody(module: PluginModule_Ref) {
    match process::fork().unwrap() {
        Cloned::Child => {
            ids::set_groups(&[]).unwrap();
            ids::set_resgid(NOBODY).unwrap();
            ids::set_resuid(NOBODY).unwrap();
            process::set_dumpable(true).unwrap();
            ordinary(module);
            process::exit_now(0);
        }
        Cloned::Parent { pidfd, .. } => {
            let ended = process::waitid(Target::PidFd(pidfd.as_fd()), false).unwrap().unwrap().ended;
            assert_eq!(ended, Ended::Exited(0));
        }
    }
}

fn main() {
    let library = std::env::current_exe().unwrap().with_file_name(LIBRARY);
    let file = File::open(&library).unwrap();
    let module = palisade_abi::host::load(file.as_fd(), false).unwrap().module;
    let uid = process::getuid();
    let facts: RawFacts = [("capabilities", if uid == 0 { ROOT } else { 0 }.to_string())]
        .into_iter()
        .map(|(k, v)| Tuple2(RString::from(k), RString::from(v)))
        .collect();
    for finding in module.probe()(facts).into_result().map_err(Error::from).unwrap() {
        println!("{}: {} {} {}", finding.feature, finding.support, finding.detail, finding.remedy);
    }
    if uid == 0 {
        let launch = Launch { module, capabilities: ROOT };
        everything_is_new(launch);
        root_becomes_an_id_that_owns_nothing(launch);
        a_map_that_covers_root_needs_a_private_view(launch);
        ranges_are_mapped_as_written(launch);
        namespaces_of_others_are_joined(launch);
        as_nobody(module);
        println!("ok: as root and as nobody");
    } else {
        ordinary(module);
        println!("ok: as uid {uid}");
    }
}
