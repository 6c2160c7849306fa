//! Which ids inside a new user namespace are which outside. Pure: what the host is like comes in as a value.

use std::fmt;

use palisade_abi::{At, Error, Host};

use crate::config::{Ids, Setgroups};
use crate::subid;

/// Outside ids that own nothing: this and the number of the process on the host, which no other living process has,
/// so two runs at once never share an id. Process ids stay below 2^22. systemd's table of ids
/// (UIDS-GIDS) has nobody from 0x70000000 to 0x7fff0000; below begin the ids of its containers, above it has more.
/// A later run may get the same id once the process is gone; so nothing may be left behind that belongs to one.
pub(crate) const UNOWNED: u32 = 0x7000_0000;
/// `PID_MAX_LIMIT` of the kernel.
const PID_MAX: u32 = 1 << 22;
/// The kernel takes at most this many lines in a map.
const MOST_RANGES: usize = 340;
const CAP_SETGID: u32 = 6;
const CAP_SETUID: u32 = 7;

/// `count` ids from `inside` on are those from `outside` on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Range {
    pub(crate) inside: u32,
    pub(crate) outside: u32,
    pub(crate) count: u32,
}

impl Range {
    pub(crate) fn one(inside: u32, outside: u32) -> Self {
        Self { inside, outside, count: 1 }
    }

    pub(crate) fn has_inside(self, id: u32) -> bool {
        id.checked_sub(self.inside).is_some_and(|n| n < self.count)
    }

    pub(crate) fn has_outside(self, id: u32) -> bool {
        id.checked_sub(self.outside).is_some_and(|n| n < self.count)
    }
}

impl fmt::Display for Range {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.count {
            1 => write!(f, "{} to the host's {}", self.inside, self.outside),
            n => write!(
                f,
                "{}-{} to the host's {} and on",
                self.inside,
                u64::from(self.inside) + u64::from(n) - 1,
                self.outside
            ),
        }
    }
}

/// The map of one kind of id.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Side {
    /// One id, outside one that owns nothing; which, is known when the process is there.
    Unowned { inside: u32 },
    /// As written or as the caller is.
    Fixed(Vec<Range>),
}

impl Side {
    /// The ranges for the process with this number on the host.
    pub(crate) fn ranges(&self, pid: i32) -> Result<Vec<Range>, Error> {
        match self {
            Self::Fixed(ranges) => Ok(ranges.clone()),
            Self::Unowned { inside } => {
                let number = u32::try_from(pid).ok().filter(|pid| (1..PID_MAX).contains(pid));
                let number = number.ok_or_else(|| Error::setup(format!("{pid} is no process id")))?;
                Ok(vec![Range::one(*inside, UNOWNED + number)])
            }
        }
    }

    fn has_inside(&self, id: u32) -> bool {
        match self {
            Self::Unowned { inside } => *inside == id,
            Self::Fixed(ranges) => ranges.iter().any(|range| range.has_inside(id)),
        }
    }

    fn first(&self) -> u32 {
        match self {
            Self::Unowned { inside } => *inside,
            Self::Fixed(ranges) => ranges.first().map_or(0, |range| range.inside),
        }
    }

    fn covers_root(&self) -> bool {
        matches!(self, Self::Fixed(ranges) if ranges.iter().any(|range| range.has_outside(0)))
    }
}

impl fmt::Display for Side {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unowned { inside } => write!(f, "{inside} to a host id that owns nothing"),
            Self::Fixed(ranges) => {
                let texts: Vec<_> = ranges.iter().map(Range::to_string).collect();
                f.write_str(&texts.join(", "))
            }
        }
    }
}

/// Everything about the ids of one launch.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct IdMap {
    pub(crate) uid: Side,
    pub(crate) gid: Side,
    /// Written by newuidmap and newgidmap, because the launcher may not.
    pub(crate) helpers: bool,
    pub(crate) setgroups: Setgroups,
    /// Whether the supplementary groups are dropped.
    pub(crate) clear_groups: bool,
    /// The ids that the process takes.
    pub(crate) become_uid: u32,
    pub(crate) become_gid: u32,
}

impl IdMap {
    /// Whether root of the launcher's own user namespace is among the outside ids.
    pub(crate) fn covers_root(&self) -> bool {
        self.uid.covers_root() || self.gid.covers_root()
    }
}

/// Who launches, and what it may.
pub(crate) struct Launcher {
    uid: u32,
    gid: u32,
    /// May write any map.
    privileged: bool,
    /// The ids that own nothing exist in the launcher's own user namespace.
    unowned: bool,
    workload: (Option<u32>, Option<u32>),
}

impl Launcher {
    /// `uid_map` and `gid_map` are the launcher's own, as procfs has them.
    pub(crate) fn new(host: &Host, uid_map: &str, gid_map: &str) -> Result<Self, Error> {
        Ok(Self {
            uid: host.uid()?,
            gid: host.gid()?,
            privileged: host.has_capability(CAP_SETUID) && host.has_capability(CAP_SETGID),
            unowned: has_unowned(uid_map) && has_unowned(gid_map),
            workload: (host.workload_uid(), host.workload_gid()),
        })
    }
}

