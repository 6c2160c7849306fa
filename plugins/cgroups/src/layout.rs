//! Which hierarchy has which controller, from what is mounted and where this process is. Pure: the two texts come
//! from `/proc/self/mountinfo` and `/proc/self/cgroup`, each read once.

use crate::limits::Controller;
use crate::scope::Scope;
use palisade_sys::procfs::{CgroupEntry, parse_cgroups};
use std::path::{Path, PathBuf};

/// The version of the hierarchy that a cgroup is in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Version {
    V1,
    V2,
}

impl Version {
    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::V1 => "v1",
            Self::V2 => "v2",
        }
    }
}

/// A directory in which a new cgroup is to be made.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Place {
    pub(crate) version: Version,
    /// Those of the wanted controllers that this hierarchy has.
    pub(crate) controllers: Vec<Controller>,
    /// The directory.
    pub(crate) dir: PathBuf,
    /// The same cgroup as `/proc/PID/cgroup` writes it.
    pub(crate) path: PathBuf,
    /// v2: what must be enabled in the directory's `cgroup.subtree_control` first.
    pub(crate) enable: Vec<Controller>,
    /// v2: systemd is to make the directory; until then it is that of the mount point.
    pub(crate) scope: Option<Scope>,
}

impl Place {
    /// Whether systemd moves the process in.
    pub(crate) fn is_attached(&self) -> bool {
        self.scope.as_ref().is_some_and(|scope| scope.attach)
    }

    /// The file by which the process moves itself in; `None` where it is born inside, or moved.
    ///
    /// KERNEL(6.4): a process that was born in a v2 cgroup is kept to its CPUs and memory nodes; before, it had those
    /// of its parent. One that moves in has always been.
    pub(crate) fn moves_by(&self) -> Option<&'static str> {
        match self.version {
            Version::V1 => Some("tasks"),
            Version::V2 if self.is_attached() => None,
            Version::V2 if self.controllers.contains(&Controller::Cpuset) => Some("cgroup.procs"),
            Version::V2 => None,
        }
    }
}

/// The v2 hierarchy as this process sees it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Tree {
    /// The mount point.
    pub(crate) mount: PathBuf,
    /// The cgroup that is mounted there, as `/proc/self/cgroup` writes it.
    pub(crate) root: PathBuf,
    /// This process's cgroup, below the mount point.
    pub(crate) own: PathBuf,
    /// The wanted controllers that no v1 hierarchy has.
    pub(crate) wanted: Vec<Controller>,
}

/// What was found for the wanted controllers.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Layout {
    pub(crate) v1: Vec<Place>,
    pub(crate) v2: Option<Tree>,
    /// Controllers that cannot be used, and why.
    pub(crate) missing: Vec<(Controller, String)>,
}

struct Mount {
    v2: bool,
    root: PathBuf,
    point: PathBuf,
    /// The options of the hierarchy, among them the v1 controllers.
    options: String,
}

/// Finds a place for each wanted controller. `parent` is a cgroup below the mount point, instead of this
/// process's own.
pub(crate) fn find(mountinfo: &str, cgroup: &str, wanted: &[Controller], parent: Option<&str>) -> Layout {
    let mounts: Vec<Mount> = mountinfo.lines().filter_map(mount).collect();
    let entries = parse_cgroups(cgroup);
    let mut layout = Layout::default();
    let mut rest = Vec::new();
    for controller in with_accounting(wanted) {
        if !controller.limits() && layout.v1.is_empty() {
            continue;
        }
        let entry = entries.iter().find(|e| e.controllers.iter().any(|name| name == controller.v1_name()));
        let Some(entry) = entry else {
            rest.extend(controller.limits().then_some(controller));
            continue;
        };
        let known = layout.v1.iter_mut().find(|p| entry.controllers.iter().any(|c| c == p.controllers[0].v1_name()));
        if let Some(place) = known {
            place.controllers.push(controller);
            continue;
        }
        match v1_place(&mounts, entry, controller, parent) {
            Ok(place) => layout.v1.push(place),
            Err(why) if controller.limits() => layout.missing.push((controller, why)),
            Err(_) => {}
        }
    }
    if rest.is_empty() {
        return layout;
    }
    match v2_tree(&mounts, &entries, parent) {
        Ok(tree) => layout.v2 = Some(Tree { wanted: rest, ..tree }),
        Err(why) => layout.missing.extend(rest.into_iter().map(|controller| (controller, why.clone()))),
    }
    layout
}

/// With what counts processor time on v1, beside what limits it.
fn with_accounting(wanted: &[Controller]) -> impl Iterator<Item = Controller> {
    let after = |c: Controller| (c == Controller::Cpu).then_some(Controller::Cpuacct);
    wanted.iter().flat_map(move |c| [Some(*c), after(*c)]).flatten()
}

