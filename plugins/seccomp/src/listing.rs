//! A program in words, for `palisade plan --details`: what was compiled, not what was meant.

use crate::calls::Arch;
use palisade_sys::seccomp::Instruction;
use std::collections::BTreeMap;
use std::fmt::Write as _;

/// The parts of a code: class, size or operation, and operand. linux/bpf_common.h.
const LOAD: u16 = 0x20; // BPF_LD | BPF_W | BPF_ABS
const AND: u16 = 0x54; // BPF_ALU | BPF_AND | BPF_K
const JUMP: u16 = 0x05; // BPF_JMP | BPF_JA
const EQUAL: u16 = 0x15; // BPF_JMP | BPF_JEQ | BPF_K
const GREATER: u16 = 0x25; // BPF_JMP | BPF_JGT | BPF_K
const AT_LEAST: u16 = 0x35; // BPF_JMP | BPF_JGE | BPF_K
const ANY_BIT: u16 = 0x45; // BPF_JMP | BPF_JSET | BPF_K
const RETURN: u16 = 0x06; // BPF_RET | BPF_K

/// What the accumulator holds, as far as it matters for reading on.
#[derive(Clone, Copy, PartialEq)]
enum Held {
    Number,
    Arch,
    Other,
}

/// One line an instruction: its number, the instruction as bpf_asm writes it, and what it is about.
pub(crate) fn listing(program: &[Instruction], arch: Arch) -> String {
    let names: BTreeMap<u32, &str> = arch.calls().map(|(name, number)| (number, name)).collect();
    let mut text = String::new();
    for ((at, instruction), held) in program.iter().enumerate().zip(holds(program)) {
        let (code, about) = (code(at, instruction), about(instruction, held, arch, &names));
        let about = if about.is_empty() { about } else { format!("; {about}") };
        // Writing to a String cannot fail.
        writeln!(text, "{}", format!("{at:4}  {code:34}{about}").trim_end()).ok();
    }
    text
}

/// What the accumulator holds before each instruction. Jumps only lead on, so one pass sees every way there.
fn holds(program: &[Instruction]) -> Vec<Held> {
    let mut before: Vec<Option<Held>> = vec![None; program.len()];
    for (at, instruction) in program.iter().enumerate() {
        let held = before.get(at).copied().flatten().unwrap_or(Held::Other);
        let Instruction { code, jt, jf, k } = *instruction;
        let (held, ways) = match code {
            LOAD if k == 0 => (Held::Number, vec![0]),
            LOAD if k == 4 => (Held::Arch, vec![0]),
            LOAD | AND => (Held::Other, vec![0]),
            JUMP => (held, vec![usize::try_from(k).unwrap_or(usize::MAX)]),
            RETURN => (held, Vec::new()),
            _ => (held, vec![usize::from(jt), usize::from(jf)]),
        };
        for way in ways {
            if let Some(next) = before.get_mut(at.saturating_add(way).saturating_add(1)) {
                let same = next.is_none_or(|known| known == held);
                *next = Some(if same { held } else { Held::Other });
            }
        }
    }
    before.into_iter().map(|held| held.unwrap_or(Held::Other)).collect()
}

fn code(at: usize, instruction: &Instruction) -> String {
    let Instruction { code, jt, jf, k } = *instruction;
    let to = |by: u32| u64::try_from(at).unwrap_or(u64::MAX).saturating_add(u64::from(by)).saturating_add(1);
    let compared = |word: &str| {
        let (yes, no) = (to(u32::from(jt)), to(u32::from(jf)));
        format!("{word:4} #{k:#x}, {yes}, {no}")
    };
    match code {
        LOAD => format!("ld   [{k}]"),
        AND => format!("and  #{k:#x}"),
        JUMP => format!("ja   {}", to(k)),
        EQUAL => compared("jeq"),
        GREATER => compared("jgt"),
        AT_LEAST => compared("jge"),
        ANY_BIT => compared("jset"),
        RETURN => format!("ret  #{k:#010x}"),
        other => format!("code {other:#06x}, {jt}, {jf}, {k:#x}"),
    }
}

fn about(instruction: &Instruction, held: Held, arch: Arch, names: &BTreeMap<u32, &str>) -> String {
    let k = instruction.k;
    match instruction.code {
        LOAD => place(k),
        RETURN => answer(k),
        EQUAL if held == Held::Arch && k == arch.audit() => format!("{arch:?}").to_lowercase(),
        EQUAL | GREATER | AT_LEAST if held == Held::Number => {
            names.get(&k).map_or_else(String::new, |name| (*name).to_owned())
        }
        _ => String::new(),
    }
}

/// A word of `struct seccomp_data`; both architectures have the low half of an argument first.
fn place(offset: u32) -> String {
    match offset {
        0 => "the call's number".to_owned(),
        4 => "the architecture".to_owned(),
        8 | 12 => "the instruction pointer".to_owned(),
        16..64 => {
            let half = if offset.is_multiple_of(8) { "low" } else { "high" };
            format!("argument {}, {half} half", (offset - 16) / 8)
        }
        _ => String::new(),
    }
}

/// `SECCOMP_RET_*` of linux/seccomp.h, its data behind it.
fn answer(value: u32) -> String {
    let data = value & 0xffff;
    let errno = || match i32::try_from(data) {
        Ok(number) => format!("errno {:?}", palisade_sys::Errno::from_raw(number)),
        Err(_too_large) => format!("errno {data}"),
    };
    match value & 0xffff_0000 {
        0x8000_0000 => "kill the process".to_owned(),
        0 => "kill the thread".to_owned(),
        0x0003_0000 => "SIGSYS".to_owned(),
        0x0005_0000 => errno(),
        0x7fc0_0000 => "ask the listener".to_owned(),
        0x7ffc_0000 => "log and allow".to_owned(),
        0x7fff_0000 => "allow".to_owned(),
        _ => String::new(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn one(code: u16, jt: u8, jf: u8, k: u32) -> Instruction {
        Instruction { code, jt, jf, k }
    }

    #[test]
    fn a_program_is_read_line_by_line() {
        let program = [
            one(LOAD, 0, 0, 4),
            one(EQUAL, 1, 0, 0xC000_003E),
            one(RETURN, 0, 0, 0x8000_0000),
            one(LOAD, 0, 0, 0),
            one(AT_LEAST, 0, 3, 165),
            one(LOAD, 0, 0, 28),
            one(ANY_BIT, 2, 0, 0x10),
            one(RETURN, 0, 0, 0x0005_0001),
            one(EQUAL, 1, 0, 166),
            one(RETURN, 0, 0, 0x7fff_0000),
            one(0x87, 0, 0, 0),
        ];
        let wanted = [
            "   0  ld   [4]                          ; the architecture",
            "   1  jeq  #0xc000003e, 3, 2            ; x86_64",
            "   2  ret  #0x80000000                  ; kill the process",
            "   3  ld   [0]                          ; the call's number",
            "   4  jge  #0xa5, 5, 8                  ; mount",
            "   5  ld   [28]                         ; argument 1, high half",
            "   6  jset #0x10, 9, 7",
            "   7  ret  #0x00050001                  ; errno EPERM",
            // Reached with the number still there, whatever stands before it.
            "   8  jeq  #0xa6, 10, 9                 ; umount2",
            "   9  ret  #0x7fff0000                  ; allow",
            "  10  code 0x0087, 0, 0, 0x0",
        ];
        assert_eq!(listing(&program, Arch::X86_64).lines().collect::<Vec<_>>(), wanted);
    }
}
