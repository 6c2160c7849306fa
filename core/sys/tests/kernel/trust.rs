//! The trust walk: what is right passes, each single wrong is refused at its place, and its remedy mends it.

use std::path::{Path, PathBuf};

use palisade_sys::mount::MountFlags;
use palisade_sys::namespace::CLONE_NEWNS;
use palisade_sys::trust::{Reason, TrustError, open_trusted, open_trusted_dir};
use palisade_sys::{Errno, fd, mount};

use crate::help::{chmod, chown, good, tmpfs_at};
use crate::runner::cases;

cases![
    a_foreign_owner_is_refused,
    what_others_can_write_is_refused,
    a_link_is_refused_wherever_it_stands,
    only_plain_files_below_plain_directories_pass,
    a_sticky_directory_may_stand_further_up_only,
];

const STRANGER: u32 = 54321;

/// A directory all of whose parents are right, with `dir/file` in it; /tmp never is, so another one is put in
/// its place for this process only.
fn in_a_house(act: impl FnOnce(&Path, &Path)) {
    let out = good(CLONE_NEWNS, || {
        mount::make_private_recursive().unwrap();
        let base = std::env::temp_dir().canonicalize().unwrap();
        tmpfs_at(&base, MountFlags::NONE);
        let dir = base.join("dir");
        std::fs::create_dir(&dir).unwrap();
        chmod(&dir, 0o755);
        let file = dir.join("file");
        std::fs::write(&file, "trusted").unwrap();
        chmod(&file, 0o644);
        passes(&file);
        act(&dir, &file);
        // What was broken has been mended, so it was that and nothing else.
        passes(&file);
    });
    assert_eq!(out, "");
}

fn passes(file: &Path) {
    let opened = open_trusted(file, &[0]).unwrap_or_else(|error| panic!("{error}"));
    assert_eq!(fd::read_all(&opened).unwrap(), b"trusted");
    open_trusted_dir(file.parent().unwrap(), &[0]).unwrap();
}

#[track_caller]
fn refused(file: &Path, at: &Path) -> TrustError {
    let error = open_trusted(file, &[0]).expect_err("it was trusted");
    assert_eq!(error.path(), at, "{error}");
    assert!(!error.remedy().is_empty());
    error
}

fn a_foreign_owner_is_refused() {
    in_a_house(|dir, file| {
        for wrong in [file, dir] {
            chown(wrong, STRANGER);
            let error = refused(file, wrong);
            assert!(matches!(error.reason(), Reason::Owner { uid: STRANGER, .. }), "{error}");
            assert_eq!(error.remedy(), format!("chown 0 {}", wrong.display()));
            // The same file is right for who trusts that owner, and root's is then not enough by itself.
            open_trusted(file, &[0, STRANGER]).unwrap();
            open_trusted(file, &[STRANGER]).expect_err("a parent is root's");
            chown(wrong, 0);
        }
        open_trusted(file, &[]).expect_err("nobody is trusted");
    });
}

fn what_others_can_write_is_refused() {
    in_a_house(|dir, file| {
        let wrongs = [(file, 0o646), (file, 0o664), (dir, 0o757), (dir, 0o775), (dir, 0o1777)];
        for (wrong, mode) in wrongs {
            let right = if wrong == file { 0o644 } else { 0o755 };
            chmod(wrong, mode);
            let error = refused(file, wrong);
            assert!(matches!(error.reason(), Reason::Writable { mode: seen } if *seen == mode), "{error}");
            // What is sticky is meant to be written by all, so the advice is to go elsewhere.
            let advice = format!("chmod go-w {}", wrong.display());
            assert_eq!(error.remedy().starts_with(&advice), mode != 0o1777, "{}", error.remedy());
            if wrong == dir {
                open_trusted_dir(dir, &[0]).expect_err("the directory itself is checked");
            }
            chmod(wrong, right);
            passes(file);
        }
    });
}

fn a_link_is_refused_wherever_it_stands() {
    in_a_house(|dir, file| {
        let last = dir.join("link");
        std::os::unix::fs::symlink(file, &last).unwrap();
        let middle = dir.with_file_name("way");
        std::os::unix::fs::symlink(dir, &middle).unwrap();
        for (path, at) in [(&last, &last), (&middle.join("file"), &middle)] {
            // To who does not look it is the same file.
            assert_eq!(std::fs::read(path).unwrap(), b"trusted");
            let error = refused(path, at);
            assert!(matches!(error.reason(), Reason::Symlink), "{error}");
        }
        let error = open_trusted_dir(&middle, &[0]).expect_err("a link is no directory");
        assert!(matches!(error.reason(), Reason::Symlink), "{error}");
    });
}

fn only_plain_files_below_plain_directories_pass() {
    in_a_house(|dir, file| {
        let fifo = dir.join("fifo");
        nix::unistd::mkfifo(&fifo, nix::sys::stat::Mode::from_bits_truncate(0o600)).unwrap();
        let wrong_kind = |path: &Path, at: &Path| {
            let error = refused(path, at);
            assert!(matches!(error.reason(), Reason::WrongKind { .. }), "{error}");
        };
        // Opening a fifo for reading would wait for a writer.
        wrong_kind(&fifo, &fifo);
        wrong_kind(dir, dir);
        wrong_kind(&file.join("below"), file);
        let missing = dir.join("missing");
        let error = refused(&missing, &missing);
        assert!(matches!(error.reason(), Reason::Call(call) if call.kind() == Errno::ENOENT), "{error}");
        std::env::set_current_dir(dir).unwrap();
        for path in ["file", "./file", "../dir/file", "", "/"].map(PathBuf::from) {
            assert!(matches!(refused(&path, &path).reason(), Reason::NotPlain), "{path:?}");
        }
        let back = dir.join("../dir/file");
        assert!(matches!(refused(&back, &back).reason(), Reason::NotPlain));
    });
}

/// Below a sticky directory a name stays its owner's, but anybody may add one: so it may stand further up only.
fn a_sticky_directory_may_stand_further_up_only() {
    in_a_house(|dir, file| {
        let base = dir.parent().unwrap();
        chmod(base, 0o1777);
        passes(file);
        chown(dir, STRANGER);
        assert!(matches!(refused(file, dir).reason(), Reason::Owner { uid: STRANGER, .. }));
        chown(dir, 0);
        let direct = base.join("direct");
        std::fs::write(&direct, "trusted").unwrap();
        chmod(&direct, 0o644);
        assert!(matches!(refused(&direct, base).reason(), Reason::Writable { mode: 0o1777 }));
        chown(base, STRANGER);
        assert!(matches!(refused(file, base).reason(), Reason::Owner { uid: STRANGER, .. }));
        chown(base, 0);
        // Without the sticky bit anybody could put another directory there.
        for mode in [0o777, 0o775] {
            chmod(base, mode);
            assert!(matches!(refused(file, base).reason(), Reason::Writable { .. }));
        }
        chmod(base, 0o755);
        passes(&direct);
    });
}
