//! Bytes as a policy file, and as one that extends another: whatever they are, the answer is a
//! policy or a diagnostic that can be rendered, and every place in it lies inside its source.
#![no_main]

use libfuzzer_sys::fuzz_target;
use palisade_model::diag::{Diagnostic, Origin, Sources};
use palisade_model::policy::parse_policy;
use palisade_model::resolve::{Found, Request, resolve};
use palisade_model::vars::Vars;

fn check(sources: &Sources, error: &Diagnostic) {
    let inside = |origin: &Origin| {
        let len = sources.text(origin.source).len() as u64;
        assert!(
            u64::from(origin.start) <= len && u64::from(origin.end) <= len,
            "{error:?}"
        );
        assert!(origin.start <= origin.end, "{error:?}");
    };
    error.origin.iter().for_each(inside);
    error.related.iter().for_each(|(_, origin)| inside(origin));
    assert!(!error.message.is_empty());
    assert!(error.render(sources).starts_with("error: "));
}

fuzz_target!(|data: &[u8]| {
    let Ok(text) = std::str::from_utf8(data) else {
        return;
    };
    // What comes after a NUL is a `--set` argument.
    let (text, argument) = match text.split_once('\0') {
        Some((text, argument)) => (text, Some(argument)),
        None => (text, None),
    };
    let mut vars = Vars::new();
    vars.set_builtin("project", "/src");
    let mut sources = Sources::default();
    let policy = sources.add("fuzz.ron", text);
    if let Err(error) = parse_policy(&sources, policy) {
        check(&sources, &error);
        return;
    }
    let request = Request {
        policy,
        sets: argument.map(str::to_owned).into_iter().collect(),
        vars: &vars,
    };
    let resolved = resolve(&mut sources, request, &mut |name| match name {
        "base" => Ok(Found {
            name: "base.ron".to_owned(),
            text: include_str!("../../tests/bad/base/base.ron").to_owned(),
        }),
        // The same text once more, under another name.
        "again" => Ok(Found {
            name: "again.ron".to_owned(),
            text: text.to_owned(),
        }),
        _ => Err(Diagnostic::new("there is no such policy")),
    });
    if let Err(error) = resolved {
        check(&sources, &error);
    }
});
