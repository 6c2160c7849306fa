//! The plugin against the kernel: a view is built as root and as an ordinary user, looked at from inside and from
//! outside, and each denial has its twin without the view.
#![expect(
    clippy::unwrap_used,
    clippy::print_stdout,
    reason = "a test without the stock harness, which clippy does not take for one"
)]

use std::fs::{self, File};
use std::io::{ErrorKind, PipeReader, PipeWriter, Read, Write};
use std::os::fd::AsFd;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::time::Instant;

use palisade_abi::seam::{ContextObject, RawFacts, RawLayer, RawStep};
use palisade_abi::{
    Error,
    abi_stable::std_types::{ROption, RStr, RString, Tuple2},
    wrap,
};
use palisade_model::diag::SourceId;
use palisade_model::layer::Fragment;
use palisade_sys::mount::{Fs, MountFlags};
use palisade_sys::namespace::{CLONE_NEWIPC, CLONE_NEWNS, CLONE_NEWPID, CLONE_NEWUSER};
use palisade_sys::process::{self, Cloned, Target};
use palisade_sys::{fd, host, ids, mount};

const LIBRARY: &str = "libpalisade_filesystem.so";
const ALL: u64 = CLONE_NEWNS | CLONE_NEWPID | CLONE_NEWUSER | CLONE_NEWIPC;
const ROOT: u64 = (1 << 41) - 1;
const NOBODY: u32 = 65534;

/// What palisade would lend to a step.
struct Lent(Option<i32>);

impl ContextObject for Lent {
    fn number(&self, name: RStr<'_>) -> ROption<i64> {
        match (name.as_str(), self.0) {
            ("pid" | "init_pid", Some(pid)) => ROption::RSome(i64::from(pid)),
            _ => ROption::RNone,
        }
    }

    fn offer_cgroup(&mut self, _fd: i32) {}
}

/// A launch without palisade: the plugin's own shared object, through the seam, step by step.
struct Launch {
    module: palisade_abi::seam::PluginModule_Ref,
    capabilities: u64,
    flags: u64,
}

impl Launch {
    fn plan(&self, section: &str) -> Result<Vec<RawStep>, Error> {
        let fragment = ron::to_string(&Fragment::policy(SourceId(0), section, 0)).unwrap();
        let layer = RawLayer { fragment: fragment.into() };
        let (major, minor) = host::kernel_version().unwrap();
        let facts = [
            ("uid", process::getuid().to_string()),
            ("gid", process::getgid().to_string()),
            ("capabilities", self.capabilities.to_string()),
            ("kernel_major", major.to_string()),
            ("kernel_minor", minor.to_string()),
            ("plugins", "filesystem namespaces".to_owned()),
        ];
        let facts: RawFacts = facts.into_iter().map(|(k, v)| Tuple2(RString::from(k), RString::from(v))).collect();
        let isolator = self.module.configure()(vec![layer].into(), facts.clone()).into_result()?;
        Ok(isolator.plan(facts).into_result()?.into())
    }

    /// Builds the view, verifies it from outside, and runs `work` inside. `tamper` is done in between.
    fn run(&self, section: &str, tamper: fn(), work: impl FnOnce()) -> Result<(), Error> {
        let mut steps = self.plan(section)?;
        stage(&mut steps, "prepare", &mut Lent(None))?;
        let (mut ready, mut go) = std::io::pipe().unwrap();
        let (mut built, mut done) = std::io::pipe().unwrap();
        let privileged = self.capabilities != 0;
        match process::clone3(self.flags, None).unwrap() {
            Cloned::Child => {
                drop((go, built));
                inside(&mut steps, privileged, tamper, (&mut ready, &mut done));
                work();
                process::exit_now(0);
            }
            Cloned::Parent { pid, pidfd } => {
                drop((ready, done));
                if self.flags & CLONE_NEWUSER != 0 {
                    let outside = if privileged { 0x7000_0000 + pid.cast_unsigned() } else { process::getuid() };
                    fs::write(format!("/proc/{pid}/setgroups"), "deny").unwrap();
                    fs::write(format!("/proc/{pid}/uid_map"), format!("1000 {outside} 1")).unwrap();
                    fs::write(format!("/proc/{pid}/gid_map"), format!("1000 {outside} 1")).unwrap();
                }
                go.write_all(b"x").unwrap();
                let mut said = Vec::new();
                let mut byte = [0];
                while built.read(&mut byte).unwrap() == 1 && byte != *b"\n" {
                    said.push(byte[0]);
                }
                let verified = if said.is_empty() { verify(&steps, pid) } else { Ok(()) };
                drop(go);
                let ended = process::waitid(Target::PidFd(pidfd.as_fd()), false).unwrap().unwrap().ended;
                for step in steps.iter_mut().rev().filter(|step| step.stage() == "prepare") {
                    step.undo(wrap::lend(&mut Lent(None))).into_result().map_err(Error::from).unwrap();
                }
                if !said.is_empty() {
                    return Err(Error::setup(String::from_utf8(said).unwrap()));
                }
                verified?;
                assert_eq!(ended, process::Ended::Exited(0), "{section}");
                Ok(())
            }
        }
    }
}

