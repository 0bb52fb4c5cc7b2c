//! The kinds of failure that callers tell apart; all else is `anyhow`. And how
//! all of it is said.

use std::fmt;
use std::io::{self, Write};

use crate::text::{NEXT_LINE, escape};

/// The caller asked for something that does not exist or makes no sense:
/// nothing was loaded, and the exit code is 2.
#[derive(Debug)]
pub struct Usage(String);

impl fmt::Display for Usage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for Usage {}

/// An error that ends in exit code 2.
pub(crate) fn usage(message: impl Into<String>) -> anyhow::Error {
    Usage(message.into()).into()
}

/// There is no such key or map: exit code 3.
#[derive(Debug)]
pub struct NotFound(String);

impl fmt::Display for NotFound {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for NotFound {}

/// An error that ends in exit code 3.
pub(crate) fn not_found(message: impl Into<String>) -> anyhow::Error {
    NotFound(message.into()).into()
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
    const FEW: usize = 32;
    const NEAREST: usize = 8;
    let known: Vec<&str> = known.into_iter().collect();
    let mut near: Vec<&str> = known.clone();
    // `REG` is near `TYPE_REG`.
    let is_part = |candidate: &str| name.len() > 2 && candidate.contains(name);
    let distance = |candidate: &str| match is_part(candidate) {
        true => 0.0,
        false => 1.0 - strsim::jaro_winkler(name, candidate),
    };
    near.retain(|candidate| distance(candidate) < 0.2);
    near.sort_by(|a, b| distance(a).total_cmp(&distance(b)));
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

fn quoted(names: &[&str], between: &str) -> String {
    names
        .iter()
        .map(|name| format!("`{name}`"))
        .collect::<Vec<_>>()
        .join(between)
}

#[cfg(test)]
mod tests {
    use super::unknown;

    #[test]
    fn nearest_names_first_and_all_when_few() {
        let near = unknown("tally", "syscall", ["syscalls", "runqlat"]);
        assert_eq!(
            near.to_string(),
            "no tally named `syscall`; did you mean `syscalls`?"
        );
        let few = unknown("field", "zzz", ["comm", "call"]);
        assert_eq!(
            few.to_string(),
            "no field named `zzz`; known: `comm`, `call`"
        );
        let many: Vec<String> = (0..100).map(|n| format!("function_{n}")).collect();
        let many = unknown("function", "function_42x", many.iter().map(String::as_str));
        let many = many.to_string();
        assert!(many.contains("did you mean `function_42` or "), "{many}");
        assert_eq!(many.matches("`function_").count(), 1 + 8, "{many}");
        let none = unknown("option", "a", []);
        assert_eq!(none.to_string(), "no option named `a`; there are none");
    }
}
