//! The arguments of the subcommands that count.

use std::ffi::OsString;
use std::path::PathBuf;
use std::time::Duration;

use clap::Args;

use super::values::{column, decoder, duration, interval, pair, sort, top, whole};
use super::{COUNT, LOOK, SHOW};
use crate::schema::{Decoder, Hints};
use crate::snapshot::{Condition, Sort};

#[derive(Debug, Args)]
pub(crate) struct ListArgs {
    /// Only this tally, in full: a name, a .bpf.c or a .bpf.o file; or a word to search for, such as
    /// `disk` or the name of another tool
    pub(crate) tally: Option<OsString>,
    #[command(flatten)]
    pub(crate) compile: CompileArgs,
}

#[derive(Debug, Default, Args)]
pub(crate) struct RunArgs {
    /// A name from `ktally list`, a .bpf.c or a .bpf.o file; its own options come after it.
    /// Separate several with commas to read them together; NAME:OPTION=VALUE sets an option of one.
    /// Or @INSTANCE, to read what is attached
    pub(crate) tally: OsString,
    /// Count for this time, then print [until Ctrl-C, if not given; 0 attaches, reads and ends]
    #[arg(short = 'd', long = "for", help_heading = COUNT, value_name = "DURATION", value_parser = duration, allow_hyphen_values = true)]
    pub(crate) run_for: Option<Duration>,
    /// Interval between readings, which show differences; one longer than the run gives one reading
    #[arg(short = 'i', long, help_heading = COUNT, value_name = "DURATION", value_parser = interval, allow_hyphen_values = true)]
    pub(crate) every: Option<Duration>,
    /// End with the first reading in which a row meets this; exit with 6 if none does [--every defaults
    /// to 1s]
    ///
    /// Write it like --where: `--until 'p99>10ms'`. It compares the counts of a reading, not rates, and
    /// tests every row, including rows that --top leaves out.
    #[arg(long, help_heading = COUNT, value_name = "CONDITION", value_parser = Condition::parse)]
    pub(crate) until: Option<Condition>,
    /// Write a line to stderr for each reading in which a row meets this, and exit with 5 at the end
    #[arg(long, help_heading = COUNT, value_name = "CONDITION", value_parser = Condition::parse)]
    pub(crate) alert: Option<Condition>,
    #[command(flatten)]
    pub(crate) view: View,
    #[command(flatten)]
    pub(crate) hints: HintArgs,
    #[command(flatten)]
    pub(crate) loading: Loading,
    /// A program to run: count only what it and its children do, and end with it and its status
    #[arg(last = true, value_name = "COMMAND")]
    pub(crate) command: Vec<OsString>,
}

impl RunArgs {
    /// `--until` looks every second by default.
    pub(crate) fn every(&self) -> Option<Duration> {
        const DEFAULT: Duration = Duration::from_secs(1);
        self.every.or(self.until.as_ref().map(|_| DEFAULT))
    }

    /// What is said about tables in place of tags.
    pub(crate) fn hints(&self) -> Hints {
        self.hints
            .hints(self.view.rate.as_deref().unwrap_or_default())
    }

    /// The fields that it names.
    pub(crate) fn fields(&self) -> Vec<&str> {
        let conditions = self.until.iter().chain(&self.alert);
        let conditions = conditions.map(|condition| condition.field.as_str());
        let shown = self.view.selection.fields().into_iter();
        shown.chain(conditions).collect()
    }
}

#[derive(Debug, Args)]
pub(crate) struct TopArgs {
    /// Names from `ktally list`, .bpf.c or .bpf.o files, or @INSTANCE; each table gets a tab [without a
    /// name: an overview of what is busiest on this host]
    #[arg(value_name = "NAME")]
    pub(crate) tally: Vec<OsString>,
    /// A live map of any program, as `ktally map` names it: an id, a pinned path, or a name
    #[arg(long = "map", value_name = "MAP")]
    pub(crate) maps: Vec<String>,
    /// Leave out of the overview what costs time at each system call or page fault
    #[arg(long, conflicts_with_all = ["tally", "maps"])]
    pub(crate) light: bool,
    /// Show every BPF program and map of the host; meanwhile the kernel measures the programs
    #[arg(long, conflicts_with_all = ["tally", "maps", "light"])]
    pub(crate) bpf: bool,
    /// Interval between readings [1s]
    #[arg(short = 'i', long, value_name = "DURATION", value_parser = interval)]
    pub(crate) every: Option<Duration>,
    #[command(flatten)]
    pub(crate) hints: HintArgs,
    #[command(flatten)]
    pub(crate) loading: Loading,
    /// Record the readings in a new file, for --replay: JSON lines, at most 1 GiB, mode 0600
    #[arg(long, value_name = "FILE")]
    pub(crate) record: Option<PathBuf>,
    /// Play a recording back; needs no privileges (press `?` for the keys)
    #[arg(long, value_name = "FILE", conflicts_with_all = ["tally", "maps", "light", "bpf", "record", "every", "max_rows", "per_cpu_rows", "all_programs", "settings", "targets", "include", "define", "cflags"])]
    pub(crate) replay: Option<PathBuf>,
    /// Draw with ASCII characters only
    #[arg(long)]
    pub(crate) ascii: bool,
}

