//! `watch`: what changed, each interval.

use std::collections::HashMap;
use std::io::{BufWriter, Write};
use std::ops::ControlFlow;
use std::time::{Instant, SystemTime};

use anyhow::{Context, Result};

use super::{MapCommand, warn};
use crate::cli::{Exit, WatchArgs};
use crate::commands::keep_capabilities;
use crate::commands::output::{Stdout, Writer};
use crate::commands::wait::{Schedule, Signals};
use crate::map::{Access, Map, Outcome, Reader};
use crate::render::{Change, Changes};

/// What was buffer for each key.
type Entries = HashMap<Vec<u8>, Vec<u8>>;

impl MapCommand<'_> {
    pub(super) fn watch(&self, args: &WatchArgs) -> Result<Exit> {
        let (map, declaration) = self.open(&args.map, Access::Read)?;
        map.check_readable()?;
        let signals = Signals::block()?;
        let mut schedule = Schedule::new(args.run_for, Some(args.every));
        let style = super::style(self.global);
        let format = self.global.output;
        let mut view = Changes::new(format, style, &declaration, &self.names);
        let stdout = Stdout::open()?;
        keep_capabilities(self.names.all_capabilities());
        let mut complete = true;
        let nothing = Entries::new();
        let (mut before, mut then) = (read(&map, &nothing, &mut complete)?, Instant::now());
        loop {
            let (instant, is_last) = schedule.next();
            let ended = signals.wait_until(instant)?;
            let (now, at) = (read(&map, &before, &mut complete)?, Instant::now());
            let seconds = (at - then).as_secs_f64();
            let changes = differences(&map, &before, &now);
            let is_last = is_last || ended;
            // No counting depends on this process.
            let mut stop = || {};
            let out = &mut BufWriter::new(Writer {
                stdout: &stdout,
                signals: &signals,
                end: schedule.end().filter(|_| !is_last),
                stop: &mut stop,
            });
            let written = view.render(out, SystemTime::now(), seconds, &changes);
            let written = written.and_then(|()| out.flush());
            if stdout.was_cut() {
                warn("the output is incomplete: its reader stopped, and a signal ended it");
                return Ok(Exit::Incomplete);
            }
            written.context("failed to write")?;
            (before, then) = (now, at);
            if is_last {
                break;
            }
        }
        Ok(if complete && !(args.strict && view.reset() > 0) {
            Exit::Done
        } else {
            Exit::Incomplete
        })
    }
}

/// Entries that an incomplete reading did not reach are taken from `before`.
fn read(map: &Map, before: &Entries, complete: &mut bool) -> Result<Entries> {
    let mut entries = Entries::new();
    let outcome = Reader::new(map).read(|key, buffer| {
        entries.insert(key.to_vec(), buffer.to_vec());
        ControlFlow::Continue(())
    });
    let outcome = outcome.with_context(|| format!("failed to watch map {}", map.title()))?;
    if let Outcome::Incomplete(why) = outcome {
        warn(&format!("a reading is incomplete: {why}"));
        *complete = false;
        for (key, buffer) in before {
            let entry = entries.entry(key.clone());
            entry.or_insert_with(|| buffer.clone());
        }
    }
    Ok(entries)
}

/// What is new, changed or gone, by key.
fn differences<'e>(map: &Map, before: &'e Entries, now: &'e Entries) -> Vec<Change<'e>> {
    let mut changes = Vec::new();
    let values = |buffer: &'e Vec<u8>| map.values(buffer).collect::<Vec<&'e [u8]>>();
    for (key, buffer) in now {
        match before.get(key) {
            Some(old) if old == buffer => {}
            old => changes.push(Change {
                key,
                before: old.map(values),
                now: Some(values(buffer)),
            }),
        }
    }
    for (key, old) in before {
        if !now.contains_key(key) {
            changes.push(Change {
                key,
                before: Some(values(old)),
                now: None,
            });
        }
    }
    changes.sort_by(|a, b| a.key.cmp(b.key));
    changes
}
