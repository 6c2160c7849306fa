//! Namespaces: entering, leaving, comparing, and the few settings that live in them.

use std::os::fd::{AsFd, AsRawFd, FromRawFd, OwnedFd};
use std::path::Path;

use nix::errno::Errno;

use crate::error::{Error, OrCall, Result};
use crate::procfs::{Proc, ProcPid};
use crate::{fd, mount, process, raw};

/// New mount namespace.
pub const CLONE_NEWNS: u64 = libc::CLONE_NEWNS as u64;
/// New UTS namespace.
pub const CLONE_NEWUTS: u64 = libc::CLONE_NEWUTS as u64;
/// New IPC namespace.
pub const CLONE_NEWIPC: u64 = libc::CLONE_NEWIPC as u64;
/// New user namespace.
pub const CLONE_NEWUSER: u64 = libc::CLONE_NEWUSER as u64;
/// New pid namespace.
pub const CLONE_NEWPID: u64 = libc::CLONE_NEWPID as u64;
/// New network namespace.
pub const CLONE_NEWNET: u64 = libc::CLONE_NEWNET as u64;
/// New cgroup namespace.
pub const CLONE_NEWCGROUP: u64 = libc::CLONE_NEWCGROUP as u64;
/// New time namespace. Since: 5.6.
pub const CLONE_NEWTIME: u64 = 0x80;

/// All of them together.
pub const ALL_CLONE_FLAGS: u64 = CLONE_NEWNS
    | CLONE_NEWUTS
    | CLONE_NEWIPC
    | CLONE_NEWUSER
    | CLONE_NEWPID
    | CLONE_NEWNET
    | CLONE_NEWCGROUP
    | CLONE_NEWTIME;

/// Every kind: its file under /proc/PID/ns, and its flag.
pub const KINDS: &[(&str, u64)] = &[
    ("mnt", CLONE_NEWNS),
    ("uts", CLONE_NEWUTS),
    ("ipc", CLONE_NEWIPC),
    ("user", CLONE_NEWUSER),
    ("pid", CLONE_NEWPID),
    ("net", CLONE_NEWNET),
    ("cgroup", CLONE_NEWCGROUP),
    ("time", CLONE_NEWTIME),
];

pub(crate) const CLONE_NAMES: &[(u64, &str)] = &[
    (CLONE_NEWNS, "CLONE_NEWNS"),
    (CLONE_NEWUTS, "CLONE_NEWUTS"),
    (CLONE_NEWIPC, "CLONE_NEWIPC"),
    (CLONE_NEWUSER, "CLONE_NEWUSER"),
    (CLONE_NEWPID, "CLONE_NEWPID"),
    (CLONE_NEWNET, "CLONE_NEWNET"),
    (CLONE_NEWCGROUP, "CLONE_NEWCGROUP"),
    (CLONE_NEWTIME, "CLONE_NEWTIME"),
    (libc::CLONE_PIDFD as u64, "CLONE_PIDFD"),
    (0x2_0000_0000, "CLONE_INTO_CGROUP"),
];

/// Finds a kind of namespace by the name of its flag in clone(2), such as `CLONE_NEWUTS`.
#[must_use]
pub fn clone_flag(name: &str) -> Option<u64> {
    CLONE_NAMES.iter().find(|(flag, known)| *known == name && ALL_CLONE_FLAGS & flag != 0).map(|(flag, _)| *flag)
}

/// `NSFS_MAGIC` of linux/magic.h.
const NSFS_MAGIC: i64 = 0x6e73_6673;
/// `NS_GET_NSTYPE` of linux/nsfs.h.
const NS_GET_NSTYPE: usize = 0xb703;

/// `struct ifreq`, as the two flag requests use it.
#[repr(C)]
struct IfReq {
    name: [u8; 16],
    flags: u16,
    rest: [u8; 22],
}

fn show(flags: u64) -> String {
    raw::show_flags(flags, CLONE_NAMES)
}

/// Joins a namespace; `flags` is the kind that it must have, 0 for any.
///
/// A pid or time namespace takes effect for children only. Needs: CAP_SYS_ADMIN in the owning user
/// namespace. Fails: EINVAL when the kind differs or the process has threads. setns(2).
pub fn setns(fd: impl AsFd, flags: u64) -> Result<()> {
    let fd = fd.as_fd();
    let args = [raw::fd(fd), raw::word(flags), 0, 0, 0];
    // SAFETY: setns takes no pointer; upheld by its man page; else nothing, since the fd is borrowed.
    unsafe { raw::syscall(libc::SYS_setns, args) }
        .map(drop)
        .or_call(|| format!("setns({}, {})", raw::show_fd(fd), show(flags)))
}

