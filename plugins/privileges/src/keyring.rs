//! A session keyring of the workload's own. Without one it has the launcher's, with the keys of a log-in: those of
//! encrypted or networked file systems, say.

use palisade_abi::ErrorContext as _;
use palisade_abi::{Action, Context, Demand, Error, Evidence, Origin, Stage, Step};
use palisade_sys::keys;

/// The step that gives it one.
pub(crate) fn step(origin: Option<Origin>, demand: Demand) -> Step {
    let words = "gives the workload a session keyring of its own, empty";
    Step::new(Stage::Drop, words, Fresh::default())
        .why("a key of the launcher's session could be read and used by whoever has its keyring")
        .origin(origin)
        .demand(demand)
        .witnessed(true)
}

/// The serial numbers of the launcher's keyring, where it had one, and of the new one.
#[derive(Debug, Default)]
struct Fresh {
    launchers: Option<i32>,
    own: Option<i32>,
}

impl Action for Fresh {
    fn apply(&mut self, _context: &mut Context<'_>) -> Result<Evidence, Error> {
        // Inherited until now. One that cannot be told (after a log-out, say) is none to compare with.
        self.launchers = keys::session_keyring().ok();
        let own = keys::join_session_keyring().doing(|| "the workload cannot have a session keyring of its own");
        self.own = Some(own.map_err(|error| {
            let help = "or write keyring_demand: Degrade, where seccomp denies keyctl anyway or there are no keys";
            let cause = if error.help.is_empty() { String::new() } else { format!("{}; ", error.help) };
            error.help(format!("{cause}{help}"))
        })?);
        Ok(Evidence::default())
    }

    /// A keyring belongs to the credentials of a process, and no file shows it.
    fn witness(&self, _context: &Context<'_>) -> Result<Evidence, Error> {
        let seen = keys::session_keyring().doing(|| "the session keyring could not be read back")?;
        if self.own != Some(seen) || self.launchers == Some(seen) {
            return Err(Error::setup("the kernel says otherwise: the session keyring is the launcher's")
                .call(format!("keyctl(KEYCTL_GET_KEYRING_ID, KEY_SPEC_SESSION_KEYRING, 0) = {seen}"), 0));
        }
        Ok(Evidence(match self.launchers {
            Some(launchers) => format!("session keyring {seen}, the launcher's {launchers}"),
            None => format!("session keyring {seen}, the launcher had none"),
        }))
    }
}
