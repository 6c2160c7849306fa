//! The limits of getrlimit(2).

use std::fmt;
use std::marker::PhantomData;

use ron::value::RawValue;
use serde::de::Error as _;
use serde::{Deserialize, Deserializer};

use crate::diag::Origin;
use crate::layer::{At, parse_at};
use crate::lex;
use crate::units::{Size, Time, Unit, UnitError, UnitVisitor};

/// No limit; the kernel's `RLIM_INFINITY`.
pub const UNLIMITED: u64 = u64::MAX;

/// What a limit counts.
pub trait RlimitUnit {
    /// The forms that are accepted.
    const FORMS: &'static str;

    /// Reads a limit from a string.
    ///
    /// # Errors
    /// A string of another form.
    fn from_text(text: &str) -> Result<u64, UnitError>;

    /// Reads a limit from a bare number.
    ///
    /// # Errors
    /// A number that is out of range, or that could mean several things.
    fn from_integer(number: i128) -> Result<u64, UnitError>;
}

/// Bytes, written as a size.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Bytes {}
/// Whole seconds, written as a length of time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Seconds {}
/// Microseconds, written as a length of time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Micros {}
/// A plain number.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Count {}

impl RlimitUnit for Bytes {
    const FORMS: &'static str = "a size such as \"512MiB\", a number of bytes, or \"unlimited\"";
    fn from_text(text: &str) -> Result<u64, UnitError> {
        Size::from_text(text).map(|size| size.0)
    }
    fn from_integer(number: i128) -> Result<u64, UnitError> {
        Size::from_integer(number).map(|size| size.0)
    }
}

/// The kernel counts whole units, and rounding would be another limit than the one written.
fn whole(text: &str, nanos: u128, name: &str) -> Result<u64, UnitError> {
    let time = Time::from_text(text)?.0.as_nanos();
    let count = u64::try_from(time / nanos).ok();
    count.filter(|_| time % nanos == 0).ok_or_else(|| {
        UnitError::new(
            format!("`{text}` is not a whole number of {name}"),
            format!("the kernel counts this limit in {name}"),
        )
    })
}

impl RlimitUnit for Seconds {
    const FORMS: &'static str = "a length of time such as \"10s\", or \"unlimited\"";
    fn from_text(text: &str) -> Result<u64, UnitError> {
        whole(text, 1_000_000_000, "seconds")
    }
    fn from_integer(number: i128) -> Result<u64, UnitError> {
        Time::from_integer(number).map(|time| time.0.as_secs())
    }
}

impl RlimitUnit for Micros {
    const FORMS: &'static str = "a length of time such as \"50ms\", or \"unlimited\"";
    fn from_text(text: &str) -> Result<u64, UnitError> {
        whole(text, 1_000, "microseconds")
    }
    fn from_integer(number: i128) -> Result<u64, UnitError> {
        Time::from_integer(number).map(|time| time.0.as_secs())
    }
}

impl RlimitUnit for Count {
    const FORMS: &'static str = "a whole number, or \"unlimited\"";
    fn from_text(text: &str) -> Result<u64, UnitError> {
        text.parse().map_err(|_not_a_number| {
            UnitError::new(format!("`{text}` is not a number"), format!("expected {}", Self::FORMS))
        })
    }
    fn from_integer(number: i128) -> Result<u64, UnitError> {
        u64::try_from(number).map_err(|_out_of_range| {
            UnitError::new(format!("`{number}` is out of range"), format!("expected {}", Self::FORMS))
        })
    }
}

/// A soft and a hard limit. Written as one value for both, or as `(soft: ..., hard: ...)`.
pub struct Rlimit<U> {
    /// What is enforced.
    pub soft: u64,
    /// How far the workload may raise the soft limit itself.
    pub hard: u64,
    unit: PhantomData<U>,
}

impl<U> Rlimit<U> {
    /// A limit that was not written in a policy.
    #[must_use]
    pub const fn new(soft: u64, hard: u64) -> Self {
        Self { soft, hard, unit: PhantomData }
    }
}

