//! User and group ids.

use std::path::PathBuf;

use nix::unistd::{Gid, Uid};

use crate::error::{OrCall, Result};

/// A user of the host.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct User {
    /// Log-in name.
    pub name: String,
    /// User id.
    pub uid: u32,
    /// Primary group.
    pub gid: u32,
    /// Home directory.
    pub home: PathBuf,
}

impl From<nix::unistd::User> for User {
    fn from(user: nix::unistd::User) -> Self {
        Self { name: user.name, uid: user.uid.as_raw(), gid: user.gid.as_raw(), home: user.dir }
    }
}

/// Looks a user up by name.
///
/// On the host side only: NSS loads libraries, and inside a workload's view they would be the
/// workload's own (CVE-2019-14271). getpwnam_r(3).
pub fn lookup_user(name: &str) -> Result<Option<User>> {
    nix::unistd::User::from_name(name).map(|user| user.map(User::from)).or_call(|| format!("getpwnam_r({name:?})"))
}

/// Looks a user up by id; on the host side only, as [`lookup_user`]. getpwuid_r(3).
pub fn lookup_uid(uid: u32) -> Result<Option<User>> {
    nix::unistd::User::from_uid(Uid::from_raw(uid))
        .map(|user| user.map(User::from))
        .or_call(|| format!("getpwuid_r({uid})"))
}

/// Looks a group's id up by name; on the host side only, as [`lookup_user`]. getgrnam_r(3).
pub fn lookup_group(name: &str) -> Result<Option<u32>> {
    nix::unistd::Group::from_name(name)
        .map(|group| group.map(|group| group.gid.as_raw()))
        .or_call(|| format!("getgrnam_r({name:?})"))
}

/// Sets the supplementary groups.
///
/// Needs: CAP_SETGID. Fails: EPERM where /proc/self/setgroups says deny. setgroups(2).
pub fn set_groups(groups: &[u32]) -> Result<()> {
    let gids: Vec<Gid> = groups.iter().copied().map(Gid::from_raw).collect();
    nix::unistd::setgroups(&gids).or_call(|| format!("setgroups({groups:?})"))
}

/// Reads the supplementary groups. getgroups(2).
pub fn getgroups() -> Result<Vec<u32>> {
    nix::unistd::getgroups()
        .map(|gids| gids.into_iter().map(Gid::as_raw).collect())
        .or_call(|| "getgroups()".to_owned())
}

/// Sets real, effective and saved gid.
///
/// Needs: CAP_SETGID for one that the process does not have. Fails: EINVAL when it is not mapped in
/// this user namespace. setresgid(2).
pub fn set_resgid(gid: u32) -> Result<()> {
    let id = Gid::from_raw(gid);
    nix::unistd::setresgid(id, id, id).or_call(|| format!("setresgid({gid}, {gid}, {gid})"))
}

/// Sets real, effective and saved uid; capabilities are lost when it leaves 0, and the death signal
/// and the dumpable flag are reset.
///
/// Needs: CAP_SETUID for one that the process does not have. Fails: EINVAL when it is not mapped in
/// this user namespace. setresuid(2).
pub fn set_resuid(uid: u32) -> Result<()> {
    let id = Uid::from_raw(uid);
    nix::unistd::setresuid(id, id, id).or_call(|| format!("setresuid({uid}, {uid}, {uid})"))
}

/// The ids of one kind that a user namespace has: a file `uid_map` or `gid_map`. user_namespaces(7).
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct IdMap(Vec<[u32; 3]>);

impl IdMap {
    /// Reads the file's lines: first inside, first outside as the reader sees it, how many.
    #[must_use]
    pub fn parse(text: &str) -> Self {
        let line = |line: &str| {
            let mut numbers = line.split_ascii_whitespace().map(|word| word.parse().ok());
            Some([numbers.next()??, numbers.next()??, numbers.next()??])
        };
        Self(text.lines().filter_map(line).collect())
    }

    fn find(&self, id: u32, from: usize, to: usize) -> Option<u32> {
        self.0.iter().find_map(|range| {
            let at = id.checked_sub(range[from]).filter(|at| *at < range[2])?;
            range[to].checked_add(at)
        })
    }

    /// Which id outside is this one inside.
    #[must_use]
    pub fn outside(&self, inside: u32) -> Option<u32> {
        self.find(inside, 0, 1)
    }

    /// Which id inside is this one outside.
    #[must_use]
    pub fn inside(&self, outside: u32) -> Option<u32> {
        self.find(outside, 1, 0)
    }

    /// The first id inside.
    #[must_use]
    pub fn first_inside(&self) -> Option<u32> {
        self.0.first().map(|range| range[0])
    }

    /// The first id outside.
    #[must_use]
    pub fn first_outside(&self) -> Option<u32> {
        self.0.first().map(|range| range[1])
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn root_is_known_and_nobody_else_is_made_up() {
        let root = lookup_user("root").unwrap().unwrap();
        assert_eq!((root.uid, root.gid), (0, 0));
        assert_eq!(lookup_uid(0).unwrap(), Some(root));
        assert_eq!(lookup_user("no-such-user-here").unwrap(), None);
        assert_eq!(lookup_group("root").unwrap(), Some(0));
    }

    #[test]
    fn a_map_goes_both_ways() {
        let map = IdMap::parse("      1000 1879052194          1\n      2000     100000        500\n");
        assert_eq!(
            (map.outside(1000), map.outside(2007), map.outside(2500)),
            (Some(1_879_052_194), Some(100_007), None)
        );
        assert_eq!((map.inside(100_007), map.inside(0), map.first_outside()), (Some(2007), None, Some(1_879_052_194)));
        assert_eq!(IdMap::parse("").first_outside(), None);
    }
}
