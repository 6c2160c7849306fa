//! The workload's terminal: the caller's, or one of its own.

use super::Settings;
use palisade_abi::{Action, Context, Error, ErrorContext as _, Evidence, Step};
use palisade_model::diag::Origin;
use palisade_model::process::{Input, Output, Process, Terminal};
use palisade_model::stage::Stage;
use palisade_sys::procfs::Proc;
use palisade_sys::{fd, process, terminal};
use std::cell::RefCell;
use std::os::fd::{AsFd as _, BorrowedFd, OwnedFd};
use std::rc::Rc;

/// What is made for a terminal of the workload's own.
#[derive(Debug, Default)]
pub(crate) struct Ends {
    /// The caller's terminal.
    pub(crate) caller: Option<OwnedFd>,
    /// The launcher's end.
    pub(crate) master: Option<OwnedFd>,
    /// The workload's end.
    pub(crate) slave: Option<OwnedFd>,
}

/// What the policy says of the terminal, and what there is of one.
#[derive(Clone, Debug, Default)]
pub(crate) struct Wanted {
    /// The workload leads a session of its own.
    pub(crate) own: bool,
    /// Which of standard input, output and error are a terminal of the launcher's, and would be the workload's.
    pub(crate) streams: [bool; 3],
    pub(crate) ends: Rc<RefCell<Ends>>,
    origin: Option<Origin>,
    written: bool,
}

/// The launcher's own streams, by their number.
pub(crate) fn stream(number: usize) -> palisade_sys::Result<BorrowedFd<'static>> {
    fd::borrow(i32::try_from(number).unwrap_or(i32::MAX))
}

impl Wanted {
    pub(crate) fn new(process: &Process) -> Self {
        let input = !matches!(&process.stdin, Some(at) if at.value != Input::Inherit);
        let [out, err] =
            [&process.stdout, &process.stderr].map(|to| !matches!(to, Some(at) if at.value != Output::Inherit));
        let mut streams = [input, out, err];
        for (number, is) in streams.iter_mut().enumerate() {
            *is = *is && stream(number).is_ok_and(terminal::is_terminal);
        }
        Self {
            own: process.terminal.is_some_and(|at| at.value == Terminal::New),
            streams,
            ends: Rc::default(),
            origin: process.terminal.and_then(|at| at.origin),
            written: process.terminal.is_some(),
        }
    }

    /// Whether there is to be a terminal between the workload and the caller's.
    pub(crate) fn proxied(&self) -> bool {
        self.own && self.streams.contains(&true)
    }

    fn names(&self) -> String {
        let all = ["input", "output", "error"].into_iter().zip(self.streams);
        all.filter_map(|(name, is)| is.then_some(name)).collect::<Vec<_>>().join(", ")
    }

    pub(super) fn steps(&self) -> Vec<Step> {
        let step = |stage, words: String, action: Do| Step::new(stage, words, action).origin(self.origin);
        let action = |what| Do { what, wanted: self.clone() };
        if !self.own {
            // Without a terminal there is nothing to be told, unless somebody asked.
            let shared = self.streams.contains(&true) || fd::open_path("/dev/tty", fd::O_RDONLY).is_ok();
            return (self.written || shared)
                .then(|| {
                    step(Stage::Drop, risk(), action(What::Share)).why("nothing is changed: it stands here to be read")
                })
                .into_iter()
                .collect();
        }
        if !self.proxied() {
            let words = "starts a session without a terminal: none of its standard streams is one".to_owned();
            let lead = step(Stage::Drop, words, action(What::Lead));
            return vec![lead.why("/dev/tty would be the caller's terminal")];
        }
        let words = "makes a terminal for the workload, with the mode and the size of the caller's".to_owned();
        let make = step(Stage::Prepare, words, action(What::Make)).why("the workload's view may have no /dev/pts");
        let words = format!("starts a session with that terminal, which is its standard {}", self.names());
        let lead = step(Stage::Drop, words, action(What::Lead));
        vec![make, lead.why("what is typed into it, or taken from it, is the workload's own")]
    }
}

/// What a workload can do that shares the caller's terminal.
fn risk() -> String {
    const SETTING: &str = "sys/dev/tty/legacy_tiocsti";
    let typing = match Proc::host().and_then(|proc| proc.read(SETTING)) {
        Ok(text) if text.trim() == "0" => {
            "; to type into it (TIOCSTI) it needs CAP_SYS_ADMIN (dev.tty.legacy_tiocsti=0)"
        }
        Ok(_) => " and type into it (TIOCSTI, dev.tty.legacy_tiocsti=1) unless a filter denies that",
        // KERNEL(6.2): the setting is from then on; before, everybody may.
        Err(_) => " and type into it (TIOCSTI, Linux before 6.2) unless a filter denies that",
    };
    format!("shares the caller's terminal: the workload can read what is typed there{typing}")
}

