//! Calls that are made to see whether they are allowed: by number, with the bare answer of the kernel.
//!
//! They are no wrappers: nothing is made safe here but memory. Whoever calls says what each does, and why it is
//! harmless where it works.

use std::os::fd::RawFd;

use libc::c_long;
use nix::errno::Errno;
use nix::sys::uio::RemoteIoVec;

use crate::error::{OrCall, Result};
use crate::raw;

/// How much the kernel may read or write through one argument: no call of the list below is told, or knows by itself,
/// of more.
const ROOM: usize = 4096;

/// A call that may be attempted. Only those of this list can be: none maps, unmaps or moves memory of the caller, none
/// closes a descriptor or makes a thread, and none takes an address as a plain number.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Call(c_long);

/// One argument.
#[derive(Debug)]
pub enum Arg<'a> {
    /// A number: flags, a descriptor, a length of at most 4 KiB.
    Int(i64),
    /// Bytes that the kernel reads, with zeros behind them. At most 4 KiB; what is beyond that is not shown to it.
    In(&'a [u8]),
    /// Bytes that the kernel reads and writes; as many as there are here come back.
    Out(&'a mut [u8]),
    /// No address.
    Null,
}

macro_rules! calls {
    ($table:ident: $($name:ident = $number:ident),* $(,)?) => {
        /// By the names of the kernel's tables, with `SYS_` before them.
        const $table: &[(&str, Call)] = &[$((stringify!($number), Call::$name)),*];

        impl Call {
            $(
                #[doc = concat!("`", stringify!($number), "`.")]
                pub const $name: Self = Self(libc::$number);
            )*
        }
    };
}

calls! {
    EVERYWHERE:
    ACCT = SYS_acct,
    ADD_KEY = SYS_add_key,
    BIND = SYS_bind,
    BPF = SYS_bpf,
    CAPSET = SYS_capset,
    CHROOT = SYS_chroot,
    CLOCK_ADJTIME = SYS_clock_adjtime,
    CLOCK_GETTIME = SYS_clock_gettime,
    CONNECT = SYS_connect,
    DELETE_MODULE = SYS_delete_module,
    FANOTIFY_INIT = SYS_fanotify_init,
    FINIT_MODULE = SYS_finit_module,
    FSOPEN = SYS_fsopen,
    GETSID = SYS_getsid,
    GETXATTR = SYS_getxattr,
    INIT_MODULE = SYS_init_module,
    IO_URING_SETUP = SYS_io_uring_setup,
    KCMP = SYS_kcmp,
    KEXEC_LOAD = SYS_kexec_load,
    KEYCTL = SYS_keyctl,
    MKNODAT = SYS_mknodat,
    MOUNT = SYS_mount,
    MQ_OPEN = SYS_mq_open,
    MQ_UNLINK = SYS_mq_unlink,
    NAME_TO_HANDLE_AT = SYS_name_to_handle_at,
    OPEN_BY_HANDLE_AT = SYS_open_by_handle_at,
    OPEN_TREE = SYS_open_tree,
    PERF_EVENT_OPEN = SYS_perf_event_open,
    PERSONALITY = SYS_personality,
    PIDFD_GETFD = SYS_pidfd_getfd,
    PIVOT_ROOT = SYS_pivot_root,
    PRLIMIT = SYS_prlimit64,
    PTRACE = SYS_ptrace,
    QUOTACTL = SYS_quotactl,
    REBOOT = SYS_reboot,
    SCHED_GETAFFINITY = SYS_sched_getaffinity,
    SCHED_SETSCHEDULER = SYS_sched_setscheduler,
    SENDTO = SYS_sendto,
    SETGROUPS = SYS_setgroups,
    SETHOSTNAME = SYS_sethostname,
    SETNS = SYS_setns,
    SETRESUID = SYS_setresuid,
    SETTIMEOFDAY = SYS_settimeofday,
    SETXATTR = SYS_setxattr,
    SET_MEMPOLICY = SYS_set_mempolicy,
    SHMCTL = SYS_shmctl,
    SHMGET = SYS_shmget,
    SOCKET = SYS_socket,
    SWAPOFF = SYS_swapoff,
    SWAPON = SYS_swapon,
    SYSLOG = SYS_syslog,
    UMOUNT = SYS_umount2,
    UNSHARE = SYS_unshare,
    USERFAULTFD = SYS_userfaultfd,
}

#[cfg(target_arch = "x86_64")]
calls! {
    HERE:
    IOPERM = SYS_ioperm,
    IOPL = SYS_iopl,
    MODIFY_LDT = SYS_modify_ldt,
}

#[cfg(not(target_arch = "x86_64"))]
const HERE: &[(&str, Call)] = &[];

impl Call {
    /// One of the list by its name in the kernel's table: `mount`.
    #[must_use]
    pub fn named(name: &str) -> Option<Self> {
        let mut all = EVERYWHERE.iter().chain(HERE);
        all.find(|(known, _)| known.strip_prefix("SYS_") == Some(name)).map(|(_, call)| *call)
    }
}

/// Makes a call and gives what the kernel answered.
///
/// # Errors
/// The errno, and nothing else: it is the answer that was asked for.
pub fn attempt<const N: usize>(call: Call, args: [Arg<'_>; N]) -> nix::Result<i64> {
    const { assert!(N <= 6) };
    let mut args = args;
    let mut rooms = [[0_u8; ROOM]; N];
    let mut words = [0_usize; 6];
    for ((arg, room), word) in args.iter().zip(&mut rooms).zip(&mut words) {
        let bytes: &[u8] = match arg {
            Arg::Int(value) => {
                *word = raw::word(value.cast_unsigned());
                continue;
            }
            Arg::Null => continue,
            Arg::In(bytes) => bytes,
            Arg::Out(bytes) => bytes,
        };
        let shown = bytes.len().min(ROOM);
        room[..shown].copy_from_slice(&bytes[..shown]);
        *word = raw::ptr(room.as_mut_ptr());
    }
    let [a, b, c, d, e, f] = words;
    // SAFETY: every address among the words is that of a room of 4 KiB which outlives the call, and no call of the list reaches further; upheld by the loop above and by the list, whose constants are the only ones; else the kernel writes over this stack.
    let answer = Errno::result(unsafe { libc::syscall(call.0, a, b, c, d, e, f) })?;
    for (arg, room) in args.iter_mut().zip(&rooms) {
        if let Arg::Out(bytes) = arg {
            let length = bytes.len().min(ROOM);
            bytes[..length].copy_from_slice(&room[..length]);
        }
    }
    Ok(answer)
}

/// Has this process ended by SIGALRM after so many seconds; 0 takes that back. alarm(2).
pub fn alarm(seconds: u32) {
    // SAFETY: alarm takes no pointer; upheld by alarm(2); else nothing is touched.
    unsafe { libc::alarm(seconds) };
}

/// Reads another process's memory.
///
/// Needs: the right to trace it. Fails: EPERM, ESRCH, EFAULT. process_vm_readv(2).
pub fn read_memory(pid: i32, address: usize, length: usize) -> Result<Vec<u8>> {
    let mut bytes = vec![0; length];
    let got = {
        let mut here = [std::io::IoSliceMut::new(&mut bytes)];
        let there = [RemoteIoVec { base: address, len: length }];
        nix::sys::uio::process_vm_readv(nix::unistd::Pid::from_raw(pid), &mut here, &there)
            .or_call(|| format!("process_vm_readv({pid}, {length} bytes)"))?
    };
    bytes.truncate(got);
    Ok(bytes)
}

/// Reads the beginning of a System V shared memory segment.
///
/// Fails: EACCES, EINVAL where there is none. shmat(2).
pub fn read_segment(id: i32, length: usize) -> Result<Vec<u8>> {
    with_segment(id, libc::SHM_RDONLY, |at, size| {
        let mut bytes = vec![0_u8; length.min(size)];
        // SAFETY: the segment is mapped readable and has that many bytes; upheld by shmat and by what the kernel says of its size; else the read faults.
        unsafe { std::ptr::copy_nonoverlapping(at, bytes.as_mut_ptr(), bytes.len()) };
        bytes
    })
}

/// Writes to the beginning of a System V shared memory segment.
///
/// Fails: EACCES, EINVAL where there is none. shmat(2).
pub fn write_segment(id: i32, bytes: &[u8]) -> Result<()> {
    with_segment(id, 0, |at, size| {
        // SAFETY: the segment is mapped writable and has that many bytes; upheld by shmat and by what the kernel says of its size; else the write faults.
        unsafe { std::ptr::copy_nonoverlapping(bytes.as_ptr(), at, bytes.len().min(size)) };
    })
}

fn with_segment<T>(id: i32, flags: i32, act: impl FnOnce(*mut u8, usize) -> T) -> Result<T> {
    let call = || format!("shmat({id}, {flags:#o})");
    let mut facts = std::mem::MaybeUninit::<libc::shmid_ds>::zeroed();
    // SAFETY: the structure has room for what the call writes; upheld by its type; else the kernel writes past it.
    Errno::result(unsafe { libc::shmctl(id, libc::IPC_STAT, facts.as_mut_ptr()) }).or_call(call)?;
    // SAFETY: all-zero is a valid value of this plain struct; upheld by `zeroed` above; else a field is read uninitialised.
    let size = unsafe { facts.assume_init() }.shm_segsz;
    // SAFETY: the kernel chooses a free address; upheld by the null that is given; else something else is mapped over.
    let at = unsafe { libc::shmat(id, std::ptr::null(), flags) };
    if at.addr() == usize::MAX {
        return Err(Errno::last()).or_call(call);
    }
    let done = act(at.cast(), size);
    // SAFETY: `at` was mapped above and nothing borrows from it; upheld by `act`, which gives a value of its own; else that would point to nothing.
    Errno::result(unsafe { libc::shmdt(at) }).or_call(call)?;
    Ok(done)
}

/// Pins so many bytes in memory, and lets go of them.
///
/// Needs: CAP_IPC_LOCK beyond RLIMIT_MEMLOCK. mlock(2).
pub fn pin(length: usize) -> Result<()> {
    let bytes = vec![0_u8; length];
    // SAFETY: mlock changes no byte of the range, which lives; upheld by the vector above; else it gives ENOMEM.
    let locked = Errno::result(unsafe { libc::mlock(bytes.as_ptr().cast(), bytes.len()) });
    locked.or_call(|| format!("mlock({length} bytes)"))?;
    // SAFETY: as for mlock; upheld by the same vector; else it gives ENOMEM.
    Errno::result(unsafe { libc::munlock(bytes.as_ptr().cast(), bytes.len()) }).map(drop).or_call(|| "munlock()".into())
}

/// Pushes one byte into a terminal, as if it were typed there.
///
/// Needs: that it is this session's terminal, or CAP_SYS_ADMIN. Fails: EIO where sysctl dev.tty.legacy_tiocsti is 0.
/// TIOCSTI(2const).
pub fn push_input(terminal: RawFd, byte: u8) -> Result<()> {
    // SAFETY: the request reads one byte, which lives; upheld by TIOCSTI(2const); else the kernel reads another.
    let ret = unsafe { libc::ioctl(terminal, libc::TIOCSTI, &raw const byte) };
    Errno::result(ret).map(drop).or_call(|| format!("ioctl({terminal}, TIOCSTI)"))
}

/// Asks the console for the state of the shift keys: the subcode of TIOCLINUX that changes nothing.
///
/// Fails: ENOTTY where the descriptor is no virtual console. TIOCLINUX(2const).
pub fn shift_state(terminal: RawFd) -> Result<()> {
    let mut subcode = 6_u8;
    // SAFETY: this subcode writes one byte over the one that it was read from; upheld by TIOCLINUX(2const); else the kernel writes past it.
    let ret = unsafe { libc::ioctl(terminal, libc::TIOCLINUX, &raw mut subcode) };
    Errno::result(ret).map(drop).or_call(|| format!("ioctl({terminal}, TIOCLINUX, 6)"))
}

/// Asks for the parent's id through the table of 32-bit calls, which has numbers of its own.
///
/// Where the kernel has no such table the process gets SIGSEGV, where a filter forbids it what the filter says.
#[cfg(target_arch = "x86_64")]
#[must_use]
pub fn parent_by_int80() -> i64 {
    const GETPPID_32: i64 = 64;
    let answer: i64;
    // SAFETY: getppid takes no argument and touches no memory, and int 0x80 keeps all registers but the named ones; upheld by the ABI of 32-bit calls on a 64-bit kernel, which may clear r8 to r11; else a register of ours changes.
    unsafe {
        std::arch::asm!(
            "int 0x80",
            inlateout("rax") GETPPID_32 => answer,
            lateout("r8") _, lateout("r9") _, lateout("r10") _, lateout("r11") _,
            options(nostack),
        );
    }
    answer
}

/// Asks for the own id by its number in the x32 table.
///
/// Fails: ENOSYS where the kernel has no such table.
#[cfg(target_arch = "x86_64")]
pub fn id_by_x32() -> nix::Result<i64> {
    const X32: c_long = 0x4000_0000;
    // SAFETY: getpid takes no argument; upheld by its man page; else nothing is touched.
    Errno::result(unsafe { libc::syscall(X32 | libc::SYS_getpid) })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_kernel_says_comes_back() {
        let mut time = [0_u8; 16];
        assert_eq!(attempt(Call::CLOCK_GETTIME, [Arg::Int(1), Arg::Out(&mut time)]), Ok(0));
        assert_ne!(time, [0; 16]);
        assert_eq!(
            (Call::named("chroot"), Call::named("SYS_chroot"), Call::named("")),
            (Some(Call::CHROOT), None, None)
        );
        let answer = attempt(Call::CHROOT, [Arg::In(b"/palisade-none")]);
        assert!(matches!(answer, Err(Errno::ENOENT | Errno::EPERM)), "{answer:?}");
    }

    #[test]
    fn a_segment_is_written_and_read() {
        let made = attempt(Call::SHMGET, [Arg::Int(0), Arg::Int(4096), Arg::Int(0o600)]).unwrap();
        let id = i32::try_from(made).unwrap();
        write_segment(id, b"token").unwrap();
        let read = read_segment(id, 5).unwrap();
        attempt(Call::SHMCTL, [Arg::Int(made), Arg::Int(0), Arg::Null]).unwrap();
        assert_eq!(read, b"token");
        assert!(read_segment(id, 5).is_err());
    }

    #[test]
    fn a_terminal_of_nobodys_session_is_no_console() {
        let (_ours, theirs) = crate::terminal::open_pair().unwrap();
        assert!(shift_state(std::os::fd::AsRawFd::as_raw_fd(&theirs)).is_err());
    }
}
