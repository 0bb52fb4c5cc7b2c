//! Outputs: snapshots as text. Pure functions of what they are given; no map, no
//! file descriptor, no clock.

mod bars;
mod changes;
mod column;
mod comparison;
mod described;
mod entries;
mod fit;
mod flame;
mod format;
mod grid;
mod json;
mod metric;
mod openmetrics;
mod page;
mod parts;
mod reading;
mod screen;
mod writer;

use std::borrow::Cow;
use std::io::{self, Write};

use unicode_width::UnicodeWidthStr;

pub(crate) use changes::{Change, Changes};
pub(crate) use column::{Column, object, seconds, write_json, write_rows};
pub(crate) use comparison::{Compared, change_text, comparisons};
pub(crate) use described::{kind_name, metric_fields};
pub(crate) use entries::{Entries, Entry};
pub(crate) use format::Format;
pub(crate) use grid::{Grid, GridCell, GridRow, Look};
pub(crate) use json::{json_value, row_value, text as json_text};
pub use openmetrics::labels;
pub(crate) use openmetrics::{
    Counted, CountedTable, Dialect, Encoder, Families, FamilyKind, OTHER, PIECE, Series, Texts,
    row_labels,
};
pub(crate) use page::page;

use crate::schema::Unit;
use crate::snapshot::{Snapshot, TableSnapshot};
use crate::text::escape;

/// What a person at a terminal can choose.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Style {
    pub(crate) color: bool,
    /// Histograms as bars, also where a table has many rows.
    pub(crate) histogram: bool,
    /// Totals, rather than rates.
    pub(crate) totals: bool,
    /// The same where every rate is low.
    pub(crate) rare_totals: bool,
    pub(crate) no_header: bool,
    /// Online, for the title.
    pub(crate) cpus: usize,
    /// The columns of a terminal, which no line of a table exceeds.
    pub(crate) width: Option<usize>,
    /// Whether the locale has nothing else.
    pub(crate) ascii: bool,
}

impl Style {
    /// For numbers of so many seconds. Fewer than are shown give no rates: two
    /// events in a microsecond are not two million a second.
    fn over(self, seconds: f64) -> Self {
        Self {
            totals: self.totals || seconds < LEAST_SECONDS,
            ..self
        }
    }

    /// For the numbers of a snapshot.
    fn of(self, snapshot: &Snapshot<'_>) -> Self {
        let is_rare = self.rare_totals && metric::is_rare(snapshot);
        let mut style = self.over(snapshot.seconds);
        style.totals |= is_rare;
        style
    }

    /// Numbers and marks, which are not the kernel's text, as the locale has them.
    fn glyphs<'t>(&self, text: &'t str) -> Cow<'t, str> {
        if !self.ascii || text.is_ascii() {
            return Cow::Borrowed(text);
        }
        let ascii = text.replace('µ', "u").replace('∞', "inf");
        Cow::Owned(ascii.replace('…', "~"))
    }
}

/// What is rounded to `0.1 s`.
const LEAST_SECONDS: f64 = 0.05;

/// `5.0 s`; a shorter time in its own unit.
fn span(seconds: f64) -> String {
    if seconds < LEAST_SECONDS {
        Unit::Time(1).scale(seconds * 1e9)
    } else {
        format!("{seconds:.1} s")
    }
}

/// Writes one snapshot after the other.
#[derive(Debug)]
pub(crate) struct Renderer {
    format: Format,
    style: Style,
    height: Option<usize>,
    written: bool,
}

impl Renderer {
    pub(crate) fn new(format: Format, style: Style) -> Self {
        Self {
            format,
            style,
            height: None,
            written: false,
        }
    }

    /// Limits tables to the width of a terminal, unless they are shown whole, and those
    /// of each reading to this many lines. Each keeps at least one row.
    pub(crate) fn fit(&mut self, width: usize, height: Option<usize>) {
        self.style.width = self.style.width.and(Some(width));
        self.height = height;
    }

