//! Putting layers on top of each other.

use std::collections::BTreeMap;
use std::marker::PhantomData;

use serde::de::DeserializeOwned;

use super::context::options;
use super::{At, Dotted, Fragment, OneOrMany, Shape, Tree, parse, read};
use crate::diag::{Diagnostic, Origin, suggest};
use crate::vars::Vars;

/// A path that leads to no field.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PathError {
    /// The name that is not known.
    pub segment: String,
    /// The names that are; empty where the path goes on below a value.
    pub known: &'static [&'static str],
}

impl PathError {
    /// `segment` is not among `known`.
    #[must_use]
    pub fn unknown(segment: &str, known: &'static [&'static str]) -> Self {
        Self { segment: segment.to_owned(), known }
    }

    pub(super) fn below_value(path: &[&str]) -> Result<(), Self> {
        match path {
            [] => Ok(()),
            [first, ..] => Err(Self::unknown(first, &[])),
        }
    }

    fn diagnostic(&self, fragment: &Fragment, dotted: &Dotted) -> Diagnostic {
        let help = if self.known.is_empty() {
            format!("the path ends before `{}`", self.segment)
        } else {
            suggest(&self.segment, self.known)
        };
        Diagnostic::new(format!("unknown field `{}` in the path `{}`", self.segment, fragment.full_path(&dotted.path)))
            .at_opt(dotted.origin)
            .help(help)
    }
}

/// What can be merged, layer by layer. Made by [`layered!`](crate::layered) for structs.
///
/// ```
/// # use palisade_model::layer::{At, Layered};
/// # palisade_model::layered! { struct Memory { max: Option<At<u64>> } }
/// # palisade_model::layered! { struct Config { memory: Memory, names: Vec<At<String>> } }
/// let limited = |max| Config { memory: Memory { max: Some(At::new(max)) }, ..Config::default() };
/// let mut base = limited(1 << 20);
/// base.merge(limited(1 << 30));
/// assert_eq!(base.memory.max.map(|max| max.value), Some(1 << 30));
/// ```
pub trait Layered: Default {
    /// Puts a later layer on top.
    ///
    /// ```
    /// # use palisade_model::layer::{At, Layered};
    /// # palisade_model::layered! { struct Memory { max: Option<At<u64>> } }
    /// # palisade_model::layered! { struct Config { memory: Memory, names: Vec<At<String>> } }
    /// let named = |name: &str| Config { names: vec![At::new(name.to_owned())], ..Config::default() };
    /// let mut base = named("a");
    /// base.merge(named("b"));
    /// assert_eq!(base.names, [At::new("a".to_owned()), At::new("b".to_owned())], "lists append");
    /// ```
    fn merge(&mut self, later: Self);

    /// Whether the field at `path` is set here, and where. The empty path asks for anything.
    ///
    /// ```
    /// # use palisade_model::layer::{At, Layered};
    /// # palisade_model::layered! { struct Memory { max: Option<At<u64>> } }
    /// # palisade_model::layered! { struct Config { memory: Memory, names: Vec<At<String>> } }
    /// let config = Config { memory: Memory { max: Some(At::new(1)) }, ..Config::default() };
    /// assert!(config.find(&["memory", "max"]).is_some());
    /// assert!(config.find(&["names"]).is_none() && Config::default().find(&[]).is_none());
    /// ```
    fn find(&self, path: &[&str]) -> Option<Option<Origin>>;

    /// Takes away what is set at `path`.
    ///
    /// ```
    /// # use palisade_model::layer::{At, Layered};
    /// # palisade_model::layered! { struct Memory { max: Option<At<u64>> } }
    /// # palisade_model::layered! { struct Config { memory: Memory, names: Vec<At<String>> } }
    /// let mut config = Config { memory: Memory { max: Some(At::new(1)) }, ..Config::default() };
    /// config.clear(&["memory", "max"]).unwrap();
    /// assert!(config.memory.max.is_none());
    /// assert_eq!(config.clear(&["memroy"]).unwrap_err().known, ["memory", "names"]);
    /// ```
    ///
    /// # Errors
    /// A path that leads to no field.
    fn clear(&mut self, path: &[&str]) -> Result<(), PathError>;

    /// The names of the fields; none for a value.
    ///
    /// ```
    /// # use palisade_model::layer::{At, Layered};
    /// # palisade_model::layered! { struct Memory { max: Option<At<u64>> } }
    /// # palisade_model::layered! { struct Config { memory: Memory, names: Vec<At<String>> } }
    /// assert_eq!(Config::fields(), ["memory", "names"]);
    /// ```
    fn fields() -> &'static [&'static str];
}

