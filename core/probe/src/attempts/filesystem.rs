//! Reaching files of the host.

use super::*;
use palisade_sys::attempt::Arg::{In, Int};
use palisade_sys::process::getppid;

table! {
    "fs-read-outside" Critical ["MNT; LL1"] "read a file outside the view", "", "the file is the harness's own"
        => |s| tells(s.dir.join("secret"), s);
    "fs-read-shadow" Critical ["MNT; USR; LL1"] "open the host's password hashes", "", "one byte, which is dropped"
        => read_shadow;
    "fs-list-home" High ["MNT; LL1"] "list the home directory of who called", "a home directory", "names are only counted"
        => list_home;
    "fs-create-outside" Critical ["MNT; RO; LL1"] "create a file outside the view", "", "the harness removes it"
        => |s| create(&s.dir.join("w"));
    "fs-truncate-outside" High ["MNT; RO; LL3"] "truncate a file outside the view", "", "the file is the harness's own"
        => truncate;
    "fs-unlink-outside" High ["MNT; RO; LL1"] "delete a file outside the view", "", "the file is the harness's own"
        => |s| done(std::fs::remove_file(s.dir.join("del")));
    "fs-dotdot" High ["MNT, by pivot_root and not by chroot"] "climb out with ..", "", "it only reads"
        => dotdot;
    "fs-symlink-out" High ["MNT; LL1"] "follow a symbolic link that leads out", "a /tmp that can be written", "the link is removed"
        => symlink_out;
    "fs-proc1-root" Critical ["PID and PROC; CAP; SEC"] "reach the host through /proc/1/root", "the right to trace pid 1", "it only reads"
        => |s| tells(below("/proc/1/root", s), s);
    "fs-proc-parent-root" Critical ["PID; PROC; USR; LL1"] "reach the host through the launcher's /proc entry", "", "it only reads"
        => parent_root;
    "fs-proc-canary-root" Critical ["PID; PROC; USR"] "reach the host through another process's root", "", "it only reads"
        => |s| tells(below(&format!("/proc/{}/root", s.canary.pid), s), s);
    "fs-proc-canary-cwd" Critical ["PID; PROC; USR"] "reach the host through another process's working directory", "", "it only reads"
        => |s| tells(format!("/proc/{}/cwd/secret", s.canary.pid), s);
    "fs-proc-canary-fd" Critical ["PID; PROC; USR"] "reach the host through another process's open file", "", "it only reads"
        => |s| tells(format!("/proc/{}/fd/{}", s.canary.pid, s.canary.fd), s);
    "fs-mknod" High ["CAP_MKNOD; USR; RO (nodev); devices of the cgroup; LL1"] "make a device and open it", "CAP_MKNOD", "it is another /dev/null, and removed"
        => mknod;
    "fs-block-device" Critical ["MNT (a /dev of its own); devices of the cgroup; DAC"] "open the disk behind /", "a block device behind /", "it is opened and never read"
        => |s| opens(&s.host.block, false);
    "fs-dev-mem" Critical ["MNT; devices of the cgroup; CAP_SYS_RAWIO"] "open raw memory and ports", "/dev/mem or /dev/port", "they are never read"
        => |_| opens("/dev/mem", false).or_else(|_| opens("/dev/port", false)).or_else(|_| opens("/dev/kmem", false));
    "fs-open-by-handle" Critical ["CAP_DAC_READ_SEARCH in the first user namespace; SEC"] "open a file by its handle, past the view", "CAP_DAC_READ_SEARCH", "it only reads"
        => by_handle;
    "fs-stat-outside" Low ["MNT; Landlock does not restrict it"] "ask for the metadata of a file outside the view", "", "it only reads"
        => |s| done(std::fs::metadata(s.dir.join("secret")));
    "fs-root-listing" Info ["MNT"] "see the host's names in /", "", "it only reads"
        => root_listing;
    "fs-dev-shm-shared" High ["MNT"] "read a file in the host's /dev/shm", "/dev/shm", "the file is the harness's own"
        => |s| tells(format!("/dev/shm/palisade-{}", s.token), s);
    "fs-tmp-shared" High ["MNT; LL1"] "read a file in the host's /tmp", "", "the file is the harness's own"
        => |s| tells(format!("/tmp/palisade-{}", s.token), s);
    "fs-var-tmp-shared" High ["MNT; LL1"] "read a file in the host's /var/tmp", "", "the file is the harness's own"
        => |s| tells(format!("/var/tmp/palisade-{}", s.token), s);
    "fs-sysfs-write" High ["MNT; a read-only /sys; USR; LL1"] "write a setting of /sys/kernel back to itself", "CONFIG_KSM", "the value is the same"
        => |_| rewrite("/sys/kernel/mm/ksm/run");
    "fs-proc-sys-write" High ["a read-only /proc/sys; USR; LL1"] "write a setting of the kernel back to itself", "", "the value is the same"
        => |_| rewrite("/proc/sys/vm/overcommit_memory");
    "fs-usr-write" Critical ["MNT; RO; LL1"] "add a file to /usr", "", "it is empty, and removed at once"
        => |s| create_and_remove("/usr", s);
    "fs-etc-write" Critical ["MNT; RO; LL1"] "add a file to /etc", "", "it is empty, and removed at once"
        => |s| create_and_remove("/etc", s);
    "fs-protected-links" Info ["the host's settings; nothing of the sandbox"] "see whether links and fifos of others are followed in sticky directories", "", "it only reads"
        => protected_links;
}

