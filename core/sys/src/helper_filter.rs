//! The filter of a process that runs code which is not trusted with this process's rights: it computes, waits, and
//! answers on descriptors that it was given, and can do nothing else.

use libc::c_long;
use nix::errno::Errno;

use crate::error::{OrCall, Result};
use crate::init_filter::{ARCH, IF_EQUAL, IF_SET, LOAD, NUMBER, RETURN, branch, op};
use crate::seccomp::{AUDIT_ARCH, Instruction, RET_ALLOW, RET_ERRNO, RET_KILL_PROCESS};

/// What a listed call may do. An argument is looked at in its low half: these are ints to the kernel.
#[derive(Clone, Copy)]
enum Rule {
    /// Anything.
    Any,
    /// Nothing with one of these bits in the argument of this number.
    Without(u32, u32),
    /// Only with one of these values in the argument of this number.
    Among(u32, &'static [i32]),
    /// Only with the own process id as the first argument.
    Own,
}

/// What opens a file for more than reading.
const CHANGES: u32 = (libc::O_WRONLY | libc::O_RDWR | libc::O_CREAT | libc::O_TRUNC).cast_unsigned();

/// Not F_SETOWN and F_SETSIG, which have the kernel signal others.
const FCNTL: &[i32] =
    &[libc::F_DUPFD, libc::F_DUPFD_CLOEXEC, libc::F_GETFD, libc::F_SETFD, libc::F_GETFL, libc::F_SETFL];

/// The calls, most frequent first.
const CALLS: &[(c_long, Rule)] = &[
    // Requests, answers, and whatever it watches.
    (libc::SYS_ppoll, Rule::Any),
    #[cfg(target_arch = "x86_64")]
    (libc::SYS_poll, Rule::Any),
    (libc::SYS_recvfrom, Rule::Any),
    (libc::SYS_recvmsg, Rule::Any),
    (libc::SYS_sendto, Rule::Any),
    (libc::SYS_read, Rule::Any),
    (libc::SYS_write, Rule::Any),
    (libc::SYS_readv, Rule::Any),
    (libc::SYS_writev, Rule::Any),
    // Opening a library: which files may be read is Landlock's to say.
    (libc::SYS_openat, Rule::Without(2, CHANGES)),
    (libc::SYS_pread64, Rule::Any),
    (libc::SYS_lseek, Rule::Any),
    (libc::SYS_fstat, Rule::Any),
    (libc::SYS_newfstatat, Rule::Any),
    (libc::SYS_statx, Rule::Any),
    (libc::SYS_close, Rule::Any),
    // Memory, also of code: it is foreign code that runs here.
    (libc::SYS_mmap, Rule::Any),
    (libc::SYS_mprotect, Rule::Any),
    (libc::SYS_munmap, Rule::Any),
    (libc::SYS_mremap, Rule::Any),
    (libc::SYS_madvise, Rule::Any),
    (libc::SYS_brk, Rule::Any),
    (libc::SYS_futex, Rule::Any),
    (libc::SYS_getrandom, Rule::Any),
    // Time, and descriptors of its own that tell of it.
    (libc::SYS_clock_gettime, Rule::Any),
    (libc::SYS_clock_getres, Rule::Any),
    (libc::SYS_clock_nanosleep, Rule::Any),
    (libc::SYS_nanosleep, Rule::Any),
    (libc::SYS_gettimeofday, Rule::Any),
    (libc::SYS_timerfd_create, Rule::Any),
    (libc::SYS_timerfd_settime, Rule::Any),
    (libc::SYS_timerfd_gettime, Rule::Any),
    (libc::SYS_eventfd2, Rule::Any),
    (libc::SYS_pipe2, Rule::Any),
    (libc::SYS_epoll_create1, Rule::Any),
    (libc::SYS_epoll_ctl, Rule::Any),
    (libc::SYS_epoll_pwait, Rule::Any),
    #[cfg(target_arch = "x86_64")]
    (libc::SYS_epoll_wait, Rule::Any),
    (libc::SYS_dup, Rule::Any),
    (libc::SYS_dup3, Rule::Any),
    (libc::SYS_fcntl, Rule::Among(1, FCNTL)),
    // What it is; the last is how it ends itself by a signal.
    (libc::SYS_getpid, Rule::Any),
    (libc::SYS_gettid, Rule::Any),
    (libc::SYS_getuid, Rule::Any),
    (libc::SYS_geteuid, Rule::Any),
    (libc::SYS_getgid, Rule::Any),
    (libc::SYS_getegid, Rule::Any),
    (libc::SYS_uname, Rule::Any),
    (libc::SYS_sched_getaffinity, Rule::Any),
    // Its own limits, and nobody else's; it cannot raise them.
    (libc::SYS_prlimit64, Rule::Among(0, &[0])),
    (libc::SYS_sched_yield, Rule::Any),
    (libc::SYS_tgkill, Rule::Own),
    (libc::SYS_rt_sigaction, Rule::Any),
    (libc::SYS_rt_sigprocmask, Rule::Any),
    (libc::SYS_rt_sigreturn, Rule::Any),
    (libc::SYS_sigaltstack, Rule::Any),
    (libc::SYS_restart_syscall, Rule::Any),
    (libc::SYS_exit, Rule::Any),
    (libc::SYS_exit_group, Rule::Any),
];

/// Where the low half of an argument is in `struct seccomp_data`, on these machines.
const fn argument(number: u32) -> u32 {
    16 + number * 8
}

/// The instructions behind a call's number, the last of which answers.
fn rule(rule: Rule, own: u32) -> Vec<Instruction> {
    let (allow, refuse) = (op(RETURN, RET_ALLOW), op(RETURN, RET_ERRNO | libc::EPERM.cast_unsigned()));
    match rule {
        Rule::Any => vec![allow],
        Rule::Without(number, bits) => vec![op(LOAD, argument(number)), branch(IF_SET, bits, 0, 1), refuse, allow],
        Rule::Own => vec![op(LOAD, argument(0)), branch(IF_EQUAL, own, 0, 1), allow, refuse],
        Rule::Among(number, values) => {
            let each = values.iter().flat_map(|value| [branch(IF_EQUAL, value.cast_unsigned(), 0, 1), allow]);
            [op(LOAD, argument(number))].into_iter().chain(each).chain([refuse]).collect()
        }
    }
}

/// Writes the program: each call is a comparison with its answer behind it, so no jump is long.
fn program(own: u32) -> Vec<Instruction> {
    let mut program = vec![
        op(LOAD, ARCH),
        branch(IF_EQUAL, AUDIT_ARCH, 1, 0),
        // Another architecture's numbers mean other calls.
        op(RETURN, RET_KILL_PROCESS),
        op(LOAD, NUMBER),
    ];
    for (number, allowed) in CALLS {
        let answer = rule(*allowed, own);
        // What cannot be compared or jumped over is left out, which refuses it.
        let (Ok(number), Ok(length)) = (u32::try_from(*number), u8::try_from(answer.len())) else { continue };
        program.push(branch(IF_EQUAL, number, 0, length));
        program.extend(answer);
    }
    program.push(op(RETURN, RET_ERRNO | libc::EPERM.cast_unsigned()));
    program
}

/// Confines this process to the calls that a helper needs; all others give EPERM.
///
/// It cannot start a process or a thread, signal another process, make a socket or change a file; what it may read is
/// not said here. Needs: no_new_privs or CAP_SYS_ADMIN. seccomp(2).
pub fn confine_helper() -> Result<()> {
    let own = u32::try_from(crate::process::getpid()).map_err(|_e| Errno::EINVAL).or_call(|| "getpid()".to_owned())?;
    crate::seccomp::install_filter(&program(own), 0)
}

#[cfg(test)]
mod tests {
    use super::*;

