//! The `tests` of a policy: what it says that it allows, denies and limits, tried under it, and without it where a
//! denial would else prove nothing.

mod acts;
pub(crate) mod limits;

use crate::inside::{apart, tell};
use crate::outside::own_program;
use crate::verdict::Verdict;
use palisade_runtime::model::policy::{Act, Cap, Test};
use palisade_runtime::model::report::Ended;
use palisade_runtime::{Kind, Options, Palisade, Policy, Running, Trouble, Workload};
use palisade_sys::channel::Channel;
use palisade_sys::fd;
use palisade_sys::process::{self, Cloned, Target};
use palisade_sys::signal::{self, SigSet};
use serde::{Deserialize, Serialize};
use std::os::fd::{AsFd as _, AsRawFd as _, OwnedFd};

/// The first argument of the program when it is to try claims. The second is the number of a descriptor.
pub const CLAIMS_INSIDE: &str = "__claims-inside";

/// How long one act may take, in seconds.
const ACT: u32 = 4;

/// Something to be tried.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
enum Try {
    Act(Act),
    Exceed(Cap),
}

/// What became of a claim.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Claim {
    /// It is as the policy says.
    Holds,
    /// It is not.
    Broken,
    /// It does not work without the policy either, or cannot be tried, so that nothing is shown.
    Unproven,
}

/// One line of `tests`, tried.
#[derive(Clone, Debug, Serialize)]
pub struct Claimed {
    /// The line as it is written.
    pub test: String,
    /// Where it stands.
    pub policy_line: String,
    /// What became of it.
    pub claim: Claim,
    /// What came of the act without the policy; nothing where only the policy counts.
    pub bare: Option<Verdict>,
    /// What came of it under the policy.
    pub policy: Verdict,
}

/// Tries every claim of a policy, in the order in which they are written, base first.
///
/// # Errors
/// The policy is wrong or cannot be put in force. It refuses where this process has other threads, as a launch does.
pub fn claims(palisade: &mut Palisade, policy: &Policy) -> Result<Vec<Claimed>, Trouble> {
    let (resolved, sources) = palisade.resolve(policy)?;
    let tries: Vec<Try> = resolved.tests.iter().map(|test| tried(&test.value)).collect();
    let bare = without(&tries)?;
    let under = beneath(palisade, policy, &tries)?;
    let claimed = resolved.tests.iter().zip(bare).zip(under).map(|((test, bare), under)| {
        let written = test.origin.map(|origin| {
            let text = sources.text(origin.source);
            let range = usize::try_from(origin.start).unwrap_or(0)..usize::try_from(origin.end).unwrap_or(0);
            text.get(range).unwrap_or_default().to_owned()
        });
        Claimed {
            test: written.unwrap_or_else(|| format!("{:?}", test.value)),
            policy_line: test.origin.map(|origin| sources.locate(origin)).unwrap_or_default(),
            claim: judge(&test.value, &bare, &under),
            bare: (!matches!(test.value, Test::Allow(_))).then_some(bare),
            policy: under,
        }
    });
    Ok(claimed.collect())
}

fn tried(test: &Test) -> Try {
    match test {
        Test::Allow(act) | Test::Deny(act) => Try::Act(act.clone()),
        Test::Limit(cap) => Try::Exceed(cap.clone()),
    }
}

fn judge(test: &Test, bare: &Verdict, under: &Verdict) -> Claim {
    match (test, under) {
        (_, Verdict::Inconclusive(_)) => Claim::Unproven,
        (Test::Allow(_), Verdict::Open) => Claim::Holds,
        (Test::Allow(_), _) | (_, Verdict::Open) => Claim::Broken,
        _ if *bare == Verdict::Open => Claim::Holds,
        _ => Claim::Unproven,
    }
}

fn call(error: palisade_sys::Error) -> Trouble {
    Trouble::call("the policy's tests could not be tried", &error)
}

/// Tries all as this process's user, under nothing. A limit that is exceeded costs the host something, so each is
/// tried only as far as the host has plenty.
fn without(tries: &[Try]) -> Result<Vec<Verdict>, Trouble> {
    let (ours, theirs) = Channel::pair().map_err(call)?;
    ask(&ours, tries)?;
    let pid = match process::fork().map_err(call)? {
        Cloned::Child => {
            drop(ours);
            process::set_pdeathsig(signal::SIGKILL).ok();
            process::exit_now(i32::from(perform(&theirs, Place::Host).is_err()));
        }
        Cloned::Parent { pid, .. } => pid,
    };
    drop(theirs);
    let said = listen(&ours, tries.len())?;
    process::waitid(Target::Pid(pid), false).map_err(call)?;
    Ok(said)
}

/// Tries all under the policy: the acts in one launch, what exceeds a limit in one each, as it may end the whole of it.
fn beneath(palisade: &mut Palisade, policy: &Policy, tries: &[Try]) -> Result<Vec<Verdict>, Trouble> {
    let program = own_program()?;
    let acts: Vec<Try> = tries.iter().filter(|one| matches!(one, Try::Act(_))).cloned().collect();
    let mut of_acts = launch(palisade, policy, &program, &acts)?.into_iter();
    let mut all = Vec::with_capacity(tries.len());
    for one in tries {
        let verdict = match one {
            Try::Act(_) => of_acts.next(),
            Try::Exceed(_) => launch(palisade, policy, &program, std::slice::from_ref(one))?.pop(),
        };
        all.push(verdict.unwrap_or_else(|| Verdict::Inconclusive("no answer".to_owned())));
    }
    Ok(all)
}

