//! Finding policies: by name in the directories and among those that are built in, by path only where the
//! argument holds a `/`.

use crate::error::{Kind, Trouble};
use crate::places::Places;
use crate::plugins::sha256;
use palisade_model::diag::{Diagnostic, SourceId, Sources, suggest};
use palisade_model::report::FileReport;
use palisade_model::resolve::{Found, Request, Resolved, resolve};
use palisade_model::vars::Vars;
use palisade_sys::trust::open_trusted;
use std::io::Read as _;
use std::path::{Path, PathBuf};

/// The policies that ship: data, compiled in, so that they are there wherever the program is.
pub const SHIPPED: &[(&str, &str)] = &[
    ("agent-shell", include_str!("../../../policies/agent-shell.ron")),
    ("archive-extract", include_str!("../../../policies/archive-extract.ron")),
    ("base", include_str!("../../../policies/base.ron")),
    ("build", include_str!("../../../policies/build.ron")),
    ("cargo-build", include_str!("../../../policies/cargo-build.ron")),
    ("cargo-fetch", include_str!("../../../policies/cargo-fetch.ron")),
    ("ci-job", include_str!("../../../policies/ci-job.ron")),
    ("code-interpreter", include_str!("../../../policies/code-interpreter.ron")),
    ("compile-c", include_str!("../../../policies/compile-c.ron")),
    ("container", include_str!("../../../policies/container.ron")),
    ("default", include_str!("../../../policies/default.ron")),
    ("fuzz-target", include_str!("../../../policies/fuzz-target.ron")),
    ("headless-chromium", include_str!("../../../policies/headless-chromium.ron")),
    ("judge", include_str!("../../../policies/judge.ron")),
    ("judge-compile", include_str!("../../../policies/judge-compile.ron")),
    ("judge-run", include_str!("../../../policies/judge-run.ron")),
    ("latex", include_str!("../../../policies/latex.ron")),
    ("mcp-server", include_str!("../../../policies/mcp-server.ron")),
    ("media-convert", include_str!("../../../policies/media-convert.ron")),
    ("net-service", include_str!("../../../policies/net-service.ron")),
    ("npm-install", include_str!("../../../policies/npm-install.ron")),
    ("observe", include_str!("../../../policies/observe.ron")),
    ("offline", include_str!("../../../policies/offline.ron")),
    ("parse-document", include_str!("../../../policies/parse-document.ron")),
    ("pip-install", include_str!("../../../policies/pip-install.ron")),
    ("plugin-host", include_str!("../../../policies/plugin-host.ron")),
    ("untrusted", include_str!("../../../policies/untrusted.ron")),
    ("untrusted-binary", include_str!("../../../policies/untrusted-binary.ron")),
];

/// Longer than any policy: what is larger is not read.
const LARGEST: u64 = 1 << 20;

/// A policy's text with its place, and what the caller adds to it.
#[derive(Clone, Debug)]
pub struct Policy {
    /// The name or path that was asked for.
    pub name: String,
    pub(crate) sources: Sources,
    pub(crate) top: SourceId,
    pub(crate) sets: Vec<String>,
    pub(crate) vars: Vec<(String, String)>,
}

impl Policy {
    /// Makes a policy from text, for callers that have it in memory.
    #[must_use]
    pub fn from_text(name: impl Into<String>, text: impl Into<String>) -> Self {
        let name = name.into();
        let mut sources = Sources::default();
        let top = sources.add(name.clone(), text);
        Self { name, sources, top, sets: Vec::new(), vars: Vec::new() }
    }

    /// Adds a layer: `cgroups.memory.max=1GiB`.
    #[must_use]
    pub fn set(mut self, assignment: impl Into<String>) -> Self {
        self.sets.push(assignment.into());
        self
    }

    /// Defines a variable.
    #[must_use]
    pub fn var(mut self, name: impl Into<String>, value: impl Into<String>) -> Self {
        self.vars.push((name.into(), value.into()));
        self
    }

    /// Its text.
    #[must_use]
    pub fn text(&self) -> &str {
        self.sources.text(self.top)
    }
}

/// Where a named policy stands.
#[derive(Clone, Debug)]
pub struct Listed {
    /// Its name.
    pub name: String,
    /// The file, or nothing where it is built in.
    pub path: Option<PathBuf>,
}

