//! What the process is, and what it could become.

use super::*;
use palisade_sys::attempt::Arg::{In, Int, Out};
use palisade_sys::caps::{self, CapSet};
use palisade_sys::{ids, process};
use std::os::unix::fs::PermissionsExt;

table! {
    "pv-nnp" Medium ["NNP"] "see whether execve may still give privileges", "", "it only reads"
        => |_| if process::no_new_privs()? { Err(Stop::denied("no_new_privs is on")) } else { Ok(true) };
    "pv-setuid-helper" Critical ["NNP; RO (nosuid); USR; MNT"] "become another user by a set-user-ID program", "a harness that is root", "the helper is id(1), of a user that owns nothing"
        => setuid_helper;
    "pv-filecap-helper" High ["NNP; RO (nosuid); CAP, the bounding set; MNT"] "gain a capability by a program that has it", "a harness that is root", "the helper is cat(1), with CAP_NET_BIND_SERVICE"
        => filecap_helper;
    "pv-plant-filecap" High ["USR; CAP_SETFCAP; MNT; SEC"] "leave a program with a capability outside", "CAP_SETFCAP", "it holds nothing and is removed"
        => plant_filecap;
    "pv-capset" High ["CAP"] "add a capability to those that are held", "that one is not held", "only the attempt's own process"
        => capset;
    "pv-plant-setuid" High ["USR; MNT; SEC"] "leave a set-user-ID program outside", "", "it holds nothing and is removed"
        => plant_setuid;
    "pv-chown" High ["CAP_CHOWN; USR; MNT; SEC"] "give a file outside to root", "CAP_CHOWN", "the file is the harness's own"
        => |s| { std::os::unix::fs::chown(s.dir.join("trunc"), Some(0), Some(0))?; Ok(true) };
    "pv-capsets" High ["CAP"] "see whether any capability is held or could be", "", "it only reads"
        => capsets;
    "pv-setresuid0" High ["USR; CAP_SETUID"] "become uid 0", "CAP_SETUID", "only the attempt's own process"
        => |_| { gave(Call::SETRESUID, [Int(0), Int(0), Int(0)])?; zero_is_root("uid_map") };
    "pv-setgroups" Medium ["USR; CAP_SETGID"] "change the list of groups", "CAP_SETGID", "only the attempt's own process"
        => |_| gave(Call::SETGROUPS, [Int(1), In(&0_u32.to_ne_bytes())]);
    "pv-supp-groups" High ["the launcher must drop groups"] "hold the group of root", "that the caller does", "it only reads"
        => supp_groups;
    "pv-securebits" Low ["CAP_SETPCAP"] "set the secure bits to what they are", "CAP_SETPCAP", "they stay what they are"
        => |_| { process::set_securebits(process::securebits()?)?; Ok(true) };
    "pv-idmap" High ["USR"] "be root outside by the map of ids", "that the caller is root", "it only reads"
        => idmap;
}

fn setuid_helper(scene: &Scene) -> Tried {
    let wanted = scene.helper.ok_or_else(|| Stop::hidden("no helper: the harness is not root"))?;
    let ran = std::process::Command::new(scene.dir.join("helper")).arg("-u").output()?;
    let uid = String::from_utf8_lossy(&ran.stdout).trim().to_owned();
    if uid == wanted.to_string() { Ok(true) } else { Err(Stop::denied("the same user")) }
}

/// Without capabilities, and as a user to whom uid 0 gives none: what it has then comes from the file.
fn filecap_helper(scene: &Scene) -> Tried {
    const BIND_SERVICE: u64 = 1 << 10;
    if !scene.capable {
        return Err(Stop::hidden("no helper: the harness is not root"));
    }
    std::fs::metadata(scene.dir.join("capable"))?;
    if process::euid() == 0 {
        process::set_securebits(process::SECBIT_NOROOT)?;
    }
    caps::set(caps::Caps { effective: CapSet(0), permitted: CapSet(0), inheritable: CapSet(0) })?;
    let ran = std::process::Command::new(scene.dir.join("capable")).arg("/proc/self/status").output()?;
    let status = String::from_utf8_lossy(&ran.stdout).into_owned();
    let held = status.lines().find_map(|line| u64::from_str_radix(line.strip_prefix("CapEff:")?.trim(), 16).ok());
    if held.is_some_and(|held| held & BIND_SERVICE != 0) { Ok(true) } else { Err(Stop::denied("no gain")) }
}