/// Whether a map has all the ids that own nothing.
fn has_unowned(map: &str) -> bool {
    parse_map(map).iter().any(|range| {
        let range = Range { outside: 0, ..*range };
        range.has_inside(UNOWNED) && range.has_inside(UNOWNED + PID_MAX)
    })
}

/// Reads `uid_map` or `gid_map` as procfs writes it.
pub(crate) fn parse_map(text: &str) -> Vec<Range> {
    text.lines()
        .filter_map(|line| {
            let mut words = line.split_ascii_whitespace().map(str::parse);
            let mut next = || words.next()?.ok();
            Some(Range { inside: next()?, outside: next()?, count: next()? })
        })
        .collect()
}

/// Decides on the map.
pub(crate) fn decide(ids: &At<Ids>, setgroups: Option<&At<Setgroups>>, launcher: &Launcher) -> Result<IdMap, Error> {
    let (uid, gid) = match &ids.value {
        Ids::Auto if launcher.privileged && launcher.unowned => (
            Side::Unowned { inside: launcher.workload.0.unwrap_or(1000) },
            Side::Unowned { inside: launcher.workload.1.unwrap_or(1000) },
        ),
        Ids::Auto => (
            single(launcher.workload.0, launcher.uid, launcher.privileged),
            single(launcher.workload.1, launcher.gid, launcher.privileged),
        ),
        Ids::Keep => (
            Side::Fixed(vec![Range::one(launcher.uid, launcher.uid)]),
            Side::Fixed(vec![Range::one(launcher.gid, launcher.gid)]),
        ),
        Ids::Map { uid, gid } => {
            let checked = |list, kind| check(list, kind).map_err(|e| e.at(ids.origin));
            (checked(uid, "uid")?, checked(gid, "gid")?)
        }
    };
    let own = |side: &Side, id| matches!(side, Side::Fixed(r) if r.len() == 1 && r[0].count == 1 && r[0].outside == id);
    let own_only = own(&uid, launcher.uid) && own(&gid, launcher.gid);
    let helpers = !(launcher.privileged || own_only);
    let setgroups = decide_setgroups(setgroups, launcher.privileged || helpers)?;
    let become_uid = inside(&uid, launcher.workload.0, "uid").map_err(|e| e.at(ids.origin))?;
    let become_gid = inside(&gid, launcher.workload.1, "gid").map_err(|e| e.at(ids.origin))?;
    if helpers {
        subid::check(&uid, &gid, launcher.uid, launcher.gid).map_err(|e| e.at(ids.origin))?;
    }
    let clear_groups = setgroups == Setgroups::Allow && ids.value != Ids::Keep;
    Ok(IdMap { uid, gid, helpers, setgroups, clear_groups, become_uid, become_gid })
}

/// One id of the caller's; root without its wide map is 1000 inside, as where the map is wide.
fn single(workload: Option<u32>, caller: u32, privileged: bool) -> Side {
    let inside = workload.unwrap_or(if privileged { 1000 } else { caller });
    Side::Fixed(vec![Range::one(inside, caller)])
}

fn decide_setgroups(wanted: Option<&At<Setgroups>>, may_allow: bool) -> Result<Setgroups, Error> {
    match wanted {
        None if may_allow => Ok(Setgroups::Allow),
        None => Ok(Setgroups::Deny),
        Some(wanted) if wanted.value == Setgroups::Allow && !may_allow => {
            Err(Error::host("setgroups cannot be allowed by an ordinary user").at(wanted.origin).help(
                "the kernel wants it denied before such a user maps a group (user_namespaces(7)); remove the line",
            ))
        }
        Some(wanted) => Ok(wanted.value),
    }
}

/// The id that the process takes: the workload's where that is fixed, else the first that is mapped.
fn inside(side: &Side, workload: Option<u32>, kind: &str) -> Result<u32, Error> {
    match workload {
        None => Ok(side.first()),
        Some(id) if side.has_inside(id) => Ok(id),
        Some(id) => Err(Error::policy(format!("the workload is to have {kind} {id}, which is not mapped"))
            .help(format!("add {id} to `ids`, or leave `user` and `groups` of `process` out"))),
    }
}

