//! What `--help` and the manual say below the options: examples, exit codes, files.

use crate::panics::BROKEN;
use palisade_runtime::model::exit::{EXIT_CODES, ExitCode};

/// What is said of one verb.
pub(crate) struct Page {
    /// The verb, and the verb below it.
    pub(crate) path: &'static [&'static str],
    /// Command lines, each with what it is for.
    pub(crate) examples: &'static [(&'static str, &'static str)],
    codes: &'static [u8],
    /// What a code means for this verb, where that is more than its general meaning.
    notes: &'static [(u8, &'static str)],
    pub(crate) files: &'static [(&'static str, &'static str)],
}

type File = (&'static str, &'static str);
const POLICY_USER: File =
    ("~/.config/palisade/policies/NAME.ron", "policies of the user; not looked at as root ($XDG_CONFIG_HOME)");
const POLICY_HOST: File =
    ("/etc/palisade/policies/NAME.ron", "policies of this host; those that are built in come last");
const PLUGIN_NEAR: File =
    ("BIN/, BIN/../lib/palisade/plugins/", "plugins beside the program, as a build leaves them, and below its prefix");
const PLUGIN_HOST: File = ("/usr/local/lib/palisade/plugins/, /usr/lib/palisade/plugins/", "plugins of this host");
const PLUGIN_ROOT: File = ("/var/lib/palisade/plugins/", "plugins that root installed");
const PLUGIN_USER: File =
    ("~/.local/share/palisade/plugins/", "plugins of the user; not looked at as root ($XDG_DATA_HOME)");
const LOCK_ROOT: File = ("/var/lib/palisade/plugins.lock", "which plugins were checked and installed, for root");
const LOCK_USER: File = ("~/.local/state/palisade/plugins.lock", "the same for a user ($XDG_STATE_HOME)");
const KEYS_HOST: File = ("/etc/palisade/keys/*.pub", "keys that vouch for plugins");
const KEYS_USER: File = ("~/.config/palisade/keys/*.pub", "keys of the user; not looked at as root ($XDG_CONFIG_HOME)");

const POLICY_FILES: &[File] = &[POLICY_USER, POLICY_HOST];
const PLUGIN_FILES: &[File] = &[PLUGIN_NEAR, PLUGIN_HOST, PLUGIN_ROOT, PLUGIN_USER, LOCK_ROOT, LOCK_USER];
const INSTALL_FILES: &[File] = &[PLUGIN_ROOT, PLUGIN_USER, LOCK_ROOT, LOCK_USER, KEYS_HOST, KEYS_USER];
const RUNS: &[File] = &[
    ("/run/palisade/NAME", "the names of root's runs that go on"),
    ("$XDG_RUNTIME_DIR/palisade/NAME", "those of a user"),
];
const ALL_FILES: &[File] =
    &[POLICY_USER, POLICY_HOST, PLUGIN_NEAR, PLUGIN_HOST, PLUGIN_ROOT, PLUGIN_USER, LOCK_ROOT, LOCK_USER];

const OK: u8 = ExitCode::OK;
const USAGE: u8 = ExitCode::USAGE;
const POLICY: u8 = ExitCode::POLICY;
const PLUGIN: u8 = ExitCode::PLUGIN;
const HOST: u8 = ExitCode::HOST;

const EVERY: &[u8] = &[
    OK,
    ExitCode::FAILED,
    USAGE,
    POLICY,
    PLUGIN,
    HOST,
    ExitCode::SETUP,
    ExitCode::LIMIT,
    ExitCode::TIMED_OUT,
    BROKEN,
    ExitCode::NOT_EXECUTABLE,
    ExitCode::NOT_FOUND,
    128,
];

