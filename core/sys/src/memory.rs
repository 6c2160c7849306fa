//! How much memory a process keeps for itself, and giving it back.

use std::sync::atomic::{AtomicU32, Ordering};

use nix::errno::Errno;

use crate::error::{Error, OrCall, Result};
use crate::image::{self, Object, Segment};
use crate::procfs::Proc;

/// Reads how much memory only this process holds, in KiB: private clean and private dirty pages.
///
/// Since: 4.14. Needs: ptrace access to the process. proc_pid_smaps(5), smaps_rollup.
pub fn private_kib(pid: i32) -> Result<u64> {
    let text = Proc::host()?.pid(pid)?.read("smaps_rollup")?;
    private_of(&text).ok_or_else(|| Error::new(Errno::EPROTO, format!("read(\"/proc/{pid}/smaps_rollup\")")))
}

fn private_of(text: &str) -> Option<u64> {
    let field = |name: &str| {
        let line = text.lines().find_map(|line| line.strip_prefix(name))?;
        line.split_ascii_whitespace().next()?.parse::<u64>().ok()
    };
    Some(field("Private_Clean:")? + field("Private_Dirty:")?)
}

/// Gives free heap pages back to the kernel. malloc_trim(3).
pub fn trim() {
    #[cfg(target_env = "gnu")]
    // SAFETY: malloc_trim touches free memory only; upheld by the C library; else live data is lost.
    unsafe {
        libc::malloc_trim(0);
    }
}

/// Gives back the pages of this process's code and constants; they come from the page cache again
/// when they are used.
///
/// For a process that is about to wait for long. Only segments that no relocation has written are
/// touched: a page that the loader changed (RELRO is mapped read-only later, so /proc/PID/maps does not
/// tell it from constants) exists in this process alone and would be lost. madvise(2), MADV_DONTNEED.
pub fn release_file_pages() -> Result<()> {
    let page = page_size()?;
    for object in image::objects() {
        for (start, length) in clean_ranges(&object, page) {
            let call = || format!("madvise({start:#x}, {length:#x}, MADV_DONTNEED) in {:?}", object.name);
            let at: *mut libc::c_void = std::ptr::with_exposed_provenance_mut(start);
            // SAFETY: every page of the range equals its file's and re-reads from it; upheld by `clean_ranges`, which leaves out all that is writable or relocated; else code or constants change under us.
            let ret = unsafe { libc::madvise(at, length, libc::MADV_DONTNEED) };
            Errno::result(ret).or_call(call)?;
        }
    }
    Ok(())
}

fn page_size() -> Result<usize> {
    let call = || "sysconf(_SC_PAGESIZE)".to_owned();
    let size = nix::unistd::sysconf(nix::unistd::SysconfVar::PAGE_SIZE).or_call(call)?;
    let size = size.and_then(|size| usize::try_from(size).ok()).filter(|size| size.is_power_of_two());
    size.ok_or_else(|| Error::new(Errno::EINVAL, call()))
}

/// Gives the page ranges of an object that are exactly what its file holds.
fn clean_ranges(object: &Object, page: usize) -> Vec<(usize, usize)> {
    // The vDSO is no file.
    if object.name.starts_with("linux-vdso") || has_text_relocations(object) {
        return Vec::new();
    }
    let loads = || object.segments.iter().filter(|segment| segment.kind == libc::PT_LOAD);
    let down = |address: usize| address & !(page - 1);
    let range = |segment: &Segment| (down(segment.start), down(segment.start + segment.length + page - 1));
    let written: Vec<_> = loads().filter(|segment| segment.writable).map(range).collect();
    loads()
        .filter(|segment| !segment.writable)
        .map(range)
        .filter(|(start, end)| end > start && !written.iter().any(|(from, to)| from < end && start < to))
        .map(|(start, end)| (start, end - start))
        .collect()
}

