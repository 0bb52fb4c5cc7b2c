//! Parses, runs, and ends with the right exit code.

use std::ffi::OsString;
use std::process::ExitCode;

use anyhow::Result;

use ktally::cli::{self, Exit};
use ktally::commands;

fn main() -> ExitCode {
    let args: Vec<OsString> = std::env::args_os().collect();
    match commands::complete(&args) {
        Ok(true) => return ExitCode::SUCCESS,
        Ok(false) => {}
        Err(error) => return cli::report(error, &args).into(),
    }
    let args = cli::words(args);
    let result = run(&args).or_else(|error| match error.downcast_ref() {
        Some(help) if cli::is_help(help) => commands::help(help, cli::color(&args)),
        _ => Err(error),
    });
    result
        .unwrap_or_else(|error| cli::report(error, &args))
        .into()
}

fn run(args: &[OsString]) -> Result<Exit> {
    let tallies = cli::tallies_of(args);
    let flags = cli::clang_flags(args);
    let tallies = tallies.iter().map(|name| cli::find(name, &flags));
    commands::execute(cli::parse(args, tallies.collect::<Result<_>>()?)?)
}
