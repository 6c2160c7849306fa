//! Harmless attempts to get out, each tried without and with `untrusted`. One that was not open without the policy
//! proves nothing and does not count.

use palisade_tests::{Leftovers, Run, Who, everybody, is_root, program, slowness, tree};
use std::sync::{Mutex, MutexGuard};

/// What stays open under `untrusted`, and why that is known.
const KNOWN: &[(&str, &str)] = &[
    ("il-boot-id", "docs/limits-of-palisade.md: /proc/sys is readable, the boot id with it"),
    ("il-uptime", "docs/limits-of-palisade.md: the clocks are the host's without a time namespace"),
];

/// The same for an ordinary user, where the host delegates no cgroup to it: the limit on processes is degraded, and
/// the report says so.
const KNOWN_AS_USER: &[&str] = &["rs-fork"];

/// Attempts that must have been open without the policy and blocked with it.
const AT_LEAST: usize = 100;

fn alone() -> MutexGuard<'static, ()> {
    static ONE: Mutex<()> = Mutex::new(());
    ONE.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
}

struct Probe {
    name: String,
    bare: String,
    under: String,
}

impl Probe {
    fn blocked(&self) -> bool {
        self.bare == "OPEN"
            && ["DENIED", "HIDDEN", "VIRTUAL", "LIMITED", "KILLED"].iter().any(|how| self.under.starts_with(how))
    }
}

fn probes(who: Who, policy: &str) -> Vec<Probe> {
    let script = |name: &str| tree().join("tests/probes").join(name);
    // A checkout may lie below somebody's home, where an ordinary user cannot read.
    let place = palisade_tests::Scratch::new();
    let copied = |name: &str| place.file(name, std::fs::read(script(name)).unwrap());
    let (arms, inside) = (copied("arms.py"), copied("inside.py"));
    let words = ["python3".into(), arms.into_os_string(), inside.into_os_string(), policy.into(), program().into()];
    // Not the whole slowness: some wait for what never comes.
    let ran = Run::bare(words).who(who).env("PALISADE_TEST_SLOW", &slowness().min(8).to_string()).ran().code(0);
    let line = |line: &str| {
        let mut parts = line.split('\t').map(str::to_owned);
        Probe { name: parts.next().unwrap(), bare: parts.next().unwrap(), under: parts.next().unwrap() }
    };
    ran.stdout.lines().map(line).collect()
}

#[test]
fn what_was_open_is_blocked_under_untrusted() {
    let _alone = alone();
    let before = Leftovers::now();
    for who in everybody("probes") {
        let all = probes(who, "untrusted");
        let blocked = all.iter().filter(|probe| probe.blocked()).count();
        let not_open = all.iter().filter(|probe| probe.bare != "OPEN").count();
        println!(
            "{who:?}: {} probes, {blocked} open without and blocked with `untrusted`, {not_open} not open without it",
            all.len()
        );
        let faults: Vec<String> = all
            .iter()
            .filter(|probe| probe.under == "OPEN" || (probe.bare == "OPEN" && !probe.blocked()))
            .filter(|probe| !KNOWN.iter().any(|(name, _)| *name == probe.name))
            .filter(|probe| who == Who::Root || !KNOWN_AS_USER.contains(&probe.name.as_str()))
            .map(|probe| format!("{}: {} without, {} with", probe.name, probe.bare, probe.under))
            .collect();
        assert!(faults.is_empty(), "{who:?}:\n{}", faults.join("\n"));
        // As an ordinary user much is not open to begin with.
        let wanted = if who == Who::Root { AT_LEAST } else { 50 };
        assert!(blocked >= wanted, "{who:?}: only {blocked} probes were open without the policy");
    }
    before.same();
    let limits = std::fs::read_to_string(tree().join("docs/limits-of-palisade.md")).unwrap();
    assert!(limits.contains("boot id") && limits.contains("uptime"), "what stays open is not documented");
}

/// The twin of the whole: a policy that isolates nothing blocks nothing that root may do.
#[test]
fn without_isolation_the_probes_stay_open() {
    let _alone = alone();
    if !is_root() {
        return palisade_tests::skip("probes:root", "what an ordinary user may do is little");
    }
    let place = palisade_tests::Scratch::new();
    let policy = place.policy("Policy(version: 1, process: (env: Inherit))");
    let open =
        probes(Who::Root, policy.to_str().unwrap()).iter().filter(|p| p.bare == "OPEN" && p.under == "OPEN").count();
    assert!(open >= AT_LEAST, "only {open} probes are open under a policy that isolates nothing");
}

/// The line that everybody tries first.
#[test]
fn an_untrusted_shell_sees_nothing_of_the_host() {
    let _alone = alone();
    let host = std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap();
    for who in everybody("shell") {
        let script =
            "id; hostname; ls /proc | grep -c '^[0-9]'; cat /etc/shadow; mount -t tmpfs x /mnt; ping -c1 127.0.0.1";
        let ran = Run::under("untrusted", ["sh", "-c", script]).who(who).ran();
        let lines: Vec<&str> = ran.stdout.lines().collect();
        // Root becomes an id that owns nothing, an ordinary user stays who it is.
        let id = if who == Who::Root { 1000 } else { palisade_tests::USER };
        assert_eq!(lines[0], format!("uid={id}(user) gid={id}(user) groups={id}(user)"));
        assert_eq!(lines[1], "palisade");
        assert_ne!(lines[1], host.trim());
        assert!(lines[2].parse::<u32>().unwrap() <= 6, "{}", ran.stdout);
        assert!(ran.stderr.contains("/etc/shadow: No such file"), "{}", ran.stderr);
        assert!(ran.stderr.contains("mount: /mnt"), "{}", ran.stderr);
    }
    // The twins.
    let bare = Run::bare(["sh", "-c", "hostname; ls /proc | grep -c '^[0-9]'"]).ran();
    assert_eq!(bare.stdout.lines().next(), Some(host.trim()));
    assert!(bare.stdout.lines().nth(1).unwrap().parse::<u32>().unwrap() > 6);
}
