//! Runs the cases and reports as the stock harness does, so that whoever adds up results need not tell them apart.

use std::process::ExitCode;
use std::time::{Duration, Instant};

use palisade_sys::process::{self, Ended};

use crate::help;

/// A name and what to run; it fails by panicking.
pub(crate) type Case = (&'static str, fn());

/// How long a case may take; emulated machines are some twenty times slower than real ones.
const PATIENCE: Duration = Duration::from_secs(120);

/// Lists the cases of a module by their functions; one that is forgotten is dead code.
macro_rules! cases {
    ($($case:ident),* $(,)?) => {
        pub(crate) const CASES: &[crate::runner::Case] =
            &[$((concat!(module_path!(), "::", stringify!($case)), $case)),*];
    };
}
pub(crate) use cases;

/// Which cases to run, as the stock harness takes it from the command line.
#[derive(Default)]
struct Wanted {
    parts: Vec<String>,
    skipped: Vec<String>,
    exact: bool,
    list: bool,
}

impl Wanted {
    fn from_args() -> Self {
        let mut wanted = Self::default();
        let mut args = std::env::args().skip(1);
        while let Some(arg) = args.next() {
            match arg.as_str() {
                "--exact" => wanted.exact = true,
                "--list" => wanted.list = true,
                "--skip" => wanted.skipped.extend(args.next()),
                // What else the stock harness knows changes how it prints or how many run at once.
                other if other.starts_with('-') => {}
                _ => wanted.parts.push(arg),
            }
        }
        wanted
    }

    fn has(&self, name: &str) -> bool {
        let fits = |part: &String| {
            if self.exact { name == part } else { name.contains(part.as_str()) }
        };
        (self.parts.is_empty() || self.parts.iter().any(fits)) && !self.skipped.iter().any(fits)
    }
}

pub(crate) fn run(cases: &[Case]) -> ExitCode {
    if let Some(code) = help::as_program() {
        return code;
    }
    // The name without the crate's, as the stock harness has it.
    let named = cases.iter().map(|(name, case)| (name.split_once("::").map_or(*name, |(_, rest)| rest), *case));
    let wanted = Wanted::from_args();
    let (chosen, left_out): (Vec<Case>, Vec<Case>) = named.partition(|(name, _)| wanted.has(name));
    if wanted.list {
        chosen.iter().for_each(|(name, _)| println!("{name}: test"));
        return ExitCode::SUCCESS;
    }
    assert_eq!(process::euid(), 0, "these tests change what only root may change: run them as root");
    let start = Instant::now();
    println!("\nrunning {} tests", chosen.len());
    let mut failures = Vec::new();
    for (name, case) in &chosen {
        match run_one(*case) {
            Ok(()) => println!("test {name} ... ok"),
            Err(why) => {
                println!("test {name} ... FAILED");
                failures.push((name, why));
            }
        }
    }
    if !failures.is_empty() {
        println!("\nfailures:\n");
        failures.iter().for_each(|(name, why)| println!("---- {name} ----\n{}\n", why.trim_end()));
    }
    let verdict = if failures.is_empty() { "ok" } else { "FAILED" };
    let (passed, failed) = (chosen.len() - failures.len(), failures.len());
    let rest = format!("0 ignored; 0 measured; {} filtered out", left_out.len());
    let took = start.elapsed().as_secs_f64();
    println!("\ntest result: {verdict}. {passed} passed; {failed} failed; {rest}; finished in {took:.2}s\n");
    if failures.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

/// Runs one case in a process of its own; gives why it failed.
fn run_one(case: fn()) -> Result<(), String> {
    let out = help::start(0, || {
        process::setsid().unwrap();
        process::set_child_subreaper(true).unwrap();
        process::set_pdeathsig(libc::SIGKILL).unwrap();
        case();
        if let Ok(left) = process::wait_any(true) {
            panic!("a child was left behind: {left:?}");
        }
    })
    .end(PATIENCE);
    let mut why = Vec::new();
    if out.ended != Ended::Exited(0) {
        why.push(format!("{}it ended with {:?}", out.said, out.ended));
    }
    if process::kill(-out.pid, libc::SIGKILL).is_ok() {
        why.push("a process of its session was left behind".to_owned());
    }
    // A case that was killed could not clean up; it fails for that, and the next one is not to suffer.
    for left in help::remains(out.pid) {
        why.push(format!("{} was left behind", left.display()));
        drop(std::fs::remove_dir_all(left));
    }
    if why.is_empty() { Ok(()) } else { Err(why.join("\n")) }
}
