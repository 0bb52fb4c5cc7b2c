//! A histogram of the selected row: bars of the shown reading, and beside them a heat
//! map of the last minute, on one axis.

use ratatui::layout::Rect;

use super::{Pen, Tone};
use crate::schema::{Histogram, Metric, MetricKind, Statistic, whole_number};
use crate::tui::feed::KEPT;
use crate::tui::state::State;

/// Cells of a bar, and columns of a heat map.
const BAR: u16 = 16;
const COLUMNS: usize = 30;

/// The axis: edges, counts and shares.
const AXIS: u16 = 23;

/// Names of what a bucket holds.
const MARKS: u16 = 11;

pub(super) fn draw(state: &State, pen: &mut Pen<'_>, area: Rect) {
    let tab = state.tab();
    let is_histogram = |metric: &&Metric| metric.kind == MetricKind::Histogram;
    let metric = tab.feed.table.metrics.iter().find(is_histogram);
    let (Some(metric), Some(row)) = (metric, tab.selected()) else {
        let why = match metric {
            None => "this table has no histogram",
            Some(_) => "select a row for its histogram",
        };
        pen.put((area.x + 2, area.y), area.right(), why, Tone::Faint);
        return;
    };
    let minute = tab.feed.minute(state.behind()).into_iter();
    let cells = |reading: Option<usize>| tab.shown.past.get(reading?)?.as_ref();
    let past = minute.map(|reading| Some(metric.histogram(cells(reading)?)));
    let past: Vec<Option<Histogram>> = past.collect();
    let panel = Panel {
        metric,
        past: &past,
        now: metric.histogram(&row.cells),
    };
    let legend = "shade: share of its column   ░ below 1%   ▒ below 10%   ▓ below 50%   █ above";
    pen.put(
        (area.x, area.bottom() - 1),
        area.right(),
        legend,
        Tone::Faint,
    );
    let title = format!("{}, {}", row.names.join(" "), metric.name);
    let area = Rect {
        height: area.height.saturating_sub(1),
        ..area
    };
    let heat_x = area.x + AXIS + BAR + MARKS;
    if heat_x + COLUMNS as u16 <= area.right() {
        panel.bars(
            pen,
            Rect {
                width: heat_x - area.x,
                ..area
            },
            &title,
        );
        panel.heat(
            pen,
            Rect {
                x: heat_x,
                width: area.right() - heat_x,
                ..area
            },
            false,
        );
        return;
    }
    let bars = Rect {
        height: area.height / 2,
        ..area
    };
    panel.bars(pen, bars, &title);
    let heat = Rect {
        y: bars.bottom(),
        height: area.height - bars.height,
        ..area
    };
    panel.heat(pen, heat, true);
}

struct Panel<'p> {
    metric: &'p Metric,
    /// Of each second of the last minute.
    past: &'p [Option<Histogram>],
    now: Histogram,
}

impl Panel<'_> {
    fn bars(&self, pen: &mut Pen<'_>, area: Rect, title: &str) {
        pen.put(
            (area.x, area.y),
            area.right(),
            "   UP TO   COUNT     %",
            Tone::Plain,
        );
        pen.put(
            (area.x + AXIS, area.y),
            area.right() - 1,
            title,
            Tone::Strong,
        );
        let all = self.now.count();
        let most = self.now.buckets.iter().copied().max().unwrap_or(0).max(1);
        let marks = self.marks();
        for (bucket, y) in self.lines(area) {
            let count = self.now.buckets[bucket];
            let edge = self.metric.edge(self.now.scale.edge(bucket));
            let percent = count as f64 / all.max(1) as f64 * 100.0;
            let count_text = whole_number(count.into());
            let text = format!("{edge:>8} {count_text:>7} {percent:>5.1}");
            pen.put((area.x, y), area.right(), &text, Tone::Plain);
            let bar = pen.glyphs.bar(count as f64 / most as f64 * f64::from(BAR));
            let x = pen.put((area.x + AXIS, y), area.right(), &bar, Tone::Drawn);
            let here = marks.iter().filter(|(_, at)| *at == bucket);
            let here: Vec<&str> = here.map(|(name, _)| *name).collect();
            pen.put((x + 1, y), area.right(), &here.join(" "), Tone::Plain);
        }
    }

    /// With edges of its own where no bars are beside it.
    fn heat(&self, pen: &mut Pen<'_>, area: Rect, has_axis: bool) {
        let x = area.x + if has_axis { 9 } else { 0 };
        pen.put(
            (x, area.y),
            area.right(),
            "last minute, slowest below",
            Tone::Plain,
        );
        for (bucket, y) in self.lines(area) {
            if has_axis {
                let edge = self.metric.edge(self.now.scale.edge(bucket));
                pen.put(
                    (area.x, y),
                    area.right(),
                    &format!("{edge:>8}"),
                    Tone::Plain,
                );
            }
            let shade = |share: Option<f64>| share.map_or(' ', |share| pen.glyphs.shade(share));
            let shades: String = heat(self.past, bucket).map(shade).collect();
            pen.put((x, y), area.right(), &shades, Tone::Drawn);
        }
    }

    /// The buckets that there is room for, and their lines.
    fn lines(&self, area: Rect) -> impl Iterator<Item = (usize, u16)> {
        let room = usize::from(area.height.saturating_sub(1));
        buckets(self.past, room).zip(area.y + 1..)
    }

    /// The buckets that hold the mean and the quantiles.
    fn marks(&self) -> Vec<(&'static str, usize)> {
        let named = Statistic::ALL.iter().filter_map(|(name, statistic)| {
            let number = statistic.of(&self.now)?;
            let mut buckets = 0..Histogram::BUCKETS;
            let bucket = buckets.find(|it| number <= self.now.scale.edge(*it) as f64)?;
            Some((*name, bucket))
        });
        named.collect()
    }
}

/// The buckets that ever held something, at most so many: the greatest.
fn buckets(past: &[Option<Histogram>], room: usize) -> std::ops::Range<usize> {
    let filled = |bucket: &usize| past.iter().flatten().any(|it| it.buckets[*bucket] > 0);
    let first = (0..Histogram::BUCKETS).find(filled);
    let last = (0..Histogram::BUCKETS).rfind(filled);
    match first.zip(last) {
        Some((first, last)) => first.max((last + 1).saturating_sub(room))..last + 1,
        None => 0..0,
    }
}

/// The shares of a bucket over time, two seconds a column.
fn heat(past: &[Option<Histogram>], bucket: usize) -> impl Iterator<Item = Option<f64>> {
    let each = KEPT / COLUMNS;
    let blank = COLUMNS.saturating_sub(past.len().div_ceil(each));
    let shares = past.rchunks(each).rev().map(move |readings| {
        let counted = readings.iter().flatten();
        let (one, all) = counted.fold((0, 0), |(one, all): (u64, u64), it| {
            (one + it.buckets[bucket], all + it.count())
        });
        (all > 0).then(|| one as f64 / all as f64)
    });
    let shares: Vec<Option<f64>> = shares.collect();
    std::iter::repeat_n(None, blank).chain(shares)
}
