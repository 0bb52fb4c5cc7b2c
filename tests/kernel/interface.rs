//! What the C interface promises: rows, columns, options, alternatives, and
//! counts of what is lost.

use ktally::schema::MetricKind;
use ktally::tally::Support;

use crate::support::{
    Child, Source, count, event, kernel_series, missed, needs, on_two_cpus, options_of, run_with,
};

/// A row for each number.
const ONE_TABLE: &str = r#"
TALLY("a table of any size");
TABLE(hits, __u64, struct hits, ROWS, "");
EVENT(enter, number)
{
	hit(hits, &number);
}
"#;

/// Two CPUs miss the same new key at the same moment: a count is lost where the
/// one that is late replaces the row of the other.
#[test]
fn no_count_is_lost_where_two_cpus_make_a_row() {
    const ROUNDS: u64 = 256_000;
    let source = Source::new(&ONE_TABLE.replace("ROWS", "262144"));
    let child = Child::new("kt-race", || on_two_cpus(ROUNDS, |_, round| event(round)));
    let counted = count(source.path(), &child, &[]);
    assert_eq!(counted.reading.tables[0].rows.len() as u64, ROUNDS);
    assert_eq!(counted.sum("count"), 2 * ROUNDS);
    let rows = counted.rows();
    assert!(rows.iter().all(|row| row.number("count") == 2));
}

#[test]
fn what_a_tally_says_it_dropped_is_dropped() {
    let source = Source::new(
        r#"
TALLY("events that find no memory");
TABLE(hits, __u64, struct hits, 16, "");
TABLE(others, __u64, struct hits, 16, "");
EVENT(enter, number)
{
	if (number >= 16)
		tally_dropped(hits);
	else
		hit(hits, &number);
}
"#,
    );
    let child = Child::new("kt-dropped", || (0..23).for_each(event));
    let of_pid = [("pid", &*child.pid())];
    let counted = run_with(source.path(), &of_pid, None, || child.work());
    let tables = &counted.reading.tables;
    assert_eq!((tables[0].rows.len(), tables[0].dropped), (16, Some(7)));
    assert_eq!((tables[1].rows.len(), tables[1].dropped), (0, Some(0)));
    assert_eq!(counted.reading.missed, missed(0));
}

/// A gauge at 0 is a reading; a counter at 0 counted nothing.
#[test]
fn gauges_are_rows_at_zero_too() {
    let source = Source::new(
        r#"
TALLY("rows of zeroes");
struct level { __s64 level GAUGE(""); };
TABLE(levels, __u64, struct level, 16, "");
TABLE(counts, __u64, struct hits, 16, "");
ARRAY_TABLE(level_array, struct level, 4, "");
ARRAY_TABLE(count_array, struct hits, 4, "");
EVENT(enter, number)
{
	tally_entry(levels, &number);
	tally_entry(counts, &number);
}
"#,
    );
    let child = Child::new("kt-zero", || (0..3).for_each(event));
    let of_pid = [("pid", &*child.pid())];
    let counted = run_with(source.path(), &of_pid, None, || child.work());
    let tables = &counted.reading.tables;
    let rows: Vec<usize> = tables.iter().map(|table| table.rows.len()).collect();
    assert_eq!(rows, [3, 0, 4, 0]);
}

#[test]
fn a_full_table_tells_what_it_turned_away() {
    const ROUNDS: u64 = 3;
    let source = Source::new(&ONE_TABLE.replace("ROWS", "4096"));
    let child = Child::new("kt-full", || {
        (0..ROUNDS * 1000).for_each(|number| event(number % 1000));
    });
    let of_pid = [("pid", &*child.pid())];
    let full = |rows| run_with(source.path(), &of_pid, Some(rows), || child.work());
    let counted = full(10);
    assert_eq!(counted.rows().len(), 10);
    // The first ten keys have rows, and every event of theirs is in them.
    assert_eq!(counted.sum("count"), ROUNDS * 10);
    assert_eq!(counted.dropped(), 0);
    let other = counted.reading.tables[0].other_events(counted.table());
    assert_eq!(other, Some(ROUNDS * 990));
    assert_eq!(counted.reading.missed, missed(0));

    // The same events fit where there is room.
    let counted = full(1000);
    counted.assert_whole();
    assert_eq!(counted.rows().len(), 1000);
    assert_eq!(counted.sum("count"), ROUNDS * 1000);
}

