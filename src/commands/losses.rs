//! What a tally has lost: warnings behind its last reading.

use super::report::Counted;
use super::{plural, warn};
use crate::schema::{Table, whole_number};
use crate::snapshot::TableReading;

impl Counted {
    /// Of its last reading.
    pub(super) fn warn_of_losses(&self) {
        let Some(last) = &self.before else {
            return;
        };
        for (table, reading) in self.tables.iter().zip(&last.tables) {
            self.warn_of_table(table, reading);
        }
        if let Some(missed @ 1..) = last.missed {
            let named = last.missed_by.iter().filter(|(_, missed)| *missed > 0);
            let named: Vec<String> = named
                .map(|(name, missed)| format!("`{name}` {}", whole_number((*missed).into())))
                .collect();
            let named = match named.is_empty() {
                true => String::new(),
                false => format!(" ({})", named.join(", ")),
            };
            warn(&format!(
                "the kernel skipped {} of the programs of `{}`{named}, as one was already running",
                plural(missed, "run"),
                self.name
            ));
        }
        if let Some(gaps @ 1..) = last.gaps {
            warn(&format!(
                "the kernel did not report some of the events of `{}`: it left {}",
                self.name,
                plural(gaps, "gap")
            ));
        }
        if let Some(unraised @ 1..) = last.unraised {
            warn(&format!(
                "a maximum of `{}` may be too low: {} to raise one failed, as other CPUs were faster",
                self.name,
                plural(unraised, "attempt")
            ));
        }
        if self.reset > 0 {
            warn(&format!(
                "{} reset (deleted, evicted or set to zero): what they counted just before is lost",
                match self.reset {
                    1 => "1 row was".to_owned(),
                    many => format!("{} rows were", whole_number(many.into())),
                }
            ));
        }
        if let Some(why) = &last.incomplete {
            warn(&format!(
                "the last reading of `{}` is incomplete: {why}",
                self.name
            ));
        }
    }

    /// What a table could not keep of its events.
    fn warn_of_table(&self, table: &Table, reading: &TableReading) {
        let (name, rows) = (&table.name, reading.rows.len());
        let is_full = rows >= self.max_rows.unwrap_or(table.max_entries) as usize;
        let room = || {
            let rows = plural(rows as u64, "row");
            format!("(it holds {rows}); give it more with --max-rows")
        };
        if let Some(other @ 1..) = reading.other_events(table) {
            let events = plural(other, "event");
            warn(&if is_full {
                format!(
                    "table `{name}` had no room for the keys of {events} {}",
                    room()
                )
            } else {
                format!(
                    "table `{name}` had no room, or found no memory, for the keys of {events}; give it more with --max-rows"
                )
            });
        }
        let Some(dropped @ 1..) = reading.dropped else {
            return;
        };
        let events = plural(dropped, "event");
        warn(&match reading.other {
            Some(_) => format!(
                "table `{name}` found no memory for the start of {events}: their time is unknown"
            ),
            None if is_full => format!("table `{name}` had no room for {events} {}", room()),
            None => format!("table `{name}` had no memory for {events}"),
        });
    }
}
