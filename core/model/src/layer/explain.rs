//! RON's errors in the words of someone who writes a policy.

use ron::error::{Position, SpannedError};

use super::scene::Scene;
use crate::lex::{self, Kind, Token};

/// A failure and the bytes that it is about.
#[derive(Clone, Debug)]
pub(super) struct Failure {
    pub(super) message: String,
    pub(super) help: Option<String>,
    pub(super) start: usize,
    pub(super) end: usize,
    /// Whether the message knows what was meant, rather than what kind of text it is not.
    pub(super) telling: bool,
}

impl Failure {
    pub(super) fn shifted(mut self, by: usize) -> Self {
        self.start += by;
        self.end += by;
        self
    }

    /// As one text, the help on a line of its own.
    pub(super) fn text(&self) -> String {
        match &self.help {
            Some(help) => format!("{}\n{help}", self.message),
            None => self.message.clone(),
        }
    }
}

/// Says what is wrong with `text`, which is what RON was reading when it failed.
pub(super) fn explain(error: &SpannedError, text: &str) -> Failure {
    let tokens = lex::tokens(text);
    let scene = Scene { text, tokens: &tokens, at: offset(text, error.span.end) };
    scene.explain(&error.code)
}

/// A failure at a field that stands in a list is about the list, which was never closed. The list
/// is seen only in the whole text.
pub(super) fn in_whole(failure: Failure, text: &str) -> Failure {
    let tokens = lex::tokens(text);
    let field = || {
        let index = tokens.iter().position(|t| t.start == failure.start)?;
        let colon = tokens.get(index + 1)?.kind == Kind::Mark(':');
        let open = lex::opened_by(&tokens, index)?;
        (colon && open.kind == Kind::Open('[')).then_some(open)
    };
    match field() {
        Some(open) if !failure.telling => unclosed(open, text),
        _ => failure,
    }
}

pub(super) fn unclosed(open: Token, text: &str) -> Failure {
    let what = open.text(text);
    let message = match open.kind {
        Kind::Unclosed if what.starts_with("/*") => "this comment is never closed".to_owned(),
        Kind::Unclosed => "this string is never closed".to_owned(),
        _ => format!("this `{what}` is never closed"),
    };
    Failure { message, help: None, start: open.start, end: open.start + 1, telling: true }
}

/// The byte of a position, which counts lines and characters from 1.
fn offset(text: &str, position: Position) -> usize {
    let before: usize = text.split_inclusive('\n').take(position.line.saturating_sub(1)).map(str::len).sum();
    let line = &text[before..];
    let within = line.char_indices().nth(position.col.saturating_sub(1));
    before + within.map_or(line.len(), |(at, _)| at)
}
