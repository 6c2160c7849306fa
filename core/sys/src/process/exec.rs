//! Turning a process into a program.

use std::convert::Infallible;
use std::ffi::{CStr, CString, OsStr, c_char};
use std::fmt;
use std::os::fd::BorrowedFd;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::ptr;

use nix::errno::Errno;
use nix::fcntl::AtFlags;
use nix::unistd::AccessFlags;

use crate::error::Error;
use crate::{fd, raw};

/// What to execute.
#[derive(Debug, Clone, Copy)]
pub enum Program<'a> {
    /// A path in this process's view.
    Path(&'a CStr),
    /// An open file, such as a sealed memfd. A script needs one without close-on-exec, and a /dev/fd: its
    /// interpreter opens it again by that name.
    Fd(BorrowedFd<'a>),
}

/// Replaces this process by a program; comes back only with an error.
///
/// Fails: ENOENT also for a missing interpreter, EACCES also for a noexec mount. execve(2), execveat(2).
#[must_use]
pub fn exec(program: Program<'_>, argv: &[CString], env: &[CString]) -> Error {
    let (argv_ptrs, env_ptrs) = (pointers(argv), pointers(env));
    let (argv_at, env_at) = (raw::ptr(argv_ptrs.as_ptr()), raw::ptr(env_ptrs.as_ptr()));
    let (number, args, name) = match program {
        Program::Path(path) => {
            (libc::SYS_execve, [raw::ptr(path.as_ptr()), argv_at, env_at, 0, 0], format!("execve({path:?}"))
        }
        Program::Fd(file) => {
            let args = [raw::fd(file), raw::ptr(c"".as_ptr()), argv_at, env_at, raw::int(libc::AT_EMPTY_PATH)];
            (libc::SYS_execveat, args, format!("execveat({}", raw::show_fd(file)))
        }
    };
    // SAFETY: both lists end in null and their strings in NUL, and all outlive the call; upheld by `pointers` and CString; else the kernel reads past them.
    let result: nix::Result<Infallible> = match unsafe { raw::syscall(number, args) } {
        Err(errno) => Err(errno),
        Ok(_) => Err(Errno::UnknownErrno),
    };
    let Err(errno) = result;
    Error::new(errno, format!("{name}, {} arguments, {} variables)", argv.len(), env.len()))
}

fn pointers(strings: &[CString]) -> Vec<*const c_char> {
    strings.iter().map(|s| s.as_ptr()).chain([ptr::null()]).collect()
}

/// Ends this process at once: no destructor, no `atexit` handler, no flush.
pub fn exit_now(code: i32) -> ! {
    // SAFETY: `_exit` never returns and touches no state of ours; upheld by _exit(2); else the signature lies.
    unsafe { libc::_exit(code) }
}

/// Why a program cannot be run; a shell gives 127 and 126 for the two.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ProgramError {
    /// It is nowhere on the path.
    NotFound {
        /// What was asked for.
        name: PathBuf,
        /// Where it was looked for; empty when the name held a `/`.
        searched: Vec<PathBuf>,
    },
    /// It is there, but not something that this process may execute.
    NotExecutable {
        /// Where it is.
        path: PathBuf,
        /// What is wrong with it.
        reason: String,
    },
}

impl ProgramError {
    /// The exit code that shells have for this.
    #[must_use]
    pub fn exit_code(&self) -> i32 {
        match self {
            Self::NotFound { .. } => 127,
            Self::NotExecutable { .. } => 126,
        }
    }
}

impl fmt::Display for ProgramError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NotFound { name, searched } if searched.is_empty() => {
                write!(f, "{}: no such file in the workload's view", name.display())
            }
            Self::NotFound { name, searched } => {
                let dirs: Vec<_> = searched.iter().map(|dir| dir.display().to_string()).collect();
                write!(f, "{}: not found in PATH ({})", name.display(), dirs.join(":"))
            }
            Self::NotExecutable { path, reason } => write!(f, "{}: {reason}", path.display()),
        }
    }
}

impl std::error::Error for ProgramError {}

