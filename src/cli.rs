//! The command line: what can be typed, and nothing of what it does.

mod formats;
mod map;
mod options;

use std::convert::Infallible;
use std::ffi::{OsStr, OsString};
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::Result;
use clap::builder::ValueParser;
use clap::error::{ContextKind, ContextValue, ErrorKind};
use clap::{
    Arg, ArgMatches, Args, ColorChoice, Command, CommandFactory, FromArgMatches, Parser, Subcommand,
};

use crate::error::usage;
use crate::render::Format;
use crate::schema::dotted;
use crate::tally::{RawOption, Tally};
use crate::text::escape;

use options::own_option;

pub use map::{
    AddArgs, CreateArgs, DumpArgs, Flag, LookupArgs, MapAction, MapArgs, UpdateArgs, WatchArgs,
};
pub use options::{clash, default, describe, flag, value_name};

/// How the program ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Exit {
    /// All was done.
    Done,
    /// Something failed.
    Failed,
    /// The command line makes no sense; nothing was loaded.
    Usage,
    /// No such key or map.
    NotFound,
    /// A partial reading; or counts that were lost, under `--strict`.
    Incomplete,
    /// All was done, and the command behind `--` ended with this.
    Command(u8),
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> Self {
        Self::from(match exit {
            Exit::Done => 0,
            Exit::Failed => 1,
            Exit::Usage => 2,
            Exit::NotFound => 3,
            Exit::Incomplete => 4,
            Exit::Command(status) => status,
        })
    }
}

/// Count what the Linux kernel does, in BPF maps, and read those maps.
#[derive(Debug, Parser)]
#[command(
    name = "ktally",
    version,
    propagate_version = true,
    max_term_width = 100
)]
pub struct Cli {
    /// What is asked for everywhere.
    #[command(flatten)]
    pub global: Global,
    /// What to do.
    #[command(subcommand)]
    pub action: Action,
}

/// Flags that every subcommand takes.
#[derive(Debug, Clone, Args)]
pub struct Global {
    /// How to write what was read
    #[arg(
        short,
        long,
        global = true,
        value_parser = formats::parser(&Format::ALL),
        default_value = "table",
        value_name = "FORMAT"
    )]
    pub output: Format,
    /// Write to this file, not to standard output. Lines of jsonl and csv are appended to it; other
    /// formats replace it once all is written
    #[arg(long, global = true, value_name = "FILE")]
    pub output_file: Option<PathBuf>,
    /// When to use color [also off where NO_COLOR is set]
    #[arg(
        long,
        global = true,
        value_enum,
        default_value = "auto",
        value_name = "WHEN"
    )]
    pub color: ColorChoice,
    /// Leave out headings
    #[arg(long, global = true)]
    pub no_header: bool,
    /// Say more on stderr: libbpf's log, and the whole chain of an error
    #[arg(short, long, global = true)]
    pub verbose: bool,
}

/// The subcommands.
#[derive(Debug, Subcommand)]
pub enum Action {
    /// Show what can be counted, and with which options
    List(ListArgs),
    /// Count, print, and leave nothing behind
    Run(RunArgs),
    /// Leave a tally counting in the kernel, without a process
    Attach(AttachArgs),
    /// Show what is attached, since when, and what it has lost
    Status(StatusArgs),
    /// Read what an attached tally has counted, shown in the ways of `run`
    #[command(
        mut_arg("tally", |arg| arg.value_name("INSTANCE").help("One from `ktally status`")),
        mut_arg("run_for", |arg| arg.help("Read the difference over this time [at once, since it was attached]")),
        mut_arg("every", |arg| arg.help("Interval between readings, which show differences, until Ctrl-C")),
        mut_arg("total", |arg| arg.help("Totals since it was attached, rather than rates and differences")),
        mut_arg("max_rows", |arg| arg.hide(true)),
        mut_arg("all_programs", |arg| arg.hide(true)),
        mut_arg("command", |arg| arg.hide(true))
    )]
    Read(RunArgs),
    /// Print a last reading of an attached tally, then remove all of it
    Detach(DetachArgs),
    /// Look at the live maps of any program, and change them
    Map(MapArgs),
    /// Show what this host allows, and the fix for what it does not
    Check,
}

/// `ktally list`.
#[derive(Debug, Args)]
pub struct ListArgs {
    /// Only this tally, in full: a name, a .bpf.c or a .bpf.o file
    pub tally: Option<OsString>,
}

