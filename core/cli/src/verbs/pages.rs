//! `palisade completions` and `palisade man`.

use super::Said;
use crate::args::{Completions, tree};
use crate::manual;
use palisade_runtime::{Kind, Trouble};

pub(super) fn completions(args: &Completions) -> Said {
    let mut script = Vec::new();
    clap_complete::generate(args.shell, &mut tree(), "palisade", &mut script);
    Said::text(String::from_utf8_lossy(&script))
}

pub(super) fn man() -> Result<Said, Trouble> {
    let page = manual::page(tree());
    page.map(Said::text).map_err(|error| Trouble::new(Kind::Usage, format!("the page could not be made: {error}")))
}
