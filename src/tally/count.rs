//! `ktally count`: makes the object of a tally from the prebuilt one and a plan, so
//! that it is loaded, attached, pinned and read as any other.
//!
//! The name of the event is written over the one that stands in the object, and its
//! BTF gets the types of the table's key and value, with the tags that an author
//! would have written. The plan itself is written into .rodata.

use std::fs;
use std::mem::offset_of;
use std::path::Path;

use anyhow::{Context, Result, anyhow};
use libbpf_rs::libbpf_sys;
use object::Endianness;
use object::elf::{FileHeader64, SectionHeader64};
use object::read::elf::{FileHeader, SectionHeader};

use super::attach;
use super::catalogue::Tally;
use super::support::Support;
use crate::host;
use crate::internal;
use crate::names::HostNames;
use crate::query::{Column, Measure, Plan, Query, Stored, World, c_name};
use crate::sys::btf::{Editor, Id};

impl Tally {
    /// A tally of what a query asks for.
    pub(crate) fn count(query: &Query) -> Result<Self> {
        let events: Vec<&str> = [&query.event]
            .into_iter()
            .chain(&query.to)
            .map(String::as_str)
            .collect();
        let plan = with_world(&events, |world| Plan::new(query, world, &HostNames::new()))?;
        let mut tally = Self::of_object(plan.event.name(), object(&plan)?)?;
        tally.as_c = Some(plan.as_c());
        let place = tally.schema.plan.clone();
        let place = place.context("the object has no plan")?;
        plan.write(&place, &mut tally.rodata)?;
        Ok(tally)
    }

    /// A tally without a query: it has the options that all queries have.
    pub(crate) fn count_anything() -> Result<Self> {
        Self::of_object("count", internal::COUNT.to_vec())
    }
}

