//! One call of a plugin, and the functions that palisade lends it for as long as that lasts.

use super::read::Author;
use super::table::{
    palisade_attempt, palisade_error, palisade_finding, palisade_hit, palisade_host, palisade_left, palisade_origin,
    palisade_step, palisade_text,
};
use super::told;
use crate::action::Context;
use crate::error::{Error, ErrorKind};
use crate::facts::Host;
use crate::told::{Attempt, Finding, Hit, Left};
use palisade_model::layer::{Shape, Tree};
use palisade_model::stage::Stage;

/// Which entry of the plugin is called.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Entry {
    Probe,
    Collect,
    Configure,
    Plan,
    Watch,
    Ready,
    Sample,
    Finish,
    Attempts,
    Take,
    Apply,
    Verify,
    Witness,
    Undo,
}

impl Entry {
    fn name(self) -> String {
        format!("{self:?}").to_lowercase()
    }
}

/// What a step may use of the launch.
pub(super) enum Lent<'a, 'c> {
    Nothing,
    Numbers(&'a Context<'c>),
    All(&'a mut Context<'c>),
}

/// What the plugin told.
#[derive(Default)]
pub(super) struct Told {
    error: Option<Error>,
    pub(super) evidence: Option<String>,
    pub(super) findings: Vec<Finding>,
    pub(super) left: Vec<Left>,
    pub(super) steps: Vec<told::Given>,
    pub(super) descriptors: Vec<i32>,
    pub(super) figures: Vec<(String, u64)>,
    pub(super) hits: Vec<Hit>,
    pub(super) attempts: Vec<Attempt>,
}

/// One call.
pub(super) struct Call<'a, 'c> {
    entry: Entry,
    facts: Option<&'a Host>,
    section: Option<(&'a Shape, &'a Tree)>,
    /// Of the step.
    stage: Option<Stage>,
    lent: Lent<'a, 'c>,
    told: Told,
}

impl<'a, 'c> Call<'a, 'c> {
    pub(super) fn new(entry: Entry) -> Self {
        Self { entry, facts: None, section: None, stage: None, lent: Lent::Nothing, told: Told::default() }
    }

    pub(super) fn facts(mut self, host: &'a Host) -> Self {
        self.facts = Some(host);
        self
    }

    pub(super) fn section(mut self, shape: &'a Shape, tree: &'a Tree) -> Self {
        self.section = Some((shape, tree));
        self
    }

    pub(super) fn at(mut self, stage: Stage) -> Self {
        self.stage = Some(stage);
        self
    }

    pub(super) fn lent(mut self, lent: Lent<'a, 'c>) -> Self {
        self.lent = lent;
        self
    }

    /// Makes the call, and gives what was told.
    ///
    /// # Errors
    /// The plugin's own, or that it broke the rules of the seam.
    pub(super) fn run(mut self, entry: impl FnOnce(*const palisade_host) -> i32) -> Result<Told, Error> {
        let host = palisade_host {
            size: size_of::<palisade_host>(),
            call: std::ptr::from_mut(&mut self).cast(),
            fail,
            fact,
            value,
            count,
            key,
            origin,
            finding,
            left,
            step,
            descriptor,
            figure,
            hit,
            attempt,
            evidence,
            number,
            offer_cgroup,
            hand_over,
        };
        let code = entry(&raw const host);
        match (self.told.error.take(), code) {
            (Some(error), _) => Err(error),
            (None, 0) => Ok(self.told),
            (None, code) => {
                let why = format!("`{}` failed with {code}, and did not say why", self.entry.name());
                Err(broken(why))
            }
        }
    }

    fn refuse(&mut self, why: &str) {
        let why = format!("`{}` handed over {why}", self.entry.name());
        self.told.error.get_or_insert_with(|| broken(why));
    }

    /// Whether a function makes sense in this entry; one that does not makes the entry fail.
    fn may(&mut self, function: &str, entries: &[Entry]) -> bool {
        let may = entries.contains(&self.entry);
        if !may {
            let why = format!("`{}` calls `{function}`, which makes no sense there", self.entry.name());
            self.told.error.get_or_insert_with(|| broken(why));
        }
        may
    }

