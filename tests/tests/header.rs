//! The header for plugins in C: made from the Rust definitions, and the same as they are.

use palisade_abi::c::table::*;
use palisade_tests::tree;
use std::fmt::Write as _;
use std::mem::{align_of, offset_of, size_of};
use std::path::{Path, PathBuf};
use std::process::Command;

const TABLE: &str = "core/abi/src/c/table.rs";
const HEADER: &str = "core/abi/include/palisade_plugin.h";

const TOP: &str = "\
/* The table of functions of a palisade plugin, for C11 and C++17. Made from core/abi/src/c/table.rs: do not change it
 * by hand. docs/plugins-c.md has a whole plugin.
 *
 * A plugin is a shared object that needs nothing but the C library. It has a manifest (PALISADE_MANIFEST) and exports
 * one constant, `const struct palisade_plugin_table palisade_plugin`.
 *
 * Each struct but palisade_text and palisade_origin begins with its size, which its maker sets to sizeof. Who reads one
 * takes what both sides know. Set all other members to zero first, as a designated initializer does. */

#ifndef PALISADE_PLUGIN_H
#define PALISADE_PLUGIN_H

#include <stddef.h>
#include <stdint.h>
#include <string.h>";

const MACROS: &str = r#"
#if defined(__cplusplus)
#define PALISADE_TEXT(literal) (palisade_text{(literal), sizeof(literal) - 1})
#else
/* A text from a string literal. */
#define PALISADE_TEXT(literal) ((struct palisade_text){(literal), sizeof(literal) - 1})
#endif

/* The manifest, in RON, as a string literal. palisade reads it from the file and runs nothing for it. Once, outside of
 * any function, without a semicolon behind it. */
#define PALISADE_MANIFEST(literal)                                                                                     \
    __attribute__((section(".palisade.manifest"), used)) static const char palisade_manifest[] = literal;

/* The same, written as it is: PALISADE_MANIFEST_RON((name: "x", version: "1", ...)). Comments are left out, and a raw
 * string of RON cannot be written here. */
#define PALISADE_MANIFEST_RON(...) PALISADE_MANIFEST(#__VA_ARGS__)

struct palisade_host;
struct palisade_step;
"#;

const END: &str = r#"
#ifdef __cplusplus
extern "C" {
#endif
/* The plugin defines it. */
extern const struct palisade_plugin_table palisade_plugin __attribute__((visibility("default")));
#ifdef __cplusplus
}
#endif

/* A text from a string that ends in a NUL; NULL is the empty one. */
static inline struct palisade_text palisade_text_of(const char *string) {
    struct palisade_text text = {string, string == NULL ? 0 : strlen(string)};
    return text;
}

/* Says why an entry fails, and gives what it returns then. Each string ends in a NUL or is NULL; `number` is an errno or
 * 0; `origin` may be NULL. */
static inline int32_t palisade_failed(const struct palisade_host *host, uint32_t kind, const char *message,
                                      const char *call, int32_t number, const char *help,
                                      const struct palisade_origin *origin) {
    struct palisade_error error = {sizeof error, kind, number, {NULL, 0}, {NULL, 0}, {NULL, 0}, origin};
    error.message = palisade_text_of(message);
    error.call = palisade_text_of(call);
    error.help = palisade_text_of(help);
    host->fail(host, &error);
    return -1;
}

#endif
"#;

fn made() -> String {
    let mut config = cbindgen::Config {
        language: cbindgen::Language::C,
        cpp_compat: true,
        style: cbindgen::Style::Tag,
        header: Some(TOP.to_owned()),
        no_includes: true,
        usize_is_size_t: true,
        after_includes: Some(MACROS.to_owned()),
        trailer: Some(END.to_owned()),
        documentation_style: cbindgen::DocumentationStyle::C99,
        tab_width: 4,
        line_length: 120,
        ..cbindgen::Config::default()
    };
    config.export.include = STRUCTS.iter().map(|(name, ..)| (*name).to_owned()).collect();
    let bindings =
        cbindgen::Builder::new().with_config(config).with_src(tree().join(TABLE)).generate().expect("a header");
    let mut bytes = Vec::new();
    bindings.write(&mut bytes);
    String::from_utf8(bytes).unwrap()
}

