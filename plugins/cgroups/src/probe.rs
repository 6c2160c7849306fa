//! What this host offers, for `palisade doctor`.

use crate::devices;
use crate::isolator::room;
use crate::layout::{Place, Version};
use crate::limits::Controller;
use palisade_abi::{Error, Finding, Support};

/// Looks for each controller as a launch would.
pub(crate) fn probe() -> Vec<Finding> {
    Controller::ALL.into_iter().map(finding).collect()
}

fn finding(controller: Controller) -> Finding {
    let feature = format!("cgroup controller {}", controller.name());
    let missing = |error: &Error| Finding {
        feature: feature.clone(),
        support: Support::Missing,
        detail: [error.message.as_str(), error.call.as_str()].join(" ").trim_end().replace('\n', "; "),
        remedy: error.help.clone(),
    };
    match place(controller) {
        Err(error) => missing(&error),
        Ok(place) => Finding {
            feature,
            support: Support::Full,
            detail: match &place.scope {
                Some(scope) => format!("cgroup {}, in {}", place.version.name(), scope.words()),
                None => format!("cgroup {}, below {}", place.version.name(), place.dir.display()),
            },
            remedy: String::new(),
        },
    }
}

fn place(controller: Controller) -> Result<Place, Error> {
    let room = room(&[controller], None)?;
    if let Some((_, error)) = room.without.into_iter().next() {
        return Err(error);
    }
    let place = room.places.into_iter().next().ok_or_else(|| Error::host("no hierarchy has it"))?;
    if controller == Controller::Devices && place.version == Version::V2 {
        devices::load(&devices::rules(&[])?).map(drop)?;
    }
    Ok(place)
}
