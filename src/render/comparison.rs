//! Two files side by side: what was counted before and after, and the change.

use std::io::{self, Write};

use super::column::seconds;
use super::metric::{rounded, total};
use super::writer::{Head, RowWriter};
use super::{Format, Style, heading, json, rows_of};
use crate::recording::{ComparedRow, Comparison, Measure};
use crate::schema::{MetricKind, Table, Value};

/// The rows of a table to show, in their order.
pub(crate) struct Compared<'c> {
    pub(crate) comparison: &'c Comparison,
    /// Grouping leaves fewer labels.
    pub(crate) table: Table,
    pub(crate) rows: Vec<ComparedRow>,
    /// Before --top.
    pub(crate) matching: usize,
}

/// Writes all tables.
pub(crate) fn comparisons(
    out: &mut dyn Write,
    (format, style): (Format, Style),
    all: &[Compared<'_>],
) -> io::Result<()> {
    if format.is_json() {
        let objects: Vec<Value<'_>> = all.iter().map(Compared::object).collect();
        if format == Format::Json {
            return writeln!(out, "{}", json::text(&Value::List(objects)));
        }
        let mut objects = objects.iter();
        return objects.try_for_each(|object| writeln!(out, "{}", json::text(object)));
    }
    for (i, compared) in all.iter().enumerate() {
        if format == Format::Table && i > 0 {
            writeln!(out)?;
        }
        compared.write(out, format, style)?;
    }
    out.flush()
}

/// By how much a number changed.
pub(crate) fn change_text(now: f64, before: f64) -> String {
    match now / before {
        _ if before == 0.0 => if now > 0.0 { "new" } else { "-" }.to_owned(),
        0.0 => "gone".to_owned(),
        ratio if ratio >= 2.0 => format!("×{ratio:.1}"),
        ratio => format!("{:+.0}%", (ratio - 1.0) * 100.0),
    }
}

impl Compared<'_> {
    fn write(&self, out: &mut dyn Write, format: Format, style: Style) -> io::Result<()> {
        let is_table = format == Format::Table;
        let measures = self.measures(is_table);
        let mut heads = Vec::new();
        if !is_table {
            heads.extend(["table", "change"].map(|name| format.head(name)));
        }
        heads.extend(
            self.table
                .labels
                .iter()
                .map(|label| format.head(&label.name)),
        );
        for measure in &measures {
            let name = measure.name();
            if is_table {
                let rate = if measure.has_rate() { "/s" } else { "" };
                heads.push(Head::number(format!("{}{rate}", name.to_uppercase())));
                heads.extend(["BEFORE", "CHANGE"].map(Head::number));
            } else {
                let parts = ["before", "after", "change"];
                heads.extend(parts.map(|part| Head::number(format!("{name}_{part}"))));
            }
        }
        if is_table && !style.no_header {
            let [before, after] = self.comparison.seconds;
            let title = format!(
                "{}: {after:.1} s, before {before:.1} s",
                self.comparison.tally
            );
            heading(out, &title, &style)?;
        }
        let mut writer = RowWriter::new(format, style, heads);
        for row in &self.rows {
            if !is_table {
                writer.cell(&(&self.table.name).into());
                writer.cell(&kind(row).into());
            }
            row.names.iter().for_each(|name| writer.cell(&name.value()));
            for measure in &measures {
                let cells = match is_table {
                    true => self.shown(measure, row).map(Value::from),
                    false => self.exact(measure, row),
                };
                cells.iter().for_each(|cell| writer.cell(cell));
            }
            writer.end_row(out)?;
        }
        let footer = rows_of(format, self.rows.len(), self.matching);
        writer.end(out, Some(&footer))
    }

    /// A table has only what is not zero everywhere, and p99 of histograms.
    fn measures(&self, is_table: bool) -> Vec<Measure<'_>> {
        let mut measures = Measure::of(&self.table);
        if is_table {
            measures.retain(|it| {
                let is_histogram = it.metric.kind == MetricKind::Histogram;
                let is_p99 = it.statistic.is_some_and(|(part, _)| part == "p99");
                let mut cells = self.rows.iter().flat_map(|row| row.cells.iter().flatten());
                is_histogram == is_p99 && cells.any(|cells| it.number(cells).unwrap_or(0.0) != 0.0)
            });
        }
        measures
    }

    /// The number, or its rate, before and after.
    fn numbers(&self, measure: &Measure<'_>, row: &ComparedRow) -> [Option<f64>; 2] {
        [0, 1].map(|side| {
            let seconds = match self.comparison.seconds[side] {
                seconds if measure.has_rate() && seconds > 0.0 => seconds,
                _ => 1.0,
            };
            Some(measure.number(row.cells[side].as_ref()?)? / seconds)
        })
    }

    fn shown(&self, measure: &Measure<'_>, row: &ComparedRow) -> [String; 3] {
        let [before, after] = self.numbers(measure, row);
        let metric = measure.metric;
        let text = |number: Option<f64>| match number {
            None => "-".to_owned(),
            Some(number) if measure.has_rate() || measure.statistic.is_some() => {
                rounded(metric, number)
            }
            Some(number) => total(metric, number as i128),
        };
        let change = change_text(after.unwrap_or(0.0), before.unwrap_or(0.0));
        [text(after), text(before), change]
    }

    fn exact(&self, measure: &Measure<'_>, row: &ComparedRow) -> [Value<'static>; 3] {
        let number = |side: usize| {
            let cells = row.cells[side].as_ref();
            cells.map_or(Value::Null, |cells| match measure.statistic {
                Some((_, statistic)) => statistic.value(&measure.metric.histogram(cells)),
                None => measure.exact(cells).map_or(Value::Null, Value::Int),
            })
        };
        let change = match self.numbers(measure, row) {
            [Some(before), Some(after)] if before != 0.0 => {
                Value::Float((after / before * 1e6).round() / 1e6)
            }
            _ => Value::Null,
        };
        [number(0), number(1), change]
    }

    fn object(&self) -> Value<'_> {
        let [before, after] = self.comparison.seconds;
        let both = vec![("before", seconds(before)), ("after", seconds(after))];
        let measures = self.measures(false);
        let rows = self.rows.iter().map(|row| {
            let labels = self.table.labels.iter().zip(&row.names);
            let labels = labels.map(|(label, name)| (label.name.as_str(), name.value()));
            let numbers = measures.iter().map(|measure| {
                let [before, after, change] = self.exact(measure, row);
                Value::Fields(vec![
                    ("column", measure.path().into()),
                    ("before", before),
                    ("after", after),
                    ("change", change),
                ])
            });
            Value::Fields(vec![
                ("change", kind(row).into()),
                ("labels", Value::Fields(labels.collect())),
                ("numbers", Value::List(numbers.collect())),
            ])
        });
        Value::Fields(vec![
            ("tally", (&self.comparison.tally).into()),
            ("table", (&self.table.name).into()),
            ("seconds", Value::Fields(both)),
            ("rows", Value::List(rows.collect())),
        ])
    }
}

fn kind(row: &ComparedRow) -> &'static str {
    match &row.cells {
        [None, _] => "new",
        [_, None] => "gone",
        _ => "both",
    }
}
