//! `run --watch`: what is used, in one line now and then.

use super::show;
use crate::out;
use palisade_runtime::Watcher;
use palisade_runtime::model::report::Sample;
use std::collections::BTreeMap;
use std::time::Duration;

/// How often.
pub(super) const EVERY: Duration = Duration::from_secs(1);

/// Prints each sample on standard error.
pub(super) fn watcher() -> Watcher {
    let mut last = Sample { at_ms: 0, figures: BTreeMap::new() };
    Box::new(move |sample| {
        out::meanwhile(&line(&last, sample));
        last = sample.clone();
    })
}

/// The unit stands at the end of a figure's name: time that was counted is a share of the interval, bytes are a size.
/// What is zero is left out.
fn line(last: &Sample, now: &Sample) -> String {
    let mut text = format!("palisade: {}.{} s", now.at_ms / 1000, now.at_ms % 1000 / 100);
    let before = |name: &str| last.figures.get(name).copied().unwrap_or_default();
    let interval_us = now.at_ms.saturating_sub(last.at_ms).max(1) * 1000;
    let before_this = text.len();
    for (name, figure) in &now.figures {
        let (name_shown, value) = if let Some(name) = name.strip_suffix("_us") {
            let percent = figure.saturating_sub(before(&format!("{name}_us"))) * 100 / interval_us;
            (name, (percent > 0).then(|| format!("{percent} %")))
        } else if let Some(name) = name.strip_suffix("_bytes") {
            (name, (*figure > 0).then(|| show::size(*figure)))
        } else {
            (name.as_str(), (*figure > 0).then(|| figure.to_string()))
        };
        if let Some(value) = value {
            text += &format!("  {} {value}", name_shown.replace('_', " "));
        }
    }
    if text.len() == before_this {
        text += if now.figures.is_empty() { "  no plugin of this policy counts anything" } else { "  nothing is used" };
    }
    out::clean(&(text + "\n"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sample(at_ms: u64, figures: &[(&str, u64)]) -> Sample {
        Sample { at_ms, figures: figures.iter().map(|(name, value)| ((*name).to_owned(), *value)).collect() }
    }

    #[test]
    fn time_is_a_share_and_bytes_are_a_size() {
        let last = sample(1000, &[("cpu_usage_us", 500_000), ("pids", 3)]);
        let now =
            sample(2000, &[("cpu_usage_us", 1_480_000), ("pids", 4), ("memory_bytes", 64 << 20), ("oom_kills", 0)]);
        assert_eq!(line(&last, &now), "palisade: 2.0 s  cpu usage 98 %  memory 64.0 MiB  pids 4\n");
        assert_eq!(line(&last, &sample(1500, &[])), "palisade: 1.5 s  no plugin of this policy counts anything\n");
        assert_eq!(line(&last, &sample(1500, &[("pids", 0)])), "palisade: 1.5 s  nothing is used\n");
    }
}
