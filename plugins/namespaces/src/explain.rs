//! Why an address cannot be reached: the network is the workload's own, and empty. And why an id cannot be had: the user
//! namespace has none like it.

use palisade_abi::{Act, Denial};
use palisade_sys::procfs::Proc;
use std::net::IpAddr;

use crate::config::{Choice, Config};

/// What the namespaces keep from the workload.
pub(crate) fn explain(config: &Config, act: &Act) -> Option<Denial> {
    network(config, act).or_else(|| unmapped(config, act))
}

/// The ids that a call names: which of its arguments, and whether these are users.
fn ids(call: &str) -> &'static [(usize, bool)] {
    match call {
        "chown" | "lchown" | "fchown" => &[(1, true), (2, false)],
        "fchownat" => &[(2, true), (3, false)],
        "setuid" => &[(0, true)],
        "setreuid" => &[(0, true), (1, true)],
        "setresuid" => &[(0, true), (1, true), (2, true)],
        "setgid" => &[(0, false)],
        "setregid" => &[(0, false), (1, false)],
        "setresgid" => &[(0, false), (1, false), (2, false)],
        _ => &[],
    }
}

/// What the user namespace keeps from the workload: ids that it has no number for, and groups where they are denied.
fn unmapped(config: &Config, act: &Act) -> Option<Denial> {
    let user = config.user.as_ref()?;
    let call = act.fact("call").filter(|call| *call == "setgroups" || !ids(call).is_empty())?;
    let process = Proc::host().ok()?.pid(i32::try_from(act.number("pid")?).ok()?).ok()?;
    let denial = |answer: &str, why: String, help: &str, origin| {
        Some(Denial { answer: answer.to_owned(), why, help: help.to_owned(), origin, seen: false })
    };
    if call == "setgroups" {
        let denied = process.read("setgroups").is_ok_and(|text| text.trim() == "deny");
        let origin = config.setgroups.as_ref().map_or(user.origin, |at| at.origin);
        let help = "\"namespaces\": (setgroups: Allow), which takes root, or newgidmap and a range in /etc/subgid";
        return if denied { denial("EPERM", "setgroups(2) is denied inside".to_owned(), help, origin) } else { None };
    }
    let (uids, gids) = process.id_maps().ok()?;
    let named = ids(call).iter().filter_map(|(place, of_user)| Some((act.argument(*place)?, *of_user)));
    let strange =
        |(id, of_user): &(u32, bool)| *id != u32::MAX && if *of_user { &uids } else { &gids }.outside(*id).is_none();
    let (id, of_user) = { named }.find(strange)?;
    let kind = if of_user { "uid" } else { "gid" };
    let origin = config.ids.as_ref().map_or(user.origin, |at| at.origin);
    let help = "\"namespaces\": (ids: Map(uid: [..], gid: [..])) with a range that has it";
    denial("EINVAL", format!("the user namespace has no {kind} {id}"), help, origin)
}

/// What the network namespace keeps from the workload.
fn network(config: &Config, act: &Act) -> Option<Denial> {
    let net = config.net.as_ref().filter(|net| net.value == Choice::New)?;
    let address: IpAddr = act.fact("address").filter(|_| act.wants("connect"))?.parse().ok()?;
    if address.is_loopback() || address.is_unspecified() {
        return None;
    }
    Some(Denial {
        answer: "ENETUNREACH".to_owned(),
        why: "the network namespace is the workload's own, and has no way out".to_owned(),
        help: "\"namespaces\": (net: Host), which is all of the host's network".to_owned(),
        origin: net.origin,
        seen: false,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use palisade_abi::At;

    #[test]
    fn only_what_is_outside_is_out_of_reach() {
        let config = |net| Config { net: Some(At { value: net, origin: None }), ..Config::default() };
        let act = |address: &str, to: &str| Act::new([("address", address), ("to", to)]);
        assert!(explain(&config(Choice::New), &act("192.0.2.1", "connect")).is_some());
        assert!(explain(&config(Choice::New), &act("2001:db8::1", "connect")).is_some());
        assert_eq!(explain(&config(Choice::New), &act("127.0.0.1", "connect")), None);
        assert_eq!(explain(&config(Choice::New), &act("::1", "connect")), None);
        assert_eq!(explain(&config(Choice::New), &act("192.0.2.1", "bind")), None);
        assert_eq!(explain(&config(Choice::Host), &act("192.0.2.1", "connect")), None);
    }
}
