//! The harness, from the first canary to the report.

use crate::arm::{How, Round, round, typed};
use crate::attempts::{self, PLANTED_CAPABLE, is_capable};
use crate::canaries::{self, Canaries};
use crate::canary::HITS;
use crate::catalogue::{Brought, Probe, matches, probes};
use crate::machine::{self, Machine};
use crate::report::{Probed, REPORT_VERSION, Report, Summary};
use crate::scene::Stated;
use crate::verdict::Verdict;
use palisade_runtime::model::plan::Demand;
use palisade_runtime::model::policy::Test;
use palisade_runtime::model::stage::Stage;
use palisade_runtime::{Kind, Palisade, Plan, Policy, Trouble, Workload};
use palisade_sys::signal::{self, SignalFd};
use palisade_sys::{fd, process};
use std::collections::BTreeMap;
use std::os::fd::OwnedFd;
use std::os::unix::fs::PermissionsExt as _;
use std::path::PathBuf;
use std::time::{Duration, Instant};

/// What is asked for.
#[derive(Debug)]
pub struct Request<'a> {
    /// The runtime that puts the policy in force.
    pub palisade: &'a mut Palisade,
    /// The policy.
    pub policy: &'a Policy,
    /// Which attempts, by their ids; all where nothing is said.
    pub only: Option<&'a str>,
}

/// How long what is left in the background may take to be gone.
const SETTLE: Duration = Duration::from_secs(3);

/// Makes the attempts without a policy and under it, and judges them.
///
/// # Errors
/// The policy cannot be put in force, the canaries could not be laid out, or no attempt has such an id. Whatever
/// happens, all canaries are taken away. It refuses where this process has other threads, as a launch does.
pub fn probe(request: Request<'_>) -> Result<Report, Trouble> {
    let Request { palisade, policy, only } = request;
    let wanted = |id: &str| only.is_none_or(|only| matches(only, id));
    let chosen: Vec<&Probe> = probes().filter(|probe| wanted(probe.id)).collect();
    // A wrong policy is shown with its line, before anything is laid out.
    let plan = palisade.plan(policy, Workload::command(["true"]))?;
    let brought = plan.attempts()?.into_iter().map(|(plugin, attempt)| {
        let id = format!("{plugin}.{}", attempt.id);
        Brought { id, attempt }
    });
    let brought: Vec<Brought> = brought.filter(|brought| wanted(&brought.id)).collect();
    if chosen.is_empty() && brought.is_empty() {
        let only = only.unwrap_or_default();
        return Err(Trouble::new(Kind::Usage, format!("no attempt has an id like {only}"))
            .row("help", "`*` stands for any letters: fs-*, *-canary; docs/probes.md lists the ids"));
    }
    let stated = stated(palisade, policy, &plan)?;
    drop(plan);
    let program = own_program()?;
    let call = |error: palisade_sys::Error| Trouble::call("the signals could not be watched", &error);
    let ending = SignalFd::new(signal::ENDING).map_err(call)?;
    let before = Machine::now(&PathBuf::new());
    let mut canaries = Canaries::lay()?;
    canaries.scene.stated = stated;
    let command = |brought: &Brought| (brought.id.clone(), brought.attempt.argv.clone());
    canaries.scene.commands = brought.iter().map(command).collect();
    // After those of palisade, of which each is known to be harmless.
    let own = chosen.iter().map(|probe| probe.id.to_owned());
    let ids: Vec<String> = own.chain(brought.iter().map(|brought| brought.id.clone())).collect();
    let settings = Machine::now(&canaries.scene.host.cgroups);
    let bare = judged(&canaries, |canaries| round(How::Bare, canaries, &ids, &program, &ending))?;
    let under =
        judged(&canaries, |canaries| round(How::Policy(&mut *palisade, policy), canaries, &ids, &program, &ending))?;
    let (token, cgroups) = (canaries.scene.token.clone(), canaries.scene.host.cgroups.clone());
    drop(canaries);
    let launchers = [bare.launcher, under.launcher, process::getpid()];
    let changed = settled(|| {
        let mut changed = settings.differences(&Machine::now(&cgroups));
        changed.extend(before.differences(&Machine::now(&PathBuf::new())));
        changed.extend(canaries::left(&token));
        changed.extend(machine::left(&token, &launchers));
        changed
    });
    let of = |round: &Round, id: &str| {
        let none = || Verdict::Inconclusive("no answer".to_owned());
        round.verdicts.get(id).cloned().unwrap_or_else(none)
    };
    let probed = chosen.iter().map(|probe| Probed::new(probe, of(&bare, probe.id), of(&under, probe.id)));
    let more = brought.iter().map(|one| Probed::brought(one, of(&bare, &one.id), of(&under, &one.id)));
    let probes: Vec<Probed> = probed.chain(more).collect();
    Ok(Report {
        version: REPORT_VERSION,
        policy: policy.name.clone(),
        uid: process::getuid(),
        kernel: palisade_sys::host::uname().map_err(call)?.0,
        summary: Summary::of(&probes),
        probes,
        changed,
    })
}

