//! `ktally attach --replace`: programs change, rows and counts go on, and a kill
//! at any point leaves the old state or the new one.

use std::fs;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;

use crate::attach::assert_whole;
use crate::common::{items, json};
use crate::instances::Host;
use crate::objects::programs_called;
use crate::run::{GETPPID, rows_of, sum, sum_of};
use crate::support::{Child, Source, amount, ask_for_parent, event, wait_until};

/// Random enough: xorshift.
struct Chance(u64);

impl Chance {
    fn new() -> Self {
        let now = std::time::SystemTime::now();
        let since = now.duration_since(std::time::UNIX_EPOCH).unwrap();
        Self(since.as_nanos() as u64 | 1)
    }

    fn up_to(&mut self, most: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 % most
    }
}

/// A page of numbers that children share with us.
fn shared_numbers() -> &'static [AtomicU64; 512] {
    let access = libc::PROT_READ | libc::PROT_WRITE;
    let flags = libc::MAP_SHARED | libc::MAP_ANONYMOUS;
    // SAFETY: fresh memory, all zeroes, never freed.
    unsafe {
        let page = libc::mmap(std::ptr::null_mut(), 4096, access, flags, -1, 0);
        assert_ne!(page, libc::MAP_FAILED);
        &*page.cast()
    }
}

/// A tally of a test's own that the catalogue does not have. Another `step`
/// makes another program, `ty` another table.
pub fn own_tally(ty: &str, step: u32, extra: &str) -> Source {
    let program = format!(
        r#"
TALLY("events of a test");
struct key {{ __u32 number AS(nothing_that_is_known); }};
struct seen {{ {ty} events COUNTER("events"); }};
TABLE(events, struct key, struct seen, 64, "events");
{extra}
EVENT(sys_enter, number)
{{
	struct key key = {{ 7 }};
	struct seen *seen = tally_entry(events, &key);

	if (seen)
		__sync_fetch_and_add(&seen->events, {step});
}}
"#
    );
    Source::tally("own", &program)
}

#[test]
fn replace_goes_on_with_the_same_rows_and_other_programs() {
    let host = Host::new();
    let child = Child::new("kt-replace", || (0..23).for_each(event));
    let (one, hundred) = (own_tally("__u64", 1, ""), own_tally("__u64", 100, ""));
    host.good(&format!("attach {} --pid {}", one.arg(), child.pid()));
    child.work();
    let before = host.json("status -o json");
    // An instance that is there is not attached over.
    let again = host.ktally(["attach", &hundred.arg()]);
    again.refused(1, &["`own` is attached already", "--replace"]);
    let line = format!("attach {} --pid {} --replace", hundred.arg(), child.pid());
    assert!(host.good(&line).stderr.contains("replaced `own`"));
    child.work();
    let after = host.json("status -o json");
    assert_eq!(before[0]["since"], after[0]["since"]);
    assert_eq!(before[0]["tables"], after[0]["tables"]);
    let last = host.json("detach own -o json");
    assert_eq!(sum_of(&last, "events"), 23 + 2300);
    assert_eq!(rows_of(&last)[0]["number"], 7);
    assert_whole(&last);
    assert_eq!(host.pins(), [""; 0]);
}

#[test]
fn what_cannot_go_on_is_not_replaced_and_the_difference_is_shown() {
    let host = Host::new();
    let child = Child::new("kt-differs", || (0..23).for_each(event));
    let first = own_tally("__u64", 1, "");
    let pid = child.pid();
    host.good(&format!("attach {} --pid {pid}", first.arg()));
    let pins = host.pins();
    let objects = host.objects("own");
    let more = "SEC(\"tp_btf/sys_exit\") int BPF_PROG(more) { return 0; }";
    let cases = [
        (
            own_tally("__u32", 1, ""),
            "",
            ["- __u64 events", "+ __u32 events"],
        ),
        (
            own_tally("__u64", 1, more),
            "",
            ["+ program `more` (tp_btf/sys_exit)", "detach it"],
        ),
        (
            own_tally("__u64", 1, ""),
            " --max-rows 8",
            ["room for 64 rows", "--max-rows says 8"],
        ),
    ];
    for (other, flags, words) in &cases {
        let line = format!("attach {} --pid {pid} --replace{flags}", other.arg());
        let ended = host.ktally(&line);
        let ended = ended.refused(1, &["failed to replace instance `own`"]);
        ended.told(words);
        // The old one goes on, as it was.
        assert_eq!(host.pins(), pins);
        assert_eq!(host.objects("own"), objects);
    }
    child.work();
    assert_eq!(sum_of(&host.json("detach own -o json"), "events"), 23);
}