fn launch(palisade: &mut Palisade, policy: &Policy, program: &OwnedFd, tries: &[Try]) -> Result<Vec<Verdict>, Trouble> {
    if tries.is_empty() {
        return Ok(Vec::new());
    }
    let (ours, theirs) = Channel::pair().map_err(call)?;
    ask(&ours, tries)?;
    let numbers = (program.as_raw_fd(), theirs.as_fd().as_raw_fd());
    let words = [format!("/proc/self/fd/{}", numbers.0), CLAIMS_INSIDE.to_owned(), numbers.1.to_string()];
    let kept = policy.clone().set(format!("process.keep_fds=[{}, {}]", numbers.0, numbers.1));
    fd::clear_cloexec(program).and_then(|()| fd::clear_cloexec(&theirs)).map_err(call)?;
    let plan = palisade.plan(&kept, Workload::command(words).with_environment())?;
    let report = plan.launch(Options::default()).and_then(Running::wait).map_err(|failed| failed.trouble)?;
    drop(theirs);
    let mut said = listen(&ours, tries.len())?;
    // Whoever did not come to answer was ended, by a limit or by the time that the policy gives.
    let ended = match &report.workload.ended {
        Ended::LimitHit { limit, .. } => Verdict::Limited(limit.clone()),
        Ended::TimedOut { .. } => Verdict::Limited("its time was up".to_owned()),
        other => Verdict::Inconclusive(format!("the workload ended before it answered: {other:?}")),
    };
    said.resize(tries.len(), ended);
    Ok(said)
}

fn ask(channel: &Channel, tries: &[Try]) -> Result<(), Trouble> {
    let message = serde_json::to_vec(tries).map_err(|error| Trouble::new(Kind::Setup, error.to_string()))?;
    channel.send(&message).map_err(call)
}

/// What was said, up to the end.
fn listen(channel: &Channel, most: usize) -> Result<Vec<Verdict>, Trouble> {
    let (mut said, mut message) = (Vec::new(), Vec::new());
    while said.len() < most && channel.recv(&mut message).map_err(call)?.is_some() {
        let verdict = serde_json::from_slice(&message);
        said.push(verdict.map_err(|error| Trouble::new(Kind::Setup, format!("an answer cannot be read: {error}")))?);
    }
    Ok(said)
}

/// Where something is tried.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Place {
    /// On the host, of which only what it has plenty of may be taken.
    Host,
    Inside,
}

/// Tries what the message on this descriptor says; gives the exit code.
pub(crate) fn inside(number: i32) -> u8 {
    let own = fd::borrow(number).and_then(fd::dup_cloexec).map(Channel::from);
    match own.map_err(drop).and_then(|channel| perform(&channel, Place::Inside)) {
        Ok(()) => 0,
        Err(()) => 1,
    }
}

/// There is nobody to be told of an error but who asked, and that one sees that no answer came.
fn perform(channel: &Channel, place: Place) -> Result<(), ()> {
    signal::set_mask(&SigSet::empty()).map_err(drop)?;
    let mut message = Vec::new();
    channel.recv(&mut message).map_err(drop)?;
    let tries: Vec<Try> = serde_json::from_slice(&message).map_err(drop)?;
    for one in tries {
        let verdict = match one {
            Try::Act(act) => apart(ACT, || acts::act(&act)),
            Try::Exceed(cap) => match limits::seconds(&cap, place) {
                Ok(seconds) => apart(seconds, || limits::exceed(&cap)),
                Err(why) => Verdict::Inconclusive(why),
            },
        };
        tell(channel, &verdict)?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_denial_counts_only_where_the_act_works_without_the_policy() {
        let act = || Act::Syscall("mount".to_owned());
        let denied = Verdict::Denied("EPERM".to_owned());
        let unclear = Verdict::Inconclusive("it hung".to_owned());
        for (test, bare, under, claim) in [
            (Test::Deny(act()), &Verdict::Open, &denied, Claim::Holds),
            (Test::Deny(act()), &Verdict::Open, &Verdict::Open, Claim::Broken),
            (Test::Deny(act()), &denied, &denied, Claim::Unproven),
            (Test::Deny(act()), &denied, &Verdict::Open, Claim::Broken),
            (Test::Deny(act()), &Verdict::Open, &unclear, Claim::Unproven),
            (Test::Allow(act()), &denied, &Verdict::Open, Claim::Holds),
            (Test::Allow(act()), &Verdict::Open, &denied, Claim::Broken),
            (Test::Limit(Cap::Pids(3)), &Verdict::Open, &Verdict::Limited("EAGAIN".to_owned()), Claim::Holds),
            (Test::Limit(Cap::Pids(3)), &Verdict::Open, &Verdict::Open, Claim::Broken),
        ] {
            assert_eq!(judge(&test, bare, under), claim, "{test:?} {bare:?} {under:?}");
        }
    }
}