impl<T> Layered for Option<At<T>> {
    fn merge(&mut self, later: Self) {
        if later.is_some() {
            *self = later;
        }
    }

    fn find(&self, path: &[&str]) -> Option<Option<Origin>> {
        let value = self.as_ref().filter(|_| path.is_empty())?;
        Some(value.origin)
    }

    fn clear(&mut self, path: &[&str]) -> Result<(), PathError> {
        *self = None;
        PathError::below_value(path)
    }

    fn fields() -> &'static [&'static str] {
        &[]
    }
}

impl<T> Layered for Vec<At<T>> {
    fn merge(&mut self, later: Self) {
        self.extend(later);
    }

    fn find(&self, path: &[&str]) -> Option<Option<Origin>> {
        let first = self.first().filter(|_| path.is_empty())?;
        Some(first.origin)
    }

    fn clear(&mut self, path: &[&str]) -> Result<(), PathError> {
        Vec::clear(self);
        PathError::below_value(path)
    }

    fn fields() -> &'static [&'static str] {
        &[]
    }
}

impl<T> Layered for OneOrMany<T> {
    fn merge(&mut self, later: Self) {
        self.0.merge(later.0);
    }

    fn find(&self, path: &[&str]) -> Option<Option<Origin>> {
        self.0.find(path)
    }

    fn clear(&mut self, path: &[&str]) -> Result<(), PathError> {
        Layered::clear(&mut self.0, path)
    }

    fn fields() -> &'static [&'static str] {
        &[]
    }
}

impl<T> Layered for BTreeMap<String, At<T>> {
    fn merge(&mut self, later: Self) {
        self.extend(later);
    }

    fn find(&self, path: &[&str]) -> Option<Option<Origin>> {
        match path {
            [] => self.values().next().map(|value| value.origin),
            [key] => self.get(*key).map(|value| value.origin),
            _ => None,
        }
    }

    fn clear(&mut self, path: &[&str]) -> Result<(), PathError> {
        match path {
            [] => BTreeMap::clear(self),
            [key, rest @ ..] => {
                self.remove(*key);
                return PathError::below_value(rest);
            }
        }
        Ok(())
    }

    fn fields() -> &'static [&'static str] {
        &[]
    }
}

/// Sections by name: those of the same name are merged field by field.
impl<T: Layered> Layered for BTreeMap<String, T> {
    fn merge(&mut self, later: Self) {
        for (key, value) in later {
            self.entry(key).or_default().merge(value);
        }
    }

    fn find(&self, path: &[&str]) -> Option<Option<Origin>> {
        match path {
            // A section with nothing in it still makes a key.
            [] => self.values().next().map(|value| value.find(&[]).flatten()),
            [key] => self.get(*key).map(|value| value.find(&[]).flatten()),
            [key, rest @ ..] => self.get(*key)?.find(rest),
        }
    }

    fn clear(&mut self, path: &[&str]) -> Result<(), PathError> {
        match path {
            [] => BTreeMap::clear(self),
            [key] => drop(self.remove(*key)),
            [key, rest @ ..] => {
                let mut absent = T::default();
                return self.get_mut(*key).unwrap_or(&mut absent).clear(rest);
            }
        }
        Ok(())
    }

    fn fields() -> &'static [&'static str] {
        &[]
    }
}

/// How the layers of one section are read and put together.
trait Form {
    type Section;
    fn empty(&self) -> Self::Section;
    fn read(&self, fragment: &Fragment, vars: &Vars) -> Result<Self::Section, Diagnostic>;
    fn merge(&self, section: &mut Self::Section, later: Self::Section);
    fn find(&self, section: &Self::Section, path: &[&str]) -> Option<Option<Origin>>;
    fn clear(&self, section: &mut Self::Section, path: &[&str]) -> Result<(), PathError>;

    fn clear_dotted(&self, section: &mut Self::Section, of: &Fragment, dotted: &Dotted) -> Result<(), Diagnostic> {
        self.clear(section, &dotted.segments()).map_err(|error| error.diagnostic(of, dotted))
    }
}

/// By a type.
struct Typed<T>(PhantomData<T>);

impl<T: Layered + DeserializeOwned> Form for Typed<T> {
    type Section = T;

    fn empty(&self) -> T {
        T::default()
    }

