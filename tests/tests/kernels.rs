//! What needs which kernel: one table, that of the manifests. It stands in docs/kernels.md, and each line of it that is
//! younger than the oldest kernel is tried on the kernel that this runs on; `tests/vm/matrix` does so on others.

use palisade_runtime::KERNEL_FEATURES;
use palisade_sys::mount::{MountAttr, MountFlags};
use palisade_sys::{Errno, fd, host, landlock, mount, namespace};
use palisade_tests::{EmptyCgroups, Run, is_root, tree};
use std::path::Path;

/// Kernels below it are refused.
const FLOOR: (u32, u32) = (5, 10);

/// What costs more on an older kernel and is otherwise the same: nothing to try.
const COSTS: [&str; 3] = [
    "cgroup v1: joining without a wait of 10 ms",
    "closing many descriptors in one call (close_range with close-on-exec)",
    "no cost for calls that are always allowed",
];

struct Feature {
    whose: String,
    name: String,
    since: (u32, u32),
    without: String,
}

fn feature(whose: &str, name: &str, text: &str) -> Feature {
    let (since, without) = text.split_once("; ").unwrap_or((text, ""));
    let (major, minor) = since.split_once('.').unwrap();
    let since = (major.parse().unwrap(), minor.parse().unwrap());
    Feature { whose: whose.to_owned(), name: name.to_owned(), since, without: without.to_owned() }
}

fn features() -> Vec<Feature> {
    let mut all: Vec<Feature> = KERNEL_FEATURES.iter().map(|(name, text)| feature("palisade", name, text)).collect();
    for plugin in ["namespaces", "filesystem", "privileges", "cgroups", "landlock", "seccomp"] {
        let listed = Run::palisade(["plugin", "info", plugin, "--json"]).ran().code(0).stdout;
        let info: serde_json::Value = serde_json::from_str(&listed).unwrap();
        let kernel = info["kernel"].as_object().or(info["manifest"]["kernel"].as_object()).unwrap();
        all.extend(kernel.iter().map(|(name, text)| feature(plugin, name, text.as_str().unwrap())));
    }
    all.sort_by(|a, b| (a.since, &a.whose, &a.name).cmp(&(b.since, &b.whose, &b.name)));
    all
}

#[test]
fn the_table_of_the_documentation_is_that_of_the_manifests() {
    let mut table = "| feature | Linux | for | without it |\n|---|---|---|---|\n".to_owned();
    for Feature { whose, name, since: (major, minor), without } in features() {
        let old = (major, minor) <= FLOOR;
        assert!(old || !without.is_empty(), "{whose}: {name}: what is so on a kernel without it?");
        let without = if old { "older than the floor" } else { &without };
        table += &format!("| {name} | {major}.{minor} | {whose} | {without} |\n");
    }
    let doc = std::fs::read_to_string(tree().join("docs/kernels.md")).unwrap();
    let block =
        doc.split("<!-- kernel features: ").nth(1).and_then(|rest| rest.split("<!-- /kernel features -->").next());
    let block = block.and_then(|block| block.split_once("-->\n")).expect("docs/kernels.md has the marks").1;
    assert!(block == table, "docs/kernels.md should have this table:\n{table}");
}

fn memory_on_v2() -> bool {
    std::fs::read_to_string("/sys/fs/cgroup/cgroup.controllers").is_ok_and(|text| text.contains("memory"))
}

/// Whether a cgroup has a file; `None` where the controller of that other file is not on: systemd, where it runs, may
/// have taken it back.
fn of(cgroups: Option<&EmptyCgroups>, known: &str, file: &str) -> Option<bool> {
    cgroups.filter(|cgroups| cgroups.has(known)).map(|cgroups| cgroups.has(file))
}

/// Whether an ordinary user can do this in an overlay at /o.
fn overlaid(script: &str) -> bool {
    let scratch = palisade_tests::Scratch::new();
    let lower = scratch.path().join("lower");
    scratch.file("lower/dir/file", "text");
    if is_root() {
        Run::bare(["chown", "-R", &format!("{0}:{0}", palisade_tests::USER), scratch.text()]).ran().code(0);
    }
    let overlay = format!("Overlay(lower: \"{}\", at: \"/o\")", lower.display());
    let policy = scratch.policy(&format!(
        "Policy(version: 1, process: (env: Inherit, cwd: \"/\"), plugins: {{
            \"namespaces\": (mount: New, user: AsNeeded), \"filesystem\": (entries: [System, {overlay}]) }})"
    ));
    Run::under(policy, ["sh", "-c", script]).who(palisade_tests::Who::User).ran().code == Some(0)
}