/// Calls this with what the kernel and this host have, for these events.
pub(crate) fn with_world<T>(
    events: &[&str],
    call: impl FnOnce(&World<'_>) -> Result<T>,
) -> Result<T> {
    let support = Support::probe();
    let kernel = support.kernel()?;
    let names = events
        .iter()
        .map(|it| it.strip_prefix("function:").unwrap_or(it));
    let names: Vec<&str> = names.filter(|it| !it.contains([':', '@'])).collect();
    let with_module = kernel.with_module_of(&names)?;
    call(&World {
        kernel: with_module.as_ref().unwrap_or(kernel),
        lacks: &|event| {
            let target = event.target();
            let lack = support.lacks(&event.section());
            lack.or_else(|| attach::lacks_target(&target?))
        },
        format: &record_format,
    })
}

/// Stands in the sections of all programs: 128 letters.
const PLACEHOLDER: &[u8] = b"EVENT______";

fn object(plan: &Plan) -> Result<Vec<u8>> {
    let mut object = internal::COUNT.to_vec();
    for (program, section, _) in plan.programs() {
        name_section(&mut object, &program, &section)?;
    }
    let section = btf_section(&object)?;
    let old = &object[section.data];
    let btf = btf(old, plan).context("failed to describe the table")?;
    // At the end of the file: the header says where it is.
    object.resize(object.len().next_multiple_of(8), 0);
    let at = object.len() as u64;
    let mut set = |offset: usize, number: u64| {
        object[section.header + offset..][..8].copy_from_slice(&number.to_le_bytes());
    };
    set(offset_of!(SectionHeader64<Endianness>, sh_offset), at);
    set(
        offset_of!(SectionHeader64<Endianness>, sh_size),
        btf.len() as u64,
    );
    object.extend(btf);
    Ok(object)
}

/// How tracefs describes the record of a tracepoint.
fn record_format(group: &str, name: &str) -> Result<String> {
    let tracefs = host::tracefs_path().unwrap_or_default();
    let events = Path::new(tracefs).join("events");
    let format = events.join(group).join(name).join("format");
    fs::read_to_string(&format).with_context(|| format!("failed to read `{}`", format.display()))
}

/// `?traced/EVENT___` is a section whose program is not loaded. Without the `?` it is, and
/// its name has room for that of the event. It stands in the object several times.
fn name_section(object: &mut [u8], program: &str, new: &str) -> Result<()> {
    let old = [b"?", program.as_bytes(), b"/", PLACEHOLDER].concat();
    let mut is_found = false;
    let mut at = 0;
    while let Some(found) = object[at..].windows(old.len()).position(|it| it == old) {
        at += found;
        let len = object[at..].iter().position(|byte| *byte == 0);
        let name = &mut object[at..][..len.context("a name has no end")?];
        if new.len() > name.len() {
            return Err(anyhow!("`{new}` is too long for the name of an event"));
        }
        name.fill(0);
        name[..new.len()].copy_from_slice(new.as_bytes());
        is_found = true;
    }
    is_found
        .then_some(())
        .with_context(|| format!("the object has no program `{program}`"))
}

/// Where a section's header and its contents are in the file.
struct Section {
    header: usize,
    data: std::ops::Range<usize>,
}

fn btf_section(object: &[u8]) -> Result<Section> {
    let header: &FileHeader64<Endianness> = FileHeader::parse(object)?;
    let endian = header.endian()?;
    let sections = header.sections(endian, object)?;
    let found = sections.section_by_name(endian, b".BTF");
    let (index, section) = found.context("the object has no BTF")?;
    let (at, size) = section
        .file_range(endian)
        .context("the BTF has no contents")?;
    let (at, size) = (usize::try_from(at)?, usize::try_from(size)?);
    let headers = usize::try_from(header.e_shoff(endian))?;
    Ok(Section {
        header: headers + index.0 * size_of::<SectionHeader64<Endianness>>(),
        data: at..at + size,
    })
}

/// The BTF of the object, with the key and the value of the table.
fn btf(old: &[u8], plan: &Plan) -> Result<Vec<u8>> {
    let mut types = Types::new(old)?;
    let (key, value) = (types.key(plan)?, types.value(plan)?);
    let turned = [
        ("count_start", types.start(plan, key)?),
        ("count_key", key),
        ("count_value", value),
    ];
    for (old, new) in turned {
        let old = types.btf.find(old, libbpf_sys::BTF_KIND_STRUCT)?;
        types.btf.turn_pointers(old, new);
    }
    for (program, _, event) in plan.programs() {
        let Some(target) = event.target() else {
            continue;
        };
        let program = types.btf.find(&program, libbpf_sys::BTF_KIND_FUNC)?;
        types
            .btf
            .tag(&format!("ktally:attach:{target}"), program, None)?;
    }
    let license = types.btf.find("LICENSE", libbpf_sys::BTF_KIND_VAR)?;
    let summary = format!("ktally:tally:{}", plan.summary());
    types.btf.tag(&summary, license, None)?;
    Ok(types.btf.raw()?)
}

/// The types that members have.
struct Types {
    btf: Editor,
    /// Of 1, 2, 4 and 8 bytes, without a sign and with one.
    numbers: [[Id; 2]; 4],
    char: Id,
}

impl Types {
    fn new(old: &[u8]) -> Result<Self> {
        let mut btf = Editor::new(old)?;
        let mut numbers = [[0; 2]; 4];
        for (power, both) in numbers.iter_mut().enumerate() {
            let size = 1 << power;
            for (sign, number) in ["u", "s"].into_iter().zip(both) {
                *number = btf.int(&format!("__{sign}{}", 8 * size), size, sign == "s")?;
            }
        }
        let char = btf.find("char", libbpf_sys::BTF_KIND_INT)?;
        Ok(Self { btf, numbers, char })
    }

    fn number(&self, size: usize, signed: bool) -> Id {
        self.numbers[size.ilog2() as usize][usize::from(signed)]
    }

    fn of(&mut self, stored: Stored) -> Result<Id> {
        let index = self.number(4, false);
        let named = |name| self.btf.find(name, libbpf_sys::BTF_KIND_STRUCT);
        Ok(match stored {
            Stored::Unsigned(size) => self.number(size, false),
            Stored::Signed(size) => self.number(size, true),
            Stored::Text(size) => self.btf.array(index, self.char, size)?,
            Stored::Bytes(size) => self.btf.array(index, self.number(1, false), size)?,
            Stored::KernelStack => named("tally_kstack")?,
            Stored::UserStack => named("tally_ustack")?,
        })
    }

    /// A member's tags say what it is called, and how it is shown.
    fn tag(&mut self, of: Id, member: usize, tags: &[(&str, &str)]) -> Result<()> {
        for (what, text) in tags {
            self.btf
                .tag(&format!("ktally:{what}:{text}"), of, Some(member))?;
        }
        Ok(())
    }

    fn key(&mut self, plan: &Plan) -> Result<Id> {
        let columns = plan
            .key
            .iter()
            .map(|it| Ok((self.of(it.field.stored)?, it)));
        let columns: Vec<(Id, &Column)> = columns.collect::<Result<_>>()?;
        let key = self.btf.structure("count_key_of_query", plan.key_size)?;
        for (ty, column) in &columns {
            self.btf.member(&c_name(&column.name), *ty, column.at)?;
        }
        if columns.is_empty() {
            let unused = self.number(1, false);
            self.btf.member("unused", unused, 0)?;
            self.tag(key, 0, &[("hidden", "")])?;
        }
        for (member, (_, column)) in columns.iter().enumerate() {
            self.tag(key, member, &[("name", &column.name)])?;
            if let Some(decoder) = &column.field.decoder {
                self.tag(key, member, &[("as", decoder)])?;
            }
        }
        Ok(key)
    }

    /// What is kept of a start: when it was, and the key.
    fn start(&mut self, plan: &Plan, key: Id) -> Result<Id> {
        let since = self.number(8, false);
        let size = 8 + plan.key_size.next_multiple_of(8);
        let start = self.btf.structure("count_start_of_query", size)?;
        self.btf.member("since", since, 0)?;
        self.btf.member("key", key, 8)?;
        Ok(start)
    }

    fn value(&mut self, plan: &Plan) -> Result<Id> {
        let columns = plan.values.iter().map(|it| Ok((self.measured(it)?, it)));
        let columns: Vec<(Id, &Column)> = columns.collect::<Result<_>>()?;
        let events = self.number(8, false);
        let value = self
            .btf
            .structure("count_value_of_query", plan.value_size)?;
        self.btf.member("events", events, 0)?;
        for (ty, column) in &columns {
            self.btf.member(&c_name(&column.name), *ty, column.at)?;
        }
        self.tag(value, 0, &[("counter", "events")])?;
        for (member, (_, column)) in (1..).zip(&columns) {
            let what = match column.measure {
                Measure::Max => "maximum",
                Measure::Min => "minimum",
                Measure::Log2 | Measure::Linear(_) => "histogram",
                Measure::Key | Measure::Sum => "counter",
            };
            self.tag(
                value,
                member,
                &[("name", &column.name), (what, &column.help())],
            )?;
            if let Some(unit) = &column.unit {
                self.tag(value, member, &[("unit", unit)])?;
            }
        }
        Ok(value)
    }

    fn measured(&mut self, column: &Column) -> Result<Id> {
        Ok(match column.measure {
            Measure::Log2 => self
                .btf
                .find("tally_histogram", libbpf_sys::BTF_KIND_STRUCT)?,
            Measure::Linear(step) => self.linear(step)?,
            _ => self.number(
                8,
                column.measure == Measure::Sum && column.field.is_signed(),
            ),
        })
    }

    /// As LINEAR_HISTOGRAM() declares it.
    fn linear(&mut self, step: u64) -> Result<Id> {
        let (word, index) = (self.number(8, false), self.number(4, false));
        let buckets = self.btf.array(index, word, 64)?;
        let step = self.btf.array(index, self.char, usize::try_from(step)?)?;
        let steps = self.btf.array(index, step, 0)?;
        let histogram = self.btf.structure("", Measure::Log2.size())?;
        self.btf.member("sum", word, 0)?;
        self.btf.member("buckets", buckets, 8)?;
        self.btf.member("step", steps, Measure::Log2.size())?;
        Ok(histogram)
    }
}
