//! Mounts in a namespace of their own: what they forbid, where they go, and that nothing of it reaches the host.

use std::ffi::CString;
use std::os::unix::ffi::OsStrExt as _;
use std::path::Path;

use palisade_sys::mount::{self, Fs, MountAttr, MountFlags, Propagation};
use palisade_sys::namespace::{CLONE_NEWNS, CLONE_NEWPID, CLONE_NEWUSER};
use palisade_sys::process::{self, Program};
use palisade_sys::procfs::Proc;
use palisade_sys::{Errno, fd, host};

use crate::help::{self, TempDir, chmod, good, in_private_mounts, refused, tmpfs_at};
use crate::runner::cases;

cases![
    each_flag_forbids_what_it_says,
    a_flag_is_set_and_cleared_on_an_attached_mount,
    a_tree_is_cloned_and_changed_whole,
    a_mount_that_the_host_locked_stays_read_only,
    propagation_is_what_was_asked,
    the_host_sees_nothing_of_it,
    a_mount_goes_where_it_was_put,
    a_new_file_system_says_what_is_wrong,
    a_new_proc_shows_its_own_namespace,
];

/// Tries what flags can forbid, in a directory with a program, a device, and a link.
fn attempts(dir: &Path) -> Vec<(&'static str, bool)> {
    let program = CString::new(dir.join("true").as_os_str().as_bytes()).unwrap();
    let exec = || panic!("{}", process::exec(Program::Path(&program), &[c"true".to_owned()], &[]));
    vec![
        ("ro", std::fs::write(dir.join("new"), "x").is_ok()),
        ("nodev", std::fs::read(dir.join("null")).is_ok()),
        ("noexec", help::run(0, exec).ended.shell_code() == 0),
        ("nosymfollow", std::fs::read(dir.join("link")).is_ok()),
    ]
}

fn worked(dir: &Path) -> Vec<&'static str> {
    attempts(dir).into_iter().filter(|(_, worked)| *worked).map(|(name, _)| name).collect()
}

/// Fills a mounted directory with what [`attempts`] needs.
fn furnish(dir: &Path) {
    std::fs::copy("/bin/true", dir.join("true")).unwrap();
    std::os::unix::fs::symlink("true", dir.join("link")).unwrap();
    let mode = nix::sys::stat::Mode::from_bits_truncate(0o666);
    nix::sys::stat::mknod(&dir.join("null"), nix::sys::stat::SFlag::S_IFCHR, mode, libc::makedev(1, 3)).unwrap();
}

const ALL: [&str; 4] = ["ro", "nodev", "noexec", "nosymfollow"];

fn each_flag_forbids_what_it_says() {
    let dir = TempDir::new("flags");
    in_private_mounts(|| {
        tmpfs_at(dir.path(), MountFlags::NONE);
        furnish(dir.path());
        assert_eq!(worked(dir.path()), ALL);
        for name in ALL {
            let flag = MountFlags::from_name(name).unwrap();
            let at = fd::open_path(dir.path(), fd::O_PATH).unwrap();
            mount::set_attr(&at, false, MountAttr::set(flag)).unwrap();
            assert!(mount::flags_of(&at).unwrap().contains(flag), "{name}");
            let left: Vec<_> = ALL.into_iter().filter(|other| *other != name).collect();
            assert_eq!(worked(dir.path()), left);
            mount::set_attr(&at, false, MountAttr { clear: flag, ..MountAttr::default() }).unwrap();
            assert!(!mount::flags_of(&at).unwrap().contains(flag), "{name}");
        }
        assert_eq!(worked(dir.path()), ALL);
    });
}

fn a_flag_is_set_and_cleared_on_an_attached_mount() {
    let dir = TempDir::new("attr");
    let names = |dir: &Path| {
        let flags = mount::flags_of(fd::open_path(dir, fd::O_PATH).unwrap()).unwrap();
        flags.names().map(str::to_owned).collect::<Vec<_>>()
    };
    in_private_mounts(|| {
        let born = MountFlags::NOSUID | MountFlags::NODEV | MountFlags::NOATIME;
        tmpfs_at(dir.path(), born);
        assert_eq!(names(dir.path()), ["nosuid", "nodev", "noatime"]);
        let at = fd::open_path(dir.path(), fd::O_PATH).unwrap();
        // What is not spoken of stays.
        mount::set_attr(&at, false, MountAttr::set(MountFlags::RO)).unwrap();
        assert_eq!(names(dir.path()), ["ro", "nosuid", "nodev", "noatime"]);
        let both = MountAttr { set: MountFlags::NOEXEC, clear: MountFlags::RO, propagation: None };
        mount::set_attr(&at, false, both).unwrap();
        assert_eq!(names(dir.path()), ["nosuid", "nodev", "noexec", "noatime"]);
        let inside = fd::open_path(help::mkdir(&dir.join("no-mount")), fd::O_PATH).unwrap();
        refused(mount::set_attr(&inside, false, MountAttr::set(MountFlags::RO)), Errno::EINVAL);
    });
}

