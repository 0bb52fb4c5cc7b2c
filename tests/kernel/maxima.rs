//! `MAXIMUM`: the greatest number of a row, exactly, whatever raises it at once.

use std::cell::Cell;

use serde_json::{Value, json};

use crate::common::assert_has;
use crate::instances::Host;
use crate::run::rows_of;
use crate::support::{
    Child, Source, amount, event, kernel_series, needs, on_two_cpus, options_of, pin,
};

/// An event's number is `100,000 * key + n`.
const TABLES: &str = r#"
TALLY("the greatest numbers");
struct seen {
	__u64 count COUNTER("events");
	__u64 max MAXIMUM("the greatest number") UNIT(ns);
	struct { __u64 max MAXIMUM(""); } nested;
};
struct who { __u64 key; __u64 parity; };
TABLE(hash, struct who, struct seen, 8, "");
PERCPU_TABLE(per_cpu, __u64, struct seen, 8, "");
ARRAY_TABLE(array, struct seen, 8, "");
static __always_inline void add(struct seen *seen, __u64 n)
{
	__sync_fetch_and_add(&seen->count, 1);
	tally_maximum(&seen->max, n);
	tally_maximum(&seen->nested.max, n + 1);
}
EVENT(enter, number)
{
	__u64 key = number / 100000, n = number % 100000;
	struct who who = { .key = key, .parity = n & 1 };
	__u32 index = key & 7;

	add(tally_entry(hash, &who), n);
	add(tally_entry(per_cpu, &key), n);
	add(tally_entry(array, &index), n);
}
"#;

/// Atomic exchange whose old value is used.
fn needs_exchange() {
    needs((5, 12), "BPF_CMPXCHG");
}

fn numbers(key: u64, numbers: &[u64]) {
    numbers.iter().for_each(|n| event(100_000 * key + n));
}

/// A child that makes other events of key 1 each time that it works.
fn in_turn(turns: &'static [&[u64]]) -> Child {
    let turn = Cell::new(0);
    Child::new("kt-max", move || {
        numbers(1, turns[turn.get()]);
        turn.set(turn.get() + 1);
    })
}

/// The numbers of the rows of a table, `[count, max, nested.max]`, the greatest
/// count first.
fn shown(reading: &Value, table: usize) -> Vec<[u64; 3]> {
    let rows = reading["tables"][table]["rows"].as_array().unwrap().iter();
    let number = |row: &Value, name: &str| row[name].as_u64().unwrap();
    rows.map(|row| ["count", "max", "nested.max"].map(|name| number(row, name)))
        .collect()
}

#[test]
fn the_greatest_number_is_exact() {
    needs_exchange();
    let (host, source) = (Host::new(), Source::new(TABLES));
    let child = Child::new("kt-max", || {
        pin(0);
        numbers(1, &[1, 23, 37, 5]);
        numbers(2, &[40, 0]);
        pin(1);
        numbers(1, &[36]);
    });
    let (path, pid) = (source.arg(), child.pid());
    host.good(["attach", &path, "--as", "kt", "--pid", &pid]);
    child.work();
    let read = |options: &str| host.json(&format!("read kt -o json {options}"));
    let reading = read("");
    assert_eq!(reading["unraised"], 0);
    // 1, 23, 37 and 5 of key 1; 40 and 0 of key 2; 36 of key 1.
    assert_eq!(shown(&reading, 0), [[4, 37, 38], [2, 40, 41], [1, 36, 37]]);
    for table in [1, 2] {
        assert_eq!(shown(&reading, table), [[5, 37, 38], [2, 40, 41]]);
    }
    // Of a group it is the greatest, and rows are sorted by it.
    assert_eq!(shown(&read("--by key"), 0), [[5, 37, 38], [2, 40, 41]]);
    assert_eq!(shown(&read("--by parity"), 0), [[4, 37, 38], [3, 40, 41]]);
    let sorted = shown(&read("--sort max"), 1);
    assert_eq!(sorted, [[2, 40, 41], [5, 37, 38]]);
    let csv = host.good("read kt -o csv").stdout;
    assert_has(
        &csv,
        &[",\"count\",\"max\",\"nested.max\"\n", ",1,5,37,38\n"],
    );
    host.good("detach kt");
}

