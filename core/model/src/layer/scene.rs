//! What RON was reading when it failed, and what to call it.

use ron::error::Error;

use super::explain::{Failure, unclosed};
use crate::diag::suggest;
use crate::lex::{self, Kind, Token};

/// Which token an error is about.
#[derive(Clone, Copy)]
enum Which {
    /// The one that was read last.
    Last,
    /// The one that comes next.
    Next,
    /// All that is between the brackets that come next to be closed.
    Around,
}

/// A text that RON could not read.
pub(super) struct Scene<'a> {
    pub(super) text: &'a str,
    pub(super) tokens: &'a [Token],
    /// How far RON came.
    pub(super) at: usize,
}

/// What is expected where something else was found.
const POLICY: &str = "`Policy( version: 1, ... )`";
const SECTION: &str = "a section in parentheses `( ... )`";
const LIST: &str = "a list in brackets `[ ... ]`";
const MAP: &str = "a map in braces `{ ... }`";
const STRING: &str = "a string in double quotes";
const WHOLE: &str = "a whole number";

impl Scene<'_> {
    fn next(&self) -> Option<Token> {
        self.tokens.iter().find(|t| t.end > self.at).copied()
    }

    fn last(&self) -> Option<Token> {
        self.tokens.iter().rfind(|t| t.start < self.at).copied()
    }

    fn range(&self, which: Which) -> (usize, usize) {
        let end = self.tokens.last().map_or(0, |t| t.end);
        let token = match which {
            Which::Last => self.last().or(self.next()),
            Which::Next => self.next(),
            Which::Around => {
                let close = self.tokens.iter().position(|t| t.end > self.at);
                let open = close.and_then(|i| lex::opened_by(self.tokens, i));
                let closed = close.map(|i| self.tokens[i].end);
                return open.zip(closed).map_or((0, end), |(o, c)| (o.start, c));
            }
        };
        match (which, token) {
            // What ends in a bracket is as a whole what was read last.
            (Which::Last, Some(close)) if matches!(close.kind, Kind::Close(_)) => {
                let index = self.tokens.iter().position(|t| *t == close);
                let open = index.and_then(|i| lex::opened_by(self.tokens, i));
                (open.unwrap_or(close).start, close.end)
            }
            (_, token) => token.map_or((end, end), |t| (t.start, t.end)),
        }
    }

    fn say(&self, which: Which, message: impl Into<String>, help: Option<String>) -> Failure {
        let (start, end) = self.range(which);
        Failure { message: message.into(), help: help.filter(|help| !help.is_empty()), start, end, telling: false }
    }

    fn telling(&self, which: Which, message: impl Into<String>, help: Option<String>) -> Failure {
        Failure { telling: true, ..self.say(which, message, help) }
    }

    /// "expected …, found …".
    fn expected(&self, which: Which, what: &str) -> Failure {
        let (start, end) = self.range(which);
        let found = &self.text[start..end];
        let help = match self.text[start..].chars().next() {
            Some(c) if what == STRING && (c.is_alphanumeric() || c == '_') => Some(format!("write \"{found}\"")),
            // A unit: it says itself what strings it takes.
            Some(c) if what.contains('"') && c.is_alphabetic() => {
                Some(format!("strings are written in quotes: \"{found}\""))
            }
            _ => None,
        };
        self.say(which, format!("expected {what}, found {}", shown(found)), help)
    }

    pub(super) fn explain(&self, code: &Error) -> Failure {
        self.names(code).or_else(|| self.kinds(code)).unwrap_or_else(|| self.syntax(code))
    }

    /// Fields and choices.
    fn names(&self, code: &Error) -> Option<Failure> {
        Some(match code {
            Error::NoSuchStructField { expected, found, .. } => {
                self.telling(Which::Last, format!("unknown field `{found}`"), Some(suggest(found, expected)))
            }
            Error::NoSuchEnumVariant { expected, found, .. } => {
                self.telling(Which::Last, format!("unknown choice `{found}`"), Some(suggest(found, expected)))
            }
            Error::MissingStructField { field, .. } => self.telling(
                Which::Around,
                format!("the field `{field}` is missing"),
                Some(format!("add `{field}: ...`")),
            ),
            Error::DuplicateStructField { field, .. } => self.telling(
                Which::Last,
                format!("the field `{field}` is given twice"),
                Some("one of them would be ignored; remove it".to_owned()),
            ),
            Error::Message(said) => {
                let (message, help) = match said.split_once('\n') {
                    Some((message, help)) => (message, Some(help.to_owned())),
                    None => (said.as_str(), None),
                };
                self.telling(Which::Last, message, help)
            }
            _ => return None,
        })
    }

    /// A value of another kind than was expected.
    fn kinds(&self, code: &Error) -> Option<Failure> {
        let what = match code {
            Error::InvalidValueForType { expected, .. } => return Some(self.invalid(expected)),
            Error::ExpectedDifferentLength { expected, found } => {
                return Some(self.length(expected, *found));
            }
            Error::ExpectedString | Error::ExpectedByteString => STRING,
            Error::ExpectedBoolean => "`true` or `false`",
            Error::ExpectedInteger => WHOLE,
            Error::ExpectedFloat => "a number",
            Error::ExpectedChar | Error::ExpectedByteLiteral => "a character in single quotes",
            Error::ExpectedArray => LIST,
            Error::ExpectedMap => MAP,
            Error::ExpectedOption => "a value",
            Error::ExpectedUnit => "`()`",
            Error::ExpectedNamedStructLike("Policy") => POLICY,
            Error::ExpectedDifferentStructName { expected: "Policy", .. } => {
                return Some(self.expected(Which::Last, POLICY));
            }
            Error::ExpectedDifferentStructName { .. } => return Some(self.named()),
            Error::ExpectedStructLike | Error::ExpectedNamedStructLike(_) => {
                return Some(self.section());
            }
            Error::ExpectedIdentifier | Error::SuggestRawIdentifier(_) => {
                return Some(self.identifier());
            }
            _ => return None,
        };
        Some(self.expected(Which::Next, what))
    }

    /// A section with a name in front.
    fn named(&self) -> Failure {
        let name = self.last().map_or("", |t| t.text(self.text));
        self.say(
            Which::Last,
            format!("expected {SECTION}, found the name `{name}` in front of one"),
            Some("write the parentheses alone".to_owned()),
        )
    }

    fn section(&self) -> Failure {
        let open = self.next().is_some_and(|t| t.kind == Kind::Open('('));
        match self.last() {
            Some(word) if word.kind == Kind::Word && open => self.named(),
            // What takes a value was written without one.
            Some(word) if word.kind == Kind::Word && self.before(word) != Some(Kind::Mark(':')) => {
                self.takes_value(word)
            }
            Some(word) if word.kind == Kind::Word && self.next().is_none() => self.takes_value(word),
            _ => self.expected(Which::Next, SECTION),
        }
    }

    fn takes_value(&self, word: Token) -> Failure {
        let name = word.text(self.text);
        self.telling(
            Which::Last,
            format!("`{name}` needs a value in parentheses"),
            Some(format!("write `{name}(...)`")),
        )
    }

    fn before(&self, token: Token) -> Option<Kind> {
        let before = self.tokens.iter().rfind(|t| t.end <= token.start)?;
        Some(before.kind)
    }

    fn identifier(&self) -> Failure {
        let next = self.next();
        let found = next.map_or("", |t| t.text(self.text));
        let help = match next.map(|t| t.kind) {
            Some(Kind::Text) => Some("a name is written without quotes".to_owned()),
            _ => None,
        };
        self.say(Which::Next, format!("expected a name, found {}", shown(found)), help)
    }

    /// `expected` comes from the type: serde's own phrases name Rust types, a unit's do not.
    fn invalid(&self, expected: &str) -> Failure {
        let first = expected.split_whitespace().next().unwrap_or_default();
        let what = match first {
            "struct" | "newtype" | "unit" => SECTION,
            "enum" | "variant" | "field" => "a name",
            "tuple" => "values in parentheses `( ... )`",
            "u8" | "u16" | "u32" | "u64" | "usize" | "i8" | "i16" | "i32" | "i64" | "isize" => WHOLE,
            "f32" | "f64" => "a number",
            _ => match expected {
                "a string" | "a borrowed string" | "string" => STRING,
                "a boolean" => "`true` or `false`",
                "a sequence" => LIST,
                "a map" => MAP,
                _ => expected,
            },
        };
        self.expected(Which::Last, what)
    }

    fn length(&self, expected: &str, found: usize) -> Failure {
        let count = expected.split_whitespace().rev().nth(1).unwrap_or_default();
        let message = match count.parse::<usize>() {
            Ok(1) => format!("expected one value, found {found}"),
            Ok(count) => format!("expected {count} values, found {found}"),
            Err(_) => format!("{found} values are not what is expected here"),
        };
        self.say(Which::Around, message, None)
    }

    fn syntax(&self, code: &Error) -> Failure {
        match code {
            Error::Eof | Error::ExpectedStringEnd | Error::UnclosedBlockComment | Error::UnclosedLineComment => {
                self.eof()
            }
            Error::ExpectedComma
            | Error::TrailingCharacters
            | Error::ExpectedArrayEnd
            | Error::ExpectedMapEnd
            | Error::ExpectedOptionEnd
            | Error::ExpectedStructLikeEnd => self.separator(),
            Error::ExpectedMapColon => self.expected(Which::Next, "`:` and a value"),
            Error::IntegerOutOfBounds => self.say(Which::Last, "the number is out of range here", None),
            Error::InvalidIntegerDigit { .. } | Error::UnderscoreAtBeginning | Error::FloatUnderscore => {
                self.expected(Which::Next, "a number")
            }
            Error::InvalidEscape(_) => self.say(
                Which::Next,
                "this string contains an escape that does not exist",
                Some("write `\\\\` for a backslash, or r\"...\" for a string without escapes".to_owned()),
            ),
            Error::ExceededRecursionLimit => self.say(Which::Next, "the text is nested too deeply", None),
            _ if self.next().is_none() => self.eof(),
            _ => {
                let found = self.next().map_or("", |t| t.text(self.text));
                self.say(Which::Next, format!("unexpected {}", shown(found)), None)
            }
        }
    }

    /// The text ends before its brackets do: the place is where they begin.
    fn eof(&self) -> Failure {
        let Some(open) = lex::unclosed(self.tokens) else {
            return self.say(Which::Next, "the text ends too early", None);
        };
        unclosed(open, self.text)
    }

    fn separator(&self) -> Failure {
        let (last, next) = (self.last(), self.next());
        let Some(next) = next else {
            return self.eof();
        };
        if let (Some(Kind::Word), Kind::Open('(')) = (last.map(|t| t.kind), next.kind) {
            let name = last.map_or("", |t| t.text(self.text));
            return self.telling(
                Which::Next,
                format!("`{name}` takes no value"),
                Some(format!("write `{name}` alone")),
            );
        }
        // RON stopped inside what people see as one word, such as `1GiB`.
        if next.start < self.at && next.kind == Kind::Word {
            let found = next.text(self.text);
            return self.say(
                Which::Next,
                format!("`{found}` is neither a number nor a name"),
                Some(format!("write \"{found}\"")),
            );
        }
        let index = self.tokens.iter().position(|t| *t == next).unwrap_or(0);
        let close = match lex::opened_by(self.tokens, index).map(|t| t.kind) {
            Some(Kind::Open('(')) => "`,` or `)`",
            Some(Kind::Open('[')) => "`,` or `]`",
            Some(Kind::Open('{')) => "`,` or `}`",
            _ => "the end of the text",
        };
        self.expected(Which::Next, close)
    }
}

/// What was found, short enough for a message.
fn shown(found: &str) -> String {
    const LONGEST: usize = 40;
    let first_line = found.lines().next().unwrap_or_default();
    if first_line.is_empty() {
        return "the end of the text".to_owned();
    }
    if first_line.chars().count() <= LONGEST && first_line == found {
        return format!("`{found}`");
    }
    let start: String = first_line.chars().take(LONGEST).collect();
    format!("`{start}...`")
}
