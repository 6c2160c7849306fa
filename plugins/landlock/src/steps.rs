//! The isolator and its steps: all in Seal, one for each line of the policy, then the one that enters.

use crate::audit::Audit;
use crate::config::Config;
use crate::domain::{Domain, beyond};
use crate::explain;
use crate::plan::{self, Line, Plan, What};
use crate::proof::Proof;
use crate::rights::{self, names};
use palisade_abi::{Act, Action, Context, Demand, Denial, Error, Evidence, Host, Isolator, Origin, Stage, Step};
use std::cell::RefCell;
use std::rc::Rc;

/// The isolator of one launch.
pub(crate) struct Isolated {
    config: Config,
    run_id: String,
    /// What was planned, where somebody wants to know why things are denied.
    planned: RefCell<Option<Plan>>,
    /// What the kernel itself says then, where it does.
    audit: Rc<RefCell<Option<Audit>>>,
}

impl Isolated {
    pub(crate) fn new(config: Config, run_id: String) -> Result<Self, Error> {
        plan::check(&config)?;
        Ok(Self { config, run_id, planned: RefCell::new(None), audit: Rc::default() })
    }
}

impl Isolator for Isolated {
    fn plan(&self, host: &Host) -> Result<Vec<Step>, Error> {
        let abi = palisade_sys::landlock::abi_version().map_err(|e| {
            Error::host("this kernel has no Landlock").call(e.to_string(), e.errno()).help(e.hint().unwrap_or_default())
        });
        let mut plan = plan::plan(&self.config, abi)?;
        if host.explains() {
            plan.log |= plan.abi >= rights::LOG;
            self.planned.replace(Some(plan.clone()));
        }
        let listener = host.explains().then(|| Rc::clone(&self.audit));
        Ok(steps(plan, &self.run_id, listener))
    }

    fn watch(&self) -> Vec<i32> {
        self.audit.borrow().as_ref().map(Audit::number).into_iter().collect()
    }

    fn ready(&mut self, _fd: i32) -> Result<(), Error> {
        self.audit.borrow_mut().as_mut().map_or(Ok(()), Audit::ready)
    }

    fn acts(&mut self) -> Result<Vec<Act>, Error> {
        Ok(self.audit.borrow_mut().as_mut().map(Audit::acts).unwrap_or_default())
    }

    fn explain(&self, act: &Act) -> Option<Denial> {
        let planned = self.planned.borrow();
        let plan = planned.as_ref()?;
        if act.fact("blockers").is_some() {
            return explain::logged(plan, act);
        }
        // Where the kernel tells, nothing need be guessed.
        if self.audit.borrow().is_some() { None } else { explain::explain(plan, act) }
    }
}

/// The steps of a plan.
pub(crate) fn steps(plan: Plan, run_id: &str, listener: Option<Rc<RefCell<Option<Audit>>>>) -> Vec<Step> {
    let any = !(plan.files.is_empty() && plan.net.is_empty() && plan.scopes.is_empty());
    let plan = Rc::new(plan);
    let domain = Rc::new(RefCell::new(Domain::default()));
    let origin = plan.lines.first().and_then(|line| line.origin);
    let mut steps = Vec::new();
    if any {
        steps.push(create(&plan, &domain, origin));
    }
    steps.extend(plan.lines.iter().map(|line| step(line, &domain)));
    if any {
        let enter = Enter { plan: Rc::clone(&plan), domain, run_id: run_id.to_owned(), listener };
        let step = Step::new(Stage::Seal, "enters the Landlock domain, for good, and tries that it holds", enter)
            .why("it cannot be read back from outside, so an access that worked just before must fail");
        steps.push(step.origin(origin));
    }
    steps
}

fn create(plan: &Rc<Plan>, domain: &Rc<RefCell<Domain>>, origin: Option<Origin>) -> Step {
    let words = if plan.files.is_empty() {
        "prepares a Landlock domain that leaves files alone".to_owned()
    } else {
        format!("prepares a Landlock domain that denies, unless granted below: {}", names(plan.files))
    };
    let (plan, domain) = (Rc::clone(plan), Rc::clone(domain));
    Step::run(Stage::Seal, words, move |_| {
        domain.borrow_mut().create(&plan)?;
        Ok::<_, Error>(format!("ABI {}{}", plan.abi, beyond(&plan)))
    })
    .why("what the kernel can restrict is denied first, and then granted line by line")
    .origin(origin)
}

