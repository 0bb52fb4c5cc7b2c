//! The objects of the API. A reading is that of `-o jsonl`, with what is not sent added
//! up, and histograms without their buckets where they are not asked for.

use serde_json::{Map, Value, json};

use super::view::View;
use crate::render::{json_text, json_value, metric_fields, row_value};
use crate::schema::{Decoder, Label, MetricKind, Names, Table, Value as Shown};
use crate::snapshot::{Reading, Row, Selection, Snapshot, TableSnapshot};

/// The most rows whose histograms are sent whole.
const MOST_DETAILS: usize = 50;

/// The most bytes of a reading. One that is larger has fewer rows.
const MOST_BYTES: usize = 256 << 10;

/// What a reading is of.
pub(crate) struct Subject<'s> {
    pub(crate) name: &'s str,
    pub(crate) summary: &'s str,
    pub(crate) tables: &'s [Table],
    /// Of an interval, or since counting began.
    pub(crate) reading: &'s Reading,
    pub(crate) is_interval: bool,
    /// Of this reading among those of the tally.
    pub(crate) seq: u64,
    /// Why it follows no other one.
    pub(crate) gap: Option<&'static str>,
}

/// A reading as this view shows it.
pub(crate) fn reading(view: &View, of: &Subject<'_>, names: &dyn Names) -> String {
    let mut top = view.top;
    loop {
        let text = with_top(view, of, names, top);
        if text.len() <= MOST_BYTES || top == 0 {
            return text;
        }
        top /= 2;
    }
}

fn with_top(view: &View, of: &Subject<'_>, names: &dyn Names, top: usize) -> String {
    let tables = of.tables.iter().zip(&of.reading.tables);
    let all = tables.map(|(table, reading)| view.query.apply(table, &reading.rows, names));
    let mut shown: Vec<Selection<'_>> = all.collect();
    let besides: Vec<Beside> = shown
        .iter_mut()
        .map(|rows| Beside {
            detail: view.detail.as_ref().map(|key| details(rows, key, names)),
            rest: rest(rows, top),
        })
        .collect();
    let tables = shown.iter().zip(&of.reading.tables);
    let tables = tables
        .map(|(shown, reading)| TableSnapshot::new(shown, reading, &view.query, names, false));
    let called = (of.name, of.summary);
    let snapshot = Snapshot::new(called, of.reading, of.is_interval, tables.collect());
    let mut value = json_value(&snapshot);
    value["seq"] = of.seq.into();
    value["gap"] = of.gap.into();
    let tables = value["tables"].as_array_mut().into_iter().flatten();
    for ((table, shown), beside) in tables.zip(&shown).zip(besides) {
        let rows = table["rows"].as_array_mut().into_iter().flatten();
        rows.for_each(|row| strip(row, &shown.table));
        if let Some(other) = table.get_mut("other") {
            strip(other, &shown.table);
        }
        table["rest"] = beside.rest;
        if let Some(detail) = beside.detail {
            table["detail"] = detail;
        }
    }
    json_text(&value)
}

/// What stands beside the rows of a table.
struct Beside {
    rest: Value,
    detail: Option<Value>,
}

/// Leaves the rows that are sent; how many others there are, and what they add up to.
fn rest(rows: &mut Selection<'_>, top: usize) -> Value {
    let (count, cells) = rows.cut(top);
    let mut sums = row_value(&rows.table, &Row::of_cells(&cells));
    strip(&mut sums, &rows.table);
    let mut rest = json!({ "rows": count });
    if let (Value::Object(rest), Value::Object(sums)) = (&mut rest, sums) {
        rest.extend(sums);
    }
    rest
}

