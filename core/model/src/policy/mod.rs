//! The outer shape of a policy file.
//!
//! The core reads this much itself. What a plugin's section says is the plugin's business: it is
//! kept as text, with its place.

mod hosts;
mod test;

use std::fmt;

use ron::value::RawValue;
use serde::de::{MapAccess, Visitor};
use serde::{Deserialize, Deserializer};

use crate::diag::{Diagnostic, Origin, SourceId, Sources};
use crate::layer::{At, Dotted, Fragment, parse_text};
use crate::lex::{self, Kind};
use crate::vars::Vars;

pub use hosts::Hosting;
pub use test::{Act, Cap, Endpoint, Test};

/// The version of the policy format that is read here.
pub const POLICY_VERSION: u32 = 1;

/// The heads of dotted paths that are not plugins.
pub const RESERVED: [&str; 3] = ["process", "tests", "hosts"];

/// A part of a policy file, as it stands there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Section {
    /// The text without white space and comments around it.
    pub text: String,
    /// Where it stands.
    pub origin: Origin,
}

impl Section {
    /// The section as a layer.
    #[must_use]
    pub fn fragment(&self) -> Fragment {
        Fragment::policy(self.origin.source, self.text.clone(), self.origin.start)
    }
}

/// One policy file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Policy {
    /// The version of the format.
    pub version: At<u32>,
    /// What the policy is for, one line.
    pub description: Option<At<String>>,
    /// The policies that it builds on.
    pub extends: Vec<At<String>>,
    /// The process section.
    pub process: Option<Section>,
    /// The plugins' sections in the order in which they were written.
    pub plugins: Vec<(At<String>, Section)>,
    /// Where plugins run, in the order in which it was written.
    pub hosts: Vec<(At<String>, At<Hosting>)>,
    /// The list of tests, as text; its variables are not known yet.
    pub tests: Option<Section>,
    /// What later layers may not touch, as dotted paths that begin with a plugin or `process`.
    pub locked: Vec<Dotted>,
    /// What is put in place of what is inherited.
    pub replace: Vec<Dotted>,
    /// What is inherited and taken away.
    pub drop: Vec<Dotted>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename = "Policy")]
struct Outer<'a> {
    version: At<u32>,
    #[serde(default)]
    description: Option<At<String>>,
    #[serde(default)]
    extends: Vec<At<String>>,
    #[serde(borrow, default)]
    process: Option<&'a RawValue>,
    #[serde(borrow, default)]
    plugins: Plugins<'a>,
    #[serde(default)]
    hosts: hosts::Hosts,
    #[serde(borrow, default)]
    tests: Option<&'a RawValue>,
    #[serde(default)]
    locked: Vec<At<String>>,
    #[serde(default)]
    replace: Vec<At<String>>,
    #[serde(default)]
    drop: Vec<At<String>>,
}

/// A map that keeps its order.
#[derive(Default)]
struct Plugins<'a>(Vec<(At<String>, &'a RawValue)>);

impl<'de: 'a, 'a> Deserialize<'de> for Plugins<'a> {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        struct Pairs;
        impl<'de> Visitor<'de> for Pairs {
            type Value = Plugins<'de>;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a map of plugins in braces `{ \"name\": ( ... ) }`")
            }
            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
                let mut pairs = Vec::new();
                while let Some(pair) = map.next_entry()? {
                    pairs.push(pair);
                }
                Ok(Plugins(pairs))
            }
        }
        from.deserialize_map(Pairs)
    }
}

/// Reads one policy file.
///
/// # Errors
/// Text that is not a policy of a version that is known: what is wrong, and where.
pub fn parse_policy(sources: &Sources, id: SourceId) -> Result<Policy, Diagnostic> {
    let text = sources.text(id);
    let reader = Reader { text, id };
    reader.too_long()?;
    reader.version()?;
    let places = Fragment::policy(id, String::new(), 0);
    let outer: Outer<'_> = parse_text(text, &places, &Vars::new()).map_err(|refusal| refusal.diagnostic)?;
    let mut plugins: Vec<(At<String>, Section)> = Vec::with_capacity(outer.plugins.0.len());
    for (name, raw) in outer.plugins.0 {
        reader.plugin_name(&name, &plugins)?;
        let section = reader.section(raw);
        parenthesised(&format!("the section of `{}`", name.value), &section)?;
        plugins.push((name, section));
    }
    let process = outer.process.map(|raw| reader.section(raw));
    if let Some(section) = &process {
        parenthesised("the process section", section)?;
    }
    let dotted = |paths: Vec<At<String>>| paths.into_iter().map(dotted).collect::<Result<_, _>>();
    Ok(Policy {
        version: outer.version,
        description: outer.description,
        extends: outer.extends,
        process,
        plugins,
        hosts: outer.hosts.checked()?,
        tests: outer.tests.map(|raw| reader.section(raw)),
        locked: dotted(outer.locked)?,
        replace: dotted(outer.replace)?,
        drop: dotted(outer.drop)?,
    })
}

struct Reader<'a> {
    text: &'a str,
    id: SourceId,
}

