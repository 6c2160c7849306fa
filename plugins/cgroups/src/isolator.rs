//! The plan of one launch, and the state that its steps share.

use crate::config::Config;
use crate::group::Group;
use crate::layout::{self, Layout, Place, Version};
use crate::limits::{Controller, Kind, Limit, names};
use crate::scope::Kept;
use crate::section::limits;
use crate::steps::{Attach, Join, Make, Set};
use crate::{usage, v1, v2};
use palisade_abi::ErrorContext as _;
use palisade_abi::{Demand, Error, Finish, Host, Isolator, Stage, Step};
use palisade_sys::fd;
use palisade_sys::procfs::Proc;
use std::cell::RefCell;
use std::rc::Rc;

/// So many processes can be killed one by one in time, if only they may not fork. More of them, each trying to, leave
/// too little of the processors to who kills them, so they are frozen first; on v1 that takes one more cgroup.
const FEW: u64 = 256;

/// The cgroups of this launch, once they are made.
pub(crate) type Groups = Rc<RefCell<Vec<Group>>>;

/// The isolator of one launch.
pub(crate) struct Cgroup {
    limits: Vec<Limit>,
    parent: Option<String>,
    demand: Demand,
    name: String,
    groups: Groups,
}

/// Where this host has room for the wanted limits, and for which it has none.
#[derive(Debug, Default)]
pub(crate) struct Room {
    pub(crate) places: Vec<Place>,
    pub(crate) without: Vec<(Controller, Error)>,
}

impl Cgroup {
    pub(crate) fn new(config: &Config, host: &Host) -> Result<Self, Error> {
        Ok(Self {
            limits: limits(config)?,
            parent: config.parent.as_ref().map(|parent| parent.value.as_str().to_owned()),
            demand: config.demand.as_ref().map_or(Demand::Require, |demand| demand.value),
            name: format!("palisade-{}", host.run_id()?),
            groups: Groups::default(),
        })
    }

    /// The controllers that are needed, each once.
    fn wanted(&self) -> Vec<Controller> {
        let needs = |c: &Controller| self.limits.iter().any(|l| l.controller == *c && l.kind != Kind::NoLimit);
        let mut wanted: Vec<Controller> = Controller::ALL.into_iter().filter(needs).collect();
        let few = self.limits.iter().any(|limit| matches!(limit.kind, Kind::PidsMax(most) if most <= FEW));
        if !wanted.is_empty() && !few {
            wanted.push(Controller::Freezer);
        }
        wanted
    }

    /// The steps, given what the host has room for.
    fn steps(&self, room: Room) -> Result<Vec<Step>, Error> {
        let mut steps = Vec::new();
        let keeper = Kept::default();
        let origin = self.limits.first().and_then(|limit| limit.origin);
        let moved = room.places.iter().any(|place| place.moves_by().is_some());
        if !room.places.is_empty() {
            let make = Make {
                places: room.places.clone(),
                name: self.name.clone(),
                groups: Rc::clone(&self.groups),
                keeper: Rc::clone(&keeper),
            };
            let why = "limits must be there before the process is; a fresh cgroup carries nobody else's";
            steps.push(Step::new(Stage::Prepare, make_words(&room.places), make).why(why).origin(origin));
        }
        for limit in &self.limits {
            let step = match lacking(limit, &room) {
                Some(error) if self.demand == Demand::Require => return Err(error.at(limit.origin)),
                Some(error) => Step::run(Stage::Prepare, limit.words(), move |_| Err::<String, _>(error.clone())),
                None => {
                    let set = Set::new(limit.clone(), Rc::clone(&self.groups));
                    Step::new(Stage::Prepare, limit.words(), set)
                }
            };
            steps.push(step.why(limit.why()).origin(limit.origin));
        }
        if room.places.iter().any(Place::is_attached) {
            let why = "as an ordinary user who is outside of what is the user's, only systemd may move it there";
            let attach = Attach { groups: Rc::clone(&self.groups), keeper };
            let words = "has systemd move the process into its cgroup";
            steps.push(Step::new(Stage::Attach, words, attach).why(why).origin(origin));
        }
        let attached = room.places.iter().any(Place::is_attached);
        if moved || attached {
            let (words, why) = if moved {
                let why = "first of all, so that what is built is counted; by itself, because the kernel lets nobody \
                    else move it without a wait of 10 ms";
                ("moves itself into its cgroup", why)
            } else {
                ("takes its cgroup for the root of what it sees", "it was moved there after its namespaces were made")
            };
            let join = Join::new(Rc::clone(&self.groups))?;
            steps.push(Step::new(Stage::Build, words, join).why(why).origin(origin));
        }
        Ok(steps.into_iter().map(|step| step.demand(self.demand)).collect())
    }
}

