//! The public interface of a crate, read from its source: what an author of a plugin can name. Read from the source and
//! not from the compiler, because the listing of a released minor must come out the same with every compiler.

use quote::ToTokens;
use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

/// One thing that can be named.
pub struct Thing {
    /// Its path, and what it is.
    pub line: String,
    /// Whether it is to be documented by an example.
    pub documented: bool,
    /// Its documentation.
    pub docs: String,
}

/// A listing. A line that begins with `! ` is what the interface demands of a plugin (a method to be written, a field to
/// be given, a variant to be matched): there may be fewer of these later, never more. Of all others there may be more,
/// never fewer.
pub fn listing(things: &[Thing]) -> BTreeSet<String> {
    things.iter().map(|thing| thing.line.clone()).collect()
}

/// What a later listing does to a plugin that was written against an earlier one.
pub fn broken(earlier: &BTreeSet<String>, later: &BTreeSet<String>) -> Vec<String> {
    let gone = earlier.iter().filter(|line| !line.starts_with("! ") && !later.contains(*line));
    let demanded = later.iter().filter(|line| {
        let whose = line.strip_prefix("! ").and_then(|rest| rest.split(" wants ").next());
        whose.is_some_and(|whose| earlier.contains(whose)) && !earlier.contains(*line)
    });
    let gone = gone.map(|line| format!("gone or changed: {line}"));
    gone.chain(demanded.map(|line| format!("newly demanded: {line}"))).collect()
}

/// Modules that palisade keeps for itself: what they hold is held together by the check of layouts and the golden plugins.
const OWN: [&str; 4] = ["c", "host", "seam", "wrap"];

type Modules = BTreeMap<Vec<String>, Vec<syn::Item>>;

/// The crates of a source tree that an author meets.
pub struct Crates(BTreeMap<String, Modules>);

impl Crates {
    /// Reads them.
    pub fn read(tree: &Path) -> Self {
        let read = |name: &str, folder: &str| {
            let mut modules = Modules::new();
            let source = tree.join(folder).join("src");
            file_module(&source.join("lib.rs"), &source, Vec::new(), &mut modules);
            (name.to_owned(), modules)
        };
        Self([read("palisade_abi", "core/abi"), read("palisade_model", "core/model")].into())
    }

    /// The same from text, of one crate.
    pub fn of_text(text: &str) -> Self {
        let mut modules = Modules::new();
        module(syn::parse_file(text).unwrap().items, Path::new(""), Vec::new(), &mut modules);
        Self([("palisade_abi".to_owned(), modules)].into())
    }

    /// All that can be named of `palisade_abi`.
    pub fn things(&self) -> Vec<Thing> {
        let mut out = Vec::new();
        self.module(&Place { of: "palisade_abi", module: Vec::new() }, "palisade_abi", &mut out);
        for item in self.0["palisade_abi"].values().flatten() {
            if let syn::Item::Macro(found) = item
                && exported(found)
            {
                out.push(thing(format!("macro palisade_abi::{}", name_of(item)), &found.attrs, ""));
            }
        }
        out
    }

    fn module(&self, place: &Place<'_>, shown: &str, out: &mut Vec<Thing>) {
        let items = self.0[place.of].get(&place.module).into_iter().flatten();
        for item in items.filter(|item| is_public(item) && !is_hidden(attributes(item))) {
            match item {
                syn::Item::Use(found) => {
                    for (path, name) in leaves(&found.tree) {
                        let docs = docs(&found.attrs);
                        match self.resolve(place, &path) {
                            Some(target) => self.export(&target, &format!("{shown}::{name}"), &docs, out),
                            None => out.push(thing(format!("use {shown}::{name} = {}", path.join("::")), &[], &docs)),
                        }
                    }
                }
                syn::Item::Mod(found) if shown == "palisade_abi" && OWN.contains(&found.ident.to_string().as_str()) => {
                }
                syn::Item::Mod(found) => {
                    let name = found.ident.to_string();
                    let inner = place.within(&name);
                    let inside = format!("{shown}::{name}");
                    out.push(Thing { line: format!("mod {inside}"), documented: false, docs: String::new() });
                    self.module(&inner, &inside, out);
                }
                other => {
                    let path = format!("{shown}::{}", name_of(other));
                    self.item(place.of, other, Shown { path: &path, docs: "" }, out);
                }
            }
        }
    }

