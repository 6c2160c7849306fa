//! A directory of plugins that are not palisade's own.

use crate::{Run, Scratch, Who, is_root, skip};
use std::path::PathBuf;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

/// A directory that is root's, for plugins, and a place for an ordinary user. One at a time: some tests look at what is
/// left of all processes, and root has one lock of plugins on this host.
#[derive(Debug)]
pub struct PluginDir {
    /// The directory.
    pub dir: PathBuf,
    /// The ordinary user's.
    pub home: Scratch,
    _alone: MutexGuard<'static, ()>,
}

impl PluginDir {
    /// Makes one with this in its name. Only root can; else the test is skipped.
    #[must_use]
    pub fn new(name: &str) -> Option<Self> {
        static ONE: Mutex<()> = Mutex::new(());
        static COUNT: AtomicU32 = AtomicU32::new(0);
        if !is_root() {
            skip(&format!("{name}:root"), "the plugin must be root's");
            return None;
        }
        let _alone = ONE.lock().unwrap_or_else(PoisonError::into_inner);
        let count = COUNT.fetch_add(1, Ordering::Relaxed);
        let dir = PathBuf::from(format!("/opt/palisade-test-{}-{name}{count}", std::process::id()));
        std::fs::create_dir(&dir).unwrap();
        Some(Self { dir, home: Scratch::new(), _alone })
    }

    /// palisade with these plugins, and for each user a memory of its own of what was checked and granted.
    #[must_use]
    pub fn palisade(&self, who: Who, words: &[&str]) -> Run {
        let mut all: Vec<&str> = words.to_vec();
        let at = if ["plugin", "policy"].contains(&words[0]) { 2 } else { 1 };
        all.splice(at..at, ["--plugin-dir", self.dir.to_str().unwrap()]);
        let state = self.home.path().join(format!("state-{who:?}"));
        Run::palisade(all).who(who).env("XDG_STATE_HOME", state.to_str().unwrap())
    }
}

impl Drop for PluginDir {
    fn drop(&mut self) {
        drop(std::fs::remove_dir_all(&self.dir));
    }
}
