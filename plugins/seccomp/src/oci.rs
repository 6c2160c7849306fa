//! Profiles of the container world: the `linux.seccomp` object of the OCI runtime specification, with what Docker and
//! Podman add to it for their own, as rules of this plugin.
//!
//! What a profile says and cannot be had here is an error; a name that no architecture has is left out, as libseccomp
//! does, since profiles name calls of kernels to come. Of two rules for one call the stricter wins here.

use crate::action::{Action, Errno};
use crate::calls::{self, Arch};
use crate::rule::{Arg, CallName, Index, Rule, Test};
use palisade_abi::serde::Deserialize;
use std::collections::BTreeSet;

/// Longer than any profile.
pub(crate) const LARGEST: u64 = 1 << 20;

/// What a profile says, in the terms of this plugin's section.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Profile {
    pub(crate) default: Option<Action>,
    pub(crate) deny: Vec<Rule>,
    pub(crate) allow: Vec<Rule>,
    pub(crate) log: bool,
    /// Names that no architecture has.
    pub(crate) unknown: BTreeSet<String>,
}

#[derive(Debug, Deserialize)]
#[serde(crate = "palisade_abi::serde", rename_all = "camelCase", deny_unknown_fields)]
struct File {
    default_action: Word,
    default_errno_ret: Option<u64>,
    #[serde(default)]
    flags: Vec<String>,
    #[serde(default)]
    syscalls: Vec<Entry>,
    listener_path: Option<String>,
    // Other architectures are killed, whatever a profile says of them.
    #[serde(rename = "architectures")]
    _architectures: Option<serde_json::Value>,
    #[serde(rename = "archMap")]
    _arch_map: Option<serde_json::Value>,
    #[serde(rename = "listenerMetadata")]
    _listener_metadata: Option<serde_json::Value>,
}

#[derive(Debug, Deserialize)]
#[serde(crate = "palisade_abi::serde", rename_all = "camelCase", deny_unknown_fields)]
struct Entry {
    #[serde(default)]
    names: Vec<String>,
    name: Option<String>,
    action: Word,
    errno_ret: Option<u64>,
    args: Option<Vec<Condition>>,
    includes: Option<When>,
    excludes: Option<When>,
    #[serde(rename = "comment")]
    _comment: Option<String>,
}

#[derive(Debug, Deserialize)]
#[serde(crate = "palisade_abi::serde", rename_all = "camelCase", deny_unknown_fields)]
struct Condition {
    index: Index,
    value: u64,
    #[serde(default)]
    value_two: u64,
    op: Compare,
}

/// For which launches Docker and Podman apply a rule.
#[derive(Debug, Default, Deserialize)]
#[serde(crate = "palisade_abi::serde", rename_all = "camelCase", deny_unknown_fields)]
struct When {
    #[serde(default)]
    caps: Vec<String>,
    #[serde(default)]
    arches: Vec<String>,
    min_kernel: Option<String>,
}

#[derive(Clone, Copy, Debug, Deserialize, PartialEq, Eq)]
#[serde(crate = "palisade_abi::serde")]
enum Word {
    #[serde(rename = "SCMP_ACT_ALLOW")]
    Allow,
    #[serde(rename = "SCMP_ACT_LOG")]
    Log,
    #[serde(rename = "SCMP_ACT_ERRNO")]
    Errno,
    #[serde(rename = "SCMP_ACT_TRAP")]
    Trap,
    #[serde(rename = "SCMP_ACT_KILL", alias = "SCMP_ACT_KILL_THREAD")]
    KillThread,
    #[serde(rename = "SCMP_ACT_KILL_PROCESS")]
    KillProcess,
    #[serde(rename = "SCMP_ACT_TRACE")]
    Trace,
    #[serde(rename = "SCMP_ACT_NOTIFY")]
    Notify,
}

#[derive(Clone, Copy, Debug, Deserialize)]
#[serde(crate = "palisade_abi::serde")]
enum Compare {
    #[serde(rename = "SCMP_CMP_NE")]
    Ne,
    #[serde(rename = "SCMP_CMP_LT")]
    Lt,
    #[serde(rename = "SCMP_CMP_LE")]
    Le,
    #[serde(rename = "SCMP_CMP_EQ")]
    Eq,
    #[serde(rename = "SCMP_CMP_GE")]
    Ge,
    #[serde(rename = "SCMP_CMP_GT")]
    Gt,
    #[serde(rename = "SCMP_CMP_MASKED_EQ")]
    MaskedEq,
}

impl Word {
    fn action(self, errno: Option<u64>) -> Result<Action, String> {
        Ok(match self {
            Self::Allow => Action::Allow,
            Self::Log => Action::Log,
            Self::Errno => Action::Errno(match errno {
                None => Errno::EPERM,
                Some(number) => Errno::from_number(number).ok_or_else(|| format!("{number} is no errno: 1 to 4095"))?,
            }),
            Self::Trap => Action::Trap,
            Self::KillThread => Action::KillThread,
            Self::KillProcess => Action::KillProcess,
            Self::Trace => return Err("SCMP_ACT_TRACE needs a tracer, and there is none".to_owned()),
            Self::Notify => return Err("SCMP_ACT_NOTIFY needs a listener, and there is none".to_owned()),
        })
    }
}

