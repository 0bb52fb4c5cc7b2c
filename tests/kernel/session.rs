//! What a session does with tallies of the test's own: how programs attach, how
//! they end, and what is refused. Every program counts only the thread of its
//! test, so that tests beside it change nothing.

use std::fs;
use std::path::PathBuf;
use std::sync::mpsc;
use std::time::{Duration, Instant};

use anyhow::Result;
use ktally::snapshot::Reading;
use ktally::tally::{Session, Tally, fentry_fact};
use nix::sched::{CpuSet, sched_setaffinity};
use nix::unistd::{Pid, gettid};

use crate::common::assert_has;
use crate::objects::{Objects, maps_called, programs_called};
use crate::support::{
    CALLS, Source, ask_for_parent, beside, kernel_series, options_of, require_root, spin,
    wait_until,
};

/// A C file `NAME.bpf.c` with what the tests' programs share: `mine()` is whether
/// the thread of the option `tid` is running, `argument(regs)` a call's first
/// argument, and `add_one` counts in a table of numbers.
pub fn tally_of(name: &str, program: &str) -> Source {
    require_root();
    let prelude = r#"#include "ktally.bpf.h"
TALLY("a test's own");
OPTION(pid_t, tid, 0, "count only this thread");
#define mine() ((pid_t)bpf_get_current_pid_tgid() == tid)
#define add_one(table, key)                            \
	({                                             \
		__u64 *row_ = tally_entry(table, key); \
		if (row_)                              \
			__sync_fetch_and_add(row_, 1); \
	})
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

	if (mine() && id == NR_getppid)
		add_one({table}, &key);
	return 0;
}}
"#
    )
}

pub fn start(tally: &Tally, options: &[(&str, &str)]) -> Result<Session> {
    Session::start(tally, &options_of(tally, options)?, None)
}

/// The final reading of this thread's `work`.
pub fn count_work(tally: &Tally, options: &[(&str, &str)], work: impl FnOnce()) -> Reading {
    let tid = gettid().to_string();
    let options = [options, &[("tid", &tid)]].concat();
    let mut session = start(tally, &options).unwrap();
    work();
    session.detach();
    session.read().unwrap()
}

/// Of the first table, all cells of the only row.
pub fn only_row(reading: &Reading) -> &[u64] {
    let rows = &reading.tables[0].rows;
    assert_eq!(rows.len(), 1);
    rows.cells(0)
}

// ---- attaching --------------------------------------------------------------

const ABSENT: &str = "int BPF_PROG(absent) { return 0; }";

#[test]
fn without_an_optional_program_it_goes_on_and_says_so() {
    let absent = format!("SEC(\"tp_btf/no_such_event\") OPTIONAL {ABSENT}");
    let file = tally_of("lacking", &(count_parents("kt_lacking") + &absent));
    let (tally, tid) = (file.find().unwrap(), gettid().to_string());
    let mut session = start(&tally, &[("tid", &tid)]).unwrap();
    let [warning] = session.warnings() else {
        panic!("one warning: {:?}", session.warnings());
    };
    assert_has(warning, &["`absent`", "no_such_event"]);
    ask_for_parent(23);
    session.detach();
    assert_eq!(only_row(&session.read().unwrap()), [23]);
}

#[test]
fn without_a_program_that_it_needs_it_does_not_start() {
    let absent = format!("SEC(\"tp_btf/no_such_event\") {ABSENT}");
    let file = tally_of("needing", &(count_parents("kt_needing") + &absent));
    assert_has(&why_not(&file), &["`needing`", "no_such_event"]);
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
	__u64 *row = bpf_map_lookup_elem(&kt_refused, &key);

	*row = 1;
	return 0;
}
"#;
    let error = refused("unchecked", program);
    let (first, rest) = error.split_once('\n').unwrap();
    let refused = "verifier refused program";
    assert_has(first, &["`unchecked`", refused, "map_value_or_null"]);
    assert_has(rest, &["*row = 1;"]);
    // Younger kernels say in which file, too.
    let names_file = kernel_series() >= (6, 9);
    assert_eq!(rest.contains("unchecked.bpf.c:"), names_file, "{error}");
    assert!(!error.contains("lockdown"), "{error}");
}

