//! The mount tree, by descriptor: clone, attach, change, pivot.

use std::ffi::{CString, c_char};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use nix::errno::Errno;
use nix::mount::{MntFlags, MsFlags};

use crate::error::{Error, OrCall, Result};
use crate::{fd, raw};

pub use crate::fscontext::Fs;
pub use crate::mount_flags::{MountAttr, MountFlags, Propagation};

const OPEN_TREE_CLONE: i32 = 1;
const MOVE_MOUNT_F_EMPTY_PATH: i32 = 0x04;
const MOVE_MOUNT_T_EMPTY_PATH: i32 = 0x40;

/// `struct mount_attr` of mount_setattr(2).
#[repr(C)]
struct RawAttr {
    set: u64,
    clear: u64,
    propagation: u64,
    userns_fd: u64,
}

/// Clones the mount at a path into a detached one that only the descriptor holds.
///
/// Since: 5.2. Needs: CAP_SYS_ADMIN in the mount namespace's user namespace. Fails: EINVAL for a
/// non-recursive clone of a tree with locked mounts below it. open_tree(2).
pub fn open_tree_clone(dir: impl AsFd, path: impl AsRef<Path>, recursive: bool) -> Result<OwnedFd> {
    open_tree(dir.as_fd(), path.as_ref(), recursive)
}

/// Clones what a descriptor refers to into a detached mount.
///
/// Since: 5.2. Needs and Fails: as [`open_tree_clone`].
pub fn open_tree_fd(fd: impl AsFd, recursive: bool) -> Result<OwnedFd> {
    open_tree(fd.as_fd(), Path::new(""), recursive)
}

fn open_tree(dir: BorrowedFd<'_>, path: &Path, recursive: bool) -> Result<OwnedFd> {
    let call = || {
        let shown = if recursive { "|AT_RECURSIVE" } else { "" };
        format!("open_tree({}, {path:?}, OPEN_TREE_CLONE{shown})", raw::show_fd(dir))
    };
    let name = c_path(path).or_call(call)?;
    let mut flags = OPEN_TREE_CLONE | libc::O_CLOEXEC;
    if path.as_os_str().is_empty() {
        flags |= libc::AT_EMPTY_PATH;
    }
    if recursive {
        flags |= libc::AT_RECURSIVE;
    }
    let args = [raw::fd(dir), raw::ptr(name.as_ptr()), raw::int(flags), 0, 0];
    // SAFETY: `name` ends in NUL and outlives the call; upheld by CString; else the kernel reads past it.
    let new = unsafe { raw::syscall(libc::SYS_open_tree, args) }.and_then(raw::small).or_call(call)?;
    // SAFETY: `new` is open and nobody else's; upheld by the kernel, which has just made it; else two owners close it.
    Ok(unsafe { OwnedFd::from_raw_fd(new) })
}

/// Attaches a mount at the very file that a descriptor refers to; no path is resolved.
///
/// Since: 5.2. Needs: CAP_SYS_ADMIN in the mount namespace's user namespace. Fails: EINVAL when the
/// target lies in another mount namespace, ENOTDIR when one is a directory and the other is not.
/// move_mount(2).
pub fn move_mount_onto(mount: impl AsFd, target: impl AsFd) -> Result<()> {
    let (mount, target) = (mount.as_fd(), target.as_fd());
    let empty = c"";
    let flags = MOVE_MOUNT_F_EMPTY_PATH | MOVE_MOUNT_T_EMPTY_PATH;
    let args = [raw::fd(mount), raw::ptr(empty.as_ptr()), raw::fd(target), raw::ptr(empty.as_ptr()), raw::int(flags)];
    // SAFETY: both paths are static and end in NUL; upheld by the literal; else the kernel reads past them.
    unsafe { raw::syscall(libc::SYS_move_mount, args) }.map(drop).or_call(|| {
        let (mount, target) = (raw::show_fd(mount), raw::show_fd(target));
        format!("move_mount({mount}, \"\", {target}, \"\", F_EMPTY_PATH|T_EMPTY_PATH)")
    })
}

