//! Mistakes on the command line, hints that clap does not give, and how errors are
//! reported.

use std::ffi::{OsStr, OsString};
use std::io;

use anyhow::Result;
use clap::error::{ContextKind, ContextValue, ErrorKind};
use clap::{Arg, ArgMatches, Command};

use super::scan::Scan;
use super::{Exit, VERBS};
use crate::error::{NotFound, Usage, say, usage};
use crate::tally::Tally;
use crate::text::escape;

/// clap says that an argument is not UTF-8, but not which.
pub(super) fn matches(mut command: Command, args: &[OsString]) -> Result<ArgMatches> {
    command.try_get_matches_from_mut(args).map_err(|error| {
        if let Some(hint) = hint(&error, &command, args) {
            return usage(hint);
        }
        let culprit = args.iter().find(|arg| arg.to_str().is_none());
        match (error.kind(), culprit) {
            (ErrorKind::InvalidUtf8, Some(arg)) => {
                usage(format!("`{}` is not valid UTF-8", arg.to_string_lossy()))
            }
            _ => error.into(),
        }
    })
}

/// What other tools call it, and what it is here.
const WORDS: [(&str, &str); 12] = [
    ("--duration", "--for"),
    ("--time", "--for"),
    ("--timeout", "--for"),
    ("--interval", "--every"),
    ("--limit", "--top"),
    ("--count", "--top"),
    ("--filter", "--where"),
    ("--group-by", "--by"),
    ("--sort-by", "--sort"),
    ("--json", "-o json"),
    ("--csv", "-o csv"),
    ("--format", "-o"),
];

fn hint(error: &clap::Error, command: &Command, args: &[OsString]) -> Option<String> {
    let culprit = |kind| match error.get(kind) {
        Some(ContextValue::String(text)) => Some(text.as_str()),
        _ => None,
    };
    match error.kind() {
        ErrorKind::InvalidSubcommand => no_verb(culprit(ContextKind::InvalidSubcommand)?),
        ErrorKind::UnknownArgument => match culprit(ContextKind::InvalidArg)? {
            option if option.starts_with('-') => Some(no_option(error, option, command, args)),
            operand => no_operand(operand, command, args),
        },
        _ => None,
    }
}

/// A tally is not a subcommand.
fn no_verb(word: &str) -> Option<String> {
    let is_file = word.ends_with(".bpf.c") || word.ends_with(".bpf.o");
    let is_tally = || Tally::builtins().is_ok_and(|all| all.iter().any(|it| it.name == word));
    if is_file || is_tally() {
        return Some(format!(
            "`{word}` is a tally, not a command; write `ktally run {word}`"
        ));
    }
    Tally::like(word).ok().flatten()
}

/// A bool's value is easily taken for an operand: `--by-comm true`. Other tools take
/// an interval and a count there, or a command.
fn no_operand(culprit: &str, command: &Command, args: &[OsString]) -> Option<String> {
    let at = args.iter().rposition(|arg| arg.to_str() == Some(culprit))?;
    let before = args.get(at.checked_sub(1)?)?.to_str()?;
    if matches!(culprit, "true" | "false") && before.starts_with("--") {
        return Some(format!(
            "`{before} {culprit}` is written `{before}={culprit}`"
        ));
    }
    let (_, path) = verb(command, args);
    let tallies = Scan::of(args).operands.filter(|_| path == "ktally run")?;
    let path = format!("{path} {}", tallies.first()?.to_string_lossy());
    let is_number = culprit.starts_with(|c: char| c.is_ascii_digit());
    Some(match is_number {
        true => format!(
            "`{culprit}` is not an argument here; write a time as `{path} --for {culprit}`, an interval as `--every {culprit}`"
        ),
        false => {
            format!("`{culprit}` is not an argument here; write a command as `{path} -- {culprit}`")
        }
    })
}

