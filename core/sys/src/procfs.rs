//! procfs, opened once and checked, so that a fake one cannot redirect what is read or written.
//!
//! Every file is opened below the checked directory with a rule that allows neither links nor other
//! mounts on the way (CVE-2019-16884, CVE-2025-52881).

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};

use nix::errno::Errno;
use nix::fcntl::AtFlags;

use crate::beneath::openat2;
use crate::error::{Error, OrCall, Result};
use crate::ids::IdMap;
use crate::{fd, mount, raw};

/// `PROC_SUPER_MAGIC` of linux/magic.h.
const PROC_MAGIC: i64 = 0x9fa0;
/// `PROC_ROOT_INO` of the kernel: the inode of procfs's own root, and of nothing else in it.
const PROC_ROOT_INODE: u64 = 1;

fn open_inside(dir: BorrowedFd<'_>, name: &str, flags: i32) -> Result<OwnedFd> {
    let resolve =
        libc::RESOLVE_BENEATH | libc::RESOLVE_NO_XDEV | libc::RESOLVE_NO_SYMLINKS | libc::RESOLVE_NO_MAGICLINKS;
    openat2(dir, Path::new(name), flags, resolve)
}

fn read_inside(dir: BorrowedFd<'_>, name: &str) -> Result<String> {
    let bytes = fd::read_all(open_inside(dir, name, libc::O_RDONLY)?)?;
    // A process name may hold any byte; nothing that is parsed here does.
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}

/// A procfs that is really one.
#[derive(Debug)]
pub struct Proc(OwnedFd);

impl AsFd for Proc {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

impl Proc {
    /// Opens /proc and checks it.
    ///
    /// Fails: EINVAL when something else is mounted there. proc(5).
    pub fn host() -> Result<Self> {
        Self::from_fd(fd::open_path("/proc", libc::O_PATH | libc::O_DIRECTORY | libc::O_NOFOLLOW)?)
    }

    /// Checks an open directory.
    ///
    /// Fails: EINVAL when it is not the root of a procfs.
    pub fn from_fd(dir: OwnedFd) -> Result<Self> {
        let real = mount::statfs_type(&dir)? == PROC_MAGIC && fd::fstat(&dir)?.ino == PROC_ROOT_INODE;
        if real {
            return Ok(Self(dir));
        }
        let error = Error::new(Errno::EINVAL, format!("fstatfs({})", raw::show_fd(dir.as_fd())));
        Err(error.with_hint("this is not the root of a procfs; mount one on /proc"))
    }

    /// Opens the directory of a process, by its id in this procfs's pid namespace.
    ///
    /// The descriptor keeps to that process: when it ends, reads fail with ESRCH, also when its id is
    /// used again. Fails: ENOENT when there is none.
    pub fn pid(&self, pid: i32) -> Result<ProcPid> {
        let dir = open_inside(self.as_fd(), &pid.to_string(), libc::O_PATH | libc::O_DIRECTORY)?;
        Ok(ProcPid { pid, dir })
    }

    /// Opens the directory of this very process.
    ///
    /// Fails: ENOENT when this process is not in the procfs's pid namespace.
    pub fn own(&self) -> Result<ProcPid> {
        let name = fd::readlink_at(self, "self")?;
        let pid = name.to_str().and_then(|name| name.parse().ok());
        let pid = pid.ok_or_else(|| Error::new(Errno::EPROTO, "readlinkat(/proc, \"self\")"))?;
        self.pid(pid)
    }

    /// Reads a file that does not belong to a process, such as `sys/kernel/cap_last_cap`.
    pub fn read(&self, name: &str) -> Result<String> {
        read_inside(self.as_fd(), name)
    }

