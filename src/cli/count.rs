//! `ktally count`: its arguments, which make a tally.

use std::ffi::{OsStr, OsString};
use std::slice;

use anyhow::Result;
use clap::builder::ArgPredicate;
use clap::{Arg, ArgMatches, Args, Command, Parser};

use super::chosen::{self, Chosen};
use super::counting::RunArgs;
use super::values::column;
use super::{COUNT, mistakes, options};
use crate::error::usage;
use crate::query::Query;
use crate::tally::Tally;

/// The subcommand whose arguments make a tally.
const VERB: &str = "count";

/// What `ktally count` counts; the arguments of `run` have `--by` and `--where`.
#[derive(Debug, Default, Args)]
pub(crate) struct CountArgs {
    #[command(flatten)]
    pub(crate) run: RunArgs,
    #[command(flatten)]
    pub(crate) what: CountColumns,
    /// Count nothing: print what was understood, as a C file that says the same
    #[arg(long, help_heading = COUNT)]
    pub(crate) print: bool,
}

#[derive(Debug, Args)]
pub(crate) struct EventsArgs {
    /// An event, to show what it carries; or a part of a name, or a pattern like 'vfs_*'
    pub(crate) pattern: Option<String>,
    /// What a function has when it returns
    #[arg(long = "return", requires = "pattern")]
    pub(crate) at_return: bool,
}

/// What is counted beside the number of events.
#[derive(Debug, Default, Args)]
pub(crate) struct CountColumns {
    /// Count when the function returns: `retval` is what it returns
    #[arg(long = "return", help_heading = COUNT)]
    pub(crate) at_return: bool,
    /// Count the time from this event to that of --to, as `time`; what that one has is written to.EXPR
    #[arg(long, help_heading = COUNT, value_name = "EVENT", requires = "to")]
    pub(crate) from: Option<String>,
    /// The event that ends what --from begins; with --return, when this function returns
    #[arg(long, help_heading = COUNT, value_name = "EVENT", requires = "from")]
    pub(crate) to: Option<String>,
    /// Which start an end belongs to: that of the current task, or of the same value (EXPR,to.EXPR: of what each has) [default: task]
    #[arg(long, help_heading = COUNT, value_name = "task|EXPR", requires = "from")]
    pub(crate) per: Option<String>,
    /// Add this number up, for each row; of an interval `time`, or what --to has as to.EXPR
    #[arg(long, help_heading = COUNT, value_name = "EXPR,...", value_delimiter = ',')]
    pub(crate) sum: Vec<String>,
    /// Keep the greatest of this number
    #[arg(long, help_heading = COUNT, value_name = "EXPR,...", value_delimiter = ',')]
    pub(crate) max: Vec<String>,
    /// Keep the least of this number
    #[arg(long, help_heading = COUNT, value_name = "EXPR,...", value_delimiter = ',')]
    pub(crate) min: Vec<String>,
    /// Keep the distribution of this number, in powers of two, or in steps of this width
    #[arg(long = "histogram", help_heading = COUNT, value_name = "EXPR[:STEP],...", value_delimiter = ',')]
    pub(crate) distribution: Vec<String>,
    /// How a value is shown (a decoder like hex, ipv4 or text) or what it counts (ns, us, ms, s, bytes)
    #[arg(long = "as", help_heading = COUNT, value_name = "EXPR=DECODER,...", value_delimiter = ',')]
    pub(crate) decoders: Vec<String>,
}

/// The same in the name of a tally: `ktally top 'count EVENT --by EXPR'`.
#[derive(Debug, Parser)]
#[command(name = "count", disable_help_flag = true, disable_version_flag = true)]
pub(crate) struct CountName {
    #[arg(required_unless_present = "from", conflicts_with = "from")]
    event: Option<String>,
    #[arg(long, value_delimiter = ',', value_parser = column)]
    by: Vec<String>,
    #[arg(long = "where")]
    filters: Vec<String>,
    #[command(flatten)]
    what: CountColumns,
}

