//! The steps as palisade does them, through the seam, on this kernel: capabilities belong to a thread, so a thread is
//! enough.

use super::parse;
use palisade_abi::abi_stable::std_types::{ROption, RStr};
use palisade_abi::seam::{ContextObject, RawStep};
use palisade_abi::{Host, Plugin as _, wrap};
use palisade_sys::caps::{self, CapSet};
use palisade_sys::procfs::{Proc, Status};

/// A context for steps that act on this very thread.
struct Here(i64);

impl ContextObject for Here {
    fn number(&self, name: RStr<'_>) -> ROption<i64> {
        if name.as_str() == "pid" { ROption::RSome(self.0) } else { ROption::RNone }
    }
    fn offer_cgroup(&mut self, _fd: i32) {}
}

fn privileged() -> bool {
    caps::get().unwrap().effective.contains(crate::actions::SETPCAP)
}

fn steps(text: &str) -> Vec<RawStep> {
    let capabilities = caps::get().unwrap().effective.0.to_string();
    let host = Host::new([("plugins".to_owned(), "privileges".to_owned()), ("capabilities".to_owned(), capabilities)]);
    let isolator = wrap::isolator(crate::Privileges::configure(parse(text).unwrap(), &host).unwrap());
    isolator.plan(wrap::facts(&host)).into_result().unwrap().into_iter().collect()
}

fn own_thread() -> i32 {
    let link = std::fs::read_link("/proc/thread-self").unwrap();
    link.file_name().unwrap().to_str().unwrap().parse().unwrap()
}

/// Plans the section, does `between`, applies and verifies each step, all in a thread of its own; gives what is in
/// force and the securebits.
fn applied(text: &'static str, between: fn()) -> (Status, u32) {
    let run = move || {
        let thread = own_thread();
        let mut here = Here(thread.into());
        let mut steps = steps(text);
        between();
        for step in &mut steps {
            step.apply(wrap::lend(&mut here)).into_result().unwrap();
        }
        for step in &steps {
            step.verify(wrap::lend(&mut here)).into_result().unwrap();
            if step.has_witness() {
                step.witness(wrap::lend(&mut here)).into_result().unwrap();
            }
        }
        let status = Proc::host().unwrap().pid(thread).unwrap().status().unwrap();
        (status, palisade_sys::process::securebits().unwrap())
    };
    std::thread::spawn(run).join().unwrap()
}

#[test]
fn everything_goes_by_default() {
    let (status, _) = applied(if privileged() { "()" } else { "(bounding_demand: Off)" }, || {});
    assert!(status.no_new_privs);
    assert_eq!((status.cap_prm, status.cap_eff, status.cap_inh, status.cap_amb), (0, 0, 0, 0));
    if privileged() {
        assert_eq!(status.cap_bnd, 0);
    }
}

/// A switch of ids with PR_SET_KEEPCAPS leaves permitted full and effective empty, and the bit set.
#[test]
fn what_is_kept_is_in_every_set_also_after_a_switch_of_ids() {
    if !privileged() {
        return;
    }
    let text = "(capabilities: (keep: [\"kill\", \"net_bind_service\"]), securebits: [NoCapAmbientRaise, NoRoot])";
    let (status, securebits) = applied(text, || {
        palisade_sys::process::keep_caps(true).unwrap();
        let now = caps::get().unwrap();
        caps::set(caps::Caps { effective: CapSet::EMPTY, ..now }).unwrap();
    });
    let kept = CapSet::EMPTY.with(5).with(10).0;
    for seen in [status.cap_prm, status.cap_eff, status.cap_inh, status.cap_amb, status.cap_bnd] {
        assert_eq!(seen, kept);
    }
    assert_eq!(securebits, 0x41);
}

#[test]
fn a_step_that_was_not_done_is_not_verified() {
    if !privileged() {
        return;
    }
    let run = || {
        let mut here = Here(own_thread().into());
        let failures = steps("(securebits: [NoRoot])").into_iter().map(|step| {
            let seen = if step.has_witness() {
                step.witness(wrap::lend(&mut here)).into_result().err()
            } else {
                step.verify(wrap::lend(&mut here)).into_result().err()
            };
            seen.map(|failure| failure.message.into_string()).unwrap_or_default()
        });
        failures.collect::<Vec<_>>()
    };
    let failures = std::thread::spawn(run).join().unwrap();
    assert_eq!(failures.len(), 5);
    assert!(failures.iter().all(|said| said.starts_with("the kernel says otherwise: ")), "{failures:?}");
}
