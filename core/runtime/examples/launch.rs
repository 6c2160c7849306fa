//! Finds a policy and its plugins once, launches twice, tells how each ended: `launch PLUGIN_DIR POLICY COMMAND...`.

use std::io::Write as _;

use palisade_runtime::{Options, Palisade, Places, Workload};

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [plugins, policy, command @ ..] = &arguments[..] else {
        return Err("launch PLUGIN_DIR POLICY COMMAND...".into());
    };
    let mut palisade = Palisade::open(Places { bundled_dirs: vec![plugins.into()], ..Places::default() })?;
    let policy = palisade.policy(policy)?;
    for _ in 0..2 {
        let plan = palisade.plan(&policy, Workload::command(command).with_environment())?;
        let report = plan.launch(Options::default())?.wait()?;
        writeln!(std::io::stdout(), "{:?} after {} ms", report.workload.ended, report.usage.wall_ms)?;
    }
    Ok(())
}
