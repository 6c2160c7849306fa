//! The step as palisade does it, through the seam, on this kernel: a filter binds one thread, so a thread is enough.

use super::parse;
use palisade_abi::abi_stable::std_types::{ROption, RStr};
use palisade_abi::seam::{ContextObject, RawStep};
use palisade_abi::{Host, Plugin as _, wrap};
use palisade_sys::namespace;
use palisade_sys::procfs::Proc;
use std::os::unix::fs::PermissionsExt as _;

/// A context for a step that acts on this very thread.
struct Here(i64);

impl ContextObject for Here {
    fn number(&self, name: RStr<'_>) -> ROption<i64> {
        if name.as_str() == "pid" { ROption::RSome(self.0) } else { ROption::RNone }
    }
    fn offer_cgroup(&mut self, _fd: i32) {}
}

fn steps(text: &str) -> Vec<RawStep> {
    let host = Host::new([("plugins".to_owned(), "privileges seccomp".to_owned())]);
    let isolator = wrap::isolator(crate::Seccomp::configure(parse(text).unwrap(), &host).unwrap());
    isolator.plan(wrap::facts(&host)).into_result().unwrap().into_iter().collect()
}

fn own_thread() -> i64 {
    let link = std::fs::read_link("/proc/thread-self").unwrap();
    link.file_name().unwrap().to_str().unwrap().parse().unwrap()
}

fn set_mode(path: &std::path::Path, mode: u32) -> Option<i32> {
    let set = std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode));
    set.err().and_then(|error| error.raw_os_error())
}

#[test]
fn the_kernel_takes_the_filter_and_shows_it() {
    let file = std::env::temp_dir().join(format!("palisade-seccomp-{}", std::process::id()));
    std::fs::write(&file, "").unwrap();
    let path = file.clone();
    let seen = std::thread::spawn(move || {
        let mut here = Here(own_thread());
        // Not the whole of `@setuid-files`: it takes away openat2, with which procfs is read, and here reader and
        // workload are one.
        let mut steps = steps(
            "(deny: [Group(\"@default-deny\"), When(\"chmod\", [Arg32(1, AnySet(0o6000))]),
                When(\"fchmodat\", [Arg32(2, AnySet(0o6000))]), When(\"fchmodat2\", [Arg32(2, AnySet(0o6000))])])",
        );
        let step = &mut steps[0];
        let text = namespace::unshare(0).map_err(|error| error.to_string());
        assert_eq!((set_mode(&path, 0o4700), text), (None, Ok(())), "open without the filter");
        // Not there yet: the launcher has as many filters as this thread.
        let early = step.verify(wrap::lend(&mut here)).into_result();
        assert!(early.is_err(), "verified before it was applied");
        palisade_sys::process::set_no_new_privs().unwrap();
        step.apply(wrap::lend(&mut here)).into_result().unwrap();
        let evidence = step.verify(wrap::lend(&mut here)).into_result().unwrap().into_option().unwrap();
        let status = Proc::host().unwrap().pid(i32::try_from(here.0).unwrap()).unwrap().status().unwrap();
        assert_eq!(status.seccomp, 2);
        let denied = namespace::unshare(namespace::CLONE_NEWUSER).map_err(|error| error.errno());
        (evidence.into_string(), set_mode(&path, 0o4700), set_mode(&path, 0o600), denied)
    })
    .join();
    std::fs::remove_file(&file).unwrap();
    let (evidence, setuid, plain, denied) = seen.unwrap();
    assert!(evidence.starts_with("Seccomp: 2, Seccomp_filters: "), "{evidence}");
    assert_eq!((setuid, plain, denied), (Some(1), None, Err(1)));
}

/// Without no_new_privs and without CAP_SYS_ADMIN the kernel refuses; the error says what to do.
#[test]
fn a_refusal_says_what_to_do() {
    let refused = std::thread::spawn(|| {
        let now = palisade_sys::caps::get().unwrap();
        let effective = now.effective.without(21);
        palisade_sys::caps::set(palisade_sys::caps::Caps { effective, ..now }).unwrap();
        if palisade_sys::process::no_new_privs().unwrap() {
            return None;
        }
        let mut steps = steps("(deny: [Call(\"acct\")])");
        Some(steps[0].apply(wrap::lend(&mut Here(own_thread()))).into_result().unwrap_err())
    })
    .join()
    .unwrap();
    // Inherited no_new_privs cannot be taken off, and then the filter may be installed.
    let Some(failure) = refused else { return };
    assert_eq!(failure.errno, 13);
    assert!(failure.call.starts_with("seccomp(SET_MODE_FILTER, 0, "), "{}", failure.call);
    assert_eq!(failure.help.as_str(), "add \"privileges\": (no_new_privs: true), or run as root");
}
