//! A section of a policy in pieces, and what can be made of them that nobody would write.

/// One token: nothing is known of RON here but strings, comments, words and marks.
fn tokens(text: &str) -> Vec<&str> {
    let mut all = Vec::new();
    let mut rest = text;
    while !rest.is_empty() {
        let length = blank(rest);
        if length == 0 {
            let length = one(rest);
            all.push(&rest[..length]);
            rest = &rest[length..];
        } else {
            rest = &rest[length..];
        }
    }
    all
}

/// White space and comments.
fn blank(text: &str) -> usize {
    let end_of = |end: &str| text.find(end).map_or(text.len(), |at| at + end.len());
    match text {
        _ if text.starts_with("//") => end_of("\n"),
        _ if text.starts_with("/*") => end_of("*/"),
        _ => text.len() - text.trim_start().len(),
    }
}

fn one(text: &str) -> usize {
    let word = |c: char| c.is_alphanumeric() || matches!(c, '_' | '.' | '+' | '-');
    match text.chars().next() {
        Some('"') => string(text),
        Some(c) if word(c) => text.find(|c: char| !word(c)).unwrap_or(text.len()),
        Some(c) => c.len_utf8(),
        None => 0,
    }
}

fn string(text: &str) -> usize {
    let mut escaped = false;
    for (at, c) in text.char_indices().skip(1) {
        match c {
            '"' if !escaped => return at + 1,
            _ => escaped = c == '\\' && !escaped,
        }
    }
    text.len()
}

/// The fields of a section, each with its value as text.
pub(crate) fn fields(section: &str) -> Vec<(String, String)> {
    let tokens = tokens(section);
    let (mut fields, mut depth, mut current) = (Vec::new(), 0_usize, Vec::new());
    for token in tokens {
        match token {
            "(" | "[" | "{" => depth += 1,
            ")" | "]" | "}" => depth = depth.saturating_sub(1),
            _ => {}
        }
        let outer = (depth == 1 && token == "(" && current.is_empty() && fields.is_empty()) || depth == 0;
        if outer || (depth == 1 && token == ",") {
            fields.extend(field(&current));
            current.clear();
        } else {
            current.push(token);
        }
    }
    fields
}

fn field(tokens: &[&str]) -> Option<(String, String)> {
    let [name, ":", value @ ..] = tokens else { return None };
    (!value.is_empty()).then(|| ((*name).to_owned(), value.join(" ")))
}

/// A section of these fields.
pub(crate) fn of(fields: &[(String, String)]) -> String {
    let fields: Vec<String> = fields.iter().map(|(name, value)| format!("{name}: {value}")).collect();
    format!("({})", fields.join(", "))
}

/// Values that hardly any field takes.
pub(crate) const STRANGE: &[&str] = &[
    "()",
    "[]",
    "{}",
    "true",
    "-1",
    "0",
    "99999999999999999999999999999999999999999",
    "18446744073709551615",
    "1e400",
    "inf",
    "'c'",
    "\"\"",
    "\" \"",
    r#""\u{0}""#,
    r#""\u{d800}""#,
    r#""\xff\xfe""#,
    r#""\u{202e}\u{7}""#,
    "\"/../../..\"",
    "\"${nothing}\"",
    "Nothing",
    "Nothing(1)",
    "None",
    "((((((((()))))))))",
];

/// Deterministic numbers: SplitMix64, as in Steele, Lea and Flood, "Fast splittable pseudorandom number generators".
#[derive(Debug)]
pub(crate) struct Numbers(u64);

impl Numbers {
    pub(crate) fn new(seed: u64) -> Self {
        Self(seed)
    }

    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    fn below(&mut self, bound: usize) -> usize {
        let bound = u64::try_from(bound.max(1)).unwrap_or(1);
        usize::try_from(self.next() % bound).unwrap_or(0)
    }

    /// A section with one to three mistakes in it.
    pub(crate) fn mutation(&mut self, section: &str) -> String {
        let mut tokens: Vec<String> = tokens(section).into_iter().map(str::to_owned).collect();
        for _ in 0..=self.below(3) {
            self.mistake(&mut tokens);
        }
        tokens.join(" ")
    }

    fn mistake(&mut self, tokens: &mut Vec<String>) {
        let at = self.below(tokens.len());
        let Some(token) = tokens.get(at).cloned() else { return };
        match self.below(8) {
            0 => drop(tokens.remove(at)),
            1 => tokens.insert(at, token),
            2 => {
                let other = self.below(tokens.len());
                tokens.swap(at, other);
            }
            3 => tokens.truncate(at + 1),
            4 => tokens.insert(at, ["(", ")", "[", "]", "{", "}", ",", ":"][self.below(8)].to_owned()),
            5 => tokens[at] = self.misspelt(&token),
            _ => {
                // Where a value stands, so that the rest is read as well.
                let value = (at..tokens.len()).find(|&i| i > 0 && tokens[i - 1] == ":").unwrap_or(at);
                STRANGE[self.below(STRANGE.len())].clone_into(&mut tokens[value]);
            }
        }
    }

    fn misspelt(&mut self, token: &str) -> String {
        let mut letters: Vec<char> = token.chars().collect();
        let at = self.below(letters.len());
        if let Some(letter) = letters.get_mut(at) {
            *letter = ['x', '0', '9', '\u{e9}', '\u{1f600}', '\t', '\u{1}'][self.below(7)];
        }
        letters.into_iter().collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_section_comes_apart_into_its_fields() {
        let section = "(\n // one, \"two\"\n a: 1, b: (c: [1, 2], d: \"),\\\"\"), /* e: 5 */ f: New,\n)";
        let fields = fields(section);
        let names: Vec<&str> = fields.iter().map(|(name, _)| name.as_str()).collect();
        assert_eq!(names, ["a", "b", "f"]);
        assert_eq!(fields[1].1, "( c : [ 1 , 2 ] , d : \"),\\\"\" )");
        assert_eq!(of(&fields[..1]), "(a: 1)");
        assert!(super::fields("()").is_empty());
    }

    #[test]
    fn the_same_seed_makes_the_same_mistakes() {
        let made = |seed| {
            let mut numbers = Numbers::new(seed);
            (0..50).map(|_| numbers.mutation("(a: 1, b: [\"c\"])")).collect::<Vec<_>>()
        };
        assert_eq!(made(7), made(7));
        assert_ne!(made(7), made(8));
    }
}
