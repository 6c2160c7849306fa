//! What a step does, and what it is lent for that.

use crate::error::Error;
use crate::seam::RawContext;
use std::fmt;
use std::os::fd::{AsRawFd as _, BorrowedFd};

/// The doing, checking and undoing of a [`crate::Step`].
///
/// ```
/// # use palisade_abi::{Action, Context, Error, Evidence, Stage, Step};
/// /// A file of the host that is there while the workload runs.
/// struct Marker(std::path::PathBuf);
///
/// impl Action for Marker {
///     fn apply(&mut self, _context: &mut Context<'_>) -> Result<Evidence, Error> {
///         std::fs::write(&self.0, "running")?;
///         Ok(format!("it is at {}", self.0.display()).into())
///     }
///
///     fn verify(&self, _context: &Context<'_>) -> Result<Option<Evidence>, Error> {
///         let text = std::fs::read_to_string(&self.0)?;
///         Ok(Some(format!("it says `{text}`").into()))
///     }
///
///     fn undo(&mut self, _context: &mut Context<'_>) -> Result<(), Error> {
///         Ok(std::fs::remove_file(&self.0)?)
///     }
/// }
/// let step = Step::new(Stage::Prepare, "marks that it runs", Marker("/run/mine".into()));
/// # let _ = step;
/// ```
pub trait Action {
    /// Does it.
    ///
    /// ```
    /// # use palisade_abi::{Action, Context, Error, ErrorContext as _, Evidence};
    /// # struct Name(String);
    /// # impl Action for Name {
    /// fn apply(&mut self, _context: &mut Context<'_>) -> Result<Evidence, Error> {
    ///     std::fs::write("/proc/sys/kernel/hostname", &self.0).doing(|| "the host name was not set")?;
    ///     Ok(format!("it is `{}`", self.0).into())
    /// }
    /// # }
    /// ```
    ///
    /// # Errors
    /// Ends the launch, unless the policy says `Degrade`.
    fn apply(&mut self, context: &mut Context<'_>) -> Result<Evidence, Error>;

    /// Reads back from the host what the kernel believes, before the workload is released. `None` where there
    /// is nothing that the host can read.
    ///
    /// ```
    /// # use palisade_abi::{Action, Context, Error, ErrorContext as _, Evidence};
    /// # struct Name(String);
    /// # impl Action for Name {
    /// #     fn apply(&mut self, _context: &mut Context<'_>) -> Result<Evidence, Error> { Ok(Evidence::default()) }
    /// fn verify(&self, context: &Context<'_>) -> Result<Option<Evidence>, Error> {
    ///     let status = std::fs::read_to_string(format!("/proc/{}/status", context.pid()?))?;
    ///     if !status.contains("NoNewPrivs:\t1") {
    ///         return Err(Error::setup("the kernel says that it may still gain privileges"));
    ///     }
    ///     Ok(Some("NoNewPrivs: 1".into()))
    /// }
    /// # }
    /// ```
    ///
    /// # Errors
    /// The kernel believes something else than the policy says: ends the launch.
    fn verify(&self, _context: &Context<'_>) -> Result<Option<Evidence>, Error> {
        Ok(None)
    }

    /// The same from inside the process, before Seal, for what an unprivileged host may not read. Asked only of
    /// a step made with [`crate::Step::witnessed`].
    ///
    /// ```
    /// # use palisade_abi::{Action, Context, Error, Evidence};
    /// # struct Name(String);
    /// # impl Action for Name {
    /// #     fn apply(&mut self, _context: &mut Context<'_>) -> Result<Evidence, Error> { Ok(Evidence::default()) }
    /// fn witness(&self, _context: &Context<'_>) -> Result<Evidence, Error> {
    ///     let seen = std::fs::read_to_string("/proc/sys/kernel/hostname")?;
    ///     if seen.trim_end() != self.0 {
    ///         return Err(Error::setup(format!("the kernel says `{}`", seen.trim_end())));
    ///     }
    ///     Ok(format!("it reads back as `{}`", self.0).into())
    /// }
    /// # }
    /// ```
    ///
    /// # Errors
    /// As `verify`.
    fn witness(&self, _context: &Context<'_>) -> Result<Evidence, Error> {
        Ok(Evidence::default())
    }

    /// Takes it back. Called once for each step that was applied (and for one whose `apply` failed half-way),
    /// in reverse order, on the host, for Prepare and Attach only; what lives in the child ends with it.
    ///
    /// ```
    /// # use palisade_abi::{Action, Context, Error, Evidence};
    /// # struct Name(String);
    /// # impl Action for Name {
    /// #     fn apply(&mut self, _context: &mut Context<'_>) -> Result<Evidence, Error> { Ok(Evidence::default()) }
    /// fn undo(&mut self, _context: &mut Context<'_>) -> Result<(), Error> {
    ///     match std::fs::remove_file(&self.0) {
    ///         // `apply` may have failed before it was made.
    ///         Err(error) if error.kind() != std::io::ErrorKind::NotFound => Err(error.into()),
    ///         _ => Ok(()),
    ///     }
    /// }
    /// # }
    /// ```
    ///
    /// # Errors
    /// Reported; the undoing goes on.
    fn undo(&mut self, _context: &mut Context<'_>) -> Result<(), Error> {
        Ok(())
    }

    /// What exactly it will put in force, for `palisade plan --details`: texts of as many lines as it takes, each under
    /// a name of one word. Asked only where somebody wants to see it, so it may take its time. Since seam 1.1.
    ///
    /// ```
    /// # use palisade_abi::{Action, Context, Error, Evidence};
    /// # struct Name(String);
    /// # impl Action for Name {
    /// #     fn apply(&mut self, _context: &mut Context<'_>) -> Result<Evidence, Error> { Ok(Evidence::default()) }
    /// fn details(&self) -> Vec<(String, String)> {
    ///     vec![("name".to_owned(), self.0.clone())]
    /// }
    /// # }
    /// ```
    fn details(&self) -> Vec<(String, String)> {
        Vec::new()
    }
}

/// What shows that a step is in force, in words for the report; empty where there is nothing to add.
///
/// ```
/// # use palisade_abi::Evidence;
/// assert_eq!(Evidence::from("it reads back as `fence`").0, "it reads back as `fence`");
/// assert_eq!(Evidence::default(), Evidence::from(""));
/// ```
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Evidence(pub String);

impl<T: Into<String>> From<T> for Evidence {
    fn from(text: T) -> Self {
        Self(text.into())
    }
}

/// What palisade lends to a step while it runs.
///
/// ```
/// # use palisade_abi::{Context, Error};
/// fn status(context: &Context<'_>) -> Result<String, Error> {
///     Ok(std::fs::read_to_string(format!("/proc/{}/status", context.pid()?))?)
/// }
/// # let _ = status;
/// ```
pub struct Context<'a>(pub(crate) RawContext<'a>);

