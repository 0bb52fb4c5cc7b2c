//! The overview: a line of each tally's busiest, and processes over all of them.

use std::collections::HashMap;
use std::sync::Arc;

use super::feed::Feed;
use super::keys::Action;
use super::state::{Effect, State};
use super::tab::Tab;
use crate::schema::{Kind, Metric, MetricKind, Names, Place, Table, Tags, Type};
use crate::snapshot::{Query, Reading, Rows, Sort, TableReading};

/// The overview; its tab is the first one.
#[derive(Debug)]
pub(crate) struct Overview {
    pub(super) lines: Vec<Line>,
    /// What processes have.
    columns: Vec<Column>,
    /// What cannot count here, and why.
    pub(super) absent: Vec<String>,
    /// The selected line; none where a process is.
    pub(super) selected: Option<usize>,
}

/// What one column of a table says of the host.
#[derive(Debug)]
pub(super) struct Line {
    pub(super) tab: usize,
    pub(super) what: String,
    column: String,
    pub(super) now: String,
    pub(super) past: Vec<Option<f64>>,
    pub(super) busiest: String,
}

/// Where a number of a process stands.
#[derive(Debug)]
struct Column {
    tab: usize,
    process: Place,
    cell: usize,
}

impl Overview {
    /// The label that rows of several tables have in common.
    pub(crate) const PROCESS: &str = "comm";

    /// Of these tabs, which come behind its own.
    pub(crate) fn new(tabs: &[Tab], absent: Vec<String>) -> (Tab, Self) {
        let lines = tabs.iter().zip(1..).flat_map(|(tab, place)| {
            let lines = tab.feed.table.overview.iter();
            lines.map(move |line| (line, place))
        });
        let mut lines: Vec<_> = lines.collect();
        lines.sort();
        let mut columns = Vec::new();
        let mut metrics = Vec::new();
        for (line, tab) in &lines {
            let table = &tabs[tab - 1].feed.table;
            let process = table
                .labels
                .iter()
                .find(|label| label.name == Self::PROCESS);
            if let (Some(process), Some(metric)) = (process, table.metric(&line.column)) {
                columns.push(Column {
                    tab: *tab,
                    process: process.place.clone(),
                    cell: metric.cell,
                });
                metrics.push(joined(metric, &line.what, metrics.len()));
            }
        }
        let lines = lines.into_iter().map(|(line, tab)| Line {
            tab,
            what: line.what.clone(),
            column: line.column.clone(),
            now: "-".to_owned(),
            past: Vec::new(),
            busiest: String::new(),
        });
        let overview = Self {
            lines: lines.collect(),
            absent,
            selected: Some(0),
            columns,
        };
        let table = processes(tabs, &overview.columns, metrics);
        let summary = "the busiest of the host".to_owned();
        let feed = Feed::new("top".to_owned(), "overview".to_owned(), summary, table);
        (Tab::new(feed), overview)
    }

    /// The last readings of all tables as one of processes.
    fn join(&self, tabs: &[Tab]) -> Option<Reading> {
        let last = tabs[1..].iter().filter_map(|tab| tab.feed.last());
        let last = last.max_by_key(|reading| reading.time)?;
        let table = &tabs[0].feed.table;
        let rows = |part: fn(&TableReading) -> &Rows| {
            let mut rows: HashMap<&[u8], Vec<u64>> = HashMap::new();
            for (place, column) in self.columns.iter().enumerate() {
                let reading = tabs[column.tab].feed.last();
                for (key, cells) in reading.iter().flat_map(|it| part(&it.tables[0]).iter()) {
                    let process = column.process.bytes(key).unwrap_or_default();
                    let row = rows.entry(process);
                    let row = row.or_insert_with(|| vec![0; self.columns.len()]);
                    row[place] = row[place].wrapping_add(cells[column.cell]);
                }
            }
            let mut joined = Rows::of(table);
            for (process, cells) in rows {
                if process.len() == table.key_size {
                    joined.push(process).copy_from_slice(&cells);
                }
            }
            joined
        };
        Some(Reading {
            tables: vec![TableReading {
                rows: rows(|reading| &reading.rows),
                under_way: rows(|reading| &reading.under_way),
                ..TableReading::default()
            }],
            ..last.clone()
        })
    }
}

/// What one process has: of a histogram the sum.
fn joined(metric: &Metric, what: &str, cell: usize) -> Metric {
    Metric {
        name: what.to_lowercase().replace(' ', "_"),
        help: metric.help.clone(),
        kind: MetricKind::Counter,
        is_declared: true,
        place: Place::whole(Type::unsigned(8)),
        unit: metric.unit.clone(),
        cell,
        greatest: None,
        with: None,
    }
}