/// Of 12 bytes, so that the copies of the CPUs have padding between them.
#[test]
fn the_copies_of_all_cpus_add_up() {
    const ROUNDS: u64 = 100_000;
    let source = Source::new(
        r#"
TALLY("a row a CPU");
struct parts {
	__u32 all COUNTER("");
	__u32 odd COUNTER("");
	__u32 sum COUNTER("");
};
PERCPU_TABLE(parts, __u64, struct parts, 1024, "");
EVENT(enter, n)
{
	__u64 key = n / 1000;
	struct parts *row = tally_entry(parts, &key);

	if (!row)
		return;
	__sync_fetch_and_add(&row->all, 1);
	if (n % 2)
		__sync_fetch_and_add(&row->odd, 1);
	__sync_fetch_and_add(&row->sum, n % 1000);
}
"#,
    );
    let child = Child::new("kt-percpu", || on_two_cpus(ROUNDS, |_, round| event(round)));
    let counted = count(source.path(), &child, &[]);
    assert_eq!(counted.table().value_size, 12);
    let rows = counted.rows();
    assert_eq!(rows.len() as u64, ROUNDS / 1000);
    for row in rows {
        // 0 to 999, from each CPU.
        let numbers = row.numbers(["all", "odd", "sum"]);
        assert_eq!(numbers, [2 * 1000, 2 * 500, 2 * 499_500]);
    }
}

#[test]
fn every_kind_of_column_comes_out_as_declared() {
    let source = Source::new(
        r#"
TALLY("columns of all kinds");
struct place { __u16 half; __s16 below; };
struct who {
	char comm[TASK_COMM_LEN] AS(comm);
	struct place place;
	__u32 parent AS(hex);
	__u32 unused HIDDEN;
};
struct columns {
	__u64 up COUNTER("only up");
	__s32 level GAUGE("up and down");
	__u32 unused HIDDEN;
	struct {
		__u64 even COUNTER("even numbers");
		__u64 odd COUNTER("odd numbers");
	} parity;
	__u32 digit[3] COUNTER("by remainder");
	__u8 scratch[4] HIDDEN;
	struct tally_histogram size HISTOGRAM("of the numbers") UNIT(bytes);
};
TABLE(columns, struct who, struct columns, 16, "one of each");
EVENT(enter, n)
{
	struct who key = {};
	struct columns *row;

	bpf_get_current_comm(key.comm, sizeof(key.comm));
	key.place.half = 0xffff;
	key.place.below = -2;
	key.parent = 0xbeef;
	row = tally_entry(columns, &key);
	if (!row)
		return;
	__sync_fetch_and_add(&row->up, n);
	__sync_fetch_and_add(&row->level, n % 4 == 0 ? 1 : -1);
	__sync_fetch_and_add(&row->unused, 7);
	row->scratch[0] = 7;
	if (n % 2)
		__sync_fetch_and_add(&row->parity.odd, 1);
	else
		__sync_fetch_and_add(&row->parity.even, 1);
	if (n % 3 == 0)
		__sync_fetch_and_add(&row->digit[0], 1);
	else if (n % 3 == 1)
		__sync_fetch_and_add(&row->digit[1], 1);
	else
		__sync_fetch_and_add(&row->digit[2], 1);
	tally_observe(&row->size, n);
}
"#,
    );
    let child = Child::new("kt-columns", || (0..23).for_each(event));
    let counted = count(source.path(), &child, &[]);

    let table = counted.table();
    let labels: Vec<&str> = table.labels.iter().map(|it| &*it.name).collect();
    assert_eq!(labels, ["comm", "place.half", "place.below", "parent"]);
    let names: Vec<&str> = table.metrics.iter().map(|it| &*it.name).collect();
    let digits = ["digit.0", "digit.1", "digit.2"];
    let counters = [&["parity.even", "parity.odd"], &digits[..]].concat();
    assert_eq!(names, [&["up", "level"], &counters[..], &["size"]].concat());
    for metric in &table.metrics {
        let kind = match &*metric.name {
            "level" => MetricKind::Gauge,
            "size" => MetricKind::Histogram,
            _ => MetricKind::Counter,
        };
        assert_eq!(metric.kind, kind, "{}", metric.name);
    }

    let row = counted.only_row(&["kt-columns", "65535", "-2", "0xbeef"]);
    assert_eq!(row.number("up"), 253);
    // 0, 4, ..., 20 are six; the other 17 go down.
    assert_eq!(row.number("level") as i64, 6 - 17);
    assert_eq!(row.numbers(["parity.even", "parity.odd"]), [12, 11]);
    assert_eq!(row.numbers(["digit.0", "digit.1", "digit.2"]), [8, 8, 7]);
    assert_eq!(row.histogram("size"), (23, 253));
    // 0 and 1; 2; 3 and 4; 5 to 8; 9 to 16; 17 to 22.
    assert_eq!(row.buckets("size")[..7], [2, 1, 2, 4, 8, 6, 0]);
}

