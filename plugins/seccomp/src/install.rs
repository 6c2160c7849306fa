//! The plan and its one step: the program is compiled before the process exists and installed last.

use crate::calls::Arch;
use crate::config::Config;
use crate::listener::{Listener, Rules};
use crate::listing::listing;
use crate::program::Ask;
use crate::table::{Decided, Table, build, check};
use crate::{groups, oci, program};
use palisade_abi::ErrorContext as _;
use palisade_abi::{
    Act, Action, At, Context, Demand, Denial, Error, Evidence, Finding, Host, Isolator, Stage, Step, Support,
};
use palisade_sys::Errno;
use palisade_sys::procfs::{Proc, Status};
use palisade_sys::seccomp::{self, Instruction};
use std::cell::RefCell;
use std::collections::BTreeSet;
use std::fs::File;
use std::io::Read as _;
use std::os::fd::{AsFd as _, OwnedFd};
use std::path::Path;

/// `CAP_SYS_ADMIN`, which may install a filter without no_new_privs.
const CAP_SYS_ADMIN: u32 = 21;
/// `Seccomp:` in `/proc/PID/status`: a filter is in force.
const MODE_FILTER: u32 = 2;
const NNP_HELP: &str = "add \"privileges\": (no_new_privs: true), or run as root";

/// The section, checked.
#[derive(Debug)]
pub(crate) struct Filter {
    config: Config,
    /// Calls that a profile names and no architecture has.
    unknown: BTreeSet<String>,
    /// What the filter will ask about, and, once it is in force, who answers.
    rules: RefCell<Option<Rules>>,
    listener: Option<Listener>,
}

impl Filter {
    /// Checks the section.
    ///
    /// # Errors
    /// A policy error for rules that contradict themselves or do nothing.
    pub(crate) fn new(config: Config) -> Result<Self, Error> {
        // With a profile there is more to come, and it is checked then.
        if config.oci_profile.is_none() {
            check(&config)?;
        }
        Ok(Self::of(config, BTreeSet::new()))
    }

    fn of(config: Config, unknown: BTreeSet<String>) -> Self {
        Self { config, unknown, rules: RefCell::new(None), listener: None }
    }

    /// The same with the rules of its profile.
    fn expanded(&self, host: &Host) -> Result<Option<Self>, Error> {
        let Some(path) = &self.config.oci_profile else { return Ok(None) };
        let wrong = |why: String| {
            Error::policy(format!("the profile {} cannot be used: {why}", path.value))
                .at(path.origin)
                .help("it must be the `linux.seccomp` object of the OCI runtime specification, as JSON")
        };
        let arch = Arch::host().ok_or_else(strange)?;
        let text = read_profile(path.as_path()).map_err(|error| match error.kind() {
            // Another host may have it.
            std::io::ErrorKind::NotFound => Error::host(format!("this host has no profile {}: {error}", path.value))
                .at(path.origin)
                .help("put the profile there, or name one that is there"),
            _ => wrong(error.to_string()),
        })?;
        let profile = oci::read(&text, arch, host.kernel()?).map_err(wrong)?;
        let mut config = self.config.clone();
        let line = |rule| At { value: rule, origin: path.origin };
        config.default = config.default.or(profile.default.map(|action| At { value: action, origin: path.origin }));
        config.log = config.log.or(profile.log.then_some(At { value: true, origin: path.origin }));
        config.deny.extend(profile.deny.into_iter().map(line));
        config.allow.extend(profile.allow.into_iter().map(line));
        check(&config)?;
        Ok(Some(Self::of(config, profile.unknown)))
    }

    fn origin(&self) -> Option<palisade_abi::Origin> {
        let Config { default, deny, allow, .. } = &self.config;
        let rule = deny.first().or(allow.first()).and_then(|rule| rule.origin);
        default.as_ref().and_then(|at| at.origin).or(rule)
    }

