//! A root file system, as small as it can be.

use crate::Run;
use std::fs;
use std::path::Path;

/// Copies a program with its libraries into a root file system.
pub fn install(root: &Path, program: &str) {
    let real = fs::canonicalize(program).unwrap();
    let listed = Run::bare(["ldd", real.to_str().unwrap()]).ran().stdout;
    let libraries = listed.split_ascii_whitespace().filter(|word| word.starts_with('/'));
    for path in libraries.chain([program]) {
        let to = root.join(path.trim_start_matches('/'));
        fs::create_dir_all(to.parent().unwrap()).unwrap();
        fs::copy(path, &to).unwrap();
    }
}