fn a_tree_is_cloned_and_changed_whole() {
    let (dir, copy) = (TempDir::new("tree"), TempDir::new("copy"));
    in_private_mounts(|| {
        tmpfs_at(dir.path(), MountFlags::NONE);
        let sub = help::mkdir(&dir.join("sub"));
        tmpfs_at(&sub, MountFlags::NONE);
        std::fs::write(sub.join("file"), "below").unwrap();
        let attach = |tree| mount::move_mount_onto(&tree, copy.open()).unwrap();
        attach(mount::open_tree_clone(fd::CWD, dir.path(), false).unwrap());
        assert!(copy.join("sub").exists() && !copy.join("sub/file").exists());
        mount::umount_detach(copy.path()).unwrap();

        let tree = mount::open_tree_fd(fd::open_path(dir.path(), fd::O_PATH).unwrap(), true).unwrap();
        let changed = mount::set_attr(&tree, true, MountAttr::set(MountFlags::RO));
        if host::kernel_version().unwrap() < (5, 12) {
            let error = refused(changed, Errno::ENOSYS);
            assert!(error.hint().unwrap().contains("5.12"), "{error:?}");
            return;
        }
        changed.unwrap();
        attach(tree);
        assert_eq!(std::fs::read(copy.join("sub/file")).unwrap(), b"below");
        for place in ["new", "sub/new"] {
            let error = std::fs::write(copy.join(place), "x").unwrap_err();
            assert_eq!(error.raw_os_error(), Some(libc::EROFS), "{place}");
            std::fs::write(dir.join(place), "the original can be written").unwrap();
        }
    });
}

fn a_mount_that_the_host_locked_stays_read_only() {
    let dir = TempDir::new("locked");
    in_private_mounts(|| {
        tmpfs_at(dir.path(), MountFlags::NONE);
        let at = || fd::open_path(dir.path(), fd::O_PATH).unwrap();
        let clear = || mount::set_attr(at(), false, MountAttr { clear: MountFlags::RO, ..MountAttr::default() });
        mount::set_attr(at(), false, MountAttr::set(MountFlags::RO)).unwrap();
        good(CLONE_NEWNS | CLONE_NEWUSER, || {
            assert!(refused(clear(), Errno::EPERM).hint().is_some());
            mount::set_attr(at(), false, MountAttr::set(MountFlags::NOEXEC)).unwrap();
        });
        // A mount namespace of the same user may.
        good(CLONE_NEWNS, || clear().unwrap());
        clear().unwrap();
    });
}

/// Whether a mount made in a new namespace, after `first`, is seen here.
fn comes_back(dir: &Path, first: impl FnOnce()) -> bool {
    let sub = help::mkdir(&dir.join("sub"));
    good(CLONE_NEWNS, || {
        first();
        drop(tmpfs_at(&sub, MountFlags::NONE));
        std::fs::write(sub.join("seen"), "").unwrap();
    });
    let seen = sub.join("seen").exists();
    if seen {
        mount::umount_detach(&sub).unwrap();
    }
    std::fs::remove_dir(&sub).unwrap();
    seen
}

fn propagation_is_what_was_asked() {
    let dir = TempDir::new("shared");
    in_private_mounts(|| {
        tmpfs_at(dir.path(), MountFlags::NONE);
        let at = || fd::open_path(dir.path(), fd::O_PATH).unwrap();
        let set = |propagation| {
            let attr = MountAttr { propagation: Some(propagation), ..MountAttr::default() };
            mount::set_attr(at(), false, attr).unwrap();
        };
        assert!(!comes_back(dir.path(), || {}));
        set(Propagation::Shared);
        assert!(comes_back(dir.path(), || {}));
        assert!(!comes_back(dir.path(), || mount::make_private_recursive().unwrap()));
        assert!(!comes_back(dir.path(), || set(Propagation::Slave)));
        set(Propagation::Unbindable);
        refused(mount::open_tree_clone(fd::CWD, dir.path(), false), Errno::EINVAL);
        set(Propagation::Private);
        mount::open_tree_clone(fd::CWD, dir.path(), false).unwrap();
    });
}

fn the_host_sees_nothing_of_it() {
    let dir = TempDir::new("unseen");
    let before = help::own("mountinfo");
    let name = dir.path().to_str().unwrap();
    in_private_mounts(|| {
        tmpfs_at(dir.path(), MountFlags::NONE);
        dir.file("inside", "");
        assert!(help::own("mountinfo").contains(name));
    });
    assert!(!dir.join("inside").exists());
    let after = help::own("mountinfo");
    assert!(!after.contains(name));
    assert_eq!(before.lines().count(), after.lines().count());
}

