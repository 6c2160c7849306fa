//! What is new, what is joined, and the plan of one launch.

use std::rc::Rc;

use palisade_abi::{Act, At, Denial, Error, Host, Isolator, Origin, Stage, Step};
use palisade_sys::procfs::Proc;

use crate::born::{Born, Shared};
use crate::config::{Choice, Config, Ids, Nested, User};
use crate::error::Told;
use crate::ids::{self, IdMap, Launcher};
use crate::join::Join;
use crate::kinds::{CGROUP, IPC, Kind, MOUNT, NET, OTHERS, PID, TIME, USER, UTS};
use crate::{explain, inside, maps, private};

const CAP_SYS_PTRACE: u32 = 19;
const CAP_SYS_ADMIN: u32 = 21;

/// The plugin, configured.
pub(crate) struct Namespaces {
    config: Config,
}

/// The user namespace, decided.
#[derive(Clone, Debug)]
enum Whose {
    New(Option<Origin>),
    Host,
    Join(Join),
}

/// What the policy asks for, kind by kind.
struct Wanted {
    user: Whose,
    new: Vec<(&'static Kind, Option<Origin>)>,
    joins: Vec<Join>,
}

impl Wanted {
    fn is_new(&self, kind: &Kind) -> bool {
        self.new.iter().any(|(new, _)| *new == kind)
    }
}

impl Namespaces {
    /// Checks what can be checked without the host.
    pub(crate) fn new(config: Config) -> Result<Self, Error> {
        let new = |choice: &Option<At<Choice>>| choice.as_ref().is_some_and(|c| c.value == Choice::New);
        let needs = |what: &str, origin, field: &str| {
            let message = format!("{what} would be set in a namespace that is not the workload's own");
            Err(Error::policy(message).at(origin).help(format!("add `{field}: New`, or remove the line")))
        };
        let names = [("hostname", &config.hostname), ("domainname", &config.domainname)];
        for (field, name) in names {
            if let Some(name) = name.as_ref().filter(|_| !new(&config.uts)) {
                return needs(&format!("`{field}`"), name.origin, "uts");
            }
        }
        if let Some(up) = config.loopback.as_ref().filter(|up| up.value && !new(&config.net)) {
            return needs("`loopback`", up.origin, "net");
        }
        let offsets = [&config.time_offsets.boottime, &config.time_offsets.monotonic];
        if let Some(offset) = offsets.into_iter().flatten().next().filter(|_| !new(&config.time)) {
            return needs("`time_offsets`", offset.origin, "time");
        }
        Ok(Self { config })
    }

    fn choice(&self, kind: &Kind) -> Option<&At<Choice>> {
        let config = &self.config;
        let fields = [
            (&MOUNT, &config.mount),
            (&PID, &config.pid),
            (&NET, &config.net),
            (&IPC, &config.ipc),
            (&UTS, &config.uts),
            (&CGROUP, &config.cgroup),
            (&TIME, &config.time),
        ];
        fields.into_iter().find(|(of, _)| *of == kind).and_then(|(_, choice)| choice.as_ref())
    }

    fn wanted(&self, host: &Host) -> Wanted {
        let user = self.config.user.as_ref();
        let origin = user.and_then(|user| user.origin);
        let user = match user.map_or(&User::Host, |user| &user.value) {
            User::New => Whose::New(origin),
            User::AsNeeded if !host.has_capability(CAP_SYS_ADMIN) => Whose::New(origin),
            User::Host | User::AsNeeded => Whose::Host,
            User::Join(target) => Whose::Join(Join::new(&USER, target, origin, host)),
        };
        let mut wanted = Wanted { user, new: Vec::new(), joins: Vec::new() };
        for kind in OTHERS {
            let Some(choice) = self.choice(kind) else { continue };
            match &choice.value {
                Choice::Host => {}
                Choice::New => wanted.new.push((kind, choice.origin)),
                Choice::Join(target) => wanted.joins.push(Join::new(kind, target, choice.origin, host)),
            }
        }
        // First of all, so that the others are entered with its capabilities.
        if let Whose::Join(join) = &wanted.user {
            wanted.joins.insert(0, join.clone());
        }
        wanted
    }

