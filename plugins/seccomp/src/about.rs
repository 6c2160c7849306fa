//! What a call is about, for an explanation of why it is denied: the file, the address, and what is wanted of it.

use palisade_abi::Act;
use palisade_sys::notify::{Memory, Question};
use palisade_sys::procfs::{Proc, ProcPid};
use palisade_sys::{fd, notify};
use std::ffi::OsStr;
use std::net::{Ipv4Addr, Ipv6Addr};
use std::os::fd::BorrowedFd;
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};

/// Where a path stands among the arguments: the directory that it starts from, if that is one, and itself.
#[derive(Clone, Copy)]
struct At(Option<u8>, u8);

/// What a call wants; numbers are those of arguments.
#[derive(Clone, Copy)]
enum Wants {
    Look(At),
    /// To give it to somebody.
    Own(At),
    Execute(At),
    /// The flags of open(2).
    Open(At, u8),
    /// As `Open`, with the flags in memory.
    OpenHow(At, u8),
    Truncate(At),
    Make(At, &'static str),
    /// Of the kind that the mode says.
    MakeNode(At, u8),
    Remove(At, &'static str),
    /// A file, or a directory where the flags say so.
    Unlink(At, u8),
    /// From one place to another.
    Rename(At, At),
    /// What an address in memory names: its place and its length.
    Address(&'static str, u8, u8),
    /// What its numbers say.
    Plain,
}

use Wants::{Address, Execute, Look, Make, MakeNode, Open, OpenHow, Own, Plain, Remove, Rename, Truncate, Unlink};

/// The calls that name something which the kernel may refuse for more than one reason.
#[rustfmt::skip]
const CALLS: &[(&str, Wants)] = &[
    ("open", Open(At(None, 0), 1)), ("openat", Open(At(Some(0), 1), 2)), ("openat2", OpenHow(At(Some(0), 1), 2)),
    ("creat", Truncate(At(None, 0))), ("truncate", Truncate(At(None, 0))),
    ("execve", Execute(At(None, 0))), ("execveat", Execute(At(Some(0), 1))),
    ("stat", Look(At(None, 0))), ("lstat", Look(At(None, 0))), ("newfstatat", Look(At(Some(0), 1))),
    ("statx", Look(At(Some(0), 1))), ("access", Look(At(None, 0))), ("faccessat", Look(At(Some(0), 1))),
    ("faccessat2", Look(At(Some(0), 1))), ("chdir", Look(At(None, 0))),
    ("mkdir", Make(At(None, 0), "directory")), ("mkdirat", Make(At(Some(0), 1), "directory")),
    ("symlink", Make(At(None, 1), "link")), ("symlinkat", Make(At(Some(1), 2), "link")),
    ("link", Make(At(None, 1), "file")), ("linkat", Make(At(Some(2), 3), "file")),
    ("mknod", MakeNode(At(None, 0), 1)), ("mknodat", MakeNode(At(Some(0), 1), 2)),
    ("rmdir", Remove(At(None, 0), "directory")), ("unlink", Remove(At(None, 0), "file")),
    ("unlinkat", Unlink(At(Some(0), 1), 2)),
    ("rename", Rename(At(None, 0), At(None, 1))), ("renameat", Rename(At(Some(0), 1), At(Some(2), 3))),
    ("renameat2", Rename(At(Some(0), 1), At(Some(2), 3))),
    ("connect", Address("connect", 1, 2)), ("sendto", Address("connect", 4, 5)), ("bind", Address("bind", 1, 2)),
    // For what only a capability gives, or an id that the user namespace has.
    ("chown", Own(At(None, 0))), ("lchown", Own(At(None, 0))), ("fchownat", Own(At(Some(0), 1))), ("fchown", Plain),
    ("setuid", Plain), ("setgid", Plain), ("setreuid", Plain), ("setregid", Plain), ("setresuid", Plain),
    ("setresgid", Plain), ("setgroups", Plain), ("chroot", Look(At(None, 0))), ("socket", Plain),
    ("setpriority", Plain), ("sethostname", Plain), ("setdomainname", Plain), ("settimeofday", Plain),
    ("clock_settime", Plain),
];

const O_ACCMODE: u64 = 0o3;
const O_WRONLY: u64 = 0o1;
const O_RDWR: u64 = 0o2;
const O_CREAT: u64 = 0o100;
const O_TRUNC: u64 = 0o1000;
const O_PATH: u64 = 0o10_000_000;
const AT_REMOVEDIR: u64 = 0x200;
const S_IFMT: u64 = 0o170_000;

/// The calls whose arguments are worth a look although the filter lets them through.
pub(crate) fn names() -> impl Iterator<Item = &'static str> {
    CALLS.iter().map(|(name, _)| *name)
}

/// What a question is about, as far as it can be seen: nothing of what stands in memory where the asking process was
/// gone before it could be read. A call that is about two things gives two acts.
pub(crate) fn acts(listener: BorrowedFd<'_>, question: &Question, name: &str) -> Vec<Act> {
    let numbers: Vec<String> = question.args.iter().map(u64::to_string).collect();
    let plain = Act::new([("call", name)]).with("pid", question.pid.to_string()).with("arguments", numbers.join(" "));
    let Some((_, wants)) = CALLS.iter().find(|(known, _)| *known == name) else { return vec![plain] };
    let seen = Seen::open(question).map(|seen| seen.acts(&plain, *wants)).unwrap_or_default();
    // Read before, so it was this process's.
    if seen.is_empty() || !notify::waits(listener, question.id) { vec![plain] } else { seen }
}

/// A process that waits for an answer.
struct Seen<'a> {
    process: ProcPid,
    memory: Memory,
    args: &'a [u64; 6],
}

impl<'a> Seen<'a> {
    fn open(question: &'a Question) -> Option<Self> {
        let process = Proc::host().ok()?.pid(question.pid).ok()?;
        let memory = Memory::open(&process).ok()?;
        Some(Self { process, memory, args: &question.args })
    }

