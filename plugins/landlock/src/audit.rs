//! What the kernel itself says of denials, in its audit log: from Linux 6.15, where auditing is on and the launcher may
//! listen. Then nothing has to be guessed from the rules.

use palisade_abi::{Act, Error, ErrorContext as _};
use palisade_sys::Errno;
use palisade_sys::audit::{Log, Record};
use std::os::fd::{AsFd as _, AsRawFd as _};

/// `AUDIT_LANDLOCK_ACCESS` and `AUDIT_LANDLOCK_DOMAIN` of linux/audit.h.
const ACCESS: u16 = 1423;
const DOMAIN: u16 = 1424;

/// The log, and what of it is about one launch.
#[derive(Debug)]
pub(crate) struct Audit {
    log: Log,
    mine: Mine,
}

/// The records of one domain.
#[derive(Debug, Default)]
struct Mine {
    /// The process that made the domain.
    pid: i32,
    /// The number that the kernel gave it, once it has told.
    domain: Option<String>,
    /// Denials that came before that: a first denial comes with its domain, and either may be first.
    early: Vec<String>,
    acts: Vec<Act>,
}

impl Audit {
    /// Listens from now on; nothing where that is not to be had.
    pub(crate) fn of(pid: i32) -> Result<Option<Self>, Error> {
        let log = Log::open().doing(|| "the audit log could not be opened")?;
        Ok(log.map(|log| Self { log, mine: Mine { pid, ..Mine::default() } }))
    }

    pub(crate) fn number(&self) -> i32 {
        self.log.as_fd().as_raw_fd()
    }

    /// Takes what was logged.
    pub(crate) fn ready(&mut self) -> Result<(), Error> {
        loop {
            match self.log.next() {
                Ok(Some(record)) => self.mine.take(&record),
                Ok(None) => return Ok(()),
                // Some were lost; what comes next is still true.
                Err(error) if error.kind() == Errno::ENOBUFS => {}
                Err(error) => return Err(error).doing(|| "the audit log could not be read"),
            }
        }
    }

    pub(crate) fn acts(&mut self) -> Vec<Act> {
        std::mem::take(&mut self.mine.acts)
    }
}

impl Mine {
    /// So many denials wait for their domain.
    const EARLY: usize = 256;

    fn take(&mut self, record: &Record) {
        let text = &record.text;
        match record.kind {
            DOMAIN if field(text, "pid").and_then(|pid| pid.parse().ok()) == Some(self.pid) => {
                self.domain = field(text, "domain");
                let early = std::mem::take(&mut self.early);
                early.iter().for_each(|text| self.denied(text));
            }
            ACCESS if self.domain.is_some() => self.denied(text),
            ACCESS if self.early.len() < Self::EARLY => self.early.push(text.clone()),
            _ => {}
        }
    }

    fn denied(&mut self, text: &str) {
        if field(text, "domain") != self.domain {
            return;
        }
        let Some(blockers) = field(text, "blockers") else { return };
        let wanted = blockers.split(',').map(|one| one.rsplit('.').next().unwrap_or(one)).collect::<Vec<_>>();
        let mut act = Act::new([("to", wanted.join(" "))]).with("blockers", blockers);
        for (name, fact) in
            [("path", "path"), ("daddr", "address"), ("dest", "port"), ("saddr", "address"), ("src", "port")]
        {
            if let Some(value) = field(text, name) {
                act = act.with(fact, value);
            }
        }
        self.acts.push(act);
    }
}

/// A field of a record. A text in quotes is itself; one without, where the field is a text, is written in hexadecimal,
/// because it holds what quotes cannot.
fn field(text: &str, name: &str) -> Option<String> {
    let start = text.split_inclusive(' ').scan(0, |at, word| {
        let here = *at;
        *at += word.len();
        Some((here, word))
    });
    let (at, _) =
        start.into_iter().find(|(_, word)| word.strip_prefix(name).is_some_and(|rest| rest.starts_with('=')))?;
    let value = text.get(at + name.len() + 1..)?;
    if let Some(quoted) = value.strip_prefix('"') {
        return quoted.split('"').next().map(str::to_owned);
    }
    let value = value.split(' ').next()?;
    if name == "path" { unhex(value) } else { Some(value.to_owned()) }
}

fn unhex(text: &str) -> Option<String> {
    let pairs = text.as_bytes().chunks(2).map(|pair| u8::from_str_radix(std::str::from_utf8(pair).ok()?, 16).ok());
    pairs.collect::<Option<Vec<u8>>>().map(|bytes| String::from_utf8_lossy(&bytes).into_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn told(records: &[(u16, &str)]) -> Vec<Act> {
        let mut mine = Mine { pid: 300, ..Mine::default() };
        for (kind, text) in records {
            mine.take(&Record { kind: *kind, text: (*text).to_owned() });
        }
        mine.acts
    }

    const BORN: (u16, &str) =
        (DOMAIN, "audit(1.0:30): domain=195ba459b status=allocated mode=enforcing pid=300 uid=0 exe=\"/x\" comm=\"x\"");

    #[test]
    fn only_what_is_denied_to_this_domain_is_told_whatever_comes_first() {
        let file = (
            ACCESS,
            "audit(1.0:30): domain=195ba459b blockers=fs.write_file,fs.truncate path=\"/etc/a b\" dev=\"vda\" ino=1",
        );
        let other = (ACCESS, "audit(1.0:31): domain=1 blockers=fs.read_file path=\"/etc/b\"");
        let born = (DOMAIN, "audit(1.0:31): domain=1 status=allocated mode=enforcing pid=301 uid=0");
        let port = (ACCESS, "audit(1.0:32): domain=195ba459b blockers=net.connect_tcp daddr=192.0.2.1 dest=80");
        let hex = (ACCESS, "audit(1.0:33): domain=195ba459b blockers=fs.make_reg path=2F746D702F0A dev=\"x\"");
        let acts = told(&[file, other, BORN, born, other, port, hex, (1300, "audit(1.0:34): arch=c000003e")]);
        let wanted = [
            Act::new([("blockers", "fs.write_file,fs.truncate"), ("to", "write_file truncate"), ("path", "/etc/a b")]),
            Act::new([
                ("blockers", "net.connect_tcp"),
                ("to", "connect_tcp"),
                ("address", "192.0.2.1"),
                ("port", "80"),
            ]),
            Act::new([("blockers", "fs.make_reg"), ("to", "make_reg"), ("path", "/tmp/\n")]),
        ];
        assert_eq!(acts, wanted);
    }

    #[test]
    fn a_field_is_found_by_its_whole_name() {
        assert_eq!(field("opid=7 pid=8", "pid").as_deref(), Some("8"));
        assert_eq!(field("opid=7", "pid"), None);
        assert_eq!(field("path=\"a=b\" b=2", "b").as_deref(), Some("2"));
        assert_eq!(field("path=zz", "path"), None);
    }
}
