//! Diagnostics: a message, the place in the policy that it is about, and what to do.
//!
//! A [`Diagnostic`] carries byte ranges only. Whoever holds the [`Sources`] renders it, once, at
//! the top; a plugin that found the mistake never needs to see the whole file.

use std::fmt::{self, Write as _};

use serde::{Deserialize, Serialize};

/// The number of a text in [`Sources`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct SourceId(pub u32);

/// A byte range in one source.
///
/// ```
/// # use palisade_model::diag::{Origin, Sources};
/// let mut sources = Sources::default();
/// let source = sources.add("web.ron", "(\n    port: 80\n)");
/// assert_eq!(sources.locate(Origin { source, start: 12, end: 14 }), "web.ron:2:11");
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Origin {
    /// Which text.
    pub source: SourceId,
    /// The first byte.
    pub start: u32,
    /// One past the last byte.
    pub end: u32,
}

/// The texts that policies were read from, by number.
#[derive(Clone, Debug, Default)]
pub struct Sources {
    entries: Vec<(String, String)>,
}

const UNKNOWN: &str = "<unknown>";

impl Sources {
    /// Adds a text and gives its number. A name that begins with `--` is a command-line argument:
    /// it is shown without line and column.
    pub fn add(&mut self, name: impl Into<String>, text: impl Into<String>) -> SourceId {
        let id = u32::try_from(self.entries.len()).unwrap_or(u32::MAX);
        self.entries.push((name.into(), text.into()));
        SourceId(id)
    }

    fn entry(&self, id: SourceId) -> Option<&(String, String)> {
        self.entries.get(usize::try_from(id.0).ok()?)
    }

    /// The name of a source; `<unknown>` for a number that was never given out.
    #[must_use]
    pub fn name(&self, id: SourceId) -> &str {
        self.entry(id).map_or(UNKNOWN, |(name, _)| name)
    }

    /// The text of a source; empty for a number that was never given out.
    #[must_use]
    pub fn text(&self, id: SourceId) -> &str {
        self.entry(id).map_or("", |(_, text)| text)
    }

    /// The texts of all sources.
    pub fn texts(&self) -> impl Iterator<Item = &str> {
        self.entries.iter().map(|(_, text)| text.as_str())
    }

    /// Line and column (in characters) of the start of a range, both counted from 1. A place
    /// beyond the text gives the end of the text.
    #[must_use]
    pub fn line_col(&self, origin: Origin) -> (usize, usize) {
        let text = self.text(origin.source);
        let before = &text[..clamp(text, origin.start)];
        let line = before.bytes().filter(|&b| b == b'\n').count() + 1;
        let line_start = before.rfind('\n').map_or(0, |at| at + 1);
        (line, before[line_start..].chars().count() + 1)
    }

    /// The place as people write it: `policies/build.ron:31:5`, or the argument itself for one
    /// that came from the command line.
    #[must_use]
    pub fn locate(&self, origin: Origin) -> String {
        let name = shown(self.name(origin.source));
        if name.starts_with("--") || self.entry(origin.source).is_none() {
            return name;
        }
        let (line, col) = self.line_col(origin);
        format!("{name}:{line}:{col}")
    }
}

/// The nearest character boundary at or before `at`.
fn clamp(text: &str, at: u32) -> usize {
    let mut at = usize::try_from(at).unwrap_or(usize::MAX).min(text.len());
    while !text.is_char_boundary(at) {
        at -= 1;
    }
    at
}

/// A policy is foreign text and ends up on a terminal: what could steer one is replaced.
fn shown(text: &str) -> String {
    text.chars().map(|c| if c.is_control() { '\u{fffd}' } else { c }).collect()
}

/// One mistake, told so that it can be mended.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Diagnostic {
    /// What is wrong, one line, without a full stop.
    pub message: String,
    /// Where.
    pub origin: Option<Origin>,
    /// What to do about it.
    pub help: Option<String>,
    /// More facts, each with a short label (`call`, `host`).
    pub notes: Vec<(String, String)>,
    /// Other places that take part, each with a short label (`locked`).
    pub related: Vec<(String, Origin)>,
}

impl Diagnostic {
    /// A diagnostic with a message and nothing else.
    #[must_use]
    pub fn new(message: impl Into<String>) -> Self {
        Self { message: message.into(), origin: None, help: None, notes: Vec::new(), related: Vec::new() }
    }

    /// Sets the place.
    #[must_use]
    pub fn at(self, origin: Origin) -> Self {
        self.at_opt(Some(origin))
    }

    /// Sets the place where one is known, and keeps what was there otherwise.
    #[must_use]
    pub fn at_opt(mut self, origin: Option<Origin>) -> Self {
        self.origin = origin.or(self.origin);
        self
    }

    /// Sets the help.
    #[must_use]
    pub fn help(mut self, help: impl Into<String>) -> Self {
        self.help = Some(help.into());
        self
    }

    /// Adds a labelled fact.
    #[must_use]
    pub fn note(mut self, label: impl Into<String>, text: impl Into<String>) -> Self {
        self.notes.push((label.into(), text.into()));
        self
    }