#[derive(Clone, Copy)]
enum What {
    /// Makes the terminal.
    Make,
    /// Leads the session.
    Lead,
    /// Leaves all as it is.
    Share,
}

struct Do {
    what: What,
    wanted: Wanted,
}

impl Action for Do {
    fn apply(&mut self, _context: &mut Context<'_>) -> Result<Evidence, Error> {
        match self.what {
            What::Make => self.make().map(|()| Evidence::default()),
            What::Lead => self.lead().map(|()| Evidence::default()),
            What::Share => Ok(Evidence::default()),
        }
    }

    fn verify(&self, context: &Context<'_>) -> Result<Option<Evidence>, Error> {
        match self.what {
            What::Lead => self.verify_lead(context.pid()?).map(Some),
            What::Make | What::Share => Ok(None),
        }
    }

    fn undo(&mut self, _context: &mut Context<'_>) -> Result<(), Error> {
        if matches!(self.what, What::Make) {
            *self.wanted.ends.borrow_mut() = Ends::default();
        }
        Ok(())
    }
}

impl Do {
    fn make(&self) -> Result<(), Error> {
        let number = self.wanted.streams.iter().position(|is| *is).unwrap_or_default();
        let caller = terminal::reopen(stream(number)?).map_err(|e| {
            let help = "the terminal belongs to somebody else; process.terminal: Inherit shares it as it is";
            Error::from(e).help(help)
        })?;
        let (master, slave) = terminal::open_pair().doing(|| "no terminal can be made for the workload".to_owned())?;
        let mode = terminal::Mode::of(&caller)?;
        // Where the caller's is not to be raw, it shows what is typed and ends the lines itself.
        let mode = if self.wanted.keys() == Keys::All { mode } else { mode.behind_another() };
        mode.set(&slave)?;
        terminal::copy_size(&caller, &slave)?;
        *self.wanted.ends.borrow_mut() = Ends { caller: Some(caller), master: Some(master), slave: Some(slave) };
        Ok(())
    }

    /// In the workload's process. The ends stay where they are: this memory is also that of its init.
    fn lead(&self) -> Result<(), Error> {
        process::setsid()?;
        let ends = self.wanted.ends.borrow();
        let Some(slave) = ends.slave.as_ref().filter(|_| self.wanted.proxied()) else { return Ok(()) };
        terminal::make_controlling(slave)?;
        for (number, is) in (0..).zip(self.wanted.streams) {
            if is {
                fd::dup_to(slave, number)?;
            }
        }
        Ok(())
    }

    fn verify_lead(&self, pid: i32) -> Result<Evidence, Error> {
        let stat = Proc::host()?.pid(pid)?.read("stat")?;
        // Session and terminal are the 6th and 7th field, the third being the first behind the name in brackets.
        let fields = stat.rsplit_once(')').map(|(_, rest)| rest.split_ascii_whitespace().skip(3)).into_iter().flatten();
        let found: Vec<i64> = fields.take(2).filter_map(|field| field.parse().ok()).collect();
        let number = match &self.wanted.ends.borrow().slave {
            Some(slave) if self.wanted.proxied() => encoded(fd::fstat(slave.as_fd())?.device()),
            _ => 0,
        };
        if found == [i64::from(pid), number] {
            return Ok(format!("session {pid}, terminal {}", if number == 0 { "none" } else { "its own" }).into());
        }
        Err(Error::setup(format!(
            "its session and terminal are {found:?}, and should be {:?}",
            [i64::from(pid), number]
        )))
    }
}

/// A device as proc_pid_stat(5) shows it.
fn encoded((major, minor): (u32, u32)) -> i64 {
    i64::from((minor & 0xff) | (major << 8) | ((minor & !0xff) << 12))
}

/// What is typed on the caller's terminal, and goes to the workload's.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Keys {
    /// Each key: the caller's terminal is raw.
    All,
    /// Whole lines, as long as nobody else reads keys there: with its output in a pipe, the workload shares the
    /// caller's terminal with other programs, such as a pager.
    Lines,
    /// Nothing: its standard input is something else.
    None,
}

impl Wanted {
    pub(crate) fn keys(&self) -> Keys {
        let piped = |number| stream(number).and_then(fd::fstat).is_ok_and(|facts| facts.is_pipe());
        match self.streams {
            [false, ..] => Keys::None,
            [true, true, _] => Keys::All,
            [true, false, _] if piped(1) => Keys::Lines,
            [true, false, _] => Keys::All,
        }
    }
}

impl Settings {
    /// Whether a stream of the workload's is a terminal of its own.
    pub(crate) fn is_own_terminal(&self, number: usize) -> bool {
        self.terminal.proxied() && self.terminal.streams.get(number).copied().unwrap_or(false)
    }
}
