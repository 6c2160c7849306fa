//! What the host tells about itself.

use super::*;
use palisade_sys::attempt::Arg::{Int, Out};

table! {
    "il-env-secret" High ["ENV"] "find a secret in the environment", "", "the secret is the harness's own"
        => |s| seen(std::env::var(SECRET).is_ok_and(|value| value == s.token), "not set");
    "il-env-extra" Medium ["ENV"] "find a variable in the environment that nobody listed", "", "the variable is the harness's own"
        => |_| seen(std::env::var_os(EXTRA).is_some(), "not set");
    "il-hostname" Low ["UTS"] "learn the host's name", "", "it only reads"
        => |s| equal(text("/proc/sys/kernel/hostname")?.trim(), &s.host.hostname);
    "il-cmdline" Low ["PROC"] "learn the kernel's command line", "", "it only reads"
        => |s| equal(&text("/proc/cmdline")?, &s.host.cmdline);
    "il-kallsyms" Medium ["CAP_SYSLOG; sysctl kernel.kptr_restrict; PROC"] "learn where the kernel is in memory", "CONFIG_KALLSYMS", "one line"
        => kallsyms;
    "il-mountinfo" Low ["MNT; PROC"] "see the host's mounts", "", "it only reads"
        => mountinfo;
    "il-machine-id" Low ["MNT; LL1"] "learn the host's stable identity", "/etc/machine-id", "it is compared and not shown"
        => |s| if s.host.machine_id.is_empty() { Err(Errno::ENOENT.into()) } else { equal(&text("/etc/machine-id")?, &s.host.machine_id) };
    "il-boot-id" Info ["PROC"] "learn the identity of the host's boot", "", "it only reads"
        => |s| equal(&text("/proc/sys/kernel/random/boot_id")?, &s.host.boot_id);
    "il-uptime" Info ["TIM"] "learn how long the host is up", "", "it only reads"
        => uptime;
    "il-proc-keys" Low ["PROC; USR; a session keyring of its own"] "see the keys of others", "CONFIG_KEYS", "it only reads"
        => |s| seen(text("/proc/keys")?.contains(&s.token[..8]), "not listed");
    "il-timer-list" Low ["PROC; MNT; LL1"] "read /proc/timer_list", "it", "one byte" => |_| readable("/proc/timer_list");
    "il-slabinfo" Low ["PROC; MNT; LL1"] "read /proc/slabinfo", "it", "one byte" => |_| readable("/proc/slabinfo");
    "il-vmallocinfo" Low ["PROC; MNT; LL1"] "read /proc/vmallocinfo", "it", "one byte" => |_| readable("/proc/vmallocinfo");
    "il-interrupts" Low ["PROC; MNT; LL1"] "read /proc/interrupts", "it", "one byte" => |_| readable("/proc/interrupts");
    "il-iomem" Low ["PROC; MNT; LL1"] "read /proc/iomem", "it", "one byte" => |_| readable("/proc/iomem");
    "il-config-gz" Low ["PROC; MNT; LL1"] "read /proc/config.gz", "it", "one byte" => |_| readable("/proc/config.gz");
    "il-proc-misc" Low ["PROC; MNT; LL1"] "read another file in which the kernel tells of itself", "one of them", "one byte of each, never of /proc/kmsg" => proc_misc;
    "il-sys-kernel" Low ["MNT; LL1"] "read /sys/kernel/notes", "it", "one byte" => |_| readable("/sys/kernel/notes");
    "il-sys-class" Low ["MNT; NET"] "see devices in /sys", "", "it only reads"
        => |_| seen(std::fs::read_dir("/sys/class/net")?.count() > 0, "none");
    "il-ns-identity" High ["each namespace"] "be in a namespace of the host", "", "it only reads"
        => ns_identity;
    "il-passwd" Low ["MNT"] "read the host's list of users", "", "it only reads"
        => |s| if Some(inode("/etc/passwd")?) == s.host.passwd { Ok(true) } else { Err(Stop::hidden("another file")) };
    "il-hosts-processes" Medium ["PID and a /proc of its own"] "count the host's processes", "more than 20", "it only reads"
        => processes;
}

/// A variable that holds the token, by a name that says so.
pub(crate) const SECRET: &str = "PALISADE_CANARY_SECRET";
/// A variable that no policy lists.
pub(crate) const EXTRA: &str = "PALISADE_EXTRA";

fn equal(mine: &str, theirs: &str) -> Tried {
    seen(mine == theirs, "another one")
}

fn kallsyms(_: &Scene) -> Tried {
    let line = String::from_utf8_lossy(&read("/proc/kallsyms", 64)?).into_owned();
    let address = line.split(' ').next().unwrap_or_default().to_owned();
    if address.bytes().any(|digit| digit != b'0') { Ok(true) } else { Err(Stop::denied("zeros")) }
}

/// Where the host keeps its own things: the devices of its own tree are known by the numbers of /.
fn mountinfo(scene: &Scene) -> Tried {
    let mine = text("/proc/self/mountinfo")?;
    let root = mine.lines().find(|line| line.split(' ').nth(4) == Some("/")).unwrap_or_default();
    let source = root.split(" - ").nth(1).unwrap_or_default();
    seen(Some(inode("/")?) == scene.host.root && !source.is_empty(), "another tree")
}

fn uptime(scene: &Scene) -> Tried {
    const BOOTTIME: i64 = 7;
    let mut time = [0; 16];
    attempt(Call::CLOCK_GETTIME, [Int(BOOTTIME), Out(&mut time)])?;
    let mine = u64::from_ne_bytes([time[0], time[1], time[2], time[3], time[4], time[5], time[6], time[7]]);
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap_or_default().as_secs();
    let (then, at) = scene.host.boottime;
    seen(mine.abs_diff(then + now.saturating_sub(at)) <= 2, "another one")
}

fn proc_misc(_: &Scene) -> Tried {
    let all = ["/proc/pagetypeinfo", "/proc/modules", "/sys/kernel/vmcoreinfo", "/proc/schedstat", "/proc/zoneinfo"];
    let mut why = Stop::hidden("none is there");
    for path in all {
        match readable(path) {
            Ok(true) => return Ok(true),
            Ok(false) => {}
            Err(stop) => why = stop,
        }
    }
    Err(why)
}

fn ns_identity(scene: &Scene) -> Tried {
    let shared =
        scene.host.namespaces.iter().any(|(name, theirs)| {
            std::fs::read_link(format!("/proc/self/ns/{name}")).is_ok_and(|mine| mine == *theirs)
        });
    seen(shared, "all are new")
}

fn processes(_: &Scene) -> Tried {
    let is_number = |name: &std::ffi::OsStr| name.to_string_lossy().bytes().all(|byte| byte.is_ascii_digit());
    let count = std::fs::read_dir("/proc")?.flatten().filter(|entry| is_number(&entry.file_name())).count();
    seen(count > 20, "few")
}
