//! A plugin's file, read as data: nothing of it runs here.

use object::elf::{
    DF_1_NOOPEN, DT_AUDIT, DT_AUXILIARY, DT_DEPAUDIT, DT_FILTER, DT_FLAGS_1, DT_NEEDED, DT_RPATH, DT_RUNPATH,
    DT_STRTAB, Dyn64, DynamicTag, ET_DYN, FileHeader64, PT_DYNAMIC, PT_LOAD, ProgramHeader64,
};
use object::read::elf::{Dyn, FileHeader, ProgramHeader, SectionHeader};
use object::{Endianness, ReadRef};
use palisade_abi::MANIFEST_SECTION;

/// Libraries that a plugin may need: the C library's own. Anything else would bring constructors of its own,
/// which no digest of the plugin covers.
const ALLOWED: [&str; 8] =
    ["libc", "libm", "libgcc_s", "ld-linux-x86-64", "ld-linux-aarch64", "libpthread", "libdl", "librt"];

/// Entries that make the dynamic linker load something else, or look elsewhere.
const FORBIDDEN: [(DynamicTag, &str); 6] = [
    (DT_RPATH, "it has an RPATH or RUNPATH, which would choose what else is loaded"),
    (DT_RUNPATH, "it has an RPATH or RUNPATH, which would choose what else is loaded"),
    (DT_AUXILIARY, "it is a filter of another library (DT_AUXILIARY), which would be loaded as well"),
    (DT_FILTER, "it is a filter of another library (DT_FILTER), which would be loaded as well"),
    (DT_AUDIT, "it names a library that audits (DT_AUDIT), which would be loaded as well"),
    (DT_DEPAUDIT, "it names a library that audits (DT_DEPAUDIT), which would be loaded as well"),
];

type Header = FileHeader64<Endianness>;
type Segment = ProgramHeader64<Endianness>;

/// Checks the structure of a plugin's file and gives the text of its manifest. Nothing of it runs.
///
/// # Errors
/// In words: the first thing that is wrong.
pub fn inspect(data: &[u8]) -> Result<String, String> {
    let header = Header::parse(data).map_err(|_not_elf| "it is not a 64-bit ELF file".to_owned())?;
    let endian = header.endian().map_err(|e| e.to_string())?;
    if header.e_machine(endian) != machine() {
        return Err(format!(
            "it was built for another machine (ELF machine {}, this is {})",
            header.e_machine(endian).0,
            machine().0
        ));
    }
    if header.e_type(endian) != ET_DYN {
        return Err("it is not a shared library".to_owned());
    }
    check_segments(header, endian, data)?;
    check_dynamic(header, endian, data)?;
    manifest(header, endian, data)
}

const fn machine() -> object::elf::Machine {
    if cfg!(target_arch = "aarch64") { object::elf::EM_AARCH64 } else { object::elf::EM_X86_64 }
}

/// A segment that reaches past the end of a truncated file is a SIGBUS when it is touched.
fn check_segments(header: &Header, endian: Endianness, data: &[u8]) -> Result<(), String> {
    let segments = header.program_headers(endian, data).map_err(|e| e.to_string())?;
    let len = data.len() as u64;
    let cut = segments
        .iter()
        .filter(|s| s.p_type(endian) == PT_LOAD)
        .any(|s| s.p_offset(endian).checked_add(s.p_filesz(endian)).is_none_or(|end| end > len));
    if cut { Err("it is truncated: a segment reaches past the end of the file".to_owned()) } else { Ok(()) }
}

