//! A file with a recording: an index of its lines, which are decoded when they are
//! asked for.

use std::collections::HashSet;
use std::fs::File;
use std::io::{BufRead, BufReader, Read as _, Seek, SeekFrom};
use std::path::Path;
use std::rc::Rc;
use std::time::{Duration, SystemTime};

use anyhow::{Context, Result, ensure};

use super::dictionary::Dictionary;
use super::head::Head;
use super::line::{self, ByKey, Mark, Read, follow, packed};
use crate::schema::Table;
use crate::snapshot::{Interval, Rows};

/// No line is longer: a million rows.
const LONGEST: u64 = 1 << 28;

/// What was read at one instant: a line of each tab.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Frame {
    pub(crate) time: SystemTime,
    /// Events a second, of all tabs.
    pub(crate) rate: f64,
    /// Whether something was lost in the interval.
    pub(crate) has_lost: bool,
    offset: u64,
    first_line: usize,
    lines: usize,
    is_whole: bool,
}

/// A recording.
#[derive(Debug)]
pub(crate) struct Recording {
    pub(crate) head: Head,
    pub(crate) tables: Vec<Table>,
    pub(crate) frames: Vec<Frame>,
    pub(crate) names: Rc<Dictionary>,
    name: String,
    file: BufReader<File>,
    /// The rows of each tab since counting began, and the frame that follows.
    totals: Vec<ByKey>,
    next: usize,
}

impl Recording {
    /// Reads the description, and where each line is. A last line that was cut is
    /// left out.
    pub(crate) fn open(path: &Path) -> Result<Self> {
        let name = path.display().to_string();
        let file = File::open(path).with_context(|| format!("failed to open `{name}`"))?;
        let mut file = BufReader::with_capacity(1 << 16, file);
        let mut text = Vec::new();
        let head = next_line(&mut file, &mut text)
            .and_then(|is_line| {
                ensure!(is_line, "it has no whole line");
                Head::parse(&text)
            })
            .with_context(|| format!("`{name}`, line 1"))?;
        let tables = head.tables()?;
        let frames = index(&mut file, &head, text.len() as u64, &name)?;
        ensure!(!frames.is_empty(), "`{name}` has no reading");
        Ok(Self {
            totals: vec![ByKey::new(); tables.len()],
            names: Rc::default(),
            next: 0,
            head,
            tables,
            frames,
            name,
            file,
        })
    }

    /// Whether a view that has `kept` frames goes on to this one; otherwise it begins
    /// anew.
    pub(crate) fn follows(&self, frame: usize, kept: usize) -> bool {
        self.next > 0 && (self.next..self.next + kept).contains(&frame)
    }

    /// Calls `each` with the intervals that a view needs to show a frame: those after the
    /// last one that it has, or, where it begins anew, of the last `kept` frames.
    pub(crate) fn read(
        &mut self,
        frame: usize,
        kept: usize,
        mut each: impl FnMut(usize, Interval),
    ) -> Result<()> {
        let frame = frame.min(self.frames.len() - 1);
        let (mut first, mut start) = (self.next, self.next);
        if !self.follows(frame, kept) {
            first = (frame + 1).saturating_sub(kept);
            let whole = self.frames[..=first].iter().rposition(|it| it.is_whole);
            start = whole.unwrap_or(0);
            self.totals.iter_mut().for_each(ByKey::clear);
        }
        for at in start..=frame {
            let Frame {
                offset,
                first_line,
                lines,
                ..
            } = self.frames[at];
            self.file.seek(SeekFrom::Start(offset))?;
            let mut text = Vec::new();
            for line in first_line..first_line + lines {
                let decoded = next_line(&mut self.file, &mut text)
                    .and_then(|_| self.decode(&text, at == frame));
                let (tab, interval) =
                    decoded.with_context(|| format!("`{}`, line {line}", self.name))?;
                if at >= first {
                    each(tab, interval);
                }
            }
        }
        self.next = frame + 1;
        Ok(())
    }

