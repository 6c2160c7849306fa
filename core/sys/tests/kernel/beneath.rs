//! Paths in a tree that somebody else may write: ordinary ones work, and no link leads out.

use std::os::unix::fs::symlink;
use std::path::PathBuf;

use palisade_sys::beneath::{Root, open_without_links};
use palisade_sys::{Errno, fd};

use crate::help::{TempDir, refused};
use crate::runner::cases;

cases![
    an_ordinary_path_is_opened,
    a_link_starts_at_the_root_of_the_tree,
    dots_stop_at_the_root_of_the_tree,
    magic_links_are_refused,
    what_is_made_is_made_inside,
    a_path_without_links_is_one,
];

/// A tree, and a directory beside it that nobody in the tree may reach.
struct Place {
    base: TempDir,
    root: Root,
}

impl Place {
    fn new() -> Self {
        let base = TempDir::new("beneath");
        for dir in ["tree", "tree/sub", "outside"] {
            std::fs::create_dir(base.join(dir)).unwrap();
        }
        base.file("tree/sub/file", "inside");
        base.file("outside/secret", "secret");
        let root = Root::from_fd(fd::open_path(base.join("tree"), fd::O_PATH | fd::O_DIRECTORY).unwrap());
        Self { base, root }
    }

    fn inside(&self, name: &str) -> PathBuf {
        self.base.join("tree").join(name)
    }

    fn read(&self, path: &str) -> palisade_sys::Result<Vec<u8>> {
        self.root.open(path, fd::O_RDONLY).and_then(|file| fd::read_all(&file))
    }
}

fn an_ordinary_path_is_opened() {
    let place = Place::new();
    for path in ["sub/file", "/sub/file", "./sub/./file", "sub/../sub/file"] {
        assert_eq!(place.read(path).unwrap(), b"inside", "{path}");
    }
    assert!(place.root.exists("sub").unwrap() && place.root.exists("").unwrap());
    assert!(!place.root.exists("missing").unwrap() && !place.root.exists("sub/file/below").unwrap());
    symlink("sub", place.inside("way")).unwrap();
    symlink("/sub/file", place.inside("absolute")).unwrap();
    assert_eq!(place.read("way/file").unwrap(), b"inside");
    assert_eq!(place.read("absolute").unwrap(), b"inside");
    assert!(!fd::is_inherited(std::os::fd::AsRawFd::as_raw_fd(&place.root.open("sub", fd::O_PATH).unwrap())).unwrap());
}

fn a_link_starts_at_the_root_of_the_tree() {
    let place = Place::new();
    let secret = place.base.join("outside/secret");
    symlink(&secret, place.inside("absolute")).unwrap();
    symlink("../../outside/secret", place.inside("sub/relative")).unwrap();
    symlink(place.base.join("outside"), place.inside("way")).unwrap();
    for path in ["absolute", "sub/relative", "way/secret"] {
        // To who follows links it is the secret.
        assert_eq!(std::fs::read(place.inside(path)).unwrap(), b"secret");
        refused(place.read(path), Errno::ENOENT);
        assert!(!place.root.exists(path).unwrap());
    }
    // Where the tree has that path itself, that is what is meant.
    symlink("/etc/passwd", place.inside("users")).unwrap();
    std::fs::create_dir(place.inside("etc")).unwrap();
    std::fs::write(place.inside("etc/passwd"), "of the tree").unwrap();
    assert_eq!(place.read("users").unwrap(), b"of the tree");
    assert_ne!(std::fs::read(place.inside("users")).unwrap(), b"of the tree");
}

fn dots_stop_at_the_root_of_the_tree() {
    let place = Place::new();
    for path in ["../outside/secret", "sub/../../outside/secret"] {
        assert_eq!(std::fs::read(place.inside(path)).unwrap(), b"secret");
        refused(place.read(path), Errno::ENOENT);
    }
    assert_eq!(place.read("../../../../sub/file").unwrap(), b"inside");
    let up = place.root.open("..", fd::O_PATH).unwrap();
    assert!(fd::is_same_file(&up, &place.root).unwrap());
}

fn magic_links_are_refused() {
    let host = Root::from_fd(fd::open_path("/", fd::O_PATH | fd::O_DIRECTORY).unwrap());
    for path in ["/proc/self/root/etc", "/proc/self/cwd", "/proc/self/fd/0"] {
        fd::open_path(path, fd::O_PATH).unwrap();
        refused(host.open(path, fd::O_PATH), Errno::ELOOP);
        refused(open_without_links(path, fd::O_PATH), Errno::ELOOP);
    }
    host.open("/proc/self/status", fd::O_RDONLY).unwrap();
}

fn what_is_made_is_made_inside() {
    let place = Place::new();
    let outside = || std::fs::read_dir(place.base.join("outside")).unwrap().count();
    symlink(place.base.join("outside"), place.inside("way")).unwrap();
    symlink(place.base.join("outside/secret"), place.inside("file-link")).unwrap();
    let made = place.root.mkdir_all("a/b/c", 0o700).unwrap();
    assert!(fd::is_same_file(&made, fd::open_path(place.inside("a/b/c"), fd::O_PATH).unwrap()).unwrap());
    place.root.create_file("x/y/new", 0o600, b"text").unwrap();
    assert_eq!(std::fs::read(place.inside("x/y/new")).unwrap(), b"text");
    place.root.ensure_file("x/y/new", 0o600).unwrap();
    place.root.symlink("anywhere", "x/link").unwrap();
    refused(place.root.create_file("x/y/new", 0o600, b"again"), Errno::EEXIST);
    refused(place.root.symlink("anywhere", "x/link"), Errno::EEXIST);
    refused(place.root.ensure_file("a/b", 0o600), Errno::EISDIR);

    // To who follows links each of these would land outside.
    std::fs::write(place.inside("way/marker"), "").unwrap();
    assert_eq!(outside(), 2);
    place.root.mkdir_all("way/dir", 0o700).unwrap_err();
    place.root.create_file("way/file", 0o600, b"x").unwrap_err();
    place.root.ensure_file("way/file", 0o600).unwrap_err();
    place.root.symlink("x", "way/link").unwrap_err();
    refused(place.root.create_file("file-link", 0o600, b"changed"), Errno::EEXIST);
    place.root.ensure_file("file-link", 0o600).unwrap_err();
    refused(place.root.mkdir_all("../escaped", 0o700), Errno::EINVAL);
    refused(place.root.mkdir_all("new/../../escaped", 0o700), Errno::EINVAL);
    refused(place.root.create_file("..", 0o600, b"x"), Errno::EINVAL);
    assert_eq!(outside(), 2);
    assert!(!place.base.join("escaped").exists());
    assert_eq!(std::fs::read(place.base.join("outside/secret")).unwrap(), b"secret");
}

fn a_path_without_links_is_one() {
    let place = Place::new();
    let plain = place.inside("sub/file");
    open_without_links(&plain, fd::O_RDONLY).unwrap();
    symlink("sub", place.inside("way")).unwrap();
    symlink("file", place.inside("sub/last")).unwrap();
    for path in ["way/file", "sub/last"] {
        assert_eq!(std::fs::read(place.inside(path)).unwrap(), b"inside");
        let error = refused(open_without_links(place.inside(path), fd::O_RDONLY), Errno::ELOOP);
        assert!(error.hint().unwrap().contains("symbolic link"), "{error:?}");
    }
    refused(open_without_links("nul\0", fd::O_RDONLY), Errno::EINVAL);
}