/// Every verb.
pub(crate) const PAGES: &[Page] = &[
    Page {
        path: &["run"],
        examples: &[
            ("palisade run -- make", "under the policy `default`"),
            ("palisade run --policy untrusted -- ./converter in.pdf out.png", "a program that is not trusted"),
            (
                "palisade run -p judge --set process.timeout=2s --report - -- ./solution",
                "with a limit of one's own, and a report",
            ),
            ("palisade run -v -p ./my.ron --var data=/srv/data -- sh", "a policy by its path; the steps are shown"),
        ],
        codes: EVERY,
        notes: &[(OK, "or any other code: the workload's own")],
        files: ALL_FILES,
    },
    Page {
        path: &["plan"],
        examples: &[
            ("palisade plan --policy untrusted", "what would be done"),
            ("palisade plan -p build --json -- make", "the same for a program to read"),
        ],
        codes: &[OK, USAGE, POLICY, PLUGIN, HOST],
        notes: &[],
        files: ALL_FILES,
    },
    Page {
        path: &["doctor"],
        examples: &[
            ("palisade doctor", "for all plugins"),
            ("sudo palisade doctor cgroups --json", "one plugin, for root and for the user behind sudo"),
        ],
        codes: &[OK, USAGE, PLUGIN, HOST],
        notes: &[
            (OK, "every policy that ships can be used by who asks; of plugins that are named nothing is missing"),
            (PLUGIN, "a plugin cannot be used at all"),
            (HOST, "something that is needed for that is missing"),
        ],
        files: PLUGIN_FILES,
    },
    Page {
        path: &["ps"],
        examples: &[
            ("palisade run --name web --policy net-service -- ./server", "a run with a name"),
            ("palisade ps --json", "those that go on, for a program"),
        ],
        codes: &[OK, USAGE],
        notes: &[(OK, "also where none goes on")],
        files: RUNS,
    },
    Page {
        path: &["gc"],
        examples: &[
            ("sudo palisade gc", "what is root's can be removed by root only"),
            ("palisade gc --dry-run --json", "what there is, for a program"),
        ],
        codes: &[OK, USAGE, PLUGIN, HOST],
        notes: &[
            (OK, "nothing is left, or nothing was to be removed"),
            (PLUGIN, "a plugin could not be asked"),
            (HOST, "something is left that could not be removed"),
        ],
        files: PLUGIN_FILES,
    },
    Page {
        path: &["changes"],
        examples: &[
            ("palisade changes --policy ./edit.ron", "A what is new, C what is changed, D what is gone"),
            ("palisade changes -p ./edit.ron --json", "the same for a program to read"),
        ],
        codes: &[OK, USAGE, POLICY, PLUGIN, HOST],
        notes: &[(OK, "also where nothing was changed")],
        files: ALL_FILES,
    },
    Page {
        path: &["probe"],
        examples: &[
            ("palisade probe --policy untrusted", "what stays open under it"),
            ("sudo palisade probe -p ./my.ron -v", "every attempt, as root, to whom most is open without a policy"),
            ("palisade probe -p judge --only 'fs-*' --json", "one group, for a program; docs/probes.md has the fields"),
        ],
        codes: &[OK, ExitCode::FAILED, USAGE, POLICY, PLUGIN, HOST, ExitCode::SETUP],
        notes: &[
            (OK, "nothing that is critical or high is open, or of unknown outcome"),
            (
                ExitCode::FAILED,
                "something that is critical or high is open, or inconclusive, or the host is not as it was",
            ),
            (ExitCode::SETUP, "the policy could not be put in force, or the attempts could not be made"),
        ],
        files: ALL_FILES,
    },
    Page {
        path: &["policy"],
        examples: &[("palisade policy list", ""), ("palisade policy show untrusted", "")],
        codes: &[OK, USAGE, POLICY],
        notes: &[],
        files: POLICY_FILES,
    },
    Page {
        path: &["policy", "list"],
        examples: &[("palisade policy list", ""), ("palisade policy list --json --policy-dir ./policies", "")],
        codes: &[OK, USAGE],
        notes: &[],
        files: POLICY_FILES,
    },
    Page {
        path: &["policy", "show"],
        examples: &[
            ("palisade policy show untrusted", "as it is written, with the reason of each line"),
            ("palisade policy show build --resolved --set cgroups.memory.max=1GiB", "what it is made of"),
            ("palisade policy show untrusted --bpf", "the system call filter as it is loaded"),
        ],
        codes: &[OK, USAGE, POLICY],
        notes: &[],
        files: POLICY_FILES,
    },
    Page {
        path: &["policy", "test"],
        examples: &[
            ("palisade policy test untrusted", "what it says of itself, tried here"),
            ("palisade policy test ./my.ron --strict --json", "for a CI job: nothing may be unproven either"),
        ],
        codes: &[OK, ExitCode::FAILED, USAGE, POLICY, PLUGIN, HOST, ExitCode::SETUP],
        notes: &[
            (OK, "nothing is broken"),
            (ExitCode::FAILED, "something is not as the policy says; with --strict also where it could not be shown"),
            (ExitCode::SETUP, "the policy could not be put in force"),
        ],
        files: ALL_FILES,
    },
    Page {
        path: &["policy", "check"],
        examples: &[
            ("palisade policy check policies/*.ron", "files"),
            ("palisade policy check untrusted --json", "a policy by its name"),
        ],
        codes: &[OK, USAGE, POLICY, PLUGIN, HOST],
        notes: &[
            (OK, "all are good"),
            (POLICY, "one is wrong"),
            (PLUGIN, "none is wrong, but a plugin is missing or cannot be used"),
            (HOST, "none is wrong, but this host cannot do what one requires"),
        ],
        files: ALL_FILES,
    },
    Page {
        path: &["plugin"],
        examples: &[("palisade plugin list", ""), ("palisade plugin info landlock", "")],
        codes: &[OK, USAGE, PLUGIN],
        notes: &[],
        files: PLUGIN_FILES,
    },
    Page {
        path: &["plugin", "list"],
        examples: &[("palisade plugin list", ""), ("palisade plugin list --json --plugin-dir ./target/release", "")],
        codes: &[OK, USAGE, PLUGIN],
        notes: &[(PLUGIN, "there is none, or one would be refused")],
        files: PLUGIN_FILES,
    },
    Page {
        path: &["plugin", "info"],
        examples: &[
            ("palisade plugin info landlock", "every option, explained"),
            ("palisade plugin info seccomp --json", ""),
        ],
        codes: &[OK, USAGE, PLUGIN],
        notes: &[],
        files: PLUGIN_FILES,
    },
    Page {
        path: &["plugin", "verify"],
        examples: &[
            ("sudo palisade plugin verify", "all of them, after an installation"),
            ("palisade plugin verify seccomp", "one"),
            ("palisade plugin verify mine --grant build --plugin-dir ~/plugins", "one of somebody else's, to be used"),
            ("palisade plugin verify mine --revoke --plugin-dir ~/plugins", "and no longer"),
        ],
        codes: &[OK, USAGE, PLUGIN],
        notes: &[(OK, "all are good"), (PLUGIN, "one is refused")],
        files: PLUGIN_FILES,
    },
    Page {
        path: &["plugin", "install"],
        examples: &[
            ("palisade plugin install ./libmine.so", "it says what it would do, and asks"),
            ("sudo palisade plugin install libmine.so --grant build,seal", "for everybody on this host"),
            ("palisade plugin install mine.so --signature mine.so.minisig", "signed by one of the keys below"),
        ],
        codes: &[OK, USAGE, PLUGIN],
        notes: &[(PLUGIN, "it was refused; nothing was installed")],
        files: INSTALL_FILES,
    },
    Page {
        path: &["plugin", "remove"],
        examples: &[("palisade plugin remove mine", "")],
        codes: &[OK, USAGE, PLUGIN],
        notes: &[],
        files: INSTALL_FILES,
    },
    Page {
        path: &["plugin", "check"],
        examples: &[
            ("palisade plugin check target/debug/libmine.so", ""),
            ("palisade plugin check target/debug/libmine.so --only faults --json", "one check, for programs"),
        ],
        codes: &[OK, ExitCode::FAILED, USAGE, PLUGIN, HOST],
        notes: &[
            (OK, "every check passed, or says nothing about this plugin"),
            (PLUGIN, "the file could not be read"),
            (HOST, "none failed, but one could not be tried here"),
        ],
        files: PLUGIN_FILES,
    },
    Page {
        path: &["plugin", "new"],
        examples: &[
            ("palisade plugin new mine", "a crate that is built and tested by cargo"),
            ("palisade plugin new mine --lang c", "in C, with the header, for make"),
            ("palisade plugin new mine --sdk ~/src/palisade", "against the SDK of a source tree"),
        ],
        codes: &[OK, USAGE],
        notes: &[(USAGE, "the name cannot be a plugin's, or something of that name is there")],
        files: &[],
    },
    Page {
        path: &["completions"],
        examples: &[
            ("palisade completions bash > /etc/bash_completion.d/palisade", ""),
            ("palisade completions zsh > ~/.zfunc/_palisade", ""),
            ("palisade completions fish > ~/.config/fish/completions/palisade.fish", ""),
        ],
        codes: &[OK, USAGE],
        notes: &[],
        files: &[],
    },
    Page {
        path: &["man"],
        examples: &[
            ("palisade man | man -l -", "read it"),
            ("palisade man > /usr/local/share/man/man1/palisade.1", "install it"),
        ],
        codes: &[OK, USAGE],
        notes: &[],
        files: &[],
    },
];

