//! `ktally man`: the manual pages, for packages.

use std::fs;

use anyhow::{Context, Result};
use clap::Command;

use crate::cli::{self, Exit, ManArgs};

pub(super) fn man(args: &ManArgs) -> Result<Exit> {
    let folder = &args.folder;
    let command = in_full(cli::command(&[])?);
    fs::create_dir_all(folder)
        .and_then(|()| clap_mangen::generate_to(command, folder))
        .with_context(|| format!("failed to write manual pages to `{}`", folder.display()))?;
    Ok(Exit::Done)
}

/// Pages would name flags that `-h` leaves out, without their help.
fn in_full(command: Command) -> Command {
    let command = command.mut_args(|arg| arg.hide_short_help(false));
    command.mut_subcommands(in_full)
}
