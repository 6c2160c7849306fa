//! Sections as people and machines get them wrong.

use crate::cage::Marks;
use crate::checks::loaded;
use crate::report::Outcome;
use crate::section::{Numbers, STRANGE, fields, of};
use crate::subject::{Kit, Subject, is_inside, line, plan};
use palisade_abi::{Error, ErrorKind, Host};

/// Mutations of the section.
const MUTATIONS: usize = 200;

pub(crate) fn configuration(kit: &Kit) -> Outcome {
    loaded(kit, |subject, host, marks| {
        let mut all =
            Trial { kit, subject, host, marks, outcome: Outcome::default(), answered: 0, refused: 0, placeless: 0 };
        all.layers();
        all.mistakes();
        all.mutations();
        let Trial { mut outcome, answered, refused, placeless, .. } = all;
        outcome.figure("answered", answered);
        outcome.figure("refused", refused);
        outcome.figure("placeless", placeless);
        outcome
    })
}

struct Trial<'a> {
    kit: &'a Kit,
    subject: &'a Subject,
    host: &'a Host,
    marks: &'a Marks,
    outcome: Outcome,
    answered: u64,
    refused: u64,
    placeless: u64,
}

impl Trial<'_> {
    /// Each field in a layer of its own, on either side of the rest: the plan is that of one layer.
    fn layers(&mut self) {
        let planned = |layers: &[&str]| {
            let steps = self.subject.planned(layers, self.host).map(|(_, steps)| steps);
            steps.map(|steps| self.subject.described(&steps))
        };
        let whole = match planned(&[&self.kit.section]) {
            Ok(whole) => whole,
            Err(error) => return self.outcome.saw(format!("what was a plan before is none now: {}", line(&error))),
        };
        let all = fields(&self.kit.section);
        for (index, (name, _)) in all.iter().enumerate() {
            let rest: Vec<_> = all.iter().enumerate().filter(|(i, _)| *i != index).map(|(_, f)| f.clone()).collect();
            let (alone, rest) = (of(&all[index..=index]), of(&rest));
            for layers in [[&alone, &rest], [&rest, &alone]] {
                self.marks.at(&format!("`configure` of `{name}` in a layer of its own"));
                match planned(&layers.map(String::as_str)) {
                    Ok(same) if same == whole => {}
                    Ok(_) => self.outcome.saw(format!("with `{name}` in a layer of its own the plan is another one")),
                    Err(error) => self.outcome.saw(format!("`{name}` in a layer of its own: {}", line(&error))),
                }
            }
        }
    }

    /// What is wrong in a known way.
    fn mistakes(&mut self) {
        self.refuses("(no_such_field_anywhere: 1)", "an unknown field");
        let deep = format!("{}{}", "[".repeat(2000), "]".repeat(2000));
        for text in ["()", "", " ", "(", "[]", "1", "\"\"", "(((((", "(:)", "(,)", "\u{0}"] {
            self.answers(text);
        }
        for (name, _) in fields(&self.kit.section) {
            for value in STRANGE.iter().copied().chain([deep.as_str()]) {
                self.answers(&format!("({name}: {value})"));
            }
        }
    }

    fn mutations(&mut self) {
        let mut numbers = Numbers::new(self.kit.seed);
        for _ in 0..MUTATIONS {
            let text = numbers.mutation(&self.kit.section);
            self.answers(&text);
        }
    }

    fn configured(&mut self, text: &str) -> Result<(), Error> {
        self.marks.at(&format!("`configure` of {}", shown(text)));
        let isolator = self.subject.configure(&[text], self.host)?;
        self.marks.at(&format!("`plan` of {}", shown(text)));
        plan(&isolator, self.host).map(drop)
    }

    /// An answer or an error that helps.
    fn answers(&mut self, text: &str) {
        match self.configured(text) {
            Ok(()) => self.answered += 1,
            Err(error) => {
                self.refused += 1;
                self.helps(text, &error);
            }
        }
    }

    fn refuses(&mut self, text: &str, what: &str) {
        match self.configured(text) {
            Ok(()) => self.outcome.saw(format!("{what} is taken: {}", shown(text))),
            Err(error) => self.helps(text, &error),
        }
    }

    fn helps(&mut self, text: &str, error: &Error) {
        let (shown, line) = (shown(text), line(error));
        match error.kind {
            // What a section asks for may be what this host lacks.
            ErrorKind::Policy | ErrorKind::Host => {}
            kind => {
                let kind = format!("{kind:?}").to_lowercase();
                return self.outcome.saw(format!("{shown} is an error of kind {kind}, not policy: {line}"));
            }
        }
        if error.message.trim().is_empty() {
            self.outcome.saw(format!("{shown} is an error without a message"));
        }
        match error.origin {
            Some(origin) if !is_inside(origin, &[text]) => {
                self.outcome.saw(format!("{shown} is an error at a place outside of the section: {line}"));
            }
            // The whole section is shown then.
            None if error.kind == ErrorKind::Policy => self.placeless += 1,
            _ => {}
        }
    }
}

/// A section in a message.
fn shown(text: &str) -> String {
    const LONGEST: usize = 120;
    let clean: String = text.chars().map(|c| if c.is_control() { '\u{fffd}' } else { c }).collect();
    let short: String = clean.chars().take(LONGEST).collect();
    let more = if short.len() < clean.len() { "..." } else { "" };
    format!("`{short}{more}`")
}
