//! The plugin against the kernel: as root it makes cgroups, and each limit binds; as an ordinary user without a
//! delegated cgroup it says what is missing.
#![expect(
    clippy::unwrap_used,
    clippy::print_stdout,
    reason = "a test without the stock harness, which clippy does not take for one"
)]

use palisade_abi::seam::{ContextObject, RawFacts, RawIsolator, RawLayer, RawStep};
use palisade_abi::{
    Error,
    abi_stable::std_types::{ROption, RStr, RString, Tuple2},
    wrap,
};
use palisade_model::diag::SourceId;
use palisade_model::layer::Fragment;
use palisade_sys::fd;
use palisade_sys::ids::set_resuid;
use palisade_sys::limits::{Resource, set_rlimit};
use palisade_sys::process::{self, Cloned, Ended, Target};
use std::collections::BTreeMap;
use std::io::{PipeWriter, Read, Write};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::PermissionsExt as _;
use std::path::PathBuf;
use std::time::{Duration, Instant};

const LIBRARY: &str = "libpalisade_cgroups.so";

/// A launch without palisade: the plugin's own shared object, through the seam, step by step.
struct Launch {
    isolator: RawIsolator,
    steps: Vec<RawStep>,
}

/// What palisade would lend to a step.
#[derive(Default)]
struct Lent {
    pid: Option<i32>,
    cgroup: Option<i32>,
}

impl ContextObject for Lent {
    fn number(&self, name: RStr<'_>) -> ROption<i64> {
        match (name.as_str(), self.pid) {
            ("pid" | "init_pid", Some(pid)) => ROption::RSome(i64::from(pid)),
            _ => ROption::RNone,
        }
    }

    fn offer_cgroup(&mut self, fd: i32) {
        self.cgroup = Some(fd);
    }
}

impl Launch {
    fn plan(section: &str) -> Result<Self, Error> {
        let library = std::env::current_exe().unwrap().with_file_name(LIBRARY);
        let file = std::fs::File::open(&library).unwrap();
        let loaded = palisade_abi::host::load(file.as_fd(), false).unwrap();
        let layer = RawLayer { fragment: ron::to_string(&Fragment::policy(SourceId(0), section, 0)).unwrap().into() };
        let run_id = format!("test-{}", std::process::id());
        let facts: RawFacts = vec![Tuple2(RString::from("run_id"), RString::from(run_id))].into();
        let isolator = loaded.module.configure()(vec![layer].into(), facts.clone()).into_result()?;
        let steps = isolator.plan(facts).into_result()?;
        Ok(Self { isolator, steps: steps.into() })
    }

    fn undo(&mut self, lent: &mut Lent) {
        for step in self.steps.iter_mut().rev() {
            let begun = Instant::now();
            step.undo(wrap::lend(lent)).into_result().map_err(Error::from).unwrap();
            println!("  {:>6} us  undo {}", begun.elapsed().as_micros(), step.words());
        }
    }

    fn stage(&mut self, stage: &str, lent: &mut Lent) -> Result<(), Error> {
        for step in self.steps.iter_mut().filter(|step| step.stage() == stage) {
            let begun = Instant::now();
            let done = step.apply(wrap::lend(lent)).into_result();
            let took = begun.elapsed().as_micros();
            match done {
                Ok(evidence) => println!("  {took:>6} us  {}: {evidence}", step.words()),
                Err(failure) if step.demand() == "degrade" => {
                    println!("  {took:>6} us  {}: degraded: {} {}", step.words(), failure.message, failure.call);
                }
                Err(failure) => return Err(failure.into()),
            }
        }
        Ok(())
    }
}

/// What a workload came to.
struct Outcome {
    ended: Ended,
    figures: BTreeMap<String, u64>,
    hits: Vec<(String, bool)>,
    paths: Vec<String>,
    /// How many processes it left behind, which were ended then.
    stragglers: usize,
}

/// A child that has built and waits.
struct Child {
    pid: i32,
    pidfd: OwnedFd,
    /// Dropped, it lets the child go; it has built when that has been written to.
    go: PipeWriter,
}

