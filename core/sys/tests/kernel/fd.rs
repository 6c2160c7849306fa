//! Descriptors: sealed files, what survives exec, and what is closed.

use std::fs::File;
use std::io::Write as _;
use std::os::fd::{AsFd as _, AsRawFd as _, IntoRawFd as _, OwnedFd, RawFd};

use nix::fcntl::{FcntlArg, SealFlag, fcntl};
use palisade_sys::{Errno, fd};

use crate::confine::{answering, install};
use crate::help::{TempDir, become_shell, good, good_as_nobody, refused};
use crate::runner::cases;

cases![
    a_sealed_file_cannot_be_changed,
    clear_cloexec_survives_exec_and_its_absence_does_not,
    set_cloexec_from_closes_at_exec,
    close_range_from_closes_now_but_what_is_kept,
    a_filter_that_hides_close_range_is_survived,
    a_duplicate_is_never_a_standard_stream,
    small_files_are_read_and_written_and_links_refused,
];

/// What anybody with the descriptor could try: each act, and whether it worked.
fn attempts(file: &OwnedFd) -> Vec<(&'static str, bool)> {
    let again = std::fs::OpenOptions::new().write(true).open(fd::proc_fd_path(file));
    let mut handle = File::from(fd::dup_cloexec(file).unwrap());
    let protection = libc::PROT_READ | libc::PROT_WRITE;
    // SAFETY: the kernel chooses the place, and nothing is written there; upheld by the null address; else other memory is lost.
    let at = unsafe { libc::mmap(std::ptr::null_mut(), 4096, protection, libc::MAP_SHARED, file.as_raw_fd(), 0) };
    let mapped = at != libc::MAP_FAILED;
    if mapped {
        // SAFETY: the range was mapped just above and nobody refers to it; upheld by this block; else a later access faults.
        unsafe { libc::munmap(at, 4096) };
    }
    vec![
        ("map for writing", mapped),
        ("write", handle.write(b"changed").is_ok()),
        ("write through another opening", again.and_then(|mut again| again.write(b"changed")).is_ok()),
        ("grow", handle.set_len(100_000).is_ok()),
        ("shrink", handle.set_len(1).is_ok()),
        ("seal more", fcntl(file, FcntlArg::F_ADD_SEALS(SealFlag::F_SEAL_SEAL)).is_ok()),
    ]
}

fn a_sealed_file_cannot_be_changed() {
    let bytes = vec![b'x'; 10_000];
    let open = nix::sys::memfd::memfd_create(c"open", nix::sys::memfd::MFdFlags::MFD_ALLOW_SEALING).unwrap();
    File::from(fd::dup_cloexec(&open).unwrap()).write_all(&bytes).unwrap();
    assert!(attempts(&open).iter().all(|(_, worked)| *worked), "{:?}", attempts(&open));
    let sealed = fd::memfd_sealed("sealed", &bytes).unwrap();
    let tried = attempts(&sealed);
    assert!(tried.len() == 6 && tried.iter().all(|(_, worked)| !worked), "{tried:?}");
    assert_eq!(std::fs::read(fd::proc_fd_path(&sealed)).unwrap(), bytes);
    assert!(!fd::is_inherited(sealed.as_raw_fd()).unwrap());
    refused(fd::memfd_sealed("nul\0", b""), Errno::EINVAL);
}

/// Three pipe ends that survive exec, their owner given up, at numbers that follow one another.
fn inherited() -> [RawFd; 3] {
    [(); 3].map(|()| {
        let (end, _) = fd::pipe().unwrap();
        fd::clear_cloexec(&end).unwrap();
        end.into_raw_fd()
    })
}

fn is_open(number: RawFd) -> bool {
    fd::borrow(number).is_ok()
}

/// Becomes a program and says which of these descriptors it has.
fn become_witness(numbers: [RawFd; 3]) -> ! {
    let [a, b, c] = numbers;
    become_shell(&format!("for fd in {a} {b} {c}; do [ -e /proc/self/fd/$fd ] && echo $fd; done; exit 0"))
}

fn listed(numbers: &[RawFd]) -> String {
    numbers.iter().map(|number| format!("{number}\n")).collect()
}

fn clear_cloexec_survives_exec_and_its_absence_does_not() {
    let ends = [(); 3].map(|()| fd::pipe().unwrap().0);
    let numbers = [ends[0].as_raw_fd(), ends[1].as_raw_fd(), ends[2].as_raw_fd()];
    let said = good(0, || {
        fd::clear_cloexec(&ends[1]).unwrap();
        assert!(fd::is_inherited(numbers[1]).unwrap() && !fd::is_inherited(numbers[0]).unwrap());
        become_witness(numbers)
    });
    assert_eq!(said, listed(&numbers[1..2]));
}