fn a_mount_goes_where_it_was_put() {
    let dir = TempDir::new("places");
    in_private_mounts(|| {
        let at = dir.open();
        let (first, second) = (help::mkdir(&dir.join("first")), help::mkdir(&dir.join("second")));
        std::os::unix::fs::symlink("second", dir.join("link")).unwrap();
        let tree = || Fs::new("tmpfs").unwrap().create(MountFlags::NONE).unwrap();
        let id = |path: &Path| mount::mount_id(fd::open_path(path, fd::O_PATH).unwrap()).unwrap();
        let base = id(dir.path());
        assert_eq!((id(&first), id(&second)), (base, base));
        mount::move_mount_at(tree(), &at, "first").unwrap();
        assert_ne!(id(&first), base);
        assert_eq!(mount::statfs_type(fd::open_path(&first, fd::O_PATH).unwrap()).unwrap(), 0x0102_1994);
        let line = help::own("mountinfo").lines().find(|line| line.contains("/first ")).unwrap().to_owned();
        assert_eq!(line.split(' ').next().unwrap(), id(&first).to_string());
        // A link that somebody put there is not followed: the mount would be elsewhere.
        mount::move_mount_at(tree(), &at, "link").unwrap_err();
        refused(mount::move_mount_at(tree(), &at, "../x"), Errno::EINVAL);
        assert_eq!(id(&second), base);
        let file = fd::open_path(dir.file("file", ""), fd::O_PATH).unwrap();
        mount::move_mount_onto(tree(), &file).unwrap_err();
        mount::umount_detach(&first).unwrap();
        assert_eq!(id(&first), base);
        refused(mount::umount_detach(&first), Errno::EINVAL);
    });
    good(CLONE_NEWUSER, || {
        let error = refused(Fs::new("tmpfs"), Errno::EPERM);
        assert!(error.hint().unwrap().contains("CAP_SYS_ADMIN"), "{error:?}");
    });
}

fn a_new_file_system_says_what_is_wrong() {
    in_private_mounts(|| {
        let error = refused(Fs::new("tmpfs").unwrap().set("nonsense", "1"), Errno::EINVAL);
        assert_eq!(error.call(), "fsconfig(tmpfs, SET_STRING, \"nonsense\", \"1\")");
        assert!(error.detail().unwrap().contains("nonsense"), "{error}");
        refused(Fs::new("tmpfs").unwrap().set("size", "much"), Errno::EINVAL);
        let none = refused(Fs::new("no-such-fs"), Errno::ENODEV);
        assert!(none.hint().unwrap().contains("module"));
        let dir = TempDir::new("small");
        let small = Fs::new("tmpfs").unwrap().set("size", "64k").unwrap().set("nr_inodes", "4").unwrap();
        mount::move_mount_onto(small.create(MountFlags::NONE).unwrap(), dir.open()).unwrap();
        std::fs::write(dir.join("fits"), [0; 4096]).unwrap();
        let full = std::fs::write(dir.join("does-not"), [0; 128 << 10]).unwrap_err();
        assert_eq!(full.raw_os_error(), Some(libc::ENOSPC));
        std::fs::write(dir.join("third"), "").unwrap();
        let many = std::fs::write(dir.join("fourth"), "").unwrap_err();
        assert_eq!(many.raw_os_error(), Some(libc::ENOSPC));
        mount::umount_detach(dir.path()).unwrap();
    });
}

fn a_new_proc_shows_its_own_namespace() {
    let dir = TempDir::new("proc");
    chmod(dir.path(), 0o755);
    let host_pid = process::getpid();
    good(CLONE_NEWNS | CLONE_NEWPID, || {
        mount::make_private_recursive().unwrap();
        assert!(Path::new(&format!("/proc/{host_pid}")).exists());
        let tree = Fs::new("proc").unwrap().create(MountFlags::NOSUID).unwrap();
        mount::move_mount_onto(&tree, dir.open()).unwrap();
        let fresh = Proc::from_fd(dir.open()).unwrap();
        assert_eq!(fresh.own().unwrap().id(), 1);
        let status = fresh.pid(1).unwrap().status().unwrap();
        assert_eq!((status.ns_pid.as_slice(), status.parent), (&[1][..], 0));
        refused(fresh.pid(host_pid), Errno::ENOENT);
        // This procfs and the host's are two, and each knows this process by its own number.
        assert_ne!(Proc::host().unwrap().own().unwrap().id(), 1);
    });
}
