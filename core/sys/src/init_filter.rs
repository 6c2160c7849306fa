//! The filter of palisade's own pid 1: it waits, reaps, forwards signals and reports, and can do
//! nothing else, whatever the workload sends it.

use libc::c_long;

use crate::error::Result;
use crate::seccomp::{
    AUDIT_ARCH, FLAG_SPEC_ALLOW, Instruction, RET_ALLOW, RET_ERRNO, RET_KILL_PROCESS, install_filter,
};

/// What a listed call may do.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Rule {
    /// Anything.
    Allow,
    /// Anything but executable memory; its third argument is the protection.
    NoExec,
}

/// The calls, most frequent first.
const CALLS: &[(c_long, Rule)] = &[
    // Waiting for signals, the workload and the launcher.
    (libc::SYS_ppoll, Rule::Allow),
    #[cfg(target_arch = "x86_64")]
    (libc::SYS_poll, Rule::Allow),
    // The signalfd, the pipe to the launcher.
    (libc::SYS_read, Rule::Allow),
    // Reporting over a pipe.
    (libc::SYS_write, Rule::Allow),
    // Reporting over the channel; no new socket can be made, so the peer is the launcher.
    (libc::SYS_sendto, Rule::Allow),
    (libc::SYS_recvfrom, Rule::Allow),
    // Reaping, with usage.
    (libc::SYS_waitid, Rule::Allow),
    (libc::SYS_wait4, Rule::Allow),
    // Forwarding a signal; this pid namespace holds nothing but the workload.
    (libc::SYS_kill, Rule::Allow),
    (libc::SYS_pidfd_send_signal, Rule::Allow),
    // Dropping descriptors when the workload has ended.
    (libc::SYS_close, Rule::Allow),
    // Signal masks and handlers of its own, and the return from one.
    (libc::SYS_rt_sigprocmask, Rule::Allow),
    (libc::SYS_rt_sigaction, Rule::Allow),
    (libc::SYS_rt_sigreturn, Rule::Allow),
    (libc::SYS_rt_sigpending, Rule::Allow),
    (libc::SYS_rt_sigtimedwait, Rule::Allow),
    (libc::SYS_rt_sigsuspend, Rule::Allow),
    // The kernel's own, after a stop.
    (libc::SYS_restart_syscall, Rule::Allow),
    // Telling itself from its child.
    (libc::SYS_getpid, Rule::Allow),
    (libc::SYS_gettid, Rule::Allow),
    // Time, where the vDSO cannot answer.
    (libc::SYS_clock_gettime, Rule::Allow),
    (libc::SYS_clock_nanosleep, Rule::Allow),
    // Locks of the C library and of std; with one thread they never wait.
    (libc::SYS_futex, Rule::Allow),
    // Memory for malloc, never executable.
    (libc::SYS_brk, Rule::Allow),
    (libc::SYS_munmap, Rule::Allow),
    (libc::SYS_madvise, Rule::Allow),
    (libc::SYS_mremap, Rule::Allow),
    (libc::SYS_mmap, Rule::NoExec),
    (libc::SYS_mprotect, Rule::NoExec),
    // The end; std takes its signal stack down first.
    (libc::SYS_sigaltstack, Rule::Allow),
    (libc::SYS_exit, Rule::Allow),
    (libc::SYS_exit_group, Rule::Allow),
];

/// `BPF_LD | BPF_W | BPF_ABS`.
const LOAD: u16 = 0x20;
/// `BPF_JMP | BPF_JEQ | BPF_K`.
const IF_EQUAL: u16 = 0x15;
/// `BPF_JMP | BPF_JSET | BPF_K`.
const IF_SET: u16 = 0x45;
/// `BPF_RET | BPF_K`.
const RETURN: u16 = 0x06;
/// Offsets in `struct seccomp_data`; an argument's low half comes first on these machines.
const NUMBER: u32 = 0;
const ARCH: u32 = 4;
const THIRD_ARGUMENT: u32 = 16 + 2 * 8;

