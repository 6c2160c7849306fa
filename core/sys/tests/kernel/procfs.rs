//! procfs: a real one is read and written, a fake one and what was mounted over a file are refused.

use palisade_sys::mount::{self, MountFlags};
use palisade_sys::namespace::CLONE_NEWPID;
use palisade_sys::procfs::{Proc, parse_cgroups, self_cgroups};
use palisade_sys::{Errno, caps, fd, process};

use crate::help::{self, TempDir, good, in_private_mounts, refused, start, tmpfs_at};
use crate::runner::cases;

cases![
    a_fake_procfs_is_refused,
    a_mount_over_a_file_is_not_followed,
    a_process_is_held_on_to,
    the_status_is_the_processs_own,
    a_file_of_a_process_is_written,
    children_and_cgroups_are_listed,
];

fn a_fake_procfs_is_refused() {
    Proc::host().unwrap();
    let dir = |path: &str| fd::open_path(path, fd::O_PATH | fd::O_DIRECTORY).unwrap();
    Proc::from_fd(dir("/proc")).unwrap();
    // Part of a procfs is not its root: names in it mean other things.
    for other in ["/", "/proc/self", "/proc/sys"] {
        let error = refused(Proc::from_fd(dir(other)), Errno::EINVAL);
        assert!(error.hint().unwrap().contains("procfs"));
    }
    in_private_mounts(|| {
        tmpfs_at("/proc".as_ref(), MountFlags::NONE);
        help::mkdir("/proc/self".as_ref());
        refused(Proc::host(), Errno::EINVAL);
        mount::umount_detach("/proc").unwrap();
        Proc::host().unwrap();
    });
}

fn a_mount_over_a_file_is_not_followed() {
    let file = TempDir::new("over");
    let fake = file.file("fake", "fake\n");
    in_private_mounts(|| {
        let proc = Proc::host().unwrap();
        let name = "sys/kernel/osrelease";
        let real = proc.read(name).unwrap();
        assert_eq!(proc.own().unwrap().read("comm").unwrap(), std::fs::read_to_string("/proc/self/comm").unwrap());
        let cover = |target: &str| {
            let tree = mount::open_tree_clone(fd::CWD, &fake, false).unwrap();
            mount::move_mount_onto(tree, fd::open_path(target, fd::O_PATH).unwrap()).unwrap();
        };
        cover("/proc/sys/kernel/osrelease");
        cover(&format!("/proc/{}/oom_score_adj", process::getpid()));
        // Who asks for the path gets the fake.
        assert_eq!(std::fs::read_to_string("/proc/sys/kernel/osrelease").unwrap(), "fake\n");
        refused(proc.read(name), Errno::EXDEV);
        let own = proc.own().unwrap();
        refused(own.write("oom_score_adj", b"0"), Errno::EXDEV);
        assert_eq!(std::fs::read(&fake).unwrap(), b"fake\n");
        refused(own.read("root/etc/passwd"), Errno::ELOOP);
        refused(own.read("../version"), Errno::EXDEV);
        mount::umount_detach("/proc/sys/kernel/osrelease").unwrap();
        assert_eq!(proc.read(name).unwrap(), real);
    });
}

fn a_process_is_held_on_to() {
    let proc = Proc::host().unwrap();
    let child = start(0, || help::forever());
    let dir = proc.pid(child.pid).unwrap();
    assert_eq!((dir.id(), dir.status().unwrap().parent), (child.pid, process::getpid()));
    let out = child.kill(libc::SIGKILL);
    refused(dir.read("status"), Errno::ESRCH);
    refused(proc.pid(out.pid), Errno::ENOENT);
}

fn the_status_is_the_processs_own() {
    let status = || Proc::host().unwrap().own().unwrap().status().unwrap();
    let root = status();
    assert_eq!((root.uid, root.gid, root.threads), ([0; 4], [0; 4], 1));
    assert_eq!((root.no_new_privs, root.seccomp), (false, 0));
    assert_eq!(root.cap_eff, caps::get().unwrap().effective.0);
    assert_ne!(root.cap_eff, 0);
    help::good_as_nobody(|| {
        process::set_no_new_privs().unwrap();
        crate::confine::install(&crate::confine::answering(libc::SYS_kexec_load, libc::EPERM));
        let now = status();
        assert_eq!((now.uid, now.gid), ([help::NOBODY; 4], [help::NOBODY; 4]));
        assert_eq!((now.groups.len(), now.cap_eff, now.cap_prm, now.cap_bnd), (0, 0, 0, root.cap_bnd));
        assert_eq!((now.no_new_privs, now.seccomp, now.seccomp_filters), (true, 2, Some(1)));
    });
    let inner = good(CLONE_NEWPID, || eprintln!("{:?}", status().ns_pid));
    assert!(inner.trim().ends_with(", 1]"), "{inner}");
    assert_eq!(root.ns_pid.last(), Some(&process::getpid()));
}

fn a_file_of_a_process_is_written() {
    let own = Proc::host().unwrap().own().unwrap();
    assert_ne!(own.read("comm").unwrap(), "renamed\n");
    own.write("comm", b"renamed").unwrap();
    assert_eq!(own.read("comm").unwrap(), "renamed\n");
    let error = refused(own.write("oom_score_adj", b"no number"), Errno::EINVAL);
    assert_eq!(error.call(), "write(\"oom_score_adj\", \"no number\")");
    refused(own.read("no-such-file"), Errno::ENOENT);
    refused(own.ns("no-such-kind"), Errno::ENOENT);
}

fn children_and_cgroups_are_listed() {
    let own = Proc::host().unwrap().own().unwrap();
    assert_eq!(own.children().unwrap(), []);
    let children = [start(0, || help::forever()), start(0, || help::forever())];
    let mut seen = own.children().unwrap();
    seen.sort_unstable();
    let mut ids = [children[0].pid, children[1].pid];
    ids.sort_unstable();
    assert_eq!(seen, ids);
    for child in children {
        child.kill(libc::SIGKILL);
    }
    assert_eq!(own.children().unwrap(), []);
    let text = std::fs::read_to_string("/proc/self/cgroup").unwrap();
    let cgroups = self_cgroups().unwrap();
    assert_eq!(cgroups, parse_cgroups(&text));
    assert_eq!(cgroups.len(), text.lines().count());
}
