//! Being asked about every system call of a process, so that one of them can be made to fail. seccomp_unotify(2).
//!
//! For trying out code: [`ask`] in the process that is tried, [`crate::notify`] in the one that answers.

use libc::c_long;
use std::os::fd::{OwnedFd, RawFd};

use crate::error::Result;
use crate::seccomp::{AUDIT_ARCH, Instruction, RET_ALLOW, RET_USER_NOTIF, install_listener};

/// Calls that are never asked about. A failure of these says nothing about the code that makes them: the kernel gives
/// none, or memory, locks and signals are at stake, which belong to the allocator and the language's runtime.
const FREE: &[c_long] = &[
    libc::SYS_brk,
    libc::SYS_mmap,
    libc::SYS_munmap,
    libc::SYS_mremap,
    libc::SYS_mprotect,
    libc::SYS_madvise,
    libc::SYS_futex,
    libc::SYS_rt_sigaction,
    libc::SYS_rt_sigprocmask,
    libc::SYS_rt_sigreturn,
    libc::SYS_sigaltstack,
    libc::SYS_restart_syscall,
    // A map of the language draws from it and has no way to go on without.
    libc::SYS_getrandom,
    // It closes whatever it answers. close(2).
    libc::SYS_close,
    libc::SYS_exit,
    libc::SYS_exit_group,
    libc::SYS_sched_yield,
    libc::SYS_clock_gettime,
    libc::SYS_gettimeofday,
    // std takes any failure but EINTR for its own mistake.
    libc::SYS_nanosleep,
    libc::SYS_clock_nanosleep,
    libc::SYS_getpid,
    libc::SYS_gettid,
    libc::SYS_getppid,
    libc::SYS_getuid,
    libc::SYS_geteuid,
    libc::SYS_getgid,
    libc::SYS_getegid,
    libc::SYS_umask,
];

/// Calls on a socket, its descriptor first.
const OF_A_SOCKET: &[c_long] = &[libc::SYS_sendto, libc::SYS_recvfrom, libc::SYS_sendmsg, libc::SYS_recvmsg];

/// `BPF_LD | BPF_W | BPF_ABS`.
const LOAD: u16 = 0x20;
/// `BPF_JMP | BPF_JEQ | BPF_K`.
const IF_EQUAL: u16 = 0x15;
/// `BPF_RET | BPF_K`.
const RETURN: u16 = 0x06;
/// Offsets in `struct seccomp_data`; an argument's low half comes first on these machines.
const NUMBER: u32 = 0;
const ARCH: u32 = 4;
const FIRST_ARGUMENT: u32 = 16;

/// From here on every call of this process asks the listener that this gives, but those on `channel`, and those that
/// cannot fail or that memory depends on.
///
/// It cannot be undone. Since: 5.5. Needs: CAP_SYS_ADMIN or no_new_privs. Fails: EBUSY when a listener exists already.
pub fn ask(channel: RawFd) -> Result<OwnedFd> {
    install_listener(&program(channel), 0)
}

fn program(channel: RawFd) -> Vec<Instruction> {
    let op = |code, k| Instruction { code, jt: 0, jf: 0, k };
    let number = |call: c_long| u32::try_from(call).unwrap_or(u32::MAX);
    // Another calling convention is none of what is tried.
    let mut program = vec![op(LOAD, ARCH), Instruction { code: IF_EQUAL, jt: 1, jf: 0, k: AUDIT_ARCH }];
    program.extend([op(RETURN, RET_ALLOW), op(LOAD, NUMBER)]);
    for call in FREE {
        program.extend([Instruction { code: IF_EQUAL, jt: 0, jf: 1, k: number(*call) }, op(RETURN, RET_ALLOW)]);
    }
    for call in OF_A_SOCKET {
        program.extend([
            Instruction { code: IF_EQUAL, jt: 0, jf: 4, k: number(*call) },
            op(LOAD, FIRST_ARGUMENT),
            Instruction { code: IF_EQUAL, jt: 0, jf: 1, k: channel.cast_unsigned() },
            op(RETURN, RET_ALLOW),
            op(LOAD, NUMBER),
        ]);
    }
    program.push(op(RETURN, RET_USER_NOTIF));
    program
}

macro_rules! names {
    ($($name:ident: $number:ident,)*) => {
        const NAMES: &[(&str, c_long)] = &[$((stringify!($name), libc::$number),)*];
    };
}

