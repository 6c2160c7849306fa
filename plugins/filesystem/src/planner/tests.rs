//! Golden plans: the words of every step, for what a policy may say.

use super::*;
use palisade_abi::Plugin as _;
use palisade_model::diag::SourceId;
use palisade_model::layer::{Fragment, merge_layers};
use palisade_model::vars::Vars;

fn host(capabilities: u64, kernel: (u32, u32), plugins: &str) -> Host {
    let facts = [
        ("uid", "0".to_owned()),
        ("capabilities", capabilities.to_string()),
        ("kernel_major", kernel.0.to_string()),
        ("kernel_minor", kernel.1.to_string()),
        ("plugins", plugins.to_owned()),
    ];
    Host::new(facts.map(|(name, value)| (name.to_owned(), value)))
}

fn plan_on(text: &str, host: &Host) -> Result<Vec<String>, Error> {
    let fragment = Fragment::policy(SourceId(0), text, 0);
    let config = merge_layers(&[fragment], &Vars::new()).map_err(|e| Error::policy(e.message))?;
    let steps = crate::Filesystem::configure(config, host)?.plan(host)?;
    Ok(steps.iter().map(|step| format!("{step:?}")).collect())
}

fn plan(text: &str) -> Result<Vec<String>, Error> {
    plan_on(text, &host(1 << 21, (6, 1), "filesystem namespaces"))
}

fn refused(text: &str) -> String {
    plan(text).unwrap_err().message
}

const FIRST: &str = "build: makes an empty root: 16MiB, 4096 inodes";
const LAST: &str = "build: makes the view the root, read-only, and detaches the host's tree";

#[test]
fn the_reference_sets_every_option_and_is_planned() {
    let manifest = palisade_abi::manifest::Manifest::parse(include_str!("../manifest.ron")).unwrap();
    let fragment = Fragment::policy(SourceId(0), manifest.reference.clone(), 0);
    let config: Config = merge_layers(&[fragment], &Vars::new()).unwrap();
    assert!(config.root.is_some() && config.readonly.is_some() && config.etc.is_some());
    assert!(config.size.is_some() && config.inodes.is_some());
    let steps = plan(&manifest.reference).unwrap();
    // One step an entry, and open, root, pivot.
    assert_eq!(steps.len(), config.entries.len() + 3);
    let kinds = [
        "shows the host's",
        "binds /usr/share at /data",
        "tmpfs",
        "procfs",
        "makes /dev",
        "link",
        "directory",
        "file",
        "masks",
    ];
    for kind in kinds {
        assert!(steps.iter().any(|step| step.contains(kind)), "{kind}: {steps:#?}");
    }
}

#[test]
fn each_entry_is_one_step_in_words() {
    let text = r#"( entries: [ Tmpfs("/tmp"), Bind("/usr/share"), Bind(from: "/no/such", optional: true),
        Bind(from: "/usr/bin", to: "/b", mode: ReadWrite, noexec: true), Symlink("tmp", "/t"), Dir("/d"),
        File(path: "/f", content: "hi", mode: "0600"), Mask("/usr/share/doc"), Mask("/f"), Dev(tty: false, shm: "1MiB") ] )"#;
    assert_eq!(
        plan(text).unwrap(),
        [
            "prepare: opens 2 paths of the host as mounts that are attached nowhere",
            FIRST,
            "build: mounts an empty tmpfs on /tmp: 64MiB, 65536 inodes, nosuid,nodev",
            "build: binds /usr/share read-only, nosuid, nodev",
            "build: leaves /no/such out, which is not there",
            "build: binds /usr/bin at /b read-write, nosuid, nodev, noexec",
            "build: makes /t a symbolic link to tmp",
            "build: makes the directory /d, mode 0755",
            "build: makes the file /f: 2 bytes, mode 0600",
            "build: masks /usr/share/doc with an empty directory",
            "build: masks /f with a file that cannot be opened",
            "build: makes /dev: null zero full random urandom pts shm",
            LAST,
        ]
    );
}

#[test]
fn an_ordinary_user_opens_nothing_on_the_host() {
    let host = host(0, (6, 1), "filesystem namespaces");
    let steps = plan_on("( entries: [ Bind(\"/usr\") ] )", &host).unwrap();
    assert_eq!(steps, [FIRST, "build: binds /usr read-only, nosuid, nodev", LAST]);
}

#[test]
fn with_the_hosts_root_nothing_is_built() {
    assert_eq!(plan("( root: Host )").unwrap(), Vec::<String>::new());
    assert!(refused("( root: Host, entries: [ System ] )").contains("nothing is built"));
}

#[test]
fn a_directory_can_be_the_root_and_nothing_is_made_in_it() {
    let steps = plan("( root: Rootfs(\"/usr\"), entries: [ Tmpfs(\"/share\") ] )").unwrap();
    assert_eq!(steps[1], "build: takes /usr as the new root, ro,nosuid,nodev");
    assert_eq!(steps[3], "build: makes the view the root and detaches the host's tree");
    assert!(
        refused("( root: Rootfs(\"/usr\"), entries: [ Tmpfs(\"/none\") ] )").contains("there is no /none to mount on")
    );
    assert!(refused("( root: Rootfs(\"/usr\"), entries: [ System ] )").contains("both bring"));
    assert!(refused("( root: Rootfs(\"/usr\"), entries: [ File(\"/f\", \"\") ] )").contains("not the view's own"));
    assert!(refused("( root: Rootfs(\"/none\") )").contains("no directory /none"));
}