impl Page {
    /// Exit codes with their meanings.
    pub(crate) fn codes(&self) -> Vec<(String, String)> {
        let rows = EXIT_CODES.iter().filter(|(code, ..)| self.codes.contains(code) || *code == BROKEN);
        rows.map(|(code, name, meaning)| {
            let note = self.notes.iter().find(|(noted, _)| noted == code);
            let meaning = match note {
                Some((_, note)) if note.starts_with("or ") => format!("{meaning}; {note}"),
                Some((_, note)) => (*note).to_owned(),
                None => (*meaning).to_owned(),
            };
            let number = if *code == 128 { "128+n".to_owned() } else { code.to_string() };
            (number, format!("{name}: {meaning}"))
        })
        .collect()
    }

    fn text(&self) -> String {
        let mut text = String::from("Examples:\n");
        for (line, what) in self.examples {
            text += &match what.is_empty() {
                true => format!("  {line}\n"),
                false => format!("  {line}\n      {what}\n"),
            };
        }
        text += "\nExit codes:\n";
        for (code, meaning) in self.codes() {
            text += &format!("  {code:5}  {meaning}\n");
        }
        if !self.files.is_empty() {
            text += "\nFiles:\n";
            for (path, what) in self.files {
                text += &format!("  {path}\n      {what}\n");
            }
        }
        text
    }
}

