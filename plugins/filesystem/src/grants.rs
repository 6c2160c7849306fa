//! Grants by meaning: `Toolchain`, `Git` and `SshAgent` expand to what this host has of it, and the step shows to what.
//!
//! They bind what lies where this host keeps it, at the same path, so that a policy holds on a host that keeps it
//! elsewhere. They change no environment variable and open no network.

use std::fs;
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::{Path, PathBuf};

use palisade_abi::units::AbsPath;
use palisade_abi::{Action, Context, Error, Evidence, Origin, Stage, Step};
use palisade_sys::fd;
use palisade_sys::host::gained_privileges;
use serde::Deserialize;

use crate::entry::{Bind, known};
use crate::heir::Heir;
use crate::planner::Planner;
use crate::source::{find, open_found};
use crate::steps::Item;
use crate::tree::{Backing, Kind, below};

/// Whose tools.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
pub(crate) enum Language {
    Rust,
    Python,
    Node,
    C,
}

impl Language {
    /// Where its tools are outside of the system's directories: the variable that says so, else below the home, and
    /// what is shown of it; all of it where nothing is listed.
    fn places(self) -> &'static [(&'static str, &'static str, &'static [&'static str])] {
        match self {
            // By their parts: beside them lie tokens (credentials.toml).
            Self::Rust => &[
                ("CARGO_HOME", ".cargo", &["bin", "env", "config", "config.toml", "registry", "git"]),
                ("RUSTUP_HOME", ".rustup", &[]),
            ],
            Self::Python => &[
                ("PYENV_ROOT", ".pyenv", &[]),
                ("UV_PYTHON_INSTALL_DIR", ".local/share/uv/python", &[]),
                ("", ".local/lib", &[]),
            ],
            Self::Node => &[
                ("NVM_DIR", ".nvm", &[]),
                ("FNM_DIR", ".local/share/fnm", &[]),
                ("VOLTA_HOME", ".volta", &["bin", "tools"]),
            ],
            Self::C => &[("CCACHE_DIR", ".cache/ccache", &[]), ("", ".ccache", &[]), ("", ".config/ccache", &[])],
        }
    }

    /// Programs of which one is enough, where the system's directories have it.
    fn programs(self) -> &'static [&'static str] {
        match self {
            Self::Rust => &["cargo", "rustc"],
            Self::Python => &["python3"],
            Self::Node => &["node", "nodejs"],
            Self::C => &["cc", "gcc", "clang"],
        }
    }
}

/// What would send git elsewhere for its settings and hooks, if it lay in `.git`.
const ELSEWHERE: [&str; 2] = ["commondir", "config.worktree"];

/// A path from the caller's environment; not where privileges were gained, as it is somebody else's word then.
fn from_environment(name: &str) -> Option<PathBuf> {
    let value = std::env::var_os(name).filter(|_| !name.is_empty() && !gained_privileges())?;
    Some(PathBuf::from(value)).filter(|path| path.is_absolute())
}

fn path_of(path: &Path) -> Result<AbsPath, Error> {
    let text = path.to_str().unwrap_or_default();
    known::<serde::de::value::Error>(text).map_err(|e| Error::host(format!("{} cannot be bound: {e}", path.display())))
}

