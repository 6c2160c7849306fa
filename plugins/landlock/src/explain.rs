//! Why something is denied. The kernel does not tell a launcher what Landlock denies (its audit log is off on most hosts
//! and root's alone), so this goes by the rules as the kernel does: a file has what is granted to it or to a directory
//! above it, whatever its name.

use crate::plan::{Plan, What};
use crate::rights::{self, names};
use landlock::{AccessFs, AccessNet, BitFlags};
use palisade_abi::{Act, Denial, Origin};
use palisade_sys::beneath::Root;
use palisade_sys::fd;
use palisade_sys::procfs::Proc;
use std::path::{Path, PathBuf};

/// What is denied, where something is.
pub(crate) fn explain(plan: &Plan, act: &Act) -> Option<Denial> {
    if act.fact("address").is_some() { port(plan, act) } else { file(plan, act) }
}

/// What the kernel has logged.
pub(crate) fn logged(plan: &Plan, act: &Act) -> Option<Denial> {
    let blockers = act.fact("blockers")?;
    let named = |kind: &str| blockers.split(',').filter_map(|one| one.strip_prefix(kind)).collect::<Vec<_>>();
    let files = named("fs.");
    let lacking = files.iter().filter_map(|name| rights::named(name)).fold(BitFlags::EMPTY, |sum, right| sum | right);
    let rule = |words: String| format!("\"landlock\": (rules: [{words}])");
    let at = act.fact("path").unwrap_or("/");
    let rules: Vec<String> = rights::words(lacking).iter().map(|word| format!("{word}(\"{at}\")")).collect();
    let help = if rules.is_empty() { String::new() } else { rule(rules.join(", ")) };
    let why = match files.as_slice() {
        [] => format!("denied by {blockers}"),
        files => format!("no rule lets it {} at {at}", files.join(", ")),
    };
    let origin = if files.is_empty() {
        plan.lines.iter().find(|line| !matches!(line.what, What::Grant { .. })).and_then(|line| line.origin)
    } else {
        nearest(plan, Path::new(at))
    };
    Some(Denial { seen: true, ..denial(why, help, origin) })
}

fn port(plan: &Plan, act: &Act) -> Option<Denial> {
    let wanted = if act.wants("bind") { AccessNet::BindTcp } else { AccessNet::ConnectTcp };
    let port = u16::try_from(act.number("port")?).ok()?;
    if act.fact("protocol") != Some("tcp") || !plan.net.contains(wanted) {
        return None;
    }
    let line = plan.lines.iter().find(|line| matches!(line.what, What::Ports { access, .. } if access == wanted))?;
    let What::Ports { ports, .. } = &line.what else { return None };
    if ports.contains(&port) {
        return None;
    }
    let field = if wanted == AccessNet::BindTcp { "bind" } else { "connect" };
    let mut more: Vec<String> = ports.iter().map(u16::to_string).collect();
    more.push(port.to_string());
    let help = format!("\"landlock\": (tcp: ({field}: [{}]))", more.join(", "));
    Some(denial(format!("TCP port {port} is not in tcp.{field}"), help, line.origin))
}

fn denial(why: String, help: String, origin: Option<Origin>) -> Denial {
    Denial { answer: "EACCES".to_owned(), why, help, origin, seen: false }
}

/// A file, or a place for one, in the workload's view.
struct Place {
    root: Root,
    /// Where it really is; where there is none, where its directory is.
    real: PathBuf,
    exists: bool,
    directory: bool,
    /// What open(2) can empty.
    regular: bool,
}

/// What the kernel knows a file by.
type Identity = (u64, u64);

impl Place {
    fn find(act: &Act) -> Option<Self> {
        let pid = i32::try_from(act.number("pid")?).ok()?;
        let root = Proc::host().ok()?.pid(pid).ok()?.root().ok()?;
        let path = Path::new(act.fact("path")?);
        if let Ok(real) = root.real(path) {
            let facts = fd::fstat(root.open(&real, fd::O_PATH).ok()?).ok()?;
            return Some(Self { root, real, exists: true, directory: facts.is_dir(), regular: facts.is_file() });
        }
        // Without its directory there is nothing to be denied: it does not exist.
        path.file_name()?;
        let real = root.real(path.parent()?).ok()?;
        Some(Self { root, real, exists: false, directory: false, regular: false })
    }