    /// The interval of a line; totals of rows only where they are shown.
    fn decode(&mut self, text: &[u8], has_totals: bool) -> Result<(usize, Interval)> {
        let mark: Mark = parse(text)?;
        let read: Read = parse(text)?;
        let table = self.tables.get(mark.tab).context("there is no such tab")?;
        let names = &self.names;
        let rows = line::rows(table, &read.rows, names)?;
        let totals = line::rows(table, &read.totals, names)?;
        let other = |object: &Option<_>| {
            let cells = object
                .as_ref()
                .map(|object| line::cells(&table.metrics, object));
            cells.transpose()
        };
        let all = &mut self.totals[mark.tab];
        if mark.whole {
            all.clear();
        } else {
            for (key, now) in &rows {
                let cells = all.entry(key.clone());
                let cells = cells.or_insert_with(|| vec![0; table.cells()]);
                follow(&table.metrics, cells, now);
            }
        }
        all.extend(totals);
        for key in &read.gone {
            all.remove(&line::unhex(key)?);
        }
        let interval = Interval {
            time: mark.time()?,
            seconds: mark.seconds,
            rows: packed(table, rows),
            other: other(&read.other)?,
            total_seconds: read.total_seconds,
            totals: if has_totals {
                packed(table, all.iter())
            } else {
                Rows::of(table)
            },
            total_other: other(&read.total_other)?,
            lost: mark.lost,
            incomplete: read.incomplete,
        };
        Ok((mark.tab, interval))
    }
}

impl Mark {
    fn time(&self) -> Result<SystemTime> {
        let time = humantime::parse_rfc3339(&self.time);
        time.map_err(|_| anyhow::anyhow!("`time` is not a time in UTC"))
    }
}

fn parse<'t, T: serde::Deserialize<'t>>(text: &'t [u8]) -> Result<T> {
    serde_json::from_slice(text).context("it is not a line of a recording")
}

/// The next line with its end; `false` where there is no whole one.
fn next_line(file: &mut BufReader<File>, text: &mut Vec<u8>) -> Result<bool> {
    text.clear();
    let read = file.by_ref().take(LONGEST).read_until(b'\n', text)?;
    ensure!((read as u64) < LONGEST, "it is longer than {LONGEST} bytes");
    Ok(text.last() == Some(&b'\n'))
}

/// Where the lines are, and what a line of time shows of them.
fn index(file: &mut BufReader<File>, head: &Head, start: u64, name: &str) -> Result<Vec<Frame>> {
    let mut frames: Vec<Frame> = Vec::new();
    let (mut offset, mut text, mut seen) = (start, Vec::new(), HashSet::new());
    let mut lost: Vec<Option<u64>> = vec![None; head.tabs.len()];
    for line in 2.. {
        let place = || format!("`{name}`, line {line}");
        if !next_line(file, &mut text).with_context(place)? {
            break;
        }
        let mark: Mark = parse(&text).with_context(place)?;
        let is_known = mark.tab < head.tabs.len();
        let is_interval = mark.seconds > 0.0 && Duration::try_from_secs_f64(mark.seconds).is_ok();
        ensure!(is_known, "{}: there is no tab {}", place(), mark.tab);
        ensure!(is_interval, "{}: `seconds` is not an interval", place());
        let now = mark.lost.sum();
        let before = lost[mark.tab].replace(now);
        let has_lost = before.is_some_and(|before| now > before) || before.is_none() && now > 0;
        let rate = mark.events as f64 / mark.seconds;
        match frames.last_mut() {
            Some(frame) if seen.insert(mark.tab) => {
                frame.lines += 1;
                frame.rate += rate;
                frame.has_lost |= has_lost;
                frame.is_whole &= mark.whole;
            }
            _ => {
                seen = HashSet::from([mark.tab]);
                frames.push(Frame {
                    time: mark.time().with_context(place)?,
                    rate,
                    has_lost,
                    offset,
                    first_line: line,
                    lines: 1,
                    is_whole: mark.whole,
                });
            }
        }
        offset += text.len() as u64;
    }
    Ok(frames)
}
