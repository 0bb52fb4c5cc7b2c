//! Snapshots, for the tests of what is written of them.

#![allow(clippy::unwrap_used)]

mod bars;
mod flame;
mod maxima;
mod openmetrics;
mod programs;
mod screen;
mod table;

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use super::*;
use crate::names::HostNames;
use crate::schema::{Histogram, Kind, Member, Place, Table, Tags, Type, Value};
use crate::snapshot::{Rows, Selection, TableSnapshot};

fn ty(name: &str, size: usize, kind: Kind) -> Arc<Type> {
    let name = name.to_owned();
    Arc::new(Type { name, size, kind })
}

/// A member of a struct that begins with this byte.
fn member(name: &str, byte: usize, ty: &Arc<Type>, tags: &[&str]) -> Member {
    let mut all = Tags::default();
    tags.iter()
        .for_each(|tag| all.add(&format!("ktally:{tag}")));
    Member {
        name: name.to_owned(),
        place: Place::whole(Arc::clone(ty)).shifted(byte * 8),
        tags: all,
    }
}

fn comm() -> Member {
    let (element, len) = (ty("char", 1, Kind::Char), 16);
    let comm = ty("char[16]", 16, Kind::Array { element, len });
    member("comm", 0, &comm, &["as:comm"])
}

/// A table of these columns; the labels are a process name and a system call.
fn table(name: &str, value: Vec<Member>) -> Table {
    let key = vec![
        comm(),
        member("call", 16, &Type::unsigned(4), &["as:syscall"]),
    ];
    let size = value.iter().map(|member| member.place.ty.size).sum();
    let mut tags = Tags::default();
    tags.add("ktally:table:what happened");
    Table::new(
        name,
        &tags,
        8,
        &ty("struct key", 20, Kind::Struct(key)),
        &ty("struct value", size, Kind::Struct(value)),
    )
}

fn counter(name: &str, byte: usize) -> Member {
    member(name, byte, &Type::unsigned(8), &["counter:all of them"])
}

fn latency(byte: usize) -> Member {
    let size = 8 * Histogram::CELLS;
    let histogram = ty("struct tally_histogram", size, Kind::Struct(vec![]));
    let tags = ["histogram:time of one call", "unit:ns"];
    member("latency", byte, &histogram, &tags)
}

fn syscalls() -> Table {
    let time = member("time", 16, &Type::unsigned(8), &["counter:", "unit:ns"]);
    let all = vec![counter("calls", 0), counter("errors", 8), time, latency(24)];
    table("syscalls", all)
}

/// A counter alone.
fn plain() -> Table {
    table("plain", vec![counter("calls", 0)])
}

/// Rows of a table: process, system call, cells.
type Row<'a> = (&'a str, i64, &'a [u64]);

fn table_snapshot(table: Table, all: &[Row<'_>]) -> TableSnapshot<'static> {
    named(selection(table, all), 312, &HostNames::new())
}

fn selection(table: Table, all: &[Row<'_>]) -> Selection<'static> {
    let mut rows = Rows::of(&table);
    for (comm, call, cells) in all {
        let mut key = [0; 20];
        key[..comm.len()].copy_from_slice(comm.as_bytes());
        key[16..].copy_from_slice(&(*call as u32).to_le_bytes());
        rows.push(&key)[..cells.len()].copy_from_slice(cells);
    }
    Selection::all(table, rows)
}

fn named(rows: Selection<'static>, rows_read: usize, names: &HostNames) -> TableSnapshot<'static> {
    let selection = Box::leak(Box::new(rows));
    TableSnapshot {
        table: &selection.table,
        rows: selection.named(names, false),
        rows_read,
        held_back: false,
        matching: rows_read,
        other: None,
        leaves_out_other: false,
        uncertain: 0,
        dropped: Some(0),
        reset: 0,
    }
}

fn snapshot(tables: Vec<TableSnapshot<'static>>) -> Snapshot<'static> {
    Snapshot {
        tally: "syscalls".into(),
        summary: "system calls, by process and call".into(),
        time: SystemTime::UNIX_EPOCH + Duration::from_millis(1_795_332_142_123),
        seconds: 5.0,
        missed_by: Vec::new(),
        missed: Some(0),
        is_interval: false,
        gaps: None,
        unraised: None,
        incomplete: None,
        tables,
        sort: None,
    }
}

/// Calls, errors, time; the histogram's sum; 60110 of up to 8192 ns, 1410 of
/// up to 16384 ns.
fn postgres() -> Vec<u64> {
    let mut cells = vec![0; 3 + Histogram::CELLS];
    cells[..4].copy_from_slice(&[61_520, 0, 1_560_000_000, 1_560_000_000]);
    cells[4 + 13] = 60_110;
    cells[4 + 14] = 1_410;
    cells
}

fn two_rows() -> Snapshot<'static> {
    let bash = [7, 3, 1_200];
    let (read, openat) = (libc::SYS_read, libc::SYS_openat);
    let rows: [Row<'_>; 2] = [("postgres", read, &postgres()), ("bash", openat, &bash)];
    one(syscalls(), &rows)
}

fn one_row() -> Snapshot<'static> {
    let mut snapshot = one(syscalls(), &[("postgres", libc::SYS_read, &postgres())]);
    (snapshot.tables[0].rows_read, snapshot.tables[0].matching) = (1, 1);
    snapshot
}

/// A table of counters with these rows.
fn calls(rows: &[Row<'_>]) -> Snapshot<'static> {
    one(plain(), rows)
}

/// One table with these rows.
fn one(table: Table, rows: &[Row<'_>]) -> Snapshot<'static> {
    snapshot(vec![table_snapshot(table, rows)])
}

const STYLE: Style = Style {
    color: false,
    histogram: false,
    totals: false,
    rare_totals: false,
    no_header: false,
    cpus: 4,
    width: None,
    ascii: false,
};

fn style(set: impl FnOnce(&mut Style)) -> Style {
    let mut style = STYLE;
    set(&mut style);
    style
}

fn all(format: Format, style: Style, snapshots: &[&Snapshot<'_>]) -> String {
    let mut out = Vec::new();
    let mut renderer = Renderer::new(format, style);
    for snapshot in snapshots {
        renderer
            .render(&mut out, std::slice::from_ref(snapshot), None)
            .unwrap();
    }
    String::from_utf8(out).unwrap()
}

fn text(style: Style, snapshot: &Snapshot<'_>) -> String {
    all(Format::Table, style, &[snapshot])
}

fn draw(format: Format, snapshot: &Snapshot<'_>) -> String {
    all(format, STYLE, &[snapshot])
}

fn json(snapshot: &Snapshot<'_>) -> String {
    draw(Format::Json, snapshot)
}

fn csv(style: Style, snapshot: &Snapshot<'_>) -> String {
    all(Format::Csv, style, &[snapshot])
}
