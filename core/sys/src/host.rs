//! Facts about the machine and about this program's own file.

use std::fmt::Write as _;

use nix::errno::Errno;

use crate::error::{Error, OrCall, Result};
use crate::image;
use crate::procfs::Proc;
use crate::{fd, raw};

/// Reads the kernel's release and the machine's architecture, such as `("6.1.0-18-amd64", "x86_64")`.
///
/// uname(2).
pub fn uname() -> Result<(String, String)> {
    let info = nix::sys::utsname::uname().or_call(|| "uname()".to_owned())?;
    let text = |part: &std::ffi::OsStr| part.to_string_lossy().into_owned();
    Ok((text(info.release()), text(info.machine())))
}

/// Reads the kernel's version as major and minor number.
///
/// A distribution's kernel may have features of a later one: ask for the feature where that is
/// possible. uname(2).
pub fn kernel_version() -> Result<(u32, u32)> {
    let (release, _) = uname()?;
    parse_version(&release).ok_or_else(|| Error::new(Errno::EPROTO, "uname()").with_detail(release))
}

fn parse_version(release: &str) -> Option<(u32, u32)> {
    let mut parts = release.split(|c: char| !c.is_ascii_digit());
    Some((parts.next()?.parse().ok()?, parts.next()?.parse().ok()?))
}

/// Reads a kernel setting by its path below /proc/sys, `kernel/pid_max` or `kernel.pid_max`.
///
/// Fails: ENOENT for one that this kernel does not have. proc_sys(5).
pub fn sysctl(name: &str) -> Result<String> {
    let path = if name.contains('/') { name.to_owned() } else { name.replace('.', "/") };
    Ok(Proc::host()?.read(&format!("sys/{path}"))?.trim_end().to_owned())
}

/// Reads the id that the kernel drew when it booted. proc_sys_kernel(5).
pub fn boot_id() -> Result<String> {
    sysctl("kernel/random/boot_id")
}

/// Says whether the kernel gave this process more rights than its caller has: a set-id file or file capabilities.
///
/// Then the environment is somebody else's word. getauxval(3), AT_SECURE.
#[must_use]
pub fn gained_privileges() -> bool {
    // SAFETY: getauxval takes no pointer; upheld by its man page; else nothing is touched.
    unsafe { libc::getauxval(libc::AT_SECURE) != 0 }
}

/// Gives how many ticks a second of procfs's processor times has. sysconf(3), _SC_CLK_TCK.
#[must_use]
pub fn clock_ticks() -> u64 {
    let ticks = nix::unistd::sysconf(nix::unistd::SysconfVar::CLK_TCK).ok().flatten();
    // Linux has told programs 100 since it began, whatever it counts with itself.
    ticks.and_then(|ticks| u64::try_from(ticks).ok()).filter(|ticks| *ticks > 0).unwrap_or(100)
}

/// Gives what tells this build of the program from any other, for the keys of caches.
///
/// The linker's GNU build id where there is one; else device, inode, size and times of the program's
/// file, which change with every installation. elf(5).
pub fn build_id_of_self() -> Result<String> {
    let own = image::objects().into_iter().next();
    let notes = own.iter().flat_map(|object| &object.segments).filter(|segment| segment.kind == libc::PT_NOTE);
    for note in notes {
        if let Some(id) = find_build_id(image::bytes(*note)) {
            return Ok(hex(id));
        }
    }
    let exe = fd::fstat(fd::open_path("/proc/self/exe", libc::O_PATH)?)?;
    Ok(format!("file-{:x}-{:x}-{:x}-{:x}-{:x}", exe.dev, exe.ino, exe.size, exe.mtime_ns, exe.ctime_ns))
}

/// Finds the build id among ELF notes: name length, content length, type, then name and content, each
/// padded to four bytes.
fn find_build_id(mut notes: &[u8]) -> Option<&[u8]> {
    const NT_GNU_BUILD_ID: usize = 3;
    loop {
        let word = |at: usize| {
            let bytes = notes.get(at..at + 4)?.try_into().ok()?;
            Some(raw::word(u64::from(u32::from_ne_bytes(bytes))))
        };
        let (name, content, kind) = (word(0)?, word(4)?, word(8)?);
        let at = 12_usize.checked_add(name.checked_next_multiple_of(4)?)?;
        let end = at.checked_add(content)?;
        if kind == NT_GNU_BUILD_ID && notes.get(12..12 + name) == Some(b"GNU\0") {
            return notes.get(at..end);
        }
        notes = notes.get(end.checked_next_multiple_of(4)?..)?;
    }
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::new(), |mut text, byte| {
        // Writing to a String cannot fail.
        if write!(text, "{byte:02x}").is_err() {
            text.clear();
        }
        text
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_are_parsed() {
        assert_eq!(parse_version("6.1.0-18-amd64"), Some((6, 1)));
        assert_eq!(parse_version("5.10-rc1"), Some((5, 10)));
        assert_eq!(parse_version("next"), None);
        assert!(kernel_version().unwrap() >= (5, 10));
    }

    #[test]
    fn settings_are_read_by_either_spelling() {
        assert_eq!(sysctl("kernel.pid_max").unwrap(), sysctl("kernel/pid_max").unwrap());
        assert_eq!(boot_id().unwrap().len(), 36);
        assert_eq!(sysctl("no.such").unwrap_err().kind(), Errno::ENOENT);
    }

    #[test]
    fn a_build_id_is_found_behind_other_notes_and_rubbish_is_not_read_past() {
        let note = |kind: u32, name: &[u8], content: &[u8]| {
            let len = |part: &[u8]| u32::try_from(part.len()).unwrap().to_ne_bytes();
            let mut bytes = [len(name), len(content), kind.to_ne_bytes()].concat();
            for part in [name, content] {
                bytes.extend_from_slice(part);
                bytes.resize(bytes.len().next_multiple_of(4), 0);
            }
            bytes
        };
        let notes = [note(5, b"GNU\0", b"12345"), note(3, b"GNU\0", b"\xab\x01")].concat();
        assert_eq!(find_build_id(&notes).map(hex), Some("ab01".to_owned()));
        assert_eq!(find_build_id(&[0xff; 64]), None);
        assert_eq!(find_build_id(&notes[..20]), None);
        assert_eq!(build_id_of_self().unwrap(), build_id_of_self().unwrap());
    }
}
