//! From a policy and the command line to the layers of every section.

mod hosts;
mod house;
mod walk;

use std::collections::BTreeMap;

use crate::diag::{Diagnostic, Origin, SourceId, Sources};
use crate::layer::{At, Fragment, merge_layers};
use crate::policy::{Hosting, Test};
use crate::process::Process;
use crate::vars::Vars;
use house::House;
use walk::Walk;

/// What to resolve.
#[derive(Clone, Debug)]
pub struct Request<'a> {
    /// The policy that was asked for.
    pub policy: SourceId,
    /// The `--set` arguments, in order.
    pub sets: Vec<String>,
    /// The variables.
    pub vars: &'a Vars,
}

/// A policy that was found by name.
#[derive(Clone, Debug)]
pub struct Found {
    /// The name to show, usually the path of the file. The same file must get the same name: by
    /// it a policy is known to have been read already.
    pub name: String,
    /// The text.
    pub text: String,
}

/// A policy with everything that it extends, and the command line, taken in.
#[derive(Clone, Debug)]
pub struct Resolved {
    /// The name of the policy that was asked for.
    pub name: String,
    /// Its description.
    pub description: Option<String>,
    /// The merged process section.
    pub process: Process,
    /// The layers that the process section was merged from, base first.
    pub process_layers: Vec<Fragment>,
    /// The plugins that the policy uses.
    pub plugins: BTreeMap<String, ResolvedPlugin>,
    /// Where plugins run; one that is not named runs in the launcher.
    pub hosts: BTreeMap<String, At<Hosting>>,
    /// The tests of all policies in the chain.
    pub tests: Vec<At<Test>>,
    /// The sources of all policies, base first; the one that was asked for is the last.
    pub chain: Vec<SourceId>,
}

/// A plugin that a policy uses.
#[derive(Clone, Debug)]
pub struct ResolvedPlugin {
    /// Its name.
    pub name: String,
    /// Its layers, base first.
    pub layers: Vec<Fragment>,
    /// Where it was named last.
    pub origin: Option<Origin>,
}

/// How a policy is found by its name.
pub type Lookup<'a> = dyn FnMut(&str) -> Result<Found, Diagnostic> + 'a;