fn step(line: &Line, domain: &Rc<RefCell<Domain>>) -> Step {
    let domain = Rc::clone(domain);
    let step = match line.what.clone() {
        What::Grant { path, access, optional } => {
            Step::run(Stage::Seal, &line.words, move |_| domain.borrow_mut().grant(&path, access, optional))
                .why("resolved here, in the final view")
        }
        What::Ports { access, ports } => Step::run(Stage::Seal, &line.words, move |_| {
            domain.borrow_mut().ports(access, &ports)?;
            Ok::<_, Error>(Evidence::default())
        })
        .why(
            "connect and bind of TCP only: seccomp's @tcp-unseen denies ways around; no network is a network namespace",
        ),
        What::Whole => Step::run(Stage::Seal, &line.words, |_| Ok::<_, Error>(Evidence::default()))
            .why("part of the domain as a whole, which is entered below"),
        What::Degraded(why) => Step::run(Stage::Seal, &line.words, move |_| Err::<String, _>(Error::host(why.clone())))
            .demand(Demand::Degrade),
        What::Off => Step::run(Stage::Seal, &line.words, |_| Ok::<_, Error>(Evidence::default())).demand(Demand::Off),
    };
    step.origin(line.origin)
}

/// The one call that puts all of it in force.
struct Enter {
    plan: Rc<Plan>,
    domain: Rc<RefCell<Domain>>,
    run_id: String,
    /// Where the audit log goes, if somebody wants to know why things are denied.
    listener: Option<Rc<RefCell<Option<Audit>>>>,
}

impl Action for Enter {
    fn apply(&mut self, _context: &mut Context<'_>) -> Result<Evidence, Error> {
        let mut domain = self.domain.borrow_mut();
        let proof = Proof::before(&self.plan, &domain.granted, &self.run_id);
        domain.enter(&self.plan)?;
        proof.after().map(Evidence)
    }

    /// There is nothing to read back, but the process is known now, and it does nothing yet that could be logged.
    fn verify(&self, context: &Context<'_>) -> Result<Option<Evidence>, Error> {
        let Some(listener) = self.listener.as_ref().filter(|_| self.plan.log) else { return Ok(None) };
        let audit = Audit::of(context.pid()?)?;
        let said =
            if audit.is_some() { "denials are read from the audit log" } else { "denials follow from the rules" };
        listener.replace(audit);
        Ok(Some(said.into()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::plan::tests::section;

    #[test]
    fn the_plan_in_words() {
        let text = r#"( rules: [ Read("/usr"), Execute("/usr"), Truncate("/log") ], tcp: (connect: [443]) )"#;
        let plan = plan::plan(&section(text), Ok(4)).unwrap();
        let words: Vec<String> = steps(plan, "1", None).iter().map(|step| format!("{step:?}")).collect();
        assert_eq!(
            words,
            [
                "seal: prepares a Landlock domain that denies, unless granted below: read_file, read_dir, execute, \
                 write_file, truncate, make_reg, make_dir, make_sym, make_fifo, make_sock, make_char, make_block, \
                 remove_file, remove_dir, refer",
                "seal: lets it read at /usr and below (read_file, read_dir)",
                "seal: lets it execute at /usr and below (execute)",
                "seal: lets it truncate at /log and below (truncate)",
                "seal: denies connecting to TCP ports other than 443",
                "seal: enters the Landlock domain, for good, and tries that it holds",
            ]
        );
    }

    #[test]
    fn with_nothing_to_restrict_no_domain_is_made() {
        let text = r#"( rules: [ Read("/usr") ], demand: (paths: Degrade) )"#;
        let plan = plan::plan(&section(text), Err(Error::host("no Landlock"))).unwrap();
        let steps = steps(plan, "1", None);
        assert_eq!(steps.len(), 2);
        assert!(!format!("{steps:?}").contains("enters"));
    }
}
