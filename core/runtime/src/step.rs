//! Running steps: a loop, with no mechanism named.

use crate::message::{Came, Lapse, Record};
use crate::plan::{Plan, Planned};
use abi_context::Lent;
use palisade_abi::seam::Failure;
use palisade_abi::wrap::lend;
use palisade_model::outcome::Outcome;
use palisade_model::plan::Demand;
use palisade_model::stage::Stage;
use std::time::Instant;

pub(crate) mod abi_context {
    //! What palisade lends to a step while it runs.

    use palisade_abi::abi_stable::std_types::{ROption, RStr};
    use palisade_abi::seam::ContextObject;

    /// The numbers that exist so far, and what steps offered.
    #[derive(Debug, Default)]
    pub(crate) struct Lent {
        pub(crate) pid: Option<i32>,
        pub(crate) init_pid: Option<i32>,
        /// A cgroup directory for the process to be born in.
        pub(crate) cgroup: Option<i32>,
        /// Descriptors for the isolator on the host, from the step that runs.
        pub(crate) handed: Vec<i32>,
    }

    impl ContextObject for Lent {
        fn number(&self, name: RStr<'_>) -> ROption<i64> {
            let number = match name.as_str() {
                "pid" => self.pid,
                "init_pid" => self.init_pid,
                _ => None,
            };
            number.map(i64::from).into()
        }

        fn offer_cgroup(&mut self, fd: i32) {
            self.cgroup = Some(fd);
        }

        fn hand_over(&mut self, fd: i32) {
            self.handed.push(fd);
        }
    }
}

impl From<Failure> for Lapse {
    fn from(failure: Failure) -> Self {
        Self {
            kind: failure.kind,
            message: failure.message.into_string(),
            call: failure.call.into_string(),
            errno: failure.errno,
            help: failure.help.into_string(),
            origin: failure.origin.into_option().map(|o| (o.source, o.start, o.end)),
        }
    }
}

impl From<Lapse> for Failure {
    fn from(lapse: Lapse) -> Self {
        Self {
            kind: lapse.kind,
            message: lapse.message.into(),
            call: lapse.call.into(),
            errno: lapse.errno,
            help: lapse.help.into(),
            origin: lapse
                .origin
                .map(|(source, start, end)| palisade_abi::seam::RawOrigin { source, start, end })
                .into(),
        }
    }
}

impl Lapse {
    /// In one line, for a step that the policy allows to fail.
    pub(crate) fn line(&self) -> String {
        match (self.message.is_empty(), self.call.is_empty()) {
            (false, false) => format!("{}: {}", self.message, self.call),
            (false, true) => self.message.clone(),
            _ => self.call.clone(),
        }
    }
}

impl Came {
    pub(crate) fn failed(&self) -> bool {
        matches!(self, Self::Failed(_))
    }

    /// The outcome of the policy line; `seen` is what verification added.
    pub(crate) fn outcome(&self, seen: &str) -> Outcome {
        match self {
            Self::Done(said) => Outcome::Enforced(match (said.is_empty(), seen.is_empty()) {
                (false, false) => format!("{said}; {seen}"),
                (true, _) => seen.to_owned(),
                (_, true) => said.clone(),
            }),
            Self::Degraded(why) => Outcome::Degraded(why.clone()),
            Self::Off => Outcome::Skipped("the policy says Off".to_owned()),
            Self::Failed(lapse) => Outcome::Refused(lapse.line()),
        }
    }
}

fn micros(since: Instant) -> u32 {
    u32::try_from(since.elapsed().as_micros()).unwrap_or(u32::MAX)
}

fn came(demand: Demand, answer: Result<String, Failure>) -> Came {
    match (answer, demand) {
        (Ok(evidence), _) => Came::Done(evidence),
        (Err(failure), Demand::Degrade) => Came::Degraded(Lapse::from(failure).line()),
        (Err(failure), _) => Came::Failed(failure.into()),
    }
}

/// Applies one step.
pub(crate) fn apply(index: usize, step: &mut Planned, lent: &mut Lent) -> Record {
    let step_number = u32::try_from(index).unwrap_or(u32::MAX);
    if step.info.demand == Demand::Off {
        return Record { step: step_number, micros: 0, came: Came::Off };
    }
    let begin = Instant::now();
    let answer = step.object.apply(lend(lent)).into_result().map(|s| s.into_string());
    Record { step: step_number, micros: micros(begin), came: came(step.info.demand, answer) }
}

/// Asks one step, from inside, whether it is in force.
pub(crate) fn witness(index: usize, step: &Planned, lent: &mut Lent) -> Record {
    let begin = Instant::now();
    let answer = step.object.witness(lend(lent)).into_result().map(|s| s.into_string());
    Record {
        step: u32::try_from(index).unwrap_or(u32::MAX),
        micros: micros(begin),
        came: came(step.info.demand, answer),
    }
}

/// The indices of the steps of a stage that `which` picks.
pub(crate) fn of_stage(plan: &Plan, stage: Stage, which: impl Fn(&Planned) -> bool) -> Vec<usize> {
    let picked = |(_, step): &(usize, &Planned)| step.info.stage == stage && which(step);
    plan.steps.iter().enumerate().filter(picked).map(|(index, _)| index).collect()
}