/// The child's part, up to the workload.
fn inside(steps: &mut [RawStep], privileged: bool, tamper: fn(), (ready, done): (&mut PipeReader, &mut PipeWriter)) {
    ready.read_exact(&mut [0]).unwrap();
    // Where a map was written, which has this one id.
    if fs::read_to_string("/proc/self/uid_map").unwrap().trim_start().starts_with("1000") {
        ids::set_resgid(1000).unwrap();
        ids::set_resuid(1000).unwrap();
    }
    let built = stage(steps, "build", &mut Lent(None)).and_then(|()| {
        for step in steps.iter().filter(|step| step.has_witness()) {
            step.witness(wrap::lend(&mut Lent(None))).into_result()?;
        }
        Ok(())
    });
    assert!(privileged || steps.iter().any(|step| step.has_witness()));
    if let Err(error) = built {
        write!(done, "{} {}", error.message, error.call).unwrap();
        process::exit_now(1);
    }
    tamper();
    done.write_all(b"\n").unwrap();
    ready.read_to_end(&mut Vec::new()).unwrap();
}

fn stage(steps: &mut [RawStep], stage: &str, lent: &mut Lent) -> Result<(), Error> {
    for step in steps.iter_mut().filter(|step| step.stage() == stage) {
        let begun = Instant::now();
        step.apply(wrap::lend(lent)).into_result()?;
        println!("  {:>6} us  {}", begun.elapsed().as_micros(), step.words());
    }
    Ok(())
}

fn verify(steps: &[RawStep], pid: i32) -> Result<(), Error> {
    for step in steps {
        let begun = Instant::now();
        if let Some(seen) = step.verify(wrap::lend(&mut Lent(Some(pid)))).into_result()?.into_option() {
            println!("  {:>6} us  verified: {seen}", begun.elapsed().as_micros());
        }
    }
    Ok(())
}

fn nothing() {}

fn kind(result: std::io::Result<impl Sized>) -> Option<ErrorKind> {
    result.err().map(|error| error.kind())
}

fn names(dir: &str) -> Vec<String> {
    let mut names: Vec<_> =
        fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    names
}

/// A directory of this test on the host, removed at the end.
struct Scratch(PathBuf);

impl Scratch {
    fn new(name: &str) -> Self {
        let path = std::env::temp_dir().join(format!("palisade-view-{name}-{}", process::getpid()));
        fs::create_dir(&path).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o777)).unwrap();
        fs::write(path.join("canary"), "token").unwrap();
        Self(path)
    }

    fn text(&self) -> &str {
        self.0.to_str().unwrap()
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        fs::remove_dir_all(&self.0).unwrap();
    }
}

/// The view as a policy would have it, and everything that it promises.
fn a_whole_view(launch: &Launch) {
    let scratch = Scratch::new("whole");
    fs::create_dir(scratch.0.join("secret")).unwrap();
    fs::write(scratch.0.join("secret/key"), "token").unwrap();
    let dir = scratch.text();
    let section = format!(
        r#"( entries: [ System, Proc, Dev(shm: "1MiB"), Tmpfs(path: "/tmp", size: "1MiB", inodes: 64),
            Bind(from: "{dir}", to: "/work", mode: ReadWrite), Bind(from: "{dir}", to: "/seen", noexec: true),
            Bind(from: "{dir}/canary", to: "/one"), Mask("/seen/secret"), Mask("/work/canary"),
            Symlink("tmp", "/t"), Dir(path: "/d", mode: "0700"), File(path: "/f", content: "hi", mode: "0600") ] )"#
    );
    // The twins: without the view all of it is open to whoever runs this test.
    assert!(Path::new(dir).join("secret/key").exists() && Path::new("/etc/passwd").exists());
    assert!(File::open("/proc/cmdline").is_ok());
    let shown = dir.to_owned();
    launch
        .run(&section, nothing, move || {
            for name in ["d", "dev", "etc", "f", "one", "proc", "seen", "t", "tmp", "usr", "work"] {
                assert!(names("/").iter().any(|found| found == name), "{name}");
            }
            assert_eq!(kind(fs::metadata(&shown)), Some(ErrorKind::NotFound));
            assert_eq!(kind(fs::metadata("/etc/shadow")), Some(ErrorKind::NotFound));
            assert_eq!(fs::read_to_string("/etc/machine-id").unwrap().trim(), "0".repeat(32));
            for path in ["/x", "/usr/x", "/etc/x", "/seen/x", "/dev/x", "/d/x"] {
                assert_eq!(kind(File::create(path)), Some(ErrorKind::ReadOnlyFilesystem), "{path}");
            }
            assert_eq!(
                kind(fs::set_permissions("/dev/null", fs::Permissions::from_mode(0o000))),
                Some(ErrorKind::ReadOnlyFilesystem)
            );
            fs::write("/tmp/x", "x").unwrap();
            fs::write("/dev/shm/x", "x").unwrap();
            fs::write("/work/made", "x").unwrap();
            assert_eq!(fs::read_to_string("/one").unwrap(), "token");
            assert_eq!(fs::read_to_string("/seen/canary").unwrap(), "token");
            assert_eq!(fs::read_to_string("/t/x").unwrap(), "x");
            assert_eq!(
                (fs::read_to_string("/f").unwrap().as_str(), fs::metadata("/f").unwrap().mode() & 0o777),
                ("hi", 0o600)
            );
            assert_eq!(names("/seen/secret"), Vec::<String>::new());
            assert_eq!(kind(File::open("/work/canary")), Some(ErrorKind::PermissionDenied));
            limits_hold();
            proc_and_dev();
        })
        .unwrap();
    assert_eq!(fs::read_to_string(scratch.0.join("made")).unwrap(), "x", "read-write means the host's");
    assert_eq!(names(dir), ["canary", "made", "secret"], "and nothing else was made there");
}

