//! Objects of others: C files without ktally's headers and tags. Each file of
//! `tests/objects/` says in its first lines how it is run and what is to be seen of 23
//! events.

use std::net::UdpSocket;

use serde_json::Value;

use crate::common::{assert_has, items};
use crate::instances::Host;
use crate::run::Run;
use crate::support::{Child, Source, cases, event, kernel_series};

const PROLOGUE: &str = include_str!("../objects/prologue.h");

macro_rules! fixtures {
    ($($name:ident)*) => {
        [$((stringify!($name), include_str!(concat!("../objects/", stringify!($name), ".bpf.c")))),*]
    };
}

const FIXTURES: [(&str, &str); 54] = fixtures!(
    all_programs alternatives array array_of_variables bits bucket_in_key comm_of_bytes
    decoded_key enum_key full_types function_pointer hash initialised_variable kernel_config
    lru_hash lru_percpu_hash map_of_maps missing_event nested_slots nested_value no_size no_types
    nothing_to_count other_kinds own_section pairs percpu_array percpu_hash perf_buffer pinned
    rates refused_program ring same_names section_of_variables settings several_numbers several_on_one_hook
    signed_numbers slots slots_alone slots_in_variables slots_when_told stacks
    struct_key subprograms target_of_btf target_told text_in_value union_key variable
    variables_and_maps warnings wide_slots
);

/// What a fixture says about itself: `// what: text`.
fn said<'t>(text: &'t str, what: &str) -> impl Iterator<Item = &'t str> {
    let start = format!("// {what}: ");
    let lines = text.lines().take_while(|line| line.starts_with("// "));
    lines.filter_map(move |line| line.strip_prefix(&start))
}

fn source(name: &str, text: &str) -> Source {
    Source::file(&format!("{name}.bpf.c"), [PROLOGUE, text].concat())
}

/// A table of a reading.
fn table<'r>(reading: &'r Value, name: &str) -> &'r Value {
    let mut tables = items(&reading["tables"]).iter();
    let found = tables.find(|table| table["name"] == name);
    found.unwrap_or_else(|| panic!("no table `{name}`: {reading}"))
}

/// The sum of a column; of a histogram, how many it holds.
fn sum(table: &Value, column: &str) -> i64 {
    let rows = items(&table["rows"]).iter();
    let numbers = rows.map(|row| match &row[column] {
        Value::Object(histogram) => histogram["count"].as_i64(),
        number => number.as_i64(),
    });
    let numbers = numbers.map(|it| it.unwrap_or_else(|| panic!("no `{column}`: {table}")));
    numbers.sum()
}

/// The first row that has this field.
fn check(name: &str, text: &str, reading: &Value) {
    let words = |what| said(text, what).map(|line| line.split(' ').collect::<Vec<_>>());
    for line in words("shows") {
        let found = sum(table(reading, line[0]), line[1]);
        assert_eq!(found.to_string(), line[2], "{name}: {line:?}: {reading}");
    }
    for line in words("rows") {
        let rows = items(&table(reading, line[0])["rows"]).len();
        assert_eq!(rows.to_string(), line[1], "{name}: {reading}");
    }
    for line in words("field") {
        let field = &table(reading, line[0])["rows"][0][line[1]];
        assert_eq!(*field, line[2], "{name}: {reading}");
    }
    for line in words("bucket") {
        let mut rows = items(&table(reading, line[0])["rows"]).iter();
        let wanted: [u64; 2] = [line[2].parse().unwrap(), line[3].parse().unwrap()];
        let has = |row: &Value| items(&row[line[1]]["buckets"]).contains(&wanted.into());
        assert!(rows.any(has), "{name}: {line:?}: {reading}");
    }
    for line in words("columns") {
        let row = table(reading, line[0])["rows"][0].as_object();
        let columns: Vec<&String> = row.unwrap().keys().collect();
        assert_eq!(columns, line[1..], "{name}: {reading}");
    }
    for line in words("tables") {
        let tables = items(&reading["tables"]).iter();
        let tables: Vec<&Value> = tables.map(|table| &table["name"]).collect();
        assert_eq!(tables, line, "{name}: {reading}");
    }
    for table in items(&reading["tables"]) {
        assert_eq!(table["dropped"], Value::Null, "{name}");
    }
}