impl Condition {
    fn arg(&self) -> Arg {
        let value = self.value;
        let test = match self.op {
            Compare::Ne => Test::Ne(value),
            Compare::Lt => Test::Lt(value),
            Compare::Le => Test::Le(value),
            Compare::Eq => Test::Eq(value),
            Compare::Ge => Test::Ge(value),
            Compare::Gt => Test::Gt(value),
            Compare::MaskedEq => Test::MaskedEq(value, self.value_two),
        };
        // libseccomp compares all 64 bits.
        Arg::Arg64(self.index, test)
    }
}

impl When {
    /// Whether it holds here. A workload that is confined by a profile is taken for one without capabilities: with one
    /// of them, only what the profile gives everybody is allowed.
    fn holds(&self, arch: Arch, kernel: (u32, u32)) -> bool {
        let here = match arch {
            Arch::X86_64 => "amd64",
            Arch::Aarch64 => "arm64",
        };
        let young = self.min_kernel.as_deref().is_none_or(|text| {
            let mut parts = text.split('.').map(|part| part.parse().unwrap_or(u32::MAX));
            (parts.next().unwrap_or(u32::MAX), parts.next().unwrap_or(0)) <= kernel
        });
        self.caps.is_empty() && (self.arches.is_empty() || self.arches.iter().any(|name| name == here)) && young
    }

    /// Whether any of what it names is so.
    fn touches(&self, arch: Arch, kernel: (u32, u32)) -> bool {
        let arches = Self { arches: self.arches.clone(), ..Self::default() };
        let minimum = Self { min_kernel: self.min_kernel.clone(), ..Self::default() };
        !self.arches.is_empty() && arches.holds(arch, kernel)
            || self.min_kernel.is_some() && minimum.holds(arch, kernel)
    }
}

/// Reads a profile for an architecture and a kernel.
///
/// # Errors
/// What is wrong with it, or cannot be had.
pub(crate) fn read(text: &str, arch: Arch, kernel: (u32, u32)) -> Result<Profile, String> {
    let file: File = serde_json::from_str(text).map_err(|error| error.to_string())?;
    if file.listener_path.is_some() {
        return Err("`listenerPath`: there is no listener here".to_owned());
    }
    let mut profile =
        Profile { default: Some(file.default_action.action(file.default_errno_ret)?), ..Profile::default() };
    for flag in &file.flags {
        match flag.as_str() {
            "SECCOMP_FILTER_FLAG_LOG" => profile.log = true,
            // There is one thread when the filter is installed.
            "SECCOMP_FILTER_FLAG_TSYNC" => {}
            other => return Err(format!("the flag {other} cannot be had")),
        }
    }
    for entry in &file.syscalls {
        for minimum in
            [&entry.includes, &entry.excludes].into_iter().flatten().filter_map(|when| when.min_kernel.as_ref())
        {
            // One that cannot be read would hold nowhere, and in `excludes` that lets the rule through.
            if minimum.split('.').any(|part| part.parse::<u32>().is_err()) {
                return Err(format!("`minKernel` is {minimum:?}, and no version such as \"4.8\""));
            }
        }
        let included = entry.includes.as_ref().is_none_or(|when| when.holds(arch, kernel));
        let excluded = entry.excludes.as_ref().is_some_and(|when| when.touches(arch, kernel));
        if included && !excluded {
            profile.add(entry)?;
        }
    }
    Ok(profile)
}

impl Profile {
    fn add(&mut self, entry: &Entry) -> Result<(), String> {
        let action = entry.action.action(entry.errno_ret)?;
        // The specification leaves such a rule out.
        if Some(action) == self.default {
            return Ok(());
        }
        for name in entry.names.iter().chain(&entry.name) {
            let Some(known) = calls::known(name) else {
                self.unknown.insert(name.clone());
                continue;
            };
            for rule in rules(CallName(known), entry.args.as_deref().unwrap_or_default()) {
                match action {
                    Action::Allow => self.allow.push(rule),
                    Action::Log => self.allow.push(Rule::Answer(Box::new(rule), action)),
                    denied => self.deny.push(Rule::Answer(Box::new(rule), denied)),
                }
            }
        }
        Ok(())
    }
}

/// All conditions must hold; but where one argument has two, each is a rule of its own, as in runc.
fn rules(call: CallName, conditions: &[Condition]) -> Vec<Rule> {
    let indices: BTreeSet<u8> = conditions.iter().map(|condition| condition.index.0).collect();
    let all = || conditions.iter().map(Condition::arg);
    match conditions.len() {
        0 => vec![Rule::Call(call)],
        count if indices.len() < count => all().map(|arg| Rule::When(call, vec![arg])).collect(),
        _ => vec![Rule::When(call, all().collect())],
    }
}
