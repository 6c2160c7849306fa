//! Groups for `deny`: what a workload in a sandbox has no honest use for, each with what it would be used for.

use super::Member::{Answer, Calls, Groups, Unreadable, When};
use super::{Group, arg};
use crate::action::Errno;
use crate::rule::Test::{AnySet, Eq, MaskedEq, Ne};

/// The `CLONE_NEW*` flags of linux/sched.h: NEWTIME, NEWNS, NEWCGROUP, NEWUTS, NEWIPC, NEWUSER, NEWPID, NEWNET.
/// In clone(2) the bit of NEWTIME belongs to the exit signal, where no signal has it.
const NEW_NAMESPACE: u64 = 0x7E02_0080;
/// `S_ISUID | S_ISGID`.
const SETUID_SETGID: u64 = 0o6000;
/// `S_IFMT`, and the two kinds of device in it.
const FILE_KIND: u64 = 0o170_000;
const CHAR_DEVICE: u64 = 0o020_000;
const BLOCK_DEVICE: u64 = 0o060_000;
/// `O_CREAT` and the bit that `O_TMPFILE` has for itself: only with one of them is a mode looked at.
const CREATES: u64 = 0o100 | 0o20_000_000;
/// `AF_*` of linux/socket.h.
const AF_UNIX: u64 = 1;
const AF_INET: u64 = 2;
const AF_INET6: u64 = 10;
const AF_NETLINK: u64 = 16;
/// The type in socket(2)'s second argument, below its flags, and `SOCK_RAW`.
const SOCK_TYPE: u64 = 0xf;
const SOCK_RAW: u64 = 3;
/// Kinds of socket that are streams, or like them. TCP is 0 or its number.
const SOCK_STREAM: u64 = 1;
const SOCK_SEQPACKET: u64 = 5;
const SOCK_DCCP: u64 = 6;
const IPPROTO_TCP: u64 = 6;
/// In the flags of sendto(2): connects if need be.
const MSG_FASTOPEN: u64 = 0x2000_0000;
/// ioctl(2) requests that put input into a terminal as if typed. The kernel compares their low 32 bits only.
const TIOCSTI: u64 = 0x5412;
const TIOCLINUX: u64 = 0x541C;
/// personality(2) with this asks and changes nothing.
const PERSONALITY_ASK: u64 = 0xffff_ffff;

