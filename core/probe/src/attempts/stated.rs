//! What the policy says of itself, tried: its limits are exceeded, with hard caps, and its layers looked for.
//!
//! Without a policy the same amounts are taken: that they can be had there is the control.

use super::*;
use crate::claims::limits::exceed;
use crate::verdict::Verdict;
use palisade_runtime::model::policy::Cap;
use palisade_sys::process::{self, Cloned, Ended, Target};
use palisade_sys::{fd, limits, mount, signal};

/// The id of the one that is about core dumps; all others have none.
pub(crate) const CORE: &str = "rs-core-dump";

table! {
    "hy-umask" Info ["process attributes"] "have a looser umask than the policy says", "a umask in the policy that is stricter than the caller's", "it only reads"
        => umask;
    "hy-layer-truth" Critical ["all: each is read back before the workload starts"] "run with less than the filter and no_new_privs that the policy requires", "a policy that requires them", "it only reads"
        => layers;
    "rs-core-dump" Low ["RLIMIT_CORE, hard"] "leave a core dump on the host", "a core_pattern that is the name of a file, and the right to raise the limit", "1 MiB at most, which is removed"
        => core;
    "rs-fds" Low ["RLIMIT_NOFILE"] "open more files than the policy says", "a limit of at most 4096 in the policy's tests", "they are closed"
        => |s| beyond(s, |cap| matches!(cap, Cap::OpenFiles(limit) if *limit <= 4096));
    "rs-disk" Medium ["RLIMIT_FSIZE; a quota"] "make a larger file than the policy says", "a limit in the policy's tests", "it has a length and no content, and is removed"
        => |s| beyond(s, |cap| matches!(cap, Cap::FileSize(_)));
    "rs-tmpfs-bytes" Medium ["MNT, the size of a tmpfs; memory of the cgroup"] "write more into a tmpfs than its size", "a tmpfs of at most 64 MiB that can be written", "80 MiB at most, which are removed"
        => |s| fill(s, tmpfs_bytes);
    "rs-tmpfs-inodes" Medium ["MNT, the inodes of a tmpfs"] "make more files in a tmpfs than it has room for", "a tmpfs of at most 16000 files that can be written", "empty, 20000 at most, which are removed"
        => |s| fill(s, tmpfs_inodes);
}

/// These come last of all: where the limit of a whole cgroup ends one, it may end what comes after it.
pub(super) const LAST: &[Probe] = last::PROBES;

mod last {
    use super::*;

    table! {
        "rs-cpu" Medium ["cpu of the cgroup"] "use more of the processors than the policy says", "a limit in the policy's tests that is below what the host has", "1.5 s"
            => |s| beyond(s, |cap| matches!(cap, Cap::Cpu(share) if share.of(100) < s.stated.processors * 100));
        "rs-memory" High ["memory of the cgroup; RLIMIT_AS"] "use more memory than the policy says", "a limit in the policy's tests of at most 256 MiB and a tenth of what the host has to spare", "an eighth more than that, which is let go; the first that the OOM killer takes"
            => |s| beyond(s, |cap| matches!(cap, Cap::Memory(size) if size.0 <= 256 << 20 && size.0 <= s.stated.spare / 10));
    }
}

/// Exceeds the strictest limit of a kind; layers below may claim others.
fn beyond(scene: &Scene, fits: impl Fn(&Cap) -> bool) -> Tried {
    let caps = || scene.stated.limits.iter().filter(|cap| fits(cap));
    let Some(cap) = caps().last() else { return Err(Stop::hidden("the policy claims no such limit")) };
    exceed(cap)
}

/// A file of the kernel's about this process: the values of its lines.
fn own_status() -> Result<String, Stop> {
    text("/proc/self/status")
}

fn umask(scene: &Scene) -> Tried {
    let Some(wanted) = scene.stated.umask else { return Err(Stop::hidden("the policy says nothing of it")) };
    let status = own_status()?;
    let own = status.lines().find_map(|line| line.strip_prefix("Umask:"));
    let own = own.and_then(|own| u32::from_str_radix(own.trim(), 8).ok());
    let own = own.ok_or_else(|| Stop::unclear("the kernel does not tell it"))?;
    if own & wanted == wanted { Err(Stop::denied(&format!("{own:04o}"))) } else { Ok(true) }
}

