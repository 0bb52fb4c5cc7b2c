//! What has to be known of a command line before it can be parsed: the tallies that it
//! names declare their options.

use std::ffi::OsString;

use clap::builder::ValueParser;
use clap::{Arg, ArgMatches, CommandFactory};

use super::{Cli, CompileArgs, VERBS, chosen};

/// The flags that a command line has for clang.
pub fn clang_flags(args: &[OsString]) -> Vec<OsString> {
    let Some((_, matches)) = scan(args) else {
        return Vec::new();
    };
    let all = |id| matches.try_get_many::<OsString>(id).ok().flatten();
    let all = |id| all(id).into_iter().flatten().cloned().collect();
    let cflags: Vec<OsString> = all("cflags");
    let given = CompileArgs {
        include: all("include"),
        define: all("define"),
        cflags: cflags.first().map(|it| it.to_string_lossy().into_owned()),
    };
    given.flags()
}

/// The tallies that a command line names. [`parse`] needs their objects, which declare
/// their options.
pub fn tallies_of(args: &[OsString]) -> Vec<OsString> {
    let operands = operands_of(args).unwrap_or_default();
    let words = words_of(operands.into_iter()).into_iter();
    words.map(|mut words| words.swap_remove(0)).collect()
}

/// The words of each tally among these operands.
pub(super) fn words_of(operands: impl Iterator<Item = OsString>) -> Vec<Vec<OsString>> {
    let tallies = operands.filter(|name| !name.as_encoded_bytes().starts_with(b"@"));
    tallies.flat_map(|it| chosen::words(&it)).collect()
}

/// The operands of `run`, `attach` or `top`: tallies, or `@` and an instance. The scan
/// ends at the first option that ktally does not know: the tally's own follow its name.
pub(super) fn operands_of(args: &[OsString]) -> Option<Vec<OsString>> {
    let (verb, matches) = scan(args)?;
    let names = VERBS
        .contains(&&*verb)
        .then(|| matches.get_many("tally"))??;
    Some(names.cloned().collect())
}

/// The subcommand, and its arguments without checks.
fn scan(args: &[OsString]) -> Option<(String, ArgMatches)> {
    let unchecked = |arg: Arg| match arg.get_action().takes_values() {
        true => arg.value_parser(ValueParser::os_string()),
        false => arg,
    };
    let mut command = Cli::command().mut_args(unchecked).ignore_errors(true);
    for verb in VERBS {
        command = command.mut_subcommand(verb, |verb| {
            let verb = verb.disable_help_flag(true).disable_version_flag(true);
            verb.mut_args(unchecked)
        });
    }
    let mut matches = command.try_get_matches_from(args).ok()?;
    matches.remove_subcommand()
}