    /// Adds a labelled place, where one is known.
    #[must_use]
    pub fn also(mut self, label: impl Into<String>, origin: Option<Origin>) -> Self {
        self.related.extend(origin.map(|origin| (label.into(), origin)));
        self
    }

    /// The whole diagnostic as text without colour, ending in a line break.
    #[must_use]
    pub fn render(&self, sources: &Sources) -> String {
        self.render_styled(sources, false)
    }

    /// As [`Diagnostic::render`], with ANSI colours if asked for.
    #[must_use]
    pub fn render_styled(&self, sources: &Sources, colour: bool) -> String {
        let paint = Paint { colour };
        let excerpt = self
            .origin
            .filter(|origin| sources.entry(origin.source).is_some())
            .map(|origin| Excerpt::new(sources, origin));
        let width = excerpt.as_ref().map_or(1, |e| e.number.len().max(1));
        let mut out = String::new();
        line(&mut out, format_args!("{} {}", paint.red("error:"), paint.bold(&shown(&self.message))));
        if let (Some(origin), Some(excerpt)) = (self.origin, &excerpt) {
            excerpt.write(&mut out, &sources.locate(origin), paint);
        }
        self.write_notes(&mut out, sources, width, paint);
        out
    }

    fn write_notes(&self, out: &mut String, sources: &Sources, width: usize, paint: Paint) {
        let places = self.related.iter().map(|(label, origin)| (label.as_str(), sources.locate(*origin)));
        let notes = self.notes.iter().map(|(label, text)| (label.as_str(), text.clone()));
        let all: Vec<_> = places.chain(notes).collect();
        let longest = all.iter().map(|(label, _)| label.len()).max().unwrap_or(0);
        let lead = format!("{:width$} {}", "", paint.blue(" ="));
        for (label, text) in all {
            let text = indent(&text, width + longest + 6);
            line(out, format_args!("{lead} {}  {text}", paint.bold(&format!("{label:longest$}"))));
        }
        if let Some(help) = &self.help {
            let text = indent(help, width + 10);
            line(out, format_args!("{lead} {} {text}", paint.bold("help:")));
        }
    }
}

/// Text of several lines goes on under its own first line.
fn indent(text: &str, by: usize) -> String {
    let lines: Vec<String> = text.lines().map(shown).collect();
    lines.join(&format!("\n{:by$}", ""))
}

impl fmt::Display for Diagnostic {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl std::error::Error for Diagnostic {}

fn line(out: &mut String, what: fmt::Arguments<'_>) {
    // Writing to a String cannot fail.
    out.write_fmt(what).unwrap_or_default();
    out.push('\n');
}

#[derive(Clone, Copy)]
struct Paint {
    colour: bool,
}

impl Paint {
    fn with(self, code: &str, text: &str) -> String {
        if self.colour { format!("\x1b[{code}m{text}\x1b[0m") } else { text.to_owned() }
    }
    fn red(self, text: &str) -> String {
        self.with("1;31", text)
    }
    fn blue(self, text: &str) -> String {
        self.with("1;34", text)
    }
    fn bold(self, text: &str) -> String {
        self.with("1", text)
    }
}

/// The line of the source that is shown, and where its carets go, in columns.
struct Excerpt {
    number: String,
    text: String,
    indent: usize,
    carets: usize,
}

/// Beyond this, a line is shown in part: a policy on one line is still readable.
const LONGEST_LINE: usize = 160;
const BEFORE_CARET: usize = 60;

impl Excerpt {
    fn new(sources: &Sources, origin: Origin) -> Self {
        let text = sources.text(origin.source);
        let start = clamp(text, origin.start);
        let line_start = text[..start].rfind('\n').map_or(0, |at| at + 1);
        let line_end = text[start..].find('\n').map_or(text.len(), |at| start + at);
        let end = clamp(text, origin.end).clamp(start, line_end);
        let before = tabs(&text[line_start..start]);
        let marked = tabs(text[start..end].trim_end());
        let whole = tabs(text[line_start..line_end].trim_end());
        let (number, _) = sources.line_col(origin);
        let name = sources.name(origin.source);
        Self {
            number: if name.starts_with("--") { String::new() } else { number.to_string() },
            text: whole,
            indent: before.chars().count(),
            carets: marked.chars().count().max(1),
        }
        .shortened()
    }

    fn shortened(mut self) -> Self {
        if self.text.chars().count() <= LONGEST_LINE {
            return self;
        }
        let skip = self.indent.saturating_sub(BEFORE_CARET);
        let mut text: String = self.text.chars().skip(skip).take(LONGEST_LINE).collect();
        if skip > 0 {
            text.replace_range(..text.chars().next().map_or(0, char::len_utf8), "…");
        }
        if self.text.chars().count() > skip + LONGEST_LINE {
            text.push('…');
        }
        self.indent -= skip;
        self.carets = self.carets.min(LONGEST_LINE - self.indent);
        self.text = text;
        self
    }