/// The page of a verb.
pub(crate) fn page(path: &[&str]) -> Option<&'static Page> {
    PAGES.iter().find(|page| page.path == path)
}

/// Adds the pages to a tree of verbs.
pub(crate) fn dressed(command: clap::Command) -> clap::Command {
    PAGES.iter().fold(command, |command, page| dress(command, page.path, page))
}

fn dress(command: clap::Command, path: &[&str], page: &Page) -> clap::Command {
    match path.split_first() {
        Some((verb, below)) => command.mut_subcommand(verb, |command| dress(command, below, page)),
        None => command.after_long_help(page.text()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn every_path(command: &clap::Command, above: &[String], all: &mut Vec<Vec<String>>) {
        for verb in command.get_subcommands() {
            let path: Vec<String> = above.iter().cloned().chain([verb.get_name().to_owned()]).collect();
            every_path(verb, &path, all);
            all.push(path);
        }
    }

    #[test]
    fn every_verb_has_a_page() {
        let mut all = Vec::new();
        every_path(&crate::args::tree(), &[], &mut all);
        assert_eq!(all.len(), PAGES.len());
        for path in all {
            let path: Vec<&str> = path.iter().map(String::as_str).collect();
            assert!(page(&path).is_some(), "{path:?}");
        }
    }

    #[test]
    fn every_code_is_told_and_run_tells_all() {
        let run = page(&["run"]).unwrap();
        assert_eq!(run.codes().len(), EXIT_CODES.len());
        assert!(
            PAGES.iter().all(|page| { page.codes.iter().all(|c| EXIT_CODES.iter().any(|(known, ..)| known == c)) })
        );
        assert!(run.text().contains("128+n"));
    }
}
