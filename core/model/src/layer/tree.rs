//! A section that was read by its [`Shape`]: texts, each with its place.

use std::collections::BTreeMap;

use super::{PathError, Shape};
use crate::diag::Origin;

/// A section or a part of one. What is not set is not there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Tree {
    /// Fields of a section, or values of a map.
    Parts(BTreeMap<String, Self>),
    /// The items of a list.
    List(Vec<Self>),
    /// A value: a string without its quotes, all else as written; and where.
    Value(String, Option<Origin>),
}

impl Tree {
    /// One in which nothing is set.
    pub(super) fn of(shape: &Shape) -> Self {
        match shape {
            Shape::List(_) => Self::List(Vec::new()),
            _ => Self::Parts(BTreeMap::new()),
        }
    }

    /// What stands at a dotted path, in which an item of a list has its number: `rules.0.path`.
    #[must_use]
    pub fn at(&self, path: &str) -> Option<&Self> {
        path.split('.').filter(|name| !name.is_empty()).try_fold(self, |tree, name| match tree {
            Self::Parts(parts) => parts.get(name),
            Self::List(items) => items.get(name.parse::<usize>().ok()?),
            Self::Value(..) => None,
        })
    }

    /// Where it was written; of several parts the first.
    #[must_use]
    pub fn origin(&self) -> Option<Origin> {
        match self {
            Self::Parts(parts) => parts.values().find_map(Self::origin),
            Self::List(items) => items.iter().find_map(Self::origin),
            Self::Value(_, origin) => *origin,
        }
    }

    pub(super) fn merge(&mut self, later: Self) {
        match (self, later) {
            (Self::Parts(parts), Self::Parts(later)) => {
                for (name, part) in later {
                    match parts.get_mut(&name) {
                        Some(earlier) => earlier.merge(part),
                        None => drop(parts.insert(name, part)),
                    }
                }
            }
            (Self::List(items), Self::List(later)) => items.extend(later),
            (earlier, later) => *earlier = later,
        }
    }

    /// Whether anything is set at a path, and where.
    pub(super) fn find(&self, path: &[&str]) -> Option<Option<Origin>> {
        match (self, path) {
            (Self::Parts(parts), [first, rest @ ..]) => parts.get(*first)?.find(rest),
            (Self::Parts(parts), []) => {
                let is_set = parts.values().any(|part| part.find(&[]).is_some());
                is_set.then(|| self.origin())
            }
            (Self::List(items), []) => (!items.is_empty()).then(|| self.origin()),
            (Self::Value(_, origin), []) => Some(*origin),
            _ => None,
        }
    }

    /// Takes away what is set at a path.
    pub(super) fn clear(&mut self, shape: &Shape, path: &[&str]) -> Result<(), PathError> {
        let [first, rest @ ..] = path else {
            *self = Self::of(shape);
            return Ok(());
        };
        let part = match shape {
            Shape::Section(fields) => {
                fields.get(first).map(|(_, part)| part).ok_or_else(|| PathError::unknown(first, fields.names))?
            }
            Shape::Map(item) => item,
            Shape::List(_) | Shape::Value(_) => return PathError::below_value(path),
        };
        let Self::Parts(parts) = self else { return Ok(()) };
        if rest.is_empty() {
            parts.remove(*first);
            return Ok(());
        }
        match parts.get_mut(*first) {
            Some(tree) => tree.clear(part, rest),
            None => Self::of(part).clear(part, rest),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::{At, Dotted, Fragment, merge_layers, merge_shaped};
    use super::*;
    use crate::diag::{Diagnostic, SourceId, Sources};
    use crate::units::Text;
    use crate::vars::Vars;

    crate::layered! {
        struct Typed {
            name: Option<At<Text>>,
            count: Option<At<u32>>,
            words: Vec<At<Text>>,
            inner: Part,
            labels: BTreeMap<String, At<Text>>,
            parts: BTreeMap<String, Part>,
        }
        struct Part {
            a: Option<At<u32>>,
            on: Option<At<bool>>,
        }
    }

    const REFERENCE: &str = "(name: \"x\", count: 1, words: [\"w\"], inner: (a: 1, on: true), labels: {\"k\": \"v\"}, \
        parts: {\"p\": (a: 1, on: true)})";

    fn vars() -> Vars {
        let mut vars = Vars::new();
        vars.set_builtin("project", "/src");
        vars
    }

    fn layer(text: &str) -> Fragment {
        Fragment { section: "x".to_owned(), ..Fragment::policy(SourceId(0), text, 100) }
    }

    fn set(argument: &str) -> Fragment {
        crate::set::parse_set(&mut Sources::default(), argument).unwrap().fragment
    }

    fn dotted(path: &str) -> Dotted {
        Dotted { path: path.to_owned(), origin: None }
    }

    fn shaped(layers: &[Fragment]) -> Result<Tree, Diagnostic> {
        merge_shaped(&Shape::of(REFERENCE).unwrap(), layers, &vars())
    }

    fn text<'a>(tree: &'a Tree, path: &str) -> Option<&'a str> {
        match tree.at(path)? {
            Tree::Value(text, _) => Some(text),
            _ => None,
        }
    }

    fn typed(tree: &Typed, path: &str) -> Option<String> {
        let word = |n: usize| tree.words.get(n).map(|word| word.as_str().to_owned());
        let part = |part: &Part, name: &str| match name {
            "a" => part.a.map(|a| a.to_string()),
            _ => part.on.map(|on| on.to_string()),
        };
        match path.split('.').collect::<Vec<_>>().as_slice() {
            ["name"] => tree.name.as_ref().map(|name| name.as_str().to_owned()),
            ["count"] => tree.count.map(|count| count.to_string()),
            ["words", n] => word(n.parse().unwrap()),
            ["inner", name] => part(&tree.inner, name),
            ["labels", key] => tree.labels.get(*key).map(|label| label.as_str().to_owned()),
            ["parts", key, name] => part(tree.parts.get(*key)?, name),
            _ => panic!("{path}"),
        }
    }

