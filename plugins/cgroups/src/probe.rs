//! What this host offers, for `palisade doctor`.

use crate::isolator::room;
use crate::limits::Controller;
use palisade_abi::{Finding, Support};

/// Looks for each controller as a launch would.
pub(crate) fn probe() -> Vec<Finding> {
    Controller::ALL.into_iter().map(finding).collect()
}

fn finding(controller: Controller) -> Finding {
    let feature = format!("cgroup controller {}", controller.name());
    let missing = |error: &palisade_abi::Error| Finding {
        feature: feature.clone(),
        support: Support::Missing,
        detail: [error.message.as_str(), error.call.as_str()].join(" ").trim_end().to_owned(),
        remedy: error.help.clone(),
    };
    match room(&[controller], None) {
        Err(error) => missing(&error),
        Ok(room) => match (room.places.first(), room.without.first()) {
            (Some(place), _) => Finding {
                feature,
                support: Support::Full,
                detail: format!("cgroup {}, below {}", place.version.name(), place.dir.display()),
                remedy: String::new(),
            },
            (None, Some((_, error))) => missing(error),
            (None, None) => missing(&palisade_abi::Error::host("no hierarchy has it")),
        },
    }
}
