//! The tables of one reading, one below the other, as far as a screen has room.

use std::io::{self, Write};

use super::{Style, heading, reading};
use crate::snapshot::Snapshot;

/// With as many rows each as fit.
pub(super) fn tables(
    snapshots: &[Snapshot<'_>],
    clock: Option<&str>,
    height: Option<usize>,
    style: &Style,
) -> Vec<u8> {
    let with = |most: usize| {
        let first: Vec<Snapshot<'_>> = snapshots.iter().map(|it| it.first(most)).collect();
        written(&first, clock, style)
    };
    let Some(height) = height else {
        return written(snapshots, clock, style);
    };
    let lines = |text: &[u8]| text.iter().filter(|byte| **byte == b'\n').count();
    let all: Vec<usize> = (2..=height).collect();
    let more = all.partition_point(|most| lines(&with(*most)) <= height);
    with(1 + more)
}

/// All rows that they have.
fn written(snapshots: &[Snapshot<'_>], clock: Option<&str>, style: &Style) -> Vec<u8> {
    let mut text = Vec::new();
    write(&mut text, snapshots, clock, style).expect("memory takes all");
    text
}

fn write(
    out: &mut dyn Write,
    snapshots: &[Snapshot<'_>],
    clock: Option<&str>,
    style: &Style,
) -> io::Result<()> {
    if let Some(clock) = clock.filter(|_| !style.no_header) {
        heading(out, clock, style)?;
    }
    for (i, snapshot) in snapshots.iter().enumerate() {
        if i > 0 {
            writeln!(out)?;
        }
        reading::table(out, snapshot, style)?;
    }
    Ok(())
}
