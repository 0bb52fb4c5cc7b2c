//! Events whose keys find no room: they lose their key, and nothing else.

use serde_json::{Value, json};

use crate::common::assert_has;
use crate::instances::Host;
use crate::support::{
    Child, Counted, Source, amount, event, fail_to_open, kernel_series, missed, needs, on_two_cpus,
    run_with,
};

/// Tables of each type, whose values are counted, added up and observed.
const TABLES: &str = r#"
TALLY("tables of ten rows");
struct seen {
	__u64 calls COUNTER("");
	__u64 time COUNTER("") UNIT(ns);
	struct tally_histogram latency HISTOGRAM("") UNIT(ns);
};
TABLE(hash, __u64, struct seen, 10, "");
PERCPU_TABLE(per_cpu, __u64, struct seen, 10, "");
ARRAY_TABLE(array, struct seen, 10, "");
#ifdef WIDE
struct wide { char text[1016]; __u64 number; };
TABLE(wide, struct wide, struct seen, 10, "");
CPU_STATE(scratch, struct wide);
#endif
static __always_inline void add(struct seen *seen, __u64 n)
{
	__sync_fetch_and_add(&seen->calls, 1);
	__sync_fetch_and_add(&seen->time, n);
	tally_observe(&seen->latency, n);
}
EVENT(enter, number)
{
	__u32 index = number;

	add(tally_entry(hash, &number), number);
	add(tally_entry(per_cpu, &number), number);
	add(tally_entry(array, &index), number);
#ifdef WIDE
	struct wide *key = tally_cpu_state(scratch);

	if (!key)
		return;
	key->number = number;
	add(tally_entry(wide, key), number);
#endif
}
"#;

/// Both CPUs ask for keys that were never seen, most of which find no room.
#[test]
fn all_rows_together_have_each_event_of_two_cpus() {
    let rounds = amount(100_000);
    let [narrow, wide] =
        ["", "#define WIDE\n"].map(|define| Source::new(&[define, TABLES].concat()));
    // 5.10 takes keys of 512 bytes. Both are compiled, as guests take what a host has.
    [&narrow, &wide]
        .iter()
        .for_each(|source| drop(source.find().unwrap()));
    let source = if kernel_series() >= (5, 11) {
        wide
    } else {
        narrow
    };
    let child = Child::new("kt-other", || {
        on_two_cpus(rounds, |cpu, round| event(2 * round + cpu));
    });
    let of_pid = [("pid", &*child.pid())];
    let counted = run_with(source.path(), &of_pid, None, || child.work());
    assert_eq!(counted.reading.missed, missed(0));
    let issued = 2 * rounds;
    let sum = issued * (issued - 1) / 2;
    for (i, table) in counted.reading.tables.iter().enumerate() {
        assert_eq!(
            (table.rows.len(), table.dropped),
            (10, Some(0)),
            "table {i}"
        );
        let other = table.other.as_deref().unwrap();
        let total = |cell: usize| -> u64 {
            let rows = table.rows.iter().map(|(_, cells)| cells[cell]);
            rows.sum::<u64>() + other[cell]
        };
        let observed: u64 = (3..67).map(total).sum();
        assert_eq!(
            [total(0), total(1), total(2)],
            [issued, sum, sum],
            "table {i}"
        );
        assert_eq!(observed, issued, "table {i}");
        assert!(other[0] >= issued - 20, "table {i}: {}", other[0]);
    }
}

/// The numbers of the row `other` in a reading's only table.
fn other(reading: &Value) -> &Value {
    &reading["tables"][0]["other"]
}