/// Names and help may be another version's; the types are the same.
#[test]
fn words_are_no_difference() {
    let host = Host::new();
    let first = own_tally("__u64", 1, "");
    host.good(&format!("attach {}", first.arg()));
    let text = fs::read_to_string(first.path()).unwrap();
    let text = text.replace("COUNTER(\"events\")", "COUNTER(\"what happened\")");
    fs::write(first.path(), text).unwrap();
    host.good(&format!("attach {} --replace", first.arg()));
    host.good("detach own");
}

#[test]
fn nothing_is_called_as_entries_are_when_all_is_detached() {
    let host = Host::new();
    let name = "sys_enter_of_own";
    let own = own_tally("__u64", 1, "");
    let text = fs::read_to_string(own.path()).unwrap();
    let own_name = name.chars().take(15).collect::<String>();
    let named = format!("EVENT({own_name},");
    fs::write(own.path(), text.replace("EVENT(sys_enter,", &named)).unwrap();
    host.good(["attach", &own.arg()]);
    // The program and its entry.
    assert_eq!(programs_called(&own_name).len(), 2);
    host.good("detach own");
    wait_until("both are gone", || programs_called(&own_name).is_empty());
}

/// Exactness of an attachment with replacements in the middle of it, and with
/// readers all along: what was issued is what is counted in the end.
#[test]
fn not_a_count_is_lost_over_replace_with_writers_at_full_speed() {
    const REPLACEMENTS: usize = 12;
    let shared = shared_numbers();
    let (stop, issued) = (&shared[0], [8, 16, 24, 32].map(|i| &shared[i]));
    let host = Host::new();
    // A name that no other process has.
    let comm = format!("kt{}", std::process::id());
    let writers = issued.map(|own| {
        Child::new(&comm, || {
            while stop.load(Ordering::SeqCst) == 0 {
                ask_for_parent(1000);
                own.fetch_add(1000, Ordering::SeqCst);
            }
        })
    });
    host.good(&format!("attach syscalls --as exact --comm {comm}"));
    let entries = host.objects("exact");
    let read = "read exact --every 50ms -o jsonl --total";
    let readers = [(); 3].map(|()| host.start(read));
    let issued = || -> u64 { issued.iter().map(|it| it.load(Ordering::SeqCst)).sum() };
    std::thread::scope(|scope| {
        for writer in &writers {
            scope.spawn(|| writer.work());
        }
        wait_until("they write", || issued() > 0);
        let start = Instant::now();
        for i in 0..REPLACEMENTS {
            // An emulated machine takes seconds for each.
            if i >= 3 && start.elapsed().as_secs() > 20 {
                break;
            }
            let before = issued();
            let line = format!("attach syscalls --as exact --comm {comm} --replace");
            let ended = host.ktally(&line);
            if ended.code != 0 {
                // Lets them end.
                stop.store(1, Ordering::SeqCst);
                panic!("{ended:?}");
            }
            wait_until("they write meanwhile", || issued() > before);
        }
        stop.store(1, Ordering::SeqCst);
    });
    let last = host.json("detach exact -o json");
    let calls = sum(&last, GETPPID, "calls");
    // Where system calls' tracepoints are preempted, the kernel skips runs of a
    // program that another task is in the middle of, and says how many.
    let missed = last["missed"].as_u64().unwrap();
    let dropped = last["tables"][0]["dropped"].as_u64().unwrap();
    assert!(calls <= issued(), "{calls} of {}", issued());
    assert!(calls + dropped + missed >= issued(), "{last}");
    assert!(calls > 10_000, "{calls}");
    assert_eq!(dropped, 0);
    // Each reader saw it grow, to the very end, and ended by itself.
    for mut reader in readers {
        let ended = reader.end().told(&["has stopped"]);
        let readings = ended.json_lines();
        assert!(readings.len() > 3, "{}", readings.len());
        let seen = readings.iter().map(|it| sum(it, GETPPID, "calls"));
        let seen: Vec<u64> = seen.collect();
        assert!(seen.is_sorted(), "{seen:?}");
        assert_eq!(seen.last(), Some(&calls));
    }
    entries.wait_until_gone();
    assert_eq!(host.pins(), [""; 0]);
}

