//! `palisade policy test`: what a policy says of itself, tried.

use super::{Said, show};
use crate::args::PolicyTest;
use crate::{ask, out};
use palisade_probe::{Claim, Claimed};
use palisade_runtime::Trouble;
use palisade_runtime::model::exit::ExitCode;
use serde::Serialize;

/// The version of the JSON's shape.
const VERSION: u32 = 1;

#[derive(Serialize)]
struct Whole<'a> {
    version: u32,
    policy: &'a str,
    holds: usize,
    broken: usize,
    unproven: usize,
    tests: &'a [Claimed],
}

pub(super) fn test(args: &PolicyTest) -> Result<Said, Trouble> {
    let mut palisade = ask::palisade(&args.dirs)?;
    let policy = ask::policy(&palisade, &args.name, &args.layers)?;
    let tests = palisade_probe::claims(&mut palisade, &policy)?;
    let count = |claim| tests.iter().filter(|test| test.claim == claim).count();
    let (holds, broken, unproven) = (count(Claim::Holds), count(Claim::Broken), count(Claim::Unproven));
    let failed = broken > 0 || (args.strict && unproven > 0);
    let code = if failed { ExitCode::FAILED } else { ExitCode::OK };
    if args.form.json {
        let whole = Whole { version: VERSION, policy: &args.name, holds, broken, unproven, tests: &tests };
        return Ok(Said::json(&whole)?.code(code));
    }
    let mut text = String::new();
    for test in &tests {
        line(&mut text, test);
    }
    let name = out::one_line(&args.name);
    show::line(&mut text, format_args!("{name}: {holds} hold, {broken} broken, {unproven} unproven"));
    Ok(Said::text(text).code(code))
}

fn line(text: &mut String, test: &Claimed) {
    let word = match test.claim {
        Claim::Holds => "holds   ".to_owned(),
        Claim::Broken => out::alarming("BROKEN  "),
        Claim::Unproven => "unproven".to_owned(),
    };
    let bare = test.bare.as_ref().map(|bare| format!("; without the policy: {}", bare.text())).unwrap_or_default();
    let came = out::one_line(&format!("{}{bare}", test.policy.text()));
    show::line(text, format_args!("{word}  {}  {came}", out::one_line(&test.test)));
    if test.claim != Claim::Holds {
        show::line(text, format_args!("          at {}", out::one_line(&test.policy_line)));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use palisade_probe::Verdict;

    #[test]
    fn what_does_not_hold_says_where_it_stands() {
        let test = |claim| Claimed {
            test: "Deny(Read(\"/x\"))".to_owned(),
            policy_line: "p.ron:3:4".to_owned(),
            claim,
            bare: Some(Verdict::Open),
            policy: Verdict::Hidden("ENOENT".to_owned()),
        };
        let said = |claim| {
            let mut text = String::new();
            line(&mut text, &test(claim));
            text
        };
        assert_eq!(said(Claim::Holds), "holds     Deny(Read(\"/x\"))  HIDDEN(ENOENT); without the policy: OPEN\n");
        assert!(said(Claim::Broken).ends_with("\n          at p.ron:3:4\n"));
    }
}
