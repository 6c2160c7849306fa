//! One round of attempts: without a policy, or under it. The harness stays outside and hears of each as it is made.

use crate::PROBE_INSIDE;
use crate::attempts::{EXTRA, SECRET};
use crate::canaries::Canaries;
use crate::inside::{Listening, OVER, Said};
use crate::verdict::Verdict;
use palisade_runtime::model::report::Ended as Workload;
use palisade_runtime::{Kind, Options, Palisade, Policy, Running, Trouble};
use palisade_sys::channel::Channel;
use palisade_sys::event::{PollItem, poll};
use palisade_sys::process::{self, Cloned, Program, Target};
use palisade_sys::signal::{self, SigSet, SignalFd};
use palisade_sys::{fd, terminal};
use std::collections::BTreeMap;
use std::ffi::{CString, OsString};
use std::io::Write as _;
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::os::fd::{AsFd as _, AsRawFd as _, OwnedFd};
use std::time::{Duration, Instant};

/// What the copy of the program is called.
pub(crate) const PROGRAM: &str = "palisade-probe";
/// What an attempt types into the terminal of the run.
pub(crate) const TYPED: u8 = b'~';
/// What a round may take, besides the alarms of its attempts.
const SETUP: Duration = Duration::from_secs(20);
/// The longest that one attempt can take.
const EACH: Duration = Duration::from_secs(31);
/// How long what ends may take to end.
const END: Duration = Duration::from_secs(15);

/// Under what the attempts are made.
pub(crate) enum How<'a> {
    /// As the caller, under nothing: the control.
    Bare,
    /// Under a policy.
    Policy(&'a mut Palisade, &'a Policy),
}

/// What came of a round.
pub(crate) struct Round {
    pub(crate) verdicts: BTreeMap<String, Verdict>,
    /// The process that led it.
    pub(crate) launcher: i32,
}

/// What leads a round: a process that becomes the attempts, or launches them.
struct Leader {
    pid: i32,
    pidfd: OwnedFd,
}

impl Drop for Leader {
    fn drop(&mut self) {
        // It is over, or it must be, and with it what it launched: it leads a group, which still has its number as long
        // as the leader is not waited for.
        process::kill(-self.pid, signal::SIGKILL).ok();
        process::pidfd_send_signal(&self.pidfd, signal::SIGKILL).ok();
        process::waitid(Target::PidFd(self.pidfd.as_fd()), false).ok();
    }
}

fn call(error: palisade_sys::Error) -> Trouble {
    Trouble::call("a round of attempts could not be made", &error)
}

/// Makes a round.
///
/// # Errors
/// It could not be started, or the harness was told to end.
pub(crate) fn round(
    mut how: How<'_>,
    canaries: &Canaries,
    ids: &[String],
    program: &OwnedFd,
    ending: &SignalFd,
) -> Result<Round, Trouble> {
    let bare = matches!(how, How::Bare);
    let (ours, theirs) = Channel::pair().map_err(call)?;
    let (told, tells) = fd::pipe().map_err(call)?;
    let leader = match process::fork().map_err(call)? {
        Cloned::Parent { pid, pidfd } => Leader { pid, pidfd },
        Cloned::Child => {
            drop((ours, told));
            // It is shown by who started this; where that is gone nobody is left to be told.
            let why = lead(&mut how, canaries, program, &theirs).unwrap_or_else(|trouble| trouble.to_string());
            fd::write(&tells, why.as_bytes()).ok();
            process::exit_now(1);
        }
    };
    drop((theirs, tells));
    let mut scene = canaries.scene.clone();
    scene.ids = ids.to_vec();
    scene.bare = bare;
    scene.session = leader.pid;
    let message = serde_json::to_vec(&scene).map_err(|error| Trouble::new(Kind::Setup, error.to_string()))?;
    ours.send(&message).map_err(call)?;
    let mut verdicts = BTreeMap::new();
    let limit = SETUP + EACH * u32::try_from(ids.len()).unwrap_or(u32::MAX);
    let until = Instant::now() + limit;
    let over = loop {
        match hear(&ours, &leader, ending, until)? {
            Heard::Said(said) => drop(verdicts.insert(said.id, said.verdict)),
            Heard::Service(port) => visit(port, &scene.token),
            Heard::Over => break true,
            Heard::Nothing => break false,
        }
    };
    let why = if over { String::new() } else { ended(&leader, &told)? };
    for id in ids.iter().filter(|id| !verdicts.contains_key(*id)).cloned().collect::<Vec<_>>() {
        verdicts.insert(id, Verdict::Inconclusive(format!("no answer: {why}")));
    }
    finish(&leader)?;
    Ok(Round { verdicts, launcher: leader.pid })
}

