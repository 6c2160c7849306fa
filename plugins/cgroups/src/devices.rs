//! Which devices can be used: the rules of a policy, and the program that decides by them on cgroup v2.

use palisade_abi::{At, Error, ErrorContext as _};
use palisade_sys::bpf;
use std::fmt;
use std::os::fd::OwnedFd;

/// Devices that no workload can harm another with: the terminal is the one that it was given.
const SAFE: [&str; 8] =
    ["c 1:3 rwm", "c 1:5 rwm", "c 1:7 rwm", "c 1:8 rwm", "c 1:9 rwm", "c 5:0 rwm", "c 5:2 rwm", "c 136:* rwm"];

/// What a rule lets a workload do. `BPF_DEVCG_ACC_*` of linux/bpf.h.
const RIGHTS: [(char, u8); 3] = [('m', 1), ('r', 2), ('w', 4)];

/// Devices that can be used.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Rule {
    /// `b` or `c`.
    kind: char,
    /// `None`: any.
    major: Option<u32>,
    minor: Option<u32>,
    rights: u8,
}

impl fmt::Display for Rule {
    /// As `devices.list` of v1 writes it.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let number = |n: Option<u32>| n.map_or_else(|| "*".to_owned(), |n| n.to_string());
        write!(f, "{} {}:{} ", self.kind, number(self.major), number(self.minor))?;
        // The kernel's order: read, write, make.
        ['r', 'w', 'm']
            .into_iter()
            .filter(|letter| RIGHTS.iter().any(|(l, bit)| l == letter && self.rights & bit != 0))
            .try_for_each(|letter| write!(f, "{letter}"))
    }
}

fn parse(text: &str) -> Option<Rule> {
    let mut words = text.split_ascii_whitespace();
    let kind = words.next().filter(|word| matches!(*word, "b" | "c"))?.chars().next()?;
    let (major, minor) = words.next()?.split_once(':')?;
    let number = |text: &str| if text == "*" { Some(None) } else { text.parse::<u32>().ok().map(Some) };
    let (major, minor) = (number(major)?, number(minor)?);
    let mut rights = 0;
    for letter in words.next()?.chars() {
        rights |= RIGHTS.iter().find(|(l, _)| *l == letter)?.1;
    }
    (words.next().is_none() && rights != 0).then_some(Rule { kind, major, minor, rights })
}

/// The rules of a policy, and those that every workload has.
pub(crate) fn rules(allow: &[At<String>]) -> Result<Vec<Rule>, Error> {
    let mut rules: Vec<Rule> = SAFE.iter().filter_map(|text| parse(text)).collect();
    for at in allow {
        let rule = parse(&at.value).ok_or_else(|| {
            Error::policy(format!("`{}` is not a device rule", at.value)).at(at.origin).help(
                "write c or b, major:minor (each may be *), and letters of r, w, m: \"c 10:200 rw\" is /dev/net/tun",
            )
        })?;
        // v1 keeps one rule for a device and adds its rights together.
        match rules.iter_mut().find(|r| (r.kind, r.major, r.minor) == (rule.kind, rule.major, rule.minor)) {
            Some(known) => known.rights |= rule.rights,
            None => rules.push(rule),
        }
    }
    Ok(rules)
}

/// One instruction of eBPF. Linux: Documentation/bpf/standardization/instruction-set.rst.
fn instruction(code: u8, registers: (u8, u8), offset: i16, immediate: u32) -> u64 {
    let (to, from) = registers;
    u64::from(code)
        | u64::from(to | from << 4) << 8
        | u64::from(offset.cast_unsigned()) << 16
        | u64::from(immediate) << 32
}

const LOAD_WORD: u8 = 0x61;
const MOVE: u8 = 0xbf;
const MOVE_NUMBER: u8 = 0xb7;
const AND_NUMBER: u8 = 0x57;
const SHIFT_RIGHT: u8 = 0x77;
/// On 32 bits: numbers of devices do not have a sign to extend.
const JUMP_UNEQUAL: u8 = 0x56;
const EXIT: u8 = 0x95;

