//! Golden plans: the words of every step, for what a policy may say.

use super::*;
use palisade_abi::Plugin as _;
use palisade_model::diag::SourceId;
use palisade_model::layer::{Fragment, merge_layers};
use palisade_model::vars::Vars;

const ROOT: u64 = (1 << 41) - 1;

fn host(uid: u32, capabilities: u64, plugins: &str) -> Host {
    let facts = [
        ("uid", uid.to_string()),
        ("gid", uid.to_string()),
        ("capabilities", capabilities.to_string()),
        ("plugins", plugins.to_owned()),
    ];
    Host::new(facts.map(|(name, value)| (name.to_owned(), value)))
}

fn plan_on(text: &str, host: &Host) -> Result<Vec<String>, Error> {
    let fragment = Fragment::policy(SourceId(0), text, 0);
    let config = merge_layers(&[fragment], &Vars::new()).map_err(|e| Error::policy(e.message))?;
    let steps = crate::Namespaces::configure(config, host)?.plan(host)?;
    Ok(steps.iter().map(|step| format!("{step:?}")).collect())
}

fn plan(text: &str) -> Result<Vec<String>, Error> {
    plan_on(text, &host(0, ROOT, "namespaces filesystem"))
}

fn refused(text: &str, host: &Host) -> String {
    plan_on(text, host).unwrap_err().message
}

#[test]
fn the_reference_sets_every_option_and_is_planned() {
    let manifest = palisade_abi::manifest::Manifest::parse(include_str!("../manifest.ron")).unwrap();
    let fragment = Fragment::policy(SourceId(0), manifest.reference.clone(), 0);
    let config: Config = merge_layers(&[fragment], &Vars::new()).unwrap();
    let set = [&config.mount, &config.pid, &config.net, &config.ipc, &config.uts, &config.cgroup, &config.time];
    assert!(set.into_iter().all(Option::is_some));
    assert!(config.user.is_some() && config.ids.is_some() && config.setgroups.is_some() && config.nested.is_some());
    assert!(config.hostname.is_some() && config.domainname.is_some() && config.loopback.is_some());
    assert!(config.time_offsets.boottime.is_some() && config.time_offsets.monotonic.is_some());
    assert_eq!(
        plan(&manifest.reference).unwrap(),
        [
            "clone: new user namespace: user and group ids of its own",
            "clone: new cgroup namespace: cgroup paths of its own",
            "clone: new ipc namespace: System V and POSIX message queues of its own",
            "clone: new uts namespace: host and domain name of its own",
            "clone: new net namespace: network (only loopback) of its own",
            "clone: new pid namespace: process ids of its own",
            "clone: new mount namespace: mounts of its own",
            "attach: maps uid 0-65535 to the host's 100000 and on and gid 0-65535 to the host's 100000 and on",
            "build: becomes uid 0, gid 0 and no other group inside",
            "build: moves CLOCK_MONOTONIC by 0 s and CLOCK_BOOTTIME by -3600 s",
            "build: makes every mount private",
            "build: allows no user namespace inside: user.max_user_namespaces is 0 in its own",
            "build: sets the hostname `box`",
            "build: sets the domainname `fence`",
            "build: brings the loopback interface up",
        ]
    );
}

#[test]
fn root_needs_no_user_namespace_and_gets_none_as_needed() {
    assert_eq!(
        plan("( mount: New, pid: New, user: AsNeeded )").unwrap(),
        [
            "clone: new pid namespace: process ids of its own",
            "clone: new mount namespace: mounts of its own",
            "build: makes every mount private",
        ]
    );
}

#[test]
fn an_ordinary_user_gets_one_and_looks_from_inside() {
    let host = host(1001, 0, "namespaces filesystem");
    assert_eq!(
        plan_on("( mount: New, user: AsNeeded )", &host).unwrap(),
        [
            "clone: new user namespace: user and group ids of its own",
            "clone: new mount namespace: mounts of its own",
            "attach: maps uid 1001 to the host's 1001 and gid 1001 to the host's 1001",
            "build: becomes uid 1001, gid 1001 inside",
            "build: looks from inside whether the new namespaces are new",
            "build: makes every mount private",
        ]
    );
    assert!(refused("( mount: New )", &host).contains("CAP_SYS_ADMIN"));
}

#[test]
fn a_map_that_covers_root_is_checked_inside_and_refused_with_the_hosts_view() {
    let steps = plan("( user: New, mount: New, ids: Keep )").unwrap();
    assert!(steps.last().unwrap().starts_with("drop: checks that the view"));
    let said = refused("( user: New, ids: Keep )", &host(0, ROOT, "namespaces"));
    assert!(said.contains("covers root"), "{said}");
}

#[test]
fn joining_opens_first_and_enters_the_user_namespace_before_the_others() {
    assert_eq!(
        plan("( net: Join(\"/run/netns/blue\"), user: Join(77), ipc: New )").unwrap(),
        [
            "prepare: opens the user namespace of process 77",
            "build: joins the user namespace of process 77",
            "prepare: opens the net namespace of /run/netns/blue",
            "build: joins the net namespace of /run/netns/blue",
            "build: becomes uid 0, or the first that is mapped and gid 0, or the first that is mapped",
            "build: new ipc namespace: System V and POSIX message queues of its own",
        ]
    );
    assert_eq!(
        plan("( pid: Join(77) )").unwrap(),
        ["prepare: opens the pid namespace of process 77", "attach: takes the launcher back to its own pid namespace",]
    );
}

#[test]
fn what_makes_no_sense_is_refused() {
    let root = host(0, ROOT, "namespaces filesystem");
    for (text, says) in [
        ("( hostname: \"box\" )", "`hostname` would be set"),
        ("( uts: Join(7), hostname: \"box\" )", "`hostname` would be set"),
        ("( loopback: true )", "`loopback` would be set"),
        ("( time_offsets: (boottime: 5) )", "`time_offsets` would be set"),
        ("( ids: Auto )", "no new user namespace"),
        ("( user: AsNeeded, ids: Keep )", "no new user namespace"),
        ("( setgroups: Deny )", "no new user namespace"),
        ("( user: AsNeeded, nested: Deny )", "no new user namespace"),
        ("( user: Join(7), pid: New )", "pid namespace would not belong"),
        ("( mount: Join(7) )", "that others use"),
    ] {
        let said = refused(text, &root);
        assert!(said.contains(says), "{text}: {said}");
    }
    assert_eq!(plan("()").unwrap(), Vec::<String>::new());
    assert_eq!(plan("( net: Host, loopback: false )").unwrap(), Vec::<String>::new());
}
