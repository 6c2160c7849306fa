//! `palisade plugin new`: a plugin that works, to begin with.

use super::{Said, show};
use crate::args::{Lang, PluginNew};
use crate::out;
use palisade_runtime::{Kind, SEAM_VERSION, Trouble};
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

/// A file of the new directory, and what it is made from: `@NAME@` and its like are replaced.
type Template = (&'static str, &'static str);

const RUST: &[Template] = &[
    ("Cargo.toml", include_str!("../../templates/rust/Cargo.toml.in")),
    ("src/lib.rs", include_str!("../../templates/rust/src/lib.rs.in")),
    ("src/manifest.ron", include_str!("../../templates/rust/src/manifest.ron.in")),
    ("tests/runs.rs", include_str!("../../templates/rust/tests/runs.rs.in")),
    ("policy.ron", include_str!("../../templates/rust/policy.ron.in")),
    ("README.md", include_str!("../../templates/rust/README.md.in")),
    (".gitignore", include_str!("../../templates/rust/gitignore.in")),
];

const C: &[Template] = &[
    ("Makefile", include_str!("../../templates/c/Makefile.in")),
    ("plugin.c", include_str!("../../templates/c/plugin.c.in")),
    ("palisade_plugin.h", include_str!("../../../abi/include/palisade_plugin.h")),
    ("tests/run", include_str!("../../templates/c/tests/run.in")),
    ("policy.ron", include_str!("../../templates/c/policy.ron.in")),
    ("README.md", include_str!("../../templates/c/README.md.in")),
    (".gitignore", include_str!("../../templates/c/gitignore.in")),
];

/// What the READMEs have in common.
const USE: &str = include_str!("../../templates/use.md.in");
const LAUNCH: &str = include_str!("../../templates/launch.md.in");

/// Longer names would not fit into the name of the file beside what belongs there.
const LONGEST_NAME: usize = 64;
/// What policies and manifests call palisade's own steps.
const OWN_SECTION: &str = "process";

pub(super) fn new(args: &PluginNew) -> Result<Said, Trouble> {
    let name = args.name.as_str();
    check(name)?;
    let (templates, words) = match args.lang {
        Lang::Rust => (RUST, Words::rust(name, sdk(args)?.as_deref())?),
        Lang::C if args.sdk.is_some() => {
            return Err(Trouble::new(Kind::Usage, "a plugin in C is built against a header, not against an SDK")
                .row("help", "leave --sdk out: the header is copied in"));
        }
        Lang::C => (C, Words::c(name)),
    };
    make(Path::new(name), templates, &words)?;
    Ok(Said::text(out::clean(&words.said(name, templates))))
}

/// The source tree whose SDK is used: the one that was named, or the one that this program was built in.
fn sdk(args: &PluginNew) -> Result<Option<PathBuf>, Trouble> {
    match &args.sdk {
        Some(dir) => tree_of(dir).map(Some),
        None => Ok(std::env::current_exe().ok().and_then(|program| checkout_of(&program))),
    }
}

/// Says whether this can be the name of a plugin, of a crate, and of a file.
fn check(name: &str) -> Result<(), Trouble> {
    let plain = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-';
    let wrong = if name == OWN_SECTION {
        "it is what policies call palisade's own section"
    } else if name.len() > LONGEST_NAME {
        "it is longer than 64 letters"
    } else if !name.starts_with(|c: char| c.is_ascii_lowercase()) {
        "it does not begin with a lower-case letter"
    } else if !name.chars().all(plain) {
        "only lower-case letters, digits and `-` are allowed"
    } else if name.ends_with('-') || name.contains("--") {
        "a `-` stands between letters or digits"
    } else {
        return Ok(());
    };
    Err(Trouble::new(Kind::Usage, format!("`{name}` cannot be the name of a plugin: {wrong}"))
        .row("help", "choose another, such as core-scheduling"))
}

/// The SDK in a source tree that was named.
fn tree_of(dir: &Path) -> Result<PathBuf, Trouble> {
    let unusable = |why: String| {
        Trouble::new(Kind::Usage, format!("{} is no source tree of palisade: {why}", dir.display()))
            .row("help", "name the directory that has core/abi below it, or leave --sdk out for the published SDK")
    };
    let whole = fs::canonicalize(dir).map_err(|error| unusable(error.to_string()))?;
    if is_sdk(&whole.join("core/abi")) {
        return Ok(whole);
    }
    Err(unusable("it has no core/abi with the crate palisade-abi".to_owned()))
}

/// The source tree that a program was built in: `TREE/target/release/palisade`.
fn checkout_of(program: &Path) -> Option<PathBuf> {
    let profile = program.parent()?;
    let target = profile.parent()?;
    let known = |dir: &Path, names: &[&str]| names.iter().any(|name| dir.ends_with(name));
    let tree = target.parent().filter(|_| known(profile, &["release", "debug"]) && known(target, &["target"]))?;
    is_sdk(&tree.join("core/abi")).then(|| tree.to_owned())
}

fn is_sdk(dir: &Path) -> bool {
    fs::read_to_string(dir.join("Cargo.toml")).is_ok_and(|text| text.contains("name = \"palisade-abi\""))
}