pub(super) const GROUPS: &[Group] = &[
    Group {
        name: "@mount",
        why: "changes what the file tree shows, or makes a detached tree that a later call attaches",
        members: &[
            Calls(&["mount", "umount2", "pivot_root", "chroot", "move_mount", "mount_setattr"]),
            // A detached tree needs no attaching to be read, and Landlock does not stop its making.
            Calls(&["open_tree", "open_tree_attr", "fsopen", "fsconfig", "fsmount", "fspick"]),
        ],
    },
    Group {
        name: "@file-handle",
        why: "opens a file by number, whatever the view shows (the `shocker` escape)",
        members: &[Calls(&["open_by_handle_at"])],
    },
    Group {
        name: "@keyring",
        why: "the kernel's key store is not divided by every namespace, and has a history of bugs",
        members: &[Calls(&["add_key", "keyctl", "request_key"])],
    },
    Group {
        name: "@raw-io",
        why: "reaches I/O ports and PCI registers past every driver",
        members: &[Calls(&["iopl", "ioperm"])],
    },
    Group {
        name: "@bpf",
        why: "loads programs into the kernel; its verifier has been the way in more than once",
        members: &[Calls(&["bpf"])],
    },
    Group {
        name: "@perf",
        why: "counters and samples of the kernel and of other processes; a large and often broken interface",
        members: &[Calls(&["perf_event_open"])],
    },
    Group {
        name: "@debug",
        why: "reads or steers another process: its memory, its registers, its descriptors, its page faults",
        members: &[
            Calls(&["ptrace", "process_vm_readv", "process_vm_writev", "kcmp", "pidfd_getfd"]),
            Calls(&["process_madvise", "process_mrelease"]),
            // Stops the kernel in the middle of a copy from user memory: what races are won with.
            Calls(&["userfaultfd"]),
            Groups(&["@perf", "@bpf"]),
        ],
    },
    Group {
        name: "@namespaces",
        why: "a new user namespace gives every capability over the kernel's less tested half",
        members: &[
            When("unshare", &[arg(0, AnySet(NEW_NAMESPACE))], None),
            When("clone", &[arg(0, AnySet(NEW_NAMESPACE))], None),
            Calls(&["setns"]),
            Unreadable("clone3"),
        ],
    },
    Group {
        name: "@module",
        why: "loads code into the kernel",
        members: &[Calls(&["init_module", "finit_module", "delete_module"])],
    },
    Group {
        name: "@reboot",
        why: "stops the machine or replaces its kernel",
        members: &[Calls(&["reboot", "kexec_load", "kexec_file_load"])],
    },
    Group {
        name: "@swap",
        why: "changes the whole machine's memory, and could show other people's pages",
        members: &[Calls(&["swapon", "swapoff"])],
    },
    Group {
        name: "@clock",
        why: "sets the time of the whole machine",
        members: &[Calls(&["settimeofday", "clock_settime", "clock_adjtime", "adjtimex"])],
    },
    Group {
        name: "@obsolete",
        why: "nothing uses it any more; answered as by a kernel without it",
        members: &[
            Answer(&["_sysctl", "afs_syscall", "create_module", "epoll_ctl_old", "epoll_wait_old"], Errno::ENOSYS),
            Answer(&["get_kernel_syms", "getpmsg", "nfsservctl", "putpmsg", "query_module"], Errno::ENOSYS),
            Answer(&["security", "sysfs", "tuxcall", "uselib", "ustat", "vserver", "lookup_dcookie"], Errno::ENOSYS),
            Answer(&["remap_file_pages"], Errno::ENOSYS),
        ],
    },
    Group {
        name: "@cpu-emulation",
        why: "segment tables and execution domains: switches off address randomisation, reaches old code paths",
        members: &[Calls(&["modify_ldt"]), When("personality", &[arg(0, Ne(0)), arg(0, Ne(PERSONALITY_ASK))], None)],
    },
    Group {
        name: "@io-uring",
        why: "does other calls where no filter sees them; programs fall back when it is not there",
        members: &[Answer(&["io_uring_setup", "io_uring_enter", "io_uring_register"], Errno::ENOSYS)],
    },
    Group {
        name: "@numa",
        why: "places and moves memory, also that of other processes; asking where it is stays possible",
        members: &[Calls(&["mbind", "set_mempolicy", "set_mempolicy_home_node", "migrate_pages", "move_pages"])],
    },
    Group {
        name: "@quota",
        why: "reads and changes other users' disk quotas",
        members: &[Calls(&["quotactl", "quotactl_fd"])],
    },
    Group {
        name: "@acct",
        why: "has the kernel write a record of every process into a file",
        members: &[Calls(&["acct"])],
    },
    Group {
        name: "@syslog",
        why: "reads the kernel's log, which holds addresses, and changes its level",
        members: &[Calls(&["syslog"])],
    },
    Group {
        name: "@privileged",
        why: "works for root only, so a workload without privileges loses nothing",
        members: &[
            Groups(&["@file-handle", "@module", "@reboot", "@swap", "@clock", "@raw-io", "@quota", "@acct"]),
            Groups(&["@syslog", "@device-nodes", "@raw-socket"]),
            Calls(&["vhangup", "sethostname", "setdomainname", "fanotify_init"]),
        ],
    },
    Group {
        name: "@resources",
        why: "raises or moves the share of processor, memory and priority that limits gave; breaks `nice` and `ulimit`",
        members: &[
            Calls(&["setpriority", "ioprio_set", "sched_setscheduler", "sched_setparam", "sched_setattr"]),
            Calls(&["sched_setaffinity", "setrlimit"]),
            // With a null pointer for the new limit it only asks.
            When("prlimit64", &[crate::rule::Arg::Arg64(crate::rule::Index(2), Ne(0))], None),
        ],
    },
    Group {
        name: "@network-exotic",
        why: "every socket family beyond UNIX, IPv4, IPv6 and netlink's routes: rarely used, often broken (AF_ALG, AF_PACKET, AF_VSOCK)",
        members: &[
            When("socket", EXOTIC_FAMILY, Some(Errno::EAFNOSUPPORT)),
            When("socketpair", EXOTIC_FAMILY, Some(Errno::EAFNOSUPPORT)),
            // nftables, audit, crypto, uevents: what libraries that probe for them take as "not in this kernel".
            When("socket", &[arg(0, Eq(AF_NETLINK)), arg(2, Ne(0))], Some(Errno::EPROTONOSUPPORT)),
        ],
    },
    Group {
        name: "@raw-socket",
        why: "makes IP packets by hand, or reads those of others",
        members: &[
            When("socket", &[arg(0, Eq(AF_INET)), arg(1, MaskedEq(SOCK_TYPE, SOCK_RAW))], None),
            When("socket", &[arg(0, Eq(AF_INET6)), arg(1, MaskedEq(SOCK_TYPE, SOCK_RAW))], None),
        ],
    },
    Group {
        name: "@tcp-unseen",
        why: "TCP that no rule on ports sees: Landlock looks at connect and bind of TCP, not at fast open, which connects \
              by sending, nor at MPTCP and SCTP",
        members: &[
            // What a kernel answers that has none of it: programs fall back to connect, and to TCP.
            When("sendto", &[arg(3, AnySet(MSG_FASTOPEN))], Some(Errno::EOPNOTSUPP)),
            When("sendmsg", &[arg(2, AnySet(MSG_FASTOPEN))], Some(Errno::EOPNOTSUPP)),
            When("sendmmsg", &[arg(3, AnySet(MSG_FASTOPEN))], Some(Errno::EOPNOTSUPP)),
            When("socket", &other_stream(AF_INET), Some(Errno::EPROTONOSUPPORT)),
            When("socket", &other_stream(AF_INET6), Some(Errno::EPROTONOSUPPORT)),
            When("socket", &of_kind(AF_INET, SOCK_SEQPACKET), Some(Errno::ESOCKTNOSUPPORT)),
            When("socket", &of_kind(AF_INET6, SOCK_SEQPACKET), Some(Errno::ESOCKTNOSUPPORT)),
            When("socket", &of_kind(AF_INET, SOCK_DCCP), Some(Errno::ESOCKTNOSUPPORT)),
            When("socket", &of_kind(AF_INET6, SOCK_DCCP), Some(Errno::ESOCKTNOSUPPORT)),
        ],
    },
    Group {
        name: "@tty-inject",
        why: "types into the caller's terminal, to be run by the caller's shell after the workload ended",
        members: &[When("ioctl", &[arg(1, Eq(TIOCSTI))], None), When("ioctl", &[arg(1, Eq(TIOCLINUX))], None)],
    },
    Group {
        name: "@device-nodes",
        why: "a device node reaches the driver behind it, whatever directory it is in",
        members: &[
            When("mknod", &[arg(1, MaskedEq(FILE_KIND, CHAR_DEVICE))], None),
            When("mknod", &[arg(1, MaskedEq(FILE_KIND, BLOCK_DEVICE))], None),
            When("mknodat", &[arg(2, MaskedEq(FILE_KIND, CHAR_DEVICE))], None),
            When("mknodat", &[arg(2, MaskedEq(FILE_KIND, BLOCK_DEVICE))], None),
        ],
    },
    Group {
        name: "@setuid-files",
        why: "leaves a file behind that runs as its owner for whoever starts it later",
        members: &[
            When("chmod", &[arg(1, AnySet(SETUID_SETGID))], None),
            When("fchmod", &[arg(1, AnySet(SETUID_SETGID))], None),
            When("fchmodat", &[arg(2, AnySet(SETUID_SETGID))], None),
            When("fchmodat2", &[arg(2, AnySet(SETUID_SETGID))], None),
            When("mknod", &[arg(1, AnySet(SETUID_SETGID))], None),
            When("mknodat", &[arg(2, AnySet(SETUID_SETGID))], None),
            When("creat", &[arg(1, AnySet(SETUID_SETGID))], None),
            When("open", &[arg(1, AnySet(CREATES)), arg(2, AnySet(SETUID_SETGID))], None),
            When("openat", &[arg(2, AnySet(CREATES)), arg(3, AnySet(SETUID_SETGID))], None),
            Unreadable("openat2"),
        ],
    },
    Group {
        name: "@default-deny",
        why: "the kernel surface that the policies of palisade close: all of the above that ordinary programs do without",
        members: &[
            Groups(&["@mount", "@keyring", "@debug", "@namespaces", "@obsolete", "@cpu-emulation", "@io-uring"]),
            Groups(&["@numa", "@privileged", "@network-exotic", "@tty-inject"]),
        ],
    },
];

const EXOTIC_FAMILY: &[crate::rule::Arg] =
    &[arg(0, Ne(AF_UNIX)), arg(0, Ne(AF_INET)), arg(0, Ne(AF_INET6)), arg(0, Ne(AF_NETLINK))];

/// A socket of this family and kind.
const fn of_kind(family: u64, kind: u64) -> [crate::rule::Arg; 2] {
    [arg(0, Eq(family)), arg(1, MaskedEq(SOCK_TYPE, kind))]
}

/// A stream of this family that is not TCP.
const fn other_stream(family: u64) -> [crate::rule::Arg; 4] {
    let [of_family, stream] = of_kind(family, SOCK_STREAM);
    [of_family, stream, arg(2, Ne(0)), arg(2, Ne(IPPROTO_TCP))]
}