    fn arg(&self, index: u8) -> u64 {
        self.args.get(usize::from(index)).copied().unwrap_or_default()
    }

    fn acts(&self, plain: &Act, wants: Wants) -> Vec<Act> {
        let about = |at: At, to: &str| Some(plain.clone().with("path", self.path(at)?).with("to", to));
        let kind = |at: At, to: &str, kind: &str| about(at, to).map(|act| act.with("kind", kind));
        let acts = match wants {
            Look(at) => vec![about(at, "look")],
            Own(at) => vec![about(at, "own")],
            Execute(at) => vec![about(at, "execute")],
            Open(at, flags) => vec![kind(at, &opens(self.arg(flags)), "file")],
            OpenHow(at, how) => vec![kind(at, &opens(self.word(self.arg(how))), "file")],
            Truncate(at) => vec![kind(at, "write truncate", "file")],
            Make(at, what) => vec![kind(at, "make", what)],
            MakeNode(at, mode) => vec![kind(at, "make", node(self.arg(mode)))],
            Remove(at, what) => vec![kind(at, "remove", what)],
            Unlink(at, flags) => {
                let what = if self.arg(flags) & AT_REMOVEDIR == 0 { "file" } else { "directory" };
                vec![kind(at, "remove", what)]
            }
            Rename(from, to) => vec![kind(from, "remove", "file"), kind(to, "make", "file")],
            Address(to, place, length) => vec![self.address(plain, to, (place, length))],
            Plain => Vec::new(),
        };
        acts.into_iter().flatten().collect()
    }

    /// Eight bytes of memory; 0 where they cannot be read, and the call will fail for that.
    fn word(&self, address: u64) -> u64 {
        let mut bytes = [0; 8];
        if self.memory.bytes(address, &mut bytes) < bytes.len() { 0 } else { u64::from_ne_bytes(bytes) }
    }

    /// A path as the process means it, from its own root on.
    fn path(&self, At(dir, path): At) -> Option<String> {
        let text = self.memory.text(self.arg(path)).filter(|text| !text.is_empty())?;
        let path = Path::new(OsStr::from_bytes(&text));
        let absolute = if path.is_absolute() { path.to_owned() } else { self.start(dir)?.join(path) };
        Some(absolute.to_string_lossy().into_owned())
    }

    /// Where a relative path starts.
    #[expect(clippy::cast_possible_truncation, reason = "the kernel takes the low half, as an int")]
    fn start(&self, dir: Option<u8>) -> Option<PathBuf> {
        let number = dir.map_or(fd::CWD_NUMBER, |dir| self.arg(dir) as i32);
        let name = if number == fd::CWD_NUMBER { "cwd".to_owned() } else { format!("fd/{number}") };
        fd::readlink_at(&self.process, name).ok().map(PathBuf::from).filter(|path| path.is_absolute())
    }