impl TopArgs {
    /// What is said about tables in place of tags.
    pub(crate) fn hints(&self) -> Hints {
        let sources = self.tally.len() + self.maps.len();
        Hints {
            are_for_several: sources > 1,
            ..self.hints.hints(&[])
        }
    }
}

#[derive(Debug, Args)]
pub(crate) struct ExportArgs {
    /// Names from `ktally list`, .bpf.c or .bpf.o files, or @INSTANCE; NAME:OPTION=VALUE sets an option
    /// of one
    #[arg(value_name = "NAME")]
    pub(crate) tally: Vec<OsString>,
    /// Everything that is attached, also what is attached later
    #[arg(long)]
    pub(crate) attached: bool,
    /// A live map of any program, as `ktally map` names it: an id, a pinned path, or a name
    #[arg(long = "map", value_name = "MAP")]
    pub(crate) maps: Vec<String>,
    /// The numbers of these maps only ever grow: they are counters, not gauges
    #[arg(long, requires = "maps")]
    pub(crate) as_counter: bool,
    /// These columns of an object without tags only grow: they are counters, not gauges
    #[arg(long, value_name = "COLUMN,...", value_delimiter = ',')]
    pub(crate) rate: Vec<String>,
    #[command(flatten)]
    pub(crate) hints: HintArgs,
    /// Listen here; may be repeated [127.0.0.1:9777, or the sockets that systemd has opened]
    #[arg(long, value_name = "ADDRESS:PORT|unix:PATH")]
    pub(crate) listen: Vec<String>,
    /// Another name of this host, by which requests may name it; may be repeated
    #[arg(long, value_name = "NAME")]
    pub(crate) host: Vec<String>,
    /// Run as this user once all of it counts
    #[arg(long, value_name = "NAME")]
    pub(crate) user: Option<String>,
    /// Have the kernel measure the runs of programs, and export them
    #[arg(long)]
    pub(crate) cost: bool,
    /// Give at most N rows of each table a series of their own, the largest first; the others are
    /// added up in one series, `other`
    #[arg(long, value_name = "N", default_value = "10000", value_parser = whole::<usize>(1, u32::MAX.into()), allow_negative_numbers = true)]
    pub(crate) max_series: usize,
    #[command(flatten)]
    pub(crate) loading: Loading,
}

impl ExportArgs {
    /// What is said about tables in place of tags.
    pub(crate) fn hints(&self) -> Hints {
        let sources = self.tally.len() + self.maps.len();
        Hints {
            are_for_several: sources != 1 || self.attached,
            ..self.hints.hints(&self.rate)
        }
    }
}

#[derive(Debug, Args)]
pub(crate) struct DiffArgs {
    /// What was counted before: a recording of `ktally top --record`, or readings of -o json or jsonl
    pub(crate) before: PathBuf,
    /// What was counted after
    pub(crate) after: PathBuf,
    #[command(flatten)]
    pub(crate) selection: Selection,
}

