//! Telling what is denied: the filter asks instead of answering by itself, and gets the very answer that it would have
//! given.
//!
//! Only what the filter answers by an errno, or allows, is asked about; what it kills for it kills. The answer follows
//! from the call's number and arguments as the kernel copied them, never from what they point to. Should the listener
//! end, every question is answered with ENOSYS by the kernel.

use crate::about;
use crate::action::Action;
use crate::calls::Arch;
use crate::config::Config;
use crate::program::Ask;
use crate::rule::Rule;
use crate::table::{Table, build};
use palisade_abi::{Act, At, Denial, Error, ErrorContext as _};
use palisade_sys::notify::{self, Answer, Question, Received};
use std::collections::BTreeMap;
use std::os::fd::{AsFd as _, AsRawFd as _, OwnedFd};

/// What to ask about, and how to answer.
#[derive(Debug)]
pub(crate) struct Rules {
    pub(crate) config: Config,
    pub(crate) table: Table,
}

/// `SIGSYS`: what a filter ends a process with.
const SIGSYS: i64 = 31;

impl Rules {
    /// What of a call the filter asks about.
    pub(crate) fn ask(&self) -> impl Fn(u32) -> Ask {
        let number = |name: &str| self.table.arch.number(name);
        let looked_at: Vec<u32> = about::names().filter_map(number).collect();
        let (clone3, hand_over) = (number("clone3"), number("sendmsg"));
        move |number| {
            if Some(number) == clone3 || Some(number) == hand_over {
                // A C library takes the ENOSYS for an answer, with every thread. And with the other the listener itself
                // is handed over, when nobody listens yet.
                Ask::Nothing
            } else if looked_at.contains(&number) {
                Ask::Both
            } else {
                Ask::Denied
            }
        }
    }

    fn decide(&self, question: &Question) -> Action {
        if question.arch != self.table.arch.audit() {
            return Action::KillProcess;
        }
        let number = question.number.cast_unsigned();
        self.table.of_number(number).map_or(self.table.unknown, |verdict| verdict.decide(&question.args))
    }

    /// The table of one rule of `deny` by itself.
    fn alone(&self, rule: &At<Rule>) -> Table {
        let deny_action = self.config.deny_action;
        let alone = Config { deny: vec![rule.clone()], deny_action, ..Config::default() };
        build(&alone, self.table.arch)
    }

    /// The rule that gives this answer.
    fn blame(&self, question: &Question, action: Action) -> Option<&At<Rule>> {
        self.config.deny.iter().find(|rule| {
            let table = self.alone(rule);
            let verdict = table.of_number(question.number.cast_unsigned());
            verdict.is_some_and(|verdict| verdict.decide(&question.args) == action)
        })
    }

    fn denial(&self, question: &Question, errno: String, action: Action) -> Denial {
        let seen = Denial { answer: errno, seen: true, ..Denial::default() };
        let name = name(self.table.arch, question.number);
        if let Some(rule) = self.blame(question, action) {
            let why = format!("{} is in `deny`", rule.value);
            return Denial { why, help: self.without(&rule.value, &name), origin: rule.origin, ..seen };
        }
        if self.table.of_number(question.number.cast_unsigned()).is_none() {
            let why = "the call is newer than this palisade".to_owned();
            let origin = self.config.unknown_calls.as_ref().and_then(|at| at.origin);
            let help = "\"seccomp\": (unknown_calls: Default)".to_owned();
            return Denial { why, help, origin, ..seen };
        }
        let origin = self.config.default.as_ref().and_then(|at| at.origin);
        let help = format!("\"seccomp\": (allow: [Call(\"{name}\")])");
        Denial { why: "no rule of `allow` names it".to_owned(), help, origin, ..seen }
    }

    /// What a policy has to say so that a rule of `deny` no longer covers a call. Lists append, so the list begins anew.
    fn without(&self, rule: &Rule, name: &str) -> String {
        let group = match rule {
            Rule::Answer(inner, _) => inner,
            other => other,
        };
        let mut left: Vec<String> = match group {
            Rule::Group(group) => vec![format!("Except(\"{}\", [\"{name}\"])", group.0.name)],
            Rule::Except(group, calls) => {
                let calls = calls.iter().map(|call| call.0).chain([name]).map(|call| format!("\"{call}\""));
                vec![format!("Except(\"{}\", [{}])", group.0.name, calls.collect::<Vec<_>>().join(", "))]
            }
            _ => Vec::new(),
        };
        if self.config.deny.len() > 1 {
            left.push("and its other rules".to_owned());
        }
        format!("replace: [\"seccomp.deny\"], and \"seccomp\": (deny: [{}])", left.join(", "))
    }

