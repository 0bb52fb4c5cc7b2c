//! What C files declare: options, types, columns and histograms.

use ktally::schema::{Decoder, Histogram, Kind, MetricKind, Scale, Table, Unit};
use ktally::snapshot::count;
use ktally::tally::Tally;
use serde_json::{Value as Json, json};

use crate::session::{count_work, only_row, start, tally_of};
use crate::support::ask_for_parent;

// ---- options ----------------------------------------------------------------

const OPTIONS: &str = r#"
enum colour { RED = 3, GREEN = -4 };
enum plain { NONE, SOME };
typedef char text[12];
OPTION(__u8, small, 7, "a byte");
OPTION(__s16, below, -300, "signed");
OPTION(bool, on, true, "a bool");
OPTION(enum colour, colour, RED, "signed enum");
OPTION(enum plain, plain, SOME, "unsigned enum");
OPTION(__u64 UNIT(ns), longer_than, 1500, "a time");
OPTION(__s64, least, -1, "the widest");
OPTION(text, word, "default", "text");
OPTION(uid_t AS(uid), uid, 0, "a user");

struct key {
	__u8 small;
	__s16 below;
	bool on;
	enum colour colour;
	enum plain plain;
	__u64 longer_than;
	__s64 least;
	text word;
	uid_t uid;
	bool uid_given;
};
TABLE(kt_options, struct key, __u64, 16, "the options as the program has them");

SEC("tp_btf/sys_enter")
int BPF_PROG(enter, struct pt_regs *regs, long id)
{
	struct key key;

	if (!mine() || id != NR_getppid)
		return 0;
	__builtin_memset(&key, 0, sizeof(key));
	key.small = small;
	key.below = below;
	key.on = on;
	key.colour = colour;
	key.plain = plain;
	key.longer_than = longer_than;
	key.least = least;
	for (int i = 0; i < sizeof(word); i++)
		key.word[i] = word[i];
	key.uid = uid;
	key.uid_given = uid_given;
	add_one(kt_options, &key);
	return 0;
}
"#;

/// What the program saw, by option.
fn seen(tally: &Tally, options: &[(&str, &str)]) -> Json {
    let reading = count_work(tally, options, || ask_for_parent(1));
    assert_eq!(only_row(&reading), [1]);
    let key = reading.tables[0].rows.key(0);
    let labels = tally.schema.tables[0].labels.iter();
    labels
        .map(|label| (label.name.clone(), json!(label.place.decode(key))))
        .collect()
}

#[test]
fn options_of_every_kind_reach_the_program() {
    let file = tally_of("options", OPTIONS);
    let tally = file.find().unwrap();
    let defaults = json!({
        "small": 7, "below": -300, "on": true, "colour": "RED", "plain": "SOME",
        "longer_than": 1500, "least": -1, "word": "default", "uid": 0, "uid_given": false,
    });
    assert_eq!(seen(&tally, &[]), defaults);

    let options = [
        ("small", "255"),
        ("below", "-32768"),
        ("on", "false"),
        ("colour", "GREEN"),
        ("plain", "NONE"),
        ("longer_than", "10ms"),
        ("least", "-9223372036854775808"),
        ("word", "eleven byte"),
        ("uid", "4294967294"),
    ];
    let given = json!({
        "small": 255, "below": -32768, "on": false, "colour": "GREEN", "plain": "NONE",
        "longer_than": 10_000_000, "least": i64::MIN, "word": "eleven byte",
        "uid": 4_294_967_294_u32, "uid_given": true,
    });
    assert_eq!(seen(&tally, &options), given);

    // Root's id is zero, as is no id at all: the flag tells.
    let root = seen(&tally, &[("uid", "0"), ("word", "")]);
    assert_eq!(root["uid_given"], true);
    assert_eq!(root["uid"], 0);
    assert_eq!(root["word"], "");

    // Of one tally many sessions: none leaves its options behind.
    assert_eq!(seen(&tally, &[]), defaults);
}

