//! `ktally top --bpf`: the programs and the maps of the host, as two tables. A key is
//! an id; what else is known of a program or a map is text, which changes.

use std::collections::HashMap;
use std::sync::{Arc, Mutex};
use std::time::{Instant, SystemTime};

use anyhow::Result;
use caps::Capability;

use crate::map::{Owners, Survey};
use crate::names::HostNames;
use crate::schema::{Decoder, Label, Metric, MetricKind, Names, Place, Table, Type, Unit, Value};
use crate::snapshot::{Reading, Rows, TableReading};

/// What is said as long as no other message is.
pub(super) const MEASURES: &str =
    "the kernel measures its programs while this is open, which makes each run a little slower";

/// Texts by the label and the id that they are of.
type Known = HashMap<(Decoder, u32), String>;

/// Between the thread that reads and the one that draws.
pub(super) type Shared = Arc<Mutex<Known>>;

/// How many times as many texts as there are now are kept.
const MOST_GONE: usize = 10;

/// What decoders begin with whose texts the page knows.
const PREFIX: &str = "bpf:";

/// The names of the host, and the texts of the page.
#[derive(Default)]
pub(super) struct Texts {
    pub(super) host: HostNames,
    known: Shared,
}

/// What is read.
pub(super) struct Page {
    survey: Survey,
    texts: Shared,
    since: Instant,
    /// The runs of each program and their time, as they were last read.
    before: HashMap<u32, [u64; 2]>,
}

/// Both tables, without a limit of rows.
pub(super) fn tables() -> Vec<Table> {
    let metric = |kind, name: &str, unit, help: &str| Metric {
        name: name.to_owned(),
        help: help.to_owned(),
        kind,
        is_declared: true,
        place: Place::whole(Type::unsigned(8)),
        unit,
        cell: 0,
        greatest: None,
        with: None,
    };
    let (time, bytes) = (|| Some(Unit::Time(1)), || Some(Unit::Bytes));
    use MetricKind::{Counter, Gauge, Maximum};
    let programs = vec![
        metric(Counter, "runs", None, "runs"),
        metric(Counter, "time", time(), "time that runs took"),
        metric(Maximum, "mean", time(), "time of a run, in the interval"),
        metric(Counter, "missed", None, "runs that the kernel skipped"),
    ];
    let maps = vec![
        metric(Gauge, "used", None, "entries"),
        metric(Gauge, "max", None, "entries that it has room for"),
        metric(
            Maximum,
            "full",
            Some(Unit::from_tag("%")),
            "entries in use, of those",
        ),
        metric(Gauge, "memory", bytes(), "memory of the kernel"),
    ];
    vec![
        table("programs", "BPF programs of the host", "time", programs),
        table("maps", "BPF maps of the host", "memory", maps),
    ]
}

fn table(name: &str, help: &str, sort_by: &str, metrics: Vec<Metric>) -> Table {
    let id = Type::unsigned(4);
    let label = |label: &str, decoder| Label {
        name: label.to_owned(),
        place: Place::whole(Arc::clone(&id)),
        decoder: Some(decoder),
        with: None,
        idle: Vec::new(),
    };
    let mut labels = vec![label("id", Decoder::ID)];
    let texts = ["name", "type", "held_by", "pins"];
    labels.extend(texts.map(|text| label(text, decoder(name, text))));
    let mut table = Table::of_columns((name, help), labels, metrics);
    table.key_size = id.size;
    table.sort_by = Some(sort_by.to_owned());
    table.shows_idle = true;
    table
}

fn decoder(table: &str, label: &str) -> Decoder {
    Decoder::from_tag(&format!("{PREFIX}{table}.{label}"))
}

impl Page {
    pub(super) const CAPABILITIES: [Capability; 4] = [
        Capability::CAP_SYS_ADMIN,
        Capability::CAP_BPF,
        Capability::CAP_PERFMON,
        Capability::CAP_DAC_READ_SEARCH,
    ];

