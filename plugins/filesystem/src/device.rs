//! Device nodes of the host.

use std::os::fd::OwnedFd;

use palisade_abi::Error;
use palisade_sys::{fd, mount};

use crate::error::Told;

/// Major and minor number of the null device.
pub(crate) const NULL: (u32, u32) = (1, 3);

/// Clones a device node of the host, and checks that what was cloned is that device.
pub(crate) fn clone_device(name: &str, device: (u32, u32)) -> Result<OwnedFd, Error> {
    let said = || format!("cannot clone /dev/{name}");
    let tree = mount::open_tree_clone(fd::CWD, format!("/dev/{name}"), false).told(said)?;
    let facts = fd::fstat(&tree).told(said)?;
    if facts.is_char_device() && facts.device() == device {
        return Ok(tree);
    }
    let (major, minor) = device;
    Err(Error::setup(format!("/dev/{name} is not the character device {major}:{minor}"))
        .help("the /dev that palisade was started with is not the kernel's"))
}