#[test]
fn what_options_say_is_in_the_schema() {
    let file = tally_of("declared", OPTIONS);
    let tally = file.find().unwrap();
    let option = |name: &str| {
        let mut options = tally.schema.options.iter();
        options.find(|option| option.name == name).expect(name)
    };
    // The header's own filters are none of this tally's options.
    assert_eq!(tally.schema.options.len(), 10);
    assert_eq!(option("longer_than").unit, Some(Unit::Time(1)));
    assert_eq!(option("longer_than").help, "a time");
    assert_eq!(option("uid").decoder, Some(Decoder::from_tag("uid")));
    assert!(option("uid").given.is_some());
    assert!(option("word").given.is_none());
    assert!(option("word").place.ty.is_text());
    let word = option("word").place.decode(&tally.rodata);
    assert_eq!(word.to_string(), "default");
}

// ---- types ------------------------------------------------------------------

const TYPES: &str = r#"
enum state { IDLE, BUSY = 5 };
enum sign { MINUS = -1, PLUS = 1 };
enum wide { WIDE_ONE = 1, WIDE_MOST = 0xffffffffffffffffULL };
typedef struct { __u16 port; __u16 pad HIDDEN; } endpoint;
typedef __u32 AS(hex) flags_t;
struct inner { __s8 deep; struct { __u8 deeper; } more; };

struct key {
	__u8 u8; __s8 s8; __u16 u16; __s16 s16;
	__u32 u32; __s32 s32; __u64 u64; __s64 s64;
	unsigned __int128 u128;
	bool flag;
	char letter;
	char comm[TASK_COMM_LEN] AS(comm);
	enum state state;
	enum sign sign;
	enum wide wide;
	void *pointer;
	const volatile pid_t pid AS(pid);
	__u32 call AS(syscall);
	__u32 reason AS(enum:skb_drop_reason);
	__u32 hidden HIDDEN;
	struct inner inner;
	endpoint end;
	union { __u32 word; __u8 bytes[4]; } both;
	struct { __u32 unnamed; };
	__u32 low : 3; __s32 mid : 5; __u64 high : 40;
	__u8 address[4] AS(hex);
	__u16 matrix[2][3];
};

struct value {
	__u64 calls COUNTER("calls made");
	__u64 bytes COUNTER("bytes moved") UNIT(bytes);
	__s32 depth GAUGE("how deep");
	__u64 time COUNTER("time taken") UNIT(us);
	struct { __u32 in COUNTER("inward"); __u32 out; } net;
	__u64 each[3] COUNTER("of each kind");
	struct tally_histogram sizes HISTOGRAM("sizes") UNIT(bytes);
	__u32 five : 5;
	__u64 private HIDDEN;
	__u8 last COUNTER("the last");
};

TABLE(kt_types, struct key, struct value, 77, "everything");
ARRAY_TABLE(kt_array, __u64, 13, "by number") AS(softirq) COUNTER("interrupts");
PERCPU_TABLE(kt_percpu, pid_t, struct tally_histogram, 5, "one histogram") UNIT(ns)
	HISTOGRAM("delays");

SEC("tp_btf/sys_enter")
int BPF_PROG(enter)
{
	return 0;
}
"#;

#[test]
fn types_are_read_as_c_declares_them() {
    let file = tally_of("types", TYPES);
    let tally = file.find().unwrap();
    assert_eq!(tally.name, "types");
    assert_eq!(tally.summary(), "a test's own");
    let programs = [("enter".to_owned(), "tp_btf/sys_enter".to_owned())];
    assert_eq!(tally.programs, programs);
    let [types, array, percpu] = &tally.schema.tables[..] else {
        panic!("three tables: {:?}", tally.schema.tables);
    };
    check_labels(types);
    check_metrics(types);

    assert_eq!((&*array.name, &*array.help), ("kt_array", "by number"));
    assert_eq!((array.key_size, array.value_size), (4, 8));
    assert_eq!(array.max_entries, 13);
    assert_eq!(array.labels[0].name, "softirq");
    assert_eq!(array.labels[0].decoder, Some(Decoder::from_tag("softirq")));
    assert_eq!(array.metrics[0].name, "value");
    assert_eq!(array.metrics[0].help, "interrupts");

    assert_eq!((percpu.key_size, percpu.value_size), (4, 520));
    assert_eq!(percpu.labels[0].name, "key");
    assert_eq!(percpu.metrics[0].kind, MetricKind::Histogram);
    assert_eq!(percpu.metrics[0].help, "delays");
    assert_eq!(percpu.metrics[0].unit, Some(Unit::Time(1)));
    assert_eq!(percpu.cells(), Histogram::CELLS);

    // The kernel takes all of it too.
    let session = start(&tally, &[]).unwrap();
    let reading = session.read().unwrap();
    assert!(reading.tables.iter().all(|table| table.rows.is_empty()));
}

