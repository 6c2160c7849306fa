//! What a section makes of the calls: the program is compiled as for a launch and interpreted.

mod conditions;
mod dispatch;
mod groups;
mod live;
mod mistakes;
mod profile;
mod sim;

use crate::calls::Arch;
use crate::config::Config;
use crate::install::Filter;
use crate::program;
use palisade_abi::manifest::Manifest;
use palisade_abi::{Host, Isolator, Plugin as _};
use palisade_model::diag::{Diagnostic, SourceId};
use palisade_model::layer::{Fragment, merge_layers};
use palisade_model::vars::Vars;
use palisade_sys::seccomp::Instruction;
use sim::{Data, run};

const ALLOW: u32 = 0x7fff_0000;
const LOG: u32 = 0x7ffc_0000;
const KILL: u32 = 0x8000_0000;
const EPERM: u32 = 0x0005_0001;
const ENOSYS: u32 = 0x0005_0026;
const EAFNOSUPPORT: u32 = 0x0005_0061;
const EPROTONOSUPPORT: u32 = 0x0005_005d;
const ESOCKTNOSUPPORT: u32 = 0x0005_005e;
const EOPNOTSUPP: u32 = 0x0005_005f;

fn parse(text: &str) -> Result<Config, Diagnostic> {
    merge_layers(&[Fragment::policy(SourceId(0), text, 0)], &Vars::new())
}

fn filter(text: &str) -> Filter {
    Filter::new(parse(text).unwrap_or_else(|e| panic!("{text}: {e}"))).unwrap_or_else(|e| panic!("{text}: {e:?}"))
}

struct Compiled {
    arch: Arch,
    program: Vec<Instruction>,
}

fn compile(text: &str, arch: Arch) -> Compiled {
    let table = filter(text).table(arch).unwrap_or_else(|e| panic!("{text}: {e:?}"));
    Compiled { arch, program: program::compile(&table, &|_number| program::Ask::Nothing).unwrap() }
}

impl Compiled {
    fn number(&self, number: u32, args: [u64; 6]) -> u32 {
        run(&self.program, &Data { number, arch: self.arch.audit(), args }).0
    }

    fn call(&self, name: &str, args: &[u64]) -> u32 {
        let mut all = [0; 6];
        all[..args.len()].copy_from_slice(args);
        self.number(self.arch.number(name).unwrap_or_else(|| panic!("no {name} on {:?}", self.arch)), all)
    }
}

#[test]
fn the_reference_sets_every_option_and_can_be_planned() {
    let manifest = Manifest::parse(include_str!("../manifest.ron")).unwrap();
    let config = parse(&manifest.reference).unwrap();
    let Config { default, deny_action, oci_profile, deny, allow, unknown_calls, log, demand } = &config;
    assert!(default.is_some() && deny_action.is_some() && unknown_calls.is_some() && log.is_some());
    assert!(demand.is_some() && !deny.is_empty() && !allow.is_empty() && oci_profile.is_some());
    // The file of that name is none of the test's.
    let config = Config { oci_profile: None, ..config };
    let host = Host::new([("plugins".to_owned(), "privileges seccomp".to_owned())]);
    let steps = crate::Seccomp::configure(config, &host).unwrap().plan(&host).unwrap();
    assert_eq!(steps.len(), 1);
    assert!(format!("{:?}", steps[0]).starts_with("seal: denies "), "{:?}", steps[0]);
}

#[test]
fn the_words_say_what_is_denied() {
    let plan = |text: &str| {
        let host = Host::new([("plugins".to_owned(), "privileges".to_owned())]);
        filter(text).plan(&host).unwrap().iter().map(|step| format!("{step:?}")).collect::<Vec<_>>().join("; ")
    };
    assert!(plan("(deny: [Call(\"acct\"), Group(\"@tty-inject\")], unknown_calls: Default)").starts_with(
        "seal: denies 1 system call and 1 by its arguments, allows the rest; kills on a foreign architecture ("
    ));
    assert!(
        plan("(default: Errno(\"EPERM\"), allow: [Group(\"@launch\"), When(\"read\", [Arg32(0, Eq(0))])])")
            .starts_with("seal: allows 5 system calls and 1 by its arguments, answers EPERM to the rest; kills on")
    );
    assert_eq!(plan("(deny: [Call(\"acct\")], demand: Off)"), "");
}

#[test]
fn without_any_privilege_the_policy_is_refused_before_anything_starts() {
    let host = |plugins: &str, capabilities: &str| {
        Host::new([("plugins".to_owned(), plugins.to_owned()), ("capabilities".to_owned(), capabilities.to_owned())])
    };
    let filter = filter("(deny: [Call(\"acct\")])");
    let error = filter.plan(&host("seccomp", "0")).unwrap_err();
    assert_eq!(error.help, "add \"privileges\": (no_new_privs: true), or run as root");
    assert!(filter.plan(&host("seccomp privileges", "0")).is_ok());
    assert!(filter.plan(&host("seccomp", "2097152")).is_ok());
}
