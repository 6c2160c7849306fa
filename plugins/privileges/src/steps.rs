//! The plan: what the host can give, and the steps in words.

use crate::actions::{Bits, Bounding, NoNewPrivs, Raise, Reduce, SETPCAP, Seen};
use crate::config::{CapName, Config, Keyring};
use crate::explain;
use crate::keyring;
use crate::securebits::{self, SecureBit};
use crate::sets::{Sets, Wanted, check};
use palisade_abi::ErrorContext as _;
use palisade_abi::{Act, At, Demand, Denial, Error, Finding, Host, Isolator, Origin, Stage, Step, Support};
use palisade_sys::caps::{self, CapSet};

/// The section, checked.
#[derive(Debug)]
pub(crate) struct Privileges {
    config: Config,
    sets: Sets,
}

impl Privileges {
    /// Checks the section.
    ///
    /// # Errors
    /// A policy error where the sets contradict each other.
    pub(crate) fn new(config: Config) -> Result<Self, Error> {
        let sets = Sets::of(&config.capabilities);
        let this = Self { config, sets };
        check(&this.config.capabilities, &sets, this.bounding_demand() != Demand::Off)?;
        Ok(this)
    }

    fn bounding_demand(&self) -> Demand {
        self.config.bounding_demand.as_ref().map_or(Demand::Require, |at| at.value)
    }

    fn no_new_privs(&self) -> bool {
        self.config.no_new_privs.as_ref().is_none_or(|at| at.value)
    }

    /// What the bounding set will be, as far as the section says.
    fn bounding(&self) -> Wanted {
        match self.bounding_demand() {
            Demand::Require => self.sets.bounding,
            Demand::Degrade | Demand::Off => Wanted { all: true, ..self.sets.bounding },
        }
    }

    fn changes_bounding(&self) -> bool {
        !self.sets.bounding.all && self.bounding_demand() != Demand::Off
    }

    fn names(&self) -> impl Iterator<Item = &At<CapName>> {
        let all = &self.config.capabilities;
        [&all.keep, &all.bounding, &all.permitted, &all.effective, &all.inheritable, &all.ambient].into_iter().flatten()
    }

    /// The line that speaks of one of these capabilities, or of any.
    fn origin(&self, of: Option<CapSet>) -> Option<Origin> {
        let meant = |name: &&At<CapName>| match (of, name.value) {
            (Some(set), CapName::One(cap)) => set.contains(cap),
            (Some(_), CapName::All) => false,
            (None, _) => true,
        };
        self.names().find(meant).and_then(|name| name.origin)
    }
}

impl Isolator for Privileges {
    fn plan(&self, host: &Host) -> Result<Vec<Step>, Error> {
        self.root_regains_nothing(host)?;
        self.host_can(host)?;
        let mut steps = Vec::new();
        let seen = Seen::default();
        if self.changes_bounding() {
            steps.push(self.bounding_step(seen.clone())?);
        }
        let keyring = self.config.keyring.as_ref();
        let demand = self.config.keyring_demand.as_ref().map_or(Demand::Require, |at| at.value);
        if keyring.is_none_or(|at| at.value == Keyring::New) && demand != Demand::Off {
            let demanded = self.config.keyring_demand.as_ref().and_then(|at| at.origin);
            steps.push(keyring::step(keyring.and_then(|at| at.origin).or(demanded), demand));
        }
        let Sets { inheritable, ambient, .. } = self.sets;
        if !inheritable.is_empty() {
            let words = if ambient.is_empty() {
                format!("puts {inheritable} into the inheritable capability set")
            } else {
                format!("puts {inheritable} into the inheritable capability set and {ambient} into the ambient one")
            };
            let why = "only what is ambient survives execve of an ordinary file by a uid other than 0";
            steps.push(Step::new(Stage::Drop, words, Raise(self.sets)).why(why).origin(self.origin(None)));
        }
        if let Some(first) = self.config.securebits.first() {
            let names: Vec<String> = self.config.securebits.iter().map(|bit| format!("{:?}", bit.value)).collect();
            let bits = Bits(securebits::mask(&self.config.securebits));
            let step = Step::new(Stage::Drop, format!("sets the securebits {}", names.join(", ")), bits)
                .why(
                    "says what uid 0 and a change of ids mean for capabilities; needs CAP_SETPCAP, so before that goes",
                )
                .origin(first.origin)
                .witnessed(true);
            steps.push(step);
        }
        if self.no_new_privs() {
            let origin = self.config.no_new_privs.as_ref().and_then(|at| at.origin);
            let step = Step::new(
                Stage::Drop,
                "sets no_new_privs: no execve can add privileges",
                NoNewPrivs(seen.clone()),
            )
            .why("setuid files and file capabilities give nothing; also what lets an unprivileged process seal itself")
            .origin(origin);
            steps.push(step);
        }
        steps.push(self.reduce_step(seen));
        Ok(steps.into_iter().map(|step| step.after("process")).collect())
    }

