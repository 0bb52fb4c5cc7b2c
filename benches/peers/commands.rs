//! `ktally map` beside bpftool: whole commands, from start to exit.

use anyhow::Result;
use ktally::tally::Session;
use libbpf_rs::libbpf_sys::bpf_map_create_opts;
use libbpf_rs::{MapCore, MapHandle, MapType};

use super::measure::{Rounds, Table, alternate, ratio};
use super::reading::filled;
use super::subject::{KTALLY, run, table_of_rows};

pub fn section() -> Result<Vec<Table>> {
    let tally = table_of_rows("kt_bench_verbs", 10_000)?;
    let session = Session::start(&tally, &[], None)?;
    let map = filled("kt_bench_verbs", 10_000)?;
    let many = small_maps(500)?;
    let id = map.info()?.info.id.to_string();
    // The same key for both: a name padded with spaces, and 7.
    let key = format!("comm={:<15},call=7", 7);
    let hex = format!("37{}00 07000000", "20".repeat(14)).replace(' ', "");
    let bytes: Vec<String> = hex
        .as_bytes()
        .chunks(2)
        .map(|two| String::from_utf8_lossy(two).into_owned())
        .collect();
    let bytes: Vec<&str> = bytes.iter().map(String::as_str).collect();
    let own = |verb: &[&str]| own_words(&[&["map"], verb].concat());
    let theirs = |verb: &str, value: &str| {
        let mut words = vec!["-j", "map", verb, "id", &id, "key", "hex"];
        words.extend(&bytes);
        if !value.is_empty() {
            words.extend(["value", "hex"]);
            words.extend(value.split(' '));
        }
        own_words(&words)
    };
    let verbs = [
        ("lookup", own(&["lookup", &id, &key]), theirs("lookup", "")),
        (
            "update",
            own(&["update", &id, &key, "1"]),
            theirs("update", "01 00 00 00 00 00 00 00"),
        ),
        ("add", own(&["add", &id, &key, "1"]), Vec::new()),
        (
            "list, 500 maps and more",
            own(&["list"]),
            own_words(&["-j", "map", "list"]),
        ),
    ];
    let mut table = Table::new(
        "A verb of `map`: ms from start to exit",
        &["verb", "ktally", "bpftool", "ktally's share"],
    );
    for (name, own, peer) in verbs {
        let commands = [(KTALLY, own), ("bpftool", peer)];
        let rounds = alternate(&commands, |(program, words)| {
            let words: Vec<&str> = words.iter().map(String::as_str).collect();
            match words.is_empty() {
                true => Ok(None),
                false => Ok(run(program, &words)?.map(|[time, _]| vec![time * 1e3])),
            }
        })?;
        let of = |i: usize| rounds[i].first().cloned().unwrap_or_default();
        table.row([
            name.to_owned(),
            of(0).show(1),
            match commands[1].1.is_empty() {
                true => "cannot".into(),
                false => of(1).show(1),
            },
            ratio(of(0).median(), of(1).median(), 2),
        ]);
    }
    let each = addition(&id, &key)?;
    drop((many, session));
    Ok(vec![table.note(format!(
        "One addition of `add --repeat`: {} µs. bpftool adds nothing in place.",
        each.show(2)
    ))])
}

fn own_words(words: &[&str]) -> Vec<String> {
    words.iter().map(|&word| word.to_owned()).collect()
}

fn small_maps(count: usize) -> Result<Vec<MapHandle>> {
    let opts = bpf_map_create_opts {
        sz: size_of::<bpf_map_create_opts>() as _,
        ..Default::default()
    };
    (0..count)
        .map(|_| {
            Ok(MapHandle::create(
                MapType::Hash,
                Some("kt_bench"),
                4,
                8,
                16,
                &opts,
            )?)
        })
        .collect()
}

/// µs of one of many, without starting.
fn addition(id: &str, key: &str) -> Result<Rounds> {
    const ADDITIONS: u32 = 100_000;
    let repeat = ADDITIONS.to_string();
    let add = ["map", "add", id, key, "1"];
    let rounds = alternate(&[()], |()| {
        let once = run(KTALLY, &add)?;
        let often = run(KTALLY, &[&add[..], &["--repeat", &repeat]].concat())?;
        let (Some([once, _]), Some([often, _])) = (once, often) else {
            return Ok(None);
        };
        Ok(Some(vec![(often - once) * 1e6 / f64::from(ADDITIONS)]))
    })?;
    Ok(rounds[0].first().cloned().unwrap_or_default())
}