    /// Does what only steps of these stages may ask for.
    fn lend(&mut self, function: &str, stages: &[Stage], act: impl FnOnce(&mut Context<'c>)) {
        match &mut self.lent {
            Lent::All(context) if self.stage.is_some_and(|stage| stages.contains(&stage)) => act(context),
            _ => self.refuse(&format!("a descriptor with `{function}`, which makes no sense in this stage")),
        }
    }

    /// What stands at a path of the section; asking for one that the reference does not show is a mistake.
    fn section_at(&mut self, path: &str) -> Option<&'a Tree> {
        if !self.may("the section", &[Entry::Configure]) {
            return None;
        }
        let (shape, tree) = self.section?;
        if !shape.has(path) {
            self.refuse(&format!("the path `{path}`, which is none of its reference section"));
        }
        tree.at(path)
    }
}

fn broken(why: String) -> Error {
    Error::new(ErrorKind::Plugin, why).help("report it to the plugin's author")
}

/// Gives a call to what is done for it; nothing is done for a host that is none.
///
/// # Safety
/// `host` is NULL or the one that this very call was given, and what came with it is as the header says.
unsafe fn with<T>(host: *const palisade_host, nothing: T, act: impl FnOnce(&mut Call<'_, '_>, Author) -> T) -> T {
    // SAFETY: it is the one that `run` made, or NULL; upheld by our caller; else other memory is read.
    let Some(host) = (unsafe { host.as_ref() }) else { return nothing };
    // SAFETY: `call` is the one that waits in `run` while the plugin runs, and nobody else uses it; upheld by `run` and
    // by the plugin, which has one thread here; else two at once would change it.
    let call = unsafe { host.call.cast::<Call<'_, '_>>().as_mut() };
    // SAFETY: the plugin is being called, and its author was promised for; upheld by our caller; else other memory is read.
    let author = unsafe { Author::promises() };
    match call {
        Some(call) => act(call, author),
        None => nothing,
    }
}

/// A text that palisade keeps until the entry returns.
fn borrowed(text: &str) -> palisade_text {
    palisade_text { data: text.as_ptr().cast(), length: text.len() }
}

/// Defines a function with which the plugin tells something: it is read, and given to what is done with it. What cannot
/// be read makes the entry fail, and so does telling it in an entry where it makes no sense.
macro_rules! told {
    ($name:ident: $type:ty, in $entries:expr, $read:expr, $act:expr) => {
        unsafe extern "C" fn $name(host: *const palisade_host, value: $type) {
            let act = |call: &mut Call<'_, '_>, author: Author| {
                let read: fn(Author, $type) -> Result<_, String> = $read;
                let act: fn(&mut Call<'_, '_>, _) = $act;
                if call.may(stringify!($name), $entries) {
                    match read(author, value) {
                        Ok(read) => act(call, read),
                        Err(why) => call.refuse(&why),
                    }
                }
            };
            // SAFETY: all is as the header says; upheld by the plugin's author; else other memory is read.
            unsafe { with(host, (), act) }
        }
    };
}

/// The same for a function that gives something: what it is asked for by name is found and written to `to`.
macro_rules! asked {
    ($name:ident, $type:ty, $find:expr) => {
        unsafe extern "C" fn $name(host: *const palisade_host, name: palisade_text, to: *mut $type) -> i32 {
            let act = |call: &mut Call<'_, '_>, author: Author| {
                let find: fn(&mut Call<'_, '_>, &str) -> Option<$type> = $find;
                match author.text(name) {
                    Ok(name) => author.put(to, find(call, &name)),
                    Err(why) => {
                        call.refuse(&why);
                        0
                    }
                }
            };
            // SAFETY: all is as the header says; upheld by the plugin's author; else other memory is read or overwritten.
            unsafe { with(host, 0, act) }
        }
    };
}