impl Planner<'_> {
    fn home(&self) -> Option<PathBuf> {
        self.host.fact("var.home").map(PathBuf::from)
    }

    /// Whether the view shows this file of the host at its own path already.
    pub(crate) fn shown(&self, path: &Path) -> Result<bool, Error> {
        let Some((real, _)) = find(path)? else { return Ok(false) };
        let inside = self.tree.resolve(path.to_str().unwrap_or_default())?;
        let (at, backing) = self.tree.backing(&inside);
        let Backing::Host(source) = backing else { return Ok(false) };
        Ok(source.join(below(&inside, at).unwrap_or_default()) == real)
    }

    /// Adds a bind at its own path to a grant. The caller has seen it there: if it is gone, something removes it while
    /// palisade starts, and a grant without what it protects would be wider than it says.
    pub(crate) fn grant(
        &mut self,
        item: &mut Item,
        path: &Path,
        write: bool,
        origin: Option<Origin>,
    ) -> Result<(), Error> {
        let from = path_of(path)?;
        let idmap = self.idmap_at(from.as_str());
        self.grant_bind(item, &Bind { write, idmap, ..Bind::read_only(from.clone(), from) }, origin)
    }

    fn grant_bind(&mut self, item: &mut Item, bind: &Bind, origin: Option<Origin>) -> Result<(), Error> {
        let bound = self.bind(bind, origin)?;
        item.ops.extend(bound.ops);
        item.expected.extend(bound.expected);
        Ok(())
    }

    /// The tools for a language, read-only.
    pub(crate) fn toolchain(
        &mut self,
        language: Language,
        optional: bool,
        origin: Option<Origin>,
    ) -> Result<Item, Error> {
        let why = "as this host has it; credentials beside it are not shown, no variable is changed".to_owned();
        let mut item = Item { words: String::new(), why, ops: Vec::new(), expected: Vec::new() };
        let (mut new, mut old, mut looked) = (Vec::new(), Vec::new(), Vec::new());
        for (variable, below_home, parts) in language.places() {
            let default = self.home().map(|home| home.join(below_home));
            let Some(top) = from_environment(variable).or(default) else { continue };
            self.part_of_home(variable, &top)?;
            looked.push(top.display().to_string());
            let all: Vec<PathBuf> =
                if parts.is_empty() { vec![top] } else { parts.iter().map(|part| top.join(part)).collect() };
            for path in all.iter().filter(|path| path.exists() && !holds_token(path)) {
                if self.shown(path)? {
                    old.push(path.display().to_string());
                } else {
                    self.grant(&mut item, path, false, origin)?;
                    new.push(path.display().to_string());
                }
            }
        }
        for program in language.programs() {
            for dir in ["/usr/local/bin", "/usr/bin"] {
                let path = Path::new(dir).join(program);
                // Where a link of the distribution leads out of the system, it is not there.
                if self.shown_through_links(&path) {
                    old.push(path.display().to_string());
                }
            }
        }
        item.words = match (new.is_empty(), old.is_empty()) {
            (true, true) if optional => format!("leaves the tool chain {language:?} out, which is not there"),
            (true, true) => {
                let message = format!("there is no tool chain {language:?}: not in {}", looked.join(", "));
                return Err(Error::host(format!("{message}, and none in the system's directories")).help(format!(
                    "install it, put it behind System, or write Toolchain(language: {language:?}, optional: true)"
                )));
            }
            (true, false) => format!("grants the tool chain {language:?}: shown already are {}", old.join(", ")),
            (false, true) => format!("grants the tool chain {language:?}: {} read-only", new.join(", ")),
            (false, false) => {
                let new = new.join(", ");
                format!("grants the tool chain {language:?}: {new} read-only; shown already are {}", old.join(", "))
            }
        };
        Ok(item)
    }

    /// Refuses a place of tools that holds the whole home, keys and all.
    fn part_of_home(&self, variable: &str, top: &Path) -> Result<(), Error> {
        let real = find(top).ok().flatten().map_or_else(|| top.to_owned(), |(real, _)| real);
        let home = self.home().filter(|home| home.starts_with(top) || home.starts_with(&real));
        home.map_or(Ok(()), |home| {
            Err(Error::host(format!("{variable} is {}, which holds all of {}", top.display(), home.display()))
                .help(format!("let {variable} name a directory that holds the tools and nothing else")))
        })
    }

    /// As `shown`, of the file that a program's links end at.
    fn shown_through_links(&self, path: &Path) -> bool {
        path.exists() && find(path).ok().flatten().is_some_and(|(real, _)| self.shown(&real).unwrap_or(false))
    }

    /// The caller's own settings of git, read-only, where nothing shows them yet; gives what is to be said of it.
    fn git_settings(&mut self, item: &mut Item, repo: &AbsPath, origin: Option<Origin>) -> Result<String, Error> {
        let path = self.home().map(|home| home.join(".gitconfig")).filter(|path| path.is_file());
        let Some(path) = path else { return Ok(String::new()) };
        if self.shown(&path)? {
            return Ok(String::new());
        }
        // Whoever the repository is shown to as its owner reads what the owner does.
        let (idmap, from) = (self.idmap_at(repo.as_str()), path_of(&path)?);
        self.grant_bind(item, &Bind { idmap, ..Bind::read_only(from.clone(), from) }, origin)?;
        Ok(format!("; {} read-only", path.display()))
    }

    /// A repository: everything in it read-write, but for what git runs.
    pub(crate) fn git(&mut self, repo: &AbsPath, optional: bool, origin: Option<Origin>) -> Result<Item, Error> {
        let top = PathBuf::from(repo.as_str());
        let git = top.join(".git");
        let why = "git runs what hooks and settings say, later and outside; a commit needs neither".to_owned();
        let mut item = Item { words: String::new(), why, ops: Vec::new(), expected: Vec::new() };
        let Ok(facts) = fs::symlink_metadata(&git) else {
            if optional {
                item.words = format!("leaves the repository {repo} out, which is not there");
                return Ok(item);
            }
            return Err(Error::host(format!("{repo} is no git repository: there is no {}", git.display()))
                .help("name its top directory, or git init there"));
        };
        if !facts.is_dir() {
            if !(optional && facts.is_file()) {
                return Err(Error::policy(format!("{} is no directory", git.display())).help(
                    "a worktree or submodule has its settings elsewhere; name the repository that it belongs to",
                ));
            }
            self.grant(&mut item, &top, true, origin)?;
            self.grant(&mut item, &git, false, origin)?;
            item.words =
                format!("grants the worktree {repo} read-write, in it .git read-only; its repository is not shown");
            return Ok(item);
        }
        for name in ["hooks", "config"] {
            if !git.join(name).exists() {
                return Err(Error::host(format!("there is no {name} in {} to be protected", git.display()))
                    .help(format!("make it: the workload could; `git init {repo}` does no harm")));
            }
        }
        self.grant(&mut item, &top, true, origin)?;
        // A mount of its own, so that it cannot be renamed and another one put in its place.
        self.grant(&mut item, &git, true, origin)?;
        let mut fixed = Vec::new();
        for name in ["hooks", "config", "modules", "worktrees"] {
            if git.join(name).exists() {
                self.grant(&mut item, &git.join(name), false, origin)?;
                fixed.push(format!(".git/{name}"));
            }
        }
        let also = self.git_settings(&mut item, repo, origin)?;
        item.words = format!("grants the repository {repo} read-write, in it {} read-only{also}", fixed.join(", "));
        let Some((git, Kind::Dir)) = find(&git)? else {
            return Err(Error::host(format!("there is no {} any more", git.display())));
        };
        let words = format!("looks for what sends git elsewhere in {}: {}", git.display(), ELSEWHERE.join(", "));
        let step = Step::new(Stage::Attach, words, Elsewhere { git, dir: None, absent: Vec::new(), heir: None })
            .why("what the workload makes of it is removed when it has ended, before anybody runs git there")
            .origin(origin);
        self.before.push(step);
        Ok(item)
    }

    /// The socket of the caller's SSH agent, and no key.
    pub(crate) fn ssh_agent(&mut self, optional: bool, origin: Option<Origin>) -> Result<Item, Error> {
        let why = "the keys stay with the agent; while the workload runs it can have it sign".to_owned();
        let mut item = Item { words: String::new(), why, ops: Vec::new(), expected: Vec::new() };
        let Some(path) = from_environment("SSH_AUTH_SOCK").filter(|path| path.exists()) else {
            if optional {
                "leaves the SSH agent out, which is not there".clone_into(&mut item.words);
                return Ok(item);
            }
            return Err(Error::host("there is no SSH agent: SSH_AUTH_SOCK names no socket")
                .help("eval \"$(ssh-agent)\" and ssh-add, or write SshAgent(optional: true)"));
        };
        let facts = fs::metadata(&path)?;
        if !facts.file_type().is_socket() || facts.uid() != self.host.uid()? {
            return Err(Error::host(format!("{} is no socket of yours", path.display()))
                .help("SSH_AUTH_SOCK must name the socket of your own agent"));
        }
        self.grant(&mut item, &path, false, origin)?;
        item.words = format!("grants the SSH agent: its socket {}, and no file of ~/.ssh", path.display());
        Ok(item)
    }
}

