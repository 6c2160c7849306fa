//! What the view can grant by meaning: overlays, tool chains, repositories, the SSH agent, and its own /etc.

use palisade_tests::{Leftovers, Ran, Run, Scratch, USER, Who, everybody, is_root};
use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard};

fn alone() -> MutexGuard<'static, ()> {
    static ONE: Mutex<()> = Mutex::new(());
    ONE.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
}

/// Gives a tree to whoever runs the workload.
fn give(path: &Path, who: Who) {
    if is_root() {
        let id = if who == Who::Root { "0:0".to_owned() } else { format!("{USER}:{USER}") };
        Run::bare(["chown", "-R", &id, path.to_str().unwrap()]).ran().code(0);
    }
}

/// A view with the system and these entries.
fn policy(scratch: &Scratch, namespaces: &str, entries: &str) -> PathBuf {
    scratch.policy(&format!(
        "Policy(version: 1, process: (env: Inherit, secrets: [\"SSH_AUTH_SOCK\"], cwd: \"/\"), plugins: {{
            \"namespaces\": (mount: New, pid: New, {namespaces}), \"privileges\": (),
            \"filesystem\": (entries: [System, Proc, Dev, {entries}]),
        }})"
    ))
}

fn sh(policy: &Path, script: &str) -> Run {
    Run::under(policy, ["sh", "-c", script])
}

/// A tree to be laid under an overlay.
fn lower(scratch: &Scratch, who: Who) -> PathBuf {
    let lower = scratch.path().join("lower");
    fs::create_dir_all(lower.join("dir/deep")).unwrap();
    fs::write(lower.join("old"), "old\n").unwrap();
    fs::write(lower.join("dir/deep/file"), "deep\n").unwrap();
    give(&lower, who);
    lower
}

/// The same on the host before and after.
fn untouched(lower: &Path) {
    let mut names: Vec<_> = fs::read_dir(lower).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    names.sort();
    assert_eq!(names, ["dir", "old"]);
    assert_eq!(fs::read_to_string(lower.join("old")).unwrap(), "old\n");
    assert_eq!(fs::read_to_string(lower.join("dir/deep/file")).unwrap(), "deep\n");
}

fn kernel() -> (u32, u32) {
    palisade_sys::host::kernel_version().unwrap()
}

/// Whether this kernel has no overlay for an ordinary user, which must then be told.
fn too_old(overlay: &Path, who: Who) -> bool {
    let old = kernel() < (5, 11) && !(who == Who::Root && is_root());
    if old {
        sh(overlay, "true").who(who).ran().code(120).says("needs Linux 5.11");
    }
    old
}

/// A directory whose file system can be the upper one of an overlay; removed at the end.
struct Top(PathBuf);

impl Top {
    fn new(scratch: &Scratch) -> Self {
        const OVERLAYFS: i64 = 0x794c_7630;
        let here = palisade_sys::fd::open_path(scratch.path(), palisade_sys::fd::O_PATH).unwrap();
        // In a container, or a guest of tests/vm, all but memory is an overlay.
        let over = palisade_sys::mount::statfs_type(&here).unwrap() == OVERLAYFS;
        let name = scratch.path().file_name().unwrap();
        let path = if over { Path::new("/dev/shm").join(name) } else { scratch.path().join("top") };
        fs::create_dir(&path).unwrap();
        Self(path)
    }
}

impl Drop for Top {
    fn drop(&mut self) {
        fs::remove_dir_all(&self.0).unwrap();
    }
}

const CHANGE: &str = "echo new > /w/old && echo x > /w/dir/deep/file && rm /w/dir/deep/file && echo made > /w/made";

#[test]
fn what_is_changed_in_an_overlay_is_gone_afterwards() {
    let _alone = alone();
    let before = Leftovers::now();
    for who in everybody("overlay") {
        let scratch = Scratch::new();
        let lower = lower(&scratch, who);
        let entry = format!("Overlay(lower: \"{}\", at: \"/w\", size: \"1MiB\", inodes: 64)", lower.display());
        let overlay = policy(&scratch, "user: AsNeeded", &entry);
        if too_old(&overlay, who) {
            continue;
        }
        sh(&overlay, &format!("{CHANGE} && cat /w/old && ls /w"))
            .who(who)
            .ran()
            .code(0)
            .prints("new\ndir\nmade\nold\n");
        // A directory that was removed, and is made anew, has nothing of the old one. KERNEL(6.6): before it tmpfs has
        // no attributes to remember that by, but for root's.
        let ran = sh(&overlay, "rm -r /w/dir && mkdir /w/dir && ls -A /w/dir | wc -l").who(who).ran();
        if (who == Who::Root && is_root()) || kernel() >= (6, 6) {
            ran.code(0).prints("0\n");
        } else {
            ran.says("Input/output error");
        }
        untouched(&lower);
        // Nothing in the view says where it lies on the host.
        let ran = sh(&overlay, "grep overlay /proc/self/mountinfo").who(who).ran().code(0);
        assert!(!ran.stdout.contains(scratch.text()), "{}", ran.stdout);
        // Its limits hold.
        let ran = sh(&overlay, "head -c 2097152 /dev/zero > /w/big").who(who).ran();
        assert_ne!(ran.code, Some(0));
        assert!(ran.stderr.contains("No space left"), "{}", ran.stderr);
        let ran = sh(&overlay, "for n in $(seq 100); do touch /w/$n || exit 9; done").who(who).ran().code(9);
        ran.says("No space left");
        // The twins: a bind changes nothing, or the host.
        let bind = policy(&scratch, "user: AsNeeded", &format!("Bind(from: \"{}\", to: \"/w\")", lower.display()));
        sh(&bind, CHANGE).who(who).ran().says("Read-only");
        untouched(&lower);
        let entry = format!("Bind(from: \"{}\", to: \"/w\", mode: ReadWrite)", lower.display());
        let bind = policy(&scratch, "user: AsNeeded", &entry);
        sh(&bind, CHANGE).who(who).ran().code(0);
        assert_eq!(fs::read_to_string(lower.join("old")).unwrap(), "new\n");
    }
    before.same();
}

