//! What a session does with tallies of the test's own: what C files declare,
//! how programs attach, and what is refused. Every program counts only the
//! thread of its test, so that tests beside it change nothing.

use std::collections::BTreeMap;
use std::fs;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc;
use std::time::{Duration, Instant};

use anyhow::Result;
use ktally::schema::{Decoder, Histogram, Kind, MetricKind, Table, Unit};
use ktally::snapshot::{Reading, count};
use ktally::tally::{RawOption, Session, Tally, fentry_fact, resolve};
use serde_json::{Value as Json, json};

use crate::common::assert_has;
use crate::objects::{Objects, maps_called, programs_called};
use crate::support::{CALLS, Source, ask_for_parent, kernel_series, require_root, wait_until};

/// A C file `NAME.bpf.c` with what the tests' programs share: `mine()` is whether
/// the thread of the option `tid` is running, `argument(regs)` a call's first
/// argument.
fn tally_of(name: &str, program: &str) -> Source {
    require_root();
    let prelude = r#"#include "ktally.bpf.h"
TALLY("a test's own");
OPTION(pid_t, tid, 0, "count only this thread");
#define mine() ((pid_t)bpf_get_current_pid_tgid() == tid)
"#;
    let text = [prelude, CALLS, program].concat();
    Source::file(&format!("{name}.bpf.c"), text)
}

/// Why it does not start.
fn why_not(file: &Source) -> String {
    let error = start(&file.find().unwrap(), &[]).unwrap_err();
    format!("{error:#}")
}

/// A table `name` of one row, that counts calls of `getppid`.
fn count_parents(table: &str) -> String {
    format!(
        r#"
TABLE({table}, __u32, __u64, 16, "calls");
SEC("tp_btf/sys_enter")
int BPF_PROG(enter_{table}, struct pt_regs *regs, long id)
{{
	__u32 key = 0;
	__u64 *calls;

	if (!mine() || id != NR_getppid)
		return 0;
	calls = tally_entry({table}, &key);
	if (calls)
		__sync_fetch_and_add(calls, 1);
	return 0;
}}
"#
    )
}

fn tid() -> String {
    // SAFETY: no arguments.
    unsafe { libc::syscall(libc::SYS_gettid) }.to_string()
}

fn start(tally: &Tally, options: &[(&str, &str)]) -> Result<Session> {
    let given: Vec<RawOption> = options
        .iter()
        .map(|(name, text)| ((*name).to_owned(), (*text).to_owned()))
        .collect();
    let options = resolve(&tally.schema.options, &given)?;
    Session::start(tally, &options, None)
}

/// The final reading of this thread's `work`.
fn count_work(tally: &Tally, options: &[(&str, &str)], work: impl FnOnce()) -> Reading {
    let tid = tid();
    let options = [options, &[("tid", &tid)]].concat();
    let mut session = start(tally, &options).unwrap();
    work();
    session.detach();
    session.read().unwrap()
}

/// Of the first table, all cells of the only row.
fn only_row(reading: &Reading) -> &[u64] {
    let rows = &reading.tables[0].rows;
    assert_eq!(rows.len(), 1);
    rows.cells(0)
}

// ---- attaching --------------------------------------------------------------

const ABSENT: &str = r#"
int BPF_PROG(absent)
{
	return 0;
}
"#;

#[test]
fn without_an_optional_program_it_goes_on_and_says_so() {
    let absent = format!("SEC(\"tp_btf/no_such_event\") OPTIONAL {ABSENT}");
    let file = tally_of("lacking", &(count_parents("kt_lacking") + &absent));
    let (tally, tid) = (file.find().unwrap(), tid());
    let mut session = start(&tally, &[("tid", &tid)]).unwrap();
    let [warning] = session.warnings() else {
        panic!("one warning: {:?}", session.warnings());
    };
    assert!(warning.contains("`absent`"), "{warning}");
    assert!(warning.contains("no_such_event"), "{warning}");
    ask_for_parent(23);
    session.detach();
    assert_eq!(only_row(&session.read().unwrap()), [23]);
}

