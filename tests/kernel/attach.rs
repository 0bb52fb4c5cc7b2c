//! `ktally attach`, `status` and `read`: counts go on without a process, exactly,
//! and what is removed is gone.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::CommandExt;
use std::time::Duration;

use serde_json::{Value, json};

use crate::common::{PROGRAM, assert_has, command, end, items};
use crate::instances::{Host, links_of};
use crate::replace::own_tally;
use crate::run::{ENOENT, GETPPID, Run, rows_of, sum, sum_of};
use crate::support::{
    Child, ask_for_parent, fail_to_open, kernel_series, missed, nap, needs, spin, wait_until,
};

pub fn assert_whole(reading: &Value) {
    // Kernels since 7.0 preempt the probes of system calls, and then miss those of
    // other processes.
    if kernel_series() < (7, 0) {
        assert_eq!(reading["missed"], json!(missed(0)));
    }
    assert_eq!(reading["incomplete"], false);
    assert_eq!(reading["tables"][0]["dropped"], 0);
}

#[test]
fn what_is_attached_counts_until_it_is_detached() {
    let host = Host::new();
    let child = Child::new("kt-attach", || ask_for_parent(23));
    host.good(&format!("attach syscalls --pid {}", child.pid()))
        .told(&["attached `syscalls`: 2 programs"]);
    let objects = host.objects("syscalls");
    objects.assert_alive();

    child.work();
    let reading = host.json("read syscalls -o json");
    assert_eq!(sum(&reading, GETPPID, "calls"), 23);
    assert_eq!(reading["tally"], "syscalls");
    assert!(reading["seconds"].as_f64().unwrap() > 0.0);
    assert_whole(&reading);
    // It goes on, and `run` reads it as well.
    child.work();
    let reading = host.json("run @syscalls -o json --where call=getppid");
    assert_eq!(sum(&reading, GETPPID, "calls"), 46);
    assert_eq!(rows_of(&reading).len(), 1);
    child.work();
    let last = host.json("detach syscalls -o json");
    assert_eq!(sum(&last, GETPPID, "calls"), 69);
    let rows = rows_of(&last).iter().filter(|row| row["call"] == "getppid");
    let latency: Vec<_> = rows.map(|row| &row["latency"]["count"]).collect();
    assert_eq!(latency, [69]);
    assert_whole(&last);

    assert_eq!(host.pins(), [""; 0]);
    objects.wait_until_gone();
}

#[test]
fn with_nothing_attached_status_says_how_to() {
    for host in [Host::new(), Host::with_bpffs(false)] {
        host.ktally("status").refused(0, &["ktally attach NAME"]);
        assert_eq!(host.json("status -o json"), json!([]));
        assert_eq!(host.good("status -o jsonl").stdout, "");
        assert_eq!(host.good("detach --all").stdout, "");
        host.ktally("read x").refused(3, &["no instance named `x`"]);
        host.ktally("detach x")
            .refused(3, &["no instance named `x`"]);
        assert_eq!(host.pins(), [""; 0]);
    }
}

#[test]
fn bpffs_is_mounted_where_it_is_not() {
    let host = Host::with_bpffs(false);
    let child = Child::new("kt-mount", || fail_to_open(23));
    host.good(&format!("attach failures --pid {}", child.pid()));
    let mode = fs::metadata(host.bpffs("")).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o700);
    child.work();
    assert_eq!(host.calls("detach failures -o json", ENOENT), 23);
}

