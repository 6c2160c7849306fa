//! The section and the kernel's ABI as what is to be done. Pure: the ABI comes from outside.

use crate::config::{Allow, Config, Scoped};
use crate::rights::{self, kernel, names};
use landlock::{AccessFs, AccessNet, BitFlags, Scope};
use palisade_abi::{At, Demand, Error, Origin};

/// What the kernel will be asked for.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Plan {
    pub(crate) abi: u32,
    /// Rights to files that are denied unless granted.
    pub(crate) files: BitFlags<AccessFs>,
    /// Rights to TCP ports that are denied unless granted.
    pub(crate) net: BitFlags<AccessNet>,
    pub(crate) scopes: BitFlags<Scope>,
    /// What is denied is written to the audit log.
    pub(crate) log: bool,
    pub(crate) lines: Vec<Line>,
}

/// One line of the policy.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Line {
    pub(crate) words: String,
    pub(crate) origin: Option<Origin>,
    pub(crate) what: What,
}

/// What a line comes to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum What {
    Grant {
        path: String,
        access: BitFlags<AccessFs>,
        optional: bool,
    },
    Ports {
        access: AccessNet,
        ports: Vec<u16>,
    },
    /// It takes effect with the ruleset as a whole.
    Whole,
    /// The kernel cannot, and the policy allows that; why.
    Degraded(String),
    /// The policy says `Off`.
    Off,
}

/// The answer to "can this be restricted?", where the policy may have allowed a no.
enum Can {
    Yes,
    No(String),
    Off,
}

const RESTRICTING: &str = "restricting";

/// A wish, as the policy has it.
struct Wish<'a> {
    /// What is done to it: as good as always `RESTRICTING`.
    act: &'a str,
    what: &'a str,
    abi: u32,
    demand: Demand,
    origin: Option<Origin>,
}

impl Wish<'_> {
    /// Whether the kernel can, given its ABI (or why it has none).
    fn can(&self, kernel_has: &Result<u32, Error>) -> Result<Can, Error> {
        let why = match (self.demand, kernel_has) {
            (Demand::Off, _) => return Ok(Can::Off),
            (_, Ok(abi)) if *abi >= self.abi => return Ok(Can::Yes),
            (_, Ok(abi)) => format!(
                "{} {} needs Landlock ABI {} (Linux {}), and this kernel has ABI {abi}",
                self.act,
                self.what,
                self.abi,
                kernel(self.abi)
            ),
            (Demand::Require, Err(error)) => return Err(error.clone().at(self.origin)),
            (Demand::Degrade, Err(error)) => format!("{}: {}", error.message, error.call),
        };
        if self.demand == Demand::Degrade {
            return Ok(Can::No(why));
        }
        Err(Error::host(why).at(self.origin).help(format!(
            "use Linux {} or later, or write `Degrade` for it under `demand` to run without",
            kernel(self.abi)
        )))
    }
}

fn or_require(demand: Option<&At<Demand>>) -> Demand {
    demand.map_or(Demand::Require, |at| at.value)
}

/// Checks what no kernel could do.
pub(crate) fn check(config: &Config) -> Result<(), Error> {
    let paths = or_require(config.demand.paths.as_ref());
    if paths != Demand::Off && config.rules.is_empty() {
        return Err(Error::policy("the section `landlock` grants nothing, so not even the workload could be executed")
            .help(
                "add rules such as `Execute(\"/usr\")` and `Read(\"/usr\")`, or, to restrict only ports or scopes, \
                write `demand: (paths: Off)`",
            ));
    }
    for rule in &config.rules {
        if rule.parts().1.is_empty() {
            return Err(Error::policy("this rule allows nothing")
                .at(rule.origin)
                .help("name rights in `allow`, such as `allow: [Read, Execute]`, or remove the rule"));
        }
    }
    if paths == Demand::Off && config.tcp.bind.is_none() && config.tcp.connect.is_none() && config.scopes.is_empty() {
        return Err(Error::policy("the section `landlock` restricts nothing")
            .at(config.demand.paths.as_ref().and_then(|at| at.origin))
            .help("restrict paths, ports or scopes, or remove the section"));
    }
    Ok(())
}

/// Decides everything that can be decided before anything starts.
pub(crate) fn plan(config: &Config, kernel_has: Result<u32, Error>) -> Result<Plan, Error> {
    let kernel_has = kernel_has.map(|abi| abi.min(rights::NEWEST));
    if let (Some(floor), Ok(abi)) = (&config.floor, &kernel_has) {
        let demand = Demand::Require;
        Wish { act: RESTRICTING, what: "what this policy wants", abi: floor.value, demand, origin: floor.origin }
            .can(&Ok(*abi))?;
    }
    let mut plan = Plan { abi: *kernel_has.as_ref().unwrap_or(&0), ..Plan::default() };
    files(config, &kernel_has, &mut plan)?;
    for rule in &config.rules {
        let line = grant(config, rule, &kernel_has, plan.files)?;
        plan.lines.push(line);
    }
    ports(config, &kernel_has, &mut plan)?;
    scopes(config, &kernel_has, &mut plan)?;
    log(config, &kernel_has, &mut plan)?;
    Ok(plan)
}

