//! Where policies and plugins are looked for.

use std::path::{Path, PathBuf};

/// Where to look, in order. A file in the current directory is never found by name: a cloned repository must
/// not choose its own cage.
#[derive(Clone, Debug, Default)]
pub struct Places {
    /// Directories that the caller named for policies, searched first.
    pub policy_dirs: Vec<PathBuf>,
    /// Directories that the caller named for plugins, searched first. Those found there act in the workload's process
    /// only as far as the user granted it.
    pub plugin_dirs: Vec<PathBuf>,
    /// Directories of plugins that a program around this library brings along: they count as palisade's own.
    pub bundled_dirs: Vec<PathBuf>,
    /// The program that opens plugins in processes of their own, as an absolute path: palisade, or one that does what
    /// [`crate::host_plugin`] says. It is the variable `palisade` of policies; without it no plugin can be hosted.
    pub host_program: Option<PathBuf>,
}

/// The user's own directories, from the environment. As root, or where the process gained privileges from its
/// file, the environment is somebody else's word and is not used.
fn user_dir(variable: &str, below_home: &str) -> Option<PathBuf> {
    if palisade_sys::process::euid() == 0 || palisade_sys::host::gained_privileges() {
        return None;
    }
    let absolute = |p: PathBuf| p.is_absolute().then_some(p);
    std::env::var_os(variable)
        .map(PathBuf::from)
        .and_then(absolute)
        .or_else(|| Some(absolute(PathBuf::from(std::env::var_os("HOME")?))?.join(below_home)))
        .map(|dir| dir.join("palisade"))
}

/// The directory of the runs that have a name: gone with the host's boot, and nobody else's.
pub(crate) fn runs() -> Option<PathBuf> {
    if palisade_sys::process::euid() == 0 {
        return Some("/run/palisade".into());
    }
    if palisade_sys::host::gained_privileges() {
        return None;
    }
    let dir = PathBuf::from(std::env::var_os("XDG_RUNTIME_DIR")?);
    dir.is_absolute().then(|| dir.join("palisade"))
}

/// Where root installs plugins. Everybody finds them there; only root's lock pins them.
pub(crate) const INSTALLED_BY_ROOT: &str = "/var/lib/palisade/plugins";

fn beside_program() -> Option<PathBuf> {
    std::env::current_exe().ok()?.parent().map(Path::to_owned)
}

impl Places {
    /// Directories of the plugins that come with palisade: those that the program brings along; beside the program, as
    /// a build leaves them, and below its prefix, as an installation does; the system's. Who can write there can
    /// write the program itself, or is root.
    pub(crate) fn own_plugins(&self) -> Vec<PathBuf> {
        let mut dirs = self.bundled_dirs.clone();
        if let Some(here) = beside_program() {
            dirs.extend(here.parent().map(|prefix| prefix.join("lib/palisade/plugins")));
            dirs.push(here);
        }
        dirs.push("/usr/local/lib/palisade/plugins".into());
        dirs.push("/usr/lib/palisade/plugins".into());
        dirs
    }

    /// Directories of plugins: the caller's; those beside the program, as a build leaves them, and below its
    /// prefix; the system's; those that root installed; those that the user did.
    #[must_use]
    pub fn plugins(&self) -> Vec<PathBuf> {
        let mut dirs = self.plugin_dirs.clone();
        dirs.extend(self.own_plugins());
        dirs.push(INSTALLED_BY_ROOT.into());
        dirs.extend(user_dir("XDG_DATA_HOME", ".local/share").map(|d| d.join("plugins")));
        dirs
    }

    /// The directory that `plugin install` puts plugins into, and that nothing else may put any into.
    #[must_use]
    pub fn installs(&self) -> Option<PathBuf> {
        if palisade_sys::process::euid() == 0 {
            return Some(INSTALLED_BY_ROOT.into());
        }
        user_dir("XDG_DATA_HOME", ".local/share").map(|d| d.join("plugins"))
    }

    /// Directories of keys that vouch for plugins.
    #[must_use]
    pub fn keys(&self) -> Vec<PathBuf> {
        let user = user_dir("XDG_CONFIG_HOME", ".config").map(|d| d.join("keys"));
        std::iter::once("/etc/palisade/keys".into()).chain(user).collect()
    }

    /// Directories of policies, before those that are built in.
    #[must_use]
    pub fn policies(&self) -> Vec<PathBuf> {
        let mut dirs = self.policy_dirs.clone();
        dirs.extend(user_dir("XDG_CONFIG_HOME", ".config").map(|d| d.join("policies")));
        dirs.push("/etc/palisade/policies".into());
        dirs
    }

    /// The file that remembers which plugins were checked, what was installed and what was granted.
    #[must_use]
    pub fn lock(&self) -> Option<PathBuf> {
        if palisade_sys::process::euid() == 0 {
            return Some("/var/lib/palisade/plugins.lock".into());
        }
        user_dir("XDG_STATE_HOME", ".local/state").map(|d| d.join("plugins.lock"))
    }
}
