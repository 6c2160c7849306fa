//! What the process is, and what it could become.

use super::*;
use palisade_sys::attempt::Arg::{In, Int};
use palisade_sys::{ids, process};
use std::os::unix::fs::PermissionsExt;

table! {
    "pv-nnp" Medium ["NNP"] "see whether execve may still give privileges", "", "it only reads"
        => |_| if process::no_new_privs()? { Err(Stop::denied("no_new_privs is on")) } else { Ok(true) };
    "pv-setuid-helper" Critical ["NNP; RO (nosuid); USR; MNT"] "become another user by a set-user-ID program", "a harness that is root", "the helper is id(1), of a user that owns nothing"
        => setuid_helper;
    "pv-plant-setuid" High ["USR; MNT; SEC"] "leave a set-user-ID program outside", "", "it holds nothing and is removed"
        => plant_setuid;
    "pv-chown" High ["CAP_CHOWN; USR; MNT; SEC"] "give a file outside to root", "CAP_CHOWN", "the file is the harness's own"
        => |s| { std::os::unix::fs::chown(s.dir.join("trunc"), Some(0), Some(0))?; Ok(true) };
    "pv-capsets" High ["CAP"] "see whether any capability is held or could be", "", "it only reads"
        => capsets;
    "pv-setresuid0" High ["USR; CAP_SETUID"] "become uid 0", "CAP_SETUID", "only the attempt's own process"
        => |_| gave(Call::SETRESUID, [Int(0), Int(0), Int(0)]);
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
    if root { Ok(true) } else { Err(Stop::denied("not one of its groups")) }
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