    /// Writes such a file in one write.
    ///
    /// Fails: EROFS where `sys` is read-only, as in a container; EACCES without the setting's capability.
    pub fn write(&self, name: &str, bytes: &[u8]) -> Result<()> {
        let file = open_inside(self.as_fd(), name, libc::O_WRONLY)?;
        fd::write_once(&file, bytes, || format!("write({name:?}, {:?})", String::from_utf8_lossy(bytes)))
    }
}

/// The directory of one process.
#[derive(Debug)]
pub struct ProcPid {
    pid: i32,
    dir: OwnedFd,
}

impl AsFd for ProcPid {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.dir.as_fd()
    }
}

impl ProcPid {
    /// The process id, in the procfs's pid namespace.
    #[must_use]
    pub fn id(&self) -> i32 {
        self.pid
    }

    /// Opens its root directory, to look at files as it sees them.
    ///
    /// Needs: ptrace access. Fails: EACCES without it, ESRCH when it has ended. proc_pid_root(5).
    pub fn root(&self) -> Result<crate::beneath::Root> {
        fd::open_at(self, "root", libc::O_PATH | libc::O_DIRECTORY).map(crate::beneath::Root::from_fd)
    }

    /// Reads a file of the process.
    ///
    /// Fails: ESRCH when it has ended, EACCES without ptrace access where that is wanted. proc(5).
    pub fn read(&self, name: &str) -> Result<String> {
        read_inside(self.as_fd(), name)
    }

    /// Writes a file of the process in one write.
    ///
    /// Fails: as the file does; ELOOP or EXDEV when something was mounted over it. proc(5).
    pub fn write(&self, name: &str, bytes: &[u8]) -> Result<()> {
        let file = open_inside(self.as_fd(), name, libc::O_WRONLY)?;
        fd::write_once(&file, bytes, || format!("write({name:?}, {:?})", String::from_utf8_lossy(bytes)))
    }

    /// Reads and parses `status`.
    ///
    /// Fails: EPROTO when a line that every kernel from 5.10 on has is missing. proc_pid_status(5).
    pub fn status(&self) -> Result<Status> {
        let text = self.read("status")?;
        Status::parse(&text).map_err(|field| {
            let call = format!("read(\"/proc/{}/status\")", self.pid);
            Error::new(Errno::EPROTO, call).with_hint(format!("the line {field} is missing or malformed"))
        })
    }

    /// Says whether the process neither catches nor ignores a signal, so that the kernel does with it what it does.
    ///
    /// Fails: EPROTO when a line is missing. proc_pid_status(5).
    pub fn leaves_to_kernel(&self, signal: i32) -> Result<bool> {
        let text = self.read("status")?;
        let set = |name: &str| {
            let line = text.lines().find_map(|line| line.strip_prefix(name));
            line.and_then(|set| u64::from_str_radix(set.trim_start_matches(':').trim(), 16).ok())
        };
        let (Some(ignored), Some(caught)) = (set("SigIgn"), set("SigCgt")) else {
            return Err(Error::new(Errno::EPROTO, format!("read(\"/proc/{}/status\")", self.pid)));
        };
        let bit = u32::try_from(signal - 1).ok().and_then(|bit| 1_u64.checked_shl(bit)).unwrap_or(0);
        Ok((ignored | caught) & bit == 0)
    }

    /// Reads device and inode of a namespace of the process, such as `net` or `pid_for_children`.
    ///
    /// Needs: ptrace access. Fails: ENOENT for a kind that the kernel does not have. namespaces(7).
    pub fn ns(&self, name: &str) -> Result<(u64, u64)> {
        let path = PathBuf::from("ns").join(name);
        // The link is magic and leads to nsfs, so it is the one that must be followed.
        nix::sys::stat::fstatat(&self.dir, &path, AtFlags::empty())
            .map(|stat| (stat.st_dev, stat.st_ino))
            .or_call(|| format!("fstatat(/proc/{}, {path:?}, 0)", self.pid))
    }