    fn explain(&self, act: &Act) -> Option<Denial> {
        explain::explain(act, self.origin(None))
    }
}

impl Privileges {
    fn bounding_step(&self, seen: Seen) -> Result<Step, Error> {
        let last = caps::cap_last().doing(|| "this kernel's capabilities could not be counted")?;
        let (known, wanted) = (u32::from(last) + 1, self.sets.bounding);
        let words = match wanted.named.0.count_ones() {
            0 => format!("drops all {known} capabilities from the bounding set"),
            kept => format!(
                "drops {} of {known} capabilities from the bounding set, keeps {wanted}",
                known.saturating_sub(kept)
            ),
        };
        Ok(Step::new(Stage::Drop, words, Bounding(wanted, seen))
            .why("what is not in it no execve gives back, neither to uid 0 nor by a setuid file or a file's capabilities")
            .origin(self.config.bounding_demand.as_ref().and_then(|at| at.origin).or(self.origin(None)))
            .demand(self.bounding_demand()))
    }

    fn reduce_step(&self, seen: Seen) -> Step {
        let Sets { permitted, effective, inheritable, ambient, .. } = self.sets;
        let words = if self.sets.empty() {
            "empties the permitted, effective, inheritable and ambient capability sets".to_owned()
        } else if [effective, inheritable, ambient].into_iter().all(|set| set == permitted) {
            format!(
                "keeps {permitted} in the permitted, effective, inheritable and ambient capability sets, nothing else"
            )
        } else {
            format!(
                "reduces the capability sets: permitted to {permitted}, effective to {effective}, inheritable to \
                 {inheritable}, ambient to {ambient}"
            )
        };
        Step::new(Stage::Drop, words, Reduce(self.sets, seen)).why(self.reduce_why()).origin(self.origin(None))
    }

