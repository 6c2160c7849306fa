//! The section as it is read, checked and planned; the kernel is not touched.

mod live;

use crate::Privileges as Plugin_;
use crate::config::Config;
use palisade_abi::manifest::Manifest;
use palisade_abi::{Error, Host, Plugin as _, Step};
use palisade_model::diag::{Diagnostic, SourceId};
use palisade_model::layer::{Fragment, merge_layers};
use palisade_model::vars::Vars;

/// CAP_SETPCAP and CAP_NET_RAW.
const SOME: &str = "8448";

fn parse(text: &str) -> Result<Config, Diagnostic> {
    merge_layers(&[Fragment::policy(SourceId(0), text, 0)], &Vars::new())
}

fn host(facts: &[(&str, &str)]) -> Host {
    let usual = [("uid", "1000"), ("capabilities", SOME), ("kernel_major", "6"), ("kernel_minor", "18")];
    Host::new(usual.iter().chain(facts).map(|(k, v)| ((*k).to_owned(), (*v).to_owned())))
}

fn inside() -> Host {
    host(&[("new_user_namespace", "true"), ("plugins", "namespaces privileges")])
}

fn plan_on(text: &str, host: &Host) -> Result<Vec<Step>, Error> {
    let config = parse(text).unwrap_or_else(|said| panic!("{text}: {said}"));
    Plugin_::configure(config, host)?.plan(host)
}

fn words(text: &str, host: &Host) -> Vec<String> {
    let steps = plan_on(text, host).unwrap_or_else(|error| panic!("{text}: {error:?}"));
    steps.iter().map(|step| format!("{step:?}")).collect()
}

#[test]
fn nothing_written_means_nothing_kept() {
    let known = palisade_sys::caps::cap_last().unwrap() + 1;
    assert_eq!(
        words("()", &inside()),
        [
            format!("drop: drops all {known} capabilities from the bounding set"),
            "drop: gives the workload a session keyring of its own, empty".to_owned(),
            "drop: sets no_new_privs: no execve can add privileges".to_owned(),
            "drop: empties the permitted, effective, inheritable and ambient capability sets".to_owned(),
        ]
    );
}

#[test]
fn keep_fills_every_set() {
    let known = palisade_sys::caps::cap_last().unwrap() + 1;
    let expected = [
        format!("drop: drops {} of {known} capabilities from the bounding set, keeps CAP_NET_RAW", known - 1),
        "drop: gives the workload a session keyring of its own, empty".to_owned(),
        "drop: puts CAP_NET_RAW into the inheritable capability set and CAP_NET_RAW into the ambient one".to_owned(),
        "drop: sets no_new_privs: no execve can add privileges".to_owned(),
        "drop: keeps CAP_NET_RAW in the permitted, effective, inheritable and ambient capability sets, nothing else"
            .to_owned(),
    ];
    for name in ["net_raw", "CAP_NET_RAW", "Cap_Net_Raw"] {
        assert_eq!(words(&format!("(capabilities: (keep: [\"{name}\"]))"), &inside()), expected);
    }
}

