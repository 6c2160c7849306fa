//! Bytes as three layers of one section: base, policy and `--set`. What the base locks must be as
//! the base says, or the merge must fail.
#![no_main]

use std::collections::BTreeMap;

use libfuzzer_sys::fuzz_target;
use palisade_model::diag::Sources;
use palisade_model::layer::{
    At, Dotted, Fragment, FragmentKind, OneOrMany, Piece, merge_layers, parse,
};
use palisade_model::process::{Process, environment};
use palisade_model::units::{AbsPath, CountOrMax, Mode, Percent, SizeOrMax, Text, Time};
use palisade_model::vars::Vars;
use serde::Deserialize;

palisade_model::layered! {
    /// A section with a field of each kind.
    pub struct Sample {
        /// A value.
        pub size: Option<At<SizeOrMax>>,
        /// A part.
        pub inner: Inner,
        /// A list.
        pub rules: Vec<At<Rule>>,
        /// A map.
        pub labels: BTreeMap<String, At<Text>>,
        /// A map of parts.
        pub parts: BTreeMap<String, Inner>,
        /// One or many.
        pub words: OneOrMany<Text>,
        /// The process section as a part.
        pub process: Process,
    }
    /// A part.
    pub struct Inner {
        /// A time.
        pub a: Option<At<Time>>,
        /// A share.
        pub b: Option<At<Percent>>,
        /// A count.
        pub c: Option<At<CountOrMax>>,
    }
}

/// A rule.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub enum Rule {
    /// One value.
    Read(At<AbsPath>),
    /// Two.
    Move(AbsPath, AbsPath),
    /// Named ones.
    Dir {
        /// A path.
        path: AbsPath,
        /// A mode.
        mode: Option<Mode>,
    },
    /// None.
    All,
}

fn set(source: palisade_model::diag::SourceId, path: &str, value: &str) -> Fragment {
    let size = |n: usize| u32::try_from(n).unwrap();
    let text = format!("({path}: {value})");
    let start = 1 + path.len() + 2;
    let piece = |start: usize, len: usize, at: usize| Piece {
        start: size(start),
        end: size(start + len),
        source_start: size(at),
        source_end: size(at + len),
    };
    Fragment {
        kind: FragmentKind::Set,
        pieces: vec![
            piece(1, path.len(), 0),
            piece(start, value.len(), path.len() + 1),
        ],
        ..Fragment::policy(source, text, 0)
    }
}

fuzz_target!(|data: &[u8]| {
    let Ok(text) = std::str::from_utf8(data) else {
        return;
    };
    let mut parts = text.splitn(3, '\0');
    let mut next = || parts.next().unwrap_or_default();
    let (base, later, value) = (next(), next(), next());
    let mut vars = Vars::new();
    vars.set_builtin("project", "/src");
    let mut sources = Sources::default();
    let id = |sources: &mut Sources, text: &str| sources.add("layer", text);

    let mut first = Fragment::policy(id(&mut sources, base), base, 0);
    first.locked = ["size", "inner.a", "process.user"]
        .map(|path| Dotted {
            path: path.to_owned(),
            origin: None,
        })
        .to_vec();
    let second = Fragment::policy(id(&mut sources, later), later, 0);
    let argument = format!("words={value}");
    let third = set(id(&mut sources, &argument), "words", value);
    let layers = [first, second, third];

    match merge_layers::<Sample>(&layers, &vars) {
        Ok(merged) => {
            let alone: Sample = parse(&layers[0], &vars).unwrap();
            assert_eq!(alone.size, merged.size);
            assert_eq!(alone.inner.a, merged.inner.a);
            assert_eq!(alone.process.user, merged.process.user);
            let inherited = [
                ("PATH".to_owned(), "/bin".to_owned()),
                ("A_TOKEN".to_owned(), "x".to_owned()),
            ];
            let (kept, stripped) = environment(&merged.process, &inherited);
            let leaked = kept
                .iter()
                .any(|(name, value)| name == "A_TOKEN" && value == "x");
            let set_by_policy = base.contains("A_TOKEN")
                || later.contains("A_TOKEN")
                || base.contains('\\')
                || later.contains('\\');
            assert!(!leaked || set_by_policy, "{kept:?} {stripped:?}");
        }
        Err(error) => {
            if let Some(origin) = error.origin {
                assert!(
                    origin.end as usize <= sources.text(origin.source).len(),
                    "{error:?}"
                );
            }
            assert!(error.render(&sources).starts_with("error: "));
        }
    }
});