/// Numbers that grow on two CPUs, so that both raise the same one all the time.
#[test]
fn two_cpus_raise_it_at_once() {
    needs_exchange();
    let rounds = amount(40_000);
    let source = Source::new(TABLES);
    let child = Child::new("kt-max", || {
        on_two_cpus(rounds, |cpu, round| numbers(3, &[2 * round + cpu]));
    });
    let host = Host::new();
    let (path, pid) = (source.arg(), child.pid());
    host.good(["attach", &path, "--as", "kt", "--pid", &pid]);
    child.work();
    let reading = host.json("detach kt -o json --by key");
    let greatest = 2 * rounds - 1;
    for table in 0..3 {
        let [[_, max, nested]] = shown(&reading, table)[..] else {
            panic!("{reading}");
        };
        assert_eq!([max, nested], [greatest, greatest + 1], "table {table}");
    }
}

#[test]
fn intervals_have_the_greatest_since_the_start() {
    needs_exchange();
    let (host, source) = (Host::new(), Source::new(TABLES));
    let child = in_turn(&[&[37], &[5, 3]]);
    let (path, pid) = (source.arg(), child.pid());
    host.good(["attach", &path, "--as", "kt", "--pid", &pid]);
    child.work();
    let mut reader = host.start("read kt --every 200ms -o jsonl");
    assert_eq!(shown(&reader.next(), 1), [[0; 3]; 0]);
    child.work();
    let mut next = || shown(&reader.next(), 1);
    let counted = (0..10).map(|_| next()).find(|rows| !rows.is_empty());
    assert_eq!(counted.unwrap(), [[2, 37, 38]]);
    // What counts nothing is no row, and people are told.
    assert_eq!(next(), [[0; 3]; 0]);
    drop(reader);
    let table = host.good("read kt --every 100ms --for 100ms").stdout;
    assert_has(&table, &["; since the start: max, nested.max\n"]);
    let table = host.good("read kt --total").stdout;
    assert!(!table.contains("since the start"), "{table}");
    host.good("detach kt");
}

/// It begins anew in the other set.
#[test]
fn a_rotation_has_its_own() {
    needs_exchange();
    let (host, source) = (Host::new(), Source::new(TABLES));
    let child = in_turn(&[&[37, 1], &[23], &[37, 1]]);
    let (path, pid) = (source.arg(), child.pid());
    host.good(["attach", &path, "--as", "kt", "--rotatable", "--pid", &pid]);
    child.work();
    assert_eq!(shown(&host.json("rotate kt -o json"), 1), [[2, 37, 38]]);
    child.work();
    assert_eq!(shown(&host.json("read kt -o json"), 1), [[1, 23, 24]]);
    assert_eq!(shown(&host.json("rotate kt -o json"), 2), [[1, 23, 24]]);
    child.work();
    assert_eq!(shown(&host.json("detach kt -o json"), 1), [[2, 37, 38]]);
}

/// The commands on maps: of the copies of a value the greatest, also when they are
/// taken out.
#[test]
fn maps_have_the_greatest_of_all_cpus() {
    needs_exchange();
    needs((5, 16), "declaration tags");
    let (host, source) = (Host::new(), Source::new(TABLES));
    let child = Child::new("kt-max", || {
        pin(0);
        numbers(1, &[37]);
        pin(1);
        numbers(1, &[23]);
    });
    let (path, pid) = (source.arg(), child.pid());
    host.good(["attach", &path, "--as", "kt", "--pid", &pid]);
    child.work();
    let value = json!({"count": 2, "max": 37, "nested": {"max": 38}});
    let entries = json!([{"key": 1, "value": value}]);
    let pin = "/sys/fs/bpf/ktally/kt/maps/per_cpu";
    assert_eq!(host.json(&format!("map dump {pin} -o json")), entries);
    let drained = host.json(&format!("map drain {pin} -o json"));
    assert_eq!(drained, entries);
    child.work();
    assert_eq!(host.json(&format!("map drain {pin} -o json")), entries);
    host.good("detach kt");
}

