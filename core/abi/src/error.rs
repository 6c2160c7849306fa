//! Errors that cross the seam. An error says what was asked, the call as written, the errno and what to do;
//! palisade adds the plugin, the step and the policy line, and renders it once.

use crate::seam::{Failure, RawOrigin};
use abi_stable::std_types::{ROption, RString};
use palisade_model::diag::Origin;

/// What kind of trouble an error is; it decides palisade's exit code.
///
/// ```
/// # use palisade_abi::{Error, ErrorKind};
/// assert_eq!(Error::policy("`ports` is empty").kind, ErrorKind::Policy);
/// assert_eq!(Error::host("no such interface").kind, ErrorKind::Host);
/// assert_eq!(Error::setup("the mount failed").kind, ErrorKind::Setup);
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ErrorKind {
    /// The policy asks for something that makes no sense.
    Policy,
    /// The host cannot give what the policy asks for.
    Host,
    /// A step failed while it was done, verified or undone.
    Setup,
    /// The plugin itself is at fault (a panic, an answer that breaks the seam's rules).
    Plugin,
}

impl ErrorKind {
    pub(crate) fn code(self) -> u8 {
        match self {
            Self::Policy => 1,
            Self::Host => 2,
            Self::Setup => 3,
            Self::Plugin => 4,
        }
    }

    /// A kind that a newer plugin may know and this palisade does not counts as the plugin's fault: fail closed.
    pub(crate) fn from_code(code: u8) -> Self {
        match code {
            1 => Self::Policy,
            2 => Self::Host,
            3 => Self::Setup,
            _ => Self::Plugin,
        }
    }
}

/// An error of a plugin or of one of its steps.
///
/// ```
/// # use palisade_abi::Error;
/// let error = Error::host("the kernel schedules no groups of cores")
///     .call("prctl(PR_SCHED_CORE, PR_SCHED_CORE_CREATE)", 22)
///     .help("it needs Linux 5.14 with CONFIG_SCHED_CORE; to go on without it: cores_demand: Degrade");
/// assert_eq!(error.errno, 22);
/// ```
#[derive(Clone, Debug)]
pub struct Error {
    /// What kind of trouble.
    pub kind: ErrorKind,
    /// What was to be done and could not be, in words.
    pub message: String,
    /// The system call as written, with its result; empty where none was made.
    pub call: String,
    /// The errno of that call; 0 where there is none.
    pub errno: i32,
    /// What the reader can do about it; empty where nothing better is known.
    pub help: String,
    /// The place in a policy that is to blame, where the step's own is not precise enough.
    pub origin: Option<Origin>,
}

impl Error {
    /// How the text of a link in a chain of [`std::error::Error::source`] begins that says what to do.
    ///
    /// ```
    /// # use palisade_abi::Error;
    /// // A library's error, of which palisade takes the advice as well.
    /// #[derive(Debug)]
    /// struct Advice(&'static str);
    /// impl std::fmt::Display for Advice {
    ///     fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
    ///         write!(f, "{}{}", Error::REMEDY, self.0)
    ///     }
    /// }
    /// impl std::error::Error for Advice {}
    /// assert_eq!(Error::from(Advice("mount it first")).help, "mount it first");
    /// ```
    pub const REMEDY: &'static str = "help: ";

    /// Makes an error of the given kind.
    ///
    /// ```
    /// # use palisade_abi::{Error, ErrorKind};
    /// let error = Error::new(ErrorKind::Plugin, "the table is not sorted");
    /// assert_eq!(error.message, "the table is not sorted");
    /// ```
    pub fn new(kind: ErrorKind, message: impl Into<String>) -> Self {
        Self { kind, message: message.into(), call: String::new(), errno: 0, help: String::new(), origin: None }
    }

    /// The policy asks for something that makes no sense.
    ///
    /// ```
    /// # use palisade_abi::Error;
    /// let error = Error::policy("`allow` and `only` cannot both be given").help("remove one of them");
    /// assert_eq!(error.help, "remove one of them");
    /// ```
    pub fn policy(message: impl Into<String>) -> Self {
        Self::new(ErrorKind::Policy, message)
    }

    /// The host cannot give what the policy asks for.
    ///
    /// ```
    /// # use palisade_abi::Error;
    /// let error = Error::host("this kernel has no time namespaces").help("they came with Linux 5.6");
    /// assert_eq!(error.call, "", "nothing was called: it was known before");
    /// ```
    pub fn host(message: impl Into<String>) -> Self {
        Self::new(ErrorKind::Host, message)
    }

    /// A step failed.
    ///
    /// ```
    /// # use palisade_abi::Error;
    /// let error = Error::setup("the kernel reports another host name than was set");
    /// assert_eq!(error.errno, 0);
    /// ```
    pub fn setup(message: impl Into<String>) -> Self {
        Self::new(ErrorKind::Setup, message)
    }