/// Says whether the loader has written into the object's code (`DT_TEXTREL`, or `DF_TEXTREL`).
fn has_text_relocations(object: &Object) -> bool {
    const DT_TEXTREL: u64 = 22;
    const DT_FLAGS: u64 = 30;
    const DF_TEXTREL: u64 = 4;
    let dynamic = object.segments.iter().find(|segment| segment.kind == libc::PT_DYNAMIC);
    let Some(dynamic) = dynamic else { return false };
    let words: Vec<u64> =
        image::bytes(*dynamic).chunks_exact(8).map(|word| word.try_into().map_or(0, u64::from_ne_bytes)).collect();
    let entries = words.chunks_exact(2).take_while(|entry| entry[0] != 0);
    entries.into_iter().any(|entry| entry[0] == DT_TEXTREL || entry[0] == DT_FLAGS && entry[1] & DF_TEXTREL != 0)
}

/// A number that a process and the children it forks see alike.
#[derive(Debug)]
pub struct SharedNumber(std::ptr::NonNull<AtomicU32>);

impl SharedNumber {
    /// Makes one, with a page of its own.
    ///
    /// Fails: ENOMEM. mmap(2), MAP_SHARED|MAP_ANONYMOUS.
    pub fn new(value: u32) -> Result<Self> {
        let call = || "mmap(PROT_READ|PROT_WRITE, MAP_SHARED|MAP_ANONYMOUS)".to_owned();
        let protection = libc::PROT_READ | libc::PROT_WRITE;
        let flags = libc::MAP_SHARED | libc::MAP_ANONYMOUS;
        // SAFETY: the kernel chooses the place, so nothing that is mapped is replaced; upheld by the null address; else other memory is lost.
        let at = unsafe { libc::mmap(std::ptr::null_mut(), size_of::<AtomicU32>(), protection, flags, -1, 0) };
        if at == libc::MAP_FAILED {
            return Err(Error::new(Errno::last(), call()));
        }
        let cell = std::ptr::NonNull::new(at.cast::<AtomicU32>()).ok_or_else(|| Error::new(Errno::ENOMEM, call()))?;
        let this = Self(cell);
        this.set(value);
        Ok(this)
    }

    fn cell(&self) -> &AtomicU32 {
        // SAFETY: the page is mapped, zeroed by the kernel and aligned, and stays until the drop; upheld by `new` and the drop; else the access faults.
        unsafe { self.0.as_ref() }
    }

    /// Sets it, for every process that shares it.
    pub fn set(&self, value: u32) {
        self.cell().store(value, Ordering::Relaxed);
    }

    /// Reads it.
    #[must_use]
    pub fn get(&self) -> u32 {
        self.cell().load(Ordering::Relaxed)
    }
}

impl Drop for SharedNumber {
    fn drop(&mut self) {
        // SAFETY: nobody in this process has a reference any more, and other processes have mappings of their own; upheld by this being the drop of the only owner; else a later access faults.
        unsafe { libc::munmap(self.0.as_ptr().cast(), size_of::<AtomicU32>()) };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_private_kinds_count() {
        assert_eq!(private_of("Rss:  9 kB\nPrivate_Clean:     3 kB\nPrivate_Dirty:  4 kB\n"), Some(7));
        assert_eq!(private_of("Rss: 9 kB\n"), None);
    }

    #[test]
    fn released_code_comes_back() {
        let own = i32::try_from(std::process::id()).unwrap();
        trim();
        release_file_pages().unwrap();
        release_file_pages().unwrap();
        assert!(private_kib(own).unwrap() > 0);
        assert!(image::objects().iter().any(|object| !clean_ranges(object, 4096).is_empty()));
    }

    #[test]
    fn a_page_shared_with_a_writable_segment_is_left_alone() {
        let segment = |writable, start, length| Segment { kind: libc::PT_LOAD, writable, start, length };
        let object = Object {
            name: "x".to_owned(),
            segments: vec![segment(false, 0x1000, 0x1800), segment(false, 0x4000, 0x10), segment(true, 0x2f00, 0x200)],
        };
        assert_eq!(clean_ranges(&object, 0x1000), [(0x4000, 0x1000)]);
    }
}