fn check(list: &[(u32, u32, u32)], kind: &str) -> Result<Side, Error> {
    let ranges: Vec<Range> = list.iter().map(|&(inside, outside, count)| Range { inside, outside, count }).collect();
    let refuse = |message: String, help: &str| Err(Error::policy(message).help(help));
    if ranges.is_empty() || ranges.len() > MOST_RANGES {
        return refuse(
            format!("the {kind} map has {} ranges", ranges.len()),
            "give 1 to 340 of (inside, outside, count)",
        );
    }
    for (at, range) in ranges.iter().enumerate() {
        // u32::MAX is no id, so the last of a range is at most the one before it.
        let fits = |from: u32| range.count > 0 && u32::MAX - from >= range.count;
        if !fits(range.inside) || !fits(range.outside) {
            let message = format!("{kind}: {} ids from {} do not exist", range.count, range.inside.max(range.outside));
            return refuse(message, "ids go from 0 to 4294967294, and a range has at least one");
        }
        let clash = ranges[..at].iter().find(|other| {
            let both = |a: u32, b: u32| a < b.saturating_add(other.count) && b < a.saturating_add(range.count);
            both(range.inside, other.inside) || both(range.outside, other.outside)
        });
        if let Some(other) = clash {
            return refuse(format!("{kind}: the ranges {other} and {range} overlap"), "an id inside is one id outside");
        }
    }
    Ok(Side::Fixed(ranges))
}

#[cfg(test)]
mod tests {
    use super::*;

    const WIDE: &str = "         0          0 4294967295\n";

    fn launcher(uid: u32, privileged: bool, map: &str) -> Launcher {
        let unowned = has_unowned(map);
        Launcher { uid, gid: uid, privileged, unowned, workload: (None, None) }
    }

    fn auto() -> At<Ids> {
        At::new(Ids::Auto)
    }

    #[test]
    fn root_maps_to_ids_that_own_nothing() {
        let map = decide(&auto(), None, &launcher(0, true, WIDE)).unwrap();
        assert_eq!(map.uid, Side::Unowned { inside: 1000 });
        assert_eq!(map.uid.ranges(4242).unwrap(), [Range::one(1000, 0x7000_0000 + 4242)]);
        assert!(map.uid.ranges(0).is_err() && map.uid.ranges(-1).is_err());
        assert_eq!((map.setgroups, map.clear_groups, map.helpers), (Setgroups::Allow, true, false));
        assert!(!map.covers_root());
    }

    #[test]
    fn an_ordinary_user_maps_itself_and_denies_setgroups() {
        let map = decide(&auto(), None, &launcher(1001, false, WIDE)).unwrap();
        assert_eq!(map.uid, Side::Fixed(vec![Range::one(1001, 1001)]));
        assert_eq!((map.setgroups, map.clear_groups, map.helpers), (Setgroups::Deny, false, false));
        assert_eq!((map.become_uid, map.become_gid), (1001, 1001));
        let allow = At::new(Setgroups::Allow);
        assert!(decide(&auto(), Some(&allow), &launcher(1001, false, WIDE)).is_err());
    }

    /// Root of a container with few ids has none to spare that own nothing.
    #[test]
    fn root_with_a_narrow_map_uses_its_own_id_and_is_watched() {
        let map = decide(&auto(), None, &launcher(0, true, "0 1000 1\n1 100000 65536\n")).unwrap();
        assert_eq!(map.uid, Side::Fixed(vec![Range::one(1000, 0)]));
        assert!(map.covers_root());
    }

    #[test]
    fn keeping_roots_id_covers_root() {
        let keep = At::new(Ids::Keep);
        let map = decide(&keep, None, &launcher(0, true, WIDE)).unwrap();
        assert!(map.covers_root() && !map.clear_groups);
        assert!(!decide(&keep, None, &launcher(7, false, WIDE)).unwrap().covers_root());
    }

    #[test]
    fn a_workload_id_must_be_mapped() {
        let keep = At::new(Ids::Keep);
        let mut root = launcher(0, true, WIDE);
        root.workload = (Some(5), None);
        assert_eq!(decide(&auto(), None, &root).unwrap().become_uid, 5);
        assert!(decide(&keep, None, &root).unwrap_err().message.contains("uid 5"));
    }

    #[test]
    fn ranges_that_make_no_sense_are_refused() {
        for (list, says) in [
            (vec![], "0 ranges"),
            (vec![(0, 0, 0)], "do not exist"),
            (vec![(u32::MAX, 0, 1)], "do not exist"),
            (vec![(0, 1, u32::MAX)], "do not exist"),
            (vec![(0, 100, 10), (9, 200, 1)], "overlap"),
            (vec![(0, 100, 10), (20, 109, 1)], "overlap"),
        ] {
            let error = check(&list, "uid").unwrap_err();
            assert!(error.message.contains(says), "{list:?}: {}", error.message);
        }
        assert!(check(&[(0, 100, 10), (10, 110, 1)], "uid").is_ok());
        assert!(check(&[(0, 0, u32::MAX)], "uid").is_ok());
    }

    #[test]
    fn the_words_say_what_is_mapped() {
        let side = check(&[(0, 100_000, 65536), (65536, 7, 1)], "uid").unwrap();
        assert_eq!(side.to_string(), "0-65535 to the host's 100000 and on, 65536 to the host's 7");
        assert_eq!(Side::Unowned { inside: 5 }.to_string(), "5 to a host id that owns nothing");
    }
}
