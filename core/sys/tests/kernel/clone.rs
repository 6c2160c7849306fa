//! `clone3`: the namespaces, the descriptor, the cgroup, and what it falls back to.

use std::os::fd::AsFd as _;
use std::path::PathBuf;
use std::sync::mpsc;

use palisade_sys::namespace::{
    self, CLONE_NEWCGROUP, CLONE_NEWIPC, CLONE_NEWNET, CLONE_NEWNS, CLONE_NEWPID, CLONE_NEWTIME, CLONE_NEWUSER,
    CLONE_NEWUTS, KINDS,
};
use palisade_sys::process::{self, Cloned, Ended, Target};
use palisade_sys::procfs::Proc;
use palisade_sys::{Errno, fd};

use crate::confine::{answering, install};
use crate::help::{self, good, good_as_nobody, refused, run, start};
use crate::runner::cases;

cases![
    a_flag_makes_its_namespace_and_no_other,
    all_namespaces_at_once_begin_with_pid_1,
    the_pidfd_means_the_child,
    threads_are_refused,
    an_ordinary_user_needs_a_user_namespace,
    a_child_is_born_in_its_cgroup,
    a_filter_that_hides_clone3_is_survived,
    a_namespace_is_joined_and_left,
    a_child_in_the_same_memory_is_waited_for,
];

/// The inode of each namespace that this process is in.
fn inodes() -> Vec<(String, u64)> {
    let own = Proc::host().unwrap().own().unwrap();
    KINDS.iter().map(|(name, _)| ((*name).to_owned(), namespace::ns_inode(&own, name).unwrap())).collect()
}

/// What [`inodes`] gives in a new process.
fn inodes_in(flags: u64) -> Vec<(String, u64)> {
    let said = good(flags, || inodes().iter().for_each(|(name, inode)| eprintln!("{name} {inode}")));
    let pair = |line: &str| line.split_once(' ').map(|(name, inode)| (name.to_owned(), inode.parse().unwrap()));
    said.lines().map(|line| pair(line).unwrap()).collect()
}

/// Which namespaces of a new process are not this one's.
fn changed_by(flags: u64) -> Vec<String> {
    let pairs = inodes().into_iter().zip(inodes_in(flags));
    pairs.filter(|(here, there)| here != there).map(|(here, _)| here.0).collect()
}

fn a_flag_makes_its_namespace_and_no_other() {
    assert_eq!(changed_by(0), Vec::<String>::new());
    assert_eq!(KINDS.len(), 8);
    for (name, flag) in KINDS {
        assert_eq!(changed_by(*flag), [*name]);
    }
}

fn all_namespaces_at_once_begin_with_pid_1() {
    let but_user = CLONE_NEWNS | CLONE_NEWUTS | CLONE_NEWIPC | CLONE_NEWPID | CLONE_NEWNET | CLONE_NEWCGROUP;
    for all in [but_user | CLONE_NEWTIME, but_user | CLONE_NEWTIME | CLONE_NEWUSER] {
        let names = KINDS.iter().filter(|(_, flag)| all & flag != 0).map(|(name, _)| *name);
        assert_eq!(changed_by(all), names.collect::<Vec<_>>());
    }
    let parent = process::getpid();
    good(0, || assert_eq!((process::getppid(), process::getpid() == 1), (parent, false)));
    good(CLONE_NEWPID, || assert_eq!((process::getpid(), process::getppid()), (1, 0)));
}

fn the_pidfd_means_the_child() {
    let child = start(0, || help::forever());
    let info = help::own(&format!("fdinfo/{}", std::os::fd::AsRawFd::as_raw_fd(&child.pidfd)));
    assert_eq!(help::line(&info, "Pid"), child.pid.to_string());
    assert!(!child.ends_within(std::time::Duration::from_millis(50)));
    let spare = fd::dup_cloexec(&child.pidfd).unwrap();
    let out = child.kill(libc::SIGTERM);
    assert_eq!(out.ended, Ended::Signaled { signal: libc::SIGTERM, core: false });
    refused(process::pidfd_send_signal(&spare, 0), Errno::ESRCH);
    refused(process::waitid(Target::PidFd(spare.as_fd()), true), Errno::ECHILD);
}