    fn export(&self, target: &Target<'_>, shown: &str, docs: &str, out: &mut Vec<Thing>) {
        match target {
            Target::Module(place) => {
                out.push(Thing { line: format!("mod {shown}"), documented: false, docs: String::new() });
                self.module(place, shown, out);
            }
            Target::Item(of, item) => self.item(of, item, Shown { path: shown, docs }, out),
        }
    }

    /// Follows a path from a module to what it names; nothing where that is in another crate.
    fn resolve<'a>(&'a self, from: &Place<'a>, path: &[String]) -> Option<Target<'a>> {
        let (first, rest) = path.split_first()?;
        let place = match first.as_str() {
            "crate" => Place { of: from.of, module: Vec::new() },
            "self" => from.clone(),
            "super" => Place { of: from.of, module: from.module[..from.module.len() - 1].to_vec() },
            name => match self.0.get_key_value(name) {
                Some((of, _)) => Place { of, module: Vec::new() },
                None => return self.name(from, name, rest),
            },
        };
        let (name, rest) = match rest.split_first() {
            Some(split) => split,
            None => return Some(Target::Module(place)),
        };
        self.name(&place, name, rest)
    }

    fn name<'a>(&'a self, place: &Place<'a>, name: &str, rest: &[String]) -> Option<Target<'a>> {
        let modules = &self.0[place.of];
        let inner = place.within(name);
        if modules.contains_key(&inner.module) {
            return match rest.split_first() {
                None => Some(Target::Module(inner)),
                Some((next, rest)) => self.name(&inner, next, rest),
            };
        }
        for item in modules.get(&place.module)? {
            if let syn::Item::Use(found) = item {
                let all = leaves(&found.tree);
                // `use serde;` is a crate's own name and leads no further.
                let leaf = all.into_iter().find(|(path, leaf)| leaf == name && path != &[name]);
                if let Some(target) = leaf.and_then(|(path, _)| self.resolve(place, &path)) {
                    return Some(target);
                }
            } else if name_of(item) == name && !matches!(item, syn::Item::Impl(_)) {
                return Some(Target::Item(place.of, item));
            }
        }
        let all = modules.values().flatten();
        let mut macros = all.filter(|item| matches!(item, syn::Item::Macro(found) if exported(found)));
        macros.find(|item| name_of(item) == name).map(|item| Target::Item(place.of, item))
    }

    fn item(&self, of: &str, item: &syn::Item, as_: Shown<'_>, out: &mut Vec<Thing>) {
        let Shown { path: shown, docs: more } = as_;
        match item {
            syn::Item::Fn(found) => {
                out.push(thing(format!("fn {shown}{}", signature(&found.sig)), &found.attrs, more));
            }
            syn::Item::Const(found) => {
                out.push(thing(format!("const {shown}: {}", tokens(&found.ty)), &found.attrs, more));
            }
            syn::Item::Type(found) => {
                out.push(thing(format!("type {shown} = {}", tokens(&found.ty)), &found.attrs, more));
            }
            syn::Item::Macro(found) => out.push(thing(format!("macro {shown}"), &found.attrs, more)),
            syn::Item::Struct(found) => {
                let head = format!("struct {shown}{}", tokens(&found.generics));
                out.push(thing(head.clone(), &found.attrs, more));
                fields(&found.fields, shown, &head, is_open(&found.attrs), out);
                self.impls(of, (&found.ident, &found.attrs), shown, out);
            }
            syn::Item::Enum(found) => {
                let head = format!("enum {shown}{}", tokens(&found.generics));
                out.push(thing(head.clone(), &found.attrs, more));
                for variant in &found.variants {
                    let line = format!("variant {shown}::{}{}", variant.ident, tokens(&variant.fields));
                    out.push(Thing { line, documented: false, docs: String::new() });
                    if !is_open(&found.attrs) {
                        demand(&head, &variant.ident.to_string(), out);
                    }
                }
                self.impls(of, (&found.ident, &found.attrs), shown, out);
            }
            syn::Item::Trait(found) => self.a_trait(of, found, as_, out),
            _ => {}
        }
    }

