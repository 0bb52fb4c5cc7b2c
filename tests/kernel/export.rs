//! `ktally export`: what it serves is what the kernel holds.

mod api;
mod attacks;
mod client;
mod confined;
mod prometheus;
mod soak;

use std::collections::BTreeMap;
use std::path::PathBuf;

use serde_json::Value;
use tempfile::TempDir;

use self::client::{Reply, request};
use crate::common::items;
use crate::instances::Host;
use crate::run::Run;
use crate::support::{Child, ask_for_parent, fail_to_open, wait_until};

/// An exporter that listens on a path of its own.
struct Exporter {
    run: Run,
    socket: PathBuf,
    _folder: TempDir,
}

/// A reading is shared for half a second.
const SHARED: std::time::Duration = std::time::Duration::from_millis(600);

impl Exporter {
    fn start(host: &Host, args: &str) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let socket = folder.path().join("socket");
        let listen = format!("export {args} --listen unix:{}", socket.display());
        let run = host.start(&listen);
        wait_until("the exporter listens", || {
            let is_ready = || request(&socket, "/-/ready", &[]).is_ok_and(|it| it.status == 200);
            socket.exists() && is_ready()
        });
        Self {
            run,
            socket,
            _folder: folder,
        }
    }

    fn get(&self, path: &str, headers: &[&str]) -> Reply {
        request(&self.socket, path, headers).unwrap()
    }

    /// The samples of a scrape: the text of each series, and its value.
    fn scrape(&self) -> BTreeMap<String, String> {
        std::thread::sleep(SHARED);
        samples(&self.get("/metrics", &[]).text())
    }
}

fn samples(text: &str) -> BTreeMap<String, String> {
    let mut samples = BTreeMap::new();
    for line in text.lines().filter(|line| !line.starts_with('#')) {
        let (series, value) = line.rsplit_once(' ').unwrap();
        let twice = samples.insert(series.to_owned(), value.to_owned());
        assert_eq!(twice, None, "{line}");
    }
    samples
}

/// `name{labels}` of a row in JSON.
fn series(name: &str, row: &Value, more: &str) -> String {
    let fields = row.as_object().unwrap().iter();
    let labels = fields.filter(|(name, value)| value.is_string() || *name == "pid");
    let label = |(name, value): (&String, &Value)| {
        let text = value
            .as_str()
            .map_or_else(|| value.to_string(), str::to_owned);
        format!("{name}=\"{text}\"")
    };
    let mut labels: Vec<String> = labels.map(label).collect();
    if !more.is_empty() {
        labels.push(more.to_owned());
    }
    format!("{name}{{{}}}", labels.join(","))
}

/// Takes the samples of a row out of a scrape; each must be what JSON has.
fn take_row(samples: &mut BTreeMap<String, String>, prefix: &str, row: &Value, more: &str) {
    let mut take = |name: String, more: &str, wanted: f64| {
        let series = series(&name, row, more);
        let value = samples.remove(&series);
        let value = value.unwrap_or_else(|| panic!("no {series}"));
        assert_eq!(value.parse::<f64>().unwrap(), wanted, "{series}");
    };
    for (metric, value) in row.as_object().unwrap().iter().filter(|it| it.0 != "pid") {
        let (name, scale) = match &**metric {
            "time" | "max" | "latency" => (format!("{prefix}_{metric}_seconds"), 1e9),
            _ => (format!("{prefix}_{metric}"), 1.0),
        };
        match value {
            Value::Number(number) => {
                let is_gauge = ["max", "under_way"].contains(&&**metric);
                let name = if is_gauge { name } else { name + "_total" };
                take(name, more, number.as_f64().unwrap() / scale);
            }
            Value::Object(histogram) => {
                let number = |value: &Value| value.as_f64().unwrap();
                let mut counts = BTreeMap::new();
                for pair in items(&histogram["buckets"]) {
                    counts.insert(pair[0].as_u64().unwrap(), pair[1].as_u64().unwrap());
                }
                for i in 0..63_u32 {
                    let edge = 1_u64 << i;
                    let upto: u64 = counts.range(..=edge).map(|(_, count)| count).sum();
                    let le = client::go(edge as f64 / 1e9);
                    let more = format!("{more}le=\"{le}\"");
                    take(format!("{name}_bucket"), &more, upto as f64);
                }
                let all = number(&histogram["count"]);
                take(format!("{name}_bucket"), &format!("{more}le=\"+Inf\""), all);
                take(format!("{name}_count"), more, all);
                take(format!("{name}_sum"), more, number(&histogram["sum"]) / 1e9);
            }
            _ => {}
        }
    }
}

#[test]
fn every_value_is_that_of_json() {
    let host = Host::new();
    let child = Child::new("kt-export", || {
        ask_for_parent(23);
        fail_to_open(37);
    });
    let pid = child.pid();
    host.good(&format!("attach syscalls --pid {pid} --by-pid"));
    child.work();
    child.work();
    // Nothing is under way any more, and the counts are final.
    host.good("detach --keep syscalls");
    let exporter = Exporter::start(&host, "@syscalls");
    let reading = host.json("read syscalls -o json");
    let rows = items(&reading["tables"][0]["rows"]);
    assert!(rows.len() >= 4, "{rows:?}");
    for _ in 0..2 {
        let mut samples = exporter.scrape();
        samples.retain(|series, _| series.starts_with("ktally_syscalls_"));
        for row in rows {
            take_row(&mut samples, "ktally_syscalls", row, "");
        }
        assert_eq!(samples, BTreeMap::new());
    }
    let text = exporter.get("/metrics", &[]).text();
    let calls = format!("{{comm=\"kt-export\",pid=\"{pid}\",call=\"getppid\"}} 46\n");
    assert!(text.contains(&calls), "{text}");
}

