//! What authors easily forget, as the object shows it.

use std::collections::HashMap;

use super::catalogue::Tally;
use super::code::{self, CALL, Code, Instruction};
use crate::schema::{Metric, MetricKind, OptionSpec, Table, padding};

/// `bpf_map_lookup_elem` and `bpf_map_update_elem`.
const LOOKUP: i32 = 1;
const UPDATE: i32 = 2;
/// The flag of an update that only makes new elements.
const NOEXIST: i32 = 1;
const STACK: u8 = 10;

impl Tally {
    /// What is worth another look, a sentence each.
    pub fn lint(&self) -> Vec<String> {
        let mut findings = Vec::new();
        if self.summary().is_empty() {
            findings.push("no summary: write TALLY(\"what it counts\")".to_owned());
        }
        let options = self.schema.options.iter().filter(|it| it.help.is_empty());
        findings.extend(options.map(without_help));
        for table in &self.schema.tables {
            lint_table(table, &mut findings);
        }
        let code = self.object().map(code::read);
        for code in code.into_iter().flatten().flatten() {
            lint_code(&code, &self.schema.tables, &mut findings);
        }
        findings
    }
}

fn without_help(option: &OptionSpec) -> String {
    format!(
        "`{}` has no help: declare it by OPTION(type, name, default, \"help\")",
        option.name
    )
}

fn lint_table(table: &Table, findings: &mut Vec<String>) {
    let name = &table.name;
    if table.help.is_empty() {
        findings.push(format!(
            "table `{name}` has no help: declare it by TABLE(name, key, value, max, \"help\")"
        ));
    }
    for metric in &table.metrics {
        let column = &metric.name;
        if metric.help.is_empty() {
            findings.push(format!(
                "column `{column}` of table `{name}` has no help: write COUNTER(\"help\") behind it, or GAUGE, MAXIMUM, HISTOGRAM, HIDDEN"
            ));
        }
        if let Some(unit) = unit_of(metric) {
            findings.push(format!(
                "column `{column}` of table `{name}` has no unit: if it counts {unit}, write UNIT({unit})"
            ));
        }
    }
    for (bytes, behind) in padding(table) {
        findings.push(format!(
            "the key of table `{name}` has {bytes} bytes of padding behind `{behind}`, which are compared: zero a key (`= {{}}`) before you fill it"
        ));
    }
}

/// The unit that a name suggests.
fn unit_of(metric: &Metric) -> Option<&'static str> {
    if metric.unit.is_some() || metric.kind == MetricKind::UnderWay {
        return None;
    }
    let words = [
        ("ns", "time latency duration delay wait ns"),
        ("bytes", "bytes size length"),
    ];
    let last = metric.name.rsplit(['_', '.']).next().unwrap_or_default();
    let is_it = |(_, words): &&(&str, &str)| words.split(' ').any(|word| word == last);
    words.iter().find(is_it).map(|(unit, _)| *unit)
}

fn lint_code(code: &Code, tables: &[Table], findings: &mut Vec<String>) {
    let is_table = |map: &str| tables.iter().any(|table| table.name == map);
    for (at, helper, map) in code.calls() {
        let Some(map) = map.filter(|map| helper == UPDATE && is_table(map)) else {
            continue;
        };
        if !code.makes_only(at) {
            findings.push(format!(
                "{}: an update of `{map}` replaces the whole element, and another CPU's count with it: use tally_entry(), or BPF_NOEXIST with zeroes, and add in place",
                code.place(at)
            ));
        }
    }
    for (at, map) in code.plain_adds() {
        findings.push(format!(
            "{}: a plain `+=` in `{map}` loses counts when another CPU or an interrupt adds meanwhile: use __sync_fetch_and_add(&value->member, n)",
            code.place(at)
        ));
    }
}

/// What a register or a place on the stack holds.
#[derive(Clone, PartialEq)]
enum Held {
    /// A pointer into a value of this map.
    Value(String),
    /// A number that was read from there, and whether something was added to it.
    Number {
        map: String,
        offset: i16,
        is_added: bool,
    },
}

impl Code {
    /// Whether an update has the flag that makes it insert only: its fourth argument is
    /// set shortly before it.
    fn makes_only(&self, at: usize) -> bool {
        const MOV: [u8; 2] = [0xb7, 0xb4];
        let before = self.instructions[..at].iter().rev().take(16);
        let mut sets = before.filter(|it| MOV.contains(&it.code) && it.target == 4);
        sets.next().is_some_and(|it| it.immediate == NOEXIST)
    }

    /// Numbers in the values of maps that are read, added to, and written back: where,
    /// and the map. It follows registers through straight code.
    fn plain_adds(&self) -> Vec<(usize, String)> {
        let mut found = Vec::new();
        let mut held: HashMap<(u8, i16), Held> = HashMap::new();
        let mut lookups = self
            .calls()
            .filter(|(_, helper, _)| *helper == LOOKUP)
            .peekable();
        for (at, it) in self.instructions.iter().enumerate() {
            if let Some(map) = stored(it, &held) {
                found.push((at, map));
            }
            step(it, &mut held);
            if let Some((_, _, map)) = lookups.next_if(|(call, ..)| *call == at)
                && let Some(map) = map
            {
                held.insert((0, 0), Held::Value(map.to_owned()));
            }
        }
        found
    }
}

/// The map that a store writes an added number back to.
fn stored(it: &Instruction, held: &HashMap<(u8, i16), Held>) -> Option<String> {
    let is_store = matches!(it.code, 0x63 | 0x6b | 0x73 | 0x7b);
    let value = held.get(&(it.target, 0)).filter(|_| is_store)?;
    match (value, held.get(&(it.source, 0))?) {
        (
            Held::Value(of),
            Held::Number {
                map,
                offset,
                is_added: true,
            },
        ) if of == map && *offset == it.offset => Some(map.clone()),
        _ => None,
    }
}

/// What one instruction does to what registers hold.
fn step(it: &Instruction, held: &mut HashMap<(u8, i16), Held>) {
    let from = held.get(&(it.source, 0)).cloned();
    let now = match it.code {
        // Loads, and those from the stack.
        0x61 | 0x69 | 0x71 | 0x79 if it.source == STACK => held.get(&(STACK, it.offset)).cloned(),
        0x61 | 0x69 | 0x71 | 0x79 => match from {
            Some(Held::Value(map)) => Some(Held::Number {
                map,
                offset: it.offset,
                is_added: false,
            }),
            _ => None,
        },
        0x7b if it.target == STACK => {
            match from {
                Some(from) => held.insert((STACK, it.offset), from),
                None => held.remove(&(STACK, it.offset)),
            };
            return;
        }
        0xbf => from,
        0x07 | 0x04 | 0x0f | 0x0c => match held.get(&(it.target, 0)).cloned() {
            Some(Held::Number { map, offset, .. }) => Some(Held::Number {
                map,
                offset,
                is_added: true,
            }),
            _ => None,
        },
        CALL => {
            held.retain(|(register, _), _| *register > 5);
            return;
        }
        // Other stores, atomic operations and jumps change no register.
        code if matches!(code & 7, 2 | 3 | 5 | 6) => return,
        _ => None,
    };
    match now {
        Some(now) => held.insert((it.target, 0), now),
        None => held.remove(&(it.target, 0)),
    };
}