fn check_labels(table: &Table) {
    assert_eq!((&*table.name, &*table.help), ("kt_types", "everything"));
    assert_eq!(table.max_entries, 77);
    let int = |signed| Some(Kind::Int { signed });
    // Name, size, width in bits, kind of type, decoder.
    let expected = [
        ("u8", 1, 8, int(false), ""),
        ("s8", 1, 8, int(true), ""),
        ("u16", 2, 16, int(false), ""),
        ("s16", 2, 16, int(true), ""),
        ("u32", 4, 32, int(false), ""),
        ("s32", 4, 32, int(true), ""),
        ("u64", 8, 64, int(false), ""),
        ("s64", 8, 64, int(true), ""),
        ("u128", 16, 128, int(false), ""),
        ("flag", 1, 8, Some(Kind::Bool), ""),
        ("letter", 1, 8, Some(Kind::Char), ""),
        ("comm", 16, 128, None, "comm"),
        ("state", 4, 32, None, ""),
        ("sign", 4, 32, None, ""),
        ("wide", 8, 64, None, ""),
        ("pointer", 8, 64, Some(Kind::Pointer), ""),
        ("pid", 4, 32, int(true), "pid"),
        ("call", 4, 32, int(false), "syscall"),
        ("reason", 4, 32, int(false), "enum:skb_drop_reason"),
        ("inner.deep", 1, 8, int(true), ""),
        ("inner.more.deeper", 1, 8, int(false), ""),
        ("end.port", 2, 16, int(false), ""),
        ("both", 4, 32, None, ""),
        ("unnamed", 4, 32, int(false), ""),
        ("low", 4, 3, int(false), ""),
        ("mid", 4, 5, int(true), ""),
        ("high", 8, 40, int(false), ""),
        ("address", 4, 32, None, "hex"),
        ("matrix", 12, 96, None, ""),
    ];
    let names: Vec<&str> = table.labels.iter().map(|it| &*it.name).collect();
    assert_eq!(names, expected.each_ref().map(|row| row.0));
    for (label, (name, size, width, kind, decoder)) in table.labels.iter().zip(expected) {
        assert_eq!(label.place.ty.size, size, "{name}");
        assert_eq!(label.place.width(), width, "{name}");
        let decoder = (!decoder.is_empty()).then(|| Decoder::from_tag(decoder));
        assert_eq!(label.decoder, decoder, "{name}");
        if let Some(kind) = kind {
            assert_eq!(label.place.ty.kind, kind, "{name}");
        }
    }

    // Members without overlap, in order, inside the key.
    let places = table.labels.iter().map(|label| &label.place);
    let end = places.fold(0, |end, place| {
        assert!(place.bit_offset >= end);
        place.bit_offset + place.width()
    });
    assert!(end <= table.key_size * 8);

    let place = |name: &str| &table.labels[table.label(name).unwrap()].place;
    let decode = |name: &str, number: u64| {
        let place = place(name);
        let mut key = vec![0; table.key_size + 8];
        // A bitfield's bits do not begin at a byte.
        let number = u128::from(number) << (place.bit_offset % 8);
        key[place.bit_offset / 8..][..8].copy_from_slice(&number.to_le_bytes()[..8]);
        json!(place.decode(&key))
    };
    for (name, number, shown) in [
        ("state", 5, json!("BUSY")),
        ("state", 6, json!(6)),
        ("sign", 0xffff_ffff, json!("MINUS")),
        ("wide", 1, json!("WIDE_ONE")),
        ("low", 0xff, json!(7)),
        ("mid", 0x1f, json!(-1)),
        ("high", (1 << 40) - 1, json!((1u64 << 40) - 1)),
        (
            "both",
            0x0403_0201,
            json!({"word": 0x0403_0201, "bytes": [1, 2, 3, 4]}),
        ),
        (
            "matrix",
            0x0004_0003_0002_0001,
            json!([[1, 2, 3], [4, 0, 0]]),
        ),
    ] {
        assert_eq!(decode(name, number), shown, "{name}: {number:#x}");
    }
}

