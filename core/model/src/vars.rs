//! The variables that a policy may use in paths and strings: a closed set.

use std::collections::BTreeMap;
use std::sync::Arc;

use crate::diag::{Diagnostic, suggest};

/// The variables that palisade itself defines.
pub const BUILTINS: [&str; 7] = ["project", "home", "tmp", "palisade", "user", "uid", "run_id"];

/// Variables and their values. Cheap to clone.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Vars {
    values: Arc<BTreeMap<String, String>>,
}

impl Vars {
    /// No variables at all.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Sets one of palisade's own variables. `name` is one of [`BUILTINS`].
    pub fn set_builtin(&mut self, name: &str, value: impl Into<String>) {
        debug_assert!(BUILTINS.contains(&name), "{name} is not a builtin");
        Arc::make_mut(&mut self.values).insert(name.to_owned(), value.into());
    }

    /// Defines a variable of the user's (`--var name=value`).
    ///
    /// # Errors
    /// A name that is not a lower-case identifier, that palisade defines itself, or that was
    /// defined before; a value with a NUL byte.
    pub fn define(&mut self, name: &str, value: &str) -> Result<(), Diagnostic> {
        if !valid_name(name) {
            return Err(Diagnostic::new(format!("`{name}` cannot be the name of a variable"))
                .help("use lower-case letters, digits and `_`, a letter first: --var target=/srv"));
        }
        if BUILTINS.contains(&name) {
            return Err(Diagnostic::new(format!("`{name}` is a variable of palisade's own"))
                .help("choose another name; a policy relies on what this one means"));
        }
        if value.contains('\0') {
            return Err(Diagnostic::new(format!("the value of the variable `{name}` contains a NUL byte")));
        }
        if self.values.contains_key(name) {
            return Err(Diagnostic::new(format!("the variable `{name}` is defined twice")));
        }
        Arc::make_mut(&mut self.values).insert(name.to_owned(), value.to_owned());
        Ok(())
    }

    /// The names that are defined and their values.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &str)> {
        self.values.iter().map(|(k, v)| (k.as_str(), v.as_str()))
    }

    /// Replaces each `${name}` by its value, and `$$` by `$`. Values are not expanded again.
    ///
    /// # Errors
    /// An undefined variable, `${` without `}`, or a lone `$`. The message is one line; a second
    /// line, where there is one, is help.
    pub fn expand(&self, text: &str) -> Result<String, String> {
        let mut out = String::with_capacity(text.len());
        let mut rest = text;
        while let Some(at) = rest.find('$') {
            out.push_str(&rest[..at]);
            let after = &rest[at + 1..];
            if let Some(tail) = after.strip_prefix('$') {
                out.push('$');
                rest = tail;
            } else if let Some(tail) = after.strip_prefix('{') {
                let (name, tail) = tail
                    .split_once('}')
                    .ok_or_else(|| "`${` without a closing `}`\nwrite `$$` for a dollar sign".to_owned())?;
                out.push_str(self.get(name)?);
                rest = tail;
            } else {
                return Err("a lone `$`\nwrite `${name}` for a variable, `$$` for a dollar sign".to_owned());
            }
        }
        out.push_str(rest);
        Ok(out)
    }

    fn get(&self, name: &str) -> Result<&str, String> {
        if let Some(value) = self.values.get(name) {
            return Ok(value);
        }
        let known: Vec<&str> = self.values.keys().map(String::as_str).collect();
        let own = valid_name(name) && !BUILTINS.contains(&name);
        let said = suggest(name, &known);
        let help = match (known.is_empty(), own) {
            (true, true) => format!("define it with --var {name}=VALUE"),
            (true, false) => "no variable is defined here".to_owned(),
            (false, true) if !said.starts_with("did") => {
                format!("{said}, or define it with --var {name}=VALUE")
            }
            _ => said,
        };
        Err(format!("unknown variable `{name}`\n{help}"))
    }
}

fn valid_name(name: &str) -> bool {
    name.starts_with(|c: char| c.is_ascii_lowercase())
        && name.chars().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_')
}

#[cfg(test)]
mod tests {
    use super::*;

    fn vars() -> Vars {
        let mut vars = Vars::new();
        vars.set_builtin("home", "/home/ann");
        vars.define("target", "${home}").unwrap();
        vars
    }

    #[test]
    fn expands_once_and_keeps_dollars() {
        assert_eq!(vars().expand("${home}/x$$y").unwrap(), "/home/ann/x$y");
        // A value is data: what looks like a variable in it stays.
        assert_eq!(vars().expand("${target}").unwrap(), "${home}");
        assert_eq!(vars().expand("").unwrap(), "");
    }

    #[test]
    fn refuses_what_is_not_defined() {
        let said = vars().expand("${hom}/x").unwrap_err();
        assert_eq!(said, "unknown variable `hom`\ndid you mean `home`?");
        assert!(vars().expand("${home").is_err());
        assert!(vars().expand("a$b").is_err());
        assert!(vars().expand("a$").is_err());
    }

    #[test]
    fn refuses_bad_definitions() {
        let mut vars = vars();
        for (name, value) in
            [("", "x"), ("A", "x"), ("a-b", "x"), ("1a", "x"), ("home", "x"), ("target", "x"), ("nul", "a\0b")]
        {
            assert!(vars.define(name, value).is_err(), "{name}={value:?}");
        }
    }
}
