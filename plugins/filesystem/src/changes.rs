//! What an upper layer that is kept says of its tree: what is new, changed and gone.
//!
//! What overlayfs remembers beside plain files: a removed name is a character device 0:0; a directory that replaced
//! another one is `opaque`; one that was renamed names its old place in `redirect`. Whatever else lies there is new, or
//! was opened for writing. A workload can make files, but neither these devices nor, where overlayfs uses the
//! attributes of root, these attributes.

use std::collections::BTreeSet;
use std::ffi::{CStr, OsString};
use std::fs;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::{Path, PathBuf};

use palisade_abi::{Change, Changed, Error};
use palisade_sys::xattr;

use crate::error::Told;
use crate::overlay::{Overlay, Upper};
use crate::source::find;

/// The attributes that overlayfs uses: root's, or in a user namespace a user's.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Attributes {
    opaque: &'static CStr,
    redirect: &'static CStr,
}

impl Attributes {
    /// As whoever has CAP_SYS_ADMIN mounts an overlay, or somebody in a user namespace.
    pub(crate) const fn of(privileged: bool) -> Self {
        if privileged {
            Self { opaque: c"trusted.overlay.opaque", redirect: c"trusted.overlay.redirect" }
        } else {
            Self { opaque: c"user.overlay.opaque", redirect: c"user.overlay.redirect" }
        }
    }
}

/// A directory of the upper layer that is still to be looked at.
struct Next {
    /// Below the top.
    path: PathBuf,
    /// What it lies over, in the lower tree; nothing where it hides that or there is none.
    lower: Option<PathBuf>,
}

struct Walk<'a> {
    overlay: &'a Overlay,
    upper: PathBuf,
    lower: PathBuf,
    attributes: Attributes,
    found: Vec<Change>,
    next: Vec<Next>,
}

/// Lists what an overlay keeps; nothing for one that is discarded.
pub(crate) fn list(overlay: &Overlay, attributes: Attributes) -> Result<Vec<Change>, Error> {
    let Upper::Keep(kept) = &overlay.upper else { return Ok(Vec::new()) };
    let there = |path: &str| {
        let found = find(Path::new(path))?.map(|(path, _)| path);
        found.ok_or_else(|| Error::host(format!("there is no {path} to look at")))
    };
    let (upper, lower) = (there(kept.as_str())?, there(overlay.lower.as_str())?);
    let mut walk = Walk { overlay, upper, lower: lower.clone(), attributes, found: Vec::new(), next: Vec::new() };
    walk.next.push(Next { path: PathBuf::new(), lower: Some(lower) });
    while let Some(next) = walk.next.pop() {
        walk.directory(&next)?;
    }
    Ok(walk.found)
}

fn failed(path: &Path, call: &str, e: &std::io::Error) -> Error {
    Error::host(format!("cannot look at {}", path.display()))
        .call(format!("{call}({path:?}): {e}"), e.raw_os_error().unwrap_or(0))
}

/// Facts of what may not be there.
fn facts(path: &Path) -> Result<Option<fs::Metadata>, Error> {
    match fs::symlink_metadata(path) {
        Ok(facts) => Ok(Some(facts)),
        Err(e) if matches!(e.kind(), std::io::ErrorKind::NotFound | std::io::ErrorKind::NotADirectory) => Ok(None),
        Err(e) => Err(failed(path, "lstat", &e)),
    }
}

/// The names in a directory, in order.
fn names(dir: &Path) -> Result<Vec<OsString>, Error> {
    let names =
        fs::read_dir(dir).and_then(|all| all.map(|entry| Ok(entry?.file_name())).collect::<Result<Vec<_>, _>>());
    let mut names = names.map_err(|e| failed(dir, "opendir", &e))?;
    names.sort();
    Ok(names)
}

impl Walk<'_> {
    fn tell(&mut self, path: &Path, what: Changed, from: Option<&Path>) {
        let shown = |path: &Path| format!("{}/{}", self.overlay.at, path.display());
        let (path, from) = (shown(path), from.map(shown));
        self.found.push(Change { tree: self.overlay.lower.to_string(), path, what, from });
    }

    fn directory(&mut self, dir: &Next) -> Result<(), Error> {
        let here = names(&self.upper.join(&dir.path))?;
        for name in &here {
            let path = dir.path.join(name);
            let lower = dir.lower.as_ref().map(|lower| lower.join(name));
            self.entry(path, lower)?;
        }
        Ok(())
    }

    fn entry(&mut self, path: PathBuf, lower: Option<PathBuf>) -> Result<(), Error> {
        let upper = self.upper.join(&path);
        let Some(own) = facts(&upper)? else { return Ok(()) };
        let below = lower.as_ref().map(|lower| facts(lower)).transpose()?.flatten();
        if own.file_type().is_char_device() && own.rdev() == 0 {
            if below.is_some() {
                self.tell(&path, Changed::Removed, None);
            }
            return Ok(());
        }
        if !own.is_dir() {
            let what = if below.is_some() { Changed::Changed } else { Changed::Added };
            self.tell(&path, what, None);
            return Ok(());
        }
        if let Some(old) = self.moved(&path, &upper)? {
            self.tell(&path, Changed::Added, Some(&old));
            let lower = Some(self.lower.join(old));
            self.next.push(Next { path, lower });
            return Ok(());
        }
        let over = below.as_ref().filter(|below| below.is_dir());
        let opaque =
            xattr::get(&upper, self.attributes.opaque).told(|| format!("cannot look at {}", upper.display()))?;
        let hides = opaque.as_deref() == Some(b"y");
        match (&below, over) {
            (None, _) => self.tell(&path, Changed::Added, None),
            (Some(_), None) => self.tell(&path, Changed::Changed, None),
            (Some(_), Some(over)) => {
                let mode = |facts: &fs::Metadata| (facts.mode(), facts.uid(), facts.gid());
                if hides || mode(over) != mode(&own) {
                    self.tell(&path, Changed::Changed, None);
                }
            }
        }
        if let (true, Some(lower), Some(_)) = (hides, &lower, over) {
            self.hidden(&path, &upper, lower)?;
        }
        // What it hides was told of; what is in both is a change all the same.
        self.next.push(Next { path, lower: lower.filter(|_| over.is_some()) });
        Ok(())
    }

    /// What a directory that replaced another one does not have of it.
    fn hidden(&mut self, path: &Path, upper: &Path, lower: &Path) -> Result<(), Error> {
        let own: BTreeSet<OsString> = names(upper)?.into_iter().collect();
        for name in names(lower)?.into_iter().filter(|name| !own.contains(name)) {
            self.tell(&path.join(name), Changed::Removed, None);
        }
        Ok(())
    }

    /// Where a directory that was renamed lay before, below the top.
    fn moved(&self, path: &Path, upper: &Path) -> Result<Option<PathBuf>, Error> {
        let said = || format!("cannot look at {}", upper.display());
        let Some(value) = xattr::get(upper, self.attributes.redirect).told(said)? else { return Ok(None) };
        let old = PathBuf::from(OsString::from_vec(value));
        // From the top, or beside where it is now.
        let whole = match old.strip_prefix("/") {
            Ok(below) => below.to_owned(),
            Err(_relative) => path.parent().unwrap_or(Path::new("")).join(&old),
        };
        let plain = |part| matches!(part, std::path::Component::Normal(_));
        if whole.as_os_str().as_bytes().is_empty() || !whole.components().all(plain) {
            return Err(Error::host(format!("{} says that it was {}", upper.display(), old.display()))
                .help("that is no place in its tree: somebody else wrote this attribute"));
        }
        Ok(Some(whole))
    }
}