/// The workload's id owns nothing: it may add at the top, and change nothing of another's.
#[test]
fn an_overlay_for_an_id_that_owns_nothing() {
    let _alone = alone();
    if !is_root() {
        return palisade_tests::skip("overlay:root", "ids that own nothing are for root to give");
    }
    let scratch = Scratch::new();
    let lower = lower(&scratch, Who::Root);
    let overlay = policy(&scratch, "user: New", &format!("Overlay(lower: \"{}\", at: \"/w\")", lower.display()));
    if kernel() < (5, 11) {
        sh(&overlay, "true").ran().code(121).says("need Linux 5.11");
        return;
    }
    sh(&overlay, "cat /w/old && echo made > /w/made && cat /w/made").ran().code(0).prints("old\nmade\n");
    assert_ne!(sh(&overlay, "echo new > /w/old").ran().code, Some(0));
    untouched(&lower);
    let top = Top::new(&scratch);
    let keep = top.0.join("keep");
    fs::create_dir(&keep).unwrap();
    give(&top.0, Who::Root);
    let entry = format!("Overlay(lower: \"{}\", upper: Keep(\"{}\"))", lower.display(), keep.display());
    sh(&policy(&scratch, "user: New", &entry), "true").ran().code(121).says("not the workload's own").says("AsNeeded");
    assert!(!top.0.join("keep.work").exists());
}

#[test]
fn what_is_changed_in_an_overlay_can_be_kept() {
    let _alone = alone();
    let before = Leftovers::now();
    for who in everybody("overlay-keep") {
        let scratch = Scratch::new();
        let lower = lower(&scratch, who);
        let top = Top::new(&scratch);
        let (keep, work) = (top.0.join("keep"), top.0.join("keep.work"));
        let entry = format!("Overlay(lower: \"{}\", at: \"/w\", upper: Keep(\"{}\"))", lower.display(), keep.display());
        let overlay = policy(&scratch, "user: AsNeeded", &entry);
        if too_old(&overlay, who) {
            continue;
        }
        let refused = |code: i32| sh(&overlay, "true").who(who).ran().code(code);
        refused(120).says("there is no directory").says("mkdir");
        fs::create_dir(&keep).unwrap();
        give(&top.0, who);
        sh(&overlay, &format!("{CHANGE} && cat /w/old")).who(who).ran().code(0).prints("new\n");
        untouched(&lower);
        assert_eq!(fs::read_to_string(keep.join("made")).unwrap(), "made\n");
        assert!(!work.exists());
        // The next run begins where this one ended.
        let ran = sh(&overlay, "cat /w/made /w/old; ls -A /w/dir/deep | wc -l; echo more >> /w/made").who(who).ran();
        ran.code(0).prints("made\nnew\n0\n");
        assert_eq!(fs::read_to_string(keep.join("made")).unwrap(), "made\nmore\n");
        // One at a time; what a killed run left is taken over.
        fs::create_dir_all(work.join("work")).unwrap();
        give(&work, who);
        let lock = fs::File::open(&work).unwrap();
        lock.lock().unwrap();
        refused(121).says("in use by another run");
        drop(lock);
        refused(0);
        assert!(!work.exists());
        // A directory of somebody else, or one that somebody else can exchange.
        fs::set_permissions(&top.0, fs::Permissions::from_mode(0o777)).unwrap();
        refused(118).says("can be exchanged by others");
        fs::set_permissions(&top.0, fs::Permissions::from_mode(0o755)).unwrap();
        if is_root() {
            give(&keep, if who == Who::Root { Who::User } else { Who::Root });
            refused(118).says("belongs to uid");
        }
    }
    before.same();
}

/// A directory that is bound at /w, read-write, its top entered by its owner alone.
struct Shown {
    // Given up first: it may lie in the other.
    top: Top,
    scratch: Scratch,
}

impl Shown {
    fn new() -> Self {
        let scratch = Scratch::new();
        let top = Top::new(&scratch);
        let shown = Self { top, scratch };
        fs::create_dir_all(shown.work().join("sub")).unwrap();
        fs::write(shown.work().join("sub/file"), "old\n").unwrap();
        give(&shown.top.0, Who::User);
        fs::write(shown.work().join("others"), "of root\n").unwrap();
        fs::set_permissions(shown.work().join("others"), fs::Permissions::from_mode(0o600)).unwrap();
        fs::set_permissions(shown.work(), fs::Permissions::from_mode(0o700)).unwrap();
        shown
    }

    fn work(&self) -> PathBuf {
        self.top.0.join("work")
    }

