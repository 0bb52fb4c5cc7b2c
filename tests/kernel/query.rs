//! Which rows are shown, in which order, and as totals or rates.

use serde_json::Value;

use crate::common::{assert_has, json_lines, program, rows};
use crate::instances::Host;
use crate::run::{Run, rows_of};
use crate::support::{Child, Source, event};

/// Each error has a time and an address of its own.
const TALLY: &str = r#"
TALLY("errors of a host");
struct key {
	__u32 error AS(errno) IDLE(EAGAIN, 4000);
	__u32 address AS(ipv4);
};
struct seen {
	__u64 calls COUNTER("");
	__u64 time COUNTER("") UNIT(ns);
	struct tally_histogram latency HISTOGRAM("") UNIT(ns);
};
TABLE(errors, struct key, struct seen, 10, "") SORT_BY(time);
EVENT(enter, number)
{
	__u32 host = number == 2 ? 0x0a000002 : number == 11 ? 0x0a01000b : 0xc000020d;
	__u64 time = number == 2 ? 100 : number == 11 ? 1000000 : 1000;
	struct key key = {.error = number, .address = __builtin_bswap32(host)};
	struct seen *seen = tally_entry(errors, &key);

	__sync_fetch_and_add(&seen->calls, 1);
	__sync_fetch_and_add(&seen->time, time);
	tally_observe(&seen->latency, time);
}
"#;

/// Flags and the errors that are shown, in this order: 23 times ENOENT of 10.0.0.2 and 100
/// ns, 37 times EAGAIN of 10.1.0.11 and 1 ms, 5 times EACCES of 192.0.2.13 and 1 us.
const SHOWN: &str = "
--total => EACCES ENOENT EAGAIN
--sort time => EAGAIN EACCES ENOENT
-s -time => ENOENT EACCES EAGAIN
--sort=-calls => EACCES ENOENT EAGAIN
-s error => EACCES EAGAIN ENOENT
-s -error => ENOENT EAGAIN EACCES
-s -p99 -n 1 => ENOENT
-s calls --top 2 => EAGAIN ENOENT
--where error=ENOENT,13 => EACCES ENOENT
--where error!=EAGAIN => EACCES ENOENT
--where error!=EAGAIN,2 => EACCES
--where error~EA* => EACCES EAGAIN
--where error~?NOENT,E*S => EACCES ENOENT
--where error!~EA* => ENOENT
--where error<13 => ENOENT EAGAIN
--where error<=EAGAIN => ENOENT EAGAIN
--where error>EAGAIN => EACCES
--where error>=0xb => EACCES EAGAIN
--where calls=23,37 => ENOENT EAGAIN
--where calls!=37 => EACCES ENOENT
--where calls>23 => EAGAIN
--where calls>=23 => ENOENT EAGAIN
--where calls<=5 => EACCES
--where time<5us => ENOENT
--where time>=37ms => EAGAIN
--where time=5000 => EACCES
--where p99>2us => EAGAIN
--where latency.count<23 => EACCES
--where address=10.0.0.0/8 => ENOENT EAGAIN
--where address=10.0.0.0/16,192.0.2.13 => EACCES ENOENT
--where address!=10.0.0.0/8 => EACCES
--where address~10.1.* => EAGAIN
--where error!=EAGAIN --where calls>5 => ENOENT
--where calls>40 => -
--by address --where error!=EACCES --where calls<30 => 10.0.0.2";

