//! Profiles of the container world.

use super::*;
use crate::action::Action;
use crate::oci;

const KERNEL: (u32, u32) = (6, 1);

/// A profile in the shape of those that container engines ship.
const SHIPPED: &str = r#"{
    "defaultAction": "SCMP_ACT_ERRNO", "defaultErrnoRet": 1,
    "archMap": [{"architecture": "SCMP_ARCH_X86_64", "subArchitectures": ["SCMP_ARCH_X86"]}],
    "syscalls": [
        {"names": ["read", "write", "execve", "exit", "exit_group", "rt_sigreturn", "a_call_to_come",
            "recvfrom", "recvmsg", "sendto"], "action": "SCMP_ACT_ALLOW"},
        {"names": ["ptrace"], "action": "SCMP_ACT_ALLOW", "includes": {"minKernel": "4.8"}},
        {"names": ["io_uring_setup"], "action": "SCMP_ACT_ALLOW", "includes": {"minKernel": "6.2"}},
        {"names": ["mount"], "action": "SCMP_ACT_ALLOW", "includes": {"caps": ["CAP_SYS_ADMIN"]}},
        {"names": ["arch_prctl"], "action": "SCMP_ACT_ALLOW", "includes": {"arches": ["amd64", "x32"]}},
        {"names": ["clone"], "action": "SCMP_ACT_ALLOW", "comment": "no new namespaces",
            "args": [{"index": 0, "value": 2114060288, "op": "SCMP_CMP_MASKED_EQ"}],
            "excludes": {"caps": ["CAP_SYS_ADMIN"], "arches": ["s390", "s390x"]}},
        {"names": ["clone3"], "action": "SCMP_ACT_ERRNO", "errnoRet": 38, "excludes": {"caps": ["CAP_SYS_ADMIN"]}},
        {"names": ["personality"], "action": "SCMP_ACT_ALLOW",
            "args": [{"index": 0, "value": 0, "op": "SCMP_CMP_EQ"}, {"index": 0, "value": 8, "op": "SCMP_CMP_EQ"}]},
        {"names": ["socket"], "action": "SCMP_ACT_LOG",
            "args": [{"index": 0, "value": 40, "op": "SCMP_CMP_NE"}, {"index": 1, "value": 5, "valueTwo": 0, "op": "SCMP_CMP_GT"}]},
        {"name": "reboot", "action": "SCMP_ACT_KILL_PROCESS"}
    ]
}"#;

/// As a section of a policy would have it.
fn compiled(profile: &str, arch: Arch) -> Compiled {
    let profile = oci::read(profile, arch, KERNEL).unwrap();
    let mut config = parse("()").unwrap();
    config.default = profile.default.map(Into::into);
    config.deny = profile.deny.into_iter().map(Into::into).collect();
    config.allow = profile.allow.into_iter().map(Into::into).collect();
    let table = crate::table::build(&config, arch);
    Compiled { arch, program: program::compile(&table, &|_number| program::Ask::Nothing).unwrap() }
}

#[test]
fn a_profile_means_here_what_it_means_there() {
    let x86 = compiled(SHIPPED, Arch::X86_64);
    for (call, args, answer) in [
        ("read", &[][..], ALLOW),
        ("getuid", &[], EPERM),
        ("ptrace", &[], ALLOW),
        ("io_uring_setup", &[], EPERM),
        ("mount", &[], EPERM),
        ("arch_prctl", &[], ALLOW),
        ("clone", &[0x0120_0011], ALLOW),
        ("clone", &[0x1000_0011], EPERM),
        ("clone3", &[], ENOSYS),
        ("personality", &[0], ALLOW),
        ("personality", &[8], ALLOW),
        ("personality", &[4], EPERM),
        ("socket", &[2, 6], LOG),
        ("socket", &[40, 6], EPERM),
        ("socket", &[2, 5], EPERM),
        ("reboot", &[], KILL),
    ] {
        assert_eq!(x86.call(call, args), answer, "{call} {args:?}");
    }
    // All 64 bits count, as with libseccomp.
    assert_eq!(x86.call("personality", &[1 << 32]), EPERM);
    let arm = compiled(SHIPPED, Arch::Aarch64);
    assert_eq!(arm.call("read", &[]), ALLOW);
    assert_eq!(arm.call("mount", &[]), EPERM);
}