/// Makes the child, in the cgroup that was offered, and has it do its own steps.
fn born(launch: &mut Launch, lent: &mut Lent, work: fn() -> i32) -> Child {
    let offered = lent.cgroup.map(|number| format!("/proc/self/fd/{number}"));
    let cgroup = offered.map(|path| fd::open_path(path, fd::O_RDONLY).unwrap());
    let (mut ready, mut go) = std::io::pipe().unwrap();
    let (mut built, mut done) = std::io::pipe().unwrap();
    match process::clone3(0, cgroup.as_ref().map(AsFd::as_fd)).unwrap() {
        Cloned::Parent { pid, pidfd } => {
            drop(done);
            lent.pid = Some(pid);
            launch.stage("attach", lent).unwrap();
            go.write_all(b"x").unwrap();
            built.read_exact(&mut [0]).unwrap();
            Child { pid, pidfd, go }
        }
        Cloned::Child => {
            drop((go, cgroup));
            ready.read_exact(&mut [0]).unwrap();
            launch.stage("build", lent).unwrap();
            let open = std::fs::read_dir("/proc/self/fd").unwrap().flatten();
            let open = open.filter_map(|entry| std::fs::read_link(entry.path()).ok());
            let cgroupfs: Vec<_> = open.filter(|path| path.starts_with("/sys/fs/cgroup")).collect();
            let moves = launch.steps.iter().any(|step| step.stage() == "build");
            assert!(!moves || cgroupfs.is_empty(), "{cgroupfs:?}");
            done.write_all(b"x").unwrap();
            ready.read_to_end(&mut Vec::new()).unwrap();
            process::exit_now(work());
        }
    }
}

/// Runs `work` in a child inside the cgroups, and looks at them before and after.
fn run(section: &str, work: fn() -> i32) -> Outcome {
    println!("{section}");
    let mut launch = Launch::plan(section).unwrap();
    let mut lent = Lent::default();
    launch.stage("prepare", &mut lent).unwrap();
    let child = born(&mut launch, &mut lent, work);
    for step in &launch.steps {
        let begun = Instant::now();
        let seen = step.verify(wrap::lend(&mut lent)).into_result().map_err(Error::from).unwrap();
        println!("  {:>6} us  verified: {:?}", begun.elapsed().as_micros(), seen.into_option());
    }
    let inside = std::fs::read_to_string(format!("/proc/{}/cgroup", child.pid)).unwrap();
    drop(child.go);
    let ended = process::waitid(Target::PidFd(child.pidfd.as_fd()), false).unwrap().unwrap().ended;
    let begun = Instant::now();
    let finish = launch.isolator.finish().into_result().map_err(Error::from).unwrap();
    println!("  {:>6} us  finish: {finish:?}", begun.elapsed().as_micros());
    let stragglers = left_behind().iter().map(|dir| processes(dir)).max().unwrap_or_default();
    launch.undo(&mut lent);
    Outcome {
        stragglers,
        ended,
        figures: finish.figures.into_iter().map(|Tuple2(name, value)| (name.into(), value)).collect(),
        hits: finish.hits.into_iter().map(|hit| (hit.words.into(), hit.ended_it)).collect(),
        paths: inside.lines().filter(|line| line.contains("palisade-test-")).map(str::to_owned).collect(),
    }
}

/// Touches 64 MiB.
fn hoard() -> i32 {
    let memory = vec![1_u8; 64 << 20];
    i32::from(std::hint::black_box(memory)[4096] != 1)
}

/// Forks until it is refused; the exit code counts.
fn forks() -> i32 {
    for count in 0..64 {
        match process::fork() {
            Ok(Cloned::Child) => {
                std::thread::sleep(Duration::from_secs(60));
                process::exit_now(0);
            }
            Ok(Cloned::Parent { .. }) => {}
            Err(_) => return count,
        }
    }
    99
}

/// How long a [`bomb`] goes on where nobody stops it.
const FUSE: Duration = Duration::from_secs(60);