    /// What can be known to fail fails before anything starts.
    fn check(&self, wanted: &Wanted, host: &Host) -> Result<(), Error> {
        wanted.joins.iter().try_for_each(Join::found)?;
        let first = wanted.new.first().map(|(kind, origin)| (*kind, *origin));
        let first = first.or(wanted.joins.first().map(|join| (join.kind, join.origin)));
        if let (Some((kind, origin)), Whose::Host) = (first, &wanted.user)
            && !host.has_capability(CAP_SYS_ADMIN)
        {
            let message = format!("`{}` needs CAP_SYS_ADMIN, which the launcher lacks", kind.field);
            return Err(Error::host(message).at(origin).help("add `user: AsNeeded`, or start palisade as root"));
        }
        if let Some(ids) = self.config.ids.as_ref().filter(|_| !matches!(wanted.user, Whose::New(_))) {
            return Err(Error::policy("`ids` has no new user namespace to be mapped in")
                .at(ids.origin)
                .help("write `user: New`; AsNeeded makes one only where the launcher lacks CAP_SYS_ADMIN"));
        }
        if let Some(setgroups) = self.config.setgroups.as_ref().filter(|_| !matches!(wanted.user, Whose::New(_))) {
            return Err(Error::policy("`setgroups` has no new user namespace to be set in")
                .at(setgroups.origin)
                .help("write `user: New`, or remove the line"));
        }
        let nested = self.config.nested.as_ref().filter(|nested| nested.value == Nested::Deny);
        if let Some(nested) = nested.filter(|_| !matches!(wanted.user, Whose::New(_))) {
            return Err(Error::policy("`nested: Deny` has no new user namespace to hold in")
                .at(nested.origin)
                .help("write `user: New`, or deny the calls: Group(\"@namespaces\") in `seccomp`"));
        }
        if let (Whose::Join(_), true) = (&wanted.user, wanted.is_new(&PID)) {
            return Err(Error::policy("a new pid namespace would not belong to the user namespace that is joined")
                .at(self.choice(&PID).and_then(|choice| choice.origin))
                .help("join the pid namespace of the same process, or leave it the host's"));
        }
        let mount = wanted.joins.iter().find(|join| join.kind == &MOUNT);
        if let Some(join) = mount.filter(|_| host.uses("filesystem")) {
            return Err(Error::policy("a view cannot be built in a mount namespace that others use")
                .at(join.origin)
                .help("write `mount: New`, or drop the plugin `filesystem`"));
        }
        match &wanted.user {
            Whose::New(origin) => user_namespaces_allowed(host).map_err(|error| error.at(*origin)),
            _ => Ok(()),
        }
    }

    fn id_map(&self, wanted: &Wanted, host: &Host) -> Result<Option<IdMap>, Error> {
        let Whose::New(origin) = wanted.user else { return Ok(None) };
        let read = || -> palisade_sys::Result<(String, String)> {
            let own = Proc::host()?.own()?;
            Ok((own.read("uid_map")?, own.read("gid_map")?))
        };
        let (uid_map, gid_map) = read().told(|| "cannot read the launcher's own id maps".to_owned())?;
        let ids = self.config.ids.clone().unwrap_or(At { value: Ids::Auto, origin });
        let map = ids::decide(&ids, self.config.setgroups.as_ref(), &Launcher::new(host, &uid_map, &gid_map)?)?;
        let view = wanted.is_new(&MOUNT) || wanted.joins.iter().any(|join| join.kind == &MOUNT);
        if map.covers_root() && !view {
            return Err(Error::policy("the id map covers root of the host, and the view is the host's own")
                .at(ids.origin)
                .help("every setting in /proc/sys and /sys could be written; use ids: Auto, or mount: New with a view of its own"));
        }
        Ok(Some(map))
    }

    fn new_steps(&self, wanted: &Wanted, shared: &Rc<Shared>, host: &Host) -> Vec<Step> {
        let user = match wanted.user {
            Whose::New(origin) => Some((&USER, origin)),
            _ => None,
        };
        let mut steps = Vec::new();
        for (kind, origin) in user.into_iter().chain(wanted.new.iter().copied()) {
            if kind == &TIME && self.offsets().is_some() {
                continue;
            }
            let by_itself = matches!(wanted.user, Whose::Join(_));
            let words = format!("new {} namespace: {} of its own", kind.field, kind.what);
            let born = Born { kind, shared: Rc::clone(shared), by_itself };
            let step =
                if by_itself { Step::new(Stage::Build, words, born) } else { Step::at_clone(kind.flag, words, born) };
            let why = match kind {
                &PID if !wanted.is_new(&MOUNT) || !host.uses("filesystem") => {
                    "no process outside can be signalled; but /proc still shows the host's, as nothing mounts a new one"
                }
                kind => kind.why,
            };
            steps.push(step.why(why).origin(origin).witnessed(!shared.host_may_look));
        }
        steps
    }

