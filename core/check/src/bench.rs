//! Namespaces in which a plugin's steps can be tried without touching the host's, as far as they are a matter of
//! namespaces, and what a step left in them.

use crate::state::{State, own_descriptors};
use palisade_sys::namespace::{self, CLONE_NEWIPC, CLONE_NEWNET, CLONE_NEWNS, CLONE_NEWUSER, CLONE_NEWUTS};
use palisade_sys::process::{self, Cloned, Target};
use palisade_sys::procfs::Proc;
use palisade_sys::{caps, fd, mount};
use std::collections::{BTreeMap, BTreeSet};
use std::os::fd::{AsFd as _, OwnedFd};
use std::path::{Path, PathBuf};

/// Moves this process into namespaces of its own, with a directory for temporary files that is empty and where it is.
///
/// # Errors
/// In words: this host does not let it.
pub(crate) fn enter() -> Result<(), String> {
    let cap_sys_admin = caps::number("CAP_SYS_ADMIN").unwrap_or(21);
    let may = caps::get().is_ok_and(|caps| caps.effective.iter().any(|cap| cap == cap_sys_admin));
    let (uid, gid) = (process::euid(), process::egid());
    let flags = CLONE_NEWNS | CLONE_NEWUTS | CLONE_NEWIPC | CLONE_NEWNET | if may { 0 } else { CLONE_NEWUSER };
    let made = || -> palisade_sys::Result<()> {
        let own = Proc::host()?.own()?;
        namespace::unshare(flags)?;
        if !may {
            own.write("setgroups", b"deny")?;
            own.write("uid_map", format!("0 {uid} 1").as_bytes())?;
            own.write("gid_map", format!("0 {gid} 1").as_bytes())?;
        }
        mount::make_private_recursive()?;
        let empty = mount::Fs::new("tmpfs")?.set("mode", "1777")?.create(mount::MountFlags::default())?;
        let place = fd::open_path("/tmp", fd::O_PATH | fd::O_DIRECTORY)?;
        mount::move_mount_onto(&empty, &place)?;
        mount::chdir("/tmp")
    };
    made().map_err(|error| format!("no namespaces to try a step in: {error}"))?;
    let own = std::env::temp_dir();
    std::fs::create_dir_all(&own).map_err(|error| format!("{}: {error}", own.display()))
}

/// A process that waits, in the namespaces that the plugin's steps ask for, in the place of the workload.
#[derive(Debug)]
pub(crate) struct Dummy {
    pub(crate) pid: i32,
    pidfd: OwnedFd,
    /// It waits for the end of this.
    _hold: OwnedFd,
}

impl Dummy {
    pub(crate) fn new(flags: u64) -> Result<Self, String> {
        let made = || -> palisade_sys::Result<Self> {
            let (read, write) = fd::pipe()?;
            let Cloned::Parent { pid, pidfd } = process::clone3(flags, None)? else {
                drop(write);
                process::set_pdeathsig(9).ok();
                fd::read_some(&read, 1).ok();
                process::exit_now(0)
            };
            Ok(Self { pid, pidfd, _hold: write })
        };
        made().map_err(|error| format!("no process to stand for the workload: {error}"))
    }
}

impl Drop for Dummy {
    fn drop(&mut self) {
        process::pidfd_send_signal(&self.pidfd, 9).ok();
        process::waitid(Target::PidFd(self.pidfd.as_fd()), false).ok();
    }
}

/// What steps on the host can leave: in this process, in its namespaces, and under the run's own name outside.
#[derive(Debug)]
pub(crate) struct Traces {
    state: State,
    open: BTreeMap<i32, String>,
    names: BTreeSet<String>,
}

/// Where something that bears the name of a run is looked for.
const PLACES: [&str; 4] = ["/sys/fs/cgroup", "/run", "/dev/shm", "/var/tmp"];

/// What is left in these namespaces, and under the run's own name outside, by name.
pub(crate) fn names(run_id: &str) -> BTreeSet<String> {
    let mut names = BTreeSet::new();
    below(Path::new("/tmp"), 6, &mut |path| {
        let length = path.symlink_metadata().ok().filter(|facts| facts.is_file()).map(|facts| facts.len());
        let length = length.map(|length| format!(" of {length} bytes")).unwrap_or_default();
        names.insert(format!("{}{length}", path.display()));
    });
    for place in PLACES {
        below(Path::new(place), 5, &mut |path| {
            if path.file_name().is_some_and(|name| name.to_string_lossy().contains(run_id)) {
                names.insert(path.display().to_string());
            }
        });
    }
    let text = |path: &str| std::fs::read_to_string(path).unwrap_or_default();
    names.insert(format!("the host name {}", text("/proc/sys/kernel/hostname").trim()));
    let links = text("/proc/self/net/dev");
    names.extend(
        links.lines().skip(2).filter_map(|line| Some(format!("the interface {}", line.split(':').next()?.trim()))),
    );
    names
}

impl Traces {
    pub(crate) fn now(run_id: &str) -> Self {
        Self { state: State::own(), open: own_descriptors(), names: names(run_id) }
    }

    /// What is other in `later`, each in one line.
    pub(crate) fn changes(&self, later: &Self) -> Vec<String> {
        let mut all = self.state.changes(&later.state);
        all.extend(later.names.difference(&self.names).map(|name| format!("{name} is left")));
        all.extend(self.names.difference(&later.names).map(|name| format!("{name} is gone")));
        all.extend(crate::state::left(&self.open, &later.open));
        all
    }
}

/// Names below a directory.
fn below(dir: &Path, depth: usize, seen: &mut dyn FnMut(&PathBuf)) {
    let Some(depth) = depth.checked_sub(1) else { return };
    for entry in std::fs::read_dir(dir).into_iter().flatten().flatten() {
        let path = entry.path();
        seen(&path);
        if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
            below(&path, depth, seen);
        }
    }
}
