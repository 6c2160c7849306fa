//! What a plugin is for one launch.

use crate::error::Error;
use crate::facts::Host;
use crate::sdk::Step;
use crate::told::{Act, Attempt, Change, Denial, Finish};
use std::os::fd::OwnedFd;

/// A plugin configured for one launch.
///
/// ```
/// # use palisade_abi::{Error, Finish, Host, Isolator, Stage, Step};
/// struct Umask(u32);
///
/// impl Isolator for Umask {
///     fn plan(&self, _host: &Host) -> Result<Vec<Step>, Error> {
///         let words = format!("sets the umask to {:04o}", self.0);
///         # fn set(_mask: u32) {}
///         let mask = self.0;
///         Ok(vec![Step::run(Stage::Build, words, move |_| {
///             set(mask);
///             Ok("")
///         })])
///     }
/// }
/// assert_eq!(Umask(0o077).plan(&Host::default()).unwrap().len(), 1);
/// ```
pub trait Isolator {
    /// Makes the steps. Touches nothing: a plan can be printed without running anything.
    ///
    /// ```
    /// # use palisade_abi::{Error, Host, Isolator, Stage, Step};
    /// # struct Mine;
    /// # impl Isolator for Mine {
    /// fn plan(&self, host: &Host) -> Result<Vec<Step>, Error> {
    ///     if host.kernel()? < (5, 14) {
    ///         return Err(Error::host("this kernel cannot do it").help("it came with Linux 5.14"));
    ///     }
    ///     Ok(vec![Step::run(Stage::Drop, "gives something up", |_| Ok("it is gone"))])
    /// }
    /// # }
    /// # let host = |minor: &str| Host::new([("kernel_major", "5"), ("kernel_minor", minor)].map(|(n, f)| (n.into(), f.into())));
    /// assert!(Mine.plan(&host("10")).is_err());
    /// assert_eq!(Mine.plan(&host("15")).unwrap().len(), 1);
    /// ```
    ///
    /// # Errors
    /// A host error where this host cannot give what the policy asks for.
    fn plan(&self, host: &Host) -> Result<Vec<Step>, Error>;

    /// Names fds to be watched while the workload runs. Asked again after each call of `ready`.
    ///
    /// ```
    /// # use palisade_abi::{Error, Host, Isolator, Step};
    /// # struct Mine { name: String, stream: std::os::unix::net::UnixStream, seen: u64, kept: Option<std::os::fd::OwnedFd> }
    /// # impl Isolator for Mine {
    /// #     fn plan(&self, _host: &Host) -> Result<Vec<Step>, Error> { Ok(Vec::new()) }
    /// fn watch(&self) -> Vec<i32> {
    ///     use std::os::fd::AsRawFd as _;
    ///     vec![self.stream.as_raw_fd()]
    /// }
    /// # }
    /// ```
    fn watch(&self) -> Vec<i32> {
        Vec::new()
    }

    /// Deals with one of those fds, which is readable now.
    ///
    /// ```
    /// # use palisade_abi::{Error, Host, Isolator, Step};
    /// # struct Mine { name: String, stream: std::os::unix::net::UnixStream, seen: u64, kept: Option<std::os::fd::OwnedFd> }
    /// # impl Isolator for Mine {
    /// #     fn plan(&self, _host: &Host) -> Result<Vec<Step>, Error> { Ok(Vec::new()) }
    /// fn ready(&mut self, _fd: i32) -> Result<(), Error> {
    ///     use std::io::Read as _;
    ///     // Never waits: it can be read, so there is at least one byte or the end.
    ///     self.seen += self.stream.read(&mut [0; 64])? as u64;
    ///     Ok(())
    /// }
    /// # }
    /// ```
    ///
    /// # Errors
    /// Ends the launch: a watcher that fails no longer watches.
    fn ready(&mut self, _fd: i32) -> Result<(), Error> {
        Ok(())
    }

