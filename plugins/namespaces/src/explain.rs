//! Why an address cannot be reached: the network is the workload's own, and empty.

use palisade_abi::{Act, Denial};
use std::net::IpAddr;

use crate::config::{Choice, Config};

/// What the network namespace keeps from the workload.
pub(crate) fn explain(config: &Config, act: &Act) -> Option<Denial> {
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
