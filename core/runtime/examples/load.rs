//! Finds, checks and opens plugins and does nothing with them, to measure what that costs: `load DIRECTORY NAME...`.
//! The first run remembers the check of their layout for those that follow.

use palisade_runtime::{Palisade, Places, Trouble};

fn main() -> Result<(), Trouble> {
    let mut words = std::env::args().skip(1);
    let bundled_dirs = words.next().into_iter().map(Into::into).collect();
    let mut palisade = Palisade::open(Places { bundled_dirs, ..Places::default() })?;
    let plugins = palisade.plugins();
    for name in words {
        plugins.get(&name)?;
    }
    // Without a place for it each run checks again.
    plugins.remember().ok();
    Ok(())
}
