//! What the kernel says is mounted, against what was planned.

use std::fmt::Write as _;

use palisade_abi::Error;
use palisade_sys::fd;
use palisade_sys::mount::{self, MountFlags};

use crate::error::Told;
use crate::op::Expected;
use crate::tree::below;

/// A tmpfs counts in pages, of at most this many bytes (aarch64).
const LARGEST_PAGE: u64 = 65536;

/// One line of mountinfo.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Mount {
    id: u64,
    parent: u64,
    pub(crate) path: String,
    flags: MountFlags,
    idmapped: bool,
    kind: String,
    options: String,
}

/// Parses mountinfo. A line that cannot be read is an error: it might be the one that matters.
pub(crate) fn parse(text: &str) -> Result<Vec<Mount>, Error> {
    let parsed = text.lines().map(|line| {
        let (left, right) = line.split_once(" - ")?;
        let mut left = left.split(' ');
        let id = left.next()?.parse().ok()?;
        let parent = left.next()?.parse().ok()?;
        let path = unescape(left.nth(2)?);
        let own = left.next()?;
        let flags = own.split(',').filter_map(MountFlags::from_name).fold(MountFlags::NONE, MountFlags::with);
        let idmapped = own.split(',').any(|option| option == "idmapped");
        let mut right = right.split(' ');
        let kind = right.next()?.to_owned();
        let options = right.nth(1)?.to_owned();
        Some(Mount { id, parent, path, flags, idmapped, kind, options })
    });
    let all: Option<Vec<_>> = parsed.collect();
    all.ok_or_else(|| Error::setup("cannot read the workload's mountinfo"))
}

/// Undoes the kernel's `\040` for a space, and so on.
fn unescape(text: &str) -> String {
    let mut out = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((&byte, tail)) = rest.split_first() {
        let code = tail.get(..3).and_then(|code| std::str::from_utf8(code).ok());
        let code = code.filter(|_| byte == b'\\').and_then(|code| u8::from_str_radix(code, 8).ok());
        out.push(code.unwrap_or(byte));
        rest = if code.is_some() { tail.get(3..).unwrap_or_default() } else { tail };
    }
    String::from_utf8_lossy(&out).into_owned()
}

/// Checks that a mount at a path maps the ids of its files. One that is covered by another counts: each is looked at by
/// whoever made it.
pub(crate) fn check_idmapped(mounts: &[Mount], path: &str) -> Result<(), Error> {
    if mounts.iter().any(|mount| mount.path == path && mount.idmapped) {
        return Ok(());
    }
    Err(Error::setup(format!("{path} does not map the ids of its files")))
}

/// The mount that is seen at a path: of several on top of each other the one that nothing covers.
fn topmost<'a>(mounts: &'a [Mount], path: &str) -> Option<&'a Mount> {
    let here = || mounts.iter().filter(|mount| mount.path == path);
    here().find(|mount| !here().any(|other| other.parent == mount.id && other.id != mount.id))
}

/// Checks one planned mount; gives its flags in words.
pub(crate) fn check(mounts: &[Mount], expected: &Expected) -> Result<String, Error> {
    let path = &expected.path;
    let found = topmost(mounts, path).ok_or_else(|| Error::setup(format!("nothing is mounted on {path}")))?;
    flags_are(path, found.flags, expected.flags)?;
    if let Some(kind) = expected.kind.filter(|kind| *kind != found.kind) {
        return Err(Error::setup(format!("a {} is mounted on {path}, not a {kind}", found.kind)));
    }
    // The limits of an overlay are those of the tmpfs that it lies on.
    let below = || mounts.iter().find(|mount| mount.id == found.parent && mount.kind == "tmpfs");
    let holder = if found.kind == "overlay" { below().unwrap_or(found) } else { found };
    let option = |name: &str| {
        let value = holder.options.split(',').find_map(|option| option.strip_prefix(name)?.strip_prefix('='))?;
        value.trim_end_matches('k').parse::<u64>().ok()
    };
    if let Some(size) = expected.size {
        let given = option("size").map(|kib| kib.saturating_mul(1024));
        if !given.is_some_and(|given| given >= size && given - size < LARGEST_PAGE) {
            return Err(Error::setup(format!("{path} has the options {}, not a size of {size} bytes", holder.options)));
        }
    }
    if expected.inodes.is_some() && option("nr_inodes") != expected.inodes {
        return Err(Error::setup(format!("{path} has the options {}: the number of inodes differs", holder.options)));
    }
    Ok(format!("{path} {}", found.flags))
}

