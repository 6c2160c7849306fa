//! What a section looks like, learnt from one that sets every option once: for owners that have no types of Rust.

use std::collections::BTreeMap;
use std::fmt;

use ron::value::RawValue;
use serde::de::{Deserialize, DeserializeSeed, Deserializer, Error as _, MapAccess, SeqAccess, Visitor};

use super::context::parse_at;
use super::{Tree, expand};
use crate::lex::{self, Token};
use crate::units::Text;

/// What a value is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// A string in double quotes, in which variables are expanded.
    Text,
    /// A number.
    Number,
    /// `true` or `false`.
    Bool,
    /// A choice, alone or with what belongs to it in parentheses: `New`, `Errno(1)`. Also a tuple.
    Choice,
}

/// The shape of a section or of a part of one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Shape {
    /// Fields by name; layers merge field by field.
    Section(Fields),
    /// A list, and the shape of its items; layers append.
    List(Box<Self>),
    /// A map, and the shape of its values; layers merge key by key.
    Map(Box<Self>),
    /// A value; the later layer wins.
    Value(Kind),
}

/// The fields of a section.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fields {
    /// For errors, which name them all.
    pub(super) names: &'static [&'static str],
    /// In the same order.
    pub(super) shapes: Vec<Shape>,
}

impl Fields {
    pub(super) fn get(&self, name: &str) -> Option<(&'static str, &Shape)> {
        self.names.iter().copied().zip(&self.shapes).find(|(known, _)| *known == name)
    }
}

impl Shape {
    /// Learns the shape from a section.
    ///
    /// Names of fields are kept for as long as the process lives: a plugin's library is, too.
    ///
    /// # Errors
    /// In words: it is no section in RON, or an empty list or map of it shows no item.
    pub fn of(reference: &str) -> Result<Self, String> {
        RawValue::from_ron(reference).map_err(|error| error.to_string())?;
        let tokens = lex::tokens(reference);
        let mut reader = Reader { text: reference, tokens: &tokens, at: 0 };
        match reader.value()? {
            section @ Self::Section(_) => Ok(section),
            _ => Err("it is no section in parentheses `( ... )`".to_owned()),
        }
    }

    /// Whether a dotted path can lead somewhere; an item of a list has its number: `rules.0.path`.
    #[must_use]
    pub fn has(&self, path: &str) -> bool {
        path.split('.').try_fold(self, Self::part).is_some()
    }

    fn part(&self, name: &str) -> Option<&Self> {
        match self {
            Self::Section(fields) => fields.get(name).map(|(_, shape)| shape),
            Self::List(item) => name.parse::<usize>().is_ok().then_some(item),
            Self::Map(item) => Some(item),
            Self::Value(_) => None,
        }
    }
}

/// Goes through the tokens of a text that is RON.
struct Reader<'a> {
    text: &'a str,
    tokens: &'a [Token],
    at: usize,
}