#[test]
fn without_a_program_that_it_needs_it_does_not_start() {
    let absent = format!("SEC(\"tp_btf/no_such_event\") {ABSENT}");
    let file = tally_of("needing", &(count_parents("kt_needing") + &absent));
    let error = why_not(&file);
    assert_has(&error, &["`needing`", "no_such_event"]);
}

/// A tally of this program alone does not start; what it says why.
fn refused(name: &str, program: &str) -> String {
    let table = "TABLE(kt_refused, __u32, __u64, 16, \"none\");\n";
    let file = tally_of(name, &(table.to_owned() + program));
    why_not(&file)
}

#[test]
fn the_verifier_s_own_words_are_shown() {
    let program = r#"
SEC("tp_btf/sys_enter")
int BPF_PROG(unchecked)
{
	__u32 key = 0;
	__u64 *row = tally_entry(kt_refused, &key);

	*row = 1;
	return 0;
}
"#;
    let error = refused("unchecked", program);
    let (first, rest) = error.split_once('\n').unwrap();
    assert_has(
        first,
        &[
            "`unchecked`",
            "verifier refused program",
            "map_value_or_null",
        ],
    );
    assert_has(rest, &["*row = 1;"]);
    // Younger kernels say in which file, too.
    let names_file = kernel_series() >= (6, 9);
    assert_eq!(rest.contains("unchecked.bpf.c:"), names_file, "{error}");
    assert!(!error.contains("lockdown"), "{error}");
}

/// What ktally knows of the kernel is told, rather than what errno says.
#[test]
fn what_the_kernel_lacks_is_told_when_attaching_fails() {
    let has_no_fentry = fentry_fact().fix.is_some();
    assert!(!cfg!(target_arch = "aarch64") || has_no_fentry == (kernel_series() < (6, 4)));
    for (section, lacks, words) in [
        // Somebody may mount tracefs at any time.
        (
            "tracepoint/no/event",
            true,
            ["no tracepoint", "mount -t tracefs"],
        ),
        (
            "kprobe/do_exit",
            !ktally::host::has_kprobes(),
            ["no kprobes"; 2],
        ),
        ("fentry/vfs_read", has_no_fentry, ["refuses fentry"; 2]),
        ("fentry/no_such", true, ["no function `no_such`"; 2]),
    ] {
        if !lacks {
            continue;
        }
        let program = format!("SEC(\"{section}\") int probe(void *ctx) {{ return 0; }}");
        let error = refused("lacking", &program);
        assert!(error.contains("`lacking`"), "{section}: {error}");
        assert!(
            words.iter().any(|word| error.contains(word)),
            "{section}: {error}"
        );
        assert_eq!(error.lines().count(), 1, "{section}: {error}");
    }
}

/// With only optional programs, none of which attaches, nothing would count.
#[test]
fn with_no_program_left_it_does_not_start() {
    let absent = format!("SEC(\"tp_btf/no_such_event\") OPTIONAL {ABSENT}");
    let table = r#"TABLE(kt_idle, __u32, __u64, 16, "none");"#;
    let file = tally_of("idle", &format!("{table}\n{absent}"));
    assert_has(&why_not(&file), &["`idle`"]);
}