impl Reader<'_> {
    fn origin(&self, start: usize, end: usize) -> Origin {
        Fragment::policy(self.id, String::new(), 0).origin(start, end)
    }

    /// Places are 32 bits wide.
    fn too_long(&self) -> Result<(), Diagnostic> {
        const LONGEST: usize = 16 << 20;
        if self.text.len() <= LONGEST {
            return Ok(());
        }
        Err(Diagnostic::new(format!("the policy is {} bytes long; at most {LONGEST} are read", self.text.len())))
    }

    /// The version comes before anything else: a policy of a later version may have fields that
    /// are unknown here, and that is not what is wrong with it.
    fn version(&self) -> Result<(), Diagnostic> {
        let mut tokens = lex::each_token(self.text);
        let mut depth = 0_usize;
        while let Some(token) = tokens.next() {
            match token.kind {
                Kind::Open(_) => depth += 1,
                Kind::Close(_) => depth = depth.saturating_sub(1),
                Kind::Word if depth == 1 && token.text(self.text) == "version" => {
                    let number = tokens.nth(1);
                    let found = number.map_or("", |t| t.text(self.text));
                    if found.parse::<u64>().is_ok_and(|n| n != u64::from(POLICY_VERSION)) {
                        let message = format!("policy version {found} is not known");
                        let place = number.map(|t| self.origin(t.start, t.end));
                        return Err(Diagnostic::new(message)
                            .at_opt(place)
                            .help(format!("this palisade reads version {POLICY_VERSION}; a newer one may read more")));
                    }
                    return Ok(());
                }
                _ => {}
            }
        }
        Ok(())
    }

    fn section(&self, raw: &RawValue) -> Section {
        let raw = raw.get_ron();
        let trimmed = &raw[lex::trim(raw)];
        // The text is a slice of the source, so the distance of the two is its offset.
        let start = trimmed.as_ptr().addr().saturating_sub(self.text.as_ptr().addr());
        Section { text: trimmed.to_owned(), origin: self.origin(start, start + trimmed.len()) }
    }

    fn plugin_name(&self, name: &At<String>, before: &[(At<String>, Section)]) -> Result<(), Diagnostic> {
        if RESERVED.contains(&name.as_str()) || !valid_plugin_name(name) {
            let message = format!("`{}` cannot be the name of a plugin", name.value);
            return Err(Diagnostic::new(message).at_opt(name.origin).help(match RESERVED.contains(&name.as_str()) {
                true => format!("`{}` is written beside `plugins`, not inside", name.value),
                false => "use lower-case letters, digits, `-` and `_`, a letter first".to_owned(),
            }));
        }
        match before.iter().find(|(other, _)| other.value == name.value) {
            Some((first, _)) => Err(Diagnostic::new(format!("the plugin `{}` is given twice", name.value))
                .at_opt(name.origin)
                .also("first", first.origin)
                .help("put both into one section: one of them would be ignored")),
            None => Ok(()),
        }
    }
}

/// Whether `name` can be the name of a plugin: lower-case letters, digits, `-` and `_`, a letter
/// first, at most 64 bytes.
#[must_use]
pub fn valid_plugin_name(name: &str) -> bool {
    name.len() <= 64
        && name.starts_with(|c: char| c.is_ascii_lowercase())
        && name.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-' || b == b'_')
}

fn parenthesised(what: &str, section: &Section) -> Result<(), Diagnostic> {
    if section.text.starts_with('(') {
        return Ok(());
    }
    Err(Diagnostic::new(format!("{what} must be written in parentheses"))
        .at(section.origin)
        .help("write `( field: value, ... )`, or `()` for the defaults"))
}

fn dotted(path: At<String>) -> Result<Dotted, Diagnostic> {
    if path.value.split('.').any(str::is_empty) {
        return Err(Diagnostic::new(format!("`{}` is not a path", path.value))
            .at_opt(path.origin)
            .help("write a plugin or `process`, then fields: \"cgroups.memory.max\""));
    }
    Ok(Dotted { path: path.value, origin: path.origin })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> Result<Policy, Diagnostic> {
        let mut sources = Sources::default();
        let id = sources.add("p.ron", text);
        parse_policy(&sources, id)
    }

    #[test]
    fn sections_keep_their_text_and_place() {
        let text = "Policy(version: 1, plugins: { \"b\": /* x */ ( y: 1 ), \"a\": () }, process: ())";
        let policy = parse(text).unwrap();
        let names: Vec<&str> = policy.plugins.iter().map(|(n, _)| n.as_str()).collect();
        assert_eq!(names, ["b", "a"]);
        let section = &policy.plugins[0].1;
        assert_eq!(section.text, "( y: 1 )");
        assert_eq!(section.origin.start as usize, text.find("( y").unwrap());
        assert_eq!(policy.process.unwrap().text, "()");
    }

    #[test]
    fn everything_but_the_version_may_be_left_out() {
        let policy = parse("(version: 1)").unwrap();
        assert!(policy.plugins.is_empty() && policy.process.is_none());
        assert!(parse("Policy()").is_err());
    }

    #[test]
    fn a_later_version_is_told_before_its_unknown_fields() {
        let said = parse("Policy(new_field: 1, version: 2)").unwrap_err();
        assert_eq!(said.message, "policy version 2 is not known");
    }
}
