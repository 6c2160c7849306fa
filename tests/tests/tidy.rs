//! What a reviewer would say twice: budgets, arrows between crates, where `unsafe` may stand, licences.

use proc_macro2::LineColumn;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use syn::spanned::Spanned as _;
use syn::visit::{self, Visit};

const LINES_OF_A_FUNCTION: usize = 60;
const LINES_OF_A_FILE: usize = 400;
const PARAMETERS: usize = 5;

/// Files that may be longer, each with its reason.
const LONGER: &[(&str, usize, &str)] =
    &[("core/sys/src/fd.rs", 480, "one wrapper beside the other; none calls much of the rest")];

fn root() -> PathBuf {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap();
    root.to_owned()
}

/// Every Rust file below these folders, with its path from the top.
fn sources(below: &[&str]) -> Vec<(String, String)> {
    let mut found = Vec::new();
    let mut waiting: Vec<PathBuf> = below.iter().map(|folder| root().join(folder)).collect();
    while let Some(folder) = waiting.pop() {
        for entry in std::fs::read_dir(&folder).unwrap() {
            let path = entry.unwrap().path();
            let name = path.file_name().unwrap().to_string_lossy().into_owned();
            if path.is_dir() && name != "target" {
                waiting.push(path);
            } else if name.ends_with(".rs") {
                let shown = path.strip_prefix(root()).unwrap().display().to_string();
                found.push((shown, std::fs::read_to_string(&path).unwrap()));
            }
        }
    }
    found.sort();
    found
}

fn parsed(below: &[&str]) -> Vec<(String, String, syn::File)> {
    let all = sources(below).into_iter();
    all.map(|(path, text)| {
        let file = syn::parse_file(&text).unwrap_or_else(|e| panic!("{path}: {e}"));
        (path, text, file)
    })
    .collect()
}

fn is_test(attributes: &[syn::Attribute]) -> bool {
    attributes.iter().any(|a| match &a.meta {
        syn::Meta::Path(path) => path.is_ident("test"),
        syn::Meta::List(list) => list.path.is_ident("cfg") && list.tokens.to_string() == "test",
        syn::Meta::NameValue(_) => false,
    })
}

/// Whether a file holds nothing but tests: it stands in a folder or a module of tests.
fn is_test_file(path: &str) -> bool {
    path.contains("/tests/") || path.ends_with("/tests.rs") || path.starts_with("tests/")
}

/// What one file does against the rules; unit tests are left out.
#[derive(Default)]
struct Faults {
    found: Vec<String>,
    /// Lines from and to of unit tests.
    tests: Vec<(usize, usize)>,
    unsafe_at: Vec<usize>,
    strings: Vec<(usize, String)>,
}

fn lines(from: LineColumn, to: LineColumn) -> usize {
    to.line - from.line + 1
}

impl Faults {
    fn function(&mut self, signature: &syn::Signature, block: &syn::Block) {
        let name = &signature.ident;
        let long = lines(signature.span().start(), block.span().end());
        if long > LINES_OF_A_FUNCTION {
            self.found.push(format!("`{name}` has {long} lines; {LINES_OF_A_FUNCTION} are allowed"));
        }
        let given = signature.inputs.iter().filter(|i| matches!(i, syn::FnArg::Typed(_))).count();
        if given > PARAMETERS {
            self.found.push(format!("`{name}` has {given} parameters; {PARAMETERS} are allowed"));
        }
        if let Some(token) = signature.unsafety {
            self.unsafe_at.push(token.span.start().line);
        }
    }
}

impl<'a> Visit<'a> for Faults {
    fn visit_item_mod(&mut self, item: &'a syn::ItemMod) {
        if is_test(&item.attrs) {
            self.tests.push((item.span().start().line, item.span().end().line));
        } else {
            visit::visit_item_mod(self, item);
        }
    }

    fn visit_item_fn(&mut self, item: &'a syn::ItemFn) {
        if !is_test(&item.attrs) {
            self.function(&item.sig, &item.block);
            visit::visit_item_fn(self, item);
        }
    }

    fn visit_impl_item_fn(&mut self, item: &'a syn::ImplItemFn) {
        self.function(&item.sig, &item.block);
        visit::visit_impl_item_fn(self, item);
    }

    fn visit_trait_item_fn(&mut self, item: &'a syn::TraitItemFn) {
        if let Some(block) = &item.default {
            self.function(&item.sig, block);
        }
        visit::visit_trait_item_fn(self, item);
    }

    fn visit_expr_unsafe(&mut self, block: &'a syn::ExprUnsafe) {
        self.unsafe_at.push(block.unsafe_token.span.start().line);
        visit::visit_expr_unsafe(self, block);
    }

    fn visit_item_impl(&mut self, item: &'a syn::ItemImpl) {
        if let Some(token) = item.unsafety {
            self.unsafe_at.push(token.span.start().line);
        }
        visit::visit_item_impl(self, item);
    }

    fn visit_lit_str(&mut self, text: &'a syn::LitStr) {
        self.strings.push((text.span().start().line, text.value()));
    }
}

