//! The other side: what a palisade does with a plugin, short of launching anything, built against the SDK of a released
//! minor by `tests/golden/make`. Plugins that are built today must be understood by it.
//!
//! usage: host PLUGIN SECTION. It loads, probes, configures, plans, applies and undoes the steps of Prepare, asks for
//! the rest, and prints what it was told.
#![forbid(unsafe_code)]

use palisade_abi::seam::{ContextObject, Failure, RawLayer};
use palisade_abi::{Host, host, wrap};
use palisade_model::diag::SourceId;
use palisade_model::layer::Fragment;
use std::os::fd::AsFd as _;

/// A context of this minor: it knows one number, and no descriptor can be handed to it.
struct Lent;

impl ContextObject for Lent {
    fn number(&self, name: abi_stable::std_types::RStr<'_>) -> abi_stable::std_types::ROption<i64> {
        (name.as_str() == "pid").then(|| i64::from(std::process::id())).into()
    }

    fn offer_cgroup(&mut self, _fd: i32) {}
}

use palisade_abi::abi_stable;

fn said(failure: Failure) -> String {
    let error = palisade_abi::Error::from(failure);
    format!("{:?}: {} / {} / {}", error.kind, error.message, error.call, error.help)
}

fn main() {
    if let Err(why) = act() {
        println!("refused: {why}");
    }
}

fn act() -> Result<(), String> {
    let mut words = std::env::args().skip(1);
    let (plugin, section) = (words.next().ok_or("no plugin")?, words.next().ok_or("no section")?);
    let file = std::fs::File::open(&plugin).map_err(|e| e.to_string())?;
    let loaded = host::load(file.as_fd(), false).map_err(|e| e.to_string())?;
    println!("seam {} of the plugin, {} here", loaded.seam, palisade_abi::SEAM_VERSION);
    let facts = [("uid", "0"), ("gid", "0"), ("kernel_major", "6"), ("kernel_minor", "1"), ("run_id", "golden")];
    let told = Host::new(facts.map(|(name, fact)| (name.to_owned(), fact.to_owned())));
    let findings = (loaded.module.probe())(wrap::facts(&told)).into_result().map_err(said)?;
    for finding in &findings {
        println!("probe {}: {}", finding.feature, finding.detail);
    }
    let fragment = Fragment::policy(SourceId(7), section, 100);
    let layer = RawLayer { fragment: ron::to_string(&fragment).map_err(|e| e.to_string())?.into() };
    let made = (loaded.module.configure())(vec![layer].into(), wrap::facts(&told));
    let mut isolator = made.into_result().map_err(said)?;
    for mut step in isolator.plan(wrap::facts(&told)).into_result().map_err(said)? {
        let place = step.origin().map(|o| (o.source, o.start, o.end)).into_option();
        println!("step {}: {} ({}) at {place:?}", step.stage(), step.words(), step.demand());
        if step.stage() == "prepare" {
            let done = step.apply(wrap::lend(&mut Lent)).into_result().map_err(said)?;
            let seen = step.verify(wrap::lend(&mut Lent)).into_result().map_err(said)?;
            step.undo(wrap::lend(&mut Lent)).into_result().map_err(said)?;
            println!("done: {done}; seen: {seen:?}; undone");
        }
    }
    for fd in isolator.watch() {
        isolator.ready(fd).into_result().map_err(said)?;
    }
    let finish = isolator.finish().into_result().map_err(said)?;
    for figure in &finish.figures {
        println!("figure {} = {}", figure.0, figure.1);
    }
    for hit in &finish.hits {
        println!("hit {}: {}", hit.limit, hit.words);
    }
    Ok(())
}