#[test]
fn a_clock_samples_each_cpu_so_often_a_second() {
    const HZ: u32 = 99;
    let file = tally_of(
        "clock",
        r#"
OPTION(__u32, hz, 7, "samples a second");
TABLE(kt_clock, __u32, __u64, 4096, "samples") AS(cpu);
SEC("perf_event") ATTACH("cpu-clock@$hz")
int sample(void *ctx)
{
	__u32 cpu = bpf_get_smp_processor_id();
	__u64 *samples = tally_entry(kt_clock, &cpu);

	if (samples)
		__sync_fetch_and_add(samples, 1);
	return 0;
}
"#,
    );
    let tally = file.find().unwrap();
    let begin = Instant::now();
    let mut session = start(&tally, &[("hz", "99")]).unwrap();
    let cpus = ktally::host::cpus();
    // A busy host may skip samples, but a CPU that has some gets more.
    wait_until("each CPU has 50 samples", || {
        // An idle CPU is sampled too, but this way one is busy.
        let spin = Instant::now();
        while spin.elapsed() < Duration::from_millis(20) {
            std::hint::spin_loop();
        }
        let reading = session.read().unwrap();
        let rows = &reading.tables[0].rows;
        rows.len() == cpus && rows.iter().all(|(_, cells)| cells[0] >= 50)
    });
    session.detach();
    let most = begin.elapsed().as_secs_f64() * f64::from(HZ) + 1.0;
    let reading = session.read().unwrap();
    assert_eq!(reading.tables[0].rows.len(), cpus);
    for (cpu, cells) in reading.tables[0].rows.iter() {
        assert!(cells[0] as f64 <= most, "CPU {cpu:?}: {cells:?} of {most}");
    }
    assert_eq!(tally.schema.tables[0].labels[0].name, "cpu");
}

/// At 0 Hz there is nothing to attach.
#[test]
fn a_clock_needs_a_frequency() {
    let file = tally_of(
        "stopped",
        r#"
OPTION(__u32, hz, 0, "samples a second");
TABLE(kt_stopped, __u32, __u64, 1, "samples");
SEC("perf_event") ATTACH("cpu-clock@$hz")
int sample(void *ctx)
{
	return 0;
}
"#,
    );
    let error = why_not(&file);
    assert!(error.contains("`stopped`"), "{error}");
    assert!(error.contains("0 samples a second; write 1 to"), "{error}");
}

#[test]
fn a_target_names_only_options_that_there_are() {
    let file = tally_of(
        "misnamed",
        r#"
OPTION(__u32, rate, 7, "samples a second");
TABLE(kt_misnamed, __u32, __u64, 1, "samples");
SEC("perf_event") ATTACH("cpu-clock@$rates")
int sample(void *ctx)
{
	return 0;
}
"#,
    );
    let error = why_not(&file);
    assert_has(
        &error,
        &["`misnamed`", "`sample`", "`rates`", "did you mean `rate`?"],
    );
}

#[unsafe(no_mangle)]
#[inline(never)]
extern "C" fn ktally_test_probed(number: u64) -> u64 {
    std::hint::black_box(number) + 1
}

#[test]
fn a_uprobe_counts_calls_of_a_function() {
    let file = tally_of(
        "probe",
        r#"
typedef char text[256];
OPTION(text, path, "", "the file");
OPTION(text, function, "", "the function in it");
ARRAY_TABLE(kt_probe, __u64, 1, "calls");
SEC("uprobe") ATTACH("uprobe:$path:$function")
int called(void *ctx)
{
	__u32 key = 0;
	__u64 *calls;

	if (!mine())
		return 0;
	calls = tally_entry(kt_probe, &key);
	if (calls)
		__sync_fetch_and_add(calls, 1);
	return 0;
}
"#,
    );
    let tally = file.find().unwrap();
    let path = fs::read_link("/proc/self/exe").unwrap();
    let path = path.to_str().unwrap();
    let options = [("path", path), ("function", "ktally_test_probed")];
    let reading = count_work(&tally, &options, || {
        let end = (0..23).fold(0, |number, _| ktally_test_probed(number));
        assert_eq!(end, 23);
    });
    assert_eq!(only_row(&reading), [23]);

    // What is in a path is part of it, and no option.
    let folder = tempfile::tempdir().unwrap();
    let odd = folder.path().join("a:b $function");
    std::os::unix::fs::symlink(path, &odd).unwrap();
    let options = [
        ("path", odd.to_str().unwrap()),
        ("function", "ktally_test_probed"),
    ];
    let reading = count_work(&tally, &options, || {
        assert_eq!(ktally_test_probed(1), 2);
    });
    assert_eq!(only_row(&reading), [1]);

    let options = [("path", path), ("function", "ktally_no_such_function")];
    let error = start(&tally, &options).unwrap_err();
    let error = format!("{error:#}");
    for part in ["no function named `ktally_no_such_function`", path] {
        assert!(error.contains(part), "{error}");
    }
}

