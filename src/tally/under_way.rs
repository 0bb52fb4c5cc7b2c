//! Reads what is under way, so that a reading is of now: see "The instant of a
//! reading" in docs/architecture.md.

use std::collections::{HashMap, HashSet};
use std::ops::ControlFlow;
use std::os::fd::BorrowedFd;
use std::time::Duration;

use anyhow::{Context, Result, anyhow};
use libbpf_rs::OpenObject;
use nix::time::{ClockId, clock_gettime};
use serde::{Deserialize, Serialize};

use crate::map::{self, Map, Outcome, TaskWalk};
use crate::schema::{ENDING, Schema, UnderWay};

/// What ended while a reading was made and had lasted less than this is not
/// looked for in the tables: they have it at the next reading. It is less than the
/// time from one reading to the next, so no earlier one had any of it.
const SHORT: u64 = 10_000;

/// The maps of a tally that hold what is under way.
#[derive(Debug, Default)]
pub(super) struct States(Vec<State>);

#[derive(Debug)]
struct State {
    declared: UnderWay,
    table: usize,
    source: Source,
}

#[derive(Debug)]
pub(super) enum Source {
    /// Of each CPU, or by some key.
    Map(Box<Map>),
    /// Of each task.
    Tasks(TaskWalk),
}

impl Source {
    /// Of a map that this process has loaded, and perhaps a program that hands out its
    /// values.
    pub(super) fn of(map: Map, walk: Option<BorrowedFd<'_>>) -> Result<Self> {
        Ok(if map.is_of_tasks() {
            Self::Tasks(TaskWalk::new(&map, walk)?)
        } else {
            Self::Map(Box::new(map))
        })
    }
}

/// Before loading: selects the programs that hand out what is under way.
pub(super) fn prepare(object: &mut OpenObject, schema: &Schema) {
    let walks: Vec<String> = schema.under_way.iter().map(UnderWay::walk).collect();
    for mut program in object.progs_mut() {
        if walks.iter().any(|walk| program.name() == walk.as_str()) {
            program.set_autoload(true);
        }
    }
}

/// The start of an event: of which map, of whose value, and which in there.
type Id = (usize, Vec<u8>, usize);
/// A row: the number of its table, and its key.
pub(super) type RowId = (usize, Vec<u8>);

#[derive(Debug, PartialEq, Eq)]
struct Start {
    since: u64,
    row: RowId,
}

/// Every start, read after one instant.
#[derive(Debug)]
pub(super) struct Starts {
    /// The instant, by `CLOCK_MONOTONIC`.
    pub(super) at: u64,
    known: HashMap<Id, Start>,
}

/// What is under way of one row: the cells that it adds to, and what it adds.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct RowUnderWay {
    pub(super) row: RowId,
    pub(super) cells: Vec<(usize, u64)>,
}

/// What was under way when the programs ran for the last time.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Kept {
    /// That instant, by `CLOCK_MONOTONIC`.
    pub(super) at: u64,
    pub(super) rows: Vec<RowUnderWay>,
}

impl States {
    /// `source` opens what an object declares.
    pub(super) fn new(
        schema: &Schema,
        source: impl Fn(&UnderWay) -> Result<Source>,
    ) -> Result<Self> {
        let states = schema.under_way.iter();
        let states = states.map(|it| State::new(it, schema, source(it)?));
        Ok(Self(states.collect::<Result<_>>()?))
    }

    /// The iterators over tasks, with the names of their maps.
    pub(super) fn walks(&self) -> impl Iterator<Item = (&str, &TaskWalk)> {
        self.0.iter().filter_map(|state| match &state.source {
            Source::Tasks(walk) => Some((state.declared.map.as_str(), walk)),
            Source::Map(_) => None,
        })
    }

    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// `stopped_at` is given when no more events begin or end.
    pub(super) fn read(&self, stopped_at: Option<u64>) -> Result<Starts> {
        let at = stopped_at.unwrap_or_else(monotonic_now);
        let mut known = HashMap::new();
        for (i, state) in self.0.iter().enumerate() {
            state.read(|owner, nth, since, key| {
                let row = (state.table, key.to_vec());
                known.insert((i, owner.to_vec(), nth), Start { since, row });
            })?;
        }
        Ok(Starts { at, known })
    }

