//! Everything that is printed goes through here.

use palisade_runtime::Trouble;
use std::io::{self, IsTerminal as _, Write as _};

/// Writes to standard output.
///
/// # Errors
/// It was closed, or is full.
pub(crate) fn stdout(text: &str) -> io::Result<()> {
    let mut out = io::stdout().lock();
    out.write_all(text.as_bytes())?;
    out.flush()
}

/// Writes to standard error. Where that is gone there is nobody to tell.
pub(crate) fn stderr(text: &str) {
    io::stderr().lock().write_all(text.as_bytes()).ok();
}

/// Says something while the workload runs. Its terminal may be between us and the caller's, which is raw then: a line
/// break does not go back to where the line began.
pub(crate) fn meanwhile(text: &str) {
    if io::stderr().is_terminal() {
        return stderr(&format!("\r{}", text.replace('\n', "\r\n")));
    }
    stderr(text);
}

/// Shows an error, once, at the top.
pub(crate) fn trouble(trouble: &Trouble) {
    let text = clean(&trouble.to_string());
    let text = if colour(io::stderr().is_terminal()) { painted(&text) } else { text };
    stderr(&format!("{text}\n"));
}

/// Text of a policy as it is written: on a terminal without what could steer it.
pub(crate) fn foreign(text: &str) -> String {
    if io::stdout().is_terminal() { clean(text) } else { text.to_owned() }
}

/// Without control characters except line breaks and tabs: policies and plugins are foreign text.
pub(crate) fn clean(text: &str) -> String {
    text.chars().map(|c| if steers(c) && !matches!(c, '\n' | '\t') { '\u{fffd}' } else { c }).collect()
}

/// Control characters, and those that turn the direction of what follows: text would stand where it is not.
fn steers(c: char) -> bool {
    let turns = matches!(c, '\u{61c}' | '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}');
    c.is_control() || turns
}

/// The same in one line.
pub(crate) fn one_line(text: &str) -> String {
    let lines: Vec<&str> = text.lines().map(str::trim).filter(|line| !line.is_empty()).collect();
    clean(&lines.join("; "))
}

/// A name in one line: whoever made the file may have put line breaks into it.
pub(crate) fn name(path: &str) -> String {
    clean(&path.replace(['\n', '\t'], "\u{fffd}"))
}

/// See <https://no-color.org>.
fn colour(terminal: bool) -> bool {
    let set = |name: &str| std::env::var_os(name).filter(|value| !value.is_empty());
    terminal && set("NO_COLOR").is_none() && set("TERM").is_some_and(|term| term != "dumb")
}

/// A word that standard output shows as a warning, where that is a terminal with colours.
pub(crate) fn alarming(text: &str) -> String {
    if colour(io::stdout().is_terminal()) { with(RED, text) } else { text.to_owned() }
}

const RED: &str = "1;31";
const BLUE: &str = "1;34";
const BOLD: &str = "1";

fn with(code: &str, text: &str) -> String {
    if text.is_empty() { String::new() } else { format!("\x1b[{code}m{text}\x1b[0m") }
}

/// An error in colour. It is painted by the shape of its lines, so that whoever renders errors need not know
/// about terminals.
fn painted(text: &str) -> String {
    let lines: Vec<String> = text.lines().map(painted_line).collect();
    lines.join("\n")
}

fn painted_line(line: &str) -> String {
    if let Some(message) = line.strip_prefix("error: ") {
        return format!("{} {}", with(RED, "error:"), with(BOLD, message));
    }
    let body = line.trim_start();
    let indent = &line[..line.len() - body.len()];
    if let Some(place) = body.strip_prefix("--> ") {
        return format!("{indent}{} {place}", with(BLUE, "-->"));
    }
    if let Some((number, source)) = body.split_once('|').filter(|(n, _)| numbered(n)) {
        let carets = !source.trim().is_empty() && source.trim().chars().all(|c| c == '^');
        let source = if carets { with(RED, source) } else { source.to_owned() };
        return format!("{indent}{}{source}", with(BLUE, &format!("{number}|")));
    }
    let (lead, body) = body.strip_prefix("= ").map_or(("", body), |rest| ("= ", rest));
    match body.split_once(' ') {
        Some((label, rest)) if !indent.is_empty() => {
            format!("{indent}{}{} {rest}", with(BLUE, lead), with(BOLD, label))
        }
        _ => line.to_owned(),
    }
}

fn numbered(text: &str) -> bool {
    text.trim_end().chars().all(|c| c.is_ascii_digit())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_foreign_steers_a_terminal() {
        assert_eq!(clean("a\x1b[2Jb\tc\nd\r"), "a\u{fffd}[2Jb\tc\nd\u{fffd}");
        assert_eq!(clean("a\u{202e}b\u{2066}c"), "a\u{fffd}b\u{fffd}c");
        assert_eq!(one_line(" a \n\n b\x07"), "a; b\u{fffd}");
    }

    #[test]
    fn colour_changes_no_words() {
        let plain = "error: unknown field `memroy`\n  --> p.ron:7:23\n   |\n 7 | (memroy: 1)\n   |  ^^^^^^\n   = help: did you mean `memory`?\n  call    open(\"x\") = ENOENT";
        let painted = painted(plain);
        let mut bare = String::new();
        let mut parts = painted.split('\x1b');
        bare.push_str(parts.next().unwrap());
        for part in parts {
            bare.push_str(part.split_once('m').unwrap().1);
        }
        assert_eq!(bare, plain);
        assert!(painted.contains("\x1b[1;31m  ^^^^^^") && painted.contains("\x1b[1mcall\x1b[0m"));
    }
}
