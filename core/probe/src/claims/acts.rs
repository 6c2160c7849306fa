//! What a workload may try, tried so that nothing remains of it.

use crate::verdict::{Stop, Tried};
use palisade_runtime::model::policy::Act;
use palisade_sys::attempt::{Arg, Call, attempt};
use palisade_sys::process::{self, Cloned, Program, Target};
use palisade_sys::{Errno, fd, signal};
use std::ffi::CString;
use std::fs::{self, File, OpenOptions};
use std::io::ErrorKind;
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;
use std::time::Duration;

/// How long a peer may take to answer.
const ANSWER: Duration = Duration::from_millis(2500);

pub(super) fn act(act: &Act) -> Tried {
    match act {
        Act::Read(path) => read(path.as_path()),
        Act::Write(path) => write(path.as_path()),
        Act::Execute(path) => execute(path.as_path()),
        Act::ConnectTcp(endpoint) => connect(endpoint.0),
        Act::BindTcp(port) => {
            TcpListener::bind((std::net::Ipv4Addr::LOCALHOST, *port))?;
            Ok(true)
        }
        Act::Syscall(name) => syscall(name),
    }
}

/// A device or a pipe is not waited for.
fn read(path: &Path) -> Tried {
    let file = OpenOptions::new().read(true).custom_flags(fd::O_NONBLOCK).open(path)?;
    if file.metadata()?.is_dir() {
        fs::read_dir(path)?;
    }
    Ok(true)
}

/// Opens what is there without changing it; what is not there is made and taken away again.
fn write(path: &Path) -> Tried {
    match OpenOptions::new().write(true).custom_flags(fd::O_NONBLOCK).open(path) {
        Ok(_file) => Ok(true),
        Err(error) if error.kind() == ErrorKind::IsADirectory => {
            make(&path.join(format!("palisade-claim-{}", process::getpid())))
        }
        Err(error) if error.kind() == ErrorKind::NotFound => make(path),
        Err(error) => Err(error.into()),
    }
}

fn make(path: &Path) -> Tried {
    File::create_new(path)?;
    // It is ours: nobody else made it.
    fs::remove_file(path)?;
    Ok(true)
}

/// Has it executed, without words and without a place to write to, and ends it as soon as it is.
fn execute(path: &Path) -> Tried {
    let program = CString::new(path.as_os_str().as_bytes()).map_err(|_nul| Stop::unclear("a NUL in the path"))?;
    // What fails here is ours, and says nothing of the program.
    let own = |error: palisade_sys::Error| Stop::unclear(&error.to_string());
    let (told, tells) = fd::pipe().map_err(own)?;
    match process::fork().map_err(own)? {
        Cloned::Child => {
            process::set_pdeathsig(signal::SIGKILL).ok();
            if let Ok(null) = OpenOptions::new().read(true).write(true).open("/dev/null") {
                (0..3).try_for_each(|number| fd::dup_to(&null, number).map(drop)).ok();
            }
            let error = process::exec(Program::Path(&program), std::slice::from_ref(&program), &[]);
            fd::write(&tells, &error.errno().to_ne_bytes()).ok();
            process::exit_now(127);
        }
        Cloned::Parent { pid, pidfd } => {
            drop(tells);
            // The pipe is close-on-exec: its end means that it runs.
            let said = fd::read_some(&told, 4)?;
            process::pidfd_send_signal(&pidfd, signal::SIGKILL).ok();
            process::waitid(Target::Pid(pid), false)?;
            match <[u8; 4]>::try_from(said) {
                Ok(errno) => Err(Errno::from_raw(i32::from_ne_bytes(errno)).into()),
                Err(_ran) => Ok(true),
            }
        }
    }
}

/// Reached is also whoever refuses, but not on a loopback interface: there nobody may listen at all.
fn connect(address: SocketAddr) -> Tried {
    match TcpStream::connect_timeout(&address, ANSWER) {
        Ok(_stream) => Ok(true),
        Err(error) if error.kind() == ErrorKind::ConnectionRefused && !address.ip().is_loopback() => Ok(true),
        Err(error) => Err(error.into()),
    }
}

/// `AF_UNIX`, `SOCK_STREAM`.
const PLAINEST_SOCKET: [i64; 2] = [1, 1];

/// With -1 for every argument no call of the list does anything, and what the kernel says of them is no refusal. Of a
/// socket some kinds may be denied and others not, and -1 is no kind: the plainest is made, and goes with this process.
fn syscall(name: &str) -> Tried {
    let call = Call::named(name).ok_or_else(|| Stop::unclear("it is not known how to try it without harm"))?;
    let mut args = [const { Arg::Int(-1) }; 6];
    if call == Call::SOCKET {
        let [family, kind] = PLAINEST_SOCKET.map(Arg::Int);
        args = [family, kind, Arg::Int(0), Arg::Null, Arg::Null, Arg::Null];
    }
    match attempt(call, args) {
        Err(errno @ (Errno::EPERM | Errno::EACCES | Errno::ENOSYS)) => Err(errno.into()),
        _ => Ok(true),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::verdict::{Verdict, verdict};

    fn said(tried: Tried) -> String {
        verdict(tried).text()
    }

    #[test]
    fn what_is_allowed_is_done_and_leaves_nothing() {
        let dir = std::env::temp_dir().join(format!("palisade-acts-{}", std::process::id()));
        fs::create_dir(&dir).unwrap();
        let file = dir.join("file");
        assert_eq!(said(write(&file)), "OPEN");
        assert!(!file.exists());
        fs::write(&file, "kept").unwrap();
        assert_eq!(said(write(&file)), "OPEN");
        assert_eq!(fs::read_to_string(&file).unwrap(), "kept");
        assert_eq!(
            (said(read(&file)), said(read(&dir)), said(write(&dir))),
            ("OPEN".into(), "OPEN".into(), "OPEN".into())
        );
        assert_eq!(fs::read_dir(&dir).unwrap().count(), 1);
        fs::remove_dir_all(&dir).unwrap();
        assert_eq!((said(read(&file)), said(write(&file))), ("HIDDEN(ENOENT)".into(), "HIDDEN(ENOENT)".into()));
    }

    #[test]
    fn a_call_counts_as_made_where_the_kernel_looks_at_its_arguments() {
        assert_eq!(said(syscall("setns")), "OPEN");
        assert_eq!(said(syscall("no_such_call")), "INCONCLUSIVE(it is not known how to try it without harm)");
    }

    #[test]
    fn a_peer_is_reached_or_not() {
        let here = TcpListener::bind((std::net::Ipv4Addr::LOCALHOST, 0)).unwrap();
        let address = here.local_addr().unwrap();
        assert_eq!(said(connect(address)), "OPEN");
        drop(here);
        assert_ne!(verdict(connect(address)), Verdict::Open);
    }
}
