//! The C table as it lies in memory. The header `core/abi/include/palisade_plugin.h` is made from this file, comments
//! and all: they are written for authors in C.

#![allow(non_camel_case_types, reason = "the names are those of the header")]

use std::ffi::{c_char, c_void};

/// The version of the seam that this header is of. A minor adds, a major breaks.
pub const PALISADE_SEAM_MAJOR: u32 = 1;
/// See PALISADE_SEAM_MAJOR.
pub const PALISADE_SEAM_MINOR: u32 = 1;

/// An error's kind: the policy asks for something that makes no sense.
pub const PALISADE_POLICY: u32 = 1;
/// An error's kind: the host cannot give what the policy asks for.
pub const PALISADE_HOST: u32 = 2;
/// An error's kind: a step failed while it was done, verified or undone.
pub const PALISADE_SETUP: u32 = 3;
/// An error's kind: the plugin itself is at fault.
pub const PALISADE_PLUGIN: u32 = 4;

/// A finding's support: all of it is there.
pub const PALISADE_FULL: u32 = 0;
/// A finding's support: some of it is there; the detail says what is missing.
pub const PALISADE_PARTIAL: u32 = 1;
/// A finding's support: none of it is there.
pub const PALISADE_MISSING: u32 = 2;

/// An attempt's severity.
pub const PALISADE_CRITICAL: u32 = 0;
/// An attempt's severity.
pub const PALISADE_HIGH: u32 = 1;
/// An attempt's severity.
pub const PALISADE_MEDIUM: u32 = 2;
/// An attempt's severity.
pub const PALISADE_LOW: u32 = 3;
/// An attempt's severity.
pub const PALISADE_INFO: u32 = 4;

/// A text: UTF-8, as many bytes as it says, no NUL needed at the end. Who hands it over keeps it; whoever receives it
/// copies what is to stay. All zero is the empty text.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct palisade_text {
    /// Its first byte; may be NULL where the length is 0.
    pub data: *const c_char,
    /// Its length in bytes.
    pub length: usize,
}

/// A place in the policy. Only palisade makes them: palisade_host.origin gives one, and errors and steps hand it back.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct palisade_origin {
    /// The source's number.
    pub source: u32,
    /// First byte.
    pub start: u32,
    /// One past the last byte.
    pub end: u32,
}

/// An error that teaches: what could not be done, how, and what the reader can do about it.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct palisade_error {
    /// sizeof(struct palisade_error).
    pub size: usize,
    /// PALISADE_POLICY, PALISADE_HOST, PALISADE_SETUP or PALISADE_PLUGIN; it decides the exit code.
    pub kind: u32,
    /// The errno of the call; 0 where there is none.
    pub number: i32,
    /// What was to be done and could not be, in words.
    pub message: palisade_text,
    /// The system call as written; empty where none was made.
    pub call: palisade_text,
    /// What the reader can do about it; empty where palisade's own table of errnos may answer.
    pub help: palisade_text,
    /// The place in the policy that is to blame, or NULL for the step's own.
    pub origin: *const palisade_origin,
}

/// What the host has of one thing that the plugin needs. `palisade doctor` prints it.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct palisade_finding {
    /// sizeof(struct palisade_finding).
    pub size: usize,
    /// PALISADE_FULL, PALISADE_PARTIAL or PALISADE_MISSING.
    pub support: u32,
    /// The feature, in the field's words.
    pub feature: palisade_text,
    /// What was seen: a version, a path, an errno.
    pub detail: palisade_text,
    /// What to do to get it; empty where nothing is to be done.
    pub remedy: palisade_text,
}

/// What a run that is over left on the host.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct palisade_left {
    /// sizeof(struct palisade_left).
    pub size: usize,
    /// Not 0 where it is gone now.
    pub removed: u32,
    /// What it is and where, in one line.
    pub what: palisade_text,
    /// Why it could not be removed; empty where it was, or was not to be.
    pub why: palisade_text,
}

/// A limit that the workload ran into.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct palisade_hit {
    /// sizeof(struct palisade_hit).
    pub size: usize,
    /// Not 0 where it is what ended the workload.
    pub ended_it: u32,
    /// The limit, by its name.
    pub limit: palisade_text,
    /// What was seen of it, in words.
    pub words: palisade_text,
    /// The policy line that set it, or NULL.
    pub origin: *const palisade_origin,
}

