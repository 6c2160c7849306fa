//! A file of a cgroup and what is to be in it: how it is written, and how what the kernel says is compared.

use std::borrow::Cow;
use std::fmt::Display;

/// The kernel rounds sizes down to its pages, which are at most this large.
const LARGEST_PAGE: u64 = 65_536;

/// How a value is compared with what the kernel says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Check {
    /// The same text.
    Exactly,
    /// This many bytes, rounded down to a page.
    Bytes(u64),
    /// This many bytes, rounded down to a huge page of that size.
    HugePages(u64, u64),
    /// The file has a line for each device: the line that begins with the same word has all words of the value.
    Words,
    /// The same lines, in any order.
    Lines,
    /// It can only be written; another setting shows what came of it.
    Elsewhere,
    /// It is whatever the cgroup above has, and not empty.
    Inherited,
}

/// A file of a cgroup and what is to be in it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Setting {
    pub(crate) file: Cow<'static, str>,
    pub(crate) value: String,
    pub(crate) check: Check,
    /// Only checked: a fresh cgroup has it, or another setting has written it.
    pub(crate) given: bool,
    /// The file exists only where the kernel counts swap; how much swap it allows.
    pub(crate) swap: Option<u64>,
}

impl Setting {
    pub(crate) fn new(file: impl Into<Cow<'static, str>>, value: impl Display, check: Check) -> Self {
        Self { file: file.into(), value: value.to_string(), check, given: false, swap: None }
    }

    pub(crate) fn unwritten(self) -> Self {
        Self { given: true, ..self }
    }

    pub(crate) fn of_swap(self, bytes: u64) -> Self {
        Self { swap: Some(bytes), ..self }
    }

    pub(crate) fn fits(&self, found: &str) -> bool {
        let rounded = |asked: u64, page: u64| {
            let found = found.parse::<u64>();
            found.is_ok_and(|found| found <= asked && asked - found < page)
        };
        match self.check {
            Check::Exactly => found == self.value,
            Check::Bytes(asked) => rounded(asked, LARGEST_PAGE),
            Check::HugePages(asked, page) => rounded(asked, page),
            Check::Words => self.has_words(found),
            Check::Lines => sorted(found) == sorted(&self.value),
            Check::Elsewhere => true,
            Check::Inherited => !found.is_empty(),
        }
    }

    fn has_words(&self, found: &str) -> bool {
        let mut wanted = self.value.split_ascii_whitespace();
        let Some(key) = wanted.next() else { return false };
        let mut lines = found.lines().map(|line| line.split_ascii_whitespace().collect::<Vec<_>>());
        let line = lines.find(|words| words.first() == Some(&key));
        line.is_some_and(|words| wanted.all(|word| words.contains(&word)))
    }
}

fn sorted(lines: &str) -> Vec<&str> {
    let mut lines: Vec<&str> = lines.lines().collect();
    lines.sort_unstable();
    lines
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_size_may_be_rounded_down_to_a_page_and_no_further() {
        let setting = Setting::new("memory.max", 1_000_000, Check::Bytes(1_000_000));
        assert!(setting.fits("999424") && setting.fits("1000000"));
        for wrong in ["1003520", "900000", "max", "9223372036854771712", ""] {
            assert!(!setting.fits(wrong), "{wrong}");
        }
        let huge = Setting::new("hugetlb.2MB.max", 3 << 20, Check::HugePages(3 << 20, 2 << 20));
        assert!(huge.fits("2097152") && !huge.fits("0") && !huge.fits("4194304"));
    }

    #[test]
    fn other_values_must_be_the_same() {
        let setting = Setting::new("cpu.max", "50000 100000", Check::Exactly);
        assert!(setting.fits("50000 100000") && !setting.fits("max 100000"));
    }

    #[test]
    fn one_device_of_many_is_looked_at() {
        let setting = Setting::new("io.max", "254:0 rbps=1000 wiops=5", Check::Words);
        assert!(setting.fits("8:0 rbps=1 wbps=max riops=max wiops=5\n254:0 rbps=1000 wbps=max riops=max wiops=5"));
        for wrong in ["", "8:0 rbps=1000 wiops=5", "254:0 rbps=1000 wbps=max riops=max wiops=50"] {
            assert!(!setting.fits(wrong), "{wrong}");
        }
    }

    #[test]
    fn lists_may_be_in_any_order_and_have_nothing_more() {
        let setting = Setting::new("devices.list", "c 1:3 rwm\nc 1:5 rwm", Check::Lines);
        assert!(setting.fits("c 1:5 rwm\nc 1:3 rwm"));
        assert!(!setting.fits("c 1:5 rwm") && !setting.fits("a *:* rwm\nc 1:3 rwm\nc 1:5 rwm"));
    }
}
