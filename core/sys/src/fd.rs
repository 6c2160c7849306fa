//! Files by descriptor. Everything opened here is close-on-exec.

use std::ffi::{CString, OsString};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};
use std::path::{Path, PathBuf};

use nix::errno::Errno;
use nix::fcntl::{AtFlags, FcntlArg, FdFlag, OFlag, SealFlag};
use nix::sys::memfd::MFdFlags;
use nix::sys::stat::{FileStat, Mode};

use crate::error::{Error, OrCall, Result};
use crate::raw;

pub use libc::{
    O_APPEND, O_CREAT, O_DIRECTORY, O_EXCL, O_NOFOLLOW, O_NONBLOCK, O_PATH, O_RDONLY, O_RDWR, O_TRUNC, O_WRONLY,
};

/// `CLOSE_RANGE_CLOEXEC` of linux/close_range.h.
const CLOSE_RANGE_CLOEXEC: usize = 4;

/// The directory that relative paths start from, for the calls that take a directory.
pub const CWD: BorrowedFd<'static> = nix::fcntl::AT_FDCWD;
/// Its number: `AT_FDCWD`.
pub const CWD_NUMBER: RawFd = libc::AT_FDCWD;

const OPEN_NAMES: &[(u64, &str)] = &[
    (libc::O_PATH as u64, "O_PATH"),
    (libc::O_DIRECTORY as u64, "O_DIRECTORY"),
    (libc::O_NOFOLLOW as u64, "O_NOFOLLOW"),
    (libc::O_CREAT as u64, "O_CREAT"),
    (libc::O_EXCL as u64, "O_EXCL"),
    (libc::O_TRUNC as u64, "O_TRUNC"),
    (libc::O_APPEND as u64, "O_APPEND"),
    (libc::O_NONBLOCK as u64, "O_NONBLOCK"),
    (libc::O_RDWR as u64, "O_RDWR"),
    (libc::O_WRONLY as u64, "O_WRONLY"),
];

/// Shows open flags without the close-on-exec that every call here adds.
pub(crate) fn show_open_flags(flags: i32) -> String {
    let flags = flags & !libc::O_CLOEXEC;
    if flags == 0 {
        return "O_RDONLY".to_owned();
    }
    raw::show_flags(u64::from(flags.cast_unsigned()), OPEN_NAMES)
}

/// What `fstat` says of a file, in the units of the kernel; times are nanoseconds since the epoch.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FileFacts {
    /// Device that holds the inode.
    pub dev: u64,
    /// Inode number.
    pub ino: u64,
    /// Type and permission bits.
    pub mode: u32,
    /// Owner.
    pub uid: u32,
    /// Group.
    pub gid: u32,
    /// Size in bytes.
    pub size: u64,
    /// Last change of the content.
    pub mtime_ns: i128,
    /// Last change of the inode.
    pub ctime_ns: i128,
    /// Device number, of a device node.
    pub rdev: u64,
}

impl FileFacts {
    fn kind(&self) -> u32 {
        self.mode & libc::S_IFMT
    }

    /// Says whether this is a directory.
    #[must_use]
    pub fn is_dir(&self) -> bool {
        self.kind() == libc::S_IFDIR
    }

    /// Says whether this is a regular file.
    #[must_use]
    pub fn is_file(&self) -> bool {
        self.kind() == libc::S_IFREG
    }

    /// Says whether this is a symbolic link.
    #[must_use]
    pub fn is_symlink(&self) -> bool {
        self.kind() == libc::S_IFLNK
    }

    /// Says whether this is a character device.
    #[must_use]
    pub fn is_char_device(&self) -> bool {
        self.kind() == libc::S_IFCHR
    }

    /// Says whether another program may sit at the other end: a pipe or a socket.
    #[must_use]
    pub fn is_pipe(&self) -> bool {
        matches!(self.kind(), libc::S_IFIFO | libc::S_IFSOCK)
    }

    /// Gives major and minor number, of a device node.
    #[must_use]
    pub fn device(&self) -> (u32, u32) {
        (libc::major(self.rdev), libc::minor(self.rdev))
    }
}

