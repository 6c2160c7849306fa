//! What becomes of a library's error, whose type the seam does not know.

use std::error::Error as StdError;
use std::fmt;
use std::io;

use palisade_abi::{Error, ErrorContext as _, ErrorKind};

/// An error as a library would make it: a text and, perhaps, a source.
#[derive(Debug)]
struct Link(&'static str, Option<Box<dyn StdError + 'static>>);

impl fmt::Display for Link {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.0)
    }
}

impl StdError for Link {
    fn source(&self) -> Option<&(dyn StdError + 'static)> {
        self.1.as_deref()
    }
}

fn os(errno: i32) -> Option<Box<dyn StdError>> {
    Some(Box::new(io::Error::from_raw_os_error(errno)))
}

/// Each plugin had an adapter of its own, because the conversion lost the advice.
#[test]
fn call_errno_and_remedy_come_out_of_the_chain() {
    let advice = Link("help: run as root", os(1));
    let error = Error::from(Link("mount(\"/x\") = EPERM (Operation not permitted)", Some(Box::new(advice))));
    assert_eq!(error.kind, ErrorKind::Setup);
    assert_eq!(error.call, "mount(\"/x\") = EPERM (Operation not permitted)");
    assert_eq!((error.errno, error.help.as_str(), error.message.as_str()), (1, "run as root", ""));
}

#[test]
fn what_is_not_there_is_not_made_up() {
    let bare = Error::from(Link("it broke", None));
    assert_eq!((bare.errno, bare.help.as_str(), bare.call.as_str()), (0, "", "it broke"));
    let number = Error::from(Link("it broke", os(13)));
    assert_eq!((number.errno, number.help.as_str()), (13, ""));
    let mention = Error::from(Link("no help: today", None));
    assert_eq!(mention.help, "");
}

/// The outermost advice knows most about what was asked.
#[test]
fn the_first_remedy_and_the_first_errno_win() {
    let inner = Link("help: inner", os(2));
    let wrapped = Link("help: outer", Some(Box::new(Link("between", Some(Box::new(inner))))));
    let error = Error::from(Link("open(\"/x\")", Some(Box::new(wrapped))));
    assert_eq!((error.help.as_str(), error.errno), ("outer", 2));
}

#[test]
fn an_io_error_is_its_own_errno() {
    let error = Error::from(io::Error::from_raw_os_error(2));
    assert_eq!(error.errno, 2);
    assert_eq!(Error::from(io::Error::other("own words")).errno, 0);
}

#[test]
fn doing_puts_words_in_front_and_keeps_the_rest() {
    let link = || Link("f() = EACCES", Some(Box::new(Link("help: chmod it", os(13)))));
    let error = Err::<(), _>(link()).doing(|| "cannot open the door").unwrap_err();
    let seen = (error.message.as_str(), error.call.as_str(), error.errno, error.help.as_str());
    assert_eq!(seen, ("cannot open the door", "f() = EACCES", 13, "chmod it"));
    let again = Err::<(), Error>(error).doing(|| format!("cannot enter {}", "the house")).unwrap_err();
    assert_eq!(again.message, "cannot enter the house: cannot open the door");
    assert_eq!((again.errno, again.help.as_str()), (13, "chmod it"));
    assert!(Ok::<_, Link>(1).doing(|| -> String { panic!("words for nothing") }).is_ok());
}
