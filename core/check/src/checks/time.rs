//! How long entries take: they are in the way of every launch.

use crate::checks::loaded;
use crate::report::Outcome;
use crate::subject::{Kit, line, plan};
use palisade_abi::Error;
use std::time::{Duration, Instant};

/// How often each is asked.
const ROUNDS: usize = 9;

/// What `configure` and `plan` may take.
const BOUND: Duration = Duration::from_millis(50);

pub(crate) fn time(kit: &Kit) -> Outcome {
    loaded(kit, |subject, host, marks| {
        let mut outcome = Outcome::default();
        let (mut probes, mut configures, mut plans) = (Vec::new(), Vec::new(), Vec::new());
        marks.at("an entry that was asked many times");
        for _ in 0..ROUNDS {
            let round = || -> Result<[Duration; 3], Error> {
                let begun = Instant::now();
                subject.probe(host)?;
                let probed = begun.elapsed();
                let isolator = subject.configure(&[&kit.section], host)?;
                let configured = begun.elapsed();
                plan(&isolator, host)?;
                Ok([probed, configured - probed, begun.elapsed() - configured])
            };
            match round() {
                Ok([probe, configure, plan]) => {
                    probes.push(probe);
                    configures.push(configure);
                    plans.push(plan);
                }
                Err(error) => return Outcome::failed(format!("what went well before fails now: {}", line(&error))),
            }
        }
        for (entry, times, bound) in
            [("probe", probes, None), ("configure", configures, Some(BOUND)), ("plan", plans, Some(BOUND))]
        {
            let median = median(times);
            outcome.figure(&format!("{entry}_us"), u64::try_from(median.as_micros()).unwrap_or(u64::MAX));
            if let Some(bound) = bound.filter(|bound| median > *bound) {
                let (took, bound) = (median.as_millis(), bound.as_millis());
                outcome.saw(format!("`{entry}` takes {took} ms (the median of {ROUNDS}); {bound} ms are allowed"));
            }
        }
        outcome
    })
}

fn median(mut times: Vec<Duration>) -> Duration {
    times.sort();
    times.get(times.len() / 2).copied().unwrap_or_default()
}
