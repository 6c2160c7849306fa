//! New processes, from a process with one thread.

use std::convert::Infallible;
use std::num::NonZero;
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::ptr::NonNull;

use nix::errno::Errno;
use nix::sys::mman::{MapFlags, ProtFlags, mmap_anonymous, mprotect, munmap};

use crate::error::{Error, OrCall, Result};
use crate::namespace::CLONE_NAMES;
use crate::raw;

const CLONE_PIDFD: u64 = libc::CLONE_PIDFD as u64;
const CLONE_INTO_CGROUP: u64 = 0x2_0000_0000;
/// What the older clone(2) can express; its low byte is the exit signal.
const CLONE_LEGACY: u64 = 0xffff_ff00;

/// `struct clone_args` of clone3(2), version 2.
#[repr(C)]
#[derive(Default)]
struct CloneArgs {
    flags: u64,
    pidfd: u64,
    child_tid: u64,
    parent_tid: u64,
    exit_signal: u64,
    stack: u64,
    stack_size: u64,
    tls: u64,
    set_tid: u64,
    set_tid_size: u64,
    cgroup: u64,
}

/// Which of the two processes this is.
#[derive(Debug)]
#[must_use]
pub enum Cloned {
    /// The one that called.
    Parent {
        /// The child's id in this process's pid namespace.
        pid: i32,
        /// A descriptor that means this child and no later one of the same id.
        pidfd: OwnedFd,
    },
    /// The new one.
    Child,
}

/// Counts the threads of this process.
///
/// Needs: a procfs on /proc. Fails: EPROTO when it cannot be read as one. proc_pid_stat(5).
pub fn thread_count() -> Result<u32> {
    let call = || "read(\"/proc/self/stat\")".to_owned();
    let text = std::fs::read("/proc/self/stat").map_err(|e| Error::from_io(&e, call()))?;
    let text = String::from_utf8_lossy(&text);
    // The command name may hold spaces and parentheses; the fields begin after the last one. The
    // count is the 20th field, the 18th after the name.
    let fields = text.rsplit_once(')').map(|(_, fields)| fields);
    fields
        .and_then(|fields| fields.split_ascii_whitespace().nth(17)?.parse().ok())
        .ok_or_else(|| Error::new(Errno::EPROTO, call()))
}

/// Refuses when the process has other threads: one of them could hold a lock (malloc's, say) that its
/// copy in the child would wait for, forever.
fn single_threaded(call: &str) -> Result<()> {
    let flag = raw::int(libc::CLONE_THREAD);
    // The kernel itself refuses this with EINVAL when there is another thread and does nothing when
    // there is none; unlike procfs, it is there in every view.
    // SAFETY: unshare takes no pointer and CLONE_THREAD changes nothing; upheld by unshare(2); else nothing is touched.
    let alone = match unsafe { raw::syscall(libc::SYS_unshare, [flag, 0, 0, 0, 0]) } {
        Ok(_) => true,
        Err(Errno::EINVAL) => false,
        // A filter hides the call: ask procfs, and without one refuse.
        Err(_) => thread_count()? == 1,
    };
    if alone {
        return Ok(());
    }
    let threads = thread_count().map_or("several".to_owned(), |count| count.to_string());
    let error = Error::new(Errno::EBUSY, call).with_detail(format!("refused: this process has {threads} threads"));
    Err(error.with_hint("launch before starting threads, or from a process that has one"))
}

/// Makes a child in new namespaces and, if given, in a cgroup (v2) from its first instant.
///
/// The child is a copy that goes on after the call and may allocate, since no thread was there that
/// could have held a lock. Handlers of `pthread_atfork` do not run. Since: 5.3, into a cgroup 5.7; where
/// a filter hides clone3, clone(2) is used as far as it reaches. Needs: CAP_SYS_ADMIN for namespaces,
/// unless a user namespace is among them. Fails: EBUSY when this process has other threads, ENOSPC at
/// a limit. clone3(2).
pub fn clone3(flags: u64, cgroup: Option<BorrowedFd<'_>>) -> Result<Cloned> {
    let all = flags | CLONE_PIDFD | if cgroup.is_some() { CLONE_INTO_CGROUP } else { 0 };
    let call = || match cgroup {
        Some(cgroup) => format!("clone3({}, cgroup {})", raw::show_flags(all, CLONE_NAMES), raw::show_fd(cgroup)),
        None => format!("clone3({})", raw::show_flags(all, CLONE_NAMES)),
    };
    single_threaded("clone3()")?;
    let mut pidfd: i32 = -1;
    let args = CloneArgs {
        flags: all,
        pidfd: raw::ptr(&raw mut pidfd) as u64,
        exit_signal: u64::from(libc::SIGCHLD.cast_unsigned()),
        cgroup: cgroup.map_or(0, |cgroup| u64::from(cgroup.as_raw_fd().cast_unsigned())),
        ..CloneArgs::default()
    };
    let words = [raw::ptr(&raw const args), size_of::<CloneArgs>(), 0, 0, 0];
    // SAFETY: without CLONE_VM the child has its own copy of this stack, and no lock is held by another thread; upheld by the single-thread check above and by taking no memory flag; else the child hangs in malloc or runs on our stack.
    let pid = match unsafe { raw::syscall(libc::SYS_clone3, words) } {
        Err(Errno::ENOSYS) if all & !CLONE_LEGACY == 0 => legacy_clone(all, &mut pidfd),
        other => other,
    }
    .and_then(raw::small)
    .or_call(call)?;
    if pid == 0 {
        return Ok(Cloned::Child);
    }
    // SAFETY: `pidfd` is open and nobody else's; upheld by the kernel, which has just made it; else two owners close it.
    Ok(Cloned::Parent { pid, pidfd: unsafe { OwnedFd::from_raw_fd(pidfd) } })
}

