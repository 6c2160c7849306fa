//! What the steps do in the child, and how the host reads it back.

use crate::securebits::{KEEP_CAPS, KEEP_CAPS_LOCKED};
use crate::sets::{Exact, Sets, Wanted};
use palisade_abi::ErrorContext as _;
use palisade_abi::{Action, Context, Error, Evidence};
use palisade_sys::caps::{self, CapSet, Caps};
use palisade_sys::process;
use palisade_sys::procfs::{Proc, Status};
use std::cell::OnceCell;
use std::rc::Rc;

/// `CAP_SETPCAP`: may change the bounding set, the securebits, and add to inheritable.
pub(crate) const SETPCAP: u8 = 8;

/// What the kernel says of the workload's process once it is sealed: read once for all steps of a launch.
#[derive(Clone, Debug, Default)]
pub(crate) struct Seen(Rc<OnceCell<Status>>);

impl Seen {
    fn status(&self, context: &Context<'_>) -> Result<&Status, Error> {
        if let Some(status) = self.0.get() {
            return Ok(status);
        }
        let pid = context.pid()?;
        let status = Proc::host().and_then(|proc| proc.pid(pid)?.status());
        let status = status.doing(|| "the privileges could not be read back")?;
        Ok(self.0.get_or_init(|| status))
    }
}

fn wrong(line: &str, seen: u64, wanted: Wanted) -> Error {
    Error::setup(format!("the kernel says otherwise: {line} is [{}], and is to be {wanted}", CapSet(seen)))
        .call(format!("/proc/PID/status: {line}:\t{seen:016x}"), 0)
}

/// Makes every permitted capability effective: a switch of ids has cleared the effective set and left permitted.
fn raise() -> Result<Caps, Error> {
    let now = caps::get().doing(|| "the capabilities could not be read")?;
    if now.effective == now.permitted {
        return Ok(now);
    }
    let raised = Caps { effective: now.permitted, ..now };
    caps::set(raised).doing(|| "the permitted capabilities could not be made effective")?;
    Ok(raised)
}

fn not_held(lacking: CapSet) -> Error {
    Error::host(format!("the process does not have {lacking}, which the policy wants it to keep")).help(
        "start palisade with it, or use a new user namespace; a switch to another uid must keep the permitted set",
    )
}

/// Drops from the bounding set all but what is wanted.
pub(crate) struct Bounding(pub(crate) Wanted, pub(crate) Seen);

impl Action for Bounding {
    fn apply(&mut self, _context: &mut Context<'_>) -> Result<Evidence, Error> {
        let doing = "the bounding set could not be changed";
        let now = caps::bounding().doing(|| doing)?;
        let lost = self.0.named.minus(now);
        if !lost.is_empty() {
            return Err(Error::host(format!("{lost} cannot be kept: it is not in the bounding set any more"))
                .help("start palisade with it in its bounding set, or use a new user namespace"));
        }
        let surplus = now.minus(self.0.within(now));
        if !surplus.is_empty() {
            raise()?;
        }
        for cap in surplus.iter() {
            caps::drop_bounding(cap).doing(|| doing).map_err(|error| {
                error.help("needs CAP_SETPCAP: start palisade as root, or use a new user namespace (\"namespaces\": (user: New))")
            })?;
        }
        Ok(Evidence::default())
    }

    fn verify(&self, context: &Context<'_>) -> Result<Option<Evidence>, Error> {
        let seen = self.1.status(context)?.cap_bnd;
        if !self.0.is(seen) {
            return Err(wrong("CapBnd", seen, self.0));
        }
        Ok(Some(Evidence(format!("CapBnd: {seen:016x}"))))
    }
}

/// Adds to inheritable and ambient while permitted is still full and no securebit forbids it.
pub(crate) struct Raise(pub(crate) Sets);

impl Action for Raise {
    fn apply(&mut self, _context: &mut Context<'_>) -> Result<Evidence, Error> {
        let now = raise()?;
        let exact = self.0.exact(now.permitted, caps::bounding().doing(|| "the bounding set could not be read")?);
        let lacking = exact.ambient.minus(now.permitted);
        if !lacking.is_empty() {
            return Err(not_held(lacking));
        }
        caps::set(Caps { inheritable: exact.caps.inheritable, ..now })
            .doing(|| "the inheritable set could not be changed")?;
        for cap in exact.ambient.iter() {
            caps::ambient_raise(cap).doing(|| "the ambient set could not be changed")?;
        }
        Ok(Evidence::default())
    }
}

