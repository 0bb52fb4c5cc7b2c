//! The rows of a table, and one of them in full.

use ratatui::layout::Rect;

use super::{Pen, Target, Tone, detail};
use crate::render::{Grid, GridCell, GridRow, Look, Style, change_text};
use crate::schema::whole_number;
use crate::tui::feed::KEPT;
use crate::tui::past::History;
use crate::tui::state::State;
use crate::tui::tab::{Line, Tab};

/// Columns of a comparison, which take the place of sparklines.
const CHANGE: u16 = 18;

/// The mark of the selected row.
const MARK: u16 = 2;

pub(super) fn draw(state: &State, pen: &mut Pen<'_>, area: Rect) {
    let tab = state.tab();
    if tab.view.is_detail
        && let Some(row) = tab.selected()
    {
        detail::draw(state, pen, area, row);
        return;
    }
    let Some(sheet) = Sheet::of(state, area) else {
        nothing(state, pen, area, "first numbers in a moment");
        return;
    };
    let mut y = area.y;
    for line in sheet.grid.headings() {
        for cell in &line {
            let tone = if cell.column == tab.sort() {
                Tone::Strong
            } else {
                Tone::Plain
            };
            pen.put(
                (area.x + MARK + cell.x as u16, y),
                area.right(),
                &cell.text,
                tone,
            );
        }
        if y == area.y && sheet.spark > 0 {
            let head = match sheet.spark {
                _ if tab.feed.baseline.is_some() => "   BEFORE  CHANGE",
                ..11 => "1 MIN",
                _ => "LAST MINUTE",
            };
            pen.put((sheet.spark_x(area), y), area.right(), head, Tone::Plain);
        }
        y += 1;
    }
    if tab.shown.rows.is_empty() {
        let area = Rect {
            y,
            height: area.bottom().saturating_sub(y),
            ..area
        };
        nothing(state, pen, area, &why_empty(state));
    }
    for (i, line) in sheet.lines.iter().enumerate() {
        if y >= area.bottom() {
            break;
        }
        sheet.line(
            state,
            pen,
            Rect {
                y,
                height: 1,
                ..area
            },
            i,
            line,
        );
        y += 1;
    }
}

/// What is on the screen.
struct Sheet<'s> {
    grid: Grid,
    lines: Vec<&'s Line>,
    /// How many of these are rows; behind them are `(other)` and the sum.
    rows: usize,
    spark: u16,
}

impl<'s> Sheet<'s> {
    fn of(state: &'s State, area: Rect) -> Option<Self> {
        let sheet = Self::below_headings(state, area, 1)?;
        match sheet.grid.headings().len() {
            1 => Some(sheet),
            lines => Self::below_headings(state, area, lines),
        }
    }

    /// With room for so many lines of headings.
    fn below_headings(state: &'s State, area: Rect, headings: usize) -> Option<Self> {
        let tab = state.tab();
        let shown = &tab.shown;
        let table = shown.table.as_ref()?;
        let below: Vec<&Line> = shown.other.iter().chain(&shown.sum).collect();
        let room = usize::from(area.height).saturating_sub(headings + below.len());
        let rows = shown.rows.iter().skip(tab.view.first).take(room.max(1));
        let mut lines: Vec<&Line> = rows.collect();
        let rows = lines.len();
        lines.extend(below);
        let spark = match area.width {
            _ if tab.feed.baseline.is_some() => CHANGE,
            ..60 => 0,
            60..100 => 6,
            100..160 => 12,
            _ => 20,
        };
        let width = area
            .width
            .saturating_sub(MARK + spark + u16::from(spark > 0));
        let look = Look {
            style: Style {
                width: Some(width.into()),
                totals: tab.view.is_total,
                ascii: state.glyphs.ascii,
                ..Style::default()
            },
            seconds: shown.seconds,
            sort: &tab.sort(),
            is_reversed: tab.view.is_reversed,
            hidden: &|name| tab.view.hidden.contains(name),
        };
        let names: Vec<Vec<String>> = lines.iter().map(|line| line.shown_names(tab)).collect();
        let grid_rows = lines.iter().zip(&names).map(|(line, names)| GridRow {
            names,
            cells: &line.cells,
            share: line.share,
        });
        let grid = Grid::new(table, &grid_rows.collect::<Vec<_>>(), look);
        Some(Self {
            grid,
            lines,
            rows,
            spark,
        })
    }

    fn spark_x(&self, area: Rect) -> u16 {
        area.x + MARK + self.grid.width() as u16 + 1
    }