/// Moves this process into new namespaces; a pid or time namespace takes effect for children only.
///
/// A time namespace whose offsets are to be set must be made this way: a child of `clone3` enters its
/// own at once, and the offsets are frozen by the first to enter. Needs: CAP_SYS_ADMIN, or a user
/// namespace among the flags. Fails: ENOSPC at a limit, EINVAL with threads. unshare(2).
pub fn unshare(flags: u64) -> Result<()> {
    let args = [raw::word(flags), 0, 0, 0, 0];
    // SAFETY: unshare takes no pointer; upheld by its man page; else nothing is touched.
    unsafe { raw::syscall(libc::SYS_unshare, args) }.map(drop).or_call(|| format!("unshare({})", show(flags)))
}

/// Makes a user namespace with these maps, which nobody is in: it says how a mount maps the ids of its files.
///
/// Needs: CAP_SETUID and CAP_SETGID. Fails: EPERM without them, ENOSPC at a limit. user_namespaces(7).
pub fn user_with_maps(uid_map: &str, gid_map: &str) -> Result<OwnedFd> {
    let (wait, hold) = fd::pipe()?;
    let process::Cloned::Parent { pid, pidfd } = process::clone3(CLONE_NEWUSER, None)? else {
        drop(hold);
        // It stands for the namespace until somebody has it open, or whoever asked for it is gone.
        let ended = fd::read_some(&wait, 1);
        process::exit_now(i32::from(ended.is_err()));
    };
    let open = || {
        let child = Proc::host()?.pid(pid)?;
        child.write("uid_map", uid_map.as_bytes())?;
        child.write("gid_map", gid_map.as_bytes())?;
        open_ns(format!("/proc/{pid}/ns/user"))
    };
    let made = open();
    drop(hold);
    process::waitid(process::Target::PidFd(pidfd.as_fd()), false)?;
    made
}

/// Reads the inode number of a process's namespace; two processes with the same are in the same one.
///
/// Needs: ptrace access to the process. namespaces(7).
pub fn ns_inode(process: &ProcPid, name: &str) -> Result<u64> {
    process.ns(name).map(|(_, inode)| inode)
}

/// Opens a namespace file for [`setns`] and checks that it is one.
///
/// Fails: EINVAL for any other file. namespaces(7).
pub fn open_ns(path: impl AsRef<Path>) -> Result<OwnedFd> {
    let path = path.as_ref();
    let ns = fd::open_path(path, libc::O_RDONLY | libc::O_NONBLOCK)?;
    if mount::statfs_type(&ns)? == NSFS_MAGIC {
        return Ok(ns);
    }
    let error = Error::new(Errno::EINVAL, format!("openat(AT_FDCWD, {path:?}, O_RDONLY)"));
    Err(error.with_hint("the file is not a namespace; name /proc/PID/ns/KIND or a bind mount of one"))
}

/// Reads the kind of an open namespace, as its `CLONE_NEW*` flag.
///
/// Since: 4.11. Fails: ENOTTY when it is none. ioctl_nsfs(2).
pub fn ns_type(ns: impl AsFd) -> Result<u64> {
    let ns = ns.as_fd();
    let args = [raw::fd(ns), NS_GET_NSTYPE, 0, 0, 0];
    // SAFETY: this request takes no pointer; upheld by ioctl_nsfs(2); else nothing, since the fd is borrowed.
    let kind = unsafe { raw::syscall(libc::SYS_ioctl, args) }
        .or_call(|| format!("ioctl({}, NS_GET_NSTYPE)", raw::show_fd(ns)))?;
    Ok(kind.cast_unsigned())
}

/// Sets the host name of the UTS namespace, at most 64 bytes.
///
/// Needs: CAP_SYS_ADMIN in its user namespace. Fails: EINVAL when too long. sethostname(2).
pub fn set_hostname(name: &str) -> Result<()> {
    nix::unistd::sethostname(name).or_call(|| format!("sethostname({name:?})"))
}