fn done<T>(result: std::io::Result<T>) -> Tried {
    result?;
    Ok(true)
}

/// The secret below another root.
fn below(root: &str, scene: &Scene) -> PathBuf {
    let path = scene.dir.join("secret");
    Path::new(root).join(path.strip_prefix("/").unwrap_or(&path))
}

fn read_shadow(scene: &Scene) -> Tried {
    let same = Some(inode("/etc/shadow")?) == scene.host.shadow;
    read("/etc/shadow", 1)?;
    Ok(same)
}

fn list_home(scene: &Scene) -> Tried {
    let same = Some(inode(&scene.host.home)?) == scene.host.home_inode;
    std::fs::read_dir(&scene.host.home)?;
    Ok(same)
}

fn create(path: &Path) -> Tried {
    OpenOptions::new().write(true).create_new(true).open(path)?;
    Ok(true)
}

fn create_and_remove(directory: &str, scene: &Scene) -> Tried {
    let path = Path::new(directory).join(format!("palisade-{}", scene.token));
    create(&path)?;
    std::fs::remove_file(path)?;
    Ok(true)
}

fn truncate(scene: &Scene) -> Tried {
    OpenOptions::new().write(true).truncate(true).open(scene.dir.join("trunc"))?;
    Ok(true)
}

fn dotdot(scene: &Scene) -> Tried {
    std::env::set_current_dir("/")?;
    tells(below("../../../../..", scene), scene)
}

fn symlink_out(scene: &Scene) -> Tried {
    let link = scratch(scene)?.join("l");
    std::os::unix::fs::symlink(scene.dir.join("secret"), &link)?;
    tells(link, scene)
}

fn parent_root(scene: &Scene) -> Tried {
    let by_parent = tells(below(&format!("/proc/{}/root", getppid()), scene), scene);
    by_parent.or_else(|_| tells(below(&format!("/proc/{}/root", scene.launcher), scene), scene))
}

fn mknod(scene: &Scene) -> Tried {
    const CHARACTER_0600: i64 = 0o20600;
    const NULL: i64 = 0x103;
    let path = scratch(scene)?.join("n");
    let words = bytes(&path);
    attempt(Call::MKNODAT, [Int(-100), In(&words), Int(CHARACTER_0600), Int(NULL)])?;
    opens(path, false)
}

fn by_handle(scene: &Scene) -> Tried {
    if scene.handle.is_empty() {
        return Err(Stop::unclear("the file system gives no handles"));
    }
    // Any file of the same file system will do; which that is depends on the view.
    let mut why = Stop::hidden("no file of the same file system");
    for path in ["/", "/usr", "/etc", "/var/tmp"] {
        let Ok(mount) = File::open(path) else { continue };
        let mount = i64::from(std::os::fd::AsRawFd::as_raw_fd(&mount));
        match attempt(Call::OPEN_BY_HANDLE_AT, [Int(mount), In(&scene.handle), Int(0)]) {
            Ok(fd) => return tells(format!("/proc/self/fd/{fd}"), scene),
            Err(errno) => why = errno.into(),
        }
    }
    Err(why)
}

fn root_listing(scene: &Scene) -> Tried {
    let mut names: Vec<String> =
        std::fs::read_dir("/")?.flatten().map(|entry| entry.file_name().to_string_lossy().into_owned()).collect();
    names.sort();
    Ok(names == scene.host.names && Some(inode("/")?) == scene.host.root)
}

fn protected_links(_: &Scene) -> Tried {
    let off = |name: &&str| text(format!("/proc/sys/fs/protected_{name}")).is_ok_and(|value| value.trim() == "0");
    let all = ["symlinks", "hardlinks", "fifos", "regular"];
    seen(all.iter().any(off), "all are on")
}