/// `ktally run`.
#[derive(Debug, Default, Args)]
pub struct RunArgs {
    /// A name from `ktally list`, a .bpf.c or a .bpf.o file; its own options come after it;
    /// or @INSTANCE, to read what is attached
    pub tally: OsString,
    /// Count for this time, then print [until Ctrl-C, if not given; 0 attaches, reads and ends]
    #[arg(long = "for", value_name = "DURATION", value_parser = duration, allow_hyphen_values = true)]
    pub run_for: Option<Duration>,
    /// Interval between readings, which show differences; one longer than the run gives one reading
    #[arg(long, value_name = "DURATION", value_parser = interval, allow_hyphen_values = true)]
    pub every: Option<Duration>,
    /// What to show of it.
    #[command(flatten)]
    pub view: View,
    /// Make room for so many rows in each table (arrays keep their size)
    #[arg(long, value_name = "N", value_parser = whole::<u32>(1, u32::MAX.into()), allow_negative_numbers = true)]
    pub max_rows: Option<u32>,
    /// Load every program, also where several kinds of programs count the same event
    /// [only the first kind that loads]
    #[arg(long)]
    pub all_programs: bool,
    /// A program to run: count only what it and its children do, and end with it and its status
    #[arg(last = true, value_name = "COMMAND")]
    pub command: Vec<OsString>,
}

/// What is shown of a reading.
#[derive(Debug, Clone, Default, Args)]
pub struct View {
    /// Show at most so many rows; 0 shows none, only the footer
    #[arg(long, value_name = "N", value_parser = whole::<usize>(0, u64::MAX), allow_negative_numbers = true)]
    pub top: Option<usize>,
    /// Sort by this column [the first column of numbers; of a histogram also NAME.p99, NAME.sum]
    #[arg(long, value_name = "COLUMN", value_parser = column)]
    pub sort: Option<String>,
    /// Group rows by these fields only
    #[arg(long, value_name = "FIELD,...", value_delimiter = ',', value_parser = column)]
    pub by: Option<Vec<String>>,
    /// Only rows whose field has this value; may be given more than once
    #[arg(long = "where", value_name = "FIELD=VALUE", value_parser = filter)]
    pub filters: Vec<(String, String)>,
    /// Running totals, rather than rates and differences
    #[arg(long)]
    pub total: bool,
    /// Show histograms as bars, a block a row
    #[arg(long)]
    pub histogram: bool,
    /// Exit with 4 if any event was dropped, missed or not reported, or any row was reset
    #[arg(long)]
    pub strict: bool,
    /// Show numbers rather than names
    #[arg(long)]
    pub raw: bool,
}

/// `ktally attach`.
#[derive(Debug, Args)]
pub struct AttachArgs {
    /// A name from `ktally list`, a .bpf.c or a .bpf.o file; its own options come after it
    pub tally: OsString,
    /// What to call it [the tally's name]
    #[arg(long = "as", value_name = "INSTANCE")]
    pub label: Option<String>,
    /// Take the place of what is attached under this name, without losing a count
    #[arg(long)]
    pub replace: bool,
    /// Let the members of a group read it, without privileges [root alone]
    #[arg(long, value_name = "GROUP")]
    pub readable_by: Option<String>,
    /// Make room for so many rows in each table (arrays keep their size)
    #[arg(long, value_name = "N", value_parser = whole::<u32>(1, u32::MAX.into()), allow_negative_numbers = true)]
    pub max_rows: Option<u32>,
    /// Load every program, also where several kinds of programs count the same event
    /// [only the first kind that loads]
    #[arg(long)]
    pub all_programs: bool,
}

/// `ktally status`.
#[derive(Debug, Args)]
pub struct StatusArgs {
    /// Measure for a second how many events there are, and what one costs
    #[arg(long)]
    pub cost: bool,
}

/// `ktally detach`.
#[derive(Debug, Args)]
pub struct DetachArgs {
    /// One from `ktally status`
    #[arg(required_unless_present = "all", value_name = "INSTANCE")]
    pub labels: Vec<String>,
    /// Everything that is attached
    #[arg(long, conflicts_with = "labels")]
    pub all: bool,
    /// Stop counting, but leave what was counted to be read
    #[arg(long)]
    pub keep: bool,
    /// What to show of the last reading.
    #[command(flatten)]
    pub view: View,
}

/// What was asked for: the command line, and the tally that it names with the
/// options given to it.
#[derive(Debug)]
pub struct Request {
    /// The command line.
    pub cli: Cli,
    /// Of `run` and `attach`.
    pub tally: Option<(Tally, Vec<RawOption>)>,
}

