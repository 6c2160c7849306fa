//! The view while it is planned. Pure, except that what lies in a directory of the host is looked up there.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use palisade_abi::Error;
use palisade_sys::mount::MountFlags;

/// Who made what lies at a path.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Backing {
    /// A tmpfs of the view: names can be made there.
    Own,
    /// The host's files from this path on: nothing is ever made there.
    Host(PathBuf),
    /// A file system of the kernel.
    Kernel,
}

/// Whether something is a directory or a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    Dir,
    File,
}

/// Where a mount goes: the path without links, and whether the name is made first.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Target {
    pub(crate) path: String,
    pub(crate) kind: Kind,
    pub(crate) make: bool,
    /// Directories on the way that are held in place first; see [`Tree::hold`].
    pub(crate) held: Vec<String>,
}

impl Target {
    /// A file or directory that is there, in a directory that the workload cannot rename.
    pub(crate) fn there(path: String, kind: Kind) -> Self {
        Self { path, kind, make: false, held: Vec::new() }
    }
}

/// What becomes of a name that the workload makes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Access {
    /// It cannot.
    Read,
    /// It is on the host.
    Write,
    /// It lies in an overlay.
    Apart,
}

/// The links of a kernel's patience (`MAXSYMLINKS`).
const MOST_LINKS: usize = 40;

/// What is planned so far.
#[derive(Clone, Debug)]
pub(crate) struct Tree {
    mounts: Vec<(String, Backing)>,
    links: BTreeMap<String, String>,
    kinds: BTreeMap<String, Kind>,
    /// Directories of the host that the workload may write, with the flags of their mounts.
    writable: BTreeMap<String, MountFlags>,
    /// Overlays.
    apart: BTreeSet<String>,
    /// What was held in place and not told yet.
    held: Vec<(String, MountFlags)>,
}

impl Tree {
    /// A view whose root is this.
    pub(crate) fn new(root: Backing) -> Self {
        let (links, kinds, writable) = (BTreeMap::new(), BTreeMap::new(), BTreeMap::new());
        Self { mounts: vec![("/".to_owned(), root)], links, kinds, writable, apart: BTreeSet::new(), held: Vec::new() }
    }

    /// Says that something is mounted at a path from here on.
    pub(crate) fn mount(&mut self, path: &str, backing: Backing) {
        self.mounts.push((path.to_owned(), backing));
        self.writable.remove(path);
        self.apart.remove(path);
    }

    /// Says that what is mounted at a path is an overlay, which the workload may write.
    pub(crate) fn apart(&mut self, path: &str, flags: MountFlags) {
        self.writable(path, flags);
        self.apart.insert(path.to_owned());
    }

    /// What becomes of a name that is made in the mount at a path.
    pub(crate) fn access(&self, at: &str) -> Access {
        match (self.apart.contains(at), self.writable.contains_key(at)) {
            (true, _) => Access::Apart,
            (false, true) => Access::Write,
            (false, false) => Access::Read,
        }
    }

    /// Says that what is mounted at a path is the host's, and that the workload may write it.
    pub(crate) fn writable(&mut self, path: &str, flags: MountFlags) {
        self.writable.insert(path.to_owned(), flags);
    }

    /// Holds the directories between such a mount and a place below it, by making each a mount of its own: the
    /// workload could rename an ordinary one, what is mounted below included, and make another tree of that name.
    fn hold(&mut self, path: &str) -> Vec<String> {
        let (at, backing) = self.backing(path);
        let (Backing::Host(source), Some(flags)) = (backing, self.writable.get(at).copied()) else { return Vec::new() };
        let (mut here, mut source) = (at.trim_end_matches('/').to_owned(), source.clone());
        let rest = below(path, at).unwrap_or_default();
        let between: Vec<String> =
            rest.rsplit_once('/').map_or("", |(between, _)| between).split('/').map(str::to_owned).collect();
        let apart = self.apart.contains(at);
        let mut held = Vec::new();
        for part in between.iter().filter(|part| !part.is_empty()) {
            here = format!("{here}/{part}");
            source.push(part);
            self.mounts.push((here.clone(), Backing::Host(source.clone())));
            self.writable.insert(here.clone(), flags);
            if apart {
                self.apart.insert(here.clone());
            }
            held.push(here.clone());
        }
        self.held.extend(held.iter().map(|path| (path.clone(), flags)));
        held
    }