/// What came from inside.
enum Heard {
    /// What became of an attempt.
    Said(Said),
    /// A service was opened on this port.
    Service(u16),
    /// All was said.
    Over,
    /// There is nobody any more, or it took too long.
    Nothing,
}

/// Waits for the next word from inside.
fn hear(channel: &Channel, leader: &Leader, ending: &SignalFd, until: Instant) -> Result<Heard, Trouble> {
    let mut message = Vec::new();
    let fds = [channel.as_fd(), leader.pidfd.as_fd(), ending.as_fd()];
    let mut items = fds.map(PollItem::read);
    poll(&mut items, Some(until.saturating_duration_since(Instant::now()))).map_err(call)?;
    let [said, _, told] = items.map(|item| item.readable || item.hup);
    if told {
        return Err(Trouble::new(Kind::Setup, "a signal ended the attempts before they were over"));
    }
    // The leader's end counts once all is heard.
    if !said || channel.recv(&mut message).map_err(call)?.is_none() {
        return Ok(Heard::Nothing);
    }
    if message == OVER.as_bytes() {
        return Ok(Heard::Over);
    }
    if let Ok(service) = serde_json::from_slice::<Listening>(&message) {
        return Ok(Heard::Service(service.listening));
    }
    let said = serde_json::from_slice(&message);
    said.map(Heard::Said).map_err(|error| Trouble::new(Kind::Setup, format!("an answer cannot be read: {error}")))
}

/// Connects to what was opened inside, and says the token; whoever hears it was reached from outside.
fn visit(port: u16, token: &str) {
    let address = SocketAddr::from((Ipv4Addr::LOCALHOST, port));
    if let Ok(mut peer) = TcpStream::connect_timeout(&address, Duration::from_millis(500)) {
        peer.write_all(token.as_bytes()).ok();
    }
}

/// Why there was no answer: what the leader said, or how it ended. A policy that could not be put in force is an
/// error of the whole; a run that ended early is not.
fn ended(leader: &Leader, told: &OwnedFd) -> Result<String, Trouble> {
    let mut items = [PollItem::read(leader.pidfd.as_fd())];
    poll(&mut items, Some(END)).map_err(call)?;
    if !items[0].is_ready() {
        return Ok("it took too long".to_owned());
    }
    let text = fd::read_all(told).map_err(call)?;
    let text = String::from_utf8_lossy(&text).into_owned();
    match text.strip_prefix("error: ") {
        Some(trouble) => Err(unstarted(trouble)),
        None if text.is_empty() => Ok("the run was over before".to_owned()),
        None => Ok(text),
    }
}

/// The trouble of another process, from its text.
fn unstarted(text: &str) -> Trouble {
    let mut lines = text.lines();
    let message = format!("the attempts could not be started: {}", lines.next().unwrap_or_default());
    let mut trouble = Trouble::new(Kind::Setup, message);
    for line in lines {
        let labels = ["policy", "step", "call", "host", "file", "help"];
        let body = line.trim_start();
        let known = labels.iter().find_map(|label| Some((*label, body.strip_prefix(*label)?.strip_prefix(' ')?)));
        // The lines of a diagnostic stand as they are.
        let (label, words) = known.map_or(("", line), |(label, words)| (label, words.trim_start()));
        trouble = trouble.row(label, words);
    }
    trouble
}

/// Waits until the leader is gone, with all that it launched.
fn finish(leader: &Leader) -> Result<(), Trouble> {
    let mut items = [PollItem::read(leader.pidfd.as_fd())];
    poll(&mut items, Some(END)).map_err(call)?;
    Ok(())
}

