//! A resource limit, and the host name.

use super::outside::Outside;
use palisade_abi::{Action, Amount, Context, Error, Evidence};
use palisade_sys::limits::{self, Resource, UNLIMITED};
use palisade_sys::namespace;
use std::rc::Rc;

/// `Limit`.
pub(super) struct Limit {
    resource: Resource,
    name: String,
    soft: u64,
    hard: u64,
}

fn number(amount: Amount) -> u64 {
    match amount {
        Amount::Number(number) => number,
        Amount::Unlimited => UNLIMITED,
    }
}

impl Limit {
    pub(super) fn new(name: &str, soft: Amount, hard: Amount) -> Result<Self, String> {
        let resource = Resource::from_name(name).filter(|_| name.starts_with("RLIMIT_"));
        let resource = resource.ok_or_else(|| {
            let known: Vec<String> =
                Resource::all().map(|known| format!("RLIMIT_{}", known.name().to_uppercase())).collect();
            format!("`{name}` is no resource of getrlimit(2); {}", palisade_model::diag::suggest(name, &known))
        })?;
        let (soft, hard) = (number(soft), number(hard));
        if soft > hard {
            return Err(format!("the soft limit of {name} is above the hard one"));
        }
        Ok(Self { resource, name: name.to_owned(), soft, hard })
    }

    fn read_back(&self) -> Result<Evidence, Error> {
        let found = limits::get_rlimit(self.resource)?;
        if found == (self.soft, self.hard) {
            return Ok(Evidence::default());
        }
        let wanted = (self.soft, self.hard);
        Err(Error::setup(format!("{} is {found:?}, and should be {wanted:?}", self.name)))
    }
}

impl Action for Limit {
    fn apply(&mut self, _context: &mut Context<'_>) -> Result<Evidence, Error> {
        limits::set_rlimit(self.resource, self.soft, self.hard)?;
        self.read_back()
    }

    fn witness(&self, _context: &Context<'_>) -> Result<Evidence, Error> {
        self.read_back()
    }
}

/// `Hostname`.
pub(super) struct Hostname {
    name: String,
    outside: Rc<Outside>,
}

impl Hostname {
    pub(super) fn new(name: String, outside: Rc<Outside>) -> Result<Self, String> {
        let fits = (1..=64).contains(&name.len()) && !name.contains('\0');
        fits.then_some(Self { name, outside }).ok_or_else(|| "a host name has 1 to 64 bytes".to_owned())
    }

    fn read_back(&self) -> Result<Evidence, Error> {
        let found = namespace::hostname()?;
        if found == self.name {
            return Ok(format!("reads back as `{found}`").into());
        }
        Err(Error::setup(format!("the host name is `{found}`, and should be `{}`", self.name)))
    }
}

impl Action for Hostname {
    fn apply(&mut self, _context: &mut Context<'_>) -> Result<Evidence, Error> {
        self.outside.must_differ("uts")?;
        namespace::set_hostname(&self.name)?;
        self.read_back()
    }

    fn witness(&self, _context: &Context<'_>) -> Result<Evidence, Error> {
        self.read_back()?;
        Ok(Evidence::default())
    }
}