fn threads_are_refused() {
    assert_eq!(process::thread_count().unwrap(), 1);
    good(0, || {});
    let (hold, held) = mpsc::channel::<()>();
    let thread = std::thread::spawn(move || held.recv());
    let error = match process::fork() {
        Err(error) => error,
        Ok(Cloned::Child) => process::exit_now(0),
        Ok(Cloned::Parent { pid, .. }) => panic!("process {pid} was made beside a thread"),
    };
    assert_eq!((error.kind(), error.call()), (Errno::EBUSY, "clone3()"));
    assert_eq!(error.detail(), Some("refused: this process has 2 threads"));
    drop(hold);
    assert!(thread.join().unwrap().is_err());
    // The kernel counts a thread a little longer than join waits for it.
    help::eventually("the thread's end", || process::thread_count().unwrap() == 1);
    good(0, || {});
}

fn an_ordinary_user_needs_a_user_namespace() {
    good(CLONE_NEWUTS, || namespace::set_hostname("mine").unwrap());
    good_as_nobody(|| {
        let error = refused(process::clone3(CLONE_NEWUTS, None), Errno::EPERM);
        assert_eq!(error.to_string(), "clone3(CLONE_NEWUTS|CLONE_PIDFD) = EPERM (Operation not permitted)");
        assert!(error.hint().unwrap().contains("user namespace"), "{error:?}");
        refused(namespace::unshare(CLONE_NEWUTS), Errno::EPERM);
        good(CLONE_NEWUTS | CLONE_NEWUSER, || namespace::set_hostname("mine").unwrap());
    });
}

/// Where the cgroup2 file system is.
fn cgroup2() -> PathBuf {
    let mounts = help::own("mountinfo");
    let place = mounts.lines().find(|line| line.contains(" - cgroup2 ")).and_then(|line| line.split(' ').nth(4));
    PathBuf::from(place.expect("this host has no cgroup2 file system"))
}

/// A cgroup that goes with its owner, also when the case fails.
struct Cgroup(PathBuf);

impl Cgroup {
    fn new() -> Self {
        let path = cgroup2().join(format!("palisade-sys-{}", process::getpid()));
        std::fs::create_dir(&path).unwrap();
        Self(path)
    }
}

impl Drop for Cgroup {
    fn drop(&mut self) {
        if std::fs::remove_dir(&self.0).is_err() {
            eprintln!("{} could not be removed", self.0.display());
        }
    }
}

fn a_child_is_born_in_its_cgroup() {
    let mine = |text: &str| help::line(text, "0:").trim().to_owned();
    let made = Cgroup::new();
    let path = &made.0;
    let dir = fd::open_path(path, fd::O_PATH | fd::O_DIRECTORY).unwrap();
    let name = path.file_name().unwrap().to_string_lossy().into_owned();
    let born_in = |cgroup| match process::clone3(0, cgroup).unwrap() {
        Cloned::Parent { pid, .. } => process::waitid(Target::Pid(pid), false).unwrap().unwrap().ended,
        Cloned::Child => process::exit_now(i32::from(mine(&help::own("cgroup")).ends_with(&name))),
    };
    let (elsewhere, inside) = (born_in(None), born_in(Some(dir.as_fd())));
    drop(made);
    assert_eq!((elsewhere, inside), (Ended::Exited(0), Ended::Exited(1)));
    let gone = refused(process::clone3(0, Some(dir.as_fd())), Errno::ENOENT);
    assert!(gone.call().starts_with("clone3(CLONE_PIDFD|CLONE_INTO_CGROUP, cgroup "), "{gone}");
}

fn a_filter_that_hides_clone3_is_survived() {
    let here = inodes();
    good(0, || {
        install(&answering(libc::SYS_clone3, libc::ENOSYS));
        assert_eq!(inodes_in(0), here);
        assert_eq!(changed_by(CLONE_NEWUTS | CLONE_NEWPID), ["uts", "pid"]);
        assert_eq!(run(0, || process::exit_now(9)).ended, Ended::Exited(9));
        // The older call has no room for this one.
        refused(process::clone3(CLONE_NEWTIME, None), Errno::ENOSYS);
    });
}

