//! What this host offers, for `palisade doctor`: a small view is built for real, in a child that ends at once.

use std::os::fd::AsFd;

use palisade_abi::{Finding, Host, Support};
use palisade_sys::mount::{self, Fs, MountAttr, MountFlags};
use palisade_sys::namespace::{CLONE_NEWNS, CLONE_NEWPID, CLONE_NEWUSER};
use palisade_sys::{Errno, Error, fd, namespace, process};

const CAP_SYS_ADMIN: u32 = 21;

/// Tries what a launch does, in new namespaces.
pub(crate) fn probe(host: &Host) -> Vec<Finding> {
    let user = if host.has_capability(CAP_SYS_ADMIN) { 0 } else { CLONE_NEWUSER };
    vec![
        finding("a root of its own (fsopen, move_mount, pivot_root)", user, build_root),
        finding("attributes of a bind with all below it (mount_setattr)", user, attributes),
        finding("a new procfs", user | CLONE_NEWPID, new_proc),
    ]
}

fn finding(feature: &str, flags: u64, act: fn() -> palisade_sys::Result<()>) -> Finding {
    let made = |support, detail: String, remedy: &str| Finding {
        feature: feature.to_owned(),
        support,
        detail,
        remedy: remedy.to_owned(),
    };
    match in_child(flags, act) {
        Ok(0) => made(Support::Full, "done in a child".to_owned(), ""),
        Ok(errno) => {
            let error = Error::from_raw(errno, feature.split(' ').next_back().unwrap_or_default());
            let why = format!("{} ({})", error.errno_name(), error.kind().desc());
            made(Support::Missing, why, remedy(feature, error.kind()))
        }
        Err(error) => made(Support::Partial, format!("could not be tried: {error}"), error.hint().unwrap_or_default()),
    }
}

fn remedy(feature: &str, errno: Errno) -> &'static str {
    match errno {
        Errno::ENOSYS if feature.contains("mount_setattr") => {
            "needs Linux 5.12; before that, name mounts below a bind by themselves with recursive: false"
        }
        Errno::ENOSYS => "needs Linux 5.2; a container's seccomp filter may also hide these calls",
        Errno::EPERM if feature.contains("procfs") => {
            "the host's own /proc is partly covered by other mounts, as in a container; start the container with an unmasked /proc"
        }
        _ => "see the finding on the mount namespace of the plugin namespaces",
    }
}

/// Runs `act` in a child with new namespaces; gives the errno, 0 for success. A new pid namespace is entered by the
/// child of that child.
fn in_child(flags: u64, act: fn() -> palisade_sys::Result<()>) -> palisade_sys::Result<i32> {
    let process::Cloned::Parent { pidfd, .. } = process::fork()? else {
        let tried = namespace::unshare(flags | CLONE_NEWNS)
            .and_then(|()| if flags & CLONE_NEWPID == 0 { act().map(|()| 0) } else { in_child(0, act) });
        process::exit_now(tried.unwrap_or_else(|error| error.errno()))
    };
    let status = process::waitid(process::Target::PidFd(pidfd.as_fd()), false)?;
    Ok(status.map_or(Errno::ECHILD as i32, |status| status.ended.shell_code()))
}

fn build_root() -> palisade_sys::Result<()> {
    mount::make_private_recursive()?;
    let root = Fs::new("tmpfs")?.set("size", "65536")?.create(MountFlags::NOSUID)?;
    mount::move_mount_onto(&root, fd::open_path("/", fd::O_PATH)?)?;
    mount::pivot_root_into(&root)
}

fn attributes() -> palisade_sys::Result<()> {
    let tree = mount::open_tree_clone(fd::CWD, "/usr", true)?;
    mount::set_attr(&tree, true, MountAttr::set(MountFlags::RO))
}

fn new_proc() -> palisade_sys::Result<()> {
    Fs::new("proc")?.create(MountFlags::NOSUID).map(drop)
}