/// Loads a policy by name, or by path where `name` holds a `/`.
///
/// # Errors
/// There is none, or its file is not trusted.
pub(crate) fn load(places: &Places, name: &str) -> Result<Policy, Trouble> {
    let found = if name.contains('/') {
        read_file(Path::new(name)).map_err(|why| Trouble::new(Kind::Policy, why))?
    } else {
        find(places, name).map_err(|d| {
            let trouble = Trouble::new(Kind::Policy, d.message);
            trouble.row("help", d.help.unwrap_or_default())
        })?
    };
    let mut policy = Policy::from_text(found.name, found.text);
    policy.name = name.to_owned();
    Ok(policy)
}

/// Resolves `extends`, `--set` and variables.
///
/// # Errors
/// A diagnostic that points at the line.
pub(crate) fn resolve_policy(places: &Places, policy: &Policy, vars: &Vars) -> Result<(Resolved, Sources), Trouble> {
    let mut sources = policy.sources.clone();
    let request = Request { policy: policy.top, sets: policy.sets.clone(), vars };
    match resolve(&mut sources, request, &mut |name| find(places, name)) {
        Ok(resolved) => Ok((resolved, sources)),
        Err(diagnostic) => Err(Trouble::diagnostic(Kind::Policy, &diagnostic, &sources)),
    }
}

/// The files of a policy with their digests, base first.
pub(crate) fn files(resolved: &Resolved, sources: &Sources) -> Vec<FileReport> {
    let file =
        |id: &SourceId| FileReport { name: sources.name(*id).to_owned(), sha256: sha256(sources.text(*id).as_bytes()) };
    resolved.chain.iter().map(file).collect()
}

/// All policies that can be found by name; the first of a name counts.
#[must_use]
pub(crate) fn list(places: &Places) -> Vec<Listed> {
    let mut all: Vec<Listed> = Vec::new();
    for dir in places.policies() {
        let Ok(entries) = std::fs::read_dir(&dir) else { continue };
        for path in entries.flatten().map(|e| e.path()) {
            if path.extension().is_some_and(|e| e == "ron") {
                let name = path.file_stem().map(|s| s.to_string_lossy().into_owned());
                all.extend(name.map(|name| Listed { name, path: Some(path) }));
            }
        }
    }
    all.extend(SHIPPED.iter().map(|(name, _)| Listed { name: (*name).to_owned(), path: None }));
    let mut seen = std::collections::BTreeSet::new();
    all.retain(|listed| seen.insert(listed.name.clone()));
    all.sort_by(|a, b| a.name.cmp(&b.name));
    all
}

fn find(places: &Places, name: &str) -> Result<Found, Diagnostic> {
    let plain = |c: char| c.is_ascii_alphanumeric() || c == '-' || c == '_';
    if name.is_empty() || !name.chars().all(plain) {
        return Err(Diagnostic::new(format!("`{name}` is no policy name"))
            .help("a name has letters, digits, `-` and `_`; a file is named by a path with a `/`"));
    }
    for dir in places.policies() {
        let path = dir.join(format!("{name}.ron"));
        if path.symlink_metadata().is_ok() {
            return read_trusted(&path).map_err(Diagnostic::new);
        }
    }
    match SHIPPED.iter().find(|(shipped, _)| *shipped == name) {
        Some((_, text)) => Ok(Found { name: format!("policies/{name}.ron"), text: (*text).to_owned() }),
        None => {
            let listed = list(places);
            let known: Vec<&str> = listed.iter().map(|l| l.name.as_str()).collect();
            Err(Diagnostic::new(format!("there is no policy `{name}`")).help(suggest(name, &known)))
        }
    }
}

/// A file that is found by name must be one that only root or the caller can have written.
fn read_trusted(path: &Path) -> Result<Found, String> {
    let absolute = std::path::absolute(path).map_err(|e| format!("{}: {e}", path.display()))?;
    let owners = [0, palisade_sys::process::euid()];
    let file = open_trusted(&absolute, &owners)
        .map_err(|e| format!("{} is not trusted: {e}; {}", path.display(), e.remedy()))?;
    read(path, std::fs::File::from(file))
}

/// A file that the caller named by its path is the caller's choice.
fn read_file(path: &Path) -> Result<Found, String> {
    let file = std::fs::File::open(path).map_err(|e| format!("{}: {e}", path.display()))?;
    read(path, file)
}

fn read(path: &Path, file: std::fs::File) -> Result<Found, String> {
    let name = path.display().to_string();
    let mut bytes = Vec::new();
    file.take(LARGEST + 1).read_to_end(&mut bytes).map_err(|e| format!("{name}: {e}"))?;
    if bytes.len() as u64 > LARGEST {
        return Err(format!("{name} is larger than 1 MiB: no policy"));
    }
    let text = String::from_utf8(bytes).map_err(|_not_text| format!("{name} is not UTF-8 text"))?;
    Ok(Found { name, text })
}