/// Sets securebits, next to those that are there.
pub(crate) struct Bits(pub(crate) u32);

impl Action for Bits {
    fn apply(&mut self, _context: &mut Context<'_>) -> Result<Evidence, Error> {
        let doing = "the securebits could not be set";
        let now = process::securebits().doing(|| doing)?;
        // The switch of ids may have set it for itself; nobody asked for it to stay.
        let kept = if now & KEEP_CAPS_LOCKED == 0 { now & !KEEP_CAPS } else { now };
        raise()?;
        process::set_securebits(kept | self.0).doing(|| doing)?;
        Ok(Evidence::default())
    }

    /// No file shows them, so the process itself must ask.
    fn witness(&self, _context: &Context<'_>) -> Result<Evidence, Error> {
        let seen = process::securebits().doing(|| "the securebits could not be read back")?;
        if seen & self.0 != self.0 {
            return Err(Error::setup("the kernel says otherwise: some securebits are not set")
                .call(format!("prctl(PR_GET_SECUREBITS) = {seen:#x}, and {:#x} is to be in it", self.0), 0));
        }
        Ok(Evidence(format!("securebits {seen:#x}")))
    }
}

/// Sets no_new_privs.
pub(crate) struct NoNewPrivs(pub(crate) Seen);

impl Action for NoNewPrivs {
    fn apply(&mut self, _context: &mut Context<'_>) -> Result<Evidence, Error> {
        process::set_no_new_privs().doing(|| "no_new_privs could not be set")?;
        Ok(Evidence::default())
    }

    fn verify(&self, context: &Context<'_>) -> Result<Option<Evidence>, Error> {
        if self.0.status(context)?.no_new_privs {
            return Ok(Some("NoNewPrivs: 1".into()));
        }
        Err(Error::setup("the kernel says otherwise: no_new_privs is off").call("/proc/PID/status: NoNewPrivs:\t0", 0))
    }
}

/// Reduces the process's own sets to what is wanted.
pub(crate) struct Reduce(pub(crate) Sets, pub(crate) Seen);

impl Action for Reduce {
    fn apply(&mut self, _context: &mut Context<'_>) -> Result<Evidence, Error> {
        let doing = "the capability sets could not be changed";
        let now = caps::get().doing(|| doing)?;
        // The kernel has to be asked for each capability, so only where the answer matters.
        let bounding = if self.0.inheritable.all { caps::bounding().doing(|| doing)? } else { now.permitted };
        let Exact { caps: wanted, ambient } = self.0.exact(now.permitted, bounding);
        let lacking = wanted.permitted.minus(now.permitted);
        if !lacking.is_empty() {
            return Err(not_held(lacking));
        }
        if ambient.is_empty() {
            caps::ambient_clear().doing(|| doing)?;
        }
        caps::set(wanted).doing(|| doing)?;
        let seen = caps::get().doing(|| doing)?;
        if seen != wanted {
            return Err(Error::setup("the kernel says otherwise: the capability sets are not those that were set")
                .call(format!("capget(0) = {seen:?}"), 0));
        }
        Ok(Evidence::default())
    }

    fn verify(&self, context: &Context<'_>) -> Result<Option<Evidence>, Error> {
        let status = self.1.status(context)?;
        for (line, seen, wanted) in [
            ("CapPrm", status.cap_prm, self.0.permitted),
            ("CapEff", status.cap_eff, self.0.effective),
            ("CapInh", status.cap_inh, self.0.inheritable),
            ("CapAmb", status.cap_amb, self.0.ambient),
        ] {
            if !wanted.is(seen) {
                return Err(wrong(line, seen, wanted));
            }
        }
        let Status { cap_prm, cap_eff, cap_inh, cap_amb, .. } = status;
        Ok(Some(Evidence(format!(
            "CapPrm: {cap_prm:016x}, CapEff: {cap_eff:016x}, CapInh: {cap_inh:016x}, CapAmb: {cap_amb:016x}"
        ))))
    }
}
