//! Finding, trusting and loading plugins. Trust comes before `dlopen`, which runs constructors.

use crate::elf;
use crate::entries::Entries;
use crate::error::{Kind, Trouble};
use crate::install::inside_only;
use crate::library::{Found, Library, load};
use crate::lock::{Entry, Lock};
use crate::pins::{self, Origin, Pin};
use crate::places::{INSTALLED_BY_ROOT, Places};
use palisade_abi::{SEAM_VERSION, host::LoadError, manifest::Manifest};
use palisade_model::diag::suggest;
use palisade_model::policy::Hosting;
use palisade_model::stage::Stage;
use palisade_sys::fd::FileFacts;
use palisade_sys::trust::{TrustError, open_trusted_dir, open_trusted_in};
use sha2::{Digest as _, Sha256};
use std::cell::RefCell;
use std::collections::{BTreeMap, btree_map};
use std::io::Read as _;
use std::os::fd::{AsFd as _, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::rc::Rc;

/// A plugin that was opened.
#[derive(Debug)]
pub struct Plugin {
    /// What it says about itself; after a remembered check without the reference section, unless it is read by that.
    pub manifest: Manifest,
    /// Where it was found.
    pub path: PathBuf,
    /// SHA-256 of its file.
    pub sha256: String,
    /// Stages in the child that it may have steps in; nothing where it may have any, because it came with palisade.
    pub(crate) granted: Option<Vec<Stage>>,
    /// Where its code runs.
    pub host: Hosting,
    /// Its functions.
    pub(crate) library: Box<dyn Library>,
}

/// A plugin's file as found, nothing of it having run.
#[derive(Debug)]
pub struct Candidate {
    /// What it says about itself.
    pub manifest: Manifest,
    /// Where it is.
    pub path: PathBuf,
    /// SHA-256 of its file.
    pub sha256: String,
    /// Whether it passed every check before, so that a launch does not check its layout again.
    pub remembered: bool,
    /// Stages in the workload's process that it was granted; nothing where it needs no grant, because it came with
    /// palisade.
    pub granted: Option<Vec<Stage>>,
    /// What holds for this content of the file.
    pub pin: Option<Pin>,
    /// Where it came from.
    pub origin: Origin,
    pub(crate) facts: FileFacts,
    pub(crate) file: OwnedFd,
}

/// All plugins that this process has loaded or can find.
#[derive(Debug)]
pub struct Plugins {
    dirs: Vec<PathBuf>,
    /// Where plugins are that came with palisade.
    pub(crate) own: Vec<PathBuf>,
    /// Where only what was installed may be.
    pub(crate) installs: Option<PathBuf>,
    /// Where keys are that vouch for plugins.
    pub(crate) keys: Vec<PathBuf>,
    pub(crate) owners: Vec<u32>,
    /// Directories that were walked and found right, so that each is walked once.
    walked: RefCell<BTreeMap<PathBuf, OwnedFd>>,
    pub(crate) lock: Lock,
    loaded: BTreeMap<String, Rc<Plugin>>,
}

pub(crate) fn file_name(name: &str) -> String {
    format!("libpalisade_{}.so", name.replace('-', "_"))
}

fn hex(bytes: &[u8]) -> String {
    use std::fmt::Write as _;
    bytes.iter().fold(String::with_capacity(bytes.len() * 2), |mut text, byte| {
        // Writing to a String cannot fail.
        write!(text, "{byte:02x}").ok();
        text
    })
}

/// SHA-256 as lower-case hexadecimal.
#[must_use]
pub(crate) fn sha256(bytes: &[u8]) -> String {
    hex(&Sha256::digest(bytes))
}

impl Plugins {
    /// Makes an empty set that looks where `places` says.
    #[must_use]
    pub fn new(places: &Places) -> Self {
        let uid = palisade_sys::process::euid();
        // As root, root's files only: a plugin runs with all the rights of the launcher.
        let owners = if uid == 0 { vec![0] } else { vec![0, uid] };
        let build = palisade_sys::host::build_id_of_self().unwrap_or_default();
        let lock = Lock::read(places.lock(), &build, &owners);
        Self {
            dirs: places.plugins(),
            own: places.own_plugins(),
            installs: places.installs(),
            keys: places.keys(),
            owners,
            walked: RefCell::default(),
            lock,
            loaded: BTreeMap::new(),
        }
    }

    /// Where plugins are looked for, in order.
    #[must_use]
    pub fn dirs(&self) -> &[PathBuf] {
        &self.dirs
    }

    /// Gives a plugin by name, loading it if it is not loaded yet.
    ///
    /// # Errors
    /// It is missing, not trusted, or does not fit.
    pub fn get(&mut self, name: &str) -> Result<Rc<Plugin>, Trouble> {
        if let Some(plugin) = self.loaded.get(name) {
            return Ok(Rc::clone(plugin));
        }
        self.get_within(name, &Entries::begin()?)
    }

    /// The same as a part of a phase that is guarded already.
    pub(crate) fn get_within(&mut self, name: &str, entries: &Entries) -> Result<Rc<Plugin>, Trouble> {
        if let Some(plugin) = self.loaded.get(name) {
            return Ok(Rc::clone(plugin));
        }
        let candidate = self.known(name)?;
        let plugin = Rc::new(self.load(candidate, entries)?);
        self.loaded.insert(name.to_owned(), Rc::clone(&plugin));
        Ok(plugin)
    }

    /// A file as it is remembered, or else as it is found now.
    pub(crate) fn known(&self, name: &str) -> Result<Candidate, Trouble> {
        let path = self.find(name)?;
        let (file, facts) = self.open(name, &path)?;
        match self.lock.get(&path, &facts).filter(|entry| entry.fits()).cloned() {
            Some(entry) => {
                let pin = self.pin(name, &path, &facts, &entry.sha256)?;
                Ok(self.judged((entry.manifest, entry.sha256), path, pin, (file, facts)))
            }
            None => self.inspect(name, path, file, facts),
        }
    }

    /// Takes a plugin from an open file, wherever that came from, instead of looking for one: for whoever tries one
    /// out. It counts as one that came with palisade, and nothing of it is remembered.
    ///
    /// # Errors
    /// It does not fit.
    pub fn bring(&mut self, path: &Path, file: OwnedFd) -> Result<(), Trouble> {
        let bytes = palisade_sys::fd::read_all(&file)
            .map_err(|e| Trouble::call(format!("{} could not be read", path.display()), &e))?;
        let refuse = |why: String| Trouble::new(Kind::Plugin, why).row("file", path.display().to_string());
        let manifest = elf::inspect(&bytes).and_then(|text| Manifest::parse(&text)).map_err(refuse)?;
        let name = manifest.name.clone();
        let loaded = Entries::begin()?.call(&name, "dlopen", || load(file.as_fd(), false, &manifest.reference));
        let Found { library, .. } = loaded.map_err(|e| refuse(e.to_string()).row("help", remedy(&e)))?;
        let (path, sha256, host) = (path.to_owned(), sha256(&bytes), Hosting::Launcher);
        self.loaded.insert(name, Rc::new(Plugin { manifest, path, sha256, granted: None, host, library }));
        Ok(())
    }

    /// Whether plugins in the directory of this file came with palisade.
    pub(crate) fn is_own(&self, path: &Path) -> bool {
        path.parent().is_some_and(|dir| self.own.iter().any(|own| own == dir))
    }

    /// What holds for a content of a file; a change of one that was installed is refused.
    fn pin(&self, name: &str, path: &Path, facts: &FileFacts, sha256: &str) -> Result<Option<Pin>, Trouble> {
        if self.is_own(path) {
            return Ok(None);
        }
        let must = path.parent() == self.installs.as_deref();
        let judged = pins::judge(self.lock.pins(path), path, facts, sha256, must);
        judged.map_err(|trouble| self.lock.damage().into_iter().fold(trouble.of(name), |t, why| t.row("lock", why)))
    }

    /// A file that nothing speaks against, with what the user said of it.
    fn judged(
        &self,
        (manifest, sha256): (Manifest, String),
        path: PathBuf,
        pin: Option<Pin>,
        (file, facts): (OwnedFd, FileFacts),
    ) -> Candidate {
        let origin = match (&pin, path.parent()) {
            _ if self.is_own(&path) => Origin::Palisade,
            (Some(Pin { installed: Some(_), .. }), _) => Origin::Installed,
            (_, Some(dir)) if dir == Path::new(INSTALLED_BY_ROOT) => Origin::InstalledByRoot,
            _ => Origin::PluginDir,
        };
        let granted = || pin.as_ref().map(|pin| pin.granted.clone()).unwrap_or_default();
        let granted = (origin != Origin::Palisade).then(granted);
        let remembered = self.lock.get(&path, &facts).is_some_and(Entry::fits);
        Candidate { manifest, path, sha256, remembered, granted, pin, origin, facts, file }
    }

    /// Checks a plugin's file without running anything of it.
    ///
    /// # Errors
    /// It is missing, not trusted, or no plugin.
    pub fn candidate(&self, name: &str) -> Result<Candidate, Trouble> {
        let path = self.find(name)?;
        let (file, facts) = self.open(name, &path)?;
        self.inspect(name, path, file, facts)
    }

    /// Lets a plugin that did not come with palisade have steps in these stages, as long as its content stays what
    /// it is; none takes back what it had. Stages that run on the host need no grant: there it runs with the
    /// launcher's rights anyway.
    ///
    /// # Errors
    /// It is missing, not trusted or does not fit, or nothing can be remembered for this user, or a stage is none of
    /// the child's.
    pub fn grant(&mut self, name: &str, stages: &[Stage]) -> Result<(), Trouble> {
        inside_only(name, stages)?;
        let path = self.find(name)?;
        let (_, facts) = self.open(name, &path)?;
        // What was checked before, here or in a process of its own, is not opened for this.
        let known = self.lock.get(&path, &facts).map(|entry| entry.sha256.clone());
        let sha256 = known.map_or_else(|| self.get(name).map(|plugin| plugin.sha256.clone()), Ok)?;
        if !self.lock.is_kept() {
            return Err(Trouble::new(Kind::Plugin, "there is no place to remember a grant in")
                .of(name)
                .row("help", "set HOME, or XDG_STATE_HOME, to an absolute path"));
        }
        self.lock.grant(&path, &sha256, stages);
        self.loaded.remove(name);
        Ok(())
    }

    /// What holds for the file of this name that is found, whether or not it is there any more as it was.
    #[must_use]
    pub fn pinned(&self, name: &str) -> Option<&Pin> {
        self.lock.pins(&self.find(name).ok()?).last()
    }

    /// Forgets that a plugin was checked, so that the next `get` checks all of it again. Its grants stay.
    pub fn forget(&mut self, name: &str) {
        self.loaded.remove(name);
        if let Ok(path) = self.find(name) {
            self.lock.forget(&path);
        }
    }

    /// Names of all plugin files in the directories, in the order they are found; the first of a name counts.
    #[must_use]
    pub fn names(&self) -> Vec<String> {
        let mut names = Vec::new();
        for dir in &self.dirs {
            let Ok(entries) = std::fs::read_dir(dir) else { continue };
            let mut here: Vec<String> =
                entries.flatten().filter_map(|e| plugin_name(&e.file_name().to_string_lossy())).collect();
            here.sort();
            names.extend(here);
        }
        let mut seen = std::collections::BTreeSet::new();
        names.retain(|name| seen.insert(name.clone()));
        names
    }

    /// Writes what was learnt to `plugins.lock`. Without it every launch checks again, only slower.
    ///
    /// # Errors
    /// The file could not be written.
    pub fn remember(&mut self) -> std::io::Result<()> {
        self.lock.save()
    }

    pub(crate) fn find(&self, name: &str) -> Result<PathBuf, Trouble> {
        let file = file_name(name);
        let found = self.dirs.iter().map(|dir| dir.join(&file)).find(|path| path.symlink_metadata().is_ok());
        found.ok_or_else(|| {
            let names = self.names();
            let known: Vec<&str> = names.iter().map(String::as_str).collect();
            let dirs: Vec<String> = self.dirs.iter().map(|d| d.display().to_string()).collect();
            Trouble::new(Kind::Plugin, format!("there is no plugin `{name}`"))
                .row("file", format!("{file} in {}", dirs.join(", ")))
                .row(
                    "help",
                    if known.is_empty() {
                        "install palisade's plugins, or name their directory with --plugin-dir".to_owned()
                    } else {
                        suggest(name, &known)
                    },
                )
        })
    }

    pub(crate) fn open(&self, name: &str, path: &Path) -> Result<(OwnedFd, FileFacts), Trouble> {
        self.open_file(path).map_err(|e| {
            Trouble::new(Kind::Plugin, format!("it is not trusted: {e}"))
                .of(name)
                .row("file", path.display().to_string())
                .row("help", e.remedy())
        })
    }

    fn open_file(&self, path: &Path) -> Result<(OwnedFd, FileFacts), TrustError> {
        let dir = path.parent().unwrap_or(Path::new("/"));
        let mut walked = self.walked.borrow_mut();
        let dir = match walked.entry(dir.to_owned()) {
            btree_map::Entry::Occupied(known) => known.into_mut(),
            btree_map::Entry::Vacant(new) => new.insert(open_trusted_dir(dir, &self.owners)?),
        };
        open_trusted_in(dir, path, &self.owners)
    }

    fn inspect(&self, name: &str, path: PathBuf, file: OwnedFd, facts: FileFacts) -> Result<Candidate, Trouble> {
        let refuse = |why: String| Trouble::new(Kind::Plugin, why).of(name).row("file", path.display().to_string());
        let mut bytes = Vec::new();
        let handle = file.try_clone().map_err(|e| refuse(e.to_string()))?;
        std::fs::File::from(handle).read_to_end(&mut bytes).map_err(|e| refuse(e.to_string()))?;
        let sha256 = sha256(&bytes);
        // First of all: what somebody exchanged is to be told as that, whatever it is now.
        let pin = self.pin(name, &path, &facts, &sha256)?;
        let manifest = examine(&bytes, &refuse)?;
        if manifest.name != name {
            return Err(refuse(format!("its file is named for `{name}`, its manifest says `{}`", manifest.name))
                .row("help", format!("rename the file to {}", file_name(&manifest.name))));
        }
        Ok(self.judged((manifest, sha256), path, pin, (file, facts)))
    }

    fn load(&mut self, candidate: Candidate, entries: &Entries) -> Result<Plugin, Trouble> {
        let Candidate { manifest, path, sha256, remembered, granted, facts, file, .. } = candidate;
        let found = open_library(&manifest, &path, file.as_fd(), remembered, entries)?;
        if !remembered {
            self.lock.put(&path, Entry::new(&facts, &sha256, &manifest, &found));
        }
        Ok(Plugin { manifest, path, sha256, granted, host: Hosting::Launcher, library: found.library })
    }
}

/// Everything that can be checked without running any of it.
pub(crate) fn examine(bytes: &[u8], refuse: &impl Fn(String) -> Trouble) -> Result<Manifest, Trouble> {
    let unfit = |why| refuse(why).row("help", "install the plugin again, or ask its author for one that fits");
    let text = elf::inspect(bytes).map_err(unfit)?;
    let manifest = Manifest::parse(&text).map_err(|e| unfit(format!("its manifest is wrong: {e}")))?;
    let ours = SEAM_VERSION.split('.').next().and_then(|major| major.parse().ok());
    if manifest.seam_version().map(|(major, _)| major) != ours {
        // Told before anything of it runs; the library's own word is compared when it is open.
        let error = LoadError::OtherMajor(manifest.seam, SEAM_VERSION.to_owned());
        return Err(refuse(error.to_string()).row("help", remedy(&error)));
    }
    Ok(manifest)
}

/// Opens the library, which runs its constructors.
pub(crate) fn open_library(
    manifest: &Manifest,
    path: &Path,
    file: BorrowedFd<'_>,
    layout_known: bool,
    entries: &Entries,
) -> Result<Found, Trouble> {
    let name = manifest.name.as_str();
    entries.call(name, "dlopen", || load(file, layout_known, &manifest.reference)).map_err(|e| {
        Trouble::new(Kind::Plugin, e.to_string())
            .of(name)
            .row("file", path.display().to_string())
            .row("help", remedy(&e))
    })
}

fn plugin_name(file: &str) -> Option<String> {
    Some(file.strip_prefix("libpalisade_")?.strip_suffix(".so")?.replace('_', "-"))
}

fn remedy(error: &LoadError) -> &'static str {
    match error {
        LoadError::Open(_) => "the file may be damaged; install the plugin again",
        LoadError::NotAPlugin => "the author exports a plugin with export_plugin!, or a table named palisade_plugin",
        LoadError::OtherAbiStable(_) | LoadError::OtherLayout(_) => {
            "the author builds it again with this palisade's palisade-abi"
        }
        LoadError::OtherMajor(..) => "use a plugin built for this seam, or the palisade it was built for",
        LoadError::NoLayout | LoadError::Start(_) | LoadError::Table(_) | LoadError::NoFunction(_) => {
            "report it to the plugin's author"
        }
    }
}
