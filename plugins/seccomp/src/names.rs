//! What to say about a name that is not known.

/// `did you mean ...?`, if one of `known` is close.
pub(crate) fn suggest<'a>(found: &str, known: impl Iterator<Item = &'a str>) -> Option<String> {
    let found = found.to_ascii_lowercase();
    known
        .map(|name| (strsim::normalized_damerau_levenshtein(&found, &name.to_ascii_lowercase()), name))
        .filter(|(score, _)| *score >= 0.7)
        .max_by(|a, b| a.0.total_cmp(&b.0))
        .map(|(_, name)| format!("did you mean `{name}`?"))
}