#[test]
fn what_is_not_known_is_left_out_and_counted() {
    let profile = oci::read(SHIPPED, Arch::X86_64, KERNEL).unwrap();
    assert_eq!(profile.unknown.into_iter().collect::<Vec<_>>(), ["a_call_to_come"]);
    let plain = r#"{"defaultAction": "SCMP_ACT_ALLOW", "flags": ["SECCOMP_FILTER_FLAG_LOG", "SECCOMP_FILTER_FLAG_TSYNC"],
        "syscalls": [{"names": ["acct"], "action": "SCMP_ACT_ALLOW"}, {"names": ["acct"], "action": "SCMP_ACT_TRAP"}]}"#;
    let plain = oci::read(plain, Arch::X86_64, KERNEL).unwrap();
    assert_eq!((plain.default, plain.allow.len(), plain.deny.len(), plain.log), (Some(Action::Allow), 0, 1, true));
}

#[test]
fn a_profile_that_cannot_be_had_is_refused() {
    let rule = |rule: &str| format!(r#"{{"defaultAction": "SCMP_ACT_ALLOW", "syscalls": [{rule}]}}"#);
    for (text, said) in [
        ("(default: Allow)".to_owned(), "expected value at line 1"),
        (r#"{"syscalls": []}"#.to_owned(), "missing field `defaultAction`"),
        (r#"{"defaultAction": "SCMP_ACT_DENY"}"#.to_owned(), "unknown variant `SCMP_ACT_DENY`"),
        (r#"{"defaultAction": "SCMP_ACT_ERRNO", "defaultErrnoRet": 0}"#.to_owned(), "0 is no errno"),
        (r#"{"defaultAction": "SCMP_ACT_ALLOW", "listenerPath": "/run/x"}"#.to_owned(), "there is no listener"),
        (
            r#"{"defaultAction": "SCMP_ACT_ALLOW", "flags": ["SECCOMP_FILTER_FLAG_SPEC_ALLOW"]}"#.to_owned(),
            "cannot be had",
        ),
        (r#"{"defaultAction": "SCMP_ACT_ALLOW", "sycalls": []}"#.to_owned(), "unknown field `sycalls`"),
        (rule(r#"{"names": ["acct"], "action": "SCMP_ACT_TRACE"}"#), "needs a tracer"),
        (
            rule(r#"{"names": ["acct"], "action": "SCMP_ACT_TRAP", "excludes": {"minKernel": "new"}}"#),
            "no version such as",
        ),
        (rule(r#"{"names": ["acct"], "action": "SCMP_ACT_NOTIFY"}"#), "needs a listener"),
        (rule(r#"{"names": ["acct"], "action": "SCMP_ACT_ERRNO", "errnoRet": 5000}"#), "5000 is no errno"),
        (
            rule(
                r#"{"names": ["acct"], "action": "SCMP_ACT_TRAP", "args": [{"index": 6, "value": 0, "op": "SCMP_CMP_EQ"}]}"#,
            ),
            "no call has an argument 6",
        ),
        (rule(r#"{"names": ["acct"], "action": "SCMP_ACT_TRAP", "capabilities": []}"#), "unknown field `capabilities`"),
    ] {
        let error = oci::read(&text, Arch::X86_64, KERNEL).unwrap_err();
        assert!(error.contains(said), "{text}: {error}");
    }
}

#[test]
fn the_section_reads_the_file_when_it_is_planned() {
    let dir = std::env::temp_dir().join(format!("palisade-profile-{}", std::process::id()));
    std::fs::create_dir(&dir).unwrap();
    let host = Host::new(
        [("plugins", "privileges"), ("kernel_major", "6"), ("kernel_minor", "1")]
            .map(|(k, v)| (k.to_owned(), v.to_owned())),
    );
    let plan = |name: &str, more: &str| {
        let text = format!("(oci_profile: \"{}/{name}\"{more})", dir.display());
        filter(&text).plan(&host).map(|steps| format!("{steps:?}"))
    };
    std::fs::write(dir.join("good"), SHIPPED).unwrap();
    std::fs::write(dir.join("open"), r#"{"defaultAction": "SCMP_ACT_ALLOW"}"#).unwrap();
    std::fs::write(dir.join("long"), vec![b' '; (1 << 20) + 1]).unwrap();
    let results = ["good", "none", "open", "long"].map(|name| plan(name, ""));
    let wider = plan("good", ", default: Allow");
    std::fs::remove_dir_all(&dir).unwrap();
    let [good, none, open, long] = results;
    assert!(good.unwrap().contains("/good; 1 name in it is no call that is known"));
    let none = none.unwrap_err();
    assert!(none.kind == palisade_abi::ErrorKind::Host && none.message.contains("/none: No such file"), "{none:?}");
    assert!(open.unwrap_err().message.contains("lets every call through"));
    assert!(long.unwrap_err().message.contains("larger than 1 MiB"));
    // What the policy itself says of the rest wins over the profile.
    assert!(wider.unwrap().contains("allows the rest"));
}
