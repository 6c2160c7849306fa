//! Ready-made steps, which palisade does for a plugin: done, read back, undone, and refused where they would change the
//! host or make no sense.

use palisade_tests::{Leftovers, PluginDir, Ran, Run, Who, built};
use std::ops::Deref;

/// A directory that is root's with the plugin in it.
struct Bench(PluginDir);

impl Deref for Bench {
    type Target = PluginDir;

    fn deref(&self) -> &PluginDir {
        &self.0
    }
}

impl Bench {
    fn new() -> Option<Self> {
        let bench = Self(PluginDir::new("ready")?);
        std::fs::copy(built().with_file_name("libreadymade.so"), bench.dir.join("libpalisade_readymade.so")).unwrap();
        for who in [Who::Root, Who::User] {
            let words = ["plugin", "verify", "readymade", "--grant", "build,drop,seal"];
            bench.palisade(who, &words).ran().code(0);
        }
        Some(bench)
    }

    /// A run of a script under these steps and this rest of a policy.
    fn run(&self, who: Who, rest: &str, steps: &[&str], script: &str) -> Ran {
        let steps: Vec<String> = steps.iter().map(|step| format!("{step:?}")).collect();
        let policy = self.home.policy(&format!(
            "Policy(version: 1, process: (env: Keep([\"PATH\"]), cwd: \"/\"), plugins: {{\n{rest}\n\"readymade\": (steps: [{}]) }})",
            steps.join(",\n")
        ));
        let policy = policy.to_str().unwrap();
        self.palisade(who, &["run", "--policy", policy, "--", "sh", "-c", script]).ran()
    }
}

const OWN: &str = "\"namespaces\": (user: New, mount: New, uts: New, net: New, ipc: New, pid: New),";

#[test]
fn a_view_is_made_of_data_alone() {
    let Some(bench) = Bench::new() else { return };
    let before = Leftovers::now();
    let steps = [
        "build Hostname(name: \"fence\")",
        "build Mount(fstype: \"tmpfs\", source: \"ready\", target: \"/mnt\", flags: [\"nosuid\", \"noexec\"], data: \"size=64k,mode=755\")",
        "build MakeDirectory(path: \"/mnt/a\", mode: 0o750)",
        "build WriteFile(path: \"/mnt/a/f\", text: \"from data\\n\", mode: 0o640)",
        "build Mount(source: \"/mnt/a\", target: \"/srv\", flags: [\"bind\", \"ro\"])",
        "build WriteFile(path: \"/proc/sys/net/ipv4/ip_default_ttl\", text: \"77\")",
        "drop Limit(resource: \"RLIMIT_NOFILE\", soft: 77, hard: 78)",
        "drop Limit(resource: \"RLIMIT_CORE\", soft: 0, hard: \"unlimited\")",
    ];
    let script = "hostname; cat /srv/f; touch /srv/g 2>/dev/null || echo refused; stat -c %a /srv /srv/f; \
        cat /proc/sys/net/ipv4/ip_default_ttl; ulimit -n; ulimit -Hn; ulimit -c; \
        grep ' /mnt ' /proc/self/mountinfo | grep -o 'nosuid,noexec'";
    for who in [Who::Root, Who::User] {
        let ran = bench.run(who, OWN, &steps, script).code(0);
        assert_eq!(ran.stdout, "fence\nfrom data\nrefused\n750\n640\n77\n77\n78\n0\nnosuid,noexec\n", "{who:?}");
        // The twin: nothing of it is so without the steps.
        let ran = bench.run(who, OWN, &[], script);
        for gone in ["fence", "from data", "77", "noexec"] {
            assert!(!ran.stdout.contains(gone), "{who:?} {gone}: {}", ran.stdout);
        }
    }
    before.same();
}