// Derived ones would ask the same of the unit, which is never a value.
impl<U> Clone for Rlimit<U> {
    fn clone(&self) -> Self {
        *self
    }
}
impl<U> Copy for Rlimit<U> {}
impl<U> PartialEq for Rlimit<U> {
    fn eq(&self, other: &Self) -> bool {
        (self.soft, self.hard) == (other.soft, other.hard)
    }
}
impl<U> Eq for Rlimit<U> {}
impl<U> fmt::Debug for Rlimit<U> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Rlimit({}, {})", self.soft, self.hard)
    }
}

struct Bound<U>(u64, PhantomData<U>);

impl<U: RlimitUnit> Unit for Bound<U> {
    const FORMS: &'static str = U::FORMS;

    fn from_text(text: &str) -> Result<Self, UnitError> {
        let number = match text {
            "unlimited" | "max" | "infinity" => UNLIMITED,
            _ => U::from_text(text)?,
        };
        Ok(Self(number, PhantomData))
    }

    fn from_integer(number: i128) -> Result<Self, UnitError> {
        U::from_integer(number).map(|number| Self(number, PhantomData))
    }
}

impl<'de, U: RlimitUnit> Deserialize<'de> for Bound<U> {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        from.deserialize_any(UnitVisitor(PhantomData))
    }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields, bound = "U: RlimitUnit")]
struct Pair<U> {
    soft: Bound<U>,
    hard: Bound<U>,
}

impl<'de, U: RlimitUnit> Deserialize<'de> for Rlimit<U> {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        let raw = <&RawValue>::deserialize(from)?.get_ron();
        let (soft, hard) = if raw[lex::trim(raw)].starts_with('(') {
            let (pair, _) = parse_at::<Pair<U>>(raw).map_err(D::Error::custom)?;
            (pair.soft.0, pair.hard.0)
        } else {
            let (bound, _) = parse_at::<Bound<U>>(raw).map_err(D::Error::custom)?;
            (bound.0, bound.0)
        };
        if soft > hard {
            return Err(D::Error::custom(
                "the soft limit is higher than the hard limit\nthe kernel refuses that; lower `soft` or raise `hard`",
            ));
        }
        Ok(Self::new(soft, hard))
    }
}

/// One limit as the kernel takes it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RlimitRow {
    /// Its name in lower case, as in getrlimit(2) without `RLIMIT_`.
    pub name: &'static str,
    /// The soft limit, in the kernel's unit.
    pub soft: u64,
    /// The hard limit, in the kernel's unit.
    pub hard: u64,
    /// Where it was written.
    pub origin: Option<Origin>,
}

macro_rules! rlimits {
    ($( $(#[$doc:meta])* $name:ident : $unit:ty ),* $(,)?) => {
        crate::layered! {
            /// The limits of getrlimit(2), by their names in lower case.
            pub struct Rlimits {
                $( $(#[$doc])* pub $name: Option<At<Rlimit<$unit>>>, )*
            }
        }

        impl Rlimits {
            /// The limits that are set.
            #[must_use]
            pub fn rows(&self) -> Vec<RlimitRow> {
                let all = [$(
                    self.$name.map(|limit| RlimitRow {
                        name: crate::layer::field_name(stringify!($name)),
                        soft: limit.value.soft,
                        hard: limit.value.hard,
                        origin: limit.origin,
                    })
                ),*];
                all.into_iter().flatten().collect()
            }
        }
    };
}

rlimits! {
    /// The address space.
    r#as: Bytes,
    /// The size of a core dump.
    core: Bytes,
    /// Processor time of one process.
    cpu: Seconds,
    /// The data segment.
    data: Bytes,
    /// The size of a file that is written.
    fsize: Bytes,
    /// File locks.
    locks: Count,
    /// Locked memory.
    memlock: Bytes,
    /// POSIX message queues of the user.
    msgqueue: Bytes,
    /// The ceiling of the nice value, as 20 minus the nice value.
    nice: Count,
    /// One more than the highest file descriptor.
    nofile: Count,
    /// Processes and threads of the user.
    nproc: Count,
    /// The resident set; ignored by Linux since 2.4.30.
    rss: Bytes,
    /// The ceiling of the real-time priority.
    rtprio: Count,
    /// Processor time between two blocking calls under real-time scheduling.
    rttime: Micros,
    /// Queued signals of the user.
    sigpending: Count,
    /// The stack of the main thread.
    stack: Bytes,
}
