//! From a table to one BPF program.
//!
//! seccompiler makes filters of one action each; a policy has several, and stacked filters would each be run for every
//! call. So the dispatch is ours: the architecture, then a binary search over the call numbers, then the conditions of
//! that one call, which seccompiler compiles. A call that is always allowed is decided by the number alone, which is
//! what lets the kernel remember the answer and skip the filter (5.11 and later).

use crate::action::Action;
use crate::calls::Arch;
use crate::rule::{Arg, Test};
use crate::table::{Clause, Table, Verdict};
use palisade_abi::Error;
use palisade_sys::seccomp::{Instruction, RET_USER_NOTIF};
use seccompiler::{BpfProgram, SeccompCmpArgLen, SeccompCmpOp, SeccompCondition, SeccompRule};

/// `BPF_MAXINSNS`: the kernel takes no longer program.
const LONGEST: usize = 4096;

const LOAD: u16 = 0x20; // BPF_LD | BPF_W | BPF_ABS
const JUMP: u16 = 0x05; // BPF_JMP | BPF_JA
const JUMP_EQ: u16 = 0x15; // BPF_JMP | BPF_JEQ | BPF_K
const JUMP_GE: u16 = 0x35; // BPF_JMP | BPF_JGE | BPF_K
const RETURN: u16 = 0x06; // BPF_RET | BPF_K

/// Offsets in `struct seccomp_data`.
const OFFSET_NUMBER: u32 = 0;
const OFFSET_ARCH: u32 = 4;

/// The first number of x32, a second set of numbers for the same architecture.
const X32: u32 = 0x4000_0000;

fn step(code: u16, jt: u8, jf: u8, k: u32) -> Instruction {
    Instruction { code, jt, jf, k }
}

/// What the kernel asks a listener about, instead of doing it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Ask {
    Nothing,
    /// What is answered by an errno.
    Denied,
    /// That, and what is allowed.
    Both,
}

fn answer(action: Action, ask: Ask) -> Instruction {
    let asks = match action {
        Action::Errno(_) => ask != Ask::Nothing,
        Action::Allow => ask == Ask::Both,
        Action::Log | Action::Trap | Action::KillThread | Action::KillProcess => false,
    };
    step(RETURN, 0, 0, if asks { RET_USER_NOTIF } else { action.value() })
}

/// What is done from a number on, up to the next entry.
struct Span<'a> {
    from: u32,
    verdict: &'a Verdict,
    ask: Ask,
}

/// Compiles a table; `ask` says of a number what a listener is asked.
///
/// # Errors
/// A policy error for a program that is longer than the kernel takes.
pub(crate) fn compile(table: &Table, ask: &dyn Fn(u32) -> Ask) -> Result<Vec<Instruction>, Error> {
    let unknown = Verdict { clauses: Vec::new(), otherwise: table.unknown };
    let kill = Verdict { clauses: Vec::new(), otherwise: Action::KillProcess };
    let spans = spans(table, [&unknown, &kill], ask);
    let mut program = vec![
        step(LOAD, 0, 0, OFFSET_ARCH),
        step(JUMP_EQ, 1, 0, table.arch.audit()),
        answer(Action::KillProcess, Ask::Nothing),
        step(LOAD, 0, 0, OFFSET_NUMBER),
    ];
    program.extend(search(&spans)?);
    if program.len() > LONGEST {
        return Err(Error::policy(format!(
            "the rules make a filter of {} instructions, and the kernel takes {LONGEST}",
            program.len()
        ))
        .help("use fewer rules with conditions on arguments"));
    }
    Ok(program)
}

/// Cuts all 2^32 numbers into spans that are treated alike.
fn spans<'a>(table: &'a Table, [unknown, kill]: [&'a Verdict; 2], ask: &dyn Fn(u32) -> Ask) -> Vec<Span<'a>> {
    let mut spans: Vec<Span<'a>> = Vec::new();
    let mut push = |from: u32, verdict: &'a Verdict| {
        let ask = ask(from);
        if spans.last().is_none_or(|last| last.verdict != verdict || last.ask != ask) {
            spans.push(Span { from, verdict, ask });
        }
    };
    let mut next = 0;
    for (number, verdict) in &table.calls {
        if *number > next {
            push(next, unknown);
        }
        push(*number, verdict);
        next = number + 1;
    }
    push(next, unknown);
    if table.arch == Arch::X86_64 {
        push(X32, kill);
        // No call has the number -1 in any set: it is what a tracer writes to skip one, and what a program that has
        // lost its way asks for. The kernel does nothing for it.
        push(u32::MAX, unknown);
    }
    spans
}