/// Signals end it well, and its socket goes with it.
#[test]
fn it_ends_with_a_signal() {
    let host = Host::new();
    let mut exporter = Exporter::start(&host, "failures");
    assert_eq!(exporter.get("/-/healthy", &[]).status, 200);
    exporter.run.signal(libc::SIGTERM);
    let ended = exporter.run.end();
    ended.refused(0, &["serving metrics on unix:"]);
    assert!(!exporter.socket.exists());
}

/// The same text once, whoever writes it.
#[test]
fn the_formats_of_read_are_what_is_served() {
    let host = Host::new();
    let child = Child::new("kt-formats", || fail_to_open(23));
    host.good(&format!("attach failures --as f --pid {}", child.pid()));
    child.work();
    host.good("detach --keep f");
    let exporter = Exporter::start(&host, "@f");
    let served = exporter.get("/metrics", &["Accept: application/openmetrics-text"]);
    let of_f = |text: &str| {
        let lines = text
            .lines()
            .filter(|line| line.contains("ktally_failures_"));
        lines
            .map(|line| line.replace(",tally=\"f\"", ""))
            .collect::<Vec<_>>()
    };
    let read = host.good("read f -o openmetrics").stdout;
    assert_eq!(of_f(&served.text()), of_f(&read));
    assert!(read.ends_with("\n# EOF\n"), "{read}");
    let calls =
        "ktally_failures_calls_total{comm=\"kt-formats\",call=\"openat\",error=\"ENOENT\"} 23\n";
    assert!(read.contains(calls), "{read}");
    let text = host.good("read f -o prometheus").stdout;
    assert!(text.contains(calls) && text.contains("# TYPE ktally_failures_calls_total counter\n"));
    host.ktally("read f -o openmetrics --every 1s")
        .refused(2, &["use `ktally export`"]);
}

/// What is folded is added up, and a restart begins another series of it.
#[test]
fn rows_without_a_series_are_added_up() {
    let host = Host::new();
    let child = Child::new("kt-fold", || {
        ask_for_parent(37);
        fail_to_open(23);
    });
    host.good(&format!("attach syscalls --pid {}", child.pid()));
    child.work();
    host.good("detach --keep syscalls");
    let reading = host.json("read syscalls -o json");
    let rows = items(&reading["tables"][0]["rows"]);
    let calls = rows.iter().map(|row| row["calls"].as_u64().unwrap());
    let others: u64 = calls.skip(1).sum();
    let exporter = Exporter::start(&host, "@syscalls --max-series 1");
    let samples = exporter.scrape();
    let of = |label: &str| {
        let start = format!("ktally_syscalls_calls_total{{{label}");
        let found = samples
            .iter()
            .find(|(series, _)| series.starts_with(&start));
        found.map(|(_, value)| value.parse::<u64>().unwrap())
    };
    assert_eq!(of("comm=\"kt-fold\",call=\"getppid\"}"), Some(37));
    assert_eq!(of("comm=\"kt-fold\",call=\"openat\"}"), None);
    let other = "comm=\"other\",call=\"other\",exporter_start=\"20";
    assert_eq!(of(other), Some(others));
    let folded = "ktally_table_folded_rows{tally=\"syscalls\",table=\"syscalls\"}";
    assert_eq!(samples[folded], (rows.len() - 1).to_string());
}

/// A map of any program: its numbers go up and down, unless one says otherwise.
#[test]
fn maps_are_exported_by_their_types() {
    let host = Host::new();
    let child = Child::new("kt-map", || fail_to_open(23));
    host.good(&format!("attach failures --pid {}", child.pid()));
    child.work();
    let pin = "/sys/fs/bpf/ktally/failures/maps/failures";
    let exporter = Exporter::start(&host, &format!("--map {pin}"));
    // Its key is shown whole: what no option turned on is 0.
    let samples = exporter.scrape();
    let is_it = |series: &&String| {
        let start = "ktally_map_failures_calls_total{comm=\"kt-map\",";
        series.starts_with(start) && series.contains(",error=\"ENOENT\"")
    };
    let calls: Vec<&String> = samples.keys().filter(is_it).collect();
    assert_eq!(calls.len(), 1, "{samples:?}");
    assert_eq!(samples[calls[0]], "23");
    host.ktally(&format!("export failures --map {pin}"))
        .refused(2, &["two of these are called `failures`"]);
    host.ktally("export")
        .refused(2, &["name tallies of `ktally list`"]);
    host.ktally("export failures --listen nowhere")
        .refused(2, &["`nowhere` is not an address"]);
    host.ktally("export failures --listen 203.0.113.1:1")
        .refused(1, &["failed to listen on `203.0.113.1:1`"]);
}
