//! Queries as plans, and conditions as tests.

use super::{kinds, world};
use crate::query::field::Stored;
use crate::query::plan::{Plan, Query};
use crate::query::{Column, Measure};
use crate::schema::{KernelBtf, Plain};

fn plan(query: Query) -> anyhow::Result<Plan> {
    let event = "event".to_owned();
    Plan::new(&Query { event, ..query }, &world(&kinds()), &Plain)
}

fn texts<const N: usize>(texts: [&str; N]) -> Vec<String> {
    texts.map(str::to_owned).to_vec()
}

#[test]
fn keys_and_values_are_laid_out_as_c_would() {
    let plan = plan(Query {
        by: texts([
            "thing.letter",
            "kstack",
            "thing.both",
            "comm",
            "thing.port",
            "thing.mac",
        ]),
        sum: texts(["number", "thing.both"]),
        histogram: texts(["thing.low:5"]),
        max: texts(["number"]),
        decoders: texts(["thing.mac=hex", "thing.both=bytes"]),
        ..Query::default()
    })
    .unwrap();
    let places = |columns: &[Column]| -> Vec<String> {
        let columns = columns.iter();
        columns.map(|it| format!("{} {}", it.name, it.at)).collect()
    };
    let key = "thing.letter 0|thing.both 8|comm 16|thing.port 32|thing.mac 34|kstack 40";
    assert_eq!(places(&plan.key).join("|"), key);
    assert_eq!(plan.key_size, 40 + 384);
    let values = "number.sum 8|thing.both.sum 16|number.max 24|thing.low 32";
    assert_eq!(places(&plan.values).join("|"), values);
    assert_eq!(plan.value_size, 32 + 520);
    let units: Vec<_> = plan.values.iter().map(|it| it.unit.as_deref()).collect();
    assert_eq!(units, [None, Some("bytes"), None, None]);
    assert_eq!(plan.key[1].field.decoder, None);
    let none = super::plans::plan(Query::default()).unwrap();
    assert_eq!((none.key_size, none.value_size), (1, 8));
}

#[test]
fn sizes_are_those_of_the_object() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("count.o");
    std::fs::write(&file, crate::internal::COUNT.as_slice()).unwrap();
    let object = KernelBtf::from_path(&file).unwrap();
    for (name, size) in [
        ("tally_kstack", Stored::KernelStack.size()),
        ("tally_ustack", Stored::UserStack.size()),
        ("tally_histogram", Measure::Log2.size()),
    ] {
        let found = object.structure(name).unwrap();
        assert_eq!(object.node(found).size, size, "{name}");
    }
}

#[test]
fn a_plan_has_limits() {
    let words = |count: usize| -> Vec<String> {
        let words = (0..count).map(|i| format!("thing.list[{i}]"));
        words.collect()
    };
    let error = |query| format!("{:#}", plan(query).unwrap_err());
    let by = |by| Query {
        by,
        ..Query::default()
    };
    assert!(plan(by(words(8))).is_ok());
    assert_eq!(error(by(words(9))), "--by is given 9 values, of at most 8");
    let lines = texts([
        "thing.large",
        "thing.label",
        "thing.parent.name.text",
        "thing.parent.up.name.text",
        "pid",
    ]);
    assert!(plan(by(lines[..4].to_vec())).is_ok());
    assert_eq!(
        error(by(lines)),
        "--by: up to `pid` the key has 260 bytes, of at most 256"
    );
    let twice = by(texts(["comm", "pid", "comm"]));
    assert_eq!(error(twice), "--by names `comm` twice");
    let sum = |sum| Query {
        sum,
        ..Query::default()
    };
    assert_eq!(
        error(sum(words(5))),
        "--sum, --max, --min or --histogram is given 5 values, of at most 4"
    );
    assert_eq!(
        error(sum(texts(["number", "number"]))),
        "`number.sum` is asked for twice"
    );
    assert_eq!(
        error(sum(texts(["thing.comm"]))),
        "--sum: `thing.comm` is a `char[16]`, not a number"
    );
    assert_eq!(
        error(sum(texts(["thing.parent"]))),
        "--sum: `thing.parent` is a `struct parent *`, not a number"
    );
    let histogram = |histogram| Query {
        histogram,
        sum: texts(["number"]),
        ..Query::default()
    };
    assert_eq!(
        error(histogram(texts(["number"]))),
        "the histogram has `number.sum` as well; leave out --sum"
    );
    let width = "--histogram `number`: write the width of a bucket, 1 or more, after the `:`";
    for text in ["number:0", "number:x", "number:", "number:-1"] {
        assert_eq!(error(histogram(texts([text]))), width);
    }
    let filters = |filters| Query {
        filters,
        ..Query::default()
    };
    assert_eq!(
        error(filters(vec!["number=1".into(); 5])),
        "--where is given 5 values, of at most 4"
    );
    let decoders = |decoders| Query {
        decoders,
        ..Query::default()
    };
    assert_eq!(
        error(decoders(texts(["number"]))),
        "--as `number`: write it as EXPR=DECODER"
    );
}

