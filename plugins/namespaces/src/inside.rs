//! What is set in a namespace once it is there: propagation, names, loopback, clocks.

use std::rc::Rc;

use palisade_abi::{Action, Context, Error, Evidence, Origin, Stage, Step};
use palisade_sys::procfs::Proc;
use palisade_sys::{mount, namespace, process};

use crate::born::{Born, Shared};
use crate::error::Told;
use crate::kinds::TIME;

/// `__NEW_UTS_LEN` of the kernel.
pub(crate) const LONGEST_NAME: usize = 64;

/// Cuts the tree of mounts off from the host's.
pub(crate) fn private(shared: &Rc<Shared>) -> Step {
    Step::new(Stage::Build, "makes every mount private", Private(Rc::clone(shared)))
        .why("a shared mount would carry what is mounted inside to the host, and the other way round")
}

struct Private(Rc<Shared>);

impl Action for Private {
    fn apply(&mut self, _context: &mut Context<'_>) -> Result<Evidence, Error> {
        mount::make_private_recursive().told(|| "cannot make the mounts private".to_owned())?;
        Ok(Evidence::default())
    }

    fn verify(&self, context: &Context<'_>) -> Result<Option<Evidence>, Error> {
        let process = self.0.process(context.pid()?)?;
        let mounts = process.read("mountinfo").told(|| "cannot read the workload's mounts".to_owned())?;
        match mounts.lines().find(|line| is_shared(line)) {
            Some(line) => Err(Error::setup(format!("a mount is not private: {line}"))),
            None => Ok(Some(Evidence("no mount is shared".to_owned()))),
        }
    }
}

/// Whether a line of mountinfo has a peer group: the optional fields stand between the options and `-`.
fn is_shared(line: &str) -> bool {
    let optional = line.split(' ').skip(6).take_while(|word| *word != "-");
    optional.into_iter().any(|word| word.starts_with("shared:") || word.starts_with("master:"))
}

/// Sets a name of the UTS namespace: the host name or the domain name.
pub(crate) fn name(field: &'static str, value: String, origin: Option<Origin>) -> Result<Step, Error> {
    if value.is_empty() || value.len() > LONGEST_NAME {
        return Err(Error::policy(format!("{field} has {} bytes", value.len()))
            .at(origin)
            .help("the kernel takes 1 to 64 bytes"));
    }
    let words = format!("sets the {field} `{value}`");
    let set = move |_: &mut Context<'_>| {
        let set = if field == "hostname" { namespace::set_hostname } else { namespace::set_domainname };
        set(&value).told(|| format!("cannot set the {field}"))?;
        let found = Proc::host().and_then(|proc| proc.read(&format!("sys/kernel/{field}")));
        let found = found.told(|| format!("cannot read the {field} back"))?;
        if found.trim_end() != value {
            return Err(Error::setup(format!("the {field} is `{}`, not `{value}`", found.trim_end())));
        }
        Ok(format!("reads back as `{value}`"))
    };
    Ok(Step::run(Stage::Build, words, set).why("the host's own name says where one is").origin(origin))
}

/// The most user namespaces in this one and below. The limit is each user namespace's own; CAP_SYS_RESOURCE in it lifts
/// it.
const NESTED: &str = "sys/user/max_user_namespaces";

/// Keeps user namespaces from being made inside.
pub(crate) fn no_nested() -> Step {
    let words = "allows no user namespace inside: user.max_user_namespaces is 0 in its own";
    let set = |_: &mut Context<'_>| {
        let proc = Proc::host().told(|| "cannot see the settings of the user namespace".to_owned())?;
        proc.write(NESTED, b"0").told(|| "cannot limit the user namespaces inside".to_owned()).map_err(|error| {
            let help =
                "in a container /proc/sys is read-only; there deny the calls: Group(\"@namespaces\") in `seccomp`";
            error.help(help)
        })?;
        let found = proc.read(NESTED).told(|| "cannot read the limit of user namespaces back".to_owned())?;
        if found.trim() != "0" {
            return Err(Error::setup(format!("{} user namespaces can be made inside", found.trim())));
        }
        Ok("user.max_user_namespaces reads back as 0")
    };
    Step::run(Stage::Build, words, set)
        .why("a new user namespace gives every capability over the kernel's less tested half")
}

/// Brings up `lo`.
pub(crate) fn loopback(shared: &Rc<Shared>, origin: Option<Origin>) -> Step {
    Step::new(Stage::Build, "brings the loopback interface up", Loopback(Rc::clone(shared)))
        .why("programs talk to themselves on 127.0.0.1; in a new namespace it is down")
        .origin(origin)
}

struct Loopback(Rc<Shared>);