fn check_dynamic(header: &Header, endian: Endianness, data: &[u8]) -> Result<(), String> {
    let segments = header.program_headers(endian, data).map_err(|e| e.to_string())?;
    let entries = dynamic(segments, endian, data)?;
    for (tag, why) in FORBIDDEN {
        if values(entries, endian, tag).next().is_some() {
            return Err(why.to_owned());
        }
    }
    if values(entries, endian, DT_FLAGS_1).any(|flags| flags & DF_1_NOOPEN.0 != 0) {
        return Err("it may not be opened at run time (DF_1_NOOPEN)".to_owned());
    }
    let mut tables = values(entries, endian, DT_STRTAB);
    let (Some(table), None) = (tables.next(), tables.next()) else {
        return Err("its dynamic section does not name one table of strings".to_owned());
    };
    let outside = "the name of a needed library lies outside the file";
    let strings = offset_of(segments, endian, table).ok_or(outside)?;
    for name in values(entries, endian, DT_NEEDED) {
        let from = strings.checked_add(name).ok_or(outside)?;
        let end = data.len() as u64;
        let name = data.read_bytes_at_until(from..end, 0).map_err(|()| outside.to_owned())?;
        let name = String::from_utf8_lossy(name);
        if !is_allowed(&name) {
            return Err(format!("it needs {name}; a plugin may need the C library only"));
        }
    }
    Ok(())
}

/// The entries of the dynamic section, found as the dynamic linker finds them: by program header and address.
/// Section headers may say something else.
fn dynamic<'a>(segments: &[Segment], endian: Endianness, data: &'a [u8]) -> Result<&'a [Dyn64<Endianness>], String> {
    let mut found = segments.iter().filter(|s| s.p_type(endian) == PT_DYNAMIC);
    let segment = found.next().ok_or("it has no dynamic section")?;
    if found.next().is_some() {
        return Err("it has more than one dynamic section".to_owned());
    }
    if offset_of(segments, endian, segment.p_vaddr(endian)) != Some(segment.p_offset(endian)) {
        return Err("its dynamic section is loaded from another place than its headers say".to_owned());
    }
    let entries = segment.dynamic(endian, data).map_err(|e| e.to_string())?;
    entries.ok_or_else(|| "it has no dynamic section".to_owned())
}

/// Where in the file the byte lies that will be at this address.
fn offset_of(segments: &[Segment], endian: Endianness, address: u64) -> Option<u64> {
    segments.iter().filter(|s| s.p_type(endian) == PT_LOAD).find_map(|segment| {
        let inside = address.checked_sub(segment.p_vaddr(endian))?;
        (inside < segment.p_filesz(endian)).then(|| segment.p_offset(endian).checked_add(inside))?
    })
}

fn values(entries: &[Dyn64<Endianness>], endian: Endianness, tag: DynamicTag) -> impl Iterator<Item = u64> {
    entries.iter().filter(move |entry| entry.d_tag(endian) == tag).map(move |entry| entry.d_val(endian))
}

/// `STEM.so` or `STEM.so.VERSION`, nothing else: a name with a slash is a path, and `libc-own.so` is not libc.
fn is_allowed(name: &str) -> bool {
    let Some((stem, version)) = name.split_once(".so") else { return false };
    ALLOWED.contains(&stem) && version.chars().all(|c| c.is_ascii_digit() || c == '.')
}

fn manifest(header: &Header, endian: Endianness, data: &[u8]) -> Result<String, String> {
    let sections = header.sections(endian, data).map_err(|e| e.to_string())?;
    let (_, section) = sections
        .section_by_name(endian, MANIFEST_SECTION.as_bytes())
        .ok_or_else(|| format!("it has no manifest (section {MANIFEST_SECTION}): no palisade plugin"))?;
    let bytes = section.data(endian, data).map_err(|e| e.to_string())?;
    // A string of C ends in a NUL.
    let bytes = bytes.strip_suffix(b"\0").unwrap_or(bytes);
    String::from_utf8(bytes.to_vec()).map_err(|_not_text| "its manifest is not UTF-8".to_owned())
}

#[cfg(test)]
mod tests {
    use super::is_allowed;

    #[test]
    fn only_the_c_library_itself_is_allowed() {
        for name in ["libc.so.6", "libm.so.6", "libgcc_s.so.1", "ld-linux-x86-64.so.2", "libdl.so.2", "librt.so"] {
            assert!(is_allowed(name), "{name}");
        }
        for name in
            ["libc", "libc-own.so", "libc.so.6/../own.so", "/lib/libc.so.6", "libcc.so", "ld-linux-own.so.2", ""]
        {
            assert!(!is_allowed(name), "{name}");
        }
    }
}