impl fmt::Debug for Context<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Context(pid {:?})", self.number("pid"))
    }
}

impl Context<'_> {
    /// Gives a number by name, if palisade has it now.
    ///
    /// ```
    /// # use palisade_abi::Context;
    /// fn is_born(context: &Context<'_>) -> bool {
    ///     context.number("pid").is_some()
    /// }
    /// # let _ = is_born;
    /// ```
    #[must_use]
    pub fn number(&self, name: &str) -> Option<i64> {
        self.0.number(name.into()).into_option()
    }

    fn pid_named(&self, name: &str) -> Result<i32, Error> {
        self.number(name)
            .and_then(|n| i32::try_from(n).ok())
            .ok_or_else(|| Error::new(crate::ErrorKind::Plugin, format!("no `{name}` at this stage")))
    }

    /// The process that is being set up, as the host numbers it. From Attach on. While steps are verified this
    /// is the workload's own process; before that it is the process that was cloned.
    ///
    /// ```
    /// # use palisade_abi::{Context, Error};
    /// fn oom_score(context: &Context<'_>) -> Result<String, Error> {
    ///     Ok(std::fs::read_to_string(format!("/proc/{}/oom_score_adj", context.pid()?))?)
    /// }
    /// # let _ = oom_score;
    /// ```
    ///
    /// # Errors
    /// There is none yet.
    pub fn pid(&self) -> Result<i32, Error> {
        self.pid_named("pid")
    }

    /// The process that was cloned: palisade's init where there is one, else the workload's.
    ///
    /// ```
    /// # use palisade_abi::{Context, Error};
    /// fn has_init(context: &Context<'_>) -> Result<bool, Error> {
    ///     Ok(context.init_pid()? != context.pid()?)
    /// }
    /// # let _ = has_init;
    /// ```
    ///
    /// # Errors
    /// There is none yet.
    pub fn init_pid(&self) -> Result<i32, Error> {
        self.pid_named("init_pid")
    }

    /// Offers an open cgroup v2 directory for the process to be born in. Prepare only; the fd must stay open.
    ///
    /// ```
    /// # use palisade_abi::{Action, Context, Error, Evidence};
    /// struct Group(std::fs::File);
    ///
    /// impl Action for Group {
    ///     fn apply(&mut self, context: &mut Context<'_>) -> Result<Evidence, Error> {
    ///         use std::os::fd::AsRawFd as _;
    ///         // `self` lives until the launch is undone, and so does the descriptor.
    ///         context.offer_cgroup(self.0.as_raw_fd());
    ///         Ok(Evidence::default())
    ///     }
    /// }
    /// ```
    pub fn offer_cgroup(&mut self, fd: i32) {
        self.0.offer_cgroup(fd);
    }

    /// Hands a descriptor over to the isolator's [`crate::Isolator::take`] on the host. Drop and Seal only; it must stay open
    /// until the workload is executed. Since seam 1.1.
    ///
    /// ```
    /// # use palisade_abi::{Action, Context, Error, Evidence};
    /// struct Listener(Option<std::os::unix::net::UnixListener>);
    ///
    /// impl Action for Listener {
    ///     fn apply(&mut self, context: &mut Context<'_>) -> Result<Evidence, Error> {
    ///         use std::os::fd::AsFd as _;
    ///         let made = std::os::unix::net::UnixListener::bind("/run/mine")?;
    ///         context.hand_over(made.as_fd());
    ///         // Kept open; it is closed when the workload is executed.
    ///         self.0 = Some(made);
    ///         Ok("what connects to /run/mine talks to the host".into())
    ///     }
    /// }
    /// ```
    pub fn hand_over(&mut self, fd: BorrowedFd<'_>) {
        self.0.hand_over(fd.as_raw_fd());
    }
}