/// The test of one condition: its range, bits or text.
fn filter(text: &str) -> String {
    let filters = texts([text]);
    match plan(Query {
        filters,
        ..Query::default()
    }) {
        Ok(plan) => plan.filters[0].shown(),
        Err(error) => format!("{error:#}"),
    }
}

#[test]
fn conditions_become_ranges_bits_and_texts() {
    let min = i64::MIN as u64;
    for (text, expected) in [
        ("number=5", "5..5".to_owned()),
        ("number!=5", "not 5..5".to_owned()),
        ("number=-1", format!("{0}..{0}", u64::MAX)),
        ("number<5", format!("{min}..4")),
        ("number<=-1", format!("{min}..{}", u64::MAX)),
        ("number>5", format!("6..{}", i64::MAX)),
        ("number>=5", format!("5..{}", i64::MAX)),
        ("number=-2..7", format!("{}..7", u64::MAX - 1)),
        ("number!=0..2", "not 0..2".to_owned()),
        ("thing->low<5", "0..4".to_owned()),
        ("thing.low<0", format!("not 0..{}", u64::MAX)),
        (
            "thing.both>18446744073709551615",
            format!("not 0..{}", u64::MAX),
        ),
        ("thing.low>5", format!("6..{}", u64::MAX)),
        ("thing.low & 0x10", "bits 16".to_owned()),
        ("reason=1", "1..1".to_owned()),
        ("flag=1", "1..1".to_owned()),
        ("thing.comm=bash", "text bash".to_owned()),
        ("thing.label!=a b", "not text a b".to_owned()),
    ] {
        assert_eq!(filter(text), expected, "{text}");
    }
    for (text, expected) in [
        (
            "number",
            "write it as EXPR=VALUE, or with one of != < <= > >= &",
        ),
        (
            "number~5",
            "no operator named `~`; known: `=`, `!=`, `<`, `<=`, `>`, `>=`, `&`",
        ),
        (
            "number=x",
            "`x` is not a value of `number`: write a whole number",
        ),
        (
            "number=4294967296",
            "`4294967296` is not a value of `number`: 4294967296 is out of range: -2147483648 to 2147483647",
        ),
        ("number=7..2", "the range `7..2` ends before it begins"),
        ("number<1..2", "`<` takes one value, and `1..2` is a range"),
        (
            "thing.comm<a",
            "`<` compares numbers, and `thing.comm` is text; write = or !=",
        ),
        (
            "thing.comm=0123456789abcdef",
            "`0123456789abcdef` has 16 bytes, and `thing.comm` at most 15",
        ),
        ("kstack=1", "`kstack` has no number to compare"),
    ] {
        assert_eq!(
            filter(text),
            format!("--where `{text}`: {expected}"),
            "{text}"
        );
    }
}

#[test]
fn an_interval_reads_at_both_ends() {
    let to = Some("called".to_owned());
    let query = Query {
        to,
        per: Some("thing".to_owned()),
        by: texts(["comm", "flag"]),
        ..Query::default()
    };
    let spread = plan(query.clone()).unwrap();
    let programs = spread.programs().into_iter().map(|it| it.0);
    assert_eq!(programs.collect::<Vec<_>>(), ["traced_to", "traced_from"]);
    let value = &spread.values[0];
    assert_eq!(
        (&*value.name, value.at, value.unit.as_deref()),
        ("time", 8, Some("ns"))
    );
    assert_eq!((spread.key_size, spread.value_size), (17, 8 + 520));
    assert_eq!(
        spread.summary(),
        "time from event to called, by comm and flag"
    );
    let sums = Query {
        sum: texts(["to.number"]),
        max: texts(["time"]),
        min: texts(["to.number"]),
        ..query.clone()
    };
    let sums = plan(sums).unwrap();
    let names: Vec<_> = sums.values.iter().map(|it| it.name.as_str()).collect();
    assert_eq!(names, ["to.number.sum", "time.max", "to.number.min"]);
    let refused = |query| format!("{:#}", plan(query).unwrap_err());
    let of_start = Query {
        sum: texts(["number"]),
        ..query.clone()
    };
    assert_eq!(
        refused(of_start),
        "--sum: `number`: numbers of an interval are added up when it ends; write `time`, or \
         `to.EXPR` for what the event of --to has"
    );
    let by_end = Query {
        by: texts(["to.number", "comm"]),
        filters: texts(["to.number>5", "flag=1"]),
        ..query.clone()
    };
    let by_end = plan(by_end).unwrap();
    let at_end: Vec<_> = by_end.key.iter().map(|it| it.field.at_end).collect();
    assert_eq!(at_end, [true, false]);
    // The event is at both ends: one program.
    let same = Query {
        to: Some("event".to_owned()),
        per: Some("thing,to.thing.parent".to_owned()),
        ..query
    };
    let same = plan(same).unwrap();
    assert_eq!(same.programs()[0].0, "traced_both");
    assert_eq!(same.programs().len(), 1);
    let c = same.as_c();
    assert_eq!(c.matches("SEC(\"tp_btf/event\")").count(), 1);
}