/// In the report stands what the kernel was seen to believe.
#[test]
fn what_was_read_back_stands_in_the_report() {
    let Some(bench) = Bench::new() else { return };
    let report = bench.home.path().join("report");
    let policy = bench.home.policy(
        "Policy(version: 1, process: (env: Keep([\"PATH\"])), plugins: { \"readymade\": (steps: [\
         \"clone Namespaces(flags: [\\\"CLONE_NEWUTS\\\", \\\"CLONE_NEWIPC\\\"])\", \"build Hostname(name: \\\"fence\\\")\",\
         \"seal Filter(instructions: [(6, 0, 0, 0x7fff0000)])\"]) })",
    );
    let words = ["run", "--report", report.to_str().unwrap(), "--policy", policy.to_str().unwrap(), "hostname"];
    let own = std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap();
    let ran = bench.palisade(Who::Root, &words).ran().code(0);
    assert_eq!(ran.stdout, "fence\n");
    assert_eq!(std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap(), own);
    let report = std::fs::read_to_string(report).unwrap();
    for seen in ["uts:[", "ipc:[", "reads back as `fence`", "1 instructions; Seccomp: 2, "] {
        assert!(report.contains(seen), "no {seen} in {report}");
    }
    let details = bench.palisade(Who::Root, &["plan", "--details", "--policy", policy.to_str().unwrap(), "true"]);
    details.ran().code(0).prints("Hostname(name:\"fence\")");
}

#[test]
fn a_filter_binds_the_workload() {
    let Some(bench) = Bench::new() else { return };
    // Loads the number of the call; uname is answered with EPERM, all else is allowed.
    let call = if cfg!(target_arch = "aarch64") { 160 } else { 63 };
    let filter = format!(
        "seal Filter(instructions: [(0x20, 0, 0, 0), (0x15, 0, 1, {call}), (6, 0, 0, 0x50001), (6, 0, 0, 0x7fff0000)])"
    );
    for who in [Who::Root, Who::User] {
        assert_eq!(bench.run(who, OWN, &[], "uname").code(0).stdout, "Linux\n", "{who:?}");
        bench.run(who, OWN, &[&filter], "uname").code(1).says("uname: cannot get system name");
    }
    // One that the kernel refuses ends the launch, and nothing runs.
    let ran = bench.run(Who::User, OWN, &["seal Filter(instructions: [(0xffff, 0, 0, 0)])"], "echo ran");
    assert_eq!(ran.code(121).says("seccomp(SET_MODE_FILTER").says("EINVAL").stdout, "");
}

#[test]
fn what_a_step_changed_on_the_host_is_put_back() {
    let Some(bench) = Bench::new() else { return };
    let home = bench.home.text().to_owned();
    let old = bench.home.file("old", "what stood here, and more\n");
    std::os::unix::fs::chown(&old, Some(palisade_tests::USER), None).unwrap();
    let steps = [
        format!("prepare WriteFile(path: \"{home}/old\", text: \"new\")"),
        format!("prepare MakeDirectory(path: \"{home}/dir\", mode: 0o755)"),
        format!("attach WriteFile(path: \"{home}/dir/made\", text: \"made\", mode: 0o644)"),
    ];
    let mut steps: Vec<&str> = steps.iter().map(String::as_str).collect();
    let script = format!("cat {home}/old {home}/dir/made");
    let back = || {
        assert_eq!(std::fs::read_to_string(&old).unwrap(), "what stood here, and more\n");
        assert!(!bench.home.path().join("dir").exists());
    };
    for who in [Who::Root, Who::User] {
        assert_eq!(bench.run(who, "", &steps, &script).code(0).stdout, "newmade", "{who:?}");
        back();
    }
    // Also after a launch that fails later, and then nothing has run.
    steps.push("build Hostname(name: \"fence\")");
    let ran = bench.run(Who::User, "", &steps, "echo ran");
    assert_eq!(ran.code(121).stdout, "");
    back();
}