fn flags_are(path: &str, found: MountFlags, wanted: MountFlags) -> Result<(), Error> {
    if found.contains(wanted) {
        return Ok(());
    }
    let missing = wanted.without(found);
    Err(Error::setup(format!("{path} is not {missing}; it is mounted {found}")))
}

/// Checks that nothing is mounted that was not planned: each is planned itself, or came with a bind and has its flags.
pub(crate) fn check_all(mounts: &[Mount], all: &[Expected]) -> Result<String, Error> {
    for mount in mounts.iter().filter(|mount| all.iter().all(|expected| expected.path != mount.path)) {
        let brings = |expected: &&Expected| expected.recursive && below(&mount.path, &expected.path).is_some();
        match all.iter().filter(brings).max_by_key(|expected| expected.path.len()) {
            Some(bind) => flags_are(&mount.path, mount.flags, bind.flags)?,
            None => {
                let message = format!("a {} is mounted on {}, which nobody planned", mount.kind, mount.path);
                return Err(Error::setup(message));
            }
        }
    }
    Ok(format!("{} mounts, all planned", mounts.len()))
}

/// Checks a planned mount from inside, where there may be no /proc: the kernel says it of the path.
pub(crate) fn witness(expected: &Expected) -> Result<String, Error> {
    let path = &expected.path;
    let file = fd::open_path(path, fd::O_PATH).told(|| format!("cannot look at {path}"))?;
    let found = mount::flags_of(&file).told(|| format!("cannot look at the mount on {path}"))?;
    flags_are(path, found, expected.flags)?;
    let magic = mount::statfs_type(&file).told(|| format!("cannot look at the mount on {path}"))?;
    let wanted = expected.kind.and_then(magic_of);
    if let Some(wanted) = wanted.filter(|wanted| *wanted != magic) {
        return Err(Error::setup(format!("the file system on {path} has the type {magic:#x}, not {wanted:#x}")));
    }
    Ok(format!("{path} {found}"))
}

/// Magic numbers of linux/magic.h.
fn magic_of(kind: &str) -> Option<i64> {
    match kind {
        "tmpfs" => Some(0x0102_1994),
        "proc" => Some(0x9fa0),
        "devpts" => Some(0x1cd1),
        "overlay" => Some(0x794c_7630),
        _ => None,
    }
}

