//! Mounting in the workload's own mount namespace.

use super::outside::Outside;
use super::place::{plain, without_links};
use palisade_abi::{Action, Context, Error, ErrorContext as _, Evidence};
use palisade_sys::fd::O_PATH;
use palisade_sys::mount::{self, Fs, MountAttr, MountFlags, Propagation};
use std::os::fd::OwnedFd;
use std::path::PathBuf;
use std::rc::Rc;

/// What is mounted.
pub(super) enum What {
    New { fstype: String, source: String, data: String, flags: MountFlags },
    Bind { source: PathBuf, recursive: bool, flags: MountFlags },
}

impl What {
    pub(super) fn new(fstype: String, source: String, names: &[String], data: String) -> Result<Self, String> {
        let (mut flags, mut bind, mut recursive) = (MountFlags::NONE, false, false);
        for name in names {
            match name.as_str() {
                "bind" => bind = true,
                "rbind" => (bind, recursive) = (true, true),
                name => flags = flags | MountFlags::from_name(name).ok_or_else(|| unknown(name))?,
            }
        }
        if [&fstype, &source, &data].iter().any(|text| text.contains('\0')) {
            return Err("a text of it holds a NUL byte".to_owned());
        }
        match (bind, fstype.is_empty(), data.is_empty()) {
            (true, true, true) => Ok(Self::Bind { source: plain(source)?, recursive, flags }),
            (true, ..) => Err("a bind mount has no fstype and no data".to_owned()),
            (false, false, _) => Ok(Self::New { fstype, source, data, flags }),
            (false, true, _) => Err("it has no fstype, and is no bind mount".to_owned()),
        }
    }

    fn flags(&self) -> MountFlags {
        match self {
            Self::New { flags, .. } | Self::Bind { flags, .. } => *flags,
        }
    }

    /// Makes the mount, attached nowhere.
    fn make(&self) -> Result<OwnedFd, Error> {
        match self {
            Self::New { fstype, source, data, flags } => {
                let mut fs = Fs::new(fstype)?;
                if !source.is_empty() {
                    fs = fs.set("source", source)?;
                }
                for option in data.split(',').filter(|option| !option.is_empty()) {
                    fs = match option.split_once('=') {
                        Some((name, value)) => fs.set(name, value)?,
                        None => fs.flag(option)?,
                    };
                }
                Ok(fs.create(*flags)?)
            }
            Self::Bind { source, recursive, flags } => {
                let tree = mount::open_tree_fd(without_links(source, O_PATH)?, *recursive)?;
                let attr = MountAttr { propagation: Some(Propagation::Private), ..MountAttr::set(*flags) };
                mount::set_attr(&tree, *recursive, attr)?;
                Ok(tree)
            }
        }
    }
}

fn unknown(name: &str) -> String {
    let known = ["bind", "rbind", "ro", "nosuid", "nodev", "noexec", "noatime", "nosymfollow"];
    format!("`{name}` is no flag of a mount; {}", palisade_model::diag::suggest(name, &known))
}

/// `Mount`.
pub(super) struct Mount {
    what: What,
    target: PathBuf,
    outside: Rc<Outside>,
    id: Option<u64>,
}

impl Mount {
    pub(super) fn new(what: What, target: String, outside: Rc<Outside>) -> Result<Self, String> {
        Ok(Self { what, target: plain(target)?, outside, id: None })
    }

    /// What the kernel has at the target: the mount that was made, with its flags.
    fn read_back(&self) -> Result<Evidence, Error> {
        let found = without_links(&self.target, O_PATH)?;
        let target = self.target.display();
        if Some(mount::mount_id(&found)?) != self.id {
            let message = format!("{target} does not show the mount that was made there");
            return Err(Error::setup(message).help("the step must come after those that build the view"));
        }
        let (wanted, flags) = (self.what.flags(), mount::flags_of(&found)?);
        if flags.contains(wanted) {
            return Ok(format!("{target} is mounted{}{flags}", if flags.is_empty() { "" } else { " " }).into());
        }
        Err(Error::setup(format!("{target} is mounted {flags}, and should be {wanted}")))
    }
}

impl Action for Mount {
    fn apply(&mut self, _context: &mut Context<'_>) -> Result<Evidence, Error> {
        self.outside.must_differ("mnt")?;
        // A shared mount would pass on to the host what is mounted below it.
        mount::make_private_recursive().doing(|| "the mounts cannot be kept from the host")?;
        let target = without_links(&self.target, O_PATH)?;
        let made = self.what.make().doing(|| format!("what belongs on {} cannot be made", self.target.display()))?;
        self.id = Some(mount::mount_id(&made)?);
        mount::move_mount_onto(&made, &target)
            .doing(|| format!("nothing can be mounted on {}", self.target.display()))?;
        self.read_back()
    }

    /// In the view that the workload gets: a mount that another step has covered since is not there.
    fn witness(&self, _context: &Context<'_>) -> Result<Evidence, Error> {
        self.read_back()?;
        Ok(Evidence::default())
    }
}
