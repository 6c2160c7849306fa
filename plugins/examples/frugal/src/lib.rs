//! The plugin `frugal`: a workload that takes no more memory and no more wake-ups than it must.
//!
//! **What it isolates.** Nothing; it tames two things that a workload gets from the kernel without asking: transparent
//! huge pages, with which a few bytes can cost 2 MiB of its memory limit, and timers that go off to the microsecond.
//! **From which kernel.** 3.15 and 2.6.28. **What it cannot stop.** A workload that asks for it back: prctl(2) needs no
//! privilege.
//!
//! Its steps have code of their own in the child, and each shows how that is proven: the first by the host, which reads
//! what the kernel says of the process; the second from inside, because an ordinary user may not read it from outside.
#![forbid(unsafe_code)]

use nix::sys::prctl;
use palisade_abi::serde::Deserialize;
use palisade_abi::units::Time;
use palisade_abi::{
    Action, At, Context, Demand, Error, ErrorContext as _, Evidence, Finding, Host, Isolator, Plugin, Stage, Step,
    Support,
};

/// What becomes of transparent huge pages.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(crate = "palisade_abi::serde")]
pub enum HugePages {
    /// As the host has it.
    Inherit,
    /// The workload gets none.
    Never,
}

palisade_abi::layered! {
    /// The section in a policy.
    pub struct Config {
        /// Transparent huge pages.
        pub huge_pages: Option<At<HugePages>>,
        /// What becomes of the launch where they cannot be switched off.
        pub huge_pages_demand: Option<At<Demand>>,
        /// By how much the kernel may delay the workload's timers.
        pub timer_slack: Option<At<Time>>,
    }
}

struct Frugal;

impl Plugin for Frugal {
    type Config = Config;

    fn probe(_host: &Host) -> Vec<Finding> {
        let found = prctl::get_thp_disable();
        vec![Finding {
            feature: "transparent huge pages of one process".to_owned(),
            support: if found.is_ok() { Support::Full } else { Support::Missing },
            detail: found.err().map(|errno| format!("prctl(PR_GET_THP_DISABLE) = {errno:?}")).unwrap_or_default(),
            remedy: String::new(),
        }]
    }

    fn configure(config: Config, _host: &Host) -> Result<Box<dyn Isolator>, Error> {
        if let Some(slack) = &config.timer_slack {
            // To the kernel 0 means "as it was".
            let nanos = u64::try_from(slack.value.0.as_nanos()).unwrap_or(u64::MAX);
            if nanos == 0 || nanos > 1_000_000_000 {
                return Err(Error::policy("timers can be delayed by 1ns to 1s")
                    .at(slack.origin)
                    .help("write timer_slack: \"1ms\", or leave it out for what the host has (50us)"));
            }
        }
        if let (None, Some(demand)) = (&config.huge_pages, &config.huge_pages_demand) {
            return Err(Error::policy("`huge_pages_demand` without `huge_pages` demands nothing")
                .at(demand.origin)
                .help("add huge_pages: Never, or remove it"));
        }
        Ok(Box::new(Wanted(config)))
    }
}

struct Wanted(Config);

impl Isolator for Wanted {
    fn plan(&self, _host: &Host) -> Result<Vec<Step>, Error> {
        let mut steps = Vec::new();
        let demand = self.0.huge_pages_demand.map(|at| at.value).unwrap_or_default();
        if let Some(at) = self.0.huge_pages.filter(|at| at.value == HugePages::Never) {
            steps.push(
                Step::new(Stage::Drop, "switches transparent huge pages off for the workload", NoHugePages)
                    .origin(at.origin)
                    .demand(demand)
                    .why("a page of 2 MiB counts against the memory limit whatever is in it"),
            );
        }
        if let Some(at) = self.0.timer_slack {
            let nanos = u64::try_from(at.value.0.as_nanos()).unwrap_or(u64::MAX);
            steps.push(
                Step::new(Stage::Drop, format!("lets the workload's timers be late by {}", at.value), Slack(nanos))
                    .origin(at.origin)
                    .witnessed(true)
                    .why("timers that may wait for each other wake a processor less often"),
            );
        }
        Ok(steps)
    }
}

