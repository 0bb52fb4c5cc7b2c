//! A histogram in full: a bar a bucket.

use std::io::{self, Write};

use unicode_width::UnicodeWidthStr;

use super::metric::{edge_text, rounded};
use super::{Style, heading};
use crate::schema::{Histogram, Metric, Statistic};

/// How long the longest bar is.
const LONGEST: usize = 40;

/// From the first bucket that holds something to the last. `beside` is what the row
/// has in other columns.
pub(super) fn render(
    out: &mut dyn Write,
    row: &str,
    metric: &Metric,
    cells: &[u64],
    beside: &str,
    style: &Style,
) -> io::Result<()> {
    if !style.no_header {
        let between = if row.is_empty() { "" } else { ", " };
        let mean = Statistic::Mean.of(&metric.histogram(cells));
        let mean = mean.map(|mean| format!("; mean {}", rounded(metric, mean)));
        let numbers = mean.unwrap_or_default() + beside;
        let numbers = style.glyphs(&numbers);
        let (name, help) = (&metric.name, &metric.help);
        heading(
            out,
            &format!("{row}{between}{name}: {help}{numbers}"),
            style,
        )?;
    }
    let Histogram { scale, buckets, .. } = metric.histogram(cells);
    let (Some(first), Some(last)) = (
        buckets.iter().position(|bucket| *bucket > 0),
        buckets.iter().rposition(|bucket| *bucket > 0),
    ) else {
        return Ok(());
    };
    let most = buckets.iter().copied().max().unwrap_or(1).max(1);
    let edge = |edge: u64| style.glyphs(&edge_text(metric, edge)).into_owned();
    let edges = |bucket: usize| {
        let over = match bucket {
            0 => "0".to_owned(),
            _ => edge(scale.over(bucket)),
        };
        (over, edge(scale.edge(bucket)))
    };
    // Wide enough for most, so that one histogram lines up with the next.
    let width = (first..=last).map(|bucket| edges(bucket).1.width());
    let width = width.max().unwrap_or(0).max(9);
    // Beside a bar: two edges, and 20 columns for the number and what separates it.
    let room = |limit: usize| limit.saturating_sub(2 * width + 20).clamp(1, LONGEST);
    let longest = style.width.map_or(LONGEST, room);
    for (bucket, number) in buckets
        .iter()
        .copied()
        .enumerate()
        .take(last + 1)
        .skip(first)
    {
        let (over, edge) = edges(bucket);
        // What is there shows, however little.
        let length = (number as f64 / most as f64 * longest as f64).round() as usize;
        let bar = "#".repeat(length.max(usize::from(number > 0)));
        writeln!(
            out,
            "{over:>width$} .. {edge:<width$} {number:>12} |{bar:<longest$}|"
        )?;
    }
    Ok(())
}
