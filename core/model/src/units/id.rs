//! Ids, modes, file descriptors and other bounded numbers.

use std::fmt;

use super::{Unit, UnitError, unit};

fn digits(text: &str) -> Option<i128> {
    let plain = !text.is_empty() && text.len() < 20 && text.bytes().all(|b| b.is_ascii_digit());
    plain.then(|| text.parse().ok()).flatten()
}

/// A user or group id. `u32::MAX` is not one: to the kernel it means "leave it".
///
/// ```
/// # use palisade_model::units::Id;
/// let id: Id = "1000".parse()?;
/// assert_eq!(id.to_string(), "1000");
/// assert!("-1".parse::<Id>().is_err() && "4294967295".parse::<Id>().is_err());
/// # Ok::<(), palisade_model::units::UnitError>(())
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Id(u32);

impl Id {
    /// The id as a number.
    ///
    /// ```
    /// # use palisade_model::units::Id;
    /// assert_eq!("1000".parse::<Id>()?.get(), 1000_u32);
    /// # Ok::<(), palisade_model::units::UnitError>(())
    /// ```
    #[must_use]
    pub const fn get(self) -> u32 {
        self.0
    }
}

impl Unit for Id {
    const FORMS: &'static str = "an id from 0 to 4294967294";

    fn from_text(text: &str) -> Result<Self, UnitError> {
        let number = digits(text)
            .ok_or_else(|| UnitError::new(format!("`{text}` is not an id"), format!("expected {}", Self::FORMS)))?;
        Self::from_integer(number)
    }

    fn from_integer(number: i128) -> Result<Self, UnitError> {
        match u32::try_from(number) {
            Ok(id) if id != u32::MAX => Ok(Self(id)),
            _ => Err(UnitError::new(format!("`{number}` is not an id"), format!("expected {}", Self::FORMS))),
        }
    }
}

impl fmt::Display for Id {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

unit!(Id, u32, |id| Id::from_integer(id.into()));

/// File mode bits, written as an octal string: `"0755"`.
///
/// ```
/// # use palisade_model::units::Mode;
/// let mode: Mode = "0755".parse()?;
/// assert_eq!(mode.to_string(), "0755");
/// assert_eq!("755".parse::<Mode>()?, mode);
/// # Ok::<(), palisade_model::units::UnitError>(())
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Mode(u32);

const HIGHEST_MODE: u32 = 0o7777;

impl Mode {
    /// The bits.
    ///
    /// ```
    /// # use palisade_model::units::Mode;
    /// assert_eq!("0755".parse::<Mode>()?.bits(), 0o755);
    /// # Ok::<(), palisade_model::units::UnitError>(())
    /// ```
    #[must_use]
    pub const fn bits(self) -> u32 {
        self.0
    }
}

impl Unit for Mode {
    const FORMS: &'static str = "a file mode as an octal string such as \"0755\"";

    fn from_text(text: &str) -> Result<Self, UnitError> {
        let octal = text.strip_prefix("0o").unwrap_or(text);
        let plain = (1..=5).contains(&octal.len()) && octal.bytes().all(|b| b.is_ascii_digit());
        u32::from_str_radix(octal, 8).ok().filter(|bits| plain && *bits <= HIGHEST_MODE).map(Self).ok_or_else(|| {
            UnitError::new(
                format!("`{text}` is not a file mode"),
                "write up to four octal digits in quotes, such as \"0755\"",
            )
        })
    }

    fn from_integer(number: i128) -> Result<Self, UnitError> {
        Err(UnitError::new(
            format!("the file mode `{number}` is not in quotes"),
            format!("a bare number would be decimal; write \"{number:04}\" for the octal mode"),
        ))
    }
}

impl fmt::Display for Mode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:04o}", self.0)
    }
}

unit!(Mode, u32, |bits| if bits <= HIGHEST_MODE {
    Ok(Mode(bits))
} else {
    Err(UnitError::new("not a file mode", Mode::FORMS))
});

/// A file descriptor that the workload keeps: 3 or higher, because 0, 1 and 2 are its stdin,
/// stdout and stderr.
///
/// ```
/// # use palisade_model::units::Fd;
/// assert!("3".parse::<Fd>().is_ok());
/// let error = "2".parse::<Fd>().unwrap_err();
/// assert_eq!(error.help, "use `stdin`, `stdout` or `stderr` for it");
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Fd(i32);