    fn replaced(mut fragment: Fragment, path: &str) -> Fragment {
        fragment.replace.push(dotted(path));
        fragment
    }

    fn dropped(mut fragment: Fragment, path: &str) -> Fragment {
        fragment.drop.push(dotted(path));
        fragment
    }

    fn locking(mut fragment: Fragment, path: &str) -> Fragment {
        fragment.locked.push(dotted(path));
        fragment
    }

    fn cases() -> Vec<Vec<Fragment>> {
        let base = || {
            layer(
                "(name: \"a\", words: [\"${project}/w\"], inner: (a: 1), labels: {\"x\": \"1\"}, parts: {\"p\": (a: 1)})",
            )
        };
        vec![
            vec![],
            vec![layer("()")],
            vec![
                base(),
                layer(
                    "(name: \"b$$\", words: [\"v\"], inner: (on: true), labels: {\"x\": \"2\", \"y\": \"3\"}, parts: {\"p\": (on: false), \"q\": ()})",
                ),
            ],
            vec![base(), replaced(layer("(words: [\"only\"])"), "words")],
            vec![base(), replaced(layer("(inner: (on: true))"), "inner")],
            vec![base(), replaced(layer("()"), "words")],
            vec![base(), dropped(layer("()"), "labels.x")],
            vec![base(), dropped(layer("()"), "parts.p.a")],
            vec![base(), dropped(layer("(name: \"b\")"), "name")],
            vec![base(), dropped(layer("()"), "nmae")],
            vec![base(), dropped(layer("()"), "inner.c")],
            vec![base(), dropped(layer("()"), "name.x")],
            vec![locking(base(), "inner"), layer("(inner: (on: true))")],
            vec![locking(base(), "inner.a"), layer("(inner: (on: true))")],
            vec![locking(base(), "inner.a"), layer("(inner: (a: 2))")],
            vec![locking(base(), "words"), dropped(layer("()"), "words")],
            vec![locking(base(), "wrods")],
            vec![set("x.name=box"), set("x.count=7"), set("x.inner.on=true"), set("x.labels={\"k\": \"v\"}")],
            vec![set("x.name=${project}/y")],
            vec![set("x.count=seven")],
            vec![set("x.nmae=box")],
            vec![layer("(nmae: \"a\")")],
            vec![layer("(name: \"a\", name: \"b\")")],
            vec![layer("(inner: (b: 1))")],
            vec![layer("(name: \"${nothing}\")")],
            vec![layer("(name: 1)")],
            vec![layer("(words: [\"a\", 2])")],
            vec![layer("(words: \"a\")")],
            vec![layer("(inner: 1)")],
            vec![layer("(labels: {\"k\": \"v\", \"k\": \"w\"})")],
            vec![layer("(name: \"a\"")],
            vec![layer("[]")],
        ]
    }

    /// The same layers, by type and by shape: the same values, or the same words of refusal at the same place.
    #[test]
    fn a_shape_does_what_a_type_does() {
        let paths = [
            "name",
            "count",
            "words.0",
            "words.1",
            "inner.a",
            "inner.on",
            "labels.x",
            "labels.y",
            "labels.k",
            "parts.p.a",
            "parts.p.on",
        ];
        for (number, layers) in cases().iter().enumerate() {
            match (merge_layers::<Typed>(layers, &vars()), shaped(layers)) {
                (Ok(by_type), Ok(by_shape)) => {
                    for path in paths {
                        assert_eq!(text(&by_shape, path), typed(&by_type, path).as_deref(), "{number}: {path}");
                    }
                }
                (Err(by_type), Err(by_shape)) => {
                    // A shape does not know that a number must be whole.
                    assert_eq!(by_shape.message, by_type.message.replace("whole ", ""), "{number}");
                    assert_eq!((by_shape.origin, by_shape.help), (by_type.origin, by_type.help), "{number}");
                }
                (by_type, by_shape) => panic!("{number}: by type {by_type:?}, by shape {by_shape:?}"),
            }
        }
    }

    #[test]
    fn values_are_texts_with_their_places() {
        let shape = Shape::of("(how: Errno(1), rules: [Read(\"/x\")], pair: (1, 2), list: [(a: 1)])").unwrap();
        let source =
            "(how: Kill, rules: [ Read( \"${project}/\\\"q\\\"\" ), New ], pair: ( 3, 4 ), list: [(a: 5), (a: 6)])";
        let tree = merge_shaped(&shape, &[layer(source)], &vars()).unwrap();
        for (path, wanted) in [
            ("how", "Kill"),
            ("rules.0", "Read( \"/src/\\\"q\\\"\" )"),
            ("rules.1", "New"),
            ("pair", "( 3, 4 )"),
            ("list.1.a", "6"),
        ] {
            assert_eq!(text(&tree, path), Some(wanted), "{path}");
        }
        let origin = tree.at("rules.1").unwrap().origin().unwrap();
        assert_eq!(&source[origin.start as usize - 100..origin.end as usize - 100], "New");
        assert!(tree.at("rules.2").is_none() && tree.at("how.x").is_none() && tree.at("no").is_none());
        for bad in ["(how: 1)", "(how: \"x\")", "(how: true)", "(list: [1])", "(how: Errno(\"${no}\"))"] {
            assert!(merge_shaped(&shape, &[layer(bad)], &vars()).is_err(), "{bad}");
        }
    }
}
