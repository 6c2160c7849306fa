//! Making a directory.

use super::outside::Outside;
use super::place::{Place, plain, without_links};
use palisade_abi::{Action, Context, Error, ErrorContext as _, Evidence};
use palisade_sys::fd::{O_DIRECTORY, O_PATH};
use palisade_sys::{Errno, fd};
use std::path::PathBuf;
use std::rc::Rc;

/// `MakeDirectory`.
pub(super) struct Make {
    path: PathBuf,
    mode: u32,
    /// In the child: what must not be touched.
    inside: Option<Rc<Outside>>,
    /// Where it was made, for undoing; nothing where it was there.
    made: Option<(Place, (u64, u64))>,
    /// Device and inode.
    file: Option<(u64, u64)>,
}

impl Make {
    pub(super) fn new(path: String, mode: u32, inside: Option<Rc<Outside>>) -> Result<Self, String> {
        if mode & !0o1777 != 0 {
            return Err("its mode has bits beyond 0o1777".to_owned());
        }
        Ok(Self { path: plain(path)?, mode, inside, made: None, file: None })
    }

    fn look(&self) -> Result<(u64, u64), Error> {
        let facts = fd::fstat(without_links(&self.path, O_PATH | O_DIRECTORY)?)?;
        Ok((facts.dev, facts.ino))
    }

    fn is_still_there(&self) -> Result<(), Error> {
        if Some(self.look()?) == self.file {
            return Ok(());
        }
        let message = format!("{} is another directory than the one that was made", self.path.display());
        Err(Error::setup(message).help("the step must come after those that build the view"))
    }
}

impl Action for Make {
    fn apply(&mut self, _context: &mut Context<'_>) -> Result<Evidence, Error> {
        if let Some(outside) = &self.inside {
            outside.must_differ("mnt")?;
        }
        let place = Place::open(&self.path)?;
        let is_new = match fd::mkdir_at(&place.dir, &place.name, self.mode) {
            Err(error) if error.kind() == Errno::EEXIST => false,
            made => made.map(|()| true).doing(|| format!("{} cannot be made", self.path.display()))?,
        };
        if is_new {
            let facts = fd::fstat_at(&place.dir, &place.name)?;
            self.made = Some((place, (facts.dev, facts.ino)));
        }
        self.file = Some(self.look()?);
        Ok(Evidence::from(if is_new { "made" } else { "was there" }))
    }

    fn verify(&self, _context: &Context<'_>) -> Result<Option<Evidence>, Error> {
        if self.inside.is_none() {
            self.is_still_there()?;
        }
        Ok(None)
    }

    fn witness(&self, _context: &Context<'_>) -> Result<Evidence, Error> {
        self.is_still_there()?;
        Ok(Evidence::default())
    }

    fn undo(&mut self, _context: &mut Context<'_>) -> Result<(), Error> {
        match self.made.take() {
            // Somebody else's directory of the same name is theirs.
            Some((place, file)) if place.is(file) => {
                fd::rmdir_at(&place.dir, &place.name).doing(|| format!("{} cannot be removed", self.path.display()))
            }
            _ => Ok(()),
        }
    }
}
