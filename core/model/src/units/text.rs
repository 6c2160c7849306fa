//! Strings in which variables are expanded.

use std::fmt;
use std::ops::Deref;
use std::path::Path;

use super::{Unit, UnitError, unit};
use crate::layer::expand;

/// A string with its variables expanded, and without NUL bytes, so that the kernel sees all of it.
///
/// ```
/// # use palisade_model::units::Text;
/// let text: Text = "5$$".parse()?;
/// assert_eq!(text.as_str(), "5$");
/// assert!("a\0b".parse::<Text>().is_err());
/// # Ok::<(), palisade_model::units::UnitError>(())
/// ```
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Text(String);

/// An absolute path with its variables expanded: no `..`, no NUL byte, no `.` and no doubled or
/// trailing slashes.
///
/// ```
/// # use palisade_model::units::AbsPath;
/// let path: AbsPath = "/usr//lib/./x/".parse()?;
/// assert_eq!(path.as_str(), "/usr/lib/x");
/// assert!("usr".parse::<AbsPath>().is_err() && "/a/../b".parse::<AbsPath>().is_err());
/// # Ok::<(), palisade_model::units::UnitError>(())
/// ```
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct AbsPath(String);

/// `PATH_MAX` of Linux, its terminating NUL included.
const LONGEST_PATH: usize = 4096;

fn expanded(text: &str) -> Result<String, UnitError> {
    let expanded = expand(text).map_err(|said| match said.split_once('\n') {
        Some((message, help)) => UnitError::new(message, help),
        None => UnitError::new(said, ""),
    })?;
    if expanded.contains('\0') {
        return Err(UnitError::new(
            "the string contains a NUL byte",
            "the kernel would read it only up to there; remove it",
        ));
    }
    Ok(expanded)
}

impl Unit for Text {
    const FORMS: &'static str = "a string in double quotes";

    fn from_text(text: &str) -> Result<Self, UnitError> {
        expanded(text).map(Self)
    }

    fn from_integer(number: i128) -> Result<Self, UnitError> {
        Err(UnitError::new(
            format!("expected a string in double quotes, found `{number}`"),
            format!("write \"{number}\""),
        ))
    }
}

impl Unit for AbsPath {
    const FORMS: &'static str = "an absolute path in double quotes such as \"/usr\" or \"${project}\"";

    fn from_text(text: &str) -> Result<Self, UnitError> {
        let path = expanded(text)?;
        if !path.starts_with('/') {
            let help = if path.starts_with('~') {
                "write \"${home}/...\": only a shell knows `~`"
            } else {
                "start it with `/` or with a variable such as ${project}"
            };
            return Err(UnitError::new(format!("`{path}` is not an absolute path"), help));
        }
        let parts: Vec<&str> = path.split('/').filter(|part| !part.is_empty() && *part != ".").collect();
        if parts.contains(&"..") {
            return Err(UnitError::new(
                format!("the path `{path}` contains `..`"),
                "write where it leads: through a symbolic link `..` goes elsewhere than it seems",
            ));
        }
        let clean = format!("/{}", parts.join("/"));
        if clean.len() >= LONGEST_PATH {
            return Err(UnitError::new(
                format!("the path is {} bytes long", clean.len()),
                format!("the kernel takes paths of at most {} bytes", LONGEST_PATH - 1),
            ));
        }
        Ok(Self(clean))
    }
}

macro_rules! string {
    ($type:ident) => {
        impl $type {
            /// As a string slice.
            #[must_use]
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }
        impl fmt::Display for $type {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.pad(&self.0)
            }
        }
        impl Deref for $type {
            type Target = str;
            fn deref(&self) -> &str {
                &self.0
            }
        }
        impl AsRef<str> for $type {
            fn as_ref(&self) -> &str {
                &self.0
            }
        }
        impl From<$type> for String {
            fn from(value: $type) -> String {
                value.0
            }
        }
    };
}
string!(Text);
string!(AbsPath);

impl AbsPath {
    /// As a path.
    ///
    /// ```
    /// # use palisade_model::units::AbsPath;
    /// assert!("/usr/lib".parse::<AbsPath>()?.as_path().is_absolute());
    /// # Ok::<(), palisade_model::units::UnitError>(())
    /// ```
    #[must_use]
    pub fn as_path(&self) -> &Path {
        Path::new(&self.0)
    }
}

impl AsRef<Path> for AbsPath {
    fn as_ref(&self) -> &Path {
        self.as_path()
    }
}

// What was read from a policy is expanded already: a `$` in it is a dollar sign now.
unit!(Text, String, |text| Ok::<_, UnitError>(Text(text)));
unit!(AbsPath, String, |text| if text.starts_with('/') {
    Ok(AbsPath(text))
} else {
    Err(UnitError::new("not an absolute path", AbsPath::FORMS))
});

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_are_absolute_and_clean() {
        for (text, clean) in [
            ("/usr", "/usr"),
            ("/usr//lib/./x/", "/usr/lib/x"),
            ("/", "/"),
            ("//", "/"),
            ("/a$$b", "/a$b"),
            ("/..a/b..", "/..a/b.."),
        ] {
            assert_eq!(text.parse::<AbsPath>().unwrap().as_str(), clean);
        }
    }

    #[test]
    fn what_is_not_an_absolute_path_is_refused() {
        let long = format!("/{}", "x".repeat(4095));
        for text in ["", "usr", "~/x", "/a/../b", "/..", "/a\0b", "${nope}/x", "./x", &long] {
            assert!(text.parse::<AbsPath>().is_err(), "{text}");
        }
        let help = "~/x".parse::<AbsPath>().unwrap_err().help;
        assert!(help.contains("${home}"));
    }

    #[test]
    fn text_refuses_nul_and_unknown_variables() {
        assert_eq!("5$$".parse::<Text>().unwrap().as_str(), "5$");
        assert!("a\0".parse::<Text>().is_err());
        assert!("${x}".parse::<Text>().is_err());
    }
}