    fn policy(&self, user: &str, more: &str) -> PathBuf {
        let entry = format!("Bind(from: \"{}\", to: \"/w\", mode: ReadWrite{more})", self.work().display());
        policy(&self.scratch, user, &entry)
    }

    fn owner(&self, name: &str) -> (u32, u32) {
        use std::os::unix::fs::MetadataExt as _;
        let facts = fs::metadata(self.work().join(name)).unwrap();
        (facts.uid(), facts.gid())
    }

    /// Whether ids cannot be mapped there, which must then be told.
    fn cannot(&self, mapped: &Path) -> bool {
        let why = match kernel() {
            old if old < (5, 12) => "needs Linux 5.12",
            old if old < (6, 3) && self.top.0.starts_with("/dev/shm") => "file system of type tmpfs",
            _ => return false,
        };
        let ran = sh(mapped, "true").ran();
        assert!(matches!(ran.code, Some(120 | 121)), "{ran:?}");
        ran.says(why).says("user: AsNeeded");
        true
    }
}

/// A workload whose id owns nothing works in somebody's directory as if it were the owner.
#[test]
fn a_directory_can_be_shown_as_the_workloads_own() {
    let _alone = alone();
    if !is_root() {
        return palisade_tests::skip("idmap:root", "ids of mounts are for root to map");
    }
    let before = Leftovers::now();
    let shown = Shown::new();
    let (plain, mapped) = (shown.policy("user: New", ""), shown.policy("user: New", ", idmap: Owner"));
    let script = "cd /w && cat sub/file && echo new > sub/file && echo made > made && stat -c %u sub/file made";
    assert_ne!(sh(&plain, script).ran().code, Some(0));
    if shown.cannot(&mapped) {
        return;
    }
    sh(&mapped, script).ran().code(0).prints("old\n1000\n1000\n");
    // What is not the owner's is no more the workload's than before.
    assert_ne!(sh(&mapped, "cat /w/others").ran().code, Some(0));
    assert_ne!(sh(&mapped, "chown 0 /w/made").ran().code, Some(0));
    assert_eq!([shown.owner("made"), shown.owner("sub/file")], [(USER, USER); 2]);
    assert_eq!(fs::read_to_string(shown.work().join("made")).unwrap(), "made\n");
    // Root's own directory is not given away, unless the policy says so; what is made there is root's.
    give(&shown.work(), Who::Root);
    sh(&mapped, "true").ran().code(118).says("would make files of root");
    sh(&shown.policy("user: New", ", idmap: AnyOwner"), "echo mine > /w/mine && cat /w/mine; id -u")
        .ran()
        .code(0)
        .prints("mine\n1000\n");
    assert_eq!(shown.owner("mine"), (0, 0));
    // A file system that cannot is named.
    let entry = "Bind(from: \"/sys/kernel\", to: \"/w\", recursive: false, idmap: Owner)";
    let ran = sh(&policy(&shown.scratch, "user: New", entry), "true").ran();
    ran.code(121).says("file system of type sysfs").says("policy").says("EINVAL");
    before.same();
}

/// Where the workload is the owner anyway there is nothing to map, and no kernel and file system is too old for it.
#[test]
fn where_the_workload_is_the_owner_nothing_is_mapped() {
    let _alone = alone();
    if !is_root() {
        return palisade_tests::skip("idmap:root", "ids of mounts are for root to map");
    }
    let before = Leftovers::now();
    let shown = Shown::new();
    let (mapped, any) = (shown.policy("user: New", ", idmap: Owner"), shown.policy("user: New", ", idmap: AnyOwner"));
    let plainly = |policy: &Path, who: Who| sh(policy, "cd /w && echo mine > mine && cat mine").who(who).ran();
    plainly(&mapped, Who::User).code(0).prints("mine\n");
    fs::remove_file(shown.work().join("mine")).unwrap();
    // Somebody else's is refused to a user, unless what that user may do there is enough.
    give(&shown.work(), Who::Root);
    fs::set_permissions(shown.work(), fs::Permissions::from_mode(0o755)).unwrap();
    sh(&mapped, "true").who(Who::User).ran().code(120).says("only root can map").says("policy");
    sh(&any, "cat /w/sub/file").who(Who::User).ran().code(0).prints("old\n");
    assert_ne!(plainly(&any, Who::User).code, Some(0));
    plainly(&shown.policy("user: AsNeeded", ", idmap: AnyOwner"), Who::Root).code(0).prints("mine\n");
    assert_eq!(shown.owner("mine"), (0, 0));
    before.same();
}

/// A /dev with what are no nodes of a GPU in the places of one, in a mount namespace that ends with the command. $1 has
/// room for it.
const NO_GPU: &str = r#"
set -e
mount -t tmpfs -o mode=755 tmpfs "$1"
for node in "null 3" "zero 5" "full 7" "random 8" "urandom 9"; do mknod -m 666 "$1/${node% *}" c 1 "${node#* }"; done
mknod -m 666 "$1/tty" c 5 0
mkdir "$1/dri"
eval "$2"
mount --bind "$1" /dev
shift 2
exec "$@"
"#;