/// Every column of it.
#[test]
fn status_tells_what_is_in_force() {
    let host = Host::new();
    let child = Child::new("kt-status", || ask_for_parent(23));
    let pid = child.pid();
    host.good(&format!(
        "attach syscalls --as a --pid {pid} --uid 0 --max-rows 5"
    ));
    host.good(&format!("attach runqlat --as b --by-comm --pid {pid}"));
    child.work();
    let status = host.json("status -o json");
    let [a, b] = items(&status) else {
        panic!("{status}");
    };
    assert_eq!([&a["instance"], &a["tally"]], ["a", "syscalls"]);
    assert_eq!([&b["instance"], &b["tally"]], ["b", "runqlat"]);
    assert_eq!(a["version"], env!("CARGO_PKG_VERSION"));
    assert_eq!(a["state"], "counting");
    assert_eq!(a["options"]["pid"].as_u64().unwrap().to_string(), pid);
    assert_eq!(a["options"]["uid"], "root");
    assert_eq!(b["options"]["by_comm"], true);
    // write, read, getppid.
    assert_eq!(a["tables"][0]["rows"], 3);
    assert_eq!(a["tables"][0]["max_rows"], 5);
    assert_eq!([&a["dropped"], &a["missed"]], [0, 0]);
    assert!(a["memory"].as_u64().unwrap() > 1000);
    assert_eq!(items(&a["programs"]).len(), 2);
    assert_eq!(a["programs"][0]["section"], "tp_btf/sys_exit");
    assert!(a["seconds"].as_f64().unwrap() > 0.0);
    assert!(a.get("events_per_second").is_none());

    let lines = host.good("status -o jsonl").json_lines();
    assert_eq!((lines.len(), &lines[1]["instance"]), (2, &b["instance"]));
    let csv = host.good("status -o csv").stdout;
    assert!(csv.starts_with("\"instance\",\"tally\",\"state\""), "{csv}");
    assert!(csv.contains("\"\"max_rows\"\":5"), "{csv}");

    let table = host.good("status").stdout;
    let lines: Vec<&str> = table.lines().collect();
    assert!(lines[0].starts_with("INSTANCE  TALLY"), "{table}");
    let options = format!("--pid {pid} --uid root");
    assert_has(lines[1], &["3/5", &options, "counting"]);
    assert_has(lines[2], &["--by-comm"]);
    host.good("detach --all");
    assert_eq!(host.pins(), [""; 0]);
}

#[test]
fn cost_is_measured_when_it_is_asked_for() {
    let host = Host::new();
    host.good("attach syscalls");
    // This host makes system calls: `status` itself does.
    let status = host.json("status --cost -o json");
    assert!(status[0]["events_per_second"].as_f64().unwrap() > 1.0);
    let nanos = status[0]["nanoseconds_per_event"].as_f64().unwrap();
    assert!(nanos > 1.0 && nanos < 1e6, "{nanos}");
    host.good("detach --all");
}

#[test]
fn a_failure_leaves_nothing() {
    let host = Host::new();
    let none = "SEC(\"raw_tp/no_such_event\") int none(void *ctx) { return 0; }";
    let broken = own_tally("__u64", 1, none);
    let ended = host.ktally(["attach", &broken.arg()]);
    ended.refused(1, &["failed to attach program `none`"]);
    assert_eq!(host.pins(), [""; 0]);
    host.ktally("attach no_such_tally")
        .refused(2, &["no_such_tally"]);
    assert_eq!(host.pins(), [""; 0]);
}

#[test]
fn instance_names_are_plain() {
    let host = Host::new();
    let long = "x".repeat(300);
    for label in ["../x", "", "a b", "a.b", ".", "+x", "/x", &long] {
        for args in [
            &["attach", "failures", "--as", label][..],
            &["read", label],
            &["detach", label],
        ] {
            host.ktally(args).refused(2, &["is not an instance name"]);
        }
    }
    assert_eq!(host.pins(), [""; 0]);
    let long = "x".repeat(64);
    host.good(&format!("attach failures --as {long}"));
    host.good(&format!("detach {long}"));
}

