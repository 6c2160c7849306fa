//! Facts about the machine, each against another way to learn it.

use std::process::Command;

use palisade_sys::{Errno, host, process};

use crate::help::{self, become_nobody, good, refused, run};
use crate::runner::cases;

cases![
    the_kernel_is_what_uname_prints,
    settings_are_read_by_either_spelling,
    the_boot_id_is_this_boots,
    the_build_id_is_the_files,
    gained_privileges_are_noticed,
];

fn output(program: &str, args: &[&str]) -> String {
    let output = Command::new(program).args(args).output().unwrap();
    assert!(output.status.success(), "{program}: {output:?}");
    String::from_utf8(output.stdout).unwrap().trim_end().to_owned()
}

fn the_kernel_is_what_uname_prints() {
    let (release, machine) = host::uname().unwrap();
    assert_eq!((release.clone(), machine), (output("uname", &["-r"]), output("uname", &["-m"])));
    let (major, minor) = host::kernel_version().unwrap();
    assert!(release.starts_with(&format!("{major}.{minor}")), "{release}");
    assert!((major, minor) >= (5, 10), "the floor is Linux 5.10");
    assert_eq!(host::clock_ticks().to_string(), output("getconf", &["CLK_TCK"]));
}

fn settings_are_read_by_either_spelling() {
    let pid_max = std::fs::read_to_string("/proc/sys/kernel/pid_max").unwrap();
    assert_eq!(host::sysctl("kernel.pid_max").unwrap(), pid_max.trim());
    assert_eq!(host::sysctl("kernel/pid_max").unwrap(), pid_max.trim());
    refused(host::sysctl("kernel.no_such_setting"), Errno::ENOENT);
    refused(host::sysctl("../../etc/passwd"), Errno::EXDEV);
}

fn the_boot_id_is_this_boots() {
    let id = host::boot_id().unwrap();
    assert_eq!((id.len(), id.matches('-').count()), (36, 4));
    assert_eq!(id, host::boot_id().unwrap());
    assert_eq!(id, help::own_host("kernel.random.boot_id"));
    assert_ne!(id, help::own_host("kernel.random.uuid"), "the neighbouring file is drawn anew each time");
}

/// The linker's note in a file: lengths and type, "GNU", and 20 bytes.
fn note_in(bytes: &[u8]) -> Option<String> {
    let head = b"\x04\0\0\0\x14\0\0\0\x03\0\0\0GNU\0";
    let at = bytes.windows(head.len()).position(|window| window == head)? + head.len();
    Some(bytes.get(at..at + 20)?.iter().map(|byte| format!("{byte:02x}")).collect())
}

fn the_build_id_is_the_files() {
    let exe = std::env::current_exe().unwrap();
    let id = host::build_id_of_self().unwrap();
    match note_in(&std::fs::read(&exe).unwrap()) {
        Some(note) => assert_eq!(id, note),
        None => assert!(id.starts_with("file-"), "{id}"),
    }
    assert_eq!(output(exe.to_str().unwrap(), &["--print-build-id"]), id);
}

fn gained_privileges_are_noticed() {
    let dir = help::TempDir::new("secure");
    help::chmod(dir.path(), 0o755);
    let copy = dir.join("program");
    std::fs::copy(std::env::current_exe().unwrap(), &copy).unwrap();
    let gains = |mode: u32| {
        help::chown(&copy, 54321);
        help::chmod(&copy, mode);
        let said = good(0, || {
            become_nobody();
            help::become_shell(&format!("{} --print-gained", copy.display()));
        });
        said.trim() == "true"
    };
    assert!(!gains(0o755));
    assert!(gains(0o4755));
    assert!(!host::gained_privileges());
    assert_eq!(run(0, || process::exit_now(i32::from(host::gained_privileges()))).ended.shell_code(), 0);
}
