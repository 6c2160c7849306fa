//! A plugin in a process of its own: the launcher launches a helper under the policy `plugin-host`. That opens the
//! plugin's file, and is asked over a channel. What it answers is checked as coming from somebody hostile.
//!
//! | file | holds |
//! |---|---|
//! | `helper` | the launcher's side: starting, asking, ending |
//! | `inside` | the helper's side: the answers |
//! | `talk` | what both say to each other |
//! | `check` | what of an answer is taken |
//! | `plugins` | finding and checking one that is opened in a helper |
//! | `guest` | the plugin and its isolator, as the rest of palisade sees them |

mod check;
mod guest;
mod helper;
mod inside;
mod plugins;
mod talk;

use guest::Guest;
pub(crate) use helper::none_needed;
pub use inside::host_plugin;
