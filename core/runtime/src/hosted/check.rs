//! What of an answer is taken: whoever answers may be hostile.

use super::talk::{Told, ToldHit};
use palisade_abi::{Demand, Error, ErrorKind, Hit, Origin, Ready, Stage, Step};
use palisade_model::diag::SourceId;
use palisade_model::layer::Fragment;

/// The longest text that is told to people, in bytes.
const LONGEST: usize = 4096;
/// The most things of a kind in one answer.
const MOST: usize = 1000;

/// Where the plugin's section stands: whatever it says of a place must be in it.
#[derive(Debug, Default)]
pub(super) struct Places(Vec<(SourceId, u32, u32)>);

impl Places {
    pub(super) fn of(layers: &[Fragment]) -> Self {
        let mut all = Vec::new();
        for layer in layers {
            let whole = layer.origin(0, layer.text.len());
            all.push((whole.source, whole.start, whole.end));
            all.extend(layer.pieces.iter().map(|piece| (layer.source, piece.source_start, piece.source_end)));
            let named = layer.replace.iter().chain(&layer.drop).chain(&layer.locked);
            all.extend(named.filter_map(|dotted| dotted.origin).map(|o| (o.source, o.start, o.end)));
        }
        Self(all)
    }

    /// The place, if it is one of the section.
    pub(super) fn within(&self, told: Option<(u32, u32, u32)>) -> Option<Origin> {
        let (source, start, end) = told?;
        let holds = |(of, from, to): &(SourceId, u32, u32)| of.0 == source && *from <= start && end <= *to;
        let good = start <= end && self.0.iter().any(holds);
        good.then_some(Origin { source: SourceId(source), start, end })
    }

    /// An error, with nothing in it that could steer a terminal or fill a log.
    pub(super) fn error(&self, error: Error) -> Error {
        let told = error.origin.map(|o| (o.source.0, o.start, o.end));
        Error {
            kind: error.kind,
            message: shown(&error.message),
            call: shown(&error.call),
            errno: error.errno,
            help: shown(&error.help),
            origin: self.within(told),
        }
    }

    /// A limit that was hit.
    pub(super) fn hit(&self, told: ToldHit) -> Hit {
        let ToldHit { limit, words, ended_it, origin } = told;
        Hit { limit: shown(&limit), words: shown(&words), ended_it, origin: self.within(origin) }
    }

    /// A step that palisade carries out.
    ///
    /// # Errors
    /// It is none, or its envelope is not as it should be.
    pub(super) fn step(&self, told: Told) -> Result<Step, Error> {
        let words = line(&told.words).ok_or_else(|| refused("the words of a step are no line of text"))?;
        let refuse = |why: String| Err(refused(format!("the step \"{words}\" {why}")));
        let Some(text) = told.ready else {
            let error = refused(format!("the step \"{words}\" is not ready-made"));
            let help = "a plugin in a process of its own has ready-made steps only; let it run in the launcher, if you trust it";
            return Err(error.help(help).at(self.within(told.origin)));
        };
        let Ok(stage) = told.stage.parse::<Stage>() else {
            return refuse("is of a stage that there is not".to_owned());
        };
        let demand = match told.demand.as_str() {
            "require" => Demand::Require,
            "degrade" => Demand::Degrade,
            "off" => Demand::Off,
            _ => return refuse("has a demand that there is not".to_owned()),
        };
        let ready = match Ready::parse(&text) {
            Ok(ready) => ready,
            Err(why) => return refuse(format!("is not understood: {}", shown(&why))),
        };
        let origin = self.within(told.origin);
        if origin.is_none() && told.origin.is_some() {
            return refuse("names a place outside of the plugin's section".to_owned());
        }
        if told.clone_flags != 0 {
            return refuse("asks for clone flags by itself".to_owned());
        }
        let why =
            line(&told.why).ok_or_else(|| refused(format!("the reason of the step \"{words}\" is no line of text")))?;
        let mut step = Step::ready(stage, words, ready).origin(origin).why(why).demand(demand);
        for name in few(told.after)? {
            if !palisade_model::policy::valid_plugin_name(&name) {
                return Err(refused("a step comes after something that is no plugin"));
            }
            step = step.after(name);
        }
        Ok(if told.concurrent { step.concurrent() } else { step })
    }
}

pub(super) fn refused(why: impl Into<String>) -> Error {
    Error::new(ErrorKind::Plugin, why).help("report it to the plugin's author")
}

