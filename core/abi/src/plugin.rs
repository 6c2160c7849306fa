//! What a plugin is.

use crate::error::Error;
use crate::facts::Host;
use crate::isolator::Isolator;
use crate::told::{Finding, Left};
use palisade_model::layer::Layered;

/// A plugin: how it sees the host, and how its section of a policy becomes an [`Isolator`].
///
/// ```
/// # use palisade_abi::{At, Error, Finding, Host, Isolator, Plugin, Stage, Step, units::Text};
/// palisade_abi::layered! {
///     /// The section of a policy.
///     pub struct Config {
///         /// What is said when the workload is set up.
///         pub greeting: Option<At<Text>>,
///     }
/// }
///
/// struct Greeting(Option<At<Text>>);
///
/// impl Isolator for Greeting {
///     fn plan(&self, _host: &Host) -> Result<Vec<Step>, Error> {
///         let Some(text) = self.0.clone() else { return Ok(Vec::new()) };
///         let origin = text.origin;
///         Ok(vec![Step::run(Stage::Build, "greets", move |_| Ok(format!("it said {}", text.value))).origin(origin)])
///     }
/// }
///
/// struct Greeter;
///
/// impl Plugin for Greeter {
///     type Config = Config;
///
///     fn probe(_host: &Host) -> Vec<Finding> {
///         Vec::new()
///     }
///
///     fn configure(config: Config, _host: &Host) -> Result<Box<dyn Isolator>, Error> {
///         Ok(Box::new(Greeting(config.greeting)))
///     }
/// }
/// // In the crate of a plugin: palisade_abi::export_plugin!(Greeter, "manifest.ron");
/// ```
pub trait Plugin: 'static {
    /// The plugin's section in a policy, made with [`crate::layered!`].
    type Config: Layered + serde::de::DeserializeOwned;

    /// Says what this host offers of what the plugin needs. `palisade doctor` prints it.
    ///
    /// ```
    /// # use palisade_abi::{At, Error, Finding, Host, Isolator, Plugin, Step, Support};
    /// # struct Mine;
    /// # impl Isolator for Mine {
    /// #     fn plan(&self, _host: &Host) -> Result<Vec<Step>, Error> { Ok(Vec::new()) }
    /// # }
    /// # palisade_abi::layered! { struct Config { names: Vec<At<String>> } }
    /// # struct Names;
    /// # impl Plugin for Names {
    /// #     type Config = Config;
    /// fn probe(host: &Host) -> Vec<Finding> {
    ///     let (major, minor) = host.kernel().unwrap_or_default();
    ///     vec![Finding {
    ///         feature: "core scheduling".to_owned(),
    ///         support: if (major, minor) < (5, 14) { Support::Missing } else { Support::Full },
    ///         detail: format!("Linux {major}.{minor}"),
    ///         remedy: String::new(),
    ///     }]
    /// }
    /// #     fn configure(_config: Config, _host: &Host) -> Result<Box<dyn Isolator>, Error> { Ok(Box::new(Mine)) }
    /// # }
    /// ```
    fn probe(host: &Host) -> Vec<Finding>;

    /// Checks the merged configuration and makes the isolator for one launch. Touches nothing.
    ///
    /// ```
    /// # use palisade_abi::{At, Error, Finding, Host, Isolator, Plugin, Step};
    /// # struct Mine;
    /// # impl Isolator for Mine {
    /// #     fn plan(&self, _host: &Host) -> Result<Vec<Step>, Error> { Ok(Vec::new()) }
    /// # }
    /// # palisade_abi::layered! { struct Config { names: Vec<At<String>> } }
    /// # struct Names;
    /// # impl Plugin for Names {
    /// #     type Config = Config;
    /// #     fn probe(_host: &Host) -> Vec<Finding> { Vec::new() }
    /// fn configure(config: Config, _host: &Host) -> Result<Box<dyn Isolator>, Error> {
    ///     if let Some(name) = config.names.iter().find(|name| name.is_empty()) {
    ///         return Err(Error::policy("a name is empty").at(name.origin).help("take it out"));
    ///     }
    ///     # let mine = Mine;
    ///     Ok(Box::new(mine))
    /// }
    /// # }
    /// ```
    ///
    /// # Errors
    /// A policy error where the configuration makes no sense.
    fn configure(config: Self::Config, host: &Host) -> Result<Box<dyn Isolator>, Error>;

    /// Finds what launchers that were killed left on this host, and removes it where `remove` says so. What a run
    /// that goes on needs must not be among it, whoever looks, and from whichever namespace. `palisade gc` asks.
    ///
    /// ```
    /// # use palisade_abi::{At, Error, Finding, Host, Isolator, Left, Plugin, Step};
    /// # struct Mine;
    /// # impl Isolator for Mine {
    /// #     fn plan(&self, _host: &Host) -> Result<Vec<Step>, Error> { Ok(Vec::new()) }
    /// # }
    /// # palisade_abi::layered! { struct Config { names: Vec<At<String>> } }
    /// # struct Names;
    /// # impl Plugin for Names {
    /// #     type Config = Config;
    /// #     fn probe(_host: &Host) -> Vec<Finding> { Vec::new() }
    /// #     fn configure(_config: Config, _host: &Host) -> Result<Box<dyn Isolator>, Error> { Ok(Box::new(Mine)) }
    /// fn collect(_host: &Host, remove: bool) -> Result<Vec<Left>, Error> {
    ///     # fn in_use(_path: &std::path::Path) -> bool { true }
    ///     let mut all = Vec::new();
    ///     for entry in std::fs::read_dir("/run/mine")? {
    ///         let path = entry?.path();
    ///         // A lock that the launcher holds, and the kernel lets go when it ends, shows what is in use.
    ///         if in_use(&path) {
    ///             continue;
    ///         }
    ///         let gone = if remove { std::fs::remove_file(&path) } else { Ok(()) };
    ///         let why = gone.as_ref().err().map(ToString::to_string).unwrap_or_default();
    ///         all.push(Left { what: path.display().to_string(), removed: remove && gone.is_ok(), why });
    ///     }
    ///     Ok(all)
    /// }
    /// # }
    /// ```
    ///
    /// # Errors
    /// The host could not be looked at. What could not be removed is no error, but told with its reason.
    fn collect(_host: &Host, _remove: bool) -> Result<Vec<Left>, Error> {
        Ok(Vec::new())
    }
}