/// The words of a command line, `ktally` first. `help map dump` is `map dump --help`,
/// and so `help run syscalls` has the options of the tally.
pub fn words(mut args: Vec<OsString>) -> Vec<OsString> {
    if args.get(1).is_some_and(|word| word == "help") {
        args.remove(1);
        args.push("--help".into());
    }
    args
}

/// The tally that `run` and `attach` are about. Its own options are known only
/// once its object has been read, and [`parse`] wants to know them.
pub fn tally_of(args: &[OsString]) -> Option<OsString> {
    operand_of(args).filter(|name| !name.as_encoded_bytes().starts_with(b"@"))
}

/// The same, or what is attached already.
fn operand_of(args: &[OsString]) -> Option<OsString> {
    // What follows is a command to run.
    let args = args.split(|word| word == "--").next()?;
    let unchecked = |arg: Arg| match arg.get_action().takes_values() {
        true => arg.value_parser(ValueParser::os_string()),
        false => arg,
    };
    // Behind the tally stand words that may be options of its own.
    let rest = |arg: Arg| {
        arg.last(false)
            .trailing_var_arg(true)
            .allow_hyphen_values(true)
    };
    let scanned = |verb: Command| {
        verb.disable_help_flag(true)
            .disable_version_flag(true)
            .mut_args(unchecked)
    };
    let command = Cli::command().mut_args(unchecked);
    let command = command.mut_subcommand("run", |run| scanned(run).mut_arg("command", rest));
    let command = command.mut_subcommand("attach", |attach| {
        scanned(attach).arg(rest(Arg::new("rest").num_args(0..)))
    });
    let matches = command.try_get_matches_from(args).ok()?;
    let (verb, matches) = matches.subcommand()?;
    VERBS
        .contains(&verb)
        .then(|| matches.get_one("tally").cloned())?
}

/// Parses a command line with the options of the tally that it names.
pub fn parse(args: &[OsString], mut tally: Option<Tally>) -> Result<Request> {
    let mut command = formats::for_each("", named(Cli::command()));
    if let Some(tally) = &tally {
        // clap takes nothing behind it for no command at all: all would be counted.
        if args.iter().position(|word| word == "--") == Some(args.len() - 1) {
            return Err(usage(
                "no command behind `--`; write `ktally run NAME -- COMMAND`, or leave `--` out",
            ));
        }
        for verb in VERBS {
            command = with_options(command, verb, tally)?;
        }
    }
    let matches = matches(command, args)?;
    let cli = Cli::from_arg_matches(&matches)?;
    formats::check(&matches, &cli)?;
    let mut given = Vec::new();
    if let (Some(tally), Some((_, matches))) = (&mut tally, matches.subcommand()) {
        tally.all_programs = matches.get_flag("all_programs");
        given = options::given(matches, tally);
    }
    Ok(Request {
        cli,
        tally: tally.map(|tally| (tally, given)),
    })
}

/// The version is that of ktally, whatever it is asked of.
fn named(command: Command) -> Command {
    command.display_name("ktally").mut_subcommands(named)
}

/// clap says that an argument is not UTF-8, but not which.
fn matches(mut command: Command, args: &[OsString]) -> Result<ArgMatches> {
    command.try_get_matches_from_mut(args).map_err(|error| {
        let culprit = args.iter().find(|arg| arg.to_str().is_none());
        if let Some(hint) = hint(&error, &command, args) {
            return usage(hint);
        }
        match (error.kind(), culprit) {
            (ErrorKind::InvalidUtf8, Some(arg)) => {
                usage(format!("`{}` is not valid UTF-8", arg.to_string_lossy()))
            }
            _ => error.into(),
        }
    })
}

/// A bool's value is easily taken for an operand: `--by-comm true`. And an
/// option that is not known is rarely meant as a value, which clap thinks.
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
    let near: Vec<String> = match (
        error.get(ContextKind::SuggestedArg),
        culprit.strip_prefix('-'),
    ) {
        (Some(ContextValue::String(near)), _) => vec![near.clone()],
        (_, Some(short)) => {
            let longs = verb.get_arguments().filter_map(Arg::get_long);
            let longs = longs.filter(|long| long.starts_with(short));
            longs.map(|long| format!("--{long}")).collect()
        }
        _ => Vec::new(),
    };
    let near = match near[..] {
        [] => String::new(),
        _ => format!("; did you mean `{}`?", near.join("` or `")),
    };
    Some(format!(
        "there is no option `{culprit}` here{near}; see `{path} --help`"
    ))
}