    /// (monotonic, boottime) in seconds, where any is set.
    fn offsets(&self) -> Option<(i64, i64, Option<Origin>)> {
        let offsets = &self.config.time_offsets;
        let origin = offsets.boottime.as_ref().or(offsets.monotonic.as_ref())?.origin;
        let seconds = |offset: &Option<At<_>>| offset.as_ref().map_or(0, |offset: &At<crate::config::Offset>| offset.0);
        Some((seconds(&offsets.monotonic), seconds(&offsets.boottime), origin))
    }

    /// What is set inside, once the process has its ids.
    fn inside_steps(&self, wanted: &Wanted, shared: &Rc<Shared>) -> Result<Vec<Step>, Error> {
        let mut steps = Vec::new();
        if let Some((monotonic, boottime, origin)) = self.offsets() {
            let born = Born { kind: &TIME, shared: Rc::clone(shared), by_itself: false };
            steps.push(inside::clocks(monotonic, boottime, born).origin(origin).witnessed(!shared.host_may_look));
        }
        if !shared.host_may_look && (!wanted.new.is_empty() || matches!(wanted.user, Whose::New(_))) {
            let look = Rc::clone(shared);
            let words = "looks from inside whether the new namespaces are new";
            let step = Step::run(Stage::Build, words, move |_| look.look_from_inside());
            steps.push(step.why("an ordinary user may not look from outside; compared before the workload starts"));
        }
        if wanted.is_new(&MOUNT) {
            steps.push(inside::private(shared).origin(self.choice(&MOUNT).and_then(|choice| choice.origin)));
        }
        if let Some(nested) = self.config.nested.as_ref().filter(|nested| nested.value == Nested::Deny) {
            steps.push(inside::no_nested().origin(nested.origin));
        }
        for (field, name) in [("hostname", &self.config.hostname), ("domainname", &self.config.domainname)] {
            if let Some(name) = name {
                steps.push(inside::name(field, name.value.as_str().to_owned(), name.origin)?);
            }
        }
        let loopback = self.config.loopback.as_ref();
        if wanted.is_new(&NET) && loopback.is_none_or(|up| up.value) {
            let origin = loopback.map_or(self.choice(&NET).and_then(|net| net.origin), |up| up.origin);
            steps.push(inside::loopback(shared, origin));
        }
        Ok(steps)
    }
}

impl Isolator for Namespaces {
    fn plan(&self, host: &Host) -> Result<Vec<Step>, Error> {
        let wanted = self.wanted(host);
        self.check(&wanted, host)?;
        let mut kinds: Vec<&Kind> = wanted.new.iter().map(|(kind, _)| *kind).collect();
        kinds.extend(matches!(wanted.user, Whose::New(_)).then_some(&USER));
        let shared = Rc::new(Shared::new(&kinds, host.has_capability(CAP_SYS_PTRACE))?);
        let mut steps: Vec<Step> = wanted.joins.iter().flat_map(|join| join.steps(&shared)).collect();
        if let Whose::Join(_) = wanted.user {
            steps.push(maps::joined(host.workload_uid(), host.workload_gid()));
        }
        steps.extend(self.new_steps(&wanted, &shared, host));
        let map = self.id_map(&wanted, host)?.map(Rc::new);
        let covers_root = map.as_ref().is_some_and(|map| map.covers_root());
        let ids =
            self.config.ids.as_ref().map_or_else(|| self.config.user.as_ref().and_then(|u| u.origin), |ids| ids.origin);
        if let Some(map) = map {
            steps.extend(maps::steps(&map, &shared).into_iter().map(|step| step.origin(ids)));
        }
        steps.extend(self.inside_steps(&wanted, &shared)?);
        if covers_root {
            steps.push(private::step().origin(ids));
        }
        Ok(steps)
    }

    fn explain(&self, act: &Act) -> Option<Denial> {
        explain::explain(&self.config, act)
    }
}

/// Whether this launcher may make a user namespace at all, as far as the settings say.
fn user_namespaces_allowed(host: &Host) -> Result<(), Error> {
    let setting = |name: &str| {
        let text = Proc::host().and_then(|proc| proc.read(&format!("sys/{name}"))).ok();
        text.and_then(|text| text.trim().parse::<u64>().ok())
    };
    if setting("user/max_user_namespaces") == Some(0) {
        return Err(Error::host("user namespaces are switched off on this host")
            .help("as root: sysctl user.max_user_namespaces=15000"));
    }
    if !host.has_capability(CAP_SYS_ADMIN) && setting("kernel/unprivileged_userns_clone") == Some(0) {
        return Err(Error::host("user namespaces are switched off for ordinary users on this host")
            .help("as root: sysctl kernel.unprivileged_userns_clone=1"));
    }
    Ok(())
}

#[cfg(test)]
mod tests;