    /// Says what runs that are over changed in trees of the host, where that was kept beside them. Nothing is launched.
    /// `palisade changes` asks. Since seam 1.1.
    ///
    /// ```
    /// # use palisade_abi::{Change, Changed, Error, Host, Isolator, Step};
    /// # struct Mine { name: String, stream: std::os::unix::net::UnixStream, seen: u64, kept: Option<std::os::fd::OwnedFd> }
    /// # impl Isolator for Mine {
    /// #     fn plan(&self, _host: &Host) -> Result<Vec<Step>, Error> { Ok(Vec::new()) }
    /// fn changes(&self) -> Result<Vec<Change>, Error> {
    ///     let mut all = Vec::new();
    ///     for entry in std::fs::read_dir(&self.name)? {
    ///         let path = entry?.path().display().to_string();
    ///         all.push(Change { tree: self.name.clone(), path, what: Changed::Added, from: None });
    ///     }
    ///     Ok(all)
    /// }
    /// # }
    /// ```
    ///
    /// # Errors
    /// The host could not be looked at.
    fn changes(&self) -> Result<Vec<Change>, Error> {
        Ok(Vec::new())
    }

    /// Gives commands that try what it claims to stop, as it is configured, for `palisade probe`. Since seam 1.1.
    ///
    /// ```
    /// # use palisade_abi::{Attempt, Error, Host, Isolator, Severity, Step};
    /// # struct Mine { name: String, stream: std::os::unix::net::UnixStream, seen: u64, kept: Option<std::os::fd::OwnedFd> }
    /// # impl Isolator for Mine {
    /// #     fn plan(&self, _host: &Host) -> Result<Vec<Step>, Error> { Ok(Vec::new()) }
    /// fn attempts(&self) -> Result<Vec<Attempt>, Error> {
    ///     Ok(vec![Attempt {
    ///         id: "read-the-names".to_owned(),
    ///         severity: Severity::Low,
    ///         attempts: "reads the list of names".to_owned(),
    ///         layers: "the view of files".to_owned(),
    ///         needs: String::new(),
    ///         harmless: "it only reads".to_owned(),
    ///         argv: ["sh", "-c", "cat /etc/names >/dev/null && echo {token}"].map(str::to_owned).to_vec(),
    ///     }])
    /// }
    /// # }
    /// ```
    ///
    /// # Errors
    /// They cannot be named; nothing is probed then.
    fn attempts(&self) -> Result<Vec<Attempt>, Error> {
        Ok(Vec::new())
    }

    /// Says what was used so far, while the workload runs: counters, and what is only true now. Asked a few times a
    /// second at most, and only where somebody wants to know.
    ///
    /// ```
    /// # use palisade_abi::{Error, Host, Isolator, Step};
    /// # struct Mine { name: String, stream: std::os::unix::net::UnixStream, seen: u64, kept: Option<std::os::fd::OwnedFd> }
    /// # impl Isolator for Mine {
    /// #     fn plan(&self, _host: &Host) -> Result<Vec<Step>, Error> { Ok(Vec::new()) }
    /// fn sample(&mut self) -> Result<Vec<(String, u64)>, Error> {
    ///     Ok(vec![("names_seen_count".to_owned(), self.seen)])
    /// }
    /// # }
    /// ```
    ///
    /// # Errors
    /// Reported once; the workload goes on, and this isolator is not asked again.
    fn sample(&mut self) -> Result<Vec<(String, u64)>, Error> {
        Ok(Vec::new())
    }

    /// Takes a descriptor that one of its steps handed over with [`crate::Context::hand_over`]. Since seam 1.1.
    ///
    /// ```
    /// # use palisade_abi::{Error, Host, Isolator, Step};
    /// # struct Mine { name: String, stream: std::os::unix::net::UnixStream, seen: u64, kept: Option<std::os::fd::OwnedFd> }
    /// # impl Isolator for Mine {
    /// #     fn plan(&self, _host: &Host) -> Result<Vec<Step>, Error> { Ok(Vec::new()) }
    /// fn take(&mut self, fd: std::os::fd::OwnedFd) -> Result<(), Error> {
    ///     // From now on `watch` names it.
    ///     self.kept = Some(fd);
    ///     Ok(())
    /// }
    /// # }
    /// ```
    ///
    /// # Errors
    /// Ends the launch.
    fn take(&mut self, _fd: OwnedFd) -> Result<(), Error> {
        Ok(())
    }