told!(finding: *const palisade_finding, in &[Entry::Probe], told::finding, |call, one| call.told.findings.push(one));
told!(left: *const palisade_left, in &[Entry::Collect], told::left, |call, one| call.told.left.push(one));
told!(step: *const palisade_step, in &[Entry::Plan], told::step, |call, one| call.told.steps.push(one));
told!(hit: *const palisade_hit, in &[Entry::Finish], told::hit, |call, one| call.told.hits.push(one));
told!(attempt: *const palisade_attempt, in &[Entry::Attempts], told::attempt, |call, one| call.told.attempts.push(one));
told!(descriptor: i32, in &[Entry::Watch], |_, one| Ok(one), |call, one| call.told.descriptors.push(one));
told!(evidence: palisade_text, in &[Entry::Apply, Entry::Verify, Entry::Witness], Author::text, |call, words| {
    call.told.evidence = Some(words);
});
told!(offer_cgroup: i32, in &[Entry::Apply], |_, one| Ok(one), |call, descriptor| {
    call.lend("offer_cgroup", &[Stage::Prepare], |context| context.offer_cgroup(descriptor));
});
told!(hand_over: i32, in &[Entry::Apply], |_, one| Ok(one), |call, descriptor| {
    call.lend("hand_over", &[Stage::Drop, Stage::Seal], |context| context.0.hand_over(descriptor));
});

asked!(fact, palisade_text, |call, name| call.facts.and_then(|host| host.fact(name)).map(borrowed));
asked!(value, palisade_text, |call, path| match call.section_at(path)? {
    Tree::Value(text, _) => Some(borrowed(text)),
    _ => {
        call.refuse(&format!("the path `{path}`, which leads to no value"));
        None
    }
});
asked!(origin, palisade_origin, |call, path| {
    let at = call.section_at(path)?.origin()?;
    Some(palisade_origin { source: at.source.0, start: at.start, end: at.end })
});
asked!(number, i64, |call, name| match &call.lent {
    Lent::Nothing => None,
    Lent::Numbers(context) => context.number(name),
    Lent::All(context) => context.number(name),
});

/// # Safety
/// All is as the header says.
unsafe extern "C" fn fail(host: *const palisade_host, error: *const palisade_error) {
    let act = |call: &mut Call<'_, '_>, author| match told::error(author, error) {
        Ok(error) => drop(call.told.error.get_or_insert(error)),
        Err(why) => call.refuse(&why),
    };
    // SAFETY: all is as the header says; upheld by the plugin's author; else other memory is read.
    unsafe { with(host, (), act) }
}

/// # Safety
/// All is as the header says.
unsafe extern "C" fn figure(host: *const palisade_host, name: palisade_text, figure: u64) {
    let act = |call: &mut Call<'_, '_>, author: Author| {
        if call.may("figure", &[Entry::Sample, Entry::Finish]) {
            match author.text(name) {
                Ok(name) => call.told.figures.push((name, figure)),
                Err(why) => call.refuse(&why),
            }
        }
    };
    // SAFETY: all is as the header says; upheld by the plugin's author; else other memory is read.
    unsafe { with(host, (), act) }
}

/// # Safety
/// All is as the header says.
unsafe extern "C" fn count(host: *const palisade_host, path: palisade_text) -> usize {
    let act = |call: &mut Call<'_, '_>, author: Author| match author.text(path).map(|path| call.section_at(&path)) {
        Ok(Some(Tree::List(items))) => items.len(),
        Ok(Some(Tree::Parts(parts))) => parts.len(),
        Ok(_) => 0,
        Err(why) => {
            call.refuse(&why);
            0
        }
    };
    // SAFETY: all is as the header says; upheld by the plugin's author; else other memory is read.
    unsafe { with(host, 0, act) }
}

/// # Safety
/// All is as the header says.
unsafe extern "C" fn key(host: *const palisade_host, path: palisade_text, index: usize, to: *mut palisade_text) -> i32 {
    let act = |call: &mut Call<'_, '_>, author: Author| match author.text(path).map(|path| call.section_at(&path)) {
        Ok(Some(Tree::Parts(parts))) => author.put(to, parts.keys().nth(index).map(|key| borrowed(key))),
        Ok(_) => 0,
        Err(why) => {
            call.refuse(&why);
            0
        }
    };
    // SAFETY: all is as the header says; upheld by the plugin's author; else other memory is read or overwritten.
    unsafe { with(host, 0, act) }
}
