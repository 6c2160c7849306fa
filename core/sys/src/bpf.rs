//! Programs that decide which devices a cgroup v2 may use. bpf(2); Linux:
//! Documentation/admin-guide/cgroup-v2.rst, "Device controller".

use nix::errno::Errno;
use std::os::fd::{AsFd, AsRawFd, FromRawFd, OwnedFd};

use crate::error::{OrCall, Result};
use crate::raw;

/// `enum bpf_cmd` of linux/bpf.h.
const BPF_PROG_LOAD: i32 = 5;
const BPF_PROG_ATTACH: i32 = 8;
const BPF_OBJ_GET_INFO_BY_FD: i32 = 15;
const BPF_PROG_QUERY: i32 = 16;
/// `enum bpf_prog_type`.
const BPF_PROG_TYPE_CGROUP_DEVICE: u32 = 15;
/// `enum bpf_attach_type`.
const BPF_CGROUP_DEVICE: u32 = 6;
/// Those of the cgroups above and below are asked as well; each of them may refuse.
const BPF_F_ALLOW_MULTI: u32 = 2;
/// More programs than anybody attaches to one cgroup.
const MOST_PROGRAMS: u32 = 64;
/// The length of [`Info`].
const INFO_LENGTH: u32 = 16;

#[repr(C)]
#[derive(Default)]
struct Load {
    program_type: u32,
    count: u32,
    instructions: u64,
    license: u64,
    log_level: u32,
    log_size: u32,
    log: u64,
    kernel_version: u32,
    flags: u32,
}

#[repr(C)]
#[derive(Default)]
struct Attach {
    target: u32,
    program: u32,
    kind: u32,
    flags: u32,
    replaced: u32,
}

#[repr(C)]
#[derive(Default)]
struct Query {
    target: u32,
    kind: u32,
    query_flags: u32,
    attach_flags: u32,
    ids: u64,
    count: u32,
    reserved: u32,
    // Since 6.17 the kernel writes up to here, however long the caller says that this is.
    attach_flags_of_each: u64,
    link_ids: u64,
    link_attach_flags: u64,
    revision: u64,
}

#[repr(C)]
#[derive(Default)]
struct AskInfo {
    fd: u32,
    length: u32,
    info: u64,
}

/// The beginning of `struct bpf_prog_info`; the kernel writes no more than it is given room for.
#[repr(C)]
#[derive(Default)]
struct Info {
    program_type: u32,
    id: u32,
    tag: [u8; 8],
}

fn number(fd: impl AsFd) -> u32 {
    fd.as_fd().as_raw_fd().cast_unsigned()
}

/// The address of what the kernel reads or writes, as it stands in an attribute.
fn address<T>(of: *const T) -> u64 {
    raw::ptr(of) as u64
}

fn bpf<T>(command: i32, attributes: &mut T) -> nix::Result<i32> {
    // SAFETY: `attributes` is what linux/bpf.h says for this command, as long as its type is, and every address in it
    // is of memory that the caller holds; upheld by the four callers below; else the kernel gives EINVAL or EFAULT, or
    // writes over memory of ours.
    let answer = unsafe {
        let attributes = std::ptr::from_mut(attributes);
        raw::syscall(libc::SYS_bpf, [raw::int(command), raw::ptr(attributes), size_of::<T>(), 0, 0])
    };
    answer.and_then(raw::small)
}

/// Loads a program of eBPF instructions that answers 1 for a device that may be used, and 0 for others.
///
/// Since: 4.15. Fails: EPERM without `CAP_BPF` (5.8) and `CAP_NET_ADMIN`, or `CAP_SYS_ADMIN`; EINVAL or EACCES when
/// the kernel's verifier refuses the program; ENOSYS and EINVAL without `CONFIG_CGROUP_BPF`. bpf(2).
pub fn load_device_program(instructions: &[u64]) -> Result<OwnedFd> {
    let mut load = Load {
        program_type: BPF_PROG_TYPE_CGROUP_DEVICE,
        count: u32::try_from(instructions.len()).unwrap_or(u32::MAX),
        instructions: address(instructions.as_ptr()),
        license: address(c"".as_ptr()),
        ..Load::default()
    };
    let loaded = bpf(BPF_PROG_LOAD, &mut load);
    loaded
        .map(|fd| {
            // SAFETY: the number is open and nobody else's; upheld by the kernel, which has just given it; else
            // another owner's descriptor would be closed.
            unsafe { OwnedFd::from_raw_fd(fd) }
        })
        .or_call(|| format!("bpf(BPF_PROG_LOAD, CGROUP_DEVICE, {} instructions)", instructions.len()))
}

/// Has a program decide for a cgroup and all below it. It goes when the cgroup does.
///
/// Since: 4.15. Fails: EPERM as [`load_device_program`]; EBADF when `cgroup` is none of v2. bpf(2).
pub fn attach_device_program(cgroup: impl AsFd, program: impl AsFd) -> Result<()> {
    let mut attach = Attach {
        target: number(&cgroup),
        program: number(&program),
        kind: BPF_CGROUP_DEVICE,
        flags: BPF_F_ALLOW_MULTI,
        replaced: 0,
    };
    bpf(BPF_PROG_ATTACH, &mut attach).map(drop).or_call(|| "bpf(BPF_PROG_ATTACH, BPF_CGROUP_DEVICE)".to_owned())
}

/// Reads whether a program is among those that decide for a cgroup.
///
/// Since: 4.15. Fails: EPERM as [`load_device_program`]. bpf(2).
pub fn is_device_program_attached(cgroup: impl AsFd, program: impl AsFd) -> Result<bool> {
    let mut info = Info::default();
    let mut ask = AskInfo { fd: number(&program), length: INFO_LENGTH, info: address(std::ptr::from_mut(&mut info)) };
    bpf(BPF_OBJ_GET_INFO_BY_FD, &mut ask).or_call(|| "bpf(BPF_OBJ_GET_INFO_BY_FD)".to_owned())?;
    let mut ids = [0_u32; MOST_PROGRAMS as usize];
    let mut query = Query {
        target: number(&cgroup),
        kind: BPF_CGROUP_DEVICE,
        ids: address(ids.as_mut_ptr()),
        count: MOST_PROGRAMS,
        ..Query::default()
    };
    bpf(BPF_PROG_QUERY, &mut query).or_call(|| "bpf(BPF_PROG_QUERY, BPF_CGROUP_DEVICE)".to_owned())?;
    let count = usize::try_from(query.count).map_err(|_e| Errno::EOVERFLOW).or_call(|| "bpf()".to_owned())?;
    Ok(ids.iter().take(count).any(|id| *id == info.id && info.id != 0))
}