    /// Tells what the workload has asked for since `ready` was called, where somebody wants to know why things are
    /// denied ([`Host::explains`]). What it asked for waits until [`Isolator::settle`]. Since seam 1.1.
    ///
    /// ```
    /// # use palisade_abi::{Act, Error, Host, Isolator, Step};
    /// # struct Mine { name: String, stream: std::os::unix::net::UnixStream, seen: u64, kept: Option<std::os::fd::OwnedFd> }
    /// # impl Isolator for Mine {
    /// #     fn plan(&self, _host: &Host) -> Result<Vec<Step>, Error> { Ok(Vec::new()) }
    /// fn acts(&mut self) -> Result<Vec<Act>, Error> {
    ///     Ok(vec![Act::new([("call", "sethostname"), ("pid", "4711")])])
    /// }
    /// # }
    /// ```
    ///
    /// # Errors
    /// As `ready`.
    fn acts(&mut self) -> Result<Vec<Act>, Error> {
        Ok(Vec::new())
    }

    /// Says why it denies something, where it does, as far as it can tell: also of what another isolator saw. The host's
    /// rights are greater than the workload's, so nothing may be opened or changed by name here that `act` names, other
    /// than to look at it. Since seam 1.1.
    ///
    /// ```
    /// # use palisade_abi::{Act, Denial, Error, Host, Isolator, Step};
    /// # struct Mine { name: String, stream: std::os::unix::net::UnixStream, seen: u64, kept: Option<std::os::fd::OwnedFd> }
    /// # impl Isolator for Mine {
    /// #     fn plan(&self, _host: &Host) -> Result<Vec<Step>, Error> { Ok(Vec::new()) }
    /// fn explain(&self, act: &Act) -> Option<Denial> {
    ///     (act.fact("call") == Some("sethostname")).then(|| Denial {
    ///         answer: "EPERM".to_owned(),
    ///         why: "the host name is fixed".to_owned(),
    ///         help: "take \"mine\" out of the policy".to_owned(),
    ///         seen: true,
    ///         ..Denial::default()
    ///     })
    /// }
    /// # }
    /// ```
    fn explain(&self, _act: &Act) -> Option<Denial> {
        None
    }

    /// Lets go on what `acts` told: what the policy allows is done, what it denies is answered. Since seam 1.1.
    ///
    /// ```
    /// # use palisade_abi::{Error, Host, Isolator, Step};
    /// # struct Mine { name: String, stream: std::os::unix::net::UnixStream, seen: u64, kept: Option<std::os::fd::OwnedFd> }
    /// # impl Isolator for Mine {
    /// #     fn plan(&self, _host: &Host) -> Result<Vec<Step>, Error> { Ok(Vec::new()) }
    /// fn settle(&mut self) -> Result<(), Error> {
    ///     use std::io::Write as _;
    ///     // Whoever waits at the other end goes on.
    ///     self.stream.write_all(b"go")?;
    ///     Ok(())
    /// }
    /// # }
    /// ```
    ///
    /// # Errors
    /// As `ready`.
    fn settle(&mut self) -> Result<(), Error> {
        Ok(())
    }

    /// Says what was used and which limits were hit, after the workload ended and before anything is undone.
    ///
    /// ```
    /// # use palisade_abi::{Error, Finish, Host, Isolator, Step};
    /// # struct Mine { name: String, stream: std::os::unix::net::UnixStream, seen: u64, kept: Option<std::os::fd::OwnedFd> }
    /// # impl Isolator for Mine {
    /// #     fn plan(&self, _host: &Host) -> Result<Vec<Step>, Error> { Ok(Vec::new()) }
    /// fn finish(&mut self) -> Result<Finish, Error> {
    ///     Ok(Finish { figures: vec![("names_seen_count".to_owned(), self.seen)], hits: Vec::new() })
    /// }
    /// # }
    /// ```
    ///
    /// # Errors
    /// Reported; the undoing goes on.
    fn finish(&mut self) -> Result<Finish, Error> {
        Ok(Finish::default())
    }
}