impl From<FileStat> for FileFacts {
    fn from(stat: FileStat) -> Self {
        let ns = |seconds: i64, nanoseconds: i64| i128::from(seconds) * 1_000_000_000 + i128::from(nanoseconds);
        Self {
            dev: stat.st_dev,
            ino: stat.st_ino,
            mode: stat.st_mode,
            uid: stat.st_uid,
            gid: stat.st_gid,
            // The kernel never gives a negative size; 0 keeps the type honest if it did.
            size: u64::try_from(stat.st_size).unwrap_or(0),
            mtime_ns: ns(stat.st_mtime, stat.st_mtime_nsec),
            ctime_ns: ns(stat.st_ctime, stat.st_ctime_nsec),
            rdev: stat.st_rdev,
        }
    }
}

/// Opens a path, close-on-exec, symbolic links followed.
///
/// For paths that the caller trusts; below a root that a workload can write use [`crate::beneath`].
/// Fails: as open(2).
pub fn open_path(path: impl AsRef<Path>, flags: i32) -> Result<OwnedFd> {
    open_at(CWD, path, flags)
}

/// Opens a path below a directory descriptor, close-on-exec.
///
/// Fails: as openat(2).
pub fn open_at(dir: impl AsFd, path: impl AsRef<Path>, flags: i32) -> Result<OwnedFd> {
    open_at_mode(dir, path, flags, 0)
}

/// Opens or creates a path below a directory descriptor; `mode` is that of a file made by `O_CREAT`,
/// less the umask.
///
/// Fails: as openat(2).
pub fn open_at_mode(dir: impl AsFd, path: impl AsRef<Path>, flags: i32, mode: u32) -> Result<OwnedFd> {
    let (dir, path) = (dir.as_fd(), path.as_ref());
    let oflag = OFlag::from_bits_retain(flags) | OFlag::O_CLOEXEC;
    nix::fcntl::openat(dir, path, oflag, Mode::from_bits_truncate(mode)).or_call(|| {
        let flags = show_open_flags(flags);
        format!("openat({}, {path:?}, {flags})", raw::show_fd(dir))
    })
}

/// Duplicates a descriptor, close-on-exec, never as 0, 1 or 2.
///
/// Fails: EMFILE at RLIMIT_NOFILE. fcntl(2).
pub fn dup_cloexec(fd: impl AsFd) -> Result<OwnedFd> {
    let fd = fd.as_fd();
    let new = nix::fcntl::fcntl(fd, FcntlArg::F_DUPFD_CLOEXEC(3))
        .or_call(|| format!("fcntl({}, F_DUPFD_CLOEXEC, 3)", raw::show_fd(fd)))?;
    // SAFETY: `new` is open and nobody else's; upheld by the kernel, which has just made it; else two owners close it.
    Ok(unsafe { OwnedFd::from_raw_fd(new) })
}

/// Clears close-on-exec, so that the descriptor survives `execve`.
///
/// fcntl(2).
pub fn clear_cloexec(fd: impl AsFd) -> Result<()> {
    let fd = fd.as_fd();
    nix::fcntl::fcntl(fd, FcntlArg::F_SETFD(FdFlag::empty()))
        .map(drop)
        .or_call(|| format!("fcntl({}, F_SETFD, 0)", raw::show_fd(fd)))
}

/// Says whether a descriptor, by its number, is open and would survive `execve`.
///
/// Everything that this crate opens would not, so one that would was given to this process.
/// Fails: EBADF when it is not open. fcntl(2).
pub fn is_inherited(number: RawFd) -> Result<bool> {
    let call = || format!("fcntl({number}, F_GETFD)");
    let flags = nix::fcntl::fcntl(borrow(number)?, FcntlArg::F_GETFD).or_call(call)?;
    Ok(!FdFlag::from_bits_retain(flags).contains(FdFlag::FD_CLOEXEC))
}

/// Puts a descriptor at a number, which may be 0, 1 or 2; the new one survives `execve`.
///
/// Whatever was open at `number` is closed. When `fd` is `number` already, close-on-exec is cleared.
/// Fails: EBADF when `number` is beyond RLIMIT_NOFILE. dup2(2).
pub fn dup_to(fd: impl AsFd, number: RawFd) -> Result<()> {
    let fd = fd.as_fd();
    if fd.as_raw_fd() == number {
        return clear_cloexec(fd);
    }
    // SAFETY: `number` belongs to no live owner in this process; upheld by the caller, who is about to exec and gives up its own; else an owner elsewhere reads another file.
    let ret = unsafe { libc::dup2(fd.as_raw_fd(), number) };
    Errno::result(ret).map(drop).or_call(|| format!("dup2({}, {number})", raw::show_fd(fd)))
}