#[test]
fn each_part_can_be_chosen() {
    let text = "(no_new_privs: false, bounding_demand: Off, keyring: Inherit, securebits: [NoRoot, NoRootLocked],
        capabilities: (permitted: [\"kill\", \"chown\"], effective: [\"kill\"]))";
    assert_eq!(
        words(text, &inside()),
        [
            "drop: sets the securebits NoRoot, NoRootLocked",
            "drop: reduces the capability sets: permitted to CAP_CHOWN,CAP_KILL, effective to CAP_KILL, inheritable to \
             nothing, ambient to nothing",
        ]
    );
    assert_eq!(
        words("(no_new_privs: false, keyring_demand: Off, capabilities: (keep: [\"all\"]))", &inside()),
        [
            "drop: puts all into the inheritable capability set and all into the ambient one",
            "drop: keeps all in the permitted, effective, inheritable and ambient capability sets, nothing else",
        ]
    );
}

#[test]
fn sets_that_contradict_each_other_are_refused() {
    for (text, message) in [
        ("(effective: [\"kill\"])", "CAP_KILL is in `effective`, but not in `permitted`"),
        ("(ambient: [\"kill\"])", "CAP_KILL is in `ambient`, but not in `permitted`"),
        ("(ambient: [\"kill\"], permitted: [\"kill\"])", "CAP_KILL is in `ambient`, but not in `inheritable`"),
        ("(inheritable: [\"kill\"])", "CAP_KILL is in `inheritable`, but not in `bounding`"),
        ("(effective: [\"all\"], permitted: [\"kill\"])", "all is in `effective`, but not in `permitted`"),
    ] {
        let error = plan_on(&format!("(capabilities: {text})"), &inside()).unwrap_err();
        assert_eq!(error.message, message, "{text}");
        assert!(error.origin.is_some(), "{text}");
        assert!(error.help.contains("or write `keep: [\""), "{}", error.help);
    }
    assert!(plan_on("(capabilities: (inheritable: [\"kill\"]), bounding_demand: Off)", &inside()).is_ok());
}

#[test]
fn names_are_suggested() {
    let said = parse("(capabilities: (keep: [\"net_bind_servce\"]))").unwrap_err();
    assert_eq!(said.message, "unknown capability `net_bind_servce`");
    assert_eq!(said.help.as_deref(), Some("did you mean `net_bind_service`?"));
    let said = parse("(capabilities: (keep: [\"CAP_SYS_ADMN\"]))").unwrap_err();
    assert_eq!(said.help.as_deref(), Some("did you mean `sys_admin`?"));
    let said = parse("(capabilities: (keep: [\"root\"]))").unwrap_err();
    assert_eq!(said.help.as_deref(), Some("capabilities(7) names them; `all` stands for every one"));
    assert!(parse("(securebits: [Noroot])").unwrap_err().message.contains("Noroot"));
}

#[test]
fn what_the_launcher_does_not_have_is_refused_before_anything_starts() {
    let here = host(&[("plugins", "privileges")]);
    let error = plan_on("(capabilities: (keep: [\"sys_module\"]))", &here).unwrap_err();
    assert_eq!(error.message, "the launcher does not have CAP_SYS_MODULE, so the workload cannot keep it");
    assert!(error.origin.is_some());
    // Not told whether there will be a user namespace: decided when it is done.
    let unsure = host(&[("plugins", "namespaces privileges")]);
    assert!(plan_on("(capabilities: (keep: [\"sys_module\"]))", &unsure).is_ok());
    let told = host(&[("plugins", "namespaces privileges"), ("new_user_namespace", "false")]);
    assert!(plan_on("(capabilities: (keep: [\"sys_module\"]))", &told).is_err());
}

#[test]
fn without_setpcap_only_a_bounding_set_that_is_empty_already_will_do() {
    let bare = host(&[("plugins", "privileges"), ("capabilities", "0")]);
    if palisade_sys::caps::bounding().unwrap().is_empty() {
        assert!(plan_on("()", &bare).is_ok());
        return;
    }
    let error = plan_on("()", &bare).unwrap_err();
    assert!(error.message.starts_with("the bounding set can be changed only with CAP_SETPCAP"));
    assert!(error.help.ends_with("bounding_demand: Degrade, harmless while no_new_privs is on"), "{}", error.help);
    assert!(plan_on("(bounding_demand: Degrade)", &bare).is_ok());
    assert!(plan_on("(bounding_demand: Off)", &bare).is_ok());
    assert!(plan_on("(bounding_demand: Off, securebits: [NoRoot])", &bare).is_err());
    assert!(plan_on("(bounding_demand: Off, securebits: [ExecRestrictFile])", &bare).is_ok());
}

#[test]
fn a_young_securebit_names_its_kernel() {
    let old = host(&[("new_user_namespace", "true"), ("kernel_minor", "13")]);
    let error = plan_on("(securebits: [ExecDenyInteractive])", &old).unwrap_err();
    assert_eq!(error.message, "the securebit ExecDenyInteractive needs Linux 6.14");
    assert!(plan_on("(securebits: [NoRoot])", &old).is_ok());
}

/// An empty permitted set is not what uid 0 has after execve, if the bounding set is full.
#[test]
fn root_must_not_regain_what_was_taken() {
    let root = host(&[("new_user_namespace", "true"), ("workload_uid", "0")]);
    let open = "(no_new_privs: false, capabilities: (bounding: [\"kill\"]))";
    let error = plan_on(open, &root).unwrap_err();
    assert_eq!(
        error.message,
        "the workload runs as uid 0 and would regain CAP_KILL at execve, which is not in `permitted`"
    );
    assert!(plan_on(open, &inside()).is_ok());
    for text in [
        "(no_new_privs: false)",
        "(capabilities: (bounding: [\"kill\"]))",
        "(no_new_privs: false, capabilities: (bounding: [\"kill\"]), securebits: [NoRoot])",
        "(no_new_privs: false, capabilities: (keep: [\"kill\"]))",
        "(no_new_privs: false, capabilities: (keep: [\"all\"]))",
    ] {
        assert!(plan_on(text, &root).is_ok(), "{text}");
    }
    for demand in ["Degrade", "Off"] {
        assert!(plan_on(&format!("(no_new_privs: false, bounding_demand: {demand})"), &root).is_err());
    }
}

#[test]
fn the_reference_sets_every_option_and_can_be_planned() {
    let manifest = Manifest::parse(include_str!("../manifest.ron")).unwrap();
    let config = parse(&manifest.reference).unwrap();
    let Config { no_new_privs, capabilities, securebits, bounding_demand, keyring, keyring_demand } = &config;
    assert!(no_new_privs.is_some() && bounding_demand.is_some() && keyring.is_some() && keyring_demand.is_some());
    assert_eq!(securebits.len(), 12);
    let all = [
        &capabilities.keep,
        &capabilities.bounding,
        &capabilities.permitted,
        &capabilities.effective,
        &capabilities.inheritable,
        &capabilities.ambient,
    ];
    assert!(all.iter().all(|list| !list.is_empty()));
    assert_eq!(words(&manifest.reference, &inside()).len(), 6);
}
