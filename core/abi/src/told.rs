//! What a plugin tells palisade: what the host offers, what was used, which limits were hit, what is denied.

use palisade_model::diag::Origin;
use palisade_model::severity::Severity;
use std::collections::BTreeMap;

/// How much of a feature a host has.
///
/// ```
/// # use palisade_abi::{Finding, Support};
/// let found = if std::path::Path::new("/proc/self/timens_offsets").exists() { Support::Full } else { Support::Missing };
/// # let _ = Finding { feature: String::new(), support: found, detail: String::new(), remedy: String::new() };
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Support {
    /// All of it.
    Full,
    /// Some of it; the finding's detail says what is missing.
    Partial,
    /// None.
    Missing,
}

/// What a plugin found out about one thing that it needs.
///
/// ```
/// # use palisade_abi::{Finding, Support};
/// let finding = Finding {
///     feature: "core scheduling".to_owned(),
///     support: Support::Missing,
///     detail: "Linux 5.10".to_owned(),
///     remedy: "Linux 5.14 has it".to_owned(),
/// };
/// # let _ = finding;
/// ```
#[derive(Clone, Debug)]
pub struct Finding {
    /// The feature, in the field's words.
    pub feature: String,
    /// How much of it is there.
    pub support: Support,
    /// What was seen: a version, a path, an errno.
    pub detail: String,
    /// What to do to get it; empty where nothing is to be done.
    pub remedy: String,
}

/// What a run that is over left on the host.
///
/// ```
/// # use palisade_abi::Left;
/// let left = Left { what: "/run/mine/x1".to_owned(), removed: false, why: "somebody has it open".to_owned() };
/// # let _ = left;
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Left {
    /// What it is and where, in one line.
    pub what: String,
    /// Whether it is gone now.
    pub removed: bool,
    /// Why it could not be removed; empty where it was, or was not to be.
    pub why: String,
}

/// What runs that are over changed in a tree of the host, where the change was kept and the tree was not touched.
///
/// ```
/// # use palisade_abi::{Change, Changed};
/// let change = Change {
///     tree: "/src".to_owned(),
///     path: "/src/new".to_owned(),
///     what: Changed::Changed,
///     from: Some("/src/old".to_owned()),
/// };
/// # let _ = change;
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Change {
    /// The tree.
    pub tree: String,
    /// The name in the workload's view of files.
    pub path: String,
    /// What became of it.
    pub what: Changed,
    /// The name that it had before, where it was moved.
    pub from: Option<String>,
}

/// What became of a name.
///
/// ```
/// # use palisade_abi::Changed;
/// assert_ne!(Changed::Added, Changed::Removed);
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Changed {
    /// It is new.
    Added,
    /// It is another file, or has other content, another owner or mode.
    Changed,
    /// It is gone.
    Removed,
}

impl Changed {
    /// In one word.
    ///
    /// ```
    /// # use palisade_abi::Changed;
    /// assert_eq!(Changed::Added.name(), "added");
    /// ```
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Added => "added",
            Self::Changed => "changed",
            Self::Removed => "removed",
        }
    }
}

/// Something that a plugin claims to stop, as a command that tries it. `palisade probe` runs it twice, outside as the
/// caller and inside as the workload; it worked where its standard output holds the token of the run, which stands for
/// `{token}` in the arguments. So it is to print that only if it worked. Since seam 1.1.
///
/// ```
/// # use palisade_abi::{Attempt, Severity};
/// let attempt = Attempt {
///     id: "rename-host".to_owned(),
///     severity: Severity::Medium,
///     attempts: "sets the host name".to_owned(),
///     layers: "the uts namespace, or a filter".to_owned(),
///     needs: "CAP_SYS_ADMIN".to_owned(),
///     harmless: "it sets the name that it has already".to_owned(),
///     argv: ["sh", "-c", "hostname \"$(hostname)\" && echo {token}"].map(str::to_owned).to_vec(),
/// };
/// # let _ = attempt;
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Attempt {
    /// Its name: lower-case letters, digits and `-`. It is shown behind the plugin's and a dot.
    pub id: String,
    /// How bad it would be.
    pub severity: Severity,
    /// What is attempted, in one line.
    pub attempts: String,
    /// What should stop it.
    pub layers: String,
    /// What it needs to work without a policy; empty where nothing.
    pub needs: String,
    /// Why nothing happens where it works. It runs outside too, with the caller's rights.
    pub harmless: String,
    /// The command and its arguments.
    pub argv: Vec<String>,
}

/// What an isolator says when the workload has ended.
///
/// ```
/// # use palisade_abi::{Finish, Hit};
/// let finish = Finish { figures: vec![("names_asked_count".to_owned(), 3)], ..Finish::default() };
/// assert!(finish.hits.is_empty());
/// ```
#[derive(Clone, Debug, Default)]
pub struct Finish {
    /// Figures by name; the name ends in its unit (`memory_peak_bytes`).
    pub figures: Vec<(String, u64)>,
    /// Limits that the workload ran into.
    pub hits: Vec<Hit>,
}