/// Closes every descriptor from `first` on, except those in `keep`.
///
/// For a process that is about to exec: owners of the closed descriptors must not be used or dropped
/// afterwards. Since: 5.9; where close_range(2) is hidden by a filter, /proc/self/fd is walked.
pub fn close_range_from(first: RawFd, keep: &[RawFd]) -> Result<()> {
    each_gap(first, keep, |from, to| match close_range(from, to, 0) {
        Err(Errno::ENOSYS) => walk_open(from, to, |fd| {
            // SAFETY: nobody uses `fd` again; upheld by the caller, who is about to exec; else an owner elsewhere closes a stranger's file.
            Errno::result(unsafe { libc::close(fd) }).map(drop).or_call(|| format!("close({fd})"))
        }),
        other => other.or_call(|| format!("close_range({from}, {to}, 0)")),
    })
}

/// Marks every descriptor from `first` on close-on-exec.
///
/// Since: 5.11; on an older kernel /proc/self/fd is walked. close_range(2).
pub fn set_cloexec_from(first: RawFd) -> Result<()> {
    let last = RawFd::MAX;
    match close_range(first, last, CLOSE_RANGE_CLOEXEC) {
        // KERNEL(5.11): the flag is unknown to 5.10, which answers EINVAL.
        Err(Errno::ENOSYS | Errno::EINVAL) => walk_open(first, last, |fd| {
            // SAFETY: `fd` is open during this call; upheld by the walk, which has just listed it, in a single thread; else fcntl gives EBADF and nothing else happens.
            let fd = unsafe { BorrowedFd::borrow_raw(fd) };
            nix::fcntl::fcntl(fd, FcntlArg::F_SETFD(FdFlag::FD_CLOEXEC))
                .map(drop)
                .or_call(|| format!("fcntl({}, F_SETFD, FD_CLOEXEC)", raw::show_fd(fd)))
        }),
        other => other.or_call(|| format!("close_range({first}, {last}, CLOSE_RANGE_CLOEXEC)")),
    }
}

fn close_range(first: RawFd, last: RawFd, flags: usize) -> nix::Result<()> {
    let args = [raw::int(first), raw::int(last), flags, 0, 0];
    // SAFETY: close_range takes no pointer; upheld by its man page; else nothing, since the descriptors are the caller's contract.
    unsafe { raw::syscall(libc::SYS_close_range, args) }.map(drop)
}

/// Calls `act(from, to)` for each run of numbers from `first` on that holds none of `keep`.
fn each_gap(first: RawFd, keep: &[RawFd], mut act: impl FnMut(RawFd, RawFd) -> Result<()>) -> Result<()> {
    let mut keep: Vec<RawFd> = keep.iter().copied().filter(|fd| *fd >= first).collect();
    keep.sort_unstable();
    keep.dedup();
    let mut from = first;
    for kept in keep {
        if kept > from {
            act(from, kept - 1)?;
        }
        from = kept.saturating_add(1);
    }
    act(from, RawFd::MAX)
}

/// Calls `act` for each open descriptor in `from..=to`, by the list in /proc/self/fd.
fn walk_open(from: RawFd, to: RawFd, mut act: impl FnMut(RawFd) -> Result<()>) -> Result<()> {
    let call = || "openat(AT_FDCWD, \"/proc/self/fd\", O_DIRECTORY)".to_owned();
    let mut open = Vec::new();
    {
        let list = std::fs::read_dir("/proc/self/fd").map_err(|e| Error::from_io(&e, call()))?;
        for entry in list {
            let entry = entry.map_err(|e| Error::from_io(&e, call()))?;
            let number = entry.file_name().to_str().and_then(|name| name.parse::<RawFd>().ok());
            open.extend(number.filter(|fd| (from..=to).contains(fd)));
        }
    }
    for fd in open {
        match act(fd) {
            // The list's own descriptor is gone by now.
            Err(error) if error.kind() == Errno::EBADF => {}
            other => other?,
        }
    }
    Ok(())
}

