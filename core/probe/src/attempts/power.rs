//! Power over mounts, namespaces, clocks and the machine: calls that are wrong on purpose, so that the errno tells
//! whether the power is there.

use super::*;
use palisade_sys::attempt::Arg::{In, Int, Null, Out};

table! {
    "fs-remount-check" High ["USR and CAP_SYS_ADMIN; SEC; LL1"] "remount what is no mount point", "CAP_SYS_ADMIN", "it is no mount point"
        => |s| held(&[Errno::EINVAL], Call::MOUNT, [Null, In(&place(s)?), Null, Int(REMOUNT_BIND_RDONLY), Null]);
    "fs-umount-check" High ["CAP_SYS_ADMIN; SEC; LL1"] "unmount what is no mount point", "CAP_SYS_ADMIN", "it is no mount point"
        => |s| held(&[Errno::EINVAL], Call::UMOUNT, [In(&place(s)?), Int(0)]);
    "fs-pivot-check" High ["CAP_SYS_ADMIN; SEC; LL1"] "change the root to what is no mount point", "CAP_SYS_ADMIN", "it cannot succeed"
        => |s| held(&[Errno::EINVAL, Errno::EBUSY], Call::PIVOT_ROOT, [In(&place(s)?), In(&place_again(s))]);
    "fs-chroot" Medium ["CAP_SYS_CHROOT; SEC; Landlock does not"] "change the root directory", "CAP_SYS_CHROOT", "only the attempt's own process"
        => |s| gave(Call::CHROOT, [In(&place(s)?)]);
    "fs-fsopen" Medium ["CAP_SYS_ADMIN; SEC; Landlock does not"] "begin a new file system", "Linux 5.2, CAP_SYS_ADMIN", "nothing is mounted"
        => |_| gave(Call::FSOPEN, [In(b"tmpfs\0"), Int(0)]);
    "fs-open-tree-clone" Medium ["CAP_SYS_ADMIN; SEC"] "copy the mount tree, not attached", "Linux 5.2, CAP_SYS_ADMIN", "it goes with the descriptor"
        => |_| gave(Call::OPEN_TREE, [Int(-100), In(b"/\0"), Int(CLONE_RECURSIVE)]);
    "fs-mount-tmpfs" High ["CAP_SYS_ADMIN; SEC; LL1"] "mount a tmpfs with a wrong option", "CAP_SYS_ADMIN", "the option is refused"
        => |s| held(&[Errno::EINVAL], Call::MOUNT, [In(b"none\0"), In(&place(s)?), In(b"tmpfs\0"), Int(0), In(b"size=x\0")]);
    "ks-kexec" Critical ["CAP_SYS_BOOT; SEC"] "load another kernel, with a wrong count and wrong flags", "CONFIG_KEXEC, CAP_SYS_BOOT", "both are refused before anything is loaded"
        => |_| held(&[Errno::EINVAL], Call::KEXEC_LOAD, [Int(0), Int(17), Null, Int(0xffff_ffff)]);
    "ks-init-module" Critical ["CAP_SYS_MODULE; SEC"] "load a module of no bytes", "CONFIG_MODULES, CAP_SYS_MODULE", "there is nothing to load"
        => |_| held(&[Errno::ENOEXEC, Errno::EFAULT], Call::INIT_MODULE, [Null, Int(0), In(b"\0")]);
    "ks-finit-module" Critical ["CAP_SYS_MODULE; SEC"] "load a module from no file", "CONFIG_MODULES, CAP_SYS_MODULE", "the descriptor is wrong"
        => |_| held(&[Errno::EBADF], Call::FINIT_MODULE, [Int(-1), In(b"\0"), Int(0)]);
    "ks-delete-module" High ["CAP_SYS_MODULE; SEC"] "unload a module that is not there", "CONFIG_MODULES, CAP_SYS_MODULE", "there is no such module"
        => |_| held(&[Errno::ENOENT], Call::DELETE_MODULE, [In(b"palisade_none\0"), Int(NONBLOCK)]);
    "ks-acct" High ["CAP_SYS_PACCT in the first user namespace; SEC"] "write process accounting to a file that is not there", "CONFIG_BSD_PROCESS_ACCT, CAP_SYS_PACCT", "there is no such file"
        => |_| held(&[Errno::ENOENT], Call::ACCT, [In(b"/palisade-none\0")]);
    "ks-swapon" High ["CAP_SYS_ADMIN in the first user namespace; SEC"] "swap to a file that is not there", "CAP_SYS_ADMIN", "there is no such file"
        => |_| held(&[Errno::ENOENT], Call::SWAPON, [In(b"/palisade-none\0"), Int(0)]);
    "ks-swapoff" High ["CAP_SYS_ADMIN in the first user namespace; SEC"] "end swapping to a file that is not there", "CAP_SYS_ADMIN", "there is no such file"
        => |_| held(&[Errno::ENOENT], Call::SWAPOFF, [In(b"/palisade-none\0")]);
    "ks-reboot" Critical ["CAP_SYS_BOOT; SEC"] "reboot, with the wrong magic numbers", "CAP_SYS_BOOT", "the wrong numbers can never reboot"
        => |_| held(&[Errno::EINVAL], Call::REBOOT, [Int(1), Int(0), Int(0), Null]);
    "ks-settime" High ["CAP_SYS_TIME in the first user namespace; SEC"] "set the clock to nothing", "CAP_SYS_TIME", "no time is given"
        => |_| gave(Call::SETTIMEOFDAY, [Null, Null]);
    "ks-clock-adjtime" High ["CAP_SYS_TIME in the first user namespace; SEC"] "tune the clock to a value that is out of range", "CAP_SYS_TIME", "the value is refused"
        => |_| held(&[Errno::EINVAL], Call::CLOCK_ADJTIME, [Int(0), Out(&mut adjust_tick())]);
    "ks-sethostname" Medium ["UTS; CAP_SYS_ADMIN; SEC"] "set a host name of less than no letters", "CAP_SYS_ADMIN", "the length is refused"
        => |_| held(&[Errno::EINVAL], Call::SETHOSTNAME, [In(b"x"), Int(-1)]);
    "ks-iopl" Critical ["CAP_SYS_RAWIO; SEC"] "raise the I/O privilege", "x86, CONFIG_X86_IOPL_IOPERM, CAP_SYS_RAWIO", "no port is touched"
        => |_| iopl();
    "ks-ioperm" Critical ["CAP_SYS_RAWIO; SEC"] "ask for a port", "x86, CONFIG_X86_IOPL_IOPERM, CAP_SYS_RAWIO", "no port is touched"
        => |_| ioperm();
    "ks-userns-nest" High ["SEC; user.max_user_namespaces"] "make a user namespace inside", "", "only the attempt's own process"
        => |_| gave(Call::UNSHARE, [Int(NEWUSER)]);
    "ks-ns-nest-all" High ["SEC; user.max_user_namespaces"] "gain all capabilities and other namespaces by one", "", "only the attempt's own process"
        => |_| gave(Call::UNSHARE, [Int(NEWUSER | 0x2_0000 | NEWNET | 0x2000_0000)]);
    "ks-netns" Medium ["CAP_SYS_ADMIN; SEC"] "make a network namespace inside", "CAP_SYS_ADMIN", "only the attempt's own process"
        => |_| gave(Call::UNSHARE, [Int(NEWNET)]);
    "ks-setns-own" Medium ["CAP_SYS_ADMIN; SEC"] "join a namespace", "CAP_SYS_ADMIN", "it is the one where it is already"
        => setns_own;
}