/// A command that tries something that the plugin claims to stop, for `palisade probe`. It prints the word {token} of its
/// arguments only if that worked.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct palisade_attempt {
    /// sizeof(struct palisade_attempt).
    pub size: usize,
    /// PALISADE_CRITICAL to PALISADE_INFO: how bad it is if it works.
    pub severity: u32,
    /// Its name: lower-case letters, digits and `-`.
    pub id: palisade_text,
    /// What it tries, in words.
    pub attempts: palisade_text,
    /// What else may stop it.
    pub layers: palisade_text,
    /// What it needs, to make sense at all; empty for nothing.
    pub needs: palisade_text,
    /// Why it does no harm where it works.
    pub harmless: palisade_text,
    /// The command and its arguments.
    pub argv: *const palisade_text,
    /// How many they are.
    pub argc: usize,
}

/// Does, verifies, witnesses or undoes a step. 0 for good; else palisade_host.fail was called before.
pub type palisade_act = Option<unsafe extern "C" fn(host: *const palisade_host, data: *mut c_void) -> i32>;

/// One thing to do. Either `ready` says what, and palisade does it, or `apply` does it.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct palisade_step {
    /// sizeof(struct palisade_step).
    pub size: usize,
    /// The stage: prepare, clone, attach, build, drop, seal, watch or finish.
    pub stage: palisade_text,
    /// What it does, in one line.
    pub words: palisade_text,
    /// Why it is done; may be empty.
    pub why: palisade_text,
    /// What becomes of the launch when it fails: require (or empty), degrade, off.
    pub demand: palisade_text,
    /// The policy line that it comes from, or NULL.
    pub origin: *const palisade_origin,
    /// Names of plugins whose steps come first in this stage.
    pub after: *const palisade_text,
    /// How many they are.
    pub after_count: usize,
    /// CLONE_NEW* flags for the process's creation; stage clone only.
    pub clone_flags: u64,
    /// Not 0 where an attach step may run while the child builds.
    pub concurrent: u32,
    /// A ready-made step as text, such as Hostname(name: "box"); empty where `apply` does it.
    pub ready: palisade_text,
    /// Does it. NULL for a ready-made step, and in stage clone.
    pub apply: palisade_act,
    /// Reads back from the host what the kernel believes; NULL where the host can read nothing.
    pub verify: palisade_act,
    /// The same from inside the process, before Seal; NULL where nothing is to be read there.
    pub witness: palisade_act,
    /// Takes it back; prepare and attach only, also after an `apply` that failed half-way. NULL for nothing.
    pub undo: palisade_act,
    /// Handed to the four above; it lives until `release`.
    pub data: *mut c_void,
}

/// palisade, as it stands to one call of the plugin. It and every text that it gives are good until the entry returns; what
/// it is given is copied. A function that makes no sense in an entry makes that entry fail.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct palisade_host {
    /// sizeof(struct palisade_host) of this palisade: compare it before a function is called that is newer than the first
    /// version of the table.
    pub size: usize,
    /// palisade's own.
    pub call: *mut c_void,
    /// Says why the entry fails; it then returns anything but 0. The first error counts.
    pub fail: unsafe extern "C" fn(host: *const palisade_host, error: *const palisade_error),
    /// Gives a fact about the host or the launch by name, such as uid, kernel_major, run_id: 1, or 0 where there is none.
    /// In probe, collect, configure and plan.
    pub fact: unsafe extern "C" fn(host: *const palisade_host, name: palisade_text, value: *mut palisade_text) -> i32,
    /// Gives a value of the merged section by its dotted path, an item of a list by its number: rules.0.path. A string
    /// comes without quotes and with its variables expanded, all else as it is written. 1, or 0 where the policy does not
    /// set it. In configure.
    pub value: unsafe extern "C" fn(host: *const palisade_host, path: palisade_text, value: *mut palisade_text) -> i32,
    /// Counts the items of a list or the keys of a map; 0 where the policy does not set it. In configure.
    pub count: unsafe extern "C" fn(host: *const palisade_host, path: palisade_text) -> usize,
    /// Gives a key of a map by its number, in the order of the alphabet: 1, or 0 beyond the last. In configure.
    pub key: unsafe extern "C" fn(
        host: *const palisade_host,
        path: palisade_text,
        index: usize,
        key: *mut palisade_text,
    ) -> i32,
    /// Gives the place where something was written in the policy: 1, or 0 where the policy does not set it. In configure.
    pub origin:
        unsafe extern "C" fn(host: *const palisade_host, path: palisade_text, origin: *mut palisade_origin) -> i32,
    /// Tells a finding. In probe.
    pub finding: unsafe extern "C" fn(host: *const palisade_host, finding: *const palisade_finding),
    /// Tells what was left. In collect.
    pub left: unsafe extern "C" fn(host: *const palisade_host, left: *const palisade_left),
    /// Adds a step. In plan.
    pub step: unsafe extern "C" fn(host: *const palisade_host, step: *const palisade_step),
    /// Names a descriptor to be watched while the workload runs. In watch.
    pub descriptor: unsafe extern "C" fn(host: *const palisade_host, descriptor: i32),
    /// Tells a figure; its name ends in its unit, such as _bytes or _us. In sample and finish.
    pub figure: unsafe extern "C" fn(host: *const palisade_host, name: palisade_text, figure: u64),
    /// Tells a limit that was hit. In finish.
    pub hit: unsafe extern "C" fn(host: *const palisade_host, hit: *const palisade_hit),
    /// Adds an attempt. In attempts.
    pub attempt: unsafe extern "C" fn(host: *const palisade_host, attempt: *const palisade_attempt),
    /// Says what shows that the step is in force, for the report. In a step's apply, verify and witness.
    pub evidence: unsafe extern "C" fn(host: *const palisade_host, words: palisade_text),
    /// Gives a number by name: pid, the process that is being set up, and init_pid, the one that was cloned, as the host
    /// numbers them, from attach on. 1, or 0 where there is none yet. In a step.
    pub number: unsafe extern "C" fn(host: *const palisade_host, name: palisade_text, number: *mut i64) -> i32,
    /// Offers an open directory of cgroup v2 for the process to be born in; it stays open. In apply of stage prepare.
    pub offer_cgroup: unsafe extern "C" fn(host: *const palisade_host, descriptor: i32),
    /// Hands an open descriptor over to the plugin's `take` on the host; it stays open here until execve. In apply of
    /// stages drop and seal.
    pub hand_over: unsafe extern "C" fn(host: *const palisade_host, descriptor: i32),
}

