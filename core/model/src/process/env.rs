//! The workload's environment: nothing, unless a rule says so.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use serde::{Deserialize, Serialize};

use super::Process;
use crate::units::{Text, Unit, UnitError, unit};

/// One rule. The rules of all layers are applied in order, starting from an empty environment.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum EnvRule {
    /// Empties what the rules before gave.
    Clear,
    /// Keeps everything of the caller's, but what looks like a secret.
    Inherit,
    /// Keeps these names of the caller's; `*` stands for any characters (`LC_*`). What looks like
    /// a secret is kept only if `secrets` names it.
    Keep(Vec<EnvPattern>),
    /// Sets these.
    Set(BTreeMap<EnvName, Text>),
}

/// The name of a variable of the environment.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct EnvName(String);

/// The name of a variable of the environment, in which `*` stands for any characters.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct EnvPattern(String);

fn name(text: &str, stars: bool) -> Result<String, UnitError> {
    let bad = |c: char| c == '=' || c.is_control() || c.is_whitespace() || (c == '*' && !stars);
    if text.is_empty() || text.contains(bad) {
        let help = if stars {
            "write a name such as \"PATH\", or a pattern such as \"LC_*\""
        } else {
            "write a whole name such as \"PATH\", without `*` and `=`"
        };
        return Err(UnitError::new(format!("`{text}` is not the name of an environment variable"), help));
    }
    Ok(text.to_owned())
}

impl Unit for EnvName {
    const FORMS: &'static str = "the name of an environment variable in double quotes";
    fn from_text(text: &str) -> Result<Self, UnitError> {
        name(text, false).map(Self)
    }
}

impl Unit for EnvPattern {
    const FORMS: &'static str = "the name of an environment variable in double quotes";
    fn from_text(text: &str) -> Result<Self, UnitError> {
        name(text, true).map(Self)
    }
}

impl fmt::Display for EnvName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.0)
    }
}

impl fmt::Display for EnvPattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.0)
    }
}

unit!(EnvName, String, |text| EnvName::from_text(&text));
unit!(EnvPattern, String, |text| EnvPattern::from_text(&text));

impl EnvName {
    /// As a string slice.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl EnvPattern {
    /// Whether a name is meant by it.
    #[must_use]
    pub fn matches(&self, name: &str) -> bool {
        let Some((head, rest)) = self.0.split_once('*') else {
            return self.0 == name;
        };
        let Some(mut name) = name.strip_prefix(head) else {
            return false;
        };
        let (middles, tail) = rest.rsplit_once('*').unwrap_or(("", rest));
        for part in middles.split('*') {
            // The earliest place leaves most for what follows.
            let Some(at) = name.find(part) else {
                return false;
            };
            name = &name[at + part.len()..];
        }
        name.ends_with(tail)
    }
}

/// The environment of the workload, and the names that were left out because they look like
/// secrets. `inherited` is the caller's environment; of a name that is there twice the last one
/// counts.
#[must_use]
pub fn environment(process: &Process, inherited: &[(String, String)]) -> (Vec<(String, String)>, Vec<String>) {
    let allowed: BTreeSet<&str> = process.secrets.iter().map(|name| name.as_str()).collect();
    let mut kept: BTreeMap<&str, &str> = BTreeMap::new();
    let mut stripped: BTreeSet<&str> = BTreeSet::new();
    for rule in process.env.iter() {
        let wanted: Box<dyn Fn(&str) -> bool> = match &rule.value {
            EnvRule::Clear => {
                kept.clear();
                stripped.clear();
                continue;
            }
            EnvRule::Set(pairs) => {
                kept.extend(pairs.iter().map(|(name, value)| (name.as_str(), value.as_str())));
                continue;
            }
            EnvRule::Inherit => Box::new(|_| true),
            EnvRule::Keep(patterns) => Box::new(|name| patterns.iter().any(|pattern| pattern.matches(name))),
        };
        for (name, value) in inherited.iter().filter(|(name, _)| wanted(name)) {
            if looks_secret(name) && !allowed.contains(name.as_str()) {
                stripped.insert(name);
            } else {
                kept.insert(name, value);
            }
        }
    }
    stripped.retain(|name| !kept.contains_key(name));
    let owned = |(name, value): (&str, &str)| (name.to_owned(), value.to_owned());
    (kept.into_iter().map(owned).collect(), stripped.into_iter().map(str::to_owned).collect())
}

/// A word of a name that makes it a secret wherever it stands: `DEPLOY_KEY`, `MYSQL_PWD`.
const SECRET_WORDS: [&str; 16] = [
    "AUTH",
    "AUTHORIZATION",
    "COOKIE",
    "COOKIES",
    "CREDS",
    "DSN",
    "JWT",
    "KEY",
    "KEYS",
    "NETRC",
    "PASS",
    "PAT",
    "PGPASSFILE",
    "PW",
    "PWD",
    "XAUTHORITY",
];

/// The end of a word that makes the name a secret: `GITHUB_TOKEN`, `authtoken`.
const SECRET_ENDS: [&str; 17] = [
    "ACCESSKEY",
    "APIKEY",
    "APIKEYS",
    "CREDENTIAL",
    "CREDENTIALS",
    "KEYFILE",
    "PASSPHRASE",
    "PASSWD",
    "PASSWORD",
    "PASSWORDS",
    "PRIVATEKEY",
    "SECRET",
    "SECRETKEY",
    "SECRETS",
    "SESSIONID",
    "TOKEN",
    "TOKENS",
];

