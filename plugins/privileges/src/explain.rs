//! Why a call is refused: it takes a capability that the process does not have.

use palisade_abi::{Act, Denial, Origin};
use palisade_sys::caps::{self, CapSet};
use palisade_sys::procfs::{Proc, ProcPid};

/// capabilities(7)
const CAP_CHOWN: u8 = 0;
const CAP_SETGID: u8 = 6;
const CAP_SETUID: u8 = 7;
const CAP_NET_BIND_SERVICE: u8 = 10;
const CAP_NET_RAW: u8 = 13;
const CAP_SYS_CHROOT: u8 = 18;
const CAP_SYS_ADMIN: u8 = 21;
const CAP_SYS_NICE: u8 = 23;
const CAP_SYS_TIME: u8 = 25;
const CAP_MKNOD: u8 = 27;
/// Those that the kernel wants in the initial user namespace.
const OF_THE_HOST: [u8; 3] = [CAP_SYS_NICE, CAP_SYS_TIME, CAP_MKNOD];

const AF_INET: u32 = 2;
const AF_INET6: u32 = 10;
const AF_PACKET: u32 = 17;
const SOCK_RAW: u32 = 3;
const SOCK_TYPE_MASK: u32 = 0xf;
/// Where ports begin that everybody may take: the default of net.ipv4.ip_unprivileged_port_start, also of a new network
/// namespace.
const FREE_PORTS: i64 = 1024;
/// An id that is not to be changed.
const KEEP: u32 = u32::MAX;

/// Who asks, as its own user namespace numbers it.
#[derive(Debug, Default)]
struct Caller {
    /// Real, effective, saved, of the file system; none where the namespace has no number for it.
    uid: [Option<u32>; 4],
    gid: [Option<u32>; 4],
    groups: Vec<u32>,
    effective: CapSet,
    /// Whether its user namespace is palisade's own.
    at_home: bool,
}

impl Caller {
    fn read(pid: i32) -> palisade_sys::Result<Self> {
        let proc = Proc::host()?;
        let process = proc.pid(pid)?;
        let status = process.status()?;
        let (uids, gids) = process.id_maps()?;
        let user = |process: &ProcPid| process.ns("user");
        Ok(Self {
            uid: status.uid.map(|id| uids.inside(id)),
            gid: status.gid.map(|id| gids.inside(id)),
            groups: status.groups.iter().filter_map(|id| gids.inside(*id)).collect(),
            effective: CapSet(status.cap_eff),
            at_home: user(&process)? == user(&proc.own()?)?,
        })
    }
}