    /// What was held in place since this was asked last.
    pub(crate) fn take_held(&mut self) -> Vec<(String, MountFlags)> {
        std::mem::take(&mut self.held)
    }

    /// The mount that a path lies in, with its place: the deepest, and of several the last.
    pub(crate) fn backing(&self, path: &str) -> (&str, &Backing) {
        let mut best = ("/", &Backing::Own);
        for (at, backing) in &self.mounts {
            if below(path, at).is_some() && at.len() >= best.0.len() {
                best = (at, backing);
            }
        }
        best
    }

    /// Follows the links that are planned, as the kernel will.
    pub(crate) fn resolve(&self, path: &str) -> Result<String, Error> {
        let mut path = path.to_owned();
        for _ in 0..MOST_LINKS {
            let link = self.links.iter().find_map(|(at, target)| Some((at, target, below(&path, at)?)));
            let Some((at, target, rest)) = link else { return Ok(path) };
            let parent = at.rsplit_once('/').map_or("", |(parent, _)| parent);
            let target = if target.starts_with('/') { target.clone() } else { format!("{parent}/{target}") };
            path = clean(&format!("{target}/{rest}"));
        }
        Err(Error::policy(format!("the links in {path} go round in a circle")))
    }

    /// Finds out where a mount of this kind can go.
    pub(crate) fn target(&mut self, path: &str, kind: Kind) -> Result<Target, Error> {
        let path = self.resolve(path)?;
        let (at, backing) = self.backing(&path);
        let make = match backing {
            Backing::Own => {
                let planned = self.kinds.get(&path).copied();
                if planned.is_some_and(|planned| planned != kind) {
                    let (is, not) = match kind {
                        Kind::Dir => ("a file", "a directory"),
                        Kind::File => ("a directory", "a file"),
                    };
                    return Err(Error::policy(format!("{path} is {is} already, and {not} cannot be put there")));
                }
                true
            }
            Backing::Host(source) => {
                exists_there(&path, source, below(&path, at).unwrap_or_default(), kind)?;
                false
            }
            Backing::Kernel if path == at => false,
            Backing::Kernel => {
                return Err(Error::policy(format!("{path} lies in a file system of the kernel"))
                    .help("only Mask can be used there"));
            }
        };
        let held = self.hold(&path);
        Ok(Target { path, kind, make, held })
    }

    /// A name that will be there for something to be mounted on it, and is the workload's no more.
    pub(crate) fn denied(&mut self, path: &str) -> Target {
        let held = self.hold(path);
        self.mount(path, Backing::Kernel);
        Target { held, ..Target::there(path.to_owned(), Kind::File) }
    }

    /// Finds out what a mask would cover.
    pub(crate) fn covered(&mut self, path: &str) -> Result<Target, Error> {
        let (path, kind) = self.kind_of(path)?;
        let held = self.hold(&path);
        Ok(Target { held, ..Target::there(path, kind) })
    }

    /// Plans a new name of the view's own: a link, a file or a directory. Gives the path without links.
    pub(crate) fn name(&mut self, path: &str, what: Made) -> Result<String, Error> {
        let parent = path.rsplit_once('/').map_or("", |(parent, _)| parent);
        let last = path.rsplit('/').next().unwrap_or_default();
        let parent = if parent.is_empty() { String::new() } else { self.resolve(parent)? };
        let path = format!("{}/{last}", parent.trim_end_matches('/'));
        match self.backing(&path) {
            (_, Backing::Own) if !last.is_empty() => {}
            (at, Backing::Own) => return Err(Error::policy(format!("{at} is there already"))),
            (at, _) => {
                let said = Error::policy(format!("{path} would be made in {at}, which is not the view's own"));
                return Err(said.help("nothing is made in directories of the host or of the kernel; put it elsewhere"));
            }
        }
        match what {
            Made::Link(target) => {
                let inside = |other: &String| other != &path && below(other, &path).is_some();
                let mounted = self.mounts.iter().any(|(at, _)| below(at, &path).is_some());
                if mounted || self.kinds.get(&path) == Some(&Kind::Dir) || self.kinds.keys().any(inside) {
                    return Err(Error::policy(format!(
                        "{path} is a directory already, and a link cannot be put there"
                    )));
                }
                self.kinds.remove(&path);
                self.links.insert(path.clone(), target);
            }
            Made::Name(kind) => {
                // The last word counts: a file of the policy in place of one of `System`.
                self.links.remove(&path);
                self.kinds.insert(path.clone(), kind);
            }
        }
        Ok(path)
    }