#[test]
fn what_is_kept_can_be_read_and_counts_no_more() {
    let host = Host::new();
    let child = Child::new("kt-keep", || ask_for_parent(23));
    host.good(&format!("attach syscalls --pid {}", child.pid()));
    let objects = host.objects("syscalls");
    child.work();
    let last = host.json("detach syscalls --keep -o json");
    assert_eq!(sum(&last, GETPPID, "calls"), 23);
    child.work();
    let kept = host.json("read syscalls -o json");
    assert_eq!(kept["tables"], last["tables"]);
    assert_eq!(kept["seconds"], last["seconds"]);
    assert_whole(&kept);
    wait_until("the programs are gone", || links_of(&objects.programs) == 0);
    let mut pins = host.pins();
    pins.retain(|pin| pin.contains("links/") || pin.contains("programs/"));
    assert_eq!(pins, [""; 0]);
    assert_eq!(host.json("status -o json")[0]["state"], "stopped");
    let replace = host.ktally("attach syscalls --replace");
    replace.refused(1, &["has stopped"]);
    let readings = host.good("read syscalls --every 10ms -o jsonl");
    assert_eq!(readings.json_lines().len(), 1);
    assert_eq!(host.calls("detach syscalls -o json", GETPPID), 23);
    assert_eq!(host.pins(), [""; 0]);
    objects.wait_until_gone();
}

/// Perf events are held by their links alone, one a CPU.
#[test]
fn a_clock_goes_on_without_its_process() {
    let host = Host::new();
    let spinner = Child::new("kt-clock", || spin(Duration::from_millis(300)));
    host.good(&format!("attach profile --pid {} --hz 200", spinner.pid()));
    spinner.work();
    let status = host.json("status -o json");
    assert_eq!(status[0]["options"]["hz"], 200);
    let last = host.json("detach profile -o json");
    let samples = sum_of(&last, "samples");
    // 60, but for ticks that a virtual machine's host delays.
    assert!((20..=90).contains(&samples), "{samples}");
    assert_eq!(host.pins(), [""; 0]);
}

/// Of two that want one label, one gets it, and the other learns why not.
#[test]
fn two_cannot_make_the_same_instance() {
    let host = Host::new();
    let mut runs = [(); 4].map(|()| host.start("attach failures"));
    let ended = runs.each_mut().map(Run::end);
    let good = ended.iter().filter(|ended| ended.code == 0).count();
    assert_eq!(good, 1, "{ended:?}");
    for ended in ended.into_iter().filter(|ended| ended.code != 0) {
        ended.refused(1, &["is attached already"]);
    }
    assert_eq!(host.json("status -o json").as_array().unwrap().len(), 1);
    host.good("detach failures");
}

#[test]
fn the_unit_for_systemd_is_a_good_one() {
    let unit = concat!(env!("CARGO_MANIFEST_DIR"), "/dist/ktally@.service");
    let text = fs::read_to_string(unit).unwrap();
    // No table goes to the journal.
    for line in ["Type=oneshot", "RemainAfterExit=yes", "StandardOutput=null"] {
        assert!(text.lines().any(|it| it == line), "{line}");
    }
    // Its documentation is ktally's.
    assert!(!text.contains("docs.kernel.org"));
    assert_verified("ktally@.service");
}

#[test]
fn the_timer_for_systemd_is_a_good_one() {
    assert_verified("ktally-rotate@.service");
    assert_verified("ktally-rotate@.timer");
}

/// By systemd, with the other units beside it.
pub fn assert_verified(unit: &str) {
    let analyze = || command("systemd-analyze");
    if analyze().arg("--version").output().is_err() {
        eprintln!("skipped: there is no systemd-analyze");
        return;
    }
    // It looks for the program that it starts.
    let folder = tempfile::tempdir().unwrap();
    for file in fs::read_dir(concat!(env!("CARGO_MANIFEST_DIR"), "/dist")).unwrap() {
        let (path, name) = file.map(|it| (it.path(), it.file_name())).unwrap();
        let endings = [".service", ".socket", ".timer"];
        if endings
            .iter()
            .any(|ending| name.to_str().unwrap().ends_with(ending))
        {
            let text = fs::read_to_string(path).unwrap();
            let text = text.replace("/usr/local/bin/ktally", PROGRAM);
            fs::write(folder.path().join(name), text).unwrap();
        }
    }
    let path = folder.path().join(unit);
    let verified = end(analyze().arg("verify").arg(&path)).good();
    let is_about_it = verified.stderr.contains(&format!("{unit}:"));
    assert!(!is_about_it, "{verified:?}");
    if unit.ends_with(".service") {
        // Of 100: well under 40. One that serves has a network.
        let most = if unit.contains("export") { 29 } else { 25 };
        let threshold = format!("--threshold={most}");
        let security = ["security", "--offline=true", &threshold];
        end(analyze().args(security).arg(&path)).good();
    }
}

