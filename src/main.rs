//! Parses, runs, and ends with the right exit code.

use std::ffi::OsString;
use std::io;
use std::process::ExitCode;

use anyhow::Result;

use ktally::cli::{self, Exit};
use ktally::commands;
use ktally::error::{NotFound, Usage, say};
use ktally::tally::Tally;

const CAUSED_BY: &str = "\n    caused by: ";

fn main() -> ExitCode {
    let args = cli::words(std::env::args_os().collect());
    let result = run(&args).or_else(|error| match error.downcast_ref() {
        Some(help) if cli::is_help(help) => commands::help(help),
        _ => Err(error),
    });
    result
        .unwrap_or_else(|error| report(error, cli::is_verbose(&args)))
        .into()
}

fn run(args: &[OsString]) -> Result<Exit> {
    let tally = cli::tally_of(args).map(|name| Tally::find(&name));
    commands::execute(cli::parse(args, tally.transpose()?)?)
}

/// Errors go to stderr on one line, with `-v` as a chain. A reader that closed
/// our output has seen enough.
fn report(error: anyhow::Error, verbose: bool) -> Exit {
    let error = match error.downcast() {
        Ok(error) => {
            cli::print(error);
            return Exit::Usage;
        }
        Err(error) => error,
    };
    let mut causes = error
        .chain()
        .filter_map(|cause| cause.downcast_ref::<io::Error>());
    if causes.any(|cause| cause.kind() == io::ErrorKind::BrokenPipe) {
        return Exit::Done;
    }
    if verbose {
        let causes: Vec<String> = error.chain().map(ToString::to_string).collect();
        say(&format!("ktally: {}", causes.join(CAUSED_BY)));
    } else {
        say(&format!("ktally: {error:#}"));
    }
    match error {
        _ if error.is::<Usage>() => Exit::Usage,
        _ if error.is::<NotFound>() => Exit::NotFound,
        _ => Exit::Failed,
    }
}
