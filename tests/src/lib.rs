//! What the tests share: the released program in a place that everybody can reach, runs with a time limit, and a
//! look at what is left behind.

mod cgroups;
mod left;
mod plugins;
mod project;
mod rootfs;
mod run;
mod skips;

pub use cgroups::EmptyCgroups;
pub use left::Leftovers;
pub use plugins::PluginDir;
pub use project::Project;
pub use rootfs::install;
pub use run::{Ran, Run, Who};
pub use skips::skip;

use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU32, Ordering};

/// The ordinary user of the tests: nobody's id, with nothing.
pub const USER: u32 = 64321;

/// The top of the source tree.
pub fn tree() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap().to_owned()
}

/// Whether this process is root: then runs as an ordinary user are possible, too.
pub fn is_root() -> bool {
    palisade_sys::process::euid() == 0
}

/// By how much everything takes longer here: guests of `tests/vm` are emulated.
pub fn slowness() -> u32 {
    if std::env::var_os("PALISADE_VM").is_some() { 20 } else { 1 }
}

/// Where `cargo build --release` left the program.
pub fn built() -> PathBuf {
    let program =
        std::env::var_os("PALISADE_BIN").map_or_else(|| tree().join("target/release/palisade"), PathBuf::from);
    assert!(program.exists(), "{} is not there: cargo build --release first", program.display());
    program
}

/// The program with its plugins, in a directory that is root's and that everybody can reach: a checkout may lie
/// below somebody's home. Without root it is used where it was built.
pub fn program() -> &'static Path {
    static PLACE: OnceLock<PathBuf> = OnceLock::new();
    PLACE.get_or_init(|| {
        let built = built();
        if !is_root() {
            return built;
        }
        sweep(Path::new("/opt"), "palisade-test-");
        let place = PathBuf::from(format!("/opt/palisade-test-{}", std::process::id()));
        std::fs::create_dir_all(&place).unwrap();
        for entry in std::fs::read_dir(built.parent().unwrap()).unwrap() {
            let path = entry.unwrap().path();
            let name = path.file_name().unwrap().to_string_lossy().into_owned();
            if name == "palisade" || (name.starts_with("libpalisade_") && name.ends_with(".so")) {
                std::fs::copy(&path, place.join(&name)).unwrap();
            }
        }
        place.join("palisade")
    })
}

/// Removes what earlier test processes, which are gone, left in a directory.
fn sweep(dir: &Path, prefix: &str) {
    for entry in std::fs::read_dir(dir).into_iter().flatten().flatten() {
        let name = entry.file_name().to_string_lossy().into_owned();
        let pid =
            name.strip_prefix(prefix).and_then(|rest| rest.split('-').next()).and_then(|pid| pid.parse::<u32>().ok());
        if pid.is_some_and(|pid| pid != std::process::id() && !Path::new(&format!("/proc/{pid}")).exists()) {
            std::fs::remove_dir_all(entry.path()).ok();
        }
    }
}

/// A directory of one test, removed at its end.
#[derive(Debug)]
pub struct Scratch(PathBuf);

impl Scratch {
    /// Makes one that everybody may enter and the user of [`Who::User`] owns.
    #[allow(clippy::new_without_default, reason = "it makes a directory")]
    pub fn new() -> Self {
        static SWEPT: OnceLock<()> = OnceLock::new();
        SWEPT.get_or_init(|| sweep(Path::new("/var/tmp"), "palisade-test-"));
        // Not /tmp: policies put a tmpfs there.
        Self::below(Path::new("/var/tmp"))
    }

    /// The same on a disk, as the guests of tests/vm have one beside an overlay.
    #[must_use]
    pub fn on_disk() -> Self {
        std::env::var_os("PALISADE_TEST_DISK").map_or_else(Self::new, |disk| Self::below(Path::new(&disk)))
    }

    fn below(dir: &Path) -> Self {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let number = COUNT.fetch_add(1, Ordering::Relaxed);
        let path = dir.join(format!("palisade-test-{}-{number}", std::process::id()));
        std::fs::create_dir(&path).unwrap();
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o755)).unwrap();
        if is_root() {
            std::os::unix::fs::chown(&path, Some(USER), Some(USER)).unwrap();
        }
        Self(path)
    }

    /// Its path.
    pub fn path(&self) -> &Path {
        &self.0
    }

    /// Its path as text.
    pub fn text(&self) -> &str {
        self.0.to_str().unwrap()
    }

    /// Writes a file that everybody may read.
    pub fn file(&self, name: &str, content: impl AsRef<[u8]>) -> PathBuf {
        let path = self.0.join(name);
        if let Some(parent) = path.parent() {
            std::fs::create_dir_all(parent).unwrap();
        }
        std::fs::write(&path, content).unwrap();
        path
    }

    /// Writes a policy.
    pub fn policy(&self, text: &str) -> PathBuf {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        self.file(&format!("policy{}.ron", COUNT.fetch_add(1, Ordering::Relaxed)), text)
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        let removed = std::fs::remove_dir_all(&self.0);
        if !std::thread::panicking() {
            removed.unwrap();
        }
    }
}

/// Everybody that the tests may run as.
pub fn everybody(test: &str) -> Vec<Who> {
    if is_root() {
        return vec![Who::Root, Who::User];
    }
    skip(&format!("{test}:root"), "the tests were not started by root");
    vec![Who::User]
}
