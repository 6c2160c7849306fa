//! The documentation against the code.

use palisade_tests::{Run, Scratch, is_root, tree};
use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

fn read(path: &str) -> String {
    std::fs::read_to_string(tree().join(path)).unwrap_or_else(|e| panic!("{path}: {e}"))
}

/// Each plugin's reference section stands in docs/policy.md as its manifest has it.
#[test]
fn the_references_of_the_plugins_are_in_the_policy_documentation() {
    let doc = read("docs/policy.md");
    let mut seen = 0;
    for entry in std::fs::read_dir(tree().join("plugins")).unwrap() {
        let name = entry.unwrap().file_name().to_string_lossy().into_owned();
        if name == "examples" {
            continue;
        }
        let listed = Run::palisade(["plugin", "info", &name, "--json"]).ran().code(0).stdout;
        let info: serde_json::Value = serde_json::from_str(&listed).unwrap();
        let reference = info["reference"].as_str().or(info["manifest"]["reference"].as_str()).unwrap();
        let (begin, end) = (format!("<!-- reference: {name} -->"), "<!-- /reference -->");
        let block = doc.split(&begin).nth(1).and_then(|rest| rest.split(end).next());
        let block = block.unwrap_or_else(|| panic!("docs/policy.md has no {begin}"));
        assert!(
            block.contains(reference.trim()),
            "the reference of {name} in docs/policy.md is not that of its manifest"
        );
        seen += 1;
    }
    assert!(seen >= 6);
}

/// The names of the fields of a struct in a source file.
fn fields(path: &str, of: &str) -> BTreeSet<String> {
    let text = read(path);
    let body = text.split(&format!("pub struct {of} {{")).nth(1).unwrap_or_else(|| panic!("{path} has no {of}"));
    let body = body.split("\n    }\n").next().unwrap().split("\n}\n").next().unwrap();
    let names = body.lines().filter_map(|line| line.trim().strip_prefix("pub ")?.split(':').next());
    names.map(str::to_owned).collect()
}

#[test]
fn every_field_of_the_process_section_is_documented() {
    let doc = read("docs/policy.md");
    let fields = fields("core/model/src/process/mod.rs", "Process");
    assert!(fields.contains("argv") && fields.len() > 15, "{fields:?}");
    for field in fields {
        assert!(doc.contains(&format!("`{field}`")), "docs/policy.md does not tell of process.{field}");
    }
    for field in ["version", "description", "extends", "process", "plugins", "tests", "locked", "replace", "drop"] {
        assert!(doc.contains(&format!("`{field}`")), "docs/policy.md does not tell of {field}");
    }
}

fn pages() -> Vec<PathBuf> {
    let mut all: Vec<PathBuf> =
        ["README.md", "CONTRIBUTING.md", "SECURITY.md", "core/README.md"].iter().map(|p| tree().join(p)).collect();
    all.extend(std::fs::read_dir(tree().join("docs")).unwrap().map(|entry| entry.unwrap().path()));
    all
}

#[test]
fn links_lead_somewhere() {
    let mut seen = 0;
    for page in pages() {
        let text = std::fs::read_to_string(&page).unwrap();
        for target in text.split("](").skip(1).filter_map(|rest| rest.split(')').next()) {
            if target.starts_with("http") || target.starts_with('#') {
                continue;
            }
            let path = page.parent().unwrap().join(target.split('#').next().unwrap());
            assert!(path.exists(), "{}: {target} leads nowhere", page.display());
            seen += 1;
        }
    }
    assert!(seen > 5);
}

/// The blocks of a page between ```` ```LANGUAGE ```` and the end.
fn blocks(text: &str, language: &str) -> Vec<String> {
    let fence = format!("```{language}\n");
    text.split(&fence).skip(1).filter_map(|rest| rest.split("\n```").next()).map(str::to_owned).collect()
}

#[test]
fn the_readme_is_true() {
    let readme = read("README.md");
    let commands = blocks(&readme, "sh");
    assert!(
        commands.iter().any(|block| block.contains("cargo build --release && target/release/palisade run")),
        "{commands:?}"
    );
    assert!(commands.iter().any(|block| block.trim() == "bash tests/run"), "{commands:?}");
    assert!(read(".ci/run").contains("bash tests/run"));
    let policies = blocks(&readme, "ron");
    assert!(!policies.is_empty());
    let place = Scratch::new();
    for policy in policies {
        let path = place.policy(&policy);
        Run::palisade(["policy", "check", path.to_str().unwrap()]).cwd(place.path()).ran().code(0);
        if is_root() {
            Run::under(&path, ["true"]).cwd(place.path()).ran().code(0);
        }
    }
    for page in pages() {
        let text = std::fs::read_to_string(&page).unwrap();
        assert!(!text.contains(&["/wo", "rk"].concat()) || page.ends_with("policy.md"), "{}", page.display());
    }
    assert!(Path::new(&tree().join("LICENSE-MIT")).exists() && tree().join("LICENSE-APACHE").exists());
}

#[test]
fn every_exit_code_is_in_the_help() {
    let help = Run::palisade(["run", "--help"]).ran().code(0).stdout;
    for (code, name, _) in palisade_runtime::model::exit::EXIT_CODES {
        assert!(help.contains(name), "{code} {name}");
    }
}
