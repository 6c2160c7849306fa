use std::collections::BTreeMap;

use super::*;
use crate::diag::Sources;
use crate::units::{AbsPath, Size, SizeOrMax, Text, Time};

crate::layered! {
    struct Sample {
        size: Option<At<SizeOrMax>>,
        inner: Inner,
        rules: Vec<At<Rule>>,
        labels: BTreeMap<String, At<Text>>,
        parts: BTreeMap<String, Inner>,
        words: OneOrMany<Text>,
        r#as: Option<At<Size>>,
        stacked: Option<At<At<Vec<At<Text>>>>>,
        choice: Option<At<Choice>>,
        path: Option<At<AbsPath>>,
    }
    struct Inner {
        a: Option<At<Size>>,
        b: Option<At<Time>>,
    }
}

#[derive(Clone, Debug, Deserialize)]
enum Rule {
    Read(At<AbsPath>),
    Both(AbsPath, Option<Size>),
}

#[derive(Clone, Debug, PartialEq, Deserialize)]
enum Choice {
    Kill,
    Errno(u16),
}

fn layer(text: &str) -> Fragment {
    Fragment::policy(SourceId(0), text, 100)
}

fn set(argument: &str) -> Fragment {
    let mut sources = Sources::default();
    crate::set::parse_set(&mut sources, argument).unwrap().fragment
}

fn dotted(path: &str) -> Dotted {
    Dotted { path: path.to_owned(), origin: None }
}

fn vars() -> Vars {
    let mut vars = Vars::new();
    vars.set_builtin("project", "/src");
    vars
}

fn merge(layers: &[Fragment]) -> Result<Sample, Diagnostic> {
    merge_layers(layers, &vars())
}

/// The text that an origin stands for.
fn slice(text: &str, origin: Option<Origin>) -> &str {
    let origin = origin.unwrap();
    &text[origin.start as usize - 100..origin.end as usize - 100]
}

#[test]
fn values_know_their_place_at_every_depth() {
    let text = r#"(
        rules: [ Read( /* why */ "${project}/x" ), Both("/b", 3) ], // rules
        stacked: [ "a", // first
            "b" ],
        labels: { "k": "v" }, parts: { "p": (a: 1) },
        size: "max" // the end
    )"#;
    let sample: Sample = parse(&layer(text), &vars()).unwrap();
    let Rule::Read(path) = &sample.rules[0].value else { panic!("{:?}", sample.rules) };
    assert_eq!(path.as_str(), "/src/x");
    assert_eq!(slice(text, path.origin), "\"${project}/x\"");
    assert_eq!(slice(text, sample.rules[1].origin), "Both(\"/b\", 3)");
    let Rule::Both(path, size) = &sample.rules[1].value else { panic!("{:?}", sample.rules) };
    assert_eq!(path.as_str(), "/b");
    assert_eq!(*size, Some(Size(3)));
    let stacked = sample.stacked.unwrap();
    assert_eq!(slice(text, stacked.value.value[1].origin), "\"b\"");
    assert_eq!(slice(text, sample.labels["k"].origin), "\"v\"");
    assert_eq!(slice(text, sample.parts["p"].a.unwrap().origin), "1");
    assert_eq!(slice(text, sample.size.unwrap().origin), "\"max\"");
}

