//! Ranges that an ordinary user was given: /etc/subuid and /etc/subgid, and the set-user-ID helpers of the package
//! uidmap that write a map in such a user's name.

use std::path::{Path, PathBuf};
use std::process::Command;

use palisade_abi::Error;
use palisade_sys::ids;

use crate::ids::{Range, Side};

/// Where distributions put the helpers. PATH is the caller's and is not asked.
const DIRS: [&str; 4] = ["/usr/bin", "/bin", "/usr/local/bin", "/usr/sbin"];

/// Finds `newuidmap` or `newgidmap`.
pub(crate) fn helper(name: &str) -> Option<PathBuf> {
    DIRS.iter().map(|dir| Path::new(dir).join(name)).find(|path| path.is_file())
}

/// Checks that the helpers are there and would do it.
pub(crate) fn check(uid: &Side, gid: &Side, own_uid: u32, own_gid: u32) -> Result<(), Error> {
    let name = ids::lookup_uid(own_uid).ok().flatten().map(|user| user.name);
    for (side, own, file, program) in
        [(uid, own_uid, "/etc/subuid", "newuidmap"), (gid, own_gid, "/etc/subgid", "newgidmap")]
    {
        if helper(program).is_none() {
            return Err(Error::host(format!("an ordinary user needs `{program}` for this map, and it is missing"))
                .help("install the package uidmap (shadow-utils, shadow), or use ids: Auto"));
        }
        let text = std::fs::read_to_string(file).unwrap_or_default();
        let given = parse(&text, name.as_deref(), own_uid);
        let Side::Fixed(ranges) = side else { continue };
        if let Some(range) = ranges.iter().find(|range| !covered(range, &given, own)) {
            return Err(lacking(file, range, &given, name.as_deref().unwrap_or("this user")));
        }
    }
    Ok(())
}

fn lacking(file: &str, range: &Range, given: &[(u32, u32)], name: &str) -> Error {
    let message = match given {
        [] => format!("{file} has no range for {name}"),
        [(start, count), ..] => {
            format!(
                "{file} gives {name} {count} ids from {start}, which do not hold {} from {}",
                range.count, range.outside
            )
        }
    };
    let kind = file.trim_start_matches("/etc/sub");
    let last = u64::from(range.outside) + u64::from(range.count) - 1;
    Error::host(message).help(format!("as root: usermod --add-sub{kind}s {}-{last} {name}", range.outside))
}

/// The ranges of a user, as (first, count). A line is `name-or-uid:first:count`.
pub(crate) fn parse(text: &str, name: Option<&str>, uid: u32) -> Vec<(u32, u32)> {
    text.lines()
        .filter_map(|line| {
            let mut parts = line.trim().split(':');
            let owner = parts.next()?;
            let ours = Some(owner) == name || owner.parse() == Ok(uid);
            let range = (parts.next()?.parse().ok()?, parts.next()?.parse().ok()?);
            ours.then_some(range)
        })
        .collect()
}

fn covered(range: &Range, given: &[(u32, u32)], own: u32) -> bool {
    let end = u64::from(range.outside) + u64::from(range.count);
    let within = |&(start, count): &(u32, u32)| start <= range.outside && end <= u64::from(start) + u64::from(count);
    given.iter().any(within) || (range.outside == own && range.count == 1)
}

/// Has a helper write a map.
pub(crate) fn write(program: &str, pid: i32, ranges: &[Range]) -> Result<(), Error> {
    let path = helper(program).ok_or_else(|| Error::setup(format!("`{program}` has disappeared")))?;
    let mut args = vec![pid.to_string()];
    for range in ranges {
        args.extend([range.inside, range.outside, range.count].map(|number| number.to_string()));
    }
    let call = format!("{} {}", path.display(), args.join(" "));
    // The helper is set-user-ID root: it gets nothing of the caller's environment.
    let output = Command::new(&path).args(&args).env_clear().output().map_err(|e| {
        Error::setup(format!("cannot run {program}"))
            .call(format!("execve({call}): {e}"), e.raw_os_error().unwrap_or(0))
    })?;
    if output.status.success() {
        return Ok(());
    }
    let said = String::from_utf8_lossy(&output.stderr).trim().to_owned();
    Err(Error::setup(format!("{program} refused the map: {said}"))
        .call(format!("{call}: {}", output.status), 0)
        .help("see /etc/subuid and /etc/subgid; the helper must be set-user-ID root or have its file capability"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges_are_found_by_name_and_by_number() {
        let text = "alice:100000:65536\nbob:200000:65536\n1001:300000:10\nrubbish\nalice:x:1\n";
        assert_eq!(parse(text, Some("alice"), 1001), [(100_000, 65536), (300_000, 10)]);
        assert_eq!(parse(text, None, 5), []);
    }

    #[test]
    fn a_range_must_lie_in_one_that_was_given() {
        let given = [(100_000, 65536)];
        assert!(covered(&Range { inside: 0, outside: 100_000, count: 65536 }, &given, 1000));
        assert!(!covered(&Range { inside: 0, outside: 100_000, count: 65537 }, &given, 1000));
        assert!(!covered(&Range { inside: 0, outside: 99_999, count: 2 }, &given, 1000));
        assert!(covered(&Range::one(0, 1000), &given, 1000));
    }

    #[test]
    fn the_error_says_how_to_get_the_range() {
        let range = Range { inside: 0, outside: 100_000, count: 65536 };
        let error = lacking("/etc/subuid", &range, &[], "alice");
        assert_eq!(error.message, "/etc/subuid has no range for alice");
        assert_eq!(error.help, "as root: usermod --add-subuids 100000-165535 alice");
    }
}