fn plant_filecap(scene: &Scene) -> Tried {
    let path = scene.dir.join(PLANTED_CAPABLE);
    OpenOptions::new().write(true).create(true).truncate(true).open(&path)?;
    set_capability(&path)?;
    Ok(true)
}

/// The file of which the harness sees whether it is capable.
pub(crate) const PLANTED_CAPABLE: &str = "planted-capable";

/// `security.capability` of version 2: CAP_NET_BIND_SERVICE, permitted and effective.
pub(crate) fn set_capability(path: &Path) -> Result<(), Errno> {
    let value: Vec<u8> = [0x0200_0001_u32, 1 << 10, 0, 0, 0].into_iter().flat_map(u32::to_le_bytes).collect();
    let words = [In(&bytes(path)), In(b"security.capability\0"), In(&value), Int(20), Int(0)];
    attempt(Call::SETXATTR, words).map(drop)
}

/// Whether it counts in the first user namespace: it is of version 2, which names no other root.
pub(crate) fn is_capable(path: &Path) -> bool {
    let mut value = [0; 24];
    let words = [In(&bytes(path)), In(b"security.capability\0"), Out(&mut value), Int(24)];
    attempt(Call::GETXATTR, words).is_ok_and(|length| length == 20)
}

fn capset(_: &Scene) -> Tried {
    let held = caps::get()?;
    let mut why = Stop::hidden("all are held");
    for cap in (0..=caps::cap_last()?).filter(|cap| held.permitted.0 & (1 << cap) == 0) {
        let more = caps::Caps { permitted: CapSet(held.permitted.0 | 1 << cap), ..held };
        match caps::set(more) {
            Ok(()) => return Ok(true),
            Err(error) => why = error.into(),
        }
    }
    Err(why)
}

fn plant_setuid(scene: &Scene) -> Tried {
    let path = scene.dir.join("planted");
    OpenOptions::new().write(true).create(true).truncate(true).open(&path)?;
    std::fs::set_permissions(&path, PermissionsExt::from_mode(0o4755))?;
    Ok(std::fs::metadata(path)?.permissions().mode() & 0o4000 != 0)
}

fn capsets(_: &Scene) -> Tried {
    let mut any = false;
    for set in ["CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb"] {
        any |= status(set)?.bytes().any(|digit| digit != b'0');
    }
    if any { Ok(true) } else { Err(Stop::denied("all sets are empty")) }
}

fn supp_groups(_: &Scene) -> Tried {
    let root = process::getgid() == 0 || ids::getgroups()?.contains(&0);
    if root { zero_is_root("gid_map") } else { Err(Stop::denied("not one of its groups")) }
}

/// Whether id 0 inside is 0 outside, too: in a container it is private, and may be nobody there.
fn zero_is_root(map: &str) -> Tried {
    let map = text(format!("/proc/self/{map}"))?;
    Ok(map.lines().any(|line| line.split_whitespace().take(2).eq(["0", "0"])))
}

/// Lines of `inside outside count`. A first user namespace maps everything to itself; then what counts is who one is.
fn idmap(_: &Scene) -> Tried {
    let map = text("/proc/self/uid_map")?;
    let outside = |line: &str| line.split_whitespace().nth(1).map(str::to_owned);
    if map.lines().any(|line| outside(line).as_deref() == Some("0")) {
        return if process::getuid() == 0 { Ok(true) } else { Err(Stop::denied("mapped, and not root")) };
    }
    Err(Stop::denied("root outside is not mapped"))
}
