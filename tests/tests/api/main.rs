//! The interface that authors of plugins build against: nothing of a released minor is taken away, and everything of it
//! is documented by an example.

mod interface;

use interface::{Crates, broken, listing};
use palisade_tests::tree;
use std::collections::BTreeSet;
use std::path::PathBuf;

fn today() -> BTreeSet<String> {
    listing(&Crates::read(&tree()).things())
}

fn of(text: &str) -> BTreeSet<String> {
    listing(&Crates::of_text(text).things())
}

/// The interface of each minor that was released, as `tests/golden/make` listed it then.
#[test]
fn nothing_of_a_released_minor_is_gone() {
    let today = today();
    let mut seen = 0;
    for entry in std::fs::read_dir(tree().join("tests/golden")).unwrap() {
        let list = entry.unwrap().path().join("api.txt");
        let Ok(text) = std::fs::read_to_string(&list) else { continue };
        let released: BTreeSet<String> = text.lines().map(str::to_owned).collect();
        assert!(released.len() > 150, "{}: {} lines", list.display(), released.len());
        let broken = broken(&released, &today);
        assert!(broken.is_empty(), "against {}:\n{}", list.display(), broken.join("\n"));
        seen += 1;
    }
    assert!(seen > 0);
}

/// Its twin: each kind of change that would break a plugin is seen, and none that would not.
#[test]
fn a_change_that_breaks_is_seen() {
    let before = "
        mod inner { pub struct Open { pub a: u8, pub b: u8 } pub trait Does { fn must(&self); fn may(&self) {} } }
        pub use inner::{Does, Open};
        #[derive(Clone, Debug)] pub struct Closed { a: u8 }
        impl Closed { pub fn new(a: u8) -> Self { Self { a } } fn own(&self) {} }
        pub enum One { A, B }
        #[non_exhaustive] pub enum Two { A, B }
        pub const FIVE: u8 = 5;
        impl From<u8> for Closed { fn from(a: u8) -> Self { Self { a } } }
        #[doc(hidden)] pub mod hidden { pub fn any() {} }";
    let change = |from: &str, to: &str| {
        assert!(before.contains(from), "{from}");
        broken(&of(before), &of(&before.replace(from, to)))
    };
    for (from, to) in [
        ("pub fn new(a: u8)", "pub fn new(a: u16)"),
        ("pub fn new(a: u8)", "fn new(a: u8)"),
        ("pub a: u8, pub b: u8", "pub a: u8"),
        ("pub a: u8, pub b: u8", "pub a: u8, pub b: u8, pub c: u8"),
        ("pub a: u8, pub b: u8", "pub a: u8, pub b: u8, c: u8"),
        ("fn must(&self);", "fn must(&self); fn too(&self);"),
        ("fn must(&self);", "fn must(&mut self);"),
        ("fn may(&self) {}", "fn may(&self);"),
        ("enum One { A, B }", "enum One { A, B, C }"),
        ("enum Two { A, B }", "enum Two { A }"),
        ("FIVE: u8", "FIVE: u16"),
        ("derive(Clone, Debug)", "derive(Clone)"),
        ("impl From<u8> for Closed", "impl From<u16> for Closed"),
        ("pub use inner::{Does, Open}", "pub use inner::Does"),
    ] {
        assert!(!change(from, to).is_empty(), "`{from}` -> `{to}` is not seen");
    }
    for (from, to) in [
        ("pub fn new(a: u8)", "pub fn newer() {} pub fn new(other: u8)"),
        ("fn own(&self)", "fn own(&mut self)"),
        ("fn may(&self) {}", "fn may(&self) {} fn new(&self) {}"),
        ("fn must(&self);", "fn must(&self) {}"),
        ("enum Two { A, B }", "enum Two { A, B, C }"),
        ("struct Closed { a: u8 }", "struct Closed { a: u8, b: u8 }"),
        ("derive(Clone, Debug)", "derive(Clone, Debug, Default)"),
        ("pub fn any()", "pub fn other()"),
        ("pub const FIVE", "pub enum Three { A } pub const FIVE"),
    ] {
        assert_eq!(change(from, to), [""; 0], "`{from}` -> `{to}` breaks nothing");
    }
}

/// Everything that an author can name shows how it is used, by code that the documentation's own tests compile.
#[test]
fn every_public_item_has_an_example() {
    let things = Crates::read(&tree()).things();
    let all: Vec<&interface::Thing> = things.iter().filter(|thing| thing.documented).collect();
    assert!(all.len() > 120, "only {} are seen", all.len());
    let without: Vec<&str> =
        all.iter().filter(|thing| !thing.docs.contains("```")).map(|thing| thing.line.as_str()).collect();
    assert!(without.is_empty(), "{} of {} have no example:\n{}", without.len(), all.len(), without.join("\n"));
    let ignored: Vec<&str> = all
        .iter()
        .filter(|thing| ["```ignore", "```text", "```no_run"].iter().any(|fence| thing.docs.contains(fence)))
        .map(|thing| thing.line.as_str())
        .collect();
    assert!(ignored.is_empty(), "these are not run:\n{}", ignored.join("\n"));
}

/// Its twin.
#[test]
fn an_item_without_an_example_is_seen() {
    let text = "/// ```\n/// x\n/// ```\npub fn with() {}\n/// Words.\npub fn without() {}\n/// Words.\n#[doc(hidden)]\npub fn hidden() {}";
    let things = Crates::of_text(text).things();
    let seen: Vec<bool> = things.iter().map(|thing| thing.docs.contains("```")).collect();
    assert_eq!(seen, [true, false]);
}

/// Lists the interface. With `PALISADE_API_OF` (a source tree) and `PALISADE_API_TO` (a file) it is that tree's and kept.
#[test]
fn the_interface_is_listed() {
    let of = std::env::var_os("PALISADE_API_OF").map_or_else(tree, PathBuf::from);
    let list: Vec<String> = listing(&Crates::read(&of).things()).into_iter().collect();
    for wanted in [
        "struct palisade_abi::At<T>",
        "fn palisade_abi::Step::run",
        "macro palisade_abi::layered",
        "macro palisade_abi::export_plugin",
        "fn palisade_abi::units::Percent::of",
        "! trait palisade_abi::Plugin: 'static wants configure",
    ] {
        let plain = |text: &str| text.replace(' ', "");
        assert!(list.iter().any(|line| plain(line).starts_with(&plain(wanted))), "no {wanted} in\n{}", list.join("\n"));
    }
    if let Some(to) = std::env::var_os("PALISADE_API_TO") {
        std::fs::write(to, list.join("\n") + "\n").unwrap();
    }
}