#[unsafe(no_mangle)]
#[inline(never)]
extern "C" fn ktally_test_summed(number: u64, other: u64) -> u64 {
    std::hint::black_box(number) * other
}

/// By their registers, with the types of `kernel.h` and with all of the
/// kernel's: an object has the types of the machine that compiles, so for the
/// other architecture it cannot have these.
#[test]
fn arguments_and_results_of_a_function_are_counted() {
    const PROGRAM: &str = r#"
typedef char text[256];
OPTION(text, path, "", "the file");
struct numbers { __u64 first COUNTER(""); __u64 second COUNTER(""); __u64 result COUNTER(""); };
ARRAY_TABLE(kt_summed, struct numbers, 1, "calls");
SEC("uprobe") ATTACH("uprobe:$path:ktally_test_summed")
int BPF_UPROBE(called, __u64 first, __u64 second)
{
	__u32 key = 0;
	struct numbers *numbers;

	if (!mine())
		return 0;
	numbers = tally_entry(kt_summed, &key);
	if (!numbers)
		return 0;
	__sync_fetch_and_add(&numbers->first, first);
	__sync_fetch_and_add(&numbers->second, PT_REGS_PARM2(ctx));
	return 0;
}
SEC("uretprobe") ATTACH("uretprobe:$path:ktally_test_summed")
int BPF_URETPROBE(returned, __u64 result)
{
	__u32 key = 0;
	struct numbers *numbers;

	if (!mine())
		return 0;
	numbers = tally_entry(kt_summed, &key);
	if (numbers)
		__sync_fetch_and_add(&numbers->result, result);
	return 0;
}
"#;
    const ALL_TYPES: &str = r#"
#if defined(__TARGET_ARCH_x86)
#include "vmlinux.h"
#endif
"#;
    let path = fs::read_link("/proc/self/exe").unwrap();
    for types in ["", ALL_TYPES] {
        let file = tally_of("summed", PROGRAM);
        let text = fs::read_to_string(file.path()).unwrap();
        fs::write(file.path(), types.to_owned() + &text).unwrap();
        let tally = file.find().unwrap();
        let options = [("path", path.to_str().unwrap())];
        let reading = count_work(&tally, &options, || {
            let sum: u64 = (0..23).map(|number| ktally_test_summed(number, 3)).sum();
            assert_eq!(sum, 759);
        });
        assert_eq!(only_row(&reading), [253, 69, 759], "{types}");
    }
}

// ---- files ------------------------------------------------------------------

#[test]
fn a_broken_c_file_gives_the_compilers_words() {
    let file = Source::file("broken.bpf.c", "#include \"ktally.bpf.h\"\n\nint x = y;\n");
    let error = format!("{:#}", file.find().unwrap_err());
    assert!(error.contains("broken.bpf.c:3:9: error:"), "{error}");
    assert!(error.contains("'y'"), "{error}");
}

/// A mistake in what a macro is given is where the macro is used.
#[test]
fn an_unknown_type_in_a_table_names_the_line() {
    let text = "\nTALLY(\"x\");\nTABLE(t, struct nothing, __u64, 1, \"x\");\n\
                int f(void)\n{\n\tstruct nothing k = {};\n\treturn 0;\n}\n";
    let file = Source::file(
        "untyped.bpf.c",
        "#include \"ktally.bpf.h\"".to_owned() + text,
    );
    let error = format!("{:#}", file.find().unwrap_err());
    assert!(error.contains("untyped.bpf.c:6:"), "{error}");
}