    fn a_trait(&self, of: &str, found: &syn::ItemTrait, as_: Shown<'_>, out: &mut Vec<Thing>) {
        let Shown { path: shown, docs: more } = as_;
        let head = format!("trait {shown}{}: {}", tokens(&found.generics), tokens(&found.supertraits));
        out.push(thing(head.clone(), &found.attrs, more));
        for item in &found.items {
            match item {
                syn::TraitItem::Fn(method) if !is_hidden(&method.attrs) => {
                    let line = format!("fn {shown}::{}{}", method.sig.ident, signature(&method.sig));
                    out.push(thing(line, &method.attrs, ""));
                    if method.default.is_none() {
                        demand(&head, &method.sig.ident.to_string(), out);
                    }
                }
                syn::TraitItem::Type(one) => {
                    let line = format!("type {shown}::{}: {}", one.ident, tokens(&one.bounds));
                    out.push(Thing { line, documented: false, docs: String::new() });
                    demand(&head, &one.ident.to_string(), out);
                }
                _ => {}
            }
        }
        for one in self.0[of].values().flatten() {
            if let syn::Item::Impl(one) = one
                && one.trait_.as_ref().is_some_and(|(_, path, _)| found.ident == last(path))
            {
                implemented(one, &tokens(&one.self_ty), out);
            }
        }
    }

    /// The names of the public functions in the text of a macro of the crate's own.
    fn made_by(&self, of: &str, name: &str) -> Vec<String> {
        let text = self.0[of].values().flatten().find_map(|item| match item {
            syn::Item::Macro(found) if name_of(item) == name => Some(found.mac.tokens.to_string()),
            _ => None,
        });
        let text = text.unwrap_or_default();
        let functions = ["pub fn ", "pub const fn "].into_iter().flat_map(|head| text.split(head).skip(1));
        functions.filter_map(|rest| rest.split([' ', '(', '<']).next()).map(str::to_owned).collect()
    }

    /// What a type can do: its own functions, and the traits that it has.
    fn impls(&self, of: &str, owner: (&syn::Ident, &[syn::Attribute]), shown: &str, out: &mut Vec<Thing>) {
        let (name, attributes) = (owner.0.to_string(), owner.1);
        for attribute in attributes.iter().filter(|one| one.path().is_ident("derive")) {
            let syn::Meta::List(list) = &attribute.meta else { continue };
            for derived in list.tokens.to_string().split(',') {
                let line = format!("impl {} for {shown}", derived.trim());
                out.push(Thing { line, documented: false, docs: String::new() });
            }
        }
        for item in self.0[of].values().flatten() {
            match item {
                syn::Item::Macro(used) if used.ident.is_none() && used.mac.tokens.to_string().starts_with(&name) => {
                    let text = used.mac.tokens.to_string();
                    if text.split([',', ' ', '<']).next() == Some(name.as_str()) {
                        let by = last(&used.mac.path);
                        let line = format!("impl by {by}! for {shown}");
                        out.push(Thing { line, documented: false, docs: String::new() });
                        for function in self.made_by(of, &by) {
                            let line = format!("fn {shown}::{function} by {by}!");
                            out.push(Thing { line, documented: false, docs: String::new() });
                        }
                    }
                }
                syn::Item::Impl(found) if type_name(&found.self_ty).as_deref() == Some(name.as_str()) => {
                    match &found.trait_ {
                        Some(_) => implemented(found, shown, out),
                        None => functions(found, shown, out),
                    }
                }
                _ => {}
            }
        }
    }
}

#[derive(Clone)]
struct Place<'a> {
    of: &'a str,
    module: Vec<String>,
}

impl Place<'_> {
    fn within(&self, name: &str) -> Self {
        let mut inner = self.clone();
        inner.module.push(name.to_owned());
        inner
    }
}

/// As what something is listed: its path, and what is said of it where it is exported again.
#[derive(Clone, Copy)]
struct Shown<'a> {
    path: &'a str,
    docs: &'a str,
}