    /// Reads when it was born, in ticks since the host's boot: the 22nd field of `stat`.
    ///
    /// Fails: ESRCH also for one that has ended and was not waited for yet. proc_pid_stat(5).
    pub fn born(&self) -> Result<u64> {
        let stat = self.read("stat")?;
        let failed = |errno| Error::new(errno, format!("read(/proc/{}/stat)", self.id()));
        let (_, fields) = stat.rsplit_once(')').ok_or_else(|| failed(Errno::EPROTO))?;
        let mut fields = fields.split_ascii_whitespace();
        if matches!(fields.next(), Some("Z" | "X")) {
            return Err(failed(Errno::ESRCH));
        }
        fields.nth(18).and_then(|field| field.parse().ok()).ok_or_else(|| failed(Errno::EPROTO))
    }

    /// Reads which ids its user namespace has: users, then groups. user_namespaces(7).
    pub fn id_maps(&self) -> Result<(IdMap, IdMap)> {
        Ok((IdMap::parse(&self.read("uid_map")?), IdMap::parse(&self.read("gid_map")?)))
    }

    /// Reads the process's cgroups as the kernel writes them. cgroups(7).
    pub fn cgroup(&self) -> Result<String> {
        self.read("cgroup")
    }

    /// Lists the children of all of the process's threads: each is listed with the thread that made it.
    ///
    /// Needs: a kernel with CONFIG_PROC_CHILDREN. Exact only while none of them, and no thread, starts or ends.
    pub fn children(&self) -> Result<Vec<i32>> {
        let first = self.read(&format!("task/{}/children", self.pid))?;
        let mut all = numbers(&first);
        let task = open_inside(self.as_fd(), "task", libc::O_RDONLY | libc::O_DIRECTORY)?;
        let threads = std::fs::read_dir(fd::proc_fd_path(&task)).into_iter().flatten().flatten();
        for name in threads.filter_map(|entry| entry.file_name().into_string().ok()) {
            if name != self.pid.to_string() {
                // A thread that is gone has no children any more: they are another one's.
                all.extend(numbers(&self.read(&format!("task/{name}/children")).unwrap_or_default()));
            }
        }
        Ok(all)
    }
}

fn numbers(text: &str) -> Vec<i32> {
    text.split_ascii_whitespace().filter_map(|number| number.parse().ok()).collect()
}

/// What `/proc/PID/status` says, as far as isolation goes.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Status {
    /// Real, effective, saved and file-system uid.
    pub uid: [u32; 4],
    /// Real, effective, saved and file-system gid.
    pub gid: [u32; 4],
    /// Supplementary groups.
    pub groups: Vec<u32>,
    /// The parent's process id.
    pub parent: i32,
    /// Number of threads.
    pub threads: u32,
    /// The process id in each pid namespace, outermost first.
    pub ns_pid: Vec<i32>,
    /// Whether execve can no longer give privileges.
    pub no_new_privs: bool,
    /// 0 none, 1 strict, 2 filter.
    pub seccomp: u32,
    /// Number of filters; `None` before 5.9.
    pub seccomp_filters: Option<u32>,
    /// Inheritable capabilities.
    pub cap_inh: u64,
    /// Permitted capabilities.
    pub cap_prm: u64,
    /// Effective capabilities.
    pub cap_eff: u64,
    /// Bounding set.
    pub cap_bnd: u64,
    /// Ambient capabilities.
    pub cap_amb: u64,
}

impl Status {
    /// Parses the file; fails with the name of the line that is missing or malformed.
    pub fn parse(text: &str) -> Result<Self, &'static str> {
        let lines: Vec<(&str, &str)> = text.lines().filter_map(|line| line.split_once(':')).collect();
        let line = |name: &'static str| {
            lines.iter().find(|(field, _)| *field == name).map(|(_, value)| value.trim()).ok_or(name)
        };
        let number = |name| line(name)?.parse::<u32>().map_err(|_e| name);
        let caps = |name| u64::from_str_radix(line(name)?, 16).map_err(|_e| name);
        let ids = |name| <[u32; 4]>::try_from(list(line(name)?, name)?).map_err(|_e| name);
        Ok(Self {
            uid: ids("Uid")?,
            gid: ids("Gid")?,
            groups: list(line("Groups")?, "Groups")?,
            parent: line("PPid")?.parse().map_err(|_e| "PPid")?,
            threads: number("Threads")?,
            ns_pid: list(line("NSpid")?, "NSpid")?,
            no_new_privs: number("NoNewPrivs")? == 1,
            seccomp: number("Seccomp")?,
            seccomp_filters: number("Seccomp_filters").ok(),
            cap_inh: caps("CapInh")?,
            cap_prm: caps("CapPrm")?,
            cap_eff: caps("CapEff")?,
            cap_bnd: caps("CapBnd")?,
            cap_amb: caps("CapAmb")?,
        })
    }
}