    /// What a file or directory that is to be masked is.
    pub(crate) fn kind_of(&self, path: &str) -> Result<(String, Kind), Error> {
        let path = self.resolve(path)?;
        let (at, backing) = self.backing(&path);
        let rest = below(&path, at).unwrap_or_default().to_owned();
        let said = format!("there is no {path} in the view to be masked");
        let missing = || Error::policy(said).help("put Mask behind the entry that brings it");
        match backing {
            Backing::Own if path == at => Ok((path, Kind::Dir)),
            Backing::Own => {
                let kind = self.kinds.get(&path).copied();
                let implied = || {
                    let inside = |other: &String| below(other, &path).is_some();
                    let any = self.kinds.keys().any(inside) || self.mounts.iter().any(|(at, _)| inside(at));
                    any.then_some(Kind::Dir)
                };
                let kind = kind.or_else(implied).ok_or_else(missing)?;
                Ok((path, kind))
            }
            Backing::Host(source) => {
                let found = real_kind(source, &rest)?.ok_or_else(missing)?;
                Ok((path, found))
            }
            // The host's own procfs has the same names.
            Backing::Kernel => {
                let found = real_kind(Path::new("/proc"), &rest)?.ok_or_else(missing)?;
                Ok((path, found))
            }
        }
    }
}

/// What a planned name is.
pub(crate) enum Made {
    Link(String),
    Name(Kind),
}

/// The rest of `path` below `at`, without a leading slash; empty where they are the same.
pub(crate) fn below<'a>(path: &'a str, at: &str) -> Option<&'a str> {
    let rest = path.strip_prefix(at.trim_end_matches('/'))?;
    match rest.strip_prefix('/') {
        Some(rest) => Some(rest),
        None if rest.is_empty() => Some(""),
        None => None,
    }
}

/// Takes `.`, `..` and doubled slashes out of an absolute path; `..` of a planned link is lexical, as its parents are real.
fn clean(path: &str) -> String {
    let mut parts: Vec<&str> = Vec::new();
    for part in path.split('/') {
        match part {
            "" | "." => {}
            ".." => {
                parts.pop();
            }
            part => parts.push(part),
        }
    }
    format!("/{}", parts.join("/"))
}

/// What lies at `rest` below a directory of the host; a link on the way is refused, since the view has another root.
fn real_kind(source: &Path, rest: &str) -> Result<Option<Kind>, Error> {
    let mut here = source.to_owned();
    let mut facts = std::fs::metadata(&here).ok();
    for part in rest.split('/').filter(|part| !part.is_empty()) {
        here.push(part);
        facts = std::fs::symlink_metadata(&here).ok();
        if facts.as_ref().is_some_and(std::fs::Metadata::is_symlink) {
            let to = std::fs::read_link(&here).unwrap_or_default();
            return Err(Error::policy(format!("{} is a symbolic link to {}", here.display(), to.display()))
                .help("write the path that it leads to"));
        }
    }
    Ok(facts.map(|facts| if facts.is_dir() { Kind::Dir } else { Kind::File }))
}