/// What the templates leave open: marks, and what takes their place. Those come first that hold others.
struct Words(Vec<(&'static str, String)>);

impl Words {
    fn rust(name: &str, sdk: Option<&Path>) -> Result<Self, Trouble> {
        let minor = minor();
        let (depends, words) = match sdk {
            None => (
                format!("\"{minor}\""),
                format!("It is built against the published SDK, the crate `palisade-abi`, {minor} or newer."),
            ),
            Some(tree) => {
                let path = tree.join("core/abi");
                let path = path.to_str().filter(|path| !path.contains(['"', '\\', '\n'])).ok_or_else(|| {
                    Trouble::new(Kind::Usage, format!("{} cannot stand in a Cargo.toml", path.display()))
                        .row("help", "use a source tree whose path is plain text")
                })?;
                let words = format!(
                    "It is built against the SDK in `{path}`; for the published one write `palisade-abi = \"{minor}\"` into \
                     `Cargo.toml`."
                );
                (format!("{{ path = \"{path}\", version = \"{minor}\" }}"), words)
            }
        };
        let built = "target/release/lib@LIB@.so";
        let mut all = Self::common(name, built, ("`Step::ready`", "`Step::new` with an `Action`"));
        all.0.extend([("@SDK@", depends), ("@SDK_WORDS@", words), ("@NEXT@", "cargo test".to_owned())]);
        Ok(all)
    }

    fn c(name: &str) -> Self {
        let mut all = Self::common(name, "lib@LIB@.so", ("`step.ready`", "its functions"));
        let words = format!("It is built against the header beside it, of seam {}.", minor());
        all.0.extend([("@SDK_WORDS@", words), ("@NEXT@", "make test".to_owned())]);
        all
    }

    fn common(name: &str, built: &str, (ready, own): (&str, &str)) -> Self {
        Self(vec![
            ("@USE@", USE.to_owned()),
            ("@LAUNCH@", LAUNCH.to_owned()),
            ("@BUILT@", built.to_owned()),
            ("@READY@", ready.to_owned()),
            ("@OWN@", own.to_owned()),
            ("@NAME@", name.to_owned()),
            ("@LIB@", format!("palisade_{}", name.replace('-', "_"))),
            ("@SEAM@", minor().to_owned()),
        ])
    }

    fn fill(&self, template: &str) -> String {
        self.0.iter().fold(template.to_owned(), |text, (mark, word)| text.replace(mark, word))
    }

    fn said(&self, name: &str, templates: &[Template]) -> String {
        let mut text = String::new();
        show::line(&mut text, format_args!("made {name}/ with a plugin that works:"));
        for (file, _) in templates {
            show::line(&mut text, format_args!("  {name}/{file}"));
        }
        let words = self.fill("@SDK_WORDS@\nnext: cd @NAME@ && @NEXT@; README.md goes on from there").replace('`', "");
        show::line(&mut text, format_args!("{words}"));
        text
    }
}

/// The seam's version without its patch.
fn minor() -> &'static str {
    SEAM_VERSION.rsplit_once('.').map_or(SEAM_VERSION, |(minor, _)| minor)
}

/// Makes the directory. What was made is removed where not all of it could be.
fn make(dir: &Path, templates: &[Template], words: &Words) -> Result<(), Trouble> {
    let refused = |error: &io::Error| {
        let trouble = Trouble::new(Kind::Usage, format!("{} cannot be made", dir.display()));
        match error.kind() {
            io::ErrorKind::AlreadyExists => trouble
                .row("file", "something of that name is there")
                .row("help", "choose another name, or another directory to work in: nothing is overwritten"),
            _ => trouble.row("call", error.to_string()),
        }
    };
    fs::create_dir(dir).map_err(|error| refused(&error))?;
    let all = templates.iter().try_for_each(|(file, template)| {
        let path = dir.join(file);
        if let Some(parent) = path.parent() {
            fs::create_dir_all(parent)?;
        }
        fs::write(&path, words.fill(template))
    });
    all.map_err(|error| {
        let trouble = refused(&error);
        match fs::remove_dir_all(dir) {
            Ok(()) => trouble,
            Err(error) => trouble.row("left", format!("{}, which could not be removed: {error}", dir.display())),
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_those_of_crates_files_and_policies() {
        for name in ["a", "core-scheduling", "x11", "a-1-b"] {
            assert!(check(name).is_ok(), "{name}");
        }
        let long = "x".repeat(65);
        for name in ["", "A", "1a", "-a", "a-", "a--b", "a_b", "a/b", "..", "a b", "ä", "process", &long] {
            assert!(check(name).is_err(), "{name}");
        }
    }

    #[test]
    fn every_mark_of_the_templates_is_known() {
        for (templates, words) in [(RUST, Words::rust("mine", None).unwrap()), (C, Words::c("mine"))] {
            for (file, template) in templates {
                // A Makefile has an @ of its own.
                let filled = words.fill(template).replace("$@", "");
                assert!(!filled.contains('@'), "{file}: {filled}");
            }
        }
    }

    #[test]
    fn a_checkout_is_known_by_its_sdk() {
        let tree = Path::new(env!("CARGO_MANIFEST_DIR")).ancestors().nth(2).unwrap();
        assert_eq!(checkout_of(&tree.join("target/release/palisade")).as_deref(), Some(tree));
        assert_eq!(checkout_of(&tree.join("bin/release/palisade")), None);
        assert_eq!(checkout_of(Path::new("/usr/bin/palisade")), None);
        assert_eq!(tree_of(tree).unwrap(), tree);
        assert!(tree_of(&tree.join("core")).is_err());
    }
}
