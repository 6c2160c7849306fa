//! What was denied to a workload, for people.

use super::show::line;
use crate::out;
use palisade_runtime::model::report::{DenialReport, LayerReport};

/// So many are shown; the report has them all.
const SHOWN: usize = 20;

/// Each denial with who denies it, and what would allow it.
pub(super) fn told(denials: &[DenialReport]) -> String {
    let mut text = String::new();
    match denials.len() {
        0 => line(&mut text, format_args!("palisade: nothing was denied that this policy could explain")),
        1 => line(&mut text, format_args!("palisade: 1 thing was denied")),
        count => line(&mut text, format_args!("palisade: {count} things were denied")),
    }
    // Programs look for many files that they do not miss; what else failed comes first.
    let only_hidden = |denial: &&DenialReport| denial.layers.iter().all(|layer| layer.answer == "ENOENT");
    let (hidden, other): (Vec<_>, Vec<_>) = denials.iter().partition(only_hidden);
    for denial in other.into_iter().chain(hidden).take(SHOWN) {
        line(&mut text, format_args!("  {}", out::name(&headline(denial))));
        for layer in &denial.layers {
            line(&mut text, format_args!("    {}", out::one_line(&words(layer))));
            if !layer.help.is_empty() {
                line(&mut text, format_args!("      allow   {}", out::one_line(&layer.help)));
            }
        }
    }
    if let Some(more) = denials.len().checked_sub(SHOWN).filter(|more| *more > 0) {
        line(&mut text, format_args!("  and {more} more: --report has them all"));
    }
    out::clean(&text)
}

fn headline(denial: &DenialReport) -> String {
    let DenialReport { call, what, wanted, times, .. } = denial;
    let times = if *times > 1 { format!(", {times} times") } else { String::new() };
    let wanted = if wanted.is_empty() { String::new() } else { format!(" to {}", wanted.replace(' ', ", ")) };
    match (call.as_str(), what.as_str()) {
        ("", "") => "the workload's end".to_owned(),
        ("", what) => format!("{what}{wanted}{times}"),
        (call, "") => format!("{call}{times}"),
        (call, what) => format!("{call} {what}{wanted}{times}"),
    }
}

fn words(layer: &LayerReport) -> String {
    let LayerReport { plugin, answer, why, policy_line, seen, .. } = layer;
    let at = policy_line.as_ref().map(|line| format!(" ({line})")).unwrap_or_default();
    // The kernel does not tell of everything that it denies.
    let how = if *seen { "" } else { ", by the policy" };
    format!("{plugin}: {answer}{how}: {why}{at}")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn denial(call: &str, what: &str, times: u64, seen: bool) -> DenialReport {
        let layer = LayerReport {
            plugin: "x".to_owned(),
            answer: "EACCES".to_owned(),
            why: "no rule".to_owned(),
            policy_line: Some("p.ron:3:7".to_owned()),
            help: "\"x\": ()".to_owned(),
            seen,
        };
        let wanted = if what.is_empty() { String::new() } else { "read write".to_owned() };
        DenialReport { call: call.to_owned(), what: what.to_owned(), wanted, times, layers: vec![layer] }
    }

    #[test]
    fn each_is_told_with_its_line_and_a_way_out() {
        let text = told(&[denial("openat", "/a\nb", 3, false), denial("ptrace", "", 1, true)]);
        let lines: Vec<&str> = text.lines().collect();
        assert_eq!(
            lines,
            [
                "palisade: 2 things were denied",
                "  openat /a\u{fffd}b to read, write, 3 times",
                "    x: EACCES, by the policy: no rule (p.ron:3:7)",
                "      allow   \"x\": ()",
                "  ptrace",
                "    x: EACCES: no rule (p.ron:3:7)",
                "      allow   \"x\": ()",
            ]
        );
    }

    #[test]
    fn what_is_only_hidden_comes_last() {
        let mut hidden = denial("openat", "/a", 1, false);
        hidden.layers[0].answer = "ENOENT".to_owned();
        let text = told(&[hidden, denial("openat", "/b", 1, false)]);
        assert!(text.find("/b") < text.find("/a"), "{text}");
    }

    #[test]
    fn many_are_cut_and_none_is_said() {
        let many: Vec<DenialReport> = (0..SHOWN + 2).map(|n| denial("open", &n.to_string(), 1, true)).collect();
        assert!(told(&many).ends_with("  and 2 more: --report has them all\n"));
        assert_eq!(told(&[]).lines().count(), 1);
    }
}