fn faults(file: &syn::File) -> Faults {
    let mut faults = Faults::default();
    faults.visit_file(file);
    faults
}

const CODE: &[&str] = &["core", "plugins"];

#[test]
fn functions_and_files_keep_their_budgets() {
    let mut all = Vec::new();
    for (path, text, file) in parsed(CODE).into_iter().filter(|(path, ..)| !is_test_file(path)) {
        let faults = faults(&file);
        all.extend(faults.found.iter().map(|fault| format!("{path}: {fault}")));
        let tests: usize = faults.tests.iter().map(|(from, to)| to - from + 1).sum();
        let long = text.lines().count() - tests;
        let allowed =
            LONGER.iter().find(|(longer, ..)| *longer == path).map_or(LINES_OF_A_FILE, |(_, lines, _)| *lines);
        if long > allowed {
            all.push(format!("{path}: {long} lines without its tests; {allowed} are allowed"));
        }
    }
    assert!(all.is_empty(), "\n{}", all.join("\n"));
    for (path, allowed, why) in LONGER {
        assert!(!why.is_empty() && *allowed > LINES_OF_A_FILE);
        let still = std::fs::read_to_string(root().join(path)).is_ok_and(|text| text.lines().count() > LINES_OF_A_FILE);
        assert!(still, "{path} needs no exception any more");
    }
}

/// The twin of the test above: the checks see what they look for.
#[test]
fn a_long_function_many_parameters_and_unsafe_are_seen() {
    let body = "let _ = 1;\n".repeat(LINES_OF_A_FUNCTION);
    let text = format!(
        "fn long() {{\n{body}}}\nfn wide(a: u8, b: u8, c: u8, d: u8, e: u8, f: u8) {{}}\nfn bad() {{ unsafe {{ x() }} }}\n\
         #[cfg(test)]\nmod tests {{ fn long() {{\n{body}}} }}"
    );
    let faults = faults(&syn::parse_file(&text).unwrap());
    assert_eq!(faults.found.len(), 2, "{:?}", faults.found);
    assert!(faults.found[0].contains("`long`") && faults.found[1].contains("6 parameters"));
    assert_eq!((faults.unsafe_at.len(), faults.tests.len()), (1, 1));
}

/// `unsafe` stands in core/sys and core/abi only, and each says what it rests on, who upholds it and what
/// breaks.
#[test]
fn unsafe_code_stands_where_it_may_and_says_why() {
    let mut all = Vec::new();
    for (path, text, file) in parsed(CODE) {
        let may = path.starts_with("core/sys/") || path.starts_with("core/abi/");
        let rows: Vec<&str> = text.lines().collect();
        for line in faults(&file).unsafe_at {
            if !may {
                all.push(format!("{path}:{line}: unsafe code outside core/sys and core/abi"));
            } else if !says_why(&rows, line) && !is_test_file(&path) {
                all.push(format!("{path}:{line}: no `// SAFETY: ...; upheld by ...; else ...` above it"));
            }
        }
    }
    assert!(all.is_empty(), "\n{}", all.join("\n"));
}

/// Looks for the comment above a line: over attributes and the rest of the statement.
fn says_why(rows: &[&str], line: usize) -> bool {
    let above = rows[..line].iter().rev().take(12);
    let comment: Vec<&str> = above
        .map(|row| row.trim())
        .skip_while(|row| !row.starts_with("//"))
        .take_while(|row| row.starts_with("//"))
        .collect();
    let text: String = comment.into_iter().rev().collect::<Vec<_>>().join(" ");
    let Some(safety) = text.split("SAFETY: ").nth(1) else {
        // A function says what its callers must uphold.
        return text.contains("# Safety");
    };
    safety.contains("; upheld by ") && safety.contains("; else ")
}

/// The plugins that come with palisade.
fn plugins() -> Vec<String> {
    let all = std::fs::read_dir(root().join("plugins")).unwrap();
    let names = all.map(|entry| entry.unwrap().file_name().to_string_lossy().into_owned());
    names.filter(|name| name != "examples").collect()
}

#[test]
fn crates_without_unsafe_code_forbid_it() {
    for path in [
        "core/model/src/lib.rs",
        "core/runtime/src/lib.rs",
        "core/probe/src/lib.rs",
        "core/check/src/lib.rs",
        "core/cli/src/main.rs",
    ] {
        let text = std::fs::read_to_string(root().join(path)).unwrap();
        assert!(text.contains("#![forbid(unsafe_code)]"), "{path}");
    }
    for name in plugins() {
        let path = root().join("plugins").join(name).join("src/lib.rs");
        let text = std::fs::read_to_string(&path).unwrap();
        assert!(text.contains("#![forbid(unsafe_code)]"), "{}: no #![forbid(unsafe_code)]", path.display());
    }
}