/// An error says what ktally knows of the kernel, rather than what errno says.
#[test]
fn what_the_kernel_lacks_is_told_when_attaching_fails() {
    let has_no_fentry = fentry_fact().fix.is_some();
    assert!(!cfg!(target_arch = "aarch64") || has_no_fentry == (kernel_series() < (6, 4)));
    let has_no_kprobes = !ktally::host::has_kprobes();
    for (section, lacks, words) in [
        // tracefs may be mounted at any time.
        (
            "tracepoint/no/event",
            true,
            ["no tracepoint", "mount -t tracefs"],
        ),
        ("kprobe/do_exit", has_no_kprobes, ["no kprobes"; 2]),
        ("fentry/vfs_read", has_no_fentry, ["refuses fentry"; 2]),
        ("fentry/no_such", true, ["no function `no_such`"; 2]),
    ] {
        if !lacks {
            continue;
        }
        let program = format!("SEC(\"{section}\") int probe(void *ctx) {{ return 0; }}");
        let error = refused("lacking", &program);
        assert!(error.contains("`lacking`"), "{section}: {error}");
        let is_said = words.iter().any(|word| error.contains(word));
        assert!(is_said, "{section}: {error}");
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

	add_one(kt_clock, &cpu);
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
        spin(Duration::from_millis(20));
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

/// A tally of a clock that is refused: its option, and what it attaches to.
fn refused_clock(name: &str, option: &str, target: &str) -> String {
    let program = format!(
        "OPTION(__u32, {option}, \"samples a second\");\n\
         SEC(\"perf_event\") ATTACH(\"{target}\") int sample(void *ctx) {{ return 0; }}"
    );
    refused(name, &program)
}

/// At 0 Hz there is nothing to attach.
#[test]
fn a_clock_needs_a_frequency() {
    let error = refused_clock("stopped", "hz, 0", "cpu-clock@$hz");
    assert_has(&error, &["`stopped`", "0 samples a second; write 1 to"]);
}

#[test]
fn a_target_names_only_options_that_there_are() {
    let error = refused_clock("misnamed", "rate, 7", "cpu-clock@$rates");
    let words = ["`misnamed`", "`sample`", "`rates`", "did you mean `rate`?"];
    assert_has(&error, &words);
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

	if (mine())
		add_one(kt_probe, &key);
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
    let odd = odd.to_str().unwrap();
    let options = [("path", odd), ("function", "ktally_test_probed")];
    let reading = count_work(&tally, &options, || {
        assert_eq!(ktally_test_probed(1), 2);
    });
    assert_eq!(only_row(&reading), [1]);

    let options = [("path", path), ("function", "ktally_no_such_function")];
    let error = format!("{:#}", start(&tally, &options).unwrap_err());
    assert_has(
        &error,
        &["no function named `ktally_no_such_function`", path],
    );
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
static __always_inline struct numbers *own_row(void)
{
	__u32 key = 0;

	return mine() ? tally_entry(kt_summed, &key) : NULL;
}
SEC("uprobe") ATTACH("uprobe:$path:ktally_test_summed")
int BPF_UPROBE(called, __u64 first, __u64 second)
{
	struct numbers *numbers = own_row();

	if (!numbers)
		return 0;
	__sync_fetch_and_add(&numbers->first, first);
	__sync_fetch_and_add(&numbers->second, PT_REGS_PARM2(ctx));
	return 0;
}
SEC("uretprobe") ATTACH("uretprobe:$path:ktally_test_summed")
int BPF_URETPROBE(returned, __u64 result)
{
	struct numbers *numbers = own_row();

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
    assert_has(&error, &["broken.bpf.c:3:9: error:", "'y'"]);
}

/// A mistake in what a macro is given is where the macro is used.
#[test]
fn an_unknown_type_in_a_table_names_the_line() {
    let text = "#include \"ktally.bpf.h\"\nTALLY(\"x\");\nTABLE(t, struct nothing, __u64, 1, \"x\");\n\
                int f(void)\n{\n\tstruct nothing k = {};\n\treturn 0;\n}\n";
    let file = Source::file("untyped.bpf.c", text);
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
    assert_has(&error, &["`endless`", "--max-rows"]);
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

// ---- ends -------------------------------------------------------------------

#[test]
fn what_is_read_after_detaching_is_final() {
    let file = tally_of("ending", &count_parents("kt_ending"));
    let tally = file.find().unwrap();
    let (send, receive) = mpsc::channel();
    // On another CPU, as long as this test runs.
    let call = move || {
        let mut last = CpuSet::new();
        last.set(ktally::host::cpus() - 1).unwrap();
        let _ = sched_setaffinity(Pid::from_raw(0), &last);
        // Only the first is received.
        let _ = send.send(gettid().to_string());
        ask_for_parent(100);
    };
    beside(call, || {
        let tid = receive.recv().unwrap();
        for _ in 0..10 {
            let mut session = start(&tally, &[("tid", &tid)]).unwrap();
            let calls = |session: &Session| {
                let reading = session.read().unwrap();
                let rows = &reading.tables[0].rows;
                rows.iter().map(|(_, cells)| cells[0]).sum::<u64>()
            };
            wait_until("it counts", || calls(&session) > 0);
            session.detach();
            let seconds = || session.read().unwrap().seconds;
            let first = (calls(&session), seconds());
            std::thread::sleep(Duration::from_millis(20));
            assert_eq!((calls(&session), seconds()), first);
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