fn set_cloexec_from_closes_at_exec() {
    let numbers = inherited();
    assert_eq!(good(0, || become_witness(numbers)), listed(&numbers));
    let said = good(0, || {
        fd::set_cloexec_from(numbers[1]).unwrap();
        assert!(numbers.iter().all(|number| is_open(*number)));
        become_witness(numbers)
    });
    assert_eq!(said, listed(&numbers[..1]));
    let said = good(0, || {
        fd::set_cloexec_from(3).unwrap();
        fd::clear_cloexec(fd::borrow(numbers[2]).unwrap()).unwrap();
        become_witness(numbers)
    });
    assert_eq!(said, listed(&numbers[2..]));
}

fn close_range_from_closes_now_but_what_is_kept() {
    let numbers = inherited();
    good(0, || {
        let far = 900;
        fd::dup_to(fd::borrow(numbers[0]).unwrap(), far).unwrap();
        assert!(numbers.iter().all(|number| is_open(*number)) && is_open(far));
        fd::close_range_from(numbers[0], &[far, numbers[1], numbers[1], 1]).unwrap();
        assert_eq!(numbers.map(is_open), [false, true, false]);
        assert!(is_open(far) && is_open(0) && is_open(2));
        fd::close_range_from(3, &[]).unwrap();
        assert!(!is_open(far) && !is_open(numbers[1]) && is_open(0) && is_open(2));
    });
    assert!(numbers.iter().all(|number| is_open(*number)));
}

fn a_filter_that_hides_close_range_is_survived() {
    let numbers = inherited();
    let hidden = || install(&answering(libc::SYS_close_range, libc::ENOSYS));
    let said = good(0, || {
        hidden();
        fd::set_cloexec_from(numbers[1]).unwrap();
        become_witness(numbers)
    });
    assert_eq!(said, listed(&numbers[..1]));
    good(0, || {
        hidden();
        fd::close_range_from(3, &[numbers[1]]).unwrap();
        assert_eq!(numbers.map(is_open), [false, true, false]);
    });
}

fn a_duplicate_is_never_a_standard_stream() {
    good(0, || {
        let (end, _other) = fd::pipe().unwrap();
        // SAFETY: nothing owns standard input in this process; upheld by this case, which does not read it; else a reader gets EBADF.
        assert_eq!(unsafe { libc::close(0) }, 0);
        let plain = end.try_clone().unwrap();
        let copy = fd::dup_cloexec(&end).unwrap();
        assert!(copy.as_raw_fd() > 2 && plain.as_raw_fd() != copy.as_raw_fd());
        assert!(!fd::is_inherited(copy.as_raw_fd()).unwrap());
        assert!(fd::is_same_file(&copy, &end).unwrap() && !fd::is_same_file(&copy, another_file()).unwrap());
        fd::dup_to(&end, 0).unwrap();
        assert!(fd::is_inherited(0).unwrap());
        refused(fd::dup_to(&end, 1 << 30), Errno::EBADF);
    });
}

fn another_file() -> OwnedFd {
    fd::open_path("/", fd::O_PATH).unwrap()
}

fn small_files_are_read_and_written_and_links_refused() {
    let dir = TempDir::new("files");
    let at = dir.open();
    let file = dir.file("file", "text");
    std::os::unix::fs::symlink(&file, dir.join("link")).unwrap();
    assert_eq!(fd::read_to_string_at(&at, "file").unwrap(), "text");
    let error = refused(fd::read_at(&at, "link"), Errno::ELOOP);
    assert!(error.call().starts_with("openat(") && error.call().ends_with("\"link\", O_NOFOLLOW)"), "{error}");
    fd::write_at(&at, "file", b"TEXT").unwrap();
    refused(fd::write_at(&at, "link", b"through"), Errno::ELOOP);
    assert_eq!(std::fs::read(&file).unwrap(), b"TEXT");
    dir.file("bytes", "");
    std::fs::write(dir.join("bytes"), [0xff, 0xfe]).unwrap();
    refused(fd::read_to_string_at(&at, "bytes"), Errno::EILSEQ);
    assert!(fd::fstat_at(&at, "link").unwrap().is_symlink() && fd::fstat_at(&at, "file").unwrap().is_file());
    assert_eq!(fd::readlink_at(&at, "link").unwrap(), file.as_os_str());
    let handle = fd::open_at(&at, "file", fd::O_PATH).unwrap();
    assert_eq!(fd::fd_path(handle.as_fd()).unwrap(), file);
    fd::mkdir_at(&at, "sub", 0o700).unwrap();
    refused(fd::mkdir_at(&at, "sub", 0o700), Errno::EEXIST);
    fd::may_write(dir.path()).unwrap();
    good_as_nobody(|| drop(refused(fd::may_write(dir.path()), Errno::EACCES)));
    fd::rmdir_at(&at, "sub").unwrap();
    refused(fd::rmdir_at(&at, "sub"), Errno::ENOENT);
}