/// Attaches a mount at a name in a directory; as the last component a symbolic link is not followed.
///
/// For directories that nobody else can write: the name is looked up here, so there is no descriptor in
/// between that would hold it. Fails: EINVAL for a name with a slash; else as [`move_mount_onto`].
/// move_mount(2).
pub fn move_mount_at(mount: impl AsFd, dir: impl AsFd, name: &str) -> Result<()> {
    let (mount, dir) = (mount.as_fd(), dir.as_fd());
    let call = || format!("move_mount({}, \"\", {}, {name:?}, F_EMPTY_PATH)", raw::show_fd(mount), raw::show_fd(dir));
    if name.contains('/') {
        return Err(Error::new(Errno::EINVAL, call()));
    }
    let c_name = c_path(Path::new(name)).or_call(call)?;
    let flags = raw::int(MOVE_MOUNT_F_EMPTY_PATH);
    let args = [raw::fd(mount), raw::ptr(c"".as_ptr()), raw::fd(dir), raw::ptr(c_name.as_ptr()), flags];
    // SAFETY: both paths end in NUL and outlive the call; upheld by the literal and CString; else the kernel reads past them.
    unsafe { raw::syscall(libc::SYS_move_mount, args) }.map(drop).or_call(call)
}

/// Changes flags and propagation of the mount that a descriptor refers to, with all below it if asked.
///
/// Since: 5.12; before that one mount that is attached already is changed by a remount through
/// /proc/self/fd, and a recursive change is refused. Needs: CAP_SYS_ADMIN in the mount namespace's
/// user namespace. Fails: EPERM when a flag is locked, EINVAL when the descriptor is no mount's root.
/// mount_setattr(2).
pub fn set_attr(fd: impl AsFd, recursive: bool, attr: MountAttr) -> Result<()> {
    let fd = fd.as_fd();
    let call = || {
        let shown = if recursive { "AT_EMPTY_PATH|AT_RECURSIVE" } else { "AT_EMPTY_PATH" };
        format!("mount_setattr({}, \"\", {shown}, {{{attr}}})", raw::show_fd(fd))
    };
    let (set, clear) = attr.words();
    let propagation = attr.propagation.map_or(0, Propagation::bits);
    let wire = RawAttr { set, clear, propagation, userns_fd: 0 };
    let flags = libc::AT_EMPTY_PATH | if recursive { libc::AT_RECURSIVE } else { 0 };
    let args = [raw::fd(fd), raw::ptr(c"".as_ptr()), raw::int(flags), raw::ptr(&raw const wire), size_of::<RawAttr>()];
    // SAFETY: the path is static and `wire` is the kernel's version 0 struct of the size given; upheld by the literal and repr(C); else the kernel reads past them.
    match unsafe { raw::syscall(libc::SYS_mount_setattr, args) } {
        // KERNEL(5.12): 5.10 does not know the call.
        Err(Errno::ENOSYS) if !recursive => remount(fd, attr),
        other => other.map(drop).or_call(call),
    }
}

/// Has a mount that is attached nowhere yet, with all below it if asked, show the ids of its files through the map of a
/// user namespace: what the files' owner is inside it is outside it who they are shown to belong to.
///
/// Since: 5.12 (ext4, vfat; xfs 5.15, btrfs 5.15, overlay 5.19, tmpfs 6.3). Needs: CAP_SYS_ADMIN in the user namespace
/// that the file system was mounted in. Fails: EINVAL when its type cannot, EPERM when the mount has a map already.
/// mount_setattr(2).
pub fn set_idmap(fd: impl AsFd, recursive: bool, user_namespace: impl AsFd) -> Result<()> {
    const MOUNT_ATTR_IDMAP: u64 = 0x0010_0000;
    let (fd, user) = (fd.as_fd(), user_namespace.as_fd());
    let userns_fd = u64::from(user.as_raw_fd().cast_unsigned());
    let wire = RawAttr { set: MOUNT_ATTR_IDMAP, clear: 0, propagation: 0, userns_fd };
    let flags = libc::AT_EMPTY_PATH | if recursive { libc::AT_RECURSIVE } else { 0 };
    let args = [raw::fd(fd), raw::ptr(c"".as_ptr()), raw::int(flags), raw::ptr(&raw const wire), size_of::<RawAttr>()];
    // SAFETY: the path is static and `wire` is the kernel's version 0 struct of the size given; upheld by the literal and repr(C); else the kernel reads past them.
    unsafe { raw::syscall(libc::SYS_mount_setattr, args) }.map(drop).or_call(|| {
        let shown = if recursive { "AT_EMPTY_PATH|AT_RECURSIVE" } else { "AT_EMPTY_PATH" };
        format!("mount_setattr({}, \"\", {shown}, {{set: [idmap], userns_fd: {}}})", raw::show_fd(fd), user.as_raw_fd())
    })
}

