//! Which steps the process section asks for.

use super::actions::{Affinity, Become, Directory, InstallStdio, Nice, OomScore, OpenStdio, RaiseLimit, Umask};
use super::terminal::Wanted;
use super::{Ids, Settings, Stdio};
use crate::plan::CORE;
use palisade_abi::seam::RawIsolator;
use palisade_abi::wrap;
use palisade_abi::{Error, Host, Isolator, Step};
use palisade_model::process::{Input, Output, Process};
use palisade_model::stage::Stage;
use std::path::{Path, PathBuf};
use std::rc::Rc;

/// palisade's own steps, behind the same seam as any plugin's.
pub(crate) fn isolator(process: Process, ids: Ids, settings: &Settings) -> RawIsolator {
    let (stdio, terminal) = (Rc::clone(&settings.stdio), settings.terminal.clone());
    wrap::isolator(Box::new(Own { process, ids, stdio, terminal }))
}

struct Own {
    process: Process,
    ids: Ids,
    stdio: Stdio,
    terminal: Wanted,
}

impl Isolator for Own {
    fn plan(&self, host: &Host) -> Result<Vec<Step>, Error> {
        let mut steps = self.files();
        steps.extend(self.on_host());
        steps.push(self.directory(host));
        steps.extend(self.streams());
        steps.extend(self.terminal.steps());
        steps.extend(self.attributes());
        steps.extend(self.identity(host));
        Ok(steps)
    }
}

/// Where one standard stream goes or comes from: the path and what it is opened for.
pub(super) struct Target {
    pub(super) path: PathBuf,
    pub(super) how: How,
}

/// What a stream's file is opened for.
#[derive(Clone, Copy)]
pub(super) enum How {
    Read,
    Replace,
    Append,
}

const NULL: &str = "/dev/null";

fn input(input: &Input) -> Option<Target> {
    let path = match input {
        Input::Inherit => return None,
        Input::Null => Path::new(NULL),
        Input::File(path) => path.as_path(),
    };
    Some(Target { path: path.to_owned(), how: How::Read })
}

fn output(output: &Output) -> Option<Target> {
    let (path, how) = match output {
        Output::Inherit => return None,
        Output::Null => (Path::new(NULL), How::Append),
        Output::File(path) => (path.as_path(), How::Replace),
        Output::Append(path) => (path.as_path(), How::Append),
    };
    Some(Target { path: path.to_owned(), how })
}

impl Own {
    fn files(&self) -> Vec<Step> {
        let process = &self.process;
        let streams = [
            ("standard input", process.stdin.as_ref().map(|at| (input(&at.value), at.origin))),
            ("standard output", process.stdout.as_ref().map(|at| (output(&at.value), at.origin))),
            ("standard error", process.stderr.as_ref().map(|at| (output(&at.value), at.origin))),
        ];
        let mut steps = Vec::new();
        for (number, (name, asked)) in streams.into_iter().enumerate() {
            let Some((Some(target), origin)) = asked else { continue };
            let words = format!("opens {} as {name}", target.path.display());
            let open = OpenStdio { number, target, stdio: Rc::clone(&self.stdio) };
            steps.push(
                Step::new(Stage::Prepare, words, open)
                    .why("a path of the host, opened with the launcher's rights")
                    .origin(origin),
            );
        }
        steps
    }

    fn streams(&self) -> Option<Step> {
        let process = &self.process;
        let asked = process.stdin.is_some() || process.stdout.is_some() || process.stderr.is_some();
        (asked || process.output_limit.is_some()).then(|| {
            let install = InstallStdio { stdio: Rc::clone(&self.stdio) };
            let limit = process.output_limit.as_ref();
            let words = match limit {
                Some(limit) => {
                    format!("connects standard input, output and error; at most {} may come out", limit.value)
                }
                None => "connects standard input, output and error".to_owned(),
            };
            Step::new(Stage::Drop, words, install).origin(limit.and_then(|limit| limit.origin))
        })
    }

    fn on_host(&self) -> Option<Step> {
        let score = self.process.oom_score_adj.as_ref()?;
        let action = OomScore(score.value.get());
        let words = format!("sets the OOM score adjustment to {}", score.value);
        Some(Step::new(Stage::Attach, words, action).why("the workload's view may have no /proc").origin(score.origin))
    }

    fn directory(&self, host: &Host) -> Step {
        let named = self.process.cwd.as_ref().map(|cwd| cwd.value.as_path().to_owned());
        // Without a directory in the policy: the caller's own, where the workload can see it.
        let own = std::env::current_dir().ok();
        let words = match (&named, &own) {
            (Some(path), _) => format!("starts in {}", path.display()),
            (None, Some(path)) => format!("starts in {}, or in / where the view has no such directory", path.display()),
            (None, None) => "starts in /".to_owned(),
        };
        let action = Directory { named, own };
        let step = Step::new(Stage::Build, words, action).origin(self.process.cwd.as_ref().and_then(|cwd| cwd.origin));
        // The view must be complete, whoever builds it.
        let plugins =
            host.fact("plugins").unwrap_or_default().split(' ').filter(|name| !name.is_empty() && *name != CORE);
        plugins
            .fold(step, |step, plugin| step.after(plugin))
            .why("the last word on the view: a directory outside of it would be a way out")
    }

    fn attributes(&self) -> Vec<Step> {
        let process = &self.process;
        let mut steps = Vec::new();
        if let Some(cpus) = &process.cpu_affinity {
            let words = format!("may run on processors {}", cpus.value);
            steps.push(Step::new(Stage::Drop, words, Affinity(cpus.cpus().to_vec())).origin(cpus.origin));
        }
        if let Some(nice) = &process.nice {
            let action = Nice(nice.value.get());
            steps.push(
                Step::new(Stage::Drop, format!("sets the nice value to {}", nice.value), action).origin(nice.origin),
            );
        }
        for row in process.rlimits.rows() {
            let words = format!("limits {} to {}", row.name, super::actions::show_limits(row.soft, row.hard));
            let origin = row.origin;
            let action = RaiseLimit { name: row.name, soft: row.soft, hard: row.hard };
            steps.push(Step::new(Stage::Drop, words, action).origin(origin));
        }
        if let Some(mask) = &process.umask {
            let words = format!("sets the umask to {}", mask.value);
            steps.push(Step::new(Stage::Drop, words, Umask(mask.value.bits())).origin(mask.origin));
        }
        steps
    }

    fn identity(&self, host: &Host) -> Option<Step> {
        let ids = self.ids.clone();
        if ids.uid.is_none() && ids.gid.is_none() {
            return None;
        }
        let uid = ids.uid.map(|uid| format!("uid {uid}"));
        let gid = ids.gid.map(|gid| format!("gid {gid}"));
        let words = format!("becomes {}", [uid, gid].into_iter().flatten().collect::<Vec<_>>().join(", "));
        let origin = ids.origin;
        let by_root = host.uid().is_ok_and(|uid| uid == 0);
        Some(
            Step::new(Stage::Drop, words, Become { ids, by_root })
                .origin(origin)
                .why("after the last thing that needs the launcher's ids, and before the capabilities go"),
        )
    }
}
