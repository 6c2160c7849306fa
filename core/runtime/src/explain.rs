//! What is denied to the workload, and by whom: every isolator is asked about everything that one of them sees.

use crate::entries::Entries;
use crate::message::Lapse;
use crate::plan::Configured;
use palisade_abi::seam::RawFacts;
use palisade_abi::{Act, Denial, wrap};
use palisade_model::diag::Sources;
use palisade_model::report::{DenialReport, LayerReport};
use std::collections::HashMap;

/// So many different denials are told; a workload that makes up names must not fill our memory with them.
const MOST: usize = 1000;

/// What was denied so far, in the order in which it first was.
#[derive(Debug, Default)]
pub(crate) struct Denials {
    told: Vec<DenialReport>,
    /// Where each of them is: by call, what it was about, what was wanted of it, and the first layer's reason.
    at: HashMap<[String; 4], usize>,
    /// How many more there were.
    dropped: u64,
}

impl Denials {
    /// Asks every isolator about an act, and keeps what they deny. An isolator that cannot say is told of in `failures`.
    pub(crate) fn ask(
        &mut self,
        act: RawFacts,
        isolators: &[Configured],
        (entries, sources): (&Entries, &Sources),
        failures: &mut Vec<String>,
    ) {
        let mut layers = Vec::new();
        for isolator in isolators {
            let name = &isolator.name;
            let asked = entries.call(name, "explain", || isolator.object.explain(act.clone())).into_result();
            match asked.map(|denial| denial.into_option()) {
                Ok(denial) => layers.extend(denial.map(|denial| layer(name, denial.into(), sources))),
                Err(failure) => {
                    let line = format!("{name}: {}", Lapse::from(failure).line());
                    if !failures.contains(&line) {
                        failures.push(line);
                    }
                }
            }
        }
        // A call that was seen to be denied was not done, so nothing behind it had a say.
        if layers.iter().any(|layer| layer.seen) {
            layers.retain(|layer| layer.seen);
        }
        if !layers.is_empty() {
            self.keep(&wrap::act(act), layers);
        }
    }

    fn keep(&mut self, act: &Act, layers: Vec<LayerReport>) {
        let fact = |name| act.fact(name).unwrap_or_default().to_owned();
        let what = match (act.fact("address"), act.fact("port")) {
            (Some(address), Some(port)) if address.contains(':') => format!("[{address}]:{port}"),
            (Some(address), Some(port)) => format!("{address}:{port}"),
            _ => fact("path"),
        };
        let why = layers.first().map(|layer| layer.why.clone()).unwrap_or_default();
        let key = [fact("call"), what, fact("to"), why];
        if let Some(known) = self.at.get(&key).and_then(|at| self.told.get_mut(*at)) {
            known.times += 1;
        } else if self.told.len() < MOST {
            let [call, what, wanted, _] = key.clone();
            self.at.insert(key, self.told.len());
            self.told.push(DenialReport { call, what, wanted, times: 1, layers });
        } else {
            self.dropped += 1;
        }
    }

    /// What is told in the end, and in `failures` that it is not all.
    pub(crate) fn tell(&mut self, failures: &mut Vec<String>) -> Vec<DenialReport> {
        if self.dropped > 0 {
            failures.push(format!("{} more denials than the first {MOST} are not told", self.dropped));
        }
        std::mem::take(&mut self.told)
    }
}

fn layer(plugin: &str, denial: Denial, sources: &Sources) -> LayerReport {
    LayerReport {
        plugin: plugin.to_owned(),
        answer: denial.answer,
        why: denial.why,
        policy_line: denial.origin.map(|origin| sources.locate(origin)),
        help: denial.help,
        seen: denial.seen,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn layers(why: &str) -> Vec<LayerReport> {
        let denial = Denial { answer: "EACCES".to_owned(), why: why.to_owned(), ..Denial::default() };
        vec![layer("x", denial, &Sources::default())]
    }

    #[test]
    fn the_same_is_counted_and_other_things_are_told_apart() {
        let mut denials = Denials::default();
        let open = |path: &str| Act::new([("call", "openat"), ("path", path), ("to", "read")]);
        denials.keep(&open("/a"), layers("no rule"));
        denials.keep(&open("/b"), layers("no rule"));
        denials.keep(&open("/a"), layers("no rule"));
        let connect = Act::new([("call", "connect"), ("address", "::1"), ("port", "80"), ("to", "connect")]);
        denials.keep(&connect, layers("no port"));
        let told = denials.tell(&mut Vec::new());
        let short: Vec<(&str, u64)> = told.iter().map(|one| (one.what.as_str(), one.times)).collect();
        assert_eq!(short, [("/a", 2), ("/b", 1), ("[::1]:80", 1)]);
    }

    #[test]
    fn a_workload_cannot_fill_our_memory_with_names() {
        let mut denials = Denials::default();
        for name in 0..MOST + 5 {
            denials.keep(&Act::new([("path", name.to_string())]), layers("no rule"));
        }
        let mut failures = Vec::new();
        assert_eq!(denials.tell(&mut failures).len(), MOST);
        assert!(failures.concat().starts_with("5 more denials"), "{failures:?}");
    }
}