/// Makes an anonymous file with this content that nobody, ourselves included, can change any more.
///
/// It can be executed and mapped. Since: 3.17; `MFD_EXEC` is given where the kernel (6.3) knows it,
/// so that sysctl vm.memfd_noexec = 1 does not take the right away. memfd_create(2).
pub fn memfd_sealed(name: &str, bytes: &[u8]) -> Result<OwnedFd> {
    let call = || format!("memfd_create({name:?}, MFD_CLOEXEC|MFD_ALLOW_SEALING|MFD_EXEC)");
    let base = MFdFlags::MFD_CLOEXEC | MFdFlags::MFD_ALLOW_SEALING;
    // Not in nix for this target.
    let exec = MFdFlags::from_bits_retain(libc::MFD_EXEC);
    let c_name = CString::new(name).map_err(|_e| Error::new(Errno::EINVAL, call()))?;
    let fd = match nix::sys::memfd::memfd_create(c_name.as_c_str(), base | exec) {
        Err(Errno::EINVAL) => nix::sys::memfd::memfd_create(c_name.as_c_str(), base),
        other => other,
    }
    .or_call(call)?;
    let mut rest = bytes;
    while !rest.is_empty() {
        let n = nix::unistd::write(&fd, rest).or_call(|| format!("write(memfd {name:?}, {} bytes)", rest.len()))?;
        rest = rest.get(n..).unwrap_or_default();
    }
    let seals = SealFlag::F_SEAL_SEAL | SealFlag::F_SEAL_SHRINK | SealFlag::F_SEAL_GROW | SealFlag::F_SEAL_WRITE;
    nix::fcntl::fcntl(&fd, FcntlArg::F_ADD_SEALS(seals))
        .or_call(|| format!("fcntl(memfd {name:?}, F_ADD_SEALS, SEAL|SHRINK|GROW|WRITE)"))?;
    Ok(fd)
}

/// Reads the facts of an open file.
///
/// fstat(2).
pub fn fstat(fd: impl AsFd) -> Result<FileFacts> {
    let fd = fd.as_fd();
    nix::sys::stat::fstat(fd).map(FileFacts::from).or_call(|| format!("fstat({})", raw::show_fd(fd)))
}

/// Reads the facts of a name below a directory, a symbolic link not followed.
///
/// fstatat(2).
pub fn fstat_at(dir: impl AsFd, name: impl AsRef<Path>) -> Result<FileFacts> {
    let (dir, name) = (dir.as_fd(), name.as_ref());
    nix::sys::stat::fstatat(dir, name, AtFlags::AT_SYMLINK_NOFOLLOW)
        .map(FileFacts::from)
        .or_call(|| format!("fstatat({}, {name:?}, AT_SYMLINK_NOFOLLOW)", raw::show_fd(dir)))
}

/// Says whether two descriptors are the same inode.
pub fn is_same_file(a: impl AsFd, b: impl AsFd) -> Result<bool> {
    let (a, b) = (fstat(a)?, fstat(b)?);
    Ok((a.dev, a.ino) == (b.dev, b.ino))
}

/// Reads a whole small file below a directory as bytes; a symbolic link as last component is refused.
///
/// Fails: ELOOP for a symbolic link. openat(2).
pub fn read_at(dir: impl AsFd, name: impl AsRef<Path>) -> Result<Vec<u8>> {
    let fd = open_at(dir, name, libc::O_RDONLY | libc::O_NOFOLLOW)?;
    read_all(&fd)
}

/// Reads an open file from where it stands to its end.
///
/// read(2).
pub fn read_all(fd: impl AsFd) -> Result<Vec<u8>> {
    let fd = fd.as_fd();
    let mut bytes = Vec::new();
    let mut chunk = [0_u8; 4096];
    loop {
        match nix::unistd::read(fd, &mut chunk) {
            Ok(0) => return Ok(bytes),
            Ok(n) => bytes.extend_from_slice(chunk.get(..n).unwrap_or_default()),
            Err(Errno::EINTR) => {}
            Err(errno) => return Err(Error::new(errno, format!("read({})", raw::show_fd(fd)))),
        }
    }
}