impl Reader<'_> {
    fn kind(&self, ahead: usize) -> Option<lex::Kind> {
        self.tokens.get(self.at + ahead).map(|token| token.kind)
    }

    fn word(&self) -> &str {
        self.tokens.get(self.at).map(|token| token.text(self.text)).unwrap_or_default()
    }

    /// Skips what is left up to the bracket that closes the one that was read last.
    fn close(&mut self) {
        let mut depth = 1_usize;
        while let Some(kind) = self.kind(0).filter(|_| depth > 0) {
            match kind {
                lex::Kind::Open(_) => depth += 1,
                lex::Kind::Close(_) => depth -= 1,
                _ => {}
            }
            self.at += 1;
        }
    }

    fn value(&mut self) -> Result<Shape, String> {
        let (first, second) = (self.kind(0), self.kind(2));
        match first {
            Some(lex::Kind::Open('(')) => match (self.kind(1), second) {
                (Some(lex::Kind::Close(_)), _) | (Some(lex::Kind::Word), Some(lex::Kind::Mark(':'))) => self.section(),
                _ => Ok(self.choice()),
            },
            Some(lex::Kind::Open(open)) => {
                self.at += 1;
                if matches!(self.kind(0), Some(lex::Kind::Close(_))) {
                    return Err("it has an empty list or map; show one item".to_owned());
                }
                // A map's first key, and its colon.
                self.at += if open == '{' { 2 } else { 0 };
                let item = Box::new(self.value()?);
                self.close();
                Ok(if open == '{' { Shape::Map(item) } else { Shape::List(item) })
            }
            Some(lex::Kind::Text) => {
                self.at += 1;
                Ok(Shape::Value(Kind::Text))
            }
            _ => Ok(self.choice()),
        }
    }

    /// A word, and what stands in parentheses behind it; or these alone.
    fn choice(&mut self) -> Shape {
        let kind = match self.word() {
            "true" | "false" => Kind::Bool,
            word if word.starts_with(|c: char| c.is_ascii_digit() || "+-.".contains(c)) => Kind::Number,
            _ => Kind::Choice,
        };
        if self.kind(0) == Some(lex::Kind::Word) {
            self.at += 1;
        }
        if self.kind(0) == Some(lex::Kind::Open('(')) {
            self.at += 1;
            self.close();
        }
        Shape::Value(kind)
    }

    fn section(&mut self) -> Result<Shape, String> {
        let mut fields: BTreeMap<String, Shape> = BTreeMap::new();
        self.at += 1;
        while self.kind(0) == Some(lex::Kind::Word) {
            let name = self.word().to_owned();
            self.at += 2;
            let shape = self.value()?;
            if fields.insert(name.clone(), shape).is_some() {
                return Err(format!("it has the field `{name}` twice"));
            }
            if self.kind(0) == Some(lex::Kind::Mark(',')) {
                self.at += 1;
            }
        }
        self.at += 1;
        let (names, shapes): (Vec<String>, Vec<Shape>) = fields.into_iter().unzip();
        let names: Vec<&'static str> = names.into_iter().map(|name| &*name.leak()).collect();
        Ok(Shape::Section(Fields { names: names.leak(), shapes }))
    }
}

impl<'de> DeserializeSeed<'de> for &Shape {
    type Value = Tree;

    fn deserialize<D: Deserializer<'de>>(self, from: D) -> Result<Tree, D::Error> {
        match self {
            // The empty name is one that cannot be written, so none can be confused with it.
            Shape::Section(fields) => from.deserialize_struct("", fields.names, Inside(self)),
            Shape::List(_) => from.deserialize_seq(Inside(self)),
            Shape::Map(_) => from.deserialize_map(Inside(self)),
            Shape::Value(kind) => value(*kind, from),
        }
    }
}

/// Reads what stands between the brackets of a section, a list or a map.
struct Inside<'a>(&'a Shape);

impl<'de> Visitor<'de> for Inside<'_> {
    type Value = Tree;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self.0 {
            Shape::List(_) => "a list",
            Shape::Map(_) => "a map",
            _ => "struct",
        })
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<Tree, A::Error> {
        let Shape::List(item) = self.0 else { return Err(A::Error::custom("a list does not belong here")) };
        let mut items = Vec::new();
        while let Some(one) = list.next_element_seed(&**item)? {
            items.push(one);
        }
        Ok(Tree::List(items))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Tree, A::Error> {
        let mut parts = BTreeMap::new();
        while let Some(key) = map.next_key::<String>()? {
            let shape = match self.0 {
                Shape::Map(item) => item,
                Shape::Section(fields) => match fields.get(&key) {
                    Some((name, _)) if parts.contains_key(name) => return Err(A::Error::duplicate_field(name)),
                    Some((_, shape)) => shape,
                    None => return Err(A::Error::unknown_field(&key, fields.names)),
                },
                _ => return Err(A::Error::custom("a field does not belong here")),
            };
            let part = map.next_value_seed(shape)?;
            parts.insert(key, part);
        }
        Ok(Tree::Parts(parts))
    }
}

