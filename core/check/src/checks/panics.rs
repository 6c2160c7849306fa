//! Arguments that the seam lets through and that hardly anybody gives.

use crate::cage::Marks;
use crate::checks::loaded;
use crate::report::Outcome;
use crate::subject::{Kit, Subject, line, panicked, plan};
use palisade_abi::abi_stable::std_types::{RString, Tuple2};
use palisade_abi::seam::RawFacts;
use palisade_abi::{Error, Host};
use std::collections::BTreeMap;
use std::os::fd::IntoRawFd as _;

/// Facts that are there and mean nothing.
const STRANGE: [&str; 5] = ["", "-1", "99999999999999999999", "\u{0}\u{7}", "a b c"];

pub(crate) fn panics(kit: &Kit) -> Outcome {
    loaded(kit, |subject, host, marks| {
        let mut all = Trial { kit, subject, marks, outcome: Outcome::default(), calls: 0 };
        all.facts(host);
        all.layers(host);
        all.isolator(host);
        let calls = all.calls;
        all.outcome.figure("calls", calls);
        all.outcome
    })
}

struct Trial<'a> {
    kit: &'a Kit,
    subject: &'a Subject,
    marks: &'a Marks,
    outcome: Outcome,
    calls: u64,
}

impl Trial<'_> {
    /// Calls one entry; an error is an answer, a panic is none.
    fn calls<T>(&mut self, what: &str, call: impl FnOnce() -> Result<T, Error>) -> Option<T> {
        self.marks.at(what);
        self.calls += 1;
        match call() {
            Ok(answer) => Some(answer),
            Err(error) => {
                if panicked(&error) {
                    self.outcome.saw(format!("{what}: {}", line(&error)));
                }
                None
            }
        }
    }

    /// Each fact left out, and each replaced; none at all; some that nobody knows.
    fn facts(&mut self, host: &Host) {
        let known: BTreeMap<String, String> = NAMES
            .iter()
            .filter_map(|name| Some(((*name).to_owned(), host.fact(name)?.to_owned())))
            .chain(host.vars().iter().map(|(name, value)| (format!("var.{name}"), value.to_owned())))
            .collect();
        self.entries("without any fact", &Host::default());
        for name in known.keys() {
            let mut fewer = known.clone();
            fewer.remove(name);
            self.entries(&format!("without the fact `{name}`"), &Host::new(fewer.clone()));
            for value in STRANGE {
                fewer.insert(name.clone(), value.to_owned());
                self.entries(&format!("with the fact `{name}` = {value:?}"), &Host::new(fewer.clone()));
            }
        }
        let mut more = known;
        more.extend(
            [("of_tomorrow", "yes"), ("", ""), ("explain", "yes"), ("workload_uid", "x")]
                .map(|(name, value)| (name.to_owned(), value.to_owned())),
        );
        self.entries("with facts that nobody knows", &Host::new(more));
    }

    fn entries(&mut self, how: &str, host: &Host) {
        let subject = self.subject;
        self.calls(&format!("`probe` {how}"), || subject.probe(host));
        self.calls(&format!("`collect` {how}"), || subject.collect(host));
        let section = self.kit.section.clone();
        let made = self.calls(&format!("`configure` {how}"), || subject.configure(&[&section], host));
        if let Some(isolator) = made {
            self.calls(&format!("`plan` {how}"), || plan(&isolator, host));
        }
    }

    /// Layers that are no fragments, none, and many.
    fn layers(&mut self, host: &Host) {
        let subject = self.subject;
        self.calls("`configure` without a layer", || subject.configure(&[], host));
        for text in ["", "nonsense", "()", "(section: 1)", "\u{0}"] {
            self.calls(&format!("`configure` with a layer that reads {text:?}"), || subject.configure_raw(text, host));
        }
        self.calls("`configure` with a hundred empty layers", || subject.configure(&["()"; 100], host));
    }

    /// Entries of the isolator at times, and with arguments, that no launch has.
    fn isolator(&mut self, host: &Host) {
        let section = self.kit.section.clone();
        let subject = self.subject;
        let made = self.calls("`configure`", || subject.configure(&[&section], host));
        let Some(mut isolator) = made else { return };
        let failed = Error::from;
        self.marks.at("`watch` before a launch");
        drop(isolator.watch());
        for number in [-1, 0, 1_000_000] {
            self.calls(&format!("`ready` of descriptor {number}"), || {
                isolator.ready(number).into_result().map_err(failed)
            });
        }
        for act in
            [RawFacts::new(), facts(&[("kind", ""), ("nonsense", "\u{0}")]), facts(&[("call", "openat"), ("path", "")])]
        {
            self.calls("`explain` of an act that is none", || isolator.explain(act).into_result().map_err(failed));
        }
        self.calls("`acts` before a launch", || isolator.acts().into_result().map_err(failed));
        self.calls("`settle` before a launch", || isolator.settle().into_result().map_err(failed));
        self.calls("`sample` before a launch", || isolator.sample().into_result().map_err(failed));
        self.calls("`changes` before a launch", || isolator.changes().into_result().map_err(failed));
        self.calls("`attempts` before a launch", || isolator.attempts().into_result().map_err(failed));
        if let Ok((read, _write)) = std::io::pipe() {
            let number = read.into_raw_fd();
            self.calls("`take` of a pipe", || isolator.take(number).into_result().map_err(failed));
        }
        let steps = self.calls("`plan`", || plan(&isolator, host)).unwrap_or_default();
        self.marks.at("`details`");
        let details = steps.iter().flat_map(|step| step.details());
        // The SDK has no other way out for one of these.
        for text in details.map(|Tuple2(_, text)| text).filter(|text| text.starts_with("it panicked in")) {
            self.outcome.saw(format!("`details`: {text}"));
        }
        self.calls("`finish` before a launch", || isolator.finish().into_result().map_err(failed));
        self.calls("`finish` twice", || isolator.finish().into_result().map_err(failed));
    }
}

/// The facts of the host and of a launch.
const NAMES: [&str; 8] = ["uid", "gid", "capabilities", "kernel_major", "kernel_minor", "machine", "run_id", "plugins"];

fn facts(rows: &[(&str, &str)]) -> RawFacts {
    rows.iter().map(|(name, value)| Tuple2(RString::from(*name), RString::from(*value))).collect()
}
