//! The plugin `call-budget`: a system call as often as the policy says, and no more.
//!
//! **What it isolates.** How often the workload, with all of its processes together, may make certain system calls.
//! **From which kernel.** 5.5, which lets a call go on after it was looked at. **What it cannot stop.** What goes past
//! the call: a socket that io_uring opens, one that was handed in.
//!
//! A filter in the workload's process asks; the host answers while the workload runs. seccomp_unotify(2) warns that such
//! an answer is no security decision where it depends on what a pointer among the arguments points to: the workload can
//! change that between the look and the call. Here nothing behind a pointer is looked at, and no argument is. The answer
//! follows from the number of the call, which the kernel has copied, and from a count, which is the host's. So letting a
//! call go on lets exactly this call go on.
//!
//! | file | holds |
//! |---|---|
//! | `filter` | the program in the kernel: what it asks about |
//! | `budget` | the calls that are known, and what is left of each |
#![forbid(unsafe_code)]

mod budget;
mod filter;

use budget::{Budget, CALLS};
use palisade_abi::{
    Action, At, Context, Error, ErrorContext as _, Evidence, Finding, Finish, Host, Isolator, Plugin, Stage, Step,
    Support,
};
use palisade_sys::Errno;
use palisade_sys::notify::{self, Answer, Received};
use palisade_sys::seccomp::{self, Instruction, RET_USER_NOTIF};
use std::collections::BTreeMap;
use std::os::fd::{AsFd as _, AsRawFd as _, OwnedFd};

palisade_abi::layered! {
    /// The section in a policy.
    pub struct Config {
        /// How often each call may be made.
        pub calls: BTreeMap<String, At<u32>>,
    }
}

struct CallBudget;

impl Plugin for CallBudget {
    type Config = Config;

    fn probe(host: &Host) -> Vec<Finding> {
        let new_enough = host.kernel().is_ok_and(|version| version >= (5, 5));
        let there = new_enough && seccomp::action_available(RET_USER_NOTIF).unwrap_or(false);
        vec![Finding {
            feature: "asking about system calls (SECCOMP_RET_USER_NOTIF)".to_owned(),
            support: if there { Support::Full } else { Support::Missing },
            detail: String::new(),
            remedy: if there { String::new() } else { "Linux 5.5 or newer".to_owned() },
        }]
    }

    fn configure(config: Config, _host: &Host) -> Result<Box<dyn Isolator>, Error> {
        let calls = config.calls.into_iter().map(|(name, most)| Budget::new(&name, most));
        Ok(Box::new(Watched { calls: calls.collect::<Result<_, _>>()?, listener: None }))
    }
}

/// One launch. Until the child has handed it over there is no listener, and when nobody is left whom the filter holds
/// there is none any more.
struct Watched {
    calls: Vec<Budget>,
    listener: Option<OwnedFd>,
}

impl Isolator for Watched {
    fn plan(&self, host: &Host) -> Result<Vec<Step>, Error> {
        let Some(first) = self.calls.first() else { return Ok(Vec::new()) };
        let version = host.kernel()?;
        if version < (5, 5) {
            return Err(Error::host(format!(
                "Linux {}.{} cannot let a call go on that was asked about",
                version.0, version.1
            ))
            .help("it needs Linux 5.5; take \"call-budget\" out of the policy"));
        }
        let all: Vec<String> = self.calls.iter().map(ToString::to_string).collect();
        let program = filter::program(&self.calls.iter().map(|call| call.number).collect::<Vec<_>>());
        let ask = Ask { program, listener: None };
        let step = Step::new(Stage::Seal, format!("counts system calls: {}", all.join(", ")), ask);
        Ok(vec![step.origin(first.most.origin).why("the host counts, where the workload cannot reach")])
    }

    fn take(&mut self, fd: OwnedFd) -> Result<(), Error> {
        self.listener = Some(fd);
        Ok(())
    }

    fn watch(&self) -> Vec<i32> {
        self.listener.iter().map(|fd| fd.as_raw_fd()).collect()
    }

    /// One question at a time, and never a wait: palisade asks again while there is more.
    fn ready(&mut self, _fd: i32) -> Result<(), Error> {
        let Some(listener) = &self.listener else { return Ok(()) };
        let question = match notify::receive(listener.as_fd())? {
            Received::Question(question) => question,
            Received::Nothing => return Ok(()),
            Received::Over => {
                self.listener = None;
                return Ok(());
            }
        };
        let call = self.calls.iter_mut().find(|call| i64::from(call.number) == i64::from(question.number));
        // The filter asks about nothing else, so anything else is refused.
        let answer = call.map_or(Answer::Errno(Errno::EPERM as i32), Budget::spend);
        // Who asked may be gone; then nobody is answered.
        let _waits = notify::answer(listener.as_fd(), question.id, answer)?;
        Ok(())
    }

    fn sample(&mut self) -> Result<Vec<(String, u64)>, Error> {
        Ok(self.calls.iter().map(Budget::figure).collect())
    }

    fn finish(&mut self) -> Result<Finish, Error> {
        let hits = self.calls.iter().filter_map(Budget::hit).collect();
        Ok(Finish { figures: self.calls.iter().map(Budget::figure).collect(), hits })
    }
}

/// Installs the filter, and hands its listener to the host.
struct Ask {
    program: Vec<Instruction>,
    listener: Option<OwnedFd>,
}

impl Action for Ask {
    fn apply(&mut self, context: &mut Context<'_>) -> Result<Evidence, Error> {
        let made = seccomp::install_listener(&self.program, 0).map_err(|error| {
            let help = match error.kind() {
                // has_duplicate_listener() in the kernel: one for all filters of a process.
                Errno::EBUSY => {
                    "a process has one listener: run it without --explain, or take out the plugin that has it"
                }
                Errno::EACCES => "add \"privileges\": (no_new_privs: true), or run as root",
                _ => "",
            };
            let error = Error::from(error);
            if help.is_empty() { error } else { error.help(help) }
        });
        let listener = made.doing(|| "the filter that counts was not installed")?;
        context.hand_over(listener.as_fd());
        // It must stay open until palisade has taken it. It is closed when the workload is executed.
        self.listener = Some(listener);
        Ok(Evidence::default())
    }

    fn verify(&self, context: &Context<'_>) -> Result<Option<Evidence>, Error> {
        let path = format!("/proc/{}/status", context.pid()?);
        let status = std::fs::read_to_string(&path).doing(|| format!("{path} cannot be read"))?;
        if status.lines().any(|line| line.split_whitespace().eq(["Seccomp:", "2"])) {
            return Ok(Some("Seccomp: 2".into()));
        }
        Err(Error::setup(format!("{path} says that there is no filter")))
    }

    fn details(&self) -> Vec<(String, String)> {
        let known = |number: &str| CALLS.iter().find(|(_, call)| call.to_string() == number).map(|(name, _)| *name);
        let line = |i: &Instruction| {
            let about = if i.code == filter::JUMP_IF_EQUAL { known(&i.k.to_string()) } else { None };
            format!("{:#06x} {} {} {:#010x}  {}", i.code, i.jt, i.jf, i.k, about.unwrap_or_default())
                .trim_end()
                .to_owned()
        };
        vec![("filter".to_owned(), self.program.iter().map(line).collect::<Vec<_>>().join("\n"))]
    }
}

palisade_abi::export_plugin!(CallBudget, "manifest.ron");
