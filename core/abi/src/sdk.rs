//! The steps that a plugin makes.

use crate::action::{Action, Context, Evidence};
use crate::error::Error;
use crate::ready::Ready;
use palisade_model::diag::Origin;
use palisade_model::plan::Demand;
use palisade_model::stage::Stage;
use std::fmt;

/// One thing to do.
///
/// ```
/// # use palisade_abi::{Action, At, Context, Demand, Error, Evidence, Stage, Step};
/// # struct Name(String);
/// # impl Action for Name {
/// #     fn apply(&mut self, _context: &mut Context<'_>) -> Result<Evidence, Error> { Ok(Evidence::default()) }
/// # }
/// # let name = At::new("fence".to_owned());
/// let step = Step::new(Stage::Build, format!("sets the host name `{}`", name.value), Name(name.value))
///     .origin(name.origin)
///     .why("what reports its host's name says this one")
///     .after("namespaces")
///     .witnessed(true);
/// assert_eq!(format!("{step:?}"), "build: sets the host name `fence`");
/// ```
pub struct Step {
    pub(crate) stage: Stage,
    pub(crate) words: String,
    pub(crate) why: String,
    pub(crate) origin: Option<Origin>,
    pub(crate) demand: Demand,
    pub(crate) after: Vec<String>,
    pub(crate) clone_flags: u64,
    pub(crate) concurrent: bool,
    pub(crate) witnessed: bool,
    pub(crate) ready: Option<String>,
    pub(crate) action: Box<dyn Action>,
}

impl fmt::Debug for Step {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.stage, self.words)
    }
}

impl Step {
    /// Makes a step: its stage, one line in words, and what it does.
    ///
    /// ```
    /// # use palisade_abi::{Action, At, Context, Demand, Error, Evidence, Stage, Step};
    /// # struct Name(String);
    /// # impl Action for Name {
    /// #     fn apply(&mut self, _context: &mut Context<'_>) -> Result<Evidence, Error> { Ok(Evidence::default()) }
    /// # }
    /// # let name = At::new("fence".to_owned());
    /// let step = Step::new(Stage::Build, "sets the host name", Name(name.value));
    /// # let _ = step;
    /// ```
    pub fn new(stage: Stage, words: impl Into<String>, action: impl Action + 'static) -> Self {
        Self {
            stage,
            words: words.into(),
            why: String::new(),
            origin: None,
            demand: Demand::Require,
            after: Vec::new(),
            clone_flags: 0,
            concurrent: false,
            witnessed: false,
            ready: None,
            action: Box::new(action),
        }
    }