/// A limit that the workload ran into.
///
/// ```
/// # use palisade_abi::Hit;
/// let hit = Hit {
///     limit: "names.max".to_owned(),
///     words: "it asked for more names than it may\nraise names.max".to_owned(),
///     ended_it: false,
///     origin: None,
/// };
/// # let _ = hit;
/// ```
#[derive(Clone, Debug)]
pub struct Hit {
    /// The limit's name (`memory.max`).
    pub limit: String,
    /// What happened, in one line of words; a second line, where there is one, says what can be done about it.
    pub words: String,
    /// Whether it is what ended the workload.
    pub ended_it: bool,
    /// The policy line that set it.
    pub origin: Option<Origin>,
}

/// Something that the workload asks the kernel for, seen before it is done: named facts, of which an isolator reads
/// those that it knows. Since seam 1.1.
///
/// | fact | what it is |
/// |---|---|
/// | `call` | the system call, by name |
/// | `pid` | the process that asks, as the host numbers it |
/// | `arguments` | the call's six arguments as numbers, with blanks between |
/// | `path` | the file that it is about, absolute, as the workload sees it; links are not followed |
/// | `to` | what is wanted of it, one or more of `look`, `read`, `write`, `truncate`, `execute`, `make`, `remove`, `own` (to give it to somebody), `connect`, `bind`, with blanks between |
/// | `kind` | what `make` makes or `remove` removes: `file`, `directory`, `link`, `fifo`, `socket`, `device` |
/// | `address` | an internet address, with `port`, and `protocol` (`tcp` or `udp`) where it is known |
/// | `signal` | instead of all these: the number of the signal that ended the workload |
///
/// What stands behind a pointer can be changed by the workload at any time, so it is good for an explanation and never
/// for a decision.
///
/// ```
/// # use palisade_abi::Act;
/// let act = Act::new([("call", "openat"), ("path", "/etc/shadow"), ("to", "read")]);
/// assert!(act.wants("read") && !act.wants("write"));
/// ```
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Act(pub(crate) BTreeMap<String, String>);

impl Act {
    /// Makes one from named facts.
    ///
    /// ```
    /// # use palisade_abi::Act;
    /// let act = Act::new([("signal", "31")]);
    /// assert_eq!(act.number("signal"), Some(31));
    /// ```
    pub fn new<K: Into<String>, V: Into<String>>(facts: impl IntoIterator<Item = (K, V)>) -> Self {
        Self(facts.into_iter().map(|(name, fact)| (name.into(), fact.into())).collect())
    }

    /// Adds a fact.
    ///
    /// ```
    /// # use palisade_abi::Act;
    /// let act = Act::default().with("call", "connect").with("port", "443");
    /// assert_eq!(act.fact("call"), Some("connect"));
    /// ```
    #[must_use]
    pub fn with(mut self, name: &str, fact: impl Into<String>) -> Self {
        self.0.insert(name.to_owned(), fact.into());
        self
    }

    /// Gives a fact by name.
    ///
    /// ```
    /// # use palisade_abi::Act;
    /// assert_eq!(Act::new([("call", "openat")]).fact("path"), None);
    /// ```
    #[must_use]
    pub fn fact(&self, name: &str) -> Option<&str> {
        self.0.get(name).map(String::as_str)
    }

    /// Gives a fact that is a number.
    ///
    /// ```
    /// # use palisade_abi::Act;
    /// assert_eq!(Act::new([("pid", "12")]).number("pid"), Some(12));
    /// assert_eq!(Act::new([("path", "/etc")]).number("path"), None);
    /// ```
    #[must_use]
    pub fn number(&self, name: &str) -> Option<i64> {
        self.fact(name)?.parse().ok()
    }

    /// Gives an argument of the call by its place, from 0 on: the low half, as most calls take it.
    ///
    /// ```
    /// # use palisade_abi::Act;
    /// let act = Act::new([("call", "setuid"), ("arguments", "4294967296 7")]);
    /// assert_eq!((act.argument(0), act.argument(1), act.argument(2)), (Some(0), Some(7), None));
    /// ```
    #[must_use]
    pub fn argument(&self, place: usize) -> Option<u32> {
        let number: u64 = self.fact("arguments")?.split(' ').nth(place)?.parse().ok()?;
        u32::try_from(number & u64::from(u32::MAX)).ok()
    }

    /// Says whether this is wanted of the file.
    ///
    /// ```
    /// # use palisade_abi::Act;
    /// let act = Act::new([("to", "read write")]);
    /// assert!(act.wants("write") && !act.wants("execute"));
    /// ```
    #[must_use]
    pub fn wants(&self, what: &str) -> bool {
        self.fact("to").is_some_and(|all| all.split(' ').any(|one| one == what))
    }
}

/// Why an isolator does not let the workload do something. Since seam 1.1.
///
/// ```
/// # use palisade_abi::Denial;
/// let denial = Denial {
///     answer: "EPERM".to_owned(),
///     why: "no host name may be set".to_owned(),
///     help: "\"mine\": (rename: Allow)".to_owned(),
///     seen: true,
///     ..Denial::default()
/// };
/// assert_eq!(denial.origin, None);
/// ```
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Denial {
    /// What the workload gets: the errno by name, or a signal.
    pub answer: String,
    /// Why, in one line of words.
    pub why: String,
    /// What to write into the policy so that it is allowed; empty where nothing can be.
    pub help: String,
    /// The policy line that denies it, or that would have to grant it.
    pub origin: Option<Origin>,
    /// Whether it was seen to be denied; else it follows from the policy, and the kernel was not asked.
    pub seen: bool,
}