#[test]
fn a_missing_file_is_named() {
    for name in ["none.bpf.c", "none.bpf.o", "none"] {
        let path = format!("/no/such/folder/{name}");
        let error = Tally::find(path.as_ref()).unwrap_err();
        assert!(format!("{error:#}").contains(&path), "{error:#}");
    }
}

#[test]
fn what_is_no_object_is_an_error_that_names_the_file() {
    let garbage: Vec<u8> = (0..4096u32).map(|i| (i * 97 % 251) as u8).collect();
    let elf = [b"\x7fELF\x02\x01\x01".as_slice(), &garbage].concat();
    for contents in [&b""[..], b"\x7f", b"\x7fELF", &garbage, &elf] {
        let file = Source::file("garbage.bpf.o", contents);
        let error = format!("{:#}", file.find().unwrap_err());
        assert!(error.contains(file.path().to_str().unwrap()), "{error}");
    }
}

/// Cut anywhere: the table of sections is at the end, so none of them opens.
#[test]
fn a_truncated_object_is_an_error_that_names_the_file() {
    let path = PathBuf::from(env!("OUT_DIR")).join("failures.bpf.o");
    let object = fs::read(path).unwrap();
    let whole = Source::file("failures.bpf.o", &object);
    assert_eq!(whole.find().unwrap().name, "failures");
    let steps = (0..object.len()).step_by(97);
    for length in steps.chain(object.len() - 70..object.len()) {
        let file = Source::file("cut.bpf.o", &object[..length]);
        let error = file.find().expect_err(&format!("{length} bytes"));
        let error = format!("{error:#}");
        assert!(error.contains(file.path().to_str().unwrap()), "{error}");
    }
}

// ---- limits -----------------------------------------------------------------

#[test]
fn a_tally_without_tables_is_refused() {
    let file = tally_of(
        "tableless",
        r#"
SEC("tp_btf/sys_enter")
int BPF_PROG(enter)
{
	return 0;
}
"#,
    );
    let error = why_not(&file);
    assert!(error.contains("`tableless` has no tables"), "{error}");
}

/// Ids of the kernel's programs and maps of these names.
fn ids(program: &str, map: &str) -> Objects {
    Objects {
        programs: programs_called(program),
        maps: maps_called(map).iter().map(|map| map.id).collect(),
    }
}

#[test]
fn tables_that_no_kernel_holds_are_refused_and_nothing_stays() {
    let file = tally_of("endless", &count_parents("kt_endless"));
    let tally = file.find().unwrap();
    let error = Session::start(&tally, &[], Some(u32::MAX)).unwrap_err();
    let error = format!("{error:#}");
    assert!(error.contains("`endless`"), "{error}");
    assert!(error.contains("--max-rows"), "{error}");
    wait_until("nothing stays", || {
        ids("enter_kt_endless", "kt_endless") == Objects::default()
    });
}

#[test]
fn max_rows_resizes_tables() {
    let file = tally_of("resized", &count_parents("kt_resized"));
    let tally = file.find().unwrap();
    let _session = Session::start(&tally, &[], Some(4321)).unwrap();
    let maps = maps_called("kt_resized");
    assert_eq!(maps[0].max_entries, 4321);
}

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
	__u64 *calls;

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
	calls = tally_entry(kt_options, &key);
	if (calls)
		__sync_fetch_and_add(calls, 1);
	return 0;
}
"#;

