//! Small things that several verbs write.

use std::fmt::Write as _;
use std::time::Duration;

/// Adds a line.
pub(super) fn line(text: &mut String, what: std::fmt::Arguments<'_>) {
    // Writing to a String cannot fail.
    text.write_fmt(what).ok();
    text.push('\n');
}

/// The width of a column.
pub(super) fn widest<'a>(words: impl IntoIterator<Item = &'a str>) -> usize {
    words.into_iter().map(|word| word.chars().count()).max().unwrap_or(0)
}

/// A time as people read it.
pub(super) fn time(took: Duration) -> String {
    match took.as_micros() {
        micros @ 0..1_000 => format!("{micros} us"),
        1_000..1_000_000 => format!("{:.1} ms", took.as_secs_f64() * 1e3),
        _ => format!("{:.2} s", took.as_secs_f64()),
    }
}

/// A time that is known in milliseconds.
pub(super) fn millis(millis: u64) -> String {
    match millis {
        0..1_000 => format!("{millis} ms"),
        _ => time(Duration::from_millis(millis)),
    }
}

/// A size as people read it.
pub(super) fn size(bytes: u64) -> String {
    let scaled = |unit: u64| (bytes / unit, bytes % unit * 10 / unit);
    let (unit, (whole, tenths)) = match bytes {
        0..1_024 => return format!("{bytes} B"),
        1_024..1_048_576 => ("KiB", scaled(1 << 10)),
        1_048_576..1_073_741_824 => ("MiB", scaled(1 << 20)),
        _ => ("GiB", scaled(1 << 30)),
    };
    format!("{whole}.{tenths} {unit}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn figures_have_their_unit() {
        assert_eq!(time(Duration::from_micros(7)), "7 us");
        assert_eq!(time(Duration::from_micros(1_500)), "1.5 ms");
        assert_eq!(time(Duration::from_millis(2_500)), "2.50 s");
        assert_eq!((millis(5), millis(1_250)), ("5 ms".into(), "1.25 s".into()));
        assert_eq!((size(12), size(1_536), size(5 << 30)), ("12 B".into(), "1.5 KiB".into(), "5.0 GiB".into()));
    }
}
