//! Programs: finding them, becoming them, and what they may gain.

use std::ffi::{CString, OsStr};
use std::os::fd::AsFd as _;
use std::os::unix::ffi::OsStrExt as _;
use std::path::Path;

use palisade_sys::mount::MountFlags;
use palisade_sys::process::{self, Ended, Program, ProgramError};
use palisade_sys::{Errno, fd};

use crate::help::{
    self, NOBODY, TempDir, become_nobody, become_shell, chmod, chown, good, in_private_mounts, run, tmpfs_at,
};
use crate::runner::cases;

cases![
    a_program_is_found_as_a_shell_would,
    exec_becomes_the_program_with_its_words,
    exec_by_descriptor_needs_no_name,
    a_failed_exec_says_why,
    no_new_privs_takes_the_set_user_id_bit_away,
    securebits_take_roots_privileges_away,
];

fn find(name: impl AsRef<OsStr>, path: &str) -> Result<CString, ProgramError> {
    process::find_program(name.as_ref(), Some(OsStr::new(path)))
}

fn a_program_is_found_as_a_shell_would() {
    let (first, second) = (TempDir::new("first"), TempDir::new("second"));
    let path = format!("{}:{}", first.path().display(), second.path().display());
    let tool = second.file("tool", "#!/bin/sh\n");
    assert_eq!(find("tool", &path).unwrap_err().exit_code(), 126);
    chmod(&tool, 0o755);
    let found = |path: &Path| CString::new(path.as_os_str().as_bytes()).unwrap();
    assert_eq!(find("tool", &path).unwrap(), found(&tool));
    // One that cannot be run, or a directory of that name, does not hide a later one that can.
    let plain = first.file("tool", "");
    assert_eq!(find("tool", &path).unwrap(), found(&tool));
    std::fs::remove_file(&plain).unwrap();
    std::fs::create_dir(&plain).unwrap();
    assert_eq!(find("tool", &path).unwrap(), found(&tool));
    std::fs::remove_dir(&plain).unwrap();
    chmod(&first.file("tool", ""), 0o755);
    assert_eq!(find("tool", &path).unwrap(), found(&plain));
    // Nothing is taken from where the caller happens to stand.
    std::env::set_current_dir(first.path()).unwrap();
    assert_eq!(find("tool", ":.:relative").unwrap_err().exit_code(), 127);
    assert_eq!(find("./tool", "").unwrap(), c"./tool".to_owned());
    // Rights are those of the ids of now.
    chmod(&tool, 0o700);
    find(&tool, "").unwrap();
    good(0, || {
        become_nobody();
        assert_eq!(find(&tool, "").unwrap_err().exit_code(), 126);
    });
}

fn words(all: &[&str]) -> Vec<CString> {
    all.iter().map(|word| CString::new(*word).unwrap()).collect()
}

fn exec_becomes_the_program_with_its_words() {
    let out = run(0, || {
        let argv = words(&["its-name", "-c", "echo \"$0|$1|$X|$PATH\" >&2; exit 3", "zero", "one two"]);
        panic!("{}", process::exec(Program::Path(c"/bin/sh"), &argv, &words(&["X=y", "PATH=/p"])));
    });
    assert_eq!((out.said.as_str(), out.ended), ("zero|one two|y|/p\n", Ended::Exited(3)));
    assert!(out.usage.max_rss_kib > 0);
}

fn exec_by_descriptor_needs_no_name() {
    let bytes = std::fs::read("/bin/true").unwrap();
    let file = fd::memfd_sealed("truth", &bytes).unwrap();
    let exec = |file: std::os::fd::BorrowedFd<'_>| process::exec(Program::Fd(file), &words(&["true"]), &[]);
    assert_eq!(run(0, || panic!("{}", exec(file.as_fd()))).ended, Ended::Exited(0));
    let falsehood = fd::open_path("/bin/false", fd::O_PATH).unwrap();
    assert_eq!(run(0, || panic!("{}", exec(falsehood.as_fd()))).ended, Ended::Exited(1));
    // A script's interpreter opens the file again, so the descriptor must still be there.
    let script = fd::memfd_sealed("script", b"#!/bin/sh\nexit 5\n").unwrap();
    let error = exec(script.as_fd());
    assert_eq!(error.kind(), Errno::ENOENT, "{error}");
    // It opens it as /dev/fd/N, which a view must have.
    in_private_mounts(|| {
        tmpfs_at(Path::new("/dev"), MountFlags::NONE);
        let ended = || {
            let clear = || fd::clear_cloexec(&script).unwrap();
            run(0, || panic!("{}", (clear(), exec(script.as_fd())).1)).ended
        };
        assert!(!matches!(ended(), Ended::Exited(0 | 5)));
        std::os::unix::fs::symlink("/proc/self/fd", "/dev/fd").unwrap();
        assert_eq!(ended(), Ended::Exited(5));
    });
}

fn a_failed_exec_says_why() {
    let dir = TempDir::new("programs");
    let path = |name: &str| CString::new(dir.join(name).as_os_str().as_bytes()).unwrap();
    let exec = |name: &str| process::exec(Program::Path(&path(name)), &words(&["x"]), &[]);
    let hinted = |name: &str, errno, word: &str| {
        let error = exec(name);
        assert_eq!(error.kind(), errno, "{error}");
        assert!(error.hint().unwrap().contains(word), "{error:?}");
    };
    chmod(&dir.file("garbage", "no program"), 0o755);
    hinted("garbage", Errno::ENOEXEC, "ELF");
    chmod(&dir.file("lost", "#!/no/such/shell\n"), 0o755);
    hinted("lost", Errno::ENOENT, "interpreter");
    dir.file("plain", "#!/bin/sh\n");
    hinted("plain", Errno::EACCES, "permission");
    chmod(&dir.file("runs", "#!/bin/sh\nexit 0\n"), 0o755);
    assert_eq!(run(0, || panic!("{}", exec("runs"))).ended, Ended::Exited(0));
}

fn no_new_privs_takes_the_set_user_id_bit_away() {
    const OWNER: u32 = 54321;
    let dir = TempDir::new("suid");
    chmod(dir.path(), 0o755);
    let id = dir.join("id");
    std::fs::copy("/usr/bin/id", &id).unwrap();
    chown(&id, OWNER);
    chmod(&id, 0o4755);
    let script = format!("{} -u", id.display());
    let effective = |bare: bool| {
        good(0, || {
            become_nobody();
            assert!(!process::no_new_privs().unwrap());
            if bare {
                process::set_no_new_privs().unwrap();
                assert!(process::no_new_privs().unwrap());
            }
            become_shell(&script);
        })
    };
    assert_eq!(effective(false).trim(), OWNER.to_string());
    assert_eq!(effective(true).trim(), NOBODY.to_string());
}

fn securebits_take_roots_privileges_away() {
    let effective = |bits: u32| {
        let text = good(0, || {
            process::set_securebits(bits).unwrap();
            assert_eq!(process::securebits().unwrap(), bits);
            become_shell("cat /proc/self/status");
        });
        u64::from_str_radix(&help::line(&text, "CapEff"), 16).unwrap()
    };
    assert_ne!(effective(0), 0);
    assert_eq!(effective(process::SECBIT_NOROOT | process::SECBIT_NOROOT_LOCKED), 0);
    good(0, || {
        process::set_securebits(process::SECBIT_NOROOT | process::SECBIT_NOROOT_LOCKED).unwrap();
        let error = help::refused(process::set_securebits(0), Errno::EPERM);
        assert!(error.hint().unwrap().contains("locked"), "{error:?}");
    });
}
