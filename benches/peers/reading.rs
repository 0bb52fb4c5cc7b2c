//! Reading a map, from a thousand rows to a million: time and memory, beside
//! bpftool and beside the bare system calls.

use std::ops::ControlFlow;
use std::os::fd::AsFd;

use anyhow::{Context, Result};
use ktally::map::{Map, Reader};
use ktally::tally::Session;
use libbpf_rs::libbpf_sys::bpf_map_create_opts;
use libbpf_rs::query::MapInfoIter;
use libbpf_rs::{MapCore, MapFlags, MapHandle, MapType};

use super::measure::{Rounds, Table, alternate, ratio, seconds};
use super::subject::{KTALLY, run, table_of_rows};

const SIZES: [u32; 4] = [1_000, 10_000, 100_000, 1_000_000];

type Subject = (&'static str, &'static str, &'static [&'static str]);

const WHO: [Subject; 6] = [
    ("bare batches, the limit", "", &[]),
    (
        "ktally map dump -o json",
        KTALLY,
        &["map", "dump", "-o", "json"],
    ),
    (
        "ktally map dump -o csv",
        KTALLY,
        &["map", "dump", "-o", "csv"],
    ),
    (
        "ktally map dump --top 10",
        KTALLY,
        &["map", "dump", "--top", "10"],
    ),
    (
        "bpftool -j map dump",
        "bpftool",
        &["-j", "map", "dump", "id"],
    ),
    ("bpftool map dump", "bpftool", &["map", "dump", "id"]),
];

/// Time and memory of each subject.
fn rounds_of(map: &MapHandle) -> Result<Vec<Vec<Rounds>>> {
    let id = map.info()?.info.id.to_string();
    alternate(&WHO, |(_, program, args)| match *program {
        "" => Ok(Some(vec![seconds(|| read_all(map))?])),
        program => {
            let args = [args, &[id.as_str()][..]].concat();
            Ok(run(program, &args)?.map(Vec::from))
        }
    })
}

pub fn section() -> Result<Vec<Table>> {
    let mut tables = with_btf()?;
    tables.push(without_btf()?);
    Ok(tables)
}

/// As most maps of a host are: keys are bytes.
fn without_btf() -> Result<Table> {
    const ROWS: u32 = 1_000_000;
    let opts = bpf_map_create_opts {
        sz: size_of::<bpf_map_create_opts>() as _,
        ..Default::default()
    };
    let map = MapHandle::create(MapType::Hash, Some("bench_plain"), 20, 8, ROWS, &opts)?;
    fill(&map, ROWS, 1)?;
    let rounds = rounds_of(&map)?;
    let median = |who: usize| rounds[who].first().and_then(Rounds::median);
    let mut table = Table::new(
        "A million rows of a map without BTF (20 bytes, 8 bytes): ms from start to exit",
        &["command", "ms", "of `bpftool -j`", "of the limit"],
    );
    for (i, (name, ..)) in WHO.iter().enumerate() {
        table.row([
            (*name).to_owned(),
            rounds[i].first().map_or("not here".into(), in_ms),
            ratio(median(i), median(4), 2),
            ratio(median(i), median(0), 2),
        ]);
    }
    Ok(table)
}

fn with_btf() -> Result<Vec<Table>> {
    // By subject, then by size: time and memory.
    let mut all: Vec<Vec<Vec<Rounds>>> = vec![Vec::new(); WHO.len()];
    for size in SIZES {
        // The one before goes when the kernel gets to it.
        let name = format!("bench_{size}");
        let tally = table_of_rows(&name, size)?;
        let session = Session::start(&tally, &[], None)?;
        let map = filled(&name, size)?;
        for (all, rounds) in all.iter_mut().zip(rounds_of(&map)?) {
            all.push(rounds);
        }
        drop(session);
    }
    let median = |rounds: &[Rounds], i: usize| rounds.get(i).and_then(Rounds::median);
    let columns = ["command", "1,000", "10,000", "100,000", "1,000,000"];
    let mut times = Table::new(
        "Reading rows (20-byte key, u64): ms from start to exit",
        &[&columns[..], &["growth", "of `bpftool -j`", "of the limit"]].concat(),
    );
    let mut memory = Table::new("Reading rows: MiB resident at most", &columns);
    let last = |who: usize| median(&all[who][SIZES.len() - 1], 0);
    for (i, (name, ..)) in WHO.iter().enumerate() {
        if last(i).is_none() {
            times.row([*name, "not here"]);
            continue;
        }
        let mut row = vec![(*name).to_owned()];
        row.extend(all[i].iter().map(|rounds| in_ms(&rounds[0])));
        row.push(exponent(&all[i]).map_or("-".into(), |it| format!("n^{it:.2}")));
        row.push(ratio(last(i), last(4), 2));
        row.push(ratio(last(i), last(0), 2));
        times.row(row);
        if i > 0 {
            let mut row = vec![(*name).to_owned()];
            row.extend(all[i].iter().map(|rounds| rounds[1].show(1)));
            memory.row(row);
        }
    }
    let note = "Growth from 10,000 rows to 1,000,000, as the exponent of a power; below that, starting \
                is most of it.";
    Ok(vec![times.note(note), memory])
}

fn in_ms(rounds: &Rounds) -> String {
    rounds.scaled(1e3).show(1)
}

/// Of the line through the logarithms of all sizes from 10,000 on.
fn exponent(sizes: &[Vec<Rounds>]) -> Option<f64> {
    let points: Option<Vec<(f64, f64)>> = SIZES
        .iter()
        .zip(sizes)
        .skip(1)
        .map(|(&size, rounds)| Some((f64::from(size).ln(), rounds.first()?.median()?.ln())))
        .collect();
    let points = points?;
    let n = points.len() as f64;
    let mean = |of: fn(&(f64, f64)) -> f64| points.iter().map(of).sum::<f64>() / n;
    let (x, y) = (mean(|it| it.0), mean(|it| it.1));
    let slope = points.iter().map(|it| (it.0 - x) * (it.1 - y)).sum::<f64>();
    Some(slope / points.iter().map(|it| (it.0 - x).powi(2)).sum::<f64>())
}

/// The map of that name, with this number of entries.
pub fn filled(name: &str, rows: u32) -> Result<MapHandle> {
    let id = MapInfoIter::default()
        .find(|map| map.name == name)
        .context("the table has no map")?
        .id;
    let map = MapHandle::from_map_id(id)?;
    fill(&map, rows, 1)?;
    Ok(map)
}

/// So many times what each row of that map counted first.
pub fn fill(map: &MapHandle, rows: u32, times: u64) -> Result<()> {
    let mut keys = Vec::new();
    for i in 0..rows {
        keys.extend(format!("{:<15}\0", i % 1000).into_bytes());
        keys.extend(i.to_ne_bytes());
    }
    let values: Vec<u8> = (0..u64::from(rows))
        .flat_map(|i| (times * (i + 1)).to_ne_bytes())
        .collect();
    Ok(map.update_batch(&keys, &values, rows, MapFlags::ANY, MapFlags::ANY)?)
}

/// The limit of all readers.
pub fn read_all(map: &MapHandle) -> Result<()> {
    Reader::new(&Map::new(map.as_fd())?).read(|_, _| ControlFlow::Continue(()))?;
    Ok(())
}
