//! What the groups make of the calls.

use super::{
    ALLOW, EAFNOSUPPORT, ENOSYS, EOPNOTSUPP, EPERM, EPROTONOSUPPORT, ESOCKTNOSUPPORT, KILL, LOG, compile, filter,
};
use crate::calls::Arch;
use crate::{groups, program};

/// A call, its first arguments, and what `@default-deny` answers.
const DEFAULT_DENY: &[(&str, &[u64], u32)] = &[
    ("read", &[], ALLOW),
    ("openat", &[0, 0, 0o100, 0o644], ALLOW),
    ("execve", &[], ALLOW),
    ("mount", &[], EPERM),
    ("fsopen", &[], EPERM),
    ("open_tree", &[], EPERM),
    ("chroot", &[], EPERM),
    ("open_by_handle_at", &[], EPERM),
    ("add_key", &[], EPERM),
    ("keyctl", &[], EPERM),
    ("bpf", &[], EPERM),
    ("perf_event_open", &[], EPERM),
    ("userfaultfd", &[], EPERM),
    ("ptrace", &[], EPERM),
    ("process_vm_readv", &[], EPERM),
    ("pidfd_getfd", &[], EPERM),
    ("kcmp", &[], EPERM),
    ("io_uring_setup", &[], ENOSYS),
    ("kexec_load", &[], EPERM),
    ("reboot", &[], EPERM),
    ("init_module", &[], EPERM),
    ("finit_module", &[], EPERM),
    ("delete_module", &[], EPERM),
    ("setns", &[], EPERM),
    // A new namespace, and what shares without one.
    ("unshare", &[0x1000_0000], EPERM),
    ("unshare", &[0x80], EPERM),
    ("unshare", &[0x1000_0400], EPERM),
    ("unshare", &[0x400], ALLOW),
    ("clone", &[0x0002_0011], EPERM),
    ("clone", &[0x4000_0011], EPERM),
    ("clone", &[0x003d_0f00], ALLOW),
    ("clone", &[0x11], ALLOW),
    ("clone3", &[], ENOSYS),
    // The kernel looks at the low half of these flags, so rubbish above must not hide them.
    ("unshare", &[0xffff_0000_1000_0000], EPERM),
    ("personality", &[0], ALLOW),
    ("personality", &[0xffff_ffff], ALLOW),
    ("personality", &[0xffff_ffff_ffff_ffff], ALLOW),
    ("personality", &[0x0004_0000], EPERM),
    ("acct", &[], EPERM),
    ("swapon", &[], EPERM),
    ("swapoff", &[], EPERM),
    ("settimeofday", &[], EPERM),
    ("clock_adjtime", &[], EPERM),
    ("quotactl", &[], EPERM),
    ("syslog", &[], EPERM),
    ("set_mempolicy", &[], EPERM),
    ("move_pages", &[], EPERM),
    ("get_mempolicy", &[], ALLOW),
    // TIOCSTI as the kernel sees it: the low 32 bits.
    ("ioctl", &[0, 0x5412], EPERM),
    ("ioctl", &[0, 0xdead_beef_0000_5412], EPERM),
    ("ioctl", &[0, 0x541c], EPERM),
    ("ioctl", &[0, 0x5413], ALLOW),
    ("ioctl", &[0x5412, 0], ALLOW),
    ("socket", &[1, 1, 0], ALLOW),
    ("socket", &[2, 0x80801, 6], ALLOW),
    ("socket", &[10, 2, 0], ALLOW),
    ("socket", &[16, 3, 0], ALLOW),
    ("socket", &[16, 3, 12], EPROTONOSUPPORT),
    ("socket", &[16, 3, 9], EPROTONOSUPPORT),
    ("socket", &[38, 5, 0], EAFNOSUPPORT),
    ("socket", &[17, 3, 0], EAFNOSUPPORT),
    ("socket", &[40, 1, 0], EAFNOSUPPORT),
    ("socket", &[0, 1, 0], EAFNOSUPPORT),
    ("socket", &[0x1_0000_0026, 5, 0], EAFNOSUPPORT),
    ("socket", &[2, 3, 1], EPERM),
    ("socket", &[10, 0x80803, 58], EPERM),
    ("mknodat", &[0, 0, 0o020_666, 0x103], EPERM),
    ("mknodat", &[0, 0, 0o060_666, 0x103], EPERM),
    ("mknodat", &[0, 0, 0o010_666, 0], ALLOW),
    ("mknodat", &[0, 0, 0o140_666, 0], ALLOW),
    // Setuid files are a group of their own.
    ("fchmod", &[3, 0o4755], ALLOW),
];

#[test]
fn the_shipped_group_has_this_truth_table() {
    for arch in Arch::ALL {
        let compiled = compile("(deny: [Group(\"@default-deny\")])", arch);
        for (name, args, expected) in DEFAULT_DENY {
            let seen = compiled.call(name, args);
            assert_eq!(seen, *expected, "{arch:?}: {name}({args:#x?}) = {seen:#x}");
        }
    }
    let compiled = compile("(deny: [Group(\"@default-deny\")])", Arch::X86_64);
    for name in ["iopl", "ioperm", "modify_ldt"] {
        assert_eq!(compiled.call(name, &[]), EPERM, "{name}");
    }
    assert_eq!(compiled.call("uselib", &[]), ENOSYS);
    assert_eq!(compiled.call("mknod", &[0, 0o020_600]), EPERM);
}