/// Which rights to files are denied unless granted: all that the kernel knows, less what the policy exempts.
fn files(config: &Config, kernel_has: &Result<u32, Error>, plan: &mut Plan) -> Result<(), Error> {
    let demand = &config.demand;
    let first = config.rules.first().and_then(|rule| rule.origin);
    let whole = Wish {
        act: RESTRICTING,
        what: "access to files",
        abi: 1,
        demand: or_require(demand.paths.as_ref()),
        origin: demand.paths.as_ref().and_then(|at| at.origin).or(first),
    };
    match whole.can(kernel_has)? {
        Can::Off => return Ok(()),
        Can::No(why) => {
            let words = "denies every access to files that no rule grants".to_owned();
            plan.lines.push(Line { words, origin: whole.origin, what: What::Degraded(why) });
            return Ok(());
        }
        Can::Yes => plan.files = rights::all(plan.abi),
    }
    later(config, kernel_has, first, plan)
}

/// Rights that came after the first ABI. Without truncate a file that may only be read could still be
/// emptied, so it is required unless the policy says otherwise; the two others are denied where the
/// kernel can.
fn later(
    config: &Config,
    kernel_has: &Result<u32, Error>,
    first: Option<Origin>,
    plan: &mut Plan,
) -> Result<(), Error> {
    let demand = &config.demand;
    let later = [
        (&demand.truncate, "truncation", Allow::Truncate, Some(Demand::Require)),
        (&demand.ioctl_dev, "commands to devices", Allow::IoctlDev, None),
        (&demand.connect_unix, "connecting to UNIX sockets by path", Allow::ConnectUnix, None),
    ];
    for (written, what, allow, default) in later {
        let Some(demand) = written.as_ref().map(|at| at.value).or(default) else {
            continue;
        };
        let origin = written.as_ref().and_then(|at| at.origin);
        let wish = Wish { act: RESTRICTING, what, abi: rights::needs(allow), demand, origin: origin.or(first) };
        let what = match wish.can(kernel_has)? {
            Can::Yes => continue,
            Can::Off => {
                plan.files.remove(rights::of(allow));
                What::Off
            }
            Can::No(why) => What::Degraded(why),
        };
        plan.lines.push(Line { words: format!("restricts {}", wish.what), origin: wish.origin, what });
    }
    Ok(())
}

fn grant(
    config: &Config,
    rule: &At<crate::config::Rule>,
    kernel_has: &Result<u32, Error>,
    denied: BitFlags<AccessFs>,
) -> Result<Line, Error> {
    let (path, allow, optional, own) = rule.parts();
    let verbs: Vec<&str> = allow.iter().map(|a| rights::verb(*a)).collect();
    let wanted = allow.iter().fold(BitFlags::EMPTY, |sum, a| sum | rights::of(*a));
    let words = format!("lets it {} at {path} and below ({})", verbs.join(", "), names(wanted));
    let line = |what| Ok(Line { words: words.clone(), origin: rule.origin, what });
    if own == Some(Demand::Off) || or_require(config.demand.paths.as_ref()) == Demand::Off {
        return line(What::Off);
    }
    let mut lacking = None;
    for allow in &allow {
        let of_right = match allow {
            Allow::Refer => &config.demand.refer,
            Allow::Truncate => &config.demand.truncate,
            Allow::IoctlDev => &config.demand.ioctl_dev,
            Allow::ConnectUnix => &config.demand.connect_unix,
            _ => &config.demand.paths,
        };
        let demand = own.unwrap_or(or_require(of_right.as_ref()));
        let wish = Wish {
            act: RESTRICTING,
            what: rights::verb(*allow),
            abi: rights::needs(*allow),
            demand,
            origin: rule.origin,
        };
        match wish.can(kernel_has)? {
            Can::No(why) => lacking = Some(why),
            // `Off` for a right means that everybody has it: nothing is left to grant.
            Can::Yes | Can::Off => {}
        }
    }
    let access = wanted & denied;
    match lacking {
        Some(why) if access.is_empty() => line(What::Degraded(why)),
        None if access.is_empty() => line(What::Off),
        _ => line(What::Grant { path: path.as_str().to_owned(), access, optional }),
    }
}

