//! Cgroups of launchers that were killed. SIGKILL leaves no time to remove one; the kernel ends what was in it, and
//! the next launch in the same place takes the empty directory away.

use palisade_sys::Errno;
use palisade_sys::fd;
use palisade_sys::process::kill;
use std::os::fd::AsFd;
use std::time::{Duration, SystemTime};

/// A younger one may be in the making, by a palisade whose process ids are not visible here.
const OLD: Duration = Duration::from_secs(5);

/// Removes what dead launchers left below `base`. Nothing depends on it: what cannot be removed stays.
pub(crate) fn sweep(base: impl AsFd) {
    let base = base.as_fd();
    for name in std::fs::read_dir(fd::proc_fd_path(base)).into_iter().flatten().flatten() {
        let name = name.file_name();
        if name.to_str().is_some_and(|name| is_left(name, SystemTime::now())) {
            // EBUSY: it holds processes after all.
            fd::rmdir_at(base, &name).ok();
        }
    }
}

/// Whether this is the name of a launch, `palisade-PID-MICROSECONDS-COUNT`, that is old enough and whose process is gone.
fn is_left(name: &str, now: SystemTime) -> bool {
    let Some((pid, made)) = parse(name) else { return false };
    let age = now.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default().saturating_sub(made);
    age > OLD && kill(pid, 0).is_err_and(|error| error.kind() == Errno::ESRCH)
}

fn parse(name: &str) -> Option<(i32, Duration)> {
    let mut parts = name.strip_prefix("palisade-")?.split('-');
    let pid = parts.next()?.parse().ok().filter(|pid| *pid > 0)?;
    let made = u64::from_str_radix(parts.next()?, 16).ok()?;
    parts.next()?.parse::<u64>().ok()?;
    parts.next().is_none().then_some((pid, Duration::from_micros(made)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_old_launches_of_dead_processes_are_left() {
        let mut child = std::process::Command::new("true").spawn().unwrap();
        let dead = child.id();
        child.wait().unwrap();
        let name = |pid: u32, made: u64| format!("palisade-{pid}-{made:x}-1");
        let at = |seconds: u64| SystemTime::UNIX_EPOCH + Duration::from_secs(seconds);
        assert!(is_left(&name(dead, 1_000_000), at(7)));
        assert!(!is_left(&name(dead, 1_000_000), at(5)), "it is young");
        assert!(!is_left(&name(std::process::id(), 1_000_000), at(7)), "its process is there");
        for other in
            ["palisade-x", "palisade-1-1", "palisade-0-1-1", "palisade--1-1-1", "user.slice", "palisade-9-1-1-1"]
        {
            assert!(!is_left(other, at(1 << 32)), "{other}");
        }
    }
}