/// A list of a length that makes sense.
///
/// # Errors
/// It is longer.
pub(super) fn few<T>(all: Vec<T>) -> Result<Vec<T>, Error> {
    if all.len() <= MOST { Ok(all) } else { Err(refused(format!("it tells of {} things at once", all.len()))) }
}

/// Figures, with the plugin's name in front, so that none passes for another plugin's.
///
/// # Errors
/// A name that is none.
pub(super) fn figures(plugin: &str, told: Vec<(String, u64)>) -> Result<Vec<(String, u64)>, Error> {
    let plain = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'_';
    let one = |(name, figure): (String, u64)| {
        let good = (1..=64).contains(&name.len()) && name.bytes().all(plain);
        if good { Ok((format!("{plugin}.{name}"), figure)) } else { Err(refused("a figure has a name that is none")) }
    };
    few(told)?.into_iter().map(one).collect()
}

/// A text of one line, as it stands.
fn line(text: &str) -> Option<String> {
    (text.len() <= LONGEST && !text.chars().any(char::is_control)).then(|| text.to_owned())
}

/// A text for people: cut, and without control characters but line breaks.
pub(super) fn shown(text: &str) -> String {
    let end = (0..=text.len().min(LONGEST)).rev().find(|at| text.is_char_boundary(*at)).unwrap_or(0);
    let seen = |c: char| if c.is_control() && c != '\n' { '\u{fffd}' } else { c };
    text.get(..end).unwrap_or_default().chars().map(seen).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn told() -> Told {
        Told {
            stage: "build".to_owned(),
            words: "names it".to_owned(),
            why: String::new(),
            origin: Some((0, 12, 14)),
            demand: "require".to_owned(),
            after: vec!["other".to_owned()],
            clone_flags: 0,
            concurrent: false,
            ready: Some("Hostname(name: \"box\")".to_owned()),
        }
    }

    fn places() -> Places {
        Places::of(&[Fragment::policy(SourceId(0), "(name: x)", 10)])
    }

    #[test]
    fn a_good_step_is_taken_and_every_bad_one_refused() {
        assert_eq!(format!("{:?}", places().step(told()).unwrap()), "build: names it");
        let long = "x".repeat(LONGEST + 1);
        for (bad, said) in [
            (Told { words: "two\nlines".to_owned(), ..told() }, "no line of text"),
            (Told { words: "\u{1b}[2J".to_owned(), ..told() }, "no line of text"),
            (Told { words: long.clone(), ..told() }, "no line of text"),
            (Told { why: "\u{7}".to_owned(), ..told() }, "no line of text"),
            (Told { stage: "nowhere".to_owned(), ..told() }, "a stage that there is not"),
            (Told { demand: "perhaps".to_owned(), ..told() }, "a demand that there is not"),
            (Told { origin: Some((1, 12, 14)), ..told() }, "outside of the plugin's section"),
            (Told { origin: Some((0, 12, 40)), ..told() }, "outside of the plugin's section"),
            (Told { origin: Some((0, 14, 12)), ..told() }, "outside of the plugin's section"),
            (Told { after: vec!["\n".to_owned()], ..told() }, "is no plugin"),
            (Told { after: vec!["a".to_owned(); MOST + 1], ..told() }, "things at once"),
            (Told { clone_flags: 1, ..told() }, "clone flags"),
            (Told { ready: Some("Teleport()".to_owned()), ..told() }, "is not understood"),
            (Told { ready: None, ..told() }, "is not ready-made"),
        ] {
            let error = places().step(bad).unwrap_err();
            assert!(error.message.contains(said), "{said}: {}", error.message);
        }
    }

    #[test]
    fn an_error_is_cut_and_cannot_steer_a_terminal() {
        let error = Error::policy("a\u{1b}b\nc").help("ü".repeat(LONGEST)).call("\0", 3);
        let origin = Some(Origin { source: SourceId(9), start: 0, end: 1 });
        let seen = places().error(error.at(origin));
        assert_eq!((seen.message.as_str(), seen.call.as_str(), seen.origin), ("a\u{fffd}b\nc", "\u{fffd}", None));
        assert!(seen.help.len() <= LONGEST);
    }

    #[test]
    fn figures_carry_the_plugins_name() {
        let given = |name: &str| figures("p", vec![(name.to_owned(), 7)]);
        assert_eq!(given("x_bytes").unwrap(), [("p.x_bytes".to_owned(), 7)]);
        for bad in ["", "a b", "A", "é", &"x".repeat(65)] {
            assert!(given(bad).is_err(), "{bad}");
        }
    }
}