    fn reduce_why(&self) -> &'static str {
        let kept_only_until_execve = self.sets.permitted != self.sets.ambient;
        match self.sets.regained_by_root(self.bounding()) {
            _ if kept_only_until_execve => {
                "what is permitted but not ambient is lost at execve, unless the workload is uid 0"
            }
            None => {
                "the workload has no more than this, and as uid 0 regains nothing at execve: the bounding set has no more"
            }
            Some(_) if self.no_new_privs() => {
                "the workload has no more than this; the bounding set has, and no_new_privs keeps uid 0 from regaining it"
            }
            Some(_) => "the workload has no more than this, as long as it is not uid 0: the bounding set has more",
        }
    }

    /// The sets must still be what the policy says once the workload has been executed.
    fn root_regains_nothing(&self, host: &Host) -> Result<(), Error> {
        let as_launcher = || host.uid().ok().filter(|_| !host.uses("namespaces"));
        let root = host.workload_uid().or_else(as_launcher) == Some(0);
        let harmless = self.no_new_privs() || self.config.securebits.iter().any(|bit| bit.value == SecureBit::NoRoot);
        let Some(gain) = self.sets.regained_by_root(self.bounding()).filter(|_| root && !harmless) else {
            return Ok(());
        };
        let origin = self.config.no_new_privs.as_ref().and_then(|at| at.origin);
        Err(Error::policy(format!(
            "the workload runs as uid 0 and would regain {gain} at execve, which is not in `permitted`"
        ))
        .at(origin.or(self.origin(None)))
        .help("take it out of `bounding` and `inheritable`, or set no_new_privs: true, or add NoRoot to `securebits`"))
    }

    /// Refuses what this launcher cannot give. In a new user namespace the child has every capability.
    fn host_can(&self, host: &Host) -> Result<(), Error> {
        for bit in &self.config.securebits {
            let (major, minor) = bit.since().unwrap_or_default();
            if host.kernel().is_ok_and(|kernel| kernel < (major, minor)) {
                return Err(Error::host(format!("the securebit {:?} needs Linux {major}.{minor}", bit.value))
                    .at(bit.origin)
                    .help("take it out of `securebits`, or use a newer kernel"));
            }
        }
        let here = match host.fact("new_user_namespace") {
            Some(answer) => answer != "true",
            // Not told: then only the plugin that makes them can be the reason.
            None => !host.uses("namespaces"),
        };
        if here { self.launcher_can(host) } else { Ok(()) }
    }

    fn launcher_can(&self, host: &Host) -> Result<(), Error> {
        let held = CapSet(host.capabilities()?);
        let lacking = self.sets.permitted.named.minus(held);
        if !lacking.is_empty() {
            return Err(Error::host(format!("the launcher does not have {lacking}, so the workload cannot keep it"))
                .at(self.origin(Some(lacking)))
                .help("start palisade with it (as root, say), or use \"namespaces\": (user: New)"));
        }
        let bounding = caps::bounding().doing(|| "the launcher's bounding set could not be read")?;
        let lost = self.sets.bounding.named.minus(bounding);
        if !lost.is_empty() && self.bounding_demand() == Demand::Require {
            return Err(Error::host(format!(
                "{lost} is not in the launcher's bounding set, so it cannot be kept there"
            ))
            .at(self.origin(Some(lost)))
            .help("start palisade with it, or use \"namespaces\": (user: New)"));
        }
        if held.contains(SETPCAP) {
            return Ok(());
        }
        self.needs_setpcap(bounding)
    }

    /// Without CAP_SETPCAP: is there anything to do that needs it?
    fn needs_setpcap(&self, bounding: CapSet) -> Result<(), Error> {
        let surplus = bounding.minus(self.sets.bounding.within(bounding));
        if self.changes_bounding() && self.bounding_demand() == Demand::Require && !surplus.is_empty() {
            let harmless = if self.no_new_privs() { ", harmless while no_new_privs is on" } else { "" };
            return Err(Error::host(
                "the bounding set can be changed only with CAP_SETPCAP, which the launcher does not have",
            )
            .at(self.config.bounding_demand.as_ref().and_then(|at| at.origin).or(self.origin(None)))
            .help(format!(
                "use \"namespaces\": (user: New), or start palisade as root, or write bounding_demand: \
                     Degrade{harmless}"
            )));
        }
        if securebits::privileged(securebits::mask(&self.config.securebits)) {
            return Err(Error::host("securebits can be set only with CAP_SETPCAP, which the launcher does not have")
                .at(self.config.securebits.first().and_then(|bit| bit.origin))
                .help("use \"namespaces\": (user: New), or start palisade as root"));
        }
        let extra = self.sets.inheritable.named.minus(self.sets.permitted.named);
        if !extra.is_empty() {
            return Err(Error::host(format!(
                "{extra} can be made inheritable only with CAP_SETPCAP, or where it is permitted"
            ))
            .at(self.origin(Some(extra)))
            .help("add it to `permitted`, or start palisade as root"));
        }
        Ok(())
    }
}

/// What this host offers.
pub(crate) fn probe(host: &Host) -> Vec<Finding> {
    let own = host.has_capability(u32::from(SETPCAP));
    let last = caps::cap_last();
    let (support, detail) = match (&last, own) {
        (Ok(last), true) => (Support::Full, format!("{} capabilities, CAP_SETPCAP held", u32::from(*last) + 1)),
        (Ok(last), false) => (
            Support::Partial,
            format!("{} capabilities, no CAP_SETPCAP: the bounding set stays as it is", u32::from(*last) + 1),
        ),
        (Err(error), _) => (Support::Missing, error.to_string()),
    };
    let remedy = match support {
        Support::Full => "",
        _ => "use a user namespace (\"namespaces\": (user: New)), or start palisade as root",
    };
    vec![
        Finding { feature: "capability sets".to_owned(), support, detail, remedy: remedy.to_owned() },
        Finding {
            feature: "no_new_privs".to_owned(),
            support: Support::Full,
            detail: "in every kernel from 3.5 on".to_owned(),
            remedy: String::new(),
        },
    ]
}