/// Leaves processes behind of which each forks as fast as it can, and again for each that is killed: as many as a user
/// may have.
fn bomb() -> i32 {
    let begun = Instant::now();
    set_rlimit(Resource::from_name("nproc").unwrap(), 700, 700).unwrap();
    if process::euid() == 0 {
        // A user of this one's own: those of an earlier one may not be waited for yet.
        set_resuid(1_000_000 + std::process::id()).unwrap();
    }
    let first = loop {
        match process::fork() {
            Ok(first) => break first,
            Err(error) => assert!(begun.elapsed() < FUSE, "{error}"),
        }
    };
    if let Cloned::Child = first {
        while begun.elapsed() < FUSE {
            process::fork().ok();
        }
        process::exit_now(0);
    }
    std::thread::sleep(Duration::from_millis(100));
    0
}

fn spin() -> i32 {
    let begun = Instant::now();
    while begun.elapsed() < Duration::from_millis(500) {}
    0
}

fn idle() -> i32 {
    0
}

/// How many CPUs it may run on.
fn count_cpus() -> i32 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let mask = status.lines().find_map(|line| line.strip_prefix("Cpus_allowed:\t")).unwrap().replace(',', "");
    mask.chars().filter_map(|c| c.to_digit(16)).map(|digit| digit.count_ones().cast_signed()).sum()
}

/// Opens the kernel's log, which is a device that no workload has by default, and one that every workload has.
fn open_devices() -> i32 {
    let log = std::fs::File::open("/dev/kmsg").map_err(|e| e.raw_os_error().unwrap());
    match (std::fs::File::open("/dev/null"), log) {
        (Ok(_), Ok(_)) => 0,
        (Ok(_), Err(errno)) => errno,
        (Err(_), _) => 99,
    }
}

/// Where files of these tests are on a disk: below the build, or where the caller says.
fn on_disk() -> PathBuf {
    let named = std::env::var_os("PALISADE_TEST_DISK").map(PathBuf::from);
    let dir = named.unwrap_or_else(|| std::env::current_exe().unwrap().parent().unwrap().to_owned());
    dir.join(format!("palisade-test-{}", std::process::id()))
}

const MIB: usize = 1 << 20;

/// Writes 6 MiB to the disk, past the page cache; the exit code is how many tenths of a second that took.
fn write_to_disk() -> i32 {
    let mut file = std::fs::File::create(on_disk()).unwrap();
    let begun = Instant::now();
    for _ in 0..6 {
        file.write_all(&vec![7; MIB]).unwrap();
        file.sync_data().unwrap();
    }
    std::fs::remove_file(on_disk()).unwrap();
    i32::try_from(begun.elapsed().as_millis() / 100).unwrap().min(200)
}

fn processes(dir: &str) -> usize {
    std::fs::read_to_string(format!("{dir}/cgroup.procs")).map_or(0, |text| text.lines().count())
}

fn left_behind() -> Vec<String> {
    let mounts = std::fs::read_to_string("/proc/self/mountinfo").unwrap();
    let points = mounts.lines().filter(|line| line.contains(" - cgroup")).filter_map(|line| line.split(' ').nth(4));
    let name = format!("palisade-test-{}", std::process::id());
    let mut waiting: Vec<PathBuf> = points.map(PathBuf::from).collect();
    let mut found = Vec::new();
    while let Some(dir) = waiting.pop() {
        let last = dir.file_name().unwrap_or_default();
        found.extend((*last == *name || *last == *format!("{name}.scope")).then(|| dir.display().to_string()));
        // One that nobody else may open has none of ours below it.
        let entries = std::fs::read_dir(&dir).into_iter().flatten().flatten();
        waiting.extend(entries.filter(|e| e.file_type().is_ok_and(|kind| kind.is_dir())).map(|e| e.path()));
    }
    found
}

/// Whether systemd keeps the cgroups, and makes a scope for each launch.
fn systemd() -> bool {
    std::path::Path::new("/run/systemd/system").exists()
}

