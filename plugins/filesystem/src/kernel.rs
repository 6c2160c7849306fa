//! What the kernel itself shows as files: /proc with its masks, and a minimal /dev.

use palisade_abi::Error;
use palisade_sys::mount::MountFlags;

use crate::entry::{Dev, Proc, tmpfs_inodes};
use crate::op::{Expected, Fresh, Op};
use crate::planner::Planner;
use crate::steps::Item;
use crate::tree::{Backing, Kind, Made, Target};
use crate::view::MASKED;

const NO_CODE: MountFlags = MountFlags::NOSUID.with(MountFlags::NODEV).with(MountFlags::NOEXEC);

/// What is masked in /proc, where the kernel has it. None of it belongs to a namespace.
const MASKS: [&str; 31] = [
    // Firmware tables, and through them reset and power.
    "acpi",
    // The host's sound hardware.
    "asound",
    // PCI configuration space, USB.
    "bus",
    // How the host was booted; may hold passwords.
    "cmdline",
    // How the kernel was built.
    "config.gz",
    // Settings and statistics of the host's file systems.
    "fs",
    // What the hardware does, to the keystroke.
    "interrupts",
    // Where memory and ports of devices are.
    "iomem",
    "ioports",
    // Which processor serves which interrupt; writable for uid 0.
    "irq",
    // Addresses in the kernel.
    "kallsyms",
    // All of memory.
    "kcore",
    // Keys of all users and how many they have.
    "key-users",
    "keys",
    // The kernel's log; reading takes from others.
    "kmsg",
    // Which process and cgroup each page of memory belongs to.
    "kpagecgroup",
    "kpagecount",
    "kpageflags",
    // Timing of other processes.
    "latency_stats",
    // Loaded modules.
    "modules",
    "pagetypeinfo",
    // The scheduler's view of all processes.
    "sched_debug",
    "schedstat",
    // The host's disks; writable for uid 0.
    "scsi",
    // How the kernel's memory is laid out.
    "slabinfo",
    // Reboots, kills, crashes.
    "sysrq-trigger",
    // Timers of all processes.
    "timer_list",
    "timer_stats",
    "vmallocinfo",
    "zoneinfo",
    // CPU registers of all processors.
    "mtrr",
];