/// Old settings of cargo may hold a token; such a file is left out.
fn holds_token(path: &Path) -> bool {
    let config = path.file_name().is_some_and(|name| name == "config" || name == "config.toml");
    config && path.is_file() && fs::read_to_string(path).map_or(true, |text| text.contains("token"))
}

/// Removes what a workload put beside its repository's settings to be read instead of them.
struct Elsewhere {
    git: PathBuf,
    /// Open from the beginning, so that what is removed lies in this directory, whatever has its name by then.
    dir: Option<OwnedFd>,
    absent: Vec<&'static str>,
    /// Who removes it if this process cannot.
    heir: Option<Heir>,
}

impl Action for Elsewhere {
    fn apply(&mut self, context: &mut Context<'_>) -> Result<Evidence, Error> {
        let dir = open_found(&self.git, fd::O_DIRECTORY)?;
        let inside = fd::proc_fd_path(&dir);
        self.absent = ELSEWHERE.into_iter().filter(|name| fs::symlink_metadata(inside.join(name)).is_err()).collect();
        let clear = || self.absent.iter().all(|name| remove(&dir, name).is_ok());
        self.heir = Some(Heir::appoint(context.init_pid()?, &[dir.as_raw_fd()], clear)?);
        self.dir = Some(dir);
        Ok(Evidence::default())
    }

    fn undo(&mut self, _context: &mut Context<'_>) -> Result<(), Error> {
        let Some(dir) = self.dir.take() else { return Ok(()) };
        let mut failed = None;
        for name in std::mem::take(&mut self.absent) {
            if let Err(e) = remove(&dir, name) {
                let shown = self.git.join(name);
                let error = Error::setup(format!("the workload left {}, which sends git elsewhere", shown.display()))
                    .call(format!("unlink({}): {e}", shown.display()), e.raw_os_error().unwrap_or(0))
                    .help("remove it before you run git there");
                failed = failed.or(Some(error));
            }
        }
        if let Some(heir) = self.heir.take() {
            heir.dismiss();
        }
        failed.map_or(Ok(()), Err)
    }
}

/// Removes what has a name in a directory, if anything has.
fn remove(dir: &OwnedFd, name: &str) -> std::io::Result<()> {
    let path = fd::proc_fd_path(dir).join(name);
    match fs::symlink_metadata(&path) {
        Ok(facts) if facts.is_dir() => fs::remove_dir_all(&path),
        Ok(_) => fs::remove_file(&path),
        Err(_gone) => Ok(()),
    }
}