/// The program for `struct bpf_cgroup_dev_ctx`: access << 16 | type, major, minor.
fn program(rules: &[Rule]) -> Vec<u64> {
    let (kind, access, major, minor, scratch) = (2, 3, 4, 5, 1);
    let mut code = vec![
        instruction(LOAD_WORD, (kind, 1), 0, 0),
        instruction(MOVE, (access, kind), 0, 0),
        instruction(AND_NUMBER, (kind, 0), 0, 0xffff),
        instruction(SHIFT_RIGHT, (access, 0), 0, 16),
        instruction(LOAD_WORD, (major, 1), 4, 0),
        instruction(LOAD_WORD, (minor, 1), 8, 0),
    ];
    for rule in rules {
        // What must not be unequal: a register and a number.
        let mut tests = vec![(kind, if rule.kind == 'b' { 1 } else { 2 })];
        tests.extend(rule.major.map(|number| (major, number)));
        tests.extend(rule.minor.map(|number| (minor, number)));
        tests.push((scratch, 0));
        let mut left = i16::try_from(tests.len()).unwrap_or(i16::MAX) + 2;
        code.push(instruction(MOVE, (scratch, access), 0, 0));
        code.push(instruction(AND_NUMBER, (scratch, 0), 0, u32::from(7 & !rule.rights)));
        for (register, number) in tests {
            left -= 1;
            code.push(instruction(JUMP_UNEQUAL, (register, 0), left, number));
        }
        code.push(instruction(MOVE_NUMBER, (0, 0), 0, 1));
        code.push(instruction(EXIT, (0, 0), 0, 0));
    }
    code.push(instruction(MOVE_NUMBER, (0, 0), 0, 0));
    code.push(instruction(EXIT, (0, 0), 0, 0));
    code
}

/// Has the kernel take the program, without attaching it to anything.
pub(crate) fn load(rules: &[Rule]) -> Result<OwnedFd, Error> {
    let help = "on cgroup v2 a program decides about devices, which needs root; the view of an ordinary user cannot \
        have devices that the kernel would not let him make: leave `devices` out there";
    let loaded = bpf::load_device_program(&program(rules)).doing(|| "cannot decide about devices".to_owned());
    loaded.map_err(|error| error.help(help))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_rule_is_shown_as_the_kernel_shows_it() {
        for text in ["c 1:3 rwm", "b 8:* r", "c *:* m", "c 10:200 rw"] {
            assert_eq!(parse(text).unwrap().to_string(), text);
        }
        assert_eq!(parse("c 1:3 mwr").unwrap().to_string(), "c 1:3 rwm");
        for wrong in ["", "a *:* rwm", "c 1 r", "c 1:3", "c 1:3 x", "c 1:3 r r", "c -1:3 r", "c 1:3 ", "c :3 r"] {
            assert!(parse(wrong).is_none(), "{wrong}");
        }
    }

    #[test]
    fn rights_to_one_device_are_added_together() {
        let one = |text: &str| At::from(text.to_owned());
        let rules = rules(&[one("c 10:200 r"), one("c 10:200 w"), one("c 1:3 r")]).unwrap();
        assert_eq!(rules.len(), SAFE.len() + 1);
        assert_eq!(rules[SAFE.len()].to_string(), "c 10:200 rw");
        assert!(super::rules(&[one("tun")]).unwrap_err().help.contains("/dev/net/tun"));
    }

    /// Runs a program as the kernel's interpreter would, on its few instructions.
    fn answer(code: &[u64], access: u32, major: u32, minor: u32) -> u64 {
        let context = [access, major, minor];
        let mut r = [0_u64; 6];
        let mut at = 0_usize;
        loop {
            let word = code[at];
            let (op, to, from) = ((word & 0xff) as u8, (word >> 8 & 15) as usize, (word >> 12 & 15) as usize);
            let (offset, number) = ((word >> 16 & 0xffff) as usize, word >> 32);
            at += 1;
            match op {
                LOAD_WORD => r[to] = u64::from(context[offset / 4]),
                MOVE => r[to] = r[from],
                MOVE_NUMBER => r[to] = number,
                AND_NUMBER => r[to] &= number,
                SHIFT_RIGHT => r[to] >>= number,
                JUMP_UNEQUAL => at += if r[to] & 0xffff_ffff == number { 0 } else { offset },
                EXIT => return r[0],
                other => panic!("{other:#x}"),
            }
        }
    }

    #[test]
    fn the_program_allows_what_the_rules_do_and_nothing_else() {
        let code = program(&rules(&[At::from("b 8:* r".to_owned())]).unwrap());
        let (block, char, read, write, make) = (1, 2, 2 << 16, 4 << 16, 1 << 16);
        for (access, major, minor, allowed) in [
            (char | read | write, 1, 3, 1),
            (char | make, 1, 3, 1),
            (char | read, 136, 77, 1),
            (char | read, 1, 1, 0),
            (char | read, 3, 1, 0),
            (block | read, 1, 3, 0),
            (block | read, 8, 17, 1),
            (block | read | write, 8, 17, 0),
            (block | make, 8, 17, 0),
            (char | read, 8, 17, 0),
            (block | read, 9, 17, 0),
        ] {
            assert_eq!(answer(&code, access, major, minor), allowed, "{access:#x} {major}:{minor}");
        }
    }
}
