//! From rules to a table: for each call number what the filter does.

use crate::action::{Action, Errno};
use crate::calls::Arch;
use crate::config::{Config, Unknown};
use crate::groups::{self, Group, Member};
use crate::rule::{Arg, CallName, GroupName, Rule};
use palisade_abi::{At, Error};

/// One way out for a call: the action, if all the conditions hold.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Clause {
    pub(crate) when: Vec<Arg>,
    pub(crate) action: Action,
}

/// What the filter does with one call: the first clause that holds, else the last word.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Verdict {
    pub(crate) clauses: Vec<Clause>,
    pub(crate) otherwise: Action,
}

impl Verdict {
    fn always(action: Action) -> Self {
        Self { clauses: Vec::new(), otherwise: action }
    }

    /// What becomes of a call with these arguments.
    pub(crate) fn decide(&self, args: &[u64; 6]) -> Action {
        let holds = |clause: &&Clause| clause.when.iter().all(|arg| arg.holds(args));
        self.clauses.iter().find(holds).map_or(self.otherwise, |clause| clause.action)
    }

    /// Whether it can let the call through with some arguments.
    pub(crate) fn may_pass(&self) -> bool {
        self.otherwise.lets_through() || self.clauses.iter().any(|clause| clause.action.lets_through())
    }
}

/// What the filter does, by call number; ascending, each number once.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Table {
    pub(crate) arch: Arch,
    pub(crate) calls: Vec<(u32, Verdict)>,
    /// For every number that is not in `calls`.
    pub(crate) unknown: Action,
}

impl Table {
    /// The verdict for a call by name; `None` where this architecture does not have it.
    pub(crate) fn verdict(&self, name: &str) -> Option<&Verdict> {
        self.of_number(self.arch.number(name)?)
    }

    /// The verdict for a call by number; `None` where it is not known.
    pub(crate) fn of_number(&self, number: u32) -> Option<&Verdict> {
        let at = self.calls.binary_search_by_key(&number, |(number, _)| *number).ok()?;
        self.calls.get(at).map(|(_, verdict)| verdict)
    }
}

/// The rules of a list that speak of one call.
#[derive(Clone, Default)]
struct Rules {
    known: bool,
    deny: Vec<Clause>,
    allow: Vec<Clause>,
}

/// Which list a rule stands in, and what it says where it says nothing of its own.
#[derive(Clone, Copy)]
enum List {
    Deny { common: Action, own: Option<Action> },
    Allow { answer: Action },
}

struct Builder {
    arch: Arch,
    /// By number.
    rules: Vec<Rules>,
    /// Calls that the rule at hand leaves out.
    except: Vec<u32>,
}

/// What `default`, `deny_action` and `unknown_calls` say once every default is decided.
pub(crate) struct Decided {
    pub(crate) default: Action,
    pub(crate) deny_action: Action,
    pub(crate) unknown: Unknown,
}

impl Decided {
    pub(crate) fn of(config: &Config) -> Self {
        Self {
            default: config.default.as_ref().map_or(Action::Allow, |at| at.value),
            deny_action: config.deny_action.as_ref().map_or(Action::Errno(Errno::EPERM), |at| at.value),
            unknown: config.unknown_calls.as_ref().map_or(Unknown::Enosys, |at| at.value),
        }
    }
}

/// Checks what the type of the section cannot: rules that contradict themselves or do nothing.
pub(crate) fn check(config: &Config) -> Result<(), Error> {
    let decided = Decided::of(config);
    if config.deny.is_empty() && decided.default.lets_through() {
        let origin = config.default.as_ref().and_then(|at| at.origin);
        return Err(Error::policy("the section lets every call through")
            .at(origin)
            .help("add deny: [Group(\"@default-deny\")], or default: Errno(\"EPERM\") with an `allow` list"));
    }
    if let Some(action) = &config.deny_action {
        let quiet = action.value == Action::Log && decided.default.lets_through();
        if action.lets_through() && !quiet {
            return Err(Error::policy("`deny_action` does not deny").at(action.origin).help(
                "use Errno(\"EPERM\"), KillProcess, KillThread or Trap; Log, to try a list out, goes with `default: \
                 Allow` only",
            ));
        }
    }
    for rule in &config.deny {
        check_rule(rule, |action| action.lets_through().then_some("a rule of `deny` cannot let a call through"))?;
    }
    for rule in &config.allow {
        check_rule(rule, |action| (action != Action::Log).then_some("in `allow` the only answer is `Log`"))?;
    }
    Ok(())
}

