//! Policies on top of each other: which section keeps which layers.

use std::collections::BTreeMap;

use super::ResolvedPlugin;
use super::hosts::Hosts;
use crate::diag::{Diagnostic, Origin, SourceId, Sources, suggest};
use crate::layer::{At, Dotted, Fragment, locked, parse_text};
use crate::policy::{Policy, RESERVED, Test};
use crate::set::parse_set;
use crate::vars::Vars;

/// The layers of one section so far.
#[derive(Default)]
pub(super) struct Unit {
    pub(super) layers: Vec<Fragment>,
    origin: Option<Origin>,
    /// A lock on the whole of it.
    lock: Option<Dotted>,
    /// Locks on parts of it.
    locks: Vec<Dotted>,
}

impl Unit {
    pub(super) fn finish(self, name: String) -> ResolvedPlugin {
        ResolvedPlugin { name, layers: self.layers, origin: self.origin }
    }

    /// The lock that forbids to take all of it away.
    fn any_lock(&self) -> Option<&Dotted> {
        self.lock.as_ref().or(self.locks.first())
    }
}

/// All sections so far.
#[derive(Default)]
pub(super) struct House {
    pub(super) process: Unit,
    pub(super) plugins: BTreeMap<String, Unit>,
    pub(super) hosts: Hosts,
    pub(super) tests: Vec<At<Test>>,
    tests_lock: Option<Dotted>,
}

/// Which of the three lists a path stands in.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Verb {
    Replace,
    Drop,
    Lock,
}

impl Verb {
    const fn field(self) -> &'static str {
        match self {
            Self::Replace => "replace",
            Self::Drop => "drop",
            Self::Lock => "locked",
        }
    }
}

fn split(dotted: &Dotted) -> (&str, Option<Dotted>) {
    match dotted.path.split_once('.') {
        Some((head, rest)) => {
            let rest = Dotted { path: rest.to_owned(), origin: dotted.origin };
            (head, Some(rest))
        }
        None => (&dotted.path, None),
    }
}

impl House {
    /// Puts a policy on top.
    pub(super) fn add(&mut self, policy: &Policy, vars: &Vars) -> Result<(), Diagnostic> {
        self.check_heads(policy)?;
        Self::check_dropped(policy)?;
        for verb in [Verb::Drop, Verb::Replace] {
            self.take_away(policy, verb)?;
        }
        if let Some(section) = &policy.process {
            let layer = (Some(section.origin), section.fragment());
            Self::layer("process", &mut self.process, policy, layer)?;
        } else {
            self.untouched(policy, "process")?;
        }
        for (name, section) in &policy.plugins {
            let unit = self.plugins.entry(name.value.clone()).or_default();
            Self::layer(name, unit, policy, (name.origin, section.fragment()))?;
        }
        let inherited: Vec<String> = self.plugins.keys().cloned().collect();
        for name in inherited {
            if !policy.plugins.iter().any(|(own, _)| own.value == name) {
                self.untouched(policy, &name)?;
            }
        }
        self.hosts.add(policy)?;
        self.add_tests(policy, vars)?;
        self.lock_whole(policy);
        Ok(())
    }

    /// Every path must begin with something that is there.
    fn check_heads(&self, policy: &Policy) -> Result<(), Diagnostic> {
        let own = policy.plugins.iter().map(|(name, _)| name.as_str());
        let known: Vec<&str> = self.known().into_iter().chain(own).collect();
        for (verb, dotted) in paths(policy) {
            let (head, rest) = split(dotted);
            let whole_tests = head == RESERVED[1] && rest.is_some();
            if known.contains(&head) && !whole_tests {
                continue;
            }
            let message = match whole_tests {
                true => "`tests` has no parts that can be named".to_owned(),
                false => format!("`{}` names `{head}`, which this policy neither uses nor inherits", verb.field()),
            };
            return Err(Diagnostic::new(message).at_opt(dotted.origin).help(match whole_tests {
                true => "name all of them, as \"tests\"".to_owned(),
                false => suggest(head, &known),
            }));
        }
        Ok(())
    }

    /// What a policy drops as a whole it cannot name otherwise.
    fn check_dropped(policy: &Policy) -> Result<(), Diagnostic> {
        for gone in policy.drop.iter().filter(|dotted| split(dotted).1.is_none()) {
            let other = paths(policy).find(|(_, dotted)| split(dotted).0 == gone.path && *dotted != gone);
            if let Some((verb, dotted)) = other {
                return Err(Diagnostic::new(format!(
                    "`{}` names `{}`, but this policy drops `{}`",
                    verb.field(),
                    dotted.path,
                    gone.path
                ))
                .at_opt(dotted.origin)
                .also("drop", gone.origin)
                .help("remove one of the two"));
            }
        }
        Ok(())
    }

    fn known(&self) -> Vec<&str> {
        let plugins = self.plugins.keys().map(String::as_str);
        RESERVED.into_iter().chain(plugins).collect()
    }

    /// `drop` and `replace` of a whole section.
    fn take_away(&mut self, policy: &Policy, verb: Verb) -> Result<(), Diagnostic> {
        for (_, dotted) in paths(policy).filter(|(v, _)| *v == verb) {
            let (head, None) = split(dotted) else {
                continue;
            };
            let own = own_section(policy, head);
            if verb == Verb::Replace && own.is_none() {
                return Err(Diagnostic::new(format!("`replace` names `{head}`, but this policy has no such section"))
                    .at_opt(dotted.origin)
                    .help("write the section, or use `drop` to take away what is inherited"));
            }
            if verb == Verb::Drop && own.is_some() {
                return Err(Diagnostic::new(format!(
                    "`drop` names `{head}`, but this policy has a section of that name"
                ))
                .at_opt(dotted.origin)
                .also("section", own)
                .help("use `replace` to put the section in place of what is inherited"));
            }
            self.remove(head, dotted)?;
        }
        Ok(())
    }