/// An unknown option is rarely meant as a value, which clap thinks.
fn no_option(error: &clap::Error, culprit: &str, command: &Command, args: &[OsString]) -> String {
    let (verb, mut path) = verb(command, args);
    match Scan::of(args).operands {
        Some(tallies) => path = format!("{path} {}", tallies.join(OsStr::new(" ")).display()),
        None if VERBS.contains(&verb.get_name()) && word_here(culprit, verb).is_none() => {
            return format!(
                "`{culprit}` is not an option of `{path}`; a tally's own options come after its name: `{path} NAME {culprit} ...`"
            );
        }
        None => {}
    }
    let near = match near(error, culprit, verb)[..] {
        [] => String::new(),
        ref near => format!("; did you mean `{}`?", near.join("` or `")),
    };
    format!("there is no option `{culprit}` here{near}; see `{path} --help`")
}

/// The subcommand that was typed, and how.
fn verb<'c>(command: &'c Command, args: &[OsString]) -> (&'c Command, String) {
    let (mut verb, mut path) = (command, "ktally".to_owned());
    for word in args.iter().skip(1).take_while(|word| *word != "--") {
        if let Some(found) = verb.find_subcommand(word) {
            (verb, path) = (found, format!("{path} {}", found.get_name()));
        }
    }
    (verb, path)
}

fn word_here(culprit: &str, verb: &Command) -> Option<&'static str> {
    let (_, here) = WORDS.iter().find(|(word, _)| *word == culprit)?;
    let name = here.split(' ').next()?.trim_start_matches('-');
    let is_it = |arg: &Arg| {
        let short = arg.get_short().map(String::from);
        !arg.is_hide_set() && (arg.get_long() == Some(name) || short.as_deref() == Some(name))
    };
    verb.get_arguments().any(is_it).then_some(*here)
}

/// The word for it here, what clap suggests, or the options that begin so: `-max` is
/// `--max-rows`.
fn near(error: &clap::Error, culprit: &str, verb: &Command) -> Vec<String> {
    if let Some(here) = word_here(culprit, verb) {
        return vec![here.to_owned()];
    }
    if let Some(ContextValue::String(near)) = error.get(ContextKind::SuggestedArg) {
        return vec![near.clone()];
    }
    let longs = verb.get_arguments().filter_map(Arg::get_long);
    let longs = longs.filter(|long| long.starts_with(culprit.trim_start_matches('-')));
    longs.map(|long| format!("--{long}")).collect()
}

/// What clap has to say, without its hints.
pub(super) fn first_line(error: &clap::Error) -> String {
    let text = error.to_string();
    let line = text.lines().next().unwrap_or_default();
    line.trim_start_matches("error: ").to_owned()
}

/// Whether clap "failed" only to print help or the version.
pub fn is_help(error: &clap::Error) -> bool {
    matches!(
        error.kind(),
        ErrorKind::DisplayHelp | ErrorKind::DisplayVersion
    )
}

/// Prints an error to stderr on one line, with `-v` as a chain. After a broken pipe
/// the reader has seen enough.
pub fn report(error: anyhow::Error, args: &[OsString]) -> Exit {
    let error = match error.downcast() {
        Ok(error) => {
            print(error);
            return Exit::Usage;
        }
        Err(error) => error,
    };
    let mut causes = error
        .chain()
        .filter_map(<dyn std::error::Error>::downcast_ref);
    if causes.any(|cause: &io::Error| cause.kind() == io::ErrorKind::BrokenPipe) {
        return Exit::Done;
    }
    // The command line may not have parsed.
    if args.iter().any(|arg| arg == "-v" || arg == "--verbose") {
        let causes: Vec<String> = error.chain().map(ToString::to_string).collect();
        say(&format!("ktally: {}", causes.join("\n    caused by: ")));
    } else {
        say(&format!("ktally: {error:#}"));
    }
    match error {
        _ if error.is::<Usage>() => Exit::Usage,
        _ if error.is::<NotFound>() => Exit::NotFound,
        _ => Exit::Failed,
    }
}

/// Prints an error of clap, and escapes what was typed.
fn print(mut error: clap::Error) {
    let typed = error.context().filter_map(|(kind, value)| match value {
        ContextValue::String(text) => Some((kind, ContextValue::String(escape(text)))),
        _ => None,
    });
    for (kind, text) in typed.collect::<Vec<_>>() {
        error.insert(kind, text);
    }
    // Write errors are ignored, as with all that goes to stderr.
    let _ = error.print();
}