    fn address(&self, plain: &Act, to: &str, (place, length): (u8, u8)) -> Option<Act> {
        let mut bytes = [0; 128];
        let length = usize::try_from(self.arg(length)).ok()?.min(bytes.len());
        let read = self.memory.bytes(self.arg(place), bytes.get_mut(..length)?);
        let found = Name::parse(bytes.get(..read)?)?;
        let act = plain.clone().with("to", to);
        Some(match found {
            Name::Internet(address, port) => {
                let act = act.with("address", address).with("port", port.to_string());
                let pid = self.process.id();
                match notify::is_tcp(pid, self.arg(0) & u64::from(u32::MAX)) {
                    Some(tcp) => act.with("protocol", if tcp { "tcp" } else { "udp" }),
                    None => act,
                }
            }
            Name::Path(path) => {
                let path = if path.is_absolute() { path } else { self.start(None)?.join(path) };
                act.with("path", path.to_string_lossy()).with("kind", "socket")
            }
        })
    }
}

/// What the flags of open(2) want.
fn opens(flags: u64) -> String {
    if flags & O_PATH != 0 {
        return "look".to_owned();
    }
    let mode = flags & O_ACCMODE;
    let all = [
        ("read", mode != O_WRONLY),
        ("write", mode == O_WRONLY || mode == O_RDWR),
        ("truncate", flags & O_TRUNC != 0),
        ("make", flags & O_CREAT != 0),
    ];
    all.into_iter().filter_map(|(word, wanted)| wanted.then_some(word)).collect::<Vec<_>>().join(" ")
}

fn node(mode: u64) -> &'static str {
    match mode & S_IFMT {
        0o010_000 => "fifo",
        0o140_000 => "socket",
        0o020_000 | 0o060_000 => "device",
        _ => "file",
    }
}

/// What a socket address names.
#[derive(Debug, PartialEq, Eq)]
enum Name {
    Internet(String, u16),
    Path(PathBuf),
}

impl Name {
    /// Reads `struct sockaddr`; nothing for a family without a place, and for an abstract name.
    fn parse(bytes: &[u8]) -> Option<Self> {
        let family = u16::from_ne_bytes(bytes.get(..2)?.try_into().ok()?);
        let port = || Some(u16::from_be_bytes(bytes.get(2..4)?.try_into().ok()?));
        match family {
            1 => {
                let path: Vec<u8> = bytes.get(2..)?.iter().copied().take_while(|byte| *byte != 0).collect();
                (!path.is_empty()).then(|| Self::Path(PathBuf::from(OsStr::from_bytes(&path))))
            }
            2 => {
                let address: [u8; 4] = bytes.get(4..8)?.try_into().ok()?;
                Some(Self::Internet(Ipv4Addr::from(address).to_string(), port()?))
            }
            10 => {
                let address: [u8; 16] = bytes.get(8..24)?.try_into().ok()?;
                Some(Self::Internet(Ipv6Addr::from(address).to_string(), port()?))
            }
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::calls;

    #[test]
    fn every_call_that_is_looked_at_is_known() {
        for name in names() {
            assert!(calls::known(name).is_some(), "{name}");
        }
    }

    #[test]
    fn flags_are_read_as_open_reads_them() {
        assert_eq!(opens(0), "read");
        assert_eq!(opens(O_WRONLY | O_CREAT | O_TRUNC), "write truncate make");
        assert_eq!(opens(O_RDWR), "read write");
        assert_eq!(opens(O_PATH | O_RDWR), "look");
        assert_eq!([node(0o100_644), node(0o010_600), node(0o020_600), node(0)], ["file", "fifo", "device", "file"]);
    }

    #[test]
    fn addresses_are_read_and_what_is_cut_off_is_none() {
        let mut four = vec![0; 16];
        four[..2].copy_from_slice(&2_u16.to_ne_bytes());
        four[2..8].copy_from_slice(&[0x01, 0xbb, 192, 0, 2, 7]);
        assert_eq!(Name::parse(&four), Some(Name::Internet("192.0.2.7".to_owned(), 443)));
        assert_eq!(Name::parse(&four[..6]), None);
        let mut six = vec![0; 28];
        six[..2].copy_from_slice(&10_u16.to_ne_bytes());
        six[2..4].copy_from_slice(&[0, 80]);
        six[23] = 1;
        assert_eq!(Name::parse(&six), Some(Name::Internet("::1".to_owned(), 80)));
        let mut unix = 1_u16.to_ne_bytes().to_vec();
        unix.extend_from_slice(b"/run/x\0junk");
        assert_eq!(Name::parse(&unix), Some(Name::Path(PathBuf::from("/run/x"))));
        unix[2] = 0;
        assert_eq!(Name::parse(&unix), None, "an abstract name is no path");
        assert_eq!(Name::parse(&[]), None);
    }
}