/// Does what `set_attr` wants to one attached mount, the way it was done before 5.12.
fn remount(fd: BorrowedFd<'_>, attr: MountAttr) -> Result<()> {
    let path = fd::proc_fd_path(fd);
    let mount = |flags: MsFlags| {
        nix::mount::mount(None::<&str>, &path, None::<&str>, flags, None::<&str>)
            .or_call(|| format!("mount(NULL, {}, NULL, {flags:?}, NULL)", raw::show_fd(fd)))
    };
    if let Some(propagation) = attr.propagation {
        mount(MsFlags::from_bits_retain(propagation.bits()))?;
    }
    if attr.set.is_empty() && attr.clear.is_empty() {
        return Ok(());
    }
    // A remount states all flags anew, so those that stay must be said again; in a user namespace
    // leaving out a locked one is EPERM.
    let kept = MountFlags::from_statfs(statfs_flags(fd)?).without(attr.clear);
    mount(MsFlags::MS_BIND | MsFlags::MS_REMOUNT | kept.with(attr.set).as_ms())
}

/// Makes every mount of this namespace private, so that nothing done here reaches the host.
///
/// Needs: CAP_SYS_ADMIN in the mount namespace's user namespace. mount(2).
pub fn make_private_recursive() -> Result<()> {
    let flags = MsFlags::MS_REC | MsFlags::MS_PRIVATE;
    nix::mount::mount(None::<&str>, "/", None::<&str>, flags, None::<&str>)
        .or_call(|| "mount(NULL, \"/\", NULL, MS_REC|MS_PRIVATE, NULL)".to_owned())
}

/// Makes a mount the root of this mount namespace and drops the old root with all below it.
///
/// The old root is stacked on the new one for a moment, so no directory is needed to put it in. The
/// working directory is `/` afterwards. Needs: CAP_SYS_ADMIN in the mount namespace's user namespace,
/// and a private tree. Fails: EINVAL when the descriptor is no mount's root (EBUSY below the present
/// root's own mount) or a parent is shared.
/// pivot_root(2).
pub fn pivot_root_into(new_root: impl AsFd) -> Result<()> {
    let new_root = new_root.as_fd();
    let shown = raw::show_fd(new_root);
    nix::unistd::fchdir(new_root).or_call(|| format!("fchdir({shown})"))?;
    nix::unistd::pivot_root(".", ".").or_call(|| format!("pivot_root(\".\", \".\") in {shown}"))?;
    nix::mount::umount2(".", MntFlags::MNT_DETACH).or_call(|| "umount2(\".\", MNT_DETACH)".to_owned())?;
    chdir("/")
}

/// Detaches the mount that a descriptor is the root of, with all below it; of several on it the uppermost.
///
/// The working directory is `/` afterwards. Needs: CAP_SYS_ADMIN in the mount namespace's user namespace. Fails:
/// EINVAL when the descriptor is no mount's root or the mount is locked.
/// umount2(2).
pub fn detach(mount: impl AsFd) -> Result<()> {
    let mount = mount.as_fd();
    let shown = raw::show_fd(mount);
    nix::unistd::fchdir(mount).or_call(|| format!("fchdir({shown})"))?;
    nix::mount::umount2(".", MntFlags::MNT_DETACH).or_call(|| format!("umount2(\".\", MNT_DETACH) in {shown}"))?;
    chdir("/")
}

/// Changes the working directory.
///
/// Fails: EACCES, ENOENT, ENOTDIR. chdir(2).
pub fn chdir(path: impl AsRef<Path>) -> Result<()> {
    let path = path.as_ref();
    nix::unistd::chdir(path).or_call(|| format!("chdir({path:?})"))
}

/// Changes the working directory to an open directory.
///
/// Fails: EACCES, ENOTDIR. fchdir(2).
pub fn fchdir(dir: impl AsFd) -> Result<()> {
    let dir = dir.as_fd();
    nix::unistd::fchdir(dir).or_call(|| format!("fchdir({})", raw::show_fd(dir)))
}

/// Says whether the working directory lies inside this process's root.
///
/// A directory fd that leaked from the host can be entered through /proc/self/fd and is then outside
/// (CVE-2024-21626); the kernel shows that as a path that begins with `(unreachable)`. Fails: ENOENT
/// when the directory was removed. getcwd(2).
pub fn cwd_is_inside() -> Result<bool> {
    let mut buffer = [0_u8; 4096];
    let args = [raw::ptr(buffer.as_mut_ptr()), buffer.len(), 0, 0, 0];
    // SAFETY: the buffer is writable and of the length given; upheld by the array; else the kernel writes past it.
    unsafe { raw::syscall(libc::SYS_getcwd, args) }.or_call(|| "getcwd()".to_owned())?;
    Ok(buffer[0] == b'/')
}

