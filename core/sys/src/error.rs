//! The one error of this crate: the call as written, the errno, and what to do.

use std::fmt;
use std::sync::Arc;

use nix::errno::Errno;

use crate::hints;

/// What a wrapper of this crate gives.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// A call to the kernel that failed.
///
/// `Display` is one line: `open_tree(AT_FDCWD, "/usr", OPEN_TREE_CLONE) = EPERM (Operation not
/// permitted)`, then `: detail` where the kernel said more than a number.
#[derive(Debug, Clone)]
pub struct Error {
    call: String,
    errno: Errno,
    detail: Option<String>,
    hint: Option<Remedy>,
    /// The errno as the standard library has it: who reads an error of unknown type finds it among the sources.
    os: Arc<std::io::Error>,
}

/// What to do, as a link in the chain of sources: its text begins with `help: `.
///
/// The plugin seam knows errors of libraries by [`std::error::Error`] alone; this is how it finds the advice.
#[derive(Debug, Clone)]
struct Remedy {
    text: String,
    os: Arc<std::io::Error>,
}

impl fmt::Display for Remedy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "help: {}", self.text)
    }
}

impl std::error::Error for Remedy {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        Some(&*self.os)
    }
}

impl Error {
    /// Makes an error for a call that gave `errno`; the hint comes from the crate's table.
    #[must_use]
    pub fn new(errno: Errno, call: impl Into<String>) -> Self {
        let call = call.into();
        let hint = hints::lookup(errno, &call);
        let os = Arc::new(std::io::Error::from_raw_os_error(errno as i32));
        let error = Self { call, errno, detail: None, hint: None, os };
        match hint {
            Some(hint) => error.with_hint(hint),
            None => error,
        }
    }

    /// Makes an error from a plain errno number.
    #[must_use]
    pub fn from_raw(errno: i32, call: impl Into<String>) -> Self {
        Self::new(Errno::from_raw(errno), call)
    }

    /// Makes an error from one of the standard library; one without an errno becomes EIO.
    #[must_use]
    pub fn from_io(error: &std::io::Error, call: impl Into<String>) -> Self {
        Self::from_raw(error.raw_os_error().unwrap_or(libc::EIO), call)
    }

    /// Replaces the hint.
    #[must_use]
    pub fn with_hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(Remedy { text: hint.into(), os: Arc::clone(&self.os) });
        self
    }

    /// Adds what the kernel said beyond the number.
    #[must_use]
    pub fn with_detail(mut self, detail: impl Into<String>) -> Self {
        self.detail = Some(detail.into());
        self
    }

    /// The call as written, without its result.
    #[must_use]
    pub fn call(&self) -> &str {
        &self.call
    }

    /// The errno as a number.
    #[must_use]
    pub fn errno(&self) -> i32 {
        self.errno as i32
    }

    /// The errno as a type.
    #[must_use]
    pub fn kind(&self) -> Errno {
        self.errno
    }

    /// The errno as the kernel's headers name it, such as `EPERM`.
    #[must_use]
    pub fn errno_name(&self) -> String {
        format!("{:?}", self.errno)
    }

    /// What the kernel said beyond the number, if anything.
    #[must_use]
    pub fn detail(&self) -> Option<&str> {
        self.detail.as_deref()
    }

    /// What to do about it, if the table knows.
    #[must_use]
    pub fn hint(&self) -> Option<&str> {
        self.hint.as_ref().map(|remedy| remedy.text.as_str())
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} = {:?} ({})", self.call, self.errno, self.errno.desc())?;
        match &self.detail {
            Some(detail) => write!(f, ": {detail}"),
            None => Ok(()),
        }
    }
}

impl PartialEq for Error {
    fn eq(&self, other: &Self) -> bool {
        (&self.call, self.errno, &self.detail, self.hint()) == (&other.call, other.errno, &other.detail, other.hint())
    }
}

impl Eq for Error {}

impl std::error::Error for Error {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match &self.hint {
            Some(remedy) => Some(remedy),
            None => Some(&*self.os),
        }
    }
}

/// Names the call of a bare errno. The text is a closure, so that a call that succeeds formats nothing.
pub(crate) trait OrCall<T> {
    /// Turns the errno into an [`Error`] with the call's text.
    fn or_call(self, call: impl FnOnce() -> String) -> Result<T>;
}

impl<T> OrCall<T> for std::result::Result<T, Errno> {
    fn or_call(self, call: impl FnOnce() -> String) -> Result<T> {
        self.map_err(|errno| Error::new(errno, call()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_line_shows_call_errno_and_meaning() {
        let error = Error::new(Errno::EPERM, "open_tree(AT_FDCWD, \"/usr\", OPEN_TREE_CLONE)");
        assert_eq!(
            error.to_string(),
            "open_tree(AT_FDCWD, \"/usr\", OPEN_TREE_CLONE) = EPERM (Operation not permitted)"
        );
        assert!(error.hint().is_some_and(|hint| hint.contains("CAP_SYS_ADMIN")));
        assert_eq!((error.errno(), error.errno_name().as_str()), (1, "EPERM"));
    }

    /// What the plugin seam reads of an error whose type it does not know.
    #[test]
    fn the_sources_are_the_remedy_and_the_errno() {
        let chain = |error: &Error| {
            let mut next = std::error::Error::source(error);
            let (mut help, mut errno) = (None, None);
            while let Some(this) = next {
                help = help.or(this.to_string().strip_prefix("help: ").map(str::to_owned));
                errno = errno.or(this.downcast_ref::<std::io::Error>().and_then(std::io::Error::raw_os_error));
                next = this.source();
            }
            (help, errno)
        };
        let advised = Error::new(Errno::EPERM, "f()").with_hint("run as root");
        assert_eq!(chain(&advised), (Some("run as root".to_owned()), Some(libc::EPERM)));
        assert_eq!(chain(&Error::new(Errno::EPERM, "f()")), (None, Some(libc::EPERM)));
    }

    #[test]
    fn the_kernels_own_words_follow() {
        let error = Error::new(Errno::EINVAL, "fsconfig(tmpfs)").with_detail("tmpfs: Bad value for 'size'");
        assert_eq!(error.to_string(), "fsconfig(tmpfs) = EINVAL (Invalid argument): tmpfs: Bad value for 'size'");
    }
}