impl CountName {
    pub(crate) fn query(self) -> Query {
        let event = self.event.unwrap_or_default();
        self.what.query(event, self.by, self.filters)
    }
}

impl CountColumns {
    fn query(&self, event: String, by: Vec<String>, filters: Vec<String>) -> Query {
        Query {
            event: self.from.clone().unwrap_or(event),
            to: self.to.clone(),
            per: self.per.clone(),
            at_return: self.at_return,
            by,
            filters,
            sum: self.sum.clone(),
            max: self.max.clone(),
            min: self.min.clone(),
            histogram: self.distribution.clone(),
            decoders: self.decoders.clone(),
        }
    }
}

impl CountArgs {
    /// The query. What is left counts its events as `run` does.
    pub(crate) fn take_query(&mut self) -> Query {
        let selection = &mut self.run.view.selection;
        let filters = selection.filters.drain(..).map(|it| it.to_string());
        let (by, filters) = (selection.by.take(), filters.collect());
        let event = self.run.tally.to_string_lossy().into_owned();
        self.what.query(event, by.unwrap_or_default(), filters)
    }
}

const EVENT: &str = "A tracepoint or a function of the kernel, from `ktally events`; or \
    tracepoint:GROUP:NAME, uprobe:PATH:FUNCTION, cpu-clock@HZ";

/// What an argument of `run` means to `count`.
pub(super) fn of_count(arg: Arg) -> Arg {
    match arg.get_id().as_str() {
        "tally" => arg
            .value_name("EVENT")
            .help(EVENT)
            .required(false)
            .required_unless_present("from")
            .conflicts_with("from")
            .default_value_if("from", ArgPredicate::IsPresent, ""),
        "by" => arg
            .value_name("EXPR,...")
            .help("One row for each of these values: arguments and their members, comm, pid, cpu...")
            .help_heading(COUNT),
        "filters" => arg
            .value_name("EXPR=VALUE")
            .help("Count only events with this value; may be repeated")
            .long_help(
                "Count only events with this value; may be repeated\n\nOperators: `=` `!=` `<` `<=` `>` `>=`, `&` (any of these bits), and ranges: `--where 'id=0..2'`.",
            )
            .help_heading(COUNT),
        "histogram" => arg.long("bars"),
        // Its own `--as` says it before anything is counted.
        "shown_as" => arg.long("show-as").hide(true),
        "tables" | "settings" | "targets" | "include" | "define" | "cflags" => arg.hide(true),
        _ => arg,
    }
}

/// A tally by the name that a command line gives it: see [`Tally::find`], or a query in the
/// words of `ktally count`.
pub fn find(name: &OsStr, flags: &[OsString]) -> Result<Tally> {
    match name.to_str().filter(|name| chosen::is_query(name)) {
        Some(query) => {
            let query = CountName::try_parse_from(query.split_whitespace());
            let query = query.map_err(|error| usage(mistakes::first_line(&error)))?;
            Tally::count(&query.query())
        }
        None => Tally::find_with(name, flags),
    }
}

/// The tally that has the options of every query, if a command line has one.
pub(super) fn anything(args: &[OsString]) -> Result<Option<Tally>> {
    let is_query = args.iter().any(|word| word == VERB);
    is_query.then(Tally::count_anything).transpose()
}

pub(super) fn with_options(command: Command, anything: Option<&Tally>) -> Command {
    match anything {
        Some(anything) => {
            let flags = chosen::flags(slice::from_ref(anything));
            command.mut_subcommand(VERB, |count| count.args(flags))
        }
        None => command,
    }
}

/// The tally of a query, with the options given to it.
pub(super) fn chosen(
    args: &mut CountArgs,
    matches: &ArgMatches,
    anything: &Tally,
) -> Result<Chosen> {
    let mut tally = Tally::count(&args.take_query())?;
    tally.all_programs = args.run.loading.all_programs;
    tally.per_cpu_rows = args.run.loading.per_cpu_rows;
    Ok(Chosen {
        given: options::given(matches, anything),
        lacks: Vec::new(),
        tally,
    })
}