/// Finds a program as a shell would, in this process's present view and with its present rights.
///
/// A name with a `/` is taken as it is. Entries of the path that are empty or relative are skipped:
/// they would let the working directory choose the program. The first file that can be executed wins;
/// one that cannot is reported only when none can.
///
/// # Errors
/// [`ProgramError`], which keeps "not there" and "not executable" apart.
pub fn find_program(name: &OsStr, path_var: Option<&OsStr>) -> Result<CString, ProgramError> {
    if name.as_bytes().contains(&b'/') {
        return match judge(Path::new(name)) {
            Judged::Runs(path) => Ok(path),
            Judged::Refused(error) => Err(error),
            Judged::Absent => Err(ProgramError::NotFound { name: PathBuf::from(name), searched: Vec::new() }),
        };
    }
    let path_var = path_var.unwrap_or(OsStr::new("/usr/local/bin:/usr/bin:/bin")).as_bytes();
    let dirs = path_var.split(|byte| *byte == b':').map(|dir| Path::new(OsStr::from_bytes(dir)));
    let (mut searched, mut refused) = (Vec::new(), None);
    for dir in dirs.filter(|dir| dir.is_absolute() && !name.is_empty()) {
        match judge(&dir.join(name)) {
            Judged::Runs(path) => return Ok(path),
            Judged::Refused(error) => refused = refused.or(Some(error)),
            Judged::Absent => {}
        }
        searched.push(dir.to_owned());
    }
    Err(refused.unwrap_or_else(|| ProgramError::NotFound { name: PathBuf::from(name), searched }))
}

enum Judged {
    Runs(CString),
    Refused(ProgramError),
    Absent,
}

fn judge(path: &Path) -> Judged {
    let refuse = |reason: String| Judged::Refused(ProgramError::NotExecutable { path: path.to_owned(), reason });
    let stat = match nix::sys::stat::stat(path) {
        Ok(stat) => stat,
        Err(Errno::ENOENT | Errno::ENOTDIR) => return Judged::Absent,
        Err(errno) => return refuse(errno.desc().to_owned()),
    };
    if fd::FileFacts::from(stat).is_dir() {
        return refuse("is a directory".to_owned());
    }
    if let Err(errno) = nix::unistd::faccessat(fd::CWD, path, AccessFlags::X_OK, AtFlags::AT_EACCESS) {
        return refuse(format!("cannot be executed ({})", errno.desc()));
    }
    match CString::new(path.as_os_str().as_bytes()) {
        Ok(path) => Judged::Runs(path),
        Err(_) => Judged::Absent,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn find(name: &str, path: &str) -> Result<CString, ProgramError> {
        find_program(OsStr::new(name), Some(OsStr::new(path)))
    }

    #[test]
    fn the_first_executable_wins() {
        assert_eq!(find("sh", "/nonexistent:/bin:/usr/bin").unwrap().as_c_str(), c"/bin/sh");
        assert_eq!(find("/bin/sh", "").unwrap().as_c_str(), c"/bin/sh");
    }

    #[test]
    fn absent_and_not_executable_are_two_things() {
        let absent = find("no-such-program", "/bin::.:/usr/bin").unwrap_err();
        assert_eq!(absent.exit_code(), 127);
        assert_eq!(absent.to_string(), "no-such-program: not found in PATH (/bin:/usr/bin)");
        assert_eq!(find("passwd", "/etc").unwrap_err().exit_code(), 126);
        assert_eq!(find("/etc", "").unwrap_err().to_string(), "/etc: is a directory");
        assert_eq!(find("/no/such", "").unwrap_err().exit_code(), 127);
        assert_eq!(find("", "/bin").unwrap_err().exit_code(), 127);
    }

    #[test]
    fn a_failed_exec_comes_back_with_its_call() {
        let error = exec(Program::Path(c"/no/such"), &[c"x".to_owned()], &[]);
        assert_eq!(error.call(), "execve(\"/no/such\", 1 arguments, 0 variables)");
        assert_eq!(error.errno_name(), "ENOENT");
    }
}