    fn identity(&self, path: &Path) -> Option<Identity> {
        let facts = fd::fstat(self.root.open(path, fd::O_PATH).ok()?).ok()?;
        Some((facts.dev, facts.ino))
    }

    /// Where the rights to it come from: it and every directory above it; `above` alone for what is done to a name in
    /// its directory.
    fn sources(&self, above: bool) -> Vec<Identity> {
        let skip = usize::from(above && self.exists);
        self.real.ancestors().skip(skip).filter_map(|path| self.identity(path)).collect()
    }

    /// What the kernel will ask for: of the file or its directories, and of its directories alone.
    fn needs(&self, act: &Act) -> [BitFlags<AccessFs>; 2] {
        let when = |wanted: bool, right: AccessFs| if wanted { right.into() } else { BitFlags::EMPTY };
        let makes = act.wants("make") && !self.exists;
        let there = self.exists || makes;
        let own = when(act.wants("read") && there && !self.directory, AccessFs::ReadFile)
            | when(act.wants("read") && self.directory, AccessFs::ReadDir)
            | when(act.wants("write") && there && !self.directory, AccessFs::WriteFile)
            | when(act.wants("truncate") && self.regular, AccessFs::Truncate)
            | when(act.wants("execute") && self.exists && !self.directory, AccessFs::Execute)
            | when(act.wants("connect") && self.exists, AccessFs::ResolveUnix);
        let made = match act.fact("kind") {
            Some("directory") => AccessFs::MakeDir,
            Some("link") => AccessFs::MakeSym,
            Some("fifo") => AccessFs::MakeFifo,
            Some("socket") => AccessFs::MakeSock,
            Some("device") => AccessFs::MakeChar,
            _ => AccessFs::MakeReg,
        };
        let removed = if self.directory { AccessFs::RemoveDir } else { AccessFs::RemoveFile };
        let bound = act.wants("bind") && !self.exists;
        [own, when(makes || bound, made) | when(act.wants("remove") && self.exists, removed)]
    }
}

fn file(plan: &Plan, act: &Act) -> Option<Denial> {
    let place = Place::find(act)?;
    let [own, of_directory] = place.needs(act).map(|rights| rights & plan.files);
    let missing = |rights: BitFlags<AccessFs>, above: bool| {
        if rights.is_empty() { rights } else { rights & !granted(plan, &place, &place.sources(above)) }
    };
    let (own, of_directory) = (missing(own, false), missing(of_directory, true));
    let lacking = own | of_directory;
    if lacking.is_empty() {
        return None;
    }
    let directory = if place.exists { place.real.parent().unwrap_or(Path::new("/")) } else { &place.real };
    let at = if of_directory.is_empty() && place.exists { &place.real } else { directory };
    let rules: Vec<String> =
        rights::words(lacking).iter().map(|word| format!("{word}(\"{}\")", at.display())).collect();
    let why = format!("no rule lets it {} at {}", names(lacking), at.display());
    let help = format!("\"landlock\": (rules: [{}])", rules.join(", "));
    Some(denial(why, help, nearest(plan, &place.real)))
}

/// What the rules grant to whatever has one of these identities.
fn granted(plan: &Plan, place: &Place, sources: &[Identity]) -> BitFlags<AccessFs> {
    let holds = |path: &String| place.identity(Path::new(path)).is_some_and(|identity| sources.contains(&identity));
    plan.lines.iter().fold(BitFlags::EMPTY, |sum, line| match &line.what {
        What::Grant { path, access, .. } if holds(path) => sum | *access,
        _ => sum,
    })
}