/// Reads a whole small file below a directory as text.
///
/// Fails: EILSEQ when it is not UTF-8; else as [`read_at`].
pub fn read_to_string_at(dir: impl AsFd, name: impl AsRef<Path>) -> Result<String> {
    let (dir, name) = (dir.as_fd(), name.as_ref());
    let call = || format!("read({name:?} in {})", raw::show_fd(dir));
    String::from_utf8(read_at(dir, name)?).map_err(|_e| Error::new(Errno::EILSEQ, call()))
}

/// Writes a file that exists below a directory, in one write, as the kernel's control files want it.
///
/// Fails: ELOOP for a symbolic link, EIO for a short write; else as write(2).
pub fn write_at(dir: impl AsFd, name: impl AsRef<Path>, bytes: &[u8]) -> Result<()> {
    let name = name.as_ref();
    let fd = open_at(dir, name, libc::O_WRONLY | libc::O_NOFOLLOW)?;
    write_once(&fd, bytes, || format!("write({name:?}, {:?})", String::from_utf8_lossy(bytes)))
}

/// Writes in one call, and takes a short write for a failure.
pub(crate) fn write_once(fd: &OwnedFd, bytes: &[u8], call: impl Fn() -> String) -> Result<()> {
    let n = nix::unistd::write(fd, bytes).or_call(&call)?;
    if n == bytes.len() { Ok(()) } else { Err(Error::new(Errno::EIO, call())) }
}

/// Makes a pipe, close-on-exec: the end to read from, the end to write to.
///
/// Fails: EMFILE at RLIMIT_NOFILE. pipe2(2).
pub fn pipe() -> Result<(OwnedFd, OwnedFd)> {
    nix::unistd::pipe2(OFlag::O_CLOEXEC).or_call(|| "pipe2(O_CLOEXEC)".to_owned())
}

/// Borrows a descriptor that somebody else owns, by its number.
///
/// The owner promises that it stays open for as long as it is used. Fails: EBADF when it is not open. fcntl(2).
pub fn borrow(number: RawFd) -> Result<BorrowedFd<'static>> {
    let call = || format!("fcntl({number}, F_GETFD)");
    if number < 0 {
        return Err(Error::new(Errno::EBADF, call()));
    }
    // SAFETY: the number is open, as the check below says, and stays so; upheld by its owner, who named it; else a call gives EBADF or reaches another file of this process.
    let fd = unsafe { BorrowedFd::borrow_raw(number) };
    nix::fcntl::fcntl(fd, FcntlArg::F_GETFD).map(|_flags| fd).or_call(call)
}

/// Reads what there is, at most `max` bytes, in one call; nothing at the end.
///
/// read(2).
pub fn read_some(fd: impl AsFd, max: usize) -> Result<Vec<u8>> {
    let fd = fd.as_fd();
    let mut bytes = vec![0; max];
    loop {
        match nix::unistd::read(fd, &mut bytes) {
            Err(Errno::EINTR) => {}
            other => {
                let got = other.or_call(|| format!("read({})", raw::show_fd(fd)))?;
                bytes.truncate(got);
                return Ok(bytes);
            }
        }
    }
}

/// Writes in one call, and takes a short write for a failure.
///
/// Fails: EIO for a short write; else as write(2).
pub fn write(fd: impl AsFd, bytes: &[u8]) -> Result<()> {
    let fd = fd.as_fd();
    let call = || format!("write({}, {} bytes)", raw::show_fd(fd), bytes.len());
    let written = nix::unistd::write(fd, bytes).or_call(call)?;
    if written == bytes.len() { Ok(()) } else { Err(Error::new(Errno::EIO, call())) }
}

/// Makes a directory; `mode` is less the umask.
///
/// Fails: EEXIST when the name exists in any form. mkdirat(2).
pub fn mkdir_at(dir: impl AsFd, name: impl AsRef<Path>, mode: u32) -> Result<()> {
    let (dir, name) = (dir.as_fd(), name.as_ref());
    nix::sys::stat::mkdirat(dir, name, Mode::from_bits_truncate(mode))
        .or_call(|| format!("mkdirat({}, {name:?}, {mode:#o})", raw::show_fd(dir)))
}