fn list<T: std::str::FromStr>(text: &str, name: &'static str) -> Result<Vec<T>, &'static str> {
    text.split_ascii_whitespace().map(|word| word.parse().map_err(|_e| name)).collect()
}

/// One line of `/proc/PID/cgroup`: where the process is in one hierarchy.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CgroupEntry {
    /// Number of the hierarchy; 0 for v2.
    pub hierarchy: u32,
    /// The v1 controllers, or `name=...`; empty for v2.
    pub controllers: Vec<String>,
    /// The cgroup, from the hierarchy's root as this process sees it.
    pub path: PathBuf,
}

/// Parses `/proc/PID/cgroup`; a malformed line is left out, as it names nothing that can be used.
#[must_use]
pub fn parse_cgroups(text: &str) -> Vec<CgroupEntry> {
    text.lines()
        .filter_map(|line| {
            let mut parts = line.splitn(3, ':');
            let hierarchy = parts.next()?.parse().ok()?;
            let controllers = parts.next()?.split(',').filter(|name| !name.is_empty()).map(str::to_owned).collect();
            Some(CgroupEntry { hierarchy, controllers, path: PathBuf::from(parts.next()?) })
        })
        .collect()
}

/// Reads the cgroups of this process. cgroups(7).
pub fn self_cgroups() -> Result<Vec<CgroupEntry>> {
    Ok(parse_cgroups(&Proc::host()?.own()?.cgroup()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_own_status_agrees_with_the_calls() {
        let status = Proc::host().unwrap().own().unwrap().status().unwrap();
        assert_eq!(status.uid[0], nix::unistd::getuid().as_raw());
        assert_eq!(status.parent, nix::unistd::getppid().as_raw());
        assert_eq!(status.ns_pid.last().copied(), Some(nix::unistd::getpid().as_raw()));
    }

    #[test]
    fn a_missing_line_is_named() {
        assert_eq!(Status::parse("Name:\tx\n"), Err("Uid"));
        assert_eq!(Status::parse("Uid:\t0\t0\t0\n"), Err("Uid"));
    }

    #[test]
    fn another_directory_is_not_a_procfs() {
        let error = Proc::from_fd(fd::open_path("/etc", libc::O_PATH).unwrap()).unwrap_err();
        assert_eq!(error.kind(), Errno::EINVAL);
        let error = Proc::from_fd(fd::open_path("/proc/sys", libc::O_PATH).unwrap()).unwrap_err();
        assert_eq!(error.kind(), Errno::EINVAL);
    }

    #[test]
    fn a_link_in_procfs_is_not_followed() {
        let own = Proc::host().unwrap().own().unwrap();
        assert_eq!(own.read("exe").unwrap_err().kind(), Errno::ELOOP);
        assert!(own.read("../1/status").is_err());
    }

    #[test]
    fn cgroup_lines_are_taken_apart() {
        let entries = parse_cgroups("4:cpu,cpuacct:/a:b\n1:name=systemd:/\n0::/user\nrubbish\n");
        assert_eq!(entries.len(), 3);
        assert_eq!(entries[0].controllers, ["cpu", "cpuacct"]);
        assert_eq!(entries[0].path, Path::new("/a:b"));
        assert_eq!((entries[2].hierarchy, entries[2].controllers.len()), (0, 0));
    }
}
