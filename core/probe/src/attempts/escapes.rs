//! The classics of breaking out, each without its sting; and what a start may leave open.

use super::*;
use palisade_sys::attempt::Arg::Int;

table! {
    "es-release-agent" Critical ["MNT, no cgroups; RO; CAP_SYS_ADMIN; USR"] "name a program for the host to run when a cgroup is empty", "cgroup v1", "it is the one that is named already"
        => |s| rewrite(s.host.cgroups.join("release_agent"));
    "es-notify-on-release" High ["MNT; RO; USR"] "have it run", "cgroup v1", "the value is the same"
        => |s| rewrite(s.host.cgroups.join("notify_on_release"));
    "es-cgroup-procs" High ["MNT; RO; USR; CGN"] "open the list of processes of the topmost cgroup", "a cgroup file system", "nothing is written"
        => |s| opens(s.host.cgroups.join("cgroup.procs"), true);
    "es-core-pattern" Critical ["a read-only /proc/sys; USR; LL1"] "name a program for the host to run when one crashes", "", "it is the one that is named already"
        => |_| rewrite("/proc/sys/kernel/core_pattern");
    "es-modprobe" Critical ["a read-only /proc/sys; USR; LL1"] "name a program for the host to run to load a module", "CONFIG_MODULES", "it is the one that is named already"
        => |_| rewrite("/proc/sys/kernel/modprobe");
    "es-uevent-helper" Critical ["a read-only /sys; MNT"] "open what names a program for the host to run for a device", "CONFIG_UEVENT_HELPER", "nothing is written"
        => |_| opens("/sys/kernel/uevent_helper", true);
    "es-binfmt" Critical ["MNT; PROC; CAP"] "open what registers a format of programs", "binfmt_misc", "nothing is written"
        => |_| opens("/proc/sys/fs/binfmt_misc/register", true);
    "es-sysrq" Critical ["PROC; DAC"] "open what can stop the machine", "CONFIG_MAGIC_SYSRQ", "nothing is ever written"
        => |_| opens("/proc/sysrq-trigger", true);
    "es-kmsg" Medium ["MNT, a /dev of its own; CAP_SYSLOG"] "open the kernel's log", "/dev/kmsg", "nothing is read"
        => |_| opens("/dev/kmsg", false);
    "es-mem-of-init" Critical ["PID; PROC"] "open the memory of pid 1", "the right to trace it", "nothing is read"
        => |_| opens("/proc/1/mem", false);
    "es-ns-of-init" Medium ["PID; PROC"] "see which mount namespace pid 1 of the host is in", "the right to trace it", "it only reads"
        => ns_of_init;
    "es-nsenter-1" Critical ["PID; CAP; SEC; LL1"] "join the mount namespace of pid 1 of the host", "CAP_SYS_ADMIN", "only the attempt's own process, and it only looks at /"
        => nsenter;
    "es-proc-exe" Critical ["PID; USR; a sealed copy of the launcher"] "open the launcher's program for writing", "the right to trace it", "nothing is ever written"
        => proc_exe;
    "es-cwd-leak" Critical ["a working directory checked after the change of root; FD"] "be in a directory outside", "", "it only reads"
        => cwd_leak;
    "es-leaked-fd" Critical ["FD, close_range"] "read a file that was left open", "", "the file is the harness's own"
        => leaked_fd;
    "es-leaked-dirfd" Critical ["FD, close_range"] "reach out through a directory that was left open", "", "the directory is the harness's own"
        => |s| tells(format!("/proc/self/fd/{}/secret", s.leaked.1), s);
    "es-any-fd" Critical ["FD, close_range"] "find the harness's file among all that is open", "", "it only reads"
        => any_fd;
    "es-cgroup-migrate" High ["MNT; RO; CGN with nsdelegate; DAC"] "leave the cgroup for another", "a cgroup that the caller can make", "the cgroup is the harness's own"
        => cgroup_migrate;
    "es-masked-paths" Medium ["PROC, masks"] "read what should be covered in /proc and /sys", "one of them", "one byte"
        => masked_paths;
    "hy-ctty" Medium ["TTY, a terminal and a session of its own"] "open the caller's terminal", "", "nothing is typed"
        => ctty;
}