impl Fd {
    /// The number.
    ///
    /// ```
    /// # use palisade_model::units::Fd;
    /// assert_eq!("3".parse::<Fd>()?.get(), 3);
    /// # Ok::<(), palisade_model::units::UnitError>(())
    /// ```
    #[must_use]
    pub const fn get(self) -> i32 {
        self.0
    }
}

impl Unit for Fd {
    const FORMS: &'static str = "the number of a file descriptor, 3 or higher";

    fn from_text(text: &str) -> Result<Self, UnitError> {
        digits(text).map_or_else(
            || Err(UnitError::new(format!("`{text}` is not a file descriptor"), format!("expected {}", Self::FORMS))),
            Self::from_integer,
        )
    }

    fn from_integer(number: i128) -> Result<Self, UnitError> {
        match i32::try_from(number) {
            Ok(0..=2) => Err(UnitError::new(
                format!("the file descriptor {number} is a standard stream"),
                "use `stdin`, `stdout` or `stderr` for it",
            )),
            Ok(fd) if fd > 2 => Ok(Self(fd)),
            _ => {
                Err(UnitError::new(format!("`{number}` is not a file descriptor"), format!("expected {}", Self::FORMS)))
            }
        }
    }
}

impl fmt::Display for Fd {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

unit!(Fd, i32, |fd| Fd::from_integer(fd.into()));

/// A whole number from `LOW` to `HIGH`.
///
/// ```
/// # use palisade_model::units::Bounded;
/// # use palisade_model::{diag::SourceId, layer::{At, Fragment, parse}, vars::Vars};
/// # palisade_model::layered! { struct Config {
/// nice: Option<At<Bounded<-20, 19>>>,
/// # } }
/// # let read = |text: &str| parse::<Config>(&Fragment::policy(SourceId(0), text, 0), &Vars::new());
/// assert!(read("(nice: 19)").is_ok());
/// assert!(read("(nice: 20)").unwrap_err().to_string().contains("`20` is out of range"));
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Bounded<const LOW: i32, const HIGH: i32>(i32);

impl<const LOW: i32, const HIGH: i32> Bounded<LOW, HIGH> {
    /// The number.
    ///
    /// ```
    /// # use palisade_model::units::Bounded;
    /// # use palisade_model::{diag::SourceId, layer::{At, Fragment, parse}, vars::Vars};
    /// # palisade_model::layered! { struct Config { nice: Option<At<Bounded<-20, 19>>> } }
    /// # let section = parse::<Config>(&Fragment::policy(SourceId(0), "(nice: 19)", 0), &Vars::new())?;
    /// assert_eq!(section.nice.map(|at| at.value.get()), Some(19));
    /// # Ok::<(), palisade_model::diag::Diagnostic>(())
    /// ```
    #[must_use]
    pub const fn get(self) -> i32 {
        self.0
    }

    fn refuse(shown: &str) -> UnitError {
        UnitError::new(format!("`{shown}` is out of range"), format!("expected a whole number from {LOW} to {HIGH}"))
    }
}

impl<const LOW: i32, const HIGH: i32> Unit for Bounded<LOW, HIGH> {
    const FORMS: &'static str = "a whole number";

    fn from_text(text: &str) -> Result<Self, UnitError> {
        let (negative, rest) = match text.strip_prefix('-') {
            Some(rest) => (true, rest),
            None => (false, text),
        };
        let number = digits(rest).ok_or_else(|| Self::refuse(text))?;
        Self::from_integer(if negative { -number } else { number })
    }

    fn from_integer(number: i128) -> Result<Self, UnitError> {
        i32::try_from(number)
            .ok()
            .filter(|n| (LOW..=HIGH).contains(n))
            .map(Self)
            .ok_or_else(|| Self::refuse(&number.to_string()))
    }
}

impl<const LOW: i32, const HIGH: i32> fmt::Display for Bounded<LOW, HIGH> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl<const LOW: i32, const HIGH: i32> serde::Serialize for Bounded<LOW, HIGH> {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_i32(self.0)
    }
}

impl<'de, const LOW: i32, const HIGH: i32> serde::Deserialize<'de> for Bounded<LOW, HIGH> {
    fn deserialize<D: serde::Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        if from.is_human_readable() {
            from.deserialize_any(super::UnitVisitor(std::marker::PhantomData))
        } else {
            let number = <i32 as serde::Deserialize>::deserialize(from)?;
            Self::from_integer(number.into()).map_err(serde::de::Error::custom)
        }
    }
}