enum Target<'a> {
    Module(Place<'a>),
    Item(&'a str, &'a syn::Item),
}

fn file_module(file: &Path, folder: &Path, path: Vec<String>, out: &mut Modules) {
    let text = std::fs::read_to_string(file).unwrap_or_else(|e| panic!("{}: {e}", file.display()));
    module(syn::parse_file(&text).unwrap().items, folder, path, out);
}

fn module(items: Vec<syn::Item>, folder: &Path, path: Vec<String>, out: &mut Modules) {
    for item in &items {
        let syn::Item::Mod(found) = item else { continue };
        if found.attrs.iter().any(|one| one.path().is_ident("cfg")) {
            continue;
        }
        let name = found.ident.to_string();
        let mut inner = path.clone();
        inner.push(name.clone());
        let within = folder.join(&name);
        match &found.content {
            Some((_, items)) => module(items.clone(), &within, inner, out),
            None if within.join("mod.rs").exists() => file_module(&within.join("mod.rs"), &within, inner, out),
            None => file_module(&folder.join(format!("{name}.rs")), &within, inner, out),
        }
    }
    out.insert(path, items);
}

fn functions(found: &syn::ItemImpl, shown: &str, out: &mut Vec<Thing>) {
    for item in &found.items {
        match item {
            syn::ImplItem::Fn(one) if matches!(one.vis, syn::Visibility::Public(_)) && !is_hidden(&one.attrs) => {
                out.push(thing(format!("fn {shown}::{}{}", one.sig.ident, signature(&one.sig)), &one.attrs, ""));
            }
            syn::ImplItem::Const(one) if matches!(one.vis, syn::Visibility::Public(_)) => {
                out.push(thing(format!("const {shown}::{}: {}", one.ident, tokens(&one.ty)), &one.attrs, ""));
            }
            _ => {}
        }
    }
}

fn implemented(found: &syn::ItemImpl, shown: &str, out: &mut Vec<Thing>) {
    let Some((_, path, _)) = &found.trait_ else { return };
    let line = format!("impl{} {} for {shown}", tokens(&found.generics), tokens(path));
    out.push(Thing { line, documented: false, docs: String::new() });
}

fn fields(all: &syn::Fields, shown: &str, head: &str, open: bool, out: &mut Vec<Thing>) {
    let public = |field: &&syn::Field| matches!(field.vis, syn::Visibility::Public(_));
    let made_by_hand = !open && all.iter().all(|field| public(&field));
    for (number, field) in all.iter().enumerate().filter(|(_, field)| public(field)) {
        let name = field.ident.as_ref().map_or_else(|| number.to_string(), ToString::to_string);
        let line = format!("field {shown}.{name}: {}", tokens(&field.ty));
        out.push(Thing { line, documented: false, docs: String::new() });
        if made_by_hand {
            demand(head, &name, out);
        }
    }
    if !made_by_hand && !open {
        // A struct that could be made by hand and no longer can.
        demand(head, "no field that is its own", out);
    }
}

fn demand(head: &str, what: &str, out: &mut Vec<Thing>) {
    out.push(Thing { line: format!("! {head} wants {what}"), documented: false, docs: String::new() });
}

fn thing(line: String, attributes: &[syn::Attribute], more: &str) -> Thing {
    Thing { line, documented: true, docs: format!("{more}\n{}", docs(attributes)) }
}

fn tokens(what: &impl ToTokens) -> String {
    what.to_token_stream().to_string()
}

/// A signature without the names of its parameters, which nobody but their owner uses.
fn signature(of: &syn::Signature) -> String {
    let inputs: Vec<String> = of
        .inputs
        .iter()
        .map(|input| match input {
            syn::FnArg::Receiver(own) => format!("self: {}", tokens(&own.ty)),
            syn::FnArg::Typed(given) => tokens(&given.ty),
        })
        .collect();
    let constant = if of.constness.is_some() { " const" } else { "" };
    let generics = tokens(&of.generics);
    let bounds = of.generics.where_clause.as_ref().map(tokens).unwrap_or_default();
    format!("{generics}({}) {} {bounds}{constant}", inputs.join(", "), tokens(&of.output)).trim_end().to_owned()
}

