//! Mistakes in a section, and what is said about them.

use super::parse;
use crate::calls::Arch;
use crate::config::Config;
use crate::install::Filter;
use palisade_model::diag::Sources;
use palisade_model::layer::{Fragment, merge_layers};
use palisade_model::vars::Vars;

/// A section, how the message begins, and how the help does.
const MISTAKES: &[(&str, &str, &str)] = &[
    ("(deny: [Call(\"mountt\")])", "unknown system call `mountt`", "did you mean `mount`?"),
    ("(deny: [Call(\"@mount\")])", "unknown system call `@mount`", "write `Group(\"@mount\")` for a group"),
    ("(deny: [Call(\"frobnicate\")])", "unknown system call `frobnicate`", "a call is named as in section 2"),
    ("(deny: [Group(\"@xyz\")])", "unknown group `@xyz`", "the groups are @mount, @file-handle, "),
    ("(deny: [Group(\"mount\")])", "unknown group `mount`", "did you mean `@mount`? The groups are @mount"),
    ("(default: Errno(\"EPRM\"))", "unknown errno `EPRM`", "did you mean `EPERM`?"),
    ("(default: Errno(0))", "0 is no errno", "expected a name such as \"EPERM\", or a number from 1 to 4095"),
    ("(default: Errno(4096))", "4096 is no errno", "expected a name"),
    ("(deny: [When(\"read\", [Arg32(6, Eq(1))])])", "no call has an argument 6", "a call has up to six"),
    ("(deny: [When(\"read\", [])])", "`When` without a condition", "write Call(\"read\")"),
    (
        "(deny: [When(\"read\", [Arg32(0, Eq(0x100000000))])])",
        "0x100000000 does not fit in the 32 bits that `Arg32` compares",
        "use Arg64, or another value",
    ),
    ("(deny: [When(\"read\", [Arg64(0, MaskedEq(0xf0, 0x1f))])])", "0x1f has bits that the mask", "use Arg64"),
    ("(deny: [When(\"read\", [Arg64(0, AnySet(0))])])", "no bit of an empty mask can be set", "use Arg64"),
    ("(deny: [Answer(Call(\"acct\"), Allow)])", "a rule of `deny` cannot let a call through", "move the rule"),
    (
        "(default: Errno(1), allow: [Answer(Call(\"acct\"), Trap)])",
        "in `allow` the only answer is `Log`",
        "move the rule",
    ),
    ("(deny: [Answer(Answer(Call(\"acct\"), Trap), Trap)])", "an answer to an answer", "keep one of the two"),
    ("()", "the section lets every call through", "add deny: [Group(\"@default-deny\")]"),
    ("(default: Log)", "the section lets every call through", "add deny"),
    ("(deny: [Call(\"acct\")], deny_action: Allow)", "`deny_action` does not deny", "use Errno(\"EPERM\")"),
    (
        "(default: Errno(1), deny: [Call(\"acct\")], deny_action: Log)",
        "`deny_action` does not deny",
        "use Errno(\"EPERM\")",
    ),
    (
        "(default: KillProcess, allow: [Call(\"execve\")])",
        "the filter denies sendto, recvfrom, recvmsg, exit_group, so the workload could not be started",
        "add Group(\"@launch\") to `allow`",
    ),
    (
        "(deny: [Call(\"execve\")])",
        "the filter denies execve, so the workload could not be started",
        "take it out of `deny`",
    ),
];

/// A refusal while the text is read, or while the section is checked, planned or compiled.
fn refusal(text: &str) -> (String, String) {
    let config = match parse(text) {
        Err(said) => return (said.message, said.help.unwrap_or_default()),
        Ok(config) => config,
    };
    match Filter::new(config).and_then(|filter| filter.table(Arch::X86_64)) {
        Err(error) => (error.message, error.help),
        Ok(_) => panic!("not refused: {text}"),
    }
}

#[test]
fn mistakes_are_told_so_that_they_can_be_mended() {
    for (text, message, help) in MISTAKES {
        let (said, advice) = refusal(text);
        assert!(said.starts_with(message), "{text}: {said}");
        assert!(advice.starts_with(help), "{text}: {advice}");
    }
}

#[test]
fn a_mistake_is_shown_where_it_stands() {
    let mut sources = Sources::default();
    let id = sources.add("p.ron", "( deny: [ When(\"ioctl\", [Arg32(1, Eq(1))]), Call(\"mountt\") ] )");
    let fragment = Fragment::policy(id, sources.text(id), 0);
    let said = merge_layers::<Config>(&[fragment], &Vars::new()).unwrap_err().render(&sources);
    assert!(said.contains("--> p.ron:1:50"), "{said}");
}
