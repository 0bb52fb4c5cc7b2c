//! The command line: what can be typed, and nothing of what it does.

mod author;
mod chosen;
mod count;
mod counting;
mod formats;
mod map;
mod mistakes;
mod options;
mod scan;
mod topics;
mod values;

use std::ffi::OsString;
use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::Result;
use clap::builder::styling::{AnsiColor, Color, Style, Styles};
use clap::{Arg, Args, ColorChoice, Command, CommandFactory, FromArgMatches, Parser, Subcommand};

use crate::error::usage;
use crate::render::Format;
use crate::tally::Tally;

pub(crate) use author::{BuildArgs, HeadersArgs, LintArgs, NewArgs};
pub use chosen::Chosen;
pub use count::find;
pub(crate) use count::{CountArgs, EventsArgs};
pub(crate) use counting::{
    AttachArgs, CompileArgs, DetachArgs, DiffArgs, ExportArgs, ListArgs, ManArgs, RotateArgs,
    RunArgs, Selection, StatusArgs, TopArgs, View,
};
pub(crate) use map::{
    AddArgs, CreateArgs, DumpArgs, LookupArgs, MapAction, MapArgs, UpdateArgs, WatchArgs,
};
pub use mistakes::{is_help, report};
pub use options::default;
pub(crate) use options::{clash, describe, value_name};
pub(crate) use scan::Scan;
pub(crate) use topics::{HelpArgs, page, topics};

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
    /// All was done, and a reading met `--alert`.
    Alert,
    /// All was done, and no reading met `--until`.
    NotMet,
    /// All was done, and the command after `--` ended with this.
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
            Exit::Alert => 5,
            Exit::NotMet => 6,
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
    max_term_width = 100,
    styles = STYLES,
    disable_help_subcommand = true,
    after_help = topics::list()
)]
pub(crate) struct Cli<A: Subcommand = Action> {
    #[command(flatten)]
    pub(crate) global: Global,
    #[command(subcommand)]
    pub(crate) action: A,
}

/// A verb of `map` takes less time than the arguments of all other subcommands.
#[derive(Debug, Subcommand)]
enum MapAlone {
    Map(MapArgs),
}

/// Of help and of errors, on a terminal.
const STYLES: Styles = {
    const fn color(color: AnsiColor) -> Style {
        Style::new().fg_color(Some(Color::Ansi(color)))
    }
    Styles::styled()
        .header(Style::new().bold())
        .usage(Style::new().bold())
        .literal(color(AnsiColor::Cyan))
        .placeholder(color(AnsiColor::Green))
};

/// The headings of help.
const COUNT: &str = "What to count, and for how long";
const SHOW: &str = "What to show";
const LOOK: &str = "How to show it";

