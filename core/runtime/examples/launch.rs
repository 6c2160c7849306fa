//! Finds a policy and its plugins once, launches twice, prints two reports: `launch POLICY COMMAND...`.

use std::io::Write as _;

use palisade_runtime::{Options, Palisade, Places, Workload};

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let (policy, command) = arguments.split_first().ok_or("usage: launch POLICY COMMAND...")?;
    let mut palisade = Palisade::open(Places::default())?;
    let policy = palisade.policy(policy)?;
    for _ in 0..2 {
        let plan = palisade.plan(&policy, Workload::command(command).with_environment())?;
        let report = plan.launch(Options::default())?.wait()?;
        writeln!(std::io::stdout(), "{:?} after {} ms", report.workload.ended, report.usage.wall_ms)?;
    }
    Ok(())
}
