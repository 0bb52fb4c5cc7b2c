//! Mistakes on the command line, hints that clap does not give, and how errors are
//! reported.

use std::ffi::OsString;
use std::io;

use anyhow::Result;
use clap::error::{ContextKind, ContextValue, ErrorKind};
use clap::{Arg, ArgMatches, Command};

use super::{Exit, VERBS, operand_of};
use crate::error::{NotFound, Usage, say, usage};
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

/// A bool's value is easily taken for an operand: `--by-comm true`. And an unknown
/// option is rarely meant as a value, which clap thinks.
fn hint(error: &clap::Error, command: &Command, args: &[OsString]) -> Option<String> {
    let culprit = match error.get(ContextKind::InvalidArg) {
        Some(ContextValue::String(text)) if error.kind() == ErrorKind::UnknownArgument => text,
        _ => return None,
    };
    if !culprit.starts_with('-') {
        let at = args.iter().rposition(|arg| arg.to_str() == Some(culprit))?;
        let before = args.get(at.checked_sub(1)?)?.to_str()?;
        return (matches!(culprit.as_str(), "true" | "false") && before.starts_with("--"))
            .then(|| format!("`{before} {culprit}` is written `{before}={culprit}`"));
    }
    let (mut verb, mut path) = (command, "ktally".to_owned());
    for word in args.iter().skip(1).take_while(|word| *word != "--") {
        if let Some(found) = verb.find_subcommand(word) {
            (verb, path) = (found, format!("{path} {}", found.get_name()));
        }
    }
    match operand_of(args) {
        Some(tally) => path = format!("{path} {}", tally.to_string_lossy()),
        None if VERBS.contains(&verb.get_name()) => {
            return Some(format!(
                "`{culprit}` is not an option of `{path}`; a tally's own options come after its name: `{path} NAME {culprit} ...`"
            ));
        }
        None => {}
    }
    let near = match near(error, culprit, verb)[..] {
        [] => String::new(),
        ref near => format!("; did you mean `{}`?", near.join("` or `")),
    };
    Some(format!(
        "there is no option `{culprit}` here{near}; see `{path} --help`"
    ))
}

/// What clap suggests, or the options that begin so: `-max` is `--max-rows`.
fn near(error: &clap::Error, culprit: &str, verb: &Command) -> Vec<String> {
    if let Some(ContextValue::String(near)) = error.get(ContextKind::SuggestedArg) {
        return vec![near.clone()];
    }
    let longs = verb.get_arguments().filter_map(Arg::get_long);
    let longs = longs.filter(|long| long.starts_with(culprit.trim_start_matches('-')));
    longs.map(|long| format!("--{long}")).collect()
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