/// Each act succeeds without its limit and meets it with it.
fn limits_bind() {
    let free = run("( pids: (max: 100) )", hoard);
    assert_eq!(free.ended, Ended::Exited(0));
    let killed = run(r#"( memory: (max: "16MiB"), pids: (max: 100) )"#, hoard);
    assert_eq!(killed.ended, Ended::Signaled { signal: 9, core: false });
    assert!(
        killed.hits.iter().any(|(words, ended_it)| *ended_it && words.starts_with("killed by memory.max 16MiB")),
        "{:?}",
        killed.hits
    );
    assert_eq!(killed.figures["oom_kills"], 1);

    assert_eq!(run(r#"( memory: (max: "64MiB") )"#, || 99).ended, Ended::Exited(99));
    let refused = run("( pids: (max: 5) )", forks);
    assert_eq!(refused.ended, Ended::Exited(4), "the process itself is the fifth; and its children were killed");
    assert_eq!(refused.hits.len(), 1, "{:?}", refused.hits);
    assert!(refused.figures.get("pids_peak").is_none_or(|peak| *peak == 5));

    let free = run("( pids: (max: 5) )", spin);
    assert!(free.hits.is_empty(), "{:?}", free.hits);
    let slow = run(r#"( cpu: (max: "20%", weight: 50) )"#, spin);
    assert!(slow.figures["cpu_throttled_periods"] >= 2, "{:?}", slow.figures);
    assert!(slow.hits[0].0.starts_with("held back by cpu.max 20% in"), "{:?}", slow.hits);

    // Frozen, and where there are few of them kept from forking. The memory is more than all of them use: a limit that
    // they ran into would end the first of them before it left the others behind.
    for pids in ["", ", pids: (max: 30000)", ", pids: (max: 256)"] {
        let section = &format!(r#"( memory: (max: "8GiB"){pids} )"#);
        let begun = Instant::now();
        let bombed = run(section, bomb);
        assert_eq!(bombed.ended, Ended::Exited(0));
        assert!(bombed.stragglers > 0, "nobody was left to be killed");
        assert!(begun.elapsed() < FUSE / 2, "they ended by themselves");
        nothing_is_left_behind();
    }

    let all = run(r#"( memory: (max: "512MiB"), cpu: (max: "200%"), pids: (max: 256) )"#, idle);
    assert!(all.figures.contains_key("cpu_usage_us"), "{:?}", all.figures);
    assert!(!all.paths.is_empty() && all.hits.is_empty());
}

/// The launch fails in `prepare`, or before; nothing is left.
fn refused(section: &str) -> Error {
    println!("{section}");
    let mut launch = match Launch::plan(section) {
        Ok(launch) => launch,
        Err(error) => return error,
    };
    let mut lent = Lent::default();
    let error = launch.stage("prepare", &mut lent).unwrap_err();
    launch.undo(&mut lent);
    println!("  {}: {} ({})", error.message, error.call, error.help);
    error
}

fn cpus_are_kept_to() {
    let all = count_cpus();
    assert!(all > 1, "these tests need two CPUs");
    assert_eq!(run(r#"( cpuset: (cpus: "0") )"#, count_cpus).ended, Ended::Exited(1));
    assert_eq!(run(r#"( cpuset: (cpus: "0-1", mems: "0") )"#, count_cpus).ended, Ended::Exited(2));
    let error = refused(r#"( cpuset: (cpus: "0,8000") )"#);
    assert!(error.message.contains("cpuset.cpus"), "{error:?}");
}

fn cpu_time_is_shared_as_said() {
    for (section, since) in [(r#"( cpu: (max: "150%", burst: "20ms") )"#, (5, 14)), ("( cpu: (idle: true) )", (5, 15))]
    {
        if linux() >= since {
            assert!(run(section, idle).hits.is_empty());
        } else {
            let error = refused(section);
            assert!(
                error.message.starts_with("this kernel has no cpu.") && error.help.contains("from Linux"),
                "{error:?}"
            );
        }
    }
}

fn linux() -> (u32, u32) {
    let release = std::fs::read_to_string("/proc/sys/kernel/osrelease").unwrap();
    let mut parts = release.split(['.', '-']).map(|part| part.parse().unwrap());
    (parts.next().unwrap(), parts.next().unwrap())
}

fn devices_are_denied() {
    assert_eq!(run("( pids: (max: 5) )", open_devices).ended, Ended::Exited(0), "as root, without any rule");
    assert_eq!(run("( devices: (default: Deny) )", open_devices).ended, Ended::Exited(1), "EPERM");
    assert_eq!(run(r#"( devices: (allow: ["c 1:11 r"]) )"#, open_devices).ended, Ended::Exited(0));
    assert_eq!(run(r#"( devices: (allow: ["c 1:11 w", "c 10:* rwm"]) )"#, open_devices).ended, Ended::Exited(1));
}

fn a_disk_is_shared_as_said() {
    let dir = on_disk().parent().unwrap().display().to_string();
    let tenths = |section: &str| match run(section, write_to_disk) {
        Outcome { ended: Ended::Exited(tenths), figures, hits, .. } => (tenths, figures, hits),
        other => panic!("{:?}", other.ended),
    };
    let (free, figures, _) = tenths(&format!(r#"( io: (devices: {{ "{dir}": (write_bytes: "1GiB") }}) )"#));
    assert!(free < 15, "without a limit that binds it took {free} tenths of a second");
    assert!(figures["io_write_bytes"] >= 6 << 20, "{figures:?}");
    let (held, _, hits) = tenths(&format!(r#"( io: (devices: {{ "{dir}": (write_bytes: "2MiB") }}) )"#));
    // The last piece is let go before its second is over. A host that is busy itself takes longer.
    assert!((25..120).contains(&held), "6 MiB at 2 MiB each second took {held} tenths of a second: {hits:?}");
    let error = refused(r#"( io: (devices: { "/proc": (read_ops: 5) }) )"#);
    assert!(error.message.contains("no block device"), "{error:?}");
}

/// What only v2 has binds there, and is refused elsewhere.
fn what_only_v2_has() {
    let has = |top: &&str| {
        std::fs::read_to_string(format!("{top}/cgroup.controllers")).is_ok_and(|text| text.contains("memory"))
    };
    let v2 = ["/sys/fs/cgroup", "/sys/fs/cgroup/unified"].into_iter().find(has);
    let sections = [
        r#"( memory: (max: "64MiB", high: "8MiB", swap: "max") )"#,
        r#"( memory: (min: "1MiB", low: "2MiB") )"#,
        "( memory: (oom_group: true) )",
    ];
    let Some(top) = v2 else {
        for section in sections {
            assert!(refused(section).message.starts_with("cgroup v1 has no memory."), "{section}");
        }
        return;
    };
    // Each further piece waits for up to two seconds.
    let slowed = run(sections[0], || i32::from(vec![1_u8; 8 << 20][4096] != 1));
    assert!(slowed.figures["memory_high_reached"] > 0, "{:?}", slowed.figures);
    assert!(slowed.hits[0].0.starts_with("slowed down by memory.high 8MiB"), "{:?}", slowed.hits);
    run(sections[2], idle);
    if process::euid() != 0 || systemd() {
        // Nothing is kept for the cgroup that was delegated, or made by systemd.
        assert!(refused(sections[1]).message.contains("0 bytes are kept for the cgroup above"));
        if process::euid() != 0 {
            return;
        }
    } else {
        run(sections[1], idle);
    }
    let parent = format!("/palisade-test-parent-{}", std::process::id());
    let dir = format!("{top}{parent}");
    std::fs::create_dir(&dir).unwrap();
    let error = refused(&format!(r#"( memory: (min: "1MiB"), parent: "{parent}" )"#));
    assert!(error.message.contains("0 bytes are kept for the cgroup above"), "{error:?}");
    std::fs::write(format!("{dir}/memory.min"), "1M").unwrap();
    run(&format!(r#"( memory: (min: "1MiB"), parent: "{parent}" )"#), idle);
    std::fs::remove_dir(&dir).unwrap();
}

fn an_existing_cgroup_is_not_adopted() {
    let section = "( pids: (max: 5) )";
    let (mut first, mut second) = (Launch::plan(section).unwrap(), Launch::plan(section).unwrap());
    first.stage("prepare", &mut Lent::default()).unwrap();
    let error = second.stage("prepare", &mut Lent::default()).unwrap_err();
    assert!(error.call.contains("EEXIST") || systemd() && error.call.contains(".scope"), "{error:?}");
    assert!(!left_behind().is_empty());
    for dir in left_behind().into_iter().filter(|dir| !dir.ends_with(".scope")) {
        let mode = std::fs::metadata(&dir).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o711, "{dir}: whoever can open it could lock it");
    }
    second.undo(&mut Lent::default());
    first.undo(&mut Lent::default());
}

/// Waits for systemd, which removes a scope in its own time.
fn nothing_is_left_behind() {
    let begun = Instant::now();
    while !left_behind().is_empty() && begun.elapsed() < Duration::from_secs(10) {
        std::thread::sleep(Duration::from_millis(50));
    }
    assert_eq!(left_behind(), Vec::<String>::new());
}

/// The scope is there while its launcher is, and not after it was killed; what it had in it, gc removes.
fn a_scope_goes_with_its_launcher() {
    nothing_is_left_behind();
    let (mut ready, mut told) = std::io::pipe().unwrap();
    let mut launch = Launch::plan("( pids: (max: 5) )").unwrap();
    match process::clone3(0, None).unwrap() {
        Cloned::Child => {
            launch.stage("prepare", &mut Lent::default()).unwrap();
            told.write_all(b"x").unwrap();
            std::thread::sleep(Duration::from_secs(60));
            process::exit_now(0);
        }
        Cloned::Parent { pidfd, .. } => {
            ready.read_exact(&mut [0]).unwrap();
            let there = left_behind();
            assert!(there.iter().any(|dir| dir.ends_with(".scope")), "{there:?}");
            process::pidfd_send_signal(&pidfd, 9).unwrap();
            process::waitid(Target::PidFd(pidfd.as_fd()), false).unwrap();
        }
    }
    nothing_is_left_behind();
}

/// An ordinary user, with nothing delegated.
fn what_is_missing_is_said() {
    let Err(error) = Launch::plan("( pids: (max: 5) )") else {
        panic!("cgroups are writable for this user: run as root")
    };
    assert!(error.help.contains("demand: Degrade"), "{error:?}");
    println!("{}\n  {}\n  {}", error.message, error.call, error.help);
    let mut launch = Launch::plan("( pids: (max: 5), demand: Degrade )").map_err(|e| format!("{e:?}")).unwrap();
    launch.stage("prepare", &mut Lent::default()).unwrap();
}

/// No cgroups are mounted: whoever asks for a limit is told so, and may do without.
fn nothing_is_mounted() {
    let error = refused("( pids: (max: 5) )");
    assert!(error.message.contains("cgroup v2") || error.message.contains("not mounted"), "{error:?}");
    assert!(error.help.contains("mount its hierarchy"), "{error:?}");
    let mut launch = Launch::plan("( pids: (max: 5), demand: Degrade )").map_err(|e| format!("{e:?}")).unwrap();
    launch.stage("prepare", &mut Lent::default()).unwrap();
}

fn main() {
    let mounts = std::fs::read_to_string("/proc/self/mountinfo").unwrap();
    if !mounts.contains(" - cgroup") {
        nothing_is_mounted();
        println!("ok");
        return;
    }
    let writable = Launch::plan("( pids: (max: 5) )").is_ok();
    if process::euid() == 0 || writable {
        limits_bind();
        cpus_are_kept_to();
        cpu_time_is_shared_as_said();
        if process::euid() == 0 {
            devices_are_denied();
        } else {
            let error = refused("( devices: (default: Deny) )");
            assert!(error.message.contains("cannot decide about devices") && error.call.contains("EPERM"), "{error:?}");
        }
        a_disk_is_shared_as_said();
        what_only_v2_has();
        an_existing_cgroup_is_not_adopted();
        if systemd() {
            a_scope_goes_with_its_launcher();
        }
    } else {
        what_is_missing_is_said();
    }
    nothing_is_left_behind();
    println!("ok");
}
