//! How the program gets to a call, and which of several rules wins.

use super::sim::{Data, run};
use super::{ALLOW, ENOSYS, EPERM, KILL, LOG, compile, filter};
use crate::calls::Arch;
use crate::program;
use std::collections::BTreeSet;

#[test]
fn another_architecture_and_x32_are_killed_whatever_the_rules_say() {
    for text in ["(deny: [Call(\"acct\")])", "(default: Log, deny: [Call(\"acct\")], unknown_calls: Default)"] {
        let x86 = compile(text, Arch::X86_64);
        let seen = |arch: u32, number: u32| run(&x86.program, &Data { number, arch, args: [0; 6] }).0;
        // i386 (int 0x80), Arm, big-endian Arm, nothing.
        for arch in [0x4000_0003, 0xC000_00B7, 0x4000_0028, 0x8000_00B7, 0, u32::MAX] {
            for number in [0, 20, 59, 0x4000_0000, u32::MAX] {
                assert_eq!(seen(arch, number), KILL, "{arch:#x} {number}");
            }
        }
        for number in [0x4000_0000, 0x4000_0014, 0x4000_0200, 0x7fff_ffff, 0x8000_0000, 0xffff_fffe] {
            assert_eq!(x86.number(number, [0; 6]), KILL, "{number:#x}");
        }
        let arm = compile(text, Arch::Aarch64);
        let compat = Data { number: 20, arch: 0x4000_0028, args: [0; 6] };
        assert_eq!(run(&arm.program, &compat).0, KILL);
    }
}

#[test]
fn unknown_calls_answer_enosys_unless_told_otherwise() {
    for arch in Arch::ALL {
        let known: BTreeSet<u32> = arch.calls().map(|(_, number)| number).collect();
        let careful = compile("(deny: [Call(\"acct\")])", arch);
        let open = compile("(deny: [Call(\"acct\")], unknown_calls: Default)", arch);
        let strict = compile("(default: KillProcess, allow: [Group(\"@launch\")])", arch);
        for number in (0..2000).filter(|n| !known.contains(n)).chain([0x3fff_ffff, u32::MAX]) {
            assert_eq!(careful.number(number, [7; 6]), ENOSYS, "{arch:?} {number}");
            assert_eq!(open.number(number, [7; 6]), ALLOW, "{arch:?} {number}");
            assert_eq!(strict.number(number, [7; 6]), ENOSYS, "{arch:?} {number}");
        }
        assert_eq!(careful.call("clone3", &[]), ENOSYS);
        assert_eq!(open.call("clone3", &[]), ALLOW);
        let asked = compile("(deny: [Call(\"acct\")], allow: [Call(\"clone3\")])", arch);
        assert_eq!(asked.call("clone3", &[]), ALLOW);
        let both = compile("(deny: [Group(\"@namespaces\")], allow: [Call(\"clone3\")])", arch);
        assert_eq!(both.call("clone3", &[]), ENOSYS);
    }
}

#[test]
fn an_allow_list_denies_the_rest() {
    let text = "(default: Errno(\"EACCES\"), allow: [Group(\"@launch\"), Call(\"read\"),
        When(\"lseek\", [Arg64(1, Lt(10)), Arg32(2, Eq(0))]), Answer(Call(\"getpid\"), Log)],
        deny: [Answer(Call(\"getuid\"), KillProcess), Answer(When(\"read\", [Arg32(0, Eq(9))]), Errno(5))])";
    let compiled = compile(text, Arch::X86_64);
    let eacces = 0x0005_000d;
    assert_eq!(compiled.call("read", &[0]), ALLOW);
    assert_eq!(compiled.call("read", &[9]), 0x0005_0005);
    assert_eq!(compiled.call("getpid", &[]), LOG);
    assert_eq!(compiled.call("getuid", &[]), KILL);
    assert_eq!(compiled.call("write", &[]), eacces);
    assert_eq!(compiled.call("lseek", &[3, 9, 0]), ALLOW);
    assert_eq!(compiled.call("lseek", &[3, 10, 0]), eacces);
    assert_eq!(compiled.call("lseek", &[3, 1 << 32, 0]), eacces);
    assert_eq!(compiled.call("lseek", &[3, 9, 1]), eacces);
}

#[test]
fn the_stricter_of_two_denials_wins_in_any_order() {
    for list in [
        "Call(\"acct\"), Answer(Call(\"acct\"), KillProcess)",
        "Answer(Call(\"acct\"), KillProcess), Call(\"acct\")",
        "Answer(Call(\"acct\"), KillProcess), Group(\"@acct\"), Answer(Group(\"@default-deny\"), Trap)",
    ] {
        assert_eq!(compile(&format!("(deny: [{list}])"), Arch::X86_64).call("acct", &[]), KILL, "{list}");
    }
    // A denial with a condition is judged before a milder one without.
    let both = "(deny: [Call(\"read\"), Answer(When(\"read\", [Arg32(0, Eq(3))]), KillProcess)])";
    let compiled = compile(both, Arch::X86_64);
    assert_eq!((compiled.call("read", &[3]), compiled.call("read", &[4])), (KILL, EPERM));
}

#[test]
fn a_filter_that_is_too_long_is_refused() {
    let rules: String = (0..700).map(|n| format!("When(\"read\", [Arg64(1, Eq({n}))]), ")).collect();
    let table = filter(&format!("(deny: [{rules}])")).table(Arch::X86_64).unwrap();
    let error = program::compile(&table, &|_number| program::Ask::Nothing).unwrap_err();
    assert!(error.message.contains("and the kernel takes 4096"), "{}", error.message);
    // Far jumps: long, but not too long.
    let rules: String = (0..200).map(|n| format!("When(\"read\", [Arg64(1, Eq({n}))]), ")).collect();
    let compiled = compile(&format!("(deny: [{rules} Call(\"acct\")])"), Arch::X86_64);
    assert_eq!(compiled.call("read", &[0, 199]), EPERM);
    assert_eq!(compiled.call("read", &[0, 200]), ALLOW);
    assert_eq!(compiled.call("acct", &[]), EPERM);
    assert_eq!(compiled.call("write", &[]), ALLOW);
}