fn check_rule(rule: &At<Rule>, refuses: impl Fn(Action) -> Option<&'static str>) -> Result<(), Error> {
    let fail = |message: &str, help: &str| Err(Error::policy(message).at(rule.origin).help(help));
    let mut inner = &rule.value;
    if let Rule::Answer(nested, action) = inner {
        if let Some(why) = refuses(*action) {
            return fail(why, "move the rule to the other list, or leave its answer out");
        }
        inner = nested;
        if matches!(inner, Rule::Answer(..)) {
            return fail("an answer to an answer", "keep one of the two");
        }
    }
    let (call, args) = match inner {
        Rule::When(call, args) => (call, args),
        Rule::Except(group, calls) => return check_except(rule, group, calls),
        _ => return Ok(()),
    };
    if args.is_empty() {
        return fail("`When` without a condition", &format!("write Call(\"{}\")", call.0));
    }
    match args.iter().find_map(|arg| arg.absurd()) {
        Some(why) => fail(&why, "use Arg64, or another value"),
        None => Ok(()),
    }
}

/// A call that the group does not have is left out of it in vain: somebody meant another.
fn check_except(rule: &At<Rule>, group: &GroupName, calls: &[CallName]) -> Result<(), Error> {
    if calls.is_empty() {
        let help = format!("write Group(\"{}\")", group.0.name);
        return Err(Error::policy("`Except` leaves nothing out").at(rule.origin).help(help));
    }
    let stranger = calls.iter().find(|call| !Arch::ALL.iter().any(|arch| has(*arch, group, call.0)));
    match stranger {
        Some(call) => Err(Error::policy(format!("{} is not in {}", call.0, group.0.name))
            .at(rule.origin)
            .help("take it out of the list; `palisade policy show NAME --bpf` shows which calls a policy denies")),
        None => Ok(()),
    }
}

/// Whether a group has a rule for a call.
fn has(arch: Arch, group: &GroupName, call: &str) -> bool {
    let last = arch.calls().map(|(_, number)| number as usize).max().unwrap_or(0);
    let mut builder = Builder { arch, rules: vec![Rules::default(); last + 1], except: Vec::new() };
    builder.group(group.0, List::Allow { answer: Action::Allow });
    arch.number(call).and_then(|number| builder.rules.get(number as usize)).is_some_and(|rules| !rules.allow.is_empty())
}

/// Makes the table of a checked section.
pub(crate) fn build(config: &Config, arch: Arch) -> Table {
    let decided = Decided::of(config);
    let last = arch.calls().map(|(_, number)| number as usize).max().unwrap_or(0);
    let mut builder = Builder { arch, rules: vec![Rules::default(); last + 1], except: Vec::new() };
    for (_, number) in arch.calls() {
        builder.rules[number as usize].known = true;
    }
    for rule in &config.deny {
        builder.rule(rule, List::Deny { common: decided.deny_action, own: None });
    }
    for rule in &config.allow {
        builder.rule(rule, List::Allow { answer: Action::Allow });
    }
    let unknown = match decided.unknown {
        Unknown::Enosys => Action::Errno(Errno::ENOSYS),
        Unknown::Default => decided.default,
    };
    let clone3 = arch.number("clone3");
    let calls = (0..).zip(builder.rules).filter(|(_, rules)| rules.known).map(|(number, rules)| {
        let default = if Some(number) == clone3 { unknown } else { decided.default };
        (number, settle(rules, default))
    });
    Table { arch, calls: calls.collect(), unknown }
}