    fn read(&self, fragment: &Fragment, vars: &Vars) -> Result<T, Diagnostic> {
        parse(fragment, vars)
    }

    fn merge(&self, section: &mut T, later: T) {
        section.merge(later);
    }

    fn find(&self, section: &T, path: &[&str]) -> Option<Option<Origin>> {
        section.find(path)
    }

    fn clear(&self, section: &mut T, path: &[&str]) -> Result<(), PathError> {
        section.clear(path)
    }
}

impl Form for Shape {
    type Section = Tree;

    fn empty(&self) -> Tree {
        Tree::of(self)
    }

    fn read(&self, fragment: &Fragment, vars: &Vars) -> Result<Tree, Diagnostic> {
        read(fragment, vars, |text| options().from_str_seed(text, self))
    }

    fn merge(&self, section: &mut Tree, later: Tree) {
        section.merge(later);
    }

    fn find(&self, section: &Tree, path: &[&str]) -> Option<Option<Origin>> {
        section.find(path)
    }

    fn clear(&self, section: &mut Tree, path: &[&str]) -> Result<(), PathError> {
        section.clear(self, path)
    }
}

/// Reads the layers of a section, base first, and merges them.
///
/// # Errors
/// A layer that cannot be read; one that touches what an earlier one locked; a `replace`, `drop`
/// or `locked` that names no field; a `replace` of what the layer does not set, a `drop` of what
/// it does.
pub fn merge_layers<T>(layers: &[Fragment], vars: &Vars) -> Result<T, Diagnostic>
where
    T: Layered + DeserializeOwned,
{
    merge_by(&Typed(PhantomData), layers, vars)
}

/// The same for a section that has a shape and no type.
///
/// # Errors
/// As [`merge_layers`].
pub fn merge_shaped(shape: &Shape, layers: &[Fragment], vars: &Vars) -> Result<Tree, Diagnostic> {
    merge_by(shape, layers, vars)
}

fn merge_by<F: Form>(form: &F, layers: &[Fragment], vars: &Vars) -> Result<F::Section, Diagnostic> {
    let mut merged = form.empty();
    let mut locks: Vec<&Dotted> = Vec::new();
    for fragment in layers {
        let layer = form.read(fragment, vars)?;
        check_locks(|path| form.find(&layer, path), fragment, &locks)?;
        for dotted in &fragment.replace {
            form.clear_dotted(&mut merged, fragment, dotted)?;
            if form.find(&layer, &dotted.segments()).is_none() {
                return Err(Diagnostic::new(format!(
                    "`replace` names `{}`, but this policy does not set it",
                    fragment.full_path(&dotted.path)
                ))
                .at_opt(dotted.origin)
                .help("set it, or use `drop` to take away what is inherited"));
            }
        }
        for dotted in &fragment.drop {
            form.clear_dotted(&mut merged, fragment, dotted)?;
            if let Some(place) = form.find(&layer, &dotted.segments()) {
                return Err(Diagnostic::new(format!(
                    "`drop` names `{}`, but this policy sets it",
                    fragment.full_path(&dotted.path)
                ))
                .at_opt(dotted.origin)
                .also("set", place)
                .help("use `replace` to put this in place of what is inherited"));
            }
        }
        for dotted in &fragment.locked {
            form.clear_dotted(&mut form.empty(), fragment, dotted)?;
        }
        form.merge(&mut merged, layer);
        locks.extend(&fragment.locked);
    }
    Ok(merged)
}

fn check_locks(
    find: impl Fn(&[&str]) -> Option<Option<Origin>>,
    fragment: &Fragment,
    locks: &[&Dotted],
) -> Result<(), Diagnostic> {
    for lock in locks {
        let path = lock.segments();
        if let Some(place) = find(&path) {
            return Err(locked(&fragment.full_path(&lock.path), lock, place));
        }
        let touched = fragment.replace.iter().chain(&fragment.drop);
        for dotted in touched {
            let other = dotted.segments();
            if path.starts_with(&other) || other.starts_with(&path) {
                return Err(locked(&fragment.full_path(&dotted.path), lock, dotted.origin));
            }
        }
    }
    Ok(())
}

/// The error for touching what is locked.
pub(crate) fn locked(path: &str, lock: &Dotted, place: Option<Origin>) -> Diagnostic {
    Diagnostic::new(format!("`{path}` is locked and cannot be changed here"))
        .at_opt(place)
        .also("locked", lock.origin)
        .help("remove this, or use another policy; a lock holds for `--set` and for every policy that extends it")
}