/// Whatever is killed, wherever: what is there afterwards is the old state or
/// the new one, and counts as such.
#[test]
fn a_kill_at_any_point_leaves_the_old_state_or_the_new() {
    let host = Host::new();
    let child = Child::new("kt-kill9", || ask_for_parent(23));
    let attach = format!("attach syscalls --as k --pid {}", child.pid());
    let replace = format!("{attach} --replace");
    let lines = [attach.as_str(), replace.as_str(), "detach k"];
    let lengths = lines.map(|line| {
        let start = Instant::now();
        host.good(line);
        start.elapsed().as_micros() as u64
    });
    let mut chance = Chance::new();
    let mut counted = None;
    let (mut killed, mut told) = ([0u32; 3], 0);
    // At least some of each kind.
    let rounds = (amount(100) as u32).max(12);
    for round in 0..rounds as usize {
        let kind = round % 3;
        match (kind, counted) {
            (0, Some(_)) => {
                host.good("detach k");
                counted = None;
            }
            (1 | 2, None) => {
                host.good(&attach);
                counted = Some(0);
            }
            _ => {}
        }
        let delay = chance.up_to(lengths[kind]);
        killed[kind] += u32::from(kill_after(&host, lines[kind], delay));
        let what = format!("round {round}: `{}` killed after {delay} us", lines[kind]);

        let status = host.good("status -o json");
        told += u32::from(status.stderr.contains("killed") || status.stderr.contains("half"));
        let status = json(&status.stdout);
        let there = items(&status);
        let pins = host.pins();
        if let [instance] = there
            && instance["state"] == "stopped"
        {
            // Its last reading may not be printed.
            assert_eq!(kind, 2, "{what}");
            child.work();
            let last = host.json("detach k -o json");
            assert_eq!(sum(&last, GETPPID, "calls"), counted.unwrap(), "{what}");
            assert_whole(&last);
            assert_eq!(host.pins(), [""; 0], "{what}");
            counted = None;
        } else if let [instance] = there {
            assert_eq!(instance["state"], "counting", "{what}");
            child.work();
            let total = counted.unwrap_or(0) + 23;
            let reading = host.json("read k -o json");
            assert_eq!(sum(&reading, GETPPID, "calls"), total, "{what}");
            assert_whole(&reading);
            let is_whole = pins.iter().all(|pin| !pin.contains('+'));
            assert!(is_whole, "{what}: {pins:?}");
            counted = Some(total);
        } else {
            assert_ne!(kind, 1, "{what}: it is gone");
            // Links are held by pins alone, so nothing counts in secret.
            assert_eq!(pins, [""; 0], "{what}");
            counted = None;
        }
    }
    host.good("detach --all");
    assert_eq!(host.pins(), [""; 0]);
    eprintln!(
        "{rounds} rounds; killed in time: {killed:?} of attach, replace, detach; {told} left something"
    );
    let enough = killed.iter().all(|killed| *killed >= rounds / 18);
    assert!(enough, "{killed:?}");
    assert!(killed.iter().sum::<u32>() > rounds / 6, "{killed:?}");
}

/// What a kill at the two moments leaves that are too short to be met by
/// chance: made but not in place; and, on kernels whose bpffs cannot exchange
/// two folders, the old one set aside.
#[test]
fn leftovers_are_put_in_order() {
    let host = Host::new();
    let child = Child::new("kt-leftover", || ask_for_parent(23));
    host.good(&format!("attach syscalls --pid {}", child.pid()));
    host.good("attach failures --as other");
    let rename = |from: &str, to: &str| {
        let path = |name: &str| host.bpffs(&format!("ktally/{name}"));
        fs::rename(path(from), path(to)).unwrap();
    };
    rename("syscalls", "+syscalls+old");
    rename("other", "+syscalls");
    let killed = "was being replaced by a ktally that was killed";
    host.good("status -o json").told(&[killed]);
    child.work();
    assert_eq!(host.calls("read syscalls -o json", GETPPID), 23);
    let mut pins = host.pins();
    pins.retain(|pin| pin.contains('+') || pin.contains("other"));
    assert_eq!(pins, [""; 0]);

    let objects = host.objects("syscalls");
    rename("syscalls", "+syscalls");
    let killed = "was being made by a ktally that was killed";
    host.good("status").told(&[killed]);
    assert_eq!(host.pins(), [""; 0]);
    objects.wait_until_gone();
}

/// Whether it was killed before it came to its end.
fn kill_after(host: &Host, line: &str, micros: u64) -> bool {
    let mut command = host.program();
    command.args(line.split(' '));
    let (stdout, stderr) = (std::process::Stdio::null(), std::process::Stdio::null());
    let mut process = command.stdout(stdout).stderr(stderr).spawn().unwrap();
    std::thread::sleep(std::time::Duration::from_micros(micros));
    let _ = process.kill();
    process.wait().unwrap().code().is_none()
}
