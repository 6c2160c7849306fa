//! Bad policies and the exact message that each one gets.
//!
//! A case is `bad/NN-name.ron`, or a directory `bad/NN-name/` whose `main.ron` is the policy and
//! whose other files are found by name. Comment lines at the top of the policy give arguments:
//! `// --set a.b=c`, `// --var a=b`. The message is in the `.txt` file beside it; run with
//! `PALISADE_BLESS=1` to write it anew, and read what changed.
#![expect(clippy::unwrap_used, missing_docs, reason = "a test that cannot read its own files has failed")]

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use palisade_model::diag::{Diagnostic, Sources};
use palisade_model::layer::{At, merge_layers};
use palisade_model::resolve::{Found, Request, Resolved, resolve};
use palisade_model::units::{AbsPath, CountOrMax, CpuSet, Id, Mode, Percent, Size, SizeOrMax, Text, Time};
use palisade_model::vars::Vars;
use serde::Deserialize;

palisade_model::layered! {
    pub struct Cgroups {
        pub memory: Memory,
        pub pids: Pids,
        pub cpu: Cpu,
        pub io: Vec<At<Device>>,
    }
    pub struct Memory {
        pub max: Option<At<SizeOrMax>>,
        pub swap: Option<At<Size>>,
    }
    pub struct Pids {
        pub max: Option<At<CountOrMax>>,
    }
    pub struct Cpu {
        pub max: Option<At<Percent>>,
        pub cpus: Option<At<CpuSet>>,
    }
    pub struct Landlock {
        pub rules: Vec<At<Rule>>,
        pub labels: BTreeMap<String, At<Text>>,
        pub ports: BTreeMap<String, Memory>,
    }
    pub struct Seccomp {
        pub default: Option<At<Action>>,
        pub allow: Vec<At<String>>,
        pub strict: Option<At<bool>>,
        pub wait: Option<At<Time>>,
        pub owner: Option<At<Id>>,
        pub mode: Option<At<Mode>>,
    }
}

#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Device {
    pub path: AbsPath,
    pub weight: u16,
}

#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub enum Rule {
    Read(AbsPath),
    Write(AbsPath),
    Move(AbsPath, AbsPath),
    Dir { path: AbsPath, mode: Mode },
}

#[derive(Clone, Debug, Deserialize)]
pub enum Action {
    Allow,
    Kill,
    Errno(u16),
}

fn sections(resolved: &Resolved, vars: &Vars) -> Result<(), Diagnostic> {
    for plugin in resolved.plugins.values() {
        match plugin.name.as_str() {
            "cgroups" => drop(merge_layers::<Cgroups>(&plugin.layers, vars)?),
            "landlock" => drop(merge_layers::<Landlock>(&plugin.layers, vars)?),
            "seccomp" => drop(merge_layers::<Seccomp>(&plugin.layers, vars)?),
            _ => {}
        }
    }
    Ok(())
}

fn run(case: &Path, sources: &mut Sources) -> Result<(), Diagnostic> {
    let (dir, main) = if case.is_dir() {
        (case.to_owned(), case.join("main.ron"))
    } else {
        (case.parent().unwrap().join("base"), case.to_owned())
    };
    let text = fs::read_to_string(&main).unwrap();
    let arguments = |option: &str| -> Vec<String> {
        text.lines()
            .filter_map(|line| line.strip_prefix("// --")?.strip_prefix(option))
            .map(|value| value.trim_start().to_owned())
            .collect()
    };
    let mut vars = Vars::new();
    for (name, value) in [("project", "/src/app"), ("home", "/home/ann"), ("tmp", "/tmp")] {
        vars.set_builtin(name, value);
    }
    for pair in arguments("var") {
        let (name, value) = pair.split_once('=').unwrap();
        vars.define(name, value)?;
    }
    let main_name = main.file_name().unwrap().to_str().unwrap().to_owned();
    let policy = sources.add(main_name, text.clone());
    let request = Request { policy, sets: arguments("set"), vars: &vars };
    let resolved = resolve(sources, request, &mut |name| {
        let file = format!("{name}.ron");
        match fs::read_to_string(dir.join(&file)) {
            Ok(text) => Ok(Found { name: file, text }),
            Err(_) => Err(Diagnostic::new(format!("no policy is named `{name}`"))),
        }
    })?;
    sections(&resolved, &vars)
}

fn cases() -> Vec<PathBuf> {
    let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/bad");
    let mut cases: Vec<PathBuf> = fs::read_dir(dir)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.file_name() != Some("base".as_ref()))
        .filter(|path| path.is_dir() || path.extension() == Some("ron".as_ref()))
        .collect();
    cases.sort();
    cases
}

#[test]
fn every_bad_policy_gets_its_message() {
    let bless = std::env::var_os("PALISADE_BLESS").is_some();
    let mut wrong = Vec::new();
    let cases = cases();
    assert!(cases.len() >= 40, "only {} cases", cases.len());
    for case in cases {
        let mut sources = Sources::default();
        let said = match run(&case, &mut sources) {
            Ok(()) => "accepted\n".to_owned(),
            Err(error) => error.render(&sources),
        };
        let golden = case.with_extension("txt");
        if bless {
            fs::write(&golden, &said).unwrap();
        }
        let expected = fs::read_to_string(&golden).unwrap_or_default();
        if said != expected || said.starts_with("accepted") {
            wrong.push(format!("{}\n--- expected\n{expected}--- said\n{said}", case.display()));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}