    /// Makes a step from a closure, for what needs no check from the host and no undoing.
    ///
    /// ```
    /// # use palisade_abi::{Stage, Step};
    /// let step = Step::run(Stage::Build, "leaves a directory for temporary files", |_context| {
    ///     std::fs::create_dir_all("/tmp/mine")?;
    ///     Ok("it is there")
    /// });
    /// # let _ = step;
    /// ```
    pub fn run<F, E>(stage: Stage, words: impl Into<String>, apply: F) -> Self
    where
        F: FnMut(&mut Context<'_>) -> Result<E, Error> + 'static,
        E: Into<Evidence> + 'static,
    {
        Self::new(stage, words, FromFn(apply))
    }

    /// Makes a step from data: palisade itself does it, reads it back and undoes it. Since seam 1.1; a palisade that is
    /// older refuses it.
    ///
    /// ```
    /// # use palisade_abi::{Ready, Stage, Step};
    /// let ready = Ready::write_file("/proc/sys/net/ipv4/ip_unprivileged_port_start", "80");
    /// let step = Step::ready(Stage::Build, "lets it listen on port 80 and above", ready).after("namespaces");
    /// # let _ = step;
    /// ```
    pub fn ready(stage: Stage, words: impl Into<String>, ready: Ready) -> Self {
        let mut step = Self::new(stage, words, Unknown);
        step.ready = Some(ready.to_text());
        step
    }

    /// Asks for `CLONE_NEW*` flags when the process is created.
    ///
    /// ```
    /// # use palisade_abi::{Action, At, Context, Demand, Error, Evidence, Stage, Step};
    /// # struct Name(String);
    /// # impl Action for Name {
    /// #     fn apply(&mut self, _context: &mut Context<'_>) -> Result<Evidence, Error> { Ok(Evidence::default()) }
    /// # }
    /// # let name = At::new("fence".to_owned());
    /// const CLONE_NEWUTS: u64 = 0x0400_0000;
    /// let step = Step::at_clone(CLONE_NEWUTS, "gets a uts namespace", Name(name.value));
    /// assert_eq!(format!("{step:?}"), "clone: gets a uts namespace");
    /// ```
    pub fn at_clone(flags: u64, words: impl Into<String>, action: impl Action + 'static) -> Self {
        let mut step = Self::new(Stage::Clone, words, action);
        step.clone_flags = flags;
        step
    }

    /// Names the policy line it comes from.
    ///
    /// ```
    /// # use palisade_abi::{Action, At, Context, Demand, Error, Evidence, Stage, Step};
    /// # struct Name(String);
    /// # impl Action for Name {
    /// #     fn apply(&mut self, _context: &mut Context<'_>) -> Result<Evidence, Error> { Ok(Evidence::default()) }
    /// # }
    /// # let name = At::new("fence".to_owned());
    /// let step = Step::new(Stage::Build, "sets the host name", Name(name.value)).origin(name.origin);
    /// # let _ = step;
    /// ```
    #[must_use]
    pub fn origin(mut self, origin: Option<Origin>) -> Self {
        self.origin = origin;
        self
    }

    /// Says why it is done, for `palisade plan`.
    ///
    /// ```
    /// # use palisade_abi::{Action, At, Context, Demand, Error, Evidence, Stage, Step};
    /// # struct Name(String);
    /// # impl Action for Name {
    /// #     fn apply(&mut self, _context: &mut Context<'_>) -> Result<Evidence, Error> { Ok(Evidence::default()) }
    /// # }
    /// # let name = At::new("fence".to_owned());
    /// let step = Step::new(Stage::Build, "sets the host name", Name(name.value)).why("the host's own tells who runs it");
    /// # let _ = step;
    /// ```
    #[must_use]
    pub fn why(mut self, why: impl Into<String>) -> Self {
        self.why = why.into();
        self
    }

    /// Says what becomes of the launch when the step fails.
    ///
    /// ```
    /// # use palisade_abi::{Action, At, Context, Demand, Error, Evidence, Stage, Step};
    /// # struct Name(String);
    /// # impl Action for Name {
    /// #     fn apply(&mut self, _context: &mut Context<'_>) -> Result<Evidence, Error> { Ok(Evidence::default()) }
    /// # }
    /// # let name = At::new("fence".to_owned());
    /// // From the policy: `name_demand: Degrade`. Without it the launch ends where the step fails.
    /// let wanted: Option<At<Demand>> = Some(At::new(Demand::Degrade));
    /// let demand = wanted.map(|at| at.value).unwrap_or_default();
    /// let step = Step::new(Stage::Build, "sets the host name", Name(name.value)).demand(demand);
    /// # let _ = step;
    /// ```
    #[must_use]
    pub fn demand(mut self, demand: Demand) -> Self {
        self.demand = demand;
        self
    }

    /// Puts it behind the steps that another plugin has in the same stage, if that plugin is in the policy.
    ///
    /// ```
    /// # use palisade_abi::{Action, At, Context, Demand, Error, Evidence, Stage, Step};
    /// # struct Name(String);
    /// # impl Action for Name {
    /// #     fn apply(&mut self, _context: &mut Context<'_>) -> Result<Evidence, Error> { Ok(Evidence::default()) }
    /// # }
    /// # let name = At::new("fence".to_owned());
    /// let step = Step::new(Stage::Build, "sets the host name", Name(name.value)).after("namespaces");
    /// # let _ = step;
    /// ```
    #[must_use]
    pub fn after(mut self, plugin: impl Into<String>) -> Self {
        self.after.push(plugin.into());
        self
    }

    /// Lets an Attach step run while the child builds; it is done before anything of the workload exists.
    ///
    /// ```
    /// # use palisade_abi::{Action, At, Context, Demand, Error, Evidence, Stage, Step};
    /// # struct Name(String);
    /// # impl Action for Name {
    /// #     fn apply(&mut self, _context: &mut Context<'_>) -> Result<Evidence, Error> { Ok(Evidence::default()) }
    /// # }
    /// # let name = At::new("fence".to_owned());
    /// let step = Step::new(Stage::Attach, "tells a server of the process", Name(name.value)).concurrent();
    /// # let _ = step;
    /// ```
    #[must_use]
    pub fn concurrent(mut self) -> Self {
        self.concurrent = true;
        self
    }

    /// Has `witness` asked in the child, before Seal.
    ///
    /// ```
    /// # use palisade_abi::{Action, At, Context, Demand, Error, Evidence, Stage, Step};
    /// # struct Name(String);
    /// # impl Action for Name {
    /// #     fn apply(&mut self, _context: &mut Context<'_>) -> Result<Evidence, Error> { Ok(Evidence::default()) }
    /// # }
    /// # let name = At::new("fence".to_owned());
    /// let step = Step::new(Stage::Build, "sets the host name", Name(name.value)).witnessed(true);
    /// # let _ = step;
    /// ```
    #[must_use]
    pub fn witnessed(mut self, yes: bool) -> Self {
        self.witnessed = yes;
        self
    }
}

struct FromFn<F>(F);

impl<F, E> Action for FromFn<F>
where
    F: FnMut(&mut Context<'_>) -> Result<E, Error>,
    E: Into<Evidence>,
{
    fn apply(&mut self, context: &mut Context<'_>) -> Result<Evidence, Error> {
        (self.0)(context).map(Into::into)
    }
}

/// Stands behind a ready-made step, for a palisade that does not ask for its text.
struct Unknown;

impl Unknown {
    fn refuse<T>() -> Result<T, Error> {
        Err(Error::host("this palisade knows no ready-made steps").help("use a palisade of seam 1.1 or newer"))
    }
}

impl Action for Unknown {
    fn apply(&mut self, _context: &mut Context<'_>) -> Result<Evidence, Error> {
        Self::refuse()
    }

    /// A step of stage Clone is only ever asked this.
    fn verify(&self, _context: &Context<'_>) -> Result<Option<Evidence>, Error> {
        Self::refuse()
    }
}