/// A set of processors: `"0-3,8"`. Sorted, each once.
///
/// ```
/// # use palisade_model::units::CpuSet;
/// let cpus: CpuSet = "8,0-3,2".parse()?;
/// assert_eq!(cpus.to_string(), "0-3,8");
/// # Ok::<(), palisade_model::units::UnitError>(())
/// ```
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct CpuSet(Vec<u32>);

/// Linux is built for at most this many processors (`NR_CPUS`).
const MOST_CPUS: i128 = 8192;

impl CpuSet {
    /// The processors in ascending order.
    ///
    /// ```
    /// # use palisade_model::units::CpuSet;
    /// assert_eq!("0-2,8".parse::<CpuSet>()?.cpus(), [0, 1, 2, 8]);
    /// # Ok::<(), palisade_model::units::UnitError>(())
    /// ```
    #[must_use]
    pub fn cpus(&self) -> &[u32] {
        &self.0
    }
}

impl Unit for CpuSet {
    const FORMS: &'static str = "a list of processors such as \"0-3,8\"";

    fn from_text(text: &str) -> Result<Self, UnitError> {
        let range = |part: &str| -> Option<std::ops::RangeInclusive<u32>> {
            let (first, last) = part.split_once('-').unwrap_or((part, part));
            let (first, last) = (digits(first)?, digits(last)?);
            let ordered = first <= last && last < MOST_CPUS;
            ordered.then_some(u32::try_from(first).ok()?..=u32::try_from(last).ok()?)
        };
        let mut cpus = Vec::new();
        for part in text.split(',') {
            cpus.extend(range(part).ok_or_else(|| {
                UnitError::new(
                    format!("`{text}` is not a list of processors"),
                    format!("write numbers below {MOST_CPUS} and ranges, such as \"0-3,8\""),
                )
            })?);
            // Before the next part: "0-8191,0-8191,…" must not grow without bound.
            cpus.sort_unstable();
            cpus.dedup();
        }
        Ok(Self(cpus))
    }

    fn from_integer(number: i128) -> Result<Self, UnitError> {
        Self::from_text(&number.to_string())
    }
}

impl fmt::Display for CpuSet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut rest = self.0.as_slice();
        let mut comma = "";
        while let Some(&first) = rest.first() {
            let run = rest.iter().zip(first..).take_while(|(cpu, expected)| **cpu == *expected).count();
            match rest[run - 1] {
                last if last == first => write!(f, "{comma}{first}")?,
                last => write!(f, "{comma}{first}-{last}")?,
            }
            comma = ",";
            rest = &rest[run..];
        }
        Ok(())
    }
}

unit!(CpuSet, Vec<u32>, |cpus| Ok::<_, UnitError>(CpuSet(cpus)));

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_are_strict() {
        assert_eq!("1000".parse::<Id>().unwrap().get(), 1000);
        for text in ["", "-1", "4294967295", "4294967296", "+1", "1e3", " 1", "0x1", "root"] {
            assert!(text.parse::<Id>().is_err(), "{text}");
        }
    }

    #[test]
    fn modes_are_octal() {
        assert_eq!("0755".parse::<Mode>().unwrap().bits(), 0o755);
        assert_eq!("755".parse::<Mode>().unwrap().to_string(), "0755");
        assert_eq!("0o7777".parse::<Mode>().unwrap().bits(), 0o7777);
        for text in ["", "8", "0999", "10000", "0o", "rwx", "-1", "+755"] {
            assert!(text.parse::<Mode>().is_err(), "{text}");
        }
    }

    #[test]
    fn standard_streams_are_not_kept_as_fds() {
        assert_eq!("3".parse::<Fd>().unwrap().get(), 3);
        for text in ["0", "2", "-1", "2147483648", "x"] {
            assert!(text.parse::<Fd>().is_err(), "{text}");
        }
    }

    #[test]
    fn processors_are_sorted_and_shown_as_ranges() {
        let cpus: CpuSet = "8,0-3,2".parse().unwrap();
        assert_eq!(cpus.cpus(), [0, 1, 2, 3, 8]);
        assert_eq!(cpus.to_string(), "0-3,8");
        for text in ["", "3-1", "0-", "-3", "0,,1", "8192", "a", "0 - 3"] {
            assert!(text.parse::<CpuSet>().is_err(), "{text}");
        }
    }

    #[test]
    fn bounds_are_inclusive() {
        assert_eq!(Bounded::<-20, 19>::from_text("-20").unwrap().get(), -20);
        assert!(Bounded::<-20, 19>::from_text("20").is_err());
        assert!(Bounded::<-20, 19>::from_text("--1").is_err());
    }
}