impl Action for Loopback {
    fn apply(&mut self, _context: &mut Context<'_>) -> Result<Evidence, Error> {
        namespace::loopback_up().told(|| "cannot bring the loopback interface up".to_owned())?;
        Ok(Evidence::default())
    }

    fn verify(&self, context: &Context<'_>) -> Result<Option<Evidence>, Error> {
        let process = self.0.process(context.pid()?)?;
        // Absent without CONFIG_IP_MULTIPLE_TABLES' trie; then there is nothing to read.
        let Ok(routes) = process.read("net/fib_trie") else { return Ok(None) };
        if routes.contains("127.0.0.1") {
            return Ok(Some(Evidence("127.0.0.1 is local".to_owned())));
        }
        Err(Error::setup("the loopback interface has no address"))
    }
}

/// Moves the clocks. A child of clone3 is inside its new time namespace at once, and the first to enter freezes the
/// offsets. So the process makes the namespace for its children, sets the offsets, and then enters it itself.
pub(crate) fn clocks(monotonic: i64, boottime: i64, born: Born) -> Step {
    let words = format!("moves CLOCK_MONOTONIC by {monotonic} s and CLOCK_BOOTTIME by {boottime} s");
    Step::new(Stage::Build, words, Clocks { monotonic, boottime, born })
        .why("in a new time namespace; the host's uptime stays its own")
}

struct Clocks {
    monotonic: i64,
    boottime: i64,
    born: Born,
}

impl Action for Clocks {
    fn apply(&mut self, _context: &mut Context<'_>) -> Result<Evidence, Error> {
        move_clocks(self.monotonic, self.boottime).map(Evidence)
    }

    fn verify(&self, context: &Context<'_>) -> Result<Option<Evidence>, Error> {
        self.born.verify(context)
    }

    fn witness(&self, context: &Context<'_>) -> Result<Evidence, Error> {
        self.born.witness(context)
    }
}

fn move_clocks(monotonic: i64, boottime: i64) -> Result<String, Error> {
    namespace::unshare(TIME.flag).told(|| "cannot make a new time namespace".to_owned())?;
    // The file belongs to the host's root while the process is not dumpable. Nothing but palisade's own code is in
    // this process yet, so being dumpable for these calls gives nothing away that the launcher does not have too.
    let before = process::dumpable().told(|| "cannot read the dumpable flag".to_owned())?;
    let dumpable = |yes| process::set_dumpable(yes).told(|| "cannot set the dumpable flag".to_owned());
    dumpable(true)?;
    let set = || {
        let own = Proc::host()?.own()?;
        namespace::set_time_offsets(&own, monotonic, boottime)?;
        let found = own.read("timens_offsets")?;
        Ok((found, namespace::open_ns("/proc/self/ns/time_for_children")?))
    };
    let done: palisade_sys::Result<_> = set();
    dumpable(before)?;
    let (found, file) = done.told(|| "cannot move the clocks".to_owned())?;
    if !offsets_are(&found, monotonic, boottime) {
        return Err(Error::setup(format!("the offsets are `{}`", found.trim().replace('\n', ", "))));
    }
    namespace::setns(&file, TIME.flag).told(|| "cannot enter the new time namespace".to_owned())?;
    Ok("timens_offsets reads back".to_owned())
}

fn offsets_are(text: &str, monotonic: i64, boottime: i64) -> bool {
    let has = |name: &str, seconds: i64| {
        text.lines().any(|line| {
            let words: Vec<_> = line.split_ascii_whitespace().collect();
            words == [name, &seconds.to_string(), "0"]
        })
    };
    has("monotonic", monotonic) && has("boottime", boottime)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_peer_group_is_seen_among_the_optional_fields_only() {
        assert!(is_shared("27 1 254:0 / / rw,relatime shared:1 - ext4 /dev/vda rw"));
        assert!(is_shared("27 1 254:0 / / rw master:3 propagate_from:2 - ext4 /dev/vda rw"));
        assert!(!is_shared("27 1 254:0 / /shared:1 rw,relatime - ext4 shared:1 rw"));
    }

    #[test]
    fn the_offsets_are_read_back_whole() {
        assert!(offsets_are("monotonic           5         0\nboottime         -60         0\n", 5, -60));
        assert!(!offsets_are("monotonic           5         0\nboottime           0         0\n", 5, -60));
    }

    #[test]
    fn a_name_has_a_length() {
        assert!(name("hostname", String::new(), None).is_err());
        assert!(name("hostname", "x".repeat(65), None).is_err());
        let step = name("hostname", "box".to_owned(), None).unwrap();
        assert_eq!(format!("{step:?}"), "build: sets the hostname `box`");
    }
}
