//! A process for each thing that a plugin is asked to do: it may crash, hang, or end its process, and is told of.

use palisade_runtime::{Kind, Trouble};
use palisade_sys::event::{PollItem, poll};
use palisade_sys::limits::{Resource, set_rlimit};
use palisade_sys::process::{self, Cloned, Ended, Target};
use palisade_sys::procfs::Proc;
use palisade_sys::{fd, signal};
use serde::Serialize;
use serde::de::DeserializeOwned;
use std::cell::{Cell, RefCell};
use std::io::Write as _;
use std::os::fd::{AsFd as _, OwnedFd};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::{Duration, Instant};

/// What came of a process.
#[derive(Debug)]
pub(crate) enum Came<T> {
    /// What it found out.
    Said(T),
    /// It did not come to that.
    Failed(String),
}

/// Who wants to know how far it is.
pub(crate) struct Progress {
    told: RefCell<Box<dyn FnMut(&'static str)>>,
    now: Cell<&'static str>,
}

impl std::fmt::Debug for Progress {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("Progress").field(&self.now.get()).finish()
    }
}

impl Progress {
    pub(crate) fn new(told: Box<dyn FnMut(&'static str)>) -> Self {
        Self { told: RefCell::new(told), now: Cell::new("") }
    }

    /// What is done from now on.
    pub(crate) fn at(&self, what: &'static str) {
        self.now.set(what);
        self.tick();
    }

    fn tick(&self) {
        (self.told.borrow_mut())(self.now.get());
    }
}

/// How a process says where it is, so that who ends it is known.
#[derive(Debug)]
pub(crate) struct Marks(RefCell<std::fs::File>);

impl Marks {
    /// Says what is about to be done.
    pub(crate) fn at(&self, what: &str) {
        self.line('M', what);
    }

