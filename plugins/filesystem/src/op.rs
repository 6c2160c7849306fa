//! One thing to do in the view, and what the kernel must say afterwards. Data only: made by the plan, done in `view`.

use std::borrow::Cow;
use std::fmt;

use palisade_sys::mount::MountFlags;

use crate::overlay::Layer;
use crate::tree::Target;

/// One thing to do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Op {
    /// Attaches a source, by its number.
    Bind { slot: usize, target: Target },
    /// Attaches a new file system.
    Fresh { fs: Fresh, target: Target },
    /// Attaches a device node of the host, of this name and number.
    Node { name: &'static str, device: (u32, u32), target: Target },
    /// Makes a directory.
    Dir { path: String, mode: u32 },
    /// Makes a symbolic link.
    Link { path: String, to: String },
    /// Makes a file.
    File { path: String, mode: u32, content: Content },
    /// Covers a file or directory with nothing.
    Mask { target: Target },
    /// Makes a part of a mount a mount of its own, read-only.
    Part { target: Target, flags: MountFlags },
    /// Makes a mount read-only.
    Freeze { path: String },
    /// Attaches a new cgroup2, if it shows no other cgroup than this process's own.
    OwnCgroup { fs: Fresh, target: Target },
    /// Makes an overlay of a source, by its number, and what is written.
    Overlay { lower: usize, upper: Layer, target: Target },
}

/// A file system that is made for the view.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Fresh {
    pub(crate) kind: &'static str,
    pub(crate) options: Vec<(&'static str, String)>,
    pub(crate) flags: MountFlags,
}

impl Fresh {
    /// A tmpfs with its limits.
    pub(crate) fn tmpfs(size: u64, inodes: u32, mode: u32, flags: MountFlags) -> Self {
        let options =
            vec![("size", size.to_string()), ("nr_inodes", inodes.to_string()), ("mode", format!("{mode:o}"))];
        Self { kind: "tmpfs", options, flags }
    }

    fn option(&self, name: &str) -> Option<u64> {
        self.options.iter().find(|(key, _)| *key == name)?.1.parse().ok()
    }

    /// What must be seen of it.
    pub(crate) fn expected(&self, path: &str) -> Expected {
        Expected {
            path: path.to_owned(),
            flags: self.flags,
            kind: Some(self.kind),
            size: self.option("size"),
            inodes: self.option("nr_inodes"),
            recursive: false,
        }
    }
}

/// What a file holds.
#[derive(Clone, PartialEq, Eq)]
pub(crate) enum Content {
    Bytes(Vec<u8>),
    /// /etc/passwd and /etc/group for root, the workload's user and nobody, as the process is then.
    Passwd,
    Group,
    /// /etc/resolv.conf: the host's where the network is the host's, else empty.
    Resolver(Vec<u8>),
}

impl fmt::Debug for Content {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Bytes(bytes) => write!(f, "{} bytes", bytes.len()),
            Self::Passwd => f.write_str("passwd"),
            Self::Group => f.write_str("group"),
            Self::Resolver(_) => f.write_str("resolv.conf"),
        }
    }
}

impl Content {
    /// About how much it is, in bytes.
    pub(crate) fn len(&self) -> usize {
        match self {
            Self::Bytes(bytes) | Self::Resolver(bytes) => bytes.len(),
            Self::Passwd | Self::Group => 256,
        }
    }

    /// The bytes, for a workload with these ids (uid, gid) and this network, which are asked for where they matter.
    pub(crate) fn bytes(&self, ids: impl FnOnce() -> (u32, u32), on_host: impl FnOnce() -> bool) -> Cow<'_, [u8]> {
        let (uid, gid) = match self {
            Self::Bytes(bytes) => return Cow::Borrowed(bytes),
            Self::Resolver(bytes) => return if on_host() { Cow::Borrowed(bytes) } else { Cow::Borrowed(&[]) },
            Self::Passwd | Self::Group => ids(),
        };
        // Accounts that exist on every system, so that `id`, `ls -l` and programs that ask who they are have an answer.
        let users = [
            (0, "root:x:0:0:root:/root:/bin/sh\n".to_owned()),
            (uid, format!("user:x:{uid}:{gid}:user:/home/user:/bin/sh\n")),
            (65534, "nobody:x:65534:65534:nobody:/nonexistent:/bin/false\n".to_owned()),
        ];
        let groups = [
            (0, "root:x:0:\n".to_owned()),
            (gid, format!("user:x:{gid}:\n")),
            (65534, "nogroup:x:65534:\n".to_owned()),
        ];
        let join = |lines: &[(u32, String); 3], id: u32| {
            let known = id == 0 || id == 65534;
            let wanted = lines.iter().enumerate().filter(|(at, _)| !(*at == 1 && known));
            wanted.map(|(_, (_, line))| line.as_str()).collect::<String>().into_bytes()
        };
        Cow::Owned(if matches!(self, Self::Passwd) { join(&users, uid) } else { join(&groups, gid) })
    }
}

/// A mount that must be there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Expected {
    pub(crate) path: String,
    /// At least these flags.
    pub(crate) flags: MountFlags,
    /// Its type, where the view chose it.
    pub(crate) kind: Option<&'static str>,
    pub(crate) size: Option<u64>,
    pub(crate) inodes: Option<u64>,
    /// Other mounts may come with it, with the same flags.
    pub(crate) recursive: bool,
}

impl Expected {
    /// A mount of which only path and flags are known.
    pub(crate) fn plain(path: &str, flags: MountFlags) -> Self {
        Self { path: path.to_owned(), flags, kind: None, size: None, inodes: None, recursive: false }
    }

    /// The same with other mounts below it.
    pub(crate) fn with_more_below(self, recursive: bool) -> Self {
        Self { recursive, ..self }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn accounts_are_there_once() {
        let text = |content: Content, id| String::from_utf8(content.bytes(|| (id, id), || false).into_owned()).unwrap();
        assert_eq!(text(Content::Group, 7), "root:x:0:\nuser:x:7:\nnogroup:x:65534:\n");
        assert_eq!(text(Content::Group, 0), "root:x:0:\nnogroup:x:65534:\n");
        assert_eq!(text(Content::Passwd, 65534).lines().count(), 2);
        let resolver = Content::Resolver(b"nameserver ::1".to_vec());
        assert_eq!(
            (text(resolver.clone(), 1), &*resolver.bytes(|| (1, 1), || true)),
            (String::new(), &b"nameserver ::1"[..])
        );
        assert!(text(Content::Passwd, 1000).contains("\nuser:x:1000:1000:"));
    }
}
