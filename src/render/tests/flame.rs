//! Stacks: as lines, as pictures, in tables.

use insta::assert_snapshot;

use super::*;

/// A process name, a stack of the kernel; samples.
fn stacks(all: &[(&str, &[u64], u64)]) -> Snapshot<'static> {
    let element = Type::unsigned(8);
    let ips = ty("u64[4]", 32, Kind::Array { element, len: 4 });
    let key = vec![comm(), member("kernel", 16, &ips, &["as:kstack"])];
    let table = Table::new(
        "profile",
        &Tags::default(),
        8,
        &ty("struct key", 48, Kind::Struct(key)),
        &ty("struct value", 8, Kind::Struct(vec![counter("samples", 0)])),
    );
    let mut rows = Rows::of(&table);
    for (comm, stack, samples) in all {
        let mut key = [0; 48];
        key[..comm.len()].copy_from_slice(comm.as_bytes());
        for (place, ip) in key[16..].chunks_exact_mut(8).zip(*stack) {
            place.copy_from_slice(&ip.to_ne_bytes());
        }
        rows.push(&key)[0] = *samples;
    }
    let rows = Selection::all(table, rows);
    snapshot(vec![named(rows, all.len(), &HostNames::raw())])
}

#[test]
fn folded_stacks_are_root_first_and_add_up() {
    let snapshot = stacks(&[
        ("b;ash\n", &[1, 2, 3], 4),
        ("a", &[1], 2),
        ("a", &[1], 3),
        ("a", &[], 9),
        ("none", &[7], 0),
    ]);
    assert_snapshot!(draw(Format::Folded, &snapshot), @r"
    a 9
    a;0x1_[k] 5
    b:ash\n;0x3_[k];0x2_[k];0x1_[k] 4
    ");
}

#[test]
fn people_see_the_frames_that_were_running() {
    let shown = stacks(&[("a", &[1, 2, 3, 4], 4), ("b", &[1, 2, 3], 2), ("c", &[], 1)]);
    assert_snapshot!(draw(Format::Table, &shown), @r"
    syscalls: system calls, by process and call             5.0 s, 4 CPUs
    COMM  KERNEL          SAMPLES/s
    a     ..;0x3;0x2;0x1        0.8
    b     0x3;0x2;0x1           0.4
    c     -                     0.2
    3 rows; 0 dropped, 0 missed
    ");
}

#[test]
fn pictures_are_whole_also_when_nothing_was_counted() {
    let svg = draw(Format::Svg, &stacks(&[("a<b", &[1, 2], 4)]));
    assert!(svg.starts_with("<?xml") && svg.trim_end().ends_with("</svg>"));
    assert!(svg.contains("<title>a&lt;b (4 samples, 100.00%)"), "{svg}");
    let empty = draw(Format::Svg, &stacks(&[]));
    assert!(empty.trim_end().ends_with("</svg>"));
    assert!(empty.contains("nothing was counted (0 samples)"), "{empty}");
    let mut hostile = stacks(&[]);
    hostile.summary = "<&\n".to_owned();
    let empty = draw(Format::Svg, &hostile);
    assert!(empty.contains(": &lt;&amp;\\n</text>"), "{empty}");
}

#[test]
fn only_stacks_can_be_drawn() {
    let table = stacks(&[]).tables[0].table;
    let refused = |table: &Table, by: Option<&[String]>| {
        let result = Format::Folded.check(std::slice::from_ref(table), by);
        result.err().map(|error| error.to_string())
    };
    let by = |label: &str| Some(vec![label.to_owned()]);
    assert_eq!(refused(table, None), None);
    assert_eq!(refused(table, by("kernel").as_deref()), None);
    assert!(refused(table, by("comm").as_deref()).is_some());
    assert!(refused(&plain(), None).is_some());
    assert!(Format::Json.check(&[plain()], None).is_ok());
}
