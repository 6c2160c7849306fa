//! Groups for `allow`, where `default` is not `Allow`: bricks for a list of what a program may do.

use super::Group;
use super::Member::{AllExcept, Calls};

pub(super) const GROUPS: &[Group] = &[
    Group {
        name: "@launch",
        why: "what palisade itself does between the filter and the workload's first instruction; a list without it \
              cannot start anything",
        members: &[Calls(LAUNCH)],
    },
    Group {
        name: "@basic",
        why: "what every program needs: memory, threads' locks, signals, time, its own ids, its end",
        members: &[
            Calls(&["mmap", "munmap", "mprotect", "mremap", "madvise", "brk", "mincore", "mlock", "munlock", "msync"]),
            Calls(&["arch_prctl", "prctl", "set_tid_address", "set_robust_list", "get_robust_list", "rseq"]),
            Calls(&["futex", "futex_waitv", "futex_wait", "futex_wake", "futex_requeue", "membarrier"]),
            Calls(&["rt_sigaction", "rt_sigprocmask", "rt_sigreturn", "rt_sigpending", "rt_sigsuspend"]),
            Calls(&["rt_sigtimedwait", "sigaltstack", "restart_syscall", "pause", "alarm", "tgkill"]),
            Calls(&["clock_gettime", "clock_getres", "clock_nanosleep", "nanosleep", "gettimeofday", "time", "times"]),
            Calls(&["getitimer", "setitimer", "timer_create", "timer_settime", "timer_gettime", "timer_delete"]),
            Calls(&["timer_getoverrun", "getpid", "gettid", "getppid", "getpgid", "getpgrp", "getsid"]),
            Calls(&["getuid", "geteuid", "getgid", "getegid", "getresuid", "getresgid", "getgroups", "capget"]),
            Calls(&["uname", "sysinfo", "getcpu", "getrandom", "getrusage", "getrlimit", "prlimit64", "getpriority"]),
            Calls(&[
                "sched_yield",
                "sched_getaffinity",
                "sched_getparam",
                "sched_getscheduler",
                "sched_getattr",
                "get_mempolicy",
            ]),
            Calls(&["sched_get_priority_max", "sched_get_priority_min", "exit", "exit_group"]),
        ],
    },
    Group {
        name: "@io",
        why: "works with what is open already: reads, writes, waits, copies, closes",
        members: &[
            Calls(&["read", "write", "readv", "writev", "pread64", "pwrite64", "preadv", "pwritev", "preadv2"]),
            Calls(&["pwritev2", "lseek", "close", "close_range", "dup", "dup2", "dup3", "fcntl", "ioctl", "flock"]),
            Calls(&["fstat", "fstatfs", "fsync", "fdatasync", "sync_file_range", "ftruncate", "fallocate"]),
            Calls(&["fadvise64", "readahead", "sendfile", "splice", "tee", "vmsplice", "copy_file_range"]),
            Calls(&["pipe", "pipe2", "eventfd", "eventfd2", "memfd_create", "timerfd_create", "timerfd_settime"]),
            Calls(&["timerfd_gettime", "signalfd", "signalfd4", "poll", "ppoll", "select", "pselect6"]),
            Calls(&["epoll_create", "epoll_create1", "epoll_ctl", "epoll_wait", "epoll_pwait", "epoll_pwait2"]),
        ],
    },
    Group {
        name: "@file-read",
        why: "looks at files by name; open and openat can also create, so pair it with a view or Landlock",
        members: &[
            Calls(&["open", "openat", "openat2", "stat", "lstat", "newfstatat", "statx", "statfs", "access"]),
            Calls(&["faccessat", "faccessat2", "readlink", "readlinkat", "getdents", "getdents64", "getcwd", "chdir"]),
            Calls(&["fchdir", "getxattr", "lgetxattr", "fgetxattr", "listxattr", "llistxattr", "flistxattr"]),
            Calls(&["getxattrat", "listxattrat", "file_getattr", "name_to_handle_at", "cachestat"]),
            Calls(&["inotify_init", "inotify_init1", "inotify_add_watch", "inotify_rm_watch"]),
        ],
    },
    Group {
        name: "@file-write",
        why: "makes, changes, moves and removes files by name",
        members: &[
            Calls(&["creat", "mkdir", "mkdirat", "rmdir", "unlink", "unlinkat", "rename", "renameat", "renameat2"]),
            Calls(&["link", "linkat", "symlink", "symlinkat", "truncate", "chmod", "fchmod", "fchmodat"]),
            Calls(&["fchmodat2", "chown", "fchown", "lchown", "fchownat", "umask", "utime", "utimes", "utimensat"]),
            Calls(&["futimesat", "setxattr", "lsetxattr", "fsetxattr", "removexattr", "lremovexattr"]),
            Calls(&["fremovexattr", "setxattrat", "removexattrat", "file_setattr", "mknod", "mknodat"]),
            Calls(&["sync", "syncfs"]),
        ],
    },
    Group {
        name: "@process",
        why: "starts, waits for and signals processes and threads; clone3 stays ENOSYS, so that clone is used",
        members: &[
            Calls(&["clone", "fork", "vfork", "execve", "execveat", "wait4", "waitid", "kill", "tkill"]),
            Calls(&["rt_sigqueueinfo", "rt_tgsigqueueinfo", "pidfd_open", "pidfd_send_signal", "setpgid", "setsid"]),
        ],
    },
    Group {
        name: "@network",
        why: "sockets; deny `@network-exotic` beside it",
        members: &[
            Calls(&["socket", "socketpair", "connect", "bind", "listen", "accept", "accept4", "shutdown"]),
            Calls(&["sendto", "sendmsg", "sendmmsg", "recvfrom", "recvmsg", "recvmmsg", "getsockname"]),
            Calls(&["getpeername", "getsockopt", "setsockopt"]),
        ],
    },
    Group {
        name: "@ipc",
        why: "System V and POSIX queues, semaphores and shared memory",
        members: &[
            Calls(&["shmget", "shmat", "shmdt", "shmctl", "semget", "semop", "semtimedop", "semctl"]),
            Calls(&["msgget", "msgsnd", "msgrcv", "msgctl", "mq_open", "mq_unlink", "mq_timedsend"]),
            Calls(&["mq_timedreceive", "mq_notify", "mq_getsetattr"]),
        ],
    },
    Group {
        name: "@default-allow",
        why: "every known call but those of `@default-deny`; deny that beside it for its conditions on arguments",
        members: &[AllExcept("@default-deny")],
    },
];

/// The hand-shake after Seal (one message each way), and the execve.
pub(super) const LAUNCH: &[&str] = &["execve", "sendto", "recvfrom", "recvmsg", "exit_group"];