const fn op(code: u16, k: u32) -> Instruction {
    Instruction { code, jt: 0, jf: 0, k }
}

const fn branch(code: u16, k: u32, jt: u8, jf: u8) -> Instruction {
    Instruction { code, jt, jf, k }
}

/// Writes the program: each call is a comparison with its answer behind it, so no jump is long.
fn program() -> Vec<Instruction> {
    let mut program = vec![
        op(LOAD, ARCH),
        branch(IF_EQUAL, AUDIT_ARCH, 1, 0),
        // Another architecture's numbers mean other calls.
        op(RETURN, RET_KILL_PROCESS),
        op(LOAD, NUMBER),
    ];
    let refuse = RET_ERRNO | libc::EPERM.cast_unsigned();
    for (number, rule) in CALLS {
        // A number that is no u32 cannot be compared; leaving it out refuses it.
        let Ok(number) = u32::try_from(*number) else { continue };
        match rule {
            Rule::Allow => program.extend([branch(IF_EQUAL, number, 0, 1), op(RETURN, RET_ALLOW)]),
            Rule::NoExec => program.extend([
                branch(IF_EQUAL, number, 0, 4),
                op(LOAD, THIRD_ARGUMENT),
                branch(IF_SET, libc::PROT_EXEC.cast_unsigned(), 0, 1),
                op(RETURN, refuse),
                op(RETURN, RET_ALLOW),
            ]),
        }
    }
    program.push(op(RETURN, refuse));
    program
}

/// Confines this process, palisade's own init, to the calls that it needs; all others give EPERM.
///
/// Needs: no_new_privs or CAP_SYS_ADMIN. Nothing can be opened, executed or cloned afterwards.
/// seccomp(2).
pub fn confine_init() -> Result<()> {
    // The init runs no untrusted code, so it need not pay for the speculation barrier.
    install_filter(&program(), FLAG_SPEC_ALLOW)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Runs the program as the kernel does, for one call.
    fn run(arch: u32, number: u32, third: u32) -> u32 {
        let program = program();
        let (mut at, mut word) = (0, 0);
        loop {
            let Instruction { code, jt, jf, k } = program[at];
            at += 1;
            match code {
                LOAD => {
                    word = [(NUMBER, number), (ARCH, arch), (THIRD_ARGUMENT, third)]
                        .iter()
                        .find(|(o, _)| *o == k)
                        .unwrap()
                        .1
                }
                IF_EQUAL => at += usize::from(if word == k { jt } else { jf }),
                IF_SET => at += usize::from(if word & k != 0 { jt } else { jf }),
                RETURN => return k,
                _ => unreachable!(),
            }
        }
    }

    #[test]
    fn listed_calls_pass_and_others_do_not() {
        let refuse = RET_ERRNO | libc::EPERM.cast_unsigned();
        let number = |call: c_long| u32::try_from(call).unwrap();
        for (call, rule) in CALLS {
            assert_eq!(run(AUDIT_ARCH, number(*call), 0), RET_ALLOW);
            let with_exec = run(AUDIT_ARCH, number(*call), libc::PROT_EXEC.cast_unsigned() | 1);
            assert_eq!(with_exec, if *rule == Rule::Allow { RET_ALLOW } else { refuse });
        }
        for call in [libc::SYS_openat, libc::SYS_execve, libc::SYS_clone, libc::SYS_socket, libc::SYS_ptrace] {
            assert_eq!(run(AUDIT_ARCH, number(call), 0), refuse);
        }
    }

    #[test]
    fn another_architecture_and_x32_get_nothing() {
        assert_eq!(run(0x4000_0003, 1, 0), RET_KILL_PROCESS);
        assert_ne!(run(AUDIT_ARCH, 0x4000_0000, 0), RET_ALLOW);
    }
}
