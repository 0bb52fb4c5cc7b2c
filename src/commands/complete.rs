//! Completion in a shell: what can follow on the line that is being typed.

use std::env;
use std::ffi::{OsStr, OsString};
use std::io::{self, Write};
use std::path::Path;

use anyhow::Result;
use clap::{Arg, Command};
use clap_complete::CompleteEnv;
use clap_complete::engine::{
    ArgValueCandidates, ArgValueCompleter, CompletionCandidate, PathCompleter, ValueCompleter,
};
use clap_complete::env::{self as shells, EnvCompleter, Shells};

use crate::cli;
use crate::map::{self, Access, MapRef};
use crate::names::HostNames;
use crate::query::{known_events, offers};
use crate::schema::{Decoder, KernelBtf, Kind, Label, MapBtf, Schema, Table};
use crate::tally::{Instance, InstanceName, Instances, Tally, with_world};

/// Answers a shell that asks how a line can go on; `false` if no shell asks. `COMPLETE`
/// names the shell, and the line is after `--`. Without a line, the answer is the code
/// that a shell needs to ask.
pub fn complete(args: &[OsString]) -> Result<bool> {
    let line = || args.iter().skip_while(|word| *word != "--").skip(1);
    let command = || command(&line().cloned().collect::<Vec<_>>());
    let folder = env::current_dir().ok();
    let shell = CompleteEnv::with_factory(command).completer("ktally");
    let shell = shell.shells(Shells(&[&Bash, &shells::Zsh, &shells::Fish]));
    Ok(shell.try_complete(args, folder.as_deref())?)
}

/// As clap asks it, but bash ends a word at `=` and `:`, and ktally does not.
struct Bash;

impl EnvCompleter for Bash {
    fn name(&self) -> &'static str {
        shells::Bash.name()
    }

    fn is(&self, name: &str) -> bool {
        shells::Bash.is(name)
    }

    fn write_registration(
        &self,
        var: &str,
        name: &str,
        bin: &str,
        completer: &str,
        buf: &mut dyn Write,
    ) -> io::Result<()> {
        shells::Bash.write_registration(var, name, bin, completer, buf)?;
        buf.write_all(include_bytes!("complete.bash"))
    }

    fn write_complete(
        &self,
        command: &mut Command,
        args: Vec<OsString>,
        folder: Option<&Path>,
        buf: &mut dyn Write,
    ) -> io::Result<()> {
        shells::Bash.write_complete(command, args, folder, buf)
    }
}

