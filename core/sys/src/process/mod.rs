//! Processes: making them, turning them into programs, waiting for them, and their attributes.

mod attributes;
mod clone;
mod exec;
mod wait;

pub use attributes::{
    SECBIT_KEEP_CAPS, SECBIT_KEEP_CAPS_LOCKED, SECBIT_NO_CAP_AMBIENT_RAISE, SECBIT_NO_CAP_AMBIENT_RAISE_LOCKED,
    SECBIT_NO_SETUID_FIXUP, SECBIT_NO_SETUID_FIXUP_LOCKED, SECBIT_NOROOT, SECBIT_NOROOT_LOCKED, dumpable, egid, euid,
    getgid, getpid, getppid, getuid, is_child_subreaper, keep_caps, no_new_privs, securebits, set_child_subreaper,
    set_command_line, set_dumpable, set_name, set_no_new_privs, set_pdeathsig, set_securebits, setsid,
};
pub use clone::{Cloned, clone3, fork, thread_count, vfork};
pub use exec::{Program, ProgramError, exec, exit_now, find_program};
pub use wait::{Ended, Target, Usage, WaitStatus, kill, pidfd_open, pidfd_send_signal, wait_any, waitid};