/// Those that the unit leaves to it. Each program has an entry then, too.
#[test]
fn two_capabilities_are_enough() {
    const CAP_PERFMON: u64 = 38;
    const CAP_BPF: u64 = 39;
    let host = Host::new();
    let ktally = |line: &str| {
        let mut command = host.program();
        command.args(line.split_whitespace());
        // SAFETY: system calls alone; after the namespace is entered.
        unsafe {
            command.pre_exec(|| {
                for capability in (0..64).filter(|it| ![CAP_PERFMON, CAP_BPF].contains(it)) {
                    libc::prctl(libc::PR_CAPBSET_DROP, capability, 0, 0, 0);
                }
                Ok(())
            });
        }
        end(&mut command)
    };
    // At level 3 Debian's kernels want CAP_SYS_ADMIN for perf events.
    let level = fs::read_to_string("/proc/sys/kernel/perf_event_paranoid").unwrap();
    let is_paranoid = level.trim().parse::<i32>().unwrap() > 2;
    for tally in ["syscalls", "runqlat", "profile", "netdev"] {
        let attached = ktally(&format!("attach {tally}"));
        if is_paranoid && attached.stderr.contains("CAP_SYS_ADMIN") {
            attached.failed(1, &["`sysctl kernel.perf_event_paranoid=2`"]);
            continue;
        }
        attached.good();
        ktally(&format!("attach {tally} --replace")).good();
        ktally(&format!("read {tally}")).good();
        ktally(&format!("detach {tally}")).good();
    }
    let probes = ktally("run ufunc -f malloc --for 0");
    if probes.code != 0 && !crate::typed::is_impossible(&probes.stderr) {
        probes.failed(1, &["`malloc`", "the kernel requires CAP_SYS_ADMIN"]);
    }
    assert_eq!(host.pins(), [""; 0]);
}

/// RawOption or not is not the same as 0 or not; and options have a beginning.
#[test]
fn status_has_what_was_given() {
    needs((5, 13), "task storage");
    let host = Host::new();
    host.good("attach syscalls --uid 0");
    let status = host.json("status -o json");
    assert_eq!(status[0]["options"], json!({"uid": "root"}));
    assert_eq!(status[0]["options_since"], status[0]["since"]);
    assert!(!host.good("status").stdout.contains("since"));
    nap(5);
    // With the same options nothing begins.
    host.good("attach syscalls --uid 0 --replace");
    let again = host.json("status -o json");
    assert_eq!(again[0]["options_since"], status[0]["since"]);
    host.good("attach syscalls --pid 1 --replace");
    let status = host.json("status -o json");
    assert_eq!(status[0]["options"], json!({"pid": 1}));
    assert_eq!(status[0]["since"], again[0]["since"]);
    assert!(status[0]["options_since"].as_str() > status[0]["since"].as_str());
    assert_has(&host.good("status").stdout, &["--pid 1 (since 2"]);
    let other = host.ktally("attach failures --as syscalls --replace");
    let words = "it is of tally `syscalls`, not `failures`; choose another name";
    let other = other.refused(1, &[words]);
    assert_eq!(other.stderr.lines().count(), 1, "{other:?}");
    host.good("detach syscalls");
}
