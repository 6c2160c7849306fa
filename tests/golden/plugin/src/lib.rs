//! A plugin that uses all that seam 1.0 has: both kinds of place, evidence, verify, witness, undo, a watched descriptor,
//! figures, an error with every part. `tests/golden/make` builds it against the SDK of a released minor; what it gives
//! is kept, and later palisades must run it. So nothing newer than seam 1.0 may be used here.
#![forbid(unsafe_code)]

use palisade_abi::units::{AbsPath, Text};
use palisade_abi::{
    Action, At, Context, Demand, Error, Evidence, Finding, Finish, Hit, Host, Isolator, Plugin, Stage, Step, Support,
};
use std::io::{Read as _, Write as _};
use std::os::fd::AsRawFd as _;
use std::os::unix::net::UnixStream;

palisade_abi::layered! {
    /// The section in a policy.
    pub struct Config {
        /// The host name inside.
        pub hostname: Option<At<Text>>,
        /// A file that is there while the workload runs.
        pub note: Option<At<AbsPath>>,
    }
}

struct Golden;

impl Plugin for Golden {
    type Config = Config;

    fn probe(host: &Host) -> Vec<Finding> {
        let (major, minor) = host.kernel().unwrap_or_default();
        vec![Finding {
            feature: "golden".to_owned(),
            support: Support::Full,
            detail: format!("kernel {major}.{minor}"),
            remedy: String::new(),
        }]
    }

    fn configure(config: Config, _host: &Host) -> Result<Box<dyn Isolator>, Error> {
        let Some(hostname) = config.hostname else {
            return Err(Error::policy("no `hostname`").help("write hostname: \"golden\""));
        };
        if hostname.value.as_str() == "wrong" {
            return Err(Error::policy("the host name is wrong").at(hostname.origin).help("choose another"));
        }
        let pair = UnixStream::pair()?;
        Ok(Box::new(Isolated { hostname, note: config.note, pair, woken: 0 }))
    }
}

struct Isolated {
    hostname: At<Text>,
    note: Option<At<AbsPath>>,
    /// One end is written to when the launch is planned; the other can be read from then on.
    pair: (UnixStream, UnixStream),
    woken: u64,
}

impl Isolator for Isolated {
    fn plan(&self, _host: &Host) -> Result<Vec<Step>, Error> {
        (&self.pair.0).write_all(b"x")?;
        let words = format!("sets the host name `{}`", self.hostname.value);
        let name = Name(self.hostname.value.as_str().to_owned());
        let mut steps = vec![
            Step::new(Stage::Build, words, name)
                .origin(self.hostname.origin)
                .why("a golden plugin shows that it is still understood")
                .demand(Demand::Require)
                .after("namespaces")
                .witnessed(true),
        ];
        if let Some(note) = &self.note {
            let path = note.value.as_path().to_owned();
            steps.push(Step::new(Stage::Prepare, "leaves a note", Note(path)).origin(note.origin));
        }
        Ok(steps)
    }

    fn watch(&self) -> Vec<i32> {
        vec![self.pair.1.as_raw_fd()]
    }

    fn ready(&mut self, fd: i32) -> Result<(), Error> {
        if fd != self.pair.1.as_raw_fd() {
            return Err(Error::setup(format!("woken for {fd}, which is not watched")));
        }
        self.pair.1.read_exact(&mut [0])?;
        self.woken += 1;
        Ok(())
    }

    fn finish(&mut self) -> Result<Finish, Error> {
        let hit = Hit {
            limit: "golden.limit".to_owned(),
            words: "it was there to be hit".to_owned(),
            ended_it: false,
            origin: self.hostname.origin,
        };
        Ok(Finish { figures: vec![("golden_woken_count".to_owned(), self.woken)], hits: vec![hit] })
    }
}

struct Name(String);

impl Action for Name {
    fn apply(&mut self, _context: &mut Context<'_>) -> Result<Evidence, Error> {
        palisade_sys::namespace::set_hostname(&self.0)?;
        Ok(format!("it is `{}`", self.0).into())
    }

    fn verify(&self, context: &Context<'_>) -> Result<Option<Evidence>, Error> {
        Ok(Some(format!("process {} has it", context.pid()?).into()))
    }

    fn witness(&self, _context: &Context<'_>) -> Result<Evidence, Error> {
        let seen = std::fs::read_to_string("/proc/sys/kernel/hostname")?;
        if seen.trim_end() != self.0 {
            return Err(Error::setup(format!("the kernel says `{}`", seen.trim_end())));
        }
        Ok("it reads back as such".into())
    }
}

struct Note(std::path::PathBuf);

impl Action for Note {
    fn apply(&mut self, _context: &mut Context<'_>) -> Result<Evidence, Error> {
        std::fs::write(&self.0, "golden")?;
        Ok("it is there".into())
    }

    fn verify(&self, _context: &Context<'_>) -> Result<Option<Evidence>, Error> {
        Ok(Some(std::fs::read_to_string(&self.0)?.into()))
    }

    fn undo(&mut self, _context: &mut Context<'_>) -> Result<(), Error> {
        Ok(std::fs::remove_file(&self.0)?)
    }
}

palisade_abi::export_plugin!(Golden, "manifest.ron");