fn ports(config: &Config, kernel_has: &Result<u32, Error>, plan: &mut Plan) -> Result<(), Error> {
    let demand = or_require(config.demand.tcp.as_ref());
    let lists = [
        (&config.tcp.bind, AccessNet::BindTcp, "binding to TCP ports", "binding to"),
        (&config.tcp.connect, AccessNet::ConnectTcp, "connecting to TCP ports", "connecting to"),
    ];
    for (list, access, what, verb) in lists {
        let Some(list) = list else { continue };
        let words = match list.value.as_slice() {
            [] => format!("denies {verb} any TCP port"),
            ports => {
                let ports: Vec<String> = ports.iter().map(u16::to_string).collect();
                format!("denies {verb} TCP ports other than {}", ports.join(", "))
            }
        };
        let what =
            match (Wish { act: RESTRICTING, what, abi: rights::TCP, demand, origin: list.origin }).can(kernel_has)? {
                Can::Yes => {
                    plan.net |= access;
                    What::Ports { access, ports: list.value.clone() }
                }
                Can::No(why) => What::Degraded(why),
                Can::Off => What::Off,
            };
        plan.lines.push(Line { words, origin: list.origin, what });
    }
    Ok(())
}

fn scopes(config: &Config, kernel_has: &Result<u32, Error>, plan: &mut Plan) -> Result<(), Error> {
    let demand = or_require(config.demand.scopes.as_ref());
    for scoped in &config.scopes {
        let (scope, what, words) = match scoped.value {
            Scoped::Signal => (Scope::Signal, "signals", "denies signals to processes outside"),
            Scoped::AbstractUnixSocket => (
                Scope::AbstractUnixSocket,
                "abstract UNIX sockets",
                "denies connecting to abstract UNIX sockets of processes outside",
            ),
        };
        let what = match (Wish { act: RESTRICTING, what, abi: rights::SCOPES, demand, origin: scoped.origin })
            .can(kernel_has)?
        {
            Can::Yes => {
                plan.scopes |= scope;
                What::Whole
            }
            Can::No(why) => What::Degraded(why),
            Can::Off => What::Off,
        };
        plan.lines.push(Line { words: words.to_owned(), origin: scoped.origin, what });
    }
    Ok(())
}