/// Finds the span of the number in the accumulator; what follows in the program is never reached.
fn search(spans: &[Span<'_>]) -> Result<Vec<Instruction>, Error> {
    let (left, right) = match spans {
        [] => return Ok(vec![answer(Action::KillProcess, Ask::Nothing)]),
        [one] => return leaf(one.verdict, one.ask),
        more => more.split_at(more.len() / 2),
    };
    let pivot = right.first().map_or(u32::MAX, |span| span.from);
    let (low, high) = (search(left)?, search(right)?);
    let mut code = match u8::try_from(low.len()) {
        Ok(near) => vec![step(JUMP_GE, near, 0, pivot)],
        // Only an unconditional jump reaches further than 255.
        Err(_far) => vec![step(JUMP_GE, 0, 1, pivot), step(JUMP, 0, 0, length(&low)?)],
    };
    code.extend(low);
    code.extend(high);
    Ok(code)
}

fn leaf(verdict: &Verdict, ask: Ask) -> Result<Vec<Instruction>, Error> {
    let mut code = Vec::new();
    for part in &verdict.clauses {
        code.extend(clause(part, ask)?);
    }
    code.push(answer(verdict.otherwise, ask));
    Ok(code)
}

/// Answers if all the conditions hold, and else goes on behind its own end.
fn clause(clause: &Clause, ask: Ask) -> Result<Vec<Instruction>, Error> {
    let mut plain = Vec::new();
    let mut any_set = Vec::new();
    for arg in &clause.when {
        match arg.test() {
            Test::AnySet(mask) => any_set.push(condition(*arg, SeccompCmpOp::MaskedEq(mask), 0)?),
            test => {
                let (op, value) = operator(test);
                plain.push(condition(*arg, op, value)?);
            }
        }
    }
    let mut code = vec![answer(clause.action, ask)];
    if !plain.is_empty() {
        code.splice(0..0, block(plain)?);
    }
    // There is no "some bit is set" in seccompiler, so "no bit is set" jumps over the answer.
    for none_set in any_set {
        let mut wrapped = block(vec![none_set])?;
        wrapped.push(step(JUMP, 0, 0, length(&code)?));
        wrapped.append(&mut code);
        code = wrapped;
    }
    Ok(code)
}

/// The test in seccompiler's words. `AnySet` has none and is done by [`clause`].
fn operator(test: Test) -> (SeccompCmpOp, u64) {
    match test {
        Test::Eq(value) => (SeccompCmpOp::Eq, value),
        Test::Ne(value) => (SeccompCmpOp::Ne, value),
        Test::Lt(value) => (SeccompCmpOp::Lt, value),
        Test::Le(value) => (SeccompCmpOp::Le, value),
        Test::Gt(value) => (SeccompCmpOp::Gt, value),
        Test::Ge(value) => (SeccompCmpOp::Ge, value),
        Test::MaskedEq(mask, value) => (SeccompCmpOp::MaskedEq(mask), value),
        Test::AnySet(mask) => (SeccompCmpOp::MaskedEq(mask), 0),
    }
}

fn condition(arg: Arg, op: SeccompCmpOp, value: u64) -> Result<SeccompCondition, Error> {
    let width = match arg {
        Arg::Arg32(..) => SeccompCmpArgLen::Dword,
        Arg::Arg64(..) => SeccompCmpArgLen::Qword,
    };
    SeccompCondition::new(arg.index(), width, op, value).map_err(refused)
}

/// The conditions of one rule: where all hold, goes on at its end; else at its end plus one, over what the caller puts
/// there.
fn block(conditions: Vec<SeccompCondition>) -> Result<Vec<Instruction>, Error> {
    let program: BpfProgram = SeccompRule::new(conditions).map_err(refused)?.into();
    Ok(program.into_iter().map(|i| step(i.code, i.jt, i.jf, i.k)).collect())
}

fn length(code: &[Instruction]) -> Result<u32, Error> {
    u32::try_from(code.len()).map_err(|_too_long| Error::policy("the rules make a filter that is far too long"))
}

#[expect(clippy::needless_pass_by_value, reason = "the shape that map_err wants")]
fn refused(error: seccompiler::BackendError) -> Error {
    Error::policy(format!("the conditions cannot be compiled: {error}"))
}
