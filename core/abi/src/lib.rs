//! The seam between palisade and its isolation plugins, and the SDK to write one.
//!
//! A plugin is a shared object. To palisade it is a manifest (data, read before a single instruction of the
//! plugin runs), a `probe` of the host, and `configure`, which turns the policy's layers for this plugin into
//! an [`Isolator`]. An isolator makes [`Step`]s; palisade orders, prints, applies, verifies and undoes them,
//! and never needs to know what they do.
//!
//! An author writes a configuration with [`layered!`], an [`Isolator`] and a [`Plugin`], and exports it with
//! [`export_plugin!`]. `palisade plugin new` makes a plugin to begin with, `docs/plugins.md` is the guide.
//!
//! | file | holds |
//! |---|---|
//! | `plugin` | a plugin: the host, and its section of a policy |
//! | `isolator` | what it is for one launch |
//! | `sdk` | the steps that it makes |
//! | `action` | what a step does, and what it is lent for that |
//! | `ready` | ready-made steps, as data |
//! | `told` | what a plugin tells: findings, figures, limits hit |
//! | `error` | an error that teaches, and how it crosses |
//! | `manifest` | what a plugin says about itself |
//! | `seam` | the types that cross, as laid out in memory |
//! | `wrap` | an author's types as seam objects; every entry catches panics |
//! | `c` | the same seam as a table of C functions |
//! | `host` | the other side: opening a library and calling it, for palisade itself |

mod action;
#[doc(hidden)]
pub mod c;
mod error;
mod facts;
#[doc(hidden)]
pub mod host;
mod isolator;
pub mod manifest;
mod plugin;
mod ready;
mod sdk;
#[doc(hidden)]
pub mod seam;
mod told;
#[doc(hidden)]
pub mod wrap;

pub use action::{Action, Context, Evidence};
pub use error::{Context as ErrorContext, Error, ErrorKind};
pub use facts::Host;
pub use isolator::Isolator;
pub use palisade_model::diag::Origin;
pub use palisade_model::layer::{At, Layered};
pub use palisade_model::layered;
pub use palisade_model::plan::Demand;
pub use palisade_model::severity::Severity;
pub use palisade_model::stage::Stage;
pub use palisade_model::units;
pub use plugin::Plugin;
pub use ready::{Amount, Ready};
pub use sdk::Step;
/// The crate that [`layered!`] reads sections with, for options of types of an author's own.
///
/// ```
/// # use palisade_abi::At;
/// use palisade_abi::serde;
///
/// #[derive(Clone, Copy, Debug, PartialEq, serde::Deserialize)]
/// #[serde(crate = "palisade_abi::serde")]
/// enum Mode {
///     Strict,
///     Loose,
/// }
///
/// palisade_abi::layered! {
///     struct Config { mode: Option<At<Mode>> }
/// }
/// assert_eq!(Config { mode: Some(At::new(Mode::Strict)) }.mode.map(|at| at.value), Some(Mode::Strict));
/// # assert_ne!(Mode::Strict, Mode::Loose);
/// ```
pub use serde;
pub use told::{Act, Attempt, Change, Changed, Denial, Finding, Finish, Hit, Left, Support};

#[doc(hidden)]
pub use abi_stable;

/// The version of the seam: what a plugin was built against. A minor adds, a major breaks.
///
/// ```
/// assert!(palisade_abi::SEAM_VERSION.starts_with("1."));
/// ```
pub const SEAM_VERSION: &str = env!("CARGO_PKG_VERSION");

/// The ELF section that holds a plugin's manifest.
///
/// ```
/// // readelf -p .palisade.manifest libpalisade_example.so
/// assert_eq!(palisade_abi::MANIFEST_SECTION, ".palisade.manifest");
/// ```
pub const MANIFEST_SECTION: &str = ".palisade.manifest";

/// Exports a [`Plugin`] with its manifest (a RON file beside the source) from a `cdylib`.
///
/// The manifest is placed in the ELF section [`MANIFEST_SECTION`], where palisade reads it without running the
/// library; the plugin's functions are reached through `abi_stable`'s library header.
///
/// ```
/// # use palisade_abi::{Error, Finding, Host, Isolator, Plugin, Step};
/// # palisade_abi::layered! { struct Config { on: Option<palisade_abi::At<bool>> } }
/// # struct Nothing;
/// # impl Isolator for Nothing {
/// #     fn plan(&self, _host: &Host) -> Result<Vec<Step>, Error> { Ok(Vec::new()) }
/// # }
/// struct Example;
///
/// impl Plugin for Example {
///     // ...
/// #     type Config = Config;
/// #     fn probe(_host: &Host) -> Vec<Finding> { Vec::new() }
/// #     fn configure(_: Config, _: &Host) -> Result<Box<dyn Isolator>, Error> { Ok(Box::new(Nothing)) }
/// }
///
/// # macro_rules! include_bytes { ($name:literal) => { b"()" }; }
/// palisade_abi::export_plugin!(Example, "manifest.ron");
/// ```
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