    pub(super) fn open(texts: &Shared) -> Result<Self> {
        Ok(Self {
            survey: Survey::start()?,
            texts: Arc::clone(texts),
            since: Instant::now(),
            before: HashMap::new(),
        })
    }

    pub(super) fn read(&mut self, tables: &[Table]) -> Result<Reading> {
        let (programs, maps) = self.survey.look()?;
        let mut known = Known::new();
        let mut rows = [Rows::of(&tables[0]), Rows::of(&tables[1])];
        for it in programs {
            let now = [it.runs, it.time];
            let before = self.before.insert(it.id, now).unwrap_or(now);
            let [runs, time] = [0, 1].map(|i| now[i].saturating_sub(before[i]));
            let mean = time.checked_div(runs).unwrap_or(0);
            let cells = [it.runs, it.time, mean, it.missed];
            rows[0].push(&it.id.to_ne_bytes()).copy_from_slice(&cells);
            know(
                &mut known,
                "programs",
                it.id,
                (it.name, it.kind, &it.owners),
            );
        }
        for it in maps {
            let percent = (it.used * 100).checked_div(it.max_entries).unwrap_or(0);
            let cells = [it.used, it.max_entries, percent, it.memory];
            rows[1].push(&it.id.to_ne_bytes()).copy_from_slice(&cells);
            know(&mut known, "maps", it.id, (it.name, it.kind, &it.owners));
        }
        if let Ok(mut texts) = self.texts.lock() {
            // Those of what is gone are still shown in earlier readings, up to a bound.
            if texts.len() > MOST_GONE * known.len() {
                texts.clear();
            }
            texts.extend(known);
        }
        let of_rows = |rows| TableReading {
            rows,
            ..TableReading::default()
        };
        Ok(Reading {
            time: SystemTime::now(),
            seconds: self.since.elapsed().as_secs_f64(),
            tables: rows.map(of_rows).into(),
            missed: None,
            missed_by: Vec::new(),
            gaps: None,
            unraised: None,
            incomplete: None,
        })
    }
}

fn know(known: &mut Known, table: &str, id: u32, (name, kind, owners): (String, String, &Owners)) {
    let holders = owners.holders.iter();
    let holders: Vec<_> = holders
        .map(|it| format!("{}({})", it.comm, it.pid))
        .collect();
    let pins: Vec<_> = owners
        .pins
        .iter()
        .map(|it| it.display().to_string())
        .collect();
    let texts = [
        ("name", name),
        ("type", kind),
        ("held_by", holders.join(" ")),
        ("pins", pins.join(" ")),
    ];
    known.extend(texts.map(|(label, text)| ((decoder(table, label), id), text)));
}

impl Texts {
    pub(super) fn shared(&self) -> Shared {
        Arc::clone(&self.known)
    }
}

fn is_text(decoder: &Decoder) -> bool {
    decoder.tag().starts_with(PREFIX)
}

fn shows_text(label: &Label) -> bool {
    label.decoder.as_ref().is_some_and(is_text)
}

impl Names for Texts {
    fn name<'a>(&self, decoder: &Decoder, place: &Place, bytes: &'a [u8]) -> Option<Value<'a>> {
        if !is_text(decoder) {
            return self.host.name(decoder, place, bytes);
        }
        let id = place.raw(bytes)?.try_into().ok()?;
        let known = self.known.lock().ok()?;
        let text = known.get(&(decoder.clone(), id)).cloned();
        Some(Value::Text(text.unwrap_or_default().into()))
    }

    fn number(&self, decoder: &Decoder, name: &str) -> Result<Option<i128>> {
        match is_text(decoder) {
            true => Ok(None),
            false => self.host.number(decoder, name),
        }
    }

    fn joins(&self, label: &Label) -> bool {
        shows_text(label) || self.host.joins(label)
    }

    fn comes_and_goes(&self, label: &Label) -> bool {
        shows_text(label) || self.host.comes_and_goes(label)
    }

    fn described<'a>(&self, label: &'a Label, key: &'a [u8]) -> Value<'a> {
        match shows_text(label) {
            true => self.of(label, key),
            false => self.host.described(label, key),
        }
    }
}
