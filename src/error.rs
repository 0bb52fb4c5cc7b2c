//! The kinds of failure that callers tell apart; all else is `anyhow`. And how
//! all of it is said.

use std::fmt;
use std::io::{self, Write};

use crate::text::{NEXT_LINE, escape};

/// A message that ends in this exit code.
#[derive(Debug)]
pub struct Failure<const EXIT: u8>(String);

/// The caller asked for something that does not exist or makes no sense: nothing
/// was loaded.
pub type Usage = Failure<2>;

/// There is no such key, map or instance.
pub type NotFound = Failure<3>;

impl<const EXIT: u8> fmt::Display for Failure<EXIT> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl<const EXIT: u8> std::error::Error for Failure<EXIT> {}

pub(crate) fn usage(message: impl Into<String>) -> anyhow::Error {
    Failure::<2>(message.into()).into()
}

pub(crate) fn not_found(message: impl Into<String>) -> anyhow::Error {
    Failure::<3>(message.into()).into()
}

/// Prints a message to stderr, escaped, as names in it may come from anyone; its
/// further lines begin with [`NEXT_LINE`]. Write errors are ignored.
pub fn say(message: &str) {
    let lines = message.split(NEXT_LINE).map(escape);
    let lines = lines.collect::<Vec<_>>().join(NEXT_LINE);
    let _ = writeln!(io::stderr(), "{lines}");
}

/// "no WHAT named `NAME`", with the nearest names, or all when few are known.
pub(crate) fn unknown<'a>(
    what: &str,
    name: &str,
    known: impl IntoIterator<Item = &'a str>,
) -> anyhow::Error {
    usage(unknown_text(what, name, known))
}

/// The same as text.
pub(crate) fn unknown_text<'a>(
    what: &str,
    name: &str,
    known: impl IntoIterator<Item = &'a str>,
) -> String {
    const FEW: usize = 40;
    const NEAREST: usize = 8;
    let known: Vec<&str> = known.into_iter().collect();
    let mut near = nearest(name, known.clone());
    near.truncate(NEAREST);
    let hint = if !near.is_empty() {
        format!("did you mean {}?", quoted(&near, " or "))
    } else if known.is_empty() {
        "there are none".to_owned()
    } else if known.len() <= FEW {
        format!("known: {}", quoted(&known, ", "))
    } else {
        format!("{} are known", known.len())
    };
    format!("no {what} named `{name}`; {hint}")
}

/// Those of these names that are like one, the nearest first.
fn nearest<'a>(name: &str, mut known: Vec<&'a str>) -> Vec<&'a str> {
    // `REG` is near `TYPE_REG`.
    let is_part = |candidate: &str| name.len() > 2 && candidate.contains(name);
    let distance = |candidate: &str| {
        if is_part(candidate) {
            return 0.0;
        }
        1.0 - strsim::jaro_winkler(name, candidate)
    };
    known.retain(|candidate| distance(candidate) < 0.2);
    known.sort_by(|a, b| distance(a).total_cmp(&distance(b)));
    known
}

/// "; did you mean `NAME`?" with the three nearest names, or nothing.
pub(crate) fn did_you_mean<'a>(name: &str, known: impl IntoIterator<Item = &'a str>) -> String {
    let mut near = nearest(name, known.into_iter().collect());
    near.truncate(3);
    match near[..] {
        [] => String::new(),
        _ => format!("; did you mean {}?", quoted(&near, " or ")),
    }
}

fn quoted(names: &[&str], between: &str) -> String {
    let names = names.iter().map(|name| format!("`{name}`"));
    names.collect::<Vec<_>>().join(between)
}

#[cfg(test)]
mod tests {
    use super::unknown_text;

    #[test]
    fn nearest_names_first_and_all_when_few() {
        let many: Vec<String> = (0..100).map(|n| format!("function_{n}")).collect();
        let many: Vec<&str> = many.iter().map(String::as_str).collect();
        for (what, name, known, hint) in [
            (
                "tally",
                "syscall",
                &["syscalls", "runqlat"][..],
                "did you mean `syscalls`?",
            ),
            ("field", "zzz", &["comm", "call"], "known: `comm`, `call`"),
            ("option", "a", &[], "there are none"),
            ("function", "main", &many, "100 are known"),
        ] {
            let text = unknown_text(what, name, known.iter().copied());
            assert_eq!(text, format!("no {what} named `{name}`; {hint}"));
        }
        let near = unknown_text("function", "function_42x", many);
        assert!(near.contains("did you mean `function_42` or "), "{near}");
        assert_eq!(near.matches("`function_").count(), 1 + 8, "{near}");
    }
}
