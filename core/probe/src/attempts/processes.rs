//! Reaching processes of the host, and what processes share.

use super::*;
use palisade_sys::attempt::Arg::{In, Int, Null, Out};
use palisade_sys::process::{self, Cloned};
use std::os::linux::net::SocketAddrExt as _;
use std::os::unix::net::{SocketAddr, UnixStream};
use std::time::Duration;

table! {
    "pr-kill-canary" High ["PID; USR; LL6"] "signal a process outside", "", "the canary only counts it"
        => |s| { palisade_sys::process::kill(s.canary.pid, palisade_sys::signal::SIGUSR1)?; Ok(true) };
    "pr-proc-visible" Medium ["PID and a /proc of its own"] "see a process outside in /proc", "", "it only reads"
        => proc_visible;
    "pr-ptrace-canary" Critical ["PID; CAP; SEC; LL1; Yama"] "trace a process outside", "the right to trace it", "it is the canary, and let go at once"
        => |s| gave(Call::PTRACE, [Int(SEIZE), Int(i64::from(s.canary.pid)), Null, Null]);
    "pr-vm-readv" Critical ["PID; CAP; SEC; LL1; Yama"] "read the memory of a process outside", "the right to trace it", "it is the canary's"
        => |s| Ok(holds(&palisade_sys::attempt::read_memory(s.canary.pid, s.canary.address, 64)?, &s.token));
    "pr-proc-mem" Critical ["PID; PROC; LL1"] "read the memory of a process outside through /proc", "the right to trace it", "it is the canary's"
        => proc_mem;
    "pr-proc-environ" High ["PID; PROC"] "read the environment of a process outside", "the right to trace it", "it is the canary's"
        => |s| tells(format!("/proc/{}/environ", s.canary.pid), s);
    "pr-proc-maps" Medium ["PID; PROC"] "read how the memory of a process outside is laid out", "the right to trace it", "it only reads"
        => |s| Ok(!read(format!("/proc/{}/maps", s.canary.pid), 4096)?.is_empty());
    "pr-pidfd-open" Medium ["PID; SEC"] "hold on to a process outside", "Linux 5.3", "nothing is done with it"
        => |s| { palisade_sys::process::pidfd_open(s.canary.pid)?; Ok(true) };
    "pr-pidfd-getfd" Critical ["PID; SEC; LL1"] "take a descriptor from a process outside", "Linux 5.6, the right to trace it", "it is the canary's"
        => pidfd_getfd;
    "pr-sysv-shm" High ["IPC; SEC"] "attach shared memory of System V", "", "the segment is the harness's own"
        => sysv_shm;
    "pr-posix-mq" Medium ["IPC; SEC"] "open a message queue", "CONFIG_POSIX_MQUEUE", "the queue is the harness's own"
        => |s| gave(Call::MQ_OPEN, [In(format!("palisade-{}\0", s.token).as_bytes()), Int(0), Int(0), Null]);
    "pr-abstract-unix" High ["NET; LL6; SEC"] "connect to an abstract UNIX socket outside", "", "the service is the canary's"
        => abstract_unix;
    "pr-path-unix" High ["MNT; LL9"] "connect to a UNIX socket outside by its path", "", "the service is the canary's"
        => |s| answers(UnixStream::connect(s.dir.join("sock"))?, s);
    "pr-kcmp" Low ["PID; SEC"] "compare kernel objects with those of a process outside", "CONFIG_KCMP, the right to trace it", "it only reads"
        => |s| gave(Call::KCMP, [Int(own()), Int(i64::from(s.canary.pid)), Int(2), Int(0), Int(0)]);
    "pr-keyring-read" High ["a session keyring of its own; SEC; USR"] "read a key of the user", "CONFIG_KEYS", "the key is the harness's own"
        => keyring_read;
    "pr-sched-canary" Low ["PID; SEC"] "ask on which processors a process outside may run", "", "it only reads"
        => |s| gave(Call::SCHED_GETAFFINITY, [Int(i64::from(s.canary.pid)), Int(1024), Out(&mut [0; 1024])]);
    "pr-prlimit-canary" Medium ["PID; SEC"] "ask for the limits of a process outside", "", "it only reads"
        => |s| gave(Call::PRLIMIT, [Int(i64::from(s.canary.pid)), Int(7), Null, Out(&mut [0; 16])]);
    "pr-survivor" High ["PID, whose init ends; or cgroup.kill"] "outlive the run", "", "it sleeps, and the harness ends it"
        => survivor;
}