fn layers(scene: &Scene) -> Tried {
    if scene.stated.status.is_empty() {
        return Err(Stop::hidden("the policy requires none of it"));
    }
    let status = own_status()?;
    let so = |wanted: &&String| status.lines().any(|line| line == wanted.as_str());
    if scene.stated.status.iter().all(|wanted| so(&wanted)) { Err(Stop::denied("all is in force")) } else { Ok(true) }
}

/// A core is the host's to place: only where it would lie in this attempt's own directory is one made.
fn core(scene: &Scene) -> Tried {
    const SIZE: u64 = 1 << 20;
    let pattern = text("/proc/sys/kernel/core_pattern")?;
    if pattern.trim().is_empty() || pattern.contains(['|', '/']) {
        return Err(Stop::hidden("cores of this host are not put into the working directory"));
    }
    let resource = limits::Resource::from_name("core").ok_or(Errno::EINVAL)?;
    limits::set_rlimit(resource, SIZE, SIZE)?;
    let place = scratch(scene)?;
    match process::fork()? {
        Cloned::Child => {
            mount::chdir(&place).ok();
            // The harness's programs cannot be traced, and what cannot be traced leaves no core.
            process::set_dumpable(true).ok();
            process::kill(process::getpid(), signal::SIGABRT).ok();
            process::exit_now(0);
        }
        Cloned::Parent { pid, .. } => {
            let ended = process::waitid(Target::Pid(pid), false)?.map(|status| status.ended);
            match ended {
                Some(Ended::Signaled { core: true, .. }) => Ok(true),
                _ => Err(Stop(Verdict::Limited("no core".to_owned()))),
            }
        }
    }
}

/// Where a tmpfs is likely to be one that can be written.
const PLACES: [&str; 3] = ["/tmp", "/dev/shm", "/home/user"];
/// `TMPFS_MAGIC` of linux/magic.h.
const TMPFS: i64 = 0x0102_1994;

/// A directory of one's own in each tmpfs that can be written, from the smallest on.
fn fill(scene: &Scene, exceeds: fn(&Path, mount::Room) -> Option<Tried>) -> Tried {
    let mut any = false;
    for place in PLACES {
        let dir = Path::new(place).join(format!("palisade-{}-{}", scene.token, process::getpid()));
        let found = fd::open_path(place, fd::O_DIRECTORY);
        let Ok(top) = found else { continue };
        let is_tmpfs = mount::statfs_type(&top).is_ok_and(|kind| kind == TMPFS);
        if !(is_tmpfs || scene.bare) || std::fs::create_dir(&dir).is_err() {
            continue;
        }
        any = true;
        // Without a policy there is room: that so much can be taken is the control.
        let room = if scene.bare { mount::Room { bytes: 1 << 20, files: 1000 } } else { mount::room(&top)? };
        let tried = exceeds(&dir, room);
        std::fs::remove_dir_all(&dir).ok();
        if let Some(tried) = tried {
            return tried;
        }
    }
    if any {
        return Err(Stop(Verdict::NotApplicable(
            "without a policy: OPEN, and each tmpfs is larger than is tried".to_owned(),
        )));
    }
    Err(Stop::hidden("there is no tmpfs that can be written"))
}

/// A quarter more than there is room for; nothing where that is too much to try.
fn tmpfs_bytes(dir: &Path, room: mount::Room) -> Option<Tried> {
    const MOST: u64 = 64 << 20;
    let piece = vec![b'x'; 1 << 20];
    let write = || -> Tried {
        let mut file = File::create_new(dir.join("bytes"))?;
        for _ in 0..=(room.bytes + room.bytes / 4) >> 20 {
            file.write_all(&piece)?;
        }
        Ok(true)
    };
    (room.bytes > 0 && room.bytes <= MOST).then(write)
}

fn tmpfs_inodes(dir: &Path, room: mount::Room) -> Option<Tried> {
    const MOST: u64 = 16_000;
    let make = || -> Tried {
        for number in 0..=room.files + room.files / 4 {
            File::create_new(dir.join(number.to_string()))?;
        }
        Ok(true)
    };
    (room.files > 0 && room.files <= MOST).then(make)
}
