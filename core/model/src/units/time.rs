//! Lengths of time.

use std::fmt;
use std::time::Duration;

use super::{Unit, UnitError, decimal, split_unit, unit};

/// A length of time: `"10min"`, `"1h30min"`, `"250ms"`. A number alone is refused, because half
/// the world reads seconds and the other half milliseconds.
///
/// ```
/// # use palisade_model::units::Time;
/// let time: Time = "1h30min".parse()?;
/// assert_eq!(time.0, std::time::Duration::from_secs(5400));
/// assert!("90".parse::<Time>().is_err());
/// # Ok::<(), palisade_model::units::UnitError>(())
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Time(pub Duration);

/// In nanoseconds, largest first; where two names mean the same, the first is canonical.
const UNITS: [(&str, u64); 8] = [
    ("d", 86_400_000_000_000),
    ("h", 3_600_000_000_000),
    ("min", 60_000_000_000),
    ("m", 60_000_000_000),
    ("s", 1_000_000_000),
    ("ms", 1_000_000),
    ("us", 1_000),
    ("ns", 1),
];

const HELP: &str = "write a length of time such as \"2s\", \"250ms\", \"10min\" or \"1h30min\" (d, h, min, s, ms, us)";

impl Unit for Time {
    const FORMS: &'static str = "a length of time such as \"2s\", \"250ms\" or \"10min\"";

    fn from_text(text: &str) -> Result<Self, UnitError> {
        if !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit()) {
            return Err(no_unit(text));
        }
        let refuse = || UnitError::new(format!("`{text}` is not a length of time"), HELP);
        let mut nanos = 0_u64;
        let mut largest = u64::MAX;
        let mut rest = text;
        while !rest.is_empty() || largest == u64::MAX {
            let (number, tail) = split_unit(rest);
            let end = tail.find(|c: char| c.is_ascii_digit()).unwrap_or(tail.len());
            let (unit, tail) = tail.split_at(end);
            let scale = UNITS.iter().find(|(name, _)| *name == unit);
            let scale = scale.map(|(_, scale)| *scale).ok_or_else(refuse)?;
            // Larger units first, each once: "30min1h" is more likely a slip than a wish.
            if scale >= largest {
                return Err(refuse());
            }
            largest = scale;
            nanos = decimal(number, scale).and_then(|part| nanos.checked_add(part)).ok_or_else(refuse)?;
            rest = tail;
        }
        Ok(Self(Duration::from_nanos(nanos)))
    }

    fn from_integer(number: i128) -> Result<Self, UnitError> {
        Err(no_unit(&number.to_string()))
    }
}

fn no_unit(number: &str) -> UnitError {
    UnitError::new(
        format!("`{number}` has no unit of time"),
        format!("write \"{number}s\" for seconds, \"{number}ms\" for milliseconds or \"{number}min\" for minutes"),
    )
}

impl fmt::Display for Time {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut rest = self.0.as_nanos();
        if rest == 0 {
            return f.write_str("0s");
        }
        for (name, scale) in UNITS.into_iter().filter(|(name, _)| *name != "m") {
            let count = rest / u128::from(scale);
            rest %= u128::from(scale);
            if count > 0 {
                write!(f, "{count}{name}")?;
            }
        }
        Ok(())
    }
}

unit!(Time, Duration, |time| Ok::<_, UnitError>(Time(time)));

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_read_and_shown() {
        for (text, millis, shown) in [
            ("10min", 600_000, "10min"),
            ("10m", 600_000, "10min"),
            ("1h30m", 5_400_000, "1h30min"),
            ("250ms", 250, "250ms"),
            ("2s", 2_000, "2s"),
            ("1.5s", 1_500, "1s500ms"),
            ("90s", 90_000, "1min30s"),
            ("1d", 86_400_000, "1d"),
            ("0s", 0, "0s"),
        ] {
            let time: Time = text.parse().unwrap();
            assert_eq!(time.0, Duration::from_millis(millis), "{text}");
            assert_eq!(time.to_string(), shown);
            assert_eq!(shown.parse(), Ok(time));
        }
    }

    #[test]
    fn what_is_not_a_time_is_refused() {
        for text in
            ["", "s", "10", "10 min", "1h1h", "30min1h", "-1s", "1x", "1.s", "1h30", "1hour", "9999999999999d", "1s "]
        {
            assert!(text.parse::<Time>().is_err(), "{text}");
        }
        assert!("10".parse::<Time>().unwrap_err().help.contains("\"10s\""));
    }
}