#[test]
fn setuid_files_by_their_mode() {
    let compiled = compile("(deny: [Group(\"@setuid-files\")])", Arch::X86_64);
    for (name, args, expected) in [
        ("chmod", &[0, 0o4755][..], EPERM),
        ("chmod", &[0, 0o755], ALLOW),
        ("chmod", &[0, 0o1777], ALLOW),
        ("fchmod", &[3, 0o2755], EPERM),
        ("fchmodat", &[0, 0, 0o6755], EPERM),
        ("fchmodat2", &[0, 0, 0o4000], EPERM),
        ("creat", &[0, 0o4755], EPERM),
        ("open", &[0, 0o100, 0o4755], EPERM),
        ("openat", &[0, 0, 0o20_200_002, 0o4755], EPERM),
        // Without O_CREAT the mode is whatever was in the register.
        ("openat", &[0, 0, 0o2, 0xdead_beef], ALLOW),
        // O_DIRECTORY is a part of O_TMPFILE and creates nothing.
        ("openat", &[0, 0, 0o200_000, 0xdead_beef], ALLOW),
        ("openat", &[0, 0, 0o102, 0o644], ALLOW),
        ("openat2", &[], ENOSYS),
    ] {
        assert_eq!(compiled.call(name, args), expected, "{name}({args:?})");
    }
}

#[test]
fn tcp_that_landlock_does_not_see() {
    let compiled = compile("(deny: [Group(\"@tcp-unseen\")])", Arch::X86_64);
    let (fast_open, no_signal) = (0x2000_0000, 0x4000);
    for (name, args, expected) in [
        ("sendto", &[3, 0, 1, no_signal][..], ALLOW),
        ("sendto", &[3, 0, 1, fast_open | no_signal], EOPNOTSUPP),
        ("sendto", &[3, 0, 1, 0xffff_ffff_2000_0000], EOPNOTSUPP),
        ("sendmsg", &[3, 0, no_signal], ALLOW),
        ("sendmsg", &[3, 0, fast_open], EOPNOTSUPP),
        ("sendmmsg", &[3, 0, 1, fast_open], EOPNOTSUPP),
        // TCP by default and by its number; UDP, ICMP, UNIX and netlink are for others to close.
        ("socket", &[2, 1, 0], ALLOW),
        ("socket", &[10, 0x80801, 6], ALLOW),
        ("socket", &[2, 2, 17], ALLOW),
        ("socket", &[2, 2, 1], ALLOW),
        ("socket", &[1, 5, 0], ALLOW),
        ("socket", &[16, 3, 0], ALLOW),
        // MPTCP, SCTP in both forms, DCCP.
        ("socket", &[2, 1, 262], EPROTONOSUPPORT),
        ("socket", &[10, 0x80801, 262], EPROTONOSUPPORT),
        ("socket", &[2, 1, 132], EPROTONOSUPPORT),
        ("socket", &[2, 5, 132], ESOCKTNOSUPPORT),
        ("socket", &[10, 0x80806, 33], ESOCKTNOSUPPORT),
    ] {
        assert_eq!(compiled.call(name, args), expected, "{name}({args:x?})");
    }
}

#[test]
fn deny_action_and_answers_reach_into_groups_but_not_into_fallbacks() {
    let text = "(deny_action: KillProcess, deny: [Group(\"@default-deny\")])";
    let compiled = compile(text, Arch::X86_64);
    assert_eq!(compiled.call("mount", &[]), KILL);
    assert_eq!(compiled.call("clone3", &[]), ENOSYS);
    assert_eq!(compiled.call("socket", &[38]), EAFNOSUPPORT);
    let compiled = compile("(deny: [Answer(Group(\"@default-deny\"), KillProcess)])", Arch::X86_64);
    assert_eq!(compiled.call("socket", &[38]), KILL);
    assert_eq!(compiled.call("io_uring_setup", &[]), KILL);
    assert_eq!(compiled.call("clone3", &[]), ENOSYS);
    // Trying a list out changes nothing but the audit log.
    let compiled = compile("(deny_action: Log, deny: [Group(\"@default-deny\")])", Arch::X86_64);
    for name in ["mount", "clone3", "io_uring_setup", "acct"] {
        assert_eq!(compiled.call(name, &[]), LOG, "{name}");
    }
    assert_eq!(compiled.call("socket", &[38]), LOG);
    assert_eq!(compiled.call("socket", &[1]), ALLOW);
}

#[test]
fn the_default_allow_list_complements_the_deny_list() {
    for arch in Arch::ALL {
        let list = "(default: Errno(\"EPERM\"), allow: [Group(\"@default-allow\")], deny: [Group(\"@default-deny\")])";
        let (allowed, denied) = (compile(list, arch), compile("(deny: [Group(\"@default-deny\")])", arch));
        for (name, number) in arch.calls() {
            for args in [[0; 6], [1, 0x5412, 0o4755, 0x5412, 0, 0], [u64::MAX; 6]] {
                assert_eq!(allowed.number(number, args), denied.number(number, args), "{arch:?} {name}");
            }
        }
    }
}

#[test]
fn every_group_compiles_on_either_side() {
    for arch in Arch::ALL {
        for group in groups::all().filter(|group| !["@launch", "@basic", "@default-allow"].contains(&group.name)) {
            // Only the parts of a group that a launch does not need can be denied alone.
            let text = format!("(deny: [Group(\"{}\")])", group.name);
            if let Ok(table) = filter(&text).table(arch) {
                assert!(program::compile(&table, &|_number| program::Ask::Nothing).is_ok(), "{}", group.name);
            }
        }
        for group in groups::all() {
            compile(&format!("(default: Trap, allow: [Group(\"@launch\"), Group(\"{}\")])", group.name), arch);
        }
    }
}