/// Where hierarchies are mounted.
pub(crate) fn mount_points(mountinfo: &str) -> Vec<PathBuf> {
    mountinfo.lines().filter_map(mount).map(|mount| mount.point).collect()
}

fn v1_place(
    mounts: &[Mount],
    entry: &CgroupEntry,
    controller: Controller,
    parent: Option<&str>,
) -> Result<Place, String> {
    let name = controller.v1_name();
    let mount = mounts
        .iter()
        .rfind(|m| !m.v2 && m.options.split(',').any(|option| option == name))
        .ok_or_else(|| format!("the v1 hierarchy of the {name} controller is not mounted"))?;
    let below = below(mount, &entry.path, parent)?;
    Ok(Place {
        version: Version::V1,
        controllers: vec![controller],
        dir: under(&mount.point, &below),
        path: under(&mount.root, &below),
        enable: Vec::new(),
        scope: None,
    })
}

fn v2_tree(mounts: &[Mount], entries: &[CgroupEntry], parent: Option<&str>) -> Result<Tree, String> {
    let entry = entries.iter().find(|e| e.hierarchy == 0).ok_or("this kernel has no cgroup v2")?;
    let mount = mounts.iter().rfind(|m| m.v2).ok_or("cgroup v2 is not mounted")?;
    Ok(Tree {
        mount: mount.point.clone(),
        root: mount.root.clone(),
        own: below(mount, &entry.path, parent)?,
        wanted: Vec::new(),
    })
}

/// Joins without leaving a slash behind where nothing is to be joined.
pub(crate) fn under(dir: &Path, below: &Path) -> PathBuf {
    if below.as_os_str().is_empty() { dir.to_owned() } else { dir.join(below) }
}

/// The directory of a cgroup, relative to the mount point.
fn below(mount: &Mount, own: &Path, parent: Option<&str>) -> Result<PathBuf, String> {
    if let Some(parent) = parent {
        return Ok(PathBuf::from(parent.trim_start_matches('/')));
    }
    own.strip_prefix(&mount.root).map(Path::to_owned).map_err(|_outside| {
        format!(
            "this process is in the cgroup {}, which is outside of what is mounted on {}",
            own.display(),
            mount.point.display()
        )
    })
}

/// One line of mountinfo: `31 23 0:28 ROOT POINT OPTIONS [TAG...] - TYPE SOURCE SUPER_OPTIONS`.
fn mount(line: &str) -> Option<Mount> {
    let (head, tail) = line.split_once(" - ")?;
    let mut tail = tail.split(' ');
    let v2 = match tail.next()? {
        "cgroup" => false,
        "cgroup2" => true,
        _ => return None,
    };
    let mut head = head.split(' ').skip(3);
    Some(Mount { v2, root: unescape(head.next()?), point: unescape(head.next()?), options: tail.nth(1)?.to_owned() })
}