names! {
    openat: SYS_openat, openat2: SYS_openat2, read: SYS_read, write: SYS_write, pread64: SYS_pread64,
    pwrite64: SYS_pwrite64, readv: SYS_readv, writev: SYS_writev, lseek: SYS_lseek, fstat: SYS_fstat,
    newfstatat: SYS_newfstatat, statx: SYS_statx, statfs: SYS_statfs, fstatfs: SYS_fstatfs,
    getdents64: SYS_getdents64, readlinkat: SYS_readlinkat, faccessat: SYS_faccessat, faccessat2: SYS_faccessat2,
    mkdirat: SYS_mkdirat, mknodat: SYS_mknodat, unlinkat: SYS_unlinkat, symlinkat: SYS_symlinkat,
    renameat2: SYS_renameat2, fchmod: SYS_fchmod, fchmodat: SYS_fchmodat, fchownat: SYS_fchownat,
    ftruncate: SYS_ftruncate, fcntl: SYS_fcntl, ioctl: SYS_ioctl, dup: SYS_dup, dup3: SYS_dup3,
    pipe2: SYS_pipe2, close_range: SYS_close_range, getcwd: SYS_getcwd, chdir: SYS_chdir, fchdir: SYS_fchdir,
    mount: SYS_mount, umount2: SYS_umount2, open_tree: SYS_open_tree, move_mount: SYS_move_mount,
    fsopen: SYS_fsopen, fsconfig: SYS_fsconfig, fsmount: SYS_fsmount, fspick: SYS_fspick,
    mount_setattr: SYS_mount_setattr, pivot_root: SYS_pivot_root, unshare: SYS_unshare, setns: SYS_setns,
    clone: SYS_clone, clone3: SYS_clone3, execve: SYS_execve, wait4: SYS_wait4, waitid: SYS_waitid,
    kill: SYS_kill, pidfd_open: SYS_pidfd_open, pidfd_getfd: SYS_pidfd_getfd, pidfd_send_signal: SYS_pidfd_send_signal,
    prctl: SYS_prctl, capget: SYS_capget, capset: SYS_capset, setuid: SYS_setuid, setgid: SYS_setgid,
    setresuid: SYS_setresuid, setresgid: SYS_setresgid, setgroups: SYS_setgroups, getgroups: SYS_getgroups,
    prlimit64: SYS_prlimit64, setpriority: SYS_setpriority, sched_setaffinity: SYS_sched_setaffinity,
    sched_getaffinity: SYS_sched_getaffinity, sethostname: SYS_sethostname, setdomainname: SYS_setdomainname,
    uname: SYS_uname, sysinfo: SYS_sysinfo, socket: SYS_socket, connect: SYS_connect, bind: SYS_bind,
    listen: SYS_listen, accept4: SYS_accept4, sendto: SYS_sendto, recvfrom: SYS_recvfrom, sendmsg: SYS_sendmsg,
    recvmsg: SYS_recvmsg, setsockopt: SYS_setsockopt, getsockopt: SYS_getsockopt, socketpair: SYS_socketpair,
    getsockname: SYS_getsockname, ppoll: SYS_ppoll, epoll_create1: SYS_epoll_create1, epoll_ctl: SYS_epoll_ctl,
    eventfd2: SYS_eventfd2, inotify_init1: SYS_inotify_init1, inotify_add_watch: SYS_inotify_add_watch,
    timerfd_create: SYS_timerfd_create, signalfd4: SYS_signalfd4, memfd_create: SYS_memfd_create, bpf: SYS_bpf,
    seccomp: SYS_seccomp, landlock_create_ruleset: SYS_landlock_create_ruleset,
    landlock_add_rule: SYS_landlock_add_rule, landlock_restrict_self: SYS_landlock_restrict_self, keyctl: SYS_keyctl,
    add_key: SYS_add_key, fgetxattr: SYS_fgetxattr, fsetxattr: SYS_fsetxattr, set_robust_list: SYS_set_robust_list,
    rseq: SYS_rseq, sync_file_range: SYS_sync_file_range, fsync: SYS_fsync, flock: SYS_flock,
}

#[cfg(target_arch = "x86_64")]
const OLD_NAMES: &[(&str, c_long)] = &[
    ("open", libc::SYS_open),
    ("stat", libc::SYS_stat),
    ("lstat", libc::SYS_lstat),
    ("access", libc::SYS_access),
    ("readlink", libc::SYS_readlink),
    ("mkdir", libc::SYS_mkdir),
    ("rmdir", libc::SYS_rmdir),
    ("unlink", libc::SYS_unlink),
    ("rename", libc::SYS_rename),
    ("symlink", libc::SYS_symlink),
    ("chmod", libc::SYS_chmod),
    ("chown", libc::SYS_chown),
    ("poll", libc::SYS_poll),
    ("pipe", libc::SYS_pipe),
    ("dup2", libc::SYS_dup2),
    ("fork", libc::SYS_fork),
    ("vfork", libc::SYS_vfork),
];
#[cfg(not(target_arch = "x86_64"))]
const OLD_NAMES: &[(&str, c_long)] = &[];

/// A call's name for a message, or its number.
#[must_use]
pub fn name(number: i32) -> String {
    let known = NAMES.iter().chain(OLD_NAMES).find(|(_, call)| *call == c_long::from(number));
    known.map_or_else(|| format!("system call {number}"), |(name, _)| (*name).to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_told() {
        assert_eq!(name(i32::try_from(libc::SYS_openat).unwrap()), "openat");
        assert_eq!(name(9999), "system call 9999");
    }

    /// The jumps of the program lead where they are meant to.
    #[test]
    fn the_program_ends_every_way_in_an_answer() {
        let program = program(5);
        for (at, instruction) in program.iter().enumerate().filter(|(_, i)| i.code == IF_EQUAL) {
            for jump in [instruction.jt, instruction.jf] {
                assert!(at + 1 + usize::from(jump) < program.len(), "{at}");
            }
        }
        assert_eq!(program.last().unwrap().k, RET_USER_NOTIF);
    }
}