#[derive(Debug, Clone, Default, Args)]
pub(crate) struct Selection {
    /// Show only the first N rows, in the order of --sort; 0 shows only the footer
    ///
    /// The default is all rows; with --every on a terminal, as many rows as fit on the screen.
    #[arg(short = 'n', long, help_heading = SHOW, value_name = "N|all", value_parser = top, allow_negative_numbers = true)]
    pub(crate) top: Option<usize>,
    /// Sort by this column; `-COLUMN` reverses the order
    ///
    /// The default is the column that the tally names, or the first column of numbers. A histogram
    /// can be sorted by NAME.mean, NAME.p99 or NAME.sum.
    #[arg(short, long, help_heading = SHOW, value_name = "[-]COLUMN", value_parser = sort, allow_hyphen_values = true)]
    pub(crate) sort: Option<Sort>,
    /// Group by these fields only, and sum the numbers
    #[arg(long, help_heading = SHOW, value_name = "FIELD,...", value_delimiter = ',', value_parser = column)]
    pub(crate) by: Option<Vec<String>>,
    /// Show only rows with one of these values in this field; may be repeated
    ///
    /// Operators: `=` and `!=` (also of networks like 10.0.0.0/8), `~` and `!~` (patterns of `*` and
    /// `?`), and for numbers `<` `<=` `>` `>=` and `&` (any of these bits): `--where comm=dd,find --where 'p99>10ms'`. Numbers are
    /// counts, not rates.
    #[arg(long = "where", help_heading = SHOW, value_name = "FIELD=VALUE,...", value_parser = Condition::parse)]
    pub(crate) filters: Vec<Condition>,
}

impl Selection {
    /// The fields that it names.
    pub(crate) fn fields(&self) -> Vec<&str> {
        let by = self.by.iter().flatten();
        let filtered = self.filters.iter().map(|filter| &filter.field);
        let sorted = self.sort.iter().map(|sort| &sort.column);
        let names = by.chain(filtered).chain(sorted);
        names.map(String::as_str).collect()
    }
}

#[derive(Debug, Clone, Default, Args)]
pub(crate) struct View {
    #[command(flatten)]
    pub(crate) selection: Selection,
    /// Totals since counting began, rather than rates and differences
    ///
    /// A single reading shows totals by default if it counts a command (`-- COMMAND`), or if every rate
    /// is below 10/s.
    #[arg(long, help_heading = LOOK)]
    pub(crate) total: bool,
    /// Rates, even for a command or for rare events; of an object without tags, --rate=COLUMN says
    /// that a number only grows
    #[arg(long, help_heading = LOOK, value_name = "COLUMN,...", num_args = 0.., require_equals = true, value_delimiter = ',', conflicts_with = "total")]
    pub(crate) rate: Option<Vec<String>>,
    /// Show histograms as bars, one block per row
    #[arg(long, help_heading = LOOK)]
    pub(crate) histogram: bool,
    /// Exit with 4 if any event lost its key or its time, was missed or not reported, or any row was reset
    #[arg(long, hide_short_help = true)]
    pub(crate) strict: bool,
    /// Show numbers rather than names
    #[arg(long, help_heading = LOOK, hide_short_help = true)]
    pub(crate) raw: bool,
}

/// What says how to show tables, in place of tags.
#[derive(Debug, Default, Args)]
pub(crate) struct HintArgs {
    /// Show only these tables, in this order
    #[arg(long, help_heading = SHOW, value_name = "TABLE,...", value_delimiter = ',')]
    pub(crate) tables: Vec<String>,
    /// Show a field of the key or value by a decoder, as `ip=ksym` or `slots=log2`; may be repeated
    #[arg(long = "as", help_heading = LOOK, value_name = "FIELD=DECODER", value_parser = decoder)]
    pub(crate) shown_as: Vec<(String, Decoder)>,
}

impl CompileArgs {
    /// For clang.
    pub(crate) fn flags(&self) -> Vec<OsString> {
        let with = |letter: &str, text: &OsString| {
            let mut flag = OsString::from(letter);
            flag.push(text);
            flag
        };
        let include = self.include.iter().map(|it| with("-I", it));
        let define = self.define.iter().map(|it| with("-D", it));
        let words = self.cflags.iter().flat_map(|it| it.split_whitespace());
        include
            .chain(define)
            .chain(words.map(OsString::from))
            .collect()
    }
}

impl HintArgs {
    /// With the columns that only grow.
    pub(crate) fn hints(&self, counters: &[String]) -> Hints {
        Hints {
            tables: self.tables.clone(),
            counters: counters.to_vec(),
            decoders: self.shown_as.clone(),
            are_for_several: false,
        }
    }
}