    fn line(&self, state: &State, pen: &mut Pen<'_>, area: Rect, i: usize, line: &Line) {
        let tab = state.tab();
        let is_row = i < self.rows;
        let is_other = !is_row && tab.shown.other.is_some() && i == self.rows;
        let is_selected = is_row && tab.view.selected.as_ref() == Some(&line.key);
        let history = match () {
            () if is_row => tab.shown.history(line),
            () if is_other => History::default(),
            () => tab.shown.history_of_all(),
        };
        let is_idle = is_row && history.now() == Some(0.0);
        for GridCell { column, x, text } in self.grid.row(i) {
            let tone = match () {
                () if is_other => Tone::Lost,
                () if is_idle => Tone::Faint,
                () if column == tab.sort() => Tone::Strong,
                () if text == "0" => Tone::Faint,
                () => Tone::Plain,
            };
            pen.put(
                (area.x + MARK + x as u16, area.y),
                area.right(),
                &text,
                tone,
            );
        }
        let width = area.right().saturating_sub(self.spark_x(area));
        let width = usize::from(width).min(KEPT);
        if let (Some(before), Some(metric)) = (history.before, tab.sorted_metric()) {
            let now = history.now().unwrap_or(0.0);
            let text = format!(
                "{:>9} {:>7}",
                metric.rounded(before),
                change_text(now, before)
            );
            pen.put(
                (self.spark_x(area), area.y),
                area.right(),
                &text,
                Tone::Plain,
            );
        } else if self.spark > 0 {
            let spark = state
                .glyphs
                .sparkline(minute(&history.minute, width).into_iter());
            pen.put(
                (self.spark_x(area), area.y),
                area.right(),
                &spark,
                Tone::Drawn,
            );
        }
        if is_selected {
            pen.select(area);
            pen.put((area.x, area.y), area.x + 1, ">", Tone::Strong);
        }
        if let Some(mark) = group_mark(tab, line).filter(|_| is_row) {
            pen.put((area.x + 1, area.y), area.x + 2, mark, Tone::Strong);
        }
    }
}

/// Whether a group is open.
fn group_mark(tab: &Tab, line: &Line) -> Option<&'static str> {
    match (tab.is_group(line), tab.view.open.contains(&line.key)) {
        (true, true) => Some("-"),
        (true, false) => Some("+"),
        _ => None,
    }
}

/// The last minute in so many cells: each is the mean of some readings.
pub(super) fn minute(past: &[Option<f64>], cells: usize) -> Vec<Option<f64>> {
    let each = past.len().max(KEPT).div_ceil(cells.max(1)).max(1);
    let blank = cells.saturating_sub(past.len().div_ceil(each));
    let start = past.len() % each;
    let (first, rest) = past.split_at(start);
    let mean = |chunk: &[Option<f64>]| {
        let known: Vec<f64> = chunk.iter().copied().flatten().collect();
        (!known.is_empty()).then(|| known.iter().sum::<f64>() / known.len() as f64)
    };
    let means = Some(first).filter(|it| !it.is_empty()).into_iter();
    let means = means.chain(rest.chunks(each)).map(mean);
    std::iter::repeat_n(None, blank).chain(means).collect()
}

impl Line {
    fn shown_names(&self, tab: &Tab) -> Vec<String> {
        if self.key.is_empty() && !self.names.is_empty() {
            return self.names.clone();
        }
        let mut names = self.names.clone();
        if self.is_member
            && let Some(first) = names.first_mut()
        {
            first.insert_str(0, "  ");
        }
        let labels = tab
            .shown
            .table
            .as_ref()
            .map_or(0, |table| table.labels.len());
        names.resize(labels.max(names.len()), "-".to_owned());
        names
    }
}

/// Why there is no row.
fn why_empty(state: &State) -> String {
    let tab = state.tab();
    let behind = state.behind();
    let read = tab.feed.moment(behind).map_or(0, |moment| moment.rows_read);
    match tab.view.filter.is_empty() {
        false => format!(
            "no row of {} matches {}; Esc clears it",
            whole_number(read as i128),
            tab.view.filter
        ),
        true => {
            "Nothing was counted. The programs are attached; rows appear by themselves.".to_owned()
        }
    }
}

fn nothing(_state: &State, pen: &mut Pen<'_>, area: Rect, why: &str) {
    pen.put(
        (area.x + MARK, area.y + area.height.min(3) / 2),
        area.right(),
        why,
        Tone::Plain,
    );
}

/// How many rows there is room for.
pub(super) fn room(state: &State, area: Rect) -> usize {
    Sheet::of(state, area).map_or(1, |sheet| {
        let below = sheet.lines.len() - sheet.rows;
        usize::from(area.height)
            .saturating_sub(sheet.grid.headings().len() + below)
            .max(1)
    })
}

/// What is at these coordinates.
pub(super) fn at(state: &State, area: Rect, x: u16, y: u16) -> Option<Target> {
    let sheet = Sheet::of(state, area)?;
    let headings = sheet.grid.headings();
    let line = usize::from(y.checked_sub(area.y)?);
    if line < headings.len() {
        let x = usize::from(x.checked_sub(area.x + MARK)?);
        let cells = headings
            .iter()
            .flatten()
            .filter(|cell| !cell.text.is_empty());
        let under = cells
            .filter(|cell| cell.x <= x + 1)
            .max_by_key(|cell| cell.x)?;
        return Some(Target::Heading(under.column.to_owned()));
    }
    let row = line - headings.len();
    (row < sheet.rows).then_some(Target::Row(state.tab().view.first + row))
}