fn limits_hold() {
    let full = fs::write("/tmp/big", vec![0_u8; 2 << 20]);
    assert_eq!(kind(full), Some(ErrorKind::StorageFull));
    fs::remove_file("/tmp/big").unwrap();
    let made = (0..100).take_while(|n| File::create(format!("/tmp/{n}")).is_ok()).count();
    assert!(made < 64, "{made}");
}

fn proc_and_dev() {
    for name in ["cmdline", "kallsyms", "keys", "interrupts"] {
        let opened = kind(File::open(format!("/proc/{name}")));
        assert!(matches!(opened, Some(ErrorKind::PermissionDenied | ErrorKind::NotFound)), "{name}: {opened:?}");
    }
    let sysctl = File::options().write(true).open("/proc/sys/kernel/hostname");
    assert!(matches!(kind(sysctl), Some(ErrorKind::ReadOnlyFilesystem | ErrorKind::PermissionDenied)));
    let mounts = fs::read_to_string("/proc/self/mountinfo").unwrap();
    assert!(mounts.lines().all(|line| !line.contains(" /sys/fs/cgroup ")), "{mounts}");
    let pids = names("/proc").into_iter().filter(|name| name.parse::<u32>().is_ok());
    assert_eq!(pids.count(), 1);
    fs::write("/dev/null", "x").unwrap();
    let mut zero = [1; 4];
    File::open("/dev/zero").unwrap().read_exact(&mut zero).unwrap();
    assert_eq!(zero, [0; 4]);
    assert!(File::options().read(true).write(true).open("/dev/ptmx").is_ok());
    assert_eq!(names("/dev/pts"), ["ptmx"]);
    assert_eq!(kind(File::open("/dev/vda")), Some(ErrorKind::NotFound));
    let who = std::process::Command::new("/usr/bin/id").env_clear().output().unwrap();
    let who = String::from_utf8(who.stdout).unwrap();
    assert!(who.starts_with("uid=1000(user) gid=1000(user)"), "{who}");
}

/// Processes only: no settings and nothing of the host in /proc, in one mount.
fn a_procfs_of_processes_only(launch: &Launch) {
    let section = r#"( entries: [ System, Proc(subset: Pid) ] )"#;
    launch
        .run(section, nothing, || {
            assert!(fs::read_to_string("/proc/self/status").is_ok());
            for name in ["sys", "cmdline", "kcore", "meminfo"] {
                assert_eq!(kind(fs::metadata(format!("/proc/{name}"))), Some(ErrorKind::NotFound), "{name}");
            }
        })
        .unwrap();
}

/// A later entry on the same place: the last one is what is seen, and what is verified.
fn an_entry_on_top_of_another(launch: &Launch) {
    let scratch = Scratch::new("top");
    let dir = scratch.text();
    let section = format!(
        r#"( entries: [ System, Tmpfs("/tmp"), Bind(from: "{dir}", to: "/tmp"), Tmpfs("/w/x"), Bind(from: "{dir}", to: "/w") ] )"#
    );
    let inside = || {
        assert_eq!(fs::read_to_string("/tmp/canary").unwrap(), "token");
        assert_eq!(kind(File::create("/tmp/x")), Some(ErrorKind::ReadOnlyFilesystem));
        assert_eq!(names("/w"), ["canary"]);
    };
    launch.run(&section, nothing, inside).unwrap();
    let twin = r#"( entries: [ System, Tmpfs("/tmp") ] )"#;
    launch.run(twin, nothing, || assert!(File::create("/tmp/x").is_ok())).unwrap();
}

