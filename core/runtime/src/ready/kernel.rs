//! A filter of system calls, and namespaces at birth: what the host reads back of the workload's process.

use super::outside::{Outside, own};
use palisade_abi::{Action, Context, Error, ErrorContext as _, Evidence};
use palisade_sys::namespace::{self, KINDS};
use palisade_sys::procfs::{Proc, ProcPid};
use palisade_sys::seccomp::{self, Instruction};
use std::cell::Cell;
use std::rc::Rc;

/// `BPF_MAXINSNS` of linux/bpf_common.h.
const LONGEST: usize = 4096;
/// `Seccomp:` in `/proc/PID/status`: a filter is in force.
const MODE_FILTER: u32 = 2;

fn process(context: &Context<'_>) -> Result<ProcPid, Error> {
    let pid = context.pid()?;
    let open = || Proc::host()?.pid(pid);
    open().doing(|| format!("process {pid} cannot be looked at"))
}

/// `Filter`.
pub(super) struct Filter {
    program: Vec<Instruction>,
    flags: u32,
    outside: Rc<Outside>,
    /// How many ready-made filters this launch must have.
    all: Rc<Cell<u32>>,
}

impl Filter {
    pub(super) fn new(
        instructions: &[(u16, u8, u8, u32)],
        names: &[String],
        outside: Rc<Outside>,
        all: Rc<Cell<u32>>,
    ) -> Result<Self, String> {
        if !(1..=LONGEST).contains(&instructions.len()) {
            return Err(format!("a filter has 1 to {LONGEST} instructions"));
        }
        let mut flags = 0;
        for name in names {
            flags |= match name.as_str() {
                "LOG" => seccomp::FLAG_LOG,
                "SPEC_ALLOW" => seccomp::FLAG_SPEC_ALLOW,
                name => {
                    let known = ["LOG", "SPEC_ALLOW"];
                    let help = palisade_model::diag::suggest(name, &known);
                    return Err(format!("`{name}` is no flag that a filter may have here; {help}"));
                }
            };
        }
        let program = instructions.iter().map(|&(code, jt, jf, k)| Instruction { code, jt, jf, k }).collect();
        Ok(Self { program, flags, outside, all })
    }
}

impl Action for Filter {
    fn apply(&mut self, _context: &mut Context<'_>) -> Result<Evidence, Error> {
        seccomp::install_filter(&self.program, self.flags)?;
        Ok(format!("{} instructions", self.program.len()).into())
    }

    /// Every filter of the launch is counted: one that is missing cannot hide behind another.
    fn verify(&self, context: &Context<'_>) -> Result<Option<Evidence>, Error> {
        let status = process(context)?.status().doing(|| "the workload's state cannot be read")?;
        let (found, least) = (status.seccomp_filters, self.outside.filters.saturating_add(self.all.get().max(1)));
        if status.seccomp != MODE_FILTER || found.is_some_and(|found| found < least) {
            let found = found.unwrap_or_default();
            let message =
                format!("the workload has {found} filters in force (Seccomp: {}), not {least}", status.seccomp);
            return Err(Error::setup(message));
        }
        Ok(Some(format!("Seccomp: {}, {} filters", status.seccomp, found.unwrap_or(least)).into()))
    }
}

/// `Namespaces`.
pub(super) struct Namespaces {
    kinds: Vec<(&'static str, u64)>,
    outside: Rc<Outside>,
}

impl Namespaces {
    pub(super) fn new(names: &[String], outside: Rc<Outside>) -> Result<Self, String> {
        let kind = |name: &String| {
            let flag = namespace::clone_flag(name);
            let kind = flag.and_then(|flag| KINDS.iter().find(|(_, known)| *known == flag));
            kind.copied().ok_or_else(|| format!("`{name}` is no CLONE_NEW* flag of clone(2)"))
        };
        let kinds: Vec<_> = names.iter().map(kind).collect::<Result<_, _>>()?;
        if kinds.is_empty() { Err("it names no flag".to_owned()) } else { Ok(Self { kinds, outside }) }
    }

    pub(super) fn flags(&self) -> u64 {
        self.kinds.iter().fold(0, |all, (_, flag)| all | flag)
    }

    fn judge(&self, process: &ProcPid) -> Result<Evidence, Error> {
        let all = self.kinds.iter().map(|(kind, _)| self.outside.differs(process, kind));
        Ok(all.collect::<Result<Vec<_>, _>>()?.join(" ").into())
    }
}

impl Action for Namespaces {
    /// Done by the call that makes the process.
    fn apply(&mut self, _context: &mut Context<'_>) -> Result<Evidence, Error> {
        Ok(Evidence::default())
    }

    fn verify(&self, context: &Context<'_>) -> Result<Option<Evidence>, Error> {
        // Else the child looks at itself.
        if !self.outside.may_look {
            return Ok(None);
        }
        self.judge(&process(context)?).map(Some)
    }

    fn witness(&self, _context: &Context<'_>) -> Result<Evidence, Error> {
        let own = own().map_err(|error| {
            error.help("this launcher may not look at the workload's namespaces, so the view must have a /proc")
        })?;
        self.judge(&own)
    }
}
