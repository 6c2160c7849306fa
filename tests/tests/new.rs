//! `palisade plugin new`, as somebody does it who has just begun: made, built and tested as the README says.

use palisade_tests::{Run, Scratch, Who, built, is_root, program, tree};
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

/// A directory to work in. Not a `Scratch` of the ordinary user: what root builds and uses must be root's.
struct Place(PathBuf);

impl Place {
    fn new(name: &str) -> Self {
        let place = std::env::temp_dir().join(format!("palisade-test-{}-{name}", std::process::id()));
        drop(std::fs::remove_dir_all(&place));
        std::fs::create_dir_all(&place).unwrap();
        Self(place)
    }

    fn new_plugin(&self, words: &[&str]) -> palisade_tests::Ran {
        Run::palisade(["plugin", "new"].iter().chain(words).copied()).who(Who::Root).cwd(&self.0).ran()
    }

    fn names(&self) -> Vec<String> {
        let all = std::fs::read_dir(&self.0).unwrap();
        let mut all: Vec<String> = all.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
        all.sort();
        all
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        std::fs::remove_dir_all(&self.0).unwrap();
    }
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

/// Everything that was built so far is used again, and nothing is fetched.
fn cargo(place: &Path, words: &[&str], palisade: Option<&Path>) -> Output {
    let mut cargo = Command::new(env!("CARGO"));
    cargo.args(words).current_dir(place).env("CARGO_NET_OFFLINE", "true").env_remove("PALISADE");
    cargo.env("CARGO_TARGET_DIR", Path::new(env!("CARGO_TARGET_TMPDIR")).join("alone"));
    if let Some(palisade) = palisade {
        cargo.env("PALISADE", palisade);
    }
    cargo.output().unwrap()
}

#[test]
fn a_new_crate_builds_alone_and_its_tests_pass() {
    let place = Place::new("new-rust");
    let sdk = tree();
    let said = place.new_plugin(&["my-plugin", "--sdk", sdk.to_str().unwrap()]).code(0).stdout;
    for part in ["made my-plugin/", "my-plugin/src/manifest.ron", "cargo test", sdk.to_str().unwrap()] {
        assert!(said.contains(part), "no {part:?} in {said}");
    }
    let top = place.0.join("my-plugin");
    assert!(!text(&std::fs::read(top.join("README.md")).unwrap()).contains('@'));
    std::fs::copy(tree().join("Cargo.lock"), top.join("Cargo.lock")).unwrap();

    // Without a palisade the tests say what is missing; they do not pass.
    let without = Command::new("sh").args(["-c", "command -v palisade"]).output().unwrap().status;
    if !without.success() {
        let tested = cargo(&top, &["test"], None);
        assert!(!tested.status.success());
        assert!(text(&tested.stdout).contains("name the program with PALISADE="), "{}", text(&tested.stdout));
    }
    let tested = cargo(&top, &["test"], Some(program()));
    let said = text(&tested.stdout) + &text(&tested.stderr);
    assert!(tested.status.success(), "{said}");
    for test in ["the_workload_has_the_name_and_the_host_keeps_its_own ... ok", "test result: ok. 3 passed"] {
        assert!(said.contains(test), "no {test:?} in {said}");
    }

    checked("alone/debug/libpalisade_my_plugin.so", "my-plugin");
    readme_is_true(&top);

    // They are no tests if they pass with a plugin that does nothing.
    let source = std::fs::read_to_string(top.join("src/lib.rs")).unwrap();
    let ready = "Step::ready(Stage::Build, words, Ready::hostname(name.as_str()))";
    let nothing = source.replace(ready, "Step::run(Stage::Build, words, |_| Ok(\"\"))");
    assert!(nothing != source, "no {ready} in {source}");
    std::fs::write(top.join("src/lib.rs"), nothing).unwrap();
    let tested = cargo(&top, &["test", "--test", "runs"], Some(program()));
    assert!(text(&tested.stdout).contains("the_workload_has_the_name_and_the_host_keeps_its_own ... FAILED"));
    std::fs::write(top.join("src/lib.rs"), source).unwrap();

    let lint = cargo(&top, &["clippy", "--all-targets", "--quiet", "--", "-D", "warnings"], None);
    assert!(lint.status.success(), "{}", text(&lint.stderr));
    let form = cargo(&top, &["fmt", "--check"], None);
    assert!(form.status.success(), "{}", text(&form.stdout));
}

fn readme_is_true(top: &Path) {
    if !is_root() {
        return palisade_tests::skip("new:root", "the home of another user is needed");
    }
    let work = Scratch::new();
    let built = Path::new(env!("CARGO_TARGET_TMPDIR")).join("alone/debug/libpalisade_my_plugin.so");
    work.file("target/release/libpalisade_my_plugin.so", std::fs::read(built).unwrap());
    readme_works(top, &work);
}

/// What every plugin must keep to, a new one keeps to.
fn checked(library: impl AsRef<Path>, name: &str) {
    if !is_root() {
        return palisade_tests::skip("new:root", "a plugin is checked in full as root");
    }
    let library = Path::new(env!("CARGO_TARGET_TMPDIR")).join(library);
    let ran = Run::palisade(["plugin", "check", library.to_str().unwrap()]).who(Who::Root).ran().code(0);
    ran.prints(&format!("{name}: 13 passed, 0 failed"));
}

/// The commands of the README, one after the other, as an ordinary user with a home, where the plugin was built.
fn readme_works(top: &Path, work: &Scratch) {
    let readme = std::fs::read_to_string(top.join("README.md")).unwrap();
    let blocks = readme.split("```sh\n").skip(2).filter_map(|rest| rest.split("```").next());
    let block = blocks.collect::<Vec<_>>().join("\n");
    assert!(block.contains("plugin verify") && block.contains("plugin install"), "{block}");
    work.file("policy.ron", std::fs::read(top.join("policy.ron")).unwrap());
    work.file("bin/palisade", format!("#!/bin/sh\nexec {} \"$@\"\n", program().display()));
    Run::bare(["chmod", "755", &format!("{}/bin/palisade", work.text())]).ran().code(0);
    let path = format!("{}/bin:/usr/bin:/bin", work.text());
    let script = format!("set -e\n{block}");
    let ran = Run::bare(["sh", "-c", &script]).who(Who::User).cwd(work.path());
    let ran = ran.env("HOME", work.text()).env("PATH", &path).ran().code(0);
    assert!(
        ran.stdout.contains("what it cannot stop") && ran.stdout.matches("\nfence\n").count() == 2,
        "{}",
        ran.stdout
    );
    let installed = work.path().join(".local/share/palisade/plugins");
    let left = std::fs::read_dir(&installed)
        .unwrap()
        .filter(|one| one.as_ref().unwrap().file_name().to_string_lossy().ends_with(".so"));
    assert_eq!(left.count(), 0);
}

/// The same in C, with nothing but the compiler.
#[test]
fn a_new_plugin_in_c_builds_alone_and_its_tests_pass() {
    let place = Place::new("new-c");
    let said = place.new_plugin(&["my-c", "--lang", "c"]).code(0).stdout;
    assert!(said.contains("my-c/palisade_plugin.h") && said.contains("make test"), "{said}");
    let top = place.0.join("my-c");
    assert_eq!(
        std::fs::read(top.join("palisade_plugin.h")).unwrap(),
        std::fs::read(tree().join("core/abi/include/palisade_plugin.h")).unwrap()
    );
    let make = |palisade: Option<&Path>| {
        let mut make = Command::new("make");
        make.args(["test"]).current_dir(&top).env_remove("PALISADE").env("PATH", "/usr/bin:/bin");
        if let Some(palisade) = palisade {
            make.env("PALISADE", palisade);
        }
        let made = make.output().unwrap();
        (made.status.success(), text(&made.stdout) + &text(&made.stderr))
    };
    let (passed, said) = make(None);
    assert!(!passed && said.contains("name the program with PALISADE="), "{said}");
    let (passed, said) = make(Some(program()));
    assert!(passed && said.matches("ok      ").count() == 5, "{said}");
    checked(top.join("libpalisade_my_c.so"), "my-c");
    // They are no tests if they pass with a plugin that does nothing.
    let source = std::fs::read_to_string(top.join("plugin.c")).unwrap();
    std::fs::write(top.join("plugin.c"), source.replace("    host->step(host, &step);", "    (void)step, (void)host;"))
        .unwrap();
    let (passed, said) = make(Some(program()));
    assert!(!passed && said.contains("FAILED  the workload has the name"), "{said}");
    std::fs::write(top.join("plugin.c"), source).unwrap();
    if !is_root() {
        return;
    }
    assert!(Command::new("make").current_dir(&top).status().unwrap().success());
    let (library, work) = (top.join("libpalisade_my_c.so"), Scratch::new());
    work.file("libpalisade_my_c.so", std::fs::read(library).unwrap());
    readme_works(&top, &work);
}

/// As published it is the crate's version, and nothing of this machine.
#[test]
fn without_a_source_tree_it_is_the_published_sdk() {
    let place = Place::new("new-published");
    place.new_plugin(&["mine"]).code(0);
    let cargo = std::fs::read_to_string(place.0.join("mine/Cargo.toml")).unwrap();
    if built().ends_with("target/release/palisade") && !is_root() {
        // The program lies where it was built.
        assert!(cargo.contains("palisade-abi = { path ="), "{cargo}");
    } else {
        assert!(cargo.contains("palisade-abi = \"1.1\"\n"), "{cargo}");
    }
    let manifest = std::fs::read_to_string(place.0.join("mine/src/manifest.ron")).unwrap();
    assert!(manifest.contains("seam: \"1.1\""), "{manifest}");
}

/// A palisade that runs from where it was built takes the SDK of that source tree; the same program elsewhere does not.
#[test]
fn a_program_in_its_source_tree_takes_the_sdk_of_that() {
    let place = Place::new("new-tree");
    let (tree, elsewhere) = (place.0.join("src tree"), place.0.join("elsewhere/target/release"));
    for dir in [&tree.join("core/abi"), &tree.join("target/release"), &elsewhere] {
        std::fs::create_dir_all(dir).unwrap();
    }
    std::fs::copy(palisade_tests::tree().join("core/abi/Cargo.toml"), tree.join("core/abi/Cargo.toml")).unwrap();
    let made = |program: PathBuf, name: &str| {
        std::fs::copy(built(), &program).unwrap();
        Run::bare([program.to_str().unwrap(), "plugin", "new", name]).who(Who::Root).cwd(&place.0).ran().code(0);
        std::fs::read_to_string(place.0.join(name).join("Cargo.toml")).unwrap()
    };
    let path = format!("palisade-abi = {{ path = \"{}/core/abi\", version = \"1.1\" }}", tree.display());
    let cargo = made(tree.join("target/release/palisade"), "beside");
    assert!(cargo.contains(&path), "no {path} in {cargo}");
    assert!(made(elsewhere.join("palisade"), "alone").contains("palisade-abi = \"1.1\"\n"));
}

#[test]
fn what_is_there_is_left_as_it_is() {
    let place = Place::new("new-there");
    std::fs::create_dir(place.0.join("mine")).unwrap();
    std::fs::write(place.0.join("mine/kept"), "kept").unwrap();
    std::os::unix::fs::symlink("mine", place.0.join("link")).unwrap();
    std::fs::write(place.0.join("file"), "kept").unwrap();
    for name in ["mine", "link", "file"] {
        place.new_plugin(&[name]).code(2).says("nothing is overwritten");
    }
    assert_eq!(std::fs::read_to_string(place.0.join("mine/kept")).unwrap(), "kept");
    assert_eq!(std::fs::read_dir(place.0.join("mine")).unwrap().count(), 1);
    assert_eq!(std::fs::read_to_string(place.0.join("file")).unwrap(), "kept");
    assert_eq!(place.names(), ["file", "link", "mine"]);
}

#[test]
fn a_name_that_cannot_be_one_and_a_tree_that_is_none_are_refused() {
    let place = Place::new("new-refused");
    for name in ["Mine", "1st", "my_plugin", "../mine", "mine-", "process", ""] {
        place.new_plugin(&[name]).code(2).says("cannot be the name of a plugin");
    }
    place.new_plugin(&["mine", "--sdk", "/usr"]).code(2).says("is no source tree of palisade");
    place.new_plugin(&["mine", "--lang", "cobol"]).code(2);
    let sdk = tree();
    place.new_plugin(&["mine", "--lang", "c", "--sdk", sdk.to_str().unwrap()]).code(2).says("leave --sdk out");
    assert_eq!(place.names(), [""; 0]);
}

/// A failure on the way leaves nothing: here no file may be larger than a few blocks.
#[test]
fn what_cannot_be_made_whole_is_not_made() {
    let place = Place::new("new-full");
    let limited = |blocks: &str| {
        let script = format!("trap '' XFSZ; ulimit -f {blocks}; exec \"$0\" plugin new mine");
        Run::bare(["sh", "-c", &script, program().to_str().unwrap()]).who(Who::Root).cwd(&place.0).ran()
    };
    limited("1").code(2).says("mine cannot be made").says("File too large");
    assert_eq!(place.names(), [""; 0]);
    limited("1000").code(0);
    assert_eq!(place.names(), ["mine"]);
}

/// The README of a new plugin is the first page of the guide; `PALISADE_BLESS=1` writes it there.
#[test]
fn the_guide_begins_with_the_readme() {
    let place = Place::new("new-guide");
    place.new_plugin(&["example"]).code(0);
    let readme = std::fs::read_to_string(place.0.join("example/README.md")).unwrap();
    let (_, page) = readme.split_once('\n').unwrap();
    // Where the SDK is depends on who asks; the guide says what is so for most.
    let (before, rest) = page.split_once("It is built against").unwrap();
    let (_, after) = rest.split_once('\n').unwrap();
    let published = "It is built against the published SDK, the crate `palisade-abi`, 1.1 or newer.";
    let page = format!("{before}{published}\n{after}");
    let guide = tree().join("docs/plugins.md");
    let doc = std::fs::read_to_string(&guide).unwrap();
    let (begin, end) = ("<!-- first page -->\n", "<!-- /first page -->\n");
    let (top, rest) = doc.split_once(begin).unwrap();
    let (shown, below) = rest.split_once(end).unwrap();
    if std::env::var_os("PALISADE_BLESS").is_some() {
        return std::fs::write(&guide, format!("{top}{begin}{page}\n{end}{below}")).unwrap();
    }
    assert_eq!(shown.trim(), page.trim(), "docs/plugins.md is not the README of a new plugin");
}
