//! The formats that each command writes: `-o` offers these, and `--output-file`
//! and `--raw` are refused where they mean nothing.

use anyhow::Result;
use clap::builder::{PossibleValue, PossibleValuesParser, TypedValueParser, ValueParser};
use clap::{Arg, ArgAction, ArgMatches, Command};

use super::{Action, Cli, LOOK};
use crate::error::usage;
use crate::render::Format::{self, Csv, Json, Jsonl, Table};

/// By the words of a command.
fn formats(command: &str) -> &'static [Format] {
    match command {
        "list" | "status" | "check" | "diff" | "events" => &Format::ROWS,
        "map list" | "map show" | "map dump" | "map lookup" => &Format::ROWS,
        "map drain" | "map pop" | "map peek" => &Format::ROWS,
        "map delete" | "map next-key" | "map add" => &[Table, Json, Jsonl],
        "map watch" => &[Table, Jsonl, Csv],
        "top" | "new" | "lint" | "build" | "headers" | "export" | "help" => &[],
        _ if command.starts_with("map ") => &[],
        _ => &Format::ALL,
    }
}

/// Whether keys or values are typed or shown, which `--raw` is about.
fn takes_raw(verb: &str) -> bool {
    let verbs = "dump lookup update delete next-key add drain save push pop peek";
    verbs.split(' ').any(|takes| takes == verb)
}

/// The value of `-o` as one of these.
pub(super) fn parser(formats: &[Format]) -> ValueParser {
    let values = formats.iter().map(|format| {
        let (name, help) = format.describe();
        PossibleValue::new(name).help(help)
    });
    let found = |name: String| Format::ALL.into_iter().find(|it| it.name() == name);
    let names = PossibleValuesParser::new(values);
    ValueParser::new(names.try_map(move |name| found(name).ok_or("it is not a format")))
}

/// The subcommands, each with the formats that it takes.
pub(super) fn for_each(words: &str, command: Command) -> Command {
    command.mut_subcommands(|command| {
        let words = format!("{words} {}", command.get_name());
        let words = words.trim_start();
        if command.has_subcommands() {
            return for_each(words, command);
        }
        let formats = formats(words);
        if formats == Format::ALL {
            return command;
        }
        let output = Arg::new("output").short('o').long("output");
        let output = output.value_name("FORMAT").default_value("table");
        let output = output.help("How to write what was read");
        let output = output.help_heading(LOOK);
        let command = match formats {
            // Its output is an object, in no format.
            [] if words == "build" => {
                let object = Arg::new("output_file").short('o').long("output-file");
                let object = object.value_parser(ValueParser::path_buf());
                let object = object.value_name("OBJECT").help("The object to make");
                let none = Arg::new("output").long("output").hide(true);
                let none = none
                    .default_value("table")
                    .value_parser(parser(&Format::ALL));
                command.args([object, none])
            }
            [] => {
                let file = Arg::new("output_file").long("output-file");
                let file = file.value_parser(ValueParser::path_buf()).hide(true);
                let output = output.value_parser(parser(&Format::ALL)).hide(true);
                command.args([output, file])
            }
            formats => command.arg(output.value_parser(parser(formats))),
        };
        match words.strip_prefix("map ") {
            Some(verb) if !takes_raw(verb) => {
                let raw = Arg::new("raw").long("raw");
                command.arg(raw.action(ArgAction::SetTrue).hide(true))
            }
            _ => command,
        }
    })
}

/// What stands before the command is checked as well.
pub(super) fn check(matches: &ArgMatches, cli: &Cli) -> Result<()> {
    let (mut words, mut inner) = (Vec::new(), matches.subcommand());
    while let Some((word, matches)) = inner {
        words.push(word);
        inner = matches.subcommand();
    }
    let command = words.join(" ");
    let (formats, output) = (formats(&command), cli.global.output);
    if output != Table && !formats.contains(&output) {
        let names: Vec<&str> = formats.iter().map(|format| format.name()).collect();
        return Err(usage(match names[..] {
            [] => format!("`{command}` has no output to write with `-o`"),
            _ => format!("`{command}` writes {}", names.join(", ")),
        }));
    }
    if formats.is_empty() && command != "build" && cli.global.output_file.is_some() {
        return Err(usage(format!(
            "`{command}` has no output to write with `--output-file`"
        )));
    }
    match (&cli.action, &words[..]) {
        (Action::Map(args), [_, verb]) if args.raw && !takes_raw(verb) => {
            Err(usage(format!("`{command}` has no use for `--raw`")))
        }
        _ => Ok(()),
    }
}
