//! The `process` section: the workload's command and attributes.

mod env;
mod rlimits;
mod values;

use crate::layer::{At, OneOrMany};
use crate::units::{AbsPath, Bounded, CpuSet, Fd, Mode, Size, Text, Time};

pub use env::{EnvName, EnvPattern, EnvRule, environment};
pub use rlimits::{Bytes, Count, Micros, Rlimit, RlimitRow, RlimitUnit, Rlimits, Seconds, UNLIMITED};
pub use values::{Account, Input, Output, Terminal};

crate::layered! {
    /// The command and its attributes.
    pub struct Process {
        /// The command and its arguments, where the command line gives none. A later layer's list
        /// replaces the whole list.
        pub argv: Option<At<Vec<Text>>>,
        /// Rules that make the environment, in order, starting from an empty one: one rule or a
        /// list of them.
        pub env: OneOrMany<EnvRule>,
        /// Names that may be kept although they look like secrets.
        pub secrets: Vec<At<EnvName>>,
        /// The working directory, inside the workload's view.
        pub cwd: Option<At<AbsPath>>,
        /// The file mode creation mask.
        pub umask: Option<At<Mode>>,
        /// The user, by id or by name.
        pub user: Option<At<Account>>,
        /// The groups, the first one being the primary one.
        pub groups: Option<At<Vec<Account>>>,
        /// The limits of getrlimit(2).
        pub rlimits: Rlimits,
        /// The nice value, -20 to 19.
        pub nice: Option<At<Bounded<-20, 19>>>,
        /// How readily the kernel's OOM killer takes it, -1000 to 1000.
        pub oom_score_adj: Option<At<Bounded<-1000, 1000>>>,
        /// The processors that it may run on.
        pub cpu_affinity: Option<At<CpuSet>>,
        /// How long it may run.
        pub timeout: Option<At<Time>>,
        /// How much processor time it may use.
        pub cpu_time: Option<At<Time>>,
        /// How long it may take to end between SIGTERM and SIGKILL.
        pub grace: Option<At<Time>>,
        /// Where its standard input comes from.
        pub stdin: Option<At<Input>>,
        /// Where its standard output goes.
        pub stdout: Option<At<Output>>,
        /// Where its standard error goes.
        pub stderr: Option<At<Output>>,
        /// How much it may write to standard output and standard error together.
        pub output_limit: Option<At<Size>>,
        /// Whether palisade's own init is pid 1; by default where there is a pid namespace.
        pub init: Option<At<bool>>,
        /// Whether it shares the caller's terminal or has one of its own.
        pub terminal: Option<At<Terminal>>,
        /// File descriptors from 3 on that it keeps; all others are closed.
        pub keep_fds: Vec<At<Fd>>,
    }
}