/// A mask made by binding left empty stub files in a user's repository.
#[test]
fn a_missing_target_in_a_host_directory_is_an_error() {
    assert!(refused("( entries: [ Bind(\"/usr\"), Mask(\"/usr/none\") ] )").contains("no /usr/none in the view"));
    let text = "( entries: [ Bind(from: \"/usr\", mode: ReadWrite), Bind(from: \"/usr/bin\", to: \"/usr/none\") ] )";
    assert!(refused(text).contains("there is no /usr/none to mount on"));
}

#[test]
fn the_last_file_of_a_name_counts() {
    let host = host(1 << 21, (6, 1), "filesystem namespaces");
    let text = "( entries: [ System, File(\"/etc/passwd\", \"me\"), File(\"/etc/passwd\", \"you\") ] )";
    let config: Config = merge_layers(&[Fragment::policy(SourceId(0), text, 0)], &Vars::new()).unwrap();
    let mut planner = Planner {
        host: &host,
        tree: Tree::new(Backing::Own),
        etc: Etc::Curated,
        attributes_reach_below: true,
        items: Vec::new(),
        bytes: 0,
        before: Vec::new(),
        stubs: Vec::new(),
        mapped: Vec::new(),
        sources: Vec::new(),
    };
    for entry in &config.entries {
        let item = planner.entry(entry).unwrap();
        planner.items.push((item, None));
    }
    let made = |op: &&Op| matches!(op, Op::File { path, .. } if path == "/etc/passwd");
    let all: Vec<_> = planner.items.iter().flat_map(|(item, _)| &item.ops).filter(made).collect();
    assert_eq!(all.len(), 1);
    assert!(matches!(all[0], Op::File { content: Content::Bytes(bytes), .. } if bytes == b"you"));
}

#[test]
fn what_cannot_be_is_refused() {
    for (text, says) in [
        ("( entries: [ Bind(\"/no/such\") ] )", "there is no /no/such to bind"),
        ("( entries: [ Bind(from: \"/usr\", to: \"/\") ] )", "hide the whole view"),
        ("( entries: [ Tmpfs(\"/\") ] )", "hide the whole view"),
        ("( entries: [ Mask(\"/\") ] )", "hide the whole view"),
        ("( entries: [ Proc, Bind(from: \"/usr\", to: \"/proc/sys\") ] )", "file system of the kernel"),
        ("( entries: [ File(\"/a\", \"\"), Tmpfs(\"/a\") ] )", "is a file already"),
        ("( size: \"1KiB\", entries: [ System ] )", "the files of the view hold"),
        ("( inodes: 0 )", "no limit"),
        ("( size: 0 )", "no limit"),
    ] {
        let said = refused(text);
        assert!(said.contains(says), "{text}: {said}");
    }
    let alone = host(1 << 21, (6, 1), "filesystem");
    assert!(plan_on("()", &alone).unwrap_err().message.contains("mount namespace"));
}

#[test]
fn before_linux_5_12_a_bind_with_mounts_below_is_refused() {
    let old = host(1 << 21, (5, 10), "filesystem namespaces");
    assert!(plan_on("( entries: [ Bind(\"/usr/bin\") ] )", &old).is_ok());
    let error = plan_on("( entries: [ Bind(\"/\"), ] )", &old).unwrap_err();
    assert!(error.message.contains("hide the whole view"));
    let error = plan_on("( entries: [ Bind(from: \"/\", to: \"/host\"), ] )", &old).unwrap_err();
    assert!(error.message.contains("mounted below /") && error.help.contains("5.12"), "{}", error.message);
}

#[test]
fn overlays_say_where_changes_go() {
    let entry = "( entries: [ System, Overlay(lower: \"/usr/share\", at: \"/w\", size: \"1MiB\", inodes: 9) ] )";
    let words = "build: shows /usr/share copy-on-write at /w, nosuid,nodev: changes go to a tmpfs of 1MiB, 9 inodes";
    assert!(plan(entry).unwrap().iter().any(|step| step == words), "{:#?}", plan(entry));
    let old = host(0, (5, 10), "filesystem namespaces");
    assert_eq!(plan_on(entry, &old).unwrap_err().message, "an overlay in a user namespace needs Linux 5.11");
    // Root needs no user namespace; whether it has one is seen when the overlay is made.
    assert!(plan_on(entry, &host(1 << 21, (5, 10), "filesystem namespaces")).is_ok());
    assert!(plan_on(entry, &host(0, (5, 11), "filesystem namespaces")).is_ok());
    for (entry, says) in [
        ("Overlay(\"/no/such\")", "there is no directory"),
        ("Overlay(lower: \"/usr\", at: \"/\")", "hide the whole view"),
        ("Overlay(lower: \"/usr\", at: \"/w\", upper: Keep(\"/usr/share\"))", "lie in each other"),
        ("Overlay(lower: \"/usr/share\", upper: Keep(\"/usr\"))", "lie in each other"),
    ] {
        let error = refused(&format!("( entries: [ {entry} ] )"));
        assert!(error.contains(says), "{entry}: {error}");
    }
}
