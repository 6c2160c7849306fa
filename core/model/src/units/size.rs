//! Sizes, counts and percentages.

use std::fmt;

use super::{Unit, UnitError, decimal, split_unit, unit};

/// A number of bytes: `"512MiB"`, `"1.5GiB"`, `"10kB"`, `4096`.
///
/// ```
/// # use palisade_model::units::Size;
/// let size: Size = "1.5GiB".parse()?;
/// assert_eq!((size.0, size.to_string().as_str()), (3 << 29, "1536MiB"));
/// let error = "512M".parse::<Size>().unwrap_err();
/// assert_eq!(error.help, "write \"512MiB\" (1024) or \"512MB\" (1000)");
/// # Ok::<(), palisade_model::units::UnitError>(())
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Size(pub u64);

const BINARY: [(&str, u64); 6] =
    [("EiB", 1 << 60), ("PiB", 1 << 50), ("TiB", 1 << 40), ("GiB", 1 << 30), ("MiB", 1 << 20), ("KiB", 1 << 10)];

const DECIMAL: [(&str, u64); 7] = [
    ("B", 1),
    ("kB", 1_000),
    ("KB", 1_000),
    ("MB", 1_000_000),
    ("GB", 1_000_000_000),
    ("TB", 1_000_000_000_000),
    ("PB", 1_000_000_000_000_000),
];

const SIZE_HELP: &str = "write a size such as \"512MiB\", \"1.5GiB\" (1024) or \"500MB\" (1000), or a number of bytes";

impl Unit for Size {
    const FORMS: &'static str = "a size such as \"512MiB\" or \"2GiB\", or a number of bytes";

    fn from_text(text: &str) -> Result<Self, UnitError> {
        let (number, unit) = split_unit(text);
        let scale = BINARY.iter().chain(&DECIMAL).find(|(name, _)| *name == unit || (unit.is_empty() && *name == "B"));
        let Some((_, scale)) = scale else {
            return Err(UnitError::new(format!("`{text}` is not a size"), size_help(number, unit)));
        };
        decimal(number, *scale)
            .map(Size)
            .ok_or_else(|| UnitError::new(format!("`{text}` is not a whole number of bytes below 16EiB"), SIZE_HELP))
    }

    fn from_integer(number: i128) -> Result<Self, UnitError> {
        u64::try_from(number)
            .map(Size)
            .map_err(|_out_of_range| UnitError::new(format!("`{number}` is not a size"), SIZE_HELP))
    }
}

/// `512M` is 1000-based to some tools and 1024-based to others, so it has to be said.
fn size_help(number: &str, unit: &str) -> String {
    let letter = unit.trim_end_matches(['b', 'B']).trim_end_matches('i');
    let letter = letter.to_ascii_uppercase();
    if !number.is_empty() && matches!(letter.as_str(), "K" | "M" | "G" | "T" | "P") {
        let small = if letter == "K" { "k" } else { &letter };
        format!("write \"{number}{letter}iB\" (1024) or \"{number}{small}B\" (1000)")
    } else {
        SIZE_HELP.to_owned()
    }
}

impl fmt::Display for Size {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let whole = BINARY.iter().find(|(_, scale)| self.0 >= *scale && self.0.is_multiple_of(*scale));
        match whole {
            Some((name, scale)) => write!(f, "{}{name}", self.0 / scale),
            None => write!(f, "{}B", self.0),
        }
    }
}

unit!(Size, u64, |n| Ok::<_, UnitError>(Size(n)));

/// A size, or no limit: `"2GiB"` or `"max"`.
///
/// ```
/// # use palisade_model::units::SizeOrMax;
/// assert_eq!("2KiB".parse(), Ok(SizeOrMax::Bytes(2048)));
/// assert_eq!("max".parse(), Ok(SizeOrMax::Max));
/// assert_eq!((SizeOrMax::Bytes(2048).limit(), SizeOrMax::Max.limit()), (Some(2048), None));
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum SizeOrMax {
    /// A limit in bytes.
    Bytes(u64),
    /// No limit.
    Max,
}

/// A count, or no limit: `256` or `"max"`.
///
/// ```
/// # use palisade_model::units::CountOrMax;
/// assert_eq!("256".parse(), Ok(CountOrMax::Count(256)));
/// assert_eq!("max".parse(), Ok(CountOrMax::Max));
/// assert_eq!((CountOrMax::Count(256).limit(), CountOrMax::Max.limit()), (Some(256), None));
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum CountOrMax {
    /// A limit.
    Count(u64),
    /// No limit.
    Max,
}