/// The rows of a key, or of a part of one, with their buckets.
fn details(all: &Selection<'_>, key: &Map<String, Value>, names: &dyn Names) -> Value {
    let wanted = |label: &Label| key.get(&label.name).cloned();
    let labels = all.table.labels.iter();
    let labels: Vec<_> = labels.filter_map(|it| Some((it, wanted(it)?))).collect();
    let is_it = |bytes: &[u8]| {
        let mut labels = labels.iter();
        labels.all(|(label, wanted)| json_value(&names.of(label, bytes)) == *wanted)
    };
    // A table without keys has one row.
    let is_asked = !labels.is_empty() || all.table.labels.is_empty();
    let most = if is_asked { MOST_DETAILS } else { 0 };
    let picked = all.pick(most, is_it);
    let rows = picked.named(names, false);
    rows.iter()
        .map(|row| row_value(&picked.table, &row))
        .collect()
}

/// Takes the buckets out of a row's histograms.
fn strip(row: &mut Value, table: &Table) {
    let histograms = table.metrics.iter();
    let histograms = histograms.filter(|metric| metric.kind == MetricKind::Histogram);
    for histogram in histograms {
        let histogram = row.get_mut(&histogram.name).and_then(Value::as_object_mut);
        histogram.map(|it| it.shift_remove("buckets"));
    }
}

/// A tally, for `/api/v1/tallies`.
pub(crate) struct Listed<'l> {
    pub(crate) name: &'l str,
    /// What it is an instance of.
    pub(crate) tally: &'l str,
    /// `tally`, `instance` or `map`.
    pub(crate) kind: &'static str,
    /// How `ktally` prints the same.
    pub(crate) command: &'l str,
    pub(crate) summary: &'l str,
    /// Whether it can be read now.
    pub(crate) is_up: bool,
    pub(crate) tables: &'l [Table],
    pub(crate) max_rows: Vec<Option<u32>>,
}