    /// What the filter says of a process that was ended by a signal.
    pub(crate) fn ended_by(&self, signal: i64) -> Option<Denial> {
        if signal != SIGSYS {
            return None;
        }
        let kills = |action: Action| !action.lets_through() && !matches!(action, Action::Errno(_));
        let killing = |rule: &&At<Rule>| {
            self.alone(rule).calls.iter().any(|(_, verdict)| {
                kills(verdict.otherwise) || verdict.clauses.iter().any(|clause| kills(clause.action))
            })
        };
        let rule = self.config.deny.iter().find(killing);
        let default = self.config.default.as_ref().filter(|at| kills(at.value));
        let why = match (rule, default) {
            (Some(rule), _) => {
                format!("a call of {} ends the process, as does one of another architecture", rule.value)
            }
            (None, Some(_)) => "a call that no rule of `allow` names ends the process".to_owned(),
            (None, None) => "a call of another architecture ends the process".to_owned(),
        };
        let help = "the kernel's log has the number of the call: dmesg | grep type=1326; with Errno(\"EPERM\") instead, \
                    --explain names it";
        let origin = rule.and_then(|rule| rule.origin).or(default.and_then(|at| at.origin));
        // Concluded: a process can send itself this signal.
        Some(Denial { answer: "SIGSYS".to_owned(), why, help: help.to_owned(), origin, seen: false })
    }
}

fn name(arch: Arch, number: i32) -> String {
    let known = arch.calls().find(|(_, known)| i64::from(*known) == i64::from(number));
    known.map_or_else(|| format!("call {number}"), |(name, _)| name.to_owned())
}

/// A call that waits, and what becomes of it.
#[derive(Debug)]
struct Waiting {
    question: Question,
    action: Action,
    acts: Vec<Act>,
}

/// The listener of one launch.
#[derive(Debug)]
pub(crate) struct Listener {
    rules: Rules,
    fd: OwnedFd,
    over: bool,
    /// By the number of the question.
    waiting: BTreeMap<u64, Waiting>,
}

impl Listener {
    pub(crate) fn new(rules: Rules, fd: OwnedFd) -> Self {
        Self { rules, fd, over: false, waiting: BTreeMap::new() }
    }

    pub(crate) fn watch(&self) -> Vec<i32> {
        if self.over { Vec::new() } else { vec![self.fd.as_raw_fd()] }
    }

    /// Takes what is asked.
    pub(crate) fn ready(&mut self) -> Result<(), Error> {
        loop {
            let received = notify::receive(self.fd.as_fd());
            match received.doing(|| "what the filter asks could not be read")? {
                Received::Nothing => return Ok(()),
                Received::Over => {
                    self.over = true;
                    return Ok(());
                }
                Received::Question(question) => {
                    let name = name(self.rules.table.arch, question.number);
                    let acts = about::acts(self.fd.as_fd(), &question, &name);
                    let acts = acts.into_iter().map(|act| act.with("question", question.id.to_string())).collect();
                    let action = self.rules.decide(&question);
                    self.waiting.insert(question.id, Waiting { question, action, acts });
                }
            }
        }
    }

    pub(crate) fn acts(&self) -> Vec<Act> {
        self.waiting.values().flat_map(|waiting| waiting.acts.iter().cloned()).collect()
    }

    /// Why the filter denies what waits.
    pub(crate) fn explain(&self, act: &Act) -> Option<Denial> {
        if let Some(signal) = act.number("signal") {
            return self.rules.ended_by(signal);
        }
        let id = act.fact("question")?.parse().ok()?;
        let Waiting { question, action, .. } = self.waiting.get(&id)?;
        let Action::Errno(errno) = action else { return None };
        Some(self.rules.denial(question, errno.to_string(), *action))
    }

    /// Answers everything that waits.
    pub(crate) fn settle(&mut self) -> Result<(), Error> {
        while let Some((id, waiting)) = self.waiting.pop_first() {
            let answer = match waiting.action {
                Action::Allow | Action::Log => Answer::Continue,
                Action::Errno(errno) => Answer::Errno(errno.number()),
                // The filter decides these by itself.
                Action::Trap | Action::KillThread | Action::KillProcess => Answer::Errno(1),
            };
            notify::answer(self.fd.as_fd(), id, answer).doing(|| "the filter could not be answered")?;
        }
        Ok(())
    }
}