    const OWN: u32 = 77;

    /// Runs the program as the kernel does, for one call.
    fn run(arch: u32, number: c_long, arguments: [i32; 3]) -> u32 {
        let program = program(OWN);
        let (mut at, mut word) = (0, 0);
        loop {
            let Instruction { code, jt, jf, k } = program[at];
            at += 1;
            match code {
                LOAD if k == NUMBER => word = u32::try_from(number).unwrap(),
                LOAD if k == ARCH => word = arch,
                LOAD => word = arguments[usize::try_from((k - 16) / 8).unwrap()].cast_unsigned(),
                RETURN => return k,
                _ => {
                    let holds = if code == IF_EQUAL { word == k } else { word & k != 0 };
                    at += usize::from(if holds { jt } else { jf });
                }
            }
        }
    }

    #[test]
    fn what_is_listed_is_allowed_and_nothing_else() {
        let refused = RET_ERRNO | libc::EPERM.cast_unsigned();
        let own = i32::try_from(OWN).unwrap();
        for (number, arguments, answer) in [
            (libc::SYS_read, [0, 0, 0], RET_ALLOW),
            (libc::SYS_openat, [0, 0, libc::O_RDONLY | libc::O_CLOEXEC], RET_ALLOW),
            (libc::SYS_openat, [0, 0, libc::O_WRONLY], refused),
            (libc::SYS_openat, [0, 0, libc::O_RDONLY | libc::O_CREAT], refused),
            (libc::SYS_tgkill, [own, own, 6], RET_ALLOW),
            (libc::SYS_tgkill, [1, 1, 9], refused),
            (libc::SYS_fcntl, [3, libc::F_GETFL, 0], RET_ALLOW),
            (libc::SYS_fcntl, [3, libc::F_SETOWN, 1], refused),
            (libc::SYS_exit_group, [0, 0, 0], RET_ALLOW),
            (libc::SYS_socket, [1, 1, 0], refused),
            (libc::SYS_kill, [1, 9, 0], refused),
            (libc::SYS_clone, [0, 0, 0], refused),
            (libc::SYS_execve, [0, 0, 0], refused),
            (libc::SYS_prctl, [0, 0, 0], refused),
            (libc::SYS_ptrace, [0, 0, 0], refused),
            (libc::SYS_prlimit64, [0, 0, 0], RET_ALLOW),
            (libc::SYS_prlimit64, [own, 0, 0], refused),
        ] {
            assert_eq!(run(AUDIT_ARCH, number, arguments), answer, "{number} {arguments:?}");
        }
        assert_eq!(run(0x4000_0003, libc::SYS_read, [0; 3]), RET_KILL_PROCESS);
    }
}