/// The line that grants something else there, or else the first: where a grant would be added.
fn nearest(plan: &Plan, place: &Path) -> Option<Origin> {
    let grants = || {
        plan.lines.iter().filter_map(|line| match &line.what {
            What::Grant { path, .. } => Some((Path::new(path), line.origin)),
            _ => None,
        })
    };
    let covers = grants().filter(|(path, _)| place.starts_with(path));
    covers.max_by_key(|(path, _)| path.components().count()).or_else(|| grants().next())?.1
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::plan::{plan, tests::section};

    fn said(text: &str, act: &Act) -> Option<(String, String)> {
        let plan = plan(&section(text), Ok(7)).unwrap();
        explain(&plan, act).map(|denial| (denial.why, denial.help))
    }

    /// This very process, which sees what it sees.
    fn here(path: &Path, to: &str, kind: &str) -> Act {
        let act = Act::new([("pid", std::process::id().to_string()), ("path", path.display().to_string())]);
        act.with("to", to).with("kind", kind)
    }

    #[test]
    fn ports_of_udp_and_those_in_the_list_are_not_denied() {
        let connect = |port: &str, protocol: &str| {
            Act::new([("to", "connect"), ("address", "192.0.2.1"), ("port", port), ("protocol", protocol)])
        };
        let text = r#"( rules: [ Read("/") ], tcp: (connect: [443]) )"#;
        let (why, help) = said(text, &connect("80", "tcp")).unwrap();
        assert_eq!(why, "TCP port 80 is not in tcp.connect");
        assert_eq!(help, "\"landlock\": (tcp: (connect: [443, 80]))");
        assert_eq!(said(text, &connect("443", "tcp")), None);
        assert_eq!(said(text, &connect("53", "udp")), None);
        assert_eq!(said(r#"( rules: [ Read("/") ] )"#, &connect("80", "tcp")), None);
    }

    #[test]
    fn a_file_has_what_is_granted_to_it_or_above_it_under_any_name() {
        let dir = std::env::temp_dir().canonicalize().unwrap().join(format!("palisade-ll-{}", std::process::id()));
        std::fs::create_dir_all(dir.join("open/sub")).unwrap();
        std::fs::create_dir_all(dir.join("shut")).unwrap();
        std::fs::write(dir.join("open/sub/file"), "").unwrap();
        std::fs::write(dir.join("shut/file"), "").unwrap();
        std::os::unix::fs::symlink("../open/sub/file", dir.join("shut/link")).unwrap();
        let shown = dir.display();
        let text = format!(r#"( rules: [ Read("{shown}/open"), Write("{shown}/open/sub") ] )"#);
        let ask = |path: &str, to: &str, kind: &str| said(&text, &here(&dir.join(path), to, kind));
        assert_eq!(ask("open/sub/file", "read write truncate", "file"), None);
        assert_eq!(ask("shut/link", "read", "file"), None, "what a link leads to is what counts");
        assert_eq!(ask("open/sub/new", "write make", "file"), None);
        assert_eq!(ask("nowhere/new", "write make", "file"), None, "there is no such directory");
        assert_eq!(ask("shut/file", "look", "file"), None);
        let (why, help) = ask("shut/file", "read", "file").unwrap();
        assert_eq!(why, format!("no rule lets it read_file at {shown}/shut/file"));
        assert_eq!(help, format!("\"landlock\": (rules: [Read(\"{shown}/shut/file\")])"));
        let (why, _) = ask("open", "read write", "file").unwrap_or_default();
        assert_eq!(why, "", "a directory is not written");
        let (why, help) = ask("open/new", "make", "directory").unwrap();
        assert_eq!(why, format!("no rule lets it make_dir at {shown}/open"));
        assert_eq!(help, format!("\"landlock\": (rules: [Write(\"{shown}/open\")])"));
        assert_eq!(
            said(
                r#"( rules: [ Path(path: "/dev", allow: [WriteFile]) ] )"#,
                &here(Path::new("/dev/null"), "write truncate", "")
            ),
            None
        );
        // A rule for the directory itself says nothing of its own name.
        assert!(ask("open/sub", "remove", "directory").is_some());
        assert_eq!(ask("open/sub/file", "remove", "file"), None);
        std::fs::remove_dir_all(&dir).unwrap();
    }
}
