//! What has to be known of a command line before it can be parsed: the tallies that it
//! names declare their options.

use std::ffi::OsString;

use clap::builder::ValueParser;
use clap::{Arg, ArgMatches, CommandFactory};

use super::{Cli, CompileArgs, VERBS, chosen};

/// What is known of a command line before it is parsed.
#[derive(Debug, Default)]
pub(crate) struct Scan {
    /// Of `run`, `attach`, `top` or `export`: tallies, or `@` and an instance. `None`
    /// where there are none.
    pub(super) operands: Option<Vec<OsString>>,
    /// The flags for clang.
    pub(super) clang_flags: Vec<OsString>,
}

impl Scan {
    /// Ends at the first option that ktally does not know: the tally's own follow its
    /// name.
    pub(crate) fn of(args: &[OsString]) -> Self {
        Self::try_of(args).unwrap_or_default()
    }

    fn try_of(args: &[OsString]) -> Option<Self> {
        // To build a command line takes longer than most of what the others do.
        let mut words = args.iter();
        words.find(|word| VERBS.iter().any(|verb| word == verb))?;
        let (verb, matches) = matches(args)?;
        if !VERBS.contains(&&*verb) {
            return None;
        }
        let all = |id| matches.get_many::<OsString>(id).into_iter().flatten();
        let all = |id| all(id).cloned().collect();
        let cflags: Vec<OsString> = all("cflags");
        let compile = CompileArgs {
            include: all("include"),
            define: all("define"),
            cflags: cflags.first().map(|it| it.to_string_lossy().into_owned()),
        };
        Some(Self {
            operands: matches.get_many("tally").map(|all| all.cloned().collect()),
            clang_flags: compile.flags(),
        })
    }

    /// The tallies that are named.
    pub(crate) fn tallies(&self) -> Vec<OsString> {
        let operands = self.operands.iter().flatten().cloned();
        let words = words_of(operands).into_iter();
        words.map(|mut words| words.swap_remove(0)).collect()
    }
}

/// The words of each tally among these operands.
pub(super) fn words_of(operands: impl Iterator<Item = OsString>) -> Vec<Vec<OsString>> {
    let tallies = operands.filter(|name| !name.as_encoded_bytes().starts_with(b"@"));
    tallies.flat_map(|it| chosen::words(&it)).collect()
}

/// The subcommand, and its arguments without checks.
fn matches(args: &[OsString]) -> Option<(String, ArgMatches)> {
    let unchecked = |arg: Arg| match arg.get_action().takes_values() {
        true => arg.value_parser(ValueParser::os_string()),
        false => arg,
    };
    let mut command = <Cli>::command().mut_args(unchecked).ignore_errors(true);
    for verb in VERBS {
        command = command.mut_subcommand(verb, |verb| {
            let verb = verb.disable_help_flag(true).disable_version_flag(true);
            verb.mut_args(unchecked)
        });
    }
    let mut matches = command.try_get_matches_from(args).ok()?;
    matches.remove_subcommand()
}
