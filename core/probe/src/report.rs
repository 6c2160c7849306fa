//! What the harness says.

use crate::catalogue::{Brought, PLUGINS, Probe};
use crate::verdict::{Severity, Verdict};
use palisade_runtime::Attempt;
use serde::Serialize;
use std::borrow::Cow;
use std::collections::BTreeMap;

/// The version of the report's shape.
pub const REPORT_VERSION: u32 = 1;

/// All of it.
#[derive(Clone, Debug, Serialize)]
pub struct Report {
    /// The version of this shape.
    pub version: u32,
    /// The policy, as it was asked for.
    pub policy: String,
    /// Who asked: root, or an ordinary user.
    pub uid: u32,
    /// The kernel's release.
    pub kernel: String,
    /// Every attempt, in the order in which it was made.
    pub probes: Vec<Probed>,
    /// How many came to what.
    pub summary: Summary,
    /// What is not as it was before; empty when all is.
    pub changed: Vec<String>,
}

/// One attempt and what came of it.
#[derive(Clone, Debug, Serialize)]
pub struct Probed {
    /// Its name.
    pub id: Cow<'static, str>,
    /// What it is about.
    pub group: &'static str,
    /// How bad it would be if it worked.
    pub severity: Severity,
    /// What should stop it.
    pub layers: Cow<'static, str>,
    /// What is attempted.
    pub attempts: Cow<'static, str>,
    /// What it needs; empty where nothing.
    pub needs: Cow<'static, str>,
    /// Why nothing happens where it works.
    pub harmless: Cow<'static, str>,
    /// What came of it without a policy.
    pub bare: Verdict,
    /// What came of it under the policy.
    pub policy: Verdict,
    /// What is to be said of it.
    pub result: Verdict,
}

/// How many came to what.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Summary {
    /// Attempts that were made.
    pub probes: usize,
    /// Attempts that work without a policy.
    pub bare_open: usize,
    /// Of these, those that the policy stops.
    pub blocked: usize,
    /// Attempts that work under the policy, by severity.
    pub open: BTreeMap<&'static str, usize>,
    /// Attempts that do not work without a policy either.
    pub not_applicable: usize,
    /// Attempts of which nothing can be said.
    pub inconclusive: usize,
}

impl Probed {
    pub(crate) fn new(probe: &Probe, bare: Verdict, policy: Verdict) -> Self {
        let result = Verdict::of(&bare, &policy);
        Self {
            id: probe.id.into(),
            group: probe.group(),
            severity: probe.severity,
            layers: probe.layers.into(),
            attempts: probe.attempts.into(),
            needs: probe.needs.into(),
            harmless: probe.harmless.into(),
            bare,
            policy,
            result,
        }
    }
}

impl Probed {
    pub(crate) fn brought(brought: &Brought, bare: Verdict, policy: Verdict) -> Self {
        let Attempt { severity, attempts, layers, needs, harmless, .. } = brought.attempt.clone();
        let result = Verdict::of(&bare, &policy);
        Self {
            id: brought.id.clone().into(),
            group: PLUGINS,
            severity,
            layers: layers.into(),
            attempts: attempts.into(),
            needs: needs.into(),
            harmless: harmless.into(),
            bare,
            policy,
            result,
        }
    }
}

impl Summary {
    pub(crate) fn of(probes: &[Probed]) -> Self {
        let count = |is: &dyn Fn(&Probed) -> bool| probes.iter().filter(|probe| is(probe)).count();
        let open = Severity::ALL.map(|severity| {
            (severity.word(), count(&|probe| probe.severity == severity && probe.result == Verdict::Open))
        });
        Self {
            probes: probes.len(),
            bare_open: count(&|probe| probe.bare == Verdict::Open),
            blocked: count(&|probe| probe.result.is_blocked()),
            open: open.into(),
            not_applicable: count(&|probe| matches!(probe.result, Verdict::NotApplicable(_))),
            inconclusive: count(&|probe| matches!(probe.result, Verdict::Inconclusive(_))),
        }
    }
}

impl Report {
    /// Whether nothing that is critical or high works under the policy. Where nothing can be said of one, that is not
    /// known, and so not the case.
    #[must_use]
    pub fn holds(&self) -> bool {
        let bad = self.probes.iter().filter(|probe| probe.severity <= Severity::High);
        !bad.into_iter().any(|probe| matches!(probe.result, Verdict::Open | Verdict::Inconclusive(_)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::probes;

    fn report(policy: &Verdict) -> Report {
        let one = |probe| Probed::new(probe, Verdict::Open, policy.clone());
        let probes: Vec<Probed> = probes().map(one).collect();
        let summary = Summary::of(&probes);
        let (policy, kernel) = ("p".to_owned(), "k".to_owned());
        Report { version: 1, policy, uid: 0, kernel, probes, summary, changed: Vec::new() }
    }

    #[test]
    fn what_is_open_and_bad_does_not_hold() {
        let open = report(&Verdict::Open);
        assert!(!open.holds());
        assert_eq!((open.summary.blocked, open.summary.open.values().sum()), (0, open.summary.probes));
        assert!(!report(&Verdict::Inconclusive("it hung".to_owned())).holds());
        let denied = report(&Verdict::Denied("EPERM".to_owned()));
        assert!(denied.holds());
        assert_eq!(denied.summary.blocked, denied.summary.probes);
    }

    #[test]
    fn what_is_open_and_not_bad_holds() {
        let mut report = report(&Verdict::Virtual);
        for probe in report.probes.iter_mut().filter(|probe| probe.severity > Severity::High) {
            probe.result = Verdict::Open;
        }
        assert!(report.holds());
    }
}
