//! Errors that cross the seam. An error says what was asked, the call as written, the errno and what to do;
//! palisade adds the plugin, the step and the policy line, and renders it once.

use crate::seam::{Failure, RawOrigin};
use abi_stable::std_types::{ROption, RString};
use palisade_model::diag::Origin;

/// What kind of trouble an error is; it decides palisade's exit code.
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
    pub const REMEDY: &'static str = "help: ";

    /// Makes an error of the given kind.
    pub fn new(kind: ErrorKind, message: impl Into<String>) -> Self {
        Self { kind, message: message.into(), call: String::new(), errno: 0, help: String::new(), origin: None }
    }

    /// The policy asks for something that makes no sense.
    pub fn policy(message: impl Into<String>) -> Self {
        Self::new(ErrorKind::Policy, message)
    }

    /// The host cannot give what the policy asks for.
    pub fn host(message: impl Into<String>) -> Self {
        Self::new(ErrorKind::Host, message)
    }

    /// A step failed.
    pub fn setup(message: impl Into<String>) -> Self {
        Self::new(ErrorKind::Setup, message)
    }

    /// Names the place in the policy that is to blame.
    #[must_use]
    pub fn at(mut self, origin: Option<Origin>) -> Self {
        self.origin = origin.or(self.origin);
        self
    }

    /// Says what the reader can do about it.
    #[must_use]
    pub fn help(mut self, help: impl Into<String>) -> Self {
        self.help = help.into();
        self
    }

    /// Says which call failed and how.
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
pub trait Context<T> {
    /// Puts `message` in front of the error; what the error says of call, errno and help stays.
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
