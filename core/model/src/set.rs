//! `--set a.b.c=value`: one more layer, made from an argument.

use crate::diag::{Diagnostic, Origin, SourceId, Sources};
use crate::layer::{Fragment, FragmentKind, Piece};
use crate::policy::{RESERVED, valid_plugin_name};

/// What an argument sets.
#[derive(Debug)]
pub(crate) struct Setting {
    /// The plugin, or `process`.
    pub(crate) head: String,
    /// Where the head stands in the argument.
    pub(crate) origin: Origin,
    /// The names behind the head.
    pub(crate) fields: Vec<String>,
    /// What stands behind the `=`.
    pub(crate) value: String,
    /// The layer.
    pub(crate) fragment: Fragment,
}

/// Reads an argument, which becomes a source of its own.
pub(crate) fn parse_set(sources: &mut Sources, argument: &str) -> Result<Setting, Diagnostic> {
    const FORM: &str = "write a plugin or `process`, fields, and a value: --set cgroups.memory.max=1GiB";
    let source = sources.add(format!("--set {argument}"), argument);
    let place = |start, end| Fragment::policy(source, String::new(), 0).origin(start, end);
    let refuse = |message: String, start, end| Err(Diagnostic::new(message).at(place(start, end)).help(FORM));
    let Some((path, value)) = argument.split_once('=') else {
        let message = "this `--set` has no `=` and so sets nothing".to_owned();
        return refuse(message, 0, argument.len());
    };
    let mut names: Vec<(&str, usize, usize)> = Vec::new();
    let mut start = 0;
    for name in path.split('.') {
        let end = start + name.len();
        let good = match names.as_slice() {
            [] => valid_plugin_name(name),
            [(head, ..)] if *head == RESERVED[2] => valid_plugin_name(name),
            _ => valid_field(name),
        };
        if name.is_empty() {
            let message = "a name is missing in this path".to_owned();
            return refuse(message, start, end.max(start + 1));
        }
        if !good {
            return refuse(format!("`{name}` is not a name"), start, end);
        }
        names.push((name, start, end));
        start = end + 1;
    }
    let head = names.remove(0);
    if head.0 == RESERVED[1] {
        let message = "the tests of a policy cannot be set from the command line";
        return Err(Diagnostic::new(message)
            .at(place(head.1, head.2))
            .help("write them into a policy that extends this one"));
    }
    Ok(Setting {
        head: head.0.to_owned(),
        origin: place(head.1, head.2),
        fields: names.iter().map(|(name, ..)| (*name).to_owned()).collect(),
        value: value.to_owned(),
        fragment: Fragment { section: head.0.to_owned(), ..fragment(source, argument, &names) },
    })
}

fn valid_field(name: &str) -> bool {
    name.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_')
        && name.chars().all(|c| c.is_ascii_alphanumeric() || c == '_')
}

/// `a.b=v` as `(a: (b: v))`, with the pieces that lead back to the argument.
fn fragment(source: SourceId, argument: &str, names: &[(&str, usize, usize)]) -> Fragment {
    let mut text = String::new();
    let mut pieces = Vec::new();
    let narrow = |n: usize| u32::try_from(n).unwrap_or(u32::MAX);
    let mut push = |text: &mut String, part: &str, start: usize| {
        pieces.push(Piece {
            start: narrow(text.len()),
            end: narrow(text.len() + part.len()),
            source_start: narrow(start),
            source_end: narrow(start + part.len()),
        });
        text.push_str(part);
    };
    for (name, start, _) in names {
        text.push('(');
        push(&mut text, name, *start);
        text.push_str(": ");
    }
    let value = argument.find('=').map_or(argument.len(), |at| at + 1);
    push(&mut text, &argument[value..], value);
    text.push_str(&")".repeat(names.len()));
    Fragment { kind: FragmentKind::Set, pieces, ..Fragment::policy(source, text, 0) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_argument_becomes_a_section_whose_places_lead_back() {
        let mut sources = Sources::default();
        let argument = "cgroups.memory.max=1GiB";
        let setting = parse_set(&mut sources, argument).unwrap();
        assert_eq!(setting.head, "cgroups");
        let fragment = setting.fragment;
        assert_eq!(fragment.text, "(memory: (max: 1GiB))");
        for part in ["memory", "max", "1GiB"] {
            let at = fragment.text.find(part).unwrap();
            let origin = fragment.origin(at, at + part.len());
            let range = origin.start as usize..origin.end as usize;
            assert_eq!(&argument[range], part);
        }
        assert_eq!(sources.locate(setting.origin), "--set cgroups.memory.max=1GiB");
    }

    #[test]
    fn a_value_may_hold_anything_and_be_empty() {
        let mut sources = Sources::default();
        let text = |argument: &str, sources: &mut Sources| parse_set(sources, argument).unwrap().fragment.text;
        assert_eq!(text("process.cwd=", &mut sources), "(cwd: )");
        assert_eq!(text("process.argv=[\"a=b\"]", &mut sources), "(argv: [\"a=b\"])");
        assert_eq!(text("landlock=(rules: [])", &mut sources), "(rules: [])");
    }

    #[test]
    fn malformed_arguments_are_refused() {
        let mut sources = Sources::default();
        for argument in ["", "=", "cgroups", ".a=1", "a..b=1", "a.=1", "a.b c=1", "A.b=1", "a.b(=1", "tests=[]"] {
            assert!(parse_set(&mut sources, argument).is_err(), "{argument}");
        }
    }
}