/// How a C file is compiled.
#[derive(Debug, Default, Args)]
pub(crate) struct CompileArgs {
    /// Of a C file: look for headers in this folder too; may be repeated
    #[arg(short = 'I', help_heading = COUNT, hide_short_help = true, value_name = "FOLDER")]
    pub(crate) include: Vec<OsString>,
    /// Of a C file: define a macro, NAME or NAME=VALUE; may be repeated
    #[arg(short = 'D', help_heading = COUNT, hide_short_help = true, value_name = "MACRO")]
    pub(crate) define: Vec<OsString>,
    /// Of a C file: more flags for clang, as `--cflags='-Wno-unused -O1'`
    #[arg(long, help_heading = COUNT, hide_short_help = true, value_name = "FLAGS", allow_hyphen_values = true)]
    pub(crate) cflags: Option<String>,
}

#[derive(Debug, Default, Args)]
pub(crate) struct Loading {
    #[command(flatten)]
    pub(crate) compile: CompileArgs,
    /// Set a constant of an object without tags (`const volatile` in C); `ktally list FILE` shows them
    #[arg(long = "set", help_heading = COUNT, hide_short_help = true, value_name = "NAME=VALUE", value_parser = pair)]
    pub(crate) settings: Vec<(String, String)>,
    /// Attach a program to a target that its section does not name, as `p=uprobe:libc.so.6:malloc`
    #[arg(long = "attach", help_heading = COUNT, hide_short_help = true, value_name = "PROGRAM=TARGET", value_parser = pair)]
    pub(crate) targets: Vec<(String, String)>,
    /// Make room for N rows in each table (arrays keep their size)
    #[arg(long, help_heading = COUNT, hide_short_help = true, value_name = "N", value_parser = whole::<u32>(1, u32::MAX.into()), allow_negative_numbers = true)]
    pub(crate) max_rows: Option<u32>,
    /// Keep each row once for each CPU: for hosts where many CPUs count into the same rows
    #[arg(long, help_heading = COUNT, hide_short_help = true)]
    pub(crate) per_cpu_rows: bool,
    /// Load every program, also where several kinds of programs count the same event
    /// [only the first kind that loads]
    #[arg(long, help_heading = COUNT, hide_short_help = true)]
    pub(crate) all_programs: bool,
}

#[derive(Debug, Args)]
pub(crate) struct AttachArgs {
    /// A name from `ktally list`, a .bpf.c or a .bpf.o file; its own options come after it
    pub(crate) tally: OsString,
    /// What to call it [the tally's name]
    #[arg(long = "as", value_name = "INSTANCE")]
    pub(crate) name: Option<String>,
    /// Count by these fields as well, so that `read --by` has them: `--by pid` is `--by-pid`
    #[arg(long, value_name = "FIELD,...", value_delimiter = ',', value_parser = column)]
    pub(crate) by: Option<Vec<String>>,
    /// Take the place of what is attached under this name, without losing a count
    #[arg(long)]
    pub(crate) replace: bool,
    /// Keep a second set of tables for `ktally rotate`; this doubles the memory of the tables
    #[arg(long)]
    pub(crate) rotatable: bool,
    /// Let the members of a group read it, without privileges [root alone]
    #[arg(long, value_name = "GROUP")]
    pub(crate) readable_by: Option<String>,
    #[command(flatten)]
    pub(crate) loading: Loading,
}

#[derive(Debug, Args)]
pub(crate) struct StatusArgs {
    /// Measure for a second how many events there are, and what one costs
    #[arg(long)]
    pub(crate) cost: bool,
}

#[derive(Debug, Args)]
pub(crate) struct RotateArgs {
    /// One from `ktally status`, attached with --rotatable
    #[arg(value_name = "INSTANCE")]
    pub(crate) instance: String,
    /// Keep N files: --output-file holds this reading only, FILE.1 the one before, and so on
    #[arg(long, value_name = "N", value_parser = whole::<usize>(1, u64::MAX), allow_negative_numbers = true)]
    pub(crate) keep: Option<usize>,
    #[command(flatten)]
    pub(crate) view: View,
}

#[derive(Debug, Args)]
pub(crate) struct DetachArgs {
    /// One from `ktally status`
    #[arg(required_unless_present = "all", value_name = "INSTANCE")]
    pub(crate) instances: Vec<String>,
    /// Everything that is attached
    #[arg(long, conflicts_with = "instances")]
    pub(crate) all: bool,
    /// Stop counting, but leave what was counted to be read
    #[arg(long)]
    pub(crate) keep: bool,
    #[command(flatten)]
    pub(crate) view: View,
}

#[derive(Debug, Args)]
pub(crate) struct ManArgs {
    /// Where to: the pages of these names are replaced
    pub(crate) folder: PathBuf,
}