    /// The table, for an architecture; refuses one with which nothing could be started.
    pub(crate) fn table(&self, arch: Arch) -> Result<Table, Error> {
        let table = build(&self.config, arch);
        let stuck: Vec<&str> = groups::LAUNCH
            .iter()
            .copied()
            .filter(|name| table.verdict(name).is_some_and(|verdict| !verdict.may_pass()))
            .collect();
        if stuck.is_empty() {
            return Ok(table);
        }
        let denied = self.config.deny.iter().find(|rule| names_one_of(rule, &stuck));
        Err(Error::policy(format!("the filter denies {}, so the workload could not be started", stuck.join(", ")))
            .at(denied.and_then(|rule| rule.origin).or(self.origin()))
            .help(match denied {
                Some(_) => "take it out of `deny`; what may be executed is better limited by \"landlock\"",
                None => "add Group(\"@launch\") to `allow`",
            }))
    }

    fn compile(&self) -> Result<(Table, Vec<Instruction>), Error> {
        let table = self.table(Arch::host().ok_or_else(strange)?)?;
        let program = program::compile(&table, &|_number| Ask::Nothing).map_err(|error| error.at(self.origin()))?;
        Ok((table, program))
    }

    /// The same program, but it asks; and what answers it.
    fn compile_asking(&self, table: &Table) -> Result<(Rules, Vec<Instruction>), Error> {
        let hand_over = table.verdict("sendmsg");
        if hand_over.is_some_and(|verdict| !verdict.may_pass()) {
            let why = "why things are denied cannot be told: the filter denies sendmsg, with which its listener is handed over";
            return Err(Error::policy(why).at(self.origin()).help("run it without an explanation, or allow sendmsg"));
        }
        let rules = Rules { config: self.config.clone(), table: table.clone() };
        let program = program::compile(table, &rules.ask()).map_err(|error| error.at(self.origin()))?;
        Ok((rules, program))
    }
}

fn strange() -> Error {
    Error::host("the system call numbers of this machine are not known")
        .help("filters are made for x86-64 and 64-bit Arm; leave \"seccomp\" out of the policy")
}

fn read_profile(path: &Path) -> std::io::Result<String> {
    let mut text = String::new();
    let read = File::open(path)?.take(oci::LARGEST + 1).read_to_string(&mut text)?;
    if u64::try_from(read).is_ok_and(|read| read <= oci::LARGEST) {
        return Ok(text);
    }
    Err(std::io::Error::other("it is larger than 1 MiB"))
}

fn names_one_of(rule: &At<crate::rule::Rule>, names: &[&str]) -> bool {
    use crate::rule::Rule;
    match &rule.value {
        Rule::Call(call) => names.contains(&call.0),
        Rule::Answer(inner, _) => matches!(&**inner, Rule::Call(call) if names.contains(&call.0)),
        Rule::Group(_) | Rule::Except(..) | Rule::When(..) => false,
    }
}

impl Isolator for Filter {
    fn plan(&self, host: &Host) -> Result<Vec<Step>, Error> {
        let demand = self.config.demand.as_ref().map_or(Demand::Require, |at| at.value);
        if demand == Demand::Off {
            return Ok(Vec::new());
        }
        let expanded = self.expanded(host)?;
        let this = expanded.as_ref().unwrap_or(self);
        let (table, mut program) = this.compile()?;
        if demand == Demand::Require {
            self.host_can(host)?;
        }
        let decided = Decided::of(&this.config);
        let words = words(&table, &decided, program.len()) + &this.profile_words();
        let log = this.config.log.as_ref().is_some_and(|at| at.value);
        let flags = if log { seccomp::FLAG_LOG } else { 0 };
        let asks = host.explains();
        if asks {
            let (rules, asking) = this.compile_asking(&table)?;
            program = asking;
            self.rules.replace(Some(rules));
        }
        let install = Install { program, flags, arch: table.arch, asks, listener: None };
        let step = Step::new(Stage::Seal, words, install)
            .why("closes kernel code that the workload has no use for; last, since what it denies palisade may still need")
            .origin(self.origin())
            .demand(demand)
            .after("landlock");
        Ok(vec![step])
    }

    fn take(&mut self, fd: OwnedFd) -> Result<(), Error> {
        self.listener = self.rules.take().map(|rules| Listener::new(rules, fd));
        Ok(())
    }