/// Asks a node which driver it is of: DRM_IOCTL_VERSION.
const DRIVER: &str = "import fcntl, os, struct, sys, ctypes
name = ctypes.create_string_buffer(64)
ask = struct.pack('iiiiQQQQQQ', 0, 0, 0, 0, 63, ctypes.addressof(name), 0, 0, 0, 0)
fcntl.ioctl(os.open(sys.argv[1], os.O_RDWR), 0xc0406400, bytearray(ask))
print('driver', name.value.decode())";

#[test]
fn what_lies_in_the_place_of_a_gpu_and_is_none_is_refused() {
    let _alone = alone();
    if !is_root() {
        return palisade_tests::skip("gpu:root", "a /dev with such nodes is for root to make");
    }
    let before = Leftovers::now();
    let scratch = Scratch::new();
    let dev = scratch.path().join("dev");
    fs::create_dir(&dev).unwrap();
    let with = |made: &str, entry: &str| {
        let policy = policy(&scratch, "user: AsNeeded", &entry.replace("Gpu", "Tmpfs(\"/t\"), Gpu"));
        let words =
            ["unshare", "-m", "--propagation", "private", "sh", "-c", NO_GPU, "sh", dev.to_str().unwrap(), made];
        // Neither terminals nor memory are in that /dev.
        sh(&policy, "true").behind(&words).ran()
    };
    // The disk of this host, its memory, a file, a link to one.
    for made in
        ["mknod $1/dri/card0 b 254 0", "mknod $1/dri/renderD128 c 1 1", "echo > $1/kfd", "ln -s /dev/null $1/nvidia0"]
    {
        for entry in ["Gpu", "Gpu(optional: true)"] {
            with(made, entry).code(120).says("is no device of the driver").says("policy");
        }
    }
    // The twin: what has another name is not looked at.
    with("mknod $1/dri/other c 1 1", "Gpu").code(120).says("there is no GPU").says("optional: true");
    with("mknod $1/dri/other c 1 1", "Gpu(optional: true)").code(0);
    before.same();
}

/// Where there is none, `insmod vgem.ko` makes one of no hardware.
#[test]
fn a_gpu_is_its_nodes_and_what_the_kernel_says_of_them() {
    let _alone = alone();
    let nodes = fs::read_dir("/dev/dri").into_iter().flatten().flatten().map(|entry| entry.path());
    let node = nodes.filter(|path| path.to_str().is_some_and(|path| path.contains("renderD"))).min();
    let Some(node) = node.and_then(|path| path.to_str().map(str::to_owned)).filter(|_| is_root()) else {
        return palisade_tests::skip("gpu", "there is none that root can open");
    };
    let scratch = Scratch::new();
    let ask = |entry: &str| {
        let policy = policy(&scratch, "user: AsNeeded", entry);
        let script =
            format!("/usr/bin/python3 -c \"$0\" {node} && ls /dev/dri && cat /sys/dev/char/226:*/uevent; touch /dev/x");
        Run::under(&policy, ["sh", "-c", &script, DRIVER]).ran()
    };
    let bare = Run::bare(["/usr/bin/python3", "-c", DRIVER, &node]).ran().code(0);
    for entry in ["Gpu", "Tmpfs(\"/t\"), Gpu(optional: true)"] {
        let ran = ask(entry);
        assert!(
            ran.stdout.starts_with(&bare.stdout) && ran.stdout.contains("DEVNAME=dri/"),
            "{}{}",
            ran.stdout,
            ran.stderr
        );
        assert!(ran.stderr.contains("/dev/x"), "{}", ran.stderr);
    }
    // The twin: without the entry it is not there.
    let ran = ask("Tmpfs(\"/t\")");
    assert!(!ran.stdout.contains("driver") && ran.stderr.contains("No such file"), "{}{}", ran.stdout, ran.stderr);
}

/// What `palisade changes` prints.
fn changes(policy: &Path, who: Who) -> Ran {
    Run::palisade(["changes", "--policy", policy.to_str().unwrap()]).who(who).ran()
}

#[test]
fn what_was_kept_can_be_listed() {
    let _alone = alone();
    for who in everybody("changes") {
        let scratch = Scratch::new();
        let lower = lower(&scratch, who);
        fs::create_dir_all(lower.join("full/in")).unwrap();
        fs::write(lower.join("full/a"), "a\n").unwrap();
        fs::write(lower.join("full/b"), "b\n").unwrap();
        fs::write(lower.join("was a file"), "").unwrap();
        give(&lower, who);
        let top = Top::new(&scratch);
        let keep = top.0.join("keep");
        fs::create_dir(&keep).unwrap();
        give(&top.0, who);
        let entry = format!("Overlay(lower: \"{}\", at: \"/w\", upper: Keep(\"{}\"))", lower.display(), keep.display());
        let overlay = policy(&scratch, "user: AsNeeded", &entry);
        if too_old(&overlay, who) {
            continue;
        }
        assert_eq!(changes(&overlay, who).code(0).stdout, "nothing that is kept was changed\n");
        let script = "cd /w && echo new > old && rm dir/deep/file && mkdir -p made/in && echo x > made/in/file &&
            rm -r full && mkdir full && echo A > full/a && rm 'was a file' && mkdir 'was a file' &&
            touch \"$(printf 'two\\nlines')\"";
        sh(&overlay, script).who(who).ran().code(0);
        let listed = changes(&overlay, who).code(0).stdout;
        let expected = "D /w/dir/deep/file\nC /w/full\nC /w/full/a\nD /w/full/b\nD /w/full/in\nA /w/made\nA /w/made/in\n\
                        A /w/made/in/file\nC /w/old\nA /w/two\u{fffd}lines\nC /w/was a file\n";
        assert_eq!(listed, expected);
        let json = Run::palisade(["changes", "--json", "-p", overlay.to_str().unwrap()]).who(who).ran().code(0).stdout;
        let json: serde_json::Value = serde_json::from_str(&json).unwrap();
        let of = |path: &str| json["changes"].as_array().unwrap().iter().find(|one| one["path"] == path).cloned();
        let gone = of("/w/full/b").unwrap();
        assert_eq!((gone["change"].as_str(), gone["plugin"].as_str()), (Some("removed"), Some("filesystem")));
        assert_eq!(gone["tree"], lower.to_str().unwrap());
        assert_eq!(of("/w/two\nlines").unwrap()["change"], "added");
        // The twin: what is discarded leaves nothing to be listed.
        let entry = format!("Overlay(lower: \"{}\", at: \"/w\")", lower.display());
        let discarded = policy(&scratch, "user: AsNeeded", &entry);
        sh(&discarded, "echo new > /w/old").who(who).ran().code(0);
        assert_eq!(changes(&discarded, who).code(0).stdout, "nothing that is kept was changed\n");
    }
}