const REMOUNT_BIND_RDONLY: i64 = 32 | 4096 | 1;
const CLONE_RECURSIVE: i64 = 1 | 0x8000;
const NONBLOCK: i64 = 0o4000;
const NEWUSER: i64 = 0x1000_0000;
const NEWNET: i64 = 0x4000_0000;

fn place(scene: &Scene) -> Result<Vec<u8>, Stop> {
    Ok(bytes(scratch(scene)?))
}

fn place_again(scene: &Scene) -> Vec<u8> {
    bytes(scratch_of(scene, palisade_sys::process::getpid()))
}

/// `struct timex` with ADJ_TICK and a tick of 0.
fn adjust_tick() -> [u8; 256] {
    let mut words = [0; 256];
    words[1] = 0x40;
    words
}

#[cfg(target_arch = "x86_64")]
fn iopl() -> Tried {
    gave(Call::IOPL, [Int(3)])
}

#[cfg(target_arch = "x86_64")]
fn ioperm() -> Tried {
    gave(Call::IOPERM, [Int(0x80), Int(1), Int(1)])
}

#[cfg(not(target_arch = "x86_64"))]
fn iopl() -> Tried {
    Err(Errno::ENOSYS.into())
}

#[cfg(not(target_arch = "x86_64"))]
fn ioperm() -> Tried {
    Err(Errno::ENOSYS.into())
}

fn setns_own(_: &Scene) -> Tried {
    let own = File::open("/proc/self/ns/net")?;
    gave(Call::SETNS, [Int(i64::from(std::os::fd::AsRawFd::as_raw_fd(&own))), Int(0)])
}
