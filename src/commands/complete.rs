//! Completion in a shell: what can follow on the line that is being typed.

use std::env;
use std::ffi::{OsStr, OsString};

use anyhow::Result;
use clap::{Arg, Command};
use clap_complete::CompleteEnv;
use clap_complete::engine::{
    ArgValueCandidates, ArgValueCompleter, CompletionCandidate, PathCompleter, ValueCompleter,
};

use crate::cli;
use crate::map;
use crate::schema::Schema;
use crate::tally::{Instance, InstanceName, Instances, Tally};

/// Answers a shell that asks how a line can go on; `false` if no shell asks. `COMPLETE`
/// names the shell, and the line is after `--`. Without a line, the answer is the code
/// that a shell needs to ask.
pub fn complete(args: &[OsString]) -> Result<bool> {
    let line = || args.iter().skip_while(|word| *word != "--").skip(1);
    let command = || command(&line().cloned().collect::<Vec<_>>());
    let folder = env::current_dir().ok();
    let shell = CompleteEnv::with_factory(command).completer("ktally");
    Ok(shell.try_complete(args, folder.as_deref())?)
}

/// The command line with all that can be known of the values of its arguments.
fn command(line: &[OsString]) -> Command {
    let tallies = cli::tallies_of(line);
    // A file is not compiled to complete a line.
    let tallies = tallies.iter().filter_map(|name| Tally::builtin(name).ok());
    let tallies: Vec<Tally> = tallies.collect();
    let is_named = |name: &InstanceName| line.iter().any(|word| word == name.as_str());
    let mut instances = Instances::glance().unwrap_or_default();
    instances.retain(is_named);
    let instances = instances.iter().filter_map(|it| Instance::open(it).ok());
    let mut fields = Fields::default();
    tallies.iter().for_each(|it| fields.add(&it.schema));
    instances.for_each(|it| fields.add(&it.schema));
    let command = cli::command(&tallies).or_else(|_| cli::command(&[]));
    let command = with_values(command.unwrap_or_default(), &fields);
    let commands: Vec<Command> = command.get_subcommands().map(bare).collect();
    command.mut_subcommand("help", |help| help.subcommands(commands))
}

/// A command as `help` takes it: the words of its subcommands alone.
fn bare(command: &Command) -> Command {
    let about = command.get_about().cloned().unwrap_or_default();
    let bare = Command::new(command.get_name().to_owned()).about(about);
    let bare = bare.hide(command.is_hide_set());
    bare.subcommands(command.get_subcommands().map(self::bare))
}

/// The fields of the tables that a line is about.
#[derive(Default)]
struct Fields {
    labels: Vec<String>,
    columns: Vec<String>,
}

impl Fields {
    fn add(&mut self, schema: &Schema) {
        for table in &schema.tables {
            let labels = table.labels.iter().map(|label| label.name.clone());
            self.labels.extend(labels);
            self.columns.extend(table.columns().map(str::to_owned));
        }
    }
}

fn with_values(command: Command, fields: &Fields) -> Command {
    let verb = command.get_name().to_owned();
    let command = command.mut_args(|arg| with_value(arg, &verb, fields));
    command.mut_subcommands(|command| with_values(command, fields))
}

fn with_value(arg: Arg, verb: &str, fields: &Fields) -> Arg {
    let words = |words: Vec<String>| {
        ArgValueCandidates::new(move || words.iter().map(CompletionCandidate::new).collect())
    };
    match (verb, arg.get_id().as_str()) {
        ("read" | "rotate" | "detach", "tally" | "instance" | "instances") => {
            arg.add(ArgValueCandidates::new(|| instances("")))
        }
        ("help", "topic") => arg.add(ArgValueCandidates::new(topics)),
        (_, "tally") => arg.add(ArgValueCompleter::new(tallies)),
        (_, "map" | "maps") => arg.add(ArgValueCompleter::new(maps)),
        (_, "by") => arg.add(words(fields.labels.clone())),
        (_, "sort") => arg.add(words(fields.columns.clone())),
        (_, "filters" | "until" | "alert") => {
            let conditions = fields.columns.iter().map(|it| format!("{it}="));
            arg.add(words(conditions.collect()))
        }
        // The value of an option that is one of several words.
        _ => match arg.get_value_names() {
            Some([name]) if name.contains('|') => {
                let values = name.split('|').map(str::to_owned).collect();
                arg.add(words(values))
            }
            _ => arg,
        },
    }
}

/// Tallies, `@` and an instance, or a file; after a comma another.
fn tallies(typed: &OsStr) -> Vec<CompletionCandidate> {
    let Some(text) = typed.to_str() else {
        return PathCompleter::file().complete(typed);
    };
    if text.starts_with('@') {
        return instances("@");
    }
    let before = text.rfind(',').map_or("", |comma| &text[..=comma]);
    let tallies = Tally::builtins().unwrap_or_default();
    let tallies = tallies.iter().map(|tally| {
        let name = format!("{before}{}", tally.name);
        CompletionCandidate::new(name).help(Some(tally.summary().to_owned().into()))
    });
    with_files(typed, tallies)
}

/// Names of maps, or a pin.
fn maps(typed: &OsStr) -> Vec<CompletionCandidate> {
    let names = map::names().unwrap_or_default();
    with_files(typed, names.into_iter().map(|(_, name)| name.into()))
}

fn with_files(
    typed: &OsStr,
    words: impl Iterator<Item = CompletionCandidate>,
) -> Vec<CompletionCandidate> {
    let begins = |word: &CompletionCandidate| {
        let word = word.get_value().as_encoded_bytes();
        word.starts_with(typed.as_encoded_bytes())
    };
    let words: Vec<_> = words.filter(begins).collect();
    match words.is_empty() {
        true => PathCompleter::any().complete(typed),
        false => words,
    }
}

fn topics() -> Vec<CompletionCandidate> {
    let topic = |(name, help): (&'static str, &'static str)| {
        CompletionCandidate::new(name).help(Some(help.into()))
    };
    cli::topics().map(topic).collect()
}

fn instances(prefix: &str) -> Vec<CompletionCandidate> {
    let names = Instances::glance().unwrap_or_default().into_iter();
    let names = names.map(|name| format!("{prefix}{name}"));
    names.map(CompletionCandidate::new).collect()
}
