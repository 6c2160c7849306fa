//! The manual page: one page for the whole tree of verbs.

use crate::help::{self, Page};
use clap_mangen::Man;
use std::io;

/// The page in roff.
///
/// # Errors
/// A part of it could not be made.
pub(crate) fn page(mut tree: clap::Command) -> io::Result<String> {
    // Fills in the usage lines, with the names of all verbs above.
    tree.build();
    let top = Man::new(tree.clone());
    let mut text = String::new();
    text += &part(|to| top.render_title(to))?;
    text += &part(|to| top.render_name_section(to))?;
    text += &part(|to| top.render_synopsis_section(to))?;
    text += &part(|to| top.render_description_section(to))?;
    verbs(&mut text, &tree, &[])?;
    Ok(text)
}

fn part(render: impl FnOnce(&mut dyn io::Write) -> io::Result<()>) -> io::Result<String> {
    let mut bytes = Vec::new();
    render(&mut bytes)?;
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}

fn verbs(text: &mut String, command: &clap::Command, above: &[&str]) -> io::Result<()> {
    for verb in command.get_subcommands().filter(|verb| verb.get_name() != "help") {
        let path: Vec<&str> = above.iter().copied().chain([verb.get_name()]).collect();
        *text += &format!(".SH \"PALISADE {}\"\n", path.join(" ").to_uppercase());
        let man = Man::new(verb.clone());
        let mut body = part(|to| man.render_synopsis_section(to))?;
        body += &part(|to| man.render_description_section(to))?;
        if verb.get_opts().next().is_some() || verb.get_positionals().next().is_some() {
            body += &part(|to| man.render_options_section(to))?;
        }
        // Below a verb's own heading these are sections of the second level.
        *text += &body.replace("\n.SH ", "\n.SS ").replace("'\n.SH ", "'\n.SS ");
        if let Some(page) = help::page(&path) {
            below(text, page);
        }
        verbs(text, verb, &path)?;
    }
    Ok(())
}

/// What `--help` says below the options.
fn below(text: &mut String, page: &Page) {
    *text += ".SS EXAMPLES\n";
    for (line, what) in page.examples {
        *text += &format!(".PP\n.nf\n{}\n.fi\n", literal(line));
        if !what.is_empty() {
            *text += &format!(".RS 4\n{}\n.RE\n", literal(what));
        }
    }
    *text += ".SS \"EXIT CODES\"\n";
    for (code, meaning) in page.codes() {
        *text += &format!(".TP 8\n{code}\n{}\n", literal(&meaning));
    }
    if !page.files.is_empty() {
        *text += ".SS FILES\n";
        for (path, what) in page.files {
            *text += &format!(".TP\n\\fI{}\\fR\n{}\n", literal(path), literal(what));
        }
    }
}

/// Text in which roff finds nothing to obey.
fn literal(text: &str) -> String {
    let text = text.replace('\\', "\\e").replace('-', "\\-").replace('~', "\\(ti").replace('`', "\\(ga");
    if text.starts_with(['.', '\'']) { format!("\\&{text}") } else { text }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn roff_obeys_no_text() {
        assert_eq!(literal(".x -y \\z"), "\\&.x \\-y \\ez");
    }

    #[test]
    fn every_verb_is_in_the_page() {
        let page = page(crate::args::tree()).unwrap();
        for verb in help::PAGES {
            let heading = format!(".SH \"PALISADE {}\"", verb.path.join(" ").to_uppercase());
            assert!(page.contains(&heading), "{heading}");
        }
        assert_eq!(page.matches("\n.SH ").count(), help::PAGES.len() + 3);
    }
}