fn last(path: &syn::Path) -> String {
    path.segments.last().map(|segment| segment.ident.to_string()).unwrap_or_default()
}

fn type_name(of: &syn::Type) -> Option<String> {
    match of {
        syn::Type::Path(path) => Some(last(&path.path)),
        _ => None,
    }
}

fn leaves(tree: &syn::UseTree) -> Vec<(Vec<String>, String)> {
    let within = |name: &syn::Ident, inner: Vec<(Vec<String>, String)>| {
        inner
            .into_iter()
            .map(|(mut path, leaf)| {
                path.insert(0, name.to_string());
                (path, leaf)
            })
            .collect()
    };
    match tree {
        syn::UseTree::Path(path) => within(&path.ident, leaves(&path.tree)),
        syn::UseTree::Name(name) => vec![(vec![name.ident.to_string()], name.ident.to_string())],
        syn::UseTree::Rename(name) => vec![(vec![name.ident.to_string()], name.rename.to_string())],
        syn::UseTree::Group(group) => group.items.iter().flat_map(leaves).collect(),
        syn::UseTree::Glob(_) => Vec::new(),
    }
}

fn attributes(item: &syn::Item) -> &[syn::Attribute] {
    match item {
        syn::Item::Const(one) => &one.attrs,
        syn::Item::Enum(one) => &one.attrs,
        syn::Item::Fn(one) => &one.attrs,
        syn::Item::Mod(one) => &one.attrs,
        syn::Item::Struct(one) => &one.attrs,
        syn::Item::Trait(one) => &one.attrs,
        syn::Item::Type(one) => &one.attrs,
        syn::Item::Use(one) => &one.attrs,
        _ => &[],
    }
}

fn is_public(item: &syn::Item) -> bool {
    let visibility = match item {
        syn::Item::Const(one) => &one.vis,
        syn::Item::Enum(one) => &one.vis,
        syn::Item::Fn(one) => &one.vis,
        syn::Item::Mod(one) => &one.vis,
        syn::Item::Struct(one) => &one.vis,
        syn::Item::Trait(one) => &one.vis,
        syn::Item::Type(one) => &one.vis,
        syn::Item::Use(one) => &one.vis,
        _ => return false,
    };
    matches!(visibility, syn::Visibility::Public(_))
}

fn name_of(item: &syn::Item) -> String {
    match item {
        syn::Item::Const(one) => one.ident.to_string(),
        syn::Item::Enum(one) => one.ident.to_string(),
        syn::Item::Fn(one) => one.sig.ident.to_string(),
        syn::Item::Macro(one) => one.ident.as_ref().map(ToString::to_string).unwrap_or_default(),
        syn::Item::Struct(one) => one.ident.to_string(),
        syn::Item::Trait(one) => one.ident.to_string(),
        syn::Item::Type(one) => one.ident.to_string(),
        _ => String::new(),
    }
}

fn exported(found: &syn::ItemMacro) -> bool {
    found.attrs.iter().any(|one| one.path().is_ident("macro_export")) && !is_hidden(&found.attrs)
}

fn is_open(attributes: &[syn::Attribute]) -> bool {
    attributes.iter().any(|one| one.path().is_ident("non_exhaustive"))
}

fn is_hidden(attributes: &[syn::Attribute]) -> bool {
    let hidden = |one: &syn::Attribute| one.path().is_ident("doc") && tokens(one).contains("hidden");
    attributes.iter().any(|one| hidden(one) && matches!(one.meta, syn::Meta::List(_)))
}

fn docs(attributes: &[syn::Attribute]) -> String {
    let lines = attributes.iter().filter(|one| one.path().is_ident("doc")).filter_map(|one| match &one.meta {
        syn::Meta::NameValue(given) => match &given.value {
            syn::Expr::Lit(syn::ExprLit { lit: syn::Lit::Str(text), .. }) => Some(text.value()),
            _ => None,
        },
        _ => None,
    });
    lines.collect::<Vec<_>>().join("\n")
}
