//! What a plugin must keep to, tried on a plugin that was just built: `palisade plugin check`.
//!
//! Each check runs in a process of its own ([`mod@cage`]): a plugin that crashes, hangs or ends its process fails
//! that check and no more. The file is read once, and what is checked is that copy of it.
//!
//! | file | holds |
//! |---|---|
//! | `checks` | the checks |
//! | `subject` | the plugin as the kit calls it |
//! | `section` | a section in pieces, and mistakes in it |
//! | `state` | what a process is to the kernel |
//! | `cage` | a process for each check |
//! | `bench`, `actor` | namespaces to try steps in; a process whose system calls can be made to fail |
//! | `report` | what came of it |

#![forbid(unsafe_code)]

mod actor;
mod bench;
mod cage;
mod checks;
mod report;
mod section;
mod state;
mod subject;

pub use checks::{CHECKS, Check};
pub use report::{Checked, REPORT_VERSION, Report, Verdict};

use crate::cage::Progress;
use crate::report::Outcome;
use crate::subject::Kit;
use palisade_abi::manifest::Manifest;
use palisade_runtime::{Kind, Trouble};
use sha2::{Digest as _, Sha256};
use std::collections::BTreeMap;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::rc::Rc;
use std::time::{Instant, SystemTime};

/// What is to be checked.
pub struct Request {
    /// The plugin's file. Its content is run with the caller's rights.
    pub path: PathBuf,
    /// Only the checks with these ids; all where there are none.
    pub only: Vec<String>,
    /// A section to use instead of the manifest's reference, as RON text.
    pub section: Option<String>,
    /// What the mutations are made from.
    pub seed: u64,
    /// Told now and then which check is made.
    pub progress: Box<dyn FnMut(&'static str)>,
}

impl std::fmt::Debug for Request {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Request").field("path", &self.path).finish_non_exhaustive()
    }
}

/// Makes the checks.
///
/// From a process with one thread that has no children: what the plugin starts becomes its child, and is ended.
///
/// # Errors
/// The file could not be read, or a check has no such id. What is wrong with the plugin is no error.
pub fn check(mut request: Request) -> Result<Report, Trouble> {
    if let Some(id) = request.only.iter().find(|id| !CHECKS.iter().any(|check| check.id == **id)) {
        let known: Vec<&str> = CHECKS.iter().map(|check| check.id).collect();
        return Err(Trouble::new(Kind::Usage, format!("there is no check `{id}`"))
            .row("help", palisade_runtime::model::diag::suggest(id, &known)));
    }
    let bytes = read(&request.path).map_err(|error| {
        Trouble::new(Kind::Plugin, format!("{} cannot be read: {error}", request.path.display()))
            .row("help", "name the library that `cargo build` made, such as target/debug/libNAME.so")
    })?;
    let _adopting = cage::Adopting::begin()?;
    let told = std::mem::replace(&mut request.progress, Box::new(|_| ()));
    let mut run = Run { request, progress: Rc::new(Progress::new(told)), came: BTreeMap::new() };
    let found = run.file(&bytes);
    let (plugin, section) = match found {
        Ok((manifest, image)) => (Some(manifest.name.clone()), run.library(manifest, image)),
        Err(why) => {
            run.others(&why);
            (None, None)
        }
    };
    let sha256 = Sha256::digest(&bytes).iter().map(|byte| format!("{byte:02x}")).collect();
    let uid = palisade_sys::process::euid();
    let (path, seed) = (run.request.path.display().to_string(), run.request.seed);
    Ok(Report { version: REPORT_VERSION, path, sha256, plugin, uid, seed, section, checks: run.checked() })
}

fn read(path: &Path) -> std::io::Result<Vec<u8>> {
    if !std::fs::metadata(path)?.is_file() {
        return Err(std::io::Error::other("it is no file"));
    }
    std::fs::read(path)
}

/// The checks on their way.
struct Run {
    request: Request,
    progress: Rc<Progress>,
    came: BTreeMap<&'static str, (Outcome, u64)>,
}

