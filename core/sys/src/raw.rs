//! System calls by number, for what neither libc nor nix wraps, and the words that error texts share.

use std::os::fd::{AsRawFd, BorrowedFd};

use libc::{c_int, c_long};
use nix::errno::Errno;

/// Issues a system call and turns `-1` into its errno.
///
/// # Safety
/// Every argument that the kernel takes as a pointer must be valid for what that call does with it.
pub(crate) unsafe fn syscall(number: c_long, args: [usize; 5]) -> nix::Result<c_long> {
    // SAFETY: pointers among the arguments are valid for this call; upheld by the caller's own SAFETY comment; else the kernel writes over memory that is not ours to give.
    let ret = unsafe { libc::syscall(number, args[0], args[1], args[2], args[3], args[4]) };
    Errno::result(ret)
}

/// Widens an int as the kernel's calling convention wants it, sign kept.
pub(crate) fn int(value: c_int) -> usize {
    (value as isize).cast_unsigned()
}

/// Widens a file descriptor.
pub(crate) fn fd(fd: BorrowedFd<'_>) -> usize {
    int(fd.as_raw_fd())
}

/// Gives a 64-bit word as a machine word; the crate builds for 64-bit machines only.
#[expect(clippy::cast_possible_truncation, reason = "usize is 64 bits wide: lib.rs refuses to build otherwise")]
pub(crate) fn word(value: u64) -> usize {
    value as usize
}

/// Gives a pointer as an argument.
pub(crate) fn ptr<T>(value: *const T) -> usize {
    value as usize
}

/// Narrows the result of a call that gives a small non-negative int (an fd, a pid, a flag).
pub(crate) fn small(value: c_long) -> nix::Result<c_int> {
    c_int::try_from(value).map_err(|_e| Errno::EOVERFLOW)
}

/// Shows a descriptor for an error text: its number and, where procfs can tell, what it refers to.
pub(crate) fn show_fd(fd: BorrowedFd<'_>) -> String {
    let number = fd.as_raw_fd();
    if number == libc::AT_FDCWD {
        return "AT_FDCWD".to_owned();
    }
    match std::fs::read_link(format!("/proc/self/fd/{number}")) {
        Ok(path) => format!("{number}<{}>", path.display()),
        Err(_) => number.to_string(),
    }
}

/// Shows a word of flags as the headers name them; bits without a name are shown in hexadecimal.
pub(crate) fn show_flags(mut value: u64, names: &[(u64, &str)]) -> String {
    let mut shown = Vec::new();
    for &(bits, name) in names {
        if bits != 0 && value & bits == bits {
            shown.push(name.to_owned());
            value &= !bits;
        }
    }
    if value != 0 || shown.is_empty() {
        shown.push(format!("{value:#x}"));
    }
    shown.join("|")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn flags_are_named_and_the_rest_is_hexadecimal() {
        let names = [(6, "BOTH"), (2, "TWO")];
        assert_eq!(show_flags(6, &names), "BOTH");
        assert_eq!(show_flags(2 | 0x10, &names), "TWO|0x10");
        assert_eq!(show_flags(0, &names), "0x0");
    }

    #[test]
    fn an_int_keeps_its_sign() {
        assert_eq!(int(libc::AT_FDCWD), usize::MAX - 99);
    }
}
