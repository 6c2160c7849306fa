//! A plugin in a process of its own, as the rest of palisade sees plugins.

use super::check::{Places, few, figures, refused, shown};
use super::helper::{Helper, Start};
use super::talk::{Facts, Reply, Request};
use crate::error::Trouble;
use crate::library::Library;
use crate::palisade::Palisade;
use palisade_abi::abi_stable::std_types::Tuple2;
use palisade_abi::seam::RawIsolator;
use palisade_abi::{Error, Finding, Finish, Host, Isolator, Left, Step, Support, wrap};
use palisade_model::diag::Sources;
use palisade_model::layer::Fragment;
use std::cell::RefCell;
use std::rc::Rc;

/// The plugin.
#[derive(Debug)]
pub(crate) struct Guest {
    plugin: String,
    helper: Rc<Helper>,
}

fn told(host: &Host) -> Facts {
    wrap::facts(host).into_iter().map(|Tuple2(name, fact)| (name.into_string(), fact.into_string())).collect()
}

/// An answer to another question than was asked.
fn unasked<T>(_reply: Reply) -> Result<T, Error> {
    Err(refused("its process answered another question than was asked"))
}

impl Guest {
    /// Starts a helper and has it open the plugin's file.
    ///
    /// # Errors
    /// The helper cannot be made or confined, or the file does not fit.
    pub(crate) fn start(palisade: &mut Palisade, start: &Start<'_>) -> Result<Self, Trouble> {
        let helper = Rc::new(start.helper(palisade)?);
        let open = Request::Open { layout_known: start.layout_known, reference: start.reference.to_owned() };
        let opened = helper.ask("dlopen", &open).map_err(|error| Places::default().error(error));
        opened.map_err(|error| {
            let trouble = Trouble::from_plugin(start.plugin, error, None, &Sources::default());
            trouble.row("host", "in a process of its own, which the policy asks for")
        })?;
        Ok(Self { plugin: start.plugin.to_owned(), helper })
    }
}

impl Library for Guest {
    fn probe(&self, host: &Host) -> Result<Vec<Finding>, Error> {
        let places = Places::default();
        let reply = self.helper.ask("probe", &Request::Probe(told(host))).map_err(|error| places.error(error))?;
        let Reply::Findings(found) = reply else { return unasked(reply) };
        let one = |(feature, support, detail, remedy): (String, u8, String, String)| Finding {
            feature: shown(&feature),
            support: match support {
                0 => Support::Full,
                1 => Support::Partial,
                _ => Support::Missing,
            },
            detail: shown(&detail),
            remedy: shown(&remedy),
        };
        Ok(few(found)?.into_iter().map(one).collect())
    }

    fn configure(&self, layers: &[Fragment], host: &Host) -> Result<RawIsolator, Error> {
        let places = Places::of(layers);
        let request = Request::Configure(layers.to_vec(), told(host));
        let reply = self.helper.ask("configure", &request).map_err(|error| places.error(error))?;
        let Reply::Done = reply else { return unasked(reply) };
        let (plugin, helper) = (self.plugin.clone(), Rc::clone(&self.helper));
        Ok(wrap::isolator(Box::new(Room { plugin, helper, places, watches: RefCell::new(None) })))
    }

    /// It has no part of the host, and so nothing that it could have left there.
    fn collect(&self, _host: &Host, _remove: bool) -> Result<Vec<Left>, Error> {
        Ok(Vec::new())
    }
}

/// Its isolator.
struct Room {
    plugin: String,
    helper: Rc<Helper>,
    places: Places,
    /// Whether it watches anything, once it was asked.
    watches: RefCell<Option<bool>>,
}

impl Room {
    fn ask(&self, entry: &str, request: &Request) -> Result<Reply, Error> {
        self.helper.ask(entry, request).map_err(|error| self.places.error(error))
    }
}

impl Isolator for Room {
    fn plan(&self, host: &Host) -> Result<Vec<Step>, Error> {
        let reply = self.ask("plan", &Request::Plan(told(host)))?;
        let Reply::Steps(steps) = reply else { return unasked(reply) };
        few(steps)?.into_iter().map(|step| self.places.step(step)).collect()
    }

    fn watch(&self) -> Vec<i32> {
        let watches = *self.watches.borrow_mut().get_or_insert_with(|| {
            // There is no error here, but there is in `ready`, which is called once the pipe's other end is closed.
            self.ask("watch", &Request::Watch).map_or(true, |reply| !matches!(reply, Reply::Watches(false)))
        });
        if watches { vec![self.helper.notice()] } else { Vec::new() }
    }

    fn ready(&mut self, _fd: i32) -> Result<(), Error> {
        self.helper.heed()?;
        let reply = self.ask("ready", &Request::Ready)?;
        let Reply::Watches(watches) = reply else { return unasked(reply) };
        *self.watches.borrow_mut() = Some(watches);
        Ok(())
    }

    fn sample(&mut self) -> Result<Vec<(String, u64)>, Error> {
        let reply = self.ask("sample", &Request::Sample)?;
        let Reply::Figures(told) = reply else { return unasked(reply) };
        figures(&self.plugin, told)
    }

    fn finish(&mut self) -> Result<Finish, Error> {
        let reply = self.ask("finish", &Request::Finish)?;
        let Reply::Finish(told, hits) = reply else { return unasked(reply) };
        let hits = few(hits)?.into_iter().map(|hit| self.places.hit(hit)).collect();
        Ok(Finish { figures: figures(&self.plugin, told)?, hits })
    }
}
