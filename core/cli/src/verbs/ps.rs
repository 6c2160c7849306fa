//! `palisade ps`: runs that have a name and go on.

use super::{Said, show};
use crate::args::Ps;
use crate::{ask, out};
use palisade_runtime::Trouble;
use std::time::{Duration, SystemTime};

pub(super) fn ps(args: &Ps) -> Result<Said, Trouble> {
    let all = ask::palisade(&crate::args::Dirs::default())?.running();
    if args.form.json {
        let row = |run: &palisade_runtime::Named| serde_json::json!({"name": run.name, "pid": run.pid, "policy": run.policy, "since": run.since});
        return Said::json(&all.iter().map(row).collect::<Vec<_>>());
    }
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    let width = show::widest(all.iter().map(|run| run.name.as_str()).chain(["NAME"]));
    let mut text = String::new();
    if !all.is_empty() {
        show::line(&mut text, format_args!("{:width$}  {:>8}  {:>8}  POLICY", "NAME", "PROCESS", "SECONDS"));
    }
    for run in &all {
        let age = now.saturating_sub(Duration::from_secs(run.since)).as_secs();
        show::line(&mut text, format_args!("{:width$}  {:>8}  {age:>8}  {}", run.name, run.pid, run.policy));
    }
    Ok(Said::text(out::clean(&text)))
}