/// Why a limit cannot be had here.
fn lacking(limit: &Limit, room: &Room) -> Option<Error> {
    if limit.kind == Kind::NoLimit {
        return None;
    }
    if let Some((_, error)) = room.without.iter().find(|(controller, _)| *controller == limit.controller) {
        return Some(error.clone());
    }
    let place = room.places.iter().find(|place| place.controllers.contains(&limit.controller))?;
    match place.version {
        Version::V1 => v1::settings(limit).err(),
        Version::V2 => v2::settings(limit).err(),
    }
}

fn make_words(places: &[Place]) -> String {
    let of = |version| -> Vec<Controller> {
        let those = places.iter().filter(|place| place.version == version);
        those.flat_map(|place| place.controllers.clone()).collect()
    };
    let parts: Vec<String> = [Version::V1, Version::V2]
        .into_iter()
        .filter(|version| !of(*version).is_empty())
        .map(|version| format!("{} (cgroup {})", names(&of(version)), version.name()))
        .collect();
    let scope = places.iter().find_map(|place| place.scope.as_ref()).map(|scope| format!(", in {}", scope.words()));
    format!("makes a cgroup of its own for {}{}", parts.join(" and "), scope.unwrap_or_default())
}

/// Looks at the host: two files of procfs, and for v2 the files of the cgroups that could be divided.
pub(crate) fn room(wanted: &[Controller], parent: Option<&str>) -> Result<Room, Error> {
    let texts = || -> palisade_sys::Result<(String, String)> {
        let own = Proc::host()?.own()?;
        Ok((own.read("mountinfo")?, own.cgroup()?))
    };
    let (mountinfo, cgroup) = texts().doing(|| "cannot see which cgroups there are".to_owned())?;
    Ok(settle(layout::find(&mountinfo, &cgroup, wanted, parent), parent))
}

fn settle(layout: Layout, parent: Option<&str>) -> Room {
    let mut room = Room::default();
    for (controller, why) in layout.missing {
        let help = "boot with the controller on, and mount its hierarchy below /sys/fs/cgroup; \
            or write `demand: Degrade` in the policy to run without these limits";
        let message = format!("no cgroup can be made that limits {}: {why}", controller.name());
        room.without.push((controller, Error::host(message).help(help)));
    }
    for place in layout.v1 {
        match fd::may_write(&place.dir) {
            Ok(()) => room.places.push(place),
            Err(_) if !place.controllers.iter().any(|c| c.limits()) => {}
            Err(error) => {
                let message = format!("no cgroup can be made in {}", place.dir.display());
                let help = match parent {
                    Some(_) => "`parent` names a cgroup that must exist in every hierarchy and be yours to write",
                    None => {
                        "on cgroup v1 start as root, or be given a directory of your own in each hierarchy; \
                        or write `demand: Degrade` in the policy to run without these limits"
                    }
                };
                let error = Error::host(message).call(error.to_string(), error.errno()).help(help);
                room.without.extend(place.controllers.iter().map(|c| (*c, error.clone())));
            }
        }
    }
    if let Some(tree) = layout.v2 {
        match v2::choose(&tree, parent.is_some()) {
            Ok(place) => room.places.push(place),
            Err(error) => room.without.extend(tree.wanted.iter().map(|c| (*c, error.clone()))),
        }
    }
    room
}

