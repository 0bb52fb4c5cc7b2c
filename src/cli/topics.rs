//! What `ktally help TOPIC` explains: the pages of `docs/`, which `build.rs` has packed.

use std::ffi::OsString;

use anyhow::Result;
use clap::{Args, Command, CommandFactory};

use super::Cli;
use crate::error::unknown;
use crate::internal::unpack;

#[derive(Debug, Args)]
pub(crate) struct HelpArgs {
    /// A topic, or a command and what stands behind it
    #[arg(value_name = "TOPIC|COMMAND")]
    pub(crate) topic: String,
}

/// Its name, what it explains, the name of its page, and the page.
struct Topic(&'static str, &'static str, &'static str, &'static [u8]);

macro_rules! topic {
    ($name:literal, $help:literal, $page:literal) => {
        Topic(
            $name,
            $help,
            $page,
            include_bytes!(concat!(env!("OUT_DIR"), "/", $page, ".z")),
        )
    };
}

/// A name that is a command's would hide its help.
const TOPICS: [Topic; 14] = [
    topic!("guide", "Run, read, watch, attach and export", "guide.md"),
    topic!("tasks", "Questions, and the command for each", "tasks.md"),
    topic!(
        "tallies",
        "All tallies: columns, options, events",
        "tallies.md"
    ),
    topic!("queries", "What `ktally count` takes", "count.md"),
    topic!("maps", "Live maps of any program", "maps.md"),
    topic!(
        "output",
        "Formats, for people and for programs",
        "output.md"
    ),
    topic!(
        "exporter",
        "Metrics, the page and the API of `ktally export`",
        "export.md"
    ),
    topic!(
        "operating",
        "Privileges, cost, memory, security",
        "operating.md"
    ),
    topic!(
        "writing-a-tally",
        "A tally in ten steps",
        "writing-a-tally.md"
    ),
    topic!("objects", "BPF objects of others", "objects-of-others.md"),
    topic!("kernels", "What runs on which kernel", "kernels.md"),
    topic!(
        "benchmarks",
        "What counting and reading cost",
        "benchmarks.md"
    ),
    topic!("architecture", "How ktally is built", "architecture.md"),
    topic!("reading-the-code", "Where to begin", "reading-the-code.md"),
];

/// The names of all topics, each with what it explains.
pub(crate) fn topics() -> impl Iterator<Item = (&'static str, &'static str)> {
    TOPICS.iter().map(|Topic(name, help, ..)| (*name, *help))
}

/// What stands below the help of ktally.
pub(super) fn list() -> String {
    let lines = topics().map(|(name, help)| format!("  {name:<18}{help}"));
    let lines: Vec<String> = lines.collect();
    format!(
        "Topics of `ktally help TOPIC`:\n{}\n\nManual pages: `man ktally`, `man ktally-run` and so on for each command",
        lines.join("\n")
    )
}

/// What stands below the help of a command that a page explains.
pub(super) fn more(topic: &str) -> String {
    format!("`ktally help {topic}` has the whole page.")
}

/// Whether what follows `help` is no command, whose help is its own.
pub(super) fn is_none_of_commands(word: &OsString) -> bool {
    let is_option = word.as_encoded_bytes().starts_with(b"-");
    !is_option && <Cli>::command().find_subcommand(word).is_none()
}

/// The page of a topic. Pages name each other by their files: `output.md` is one, too.
pub(crate) fn page(topic: &str) -> Result<String> {
    let file = topic.strip_prefix("docs/").unwrap_or(topic);
    let mut all = TOPICS.iter();
    let Some(Topic(.., packed)) = all.find(|it| it.0 == topic || it.2 == file) else {
        return Err(no_topic(topic));
    };
    Ok(String::from_utf8(unpack(packed))?)
}

fn no_topic(word: &str) -> anyhow::Error {
    let command = <Cli>::command();
    let commands = command.get_subcommands().filter(|it| !it.is_hide_set());
    let names = topics().map(|(name, _)| name);
    unknown(
        "topic or command",
        word,
        names.chain(commands.map(Command::get_name)),
    )
}