/// Detaches a mount and all below it from the tree at once; it ends when its last user does.
///
/// Needs: CAP_SYS_ADMIN in the mount namespace's user namespace. Fails: EINVAL when the path is no
/// mount point or is locked. umount2(2).
pub fn umount_detach(path: impl AsRef<Path>) -> Result<()> {
    let path = path.as_ref();
    nix::mount::umount2(path, MntFlags::MNT_DETACH | MntFlags::UMOUNT_NOFOLLOW)
        .or_call(|| format!("umount2({path:?}, MNT_DETACH|UMOUNT_NOFOLLOW)"))
}

fn statfs(fd: BorrowedFd<'_>) -> Result<libc::statfs> {
    let mut out = std::mem::MaybeUninit::<libc::statfs>::uninit();
    // SAFETY: `out` has room for the struct; upheld by its type; else the kernel writes past it.
    let ret = unsafe { libc::fstatfs(fd.as_raw_fd(), out.as_mut_ptr()) };
    Errno::result(ret).or_call(|| format!("fstatfs({})", raw::show_fd(fd)))?;
    // SAFETY: the struct is filled; upheld by the kernel, which said so with 0; else its fields are rubbish.
    Ok(unsafe { out.assume_init() })
}

/// Reads the type of the file system that holds a file, as a magic number of linux/magic.h.
///
/// statfs(2).
pub fn statfs_type(fd: impl AsFd) -> Result<i64> {
    Ok(statfs(fd.as_fd())?.f_type)
}

/// How much a file system holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Room {
    /// Bytes in all.
    pub bytes: u64,
    /// Files in all; 0 where it makes as many as are wanted.
    pub files: u64,
}

/// Reads how much the file system that holds a file can hold.
///
/// statfs(2).
pub fn room(fd: impl AsFd) -> Result<Room> {
    let out = statfs(fd.as_fd())?;
    let block = u64::try_from(out.f_bsize).unwrap_or(0);
    Ok(Room { bytes: out.f_blocks.saturating_mul(block), files: out.f_files })
}

/// Reads the flags (`ST_*`) of the mount that holds a file, as the kernel applies them.
///
/// statfs(2).
pub fn statfs_flags(fd: impl AsFd) -> Result<u64> {
    let fd = fd.as_fd();
    let mut out = std::mem::MaybeUninit::<libc::statvfs>::uninit();
    // SAFETY: `out` has room for the struct; upheld by its type; else the C library writes past it.
    let ret = unsafe { libc::fstatvfs(fd.as_raw_fd(), out.as_mut_ptr()) };
    Errno::result(ret).or_call(|| format!("fstatvfs({})", raw::show_fd(fd)))?;
    // SAFETY: the struct is filled; upheld by the C library, which said so with 0; else its fields are rubbish.
    Ok(unsafe { out.assume_init() }.f_flag)
}

/// Reads the mount's flags, for a check that what was set is in force.
///
/// Since: 5.10 for `nosymfollow`. statfs(2).
pub fn flags_of(fd: impl AsFd) -> Result<MountFlags> {
    statfs_flags(fd).map(MountFlags::from_statfs)
}

/// Reads the id of the mount that holds a file, as /proc/self/mountinfo shows it.
///
/// Since: 5.8. statx(2).
pub fn mount_id(fd: impl AsFd) -> Result<u64> {
    const STATX_MNT_ID: u32 = 0x1000;
    let fd = fd.as_fd();
    let call = || format!("statx({}, \"\", AT_EMPTY_PATH, STATX_MNT_ID)", raw::show_fd(fd));
    let mut out = std::mem::MaybeUninit::<libc::statx>::zeroed();
    let path: *const c_char = c"".as_ptr();
    // SAFETY: the path is static and `out` has room for the struct; upheld by the literal and its type; else the kernel writes past it.
    let ret = unsafe { libc::statx(fd.as_raw_fd(), path, libc::AT_EMPTY_PATH, STATX_MNT_ID, out.as_mut_ptr()) };
    Errno::result(ret).or_call(call)?;
    // SAFETY: all-zero is a valid value of this plain struct; upheld by `zeroed` above; else a field is read uninitialised.
    let out = unsafe { out.assume_init() };
    if out.stx_mask & STATX_MNT_ID == 0 {
        return Err(Error::new(Errno::ENOSYS, call()).with_hint("mount ids need Linux 5.8"));
    }
    Ok(out.stx_mnt_id)
}

fn c_path(path: &Path) -> nix::Result<CString> {
    CString::new(path.as_os_str().as_bytes()).map_err(|_e| Errno::EINVAL)
}
