//! A plugin's file, read as data: nothing of it runs here.

use object::elf::{DF_1_NOOPEN, DT_FLAGS_1, DT_NEEDED, DT_RPATH, DT_RUNPATH, ET_DYN, FileHeader64, PT_LOAD};
use object::read::elf::{Dyn, FileHeader, ProgramHeader, SectionHeader};
use object::{Endianness, ReadRef};
use palisade_abi::MANIFEST_SECTION;

/// Libraries that a plugin may need: the C library's own. Anything else would bring constructors of its own,
/// which no digest of the plugin covers.
const ALLOWED: [&str; 7] = ["libc", "libm", "libgcc_s", "ld-linux", "libpthread", "libdl", "librt"];

type Header = FileHeader64<Endianness>;

/// Checks the structure and gives the text of the manifest.
///
/// # Errors
/// In words: the first thing that is wrong.
pub(crate) fn inspect(data: &[u8]) -> Result<String, String> {
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
    let entries = segments
        .iter()
        .find_map(|s| s.dynamic(endian, data).transpose())
        .ok_or("it has no dynamic section")?
        .map_err(|e| e.to_string())?;
    let value =
        |tag: object::elf::DynamicTag| entries.iter().filter(move |d| d.d_tag(endian) == tag).map(|d| d.d_val(endian));
    if value(DT_RPATH).next().is_some() || value(DT_RUNPATH).next().is_some() {
        return Err("it has an RPATH or RUNPATH, which would choose what else is loaded".to_owned());
    }
    if value(DT_FLAGS_1).any(|flags| flags & DF_1_NOOPEN.0 != 0) {
        return Err("it may not be opened at run time (DF_1_NOOPEN)".to_owned());
    }
    for offset in value(DT_NEEDED) {
        let name = dynamic_string(header, endian, data, offset)?;
        let stem = name.split(['.', '-']).next().unwrap_or_default();
        let known = ALLOWED.iter().any(|a| *a == stem || name.starts_with(&format!("{a}-")));
        if !known {
            return Err(format!("it needs {name}; a plugin may need the C library only"));
        }
    }
    Ok(())
}

fn dynamic_string(header: &Header, endian: Endianness, data: &[u8], at: u64) -> Result<String, String> {
    let sections = header.sections(endian, data).map_err(|e| e.to_string())?;
    let table = sections
        .iter()
        .find(|s| s.sh_type(endian) == object::elf::SHT_DYNAMIC)
        .and_then(|s| sections.section(object::SectionIndex(s.sh_link(endian) as usize)).ok())
        .ok_or("its dynamic section names no strings")?;
    let strings = table.data(endian, data).map_err(|e| e.to_string())?;
    let name = strings
        .read_bytes_at_until(at..strings.len() as u64, 0)
        .map_err(|()| "the name of a needed library lies outside the file".to_owned())?;
    Ok(String::from_utf8_lossy(name).into_owned())
}

fn manifest(header: &Header, endian: Endianness, data: &[u8]) -> Result<String, String> {
    let sections = header.sections(endian, data).map_err(|e| e.to_string())?;
    let (_, section) = sections
        .section_by_name(endian, MANIFEST_SECTION.as_bytes())
        .ok_or_else(|| format!("it has no manifest (section {MANIFEST_SECTION}): no palisade plugin"))?;
    let bytes = section.data(endian, data).map_err(|e| e.to_string())?;
    String::from_utf8(bytes.to_vec()).map_err(|_not_text| "its manifest is not UTF-8".to_owned())
}
