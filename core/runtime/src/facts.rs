//! What the host is: read once, told to every plugin by name.

use crate::error::{Kind, Trouble};
use palisade_abi::Host;
use std::collections::BTreeMap;

/// Facts about the host and about the launcher.
#[derive(Clone, Debug)]
pub struct Facts {
    /// The launcher's effective user id.
    pub uid: u32,
    /// The launcher's effective group id.
    pub gid: u32,
    /// The launcher's effective capabilities.
    pub capabilities: u64,
    /// The kernel's release, as uname(2) gives it.
    pub release: String,
    /// The kernel's version.
    pub kernel: (u32, u32),
    /// The machine's architecture.
    pub machine: String,
}

/// The oldest kernel that palisade supports.
pub const KERNEL_FLOOR: (u32, u32) = (5, 10);
/// What palisade itself uses of the kernel, as a manifest has it for a plugin.
pub const KERNEL_FEATURES: [(&str, &str); 2] = [
    ("a process born in all its namespaces, known by a descriptor (clone3, pidfd)", "5.3"),
    ("closing many descriptors in one call (close_range with close-on-exec)", "5.11; /proc/self/fd is walked"),
];

impl Facts {
    /// Reads them.
    ///
    /// # Errors
    /// A call that cannot fail on Linux failed, or the kernel is below [`KERNEL_FLOOR`].
    pub fn read() -> Result<Self, Trouble> {
        let caps = palisade_sys::caps::get()
            .map_err(|e| Trouble::call("the launcher's capabilities could not be read", &e))?;
        let (release, machine) =
            palisade_sys::host::uname().map_err(|e| Trouble::call("the kernel's name could not be read", &e))?;
        let kernel = palisade_sys::host::kernel_version()
            .map_err(|e| Trouble::call("the kernel's version could not be read", &e))?;
        if kernel < KERNEL_FLOOR {
            let (major, minor) = KERNEL_FLOOR;
            return Err(Trouble::new(Kind::Host, format!("Linux {release} is too old"))
                .row("help", format!("palisade needs Linux {major}.{minor} or newer")));
        }
        Ok(Self {
            uid: palisade_sys::process::euid(),
            gid: palisade_sys::process::egid(),
            capabilities: caps.effective.0,
            release,
            kernel,
            machine,
        })
    }

    /// The facts as plugins see them, with those of one launch added.
    #[must_use]
    pub fn host(&self, launch: &BTreeMap<String, String>) -> Host {
        let own = [
            ("uid", self.uid.to_string()),
            ("gid", self.gid.to_string()),
            ("capabilities", self.capabilities.to_string()),
            ("kernel_major", self.kernel.0.to_string()),
            ("kernel_minor", self.kernel.1.to_string()),
            ("machine", self.machine.clone()),
        ];
        let own = own.into_iter().map(|(k, v)| (k.to_owned(), v));
        Host::new(own.chain(launch.clone()))
    }

    /// The facts as the report shows them.
    #[must_use]
    pub fn report(&self) -> BTreeMap<String, String> {
        BTreeMap::from([
            ("kernel".to_owned(), self.release.clone()),
            ("machine".to_owned(), self.machine.clone()),
            ("uid".to_owned(), self.uid.to_string()),
            ("gid".to_owned(), self.gid.to_string()),
            ("capabilities".to_owned(), format!("{:#x}", self.capabilities)),
        ])
    }
}