    fn line(&self, kind: char, what: &str) {
        let line = format!("{kind}{}\n", what.replace('\n', " "));
        // Who reads it is the parent; where that is gone nobody wants to know.
        self.0.borrow_mut().write_all(line.as_bytes()).ok();
    }
}

/// Does something in a process of its own, which may be silent for so long.
pub(crate) fn apart<T: Serialize + DeserializeOwned>(
    progress: &Progress,
    limit: Duration,
    work: impl FnOnce(&Marks) -> T,
) -> Came<T> {
    match within(progress, limit, work) {
        Ok(came) => came,
        Err(error) => Came::Failed(format!("no process could be made for it: {error}")),
    }
}

fn within<T: Serialize + DeserializeOwned>(
    progress: &Progress,
    limit: Duration,
    work: impl FnOnce(&Marks) -> T,
) -> palisade_sys::Result<Came<T>> {
    let (read, write) = fd::pipe()?;
    let Cloned::Parent { pid, pidfd } = process::fork()? else {
        drop(read);
        let code = inside(write, work);
        process::exit_now(code);
    };
    drop(write);
    let (said, ended) = listen(&read, &pidfd, limit, progress)?;
    // Also what the plugin started and left; whoever is in this group is none of the caller's.
    process::kill(-pid, libc_kill()).ok();
    process::pidfd_send_signal(&pidfd, libc_kill()).ok();
    let status = process::waitid(Target::PidFd(pidfd.as_fd()), false)?;
    let (mut at, mut done) = ("the beginning".to_owned(), None);
    for line in String::from_utf8_lossy(&said).lines() {
        match line.split_at_checked(1) {
            Some(("M", what)) => at = what.to_owned(),
            Some(("D", json)) => done = serde_json::from_str(json).ok(),
            _ => {}
        }
    }
    Ok(match done {
        Some(done) => Came::Said(done),
        None if !ended => Came::Failed(format!("it hung for {} s in {at}", limit.as_secs())),
        None => Came::Failed(format!("it ended the process ({}) in {at}", how(status.map(|status| status.ended)))),
    })
}

fn libc_kill() -> i32 {
    signal::number("SIGKILL").unwrap_or(9)
}

fn how(ended: Option<Ended>) -> String {
    match ended {
        Some(Ended::Exited(code)) => format!("exit status {code}"),
        Some(Ended::Signaled { signal, .. }) => signal::show(signal),
        None => "unknown".to_owned(),
    }
}

/// The new process's part; gives its exit code.
fn inside<T: Serialize>(write: OwnedFd, work: impl FnOnce(&Marks) -> T) -> i32 {
    let marks = Marks(RefCell::new(write.into()));
    let done = catch_unwind(AssertUnwindSafe(|| {
        alone().ok();
        work(&marks)
    }));
    match done.map(|done| serde_json::to_string(&done)) {
        Ok(Ok(json)) => {
            marks.line('D', &json);
            0
        }
        _ => 125,
    }
}

/// Nothing of the caller's terminal, and no life after the kit's.
fn alone() -> palisade_sys::Result<()> {
    process::set_pdeathsig(libc_kill())?;
    process::setsid()?;
    // A plugin that crashes leaves no file behind.
    if let Some(core) = Resource::from_name("core") {
        set_rlimit(core, 0, 0)?;
    }
    let null = fd::open_path("/dev/null", fd::O_RDWR)?;
    for number in 0..3 {
        fd::dup_to(&null, number)?;
    }
    Ok(())
}

/// How often it is told how far it is.
const TICK: Duration = Duration::from_millis(200);

/// Reads until the process has ended, or was silent for too long; gives what it said, and whether it ended.
fn listen(
    read: &OwnedFd,
    pidfd: &OwnedFd,
    limit: Duration,
    progress: &Progress,
) -> palisade_sys::Result<(Vec<u8>, bool)> {
    let (mut said, mut open) = (Vec::new(), true);
    let mut until = Instant::now() + limit;
    loop {
        progress.tick();
        let mut items = vec![PollItem::read(pidfd.as_fd())];
        // One that closed its end goes on.
        items.extend(open.then(|| PollItem::read(read.as_fd())));
        let left = until.saturating_duration_since(Instant::now());
        if poll(&mut items, Some(left.min(TICK)))? == 0 {
            if left.is_zero() {
                return Ok((said, false));
            }
            continue;
        }
        let (readable, over) = items.get(1).map_or((false, true), |pipe| (pipe.readable, pipe.hup));
        let ended = items.first().is_some_and(|process| process.readable);
        if readable {
            said.extend(fd::read_some(read, 65536)?);
            until = Instant::now() + limit;
        } else if ended {
            return Ok((said, true));
        } else if over {
            open = false;
        }
    }
}

/// Has orphans come to this process while it lives, so that nothing which a plugin starts outlives the kit.
#[derive(Debug)]
pub(crate) struct Adopting {
    before: bool,
}

impl Adopting {
    pub(crate) fn begin() -> Result<Self, Trouble> {
        let failed = |e: palisade_sys::Error| Trouble::call("orphans of the plugin could not be adopted", &e);
        // A copy of a process that has others would wait for their locks.
        if process::thread_count().map_err(failed)? != 1 {
            return Err(Trouble::new(Kind::Usage, "a plugin is checked by a process with one thread only"));
        }
        let before = process::is_child_subreaper().map_err(failed)?;
        process::set_child_subreaper(true).map_err(failed)?;
        Ok(Self { before })
    }
}

impl Drop for Adopting {
    fn drop(&mut self) {
        sweep();
        process::set_child_subreaper(self.before).ok();
    }
}

/// Ends what came to this process; gives how many that were.
pub(crate) fn sweep() -> usize {
    let children = || Proc::host().and_then(|proc| proc.own()).and_then(|own| own.children()).unwrap_or_default();
    let mut swept = 0;
    // One that is ended may leave others.
    for _ in 0..100 {
        let all = children();
        if all.is_empty() {
            break;
        }
        for pid in all {
            process::kill(pid, libc_kill()).ok();
            process::waitid(Target::Pid(pid), false).ok();
            swept += 1;
        }
    }
    swept
}