/// Options reach the programs as typed: through `.rodata`, by type and unit.
#[test]
fn options_reach_the_programs() {
    let source = Source::new(
        r#"
TALLY("what the options are");
OPTION(__u64 UNIT(ns), longer_than, 5, "");
OPTION(__s16, least, -3, "");
OPTION(bool, on, false, "");
const volatile bool least_given;
struct values {
	__u64 longer_than GAUGE("");
	__s64 least GAUGE("");
	__u8 on GAUGE("");
	__u8 given GAUGE("");
	__u64 count COUNTER("");
};
TABLE(values, __u64, struct values, 16, "");
EVENT(enter, number)
{
	__u64 key = 0;
	struct values *row = tally_entry(values, &key);

	if (!row)
		return;
	row->longer_than = longer_than;
	row->least = least;
	row->on = on;
	row->given = least_given;
	__sync_fetch_and_add(&row->count, 1);
}
"#,
    );
    let child = Child::new("kt-options", || event(0));
    let seen = |options: &[(&str, &str)]| {
        let counted = count(source.path(), &child, options);
        let row = counted.row(&["0"]);
        row.numbers(["longer_than", "least", "on", "given", "count"])
            .map(u64::cast_signed)
    };
    assert_eq!(seen(&[]), [5, -3, 0, 0, 1]);
    let given = [("longer_than", "2us"), ("least", "-300"), ("on", "true")];
    assert_eq!(seen(&given), [2000, -300, 1, 1, 1]);
}

/// What only an option fills is not there without it.
#[test]
fn columns_of_an_option_need_it() {
    let source = Source::new(
        r#"
TALLY("columns of options");
OPTION(bool, by_cpu, false, "");
OPTION(__u32, depth, 2, "");
struct who {
	__u32 id;
	__u32 cpu WITH(by_cpu);
	__u32 level WITH(depth);
	__u32 other WITH(no_such_option);
};
TABLE(hits, struct who, struct hits, 1, "");
SEC("tp_btf/sys_enter")
int BPF_PROG(enter)
{
	return by_cpu && depth;
}
"#,
    );
    let tally = source.find().unwrap();
    let labels = |given: &[(&str, &str)]| -> Vec<String> {
        let options = options_of(&tally, given).unwrap();
        let tables = tally.tables(&options).unwrap();
        let labels = tables[0].labels.iter();
        labels.map(|label| label.name.clone()).collect()
    };
    assert_eq!(labels(&[]), ["id", "level", "other"]);
    assert_eq!(labels(&[("depth", "0")]), ["id", "other"]);
    let all = labels(&[("by_cpu", "true")]);
    assert_eq!(all, ["id", "cpu", "level", "other"]);
}

