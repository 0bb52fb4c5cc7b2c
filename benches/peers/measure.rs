//! Medians with their spread, and the tables that they make.

use std::fmt;
use std::thread::ScopedJoinHandle;
use std::time::Instant;

use anyhow::{Result, bail};
use nix::sched::{CpuSet, sched_getaffinity, sched_setaffinity};
use nix::unistd::Pid;

/// How often each subject has its turn.
pub const ROUNDS: usize = 5;

/// What the rounds of one subject gave.
#[derive(Debug, Clone, Default)]
pub struct Rounds(Vec<f64>);

impl Rounds {
    pub fn push(&mut self, number: f64) {
        self.0.push(number);
        self.0.sort_by(f64::total_cmp);
    }

    /// `None` where it had no round: it is not there.
    pub fn median(&self) -> Option<f64> {
        self.0.get(self.0.len() / 2).copied()
    }

    /// All of them in another unit.
    pub fn scaled(&self, by: f64) -> Self {
        Self(self.0.iter().map(|it| it * by).collect())
    }

    /// The median, and the least and the most: `12 (11-14)`.
    pub fn show(&self, digits: usize) -> String {
        match (self.median(), self.0.first(), self.0.last()) {
            (Some(median), Some(least), Some(most)) => {
                format!("{median:.digits$} ({least:.digits$}-{most:.digits$})")
            }
            _ => "not here".into(),
        }
    }
}

/// All subjects in turn, as often as there are rounds: A B A B. A subject that
/// gives nothing is not there.
pub fn alternate<S>(
    subjects: &[S],
    mut measure: impl FnMut(&S) -> Result<Option<Vec<f64>>>,
) -> Result<Vec<Vec<Rounds>>> {
    let mut all: Vec<Vec<Rounds>> = vec![Vec::new(); subjects.len()];
    for _ in 0..ROUNDS {
        for (subject, rounds) in subjects.iter().zip(&mut all) {
            let numbers = measure(subject)?.unwrap_or_default();
            rounds.resize(numbers.len().max(rounds.len()), Rounds::default());
            for (rounds, number) in rounds.iter_mut().zip(numbers) {
                rounds.push(number);
            }
        }
    }
    Ok(all)
}

/// Seconds.
pub fn seconds(work: impl FnOnce() -> Result<()>) -> Result<f64> {
    let start = Instant::now();
    work()?;
    Ok(start.elapsed().as_secs_f64())
}

/// The CPUs that this process may use.
pub fn allowed_cpus() -> Result<Vec<usize>> {
    let allowed = sched_getaffinity(Pid::from_raw(0))?;
    Ok((0..CpuSet::count())
        .filter(|&cpu| allowed.is_set(cpu) == Ok(true))
        .collect())
}

/// Keeps this thread on one CPU.
pub fn stay_on(cpu: usize) -> Result<()> {
    let mut only = CpuSet::new();
    only.set(cpu)?;
    Ok(sched_setaffinity(Pid::from_raw(0), &only)?)
}

/// What a thread came to.
pub fn joined<T>(thread: ScopedJoinHandle<'_, Result<T>>) -> Result<T> {
    thread
        .join()
        .unwrap_or_else(|_| bail!("a thread of the benchmark has panicked"))
}

/// A ratio, where both are known.
pub fn ratio(a: Option<f64>, b: Option<f64>, digits: usize) -> String {
    match (a, b) {
        (Some(a), Some(b)) if b != 0.0 => format!("{:.digits$}", a / b),
        _ => "-".into(),
    }
}

/// A table as Markdown has it, aligned for terminals too.
pub struct Table {
    title: String,
    rows: Vec<Vec<String>>,
    note: String,
}

impl Table {
    pub fn new(title: &str, columns: &[&str]) -> Self {
        Self {
            title: title.into(),
            rows: vec![columns.iter().map(|&it| it.into()).collect()],
            note: String::new(),
        }
    }

    pub fn row(&mut self, cells: impl IntoIterator<Item = impl Into<String>>) {
        self.rows.push(cells.into_iter().map(Into::into).collect());
    }

    pub fn note(mut self, note: impl Into<String>) -> Self {
        self.note = note.into();
        self
    }
}

impl fmt::Display for Table {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let columns = self.rows[0].len();
        let width = |i: usize| {
            let cells = self.rows.iter().filter_map(|row| row.get(i));
            cells.map(|cell| cell.chars().count()).max().unwrap_or(0)
        };
        let widths: Vec<usize> = (0..columns).map(width).collect();
        writeln!(f, "### {}\n", self.title)?;
        for (n, row) in self.rows.iter().enumerate() {
            for (i, width) in widths.iter().enumerate() {
                let cell = row.get(i).map_or("", String::as_str);
                match i {
                    0 => write!(f, "| {cell:<width$} ")?,
                    _ => write!(f, "| {cell:>width$} ")?,
                }
            }
            writeln!(f, "|")?;
            if n == 0 {
                write!(f, "|{:-<1$}", "", widths[0] + 2)?;
                for width in &widths[1..] {
                    write!(f, "|{:-<1$}:", "", width + 1)?;
                }
                writeln!(f, "|")?;
            }
        }
        match self.note.is_empty() {
            true => Ok(()),
            false => writeln!(f, "\n{}", self.note),
        }
    }
}