/// Resolves a policy: reads what it extends, base first and each once; applies `drop`, `replace`
/// and `locked`; adds the `--set` arguments as last layers; merges the process section.
///
/// # Errors
/// A policy that cannot be read or found; a circle in `extends`; a path or an argument that leads
/// nowhere; a change of what is locked; a bad process section or test. The sections of plugins
/// are not read here.
pub fn resolve(sources: &mut Sources, request: Request<'_>, lookup: &mut Lookup<'_>) -> Result<Resolved, Diagnostic> {
    let mut walk = Walk { sources, lookup, path: Vec::new(), chain: Vec::new() };
    walk.visit(request.policy)?;
    let chain = walk.chain;
    let mut house = House::default();
    for (_, policy) in &chain {
        house.add(policy, request.vars)?;
    }
    for argument in &request.sets {
        house.set(sources, argument)?;
    }
    let process = merge_layers(&house.process.layers, request.vars)?;
    let description = chain.last().and_then(|(_, p)| p.description.clone());
    Ok(Resolved {
        name: sources.name(request.policy).to_owned(),
        description: description.map(|text| text.value),
        process,
        process_layers: house.process.layers,
        hosts: house.hosts.finish(house.plugins.keys())?,
        plugins: house.plugins.into_iter().map(|(name, unit)| (name.clone(), unit.finish(name))).collect(),
        tests: house.tests,
        chain: chain.into_iter().map(|(id, _)| id).collect(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Resolves the first of some policies, the others being found by name.
    fn run(policies: &[(&str, &str)], sets: &[&str]) -> Result<Resolved, String> {
        let mut sources = Sources::default();
        let policy = sources.add(policies[0].0, policies[0].1);
        let mut vars = Vars::new();
        vars.set_builtin("home", "/home/ann");
        let request = Request { policy, sets: sets.iter().map(|&set| set.to_owned()).collect(), vars: &vars };
        let resolved = resolve(&mut sources, request, &mut |name| {
            let found = policies.iter().find(|(other, _)| *other == name);
            found
                .map(|(name, text)| Found { name: (*name).to_owned(), text: (*text).to_owned() })
                .ok_or_else(|| Diagnostic::new("not found"))
        });
        resolved.map_err(|error| error.render(&sources))
    }

    fn texts(resolved: &Resolved, plugin: &str) -> Vec<String> {
        let layers = resolved.plugins[plugin].layers.iter();
        layers.map(|layer| layer.text.clone()).collect()
    }

    #[test]
    fn bases_come_first_and_once() {
        let resolved = run(
            &[
                ("top", r#"(version: 1, extends: ["left", "right"], plugins: {"p": (a: 4)})"#),
                ("left", r#"(version: 1, extends: ["base"], plugins: {"p": (a: 2)})"#),
                ("right", r#"(version: 1, extends: ["base"], plugins: {"p": (a: 3)})"#),
                ("base", r#"(version: 1, plugins: {"p": (a: 1)}, tests: [Deny(Read("${home}"))])"#),
            ],
            &["p.a=5", "process.nice=3"],
        )
        .unwrap();
        assert_eq!(texts(&resolved, "p"), ["(a: 1)", "(a: 2)", "(a: 3)", "(a: 4)", "(a: 5)"]);
        assert_eq!(resolved.chain.len(), 4);
        assert_eq!(resolved.name, "top");
        assert_eq!(resolved.tests.len(), 1);
        assert_eq!(resolved.process.nice.unwrap().get(), 3);
        assert!(resolved.plugins["p"].layers.iter().all(|l| l.section == "p"));
    }

    #[test]
    fn whole_sections_are_dropped_and_replaced() {
        let base = r#"(version: 1, process: (nice: 1, umask: "022"), plugins: {"p": (a: 1), "q": ()}, tests: [Allow(Read("/"))])"#;
        let resolved = run(
            &[
                (
                    "top",
                    r#"(version: 1, extends: ["base"], process: (nice: 2), plugins: {"q": (b: 1)},
                    drop: ["p", "tests"], replace: ["q", "process"])"#,
                ),
                ("base", base),
            ],
            &[],
        )
        .unwrap();
        assert!(!resolved.plugins.contains_key("p"));
        assert_eq!(texts(&resolved, "q"), ["(b: 1)"]);
        assert!(resolved.process.umask.is_none() && resolved.tests.is_empty());
    }

    #[test]
    fn parts_reach_the_plugin_even_without_a_section() {
        let resolved = run(
            &[
                ("top", r#"(version: 1, extends: ["base"], drop: ["p.a.b"], locked: ["p.c"])"#),
                ("base", r#"(version: 1, plugins: {"p": (a: 1)})"#),
            ],
            &[],
        )
        .unwrap();
        let layer = &resolved.plugins["p"].layers[1];
        assert_eq!((layer.text.as_str(), layer.drop[0].path.as_str()), ("()", "a.b"));
        assert_eq!(layer.locked[0].path, "c");
    }

    #[test]
    fn a_lock_survives_a_plugin_that_was_replaced_before_it() {
        let said = run(
            &[
                ("top", r#"(version: 1, extends: ["mid"], plugins: {"p": ()})"#),
                ("mid", r#"(version: 1, extends: ["base"], plugins: {"p": ()}, replace: ["p"], locked: ["p"])"#),
                ("base", r#"(version: 1, plugins: {"p": (a: 1)})"#),
            ],
            &[],
        )
        .unwrap_err();
        assert!(said.contains("`p` is locked"), "{said}");
    }

    #[test]
    fn a_locked_process_cannot_be_touched() {
        let base = r#"(version: 1, process: (nice: 1), locked: ["process"])"#;
        for top in [
            r#"(version: 1, extends: ["base"], process: ())"#,
            r#"(version: 1, extends: ["base"], drop: ["process"])"#,
            r#"(version: 1, extends: ["base"], drop: ["process.nice"])"#,
        ] {
            let said = run(&[("top", top), ("base", base)], &[]).unwrap_err();
            assert!(said.contains("`process` is locked"), "{said}");
        }
        let plain = r#"(version: 1, extends: ["base"])"#;
        assert!(run(&[("top", plain), ("base", base)], &["process.nice=1"]).is_err());
    }

    #[test]
    fn a_long_chain_is_refused_and_not_followed() {
        let mut sources = Sources::default();
        let policy = sources.add("0", r#"(version: 1, extends: ["1"])"#);
        let vars = Vars::new();
        let request = Request { policy, sets: Vec::new(), vars: &vars };
        let said = resolve(&mut sources, request, &mut |name| {
            let next = name.parse::<u32>().unwrap() + 1;
            Ok(Found { name: name.to_owned(), text: format!("(version: 1, extends: [\"{next}\"])") })
        });
        assert!(said.unwrap_err().message.contains("more than 32 deep"));
    }

    fn hosts(policies: &[(&str, &str)], sets: &[&str]) -> Result<Vec<(String, Hosting)>, String> {
        Ok(run(policies, sets)?.hosts.into_iter().map(|(name, place)| (name, place.value)).collect())
    }

    const BASE: &str = r#"(version: 1, plugins: {"p": (), "my-q": ()}, hosts: {"p": Process})"#;

    #[test]
    fn places_of_plugins_merge_one_by_one() {
        let process = |name: &str| (name.to_owned(), Hosting::Process);
        let launcher = |name: &str| (name.to_owned(), Hosting::Launcher);
        assert_eq!(hosts(&[("base", BASE)], &[]).unwrap(), [process("p")]);
        assert_eq!(hosts(&[("base", BASE)], &["hosts.my-q=Process"]).unwrap(), [process("my-q"), process("p")]);
        for (top, wanted) in [
            (r#"hosts: {"my-q": Process}"#, vec![process("my-q"), process("p")]),
            (r#"hosts: {"p": Launcher}"#, vec![launcher("p")]),
            (r#"drop: ["hosts.p"]"#, vec![]),
            (r#"drop: ["hosts"]"#, vec![]),
            (r#"hosts: {"my-q": Process}, replace: ["hosts"]"#, vec![process("my-q")]),
            (r#"locked: ["hosts"], hosts: {"my-q": Process}"#, vec![process("my-q"), process("p")]),
        ] {
            let top = format!(r#"(version: 1, extends: ["base"], {top})"#);
            assert_eq!(hosts(&[("top", &top), ("base", BASE)], &[]).unwrap(), wanted, "{top}");
        }
    }

    #[test]
    fn a_locked_place_stays() {
        for lock in ["hosts", "hosts.p"] {
            let base = BASE.replace("version: 1", &format!(r#"version: 1, locked: ["{lock}"]"#));
            for top in [r#"hosts: {"p": Launcher}"#, r#"drop: ["hosts.p"]"#, r#"drop: ["hosts"]"#] {
                let top = format!(r#"(version: 1, extends: ["base"], {top})"#);
                let said = hosts(&[("top", &top), ("base", &base)], &[]).unwrap_err();
                assert!(said.contains("is locked"), "{lock}: {said}");
            }
            let said = hosts(&[("base", &base)], &["hosts.p=Launcher"]).unwrap_err();
            assert!(said.contains("`hosts.p` is locked"), "{said}");
        }
        let base = BASE.replace("version: 1", r#"version: 1, locked: ["hosts.p"]"#);
        hosts(&[("base", &base)], &["hosts.my-q=Process"]).unwrap();
    }

    #[test]
    fn a_place_that_is_none_and_a_plugin_that_is_not_used_are_refused() {
        for (text, set, said) in [
            (r#"(version: 1, plugins: {"p": ()}, hosts: {"q": Process})"#, "", "base:1:42"),
            (r#"(version: 1, plugins: {"p": ()}, hosts: {"p": Proces})"#, "", "Process"),
            (r#"(version: 1, plugins: {"p": ()}, hosts: {"p": Process, "p": Launcher})"#, "", "twice"),
            (r#"(version: 1, plugins: {"hosts": ()})"#, "", "cannot be the name of a plugin"),
            (BASE, "hosts.z=Process", "does not use"),
            (BASE, "hosts.p=Elsewhere", "cannot run in `Elsewhere`"),
            (BASE, "hosts={}", "sets no plugin's place"),
            (BASE, "hosts.p.x=Process", "sets no plugin's place"),
        ] {
            let sets: Vec<&str> = Some(set).into_iter().filter(|set| !set.is_empty()).collect();
            let said_at = hosts(&[("base", text)], &sets).unwrap_err();
            assert!(said_at.contains(said), "{text} {set}: {said_at}");
        }
    }
}