fn processes(tabs: &[Tab], columns: &[Column], metrics: Vec<Metric>) -> Table {
    let key = columns.first().map(|column| &column.process.ty);
    let key = key.map_or_else(|| Type::unsigned(8), Arc::clone);
    let value = Type::new("", 8 * metrics.len(), Kind::Struct(Vec::new()));
    let max = tabs.iter().map(|tab| tab.feed.max_rows).max();
    let mut table = Table::new("overview", &Tags::default(), max.unwrap_or(0), &key, &value);
    for label in &mut table.labels {
        "process".clone_into(&mut label.name);
    }
    table.metrics = metrics;
    table
}

impl Line {
    fn refresh(&mut self, feed: &Feed, behind: usize, names: &dyn Names) {
        let (Some(moment), Some(metric)) = (feed.moment(behind), feed.table.metric(&self.column))
        else {
            return;
        };
        let query = Query {
            sort: Some(Sort::parse(&self.column)),
            top: Some(2),
            ..Query::default()
        };
        let sorting = query.sorting(&feed.table, names);
        let number = |cells: &[u64], seconds: f64| {
            let seconds = if sorting.has_rate() { seconds } else { 1.0 };
            sorting.number(cells) / seconds
        };
        let part = self.column.strip_prefix(&metric.name).unwrap_or_default();
        let shown = |number: f64| match part.strip_prefix('.') {
            Some(part) => format!("{part} {}", metric.rounded(number)),
            None => format!("{}/s", metric.rounded(number)),
        };
        let past = feed.until(behind);
        let past: Vec<f64> = past.map(|it| number(&it.sum, it.seconds)).collect();
        let minute = feed.minute(behind).into_iter();
        self.past = minute.map(|reading| Some(past[reading?])).collect();
        self.now = shown(number(&moment.sum, moment.seconds));
        let busiest = query.apply(&feed.table, &moment.rows, names);
        let labels = || busiest.table.labels.iter();
        let busiest = busiest.iter().filter_map(|(key, cells)| {
            let number = number(cells, moment.seconds);
            let names = labels().map(|label| names.described(label, key).to_string());
            let names: Vec<String> = names.collect();
            (number > 0.0).then(|| format!("{} {}", names.join(" "), shown(number)))
        });
        self.busiest = busiest.collect::<Vec<_>>().join(", ");
    }
}

impl State {
    /// With an overview as its first tab, where there is one.
    pub(crate) fn with_overview(mut self, overview: Option<Overview>) -> Self {
        self.overview = overview;
        self
    }

    /// The overview, if that is what is shown.
    pub(super) fn overview(&self) -> Option<&Overview> {
        let is_shown = self.current == 0 && !self.tab().view.is_detail;
        self.overview.as_ref().filter(|_| is_shown)
    }

    /// Takes what all tabs have as a reading of the overview.
    pub(super) fn join(&mut self, names: &dyn Names) -> Effect {
        let overview = self.overview.as_ref();
        match overview.and_then(|overview| overview.join(&self.tabs)) {
            Some(joined) => self.read(0, joined, names),
            None => Effect::None,
        }
    }

    pub(super) fn refresh_overview(&mut self, names: &dyn Names) {
        let behind = self.behind();
        if let Some(overview) = self.overview.as_mut().filter(|_| self.current == 0) {
            for line in &mut overview.lines {
                line.refresh(&self.tabs[line.tab].feed, behind, names);
            }
        }
    }

    /// Moves among the lines of the overview. Whether that is all.
    pub(super) fn go_line(&mut self, action: Action) -> bool {
        let is_first = self.tab().place().is_none_or(|place| place == 0);
        if self.overview().is_none() {
            return false;
        }
        let Some(overview) = &mut self.overview else {
            return false;
        };
        let last = overview.lines.len().saturating_sub(1);
        let next = match (action, overview.selected) {
            (Action::FirstRow, _) => Some(0),
            (Action::Row(..0), None) if is_first => Some(last),
            (Action::Row(step), Some(line)) => {
                let next = line.saturating_add_signed(step);
                (next <= last).then_some(next)
            }
            _ => None,
        };
        overview.selected = next;
        if next.is_some() {
            self.tab_mut().view.selected = None;
        }
        next.is_some()
    }

    /// Opens the tab of the selected line. Whether there is one.
    pub(super) fn enter_line(&mut self, names: &dyn Names) -> bool {
        let overview = self.overview();
        let line = overview.and_then(|it| it.lines.get(it.selected?));
        let tab = line.map(|line| line.tab);
        if let Some(tab) = tab {
            self.open_tab(tab, names);
        }
        tab.is_some()
    }

    pub(super) fn click_line(&mut self, line: usize, names: &dyn Names) -> Effect {
        if self.overview().is_some_and(|it| it.selected == Some(line)) {
            self.enter_line(names);
        } else if let Some(overview) = &mut self.overview {
            overview.selected = Some(line);
            self.tab_mut().view.selected = None;
        }
        Effect::None
    }
}
