//! One kind of error for everything that ends a launch, rendered once, at the top.

use palisade_abi::ErrorKind;
use palisade_model::diag::{Diagnostic, Origin, Sources};
use palisade_model::exit::ExitCode;
use palisade_model::stage::Stage;
use std::fmt;

/// What kind of trouble; it decides the exit code.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// The caller asked for something impossible.
    Usage,
    /// The policy is wrong.
    Policy,
    /// A plugin is missing, not trusted, not compatible, or broken.
    Plugin,
    /// The host cannot give what the policy requires.
    Host,
    /// The isolation could not be set up.
    Setup,
    /// The command does not exist in the workload's view.
    NotFound,
    /// The command exists and cannot be executed.
    NotExecutable,
}

impl Kind {
    /// palisade's exit code for this kind.
    #[must_use]
    pub const fn exit_code(self) -> u8 {
        match self {
            Self::Usage => ExitCode::USAGE,
            Self::Policy => ExitCode::POLICY,
            Self::Plugin => ExitCode::PLUGIN,
            Self::Host => ExitCode::HOST,
            Self::Setup => ExitCode::SETUP,
            Self::NotFound => ExitCode::NOT_FOUND,
            Self::NotExecutable => ExitCode::NOT_EXECUTABLE,
        }
    }
}

impl From<ErrorKind> for Kind {
    fn from(kind: ErrorKind) -> Self {
        match kind {
            ErrorKind::Policy => Self::Policy,
            ErrorKind::Host => Self::Host,
            ErrorKind::Setup => Self::Setup,
            ErrorKind::Plugin => Self::Plugin,
        }
    }
}

/// Why a launch did not happen.
#[derive(Clone, Debug)]
pub struct Trouble {
    /// What kind.
    pub kind: Kind,
    /// Whose fault or step; empty for palisade itself.
    pub plugin: String,
    /// What could not be done, in words.
    pub message: String,
    /// Labelled lines: `policy`, `step`, `call`, `host`, `file`, `help`.
    pub rows: Vec<(&'static str, String)>,
    /// The stage of the step that failed, where it was a step.
    pub stage: Option<Stage>,
    /// A diagnostic with its source line and caret, where the policy is to blame.
    snippet: Option<Box<(Diagnostic, Sources)>>,
}

impl Trouble {
    /// Makes a trouble of palisade's own.
    pub fn new(kind: Kind, message: impl Into<String>) -> Self {
        Self { kind, plugin: String::new(), message: message.into(), rows: Vec::new(), stage: None, snippet: None }
    }

    /// Says whose it is.
    #[must_use]
    pub fn of(mut self, plugin: impl Into<String>) -> Self {
        self.plugin = plugin.into();
        self
    }

    /// Adds a labelled line, unless it is empty.
    #[must_use]
    pub fn row(mut self, label: &'static str, text: impl Into<String>) -> Self {
        let text = text.into();
        if !text.is_empty() {
            // Further lines stand below the first one, not below the labels.
            self.rows.push((label, text.replace('\n', "\n          ")));
        }
        self
    }

    /// A wrong policy, shown with its source line.
    #[must_use]
    pub fn diagnostic(kind: Kind, diagnostic: &Diagnostic, sources: &Sources) -> Self {
        let mut this = Self::new(kind, diagnostic.message.clone());
        this.snippet = Some(Box::new((diagnostic.clone(), sources.clone())));
        this
    }

    /// An error of a plugin. A policy error shows the line with a caret, every other names the line.
    #[must_use]
    pub fn from_plugin(plugin: &str, error: palisade_abi::Error, origin: Option<Origin>, sources: &Sources) -> Self {
        let origin = error.origin.or(origin);
        if error.kind == ErrorKind::Policy && origin.is_some() {
            let mut diagnostic = Diagnostic::new(error.message.clone()).at_opt(origin);
            if !error.help.is_empty() {
                diagnostic = diagnostic.help(error.help);
            }
            return Self::diagnostic(Kind::Policy, &diagnostic, sources).of(plugin);
        }
        let hint = palisade_sys::hints::lookup_raw(error.errno, &error.call).unwrap_or_default();
        let help = if error.help.is_empty() { hint.to_owned() } else { error.help };
        Self::new(error.kind.into(), error.message)
            .of(plugin)
            .row("policy", origin.map(|o| sources.locate(o)).unwrap_or_default())
            .row("call", error.call)
            .row("help", help)
    }

    /// A call to the kernel that failed outside any plugin.
    #[must_use]
    pub fn call(message: impl Into<String>, error: &palisade_sys::Error) -> Self {
        Self::new(Kind::Setup, message).row("call", error.to_string()).row("help", error.hint().unwrap_or_default())
    }

    /// The diagnostic with its policy text, where the policy is to blame: for who shows it in colour.
    #[must_use]
    pub fn snippet(&self) -> Option<(&Diagnostic, &Sources)> {
        self.snippet.as_deref().map(|(diagnostic, sources)| (diagnostic, sources))
    }

    /// The message in one line, with the plugin's name.
    #[must_use]
    pub fn headline(&self) -> String {
        match (self.plugin.as_str(), self.message.is_empty()) {
            ("", _) => self.message.clone(),
            (plugin, true) => plugin.to_owned(),
            (plugin, false) => format!("{plugin}: {}", self.message),
        }
    }
}

impl fmt::Display for Trouble {
    /// All of it, over several lines and without a line break at the end.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(snippet) = &self.snippet {
            return write!(f, "{}", snippet.0.render(&snippet.1).trim_end());
        }
        write!(f, "error: {}", self.headline())?;
        for (label, text) in &self.rows {
            write!(f, "\n  {label:7} {text}")?;
        }
        Ok(())
    }
}

impl std::error::Error for Trouble {}