/// Flags that every subcommand takes.
#[derive(Debug, Clone, Args)]
pub(crate) struct Global {
    /// How to write what was read
    #[arg(
        short,
        long,
        global = true,
        help_heading = LOOK,
        value_parser = formats::parser(&Format::ALL),
        default_value = "table",
        value_name = "FORMAT"
    )]
    pub(crate) output: Format,
    /// Write to this file, not to standard output
    ///
    /// Lines of jsonl and csv are appended to it; other formats replace it once all is written.
    #[arg(long, global = true, help_heading = LOOK, value_name = "FILE")]
    pub(crate) output_file: Option<PathBuf>,
    /// When to use color [also off where NO_COLOR is set]
    #[arg(
        long,
        global = true,
        help_heading = LOOK,
        hide_short_help = true,
        value_enum,
        default_value = "auto",
        value_name = "WHEN"
    )]
    pub(crate) color: ColorChoice,
    /// Leave out headings
    #[arg(long, global = true, help_heading = LOOK, hide_short_help = true)]
    pub(crate) no_header: bool,
    /// Show tables whole, also where they are wider than the terminal
    #[arg(long, global = true, help_heading = LOOK, hide_short_help = true)]
    pub(crate) wide: bool,
    /// Say more on stderr: libbpf's log, and the whole chain of an error
    #[arg(short, long, global = true, hide_short_help = true)]
    pub(crate) verbose: bool,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Action {
    /// Show what can be counted, and with which options
    List(ListArgs),
    /// Count, print, and leave nothing behind
    Run(RunArgs),
    /// Count any event of the kernel by what it carries, without a C file
    #[command(mut_args(count::of_count), after_help = topics::more("queries"))]
    Count(Box<CountArgs>),
    /// Show the events that `count` can count here, and what each carries
    Events(EventsArgs),
    /// Watch live what tallies count
    Top(TopArgs),
    /// Serve what tallies count to Prometheus
    #[command(after_help = topics::more("exporter"))]
    Export(ExportArgs),
    /// Compare what two files counted, row by row
    Diff(DiffArgs),
    /// Leave a tally counting in the kernel, without a process
    Attach(AttachArgs),
    /// Show what is attached, since when, and what it has lost
    Status(StatusArgs),
    /// Read what an attached tally has counted, shown in the ways of `run`
    #[command(mut_args(of_read))]
    Read(RunArgs),
    /// Print what an attached tally has counted, while it goes on in empty tables
    Rotate(RotateArgs),
    /// Print a last reading of an attached tally, then remove all of it
    Detach(DetachArgs),
    Map(MapArgs),
    /// Make a C file to start from, with comments, which runs at once
    #[command(after_help = topics::more("writing-a-tally"))]
    New(NewArgs),
    /// Look for what is easily forgotten in a C file
    Lint(LintArgs),
    /// Compile a C file into an object, for hosts without clang
    Build(BuildArgs),
    /// Write the headers that C files include, so that editors find them
    Headers(HeadersArgs),
    /// Show what this host allows, and the fix for what it does not
    Check,
    /// Explain a topic, or show the help of a command
    Help(HelpArgs),
    /// Write the manual pages of ktally and its subcommands
    #[command(hide = true)]
    Man(ManArgs),
}

/// What an argument of `run` means to `read`. (`mut_arg` would change their order.)
fn of_read(arg: Arg) -> Arg {
    match arg.get_id().as_str() {
        "tally" => arg.value_name("INSTANCE").help("One from `ktally status`"),
        "run_for" => {
            arg.help("Read the difference over this time [at once, since it was attached]")
        }
        "every" => arg.help("Interval between readings, which show differences, until Ctrl-C"),
        "total" => arg.help("Totals since it was attached, rather than rates and differences"),
        "max_rows" | "per_cpu_rows" | "all_programs" | "settings" | "targets" | "command" => {
            arg.hide(true)
        }
        "include" | "define" | "cflags" => arg.hide(true),
        _ => arg,
    }
}

/// A command line that is understood.
#[derive(Debug)]
pub struct Request {
    pub(crate) cli: Cli,
    /// Of `run`, `attach` and `top`; instances are not among them.
    pub tallies: Vec<Chosen>,
}

/// The words of a command line, `ktally` first. `help map dump` is `map dump --help`,
/// and so `help run syscalls` has the options of the tally; `help guide` is a topic.
pub fn words(mut args: Vec<OsString>) -> Vec<OsString> {
    let is = |at: usize, word| args.get(at).is_some_and(|it| it == word);
    let at = if is(1, "map") { 2 } else { 1 };
    if is(at, "help") && !(at == 1 && args.get(2).is_some_and(topics::is_none_of_commands)) {
        args.remove(at);
        args.push("--help".into());
    }
    args
}

/// The `--color` of a command line, which may not be a right one.
pub fn color(args: &[OsString]) -> ColorChoice {
    let words = args.iter().filter_map(|word| word.to_str());
    let mut words = words.take_while(|word| *word != "--");
    let mut color = ColorChoice::Auto;
    while let Some(word) = words.next() {
        let value = match word.strip_prefix("--color") {
            Some("") => words.next(),
            rest => rest.and_then(|rest| rest.strip_prefix('=')),
        };
        color = value.and_then(|it| it.parse().ok()).unwrap_or(color);
    }
    color
}

