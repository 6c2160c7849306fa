use super::*;
use palisade_abi::Amount;

fn info(stage: Stage) -> StepInfo {
    StepInfo {
        plugin: "some".to_owned(),
        stage,
        words: "does something".to_owned(),
        why: String::new(),
        origin: None,
        demand: Demand::Require,
        after: Vec::new(),
        conflicts: Vec::new(),
        clone_flags: 0,
        concurrent: false,
        witness: false,
    }
}

fn host() -> Host {
    Host::new([("capabilities".to_owned(), u64::MAX.to_string())])
}

fn make(text: &str, stage: Stage) -> Result<StepInfo, String> {
    let mut info = info(stage);
    Maker::default().make(text, &mut info, &host()).map(|_| info)
}

/// Every kind with the stages in which it makes sense.
fn kinds() -> Vec<(Ready, Vec<Stage>)> {
    let files = vec![Stage::Prepare, Stage::Attach, Stage::Build];
    vec![
        (Ready::make_file("/proc/sys/net/x", "1", 0o600), files.clone()),
        (Ready::make_directory("/tmp/x", 0o755), files),
        (Ready::mount("tmpfs", "", "/tmp", ["nosuid"], "size=1m"), vec![Stage::Build]),
        (Ready::limit("RLIMIT_NOFILE", 1, Amount::Unlimited), vec![Stage::Drop]),
        (Ready::hostname("box"), vec![Stage::Build]),
        (Ready::filter([(6, 0, 0, 0x7fff_0000)], ["LOG"]), vec![Stage::Seal]),
        (Ready::namespaces(["CLONE_NEWUTS", "CLONE_NEWIPC"]), vec![Stage::Clone]),
    ]
}

#[test]
fn each_kind_has_its_stages_and_is_refused_in_all_others() {
    for (ready, stages) in kinds() {
        for stage in palisade_model::stage::STAGES.iter().map(|row| row.stage) {
            let made = make(&ready.to_text(), stage);
            if stages.contains(&stage) {
                made.unwrap_or_else(|why| panic!("{ready:?} in {stage}: {why}"));
            } else {
                let why = made.unwrap_err();
                assert!(
                    why.contains(&format!("makes no sense in stage {stage}; it belongs in {}", stages[0])),
                    "{why}"
                );
            }
        }
    }
}

#[test]
fn the_envelope_is_completed() {
    use palisade_sys::namespace::{CLONE_NEWIPC, CLONE_NEWUTS};
    let born = make(&Ready::namespaces(["CLONE_NEWUTS", "CLONE_NEWIPC"]).to_text(), Stage::Clone).unwrap();
    assert_eq!((born.clone_flags, born.witness), (CLONE_NEWUTS | CLONE_NEWIPC, false));
    // Who may not look has the child look.
    let mut alone = info(Stage::Clone);
    let text = Ready::namespaces(["CLONE_NEWUTS"]).to_text();
    Maker::default().make(&text, &mut alone, &Host::default()).unwrap();
    assert!(alone.witness);
    assert!(make(&Ready::hostname("x").to_text(), Stage::Build).unwrap().witness);
    assert!(!make(&Ready::make_directory("/x", 0o755).to_text(), Stage::Prepare).unwrap().witness);
}

#[test]
fn what_is_not_known_or_makes_no_sense_is_refused() {
    for (text, stage, said) in [
        ("Teleport(to: \"/\")", Stage::Build, "not understood"),
        ("", Stage::Build, "not understood"),
        ("WriteFile(path: \"x\", text: \"\")", Stage::Prepare, "no path from `/`"),
        ("WriteFile(path: \"/a/../b\", text: \"\")", Stage::Prepare, "no path from `/`"),
        ("WriteFile(path: \"/\", text: \"\")", Stage::Prepare, "no path from `/`"),
        ("WriteFile(path: \"/a\", text: \"\", mode: 0o4755)", Stage::Prepare, "beyond 0o777"),
        ("WriteFile(path: \"/proc/sys/kernel/pid_max\", text: \"1\")", Stage::Build, "the whole host's"),
        ("MakeDirectory(path: \"/a\", mode: 0o2755)", Stage::Build, "beyond 0o1777"),
        ("Mount(target: \"/a\")", Stage::Build, "no fstype"),
        ("Mount(fstype: \"tmpfs\", target: \"/a\", flags: [\"read-only\"])", Stage::Build, "no flag of a mount"),
        ("Mount(source: \"/a\", target: \"/b\", flags: [\"bind\"], data: \"x\")", Stage::Build, "no data"),
        ("Limit(resource: \"RLIMIT_FILES\", soft: 1, hard: 1)", Stage::Drop, "no resource of getrlimit(2)"),
        ("Limit(resource: \"RLIMIT_CPU\", soft: 2, hard: 1)", Stage::Drop, "above the hard one"),
        ("Hostname(name: \"\")", Stage::Build, "1 to 64 bytes"),
        ("Filter(instructions: [])", Stage::Seal, "1 to 4096"),
        ("Filter(instructions: [(6, 0, 0, 0)], flags: [\"NEW_LISTENER\"])", Stage::Seal, "no flag that a filter"),
        ("Namespaces(flags: [])", Stage::Clone, "names no flag"),
        ("Namespaces(flags: [\"CLONE_VM\"])", Stage::Clone, "no CLONE_NEW* flag"),
    ] {
        let why = make(text, stage).unwrap_err();
        assert!(why.contains(said), "{text}: {why}");
    }
    // The twin of the setting above: on the host it is undone.
    make("WriteFile(path: \"/proc/sys/kernel/pid_max\", text: \"1\")", Stage::Prepare).unwrap();
}