fn ns_of_init(scene: &Scene) -> Tried {
    let link = std::fs::read_link("/proc/1/ns/mnt")?;
    seen(scene.host.namespaces.get("mnt") == Some(&link), "another one")
}

fn nsenter(scene: &Scene) -> Tried {
    let namespace = File::open("/proc/1/ns/mnt")?;
    attempt(Call::SETNS, [Int(i64::from(std::os::fd::AsRawFd::as_raw_fd(&namespace))), Int(0)])?;
    Ok(Some(inode("/")?) == scene.host.root)
}

/// That it is busy says that the permission was there.
fn proc_exe(scene: &Scene) -> Tried {
    let mut why = Stop::hidden("no such process");
    for pid in [scene.launcher, 1] {
        match OpenOptions::new().write(true).open(format!("/proc/{pid}/exe")) {
            Ok(_) => return Ok(true),
            Err(error) if error.raw_os_error() == Some(Errno::ETXTBSY as i32) => return Ok(true),
            Err(error) => why = error.into(),
        }
    }
    Err(why)
}

fn cwd_leak(scene: &Scene) -> Tried {
    if std::env::current_dir()?.to_string_lossy().starts_with("(unreachable)") {
        return Ok(true);
    }
    let up = Path::new("../../../../../../../..");
    let dir = scene.dir.strip_prefix("/").unwrap_or(&scene.dir);
    tells(up.join(dir).join("secret"), scene)
}

/// Another file may have the number by now; a pipe of ours would wait for ever.
fn leaked_fd(scene: &Scene) -> Tried {
    let path = format!("/proc/self/fd/{}", scene.leaked.0);
    if !std::fs::metadata(&path)?.is_file() {
        return Err(Stop::hidden("closed"));
    }
    tells(path, scene)
}

fn any_fd(scene: &Scene) -> Tried {
    for number in 3..1024 {
        let path = format!("/proc/self/fd/{number}");
        // A pipe or a socket would wait; it is no file of the harness's either.
        let file = std::fs::metadata(&path).is_ok_and(|facts| facts.is_file() || facts.is_dir());
        if file && (tells(&path, scene).unwrap_or(false) || tells(format!("{path}/secret"), scene).unwrap_or(false)) {
            return Ok(true);
        }
    }
    Err(Stop::hidden("none is open"))
}

/// That the kernel names the canary's cgroup as one's own is the proof.
fn cgroup_migrate(scene: &Scene) -> Tried {
    let Some(cgroup) = &scene.cgroup else { return Err(Stop::hidden("no cgroup could be made")) };
    OpenOptions::new().write(true).open(cgroup.join("cgroup.procs"))?.write_all(b"0")?;
    Ok(text("/proc/self/cgroup")?.contains(&scene.token))
}

/// What stands in the place of a masked file is empty or no file at all; a mask is not known by its name.
fn masked_paths(_: &Scene) -> Tried {
    const MASKED: &[&str] =
        &["/proc/kcore", "/proc/keys", "/proc/timer_list", "/proc/latency_stats", "/proc/sched_debug"];
    const FOLDERS: &[&str] = &["/proc/acpi", "/proc/scsi", "/sys/firmware"];
    let mut why = Stop::hidden("none is there");
    for path in MASKED {
        match readable(path) {
            Ok(true) => return Ok(true),
            Ok(false) => why = Stop::hidden("empty"),
            Err(stop) => why = stop,
        }
    }
    let full = |path: &&str| std::fs::read_dir(path).is_ok_and(|mut entries| entries.next().is_some());
    if FOLDERS.iter().any(full) { Ok(true) } else { Err(why) }
}

/// The harness gives the run a terminal, in a session of its own; who is still in that session has it.
fn ctty(scene: &Scene) -> Tried {
    OpenOptions::new().read(true).write(true).open("/dev/tty")?;
    let session = attempt(Call::GETSID, [Int(0)])?;
    // A leader that is outside the pid namespace has no number here.
    Ok(session == 0 || session == i64::from(scene.session))
}