/// Of alternatives one is used, and no message is about the others.
#[test]
fn of_alternatives_the_first_that_the_kernel_has_counts() {
    let program = |name: &str, event: &str, add: u32| {
        format!(
            r#"
SEC("tp_btf/{event}")
ALTERNATIVE(calls)
int BPF_PROG({name}, struct pt_regs *regs, long id)
{{
	return add(regs, id, {add});
}}
"#
        )
    };
    let (absent, enter) = ("no_such_event", "sys_enter");
    let child = Child::new("kt-alternative", || (0..23).for_each(event));
    for (events, each) in [
        ([absent, absent, enter], 100),
        ([absent, enter, enter], 10),
        ([enter, enter, absent], 1),
    ] {
        let source = Source::new(&format!(
            r#"
TALLY("programs of which one is used");
TABLE(hits, __u32, struct hits, 1, "");
static __always_inline int add(struct pt_regs *regs, long id, __u64 n)
{{
	__u32 key = 0;

	if (is_event(regs, id))
		hits_of(hits, &key, n);
	return 0;
}}
{}{}{}
"#,
            program("one", events[0], 1),
            program("two", events[1], 10),
            program("three", events[2], 100),
        ));
        let tally = source.find().unwrap();
        assert_eq!(Support::probe().obstacles(&tally), Vec::<String>::new());
        let counted = count(source.path(), &child, &[]);
        assert_eq!(counted.row(&["0"]).number("count"), 23 * each, "{events:?}");
    }
    // Where there is none, one reason is enough.
    let none = format!(
        "TALLY(\"none\");\nTABLE(hits, __u32, __u64, 1, \"\");\n#define add(regs, id, n) 0\n{}{}",
        program("one", absent, 1),
        program("two", "nor_this_one", 2)
    );
    let source = Source::new(&none);
    let tally = source.find().unwrap();
    let obstacles = Support::probe().obstacles(&tally);
    assert_eq!(obstacles, ["this kernel has no tracepoint `nor_this_one`"]);
}

/// Each event makes a program fault, which would run it once more.
pub const RUNS_INTO_ITSELF: &str = r#"
TALLY("a program that runs into itself");
TABLE(hits, __u64, struct hits, 16, "");
#define NOWHERE 8 /* below all memory that can be mapped */
static __always_inline void fault(void)
{
	char byte;

	bpf_probe_read_user(&byte, 1, (void *)NOWHERE);
}
EVENT(enter, number)
{
	fault();
}
SEC("tp_btf/page_fault_kernel")
int BPF_PROG(faulted, unsigned long address)
{
	__u64 key = address;

	if (address != NOWHERE || !wanted_task())
		return 0;
	fault();
	hit(hits, &key);
	return 0;
}
"#;

/// A program that is already running on its CPU is not run again: the kernel
/// counts that, and so the reading tells. Here each event makes the program
/// fault, which would run it once more.
#[test]
fn skipped_runs_are_told() {
    // Kernels before that run them, without end.
    needs((5, 12), "a program that runs into itself");
    let source = Source::new(RUNS_INTO_ITSELF);
    let child = Child::new("kt-missed", || (0..23).for_each(event));
    let of_pid = [("pid", &*child.pid())];
    let counted = run_with(source.path(), &of_pid, None, || child.work());
    // Before Linux 6.4 a read that faults tries once more, byte by byte.
    let each = match kernel_series() {
        version if version < (6, 4) => 2,
        _ => 1,
    };
    let count = counted.row(&["8"]).number("count");
    assert_eq!(count, 23 * each);
    assert_eq!(counted.reading.missed, missed(count * each));
    assert_eq!(counted.dropped(), 0);
}