    fn watch(&self) -> Vec<i32> {
        self.listener.as_ref().map(Listener::watch).unwrap_or_default()
    }

    fn ready(&mut self, _fd: i32) -> Result<(), Error> {
        self.listener.as_mut().map_or(Ok(()), Listener::ready)
    }

    fn acts(&mut self) -> Result<Vec<Act>, Error> {
        Ok(self.listener.as_ref().map(Listener::acts).unwrap_or_default())
    }

    fn explain(&self, act: &Act) -> Option<Denial> {
        if let Some(listener) = &self.listener {
            return listener.explain(act);
        }
        let signal = act.number("signal")?;
        let table = build(&self.config, Arch::host()?);
        Rules { config: self.config.clone(), table }.ended_by(signal)
    }

    fn settle(&mut self) -> Result<(), Error> {
        self.listener.as_mut().map_or(Ok(()), Listener::settle)
    }
}

impl Filter {
    fn profile_words(&self) -> String {
        let Some(path) = &self.config.oci_profile else { return String::new() };
        match self.unknown.len() {
            0 => format!(", with the rules of {}", path.value),
            1 => format!(", with the rules of {}; 1 name in it is no call that is known", path.value),
            count => format!(", with the rules of {}; {count} names in it are no calls that are known", path.value),
        }
    }

    fn host_can(&self, host: &Host) -> Result<(), Error> {
        match seccomp::action_available(seccomp::RET_KILL_PROCESS) {
            Ok(true) => {}
            Ok(false) => return Err(missing().at(self.origin())),
            Err(error) => {
                return Err(missing().call(error.to_string(), error.errno()).at(self.origin()));
            }
        }
        // In a user namespace the child is privileged until Drop, and a launch may be inside one already.
        let privileged = host.has_capability(CAP_SYS_ADMIN) || host.uses("namespaces");
        if host.uses("privileges") || privileged {
            return Ok(());
        }
        Err(Error::host("a filter can be installed only with no_new_privs or CAP_SYS_ADMIN, and there is neither")
            .at(self.origin())
            .help(NNP_HELP))
    }
}

fn missing() -> Error {
    Error::host("this kernel has no system call filters")
        .help("it needs Linux 4.14 or later, built with CONFIG_SECCOMP_FILTER; another sandbox around this one may also hide it")
}

/// What this host offers.
pub(crate) fn probe() -> Finding {
    let (support, detail) = match seccomp::action_available(seccomp::RET_KILL_PROCESS) {
        Ok(true) if Arch::host().is_some() => (Support::Full, "all actions".to_owned()),
        Ok(true) => (Support::Missing, "the numbers of this architecture are not known".to_owned()),
        Ok(false) => (Support::Missing, "KillProcess is not known".to_owned()),
        Err(error) => (Support::Missing, error.to_string()),
    };
    let remedy = if support == Support::Full { String::new() } else { missing().help };
    Finding { feature: "system call filters".to_owned(), support, detail, remedy }
}

/// What the step does, in one line.
fn words(table: &Table, decided: &Decided, instructions: usize) -> String {
    let through = |action: crate::action::Action| action.lets_through();
    let count = |wanted: &dyn Fn(&crate::table::Verdict) -> bool| {
        table.calls.iter().filter(|(_, verdict)| wanted(verdict)).count()
    };
    let plain = |pass: bool| count(&|v| v.clauses.is_empty() && through(v.otherwise) == pass);
    let partly = count(&|v| !v.clauses.is_empty());
    let calls = |n: usize| {
        if n == 1 { "1 system call".to_owned() } else { format!("{n} system calls") }
    };
    let some = match partly {
        0 => String::new(),
        1 => " and 1 by its arguments".to_owned(),
        n => format!(" and {n} by their arguments"),
    };
    let head = if through(decided.default) {
        format!("denies {}{some}, {} the rest", calls(plain(false)), decided.default)
    } else {
        format!("allows {}{some}, {} the rest", calls(plain(true)), decided.default)
    };
    format!("{head}; kills on a foreign architecture ({instructions} instructions)")
}

