//! One file per subcommand: orchestration, without byte layouts.

mod attach;
mod author;
mod check;
mod complete;
mod conditions;
mod diff;
mod events;
mod export;
mod list;
mod losses;
mod man;
mod map;
mod output;
mod progress;
mod read;
mod readings;
mod replacement;
mod report;
mod rotate;
mod run;
mod source;
mod status;
mod top;
mod topic;
mod wait;

use std::io::{self, Write};

use anstream::AutoStream;
use anyhow::{Context, Result};
use caps::Capability;
use clap::ColorChoice;

use crate::cli::{self, Action, Exit, Global, Request, Selection};
use crate::error::{say, usage};
use crate::host;
use crate::names;
use crate::render::Style;
use crate::snapshot::Query;
use crate::tally::{self, Support, Tally};
use crate::text::plural;

pub use complete::complete;

/// Executes a command line.
pub fn execute(request: Request) -> Result<Exit> {
    tally::set_verbose(request.cli.global.verbose);
    let keep = match &request.cli.action {
        Action::Rotate(args) => args.keep,
        _ => None,
    };
    output::open(&request.cli.global, keep)?;
    let exit = act(request).map_err(|error| match error.chain().len() {
        // A bare I/O error says nothing; all other errors say what failed.
        1 if error.is::<io::Error>() => error.context("failed to write"),
        _ => error,
    })?;
    output::finish().context("failed to write the output file")?;
    Ok(exit)
}

/// Prints help or the version, which clap returns as errors.
pub fn help(help: &clap::Error, color: ColorChoice) -> Result<Exit> {
    let color = match color {
        ColorChoice::Auto => anstream::ColorChoice::Auto,
        ColorChoice::Always => anstream::ColorChoice::Always,
        ColorChoice::Never => anstream::ColorChoice::Never,
    };
    let mut stdout = AutoStream::new(output::stdout()?, color);
    let written = write!(stdout, "{}", help.render().ansi());
    written.context("failed to write")?;
    Ok(Exit::Done)
}

fn act(request: Request) -> Result<Exit> {
    let Request { cli, tallies } = request;
    match (cli.action, &tallies[..]) {
        (Action::Events(args), _) => events::events(&cli.global, &args),
        (Action::Count(args), [chosen]) if args.print => {
            let text = chosen.tally.as_c.as_deref().unwrap_or_default();
            output::out().write_all(text.as_bytes())?;
            Ok(Exit::Done)
        }
        (Action::Count(args), _) => run::run(&cli.global, &args.run, &tallies),
        (Action::Run(args), [_, ..]) => run::run(&cli.global, &args, &tallies),
        (Action::Attach(args), [chosen]) => attach::attach(&args, &chosen.tally, &chosen.given),
        (Action::Attach(_), [_, ..]) => {
            Err(usage("`attach` takes one tally: run it once for each"))
        }
        (Action::Attach(args), []) => Err(usage(format!(
            "`{}` is attached already; name a tally of `ktally list`",
            args.tally.to_string_lossy()
        ))),
        // `@INSTANCE` is not a tally.
        (Action::Run(args) | Action::Read(args), _) => read::read(&cli.global, &args),
        (Action::Top(args), _) => top::top(&cli.global, &args, tallies),
        (Action::Export(args), _) => export::export(&args, tallies),
        (Action::Diff(args), _) => diff::diff(&cli.global, &args),
        (Action::Status(args), _) => status::status(&cli.global, &args),
        (Action::Rotate(args), _) => rotate::rotate(&cli.global, &args),
        (Action::Detach(args), _) => attach::detach(&cli.global, &args),
        (Action::List(args), _) => list::list(&cli.global, &args),
        (Action::Map(args), _) => map::map(&cli.global, args),
        (Action::New(args), _) => author::new(&args),
        (Action::Build(args), _) => author::build(&cli.global, &args),
        (Action::Headers(args), _) => author::headers(&args),
        (Action::Lint(args), _) => author::lint(&args),
        (Action::Check, _) => check::check(&cli.global),
        (Action::Help(args), _) => topic::topic(&cli.global, &args.topic),
        (Action::Man(args), _) => man::man(&args),
    }
}

fn style(global: &Global) -> Style {
    let color = match global.color {
        clap::ColorChoice::Always => true,
        clap::ColorChoice::Never => false,
        clap::ColorChoice::Auto => {
            AutoStream::choice(output::file()) != anstream::ColorChoice::Never
        }
    };
    Style {
        color,
        no_header: global.no_header || output::goes_on(),
        cpus: host::cpus(),
        width: output::size()
            .filter(|_| !global.wide)
            .map(|(width, _)| width),
        ascii: !host::is_utf8(),
        ..Style::default()
    }
}

fn query(selection: &Selection) -> Query {
    Query {
        by: selection.by.clone(),
        filters: selection.filters.clone(),
        sort: selection.sort.clone(),
        top: selection.top,
    }
}

/// Prints information to stderr.
fn note(message: &str) {
    say(&format!("ktally: {message}"));
}

/// Why `run` would refuse a tally here.
fn obstacles(support: &Support, tally: &Tally) -> Vec<String> {
    let mut obstacles = support.obstacles(tally);
    obstacles.extend(cli::clash(tally));
    obstacles
}

/// Gives up all other capabilities, before a command only reads.
fn keep_capabilities(mut needed: Vec<Capability>) {
    needed.extend(output::capability());
    if let Err(error) = host::keep_capabilities(&needed) {
        warn(&format!("failed to give up capabilities: {error:#}"));
    }
}

/// Warns of decoders that this version does not have.
fn warn_of(tally: &Tally) {
    let decoders = tally.schema.decoders().into_iter();
    for decoder in decoders.filter(|decoder| !names::is_known(decoder)) {
        warn(&format!(
            "tally `{}` uses AS({}), which is not a decoder of this version of ktally: numbers are shown as they are",
            tally.name,
            decoder.tag()
        ));
    }
}

fn warn(message: &str) {
    say(&format!("ktally: warning: {message}"));
}