#[test]
fn later_values_win_lists_append_and_maps_merge() {
    let merged = merge(&[
        layer(r#"(size: 1, rules: [Read("/a")], labels: {"x": "1", "y": "1"}, inner: (a: 1))"#),
        layer(r#"(size: 2, rules: [Read("/b")], labels: {"y": "2"}, inner: (b: "1s"), words: "w")"#),
        layer(r#"(words: ["v", "u"], parts: {"p": (a: 1)})"#),
        layer(r#"(parts: {"p": (b: "2s"), "q": ()}, as: "1KiB")"#),
    ])
    .unwrap();
    assert_eq!(merged.size.unwrap().value, SizeOrMax::Bytes(2));
    assert_eq!(merged.rules.len(), 2);
    let labels: Vec<&str> = merged.labels.values().map(|v| v.as_str()).collect();
    assert_eq!(labels, ["1", "2"]);
    assert!(merged.inner.a.is_some() && merged.inner.b.is_some());
    let words: Vec<&str> = merged.words.iter().map(|w| w.as_str()).collect();
    assert_eq!(words, ["w", "v", "u"]);
    assert!(merged.parts["p"].a.is_some() && merged.parts["p"].b.is_some());
    assert!(merged.parts.contains_key("q"));
    assert_eq!(merged.r#as.unwrap().value, Size(1024));
}

#[test]
fn a_set_value_means_what_it_says() {
    let merged = merge(&[
        set("x.size=1GiB"),
        set("x.inner.b=10min"),
        set("x.choice=Errno(7)"),
        set("x.words=box"),
        set("x.labels={\"k\": \"v\"}"),
        set("x.path=${project}/out"),
        set("x.as=4096"),
    ])
    .unwrap();
    assert_eq!(merged.size.unwrap().value, SizeOrMax::Bytes(1 << 30));
    assert_eq!(merged.inner.b.unwrap().to_string(), "10min");
    assert_eq!(merged.choice.unwrap().value, Choice::Errno(7));
    assert_eq!(merged.words[0].as_str(), "box");
    assert_eq!(merged.labels["k"].as_str(), "v");
    assert_eq!(merged.path.unwrap().as_str(), "/src/out");
    assert_eq!(merged.r#as.unwrap().value, Size(4096));
    assert_eq!(merge(&[set("x.choice=Kill")]).unwrap().choice.unwrap().value, Choice::Kill);
    // What must stay text does.
    for value in ["a\"b", "a\\b", "1 // x", "#![enable(implicit_some)]", "), size: (1", "'", ""] {
        let merged = merge(&[set(&format!("x.words={value}"))]).unwrap();
        assert_eq!(merged.words[0].as_str(), value);
        assert!(merged.size.is_none());
    }
}

#[test]
fn replace_and_drop_change_what_is_inherited() {
    let base = layer(r#"(rules: [Read("/a")], size: 1, inner: (a: 1, b: "1s"))"#);
    let mut later = layer(r#"(rules: [Read("/b")], inner: (a: 2))"#);
    later.replace = vec![dotted("rules"), dotted("inner")];
    later.drop = vec![dotted("size")];
    let merged = merge(&[base, later]).unwrap();
    assert_eq!(merged.rules.len(), 1);
    assert!(merged.inner.b.is_none() && merged.size.is_none());
    assert_eq!(merged.inner.a.unwrap().value, Size(2));
}

#[test]
fn a_lock_holds_for_parts_and_wholes() {
    let mut base = layer("(inner: (a: 1))");
    base.locked = vec![dotted("inner.a")];
    let refuse = |later: Fragment| {
        let said = merge(&[base.clone(), layer("()"), later]).unwrap_err();
        assert!(said.message.contains("is locked"), "{said}");
    };
    refuse(layer("(inner: (a: 1))"));
    refuse(set("x.inner.a=1"));
    let touching = |replace: &[&str], drop: &[&str]| {
        let mut later = layer("()");
        later.replace = replace.iter().map(|path| dotted(path)).collect();
        later.drop = drop.iter().map(|path| dotted(path)).collect();
        later
    };
    refuse(touching(&[], &["inner"]));
    refuse(touching(&[], &["inner.a"]));
    refuse(touching(&["inner"], &[]));
    // The one that locks may set, and so may anyone what is not locked.
    assert!(merge(&[base.clone(), layer("(inner: (b: \"1s\"))")]).is_ok());
    // A lock on the whole holds for every part.
    base.locked = vec![dotted("parts")];
    let said = merge(&[base, set("x.parts={\"p\": (a: 1)}")]).unwrap_err();
    assert!(said.message.contains("`x.parts` is locked") || said.message.contains("`parts`"));
}

#[test]
fn sections_are_found_and_cleared_by_path() {
    let mut sample: Sample =
        parse(&layer(r#"(inner: (a: 1), labels: {"k": "v"}, parts: {"p": (a: 1)}, rules: [Read("/a")])"#), &vars())
            .unwrap();
    assert!(sample.find(&["inner"]).is_some() && sample.find(&["inner", "a"]).is_some());
    assert!(sample.find(&["inner", "b"]).is_none() && sample.find(&["nope"]).is_none());
    assert!(sample.find(&["labels", "k"]).is_some() && sample.find(&["labels", "x"]).is_none());
    assert!(sample.find(&["parts", "p", "a"]).is_some());
    for path in [&["inner", "a"][..], &["labels", "k"], &["parts", "p", "a"], &["rules"]] {
        sample.clear(path).unwrap();
        assert!(sample.find(path).is_none(), "{path:?}");
    }
    let error = sample.clear(&["inner", "c"]).unwrap_err();
    assert_eq!(error, PathError::unknown("c", &["a", "b"]));
    assert!(sample.clear(&["size", "x"]).is_err());
    assert!(sample.clear(&["parts", "absent", "z"]).is_err());
    assert_eq!(Sample::fields().len(), 10);
    assert!(Sample::fields().contains(&"as"));
}

#[test]
fn an_inner_parse_does_not_disturb_the_outer_one() {
    #[derive(Clone, Debug)]
    struct Nested(Size);
    impl<'de> Deserialize<'de> for Nested {
        fn deserialize<D: serde::Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
            let text = String::deserialize(from)?;
            let inner: At<Size> = parse(&layer(&text), &Vars::new()).map_err(serde::de::Error::custom)?;
            Ok(Self(inner.value))
        }
    }
    let text = r#"[ "12", "13" ]"#;
    let all: Vec<At<Nested>> = parse(&layer(text), &vars()).unwrap();
    assert_eq!(all[1].value.0, Size(13));
    assert_eq!(slice(text, all[1].origin), "\"13\"");
    let said = parse::<Vec<At<Nested>>>(&layer(r#"[ "12", "x" ]"#), &vars()).unwrap_err();
    assert!(said.message.starts_with("expected a size"), "{said}");
    assert_eq!(said.origin.unwrap().start, 108);
}

#[test]
fn values_work_without_a_context() {
    let at: At<Size> = ron::from_str("\"1KiB\"").unwrap();
    assert_eq!((at.value, at.origin), (Size(1024), None));
    assert!(ron::from_str::<AbsPath>("\"${project}\"").is_err());
}

#[test]
fn a_panic_in_a_type_leaves_no_context_behind() {
    struct Panics;
    impl<'de> Deserialize<'de> for Panics {
        fn deserialize<D: serde::Deserializer<'de>>(_: D) -> Result<Self, D::Error> {
            panic!("as a plugin's type may")
        }
    }
    let caught = std::panic::catch_unwind(|| parse::<Panics>(&layer("1"), &vars()).is_ok());
    assert!(caught.is_err());
    assert!(expand("${project}").is_err());
}

// `None` was read as "not set", so a choice of that name was skipped without a word.
#[test]
fn none_is_a_value_like_any_other() {
    #[derive(Clone, Debug, PartialEq, Deserialize)]
    enum Net {
        None,
        Host,
    }
    crate::layered! {
        struct View {
            net: Option<At<Net>>,
            size: Option<At<Size>>,
        }
    }
    let view: View = parse(&layer("(net: None)"), &vars()).unwrap();
    assert_eq!(view.net.unwrap().value, Net::None);
    let view: View = parse(&set("x.net=None"), &vars()).unwrap();
    assert_eq!(view.net.unwrap().value, Net::None);
    let view: View = parse(&layer("(net: Host)"), &vars()).unwrap();
    assert_eq!(view.net.unwrap().value, Net::Host);
    assert!(view.size.is_none());
    let said = parse::<View>(&layer("(size: None)"), &vars()).unwrap_err();
    assert!(said.message.ends_with("found `None`"), "{said}");
}

#[test]
fn a_fragment_crosses_the_seam_as_it_is() {
    for text in ["()", "( a: \"x\" )", "( a: r#\"x\"y\"# )", "( a: r##\"x\"#y\"## ) // \"###", "\"", "\\ \n \u{e4}"] {
        let fragment = Fragment { section: "p\"q".to_owned(), ..Fragment::policy(SourceId(3), text, 17) };
        let ron = fragment.to_ron().unwrap();
        assert_eq!(ron::from_str::<Fragment>(&ron).unwrap(), fragment, "{ron}");
    }
}
