//! The program in the kernel, in classic BPF. seccomp(2), linux/filter.h.

use palisade_sys::seccomp::{AUDIT_ARCH, Instruction, RET_ALLOW, RET_ERRNO, RET_USER_NOTIF};

/// BPF_LD | BPF_W | BPF_ABS
const LOAD: u16 = 0x20;
/// BPF_JMP | BPF_JEQ | BPF_K
pub const JUMP_IF_EQUAL: u16 = 0x15;
/// BPF_JMP | BPF_JGE | BPF_K
const JUMP_IF_NOT_BELOW: u16 = 0x35;
/// BPF_RET | BPF_K
const RETURN: u16 = 0x06;

/// Offsets in `struct seccomp_data`.
const NUMBER: u32 = 0;
const ARCH: u32 = 4;

/// Where the calls of x32 begin. They have numbers of their own, so the same call would go past the count.
const X32: u32 = 0x4000_0000;
const ENOSYS: u32 = 38;

const fn at(code: u16, jt: u8, jf: u8, k: u32) -> Instruction {
    Instruction { code, jt, jf, k }
}

/// Asks about these calls and allows all others. Calls of another architecture have other numbers: there are none of
/// them.
pub fn program(calls: &[u32]) -> Vec<Instruction> {
    let mut program = vec![
        at(LOAD, 0, 0, ARCH),
        at(JUMP_IF_EQUAL, 1, 0, AUDIT_ARCH),
        at(RETURN, 0, 0, RET_ERRNO | ENOSYS),
        at(LOAD, 0, 0, NUMBER),
        at(JUMP_IF_NOT_BELOW, 0, 1, X32),
        at(RETURN, 0, 0, RET_ERRNO | ENOSYS),
    ];
    for call in calls {
        program.push(at(JUMP_IF_EQUAL, 0, 1, *call));
        program.push(at(RETURN, 0, 0, RET_USER_NOTIF));
    }
    program.push(at(RETURN, 0, 0, RET_ALLOW));
    program
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What the program answers, as the kernel would find it.
    fn answer(program: &[Instruction], arch: u32, number: u32) -> u32 {
        let (mut next, mut value) = (0, 0);
        loop {
            let Instruction { code, jt, jf, k } = program[next];
            next += 1;
            let holds = match code {
                LOAD => {
                    value = if k == ARCH { arch } else { number };
                    continue;
                }
                RETURN => return k,
                JUMP_IF_EQUAL => value == k,
                _ => value >= k,
            };
            next += usize::from(if holds { jt } else { jf });
        }
    }

    #[test]
    fn it_asks_about_what_it_counts_and_nothing_else() {
        let program = program(&[41, 53]);
        for (arch, number, wanted) in [
            (AUDIT_ARCH, 41, RET_USER_NOTIF),
            (AUDIT_ARCH, 53, RET_USER_NOTIF),
            (AUDIT_ARCH, 42, RET_ALLOW),
            (AUDIT_ARCH, 0, RET_ALLOW),
            (AUDIT_ARCH, X32 | 41, RET_ERRNO | ENOSYS),
            (AUDIT_ARCH ^ 1, 42, RET_ERRNO | ENOSYS),
        ] {
            assert_eq!(answer(&program, arch, number), wanted, "{arch:#x} {number}");
        }
    }
}
