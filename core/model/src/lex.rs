//! A small lexer for RON, for places only: it finds the token that an error is about, the
//! bracket that is never closed, and keys that are given twice. What a value means is RON's own
//! business.

use std::ops::Range;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    Open(char),
    Close(char),
    /// A string or a character.
    Text,
    /// A name or a number.
    Word,
    /// Any other character.
    Mark(char),
    /// A string or a comment that the text ends in.
    Unclosed,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Token {
    pub(crate) kind: Kind,
    pub(crate) start: usize,
    pub(crate) end: usize,
}

impl Token {
    pub(crate) fn text<'a>(&self, source: &'a str) -> &'a str {
        source.get(self.start..self.end).unwrap_or_default()
    }
}

/// All tokens. Never fails: text that is not RON gives tokens that are not RON.
pub(crate) fn tokens(text: &str) -> Vec<Token> {
    each_token(text).collect()
}

/// The tokens one by one, for whoever does not need all of them.
pub(crate) fn each_token(text: &str) -> impl Iterator<Item = Token> {
    let mut at = 0;
    std::iter::from_fn(move || {
        let start = match skip_blank(text, at) {
            Ok(next) => next,
            Err(comment) => {
                at = text.len();
                return Some(Token { kind: Kind::Unclosed, start: comment, end: at });
            }
        };
        let first = text[start..].chars().next()?;
        let (kind, len) = one(&text[start..], first);
        at = start + len;
        Some(Token { kind, start, end: at })
    })
}

/// The first byte that is neither white space nor in a comment; `Err` with the start of a block
/// comment that is never closed.
fn skip_blank(text: &str, mut at: usize) -> Result<usize, usize> {
    loop {
        let rest = &text[at..];
        let blank = rest.len()
            - rest.trim_start_matches(|c: char| c.is_whitespace() || c == '\u{200e}' || c == '\u{200f}').len();
        at += blank;
        let rest = &text[at..];
        if rest.starts_with("//") {
            at += rest.find('\n').unwrap_or(rest.len());
        } else if rest.starts_with("/*") {
            at += block_comment(rest).ok_or(at)?;
        } else {
            return Ok(at);
        }
    }
}

/// The length of the (nesting) block comment that `text` starts with.
fn block_comment(text: &str) -> Option<usize> {
    let mut depth = 0_usize;
    let mut at = 0;
    loop {
        let rest = &text[at..];
        if rest.starts_with("/*") {
            depth += 1;
            at += 2;
        } else if rest.starts_with("*/") {
            depth -= 1;
            at += 2;
            if depth == 0 {
                return Some(at);
            }
        } else {
            at += rest.chars().next()?.len_utf8();
        }
    }
}

fn one(rest: &str, first: char) -> (Kind, usize) {
    match first {
        '(' | '[' | '{' => (Kind::Open(first), 1),
        ')' | ']' | '}' => (Kind::Close(first), 1),
        '"' => quoted(rest, 0),
        '\'' => character(rest),
        'r' | 'b' if string_prefix(rest).is_some() => {
            let (raw, lead) = string_prefix(rest).unwrap_or_default();
            if raw { raw_string(rest, lead) } else { quoted(rest, lead) }
        }
        c if is_word(c) => {
            let len = rest.find(|c| !is_word(c)).unwrap_or(rest.len());
            (Kind::Word, len)
        }
        c => (Kind::Mark(c), c.len_utf8()),
    }
}

fn is_word(c: char) -> bool {
    c.is_alphanumeric() || matches!(c, '_' | '.' | '+' | '-')
}

/// Whether the text starts with `b"`, `r"`, `r#"` or `br"`: raw or not, and where the string's own
/// marks (`#` and quotes) begin.
fn string_prefix(rest: &str) -> Option<(bool, usize)> {
    let (raw, lead) = if rest.starts_with("br") {
        (true, 2)
    } else if rest.starts_with('r') {
        (true, 1)
    } else {
        (false, 1)
    };
    let tail = &rest[lead..];
    let tail = if raw { tail.trim_start_matches('#') } else { tail };
    tail.starts_with('"').then_some((raw, lead))
}

fn quoted(rest: &str, lead: usize) -> (Kind, usize) {
    let mut escaped = false;
    for (at, c) in rest.char_indices().skip(lead + 1) {
        match c {
            '"' if !escaped => return (Kind::Text, at + 1),
            '\\' => escaped = !escaped,
            _ => escaped = false,
        }
    }
    (Kind::Unclosed, rest.len())
}

fn raw_string(rest: &str, lead: usize) -> (Kind, usize) {
    let hashes = rest[lead..].len() - rest[lead..].trim_start_matches('#').len();
    let body = lead + hashes + 1;
    let close = format!("\"{}", "#".repeat(hashes));
    match rest[body..].find(&close) {
        Some(at) => (Kind::Text, body + at + close.len()),
        None => (Kind::Unclosed, rest.len()),
    }
}

