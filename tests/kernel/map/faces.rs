//! What `dump` writes: columns, headers, numbers and text.

use libbpf_rs::{MapCore, MapType};

use super::{Maps, map};
use crate::support::maps::{create, id, set};

pub(super) const MIXED: &str = r#"
enum mode { OFF, ON = 5 };
struct who { char name[8]; __u32 n; };
struct mixed {
	char text[8];
	__u64 calls;
	enum mode mode;
	union { __u32 word; __u8 byte; };
	__u32 few[2];
	__s64 below;
};
MAP(HASH, 8, struct who, struct mixed, mixed);
MAP(PERCPU_HASH, 8, struct who, struct mixed, mixed_percpu);
"#;

/// In the order in which C has them, numbers or not.
#[test]
fn columns_stand_as_they_are_declared() {
    let maps = Maps::load(MIXED);
    let mixed = maps.id("mixed");
    let value = "text=hi,calls=7,mode=ON,word=258,few=[1,2],below=-3";
    map!("update", mixed, "name=a,n=1", value).done();
    let dumped = map!("dump", mixed).done();
    let words = |line: &str| {
        line.split_whitespace()
            .map(str::to_owned)
            .collect::<Vec<_>>()
    };
    let mut lines = dumped.lines().map(words);
    assert_eq!(
        lines.next().unwrap(),
        [
            "NAME", "N", "TEXT", "CALLS", "MODE", "WORD", "BYTE", "FEW.0", "FEW.1", "BELOW"
        ]
    );
    let row = ["a", "1", "hi", "7", "ON", "258", "2", "1", "2", "-3"];
    assert_eq!(lines.next().unwrap(), row);
    map!("dump", mixed, "-o", "csv").prints("\"name\",\"n\",\"text\",\"calls\",\"mode\",\"word\",\"byte\",\"few.0\",\"few.1\",\"below\"\n\
         \"a\",1,\"hi\",7,\"ON\",258,2,1,2,-3\n# 1 entry\n");
}

/// A program that reads CSV finds its columns where there are no rows, too.
#[test]
fn the_header_stands_over_nothing() {
    let maps = Maps::load(MIXED);
    let value = "\"text\",\"calls\",\"mode\",\"word\",\"byte\",\"few.0\",\"few.1\",\"below\"";
    let numbers = "\"calls\",\"few.0\",\"few.1\",\"below\"";
    let cpu = match libbpf_rs::num_possible_cpus().unwrap() {
        1 => "",
        _ => "\"cpu\",",
    };
    let csv = |name: &str, args: &[&str]| {
        let map = maps.id(name).to_string();
        super::run([&["dump", &map, "-o", "csv"], args].concat()).done()
    };
    for (name, args, head, footer) in [
        (
            "mixed",
            &[][..],
            format!("\"name\",\"n\",{value}"),
            "0 entries",
        ),
        (
            "mixed_percpu",
            &["--per-cpu"],
            format!("\"name\",\"n\",{cpu}{value}"),
            "0 entries",
        ),
        (
            "mixed",
            &["--raw"],
            "\"key\",\"value\"".to_owned(),
            "0 entries",
        ),
        (
            "mixed",
            &["--by", "n"],
            format!("\"n\",{numbers}"),
            "0 groups of 0 entries",
        ),
        (
            "mixed",
            &["--top", "3"],
            format!("\"name\",\"n\",{value}"),
            "0 entries",
        ),
    ] {
        assert_eq!(csv(name, args), format!("{head}\n# {footer}\n"), "{args:?}");
        let bare = csv(name, &[args, &["--no-header"]].concat());
        assert_eq!(bare, format!("# {footer}\n"), "{args:?}");
    }
    map!("dump", maps.id("mixed"), "--raw", "--by", "n").failed(2, &["--raw shows bytes"]);
}

/// Whatever stands in a text: a record is one line, which begins with its first
/// field.
#[test]
fn no_text_forges_a_record() {
    let maps = Maps::load(MIXED);
    let mixed = maps.handle("mixed");
    let value = vec![0; mixed.value_size() as usize];
    for (n, name) in (0u32..).zip(["a\n\"b\",9", "# 9 e", "=1+1", "\",\"", "\r\n#", "\u{2028}x"]) {
        let mut key = [0; 12];
        key[..name.len()].copy_from_slice(name.as_bytes());
        key[8..].copy_from_slice(&n.to_ne_bytes());
        set(&mixed, &key, &value);
    }
    let csv = map!("dump", id(&mixed), "-o", "csv").done();
    let mut lines: Vec<&str> = csv.lines().collect();
    assert_eq!((lines.len(), lines.pop()), (8, Some("# 6 entries")));
    let mut reader = csv::ReaderBuilder::new();
    let mut reader = reader.comment(Some(b'#')).from_reader(csv.as_bytes());
    let records = reader.records().map(Result::unwrap);
    let mut names: Vec<String> = records.map(|record| record[0].to_owned()).collect();
    names.sort();
    assert_eq!(
        names,
        [
            "\",\"",
            "# 9 e",
            "'=1+1",
            "\\r\\n#",
            "\\u{2028}x",
            "a\\n\"b\",9"
        ]
    );
    assert!(lines.iter().all(|line| line.starts_with('"')), "{csv}");
}

/// To the last digit, where a float would round.
#[test]
fn numbers_of_64_bits_are_exact() {
    let map = create(MapType::Hash, 4, 8, 4);
    for (key, value) in [(1u32, u64::MAX), (2, (1 << 53) + 1)] {
        set(&map, &key.to_ne_bytes(), &value.to_ne_bytes());
    }
    for format in ["json", "jsonl", "csv", "table"] {
        let text = map!("dump", id(&map), "-o", format).done();
        let text = match format {
            "table" => text.replace(',', ""),
            _ => text,
        };
        for number in ["18446744073709551615", "9007199254740993"] {
            assert!(text.contains(number), "{format}: {text}");
        }
    }
}