fn is_max(text: &str) -> bool {
    matches!(text, "max" | "unlimited" | "infinity")
}

impl Unit for SizeOrMax {
    const FORMS: &'static str = "a size such as \"512MiB\", a number of bytes, or \"max\" for no limit";

    fn from_text(text: &str) -> Result<Self, UnitError> {
        if is_max(text) {
            return Ok(Self::Max);
        }
        Size::from_text(text).map(|size| Self::Bytes(size.0)).map_err(|mut error| {
            error.help.push_str(", or \"max\" for no limit");
            error
        })
    }

    fn from_integer(number: i128) -> Result<Self, UnitError> {
        Size::from_integer(number).map(|size| Self::Bytes(size.0))
    }
}

impl Unit for CountOrMax {
    const FORMS: &'static str = "a whole number, or \"max\" for no limit";

    fn from_text(text: &str) -> Result<Self, UnitError> {
        if is_max(text) {
            return Ok(Self::Max);
        }
        decimal(text, 1)
            .map(Self::Count)
            .ok_or_else(|| UnitError::new(format!("`{text}` is not a number"), format!("expected {}", Self::FORMS)))
    }

    fn from_integer(number: i128) -> Result<Self, UnitError> {
        u64::try_from(number).map(Self::Count).map_err(|_out_of_range| {
            UnitError::new(format!("`{number}` is not a count"), format!("expected {}", Self::FORMS))
        })
    }
}

/// Both are a limit or none; in formats that are not for people that is an `Option`.
macro_rules! or_max {
    ($type:ident, $some:ident, $shown:expr) => {
        impl $type {
            /// The limit, or `None` for no limit.
            #[must_use]
            pub const fn limit(self) -> Option<u64> {
                match self {
                    Self::$some(limit) => Some(limit),
                    Self::Max => None,
                }
            }
        }
        impl fmt::Display for $type {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                match self {
                    Self::$some(limit) => fmt::Display::fmt(&$shown(*limit), f),
                    Self::Max => f.write_str("max"),
                }
            }
        }
        impl std::str::FromStr for $type {
            type Err = UnitError;
            fn from_str(text: &str) -> Result<Self, UnitError> {
                Self::from_text(text)
            }
        }
        impl serde::Serialize for $type {
            fn serialize<S: serde::Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
                if to.is_human_readable() {
                    to.collect_str(self)
                } else {
                    serde::Serialize::serialize(&self.limit(), to)
                }
            }
        }
        impl<'de> serde::Deserialize<'de> for $type {
            fn deserialize<D: serde::Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
                if from.is_human_readable() {
                    from.deserialize_any(super::UnitVisitor(std::marker::PhantomData))
                } else {
                    let limit = <Option<u64> as serde::Deserialize>::deserialize(from)?;
                    Ok(limit.map_or(Self::Max, Self::$some))
                }
            }
        }
    };
}
or_max!(SizeOrMax, Bytes, Size);
or_max!(CountOrMax, Count, std::convert::identity);

/// A share in hundredths of a percent: `"12.5%"` is 1250. `"200%"` of a processor is two of them.
///
/// ```
/// # use palisade_model::units::Percent;
/// let share: Percent = "12.5%".parse()?;
/// assert_eq!((share.hundredths(), share.to_string().as_str()), (1250, "12.5%"));
/// assert_eq!("50".parse::<Percent>().unwrap_err().help, "write a percentage such as \"50%\" or \"12.5%\", with two decimal places at most");
/// # Ok::<(), palisade_model::units::UnitError>(())
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Percent(u64);

impl Percent {
    /// From hundredths of a percent.
    ///
    /// ```
    /// # use palisade_model::units::Percent;
    /// assert_eq!(Percent::from_hundredths(20_000).to_string(), "200%");
    /// ```
    #[must_use]
    pub const fn from_hundredths(hundredths: u64) -> Self {
        Self(hundredths)
    }

    /// In hundredths of a percent.
    ///
    /// ```
    /// # use palisade_model::units::Percent;
    /// assert_eq!("200%".parse::<Percent>()?.hundredths(), 20_000);
    /// # Ok::<(), palisade_model::units::UnitError>(())
    /// ```
    #[must_use]
    pub const fn hundredths(self) -> u64 {
        self.0
    }