/// What the policy says of itself.
fn stated(palisade: &Palisade, policy: &Policy, plan: &Plan) -> Result<Stated, Trouble> {
    let resolved = palisade.resolve(policy)?.0;
    let umask = resolved.process.umask.map(|umask| umask.value.bits());
    let tests: Vec<_> = resolved.tests.into_iter().map(|test| test.value).collect();
    let too_many = attempts::too_many(&tests);
    let limits = tests.into_iter().filter_map(|test| if let Test::Limit(cap) = test { Some(cap) } else { None });
    let processors = std::thread::available_parallelism().map_or(1, |count| count.get() as u64);
    let (status, limits, spare) = (status(plan), limits.collect(), crate::claims::limits::available());
    Ok(Stated { status, umask, too_many, limits, spare, processors })
}

/// Lines of /proc/PID/status that the plan makes so. What may fail does not count.
fn status(plan: &Plan) -> Vec<String> {
    let required = || plan.steps.iter().map(|step| &step.info).filter(|info| info.demand == Demand::Require);
    let filter = required().any(|info| info.stage == Stage::Seal && info.words.contains("system call"));
    let no_new_privs = required().any(|info| info.stage == Stage::Drop && info.words.contains("no_new_privs"));
    let lines = [(filter, "Seccomp:\t2"), (no_new_privs, "NoNewPrivs:\t1")];
    lines.into_iter().filter(|(so, _)| *so).map(|(_, line)| line.to_owned()).collect()
}

/// This very program, in a file that needs no name in the view and that nobody can change.
pub(crate) fn own_program() -> Result<OwnedFd, Trouble> {
    let call = |error: palisade_sys::Error| Trouble::call("the program could not be copied", &error);
    let bytes = std::fs::read("/proc/self/exe")
        .map_err(|error| Trouble::new(Kind::Setup, "the program could not be read").row("call", error.to_string()))?;
    fd::memfd_sealed(crate::arm::PROGRAM, &bytes).map_err(call)
}

/// Makes a round, and corrects by what is seen outside what was said inside.
fn judged(canaries: &Canaries, make: impl FnOnce(&Canaries) -> Result<Round, Trouble>) -> Result<Round, Trouble> {
    canaries.restore()?;
    let hits = hits(canaries);
    let mut round = make(canaries)?;
    let effects = effects(canaries, hits, &round);
    for (id, happened) in effects {
        let Some(said) = round.verdicts.get_mut(id) else { continue };
        match (happened, &said) {
            (true, _) => *said = Verdict::Open,
            // It worked, and nothing came of it outside.
            (false, Verdict::Open) => *said = Verdict::Virtual,
            (false, _) => {}
        }
    }
    Ok(round)
}

fn hits(canaries: &Canaries) -> u64 {
    std::fs::metadata(canaries.scene.dir.join(HITS)).map_or(0, |facts| facts.len())
}

/// What can be seen from outside of what was attempted.
fn effects(canaries: &Canaries, hits_before: u64, round: &Round) -> BTreeMap<&'static str, bool> {
    let dir = &canaries.scene.dir;
    let planted = std::fs::metadata(dir.join("planted")).is_ok_and(|facts| facts.permissions().mode() & 0o4000 != 0);
    let truncated = std::fs::metadata(dir.join("trunc")).is_ok_and(|facts| facts.len() == 0);
    let mut effects = BTreeMap::from([
        ("fs-create-outside", dir.join("w").exists()),
        ("fs-truncate-outside", truncated),
        ("fs-unlink-outside", !dir.join("del").exists()),
        ("pv-plant-setuid", planted),
        ("pv-plant-filecap", is_capable(&dir.join(PLANTED_CAPABLE))),
        ("pr-kill-canary", hits(canaries) > hits_before),
        ("ks-tiocsti", typed(canaries)),
    ]);
    if round.verdicts.contains_key("pr-survivor") {
        effects.insert("pr-survivor", survived(&canaries.scene.token));
    }
    effects
}

/// Whether something of the run goes on half a second after it; it is ended.
fn survived(token: &str) -> bool {
    const AFTER: Duration = Duration::from_millis(500);
    std::thread::sleep(AFTER);
    let left: Vec<i32> = machine::survivors(token);
    for pid in &left {
        process::kill(*pid, signal::SIGKILL).ok();
    }
    !left.is_empty()
}

/// What is still different once what ends in the background had its time.
fn settled(look: impl Fn() -> Vec<String>) -> Vec<String> {
    let begun = Instant::now();
    loop {
        let changed = look();
        if changed.is_empty() || begun.elapsed() > SETTLE {
            return changed;
        }
        std::thread::sleep(Duration::from_millis(50));
    }
}