    /// Names the place in the policy that is to blame.
    ///
    /// ```
    /// # use palisade_abi::{At, Error};
    /// # fn check(name: &At<String>) -> Result<(), Error> {
    /// if name.value.len() > 64 {
    ///     return Err(Error::policy("a host name has 64 bytes at most").at(name.origin));
    /// }
    /// # Ok(())
    /// # }
    /// # assert!(check(&At::new("x".repeat(65))).is_err() && check(&At::new("x".to_owned())).is_ok());
    /// ```
    #[must_use]
    pub fn at(mut self, origin: Option<Origin>) -> Self {
        self.origin = origin.or(self.origin);
        self
    }

    /// Says what the reader can do about it.
    ///
    /// ```
    /// # use palisade_abi::Error;
    /// let error = Error::host("a capability is missing").help("run as root, or add \"namespaces\": (user: New)");
    /// assert!(error.help.starts_with("run as root"));
    /// ```
    #[must_use]
    pub fn help(mut self, help: impl Into<String>) -> Self {
        self.help = help.into();
        self
    }

    /// Says which call failed and how.
    ///
    /// ```
    /// # use palisade_abi::Error;
    /// let error = Error::setup("the host name could not be set").call("sethostname(\"fence\")", 1);
    /// assert_eq!((error.call.as_str(), error.errno), ("sethostname(\"fence\")", 1));
    /// ```
    #[must_use]
    pub fn call(mut self, call: impl Into<String>, errno: i32) -> Self {
        self.call = call.into();
        self.errno = errno;
        self
    }
}

/// Any error of a library becomes a set-up error: its call is the error's own text, its errno that of the first
/// `std::io::Error` in its chain of sources, and its help what the first link whose text begins with
/// [`Error::REMEDY`] says after it. A library gives its advice that way without knowing this crate;
/// `palisade_sys::Error` does.
impl<E: std::error::Error + 'static> From<E> for Error {
    fn from(error: E) -> Self {
        let (mut errno, mut help) = (None, None);
        let mut next: Option<&(dyn std::error::Error + 'static)> = Some(&error);
        while let Some(this) = next {
            let io = this.downcast_ref::<std::io::Error>();
            errno = errno.or_else(|| io.and_then(std::io::Error::raw_os_error));
            help = help.or_else(|| Some(this.to_string().strip_prefix(Self::REMEDY)?.to_owned()));
            next = this.source();
        }
        Self::setup("").call(error.to_string(), errno.unwrap_or(0)).help(help.unwrap_or_default())
    }
}

/// Says what was being done when a library's error came up.
///
/// ```
/// # use palisade_abi::{Error, ErrorContext as _};
/// fn load() -> Result<String, Error> {
///     // The io::Error gives the errno, this line the meaning.
///     let text = std::fs::read_to_string("/nonexistent").doing(|| "the list of names could not be read")?;
///     Ok(text)
/// }
/// let error = load().unwrap_err();
/// assert_eq!((error.message.as_str(), error.errno), ("the list of names could not be read", 2));
/// ```
pub trait Context<T> {
    /// Puts `message` in front of the error; what the error says of call, errno and help stays.
    ///
    /// ```
    /// # use palisade_abi::{Error, ErrorContext as _};
    /// let failed: Result<(), _> = Err(Error::setup("the device is busy"));
    /// let error = failed.doing(|| "`/dev/sda` was not locked").unwrap_err();
    /// assert_eq!(error.message, "`/dev/sda` was not locked: the device is busy");
    /// ```
    ///
    /// # Errors
    /// The same error, with the message.
    fn doing<M: Into<String>>(self, message: impl FnOnce() -> M) -> Result<T, Error>;
}

impl<T, E: Into<Error>> Context<T> for Result<T, E> {
    fn doing<M: Into<String>>(self, message: impl FnOnce() -> M) -> Result<T, Error> {
        self.map_err(|error| {
            let mut error = error.into();
            error.message = match (message().into(), error.message.is_empty()) {
                (words, true) => words,
                (words, false) => format!("{words}: {}", error.message),
            };
            error
        })
    }
}

impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        Self {
            kind: error.kind.code(),
            message: error.message.into(),
            call: error.call.into(),
            errno: error.errno,
            help: error.help.into(),
            origin: error.origin.map_or(ROption::RNone, |o| ROption::RSome(o.into())),
        }
    }
}

impl From<Failure> for Error {
    fn from(failure: Failure) -> Self {
        Self {
            kind: ErrorKind::from_code(failure.kind),
            message: RString::into_string(failure.message),
            call: RString::into_string(failure.call),
            errno: failure.errno,
            help: RString::into_string(failure.help),
            origin: failure.origin.into_option().map(RawOrigin::into),
        }
    }
}