#[test]
fn objects_of_others_count_every_event() {
    for (name, text) in cases(FIXTURES, 3) {
        let child = Child::new("kt-object", || (0..23).for_each(event));
        let source = source(name, text);
        let path = source.arg();
        let setting = format!("targ_pid={}", child.pid());
        let mut args = vec![&*path, "--set", &setting, "-o", "json"];
        args.extend(said(text, "run").flat_map(|line| line.split(' ')));
        println!("{name}");
        let mut run = Run::counting(args);
        child.work();
        let ended = run.stop();
        let reading = serde_json::from_str(&ended.stdout);
        let reading = reading.unwrap_or_else(|error| panic!("{name}: {error}: {ended:?}"));
        check(name, text, &reading);
        let words: Vec<&str> = said(text, "says").collect();
        assert_has(&ended.stderr, &words);
    }
}

/// An instance of such an object is read without it.
#[test]
fn objects_of_others_are_attached_and_read() {
    let host = Host::new();
    let (name, text) = FIXTURES.into_iter().find(|it| it.0 == "slots").unwrap();
    let source = source(name, text);
    let child = Child::new("kt-object", || (0..23).for_each(event));
    let line = format!(
        "attach {} --set targ_pid={} --as other",
        source.arg(),
        child.pid()
    );
    host.good(&*line);
    child.work();
    check(name, text, &host.json("read other -o json"));
    let told = host.json("read other -o json --as key=hex");
    assert_eq!(told["tables"][0]["rows"][0]["hex"], "0x1", "{told}");
    check(name, text, &host.json("detach other -o json"));
}

/// As others keep the name of a process beside its numbers.
#[test]
fn text_in_values_is_a_column() {
    let host = Host::new();
    let (name, text) = FIXTURES
        .into_iter()
        .find(|it| it.0 == "text_in_value")
        .unwrap();
    let source = source(name, text);
    let child = Child::new("kt-object", || (0..23).for_each(event));
    let pid = child.pid();
    let line = format!("attach {} --set targ_pid={pid} --as text", source.arg());
    host.good(&*line);
    child.work();
    let read = host.good("read text -o csv");
    let wanted = ["\"key\",\"hits\",\"comm\"\n", ",1,23,\"kt-object\"\n"];
    assert_has(&read.stdout, &wanted);
    host.good("detach text");
}

/// A live map shows slots and stacks in the same way.
#[test]
fn maps_of_others_are_shown_by_what_is_told() {
    let host = Host::new();
    let find = |wanted| FIXTURES.into_iter().find(|it| it.0 == wanted).unwrap();
    for (name, told, words) in [
        ("slots_when_told", "latency=log2", "\"buckets\":[[7,23]]"),
        ("decoded_key", "nr=syscall", "\"nr\":\"getpriority\""),
        ("comm_of_bytes", "comm=comm", "\"comm\":\"kt-object\""),
        ("hash", "value=hex", "\"value\":\"0x17\""),
    ] {
        let source = source(name, find(name).1);
        let child = Child::new("kt-object", || (0..23).for_each(event));
        host.good(&*format!(
            "attach {} --set targ_pid={} --as m",
            source.arg(),
            child.pid()
        ));
        child.work();
        let map = if name == "slots_when_told" {
            "hists"
        } else {
            "calls"
        };
        let dump = format!("map dump /sys/fs/bpf/ktally/m/maps/{map} -o jsonl --as {told}");
        assert_has(&host.good(&*dump).stdout, &[words]);
        host.good("detach m");
    }
}

/// Packets of the loopback device, by programs that name no interface.
#[test]
fn packets_are_counted_where_the_user_says() {
    const PACKETS: &str = "
long packets;
const volatile __u16 port = 0;
static __always_inline void count(void *data, void *data_end)
{
	/* Ethernet, IPv4 without options, UDP. */
	__u8 *bytes = data;

	if (data + 14 + 20 + 8 > data_end || bytes[12] != 8 || bytes[23] != 17)
		return;
	if ((bytes[36] << 8 | bytes[37]) == port)
		__sync_fetch_and_add(&packets, 1);
}
";
    let xdp = "SEC(\"xdp\") int p(struct xdp_md *ctx) { count((void *)(long)ctx->data, (void *)(long)ctx->data_end); return XDP_PASS; }";
    let tcx = "SEC(\"tc\") int p(struct __sk_buff *ctx) { count((void *)(long)ctx->data, (void *)(long)ctx->data_end); return -1; }";
    let kinds = [(xdp, "p=xdp:lo", (5, 9)), (tcx, "p=tcx:lo:ingress", (6, 6))];
    for (program, target, since) in kinds {
        if kernel_series() < since {
            continue;
        }
        let receiver = UdpSocket::bind("127.0.0.1:0").unwrap();
        let address = receiver.local_addr().unwrap();
        let source = source("packets", &[PACKETS, program].concat());
        let (path, setting) = (source.arg(), format!("port={}", address.port()));
        let args = [&*path, "--set", &setting, "--attach", target, "-o", "json"];
        let mut run = Run::counting(args);
        let sender = UdpSocket::bind("127.0.0.1:0").unwrap();
        for _ in 0..23 {
            sender.send_to(b"x", address).unwrap();
        }
        let reading = run.stop().json();
        assert_eq!(sum(table(&reading, ".bss"), "packets"), 23, "{reading}");
    }
}

