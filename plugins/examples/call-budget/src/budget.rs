//! The calls that are known, and what is left of each.

use palisade_abi::{At, Error, Hit};
use palisade_sys::Errno;
use palisade_sys::notify::Answer;
use std::fmt;

/// What may be counted. Not here is what palisade itself calls between the filter and the workload, and what every
/// program calls all the time: each question costs two switches to the host.
#[rustfmt::skip]
pub const CALLS: [(&str, i64); 8] = [
    ("bpf", libc::SYS_bpf),
    ("io_uring_setup", libc::SYS_io_uring_setup),
    ("memfd_create", libc::SYS_memfd_create),
    ("perf_event_open", libc::SYS_perf_event_open),
    ("ptrace", libc::SYS_ptrace),
    ("socket", libc::SYS_socket),
    ("socketpair", libc::SYS_socketpair),
    ("userfaultfd", libc::SYS_userfaultfd),
];

/// One call.
#[derive(Debug)]
pub struct Budget {
    name: &'static str,
    /// Its number on this processor.
    pub number: u32,
    /// How often it may be made.
    pub most: At<u32>,
    asked: u64,
}

impl Budget {
    pub fn new(name: &str, most: At<u32>) -> Result<Self, Error> {
        let known = CALLS.iter().find(|(known, _)| *known == name);
        let Some((name, number)) = known else {
            let all: Vec<&str> = CALLS.iter().map(|(known, _)| *known).collect();
            return Err(Error::policy(format!("`{name}` cannot be counted"))
                .at(most.origin)
                .help(format!("what can be: {}", all.join(", "))));
        };
        let number = u32::try_from(*number).map_err(|_| Error::host(format!("`{name}` has no number here")))?;
        Ok(Self { name, number, most, asked: 0 })
    }

    /// One more is asked for: the answer.
    pub fn spend(&mut self) -> Answer {
        self.asked = self.asked.saturating_add(1);
        if self.asked <= u64::from(self.most.value) { Answer::Continue } else { Answer::Errno(Errno::EPERM as i32) }
    }

    pub fn figure(&self) -> (String, u64) {
        (format!("call_budget_{}_count", self.name), self.asked)
    }

    pub fn hit(&self) -> Option<Hit> {
        (self.asked > u64::from(self.most.value)).then(|| Hit {
            limit: format!("call-budget.{}", self.name),
            words: format!(
                "{} was asked for {} times, and {} are allowed\nallow more: \"call-budget\": (calls: {{ \"{}\": {} }})",
                self.name, self.asked, self.most.value, self.name, self.asked
            ),
            ended_it: false,
            origin: self.most.origin,
        })
    }
}

impl fmt::Display for Budget {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {} times", self.name, self.most.value)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_allowed_goes_on_and_the_rest_does_not() {
        let mut budget = Budget::new("socket", At::new(2)).unwrap();
        assert_eq!([budget.spend(), budget.spend()], [Answer::Continue; 2]);
        assert!(budget.hit().is_none());
        assert_eq!(budget.spend(), Answer::Errno(1));
        assert_eq!(budget.figure(), ("call_budget_socket_count".to_owned(), 3));
        assert!(budget.hit().unwrap().words.starts_with("socket was asked for 3 times, and 2 are allowed"));
    }

    #[test]
    fn nothing_may_be_none() {
        let mut budget = Budget::new("bpf", At::new(0)).unwrap();
        assert_eq!(budget.spend(), Answer::Errno(1));
    }

    #[test]
    fn a_call_that_is_not_known_is_refused() {
        let error = Budget::new("execve", At::new(1)).unwrap_err();
        assert!(error.message.contains("execve") && error.help.contains("socket"));
    }
}
