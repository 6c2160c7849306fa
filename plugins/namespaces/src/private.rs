//! A map that covers the host's root leaves every knob of /proc/sys and /sys writable, since the kernel checks the
//! id and not the capability: `core_pattern` alone is a way out. So such a map needs a view without them.

use palisade_abi::{Action, Context, Error, Evidence, Stage, Step};
use palisade_sys::{Errno, fd};

/// What gives the host to whoever may write it as uid 0.
const LEVERS: [&str; 8] = [
    // Run by the kernel, as root, outside.
    "/proc/sys/kernel/core_pattern",
    "/proc/sys/kernel/modprobe",
    "/sys/kernel/uevent_helper",
    // Global settings.
    "/proc/sys/vm/overcommit_memory",
    "/proc/sysrq-trigger",
    "/sys/kernel/mm/ksm/run",
    "/sys/kernel",
    // notify_on_release and release_agent, and its own limits.
    "/sys/fs/cgroup",
];

/// Makes the step. In Drop: the view is final, and the workload's own process looks.
pub(crate) fn step() -> Step {
    Step::new(Stage::Drop, "checks that the view holds no kernel setting that root of the host could write", Check)
        .why("the id map covers root of the host, for which the kernel's settings are files like others")
}

/// Opens a file, and writes nothing: permission alone would say that a mask, a device that cannot be opened, is
/// writable. In a directory names could be made.
fn writable(path: &str) -> palisade_sys::Result<()> {
    match fd::open_path(path, fd::O_WRONLY | fd::O_NONBLOCK) {
        Err(error) if error.kind() == Errno::EISDIR => fd::may_write(path),
        opened => opened.map(drop),
    }
}

struct Check;

impl Action for Check {
    fn apply(&mut self, _context: &mut Context<'_>) -> Result<Evidence, Error> {
        for path in LEVERS {
            match writable(path) {
                Err(e) if matches!(e.kind(), Errno::ENOENT | Errno::ENOTDIR | Errno::EROFS | Errno::EACCES) => {}
                Err(e) => {
                    return Err(Error::setup(format!("cannot see whether {path} can be written"))
                        .call(e.to_string(), e.errno()));
                }
                Ok(()) => {
                    return Err(Error::setup(format!("as root of the host the workload could write {path}")).help(
                        "use ids: Auto, or a view (filesystem) whose Proc has sys: ReadOnly and that has no /sys",
                    ));
                }
            }
        }
        Ok(Evidence("none is there and writable".to_owned()))
    }
}