impl Planner<'_> {
    /// A fresh procfs.
    pub(crate) fn proc(&mut self, proc: &Proc) -> Result<Item, Error> {
        let target = self.tree.target(proc.path.as_str(), Kind::Dir)?;
        let path = target.path.clone();
        let options = if proc.pids_only { vec![("subset", "pid".to_owned())] } else { Vec::new() };
        let fs = Fresh { kind: "proc", options, flags: NO_CODE };
        let mut expected = vec![fs.expected(&path)];
        let mut ops = vec![Op::Fresh { fs, target }];
        self.tree.mount(&path, Backing::Kernel);
        let mut words = format!("mounts a new procfs on {path}");
        if proc.pids_only {
            words += ", processes only";
        } else if !proc.sys_writable {
            let sys = format!("{path}/sys");
            let flags = NO_CODE | MountFlags::RO;
            ops.push(Op::Part { target: Target::there(sys.clone(), Kind::Dir), flags });
            expected.push(Expected::plain(&sys, flags));
            words += ", settings read-only";
        }
        if !proc.pids_only {
            let masks = masks(proc);
            words += &format!(", {} names masked", masks.len());
            for (name, kind) in masks {
                let path = format!("{path}/{name}");
                expected.push(Expected::plain(&path, MASKED));
                ops.push(Op::Mask { target: Target::there(path, kind) });
            }
        }
        let why = "shows the processes of its own pid namespace; what the kernel tells of the whole host is covered";
        Ok(Item { words, why: why.to_owned(), ops, expected })
    }

    /// The workload's own cgroup.
    pub(crate) fn cgroup(&mut self, path: &str) -> Result<Item, Error> {
        let fs = Fresh { kind: "cgroup2", options: Vec::new(), flags: NO_CODE | MountFlags::RO };
        let target = self.tree.target(path, Kind::Dir)?;
        let path = target.path.clone();
        let expected = vec![fs.expected(&path)];
        self.tree.mount(&path, Backing::Kernel);
        let ops = vec![Op::OwnCgroup { fs, target }];
        let why = "programs that fit themselves to their limits find them there; none can be changed";
        Ok(Item { words: format!("mounts its own cgroup on {path}, read-only"), why: why.to_owned(), ops, expected })
    }

    /// A minimal /dev.
    pub(crate) fn dev(&mut self, dev: &Dev) -> Result<Item, Error> {
        let place = self.tree.target(dev.path.as_str(), Kind::Dir)?;
        let path = place.path.clone();
        let (mut ops, mut expected) = (Vec::new(), Vec::new());
        // On the view's own tmpfs a directory is enough: what is mounted in it has its own flags.
        let mounted = !place.make;
        if mounted {
            let fs = Fresh::tmpfs(65536, 64, 0o755, MountFlags::NOSUID | MountFlags::NOEXEC);
            expected.push(Expected { flags: fs.flags | MountFlags::RO, ..fs.expected(&path) });
            ops.push(Op::Fresh { fs, target: place });
            self.tree.mount(&path, Backing::Own);
        } else {
            self.tree.name(&path, Made::Name(Kind::Dir))?;
            ops.push(Op::Dir { path: path.clone(), mode: 0o755 });
        }
        let mut nodes =
            vec![("null", (1, 3)), ("zero", (1, 5)), ("full", (1, 7)), ("random", (1, 8)), ("urandom", (1, 9))];
        if dev.tty {
            nodes.push(("tty", (5, 0)));
        }
        let mut shown: Vec<&str> = nodes.iter().map(|(name, _)| *name).collect();
        for (name, device) in nodes {
            let path = format!("{path}/{name}");
            self.tree.name(&path, Made::Name(Kind::File))?;
            expected.push(Expected::plain(&path, MountFlags::RO | MountFlags::NOSUID | MountFlags::NOEXEC));
            ops.push(Op::Node { name, device, target: Target { make: true, ..Target::there(path, Kind::File) } });
        }
        let mut links = vec![
            ("fd", "/proc/self/fd"),
            ("stdin", "/proc/self/fd/0"),
            ("stdout", "/proc/self/fd/1"),
            ("stderr", "/proc/self/fd/2"),
        ];
        if dev.pts {
            let options = vec![("ptmxmode", "0666".to_owned()), ("mode", "0620".to_owned())];
            // Not nodev: a terminal is a device.
            let fs = Fresh { kind: "devpts", options, flags: MountFlags::NOSUID | MountFlags::NOEXEC };
            self.fresh(fs, &format!("{path}/pts"), &mut ops, &mut expected)?;
            links.push(("ptmx", "pts/ptmx"));
            shown.push("pts");
        }
        if dev.shm > 0 {
            let fs = Fresh::tmpfs(dev.shm, tmpfs_inodes(), 0o1777, NO_CODE);
            self.fresh(fs, &format!("{path}/shm"), &mut ops, &mut expected)?;
            shown.push("shm");
        }
        for (name, to) in links {
            self.symlink(&format!("{path}/{name}"), to, &mut ops)?;
        }
        if mounted {
            ops.push(Op::Freeze { path: path.clone() });
        }
        let why =
            "the devices that any program may use, bound from the host's; no disk, no memory, terminals of its own";
        Ok(Item { words: format!("makes {path}: {}", shown.join(" ")), why: why.to_owned(), ops, expected })
    }

    fn fresh(&mut self, fs: Fresh, path: &str, ops: &mut Vec<Op>, expected: &mut Vec<Expected>) -> Result<(), Error> {
        let target = self.tree.target(path, Kind::Dir)?;
        expected.push(fs.expected(&target.path));
        let backing = if fs.kind == "tmpfs" { Backing::Own } else { Backing::Kernel };
        self.tree.mount(&target.path, backing);
        ops.push(Op::Fresh { fs, target });
        Ok(())
    }
}

/// The names to mask that this kernel has. A new procfs has the same names as the host's.
fn masks(proc: &Proc) -> Vec<(String, Kind)> {
    let mut names: Vec<&str> = MASKS.into_iter().filter(|name| proc.unmask.iter().all(|kept| kept != name)).collect();
    names.extend(proc.mask.iter().map(String::as_str).filter(|name| !MASKS.contains(name)));
    let kind = |name: &str| {
        let facts = std::fs::symlink_metadata(format!("/proc/{name}")).ok().filter(|facts| !facts.is_symlink())?;
        Some((name.to_owned(), if facts.is_dir() { Kind::Dir } else { Kind::File }))
    };
    names.into_iter().filter_map(kind).collect()
}
