//! Conditions on arguments, against a second definition of what they mean.

use super::filter;
use super::sim::{Data, run};
use crate::action::{Action, Errno};
use crate::calls::Arch;
use crate::program;
use crate::rule::{Arg, Index, Test};
use crate::table::{Clause, Table, Verdict};

/// Every number, with what is known about it from the table: the program does for each what the table says, and a
/// call that is always allowed is decided by its number alone, so that the kernel can remember it.
#[test]
fn the_program_does_what_the_table_says_for_every_number() {
    let texts = [
        "(deny: [Group(\"@default-deny\"), Group(\"@setuid-files\"), Group(\"@resources\"), Group(\"@tcp-unseen\")])",
        "(default: Errno(\"EPERM\"), allow: [Group(\"@launch\"), Group(\"@basic\"), Group(\"@io\")])",
        "(deny: [Call(\"acct\")], log: true)",
    ];
    let mut random = Random(42);
    for (text, arch) in texts.iter().flat_map(|text| Arch::ALL.map(|arch| (text, arch))) {
        let table = filter(text).table(arch).unwrap();
        let program = program::compile(&table, &|_number| program::Ask::Nothing).unwrap();
        for (number, verdict) in &table.calls {
            for _ in 0..50 {
                let args = std::array::from_fn(|_| random.interesting());
                let (seen, constant) = run(&program, &Data { number: *number, arch: arch.audit(), args });
                assert_eq!(seen, judge(verdict, &args).value(), "{arch:?} {number} {args:#x?}");
                assert!(constant || !verdict.clauses.is_empty(), "{arch:?} {number}");
            }
        }
        assert!(program.len() < 1200, "{arch:?}: {} instructions", program.len());
    }
}

/// What the conditions mean, said a second time and in another way.
fn judge(verdict: &Verdict, args: &[u64; 6]) -> Action {
    let holds = |arg: &Arg| {
        let (value, mask) = match arg {
            Arg::Arg32(index, _) => (args[usize::from(index.0)] & 0xffff_ffff, 0xffff_ffff),
            Arg::Arg64(index, _) => (args[usize::from(index.0)], u64::MAX),
        };
        match arg.test() {
            Test::Eq(v) => value == v & mask,
            Test::Ne(v) => value != v & mask,
            Test::Lt(v) => value < v,
            Test::Le(v) => value <= v,
            Test::Gt(v) => value > v,
            Test::Ge(v) => value >= v,
            Test::MaskedEq(m, v) => value & m == v,
            Test::AnySet(m) => value & m != 0,
        }
    };
    verdict.clauses.iter().find(|clause| clause.when.iter().all(holds)).map_or(verdict.otherwise, |c| c.action)
}

/// xorshift64*: repeatable, and good enough to pick arguments.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        self.0.wrapping_mul(0x2545_F491_4F6C_DD1D)
    }

    fn below(&mut self, end: usize) -> usize {
        usize::try_from(self.next() % end as u64).unwrap()
    }

    /// Small numbers, numbers with one half empty, single bits, and anything.
    fn interesting(&mut self) -> u64 {
        let value = self.next();
        match value % 6 {
            0 => value >> 58,
            1 => value >> 32,
            2 => value << 32,
            3 => 1 << (value >> 58),
            4 => u64::MAX - (value >> 60),
            _ => value,
        }
    }
}

#[test]
fn random_conditions_mean_what_they_say() {
    let mut random = Random(7);
    for round in 0..3000 {
        let mut clauses = Vec::new();
        let mut values = Vec::new();
        for _ in 0..=random.next() % 3 {
            let when: Vec<Arg> = (0..=random.next() % 4).map(|_| random_arg(&mut random, &mut values)).collect();
            clauses.push(Clause { when, action: Action::Errno(Errno::EPERM) });
        }
        let verdict = Verdict { clauses, otherwise: Action::Allow };
        let table =
            Table { arch: Arch::X86_64, calls: vec![(5, verdict.clone())], unknown: Action::Errno(Errno::ENOSYS) };
        let program = program::compile(&table, &|_number| program::Ask::Nothing).unwrap();
        for _ in 0..20 {
            let args = std::array::from_fn(|_| match random.next() % 3 {
                0 => random.interesting(),
                // Near a value of some condition is where a comparison goes wrong.
                n => values[random.below(values.len())].wrapping_add(n).wrapping_sub(1),
            });
            let (seen, _) = run(&program, &Data { number: 5, arch: Arch::X86_64.audit(), args });
            assert_eq!(seen, judge(&verdict, &args).value(), "round {round}: {verdict:?} {args:#x?}");
        }
    }
}

fn random_arg(random: &mut Random, values: &mut Vec<u64>) -> Arg {
    let wide = random.below(2) == 0;
    let fit = |v: u64| if wide { v } else { v & 0xffff_ffff };
    let (a, b) = (fit(random.interesting()), fit(random.interesting()));
    values.push(a);
    let test = match random.next() % 8 {
        0 => Test::Eq(a),
        1 => Test::Ne(a),
        2 => Test::Lt(a),
        3 => Test::Le(a),
        4 => Test::Gt(a),
        5 => Test::Ge(a),
        6 => Test::MaskedEq(b, a & b),
        _ => Test::AnySet(a),
    };
    let index = Index(u8::try_from(random.next() % 6).unwrap());
    if wide { Arg::Arg64(index, test) } else { Arg::Arg32(index, test) }
}