struct Install {
    program: Vec<Instruction>,
    flags: u32,
    arch: Arch,
    /// The program asks: its listener goes to the launcher.
    asks: bool,
    /// Open until the workload is executed.
    listener: Option<OwnedFd>,
}

impl Install {
    /// A signal must not take a question back, so that it is not asked again; a kernel before 5.19 does not know that.
    fn listen(&mut self, context: &mut Context<'_>) -> palisade_sys::Result<()> {
        let whole = self.flags | seccomp::FLAG_WAIT_KILLABLE_RECV;
        let listener = match seccomp::install_listener(&self.program, whole) {
            Err(error) if error.kind() == Errno::EINVAL => seccomp::install_listener(&self.program, self.flags),
            other => other,
        }?;
        context.hand_over(listener.as_fd());
        self.listener = Some(listener);
        Ok(())
    }
}

impl Action for Install {
    fn details(&self) -> Vec<(String, String)> {
        vec![("bpf".to_owned(), listing(&self.program, self.arch))]
    }

    fn apply(&mut self, context: &mut Context<'_>) -> Result<Evidence, Error> {
        let installed =
            if self.asks { self.listen(context) } else { seccomp::install_filter(&self.program, self.flags) };
        let bare = installed.as_ref().is_err_and(|error| error.kind() == Errno::EACCES);
        installed
            .doing(|| "the filter could not be installed")
            .map_err(|error| if bare { error.help(NNP_HELP) } else { error })?;
        Ok(Evidence::default())
    }

    fn verify(&self, context: &Context<'_>) -> Result<Option<Evidence>, Error> {
        let doing = "the filter could not be read back";
        let (proc, pid) = (Proc::host().doing(|| doing)?, context.pid()?);
        let theirs = proc.pid(pid).and_then(|pid| pid.status()).doing(|| doing)?;
        // One call instead of a file, for the launcher that has no filter of its own.
        let ours = match seccomp::mode() {
            Ok(0) => Status { seccomp_filters: Some(0), ..Status::default() },
            _ => proc.own().and_then(|pid| pid.status()).doing(|| doing)?,
        };
        in_force(&theirs, &ours).map(Some)
    }
}

/// The process is born with the launcher's own filters, so only one more than those is a filter of the policy's.
fn in_force(theirs: &Status, ours: &Status) -> Result<Evidence, Error> {
    let call = |text: String| Error::setup("the filter is not in force").call(text, 0);
    if theirs.seccomp != MODE_FILTER {
        return Err(call(format!("/proc/PID/status says Seccomp: {}, not {MODE_FILTER}", theirs.seccomp)));
    }
    match (theirs.seccomp_filters, ours.seccomp_filters.unwrap_or(0)) {
        (Some(theirs), ours) if theirs > ours => Ok(Evidence(format!("Seccomp: 2, Seccomp_filters: {theirs}"))),
        (Some(theirs), ours) => Err(call(format!(
            "/proc/PID/status says Seccomp_filters: {theirs}, and palisade itself was started with {ours}"
        ))),
        // KERNEL(5.9): before it the number cannot be read; 5.10 is the floor, so only a strange procfs gets here.
        (None, 0) if ours.seccomp == 0 => Ok(Evidence("Seccomp: 2".to_owned())),
        (None, _) => Err(call("/proc/PID/status has no Seccomp_filters".to_owned())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn status(seccomp: u32, seccomp_filters: Option<u32>) -> Status {
        Status { seccomp, seccomp_filters, ..Status::default() }
    }

    #[test]
    fn only_a_filter_more_than_the_launchers_counts() {
        assert_eq!(in_force(&status(2, Some(1)), &status(0, Some(0))).unwrap().0, "Seccomp: 2, Seccomp_filters: 1");
        assert!(in_force(&status(2, Some(3)), &status(2, Some(2))).is_ok());
        assert!(in_force(&status(2, Some(2)), &status(2, Some(2))).is_err());
        assert!(in_force(&status(0, Some(0)), &status(0, Some(0))).is_err());
        assert!(in_force(&status(2, None), &status(0, None)).is_ok());
        assert!(in_force(&status(2, None), &status(2, None)).is_err());
    }
}
