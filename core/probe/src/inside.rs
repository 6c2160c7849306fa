//! What runs inside: each attempt in a process of its own, with an alarm, and what came of it in one message.

use crate::attempts::{CORE, scratch_of};
use crate::catalogue::{Probe, probes};
use crate::scene::Scene;
use crate::verdict::{Stop, Tried, Verdict, verdict};
use palisade_sys::channel::Channel;
use palisade_sys::process::{self, Cloned, Ended, Target};
use palisade_sys::{attempt, fd, limits, signal};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::os::fd::{AsFd as _, AsRawFd as _};
use std::os::unix::process::ExitStatusExt as _;
use std::process::{Command, Stdio};

/// How long one attempt may take, in seconds; and one that makes many processes.
const ALARM: u32 = 3;
const LONG_ALARM: u32 = 30;
/// The message that there is nothing more to come.
pub(crate) const OVER: &str = "over";
/// A verdict in bytes is far shorter.
const LONGEST: usize = 4096;

/// What is told outside.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Said {
    pub(crate) id: String,
    pub(crate) verdict: Verdict,
}

/// A service that was opened: outside is to connect to it.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Listening {
    pub(crate) listening: u16,
}

/// Makes the attempts that the message on this descriptor names; gives the exit code.
pub(crate) fn inside(number: i32) -> u8 {
    match perform(number) {
        Ok(()) => 0,
        Err(()) => 1,
    }
}

/// There is nobody to be told of an error but the harness, which sees that no answer came.
fn perform(number: i32) -> Result<(), ()> {
    let own = fd::borrow(number).and_then(fd::dup_cloexec).map_err(drop)?;
    let channel = Channel::from(own);
    let mut message = Vec::new();
    channel.recv(&mut message).map_err(drop)?;
    let mut scene: Scene = serde_json::from_slice(&message).map_err(drop)?;
    scene.channel = channel.as_fd().as_raw_fd();
    let all: BTreeMap<&str, &Probe> = probes().map(|probe| (probe.id, probe)).collect();
    for id in &scene.ids {
        let verdict = match (all.get(id.as_str()), scene.commands.get(id)) {
            (Some(probe), _) => tried(probe, &scene),
            (None, Some(command)) => apart(LONG_ALARM, || ran(command, &scene.token)),
            (None, None) => continue,
        };
        let said = Said { id: id.clone(), verdict };
        tell(&channel, &said)?;
    }
    channel.send(OVER.as_bytes()).map_err(drop)
}

/// Says something to the harness.
pub(crate) fn tell(channel: &Channel, what: &impl Serialize) -> Result<(), ()> {
    let bytes = serde_json::to_vec(what).map_err(drop)?;
    channel.send(&bytes).map_err(drop)
}

/// One attempt in a process of its own.
fn tried(probe: &Probe, scene: &Scene) -> Verdict {
    let seconds = if probe.id.starts_with("rs-") { LONG_ALARM } else { ALARM };
    let (pid, verdict) = in_a_process(seconds, || {
        // But for the one that is about them.
        if probe.id != CORE {
            no_core();
        }
        (probe.attempt)(scene)
    });
    if let Some(pid) = pid {
        std::fs::remove_dir_all(scratch_of(scene, pid)).ok();
    }
    verdict
}

/// Runs the command of an attempt that a plugin brings. It worked if it says the token.
fn ran(command: &[String], token: &str) -> Tried {
    let mut words = command.iter().map(|word| word.replace("{token}", token));
    let program = words.next().unwrap_or_default();
    let ran = Command::new(program).args(words).stdin(Stdio::null()).stderr(Stdio::null()).output()?;
    if ran.stdout.windows(token.len()).any(|window| window == token.as_bytes()) {
        return Ok(true);
    }
    Err(match (ran.status.code(), ran.status.signal()) {
        (_, Some(signal)) => Stop(Verdict::Killed(signal::show(signal))),
        (Some(code), None) => Stop::denied(&format!("exit code {code}")),
        (None, None) => Stop::unclear("it has no status"),
    })
}

/// Tries something in a process of its own, which has so many seconds.
pub(crate) fn apart(seconds: u32, attempt: impl FnOnce() -> Tried) -> Verdict {
    let (_, verdict) = in_a_process(seconds, || {
        no_core();
        attempt()
    });
    verdict
}

fn in_a_process(seconds: u32, attempt: impl FnOnce() -> Tried) -> (Option<i32>, Verdict) {
    let unclear = |error: palisade_sys::Error| Verdict::Inconclusive(error.to_string());
    let (ours, theirs) = match fd::pipe() {
        Ok(pair) => pair,
        Err(error) => return (None, unclear(error)),
    };
    let pid = match process::fork() {
        Ok(Cloned::Parent { pid, .. }) => pid,
        Ok(Cloned::Child) => {
            drop(ours);
            attempt_here(seconds);
            let came = verdict(attempt());
            // Whoever does not hear of it sees how this process ended.
            let told = serde_json::to_vec(&came).is_ok_and(|bytes| fd::write(&theirs, &bytes).is_ok());
            process::exit_now(i32::from(!told));
        }
        Err(error) => return (None, unclear(error)),
    };
    drop(theirs);
    let said = fd::read_some(&ours, LONGEST).unwrap_or_default();
    let verdict = match process::waitid(Target::Pid(pid), false) {
        Ok(Some(status)) => judged(&said, status.ended),
        Ok(None) => Verdict::Inconclusive("it cannot be waited for".to_owned()),
        Err(error) => unclear(error),
    };
    (Some(pid), verdict)
}

/// What every attempt's process is like.
fn attempt_here(seconds: u32) {
    attempt::alarm(seconds);
    // Where it cannot be had, the attempt is made all the same: it is as harmless.
    std::fs::write("/proc/self/oom_score_adj", "1000").ok();
}

fn no_core() {
    if let Some(core) = limits::Resource::from_name("core") {
        limits::set_rlimit(core, 0, 0).ok();
    }
}

fn judged(said: &[u8], ended: Ended) -> Verdict {
    if let Ok(verdict) = serde_json::from_slice(said) {
        return verdict;
    }
    match ended {
        Ended::Signaled { signal: signal::SIGALRM, .. } => Verdict::Inconclusive("it hung".to_owned()),
        // A mistake of ours ends so, and proves nothing.
        Ended::Signaled { signal: signal::SIGABRT, .. } => Verdict::Inconclusive("it failed".to_owned()),
        Ended::Signaled { signal, .. } => Verdict::Killed(signal::show(signal)),
        Ended::Exited(code) => Verdict::Inconclusive(format!("no answer, exit code {code}")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_end_of_an_attempt_is_judged() {
        let said = serde_json::to_vec(&Verdict::Open).unwrap();
        assert_eq!(judged(&said, Ended::Exited(0)), Verdict::Open);
        let ended = |signal| judged(b"", Ended::Signaled { signal, core: false });
        assert_eq!(ended(signal::SIGKILL).word(), "KILLED");
        assert_eq!(ended(signal::SIGALRM).word(), "INCONCLUSIVE");
        assert_eq!(ended(signal::SIGABRT).word(), "INCONCLUSIVE");
        assert_eq!(judged(b"", Ended::Exited(1)).word(), "INCONCLUSIVE");
    }
}