/// The kernel writes blanks and backslashes in paths as `\040`.
fn unescape(text: &str) -> PathBuf {
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(at) = rest.find('\\') {
        out.push_str(&rest[..at]);
        let code = rest.get(at + 1..at + 4).and_then(|digits| u8::from_str_radix(digits, 8).ok());
        match code {
            Some(byte) if byte.is_ascii() => {
                out.push(char::from(byte));
                rest = &rest[at + 4..];
            }
            _ => {
                out.push('\\');
                rest = &rest[at + 1..];
            }
        }
    }
    out.push_str(rest);
    PathBuf::from(out)
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use Controller::{Cpu, Cpuacct, Freezer, Memory, Pids};

    pub(crate) const HYBRID: (&str, &str) = (
        "31 23 0:28 / /sys/fs/cgroup rw - tmpfs tmpfs rw,mode=755\n\
         32 31 0:29 / /sys/fs/cgroup/cpu rw,relatime - cgroup cgroup rw,cpu,cpuacct\n\
         35 31 0:32 / /sys/fs/cgroup/memory rw shared:4 - cgroup cgroup rw,memory\n\
         39 31 0:36 / /sys/fs/cgroup/my\\040pids rw - cgroup cgroup rw,pids\n\
         41 31 0:38 / /sys/fs/cgroup/unified rw - cgroup2 cgroup2 rw\n",
        "8:pids:/\n4:memory:/job/7\n1:cpu,cpuacct:/\n0::/\n",
    );

    #[test]
    fn each_controller_has_its_own_path_in_v1() {
        let layout = find(HYBRID.0, HYBRID.1, &[Memory, Cpu, Pids], None);
        let seen: Vec<_> = layout.v1.iter().map(|p| (p.dir.to_str().unwrap(), p.path.to_str().unwrap())).collect();
        assert_eq!(
            seen,
            [("/sys/fs/cgroup/memory/job/7", "/job/7"), ("/sys/fs/cgroup/cpu", "/"), ("/sys/fs/cgroup/my pids", "/")]
        );
        assert_eq!(layout.v1[1].controllers, [Cpu, Cpuacct]);
        assert_eq!((layout.v2, layout.missing), (None, vec![]));
    }

    #[test]
    fn what_no_v1_hierarchy_has_is_looked_for_in_v2() {
        let layout = find(HYBRID.0, "4:memory:/job/7\n0::/user\n", &[Memory, Cpu, Pids], None);
        let tree = layout.v2.unwrap();
        assert_eq!(tree.wanted, [Cpu, Pids]);
        assert_eq!((tree.mount.to_str(), tree.own.to_str()), (Some("/sys/fs/cgroup/unified"), Some("user")));
    }

    #[test]
    fn controllers_of_one_hierarchy_share_a_place() {
        let mounts = "32 31 0:29 / /c rw - cgroup cgroup rw,cpu,memory\n";
        let layout = find(mounts, "1:cpu,memory:/\n", &[Memory, Cpu], None);
        assert_eq!(layout.v1.len(), 1);
        assert_eq!(layout.v1[0].controllers, [Memory, Cpu]);
    }

    #[test]
    fn what_serves_a_launch_on_v1_has_hierarchies_of_its_own_and_is_never_missed() {
        let mounts = "32 31 0:29 / /c rw - cgroup cgroup rw,cpu\n\
            33 31 0:30 / /a rw - cgroup cgroup rw,cpuacct\n34 31 0:31 / /f rw - cgroup cgroup rw,freezer\n\
            35 31 0:32 / /p rw - cgroup cgroup rw,pids\n";
        let cgroup = "1:cpu:/\n2:cpuacct:/x\n3:freezer:/\n4:pids:/\n5:memory:/\n0::/\n";
        let of = |wanted: &[Controller]| -> Vec<Vec<Controller>> {
            find(mounts, cgroup, wanted, None).v1.into_iter().map(|place| place.controllers).collect()
        };
        assert_eq!(of(&[Cpu, Pids, Freezer]), [[Cpu], [Cpuacct], [Pids], [Freezer]]);
        assert_eq!(of(&[Pids]), [[Pids]]);
        let layout = find(mounts, cgroup, &[Memory, Freezer], None);
        assert!(layout.v1.is_empty() && layout.missing.len() == 1, "{layout:?}");
        let layout = find(&mounts.replace("/f rw - cgroup", "/f rw - tmpfs"), cgroup, &[Cpu, Freezer], None);
        assert!(layout.v1.len() == 2 && layout.missing.is_empty(), "{layout:?}");
        let layout = find(mounts, "2:cpuacct:/\n3:freezer:/\n0::/\n", &[Cpu, Freezer], None);
        assert!(layout.v1.is_empty() && layout.missing.len() == 1, "cpu is on v2: {layout:?}");
    }

    #[test]
    fn a_bind_of_a_part_is_taken_off_the_path() {
        let mounts = "32 31 0:29 /docker/ab /sys/fs/cgroup/pids rw - cgroup cgroup rw,pids\n";
        let layout = find(mounts, "1:pids:/docker/ab/sub\n", &[Pids], None);
        assert_eq!(layout.v1[0].dir, Path::new("/sys/fs/cgroup/pids/sub"));
        assert_eq!(layout.v1[0].path, Path::new("/docker/ab/sub"));
        let outside = find(mounts, "1:pids:/other\n", &[Pids], None);
        assert!(outside.missing[0].1.contains("outside of what is mounted"));
    }

    #[test]
    fn a_parent_replaces_the_own_cgroup() {
        let layout = find(HYBRID.0, HYBRID.1, &[Memory], Some("/palisade"));
        assert_eq!(layout.v1[0].dir, Path::new("/sys/fs/cgroup/memory/palisade"));
        assert_eq!(layout.v1[0].path, Path::new("/palisade"));
    }

    #[test]
    fn what_is_not_there_is_named() {
        let says = |mounts, cgroup| find(mounts, cgroup, &[Pids], None).missing[0].1.clone();
        assert_eq!(says("", ""), "this kernel has no cgroup v2");
        assert_eq!(says("", "0::/\n"), "cgroup v2 is not mounted");
        assert_eq!(says("", "3:pids:/\n"), "the v1 hierarchy of the pids controller is not mounted");
    }
}