/// What a call needs: a capability, the errno without it, and for what.
type Needs = (u8, &'static str, String);

/// Explains an act, where a capability is what it lacks. `origin`: the line that says what is kept.
pub(crate) fn explain(act: &Act, origin: Option<Origin>) -> Option<Denial> {
    // Most of what is asked about needs none: then nothing is read of the process.
    let call = act.fact("call").filter(|call| CALLS.contains(call))?;
    let caller = Caller::read(i32::try_from(act.number("pid")?).ok()?).ok()?;
    denial(&needs(call, act, &caller)?, &caller, origin)
}

/// The calls that a capability decides on.
const CALLS: &[&str] = &[
    "chown",
    "lchown",
    "fchown",
    "fchownat",
    "setuid",
    "setgid",
    "setreuid",
    "setregid",
    "setresuid",
    "setresgid",
    "setgroups",
    "chroot",
    "sethostname",
    "setdomainname",
    "settimeofday",
    "clock_settime",
    "mknod",
    "mknodat",
    "bind",
    "socket",
    "setpriority",
];

fn needs(call: &str, act: &Act, caller: &Caller) -> Option<Needs> {
    let plain = |cap, what: &str| Some((cap, "EPERM", what.to_owned()));
    match call {
        "chown" | "lchown" | "fchown" => owner(act, 1, caller),
        "fchownat" => owner(act, 2, caller),
        "setuid" => foreign(act, 1, &[caller.uid[0], caller.uid[2]], (CAP_SETUID, "uid")),
        "setreuid" => foreign(act, 2, &caller.uid, (CAP_SETUID, "uid")),
        "setresuid" => foreign(act, 3, &caller.uid, (CAP_SETUID, "uid")),
        "setgid" => foreign(act, 1, &[caller.gid[0], caller.gid[2]], (CAP_SETGID, "gid")),
        "setregid" => foreign(act, 2, &caller.gid, (CAP_SETGID, "gid")),
        "setresgid" => foreign(act, 3, &caller.gid, (CAP_SETGID, "gid")),
        "setgroups" => plain(CAP_SETGID, "to change its groups"),
        "chroot" => plain(CAP_SYS_CHROOT, "to change its root"),
        "sethostname" | "setdomainname" => plain(CAP_SYS_ADMIN, "to change the host's name"),
        "settimeofday" | "clock_settime" => plain(CAP_SYS_TIME, "to set a clock"),
        "mknod" | "mknodat" if act.fact("kind") == Some("device") => plain(CAP_MKNOD, "to make a device"),
        "bind" => {
            let port = act.number("port").filter(|port| (1..FREE_PORTS).contains(port))?;
            Some((CAP_NET_BIND_SERVICE, "EACCES", format!("to have the port {port}, which is below {FREE_PORTS}")))
        }
        "socket" => {
            let (family, kind) = (act.argument(0)?, act.argument(1)? & SOCK_TYPE_MASK);
            let raw = family == AF_PACKET || (kind == SOCK_RAW && [AF_INET, AF_INET6].contains(&family));
            if raw { plain(CAP_NET_RAW, "to have a raw socket") } else { None }
        }
        "setpriority" if act.argument(2)?.cast_signed() < 0 => {
            Some((CAP_SYS_NICE, "EACCES", "to have a better priority".to_owned()))
        }
        _ => None,
    }
}

/// Whether one of the first `count` arguments is an id that the caller is not.
fn foreign(act: &Act, count: usize, own: &[Option<u32>], (cap, kind): (u8, &str)) -> Option<Needs> {
    let strange = |id: &u32| *id != KEEP && !own.contains(&Some(*id));
    let id = (0..count).filter_map(|place| act.argument(place)).find(strange)?;
    Some((cap, "EPERM", format!("to become {kind} {id}")))
}

/// Whether a file would be given to somebody else; arguments from `place` on are the new owner and group.
fn owner(act: &Act, place: usize, caller: &Caller) -> Option<Needs> {
    let (uid, gid) = (act.argument(place)?, act.argument(place + 1)?);
    if uid != KEEP && caller.uid[3] != Some(uid) {
        return Some((CAP_CHOWN, "EPERM", format!("to give a file to uid {uid}")));
    }
    let own = gid == KEEP || caller.gid[3] == Some(gid) || caller.groups.contains(&gid);
    (!own).then(|| (CAP_CHOWN, "EPERM", format!("to give a file to gid {gid}")))
}

fn denial((cap, answer, what): &Needs, caller: &Caller, origin: Option<Origin>) -> Option<Denial> {
    let of_the_host = OF_THE_HOST.contains(cap) && !caller.at_home;
    if caller.effective.contains(*cap) && !of_the_host {
        return None;
    }
    let name = caps::name(*cap)?;
    let keep = name.trim_start_matches("CAP_").to_ascii_lowercase();
    let mut help = format!("\"privileges\": (capabilities: (keep: [\"{keep}\"]))");
    if of_the_host {
        help += ", and \"namespaces\": (user: Host): the kernel wants it in the host's user namespace, so as root";
    }
    let why = format!("it has no {name}, which it takes {what}");
    Some(Denial { answer: (*answer).to_owned(), why, help, origin, seen: false })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn act(call: &str, arguments: &str) -> Act {
        Act::new([("call", call), ("arguments", arguments)])
    }

    fn caller() -> Caller {
        let (uid, gid) = ([Some(1000); 4], [Some(1000); 4]);
        Caller { uid, gid, groups: vec![7], effective: CapSet::EMPTY, at_home: false }
    }

    fn cap(act: &Act) -> Option<u8> {
        let call = act.fact("call").unwrap();
        assert!(CALLS.contains(&call), "{call}");
        needs(call, act, &caller()).map(|(cap, ..)| cap)
    }

    #[test]
    fn an_id_of_ones_own_needs_nothing() {
        let keep = u64::from(KEEP);
        for (call, arguments, wanted) in [
            ("setuid", "0 0 0 0 0 0".to_owned(), Some(CAP_SETUID)),
            ("setuid", "1000 0 0 0 0 0".to_owned(), None),
            ("setresgid", format!("{keep} 1000 {keep} 0 0 0"), None),
            ("setresgid", format!("{keep} 1000 5 0 0 0"), Some(CAP_SETGID)),
            ("setgroups", "0 0 0 0 0 0".to_owned(), Some(CAP_SETGID)),
            ("chown", "99 0 0 0 0 0".to_owned(), Some(CAP_CHOWN)),
            ("chown", "99 1000 7 0 0 0".to_owned(), None),
            ("chown", format!("99 {keep} 8 0 0 0"), Some(CAP_CHOWN)),
            ("fchownat", format!("3 99 {keep} {} 0 0", u64::MAX), None),
            ("socket", format!("2 {} 1 0 0 0", SOCK_RAW | 0o2_000_000), Some(CAP_NET_RAW)),
            ("socket", "2 1 0 0 0 0".to_owned(), None),
            ("setpriority", format!("0 0 {} 0 0 0", u64::from(u32::MAX - 4)), Some(CAP_SYS_NICE)),
            ("setpriority", "0 0 5 0 0 0".to_owned(), None),
        ] {
            assert_eq!(cap(&act(call, &arguments)), wanted, "{call} {arguments}");
        }
        let bind = |port: &str| cap(&act("bind", "3 0 0 0 0 0").with("port", port));
        assert_eq!([bind("80"), bind("8080"), bind("0")], [Some(CAP_NET_BIND_SERVICE), None, None]);
        let node = |kind: &str| cap(&act("mknod", "0 0 0 0 0 0").with("kind", kind));
        assert_eq!([node("device"), node("fifo")], [Some(CAP_MKNOD), None]);
    }

    #[test]
    fn who_has_it_is_not_denied() {
        let said = |cap: u8, at_home: bool| {
            let caller = Caller { effective: CapSet::EMPTY.with(cap), at_home, ..caller() };
            denial(&(cap, "EPERM", "to try".to_owned()), &caller, None)
        };
        assert_eq!(said(CAP_CHOWN, false), None);
        assert_eq!(said(CAP_MKNOD, true), None);
        assert!(said(CAP_MKNOD, false).unwrap().help.contains("user: Host"));
        let none = denial(&(CAP_CHOWN, "EPERM", "to try".to_owned()), &caller(), None).unwrap();
        assert_eq!(none.why, "it has no CAP_CHOWN, which it takes to try");
        assert_eq!(none.help, "\"privileges\": (capabilities: (keep: [\"chown\"]))");
    }
}