/// Several findings in one line, the number of the rest behind the first few.
pub(crate) fn summary(findings: &[String]) -> String {
    let mut text = findings.iter().take(3).cloned().collect::<Vec<_>>().join("; ");
    if findings.len() > 3 {
        // Writing to a String cannot fail.
        write!(text, "; and {} more", findings.len() - 3).unwrap_or_default();
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEXT: &str = "\
71 46 0:40 / / ro,nosuid,nodev,relatime - tmpfs none rw,size=1024k,nr_inodes=1000,mode=755
45 71 254:0 /usr /usr ro,nosuid,nodev,relatime - ext4 /dev/vda rw
72 45 254:1 / /usr/local rw,nosuid,relatime - ext4 /dev/vdb rw
73 71 0:41 / /a\\040b rw,nosuid,nodev,noexec,relatime shared:3 - proc none rw
80 71 0:50 / /tmp rw,relatime - tmpfs none rw,size=64k
74 80 0:51 / /tmp ro,relatime - tmpfs none rw,size=64k
";

    fn expect(path: &str, flags: MountFlags) -> Expected {
        Expected::plain(path, flags)
    }

    #[test]
    fn lines_are_taken_apart() {
        let mounts = parse(TEXT).unwrap();
        assert_eq!(mounts[3].path, "/a b");
        assert_eq!((mounts[3].kind.as_str(), mounts[3].flags.to_string().as_str()), ("proc", "nosuid,nodev,noexec"));
        assert!(parse("rubbish\n").is_err());
    }

    #[test]
    fn a_missing_flag_is_named() {
        let mounts = parse(TEXT).unwrap();
        assert_eq!(check(&mounts, &expect("/usr", MountFlags::RO)).unwrap(), "/usr ro,nosuid,nodev");
        let error = check(&mounts, &expect("/usr", MountFlags::RO | MountFlags::NOEXEC)).unwrap_err();
        assert_eq!(error.message, "/usr is not noexec; it is mounted ro,nosuid,nodev");
        assert!(check(&mounts, &expect("/opt", MountFlags::NONE)).is_err());
    }

    #[test]
    fn a_map_of_ids_that_is_not_there_is_told() {
        let text = TEXT.replace("/usr ro,nosuid,nodev,relatime", "/usr ro,nosuid,nodev,relatime,idmapped");
        check_idmapped(&parse(&text).unwrap(), "/usr").unwrap();
        assert!(check_idmapped(&parse(TEXT).unwrap(), "/usr").unwrap_err().message.contains("does not map"));
    }

    #[test]
    fn of_several_mounts_on_a_path_the_uppermost_counts() {
        let mounts = parse(TEXT).unwrap();
        assert!(check(&mounts, &expect("/tmp", MountFlags::RO)).is_ok());
    }

    #[test]
    fn type_and_limits_are_compared() {
        let mounts = parse(TEXT).unwrap();
        let root =
            Expected { kind: Some("tmpfs"), size: Some(1 << 20), inodes: Some(1000), ..expect("/", MountFlags::RO) };
        assert!(check(&mounts, &root).is_ok());
        assert!(check(&mounts, &Expected { size: Some(1 << 19), ..root.clone() }).is_err());
        assert!(check(&mounts, &Expected { inodes: Some(5), ..root.clone() }).is_err());
        assert!(check(&mounts, &Expected { kind: Some("proc"), ..root }).is_err());
    }

    #[test]
    fn an_overlay_has_the_limits_of_what_it_lies_on() {
        let text = "\
71 46 0:40 / / ro - tmpfs none rw
75 71 0:52 / /w rw,nosuid,nodev - tmpfs none rw,size=1024k,nr_inodes=64
76 75 0:53 / /w rw,nosuid,nodev - overlay overlay rw,lowerdir=/proc/self/fd/5,upperdir=/proc/self/fd/6
";
        let mounts = parse(text).unwrap();
        let wanted = Expected {
            kind: Some("overlay"),
            size: Some(1 << 20),
            inodes: Some(64),
            ..expect("/w", MountFlags::NODEV)
        };
        assert!(check(&mounts, &wanted).is_ok());
        assert!(check(&mounts, &Expected { size: Some(1 << 21), ..wanted.clone() }).is_err());
        assert!(check(&mounts, &Expected { inodes: Some(9), ..wanted.clone() }).is_err());
        assert!(check(&mounts, &Expected { kind: Some("tmpfs"), ..wanted.clone() }).is_err());
        // Without the overlay the tmpfs below it is not taken for one.
        assert!(check(&mounts[..2], &wanted).is_err());
    }

    #[test]
    fn what_nobody_planned_is_found() {
        let mounts = parse(TEXT).unwrap();
        let mut all =
            vec![expect("/", MountFlags::NONE), expect("/a b", MountFlags::NONE), expect("/tmp", MountFlags::NONE)];
        all.push(expect("/usr", MountFlags::NONE));
        assert!(check_all(&mounts, &all).unwrap_err().message.contains("/usr/local"));
        all[3].recursive = true;
        all[3].flags = MountFlags::NODEV;
        assert!(check_all(&mounts, &all).unwrap_err().message.contains("/usr/local is not nodev"));
        all[3].flags = MountFlags::NOSUID;
        assert_eq!(check_all(&mounts, &all).unwrap(), "6 mounts, all planned");
    }
}
