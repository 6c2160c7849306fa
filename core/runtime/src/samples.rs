//! What is used while a workload runs: figures of isolators, asked for at intervals.

use crate::entries::Entries;
use crate::plan::Configured;
use palisade_model::report::{Sample, Series};
use std::fmt;
use std::time::Duration;

/// The most samples that a report holds.
const MOST: usize = 10_000;

/// Told of each sample.
pub type Watcher = Box<dyn FnMut(&Sample)>;

/// Which samples are taken.
#[derive(Default)]
pub struct Sampling {
    /// How often one is kept for the report. Beyond 10,000 every second one is dropped and the interval doubled.
    pub series: Option<Duration>,
    /// How often the watcher is told, and the watcher.
    pub watch: Option<(Duration, Watcher)>,
}

impl fmt::Debug for Sampling {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Sampling").field("series", &self.series).finish_non_exhaustive()
    }
}

/// Takes them. Times are since the release of the workload.
#[derive(Debug, Default)]
pub(crate) struct Sampler {
    wanted: Sampling,
    next_kept: Duration,
    next_told: Duration,
    kept: Vec<Sample>,
    /// Isolators that failed: they are not asked again.
    failed: Vec<usize>,
}

impl Sampler {
    pub(crate) fn new(wanted: Sampling) -> Self {
        let next_kept = wanted.series.unwrap_or_default();
        let next_told = wanted.watch.as_ref().map(|(every, _)| *every).unwrap_or_default();
        Self { wanted, next_kept, next_told, ..Self::default() }
    }

    /// When the next one is due.
    pub(crate) fn next(&self) -> Option<Duration> {
        let kept = self.wanted.series.map(|_| self.next_kept);
        let told = self.wanted.watch.as_ref().map(|_| self.next_told);
        kept.into_iter().chain(told).min()
    }

    /// Takes what is due; at the end everything is. Says what went wrong.
    pub(crate) fn take(&mut self, isolators: &mut [Configured], elapsed: Duration, end: bool) -> Vec<String> {
        let due = |next: Duration| end || elapsed >= next;
        let keep = self.wanted.series.filter(|_| due(self.next_kept));
        let tell = self.wanted.watch.is_some() && due(self.next_told);
        if keep.is_none() && !tell {
            return Vec::new();
        }
        let mut failures = Vec::new();
        let sample = self.ask(isolators, elapsed, &mut failures);
        if let Some((every, watcher)) = self.wanted.watch.as_mut().filter(|_| tell) {
            self.next_told = after(elapsed, *every);
            watcher(&sample);
        }
        if let Some(every) = keep {
            self.next_kept = after(elapsed, every);
            self.kept.push(sample);
            self.thin();
        }
        failures
    }

    fn ask(&mut self, isolators: &mut [Configured], elapsed: Duration, failures: &mut Vec<String>) -> Sample {
        let at_ms = u64::try_from(elapsed.as_millis()).unwrap_or(u64::MAX);
        let mut sample = Sample { at_ms, figures: std::collections::BTreeMap::new() };
        let entries = match Entries::begin() {
            Ok(entries) => entries,
            Err(trouble) => {
                failures.push(trouble.headline());
                return sample;
            }
        };
        for (index, isolator) in isolators.iter_mut().enumerate() {
            if self.failed.contains(&index) {
                continue;
            }
            let name = isolator.name.clone();
            match entries.call(&name, "sample", || isolator.object.sample()).into_result() {
                Ok(figures) => sample.figures.extend(figures.into_iter().map(|figure| (figure.0.into(), figure.1))),
                Err(failure) => {
                    let why = crate::message::Lapse::from(failure).line();
                    failures.push(format!("{name}: what it uses could not be sampled: {why}"));
                    self.failed.push(index);
                }
            }
        }
        sample
    }

    /// Drops every second one once there are too many, so that neither memory nor the report grows without bound.
    fn thin(&mut self) {
        if self.kept.len() <= MOST {
            return;
        }
        let mut odd = false;
        self.kept.retain(|_| {
            odd = !odd;
            odd
        });
        self.wanted.series = self.wanted.series.map(|every| every.saturating_mul(2));
    }

    /// What is for the report.
    pub(crate) fn series(&mut self) -> Option<Series> {
        let interval = self.wanted.series?;
        let interval_ms = u64::try_from(interval.as_millis()).unwrap_or(u64::MAX);
        Some(Series { interval_ms, samples: std::mem::take(&mut self.kept) })
    }
}

/// The next multiple of the interval: one that came late does not move all that follow.
fn after(elapsed: Duration, every: Duration) -> Duration {
    let micros = every.as_micros().max(1);
    let next = (elapsed.as_micros() / micros + 1) * micros;
    u64::try_from(next).map_or(Duration::MAX, Duration::from_micros)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ms(ms: u64) -> Duration {
        Duration::from_millis(ms)
    }

    #[test]
    fn a_late_one_does_not_move_the_rest() {
        assert_eq!(after(ms(100), ms(100)), ms(200));
        assert_eq!(after(ms(351), ms(100)), ms(400));
    }

    #[test]
    fn nothing_is_taken_that_nobody_wants() {
        let mut sampler = Sampler::default();
        assert_eq!(sampler.next(), None);
        assert!(sampler.take(&mut [], ms(5), true).is_empty() && sampler.series().is_none());
    }

    #[test]
    fn a_long_run_has_fewer_samples_at_longer_intervals() {
        let mut sampler = Sampler::new(Sampling { series: Some(ms(10)), watch: None });
        for number in 1..=25_000 {
            sampler.take(&mut [], ms(10 * number), false);
        }
        let series = sampler.series().unwrap();
        assert!(series.samples.len() <= MOST && series.samples.len() > MOST / 2, "{}", series.samples.len());
        assert_eq!(series.interval_ms, 40);
        let last = &series.samples[series.samples.len() - 1];
        assert!((249_900..=250_000).contains(&last.at_ms), "{}", last.at_ms);
    }

    #[test]
    fn both_have_their_own_time() {
        let told = std::rc::Rc::new(std::cell::RefCell::new(Vec::new()));
        let seen = std::rc::Rc::clone(&told);
        let watcher: Watcher = Box::new(move |sample: &Sample| seen.borrow_mut().push(sample.at_ms));
        let mut sampler = Sampler::new(Sampling { series: Some(ms(40)), watch: Some((ms(100), watcher)) });
        for at in (0..=230).step_by(10) {
            sampler.take(&mut [], ms(at), false);
        }
        sampler.take(&mut [], ms(235), true);
        assert_eq!(*told.borrow(), [100, 200, 235]);
        let kept: Vec<u64> = sampler.series().unwrap().samples.iter().map(|sample| sample.at_ms).collect();
        assert_eq!(kept, [40, 80, 120, 160, 200, 235]);
    }
}