    fn write(&self, out: &mut String, place: &str, paint: Paint) {
        let width = self.number.len().max(1);
        let bar = paint.blue("|");
        line(out, format_args!("{:width$} {} {place}", "", paint.blue("-->")));
        line(out, format_args!("{:width$}  {bar}", ""));
        line(out, format_args!(" {} {bar} {}", paint.blue(&format!("{:>width$}", self.number)), self.text));
        let carets = paint.red(&"^".repeat(self.carets));
        line(out, format_args!("{:width$}  {bar} {:indent$}{carets}", "", "", indent = self.indent));
    }
}

/// Tabs become four spaces on both lines, so that the carets stay under what they mark.
fn tabs(text: &str) -> String {
    shown(&text.replace('\t', "    "))
}

/// `` `a`, `b` or `c` `` for messages.
pub(crate) fn listed<S: AsRef<str>>(names: &[S]) -> String {
    let quoted: Vec<String> = names.iter().map(|n| format!("`{}`", n.as_ref())).collect();
    match quoted.as_slice() {
        [] => "nothing".to_owned(),
        [one] => one.clone(),
        [head @ .., last] => format!("{} or {last}", head.join(", ")),
    }
}

/// What to say about a name that is not among the known ones: the one that was likely meant, or
/// all there are.
#[must_use]
pub fn suggest<S: AsRef<str>>(found: &str, known: &[S]) -> String {
    let close = known
        .iter()
        .map(|name| (score(found, name.as_ref()), name.as_ref()))
        .filter(|(score, _)| *score >= 0.75)
        .max_by(|a, b| a.0.total_cmp(&b.0));
    match close {
        Some((_, name)) => format!("did you mean `{name}`?"),
        None if known.is_empty() => "nothing can be written here".to_owned(),
        None if known.len() == 1 => format!("expected {}", listed(known)),
        None => format!("expected one of {}", listed(known)),
    }
}

/// How alike two names are, from 0 to 1. One slip in a short name is a large share of it, and
/// still one slip.
fn score(found: &str, name: &str) -> f64 {
    let (found, name) = (found.to_lowercase(), name.to_lowercase());
    let alike = strsim::normalized_damerau_levenshtein(&found, &name);
    let one_slip = name.len() > 2 && strsim::damerau_levenshtein(&found, &name) == 1;
    if one_slip { alike.max(0.95) } else { alike }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn origin(source: SourceId, start: u32, end: u32) -> Origin {
        Origin { source, start, end }
    }

    #[test]
    fn renders_place_carets_notes_and_help() {
        let mut sources = Sources::default();
        let text = "one\ntwo\n\n\n\n\n        \"cgroups\":  ( memroy: (max: \"2GiB\") ),\n";
        let id = sources.add("policies/build.ron", text);
        let start = u32::try_from(text.find("memroy").unwrap()).unwrap();
        let said = Diagnostic::new("unknown field `memroy`")
            .at(origin(id, start, start + 6))
            .also("first", Some(origin(id, 4, 7)))
            .note("host", "Linux 6.18\nno cgroups")
            .help("did you mean `memory`?");
        assert_eq!(
            said.render(&sources),
            "error: unknown field `memroy`\n  \
             --> policies/build.ron:7:23\n   \
             |\n 7 |         \"cgroups\":  ( memroy: (max: \"2GiB\") ),\n   \
             |                       ^^^^^^\n   \
             = first  policies/build.ron:2:1\n   \
             = host   Linux 6.18\n            no cgroups\n   \
             = help: did you mean `memory`?\n"
        );
        let styled = said.render_styled(&sources, true);
        assert!(styled.starts_with("\x1b[1;31merror:\x1b[0m"));
        assert_eq!(said.to_string(), "unknown field `memroy`");
    }

    #[test]
    fn rubbish_places_never_panic() {
        let mut sources = Sources::default();
        let id = sources.add("p.ron", "größe\n");
        for (start, end) in [(0, 0), (3, 4), (4, 3), (7, 9), (u32::MAX, 0), (0, u32::MAX)] {
            let said = Diagnostic::new("x").at(origin(id, start, end)).also("y", Some(origin(SourceId(9), start, end)));
            assert!(said.render(&sources).contains("error: x"));
        }
        let nowhere = origin(SourceId(7), 1, 2);
        assert_eq!(sources.locate(nowhere), "<unknown>");
        assert_eq!(sources.text(SourceId(7)), "");
        assert_eq!(sources.line_col(origin(id, u32::MAX, 0)), (2, 1));
        // Columns count characters.
        assert_eq!(sources.line_col(origin(id, 5, 6)), (1, 4));
    }

    #[test]
    fn without_a_place_there_is_no_excerpt() {
        let said = Diagnostic::new("no").help("yes");
        assert_eq!(said.render(&Sources::default()), "error: no\n   = help: yes\n");
    }

    #[test]
    fn suggests_what_is_close_and_lists_what_is_not() {
        assert_eq!(suggest("memroy", &["memory", "cpu"]), "did you mean `memory`?");
        assert_eq!(suggest("mox", &["max", "swap"]), "did you mean `max`?");
        assert_eq!(suggest("zz", &["max", "swap"]), "expected one of `max` or `swap`");
        assert_eq!(suggest("zz", &["max"]), "expected `max`");
        assert_eq!(suggest::<&str>("zz", &[]), "nothing can be written here");
    }
}
