//! The walk through `extends`.

use super::Lookup;
use crate::diag::{Diagnostic, Origin, SourceId, Sources};
use crate::layer::At;
use crate::policy::{Policy, parse_policy};

/// Beyond this, `extends` is a mistake or an attack on the stack.
const DEEPEST: usize = 32;

pub(super) struct Walk<'a, 'b> {
    pub(super) sources: &'a mut Sources,
    pub(super) lookup: &'a mut Lookup<'b>,
    /// From the policy that was asked for to the one being read: which, and the line that led on.
    pub(super) path: Vec<(SourceId, Option<Origin>)>,
    /// What has been read, base first.
    pub(super) chain: Vec<(SourceId, Policy)>,
}

impl Walk<'_, '_> {
    pub(super) fn visit(&mut self, id: SourceId) -> Result<(), Diagnostic> {
        let policy = parse_policy(self.sources, id)?;
        self.path.push((id, None));
        for base in &policy.extends {
            if let Some(last) = self.path.last_mut() {
                last.1 = base.origin;
            }
            self.base(base)?;
        }
        self.path.pop();
        self.chain.push((id, policy));
        Ok(())
    }

    fn base(&mut self, name: &At<String>) -> Result<(), Diagnostic> {
        let found = (self.lookup)(name).map_err(|error| match error.origin {
            Some(_) => error,
            None => error.at_opt(name.origin),
        })?;
        let seen = |id: &SourceId| self.sources.name(*id) == found.name;
        if let Some(start) = self.path.iter().position(|(id, _)| seen(id)) {
            return Err(self.circle(start, name));
        }
        if self.chain.iter().any(|(id, _)| seen(id)) {
            return Ok(());
        }
        if self.path.len() >= DEEPEST {
            let message = format!("policies extend each other more than {DEEPEST} deep");
            return Err(Diagnostic::new(message).at_opt(name.origin));
        }
        let id = self.sources.add(found.name, found.text);
        self.visit(id)
    }

    fn circle(&self, start: usize, name: &At<String>) -> Diagnostic {
        let ring = &self.path[start..];
        let mut names: Vec<&str> = ring.iter().map(|(id, _)| self.sources.name(*id)).collect();
        names.extend(names.first().copied());
        let said = Diagnostic::new(format!("`extends` goes round in a circle: {}", names.join(" -> ")))
            .at_opt(name.origin)
            .help("a policy cannot build on itself; remove one of these lines");
        ring[..ring.len() - 1].iter().fold(said, |said, (_, place)| said.also("extends", *place))
    }
}
