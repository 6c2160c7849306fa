//! The map is written by the host, read back, and the process takes its ids.

use std::rc::Rc;

use palisade_abi::{Action, Context, Error, Evidence, Stage, Step};
use palisade_sys::procfs::{Proc, ProcPid};
use palisade_sys::{caps, ids, process};

use crate::born::Shared;
use crate::config::Setgroups;
use crate::error::Told;
use crate::ids::{IdMap, Range, Side, parse_map};
use crate::subid;

/// Makes the steps for a map: write it, and take the ids.
pub(crate) fn steps(map: &Rc<IdMap>, shared: &Rc<Shared>) -> Vec<Step> {
    let by = if map.helpers { " through newuidmap and newgidmap" } else { "" };
    let words = format!("maps uid {} and gid {}{by}", map.uid, map.gid);
    let write = Write { map: Rc::clone(map), shared: Rc::clone(shared) };
    let write = Step::new(Stage::Attach, words, write).why(why(map));
    let (uid, gid) = (map.become_uid, map.become_gid);
    let groups = if map.clear_groups { " and no other group" } else { "" };
    let map = Rc::clone(map);
    let take =
        Step::run(Stage::Build, format!("becomes uid {uid}, gid {gid}{groups} inside"), move |_| become_ids(&map))
            .why("files of the view belong to the workload; capabilities hold inside until they are dropped");
    vec![write, take]
}

fn why(map: &IdMap) -> &'static str {
    match (&map.uid, map.setgroups) {
        (Side::Unowned { .. }, _) => "what breaks out is nobody on the host",
        (_, Setgroups::Deny) => "setgroups is denied: dropping a group could open what was closed to that group",
        _ => "ids inside must mean something outside",
    }
}

struct Write {
    map: Rc<IdMap>,
    shared: Rc<Shared>,
}

impl Write {
    fn write(&self, process: &ProcPid, name: &str, program: &str, side: &Side) -> Result<(), Error> {
        let ranges = side.ranges(process.id())?;
        if self.map.helpers {
            return subid::write(program, process.id(), &ranges);
        }
        process.write(name, text(&ranges).as_bytes()).told(|| format!("cannot write the process's {name}"))
    }

    fn read_back(&self, process: &ProcPid, name: &str, side: &Side, pid: i32) -> Result<(), Error> {
        let found = process.read(name).told(|| format!("cannot read the process's {name}"))?;
        if parse_map(&found) == side.ranges(pid)? {
            return Ok(());
        }
        Err(Error::setup(format!("the workload's {name} is `{}`, not {side}", found.trim())))
    }
}

fn text(ranges: &[Range]) -> String {
    let lines: Vec<_> =
        ranges.iter().map(|range| format!("{} {} {}\n", range.inside, range.outside, range.count)).collect();
    lines.concat()
}

impl Action for Write {
    fn apply(&mut self, context: &mut Context<'_>) -> Result<Evidence, Error> {
        let process = self.shared.process(context.init_pid()?)?;
        // The order is the kernel's: setgroups can be denied only before the first gid is mapped.
        if self.map.setgroups == Setgroups::Deny {
            process.write("setgroups", b"deny").told(|| "cannot deny setgroups".to_owned())?;
        }
        self.write(&process, "gid_map", "newgidmap", &self.map.gid)?;
        self.write(&process, "uid_map", "newuidmap", &self.map.uid)?;
        Ok(Evidence::default())
    }

    fn verify(&self, context: &Context<'_>) -> Result<Option<Evidence>, Error> {
        let first = context.init_pid()?;
        let process = self.shared.process(context.pid()?)?;
        self.read_back(&process, "uid_map", &self.map.uid, first)?;
        self.read_back(&process, "gid_map", &self.map.gid, first)?;
        let setgroups = process.read("setgroups").told(|| "cannot read the process's setgroups".to_owned())?;
        let wanted = match self.map.setgroups {
            Setgroups::Allow => "allow",
            Setgroups::Deny => "deny",
        };
        if setgroups.trim() != wanted {
            return Err(Error::setup(format!("setgroups is `{}`, not `{wanted}`", setgroups.trim())));
        }
        let uid = self.map.uid.ranges(first)?;
        Ok(Some(Evidence(format!("uid_map {}, setgroups {wanted}", text(&uid).trim_end().replace('\n', ", ")))))
    }
}

/// Takes the ids inside, and keeps all capabilities.
fn become_ids(map: &IdMap) -> Result<String, Error> {
    let before = caps::get().told(|| "cannot read the capabilities".to_owned())?;
    if map.clear_groups {
        ids::set_groups(&[]).told(|| "cannot drop the supplementary groups".to_owned())?;
    }
    let unowned = matches!(map.uid, Side::Unowned { .. });
    if unowned && !ids::getgroups().told(|| "cannot read the supplementary groups".to_owned())?.is_empty() {
        return Err(Error::setup("the process has the launcher's supplementary groups, and cannot drop them")
            .help("remove `setgroups: Deny`, or start palisade without supplementary groups"));
    }
    // Where the launcher's id is 0 inside too, leaving it would take the capabilities along.
    process::keep_caps(true).told(|| "cannot keep the capabilities".to_owned())?;
    ids::set_resgid(map.become_gid).told(|| format!("cannot become gid {} inside", map.become_gid))?;
    ids::set_resuid(map.become_uid).told(|| format!("cannot become uid {} inside", map.become_uid))?;
    let mut now = caps::get().told(|| "cannot read the capabilities".to_owned())?;
    if now.effective != before.effective {
        now.effective = before.effective.and(now.permitted);
        caps::set(now).told(|| "cannot raise the capabilities again".to_owned())?;
    }
    process::keep_caps(false).told(|| "cannot let go of the capabilities".to_owned())?;
    let lost = before.effective.minus(now.effective);
    if !lost.is_empty() {
        return Err(Error::setup(format!("the change of ids took capabilities: {lost}"))
            .help("a securebit of the launcher may do this; start it without"));
    }
    Ok(format!("uid {}, gid {}", process::euid(), process::egid()))
}

/// The ids in a joined user namespace, where the map is somebody else's: those that the policy fixes, else root's where
/// that is mapped, else the first that is.
pub(crate) fn joined(uid: Option<u32>, gid: Option<u32>) -> Step {
    let named = |id: Option<u32>| id.map_or("0, or the first that is mapped".to_owned(), |id| id.to_string());
    let words = format!("becomes uid {} and gid {}", named(uid), named(gid));
    let step = Step::run(Stage::Build, words, move |_| {
        // Where a mount namespace was joined, too, there may be no /proc of ours; then it is root's or none.
        let maps = Proc::host().and_then(|proc| proc.own()?.id_maps()).unwrap_or_default();
        let first = |map: &palisade_sys::ids::IdMap| {
            if map.outside(0).is_some() { 0 } else { map.first_inside().unwrap_or(0) }
        };
        let map = IdMap {
            uid: Side::Fixed(vec![]),
            gid: Side::Fixed(vec![]),
            helpers: false,
            setgroups: Setgroups::Allow,
            clear_groups: false,
            become_uid: uid.unwrap_or_else(|| first(&maps.0)),
            become_gid: gid.unwrap_or_else(|| first(&maps.1)),
        };
        become_ids(&map)
    });
    step.why("the launcher's own ids may not exist in there")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_map_is_one_line_a_range() {
        let ranges = [Range { inside: 0, outside: 100_000, count: 65536 }, Range::one(70_000, 5)];
        assert_eq!(text(&ranges), "0 100000 65536\n70000 5 1\n");
        assert_eq!(parse_map(&text(&ranges)), ranges);
    }
}