/// Another CPU that is always faster: after 16 attempts an event gives up, which
/// every output tells.
#[test]
fn what_could_not_be_raised_is_told() {
    needs_exchange();
    let text = [
        "#include \"ktally.bpf.h\"",
        crate::common::source::CALLS,
        crate::common::source::EVENTS,
        "",
    ]
    .concat();
    // What is found there is never what was known.
    let exchange = "#define __sync_val_compare_and_swap(at, known, n) \
         (__sync_fetch_and_add(at, 0), __sync_fetch_and_add(&tried, 1), (known) ^ 1)\n\
         static volatile unsigned long tried;\n";
    let program = r#"
TALLY("a number that is never raised");
static volatile unsigned long tried;
struct seen { __u64 max MAXIMUM(""); __u64 tried GAUGE(""); };
ARRAY_TABLE(greatest, struct seen, 1, "");
EVENT(enter, number)
{
	__u32 zero = 0;
	struct seen *seen = tally_entry(greatest, &zero);

	tally_maximum(&seen->max, number);
	seen->tried = tried;
}
"#;
    let source = Source::file("never.bpf.c", [exchange, &text, program].concat());
    let (host, path) = (Host::new(), source.arg());
    let child = Child::new("kt-max", || [7, 0, 9].into_iter().for_each(event));
    host.good(["attach", &path, "--as", "kt", "--pid", &child.pid()]);
    child.work();
    let reading = host.json("read kt -o json");
    assert_eq!(
        rows_of(&reading)[0],
        json!({"key": 0, "max": 0, "tried": 32})
    );
    // 0 needs no raise.
    assert_eq!(reading["unraised"], 2);
    for line in ["read kt", "read kt -o csv"] {
        let ended = host.good(line).told(&["may be too low: 2 attempts"]);
        assert_has(&ended.stdout, &[", 2 unraised"]);
    }
    host.ktally("read kt --strict").failed(4, &[]);
    assert_eq!(host.json("status -o json")[0]["unraised"], 2);
    assert_has(&host.good("status").stdout, &["UNRAISED"]);
    host.good("detach kt");
}

/// Kernels before 5.12 go on without it, and any kernel can be told to.
#[test]
fn without_the_instruction_the_column_is_absent() {
    let source = Source::new(TABLES);
    let mut tally = source.find().unwrap();
    let names = |tally: &ktally::tally::Tally| {
        let tables = tally.tables(&[]).unwrap();
        let metrics = tables[0].metrics.iter();
        metrics.map(|it| it.name.clone()).collect::<Vec<_>>()
    };
    let here: &[&str] = match kernel_series() >= (5, 12) {
        true => &["count", "max", "nested.max"],
        false => &["count"],
    };
    assert_eq!(names(&tally), here);
    tally.leave_out_maxima();
    assert_eq!(names(&tally), ["count"]);
    let child = Child::new("kt-max", || numbers(1, &[37, 1]));
    let options = options_of(&tally, &[("pid", &child.pid())]).unwrap();
    let session = ktally::tally::Session::start(&tally, &options, None).unwrap();
    child.work();
    let reading = session.read().unwrap();
    for table in &reading.tables {
        let [(_, cells)] = table.rows.iter().collect::<Vec<_>>()[..] else {
            panic!("{table:?}");
        };
        assert_eq!(cells, [2, 0, 0]);
    }
}
