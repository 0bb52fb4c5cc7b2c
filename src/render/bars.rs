//! A histogram in full: a bar a bucket.

use std::io::{self, Write};

use unicode_width::UnicodeWidthStr;

use super::metric::{edge_text, rounded};
use super::{Style, heading};
use crate::schema::{Histogram, Metric, Statistic, whole_number};

/// How long the longest bar is, and how long at least, where there is room.
const LONGEST: usize = 40;
const LEAST: usize = 12;

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
    let histogram = metric.histogram(cells);
    if !style.no_header {
        head(out, row, metric, &histogram, beside, style)?;
    }
    let lines = lines(metric, &histogram, style);
    let width = |of: fn(&Line) -> &String, least: usize| {
        let widths = lines.iter().map(|line| of(line).width());
        widths.max().unwrap_or(0).max(least)
    };
    // Wide enough for most, so that one histogram lines up with the next.
    let (edge, count) = (width(|it| &it.edge, 8), width(|it| &it.count, 8));
    let mut marks = width(|it| &it.marks, 0);
    // Beside a bar and its marks: four numbers, and what separates them.
    let left = style.width.unwrap_or(usize::MAX);
    let left = left.saturating_sub(edge + count + 21);
    if left < LEAST + marks {
        marks = 0;
    }
    let longest = left.saturating_sub(marks).clamp(1, LONGEST);
    if !style.no_header && !lines.is_empty() {
        let (up_to, share) = ("UP TO", "UPTO%");
        writeln!(out, "{up_to:>edge$}  {:>count$}      %  {share}", "COUNT")?;
    }
    for line in lines {
        // What is there shows, however little.
        let length = (line.height * longest as f64).ceil() as usize;
        let (bar, [share, up_to]) = ("#".repeat(length), &line.shares);
        let numbers = format!("{:>edge$}  {:>count$}", line.edge, line.count);
        let bar = format!("{numbers}  {share:>5}  {up_to:>5}  |{bar:<longest$}|");
        match marks {
            0 => writeln!(out, "{bar}")?,
            _ => writeln!(out, "{}", format!("{bar} {}", line.marks).trim_end())?,
        }
    }
    Ok(())
}

/// What it is, and the numbers that stand for all of it.
fn head(
    out: &mut dyn Write,
    row: &str,
    metric: &Metric,
    histogram: &Histogram,
    beside: &str,
    style: &Style,
) -> io::Result<()> {
    let between = if row.is_empty() { "" } else { ", " };
    let count = match histogram.count() {
        0 => String::new(),
        count => format!("; {} in all", whole_number(count.into())),
    };
    let mean = Statistic::Mean.of(histogram);
    let mean = mean.map(|mean| format!("; mean {}", rounded(metric, mean)));
    let numbers = count + &mean.unwrap_or_default() + beside;
    let numbers = style.glyphs(&numbers);
    let (name, help) = (&metric.name, &metric.help);
    heading(
        out,
        &format!("{row}{between}{name}: {help}{numbers}"),
        style,
    )
}

/// A bucket as text.
struct Line {
    edge: String,
    count: String,
    /// Of all observations: in this bucket, and up to its edge.
    shares: [String; 2],
    /// Of the longest bar.
    height: f64,
    /// The statistics that it holds.
    marks: String,
}

fn lines(metric: &Metric, histogram: &Histogram, style: &Style) -> Vec<Line> {
    let Histogram { scale, buckets, .. } = *histogram;
    let is_filled = |count: &u64| *count > 0;
    let first = buckets.iter().position(is_filled);
    let (Some(first), Some(last)) = (first, buckets.iter().rposition(is_filled)) else {
        return Vec::new();
    };
    let most = buckets.iter().copied().max().unwrap_or(1) as f64;
    let all: u128 = buckets.iter().copied().map(u128::from).sum();
    let statistics = statistics(histogram);
    let mut so_far = 0;
    let lines = (first..=last).map(|bucket| {
        let (over, edge, count) = (scale.over(bucket), scale.edge(bucket), buckets[bucket]);
        so_far += u128::from(count);
        let is_first = bucket == first;
        let is_here = |at: f64| at <= edge as f64 && (is_first || at > over as f64);
        let here = statistics.iter().filter(|(_, at)| is_here(*at));
        let marks = here.map(|(name, at)| format!("{name} {}", rounded(metric, *at)));
        Line {
            edge: style.glyphs(&edge_text(metric, edge)).into_owned(),
            count: whole_number(count.into()),
            shares: [percent(count.into(), all), percent(so_far, all)],
            height: count as f64 / most,
            marks: style
                .glyphs(&marks.collect::<Vec<_>>().join(", "))
                .into_owned(),
        }
    });
    lines.collect()
}

/// Each with its number, the least first. What is above the bars says all of a single
/// observation.
fn statistics(histogram: &Histogram) -> Vec<(&'static str, f64)> {
    if histogram.count() == 1 {
        return Vec::new();
    }
    let known = Statistic::ALL.into_iter();
    let known = known.filter_map(|(name, statistic)| Some((name, statistic.of(histogram)?)));
    let greatest = histogram.greatest.filter(|greatest| *greatest > 0);
    let mut statistics: Vec<(&str, f64)> = known
        .chain(greatest.map(|greatest| ("max", greatest as f64)))
        .collect();
    statistics.sort_by(|(_, a), (_, b)| a.total_cmp(b));
    statistics
}

/// To a tenth. A part never rounds to 0, nor less than all to 100.
fn percent(part: u128, all: u128) -> String {
    let percent = part as f64 * 100.0 / all as f64;
    if part > 0 && percent < 0.05 {
        "<0.1".to_owned()
    } else if part < all && percent >= 99.95 {
        ">99.9".to_owned()
    } else {
        format!("{percent:.1}")
    }
}