/// Nothing in the child may change the host: that is not undone.
#[test]
fn the_host_itself_is_not_changed_from_the_child() {
    let Some(bench) = Bench::new() else { return };
    let name = std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap();
    let ttl = std::fs::read_to_string("/proc/sys/net/ipv4/ip_default_ttl").unwrap();
    for (step, kind) in [
        ("build Hostname(name: \"fence\")", "uts"),
        ("build WriteFile(path: \"/proc/sys/net/ipv4/ip_default_ttl\", text: \"77\")", "net"),
        ("build Mount(fstype: \"tmpfs\", target: \"/mnt\")", "mnt"),
        ("build MakeDirectory(path: \"/mnt/ready\", mode: 0o755)", "mnt"),
        ("build WriteFile(path: \"/mnt/ready\", text: \"\", mode: 0o644)", "mnt"),
    ] {
        let ran = bench.run(Who::Root, "", &[step], "echo ran").code(121);
        let ran = ran.says("this would change the host itself").says(&format!("give the workload a {kind} namespace"));
        assert_eq!(ran.stdout, "");
    }
    let own_mounts = "\"namespaces\": (mount: New),";
    let switch = "build WriteFile(path: \"/sys/kernel/mm/transparent_hugepage/enabled\", text: \"never\")";
    if std::path::Path::new("/sys/kernel/mm/transparent_hugepage/enabled").exists() {
        bench.run(Who::Root, own_mounts, &[switch], "true").code(121).says("is a switch of the whole host");
    }
    let of_a_process = "build WriteFile(path: \"/proc/1/oom_score_adj\", text: \"1\")";
    bench.run(Who::Root, own_mounts, &[of_a_process], "true").code(121).says("not below /proc/sys");
    assert_eq!(std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap(), name);
    assert_eq!(std::fs::read_to_string("/proc/sys/net/ipv4/ip_default_ttl").unwrap(), ttl);
    assert!(!std::path::Path::new("/mnt/ready").exists());
}

#[test]
fn what_makes_no_sense_is_refused_with_the_step_and_before_anything_is_done() {
    let Some(bench) = Bench::new() else { return };
    let home = bench.home.text().to_owned();
    let first = format!("prepare MakeDirectory(path: \"{home}/dir\", mode: 0o755)");
    let ran = bench.run(Who::User, "", &[&first, "seal Hostname(name: \"x\")"], "true").code(119);
    ran.says("its ready-made step Hostname makes no sense in stage seal; it belongs in build")
        .says("step    Hostname(name: \"x\")");
    let ran =
        bench.run(Who::User, "", &[&first, "build WriteFile(path: \"/proc/sys/vm/swappiness\", text: \"1\")"], "true");
    ran.code(119).says("the whole host's");
    assert!(!bench.home.path().join("dir").exists());
}

/// Whoever can write a directory could have pointed the name elsewhere, or put something there that blocks.
#[test]
fn links_and_pipes_are_not_written_to() {
    let Some(bench) = Bench::new() else { return };
    let home = bench.home.text().to_owned();
    let victim = bench.home.file("victim", "safe");
    std::os::unix::fs::symlink("victim", bench.home.path().join("link")).unwrap();
    std::os::unix::fs::symlink(&home, bench.home.path().join("up")).unwrap();
    Run::bare(["mkfifo", &format!("{home}/pipe")]).ran().code(0);
    let write = |name: &str| {
        let step = format!("prepare WriteFile(path: \"{home}/{name}\", text: \"changed\", mode: 0o644)");
        bench.run(Who::Root, "", &[&step], "true")
    };
    write("link").code(121).says("ELOOP");
    write("up/victim").code(121).says("ELOOP").says("without symbolic links");
    write("pipe").code(121).says("is no regular file");
    assert_eq!(std::fs::read_to_string(&victim).unwrap(), "safe");
    write("victim").code(0);
    assert_eq!(std::fs::read_to_string(&victim).unwrap(), "safe");
}

/// A mount that another step covers afterwards is not in the view that the workload gets.
#[test]
fn a_mount_that_is_covered_again_is_noticed() {
    let Some(bench) = Bench::new() else { return };
    let mount = "build Mount(fstype: \"tmpfs\", target: \"/mnt\")";
    bench.run(Who::User, OWN, &[mount], "true").code(0);
    let ran = bench.run(Who::User, OWN, &[mount, mount], "true").code(121);
    ran.says("does not show the mount that was made there");
}
