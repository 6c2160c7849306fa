//! What this host offers, for `palisade doctor`: each kind is made for real, in a child that ends at once.

use std::os::fd::AsFd;

use palisade_abi::{Finding, Host, Support};
use palisade_sys::procfs::Proc;
use palisade_sys::{Errno, Error, mount, namespace, process};

use crate::kinds::{Kind, MOUNT, OTHERS, USER};
use crate::subid;

const CAP_SYS_ADMIN: u32 = 21;

/// Tries each kind as a launch would: with a user namespace where the launcher lacks the capability.
pub(crate) fn probe(host: &Host) -> Vec<Finding> {
    let privileged = host.has_capability(CAP_SYS_ADMIN);
    let mut findings = vec![finding(&USER, USER.flag)];
    for kind in OTHERS {
        findings.push(finding(kind, if privileged { kind.flag } else { kind.flag | USER.flag }));
    }
    if !privileged {
        findings.push(ranges());
    }
    findings
}

fn finding(kind: &Kind, flags: u64) -> Finding {
    let feature = format!("{} namespace", kind.field);
    let with = if flags == kind.flag { "" } else { " together with a user namespace" };
    match attempt(flags, kind == &MOUNT) {
        Ok(0) => Finding { feature, support: Support::Full, detail: format!("made one{with}"), remedy: String::new() },
        Ok(errno) => {
            let error = Error::from_raw(errno, format!("unshare({})", kind.field));
            Finding { feature, support: Support::Missing, detail: error.to_string(), remedy: remedy(kind, &error) }
        }
        Err(error) => Finding {
            feature,
            support: Support::Partial,
            detail: format!("could not be tried: {error}"),
            remedy: error.hint().unwrap_or_default().to_owned(),
        },
    }
}

/// Makes the namespaces in a child; gives the errno, 0 for success. A mount namespace counts only once something is
/// done in it: some security modules let it be made and refuse every mount.
fn attempt(flags: u64, with_mount: bool) -> palisade_sys::Result<i32> {
    match process::fork()? {
        process::Cloned::Child => {
            let tried = namespace::unshare(flags)
                .and_then(|()| if with_mount { mount::make_private_recursive() } else { Ok(()) });
            process::exit_now(tried.map_or_else(|error| error.errno(), |()| 0))
        }
        process::Cloned::Parent { pidfd, .. } => {
            let status = process::waitid(process::Target::PidFd(pidfd.as_fd()), false)?;
            Ok(status.map_or(Errno::ECHILD as i32, |status| status.ended.shell_code()))
        }
    }
}

fn remedy(kind: &Kind, error: &Error) -> String {
    let setting = |name: &str| Proc::host().and_then(|proc| proc.read(&format!("sys/{name}"))).ok();
    let is = |name: &str, value: &str| setting(name).is_some_and(|text| text.trim() == value);
    if is("kernel/apparmor_restrict_unprivileged_userns", "1") {
        return "AppArmor restricts user namespaces of ordinary users: give palisade a profile with `userns,`, or as root: \
                sysctl kernel.apparmor_restrict_unprivileged_userns=0"
            .to_owned();
    }
    if is("kernel/unprivileged_userns_clone", "0") {
        return "as root: sysctl kernel.unprivileged_userns_clone=1".to_owned();
    }
    let file = match kind.field {
        "mount" => "mnt",
        field => field,
    };
    let limit = format!("user/max_{file}_namespaces");
    match (is(&limit, "0"), error.kind()) {
        (true, _) => format!("as root: sysctl {}=15000", limit.replace('/', ".")),
        (_, Errno::EINVAL) => format!("needs Linux {} with this kind compiled in", kind.since),
        _ => error.hint().unwrap_or("a security module or a container around palisade may refuse it").to_owned(),
    }
}

/// Whether maps of more than one id can be had without privileges.
fn ranges() -> Finding {
    let missing: Vec<_> = ["newuidmap", "newgidmap"].into_iter().filter(|name| subid::helper(name).is_none()).collect();
    let uid = process::getuid();
    let name = palisade_sys::ids::lookup_uid(uid).ok().flatten().map(|user| user.name);
    let given = |file| subid::parse(&std::fs::read_to_string(file).unwrap_or_default(), name.as_deref(), uid).len();
    let (uids, gids) = (given("/etc/subuid"), given("/etc/subgid"));
    let (support, detail, remedy) = if !missing.is_empty() {
        (Support::Missing, format!("{} not found", missing.join(" and ")), "install the package uidmap")
    } else if uids == 0 || gids == 0 {
        let detail = "no range in /etc/subuid or /etc/subgid".to_owned();
        (Support::Missing, detail, "as root: usermod --add-subuids 100000-165535 --add-subgids 100000-165535 USER")
    } else {
        (Support::Full, format!("{uids} uid and {gids} gid ranges"), "")
    };
    let remedy =
        if support == Support::Missing { format!("{remedy}; needed for ids: Map only") } else { remedy.to_owned() };
    Finding { feature: "id ranges of an ordinary user".to_owned(), support, detail, remedy }
}
