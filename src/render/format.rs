//! The formats of output, and what each is called.

use anyhow::Result;

use super::flame;
use super::writer::Head;
use crate::schema::{Table, whole_number};

/// How output is written. `docs/output.md` says what each format means.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Format {
    #[default]
    Table,
    Json,
    Jsonl,
    Csv,
    /// One stack per line, frames with `;` between them, then the first counter.
    Folded,
    Svg,
    /// What Prometheus reads: totals, once.
    OpenMetrics,
    /// The same in the older format, which the textfile collector reads.
    Prometheus,
}

impl Format {
    pub(crate) const ALL: [Self; 8] = [
        Self::Table,
        Self::Json,
        Self::Jsonl,
        Self::Csv,
        Self::Folded,
        Self::Svg,
        Self::OpenMetrics,
        Self::Prometheus,
    ];

    /// Those of rows, which need not be stacks.
    pub(crate) const ROWS: [Self; 4] = [Self::Table, Self::Json, Self::Jsonl, Self::Csv];

    /// As it is typed, and one line of help.
    pub(crate) fn describe(self) -> (&'static str, &'static str) {
        match self {
            Self::Table => ("table", "Columns for people: rates, scaled numbers"),
            Self::Json => (
                "json",
                "One JSON document: an object, or an array of them; exact numbers in base units",
            ),
            Self::Jsonl => ("jsonl", "One such object per line"),
            Self::Csv => ("csv", "One row per line, exact numbers in base units"),
            Self::Folded => ("folded", "One stack per line, for flame-graph tools"),
            Self::Svg => ("svg", "A flame graph"),
            Self::OpenMetrics => (
                "openmetrics",
                "Totals for Prometheus, as `ktally export` serves them",
            ),
            Self::Prometheus => (
                "prometheus",
                "The same in its text format 0.0.4, for the textfile collector",
            ),
        }
    }

    pub(crate) fn name(self) -> &'static str {
        self.describe().0
    }

    /// What stands over a column of text with this name.
    pub(super) fn head(self, name: &str) -> Head {
        let text = match self {
            Self::Table => name.to_uppercase(),
            _ => name.to_owned(),
        };
        Head::text(text)
    }

    /// A number in a footer: for people with separators.
    pub(super) fn count(self, number: u64) -> String {
        match self {
            Self::Table => whole_number(number.into()),
            _ => number.to_string(),
        }
    }

    /// `1 row`, `2,000 rows`.
    pub(super) fn plural(self, number: u64, what: &str) -> String {
        let s = if number == 1 { "" } else { "s" };
        format!("{} {what}{s}", self.count(number))
    }

    /// Whether programs that read JSON take it.
    pub(crate) fn is_json(self) -> bool {
        matches!(self, Self::Json | Self::Jsonl)
    }

    /// Whether it is of totals, as a metric is.
    pub(crate) fn is_of_metrics(self) -> bool {
        matches!(self, Self::OpenMetrics | Self::Prometheus)
    }

    /// Refuses tables that have nothing to show in this format, before anything
    /// is loaded. `by` are the labels that rows are grouped by.
    pub(crate) fn check(self, tables: &[Table], by: Option<&[String]>) -> Result<()> {
        match self {
            Self::Folded | Self::Svg => flame::check(tables, by),
            _ => Ok(()),
        }
    }
}
