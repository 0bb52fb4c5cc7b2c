//! What is said of the state elsewhere: warnings, last words, files and commands.

use super::draw::losses;
use super::state::{Effect, State};
use super::tab::{Numbers, Tab};
use crate::render::{Format, Renderer, Style};
use crate::schema::Names;
use crate::snapshot::{Snapshot, TableSnapshot};
use crate::text::plural;

impl State {
    /// Says the next thing that was lost, and what helps.
    pub(super) fn warn(&mut self, step: isize) {
        let warnings = self.tab().feed.warnings(self.host.clock);
        let Some(count) = isize::try_from(warnings.len()).ok().filter(|it| *it > 0) else {
            "nothing was lost".clone_into(&mut self.message);
            return;
        };
        self.warning = (self.warning + step).rem_euclid(count);
        let place = self.warning.unsigned_abs();
        self.message = format!("! {} of {count}: {}", place + 1, warnings[place]);
    }

    /// What every table counted and lost, for the end.
    pub(crate) fn last_words(&self) -> Vec<String> {
        let own = usize::from(self.overview.is_some());
        let words = self.tabs.iter().skip(own).filter_map(|tab| {
            let moment = tab.feed.moment(0)?;
            let seconds = moment.totals.as_deref()?.seconds;
            let lost = losses(tab.feed.lost());
            let rows = plural(moment.rows_read as u64, "row");
            Some(format!(
                "{}: {rows} in {seconds:.0} s; {lost}",
                tab.feed.name
            ))
        });
        words.collect()
    }

    /// What is shown as `-o json` has it.
    pub(super) fn export(&self, names: &dyn Names) -> Effect {
        let tab = self.tab();
        let time = humantime::format_rfc3339_seconds(self.own.now).to_string();
        let name = format!(
            "ktally-{}-{}.json",
            tab.feed.name,
            time.replace(['-', ':'], "")
        );
        match tab.json(self.behind(), names) {
            Some(text) => Effect::Export(name, text),
            None => Effect::None,
        }
    }

    /// The command that prints what is shown.
    pub(super) fn command(&self) -> String {
        let tab = self.tab();
        let mut words = vec!["ktally".to_owned(), tab.feed.source.clone()];
        if self.overview().is_some() {
            return words.join(" ");
        }
        // A dump is one reading.
        if !tab.feed.source.starts_with("map ") {
            words.push(format!("--every {}ms", self.every.as_millis()));
        }
        words.extend(["--sort".to_owned(), tab.sort()]);
        words.extend(
            tab.view
                .by
                .iter()
                .flat_map(|by| ["--by".to_owned(), by.clone()]),
        );
        for filter in tab.view.filter.split_whitespace() {
            let quoted = filter.replace('\'', r"'\''");
            words.extend(["--where".to_owned(), format!("'{quoted}'")]);
        }
        words.extend(tab.view.is_total.then(|| "--total".to_owned()));
        words.join(" ")
    }
}

impl Tab {
    /// What the view is of, as `-o json` has it.
    pub(super) fn json(&self, behind: usize, names: &dyn Names) -> Option<String> {
        let moment = self.feed.moment(behind)?;
        let Numbers {
            seconds,
            rows,
            other,
        } = self.numbers(moment);
        let query = self.query(self.view.by.as_deref());
        let selection = query.apply(&self.feed.table, &rows, names);
        let lost = moment.lost;
        let snapshot = Snapshot {
            tally: self.feed.name.clone(),
            summary: self.feed.summary.clone(),
            time: moment.time,
            seconds,
            missed: lost.missed,
            missed_by: Vec::new(),
            gaps: lost.gaps,
            incomplete: moment.incomplete.clone(),
            tables: vec![TableSnapshot {
                table: &selection.table,
                rows: selection.named(names, false),
                rows_read: moment.rows_read,
                held_back: false,
                matching: selection.matching,
                leaves_out_other: other.is_some() && !query.filters.is_empty(),
                other: other.filter(|_| query.filters.is_empty()),
                uncertain: 0,
                dropped: lost.dropped,
                reset: 0,
            }],
            is_interval: !self.view.is_total,
            unraised: None,
            sort: None,
        };
        let mut text = Vec::new();
        let mut renderer = Renderer::new(Format::Json, Style::default());
        renderer.render(&mut text, &[snapshot], None).ok()?;
        String::from_utf8(text).ok()
    }
}