/// The command line with all that can be known of the values of its arguments.
fn command(line: &[OsString]) -> Command {
    let tallies = cli::Scan::of(line).tallies();
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
    fields.add_map(line);
    fields.add_event(line);
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

/// The fields of the tables that a line is about, and the options of its tallies.
#[derive(Default, Clone)]
struct Fields {
    labels: Vec<Label>,
    by: Vec<String>,
    columns: Vec<String>,
    options: Vec<(String, Decoder)>,
}

impl Fields {
    fn add(&mut self, schema: &Schema) {
        schema.tables.iter().for_each(|table| self.add_table(table));
        let options = schema.options.iter();
        let options = options.filter_map(|it| Some((it.flag(), it.decoder.clone()?)));
        self.options.extend(options);
    }

    fn add_table(&mut self, table: &Table) {
        self.labels.extend(table.labels.iter().cloned());
        self.by
            .extend(table.labels.iter().map(|label| label.name.clone()));
        self.columns.extend(table.columns().map(str::to_owned));
    }

    /// The map of `map VERB MAP`, if it can be opened.
    fn add_map(&mut self, line: &[OsString]) -> Option<()> {
        let [_, verb, _, map, _, ..] = line else {
            return None;
        };
        let map = (verb == "map").then_some(map)?.to_str()?;
        let found = MapRef::parse(map)
            .ok()?
            .open(Access::Read, &MapBtf::default());
        self.add_table(&found.ok()?.1.table);
        Some(())
    }

    /// Of the value of an option.
    fn decoder_of(&self, arg: &Arg) -> Option<&Decoder> {
        let is_it = |(flag, _): &&(String, Decoder)| arg.get_long() == Some(flag);
        self.options.iter().find(is_it).map(|(_, decoder)| decoder)
    }

    /// What the event of `count EVENT` carries.
    fn add_event(&mut self, line: &[OsString]) -> Option<()> {
        let [_, verb, event, _, ..] = line else {
            return None;
        };
        let event = (verb == "count").then_some(event)?.to_str()?;
        let offers = with_world(&[event], |world| offers(event, false, world)).ok()?;
        self.by.extend(offers.into_iter().map(|it| it.expression));
        self.columns.clone_from(&self.by);
        Some(())
    }

    /// `call=`, and behind it what such a label can be.
    fn conditions(&self, typed: &str) -> Vec<String> {
        let signs = ['=', '!', '~', '<', '>'];
        let Some(at) = typed.find(signs) else {
            return self.columns.iter().map(|it| format!("{it}=")).collect();
        };
        let (field, rest) = typed.split_at(at);
        let is_it = |label: &&Label| label.name == field;
        let values = self
            .labels
            .iter()
            .find(is_it)
            .map(values)
            .unwrap_or_default();
        let sign = rest.len() - rest.trim_start_matches(signs).len();
        let last = rest.rfind(',').map_or(sign, |comma| comma + 1);
        let before = &typed[..at + last];
        values.iter().map(|it| format!("{before}{it}")).collect()
    }
}

/// The fields of a key or a value; after a comma another.
fn pairs(fields: &[String], typed: &str) -> Vec<String> {
    let before = typed.rfind(',').map_or("", |comma| &typed[..=comma]);
    let pairs = fields.iter().map(|field| format!("{before}{field}="));
    pairs.collect()
}

/// What a label can be on this host, as far as that is known.
fn values(label: &Label) -> Vec<String> {
    match (&label.decoder, &label.place.ty.kind) {
        (Some(decoder), _) => HostNames::new().offers(decoder),
        (None, Kind::Enum { variants, .. }) => variants.iter().map(|it| it.name.clone()).collect(),
        (None, _) => Vec::new(),
    }
}

/// A completer of these words, which depend on what was typed.
fn completer(words: impl Fn(&str) -> Vec<String> + Send + Sync + 'static) -> ArgValueCompleter {
    ArgValueCompleter::new(move |typed: &OsStr| {
        let typed = typed.to_str().unwrap_or_default();
        let mut words = words(typed);
        words.retain(|word| word.starts_with(typed));
        words.sort();
        words.dedup();
        words.into_iter().map(CompletionCandidate::new).collect()
    })
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
        ("count", "tally" | "from" | "to") | ("events", "pattern") => arg.add(completer(events)),
        (_, "tally") => arg.add(ArgValueCompleter::new(tallies)),
        (_, "map" | "maps") => arg.add(ArgValueCompleter::new(maps)),
        ("create", _) => arg,
        (_, "key") => {
            let fields = fields.by.clone();
            arg.add(completer(move |typed| pairs(&fields, typed)))
        }
        (_, "value") => {
            let is_of_value = |column: &&String| !fields.by.contains(column);
            let fields: Vec<String> = fields.columns.iter().filter(is_of_value).cloned().collect();
            arg.add(completer(move |typed| pairs(&fields, typed)))
        }
        (_, "by") => arg.add(words(fields.by.clone())),
        (_, "sort") => arg.add(words(fields.columns.clone())),
        (_, "filters" | "until" | "alert") => {
            let fields = fields.clone();
            arg.add(completer(move |typed| fields.conditions(typed)))
        }
        _ if let Some(decoder) = fields.decoder_of(&arg) => {
            let decoder = decoder.clone();
            arg.add(completer(move |_| HostNames::new().offers(&decoder)))
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

/// The tracepoints of this kernel, and functions once a part of the name is typed.
fn events(typed: &str) -> Vec<String> {
    let kernel = KernelBtf::load();
    let begins = |name: &str| name.starts_with(typed);
    let known = kernel.and_then(|kernel| known_events(&kernel, !typed.is_empty(), &begins));
    known
        .unwrap_or_default()
        .into_iter()
        .map(|it| it.name)
        .collect()
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