/// Does with clone(2) what it can, for hosts whose filter answers ENOSYS to clone3.
fn legacy_clone(flags: u64, pidfd: &mut i32) -> nix::Result<libc::c_long> {
    let flags = flags | u64::from(libc::SIGCHLD.cast_unsigned());
    let words = [raw::word(flags), 0, raw::ptr(&raw mut *pidfd), 0, 0];
    // SAFETY: as for clone3: no memory flag and a single thread, and the third word is where the pidfd goes on x86_64 and aarch64; upheld by the caller; else the child hangs in malloc or runs on our stack.
    unsafe { raw::syscall(libc::SYS_clone, words) }
}

/// Makes a child in the same namespaces.
///
/// Fails: EBUSY when this process has other threads, EAGAIN at a limit. clone3(2).
pub fn fork() -> Result<Cloned> {
    clone3(0, None)
}

/// How much the child of [`vfork`] may have on its stack: what a first thread gets by default. Only what is used is
/// memory.
const STACK: usize = 8 << 20;

/// Makes a child that runs `child` in this process's own memory, while this process waits until it has become another
/// program or has ended; gives its id.
///
/// It costs no copy of the address space. What the child changes in memory stays changed; descriptors, signals,
/// credentials and limits are its own. Fails: EBUSY when this process has other threads, EAGAIN at a limit, ENOMEM.
/// clone(2), vfork(2).
pub fn vfork<F: FnMut() -> Infallible>(mut child: F) -> Result<i32> {
    extern "C" fn enter<F: FnMut() -> Infallible>(child: *mut libc::c_void) -> libc::c_int {
        // SAFETY: the pointer is to the closure in the caller's frame and nobody else uses it; upheld by CLONE_VFORK, which keeps that frame as it is; else two processes run one closure.
        let child = unsafe { &mut *child.cast::<F>() };
        // Unwinding would end at the bottom of this stack, where nobody is.
        let Err(_panic) = catch_unwind(AssertUnwindSafe(child));
        super::exit_now(125)
    }
    single_threaded("clone()")?;
    let stack = Stack::new()?;
    let argument: *mut F = &raw mut child;
    let flags = libc::CLONE_VM | libc::CLONE_VFORK | libc::SIGCHLD;
    // SAFETY: the child runs on a stack of its own, and this frame stays until it is gone from this memory; upheld by `stack`, which lives past the call, and by CLONE_VFORK; else both write over each other's frames.
    let pid = unsafe { libc::clone(enter::<F>, stack.top(), flags, argument.cast()) };
    Errno::result(pid).or_call(|| "clone(CLONE_VM|CLONE_VFORK|SIGCHLD)".to_owned())
}

/// Memory for a stack, with a page below it that cannot be touched.
struct Stack(NonNull<libc::c_void>);

impl Stack {
    fn new() -> Result<Self> {
        let call = || format!("mmap({STACK} bytes, MAP_STACK)");
        let length = NonZero::new(STACK).ok_or_else(|| Error::new(Errno::EINVAL, call()))?;
        let flags = MapFlags::MAP_PRIVATE | MapFlags::MAP_NORESERVE | MapFlags::MAP_STACK;
        // SAFETY: no address is asked for, so nothing that is mapped goes away; upheld by `None`; else memory in use is replaced.
        let base = unsafe { mmap_anonymous(None, length, ProtFlags::PROT_READ | ProtFlags::PROT_WRITE, flags) };
        let stack = Self(base.or_call(call)?);
        // SAFETY: the page is the lowest of the mapping that was just made; upheld by this frame; else somebody's data becomes unreadable.
        unsafe { mprotect(stack.0, 4096, ProtFlags::PROT_NONE) }.or_call(call)?;
        Ok(stack)
    }

    /// Where it begins, as it grows down.
    fn top(&self) -> *mut libc::c_void {
        self.0.as_ptr().wrapping_byte_add(STACK)
    }
}

impl Drop for Stack {
    fn drop(&mut self) {
        // SAFETY: nobody runs on it; upheld by `vfork`, which returns only when the child is gone from it; else the child loses its frames.
        let unmapped = unsafe { munmap(self.0, STACK) };
        // It is a mapping of ours, so this cannot fail; a drop could not say so anyway.
        unmapped.ok();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_arguments_have_the_kernels_size() {
        assert_eq!(size_of::<CloneArgs>(), 88);
    }

    #[test]
    fn a_process_with_threads_may_not_clone() {
        // The test harness runs this in a thread of its own, beside the main one.
        assert!(thread_count().unwrap() > 1);
        let error = clone3(0, None).unwrap_err();
        assert_eq!(error.kind(), Errno::EBUSY);
        assert!(error.to_string().contains("threads"), "{error}");
    }
}
