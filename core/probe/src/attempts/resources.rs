//! Taking more than one's share, with hard caps.

use super::*;
use palisade_runtime::model::policy::{Cap, Test};
use palisade_sys::attempt::Arg::{In, Int};
use palisade_sys::process::{self, Cloned, Target};
use palisade_sys::{limits, signal};
use std::time::Duration;

table! {
    "rs-mlock" Low ["RLIMIT_MEMLOCK; CAP_IPC_LOCK"] "pin more memory than the limit", "CAP_IPC_LOCK", "1 MiB more, which is let go"
        => mlock;
    "rs-nice" Low ["CAP_SYS_NICE; RLIMIT_NICE; SEC"] "go before others", "CAP_SYS_NICE", "only the attempt's own process"
        => |_| { limits::set_nice(-5)?; Ok(true) };
    "rs-realtime" Medium ["CAP_SYS_NICE; RLIMIT_RTPRIO; SEC"] "go before all others", "CAP_SYS_NICE", "only the attempt's own process, which ends"
        => |_| gave(Call::SCHED_SETSCHEDULER, [Int(0), Int(1), In(&1_u32.to_ne_bytes())]);
    "rs-pty" Medium ["MNT, a devpts of its own"] "see the host's terminals", "that there is one", "it only reads"
        => terminals;
    "rs-fork" High ["pids of the cgroup; RLIMIT_NPROC"] "have more processes than the policy says, and 320 where it says nothing", "", "they sleep; all are ended at once"
        => many;
}

/// Beyond what a policy for one program allows; far below what a host has.
const PROCESSES: u64 = 320;
/// Where a policy allows more than this, so many are tried: a host is not filled up.
const MOST: u64 = 20_000;
const NAP: Duration = Duration::from_secs(8);

fn mlock(_: &Scene) -> Tried {
    const MORE: u64 = 1 << 20;
    const MOST: u64 = 64 << 20;
    let limit = limits::Resource::from_name("memlock").map(limits::get_rlimit).transpose()?;
    let soft = limit.map_or(0, |(soft, _)| if soft == limits::UNLIMITED { 0 } else { soft });
    let wanted = usize::try_from((soft + MORE).min(MOST)).unwrap_or(0);
    palisade_sys::attempt::pin(wanted)?;
    Ok(true)
}

/// The run's own terminal is one of them.
fn terminals(scene: &Scene) -> Tried {
    let is_terminal = |name: &std::ffi::OsStr| name.to_string_lossy().bytes().all(|byte| byte.is_ascii_digit());
    let any = std::fs::read_dir("/dev/pts")?.flatten().any(|entry| is_terminal(&entry.file_name()));
    seen(any && Some(inode("/dev/pts")?) == scene.host.terminals, "none of the host's")
}

/// How many processes are too many under a policy that says this of itself: a build has more of them than a converter.
pub(crate) fn too_many(tests: &[Test]) -> u64 {
    let said = tests.iter().filter_map(|test| match test {
        Test::Limit(Cap::Pids(limit)) => Some(limit.saturating_add(1)),
        _ => None,
    });
    said.max().unwrap_or(0).clamp(PROCESSES, MOST)
}

fn many(scene: &Scene) -> Tried {
    crowd(usize::try_from(scene.stated.too_many).unwrap_or(usize::MAX))
}

/// Has so many processes besides those that there are; all of them are ended.
pub(crate) fn crowd(count: usize) -> Tried {
    let mut children = Vec::new();
    let mut failed = None;
    while children.len() < count {
        match process::fork() {
            Ok(Cloned::Child) => {
                // It ends with who made it, should that one be ended.
                process::set_pdeathsig(signal::SIGKILL).ok();
                std::thread::sleep(NAP);
                process::exit_now(0);
            }
            // Without its descriptor, of which there may be fewer than processes.
            Ok(Cloned::Parent { pid, .. }) => children.push(pid),
            Err(error) => {
                failed = Some(error);
                break;
            }
        }
    }
    for child in &children {
        process::kill(*child, signal::SIGKILL).ok();
    }
    for child in &children {
        process::waitid(Target::Pid(*child), false).ok();
    }
    failed.map_or(Ok(true), |error| Err(error.into()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_policy_says_that_it_allows_is_not_too_many() {
        let limit = |number| Test::Limit(Cap::Pids(number));
        assert_eq!(too_many(&[]), 320);
        assert_eq!(too_many(&[limit(32)]), 320);
        // The claims of the layers below may be narrower than what is in force.
        assert_eq!(too_many(&[limit(256), limit(1024)]), 1025);
        assert_eq!(too_many(&[limit(u64::MAX)]), MOST);
    }
}
