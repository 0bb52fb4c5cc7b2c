//! Parses, runs, and ends with the right exit code.

use std::ffi::OsString;
use std::process::ExitCode;

use ktally::cli;
use ktally::commands;

fn main() -> ExitCode {
    let args: Vec<OsString> = std::env::args_os().collect();
    match commands::complete(&args) {
        Ok(true) => return ExitCode::SUCCESS,
        Ok(false) => {}
        Err(error) => return cli::report(error, &args).into(),
    }
    let args = cli::words(args);
    let result = cli::parse(&args).and_then(commands::execute);
    let result = result.or_else(|error| match error.downcast_ref() {
        Some(help) if cli::is_help(help) => commands::help(help, cli::color(&args)),
        _ => Err(error),
    });
    result
        .unwrap_or_else(|error| cli::report(error, &args))
        .into()
}
