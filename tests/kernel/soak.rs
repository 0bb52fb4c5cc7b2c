//! Everything at once, for as long as `make soak MINUTES=n` says.

use std::collections::BTreeMap;
use std::fs;
use std::process::Stdio;
use std::thread;
use std::time::{Duration, Instant};

use ktally::schema::Decoder;
use ktally::tally::{Support, Tally};
use serde_json::Value;

use crate::common::{Args, ktally, program};
use crate::instances::Host;
use crate::objects::Objects;
use crate::run::{Run, sum};
use crate::support::{Child, fail_to_open, require_root, status_number};

/// What a process has for longer than a moment.
#[derive(Debug)]
struct Usage {
    /// Files that are no device and no view of the kernel: what names come from.
    programs: usize,
    /// All others.
    others: usize,
    /// In KiB, without what belongs to files.
    resident: u64,
}

impl Usage {
    fn of(run: &Run) -> Self {
        let now = |_| Self::now(run);
        let seen: Vec<Self> = (0..5).map(now).collect();
        let least = |of: fn(&Self) -> usize| seen.iter().map(of).min().unwrap();
        Self {
            programs: least(|it| it.programs),
            others: least(|it| it.others),
            resident: seen.iter().map(|it| it.resident).min().unwrap(),
        }
    }

    fn now(run: &Run) -> Self {
        thread::sleep(Duration::from_millis(20));
        let files = fs::read_dir(format!("/proc/{}/fd", run.id())).unwrap();
        let kinds = files.filter_map(|file| fs::metadata(file.unwrap().path()).ok());
        let (programs, others): (Vec<_>, Vec<_>) = kinds.partition(|file| file.len() > 0);
        Self {
            programs: programs.len(),
            others: others.len(),
            resident: status_number(run.id(), "RssAnon"),
        }
    }
}

/// Whether it shows functions of whatever runs on this host.
fn shows_programs(tally: &Tally) -> bool {
    let mut labels = tally.schema.tables.iter().flat_map(|table| &table.labels);
    labels.any(|label| label.decoder == Some(Decoder::from_tag("ustack")))
}

/// Counted, with a key or without one, + missed.
fn accounted_for(reading: &Value) -> u64 {
    let number = |value: &Value| value.as_u64().unwrap_or(0);
    let lost = number(&reading["tables"][0]["other"]["calls"]) + number(&reading["missed"]);
    sum(reading, ("error", "ENOENT"), "calls") + lost
}

fn assert_accounted_for(reading: &Value, issued: u64) {
    assert_eq!(accounted_for(reading), issued, "{reading}");
}

/// All tallies that need no options count under load, run and attached, while
/// others come, read, replace, rotate and go: nothing is lost, and nothing grows.
#[test]
#[ignore = "takes minutes: make soak"]
fn everything_at_once() {
    const EACH: u64 = 1000;
    /// Caches fill, and the kernel's symbols are read once, from one file.
    const GROWTH: u64 = 16 << 10;
    /// 32, each with the file of its debug information.
    const PROGRAMS: usize = 64;
    /// How long one of the readers is stopped.
    const MINUTE: Duration = Duration::from_secs(60);
    require_root();
    let minutes = std::env::var("MINUTES").map_or(1.0, |text| text.parse().unwrap());
    let time = Duration::from_secs_f64(60.0 * minutes);
    let support = Support::probe();
    let mut tallies = Tally::builtins().unwrap();
    tallies.retain(|it| {
        let asks = it.schema.options.iter().any(|it| it.name == "function");
        !asks && support.obstacles(it).is_empty()
    });
    // Tables of so few rows are full at once, whatever else this host does.
    let flags = "--every 500ms --top 3 --max-rows 512";
    let mut runs: BTreeMap<String, (Run, &Tally)> = tallies
        .iter()
        .map(|it| {
            let line = format!("run {} -v {flags}", it.name);
            let run = Run::with_output(&mut line.pass_to(program()), Stdio::null());
            (it.name.clone(), (run, it))
        })
        .collect();
    runs.values().for_each(|(run, _)| run.wait_until_counting());
    let mut objects: Vec<_> = runs.values().map(|(run, _)| run.objects()).collect();

    let child = Child::new("kt-soak", || fail_to_open(EACH));
    let mut exact = Run::counting(&format!("failures -o json --pid {}", child.pid()));
    let args = format!("failures -o jsonl --every 2s --pid {}", child.pid());
    let mut stopped = Run::counting(&args);
    let host = Host::new();
    let attach = format!("attach failures --as exact --pid {}", child.pid());
    host.good(&attach);
    let rotatable = format!(
        "attach failures --as turns --rotatable --pid {}",
        child.pid()
    );
    host.good(&rotatable);
    for tally in &tallies {
        host.good(&format!("attach {}", tally.name));
    }

    let start = Instant::now();
    stopped.signal(libc::SIGSTOP);
    let stop = MINUTE.min(time / 2);
    let (mut issued, mut rotated, mut before) = (0, 0, None);
    loop {
        for Tally { name, .. } in &tallies {
            child.work();
            issued += EACH;
            ktally(&format!("run {name} --for 20ms")).good();
            host.good(&format!("attach {name} --replace"));
            host.good(&format!("read {name} --top 3"));
            child.work();
            issued += EACH;
            host.good(&format!("{attach} --replace"));
            host.good(&format!("detach {name}"));
            host.good(&format!("attach {name}"));
            rotated += accounted_for(&host.json("rotate turns -o json"));
        }
        host.good(&format!("{rotatable} --replace"));
        ktally("map list").good();
        host.good("status");
        assert_accounted_for(&host.json("read exact -o json"), issued);
        assert_accounted_for(&host.json("read turns -o json"), issued - rotated);
        if start.elapsed() > stop {
            // More than once does no harm.
            stopped.signal(libc::SIGCONT);
        }
        let is_over = start.elapsed() > time;
        match before {
            Some(_) if is_over => break,
            // What is made once has been made.
            None if start.elapsed() > time / 4 => {
                before = Some(runs.values().map(|(run, _)| Usage::of(run)).collect());
            }
            _ => {}
        }
    }

    let before: Vec<Usage> = before.unwrap_or_default();
    assert_eq!(before.len(), runs.len());
    for ((name, (run, tally)), before) in runs.iter().zip(before) {
        let now = Usage::of(run);
        let told = format!("{name}: {before:?}, then {now:?}");
        println!("{told}");
        assert!(now.others <= before.others + 1, "{told}");
        match shows_programs(tally) {
            true => assert!(now.programs <= PROGRAMS, "{told}"),
            false => {
                assert!(now.programs <= before.programs, "{told}");
                assert!(now.resident < before.resident + GROWTH, "{told}");
            }
        }
    }
    assert_accounted_for(&exact.stop().json(), issued);
    let readings = stopped.stop().json_lines();
    assert_eq!(readings.iter().map(accounted_for).sum::<u64>(), issued);
    let mut seconds = readings.iter().map(|it| it["seconds"].as_f64().unwrap());
    assert!(seconds.any(|it| it > 0.9 * stop.as_secs_f64()));
    assert_accounted_for(&host.json("detach exact -o json"), issued);
    assert_accounted_for(&host.json("detach turns -o json"), issued - rotated);
    objects.extend(tallies.iter().map(|tally| host.objects(&tally.name)));
    host.good("detach --all");
    assert_eq!(host.pins(), [""; 0]);
    for (run, _) in runs.values_mut() {
        run.stop().good();
    }
    objects.iter().for_each(Objects::wait_until_gone);
}
