//! Screens and keys, of made-up readings.

#![allow(clippy::unwrap_used)]

mod feed;
mod keys;
mod overview;
mod replay;
mod screens;

use std::time::{Duration, SystemTime};

use ratatui::buffer::Buffer;
use ratatui::crossterm::event::{KeyCode, KeyEvent, KeyModifiers};
use ratatui::layout::Rect;

use super::*;
use crate::schema::testing::{member, structure, text};
use crate::schema::{Histogram, Plain, Table, Tags, Type};
use crate::snapshot::{Reading, Rows, TableReading};

/// Calls by process and call, with a histogram.
fn table() -> Table {
    let key = structure(
        40,
        vec![member("comm", 0, &text(16)), member("call", 16, &text(24))],
    );
    let tagged = |name: &str, byte: usize, ty: &std::sync::Arc<Type>, tags: &[&str]| {
        let mut member = member(name, byte, ty);
        tags.iter()
            .for_each(|tag| member.tags.add(&format!("ktally:{tag}")));
        member
    };
    let histogram = Type::new(
        "struct tally_histogram",
        8 * Histogram::CELLS,
        crate::schema::Kind::Struct(Vec::new()),
    );
    let value = structure(
        16 + 8 * Histogram::CELLS,
        vec![
            tagged("calls", 0, &Type::unsigned(8), &["counter:calls"]),
            tagged(
                "time",
                8,
                &Type::unsigned(8),
                &["counter:time in them", "unit:ns"],
            ),
            tagged(
                "latency",
                16,
                &histogram,
                &["histogram:time of one", "unit:ns"],
            ),
        ],
    );
    let mut tags = Tags::default();
    tags.add("ktally:table:system calls");
    Table::new("syscalls", &tags, 8192, &key, &value)
}

/// So many calls a second for so many seconds, each of 1 us.
fn reading(seconds: u64, rows: &[(&str, &str, u64)]) -> Reading {
    let table = table();
    let mut all = Rows::of(&table);
    for (comm, call, rate) in rows {
        let mut key = [0; 40];
        key[..comm.len()].copy_from_slice(comm.as_bytes());
        key[16..16 + call.len()].copy_from_slice(call.as_bytes());
        let calls = rate * seconds;
        let cells = all.push(&key);
        (cells[0], cells[1]) = (calls, calls * 1000);
        // The sum, then the bucket of 512 to 1,024 ns.
        (cells[2], cells[2 + 1 + 10]) = (calls * 1000, calls);
    }
    Reading {
        time: start() + Duration::from_secs(seconds),
        seconds: seconds as f64,
        tables: vec![TableReading {
            rows: all,
            other: Some(vec![0; table.cells()]),
            dropped: Some(0),
            ..TableReading::default()
        }],
        missed: Some(0),
        missed_by: Vec::new(),
        gaps: None,
        unraised: None,
        incomplete: None,
    }
}

fn start() -> SystemTime {
    SystemTime::UNIX_EPOCH + Duration::from_secs(1_795_788_000)
}

/// A view of one table, and of a second one that counts nothing.
struct Watch {
    state: State,
    seconds: u64,
}

impl Watch {
    fn new(size: (u16, u16)) -> Self {
        let host = Host {
            name: "db1".to_owned(),
            kernel: "6.12.41-amd64".to_owned(),
            cpus: 8,
            clock: |time| humantime::format_rfc3339(time).to_string()[11..19].to_owned(),
        };
        let own = Own {
            now: start(),
            used: Duration::ZERO,
            cpu: 0.6,
            memory: 9_541_000,
        };
        let tab = |name: &str| {
            let source = format!("run {name}");
            Tab::new(Feed::new(source, name.to_owned(), String::new(), table()))
        };
        let tabs = vec![tab("syscalls"), tab("calls")];
        let state = State::new(host, own, tabs, Duration::from_secs(1));
        Self {
            state: state.on(size, Glyphs::default(), true),
            seconds: 0,
        }
    }

    /// A second with these rates, in which all that was counted before is kept.
    fn read(&mut self, rows: &[(&str, &str, u64)]) -> &mut Self {
        self.seconds += 1;
        self.state
            .set_time(start() + Duration::from_secs(self.seconds));
        self.state
            .next(Event::Reading(0, reading(self.seconds, rows)), &Plain);
        self
    }

    fn later(&mut self, seconds: u64) -> &mut Self {
        let now = start() + Duration::from_secs(self.seconds + seconds);
        self.state.set_time(now);
        self
    }

    /// Types these keys; the effect of the last one.
    fn key(&mut self, keys: &str) -> Effect {
        let mut effect = Effect::None;
        for c in keys.chars() {
            let code = match c {
                '↓' => KeyCode::Down,
                '↑' => KeyCode::Up,
                '→' => KeyCode::Right,
                '←' => KeyCode::Left,
                '⏎' => KeyCode::Enter,
                '⎋' => KeyCode::Esc,
                '⇥' => KeyCode::Tab,
                '⌫' => KeyCode::Backspace,
                '⇟' => KeyCode::PageDown,
                '⇱' => KeyCode::Home,
                '⇲' => KeyCode::End,
                c => KeyCode::Char(c),
            };
            effect = self
                .state
                .next(Event::Key(KeyEvent::new(code, KeyModifiers::NONE)), &Plain);
        }
        effect
    }

    fn buffer(&self) -> Buffer {
        let (width, height) = self.state.size;
        let mut buffer = Buffer::empty(Rect::new(0, 0, width, height));
        draw(&self.state, &mut buffer);
        buffer
    }

    /// The lines of the screen.
    fn lines(&self) -> Vec<String> {
        let buffer = self.buffer();
        let lines = buffer.content.chunks(buffer.area.width.into());
        let line = |cells: &[ratatui::buffer::Cell]| {
            let text: String = cells.iter().map(ratatui::buffer::Cell::symbol).collect();
            text.trim_end().to_owned()
        };
        lines.map(line).collect()
    }

    /// What stands in the first label's column.
    fn first_labels(&self) -> Vec<String> {
        let rows = self.state.tab().shown.rows.iter();
        rows.map(|row| row.names[0].clone()).collect()
    }
}

const BUSY: [(&str, &str, u64); 4] = [
    ("postgres", "pread64", 91_204),
    ("nginx", "epoll_wait", 41_020),
    ("redis-server", "read", 38_911),
    ("postgres", "lseek", 36_204),
];