fn log(config: &Config, kernel_has: &Result<u32, Error>, plan: &mut Plan) -> Result<(), Error> {
    let Some(log) = config.log.as_ref().filter(|log| log.value) else { return Ok(()) };
    let demand = or_require(config.demand.log.as_ref());
    let wish = Wish { act: "logging", what: "what is denied", abi: rights::LOG, demand, origin: log.origin };
    let what = match wish.can(kernel_has)? {
        Can::Yes => {
            plan.log = true;
            What::Whole
        }
        Can::No(why) => What::Degraded(why),
        Can::Off => What::Off,
    };
    let words = "writes what is denied to the audit log".to_owned();
    plan.lines.push(Line { words, origin: log.origin, what });
    Ok(())
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use palisade_abi::manifest::Manifest;
    use palisade_model::diag::SourceId;
    use palisade_model::layer::{Fragment, merge_layers};
    use palisade_model::vars::Vars;

    pub(crate) fn section(text: &str) -> Config {
        merge_layers(&[Fragment::policy(SourceId(0), text, 0)], &Vars::new()).unwrap()
    }

    fn lines(text: &str, abi: u32) -> Vec<String> {
        let plan = plan(&section(text), Ok(abi)).unwrap();
        let shown = |line: &Line| match &line.what {
            What::Degraded(why) => format!("{} [{why}]", line.words),
            What::Off => format!("{} [off]", line.words),
            _ => line.words.clone(),
        };
        plan.lines.iter().map(shown).collect()
    }

    fn refused(text: &str, abi: u32) -> String {
        let error = plan(&section(text), Ok(abi)).unwrap_err();
        assert!(!error.help.is_empty());
        error.message
    }

    #[test]
    fn the_reference_sets_every_option() {
        let manifest = Manifest::parse(include_str!("manifest.ron")).unwrap();
        let config = section(&manifest.reference);
        check(&config).unwrap();
        let demand = &config.demand;
        assert!([&demand.paths, &demand.refer, &demand.truncate, &demand.tcp].iter().all(|at| at.is_some()));
        assert!([&demand.ioctl_dev, &demand.connect_unix, &demand.scopes].iter().all(|at| at.is_some()));
        assert!(config.floor.is_some() && config.tcp.bind.is_some() && config.tcp.connect.is_some());
        let plan = plan(&config, Ok(rights::NEWEST)).unwrap();
        assert!(plan.log && demand.log.is_some());
        assert_eq!(plan.lines.len(), config.rules.len() + 3 + config.scopes.len());
    }

    #[test]
    fn each_line_is_said_in_words() {
        let text = r#"( rules: [ Read("/usr"), Path(path: "/opt", allow: [Read, Execute], optional: true) ],
            tcp: (bind: [], connect: [80, 443]), scopes: [Signal, AbstractUnixSocket] )"#;
        assert_eq!(
            lines(text, 7),
            [
                "lets it read at /usr and below (read_file, read_dir)",
                "lets it read, execute at /opt and below (read_file, read_dir, execute)",
                "denies binding to any TCP port",
                "denies connecting to TCP ports other than 80, 443",
                "denies signals to processes outside",
                "denies connecting to abstract UNIX sockets of processes outside",
            ]
        );
    }

    #[test]
    fn everything_that_the_kernel_knows_is_denied_by_default() {
        let config = section(r#"( rules: [ Read("/") ] )"#);
        for abi in [3, 7, 9, 10, 11] {
            let plan = plan(&config, Ok(abi)).unwrap();
            assert_eq!(plan.files, rights::all(abi.min(rights::NEWEST)));
            assert!(plan.net.is_empty() && plan.scopes.is_empty());
        }
    }

    #[test]
    fn a_kernel_that_cannot_is_an_error_that_names_abi_and_kernel() {
        let read = r#"rules: [ Read("/") ]"#;
        for (text, abi, says) in [
            (format!("( {read} )"), 2, "truncation needs Landlock ABI 3 (Linux 6.2), and this kernel has ABI 2"),
            (format!("( {read}, tcp: (bind: []) )"), 3, "ABI 4 (Linux 6.7)"),
            (format!("( {read}, scopes: [Signal] )"), 5, "ABI 6 (Linux 6.12)"),
            (format!("( {read}, floor: 7 )"), 6, "ABI 7 (Linux 6.15)"),
            (format!("( {read}, log: true )"), 6, "logging what is denied needs Landlock ABI 7 (Linux 6.15)"),
            (r#"( rules: [ IoctlDev("/dev") ] )"#.to_owned(), 4, "ABI 5 (Linux 6.10)"),
            (r#"( rules: [ ConnectUnix("/run") ] )"#.to_owned(), 8, "ABI 9 (Linux 7.1)"),
            (format!("( {read}, demand: (connect_unix: Require) )"), 7, "ABI 9 (Linux 7.1)"),
        ] {
            let said = refused(&text, abi);
            assert!(said.contains(says), "{text}: {said}");
        }
    }

    #[test]
    fn degrade_goes_on_and_says_what_is_missing() {
        let text = r#"( rules: [ Write("/p"), Path(path: "/dev", allow: [IoctlDev], demand: Degrade) ], scopes: [Signal],
            demand: (truncate: Degrade, scopes: Degrade) )"#;
        let lines = lines(text, 2);
        assert_eq!(lines.len(), 4);
        assert!(lines[0].starts_with("restricts truncation [") && lines[0].contains("ABI 3"), "{lines:?}");
        assert!(lines[1].starts_with("lets it write at /p"), "{lines:?}");
        assert!(lines[2].contains("ABI 5") && lines[3].contains("ABI 6"), "{lines:?}");
        let config = section(text);
        let What::Grant { access, .. } = plan(&config, Ok(2)).unwrap().lines[1].what.clone() else { panic!() };
        assert!(!access.contains(AccessFs::Truncate), "a right that the kernel does not know cannot be granted");
    }

    #[test]
    fn without_landlock_the_cause_is_told() {
        let none = || Err(Error::host("this kernel has no Landlock").call("landlock_create_ruleset() = ENOSYS", 38));
        let error = plan(&section(r#"( rules: [ Read("/") ] )"#), none()).unwrap_err();
        assert_eq!((error.message.as_str(), error.errno), ("this kernel has no Landlock", 38));
        let text = r#"( rules: [ Read("/") ], demand: (paths: Degrade) )"#;
        let plan = plan(&section(text), none()).unwrap();
        assert!(plan.files.is_empty());
        assert!(plan.lines.iter().all(|line| matches!(line.what, What::Degraded(_))), "{plan:?}");
    }

    #[test]
    fn what_is_switched_off_is_not_denied() {
        let text = r#"( rules: [ Read("/") ], demand: (truncate: Off, connect_unix: Off) )"#;
        let plan = plan(&section(text), Ok(10)).unwrap();
        assert_eq!(names(rights::all(10) & !plan.files), "truncate, connect_unix");
    }

    #[test]
    fn a_section_that_makes_no_sense_is_refused() {
        for (text, says) in [
            ("()", "not even the workload"),
            ("( demand: (paths: Off) )", "restricts nothing"),
            (r#"( rules: [ Path(path: "/x", allow: []) ] )"#, "allows nothing"),
        ] {
            let error = check(&section(text)).unwrap_err();
            assert!(error.message.contains(says) && !error.help.is_empty(), "{text}: {}", error.message);
        }
        check(&section("( scopes: [Signal], demand: (paths: Off) )")).unwrap();
    }
}