fn check_metrics(table: &Table) {
    use MetricKind::{Counter, Gauge, Histogram as Distribution};
    let time = || Some(Unit::Time(1000));
    let expected = [
        ("calls", "calls made", Counter, None, 64),
        ("bytes", "bytes moved", Counter, Some(Unit::Bytes), 64),
        ("depth", "how deep", Gauge, None, 32),
        ("time", "time taken", Counter, time(), 64),
        ("net.in", "inward", Counter, None, 32),
        ("net.out", "", Counter, None, 32),
        ("each.0", "of each kind", Counter, None, 64),
        ("each.1", "of each kind", Counter, None, 64),
        ("each.2", "of each kind", Counter, None, 64),
        ("sizes", "sizes", Distribution, Some(Unit::Bytes), 65 * 64),
        ("five", "", Counter, None, 5),
        ("last", "the last", Counter, None, 8),
    ];
    let found: Vec<_> = table
        .metrics
        .iter()
        .map(|metric| {
            let (name, help) = (&*metric.name, &*metric.help);
            let width = metric.place.width();
            (name, help, metric.kind, metric.unit.clone(), width)
        })
        .collect();
    assert_eq!(found, expected);
    // 3 words, each of `net` and `each`, the histogram, the bitfield, 2 more.
    assert_eq!(table.value_size, 8 * (4 + 1 + 3 + 65 + 1 + 1 + 1));
    assert_eq!(table.cells(), 9 + Histogram::CELLS + 2);
    let depth = &table.metrics[2];
    assert!(depth.is_signed());
    let mut value = vec![0; table.value_size];
    value[depth.place.bit_offset / 8..][..4].copy_from_slice(&(-3i32).to_le_bytes());
    let mut cells = vec![0; table.cells()];
    table.add_cells(&value, &mut cells);
    assert_eq!(cells[depth.cell] as i64, -3);
}

// ---- histograms -------------------------------------------------------------

#[test]
fn each_number_is_in_the_bucket_of_the_next_power_of_two() {
    let program = r#"
struct row {
	struct tally_histogram numbers HISTOGRAM("arguments");
};
TABLE(kt_edges, __u64, struct row, 256, "one row per number");
SEC("tp_btf/sys_enter")
int BPF_PROG(enter, struct pt_regs *regs, long id)
{
	__u64 number = argument(regs);
	struct row *row;

	if (!mine() || id != NR_getpriority)
		return 0;
	row = tally_entry(kt_edges, &number);
	if (row)
		tally_observe(&row->numbers, number);
	return 0;
}
"#;
    let file = tally_of("edges", program);
    let mut numbers = vec![0, 1, 2, 3, 4, 5, 8, 9, u64::MAX];
    // Around every edge: exactly at it, and one beyond.
    for power in 2..64 {
        numbers.extend([(1u64 << power) - 1, 1 << power, (1 << power) + 1]);
    }
    numbers.sort_unstable();
    numbers.dedup();
    // Three times, so that sums of the large ones wrap.
    const TIMES: u64 = 3;
    let reading = count_work(&file.find().unwrap(), &[], || {
        for _ in 0..TIMES {
            for number in &numbers {
                // SAFETY: two integers; the call has no effect.
                unsafe { libc::syscall(libc::SYS_getpriority, *number, 0) };
            }
        }
    });
    let rows = &reading.tables[0].rows;
    assert_eq!(rows.len(), numbers.len());
    for (key, cells) in rows.iter() {
        let number = u64::from_ne_bytes(key.try_into().unwrap());
        let bucket = cells[1..].iter().position(|count| *count > 0).unwrap();
        let expected = match number.checked_next_power_of_two() {
            Some(edge) => (edge.ilog2() as usize).min(Histogram::BUCKETS - 1),
            None => Histogram::BUCKETS - 1,
        };
        assert_eq!(bucket, expected, "{number}");
        assert_eq!(count(cells), TIMES, "{number}");
        assert_eq!(cells[0], number.wrapping_mul(TIMES), "{number}");
        assert!(number <= Scale::Log2.edge(bucket), "{number}");
        assert!(bucket == 0 || number > Scale::Log2.edge(bucket - 1));
    }
}
