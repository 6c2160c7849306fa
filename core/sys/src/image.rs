//! The ELF objects in this process, as the dynamic loader knows them.

use std::ffi::{CStr, c_int, c_void};
use std::slice;

/// One part of an object that was mapped from its file.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Segment {
    pub(crate) kind: u32,
    pub(crate) writable: bool,
    pub(crate) start: usize,
    pub(crate) length: usize,
}

/// One object: the program itself (first, with an empty name), then its libraries.
#[derive(Debug)]
pub(crate) struct Object {
    pub(crate) name: String,
    pub(crate) segments: Vec<Segment>,
}

/// Lists the objects. dl_iterate_phdr(3).
pub(crate) fn objects() -> Vec<Object> {
    let mut all: Vec<Object> = Vec::new();
    let data: *mut Vec<Object> = &raw mut all;
    // SAFETY: `note` has the callback's signature and `data` is the vector it expects, alive during the call; upheld by this frame; else the callback writes to a stranger.
    unsafe { libc::dl_iterate_phdr(Some(note), data.cast()) };
    all
}

/// Takes down one object.
///
/// # Safety
/// `info` must be what the loader gave, and `data` the vector of [`objects`].
unsafe extern "C" fn note(info: *mut libc::dl_phdr_info, _size: usize, data: *mut c_void) -> c_int {
    // SAFETY: `info` is valid during this callback; upheld by the loader; else stray memory is read.
    let info = unsafe { &*info };
    // SAFETY: `data` is the vector of `objects`, and nobody else has it; upheld by its only caller; else two references change it.
    let all = unsafe { &mut *data.cast::<Vec<Object>>() };
    let name = if info.dlpi_name.is_null() {
        String::new()
    } else {
        // SAFETY: a name that is not null ends in NUL; upheld by the loader; else the read runs on.
        unsafe { CStr::from_ptr(info.dlpi_name) }.to_string_lossy().into_owned()
    };
    // SAFETY: the object has that many program headers, mapped for its life; upheld by the loader; else stray memory is read.
    let headers = unsafe { slice::from_raw_parts(info.dlpi_phdr, usize::from(info.dlpi_phnum)) };
    let segments = headers.iter().map(|header| Segment {
        kind: header.p_type,
        writable: header.p_flags & libc::PF_W != 0,
        start: crate::raw::word(info.dlpi_addr.wrapping_add(header.p_vaddr)),
        length: crate::raw::word(header.p_memsz),
    });
    all.push(Object { name, segments: segments.collect() });
    0
}

/// Reads the bytes of a segment that is mapped readable: notes and the dynamic section are.
pub(crate) fn bytes(segment: Segment) -> &'static [u8] {
    if segment.length == 0 {
        return &[];
    }
    let start: *const u8 = std::ptr::with_exposed_provenance(segment.start);
    // SAFETY: a PT_NOTE or PT_DYNAMIC lies in a readable PT_LOAD of an object that stays loaded; upheld by the two callers, which pass no other kind and use the bytes at once; else the read faults.
    unsafe { slice::from_raw_parts(start, segment.length) }
}
