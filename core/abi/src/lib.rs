//! The seam between palisade and its isolation plugins, and the SDK to write one.
//!
//! A plugin is a shared object. To palisade it is a manifest (data, read before a single instruction of the
//! plugin runs), a `probe` of the host, and `configure`, which turns the policy's layers for this plugin into
//! an [`Isolator`]. An isolator makes [`Step`]s; palisade orders, prints, applies, verifies and undoes them,
//! and never needs to know what they do.
//!
//! An author writes a configuration with [`layered!`], an [`Isolator`] and a [`Plugin`], and exports it with
//! [`export_plugin!`]. `docs/plugins.md` has a whole plugin.
//!
//! | file | holds |
//! |---|---|
//! | `sdk` | what an author implements and uses |
//! | `ready` | ready-made steps, as data |
//! | `told` | what a plugin tells: findings, figures, limits hit |
//! | `error` | an error that teaches, and how it crosses |
//! | `manifest` | what a plugin says about itself |
//! | `seam` | the types that cross, as laid out in memory |
//! | `wrap` | an author's types as seam objects; every entry catches panics |
//! | `c` | the same seam as a table of C functions |
//! | `host` | the other side: opening a library and calling it, for palisade itself |

pub mod c;
mod error;
mod facts;
pub mod host;
pub mod manifest;
mod ready;
mod sdk;
pub mod seam;
mod told;
#[doc(hidden)]
pub mod wrap;

pub use error::{Context as ErrorContext, Error, ErrorKind};
pub use facts::Host;
pub use palisade_model::diag::Origin;
pub use palisade_model::layer::{At, Layered};
pub use palisade_model::layered;
pub use palisade_model::plan::Demand;
pub use palisade_model::severity::Severity;
pub use palisade_model::stage::Stage;
pub use palisade_model::units;
pub use ready::{Amount, Ready};
pub use sdk::{Action, Context, Evidence, Isolator, Plugin, Step};
pub use serde;
pub use told::{Act, Attempt, Change, Changed, Denial, Finding, Finish, Hit, Left, Support};

#[doc(hidden)]
pub use abi_stable;

/// The version of the seam: what a plugin was built against. A minor adds, a major breaks.
pub const SEAM_VERSION: &str = env!("CARGO_PKG_VERSION");

/// The ELF section that holds a plugin's manifest.
pub const MANIFEST_SECTION: &str = ".palisade.manifest";

/// Exports a [`Plugin`] with its manifest (a RON file beside the source) from a `cdylib`.
///
/// The manifest is placed in the ELF section [`MANIFEST_SECTION`], where palisade reads it without running the
/// library; the plugin's functions are reached through `abi_stable`'s library header.
#[macro_export]
macro_rules! export_plugin {
    ($plugin:ty, $manifest:literal) => {
        const _: () = {
            const TEXT: &[u8] = include_bytes!($manifest);
            // A static in a section of its own: data that palisade reads from the file, never through dlopen.
            #[used]
            #[unsafe(link_section = ".palisade.manifest")]
            static MANIFEST: [u8; TEXT.len()] = *include_bytes!($manifest);

            extern "C" fn module() -> $crate::abi_stable::library::RootModuleResult {
                $crate::abi_stable::library::__call_root_module_loader($crate::wrap::module::<$plugin>)
            }

            #[unsafe(export_name = "_1as_0lib_1header_0root_bmodule_bloader")]
            static HEADER: $crate::abi_stable::library::LibHeader = $crate::wrap::header(module);
        };
    };
}