#[test]
fn conditions_and_orders_of_what_was_counted() {
    let (source, host) = (Source::new(TALLY), Host::new());
    let child = Child::new("kt-query", || {
        for (number, times) in [(2, 23), (11, 37), (13, 5)] {
            (0..times).for_each(|_| event(number));
        }
    });
    host.good(["attach", &source.arg(), "--as", "x", "--pid", &child.pid()]);
    child.work();
    for (flags, wanted) in rows(SHOWN) {
        let reading = host.json(format!("read x -o json {flags}").as_str());
        let wanted = wanted[0].trim_start_matches('-').split_whitespace();
        let rows = rows_of(&reading).iter();
        let name = |row: &Value| row.get("error").unwrap_or(&row["address"]).clone();
        let shown: Vec<Value> = rows.map(name).collect();
        assert_eq!(shown, wanted.collect::<Vec<_>>(), "{flags}");
    }
    // The footer counts rows that --top left out, and no others.
    for (flags, footer) in [
        ("--top 2", "2 of 3 rows; "),
        ("--where calls>5", "2 rows; "),
        ("--by address --where error!=13 --top 1", "1 of 2 rows; "),
    ] {
        let shown = host.good(format!("read x --total {flags}").as_str()).stdout;
        assert_has(&shown, &[&format!("\n{footer}")]);
    }
    // The map itself, where the kernel keeps no tags: by numbers.
    let map = "map dump /sys/fs/bpf/ktally/x/maps/errors -o jsonl";
    for (flags, calls) in [
        ("--where error=2,13", &[5, 23][..]),
        ("--where error!=2", &[5, 37]),
        ("--where error>=11 --where calls>5", &[37]),
        ("--where calls<=23 --sort calls", &[23, 5]),
        ("--sort -calls", &[5, 23, 37]),
        ("--sort -calls -n 1", &[5]),
    ] {
        let dumped = json_lines(&host.good(format!("{map} {flags}").as_str()).stdout);
        let dumped = dumped.iter().map(|entry| entry["value"]["calls"].as_u64());
        let mut dumped: Vec<u64> = dumped.map(Option::unwrap).collect();
        if !flags.contains("--sort") {
            dumped.sort_unstable();
        }
        assert_eq!(dumped, calls, "{flags}");
    }
}

/// A rate of 23 calls in a few milliseconds says nothing.
#[test]
fn a_command_and_rare_events_have_totals() {
    let fail = "sleep 0.1; i=0; while [ $i -lt 23 ]; do true < /etc/passwd/x; i=$((i + 1)); done";
    let counted = |flags: &str| {
        let mut ktally = program();
        let line = format!("run failures --where error=ENOTDIR {flags} -- sh -c");
        ktally.args(line.split_whitespace()).arg(fail);
        Run::of(&mut ktally).end().done()
    };
    let total = counted("");
    let row = total.lines().find(|line| line.contains("ENOTDIR")).unwrap();
    let cells: Vec<&str> = row.split_whitespace().collect();
    assert_eq!(cells, ["sh", "openat", "ENOTDIR", "23"], "{total}");
    assert!(!total.contains("/s"), "{total}");
    for flags in ["--rate", "--every 1h"] {
        assert_has(&counted(flags), &["CALLS/s"]);
    }
    assert_has(&counted("--every 1h --total"), &["CALLS\n", "23"]);

    // Of a second: nine calls are rare, and a thousand are not.
    let source = Source::new(TALLY);
    for (calls, heads) in [(9, "CALLS  "), (1000, "CALLS/s")] {
        let child = Child::new("kt-rare", || (0..calls).for_each(|_| event(2)));
        let line = format!("{} --pid {} -d 1s", source.arg(), child.pid());
        let mut run = Run::counting(line.as_str());
        child.work();
        assert_has(&run.end().stdout, &[heads]);
    }
}

/// The letters are those of the words.
#[test]
fn short_flags_are_the_long_ones() {
    let child = Child::new("kt-short", || (0..23).for_each(|_| event(2)));
    let pid = child.pid();
    let flags = "-c kt-short -i 1h -d 1h -s -calls -n 1 -o jsonl";
    let mut run = Run::counting(format!("syscalls -p {pid} {flags}").as_str());
    child.work();
    let reading = run.stop().json();
    assert_eq!(rows_of(&reading).len(), 1, "{reading}");
    assert_eq!(rows_of(&reading)[0]["comm"], "kt-short");
}