/// Of several denials the strictest comes first, as the kernel itself has it; a clause behind one that always holds is
/// never reached.
fn settle(mut rules: Rules, default: Action) -> Verdict {
    rules.deny.sort_by_key(|clause| std::cmp::Reverse(clause.action));
    let mut verdict = Verdict::always(default);
    for clause in rules.deny.into_iter().chain(rules.allow) {
        if clause.when.is_empty() {
            verdict.otherwise = clause.action;
            break;
        }
        if !verdict.clauses.contains(&clause) {
            verdict.clauses.push(clause);
        }
    }
    while verdict.clauses.last().is_some_and(|clause| clause.action == verdict.otherwise) {
        verdict.clauses.pop();
    }
    verdict
}

impl Builder {
    fn rule(&mut self, rule: &Rule, list: List) {
        match rule {
            Rule::Call(name) => self.add(name.0, &[], None, list),
            Rule::When(name, args) => self.add(name.0, args, None, list),
            Rule::Group(group) => self.group(group.0, list),
            Rule::Except(group, calls) => {
                self.except = calls.iter().filter_map(|call| self.arch.number(call.0)).collect();
                self.group(group.0, list);
                self.except.clear();
            }
            Rule::Answer(inner, action) => {
                let list = match list {
                    List::Deny { common, .. } => List::Deny { common, own: Some(*action) },
                    List::Allow { .. } => List::Allow { answer: *action },
                };
                self.rule(inner, list);
            }
        }
    }

    fn group(&mut self, group: &Group, list: List) {
        for member in group.members {
            match member {
                Member::Calls(names) => names.iter().for_each(|name| self.add(name, &[], None, list)),
                Member::Answer(names, errno) => {
                    names.iter().for_each(|name| self.add(name, &[], Some(Action::Errno(*errno)), list));
                }
                Member::When(name, args, errno) => self.add(name, args, errno.map(Action::Errno), list),
                Member::Unreadable(name) => self.unreadable(name, list),
                Member::Groups(names) => {
                    names.iter().filter_map(|name| groups::find(name)).for_each(|inner| self.group(inner, list));
                }
                Member::AllExcept(name) => self.all_except(name, list),
            }
        }
    }

    /// Adds a clause. The answer: the rule's own, else the group's, else the list's. A list that only logs does so
    /// for all of it.
    fn add(&mut self, name: &str, when: &[Arg], usual: Option<Action>, list: List) {
        let Some(number) = self.arch.number(name).filter(|number| !self.except.contains(number)) else {
            return;
        };
        let Some(rules) = self.rules.get_mut(number as usize) else {
            return;
        };
        match list {
            List::Deny { common: Action::Log, own: None } => {
                rules.deny.push(Clause { when: when.to_vec(), action: Action::Log });
            }
            List::Deny { common, own } => {
                rules.deny.push(Clause { when: when.to_vec(), action: own.or(usual).unwrap_or(common) });
            }
            List::Allow { answer } => rules.allow.push(Clause { when: when.to_vec(), action: answer }),
        }
    }

    fn unreadable(&mut self, name: &str, list: List) {
        let list = match list {
            List::Deny { common, own: Some(_) } => List::Deny { common, own: None },
            other => other,
        };
        self.add(name, &[], Some(Action::Errno(Errno::ENOSYS)), list);
    }

    fn all_except(&mut self, group: &str, list: List) {
        let rules = vec![Rules::default(); self.rules.len()];
        let mut named = Self { arch: self.arch, rules, except: Vec::new() };
        if let Some(group) = groups::find(group) {
            named.group(group, List::Allow { answer: Action::Allow });
        }
        for (name, number) in self.arch.calls() {
            let rules = named.rules.get(number as usize);
            if !rules.is_some_and(|rules| rules.allow.iter().any(|clause| clause.when.is_empty())) {
                self.add(name, &[], None, list);
            }
        }
    }
}