    /// A snapshot of each tally, whole: with its rows shown of rows read, what was
    /// dropped and what was missed. `clock` stands over their tables.
    pub(crate) fn render(
        &mut self,
        out: &mut dyn Write,
        snapshots: &[Snapshot<'_>],
        clock: Option<&str>,
    ) -> io::Result<()> {
        match self.format {
            Format::Table => {
                if self.written {
                    writeln!(out)?;
                }
                out.write_all(&screen::tables(snapshots, clock, self.height, &self.style))?;
            }
            Format::Json | Format::Jsonl => json::render(out, self.format, snapshots)?,
            Format::Csv => {
                let no_header = self.style.no_header || self.written;
                let style = Style {
                    no_header,
                    ..self.style
                };
                for snapshot in snapshots {
                    reading::csv(out, snapshot, style)?;
                }
            }
            Format::OpenMetrics => openmetrics::render(out, Dialect::OpenMetrics, snapshots)?,
            Format::Prometheus => openmetrics::render(out, Dialect::Prometheus, snapshots)?,
            Format::Folded => {
                for snapshot in snapshots {
                    flame::folded(out, snapshot)?;
                }
            }
            Format::Svg => {
                for snapshot in snapshots {
                    flame::svg(out, snapshot)?;
                }
            }
        }
        self.written = true;
        out.flush()
    }
}

/// `10 of 312 rows; 0 dropped, 0 missed`. A table says only how many `--top` left out.
fn footer(snapshot: &Snapshot<'_>, table: &TableSnapshot<'_>, format: Format) -> String {
    let shown = table.rows.len();
    let rows = match format {
        Format::Table => rows_of(format, shown, table.matching),
        _ => format!(
            "{shown} of {}",
            format.plural(table.rows_read as u64, "row")
        ),
    };
    let held_back = if table.held_back { " (--top all)" } else { "" };
    let known =
        |lost: Option<u64>| lost.map_or_else(|| "unknown".to_owned(), |it| format.count(it));
    let mut parts = format!(
        "{rows}{held_back}; {} dropped, {} missed",
        known(table.dropped),
        known(snapshot.missed)
    );
    let gap = if snapshot.gaps == Some(1) {
        "gap"
    } else {
        "gaps"
    };
    for (lost, what) in [
        (snapshot.gaps.unwrap_or(0), gap),
        (snapshot.unraised.unwrap_or(0), "unraised"),
        (table.reset, "reset"),
        (table.uncertain, "uncertain"),
    ] {
        if lost > 0 {
            parts += &format!(", {} {what}", format.count(lost));
        }
    }
    if table.leaves_out_other {
        parts += ", (other) left out";
    }
    parts += &since_the_start(snapshot, table);
    if snapshot.incomplete.is_some() {
        parts += "; incomplete";
    }
    parts
}

/// `10 of 312 rows`, or `312 rows` where all of them are shown.
fn rows_of(format: Format, shown: usize, matching: usize) -> String {
    let all = format.plural(matching as u64, "row");
    match shown == matching {
        true => all,
        false => format!("{} of {all}", format.count(shown as u64)),
    }
}

/// The columns that are not of the interval.
fn since_the_start(snapshot: &Snapshot<'_>, table: &TableSnapshot<'_>) -> String {
    let extremes = table.table.metrics.iter();
    let extremes = extremes.filter(|it| snapshot.is_interval && it.kind.is_extreme());
    let extremes: Vec<&str> = extremes.map(|metric| metric.name.as_str()).collect();
    match &extremes[..] {
        [] => String::new(),
        extremes => format!("; since the start: {}", extremes.join(", ")),
    }
}

/// What stands over a reading: `span` is on the right.
fn title(out: &mut dyn Write, text: &str, span: &str, style: &Style) -> io::Result<()> {
    let text = escape(text);
    let span = style.glyphs(span);
    let room = |limit: usize| limit.saturating_sub(span.width() + 2);
    let text = fit::shortened(&text, style.width.map_or(usize::MAX, room), *style);
    let space = 54usize.min(style.width.map_or(usize::MAX, room));
    let space = " ".repeat(space.saturating_sub(text.width()));
    heading(out, &format!("{text}{space}  {span}"), style)
}

/// A sentence for people, on as many lines as it takes.
pub(crate) fn sentence(out: &mut dyn Write, text: &str, style: &Style) -> io::Result<()> {
    writeln!(out, "{}", fit::wrapped(&escape(text), style))
}

/// A line that stands out.
pub(crate) fn heading(out: &mut dyn Write, text: &str, style: &Style) -> io::Result<()> {
    let bold = anstyle::Style::new().bold();
    let text = fit::wrapped(&escape(text), style);
    match style.color {
        true => writeln!(out, "{bold}{text}{bold:#}"),
        false => writeln!(out, "{text}"),
    }
}

#[cfg(test)]
mod tests;