/// A directory that was renamed names its old place, where the kernel is set up to let it be renamed at all.
#[test]
fn what_was_moved_is_listed_with_its_old_name() {
    let _alone = alone();
    for who in everybody("changes-moved") {
        let scratch = Scratch::new();
        let lower = lower(&scratch, who);
        let top = Top::new(&scratch);
        let keep = top.0.join("keep");
        fs::create_dir_all(keep.join("other/deep")).unwrap();
        fs::write(keep.join("other/deep/file"), "changed\n").unwrap();
        give(&top.0, who);
        let name = if who == Who::Root { "trusted.overlay.redirect" } else { "user.overlay.redirect" };
        let set = |value: &str| {
            let script = "import os, sys; os.setxattr(sys.argv[1], sys.argv[2], sys.argv[3].encode())";
            let other = keep.join("other");
            Run::bare(["/usr/bin/python3", "-c", script, other.to_str().unwrap(), name, value]).ran()
        };
        if set("dir").code != Some(0) {
            // KERNEL(6.6): tmpfs has no attributes of users.
            assert!(who == Who::User && kernel() < (6, 6), "{name} cannot be set");
            continue;
        }
        let entry = format!("Overlay(lower: \"{}\", at: \"/w\", upper: Keep(\"{}\"))", lower.display(), keep.display());
        let overlay = policy(&scratch, "user: AsNeeded", &entry);
        let expected = "A /w/other (was /w/dir)\nC /w/other/deep/file\n";
        assert_eq!(changes(&overlay, who).code(0).stdout, expected);
        set("/dir").code(0);
        assert_eq!(changes(&overlay, who).code(0).stdout, expected);
        // One that leads out of the tree is nobody's that the kernel wrote it for.
        set("/../../etc").code(0);
        changes(&overlay, who).code(120).says("no place in its tree");
        // The twin: without it the directory is new, and so is all that is in it.
        set("").code(0);
        let script = "import os, sys; os.removexattr(sys.argv[1], sys.argv[2])";
        Run::bare(["/usr/bin/python3", "-c", script, keep.join("other").to_str().unwrap(), name]).ran().code(0);
        let expected = "A /w/other\nA /w/other/deep\nA /w/other/deep/file\n";
        assert_eq!(changes(&overlay, who).code(0).stdout, expected);
    }
}

/// A home with tools and with what must stay there.
fn home(scratch: &Scratch) -> String {
    for (name, content) in [
        (".cargo/bin/tool", "#!/bin/sh\necho tool of cargo\n"),
        (".cargo/credentials.toml", "token = \"secret\"\n"),
        (".cargo/config.toml", "[build]\njobs = 1\n"),
        (".cargo/config", "[registry]\ntoken = \"secret\"\n"),
        (".rustup/settings.toml", "version = \"12\"\n"),
        (".pyenv/version", "3\n"),
        (".nvm/alias/default", "20\n"),
        (".npmrc", "_authToken=secret\n"),
        (".cache/ccache/stats", "0\n"),
        (".ssh/id", "secret\n"),
    ] {
        scratch.file(&format!("home/{name}"), content);
    }
    let home = format!("{}/home", scratch.text());
    fs::set_permissions(format!("{home}/.cargo/bin/tool"), fs::Permissions::from_mode(0o755)).unwrap();
    home
}

fn planned(policy: &Path, home: &str, who: Who) -> Ran {
    let policy = policy.to_str().unwrap();
    Run::palisade(["plan", "--policy", policy, "--", "true"]).env("HOME", home).who(who).ran()
}