/// What the program saw, by option.
fn seen(tally: &Tally, options: &[(&str, &str)]) -> BTreeMap<String, Json> {
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
    let text = |text: &str| json!(text);
    let expect = |values: [Json; 10]| -> BTreeMap<String, Json> {
        let names = [
            "small",
            "below",
            "on",
            "colour",
            "plain",
            "longer_than",
            "least",
            "word",
            "uid",
            "uid_given",
        ];
        names.map(str::to_owned).into_iter().zip(values).collect()
    };
    let defaults = expect([
        json!(7),
        json!(-300),
        json!(true),
        text("RED"),
        text("SOME"),
        json!(1500),
        json!(-1),
        text("default"),
        json!(0),
        json!(false),
    ]);
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
    let given = expect([
        json!(255),
        json!(-32768),
        json!(false),
        text("GREEN"),
        text("NONE"),
        json!(10_000_000),
        json!(i64::MIN),
        text("eleven byte"),
        json!(4_294_967_294_u32),
        json!(true),
    ]);
    assert_eq!(seen(&tally, &options), given);

    // Root's id is zero, as is no id at all: the flag tells.
    let root = seen(&tally, &[("uid", "0"), ("word", "")]);
    assert_eq!(root["uid_given"], json!(true));
    assert_eq!(root["uid"], json!(0));
    assert_eq!(root["word"], text(""));

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
    let int = |signed| Kind::Int { signed };
    // Name, size, width in bits, kind of type, decoder.
    let hex = || Some(Decoder::from_tag("hex"));
    let expected = [
        ("u8", 1, 8, Some(int(false)), None),
        ("s8", 1, 8, Some(int(true)), None),
        ("u16", 2, 16, Some(int(false)), None),
        ("s16", 2, 16, Some(int(true)), None),
        ("u32", 4, 32, Some(int(false)), None),
        ("s32", 4, 32, Some(int(true)), None),
        ("u64", 8, 64, Some(int(false)), None),
        ("s64", 8, 64, Some(int(true)), None),
        ("u128", 16, 128, Some(int(false)), None),
        ("flag", 1, 8, Some(Kind::Bool), None),
        ("letter", 1, 8, Some(Kind::Char), None),
        ("comm", 16, 128, None, Some(Decoder::from_tag("comm"))),
        ("state", 4, 32, None, None),
        ("sign", 4, 32, None, None),
        ("wide", 8, 64, None, None),
        ("pointer", 8, 64, Some(Kind::Pointer), None),
        (
            "pid",
            4,
            32,
            Some(int(true)),
            Some(Decoder::from_tag("pid")),
        ),
        (
            "call",
            4,
            32,
            Some(int(false)),
            Some(Decoder::from_tag("syscall")),
        ),
        (
            "reason",
            4,
            32,
            Some(int(false)),
            Some(Decoder::from_tag("enum:skb_drop_reason")),
        ),
        ("inner.deep", 1, 8, Some(int(true)), None),
        ("inner.more.deeper", 1, 8, Some(int(false)), None),
        ("end.port", 2, 16, Some(int(false)), None),
        ("both", 4, 32, None, None),
        ("unnamed", 4, 32, Some(int(false)), None),
        ("low", 4, 3, Some(int(false)), None),
        ("mid", 4, 5, Some(int(true)), None),
        ("high", 8, 40, Some(int(false)), None),
        ("address", 4, 32, None, hex()),
        ("matrix", 12, 96, None, None),
    ];
    let names: Vec<&str> = table.labels.iter().map(|it| &*it.name).collect();
    assert_eq!(names, expected.each_ref().map(|row| row.0));
    for (label, (name, size, width, kind, decoder)) in table.labels.iter().zip(expected) {
        assert_eq!(label.place.ty.size, size, "{name}");
        assert_eq!(label.place.width(), width, "{name}");
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
    let text = |text: &str| json!(text);
    assert_eq!(decode("state", 5), text("BUSY"));
    assert_eq!(decode("state", 6), json!(6));
    assert_eq!(decode("sign", 0xffff_ffff), text("MINUS"));
    assert_eq!(decode("wide", 1), text("WIDE_ONE"));
    assert_eq!(decode("low", 0xff), json!(7));
    assert_eq!(decode("mid", 0x1f), json!(-1));
    assert_eq!(decode("high", (1 << 40) - 1), json!((1u64 << 40) - 1));
    assert_eq!(
        decode("both", 0x0403_0201),
        json!({"word": 0x0403_0201, "bytes": [1, 2, 3, 4]})
    );
    assert_eq!(
        decode("matrix", 0x0004_0003_0002_0001),
        json!([[1, 2, 3], [4, 0, 0]])
    );
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

// ---- ends -------------------------------------------------------------------

/// Calls `getppid` on another CPU until it is dropped.
struct Spinner<'a> {
    stop: &'a AtomicBool,
    tid: String,
}

impl<'a> Spinner<'a> {
    fn start<'s>(scope: &'s std::thread::Scope<'s, '_>, stop: &'a AtomicBool) -> Self
    where
        'a: 's,
    {
        let (send, receive) = mpsc::channel();
        scope.spawn(move || {
            // SAFETY: an all-zero set is empty, and the calls only read and
            // write it.
            unsafe {
                let mut cpus: libc::cpu_set_t = std::mem::zeroed();
                libc::CPU_SET(ktally::host::cpus() - 1, &mut cpus);
                libc::sched_setaffinity(0, size_of_val(&cpus), &raw const cpus);
            }
            send.send(tid()).unwrap();
            while !stop.load(Ordering::Relaxed) {
                ask_for_parent(100);
            }
        });
        let tid = receive.recv().unwrap();
        Self { stop, tid }
    }
}

impl Drop for Spinner<'_> {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
    }
}

