//! What to do about an errno, by the call that gave it.

use nix::errno::Errno;

/// One row: the errno, the beginning of the call's text, and the advice. The first row that fits wins,
/// so a narrow prefix stands above a wide one.
type Row = (Errno, &'static str, &'static str);

const TABLE: &[Row] = &[
    (
        Errno::EPERM,
        "clone3(",
        "namespaces need CAP_SYS_ADMIN or a user namespace; as an ordinary user check sysctl kernel.unprivileged_userns_clone, user.max_user_namespaces and kernel.apparmor_restrict_unprivileged_userns",
    ),
    (
        Errno::ENOSPC,
        "clone3(",
        "a namespace limit is reached; raise sysctl user.max_*_namespaces, or nest less deeply (32 levels of user and pid namespaces)",
    ),
    (
        Errno::EUSERS,
        "clone3(",
        "user namespaces are nested more than 32 levels deep, or user.max_user_namespaces is reached",
    ),
    (
        Errno::EAGAIN,
        "clone3(",
        "a process limit is reached: RLIMIT_NPROC, the pids cgroup above this one, or kernel.pid_max",
    ),
    (Errno::EINVAL, "clone3(", "a namespace kind is not compiled into this kernel, or the flags exclude one another"),
    (Errno::EBUSY, "clone3(", "the cgroup cannot take processes: one of its controllers is enabled for its children"),
    (Errno::EOPNOTSUPP, "clone3(", "the cgroup is in an invalid threaded domain (see its cgroup.type)"),
    (Errno::EACCES, "clone3(", "no write permission for cgroup.procs of the cgroup or of the common ancestor"),
    (
        Errno::EPERM,
        "unshare(",
        "needs CAP_SYS_ADMIN, or CLONE_NEWUSER with it; as an ordinary user check sysctl kernel.unprivileged_userns_clone and kernel.apparmor_restrict_unprivileged_userns",
    ),
    (Errno::ENOSPC, "unshare(", "a namespace limit is reached; raise sysctl user.max_*_namespaces"),
    (
        Errno::EPERM,
        "setns(",
        "joining needs CAP_SYS_ADMIN in the namespace's owning user namespace (and in the caller's, for a mount namespace)",
    ),
    (
        Errno::EINVAL,
        "setns(",
        "the file is not a namespace of that kind, or the caller is already in that user namespace or has threads",
    ),
    (
        Errno::EPERM,
        "open_tree(",
        "needs CAP_SYS_ADMIN in the mount namespace's user namespace; an AppArmor profile may also refuse it",
    ),
    (Errno::EINVAL, "open_tree(", "in a user namespace a mount under locked mounts can be cloned only recursively"),
    (Errno::EPERM, "move_mount(", "needs CAP_SYS_ADMIN in the mount namespace's user namespace"),
    (
        Errno::EINVAL,
        "move_mount(",
        "the target must be in this mount namespace and the source detached or not shared; a directory goes on a directory, a file on a file",
    ),
    (Errno::ELOOP, "move_mount(", "the mount would contain itself"),
    (
        Errno::EPERM,
        "mount_setattr(",
        "a flag that the host's mount carries is locked in a user namespace; it can be added to, not cleared",
    ),
    (
        Errno::ENOSYS,
        "mount_setattr(",
        "needs Linux 5.12; on an older kernel name each mount by itself instead of a recursive attribute",
    ),
    (Errno::ENOSYS, "open_tree(", "needs Linux 5.2"),
    (Errno::ENODEV, "fsopen(", "this file system is not in the kernel; load its module on the host first"),
    (Errno::EPERM, "fsopen(", "needs CAP_SYS_ADMIN in the mount namespace's user namespace"),
    (
        Errno::EPERM,
        "fsconfig(",
        "this file system cannot be mounted in a user namespace, or for proc and sysfs the host's own is partly covered by other mounts",
    ),
    (
        Errno::EPERM,
        "fsmount(",
        "in a user namespace a new proc or sysfs needs one that is fully visible, and a pid (network) namespace that the user namespace owns",
    ),
    (Errno::EBUSY, "fsconfig(", "the source or an upper directory is in use by another mount"),
    (
        Errno::EINVAL,
        "pivot_root(",
        "the new root must be a mount point, and no mount there may be shared: make the tree private first",
    ),
    (Errno::EBUSY, "pivot_root(", "the new root must be a mount point of its own, and not the root that is in use"),
    (Errno::EPERM, "mount(", "needs CAP_SYS_ADMIN in the mount namespace's user namespace"),
    (Errno::ENOSYS, "openat2(", "needs Linux 5.6; a container's seccomp filter may also hide it"),
    (Errno::EXDEV, "openat2(", "the path leads out of the tree that it must stay in"),
    (Errno::ELOOP, "openat2(", "the path goes through a symbolic link where none is allowed"),
    (
        Errno::EPERM,
        "write(\"/proc/",
        "the map or offset is not allowed: an ordinary user may map only its own id, and gid_map needs setgroups = deny before it",
    ),
    (
        Errno::EACCES,
        "write(\"timens_offsets\"",
        "time offsets can be set only before the first process enters the namespace",
    ),
    (
        Errno::EPERM,
        "write(\"uid_map\"",
        "an ordinary user may map only its own uid, once; ranges go through newuidmap and /etc/subuid",
    ),
    (
        Errno::EPERM,
        "write(\"gid_map\"",
        "an ordinary user may map only its own gid, once, after \"deny\" in setgroups; ranges go through newgidmap",
    ),
    (
        Errno::EINVAL,
        "write(\"uid_map\"",
        "the map is malformed, overlaps, or names ids that do not exist in the parent namespace",
    ),
    (
        Errno::EINVAL,
        "write(\"gid_map\"",
        "the map is malformed, overlaps, or names ids that do not exist in the parent namespace",
    ),
    (Errno::EACCES, "seccomp(", "set no_new_privs first, or hold CAP_SYS_ADMIN"),
    (
        Errno::EINVAL,
        "seccomp(",
        "the filter is malformed or longer than 4096 instructions, or a flag is unknown to this kernel",
    ),
    (Errno::ENOMEM, "seccomp(", "the filters of this process together exceed 32768 instructions"),
    (Errno::ESRCH, "seccomp(", "another thread has a filter of its own that does not descend from this one's"),
    (Errno::ENOSYS, "landlock_create_ruleset(", "Landlock needs Linux 5.13 built with CONFIG_SECURITY_LANDLOCK"),
    (
        Errno::EOPNOTSUPP,
        "landlock_create_ruleset(",
        "Landlock is built in but off; add landlock to the boot parameter lsm=",
    ),
    (
        Errno::EPERM,
        "capset(",
        "a set may only shrink; permitted cannot be regained and inheritable is bounded by the bounding set",
    ),
    (Errno::EPERM, "prctl(PR_CAPBSET_DROP", "needs CAP_SETPCAP in this user namespace"),
    (
        Errno::EPERM,
        "prctl(PR_CAP_AMBIENT",
        "the capability must be permitted and inheritable, and SECBIT_NO_CAP_AMBIENT_RAISE off",
    ),
    (Errno::EPERM, "prctl(PR_SET_SECUREBITS", "needs CAP_SETPCAP, or the bit is locked"),
    (Errno::ENOSYS, "keyctl(", "this kernel was built without keys (CONFIG_KEYS)"),
    (Errno::EPERM, "keyctl(", "a filter around palisade denies it, as those of container engines do"),
    (Errno::EDQUOT, "keyctl(", "the user has too many keys; raise sysctl kernel.keys.maxkeys and maxbytes"),
    (Errno::EPERM, "setgroups(", "needs CAP_SETGID, and /proc/self/setgroups must not be deny"),
    (Errno::EPERM, "setresuid(", "needs CAP_SETUID for an id that the process does not have"),
    (Errno::EPERM, "setresgid(", "needs CAP_SETGID for an id that the process does not have"),
    (Errno::EINVAL, "setresuid(", "the uid is not mapped in this user namespace"),
    (Errno::EINVAL, "setresgid(", "the gid is not mapped in this user namespace"),
    (Errno::EINVAL, "setgroups(", "a gid is not mapped in this user namespace"),
    (Errno::EPERM, "setrlimit(", "raising a hard limit needs CAP_SYS_RESOURCE"),
    (Errno::EINVAL, "setrlimit(", "the soft limit is above the hard limit"),
    (Errno::EACCES, "setpriority(", "a lower nice value needs CAP_SYS_NICE or RLIMIT_NICE"),
    (Errno::EINVAL, "sched_setaffinity(", "none of these CPUs is online and allowed to this process's cpuset"),
    (Errno::ENOEXEC, "execve", "the file is neither an ELF program of this machine nor a script with a #! line"),
    (Errno::ENOENT, "execve", "the program, its #! interpreter or its ELF loader is not in the workload's view"),
    (
        Errno::EACCES,
        "execve",
        "no execute permission, a noexec mount, or a Landlock domain that does not grant execute",
    ),
    (Errno::ETXTBSY, "execve", "the program is open for writing by someone"),
    (Errno::E2BIG, "execve", "argv and envp together are too long; raise RLIMIT_STACK or pass less"),
    (Errno::EMFILE, "", "raise RLIMIT_NOFILE (ulimit -n) of the launcher"),
    (Errno::ENFILE, "", "the host is out of open files; raise sysctl fs.file-max"),
    (
        Errno::ENOSPC,
        "mkdirat(",
        "the file system is full, or for a cgroup the hierarchy's limit on descendants is reached",
    ),
    (Errno::EROFS, "", "the file system is mounted read-only"),
];

/// Finds the advice for `errno` from a call whose text begins with one of the table's prefixes.
pub(crate) fn lookup(errno: Errno, call: &str) -> Option<&'static str> {
    TABLE.iter().find(|(row, prefix, _)| *row == errno && call.starts_with(prefix)).map(|(_, _, hint)| *hint)
}

/// Finds the advice for an errno as a number, from the text of the call that gave it.
#[must_use]
pub fn lookup_raw(errno: i32, call: &str) -> Option<&'static str> {
    lookup(Errno::from_raw(errno), call)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A row below a wider one of the same errno would never be found.
    #[test]
    fn no_row_hides_a_later_one() {
        for (at, (errno, prefix, _)) in TABLE.iter().enumerate() {
            for (earlier, wide, _) in &TABLE[..at] {
                assert!(!(earlier == errno && prefix.starts_with(wide)), "{errno:?} {prefix} is hidden by {wide}");
            }
        }
    }
}