#[test]
fn tool_chains_are_shown_without_credentials() {
    let _alone = alone();
    for who in everybody("toolchain") {
        let scratch = Scratch::new();
        let home = home(&scratch);
        give(scratch.path(), who);
        let all = "Toolchain(Rust), Toolchain(Python), Toolchain(Node), Toolchain(C)";
        let policy_ = policy(&scratch, "user: AsNeeded", all);
        let script = "~/.cargo/bin/tool; cat ~/.cargo/config.toml ~/.pyenv/version ~/.nvm/alias/default; ls -A ~ ~/.cargo; \
                      touch ~/.cargo/bin/new";
        let ran = sh(&policy_, script).env("HOME", &home).who(who).ran();
        let text = &ran.stdout;
        assert!(text.starts_with("tool of cargo\n[build]\njobs = 1\n3\n20\n"), "{text}{}", ran.stderr);
        for hidden in ["credentials", ".npmrc", ".ssh", "\nconfig\n"] {
            assert!(!text.contains(hidden), "{hidden}: {text}");
        }
        assert!(ran.code != Some(0) && ran.stderr.contains("Read-only"), "{}", ran.stderr);
        // The twin: it is all there.
        Run::bare(["cat", ".cargo/credentials.toml", ".npmrc", ".ssh/id"])
            .cwd(&home)
            .who(who)
            .ran()
            .code(0)
            .prints("secret");
        let plan = planned(&policy_, &home, who).code(0);
        // A variable that names the home would show all of it.
        let ran = sh(&policy_, "true").env("HOME", &home).env("RUSTUP_HOME", &home).who(who).ran();
        ran.code(120).says("holds all of");
        let bin = format!("{home}/.cargo/bin");
        plan.prints("grants the tool chain Rust").prints(&bin).prints("/usr/bin/cc");
    }
}

#[test]
fn a_tool_chain_that_is_not_there_is_an_error_unless_optional() {
    let _alone = alone();
    let scratch = Scratch::new();
    let who = if is_root() { Who::Root } else { Who::User };
    let none = format!("{}/nobody", scratch.text());
    let run = |entry: &str| {
        let policy = policy(&scratch, "user: AsNeeded", entry);
        sh(&policy, "true").env("HOME", &none).who(who).ran()
    };
    // Node, where the distribution has it, is shown by System.
    if ["/usr/bin/cargo", "/usr/bin/rustc", "/usr/local/bin/cargo"].iter().all(|path| !Path::new(path).exists()) {
        run("Toolchain(Rust)").code(120).says("there is no tool chain Rust").says("optional: true");
        run("Toolchain(language: Rust, optional: true)").code(0);
    }
    run("SshAgent").code(120).says("SSH_AUTH_SOCK");
    run("SshAgent(optional: true)").code(0);
    run(&format!("Git(\"{none}\")")).code(120).says("no git repository");
    run(&format!("Git(repo: \"{none}\", optional: true)")).code(0);
    run("Overlay(\"/no/such\")").code(120).says("there is no directory");
    run("Overlay(lower: \"/usr\", at: \"/w\", upper: Keep(\"/usr/lib\"))").code(118).says("lie in each other");
}

#[track_caller]
fn until(done: impl Fn() -> bool) {
    let begun = std::time::Instant::now();
    while !done() {
        assert!(begun.elapsed().as_secs() < 10 * u64::from(palisade_tests::slowness()), "it takes too long");
        std::thread::sleep(std::time::Duration::from_millis(10));
    }
}

#[test]
fn a_repository_can_be_committed_to_and_not_told_what_to_run() {
    let _alone = alone();
    for who in everybody("git") {
        let scratch = Scratch::new();
        let (repo, home) = (format!("{}/repo", scratch.text()), format!("{}/home", scratch.text()));
        scratch.file("home/.gitconfig", "[user]\nname = Ann\nemail = ann@example.org\n");
        scratch.file("repo/file", "one\n");
        give(scratch.path(), who);
        let bare = |script: &str| Run::bare(["sh", "-c", script]).env("HOME", &home).cwd(&repo).who(who).ran();
        bare("git init -q . && git add . && git commit -q -m first").code(0);
        let policy = policy(&scratch, "user: AsNeeded", &format!("Git(\"{repo}\")"));
        let inside = |script: &str| sh(&policy, &format!("cd {repo} && {script}")).env("HOME", &home).who(who).ran();
        inside("echo two > file && git commit -q -a -m second && git checkout -q -b other && git log --format=%an%s")
            .code(0)
            .prints("Annsecond\nAnnfirst\n");
        for script in [
            "git config core.fsmonitor ./evil",
            "echo evil > .git/hooks/post-checkout",
            "rm .git/config",
            "mv .git/hooks .git/x",
            "mv .git .old",
            "echo x >> ~/.gitconfig",
        ] {
            assert_ne!(inside(script).code, Some(0), "{script}");
        }
        // A file that sends git elsewhere for both can be made, and does not stay.
        inside("mkdir evil && echo ../evil > .git/commondir && cat .git/commondir").code(0).prints("evil");
        bare("test ! -e .git/commondir && git log --format=%s").code(0).prints("second");
        // Not even if palisade is killed.
        let script = format!("cd {repo} && echo ../evil > .git/commondir && while :; do sleep 1; done");
        let run = sh(&policy, &script).env("HOME", &home).who(who);
        let quiet = || std::process::Stdio::null();
        let mut child = run.command().stdin(quiet()).stdout(quiet()).stderr(quiet()).spawn().unwrap();
        let made = || Path::new(&format!("{repo}/.git/commondir")).exists();
        until(made);
        child.kill().unwrap();
        child.wait().unwrap();
        until(|| !made());
        planned(&policy, &home, who).code(0).prints(".git/hooks, .git/config read-only");
        // A worktree's settings lie elsewhere: it is refused, or shown without them.
        let tree = format!("{}/tree", scratch.text());
        bare(&format!("git worktree add -q {tree}")).code(0);
        let worktree = self::policy(&scratch, "user: AsNeeded", &format!("Git(\"{tree}\")"));
        sh(&worktree, "true").env("HOME", &home).who(who).ran().code(118).says("name the repository");
        let entry = format!("Git(repo: \"{tree}\", optional: true)");
        let worktree = self::policy(&scratch, "user: AsNeeded", &entry);
        let inside_tree =
            |script: &str| sh(&worktree, &format!("cd {tree} && {script}")).env("HOME", &home).who(who).ran();
        inside_tree("echo three > file").code(0);
        assert_ne!(inside_tree("echo gitdir: evil > .git").code, Some(0));
        assert_ne!(inside_tree("mv .git x").code, Some(0));
        bare(&format!("cd {tree} && cat file && mv .git x && mv x .git")).code(0).prints("three");
        // The twins, which would do on the host what they say.
        bare(
            "git config core.fsmonitor ./evil && echo evil > .git/hooks/post-checkout && mv .git .old && mv .old .git",
        )
        .code(0);
    }
}

