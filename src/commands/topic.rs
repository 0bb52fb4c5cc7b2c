//! `ktally help TOPIC`: a page of the documents, through a pager on a terminal.

use std::env;
use std::io::{ErrorKind, IsTerminal, Write};
use std::process::{Child, Command, Stdio};

use anyhow::{Context, Result};

use super::{output, style};
use crate::cli::{self, Exit, Global};
use crate::error::{Usage, usage};
use crate::render::{Style, page};
use crate::tally::Tally;

/// Lines that are longer are hard to read.
const WIDEST: usize = 100;

pub(super) fn topic(global: &Global, topic: &str) -> Result<Exit> {
    let text = cli::page(topic).map_err(|error| match Tally::builtin(topic.as_ref()) {
        Ok(_) if error.is::<Usage>() => usage(format!(
            "`{topic}` is a tally: `ktally list {topic}` shows what it counts, `ktally run {topic} --help` its options"
        )),
        _ => error,
    })?;
    let width = output::size().map_or(WIDEST, |(width, _)| width.min(WIDEST));
    let style = Style {
        width: Some(width),
        ..style(global)
    };
    let mut shown = Vec::new();
    page(&mut shown, &text, &style)?;
    let pager = output::file().is_terminal().then(pager).flatten();
    match pager {
        Some(pager) => show(pager, &shown)?,
        None => output::out().write_all(&shown)?,
    }
    Ok(Exit::Done)
}

/// `PAGER`, a line for the shell, or else `less`; none where there is none.
fn pager() -> Option<Child> {
    let mut command = match env::var_os("PAGER") {
        Some(line) if line == "cat" || line.is_empty() => return None,
        Some(line) => {
            let mut shell = Command::new("sh");
            shell.arg("-c").arg(line);
            shell
        }
        None => Command::new("less"),
    };
    // It ends at once where all fits, and takes colors.
    if env::var_os("LESS").is_none() {
        command.env("LESS", "FRX");
    }
    command.stdin(Stdio::piped()).spawn().ok()
}

/// Who has seen enough ends the pager, and that is no error.
fn show(mut pager: Child, page: &[u8]) -> Result<()> {
    let written = pager.stdin.take().map(|mut pipe| pipe.write_all(page));
    let ended = pager.wait().context("failed to wait for the pager")?;
    match written.transpose() {
        // The shell has found no such program.
        _ if ended.code() == Some(127) => output::out().write_all(page)?,
        Err(error) if error.kind() != ErrorKind::BrokenPipe => return Err(error.into()),
        _ => {}
    }
    Ok(())
}