fn exists_there(path: &str, source: &Path, rest: &str, kind: Kind) -> Result<(), Error> {
    let real = source.join(rest);
    match real_kind(source, rest)? {
        Some(found) if found == kind => Ok(()),
        Some(_) => Err(Error::policy(format!(
            "{} is {}",
            real.display(),
            if kind == Kind::Dir { "no directory" } else { "a directory" }
        ))
        .help("a directory goes on a directory, a file on a file")),
        None => {
            Err(Error::policy(format!("there is no {path} to mount on: it would be {}", real.display())).help(format!(
                "nothing is made in directories of the host; make {} yourself, or put a Tmpfs around it",
                real.display()
            )))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tree() -> Tree {
        let mut tree = Tree::new(Backing::Own);
        tree.mount("/usr", Backing::Host(PathBuf::from("/usr")));
        tree.name("/lib", Made::Link("usr/lib".to_owned())).unwrap();
        tree.name("/etc/passwd", Made::Name(Kind::File)).unwrap();
        tree.mount("/proc", Backing::Kernel);
        tree
    }

    #[test]
    fn the_deepest_and_last_mount_counts() {
        let mut tree = tree();
        assert_eq!(tree.backing("/usr/lib").0, "/usr");
        assert_eq!(tree.backing("/usrlocal").0, "/");
        tree.mount("/usr", Backing::Own);
        assert_eq!(tree.backing("/usr/lib").1, &Backing::Own);
    }

    #[test]
    fn planned_links_are_followed() {
        let mut tree = tree();
        assert_eq!(tree.resolve("/lib/x").unwrap(), "/usr/lib/x");
        assert_eq!(tree.resolve("/library").unwrap(), "/library");
        tree.name("/a", Made::Link("/b".to_owned())).unwrap();
        tree.name("/b", Made::Link("./a".to_owned())).unwrap();
        assert!(tree.resolve("/a/x").unwrap_err().message.contains("circle"));
    }

    /// A mask made by binding left empty stub files in a user's repository: nothing is made on the host's side.
    #[test]
    fn nothing_is_made_in_the_hosts_directories() {
        let mut tree = tree();
        let error = tree.target("/usr/no-such-dir", Kind::Dir).unwrap_err();
        assert!(error.message.contains("there is no /usr/no-such-dir"), "{}", error.message);
        assert!(tree.target("/usr/bin", Kind::File).unwrap_err().message.contains("is a directory"));
        assert!(!tree.target("/lib", Kind::Dir).unwrap().make);
        assert!(tree.name("/lib/x", Made::Name(Kind::Dir)).unwrap_err().message.contains("not the view's own"));
        assert!(tree.target("/proc/sys", Kind::Dir).is_err());
        assert!(tree.target("/opt/x", Kind::Dir).unwrap().make);
    }

    #[test]
    fn kinds_do_not_mix() {
        let mut tree = tree();
        assert!(tree.target("/etc/passwd", Kind::Dir).unwrap_err().message.contains("is a file already"));
        assert_eq!(tree.kind_of("/etc").unwrap(), ("/etc".to_owned(), Kind::Dir));
        assert_eq!(tree.kind_of("/etc/passwd").unwrap().1, Kind::File);
        assert_eq!(tree.kind_of("/proc/kcore").map(|found| found.1).unwrap_or(Kind::File), Kind::File);
        assert!(tree.kind_of("/none").is_err());
    }

    /// A read-only file deep in a project could be replaced, with the directory that it lies in.
    #[test]
    fn what_lies_between_a_directory_to_write_and_a_mount_below_it_is_held_in_place() {
        let mut tree = tree();
        let flags = MountFlags::NOSUID;
        assert!(tree.target("/usr/lib/locale", Kind::Dir).unwrap().held.is_empty());
        tree.writable("/usr", flags);
        assert!(tree.target("/usr", Kind::Dir).unwrap().held.is_empty());
        assert!(tree.target("/usr/lib", Kind::Dir).unwrap().held.is_empty());
        assert_eq!(tree.target("/usr/share/doc", Kind::Dir).unwrap().held, ["/usr/share"]);
        // Once is enough.
        assert!(tree.covered("/usr/share/info").unwrap().held.is_empty());
        assert_eq!(tree.take_held(), [("/usr/share".to_owned(), flags)]);
        // In an overlay too, and there it stays apart.
        tree.apart("/usr", flags);
        assert_eq!(tree.covered("/usr/lib/locale").map(|target| target.held).unwrap_or_default(), ["/usr/lib"]);
        assert_eq!((tree.access("/usr/lib"), tree.access("/proc")), (Access::Apart, Access::Read));
        // What is mounted over it is not it.
        tree.mount("/usr", Backing::Host(PathBuf::from("/usr")));
        assert!(tree.target("/usr/lib/locale", Kind::Dir).unwrap().held.is_empty());
    }

    #[test]
    fn below_is_by_component() {
        assert_eq!(below("/a/b", "/a"), Some("b"));
        assert_eq!(below("/a", "/a"), Some(""));
        assert_eq!(below("/ab", "/a"), None);
        assert_eq!(below("/ab", "/"), Some("ab"));
    }
}
