//! The kinds of namespaces: how a policy and the kernel call them, and what each is good for.

use palisade_sys::namespace::{
    CLONE_NEWCGROUP, CLONE_NEWIPC, CLONE_NEWNET, CLONE_NEWNS, CLONE_NEWPID, CLONE_NEWTIME, CLONE_NEWUSER, CLONE_NEWUTS,
};

/// One kind.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Kind {
    /// The field of the section.
    pub(crate) field: &'static str,
    /// The file in `/proc/PID/ns`.
    pub(crate) file: &'static str,
    /// The flag of clone3, unshare and setns.
    pub(crate) flag: u64,
    /// What the workload has of its own.
    pub(crate) what: &'static str,
    /// What that defends against.
    pub(crate) why: &'static str,
    /// The first kernel that has it.
    pub(crate) since: &'static str,
}

pub(crate) const MOUNT: Kind = Kind {
    field: "mount",
    file: "mnt",
    flag: CLONE_NEWNS,
    what: "mounts",
    why: "what is mounted inside stays inside",
    since: "2.4.19",
};
pub(crate) const PID: Kind = Kind {
    field: "pid",
    file: "pid",
    flag: CLONE_NEWPID,
    what: "process ids",
    why: "no process outside can be named, signalled or traced, and all inside end with the first",
    since: "2.6.24",
};
pub(crate) const NET: Kind = Kind {
    field: "net",
    file: "net",
    flag: CLONE_NEWNET,
    what: "network (only loopback)",
    why: "no interface, route or port of the host, and none of its abstract sockets",
    since: "2.6.29",
};
pub(crate) const IPC: Kind = Kind {
    field: "ipc",
    file: "ipc",
    flag: CLONE_NEWIPC,
    what: "System V and POSIX message queues",
    why: "no shared memory or queue of another program",
    since: "2.6.19",
};
pub(crate) const UTS: Kind = Kind {
    field: "uts",
    file: "uts",
    flag: CLONE_NEWUTS,
    what: "host and domain name",
    why: "the host's name is neither changed nor, where another is set, seen",
    since: "2.6.19",
};
pub(crate) const USER: Kind = Kind {
    field: "user",
    file: "user",
    flag: CLONE_NEWUSER,
    what: "user and group ids",
    why: "capabilities inside mean nothing outside",
    since: "3.8",
};
pub(crate) const CGROUP: Kind = Kind {
    field: "cgroup",
    file: "cgroup",
    flag: CLONE_NEWCGROUP,
    what: "cgroup paths",
    why: "its own cgroup is the root that it sees",
    since: "4.6",
};
pub(crate) const TIME: Kind = Kind {
    field: "time",
    file: "time",
    flag: CLONE_NEWTIME,
    what: "clocks since boot",
    why: "the host's uptime can be hidden",
    since: "5.6",
};

/// All but the user namespace, in the order in which they are joined: the mount namespace last but for the time,
/// because after it the host's files are out of reach.
pub(crate) const OTHERS: [&Kind; 7] = [&CGROUP, &IPC, &UTS, &NET, &PID, &MOUNT, &TIME];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_kind_of_the_kernel_is_there_once() {
        let mut ours: Vec<_> = OTHERS.iter().chain([&&USER]).map(|kind| (kind.file, kind.flag)).collect();
        let mut kernels = palisade_sys::namespace::KINDS.to_vec();
        ours.sort_unstable();
        kernels.sort_unstable();
        assert_eq!(ours, kernels);
    }
}
