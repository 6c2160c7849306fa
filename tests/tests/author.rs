//! A plugin of somebody else's: the one of docs/plugins.md, built alone, outside this tree.

use palisade_tests::{Run, Scratch, Who, is_root, skip, tree};
use std::path::Path;

fn block<'a>(doc: &'a str, language: &str) -> &'a str {
    let fence = format!("```{language}\n");
    doc.split(&fence)
        .nth(1)
        .and_then(|rest| rest.split("\n```").next())
        .unwrap_or_else(|| panic!("no {language} block"))
}

#[test]
fn the_plugin_of_the_documentation_builds_alone_and_works() {
    if !is_root() {
        return skip("author:root", "the plugin must be root's");
    }
    let doc = std::fs::read_to_string(tree().join("docs/plugins.md")).unwrap();
    let top = Path::new(env!("CARGO_TARGET_TMPDIR")).join("author");
    std::fs::create_dir_all(top.join("src")).unwrap();
    let core = tree().join("core").display().to_string();
    let cargo = format!(
        "[package]\nname = \"example\"\nversion = \"0.1.0\"\nedition = \"2024\"\n[lib]\ncrate-type = [\"cdylib\"]\n[workspace]\n\
         [dependencies]\npalisade-abi = {{ path = \"{core}/abi\" }}\npalisade-sys = {{ path = \"{core}/sys\" }}\n"
    );
    std::fs::write(top.join("Cargo.toml"), cargo).unwrap();
    std::fs::copy(tree().join("Cargo.lock"), top.join("Cargo.lock")).unwrap();
    std::fs::write(top.join("src/lib.rs"), block(&doc, "rust")).unwrap();
    std::fs::write(top.join("src/manifest.ron"), block(&doc, "ron")).unwrap();
    let built = std::process::Command::new(env!("CARGO"))
        .args(["build", "--offline", "--quiet", "--target-dir"])
        // With the plugins of others that tests build: what they depend on is built once.
        .arg(Path::new(env!("CARGO_TARGET_TMPDIR")).join("alone"))
        .current_dir(&top)
        .output()
        .unwrap();
    assert!(built.status.success(), "{}", String::from_utf8_lossy(&built.stderr));

    // As its author would, before it is anywhere.
    let library = Path::new(env!("CARGO_TARGET_TMPDIR")).join("alone/debug/libexample.so");
    let checked = Run::palisade(["plugin", "check", library.to_str().unwrap()]).ran().code(0);
    checked.prints("example: 13 passed, 0 failed, 1 not applicable (0 of them");

    let dir = format!("/opt/palisade-test-{}-author", std::process::id());
    std::fs::create_dir(&dir).unwrap();
    std::fs::copy(&library, format!("{dir}/libpalisade_example.so")).unwrap();
    let scratch = Scratch::new();
    let policy = scratch.policy(
        "Policy(version: 1, process: (env: Keep([\"PATH\"])), plugins: {\n    \"namespaces\": (user: New, uts: New),\n    \"example\": (hostname: \"fence\"),\n})",
    );
    let palisade = |words: &[&str]| {
        let state = scratch.path().join("state");
        Run::palisade(words.iter().copied()).who(Who::User).env("XDG_STATE_HOME", state.to_str().unwrap()).ran()
    };
    let run = || palisade(&["run", "--plugin-dir", &dir, "--policy", policy.to_str().unwrap(), "hostname"]);
    let (ungranted, granted, ran) =
        (run(), palisade(&["plugin", "verify", "example", "--grant", "build", "--plugin-dir", &dir]), run());
    std::fs::remove_dir_all(&dir).unwrap();
    ungranted.code(119).says("palisade plugin verify example --grant build");
    granted.code(0);
    assert_eq!(ran.code(0).stdout, "fence\n");
}