fn a_namespace_is_joined_and_left() {
    let mut other = start(CLONE_NEWUTS, || {
        namespace::set_hostname("over-there").unwrap();
        namespace::set_domainname("there.example").unwrap();
        eprintln!("named");
        help::forever();
    });
    assert_eq!(other.hear(), "named\n");
    let hostname = || help::own_host("kernel/hostname");
    let before = hostname();
    assert_ne!(before, "over-there");
    let path = format!("/proc/{}/ns/uts", other.pid);
    good(0, || {
        let ns = namespace::open_ns(&path).unwrap();
        assert_eq!(namespace::ns_type(&ns).unwrap(), CLONE_NEWUTS);
        refused(namespace::setns(&ns, CLONE_NEWNET), Errno::EINVAL);
        assert_eq!(hostname(), before);
        namespace::setns(&ns, CLONE_NEWUTS).unwrap();
        assert_eq!(hostname(), "over-there");
        assert_eq!(help::own_host("kernel/domainname"), "there.example");
        namespace::unshare(CLONE_NEWUTS).unwrap();
        namespace::set_hostname("elsewhere").unwrap();
        assert_eq!(hostname(), "elsewhere");
        let seen = inodes().into_iter().find(|(name, _)| name == "uts").unwrap().1;
        let joined = fd::fstat(&ns).unwrap().ino;
        assert_ne!(seen, joined);
    });
    assert_eq!(hostname(), before);
    refused(namespace::open_ns("/proc/self/status"), Errno::EINVAL);
    other.kill(libc::SIGKILL);
    good(CLONE_NEWNET, || {
        let refused_at = std::net::TcpListener::bind("127.0.0.1:0").and_then(|listener| {
            std::net::TcpStream::connect_timeout(&listener.local_addr()?, std::time::Duration::from_secs(5))
        });
        assert!(refused_at.is_err(), "the loopback interface was up already");
        namespace::loopback_up().unwrap();
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        std::net::TcpStream::connect(listener.local_addr().unwrap()).unwrap();
    });
}

/// Memory is shared, all else is the child's own, and the parent goes on when the child has ended or is another program.
fn a_child_in_the_same_memory_is_waited_for() {
    let mut written = 0;
    let pid = process::vfork(|| {
        written = process::getpid();
        fd::close_range_from(0, &[]).unwrap();
        // More than one page of stack.
        let room = std::hint::black_box([1_u8; 1 << 20]);
        process::exit_now(i32::from(room[99]) + 6)
    });
    let pid = pid.unwrap();
    // It could not have been written to by a copy. That its descriptors are gone is not seen here.
    assert_eq!(written, pid);
    let status = process::waitid(Target::Pid(pid), false).unwrap().unwrap();
    assert_eq!(status.ended, Ended::Exited(7));

    let panicked = process::vfork(|| panic!("this is meant")).unwrap();
    let status = process::waitid(Target::Pid(panicked), false).unwrap().unwrap();
    assert_eq!(status.ended, Ended::Exited(125));

    // Back before the other program has ended.
    let (program, argv) = (std::ffi::CString::new("/bin/sleep").unwrap(), ["sleep", "60"]);
    let argv: Vec<_> = argv.iter().map(|word| std::ffi::CString::new(*word).unwrap()).collect();
    let pid = process::vfork(|| {
        let error = process::exec(process::Program::Path(&program), &argv, &[]);
        eprintln!("{error}");
        process::exit_now(1)
    });
    let pid = pid.unwrap();
    process::kill(pid, palisade_sys::signal::SIGKILL).unwrap();
    let status = process::waitid(Target::Pid(pid), false).unwrap().unwrap();
    assert!(
        matches!(status.ended, Ended::Signaled { signal: palisade_sys::signal::SIGKILL, .. }),
        "{:?}",
        status.ended
    );
}