fn character(rest: &str) -> (Kind, usize) {
    let mut chars = rest.char_indices().skip(1);
    let inner = chars.next();
    if let Some((_, '\\')) = inner {
        chars.next();
    }
    match chars.next() {
        Some((at, '\'')) => (Kind::Text, at + 1),
        _ => (Kind::Mark('\''), 1),
    }
}

/// Whether the text is a string, of whichever form.
pub(crate) fn is_string(text: &str) -> bool {
    each_token(text).next().is_some_and(|token| token.kind == Kind::Text)
}

/// Where the text begins after white space and comments.
pub(crate) fn start(text: &str) -> usize {
    skip_blank(text, 0).unwrap_or(0)
}

/// The range without white space and comments around it.
pub(crate) fn trim(text: &str) -> Range<usize> {
    let start = start(text);
    let tail = &text[start..];
    if !tail.contains("//") && !tail.contains("*/") {
        return start..start + tail.trim_end().len();
    }
    // What looks like a comment may be in a string, so it has to be read.
    let end = each_token(tail).last().map_or(tail.len(), |token| token.end);
    start..start + end
}

/// The first key that a map in the text has twice: the two places, the later one first.
pub(crate) fn duplicate_key(text: &str) -> Option<(Token, Token)> {
    let tokens = tokens(text);
    let mut open: Vec<(char, Vec<Token>)> = Vec::new();
    for (index, token) in tokens.iter().enumerate() {
        match token.kind {
            Kind::Open(c) => open.push((c, Vec::new())),
            Kind::Close(_) => {
                open.pop();
            }
            Kind::Mark(':') => {
                let key = index.checked_sub(1).and_then(|i| tokens.get(i))?;
                if let Some(('{', keys)) = open.last_mut() {
                    let same = keys.iter().find(|k| k.text(text) == key.text(text));
                    if let Some(first) = same {
                        return Some((*key, *first));
                    }
                    keys.push(*key);
                }
            }
            _ => {}
        }
    }
    None
}

/// The bracket that is never closed, if there is one.
pub(crate) fn unclosed(tokens: &[Token]) -> Option<Token> {
    let mut open = Vec::new();
    for token in tokens {
        match token.kind {
            Kind::Open(_) => open.push(*token),
            Kind::Close(_) => {
                open.pop();
            }
            Kind::Unclosed => return Some(*token),
            _ => {}
        }
    }
    open.pop()
}

/// The bracket that `tokens[close]` closes.
pub(crate) fn opened_by(tokens: &[Token], close: usize) -> Option<Token> {
    let mut depth = 0_usize;
    for token in tokens[..close].iter().rev() {
        match token.kind {
            Kind::Close(_) => depth += 1,
            Kind::Open(_) if depth == 0 => return Some(*token),
            Kind::Open(_) => depth -= 1,
            _ => {}
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    fn texts(source: &str) -> Vec<&str> {
        tokens(source).iter().map(|t| t.text(source)).collect()
    }

    #[test]
    fn finds_tokens_and_skips_comments() {
        assert_eq!(
            texts("(a: \"x//y\", /* n /* m */ */ b: [1.5, 'c', '\\n'], // end\n r#\"q\"\"#)"),
            [
                "(",
                "a",
                ":",
                "\"x//y\"",
                ",",
                "b",
                ":",
                "[",
                "1.5",
                ",",
                "'c'",
                ",",
                "'\\n'",
                "]",
                ",",
                "r#\"q\"\"#",
                ")"
            ]
        );
        assert_eq!(texts("\"a\\\"b\\\\\" c"), ["\"a\\\"b\\\\\"", "c"]);
    }

    #[test]
    fn never_fails_on_rubbish() {
        for text in ["\"", "/*", "'", "'\\", "r#", "r#\"", "b\"", "ä{", ")]}", "/", "\\"] {
            tokens(text);
            trim(text);
            duplicate_key(text);
        }
    }

    #[test]
    fn trims_comments_on_both_sides() {
        let text = " // why\n /* x */ \"a // b\" // end\n";
        assert_eq!(&text[trim(text)], "\"a // b\"");
        assert_eq!(trim("  12 "), 2..4);
        assert_eq!(trim(""), 0..0);
    }

    #[test]
    fn finds_keys_given_twice_in_maps_only() {
        let text = "{ \"a\": (x: 1, y: (x: 2)), \"b\": { \"a\": 1 }, \"a\": 2 }";
        let (later, first) = duplicate_key(text).unwrap();
        assert_eq!((first.start, later.start), (2, 43));
        assert!(duplicate_key("{ \"a\": 1, \"b\": \"a\" }").is_none());
    }
}
