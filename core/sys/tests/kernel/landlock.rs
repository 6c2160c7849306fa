//! Landlock: the version that is told is the one that the kernel takes, and a domain denies.

use std::os::fd::{AsRawFd as _, FromRawFd as _, OwnedFd};

use palisade_sys::{Errno, host, landlock, process};

use crate::help::{good, refused};
use crate::runner::cases;

cases![landlocks_version_is_what_the_kernel_takes, a_landlock_domain_denies_what_was_allowed,];

/// Asks for a ruleset with these attributes: handled file access, handled ports, scopes.
fn ruleset(attributes: &[u64]) -> Result<OwnedFd, Errno> {
    let size = size_of_val(attributes);
    // SAFETY: the attributes are as long as said; upheld by the slice; else the kernel reads past them.
    let made = unsafe { libc::syscall(libc::SYS_landlock_create_ruleset, attributes.as_ptr(), size, 0) };
    // SAFETY: the kernel has just made it, so nobody else owns it; upheld by the kernel; else two owners close it.
    Errno::result(made).map(|number| unsafe { OwnedFd::from_raw_fd(i32::try_from(number).unwrap()) })
}

/// Kernels are assumed to have it from its first version on, as every distribution's has.
fn has_landlock() -> bool {
    let there = host::kernel_version().unwrap() >= (5, 13);
    assert_eq!(landlock::abi_version().is_ok(), there, "{:?}", landlock::abi_version());
    if !there {
        let error = refused(landlock::abi_version(), Errno::ENOSYS);
        assert!(error.hint().unwrap().contains("5.13"));
        refused(landlock::errata(), Errno::ENOSYS);
    }
    there
}

fn landlocks_version_is_what_the_kernel_takes() {
    if !has_landlock() {
        return;
    }
    let abi = landlock::abi_version().unwrap();
    // What each version brought: REFER, TRUNCATE, bind and connect, IOCTL_DEV, scopes.
    let news: [(u32, &[u64]); 6] =
        [(1, &[1]), (2, &[1 << 13]), (3, &[1 << 14]), (4, &[1, 1]), (5, &[1 << 15]), (6, &[1, 1, 1])];
    for (version, attributes) in news {
        assert_eq!(ruleset(attributes).is_ok(), abi >= version, "ABI {abi}, what came with {version}");
    }
    assert!(ruleset(&[1 << 63]).is_err());
    // Flags of the domain: how it logs, and all threads at once. An unknown one is refused before the ruleset is
    // looked at, a known one after.
    for (version, flag) in [(7, 1), (8, 1 << 3)] {
        // SAFETY: the call takes no pointer; upheld by landlock_restrict_self(2); else nothing is touched.
        let ret = unsafe { libc::syscall(libc::SYS_landlock_restrict_self, -1, flag) };
        let expected = if abi >= version { Errno::EBADF } else { Errno::EINVAL };
        assert_eq!(Errno::result(ret), Err(expected), "ABI {abi}, what came with {version}");
    }
}

fn a_landlock_domain_denies_what_was_allowed() {
    if !has_landlock() {
        return;
    }
    good(0, || {
        let read = || std::fs::read("/proc/self/status").map(drop).map_err(|e| e.raw_os_error());
        assert_eq!(read(), Ok(()));
        let rules = ruleset(&[1 << 2]).unwrap();
        process::set_no_new_privs().unwrap();
        // SAFETY: the call takes no pointer; upheld by landlock_restrict_self(2); else nothing is touched.
        let ret = unsafe { libc::syscall(libc::SYS_landlock_restrict_self, rules.as_raw_fd(), 0) };
        Errno::result(ret).unwrap();
        assert_eq!(read(), Err(Some(libc::EACCES)));
        // It handles reading of files only.
        std::fs::read_dir("/proc/self").unwrap();
    });
}