/// What there is to read.
pub(crate) fn tallies(host: Value, all: &[Listed<'_>]) -> String {
    let mut catalogue = host;
    let tallies = all.iter().map(|listed| {
        let tables = listed.tables.iter().zip(&listed.max_rows);
        let tables = tables.map(|(table, max_rows)| table_value(table, *max_rows));
        json!({
            "name": listed.name,
            "tally": listed.tally,
            "kind": listed.kind,
            "command": listed.command,
            "summary": listed.summary,
            "up": listed.is_up,
            "tables": tables.collect::<Value>(),
        })
    });
    catalogue["tallies"] = tallies.collect();
    json_text(&catalogue)
}

fn table_value(table: &Table, max_rows: Option<u32>) -> Value {
    let label = |label: &Label| {
        let decoder = label.decoder.as_ref().map(Decoder::tag);
        json!({"name": label.name, "as": decoder, "idle": label.idle})
    };
    let metric = |metric| json_value(&Shown::Fields(metric_fields(metric)));
    json!({
        "name": table.name,
        "help": table.help,
        "max_rows": max_rows,
        "sort_by": table.sort_by,
        "keys": table.labels.iter().map(label).collect::<Value>(),
        "metrics": table.metrics.iter().map(metric).collect::<Value>(),
        "details": table.details.iter().map(label).collect::<Value>(),
    })
}

/// Why something was not answered.
pub(crate) fn error(why: &str) -> String {
    json_text(&json!({ "error": why }))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use std::time::SystemTime;

    use super::*;
    use crate::schema::testing::{member, structure, text};
    use crate::schema::{Histogram, Plain, Scale, Tags, Type};
    use crate::snapshot::{Rows, TableReading};

    /// A name of `len` characters, a counter and a histogram.
    fn table(len: usize) -> Table {
        let key = structure(len, vec![member("name", 0, &text(len))]);
        let columns = vec![
            member("count", 0, &Type::unsigned(8)),
            member("size", 8, &Scale::Log2.ty()),
        ];
        let value = structure(8 + 8 * Histogram::CELLS, columns);
        Table::new("t", &Tags::default(), 8, &key, &value)
    }

    fn answer(query: &str, len: usize, rows: &[(&str, u64)]) -> Value {
        let table = table(len);
        let mut all = Rows::of(&table);
        for (name, count) in rows {
            let mut key = vec![0; len];
            key[..name.len()].copy_from_slice(name.as_bytes());
            let cells = all.push(&key);
            cells[0] = *count;
            // All of one size, 3.
            (cells[1], cells[2 + 2]) = (3 * count, *count);
        }
        let mut other = vec![0; table.cells()];
        other[0] = 5;
        let reading = Reading {
            time: SystemTime::UNIX_EPOCH,
            seconds: 2.0,
            tables: vec![TableReading {
                rows: all,
                other: Some(other),
                ..TableReading::default()
            }],
            missed: Some(0),
            missed_by: Vec::new(),
            gaps: None,
            unraised: None,
            incomplete: None,
        };
        let of = Subject {
            name: "t",
            summary: "",
            tables: &[table],
            reading: &reading,
            is_interval: true,
            seq: 7,
            gap: None,
        };
        let text = super::reading(&View::parse(query).unwrap(), &of, &Plain);
        serde_json::from_str(&text).unwrap()
    }

    const ROWS: [(&str, u64); 4] = [("a", 10), ("b", 30), ("c", 20), ("d", 1)];

    #[test]
    fn what_is_not_sent_is_added_up() {
        let answer = answer("top=2", 8, &ROWS);
        let size = |count: u64, p50: f64, p90: f64, p99: f64| json!({"count": count, "sum": 3 * count, "mean": 3.0, "p50": p50, "p90": p90, "p99": p99});
        let table = &answer["tables"][0];
        assert_eq!((&answer["seq"], &answer["gap"]), (&json!(7), &json!(null)));
        assert_eq!(table["rows"][0]["name"], "b");
        assert_eq!(table["rows"][0]["size"], size(30, 3.0, 3.8, 3.98));
        assert_eq!(table["rows"][1]["name"], "c");
        assert_eq!(table["rows"][2], json!(null));
        assert_eq!(
            table["rest"],
            json!({"rows": 2, "count": 11, "size": size(11, 3.0, 3.8, 3.98)})
        );
        assert_eq!(table["other"]["count"], 5);
        assert_eq!(table["other"]["size"]["buckets"], json!(null));
        assert_eq!(table["detail"], json!(null));
    }

    #[test]
    fn buckets_are_sent_of_what_is_asked_for() {
        let query = "top=1&detail=%7B%22name%22%3A%22d%22%7D";
        let answer = answer(query, 8, &ROWS);
        let table = &answer["tables"][0];
        assert_eq!(table["detail"].as_array().unwrap().len(), 1);
        assert_eq!(table["detail"][0]["name"], "d");
        assert_eq!(table["detail"][0]["size"]["buckets"], json!([[4, 1]]));
        assert_eq!(table["rest"]["rows"], 3);
        // A field that the table does not have selects nothing.
        let answer = super::tests::answer("detail=%7B%22x%22%3A1%7D", 8, &ROWS);
        assert_eq!(answer["tables"][0]["detail"], json!([]));
    }

    #[test]
    fn a_filter_leaves_nothing_else() {
        let answer = answer("where=name%3Da&top=0", 8, &ROWS);
        let table = &answer["tables"][0];
        assert_eq!(table["rows"], json!([]));
        assert_eq!(table["rest"]["count"], 10);
        assert_eq!(table["other"], json!(null));
    }

    #[test]
    fn a_reading_that_is_too_large_has_fewer_rows() {
        let names: Vec<String> = (0..400).map(|i| format!("{i:0>1000}")).collect();
        let rows: Vec<(&str, u64)> = names.iter().map(|name| (&**name, 1)).collect();
        let answer = answer("top=400", 1024, &rows);
        let table = &answer["tables"][0];
        let sent = table["rows"].as_array().unwrap().len();
        assert!((100..400).contains(&sent), "{sent}");
        assert_eq!(table["rest"]["rows"], 400 - sent);
        assert!(answer.to_string().len() <= MOST_BYTES);
    }
}