/// In the workload's own process, in Drop: a child inherits it, and execve keeps it. PR_SET_THP_DISABLE(2const).
struct NoHugePages;

impl Action for NoHugePages {
    fn apply(&mut self, _context: &mut Context<'_>) -> Result<Evidence, Error> {
        prctl::set_thp_disable(true).map_err(|errno| {
            Error::host("this kernel cannot switch transparent huge pages off for one process")
                .call("prctl(PR_SET_THP_DISABLE, 1)", errno as i32)
                .help("it came with Linux 3.15; to go on without it: huge_pages_demand: Degrade")
        })?;
        Ok(Evidence::default())
    }

    /// Anybody may read the status of any process, so the host can look. The line came with Linux 5.0, and is 0 as well
    /// where nobody has such pages.
    fn verify(&self, context: &Context<'_>) -> Result<Option<Evidence>, Error> {
        let path = format!("/proc/{}/status", context.pid()?);
        let status = std::fs::read_to_string(&path).doing(|| format!("{path} cannot be read"))?;
        let line = status.lines().find(|line| line.starts_with("THP_enabled:"));
        match line.map(|line| line.split_whitespace().nth(1)) {
            Some(Some("0")) => Ok(Some("THP_enabled: 0".into())),
            Some(_) => Err(Error::setup(format!("{path} says that it may still have huge pages"))),
            None => Ok(None),
        }
    }
}

/// PR_SET_TIMERSLACK(2const), in nanoseconds.
struct Slack(u64);

impl Action for Slack {
    fn apply(&mut self, _context: &mut Context<'_>) -> Result<Evidence, Error> {
        prctl::set_timerslack(self.0).map_err(|errno| {
            let call = format!("prctl(PR_SET_TIMERSLACK, {})", self.0);
            Error::setup("the timers' slack could not be set").call(call, errno as i32)
        })?;
        Ok(Evidence::default())
    }

    /// `/proc/PID/timerslack_ns` is for who may trace the process, so it is asked for from inside.
    fn witness(&self, _context: &Context<'_>) -> Result<Evidence, Error> {
        let found = prctl::get_timerslack()?;
        if u64::try_from(found) == Ok(self.0) {
            return Ok(format!("reads back as {found} ns").into());
        }
        Err(Error::setup(format!("the kernel says {found} ns, and not {}", self.0)))
    }
}

palisade_abi::export_plugin!(Frugal, "manifest.ron");

#[cfg(test)]
mod tests {
    use super::*;

    fn configured(config: Config) -> Result<usize, Error> {
        Frugal::configure(config, &Host::default())?.plan(&Host::default()).map(|steps| steps.len())
    }

    fn slack(text: &str) -> Config {
        Config { timer_slack: Some(At::new(text.parse().unwrap())), ..Config::default() }
    }

    #[test]
    fn each_option_makes_a_step_and_none_makes_none() {
        assert_eq!(configured(Config::default()).unwrap(), 0);
        assert_eq!(configured(slack("1ms")).unwrap(), 1);
        let never = Config { huge_pages: Some(At::new(HugePages::Never)), ..slack("1ms") };
        assert_eq!(configured(never).unwrap(), 2);
        let inherit = Config { huge_pages: Some(At::new(HugePages::Inherit)), ..Config::default() };
        assert_eq!(configured(inherit).unwrap(), 0);
    }

    #[test]
    fn what_makes_no_sense_is_refused() {
        for config in [
            slack("0s"),
            slack("2s"),
            Config { huge_pages_demand: Some(At::new(Demand::Degrade)), ..Config::default() },
        ] {
            assert!(!configured(config).unwrap_err().help.is_empty());
        }
    }
}