/// A struct: its name, size, alignment, and its fields with their offsets.
type Struct = (&'static str, usize, usize, &'static [(&'static str, usize)]);

macro_rules! structs {
    ($($name:ident { $($field:ident),* $(,)? })*) => {
        &[$((
            stringify!($name),
            size_of::<$name>(),
            align_of::<$name>(),
            &[$((stringify!($field), offset_of!($name, $field))),*],
        )),*]
    };
}

const STRUCTS: &[Struct] = structs! {
    palisade_text { data, length }
    palisade_origin { source, start, end }
    palisade_error { size, kind, number, message, call, help, origin }
    palisade_finding { size, support, feature, detail, remedy }
    palisade_left { size, removed, what, why }
    palisade_hit { size, ended_it, limit, words, origin }
    palisade_attempt { size, severity, id, attempts, layers, needs, harmless, argv, argc }
    palisade_step {
        size, stage, words, why, demand, origin, after, after_count, clone_flags, concurrent, ready, apply, verify,
        witness, undo, data,
    }
    palisade_host {
        size, call, fail, fact, value, count, key, origin, finding, left, step, descriptor, figure, hit, attempt,
        evidence, number, offer_cgroup, hand_over,
    }
    palisade_plugin_table {
        size, seam_major, seam_minor, probe, collect, configure, plan, release, watch, ready, sample, finish, attempts,
        take,
    }
};

#[test]
fn the_header_is_that_of_the_definitions() {
    let (made, path) = (made(), tree().join(HEADER));
    if std::env::var_os("PALISADE_BLESS").is_some() {
        std::fs::write(&path, &made).unwrap();
    }
    let there = std::fs::read_to_string(&path).unwrap_or_default();
    assert!(there == made, "{HEADER} is out of date: PALISADE_BLESS=1 cargo test -p palisade-tests --test header");
}

/// The list above is whole: every public struct of the definitions with every field, in order.
#[test]
fn no_struct_and_no_field_is_left_out() {
    let text = std::fs::read_to_string(tree().join(TABLE)).unwrap();
    let file = syn::parse_file(&text).unwrap();
    let defined: Vec<(String, Vec<String>)> = file
        .items
        .iter()
        .filter_map(|item| match item {
            syn::Item::Struct(item) => Some(item),
            _ => None,
        })
        .map(|item| {
            let fields = item.fields.iter().map(|field| field.ident.as_ref().unwrap().to_string());
            (item.ident.to_string(), fields.collect())
        })
        .collect();
    let listed: Vec<(String, Vec<String>)> = STRUCTS
        .iter()
        .map(|(name, _, _, fields)| ((*name).to_owned(), fields.iter().map(|(field, _)| (*field).to_owned()).collect()))
        .collect();
    assert_eq!(listed, defined);
}

fn place() -> PathBuf {
    let place = Path::new(env!("CARGO_TARGET_TMPDIR")).join("header");
    std::fs::create_dir_all(&place).unwrap();
    place
}

const C: &[&str] = &["gcc", "-std=c11", "-xc"];
const CPP: &[&str] = &["g++", "-std=c++17", "-xc++"];

fn compiles(name: &str, compiler: &[&str], source: &str) -> Result<(), String> {
    let (file, object) = (place().join(format!("{name}.txt")), place().join(format!("{name}.o")));
    std::fs::write(&file, source).unwrap();
    let out = Command::new(compiler[0])
        .args(&compiler[1..])
        .args(["-Wall", "-Wextra", "-Werror", "-pedantic", "-c", "-I"])
        .arg(tree().join("core/abi/include"))
        .arg(&file)
        .arg("-o")
        .arg(&object)
        .output()
        .unwrap_or_else(|e| panic!("{}: {e}", compiler[0]));
    if out.status.success() { Ok(()) } else { Err(String::from_utf8_lossy(&out.stderr).into_owned()) }
}

const PLUGIN: &str = r#"
#include "palisade_plugin.h"
#include "palisade_plugin.h"
PALISADE_MANIFEST("(name: \"x\")")
static int32_t configure(const struct palisade_host *host, void **isolator) {
    struct palisade_text value = PALISADE_TEXT("");
    *isolator = NULL;
    if (host->value(host, PALISADE_TEXT("name"), &value) && value.length > 9)
        return palisade_failed(host, PALISADE_POLICY, "too long", NULL, 0, "shorten it", NULL);
    return 0;
}
static int32_t plan(const struct palisade_host *host, void *isolator) {
    (void)host; (void)isolator; return 0;
}
const struct palisade_plugin_table palisade_plugin = {
    sizeof(struct palisade_plugin_table), PALISADE_SEAM_MAJOR, PALISADE_SEAM_MINOR,
    NULL, NULL, configure, plan, NULL, NULL, NULL, NULL, NULL, NULL, NULL,
};
"#;

#[test]
fn c_and_cpp_compile_it_without_a_warning_and_lay_it_out_alike() {
    let mut asserts = PLUGIN.to_owned();
    let mut number = 0;
    for (name, size, align, fields) in STRUCTS {
        writeln!(asserts, "ASSERT(sizeof(struct {name}) == {size}, \"{name}\");").unwrap();
        writeln!(asserts, "ASSERT(ALIGN(struct {name}) == {align}, \"{name}\");").unwrap();
        for (field, offset) in *fields {
            writeln!(asserts, "ASSERT(offsetof(struct {name}, {field}) == {offset}, \"{name}.{field}\");").unwrap();
            number += 1;
        }
    }
    assert!(number > 80, "{number} fields");
    let c = format!("#define ASSERT _Static_assert\n#define ALIGN _Alignof\n{asserts}");
    let cpp = format!("#define ASSERT static_assert\n#define ALIGN alignof\n{asserts}");
    compiles("alike-c", C, &c).unwrap_or_else(|said| panic!("{said}"));
    compiles("alike-cpp", CPP, &cpp).unwrap_or_else(|said| panic!("{said}"));
    // The twin: an offset that is wrong is noticed, and so is a warning.
    let wrong = format!("{c}ASSERT(offsetof(struct palisade_step, data) == 1, \"it is wrong\");\n");
    assert!(compiles("wrong-c", C, &wrong).unwrap_err().contains("it is wrong"));
    let wrong = format!("{cpp}ASSERT(sizeof(struct palisade_host) == 1, \"it is wrong\");\n");
    assert!(compiles("wrong-cpp", CPP, &wrong).unwrap_err().contains("it is wrong"));
    assert!(compiles("warned", C, &format!("{c}int f(void);\nint f(void) {{ int unused; return 0; }}\n")).is_err());
}