impl Isolator for Cgroup {
    fn plan(&self, _host: &Host) -> Result<Vec<Step>, Error> {
        let wanted = self.wanted();
        // Nothing is tried where the policy says Off, so nothing is looked for.
        if wanted.is_empty() || self.demand == Demand::Off {
            return self.steps(Room::default());
        }
        self.steps(room(&wanted, self.parent.as_deref())?)
    }

    fn sample(&mut self) -> Result<Vec<(String, u64)>, Error> {
        usage::sample(&self.groups.borrow())
    }

    fn finish(&mut self) -> Result<Finish, Error> {
        usage::finish(&self.groups.borrow(), &self.limits)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::layout::tests::HYBRID;
    use crate::section::tests::section;

    fn cgroup(text: &str) -> Cgroup {
        let host = Host::new([("run_id".to_owned(), "7-1".to_owned())]);
        Cgroup::new(&section(text), &host).unwrap()
    }

    fn plan(text: &str, room: Room) -> Vec<String> {
        cgroup(text).steps(room).unwrap().iter().map(|step| format!("{step:?}")).collect()
    }

    fn v1() -> Room {
        let layout = layout::find(HYBRID.0, HYBRID.1, &[Controller::Memory, Controller::Cpu, Controller::Pids], None);
        Room { places: layout.v1, without: vec![] }
    }

    const ALL: &str = r#"( memory: (max: "512MiB"), cpu: (max: "200%"), pids: (max: 256) )"#;

    #[test]
    fn the_plan_for_v1_moves_the_process() {
        assert_eq!(
            plan(ALL, v1()),
            [
                "prepare: makes a cgroup of its own for memory, cpu, cpuacct, pids (cgroup v1)",
                "prepare: limits memory to 512MiB (memory.max)",
                "prepare: allows no swap (memory.swap)",
                "prepare: limits CPU time to 200% of one CPU (cpu.max)",
                "prepare: limits processes and threads to 256 (pids.max)",
                "build: moves itself into its cgroup",
            ]
        );
    }

    #[test]
    fn the_plan_for_v2_does_not() {
        let place = Place { version: Version::V2, controllers: vec![Controller::Pids], ..v1().places[0].clone() };
        let room = Room { places: vec![place], without: vec![] };
        assert_eq!(
            plan("( pids: (max: 256) )", room),
            [
                "prepare: makes a cgroup of its own for pids (cgroup v2)",
                "prepare: limits processes and threads to 256 (pids.max)",
            ]
        );
    }

    #[test]
    fn what_cannot_be_had_is_an_error_unless_the_policy_says_degrade() {
        let room = || Room { places: vec![], without: vec![(Controller::Pids, Error::host("no pids").help("do"))] };
        let error = cgroup("( pids: (max: 5) )").steps(room()).unwrap_err();
        assert_eq!(error.message, "no pids");
        let steps = plan("( pids: (max: 5), demand: Degrade )", room());
        assert_eq!(steps, ["prepare: limits processes and threads to 5 (pids.max)"]);
    }

    #[test]
    fn v1_cannot_slow_down_before_the_limit() {
        let text = r#"( memory: (max: "1GiB", high: "512MiB") )"#;
        assert!(cgroup(text).steps(v1()).unwrap_err().message.contains("memory.high"));
    }

    #[test]
    fn no_cgroup_is_made_where_there_is_no_limit() {
        let cgroup = cgroup(r#"( memory: (max: "max") )"#);
        assert!(cgroup.wanted().is_empty());
        assert_eq!(cgroup.plan(&Host::default()).unwrap().len(), 1);
    }
}
