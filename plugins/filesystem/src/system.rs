//! `System`: the host's system directories as this distribution lays them out, and what programs need of /etc.
//!
//! Each mount costs some ten microseconds of every launch. So links stay links, small files are copied into the root
//! (which is no dearer than a bind, and shows no inode of the host), and only directories are bound.

use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use palisade_abi::Error;
use palisade_sys::mount::MountFlags;

use crate::config::Etc;
use crate::op::{Content, Expected, Op};
use crate::planner::Planner;
use crate::source::{Source, find};
use crate::steps::Item;
use crate::tree::{Backing, Kind, Made};

/// Where distributions keep programs and libraries. On a usr-merged one all but /usr are links into it.
const DIRS: [&str; 9] = ["usr", "bin", "sbin", "lib", "lib32", "lib64", "libx32", "nix/store", "gnu/store"];

/// What is shown of /etc, where the host has it. Nothing in it says which host this is or who uses it.
const ETC: [&str; 18] = [
    // Where libraries are; without it the loader searches a few directories and then fails.
    "ld.so.cache",
    // Which of several programs a name stands for: cc, awk, java, vi.
    "alternatives",
    // How names are looked up, and the names of protocols and ports.
    "nsswitch.conf",
    "protocols",
    "services",
    // Which certificates are trusted, and the defaults of OpenSSL; not ssl/private.
    "ssl/certs",
    "ssl/openssl.cnf",
    "pki/tls",
    "pki/ca-trust",
    "crypto-policies",
    // What time it is here, and what system.
    "localtime",
    "os-release",
    // Where fonts are.
    "fonts",
    // Settings without which these programs do not start, or lose their own limits.
    "java-11-openjdk",
    "java-17-openjdk",
    "java-21-openjdk",
    "ImageMagick-6",
    "ImageMagick-7",
];

/// A file up to this size is copied; a larger one is bound.
const COPIED: u64 = 128 << 10;

/// /etc/machine-id: there, as some programs do not start without, and the same everywhere. machine-id(5).
const MACHINE_ID: &[u8] = b"00000000000000000000000000000000\n";

const HOSTS: &str = "127.0.0.1 localhost\n::1 localhost ip6-localhost ip6-loopback\n";

const FLAGS: MountFlags = MountFlags::RO.with(MountFlags::NOSUID).with(MountFlags::NODEV);

/// Where the host asks for names; often a link to what a daemon writes below /run.
fn resolver() -> Vec<u8> {
    let path = Path::new("/etc/resolv.conf");
    let readable = |facts: &std::fs::Metadata| facts.len() <= COPIED && facts.permissions().mode() & 0o004 != 0;
    let found = std::fs::metadata(path).ok().filter(|facts| facts.is_file() && readable(facts));
    found.and_then(|_| std::fs::read(path).ok()).unwrap_or_default()
}