/// What the verifier and clang say is explained, with what this kernel has instead.
#[test]
fn errors_teach() {
    let host = Host::new();
    for (program, args, words) in [
        (
            "SEC(\"tp_btf/sched_switch\") int p(__u64 *ctx) { return *(int *)ctx[0]; }",
            "",
            &[
                "a number is used as a pointer",
                "BPF_PROG(p, bool preempt, struct task_struct *prev",
            ][..],
        ),
        (
            "MAP(m, HASH, __u32, __u64, 8); EVENT(p) { __u32 k = 0; return *(__u64 *)bpf_map_lookup_elem(&m, &k); }",
            "",
            &["the pointer may be NULL", "call bpf_map_lookup_elem#1"],
        ),
        (
            "EVENT(p) { __u64 a[4] = {}; return a[bpf_get_prandom_u32()]; }",
            "",
            &["compare it with a constant first"],
        ),
        (
            "SEC(\"raw_tp/sched_swich\") int p(void *ctx) { return 0; }",
            "",
            &["no tracepoint `sched_swich`; did you mean `sched_switch`"],
        ),
        (
            "EVENT(p) { return 0; }",
            "--cflags=-g0",
            &["has no BTF", "compile it with -g"],
        ),
        (
            "EVENT(p) { return ((struct task_struct *)ctx)->no_such; }",
            "-DFULL_TYPES",
            &["no member named 'no_such'", "flavour"],
        ),
    ] {
        let source = source("lesson", program);
        let line = format!("run {} --for 0 {args}", source.arg());
        host.ktally(line.trim_end()).failed(1, words);
    }
}

/// What cannot be run is refused with the reason and the way out.
#[test]
fn what_cannot_count_says_why() {
    let host = Host::new();
    let hits = "long hits;\n";
    let xdp = "SEC(\"xdp\") int p(void *ctx) { return XDP_PASS; }";
    let good = "EVENT(p) { __sync_fetch_and_add(&hits, 1); return 0; }";
    let old = "struct { int type, key_size, value_size, max_entries; } old SEC(\"maps\") = { 1, 4, 8, 8 };";
    let endless = "EVENT(p) { while (*(volatile long *)&hits >= 0) hits = 1; return 0; }";
    for (program, args, words) in [
        ("", "", "no program that counts by itself"),
        (xdp, "", "run with --attach p=xdp:INTERFACE"),
        (
            xdp,
            "--attach p=xdp:no-such0",
            "no network interface `no-such0`",
        ),
        (xdp, "--attach q=xdp:lo", "no program named `q`"),
        (
            "SEC(\"mine\") int p(void *ctx) { return 0; }",
            "",
            "run with --attach p=",
        ),
        (
            "SEC(\"raw_tp/nonesuch\") int p(void *ctx) { return 0; }",
            "",
            "no tracepoint `nonesuch`",
        ),
        (good, "--set step=1", "no option named `step`"),
        (
            good,
            "--set targ_pid=99999999999",
            "for `--set targ_pid`: 99999999999 is out of range",
        ),
        (good, "--tables hits", "no table named `hits`"),
        (
            good,
            "--as hit=hex",
            "no field named `hit`; did you mean `hits`",
        ),
        (
            good,
            "--as hits=log2",
            "a log2 histogram is an array of 8 to 64 integers",
        ),
        (good, "--rate=hit", "no field named `hit`"),
        (old, "", "legacy map definitions"),
        (endless, "", "the verifier refused program `p`"),
        (
            "SEC(\"raw_tp/sys_enter\") int p(void *ctx) { return 0 }",
            "",
            "expected ';'",
        ),
    ] {
        let source = source("bad", &[hits, program].concat());
        let line = format!("run {} --for 0 {args}", source.arg());
        let ended = host.ktally(line.trim_end()).told(&[words]);
        assert!(matches!(ended.code, 1 | 2), "{ended:?}");
    }
}