/// Removes an empty directory below a directory.
///
/// Fails: EBUSY for a cgroup with processes, ENOTEMPTY. unlinkat(2).
pub fn rmdir_at(dir: impl AsFd, name: impl AsRef<Path>) -> Result<()> {
    let (dir, name) = (dir.as_fd(), name.as_ref());
    nix::unistd::unlinkat(dir, name, nix::unistd::UnlinkatFlags::RemoveDir)
        .or_call(|| format!("unlinkat({}, {name:?}, AT_REMOVEDIR)", raw::show_fd(dir)))
}

/// Reads where a symbolic link points.
///
/// Fails: EINVAL when it is none. readlinkat(2).
pub fn readlink_at(dir: impl AsFd, name: impl AsRef<Path>) -> Result<OsString> {
    let (dir, name) = (dir.as_fd(), name.as_ref());
    nix::fcntl::readlinkat(dir, name).or_call(|| format!("readlinkat({}, {name:?})", raw::show_fd(dir)))
}

/// Asks whether this process may write a file, or make names in a directory, as its effective ids.
///
/// An answer for a plan and for an error text only: what is then done is decided by the call that does it.
/// Fails: EACCES, EROFS when it may not; ENOENT. faccessat(2).
pub fn may_write(path: impl AsRef<Path>) -> Result<()> {
    let path = path.as_ref();
    nix::unistd::faccessat(CWD, path, nix::unistd::AccessFlags::W_OK, AtFlags::AT_EACCESS)
        .or_call(|| format!("faccessat(AT_FDCWD, {path:?}, W_OK, AT_EACCESS)"))
}

/// Gives the path through which this process's own procfs reaches a descriptor.
#[must_use]
pub fn proc_fd_path(fd: impl AsFd) -> PathBuf {
    PathBuf::from(format!("/proc/self/fd/{}", fd.as_fd().as_raw_fd()))
}

/// Reads what a descriptor refers to, as a path in this process's view; for messages, not for opening.
///
/// Needs: a procfs on /proc. proc_pid_fd(5).
pub fn fd_path(fd: impl AsFd) -> Result<PathBuf> {
    // Borrowed: a descriptor that was given away must stay open until it is asked about.
    readlink_at(CWD, proc_fd_path(fd.as_fd())).map(PathBuf::from)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn gaps_skip_what_is_kept() {
        let mut gaps = Vec::new();
        each_gap(3, &[9, 5, 3, 5, 1], |from, to| {
            gaps.push((from, to));
            Ok(())
        })
        .unwrap();
        assert_eq!(gaps, [(4, 4), (6, 8), (10, RawFd::MAX)]);
    }

    #[test]
    fn a_sealed_memfd_can_be_read_but_not_changed() {
        let fd = memfd_sealed("sealed", b"once").unwrap();
        assert_eq!(nix::unistd::write(&fd, b"x"), Err(Errno::EPERM));
        let again = open_path(proc_fd_path(&fd), O_RDONLY).unwrap();
        assert_eq!(read_all(&again).unwrap(), b"once");
        assert!(is_same_file(&fd, &again).unwrap());
    }

    #[test]
    fn a_failed_open_shows_the_call() {
        let error = open_path("/nonexistent", O_PATH | O_DIRECTORY).unwrap_err();
        assert_eq!(
            error.to_string(),
            "openat(AT_FDCWD, \"/nonexistent\", O_PATH|O_DIRECTORY) = ENOENT (No such file or directory)"
        );
    }

    #[test]
    fn a_duplicate_is_close_on_exec_and_above_stdio() {
        let fd = open_path("/", O_PATH).unwrap();
        let copy = dup_cloexec(&fd).unwrap();
        assert!(copy.as_raw_fd() > 2);
        assert_eq!(nix::fcntl::fcntl(&copy, FcntlArg::F_GETFD).unwrap(), libc::FD_CLOEXEC);
        clear_cloexec(&copy).unwrap();
        assert_eq!(nix::fcntl::fcntl(&copy, FcntlArg::F_GETFD).unwrap(), 0);
    }
}
