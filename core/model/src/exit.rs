//! Exit codes: stable, documented, and told apart from the workload's own where that is possible.

/// palisade's own exit codes. The workload's own code passes through unchanged, so a code of ours
/// alone proves nothing; the report says which it was.
#[derive(Debug)]
pub struct ExitCode;

impl ExitCode {
    /// All went well.
    pub const OK: u8 = 0;
    /// What was tested does not hold. A workload's own code may be the same, but it is no test's.
    pub const FAILED: u8 = 1;
    /// The command line was wrong.
    pub const USAGE: u8 = 2;
    /// The policy is wrong.
    pub const POLICY: u8 = 118;
    /// A plugin is missing, not trusted, not compatible, or failed.
    pub const PLUGIN: u8 = 119;
    /// This host cannot do what the policy requires.
    pub const HOST: u8 = 120;
    /// The isolation could not be set up; the workload was not started.
    pub const SETUP: u8 = 121;
    /// A limit of the policy ended the workload.
    pub const LIMIT: u8 = 122;
    /// The workload ran out of time.
    pub const TIMED_OUT: u8 = 124;
    /// palisade itself failed: a panic, or output that could not be written.
    pub const INTERNAL: u8 = 125;
    /// The command was found but could not be executed.
    pub const NOT_EXECUTABLE: u8 = 126;
    /// The command was not found.
    pub const NOT_FOUND: u8 = 127;

    /// The code for a workload that a signal ended: 128 + the signal's number.
    #[must_use]
    pub fn signal(number: i32) -> u8 {
        u8::try_from(number.clamp(0, 127)).map_or(u8::MAX, |n| 128 + n)
    }
}

/// Every code: number, name, meaning. The manual and the documentation print this.
pub const EXIT_CODES: &[(u8, &str, &str)] = &[
    (ExitCode::OK, "ok", "the workload, or the verb, succeeded"),
    (ExitCode::FAILED, "failed", "what the verb tested does not hold; of `run`, the workload's own code"),
    (ExitCode::USAGE, "usage", "the command line was wrong"),
    (ExitCode::POLICY, "policy", "the policy is wrong"),
    (ExitCode::PLUGIN, "plugin", "a plugin is missing, not trusted, not compatible, or failed"),
    (ExitCode::HOST, "host-cannot", "this host cannot do what the policy requires"),
    (ExitCode::SETUP, "set-up-failed", "the isolation could not be set up; the workload was not started"),
    (ExitCode::LIMIT, "limit-hit", "a limit of the policy ended the workload"),
    (ExitCode::TIMED_OUT, "timed-out", "the workload ran longer than the policy allows"),
    (ExitCode::INTERNAL, "internal", "palisade itself failed"),
    (ExitCode::NOT_EXECUTABLE, "not-executable", "the command was found but could not be executed"),
    (ExitCode::NOT_FOUND, "not-found", "the command was not found"),
    (128, "signal", "128 + n: signal n ended the workload"),
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn codes_are_distinct_and_in_order() {
        assert!(EXIT_CODES.windows(2).all(|pair| pair[0].0 < pair[1].0));
    }

    #[test]
    fn a_signal_is_128_plus_its_number() {
        assert_eq!(ExitCode::signal(9), 137);
        assert_eq!(ExitCode::signal(64), 192);
        assert_eq!(ExitCode::signal(-1), 128);
        assert_eq!(ExitCode::signal(i32::MAX), 255);
    }
}