/// `PTRACE_SEIZE`. The tracer ends with the attempt, and with it the tracing.
const SEIZE: i64 = 0x4206;
/// `PIDFD_GETFD` needs no flag.
const NO_FLAGS: i64 = 0;
/// How long what outlives a run would live.
const SURVIVES: Duration = Duration::from_secs(15);

fn own() -> i64 {
    i64::from(process::getpid())
}

/// By the canary's own word: the token alone stands in other command lines, too.
fn proc_visible(scene: &Scene) -> Tried {
    let mark = crate::canary::mark(&scene.token);
    let all = std::fs::read_dir("/proc")?.flatten();
    let found = all
        .map(|entry| entry.path().join("cmdline"))
        .any(|path| read(path, 4096).is_ok_and(|words| holds(&words, &mark)));
    seen(found, "not listed")
}

fn proc_mem(scene: &Scene) -> Tried {
    use std::os::unix::fs::FileExt as _;
    let mut bytes = [0; 64];
    let memory = File::open(format!("/proc/{}/mem", scene.canary.pid))?;
    memory.read_at(&mut bytes, scene.canary.address as u64)?;
    Ok(holds(&bytes, &scene.token))
}

fn pidfd_getfd(scene: &Scene) -> Tried {
    use std::os::fd::AsRawFd as _;
    let pidfd = palisade_sys::process::pidfd_open(scene.canary.pid)?;
    let words = [Int(i64::from(pidfd.as_raw_fd())), Int(i64::from(scene.canary.fd)), Int(NO_FLAGS)];
    let taken = number(attempt(Call::PIDFD_GETFD, words)?)?;
    tells(format!("/proc/self/fd/{taken}"), scene)
}

fn sysv_shm(scene: &Scene) -> Tried {
    let id = attempt(Call::SHMGET, [Int(i64::from(scene.segment_key)), Int(0), Int(0)])?;
    Ok(holds(&palisade_sys::attempt::read_segment(number(id)?, 64)?, &scene.token))
}

/// The other side says the token to whoever connects.
fn answers(mut peer: UnixStream, scene: &Scene) -> Tried {
    peer.set_read_timeout(Some(Duration::from_secs(1)))?;
    let mut said = [0; 64];
    let length = peer.read(&mut said)?;
    Ok(holds(&said[..length], &scene.token))
}

fn abstract_unix(scene: &Scene) -> Tried {
    let address = SocketAddr::from_abstract_name(format!("palisade-{}", scene.token))?;
    answers(UnixStream::connect_addr(&address)?, scene)
}

fn keyring_read(scene: &Scene) -> Tried {
    const SEARCH: i64 = 10;
    const READ: i64 = 11;
    const USER_KEYRING: i64 = -4;
    let name = format!("palisade-{}\0", scene.token);
    let key = attempt(Call::KEYCTL, [Int(SEARCH), Int(USER_KEYRING), In(b"user\0"), In(name.as_bytes()), Int(0)])?;
    let mut content = [0; 64];
    attempt(Call::KEYCTL, [Int(READ), Int(key), Out(&mut content), Int(64)])?;
    Ok(holds(&content, &scene.token))
}

/// What tells of it outside is its name; whether it is still there after the run is for the harness to see.
fn survivor(scene: &Scene) -> Tried {
    if let Cloned::Child = process::fork()? {
        palisade_sys::attempt::alarm(0);
        // A new session, and a parent that is gone: what a daemon does.
        process::setsid().ok();
        process::set_name(&survivors_name(&scene.token)).ok();
        std::thread::sleep(SURVIVES);
        process::exit_now(0);
    }
    Ok(true)
}

/// The name holds 15 letters.
pub(crate) fn survivors_name(token: &str) -> String {
    format!("left-{}", &token[..10])
}