#[test]
fn what_is_read_after_detaching_is_final() {
    let file = tally_of("ending", &count_parents("kt_ending"));
    let tally = file.find().unwrap();
    let stop = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let spinner = Spinner::start(scope, &stop);
        for _ in 0..10 {
            let mut session = start(&tally, &[("tid", &spinner.tid)]).unwrap();
            let calls = |session: &Session| {
                let reading = session.read().unwrap();
                let rows = &reading.tables[0].rows;
                rows.iter().map(|(_, cells)| cells[0]).sum::<u64>()
            };
            wait_until("it counts", || calls(&session) > 0);
            session.detach();
            let (first, elapsed) = (calls(&session), session.elapsed());
            std::thread::sleep(Duration::from_millis(20));
            assert_eq!(calls(&session), first);
            assert_eq!(session.elapsed(), elapsed);
        }
    });
}

#[test]
fn a_dropped_session_leaves_nothing_in_the_kernel() {
    let file = tally_of("passing", &count_parents("kt_gone"));
    let tally = file.find().unwrap();
    let session = start(&tally, &[]).unwrap();
    let mut objects = ids("enter_kt_gone", "kt_gone");
    assert_eq!((objects.programs.len(), objects.maps.len()), (1, 1));
    // Also those that libbpf makes of the object's sections.
    objects
        .maps
        .extend(maps_called("passing.").iter().map(|map| map.id));
    assert!(objects.maps.len() > 1);
    drop(session);
    // The kernel frees them a while later; other tests may look at them.
    objects.wait_until_gone();
}

// ---- histograms -------------------------------------------------------------

#[test]
fn a_panic_leaves_nothing_in_the_kernel() {
    let file = tally_of("panicking", &count_parents("kt_panic"));
    let tally = file.find().unwrap();
    let panicked = std::panic::catch_unwind(|| {
        let _session = start(&tally, &[]).unwrap();
        let objects = ids("enter_kt_panic", "kt_panic");
        assert_eq!((objects.programs.len(), objects.maps.len()), (1, 1));
        std::panic::resume_unwind(Box::new(objects));
    });
    let objects = panicked.unwrap_err().downcast::<Objects>().unwrap();
    objects.wait_until_gone();
}

#[test]
fn each_number_is_in_the_bucket_of_the_next_power_of_two() {
    let program = r#"
struct row {
	struct tally_histogram numbers HISTOGRAM("arguments");
};
TABLE(kt_edges, __u64, struct row, 256, "a row a number");
SEC("tp_btf/sys_enter")
int BPF_PROG(enter, struct pt_regs *regs, long id)
{
	__u64 number;
	struct row *row;

	if (!mine() || id != NR_getpriority)
		return 0;
	number = argument(regs);
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
        assert!(number <= Histogram::edge(bucket), "{number}");
        assert!(bucket == 0 || number > Histogram::edge(bucket - 1));
    }
}