/// The plugin: exported under the name palisade_plugin. Each entry gives 0, or anything else after palisade_host.fail.
/// No exception and no longjmp may leave an entry. The pointer `isolator` is what configure made.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct palisade_plugin_table {
    /// sizeof(struct palisade_plugin_table).
    pub size: usize,
    /// PALISADE_SEAM_MAJOR.
    pub seam_major: u32,
    /// PALISADE_SEAM_MINOR.
    pub seam_minor: u32,
    /// Says with palisade_host.finding what this host has of what the plugin needs. NULL for nothing.
    pub probe: Option<unsafe extern "C" fn(host: *const palisade_host) -> i32>,
    /// Finds with palisade_host.left what runs that were killed left, and removes it where `remove` is not 0. What a run
    /// that goes on needs must not be among it. NULL for nothing.
    pub collect: Option<unsafe extern "C" fn(host: *const palisade_host, remove: i32) -> i32>,
    /// Checks the section and makes what the other entries get as `isolator`. Touches nothing. Needed.
    pub configure: Option<unsafe extern "C" fn(host: *const palisade_host, isolator: *mut *mut c_void) -> i32>,
    /// Makes the steps with palisade_host.step. Touches nothing. Needed.
    pub plan: Option<unsafe extern "C" fn(host: *const palisade_host, isolator: *mut c_void) -> i32>,
    /// Frees what configure made, once nothing asks for it any more. NULL for nothing.
    pub release: Option<unsafe extern "C" fn(isolator: *mut c_void)>,
    /// Names with palisade_host.descriptor what to watch while the workload runs; asked again after each `ready`. Needs
    /// `ready`. NULL for nothing.
    pub watch: Option<unsafe extern "C" fn(host: *const palisade_host, isolator: *mut c_void) -> i32>,
    /// Deals with one of them, which can be read now. An error ends the launch. Needs `watch`.
    pub ready: Option<unsafe extern "C" fn(host: *const palisade_host, isolator: *mut c_void, descriptor: i32) -> i32>,
    /// Tells figures so far, while the workload runs. NULL for nothing.
    pub sample: Option<unsafe extern "C" fn(host: *const palisade_host, isolator: *mut c_void) -> i32>,
    /// Tells figures and hits when the workload has ended, before anything is undone. NULL for nothing.
    pub finish: Option<unsafe extern "C" fn(host: *const palisade_host, isolator: *mut c_void) -> i32>,
    /// Adds attempts for `palisade probe`. NULL for nothing.
    pub attempts: Option<unsafe extern "C" fn(host: *const palisade_host, isolator: *mut c_void) -> i32>,
    /// Takes a descriptor that a step handed over; it is the plugin's to close. NULL where no step does.
    pub take: Option<unsafe extern "C" fn(host: *const palisade_host, isolator: *mut c_void, descriptor: i32) -> i32>,
}
