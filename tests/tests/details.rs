//! What steps put in force, to the letter: `palisade plan --details` and `policy show --bpf`.

use palisade_tests::{Ran, Run, Scratch, Who, built, is_root, skip};

fn show(policy: &str, more: &[&str]) -> Ran {
    Run::palisade([&["policy", "show", policy, "--bpf"], more].concat()).ran().code(0)
}

#[test]
fn the_filter_that_is_loaded_is_shown_instruction_by_instruction() {
    let shown = show("untrusted", &[]).stdout;
    let (head, program) = shown.split_once('\n').unwrap();
    let count: usize = head.rsplit_once('(').unwrap().1.trim_end_matches(" instructions)").parse().unwrap();
    assert_eq!(program.lines().count(), count, "{head}");
    // The architecture comes first; each call that is denied is found by its number.
    assert!(program.starts_with("   0  ld   [4]"), "{program}");
    for about in ["; ptrace", "; errno EPERM", "; errno ENOSYS", "; kill the process", "; argument 1, low half"] {
        assert!(program.lines().any(|line| line.ends_with(about)), "no line ends with {about:?}:\n{program}");
    }
    let scratch = Scratch::new();
    let without = scratch.policy("Policy(version: 1, extends: [\"untrusted\"], drop: [\"seccomp\"])");
    show(without.to_str().unwrap(), &[]).prints("loads no BPF program");
    let own = scratch.policy(
        "Policy(version: 1, plugins: {\"privileges\": (), \"seccomp\": (deny: [Answer(Call(\"kcmp\"), KillProcess)])})",
    );
    let programs: serde_json::Value = serde_json::from_str(&show(own.to_str().unwrap(), &["--json"]).stdout).unwrap();
    assert_eq!(programs.as_array().unwrap().len(), 1);
    let listing = programs[0]["bpf"].as_str().unwrap();
    assert!(listing.lines().any(|line| line.contains("j") && line.ends_with("; kcmp")), "{listing}");
}

/// The act is done without the profile and answered by it, by the errno that it says.
#[test]
fn a_profile_of_the_container_world_is_in_force() {
    let scratch = Scratch::new();
    let rule = r#"{"names": ["mkdir", "mkdirat", "not_a_call_yet"], "action": "SCMP_ACT_ERRNO", "errnoRet": 28}"#;
    let profile = format!(r#"{{"defaultAction": "SCMP_ACT_ALLOW", "syscalls": [{rule}]}}"#);
    let file = scratch.file("profile.json", profile);
    let policy = scratch.policy(&format!(
        "Policy(version: 1, extends: [\"untrusted\"], plugins: {{\"seccomp\": (oci_profile: \"{}\")}})",
        file.display()
    ));
    Run::under(&policy, ["mkdir", "/tmp/x"]).ran().code(1).says("No space left on device");
    Run::under("untrusted", ["mkdir", "/tmp/x"]).ran().code(0);
    std::fs::write(&file, "{}").unwrap();
    Run::under(&policy, ["true"]).ran().code(118).says("missing field `defaultAction`").says("oci_profile");
}

#[test]
fn a_plan_shows_details_where_they_are_asked_for() {
    let plan = |more: &[&str]| {
        let words = [&["plan", "--policy", "untrusted"], more, &["--", "true"]].concat();
        Run::palisade(words).ran().code(0).stdout
    };
    assert!(!plan(&[]).contains("ld   [4]"));
    assert!(plan(&["--details"]).contains("bpf        0  ld   [4]"));
    let of = |more: &[&str]| serde_json::from_str::<serde_json::Value>(&plan(more)).unwrap();
    let steps = of(&["--json", "--details"])["steps"].clone();
    let with = |step: &&serde_json::Value| step["details"]["bpf"].is_string();
    assert_eq!(steps.as_array().unwrap().iter().filter(with).count(), 1);
    assert!(of(&["--json"])["steps"].as_array().unwrap().iter().all(|step| step.get("details").is_none()));
}

#[test]
fn a_plugin_that_fails_at_it_says_so_and_no_more() {
    if !is_root() {
        return skip("details:root", "the plugin must be root's");
    }
    let scratch = Scratch::new();
    let dir = format!("/opt/palisade-test-{}-details", std::process::id());
    std::fs::create_dir(&dir).unwrap();
    std::fs::copy(built().with_file_name("libsaboteur.so"), format!("{dir}/libpalisade_saboteur.so")).unwrap();
    let state = scratch.path().join("state");
    let palisade =
        |words: &[&str]| Run::palisade(words).who(Who::User).env("XDG_STATE_HOME", state.to_str().unwrap()).ran();
    palisade(&["plugin", "verify", "saboteur", "--grant", "build", "--plugin-dir", &dir]).code(0);
    let ask = |how: &str| {
        let section = format!("at: \"{}\", how: \"{how}\"", if how.is_empty() { "" } else { "details" });
        let policy = scratch.policy(&format!("Policy(version: 1, plugins: {{\"saboteur\": ({section})}})"));
        palisade(&["plan", "--details", "--plugin-dir", &dir, "--policy", policy.to_str().unwrap(), "--", "true"])
    };
    let all = [ask(""), ask("error"), ask("panic"), ask("exit")];
    std::fs::remove_dir_all(&dir).unwrap();
    let [good, error, panic, exit] = all;
    good.code(0).prints("nothing  all of it\n").prints("in two lines\n");
    error.code(0).prints("nothing  as asked in details");
    panic.code(0).prints("error   it panicked in `details`");
    exit.code(119).says("saboteur: `details` ended the process");
}