/// Whether this kernel has it; `None` where that cannot be tried here.
fn tried(name: &str, cgroups: Option<&EmptyCgroups>) -> Option<bool> {
    let abi = |wanted: u32| landlock::abi_version().ok().map_or(Some(false), |abi| Some(abi >= wanted));
    let implemented = |result: palisade_sys::Result<()>| Some(!result.is_err_and(|e| e.kind() == Errno::ENOSYS));
    match name {
        "attributes of a bind with mounts below it (mount_setattr)" => {
            // A copy that is attached nowhere, which only root can make.
            let copy = mount::open_tree_clone(fd::CWD, "/usr", false).ok()?;
            implemented(mount::set_attr(&copy, true, MountAttr::set(MountFlags::RO)))
        }
        "a bind that is shown as the workload's (idmap)" => {
            let copy = mount::open_tree_clone(fd::CWD, "/usr", false).ok()?;
            let user = namespace::user_with_maps("0 0 1\n", "0 0 1\n").ok()?;
            match mount::set_idmap(&copy, false, &user) {
                Ok(()) => Some(true),
                // Another file system could.
                Err(error) if error.kind() == Errno::EINVAL => None,
                Err(error) => Some(error.kind() != Errno::ENOSYS),
            }
        }
        "overlays in a user namespace" => Some(overlaid("true")),
        "removing a directory from an overlay that is discarded, in a user namespace" => Some(overlaid("rm -r /o/dir")),
        "Landlock (ABI 1)" => abi(1),
        "rename between directories (ABI 2)" => abi(2),
        "truncation (ABI 3)" => abi(3),
        "TCP ports (ABI 4)" => abi(4),
        "commands to devices (ABI 5)" => abi(5),
        "scopes (ABI 6)" => abi(6),
        "denials in the audit log (ABI 7)" => abi(7),
        "connecting to UNIX sockets by path (ABI 9)" => abi(9),
        "securebits ExecRestrictFile and ExecDenyInteractive" => is_root().then(|| {
            let section = "\"privileges\": (securebits: [ExecRestrictFile])";
            let scratch = palisade_tests::Scratch::new();
            let policy = scratch.policy(&format!("Policy(version: 1, plugins: {{ {section} }})"));
            Run::under(policy, ["true"]).ran().code == Some(0)
        }),
        "misc" => cgroups.map(|_| std::fs::read_to_string("/proc/cgroups").unwrap().contains("\nmisc\t")),
        "cgroup.kill" => cgroups.map(|cgroups| cgroups.has("cgroup.kill")),
        "cpu.burst" => of(cgroups, "cpu.max", "cpu.max.burst"),
        "cpu.idle" => of(cgroups, "cpu.max", "cpu.idle"),
        "memory.peak" => of(cgroups, "memory.max", "memory.peak"),
        // A kernel may have been built without it.
        "memory.zswap" => {
            let built = Path::new("/sys/module/zswap").exists();
            cgroups.filter(|_| built).map(|cgroups| cgroups.has("memory.zswap.max"))
        }
        "pids.peak" => of(cgroups, "pids.max", "pids.peak"),
        other => panic!("no test tries \"{other}\""),
    }
}

#[test]
fn each_feature_is_there_from_its_kernel_on_and_not_before() {
    let (major, minor) = host::kernel_version().unwrap();
    // On v1 the files have other names.
    let cgroups = (is_root() && memory_on_v2()).then(EmptyCgroups::new);
    let mut wrong = Vec::new();
    for Feature { name, since, .. } in features().into_iter().filter(|feature| feature.since > FLOOR) {
        if COSTS.contains(&name.as_str()) {
            continue;
        }
        match tried(&name, cgroups.as_ref()) {
            Some(found) if found != ((major, minor) >= since) => {
                wrong.push(format!("{name}: {found}, table: {since:?}"))
            }
            Some(_) => println!("tried: {name}"),
            None => println!("cannot be tried here: {name}"),
        }
    }
    assert!(wrong.is_empty(), "Linux {major}.{minor}: {wrong:?}");
}
