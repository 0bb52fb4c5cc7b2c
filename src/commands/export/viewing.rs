//! What the API shows of a source.

use std::sync::Arc;

use hyper::StatusCode;

use super::exported::Exported;
use crate::commands::source::Source;
use crate::error::Usage;
use crate::export::{View, answer};
use crate::names::HostNames;
use crate::snapshot::Reading;

/// A reading that was shown, which the next one of a stream is compared with.
pub(super) struct Seen {
    /// How often the source was opened.
    pub(super) opened: u64,
    pub(super) seq: u64,
    pub(super) reading: Arc<Reading>,
}

/// What a reading is shown as.
pub(super) enum Since {
    /// All that was counted.
    Ever,
    /// The same, at the start of a stream.
    Start,
    /// What was counted since another reading.
    Last(Seen),
}

/// A reading as text, and itself.
pub(super) struct Shown {
    pub(super) text: String,
    pub(super) seen: Seen,
}

/// Why nothing is shown.
pub(super) type Refusal = (StatusCode, String);

impl Exported {
    pub(super) fn view(
        &mut self,
        view: &View,
        since: &Since,
        names: &HostNames,
    ) -> Result<Shown, Refusal> {
        let refuse = |error: anyhow::Error| match error.is::<Usage>() {
            true => (StatusCode::BAD_REQUEST, format!("{error:#}")),
            false => (StatusCode::INTERNAL_SERVER_ERROR, format!("{error:#}")),
        };
        let gone = format!("`{}` is not attached any more", self.name());
        let gone = || (StatusCode::NOT_FOUND, gone.clone());
        let tables = self.source().map(|source| source.tables.clone());
        let tables = tables.ok_or_else(gone)?;
        view.query.check(&tables, names).map_err(refuse)?;
        let seen = self.see().map_err(refuse)?.ok_or_else(gone)?;
        let (numbers, gap) = match since {
            Since::Last(before) if before.opened == seen.opened && !view.totals => {
                (Some(seen.reading.since(&before.reading, &tables)), None)
            }
            Since::Last(before) if before.opened != seen.opened => (None, Some("restarted")),
            Since::Start if !view.totals => (None, Some("start")),
            _ => (None, None),
        };
        let is_interval = numbers.is_some();
        let numbers = numbers.unwrap_or_else(|| seen.reading.in_all(&tables).into_owned());
        let subject = answer::Subject {
            name: self.name(),
            summary: self.source().map_or("", |source| &source.summary),
            tables: &tables,
            reading: &numbers,
            is_interval,
            seq: seen.seq,
            gap,
        };
        let text = answer::reading(view, &subject, names);
        Ok(Shown { text, seen })
    }

    /// What the catalogue says of it.
    pub(super) fn listed(&self) -> answer::Listed<'_> {
        let source = self.source();
        answer::Listed {
            name: self.name(),
            tally: self.tally(),
            kind: match source {
                Some(source) if source.is_map() => "map",
                Some(source) if source.instance().is_none() => "tally",
                _ => "instance",
            },
            command: source.map_or("", |source| &source.command),
            summary: source.map_or("", |source| &source.summary),
            is_up: source.is_some(),
            tables: source.map_or(&[], |source| &source.tables),
            max_rows: source.map_or_else(Vec::new, Source::max_rows),
        }
    }
}