impl Run {
    fn wants(&self, id: &str) -> bool {
        self.request.only.is_empty() || self.request.only.iter().any(|only| only == id)
    }

    /// Makes one check, in whatever process it makes itself.
    fn make<T>(&mut self, id: &'static str, check: impl FnOnce() -> (Outcome, T)) -> T {
        self.progress.at(id);
        let begun = Instant::now();
        let (outcome, more) = check();
        cage::sweep();
        let took = u64::try_from(begun.elapsed().as_millis()).unwrap_or(u64::MAX);
        self.came.insert(id, (outcome, took));
        more
    }

    /// What the file says without running; the error is why nothing else can be checked.
    fn file(&mut self, bytes: &[u8]) -> Result<(Manifest, OwnedFd), String> {
        let text = self.make("elf", || match palisade_runtime::inspect(bytes) {
            Ok(text) => (Outcome::default(), Some(text)),
            Err(why) => (Outcome::failed(why), None),
        });
        let text = text.ok_or("the file is no plugin: see `elf`")?;
        let path = self.request.path.clone();
        let manifest = self.make("manifest", || checks::file::manifest(&text, &path));
        let manifest = manifest.ok_or("the manifest cannot be read: see `manifest`")?;
        let image = palisade_sys::fd::memfd_sealed("plugin", bytes).map_err(|e| e.to_string())?;
        Ok((manifest, image))
    }

    /// What the library does; gives the section that was used.
    fn library(&mut self, manifest: Manifest, image: OwnedFd) -> Option<String> {
        let path = self.request.path.clone();
        let (section, steps) = (String::new(), Vec::new());
        let begun = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default().as_micros();
        let mut kit = Kit {
            progress: Rc::clone(&self.progress),
            image,
            path,
            manifest,
            seed: self.request.seed,
            begun,
            section,
            steps,
            obstacle: None,
            refused: None,
        };
        let seam = self.make("layout", || checks::file::layout(&kit));
        let Some(seam) = seam else {
            self.others("the library cannot be loaded: see `layout`");
            return None;
        };
        if let Some((outcome, _)) = self.came.get_mut("manifest") {
            checks::file::versions(outcome, &kit.manifest, &seam);
        }
        let own = self.request.section.clone();
        let study = self.make("reference", || checks::study::reference(&kit, own.as_deref()));
        match study {
            Ok(study) => (kit.section, kit.steps) = (study.section, study.steps),
            Err(why) => {
                self.others(&why);
                return None;
            }
        }
        for (id, check) in checks::OF_THE_LIBRARY {
            if self.wants(id) || [checks::THREADS, "stages"].contains(id) {
                self.make(id, || (check(&kit), ()));
            }
            let failed = self.came.get(id).is_some_and(|(outcome, _)| !outcome.seen.is_empty());
            match *id {
                checks::THREADS if failed => {
                    kit.obstacle = Some("a process with threads cannot be copied: see `threads`".to_owned());
                }
                "stages" if failed => kit.refused = Some("palisade refuses the plan: see `stages`".to_owned()),
                _ => {}
            }
        }
        Some(kit.section)
    }

    /// Those that were not made cannot be.
    fn others(&mut self, why: &str) {
        for check in CHECKS {
            self.came.entry(check.id).or_insert_with(|| (Outcome::untried(why), 0));
        }
    }

    fn checked(mut self) -> Vec<Checked> {
        let wanted: Vec<&Check> = CHECKS.iter().filter(|check| self.wants(check.id)).collect();
        let one = |check: &Check| {
            let (outcome, took_ms) = self.came.remove(check.id)?;
            let verdict = outcome.verdict();
            let Outcome { reason, untried, seen, notes, figures } = outcome.shortened();
            let help = if verdict == Verdict::Failed { check.mend.to_owned() } else { String::new() };
            Some(Checked { id: check.id, verdict, reason, untried, seen, help, notes, figures, took_ms })
        };
        wanted.into_iter().filter_map(one).collect()
    }
}
