//! The calls from 424 on: the same number on every architecture. Last one known here: 470, Linux 6.19.

#[rustfmt::skip]
pub(super) const CALLS: &[(&str, u32)] = &[
    ("cachestat", 451), ("clone3", 435), ("close_range", 436), ("epoll_pwait2", 441), ("faccessat2", 439),
    ("fchmodat2", 452), ("file_getattr", 468), ("file_setattr", 469), ("fsconfig", 431), ("fsmount", 432),
    ("fsopen", 430), ("fspick", 433), ("futex_requeue", 456), ("futex_wait", 455), ("futex_waitv", 449),
    ("futex_wake", 454), ("getxattrat", 464), ("io_uring_enter", 426), ("io_uring_register", 427),
    ("io_uring_setup", 425), ("landlock_add_rule", 445), ("landlock_create_ruleset", 444),
    ("landlock_restrict_self", 446), ("listmount", 458), ("listns", 470), ("listxattrat", 465),
    ("lsm_get_self_attr", 459), ("lsm_list_modules", 461), ("lsm_set_self_attr", 460), ("map_shadow_stack", 453),
    ("memfd_secret", 447), ("mount_setattr", 442), ("move_mount", 429), ("mseal", 462), ("open_tree", 428),
    ("open_tree_attr", 467), ("openat2", 437), ("pidfd_getfd", 438), ("pidfd_open", 434), ("pidfd_send_signal", 424),
    ("process_madvise", 440), ("process_mrelease", 448), ("quotactl_fd", 443), ("removexattrat", 466),
    ("set_mempolicy_home_node", 450), ("setxattrat", 463), ("statmount", 457),
];
