//! Each limit that a policy can ask for, in the file of whatever kernel and layout of cgroups this runs on: it is there
//! while the workload runs, as whoever looks from outside sees it, or the launch has ended with an error that names it.

use palisade_sys::host;
use palisade_tests::{EmptyCgroups, Ran, Run, Scratch, is_root};
use std::io::{Read as _, Write as _};
use std::path::Path;
use std::process::Stdio;
use std::sync::{Mutex, PoisonError};

/// A limit: its option, the section, and for v2 and v1 the file with the words that a line of it is to have. No file: it
/// is to be refused. `DISK` stands for the disk of these tests, by a path in the section and by its number in a line.
struct Row(&'static str, &'static str, [&'static str; 2], [&'static str; 2]);

const NONE: [&str; 2] = ["", ""];

const ROWS: [Row; 22] = [
    Row("memory.max", r#"memory: (max: "64MiB")"#, ["memory.max", "67108864"], ["memory.limit_in_bytes", "67108864"]),
    Row("memory.high", r#"memory: (high: "48MiB")"#, ["memory.high", "50331648"], NONE),
    Row("memory.low", r#"memory: (low: "8MiB")"#, ["memory.low", "8388608"], NONE),
    Row("memory.min", r#"memory: (min: "4MiB")"#, ["memory.min", "4194304"], NONE),
    Row(
        "memory.swap",
        r#"memory: (max: "64MiB", swap: "16MiB")"#,
        ["memory.swap.max", "16777216"],
        ["memory.memsw.limit_in_bytes", "83886080"],
    ),
    Row("memory.zswap", r#"memory: (zswap: "8MiB")"#, ["memory.zswap.max", "8388608"], NONE),
    Row("memory.oom_group", "memory: (oom_group: true)", ["memory.oom.group", "1"], NONE),
    Row("cpu.max", r#"cpu: (max: "50%")"#, ["cpu.max", "50000 100000"], ["cpu.cfs_quota_us", "50000"]),
    Row("cpu.burst", r#"cpu: (max: "50%", burst: "20ms")"#, ["cpu.max.burst", "20000"], ["cpu.cfs_burst_us", "20000"]),
    Row("cpu.weight", "cpu: (weight: 50)", ["cpu.weight", "50"], ["cpu.shares", "512"]),
    Row("cpu.idle", "cpu: (idle: true)", ["cpu.idle", "1"], ["cpu.idle", "1"]),
    Row("cpuset.cpus", r#"cpuset: (cpus: "1")"#, ["cpuset.cpus", "1"], ["cpuset.cpus", "1"]),
    Row("cpuset.mems", r#"cpuset: (mems: "0")"#, ["cpuset.mems", "0"], ["cpuset.mems", "0"]),
    Row("cpuset.partition", r#"cpuset: (cpus: "1", partition: Root)"#, ["cpuset.cpus.partition", "root"], NONE),
    Row("cpuset.partition", r#"cpuset: (cpus: "1", partition: Isolated)"#, ["cpuset.cpus.partition", "isolated"], NONE),
    Row("pids.max", "pids: (max: 64)", ["pids.max", "64"], ["pids.max", "64"]),
    Row(
        "io.devices",
        r#"io: (devices: {"DISK": (read_bytes: "1MiB", write_ops: 70)})"#,
        ["io.max", "DISK rbps=1048576 wiops=70"],
        ["blkio.throttle.write_iops_device", "DISK 70"],
    ),
    Row("latency", r#"io: (devices: {"DISK": (latency: "10ms")})"#, ["io.latency", "DISK target=10000"], NONE),
    Row("io.weight", "io: (weight: 50)", ["io.weight", "default 50"], ["blkio.bfq.weight", "50"]),
    Row(
        "hugetlb",
        r#"hugetlb: {"2MB": "4MiB"}"#,
        ["hugetlb.2MB.max", "4194304"],
        ["hugetlb.2MB.limit_in_bytes", "4194304"],
    ),
    // No host that tests run on has them, and the kernel says so.
    Row("rdma", r#"rdma: {"palisade-has-none": (handles: 5)}"#, NONE, NONE),
    Row("misc", r#"misc: {"palisade-has-none": 5}"#, NONE, NONE),
];

/// A launch that waits, so that one can look; or what it said.
fn launch<T>(cgroups: &str, look: impl FnOnce(&str) -> T) -> Result<T, Ran> {
    let scratch = Scratch::new();
    let policy = scratch.policy(&format!(
        "Policy(version: 1, extends: [\"untrusted\"], plugins: {{ \"cgroups\": (demand: Require, {cgroups}) }})"
    ));
    let run = Run::under(&policy, ["cat"]);
    let mut command = run.command();
    let mut child =
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::null()).spawn().expect("palisade starts");
    // Where it ends early the pipe breaks, which the next line finds out.
    child.stdin.as_ref().unwrap().write_all(b"\n").ok();
    let ready = child.stdout.as_mut().unwrap().read(&mut [0]).unwrap() == 1;
    let found = ready.then(|| look(&format!("palisade-{}-", child.id())));
    drop(child.stdin.take());
    let status = child.wait().unwrap();
    match found {
        Some(found) => {
            assert!(status.success(), "{cgroups}: {status}");
            Ok(found)
        }
        None => Err(run.ran()),
    }
}

/// A file of the cgroups whose names begin so. A scope of systemd's has such a name too, and is only where they are.
fn file_of(name: &str, file: &str) -> Option<String> {
    let found = Run::bare(["find", "/sys/fs/cgroup", "-path", &format!("*/{name}*/{file}")]).ran().stdout;
    let own = |path: &&str| {
        let dir = Path::new(path).parent().and_then(Path::file_name).unwrap().to_string_lossy();
        dir.starts_with(name) && !dir.ends_with(".scope")
    };
    found.lines().find(own).map(|path| std::fs::read_to_string(path).unwrap())
}

/// Whether a line has these words and, where it is not one for a disk, no others.
fn has_words(text: &str, line: &str) -> bool {
    let split = |line: &str| line.split(' ').map(str::to_owned).collect::<Vec<_>>();
    let wanted = split(line);
    text.lines().any(|found| {
        let found = split(found);
        found == wanted || line.contains(':') && found[0] == wanted[0] && wanted.iter().all(|word| found.contains(word))
    })
}

/// A path on a disk, and the number of that as a whole.
fn disk() -> (String, String) {
    let path = std::env::var("PALISADE_TEST_DISK").unwrap_or_else(|_| "/var/tmp".to_owned());
    let script = "set -e; device=/sys/dev/block/$(stat -c %Hd:%Ld \"$0\"); device=$(readlink -f \"$device\"); \
        if [ -e \"$device/partition\" ]; then device=$(dirname \"$device\"); fi; cat \"$device/dev\"";
    let number = Run::bare(["sh", "-c", script, &path]).ran().code(0).stdout;
    (path, number.trim_end().to_owned())
}

/// What is not to be had although the kernel has the file: systemd hands over five controllers only, and keeps nothing
/// for what is in its slices.
fn beyond(option: &str) -> bool {
    let systemd = Path::new("/run/systemd/system").exists();
    let kept = ["memory.low", "memory.min", "cpuset.partition", "hugetlb"];
    let isolated = option == "Isolated" && host::kernel_version().unwrap() < (6, 1);
    isolated || systemd && kept.contains(&option) || option == "io.weight" && !shared_by_weight()
}

/// Whether a disk is shared by weights: v2 with the cost model, v1 with BFQ.
fn shared_by_weight() -> bool {
    match std::fs::read_to_string("/sys/fs/cgroup/io.cost.qos") {
        Ok(model) => model.contains(" enable=1"),
        Err(_) => Run::bare(["sh", "-c", "cat /sys/block/*/queue/scheduler"]).ran().stdout.contains("[bfq]"),
    }
}

/// A weight binds nothing where no disk goes by it. In a guest, of which nothing is left, one is made to.
fn weights() {
    if !shared_by_weight() {
        let ran = launch("io: (weight: 50)", |_| ()).unwrap_err();
        assert!(matches!(ran.code, Some(120 | 121)), "{:?} {}", ran.code, ran.stderr);
    }
    if std::env::var_os("PALISADE_VM").is_some() {
        let script = "echo \"$1 enable=1\" >/sys/fs/cgroup/io.cost.qos; echo bfq >/sys/dev/block/$1/queue/scheduler";
        Run::bare(["sh", "-c", script, "sh", &disk().1]).ran();
    }
}

/// The tests make cgroups of the same names.
static ONE: Mutex<()> = Mutex::new(());

#[test]
fn each_limit_is_in_the_kernel_or_the_launch_ends() {
    let _alone = ONE.lock().unwrap_or_else(PoisonError::into_inner);
    if !is_root() || EmptyCgroups::new().none() {
        return ordinary();
    }
    weights();
    let (mut wrong, mut set) = (Vec::new(), 0);
    let empty = EmptyCgroups::new();
    let had: Vec<[bool; 2]> = ROWS.iter().map(|row| [empty.has(row.2[0]), empty.has(row.3[0])]).collect();
    drop(empty);
    let (dir, number) = disk();
    for (Row(option, section, v2, v1), had) in ROWS.iter().zip(had) {
        let isolated = if section.contains("Isolated") { "Isolated" } else { option };
        // One that both versions name the same is in one of them.
        let expected = had[0] || had[1];
        let possible = expected && !beyond(option) && !beyond(isolated);
        let line = |name: &str| {
            let found = |[file, line]: &[&str; 2]| {
                let text = (!file.is_empty()).then(|| file_of(name, file)).flatten()?;
                Some((has_words(&text, &line.replace("DISK", &number)), text))
            };
            found(v2).or_else(|| found(v1))
        };
        match launch(&section.replace("DISK", &dir), line) {
            Ok(Some((true, _))) if possible => {
                println!("had: {section}");
                set += 1;
            }
            Ok(found) => wrong.push(format!("{section}: launched with {found:?}, possible: {possible}")),
            Err(ran) if possible => wrong.push(format!("{section}: {:?} {}", ran.code, ran.stderr)),
            Err(ran) => {
                if !matches!(ran.code, Some(120 | 121)) || !ran.stderr.contains(option) {
                    wrong.push(format!("{section}: refused with {:?} {}", ran.code, ran.stderr));
                }
            }
        }
    }
    println!("{set} of {} limits can be had here", ROWS.len());
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

/// How much of the 24 MiB of page cache that one workload has written is still there after another has written 64 MiB
/// beside it, where both have 48 MiB together. In MiB.
fn left_of_24(mounted: &Path, reserved: &str) -> u64 {
    let parent = format!("/palisade-test-reserved-{}", std::process::id());
    let top = format!("{}{parent}", mounted.display());
    std::fs::create_dir(&top).unwrap();
    std::fs::write(format!("{top}/memory.max"), "48M").unwrap();
    for file in ["memory.min", "memory.low"] {
        std::fs::write(format!("{top}/{file}"), "40M").unwrap();
    }
    let scratch = Scratch::new();
    let policy = |section: &str| {
        let section = format!("parent: \"{parent}\", memory: (swap: \"max\", {section})");
        scratch.policy(&format!("Policy(version: 1, plugins: {{ \"cgroups\": ({section}) }})"))
    };
    let write = |name: &str, mib: u32| format!("dd if=/dev/zero of={}/{name} bs=1M count={mib} conv=fsync", disk().0);
    let script = format!("{} 2>/dev/null; echo; cat", write("palisade-kept", 24));
    let mut command = Run::under(policy(&format!("max: \"44MiB\", {reserved}")), ["sh", "-c", &script]).command();
    let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
    assert_eq!(child.stdout.as_mut().unwrap().read(&mut [0]).unwrap(), 1);
    let name = format!("palisade-{}-", child.id());
    let bytes = || file_of(&name, "memory.current").unwrap().trim_end().parse::<u64>().unwrap();
    assert!(bytes() > 22 << 20, "it has {} bytes to begin with", bytes());
    Run::under(policy("max: \"44MiB\""), ["sh", "-c", &write("palisade-other", 64)]).ran().code(0);
    let left = bytes() >> 20;
    drop(child.stdin.take());
    assert!(child.wait().unwrap().success());
    for name in ["palisade-kept", "palisade-other"] {
        std::fs::remove_file(format!("{}/{name}", disk().0)).unwrap();
    }
    std::fs::remove_dir(&top).unwrap();
    left
}

#[test]
fn what_is_kept_for_one_workload_another_cannot_take() {
    let _alone = ONE.lock().unwrap_or_else(PoisonError::into_inner);
    if !is_root() || EmptyCgroups::new().none() || beyond("memory.min") {
        return ordinary();
    }
    let Some(mounted) = EmptyCgroups::new().top("memory.min").map(Path::to_owned) else {
        let ran = launch("memory: (min: \"4MiB\")", |_| ()).unwrap_err();
        return drop(ran.code(120).says("memory.min"));
    };
    let [free, min, low] = ["", "min: \"32MiB\"", "low: \"32MiB\""].map(|reserved| left_of_24(&mounted, reserved));
    println!("of 24 MiB, {free} are left, with memory.min {min}, with memory.low {low}");
    assert!(free < 20 && min >= 23 && low >= 23, "{free} {min} {low}");
}

/// An ordinary user has what was delegated: `tests/guest.rs` looks at that. Where nothing is mounted nobody has anything.
fn ordinary() {
    let (dir, _) = disk();
    for Row(option, section, _, _) in &ROWS {
        if let Err(ran) = launch(&section.replace("DISK", &dir), |_| ()) {
            assert!(matches!(ran.code, Some(120 | 121)), "{option}: {:?} {}", ran.code, ran.stderr);
            assert!(ran.stderr.contains("error"), "{}", ran.stderr);
        }
    }
}
