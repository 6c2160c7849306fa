//! Capabilities: what is dropped is gone for the calls that need it and for programs, and cannot be had again.

use palisade_sys::caps::{self, CapSet, Caps};
use palisade_sys::process::{self, Ended};
use palisade_sys::{Errno, ids};

use crate::help::{self, NOBODY, TempDir, become_nobody, become_shell, chown, good, good_as_nobody, refused, run};
use crate::runner::cases;

cases![
    without_the_effective_one_the_call_is_refused,
    what_left_permitted_does_not_come_back,
    what_left_the_bounding_set_no_program_has,
    ambient_ones_reach_a_program_of_an_ordinary_user,
    keep_caps_keeps_permitted_through_a_change_of_uid,
    the_highest_one_is_the_kernels,
    groups_and_ids_are_set_and_refused,
];

fn cap(name: &str) -> u8 {
    caps::number(name).unwrap()
}

fn try_chown(path: &std::path::Path) -> bool {
    std::os::unix::fs::chown(path, Some(NOBODY), None).is_ok()
}

fn without_the_effective_one_the_call_is_refused() {
    let dir = TempDir::new("caps");
    let file = dir.file("file", "");
    let full = caps::get().unwrap();
    assert!(full.effective.contains(cap("CHOWN")) && try_chown(&file));
    chown(&file, 0);
    let without = Caps { effective: full.effective.without(cap("CAP_CHOWN")), ..full };
    caps::set(without).unwrap();
    assert_eq!(caps::get().unwrap(), without);
    assert!(!try_chown(&file));
    // It is still permitted, so it can be made effective again.
    caps::set(full).unwrap();
    assert!(try_chown(&file));
}

fn what_left_permitted_does_not_come_back() {
    good(0, || {
        let full = caps::get().unwrap();
        assert_eq!(full.inheritable, CapSet::EMPTY, "a CVE-2022-24769 of this host");
        let less = full.permitted.without(cap("CHOWN"));
        caps::set(Caps { effective: less, permitted: less, inheritable: CapSet::EMPTY }).unwrap();
        let error = refused(caps::set(full), Errno::EPERM);
        assert!(error.call().starts_with("capset(effective: [CAP_CHOWN,"), "{error}");
        assert!(error.hint().unwrap().contains("shrink"));
        caps::set(Caps::default()).unwrap();
        assert_eq!(caps::get().unwrap(), Caps::default());
        let text = help::own("status");
        assert_eq!(u64::from_str_radix(&help::line(&text, "CapPrm"), 16).unwrap(), 0);
    });
}

fn what_left_the_bounding_set_no_program_has() {
    let dir = TempDir::new("bounding");
    let file = dir.file("file", "");
    let script = format!("chown {NOBODY} {}", file.display());
    let before = caps::bounding().unwrap();
    assert!(before.contains(cap("CHOWN")) && before.contains(cap("SETPCAP")));
    assert_eq!(run(0, || become_shell(&script)).ended, Ended::Exited(0));
    chown(&file, 0);
    let out = run(0, || {
        caps::drop_bounding(cap("CHOWN")).unwrap();
        assert_eq!(caps::bounding().unwrap(), before.without(cap("CHOWN")));
        // This process itself keeps what it has.
        assert!(try_chown(&file));
        chown(&file, 0);
        become_shell(&script);
    });
    assert_eq!(out.ended, Ended::Exited(1), "{}", out.said);
    assert_eq!(caps::bounding().unwrap(), before);
    good_as_nobody(|| {
        let error = refused(caps::drop_bounding(cap("CHOWN")), Errno::EPERM);
        assert!(error.hint().unwrap().contains("CAP_SETPCAP"));
    });
    refused(caps::drop_bounding(63), Errno::EINVAL);
}

fn ambient_ones_reach_a_program_of_an_ordinary_user() {
    let dir = TempDir::new("ambient");
    let file = dir.file("file", "");
    let script = format!("chown {NOBODY} {}", file.display());
    let program = |raise: bool| {
        run(0, || {
            process::keep_caps(true).unwrap();
            become_nobody();
            let chown = CapSet::EMPTY.with(cap("CHOWN"));
            let refused_at = refused(caps::ambient_raise(cap("CHOWN")), Errno::EPERM);
            assert!(refused_at.hint().unwrap().contains("inheritable"));
            caps::set(Caps { effective: chown, permitted: chown, inheritable: chown }).unwrap();
            caps::ambient_raise(cap("CHOWN")).unwrap();
            assert_eq!(caps::ambient().unwrap(), chown);
            if !raise {
                caps::ambient_clear().unwrap();
                assert_eq!(caps::ambient().unwrap(), CapSet::EMPTY);
            }
            become_shell(&script);
        })
    };
    assert_eq!(program(false).ended, Ended::Exited(1));
    let out = program(true);
    assert_eq!(out.ended, Ended::Exited(0), "{}", out.said);
}

fn keep_caps_keeps_permitted_through_a_change_of_uid() {
    let permitted_after = |keep: bool| {
        let said = good(0, || {
            process::keep_caps(keep).unwrap();
            become_nobody();
            let now = caps::get().unwrap();
            assert_eq!(now.effective, CapSet::EMPTY);
            eprintln!("{}", now.permitted.0);
        });
        said.trim().parse::<u64>().unwrap()
    };
    assert_eq!(permitted_after(false), 0);
    assert_eq!(permitted_after(true), caps::get().unwrap().permitted.0);
}

fn the_highest_one_is_the_kernels() {
    let text = std::fs::read_to_string("/proc/sys/kernel/cap_last_cap").unwrap();
    let last = caps::cap_last().unwrap();
    assert_eq!(text.trim(), last.to_string());
    assert!(usize::from(last) < caps::NAMES.len(), "this kernel has a capability without a name here");
    let status = help::own("status");
    assert_eq!(u64::from_str_radix(&help::line(&status, "CapBnd"), 16).unwrap(), caps::bounding().unwrap().0);
}

fn groups_and_ids_are_set_and_refused() {
    good(0, || {
        ids::set_groups(&[7, 8]).unwrap();
        assert_eq!(ids::getgroups().unwrap(), [7, 8]);
        become_nobody();
        assert_eq!((process::getuid(), process::euid(), process::getgid()), (NOBODY, NOBODY, NOBODY));
        assert_eq!((process::egid(), ids::getgroups().unwrap().len()), (NOBODY, 0));
        assert!(refused(ids::set_resuid(0), Errno::EPERM).hint().unwrap().contains("CAP_SETUID"));
        refused(ids::set_resgid(0), Errno::EPERM);
        refused(ids::set_groups(&[0]), Errno::EPERM);
        ids::set_resuid(NOBODY).unwrap();
    });
    let root = ids::lookup_user("root").unwrap().unwrap();
    assert_eq!((root.uid, ids::lookup_uid(0).unwrap().unwrap().name.as_str()), (0, "root"));
    assert_eq!(ids::lookup_user("no-such-user").unwrap(), None);
    assert_eq!((ids::lookup_group("root").unwrap(), ids::lookup_group("no-such-group").unwrap()), (Some(0), None));
}