/// Ten of a hundred keys find room; what becomes of the rest in each format.
#[test]
fn the_row_is_part_of_every_output() {
    let source = Source::new(TABLES_OF_ONE);
    let host = Host::new();
    let child = Child::new("kt-other", || (0..300).for_each(|n| event(n % 100)));
    let path = source.arg();
    host.good(["attach", &path, "--as", "x", "--pid", &child.pid()]);
    child.work();

    let reading = host.json("read x -o json");
    assert_eq!(other(&reading)["count"], 270, "{reading}");
    assert_eq!(
        host.json("read x -o json --by key")["tables"][0]["other"]["count"],
        270
    );
    let filtered = host.json("read x -o json --where key=3");
    assert_eq!(other(&filtered), &Value::Null);
    assert_has(
        &host.good("read x --total --where key=3").stdout,
        &["(other) left out"],
    );

    let shown = host.good("read x --total --top 3");
    let lines: Vec<&str> = shown.stdout.lines().collect();
    assert_eq!(
        lines[5].split_whitespace().collect::<Vec<_>>(),
        ["(other)", "270"]
    );
    assert_has(lines[6], &["3 of 10 rows"]);
    assert_has(
        &shown.stderr,
        &["no room for the keys of 270 events", "--max-rows"],
    );
    host.ktally("read x --strict").failed(4, &[]);

    let csv = host.good("read x -o csv").stdout;
    let kinds = csv
        .lines()
        .filter(|line| line.contains(r#","row","#))
        .count();
    assert_eq!(kinds, 10, "{csv}");
    let last = csv.lines().rev().nth(1).unwrap();
    assert!(last.ends_with(r#","other","",270"#), "{csv}");

    let status = &host.json("status -o json")[0];
    assert_eq!(
        (&status["other"], &status["dropped"]),
        (&270.into(), &0.into())
    );

    let dump = |more: &str| {
        let line = format!("map dump {}/x/maps/hits {more}", "/sys/fs/bpf/ktally");
        host.good(&line).stdout
    };
    let entries: Value = serde_json::from_str(&dump("-o json")).unwrap();
    let last = entries.as_array().unwrap().last().unwrap();
    assert_eq!(last, &json!({"key": null, "value": {"count": 270}}));
    assert_eq!(
        dump("--top 2")
            .lines()
            .nth(3)
            .unwrap()
            .split_whitespace()
            .last(),
        Some("270")
    );
    assert!(!dump("--where key=3").contains("(other)"));

    // New programs go on with the same row.
    host.good([
        "attach",
        &path,
        "--as",
        "x",
        "--replace",
        "--pid",
        &child.pid(),
    ]);
    child.work();
    // The row is not in the map that is drained.
    let drained = host.good("map drain /sys/fs/bpf/ktally/x/maps/hits");
    assert_has(&drained.stderr, &["`(other)` is in another map"]);
    let last = host.json("detach x -o json");
    assert_eq!(other(&last)["count"], 2 * 270, "{last}");
}

const TABLES_OF_ONE: &str = r#"
TALLY("a table of ten rows");
TABLE(hits, __u64, struct hits, 10, "");
EVENT(enter, number)
{
	hit(hits, &number);
}
"#;

/// As the header had it before tables had the row.
const BEFORE: &str = r#"
TALLY("a table of ten rows");
const struct hits hits_zero = {};
struct tally_health hits_health SEC(".bss.ktally") = {};
struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, 10);
	__type(key, __u64);
	__type(value, struct hits);
} hits SEC(".maps") __ktally_tag("table", "");
EVENT(enter, number)
{
	struct hits *row;

	bpf_map_update_elem(&hits, &number, &hits_zero, BPF_NOEXIST);
	row = bpf_map_lookup_elem(&hits, &number);
	if (row)
		__sync_fetch_and_add(&row->count, 1);
	else
		tally_dropped(hits);
}
"#;

/// It is read as before. Its counts cannot go on in tables that have more.
#[test]
fn an_instance_of_an_earlier_version_is_read_and_not_replaced() {
    let (before, now) = (Source::new(BEFORE), Source::new(TABLES_OF_ONE));
    let host = Host::new();
    let child = Child::new("kt-other", || (0..300).for_each(|n| event(n % 100)));
    let pid = child.pid();
    host.good(["attach", &before.arg(), "--as", "x", "--pid", &pid]);
    child.work();
    let reading = host.json("read x -o json");
    let table = &reading["tables"][0];
    assert_eq!(
        (&table["dropped"], &table["other"]),
        (&270.into(), &Value::Null)
    );
    assert_eq!(host.json("status -o json")[0]["other"], Value::Null);
    assert_has(&host.good("read x").stderr, &["no room for 270 events"]);
    let refused = host.ktally([
        "attach",
        &now.arg(),
        "--as",
        "x",
        "--replace",
        "--pid",
        &pid,
    ]);
    refused.failed(
        1,
        &[
            "earlier version",
            "`ktally detach x` prints what it counted",
        ],
    );
    let last = host.json("detach x -o json");
    assert_eq!(last["tables"][0]["dropped"], 270);
}

/// One row and the row `other` have all that the rows of a larger table have.
#[test]
fn no_tally_loses_what_it_cannot_name() {
    for tally in ["failures", "syscalls"] {
        let child = Child::new("kt-other", || {
            (0..23).for_each(event);
            fail_to_open(29);
        });
        let of_pid = [("pid", &*child.pid())];
        let total = |counted: &Counted| {
            let other = counted.reading.tables[0].other_events(counted.table());
            counted.sum("calls") + other.unwrap()
        };
        let roomy = run_with(tally, &of_pid, None, || child.work());
        let tight = run_with(tally, &of_pid, Some(1), || child.work());
        assert_eq!(tight.rows().len(), 1, "{tally}");
        assert_eq!(total(&tight), total(&roomy), "{tally}");
        assert!(total(&roomy) >= 29, "{tally}");
    }
}

/// A program that a helper of its own sets off again: the kernel skips that run, and
/// each reading says of which program it was.
#[test]
fn each_program_says_what_it_missed() {
    needs((5, 12), "the number of runs that were missed");
    let source = Source::new(
        r#"
TALLY("runs that are skipped");
TABLE(hits, __u64, struct hits, 10, "");
SEC("tp_btf/bpf_trace_printk")
int BPF_PROG(printed)
{
	__u64 key = 1;

	hit(hits, &key);
	bpf_printk("again");
	return 0;
}
EVENT(enter, number)
{
	bpf_printk("once");
}
"#,
    );
    let host = Host::new();
    let child = Child::new("kt-missed", || (0..23).for_each(event));
    host.good(["attach", &source.arg(), "--as", "x", "--pid", &child.pid()]);
    child.work();
    for line in [
        "read x -o json",
        "detach x --keep -o json",
        "read x -o json",
        "detach x -o json",
    ] {
        let reading = host.json(line);
        assert_eq!(reading["missed"], 23, "{line}: {reading}");
        let by = &reading["missed_by"];
        assert_eq!(
            (&by["printed"], &by["enter"]),
            (&23.into(), &0.into()),
            "{line}: {by}"
        );
        assert_eq!(reading["tables"][0]["rows"][0]["count"], 23, "{line}");
    }
}