impl Planner<'_> {
    /// The host's system directories.
    pub(crate) fn system(&mut self) -> Result<Item, Error> {
        if self.tree.backing("/").1 != &Backing::Own {
            return Err(
                Error::policy("System and Rootfs both bring the system directories").help("remove one of the two")
            );
        }
        let mut item = Item { words: String::new(), why: String::new(), ops: Vec::new(), expected: Vec::new() };
        let (mut dirs, mut links) = (Vec::new(), Vec::new());
        for name in DIRS {
            let path = format!("/{name}");
            let Ok(facts) = std::fs::symlink_metadata(&path) else { continue };
            if facts.is_symlink() {
                self.link(&path, &mut item)?;
                links.push(path);
            } else if facts.is_dir() {
                self.bind_dir(&path, &mut item)?;
                dirs.push(path);
            }
        }
        let before = item.ops.len();
        match self.etc {
            Etc::Empty => {}
            Etc::Host => self.bind_dir("/etc", &mut item)?,
            Etc::Curated => self.curated(&mut item)?,
        }
        let links = if links.is_empty() { String::new() } else { format!("; links {}", links.join(" ")) };
        let etc = match (self.etc, item.ops.len() - before) {
            (Etc::Empty, _) => String::new(),
            (Etc::Host, _) => "; all of /etc".to_owned(),
            (Etc::Curated, count) => format!("; {count} names in /etc"),
        };
        item.words = format!("shows the host's {} read-only, nosuid, nodev{links}{etc}", dirs.join(" "));
        "programs and libraries; accounts, keys and names of this host stay out".clone_into(&mut item.why);
        Ok(item)
    }

    fn curated(&mut self, item: &mut Item) -> Result<(), Error> {
        for name in ETC {
            self.show(&format!("/etc/{name}"), item)?;
        }
        let own = [
            ("/etc/passwd", Content::Passwd),
            ("/etc/group", Content::Group),
            ("/etc/hosts", Content::Bytes(HOSTS.as_bytes().to_vec())),
            ("/etc/machine-id", Content::Bytes(MACHINE_ID.to_vec())),
            ("/etc/resolv.conf", Content::Resolver(resolver())),
        ];
        for (path, content) in own {
            self.file(path, 0o644, content, &mut item.ops)?;
        }
        Ok(())
    }

    /// One name of /etc: a link into /usr, a copy of a small file, or a bind. What is not there is left out.
    fn show(&mut self, path: &str, item: &mut Item) -> Result<(), Error> {
        let Ok(facts) = std::fs::symlink_metadata(path) else { return Ok(()) };
        if facts.is_dir() {
            return self.bind_dir(path, item);
        }
        if facts.is_symlink() {
            match find(Path::new(path))? {
                Some((real, _)) if real.starts_with("/usr") => return self.link(path, item),
                Some((_, Kind::Dir)) => return self.bind_dir(path, item),
                Some((_, Kind::File)) => {}
                None => return Ok(()),
            }
        }
        // What not everybody may read is not for the workload either.
        let facts = std::fs::metadata(path)?;
        if facts.len() > COPIED || facts.permissions().mode() & 0o004 == 0 {
            return Ok(());
        }
        let Ok(bytes) = std::fs::read(path) else { return Ok(()) };
        self.file(path, 0o644, Content::Bytes(bytes), &mut item.ops)
    }

    fn link(&mut self, path: &str, item: &mut Item) -> Result<(), Error> {
        let target = std::fs::read_link(path)?;
        let Some(to) = target.to_str() else { return Ok(()) };
        self.symlink(path, to, &mut item.ops).map(drop)
    }

    fn bind_dir(&mut self, path: &str, item: &mut Item) -> Result<(), Error> {
        let Some((real, Kind::Dir)) = find(Path::new(path))? else { return Ok(()) };
        let target = self.tree.target(path, Kind::Dir)?;
        let recursive = self.attributes_reach_below;
        item.expected.push(Expected::plain(&target.path, FLAGS).with_more_below(recursive));
        self.tree.mount(&target.path, Backing::Host(real.clone()));
        let slot = self.source(Source { checked: false, ..Source::new(real, FLAGS, recursive, None) });
        item.ops.push(Op::Bind { slot, target });
        Ok(())
    }

    /// A file of the view's own.
    pub(crate) fn file(&mut self, path: &str, mode: u32, content: Content, ops: &mut Vec<Op>) -> Result<(), Error> {
        let path = self.tree.name(path, Made::Name(Kind::File))?;
        self.forget(&path, ops);
        self.bytes += content.len();
        ops.push(Op::File { path, mode, content });
        Ok(())
    }

    /// A symbolic link of the view's own; gives its path.
    pub(crate) fn symlink(&mut self, path: &str, to: &str, ops: &mut Vec<Op>) -> Result<String, Error> {
        let path = self.tree.name(path, Made::Link(to.to_owned()))?;
        self.forget(&path, ops);
        ops.push(Op::Link { path: path.clone(), to: to.to_owned() });
        Ok(path)
    }

    /// The last file or link of a name counts, so that a policy can replace one of `System`.
    fn forget(&mut self, path: &str, ops: &mut Vec<Op>) {
        for ops in self.items.iter_mut().map(|(item, _)| &mut item.ops).chain([ops]) {
            ops.retain(
                |op| !matches!(op, Op::File { path: other, .. } | Op::Link { path: other, .. } if other == path),
            );
        }
    }
}
