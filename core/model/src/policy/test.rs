//! The `tests` of a policy: what must be allowed, denied and limited under it.

use std::fmt;
use std::net::SocketAddr;

use serde::{Deserialize, Serialize};

use crate::units::{AbsPath, Percent, Size, Time, Unit, UnitError, unit};

/// One claim of a policy about itself.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Test {
    /// The act must succeed.
    Allow(Act),
    /// The act must fail, though it succeeds without the policy.
    Deny(Act),
    /// Going beyond must fail or end the workload.
    Limit(Cap),
}

/// Something that a workload may try.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Act {
    /// Open a file or directory for reading.
    Read(AbsPath),
    /// Open a file for writing, or make it.
    Write(AbsPath),
    /// Execute a file.
    Execute(AbsPath),
    /// Connect to an address.
    ConnectTcp(Endpoint),
    /// Listen on a port.
    BindTcp(u16),
    /// Make a system call, by name.
    Syscall(String),
}

/// Something that a workload may use up.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Cap {
    /// Memory.
    Memory(Size),
    /// Processes and threads.
    Pids(u64),
    /// A share of processors.
    Cpu(Percent),
    /// Time that goes by.
    Time(Time),
    /// Open files of one process.
    OpenFiles(u64),
    /// The size of one file.
    FileSize(Size),
}

/// An address and a port: `"1.1.1.1:443"`, `"[::1]:80"`. Not a name: what a name leads to depends
/// on the network.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Endpoint(pub SocketAddr);

impl Unit for Endpoint {
    const FORMS: &'static str = "an address and a port such as \"1.1.1.1:443\"";

    fn from_text(text: &str) -> Result<Self, UnitError> {
        text.parse().map(Self).map_err(|_not_an_address| {
            UnitError::new(
                format!("`{text}` is not an address and a port"),
                "write them as numbers, such as \"1.1.1.1:443\" or \"[::1]:80\"",
            )
        })
    }
}

impl fmt::Display for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

unit!(Endpoint, SocketAddr, |addr| Ok::<_, UnitError>(Endpoint(addr)));