/// Whether a name looks like that of a token, a key or a password.
fn looks_secret(name: &str) -> bool {
    // A shell's two directories, which only share the word with passwords.
    if matches!(name, "PWD" | "OLDPWD") {
        return false;
    }
    let upper = name.to_ascii_uppercase();
    upper
        .split(|c: char| !c.is_ascii_alphanumeric())
        .any(|word| SECRET_WORDS.contains(&word) || SECRET_ENDS.iter().any(|end| word.ends_with(end)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::diag::SourceId;
    use crate::layer::{Fragment, merge_layers};
    use crate::vars::Vars;

    fn run(layers: &[&str], inherited: &[&str]) -> (Vec<String>, Vec<String>) {
        let layers: Vec<Fragment> = layers.iter().map(|text| Fragment::policy(SourceId(0), *text, 0)).collect();
        let process: Process = merge_layers(&layers, &Vars::new()).unwrap();
        let inherited: Vec<(String, String)> =
            inherited.iter().map(|name| ((*name).to_owned(), format!("its {name}"))).collect();
        let (kept, stripped) = environment(&process, &inherited);
        let shown = |(name, value): (String, String)| format!("{name}={value}");
        (kept.into_iter().map(shown).collect(), stripped)
    }

    #[test]
    fn nothing_is_kept_unless_a_rule_says_so() {
        assert_eq!(run(&["()"], &["PATH", "HOME"]), (vec![], vec![]));
    }

    #[test]
    fn rules_compose_over_layers() {
        let (kept, stripped) = run(
            &[r#"( env: Keep(["PATH", "LC_*"]) )"#, r#"( env: [Set({"A": "1", "PATH": "/bin"}), Keep(["TERM"])] )"#],
            &["PATH", "LC_ALL", "LANG", "TERM"],
        );
        assert_eq!(kept, ["A=1", "LC_ALL=its LC_ALL", "PATH=/bin", "TERM=its TERM"]);
        assert!(stripped.is_empty());
        let (kept, _) = run(&["( env: Inherit )", r#"( env: [Clear, Set({"B": "2"})] )"#], &["PATH"]);
        assert_eq!(kept, ["B=2"]);
    }

    #[test]
    fn secrets_are_stripped_unless_named() {
        let caller = ["GITHUB_TOKEN", "PATH", "SSH_AUTH_SOCK"];
        let (kept, stripped) = run(&["( env: Inherit )"], &caller);
        assert_eq!(kept, ["PATH=its PATH"]);
        assert_eq!(stripped, ["GITHUB_TOKEN", "SSH_AUTH_SOCK"]);
        // By exact name as well: a list that was copied must not leak.
        let (kept, stripped) = run(&[r#"( env: Keep(["GITHUB_TOKEN"]) )"#], &caller);
        assert!(kept.is_empty());
        assert_eq!(stripped, ["GITHUB_TOKEN"]);
        let (kept, stripped) = run(&[r#"( env: Inherit, secrets: ["GITHUB_TOKEN"] )"#], &caller);
        assert_eq!(kept.len(), 2);
        assert_eq!(stripped, ["SSH_AUTH_SOCK"]);
        // A value that the policy itself gives is no leak.
        let (kept, stripped) =
            run(&[r#"( env: [Inherit, Set({"GITHUB_TOKEN": "none", "SSH_AUTH_SOCK": ""})] )"#], &caller);
        assert_eq!((kept.len(), stripped.len()), (3, 0));
    }

    #[test]
    fn what_looks_like_a_secret() {
        for name in [
            "GITHUB_TOKEN",
            "githubToken",
            "AWS_ACCESS_KEY_ID",
            "AWS_SECRET_ACCESS_KEY",
            "AWS_SESSION_TOKEN",
            "DB_PASSWORD",
            "MYSQL_PWD",
            "PGPASSWORD",
            "API_KEY",
            "OPENAI_APIKEY",
            "PRIVATE_KEY",
            "GOOGLE_APPLICATION_CREDENTIALS",
            "GITHUB_PAT",
            "SSH_AUTH_SOCK",
            "CARGO_REGISTRIES_X_TOKEN",
            "NPM_CONFIG__auth",
            "XAUTHORITY",
            "SENTRY_DSN",
            "VAULT_SECRET_ID",
            "ANSIBLE_VAULT_PASSWORD_FILE",
        ] {
            assert!(looks_secret(name), "{name}");
        }
        for name in [
            "PATH",
            "HOME",
            "PWD",
            "OLDPWD",
            "LANG",
            "TERM",
            "KEYBOARD",
            "AUTHOR",
            "GIT_AUTHOR_NAME",
            "XDG_SESSION_TYPE",
            "MONKEY",
            "TOKENIZERS_PARALLELISM",
            "COMPASS",
            "CARGO_HOME",
            "PATTERN",
        ] {
            assert!(!looks_secret(name), "{name}");
        }
    }

    #[test]
    fn patterns_match_whole_names() {
        let matches = |pattern: &str, name: &str| EnvPattern(pattern.to_owned()).matches(name);
        assert!(matches("LC_*", "LC_ALL") && matches("LC_*", "LC_"));
        assert!(!matches("LC_*", "XLC_ALL"));
        assert!(matches("*", "X") && matches("A*B*C", "AxBBC") && matches("A**C", "AC"));
        assert!(!matches("A*A", "A") && !matches("PATH", "PATHS") && !matches("A*B*C", "ACB"));
    }
}
