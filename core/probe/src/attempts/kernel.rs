//! The kernel's surface: what has been the way to its bugs.

use super::*;
use palisade_sys::attempt::Arg::{In, Int, Null, Out};

table! {
    "ks-bpf" High ["CAP_BPF; sysctl kernel.unprivileged_bpf_disabled; SEC"] "make a map of BPF", "CONFIG_BPF_SYSCALL, CAP_BPF", "of one entry, which goes with the descriptor"
        => |_| gave(Call::BPF, [Int(0), In(&map_of_one()), Int(76)]);
    "ks-perf-user" Medium ["SEC; sysctl kernel.perf_event_paranoid"] "measure itself", "CONFIG_PERF_EVENTS", "it goes with the descriptor"
        => |_| gave(Call::PERF_EVENT_OPEN, [In(&clock_event(true)), Int(0), Int(-1), Int(-1), Int(0)]);
    "ks-perf-kernel" High ["CAP_PERFMON; sysctl kernel.perf_event_paranoid; SEC"] "measure the kernel", "CONFIG_PERF_EVENTS, CAP_PERFMON", "it goes with the descriptor"
        => |_| gave(Call::PERF_EVENT_OPEN, [In(&clock_event(false)), Int(0), Int(-1), Int(-1), Int(0)]);
    "ks-userfaultfd" High ["CAP_SYS_PTRACE; sysctl vm.unprivileged_userfaultfd; SEC"] "handle page faults, the kernel's too", "CONFIG_USERFAULTFD", "it goes with the descriptor"
        => |_| gave(Call::USERFAULTFD, [Int(0)]);
    "ks-userfaultfd-user" Medium ["SEC"] "handle page faults of its own", "Linux 5.11, CONFIG_USERFAULTFD", "it goes with the descriptor"
        => |_| gave(Call::USERFAULTFD, [Int(1)]);
    "ks-iouring" High ["SEC; sysctl kernel.io_uring_disabled"] "make an io_uring", "CONFIG_IO_URING", "of one entry, which goes with the descriptor"
        => |_| gave(Call::IO_URING_SETUP, [Int(1), Out(&mut [0; 120])]);
    "ks-add-key" Medium ["SEC"] "make a key", "CONFIG_KEYS", "it goes with the process"
        => |_| gave(Call::ADD_KEY, [In(b"user\0"), In(b"probe\0"), In(b"x"), Int(1), Int(-2)]);
    "ks-keyctl-session" Low ["SEC"] "reach the session's keyring", "CONFIG_KEYS", "it only asks for its number"
        => |_| gave(Call::KEYCTL, [Int(0), Int(-3), Int(0)]);
    "ks-ptrace-child" Low ["SEC"] "be traced by its own parent", "", "only the attempt's own process"
        => |_| gave(Call::PTRACE, [Int(0), Int(0), Null, Null]);
    "ks-personality" Low ["SEC"] "be laid out at fixed addresses", "", "only the attempt's own process"
        => |_| gave(Call::PERSONALITY, [Int(0x004_0000)]);
    "ks-quotactl" Low ["SEC"] "ask for the quota of a device that is not there", "", "there is no such device"
        => |_| reached(attempt(Call::QUOTACTL, [Int(0x8000_0400), In(b"/palisade-none\0"), Int(0), Null]));
    "ks-syslog" Medium ["CAP_SYSLOG; sysctl kernel.dmesg_restrict; SEC"] "read the kernel's log", "", "reading all of it takes nothing away"
        // The kernel gives whole lines only: none at all, where the last one is longer than the room.
        => |_| Ok(attempt(Call::SYSLOG, [Int(3), Out(&mut [0; 4096]), Int(4096)])? > 0);
    "ks-mempolicy" Low ["SEC"] "set the memory policy to what it is", "CONFIG_NUMA", "it stays what it is"
        => |_| gave(Call::SET_MEMPOLICY, [Int(0), Null, Int(0)]);
    "ks-fanotify" Medium ["CAP_SYS_ADMIN; SEC"] "watch file systems", "CONFIG_FANOTIFY", "it goes with the descriptor"
        => |_| gave(Call::FANOTIFY_INIT, [Int(0), Int(0)]);
}

/// `union bpf_attr` of an array of one number.
fn map_of_one() -> Vec<u8> {
    [2_u32, 4, 4, 1].into_iter().flat_map(u32::to_ne_bytes).collect()
}

/// `struct perf_event_attr` of the processor's clock, not counting.
fn clock_event(exclude_kernel: bool) -> Vec<u8> {
    let mut words: Vec<u8> = [1_u32, 112].into_iter().flat_map(u32::to_ne_bytes).collect();
    words.extend([0; 32]);
    words.extend((1_u64 | u64::from(exclude_kernel) << 5).to_ne_bytes());
    words.resize(112, 0);
    words
}

/// Whoever is told that the device is not there got as far as the kernel's own code.
fn reached(answer: Result<i64, Errno>) -> Tried {
    match answer {
        Ok(_) | Err(Errno::ENOENT) => Ok(true),
        Err(errno) => Err(errno.into()),
    }
}