/// A directory on the way to what is read-only, or masked, could be renamed, and another tree be made of its name.
#[test]
fn what_is_fixed_below_a_directory_to_write_keeps_its_name() {
    let _alone = alone();
    let before = Leftovers::now();
    for who in everybody("held") {
        let scratch = Scratch::new();
        let work = format!("{}/work", scratch.text());
        scratch.file("work/a/b/flows/deploy", "good\n");
        scratch.file("work/a/file", "a\n");
        give(scratch.path(), who);
        let run = |entries: &str, script: &str| {
            let entries = format!("Bind(from: \"{work}\", mode: ReadWrite), {entries}");
            let policy = policy(&scratch, "user: AsNeeded", &entries);
            sh(&policy, &format!("cd {work} && {script}")).who(who).ran()
        };
        let (flows, secret) = (format!("Bind(\"{work}/a/b/flows\")"), format!("Mask(\"{work}/a/b/flows/deploy\")"));
        for (entry, script) in [
            (&flows, "echo evil > a/b/flows/deploy"),
            (&flows, "mv a c"),
            (&flows, "mv a/b a/c"),
            (&secret, "cat a/b/flows/deploy"),
            (&secret, "mv a/b/flows a/b/other && mkdir a/b/flows && echo evil > a/b/flows/deploy"),
        ] {
            assert_ne!(run(entry, script).code, Some(0), "{entry} {script}");
            assert_eq!(fs::read_to_string(format!("{work}/a/b/flows/deploy")).unwrap(), "good\n");
        }
        // All else is as it was.
        run(&flows, "cat a/b/flows/deploy && mv a/file a/b/file && mv a/b/file a/file && mkdir d && mv d e && rmdir e")
            .code(0)
            .prints("good\n");
        // The twin: without the entry all of it can be done.
        let script = "cat a/b/flows/deploy && mv a c && mkdir -p a/b/flows && echo evil > a/b/flows/deploy && rm -r c";
        run("Tmpfs(\"/t\")", script).code(0).prints("good\n");
        assert_eq!(fs::read_to_string(format!("{work}/a/b/flows/deploy")).unwrap(), "evil\n");
    }
    before.same();
}

/// A directory of an overlay that is kept could be renamed, where the kernel lets that be, with what is masked in it: in the
/// next run the mask was at the old name.
#[test]
fn what_is_masked_in_an_overlay_keeps_its_name() {
    let _alone = alone();
    for who in everybody("overlay-held") {
        let scratch = Scratch::new();
        let lower = lower(&scratch, who);
        let entry = format!("Overlay(lower: \"{}\", at: \"/w\")", lower.display());
        let run = |more: &str, script: &str| {
            sh(&policy(&scratch, "user: AsNeeded", &format!("{entry}{more}")), script).who(who).ran()
        };
        if too_old(&policy(&scratch, "user: AsNeeded", &entry), who) {
            continue;
        }
        let rename = "/usr/bin/python3 -c 'import os; os.rename(\"/w/dir\", \"/w/x\")'";
        let masked = run(", Mask(\"/w/dir/deep/file\")", rename);
        assert!(
            masked.code != Some(0) && masked.stderr.contains("EBUSY") | masked.stderr.contains("busy"),
            "{}",
            masked.stderr
        );
        // The twin: without the mask the kernel lets it be, or says that a directory of the lower tree cannot be renamed.
        let free = run("", rename);
        assert!(free.code == Some(0) || free.stderr.contains("Invalid cross-device"), "{}", free.stderr);
        run(", Mask(\"/w/dir/deep/file\")", "cat /w/old && echo x > /w/dir/deep/new && rm /w/dir/deep/new").code(0);
        untouched(&lower);
    }
}

