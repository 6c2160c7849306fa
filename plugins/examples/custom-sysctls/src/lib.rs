//! The plugin `custom-sysctls`: settings of the kernel, in the workload's own namespaces.
//!
//! **What it isolates.** Settings below `/proc/sys` that a namespace has its own of. **From which kernel.** Each has its
//! own first one, see [`KNOWN`]. **What it cannot stop.** A workload that is root over its network changes them again.
//!
//! All of its steps are ready-made: it says what is to be written, and palisade writes it, reads it back, and refuses
//! where the namespace is not the workload's own. So there is no code of it in the child.
#![forbid(unsafe_code)]

use palisade_abi::units::Text;
use palisade_abi::{At, Error, Finding, Host, Isolator, Plugin, Ready, Stage, Step, Support};
use std::collections::BTreeMap;

/// What may be set: the name, and what it does. A setting is in this list if it is of a network namespace, and if a
/// workload that has it harms nobody but itself.
const KNOWN: [(&str, &str); 8] = [
    ("net.ipv4.ip_default_ttl", "how many hops a packet may take"),
    ("net.ipv4.ip_local_port_range", "the ports that are given to who asks for none"),
    ("net.ipv4.ip_unprivileged_port_start", "the first port that anybody may listen on"),
    ("net.ipv4.ping_group_range", "the groups that may open ping sockets"),
    ("net.ipv4.tcp_fin_timeout", "how long a closed connection is kept"),
    ("net.ipv4.tcp_keepalive_time", "after how many idle seconds a connection is probed"),
    ("net.ipv4.tcp_syn_retries", "how often a connection is tried"),
    ("net.ipv6.conf.all.disable_ipv6", "whether there is no IPv6"),
];

palisade_abi::layered! {
    /// The section in a policy.
    pub struct Config {
        /// What is set, by the name that sysctl(8) uses.
        pub set: BTreeMap<String, At<Text>>,
    }
}

struct Sysctls;

impl Plugin for Sysctls {
    type Config = Config;

    fn probe(_host: &Host) -> Vec<Finding> {
        let missing: Vec<&str> =
            KNOWN.iter().map(|(name, _)| *name).filter(|name| !std::path::Path::new(&file(name)).exists()).collect();
        vec![Finding {
            feature: "settings of a network namespace".to_owned(),
            support: match missing.len() {
                0 => Support::Full,
                all if all == KNOWN.len() => Support::Missing,
                _ => Support::Partial,
            },
            detail: if missing.is_empty() { String::new() } else { format!("not {}", missing.join(", ")) },
            remedy: String::new(),
        }]
    }

    fn configure(config: Config, host: &Host) -> Result<Box<dyn Isolator>, Error> {
        for (name, value) in &config.set {
            if !KNOWN.iter().any(|(known, _)| known == name) {
                return Err(unknown(name).at(value.origin));
            }
            if value.is_empty() || value.contains('\n') {
                return Err(Error::policy(format!("`{name}` is set to something that is no value"))
                    .at(value.origin)
                    .help(format!("read the present one with: cat {}", file(name))));
            }
        }
        let first = config.set.values().next().and_then(|value| value.origin);
        if !config.set.is_empty() && !host.uses("namespaces") {
            return Err(Error::policy("the settings would be the host's own")
                .at(first)
                .help("give the workload a network of its own: \"namespaces\": (net: New)"));
        }
        Ok(Box::new(Wanted(config.set)))
    }
}

fn file(name: &str) -> String {
    format!("/proc/sys/{}", name.replace('.', "/"))
}

fn unknown(name: &str) -> Error {
    let known: Vec<String> = KNOWN.iter().map(|(known, what)| format!("{known} ({what})")).collect();
    Error::policy(format!("`{name}` may not be set")).help(format!("what may be: {}", known.join(", ")))
}

struct Wanted(BTreeMap<String, At<Text>>);

impl Isolator for Wanted {
    fn plan(&self, _host: &Host) -> Result<Vec<Step>, Error> {
        let step = |(name, value): (&String, &At<Text>)| {
            let words = format!("sets {name} to `{}`", value.as_str());
            Step::ready(Stage::Build, words, Ready::write_file(file(name), value.as_str()))
                .origin(value.origin)
                .after("namespaces")
        };
        Ok(self.0.iter().map(step).collect())
    }
}

palisade_abi::export_plugin!(Sysctls, "manifest.ron");

#[cfg(test)]
mod tests {
    use super::*;

    fn configured(name: &str, value: &str, plugins: &str) -> Result<Box<dyn Isolator>, Error> {
        let set = [(name.to_owned(), At::new(value.parse().unwrap()))].into();
        Sysctls::configure(Config { set }, &Host::new([("plugins".to_owned(), plugins.to_owned())]))
    }

    #[test]
    fn what_is_known_makes_a_step() {
        let made = configured("net.ipv4.ip_default_ttl", "77", "custom-sysctls namespaces").unwrap();
        let steps = made.plan(&Host::default()).unwrap();
        assert_eq!(format!("{:?}", steps[0]), "build: sets net.ipv4.ip_default_ttl to `77`");
    }

    #[test]
    fn what_is_not_known_and_what_would_be_the_hosts_is_refused() {
        for (name, value, plugins, said) in [
            ("kernel.core_pattern", "|/x", "namespaces", "`kernel.core_pattern` may not be set"),
            ("net.ipv4/../../vm.drop_caches", "1", "namespaces", "may not be set"),
            ("net.ipv4.ip_default_ttl", "", "namespaces", "is no value"),
            ("net.ipv4.ip_default_ttl", "77", "custom-sysctls", "would be the host's own"),
        ] {
            let error = configured(name, value, plugins).err().unwrap();
            assert!(error.message.contains(said) && !error.help.is_empty(), "{error:?}");
        }
    }
}