/// The subcommands whose first operand is a tally.
const VERBS: [&str; 2] = ["run", "attach"];

fn with_options(command: Command, verb: &str, tally: &Tally) -> Result<Command> {
    if let Some(clash) = clash(tally) {
        return Err(usage(clash));
    }
    let options = tally.schema.options.iter();
    let own: Vec<Arg> = options.map(|option| own_option(option, tally)).collect();
    let heading = format!("Options of {}", tally.name);
    let about = match verb {
        "run" => format!("Count {}", tally.summary()),
        _ => format!("Leave counting: {}", tally.summary()),
    };
    Ok(command.mut_subcommand(verb, |run| {
        let run = if tally.summary().is_empty() {
            run
        } else {
            run.about(about)
        };
        run.next_help_heading(heading).args(own)
    }))
}

/// A whole number, and words that say so where it is none.
fn whole<N: TryFrom<u64>>(least: u64, most: u64) -> impl Fn(&str) -> Result<N, String> + Clone {
    move |text| {
        let number = text.parse().ok();
        let number = number.filter(|number| (least..=most).contains(number));
        number
            .and_then(|number| number.try_into().ok())
            .ok_or_else(|| match most {
                u64::MAX => format!("write a whole number, {least} or more"),
                _ => format!("write a whole number from {least} to {most}"),
            })
    }
}

/// A bare number is one of seconds, as `sleep` and `timeout` have it.
fn duration(text: &str) -> Result<Duration, String> {
    if let Ok(seconds) = text.parse() {
        return Ok(Duration::from_secs(seconds));
    }
    humantime::parse_duration(text)
        .map_err(|_| "write a time like `500ms`, `1.5s`, `2m`, or a number of seconds".to_owned())
}

/// No clock of ours is finer.
const SHORTEST: Duration = Duration::from_millis(1);

fn interval(text: &str) -> Result<Duration, String> {
    match duration(text)? {
        short if short < SHORTEST => Err("an interval is at least 1ms".to_owned()),
        interval => Ok(interval),
    }
}

fn filter(text: &str) -> Result<(String, String), String> {
    let (field, value) = text.split_once('=').ok_or("write it as FIELD=VALUE")?;
    Ok((dotted(field), value.to_owned()))
}

/// `a[2]` is the column `a.2`.
fn column(text: &str) -> Result<String, Infallible> {
    Ok(dotted(text))
}

/// Whether clap "failed" only to print help or the version.
pub fn is_help(error: &clap::Error) -> bool {
    matches!(
        error.kind(),
        ErrorKind::DisplayHelp | ErrorKind::DisplayVersion
    )
}

/// Prints what clap has against a command line, and escapes what was typed.
pub fn print(mut error: clap::Error) {
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

/// Whether a command line asks for more words on stderr, when it does not parse.
pub fn is_verbose(args: &[OsString]) -> bool {
    args.iter()
        .any(|arg| arg == OsStr::new("-v") || arg == OsStr::new("--verbose"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tally(line: &str) -> Option<String> {
        let args: Vec<OsString> = line.split(' ').map(OsString::from).collect();
        tally_of(&args).map(|name| name.to_string_lossy().into_owned())
    }

    #[test]
    fn the_tally_is_the_first_operand_after_run() {
        assert_eq!(tally("ktally run a --pid 3").as_deref(), Some("a"));
        assert_eq!(tally("ktally run --for 5s -o json a").as_deref(), Some("a"));
        assert_eq!(
            tally("ktally -o json run --for=5s a b").as_deref(),
            Some("a")
        );
        assert_eq!(tally("ktally run a -- b -c").as_deref(), Some("a"));
        assert_eq!(tally("ktally attach -v a --as b").as_deref(), Some("a"));
        assert_eq!(tally("ktally run --top -1 a --help").as_deref(), Some("a"));
        assert_eq!(tally("ktally run a -p 1 -o xml").as_deref(), Some("a"));
        assert_eq!(tally("ktally run --pid 1 a"), None);
        assert_eq!(tally("ktally run @a"), None);
        assert_eq!(tally("ktally run --total -- b"), None);
        assert_eq!(tally("ktally run --help"), None);
        assert_eq!(tally("ktally list run"), None);
        assert_eq!(tally("ktally"), None);
    }

    #[test]
    fn the_command_line_is_well_formed() {
        Cli::command().debug_assert();
    }
}