    /// The share of a whole, rounded down: `"25%"` of 100000 is 25000.
    ///
    /// ```
    /// # use palisade_model::units::Percent;
    /// assert_eq!("25%".parse::<Percent>()?.of(100_000), 25_000);
    /// # Ok::<(), palisade_model::units::UnitError>(())
    /// ```
    #[must_use]
    pub fn of(self, whole: u64) -> u64 {
        let share = u128::from(self.0) * u128::from(whole) / 10_000;
        u64::try_from(share).unwrap_or(u64::MAX)
    }
}

impl Unit for Percent {
    const FORMS: &'static str = "a percentage such as \"50%\" or \"12.5%\"";

    fn from_text(text: &str) -> Result<Self, UnitError> {
        text.strip_suffix('%').and_then(|number| decimal(number, 100)).map(Percent).ok_or_else(|| {
            UnitError::new(
                format!("`{text}` is not a percentage"),
                "write a percentage such as \"50%\" or \"12.5%\", with two decimal places at most",
            )
        })
    }

    fn from_integer(number: i128) -> Result<Self, UnitError> {
        Err(UnitError::new(format!("`{number}` has no percent sign"), format!("write \"{number}%\"")))
    }
}

impl fmt::Display for Percent {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (whole, part) = (self.0 / 100, self.0 % 100);
        match part {
            0 => write!(f, "{whole}%"),
            _ if part % 10 == 0 => write!(f, "{whole}.{}%", part / 10),
            _ => write!(f, "{whole}.{part:02}%"),
        }
    }
}

unit!(Percent, u64, |n| Ok::<_, UnitError>(Percent(n)));

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_read_and_shown() {
        for (text, bytes, shown) in [
            ("512MiB", 512 << 20, "512MiB"),
            ("2GiB", 2 << 30, "2GiB"),
            ("4096", 4096, "4KiB"),
            ("4097", 4097, "4097B"),
            ("1.5GiB", 3 << 29, "1536MiB"),
            ("10kB", 10_000, "10000B"),
            ("0", 0, "0B"),
            ("15EiB", 15 << 60, "15EiB"),
        ] {
            let size: Size = text.parse().unwrap();
            assert_eq!((size.0, size.to_string().as_str()), (bytes, shown), "{text}");
            assert_eq!(shown.parse(), Ok(size));
        }
    }

    #[test]
    fn what_is_not_a_size_is_refused() {
        for text in [
            "",
            "MiB",
            "512 M b",
            "512 MiB",
            "-1",
            "1.",
            ".5",
            "1.1B",
            "0.1KiB",
            "16EiB",
            "1e3",
            "0x10",
            "1_000",
            "99999999999999999999",
            "max",
            "512mib",
            "1.5.5MiB",
            "²",
        ] {
            assert!(text.parse::<Size>().is_err(), "{text}");
        }
        let error = "512M".parse::<Size>().unwrap_err();
        assert_eq!(error.help, "write \"512MiB\" (1024) or \"512MB\" (1000)");
    }

    #[test]
    fn max_is_no_limit() {
        assert_eq!("max".parse(), Ok(SizeOrMax::Max));
        assert_eq!("1KiB".parse(), Ok(SizeOrMax::Bytes(1024)));
        assert_eq!("unlimited".parse(), Ok(CountOrMax::Max));
        assert_eq!("7".parse(), Ok(CountOrMax::Count(7)));
        assert!("1.5".parse::<CountOrMax>().is_err());
        assert_eq!(SizeOrMax::Max.to_string(), "max");
        assert_eq!(SizeOrMax::Bytes(2048).to_string(), "2KiB");
    }

    #[test]
    fn percentages_are_hundredths() {
        for (text, hundredths) in [("200%", 20_000), ("12.5%", 1250), ("0.05%", 5), ("0%", 0)] {
            let percent: Percent = text.parse().unwrap();
            assert_eq!(percent.hundredths(), hundredths);
            assert_eq!(percent.to_string(), text);
        }
        for text in ["50", "%", "1.234%", "-5%", "5 %"] {
            assert!(text.parse::<Percent>().is_err(), "{text}");
        }
        assert_eq!("25%".parse::<Percent>().unwrap().of(100_000), 25_000);
    }
}