/// Reads the host name of the UTS namespace. uname(2).
pub fn hostname() -> Result<String> {
    let info = nix::sys::utsname::uname().or_call(|| "uname()".to_owned())?;
    Ok(info.nodename().to_string_lossy().into_owned())
}

/// Sets the NIS domain name of the UTS namespace, at most 64 bytes.
///
/// Needs: CAP_SYS_ADMIN in its user namespace. Fails: EINVAL when too long. setdomainname(2).
pub fn set_domainname(name: &str) -> Result<()> {
    let args = [raw::ptr(name.as_ptr()), name.len(), 0, 0, 0];
    // SAFETY: the text is as long as said; upheld by str; else the kernel reads past it.
    unsafe { raw::syscall(libc::SYS_setdomainname, args) }.map(drop).or_call(|| format!("setdomainname({name:?})"))
}

/// Brings up the interface `lo` of this network namespace; 127.0.0.1 and ::1 come with it.
///
/// Needs: CAP_NET_ADMIN in the owning user namespace. netdevice(7).
pub fn loopback_up() -> Result<()> {
    let domain_and_kind = || "socket(AF_INET, SOCK_DGRAM|SOCK_CLOEXEC)".to_owned();
    // SAFETY: socket takes no pointer; upheld by its man page; else nothing is touched.
    let socket = unsafe { libc::socket(libc::AF_INET, libc::SOCK_DGRAM | libc::SOCK_CLOEXEC, 0) };
    let socket = Errno::result(socket).or_call(domain_and_kind)?;
    // SAFETY: `socket` is open and nobody else's; upheld by the kernel, which has just made it; else two owners close it.
    let socket = unsafe { OwnedFd::from_raw_fd(socket) };
    let mut request = IfReq { name: *b"lo\0\0\0\0\0\0\0\0\0\0\0\0\0\0", flags: 0, rest: [0; 22] };
    let mut ioctl = |number: libc::c_ulong, name: &str, add: libc::c_int| {
        request.flags |= u16::try_from(add).unwrap_or(0);
        // SAFETY: `request` is a struct ifreq, alive and writable; upheld by repr(C) and its size of 40 bytes; else the kernel writes past it.
        let ret = unsafe { libc::ioctl(socket.as_raw_fd(), number as _, &raw mut request) };
        Errno::result(ret).map(drop).or_call(|| format!("ioctl(socket, {name}, \"lo\")"))
    };
    ioctl(libc::SIOCGIFFLAGS, "SIOCGIFFLAGS", 0)?;
    ioctl(libc::SIOCSIFFLAGS, "SIOCSIFFLAGS", libc::IFF_UP)
}

/// Sets the offsets of the time namespace that a process's children will enter, in whole seconds.
///
/// Since: 5.6. Needs: CAP_SYS_TIME in the namespace's user namespace. Fails: EACCES when a process
/// has entered already, ERANGE when a clock would become negative. time_namespaces(7).
pub fn set_time_offsets(process: &ProcPid, monotonic: i64, boottime: i64) -> Result<()> {
    let text = format!("monotonic {monotonic} 0\nboottime {boottime} 0\n");
    process.write("timens_offsets", text.as_bytes())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_request_has_the_kernels_size() {
        assert_eq!(size_of::<IfReq>(), size_of::<libc::ifreq>());
    }

    #[test]
    fn kinds_are_found_by_their_flags_and_nothing_else_is() {
        assert_eq!(clone_flag("CLONE_NEWUTS"), Some(CLONE_NEWUTS));
        assert_eq!((clone_flag("CLONE_PIDFD"), clone_flag("uts")), (None, None));
        assert_eq!(hostname().unwrap(), crate::host::sysctl("kernel/hostname").unwrap());
    }

    #[test]
    fn a_namespace_file_is_told_from_others() {
        let ns = open_ns("/proc/self/ns/uts").unwrap();
        assert_eq!(ns_type(&ns).unwrap(), CLONE_NEWUTS);
        assert_eq!(open_ns("/etc/passwd").unwrap_err().kind(), Errno::EINVAL);
    }

    #[test]
    fn an_own_namespace_has_the_inode_of_its_file() {
        let own = crate::procfs::Proc::host().unwrap().own().unwrap();
        let file = fd::fstat(open_ns("/proc/self/ns/net").unwrap()).unwrap();
        assert_eq!(ns_inode(&own, "net").unwrap(), file.ino);
    }
}