    /// What is under way of each row that is wanted, from `before` to `after`: no row
    /// has any of it.
    pub(super) fn lasting(
        &self,
        before: &Starts,
        after: &Starts,
        is_wanted: impl Fn(&RowId) -> bool,
    ) -> Vec<RowUnderWay> {
        let mut rows: HashMap<&RowId, HashMap<usize, u64>> = HashMap::new();
        for (id, start, lasted) in before.lasting(after) {
            if is_wanted(&start.row) {
                let declared = &self.0[id.0].declared;
                let cells = rows.entry(&start.row).or_default();
                *cells.entry(declared.count).or_default() += 1;
                if let Some(time) = declared.time {
                    *cells.entry(time).or_default() += lasted;
                }
            }
        }
        let rows = rows.into_iter().map(|(row, cells)| RowUnderWay {
            row: row.clone(),
            cells: cells.into_iter().collect(),
        });
        rows.collect()
    }

    /// All that is under way, when no more events begin or end.
    pub(super) fn keep(&self, at: u64) -> Result<Kept> {
        let starts = self.read(Some(at))?;
        let rows = self.lasting(&starts, &starts, |_| true);
        Ok(Kept { at, rows })
    }
}

impl State {
    fn new(declared: &UnderWay, schema: &Schema, source: Source) -> Result<Self> {
        let mut tables = schema.tables.iter();
        let table = tables.position(|table| table.name == declared.table);
        Ok(Self {
            declared: declared.clone(),
            table: table.ok_or_else(|| anyhow!("there is no table `{}`", declared.table))?,
            source,
        })
    }

    /// Calls `start` with the owner of each start, its place among the owner's starts,
    /// its time and its key.
    fn read(&self, mut start: impl FnMut(&[u8], usize, u64, &[u8])) -> Result<()> {
        let mut entry = |owner: &[u8], value: &[u8]| {
            let starts = self.declared.starts(value);
            starts.for_each(|(nth, since, key)| start(owner, nth, since, key));
            ControlFlow::Continue(())
        };
        let outcome = match &self.source {
            Source::Tasks(walk) => walk.read(&mut entry),
            Source::Map(map) => map::Reader::new(map).read(|owner, values| {
                // A CPU_STATE has a value for each CPU: the owner is the CPU.
                for (cpu, value) in map.values(values).enumerate() {
                    let owner = [owner, &cpu.to_ne_bytes()].concat();
                    let _ = entry(&owner, value);
                }
                ControlFlow::Continue(())
            }),
        };
        let outcome = outcome.with_context(|| {
            format!(
                "failed to read what is under way of `{}`",
                self.declared.map
            )
        })?;
        match outcome {
            Outcome::Incomplete(why) => Err(anyhow!("what is under way: {why}")),
            _ => Ok(()),
        }
    }
}

impl Start {
    /// How long it has been under way; `None` where it began after `now`, or is
    /// just being written.
    fn lasted(&self, now: u64) -> Option<u64> {
        now.checked_sub(self.since & !ENDING)
            .filter(|_| self.since != ENDING)
    }
}

impl Starts {
    /// What was under way all the time from here to `after`, and how long by now.
    fn lasting<'s>(&'s self, after: &'s Self) -> impl Iterator<Item = (&'s Id, &'s Start, u64)> {
        let lasting = self
            .known
            .iter()
            .filter(|(id, start)| start.since & ENDING == 0 && after.known.get(id) == Some(start));
        lasting.filter_map(|(id, start)| Some((id, start, start.lasted(self.at)?)))
    }

    /// The rows of what ended meanwhile, or is about to: whether they have it is
    /// not known.
    pub(super) fn unsettled(&self, after: &Self) -> HashSet<RowId> {
        let ended = self.known.iter().filter(|(id, start)| {
            let is_changed = start.since & ENDING != 0 || after.known.get(id) != Some(start);
            is_changed && start.lasted(self.at).is_some_and(|lasted| lasted >= SHORT)
        });
        ended.map(|(_, start)| start.row.clone()).collect()
    }
}

/// The clock of `bpf_ktime_get_ns()`, which stands still while the host sleeps.
pub(super) fn monotonic_now() -> u64 {
    let now = clock_gettime(ClockId::CLOCK_MONOTONIC).map_or(Duration::ZERO, Duration::from);
    u64::try_from(now.as_nanos()).unwrap_or(u64::MAX)
}