/// The core orders steps and does not know what they do.
#[test]
fn the_core_names_no_plugin() {
    let plugins = plugins();
    assert!(plugins.len() >= 6, "{plugins:?}");
    let folders =
        ["core/model/src", "core/abi/src", "core/runtime/src", "core/probe/src", "core/check/src", "core/cli/src"];
    let mut all = Vec::new();
    for (path, _, file) in parsed(&folders).into_iter().filter(|(path, ..)| !is_test_file(path)) {
        let strings = faults(&file).strings;
        let named = strings.into_iter().filter(|(_, text)| plugins.contains(text));
        all.extend(named.map(|(line, text)| format!("{path}:{line}: \"{text}\"")));
    }
    assert!(all.is_empty(), "the core names a plugin:\n{}", all.join("\n"));
}

fn metadata() -> serde_json::Value {
    let made = std::process::Command::new(env!("CARGO"))
        .args(["metadata", "--format-version", "1", "--locked", "--offline", "--filter-platform"])
        .arg(format!("{}-unknown-linux-gnu", std::env::consts::ARCH))
        .current_dir(root())
        .output()
        .unwrap();
    assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
    serde_json::from_slice(&made.stdout).unwrap()
}

fn texts<'a>(value: &'a serde_json::Value, field: &str) -> Vec<&'a str> {
    value[field].as_array().into_iter().flatten().filter_map(|d| d["name"].as_str()).collect()
}

/// model <- abi <- plugins, sys <- plugins, {model, abi, sys} <- runtime <- cli, {sys, runtime} <- probe <- cli,
/// {abi, sys, runtime} <- check <- cli; nothing else.
#[test]
fn the_arrows_between_crates_are_those_of_the_house() {
    let allowed: BTreeMap<&str, &[&str]> = BTreeMap::from([
        ("palisade-model", &[][..]),
        ("palisade-sys", &[]),
        ("palisade-abi", &["palisade-model"]),
        ("palisade-runtime", &["palisade-model", "palisade-abi", "palisade-sys"]),
        ("palisade-probe", &["palisade-runtime", "palisade-sys"]),
        ("palisade-check", &["palisade-abi", "palisade-runtime", "palisade-sys"]),
        ("palisade-cli", &["palisade-runtime", "palisade-probe", "palisade-check"]),
    ]);
    let metadata = metadata();
    let mut seen = 0;
    for package in metadata["packages"].as_array().unwrap() {
        let name = package["name"].as_str().unwrap();
        if !name.starts_with("palisade-") || name == "palisade-tests" {
            continue;
        }
        seen += 1;
        let may = allowed.get(name).copied().unwrap_or(&["palisade-abi", "palisade-sys"]);
        let all = package["dependencies"].as_array().unwrap().iter();
        // What only tests need is no arrow of the product.
        for dependency in all.filter(|d| d["kind"].is_null()) {
            let to = dependency["name"].as_str().unwrap();
            assert!(!to.starts_with("palisade-") || may.contains(&to), "{name} depends on {to}");
        }
    }
    assert!(seen >= 12, "only {seen} packages of palisade were seen");
}

/// Every licence in the tree is one that deny.toml allows.
#[test]
fn licences_are_allowed() {
    let deny = std::fs::read_to_string(root().join("deny.toml")).unwrap();
    let list = deny.split("allow = [").nth(1).and_then(|rest| rest.split(']').next()).unwrap();
    let allowed: Vec<&str> = list.split('"').skip(1).step_by(2).collect();
    assert!(allowed.contains(&"MIT"));
    for package in metadata()["packages"].as_array().unwrap() {
        let licence = package["license"].as_str().unwrap_or("none").replace('/', " OR ");
        let plain = licence.replace(['(', ')'], "");
        let is_allowed = plain.split(" OR ").any(|choice| {
            choice.split(" AND ").all(|one| allowed.contains(&one.split(" WITH ").next().unwrap().trim()))
        });
        assert!(is_allowed, "{}: {licence}", package["name"]);
    }
}

/// Every dependency of the workspace is used by some member, and none comes twice under two names.
#[test]
fn every_dependency_is_used() {
    let text = std::fs::read_to_string(root().join("Cargo.toml")).unwrap();
    let listed = text.split("[workspace.dependencies]").nth(1).and_then(|rest| rest.split("\n[").next()).unwrap();
    let names = listed.lines().filter_map(|line| line.split_once(" = ").map(|(name, _)| name.trim()));
    let metadata = metadata();
    let members = metadata["packages"].as_array().unwrap().iter().filter(|p| p["source"].is_null());
    let used: Vec<&str> = members.flat_map(|package| texts(package, "dependencies")).collect();
    for name in names.filter(|name| !name.starts_with('#')) {
        assert!(used.contains(&name), "{name} is in Cargo.toml and used by no crate");
    }
}

/// Nothing is left for later.
#[test]
fn nothing_is_marked_unfinished() {
    let marks =
        [["TO", "DO"].concat(), ["FIX", "ME"].concat(), ["todo", "!("].concat(), ["unimplemented", "!("].concat()];
    for (path, text) in sources(&["core", "plugins", "tests"]) {
        for mark in &marks {
            assert!(!text.contains(mark.as_str()), "{path} holds {mark}");
        }
    }
}
