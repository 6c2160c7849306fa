//! The form in which an entry is written, which is seen from its text.

/// How an entry is written.
pub(crate) enum Form {
    /// `System`
    Bare,
    /// `Bind("/src")`
    Positional,
    /// `Bind(from: "/src")`
    Named,
}

/// Tells the form: nothing behind the name, a string first, or a name first.
pub(crate) fn form(text: &str) -> (&str, Form) {
    let end = text.find(|c: char| !c.is_ascii_alphanumeric() && c != '_').unwrap_or(text.len());
    let (name, rest) = text.split_at(end);
    let inside = after_space(rest).strip_prefix('(').map(after_space);
    let form = match inside {
        None => Form::Bare,
        Some(inside) if word_alone(inside) => Form::Positional,
        Some(inside) if inside.starts_with(['"', ')']) || inside.starts_with("r\"") || inside.starts_with("r#") => {
            Form::Positional
        }
        Some(_) => Form::Named,
    };
    (name, form)
}

/// Whether a word comes first that is no field's name: `Toolchain(Rust)`.
fn word_alone(inside: &str) -> bool {
    let rest = inside.trim_start_matches(|c: char| c.is_ascii_alphanumeric() || c == '_');
    inside.starts_with(|c: char| c.is_ascii_uppercase()) && !after_space(rest).starts_with(':')
}

/// Skips white space and comments.
pub(crate) fn after_space(text: &str) -> &str {
    let text = text.trim_start();
    if let Some(comment) = text.strip_prefix("//") {
        return after_space(comment.split_once('\n').map_or("", |(_, rest)| rest));
    }
    match text.strip_prefix("/*").and_then(|comment| comment.split_once("*/")) {
        Some((_, rest)) => after_space(rest),
        None => text,
    }
}