/// Reads a value: as text, and with its place.
fn value<'de, D: Deserializer<'de>>(kind: Kind, from: D) -> Result<Tree, D::Error> {
    let raw = <&RawValue>::deserialize(from)?.get_ron();
    let written = || raw[lex::trim(raw)].to_owned();
    let read = match kind {
        Kind::Text => parse_at::<Text>(raw).map(|(text, origin)| (text.as_str().to_owned(), origin)),
        Kind::Number => parse_at::<Number>(raw).map(|(_, origin)| (written(), origin)),
        Kind::Bool => parse_at::<bool>(raw).map(|(_, origin)| (written(), origin)),
        Kind::Choice => parse_at::<Choice>(raw).map(|(choice, origin)| (choice.0, origin)),
    };
    let (text, origin) = read.map_err(D::Error::custom)?;
    Ok(Tree::Value(text, origin))
}

/// Any number.
struct Number;

impl<'de> Deserialize<'de> for Number {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        let raw = <&RawValue>::deserialize(from)?.get_ron();
        let text = &raw[lex::trim(raw)];
        match ron::from_str::<ron::Value>(text) {
            Ok(ron::Value::Number(_)) => Ok(Self),
            _ => Err(D::Error::custom(format!("expected a number, found `{text}`"))),
        }
    }
}

/// A choice as written, the variables in its strings expanded.
struct Choice(String);

impl<'de> Deserialize<'de> for Choice {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        let raw = <&RawValue>::deserialize(from)?.get_ron();
        let text = &raw[lex::trim(raw)];
        let starts = |c: char| c.is_alphabetic() || c == '_' || c == '(';
        if !text.starts_with(starts) || text == "true" || text == "false" || lex::is_string(text) {
            return Err(D::Error::custom(format!("expected a choice, found `{text}`")));
        }
        let (mut out, mut done) = (String::new(), 0);
        for token in lex::tokens(text).into_iter().filter(|token| token.kind == lex::Kind::Text) {
            let inner = token.text(text);
            let Ok(string) = ron::from_str::<String>(inner) else { continue };
            out.push_str(text.get(done..token.start).unwrap_or_default());
            out.push_str(&format!("{:?}", expand(&string).map_err(D::Error::custom)?));
            done = token.end;
        }
        out.push_str(text.get(done..).unwrap_or_default());
        Ok(Self(out))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn kind(shape: &Shape, name: &str) -> Shape {
        let Shape::Section(fields) = shape else { panic!("{shape:?}") };
        fields.get(name).unwrap_or_else(|| panic!("no {name}")).1.clone()
    }

    #[test]
    fn a_shape_is_learnt_from_an_example() {
        let shape = Shape::of(
            "( // comment\n name: \"a(b\", n: -1.5, on: true, how: Errno(1, [2]), pair: (1, \"x\"), none: (),\n\
             list: [\"a\", \"b\"], rules: [Read(\"/a\")], deep: (x: (y: 1)), map: { \"k\": (a: 1), \"l\": () }, last: New )",
        )
        .unwrap();
        for (name, wanted) in [
            ("name", Kind::Text),
            ("n", Kind::Number),
            ("on", Kind::Bool),
            ("how", Kind::Choice),
            ("pair", Kind::Choice),
            ("last", Kind::Choice),
        ] {
            assert_eq!(kind(&shape, name), Shape::Value(wanted), "{name}");
        }
        assert_eq!(kind(&shape, "list"), Shape::List(Box::new(Shape::Value(Kind::Text))));
        assert_eq!(kind(&shape, "rules"), Shape::List(Box::new(Shape::Value(Kind::Choice))));
        assert_eq!(kind(&kind(&kind(&shape, "deep"), "x"), "y"), Shape::Value(Kind::Number));
        let Shape::Map(item) = kind(&shape, "map") else { panic!() };
        assert_eq!(kind(&item, "a"), Shape::Value(Kind::Number));
        assert_eq!(kind(&shape, "none"), Shape::of("()").unwrap());
    }

    #[test]
    fn what_shows_no_shape_is_refused() {
        for text in ["", "(", "[1]", "1", "Config(a: 1)", "(a: [])", "(a: {})", "(a: 1, a: 2)", "(1, 2)"] {
            assert!(Shape::of(text).is_err(), "{text}");
        }
    }
}
