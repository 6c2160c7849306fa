//! Skips are counted, named, and allowed one by one in `tests/skips.txt`.

use std::io::Write as _;

/// Says that a test, or a part of one, is left out here. One that is not allowed fails.
pub fn skip(name: &str, why: &str) {
    let allowed = include_str!("../skips.txt");
    let listed = allowed.lines().filter(|line| !line.starts_with('#')).filter_map(|line| line.split_once(": "));
    let is_allowed = listed.into_iter().any(|(entry, _)| match entry.strip_prefix('*') {
        Some(end) => name.ends_with(end),
        None => entry == name,
    });
    assert!(is_allowed, "{name} is skipped ({why}), and tests/skips.txt does not allow that");
    let line = format!("SKIP {name}: {why}\n");
    if let Some(path) = std::env::var_os("PALISADE_SKIPS") {
        let mut file = std::fs::OpenOptions::new().append(true).create(true).open(path).unwrap();
        file.write_all(line.as_bytes()).unwrap();
    }
    eprint!("{line}");
}