/// What overlayfs works in was removed by its name, which the workload could give to another directory.
#[test]
fn what_is_removed_after_an_overlay_is_what_was_made_for_it() {
    let _alone = alone();
    for who in everybody("overlay-work") {
        let scratch = Scratch::new();
        let lower = lower(&scratch, who);
        let top = Top::new(&scratch);
        let keep = top.0.join("keep");
        fs::create_dir(&keep).unwrap();
        give(&top.0, who);
        let (from, to) = (top.0.display(), keep.display());
        let entries = format!(
            "Bind(from: \"{from}\", mode: ReadWrite), Overlay(lower: \"{}\", at: \"/w\", upper: Keep(\"{to}\"))",
            lower.display()
        );
        let overlay = policy(&scratch, "user: AsNeeded", &entries);
        if too_old(&overlay, who) {
            continue;
        }
        let script = format!("cd {from} && mv keep.work x && mkdir keep.work && echo mine > keep.work/file");
        sh(&overlay, &script).who(who).ran().says("keep.work");
        assert_eq!(fs::read_to_string(top.0.join("keep.work/file")).unwrap(), "mine\n");
        fs::remove_dir_all(top.0.join("keep.work")).unwrap();
        // The twin: left alone, it is removed.
        sh(&overlay, "echo more > /w/made").who(who).ran().code(0);
        assert!(!top.0.join("keep.work").exists());
    }
}

#[test]
fn the_ssh_agent_is_a_socket_and_nothing_else() {
    let _alone = alone();
    for who in everybody("ssh-agent") {
        let scratch = Scratch::new();
        let home = home(&scratch);
        let socket = format!("{}/agent", scratch.text());
        let listener = std::os::unix::net::UnixListener::bind(&socket).unwrap();
        fs::set_permissions(&socket, fs::Permissions::from_mode(0o600)).unwrap();
        give(scratch.path(), who);
        let connect = "import os, socket; s = socket.socket(socket.AF_UNIX); s.connect(os.environ['SSH_AUTH_SOCK']); print('met')";
        let run = |entry: &str| {
            let policy = policy(&scratch, "user: AsNeeded", entry);
            let script = format!("/usr/bin/python3 -c \"{connect}\"; ls {home}/.ssh");
            sh(&policy, &script).env("HOME", &home).env("SSH_AUTH_SOCK", &socket).who(who).ran()
        };
        let ran = run("SshAgent");
        assert!(ran.stdout == "met\n" && ran.stderr.contains("No such file"), "{} {}", ran.stdout, ran.stderr);
        // The twin: without the grant there is none.
        assert!(!run("Tmpfs(\"/t\")").stdout.contains("met"));
        drop(listener);
        fs::remove_file(&socket).unwrap();
        fs::write(&socket, "no socket").unwrap();
        give(Path::new(&socket), who);
        run("SshAgent").code(120).says("no socket of yours");
    }
}

#[test]
fn names_are_asked_for_where_the_network_is_the_hosts() {
    let _alone = alone();
    let hosts = fs::read_to_string("/etc/resolv.conf").unwrap_or_default();
    for who in everybody("resolv") {
        let scratch = Scratch::new();
        let run = |net: &str| {
            let policy = policy(&scratch, &format!("user: AsNeeded, net: {net}"), "Tmpfs(\"/tmp\")");
            sh(&policy, "cat /etc/resolv.conf; echo; cat /etc/machine-id; date +%Z").who(who).ran().code(0).stdout
        };
        let zone = Run::bare(["date", "+%Z"]).ran().code(0).stdout;
        let rest = format!("\n{}\n{zone}", "0".repeat(32));
        assert_eq!(run("New"), rest);
        assert_eq!(run("Host"), format!("{hosts}{rest}"));
    }
}

/// Adds a key to a new session keyring, as a log-in does, and becomes the command.
const LOG_IN: &str = "import ctypes, os, sys
libc = ctypes.CDLL(None, use_errno=True)
assert libc.syscall(KEYCTL, 1, None) > 0
assert libc.syscall(ADD_KEY, b'user', b'palisade-test', b'secret', 6, -3) > 0
os.execv(sys.argv[1], sys.argv[1:])";

/// Looks for the key in the session keyring and reads it.
const LOOK: &str = "import ctypes
libc = ctypes.CDLL(None, use_errno=True)
buffer = ctypes.create_string_buffer(64)
key = libc.syscall(KEYCTL, 10, -3, b'user', b'palisade-test', 0)
n = libc.syscall(KEYCTL, 11, key, buffer, 64) if key > 0 else -1
print(buffer.raw[:n].decode() if n > 0 else 'none')";

#[test]
fn the_keys_of_the_callers_session_stay_outside() {
    let _alone = alone();
    let (keyctl, add_key) = if cfg!(target_arch = "x86_64") { ("250", "248") } else { ("219", "217") };
    let numbered = |script: &str| script.replace("KEYCTL", keyctl).replace("ADD_KEY", add_key);
    let (log_in, look) = (numbered(LOG_IN), numbered(LOOK));
    for who in everybody("keyring") {
        let scratch = Scratch::new();
        let run = |keyring: &str| {
            let policy = scratch.policy(&format!(
                "Policy(version: 1, process: (env: Inherit, cwd: \"/\"), plugins: {{
                    \"namespaces\": (user: AsNeeded, mount: New, pid: New), \"privileges\": ({keyring}),
                }})"
            ));
            let run = Run::under(&policy, ["/usr/bin/python3", "-c", &look]).who(who);
            run.behind(&["/usr/bin/python3", "-c", &log_in]).ran().code(0).stdout
        };
        assert_eq!(run("keyring: Inherit"), "secret\n");
        assert_eq!(run("keyring_demand: Off"), "secret\n");
        assert_eq!(run("keyring: New"), "none\n");
        assert_eq!(run(""), "none\n");
    }
}
