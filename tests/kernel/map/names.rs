//! Names: the kernel keeps 15 characters of them, and several maps of an object
//! may agree in these.

use super::{Maps, compile, map, map_json};
use crate::common::end;
use crate::instances::Host;
use crate::support::maps::set;

/// Maps of these names, types and sizes, each with an entry; of all of them,
/// only some are made.
fn load(declared: &[(&str, &str, u32)], made: &[&str]) -> Maps {
    let c: Vec<String> = declared
        .iter()
        .map(|(name, kind, max)| format!("MAP({kind}, {max}, __u32, __u64, {name});\n"))
        .collect();
    let maps = Maps::of(&compile(&c.concat()), |opened| {
        for mut map in opened.maps_mut() {
            let name = map.name().to_string_lossy().into_owned();
            if declared.iter().any(|(it, ..)| *it == name) && !made.contains(&name.as_str()) {
                map.set_autocreate(false).unwrap();
            }
        }
    });
    for name in made {
        set(&maps.handle(name), &[0; 4], &[1; 8]);
    }
    maps
}

fn shown_name(maps: &Maps, name: &str) -> String {
    let shown = map_json!("show", maps.id(name));
    shown["name"].as_str().unwrap().to_owned()
}

fn is_empty(maps: &Maps, name: &str) -> bool {
    map!("next-key", maps.id(name)).code == 3
}

#[test]
fn names_that_agree_in_what_the_kernel_keeps_are_told_apart() {
    let names = [
        "tn_malloc_calls_total",
        "tn_malloc_calls_count",
        "tn_malloc_calls_array",
    ];
    let declared = [
        (names[0], "HASH", 10),
        (names[1], "HASH", 20),
        (names[2], "ARRAY", 10),
    ];
    let maps = load(&declared, &names);
    for name in names {
        assert_eq!(shown_name(&maps, name), name);
    }
    map!("clear", names[1], "--yes").done();
    assert!(is_empty(&maps, names[1]));
    assert!(!is_empty(&maps, names[0]));
    // One that is declared and not there is not found, whatever is like it.
    drop(maps);
    let maps = load(&declared, &names[1..]);
    map!("clear", names[0], "--yes").failed(3, &["no map named", names[0], names[1]]);
    assert!(!is_empty(&maps, names[1]));
}

#[test]
fn a_name_that_is_not_certain_is_refused_with_the_candidates() {
    let names = ["un_malloc_calls_total", "un_malloc_calls_count"];
    let maps = load(
        &[(names[0], "HASH", 10), (names[1], "HASH", 10)],
        &names[1..],
    );
    let short = &names[1][..15];
    assert_eq!(shown_name(&maps, names[1]), short);
    let candidate = format!(
        "{short}:{} (hash, 4 bytes to 8, 10 entries)",
        maps.id(names[1])
    );
    for name in [names[0], names[1], short] {
        for verb in [&["dump"][..], &["clear", "--yes"]] {
            let args = [&["map", verb[0], name], &verb[1..]].concat();
            super::end(super::program().args(args)).failed(2, &["not certain", &candidate]);
        }
    }
    assert!(!is_empty(&maps, names[1]));
    map!("clear", format!("{short}:{}", maps.id(names[1])), "--yes").done();
    assert!(is_empty(&maps, names[1]));
}

/// A table that was made larger than its declaration says.
#[test]
fn another_size_leaves_the_name_uncertain_and_the_types_known() {
    let name = "rs_malloc_calls_total";
    let c = format!("MAP(HASH, 10, __u32, __u64, {name}) AS(errno);\n");
    let maps = Maps::load_with(&c, |opened| {
        let mut all = opened.maps_mut();
        let mut map = all.find(|map| map.name() == name).unwrap();
        map.set_max_entries(11).unwrap();
    });
    assert_eq!(shown_name(&maps, name), name[..15]);
    map!("update", maps.id(name), "EPERM", 7).done();
    assert_eq!(map!("lookup", maps.id(name), 1).done(), "7\n");
    map!("lookup", name, "EPERM").failed(2, &["not certain"]);
}

#[test]
fn an_exact_name_wins_over_those_that_begin_with_it() {
    let names = ["fifteen_letters", "fifteen_letters_a", "fifteen_letters_b"];
    let declared = [
        (names[0], "HASH", 10),
        (names[1], "HASH", 20),
        (names[2], "ARRAY", 30),
    ];
    let maps = load(&declared, &names);
    let lines = |name: &str| map!("dump", name, "-o", "jsonl").done().lines().count();
    assert_eq!(lines(names[0]), 1);
    assert_eq!(lines(names[2]), 30);
    drop(maps);
    // It begins with it, and is another.
    let maps = load(&declared, &names[1..2]);
    map!("clear", names[0], "--yes").failed(2, &["not certain", names[1]]);
    assert!(!is_empty(&maps, names[1]));
}

/// What follows on a line about a map: fields of its keys and values.
#[test]
fn fields_of_a_map_are_completed() {
    let host = Host::new();
    host.good("attach failures");
    let map = "/sys/fs/bpf/ktally/failures/maps/failures";
    for (line, replies) in [
        ("map dump MAP --by ca", "call"),
        ("map dump MAP --where error=EACC", "error=EACCES"),
        ("map lookup MAP ca", "call="),
        ("map lookup MAP comm=x,er", "comm=x,error="),
        ("map update MAP call=read ca", "calls="),
    ] {
        let line = format!("ktally {}", line.replace("MAP", map));
        let words: Vec<&str> = line.split(' ').collect();
        let mut program = host.program();
        program.env("COMPLETE", "bash").env("_CLAP_IFS", " ");
        program.env("_CLAP_COMPLETE_INDEX", (words.len() - 1).to_string());
        let ended = end(program.arg("--").args(words)).good();
        assert_eq!(ended.stdout, replies, "{line}");
    }
}