/// In the process that leads: never comes back with good news. What it gives is how the run ended early.
fn lead(how: &mut How<'_>, canaries: &Canaries, program: &OwnedFd, channel: &Channel) -> Result<String, Trouble> {
    let prepared = prepare(canaries).and_then(|()| {
        fd::clear_cloexec(program)?;
        fd::clear_cloexec(channel)
    });
    prepared.map_err(call)?;
    let numbers = (program.as_raw_fd(), channel.as_fd().as_raw_fd());
    let words = [format!("/proc/self/fd/{}", numbers.0), PROBE_INSIDE.to_owned(), numbers.1.to_string()];
    let variables = [(SECRET, canaries.scene.token.as_str()), (EXTRA, "1")];
    match how {
        How::Bare => {
            let own = std::env::vars_os().map(|(name, value)| [name, "=".into(), value].into_iter().collect());
            let given = variables.map(|(name, value)| OsString::from(format!("{name}={value}")));
            let c = |text: OsString| CString::new(text.into_encoded_bytes()).unwrap_or_default();
            let env: Vec<CString> = own.chain(given).map(c).collect();
            let argv = words.map(|word| c(word.into()));
            Err(call(process::exec(Program::Fd(program.as_fd()), &argv, &env)))
        }
        How::Policy(palisade, policy) => {
            let mut workload = palisade_runtime::Workload::command(words).with_environment();
            workload.inherited.extend(variables.map(|(name, value)| (name.to_owned(), value.to_owned())));
            let kept = policy.clone().set(format!("process.keep_fds=[{}, {}]", numbers.0, numbers.1));
            launch(palisade, &kept, workload)
        }
    }
}

/// The terminal is the run's, in a session of its own; what is left open on purpose survives `execve`.
fn prepare(canaries: &Canaries) -> palisade_sys::Result<()> {
    signal::set_mask(&SigSet::empty())?;
    process::set_pdeathsig(signal::SIGKILL)?;
    process::setsid()?;
    terminal::make_controlling(&canaries.terminal.1)?;
    fd::dup_to(&canaries.terminal.1, 0)?;
    // What the workload writes is nothing of the answer.
    fd::dup_to(fd::borrow(2)?, 1)?;
    fd::clear_cloexec(&canaries.leaked.0)?;
    fd::clear_cloexec(&canaries.leaked.1)
}

fn launch(palisade: &mut Palisade, policy: &Policy, workload: palisade_runtime::Workload) -> Result<String, Trouble> {
    let plan = palisade.plan(policy, workload)?;
    let report = plan.launch(Options::default()).and_then(Running::wait).map_err(|failed| failed.trouble)?;
    Ok(match report.workload.ended {
        Workload::Exited { code: 0 } => process::exit_now(0),
        Workload::SetupFailed { message, .. } => format!("error: {message}"),
        Workload::TimedOut { limit, .. } => format!("the policy ends the run after {limit}"),
        Workload::LimitHit { limit, .. } => format!("a limit of the policy ended the run: {limit}"),
        Workload::Signaled { name, .. } => format!("the run was ended by {name}"),
        Workload::Exited { code } => format!("the run ended with exit code {code}"),
        Workload::NotStarted { reason } => format!("error: {reason}"),
    })
}

/// What an attempt typed, if it did.
pub(crate) fn typed(canaries: &Canaries) -> bool {
    let mut items = [PollItem::read(canaries.terminal.1.as_fd())];
    let there = poll(&mut items, Some(Duration::ZERO)).is_ok_and(|ready| ready > 0) && items[0].readable;
    there && fd::read_some(&canaries.terminal.1, 64).is_ok_and(|bytes| bytes.contains(&TYPED))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_trouble_of_another_process_keeps_its_labels() {
        let told = Trouble::new(Kind::NotFound, "not found").row("call", "execve() = ENOENT").row("help", "install it");
        let text = told.to_string();
        let again = unstarted(text.strip_prefix("error: ").unwrap());
        assert_eq!(again.message, "the attempts could not be started: not found");
        assert_eq!(again.rows, told.rows);
    }
}