/// A directory as the root: nothing is made in it.
fn a_given_root(launch: &Launch) {
    let scratch = Scratch::new("root");
    for name in ["usr", "dev", "proc", "tmp"] {
        fs::create_dir(scratch.0.join(name)).unwrap();
    }
    let section =
        format!(r#"( root: Rootfs("{}"), entries: [ Bind("/usr"), Proc, Dev, Tmpfs("/tmp") ] )"#, scratch.text());
    launch
        .run(&section, nothing, || {
            assert_eq!(names("/"), ["canary", "dev", "proc", "tmp", "usr"]);
            assert_eq!(kind(File::create("/x")), Some(ErrorKind::ReadOnlyFilesystem));
            assert_eq!(kind(File::create("/dev/x")), Some(ErrorKind::ReadOnlyFilesystem));
            fs::write("/dev/null", "x").unwrap();
            fs::write("/tmp/x", "x").unwrap();
        })
        .unwrap();
    assert_eq!(names(scratch.text()), ["canary", "dev", "proc", "tmp", "usr"]);
}

/// What the kernel believes is compared with the plan, so a mount too many or too few ends the launch.
fn a_view_that_is_not_as_planned_is_found(launch: &Launch) {
    let section = r#"( entries: [ Proc, Tmpfs("/tmp") ] )"#;
    let more = || {
        fs::create_dir("/tmp/more").unwrap();
        let tree = Fs::new("tmpfs").unwrap().set("size", "4096").unwrap().create(MountFlags::NONE).unwrap();
        mount::move_mount_onto(&tree, fd::open_path("/tmp/more", fd::O_PATH).unwrap()).unwrap();
    };
    let error = launch.run(section, more, || {}).unwrap_err();
    assert!(error.message.contains("/tmp/more, which nobody planned"), "{}", error.message);
    let fewer = || mount::umount_detach("/tmp").unwrap();
    let error = launch.run(section, fewer, || {}).unwrap_err();
    assert!(error.message.contains("nothing is mounted on /tmp"), "{}", error.message);
}

/// The view would replace the root of everything that shares the mount namespace.
fn the_hosts_own_mount_namespace_is_left_alone(module: palisade_abi::seam::PluginModule_Ref) {
    let launch = Launch { module, capabilities: ROOT, flags: 0 };
    let before = fs::read_to_string("/proc/self/mountinfo").unwrap();
    let error = launch.run("( entries: [ Tmpfs(\"/tmp\") ] )", nothing, || {}).unwrap_err();
    assert!(error.message.contains("launcher's own mount namespace"), "{}", error.message);
    assert_eq!(fs::read_to_string("/proc/self/mountinfo").unwrap(), before);
}

fn all(launch: &Launch) {
    a_whole_view(launch);
    a_procfs_of_processes_only(launch);
    an_entry_on_top_of_another(launch);
    a_given_root(launch);
    a_view_that_is_not_as_planned_is_found(launch);
}

/// The same as an ordinary user, in a process that has become one.
fn as_nobody(module: palisade_abi::seam::PluginModule_Ref) {
    match process::fork().unwrap() {
        Cloned::Child => {
            ids::set_groups(&[]).unwrap();
            ids::set_resgid(NOBODY).unwrap();
            ids::set_resuid(NOBODY).unwrap();
            process::set_dumpable(true).unwrap();
            all(&Launch { module, capabilities: 0, flags: ALL });
            process::exit_now(0);
        }
        Cloned::Parent { pidfd, .. } => {
            let ended = process::waitid(Target::PidFd(pidfd.as_fd()), false).unwrap().unwrap().ended;
            assert_eq!(ended, process::Ended::Exited(0));
        }
    }
}

fn main() {
    let library = std::env::current_exe().unwrap().with_file_name(LIBRARY);
    let file = File::open(&library).unwrap();
    let module = palisade_abi::host::load(file.as_fd(), false).unwrap().module;
    if process::getuid() == 0 {
        all(&Launch { module, capabilities: ROOT, flags: ALL });
        // Without a user namespace the workload keeps root's id; the view is the same.
        let section = r#"( entries: [ System, Proc, Dev, Tmpfs("/tmp") ] )"#;
        let launch = Launch { module, capabilities: ROOT, flags: CLONE_NEWNS | CLONE_NEWPID };
        launch.run(section, nothing, || assert!(File::open("/proc/kcore").is_err())).unwrap();
        the_hosts_own_mount_namespace_is_left_alone(module);
        as_nobody(module);
        println!("ok: as root, as root's unowned id, as nobody");
    } else {
        all(&Launch { module, capabilities: 0, flags: ALL });
        println!("ok: as uid {}", process::getuid());
    }
}
