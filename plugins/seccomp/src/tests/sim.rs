//! A small interpreter of classic BPF, to see what a program does without handing it to a kernel.

use palisade_sys::seccomp::Instruction;

/// What the kernel shows a filter: `struct seccomp_data`.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Data {
    pub(crate) number: u32,
    pub(crate) arch: u32,
    pub(crate) args: [u64; 6],
}

impl Data {
    fn word(&self, offset: u32) -> u32 {
        let args = self.args.iter().flat_map(|arg| [*arg & 0xffff_ffff, *arg >> 32]);
        let args = args.map(|half| u32::try_from(half).unwrap());
        let words: Vec<u32> = [self.number, self.arch, 0, 0].into_iter().chain(args).collect();
        assert_eq!(offset % 4, 0, "an unaligned load");
        words[(offset / 4) as usize]
    }
}

/// Runs a program: what it returns, and whether it looked at no argument on the way.
pub(crate) fn run(program: &[Instruction], data: &Data) -> (u32, bool) {
    let (mut at, mut acc, mut constant) = (0_usize, 0_u32, true);
    for _ in 0..=program.len() {
        let i = program[at];
        at += 1;
        let jump = |holds: bool| usize::from(if holds { i.jt } else { i.jf });
        match i.code {
            0x20 => {
                constant &= i.k < 8;
                acc = data.word(i.k);
            }
            0x54 => acc &= i.k,
            0x05 => at += i.k as usize,
            0x15 => at += jump(acc == i.k),
            0x25 => at += jump(acc > i.k),
            0x35 => at += jump(acc >= i.k),
            0x06 => return (i.k, constant),
            other => panic!("unexpected instruction {other:#x} at {}", at - 1),
        }
    }
    panic!("the program does not end");
}
