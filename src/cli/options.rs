//! A tally's own options as flags of the command line: what they are called,
//! what they take, and what their help says.

use clap::builder::ValueParser;
use clap::{Arg, ArgAction, ArgMatches, Command, CommandFactory};

use super::{Cli, VERBS};
use crate::names::HostNames;
use crate::schema::{Kind, OptionSpec, Unit};
use crate::tally::{RawOption, Tally};

/// A tally's options have their heading of their own.
const OWN: &str = "option:";

/// Why a tally's options cannot be had beside those of ktally.
pub fn clash(tally: &Tally) -> Option<String> {
    let command = <Cli>::command();
    let mut args: Vec<&Arg> = command.get_arguments().collect();
    let verbs = VERBS
        .iter()
        .filter_map(|verb| command.find_subcommand(verb));
    args.extend(verbs.flat_map(Command::get_arguments));
    let longs = args.iter().filter_map(|arg| arg.get_long());
    let longs: Vec<&str> = longs.chain(["help", "version"]).collect();
    let shorts = args.iter().filter_map(|arg| arg.get_short());
    let mut shorts: Vec<char> = shorts.chain(['h', 'V']).collect();
    for option in tally.schema.options.iter().filter(|it| !it.is_found) {
        let OptionSpec { name, short, .. } = option;
        if longs.contains(&&*option.flag()) {
            return Some(format!(
                "tally `{}` has an option `{name}`, which ktally has itself; rename it in its C file",
                tally.name
            ));
        }
        if short.is_some_and(|short| shorts.contains(&short)) {
            return Some(format!(
                "tally `{}` has an option `{name}` whose letter is taken; choose another in its SHORT()",
                tally.name
            ));
        }
        shorts.extend(short);
    }
    None
}

pub(super) fn own_option(option: &OptionSpec, tally: &Tally) -> Arg {
    let arg = Arg::new(format!("{OWN}{}", option.name))
        .long(option.flag())
        .short(option.short)
        .help(describe(option, tally))
        .action(ArgAction::Set)
        .allow_negative_numbers(true)
        .value_parser(ValueParser::string())
        .value_name(value_name(option));
    match option.place.ty.kind {
        Kind::Bool => arg
            .num_args(0..=1)
            .require_equals(true)
            .default_missing_value("true"),
        // `-1ms` is refused for what it is, not as a flag that is not known.
        _ if option.unit.is_some() => arg.allow_hyphen_values(true),
        _ => arg,
    }
}

/// The help of an option, and its default where it has one.
pub fn describe(option: &OptionSpec, tally: &Tally) -> String {
    match default(option, tally) {
        Some(default) => format!("{} [default: {default}]", option.help),
        None => option.help.clone(),
    }
}

/// What an option is until it is given, in words; `None` for one that does
/// nothing until then: it is 0, false or empty.
pub fn default(option: &OptionSpec, tally: &Tally) -> Option<String> {
    let bytes = option.place.bytes(&tally.rodata)?;
    let is_off = option.given.is_some() || bytes.iter().all(|byte| *byte == 0);
    (!is_off).then(|| HostNames::new().option(option, &tally.rodata).to_string())
}

/// What an option takes: its unit, its decoder, or what its C type stands for.
pub fn value_name(option: &OptionSpec) -> String {
    match (&option.unit, &option.decoder, &option.place.ty.kind) {
        (Some(Unit::Time(_)), _, _) => "TIME".to_owned(),
        (Some(Unit::Bytes), _, _) => "SIZE".to_owned(),
        (Some(unit), _, _) => unit.name().to_uppercase(),
        (None, Some(decoder), _) => decoder.name().to_uppercase(),
        (None, None, Kind::Bool) => "true|false".to_owned(),
        (None, None, Kind::Enum { variants, .. }) => {
            let names: Vec<&str> = variants.iter().map(|it| it.name.as_str()).collect();
            names.join("|")
        }
        (None, None, _) if option.place.ty.is_text() => "TEXT".to_owned(),
        (None, None, _) => "N".to_owned(),
    }
}

pub(super) fn given(matches: &ArgMatches, tally: &Tally) -> Vec<RawOption> {
    let value = |option: &OptionSpec| {
        matches
            .get_one::<String>(&format!("{OWN}{}", option.name))
            .cloned()
    };
    tally
        .schema
        .options
        .iter()
        .filter(|option| !option.is_found)
        .filter_map(|option| Some((option.name.clone(), value(option)?)))
        .collect()
}
