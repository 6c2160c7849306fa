//! One cgroup of one launch: made fresh, written, read back, removed with all that is still in it.

use crate::layout::{Place, Version};
use crate::owner;
use crate::setting::{Check, Setting};
use palisade_abi::Error;
use palisade_abi::ErrorContext as _;
use palisade_sys::procfs::{CgroupEntry, Proc};
use palisade_sys::{Errno, fd, mount, process};
use std::fs::File;
use std::io::Write;
use std::os::fd::{AsRawFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::thread::sleep;
use std::time::{Duration, Instant};

/// `CGROUP_SUPER_MAGIC` and `CGROUP2_SUPER_MAGIC` of linux/magic.h.
const MAGIC: [i64; 2] = [0x27_e0eb, 0x6367_7270];
/// How long stragglers may take to die before their cgroup is given up: longer than any exit that is not stuck
/// in the kernel. With the last freezing less than the 10 s after which palisade takes a plugin for one that hangs.
const PATIENCE: Duration = Duration::from_secs(6);
const SIGKILL: i32 = 9;
/// How long it may take until all are frozen: on v1 each of them has to get a processor first, and whoever is let go too
/// early forks on.
const FREEZING: Duration = Duration::from_secs(3);

/// A file that stops all who are inside, what to write to it, and where the kernel says that they stand still.
struct Freezer {
    file: &'static str,
    freeze: &'static str,
    thaw: &'static str,
    state: &'static str,
    frozen: &'static str,
}

/// v2, since 5.2, and the hierarchy `freezer` of v1.
const FREEZERS: [Freezer; 2] = [
    Freezer { file: "cgroup.freeze", freeze: "1", thaw: "0", state: "cgroup.events", frozen: "frozen 1" },
    Freezer { file: "freezer.state", freeze: "FROZEN", thaw: "THAWED", state: "freezer.state", frozen: "FROZEN" },
];

/// A cgroup that this launch made.
#[derive(Debug)]
pub(crate) struct Group {
    pub(crate) place: Place,
    name: String,
    base: OwnedFd,
    /// Locked: see `owner`.
    dir: File,
    /// The file by which a process moves itself, where it is not born inside; opened while the host's rights are
    /// there.
    tasks: Option<File>,
}

impl Group {
    /// Makes it. One that exists already is an error, never adopted: it may carry processes and limits of others.
    pub(crate) fn make(place: &Place, name: &str) -> Result<Self, Error> {
        let at = place.dir.display();
        let base = fd::open_path(&place.dir, fd::O_PATH | fd::O_DIRECTORY).doing(|| format!("cannot open {at}"))?;
        let magic = mount::statfs_type(&base).doing(|| format!("cannot look at {at}"))?;
        if !MAGIC.contains(&magic) {
            let found = format!("fstatfs({at}) = type {magic:#x}");
            return Err(Error::host(format!("{at} is not a cgroup")).call(found, 0));
        }
        if !place.enable.is_empty() {
            let plus: Vec<String> = place.enable.iter().map(|c| format!("+{}", c.name())).collect();
            fd::write_at(&base, "cgroup.subtree_control", plus.join(" ").as_bytes())
                .doing(|| format!("cannot enable controllers for the children of {at}"))?;
        }
        owner::sweep(&base);
        let dir = owner::make(&base, name).doing(|| format!("cannot make a cgroup in {at}"))?;
        let tasks = place.moves_by().map(|file| fd::open_at(&dir, file, fd::O_WRONLY | fd::O_NOFOLLOW).map(File::from));
        let tasks = tasks.transpose();
        match tasks {
            Ok(tasks) => Ok(Self { place: place.clone(), name: name.to_owned(), base, dir, tasks }),
            Err(error) => {
                let removed = fd::rmdir_at(&base, name);
                let message = format!("cannot open the cgroup {name} in {at}, which was just made");
                let failed = Err(error).doing(|| message.clone());
                removed.doing(|| format!("{message}, nor remove it"))?;
                failed
            }
        }
    }

    /// One that a launcher left behind, to be removed: of its place, only the path matters. `dir` is locked.
    pub(crate) fn found(above: &Path, name: String, base: OwnedFd, dir: File) -> Self {
        let place = Place {
            version: Version::V2,
            controllers: Vec::new(),
            dir: above.to_owned(),
            path: above.to_owned(),
            enable: Vec::new(),
            scope: None,
        };
        Self { place, name, base, dir, tasks: None }
    }

    pub(crate) fn fd(&self) -> i32 {
        self.dir.as_raw_fd()
    }

    pub(crate) fn name(&self) -> &str {
        &self.name
    }

    pub(crate) fn read(&self, file: &str) -> palisade_sys::Result<String> {
        fd::read_to_string_at(&self.dir, file)
    }

    /// Writes a setting and reads it back.
    pub(crate) fn set(&self, setting: &Setting) -> Result<String, Error> {
        if setting.given {
            return self.check(setting);
        }
        let (file, value) = (
            setting.file.as_ref(),
            match setting.check {
                Check::Inherited => fd::read_to_string_at(&self.base, &*setting.value)
                    .doing(|| format!("cannot read {} of the cgroup above", setting.value))?,
                _ => setting.value.clone(),
            },
        );
        let written = fd::write_at(&self.dir, file, value.trim_end().as_bytes());
        if let Err(error) = &written
            && matches!(error.kind(), Errno::ENOENT | Errno::EOPNOTSUPP)
        {
            let message = format!("this kernel has no {file}, cgroup {}", self.place.version.name());
            return Err(Error::host(message).call(error.to_string(), error.errno()).help(needs(file)));
        }
        written.doing(|| format!("cannot set {file} to {}", value.trim_end()))?;
        self.check(setting)
    }

    /// Says what the kernel has; another value than the one asked for is an error.
    pub(crate) fn check(&self, setting: &Setting) -> Result<String, Error> {
        let (file, value) = (setting.file.as_ref(), &setting.value);
        if setting.check == Check::Elsewhere {
            return Ok(format!("wrote {value} to {file}"));
        }
        let text = self.read(file).doing(|| format!("cannot read back {file}"))?;
        let found = text.trim_end();
        if setting.fits(found) {
            return Ok(format!("{file} = {}", found.replace('\n', "; ")));
        }
        let error = Error::setup(format!("{file} should be {value}, and the kernel says {found}"));
        Err(if file.starts_with("cpuset.") {
            error.help(
                "the CPUs and nodes must be online, be those of the cgroup above, and for a partition nobody else's",
            )
        } else {
            error
        })
    }

    /// What v2 programs of devices are attached to, and where the cgroups above begin.
    pub(crate) const fn dir(&self) -> &File {
        &self.dir
    }

    /// Whether the kernel has a file for this cgroup.
    pub(crate) fn has(&self, file: &str) -> bool {
        fd::fstat_at(&self.dir, file).is_ok()
    }

    /// Moves the calling process, which has one thread, in.
    ///
    /// v1: a thread that moves itself through `tasks` is spared the grace period of about 10 ms that every other move
    /// into a v1 cgroup waits for. Since: 5.15; before that it waits, too.
    pub(crate) fn join(&self) -> Result<(), Error> {
        let Some(mut tasks) = self.tasks.as_ref() else {
            return Ok(());
        };
        tasks.write_all(b"0").map_err(|e| {
            let error = palisade_sys::Error::from_io(&e, "write(cgroup, \"0\")");
            Error::setup(format!("cannot move into {}", self.path().display())).call(error.to_string(), error.errno())
        })
    }

    /// As `/proc/PID/cgroup` writes it.
    pub(crate) fn path(&self) -> PathBuf {
        self.place.path.join(&self.name)
    }

    /// Compares with the cgroups of a process.
    pub(crate) fn holds(&self, entries: &[CgroupEntry], pid: i32) -> Result<String, Error> {
        let first = self.place.controllers.first().map_or("", |c| c.v1_name());
        let entry = entries.iter().find(|entry| match self.place.version {
            Version::V1 => entry.controllers.iter().any(|name| name == first),
            Version::V2 => entry.hierarchy == 0,
        });
        let (path, found) = (self.path(), entry.map(|e| e.path.clone()).unwrap_or_default());
        if path == found {
            return Ok(path.display().to_string());
        }
        let (path, found) = (path.display(), found.display());
        Err(Error::setup(format!("the kernel says that process {pid} is in the cgroup {found}, not in {path}")))
    }

    /// Kills what is still inside and removes the cgroup.
    ///
    /// The kernel counts a process out a moment after its end could be waited for, so "busy" is tried again.
    pub(crate) fn remove(&self) -> Result<(), Error> {
        let deadline = Instant::now() + PATIENCE;
        let mut pause = Duration::from_micros(50);
        loop {
            match fd::rmdir_at(&self.base, &self.name) {
                Ok(()) => return Ok(()),
                Err(e) if e.kind() == Errno::ENOENT => return Ok(()),
                Err(e) if e.kind() == Errno::EBUSY && Instant::now() < deadline => {}
                other => {
                    return other.doing(|| format!("cannot remove the cgroup {}", self.path().display()));
                }
            }
            self.empty()?;
            sleep(pause);
            pause = (pause * 2).min(Duration::from_millis(5));
        }
    }

    /// Kills every process inside and removes child cgroups that were made inside.
    fn empty(&self) -> Result<(), Error> {
        let at = || format!("cannot kill what is left in {}", self.path().display());
        match fd::write_at(&self.dir, "cgroup.kill", b"1") {
            Ok(()) => {}
            // KERNEL(5.14): cgroup.kill; v1 never has it.
            Err(e) if e.kind() == Errno::ENOENT => self.kill_each().doing(at)?,
            Err(e) => return Err(e).doing(at),
        }
        let entries = std::fs::read_dir(fd::proc_fd_path(&self.dir));
        for entry in entries.into_iter().flatten().flatten() {
            if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
                let name = entry.file_name().to_string_lossy().into_owned();
                // Its own children are removed on the way; what stays busy is tried again with this cgroup.
                if let Ok(child) = self.child(&name) {
                    child.empty()?;
                    drop(fd::rmdir_at(&self.dir, &name));
                }
            }
        }
        Ok(())
    }

    fn child(&self, name: &str) -> palisade_sys::Result<Self> {
        Ok(Self {
            place: Place { path: self.path(), ..self.place.clone() },
            name: name.to_owned(),
            base: fd::dup_cloexec(&self.dir)?,
            dir: fd::open_at(&self.dir, name, fd::O_RDONLY | fd::O_DIRECTORY | fd::O_NOFOLLOW)?.into(),
            tasks: None,
        })
    }

    fn processes(&self) -> palisade_sys::Result<Vec<i32>> {
        let text = self.read("cgroup.procs")?;
        // 0 stands for a process that this pid namespace cannot name, and -1 for everybody: neither is one of ours.
        Ok(text.lines().filter_map(|line| line.parse().ok()).filter(|pid| *pid > 0).collect())
    }

    /// How badly those inside can outrun who kills them: not at all, while they cannot fork, or as they like.
    pub(crate) fn wildness(&self) -> u8 {
        if ["cgroup.kill"].into_iter().chain(FREEZERS.iter().map(|f| f.file)).any(|file| self.has(file)) {
            return 0;
        }
        if self.has("pids.max") { 1 } else { 2 }
    }

    /// Kills one by one. Some might fork faster than they are killed, and be it because they leave no processor to who
    /// kills them: so they are frozen first, or where that cannot be had, they may not fork.
    fn kill_each(&self) -> palisade_sys::Result<()> {
        let frozen = self.freeze()?;
        if frozen.is_none() && self.has("pids.max") {
            fd::write_at(&self.dir, "pids.max", b"0")?;
        }
        let killed = self.kill_listed();
        if let Some(freezer) = frozen {
            // v1: only now they die, and that before anything else.
            fd::write_at(&self.dir, freezer.file, freezer.thaw.as_bytes())?;
        }
        killed
    }

    /// Freezes it, where that can be done, and waits until all are.
    fn freeze(&self) -> palisade_sys::Result<Option<&'static Freezer>> {
        for freezer in &FREEZERS {
            match fd::write_at(&self.dir, freezer.file, freezer.freeze.as_bytes()) {
                Ok(()) => {}
                Err(e) if e.kind() == Errno::ENOENT => continue,
                Err(e) => return Err(e),
            }
            let begun = Instant::now();
            // One that is stuck in the kernel is not frozen, and does not fork either.
            while !self.read(freezer.state)?.lines().any(|line| line == freezer.frozen) && begun.elapsed() < FREEZING {
                sleep(Duration::from_micros(200));
            }
            return Ok(Some(freezer));
        }
        Ok(None)
    }

    /// Signals each process by a pidfd, and only those that are listed again after it was opened: a number that was
    /// freed and given to a stranger in between is not in the second list.
    fn kill_listed(&self) -> palisade_sys::Result<()> {
        let handles: Vec<(i32, OwnedFd)> =
            self.processes()?.into_iter().filter_map(|pid| Some((pid, process::pidfd_open(pid).ok()?))).collect();
        let again = self.processes()?;
        for (_, handle) in handles.iter().filter(|(pid, _)| again.contains(pid)) {
            match process::pidfd_send_signal(handle, SIGKILL) {
                Err(e) if e.kind() != Errno::ESRCH => return Err(e),
                _ => {}
            }
        }
        Ok(())
    }
}

/// Reads the cgroups of a process from the host's procfs.
pub(crate) fn cgroups_of(pid: i32) -> Result<Vec<CgroupEntry>, Error> {
    let text = Proc::host().and_then(|proc| proc.pid(pid)?.cgroup());
    Ok(palisade_sys::procfs::parse_cgroups(&text.doing(|| format!("cannot read the cgroups of process {pid}"))?))
}

/// What a file is there with. Linux: Documentation/admin-guide/cgroup-v2.rst.
fn needs(file: &str) -> &'static str {
    match file {
        "cpu.max.burst" | "cpu.cfs_burst_us" => "it is there from Linux 5.14, in the cpu controller",
        "cpu.idle" => "it is there from Linux 5.15, in the cpu controller",
        "memory.zswap.max" => "it is there from Linux 5.19, built with CONFIG_ZSWAP",
        "io.weight" => "it is there with CONFIG_BLK_CGROUP_IOCOST; with the BFQ scheduler it is io.bfq.weight",
        "io.latency" => "it is there with CONFIG_BLK_CGROUP_IOLATENCY",
        "cpuset.cpus.partition" => "it is there from Linux 5.0, in the cpuset controller",
        _ => "leave the limit out of the policy, or run it on a kernel that was built with it",
    }
}