/// Parses a command line with the options of the tallies that it names.
pub fn parse(args: &[OsString]) -> Result<Request> {
    let scan = Scan::of(args);
    let tallies = scan.tallies();
    let tallies = tallies.iter().map(|name| find(name, &scan.clang_flags));
    let tallies: Vec<Tally> = tallies.collect::<Result<_>>()?;
    if !tallies.is_empty() {
        // clap would ignore a `--` at the end, and the tallies would count everything.
        if args.iter().position(|word| word == "--") == Some(args.len() - 1) {
            return Err(usage(
                "no command after `--`; write `ktally run NAME -- COMMAND`, or leave `--` out",
            ));
        }
    }
    let anything = count::anything(args)?;
    let command = match args.get(1) {
        Some(word) if word == "map" => formats::for_each("", Cli::<MapAlone>::command()),
        _ => count::with_options(command(&tallies)?, anything.as_ref()),
    };
    let matches = mistakes::matches(named(command).color(color(args)), args)?;
    let mut cli = <Cli>::from_arg_matches(&matches)?;
    formats::check(&matches, &cli)?;
    let tallies = match matches.subcommand() {
        Some((_, matches))
            if let (Action::Count(args), Some(anything)) = (&mut cli.action, &anything) =>
        {
            vec![count::chosen(args, matches, anything)?]
        }
        Some((_, matches)) if !tallies.is_empty() => {
            let operands = matches.get_many("tally").into_iter().flatten();
            let words = scan::words_of(operands.cloned());
            // Their options are known once they are named.
            if words.len() > tallies.len() {
                return Err(usage("name all tallies before their options"));
            }
            let mut chosen = chosen::chosen(tallies, &words, matches)?;
            chosen::adapt(&mut chosen, &cli.action, &scan.clang_flags)?;
            chosen
        }
        _ => Vec::new(),
    };
    Ok(Request { cli, tallies })
}

/// What can be typed, with the options of these tallies. An error if one has an option
/// that ktally has itself.
pub fn command(tallies: &[Tally]) -> Result<Command> {
    let mut command = formats::for_each("", <Cli>::command());
    if !tallies.is_empty() {
        for verb in VERBS {
            command = with_options(command, verb, tallies)?;
        }
    }
    Ok(command)
}

/// The version is that of ktally, whatever it is asked of.
fn named(command: Command) -> Command {
    command.display_name("ktally").mut_subcommands(named)
}

/// The subcommands whose operands are tallies.
const VERBS: [&str; 4] = ["run", "attach", "top", "export"];

fn with_options(command: Command, verb: &str, tallies: &[Tally]) -> Result<Command> {
    if let Some(clash) = tallies.iter().find_map(clash) {
        return Err(usage(clash));
    }
    let summaries = tallies.iter().map(Tally::summary);
    let summaries: Vec<&str> = summaries.filter(|it| !it.is_empty()).collect();
    let summary = summaries.join("; ");
    Ok(command.mut_subcommand(verb, |command| {
        let command = match (&*summary, verb) {
            ("", _) => command,
            (summary, "run") => command.about(format!("Count {summary}")),
            (summary, "export") => command.about(format!("Serve to Prometheus: {summary}")),
            (summary, "top") => command.about(format!("Watch live: {summary}")),
            (summary, _) => command.about(format!("Leave counting: {summary}")),
        };
        command.args(chosen::flags(tallies))
    }))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tally(line: &str) -> Option<String> {
        let args: Vec<OsString> = line.split(' ').map(OsString::from).collect();
        let names = Scan::of(&args).tallies();
        let names: Vec<_> = names.iter().map(|name| name.to_string_lossy()).collect();
        (!names.is_empty()).then(|| names.join(" "))
    }

    #[test]
    fn tallies_are_the_first_operand_after_run() {
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
        assert_eq!(tally("ktally run a:b=c,d").as_deref(), Some("a d"));
        let several = tally("ktally top --every 1s a,b @c d");
        assert_eq!(several.as_deref(), Some("a b d"));
        assert_eq!(tally("ktally top"), None);
        assert_eq!(tally("ktally run --pid 1 a"), None);
        assert_eq!(tally("ktally run @a"), None);
        assert_eq!(tally("ktally run --total -- b"), None);
        assert_eq!(tally("ktally run --help"), None);
        assert_eq!(tally("ktally list run"), None);
        assert_eq!(tally("ktally"), None);
    }

    #[test]
    fn the_command_line_is_well_formed() {
        <Cli>::command().debug_assert();
    }
}