    fn remove(&mut self, head: &str, dotted: &Dotted) -> Result<(), Diagnostic> {
        if head == RESERVED[2] {
            return self.hosts.clear(dotted);
        }
        let lock = match head {
            "process" => self.process.any_lock(),
            "tests" => self.tests_lock.as_ref(),
            _ => self.plugins.get(head).and_then(Unit::any_lock),
        };
        if let Some(lock) = lock {
            return Err(locked(head, lock, dotted.origin));
        }
        match head {
            "process" => self.process.layers.clear(),
            "tests" => self.tests.clear(),
            _ => drop(self.plugins.remove(head)),
        }
        Ok(())
    }

    /// Adds a policy's section to what there is.
    fn layer(
        name: &str,
        unit: &mut Unit,
        policy: &Policy,
        (origin, mut fragment): (Option<Origin>, Fragment),
    ) -> Result<(), Diagnostic> {
        if let Some(lock) = &unit.lock {
            return Err(locked(name, lock, origin));
        }
        for (verb, dotted) in paths(policy) {
            let (head, Some(rest)) = split(dotted) else {
                continue;
            };
            if head != name {
                continue;
            }
            match verb {
                Verb::Replace => fragment.replace.push(rest),
                Verb::Drop => fragment.drop.push(rest),
                Verb::Lock => {
                    unit.locks.push(dotted.clone());
                    fragment.locked.push(rest);
                }
            }
        }
        fragment.section = name.to_owned();
        unit.origin = origin.or(unit.origin);
        unit.layers.push(fragment);
        Ok(())
    }

    /// A policy without a section for `name` may still drop or lock parts of it.
    fn untouched(&mut self, policy: &Policy, name: &str) -> Result<(), Diagnostic> {
        let first = paths(policy)
            .map(|(_, dotted)| dotted)
            .find(|dotted| matches!(split(dotted), (head, Some(_)) if head == name));
        let Some(dotted) = first else {
            return Ok(());
        };
        let origin = dotted.origin;
        let (source, offset) = origin.map_or((SourceId(u32::MAX), 0), |o| (o.source, o.start));
        let fragment = Fragment::policy(source, "()", offset);
        let unit = match name {
            "process" => &mut self.process,
            _ => self.plugins.entry(name.to_owned()).or_default(),
        };
        if let Some(lock) = &unit.lock {
            return Err(locked(name, lock, origin));
        }
        Self::layer(name, unit, policy, (None, fragment))
    }

    fn add_tests(&mut self, policy: &Policy, vars: &Vars) -> Result<(), Diagnostic> {
        let Some(section) = &policy.tests else {
            return Ok(());
        };
        if let Some(lock) = &self.tests_lock {
            return Err(locked("tests", lock, Some(section.origin)));
        }
        let tests: Vec<At<Test>> =
            parse_text(&section.text, &section.fragment(), vars).map_err(|refusal| refusal.diagnostic)?;
        self.tests.extend(tests);
        Ok(())
    }

    /// Locks hold for later layers only, so a policy's own come last.
    fn lock_whole(&mut self, policy: &Policy) {
        for dotted in &policy.locked {
            let (head, None) = split(dotted) else {
                continue;
            };
            let lock = match head {
                "process" => &mut self.process.lock,
                "tests" => &mut self.tests_lock,
                "hosts" => continue,
                _ => &mut self.plugins.entry(head.to_owned()).or_default().lock,
            };
            lock.get_or_insert_with(|| dotted.clone());
        }
    }

    pub(super) fn set(&mut self, sources: &mut Sources, argument: &str) -> Result<(), Diagnostic> {
        let setting = parse_set(sources, argument)?;
        let head = setting.head.as_str();
        let used: Vec<&str> =
            [RESERVED[0], RESERVED[2]].into_iter().chain(self.plugins.keys().map(String::as_str)).collect();
        if !used.contains(&head) {
            let help = suggest(head, &used);
            let message = format!("`--set` names `{head}`, which this policy does not use");
            return Err(Diagnostic::new(message).at(setting.origin).help(help));
        }
        if head == RESERVED[2] {
            return self.hosts.set(&setting);
        }
        let unit = match head {
            "process" => &mut self.process,
            _ => self.plugins.entry(head.to_owned()).or_default(),
        };
        if let Some(lock) = &unit.lock {
            return Err(locked(head, lock, Some(setting.origin)));
        }
        unit.layers.push(setting.fragment);
        Ok(())
    }
}

fn paths(policy: &Policy) -> impl Iterator<Item = (Verb, &Dotted)> {
    let of = |verb, list| std::iter::repeat(verb).zip(list);
    of(Verb::Drop, &policy.drop).chain(of(Verb::Replace, &policy.replace)).chain(of(Verb::Lock, &policy.locked))
}

fn own_section(policy: &Policy, head: &str) -> Option<Origin> {
    match head {
        "process" => policy.process.as_ref().map(|section| section.origin),
        "tests" => policy.tests.as_ref().map(|section| section.origin),
        "hosts" => policy.hosts.first().and_then(|(name, _)| name.origin),
        _ => {
            let (_, section) = policy.plugins.iter().find(|(name, _)| name.value == head)?;
            Some(section.origin)
        }
    }
}
