//! `pivot_root`: the old root is out of reach, and a leaked descriptor is noticed.

use std::path::Path;

use palisade_sys::mount::{self, MountFlags};
use palisade_sys::procfs::Proc;
use palisade_sys::{Errno, fd};

use crate::help::{TempDir, in_private_mounts, mkdir, refused, tmpfs_at};
use crate::runner::cases;

cases![the_old_root_is_unreachable, a_working_directory_outside_is_noticed, only_a_mount_can_become_the_root,];

/// Puts a new root with `marker` and `sub/` in it at a directory; gives its descriptor.
fn new_root(dir: &TempDir) -> std::os::fd::OwnedFd {
    tmpfs_at(dir.path(), MountFlags::NONE);
    dir.file("marker", "the new root");
    mkdir(&dir.join("sub"));
    dir.open()
}

fn the_old_root_is_unreachable() {
    let dir = TempDir::new("root");
    in_private_mounts(|| {
        let root = new_root(&dir);
        let own = Proc::host().unwrap().own().unwrap();
        let mounts = || own.read("mountinfo").unwrap();
        assert!(Path::new("/etc/passwd").exists() && !Path::new("/marker").exists());
        assert!(mounts().lines().count() > 1);

        mount::pivot_root_into(&root).unwrap();

        assert_eq!(std::env::current_dir().unwrap(), Path::new("/"));
        assert_eq!(std::fs::read("/marker").unwrap(), b"the new root");
        assert_eq!(std::fs::read_dir("/").unwrap().count(), 2);
        for path in ["/etc/passwd", "../etc/passwd", "../../../etc/passwd", dir.path().to_str().unwrap()] {
            let error = std::fs::metadata(path).unwrap_err();
            assert_eq!(error.raw_os_error(), Some(libc::ENOENT), "{path}");
        }
        let up = fd::open_path("/..", fd::O_PATH).unwrap();
        assert!(fd::is_same_file(&up, &root).unwrap());
        let left = mounts();
        assert_eq!(left.lines().count(), 1, "{left}");
        assert_eq!(left.split(' ').nth(4), Some("/"));
    });
    assert!(Path::new("/etc/passwd").exists() && !dir.join("marker").exists());
}

/// CVE-2024-21626: a descriptor of the host that stays open is a way out, through a working directory in it.
fn a_working_directory_outside_is_noticed() {
    let dir = TempDir::new("leak");
    in_private_mounts(|| {
        let root = new_root(&dir);
        let leaked = fd::open_path("/etc", fd::O_PATH | fd::O_DIRECTORY).unwrap();
        assert!(mount::cwd_is_inside().unwrap());
        mount::pivot_root_into(&root).unwrap();
        mount::chdir("/sub").unwrap();
        assert!(mount::cwd_is_inside().unwrap());
        mount::fchdir(&leaked).unwrap();
        std::fs::metadata("passwd").expect("the leak is a way out, or this shows nothing");
        assert!(!mount::cwd_is_inside().unwrap());
        mount::chdir("/").unwrap();
        assert!(mount::cwd_is_inside().unwrap());
        refused(mount::chdir("/missing"), Errno::ENOENT);
        mount::chdir("/sub").unwrap();
        std::fs::remove_dir("/sub").unwrap();
        refused(mount::cwd_is_inside(), Errno::ENOENT);
    });
}

fn only_a_mount_can_become_the_root() {
    let dir = TempDir::new("plain");
    in_private_mounts(|| {
        let root = new_root(&dir);
        let at = |path: &Path| fd::open_path(path, fd::O_PATH | fd::O_DIRECTORY).unwrap();
        for (place, errno) in [(at(&dir.join("sub")), Errno::EINVAL), (at(Path::new("/")), Errno::EBUSY)] {
            let error = refused(mount::pivot_root_into(place), errno);
            assert!(error.hint().unwrap().contains("mount point"), "{error:?}");
        }
        assert!(Path::new("/etc/passwd").exists());
        mount::pivot_root_into(root).unwrap();
        assert!(!Path::new("/etc/passwd").exists());
    });
}
